"""All turns of a run as compact columns for the page's table: small enough for ten thousand turns in one file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .shell import embedded
from .timeline import STEPS_MS, Arrivals, anchors
from .wording import clean

__all__ = ["MAX_ROWS", "cut", "room_for", "turn_columns"]

MAX_ROWS = 20_000
"""More turns than this and the page holds the ones that were not ok and the slowest; the tables hold all."""

SMALL, SMALL_BYTES = 1_000, 3_000_000
BIG, BIG_BYTES = 10_000, 8_000_000
REST_BYTES = 900_000
"""A page of so many turns has at most so many bytes; this much of it is for all but the turns."""

SHORTEST, LONGEST = 30, 10_000
"""Characters of a text that is cut."""

LONGEST_WORD = 300

TEXTS = ("reference", "input_transcript", "output_transcript", "output_text")

FIRST = (
    "item",
    "session",
    "turn",
    "variant",
    "worker",
    "outcome",
    "failure_stage",
    "error_code",
    "error_message",
    "transcript_outcome",
    "transcript_error",
    "modality",
    "language",
    "conversation_id",
    "tags",
    "oddities",
    "attempt",
    "concurrency",
)
"""What a reader of the table needs first, and what is never left out."""

HIDDEN = {
    "run_id",
    "dialect",
    "expect",
    "tool_calls",
    "prompt",
    "playback_buffer_ms",
    "output_rate_bytes_per_s",
    *(f"{side}_{what}" for side in ("input", "output") for what in ("hits", "ref_chars", "char_errors", "wer_reason")),
}
"""Columns that say nothing to a reader which the page does not say elsewhere."""

FLAGS = ("warmup", "modality_missing", "split_turn", "early_endpoint", "silent_answer", "stop_censored")


def room_for(turns: int) -> int:
    """Return how many bytes of a page its turns may take: 3 MB a page up to 1 000 turns, 8 MB at 10 000."""
    slope = (BIG_BYTES - SMALL_BYTES) / (BIG - SMALL)
    return round(SMALL_BYTES + slope * max(0, min(turns, MAX_ROWS) - SMALL)) - REST_BYTES


def turn_columns(
    turns: pd.DataFrame,
    *,
    texts: bool,
    at_s: npt.NDArray[np.float64],
    deltas: pd.DataFrame | None = None,
    answers: Mapping[int, str] | None = None,
    room: int | None = None,
) -> dict[str, Any]:
    """Return the columns of the table as JSON data.

    Args:
        turns: one row a turn.
        texts: whether transcripts may be shown.
        at_s: when each turn happened, in seconds since the first (NaN where it never did).
        deltas: one row a delta.
        answers: by row, the outline of an answer that can be played.
        room: bytes that the columns may take; by default ``room_for`` the turns.

    Returns:
        ``rows`` (numbers of the rows that are in; ``None``: all), ``total``, ``clip`` (characters that texts were cut
        to, or ``None``), ``step_ms`` (to what arrivals are rounded; ``None``: there are none), ``left_out`` (columns
        that found no room) and ``columns``: each a list; ``{"levels", "codes"}`` where values repeat; ``{"levels"}``
        where all rows have the same. A column without any value is left out.
    """
    rows = chosen_rows(turns)
    part = turns.iloc[rows]
    room = room_for(len(turns)) if room is None else room
    columns: dict[str, Any] = {"at_s": same(numeric(pd.Series(at_s[rows]), digits=2))}
    more: dict[str, Any] = {}
    for name in dict.fromkeys([*(name for name in FIRST if name in part), *map(str, part.columns)]):
        if name in HIDDEN or name in TEXTS or name.endswith(("_ns", "_reason")):
            continue
        values = part[name]
        if name in FLAGS:
            if values.astype("boolean").fillna(False).any():
                columns[name] = same(values.astype("boolean").fillna(False).astype(int).tolist())
        elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            columns[name] = same(numeric(values, digits=digits_of(name)))
        elif texts or not name.startswith("score_"):  # what a scorer says in words may quote
            (columns if name in FIRST or name.startswith("check_") else more)[name] = repeated(words(values))
    for name, ms in anchors(part).items():
        columns[name] = same(numeric(pd.Series(ms), digits=1))
    if "speech_end_ns" in part:
        columns["spoke"] = same(part["speech_end_ns"].notna().astype(int).tolist())
    if answers:
        columns["answer"] = [answers.get(int(row)) for row in rows]
    columns = {name: column for name, column in columns.items() if not empty(column)}
    room -= sum(map(size, columns.values()))
    left_out = take(columns, {name: column for name, column in more.items() if not empty(column)}, room // 5)
    room -= sum(size(columns[name]) for name in more if name in columns)
    step_ms = None
    if deltas is not None and len(deltas):
        step_ms = add_arrivals(columns, Arrivals(turns, deltas), rows, room // 3)
        room -= sum(size(columns[name]) for name in ("audio_deltas_at", "text_deltas_at") if name in columns)
    clip = add_texts(columns, part, room) if texts else None
    return {
        "rows": rows.tolist() if len(rows) < len(turns) else None,
        "total": len(turns),
        "clip": clip,
        "step_ms": step_ms,
        "left_out": left_out,
        "columns": columns,
    }


def chosen_rows(turns: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the numbers of the rows that the page holds, in the order of the table."""
    if len(turns) <= MAX_ROWS:
        return np.arange(len(turns))
    bad = turns["outcome"].astype("string").ne("ok").fillna(True).to_numpy(dtype=bool)
    key = next((name for name in ("ttfa_ms", "response_ms") if name in turns), None)
    slow = (
        pd.to_numeric(turns[key], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        if key
        else np.zeros(len(turns))
    )
    order = np.lexsort((-np.nan_to_num(slow, nan=-1.0), ~bad))
    return np.sort(order[:MAX_ROWS])


def digits_of(name: str) -> int:
    """Return how many digits after the point a column is shown with."""
    if name.endswith(("_wer", "_cer", "rtf", "_share")) or name.startswith("score_"):
        return 4
    return 1 if name.endswith(("_ms", "_dbfs")) else 3 if name.startswith("meta_") else 0


def take(columns: dict[str, Any], more: Mapping[str, Any], room: int) -> list[str]:
    """Move columns over, the smallest first, as long as there is room; return the names of those left behind."""
    left_out = []
    for name, column in sorted(more.items(), key=lambda pair: size(pair[1])):
        room -= size(column)
        if room >= 0:
            columns[name] = column
        else:
            left_out.append(name)
    return sorted(left_out)


def add_arrivals(columns: dict[str, Any], arrivals: Arrivals, rows: npt.NDArray[np.int64], room: int) -> int | None:
    """Add when deltas arrived, as exactly as there is room for; return to how many milliseconds."""
    for step_ms in STEPS_MS:
        found = {
            name: arrivals.texts(audio=name == "audio_deltas_at", step_ms=step_ms, rows=rows)
            for name in ("audio_deltas_at", "text_deltas_at")
        }
        found = {name: column for name, column in found.items() if not empty(column)}
        if not found:
            return None
        if sum(map(size, found.values())) <= room:
            columns |= found
            return step_ms
    return None


def add_texts(columns: dict[str, Any], part: pd.DataFrame, room: int) -> int | None:
    """Add the transcripts, cut to a common length when all of them together are too big; return that length."""
    present = {name: words(part[name], longest=None) for name in TEXTS if name in part}

    def cut_to(clip: int | None) -> dict[str, Any]:
        columns = {name: repeated([text and cut(text, clip) for text in column]) for name, column in present.items()}
        return {name: column for name, column in columns.items() if not empty(column)}

    def fits(clip: int | None) -> bool:
        return sum(map(size, cut_to(clip).values())) <= room

    clip = None
    if not fits(None):
        clip = SHORTEST + max(0, bisect_left(range(SHORTEST, LONGEST), True, key=lambda length: not fits(length)) - 1)
    columns |= cut_to(clip)
    return clip


def cut(text: str, length: int | None) -> str:
    """Return a text of at most ``length`` characters, with an ellipsis where something was left out."""
    return text if length is None or len(text) <= length else text[: length - 1] + "…"


def words(values: pd.Series[Any], *, longest: int | None = LONGEST_WORD) -> list[str | None]:
    """Return a column as texts; ``None`` where there is none."""
    return [None if (text := worded(value)) is None else cut(text, longest) for value in values.astype(object).tolist()]


def worded(value: object) -> str | None:
    """Return any value as text; ``None`` where there is none."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | np.ndarray):
        return clean(" ".join(str(word) for word in value)) or None
    if value is None or (not isinstance(value, str | dict) and bool(pd.isna(value))):  # type: ignore[call-overload]
        return None
    return clean(value)


def repeated(values: Sequence[str | None]) -> Any:
    """Return a column, as levels and codes where values repeat."""
    levels = sorted({value for value in values if value is not None})
    if levels and len(levels) <= max(1, len(values) // 2):
        index = {level: code for code, level in enumerate(levels)}
        codes = [None if value is None else index[value] for value in values]
        return {"levels": levels} if len(levels) == 1 and None not in codes else {"levels": levels, "codes": codes}
    return list(values)


def same(values: Sequence[Any]) -> Any:
    """Return a column of numbers, as one where all rows have the same."""
    values = list(values)
    return {"levels": [values[0]]} if values and values[0] is not None and len(set(values)) == 1 else values


def numeric(values: pd.Series[Any], *, digits: int) -> list[float | int | None]:
    """Return a column of numbers, rounded for reading."""
    array = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if digits == 0:
        return [int(value) if value == value and abs(value) < 2**53 else None for value in array.tolist()]
    whole = np.round(array, digits)
    return [None if value != value or abs(value) == np.inf else value for value in whole.tolist()]


def size(column: object) -> int:
    """Return the bytes that a column takes in the page."""
    return len(embedded(column).encode("utf-8", "replace"))


def empty(column: object) -> bool:
    """Tell whether a column holds nothing at all."""
    return not column["levels"] if isinstance(column, dict) else all(value is None for value in column)  # type: ignore[attr-defined]
