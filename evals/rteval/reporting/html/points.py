"""Numbers on their way into a plot: rounded to what can be seen, thinned to what can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Figure", "X", "in_view", "line", "pairs", "rounded", "thinned", "triples"]

Figure = dict[str, Any]

X = "seconds since the start"
"""What the axis of every figure over time says."""

FAR = 4.0
"""A limit of more than this times the slowest is named and not drawn: it would flatten the plot."""


def in_view(gates: Sequence[tuple[str, float]], top: float) -> tuple[list[Figure], list[str]]:
    """Return the lines of limits, and sentences for those so far off that drawing them would flatten the plot."""
    drawn = [line(limit, text, "gate") for text, limit in gates if limit <= FAR * max(top, 1.0)]
    return drawn, [f"beyond the plot: {text}" for text, limit in gates if limit > FAR * max(top, 1.0)]


def line(at: float, label: str, role: str) -> Figure:
    """Return one straight line across a plot: a ``mark`` (a fact) or a ``gate`` (a limit)."""
    return {"at": rounded(at), "label": label, "role": role}


def rounded(value: float) -> float:
    """Return a number with as many digits as a plot can show."""
    return round(float(value), 2)


def pairs(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return points of a line."""
    return [[rounded(a), rounded(b)] for a, b in zip(x, y, strict=True)]


def thinned(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> list[list[float]]:
    """Return points of a stepped line without those that change nothing."""
    keep = np.ones(len(y), dtype=bool)
    if len(y) > 2:
        keep[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return pairs(x[keep], y[keep])


def triples(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]
) -> list[list[float]]:
    """Return points with the number of the table row that each stands for."""
    return [[rounded(a), round(float(b), 1), int(c)] for a, b, c in zip(x[mask], y[mask], rows[mask], strict=True)]
