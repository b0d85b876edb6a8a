"""Numbers as people read them, the same in every report that is text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..analysis.culprit import is_missed

__all__ = ["counted_in", "measured", "say_culprit", "say_gate", "say_interval", "say_value", "say_verdict"]

UNITS = {"ms": " ms", "1/s": " /s", "sessions": "", "turns": "", "tokens": "", "stalls": ""}

FEW = 10
"""A share of fewer than this is shown as a count."""


def say_value(value: float | None, unit: str, *, n: int | None = None) -> str:
    """Word one number with its unit; a share becomes per cent, and a share of fewer than ten a count.

    Display only: gates judge the exact number.
    """
    if value is None:
        return "-"
    if unit == "ratio":
        if n is not None and 0 < n < FEW and abs(value * n - round(value * n)) < 1e-9:
            return f"{round(value * n)} of {n}"
        return f"{value * 100:.2f} %"
    digits = 0 if float(value).is_integer() or abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:.{digits}f}{UNITS.get(unit, '')}"


def measured(name: str, entry: Mapping[str, Any], stat: str) -> str:
    """Word one statistic of a metric (``value`` for one that has no statistics)."""
    unit = str(entry["unit"])
    if unit == "ratio" and stat != "value":
        return "-" if entry.get(stat) is None else f"{entry[stat]:.3f}"
    return say_value(entry.get(stat), unit, n=counted_in(name, entry) if stat == "value" else None)


def counted_in(name: str, entry: Mapping[str, Any]) -> int | None:
    """What a share is a share of, so that one of few can be a count; ``None`` where n counts turns and it does not.

    Word error rates are shares of words, ``entity_accuracy`` of entities, and a scorer may have summed up a column.
    """
    pooled = name.endswith(("_wer", "_cer", "entity_accuracy")) or entry.get("per") is not None
    return None if pooled else int(entry["n"])


def say_interval(name: str, entry: Mapping[str, Any], stat: str) -> str:
    """Word the 95 % interval of a statistic; empty where there is none, open where the data bound one side only."""
    bounds = (entry.get("ci95") or {}).get(stat)
    if not bounds or bounds == [None, None]:
        return ""
    low, high = (None if bound is None else measured(name, {**entry, stat: bound, "n": 0}, stat) for bound in bounds)
    if low is None or high is None:
        return f"above {low}" if high is None else f"below {high}"
    unit = high.partition(" ")[2]
    return f"{low.removesuffix(f' {unit}') if unit else low} to {high}"


def say_gate(gate: Mapping[str, Any]) -> str:
    """Word one gate's result in a line: what, value, limit, n, and why it does not hold."""
    # Of a plain gate that failed, value and limit say all; an interval has more to say.
    plain = gate["verdict"] == "fail" and gate.get("interval") is None
    reason = f": {gate['reason']}" if gate["reason"] and not plain else ""
    value = "not measured" if gate["value"] is None else f"value {gate['value']:.6g}"
    limit = "no limit" if gate["limit"] is None else f"limit {gate['limit']:.6g}"
    where = "".join(f", {column} {value}" for column, value in gate.get("where") or ())
    mild = "" if gate.get("missed", True) else ", does not decide the verdict"
    return f"{gate['verdict']}: {gate['text']}{where} ({value}, {limit}, n {gate['n']}{mild}){reason}"


def say_verdict(summary: Mapping[str, Any]) -> str:
    """Word the verdict of a run in a line."""
    code, gates = summary["exit_code"], summary["gates"]
    missed = sum(is_missed(gate) for gate in gates)
    passed = sum(gate["verdict"] == "pass" for gate in gates)
    holding = f"all {len(gates)} gates hold" if len(gates) > 1 else "the gate holds"
    if passed < len(gates):
        holding = f"{passed} of {len(gates)} gates hold, and no other decides the verdict"
    words = {
        0: f"PASS: {holding}",
        1: f"FAIL: {missed} of {len(gates)} gates missed" if missed else "FAIL: the run is not complete",
        2: "BROKEN OFF: a recording or the disk went away while it ran",
        3: "REFUSED: no session became ready",
        4: "INVALID: the generator was the bottleneck, so its times say nothing about the target",
        5: "STOPPED by a limit of the scenario",
        70: "BROKEN: a bug in rteval ended the run",
        130: "INTERRUPTED by SIGINT",
        143: "INTERRUPTED by SIGTERM",
    }
    if code == 0 and not gates:
        return "COMPLETE: no gates were set"
    sentence = words.get(code, f"ended with exit code {code}")
    return f"{sentence} (partial run)" if summary["state"] == "partial" else sentence


def say_culprit(summary: Mapping[str, Any]) -> str | None:
    """Word who has to act on a red run in a line; ``None`` for a green one, or one that an older version judged."""
    culprit = summary.get("culprit")
    return f"Look at {culprit['sentence']}" if culprit else None
