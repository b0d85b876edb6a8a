"""The server's side of the dialects: events to frames, and what a client may ask, checked word by word.

What a client may put into a ``session`` or ``response`` object differs between the flavours of a dialect; those tables
stand in the simulator. Here is what is the same for every server: the frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ...records import Usage
from .. import events as ev
from .base import Dialect
from .ga import GA
from .preview import PREVIEW
from .shapes import Refusal, Shape, anything, integer, missing, one_of, optional, record, tagged, text

__all__ = [
    "CLIENT_TYPES",
    "GA_SERVING",
    "PREVIEW_2024_10_SERVING",
    "PREVIEW_SERVING",
    "VOICE_LIVE_SERVING",
    "ClientFrame",
    "FrameRefused",
    "Serving",
    "item_shape",
    "sniff_append",
]

_Frame = dict[str, Any]

# ---- what a client may ask ----

_EVENT_ID: dict[str, Shape] = {"type": anything, "event_id": optional(text(longest=512))}

_ITEM_ID = text(longest=64)


def _client_event(fields: Mapping[str, Shape] | None = None, *, required: tuple[str, ...] = ()) -> Shape:
    return record({**_EVENT_ID, **(fields or {})}, required=required)


def _object(value: Any, path: str) -> None:
    record({}, open_ended=True)(value, path)


CLIENT_TYPES: Mapping[str, Shape] = {
    "session.update": _client_event({"session": _object}, required=("session",)),
    "transcription_session.update": _client_event({"session": _object}, required=("session",)),
    "input_audio_buffer.append": _client_event({"audio": text()}, required=("audio",)),
    "input_audio_buffer.commit": _client_event(),
    "input_audio_buffer.clear": _client_event(),
    "conversation.item.create": _client_event(
        {"item": _object, "previous_item_id": optional(_ITEM_ID)}, required=("item",)
    ),
    "conversation.item.truncate": _client_event(
        {"item_id": text(), "content_index": integer(0, 1_000), "audio_end_ms": integer(0, 2**53)},
        required=("item_id", "content_index", "audio_end_ms"),
    ),
    "conversation.item.delete": _client_event({"item_id": text()}, required=("item_id",)),
    "conversation.item.retrieve": _client_event({"item_id": text()}, required=("item_id",)),
    "response.create": _client_event({"response": optional(_object)}),
    "response.cancel": _client_event({"response_id": optional(text())}),
}
"""Shape of each client event's envelope."""

_USER_PART = {
    "input_text": record({"type": anything, "text": text()}, required=("text",)),
    "input_audio": record(
        {"type": anything, "audio": optional(text()), "transcript": optional(text())}, required=("audio",)
    ),
}
_IMAGE_PART = {
    "input_image": record(
        {"type": anything, "image_url": optional(text()), "detail": optional(one_of("auto", "low", "high"))}
    )
}


def _parts(variants: Mapping[str, Shape]) -> Shape:
    part = tagged(variants)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise Refusal("invalid_type", f"Invalid type for '{path}': expected an array.", path)
        for index, entry in enumerate(value):
            part(entry, f"{path}[{index}]")

    return check


def _text_part(name: str) -> dict[str, Shape]:
    return {name: record({"type": anything, "text": text()}, required=("text",))}


def item_shape(*, assistant_text: str, images: bool) -> Shape:
    """What a client may put into a conversation.

    Args:
        assistant_text: wire type of an assistant's text in this dialect.
        images: whether user messages may hold pictures.
    """
    by_role = {
        "user": _parts({**_USER_PART, **(_IMAGE_PART if images else {})}),
        "system": _parts(_text_part("input_text")),
        "assistant": _parts(_text_part(assistant_text)),
    }
    common: dict[str, Shape] = {
        "id": optional(_ITEM_ID),
        "type": anything,
        "object": optional(text()),
        "status": optional(one_of("in_progress", "completed", "incomplete")),
    }
    envelope = record({**common, "role": one_of(*by_role), "content": anything}, required=("role", "content"))

    def message(value: Any, path: str) -> None:
        envelope(value, path)
        by_role[value["role"]](value["content"], f"{path}.content")

    return tagged(
        {
            "message": message,
            "function_call": record(
                {**common, "name": text(), "call_id": text(), "arguments": text()}, required=("name", "arguments")
            ),
            "function_call_output": record(
                {**common, "call_id": text(), "output": text()}, required=("call_id", "output")
            ),
        }
    )


