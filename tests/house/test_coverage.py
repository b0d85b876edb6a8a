"""The pure modules are tested branch by branch: there is no excuse where there is no clock and no I/O."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PURE = [
    "rteval.analysis.gates",
    "rteval.analysis.intervals",
    "rteval.analysis.judging",
    "rteval.analysis.stats",
    "rteval.load.dealing",
    "rteval.load.messages",
    "rteval.load.schedule",
    "rteval.load.stops",
    "rteval.plan",
    "rteval.playback",
    "rteval.realtime",
    "rteval.redact",
]
TESTS = [
    "tests/core",
    "tests/judge/test_gates.py",
    "tests/judge/test_gates_against.py",
    "tests/judge/test_playback.py",
    "tests/judge/test_stats.py",
    "tests/scenario/test_plan.py",
    "tests/simulator/test_serving.py",
    "tests/stats",
    "tests/variants/test_side_by_side.py",
]


def test_the_pure_modules_are_covered_branch_by_branch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *TESTS, "--cov-branch"]
    command += [f"--cov={module}" for module in PURE]
    command += ["--cov-report=term-missing:skip-covered", "--cov-fail-under=100"]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        env=os.environ | {"COVERAGE_FILE": str(tmp_path / "coverage"), "RTEVAL_TEST_PROFILE": "coverage"},
    )
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr}"
