"""What happened in each turn and when, small enough for ten thousand turns: anchors, and arrivals of deltas as text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...records import DeltaKind

__all__ = ["DIGITS", "STEPS_MS", "Arrivals", "anchors", "base_ns", "written"]

ANCHORS = ("due_ns", "started_ns", "committed_ns", "create_ns", "response_created_ns", "last_audio_ns")
"""Anchors that no duration of the turn table gives already, as ``endpoint_ms`` gives ``speech_stopped_ns``."""

STEPS_MS = (1, 2, 5, 10, 20, 50, 100)
"""To how many milliseconds arrivals are rounded; the first at which all of them find room."""

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""A digit holds five bits, and a sixth that says whether another one follows; the lowest come first."""

SHORT = 1 << 10

Moments = npt.NDArray[np.float64]


def base_ns(turns: pd.DataFrame) -> Moments:
    """Return the moment that each turn's times are counted from: the end of speech, else its start, else when due."""
    base = np.full(len(turns), np.nan)
    for name in ("speech_end_ns", "started_ns", "due_ns"):
        if name in turns:
            base = np.where(np.isnan(base), turns[name].to_numpy(dtype=float, na_value=np.nan), base)
    return base


def anchors(turns: pd.DataFrame) -> dict[str, Moments]:
    """Return the anchors of ``ANCHORS`` that the table has, as ``t_due`` and so on: milliseconds from a turn's base."""
    base = base_ns(turns)
    return {
        f"t_{name.removesuffix('_ns')}": (turns[name].to_numpy(dtype=float, na_value=np.nan) - base) / 1e6
        for name in ANCHORS
        if name in turns
    }


class Arrivals:
    """When the deltas of each turn arrived.

    Args:
        turns: ``session``, ``turn`` and the anchors that a turn's times are counted from.
        deltas: ``session``, ``turn``, ``kind``, ``arrival_ns``, in any order.
    """

    def __init__(self, turns: pd.DataFrame, deltas: pd.DataFrame) -> None:
        self._count = len(turns)
        self._rows = np.empty(0, dtype=np.int64)
        self._ms: Moments = np.empty(0)
        self._is_audio = np.empty(0, dtype=bool)
        if not len(deltas) or not {"session", "turn"} <= set(turns.columns):
            return
        keys = pd.MultiIndex.from_arrays([turns["session"].astype(object), turns["turn"].astype("int64")])
        keys = keys[~keys.duplicated()]
        rows = keys.get_indexer(
            pd.MultiIndex.from_arrays([deltas["session"].astype(object), deltas["turn"].astype("int64")])
        )
        base = base_ns(turns)
        at = deltas["arrival_ns"].to_numpy(dtype=float, na_value=np.nan)
        ms = (at - np.where(rows >= 0, base[rows], np.nan)) / 1e6
        known = np.isfinite(ms)
        is_audio = (deltas["kind"].astype(object) == DeltaKind.AUDIO.value).to_numpy()
        order = np.lexsort((ms[known], rows[known]))
        self._rows, self._ms, self._is_audio = rows[known][order], ms[known][order], is_audio[known][order]

    def texts(self, *, audio: bool, step_ms: int, rows: npt.NDArray[np.int64]) -> list[str | None]:
        """Return the arrivals of chosen turns as texts: each the time since the one before, in steps; see ``written``.

        Args:
            audio: those of audio, or those of text and transcript.
            step_ms: to what they are rounded; above 1, arrivals in the same step are one.
            rows: numbers of the turns.
        """
        mine = self._is_audio == audio
        places, steps = self._rows[mine], np.rint(self._ms[mine] / step_ms).astype(np.int64)
        if step_ms > 1 and len(steps):
            first = np.concatenate(([True], (np.diff(steps) != 0) | (np.diff(places) != 0)))
            places, steps = places[first], steps[first]
        bounds = np.searchsorted(places, np.arange(self._count + 1))
        known = [written(number) for number in range(SHORT)]
        found: list[str | None] = []
        for row in rows:
            part = steps[bounds[row] : bounds[row + 1]]
            if not len(part):
                found.append(None)
                continue
            gaps = np.diff(part).tolist()
            found.append(signed(int(part[0])) + "".join([known[gap] if gap < SHORT else written(gap) for gap in gaps]))
        return found


def written(number: int) -> str:
    """Write a whole number, 0 or above, in ``DIGITS``."""
    text = ""
    while True:
        number, low = number >> 5, number & 31
        text += DIGITS[low | 32 if number else low]
        if not number:
            return text


def signed(number: int) -> str:
    """Write a whole number: its sign is the lowest bit."""
    return written(-number * 2 + 1 if number < 0 else number * 2)
