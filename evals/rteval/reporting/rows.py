"""Turns that were not ok, as plain rows for the reports that are text. Never a transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["failed_turns", "kinds_of_failure"]

COLUMNS = ("session", "turn", "item", "outcome", "failure_stage", "error_code", "error_message")


def failed_turns(turns: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row for each turn that was not ok, in the table's order; what is missing is ``None``."""
    failed = turns.loc[turns["outcome"] != "ok", list(COLUMNS)].astype(object)
    values = failed.where(failed.notna(), None).itertuples(index=False)
    return [dict(zip(COLUMNS, row, strict=True)) for row in values]


def kinds_of_failure(turns: pd.DataFrame) -> list[dict[str, Any]]:
    """Return ``stage``, ``outcome``, ``code``, ``n`` and one ``example`` of the message, most frequent first."""
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for turn in failed_turns(turns):
        key = tuple(turn[name] for name in ("failure_stage", "outcome", "error_code"))
        kind = kinds.setdefault(
            key, dict(zip(("stage", "outcome", "code"), key, strict=True)) | {"n": 0, "example": None}
        )
        kind["n"] += 1
        kind["example"] = kind["example"] or turn["error_message"]
    return sorted(kinds.values(), key=lambda kind: (-kind["n"], str(kind["outcome"]), str(kind["code"])))
