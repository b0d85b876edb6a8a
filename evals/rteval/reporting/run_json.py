"""What ``run.json`` may hold where it is read again: one that was edited by hand or is damaged becomes a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["misfits"]


_LONGEST_S = 1e9
"""Thirty years: no schedule is longer, and none asks for more sessions."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= _LONGEST_S


def _is_moment(value: Any) -> bool:
    return _is_count(value) and value < 2**63


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_gates(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(gate) or _is_object(gate) for gate in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _are_objects(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_object, value.values()))


def _are_points(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_seconds, point)) for point in value
    )


def _are_workers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and _is_text(one.get("name")) for one in value)


def _are_variants(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and _is_text(one.get("name"))
        and isinstance(axes := one.get("axes"), dict)
        and all(map(_is_text, axes.values()))
        for one in value
    )


_KINDS: Mapping[Callable[[Any], bool], str] = {
    _is_text: "a text",
    _is_flag: "true or false",
    _is_count: "a whole number",
    _is_number: "a number",
    _is_seconds: "a number of seconds",
    _is_moment: "a moment in nanoseconds",
    _is_object: "an object",
    _are_texts: "a list of texts",
    _are_gates: "a list of texts and objects",
    _are_numbers: "an object of numbers",
    _are_objects: "an object of objects",
    _are_points: "a list of pairs of numbers",
    _are_workers: "a list of objects with a name",
    _are_variants: "a list of objects with a name and axes",
    _is_list: "a list",
}

_SHAPE: Mapping[str, Callable[[Any], bool]] = {
    "run_id": _is_text,
    "scenario": _is_object,
    "scenario.name": _is_text,
    "scenario.resolved": _is_object,
    "scenario.resolved.scoring": _is_object,
    "scenario.resolved.session": _is_object,
    "scenario.resolved.load": _is_object,
    "labels": _is_object,
    "target": _is_object,
    "variants": _are_variants,
    "dataset": _is_object,
    "planned": _is_object,
    "planned.turns": _is_count,
    "planned.sessions": _is_count,
    "load": _is_object,
    "load.model": _is_text,
    "load.engine": _is_text,
    "load.peak": _is_count,
    "load.duration_s": _is_seconds,
    "load.warmup_s": _is_seconds,
    "load.stages": _is_list,
    "load.arrivals": _is_object,
    "load.asked": _are_points,
    "load.started_ns": _is_moment,
    "workers": _are_workers,
    "gates": _are_gates,
    "as_run": _is_object,
    "as_run.gates": _are_gates,
    "as_run.checks": _are_texts,
    "as_run.scoring": _is_object,
    "as_run.scoring.checks": _are_objects,
    "as_run.scoring.scorers": _are_objects,
    "as_run.slo": _are_numbers,
    "as_run.baseline": _is_object,
    "judged_by": _is_object,
    "judged_by.path": _is_text,
    "baseline": _is_object,
    "baseline.label": _is_text,
    "baseline.reason": _is_text,
    "baseline.missing": _is_text,
    "checks": _are_texts,
    "scoring": _is_object,
    "scoring.normalizer": _is_text,
    "scoring.wer": _is_flag,
    "scoring.checks": _are_objects,
    "scoring.scorers": _are_objects,
    "slo": _are_numbers,
    "limits": _is_object,
    "limits.send_lag_ms": _is_number,
    "limits.loop_lag_ms": _is_number,
    "report": _is_object,
    "report.formats": _are_texts,
    "report.transcripts": _is_text,
    "versions": _is_object,
    "host": _is_object,
    "started_at": _is_text,
    "ended_at": _is_text,
    "started_ns": _is_moment,
    "ended_ns": _is_moment,
    "end": _is_object,
    "end.reason": _is_text,
    "end.detail": _is_text,
    "refusal": _is_object,
    "refusal.message": _is_text,
    "refusal.hint": _is_text,
    "live": _is_object,
    "live.sessions_peak": _is_count,
    "live.warnings": _are_texts,
    "live.incidents": _are_texts,
    "records": _is_object,
    "records.duplicates": _is_count,
    "records.torn_lines": _is_count,
}


def misfits(run: Mapping[str, Any]) -> Iterator[str]:
    """Say of each value that is not what it should be, what it should be; what is missing or null is none of them."""
    for path, fits in _SHAPE.items():
        value: Any = run
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not fits(value):
            yield f"{path} is not {_KINDS[fits]}"
