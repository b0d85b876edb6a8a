"""What the page about scoring shows can be run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rteval.metadata import cell_faults
from rteval.prepare import RunOptions, prepare
from rteval.scorers.judge import Judge
from rteval.scorers.registry import OURS, find
from rteval.scoring.answer_audio import AUDIO_COLUMNS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_its_scenarios_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    (tmp_path / "scenarios").mkdir()
    for number, text in enumerate(blocks("yaml")):
        path = tmp_path / "scenarios" / f"{number}.yaml"
        path.write_text(text)
        assert prepare(path, RunOptions()).scorers


def test_its_dataset_lines_are_right() -> None:
    for line in blocks("json"):
        assert list(cell_faults(json.loads(line))) == []


@pytest.mark.parametrize("name", OURS)
def test_it_names_every_metric_of_our_scorers(name: str) -> None:
    assert [metric for metric in find(name).metrics if f"`{metric}`" not in PAGE] == []


def test_it_names_every_option_of_the_judge() -> None:
    (told,) = [fault for fault in Judge().faults({"rubric": "r", "model": "m", "x": 1}) if fault.startswith("x: ")]
    options = told.rpartition("the options are ")[2].split(", ")
    assert [option for option in options if f"`{option}`" not in PAGE] == []


def test_it_defines_every_measure_of_sound() -> None:
    assert [column for column in AUDIO_COLUMNS if f"| `{column}` |" not in PAGE] == []
