"""All runs of a scenario side by side: what each measured, with its interval, its gates and its verdict. No target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from .analysis.compare import unlike
from .analysis.culprit import is_missed
from .analysis.history import RunTables, broken_tables, intervals_of_runs, split_name
from .analysis.load import asked_load
from .analysis.metrics import METRICS, SCORERS, STATS, find_metric
from .analysis.subject import facts_of
from .errors import RtevalError, RunFolderError, UsageError
from .reporting.files import RUN, SUMMARY, read_json, read_run
from .reporting.words import say_culprit, say_verdict
from .shards import is_writing, shard_paths

__all__ = ["HEADLINES", "History", "read_history"]

HEADLINES = (
    "ttfa_ms.p50",
    "ttfa_ms.p95",
    "v2v_ms.p50",
    "response_ms.p50",
    "error_rate",
    "input_wer",
    "output_wer",
    "checks.pass_rate",
)
"""What is shown beside the numbers that gates are about."""

_EXAMPLES = 3

ANOTHER, RUNNING, UNJUDGED, BROKEN = (
    "of another scenario",
    "still running",
    "never judged (`rteval report RUN` does it)",
    "broken",
)


@dataclass(slots=True)
class History:
    """Everything that is known of the runs under a folder.

    Attributes:
        scenarios: by name, in the order of the alphabet: ``metrics``, ``units``, ``definitions`` and ``runs``, oldest
            first, as they go into JSON.
        left_out: by reason how many runs, and the first few of them.
        notes: sentences for people.
    """

    out: Path
    scenarios: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "schema_version": 1,
            "out": str(self.out),
            "scenarios": [{"name": name, **scenario} for name, scenario in self.scenarios.items()],
            "left_out": [
                {"reason": reason, "count": len(runs), "runs": runs[:_EXAMPLES]}
                for reason, runs in sorted(self.left_out.items())
            ],
            "notes": self.notes,
        }


@dataclass(slots=True)
class _Found:
    """One run that can be read.

    Attributes:
        values: its numbers by name.
        lines: the limits of its gates, by what they are about.
    """

    folder: Path
    run: dict[str, Any]
    summary: dict[str, Any]
    name: str
    values: dict[str, float | None] = field(default_factory=dict)
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def read_history(
    out: Path, scenario: str | None = None, metrics: Sequence[str] = (), *, last: int | None = None
) -> History:
    """Read all runs under a folder.

    Args:
        out: folder of all reports, with one folder a scenario.
        scenario: name of one, its folder, or its file; by default all of them.
        metrics: what to show, e.g. ``ttfa_ms.p95`` or ``input_wer`` (``ttfa_ms`` is its p50 and p95); by default what
            the gates of the newest run are about, and the headline metrics that were measured.
        last: only so many of the newest runs of each scenario.

    Raises:
        UsageError: a metric does not exist, or there is no such folder or scenario.
    """
    asked = [name for text in metrics for name in _names(text)]
    if not out.is_dir():
        raise UsageError(f"there is no folder {out}", hint="name the folder of all reports with --out")
    history = History(out)
    wanted = None if scenario is None else _scenario_name(scenario)
    by_name: dict[str, list[_Found]] = {}
    for found in _readable(_folders(out), wanted, history):
        by_name.setdefault(found.name, []).append(found)
    if wanted is not None and wanted not in by_name:
        known = sorted({folder.parent.name for folder in _folders(out)})
        near = get_close_matches(wanted, known, n=1)
        seen = f"; did you mean {near[0]}?" if near and near[0] != wanted else ""
        raise UsageError(f"no finished run of {wanted!r} is under {out}{seen}", hint="start one with 'rteval run'")
    for name in sorted(by_name):
        runs = sorted(by_name[name], key=lambda one: (str(one.run.get("started_at")), one.folder.name))
        history.scenarios[name] = _scenario(runs[-last:] if last else runs, asked, history)
    return history


def _folders(out: Path) -> list[Path]:
    return sorted(file.parent for file in out.glob(f"*/*/{RUN}"))


def _scenario_name(text: str) -> str:
    path = Path(text)
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def _names(text: str) -> list[str]:
    """What a metric on the command line means."""
    metric = find_metric(text)
    if metric is not None:
        return [f"{text}.{stat}" for stat in ("p50", "p95")] if metric.is_distribution else [text]
    base, stat = split_name(text)
    metric = find_metric(base)
    if metric is not None and metric.is_distribution and stat in STATS:
        return [text]
    if metric is not None and not metric.is_distribution:
        raise UsageError(f"--metric {text}: {base} is one value; leave out {'.' + stat!r}")
    if metric is not None:
        raise UsageError(f"--metric {text}: no statistic is called {stat!r}; there are {', '.join(STATS)}")
    near = get_close_matches(base if stat in STATS else text, list(METRICS), n=1, cutoff=0.4)
    raise UsageError(f"--metric {text}: no metric is called that{f'; did you mean {near[0]!r}?' if near else ''}")


# ---- which runs there are ----


def _readable(folders: Iterable[Path], wanted: str | None, history: History) -> list[_Found]:
    found = []
    for folder in folders:
        try:
            if (one := _one(folder, wanted)) is not None:
                found.append(one)
                continue
            reason = ANOTHER
        except _LeftOut as error:
            reason = str(error)
        except RtevalError as error:
            reason = f"{BROKEN}: {_without_folder(error, folder)}"
        history.left_out.setdefault(reason, []).append(str(folder))
    broken = broken_tables([RunTables(one.folder) for one in found])
    for folder, why in broken.items():
        history.left_out.setdefault(f"{BROKEN}: {why}", []).append(str(folder))
    return [one for one in found if one.folder not in broken]


class _LeftOut(Exception):
    """The run is none to compare; the message says why."""


def _one(folder: Path, wanted: str | None) -> _Found | None:
    """A run, or ``None`` for one of another scenario."""
    if wanted is not None and folder.parent.name != wanted and (folder / RUN).stat().st_size > 0:
        with suppress(RtevalError):
            if (read_run(folder).get("scenario") or {}).get("name") != wanted:
                return None
    run = read_run(folder)
    name = str((run.get("scenario") or {}).get("name") or folder.parent.name)
    if wanted is not None and name != wanted:
        return None
    if any(is_writing(path) for path in shard_paths(folder)):
        raise _LeftOut(RUNNING)
    if not (folder / SUMMARY).is_file():
        raise _LeftOut(UNJUDGED)
    summary = read_json(folder / SUMMARY)
    wrong = [key for key, kind in _SUMMARY.items() if not isinstance(summary.get(key), kind)]
    wrong += [] if wrong else [f"metrics.{k}" for k, v in summary["metrics"].items() if not isinstance(v, dict)]
    if not wrong and not all(_holds_texts(gate, "verdict") for gate in summary["gates"]):
        wrong.append("gates")
    if summary.get("culprit") and not _holds_texts(summary["culprit"], "who", "sentence"):
        wrong.append("culprit")
    if wrong:
        raise RunFolderError(f"{SUMMARY} is damaged: {', '.join(wrong)}")
    return _Found(folder, run, summary, name)


def _holds_texts(entry: Any, *keys: str) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys)


_SUMMARY: Mapping[str, type] = {
    "exit_code": int,
    "state": str,
    "metrics": dict,
    "gates": list,
    "counts": dict,
    "health": dict,
}


def _without_folder(error: Exception, folder: Path) -> str:
    """The reason alone, so that runs that are broken in the same way are counted together."""
    return str(error).replace(f"{folder}/", "").splitlines()[0]


# ---- one scenario ----


def _scenario(runs: list[_Found], asked: Sequence[str], history: History) -> dict[str, Any]:
    for one in runs:
        one.lines = _lines(one.summary)
    metrics = _shown(runs, asked, history)
    for one in runs:
        one.values = {name: _value(one.summary, name) for name in metrics}
    tables = [RunTables(one.folder, asked_load(one.run).warm_until_ns) for one in runs]
    try:
        intervals = intervals_of_runs(tables, {one.folder: one.values for one in runs})
    except RunFolderError as error:
        history.notes.append(f"{runs[0].name}: without intervals: {error}")
        intervals = {}
    described = {name: find_metric(split_name(name)[0]) for name in metrics}
    return {
        "metrics": metrics,
        "units": {name: _unit(name, runs) for name in metrics},
        "definitions": {name: metric.definition for name, metric in described.items() if metric is not None},
        "runs": [
            _night(one, metrics, intervals.get(one.folder, {}), list(_unlike(one.run, runs[-1].run))) for one in runs
        ],
    }


def _shown(runs: Sequence[_Found], asked: Sequence[str], history: History) -> list[str]:
    """The names that are shown: those asked for, else those of the newest run's gates and the headlines."""
    names = list(dict.fromkeys(asked or [*runs[-1].lines, *HEADLINES]))
    measured = [name for name in names if any(_value(one.summary, name) is not None for one in runs)]
    if missing := [name for name in asked if name not in measured]:
        history.notes.append(f"{runs[0].name}: no run measured {', '.join(missing)}")
    return measured