@dataclass(frozen=True, slots=True)
class ClientFrame:
    """One client event whose envelope is right; ``body`` is its JSON."""

    type: str
    event_id: str | None
    body: _Frame


_APPEND_HEAD = re.compile(
    rb'\s*\{\s*(?:"event_id"\s*:\s*(?:"[^"\\\\]{0,512}"|null)\s*,\s*)?"type"\s*:\s*"input_audio_buffer\.append"\s*,'
    rb'\s*(?:"event_id"\s*:\s*(?:"[^"\\\\]{0,512}"|null)\s*,\s*)?"audio"\s*:\s*"'
)
_APPEND_TAIL = re.compile(rb"\s*\}\s*\Z")


def sniff_append(data: bytes | bytearray) -> memoryview | None:
    """The base64 of an append event without parsing JSON, or ``None`` when the frame is not plainly one.

    Plain is: type and event id before the audio, nothing after it, no escapes. An append is nineteen of twenty frames
    that a server reads, and nine tenths of it is audio.
    """
    head = _APPEND_HEAD.match(data)
    if head is None:
        return None
    end = data.find(b'"', head.end())
    if end < 0 or _APPEND_TAIL.match(data, end + 1) is None or data.find(b"\\", head.end(), end) >= 0:
        return None
    return memoryview(data)[head.end() : end]


def _event_id(body: _Frame) -> str | None:
    value = body.get("event_id")
    return value if isinstance(value, str) else None


class FrameRefused(Exception):
    """A frame that is no client event of ours; ``event_id`` is the client's, when it could be read."""

    def __init__(self, refusal: Refusal, event_id: str | None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.event_id = event_id


# ---- what a server tells ----


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
    """

    name: str
    dialect: Dialect
    muted: frozenset[type[Any]]
    object_key: bool
    obfuscation: bool
    image_tokens: bool
    full_response: bool
    item: Shape

    def read(self, data: bytes | bytearray | memoryview) -> ClientFrame:
        """The client event in a text frame, its envelope checked.

        Raises:
            FrameRefused: it is none; the refusal inside says what to answer.
        """
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise FrameRefused(Refusal("invalid_json", "The request body is not valid JSON."), None) from None
        if not isinstance(body, dict):
            raise FrameRefused(Refusal("invalid_event", "The event must be a JSON object."), None)
        event_id = _event_id(body)
        try:
            if "type" not in body:
                raise missing("type")
            one_of(*CLIENT_TYPES)(body["type"], "type")
            CLIENT_TYPES[body["type"]](body, "")
        except Refusal as refusal:
            raise FrameRefused(refusal, event_id) from None
        return ClientFrame(body["type"], event_id, body)

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
            case ev.ResponseCreated() | ev.ResponseDone():
                return {"response": self.response_fields(event.response, echo)}
            case ev.RateLimitsUpdated():
                return {"rate_limits": list(event.limits)}
            case ev.UnknownEvent():
                raise ValueError("a server does not send what it cannot name")
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
            case ev.AudioDone():
                return _where(event)
            case _:
                raise TypeError(f"no frame for {type(event).__name__}")

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


GA_SERVING = Serving(
    name="ga",
    dialect=GA,
    muted=frozenset(),
    object_key=False,
    obfuscation=True,
    image_tokens=True,
    full_response=True,
    item=item_shape(assistant_text="output_text", images=True),
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
)
