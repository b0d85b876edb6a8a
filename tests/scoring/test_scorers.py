from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rteval.errors import ScenarioError
from rteval.judge import judge
from rteval.prepare import prepare, prepare_scenario
from rteval.records import TurnRecord
from rteval.reporting.files import read_run
from rteval.rescore import rescore
from rteval.scorers import Measured, Metric, Options, Scored, ScoredRun, Scorer, not_scored
from rteval.scorers.apply import Chosen, ScoreRun, choose
from rteval.scorers.registry import OURS, find, names

ROOT = Path(__file__).parents[2]

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]


class Given(Scorer):
    """Gives what it was made with, or raises it."""

    metrics: Mapping[str, Metric] = {"share": Metric("a share"), "other": Metric("never measured", "things")}

    def __init__(self, result: Any) -> None:
        self.result = result

    def score(self, turns: pd.DataFrame, run: ScoredRun, options: Options) -> Scored:
        if isinstance(self.result, BaseException):
            raise self.result
        turns["outcome"] = "spoilt"
        return self.result  # type: ignore[no-any-return]


def scored_by(folder: Path, *results: Any) -> dict[str, Any]:
    chosen = [Chosen(f"s{number}", Given(result), {}) for number, result in enumerate(results)]
    return judge(folder, score=ScoreRun(chosen)).summary


@pytest.fixture
def folder(make_run: MakeRun, make_turn: MakeTurn) -> Path:
    return make_run([make_turn(number) for number in range(3)], scorers={"s0": {}, "s1": {}})


GOOD = Scored({"flag": [True, None, False]}, {"share": Measured(0.5, 2, 1)})


def test_columns_and_metrics_of_a_scorer_stand_in_the_table_and_the_summary(folder: Path) -> None:
    columns = {
        "flag": [True, None, False],
        "count": np.array([1, 2, 3]),
        "rate": [0.5, float("nan"), 1],
        "word": ["a", None, "b"],
        "nothing": [None] * 3,
    }
    summary = scored_by(folder, Scored(columns, {"share": Measured(0.5, 2, 1)}), GOOD)
    table = pd.read_parquet(folder / "turns.parquet")
    assert table["outcome"].tolist() == ["ok"] * 3, "what a scorer does to its table is its own business"
    assert [str(table[f"score_s0_{name}"].dtype) for name in ("count", "rate", "word")] == [
        "Int64",
        "float64",
        "string",
    ]
    assert table["score_s0_flag"].isna().tolist() == [False, True, False]
    assert table["score_s0_rate"].isna().tolist() == [False, True, False]
    assert summary["metrics"]["scorers.s0.share"] == {
        "n": 2, "left_out": 1, "unit": "ratio", "value": 0.5, "definition": "a share",
    }  # fmt: skip
    other = summary["metrics"]["scorers.s0.other"]
    assert (other["value"], other["reason"], other["unit"]) == (None, "not measured", "things")
    assert judge(folder).summary == summary


BROKEN = [
    pytest.param(KeyError("SECRET WORDS"), "the scorer broke: KeyError in test_scorers.py, line ", id="exception"),
    pytest.param(ScenarioError("it cannot"), "it cannot", id="our error"),
    pytest.param(not_scored("no key"), "no key", id="not scored"),
    pytest.param(None, "the scorer gave NoneType and no Scored", id="nothing"),
    pytest.param(Scored({"a": [1]}), "column 'a' has 1 values for 3 turns", id="too short"),
    pytest.param(Scored({"a b": [1, 2, 3]}), "column 'a b' is not named in letters", id="name"),
    pytest.param(Scored({"a": [1, "x", None]}), "column 'a' does not hold", id="mixed kinds"),
    pytest.param(Scored({"a": [{}, {}, {}]}), "column 'a' does not hold", id="objects"),
    pytest.param(Scored(metrics={"more": Measured(1, 1)}), "metric 'more' was not announced", id="unknown metric"),
    pytest.param(Scored(metrics={"share": Measured("1", 1)}), "metric 'share' is no number", id="text for a number"),
    pytest.param(Scored(metrics={"share": 0.5}), "the scorer broke: AttributeError", id="number for a measurement"),
]


