"""What scorers found in a run, kept in its folder: columns of turns and numbers of the run, one file a scorer.

The judging half reads these files and never runs a scorer itself, so that a verdict can be had again from the folder
alone: without the network, without a key, without the plug-in.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from ..errors import RunFolderError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PREFIX",
    "SCORES",
    "Measured",
    "Metric",
    "Scored",
    "evidence_file",
    "metric_name",
    "not_scored",
    "read_scored",
    "score_columns",
    "score_entries",
    "shape_faults",
    "write_scored",
]

SCORES = "scores"
"""Folder of a run folder: ``NAME.json`` holds what a scorer found, ``NAME.jsonl`` its evidence where it has some."""

PREFIX = "scorers."
"""Prefix of the metrics of scorers: ``scorers.<name>.<metric>``."""

NAME = re.compile(r"[A-Za-z0-9_]+")
_KEY = ("session", "turn")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of the run that a scorer makes.

    Attributes:
        definition: one sentence for the reader of a report.
        unit: ``ratio`` (0.05 is 5 %), ``ms``, or a word for what is counted.
        of: the column whose sum, over the turns that have a value in it, is the numerator (a flag counts 1). With it
            the metric has an interval, and is known of each variant. ``None``: it is no ratio of sums.
        per: the column whose sum is the denominator; ``None``: each of those turns counts 1, as in a mean or a share.
        better: whether ``higher`` or ``lower`` is better, for comparisons; ``None``: neither.
    """

    definition: str
    unit: str = "ratio"
    of: str | None = None
    per: str | None = None
    better: Literal["higher", "lower"] | None = "higher"


@dataclass(frozen=True, slots=True)
class Measured:
    """The value of a metric.

    Attributes:
        value: ``None`` when it was not measured; then ``reason`` says why.
        n: turns behind it.
        left_out: turns that could have been behind it and are not.
    """

    value: float | None
    n: int
    left_out: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer found.

    Attributes:
        columns: by name, one value for each turn in the order of the table: numbers, flags or texts; ``None`` is "not
            measured". In the turn table they are called ``score_<scorer>_<name>``.
        metrics: numbers of the run, by the names that the scorer announced.
        about: what the scores depend on (model, rubric, versions), as data for JSON; never a secret.
        texts: names of the columns that quote what was said; a run without transcripts does not keep them.
        reason: why nothing was scored at all; then there are neither columns nor metrics.
    """

    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[str] = ()
    reason: str | None = None


def not_scored(reason: str) -> Scored:
    """What there is of a scorer that could not do its work."""
    return Scored(reason=reason)


def metric_name(scorer: str, metric: str) -> str:
    """The name by which gates and ``summary.json`` know a scorer's metric."""
    return f"{PREFIX}{scorer}.{metric}"


def evidence_file(run_dir: Path, name: str) -> Path:
    """Where a scorer may write what its verdicts rest on, one JSON object a line."""
    return run_dir / SCORES / f"{name}.jsonl"


def shape_faults(scored: Scored, metrics: Mapping[str, Metric], rows: int) -> list[str]:
    """Say what of a scorer's result cannot be used: columns of another length, names that are none, unknown metrics."""
    faults = []
    for name, values in scored.columns.items():
        if not NAME.fullmatch(name):
            faults.append(f"column {name!r} is not named in letters, digits and _")
        elif len(values) != rows:
            faults.append(f"column {name!r} has {len(values)} values for {rows} turns")
        elif not any(all(_is(kind, value) for value in values) for kind in _KINDS):
            faults.append(f"column {name!r} does not hold numbers, flags or texts of one kind")
    wanted = dict.fromkeys(name for metric in metrics.values() for name in (metric.of, metric.per) if name is not None)
    faults += [f"column {name!r} is missing" for name in wanted if scored.metrics and name not in scored.columns]
    faults += [f"metric {name!r} was not announced" for name in scored.metrics if name not in metrics]
    faults += [f"metric {name!r} is no number" for name, found in scored.metrics.items() if not _is(float, found.value)]
    return faults


