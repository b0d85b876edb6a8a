"""Comparisons as text: tables for a terminal, and a Markdown page for a review. No transcript is in either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..analysis.compare import Comparison, Outcome, Row
from ..analysis.metrics import find_metric
from .markdown import code, escape
from .words import say_value

__all__ = ["HOW", "compare_markdown", "compare_tables", "in_points", "say_outcome", "say_sides"]

HOW = (
    "Differences are new less base, with 95 % intervals: of shares Newcombe's, of all others from 2 000 resamples of "
    "items (paired) or sessions. Worse and better are said when the difference is beyond the slack after Holm's "
    "correction over all rows, same when the whole interval is within the slack."
)

_STYLES = {Outcome.WORSE: "bold red", Outcome.BETTER: "green", Outcome.SAME: "", Outcome.NOT_COMPARABLE: "yellow"}
_MARKS = {
    Outcome.WORSE: "❌ worse",
    Outcome.BETTER: "✅ better",
    Outcome.SAME: "✅ same",
    Outcome.CANNOT_TELL: "≈ cannot tell",
    Outcome.NOT_COMPARABLE: "⚠️ not comparable",
}
_HEAD = ("metric", "base", "new", "difference", "95 % interval", "slack", "n", "verdict", "")
_NEEDS = {"base": 96, "slack": 124, "n": 124}
"""Columns that stand only where a terminal has so many: the difference and its interval say more."""


def compare_tables(comparisons: Sequence[Comparison], width: int) -> Iterator[RenderableType]:
    """Yield what is printed on so many columns, from top to bottom; on few of them not all of it."""
    for comparison in comparisons:
        yield Text(say_sides(comparison), style="bold")
        for sentence in comparison.unfair:
            yield Text(f"not fair: {sentence}", style="yellow")
        shown = [place for place in range(len(_HEAD) - 1) if width >= _NEEDS.get(_HEAD[place], 0)]
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for place in shown:
            is_text = _HEAD[place] in ("metric", "verdict")
            table.add_column(_HEAD[place], justify="left" if is_text else "right", overflow="fold", no_wrap=True)
        for row in comparison.rows:
            cells = _cells(row)
            styles = {_HEAD.index("verdict"): _STYLES.get(row.outcome, "")}
            table.add_row(*(Text(cells[place], style=styles.get(place, "")) for place in shown))
        yield table
        for row in comparison.rows:
            if row.reason:
                yield Text(f"{row.name}: {row.reason}", style="dim")
        yield Text(say_outcome(comparison), style="bold red" if comparison.worse else "bold")
        yield Text()
    yield Text(HOW, style="dim")


def compare_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return a page with all comparisons."""
    parts = []
    for comparison in comparisons:
        parts.append(f"# {escape(say_sides(comparison), 500)}")
        parts.append(f"**{escape(say_outcome(comparison))}**")
        parts += [f"> not fair: {escape(sentence, 500)}" for sentence in comparison.unfair]
        lines = ["| " + " | ".join(_HEAD) + " |", "|" + " --- |" * len(_HEAD)]
        for row in comparison.rows:
            cells = _cells(row)
            shown = [code(cells[0]), *map(escape, cells[1:-1]), _MARKS[row.outcome], escape(row.reason or "")]
            lines.append("| " + " | ".join(shown) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, HOW]) + "\n"


def say_sides(comparison: Comparison) -> str:
    """Word what is held against what; of two parts of one run also which run it is."""
    said = f"{comparison.new.label} against {comparison.base.label}"
    base, new = ((side.facts.get("scenario"), side.facts.get("run_id")) for side in (comparison.base, comparison.new))
    if base != new or None in new:
        return said
    return f"{said}, in {new[0]}/{new[1]}"


def say_outcome(comparison: Comparison) -> str:
    """Word a comparison in a line."""
    counts = {outcome: [row.name for row in comparison.rows if row.outcome is outcome] for outcome in Outcome}
    if not comparison.rows:
        return "nothing was measured by both"
    said = [f"{', '.join(names)} {outcome.value}" for outcome, names in counts.items() if names and outcome in _TOLD]
    rest = sum(len(names) for outcome, names in counts.items() if outcome not in _TOLD)
    more = [f"{rest} of {len(comparison.rows)} neither"] if said and rest else []
    return "; ".join([*said, *more]) or "nothing is shown to be better or worse"


_TOLD = (Outcome.WORSE, Outcome.BETTER)


def _cells(row: Row) -> tuple[str, ...]:
    """The row in words, up to its verdict."""
    difference = row.difference
    bounds = row.interval or (None, None)
    # In the unit of the difference beside it.
    between = "-" if row.interval is None else " to ".join(_signed(row, bound).partition(" ")[0] for bound in bounds)
    n = f"{row.n_base}" if row.n_base == row.n_new else f"{row.n_base}, {row.n_new}"
    pairs = f", {row.units} pairs" if row.paired else ""
    return (
        row.name,
        _said(row, row.base),
        _said(row, row.new),
        "-" if difference is None else _signed(row, difference),
        between,
        in_points(_said(row, row.slack)),
        f"{n}{pairs}",
        row.outcome.value,
    )


def _said(row: Row, value: float | None) -> str:
    metric = find_metric(row.name)
    if row.unit == "ratio" and (metric is None or metric.is_distribution):
        return "-" if value is None else f"{value:.3f}"
    return say_value(value, row.unit)


def _signed(row: Row, value: float | None) -> str:
    if value is None:
        return "open"
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{in_points(_said(row, abs(value)))}"


def in_points(text: str) -> str:
    """A difference of shares is in points: from 2 % to 3 % is one point, and 50 %."""
    return text.replace("%", "points")
