"""How far a number can be trusted: confidence intervals of one sample, and of the difference between two. Pure.

Turns of one session hang together, so sessions are what is drawn again, never turns. The bootstrap (2 000 resamples, a
fixed seed) serves means, pooled rates and every difference of two percentiles; one sample's percentile is bounded by
its order statistics, because no resample can hold a value beyond the largest one seen; shares have Wilson's interval.
A bound that the data cannot give is ``None``, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .stats import PERCENTILES, describe, normal, percentile, student, wilson

__all__ = [
    "CONFIDENCE",
    "LEAST_CLUSTERS",
    "RESAMPLES",
    "SEED",
    "Difference",
    "Interval",
    "Sample",
    "differ",
    "estimate",
    "holm",
    "intervals_of",
    "p_value",
]

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 1979
"""Of every resampling, so that a verdict comes out again; the year of Efron's paper."""

LEAST_CLUSTERS = 5
"""With fewer sessions than this nothing can be said about how sessions differ: there is no interval."""

_CHUNK = 1_000_000
"""Counts that are in memory at once."""

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Interval = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What one metric is made of.

    Attributes:
        top: one value each; of a ratio, what is counted (word errors, failed turns: 0 or 1).
        cluster: which session each belongs to, as codes from 0.
        bottom: of a ratio, what it is counted in (reference words, turns: 1); ``None`` for a distribution.
    """

    top: Floats
    cluster: Codes
    bottom: Floats | None = None

    def __len__(self) -> int:
        """How many turns (or sessions) there are."""
        return len(self.top)

    @property
    def clusters(self) -> int:
        """How many sessions they come from."""
        return len(np.unique(self.cluster))

    @property
    def has_value(self) -> bool:
        """Whether it has a mean or a ratio at all."""
        return len(self.top) > 0 if self.bottom is None else bool(self.bottom.sum() > 0)

    @property
    def is_share(self) -> bool:
        """Whether every entry is one that either counts or does not, so that Wilson's interval applies."""
        return self.bottom is not None and bool((self.bottom == 1).all()) and bool(np.isin(self.top, (0.0, 1.0)).all())


def estimate(sample: Sample, stat: str) -> float | None:
    """Return the statistic of a sample (``value`` of a ratio); ``None`` where there is none or n is too small."""
    if sample.bottom is None:
        value: float | None = getattr(describe(sample.top.copy()), stat)
        return value
    whole = float(sample.bottom.sum())
    return float(sample.top.sum()) / whole if whole else None


# ---- one sample ----


def intervals_of(
    samples: Mapping[str, Sample],
    *,
    confidence: float = CONFIDENCE,
    means: bool = True,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, dict[str, Interval]]:
    """Return the intervals of every statistic that has one.

    Args:
        samples: by metric; their clusters are numbered alike, so that all metrics are resampled together.
        confidence: 0.95 for 95 %, two-sided.
        means: whether those of means are wanted too, which cost the most.
        resamples: how many.
        seed: of the resampling.

    Returns:
        By metric and statistic (``mean``, ``p50``, ``p90``, ``p95``, ``p99``; ``value`` of a ratio) the lower and the
        upper bound. A statistic that is withheld has none, nor has a sample of fewer than five sessions.
    """
    able = {name: sample for name, sample in samples.items() if sample.has_value and sample.clusters >= LEAST_CLUSTERS}
    found: dict[str, dict[str, Interval]] = {}
    ratios = {
        name: sample for name, sample in able.items() if not sample.is_share and (means or sample.bottom is not None)
    }
    drawn = _pivots(ratios, resamples, seed)
    for name, sample in able.items():
        if sample.is_share:
            found[name] = {"value": _share_interval(sample, confidence)}
            continue
        bounds = drawn[name].interval(confidence) if name in drawn else None
        if bounds is not None and sample.bottom is None and bounds[0] is not None and sample.top.min() >= 0:
            bounds = max(0.0, bounds[0]), bounds[1]  # lags and counts are never below nothing
        found[name] = {} if bounds is None else {"mean" if sample.bottom is None else "value": bounds}
        if sample.bottom is not None:
            continue
        values = np.sort(sample.top)
        for stat, q in PERCENTILES.items():
            if estimate(sample, stat) is not None:
                found[name][stat] = _percentile_interval(values, sample, q, confidence)
    return {name: entries for name, entries in found.items() if entries}


