"""What becomes of gates: each held against what was measured, against its interval, or against a baseline. Pure.

A gate on a number is judged by the point, unless it names a confidence; one against a baseline by the interval of the
difference: a night without a change is no red one because few calls scatter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from .gates import OPERATORS, Gate
from .intervals import CONFIDENCE, Difference, Interval
from .metrics import find_metric

__all__ = ["Evidence", "GateResult", "Verdict", "Versus", "judge_gates"]


class Verdict(StrEnum):
    """What became of a gate."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """The interval leaves it open: it does not hold, unless the gate says otherwise."""
    NO_DATA = "no_data"
    """Nothing to measure, or too little: the gate does not hold."""
    INVALID = "invalid"
    """The generator was the bottleneck: the number says nothing about the target."""


@dataclass(frozen=True, slots=True)
class Versus:
    """What a gate against a baseline is judged by.

    Attributes:
        base: the baseline's value; ``None`` when it has none, and ``reason`` says why.
        n: samples behind it.
        difference: of the run to the baseline; ``None`` when there is too little to say anything.
        forgiven: the scenario lets gates be that have no baseline yet.
        unfair: what else differs between the two, a sentence each.
    """

    base: float | None
    n: int = 0
    difference: Difference | None = None
    reason: str | None = None
    forgiven: bool = False
    unfair: tuple[str, ...] = ()


class Evidence(Protocol):
    """What gates are judged by beside the metrics of a summary."""

    def entry(self, gate: Gate) -> Mapping[str, Any] | None:
        """The metric of the turns that the gate looks at (``Gate.where``), as an entry of a summary."""
        ...

    def bounds(self, gate: Gate, confidence: float) -> Interval | None:
        """The interval of the gate's number; ``None`` when there is none."""
        ...

    def versus(self, gate: Gate) -> Versus:
        """The run beside its baseline."""
        ...


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate and what became of it.

    Attributes:
        value: the number it judged; ``None`` when there was none.
        reason: why it did not pass; ``None`` when it did.
        n: samples behind the value.
        limit: against a baseline, the number that follows from it.
        interval: of the value; against a baseline, of its difference to the baseline's.
        baseline, baseline_n: the baseline's value, and the samples behind it.
        note: what a reader of a gate that passed should know.
        forgiven: it did not pass, and the scenario lets it be.
    """

    gate: Gate
    value: float | None
    verdict: Verdict
    reason: str | None
    n: int
    limit: float | None = None
    interval: Interval | None = None
    baseline: float | None = None
    baseline_n: int | None = None
    note: str | None = None
    forgiven: bool = False

    @property
    def missed(self) -> bool:
        """Whether the run went wrong by it."""
        return self.verdict is not Verdict.PASS and self.gate.severity == "fail" and not self.forgiven

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``summary.json``."""
        gate = self.gate
        found: dict[str, Any] = {
            "text": gate.text or str(gate),
            "metric": gate.name,
            "value": self.value,
            "limit": gate.limit if gate.factor is None else self.limit,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "n": self.n,
            "severity": gate.severity,
            "missed": self.missed,
        }
        if gate.factor is not None:
            found |= {"baseline": self.baseline, "baseline_n": self.baseline_n}
        if self.interval is not None:
            found["confidence"] = gate.confidence or CONFIDENCE
            found["interval"] = [None if bound is None else float(f"{bound:.6g}") for bound in self.interval]
        if gate.where:
            found["where"] = [list(pair) for pair in gate.where]
        if self.note is not None:
            found["note"] = self.note
        return found


def judge_gates(
    gates: Sequence[Gate],
    metrics: Mapping[str, Mapping[str, Any]],
    *,
    invalid: str | None = None,
    evidence: Evidence | None = None,
) -> list[GateResult]:
    """Judge gates against the ``metrics`` of a summary.

    Args:
        gates: what must hold.
        metrics: per name ``n``, ``value`` or the statistics, and ``reason`` or ``withheld`` where one is ``None``.
        invalid: why the run is invalid; then metrics that depend on the generator have no verdict.
        evidence: the samples and the baseline; without it, gates that need more than ``metrics`` have no data.
    """
    return [_judge(gate, metrics, invalid, evidence) for gate in gates]


def _judge(
    gate: Gate, metrics: Mapping[str, Mapping[str, Any]], invalid: str | None, evidence: Evidence | None
) -> GateResult:
    entry = metrics.get(gate.metric)
    if gate.where:
        entry = evidence.entry(gate) if evidence is not None else None
    stat = gate.stat or "value"
    value = None if entry is None else entry.get(stat)
    n = 0 if entry is None else int(entry["n"])
    metric = find_metric(gate.metric)
    if invalid is not None and metric is not None and metric.generator:
        return GateResult(gate, value, Verdict.INVALID, f"the run is invalid: {invalid}", n)
    if value is None:
        return GateResult(gate, None, Verdict.NO_DATA, _why_missing(entry, stat), n)
    if gate.min_n is not None and n < gate.min_n:
        return GateResult(gate, value, Verdict.NO_DATA, f"n too small: {n} of at least {gate.min_n} (min_n)", n)
    if gate.factor is not None:
        versus = evidence.versus(gate) if evidence is not None else Versus(None, reason="there is no baseline")
        return _told_unfair(_against_baseline(gate, value, n, versus), versus.unfair)
    if gate.confidence is not None:
        return _by_interval(gate, value, n, evidence.bounds(gate, gate.confidence) if evidence is not None else None)
    if gate.holds(value):
        return GateResult(gate, value, Verdict.PASS, None, n)
    return GateResult(gate, value, Verdict.FAIL, f"{gate.name} is {value:.6g}, not {gate.op} {gate.limit_text}", n)


