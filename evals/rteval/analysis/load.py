"""What load a run asked for, and what it got: the schedule's curve beside the sessions that were really there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["NOT_STARTED", "AskedLoad", "asked_load", "compare_load", "is_not_started", "open_over_time"]

NOT_STARTED = "not_started"
"""Error code of a turn that was due and found no place in which to start."""

_PARTS = 12

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedLoad:
    """The load that was asked for, as ``run.json`` says it; all ``None`` and 0 for a run that does not say.

    Attributes:
        model: ``closed`` (so many sessions at once) or ``open`` (so many sessions a second).
        started_ns: when the schedule began.
        warmup_s: turns and sessions that begin in the first so many seconds are left out.
        ends_s: when no session is asked for any more, in seconds from the start; ``None``: when all has been run.
        most_sessions: the most that may be open at once.
        corners: (seconds, sessions at once) or (seconds, sessions a second), ascending in time, straight between two;
            the last level goes on to the end.
    """

    model: str | None = None
    started_ns: int | None = None
    warmup_s: float = 0.0
    ends_s: float | None = None
    most_sessions: int | None = None
    corners: tuple[tuple[float, float], ...] = ()

    @property
    def warm_until_ns(self) -> int | None:
        """When the warm-up is over; ``None``: there is none."""
        if self.started_ns is None or not self.warmup_s:
            return None
        return self.started_ns + round(self.warmup_s * 1e9)

    @property
    def ends_ns(self) -> int | None:
        """``ends_s`` as a moment."""
        if self.started_ns is None or self.ends_s is None:
            return None
        return self.started_ns + round(self.ends_s * 1e9)

    def at(self, at_s: float, *, before: bool = False) -> float:
        """What is asked at a time; where it jumps, from then on or (``before``) until then."""
        ends_s = np.inf if self.ends_s is None else self.ends_s
        if not self.corners or at_s < 0 or at_s > ends_s or (at_s == ends_s and not before):
            return 0.0
        times = [corner_s for corner_s, _ in self.corners]
        place = (bisect_left if before else bisect_right)(times, at_s)
        if place == 0:
            return self.corners[0][1]
        left_s, left = self.corners[place - 1]
        if place == len(times) or left_s == at_s:
            return left
        right_s, right = self.corners[place]
        return left + (right - left) * (at_s - left_s) / (right_s - left_s)

    def mean(self, from_s: float, to_s: float) -> float:
        """What is asked on average between two times."""
        moments = [corner_s for corner_s, _ in self.corners] + ([] if self.ends_s is None else [self.ends_s])
        between = sorted({at_s for at_s in moments if from_s < at_s < to_s})
        area = sum(
            (right - left) * (self.at(left) + self.at(right, before=True)) / 2
            for left, right in pairwise([from_s, *between, to_s])
        )
        return area / (to_s - from_s)


def asked_load(run: Mapping[str, Any]) -> AskedLoad:
    """Read it from ``run.json``, of any age."""
    load = run.get("load") or {}
    arrivals = load.get("arrivals") or {}
    corners = tuple((float(at_s), float(level)) for at_s, level in load.get("asked") or ())
    if any(before[0] > after[0] for before, after in pairwise(corners)):
        corners = ()
    started_ns = run.get("started_ns") if load.get("started_ns") is None else load["started_ns"]
    ends_s = load.get("duration_s")
    if ends_s is None and corners and (load.get("stages") or arrivals.get("stages") or load.get("model") == "open"):
        ends_s = corners[-1][0]
    if ends_s is not None and started_ns is not None and run.get("ended_ns") is not None:
        # A run that was stopped asked for nothing any more from then on.
        ends_s = min(ends_s, max((run["ended_ns"] - started_ns) / 1e9, 0.0))
    return AskedLoad(
        model=load.get("model"),
        started_ns=started_ns,
        warmup_s=float(load.get("warmup_s") or 0.0),
        ends_s=ends_s,
        most_sessions=load.get("peak"),
        corners=corners,
    )


def is_not_started(turns: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which turns were due and could not start."""
    codes = turns["error_code"].astype(object).fillna("")
    never = turns["started_ns"].isna().to_numpy()
    return (codes == NOT_STARTED).to_numpy(dtype=bool) & (turns["outcome"] == "cut").to_numpy(dtype=bool) & never


