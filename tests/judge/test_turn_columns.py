from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.analysis.table import answer_audio
from rteval.judge import judge
from rteval.records import DeltaKind, Deltas, Outcome, TranscriptOutcome, TurnRecord, Usage

T0 = 1_000_000_000_000_000
MS = 1_000_000
TEXT: dict[str, Any] = {
    "modality": "text",
    "speech_stopped_ns": None,
    "create_ns": T0 + 500 * MS,
    "input_transcript_ns": None,
    "item_audio_ms": None,
    "input_audio_ms": None,
    "transcript_outcome": TranscriptOutcome.OFF,
}
TEXT_ANSWER: dict[str, Any] = {
    "first_audio_ns": None,
    "last_audio_ns": None,
    "leading_silence_ms": None,
    "output_rate_bytes_per_s": None,
    "audio_at_ms": (),
}


COLUMNS = [
    pytest.param({}, "endpoint_ms", 200.0, id="endpoint"),
    pytest.param({"speech_stopped_ns": T0 + 400 * MS}, "endpoint_ms", -100.0, id="endpoint too early stays negative"),
    pytest.param(TEXT | {"speech_stopped_ns": T0}, "endpoint_ms", None, id="text has no endpoint"),
    pytest.param({}, "ttfa_ms", 300.0, id="first audio"),
    pytest.param({"due_ns": T0 - 9000 * MS}, "ttfa_ms", 300.0, id="first audio never includes lateness"),
    pytest.param(TEXT_ANSWER, "ttfa_ms", None, id="text answers have no first audio"),
    pytest.param({"speech_end_ns": None}, "ttfa_ms", None, id="no end of speech"),
    pytest.param({}, "ttfa_response_ms", 90.0, id="VAD: from response.created"),
    pytest.param({"create_ns": T0 + 520 * MS}, "ttfa_response_ms", 280.0, id="manual: from response.create"),
    pytest.param(TEXT, "ttfa_response_ms", 300.0, id="text: from response.create"),
    pytest.param({}, "v2v_ms", 320.0, id="voice to voice is first audio and leading silence"),
    pytest.param({"leading_silence_ms": None}, "v2v_ms", None, id="all silent: no voice"),
    pytest.param({"leading_silence_ms": 150.0}, "v2v_ms", 450.0, id="silence longer than a delta that came in time"),
    pytest.param(
        {"leading_silence_ms": 150.0, "audio_at_ms": (800, 1000, 1100)}, "v2v_ms", 550.0, id="a stall before the voice"
    ),
    pytest.param(
        {"leading_silence_ms": 20.0, "audio_at_ms": (800, 1000, 1100)}, "v2v_ms", 320.0, id="a stall after the voice"
    ),
    pytest.param(
        {"leading_silence_ms": 150.0, "audio_at_ms": (800, 1000, 1100), "playback_buffer_ms": 500.0},
        "v2v_ms",
        550.0,
        id="voice to voice knows no buffer",
    ),
    pytest.param({}, "ttft_ms", 280.0, id="first text"),
    pytest.param({}, "input_transcript_ms", 260.0, id="transcription"),
    pytest.param({"input_transcript_ns": None}, "input_transcript_ms", None, id="no transcription"),
    pytest.param({}, "response_ms", 510.0, id="response"),
    pytest.param({}, "wait_ms", 420.0, id="wait: from due, less the item's audio"),
    pytest.param({"item_audio_ms": None}, "wait_ms", 120.0, id="wait: all audio sent when the item's is unknown"),
    pytest.param({"send_lag_ms": None}, "wait_ms", None, id="wait: audio that was not paced took no time to say"),
    pytest.param(TEXT, "wait_ms", 1020.0, id="wait of a prompt: nothing to take off"),
    pytest.param({"due_ns": None}, "wait_ms", None, id="never due"),
    pytest.param({}, "output_audio_ms", 300.0, id="length of the answer"),
    pytest.param({}, "delta_gap_p50_ms", 100.0, id="median gap"),
    pytest.param({"audio_at_ms": (800, 810, 900)}, "delta_gap_max_ms", 90.0, id="longest gap"),
    pytest.param({"audio_at_ms": (800, 810, 900)}, "delta_gap_p95_ms", 86.0, id="95th percentile of two gaps"),
    pytest.param({"audio_at_ms": (800,)}, "delta_gap_p50_ms", None, id="one delta has no gap"),
    pytest.param({}, "rtf", 1.0, id="as fast as it plays"),
    pytest.param({"audio_at_ms": (800, 850, 900)}, "rtf", 0.5, id="twice as fast"),
    pytest.param({"audio_at_ms": (800,)}, "rtf", None, id="no rate of one delta"),
    pytest.param({"audio_at_ms": (800, 1000, 1100)}, "underrun_count", 1, id="one stall"),
    pytest.param({"audio_at_ms": (800, 1000, 1100)}, "underrun_ms", 100.0, id="its length"),
    pytest.param({"audio_at_ms": (800, 1000), "playback_buffer_ms": 100.0}, "underrun_count", 0, id="buffered"),
    pytest.param({}, "underrun_ms", 0.0, id="no stall is zero"),
    pytest.param(TEXT_ANSWER, "underrun_count", None, id="no audio cannot stall"),
    pytest.param(TEXT_ANSWER, "output_audio_ms", None, id="no audio has no length"),
    pytest.param({"output_rate_bytes_per_s": None}, "rtf", None, id="unknown rate"),
    pytest.param({}, "audio_deltas", 3, id="audio deltas counted"),
    pytest.param({}, "text_deltas", 1, id="text deltas counted"),
    pytest.param({"talk_over_ms": 40.0}, "talk_over_ms", 40.0, id="what was recorded stays"),
    pytest.param({"usage": Usage(input_tokens=7)}, "input_tokens", 7, id="tokens"),
    pytest.param({"usage": Usage(input_tokens=2**70)}, "input_tokens", None, id="a count beyond 64 bits is none"),
    pytest.param({"usage": Usage(input_tokens=7.0)}, "input_tokens", 7, id="a whole number written as a float"),
    pytest.param({"usage": Usage(input_tokens="7")}, "input_tokens", None, id="a text is no count"),
    pytest.param({"backpressure_ms": "x"}, "backpressure_ms", None, id="a text is no length"),
    pytest.param({"outcome": Outcome.DROPPED}, "ttfa_ms", 300.0, id="a failed turn keeps its facts"),
]


