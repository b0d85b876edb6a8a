"""What a client may ask of a realtime server, checked word by word, the same in every dialect but for its items.

What may stand in a ``session`` or ``response`` object differs between the flavours of a dialect; those tables stand in
the simulator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .shapes import Refusal, Shape, anything, integer, list_of, missing, one_of, optional, record, tagged, text

__all__ = ["CLIENT_TYPES", "ClientFrame", "FrameRefused", "item_shape", "read_client_frame", "sniff_append"]

_Frame = dict[str, Any]

_EVENT_ID: dict[str, Shape] = {"type": anything, "event_id": optional(text(longest=512))}

_ITEM_ID = text(longest=64)


def _client_event(fields: Mapping[str, Shape] | None = None, *, required: tuple[str, ...] = ()) -> Shape:
    return record({**_EVENT_ID, **(fields or {})}, required=required)


def _object(value: Any, path: str) -> None:
    record({}, open_ended=True)(value, path)


CLIENT_TYPES: Mapping[str, Shape] = {
    "session.update": _client_event({"session": _object}, required=("session",)),
    "transcription_session.update": _client_event({"session": _object}, required=("session",)),
    "session.close": _client_event(),
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
"""Shape of each client event's envelope; no flavour but GA knows all of them."""

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
    return list_of(tagged(variants))


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


def read_client_frame(data: bytes | bytearray | memoryview, types: Mapping[str, Shape] = CLIENT_TYPES) -> ClientFrame:
    """The client event in a text frame, its envelope checked.

    Args:
        data: the frame.
        types: the events that this flavour knows.

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
        one_of(*types)(body["type"], "type")
        types[body["type"]](body, "")
    except Refusal as refusal:
        raise FrameRefused(refusal, event_id) from None
    return ClientFrame(body["type"], event_id, body)
