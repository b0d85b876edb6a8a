"""Whether the generator kept up: a run whose own machine was the bottleneck says nothing about the target's speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..records import MASTER
from .stats import MIN_SAMPLES, ascending, percentile

__all__ = ["LAGS", "judge_health", "lags_of", "measured_health"]

LAGS = {"send_lag_ms": "send", "loop_lag_ms": "loop", "stamp_lag_ms": "stamp"}
"""Each lag by the name of its metric, and what its rows are called in the table of health."""

_SHOWN = 3
_BUSY = 0.7
"""Beyond this share of a core, a process is late because of what it does itself."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def measured_health(health: pd.DataFrame, warm_until_ns: int | None = None) -> pd.DataFrame:
    """Return the rows that the generator is judged by: those of processes that hold sessions, after the warm-up."""
    kept = (health["worker"] != MASTER).to_numpy(dtype=bool)
    if warm_until_ns is not None:
        kept = kept & (health["at_ns"] > warm_until_ns).to_numpy(dtype=bool)
    return health if kept.all() else health.loc[kept]


def lags_of(health: pd.DataFrame, kind: str) -> tuple[Floats, Counts]:
    """Return the values of one kind of sample, and for how many samples each stands."""
    rows = health.loc[health["kind"] == kind]
    values = rows["value"].to_numpy(dtype=np.float64, copy=True)
    counts = rows["n"].to_numpy(dtype=np.int64) if "n" in rows else np.ones(len(rows), dtype=np.int64)
    return values, counts


def judge_health(
    health: pd.DataFrame, limits: Mapping[str, float | None], *, warm_until_ns: int | None = None
) -> dict[str, Any]:
    """Judge the health samples of a run.

    Send lag (lateness of audio frames) and loop lag (lateness of the event loop) are judged by their 99th percentile,
    over all workers, however few samples there are, and for each worker by itself where it has enough of them: one late
    worker of four is late for a quarter of the turns. A run without paced audio has no send lag and is judged by loop
    lag alone. The process that only deals sessions to workers is shown and not judged: its lateness is start lag.

    Args:
        health: ``worker``, ``kind`` (``loop``, ``send``, ``stamp`` in ms; ``cpu`` as a share of one core), ``at_ns``,
            ``value``, ``n`` (for how many samples the value stands; 1 by default).
        limits: ``send_lag_ms`` and ``loop_lag_ms``; ``None`` or absent is no limit.
        warm_until_ns: end of the warm-up, whose samples are left out.

    Returns:
        ``verdict`` (``ok``, ``invalid``, ``not_measured``); ``reasons``: why, and what to do about it; for each of
        ``send_lag_ms``, ``loop_lag_ms`` and ``stamp_lag_ms`` ``n``, ``p50``, ``p99``, ``max``, ``limit``;
        ``cpu_share`` with ``n``, ``mean``, ``max``; ``workers`` with each process's p99s, its mean and highest CPU
        share, the most sessions that it had open, and ``late``: the lags by which it alone makes the run invalid.
    """
    measured = measured_health(health, warm_until_ns)
    lags = {name: _lag(*lags_of(measured, kind), limits.get(name)) for name, kind in LAGS.items()}
    workers = {
        str(worker): _worker(rows, limits if worker != MASTER else {})
        for worker, rows in _after(health, warm_until_ns).groupby("worker", observed=True, sort=True)
    }
    reasons = _reasons(lags, workers, measured)
    is_measured = any(lag["n"] for lag in lags.values())
    return {
        "verdict": "invalid" if reasons else "ok" if is_measured else "not_measured",
        "reasons": reasons if is_measured else ["the generator's own lateness was not measured"],
        **lags,
        "cpu_share": _cpu(measured),
        "workers": workers,
    }


def _after(health: pd.DataFrame, warm_until_ns: int | None) -> pd.DataFrame:
    return health if warm_until_ns is None else health.loc[health["at_ns"] > warm_until_ns]


def _lag(values: Floats, counts: Counts, limit: float | None) -> dict[str, Any]:
    values, upto = ascending(values, counts)
    n = len(values) if upto is None else int(upto[-1])
    # No percentile is withheld: a run is judged by its lateness however short it was.
    return {
        "n": n,
        "p50": percentile(values, 0.50, upto) if n else None,
        "p99": percentile(values, 0.99, upto) if n else None,
        "max": float(values[-1]) if n else None,
        "limit": limit,
    }


