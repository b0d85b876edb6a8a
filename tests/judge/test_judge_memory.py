from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from rteval.analysis.store import DELTAS, collect, read_table

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "judge_memory.py"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_deltas_pass_through_without_staying_in_memory():
    """One and a half million deltas in a frame would be 150 MB; the same turns with few of them take much the same."""
    measure = runpy.run_path(str(BENCHMARK), run_name="benchmark")["measure"]
    few, many = (measure(turns=1_000, deltas=deltas) for deltas in (50, 1_500))
    assert (few["exit_code"], many["exit_code"]) == (0, 0)
    assert many["peak_mb"] < few["peak_mb"] + 90


@pytest.mark.parametrize(("most_rows", "rows"), [(3, 0), (4, 4), (None, 4)])
def test_a_table_with_too_many_rows_comes_with_its_columns_alone(tmp_path, make_turn, most_rows, rows):
    collect([make_turn()], tmp_path)
    whole, table = read_table(tmp_path / DELTAS), read_table(tmp_path / DELTAS, most_rows=most_rows)
    assert len(table) == rows
    assert table.dtypes.astype(str).equals(whole.dtypes.astype(str))
