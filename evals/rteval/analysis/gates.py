"""Gates: conditions on metrics that decide the exit code. Parsed before a run connects, judged after it.

``metric[.stat] op number``, units as the metric has them: ``ttfa_ms.p95 < 1200``, ``input_wer <= 0.10``,
``checks.pass_rate >= 0.95``; or against a baseline: ``ttfa_ms.p95 < baseline * 1.1``, ``input_wer <= baseline + 0.02``.
A mapping says more: the confidence, the least n, which turns, and whether a miss fails or warns.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from ..errors import GateError
from .intervals import LEAST_CLUSTERS
from .metrics import CHECKS, METRICS, SCORERS, STATS, Metric, Source, find_metric
from .stats import MIN_SAMPLES, PERCENTILES, normal, wilson

__all__ = [
    "COLUMNS",
    "DEFAULT_GATE",
    "OPERATORS",
    "WORD_RATES",
    "Facts",
    "Gate",
    "check_gates_against",
    "check_gates_of_scorers",
    "least_n",
    "parse_gates",
    "undecidable",
    "validate_slo",
    "word_of",
]

DEFAULT_GATE = "error_rate <= 0.01"
"""The gate of every scenario that names none (``gates: []`` has none at all)."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}

WORD_RATES = ("input_wer", "input_cer", "output_wer", "output_cer")
"""The rates that are pooled over a run and also known of each turn."""

_POOLED = (*WORD_RATES, "entity_accuracy", SCORERS)
"""Of these a turn holds more than one that counts, or may: what they need cannot be told from the turns."""

SOUND = ("output_clipped_share", "output_loudness_dbfs", "output_silence_share")
"""Metrics of the answers' audio, where it was kept."""

EXAMPLE = "expected e.g. 'ttfa_ms.p95 < 1200' or 'input_wer <= 0.10'"

COLUMNS = ("item", "variant", "worker", "language", "modality", "conversation_id", "attempt")
"""Columns of every run that ``where`` may name, beside ``tag`` and the dataset's own."""