def _by_interval(gate: Gate, value: float, n: int, bounds: Interval | None) -> GateResult:
    """Judge a number by its interval: wholly on one side of the limit, or it is open."""
    if bounds is None:
        return GateResult(gate, value, Verdict.NO_DATA, "there is too little to say how far off it may be", n)
    known = GateResult(gate, value, Verdict.PASS, None, n, interval=bounds)
    good, bad = (bounds[1], bounds[0]) if gate.op in ("<", "<=") else bounds
    if gate.holds(good):
        return known
    said = f"{gate.name} is {value:.6g}, with {gate.confidence or CONFIDENCE:.6g} confidence {_between(bounds)}"
    if gate.holds(bad) is False:
        return replace(known, verdict=Verdict.FAIL, reason=f"{said}: not {gate.op} {gate.limit_text}")
    return _left_open(known, f"{said}: whether it is {gate.op} {gate.limit_text} is open")


def _against_baseline(gate: Gate, value: float, n: int, versus: Versus) -> GateResult:
    """Judge the difference to a baseline by its interval.

    The gate fails when the interval lies wholly beyond what is allowed. It passes when the number itself is within, and
    also when no worsening is shown at all. In between, the number is beyond, the run is worse, and whether by more than
    is allowed is open. A limit that asks for an improvement must be shown to be met.
    """
    base = versus.base
    if base is None:
        reason = versus.reason or "the baseline has no such number"
        return GateResult(gate, value, Verdict.NO_DATA, reason, n, forgiven=versus.forgiven)
    factor, confidence = gate.factor or 0.0, gate.confidence or CONFIDENCE
    limit = factor * base + gate.limit
    known = GateResult(gate, value, Verdict.PASS, None, n, limit, None, base, versus.n)
    if versus.difference is None:
        return replace(known, verdict=Verdict.NO_DATA, reason=f"too little to compare: n {n} against {versus.n}")
    upward = gate.op in ("<", "<=")
    change = versus.difference.interval(confidence)
    known = replace(known, interval=change)
    least, most = _worsening(versus.difference.interval(confidence, factor), gate.limit, upward)
    if most <= 0:
        return known
    said = f"{gate.name} is {value:.6g}, the baseline's {base:.6g} (n {n} against {versus.n})"
    said += f"; {_with(confidence, change)}, allowed is {limit - base:+.6g}"
    if least > 0:
        return replace(known, verdict=Verdict.FAIL, reason=said)
    if not (OPERATORS[gate.op](base, limit) or base == limit):
        return _left_open(known, f"{said}: whether it got better by so much is open")
    if _worsening(change, 0.0, upward)[0] <= 0:
        return replace(known, note=f"not shown to be worse; {_with(confidence, change)}")
    if OPERATORS[gate.op](value, limit):
        return replace(known, note=f"worse, by no more than is allowed as far as it shows; {_with(confidence, change)}")
    return _left_open(known, f"{said}: it is worse, and whether by more than that is open")


def _told_unfair(result: GateResult, unfair: Sequence[str]) -> GateResult:
    """What else differs stands beside the verdict, whatever it is."""
    if not unfair:
        return result
    said = f"not fair: {'; '.join(unfair)}"
    if result.reason is not None:
        return replace(result, reason=f"{result.reason}; {said}")
    return replace(result, note="; ".join(filter(None, (result.note, said))))


def _with(confidence: float, change: Interval) -> str:
    return f"with {confidence:.6g} confidence the change is {_between(change)}"


def _worsening(bounds: Interval, allowed: float, upward: bool) -> tuple[float, float]:
    """Bounds of how much worse it is than allowed, where larger is worse or (not ``upward``) better."""
    low = -math.inf if bounds[0] is None else bounds[0] - allowed
    high = math.inf if bounds[1] is None else bounds[1] - allowed
    return (low, high) if upward else (-high, -low)


def _left_open(known: GateResult, reason: str) -> GateResult:
    return replace(known, verdict=Verdict.INCONCLUSIVE, reason=reason, forgiven=known.gate.inconclusive == "pass")


def _between(bounds: Interval) -> str:
    low, high = bounds
    if low is None and high is None:
        return "not bounded"
    if low is None or high is None:
        return f"above {low:.6g}" if high is None else f"below {high:.6g}"
    return f"{low:.6g} to {high:.6g}"


def _why_missing(entry: Mapping[str, Any] | None, stat: str) -> str:
    if entry is None:
        return "not measured"
    reason = entry.get("withheld", {}).get(stat) or entry.get("reason") or "no samples"
    return str(reason)
