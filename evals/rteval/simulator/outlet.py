"""Where a session's events become frames: ids, the dialect, and what the driver is to do, in order."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..realtime import events as ev
from ..realtime.dialects.serving import Serving
from ..realtime.dialects.shapes import Refusal
from .intake import Utterance

__all__ = ["Close", "Drop", "Effect", "Hear", "Outlet", "Send", "make_id"]

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Send:
    """Write a frame; ``stamp`` is told the time just before."""

    data: bytes
    stamp: Callable[[int], None] | None = None
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with a close frame."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """End the connection without one."""


@dataclass(frozen=True, slots=True)
class Hear:
    """Recognise what was said, and tell the session with ``heard()``."""

    item_id: str
    utterance: Utterance


Effect = Send | Close | Drop | Hear


def make_id(prefix: str, rng: random.Random) -> str:
    """An id as the services make them: the prefix and 21 letters and digits."""
    return prefix + "".join(rng.choices(_ALPHABET, k=21))


class Outlet:
    """What one session wants done.

    Args:
        serving: the flavour that its client understands.
        rng: source of the ids.
    """

    def __init__(self, serving: Serving, rng: random.Random) -> None:
        self.serving = serving
        self.effects: list[Effect] = []
        self.muted = False
        self._rng = rng
        self._stem = make_id("event_", rng)[:-8]
        self._told = 0

    def event_id(self) -> str:
        """A new id; unique in the connection, and in the process as far as chance goes."""
        self._told += 1
        return f"{self._stem}{self._told:08x}"

    def tell(
        self,
        event: ev.ServerEvent,
        *,
        echo: Mapping[str, Any] | None = None,
        stamp: Callable[[int], None] | None = None,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Send an event, unless the flavour does not have it.

        Args:
            event: what happened.
            echo: of a response: its settings on the wire.
            stamp: is told the time just before the frame is written.
            change: bends the frame before it is written (faults).
        """
        if self.muted:
            return
        frame = self.serving.encode(event, self.event_id(), echo=echo)
        if frame is None:
            return
        if change is not None:
            change(frame)
        self.effects.append(Send(orjson.dumps(frame), stamp))

    def tell_item(self, item: ev.Item, before: str | None) -> None:
        """Say that a whole item entered the conversation after the item ``before``."""
        self.tell(ev.ItemAdded(item=item, previous_item_id=before))
        self.tell(ev.ItemDone(item=item, previous_item_id=before))

    def tell_audio(self, delta: ev.AudioDelta, stamp: Callable[[int], None] | None = None) -> None:
        """Send an audio delta."""
        if not self.muted:
            self.effects.append(Send(self.serving.encode_audio_delta(delta, self.event_id()), stamp))

    def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        """Send a frame as it is (faults)."""
        if not self.muted:
            self.effects.append(Send(data, binary=binary))

    def refuse(self, refusal: Refusal, client_event_id: str | None = None) -> None:
        """Send an ``error`` event."""
        self.tell(
            ev.ErrorReported(
                type=refusal.type,
                code=refusal.code,
                message=refusal.message,
                param=refusal.param,
                client_event_id=client_event_id,
            )
        )

    def end(self, effect: Close | Drop) -> None:
        """End the connection; nothing is said after it."""
        if not self.muted:
            self.effects.append(effect)
            self.muted = True

    def hear(self, item_id: str, utterance: Utterance) -> None:
        """Ask for the recognition of an utterance (muted or not: the truth file wants it)."""
        self.effects.append(Hear(item_id, utterance))
