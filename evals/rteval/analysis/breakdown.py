"""The headline metrics by group: tag, item, variant, hour, worker, language, or any column of the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .intervals import Interval, Sample, estimate, intervals_of
from .metrics import SCORERS, find_metric
from .samples import counted, rounded
from .store import META
from .subject import Subject
from .variants import AXIS

__all__ = ["BROKEN_DOWN", "axes_of", "break_down", "breakdowns"]

BROKEN_DOWN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ttfa_ms", ("p50", "p95")),
    ("v2v_ms", ("p50", "p95")),
    ("error_rate", ("value",)),
    ("input_wer", ("value",)),
    ("output_wer", ("value",)),
    ("checks.pass_rate", ("value",)),
    ("entity_accuracy", ("value",)),
)
"""What is shown of each group, where it was measured; and what scorers measured."""

MOST_GROUPS = 20
"""Groups of one axis that a summary holds: those with most turns."""

MOST_AXES = 12


def axes_of(subject: Subject) -> list[str]:
    """The axes along which a run falls into groups: two or more, and few enough to be a group."""
    columns = [str(name) for name in subject.turns.columns]
    axes = [name for name in columns if name.startswith(AXIS)]
    # With one axis, the variants are its options.
    axes = axes if len(axes) > 1 else []
    own = [name for name in columns if name.startswith(META)]
    names = ["variant", *axes, "tag", "language", "worker", "hour", "item", *own]
    return [name for name in names if 1 < len(_groups(subject, name)) <= MOST_GROUPS][:MOST_AXES]


def breakdowns(subject: Subject) -> dict[str, dict[str, Any]]:
    """All breakdowns that a summary holds, by axis; see :func:`break_down`."""
    return {axis: break_down(subject, axis) for axis in axes_of(subject)}


def break_down(subject: Subject, axis: str, *, most: int = MOST_GROUPS) -> dict[str, Any]:
    """Return the headline metrics of each group.

    Args:
        subject: a run.
        axis: ``tag``, ``item``, ``variant``, ``hour`` (UTC), ``worker``, or a column, the dataset's own too.
        most: groups that are shown, those with most turns first.

    Returns:
        ``groups``: for each ``name``, ``turns`` and ``metrics``, by name with ``n``, the statistics and their
        ``ci95``; ``not_shown``: how many groups are left out. A turn with two tags is in two groups, one without any
        in none.
    """
    counts, words = _groups(subject, axis), subject.words(axis)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    shown = sorted(names[:most])
    groups = [
        {
            "name": name,
            "turns": counts[name],
            "metrics": _metrics(subject, np.array([name in found for found in words])),
        }
        for name in shown
    ]
    return {"groups": groups, "not_shown": len(names) - len(shown)}


def _groups(subject: Subject, axis: str) -> Counter[str]:
    return Counter(word for words in subject.words(axis) for word in dict.fromkeys(words))


def _metrics(subject: Subject, chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    observed = subject.observed_on(chosen)
    shown = dict(BROKEN_DOWN) | {name: ("value",) for name in sorted(observed) if name.startswith(SCORERS)}
    samples = {metric: observed[metric].sample() for metric in shown if metric in observed}
    bounds = intervals_of(samples, means=False)
    return {
        metric: {"n": counted(metric, sample), "unit": _unit_of(subject, metric)}
        | _numbers(shown[metric], sample, bounds.get(metric, {}))
        for metric, sample in samples.items()
    }


def _unit_of(subject: Subject, metric: str) -> str:
    found = find_metric(metric)
    return (found.unit if found is not None else "") or str(subject.told.get(metric, {}).get("unit") or "")


def _numbers(stats: Sequence[str], sample: Sample, bounds: Mapping[str, Interval]) -> dict[str, Any]:
    entry: dict[str, Any] = {stat: estimate(sample, stat) for stat in stats}
    intervals = {stat: rounded(bounds[stat]) for stat in stats if stat in bounds and entry[stat] is not None}
    return entry | ({"ci95": intervals} if intervals else {})