@pytest.mark.parametrize(("result", "reason"), BROKEN)
def test_a_scorer_that_breaks_scores_nothing_and_spoils_nothing(folder: Path, result: Any, reason: str) -> None:
    judgement = judge(folder, score=ScoreRun([Chosen("s0", Given(result), {}), Chosen("s1", Given(GOOD), {})]))
    entry = judgement.summary["metrics"]["scorers.s0.share"]
    assert entry["value"] is None
    assert reason in entry["reason"]
    assert judgement.summary["metrics"]["scorers.s1.share"]["value"] == 0.5
    assert any(note.startswith("scorer s0: not scored: ") and reason in note for note in judgement.notes)
    assert not any("SECRET" in path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_number_that_is_none_is_not_measured(folder: Path) -> None:
    summary = scored_by(folder, Scored(metrics={"share": Measured(float("nan"), 1)}), GOOD)
    assert summary["metrics"]["scorers.s0.share"]["value"] is None
    assert "reason" in summary["metrics"]["scorers.s0.share"]


def test_scores_of_other_options_do_not_count(folder: Path) -> None:
    scored_by(folder, GOOD, GOOD)
    run = json.loads((folder / "run.json").read_text())
    run["scoring"]["scorers"]["s0"] = {"most": 3}
    run["checks"], run["gates"] = ["scorers.s0.share"], ["scorers.s0.share >= 0"]
    (folder / "run.json").write_text(json.dumps(run))
    summary = judge(folder).summary
    (gate,) = summary["gates"]
    assert (gate["verdict"], gate["reason"]) == ("no_data", "`rteval score RUN` has yet to do it")
    assert summary["metrics"]["scorers.s1.share"]["value"] == 0.5


DAMAGE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"[]", id="no object"),
    pytest.param(b'{"metrics": 3}', id="another shape"),
]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_file_of_scores_is_none(folder: Path, content: bytes) -> None:
    scored_by(folder, GOOD, GOOD)
    (folder / "scores" / "s0.json").write_bytes(content)
    summary = judge(folder).summary
    assert "scorers.s0.share" not in summary["metrics"]
    assert "score_s0_flag" not in pd.read_parquet(folder / "turns.parquet")


def test_our_scorers_are_found_without_being_installed_and_fit_the_protocol() -> None:
    assert set(OURS) <= set(names())
    for name in OURS:
        scorer = find(name)
        assert scorer.metrics
        assert isinstance(scorer.needs_audio, bool)


def test_a_misspelt_scorer_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ScenarioError, match=r"no scorer is called 'juge'; did you mean 'judge'\?"):
        find("juge")


def test_a_scorer_may_be_called_otherwise_and_twice() -> None:
    options = {"rubric": "r", "model": "m"}
    found = list(choose({"kind": {"scorer": "judge", **options}, "brief": {"scorer": "judge", **options, "n": 1}}))
    assert isinstance(found[0], Chosen)
    assert (found[0].name, found[0].options) == ("kind", options)
    assert str(found[1]).startswith("brief.n: there is no such option")


