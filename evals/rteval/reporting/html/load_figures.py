"""The numbers behind the plots over time of load and of the generator's own health, as plain JSON data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...analysis.load import AskedLoad, asked_load, is_not_started, open_over_time
from ...analysis.stats import percentile
from ...records import MASTER
from .points import Figure, X, in_view, pairs, rounded, thinned
from .wording import number

__all__ = ["health_figures", "load_figures", "with_warmup"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

GRID = 400
"""Moments at which sessions are counted."""

BARS = 60
TIME_BINS = 200
LINES = 4
"""Workers that have a line of their own; of the others the worst is drawn."""

STALE_S, STALE_LOST_S = 3.0, 1.0
"""A worker that was not heard of for so long holds no session that anybody knows of; one that was lost even sooner."""


def load_figures(
    turns: pd.DataFrame, sessions: pd.DataFrame, health: pd.DataFrame, origin: float | None, run: Mapping[str, Any]
) -> list[Figure]:
    """Return load asked and achieved over time, how late sessions started, and answers."""
    asked = asked_load(run)
    if origin is None:
        return []
    made = [
        *_sessions_open(sessions, health, origin, run, asked),
        *_sessions_started(turns, sessions, origin, asked),
        *_start_lag(sessions, origin),
        *_answers(turns, origin),
    ]
    narrow = [figure for figure in made if "wide" not in figure]
    if len(narrow) % 2:
        narrow[-1]["wide"] = True
    return [with_warmup(figure, asked, origin) for figure in made]


def with_warmup(figure: Figure, asked: AskedLoad, origin: float | None) -> Figure:
    """Return a figure over time with the warm-up marked in it, if there was one."""
    if asked.warm_until_ns is None or origin is None:
        return figure
    note = "; ".join(filter(None, (figure["note"], "grey is the warm-up")))
    return figure | {"warmup": rounded((asked.warm_until_ns - origin) / 1e9), "note": note}


# ---- load ----


def _sessions_open(
    sessions: pd.DataFrame, health: pd.DataFrame, origin: float, run: Mapping[str, Any], asked: AskedLoad
) -> Iterator[Figure]:
    at, count = _open(sessions, health, origin, run)
    if not len(at):
        return
    series: list[Figure] = [{"name": "open", "points": thinned(at, count), "stepped": True}]
    lines: list[Figure] = []
    notes: list[str] = []
    if asked.model == "closed" and asked.corners:
        series.append({"name": "asked", "role": "asked", "points": _asked_points(asked, origin, float(at[-1]))})
    else:
        planned = (run.get("planned") or {}).get("sessions_at_once")
        limit = asked.most_sessions if asked.model == "open" else planned
        words = "at most" if asked.model == "open" else "asked:"
        if isinstance(limit, int | float):
            # Where there is room for a thousand and three come, the room is no part of the picture.
            lines, notes = in_view([(f"{words} {limit}", float(limit))], float(count.max()))
            lines = [one | {"role": "mark"} for one in lines]
    yield {
        "id": "sessions",
        "kind": "lines",
        "title": "Sessions open" if len(series) == 1 else "Sessions asked and open",
        "name": "",
        "note": "; ".join(notes),
        "label": f"Sessions open over the run: at most {int(count.max())}.",
        "x": X,
        "grace": "8%",
        "y": "sessions",
        "series": series,
        "lines": lines,
        "moments": _losses(health, origin, run),
        "wide": True,
    }


def _open(
    sessions: pd.DataFrame, health: pd.DataFrame, origin: float, run: Mapping[str, Any]
) -> tuple[Floats, npt.NDArray[Any]]:
    """How many sessions were open over time, by the rows they left; of lost workers by their last words."""
    has_rows = {"connected_ns", "ended_ns"} <= set(sessions.columns) and sessions["connected_ns"].notna().any()
    samples = _samples(health, "sessions", origin)
    lost = {worker["name"] for worker in run.get("workers") or () if worker.get("lost")}
    ends = [float(samples.at.max())] if len(samples.at) else []
    begins = [float(samples.at.min())] if len(samples.at) else []
    if has_rows:
        ends.append((float(sessions["ended_ns"].max()) - origin) / 1e9)
        begins.append((float(sessions["connected_ns"].min()) - origin) / 1e9)
    if not ends:
        return np.empty(0), np.empty(0)
    at: Floats = np.linspace(min(*begins, 0.0), max(ends), GRID)
    if has_rows and not lost:
        return at, open_over_time(sessions, (at * 1e9 + origin).astype(np.int64))
    total = np.zeros(len(at))
    for worker, name in enumerate(samples.workers):
        mine = samples.of == worker
        times, values = samples.at[mine], samples.value[mine]
        last = np.searchsorted(times, at, "right") - 1
        fresh = (last >= 0) & (at - times[last] <= (STALE_LOST_S if name in lost else STALE_S))
        total += np.where(fresh, values[last], 0.0)
    return at, total


def _asked_points(asked: AskedLoad, origin: float, end_s: float) -> list[list[float]]:
    """The corners of the curve, and its last level up to the end."""
    offset_s = ((asked.started_ns or origin) - origin) / 1e9
    stop_s = end_s - offset_s if asked.ends_s is None else asked.ends_s
    inside = [(at_s, level) for at_s, level in asked.corners if at_s < stop_s]
    points = [*inside, (stop_s, asked.at(stop_s, before=True))]
    if asked.ends_s is not None:
        points.append((stop_s, 0.0))
    return [[rounded(at_s + offset_s), rounded(level)] for at_s, level in points]


def _losses(health: pd.DataFrame, origin: float, run: Mapping[str, Any]) -> list[Figure]:
    """When workers were lost: when they were heard of last."""
    found = []
    for worker in run.get("workers") or ():
        if worker.get("lost") and len(health):
            last = health.loc[health["worker"] == worker["name"], "at_ns"].max()
            if not pd.isna(last):
                found.append({"at": rounded((float(last) - origin) / 1e9), "label": f"{worker['name']} lost"})
    return found


def _sessions_started(turns: pd.DataFrame, sessions: pd.DataFrame, origin: float, asked: AskedLoad) -> Iterator[Figure]:
    if "started_ns" not in sessions:
        return
    started = (sessions["started_ns"].dropna().to_numpy(dtype=float) - origin) / 1e9
    nowhere = np.empty(0)
    if {"error_code", "due_ns"} <= set(turns.columns):
        in_vain = turns.loc[is_not_started(turns)].drop_duplicates("session")
        nowhere = (in_vain["due_ns"].dropna().to_numpy(dtype=float) - origin) / 1e9
    both = np.concatenate([started, nowhere])
    if len(both) < 2 or not np.ptp(both):
        return
    edges, width = _edges(both)
    label = f"Sessions that started, in steps of {width:g} seconds"
    base = {"name": "", "note": f"steps of {width:g} s", "x": X}
    if asked.model != "open":
        counts, _ = np.histogram(started, bins=edges)
        yield base | {
            "id": "starts",
            "kind": "histogram",
            "title": "Sessions started",
            "label": f"{label}: at most {int(counts.max())}.",
            "y": "sessions",
            "bars": _bars(edges, counts),
            "edges": [rounded(edge) for edge in edges],
            "lines": [],
        }
        return
    rates = {"started": np.histogram(started, bins=edges)[0] / width}
    if len(nowhere):
        rates["fell due, never started"] = np.histogram(nowhere, bins=edges)[0] / width
    series: list[Figure] = [
        {"name": name, "points": pairs(edges, np.append(rate, rate[-1])), "stepped": True}
        for name, rate in rates.items()
    ]
    for one in series[1:]:
        one["role"] = "missed"
    if asked.corners:
        series.append({"name": "asked", "role": "asked", "points": _asked_points(asked, origin, float(edges[-1]))})
    yield base | {
        "id": "starts",
        "kind": "lines",
        "title": "Sessions a second, asked and started",
        "label": f"{label}: at most {number(float(rates['started'].max())).text} a second.",
        "y": "sessions per s",
        "series": series,
        "lines": [],
        "wide": True,
    }


def _edges(at: Floats) -> tuple[Floats, float]:
    """Edges of whole seconds round some moments, and their distance."""
    width = max(1.0, float(np.ceil(np.ptp(at) / BARS)))
    first = min(0.0, float(np.floor(at.min())))
    steps = int((at.max() - first) // width) + 1
    edges: Floats = first + width * np.arange(steps + 1, dtype=np.float64)
    return edges, width


def _bars(edges: Floats, counts: npt.NDArray[Any]) -> list[list[float]]:
    return [[rounded((a + b) / 2), int(c)] for a, b, c in zip(edges, edges[1:], counts, strict=False)]


def _start_lag(sessions: pd.DataFrame, origin: float) -> Iterator[Figure]:
    if not {"started_ns", "start_lag_ms"} <= set(sessions.columns):
        return
    known = sessions[["started_ns", "start_lag_ms"]].dropna()
    if len(known) < 2:
        return
    at = (known["started_ns"].to_numpy(dtype=float) - origin) / 1e9
    value = known["start_lag_ms"].to_numpy(dtype=float)
    ones = np.ones(len(at), dtype=np.int64)
    worst = float(value.max())
    yield {
        "id": "start-lag",
        "kind": "lines",
        "title": "How late sessions started",
        "name": "start_lag_ms",
        "note": "",
        "label": f"Start lag over the run: at most {number(worst, 'ms').text}.",
        "x": X,
        "y": "ms",
        "series": [
            {"name": name, "points": pairs(*_binned(at, value, ones, quantile))}
            for name, quantile in (("median", 0.5), ("max", 1.0))
        ],
        "lines": [],
    }


def _answers(turns: pd.DataFrame, origin: float) -> Iterator[Figure]:
    if "response_done_ns" not in turns:
        return
    ended = (turns["response_done_ns"].dropna().to_numpy(dtype=float) - origin) / 1e9
    if len(ended) < 2 or not np.ptp(ended):
        return
    edges, width = _edges(ended)
    counts, _ = np.histogram(ended, bins=edges)
    yield {
        "id": "answers",
        "kind": "histogram",
        "title": "Answers over the run",
        "name": "",
        "note": f"bars of {width:g} s",
        "label": f"Answers that ended, in steps of {width:g} seconds: at most {int(counts.max())}.",
        "x": X,
        "y": "answers",
        "bars": _bars(edges, counts),
        "edges": [rounded(edge) for edge in edges],
        "lines": [],
    }


# ---- the generator ----


def health_figures(health: pd.DataFrame, origin: float | None, run: Mapping[str, Any]) -> list[Figure]:
    """Return how late the generator itself was, and how busy, by worker where there are several."""
    if origin is None:
        return []
    limits = run.get("limits") or {}
    made = [
        figure
        for kind, title in (("send", "Send lag"), ("loop", "Event loop lag"), ("stamp", "Stamp lag"))
        for figure in _lag(_samples(health, kind, origin), kind, title, limits.get(f"{kind}_lag_ms"))
    ]
    made += _cpu(_samples(health, "cpu", origin))
    return [with_warmup(figure, asked_load(run), origin) for figure in made]


class _Samples:
    """The samples of one kind, ascending in time.

    Attributes:
        at: seconds since the start.
        n: how many each stands for.
        of: position in ``workers``.
    """

    def __init__(self, rows: pd.DataFrame, origin: float) -> None:
        rows = rows.dropna(subset=["at_ns", "value"]).sort_values("at_ns", kind="stable")
        self.at: Floats = (rows["at_ns"].to_numpy(dtype=float) - origin) / 1e9
        self.value: Floats = rows["value"].to_numpy(dtype=float, copy=True)
        self.n: Counts = rows["n"].to_numpy(dtype=np.int64) if "n" in rows else np.ones(len(rows), dtype=np.int64)
        names = rows["worker"].astype("category").cat.remove_unused_categories()
        self.of = names.cat.codes.to_numpy()
        self.workers = [str(name) for name in names.cat.categories]

    def chosen(self, mask: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Counts]:
        return self.at[mask], self.value[mask], self.n[mask]


def _samples(health: pd.DataFrame, kind: str, origin: float) -> _Samples:
    columns = ["worker", "kind", "at_ns", "value"]
    if not set(columns) <= set(health.columns):
        health = pd.DataFrame({name: [] for name in columns})
    rows = health.loc[health["kind"] == kind]
    return _Samples(rows if kind in ("cpu", "sessions") else rows.loc[rows["worker"] != MASTER], origin)


def _lag(samples: _Samples, kind: str, title: str, limit: float | None) -> Iterator[Figure]:
    if not len(samples.at):
        return
    everything = np.ones(len(samples.at), dtype=bool)
    if len(samples.workers) == 1:
        series: list[Figure] = [
            {"name": name, "points": pairs(*_binned(*samples.chosen(everything), quantile))}
            for name, quantile in (("p99", 0.99), ("max", 1.0))
        ]
    else:
        series = _by_worker(samples, 0.99)
    shown = max(float(point[1]) for one in series for point in one["points"])
    drawn, far = in_view([] if limit is None else [(f"limit {limit:g} ms", float(limit))], shown)
    notes = ["p99 of each worker"] if len(samples.workers) > 1 else []
    notes += far or (["the limit is on the p99 of the run"] if drawn else [])
    yield {
        "id": f"health-{kind}",
        "kind": "lines",
        "title": title,
        "name": f"{kind}_lag_ms",
        "note": "; ".join(notes),
        "label": f"{title} over the run: at most {number(float(samples.value.max()), 'ms').text}.",
        "x": X,
        "y": "ms",
        "series": series,
        "lines": drawn,
    }


def _cpu(samples: _Samples) -> Iterator[Figure]:
    if not len(samples.at):
        return
    several = len(samples.workers) > 1
    samples.value *= 100
    series = _by_worker(samples, 1.0)
    yield {
        "id": "health-cpu",
        "kind": "lines",
        "title": "CPU of each process" if several else "CPU of the generator",
        "name": "cpu_share",
        "note": "100 % is one core",
        "label": f"CPU share of the busiest process: at most {samples.value.max():.0f} %.",
        "x": X,
        "y": "% of a core",
        "series": series if several else [series[0] | {"name": "cpu"}],
        "lines": [],
    }


def _by_worker(samples: _Samples, quantile: float) -> list[Figure]:
    """A line for each worker; of too many for the worst ones, and one for the worst of the others."""
    binned = {
        name: _binned(*samples.chosen(samples.of == worker), quantile) for worker, name in enumerate(samples.workers)
    }
    workers = [name for name in binned if name != MASTER]
    worst_first = sorted(workers, key=lambda name: -float(np.max(binned[name][1])))
    named = worst_first if len(workers) <= LINES else worst_first[: LINES - 1]
    others = [name for name in worst_first if name not in named]
    series: list[Figure] = [
        {"name": name, "points": pairs(*binned[name])} for name in sorted(named, key=lambda name: (len(name), name))
    ]
    if others:
        highest: dict[float, float] = {}
        for name in others:
            for at, value in zip(*binned[name], strict=True):
                highest[float(at)] = max(highest.get(float(at), 0.0), float(value))
        points = [[rounded(at), rounded(highest[at])] for at in sorted(highest)]
        series.append({"name": f"worst of the other {len(others)}", "role": "others", "points": points})
    if MASTER in binned:
        series.append({"name": MASTER, "role": "master", "points": pairs(*binned[MASTER])})
    return series


def _binned(at: Floats, value: Floats, n: Counts, quantile: float) -> tuple[Floats, Floats]:
    """A quantile of each stretch of time: a few hundred of them at most, each of whole seconds."""
    width = max(1.0, float(np.ceil(np.ptp(at) / TIME_BINS)))
    stretch = np.floor(at / width)
    order = np.lexsort((value, stretch))
    value, n = value[order], n[order]
    starts, firsts = np.unique(stretch[order], return_index=True)
    bounds: Sequence[int] = [*firsts.tolist(), len(value)]
    points = [percentile(value[low:high], quantile, np.cumsum(n[low:high])) for low, high in pairwise(bounds)]
    return starts * width, np.array(points)
