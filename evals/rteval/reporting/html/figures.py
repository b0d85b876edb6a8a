"""The numbers behind the plots of the report page: bins, cumulative shares and series over time, as plain JSON data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...analysis.load import asked_load, open_over_time
from ...analysis.metrics import CHECKS, SCORERS, STATS
from ...analysis.stats import withheld
from ...records import Stage
from .load_figures import health_figures, load_figures, with_warmup
from .points import Figure, X, in_view, line, rounded, triples
from .wording import clean, number

__all__ = [
    "counted",
    "cumulative",
    "figures_of",
    "limits_of",
    "metric_of",
    "near",
    "origin_ns",
    "round_edges",
    "seconds",
    "variants_of",
]

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[Any]

LATENCIES = {
    "ttfa_ms": "Time to first audio",
    "v2v_ms": "Voice to voice",
    "response_ms": "Whole response",
    "endpoint_ms": "Endpointing",
}

MIN_BINS = 12
MAX_BINS = 40
CURVE_POINTS = 300
MAX_POINTS = 20_000
MAX_POINTS_OF_LOAD = 3_000
LEVELS = 12
FEWEST = 3
"""Turns of a group from which its median is drawn."""

NO_STAGE = "no stage"


def figures_of(
    turns: pd.DataFrame,
    sessions: pd.DataFrame,
    health: pd.DataFrame,
    *,
    run: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]],
) -> dict[str, list[Figure]]:
    """Return the figures of each section (``latency``, ``errors``, ``load``, ``health``); one without data has none.

    Where a run has several variants, every figure of latency tells them apart.
    """
    limits = limits_of(gates)
    origin = origin_ns(turns, health, run)
    variants = variants_of(turns)
    latency = [*distributions(turns, variants, limits)]
    for name in ("ttfa_ms", "response_ms"):
        if len(latencies(turns, name)):
            gates_on = limits.get(name, [])
            scatter = over_time(name, LATENCIES[name], turns, origin, gates_on, variants)
            latency.append(with_warmup(scatter, asked_load(run), origin))
            latency += against_concurrency(name, LATENCIES[name], turns, sessions, gates_on, variants)
            break
    return {
        "latency": latency,
        "errors": errors_by_stage(turns),
        "load": load_figures(turns, sessions, health, origin, run),
        "health": health_figures(health, origin, run),
    }


def variants_of(turns: pd.DataFrame) -> Names | None:
    """Return the variant of each turn; ``None`` where there are not at least two."""
    if "variant" not in turns or turns["variant"].nunique() < 2:
        return None
    return np.array([clean(name) for name in turns["variant"].astype(object).where(turns["variant"].notna(), "none")])


def distributions(
    turns: pd.DataFrame, variants: Names | None, limits: Mapping[str, list[tuple[str, float]]]
) -> Iterator[Figure]:
    """Return how each latency is distributed: histograms and one plot of shares, or a plot of shares by variant."""
    curves = []
    for name, title in LATENCIES.items():
        values = latencies(turns, name)
        if not len(values):
            continue
        if variants is not None:
            parts = [(one, latencies(turns[variants == one], name)) for one in sorted(set(variants.tolist()))]
            found = cumulative([(one, part) for one, part in parts if len(part) > 1], limits.get(name, []))
            if found is not None:
                yield near(found) | {"id": f"cumulative-{name}", "title": title, "name": name}
            continue
        yield histogram(name, title, values, limits.get(name, []))
        if name != "response_ms" and len(values) > 1:
            curves.append((name, values))
    found = cumulative(curves)
    if found is not None:
        yield found | {"wide": True}


def metric_of(name: str) -> str:
    """Return the metric of a gate's name, which may end in a statistic: ``ttfa_ms`` of ``ttfa_ms.p95``."""
    metric, _dot, stat = name.rpartition(".")
    return metric if metric and stat in STATS and not name.startswith((CHECKS, SCORERS)) else name


def limits_of(gates: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, float]]]:
    """Return, for each metric, the gates on it as (text, limit)."""
    limits: dict[str, list[tuple[str, float]]] = {}
    for gate in gates:
        limit = gate.get("limit")
        if isinstance(limit, int | float):
            limits.setdefault(metric_of(str(gate.get("metric", ""))), []).append((str(gate["text"]), float(limit)))
    return limits