@pytest.fixture(scope="module")
def rows(make_module_run: Callable[..., Path], make_turn: Callable[..., TurnRecord]) -> pd.DataFrame:
    """All turns of the table in one run, read back, by position in the table."""
    run_dir = make_module_run([make_turn(str(k), **case.values[0]) for k, case in enumerate(COLUMNS)])
    judge(run_dir, reports_written=False)
    turns = pd.read_parquet(run_dir / "turns.parquet")
    return turns.set_index(turns["session"].astype(int))


@pytest.mark.parametrize(
    ("number", "column", "value"), [pytest.param(k, *case.values[1:], id=case.id) for k, case in enumerate(COLUMNS)]
)
def test_a_column_is_what_its_definition_says(
    rows: pd.DataFrame, number: int, column: str, value: float | None
) -> None:
    found = rows.loc[number, column]
    assert pd.isna(found) if value is None else found == pytest.approx(value)


def test_anchors_are_exact_integers(make_run: Callable[..., Path], make_turn: Callable[..., TurnRecord]) -> None:
    """A float would lose nanoseconds of an anchor this large, and one missing value turns a plain column to float."""
    big = 2**62 + 1
    run_dir = make_run([make_turn("a", speech_end_ns=big, first_audio_ns=big + 1), make_turn("b", speech_end_ns=None)])
    judge(run_dir, reports_written=False)
    turns = pd.read_parquet(run_dir / "turns.parquet").set_index("session")
    assert turns.loc["a", "speech_end_ns"] == big
    assert turns.loc["a", "ttfa_ms"] == 1e-6
    assert all(str(turns[name].dtype) == "Int64" for name in turns.columns if name.endswith("_ns"))
    assert pd.read_parquet(run_dir / "deltas.parquet")["arrival_ns"].dtype == "int64"


