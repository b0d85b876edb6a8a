"""The server's side of the dialects: events to frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...records import Usage
from .. import events as ev
from .base import Dialect
from .ga import GA
from .preview import PREVIEW
from .requests import CLIENT_TYPES, item_shape
from .shapes import Shape

__all__ = [
    "GA_SERVING",
    "PREVIEW_2024_10_SERVING",
    "PREVIEW_SERVING",
    "VOICE_LIVE_SERVING",
    "Serving",
]

_Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Serving:
    """One flavour of the wire as a server speaks it.

    Attributes:
        name: what it is called in logs and tests.
        dialect: names and part types; shared with the client's side.
        muted: event classes that its clients do not survive, and that are left out.
        object_key: whether items carry ``object: "realtime.item"`` and a status whatever they are.
        obfuscation: whether text deltas carry an ``obfuscation`` that hides their length from those who watch the wire.
        image_tokens: whether usage counts them.
        full_response: whether responses echo their settings (the first preview did not).
        item: what a client may put into a conversation.
        client_types: what a client may ask, by wire type.
    """

    name: str
    dialect: Dialect
    muted: frozenset[type[Any]]
    object_key: bool
    obfuscation: bool
    image_tokens: bool
    full_response: bool
    item: Shape
    client_types: Mapping[str, Shape]

    def encode(self, event: ev.ServerEvent, event_id: str, *, echo: Mapping[str, Any] | None = None) -> _Frame | None:
        """The frame that tells ``event``, or ``None`` where this flavour has no such event.

        Args:
            event: what happened.
            event_id: the frame's own id.
            echo: of a response: its settings in the dialect's words.
        """
        name = self.dialect.server_names[type(event)] if type(event) not in self.muted else None
        if name is None:
            return None
        return {"type": name, "event_id": event_id, **self._fields(event, event_id, echo or {})}

    def encode_audio_delta(self, event: ev.AudioDelta, event_id: str) -> bytes:
        """The whole text frame of an audio delta, made without a JSON encoder: its ids need no escaping."""
        name = self.dialect.server_names[ev.AudioDelta]
        return (
            b'{"type":"%b","event_id":"%b","response_id":"%b","item_id":"%b","output_index":%d,"content_index":%d,"delta":"%b"}'
            % (
                (name or "").encode(),
                event_id.encode(),
                (event.response_id or "").encode(),
                (event.item_id or "").encode(),
                event.output_index,
                event.content_index,
                bytes(event.audio),
            )
        )

    def _fields(self, event: ev.ServerEvent, event_id: str, echo: Mapping[str, Any]) -> _Frame:
        match event:
            case ev.ErrorReported():
                return {
                    "error": {
                        "type": event.type or "invalid_request_error",
                        "code": event.code,
                        "message": event.message,
                        "param": event.param,
                        "event_id": event.client_event_id,
                    }
                }
            case ev.SessionCreated() | ev.SessionUpdated():
                return {"session": event.session}
            case ev.ConversationCreated():
                return {"conversation": {"id": event.id, "object": "realtime.conversation"}}
            case ev.ItemAdded() | ev.ItemDone():
                return {"previous_item_id": event.previous_item_id, "item": self.item_fields(event.item)}
            case ev.ItemRetrieved():
                return {"item": self.item_fields(event.item)}
            case ev.ItemDeleted():
                return {"item_id": event.item_id}
            case ev.ItemTruncated():
                return {
                    "item_id": event.item_id,
                    "content_index": event.content_index,
                    "audio_end_ms": event.audio_end_ms,
                }
            case ev.InputTranscriptDelta():
                return {"item_id": event.item_id, "content_index": event.content_index, "delta": event.delta}
            case ev.InputTranscriptCompleted():
                return {
                    "item_id": event.item_id,
                    "content_index": event.content_index,
                    "transcript": event.transcript,
                    **({} if event.usage is None else {"usage": event.usage}),
                }
            case ev.InputTranscriptFailed():
                return {
                    "item_id": event.item_id,
                    "content_index": event.content_index,
                    "error": {"type": event.type, "code": event.code, "message": event.message, "param": None},
                }
            case ev.AudioCommitted():
                return {"previous_item_id": event.previous_item_id, "item_id": event.item_id}
            case ev.AudioCleared():
                return {}
            case ev.SpeechStarted():
                return {"audio_start_ms": event.audio_start_ms, "item_id": event.item_id}
            case ev.SpeechStopped():
                return {"audio_end_ms": event.audio_end_ms, "item_id": event.item_id}
            case ev.InputTimedOut():
                return {
                    "audio_start_ms": event.audio_start_ms,
                    "audio_end_ms": event.audio_end_ms,
                    "item_id": event.item_id,
                }
            case ev.ResponseCreated() | ev.ResponseDone():
                return {"response": self.response_fields(event.response, echo)}
            case ev.RateLimitsUpdated():
                return {"rate_limits": list(event.limits)}
            case _:
                return self._response_part_fields(event, event_id)

    def _response_part_fields(self, event: ev.ServerEvent, event_id: str) -> _Frame:
        """Fields of the events inside a response."""
        match event:
            case ev.OutputItemAdded() | ev.OutputItemDone():
                return {
                    "response_id": event.response_id,
                    "output_index": event.output_index,
                    "item": self.item_fields(event.item),
                }
            case ev.FunctionArgumentsDelta():
                return {**_call(event), "delta": event.delta}
            case ev.FunctionArgumentsDone():
                return {**_call(event), "arguments": event.arguments, "name": event.name}
            case ev.ContentPartAdded() | ev.ContentPartDone():
                part = _stream_part(event.part)
                # Azure sends the part under both names; the older rtclient reads `content`.
                return {**_where(event), "part": part, "content": part}
            case ev.TextDelta() | ev.TranscriptDelta():
                padding = {"obfuscation": event_id[-16 + len(event.delta) % 16 :]} if self.obfuscation else {}
                return {**_where(event), "delta": event.delta, **padding}
            case ev.TextDone():
                return {**_where(event), "text": event.text}
            case ev.TranscriptDone():
                return {**_where(event), "transcript": event.transcript}
            case ev.AudioDelta():
                return {**_where(event), "delta": event.audio.decode()}
            case _:  # AudioDone tells only where
                return _where(event)

    def item_fields(self, item: ev.Item) -> _Frame:
        """A conversation item in this flavour's words."""
        fields: _Frame = {"id": item.id}
        if self.object_key:
            fields["object"] = "realtime.item"
        fields["type"] = item.type
        if item.type == "function_call_output":
            if self.object_key:
                fields["status"] = item.status or "completed"
            return {**fields, "call_id": item.call_id, "output": item.output}
        fields["status"] = item.status
        if item.type == "function_call":
            return {**fields, "name": item.name, "call_id": item.call_id, "arguments": item.arguments}
        return {**fields, "role": item.role, "content": [self._item_part(part) for part in item.content]}

    def _item_part(self, part: ev.Part) -> _Frame:
        fields: _Frame = {"type": self.dialect.part_types.get(part.type, part.type)}
        if part.type.endswith("audio"):
            if part.audio is not None:
                fields["audio"] = part.audio
            fields["transcript"] = part.transcript
        elif part.text is not None:
            fields["text"] = part.text
        return fields

    def response_fields(self, response: ev.Response, echo: Mapping[str, Any]) -> _Frame:
        """A response object in this flavour's words."""
        return {
            "object": "realtime.response",
            "id": response.id,
            "status": response.status,
            "status_details": _status_details(response),
            "output": [self.item_fields(item) for item in response.output],
            **({"conversation_id": response.conversation_id, **echo} if self.full_response else {}),
            "usage": None if response.usage is None else self._usage(response.usage),
            **({"metadata": response.metadata} if self.full_response else {}),
        }

    def _usage(self, usage: Usage) -> _Frame:
        pictures = {"image_tokens": 0} if self.image_tokens else {}
        into, out = usage.input_tokens or 0, usage.output_tokens or 0
        return {
            "total_tokens": into + out,
            "input_tokens": into,
            "output_tokens": out,
            "input_token_details": {
                "text_tokens": usage.input_text_tokens or 0,
                "audio_tokens": usage.input_audio_tokens or 0,
                **pictures,
                "cached_tokens": usage.input_cached_tokens or 0,
                "cached_tokens_details": {
                    "text_tokens": usage.input_cached_text_tokens or 0,
                    "audio_tokens": usage.input_cached_audio_tokens or 0,
                    **pictures,
                },
            },
            "output_token_details": {
                "text_tokens": usage.output_text_tokens or 0,
                "audio_tokens": usage.output_audio_tokens or 0,
            },
        }