_GATE = re.compile(r"\s*(?P<name>[^\s<>=!]+)\s*(?P<op>[<>=!]+)\s*(?P<limit>\S.*?)\s*")
_DIGITS = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"[+-]?{_DIGITS}")
_BASELINE = re.compile(rf"baseline(?:\s*\*\s*(?P<factor>{_DIGITS}))?(?:\s*(?P<sign>[+-])\s*(?P<offset>{_DIGITS}))?")
_OPTIONS = ("confidence", "min_n", "severity", "inconclusive", "where")
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes:
        metric: name of the metric.
        stat: one of ``STATS`` for a distribution, ``None`` for a single value.
        op: one of ``<``, ``<=``, ``>``, ``>=``, ``==``.
        limit: the number, in the metric's unit; against a baseline, what is added to it.
        text: the gate as it was written; no part of its identity.
        factor: against a baseline, what it is multiplied by; ``None``: the limit is a number.
        confidence: of the interval that it is judged by; ``None``: the point, or 0.95 against a baseline.
        min_n: fewer samples than this are no data.
        severity: ``fail`` decides the exit code, ``warn`` is only told.
        inconclusive: what becomes of it when the interval leaves it open: ``fail`` or ``pass``.
        where: (column, value) that turns must have to be looked at; several of a column are alternatives.
    """

    metric: str
    stat: str | None
    op: str
    limit: float
    text: str = field(default="", compare=False)
    factor: float | None = None
    confidence: float | None = None
    min_n: int | None = None
    severity: str = "fail"
    inconclusive: str = "fail"
    where: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, written: str | Mapping[str, Any], *, checks: Collection[str] = ()) -> Gate:
        """Read one gate.

        Args:
            written: ``metric[.stat] op limit``, or a mapping with that as ``gate`` and any of ``confidence``,
                ``min_n``, ``severity``, ``inconclusive``, ``where``.
            checks: names of the checks that the scenario and its dataset make.

        Raises:
            GateError: it cannot be read, or asks for what is not measured; names the nearest valid name.
        """
        if isinstance(written, Mapping):
            return _with_options(written, checks)
        match = _GATE.fullmatch(written)
        if match is None:
            raise GateError(f"cannot read gate {written!r}; {EXAMPLE}")
        name, op = match["name"], match["op"]
        if op not in OPERATORS:
            raise GateError(f"gate {written!r}: no comparison is called {op!r}; there are {', '.join(OPERATORS)}")
        factor, limit = _limit(match["limit"], written)
        metric, stat = _metric_and_stat(name, written, checks)
        gate = cls(metric, stat, op, limit, written.strip(), factor)
        _want_samples(gate)
        return gate

    def __str__(self) -> str:
        """The condition in its canonical form, without options."""
        return f"{self.name} {self.op} {self.limit_text}"

    @property
    def limit_text(self) -> str:
        """The limit as a gate is written with it."""
        if self.factor is None:
            return _number(self.limit)
        times = "" if self.factor == 1 else f" * {_number(self.factor)}"
        plus = "" if self.limit == 0 else f" {'-' if self.limit < 0 else '+'} {_number(abs(self.limit))}"
        return f"baseline{times}{plus}"

    def as_written(self) -> str | dict[str, Any]:
        """As ``run.json`` holds it; ``Gate.parse`` reads it back."""
        plain = Gate(self.metric, self.stat, self.op, self.limit)
        options = {name: getattr(self, name) for name in _OPTIONS if getattr(self, name) != getattr(plain, name)}
        if self.where:
            options["where"] = {}
            for column, value in self.where:
                options["where"].setdefault(column, []).append(value)
        return {"gate": str(self), **options} if options else str(self)

    @property
    def name(self) -> str:
        """Metric and statistic, e.g. ``ttfa_ms.p95``."""
        return self.metric if self.stat is None else f"{self.metric}.{self.stat}"

    def holds(self, value: float | None) -> bool | None:
        """Of a gate on a number ``True``, ``False``, or ``None`` when there was nothing to measure."""
        return None if value is None else OPERATORS[self.op](value, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a run before it starts, as far as gates depend on it.

    Attributes:
        references: items with a reference transcription.
        answers: items with an expected answer.
        wer: whether word errors are scored at all.
        transcription: whether the session asks for a transcription of the caller.
        slo: whether the scenario has an ``slo``.
        entities: items that expect entities.
        audio: whether the audio of all answers is kept.
        baseline: whether the scenario names one.
        groups: values of the columns that ``where`` may name, ``tag`` among them; ``None``: not known.
    """

    references: int
    answers: int = 0
    wer: bool = True
    transcription: bool = True
    slo: bool = False
    entities: int = 0
    audio: bool = False
    baseline: bool = False
    groups: Mapping[str, Collection[str]] | None = None


def parse_gates(texts: Sequence[str | Mapping[str, Any]], *, checks: Collection[str] = ()) -> list[Gate]:
    """Read the gates of a scenario.

    Raises:
        GateError: one of them cannot be read; all faults are listed.
    """
    gates: list[Gate] = []
    faults: list[GateError] = []
    for text in texts:
        if not isinstance(text, str | Mapping):
            faults.append(GateError(f"gate {text!r} is neither a text nor a mapping; {EXAMPLE}"))
            continue
        try:
            gates.append(Gate.parse(text, checks=checks))
        except GateError as error:
            faults.append(error)
    _raise(faults)
    return gates


def check_gates_against(gates: Sequence[Gate], facts: Facts) -> None:
    """Refuse gates that could never have a value with this scenario and dataset, before anything connects.

    Raises:
        GateError: such a gate; all are listed.
    """
    faults = [
        GateError(f"gate {str(gate)!r}: {why}") for gate in gates if (why := _impossible(gate, facts)) is not None
    ]
    _raise(faults)


