"""Baselines: one small file, no word of what was said, and the same verdict from any copy of the run folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from rteval.analysis.compare import compare, doubt_of, pairing
from rteval.analysis.gates import Gate
from rteval.analysis.subject import baseline_of, baseline_text, subject_of_baseline
from rteval.baseline import FoundBaseline, find_baseline, find_subject, place_baseline, run_subject, save_baseline
from rteval.cli import app
from rteval.errors import RunFolderError, UsageError
from rteval.judge import judge
from rteval.rescore import rescore

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
    pytest.param({"facts": "x"}, "it is damaged", id="no facts"),
    pytest.param({"facts": {"dataset": "x"}}, "facts.dataset is no dict", id="a fact of another kind"),
    pytest.param({"facts": {"normalizers": 5}}, "facts.normalizers is no list", id="a list that is none"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [0], "top": ["1"]}}}, "values that are no numbers", id="a text"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [0], "top": [True]}}}, "values that are no numbers", id="a flag"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [-1], "top": [1]}}}, "not there", id="before the first"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [0], "top": [1], "bottom": 1}}}, "is not measured so", id="a ratio"),
    pytest.param({"metrics": {"error_rate": {"rows": [0], "top": [1]}}}, "is not measured so", id="no ratio"),
    pytest.param({"metrics": {"input_wer": {"rows": [0], "top": [1], "bottom": [-1]}}}, "not measured", id="less"),
    pytest.param({"metrics": {"input_wer": {"rows": [0], "top": [1], "bottom": [1, 1]}}}, "lengths", id="two bottoms"),
    pytest.param({"metrics": {"ttfa_ms": 5}}, "not of the shape of a baseline", id="a metric that is a number"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [10**30], "top": [1]}}}, "not there", id="a row beyond all integers"),
    pytest.param({"metrics": {"ttfa_ms": {"rows": [0.5], "top": [1]}}}, "not there", id="half a row"),
    pytest.param({"schema_version": "1"}, "it has schema_version '1'", id="a version in words"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGED)
def test_a_damaged_baseline_is_refused_in_a_sentence(nights: Path, tmp_path: Path, change: dict, message: str) -> None:
    file = save(nights, tmp_path / "b.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunFolderError) as raised:
        find_subject(str(file), nights)
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


NUMBERS = [
    pytest.param('"n":40', '"n":1000000000000', "of different lengths", id="more turns than memory"),
    pytest.param('"rows":null', '"rows":NaN', "is not JSON", id="NaN"),
    pytest.param('"bottom":1', '"bottom":1e999', "is not JSON", id="infinity"),
]


@pytest.mark.parametrize(("old", "new", "message"), NUMBERS)
def test_a_number_that_is_none_is_refused_in_a_sentence(
    nights: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = save(nights, tmp_path / "b.json")
    text = file.read_text()
    changed = text.replace(old, new, 1) if old in text else text.replace(old.replace(":", ": "), new, 1)
    assert changed != text
    file.write_text(changed)
    with pytest.raises(RunFolderError, match=message):
        find_subject(str(file), nights)


def test_a_metric_of_a_later_version_is_left_alone(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "b.json")
    content = json.loads(file.read_text())
    content["metrics"]["mood_ms"] = {"rows": None, "top": "whatever"}
    file.write_text(json.dumps(content))
    assert "mood_ms" not in find_subject(str(file), nights).observed


PLACES = [
    pytest.param("baseline.txt", "a baseline is called NAME.json", id="another ending"),
    pytest.param("summary.json", "a baseline is called NAME.json", id="a file of run folders"),
    pytest.param("package.json", "is there, and is no baseline", id="somebody else's file"),
    pytest.param("package.json/b.json", "cannot make the folder", id="a folder that is a file"),
    pytest.param("folder.json", "cannot write", id="a folder"),
    pytest.param("x" * 300 + ".json", "File name too long", id="a name that no file has"),
]


@pytest.mark.parametrize(("name", "message"), PLACES)
def test_a_baseline_is_not_written_anywhere(nights: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "package.json").write_text('{"name": "theirs"}')
    (tmp_path / "folder.json").mkdir()
    result = RUNNER.invoke(app, ["baseline", "save", "support/always", str(tmp_path / name), "--out", str(nights)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert (tmp_path / "package.json").read_text() == '{"name": "theirs"}'


def test_a_run_without_an_answer_is_no_baseline(make_night, reports: Path, tmp_path: Path) -> None:
    """Against an error rate of 100 %, no night would ever be red."""
    run_dir = make_night("silent", items=8, failing=range(8))
    with pytest.raises(UsageError, match=r"no turn of .* was ok"):
        save_baseline(str(run_dir), tmp_path / "b.json", reports)


SUMMARIES = [
    pytest.param("{}", "is damaged: state, exit_code", id="an empty summary"),
    pytest.param(None, "is damaged: health", id="no health"),
]


@pytest.mark.parametrize(("text", "message"), SUMMARIES)
def test_a_run_whose_verdict_cannot_be_read_is_not_taken_for_a_good_one(
    make_night, text: str | None, message: str
) -> None:
    run_dir = make_night("late", items=8, late_ms=90)
    whole = json.loads((run_dir / "summary.json").read_text())
    (run_dir / "summary.json").write_text(text or json.dumps({**whole, "health": None}))
    with pytest.raises(RunFolderError, match=message):
        run_subject(run_dir)


def test_a_score_that_is_no_number_is_a_sentence(make_night) -> None:
    run_dir = make_night("one", items=8)
    whole = json.loads((run_dir / "summary.json").read_text())
    whole["metrics"]["scorers.a.b"] = {"n": 8, "value": 1, "of": "session"}
    (run_dir / "summary.json").write_text(json.dumps(whole))
    with pytest.raises(RunFolderError, match="are not those of a run"):
        run_subject(run_dir)


def test_a_baseline_takes_the_place_of_an_older_one(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "b.json", "support/always")
    before = file.read_bytes()
    assert save(nights, file, "support/again").read_bytes() != before


def test_turns_outside_all_numbers_keep_their_sessions(nights: Path, tmp_path: Path) -> None:
    """The sessions of a warm-up are in no metric; taken for one, they would tie all their items together."""
    subject = run_subject(nights / "support" / "always")
    late = np.arange(40) >= 15
    cut = replace(subject, observed=subject.observed_on(late))
    again = subject_of_baseline(json.loads(baseline_text(baseline_of(cut))), "b")
    new = run_subject(nights / "support" / "again")
    assert pairing(again, new).shared == pairing(cut, new).shared == 40
    assert len(again.observed["ttfa_ms"].top) == 25


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


def test_a_run_cannot_be_its_own_baseline(nights: Path, tmp_path: Path) -> None:
    file = save(nights, tmp_path / "b.json", "support/slower")
    (result,) = judged(copy_of(nights / "support" / "slower", tmp_path), file, [SLOWER])["gates"]
    assert (result["verdict"], result["missed"]) == ("no_data", True)
    assert "this very run" in result["reason"]


def test_a_copy_of_the_baseline_that_went_away_is_no_pardon(nights: Path, tmp_path: Path) -> None:
    """``missing: skip`` forgives that there was none, not that nobody can see any more what it was."""
    run_dir = copy_of(nights / "support" / "slower", tmp_path)
    assert judged(run_dir, save(nights, tmp_path / "b.json"), [SLOWER], missing="skip")["exit_code"] == 1
    (run_dir / "baseline.json").unlink()
    summary = judge(run_dir, reports_written=False).summary
    assert (summary["exit_code"], summary["gates"][0]["verdict"]) == (1, "no_data")
    assert summary["gates"][0]["reason"] == "baseline.json is missing from the run folder"


def test_a_baseline_of_an_earlier_judgement_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "baseline.json").write_text("{}")
    about = place_baseline(FoundBaseline(None, {"file": "gone.json", "reason": "there is no baseline"}), tmp_path)
    assert about == {"file": "gone.json", "reason": "there is no baseline"}
    assert not (tmp_path / "baseline.json").exists()


def test_the_latest_run_is_the_latest_that_is_complete(make_night, reports: Path) -> None:
    """A night that measured itself would make the next one red as well."""
    scenario = SimpleNamespace(
        name="support",
        path=None,
        baseline=SimpleNamespace(run="latest", file=None, model_dump=lambda **_: {"run": "latest", "missing": "fail"}),
    )

    def found() -> str:
        baseline = find_baseline(scenario, reports)  # type: ignore[arg-type]
        assert baseline is not None
        return str(baseline.about["label"])

    make_night("first", seed=1)
    make_night("second", seed=2)
    assert found() == "second"
    make_night("third", seed=3, late_ms=90)
    assert found() == "second"


HOPELESS = [
    pytest.param({"invalid": True}, SLOWER, "the baseline is of an invalid run", id="invalid"),
    pytest.param({"invalid": True}, "error_rate <= baseline + 0.5", None, id="invalid, but errors are errors"),
    pytest.param({"metrics": 0}, SLOWER, "of other definitions (0, not 1)", id="definitions"),
    pytest.param({}, SLOWER, None, id="fit"),
]


@pytest.mark.parametrize(("facts", "gate", "why"), HOPELESS)
def test_a_baseline_that_will_decide_nothing_is_told_before_the_run(
    nights: Path, facts: dict, gate: str, why: str | None
) -> None:
    subject = run_subject(nights / "support" / "always")
    doubt = doubt_of(replace(subject, facts={**subject.facts, **facts}), Gate.parse(gate), 40)
    assert (doubt is None) if why is None else (doubt is not None and why in doubt)


@pytest.mark.parametrize("had", [True, False])
def test_a_run_judged_against_another_baseline_can_be_judged_against_its_own_again(
    had: bool, nights: Path, tmp_path: Path
) -> None:
    own, other = save(nights, tmp_path / "own.json"), save(nights, tmp_path / "other.json", "support/again")
    run_dir = copy_of(nights / "support" / "slower", tmp_path)
    before = judged(run_dir, own, [SLOWER]) if had else judge(run_dir).summary
    copy = run_dir / "baseline.json"
    kept = copy.read_bytes() if had else None
    scenario = tmp_path / "support.yaml"
    scenario.write_text(
        f"target: {{provider: simulator}}\ndataset: {tmp_path}\nbaseline: {{file: {other}}}\ngates: ['{SLOWER}']\n"
    )
    for _ in range(2):
        rescore(run_dir, scenario, say=print)
        assert copy.read_bytes() == other.read_bytes() != kept
    assert rescore(run_dir, None, say=print).summary == before
    assert (copy.read_bytes() if copy.exists() else None) == kept
    assert not list(run_dir.glob("baseline.as-run*"))
