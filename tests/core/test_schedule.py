"""Starts keep their distance."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.load.schedule import StartSpacing

S = 1_000_000_000

STARTS = [
    pytest.param(None, [0, 0, 5], [0, 0, 5], id="no bound"),
    pytest.param(2.0, [0, 0, 0], [0, S // 2, S], id="all at once: spread"),
    pytest.param(2.0, [0, 3 * S, 3 * S], [0, 3 * S, 3 * S + S // 2], id="a pause is not saved up"),
    pytest.param(0.1, [0, S], [0, 10 * S], id="slower than one a second"),
    pytest.param(2.0, [-S, -S], [-S, -S // 2], id="clocks may be negative"),
]


@pytest.mark.parametrize(("per_s", "wanted", "starts"), STARTS)
def test_starts_keep_their_distance(per_s, wanted, starts):
    spacing = StartSpacing(per_s)
    assert [spacing.reserve(at_ns) for at_ns in wanted] == starts


@given(
    per_s=st.floats(0.01, 1000),
    wanted=st.lists(st.integers(0, 100 * S), max_size=30).map(sorted),
)
def test_a_start_is_never_early_and_never_too_close_to_the_one_before(per_s, wanted):
    spacing = StartSpacing(per_s)
    starts = [spacing.reserve(at_ns) for at_ns in wanted]
    assert all(start >= at for start, at in zip(starts, wanted, strict=True))
    assert all(later - earlier >= round(S / per_s) for earlier, later in itertools.pairwise(starts))