def compare_load(asked: AskedLoad, turns: pd.DataFrame, sessions: pd.DataFrame) -> dict[str, Any]:
    """Put the load that was got beside the load that was asked for.

    Args:
        asked: what was asked.
        turns: ``session``, ``outcome``, ``error_code``, ``started_ns``, ``due_ns``.
        sessions: ``due_ns``, ``started_ns``, ``connected_ns``, ``ended_ns``.

    Returns:
        ``model``; ``warmup_s``; ``from_s`` and ``to_s``, the time that is compared (after the warm-up, while sessions
        were asked for), in seconds from the start of the schedule; over that time ``sessions_open`` with ``asked`` and
        ``achieved``, means of a closed model, or ``sessions_per_s`` and ``arrivals`` (sessions that fell due, sessions
        that started) of an open one; ``over_time``: the whole run in at most a dozen equal parts, each with ``from_s``,
        ``to_s``, ``asked`` (sessions at once or a second), ``sessions_open`` (mean), ``started`` and ``not_started``
        (sessions that started, that fell due in vain). ``None`` and an empty list for what does not apply or is not
        known, as where the run went on until all was done.
    """
    found: dict[str, Any] = {"model": asked.model, "warmup_s": asked.warmup_s}
    found |= dict.fromkeys(("from_s", "to_s", "sessions_open", "sessions_per_s", "arrivals"))
    found["over_time"] = []
    if asked.started_ns is None or not asked.corners or not asked.model:
        return found
    moves = _Moves(asked.started_ns, turns, sessions)
    found["over_time"] = list(_over_time(asked, moves))
    if asked.ends_s is None or asked.ends_s <= asked.warmup_s:
        return found
    from_s, to_s = asked.warmup_s, asked.ends_s
    found |= {"from_s": from_s, "to_s": to_s}
    if asked.model == "open":
        due, started = moves.due(from_s, to_s), moves.started(from_s, to_s)
        found["arrivals"] = {"asked": due, "achieved": started}
        found["sessions_per_s"] = {"asked": asked.mean(from_s, to_s), "achieved": started / (to_s - from_s)}
    else:
        found["sessions_open"] = {"asked": asked.mean(from_s, to_s), "achieved": moves.mean_open(from_s, to_s)}
    return found


def _over_time(asked: AskedLoad, moves: _Moves) -> Iterator[dict[str, Any]]:
    end_s = max(asked.ends_s or 0.0, moves.end_s)
    if end_s <= 0:
        return
    width_s = max(1.0, float(np.ceil(end_s / _PARTS)))
    for part in range(int(np.ceil(end_s / width_s))):
        from_s, to_s = part * width_s, (part + 1) * width_s
        yield {
            "from_s": from_s,
            "to_s": to_s,
            "asked": asked.mean(from_s, to_s),
            "sessions_open": moves.mean_open(from_s, to_s),
            "started": moves.started(from_s, to_s),
            "not_started": moves.in_vain(from_s, to_s),
        }


class _Moves:
    """When sessions fell due, started, opened and ended, in seconds from the start of the schedule."""

    def __init__(self, start_ns: int, turns: pd.DataFrame, sessions: pd.DataFrame) -> None:
        def seconds(column: pd.Series[Any]) -> Floats:
            return (column.dropna().to_numpy(dtype=np.int64) - start_ns) / 1e9

        spans = sessions[["connected_ns", "ended_ns"]].dropna()
        self._connected, self._ended = seconds(spans["connected_ns"]), seconds(spans["ended_ns"])
        self._started, self._due = seconds(sessions["started_ns"]), seconds(sessions["due_ns"])
        self._in_vain = seconds(turns.loc[is_not_started(turns)].drop_duplicates("session")["due_ns"])

    @property
    def end_s(self) -> float:
        return max(
            (float(times.max()) for times in (self._ended, self._started, self._in_vain) if len(times)), default=0.0
        )

    def started(self, from_s: float, to_s: float) -> int:
        return _within(self._started, from_s, to_s)

    def in_vain(self, from_s: float, to_s: float) -> int:
        return _within(self._in_vain, from_s, to_s)

    def due(self, from_s: float, to_s: float) -> int:
        return _within(self._due, from_s, to_s) + self.in_vain(from_s, to_s)

    def mean_open(self, from_s: float, to_s: float) -> float:
        lengths = np.clip(self._ended, from_s, to_s) - np.clip(self._connected, from_s, to_s)
        return float(lengths.sum()) / (to_s - from_s)


def _within(times: Floats, from_s: float, to_s: float) -> int:
    return int(((times >= from_s) & (times < to_s)).sum())


def open_over_time(sessions: pd.DataFrame, at_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many sessions were open at each of these moments; one that left no row is not counted."""
    spans = sessions[["connected_ns", "ended_ns"]].dropna()
    opened, ended = (np.sort(spans[name].to_numpy(dtype=np.int64)) for name in ("connected_ns", "ended_ns"))
    count: npt.NDArray[np.int64] = np.searchsorted(opened, at_ns, "right") - np.searchsorted(ended, at_ns, "right")
    return count