SCENARIO = """\
target: {provider: simulator}
dataset: DATASET
scoring:
  scorers:
    polite:
      scorer: judge
      model: judge-small
      base_url: ${JUDGE_URL}
      api_key_env: JUDGE_KEY
      rubric: {file: rubric.md}
gates: [scorers.polite.pass_rate >= 0.9]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("JUDGE_URL", "https://judge.example/v1")

    def call(text: str = SCENARIO, more: str = "") -> Path:
        (tmp_path / "rubric.md").write_text("The answer is polite.\n")
        path = tmp_path / "judged.yaml"
        path.write_text(text.replace("DATASET", str(ROOT / "datasets" / "support")) + more)
        return path

    return call


def prepared(path: Path, *sets: str) -> Any:
    from rteval.prepare import RunOptions

    return prepare(path, RunOptions(sets=sets))


def test_a_rubric_may_be_a_file_beside_the_scenario(write: Callable[..., Path]) -> None:
    ready = prepared(write())
    assert ready.scorers[0].options["rubric"] == "The answer is polite.\n"
    assert "scorers.polite.pass_rate" in ready.names
    first = ready.scenario.hash
    (ready.scenario.path.parent / "rubric.md").write_text("The answer is brief.\n")
    assert prepared(ready.scenario.path).scenario.hash != first


def test_a_missing_key_is_told_before_the_run(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(write()).scorer_obstacles == []
    monkeypatch.delenv("JUDGE_KEY")
    (sentence,) = prepared(write()).scorer_obstacles
    assert sentence.startswith(
        "scorer polite: its metrics will not be scored: there is no key: the environment variable"
    )


WRONG = [
    pytest.param("scoring.scorers.polite.scorer=juge", "did you mean 'judge'?", id="scorer"),
    pytest.param("scoring.scorers.polite.repeats=0", "scoring.scorers.polite.repeats: input should be", id="option"),
    pytest.param("scoring.scorers.polite.api_key=hunter2", "name the variable that holds it in api_key_env", id="key"),
    pytest.param("scoring.scorers.polite.rubric={file: none.md}", "none.md: cannot be read", id="file"),
    pytest.param("scoring.scorers.po-lite={scorer: judge}", "named in letters, digits and _", id="name"),
    pytest.param("scoring.scorers.polite_more={scorer: judge}", "begins the name polite_more", id="columns"),
    pytest.param("scoring.scorers.spoken_wer={}", "listens to the answers, which are not kept", id="audio"),
    pytest.param("gates=[scorers.polite.rate > 0]", "did you mean 'scorers.polite.pass_rate'?", id="metric"),
    pytest.param("gates=[scorers.brief.pass_rate > 0]", "no metric of a scorer is called", id="metric of nobody"),
    pytest.param("gates=[entity_accuracy > 0]", "no item of the dataset expects entities", id="no entities"),
    pytest.param("gates=[output_clipped_share.max < 1]", "audio is not kept (report.audio: all)", id="no sound"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_what_is_wrong_with_scorers_is_said_before_the_run(
    write: Callable[..., Path], change: str, sentence: str
) -> None:
    from rteval.errors import RtevalError

    with pytest.raises(RtevalError) as raised:
        prepared(write(), change)
    assert sentence in str(raised.value)
    assert raised.value.exit_code == 2
    assert "hunter2" not in str(raised.value)


SECRETS = [
    pytest.param("scoring.scorers.polite.api_key_env=sk-0123456789abcdef0123", "looks like a key", id="key for a name"),
    pytest.param("scoring.scorers.polite.model=sk-0123456789abcdef0123", "holds a key or token", id="key"),
    pytest.param(
        "scoring.scorers.polite.base_url=https://a:b@x.example", "password or token before the @", id="address"
    ),
]


@pytest.mark.parametrize(("change", "sentence"), SECRETS)
def test_a_literal_secret_in_the_options_is_refused(write: Callable[..., Path], change: str, sentence: str) -> None:
    with pytest.raises(ScenarioError, match=sentence):
        prepared(write(), change)


def test_without_scorers_a_gate_on_one_says_so(write: Callable[..., Path]) -> None:
    from rteval.errors import GateError

    with pytest.raises(GateError, match=r"the scenario has no scorers"):
        prepared(write(), "scoring={}")


def test_whoever_holds_sessions_needs_no_scorer(write: Callable[..., Path]) -> None:
    from rteval.scenario import load_scenario

    scenario = load_scenario(write(), sets=["scoring.scorers.polite.scorer=of_a_plug_in"])
    ready = prepare_scenario(scenario, judged=False)
    assert (ready.scorers, ready.gates) == ((), ())
    with pytest.raises(ScenarioError):
        prepare_scenario(scenario)


def test_an_old_run_is_scored_by_another_scenario(
    write: Callable[..., Path],
    make_run: MakeRun,
    make_turn: MakeTurn,
    chat_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUDGE_URL", chat_server.url)
    turns = [make_turn(number, expect={"contains": "order"}) for number in range(2)]
    folder = make_run(turns, checks=["contains"], gates=["checks.contains >= 1"])
    before = judge(folder).summary
    told: list[str] = []
    more = "slo: {response_ms: 1}\n"
    text = SCENARIO.replace("scoring:\n", "scoring:\n  checks: {number: {regex: '[0-9]'}}\n").replace(
        ">= 0.9]", ">= 0.9, checks.number >= 1, checks.contains >= 1, goodput_share <= 0]"
    )
    judgement = rescore(folder, write(text, more), say=told.append)
    assert [gate["verdict"] for gate in judgement.summary["gates"]] == ["pass"] * 5
    assert judgement.summary["metrics"]["ttfa_ms"] == before["metrics"]["ttfa_ms"]
    assert told == ["scorer polite: asks judge-small for 2 verdicts"]
    run = json.loads((folder / "run.json").read_text())
    assert run["judged_by"]["path"].endswith("judged.yaml")
    assert run["scenario"]["path"] == "s.yaml", "what was run stays as it was"
    assert judge(folder).summary == judgement.summary


def test_a_wrong_scenario_leaves_the_run_as_it_was(
    write: Callable[..., Path], make_run: MakeRun, make_turn: MakeTurn
) -> None:
    folder = make_run([make_turn()])
    judge(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ScenarioError):
        rescore(folder, write(), sets=["scoring.scorers.polite.scorer=juge"], say=print)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_option_that_was_not_stored_for_its_secret_is_asked_for(make_run: MakeRun, make_turn: MakeTurn) -> None:
    stored = {"scorer": "judge", "rubric": "r", "model": "m", "base_url": "https://${SECRET_KEY}.example"}
    folder = make_run([make_turn()], scorers={"polite": stored})
    notes = rescore(folder, None, say=print).notes
    assert notes == (
        "scorer polite: not scored: the option base_url is secret in part, so that it was not stored; give --scenario",
    )


def test_a_run_that_kept_no_transcripts_cannot_be_scored_later(
    write: Callable[..., Path], make_run: MakeRun, make_turn: MakeTurn
) -> None:
    folder = make_run([make_turn()], report={"formats": [], "transcripts": "none"})
    judge(folder)
    judgement = rescore(folder, write(), say=print)
    assert judgement.summary["gates"][0]["reason"] == "there are no transcripts"
    assert judgement.exit_code == 1


VARIANTS = [pytest.param("a", 1.0, 2, id="first"), pytest.param("b", 0.5, 2, id="second")]


@pytest.mark.parametrize(("variant", "share", "n"), VARIANTS)
def test_a_metric_that_names_its_columns_is_known_of_each_variant(
    make_run: MakeRun, make_turn: MakeTurn, variant: str, share: float, n: int
) -> None:
    class Named(Given):
        metrics: Mapping[str, Metric] = {"share": Metric("a share", of="flag"), "other": Metric("of the whole run")}

    turns = [make_turn(number, variant="ab"[number % 2]) for number in range(4)]
    variants = [{"name": name, "axes": {"x": name}} for name in "ab"]
    folder = make_run(turns, scorers={"s": {}}, variants=variants)
    found = Scored({"flag": [True, True, True, False]}, {"share": Measured(0.75, 4), "other": Measured(3, 4)})
    summary = judge(folder, score=ScoreRun([Chosen("s", Named(found), {})])).summary
    (mine,) = [entry for entry in summary["variants"] if entry["name"] == variant]
    assert (mine["metrics"]["scorers.s.share"]["value"], mine["metrics"]["scorers.s.share"]["n"]) == (share, n)
    assert "scorers.s.other" not in mine["metrics"]


def test_the_command_scores_an_old_run_with_a_scenario(
    write: Callable[..., Path],
    make_run: MakeRun,
    make_turn: MakeTurn,
    chat_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from typer.testing import CliRunner

    from rteval.cli import app

    monkeypatch.setenv("JUDGE_URL", chat_server.url)
    folder, scenario = make_run([make_turn()]), write()
    done = CliRunner().invoke(app, ["score", str(folder), "--scenario", str(scenario), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["gates"][0]["verdict"]) == (0, "pass")
    assert "asks judge-small for 1 verdicts" in done.stderr
    done = CliRunner().invoke(app, ["score", str(folder), "--set", "scoring.wer=false"])
    assert done.exit_code == 2
    assert "name it with --scenario" in done.stderr


def test_a_run_judged_by_another_scenario_can_be_judged_by_its_own_again(
    write: Callable[..., Path],
    make_run: MakeRun,
    make_turn: MakeTurn,
    chat_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUDGE_URL", chat_server.url)
    folder, scenario = make_run([make_turn()]), write()
    before = judge(folder).summary
    kept = {key: value for key, value in read_run(folder).items() if key not in ("as_run", "judged_by")}
    for gate in ("error_rate >= 0.5", "error_rate >= 0.6"):
        judged = rescore(folder, scenario, sets=[f"gates=['{gate}']"], say=lambda sentence: None)
        assert next(entry["text"] for entry in judged.summary["gates"]) == gate
        assert read_run(folder)["judged_by"]["path"] == str(scenario)
    assert rescore(folder, None, say=lambda sentence: None).summary == before
    run = read_run(folder)
    assert run.pop("judged_by") is run.pop("as_run") is None
    assert {key: value for key, value in run.items() if value is not None} == {
        key: value for key, value in kept.items() if value is not None
    }
