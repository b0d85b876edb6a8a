"""A run as comparisons see it: what was run, and what each metric was observed on. From its tables or from a baseline.

A baseline is such a subject in one small file that can be committed: values, sessions and items, hashes and versions,
and no word of any transcript. The machines of a CI service are empty each night; the file is what they remember.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .aggregate import Tables
from .gates import COLUMNS, word_of
from .metrics import CHECKS, SCORERS, Source, find_metric
from .samples import Observed, observe
from .store import META
from .variants import AXIS

__all__ = [
    "BASELINE_VERSION",
    "Subject",
    "baseline_of",
    "baseline_text",
    "facts_of",
    "subject_of",
    "subject_of_baseline",
]

BASELINE_VERSION = 1
_KIND = "rteval baseline"
_DIGITS = 7
"""Significant digits of a value: a tenth of a microsecond of a latency of a second."""

_MOST_LEVELS, _LONGEST = 50, 60
"""A column with more values, or longer ones, is no group: it is not kept."""

KEPT = (
    "ttfa_ms",
    "v2v_ms",
    "ttft_ms",
    "endpoint_ms",
    "ttfa_response_ms",
    "input_transcript_ms",
    "response_ms",
    "rtf",
    "session_ready_ms",
    "error_rate",
    "throttle_rate",
    "setup_success_rate",
    "drop_rate",
    "transcript_missing_rate",
    "input_wer",
    "input_cer",
    "output_wer",
    "output_cer",
    "entity_accuracy",
    "goodput_share",
)
"""Metrics of a baseline, beside the checks, the scorers' and what the run's own gates name."""

_TOLD = ("unit", "better", "made_by")

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One side of a comparison.

    Attributes:
        label: what it is called in tables: run id, or run id and variant.
        facts: what was run, as far as it decides whether a comparison is fair; see :func:`facts_of`.
        turns: one row a turn: ``item``, ``session``, ``tags`` and the columns that turns can be chosen by; texts too
            where the run kept them and a comparison shows them.
        observed: by metric.
        told: of the metrics of scorers what only their runs know: ``unit``, which is ``better``, what ``made_by``.
    """

    label: str
    facts: Mapping[str, Any]
    turns: pd.DataFrame
    observed: Mapping[str, Observed] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def select(self, where: Iterable[tuple[str, str]], label: str | None = None) -> Subject:
        """The part of it whose turns have these values; several of a column are alternatives.

        Metrics of sessions are not among what is left: a session may hold turns of both kinds.
        """
        mask = self.chosen(where)
        return replace(self, label=label or self.label, turns=self.turns.loc[mask], observed=self.observed_on(mask))

    def told_apart(self, axes: Iterable[str]) -> Subject:
        """The same with each item told apart by what else it was run with, so that like is paired with like."""
        columns = [self.turns[name].astype(str) for axis in axes if (name := self.column(axis)) is not None]
        if not columns:
            return self
        items = self.turns["item"].astype(str)
        for column in columns:
            items = items.str.cat(column, sep=", ")
        whole = np.empty(int(self.turns.index.max()) + 1 if len(self.turns) else 0, dtype=object)
        whole[self.turns.index] = items.to_numpy(dtype=object)
        observed = {
            name: one if one.item is None or one.rows is None else replace(one, item=whole[one.rows])
            for name, one in self.observed.items()
        }
        return replace(self, turns=self.turns.assign(item=items), observed=observed)

    def observed_on(self, chosen: Flags) -> dict[str, Observed]:
        """What metrics of turns were observed on some of the turns; those without a sample left out."""
        # Samples know their turns by the rows of the whole table, of which this may be a part already.
        whole = np.zeros(int(self.turns.index.max()) + 1 if len(self.turns) else 0, dtype=bool)
        whole[self.turns.index[chosen]] = True
        found = {name: one.only(whole) for name, one in self.observed.items() if one.item is not None}
        return {name: one for name, one in found.items() if len(one.top)}

    def chosen(self, where: Iterable[tuple[str, str]]) -> Flags:
        """Which turns have these values."""
        wanted: dict[str, set[str]] = {}
        for column, value in where:
            wanted.setdefault(column, set()).add(value)
        mask = np.ones(len(self.turns), dtype=bool)
        for column, values in wanted.items():
            mask &= np.array([not values.isdisjoint(words) for words in self.words(column)], dtype=bool)
        return mask

    def words(self, axis: str) -> list[Collection[str]]:
        """What each turn has in a column, as words: none, one, or the tags; ``hour`` is that of its start, in UTC."""
        if axis in ("tag", "tags"):
            tags = self.turns["tags"] if "tags" in self.turns else [()] * len(self.turns)
            return [tuple(map(str, cell)) if isinstance(cell, list | tuple | np.ndarray) else () for cell in tags]
        if axis == "hour" and "started_at" in self.turns:
            starts = self.turns["started_at"].astype(object)
            return [(f"{start[:13]}h",) if isinstance(start, str) else () for start in starts]
        name = self.column(axis)
        if name is None:
            return [()] * len(self.turns)
        cells = self.turns[name].astype(object)
        return [() if value is None else (word_of(value),) for value in cells.where(cells.notna(), None)]

    def column(self, axis: str) -> str | None:
        """The column of that name: an axis of the run's matrix, what every run can be divided by, the dataset's own."""
        own = (axis,) if axis in COLUMNS else ()
        return next((name for name in (AXIS + axis, *own, META + axis, axis) if name in self.turns), None)