def write_scored(
    path: Path,
    scored: Scored,
    turns: pd.DataFrame,
    *,
    options: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    texts: bool = True,
) -> None:
    """Keep what a scorer found.

    Args:
        path: the file.
        scored: without faults of shape.
        turns: the turn table that was scored.
        options: of the scorer, as ``run.json`` has them; by them it is told whether the file is still good.
        metrics: what the scorer announced.
        texts: whether columns that quote what was said are kept.

    Raises:
        RunFolderError: the disk refused.
    """
    columns = {name: values for name, values in scored.columns.items() if texts or name not in scored.texts}
    content = {
        "options": digest(options),
        "about": dict(scored.about),
        "reason": scored.reason,
        "metrics": {name: _entry(metric, scored.metrics.get(name), scored.reason) for name, metric in metrics.items()},
        "turns": [list(key) for key in zip(*(turns[name].tolist() for name in _KEY), strict=True)],
        "columns": {name: [_plain(value) for value in values] for name, values in columns.items()},
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_bytes(orjson.dumps(content) + b"\n")
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_scored(path: Path, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read what a scorer found with these options; ``None`` when it never ran with them, or the file is damaged."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    shaped = isinstance(content, dict) and all(
        isinstance(content.get(key), kind) for key, kind in (("metrics", dict), ("turns", list), ("columns", dict))
    )
    return content if shaped and content.get("options") == digest(options) else None


def score_columns(name: str, content: Mapping[str, Any], turns: pd.DataFrame) -> pd.DataFrame:
    """The columns of a scorer in the order of the turn table.

    Args:
        name: of the scorer in the scenario.
        content: of its file.
        turns: the turn table; a turn that the scorer has not seen has no values.
    """
    import pandas as pd

    at = {tuple(key): row for row, key in enumerate(content["turns"])}
    rows = [at.get(key) for key in zip(*(turns[key].tolist() for key in _KEY), strict=True)]
    columns: dict[str, Any] = {}
    for column, values in content["columns"].items():
        ordered = [None if row is None or row >= len(values) else values[row] for row in rows]
        columns[f"score_{name}_{column}"] = pd.array(ordered, dtype=_dtype(ordered))
    return pd.DataFrame(columns, index=turns.index)


def score_entries(name: str, content: Mapping[str, Any], announced: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The entries of a scorer's metrics in ``summary.json``: each has a value or a reason, and what it depends on.

    ``made_by`` is a digest of that (model, rubric, versions): where it differs, two numbers are not of one kind.

    Args:
        name: of the scorer in the scenario.
        content: of its file; where there is none, a mapping with the ``reason``.
        announced: full names of metrics that the run was planned with, of all scorers.
    """
    own = f"{PREFIX}{name}."
    reason = str(content.get("reason") or "not measured")
    entries = {full: _missing(reason) for full in announced if full.startswith(own)}
    about = content.get("about")
    made_by = {"made_by": digest(about)[:16]} if isinstance(about, dict) and about else {}
    for metric, entry in content.get("metrics", {}).items():
        columns = {key: f"score_{name}_{entry[key]}" for key in ("of", "per") if entry.get(key) is not None}
        entries[own + metric] = {**entry, **columns, **made_by}
    return entries


def digest(options: Mapping[str, Any]) -> str:
    """SHA-256 of options, by which it is told whether scores were made with them."""
    return hashlib.sha256(orjson.dumps(dict(options), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _entry(metric: Metric, found: Measured | None, reason: str | None) -> dict[str, Any]:
    found = found or Measured(None, 0, 0, reason)
    value = _plain(found.value)
    entry = {"n": int(found.n), "left_out": int(found.left_out), "unit": metric.unit, "value": value}
    entry |= {"reason": found.reason or "not measured"} if value is None else {}
    columns = {key: name for key, name in (("of", metric.of), ("per", metric.per)) if name is not None}
    direction = {} if metric.better == "higher" else {"better": metric.better}
    return entry | {"definition": metric.definition} | columns | direction


def _missing(reason: str) -> dict[str, Any]:
    return {"n": 0, "left_out": 0, "unit": "", "value": None, "reason": reason, "definition": ""}


_KINDS = (bool, int, float, str)


def _is(kind: type, value: Any) -> bool:
    value = _plain(value)
    if value is None:
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _plain(value: Any) -> Any:
    """A value as JSON knows it: numbers of numpy become ours, what is missing becomes ``None``."""
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    # pandas' NA is neither equal to itself nor not.
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _dtype(values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {bool}:
        return "boolean"
    if kinds and kinds <= {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return "Int64"
    return "float64" if kinds <= {int, float} else "string"
