"""Runs made of records, without a target: what the judging half gets to see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from rteval.records import DeltaKind, Deltas, HealthSample, Outcome, SessionRecord, TranscriptOutcome, TurnRecord
from rteval.shards import ShardWriter

T0 = 1_000_000_000_000_000
MS = 1_000_000

MakeTurn = Callable[..., TurnRecord]
MakeRun = Callable[..., Path]


def _turn(
    session: str = "s0", turn: int = 0, *, audio_at_ms: Iterable[int] = (800, 900, 1000), **over: Any
) -> TurnRecord:
    """An ok audio turn: started at 0, speech ends at 500 ms, three deltas of 100 ms; times count from the start."""
    values: dict[str, Any] = {
        "run_id": "r1",
        "worker": "w0",
        "session": session,
        "turn": turn,
        "item": f"item-{session}-{turn}",
        "modality": "audio",
        "send_lag_ms": 1.0,
        "dialect": "ga",
        "outcome": Outcome.OK,
        "transcript_outcome": TranscriptOutcome.OK,
        "due_ns": T0 - 10 * MS,
        "started_ns": T0,
        "speech_end_ns": T0 + 500 * MS,
        "speech_stopped_ns": T0 + 700 * MS,
        "response_created_ns": T0 + 710 * MS,
        "first_text_ns": T0 + 780 * MS,
        "first_audio_ns": T0 + 800 * MS,
        "last_audio_ns": T0 + 1000 * MS,
        "input_transcript_ns": T0 + 760 * MS,
        "response_done_ns": T0 + 1010 * MS,
        "item_audio_ms": 600.0,
        "input_audio_ms": 900.0,
        "leading_silence_ms": 20.0,
        "output_rate_bytes_per_s": 48_000,
        "reference": "hello there world",
        "input_transcript": "Hello there, world!",
        "output_transcript": "Thank you, please hold.",
    }
    deltas = Deltas()
    deltas.add(DeltaKind.TRANSCRIPT, T0 + 780 * MS, chars=5)
    for at in audio_at_ms:
        deltas.add(DeltaKind.AUDIO, T0 + at * MS, size_bytes=4800)
    return TurnRecord(**{**values, "deltas": deltas, **over})


def _session(session: str = "s0", **over: Any) -> SessionRecord:
    values: dict[str, Any] = {
        "run_id": "r1",
        "worker": "w0",
        "session": session,
        "dialect": "ga",
        "turns": 1,
        "outcome": "ready",
        "due_ns": T0 - 10 * MS,
        "started_ns": T0 - 8 * MS,
        "connected_ns": T0 - 5 * MS,
        "ready_ns": T0 - 1 * MS,
        "ended_ns": T0 + 2000 * MS,
    }
    return SessionRecord(**{**values, **over})


@pytest.fixture(scope="session")
def make_turn() -> MakeTurn:
    return _turn


@pytest.fixture(scope="session")
def make_session() -> Callable[..., SessionRecord]:
    return _session


def run_maker(reports: Path) -> MakeRun:
    """Return what writes a run folder as the live half leaves it: ``run.json`` and shards."""

    def make(
        turns: Iterable[TurnRecord] = (),
        sessions: Iterable[SessionRecord] | None = None,
        health: Iterable[HealthSample] = (),
        *,
        run_id: str = "r1",
        name: str = "support",
        **over: Any,
    ) -> Path:
        turns = list(turns)
        run_dir = reports / name / run_id
        run_dir.mkdir(parents=True)
        run = {
            "schema_version": 1,
            "run_id": run_id,
            "scenario": {"name": name, "path": "s.yaml", "hash": "h", "resolved": {}},
            "labels": {},
            "target": {"provider": "simulator", "dialect": "ga", "address": "ws://127.0.0.1:1", "model": "m"},
            "dataset": {"path": "d", "name": "d", "hash": "h", "items": len(turns), "references": len(turns)},
            "planned": {"turns": len(turns), "sessions": 1, "sessions_at_once": 1},
            "gates": ["error_rate <= 0.01"],
            "checks": [],
            "scoring": {"normalizer": "whisper_english", "wer": True},
            "slo": {},
            "limits": {"send_lag_ms": 20.0, "loop_lag_ms": 20.0},
            "report": {"formats": ["markdown", "junit"], "audio": "none", "transcripts": "full"},
            "versions": {"rteval": "0.1.0", "metrics": 1},
            "started_at": "2025-01-01T00:00:00+00:00",
            "ended_at": None,
            "started_ns": T0,
            "ended_ns": T0 + 2000 * MS,
            "state": "running",
            "end": {"reason": "finished", "detail": None},
            "live": {"sessions_peak": None, "warnings": []},
        }
        (run_dir / "run.json").write_text(json.dumps({**run, **over}), encoding="utf-8")
        if sessions is None:
            sessions = [_session(name) for name in dict.fromkeys(turn.session for turn in turns)]
        with ShardWriter(run_dir, "w0") as writer:
            for turn in turns:
                writer.turn(turn)
            for session in sessions:
                writer.session(session)
            for sample in health:
                writer.health(sample)
        return run_dir

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return run_maker(tmp_path / "reports")


@pytest.fixture(scope="module")
def make_module_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """The same for a run that all tests of a module look at."""
    return run_maker(tmp_path_factory.mktemp("module") / "reports")
