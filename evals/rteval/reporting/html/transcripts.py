"""What transcripts got wrong: the words that were most often mistaken, and the worst turns, aligned word by word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...scoring.normalize import NORMALIZERS, Normalizer, normalizer
from ...scoring.words import Alignment, align
from .wording import Number, clean, number

__all__ = ["Mistake", "Mistakes", "Worst", "mistakes_of", "worst_turns"]

WORST = 15
MAX_STRETCHES = 400
MOST_COMPARED = 1000
"""Turns with errors that are looked through for pairs that are alike; worst first."""

MOST_ALIGNED = 2000
"""Turns with errors whose words are counted; worst first."""

FREQUENT = 15
AS_IT_IS = normalizer("none")


@dataclass(frozen=True, slots=True)
class Worst:
    """One turn with word errors.

    Attributes:
        wer: word error rate of this turn.
        stretches: the alignment; adjacent equal words are one stretch.
        reference, text: both as they were before the normaliser.
        times: how many turns have this reference and this transcript; the first of them is shown.
    """

    item: str
    session: str
    turn: int
    variant: str | None
    wer: Number
    errors: int
    words: int
    stretches: tuple[Alignment, ...]
    reference: str
    text: str
    times: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """One word that was mistaken in the same way in several places.

    Attributes:
        kind: ``substitute``, ``delete`` or ``insert``.
        said, heard: word of the reference and of the transcript; empty where there is none.
        count: how often.
        turns: in how many turns.
        example: session and turn of the first of them.
    """

    kind: str
    said: str
    heard: str
    count: int
    turns: int
    example: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The most frequent mistakes.

    Attributes:
        rows: most frequent first.
        different: how many different ones there are.
        aligned, turns: turns whose words were counted, of all that have an error.
    """

    rows: tuple[Mistake, ...]
    different: int
    aligned: int
    turns: int


def mistakes_of(turns: pd.DataFrame, side: str) -> Mistakes | None:
    """Return which words were most often mistaken for which; arguments as those of ``worst_turns``.

    A substitution is a pair of words, also where several stand side by side: the alignment pairs them in order.
    ``None``: no turn has an error.
    """
    found = _Errors.of(turns, side)
    if found is None:
        return None
    pairs = _Pairs(turns, side)
    counts: Counter[tuple[str, str, str]] = Counter()
    places: dict[tuple[str, str, str], set[int]] = {}
    chosen = [row for row in found.worst_first[:MOST_ALIGNED] if pairs.normalised(row) is not None]
    for row in chosen:
        for stretch in pairs.aligned(row):
            if stretch.kind != "equal":
                for said, heard in zip_longest(stretch.reference, stretch.text, fillvalue=""):
                    mistake = (stretch.kind, said, heard)
                    counts[mistake] += 1
                    places.setdefault(mistake, set()).add(row)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:FREQUENT]
    rows = tuple(
        Mistake(*mistake, count, len(places[mistake]), _key(turns, min(places[mistake]))) for mistake, count in ordered
    )
    return Mistakes(rows, len(counts), len(chosen), len(found.worst_first)) if rows else None


