"""A run with variants: a column for each axis, and the metrics of each variant by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from .aggregate import Tables, count, measure, narrowed_scores
from .metrics import Source, find_metric
from .stats import NO_SAMPLES

__all__ = ["AXIS", "axis_columns", "measure_variants", "tables_of"]

AXIS = "variant_"
"""Prefix of the columns that name the option of each axis, in the tables of turns and of sessions."""

_COUNTS = ("turns", "outcomes", "not_started", "warmup", "sessions", "sessions_ready", "sessions_dropped")


def axis_columns(variants: pd.Series[Any], run: Mapping[str, Any]) -> pd.DataFrame:
    """Make one column ``variant_<axis>`` for each axis of the run's matrix.

    Args:
        variants: name of the variant of each row.
        run: what was run (``run.json``).
    """
    options = {str(variant["name"]): variant["axes"] for variant in run.get("variants") or ()}
    axes = dict.fromkeys(axis for chosen in options.values() for axis in chosen)
    columns = {}
    for axis in axes:
        of_variant = {name: chosen.get(axis) for name, chosen in options.items()}
        columns[AXIS + axis] = pd.array([of_variant.get(name) for name in variants], dtype="string")
    return pd.DataFrame(columns, index=variants.index)


def tables_of(tables: Tables, variant: str) -> Tables:
    """The rows of one variant. What the generator did and the gaps between deltas are known of the whole run alone."""
    turns = tables.turns.loc[_is(tables.turns, variant)]
    return replace(
        tables,
        turns=turns,
        scores=narrowed_scores(replace(tables, turns=turns)),
        sessions=tables.sessions.loc[_is(tables.sessions, variant)],
        gaps=NO_SAMPLES,
        health=tables.health.iloc[:0],
        sessions_peak=None,
        duplicates=0,
        torn_lines=0,
    )


def _is(frame: pd.DataFrame, variant: str) -> Any:
    return (frame["variant"] == variant).fillna(False).to_numpy(dtype=bool)


def measure_variants(tables: Tables, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compute every metric of each variant by itself, as ``measure`` does of the whole run.

    Returns:
        Per variant, in the order of the matrix, ``name``, ``axes``, ``metrics`` and some ``counts``; empty for a run
        without variants. Metrics that are only known of the whole run are not among them.
    """
    found = []
    for variant in run.get("variants") or ():
        of_it = tables_of(tables, str(variant["name"]))
        metrics = {name: entry for name, entry in measure(of_it).items() if _is_of_variants(name)}
        counts = count(of_it)
        found.append(
            {
                "name": variant["name"],
                "axes": variant["axes"],
                "counts": {name: counts[name] for name in _COUNTS},
                "metrics": metrics,
            }
        )
    return found


def _is_of_variants(name: str) -> bool:
    metric = find_metric(name)
    return metric is None or metric.source not in (Source.DELTAS, Source.HEALTH)
