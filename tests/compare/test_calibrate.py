"""Gates from repeated runs: where the limits come from, and a copy of the scenario that is otherwise as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rteval.calibrate import Proposal, propose, with_gates
from rteval.cli import app
from rteval.scenario import load_scenario

RUNNER = CliRunner()
SUPPORT = Path(__file__).parents[2] / "datasets" / "support"


def metrics(**over: Any) -> dict[str, Any]:
    base = {
        "ttfa_ms": {"n": 100, "p50": 500.0, "p95": 800.0, "ci95": {"p50": [480.0, 520.0], "p95": [720.0, 920.0]}},
        "error_rate": {"n": 100, "value": 0.0},
        "input_wer": {"n": 100, "value": 0.05, "ci95": {"value": [0.04, 0.06]}},
        "checks.pass_rate": {"n": 100, "value": 0.98},
    }
    return {**base, **over}


def limits(runs: list[dict[str, Any]]) -> dict[str, float]:
    found, _ = propose(runs)
    return {one.gate.split()[0]: float(one.gate.split()[2]) for one in found}


def test_runs_that_agree_are_given_the_room_that_their_samples_need() -> None:
    found = limits([metrics()] * 5)
    # 500 and 2.33 standard errors of about 10 ms each, and that of the mean of five.
    assert 520 <= found["ttfa_ms.p50"] <= 540
    assert 920 <= found["ttfa_ms.p95"] <= 1000
    assert 0.06 <= found["input_wer"] <= 0.066
    assert 0 < found["error_rate"] <= 0.03
    assert 0.92 <= found["checks.pass_rate"] < 0.98


def test_a_service_that_drifts_between_runs_is_given_more() -> None:
    runs = [
        metrics(ttfa_ms={"n": 100, "p50": p50, "ci95": {"p50": [p50 - 5, p50 + 5]}})
        for p50 in (400, 600, 450, 550, 500)
    ]
    assert limits(runs)["ttfa_ms.p50"] > 700


def test_a_night_without_a_change_rarely_misses_a_proposed_gate() -> None:
    chance = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        nights = chance.binomial(60, 0.02, 6)
        runs = [metrics(error_rate={"n": 60, "value": bad / 60}) for bad in nights[:5]]
        missed += nights[5] / 60 > limits(runs)["error_rate"]
    assert missed <= 8


def test_what_some_runs_did_not_measure_has_no_gate() -> None:
    runs = [metrics(), metrics(), metrics(ttfa_ms={"n": 9, "p50": 500.0, "p95": None})]
    found, left_out = propose(runs)
    assert not any(one.gate.startswith("ttfa_ms.p95") for one in found)
    assert left_out == ["no gate on ttfa_ms.p95: 1 of 3 runs have no such number"]


def times(p95: float, upper: float | None) -> dict[str, Any]:
    return metrics(ttfa_ms={"n": 30, "p95": p95, "ci95": {"p95": [p95 - 100, upper]}})


def test_what_scatters_nobody_knows_how_far_has_no_gate_and_the_copy_says_so() -> None:
    found, left_out = propose([times(1200.0, None)] * 3)
    assert not any(one.gate.startswith("ttfa_ms.p95") for one in found)
    (said,) = left_out
    assert said.startswith("no gate on ttfa_ms.p95: how far it scatters is unknown (all runs measured 1200, and 30")
    text = with_gates("target: {provider: simulator}\n", "n", found, ["r1"], left_out=left_out)
    assert f"# {said}\ngates:\n" in text


def test_the_scatter_is_taken_from_the_samples_that_tell_it() -> None:
    room = limits([times(1000.0, 1100.0)] * 3)["ttfa_ms.p95"]
    assert room > 1100
    assert 1080 < limits([times(1000.0, 1100.0), times(1000.0, None), times(1000.0, 1100.0)])["ttfa_ms.p95"] <= room
    exact = metrics(ttfa_ms={"n": 30, "p95": 1000.0, "ci95": {"p95": [1000.0, 1000.0]}})
    assert 1050 < limits([times(1000.0, 1100.0), times(1000.0, 1100.0), exact])["ttfa_ms.p95"] <= room


PROPOSALS = [Proposal("ttfa_ms.p50 <= 540", (500.0, 510.0), 30), Proposal("error_rate <= 0.02", (0.0, 0.0), 30)]
COPIES = [
    pytest.param(
        "target: {provider: simulator}\ngates:\n  - error_rate <= 1 # old\n\n# about the load\nload: {sessions: 2}\n",
        ["# about the load", "load: {sessions: 2}"],
        id="a list, with a comment of the next key",
    ),
    pytest.param("gates: [error_rate <= 1,\n  input_wer < 1]\ntarget: {provider: simulator}", ["target:"], id="flow"),
    pytest.param("target: {provider: simulator}\ngates: []\n", [], id="none, at the end"),
    pytest.param("target: {provider: simulator} # no gates", ["# no gates"], id="absent"),
    pytest.param(
        "name: own\ntarget: {provider: simulator}\ngates:\n- error_rate <= 1\n# end\n", ["name: own"], id="named"
    ),
]


@pytest.mark.parametrize(("text", "kept"), COPIES)
def test_the_copy_is_the_scenario_with_other_gates(tmp_path: Path, text: str, kept: list[str]) -> None:
    copy = with_gates(f"{text}\n" if "\ndataset" in text else f"dataset: d\n{text}\n", "night", PROPOSALS, ["r1", "r2"])
    (tmp_path / "s.yaml").write_text(copy)
    scenario = load_scenario(tmp_path / "s.yaml")
    assert scenario.all_gates == ("ttfa_ms.p50 <= 540", "error_rate <= 0.02")
    assert scenario.name == ("own" if "name: own" in text else "night")
    assert all(line in copy for line in kept)
    assert "old" not in copy
    assert "From 2 runs on" in copy
    assert "r1, r2" in copy
    assert "# 2 runs measured 500 to 510 (n 30 each)" in copy


FAST = f"""\
# a first night
target:
  provider: simulator
  behaviour: {{ttfa_ms: 30, speed: 100, transcription: {{delay_ms: 20}}}}
