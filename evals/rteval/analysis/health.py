"""Whether the generator kept up: a run whose own machine was the bottleneck says nothing about the target's speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .stats import percentile

__all__ = ["judge_health"]

CURE = "use fewer sessions or an idler machine, or raise limits.{name} if this lateness does not matter to you"


def judge_health(health: pd.DataFrame, limits: Mapping[str, float | None]) -> dict[str, Any]:
    """Judge the health samples of a run.

    Send lag (lateness of audio frames) and loop lag (lateness of the event loop) are judged by their 99th percentile,
    however few samples there are. A run without paced audio has no send lag and is judged by loop lag alone.

    Args:
        health: ``worker``, ``kind`` (``loop``, ``send`` in ms; ``cpu`` as a share of one core), ``at_ns``, ``value``.
        limits: ``send_lag_ms`` and ``loop_lag_ms``; ``None`` or absent is no limit.

    Returns:
        ``verdict`` (``ok``, ``invalid``, ``not_measured``), ``reasons`` (sentences), and for each of ``send_lag_ms``
        and ``loop_lag_ms`` ``n``, ``p50``, ``p99``, ``max``, ``limit``; ``cpu_share`` with ``n``, ``mean``, ``max``;
        ``workers`` with each worker's p99 and mean CPU share.
    """
    lags = {f"{kind}_lag_ms": _lag(_values(health, kind), limits.get(f"{kind}_lag_ms")) for kind in ("send", "loop")}
    reasons = [
        f"the generator was the bottleneck: {name} p99 {lag['p99']:.1f} is beyond the limit of {lag['limit']:g} ms; "
        + CURE.format(name=name)
        for name, lag in lags.items()
        if lag["p99"] is not None and lag["limit"] is not None and lag["p99"] > lag["limit"]
    ]
    measured = any(lag["n"] for lag in lags.values())
    return {
        "verdict": "invalid" if reasons else "ok" if measured else "not_measured",
        "reasons": reasons if measured else ["the generator's own lateness was not measured"],
        **lags,
        "cpu_share": _cpu(_values(health, "cpu")),
        "workers": {str(worker): _worker(rows) for worker, rows in health.groupby("worker", observed=True, sort=True)},
    }


def _values(health: pd.DataFrame, kind: str) -> npt.NDArray[np.float64]:
    return np.sort(health.loc[health["kind"] == kind, "value"].to_numpy(dtype=np.float64))


def _lag(samples: npt.NDArray[np.float64], limit: float | None) -> dict[str, Any]:
    n = len(samples)
    return {
        "n": n,
        "p50": percentile(samples, 0.50) if n else None,
        "p99": percentile(samples, 0.99) if n else None,
        "max": float(samples[-1]) if n else None,
        "limit": limit,
    }


def _cpu(samples: npt.NDArray[np.float64]) -> dict[str, Any]:
    n = len(samples)
    return {"n": n, "mean": float(samples.mean()) if n else None, "max": float(samples[-1]) if n else None}


def _worker(rows: pd.DataFrame) -> dict[str, Any]:
    send, loop, cpu = (_values(rows, kind) for kind in ("send", "loop", "cpu"))
    return {
        "send_lag_p99_ms": percentile(send, 0.99) if len(send) else None,
        "loop_lag_p99_ms": percentile(loop, 0.99) if len(loop) else None,
        "cpu_share": float(cpu.mean()) if len(cpu) else None,
    }