def check_gates_of_scorers(gates: Sequence[Gate], whole: Collection[str]) -> None:
    """Refuse gates that look at single turns of a scorer's metric that its scorer makes for the whole run only.

    Args:
        gates: what must hold.
        whole: full names of the metrics of scorers that name no column (``Metric.of``).

    Raises:
        GateError: such a gate; all are listed.
    """
    faults = []
    for gate in gates:
        asked = {"where": gate.where, "confidence": gate.confidence, "baseline": gate.factor}
        what = " and ".join(name for name, value in asked.items() if value not in (None, ()))
        if gate.metric in whole and what:
            why = f"its scorer gives this number for the whole run only, and {what} needs those of single turns"
            cure = "hold the run's number against a limit, or let the scorer name the column (Metric(..., of=COLUMN))"
            faults.append(GateError(f"gate {str(gate)!r}: {why}; {cure}"))
    _raise(faults)


def undecidable(
    gates: Sequence[Gate], planned_turns: int, planned_sessions: int | None = None, *, open_too: bool = True
) -> list[tuple[Gate, str]]:
    """Name the gates that the planned number of turns and sessions cannot decide, each with the reason.

    Only metrics with one sample a turn or a session are judged here: the number of deltas or probes is not known
    before.

    Args:
        gates: what must hold.
        planned_turns: how many there will be.
        planned_sessions: how many these are in; ``None``: not known.
        open_too: whether those are named too that could only be left open (``Gate.inconclusive``), not without data.
    """
    found = ((gate, _undecided(gate, planned_turns, planned_sessions, open_too)) for gate in gates)
    return [(gate, why) for gate, why in found if why is not None]


def _undecided(gate: Gate, turns: int, sessions: int | None, open_too: bool) -> str | None:
    metric = find_metric(gate.metric)
    assert metric is not None
    if _is_of_turns(metric):
        n, of = turns, "turns"
    elif metric.source is Source.SESSIONS and sessions is not None:
        n, of = sessions, "sessions"
    else:
        return None
    least = max(MIN_SAMPLES.get(gate.stat or "", 1), gate.min_n or 1)
    if n < least:
        return f"{gate.stat or gate.metric} needs {least} {of}, {n} are planned"
    if (gate.factor is not None or gate.confidence is not None) and sessions is not None and sessions < LEAST_CLUSTERS:
        return f"its interval needs {LEAST_CLUSTERS} sessions, {sessions} are planned"
    alone = open_too and gate.factor is None and gate.confidence is not None
    if alone and (least := least_n(gate)) > n:
        return f"with {gate.confidence:.6g} confidence it cannot pass below {least} {of}, {n} are planned"
    return None


def _is_of_turns(metric: Metric) -> bool:
    """Whether a metric has a sample for each turn, so that it has an interval and is known of some turns alone."""
    if metric.name == "goodput_share" or metric.name.startswith(SCORERS):
        return True
    return metric.source is Source.TURNS and metric.unit != "tokens"


def least_n(gate: Gate) -> int:
    """The fewest turns with which a gate on a number can pass at its confidence, if all goes as well as it can."""
    miss, upward = (1 - (gate.confidence or 0.0)) / 2, gate.op in ("<", "<=")
    if gate.stat is not None and gate.stat in PERCENTILES:
        # All n values lie below the quantile with q ** n: only where that is rare, there is an upper bound.
        q = PERCENTILES[gate.stat] if upward else 1 - PERCENTILES[gate.stat]
        return math.ceil(math.log(miss) / math.log(q))
    metric = find_metric(gate.metric)
    if metric is None or metric.is_distribution or gate.metric.startswith(_POOLED):
        return LEAST_CLUSTERS
    low, high, z = 1, _MOST, normal(1 - miss)
    while low < high:
        middle = (low + high) // 2
        best = wilson(0.0, middle, z)[1] if upward else wilson(1.0, middle, z)[0]
        low, high = (low, middle) if gate.holds(best) else (middle + 1, high)
    return low


