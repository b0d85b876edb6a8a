"""The load of a run and the workers that held it as plain rows, the same for every report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..records import MASTER

__all__ = ["LoadRow", "WorkerRow", "incidents_of", "is_shaped", "left_out_as_warmup", "load_rows", "worker_rows"]


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One measure of load.

    Attributes:
        asked, achieved: ``None`` where it was not asked, or not measured.
        unit: ``1/s``, ``s``, or nothing.
        note: what else there is to say of what was achieved.
    """

    what: str
    asked: float | None
    achieved: float | None
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One process that took part; ``None`` where it is not known.

    Attributes:
        where: its machine and process.
        sessions_max: most sessions that it had open at once.
        turns, sessions: what came from it.
        late: the lags by which it alone makes the run invalid.
        lost: why it did not stay to the end; ``None``: it did.
    """

    name: str
    where: str = ""
    sessions_max: int | None = None
    turns: int | None = None
    sessions: int | None = None
    send_lag_p99_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    stamp_lag_p99_ms: float | None = None
    cpu_share: float | None = None
    cpu_max: float | None = None
    late: tuple[str, ...] = ()
    lost: str | None = None


def load_rows(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[LoadRow]:
    """Return what was asked of the run beside what it did."""
    return list(_load_rows(run, summary))


def _load_rows(run: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[LoadRow]:
    planned, load = run.get("planned") or {}, run.get("load") or {}
    counts, metrics = summary.get("counts") or {}, summary.get("metrics") or {}
    compared = summary.get("load") or {}
    began = counts.get("turns", 0) - counts.get("not_started", 0)
    yield LoadRow("turns", planned.get("turns"), began, note=f"{(counts.get('outcomes') or {}).get('ok', 0)} ok")
    ready = f"{counts.get('sessions_ready', 0)} ready"
    yield LoadRow("sessions", planned.get("sessions"), counts.get("sessions"), note=ready)
    peak = (metrics.get("sessions_peak") or {}).get("value", (run.get("live") or {}).get("sessions_peak"))
    is_open = compared.get("model") == "open"
    most = load.get("peak") or planned.get("sessions_at_once")
    yield LoadRow("sessions at once, no more than" if is_open else "sessions at once", most, peak)
    for name, what, unit in (
        ("sessions_open", "sessions open on average", ""),
        ("arrivals", "sessions that fell due, and started", ""),
        ("sessions_per_s", "sessions started per second", "1/s"),
    ):
        if compared.get(name):
            yield LoadRow(what, compared[name].get("asked"), compared[name].get("achieved"), unit, _while(compared))
    started, ended = run.get("started_ns"), run.get("ended_ns")
    took_s = (ended - started) / 1e9 if isinstance(started, int) and isinstance(ended, int) else None
    yield LoadRow("length of the run", load.get("duration_s"), took_s, "s")


def _while(compared: Mapping[str, Any]) -> str:
    if compared.get("from_s"):
        return f"from {compared['from_s']:g} s to {compared['to_s']:g} s"
    return f"in the first {compared['to_s']:g} s" if compared.get("to_s") else ""


def is_shaped(run: Mapping[str, Any]) -> bool:
    """Whether the load was one over time, and not just so many sessions until all is done."""
    load = run.get("load") or {}
    return bool(load.get("duration_s") or load.get("stages") or load.get("model") == "open")


def left_out_as_warmup(summary: Mapping[str, Any]) -> str:
    """Say what the warm-up left out; empty when there was none."""
    counts, load = summary.get("counts") or {}, summary.get("load") or {}
    turns, sessions = counts.get("warmup") or 0, counts.get("sessions_warmup") or 0
    seconds = load.get("warmup_s")
    if not turns and not sessions and not seconds:
        return ""
    first = f"the first {seconds:g} s" if seconds else "the warm-up"
    return f"Left out as warm-up ({first}): {turns} turns and {sessions} sessions, all that began then."


def incidents_of(run: Mapping[str, Any]) -> list[str]:
    """Return what happened while the run went on, a sentence each."""
    return [str(text) for text in (run.get("live") or {}).get("incidents") or ()]


def worker_rows(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[WorkerRow]:
    """Return the processes that took part, when there were several or one of them was lost."""
    told = {str(worker["name"]): worker for worker in run.get("workers") or ()}
    measured = (summary.get("health") or {}).get("workers") or {}
    names = sorted({*told, *measured}, key=lambda name: (name == MASTER, len(name), name))
    rows = [_worker_row(name, told.get(name) or {}, measured.get(name) or {}) for name in names]
    return rows if len(rows) > 1 or any(row.lost is not None for row in rows) else []


def _worker_row(name: str, told: Mapping[str, Any], health: Mapping[str, Any]) -> WorkerRow:
    where = str(told.get("host") or "")
    if told.get("pid"):
        where += f", process {told['pid']}" if where else f"process {told['pid']}"
    lost = str(told.get("sentence") or "lost") if told.get("lost") else None
    return WorkerRow(
        name=name,
        where=where,
        lost=lost,
        late=tuple(health.get("late") or ()),
        **{key: _number(told.get(key)) for key in ("turns", "sessions")},
        **{
            key: _number(health.get(key))
            for key in (
                "send_lag_p99_ms",
                "loop_lag_p99_ms",
                "stamp_lag_p99_ms",
                "cpu_share",
                "cpu_max",
                "sessions_max",
            )
        },
    )


def _number(value: Any) -> Any:
    """A number of a file that may have been edited by hand."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
