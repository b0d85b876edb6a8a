from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.analysis.stats import ascending, describe, percentile, withheld

samples = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=150)


@given(samples, st.floats(0, 1))
def test_a_percentile_is_that_of_pandas(values: list[float], q: float) -> None:
    assert percentile(sorted(values), q) == pytest.approx(pd.Series(values).quantile(q), rel=1e-12, abs=1e-9)


def test_a_percentile_of_nothing_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("n", "given", "missing"),
    [
        pytest.param(1, {"mean", "p50", "p90", "min", "max"}, {"p95", "p99"}, id="one"),
        pytest.param(19, {"p90"}, {"p95", "p99"}, id="19"),
        pytest.param(20, {"p95"}, {"p99"}, id="20"),
        pytest.param(99, {"p95"}, {"p99"}, id="99"),
        pytest.param(100, {"p95", "p99"}, set(), id="100"),
    ],
)
def test_a_percentile_of_too_few_samples_is_withheld_with_a_reason(n: int, given: set[str], missing: set[str]) -> None:
    summary = describe(np.arange(n, dtype=float))
    assert all(getattr(summary, stat) is not None for stat in given)
    assert all(getattr(summary, stat) is None for stat in missing)
    assert set(summary.withheld) == missing
    assert all(f"{n} of at least" in reason for reason in summary.withheld.values())


def test_no_samples_have_no_statistics() -> None:
    summary = describe(np.empty(0))
    assert (summary.n, summary.mean, summary.p50, summary.max) == (0, None, None, None)
    assert withheld("p50", 0) == "no samples"
    assert withheld("mean", 1) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.randoms())
def test_the_order_of_samples_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = describe(np.array(values)), describe(np.array(shuffled))
    assert one == other
    assert one.min is not None
    assert one.mean is not None
    assert one.max is not None
    assert one.min <= one.mean <= one.max


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 40)), min_size=1, max_size=60), st.floats(0, 1))
def test_values_that_stand_for_several_count_as_if_each_was_there(pairs: list[tuple[float, int]], q: float) -> None:
    values, counts = (np.array(column) for column in zip(*pairs, strict=True))
    whole = np.sort(np.repeat(values, counts))
    in_order, upto = ascending(values.copy(), counts)
    assert percentile(in_order, q, upto) == percentile(whole, q)
    one, other = describe(values.copy(), counts), describe(whole)
    assert (one.n, one.p50, one.p99, one.max, one.withheld) == (
        other.n,
        other.p50,
        other.p99,
        other.max,
        other.withheld,
    )
    assert one.mean == pytest.approx(other.mean)
