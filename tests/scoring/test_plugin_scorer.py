"""The example plug-in, built and installed as a stranger would, and used by a real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rteval.judge import judge

ROOT = Path(__file__).parents[2]

SCENARIO = """\
target: {provider: simulator}
dataset: DATASET
scoring: {scorers: {brevity: {most_words: 5}}}
gates: [scorers.brevity.short_share >= 0.9, scorers.brevity.mean_words < 6]
"""

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def rteval(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """The command, with the plug-in installed in a folder of its own; offline."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip += ["--no-cache-dir", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run(
        [*pip, str(ROOT / "examples" / "plugin_scorer")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr

    def call(*arguments: Any, installed: bool = True) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(target) if installed else "", os.environ.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-m", "rteval", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
        )

    return call


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "brief.yaml"
    path.write_text(SCENARIO.replace("DATASET", str(ROOT / "datasets" / "support")))
    return path


def test_an_installed_scorer_is_found_scored_gated_and_checked(
    rteval: Call, scenario: Path, make_run: Callable[..., Path], make_turn: Callable[..., Any]
) -> None:
    said = ["One two three.", "One two three four five.", "One two three four five six."] * 10
    folder = make_run([make_turn(number, output_transcript=text) for number, text in enumerate(said)])
    judge(folder)

    checked = rteval("check", scenario)
    assert checked.returncode == 0, checked.stderr
    assert "scorers.brevity.short_share >= 0.9" in checked.stdout

    scored = rteval("score", folder, "--scenario", scenario)
    assert scored.returncode == 1, scored.stderr
    assert "scorers.brevity.short_share" in scored.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert [gate["verdict"] for gate in summary["gates"]] == ["fail", "pass", "pass"]
    words = summary["metrics"]["scorers.brevity.mean_words"]
    assert (words["value"], words["n"], words["unit"], words["definition"]) == (14 / 3, 30, "words", "words per answer")
    low, high = words["ci95"]["value"]
    assert low < 14 / 3 < high
    table = pd.read_parquet(folder / "turns.parquet")
    assert table["score_brevity_words"].tolist() == [3, 5, 6] * 10
    assert table["score_brevity_short"].tolist() == [True, True, False] * 10

    # Its verdict is there for everybody, also without the plug-in.
    assert judge(folder).summary == summary


WRONG = [
    pytest.param("scoring.scorers={brevety: {}}", "did you mean 'brevity'?", id="misspelt scorer"),
    pytest.param(
        "scoring.scorers.brevity.most_words=many", "scoring.scorers.brevity.most_words: expected a", id="option"
    ),
    pytest.param("gates=[scorers.brevity.short > 0]", "did you mean 'scorers.brevity.short_share'?", id="metric"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_what_is_wrong_is_said_before_anything_runs(rteval: Call, scenario: Path, change: str, sentence: str) -> None:
    done = rteval("check", scenario, "--set", change)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_scorer_that_is_not_installed_is_named(rteval: Call, scenario: Path) -> None:
    done = rteval("check", scenario, installed=False)
    assert done.returncode == 2
    assert "no scorer is called 'brevity'" in done.stderr
