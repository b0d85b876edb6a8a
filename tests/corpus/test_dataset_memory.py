from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "dataset_memory.py"


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage there, and no sparse files")
def test_memory_does_not_grow_with_the_hours_of_a_dataset():
    """Six times the audio in files of the same length takes the same memory; all of it as samples would be 230 MB."""
    measure = runpy.run_path(str(BENCHMARK), run_name="benchmark")["measure"]
    small, large = (measure(hours=hours, file_minutes=5, fmt="g711_ulaw")["peak_mb"] for hours in (1 / 12, 1 / 2))
    assert large < small + 40
    assert large < 200
