"""Gates: conditions on metrics that decide the exit code. Parsed before a run connects, judged after it.

``metric[.stat] op number``, units as the metric has them: ``ttfa_ms.p95 < 1200``, ``input_wer <= 0.10``,
``checks.pass_rate >= 0.95``. A gate that has nothing to measure does not hold.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from ..errors import GateError
from .metrics import CHECKS, METRICS, STATS, Metric, Source, find_metric
from .stats import MIN_SAMPLES

__all__ = [
    "DEFAULT_GATE",
    "WORD_RATES",
    "Facts",
    "Gate",
    "GateResult",
    "Verdict",
    "check_gates_against",
    "judge_gates",
    "parse_gates",
    "undecidable",
    "validate_slo",
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

EXAMPLE = "expected e.g. 'ttfa_ms.p95 < 1200' or 'input_wer <= 0.10'"

_GATE = re.compile(r"\s*(?P<name>[^\s<>=!]+)\s*(?P<op>[<>=!]+)\s*(?P<limit>\S+)\s*")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class Verdict(StrEnum):
    """What became of a gate."""

    PASS = "pass"
    FAIL = "fail"
    NO_DATA = "no_data"
    """Nothing to measure, or too little: the gate does not hold."""
    INVALID = "invalid"
    """The generator was the bottleneck: the number says nothing about the target."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes:
        metric: name of the metric.
        stat: one of ``STATS`` for a distribution, ``None`` for a single value.
        op: one of ``<``, ``<=``, ``>``, ``>=``, ``==``.
        limit: the number, in the metric's unit.
        text: the gate as it was written; no part of its identity.
    """

    metric: str
    stat: str | None
    op: str
    limit: float
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str, *, checks: Collection[str] = ()) -> Gate:
        """Read one gate.

        Args:
            text: ``metric[.stat] op number``.
            checks: names of the checks that the scenario and its dataset make.

        Raises:
            GateError: it cannot be read, or asks for what is not measured; names the nearest valid name.
        """
        match = _GATE.fullmatch(text)
        if match is None:
            raise GateError(f"cannot read gate {text!r}; {EXAMPLE}", hint=_later(text))
        name, op, limit = match["name"], match["op"], match["limit"]
        if op not in OPERATORS:
            raise GateError(f"gate {text!r}: no comparison is called {op!r}; there are {', '.join(OPERATORS)}")
        if not _NUMBER.fullmatch(limit) or not math.isfinite(float(limit)):
            raise GateError(f"gate {text!r}: {limit!r} is not a number; {EXAMPLE}", hint=_later(text))
        metric, stat = _metric_and_stat(name, text, checks)
        return cls(metric, stat, op, float(limit), text.strip())

    def __str__(self) -> str:
        """The gate in its canonical form; ``Gate.parse`` reads it back."""
        return f"{self.name} {self.op} {_number(self.limit)}"

    @property
    def name(self) -> str:
        """Metric and statistic, e.g. ``ttfa_ms.p95``."""
        return self.metric if self.stat is None else f"{self.metric}.{self.stat}"

    def holds(self, value: float | None) -> bool | None:
        """``True``, ``False``, or ``None`` when there was nothing to measure."""
        return None if value is None else OPERATORS[self.op](value, self.limit)


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate and what became of it.

    Attributes:
        value: the number it judged; ``None`` when there was none.
        reason: why it did not pass; ``None`` when it did.
        n: samples behind the value.
    """

    gate: Gate
    value: float | None
    verdict: Verdict
    reason: str | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``summary.json``."""
        return {
            "text": self.gate.text or str(self.gate),
            "metric": self.gate.name,
            "value": self.value,
            "limit": self.gate.limit,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "n": self.n,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a run before it starts, as far as gates depend on it.

    Attributes:
        references: items with a reference transcription.
        answers: items with an expected answer.
        wer: whether word errors are scored at all.
        transcription: whether the session asks for a transcription of the caller.
        slo: whether the scenario has an ``slo``.
    """

    references: int
    answers: int = 0
    wer: bool = True
    transcription: bool = True
    slo: bool = False


def parse_gates(texts: Sequence[str], *, checks: Collection[str] = ()) -> list[Gate]:
    """Read the gates of a scenario.

    Raises:
        GateError: one of them cannot be read; all faults are listed.
    """
    gates: list[Gate] = []
    faults: list[GateError] = []
    for text in texts:
        if not isinstance(text, str):
            faults.append(GateError(f"gate {text!r} is not a text; {EXAMPLE} (the mapping form is not available yet)"))
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


