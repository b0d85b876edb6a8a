"""Intervals: what they are is known from the literature, what they must not do from the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval.analysis.intervals import (
    LEAST_CLUSTERS,
    RESAMPLES,
    Interval,
    Sample,
    differ,
    estimate,
    holm,
    intervals_of,
    p_value,
)
from rteval.analysis.stats import normal, student, wilson


def sample(values: object, clusters: object = None, bottom: object = None) -> Sample:
    top = np.asarray(values, dtype=float)
    codes = np.arange(len(top)) if clusters is None else np.asarray(clusters)
    return Sample(top, codes, None if bottom is None else np.asarray(bottom, dtype=float))


def share(part: int, whole: int) -> Sample:
    return sample([1.0] * part + [0.0] * (whole - part), bottom=np.ones(whole))


def slow(n: int, seed: int, factor: float = 1.0) -> np.ndarray:
    return 500 * factor * np.exp(0.3 * np.random.default_rng(seed).standard_normal(n))


def only(found: Sample, stat: str = "value", **options: float) -> Interval:
    return intervals_of({"m": found}, **options)["m"][stat]


# ---- quantiles and shares: printed in textbooks ----

T = [
    pytest.param(1, 0.975, 12.7062, id="1"),
    pytest.param(2, 0.975, 4.30265, id="2"),
    pytest.param(3, 0.95, 2.35336, id="3"),
    pytest.param(4, 0.995, 4.60409, id="4"),
    pytest.param(4, 0.6, 0.270722, id="4, near the middle"),
    pytest.param(10, 0.9, 1.37218, id="10"),
    pytest.param(23, 0.975, 2.06866, id="23"),
    pytest.param(120, 0.975, 1.97993, id="120"),
]


@pytest.mark.parametrize(("freedom", "share_", "t"), T)
def test_students_quantiles_are_those_of_the_tables(freedom: int, share_: float, t: float) -> None:
    assert student(share_, freedom) == pytest.approx(t, rel=2e-5)


# Newcombe, Statistics in Medicine 17 (1998), 857, table I, method 3.
WILSON = [
    pytest.param(81, 263, 0.2553, 0.3662, id="81 of 263"),
    pytest.param(15, 148, 0.0624, 0.1605, id="15 of 148"),
    pytest.param(0, 20, 0.0, 0.1611, id="none of 20"),
    pytest.param(1, 29, 0.0061, 0.1718, id="1 of 29"),
    pytest.param(29, 29, 0.8830, 1.0, id="all of 29"),
]


@pytest.mark.parametrize(("part", "whole", "low", "high"), WILSON)
def test_a_share_has_wilsons_interval(part: int, whole: int, low: float, high: float) -> None:
    assert wilson(part / whole, whole, normal(0.975)) == pytest.approx((low, high), abs=5e-5)
    assert only(share(part, whole)) == pytest.approx((low, high), abs=5e-5)


# The same, 873, table II, method 10; ours is the second less the first.
NEWCOMBE = [
    pytest.param((48, 80), (56, 70), 0.0524, 0.3339, id="56 of 70 against 48 of 80"),
    pytest.param((3, 10), (9, 10), 0.1705, 0.8090, id="9 of 10 against 3 of 10"),
    pytest.param((0, 10), (10, 10), 0.6075, 1.0, id="all against none"),
    pytest.param((0, 10), (0, 10), -0.2775, 0.2775, id="none against none"),
]


@pytest.mark.parametrize(("base", "new", "low", "high"), NEWCOMBE)
def test_the_difference_of_two_shares_is_newcombes(
    base: tuple[int, int], new: tuple[int, int], low: float, high: float
) -> None:
    found = differ(share(*base), share(*new), "value", paired=False)
    assert found is not None
    assert found.interval(0.95) == pytest.approx((low, high), abs=6e-5)


# ---- percentiles: order statistics ----


def test_a_percentile_lies_between_order_statistics_by_the_binomial() -> None:
    """Of 100 values the 40th and the 61st are the textbook's 95 % bounds of the median; interpolated, just within."""
    low, high = only(sample(np.arange(1.0, 101.0)), "p50")
    assert low == pytest.approx(40.5, abs=0.6)
    assert high == pytest.approx(60.5, abs=0.6)


