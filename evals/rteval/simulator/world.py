"""What the sessions of one server share: the behaviour, the datasets that it knows, quotas, and the truth file."""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..corpus import Dataset, Item
from .behaviour import Behaviour
from .truth import TruthLine

__all__ = ["Recognised", "World"]

MINUTE_NS = 60_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What the server made of one utterance.

    Attributes:
        item: the dataset item that it is, or ``None``.
        transcript: what a transcription says, word errors included; ``""`` for audio that nothing is like.
        ref_words, word_errors: the server's own count against the item's reference; ``None`` without one.
        voice_end_ms: end of the last voiced sample, from the utterance's start; ``None`` when nothing is voiced.
    """

    item: Item | None = None
    transcript: str = ""
    ref_words: int | None = None
    word_errors: int | None = None
    voice_end_ms: float | None = None


class World:
    """One server's surroundings.

    Args:
        behaviour: what it does.
        datasets: what its callers read from.
        truth: takes finished truth lines.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        datasets: Iterable[Dataset] = (),
        truth: Callable[[TruthLine], None] = lambda line: None,
    ) -> None:
        self.behaviour = behaviour
        self.truth = truth
        self._prompts = {
            _plain(item.text): item for dataset in datasets for item in dataset.items if item.text is not None
        }
        self._times: Counter[tuple[str, str]] = Counter()
        self._connects: deque[int] = deque()
        self._requests: deque[int] = deque()
        self._tokens: deque[tuple[int, int]] = deque()

    def prompt_item(self, text: str) -> Item | None:
        """The dataset's text prompt that this is."""
        return self._prompts.get(_plain(text))

    def rng(self, use: str, key: str) -> random.Random:
        """Random numbers for the n-th time that ``key`` is used so: they depend on n, not on the order of events."""
        times = (use, key)
        self._times[times] += 1
        return self.behaviour.rng(use, key, self._times[times])

    def admit_connect(self, now_ns: int) -> int | None:
        """Count a connection; the seconds to wait when the quota has no room for it."""
        limits = self.behaviour.rate_limits
        if limits.connects_per_minute is None:
            return None
        _forget(self._connects, now_ns)
        if len(self._connects) < limits.connects_per_minute:
            self._connects.append(now_ns)
            return None
        if limits.retry_after_s is not None:
            return limits.retry_after_s
        return max(1, -(-(self._connects[0] + MINUTE_NS - now_ns) // 1_000_000_000))

    def admit_response(self, now_ns: int) -> bool:
        """Count a response; whether the quota has room for it."""
        limit = self.behaviour.rate_limits.requests_per_minute
        _forget(self._requests, now_ns)
        if limit is not None and len(self._requests) >= limit:
            return False
        self._requests.append(now_ns)
        return True

    def spend(self, now_ns: int, tokens: int) -> None:
        """Count the tokens of a response."""
        self._tokens.append((now_ns, tokens))
        while self._tokens[0][0] <= now_ns - MINUTE_NS:
            self._tokens.popleft()

    def limits(self, now_ns: int) -> tuple[dict[str, Any], ...]:
        """The entries of ``rate_limits.updated``."""
        limits = self.behaviour.rate_limits
        if limits.entries == "none":
            return ()
        while self._tokens and self._tokens[0][0] <= now_ns - MINUTE_NS:
            self._tokens.popleft()
        spent = sum(tokens for _, tokens in self._tokens)
        oldest = self._tokens[0][0] if self._tokens else None
        entries = [_entry("tokens", limits.tokens_per_minute, spent, oldest, now_ns)]
        if limits.entries == "all":
            oldest = self._requests[0] if self._requests else None
            limit = limits.requests_per_minute or 1_000
            entries.insert(0, _entry("requests", limit, len(self._requests), oldest, now_ns))
        return tuple(entries)


def _entry(name: str, limit: int, used: int, oldest_ns: int | None, now_ns: int) -> dict[str, Any]:
    reset_s = 0.0 if oldest_ns is None else max(0.0, (oldest_ns + MINUTE_NS - now_ns) / 1e9)
    return {"name": name, "limit": limit, "remaining": max(0, limit - used), "reset_seconds": round(reset_s, 3)}


def _forget(stamps: deque[int], now_ns: int) -> None:
    while stamps and stamps[0] <= now_ns - MINUTE_NS:
        stamps.popleft()


def _plain(text: str) -> str:
    """A prompt without what a client may change about it: case of letters and blanks."""
    return re.sub(r"\s+", " ", text).strip().casefold()