def undecidable(gates: Sequence[Gate], planned_turns: int) -> list[tuple[Gate, str]]:
    """Name the gates that the planned number of turns cannot decide, each with the reason.

    Only metrics with one sample a turn are judged here: the number of deltas or probes is not known before.
    """
    found = []
    for gate in gates:
        metric = find_metric(gate.metric)
        least = MIN_SAMPLES.get(gate.stat or "", 1)
        if metric is not None and metric.source is Source.TURNS and planned_turns < least:
            found.append((gate, f"{gate.stat or gate.metric} needs {least} turns, {planned_turns} are planned"))
    return found


def judge_gates(
    gates: Sequence[Gate], metrics: Mapping[str, Mapping[str, Any]], *, invalid: str | None = None
) -> list[GateResult]:
    """Judge gates against the ``metrics`` of a summary.

    Args:
        gates: what must hold.
        metrics: per name ``n``, ``value`` or the statistics, and ``reason`` or ``withheld`` where one is ``None``.
        invalid: why the run is invalid; then metrics that depend on the generator have no verdict.
    """
    return [_judge(gate, metrics.get(gate.metric), invalid) for gate in gates]


def validate_slo(slo: Mapping[str, float]) -> None:
    """Check that every limit of an ``slo`` names a metric with one sample a turn.

    Raises:
        GateError: one does not; all are listed.
    """
    known = [metric.name for metric in METRICS.values() if metric.is_distribution and metric.source is Source.TURNS]
    known += WORD_RATES
    _raise([GateError(f"slo: {_unknown('metric of a turn', name, known)}") for name in slo if name not in known])


def _judge(gate: Gate, entry: Mapping[str, Any] | None, invalid: str | None) -> GateResult:
    stat = gate.stat or "value"
    value = None if entry is None else entry.get(stat)
    n = 0 if entry is None else int(entry["n"])
    metric = find_metric(gate.metric)
    if invalid is not None and metric is not None and metric.generator:
        return GateResult(gate, value, Verdict.INVALID, f"the run is invalid: {invalid}", n)
    holds = gate.holds(value)
    if holds is None:
        return GateResult(gate, None, Verdict.NO_DATA, _why_missing(entry, stat), n)
    if holds:
        return GateResult(gate, value, Verdict.PASS, None, n)
    return GateResult(
        gate, value, Verdict.FAIL, f"{gate.name} is {value or 0.0:.6g}, not {gate.op} {_number(gate.limit)}", n
    )


def _why_missing(entry: Mapping[str, Any] | None, stat: str) -> str:
    if entry is None:
        return "not measured"
    reason = entry.get("withheld", {}).get(stat) or entry.get("reason") or "no samples"
    return str(reason)


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
    if name in ("goodput", "goodput_share") and not facts.slo:
        return "the scenario has no slo to be good by"
    return None


def _metric_and_stat(name: str, text: str, checks: Collection[str]) -> tuple[str, str | None]:
    if name.startswith(CHECKS):
        names = {"checks.pass_rate", *(CHECKS + check for check in checks)}
        if name not in names:
            raise GateError(f"gate {text!r}: {_unknown('check', name, names)}")
        return name, None
    metric_name, dot, stat = name.partition(".")
    metric = METRICS.get(metric_name)
    if metric is None:
        raise GateError(f"gate {text!r}: {_unknown('metric', metric_name, METRICS)}", hint=_later(text))
    if not dot:
        _want_no_stat(metric, text)
        return metric_name, None
    if not metric.is_distribution:
        raise GateError(f"gate {text!r}: {metric_name} is one value; leave out {'.' + stat!r}")
    if stat not in STATS:
        raise GateError(f"gate {text!r}: {_unknown('statistic', stat, STATS)}")
    return metric_name, stat


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


def _later(text: str) -> str | None:
    return "a gate against a baseline is not available yet" if "baseline" in text else None


def _number(value: float) -> str:
    """The exact number: a gate is written with it."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _raise(faults: Sequence[GateError]) -> None:
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise GateError("\n  ".join(["these gates cannot be judged:", *(str(fault) for fault in faults)]))