def _share_interval(sample: Sample, confidence: float) -> Interval:
    n, effective = len(sample), _effective(sample.top - sample.top.mean(), sample)
    share = float(sample.top.mean())
    return wilson(share, effective, _z(confidence, sample, clustered=effective < n))


def _z(confidence: float, sample: Sample, *, clustered: bool) -> float:
    upper = (1 + confidence) / 2
    return student(upper, sample.clusters - 1) if clustered else normal(upper)


def _effective(residuals: Floats, sample: Sample) -> float:
    """How many independent entries say as much: n over the design effect, which is never taken to be below 1.

    Args:
        residuals: entry less mean of an indicator.
        sample: whose clusters.
    """
    n, clusters = len(residuals), sample.clusters
    alone = float((residuals**2).sum())
    if alone == 0.0 or clusters < 2 or clusters == n:
        return float(n)
    sums = np.bincount(sample.cluster, residuals)
    together = float((sums**2).sum()) * clusters / (clusters - 1)
    return n / max(together / alone, 1.0)


def _percentile_interval(ascending: Floats, sample: Sample, q: float, confidence: float) -> Interval:
    """Bounds by order statistics: the number of values below a quantile is binomial (with n over the design effect).

    Between two order statistics the bound is interpolated. Where even the largest value may well lie below the
    quantile, there is no upper bound: 20 calls do not know how slow one in twenty is.
    """
    n = len(ascending)
    below = (sample.top <= percentile(ascending, q)).astype(np.float64)
    effective = max(1, round(_effective(below - below.mean(), sample)))
    at_least = _binomial_tail(effective, q)
    miss = _miss(confidence)
    bounds: list[float | None] = []
    for wanted in (1 - miss, miss):
        # at_least falls from 1 (k = 0) to q**n (k = n): where does it pass what is wanted?
        if at_least[-1] > wanted or at_least[1] < wanted:
            bounds.append(None)
            continue
        rank = float(np.interp(-wanted, -at_least[1:], np.arange(1, effective + 1)))
        place = min(max(rank * n / effective - 1, 0.0), n - 1.0)
        bounds.append(float(np.interp(place, np.arange(n), ascending)))
    return bounds[0], bounds[1]


def _miss(confidence: float) -> float:
    """Beyond each bound; 0.025 and not 0.025000000000000022, which would be the next one of the resamples."""
    return round((1 - confidence) / 2, 12)


def _binomial_tail(n: int, share: float) -> Floats:
    """P(at least k of n) for k from 0 to n."""
    k = np.arange(n)
    steps = np.log(n - k) - np.log(k + 1) + math.log(share) - math.log1p(-share)
    logs = n * math.log1p(-share) + np.concatenate(([0.0], np.cumsum(steps)))
    tail: Floats = np.cumsum(np.exp(logs)[::-1])[::-1]
    return np.minimum(tail, 1.0)


# ---- means and pooled rates: the bootstrap-t ----


@dataclass(frozen=True, slots=True, eq=False)
class _Pivot:
    """A ratio of sums with its resamples.

    Attributes:
        error: standard error by linearisation.
        t: (resample - value) / its own standard error, ascending: keeps the skewness that a plain percentile loses.
        draws: the resampled ratios, ascending.
        least, most: what the number cannot be below and above, as a share of a whole cannot; else infinite.
    """

    value: float
    error: float
    t: Floats
    draws: Floats
    clusters: int
    least: float
    most: float

    def interval(self, confidence: float) -> Interval:
        if self.error == 0.0:
            # Nothing varies. Of what never happened, or always did, the sessions bound how often not.
            if self.value in (self.least, self.most):
                return wilson(self.value, self.clusters, normal((1 + confidence) / 2))
            return self.value, self.value
        miss = _miss(confidence)
        with np.errstate(invalid="ignore"):
            high, low = np.quantile(self.t, (miss, 1 - miss), method="inverted_cdf")
        bounds = (self.value - float(low) * self.error, self.value - float(high) * self.error)
        if not all(map(math.isfinite, bounds)):
            # So few sessions have an error that some resamples have none at all.
            bounds = _expanded(self.draws, confidence, self.clusters)
        return max(bounds[0], self.least), min(bounds[1], self.most)


