"""The numbers of parts of a run beside one another: by variant, and by tag, item, hour or whatever else groups it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...analysis.metrics import find_metric
from ...analysis.store import META
from ...analysis.variants import AXIS
from .numbers import counted_in, definition_of, interval_of, quantile, unit_of
from .wording import Number, clean, number

__all__ = ["Cell", "GroupTable", "VariantRow", "breakdown_tables", "variant_table"]

STATS = ("p50", "p95")


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one group.

    Attributes:
        interval: its 95 % interval in words; empty where there is none.
        n: samples behind it; ``None`` where the number was not measured.
    """

    value: Number
    interval: str = ""
    n: int | None = None


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The headline numbers of every group of one axis.

    Attributes:
        heads: (metric, statistic) of each column.
        rows: (name, turns, cells) of each group.
        not_shown: groups that are left out.
    """

    axis: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, Number, tuple[Cell, ...]], ...]
    not_shown: int

    @property
    def definitions(self) -> list[tuple[str, str]]:
        """What the metrics of the columns mean."""
        return [(name, definition_of(name)) for name in dict.fromkeys(name for name, _stat in self.heads)]


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One statistic of one metric, of each variant."""

    name: str
    stat: str
    definition: str
    cells: tuple[Cell, ...]

    @property
    def leads(self) -> bool:
        """Whether it is one of those that variants are compared by: those with an interval."""
        return not self.stat or any(cell.interval for cell in self.cells)


def breakdown_tables(summary: Mapping[str, Any]) -> list[GroupTable]:
    """Return a table for each axis by which the summary breaks a run down; variants have their own table."""
    found = []
    for axis, part in (summary.get("breakdown") or {}).items():
        groups = part.get("groups") or []
        heads = tuple(_heads([group.get("metrics") or {} for group in groups]))
        if axis == "variant" or not heads:
            continue
        rows = tuple(
            (
                clean(group.get("name")),
                number(group.get("turns")),
                tuple(_cell(name, (group.get("metrics") or {}).get(name), stat) for name, stat in heads),
            )
            for group in groups
        )
        name = axis.removeprefix(META).removeprefix(AXIS)
        found.append(GroupTable(clean(name), heads, rows, int(part.get("not_shown") or 0)))
    return found


def variant_table(summary: Mapping[str, Any]) -> tuple[list[str], list[VariantRow]]:
    """Return the names of the variants, and every metric that was measured of one of them, side by side."""
    variants = summary.get("variants") or []
    if len(variants) < 2:
        return [], []
    names = [str(variant.get("name")) for variant in variants]
    groups = ((summary.get("breakdown") or {}).get("variant") or {}).get("groups") or []
    known = {str(group.get("name")): group.get("metrics") or {} for group in groups}
    metrics = [
        _with_intervals(variant.get("metrics") or {}, known.get(str(variant.get("name")), {})) for variant in variants
    ]
    turns = [number((variant.get("counts") or {}).get("turns")) for variant in variants]
    rows = [VariantRow("turns", "", "turns of the variant, warm-up included", tuple(Cell(value) for value in turns))]
    for name, stat in _heads(metrics):
        cells = tuple(_cell(name, of_one.get(name), stat) for of_one in metrics)
        entry = next((of_one[name] for of_one in metrics if name in of_one), None)
        rows.append(VariantRow(clean(name), stat, definition_of(name, entry), cells))
    return [clean(name) for name in names], rows


def _with_intervals(
    metrics: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    return {
        name: {"ci95": known[name]["ci95"], **metric} if "ci95" in known.get(name, {}) else metric
        for name, metric in metrics.items()
    }


def _heads(parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[str, str]]:
    """Every metric that one of the parts has, with each of the statistics that are shown of it."""
    for name in dict.fromkeys(name for part in parts for name in part):
        metric = find_metric(name)
        stats = STATS if metric is not None and metric.is_distribution else ("value",)
        for stat in stats:
            if any((part.get(name) or {}).get(stat) is not None for part in parts):
                yield name, stat


def _cell(name: str, metric: Mapping[str, Any] | None, stat: str) -> Cell:
    if metric is None:
        return Cell(number(None))
    n = metric.get("n")
    if stat == "value":
        return Cell(
            number(metric.get("value"), unit_of(name, metric), n=counted_in(name, n, metric)),
            interval_of(name, metric, stat),
            n,
        )
    value = quantile(name, metric, stat)
    if value.exact is None and n:
        value = Number("n too small", None)
    return Cell(value, interval_of(name, metric, stat), n)
