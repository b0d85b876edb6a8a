"""The generally available dialect: nested ``audio`` settings and ``output_*`` names (OpenAI realtime reference)."""

from __future__ import annotations

from typing import Any

from ...formats import FORMATS, AudioFormat
from ..events import SessionSettings
from .base import Dialect, UnsupportedSettingError
from .frames import SERVER_NAMES

__all__ = ["FORMAT_TYPES", "GA"]

FORMAT_TYPES: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
"""Wire object of each audio format."""
assert FORMAT_TYPES.keys() == FORMATS.keys()


def _format(fmt: AudioFormat) -> dict[str, Any]:
    return dict(FORMAT_TYPES[fmt.name])


def _session(settings: SessionSettings) -> dict[str, Any]:
    if settings.temperature is not None:
        raise UnsupportedSettingError("temperature")
    audio_in: dict[str, Any] = {
        "format": _format(settings.input_format),
        "turn_detection": settings.turn_detection,
        "transcription": settings.transcription,
    }
    audio_out: dict[str, Any] = {"format": _format(settings.output_format)}
    if settings.voice is not None:
        audio_out["voice"] = settings.voice
    session: dict[str, Any] = {"type": "realtime", "audio": {"input": audio_in, "output": audio_out}}
    if settings.modalities is not None:
        # GA takes one kind of output; audio always comes with its transcript.
        session["output_modalities"] = ["audio"] if settings.wants_audio else ["text"]
    if settings.instructions is not None:
        session["instructions"] = settings.instructions
    if settings.tools:
        session["tools"] = list(settings.tools)
    if settings.tool_choice is not None:
        session["tool_choice"] = settings.tool_choice
    if settings.max_output_tokens is not None:
        session["max_output_tokens"] = settings.max_output_tokens
    return merge(session, settings.raw)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


GA = Dialect(
    name="ga",
    server_names=SERVER_NAMES,
    part_types={"text": "output_text", "audio": "output_audio"},
    session=_session,
)
