"""What a session is: its object on the wire, what a client may change in it, and what that means for the server.

Defaults are those that the services send in ``session.created`` (not those of the reference pages, which differ in
places: 500 ms of silence there, 200 ms on the wire).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..formats import FORMATS, PCM16, AudioFormat
from ..realtime.dialects.ga import FORMAT_TYPES
from ..realtime.dialects.shapes import (
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

__all__ = ["KINDS", "Detection", "Effective", "Kind", "SessionKind", "SessionSettings"]

Kind = Literal["realtime", "transcription"]

_Wire = dict[str, Any]

PREVIEW_VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse")
GA_VOICES = (*PREVIEW_VOICES, "marin", "cedar")

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


# ---- shapes that the flavours share ----

_TOKENS = any_of(integer(1, 1_000_000), one_of("inf"))
_SPEED = number(0.25, 1.5)
_TRACING = optional(
    either(
        one_of("auto"),
        record({"workflow_name": text(), "group_id": text(), "metadata": optional(record({}, open_ended=True))}),
    )
)
_TOOL = record(
    {
        "type": one_of("function"),
        "name": text(longest=64),
        "description": optional(text(longest=1024)),
        "parameters": optional(record({}, open_ended=True)),
        "strict": optional(boolean),
    },
    required=("type", "name"),
)
_MCP_TOOL = record({"type": anything, "server_label": text()}, required=("server_label",), open_ended=True)
_TRANSCRIPTION = optional(
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
_NOISE = optional(
    record({"type": one_of("near_field", "far_field"), "strength": optional(number(0, 1))}, required=("type",))
)
_METADATA = optional(record({}, open_ended=True))

_SERVER_VAD: dict[str, Shape] = {
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


def _function_choice(value: Any, path: str) -> None:
    """The three spellings of one forced function that are in use."""
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


def _turn_detection(extra: Mapping[str, Shape] | None = None, *, idle: bool = False, open_ended: bool = False) -> Shape:
    fields = {**_SERVER_VAD, **({"idle_timeout_ms": optional(integer(5_000, 30_000))} if idle else {})}
    return optional(
        tagged(
            {
                "server_vad": record(fields, open_ended=open_ended),
                "semantic_vad": record(_SEMANTIC_VAD, open_ended=open_ended),
                "none": _NO_VAD,
                **(extra or {}),
            }
        )
    )


# ---- GA ----

_GA_FORMAT = tagged(
    {
        "audio/pcm": record({"type": anything, "rate": integer(24_000, 24_000)}),
        "audio/pcmu": record({"type": anything}),
        "audio/pcma": record({"type": anything}),
    }
)
_GA_VOICE = either(one_of(*GA_VOICES), record({"id": text()}, required=("id",)))
_GA_INPUT: dict[str, Shape] = {
    "format": _GA_FORMAT,
    "turn_detection": _turn_detection(idle=True),
    "transcription": _TRANSCRIPTION,
    "noise_reduction": _NOISE,
}
_INCLUDE = optional(list_of(one_of("item.input_audio_transcription.logprobs")))
_GA_SESSION = record(
    {
        "type": anything,
        "model": text(),
        "output_modalities": list_of(one_of("audio", "text")),
        "instructions": text(),
        "audio": record(
            {
                "input": record(_GA_INPUT),
                "output": record({"format": _GA_FORMAT, "voice": _GA_VOICE, "speed": _SPEED}),
            }
        ),
        "tools": list_of(tagged({"function": _TOOL, "mcp": _MCP_TOOL})),
        "tool_choice": _function_choice,
        "parallel_tool_calls": optional(boolean),
        "max_output_tokens": _TOKENS,
        "reasoning": optional(record({"effort": one_of("minimal", "low", "medium", "high", "xhigh")})),
        "tracing": _TRACING,
        "truncation": either(one_of("auto", "disabled"), record({}, open_ended=True)),
        "prompt": optional(
            record({"id": text(), "version": optional(text()), "variables": _METADATA}, required=("id",))
        ),
        "include": _INCLUDE,
    },
    required=("type",),
)
_GA_TRANSCRIPTION_SESSION = record(
    {"type": anything, "audio": record({"input": record(_GA_INPUT)}), "include": _INCLUDE}, required=("type",)
)
_GA_RESPONSE = {
    "output_modalities": list_of(one_of("audio", "text")),
    "instructions": optional(text()),
    "audio": record({"output": record({"format": _GA_FORMAT, "voice": _GA_VOICE})}),
    "tools": list_of(tagged({"function": _TOOL, "mcp": _MCP_TOOL})),
    "tool_choice": _function_choice,
    "parallel_tool_calls": optional(boolean),
    "max_output_tokens": _TOKENS,
    "reasoning": optional(record({"effort": text()})),
    "prompt": optional(record({"id": text()}, open_ended=True)),
}


def _settle_ga(session: _Wire, path: str) -> None:
    kinds = session["output_modalities"]
    if len(kinds) != 1:
        raise Refusal(
            "invalid_value",
            f"Invalid modalities: {kinds!r}. Supported combinations are: ['text'] and ['audio'].",
            f"{path}.output_modalities",
        )
    _settle_ga_audio(session, path)


def _settle_ga_audio(session: _Wire, path: str) -> None:
    _drop_none_detection(session["audio"]["input"], path)
    for direction in session["audio"].values():
        if direction["format"]["type"] == "audio/pcm":
            direction["format"].setdefault("rate", 24_000)


def _drop_none_detection(holder: _Wire, path: str) -> None:
    """Echo a detection of the type ``none`` as null."""
    if (holder["turn_detection"] or {}).get("type") == "none":
        holder["turn_detection"] = None


def _ga_defaults(model: str) -> _Wire:
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": "",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": 0,
        "audio": {
            "input": {
                "format": dict(FORMAT_TYPES["pcm16"]),
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {**VAD_DEFAULTS, "idle_timeout_ms": None},
            },
            "output": {"format": dict(FORMAT_TYPES["pcm16"]), "voice": "alloy", "speed": 1.0},
        },
        "include": None,
    }


def _ga_transcription_defaults(model: str) -> _Wire:
    whole = _ga_defaults(model)
    return {
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": "",
        "expires_at": 0,
        "audio": {"input": whole["audio"]["input"]},
        "include": None,
    }


def _ga_effective(session: _Wire) -> Effective:
    into = session["audio"]["input"]
    out = session["audio"].get("output", {"format": FORMAT_TYPES["pcm16"], "voice": "alloy"})
    return Effective(
        wants_audio="audio" in session.get("output_modalities", ()),
        instructions=session.get("instructions") or "",
        voice=_voice_name(out["voice"]),
        input_format=_ga_format(into["format"]),
        output_format=_ga_format(out["format"]),
        detection=_detection(into["turn_detection"]),
        transcription=into["transcription"],
        tools=tuple(session.get("tools") or ()),
        tool_choice=_choice(session.get("tool_choice")),
        max_output_tokens=_limit(session.get("max_output_tokens")),
    )


def _ga_format(fmt: Mapping[str, Any]) -> AudioFormat:
    return next(FORMATS[name] for name, wire in FORMAT_TYPES.items() if wire["type"] == fmt["type"])


def _ga_echo(session: _Wire) -> _Wire:
    out = session["audio"].get("output", {})
    return {
        "output_modalities": session.get("output_modalities", []),
        "max_output_tokens": session.get("max_output_tokens", "inf"),
        "audio": {"output": {"format": out.get("format"), "voice": out.get("voice")}},
    }


# ---- preview, its first generation, and Voice Live ----

_PREVIEW_FORMATS = {**FORMATS, "g711-ulaw": FORMATS["g711_ulaw"], "g711-alaw": FORMATS["g711_alaw"]}
_VOICE_LIVE_FORMATS = {
    **_PREVIEW_FORMATS,
    "pcm16_8000hz": AudioFormat("pcm16", 8_000, 2, PCM16.silence),
    "pcm16_16000hz": AudioFormat("pcm16", 16_000, 2, PCM16.silence),
    "pcm16-8000hz": AudioFormat("pcm16", 8_000, 2, PCM16.silence),
    "pcm16-16000hz": AudioFormat("pcm16", 16_000, 2, PCM16.silence),
}
_PREVIEW_SESSION_FIELDS: dict[str, Shape] = {
    "model": text(),
    "modalities": list_of(one_of("text", "audio")),
    "instructions": text(),
    "voice": one_of(*PREVIEW_VOICES),
    "speed": _SPEED,
    "input_audio_format": one_of(*_PREVIEW_FORMATS),
    "output_audio_format": one_of(*_PREVIEW_FORMATS),
    "input_audio_transcription": _TRANSCRIPTION,
    "input_audio_noise_reduction": _NOISE,
    "turn_detection": _turn_detection(),
    "tools": list_of(_TOOL),
    "tool_choice": _function_choice,
    "temperature": number(0.6, 1.2),
    "max_response_output_tokens": _TOKENS,
}
_PREVIEW_RESPONSE: dict[str, Shape] = {
    "modalities": list_of(one_of("text", "audio")),
    "instructions": optional(text()),
    "voice": optional(one_of(*PREVIEW_VOICES)),
    "output_audio_format": optional(one_of(*_PREVIEW_FORMATS)),
    "tools": optional(list_of(_TOOL)),
    "tool_choice": optional(_function_choice),
    "temperature": optional(number(0.6, 1.2)),
    "max_response_output_tokens": optional(_TOKENS),
    "max_output_tokens": optional(_TOKENS),
    # Documented for the first Azure preview only; taken and without effect.
    "commit": optional(boolean),
    "cancel_previous": optional(boolean),
    "append_input_items": optional(anything),
    "input_items": optional(anything),
}
_PREVIEW_TRANSCRIPTION_FIELDS: dict[str, Shape] = {
    "modalities": list_of(one_of("text", "audio")),
    "input_audio_format": one_of(*_PREVIEW_FORMATS),
    "input_audio_transcription": _TRANSCRIPTION,
    "input_audio_noise_reduction": _NOISE,
    "turn_detection": _turn_detection(),
    "include": optional(list_of(text())),
}
_AZURE_VAD = record(_SERVER_VAD, open_ended=True)
_VOICE_LIVE_SESSION = record(
    {
        **_PREVIEW_SESSION_FIELDS,
        "voice": either(text(), record({"type": text(), "name": text()}, open_ended=True)),
        "input_audio_sampling_rate": integer(8_000, 24_000),
        "input_audio_format": one_of(*_VOICE_LIVE_FORMATS),
        "output_audio_format": one_of(*_VOICE_LIVE_FORMATS),
        "input_audio_noise_reduction": optional(record({"type": text()}, required=("type",))),
        "input_audio_transcription": optional(record({"model": text()}, open_ended=True)),
        "turn_detection": _turn_detection(
            {
                name: _AZURE_VAD
                for name in ("azure_semantic_vad", "azure_semantic_vad_en", "azure_semantic_vad_multilingual")
            },
            open_ended=True,
        ),
        "temperature": number(0, 2),
    },
    # Avatars, animation and echo cancellation are taken and echoed; nothing here acts on them.
    open_ended=True,
)
_VOICE_LIVE_RESPONSE = {**_PREVIEW_RESPONSE, "voice": optional(either(text(), record({}, open_ended=True)))}

VAD_DEFAULTS: _Wire = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,
    "create_response": True,
    "interrupt_response": True,
}
_DETECTION_DEFAULTS: dict[str, _Wire] = {
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


def _preview_defaults(model: str) -> _Wire:
    return {
        "id": "",
        "object": "realtime.session",
        "model": model,
        "expires_at": 0,
        "modalities": ["audio", "text"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "voice": "alloy",
        "turn_detection": dict(VAD_DEFAULTS),
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "input_audio_transcription": None,
        "input_audio_noise_reduction": None,
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
        "tools": [],
    }


def _first_preview_defaults(model: str) -> _Wire:
    session = _preview_defaults(model)
    del session["input_audio_noise_reduction"]
    return session


def _voice_live_defaults(model: str) -> _Wire:
    return {**_preview_defaults(model), "input_audio_sampling_rate": 24_000, "input_audio_echo_cancellation": None}


def _preview_transcription_defaults(model: str) -> _Wire:
    whole = _preview_defaults(model)
    kept = ("id", "expires_at", "turn_detection", "input_audio_format", "input_audio_transcription")
    return {
        "object": "realtime.transcription_session",
        **{key: whole[key] for key in kept},
        "modalities": ["text", "audio"],
        "input_audio_noise_reduction": None,
        "include": None,
        "client_secret": None,
    }


def _preview_effective(session: _Wire) -> Effective:
    into = _VOICE_LIVE_FORMATS[session["input_audio_format"]]
    # Voice Live names the input's rate beside its format.
    rate = session.get("input_audio_sampling_rate")
    if rate is not None and into is PCM16:
        into = AudioFormat(into.name, rate, into.sample_bytes, into.silence)
    return Effective(
        wants_audio="audio" in session.get("modalities", ()),
        instructions=session.get("instructions") or "",
        voice=_voice_name(session.get("voice")),
        input_format=into,
        output_format=_VOICE_LIVE_FORMATS[session.get("output_audio_format", "pcm16")],
        detection=_detection(session["turn_detection"]),
        transcription=session["input_audio_transcription"],
        tools=tuple(session.get("tools") or ()),
        tool_choice=_choice(session.get("tool_choice")),
        max_output_tokens=_limit(session.get("max_response_output_tokens")),
    )


def _preview_echo(session: _Wire) -> _Wire:
    return {
        "modalities": session.get("modalities"),
        "voice": session.get("voice"),
        "output_audio_format": session.get("output_audio_format"),
        "temperature": session.get("temperature"),
        "max_output_tokens": session.get("max_response_output_tokens"),
    }


# ---- neutral readings ----


def _voice_name(voice: Any) -> str:
    if isinstance(voice, dict):
        return str(voice.get("name") or voice.get("id") or "alloy")
    return str(voice or "alloy")


def _choice(choice: Any) -> str:
    if isinstance(choice, dict):
        return f"function:{_forced_name(choice)}"
    return choice or "auto"


def _limit(limit: Any) -> int | None:
    return limit if isinstance(limit, int) else None


def _detection(wire: Mapping[str, Any] | None) -> Detection | None:
    if wire is None or wire["type"] == "none":
        return None
    known = {key: wire[key] for key in Detection.__dataclass_fields__ if wire.get(key) is not None}
    if wire["type"] == "semantic_vad":
        known["silence_duration_ms"] = EAGERNESS_SILENCE_MS[wire.get("eagerness") or "auto"]
    return Detection(**known)


# ---- one kind of session ----


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
    defaults: Callable[[str], _Wire]
    effective: Callable[[_Wire], Effective]
    echo: Callable[[_Wire], _Wire]
    settle: Callable[[_Wire, str], None]
    renames: Mapping[str, str] | None = None
    open_response: bool = False
    event_prefix: str = "session"


_COMMON_RESPONSE: dict[str, Shape] = {
    "conversation": optional(one_of("auto", "none")),
    "metadata": _METADATA,
    "input": optional(list_of(record({}, open_ended=True))),
}
_PREVIEW_RENAMES = {"max_output_tokens": "max_response_output_tokens"}

KINDS: Mapping[tuple[str, Kind], SessionKind] = {
    ("ga", "realtime"): SessionKind(
        update=tagged({"realtime": _GA_SESSION}),
        response=_GA_RESPONSE,
        defaults=_ga_defaults,
        effective=_ga_effective,
        echo=_ga_echo,
        settle=_settle_ga,
    ),
    ("ga", "transcription"): SessionKind(
        update=tagged({"transcription": _GA_TRANSCRIPTION_SESSION}),
        response={},
        defaults=_ga_transcription_defaults,
        effective=_ga_effective,
        echo=_ga_echo,
        settle=_settle_ga_audio,
    ),
    ("preview", "realtime"): SessionKind(
        update=record(_PREVIEW_SESSION_FIELDS),
        response=_PREVIEW_RESPONSE,
        defaults=_preview_defaults,
        effective=_preview_effective,
        echo=_preview_echo,
        renames=_PREVIEW_RENAMES,
        settle=_drop_none_detection,
    ),
    ("preview", "transcription"): SessionKind(
        update=record(_PREVIEW_TRANSCRIPTION_FIELDS),
        response={},
        defaults=_preview_transcription_defaults,
        effective=_preview_effective,
        echo=_preview_echo,
        event_prefix="transcription_session",
        settle=_drop_none_detection,
    ),
    ("preview-2024-10", "realtime"): SessionKind(
        update=record(_PREVIEW_SESSION_FIELDS),
        response=_PREVIEW_RESPONSE,
        defaults=_first_preview_defaults,
        effective=_preview_effective,
        echo=_preview_echo,
        renames=_PREVIEW_RENAMES,
        settle=lambda session, path: None,
    ),
    ("voice-live", "realtime"): SessionKind(
        update=_VOICE_LIVE_SESSION,
        response=_VOICE_LIVE_RESPONSE,
        defaults=_voice_live_defaults,
        effective=_preview_effective,
        echo=_preview_echo,
        renames=_PREVIEW_RENAMES,
        open_response=True,
        settle=_drop_none_detection,
    ),
}
"""Session kinds by flavour and purpose. Where a flavour has no transcription sessions there is no entry."""

# Objects that a later value replaces whole: half of a new one and half of an old one means nothing.
_ATOMIC = frozenset({"format", "voice", "tool_choice", "tracing", "truncation", "prompt", "reasoning"})


def _merge(current: Any, update: Any, key: str = "") -> Any:
    if key == "turn_detection" and isinstance(update, dict):
        same = isinstance(current, dict) and current["type"] == update["type"]
        base = current if same else _DETECTION_DEFAULTS.get(update["type"], {"type": update["type"]})
        if update["type"].startswith("azure_"):
            base = current if same else {**VAD_DEFAULTS, "type": update["type"]}
        return {**base, **update}
    if key not in _ATOMIC and isinstance(current, dict) and isinstance(update, dict):
        return {**current, **{name: _merge(current.get(name), value, name) for name, value in update.items()}}
    return update


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings of one session at one moment.

    Attributes:
        kind: what may be changed, and how.
        wire: the session object as ``session.created`` and ``session.updated`` carry it.
    """

    kind: SessionKind
    wire: _Wire

    @classmethod
    def new(cls, kind: SessionKind, *, session_id: str, model: str, expires_at: int) -> SessionSettings:
        """The settings of a session that has just been opened; ``expires_at`` in Unix seconds."""
        wire = kind.defaults(model)
        wire["id"] = session_id
        wire["expires_at"] = expires_at
        return cls(kind, wire)

    @property
    def effective(self) -> Effective:
        """What they mean."""
        return self.kind.effective(self.wire)

    @property
    def echo(self) -> _Wire:
        """What a response object repeats of them."""
        return self.kind.echo(self.wire)

    def updated(self, session: Any) -> SessionSettings:
        """The settings after a client's ``session.update``.

        Raises:
            Refusal: it asks for what cannot be; nothing has changed.
        """
        self.kind.update(session, "session")
        # The model is fixed; the services take the name without acting on it.
        return self._with({key: value for key, value in session.items() if key != "model"}, "session")

    def for_response(self, response: _Wire) -> SessionSettings:
        """The settings of one response, given the client's ``response`` object.

        Raises:
            Refusal: it asks for what cannot be.
        """
        fields = {**_COMMON_RESPONSE, **self.kind.response}
        record(fields, open_ended=self.kind.open_response)(response, "response")
        renames = self.kind.renames or {}
        overrides = {
            renames.get(key, key): value
            for key, value in response.items()
            if key in self.kind.response and value is not None
        }
        return self._with(overrides, "response")

    def _with(self, overrides: _Wire, path: str) -> SessionSettings:
        wire: _Wire = copy.deepcopy(_merge(self.wire, overrides))
        self.kind.settle(wire, path)
        return SessionSettings(self.kind, wire)
