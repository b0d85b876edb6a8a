"""Statistics over raw samples, with the sample sizes below which a number would be a guess. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

__all__ = [
    "MIN_SAMPLES",
    "NO_SAMPLES",
    "PERCENTILES",
    "Summary",
    "ascending",
    "describe",
    "normal",
    "percentile",
    "student",
    "wilson",
    "withheld",
]

PERCENTILES: Mapping[str, float] = MappingProxyType({"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99})

MIN_SAMPLES: Mapping[str, int] = MappingProxyType({"p95": 20, "p99": 100})
"""Below this many samples fewer than one lies beyond the percentile, so it is withheld."""

Samples = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Summary:
    """The statistics of one distribution; ``None`` is "no samples" or "n too small", and ``withheld`` says which.

    Attributes:
        n: number of samples.
        withheld: reason for each statistic that is ``None`` although there are samples.
    """

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    min: float | None
    max: float | None
    withheld: Mapping[str, str]


NO_SAMPLES = Summary(0, None, None, None, None, None, None, None, MappingProxyType({}))


def withheld(stat: str, n: int) -> str | None:
    """Say why a statistic of ``n`` samples is not given; ``None`` when it is."""
    if n == 0:
        return "no samples"
    least = MIN_SAMPLES.get(stat, 1)
    return f"n too small: {n} of at least {least}" if n < least else None


def percentile(sorted_samples: Sequence[float] | Samples, q: float, upto: Counts | None = None) -> float:
    """Return the quantile ``q`` (0 to 1) of samples in ascending order, with linear interpolation.

    The same as ``pandas.Series.quantile(q)``: method 7 of Hyndman and Fan (1996).

    Args:
        sorted_samples: ascending.
        q: 0 to 1.
        upto: where a value stands for several samples: how many samples there are up to and with each value.

    Raises:
        ValueError: there are no samples.
    """
    if len(sorted_samples) == 0:
        raise ValueError("percentile() of no samples")
    n = len(sorted_samples) if upto is None else int(upto[-1])
    at = (n - 1) * q
    low = int(at)
    high = min(low + 1, n - 1)
    share = at - low
    if upto is not None:
        low, high = (int(place) for place in np.searchsorted(upto, (low, high), side="right"))
    below, above = float(sorted_samples[low]), float(sorted_samples[high])
    # From the nearer end, as numpy does it: the same bits as pandas.
    return below + (above - below) * share if share < 0.5 else above - (above - below) * (1 - share)


def ascending(samples: Samples, counts: Counts | None = None) -> tuple[Samples, Counts | None]:
    """Bring samples in order; they are sorted **in place** (a run may have ten million of them).

    Args:
        samples: one value each.
        counts: for how many samples each value stands, from 1; by default for one.

    Returns:
        The values in ascending order, and the ``upto`` of ``percentile`` where some stand for several.
    """
    if counts is None or int(counts.sum()) == len(samples):
        samples.sort()
        return samples, None
    order = np.argsort(samples, kind="stable")
    samples[:] = samples[order]
    return samples, np.cumsum(counts[order])


def describe(samples: Samples, counts: Counts | None = None) -> Summary:
    """Summarise samples in any order; arguments as those of ``ascending``, which sorts them.

    Sorting first also makes the sum independent of the order in which turns were recorded.
    """
    samples, upto = ascending(samples, counts)
    n = len(samples) if upto is None else int(upto[-1])
    if n == 0:
        return NO_SAMPLES
    reasons = {stat: reason for stat in PERCENTILES if (reason := withheld(stat, n)) is not None}
    points = {stat: None if stat in reasons else percentile(samples, q, upto) for stat, q in PERCENTILES.items()}
    low, high = float(samples[0]), float(samples[-1])
    mean = float(samples.mean()) if upto is None else float((samples * np.diff(upto, prepend=0)).sum() / n)
    # A mean of equal numbers may leave their range by one rounding.
    mean = min(max(mean, low), high)
    return Summary(n=n, mean=mean, min=low, max=high, withheld=reasons, **points)


def normal(share: float) -> float:
    """Return the quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(share)


def student(share: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution, to about six digits.

    G. W. Hill, Algorithm 396, Communications of the ACM 13 (1970).

    Args:
        share: above 0.5 and below 1.
        freedom: degrees of freedom, at least 1.
    """
    both = 2 * (1 - share)
    if freedom < 1.5:
        return 1 / math.tan(both * math.pi / 2)
    if freedom < 2.5:
        return math.sqrt(2 / (both * (2 - both)) - 2)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * both) ** (2 / freedom)
    if y > 0.05 + a:
        x = normal(both / 2)
        y = x * x
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = (
            1 / (((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3) + 0.5 / (freedom + 4)
        ) * y - 1
        y = y * (freedom + 1) / (freedom + 2) + 1 / ((d * both) ** (2 / freedom))
    return math.sqrt(freedom * y)


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927).

    Args:
        share: what was observed, 0 to 1.
        n: how many there were; fewer than were counted where they hang together.
        z: quantile that belongs to the confidence, 1.96 for 95 %.
    """
    middle = share + z * z / (2 * n)
    arm = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    whole = 1 + z * z / n
    # Exact at the ends, where the square root loses the last digits.
    low = 0.0 if share == 0 else (middle - arm) / whole
    return max(low, 0.0), 1.0 if share == 1 else min((middle + arm) / whole, 1.0)