BOUNDED = [
    pytest.param(20, "p95", False, id="20 calls do not bound their p95"),
    pytest.param(71, "p95", False, id="71 do not"),
    pytest.param(72, "p95", True, id="72 do"),
    pytest.param(100, "p99", False, id="100 calls do not bound their p99"),
    pytest.param(368, "p99", True, id="368 do"),
    pytest.param(6, "p50", True, id="six bound their median"),
    pytest.param(5, "p50", False, id="five do not"),
]


@pytest.mark.parametrize(("n", "stat", "bounded"), BOUNDED)
def test_no_bound_is_given_that_the_largest_value_cannot_give(n: int, stat: str, bounded: bool) -> None:
    assert (only(sample(slow(n, n)), stat)[1] is not None) is bounded


def test_a_withheld_percentile_has_no_interval() -> None:
    assert set(intervals_of({"m": sample(slow(19, 1))})["m"]) == {"mean", "p50", "p90"}


def test_means_can_be_left_out() -> None:
    assert "mean" not in intervals_of({"m": sample(slow(50, 1))}, means=False)["m"]


# ---- sessions ----


def test_what_one_session_says_twice_counts_once() -> None:
    """Each call five times in its session: five times the samples, and nothing more is known."""
    values = slow(60, 3)
    once, often = sample(values), sample(np.repeat(values, 5), np.repeat(np.arange(60), 5))
    for stat in ("mean", "p50", "p90"):
        alone, together = only(once, stat), only(often, stat)
        # Taken for 300 calls, the interval would be less than half as wide.
        assert 0.8 < (together[1] - together[0]) / (alone[1] - alone[0]) < 1.4  # type: ignore[operator]
    failed = np.arange(60) < 6
    one, five = share(6, 60), sample(np.repeat(failed, 5), np.repeat(np.arange(60), 5), np.ones(300))
    assert only(five) == pytest.approx(only(one), abs=0.02)


def test_too_few_sessions_have_no_interval() -> None:
    few = sample(slow(40, 1), np.arange(40) % (LEAST_CLUSTERS - 1))
    assert intervals_of({"m": few}) == {}
    assert differ(few, sample(slow(40, 2)), "p50", paired=False) is None


# ---- means and pooled rates ----


def test_the_same_samples_have_the_same_interval_in_any_order() -> None:
    values, order = slow(80, 4), np.random.default_rng(0).permutation(80)
    assert only(sample(values), "mean") == only(sample(values), "mean")
    shuffled = sample(values[order], order)
    assert only(shuffled, "mean") == pytest.approx(only(sample(values), "mean"))


def test_metrics_are_resampled_together_and_each_as_if_alone() -> None:
    one, other = sample(slow(50, 1)), sample(slow(50, 2))
    assert intervals_of({"a": one, "b": other})["b"] == intervals_of({"b": other})["b"]


def test_the_interval_of_a_skewed_mean_leans_to_where_the_tail_is() -> None:
    values = sample(np.exp(1.2 * np.random.default_rng(5).standard_normal(60)))
    low, high = only(values, "mean")
    mean = estimate(values, "mean")
    assert low is not None
    assert high is not None
    assert mean is not None
    assert high - mean > mean - low > 0


def test_equal_values_have_an_interval_without_width() -> None:
    assert only(sample(np.full(30, 7.1)), "mean") == pytest.approx((7.1, 7.1))


def test_no_error_in_few_words_does_not_mean_there_are_none() -> None:
    """Nothing varies, so nothing can be resampled: the number of sessions bounds how often one might err."""
    none = sample(np.zeros(24), bottom=np.full(24, 9.0))
    assert only(none) == pytest.approx((0.0, 0.138), abs=1e-3)


