"""The items of one conversation: their order, what they hold, and how many tokens that is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pybase64

from ..realtime.dialects.shapes import Refusal
from ..realtime.events import Item, Part
from .behaviour import Usage

__all__ = ["Conversation", "Stored", "Tokens", "stored_from_wire", "text_tokens", "total"]

LETTERS_PER_TOKEN = 4
MAX_RETRIEVED_BYTES = 750_000
# Base64 of its items' audio that a conversation keeps for conversation.item.retrieve.
KEPT_AUDIO_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of tokens of each kind."""

    text: int = 0
    audio: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        """Both together."""
        return Tokens(self.text + other.text, self.audio + other.audio)

    @property
    def total(self) -> int:
        """Tokens of both kinds."""
        return self.text + self.audio


def text_tokens(text: str | None) -> int:
    """Tokens of a text; an empty one has none."""
    return math.ceil(len(text) / LETTERS_PER_TOKEN) if text else 0


@dataclass(slots=True, kw_only=True)
class Stored:
    """One item as the server keeps it.

    Attributes:
        text: of a text part, or of a call: its arguments; of a call's output: the output.
        transcript: of an audio part; ``None`` where there is none (yet).
        kind: ``text`` or ``audio``, the kind of its one content part; ``None`` for an item without content.
        audio_ms: length of its audio.
        audio: pieces of base64 that make its audio, while it is kept.
        other_parts: what a client put in beside the first part, without audio.
    """

    id: str
    type: str = "message"
    role: str | None = None
    status: str = "completed"
    kind: str | None = None
    text: str = ""
    transcript: str | None = None
    audio_ms: float = 0.0
    audio: list[str] = field(default_factory=list)
    name: str | None = None
    call_id: str | None = None
    other_parts: tuple[Part, ...] = ()

    @property
    def item(self) -> Item:
        """The item in neutral words, without its audio."""
        return self._item(audio=None)

    @property
    def item_with_audio(self) -> Item:
        """The item in neutral words, with its audio where that is kept."""
        whole = b"".join(pybase64.b64decode(piece) for piece in self.audio)
        # A frame with more than this would pass 1 MiB, which is where older clients hang up.
        fits = 0 < len(whole) <= MAX_RETRIEVED_BYTES
        return self._item(audio=pybase64.b64encode_as_string(whole) if fits else None)

    def _item(self, *, audio: str | None) -> Item:
        if self.type == "function_call":
            return Item(
                id=self.id,
                type=self.type,
                status=self.status,
                name=self.name,
                call_id=self.call_id,
                arguments=self.text,
            )
        if self.type == "function_call_output":
            return Item(id=self.id, type=self.type, call_id=self.call_id, output=self.text)
        return Item(
            id=self.id, status=self.status, role=self.role, content=(*self._first_part(audio), *self.other_parts)
        )

    def _first_part(self, audio: str | None) -> tuple[Part, ...]:
        if self.kind is None:
            return ()
        prefix = "" if self.role == "assistant" else "input_"
        if self.kind == "audio":
            return (Part(type=f"{prefix}audio", transcript=self.transcript, audio=audio),)
        return (Part(type=f"{prefix}text", text=self.text),)

    def tokens(self, rates: Usage) -> Tokens:
        """What it adds to the input of a response."""
        words = text_tokens(self.text) + sum(text_tokens(part.text) for part in self.other_parts)
        if self.kind != "audio":
            return Tokens(text=words + text_tokens(self.name))
        if self.role == "assistant":
            audio = math.ceil(self.audio_ms / 1000 * rates.output_audio_tokens_per_s)
            return Tokens(text=words + text_tokens(self.transcript), audio=audio)
        return Tokens(text=words, audio=math.ceil(self.audio_ms / 1000 * rates.input_audio_tokens_per_s))


def stored_from_wire(body: Mapping[str, Any], item_id: str) -> Stored:
    """An item that a client made, its shape already checked; input audio in it is left to the caller."""
    if body["type"] == "function_call":
        return Stored(
            id=item_id,
            type="function_call",
            name=body["name"],
            call_id=body.get("call_id") or f"call_{item_id[-16:]}",
            text=body["arguments"],
        )
    if body["type"] == "function_call_output":
        return Stored(id=item_id, type="function_call_output", call_id=body["call_id"], text=body["output"])
    role = body["role"]
    parts = [_part(part) for part in body["content"]]
    stored = Stored(
        id=item_id,
        role=role,
        status=body.get("status") or "completed",
        other_parts=tuple(replace(part, audio=None) for part in parts[1:]),
    )
    if parts:
        first = parts[0]
        if first.type in ("text", "input_text"):
            stored.kind, stored.text = "text", first.text or ""
        elif first.type == "input_audio":
            stored.kind, stored.transcript, stored.audio = "audio", first.transcript, [first.audio or ""]
        else:
            stored.other_parts = tuple(parts)
    return stored


def _part(body: Mapping[str, Any]) -> Part:
    kind = {"output_text": "text"}.get(body["type"], body["type"])
    return Part(type=kind, text=body.get("text"), transcript=body.get("transcript"), audio=body.get("audio"))


@dataclass(slots=True)
class Conversation:
    """The default conversation of a session.

    Attributes:
        id: its ``conv_...`` id.
        items: its items by id, in order.
    """

    id: str
    items: dict[str, Stored] = field(default_factory=dict)
    _kept: deque[Stored] = field(default_factory=deque)

    @property
    def last_id(self) -> str | None:
        """The id of its last item."""
        return next(reversed(self.items), None)

    def add(self, stored: Stored, previous_item_id: str | None = None) -> str | None:
        """Put an item after another one, at the start (``"root"``) or at the end (``None``).

        Returns:
            The id of the item that now stands before it.

        Raises:
            Refusal: the id is taken, or the item to follow is not there.
        """
        if stored.id in self.items:
            raise Refusal(
                "item_create_duplicate_item_id", f"An item with the id '{stored.id}' already exists.", "item.id"
            )
        if previous_item_id is None:
            before = self.last_id
            self.items[stored.id] = stored
            return before
        if previous_item_id == "root":
            self.items = {stored.id: stored, **self.items}
            return None
        if previous_item_id not in self.items:
            raise Refusal(
                "item_create_invalid_previous_item_id",
                f"There is no item with the id '{previous_item_id}' to follow.",
                "previous_item_id",
            )
        order = list(self.items)
        order.insert(order.index(previous_item_id) + 1, stored.id)
        self.items = {item_id: self.items.get(item_id, stored) for item_id in order}
        return previous_item_id

    def keep_audio(self, stored: Stored) -> None:
        """Hold an item's audio for a client that asks for it, and let go of the oldest."""
        if stored.audio:
            self._kept.append(stored)
        while sum(len(piece) for kept in self._kept for piece in kept.audio) > KEPT_AUDIO_CHARS:
            self._kept.popleft().audio.clear()

    def find(self, item_id: str, code: str) -> Stored:
        """The item with an id.

        Raises:
            Refusal: with ``code``: there is none.
        """
        stored = self.items.get(item_id)
        if stored is None:
            raise Refusal(code, f"There is no item with the id '{item_id}'.", "item_id")
        return stored

    def has_call(self, call_id: str) -> bool:
        """Whether a function was called under this id."""
        return any(item.type == "function_call" and item.call_id == call_id for item in self.items.values())


def total(items: Iterable[Stored], rates: Usage) -> Tokens:
    """What several items add to the input of a response."""
    return sum((item.tokens(rates) for item in items), Tokens())
