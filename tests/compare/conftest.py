"""Runs made of records, as two nights would leave them; and their subjects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rteval.judge import judge
from rteval.records import HealthSample, Outcome, SessionRecord, TranscriptOutcome, TurnRecord
from rteval.shards import ShardWriter

T0 = 1_000_000_000_000_000
MS = 1_000_000
WORDS = "please tell me where my parcel is today thank you"

MakeNight = Callable[..., Path]


def night(
    reports: Path,
    run_id: str,
    *,
    slower: float = 1.0,
    wrong: float = 0.05,
    items: int = 40,
    repeat: int = 1,
    seed: int = 0,
    failing: Sequence[int] = (),
    name: str = "support",
    tags: Sequence[tuple[str, ...]] = (("billing",), ("sales", "vip")),
    variants: Sequence[tuple[str, float]] = ((None, 1.0),),  # type: ignore[assignment]
    late_ms: float = 0.1,
    judged: bool = True,
    transcripts: str = "full",
    **over: Any,
) -> Path:
    """Write a run: each item said ``repeat`` times in sessions of their own, once for each variant."""
    # Items keep their own pace from night to night; what happens in a night is its own chance.
    pace = np.exp(0.25 * np.random.default_rng(99).standard_normal(items))
    chance = np.random.default_rng([7, seed])
    run_dir = reports / name / run_id
    run_dir.mkdir(parents=True)
    count = 0
    with ShardWriter(run_dir, "w0") as writer:
        for attempt in range(1, repeat + 1):
            for item in range(items):
                for variant, factor in variants:
                    session, begun = f"s{count:04d}", T0 + count * 100 * MS
                    ttfa = 600 * pace[item] * slower * factor * np.exp(0.05 * chance.standard_normal())
                    heard = " ".join("wrong" if chance.random() < wrong else word for word in WORDS.split())
                    ok = count not in failing
                    first = begun + 500 * MS + int(ttfa * MS)
                    writer.turn(
                        TurnRecord(
                            run_id=run_id,
                            worker="w0",
                            variant=variant,
                            session=session,
                            turn=0,
                            item=f"item-{item:02d}",
                            attempt=attempt,
                            modality="audio",
                            dialect="ga",
                            tags=tags[item % len(tags)] if tags else (),
                            meta={"accent": "north" if item % 2 else "south"},
                            outcome=Outcome.OK if ok else Outcome.FAILED,
                            transcript_outcome=TranscriptOutcome.OK if ok else TranscriptOutcome.MISSING,
                            due_ns=begun,
                            started_ns=begun,
                            started_at="2026-11-20T03:00:00+00:00",
                            speech_end_ns=begun + 500 * MS,
                            first_audio_ns=first if ok else None,
                            response_done_ns=first + 400 * MS if ok else None,
                            send_lag_ms=1.0,
                            reference=WORDS,
                            input_transcript=heard if ok else None,
                            output_transcript="Thank you, please hold.",
                        )
                    )
                    writer.session(
                        SessionRecord(
                            run_id=run_id,
                            worker="w0",
                            variant=variant,
                            session=session,
                            dialect="ga",
                            turns=1,
                            outcome="ready",
                            due_ns=begun,
                            started_ns=begun,
                            connected_ns=begun + 5 * MS,
                            ready_ns=begun + int((9 + chance.random()) * MS),
                            ended_ns=begun + 3000 * MS,
                        )
                    )
                    count += 1
        writer.health(HealthSample(worker="w0", at_ns=T0, loop_lag_us=[int(late_ms * 1000)] * 200))
    resolved = {"session": {"turn_detection": {"type": "server_vad"}}, "load": {"pacing": "realtime"}}
    run = {
        "schema_version": 1,
        "run_id": run_id,
        "scenario": {"name": name, "path": "s.yaml", "hash": "h", "resolved": resolved},
        "labels": {"commit": run_id},
        "target": {"provider": "simulator", "dialect": "ga", "address": "ws://127.0.0.1:1", "model": "m"},
        "dataset": {"path": "d", "name": "d", "hash": "d1", "items": items, "references": items, "detector": "rms/1"},
        "planned": {"turns": count, "sessions": count, "sessions_at_once": 4},
        "load": {"model": "closed", "engine": "asyncio", "peak": 4, "asked": [[0, 4]]},
        "gates": [],
        "checks": [],
        "scoring": {"normalizer": "whisper_english", "wer": True},
        "slo": {},
        "limits": {"send_lag_ms": 20.0, "loop_lag_ms": 20.0},
        "report": {"formats": ["markdown", "junit"], "audio": "none", "transcripts": transcripts},
        "versions": {"rteval": "0.1.0", "metrics": 1},
        "variants": [{"name": name, "axes": {"prompt": name}} for name, _ in variants if name is not None],
        "started_at": f"2026-11-20T03:00:0{seed % 10}+00:00",
        "started_ns": T0,
        "ended_ns": T0 + count * 100 * MS + 3000 * MS,
        "state": "running",
        "end": {"reason": "finished", "detail": None},
        "live": {"sessions_peak": 4, "warnings": []},
    }
    (run_dir / "run.json").write_text(json.dumps({**run, **over}), encoding="utf-8")
    if judged:
        judge(run_dir, reports_written=False)
    return run_dir


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def make_night(reports: Path) -> MakeNight:
    """Writes and judges a run under ``reports``."""
    return lambda run_id, **over: night(reports, run_id, **over)


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports with four nights that tests only read: as always, the same again, slower, and mishearing."""
    reports = tmp_path_factory.mktemp("nights") / "reports"
    night(reports, "always", seed=1)
    night(reports, "again", seed=2)
    night(reports, "slower", seed=3, slower=1.3)
    night(reports, "deaf", seed=4, wrong=0.4)
    return reports
