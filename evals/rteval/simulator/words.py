"""Words of a reference: when each is said, which of them arrived, how they come out wrong, and how to count that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .blocks import LOST_BLOCKS, Mask, closed, edges

__all__ = ["WORDS", "arrived_words", "count_word_errors", "spread", "with_errors"]

Floats = npt.NDArray[np.float64]

# A gap of 150 ms is a pause between words; a shorter one may be a stop within one.
PAUSE_BLOCKS = 15
# How many blocks nearer a pause seems to a word that ends with punctuation.
PUNCTUATION_BLOCKS = 25.0

# Words for errors: each is itself after the normalisers, and none is a number, a filler or a form of another.
WORDS = (
    "apple", "basket", "candle", "desert", "engine", "feather", "garden", "hammer", "island", "jacket", "kettle",
    "ladder", "marble", "needle", "orange", "pepper", "quarry", "ribbon", "saddle", "tunnel", "velvet", "window",
)  # fmt: skip


def spread(words: Sequence[str], sounding: Mask) -> tuple[tuple[int, int], ...]:
    """In which blocks each word lies: by its share of the letters, with word borders moved into near pauses."""
    active = np.flatnonzero(sounding)
    if not len(active) or not words:
        return tuple((0, 0) for _ in words)
    # Time that counts: everything but pauses.
    speech = closed(sounding, PAUSE_BLOCKS - 1)
    speech[: active[0]] = False
    speech[active[-1] + 1 :] = False
    clock = np.flatnonzero(speech)
    letters = np.array([len(word) + 1 for word in words], float)
    borders = np.concatenate(([0.0], np.cumsum(letters) / letters.sum())) * len(clock)
    # Where each pause lies on that clock.
    pauses = np.flatnonzero(np.diff(clock) > 1) + 1
    borders = _snapped(borders, pauses, [word[-1:] in ",.;:?!-" for word in words])
    starts = [int(clock[min(int(border), len(clock) - 1)]) for border in borders[:-1]]
    ends = [int(clock[max(int(border) - 1, 0)]) + 1 for border in borders[1:]]
    return tuple(zip(starts, ends, strict=True))


def _snapped(
    borders: npt.NDArray[np.float64], pauses: npt.NDArray[np.int64], stops: Sequence[bool]
) -> npt.NDArray[np.float64]:
    """Borders between words, each pause having drawn the border it fits best; what lies between moves along."""
    inner = len(borders) - 2
    if inner <= 0 or not len(pauses):
        return np.rint(borders)
    # cost[p][b]: the p-th pause takes the b-th inner border; pauses and borders keep their order.
    distance = np.abs(borders[1:-1][None, :] - pauses[:, None])
    distance -= np.where(stops[:-1], PUNCTUATION_BLOCKS, 0.0)[None, :]
    take = min(len(pauses), inner)
    pauses, distance = pauses[:take], distance[:take]
    cost = np.full((take, inner), np.inf)
    cost[0] = distance[0]
    for pause in range(1, take):
        cost[pause, 1:] = distance[pause, 1:] + np.minimum.accumulate(cost[pause - 1])[:-1]
    anchors = []
    last = inner
    for pause in range(take - 1, -1, -1):
        last = int(np.argmin(cost[pause, :last]))
        anchors.append((last + 1, int(pauses[pause])))
    old = [0.0, *(float(borders[border]) for border, _ in reversed(anchors)), float(borders[-1])]
    new = [0.0, *(float(place) for _, place in reversed(anchors)), float(borders[-1])]
    return np.rint(np.interp(borders, old, new))


def arrived_words(words: Sequence[tuple[int, int]], sounding: Mask, found: Mask) -> tuple[bool, ...]:
    """For each word whether its sound was found; every lost stretch of 50 ms or more costs at least one word."""
    lost = sounding & ~found
    audible = np.flatnonzero(sounding)
    arrived = []
    for start, end in words:
        sound, missing = int(sounding[start:end].sum()), int(lost[start:end].sum())
        if sound:
            arrived.append(missing < LOST_BLOCKS and missing * 2 <= sound)
        else:  # too quiet to tell: as the sound nearest to it
            nearest = audible[np.argmin(np.abs(audible - start))] if len(audible) else 0
            arrived.append(bool(found[nearest]))
    for start, end in zip(*edges(closed(lost, 5)), strict=True):
        if int(lost[start:end].sum()) < LOST_BLOCKS or not arrived:
            continue
        shares = [int(lost[max(start, a) : max(min(end, b), start, a)].sum()) for a, b in words]
        if all(arrived[number] for number, share in enumerate(shares) if share):
            arrived[int(np.argmax(shares))] = False
    return tuple(arrived)


def with_errors(words: Sequence[str], rng: random.Random, rate: float) -> Iterator[str]:
    """The words, each wrong with probability ``rate``: six in ten substituted, a quarter deleted, the rest inserted."""
    for word in words:
        if rng.random() >= rate:
            yield word
            continue
        kind = rng.random()
        if kind < 0.6:
            yield rng.choice([other for other in WORDS if other not in word.lower()])
        elif kind >= 0.85:
            yield word
            yield rng.choice(WORDS)


def count_word_errors(reference: str, transcript: str, normalise: Callable[[str], str]) -> tuple[int, int]:
    """Words of the reference, and the least word substitutions, deletions and insertions that make it the transcript.

    Both are normalised first. Counted here, by the textbook's recurrence (R. Wagner and M. Fischer, 1974), so that a
    client's count can be checked against another's.
    """
    wanted, got = normalise(reference).split(), normalise(transcript).split()
    row = list(range(len(got) + 1))
    for line, word in enumerate(wanted, start=1):
        diagonal, row[0] = row[0], line
        for column, other in enumerate(got, start=1):
            diagonal, row[column] = (
                row[column],
                min(diagonal + (word != other), row[column] + 1, row[column - 1] + 1),
            )
    return len(wanted), row[-1]