# ---- a run ----


def subject_of(run: Mapping[str, Any], tables: Tables, *, state: str | None = None, invalid: bool = False) -> Subject:
    """A run as a subject.

    Args:
        run: ``run.json``.
        tables: of the run.
        state: of the run; by default as ``run`` says.
        invalid: whether its generator was the bottleneck.
    """
    facts = facts_of(run, tables.turns, state=state, invalid=invalid)
    observed = observe(tables)
    told = {name: _told(entry) for name, entry in tables.scores.items() if name in observed}
    return Subject(str(run.get("run_id") or "run"), facts, tables.turns.reset_index(drop=True), observed, told)


def _told(entry: Mapping[str, Any]) -> dict[str, str | None]:
    return {key: None if entry[key] is None else str(entry[key]) for key in _TOLD if key in entry}


def facts_of(
    run: Mapping[str, Any], turns: pd.DataFrame, *, state: str | None = None, invalid: bool = False
) -> dict[str, Any]:
    """What decides whether two runs can be compared, from ``run.json`` and the turns.

    Returns:
        ``run_id``, ``scenario``, ``scenario_hash``, ``started_at``, ``labels``, ``state``, ``invalid``; ``dataset``
        with ``name`` and ``hash``; ``detector``, ``normalizers``, ``dialect``, ``provider``, ``model``,
        ``api_version``, ``transcription``, ``checks`` (a hash), ``slo``, ``axes`` (the options of each, in the order
        of the scenario), ``turn_detection``, ``load``, ``metrics`` (version of the definitions) and ``rteval``. Never a
        transcript, an address or a secret.
    """
    scenario, target, dataset = (run.get(key) or {} for key in ("scenario", "target", "dataset"))
    resolved = scenario.get("resolved") or {}
    session, load = resolved.get("session") or {}, run.get("load") or {}
    versions = run.get("versions") or {}
    names = turns["normalizer"].dropna().astype(str).unique() if "normalizer" in turns else ()
    return {
        "run_id": run.get("run_id"),
        "scenario": scenario.get("name"),
        "scenario_hash": scenario.get("hash"),
        "started_at": run.get("started_at"),
        "labels": dict(run.get("labels") or {}),
        "state": state or run.get("state"),
        "invalid": invalid,
        "dataset": {"name": dataset.get("name"), "hash": dataset.get("hash")},
        "detector": dataset.get("detector"),
        "normalizers": sorted(names),
        "provider": target.get("provider"),
        "dialect": target.get("dialect"),
        "model": target.get("model"),
        "api_version": target.get("api_version"),
        "transcription": session.get("transcription"),
        "checks": _digest((run.get("scoring") or {}).get("checks")),
        "slo": run.get("slo") or None,
        "axes": _axes(run),
        "turn_detection": session.get("turn_detection"),
        "load": {
            "model": load.get("model"),
            "peak": load.get("peak"),
            "asked": load.get("asked"),
            "pacing": (resolved.get("load") or {}).get("pacing"),
        },
        "metrics": versions.get("metrics"),
        "rteval": versions.get("rteval"),
    }