def counted(turns: pd.DataFrame) -> pd.Series[bool]:
    """Return which turns enter a latency: answered (``ok``) and not warm-up."""
    mask = turns["outcome"].astype("string").eq("ok").fillna(False)
    if "warmup" in turns:
        mask &= ~turns["warmup"].astype("boolean").fillna(False)
    return mask.astype(bool)


def latencies(turns: pd.DataFrame, name: str) -> Floats:
    """Return one latency of all turns that count, in ms; empty where it was not measured."""
    if name not in turns or not len(turns):
        return np.empty(0)
    values = pd.to_numeric(turns.loc[counted(turns), name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)], dtype=float)


def histogram(name: str, title: str, values: Floats, gates: list[tuple[str, float]]) -> Figure:
    """Return how often each latency occurred, with median, p95 and gates as lines.

    A tail beyond 2.5 times the 99th percentile is not drawn (the bulk would shrink to one bar) but counted.
    """
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    high = float(values.max())
    if high > 2.5 * p99 > 0:
        high = float(p99) * 1.25
    shown = values[values <= high]
    edges = round_edges(shown)
    counts, edges = np.histogram(shown, bins=edges)
    lines = [line(float(p50), f"p50 {number(float(p50), 'ms').text}", "mark")]
    if withheld("p95", len(values)) is None:
        lines.append(line(float(p95), f"p95 {number(float(p95), 'ms').text}", "mark"))
    limits, far = in_view(gates, high)
    lines += limits
    beyond = int((values > high).sum())
    notes = [f"{beyond} slower than {number(high, 'ms').text} not drawn"] if beyond else []
    return {
        "id": f"histogram-{name}",
        "kind": "histogram",
        "title": title,
        "name": name,
        "note": "; ".join(notes + far),
        "label": f"Histogram of {name} over {len(values)} turns: median {number(float(p50), 'ms').text}, "
        f"fastest {number(float(values.min()), 'ms').text}, slowest {number(float(values.max()), 'ms').text}.",
        "x": "ms",
        "y": "turns",
        "bars": [[rounded((a + b) / 2), int(c)] for a, b, c in zip(edges, edges[1:], counts, strict=False)],
        "edges": [rounded(edge) for edge in edges],
        "lines": lines,
    }


def round_edges(values: Floats) -> Floats:
    """Return edges of bins whose width reads well: 1, 2 or 5 times a power of ten, close to what numpy proposes."""
    low, high = float(values.min()), float(values.max())
    wanted = min(MAX_BINS, max(MIN_BINS, len(np.histogram_bin_edges(values, bins="auto")) - 1))
    rough = max(high - low, 1.0) / wanted
    power = 10.0 ** np.floor(np.log10(rough))
    width = float(min((step * power for step in (1, 2, 5, 10) if step * power >= rough), default=10 * power))
    first = np.floor(low / width)
    return np.asarray((first + np.arange(np.floor(high / width) - first + 2)) * width, dtype=float)


def cumulative(curves: Sequence[tuple[str, Floats]], gates: Sequence[tuple[str, float]] = ()) -> Figure | None:
    """Return the share of turns that took at most a given time, one curve for each name; ``None`` without a curve."""
    if not curves:
        return None
    slowest = max(float(values.max()) for _name, values in curves)
    high = max(float(np.percentile(values, 99.5)) for _name, values in curves) * 1.02
    beyond = slowest > 1.5 * high
    high = high if beyond else slowest
    series = []
    for name, values in curves:
        ordered = np.sort(values)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        keep = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), CURVE_POINTS)).round().astype(int))
        points = [[rounded(x), round(float(y) * 100, 2)] for x, y in zip(ordered[keep], shares[keep], strict=True)]
        series.append({"name": name, "points": [[points[0][0], 0.0], *points]})
    low = rounded(min(float(values.min()) for _name, values in curves))
    lines, far = in_view(gates, high)
    high = max([high, *(line["at"] * 1.03 for line in lines)])
    notes = [f"the slowest 0.5 % are beyond {number(high, 'ms').text}"] if beyond else []
    return {
        "id": "cumulative",
        "kind": "curves",
        "title": "Share of turns within a time",
        "name": "",
        "note": "; ".join(notes + far),
        "label": "Cumulative distribution: "
        + "; ".join(
            f"90 % of turns have {name} within {number(float(np.percentile(values, 90)), 'ms').text}"
            for name, values in curves
        )
        + ".",
        "x": "ms",
        "y": "% of turns",
        "series": series,
        "lines": lines,
        "range": [min(0.0, low), rounded(high)],
    }


