"""The numbers behind the plots of the report page: bins, cumulative shares and series over time, as plain JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...analysis.load import asked_load
from ...analysis.metrics import CHECKS, STATS
from ...analysis.stats import withheld
from .load_figures import health_figures, load_figures, with_warmup
from .points import Figure, X, in_view, line, rounded, triples
from .wording import number

__all__ = ["figures_of", "limits_of", "metric_of", "origin_ns", "seconds"]

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


def figures_of(
    turns: pd.DataFrame,
    sessions: pd.DataFrame,
    health: pd.DataFrame,
    *,
    run: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]],
) -> dict[str, list[Figure]]:
    """Return the figures of each section (``latency``, ``load``, ``health``); a section without data has none."""
    limits = limits_of(gates)
    origin = origin_ns(turns, health, run)
    latency: list[Figure] = []
    for name, title in LATENCIES.items():
        values = latencies(turns, name)
        if len(values):
            latency.append(histogram(name, title, values, limits.get(name, [])))
    curves = [
        (name, title, values)
        for name, title in LATENCIES.items()
        if name != "response_ms" and len(values := latencies(turns, name)) > 1
    ]
    if curves:
        latency.append(cumulative(curves))
    for name in ("ttfa_ms", "response_ms"):
        if len(latencies(turns, name)):
            scatter = over_time(name, LATENCIES[name], turns, origin, limits.get(name, []))
            latency.append(with_warmup(scatter, asked_load(run), origin))
            break
    return {
        "latency": latency,
        "load": load_figures(turns, sessions, health, origin, run),
        "health": health_figures(health, origin, run),
    }


def metric_of(name: str) -> str:
    """Return the metric of a gate's name, which may end in a statistic: ``ttfa_ms`` of ``ttfa_ms.p95``."""
    metric, _dot, stat = name.rpartition(".")
    return metric if metric and stat in STATS and not name.startswith(CHECKS) else name


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


def latencies(turns: pd.DataFrame, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return one latency of all turns that count, in ms; empty where it was not measured."""
    if name not in turns or not len(turns):
        return np.empty(0)
    values = pd.to_numeric(turns.loc[counted(turns), name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)], dtype=float)


def histogram(name: str, title: str, values: np.ndarray[Any, Any], gates: list[tuple[str, float]]) -> Figure:
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


def round_edges(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return edges of bins whose width reads well: 1, 2 or 5 times a power of ten, close to what numpy proposes."""
    low, high = float(values.min()), float(values.max())
    wanted = min(MAX_BINS, max(MIN_BINS, len(np.histogram_bin_edges(values, bins="auto")) - 1))
    rough = max(high - low, 1.0) / wanted
    power = 10.0 ** np.floor(np.log10(rough))
    width = float(min((step * power for step in (1, 2, 5, 10) if step * power >= rough), default=10 * power))
    first = np.floor(low / width)
    return np.asarray((first + np.arange(np.floor(high / width) - first + 2)) * width, dtype=float)


def cumulative(curves: Sequence[tuple[str, str, np.ndarray[Any, Any]]]) -> Figure:
    """Return the share of turns that took at most a given time, one curve for each latency."""
    slowest = max(float(values.max()) for _name, _title, values in curves)
    high = max(float(np.percentile(values, 99.5)) for _name, _title, values in curves) * 1.02
    beyond = slowest > 1.5 * high
    high = high if beyond else slowest
    series = []
    for name, _title, values in curves:
        ordered = np.sort(values)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        keep = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), CURVE_POINTS)).round().astype(int))
        points = [[rounded(x), round(float(y) * 100, 2)] for x, y in zip(ordered[keep], shares[keep], strict=True)]
        series.append({"name": name, "points": [[points[0][0], 0.0], *points]})
    return {
        "id": "cumulative",
        "kind": "curves",
        "title": "Share of turns within a time",
        "name": "",
        "note": f"the slowest 0.5 % are beyond {number(high, 'ms').text}" if beyond else "",
        "label": "Cumulative distribution: "
        + "; ".join(
            f"90 % of turns have {name} within {number(float(np.percentile(values, 90)), 'ms').text}"
            for name, _title, values in curves
        )
        + ".",
        "x": "ms",
        "y": "% of turns",
        "series": series,
        "range": [min(0.0, rounded(min(values.min() for _name, _title, values in curves))), rounded(high)],
        "wide": True,
    }


def over_time(
    name: str,
    title: str,
    turns: pd.DataFrame,
    origin: float | None,
    gates: list[tuple[str, float]],
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
    every = -(-int(answered.sum()) // MAX_POINTS)
    if every > 1:
        answered &= np.cumsum(answered) % every == 0
        notes.append(f"every {every}th answered turn is drawn")
    series = (("ok", triples(at, values, rows, answered)), ("not ok", triples(at, np.zeros(len(turns)), rows, failed)))
    return {
        "id": f"time-{name}",
        "kind": "scatter",
        "title": f"{title} over the run",
        "name": name,
        "note": "; ".join(notes),
        "label": f"{name} of each turn over the run; {int(failed.sum())} turns were not ok.",
        "x": X,
        "y": "ms",
        "series": [{"name": word, "points": points} for word, points in series if points],
        "lines": limits,
        "wide": True,
    }


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
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return when each turn happened, in seconds since the origin: the first of the columns that it has."""
    at = np.full(len(turns), np.nan)
    if origin is None:
        return at
    for column in columns:
        if column in turns:
            values = (turns[column].to_numpy(dtype=float, na_value=np.nan) - origin) / 1e9
            at = np.where(np.isnan(at), values, at)
    return at
