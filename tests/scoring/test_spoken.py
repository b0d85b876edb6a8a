from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rteval.judge import judge
from rteval.records import Outcome, TurnRecord
from rteval.scorers.apply import Chosen, ScoreRun
from rteval.scorers.spoken import SpokenWer

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]
Keep = Callable[..., Path]


class Pitch:
    """Hears one word for each second of sound above silence; counts what it listened to."""

    name = "pitch/1"

    def __init__(self) -> None:
        self.heard: list[tuple[int, str | None]] = []

    def words(self, samples: Any, language: str | None) -> str:
        self.heard.append((len(samples), language))
        if not len(samples):
            raise ValueError("nothing to hear")
        return " ".join(["beep"] * round(float(np.count_nonzero(np.abs(samples) > 0.01)) / 16_000))


def tone(seconds: float) -> Any:
    return np.full(round(seconds * 24_000), 0.5, dtype=np.float32)


@pytest.fixture
def spoken(
    make_run: MakeRun, make_turn: MakeTurn, keep_answer: Keep
) -> Callable[..., tuple[Path, dict[str, Any], Pitch]]:
    def call(turns: Any, sounds: dict[int, float], **options: Any) -> tuple[Path, dict[str, Any], Pitch]:
        folder = make_run(
            [make_turn(number, **over) for number, over in enumerate(turns)], scorers={"spoken_wer": options}
        )
        for number, seconds in sounds.items():
            keep_answer(folder, f"s{number}", tone(seconds))
        ear = Pitch()
        chosen = Chosen("spoken_wer", SpokenWer(lambda _: ear), options)
        return folder, judge(folder, score=ScoreRun([chosen])).summary, ear

    return call


def test_what_another_recogniser_hears_is_held_against_the_transcript(spoken: Any) -> None:
    turns = [
        {"output_transcript": "Beep, beep!", "language": "en-GB"},
        {"output_transcript": "Beep beep", "language": None},
        {"output_transcript": "beep", "outcome": Outcome.FAILED},
        {"output_transcript": None},
    ]
    folder, summary, ear = spoken(turns, {0: 2, 1: 1, 2: 1, 3: 1})
    entry = summary["metrics"]["scorers.spoken_wer.wer"]
    assert (entry["value"], entry["n"]) == (0.25, 2)
    assert ear.heard == [(32_000, "en"), (16_000, None)]
    table = pd.read_parquet(folder / "turns.parquet")
    assert table["score_spoken_wer_text"].tolist()[:2] == ["beep beep", "beep"]
    assert table["score_spoken_wer_deletions"].tolist()[:2] == [0, 1]


def test_it_may_be_held_against_the_expected_answer(spoken: Any) -> None:
    turns = [{"output_transcript": "boop", "expect": {"answer": "beep"}}, {"output_transcript": "boop"}]
    _, summary, _ = spoken(turns, {0: 1, 1: 1}, against="answer")
    assert (
        summary["metrics"]["scorers.spoken_wer.wer"]["value"],
        summary["metrics"]["scorers.spoken_wer.wer"]["n"],
    ) == (0, 1)


def test_nothing_is_heard_twice(spoken: Any) -> None:
    folder, summary, ear = spoken([{"output_transcript": "beep"}] * 2, {0: 1, 1: 2})
    chosen = Chosen("spoken_wer", SpokenWer(lambda _: ear), {})
    assert judge(folder, score=ScoreRun([chosen])).summary == summary
    assert len(ear.heard) == 2


def test_too_few_answers_are_no_rate(spoken: Any) -> None:
    folder, summary, _ = spoken([{"output_transcript": "beep"}] * 4, {0: 1, 1: 1, 2: 0})
    entry = summary["metrics"]["scorers.spoken_wer.wer"]
    assert (entry["value"], entry["n"], entry["left_out"]) == (None, 2, 2)
    assert entry["reason"].startswith("only 2 of 4 turns were compared, fewer than min_scored 0.95")
    assert summary["metrics"]["scorers.spoken_wer.scored_share"]["value"] == 0.5
    reasons = pd.read_parquet(folder / "turns.parquet")["score_spoken_wer_not_scored"].tolist()
    assert reasons[3] == "no audio was kept"
    assert reasons[2].startswith("its audio ")


def test_without_kept_audio_nothing_is_scored(spoken: Any) -> None:
    _, summary, _ = spoken([{"output_transcript": "beep"}], {})
    reason = summary["metrics"]["scorers.spoken_wer.wer"]["reason"]
    assert reason == "no answer's audio was kept (report.audio: all)"


def test_a_model_that_cannot_be_loaded_is_a_reason(make_run: MakeRun, make_turn: MakeTurn, keep_answer: Keep) -> None:
    def refuse(options: Any) -> Any:
        raise RuntimeError("there is no such model\nand much more")

    folder = make_run([make_turn()], scorers={"spoken_wer": {}})
    keep_answer(folder, "s0", tone(1))
    notes = judge(folder, score=ScoreRun([Chosen("spoken_wer", SpokenWer(refuse), {})])).notes
    assert notes == (
        "scorer spoken_wer: not scored: the model 'small' could not be loaded (RuntimeError: there is no such model)",
    )


def test_a_recogniser_that_is_not_installed_is_named_with_its_cure(
    make_run: MakeRun, make_turn: MakeTurn, keep_answer: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # what Python takes for "not there"
    folder = make_run([make_turn()], scorers={"spoken_wer": {}}, checks=["scorers.spoken_wer.wer"])
    keep_answer(folder, "s0", tone(1))
    summary = judge(folder, score=ScoreRun()).summary
    reason = summary["metrics"]["scorers.spoken_wer.wer"]["reason"]
    assert reason == "the package faster-whisper is not installed: pip install 'rteval[spoken]'"


OPTIONS = [
    pytest.param({}, 0, id="defaults"),
    pytest.param({"model": "tiny.en", "device": "cuda", "against": "answer"}, 0, id="well"),
    pytest.param({"against": "reference"}, 1, id="another reference"),
    pytest.param({"modell": "tiny"}, 1, id="misspelt"),
]


@pytest.mark.parametrize(("options", "faults"), OPTIONS)
def test_options_of_the_recogniser_are_checked(options: dict[str, Any], faults: int) -> None:
    found = SpokenWer().faults(options)
    assert len(found) == faults
    assert all(sentence.startswith(next(iter(options))) for sentence in found)
