"""Nights: judged runs of a scenario, made of records, one a day."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rteval.judge import judge
from rteval.records import DeltaKind, Deltas, Outcome, SessionRecord, Stage, TranscriptOutcome, TurnRecord
from rteval.shards import ShardWriter

T0 = 1_000_000_000_000_000
MS = 1_000_000
GATES = ["ttfa_ms.p95 < 1200", "error_rate <= 0.05", "input_wer <= 0.2"]

Night = Callable[..., Path]


def _turn(number: int, at: int, ttfa_ms: float, **over: Any) -> TurnRecord:
    """The second of two turns says a word more than its reference."""
    deltas, ok = Deltas(), over.get("outcome", Outcome.OK) is Outcome.OK
    end = T0 + at * 3000 * MS + number * 100 * MS
    first = end + round(ttfa_ms * MS)
    for k in range(3 if ok else 0):
        deltas.add(DeltaKind.AUDIO, first + k * 50 * MS, size_bytes=4800)
    values: dict[str, Any] = {
        "run_id": "r",
        "worker": "w0",
        "session": f"s{number // 2:03d}",
        "turn": number % 2,
        "item": f"item-{number}",
        "modality": "audio",
        "dialect": "ga",
        "outcome": Outcome.OK,
        "transcript_outcome": TranscriptOutcome.OK,
        "due_ns": end - 500 * MS,
        "started_ns": end - 500 * MS,
        "speech_end_ns": end,
        "first_audio_ns": first if ok else None,
        "response_done_ns": first + 200 * MS if ok else None,
        "leading_silence_ms": 20.0 if ok else None,
        "output_rate_bytes_per_s": 48_000,
        "reference": "please send it to number four",
        "input_transcript": f"please send it to number four{' more' * (number % 2)}",
        "expect": {"contains": "thank"},
        "output_transcript": "Thank you, please hold." if number % 5 else "No.",
    }
    return TurnRecord(**{**values, "deltas": deltas, **over})


def night_maker(reports: Path) -> Night:
    """Return what makes one judged run."""

    def make(
        day: int = 1,
        *,
        name: str = "support",
        turns: int = 40,
        shift_ms: float = 0.0,
        failed: int = 0,
        judged: bool = True,
        warm_turns: int = 0,
        **over: Any,
    ) -> Path:
        rng = np.random.default_rng(day)
        run_id = f"202611{day:02d}-030000-ab12"
        folder = reports / name / run_id
        folder.mkdir(parents=True)
        lost = {"outcome": Outcome.DROPPED, "failure_stage": Stage.RESPOND, "error_code": "close_1006"}
        records = [
            _turn(
                number,
                0,
                shift_ms + float(rng.lognormal(6.7, 0.15)),
                warmup=number < warm_turns,
                **(lost if number < failed else {}),
            )
            for number in range(turns)
        ]
        run = {
            "schema_version": 1,
            "run_id": run_id,
            "scenario": {"name": name, "path": "s.yaml", "hash": "h", "resolved": {}},
            "labels": {"commit": f"c{day:07d}"},
            "target": {"provider": "azure", "dialect": "ga", "address": "wss://x", "model": "gpt-realtime"},
            "dataset": {"path": "d", "name": "d", "hash": "h", "items": turns, "references": turns},
            "planned": {"turns": turns, "sessions": (turns + 1) // 2, "sessions_at_once": 2},
            "gates": GATES,
            "checks": ["contains"],
            "scoring": {"normalizer": "whisper_english", "wer": True},
            "slo": {},
            "limits": {"send_lag_ms": 20.0, "loop_lag_ms": 20.0},
            "report": {"formats": ["markdown"], "audio": "none", "transcripts": "full"},
            "versions": {"rteval": "0.1.0", "metrics": 1},
            "started_at": f"2026-11-{day:02d}T03:00:00+00:00",
            "ended_at": None,
            "started_ns": T0,
            "ended_ns": T0 + 2000 * MS,
            "state": "running",
            "end": {"reason": "finished", "detail": None},
            "live": {"sessions_peak": 2, "warnings": []},
        }
        (folder / "run.json").write_text(json.dumps({**run, **over}), encoding="utf-8")
        with ShardWriter(folder, "w0") as writer:
            for record in records:
                writer.turn(record)
            for session in dict.fromkeys(record.session for record in records):
                writer.session(
                    SessionRecord(
                        run_id="r", worker="w0", session=session, dialect="ga", turns=2, outcome="ready",
                        due_ns=T0, started_ns=T0, connected_ns=T0 + 5 * MS, ready_ns=T0 + 9 * MS,
                        ended_ns=T0 + 999 * MS,
                    )
                )  # fmt: skip
        if judged:
            judge(folder)
        return folder

    return make


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """Makes one run under ``tmp_path / 'reports'``."""
    return night_maker(tmp_path / "reports")


@pytest.fixture
def some(nights: Path, tmp_path: Path) -> Callable[[int], list[Path]]:
    """Copies the first so many of ``nights`` to ``tmp_path / 'reports'``, to be damaged."""

    def copy(count: int) -> list[Path]:
        folders = sorted((nights / "support").glob("2*"))[:count]
        return [shutil.copytree(folder, tmp_path / "reports" / "support" / folder.name) for folder in folders]

    return copy


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of a scenario over eight nights, of which the fifth was slow and the seventh lost connections."""
    reports = tmp_path_factory.mktemp("nights") / "reports"
    make = night_maker(reports)
    for day in range(1, 9):
        make(day, shift_ms=400.0 if day == 5 else 0.0, failed=6 if day == 7 else 0)
    return reports
