"""Runs of blocks of 10 ms that are true of something: small questions that overlays and words ask alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LOST_BLOCKS", "SHORTEST_BLOCKS", "Mask", "closed", "edges", "long_runs", "runs_of"]

Mask = npt.NDArray[np.bool_]

# The shortest stretch that is taken as found, and the shortest that is taken as lost.
SHORTEST_BLOCKS = 6
LOST_BLOCKS = 5


def edges(mask: Mask) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Starts and ends (exclusive) of the runs of true."""
    change = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    return np.flatnonzero(change == 1), np.flatnonzero(change == -1)


def runs_of(mask: Mask, shortest: int) -> Mask:
    """The runs of true that are at least so long."""
    result = mask.copy()
    for start, end in zip(*edges(mask), strict=True):
        if end - start < shortest:
            result[start:end] = False
    return result


def closed(mask: Mask, longest: int) -> Mask:
    """The mask with gaps of at most so many blocks filled."""
    return ~runs_of(~mask, longest + 1) | mask


def long_runs(mask: Mask) -> int:
    """Blocks in runs (small gaps aside) that are long enough to be a sound of their own."""
    return int((runs_of(closed(mask, 3), SHORTEST_BLOCKS) & mask).sum())
