"""Every verdict of a gate, reached in a run and worded wherever people look: the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from rteval.cli import app
from rteval.judge import judge
from rteval.records import HealthSample, TurnRecord
from rteval.reporting.ci import announce

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]

T0 = 1_000_000_000_000_000

CASES = [
    pytest.param("ttfa_ms.p50 < 9000", "pass", True, id="pass"),
    pytest.param("ttfa_ms.p50 < 100", "fail", False, id="fail"),
    pytest.param({"gate": "error_rate <= 0.2", "confidence": 0.95}, "inconclusive", False, id="inconclusive"),
    pytest.param(
        {"gate": "error_rate <= 0.2", "confidence": 0.95, "inconclusive": "pass"}, "inconclusive", True, id="let be"
    ),
    pytest.param({"gate": "ttfa_ms.p50 < 100", "severity": "warn"}, "fail", True, id="a warning"),
    pytest.param("ttfa_ms.p95 < 9000", "no_data", False, id="n too small"),
    pytest.param({"gate": "ttfa_ms.p50 < 9000", "where": {"tag": "nobody"}}, "no_data", False, id="nobody"),
    pytest.param("ttfa_ms.p50 < baseline", "no_data", False, id="no baseline"),
    pytest.param({"gate": "ttfa_ms.p95 < 9000", "severity": "warn"}, "no_data", True, id="a warning without a number"),
    pytest.param("loop_lag_ms.p50 < 9000", "invalid", False, id="invalid"),
]


@pytest.mark.parametrize(("gate", "verdict", "green"), CASES)
def test_a_verdict_is_the_same_wherever_it_is_read(
    gate: Any, verdict: str, green: bool, make_run: MakeRun, make_turn: MakeTurn, tmp_path: Path
) -> None:
    lag_us = 90_000 if verdict == "invalid" else 100
    run_dir = make_run(
        [make_turn(f"s{number}") for number in range(8)],
        health=[HealthSample(worker="w0", at_ns=T0, loop_lag_us=[lag_us] * 9)],
        gates=[gate],
        report={"formats": ["markdown", "junit", "html"], "audio": "none", "transcripts": "full", "ci": "github"},
    )
    shown = CliRunner().invoke(app, ["report", str(run_dir)])
    summary = json.loads((run_dir / "summary.json").read_text())
    (result,) = summary["gates"]
    code = 0 if green else 4 if verdict == "invalid" else 1
    assert (result["verdict"], result["missed"], summary["exit_code"]) == (verdict, not green, code)
    assert (result["reason"] is None) is (verdict == "pass")
    # The terminal.
    assert shown.exit_code == code
    assert shown.stderr.startswith({0: "PASS: ", 1: "FAIL: 1 of 1 gates missed\n", 4: "INVALID: "}[code])
    assert (f"  {verdict}: " in shown.stderr) is (verdict != "pass")
    assert ("does not decide the verdict" in shown.stderr) is (green and verdict != "pass")
    # The job summary.
    lines = (run_dir / "summary.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(("| ✅", "| ❌", "| ⚠️")))
    assert verdict.replace("_", " ") in line
    assert line.startswith("| ✅") is (verdict == "pass")
    assert line.startswith("| ❌") is (not green and verdict != "invalid")
    assert ("(does not decide)" in line) is (green and verdict != "pass")
    # The test tab.
    suite = ET.fromstring((run_dir / "junit.xml").read_bytes())
    case = next(suite.iter("testcase"))
    assert [child.tag for child in case] == ([] if green else ["error" if verdict == "invalid" else "failure"])
    told = suite.findtext(".//system-out") if green else case[0].get("message")
    assert (f"{verdict}: " in str(told)) is (verdict != "pass")
    # Annotations.
    run = json.loads((run_dir / "run.json").read_text())
    annotations = announce(run, summary, run_dir, {})
    levels = [annotation.partition(" ")[0] for annotation in annotations]
    # An invalid run is one error, and not one for each gate.
    wanted = ["::error"] if verdict == "invalid" else ["::error"] * 2
    assert levels == ([] if verdict == "pass" else ["::warning"] if green else wanted)
    # The page.
    page = (run_dir / "report.html").read_text()
    badge = page.partition('data-label="verdict"><span class="badge ')[2].partition("</span></td>")[0]
    assert badge.startswith(verdict)
    assert badge.endswith(f" {verdict.replace('_', ' ')}")


EMPTY = [
    pytest.param({"warmup": True}, ["error_rate <= 0.01"], "no_data", 1, id="all turns are warm-up"),
    pytest.param({"outcome": "failed"}, ["ttfa_ms.p50 < 1"], "no_data", 1, id="all turns failed, a time"),
    pytest.param({"outcome": "failed"}, ["error_rate <= 0.01"], "fail", 1, id="all turns failed"),
    pytest.param({"outcome": "cut"}, ["error_rate <= 0.01"], "no_data", 1, id="all turns were cut"),
    pytest.param({"transcript_outcome": "off", "input_transcript": None}, ["input_wer <= 1"], "no_data", 1, id="words"),
]


@pytest.mark.parametrize(("over", "gates", "verdict", "code"), EMPTY)
def test_nothing_passes_on_nothing(
    over: dict[str, Any], gates: list[str], verdict: str, code: int, make_run: MakeRun, make_turn: MakeTurn
) -> None:
    run_dir = make_run([make_turn(f"s{n}", **over) for n in range(8)], gates=gates)
    summary = judge(run_dir, reports_written=False).summary
    assert (summary["gates"][0]["verdict"], summary["exit_code"]) == (verdict, code)


@pytest.mark.parametrize("gates", [["error_rate <= 0.01"], []], ids=["a gate", "no gate"])
def test_a_run_without_a_turn_is_not_complete(gates: list[str], make_run: MakeRun) -> None:
    """A run for a time plans no number of turns, so none is missing; and yet nothing was run."""
    summary = judge(make_run([], gates=gates, planned={"turns": None, "sessions": None})).summary
    assert (summary["state"], summary["exit_code"]) == ("partial", 1)
    assert summary["culprit"]["sentence"].startswith("rteval itself: not one turn" if not gates else "the scenario: ")


WORDLESS = "um"


def test_references_of_which_no_word_is_left_are_judged(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """The normaliser drops hesitations: there is nothing to count errors in, and nothing to resample."""
    turns = [make_turn(f"s{n}", reference=WORDLESS, input_transcript=WORDLESS) for n in range(8)]
    summary = judge(make_run(turns, gates=["input_wer <= 1"])).summary
    assert summary["gates"][0]["verdict"] == "no_data"
    assert "ci95" not in summary["metrics"]["input_wer"]