def test_deltas_are_one_row_each(make_run: Callable[..., Path], make_turn: Callable[..., TurnRecord]) -> None:
    run_dir = make_run([make_turn("a", audio_at_ms=(800,)), make_turn("a", 1, audio_at_ms=()), make_turn("b")])
    judge(run_dir, reports_written=False)
    deltas = pd.read_parquet(run_dir / "deltas.parquet")
    assert list(deltas.columns) == ["session", "turn", "kind", "arrival_ns", "bytes", "chars"]
    assert deltas[["session", "turn", "kind", "bytes", "chars"]].astype(object).to_numpy().tolist()[:3] == [
        ["a", 0, "transcript", 0, 5],
        ["a", 0, "audio", 4800, 0],
        ["a", 1, "transcript", 0, 5],
    ]
    assert len(deltas) == 7


def test_columns_of_the_dataset_are_typed_where_they_agree(
    make_run: Callable[..., Path], make_turn: Callable[..., TurnRecord]
) -> None:
    metas = [
        {"speaker": "ann", "take": 1, "snr": 1, "loud": True, "odd": 1, "deep": {"b": 1, "a": 2}, "huge": 2**62 * 4},
        {"speaker": "ben", "take": None, "snr": 2.5, "loud": False, "odd": "x", "deep": None},
    ]
    run_dir = make_run([make_turn(f"s{k}", meta=meta) for k, meta in enumerate(metas)])
    judge(run_dir, reports_written=False)
    once = pd.read_parquet(run_dir / "turns.parquet").set_index("session")
    judge(run_dir, reports_written=False)
    turns = pd.read_parquet(run_dir / "turns.parquet").set_index("session")
    pd.testing.assert_frame_equal(once, turns)
    assert turns["meta_speaker"].tolist() == ["ann", "ben"]
    assert turns["meta_take"].tolist() == [1, pd.NA]
    assert turns["meta_snr"].tolist() == [1.0, 2.5]
    assert turns["meta_loud"].tolist() == [True, False]
    assert turns["meta_odd"].tolist() == ["1", "x"]
    assert turns.loc["s0", "meta_deep"] == '{"a": 2, "b": 1}'
    assert float(turns.loc["s0", "meta_huge"]) == float(2**64)


sizes = st.lists(st.integers(1, 40_000), min_size=1, max_size=20)


@given(sizes, st.integers(0, 300), st.floats(0, 500))
def test_audio_that_arrives_faster_than_it_plays_never_stalls(
    bytes_: list[int], gap_ms: int, silence_ms: float
) -> None:
    arrivals, at = [], T0
    for size in bytes_:
        arrivals.append(at)
        at += min(gap_ms * MS, size * 10**9 // 48_000)
    audio = answer_audio(arrivals, bytes_, 48_000, leading_silence_ms=silence_ms)
    assert (audio.underrun_count, audio.underrun_ms, audio.stalled_ms) == (0, 0.0, 0.0)
    assert audio.output_audio_ms == pytest.approx(sum(bytes_) / 48)


@given(st.permutations(list(DeltaKind) * 4))
def test_how_text_and_audio_interleave_does_not_change_the_audio(kinds: list[DeltaKind]) -> None:
    deltas = Deltas()
    for number, kind in enumerate(kinds):
        deltas.add(kind, T0 + number * MS, size_bytes=960 if kind is DeltaKind.AUDIO else 0)
    audio = [at for at, kind in zip(deltas.arrival_ns, deltas.kind, strict=True) if kind is DeltaKind.AUDIO]
    found = answer_audio(audio, [960] * 4, 48_000)
    assert found.output_audio_ms == 80.0
    assert found.delta_gap_max_ms == max(b - a for a, b in pairwise(audio)) / MS


def test_no_audio_has_no_times() -> None:
    assert answer_audio([], [], 48_000).output_audio_ms is None
