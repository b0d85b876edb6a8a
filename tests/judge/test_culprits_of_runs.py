"""The culprit in what people read of a run, and that a verdict needs nothing but the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rteval.judge import judge
from rteval.records import HealthSample, Outcome, Stage, TurnRecord

MakeRun = Callable[..., Path]

T0 = 1_000_000_000_000_000


def test_the_first_lines_of_the_summary_name_the_culprit(
    make_run: MakeRun, make_turn: Callable[..., TurnRecord]
) -> None:
    failed = {"outcome": Outcome.REFUSED, "failure_stage": Stage.CONNECT, "error_code": "http_429"}
    run_dir = make_run([make_turn("a"), make_turn("b", **failed), make_turn("c", **failed)])
    assert judge(run_dir).summary["culprit"]["who"] == "quota"
    heading, empty, culprit, *_ = (run_dir / "summary.md").read_text().splitlines()
    assert heading == "# support: FAIL: 1 of 1 gates missed"
    assert not empty
    assert culprit == "**Look at the quota:** 2 of 3 turns failed with http\\_429 (error\\_rate)"


def test_an_invalid_run_names_the_runner(make_run: MakeRun, make_turn: Callable[..., TurnRecord]) -> None:
    late = [HealthSample(worker="w0", at_ns=T0, loop_lag_us=[90_000] * 9, cpu_share=0.93)]
    summary = judge(make_run([make_turn("a")], health=late)).summary
    assert summary["culprit"]["who"] == "runner"
    assert "loop_lag_ms" in summary["culprit"]["sentence"]


def test_a_folder_that_was_moved_is_judged_to_the_same_bytes(
    make_run: MakeRun, make_turn: Callable[..., TurnRecord], tmp_path: Path
) -> None:
    """Nothing of the target, the scenario or the dataset is needed, and nothing of where the folder once was."""
    failed = {"outcome": Outcome.DROPPED, "failure_stage": Stage.RESPOND, "error_code": "close_1006"}
    here = make_run([make_turn(f"s{k}") for k in range(24)] + [make_turn("x", **failed)])
    judge(here)
    before = {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()}
    there = tmp_path / "elsewhere" / "artefact"
    there.parent.mkdir()
    here.rename(there)
    judge(there)
    after = {file.name: file.read_bytes() for file in there.iterdir() if file.is_file()}
    assert before.keys() == after.keys()
    places = str(here.resolve()).encode(), str(there.resolve()).encode()
    for name in ("summary.json", "junit.xml", "run.json", "turns.csv"):
        assert after[name].replace(places[1], places[0]) == before[name], name
    shown = before["summary.md"].decode().splitlines(), after["summary.md"].decode().splitlines()
    assert [line for line in shown[0] if "reports" not in line] == [line for line in shown[1] if "artefact" not in line]
