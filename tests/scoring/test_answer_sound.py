from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rteval import audio
from rteval.formats import FORMATS
from rteval.judge import judge
from rteval.records import TurnRecord
from rteval.scoring.answer_audio import AnswerSound, answer_file, listen, measure_answers

RATE = 24_000

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]
Keep = Callable[..., Path]


def sine(seconds: float, peak: float = 1.0, rate: int = RATE) -> Any:
    return (peak * np.sin(2 * np.pi * 400 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def silence(seconds: float) -> Any:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


LOUD = [
    pytest.param(sine(1, 0.5), -9.03, 0.0, id="half of full scale"),
    pytest.param(np.concatenate([sine(1, 0.5), silence(3)]), -9.03, 0.75, id="pauses do not make it quieter"),
    pytest.param(sine(1, 0.004), None, 1.0, id="below the threshold all is silence"),
    pytest.param(np.concatenate([sine(0.5, 0.1), sine(0.5, 0.5)]), -11.87, 0.0, id="power is averaged, not decibels"),
]


@pytest.mark.parametrize(("samples", "dbfs", "silent"), LOUD)
def test_loudness_is_the_rms_of_what_is_not_silent(samples: Any, dbfs: float | None, silent: float) -> None:
    sound = listen(samples, RATE)
    assert sound.silence_share == pytest.approx(silent)
    assert sound.loudness_dbfs == (None if dbfs is None else pytest.approx(dbfs, abs=0.01))
    assert sound.clipped_share == 0.0


CLIPPED = [
    pytest.param([0, 1, 1, 1, 0], 0.6, id="three in a row"),
    pytest.param([0, 1, 1, 0, 1, 0], 0.0, id="a peak may touch full scale"),
    pytest.param([-1, -1, -1, -1, 0, 1, 1, 1], 7 / 8, id="both sides"),
    pytest.param([1, 1, 1], 1.0, id="from the first to the last"),
]


@pytest.mark.parametrize(("samples", "share"), CLIPPED)
def test_clipped_are_runs_at_full_scale(samples: list[float], share: float) -> None:
    assert listen(np.array(samples, dtype=np.float32), RATE).clipped_share == pytest.approx(share)


def test_nothing_to_hear_is_not_measured() -> None:
    assert listen(np.zeros(0, dtype=np.float32), RATE) == AnswerSound()
    assert listen(np.zeros(7, dtype=np.float32), RATE) == AnswerSound(clipped_share=0.0)


@pytest.mark.parametrize("name", FORMATS)
def test_clipping_is_found_in_every_format_of_the_wire(name: str, tmp_path: Path, keep_answer: Keep) -> None:
    fmt = FORMATS[name]
    wire = audio.encode(np.clip(sine(0.5, 3.0, fmt.rate), -1, 1), fmt.rate, fmt)
    keep_answer(tmp_path, "s0", audio.decode(wire, fmt), rate=fmt.rate)
    turns = pd.DataFrame({"session": ["s0"], "turn": [0], "output_rate_bytes_per_s": [fmt.bytes_per_s]})
    assert measure_answers(turns, tmp_path)["output_clipped_share"][0] > 0.5


def test_an_answer_that_was_not_kept_or_is_broken_is_not_measured(tmp_path: Path, keep_answer: Keep) -> None:
    keep_answer(tmp_path, "s0", sine(0.1))
    (tmp_path / "audio" / "s1-0.wav").write_bytes(b"RIFF no audio")
    turns = pd.DataFrame({"session": ["s0", "s1", "s2"], "turn": [0, 0, 0], "output_rate_bytes_per_s": [48_000] * 3})
    assert measure_answers(turns, tmp_path).notna().all(axis=1).tolist() == [True, False, False]


def test_a_session_name_leads_nowhere_else(tmp_path: Path) -> None:
    assert answer_file(tmp_path, "../../etc/x", 0).parent == tmp_path / "audio"


def test_the_sound_of_kept_answers_is_measured_and_can_be_gated(
    make_run: MakeRun, make_turn: MakeTurn, keep_answer: Keep
) -> None:
    gates = ["output_clipped_share.max <= 0.001", "output_loudness_dbfs.p50 >= -20", "output_silence_share.max < 0.6"]
    folder = make_run([make_turn(number) for number in range(3)], gates=gates)
    for number in range(3):
        keep_answer(folder, f"s{number}", np.concatenate([sine(1, 0.5), silence(1)]))
    summary = judge(folder).summary
    assert [gate["verdict"] for gate in summary["gates"]] == ["pass"] * 3
    assert summary["metrics"]["output_loudness_dbfs"]["p50"] == pytest.approx(-9.03, abs=0.01)
    first = (folder / "summary.json").read_bytes()
    for path in (folder / "audio").iterdir():
        path.unlink()
    judge(folder)
    assert (folder / "summary.json").read_bytes() == first, "measured once: the files may go"


def test_without_audio_there_is_no_number_and_no_gate_passes(make_run: MakeRun, make_turn: MakeTurn) -> None:
    folder = make_run([make_turn()], gates=["output_clipped_share.max <= 0.001"])
    summary = judge(folder).summary
    assert summary["gates"][0]["verdict"] == "no_data"
    assert json.loads((folder / "summary.json").read_text())["metrics"]["output_silence_share"]["n"] == 0
