"""The numbers behind the plots of the report page: bins, cumulative shares and series over time, as plain JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...analysis.metrics import CHECKS, STATS
from ...analysis.stats import withheld
from .wording import number

__all__ = ["figures_of", "limits_of", "metric_of", "origin_ns", "seconds"]

Figure = dict[str, Any]

LATENCIES = {
    "ttfa_ms": "Time to first audio",
    "v2v_ms": "Voice to voice",
    "response_ms": "Whole response",
    "endpoint_ms": "Endpointing",
}

MIN_BINS = 12
MAX_BINS = 40
CURVE_POINTS = 300
TIME_BINS = 200
MAX_POINTS = 20_000
FAR = 4.0
"""A limit of more than this times the slowest is named and not drawn: it would flatten the plot."""


def figures_of(
    turns: pd.DataFrame,
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
            latency.append(over_time(name, LATENCIES[name], turns, origin, limits.get(name, [])))
            break
    return {
        "latency": latency,
        "load": load_figures(turns, health, origin, run),
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
    name: str, title: str, turns: pd.DataFrame, origin: float | None, gates: list[tuple[str, float]]
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
        "x": "seconds since the first turn",
        "y": "ms",
        "series": [{"name": word, "points": points} for word, points in series if points],
        "lines": limits,
        "wide": True,
    }


def load_figures(
    turns: pd.DataFrame, health: pd.DataFrame, origin: float | None, run: Mapping[str, Any]
) -> list[Figure]:
    """Return sessions open over time beside what was asked, and answers per second."""
    figures: list[Figure] = []
    open_sessions = health_series(health, "sessions", origin)
    if len(open_sessions):
        # Workers sample at different moments of a second: the sum over workers of each second's maximum is the load.
        second = open_sessions.assign(at=open_sessions["at"].round())
        total = second.groupby(["at", "worker"])["value"].max().groupby(level="at").sum()
        asked = (run.get("planned") or {}).get("sessions_at_once")
        figures.append(
            {
                "id": "sessions",
                "kind": "lines",
                "title": "Sessions open",
                "name": "",
                "note": "",
                "label": f"Sessions open over the run: at most {int(total.max())}.",
                "x": "seconds since the first turn",
                "y": "sessions",
                "stepped": True,
                "series": [{"name": "open", "points": thinned(total.index.to_numpy(), total.to_numpy())}],
                "lines": [line(float(asked), f"asked: {asked}", "mark")] if isinstance(asked, int | float) else [],
            }
        )
    ended = seconds(turns, origin, columns=("response_done_ns",))
    ended = ended[np.isfinite(ended)]
    if len(ended) > 1 and np.ptp(ended) > 0:
        width = max(1.0, float(np.ceil(np.ptp(ended) / 60)))
        edges = np.arange(min(0.0, np.floor(ended.min())), ended.max() + width, width)
        counts, edges = np.histogram(ended, bins=edges if len(edges) > 1 else 1)
        figures.append(
            {
                "id": "answers",
                "kind": "histogram",
                "title": "Answers over the run",
                "name": "",
                "note": f"bars of {width:g} s",
                "label": f"Answers that ended, in steps of {width:g} seconds: at most {int(counts.max())}.",
                "x": "seconds since the first turn",
                "y": "answers",
                "bars": [[rounded((a + b) / 2), int(c)] for a, b, c in zip(edges, edges[1:], counts, strict=False)],
                "edges": [rounded(edge) for edge in edges],
                "lines": [],
            }
        )
    return figures


def health_figures(health: pd.DataFrame, origin: float | None, run: Mapping[str, Any]) -> list[Figure]:
    """Return how late the generator itself was, and how busy."""
    limits = run.get("limits") or {}
    figures: list[Figure] = []
    for kind, title, limit in (
        ("send", "Send lag", limits.get("send_lag_ms")),
        ("loop", "Event loop lag", limits.get("loop_lag_ms")),
    ):
        samples = health_series(health, kind, origin)
        if not len(samples):
            continue
        binned = samples.groupby(time_bins(samples["at"]), observed=True)["value"]
        p99, worst = binned.quantile(0.99), binned.max()
        text = "" if limit is None else f"limit {limit:g} ms"
        drawn, far = in_view([] if limit is None else [(text, float(limit))], float(worst.max()))
        figures.append(
            {
                "id": f"health-{kind}",
                "kind": "lines",
                "title": title,
                "name": f"{kind}_lag_ms",
                "note": "; ".join(far or (["the limit is on the p99 of the run"] if drawn else [])),
                "label": f"{title} over the run: at most {number(float(worst.max()), 'ms').text}.",
                "x": "seconds since the first turn",
                "y": "ms",
                "series": [
                    {"name": "p99", "points": pairs(p99.index.to_numpy(), p99.to_numpy())},
                    {"name": "max", "points": pairs(worst.index.to_numpy(), worst.to_numpy())},
                ],
                "lines": drawn,
            }
        )
    cpu = health_series(health, "cpu", origin)
    if len(cpu):
        busiest = cpu.groupby(time_bins(cpu["at"]), observed=True)["value"].max()
        figures.append(
            {
                "id": "health-cpu",
                "kind": "lines",
                "title": "CPU of the generator",
                "name": "cpu_share",
                "note": "busiest worker; 100 % is one core",
                "label": f"CPU share of the busiest worker: at most {busiest.max() * 100:.0f} %.",
                "x": "seconds since the first turn",
                "y": "% of a core",
                "series": [{"name": "cpu", "points": pairs(busiest.index.to_numpy(), busiest.to_numpy() * 100)}],
                "lines": [],
            }
        )
    return figures


def health_series(health: pd.DataFrame, kind: str, origin: float | None) -> pd.DataFrame:
    """Return one kind of sample as ``at`` (seconds since the run's first turn), ``value`` and ``worker``."""
    if not len(health) or "kind" not in health or origin is None:
        return pd.DataFrame({"at": [], "value": [], "worker": []}, dtype=float)
    chosen = health.loc[health["kind"].astype("string").eq(kind).fillna(False)]
    return pd.DataFrame(
        {
            "at": (chosen["at_ns"].to_numpy(dtype=float, na_value=np.nan) - origin) / 1e9,
            "value": pd.to_numeric(chosen["value"], errors="coerce").to_numpy(dtype=float, na_value=np.nan),
            "worker": chosen["worker"].astype(str).to_numpy() if "worker" in chosen else "0",
        }
    ).dropna()


def time_bins(at: pd.Series[float]) -> pd.Series[float]:
    """Return the time of each sample rounded down to a bin, so that a day of samples stays a few hundred points."""
    width = max(1.0, float(np.ceil((at.max() - at.min()) / TIME_BINS)))
    return (at // width) * width


def origin_ns(turns: pd.DataFrame, health: pd.DataFrame, run: Mapping[str, Any]) -> float | None:
    """Return the moment that the page counts seconds from: the first start of a turn, else the first health sample."""
    for column in ("started_ns", "speech_end_ns"):
        if column in turns and turns[column].notna().any():
            return float(turns[column].min())
    if len(health) and "at_ns" in health:
        return float(health["at_ns"].min())
    started = run.get("started_ns")
    return float(started) if isinstance(started, int) else None


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


def in_view(gates: Sequence[tuple[str, float]], top: float) -> tuple[list[Figure], list[str]]:
    """Return the lines of limits, and sentences for those so far off that drawing them would flatten the plot."""
    drawn = [line(limit, text, "gate") for text, limit in gates if limit <= FAR * max(top, 1.0)]
    return drawn, [f"beyond the plot: {text}" for text, limit in gates if limit > FAR * max(top, 1.0)]


def line(at: float, label: str, role: str) -> Figure:
    """Return one straight line across a plot: a ``mark`` (a fact) or a ``gate`` (a limit)."""
    return {"at": rounded(at), "label": label, "role": role}


def rounded(value: float) -> float:
    """Return a number with as many digits as a plot can show."""
    return round(float(value), 2)


def pairs(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return points of a line."""
    return [[rounded(a), rounded(b)] for a, b in zip(x, y, strict=True)]


def thinned(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return points of a stepped line without those that change nothing."""
    keep = np.ones(len(y), dtype=bool)
    if len(y) > 2:
        keep[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return pairs(x[keep], y[keep])


def triples(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]
) -> list[list[float]]:
    """Return points with the number of the table row that each stands for."""
    return [[rounded(a), round(float(b), 1), int(c)] for a, b, c in zip(x[mask], y[mask], rows[mask], strict=True)]
