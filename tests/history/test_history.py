"""``rteval history``: which runs it compares, that its numbers are theirs, and what it says of those it leaves out."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rteval.analysis.history import RunTables, intervals_of_runs, split_name
from rteval.cli import app
from rteval.errors import UsageError
from rteval.history import HEADLINES, read_history
from rteval.judge import judge
from rteval.reporting.history_text import sparkline
from rteval.shards import ShardWriter


def call(*arguments: Any, **env: str) -> Result:
    known = {"NO_COLOR": "1", "COLUMNS": "220", "TERM": "dumb"}
    return CliRunner().invoke(app, ["history", *map(str, arguments)], env=known | env)


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


# ---- numbers ----


def test_every_number_is_the_one_in_the_summary_and_lies_in_its_interval(nights: Path) -> None:
    (scenario,) = read_history(nights).as_dict()["scenarios"]
    assert [run["started_at"][8:10] for run in scenario["runs"]] == [f"{day:02d}" for day in range(1, 9)]
    assert {"ttfa_ms.p95", "error_rate", "input_wer", "v2v_ms.p50", "checks.pass_rate"} <= set(scenario["metrics"])
    for run in scenario["runs"]:
        metrics = summary_of(Path(run["run_dir"]))["metrics"]
        for name, point in run["metrics"].items():
            metric, stat = split_name(name)
            assert (point["value"], point["n"]) == (metrics[metric][stat], metrics[metric]["n"])
            assert point["low"] is not None, name
            assert point["low"] <= point["value"] <= (math.inf if point["high"] is None else point["high"])


EVERY = [
    *(f"{name}.p50" for name in ("ttfa_ms", "ttft_ms", "wait_ms", "connect_ms", "session_ready_ms")),
    *("error_rate", "throttle_rate", "transcript_missing_rate", "input_wer", "input_cer", "checks.contains"),
]


def test_the_query_counts_the_turns_that_the_judge_counts(night) -> None:
    """Warm-up by mark and by time, failed and cut turns: an interval is given only to the very same number."""
    folder = night(3, failed=4, warm_turns=7)
    metrics = summary_of(folder)["metrics"]
    values = {name: metrics[split_name(name)[0]][split_name(name)[1]] for name in EVERY}
    found = intervals_of_runs([RunTables(folder)], {folder: values})[folder]
    assert {name for name in EVERY if values[name] is not None} == set(found)


def test_a_number_of_another_definition_has_no_interval(nights: Path) -> None:
    folder = nights / "support" / "20261101-030000-ab12"
    found = intervals_of_runs([RunTables(folder)], {folder: {"ttfa_ms.p50": 1.0, "input_wer": None, "no.such": 3.0}})
    assert found == {folder: {}}


def test_a_run_of_few_sessions_has_numbers_and_no_intervals(night) -> None:
    (scenario,) = read_history(night(1, turns=4).parents[1]).as_dict()["scenarios"]
    assert all(point["low"] is None is point["high"] for run in scenario["runs"] for point in run["metrics"].values())
    assert scenario["runs"][0]["metrics"]["ttfa_ms.p50"]["value"] is not None


def test_gates_draw_their_limit_of_each_night(some) -> None:
    told = [
        [gate("ttfa_ms.p95", "< 1500", 1500)],
        [gate("ttfa_ms.p95", "< baseline * 1.1", 1188.5), gate("ttfa_ms.p95", "< 9", 9, where=[["tag", "a"]])],
        [gate("ttfa_ms.p95", "< baseline", None)],
    ]
    folders = some(3)
    for folder, gates in zip(folders, told, strict=True):
        (folder / "summary.json").write_text(json.dumps(summary_of(folder) | {"gates": gates}))
    (scenario,) = read_history(folders[0].parents[1]).as_dict()["scenarios"]
    assert scenario["metrics"] == [*HEADLINES[:6], HEADLINES[7]]
    limits = [
        [(line["op"], line["limit"]) for line in run["metrics"]["ttfa_ms.p95"]["limits"]] for run in scenario["runs"]
    ]
    assert limits == [[("<", 1500)], [("<", 1188.5)], []]


def gate(metric: str, condition: str, limit: float | None, **over: Any) -> dict[str, Any]:
    return {"text": f"{metric} {condition}", "metric": metric, "limit": limit, "verdict": "pass", **over}


def test_a_run_whose_generator_was_late_has_no_time_and_keeps_its_words(some) -> None:
    (folder,) = some(1)
    summary = summary_of(folder)
    (folder / "summary.json").write_text(json.dumps(summary | {"state": "invalid", "exit_code": 4}))
    (scenario,) = read_history(folder.parents[1]).as_dict()["scenarios"]
    metrics = scenario["runs"][0]["metrics"]
    assert (metrics["ttfa_ms.p50"]["invalid"], metrics["input_wer"]["invalid"]) == (True, False)


# ---- which runs ----


def test_what_is_left_out_is_counted_with_its_reason(some, night) -> None:
    good, broken, torn, damaged, later, unjudged = some(6)
    reports = good.parents[1]
    (broken / "run.json").write_text("{")
    (torn / "turns.parquet").write_bytes(b"PAR1 no more")
    (damaged / "summary.json").write_text('{"exit_code": "1"}')
    (later / "run.json").write_text('{"schema_version": 99}')
    (unjudged / "summary.json").unlink()
    night(2, name="prompts", judged=False)
    going = night(8, judged=False)
    with ShardWriter(going, "w1"):
        found = read_history(reports, "support").as_dict()
    (scenario,) = found["scenarios"]
    assert [run["run_dir"] for run in scenario["runs"]] == [str(good)]
    reasons = {entry["reason"]: (entry["count"], entry["runs"]) for entry in found["left_out"]}
    assert reasons["of another scenario"][0] == 1
    assert reasons["still running"] == (1, [str(going)])
    assert reasons["never judged (`rteval report RUN` does it)"] == (1, [str(unjudged)])
    others = [reason for reason in reasons if reason.startswith("broken: ")]
    assert any("run.json is not JSON" in reason for reason in others)
    assert any("turns.parquet cannot be read" in reason for reason in others)
    assert any("summary.json is damaged: exit_code, state" in reason for reason in others)
    assert any("schema_version 99" in reason for reason in others)
    assert sum(count for count, _ in reasons.values()) == 7


def test_runs_that_are_broken_alike_are_counted_together(some) -> None:
    good, *others = some(6)
    for folder in others:
        (folder / "sessions.parquet").unlink()
    (entry,) = read_history(good.parents[1]).as_dict()["left_out"]
    assert (entry["reason"], entry["count"], len(entry["runs"])) == ("broken: sessions.parquet is missing", 5, 3)


def test_a_scenario_is_known_by_name_file_and_folder(nights: Path) -> None:
    for said in ("support", "scenarios/support.yaml", str(nights / "support")):
        assert list(read_history(nights, said).scenarios) == ["support"]


def test_last_keeps_the_newest(nights: Path) -> None:
    (scenario,) = read_history(nights, last=2).as_dict()["scenarios"]
    assert [run["started_at"][8:10] for run in scenario["runs"]] == ["07", "08"]


def test_a_folder_whose_name_is_a_pattern_is_one_folder(nights: Path, tmp_path: Path) -> None:
    reports = tmp_path / "a[b]*'c"
    shutil.copytree(nights / "support" / "20261101-030000-ab12", reports / "support" / "20261101-030000-ab12")
    (scenario,) = read_history(reports).as_dict()["scenarios"]
    assert scenario["runs"][0]["metrics"]["input_wer"]["low"] is not None


def test_a_run_without_a_column_that_others_have_does_not_spoil_them(night, some) -> None:
    (other,) = some(1)
    reports = night(0, scoring={"normalizer": "whisper_english", "wer": False}).parents[1]
    assert other.parents[1] == reports
    first, second = read_history(reports).as_dict()["scenarios"][0]["runs"]
    assert first["metrics"]["input_wer"]["value"] is None
    assert first["metrics"]["ttfa_ms.p50"]["low"] is not None
    assert second["metrics"]["input_wer"]["low"] is not None


FAULTS = [
    pytest.param({"metrics": ["ttfa"]}, "no metric is called that; did you mean 'ttfa_ms'?", id="unknown metric"),
    pytest.param({"metrics": ["ttfa_ms.p96"]}, "no statistic is called 'p96'", id="unknown statistic"),
    pytest.param({"metrics": ["input_wer.p95"]}, "input_wer is one value; leave out '.p95'", id="no statistics"),
    pytest.param({"scenario": "suport"}, "no finished run of 'suport' is under", id="unknown scenario"),
]


@pytest.mark.parametrize(("asked", "sentence"), FAULTS)
def test_what_cannot_be_shown_is_a_sentence(asked: dict[str, Any], sentence: str, nights: Path) -> None:
    with pytest.raises(UsageError, match=sentence.replace("?", r"\?").replace(".", r"\.")):
        read_history(nights, **asked)


def test_a_metric_without_a_statistic_is_its_middle_and_its_tail(nights: Path) -> None:
    history = read_history(nights, metrics=["response_ms", "input_cer", "output_wer"])
    assert history.scenarios["support"]["metrics"] == ["response_ms.p50", "response_ms.p95", "input_cer"]
    assert history.notes == ["support: no run measured output_wer"]


def test_a_share_of_good_turns_has_the_interval_of_its_summary(night) -> None:
    folder = night(1, slo={"ttfa_ms": 900})
    (scenario,) = read_history(folder.parents[1], metrics=["goodput_share"]).as_dict()["scenarios"]
    point = scenario["runs"][0]["metrics"]["goodput_share"]
    assert [point["low"], point["high"]] == summary_of(folder)["metrics"]["goodput_share"]["ci95"]["value"]


DAMAGED = [
    pytest.param({"culprit": {"who": "model"}}, "culprit", id="half a culprit"),
    pytest.param({"culprit": "the model"}, "culprit", id="a culprit in words"),
    pytest.param({"gates": [{"verdict": ["pass"]}]}, "gates", id="a verdict that is a list"),
    pytest.param({"metrics": {"ttfa_ms": 5}}, "metrics.ttfa_ms", id="a metric that is a number"),
]


@pytest.mark.parametrize(("change", "what"), DAMAGED)
def test_a_damaged_summary_is_left_out_and_named(change: dict[str, Any], what: str, some) -> None:
    (folder,) = some(1)
    (folder / "summary.json").write_text(json.dumps(summary_of(folder) | change))
    assert list(read_history(folder.parents[1]).left_out) == [f"broken: summary.json is damaged: {what}"]


# ---- the command ----


def test_the_terminal_shows_trend_interval_gate_and_verdict(nights: Path) -> None:
    result = call("support", "--out", nights)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("support: 8 runs, 2026-11-01 to 2026-11-08; the last one: PASS: all 3 gates hold")
    (trend,) = [line for line in lines if line.startswith("│ ttfa_ms.p95")]
    assert "█" in trend
    assert ">= " in trend  # 40 turns do not bound a p95 from above
    assert "< 1200 ms" in trend
    (slow,) = [line for line in lines if "2026-11-05" in line]
    assert "FAIL" in slow
    assert "model" in slow
    assert "commit=c0000005" in slow
    (lossy,) = [line for line in lines if "2026-11-07" in line]
    assert "target" in lossy


def test_a_run_that_was_not_like_the_last_one_says_in_what(night, tmp_path: Path) -> None:
    night(1, turns=12)
    night(2, dataset={"path": "d", "name": "d", "hash": "other"})
    night(3, load={"model": "closed", "peak": 9}, scoring={"normalizer": "whisper_basic", "wer": True})
    night(4)
    night(5)
    found = json.loads(call("--out", tmp_path / "reports", "--json").stdout)
    few, other, loaded, *same = [run["unlike_last"] for run in found["scenarios"][0]["runs"]]
    assert few == ["other numbers of planned turns: 12 and 40"]
    assert other == ["other datasets (hashes differ)"]
    assert loaded == [
        "other normalisers: whisper_basic and whisper_english",
        "other load: closed, up to 9 sessions; and unknown, up to none sessions",
    ]
    assert same == [[], []]
    lines = call("--out", tmp_path / "reports", "--metric", "ttfa_ms.p50").stdout.splitlines()
    # A trial is no part of the trend.
    (trend,) = [line for line in lines if line.startswith("│ ttfa_ms.p50")]
    assert len(trend.split("│")[2].strip()) == 2
    assert [line.split()[5] for line in lines if line.startswith("│ 2026")] == ["*", "*", "*", "│", "│"]
    assert "* 1 run is not like the last one: other datasets (hashes differ)" in lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to offer")
def test_a_full_disk_is_a_sentence_and_a_reader_that_left_is_none(nights: Path) -> None:
    command = [sys.executable, "-m", "rteval", "history", "--out", str(nights)]
    with open("/dev/full", "wb") as full:
        filled = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert filled.returncode == 2
    assert filled.stderr.startswith("error: cannot write to stdout: ")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.stderr.read() == ""
    assert left.returncode == 0


def test_json_on_stdout_is_one_object(nights: Path) -> None:
    result = call("--out", nights, "--metric", "error_rate", "--last", 1, "--json")
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    assert found["scenarios"][0]["runs"][0]["metrics"].keys() == {"error_rate"}
    told = {"text": "ttfa_ms.p95 < 1200", "verdict": "pass", "missed": False}
    assert found["scenarios"][0]["runs"][0]["gates"][0] == told


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    assert "there is no finished run" in call("--out", tmp_path).stdout
    missing = call("--out", tmp_path / "none")
    assert missing.exit_code == 2
    assert "there is no folder" in missing.stderr


def test_the_history_of_a_moved_folder_is_the_same(nights: Path, tmp_path: Path) -> None:
    shutil.copytree(nights, tmp_path / "copy")
    for folder in sorted((tmp_path / "copy" / "support").glob("2*"))[:2]:
        judge(folder, reports_written=False)
    here, there = (json.dumps(read_history(out).as_dict()) for out in (nights, tmp_path / "copy"))
    assert here == there.replace(str(tmp_path / "copy"), str(nights))


SPARKS = [
    pytest.param([1.0, 2.0, None, 8.0], "▁▂ █", id="a gap is a gap"),
    pytest.param([5.0, 5.0], "▄▄", id="no change"),
    pytest.param([None], "", id="nothing"),
]


@pytest.mark.parametrize(("values", "line"), SPARKS)
def test_a_sparkline_runs_from_the_lowest_to_the_highest(values: list[float | None], line: str) -> None:
    assert sparkline(values) == line
