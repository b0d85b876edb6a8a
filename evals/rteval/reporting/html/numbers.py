"""A number of the summary as the page shows it: with its unit, its interval and its definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...analysis.metrics import SCORERS, Metric, find_metric
from .figures import metric_of
from .wording import THIN_SPACE, Number, number

__all__ = ["counted_in", "definition_of", "interval", "interval_of", "quantile", "unit_of"]

POOLED = ("_wer", "_cer", "entity_accuracy")
"""Ends of the names of shares whose n counts turns, while they are shares of words or entities."""


def definition_of(name: str, entry: Mapping[str, Any] | None = None) -> str:
    """Return the definition of a metric in one sentence; empty when none is known.

    Args:
        name: of the metric, or of one of its statistics.
        entry: of the summary; a scorer's says itself what its metric means.
    """
    metric = find_metric(metric_of(name))
    return str((entry or {}).get("definition") or "") or ("" if metric is None else metric.definition)


def unit_of(name: str, entry: Mapping[str, Any] | None) -> str | None:
    """Return the unit that a metric is printed in; a ratio that is no share (``rtf``) is printed as it is."""
    metric = find_metric(metric_of(name))
    if metric is None or name.startswith(SCORERS):
        return (entry or {}).get("unit")
    return None if _is_plain_ratio(metric) else metric.unit


def interval(bounds: Any, unit: str | None) -> str:
    """Word the bounds of an interval; one that the data do not give is left open. Empty where there are none."""
    if not isinstance(bounds, list | tuple) or len(bounds) != 2 or bounds[0] is bounds[1] is None:
        return ""
    low, high = (None if bound is None else number(bound, unit).text for bound in bounds)
    if low is None or high is None:
        return f"above {low}" if high is None else f"below {high}"
    shared = THIN_SPACE + low.rpartition(THIN_SPACE)[2]
    # 950 to 1 066 ms: the unit stands once.
    if not shared[1:].isdigit() and high.endswith(shared):
        low = low.removesuffix(shared)
    return f"{low} to {high}"


def interval_of(name: str, metric: Mapping[str, Any], stat: str) -> str:
    """Word the 95 % interval of one statistic of a metric; empty where the summary has none."""
    found = metric.get("ci95")
    return interval(found.get(stat), unit_of(name, metric)) if isinstance(found, Mapping) else ""


def counted_in(name: str, n: int | None, entry: Mapping[str, Any] | None = None) -> int | None:
    """Return the denominator of a share, so that one of few can be a count; ``None`` where n counts something else.

    Word errors are a share of words, a scorer may have summed a column of its own, and a statistic of shares (one a
    turn) is no share of turns: their n counts turns all the same.
    """
    metric = find_metric(metric_of(name))
    pooled = name.endswith(POOLED) or (name.startswith(SCORERS) and bool((entry or {}).get("per")))
    return None if metric is None or metric.is_distribution or pooled else n


def quantile(name: str, metric: Mapping[str, Any], stat: str) -> Number:
    """Return one statistic of a metric; one that was withheld says so."""
    value = metric.get(stat)
    if value is None and stat in (metric.get("withheld") or {}):
        return Number("n too small", None)
    return number(value, unit_of(name, metric))


def _is_plain_ratio(metric: Metric) -> bool:
    return metric.is_distribution and metric.unit == "ratio" and not metric.name.endswith("_share")