def near(figure: Figure) -> Figure:
    """Return a plot of shares that begins where its curves do: they lie close together, and need no zero to be read."""
    start, end = min(series["points"][0][0] for series in figure["series"]), figure["range"][1]
    return figure | {"range": [rounded(start - 0.04 * (end - start)), end]}


def over_time(
    name: str,
    title: str,
    turns: pd.DataFrame,
    origin: float | None,
    gates: list[tuple[str, float]],
    variants: Names | None = None,
) -> Figure:
    """Return one latency of each turn against the moment it ended to speak, and where turns failed."""
    at = seconds(turns, origin)
    good = counted(turns).to_numpy()
    values = pd.to_numeric(turns[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    answered = good & np.isfinite(values) & np.isfinite(at)
    not_ok = turns["outcome"].astype("string").ne("ok").fillna(True).to_numpy(dtype=bool)
    failed = not_ok & np.isfinite(at)
    rows = np.arange(len(turns))
    limits, notes = in_view(gates, float(values[answered].max(initial=0.0)))
    if failed.any():
        notes.insert(0, "a cross at 0 is a turn that was not ok")
    answered, every = every_nth(answered, MAX_POINTS)
    notes += every
    series = [
        {"name": word, "points": triples(at, values, rows, answered & mine)} for word, mine in parts_of(variants, turns)
    ]
    series.append({"name": "not ok", "role": "failed", "points": triples(at, np.zeros(len(turns)), rows, failed)})
    return {
        "id": f"time-{name}",
        "kind": "scatter",
        "title": f"{title} over the run",
        "name": name,
        "note": "; ".join(notes),
        "label": f"{name} of each turn over the run; {int(failed.sum())} turns were not ok.",
        "x": X,
        "y": "ms",
        "series": [one for one in series if one["points"]],
        "lines": limits,
        "wide": True,
    }


def against_concurrency(
    name: str,
    title: str,
    turns: pd.DataFrame,
    sessions: pd.DataFrame,
    gates: list[tuple[str, float]],
    variants: Names | None = None,
) -> list[Figure]:
    """Return one latency of each turn against how many sessions were open when it began; none if always as many."""
    values = pd.to_numeric(turns[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    loads = concurrency(turns, sessions)
    mask = counted(turns).to_numpy() & np.isfinite(values) & np.isfinite(loads)
    if not mask.any() or not np.ptp(loads[mask]):
        return []
    groups = level_edges(loads[mask])
    series: list[Figure] = []
    for place, (word, mine) in enumerate(parts_of(variants, turns)):
        for stat, q in (("p50", 50), ("p95", 95)):
            points = []
            for low, high in pairwise(groups):
                part = values[mask & mine & (loads >= low) & (loads < high)]
                if len(part) >= FEWEST and withheld(stat, len(part)) is None:
                    inside = loads[mask & mine & (loads >= low) & (loads < high)]
                    points.append([rounded(inside.mean()), rounded(np.percentile(part, q))])
            if points and (variants is None or stat == "p50"):
                label = stat if variants is None else f"{word} {stat}"
                series.append({"name": label, "points": points, "joined": True, **coloured(variants, place)})
    limits, notes = in_view(gates, float(values[mask].max()))
    drawn, every = every_nth(mask, MAX_POINTS_OF_LOAD)
    notes += every
    rows = np.arange(len(turns))
    for place, (word, mine) in enumerate(parts_of(variants, turns)):
        look = {"name": "turns", "role": "cloud"} if variants is None else {"name": word, "quiet": True}
        points = triples(loads, values, rows, drawn & mine)
        series.append({**look, **coloured(variants, place), "points": points})
    return [
        {
            "id": f"concurrency-{name}",
            "kind": "scatter",
            "title": f"{title} against sessions open",
            "name": name,
            "note": "; ".join(["sessions open when the turn began, over all workers", *notes]),
            "label": f"{name} against the number of sessions open, from {int(loads[mask].min())} to "
            f"{int(loads[mask].max())}.",
            "x": "sessions open",
            "y": "ms",
            # Room on both sides: the lowest and the highest load are where most turns lie.
            "range": [rounded(loads[mask].min() - 0.5), rounded(loads[mask].max() + 0.5)],
            "series": [one for one in series if one["points"]],
            "lines": limits,
            "wide": True,
        }
    ]


def concurrency(turns: pd.DataFrame, sessions: pd.DataFrame) -> Floats:
    """Return how many sessions were open when each turn began: by all sessions' rows, else by its own worker's word."""
    known = np.full(len(turns), np.nan)
    if {"connected_ns", "ended_ns"} <= set(sessions.columns) and "started_ns" in turns:
        begun = turns["started_ns"].notna().to_numpy()
        at = turns["started_ns"].to_numpy(dtype=np.int64, na_value=0)
        if sessions["connected_ns"].notna().any():
            known[begun] = open_over_time(sessions, at)[begun]
    own = turns["concurrency"].to_numpy(dtype=float, na_value=np.nan) if "concurrency" in turns else known
    # A session of a worker that was lost left no row.
    result: Floats = np.fmax(known, own)
    return result


def level_edges(loads: Floats) -> list[float]:
    """Return the edges of at most a dozen groups of numbers of sessions, equally wide."""
    low, high = float(loads.min()), float(loads.max())
    width = max(1.0, float(np.ceil((high - low + 1) / LEVELS)))
    return [low + width * step for step in range(int((high - low) // width) + 2)]


def errors_by_stage(turns: pd.DataFrame) -> list[Figure]:
    """Return how many turns were not ok, by the stage in which they failed and by outcome."""
    bad = turns[turns["outcome"].astype("string").ne("ok").fillna(True)]
    if not len(bad) or "failure_stage" not in bad:
        return []
    stages = bad["failure_stage"].astype(object).where(bad["failure_stage"].notna(), NO_STAGE)
    pairs = Counter(zip(stages, bad["outcome"].astype(str), strict=True))
    order = [name for name in (*(stage.value for stage in Stage), NO_STAGE) if name in set(stages)]
    order += sorted(set(map(str, stages)) - set(order))
    totals = {name: sum(count for (stage, _), count in pairs.items() if stage == name) for name in order}
    return [
        {
            "id": "errors-by-stage",
            "kind": "stack",
            "title": "Turns that were not ok, by stage",
            "name": "",
            "note": "",
            "label": "; ".join(f"{clean(name)}: {total}" for name, total in totals.items()) + ".",
            "x": "turns",
            "y": "",
            "unit": "",
            "rows": [[clean(name), str(total)] for name, total in totals.items()],
            "series": [
                {
                    "name": clean(outcome),
                    "role": f"stage-{place % 7}",
                    "values": [pairs[name, outcome] or None for name in order],
                }
                for place, outcome in enumerate(sorted({outcome for _, outcome in pairs}))
            ],
            "wide": True,
        }
    ]


def parts_of(variants: Names | None, turns: pd.DataFrame) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return the turns of each variant, or all under the name ``ok``."""
    if variants is None:
        return [("ok", np.ones(len(turns), dtype=bool))]
    return [(name, variants == name) for name in sorted(set(variants.tolist()))]


def coloured(variants: Names | None, place: int) -> Figure:
    """Return the colour of a variant, so that its line and its turns have the same."""
    return {} if variants is None else {"colour": place}


def every_nth(mask: npt.NDArray[np.bool_], most: int) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Return at most so many of the turns, evenly, and a sentence if some were left out."""
    every = -(-int(mask.sum()) // most)
    if every <= 1:
        return mask, []
    return mask & (np.cumsum(mask) % every == 0), [f"every {every}th answered turn is drawn"]


def origin_ns(turns: pd.DataFrame, health: pd.DataFrame, run: Mapping[str, Any]) -> float | None:
    """Return the moment that the page counts seconds from: when the run said that it began, else its first trace."""
    started_ns = asked_load(run).started_ns
    if started_ns is not None:
        return float(started_ns)
    for column in ("started_ns", "speech_end_ns"):
        if column in turns and turns[column].notna().any():
            return float(turns[column].min())
    return float(health["at_ns"].min()) if len(health) and "at_ns" in health else None


def seconds(
    turns: pd.DataFrame,
    origin: float | None,
    *,
    columns: Sequence[str] = ("speech_end_ns", "started_ns", "due_ns"),
) -> Floats:
    """Return when each turn happened, in seconds since the origin: the first of the columns that it has."""
    at = np.full(len(turns), np.nan)
    if origin is None:
        return at
    for column in columns:
        if column in turns:
            values = (turns[column].to_numpy(dtype=float, na_value=np.nan) - origin) / 1e9
            at = np.where(np.isnan(at), values, at)
    return at
