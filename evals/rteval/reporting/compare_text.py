"""Comparisons as text: tables for a terminal, and a Markdown page for a review. No transcript is in either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..analysis.compare import Comparison, Outcome, Row
from ..analysis.metrics import find_metric
from .markdown import code, escape
from .words import say_value

__all__ = ["HOW", "compare_markdown", "compare_tables", "in_points", "say_outcome"]

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


def compare_tables(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """Yield what is printed, from top to bottom."""
    for comparison in comparisons:
        yield Text(f"{comparison.new.label} against {comparison.base.label}", style="bold")
        for sentence in comparison.unfair:
            yield Text(f"not fair: {sentence}", style="yellow")
        table = Table()
        for place, name in enumerate(_HEAD):
            table.add_column(name, justify="right" if 0 < place < 7 else "left", overflow="fold")
        for row in comparison.rows:
            cells = _cells(row)
            verdict = Text(row.outcome.value, style=_STYLES.get(row.outcome, ""))
            table.add_row(*map(Text, cells[:-1]), verdict, Text(row.reason or ""))
        yield table
        yield Text(say_outcome(comparison), style="bold red" if comparison.worse else "bold")
        yield Text()
    yield Text(HOW, style="dim")


def compare_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return a page with all comparisons."""
    parts = []
    for comparison in comparisons:
        parts.append(f"# {escape(comparison.new.label)} against {escape(comparison.base.label)}")
        parts.append(f"**{escape(say_outcome(comparison))}**")
        parts += [f"> not fair: {escape(sentence, 500)}" for sentence in comparison.unfair]
        lines = ["| " + " | ".join(_HEAD) + " |", "|" + " --- |" * len(_HEAD)]
        for row in comparison.rows:
            cells = _cells(row)
            shown = [code(cells[0]), *map(escape, cells[1:-1]), _MARKS[row.outcome], escape(row.reason or "")]
            lines.append("| " + " | ".join(shown) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, HOW]) + "\n"


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
    between = "-" if row.interval is None else " to ".join(_signed(row, bound) for bound in bounds)
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
