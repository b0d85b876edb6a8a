"""What `rteval compare` does: finds the subjects, compares each with the first, and writes what is read."""

from __future__ import annotations

import math
import re
from collections import Counter
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
    """Compare runs with the first of them, or the parts of one run with its first or largest part.

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

    if by is not None and len(names) > 1:
        raise UsageError(f"--by {by} compares the parts of one run, and {len(names)} were given")
    subjects = list(_parts(find_subject(names[0], reports), by) if by is not None else _runs(names, reports))
    base, *others = subjects
    for other in others:
        why = refusal(base, other)
        if why is not None:
            raise UsageError(f"comparing {other.label} with {base.label} means nothing: {why}")
    found = [compare(base, other, slacks) for other in others]
    hollow = [one for one in found if not any(row.interval is not None for row in one.rows)]
    # A green exit code over nothing that was held against anything would be the worst of all. Of the parts of one run
    # some may be small: those say "cannot tell", and do not hide the others.
    if hollow and (by is None or len(hollow) == len(found)):
        whys = dict.fromkeys(str(row.reason) for one in hollow for row in one.rows)
        only = f" with {', '.join(one.new.label for one in hollow)}" if len(hollow) < len(found) else ""
        why = "; ".join(whys) or "no metric is compared"
        raise UsageError(f"nothing of {base.label} can be compared{only}: {why}")
    return found


def _runs(names: Sequence[str], reports: Path) -> Iterator[Subject]:
    from .analysis.compare import is_same_run

    if len(names) < 2:
        raise UsageError(
            f"{names[0]} is one run: there is nothing to compare it with",
            hint="name a second run or a baseline file, or say --by variant (or tag, or a column)",
        )
    seen: list[Subject] = []
    for name in names:
        subject = find_subject(name, reports)
        if any(is_same_run(subject, one) for one in seen):
            again = f"{name} is {subject.facts.get('run_id')} again"
            raise UsageError(f"{again}: comparing a run with itself means nothing")
        seen.append(subject)
        yield subject


def _parts(subject: Subject, axis: str) -> Iterator[Subject]:
    """The parts of a run: options of an axis as the scenario has them, hours as they went by, others by their turns.

    The part with the most turns is the best base, and the same one whichever session happened to begin first. A turn
    may be in two of them (tags).
    """
    seen = Counter(word for found in subject.words(axis) for word in dict.fromkeys(found))
    options = (subject.facts.get("axes") or {}).get(axis)
    known = [option for option in options if option in seen] if isinstance(options, list) else []
    rest = sorted(seen) if axis == "hour" else sorted(seen, key=lambda word: (-seen[word], word))
    words = dict.fromkeys([*known, *rest])
    if subject.column(axis) is None and axis not in ("tag", "tags", "hour"):
        columns = [str(name) for name in subject.turns.columns if str(name).startswith(("meta_", "variant"))]
        known = ["tag", "item", "worker", "hour", "language", *columns]
        raise UsageError(f"--by {axis}: {subject.label} has no such column; there are {', '.join(known)}")
    if len(words) < 2:
        found = f"only {next(iter(words))!r}" if words else "none"
        raise UsageError(f"--by {axis}: {subject.label} has {found}: there is nothing to compare")
    if len(words) > MOST_PARTS:
        raise UsageError(f"--by {axis}: {subject.label} has {len(words)} of them; {MOST_PARTS} are the most")
    axes = subject.facts.get("axes") or {}
    if axis in axes and axis != "variant":
        subject = subject.told_apart(other for other in axes if other not in (axis, "variant"))
    for word in words:
        yield subject.select([(axis, word)], label=f"{axis} {word}")


def parse_slacks(texts: Sequence[str]) -> dict[str, tuple[float, bool]]:
    """Read ``METRIC[.STAT]=VALUE`` entries; ``5%`` is a share of the base.

    Raises:
        UsageError: one cannot be read, or names no metric that is compared.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        match = _NUMBER.fullmatch(value.strip())
        if match is None or not math.isfinite(float(match[1])):
            raise UsageError(
                f"--slack {text!r} is not of the form METRIC=VALUE, e.g. ttfa_ms=50, input_wer=0.02, v2v_ms=5%"
            )
        name = name.strip()
        if (why := _no_slack(name)) is not None:
            raise UsageError(f"--slack {text!r}: {why}")
        found[name] = (float(match[1]) / 100, True) if match[2] else (float(match[1]), False)
    return found


def _no_slack(name: str) -> str | None:
    """Why nothing by that name is compared; ``None``: it is."""
    from .analysis.gates import Gate
    from .analysis.metrics import CHECKS, SCORERS, find_metric
    from .errors import GateError

    known = find_metric(name)
    whole = name if known is None else f"{name}.p50" if known.is_distribution else name
    names = [name.removeprefix(CHECKS), name] if name.startswith((CHECKS, SCORERS)) and known is not None else []
    if name.startswith(SCORERS) and known is None:
        return "the metric of a scorer is called scorers.NAME.METRIC"
    try:  # as a gate against a baseline, which needs an interval too; for its sentence, which names the nearest one
        Gate.parse(f"{whole} <= baseline", checks=names)
    except GateError as error:
        said = str(error).partition(": ")[2] or f"no metric is called {name!r}"
        return said.replace("a baseline means an interval", "a comparison needs an interval")
    return None


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