def _axes(run: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for variant in run.get("variants") or ():
        for axis, option in {"variant": variant["name"], **variant["axes"]}.items():
            found.setdefault(axis, {})[option] = None
    return {axis: list(options) for axis, options in found.items()}


def _digest(checks: Any) -> str | None:
    """What answers are checked for, without the words that are looked for."""
    if not checks:
        return None
    return hashlib.sha256(json.dumps(checks, sort_keys=True).encode()).hexdigest()[:12]


# ---- a baseline ----


def baseline_of(subject: Subject, *, more: Collection[str] = ()) -> dict[str, Any]:
    """A subject as the content of a baseline file.

    Args:
        subject: a run.
        more: metrics to keep beside the usual ones: those of the run's gates.
    """
    turns = subject.turns
    # Of every turn, also of one that is in no number (the warm-up): sessions tell which items hang together.
    of_metrics = [one.session.astype(str) for one in subject.observed.values()]
    names = pd.unique(np.concatenate([turns["session"].astype(str).to_numpy(dtype=str), *of_metrics]))
    sessions = {str(name): code for code, name in enumerate(names)}
    kept = {
        name: _column_of(one, sessions, len(turns)) | _kept_of_scorer(subject, name)
        for name, one in subject.observed.items()
        if name in KEPT or name in more or name.startswith((CHECKS, SCORERS))
    }
    items = _levels(turns["item"])
    return {
        "kind": _KIND,
        "schema_version": BASELINE_VERSION,
        "facts": dict(subject.facts),
        "turns": {
            "n": len(turns),
            "item": items,
            "session": [sessions[str(name)] for name in turns["session"]],
            "tags": _tags(subject),
            "columns": dict(_groups(turns)),
        },
        "metrics": kept,
    }


def baseline_text(content: Mapping[str, Any]) -> str:
    """The file: JSON with a line for each metric and column, so that a review shows what changed."""
    lines = []
    for key, value in content.items():
        if key in ("turns", "metrics"):
            inner = ",\n".join(f"  {_compact(name)}: {_compact(entry)}" for name, entry in value.items())
            lines.append(f"{_compact(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{_compact(key)}: {_compact(value)}")
    return "{" + ",\n".join(lines) + "}\n"


def subject_of_baseline(content: Mapping[str, Any], label: str) -> Subject:
    """The subject that a baseline file holds.

    Raises:
        ValueError: it is none, or of a later version; says why.
    """
    if content.get("kind") != _KIND:
        raise ValueError("it is no baseline of rteval (`rteval baseline save RUN FILE` makes one)")
    if content.get("schema_version") != BASELINE_VERSION:
        found = content.get("schema_version")
        raise ValueError(f"it has schema_version {found!r}; this rteval reads {BASELINE_VERSION}")
    try:
        return _read(content, label)
    except ValueError as error:
        raise ValueError(f"it is damaged: {error}") from error
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"it is damaged: not of the shape of a baseline ({type(error).__name__}: {error})") from error


def _read(content: Mapping[str, Any], label: str) -> Subject:
    facts, table = _facts(content["facts"]), content["turns"]
    # By what is there, never by what is said of it: room is not made for turns that do not come.
    n = len(table["item"]["codes"])
    columns: dict[str, Any] = {"item": _of_levels(table["item"], n)}
    columns["session"] = [str(code) for code in table["session"]]
    columns["tags"] = [tuple(map(str, words)) for words in table["tags"]] if table["tags"] else [()] * n
    columns |= {str(name): _of_levels(entry, n) for name, entry in table["columns"].items()}
    if table["n"] != n or any(len(values) != n for values in columns.values()):
        raise ValueError("columns of different lengths")
    turns = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    items, sessions = (turns[name].to_numpy(dtype=object) for name in ("item", "session"))
    # A metric of a later version is none of ours.
    known = {str(name): entry for name, entry in content["metrics"].items() if find_metric(str(name)) is not None}
    observed = {name: _observed(name, entry, items, sessions) for name, entry in known.items()}
    told = {name: _told(entry["told"]) for name, entry in known.items() if "told" in entry}
    return Subject(label, facts, turns, observed, told)


