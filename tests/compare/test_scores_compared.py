"""Metrics of scorers in comparisons and baselines: which way is better, and when two of them are of one kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from rteval.analysis.compare import better_of, compare
from rteval.baseline import find_subject, run_subject, save_baseline
from rteval.cli import app
from rteval.judge import judge
from rteval.scoring.scores import SCORES, Measured, Metric, Scored, write_scored

OPTIONS = {"rubric": "polite"}
METRICS = {
    "pass_rate": Metric("turns that passed / turns", of="passed"),
    "wer": Metric("word errors / words", of="errors", per="words", better="lower"),
    "length": Metric("words per answer", unit="words", of="words", better=None),
    "whole": Metric("a number of the whole run"),
}
NAMES = [f"scorers.tone.{name}" for name in METRICS]


def scored_night(make_night: Any, run_id: str, *, seed: int, good: float, rubric: str = "polite", **over: Any) -> Path:
    """A run of 40 turns of which a scorer has found a share good, with so many errors and words the more."""
    scoring = {"normalizer": "whisper_english", "wer": True, "scorers": {"tone": OPTIONS}}
    run_dir: Path = make_night(run_id, seed=seed, judged=False, scoring=scoring, checks=NAMES, **over)
    chance = np.random.default_rng(seed)
    passed = [bool(value) for value in chance.random(40) < good]
    words = [20 if one else 30 for one in passed]
    errors = [0 if one else 9 for one in passed]
    found = Scored(
        columns={"passed": passed, "errors": errors, "words": words},
        metrics={
            "pass_rate": Measured(sum(passed) / 40, 40),
            "wer": Measured(sum(errors) / sum(words), 40),
            "length": Measured(sum(words) / 40, 40),
            "whole": Measured(0.5, 40),
        },
        about={"rubric": rubric},
    )
    turns = pd.DataFrame({"session": [f"s{number:04d}" for number in range(40)], "turn": 0})
    write_scored(run_dir / SCORES / "tone.json", found, turns, options=OPTIONS, metrics=METRICS)
    judge(run_dir, reports_written=False)
    return run_dir


def verdicts(found: Any) -> dict[str, str]:
    return {row.name: row.outcome.value for row in found.rows if row.name.startswith("scorers.")}


def test_more_is_better_unless_the_scorer_says_otherwise(make_night, reports: Path) -> None:
    good, bad = (
        run_subject(scored_night(make_night, name, seed=seed, good=share))
        for name, seed, share in (("good", 1, 0.95), ("bad", 2, 0.3))
    )
    worse = compare(good, bad)
    assert verdicts(worse) == {
        "scorers.tone.length": "cannot tell",
        "scorers.tone.pass_rate": "worse",
        "scorers.tone.wer": "worse",
    }
    (length,) = (row for row in worse.rows if row.name == "scorers.tone.length")
    assert length.reason == "it differs; which of the two is better cannot be told"
    assert (length.unit, length.slack) == ("words", pytest.approx(0.05 * (length.base or 0)))
    assert verdicts(compare(bad, good))["scorers.tone.pass_rate"] == "better"
    assert verdicts(compare(bad, good))["scorers.tone.wer"] == "better"


def test_scores_go_into_a_baseline_and_gates_are_held_against_them(make_night, reports: Path, tmp_path: Path) -> None:
    scored_night(make_night, "good", seed=1, good=0.95)
    file = tmp_path / "b.json"
    save_baseline("support/good", file, reports)
    assert {name for name in find_subject(str(file), reports).observed if name.startswith("scorers.")} == set(NAMES[:3])
    gates = ["scorers.tone.pass_rate >= baseline - 0.1", {"gate": "scorers.tone.wer <= 0.3", "confidence": 0.95}]
    run_dir = scored_night(make_night, "bad", seed=2, good=0.3, gates=gates)
    run = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(run | {"baseline": {"file": "b.json", "label": "b"}}))
    (run_dir / "baseline.json").write_bytes(file.read_bytes())
    against, alone = judge(run_dir, reports_written=False).summary["gates"]
    assert (against["verdict"], alone["verdict"]) == ("fail", "pass")


def test_scores_of_another_rubric_are_not_compared(make_night, reports: Path) -> None:
    one = run_subject(scored_night(make_night, "one", seed=1, good=0.9))
    other = run_subject(scored_night(make_night, "other", seed=2, good=0.3, rubric="short"))
    assert set(verdicts(compare(one, other)).values()) == {"not comparable"}


def test_scores_are_broken_down_with_the_rest(make_night) -> None:
    summary = json.loads((scored_night(make_night, "one", seed=1, good=0.9) / "summary.json").read_text())
    (north, south) = summary["breakdown"]["meta_accent"]["groups"]
    rates = [group["metrics"]["scorers.tone.pass_rate"] for group in (north, south)]
    assert [(rate["n"], rate["unit"]) for rate in rates] == [(20, "ratio"), (20, "ratio")]
    whole = summary["metrics"]["scorers.tone.pass_rate"]["value"]
    assert sum(rate["value"] for rate in rates) / 2 == pytest.approx(whole)
    assert north["metrics"]["scorers.tone.length"]["unit"] == "words"


def test_how_long_an_answer_is_may_be_wanted_or_not(make_night) -> None:
    assert better_of("output_audio_ms") is None
    assert better_of("ttfa_ms") == better_of("input_wer") == better_of("drop_rate") == "lower"
    assert better_of("checks.polite") == better_of("goodput_share") == better_of("scorers.any.one") == "higher"


def test_a_scorers_metric_may_have_a_slack(make_night, reports: Path) -> None:
    for name, seed, share in (("good", 1, 0.95), ("bad", 2, 0.3)):
        scored_night(make_night, name, seed=seed, good=share)
    args = ["compare", "support/good", "support/bad", "--out", str(reports), "--json"]
    result = CliRunner().invoke(app, [*args, "--slack", "scorers.tone.pass_rate=0.9"])
    rows = {row["metric"]: row["verdict"] for row in json.loads(result.stdout)["comparisons"][0]["metrics"]}
    assert rows["scorers.tone.pass_rate"] == "same"
    assert rows["scorers.tone.wer"] == "worse"
