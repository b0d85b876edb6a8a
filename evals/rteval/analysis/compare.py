"""Two runs side by side: each metric's difference with its interval, a verdict, and whether the comparison is fair.

Paired by item where the same items were run, so that an item that is always slow is slow on both sides and says
nothing; else by session.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from .gates import WORD_RATES, Gate
from .intervals import CONFIDENCE, Difference, Interval, Sample, differ, estimate, holm, intervals_of, p_value
from .judging import Versus
from .metrics import CHECKS, METRICS_VERSION, SCORERS, find_metric
from .samples import Observed, counted, rounded
from .stats import MIN_SAMPLES
from .subject import Subject

__all__ = [
    "ROWS",
    "Comparison",
    "ItemChange",
    "Outcome",
    "Pairing",
    "Row",
    "RunEvidence",
    "better_of",
    "changed_items",
    "compare",
    "default_slack",
    "doubt_of",
    "is_same_run",
    "pairing",
    "refusal",
    "unlike",
]

LEAST_UNITS = 10
"""Fewer items (or groups of items that share sessions) than this on both sides, and sessions are resampled instead."""

ROWS: tuple[tuple[str, str | None], ...] = (
    ("ttfa_ms", "p50"),
    ("ttfa_ms", "p95"),
    ("v2v_ms", "p50"),
    ("v2v_ms", "p95"),
    ("endpoint_ms", "p50"),
    ("ttft_ms", "p50"),
    ("response_ms", "p50"),
    ("response_ms", "p95"),
    ("session_ready_ms", "p50"),
    ("error_rate", None),
    ("transcript_missing_rate", None),
    ("input_wer", None),
    ("output_wer", None),
    ("entity_accuracy", None),
    ("checks.pass_rate", None),
)
"""What is compared, where either side has it; what scorers measured and what has a slack of its own come on top."""

HIGHER_IS_BETTER = (CHECKS, "entity_accuracy", "setup_success_rate", "goodput_share")

NORMALISED = (*WORD_RATES, "entity_accuracy")
"""Metrics of words: other words, or another normaliser, and they mean something else."""

NEITHER_IS_BETTER = (
    "input_audio_ms",
    "speech_ms",
    "output_audio_ms",
    "output_loudness_dbfs",
    "output_silence_share",
)
"""How long is said and how loud: more may be wanted, or less."""

SLACK_SHARE, SLACK_TIME = 0.01, 0.05
"""Default slack: a point (0.01) of a share or rate, 5 % of the base of a time."""

LEAST_SLACK_MS = 5.0
"""No default slack of a time is less: nobody hears it, and from run to run a connect alone differs by a millisecond."""


class Outcome(StrEnum):
    """The verdict on one metric."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    CANNOT_TELL = "cannot tell"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of two subjects.

    Attributes:
        name: metric and statistic.
        base, new: the values; ``None`` where a side has none.
        n_base, n_new: samples behind them.
        interval: of ``new - base``, at 95 %.
        paired: whether items were paired; ``units``: how many units were resampled.
        slack: the difference that does not matter, in the metric's unit; ``None``: a share of a base that is not there.
        p: of the question whether it differs by more than the slack; after Holm's correction over all rows.
        outcome: the verdict; ``reason``: why there is none, or none better.
    """

    name: str
    unit: str
    base: float | None
    new: float | None
    n_base: int
    n_new: int
    interval: Interval | None
    paired: bool
    units: int
    slack: float | None
    p: float | None
    outcome: Outcome
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """New less base."""
        return None if self.base is None or self.new is None else self.new - self.base

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "metric": self.name,
            "unit": self.unit,
            "base": self.base,
            "new": self.new,
            "difference": self.difference,
            "interval": None if self.interval is None else rounded(self.interval),
            "n_base": self.n_base,
            "n_new": self.n_new,
            "paired": self.paired,
            "units": self.units,
            "slack": self.slack,
            "p": self.p,
            "verdict": self.outcome.value,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two subjects compared.

    Attributes:
        unfair: what differs beside what is compared, a sentence each.
        rows: by metric.
    """

    base: Subject
    new: Subject
    unfair: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def worse(self) -> bool:
        """Whether any metric is."""
        return any(row.outcome is Outcome.WORSE for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "base": {"label": self.base.label, **self.base.facts},
            "new": {"label": self.new.label, **self.new.facts},
            "unfair": list(self.unfair),
            "metrics": [row.as_dict() for row in self.rows],
        }