def test_a_single_faulty_turn_still_has_an_upper_bound() -> None:
    """Many resamples hold no error at all: there the studentised interval would be infinite."""
    errors = np.zeros(24)
    errors[3] = 4
    low, high = only(sample(errors, bottom=np.full(24, 9.0)))
    assert low == 0.0
    assert high is not None
    assert 4 / 216 < high < 0.2


def test_a_pooled_rate_without_words_has_no_value() -> None:
    assert estimate(sample(np.ones(9), bottom=np.zeros(9)), "value") is None


@pytest.mark.parametrize("stat", ["mean", "p50", "p90"])
def test_most_intervals_hold_the_truth(stat: str) -> None:
    truth = {"mean": 500 * np.exp(0.045), "p50": 500.0, "p90": 500 * np.exp(0.3 * 1.281552)}[stat]
    held = 0
    for seed in range(150):
        low, high = intervals_of({"m": sample(slow(60, seed))}, resamples=400)["m"][stat]
        held += (low is None or low <= truth) and (high is None or truth <= high)
    assert 0.89 <= held / 150 <= 0.99


# ---- differences ----


STATS = ["p50", "p90", "mean"]


@pytest.mark.parametrize("stat", STATS)
def test_a_run_does_not_differ_from_itself(stat: str) -> None:
    values = sample(slow(60, 1))
    found = differ(values, values, stat, paired=True)
    assert found is not None
    assert found.interval(0.95) == (0.0, 0.0)


@pytest.mark.parametrize("stat", STATS)
def test_pairs_show_what_scatter_between_items_would_hide(stat: str) -> None:
    items = slow(60, 1)
    base = sample(items * np.exp(0.02 * np.random.default_rng(2).standard_normal(60)))
    new = sample(1.05 * items * np.exp(0.02 * np.random.default_rng(3).standard_normal(60)))
    together, apart = (differ(base, new, stat, paired=paired) for paired in (True, False))
    assert together is not None
    assert apart is not None
    assert (together.paired, together.units, apart.paired, apart.units) == (True, 60, False, 60)
    assert together.interval(0.95)[0] > 0 > apart.interval(0.95)[0]  # type: ignore[operator]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("stat", STATS)
def test_a_factor_moves_the_question(stat: str, paired: bool) -> None:
    """new - 1.1 * base lies around 0 when new is a tenth slower."""
    found = differ(sample(slow(80, 1)), sample(slow(80, 1, 1.1)), stat, paired=paired)
    assert found is not None
    low, high = found.interval(0.95, 1.1)
    assert low is not None
    assert high is not None
    assert low <= 1e-9
    assert high >= -1e-9
    assert found.new == pytest.approx(1.1 * found.base)


def test_word_error_rates_of_the_same_items_are_compared_by_item() -> None:
    words = np.tile([5.0, 12.0, 8.0], 20)
    errors = np.random.default_rng(1).binomial(words.astype(int), 0.1).astype(float)
    more = errors + (np.arange(60) % 3 == 0)
    found = differ(sample(errors, bottom=words), sample(more, bottom=words), "value", paired=True)
    assert found is not None
    low, high = found.interval(0.95)
    assert low is not None
    assert high is not None
    assert 0 < low < 20 / words.sum() < high
    same = differ(sample(errors, bottom=words), sample(errors, bottom=words), "value", paired=True)
    assert same is not None
    assert same.interval(0.95)[0] < 0 < same.interval(0.95)[1]  # type: ignore[operator]


def test_units_of_one_side_alone_are_drawn_too() -> None:
    """A call that failed in the new run has no time there; its item still is one of the base."""
    base, new = sample(slow(60, 1)), sample(slow(60, 2)[:50], np.arange(50))
    found = differ(base, new, "p50", paired=True)
    assert found is not None
    assert found.units == 60


def test_a_rare_error_on_one_side_gives_a_bounded_difference() -> None:
    one = np.zeros(30)
    one[0] = 3
    found = differ(
        sample(np.zeros(30), bottom=np.full(30, 9.0)), sample(one, bottom=np.full(30, 9.0)), "value", paired=True
    )
    assert found is not None
    assert all(np.isfinite(found.interval(0.95)))  # type: ignore[arg-type]


