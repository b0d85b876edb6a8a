"""The preview (beta) dialect: a flat session object and the older event names; Voice Live speaks it too."""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .base import Dialect
from .frames import SERVER_NAMES

__all__ = ["PREVIEW"]


def _session(settings: ev.SessionSettings) -> dict[str, Any]:
    session: dict[str, Any] = {
        "input_audio_format": settings.input_format.name,
        "output_audio_format": settings.output_format.name,
        "turn_detection": settings.turn_detection,
        "input_audio_transcription": settings.transcription,
    }
    if settings.modalities is not None:
        # Audio alone is not a legal value here: the services want text beside it.
        session["modalities"] = ["text", "audio"] if settings.wants_audio else ["text"]
    optional = {
        "instructions": settings.instructions,
        "voice": settings.voice,
        "tools": list(settings.tools) or None,
        "tool_choice": settings.tool_choice,
        "temperature": settings.temperature,
        "max_response_output_tokens": settings.max_output_tokens,
    }
    session.update({key: value for key, value in optional.items() if value is not None})
    return {**session, **settings.raw}


PREVIEW = Dialect(
    name="preview",
    server_names={
        **SERVER_NAMES,
        ev.ItemAdded: "conversation.item.created",
        ev.ItemDone: None,
        ev.InputTimedOut: None,
        ev.TextDelta: "response.text.delta",
        ev.TextDone: "response.text.done",
        ev.TranscriptDelta: "response.audio_transcript.delta",
        ev.TranscriptDone: "response.audio_transcript.done",
        ev.AudioDelta: "response.audio.delta",
        ev.AudioDone: "response.audio.done",
    },
    part_types={},
    session=_session,
)
