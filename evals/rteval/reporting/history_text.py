"""The history of runs as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .words import say_value

__all__ = ["history_tables", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
SHOWN_RUNS = 15
SHOWN_POINTS = 30
SHOWN_NUMBERS = 3
SHOWN_REASONS = 4
STYLES = {"PASS": "green", "COMPLETE": "green", "FAIL": "red", "REFUSED": "red", "BROKEN": "red"}


def history_tables(history: Mapping[str, Any], *, blocks: bool = True) -> Iterator[RenderableType]:
    """Yield what is printed, from top to bottom.

    Args:
        history: as ``History.as_dict`` gives it.
        blocks: whether the terminal has the block characters of a sparkline.
    """
    for scenario in history["scenarios"]:
        runs = scenario["runs"]
        yield Text(_title(scenario), style="bold")
        if scenario["metrics"]:
            yield _trends(scenario, blocks)
        yield _runs(scenario)
        yield from _unlike(runs[-SHOWN_RUNS:])
        if len(runs) > SHOWN_RUNS:
            yield Text(f"and {len(runs) - SHOWN_RUNS} earlier runs; --html shows all")
        yield Text()
    for note in history["notes"]:
        yield Text(_clean(note))
    for entry in history["left_out"]:
        runs = "run" if entry["count"] == 1 else "runs"
        yield Text(_clean(f"left out: {entry['count']} {runs}, {entry['reason']} (e.g. {entry['runs'][0]})"))
    if not history["scenarios"]:
        yield Text("there is no finished run")


def sparkline(values: Sequence[float | None]) -> str:
    """Return values as blocks of different heights, from the lowest to the highest; what is missing is a gap."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    low, span = min(there), max(there) - min(there)
    steps = len(BLOCKS) - 1
    return "".join(
        " " if value is None else BLOCKS[round((value - low) / span * steps) if span else steps // 2]
        for value in values
    )


def _title(scenario: Mapping[str, Any]) -> str:
    runs = scenario["runs"]
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    return _clean(f"{scenario['name']}: {count}, {_day(runs[0])} to {_day(runs[-1])}; the last one: {_last(runs[-1])}")


def _last(run: Mapping[str, Any]) -> str:
    return ". ".join(part for part in (run["verdict"], run["look_at"]) if part)


def _day(run: Mapping[str, Any]) -> str:
    return str(run["started_at"] or "?")[:10]


def _trends(scenario: Mapping[str, Any], blocks: bool) -> Table:
    table = Table(title_justify="left")
    for name in ("metric", *(["trend"] if blocks else []), "lowest", "highest", "before", "last", "95 %", "gate"):
        table.add_column(name, justify="left" if name in ("metric", "trend", "gate") else "right", no_wrap=True)
    for name in scenario["metrics"]:
        unit = scenario["units"][name]
        # A trial of five items would be the lowest, the highest and the one before the last.
        points = [run["metrics"][name] for run in scenario["runs"] if not run["unlike_last"]]
        values = [None if point["invalid"] else point["value"] for point in points]
        there = [value for value in values if value is not None]
        last = points[-1]
        table.add_row(
            _clean(name),
            *([sparkline(values[-SHOWN_POINTS:])] if blocks else []),
            say_value(min(there, default=None), unit),
            say_value(max(there, default=None), unit),
            say_value(points[-2]["value"] if len(points) > 1 else None, unit),
            say_value(last["value"], unit),
            _interval(last, unit),
            Text(", ".join(_limits(last, unit)), style="red" if _is_missed(last) else ""),
        )
    return table


def _runs(scenario: Mapping[str, Any]) -> Table:
    numbers = scenario["metrics"][:SHOWN_NUMBERS]
    table = Table()
    for name in ("started", "run", "verdict", "look at", "labels"):
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(_clean(name), justify="right")
    for run in scenario["runs"][-SHOWN_RUNS:]:
        verdict = run["verdict"].partition(":")[0].split()[0]
        table.add_row(
            str(run["started_at"] or "?")[:16].replace("T", " "),
            _clean(run["run_id"] + (" *" if run["unlike_last"] else "")),
            Text(verdict, style=STYLES.get(verdict, "yellow")),
            run["culprit"] or "",
            _clean(", ".join(f"{key}={value}" for key, value in run["labels"].items())),
            *(_number(run["metrics"][name], scenario["units"][name]) for name in numbers),
        )
    return table


def _unlike(runs: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """What the runs with a star were not alike the last one in, each reason once with how many runs it holds for."""
    reasons = Counter(reason for run in runs for reason in run["unlike_last"])
    for reason, count in reasons.most_common(SHOWN_REASONS):
        yield Text(_clean(f"* {count} {'run is' if count == 1 else 'runs are'} not like the last one: {reason}"))
    if len(reasons) > SHOWN_REASONS:
        yield Text(f"* and {len(reasons) - SHOWN_REASONS} other differences; --json and --html name each")


def _number(point: Mapping[str, Any], unit: str) -> Text:
    interval = _interval(point, unit)
    said = say_value(point["value"], unit) + (f" [{interval}]" if interval else "")
    return Text(said, style="dim" if point["invalid"] else "red" if _is_missed(point) else "")


def _interval(point: Mapping[str, Any], unit: str) -> str:
    low, high = point["low"], point["high"]
    if low is None or high is None:
        # 40 turns cannot say how slow one in twenty may be: only the side that they know.
        return "" if low is high else f">= {say_value(low, unit)}" if high is None else f"<= {say_value(high, unit)}"
    return f"{say_value(low, unit)} to {say_value(high, unit)}"


def _limits(point: Mapping[str, Any], unit: str) -> Iterable[str]:
    return (f"{limit['op']} {say_value(limit['limit'], unit)}" for limit in point["limits"])


def _is_missed(point: Mapping[str, Any]) -> bool:
    return any(limit["missed"] and limit["verdict"] != "invalid" for limit in point["limits"])


def _clean(text: object) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(text))