def _pivots(samples: Mapping[str, Sample], resamples: int, seed: int) -> dict[str, _Pivot]:
    """Resample all metrics together: one drawing of sessions serves them all."""
    if not samples:
        return {}
    clusters = 1 + max(int(sample.cluster.max()) for sample in samples.values())
    moments = np.concatenate([_moments(sample, clusters) for sample in samples.values()], axis=1)
    drawn = np.concatenate([counts @ moments for counts in _draw(clusters, resamples, seed)])
    found = {}
    for place, (name, sample) in enumerate(samples.items()):
        here = slice(5 * place, 5 * place + 5)
        value, error = _ratio(moments[:, here].sum(axis=0), sample.clusters)
        ratios, errors = _ratio(drawn[:, here], sample.clusters)
        kept = np.isfinite(ratios)
        t = _t(ratios[kept] - float(value), errors[kept])
        draws = np.sort(ratios[kept])
        found[name] = _Pivot(float(value), float(error), np.sort(t), draws, sample.clusters, *_limits(sample))
    return found


def _limits(sample: Sample) -> tuple[float, float]:
    """What a number cannot be below and above: a sum of counts is not negative, a part is not more than its whole."""
    if sample.bottom is None or (sample.top < 0).any():
        return -math.inf, math.inf
    return 0.0, 1.0 if (sample.top <= sample.bottom).all() else math.inf


def _moments(sample: Sample, clusters: int) -> Floats:
    """Per session: sums of y and w, and their squares and product, from which a ratio's error follows."""
    y = np.bincount(sample.cluster, sample.top, clusters)
    w = np.bincount(sample.cluster, sample.bottom, clusters)
    return np.stack([y, w, y * y, y * w, w * w], axis=1)


def _ratio(sums: Floats, clusters: int) -> tuple[Floats, Floats]:
    """Ratio of sums and its standard error by linearisation (Cochran, Sampling Techniques, 1977, section 2.11)."""
    y, w, yy, yw, ww = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = y / w
        spread = np.maximum(yy - 2 * ratio * yw + ratio * ratio * ww, 0.0)
        # What is left of equal values after rounding is no variance.
        spread = np.where(spread <= 1e-12 * (yy + ratio * ratio * ww), 0.0, spread)
        return ratio, np.sqrt(spread * clusters / (clusters - 1)) / w


