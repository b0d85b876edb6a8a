"""What makes a dialect, and the frames that are the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import orjson

from .. import events as ev
from .frames import decode

__all__ = ["Dialect", "UnsupportedSettingError"]


class UnsupportedSettingError(ValueError):
    """A session setting that the dialect has no place for; ``str()`` is the setting's name."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format.

    Attributes:
        name: as scenarios write it.
        server_names: wire type of each server event; ``None`` where the dialect does not have it.
        part_types: wire type of each neutral content part in conversation items.
        session: renders session settings as the ``session`` object of a ``session.update``.
    """

    name: str
    server_names: Mapping[type[Any], str | None]
    part_types: Mapping[str, str]
    session: Callable[[ev.SessionSettings], dict[str, Any]]

    def decode(self, frame: bytes | bytearray) -> ev.ServerEvent:
        """The event that a server's text frame tells. Never raises: what cannot be read is an ``UnknownEvent``."""
        return decode(frame)

    def encode(self, event: ev.ClientEvent) -> bytes:
        """The text frame (UTF-8 JSON) that asks for ``event``.

        Raises:
            UnsupportedSettingError: the dialect cannot carry a session setting.
        """
        return orjson.dumps(self._body(event))

    def _body(self, event: ev.ClientEvent) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if event.event_id is not None:
            body["event_id"] = event.event_id
        match event:
            case ev.UpdateSession():
                return {"type": "session.update", **body, "session": self.session(event.settings)}
            case ev.AppendAudio():
                return {"type": "input_audio_buffer.append", **body, "audio": event.audio}
            case ev.CommitAudio():
                return {"type": "input_audio_buffer.commit", **body}
            case ev.ClearAudio():
                return {"type": "input_audio_buffer.clear", **body}
            case ev.CreateItem():
                if event.previous_item_id is not None:
                    body["previous_item_id"] = event.previous_item_id
                return {"type": "conversation.item.create", **body, "item": self.item(event.item)}
            case ev.TruncateItem():
                return {
                    "type": "conversation.item.truncate",
                    **body,
                    "item_id": event.item_id,
                    "content_index": event.content_index,
                    "audio_end_ms": event.audio_end_ms,
                }
            case ev.DeleteItem():
                return {"type": "conversation.item.delete", **body, "item_id": event.item_id}
            case ev.RetrieveItem():
                return {"type": "conversation.item.retrieve", **body, "item_id": event.item_id}
            case ev.CreateResponse():
                if event.response is not None:
                    body["response"] = event.response
                return {"type": "response.create", **body}
            case ev.CancelResponse():
                if event.response_id is not None:
                    body["response_id"] = event.response_id
                return {"type": "response.cancel", **body}
            case _:
                assert_never(event)

    def item(self, item: ev.Item) -> dict[str, Any]:
        """A conversation item in this dialect's words; absent fields are left out."""
        fields = {
            "id": item.id,
            "type": item.type,
            "status": item.status,
            "role": item.role,
            "content": [self.part(part) for part in item.content] if item.type == "message" else None,
            "name": item.name,
            "call_id": item.call_id,
            "arguments": item.arguments,
            "output": item.output,
        }
        return {key: value for key, value in fields.items() if value is not None}

    def part(self, part: ev.Part) -> dict[str, Any]:
        """A content part of an item in this dialect's words; absent fields are left out."""
        fields = {
            "type": self.part_types.get(part.type, part.type),
            "text": part.text,
            "transcript": part.transcript,
            "audio": part.audio,
        }
        return {key: value for key, value in fields.items() if value is not None}
