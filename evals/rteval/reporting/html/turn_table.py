"""All turns of a run as compact columns for the page's table: small enough for ten thousand turns in one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .wording import clean

__all__ = ["MAX_ROWS", "turn_columns"]

MAX_ROWS = 20_000
"""More turns than this and the page holds the ones that were not ok and the slowest; the tables hold all."""

TEXT_BUDGET = 4_000_000
"""Bytes of transcripts that a page may hold; beyond it every text is cut, evenly."""

CLIPS = (4000, 2000, 1000, 600, 400, 300, 200, 150, 100, 60)

TEXTS = ("reference", "input_transcript", "output_transcript", "output_text")

WORDS = (
    "item",
    "session",
    "variant",
    "worker",
    "modality",
    "outcome",
    "failure_stage",
    "error_code",
    "error_message",
    "transcript_outcome",
    "transcript_error",
    "dialect",
    "language",
    "conversation_id",
    "session_id",
    "item_id",
    "response_id",
    "started_at",
)

COUNTS = (
    "turn",
    "attempt",
    "concurrency",
    "input_ref_words",
    "input_substitutions",
    "input_deletions",
    "input_insertions",
    "output_ref_words",
    "output_substitutions",
    "output_deletions",
    "output_insertions",
    "underrun_count",
    "unknown_events",
)

FLAGS = ("warmup", "modality_missing", "split_turn", "early_endpoint", "silent_answer", "stop_censored")


def turn_columns(turns: pd.DataFrame, *, texts: bool, at_s: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the columns of the table as JSON data.

    Args:
        turns: one row a turn.
        texts: whether transcripts may be shown.
        at_s: when each turn happened, in seconds since the first (NaN where it never did).

    Returns:
        ``rows`` (numbers of the rows that are in), ``total``, ``clip`` (characters that texts were cut to, or None),
        and ``columns``: each a list, or ``{"levels", "codes"}`` where values repeat. A column without any value
        is left out.
    """
    rows = chosen_rows(turns)
    part = turns.iloc[rows]
    columns: dict[str, Any] = {"at_s": numeric(pd.Series(at_s[rows]), digits=2)}
    for name in WORDS:
        add(columns, name, part)
    for name in ("tags", "oddities"):
        if name in part:
            put(columns, name, [joined(value) for value in part[name]])
    for name in COUNTS:
        if name in part:
            columns[name] = numeric(part[name], digits=0)
    measured = [str(name) for name in part.columns if str(name).endswith("_ms") or str(name).endswith(("_wer", "_cer"))]
    for name in [*measured, *(["rtf"] if "rtf" in part else [])]:
        columns[name] = numeric(part[name], digits=4 if name.endswith(("_wer", "_cer", "rtf")) else 1)
    for name in [str(name) for name in part.columns if str(name).endswith("_tokens")]:
        columns[name] = numeric(part[name], digits=0)
    for name in FLAGS:
        if name in part and part[name].astype("boolean").fillna(False).any():
            columns[name] = part[name].astype("boolean").fillna(False).astype(int).tolist()
    for name in [str(name) for name in part.columns if str(name).startswith("check_")]:
        put(columns, name, [worded(value) for value in part[name]])
    for name in [str(name) for name in part.columns if str(name).startswith("meta_")]:
        put(columns, name, [worded(value) for value in part[name]])
    clip = None
    if texts:
        clip = add_texts(columns, part)
    return {
        "rows": rows.tolist() if len(rows) < len(turns) else None,
        "total": len(turns),
        "clip": clip,
        "columns": {name: column for name, column in columns.items() if not empty(column)},
    }


def chosen_rows(turns: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
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


def add_texts(columns: dict[str, Any], part: pd.DataFrame) -> int | None:
    """Add the transcripts, cut to a common length when all of them together are too big; return that length."""
    present = {name: words(part[name]) for name in TEXTS if name in part}
    size = sum(len(text.encode()) for column in present.values() for text in column if text)
    clip = None
    if size > TEXT_BUDGET:
        for clip in CLIPS:
            size = sum(len(text[:clip].encode()) for column in present.values() for text in column if text)
            if size <= TEXT_BUDGET:
                break
    for name, column in present.items():
        put(columns, name, [None if text is None else cut(text, clip) for text in column])
    return clip


def cut(text: str, length: int | None) -> str:
    """Return a text of at most ``length`` characters, with an ellipsis where something was left out."""
    return text if length is None or len(text) <= length else text[: length - 1] + "…"


def add(columns: dict[str, Any], name: str, part: pd.DataFrame) -> None:
    """Add a column of words where the table has it."""
    if name in part:
        put(columns, name, words(part[name]))


def words(values: pd.Series[Any]) -> list[str | None]:
    """Return a column of texts; ``None`` where there is none."""
    known: dict[Any, str | None] = {None: None}
    cells = values.astype(object).where(values.notna(), None).tolist()
    return [known[cell] if cell in known else known.setdefault(cell, clean(cell)) for cell in cells]


def put(columns: dict[str, Any], name: str, values: Sequence[str | None]) -> None:
    """Add a column, as levels and codes where values repeat."""
    levels = sorted({value for value in values if value is not None})
    if levels and len(levels) <= max(1, len(values) // 2):
        index = {level: code for code, level in enumerate(levels)}
        columns[name] = {"levels": levels, "codes": [None if value is None else index[value] for value in values]}
    else:
        columns[name] = list(values)


def numeric(values: pd.Series[Any], *, digits: int) -> list[float | int | None]:
    """Return a column of numbers, rounded for reading."""
    array = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if digits == 0:
        return [int(value) if np.isfinite(value) else None for value in array]
    return [round(float(value), digits) if np.isfinite(value) else None for value in array]


def joined(value: object) -> str | None:
    """Return a list of words as one text."""
    if isinstance(value, str):
        return clean(value) or None
    if isinstance(value, list | tuple | np.ndarray):
        return clean(" ".join(str(word) for word in value)) or None
    return None


def worded(value: object) -> str | None:
    """Return any value as a word; ``None`` where there is none."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return None if missing(value) else clean(value)


def missing(value: object) -> bool:
    """Tell whether a cell of a table holds nothing."""
    if value is None:
        return True
    if isinstance(value, list | tuple | dict | np.ndarray):
        return False
    return bool(pd.isna(value))  # type: ignore[call-overload]


def empty(column: object) -> bool:
    """Tell whether a column holds nothing at all."""
    if isinstance(column, dict):
        return not column["levels"]
    return isinstance(column, list) and all(value is None for value in column)
