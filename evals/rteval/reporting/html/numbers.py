"""A number of the summary as the page shows it: with its unit, its interval and its definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...analysis.metrics import find_metric
from .figures import metric_of
from .wording import THIN_SPACE, Number, number

__all__ = ["counted_in", "definition_of", "interval", "interval_of", "quantile", "unit_of"]


def definition_of(name: str) -> str:
    """Return the definition of a metric in one sentence; empty when none is known."""
    metric = find_metric(metric_of(name))
    return "" if metric is None else metric.definition


def unit_of(name: str, entry: Mapping[str, Any] | None) -> str | None:
    """Return the unit that a metric is printed in; a distribution of ratios (``rtf``) is no share: no per cent."""
    metric = find_metric(metric_of(name))
    if metric is None:
        return (entry or {}).get("unit")
    return None if metric.is_distribution and metric.unit == "ratio" else metric.unit


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


def counted_in(name: str, n: int | None) -> int | None:
    """Return the denominator of a share; ``None`` for word error rates, which count words where n counts turns."""
    return None if name.endswith(("_wer", "_cer")) else n


def quantile(name: str, metric: Mapping[str, Any], stat: str) -> Number:
    """Return one statistic of a metric; one that was withheld says so."""
    value = metric.get(stat)
    if value is None and stat in (metric.get("withheld") or {}):
        return Number("n too small", None)
    return number(value, unit_of(name, metric))
