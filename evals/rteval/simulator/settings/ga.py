"""Sessions of the generally available dialect, with their settings nested under ``audio``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...formats import FORMATS, AudioFormat
from ...realtime.dialects.ga import FORMAT_TYPES
from ...realtime.dialects.shapes import (
    Refusal,
    Shape,
    anything,
    boolean,
    either,
    integer,
    list_of,
    one_of,
    optional,
    record,
    tagged,
    text,
)
from .parts import (
    DEFAULT_INSTRUCTIONS,
    MCP_TOOL,
    NOISE,
    PREVIEW_VOICES,
    SPEED,
    TOKENS,
    TOOL,
    TRACING,
    TRANSCRIPTION_SHAPE,
    VAD_DEFAULTS,
    Effective,
    SessionKind,
    Wire,
    detection_of,
    drop_none_detection,
    function_choice,
    token_limit,
    tool_choice_of,
    turn_detection_shape,
    voice_name,
)

GA_VOICES = (*PREVIEW_VOICES, "marin", "cedar")
_FORMAT = tagged(
    {
        "audio/pcm": record({"type": anything, "rate": integer(24_000, 24_000)}),
        "audio/pcmu": record({"type": anything}),
        "audio/pcma": record({"type": anything}),
    }
)
_VOICE = either(one_of(*GA_VOICES), record({"id": text()}, required=("id",)))
_INPUT: dict[str, Shape] = {
    "format": _FORMAT,
    "turn_detection": turn_detection_shape(idle=True),
    "transcription": TRANSCRIPTION_SHAPE,
    "noise_reduction": NOISE,
}
_VARIABLES = optional(record({}, open_ended=True))
_INCLUDE = optional(list_of(one_of("item.input_audio_transcription.logprobs")))
_SESSION = record(
    {
        "type": anything,
        "model": text(),
        "output_modalities": list_of(one_of("audio", "text")),
        "instructions": text(),
        "audio": record(
            {
                "input": record(_INPUT),
                "output": record({"format": _FORMAT, "voice": _VOICE, "speed": SPEED}),
            }
        ),
        "tools": list_of(tagged({"function": TOOL, "mcp": MCP_TOOL})),
        "tool_choice": function_choice,
        "parallel_tool_calls": optional(boolean),
        "max_output_tokens": TOKENS,
        "reasoning": optional(record({"effort": one_of("minimal", "low", "medium", "high", "xhigh")})),
        "tracing": TRACING,
        "truncation": either(one_of("auto", "disabled"), record({}, open_ended=True)),
        "prompt": optional(
            record({"id": text(), "version": optional(text()), "variables": _VARIABLES}, required=("id",))
        ),
        "include": _INCLUDE,
    },
    required=("type",),
)
_TRANSCRIPTION_SESSION = record(
    {"type": anything, "audio": record({"input": record(_INPUT)}), "include": _INCLUDE}, required=("type",)
)
_RESPONSE = {
    "output_modalities": list_of(one_of("audio", "text")),
    "instructions": optional(text()),
    "audio": record({"output": record({"format": _FORMAT, "voice": _VOICE})}),
    "tools": list_of(tagged({"function": TOOL, "mcp": MCP_TOOL})),
    "tool_choice": function_choice,
    "parallel_tool_calls": optional(boolean),
    "max_output_tokens": TOKENS,
    "reasoning": optional(record({"effort": text()})),
    "prompt": optional(record({"id": text()}, open_ended=True)),
}


def _settle_ga(session: Wire, path: str) -> None:
    kinds = session["output_modalities"]
    if len(kinds) != 1:
        raise Refusal(
            "invalid_value",
            f"Invalid modalities: {kinds!r}. Supported combinations are: ['text'] and ['audio'].",
            f"{path}.output_modalities",
        )
    _settle_ga_audio(session, path)


def _settle_ga_audio(session: Wire, path: str) -> None:
    drop_none_detection(session["audio"]["input"], path)
    for direction in session["audio"].values():
        if direction["format"]["type"] == "audio/pcm":
            direction["format"].setdefault("rate", 24_000)


def _defaults(model: str) -> Wire:
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


def _transcription_defaults(model: str) -> Wire:
    whole = _defaults(model)
    return {
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": "",
        "expires_at": 0,
        "audio": {"input": whole["audio"]["input"]},
        "include": None,
    }


def _effective(session: Wire) -> Effective:
    into = session["audio"]["input"]
    out = session["audio"].get("output", {"format": FORMAT_TYPES["pcm16"], "voice": "alloy"})
    return Effective(
        wants_audio="audio" in session.get("output_modalities", ()),
        instructions=session.get("instructions") or "",
        voice=voice_name(out["voice"]),
        input_format=_format(into["format"]),
        output_format=_format(out["format"]),
        detection=detection_of(into["turn_detection"]),
        transcription=into["transcription"],
        tools=tuple(session.get("tools") or ()),
        tool_choice=tool_choice_of(session.get("tool_choice")),
        max_output_tokens=token_limit(session.get("max_output_tokens")),
    )


def _format(fmt: Mapping[str, Any]) -> AudioFormat:
    return next(FORMATS[name] for name, wire in FORMAT_TYPES.items() if wire["type"] == fmt["type"])


def _echo(session: Wire) -> Wire:
    out = session["audio"].get("output", {})
    return {
        "output_modalities": session.get("output_modalities", []),
        "max_output_tokens": session.get("max_output_tokens", "inf"),
        "audio": {"output": {"format": out.get("format"), "voice": out.get("voice")}},
    }


REALTIME = SessionKind(
    update=tagged({"realtime": _SESSION}),
    response=_RESPONSE,
    defaults=_defaults,
    effective=_effective,
    echo=_echo,
    settle=_settle_ga,
)
TRANSCRIPTION = SessionKind(
    update=tagged({"transcription": _TRANSCRIPTION_SESSION}),
    response={},
    defaults=_transcription_defaults,
    effective=_effective,
    echo=_echo,
    settle=_settle_ga_audio,
)