def _cpu(health: pd.DataFrame) -> dict[str, Any]:
    shares, _ = lags_of(health, "cpu")
    n = len(shares)
    return {"n": n, "mean": float(shares.mean()) if n else None, "max": float(shares.max()) if n else None}


def _worker(rows: pd.DataFrame, limits: Mapping[str, float | None]) -> dict[str, Any]:
    lags = {name: _lag(*lags_of(rows, kind), limits.get(name)) for name, kind in LAGS.items()}
    cpu = _cpu(rows)
    sessions, _ = lags_of(rows, "sessions")
    return {
        **{f"{kind}_lag_p99_ms": lags[name]["p99"] for name, kind in LAGS.items()},
        "cpu_share": cpu["mean"],
        "cpu_max": cpu["max"],
        "sessions_max": int(sessions.max()) if len(sessions) else None,
        "late": [name for name, lag in lags.items() if lag["n"] >= MIN_SAMPLES["p99"] and _is_late(lag)],
    }


def _is_late(lag: Mapping[str, Any]) -> bool:
    return lag["p99"] is not None and lag["limit"] is not None and lag["p99"] > lag["limit"]


# ---- in words ----


def _reasons(
    lags: Mapping[str, Mapping[str, Any]], workers: Mapping[str, Mapping[str, Any]], measured: pd.DataFrame
) -> list[str]:
    """Say which lags make the run invalid and whose they were, and what to do; nothing when none does."""
    said: list[str] = []
    names: list[str] = []
    shares: list[float] = []
    processes = [worker for worker in workers if worker != MASTER]
    for name, kind in LAGS.items():
        p99s = {worker: workers[worker][f"{kind}_lag_p99_ms"] for worker in processes}
        p99s = {worker: p99 for worker, p99 in p99s.items() if p99 is not None}
        late = sorted((worker for worker in p99s if name in workers[worker]["late"]), key=lambda worker: -p99s[worker])
        if late or _is_late(lags[name]):
            names.append(name)
            said.append(_what(name, lags[name], p99s, late))
            shares += _cpu_while_late(measured, kind, lags[name]["limit"], late or list(p99s))
    if not said:
        return []
    what = f"the generator was the bottleneck: {', and '.join(said)}{_cause(shares)}"
    return [what, _cure(len(processes), names)]


def _what(name: str, lag: Mapping[str, Any], p99s: Mapping[str, float], late: list[str]) -> str:
    beyond = f"is beyond the limit of {lag['limit']:g} ms"
    if len(p99s) <= 1:
        return f"{name} p99 {lag['p99']:.1f} {beyond}"
    if not late:
        return f"{name} p99 {lag['p99']:.1f} over all {len(p99s)} workers {beyond}"
    if len(late) == 1:
        others = max(p99 for worker, p99 in p99s.items() if worker != late[0])
        return f"{name} p99 {p99s[late[0]]:.1f} of {late[0]} {beyond} (others {others:.1f} at most)"
    worst = ", ".join(f"{worker} {p99s[worker]:.1f}" for worker in late[:_SHOWN])
    more = ", ..." if len(late) > _SHOWN else ""
    return f"{name} p99 {beyond} on {len(late)} of {len(p99s)} workers ({worst}{more})"


def _cpu_while_late(health: pd.DataFrame, kind: str, limit: float, workers: list[str]) -> list[float]:
    """The CPU shares of these workers in the seconds in which one of their lags was beyond the limit."""
    rows = health.loc[health["worker"].isin(workers)]
    late = rows.loc[(rows["kind"] == kind) & (rows["value"] > limit), ["worker", "at_ns"]].drop_duplicates()
    seconds = set(late.itertuples(index=False, name=None))
    cpu = rows.loc[rows["kind"] == "cpu", ["worker", "at_ns", "value"]]
    return [value for worker, at_ns, value in cpu.itertuples(index=False, name=None) if (worker, at_ns) in seconds]


def _cause(cpu_shares: list[float]) -> str:
    if not cpu_shares:
        return ""
    share = float(np.mean(cpu_shares))
    if share >= _BUSY:
        return f", while {share:.0%} of a core was in use"
    return f", though only {share:.0%} of a core was in use then: something else held it up"


def _cure(workers: int, names: list[str]) -> str:
    machines = ("", "an idler machine") if workers <= 1 else (" or more machines", "idler ones")
    more = f"use more workers (--workers {max(workers, 1) + 1}{machines[0]}), fewer sessions or {machines[1]}"
    limits = " and ".join(f"limits.{name}" for name in names)
    return f"{more}, or raise {limits} if this lateness does not matter to you"