_SHAPES: Mapping[str, type] = {"dataset": dict, "load": dict, "labels": dict, "axes": dict, "normalizers": list}


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts, of the kinds that a comparison takes them to be."""
    for name, kind in _SHAPES.items():
        if facts.get(name) is not None and not isinstance(facts[name], kind):
            raise ValueError(f"facts.{name} is no {kind.__name__}")
    return {**facts, "normalizers": [str(name) for name in facts.get("normalizers") or ()]}


def _observed(
    name: str, entry: Mapping[str, Any], items: npt.NDArray[np.object_], sessions: npt.NDArray[np.object_]
) -> Observed:
    metric = find_metric(name)
    assert metric is not None
    top, bottom = _numbers(entry["top"]), entry.get("bottom")
    if bottom is not None:
        bottom = _numbers([bottom] * len(top) if isinstance(bottom, int | float) else bottom)
        if len(bottom) != len(top):
            raise ValueError("columns of different lengths")
    if metric.is_distribution is not (bottom is None) or (bottom is not None and (bottom < 0).any()):
        raise ValueError(f"{name} is not measured so")
    if metric.source is Source.SESSIONS:
        names = np.array([str(code) for code in entry["session"]], dtype=object)
        if len(names) != len(top):
            raise ValueError("columns of different lengths")
        return Observed(top, names, bottom)
    numbers = np.arange(len(items)) if entry["rows"] is None else _numbers(entry["rows"])
    if len(numbers) != len(top):
        raise ValueError("columns of different lengths")
    if not np.isin(numbers, np.arange(len(items))).all():
        raise ValueError("rows that are not there")
    rows = numbers.astype(np.int64)
    return Observed(top, sessions[rows], bottom, items[rows], rows)


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError("values that are no numbers")
    numbers = np.array(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("values that are no numbers")
    return numbers


def _kept_of_scorer(subject: Subject, name: str) -> dict[str, Any]:
    told = subject.told.get(name)
    return {"told": dict(told)} if told else {}


def _column_of(one: Observed, sessions: Mapping[str, int], n: int) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if one.item is None:
        entry["session"] = [sessions[str(name)] for name in one.session]
    else:
        assert one.rows is not None
        entry["rows"] = None if len(one.rows) == n else one.rows.tolist()
    entry["top"] = [_short(value) for value in one.top]
    if one.bottom is not None:
        alike = len(one.bottom) > 0 and bool((one.bottom == one.bottom[0]).all())
        entry["bottom"] = _short(one.bottom[0]) if alike else [_short(value) for value in one.bottom]
    return entry


def _short(value: float) -> float | int:
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def _levels(values: Iterable[Any]) -> dict[str, Any]:
    words = [None if value is None or value is pd.NA else str(value) for value in values]
    levels = sorted({word for word in words if word is not None})
    codes = {word: code for code, word in enumerate(levels)}
    return {"levels": levels, "codes": [-1 if word is None else codes[word] for word in words]}


def _of_levels(entry: Mapping[str, Any], n: int) -> list[Any]:
    levels, codes = entry["levels"], entry["codes"]
    if len(codes) != n:
        raise ValueError("columns of different lengths")
    return [None if code < 0 else str(levels[code]) for code in codes]


def _groups(turns: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    names = [str(name) for name in turns.columns]
    for name in [name for name in names if name in COLUMNS[1:] or name.startswith((META, AXIS))]:
        cells = turns[name].astype(object)
        words = [None if value is None else word_of(value) for value in cells.where(cells.notna(), None)]
        levels = {word for word in words if word is not None}
        if 0 < len(levels) <= _MOST_LEVELS and max(map(len, levels)) <= _LONGEST:
            yield name, _levels(words)


def _tags(subject: Subject) -> list[list[str]] | None:
    tags = [list(words) for words in subject.words("tag")]
    return tags if any(tags) else None


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
