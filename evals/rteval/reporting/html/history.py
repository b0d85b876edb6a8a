"""Writes the history of runs as one self-contained page: a chart of each metric over the runs, and a table of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ... import __version__
from ..files import PAGE, replace_file
from .shell import STYLE, asset, embedded, environment, policy, script_text
from .wording import clean, number, verdict_of

__all__ = ["write_history"]

SCRIPTS = ("chart.umd.min.js", "history.js")

SHOWN_NUMBERS = 4
"""So many metrics have a column in the table of runs; every one has a chart."""

_KINDS = {"invalid": "invalid", "partial": "partial", "refused": "invalid"}


def write_history(path: Path, history: Mapping[str, Any]) -> None:
    """Write the page.

    It asks the network for nothing; its content security policy names each script and style by hash, and what came out
    of the run folders is written as text. It links to the reports of the runs, relative to itself.

    Args:
        path: file to write.
        history: as ``History.as_dict`` gives it.

    Raises:
        RunFolderError: the disk refused.
    """
    shown = [_scenario(scenario, place, path) for place, scenario in enumerate(history["scenarios"])]
    text = (
        environment()
        .get_template("history.html.j2")
        .render(
            version=__version__,
            title=", ".join(clean(scenario["name"]) for scenario in shown) or "no runs",
            scenarios=shown,
            left_out=[{**entry, "reason": clean(entry["reason"])} for entry in history["left_out"]],
            notes=[clean(note) for note in history["notes"]],
            policy=policy(SCRIPTS),
            style=Markup(asset(STYLE)),
            scripts=[Markup(script_text(name)) for name in SCRIPTS],
            data=Markup(embedded([figure for scenario in shown for figure in scenario["figures"]])),
        )
    )
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8", errors="replace", newline="\n"))


def _scenario(scenario: Mapping[str, Any], place: int, page: Path) -> dict[str, Any]:
    runs = scenario["runs"]
    columns = scenario["metrics"][:SHOWN_NUMBERS]
    return {
        "id": f"scenario-{place}",
        "name": clean(scenario["name"]),
        "verdict": verdict_of(runs[-1]),
        "look_at": clean(runs[-1]["look_at"] or ""),
        "first": _day(runs[0]),
        "last": _day(runs[-1]),
        "columns": columns,
        "figures": [_figure(scenario, name, f"plot-{place}-{at}") for at, name in enumerate(scenario["metrics"])],
        # The newest first: a table is read from the top, a chart to the right.
        "runs": [_row(run, columns, scenario["units"], page) for run in reversed(runs)],
    }


def _row(run: Mapping[str, Any], columns: Sequence[str], units: Mapping[str, str], page: Path) -> dict[str, Any]:
    return {
        "id": clean(run["run_id"]),
        "link": _link(Path(run["run_dir"]) / PAGE, page),
        "started": clean(str(run["started_at"] or "")[:16].replace("T", " ")),
        "verdict": verdict_of(run),
        "look_at": clean(run["look_at"] or ""),
        "unlike": clean("; ".join(run["unlike_last"])),
        "labels": clean(", ".join(f"{key}={value}" for key, value in run["labels"].items())),
        "model": clean(run["model"] or ""),
        "turns": number(run["turns"]),
        "numbers": [_number(run["metrics"][name], units[name]) for name in columns],
    }


def _number(point: Mapping[str, Any], unit: str) -> dict[str, Any]:
    return {
        "value": number(point["value"], unit),
        "interval": _interval(point, unit),
        "missed": _is_missed(point),
        "invalid": point["invalid"],
    }


def _link(report: Path, page: Path) -> str | None:
    """Where the report of a run is, as seen from the page."""
    if not report.is_file():
        return None
    try:
        return quote(Path(os.path.relpath(report, page.parent)).as_posix())
    except ValueError:  # pragma: no cover - another drive on Windows
        return None


def _day(run: Mapping[str, Any]) -> str:
    return clean(str(run["started_at"] or "?")[:10])


def _has_interval(point: Mapping[str, Any]) -> bool:
    return point["low"] is not None or point["high"] is not None


def _is_missed(point: Mapping[str, Any]) -> bool:
    return any(limit["missed"] and limit["verdict"] != "invalid" for limit in point["limits"])


# ---- charts ----


def _figure(scenario: Mapping[str, Any], name: str, figure_id: str) -> dict[str, Any]:
    """One metric over the runs, in plain lists for the script; a ratio in per cent."""
    runs, unit = scenario["runs"], scenario["units"][name]
    factor, shown_unit = (100, "%") if unit == "ratio" else (1, unit)
    points = [run["metrics"][name] for run in runs]

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    most = max((len(point["limits"]) for point in points), default=0)
    return {
        "id": figure_id,
        "name": clean(name),
        "unit": clean(shown_unit),
        "definition": clean(scenario["definitions"].get(name, "")),
        "days": [clean(str(run["started_at"] or "")[5:10]) for run in runs],
        "titles": [_title(run) for run in runs],
        "values": [None if point["invalid"] else scaled(point["value"]) for point in points],
        "bounds": [
            [scaled(point["value"] if point[end] is None else point[end]) for end in ("low", "high")]
            if _has_interval(point) and not point["invalid"]
            else None
            for point in points
        ],
        "said": [
            [*_said(point, unit), *(clean(f"not like the last run: {reason}") for reason in run["unlike_last"])]
            for run, point in zip(runs, points, strict=True)
        ],
        "kinds": [
            "missed" if _is_missed(point) else "unlike" if run["unlike_last"] else _KINDS.get(run["state"], "")
            for run, point in zip(runs, points, strict=True)
        ],
        "unlike": [bool(run["unlike_last"]) for run in runs],
        "limits": [
            [scaled(point["limits"][at]["limit"]) if at < len(point["limits"]) else None for point in points]
            for at in range(most)
        ],
        "gate": ", ".join(
            f"{limit['op']} {number(limit['limit'], unit).text}" for limit in (points[-1]["limits"] if points else ())
        ),
        "label": clean(f"{name} over {len(runs)} runs, with 95 % intervals and the gates' limits"),
    }


def _title(run: Mapping[str, Any]) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in run["labels"].items())
    parts = [str(run["started_at"] or "")[:16].replace("T", " "), run["run_id"], labels]
    return clean(" · ".join(part for part in parts if part))


def _said(point: Mapping[str, Any], unit: str) -> list[str]:
    lines = [f"{number(point['value'], unit).text}, n {point['n']}"]
    if _has_interval(point):
        lines.append(f"95 %: {_interval(point, unit)}")
    lines += [
        f"gate {limit['op']} {number(limit['limit'], unit).text}: {limit['verdict']}" for limit in point["limits"]
    ]
    return [clean(line) for line in lines]


def _interval(point: Mapping[str, Any], unit: str) -> str:
    low, high = (None if point[end] is None else number(point[end], unit).text for end in ("low", "high"))
    if low is None or high is None:
        return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""
    return f"{low} to {high}"
