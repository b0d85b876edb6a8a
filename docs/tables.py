"""The tables of these pages that are made of the code: every key of a scenario and every metric of a run.

``python docs/tables.py`` writes them into their pages; a test finds those that are not fresh.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rteval.analysis.metrics import CHECKS, METRICS, SCORERS, Metric, Source, find_metric
from rteval.reporting.html.page import SECTIONS
from rteval.scenario import json_schema

DOCS = Path(__file__).parent
PAGES = ("scenarios.md", "reading-a-report.md")
PLACE = re.compile(r"<!-- table: (?P<what>\w+) of (?P<of>\w+) -->\n.*?<!-- end -->", re.DOTALL)

Part = Mapping[str, Any]
Row = tuple[str, ...]


def refreshed(text: str) -> str:
    """Return a page with its tables as they should be; each stands between ``table: keys of load`` and ``end``."""
    make = {"keys": key_table, "metrics": metric_table}

    def put(place: re.Match[str]) -> str:
        table = make[place["what"]](place["of"])
        return f"<!-- table: {place['what']} of {place['of']} -->\n\n{table}\n\n<!-- end -->"

    return PLACE.sub(put, text)


# ---- keys of a scenario ----

schema = cache(json_schema)


def sections() -> list[str]:
    """Return the keys at the top of a scenario that hold further keys, and ``scenario`` for those that do not."""
    return ["scenario", *(key for key, part in schema()["properties"].items() if any(_nested(part, key)))]


def key_table(section: str) -> str:
    """Return all keys of a section with what they take, their defaults and their meanings."""
    top = schema()["properties"]
    if section == "scenario":
        rows = [_key_row(key, part, key in ("target", "dataset")) for key, part in top.items()]
    else:
        rows = list(_nested(top[section], ""))
    return table(("key", "takes", "default", "meaning"), rows)


def _nested(part: Part, path: str) -> Iterator[Row]:
    """Rows of the keys inside a value: of a mapping, of the entries of a list, of what names are given to."""
    for member in _members(part):
        if "properties" in member:
            yield from _rows(member, path)
        elif isinstance(member.get("items"), dict):
            yield from _nested(member["items"], f"{path}[]" if path else "")
        elif isinstance(member.get("additionalProperties"), dict):
            yield from _nested(member["additionalProperties"], f"{path}.NAME" if path else "NAME")


def _rows(model: Part, path: str) -> Iterator[Row]:
    for key, part in model["properties"].items():
        whole = f"{path}.{key}" if path else key
        yield _key_row(whole, part, key in model.get("required", ()))
        yield from _nested(part, whole)


def _key_row(path: str, part: Part, required: bool) -> Row:
    meaning = part.get("description") or next(member["description"] for member in _members(part))
    return f"`{path}`", _takes(part), "required" if required else _default(part), meaning


def _members(part: Part) -> list[Part]:
    """What a value may be, one by one, without the variables that may stand for any of them."""
    if "anyOf" in part:
        return [inner for member in part["anyOf"] for inner in _members(member)]
    name = str(part.get("$ref", "")).rpartition("/")[2]
    if not name:
        return [part]
    return [] if name == "Variable" else _members(schema()["$defs"][name])


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "object": "mapping", "array": "list"}


def _takes(part: Part) -> str:
    words: list[str] = []
    for member in _members(part):
        values = member.get("enum", [member["const"]] if "const" in member else [])
        if values:
            found = [f"`{_yaml(value)}`" for value in values]
        elif member.get("type") == "boolean":
            found = ["`true`", "`false`"]
        else:
            found = [_WORDS[member["type"]]] if member.get("type") in _WORDS else []
        words += [word for word in found if word not in words]
    return ", ".join(words)


def _default(part: Part) -> str:
    value = part.get("default")
    return "" if value is None or value in ([], {}) else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value)


# ---- metrics of a run ----

EXAMPLES = (f"{CHECKS}NAME", f"{SCORERS}NAME.METRIC")
"""Metrics whose names a scenario makes."""

SAMPLES = {Source.TURNS: "turn", Source.SESSIONS: "session", Source.DELTAS: "gap", Source.HEALTH: "sample"}


def section_of(name: str) -> str:
    """Return the section of a report that a metric stands in."""
    return next(section for section, belongs in SECTIONS if belongs(name))


def metric_table(section: str) -> str:
    """Return all metrics of a section of the report with their units and definitions."""
    made = [metric for name in EXAMPLES if (metric := find_metric(name)) is not None]
    metrics = [metric for metric in (*METRICS.values(), *made) if section_of(metric.name) == section]
    return table(("metric", "unit", "one for each", "definition"), map(_metric_row, metrics))


def _metric_row(metric: Metric) -> Row:
    each = SAMPLES[metric.source] if metric.is_distribution else "run"
    return f"`{metric.name}`", metric.unit or "its own", each, metric.definition


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    for page in PAGES:
        file = DOCS / page
        file.write_text(refreshed(file.read_text(encoding="utf-8")), encoding="utf-8")