@pytest.mark.parametrize("stat", ["p95", "max"])
def test_what_has_no_interval_has_no_difference(stat: str) -> None:
    n = 19 if stat == "p95" else 50
    assert differ(sample(slow(n, 1)), sample(slow(n, 2)), stat, paired=False) is None


def test_large_runs_are_resampled_in_pieces() -> None:
    base, new = sample(slow(2500, 1)), sample(slow(1200, 2))
    for stat in ("p95", "mean"):
        found = differ(base, new, stat, paired=False)
        assert found is not None
        low, high = found.interval(0.95)
        assert low is not None
        assert high is not None
        assert low < found.new - found.base < high


# ---- several questions at once ----


def test_a_p_value_is_where_the_interval_begins_to_show_it() -> None:
    found = differ(sample(slow(60, 1)), sample(slow(60, 2, 1.12)), "mean", paired=False)
    assert found is not None
    p = p_value(found.interval, lambda bounds: bounds[0] is not None and bounds[0] > 0)
    assert 0.0 < p < 1.0
    assert found.interval(1 - p * 1.2)[0] > 0 > found.interval(1 - p / 1.2)[0]  # type: ignore[operator]


def test_a_p_value_is_never_less_than_the_resamples_can_show() -> None:
    far = differ(sample(slow(60, 1)), sample(slow(60, 2, 9)), "p50", paired=False)
    assert far is not None
    assert p_value(far.interval, lambda bounds: bounds[0] is not None and bounds[0] > 0) == 2 / (RESAMPLES + 1)
    assert p_value(far.interval, lambda bounds: bounds[1] is not None and bounds[1] < 0) == 1.0


HOLM = [
    pytest.param([0.01, 0.04, 0.03], [0.03, 0.06, 0.06], id="as printed"),
    pytest.param([0.5, 0.9], [1.0, 1.0], id="never above one"),
    pytest.param([], [], id="nothing"),
]


@pytest.mark.parametrize(("given_", "adjusted"), HOLM)
def test_holms_correction(given_: list[float], adjusted: list[float]) -> None:
    assert holm(given_) == pytest.approx(adjusted)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_a_corrected_p_value_is_never_smaller_and_keeps_its_rank(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(after >= before or after == 1 for before, after in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=lambda place: values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)


# ---- shares of a whole: checks, entities ----


def test_what_always_held_may_fail_some_day() -> None:
    """Two checks a turn, all held: nothing varies, and yet 24 sessions do not show that none will ever fail."""
    always = sample(np.full(24, 2.0), bottom=np.full(24, 2.0))
    assert only(always) == pytest.approx((0.862, 1.0), abs=1e-3)


def test_a_part_is_never_said_to_be_more_than_the_whole() -> None:
    held = np.full(24, 3.0)
    held[5] = 2
    low, high = only(sample(held, bottom=np.full(24, 3.0)))
    assert low is not None
    assert low < 71 / 72
    assert high is not None
    assert 71 / 72 < high <= 1.0


def test_a_mean_that_may_be_negative_is_not_bounded_at_zero() -> None:
    scores = np.random.default_rng(1).normal(-0.02, 0.5, 40)
    low, high = only(sample(scores, bottom=np.ones(40)))
    assert low is not None
    assert high is not None
    assert low < -0.1 < 0 < high


def test_a_mean_of_lags_is_not_bounded_below_nothing() -> None:
    low, high = only(sample(np.array([0.6, 1.0, 2.0, 3.0, 4.0, 5.0, 2.0, 9_000.0])), "mean")
    assert low == 0.0
    assert high is not None
    assert high > 9_000 / 8


def test_a_ratio_over_nothing_has_no_interval() -> None:
    """Every reference is a hesitation, of which the normaliser leaves no word."""
    assert intervals_of({"m": sample(np.zeros(9), bottom=np.zeros(9)), "n": sample(np.empty(0))}) == {}
