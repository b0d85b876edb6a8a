"""`baseline` and gates that say more: read, refused with place and cure, and looked at before anything connects."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from rteval.cli import app
from rteval.errors import GateError
from rteval.prepare import RunOptions, prepare
from rteval.scorers import Metric, Scored, Scorer, registry

RUNNER = CliRunner()
SUPPORT = Path(__file__).parents[2] / "datasets" / "support"


def test_a_gate_may_be_a_mapping(load):
    scenario = load(
        "gates:\n- {gate: ttfa_ms.p95 < 1200, confidence: 0.9, where: {tag: [a, b], vip: true}}\n"
        "- input_wer <= baseline\n"
    )
    assert scenario.all_gates == (
        {"gate": "ttfa_ms.p95 < 1200", "confidence": 0.9, "where": {"tag": ["a", "b"], "vip": True}},
        "input_wer <= baseline",
        "error_rate <= 0.01",
    )
    json.dumps(scenario.resolved())


DEFAULT = [
    pytest.param("{gate: error_rate <= 0.05}", 1, id="a mapping names it"),
    pytest.param("{gate: error_rate <= 0.05, severity: warn}", 2, id="a warning does not stand for it"),
    pytest.param("{gate: error_rate <= 0.05, where: {tag: a}}", 2, id="nor does one of some turns"),
]


@pytest.mark.parametrize(("gate", "gates"), DEFAULT)
def test_the_default_gate_stays_unless_one_takes_its_place(load, gate, gates):
    assert len(load(f"gates: [{gate}]").all_gates) == gates


def test_a_baseline_file_lies_beside_the_scenario(load, tmp_path):
    scenario = load("baseline: {file: base/support.json, missing: skip}")
    assert scenario.baseline.file == str(tmp_path / "base" / "support.json")
    assert load("baseline: {run: latest}").baseline.missing == "fail"


def test_what_a_run_is_held_against_does_not_make_it_another(load):
    assert load("baseline: {file: b.json}", name="a.yaml").hash == load("", name="a.yaml").hash


WRONG = [
    pytest.param("baseline: {run: a, file: b}", "baseline: names either a run or a file", id="both"),
    pytest.param("baseline: {missing: skip}", "baseline: names either a run or a file", id="neither"),
    pytest.param("baseline: {file: b, missing: ignore}", "baseline.missing", id="missing"),
    pytest.param("gates: [{gate: error_rate < 1, min: 3}]", "gates[0]", id="option"),
    pytest.param("gates: [{gate: error_rate < 1, confidence: 95}]", "confidence", id="confidence"),
    pytest.param("gates: [{severity: warn}]", "gates[0]", id="no gate"),
]


@pytest.mark.parametrize(("text", "key"), WRONG)
def test_a_wrong_key_is_named_with_its_line(problems, text, key):
    (problem,) = problems(text)
    assert problem.startswith("support.yaml:1: ")
    assert key in problem


# ---- with the dataset ----


def prepared(tmp_path, text, **options):
    path = tmp_path / "s.yaml"
    head = f"target: {{provider: simulator}}\nsession: {{transcription: whisper-1}}\ndataset: {SUPPORT}\n"
    path.write_text(head + text, encoding="utf-8")
    return prepare(path, RunOptions(out=tmp_path / "reports", **options))


IMPOSSIBLE = [
    pytest.param(
        "gates: [input_wer <= baseline + 0.02]", "gates[0]: gate 'input_wer <= baseline + 0.02': the", id="none"
    ),
    pytest.param("gates: [{gate: error_rate < 1, where: {tag: name}}]", "did you mean 'names'?", id="tag"),
    pytest.param("gates: [{gate: error_rate < 1, where: {voic: x}}]", "did you mean 'voice'?", id="column"),
    pytest.param("gates: [{gate: error_rate < 1, where: {item: lost-cart}}]", "did you mean 'lost-card'?", id="item"),
]


@pytest.mark.parametrize(("text", "message"), IMPOSSIBLE)
def test_a_gate_that_no_turn_could_meet_is_refused(tmp_path, text, message):
    with pytest.raises(GateError) as raised:
        prepared(tmp_path, text)
    assert message in str(raised.value)
    assert "s.yaml:4" in str(raised.value)


UNDECIDABLE = [
    pytest.param(
        "{gate: error_rate <= 0.01, confidence: 0.95}", "cannot pass below 381 turns, 30 are planned", id="share"
    ),
    pytest.param("{gate: ttfa_ms.p95 < 900, confidence: 0.95}", "cannot pass below 72 turns, 30 are planned", id="p95"),
    pytest.param("{gate: ttfa_ms.p50 < 900, min_n: 50}", "p50 needs 50 turns, 30 are planned", id="min_n"),
    pytest.param(
        "{gate: ttfa_ms.p95 < 900, where: {item: lost-card}}", "p95 needs 20 turns, 1 are planned", id="where"
    ),
    pytest.param("{gate: ttfa_ms.p95 < 900, where: {language: xx}}", "p95 needs 20 turns, 0 are planned", id="nobody"),
    pytest.param("ttfa_ms.p50 < baseline", "there is no baseline file", id="no baseline"),
    pytest.param(
        "{gate: ttfa_ms.p99 < 900, inconclusive: pass}",
        "p99 needs 100 turns, 30",
        id="what is open passes, not nothing",
    ),
    pytest.param("{gate: ttfa_ms.p50 < baseline, inconclusive: pass}", "there is no baseline file", id="nor without"),
]


@pytest.mark.parametrize(("gate", "why"), UNDECIDABLE)
def test_check_refuses_what_the_planned_turns_cannot_decide(tmp_path, gate, why):
    found = prepared(tmp_path, f"baseline: {{file: b.json}}\ngates: [error_rate < 1, {gate}]")
    (doubt,) = found.refused_gates
    assert why in doubt
    result = RUNNER.invoke(app, ["check", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "reports")])
    assert result.exit_code == 2
    assert "but 1 of its gates cannot be decided" in result.stdout
    assert why in result.stdout


SESSIONS = [
    pytest.param("session_ready_ms.p95 < 900", "p95 needs 20 sessions, 4 are planned", id="of sessions"),
    pytest.param("{gate: ttfa_ms.p50 < 900, confidence: 0.9}", "needs 5 sessions, 4 are planned", id="an interval"),
]


@pytest.mark.parametrize(("gate", "why"), SESSIONS)
def test_check_refuses_what_the_planned_sessions_cannot_decide(tmp_path, gate, why):
    found = prepared(tmp_path, f"conversation: {{items_per_session: 10}}\ngates: [error_rate < 1, {gate}]")
    assert why in found.refused_gates[0]


MILD = [
    pytest.param("{gate: ttfa_ms.p95 < 900, confidence: 0.95, severity: warn}", id="a warning"),
    pytest.param("{gate: ttfa_ms.p95 < 900, confidence: 0.95, inconclusive: pass}", id="what is open passes"),
]


@pytest.mark.parametrize("gate", MILD)
def test_check_only_warns_of_what_does_not_decide(tmp_path, gate):
    found = prepared(tmp_path, f"gates: [{gate}]")
    assert (len(found.doubtful_gates), found.refused_gates) == (1, [])


DECIDABLE = [
    pytest.param("{gate: ttfa_ms.p50 < 900, confidence: 0.95}", id="median"),
    pytest.param("{gate: error_rate < 1, where: {worker: w1}}", id="what only the run will know"),
    pytest.param("{gate: ttfa_ms.p50 < 900, min_n: 30}", id="just enough"),
    pytest.param("ttfa_ms.p95 < 900", id="plain"),
]


@pytest.mark.parametrize("gate", DECIDABLE)
def test_check_takes_what_can_be_decided(tmp_path, gate):
    assert prepared(tmp_path, f"gates: [{gate}]").doubtful_gates == []


def test_a_first_night_may_have_no_baseline(tmp_path):
    text = "baseline: {file: b.json, missing: skip}\ngates: [ttfa_ms.p50 < baseline * 1.1]"
    assert prepared(tmp_path, text).doubtful_gates == []


def baseline(values, errors=None):
    n = len(values)
    metrics = {"ttfa_ms": {"rows": None, "top": values}}
    metrics["error_rate"] = {"rows": None, "top": errors or [0] * n, "bottom": 1}
    turns = {
        "n": n,
        "item": {"levels": ["a"], "codes": [0] * n},
        "session": list(range(n)),
        "tags": None,
        "columns": {},
    }
    return {"kind": "rteval baseline", "schema_version": 1, "facts": {}, "turns": turns, "metrics": metrics}


AGAINST = [
    pytest.param("ttfa_ms.p50 < baseline * 1.1", None, id="close values"),
    pytest.param("error_rate <= baseline + 0.01", "would mostly not show in 30 turns", id="a share of few turns"),
    pytest.param("ttfa_ms.p99 < baseline * 1.1", "p99 needs 100 turns", id="p99"),
    pytest.param("input_wer <= baseline + 0.01", "the baseline has no input_wer", id="not in the baseline"),
    pytest.param("{gate: ttfa_ms.p50 < baseline, min_n: 25}", None, id="enough"),
]


@pytest.mark.parametrize(("gate", "why"), AGAINST)
def test_a_baseline_tells_what_the_planned_turns_would_show(tmp_path, gate, why):
    (tmp_path / "b.json").write_text(json.dumps(baseline([500 + n % 7 for n in range(40)])))
    doubts = prepared(tmp_path, f"baseline: {{file: b.json}}\ngates: [error_rate < 1, {gate}]").doubtful_gates
    assert [why in doubt for doubt in doubts] == ([True] if why else [])


def test_a_baseline_of_too_few_sessions_decides_nothing(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps(baseline([500, 600, 700])))
    gates = "error_rate < 1, ttfa_ms.p50 < baseline, {gate: error_rate < baseline, min_n: 9}"
    text = f"baseline: {{file: b.json}}\ngates: [{gates}]"
    found = prepared(tmp_path, text).doubtful_gates
    assert "comes from too few sessions to be compared with (n 3)" in found[0]
    assert "the baseline has n 3 of at least 9 (min_n)" in found[1]


class Loudness(Scorer):
    metrics: ClassVar = {"peak": Metric("loudest answer"), "mean": Metric("mean", of="level")}

    def score(self, turns, run, options):
        return Scored()


@pytest.fixture
def loudness(monkeypatch):
    monkeypatch.setitem(registry.OURS, "loudness", "loudness:Loudness")
    monkeypatch.setitem(sys.modules, "loudness", SimpleNamespace(Loudness=Loudness))


@pytest.mark.usefixtures("loudness")
def test_a_gate_that_its_scorer_cannot_serve_is_refused_before_the_run(tmp_path):
    text = "scoring: {{scorers: {{loudness: {{}}}}}}\ngates: [{{gate: scorers.loudness.{} >= 0, confidence: 0.9}}]"
    assert prepared(tmp_path, text.format("mean")).gates[0].confidence == 0.9
    with pytest.raises(GateError, match=r"s\.yaml:5: .* whole run only, and confidence needs those of single turns"):
        prepared(tmp_path, text.format("peak"))


FEW = [
    pytest.param(7, "technical", "its interval needs 5 sessions, 4 are planned", id="few sessions hold such items"),
    pytest.param(5, "technical", None, id="enough of them do"),
]


@pytest.mark.parametrize(("size", "tag", "why"), FEW)
def test_a_gate_on_some_turns_needs_sessions_that_hold_them(tmp_path, size, tag, why):
    gate = f"{{gate: ttfa_ms.p50 < 900, confidence: 0.9, where: {{tag: {tag}}}}}"
    found = prepared(tmp_path, f"conversation: {{items_per_session: {size}}}\ngates: [error_rate < 1, {gate}]")
    assert (why in found.refused_gates[0]) if why else (found.refused_gates == [])