def compare(base: Subject, new: Subject, slacks: Mapping[str, tuple[float, bool]] | None = None) -> Comparison:
    """Compare two subjects.

    Args:
        base: what is compared with.
        new: what is judged.
        slacks: by metric or ``metric.stat``: the difference that does not matter, and whether it is a share of the
            base. A metric that is named here is compared also when it is not one of ``ROWS``.

    Returns:
        A row for each metric that either side has. Verdicts are those after Holm's correction over all rows.
    """
    slacks = slacks or {}
    pairs = pairing(base, new)
    judged = [_row(base, new, name, stat, pairs, slacks) for name, stat in _asked(base, new, slacks)]
    tested = [place for place, (row, _) in enumerate(judged) if row.p is not None]
    adjusted = holm([judged[place][0].p or 0.0 for place in tested])
    rows = [row for row, _ in judged]
    for place, p in zip(tested, adjusted, strict=True):
        rows[place] = _decided(rows[place], judged[place][1], p)
    return Comparison(base, new, tuple(_unfair(base, new, pairs)), tuple(rows))


def default_slack(metric: str, unit: str = "ratio") -> tuple[float, bool]:
    """The slack of a metric that was given none: a number, and whether it is a share of the base.

    Args:
        metric: its name.
        unit: of what has one value for the whole run.
    """
    found = find_metric(metric)
    is_share = unit == "ratio" and (found is None or not found.is_distribution)
    return (SLACK_SHARE, False) if is_share else (SLACK_TIME, True)


def refusal(base: Subject, new: Subject) -> str | None:
    """Why a comparison would mean nothing at all; ``None`` when it may mean something."""
    one, other = base.facts, new.facts
    if one.get("metrics") != other.get("metrics"):
        return (
            f"their metrics are defined differently (definitions {one.get('metrics')} and {other.get('metrics')}); "
            "judge both again with one version of rteval (`rteval report RUN`)"
        )
    for subject in (base, new):
        if subject.facts.get("state") == "refused":
            return f"{subject.label} never got in: no session became ready"
        if not subject.observed:
            return f"{subject.label} measured nothing"
    if not set(base.observed) & set(new.observed):
        return "no metric was measured by both"
    return None


def is_same_run(one: Subject, other: Subject) -> bool:
    """Whether two subjects are one run, whatever file or folder they were read from."""
    names = [tuple(str(subject.facts.get(key)) for key in ("run_id", "started_at")) for subject in (one, other)]
    return one.facts.get("run_id") is not None and names[0] == names[1]


# ---- which turns belong together ----


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """How two subjects are resampled together.

    Attributes:
        units: unit of each item; items that share a session, on either side, are one unit.
        shared: units with turns on both sides.
        of_items: items on both sides, in the base, in the new one.
    """

    units: Mapping[str, int]
    shared: int
    of_items: tuple[int, int, int]

    @property
    def holds(self) -> bool:
        """Whether there are enough units on both sides for items to be paired."""
        both, base, new = self.of_items
        return self.shared >= LEAST_UNITS and both * 2 >= max(base, new)

    def samples(self, base: Observed, new: Observed) -> tuple[Sample, Sample, bool]:
        """Both sides of a metric, ready to be resampled; and whether they are paired.

        Shares never are: their interval is that of two binomials. By items it would be taken for chance that one item
        fails whenever it is run, on both sides; the items are the same on both, and chance is in the sessions.
        """
        by_session = base.sample(), new.sample(), False
        if not self.holds or base.item is None or new.item is None:
            return by_session
        if by_session[0].is_share and by_session[1].is_share:
            return by_session
        codes = [np.array([self.units[str(item)] for item in items], dtype=np.int64) for items in (base.item, new.item)]
        # Units without a sample of this metric would be drawn for nothing.
        _, joint = np.unique(np.concatenate(codes), return_inverse=True)
        split = len(codes[0])
        found = Sample(base.top, joint[:split], base.bottom), Sample(new.top, joint[split:], new.bottom)
        if len(np.intersect1d(found[0].cluster, found[1].cluster)) < LEAST_UNITS:
            return by_session
        return *found, True