def _unit(name: str, runs: Sequence[_Found]) -> str:
    """Of the newest run that knows it: the metrics of scorers are known to their runs alone."""
    metric, stat = split_name(name)
    units = (one.summary["metrics"].get(metric, {}).get("unit") for one in reversed(runs))
    unit = str(next((unit for unit in units if unit is not None), ""))
    return "" if unit == "ratio" and stat != "value" else unit


def _lines(summary: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The limits of a run's gates, by what they are about; one that looks at some turns is about another number."""
    found: dict[str, list[dict[str, Any]]] = {}
    for gate in summary["gates"]:
        op = _OPERATOR.search(str(gate.get("text")))
        if op is not None and isinstance(gate.get("limit"), int | float) and not gate.get("where"):
            line = {"op": op[0], "limit": gate["limit"], "verdict": str(gate["verdict"]), "missed": is_missed(gate)}
            found.setdefault(str(gate.get("metric")), []).append(line)
    return found


_OPERATOR = re.compile("[<>]=?|==")


def _value(summary: Mapping[str, Any], name: str) -> float | None:
    metric, stat = split_name(name)
    value = summary["metrics"].get(metric, {}).get(stat)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _unlike(run: Mapping[str, Any], last: Mapping[str, Any]) -> Iterator[str]:
    """What a run and the last one were not alike in: a step in a trend may come from that, and not from the target."""
    one, other = (_facts(entry) for entry in (run, last))
    if one["dataset"]["hash"] != other["dataset"]["hash"]:
        yield "other datasets (hashes differ)"
    planned = [(entry.get("planned") or {}).get("turns") for entry in (run, last)]
    if planned[0] != planned[1]:
        yield "other numbers of planned turns: " + " and ".join("open" if n is None else str(n) for n in planned)
    judged = [(entry.get("judged_by") or {}).get("path") for entry in (run, last)]
    if judged[0] != judged[1]:
        yield "other judges: " + " and ".join(
            "the scenario as it ran" if path is None else str(path) for path in judged
        )
    yield from unlike(one, other)


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    return facts_of(run, pd.DataFrame()) | {"normalizers": [str((run.get("scoring") or {}).get("normalizer"))]}


def _night(
    one: _Found, metrics: Sequence[str], intervals: Mapping[str, Any], unlike_last: Sequence[str]
) -> dict[str, Any]:
    run, summary = one.run, one.summary
    culprit = summary.get("culprit")
    return {
        "run_id": str(run.get("run_id") or one.folder.name),
        "run_dir": str(one.folder),
        "started_at": run.get("started_at"),
        "state": summary["state"],
        "exit_code": summary["exit_code"],
        "verdict": say_verdict(summary),
        "culprit": culprit["who"] if culprit else None,
        "look_at": say_culprit(summary),
        "gates": [
            {"text": str(gate.get("text")), "verdict": gate["verdict"], "missed": is_missed(gate)}
            for gate in summary["gates"]
        ],
        "labels": dict(run.get("labels") or {}),
        "model": (run.get("target") or {}).get("model"),
        "scenario_hash": (run.get("scenario") or {}).get("hash"),
        "turns": summary["counts"].get("turns"),
        "unlike_last": unlike_last,
        "metrics": {name: _number(one, name, intervals.get(name)) for name in metrics},
    }


def _stored_interval(summary: Mapping[str, Any], name: str) -> tuple[float | None, float | None] | None:
    """The interval that a summary has of what no query over the tables is known for."""
    metric, stat = split_name(name)
    if not metric.startswith((SCORERS, "goodput_share")):
        return None
    bounds = (summary["metrics"].get(metric, {}).get("ci95") or {}).get(stat)
    return (bounds[0], bounds[1]) if isinstance(bounds, list) and len(bounds) == 2 else None


def _number(one: _Found, name: str, interval: tuple[float | None, float | None] | None) -> dict[str, Any]:
    metric, _ = split_name(name)
    low, high = interval or _stored_interval(one.summary, name) or (None, None)
    known = find_metric(metric)
    return {
        "value": one.values[name],
        "low": low,
        "high": high,
        "n": one.summary["metrics"].get(metric, {}).get("n"),
        # The generator was the bottleneck: the number says nothing about the target, and no line leads to it.
        "invalid": one.summary["state"] == "invalid" and known is not None and known.generator,
        "limits": one.lines.get(name, []),
    }