def validate_slo(slo: Mapping[str, float]) -> None:
    """Check that every limit of an ``slo`` names a metric with one sample a turn.

    Raises:
        GateError: one does not; all are listed.
    """
    known = [metric.name for metric in METRICS.values() if metric.is_distribution and metric.source is Source.TURNS]
    known += WORD_RATES
    _raise([GateError(f"slo: {_unknown('metric of a turn', name, known)}") for name in slo if name not in known])


def _impossible(gate: Gate, facts: Facts) -> str | None:
    name = gate.metric
    if name in WORD_RATES and not facts.wer:
        return "word errors are not scored (scoring.wer is false)"
    if name in ("input_wer", "input_cer"):
        if not facts.references:
            return "no item of the dataset has a reference (column 'transcription')"
        if not facts.transcription:
            return "the session asks for no transcription (session.transcription)"
    if name in ("output_wer", "output_cer") and not facts.answers:
        return "no item of the dataset has an expected answer (expect.answer)"
    if name == "entity_accuracy" and not facts.entities:
        return "no item of the dataset expects entities (expect.entities)"
    if name in SOUND and not facts.audio:
        return "the answers' audio is not kept (report.audio: all)"
    if name in ("goodput", "goodput_share") and not facts.slo:
        return "the scenario has no slo to be good by"
    if gate.factor is not None and not facts.baseline:
        return "the scenario has no `baseline:` (a run or a file) to be held against"
    return _nobody(gate, facts.groups) if facts.groups is not None else None


def _nobody(gate: Gate, groups: Mapping[str, Collection[str]]) -> str | None:
    """Why no turn can be what ``where`` asks for."""
    for column, value in gate.where:
        if column in groups and value not in groups[column]:
            return f"where: {_unknown(column, value, groups[column])}"
        if column not in groups and column not in COLUMNS:
            return f"where: {_unknown('column of the dataset', column, [*groups, *COLUMNS])}"
    return None


def _limit(written: str, text: str) -> tuple[float | None, float]:
    """The factor of the baseline, if there is one, and the number."""
    factor: float | None = None
    against = _BASELINE.fullmatch(written)
    if against is not None:
        factor, limit = float(against["factor"] or 1), float(f"{against['sign'] or ''}{against['offset'] or 0}")
    elif "baseline" in written:
        how = "write e.g. 'baseline * 1.10' or 'baseline + 0.02'"
        raise GateError(f"gate {text!r}: {written!r} is no limit against a baseline; {how}")
    elif not _NUMBER.fullmatch(written):
        raise GateError(f"gate {text!r}: {written!r} is not a number; {EXAMPLE}")
    else:
        limit = float(written)
    if factor == 0:
        raise GateError(f"gate {text!r}: {written!r} leaves nothing of the baseline")
    if not math.isfinite(limit) or not math.isfinite(factor or 0.0):
        raise GateError(f"gate {text!r}: {written!r} is not a number; {EXAMPLE}")
    return factor, limit


def _want_samples(gate: Gate) -> None:
    """Refuse an interval of what has none, and single turns where a number is not made of them."""
    metric = find_metric(gate.metric)
    assert metric is not None
    shown = repr(gate.text or str(gate))
    of_turns = _is_of_turns(metric)
    if gate.where and not of_turns:
        raise GateError(f"gate {shown}: where: {gate.metric} is no number of single turns")
    if gate.factor is None and gate.confidence is None:
        return
    what = "confidence" if gate.factor is None else "a baseline"
    if gate.op == "==":
        raise GateError(f"gate {shown}: {what} means an interval, which nothing equals; use <= or >=")
    if not (of_turns or metric.source is Source.SESSIONS) or gate.stat in ("min", "max"):
        raise GateError(f"gate {shown}: {what} means an interval, and {gate.name} has none")