def pairing(base: Subject, new: Subject) -> Pairing:
    """Find out which items were run on both sides, and which of them share sessions."""
    items = [subject.turns["item"].astype(str).to_numpy(dtype=object) for subject in (base, new)]
    both, either = set(items[0]) & set(items[1]), dict.fromkeys([*items[0], *items[1]])
    parent = {item: item for item in either}

    def root(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for subject, names in zip((base, new), items, strict=True):
        first: dict[str, str] = {}
        for item, session in zip(names, subject.turns["session"].astype(str), strict=True):
            parent[root(item)] = root(first.setdefault(session, item))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(root(item) for item in either))}
    units = {item: numbers[root(item)] for item in either}
    sides = [{units[item] for item in names} for names in items]
    return Pairing(units, len(sides[0] & sides[1]), (len(both), len(set(items[0])), len(set(items[1]))))


# ---- a row ----


def _asked(base: Subject, new: Subject, slacks: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    measured = base.observed.keys() | new.observed.keys()
    asked = dict.fromkeys(row for row in ROWS if row[0] in measured)
    asked |= dict.fromkeys((name, None) for name in sorted(measured) if name.startswith(SCORERS))
    for name in slacks:
        metric, stat = _parted(name)
        if not any(row[0] == metric and stat in (row[1], None) for row in asked):
            found = find_metric(metric)
            asked[(metric, stat or ("p50" if found is not None and found.is_distribution else None))] = None
    yield from asked


def _parted(name: str) -> tuple[str, str | None]:
    """Metric and statistic; the names of checks and scorers have points of their own."""
    metric, _, stat = (name, "", "") if name.startswith((CHECKS, SCORERS)) else name.partition(".")
    return metric, stat or None


def _row(
    base: Subject,
    new: Subject,
    name: str,
    stat: str | None,
    pairs: Pairing,
    slacks: Mapping[str, tuple[float, bool]],
) -> tuple[Row, Outcome]:
    """The row as it is before the correction, and the verdict that its p-value speaks for."""
    full = name if stat is None else f"{name}.{stat}"
    one, other = base.observed.get(name), new.observed.get(name)
    values = [None if side is None else estimate(side.sample(), stat or "value") for side in (one, other)]
    unit = _unit_of(name, base, new)
    given = slacks.get(full) or slacks.get(name)
    share, relative = given or default_slack(name, unit)
    slack = share if not relative else None if values[0] is None else share * abs(values[0])
    if given is None and unit == "ms" and slack is not None:
        slack = max(slack, LEAST_SLACK_MS)
    row = Row(
        name=full,
        unit=unit,
        base=values[0],
        new=values[1],
        n_base=0 if one is None else counted(name, one),
        n_new=0 if other is None else counted(name, other),
        interval=None,
        paired=False,
        units=0,
        slack=slack,
        p=None,
        outcome=Outcome.CANNOT_TELL,
    )
    why = _incomparable(base, new, name)
    if why is not None:
        return replace(row, outcome=Outcome.NOT_COMPARABLE, reason=why), row.outcome
    if one is None or other is None or values[0] is None or values[1] is None:
        return replace(row, reason=_missing(row, stat)), row.outcome
    sides = pairs.samples(one, other)
    difference = differ(sides[0], sides[1], stat or "value", paired=sides[2])
    if difference is None:
        return replace(row, reason="too few sessions to say how sessions differ"), row.outcome
    return _tested(row, difference, better_of(name, new, base))


def better_of(name: str, *sides: Subject) -> str | None:
    """Say whether ``higher`` or ``lower`` is better of a metric; ``None``: neither, it depends on what is wanted.

    Of a scorer's metric, higher, unless the scorer says otherwise.
    """
    if name.startswith(SCORERS):
        return next((side.told[name]["better"] for side in sides if "better" in side.told.get(name, {})), "higher")
    if name in NEITHER_IS_BETTER:
        return None
    return "higher" if name.startswith(HIGHER_IS_BETTER) else "lower"


def _unit_of(name: str, *sides: Subject) -> str:
    metric = find_metric(name)
    own = metric.unit if metric is not None else ""
    return own or next((unit for side in sides if (unit := side.told.get(name, {}).get("unit"))), "")


def _tested(row: Row, difference: Difference, better: str | None) -> tuple[Row, Outcome]:
    bounds = difference.interval(CONFIDENCE)
    row = replace(row, interval=bounds, paired=difference.paired, units=difference.units)
    slack = row.slack or 0.0

    def above(interval: Interval) -> bool:
        return interval[0] is not None and interval[0] > slack

    def below(interval: Interval) -> bool:
        return interval[1] is not None and interval[1] < -slack

    up, down = p_value(difference.interval, above), p_value(difference.interval, below)
    if better is None:
        return replace(row, p=min(up, down)), Outcome.CANNOT_TELL
    speaks_for = Outcome.WORSE if (up < down) is (better == "lower") else Outcome.BETTER
    return replace(row, p=min(up, down)), speaks_for


def _decided(row: Row, speaks_for: Outcome, p: float) -> Row:
    """The verdict after the correction."""
    assert row.interval is not None
    (low, high), slack = row.interval, row.slack or 0.0
    row = replace(row, p=p)
    if p <= 1 - CONFIDENCE:
        reason = "it differs; which of the two is better cannot be told" if speaks_for is Outcome.CANNOT_TELL else None
        return replace(row, outcome=speaks_for, reason=reason)
    if low is not None and high is not None and -slack <= low and high <= slack:
        return replace(row, outcome=Outcome.SAME)
    beyond = (low is not None and low > slack) or (high is not None and high < -slack)
    reason = "among so many metrics this may be chance (Holm)" if beyond else "the interval reaches beyond the slack"
    return replace(row, outcome=Outcome.CANNOT_TELL, reason=reason)


def _missing(row: Row, stat: str | None) -> str:
    n, least = min(row.n_base, row.n_new), MIN_SAMPLES.get(stat or "", 1)
    if n == 0:
        where = "" if row.n_base == row.n_new else " in the base" if row.n_base == 0 else " in the other"
        return f"not measured{where}"
    return f"n too small: {n} of at least {least}" if n < least else "there are no words, or nothing else, to count in"


# ---- is it fair? ----


def _incomparable(base: Subject, new: Subject, name: str) -> str | None:
    """Why this metric of these two says nothing; ``None`` when it may."""
    one, other = base.facts, new.facts
    metric = find_metric(name)
    if name in NORMALISED and one.get("normalizers") != other.get("normalizers"):
        return f"other normalisers: {_list(one.get('normalizers'))} and {_list(other.get('normalizers'))}"
    if name in NORMALISED or name.startswith((CHECKS, SCORERS)):
        both = set(base.turns["item"].astype(str)) & set(new.turns["item"].astype(str))
        if not both:
            return "no item was run by both, so other words were said"
    if name == "goodput_share" and one.get("slo") != other.get("slo"):
        return "a good turn is another one (slo)"
    made_by = [subject.told[name].get("made_by") for subject in (base, new) if name in subject.told]
    if len(set(made_by)) > 1:
        return "the scorer was another one, or was told something else (model, rubric, version)"
    if metric is not None and metric.generator:
        late = [subject.label for subject in (base, new) if subject.facts.get("invalid")]
        if late:
            return f"the generator was the bottleneck in {' and '.join(late)}"
        pacing = [(facts.get("load") or {}).get("pacing") for facts in (one, other)]
        if pacing[0] != pacing[1]:
            return f"other pacing: {pacing[0]} and {pacing[1]}"
    return None


_SAME = {
    "scenario": "other scenarios",
    "dialect": "other dialects",
    "detector": "other detectors of speech (when a caller's speech ends)",
    "turn_detection": "other turn detection",
    "transcription": "other transcription",
    "checks": "other checks of the answers (hashes)",
}


def _unfair(base: Subject, new: Subject, pairs: Pairing) -> Iterator[str]:
    one, other = base.facts, new.facts
    datasets = [facts.get("dataset") or {} for facts in (one, other)]
    both, *items = pairs.of_items
    if datasets[0].get("hash") != datasets[1].get("hash"):
        yield f"other datasets (hashes differ): {both} items are in both, of {items[0]} and {items[1]}"
    elif both < max(items):
        yield f"other items of the dataset: {both} were run by both, of {items[0]} and {items[1]}"
    yield from unlike(one, other)
    for subject in (base, new):
        if subject.facts.get("invalid"):
            yield f"{subject.label} is invalid: its generator was the bottleneck"
        elif subject.facts.get("state") == "partial":
            yield f"{subject.label} is partial: not every planned turn was recorded"


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Say what two runs were not alike in, beside their datasets: what is compared then is not the target alone.

    Args:
        one: facts of a run; see :func:`rteval.analysis.subject.facts_of`.
        other: of another run.
    """
    if one.get("normalizers") != other.get("normalizers"):
        yield f"other normalisers: {_list(one.get('normalizers'))} and {_list(other.get('normalizers'))}"
    for key, sentence in _SAME.items():
        if one.get(key) != other.get(key):
            yield f"{sentence}: {_said(one.get(key))} and {_said(other.get(key))}"
    yield from _load(one.get("load") or {}, other.get("load") or {})


def _load(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    if one.get("model") != other.get("model") or one.get("peak") != other.get("peak"):
        said = [f"{load.get('model') or 'unknown'}, up to {_said(load.get('peak'))} sessions" for load in (one, other)]
        yield f"other load: {said[0]}; and {said[1]}"
    elif one.get("asked") != other.get("asked"):
        yield "other load: the schedules differ"
    if one.get("pacing") != other.get("pacing"):
        yield f"other pacing: {_said(one.get('pacing'))} and {_said(other.get('pacing'))}"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {entry}" for key, entry in value.items() if entry is not None) + "}"
    return "none" if value is None else str(value)


def _list(names: Sequence[str] | None) -> str:
    return ", ".join(names) if names else "none"


# ---- the items that changed most ----


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One item on both sides.

    Attributes:
        item: its id.
        base, new: mean of its samples; of a ratio, pooled.
        rows: a turn of it in each subject's table, to show what was said: the one nearest to the item's value.
    """

    item: str
    base: float
    new: float
    rows: tuple[int, int]


def changed_items(comparison: Comparison, metric: str, most: int = 10) -> list[ItemChange]:
    """Return the items whose metric changed most, the largest change first; none where items are not shared."""
    sides = [subject.observed.get(metric) for subject in (comparison.base, comparison.new)]
    if any(side is None or side.item is None for side in sides):
        return []
    values = [_by_item(side) for side in sides if side is not None]
    found = [
        ItemChange(item, values[0][item][0], values[1][item][0], (values[0][item][1], values[1][item][1]))
        for item in values[0]
        if item in values[1]
    ]
    changed = [change for change in found if change.base != change.new]
    return sorted(changed, key=lambda change: (-abs(change.new - change.base), change.item))[:most]


def _by_item(one: Observed) -> dict[str, tuple[float, int]]:
    assert one.item is not None
    assert one.rows is not None
    names, codes = np.unique(one.item.astype(str), return_inverse=True)
    bottom = np.ones(len(one.top)) if one.bottom is None else one.bottom
    tops, bottoms = np.bincount(codes, one.top), np.bincount(codes, bottom)
    found = {}
    for code, name in enumerate(names):
        if not bottoms[code]:
            continue
        value = float(tops[code] / bottoms[code])
        here = np.flatnonzero((codes == code) & (bottom > 0))
        nearest = here[np.argmin(np.abs(one.top[here] / bottom[here] - value))]
        found[str(name)] = (value, int(one.rows[nearest]))
    return found


# ---- a gate's evidence ----


class RunEvidence:
    """What gates are judged by beside the metrics: the run's samples and its baseline.

    Args:
        subject: the run.
        baseline: what it is held against; ``None``: there is none, and ``missing`` says why.
        missing: a sentence.
        forgiven: gates without a baseline are let be.
    """

    def __init__(
        self, subject: Subject, baseline: Subject | None = None, *, missing: str | None = None, forgiven: bool = False
    ) -> None:
        self._subject, self._baseline = subject, baseline
        self._missing, self._forgiven = missing, forgiven

    def entry(self, gate: Gate) -> dict[str, Any] | None:
        """See :class:`rteval.analysis.judging.Evidence`."""
        one = self._of(self._subject, gate)
        if one is None:
            words = " and ".join(f"{column} {value}" for column, value in gate.where)
            return {"n": 0, "reason": f"no sample of a turn with {words}"}
        stat = gate.stat or "value"
        value, n = estimate(one.sample(), stat), counted(gate.metric, one)
        entry: dict[str, Any] = {"n": n, stat: value}
        if value is None:
            entry["reason"] = f"n too small: {n} of at least {MIN_SAMPLES.get(stat, 1)}"
        return entry

    def bounds(self, gate: Gate, confidence: float) -> Interval | None:
        """See :class:`rteval.analysis.judging.Evidence`."""
        one = self._of(self._subject, gate)
        if one is None:
            return None
        found = intervals_of({gate.metric: one.sample()}, confidence=confidence)
        return found.get(gate.metric, {}).get(gate.stat or "value")

    def versus(self, gate: Gate) -> Versus:
        """See :class:`rteval.analysis.judging.Evidence`."""
        baseline = self._baseline
        if baseline is None:
            return Versus(None, reason=self._missing or "there is no baseline", forgiven=self._forgiven)
        if is_same_run(baseline, self._subject):
            return Versus(None, reason="the baseline is this very run, from which it cannot differ")
        why = refusal(baseline, self._subject) or _incomparable(baseline, self._subject, gate.metric)
        if why is not None:
            return Versus(None, reason=f"the baseline cannot be compared with: {why}")
        one, other = self._of(baseline, gate), self._of(self._subject, gate)
        value = None if one is None else estimate(one.sample(), gate.stat or "value")
        if one is None or other is None or value is None:
            n = 0 if one is None else counted(gate.metric, one)
            return Versus(None, n, reason=f"the baseline has no {gate.name} (n {n})")
        parts = [subject.select(gate.where) for subject in (baseline, self._subject)]
        pairs = pairing(parts[0], parts[1])
        base, new, paired = pairs.samples(one, other)
        difference = differ(base, new, gate.stat or "value", paired=paired)
        return Versus(value, counted(gate.metric, one), difference, unfair=tuple(_unfair(parts[0], parts[1], pairs)))

    @staticmethod
    def _of(subject: Subject, gate: Gate) -> Observed | None:
        observed = subject.observed_on(subject.chosen(gate.where)) if gate.where else subject.observed
        return observed.get(gate.metric)


def doubt_of(baseline: Subject, gate: Gate, planned_turns: int, *, open_too: bool = True) -> str | None:
    """Say why so many turns against this baseline cannot decide a gate; ``None`` when they can.

    Without data they cannot; nor, unless ``open_too`` is false, where most nights would not show even twice the
    worsening that is allowed, or one by the baseline's whole value beyond it. What they would show follows from the
    spread of the baseline's own samples, as if items were not paired.
    """
    metric = find_metric(gate.metric)
    if baseline.facts.get("metrics") not in (None, METRICS_VERSION):
        return f"the baseline's metrics are of other definitions ({baseline.facts['metrics']}, not {METRICS_VERSION})"
    if metric is not None and metric.generator and baseline.facts.get("invalid"):
        return "the baseline is of an invalid run: its generator was the bottleneck"
    evidence = RunEvidence(baseline)
    stat = gate.stat or "value"
    entry = evidence.entry(gate) or {}
    value, n = entry.get(stat), int(entry.get("n", 0))
    if value is None:
        return f"the baseline has no {gate.name} (n {n})"
    if gate.min_n is not None and n < gate.min_n:
        return f"the baseline has n {n} of at least {gate.min_n} (min_n)"
    bounds = evidence.bounds(gate, gate.confidence or CONFIDENCE)
    arms = [abs(bound - value) for bound in bounds or () if bound is not None]
    if not arms:
        return f"the baseline's {gate.name} comes from too few sessions to be compared with (n {n})"
    # The arm of the difference; that of the new run shrinks with its own number of turns.
    shown = max(arms) * math.hypot(1.0, math.sqrt(len(baseline.turns) / max(planned_turns, 1)))
    allowed = abs((gate.factor or 1.0) * value + gate.limit - value)
    if not open_too or shown <= allowed + max(allowed, abs(value)):
        return None
    unit = f" {metric.unit}" if metric is not None and metric.unit not in ("", "ratio") else ""
    return (
        f"a worsening of less than {shown:.3g}{unit} "
        f"would mostly not show in {planned_turns} turns against a baseline of n {n}; the gate allows {allowed:.3g}"
    )
