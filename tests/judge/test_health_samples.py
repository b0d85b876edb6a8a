"""Samples of health stay small, and say what all of the lags would have said."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.analysis.health import lags_of
from rteval.analysis.stats import describe
from rteval.analysis.store import HEALTH, check_tables, collect, read_health
from rteval.records import HealthSample, kept_ranks


@given(st.integers(0, 3_000_000))
def test_a_sample_keeps_few_ranks_the_last_among_them(n: int) -> None:
    ranks = kept_ranks(n)
    assert len(ranks) == min(n, 300)
    assert all(low < high for low, high in pairwise(ranks))
    assert not n or (ranks[0] >= 0 and ranks[-1] == n - 1)


@given(st.integers(301, 3_000_000))
def test_the_upper_ranks_are_kept_so_closely_that_a_p99_is_theirs(n: int) -> None:
    ranks = kept_ranks(n)
    upper = [rank for rank in ranks if rank >= 0.98 * n]
    assert max(high - low for low, high in pairwise(upper)) <= max(1, round(0.0001 * n) + 1)
    assert max(high - low for low, high in pairwise(ranks)) <= 0.011 * n + 1


def test_ten_thousand_lags_a_second_leave_three_hundred_rows_and_the_same_p99(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lags = np.sort(rng.lognormal(6, 1, 10_000).astype(int))
    kept = [int(lags[rank]) for rank in kept_ranks(len(lags))]
    samples = [HealthSample(worker="w0", at_ns=1, send_lag_us=kept, send_lag_n=len(lags), loop_lag_us=[7, 5])]
    collect(samples, tmp_path)
    health = read_health(tmp_path / HEALTH)
    assert (health["kind"] == "send").sum() == 300
    values, counts = lags_of(health, "send")
    found, exact = describe(values, counts), describe(lags / 1000)
    assert (found.n, found.max) == (exact.n, exact.max)
    assert found.p99 == pytest.approx(exact.p99, rel=0.01)
    assert found.p50 == pytest.approx(exact.p50, rel=0.03)
    assert lags_of(health, "loop")[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    "n", [pytest.param(-5, id="negative"), pytest.param(2**62, id="huge"), pytest.param(9, id="not what is kept of it")]
)
def test_a_count_that_fits_no_sample_of_ours_is_not_believed(tmp_path: Path, n: int) -> None:
    collect([HealthSample(worker="w0", at_ns=1, send_lag_us=[1000, 2000], send_lag_n=n)], tmp_path)
    assert lags_of(read_health(tmp_path / HEALTH), "send")[1].tolist() == [1, 1]


def test_a_table_of_an_older_run_has_a_row_for_each_sample(tmp_path: Path) -> None:
    collect([HealthSample(worker="w0", at_ns=1, send_lag_us=[1000, 2000], stamp_lag_us=[500])], tmp_path)
    table = pq.read_table(tmp_path / HEALTH)
    pq.write_table(table.drop_columns(["n"]), tmp_path / HEALTH)
    check_tables(tmp_path)
    health = read_health(tmp_path / HEALTH)
    assert lags_of(health, "send")[1].tolist() == [1, 1]
    assert lags_of(health, "stamp")[0].tolist() == [0.5]
