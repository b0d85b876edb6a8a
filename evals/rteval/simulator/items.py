"""What a client does to the items of a conversation, and the audio that is kept of them."""

from __future__ import annotations

from typing import Any

import pybase64

from ..formats import AudioFormat
from ..realtime import events as ev
from ..realtime.dialects.shapes import Refusal
from .conversation import MAX_RETRIEVED_BYTES, Stored, stored_from_wire
from .hearing import Hearing
from .intake import Utterance
from .scope import Scope

__all__ = ["Items"]


class Items:
    """The items of one session's conversation."""

    def __init__(self, scope: Scope, hearing: Hearing) -> None:
        self._scope = scope
        self._hearing = hearing
        self._conversation = scope.conversation

    def create(self, body: dict[str, Any], previous_item_id: str | None, fmt: AudioFormat) -> None:
        """Put a client's item into the conversation; audio in it is taken to be in ``fmt``."""
        self._scope.outlet.serving.item(body, "item")
        if body["type"] == "function_call_output" and not self._conversation.has_call(body["call_id"]):
            raise Refusal(
                "invalid_tool_call_id",
                f"No function was called under the id '{body['call_id']}' in this conversation.",
                "item.call_id",
            )
        stored, audio = self._stored(body, fmt, "item")
        before = self._conversation.add(stored, previous_item_id)
        if audio is not None:
            self._hear(stored, audio, fmt)
        self._scope.outlet.tell_item(stored.item, before)

    def delete(self, item_id: str) -> None:
        """Take an item out."""
        stored = self._conversation.find(item_id, "item_delete_invalid_item_id")
        del self._conversation.items[stored.id]
        self._scope.outlet.tell(ev.ItemDeleted(item_id=stored.id))

    def retrieve(self, item_id: str) -> None:
        """Show an item as it is held, with its audio."""
        stored = self._conversation.find(item_id, "item_retrieve_invalid_item_id")
        self._scope.outlet.tell(ev.ItemRetrieved(item=stored.item_with_audio))

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an answer where the caller stopped hearing it; its transcript goes, since it says too much."""
        stored = self._conversation.find(item_id, "item_truncate_invalid_item_id")
        if stored.role != "assistant" or stored.kind != "audio" or content_index != 0 or not stored.audio_ms:
            raise Refusal("unsupported_content_type", "Only model output audio messages can be truncated")
        if audio_end_ms > stored.audio_ms + 1:
            raise Refusal(
                "invalid_value",
                f"Audio content of {stored.audio_ms:.0f}ms is already shorter than {audio_end_ms}ms",
                "audio_end_ms",
            )
        stored.audio_ms = float(audio_end_ms)
        stored.transcript = ""
        stored.audio = []
        self._scope.outlet.tell(
            ev.ItemTruncated(item_id=stored.id, content_index=content_index, audio_end_ms=audio_end_ms)
        )

    def context(self, given: list[Any] | None, fmt: AudioFormat) -> list[Stored]:
        """The items that a response sees: those that the client named, or else the conversation."""
        if given is None:
            return list(self._conversation.items.values())
        context = []
        for index, body in enumerate(given):
            if body.get("type") == "item_reference":
                context.append(self._conversation.find(str(body.get("id")), "item_reference_invalid_item_id"))
                continue
            path = f"response.input[{index}]"
            self._scope.outlet.serving.item(body, path)
            stored, audio = self._stored(body, fmt, path)
            if audio is not None:
                self._hear(stored, audio, fmt)
            context.append(stored)
        return context

    def keep(self, stored: Stored, audio: bytes) -> None:
        """Hold an item's audio for a client that asks for it, unless it is too much for a frame."""
        if len(audio) <= MAX_RETRIEVED_BYTES:
            stored.audio = [pybase64.b64encode_as_string(audio)]
            self._conversation.keep_audio(stored)

    def _stored(self, body: dict[str, Any], fmt: AudioFormat, path: str) -> tuple[Stored, bytes | None]:
        """A client's item (which stood at ``path``) and, where it holds any, its audio."""
        stored = stored_from_wire(body, body.get("id") or self._scope.new_id("item_"))
        if stored.kind != "audio" or not any(stored.audio):
            return stored, None
        path = f"{path}.content[0].audio"
        try:
            audio = pybase64.b64decode(stored.audio[0], validate=True)
        except ValueError:
            raise Refusal("invalid_value", f"Invalid '{path}': expected valid base64.", path) from None
        stored.audio_ms = 1000 * fmt.seconds(len(audio))
        return stored, audio

    def _hear(self, stored: Stored, audio: bytes, fmt: AudioFormat) -> None:
        stored.audio = []
        self.keep(stored, audio)
        arrivals = ((len(audio), self._scope.timers.now_ns),)
        self._hearing.listen(stored, Utterance(audio, fmt, 0.0, arrivals))
