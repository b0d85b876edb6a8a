"""Baselines: one small file, no word of what was said, and the same verdict from any copy of the run folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rteval.analysis.compare import compare
from rteval.baseline import find_subject, run_subject, save_baseline
from rteval.cli import app
from rteval.errors import RunFolderError, UsageError
from rteval.judge import judge

RUNNER = CliRunner()
SLOWER = "ttfa_ms.p95 < baseline * 1.10"


def save(nights: Path, file: Path, run: str = "support/always") -> Path:
    result = RUNNER.invoke(app, ["baseline", "save", run, str(file), "--out", str(nights)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(file)
    return file


def test_a_baseline_compares_as_the_run_that_it_was_made_of(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "base" / "support.json")
    new = run_subject(nights / "support" / "slower")
    by_file = compare(find_subject(str(file), nights), new)
    by_run = compare(run_subject(nights / "support" / "always"), new)
    assert by_file.unfair == by_run.unfair == ()
    for one, other in zip(by_file.rows, by_run.rows, strict=True):
        assert (one.name, one.outcome, one.paired, one.n_base) == (
            other.name,
            other.outcome,
            other.paired,
            other.n_base,
        )
        assert one.difference == pytest.approx(other.difference, rel=1e-4, abs=1e-6)


def test_a_baseline_is_small_and_holds_no_transcript(nights: Path, tmp_path: Path) -> None:
    text = save(nights, tmp_path / "b.json").read_text()
    assert "parcel" not in text
    assert "please hold" not in text
    assert "127.0.0.1" not in text
    assert len(text) < 20_000
    assert len(text.splitlines()) > 15  # a review sees which metric changed
    content = json.loads(text)
    assert content["facts"]["dataset"] == {"name": "d", "hash": "d1"}
    assert set(content["turns"]["columns"]) >= {"worker", "meta_accent"}


def test_the_same_run_gives_the_same_bytes(nights: Path, tmp_path: Path) -> None:
    assert save(nights, tmp_path / "a.json").read_bytes() == save(nights, tmp_path / "b.json").read_bytes()


def test_a_run_that_is_not_complete_is_no_baseline_unless_forced(make_night, reports: Path, tmp_path: Path) -> None:
    run_dir = make_night("late", late_ms=90)
    with pytest.raises(UsageError, match="is invalid"):
        save_baseline(str(run_dir), tmp_path / "b.json", reports)
    assert save_baseline(str(run_dir), tmp_path / "b.json", reports, force=True) > 100


DAMAGED = [
    pytest.param({"kind": "other"}, "it is no baseline of rteval", id="another file"),
    pytest.param({"schema_version": 9}, "it has schema_version 9", id="a later version"),
    pytest.param({"turns": {}}, "it is damaged", id="no turns"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [0], "top": ["x"]}}}, "it is damaged", id="no numbers"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [0, 1], "top": [1.0]}}}, "of different lengths", id="lengths"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [900], "top": [1.0]}}}, "it is damaged", id="no such row"),
    pytest.param({"metrics": {"connect_ms": {"session": [1], "top": []}}}, "of different lengths", id="sessions"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": None, "top": [None] * 40}}}, "it is damaged", id="null"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGED)
def test_a_damaged_baseline_is_refused_in_a_sentence(nights: Path, tmp_path: Path, change: dict, message: str) -> None:
    file = save(nights, tmp_path / "b.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunFolderError) as raised:
        find_subject(str(file), nights)
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


# ---- gates against one ----


def judged(run_dir: Path, baseline: Path | None, gates: list, **said: object) -> dict:
    run = json.loads((run_dir / "run.json").read_text())
    run |= {"gates": gates, "baseline": {"file": "b.json", "missing": "fail", "label": "b", **said}}
    (run_dir / "run.json").write_text(json.dumps(run))
    if baseline is not None:
        shutil.copy(baseline, run_dir / "baseline.json")
    return judge(run_dir, reports_written=False).summary


def copy_of(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "copy" / "support" / run_dir.name))


NIGHTS = [
    pytest.param("again", SLOWER, "pass", 0, id="the same again"),
    pytest.param("slower", SLOWER, "fail", 1, id="a third slower"),
    pytest.param("deaf", SLOWER, "pass", 0, id="mishearing is not slower"),
    pytest.param("deaf", "input_wer <= baseline + 0.02", "fail", 1, id="mishearing"),
    pytest.param("again", "input_wer <= baseline + 0.02", "pass", 0, id="hearing as always"),
    pytest.param("again", "error_rate <= baseline + 0.01", "pass", 0, id="no failures on both sides"),
    pytest.param("again", "session_ready_ms.p50 < baseline * 1.5", "pass", 0, id="sessions"),
    pytest.param(
        "slower", {"gate": SLOWER, "where": {"tag": "sales"}, "severity": "warn"}, "fail", 0, id="some turns, a warning"
    ),
]


@pytest.mark.parametrize(("night", "gate", "verdict", "code"), NIGHTS)
def test_a_night_is_held_against_its_baseline(
    nights: Path, tmp_path: Path, night: str, gate: object, verdict: str, code: int
) -> None:
    file = save(nights, tmp_path / "b.json")
    summary = judged(copy_of(nights / "support" / night, tmp_path), file, [gate])
    (result,) = summary["gates"]
    assert (result["verdict"], summary["exit_code"]) == (verdict, code), result
    assert result["baseline_n"] == (20 if isinstance(gate, dict) else 40)


def test_the_verdict_comes_out_again_from_the_folder_alone(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "b.json")
    run_dir = copy_of(nights / "support" / "slower", tmp_path)
    first = judged(run_dir, file, [SLOWER, {"gate": "ttfa_ms.p50 < 9000", "confidence": 0.95}])
    file.unlink()
    moved = Path(shutil.move(run_dir, tmp_path / "elsewhere"))
    again = judge(moved).summary
    assert again["gates"] == first["gates"]
    assert [gate["verdict"] for gate in again["gates"]] == ["fail", "pass"]
    # A person reads it in every report.
    assert "the baseline's" in (moved / "summary.md").read_text()
    assert "allowed is" in (moved / "junit.xml").read_text()


def test_without_a_baseline_a_gate_fails_or_is_let_be(nights: Path, tmp_path: Path) -> None:
    run_dir = copy_of(nights / "support" / "again", tmp_path)
    failed = judged(run_dir, None, [SLOWER], reason="there is no baseline file b.json")
    assert (failed["gates"][0]["verdict"], failed["exit_code"]) == ("no_data", 1)
    assert failed["gates"][0]["reason"] == "there is no baseline file b.json"
    skipped = judged(run_dir, None, [SLOWER], missing="skip", reason="none yet")
    assert (skipped["gates"][0]["verdict"], skipped["gates"][0]["missed"], skipped["exit_code"]) == (
        "no_data",
        False,
        0,
    )


UNLIKE = [
    pytest.param({"normalizers": ["none"]}, "input_wer <= baseline", "other normalisers", id="normaliser"),
    pytest.param({"metrics": 0}, SLOWER, "defined differently", id="definitions"),
    pytest.param({"invalid": True}, SLOWER, "the generator was the bottleneck in", id="invalid"),
    pytest.param({"load": {"pacing": "fast"}}, SLOWER, "other pacing", id="pacing"),
]


@pytest.mark.parametrize(("facts", "gate", "why"), UNLIKE)
def test_a_baseline_of_another_kind_decides_nothing(
    nights: Path, tmp_path: Path, facts: dict, gate: str, why: str
) -> None:
    file = save(nights, tmp_path / "b.json")
    content = json.loads(file.read_text())
    content["facts"] |= facts
    file.write_text(json.dumps(content))
    (result,) = judged(copy_of(nights / "support" / "again", tmp_path), file, [gate])["gates"]
    assert result["verdict"] == "no_data"
    assert why in result["reason"]


def test_what_else_differs_from_the_baseline_stands_beside_the_verdict(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "b.json")
    content = json.loads(file.read_text())
    content["facts"] |= {"dialect": "preview", "dataset": {"name": "d", "hash": "older"}}
    file.write_text(json.dumps(content))
    for night, key in (("again", "note"), ("slower", "reason")):
        (result,) = judged(copy_of(nights / "support" / night, tmp_path), file, [SLOWER])["gates"]
        assert "not fair: other datasets (hashes differ): 40 items are in both" in result[key]
        assert "other dialects: preview and ga" in result[key]


def test_a_metric_that_the_baseline_does_not_have_is_named(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "b.json")
    content = json.loads(file.read_text())
    del content["metrics"]["input_wer"]
    file.write_text(json.dumps(content))
    run_dir = copy_of(nights / "support" / "again", tmp_path)
    (result,) = judged(run_dir, file, ["input_wer <= baseline"])["gates"]
    assert result["reason"] == "the baseline has no input_wer (n 0)"


def test_a_damaged_copy_in_the_folder_is_named(nights: Path, tmp_path: Path) -> None:
    run_dir = copy_of(nights / "support" / "again", tmp_path)
    (run_dir / "baseline.json").write_text('{"kind": 1}')
    with pytest.raises(RunFolderError, match=r"baseline\.json: it is no baseline"):
        judge(run_dir)
