"""The lines of a dataset's metadata file as rows of checked types; what the rows name is not looked at.

Two formats: JSON Lines and CSV, both in the AudioFolder convention of Hugging Face ``datasets``.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["COLUMNS", "MEANT", "METADATA", "Faults", "Problems", "Row", "cell_faults", "read_rows"]

METADATA: Final = ("metadata.jsonl", "metadata.csv")
"""Names of the file that lists the items, the preferred one first."""

MEANT: Final = dict.fromkeys(
    ("reference", "transcript", "sentence", "normalized_text"), "transcription"
) | dict.fromkeys(("prompt", "question"), "text")
"""What other data sets call our columns."""
AUDIO_ONLY: Final = ("channel", "start_s", "end_s", "speech_end_ms")
PROMPT_ONLY: Final = ("text", "instructions")


MAX_DEPTH: Final = 50
"""Levels of lists and objects in one row."""

Faults = Iterator[tuple[str, str]]
"""What is wrong, each with its cure."""


class Problems:
    """What is wrong with a dataset, one sentence for each fault, told in the order of the lines."""

    def __init__(self, metadata: Path) -> None:
        self._metadata = metadata
        self._found: list[tuple[int, str]] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def say(self, line: int, what: str, cure: str) -> None:
        """Write one down; ``line`` 0 is the file as a whole."""
        where = f"{self._metadata}:{line}" if line else str(self._metadata)
        self._found.append((line, f"{where}: {what}; {cure}"))

    @property
    def sentences(self) -> list[str]:
        """Each with its place, what is wrong, and the cure."""
        return [sentence for _, sentence in sorted(self._found, key=lambda found: found[0])]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the metadata: its number in the file, and its cells by column as JSON would give them."""

    line: int
    cells: dict[str, Any]

    def get(self, column: str) -> Any:
        """The cell of a column, ``None`` when there is none."""
        return self.cells.get(column)


def read_rows(metadata: Path, problems: Problems) -> list[Row]:
    """All rows that can be read; what cannot is added to ``problems``. Cells are not yet checked."""
    try:
        text = metadata.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.say(line, "is not UTF-8 text", "save the file as UTF-8")
        return []
    except OSError as error:
        problems.say(0, f"cannot be read ({error.strerror or error})", "mend its permissions")
        return []
    rows = list((_csv_rows if metadata.suffix == ".csv" else _jsonl_rows)(text, problems))
    if not rows and not problems:
        problems.say(0, "holds no item", "add one line for each recording or prompt")
    return rows


def _jsonl_rows(text: str, problems: Problems) -> Iterator[Row]:
    cure = "write one JSON object a line"
    # Only "\n" ends a line: str.splitlines() would also cut at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            cells = _json(line)
        except json.JSONDecodeError as error:
            problems.say(number, f"is not JSON ({error.msg} at column {error.colno})", cure)
        except (ValueError, RecursionError) as error:
            problems.say(number, f"is not usable JSON ({error})", cure)
        else:
            if isinstance(cells, dict):
                yield Row(number, cells)
            else:
                problems.say(number, f"is {_kind(cells)} and not an object", cure)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"key {twice!r} occurs twice")
    return cells


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _csv_rows(text: str, problems: Problems) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1  # where the row starts; the reader counts the lines that it has finished
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            problems.say(1, "names a column twice", "column names must differ")
            return
        line = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(header):
                problems.say(line, "has more cells than the header", "quote cells that hold a comma")
            elif any(cells):
                pairs = zip(header, cells, strict=False)
                yield Row(line, {column: _csv_cell(column, cell) for column, cell in pairs if cell})
            line = reader.line_num + 1
    except csv.Error as error:
        problems.say(line, f"is not CSV ({error})", "write it with a spreadsheet or a CSV library")


def _csv_cell(column: str, cell: str) -> Any:
    """A cell as JSON would have given it; what cannot be converted stays text, and is refused later by its type."""
    try:
        if column in ("start_s", "end_s", "speech_end_ms"):
            return float(cell)
        if column == "channel" and cell.strip().isdecimal():
            return int(cell)
        if column == "expect" or (column == "tags" and cell.lstrip().startswith("[")):
            return _json(cell)
    except (ValueError, RecursionError):
        return cell
    if column == "tags":
        return [tag.strip() for tag in re.split("[;,]", cell) if tag.strip()]
    return cell