def _where(event: Any) -> _Frame:
    return {
        "response_id": event.response_id,
        "item_id": event.item_id,
        "output_index": event.output_index,
        "content_index": event.content_index,
    }


def _call(event: ev.FunctionArgumentsDelta | ev.FunctionArgumentsDone) -> _Frame:
    return {
        "response_id": event.response_id,
        "item_id": event.item_id,
        "output_index": event.output_index,
        "call_id": event.call_id,
    }


def _stream_part(part: ev.Part) -> _Frame:
    """A part as the events of a response carry it: its type is neutral in every dialect."""
    if part.type == "audio":
        return {"type": "audio", "transcript": part.transcript or ""}
    return {"type": "text", "text": part.text or ""}


def _status_details(response: ev.Response) -> _Frame | None:
    match response.status:
        case "cancelled" | "incomplete":
            return {"type": response.status, "reason": response.reason}
        case "failed":
            return {
                "type": "failed",
                "error": {
                    "type": response.error_type or "server_error",
                    "code": response.error_code,
                    "message": response.error_message,
                },
            }
        case _:
            return None


def _client_types_without(*names: str) -> dict[str, Shape]:
    return {name: shape for name, shape in CLIENT_TYPES.items() if name not in names}


GA_SERVING = Serving(
    name="ga",
    dialect=GA,
    muted=frozenset(),
    object_key=False,
    obfuscation=True,
    image_tokens=True,
    full_response=True,
    item=item_shape(assistant_text="output_text", images=True),
    client_types=CLIENT_TYPES,
)
PREVIEW_SERVING = Serving(
    name="preview",
    dialect=PREVIEW,
    muted=frozenset(),
    object_key=True,
    obfuscation=False,
    image_tokens=False,
    full_response=True,
    item=item_shape(assistant_text="text", images=False),
    client_types=_client_types_without("session.close"),
)
# The first preview generation knew 27 event types, and its clients end the connection at any other.
PREVIEW_2024_10_SERVING = Serving(
    name="preview-2024-10",
    dialect=PREVIEW,
    muted=frozenset({ev.ConversationCreated, ev.InputTranscriptDelta, ev.ItemRetrieved}),
    object_key=True,
    obfuscation=False,
    image_tokens=False,
    full_response=False,
    item=item_shape(assistant_text="text", images=False),
    client_types=_client_types_without("session.close", "transcription_session.update", "conversation.item.retrieve"),
)
VOICE_LIVE_SERVING = Serving(
    name="voice-live",
    dialect=PREVIEW,
    muted=frozenset(),
    object_key=True,
    obfuscation=False,
    image_tokens=False,
    full_response=True,
    item=item_shape(assistant_text="text", images=True),
    client_types=_client_types_without("session.close"),
)
