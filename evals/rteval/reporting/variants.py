"""The variants of a run beside one another, as rows of a table: what reports for people show of ``summary.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .words import measured

__all__ = ["NOTE", "VariantTable", "variant_table"]

_COLUMNS = (
    ("ttfa_ms", "p50"),
    ("ttfa_ms", "p95"),
    ("v2v_ms", "p50"),
    ("ttft_ms", "p50"),
    ("response_ms", "p50"),
    ("error_rate", "value"),
    ("input_wer", "value"),
    ("output_wer", "value"),
    ("checks.pass_rate", "value"),
    ("entity_accuracy", "value"),
    ("goodput_share", "value"),
)

NOTE = (
    "Each variant was given every item, side by side with the others. Numbers may differ by chance, the more so the "
    "fewer turns there are."
)


class VariantTable(NamedTuple):
    """Head and rows, all text: the variant's name, its turns, and what was measured of any of them."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def variant_table(summary: Mapping[str, Any]) -> VariantTable | None:
    """The headline metrics of each variant; ``None`` for a run without variants."""
    variants = summary.get("variants") or ()
    if not variants:
        return None
    shown = [column for column in _COLUMNS if any(_cell(variant, *column) != "-" for variant in variants)]
    head = ("variant", "turns", *(name if stat == "value" else f"{name} {stat}" for name, stat in shown))
    rows = tuple(
        (str(variant["name"]), str(variant["counts"]["turns"]), *(_cell(variant, *column) for column in shown))
        for variant in variants
    )
    return VariantTable(head, rows)


def _cell(variant: Mapping[str, Any], name: str, stat: str) -> str:
    entry = variant["metrics"].get(name)
    return "-" if entry is None or not entry["n"] else measured(name, entry, stat)