def _t(distance: Floats, errors: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = distance / errors
    return np.where(np.isnan(t), 0.0, t)


def _draw(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each cluster is in each resample, some resamples at a time."""
    random = np.random.default_rng(seed)
    most = max(1, _CHUNK // clusters)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = random.integers(0, clusters, (rows, clusters), dtype=np.int32)
        drawn += clusters * np.arange(rows, dtype=np.int32)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)


def _expanded(draws: Floats, confidence: float, clusters: int) -> tuple[float, float]:
    """The percentile interval, widened for small samples (Hesterberg, The American Statistician 69, 2015)."""
    wide = math.sqrt(clusters / (clusters - 1)) * student((1 + confidence) / 2, clusters - 1)
    miss = NormalDist().cdf(-wide)
    low, high = np.quantile(draws, (miss, 1 - miss))
    return float(low), float(high)


# ---- the difference of two samples ----


class Difference(Protocol):
    """What is known of a new sample less a base one.

    Attributes:
        base, new: the statistic of each.
        paired: whether items were resampled together.
        units: clusters that were resampled; of unpaired samples, those of the smaller one.
    """

    @property
    def base(self) -> float: ...  # noqa: D102 - said above

    @property
    def new(self) -> float: ...  # noqa: D102

    @property
    def paired(self) -> bool: ...  # noqa: D102

    @property
    def units(self) -> int: ...  # noqa: D102

    def interval(self, confidence: float, factor: float = 1.0) -> Interval:
        """Bounds of ``new - factor * base``."""
        ...


def differ(
    base: Sample,
    new: Sample,
    stat: str,
    *,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference | None:
    """Compare one statistic of two samples.

    Args:
        base, new: the samples. Where they are paired, the same code means the same unit in both (an item, or items
            that share sessions), and units are drawn for both at once.
        stat: ``mean``, ``p50``, ... or ``value`` of ratios.
        paired: as above.
        resamples: how many.
        seed: of the resampling.

    Returns:
        The difference; ``None`` when a side has no such statistic or fewer than five clusters.
    """
    values = estimate(base, stat), estimate(new, stat)
    if values[0] is None or values[1] is None or min(base.clusters, new.clusters) < LEAST_CLUSTERS:
        return None
    units = len(np.union1d(base.cluster, new.cluster)) if paired else min(base.clusters, new.clusters)
    if base.is_share and new.is_share:
        return _Shares(values[0], values[1], False, units, base, new)
    draw = _weights(base, new, paired, resamples, seed)
    if stat in PERCENTILES:
        q = PERCENTILES[stat]
        draws = _resampled(base, new, draw, lambda sample: _WeightedPercentile(sample.top, sample.cluster, q))
        return _Draws(values[0], values[1], paired, units, *draws)
    if stat in ("min", "max"):
        return None
    return _linear(base, new, values[0], values[1], paired, units, draw)


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """The difference of two shares: Wilson's bounds of both put together (Newcombe, Stat. Med. 17, 1998, method 10)."""

    base: float
    new: float
    paired: bool
    units: int
    base_sample: Sample
    new_sample: Sample

    def interval(self, confidence: float, factor: float = 1.0) -> Interval:
        base, new = (_share_interval(sample, confidence) for sample in (self.base_sample, self.new_sample))
        return _joined(self.base, base, self.new, new, factor)


def _joined(base: float, bounds: Interval, new: float, new_bounds: Interval, factor: float) -> Interval:
    """Bounds of a difference from those of its parts (Zou and Donner, Stat. Med. 27, 2008); all four are there."""
    (base_low, base_high), (low, high) = bounds, new_bounds
    assert base_low is not None
    assert base_high is not None
    assert low is not None
    assert high is not None
    middle = new - factor * base
    return (
        middle - math.hypot(new - low, factor * (base_high - base)),
        middle + math.hypot(high - new, factor * (base - base_low)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """The difference of two percentiles: resamples of both, drawn together where they are paired."""

    base: float
    new: float
    paired: bool
    units: int
    base_draws: Floats
    new_draws: Floats

    def interval(self, confidence: float, factor: float = 1.0) -> Interval:
        return _expanded(self.new_draws - factor * self.base_draws, confidence, self.units)


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """The difference of two means or pooled rates: the bootstrap-t, as for one of them.

    Attributes:
        error_of: standard error of ``new - factor * base``, of the samples and of each resample.
        apart: bounds at a confidence and a factor where nothing varies on either side.
    """

    base: float
    new: float
    paired: bool
    units: int
    base_draws: Floats
    new_draws: Floats
    error_of: Callable[[float], tuple[float, Floats]]
    apart: Callable[[float, float], Interval]

    def interval(self, confidence: float, factor: float = 1.0) -> Interval:
        middle = self.new - factor * self.base
        error, errors = self.error_of(factor)
        if error == 0.0:
            return self.apart(confidence, factor)
        distances = self.new_draws - factor * self.base_draws
        miss = _miss(confidence)
        t = np.sort(_t(distances - middle, errors))
        high, low = np.quantile(t, (miss, 1 - miss), method="inverted_cdf")
        bounds = (middle - float(low) * error, middle - float(high) * error)
        return bounds if all(map(math.isfinite, bounds)) else _expanded(distances, confidence, self.units)


def _linear(
    base: Sample,
    new: Sample,
    value: float,
    new_value: float,
    paired: bool,
    units: int,
    draw: Callable[[], Iterator[tuple[Floats, Floats]]],
) -> Difference:
    sizes = _sizes(base, new, paired)
    parts: list[Floats] = [
        np.stack([np.bincount(s.cluster, s.top, size), np.bincount(s.cluster, s.bottom, size)], axis=1)
        for s, size in zip((base, new), sizes, strict=True)
    ]
    squares = [np.stack([p[:, 0] ** 2, p[:, 0] * p[:, 1], p[:, 1] ** 2], axis=1) for p in parts]
    cross = _products(parts[0], parts[1]) if paired else None
    rows: list[list[Floats]] = []
    for counts in draw():
        sums = [c @ np.concatenate([p, s], axis=1) for c, p, s in zip(counts, parts, squares, strict=True)]
        rows.append([*sums, counts[0] @ cross if cross is not None else np.zeros((len(counts[0]), 4))])
    base_sums, new_sums, cross_sums = (np.concatenate(part) for part in zip(*rows, strict=True))
    whole = [np.concatenate([p, s], axis=1).sum(axis=0)[None] for p, s in zip(parts, squares, strict=True)]
    whole_cross = cross.sum(axis=0)[None] if cross is not None else np.zeros((1, 4))
    both = (base_sums[:, 1] > 0) & (new_sums[:, 1] > 0)
    base_sums, new_sums, cross_sums = base_sums[both], new_sums[both], cross_sums[both]
    grown = units / (units - 1)

    def error_of(factor: float) -> tuple[float, Floats]:
        one = _errors(whole[0], whole[1], whole_cross, factor)
        return float(one[0]) * math.sqrt(grown), _errors(base_sums, new_sums, cross_sums, factor) * math.sqrt(grown)

    def apart(confidence: float, factor: float) -> Interval:
        bounds = [_alone(s, v, confidence) for s, v in ((base, value), (new, new_value))]
        return _joined(value, bounds[0], new_value, bounds[1], factor)

    draws = base_sums[:, 0] / base_sums[:, 1], new_sums[:, 0] / new_sums[:, 1]
    return _Linear(value, new_value, paired, units, *draws, error_of, apart)


def _alone(sample: Sample, value: float, confidence: float) -> Interval:
    """Bounds of a ratio or a mean that does not vary."""
    if sample.bottom is None or not 0 <= value <= 1:
        return value, value
    return wilson(value, sample.clusters, normal((1 + confidence) / 2))


def _products(base: Floats, new: Floats) -> Floats:
    return np.stack([base[:, i] * new[:, j] for i in (0, 1) for j in (0, 1)], axis=1)


def _errors(base: Floats, new: Floats, cross: Floats, factor: float) -> Floats:
    """Standard error of a difference of ratios by linearisation, for each row of sums."""
    ratios, variances = [], []
    for y, w, yy, yw, ww in (np.moveaxis(base, -1, 0), np.moveaxis(new, -1, 0)):
        r = y / w
        ratios.append(r)
        spread = yy - 2 * r * yw + r * r * ww
        variances.append(np.where(spread <= 1e-12 * (yy + r * r * ww), 0.0, spread) / w**2)
    (a, b), (base_w, new_w) = ratios, (base[:, 1], new[:, 1])
    together = cross[:, 0] - b * cross[:, 1] - a * cross[:, 2] + a * b * cross[:, 3]
    total = factor**2 * variances[0] + variances[1] - 2 * factor * together / (base_w * new_w)
    return np.sqrt(np.where(total <= 1e-12 * (factor**2 * variances[0] + variances[1]), 0.0, total))


def _sizes(base: Sample, new: Sample, paired: bool) -> tuple[int, int]:
    own = (int(base.cluster.max()) + 1, int(new.cluster.max()) + 1)
    return (max(own), max(own)) if paired else own


def _weights(
    base: Sample, new: Sample, paired: bool, resamples: int, seed: int
) -> Callable[[], Iterator[tuple[Floats, Floats]]]:
    """What yields how often each cluster of each side is drawn, some resamples at a time."""
    sizes = _sizes(base, new, paired)

    def draw() -> Iterator[tuple[Floats, Floats]]:
        if paired:
            yield from ((counts, counts) for counts in _draw(sizes[0], resamples, seed))
            return
        # One at a time, so that both come in pieces of the same length.
        most = max(1, _CHUNK // max(sizes))
        for part, start in enumerate(range(0, resamples, most)):
            rows = min(most, resamples - start)
            counts = (
                np.concatenate(list(_draw(size, rows, _mixed(seed, part, side)))) for side, size in enumerate(sizes)
            )
            one, other = counts
            yield one, other

    return draw


def _mixed(seed: int, part: int, side: int) -> int:
    return int(np.random.SeedSequence([seed, part, side]).generate_state(1)[0])


class _WeightedPercentile:
    """A percentile of a sample whose clusters are there several times or not at all."""

    def __init__(self, values: Floats, cluster: Codes, q: float) -> None:
        order = np.argsort(values, kind="stable")
        self._values, self._cluster, self._q = values[order], cluster[order], q

    def __call__(self, counts: Floats) -> Floats:
        upto = np.cumsum(counts[:, self._cluster], axis=1)
        n = upto[:, -1]
        at = np.maximum(n - 1, 0) * self._q
        low = np.floor(at)
        share = at - low
        below, above = (self._at(upto, rank) for rank in (low, np.minimum(low + 1, np.maximum(n - 1, 0))))
        return np.where(n > 0, below + (above - below) * share, np.nan)

    def _at(self, upto: Floats, rank: Floats) -> Floats:
        place = np.minimum((upto <= rank[:, None]).sum(axis=1), len(self._values) - 1)
        found: Floats = self._values[place]
        return found


def _resampled(
    base: Sample,
    new: Sample,
    draw: Callable[[], Iterator[tuple[Floats, Floats]]],
    statistic: Callable[[Sample], Callable[[Floats], Floats]],
) -> tuple[Floats, Floats]:
    of_base, of_new = statistic(base), statistic(new)
    rows = [(of_base(counts[0]), of_new(counts[1])) for counts in _smaller(draw(), max(len(base), len(new)))]
    base_draws, new_draws = (np.concatenate(side) for side in zip(*rows, strict=True))
    kept = np.isfinite(base_draws) & np.isfinite(new_draws)
    return base_draws[kept], new_draws[kept]


def _smaller(pieces: Iterator[tuple[Floats, Floats]], entries: int) -> Iterator[tuple[Floats, Floats]]:
    """The same in pieces whose tables of entries fit into memory too."""
    most = max(1, _CHUNK // entries)
    for base, new in pieces:
        for start in range(0, len(base), most):
            yield base[start : start + most], new[start : start + most]


def p_value(interval: Callable[[float], Interval], outside: Callable[[Interval], bool]) -> float:
    """Return the smallest two-sided error at which an interval shows something.

    Args:
        interval: the interval at a confidence.
        outside: whether it shows it, as ``low > 0``; what a wide interval shows, a narrower one shows too.

    Returns:
        1 when not even the narrowest does; never less than twice one over the resamples.
    """
    least, most = 2 / (RESAMPLES + 1), 1 - 1e-6
    if outside(interval(1 - least)):
        return least
    if not outside(interval(1 - most)):
        return 1.0
    low, high = least, most
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if outside(interval(1 - middle)) else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several questions asked at once (Holm, Scand. J. Statist. 6, 1979), in their order."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = worst
    return adjusted