def worst_turns(turns: pd.DataFrame, side: str) -> list[Worst]:
    """Return the turns with most word errors, worst first.

    Args:
        turns: one row a turn, with the counts of ``side``.
        side: ``input`` (the reference against the API's transcription) or ``output`` (the expected answer against
            the answer's transcript).
    """
    errors = _Errors.of(turns, side)
    if errors is None:
        return []
    pairs = _Pairs(turns, side)
    alike: dict[tuple[str, str], list[int]] = {}
    for row in errors.worst_first[:MOST_COMPARED]:
        pair = pairs.normalised(row)
        if pair is not None and (pair in alike or len(alike) < WORST):
            alike.setdefault(pair, []).append(row)
    found = []
    for rows in alike.values():
        row = rows[0]
        reference, text = pairs.texts(row)
        record = turns.iloc[row]
        words = int(errors.words[row])
        found.append(
            Worst(
                item=clean(record.get("item", "")),
                session=clean(record.get("session", "")),
                turn=int(record.get("turn", 0)),
                variant=clean(record["variant"]) if isinstance(record.get("variant"), str) else None,
                wer=number(int(errors.errors[row]) / words if words else None, "ratio"),
                errors=int(errors.errors[row]),
                words=words,
                stretches=tuple(pairs.aligned(row))[:MAX_STRETCHES],
                reference=reference,
                text=text,
                times=len(rows),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Errors:
    """Word errors and reference words of every turn, and the rows that have an error; the warm-up has none."""

    errors: npt.NDArray[np.float64]
    words: npt.NDArray[np.float64]
    worst_first: list[int]

    @classmethod
    def of(cls, turns: pd.DataFrame, side: str) -> _Errors | None:
        counts = [f"{side}_{kind}" for kind in ("substitutions", "deletions", "insertions")]
        if not len(turns) or any(name not in turns for name in [*counts, f"{side}_ref_words", f"{side}_transcript"]):
            return None
        numbers = turns[[*counts, f"{side}_ref_words"]].apply(pd.to_numeric, errors="coerce")
        known = numbers.to_numpy(float, na_value=np.nan)
        errors, words = np.nan_to_num(known[:, :3].sum(axis=1)), np.nan_to_num(known[:, 3])
        if "warmup" in turns:
            errors[turns["warmup"].astype("boolean").fillna(False).to_numpy(dtype=bool)] = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(words > 0, errors / words, np.inf)
        order = np.lexsort((-rate, -errors))
        return cls(errors, words, order[: int((errors > 0).sum())].tolist())


class _Pairs:
    """Reference and transcript of every turn, each normalised once however often it occurs."""

    def __init__(self, turns: pd.DataFrame, side: str) -> None:
        nothing = [None] * len(turns)

        def column(name: str) -> list[Any]:
            return turns[name].tolist() if name in turns else nothing

        self._references = (
            column("reference") if side == "input" else [expected_answer(cell) for cell in column("expect")]
        )
        self._texts = column(f"{side}_transcript")
        names = zip(column("normalizer"), column("language"), strict=True)
        self.normalizers = [normalizer_of(name, language) for name, language in names]
        self._known: dict[tuple[str, str], str] = {}
        self._aligned: dict[tuple[str, str], list[Alignment]] = {}

    def texts(self, row: int) -> tuple[str, str]:
        """Return both texts of a turn as they were."""
        return clean(self._references[row]), clean(self._texts[row])

    def normalised(self, row: int) -> tuple[str, str] | None:
        """Return both texts of a turn as they were compared; ``None`` when one is missing."""
        if not isinstance(self._references[row], str) or not isinstance(self._texts[row], str):
            return None
        reference, text = self.texts(row)
        return self._normalised(reference, row), self._normalised(text, row)

    def aligned(self, row: int) -> list[Alignment]:
        """Return both texts of a turn aligned; the same pair is aligned once."""
        pair = self.normalised(row)
        if pair is None:
            return []
        if pair not in self._aligned:
            self._aligned[pair] = align(*pair, AS_IT_IS)
        return self._aligned[pair]

    def _normalised(self, text: str, row: int) -> str:
        normalise = self.normalizers[row]
        key = (normalise.name, text)
        if key not in self._known:
            self._known[key] = normalise(text)
        return self._known[key]


def _key(turns: pd.DataFrame, row: int) -> tuple[str, int]:
    return clean(turns["session"].iloc[row]), int(turns["turn"].iloc[row])


def expected_answer(expect: object) -> object:
    """The expected answer of a cell, which may be a mapping or its JSON."""
    if isinstance(expect, str):
        try:
            expect = json.loads(expect)
        except ValueError:
            return None
    return expect.get("answer") if isinstance(expect, Mapping) else None


def normalizer_of(name: object, language: object) -> Normalizer:
    """The normaliser that a turn was scored with, by the name in its row."""
    family = name.split("/")[0] if isinstance(name, str) else "none"
    return normalizer(family if family in NORMALIZERS else "none", language if isinstance(language, str) else None)