session: {{modalities: [audio], turn_detection: none, transcription: whisper-1}}
dataset: {{path: {SUPPORT}, ids: [yes-correct, lost-card]}}
conversation: {{wait_for_playback: false}}
load: {{sessions: 2, pacing: fast}}
limits: {{loop_lag_ms: 2000}}
"""


def test_a_scenario_is_run_several_times_and_copied(tmp_path: Path) -> None:
    scenario = tmp_path / "night.yaml"
    scenario.write_text(FAST)
    args = ["calibrate", str(scenario), "--repeats", "3", "--out", str(tmp_path / "reports"), "--no-progress"]
    result = RUNNER.invoke(app, [*args, "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert len(set(content["runs"])) == 3
    assert {run.name for run in (tmp_path / "reports" / "night").iterdir()} >= set(content["runs"])
    copy = load_scenario(content["path"])
    assert [gate.written() for gate in copy.gates or ()] == [gate["gate"] for gate in content["gates"]]
    assert any(gate.startswith("ttfa_ms.p50 <= ") for gate in copy.all_gates)
    assert Path(content["path"]).read_text().startswith("# a first night")
    assert scenario.read_text() == FAST
    # Nothing is written over, and nothing is run for it.
    again = RUNNER.invoke(app, args)
    assert again.exit_code == 2
    assert "is already there" in again.stderr
    elsewhere = RUNNER.invoke(app, [*args, "--write", str(tmp_path / "other" / "x.yaml")])
    assert elsewhere.exit_code == 2
    assert "must lie beside" in elsewhere.stderr


def test_a_share_that_was_never_missed_says_that_the_turns_set_its_limit() -> None:
    clean = {"error_rate": {"n": 30, "value": 0.0}, "checks.pass_rate": {"n": 30, "value": 1.0}}
    some = {"error_rate": {"n": 30, "value": 0.1}, "checks.pass_rate": {"n": 30, "value": 1.0}}
    assert [one.note for one in propose([clean] * 3)[0]] == [
        "so few turns cannot show less",
        "so few turns cannot show more",
    ]
    assert [one.note for one in propose([clean, clean, some])[0]] == ["", "so few turns cannot show more"]
    assert propose([clean] * 3)[0][0].comment == ("3 runs measured 0 to 0 (n 30 each); so few turns cannot show less")


def test_a_gate_that_nothing_could_miss_is_not_proposed() -> None:
    broken = {"error_rate": {"n": 30, "value": 1.0}, "checks.pass_rate": {"n": 30, "value": 0.0}}
    found, left_out = propose([broken] * 3)
    assert found == []
    assert left_out == [
        "no gate on error_rate: after 1 to 1 none is left that could be missed; error_rate <= 0.01, that of every "
        "scenario, stays",
        "no gate on checks.pass_rate: after 0 to 0 none is left that could be missed",
    ]


def test_the_copy_says_what_it_does_not_hold() -> None:
    beside = ["other values of a", "--limit 4"]
    text = with_gates("target: {provider: simulator}\n", "n", PROPOSALS, ["r1"], beside=beside)
    assert "# They were run with other values of a and --limit 4, from the command line" in text


REFUSED = [
    pytest.param(["--write", "night.yaml", "--force"], "the scenario itself, and not a copy", id="the scenario itself"),
    pytest.param(["--write", "folder", "--force"], "is already there", id="a folder"),
    pytest.param(["--write", "loop.yaml"], "is already there", id="a loop"),
    pytest.param(["--set", "load.sesions=2"], "did you mean", id="a wrong key"),
]


@pytest.mark.parametrize(("args", "message"), REFUSED)
def test_what_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.yaml").write_text(FAST)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    result = RUNNER.invoke(app, ["calibrate", "night.yaml", *args])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert (tmp_path / "night.yaml").read_text() == FAST
    assert not (tmp_path / "reports").exists()


def test_a_scenario_that_cannot_be_copied_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"{{target: {{provider: simulator}}, dataset: {SUPPORT},\ngates: []}}\n")
    result = RUNNER.invoke(app, ["calibrate", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "reports")])
    assert result.exit_code == 2
    assert "a copy of the scenario with other gates cannot be made" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.yaml"]


def test_a_run_that_does_not_end_well_ends_the_calibration_as_it_ended(tmp_path: Path) -> None:
    scenario = tmp_path / "night.yaml"
    scenario.write_text(FAST.replace("provider: simulator\n", "provider: custom\n  url: ws://127.0.0.1:9/\n"))
    result = RUNNER.invoke(app, ["calibrate", str(scenario), "--out", str(tmp_path / "reports"), "--no-progress"])
    assert result.exit_code == 3
    assert "ended refused: gates from it would say nothing" in result.stderr
    assert not (tmp_path / "night.calibrated.yaml").exists()