def cell_faults(cells: Mapping[str, Any]) -> Faults:
    """What is wrong with the cells of a row: their types, and columns that do not go together."""
    for column, value in cells.items():
        fault = COLUMNS[column](value) if column in COLUMNS and value is not None else None
        if fault:
            yield f"{column} {fault[0]}", fault[1]
    if _is_deep(cells):
        yield f"is nested deeper than {MAX_DEPTH} levels", "write flatter values"
        return
    try:
        json.dumps(cells, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        yield "holds text that is not valid Unicode", "mend the \\u escapes of this line"
    try:
        json.dumps({column: value for column, value in cells.items() if column not in COLUMNS}, allow_nan=False)
    except ValueError:
        yield "holds a number that is too large", "write a smaller one, or a text in quotes"
    audio = cells.get("file_name") is not None
    text = any(cells.get(column) is not None for column in PROMPT_ONLY)
    if audio and text:
        named = next(column for column in PROMPT_ONLY if cells.get(column) is not None)
        cure = f"{named} is a prompt sent instead of audio, the words of a recording go into transcription"
        yield f"has both file_name and {named}", cure
    elif not audio and not text:
        yield "has neither file_name nor text", "name an audio file or write a prompt"
    for column in AUDIO_ONLY if text and not audio else ():
        if cells.get(column) is not None:
            yield f"{column} belongs to audio, and this is a text prompt", f"remove {column}"


def _is_deep(value: object) -> bool:
    """Whether there are more levels of lists and objects in one another than every reader of the rows can follow."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


# What is wrong with a cell and the cure, or None.
_Fault = tuple[str, str] | None


def _text_fault(value: object) -> _Fault:
    return None if isinstance(value, str) else (f"is {_kind(value)}", "write it as text in quotes")


def _name_fault(value: object) -> _Fault:
    if fault := _text_fault(value):
        return fault
    assert isinstance(value, str)
    if not value.strip():
        return "is empty", "write something or leave it out"
    if not value.isprintable():
        return f"{value!r} holds control characters", "write one plain line"
    return None


def _id_fault(value: object) -> _Fault:
    return None if isinstance(value, int) and not isinstance(value, bool) else _name_fault(value)


def _prompt_fault(value: object) -> _Fault:
    blank = isinstance(value, str) and not value.strip()
    return ("is empty", "write a prompt or leave it out") if blank else _text_fault(value)


def _number_fault(value: object) -> _Fault:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"is {_kind(value)}", "write a number"
    if not math.isfinite(value) or value < 0:
        return f"is {value:g}", "write a number of 0 or more"
    return None


def _positive_fault(value: object) -> _Fault:
    return ("is 0", "write a number above 0") if value == 0 and value is not False else _number_fault(value)


def _tags_fault(value: object) -> _Fault:
    tags = [value] if isinstance(value, str) else value
    good = isinstance(tags, list) and all(isinstance(tag, str) and tag.strip() for tag in tags)
    return None if good else (f"is {_kind(value)}", 'write a list of words, like ["billing"]')


def _channel_fault(value: object) -> _Fault:
    named = isinstance(value, str) and value in ("left", "right", "mix")
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if named or number else (f"is {value!r}", "write left, right, mix or a number from 0")


def _texts_fault(value: object) -> _Fault:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        return f"is {_kind(value)}", "write a text or a list of texts"
    return None


def _regex_fault(value: object) -> _Fault:
    if fault := _texts_fault(value):
        return fault
    for pattern in value if isinstance(value, list) else [value]:
        try:
            re.compile(str(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            return f"{pattern!r} is no regular expression ({error})", "correct it; in JSON a backslash is written twice"
    return None


def _tool_call_fault(value: object) -> _Fault:
    cure = 'write the name of a tool, or {"name": "...", "arguments": {...}}'
    if isinstance(value, str):
        return None if value.strip() else ("names no tool", cure)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return "names no tool", cure
    if set(value) - {"name", "arguments"} or not isinstance(value.get("arguments", {}), dict):
        return "has other keys than name and arguments, or arguments that are no object", cure
    return None


def _entities_fault(value: object) -> _Fault:
    cure = 'write a list of texts, or of {"value": "...", "type": "...", "aliases": ["..."]}'
    if not isinstance(value, list) or not value:
        return f"is {_kind(value)}", cure
    for entry in value:
        inner = entry if isinstance(entry, dict) else {"value": entry}
        if not isinstance(inner.get("value"), str) or not re.search(r"\w", inner["value"]):
            return f"holds {_kind(entry)}, which names nothing", cure
        if set(inner) - {"value", "type", "aliases"} or not isinstance(inner.get("type", ""), str):
            return f"{inner['value']!r} has other keys than value, type and aliases, or a type that is no text", cure
        if "aliases" in inner and _texts_fault(inner["aliases"]):
            return f"{inner['value']!r} has aliases that are no texts", cure
    return None


_EXPECTATIONS: Final[dict[str, Callable[[object], _Fault]]] = {
    "answer": _prompt_fault,
    "contains": _texts_fault,
    "regex": _regex_fault,
    "equals": _prompt_fault,
    "tool_call": _tool_call_fault,
    "entities": _entities_fault,
}


def _expect_fault(value: object) -> _Fault:
    if not isinstance(value, dict) or not value:
        return f"is {_kind(value)}", f"write an object with some of {', '.join(_EXPECTATIONS)}"
    for key, expected in value.items():
        if key not in _EXPECTATIONS:
            near = difflib.get_close_matches(key, _EXPECTATIONS, 1)
            cure = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_EXPECTATIONS)}"
            return f"has the unknown key {key!r}", cure
        if fault := _EXPECTATIONS[key](expected):
            return f"{key} {fault[0]}", fault[1]
    return None


COLUMNS: Final[dict[str, Callable[[object], _Fault]]] = {
    "file_name": _name_fault,
    "transcription": _text_fault,
    "id": _id_fault,
    "text": _prompt_fault,
    "instructions": _prompt_fault,
    "expect": _expect_fault,
    "conversation_id": _name_fault,
    "tags": _tags_fault,
    "language": _name_fault,
    "channel": _channel_fault,
    "start_s": _number_fault,
    "end_s": _positive_fault,
    "speech_end_ms": _positive_fault,
}
"""The columns that mean something, each with what it may hold; all others are kept as they are."""


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value:g}"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list" if value else "an empty list"
        case _:
            return "an object" if value else "an empty object"