def _with_options(written: Mapping[str, Any], checks: Collection[str]) -> Gate:
    text = written.get("gate")
    if not isinstance(text, str):
        raise GateError(f"gate {dict(written)!r}: needs `gate: METRIC OP LIMIT`; {EXAMPLE}")
    options = {str(key): value for key, value in written.items() if key != "gate" and value is not None}
    for key, value in options.items():
        if key not in _OPTIONS:
            raise GateError(f"gate {text!r}: {_unknown('option', key, _OPTIONS)}")
        is_right, what = _RIGHT[key]
        if not is_right(value):
            raise GateError(f"gate {text!r}: {key}: {value!r} is not {what}")
    options["where"] = tuple(
        (str(column), word_of(value))
        for column, values in options.get("where", {}).items()
        for value in _listed(values)
    )
    gate = replace(Gate.parse(text, checks=checks), **options)
    _want_samples(gate)
    return gate


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else (values,)


def word_of(value: Any) -> str:
    """A value of a column as it is compared: a flag as YAML writes it, a whole number without a point."""
    if str(value) in ("True", "False"):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_where(value: Any) -> bool:
    """Each column with one value or more: of none, all turns would be looked at and not those that were meant."""
    return isinstance(value, Mapping) and all(
        len(words) > 0 and all(isinstance(one, str | int | float) for one in words)
        for words in map(_listed, value.values())
    )


_RIGHT: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "confidence": (lambda v: isinstance(v, int | float) and 0.5 <= v < 1, "a share from 0.5 to below 1, e.g. 0.95"),
    "min_n": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a whole number from 1"),
    "severity": (lambda v: v in ("fail", "warn"), "fail or warn"),
    "inconclusive": (lambda v: v in ("fail", "pass"), "fail or pass"),
    "where": (_is_where, "a mapping of columns to values, e.g. {tag: billing}"),
}


def _metric_and_stat(name: str, text: str, checks: Collection[str]) -> tuple[str, str | None]:
    if name.startswith(CHECKS):
        names = {"checks.pass_rate", *(CHECKS + check for check in checks)}
        if name not in names:
            raise GateError(f"gate {text!r}: {_unknown('check', name, names)}")
        return name, None
    if name.startswith(SCORERS):
        # They come with the checks: both are names that the scenario adds to those of every run.
        known = [check for check in checks if check.startswith(SCORERS)]
        if name not in known:
            raise GateError(f"gate {text!r}: {_unknown_of_scorers(name, known)}")
        return name, None
    metric_name, dot, stat = name.partition(".")
    metric = METRICS.get(metric_name)
    if metric is None:
        raise GateError(f"gate {text!r}: {_unknown('metric', metric_name, METRICS)}")
    if not dot:
        _want_no_stat(metric, text)
        return metric_name, None
    if not metric.is_distribution:
        raise GateError(f"gate {text!r}: {metric_name} is one value; leave out {'.' + stat!r}")
    if stat not in STATS:
        raise GateError(f"gate {text!r}: {_unknown('statistic', stat, STATS)}")
    return metric_name, stat


def _unknown_of_scorers(name: str, known: Collection[str]) -> str:
    if not known:
        return "the scenario has no scorers (scoring.scorers)"
    return _unknown("metric of a scorer", name, known)


def _want_no_stat(metric: Metric, text: str) -> None:
    if metric.is_distribution:
        raise GateError(
            f"gate {text!r}: {metric.name} has many samples; say which statistic, e.g. '{metric.name}.p95'",
            hint=f"statistics are {', '.join(STATS)}",
        )


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"no {what} is called {name!r}" + (
        f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
    )


def _number(value: float) -> str:
    """The exact number: a gate is written with it."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _raise(faults: Sequence[GateError]) -> None:
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise GateError("\n  ".join(["these gates cannot be judged:", *(str(fault) for fault in faults)]))
