"""What the sessions of all flavours have in common: neutral settings, recurring shapes, what a kind of session is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...formats import AudioFormat
from ...realtime.dialects.shapes import (
    Refusal,
    Shape,
    any_of,
    anything,
    boolean,
    either,
    integer,
    list_of,
    number,
    one_of,
    optional,
    record,
    tagged,
    text,
)

Wire = dict[str, Any]
"""A session object as it stands in a frame."""

# How long a semantic detector waits after the last word, by its eagerness. This server has no semantics: it waits for
# silence, as long as the services' detector would at most wait for a caller who seems to have finished.
EAGERNESS_SILENCE_MS = {"high": 300, "auto": 500, "medium": 500, "low": 1_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Turn detection as the server runs it.

    Attributes:
        create_response: whether the end of a turn starts an answer.
        interrupt_response: whether speech cancels the answer that is under way.
        idle_timeout_ms: silence after an answer that makes the server speak again, or ``None``.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """A session's (or one response's) settings in neutral words.

    Attributes:
        tool_choice: ``auto``, ``none``, ``required``, or the name of the function to call after ``function:``.
        max_output_tokens: ``None`` is no limit.
    """

    wants_audio: bool
    instructions: str
    voice: str
    input_format: AudioFormat
    output_format: AudioFormat
    detection: Detection | None
    transcription: Mapping[str, Any] | None
    tools: tuple[Mapping[str, Any], ...]
    tool_choice: str
    max_output_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKind:
    """What the sessions of one flavour and purpose have in common.

    Attributes:
        update: what a client may send as ``session``.
        response: fields of a ``response.create`` beside those that all flavours have; empty: no responses at all.
        defaults: the session object of a new session, given the model's name.
        effective: reads a session object.
        echo: what a response object repeats of the settings.
        settle: judges a merged session object as a whole, and writes what was asked as the services write it.
        renames: names that a ``response`` object has for settings of the session.
        open_response: whether a ``response`` object may hold what this server does not know.
        event_prefix: what stands before ``.created`` and ``.updated`` on the wire.
    """

    update: Shape
    response: Mapping[str, Shape]
    defaults: Callable[[str], Wire]
    effective: Callable[[Wire], Effective]
    echo: Callable[[Wire], Wire]
    settle: Callable[[Wire, str], None]
    renames: Mapping[str, str] | None = None
    open_response: bool = False
    event_prefix: str = "session"


# ---- shapes ----

PREVIEW_VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse")

TOKENS = any_of(integer(1, 1_000_000), one_of("inf"))
SPEED = number(0.25, 1.5)
TRACING = optional(
    either(
        one_of("auto"),
        record({"workflow_name": text(), "group_id": text(), "metadata": optional(record({}, open_ended=True))}),
    )
)
TOOL = record(
    {
        "type": one_of("function"),
        "name": text(longest=64),
        "description": optional(text(longest=1024)),
        "parameters": optional(record({}, open_ended=True)),
        "strict": optional(boolean),
    },
    required=("type", "name"),
)
MCP_TOOL = record({"type": anything, "server_label": text()}, required=("server_label",), open_ended=True)
TRANSCRIPTION_SHAPE = optional(
    record(
        {
            "model": text(),
            "language": optional(text()),
            "prompt": optional(text()),
            "languages": optional(list_of(text())),
            "keywords": optional(list_of(text())),
            "delay": optional(anything),
        }
    )
)
NOISE = optional(
    record({"type": one_of("near_field", "far_field"), "strength": optional(number(0, 1))}, required=("type",))
)
_MAX_PAIRS = 16


def _metadata(value: Any, path: str) -> None:
    record({}, open_ended=True)(value, path)
    if len(value) > _MAX_PAIRS:
        raise Refusal(
            "object_above_max_properties",
            f"Invalid '{path}': too many properties. Expected an object with at most {_MAX_PAIRS} properties, "
            f"but got an object with {len(value)} properties instead.",
            path,
        )
    for name, entry in value.items():
        text(longest=64)(name, path)
        text(longest=512)(entry, f"{path}.{name}")


METADATA = optional(_metadata)

SERVER_VAD: dict[str, Shape] = {
    "type": anything,
    "threshold": optional(number(0, 1)),
    "prefix_padding_ms": optional(integer(0, 10_000)),
    "silence_duration_ms": optional(integer(0, 60_000)),
    "create_response": optional(boolean),
    "interrupt_response": optional(boolean),
}
_SEMANTIC_VAD: dict[str, Shape] = {
    "type": anything,
    "eagerness": optional(one_of("low", "medium", "high", "auto")),
    "create_response": optional(boolean),
    "interrupt_response": optional(boolean),
}
_NO_VAD = record({"type": anything})


def function_choice(value: Any, path: str) -> None:
    """Take a tool choice; one forced function has three spellings in use."""
    either(
        one_of("auto", "none", "required"),
        record({"type": anything, "name": text(), "function": anything, "server_label": text()}),
    )(value, path)
    if isinstance(value, dict) and _forced_name(value) is None:
        raise Refusal("missing_required_parameter", f"Missing required parameter: '{path}.name'.", f"{path}.name")


def _forced_name(choice: Mapping[str, Any]) -> str | None:
    function = choice.get("function")
    name = choice.get("name") or choice.get("server_label")
    if isinstance(function, dict):
        name = function.get("name", name)
    elif isinstance(function, str):
        name = function
    return name if isinstance(name, str) else None


def turn_detection_shape(
    extra: Mapping[str, Shape] | None = None,
    *,
    idle: bool = False,
    semantic: bool = True,
    open_ended: bool = False,
) -> Shape:
    """Turn detection: by the server, ``semantic``, those in ``extra``, or none; ``idle``: with an idle timeout."""
    fields = {**SERVER_VAD, **({"idle_timeout_ms": optional(integer(5_000, 30_000))} if idle else {})}
    return optional(
        tagged(
            {
                "server_vad": record(fields, open_ended=open_ended),
                **({"semantic_vad": record(_SEMANTIC_VAD, open_ended=open_ended)} if semantic else {}),
                "none": _NO_VAD,
                **(extra or {}),
            }
        )
    )


# ---- defaults ----

VAD_DEFAULTS: Wire = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,
    "create_response": True,
    "interrupt_response": True,
}
DETECTION_DEFAULTS: dict[str, Wire] = {
    "server_vad": VAD_DEFAULTS,
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}

DEFAULT_INSTRUCTIONS = (
    "You are a voice assistant under test: answer briefly and plainly, in the caller's language, and say so when you "
    "did not understand."
)

# ---- neutral readings ----


def voice_name(voice: Any) -> str:
    """The name of a voice, however it is written."""
    if isinstance(voice, dict):
        return str(voice.get("name") or voice.get("id") or "alloy")
    return str(voice or "alloy")


def tool_choice_of(choice: Any) -> str:
    """A tool choice in neutral words."""
    if isinstance(choice, dict):
        return f"function:{_forced_name(choice)}"
    return choice or "auto"


def token_limit(limit: Any) -> int | None:
    """A limit of output tokens; ``None`` for no limit."""
    return limit if isinstance(limit, int) else None


def detection_of(wire: Mapping[str, Any] | None) -> Detection | None:
    """Turn detection as the server runs it; ``None``: off."""
    if wire is None or wire["type"] == "none":
        return None
    known = {key: wire[key] for key in Detection.__dataclass_fields__ if wire.get(key) is not None}
    if wire["type"] == "semantic_vad":
        known["silence_duration_ms"] = EAGERNESS_SILENCE_MS[wire.get("eagerness") or "auto"]
    return Detection(**known)


def drop_none_detection(holder: Wire, path: str) -> None:
    """Echo a detection of the type ``none`` as null."""
    if (holder["turn_detection"] or {}).get("type") == "none":
        holder["turn_detection"] = None
