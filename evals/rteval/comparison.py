"""What `rteval compare` does: finds the subjects, compares each with the first, and writes what is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .baseline import find_subject
from .errors import UsageError

if TYPE_CHECKING:
    from .analysis.compare import Comparison
    from .analysis.subject import Subject

__all__ = ["as_dict", "compare_runs", "parse_slacks"]

Slacks = Mapping[str, tuple[float, bool]]

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%?)")
MOST_PARTS = 12
"""Values of an axis that are compared with the first."""


def compare_runs(
    names: Sequence[str], reports: Path, *, by: str | None = None, slacks: Slacks | None = None
) -> list[Comparison]:
    """Compare runs with the first of them, or the parts of one run with its first part.

    Args:
        names: RUN arguments or baseline files.
        reports: folder of all reports.
        by: of a single run, what it is divided by: ``variant``, an axis of its matrix, ``tag``, a column.
        slacks: as :func:`rteval.analysis.compare.compare` takes them.

    Raises:
        UsageError: a comparison would mean nothing; says why.
        RunFolderError: there is no such run, or it cannot be read.
    """
    from .analysis.compare import compare, refusal

    subjects = list(_parts(find_subject(names[0], reports), by) if by is not None else _runs(names, reports))
    if by is not None and len(names) > 1:
        raise UsageError(f"--by {by} compares the parts of one run, and {len(names)} were given")
    base, *others = subjects
    for other in others:
        why = refusal(base, other)
        if why is not None:
            raise UsageError(f"comparing {other.label} with {base.label} means nothing: {why}")
    return [compare(base, other, slacks) for other in others]


def _runs(names: Sequence[str], reports: Path) -> Iterator[Subject]:
    if len(names) < 2:
        raise UsageError(
            f"{names[0]} is one run: there is nothing to compare it with",
            hint="name a second run or a baseline file, or say --by variant (or tag, or a column)",
        )
    seen: set[Any] = set()
    for name in names:
        subject = find_subject(name, reports)
        who = subject.facts.get("run_id"), subject.facts.get("started_at")
        if who in seen:
            raise UsageError(f"{name} is {who[0]} again: comparing a run with itself means nothing")
        seen.add(who)
        yield subject


def _parts(subject: Subject, axis: str) -> Iterator[Subject]:
    """The parts of a run, in the order in which their first turns come; a turn may be in two (tags)."""
    words = dict.fromkeys(word for found in subject.words(axis) for word in found)
    if subject.column(axis) is None and axis not in ("tag", "tags", "hour"):
        columns = [str(name) for name in subject.turns.columns if str(name).startswith(("meta_", "variant"))]
        known = ["tag", "item", "worker", "hour", "language", *columns]
        raise UsageError(f"--by {axis}: {subject.label} has no such column; there are {', '.join(known)}")
    if len(words) < 2:
        found = f"only {next(iter(words))!r}" if words else "none"
        raise UsageError(f"--by {axis}: {subject.label} has {found}: there is nothing to compare")
    if len(words) > MOST_PARTS:
        raise UsageError(f"--by {axis}: {subject.label} has {len(words)} of them; {MOST_PARTS} are the most")
    for word in words:
        yield subject.select([(axis, word)], label=f"{axis} {word}")


def parse_slacks(texts: Sequence[str]) -> dict[str, tuple[float, bool]]:
    """Read ``METRIC[.STAT]=VALUE`` entries; ``5%`` is a share of the base.

    Raises:
        UsageError: one cannot be read, or names no metric.
    """
    from .analysis.gates import Gate
    from .analysis.metrics import STATS, find_metric
    from .errors import GateError

    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        match = _NUMBER.fullmatch(value.strip())
        if match is None:
            raise UsageError(
                f"--slack {text!r} is not of the form METRIC=VALUE, e.g. ttfa_ms=50, input_wer=0.02, v2v_ms=5%"
            )
        name = name.strip()
        metric, _, stat = name.rpartition(".")
        known = find_metric(name)
        if known is None and not (stat in STATS and find_metric(metric) is not None):
            try:  # for its sentence, which names the nearest one
                Gate.parse(f"{name} < 1")
            except GateError as error:
                raise UsageError(f"--slack {text!r}: {str(error).partition(': ')[2]}") from None
        found[name] = (float(match[1]) / 100, True) if match[2] else (float(match[1]), False)
    return found


def as_dict(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """What ``--json`` prints."""
    from .analysis.intervals import CONFIDENCE, RESAMPLES, SEED

    return {
        "comparisons": [comparison.as_dict() for comparison in comparisons],
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": SEED,
        "exit_code": 1 if any(comparison.worse for comparison in comparisons) else 0,
    }
