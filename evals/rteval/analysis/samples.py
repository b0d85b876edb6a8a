"""From the tables of a run to what each metric is made of: values with the session and the item that each belongs to.

What a metric's number leaves out is left out here too, by the same masks, so that an interval is always that of the
number beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .aggregate import ERRORS, SessionRows, Tables, TurnRows, good_turns, score_parts, throttled_turns
from .intervals import CONFIDENCE, RESAMPLES, SEED, Interval, Sample, intervals_of
from .metrics import CHECKS, METRICS, Source

__all__ = ["Observed", "add_intervals", "counted", "observe", "rounded"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_DIGITS = 6
"""Significant digits of a bound: more would differ between machines that add in another order."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What one metric was observed on.

    Attributes:
        top, bottom: as in :class:`Sample`.
        session: name of the session of each.
        item: item of each; ``None`` where a metric is one of sessions.
        rows: which rows of the turn table they are; of the session table where ``item`` is ``None``.
    """

    top: Floats
    session: npt.NDArray[np.object_]
    bottom: Floats | None = None
    item: npt.NDArray[np.object_] | None = None
    rows: npt.NDArray[np.int64] | None = None

    def sample(self) -> Sample:
        """By session."""
        _, codes = np.unique(self.session.astype(str), return_inverse=True)
        return Sample(self.top, codes.astype(np.int64), self.bottom)

    def only(self, turns: Flags) -> Observed:
        """The part of a metric of turns that was observed on some of them."""
        assert self.item is not None
        assert self.rows is not None
        kept = turns[self.rows]
        bottom = None if self.bottom is None else self.bottom[kept]
        return Observed(self.top[kept], self.session[kept], bottom, self.item[kept], self.rows[kept])


def observe(tables: Tables) -> dict[str, Observed]:
    """Return what every metric that has samples was observed on.

    Returns:
        By metric, those without a sample left out. Not among them: what is one number of the run (rates per second,
        tokens, counts), the generator's health, and gaps between deltas, which are not kept by turn.
    """
    turns = TurnRows(tables.turns, tables.asked.warm_until_ns)
    sessions = SessionRows(tables.sessions, tables.asked.warm_until_ns)
    found = dict(_turn_metrics(tables, turns)) | dict(_session_metrics(tables.sessions, sessions))
    return {name: observed for name, observed in found.items() if len(observed.top)}


def add_intervals(metrics: Mapping[str, dict[str, Any]], observed: Mapping[str, Observed]) -> dict[str, Any]:
    """Put ``ci95`` into the entries of a summary's metrics.

    Returns:
        What was done, for ``summary.json``: ``confidence``, ``resamples``, ``seed``, ``clusters`` (sessions that were
        drawn from).
    """
    # Metrics that were observed on the same turns have one array of names between them.
    names = {id(one.session): one.session.astype(str) for one in observed.values()}
    sessions = np.unique(np.concatenate([np.unique(some) for some in names.values()] or [np.empty(0, str)]))
    codes = {key: np.searchsorted(sessions, some) for key, some in names.items()}
    samples = {
        name: Sample(one.top, codes[id(one.session)], one.bottom) for name, one in observed.items() if name in metrics
    }
    for name, bounds in intervals_of(samples).items():
        metrics[name]["ci95"] = {stat: rounded(both) for stat, both in bounds.items()}
    return {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED, "clusters": len(sessions)}


def rounded(bounds: Interval) -> list[float | None]:
    """Bounds as they are stored; ``None`` is a bound that the data do not give."""
    return [None if bound is None else float(f"{bound:.{_DIGITS}g}") for bound in bounds]


def counted(name: str, one: Observed | Sample) -> int:
    """What ``n`` of a metric counts: turns or sessions; of ``checks.pass_rate`` checks, of which a turn has several."""
    return int(one.bottom.sum()) if name == "checks.pass_rate" and one.bottom is not None else len(one.top)


def _turn_metrics(tables: Tables, turns: TurnRows) -> Iterator[tuple[str, Observed]]:
    frame = turns.frame
    # Once for all metrics: each look at a column of texts makes every one of them anew.
    session, item = (frame[name].to_numpy(dtype=object) for name in ("session", "item"))
    known: dict[bytes, tuple[Any, Any, Any]] = {}  # most metrics are observed on the same turns

    def those(mask: Flags, top: Floats, bottom: Floats | None = None) -> Observed:
        key = np.packbits(mask).tobytes()
        if key not in known:
            rows = np.flatnonzero(mask)
            known[key] = rows, session[rows], item[rows]
        rows, sessions, items = known[key]
        return Observed(top[rows], sessions, None if bottom is None else bottom[rows], items, rows)

    one = np.ones(len(turns))
    for metric in METRICS.values():
        if metric.is_distribution and metric.source is Source.TURNS and metric.name in frame:
            values = _floats(frame[metric.name])
            yield metric.name, those(turns.ok & ~np.isnan(values), values)
    failed = turns.outcome.isin(ERRORS).to_numpy() & turns.counted
    yield "error_rate", those(turns.counted, failed.astype(float), one)
    yield "throttle_rate", those(turns.counted, throttled_turns(turns).astype(float), one)
    asked = turns.counted & (frame["transcript_outcome"].astype(object) != "off").to_numpy()
    missing = (frame["transcript_outcome"].astype(object) != "ok").to_numpy()
    yield "transcript_missing_rate", those(asked, missing.astype(float), one)
    for name, whole, columns in _pooled_columns():
        if whole in frame and all(column in frame for column in columns):
            counts, words = sum(_floats(frame[column]) for column in columns), _floats(frame[whole])
            yield name, those(turns.has(whole) & turns.warm, np.nan_to_num(np.asarray(counts)), np.nan_to_num(words))
    yield from _check_metrics(turns, those)
    for name, entry in tables.scores.items():
        if (ratio := score_parts(entry, frame)) is not None:
            yield name, those(*ratio)
    if tables.slo:
        yield "goodput_share", those(turns.counted, good_turns(turns, tables.slo).astype(float), one)


def _pooled_columns() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for side in ("input", "output"):
        words = tuple(f"{side}_{kind}" for kind in ("substitutions", "deletions", "insertions"))
        yield f"{side}_wer", f"{side}_ref_words", words
        yield f"{side}_cer", f"{side}_ref_chars", (f"{side}_char_errors",)
    yield "entity_accuracy", "entities_expected", ("entities_found",)


def _check_metrics(turns: TurnRows, those: Any) -> Iterator[tuple[str, Observed]]:
    frame = turns.frame
    columns = [name for name in frame.columns if name.startswith("check_") and f"{name}_reason" in frame]
    held_of_all, judged_of_all = np.zeros(len(turns)), np.zeros(len(turns))
    for column in columns:
        judged = turns.has(column) & turns.warm
        held = frame[column].astype("boolean").fillna(False).to_numpy(dtype=bool) & judged
        yield CHECKS + column.removeprefix("check_"), those(judged, held.astype(float), np.ones(len(turns)))
        held_of_all += held
        judged_of_all += judged
    if columns:
        yield "checks.pass_rate", those(judged_of_all > 0, held_of_all, judged_of_all)


def _session_metrics(frame: pd.DataFrame, sessions: SessionRows) -> Iterator[tuple[str, Observed]]:
    names = frame["session"].to_numpy(dtype=object)
    for metric in METRICS.values():
        if metric.is_distribution and metric.source is Source.SESSIONS and metric.name in frame:
            values = _floats(frame[metric.name])
            rows = np.flatnonzero(~np.isnan(values) & sessions.warm)
            yield metric.name, Observed(values[rows], names[rows], rows=rows)
    for name, (part, whole) in sessions.shares().items():
        rows = np.flatnonzero(whole)
        yield name, Observed(part[rows].astype(float), names[rows], np.ones(len(rows)), rows=rows)


def _floats(column: pd.Series[Any]) -> Floats:
    values: Floats = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values
