"""The turns whose transcripts differ most from what was said, aligned word by word with the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...scoring.normalize import NORMALIZERS, Normalizer, normalizer
from ...scoring.words import Alignment, align
from .wording import Number, clean, number

__all__ = ["Worst", "worst_turns"]

WORST = 15
MAX_STRETCHES = 400
MOST_COMPARED = 1000
"""Turns with errors that are looked through for pairs that are alike; worst first."""


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
    wer: Number
    errors: int
    words: int
    stretches: tuple[Alignment, ...]
    reference: str
    text: str
    times: int


def worst_turns(turns: pd.DataFrame, side: str) -> list[Worst]:
    """Return the turns with most word errors, worst first.

    Args:
        turns: one row a turn, with the counts of ``side``.
        side: ``input`` (the reference against the API's transcription) or ``output`` (the expected answer against
            the answer's transcript).
    """
    counts = [f"{side}_{kind}" for kind in ("substitutions", "deletions", "insertions")]
    if not len(turns) or any(name not in turns for name in [*counts, f"{side}_ref_words", f"{side}_transcript"]):
        return []
    numbers = (
        turns[[*counts, f"{side}_ref_words"]].apply(pd.to_numeric, errors="coerce").to_numpy(float, na_value=np.nan)
    )
    errors, words = numbers[:, :3].sum(axis=1), numbers[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(words > 0, errors / words, np.inf)
    if "warmup" in turns:
        errors[turns["warmup"].astype("boolean").fillna(False).to_numpy(dtype=bool)] = 0
    pairs = _Pairs(turns, side)
    alike: dict[tuple[str, str], list[int]] = {}
    order = np.lexsort((-rate, -np.nan_to_num(errors)))
    for row in order[:MOST_COMPARED]:
        if not errors[row] > 0:
            break
        pair = pairs.normalised(int(row))
        if pair is not None and (pair in alike or len(alike) < WORST):
            alike.setdefault(pair, []).append(int(row))
    found = []
    for rows in alike.values():
        row = rows[0]
        reference, text = pairs.texts(row)
        record = turns.iloc[row]
        found.append(
            Worst(
                item=clean(record.get("item", "")),
                session=clean(record.get("session", "")),
                turn=int(record.get("turn", 0)),
                wer=number(float(rate[row]) if words[row] else None, "ratio"),
                errors=int(errors[row]),
                words=int(words[row]),
                stretches=tuple(align(reference, text, pairs.normalizers[row]))[:MAX_STRETCHES],
                reference=reference,
                text=text,
                times=len(rows),
            )
        )
    return found


class _Pairs:
    """Reference and transcript of every turn, each normalised once however often it occurs."""

    def __init__(self, turns: pd.DataFrame, side: str) -> None:
        nothing = [None] * len(turns)

        def column(name: str) -> list[Any]:
            return turns[name].tolist() if name in turns else nothing

        self._references = column("reference") if side == "input" else [_answer(cell) for cell in column("expect")]
        self._texts = column(f"{side}_transcript")
        names = zip(column("normalizer"), column("language"), strict=True)
        self.normalizers = [_normalizer(name, language) for name, language in names]
        self._known: dict[tuple[str, str], str] = {}

    def texts(self, row: int) -> tuple[str, str]:
        """Return both texts of a turn as they were."""
        return clean(self._references[row]), clean(self._texts[row])

    def normalised(self, row: int) -> tuple[str, str] | None:
        """Return both texts of a turn as they were compared; ``None`` when one is missing."""
        if not isinstance(self._references[row], str) or not isinstance(self._texts[row], str):
            return None
        reference, text = self.texts(row)
        return self._normalised(reference, row), self._normalised(text, row)

    def _normalised(self, text: str, row: int) -> str:
        normalise = self.normalizers[row]
        key = (normalise.name, text)
        if key not in self._known:
            self._known[key] = normalise(text)
        return self._known[key]


def _answer(expect: object) -> object:
    """The expected answer of a cell, which may be a mapping or its JSON."""
    if isinstance(expect, str):
        try:
            expect = json.loads(expect)
        except ValueError:
            return None
    return expect.get("answer") if isinstance(expect, Mapping) else None


def _normalizer(name: object, language: object) -> Normalizer:
    """The normaliser that a turn was scored with, by the name in its row."""
    family = name.split("/")[0] if isinstance(name, str) else "none"
    return normalizer(family if family in NORMALIZERS else "none", language if isinstance(language, str) else None)
