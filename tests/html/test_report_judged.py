"""The page of a run that went through the judge: from records in shards to the numbers that a person reads."""

from __future__ import annotations

import json
import re

import pytest

from rteval.judge import judge
from rteval.records import DeltaKind, Deltas, HealthSample, Outcome, SessionRecord, Stage, TranscriptOutcome, TurnRecord
from rteval.shards import ShardWriter

MS = 1_000_000
RUN_ID = "20261120-233000-ab12"


def turn(number: int, *, text: bool, ok: bool) -> TurnRecord:
    """A turn of three audio deltas; every third transcript lacks its last word."""
    start = 1_000_000 * MS + number * 700 * MS
    end = start + 2000 * MS
    first = end + (800 + 10 * (number % 7)) * MS
    deltas = Deltas()
    for position in range(3 if ok else 0):
        deltas.add(DeltaKind.AUDIO, first + position * 40 * MS, size_bytes=4800)
    said = "please <b>send</b> it to number four"
    return TurnRecord(
        run_id=RUN_ID,
        worker="w0",
        session=f"s{number:03d}",
        turn=0,
        item=f"item-{number % 5}",
        modality="text" if text else "audio",
        dialect="ga",
        tags=("digits",),
        outcome=Outcome.OK if ok else Outcome.FAILED,
        failure_stage=None if ok else Stage.RESPOND,
        error_code=None if ok else "server_error",
        error_message=None if ok else "<script>alert(1)</script>",
        transcript_outcome=TranscriptOutcome.OFF if text else TranscriptOutcome.OK,
        due_ns=start,
        started_ns=start,
        speech_end_ns=end,
        speech_stopped_ns=None if text else end + 500 * MS,
        first_audio_ns=first if ok else None,
        last_audio_ns=first + 80 * MS if ok else None,
        response_done_ns=first + 90 * MS if ok else None,
        leading_silence_ms=20.0 if ok else None,
        output_rate_bytes_per_s=48_000,
        item_audio_ms=2100.0,
        reference=None if text else said,
        input_transcript=None if text else said if number % 3 else said.rsplit(" ", 1)[0],
        output_transcript="Sure.",
        meta={"agent": "a&b", "floor": number % 2},
        deltas=deltas,
    )


def write_run(folder, *, turns: int, text: bool, failing: int, transcripts: str, end: dict[str, str] | None):
    folder.mkdir()
    writer = ShardWriter(folder, "w0")
    for number in range(turns):
        ok = failing == 0 or number % failing > 0
        writer.turn(turn(number, text=text, ok=ok))
        writer.session(
            SessionRecord(
                run_id=RUN_ID, worker="w0", session=f"s{number:03d}", dialect="ga", turns=1, outcome="ready", ready_ns=1
            )
        )
        at = 1_000_000 * MS + number * 700 * MS
        writer.health(
            HealthSample(
                worker="w0", at_ns=at, loop_lag_us=[150, 900], send_lag_us=[200], cpu_share=0.2, sessions_open=3
            )
        )
    writer.close()
    run = {
        "schema_version": 1,
        "run_id": RUN_ID,
        "scenario": {"name": "judged", "path": "judged.yaml", "hash": "0", "resolved": {}},
        "labels": {},
        "target": {"provider": "simulator", "dialect": "ga", "address": "ws://127.0.0.1:1", "credential": "none"},
        "dataset": {"name": "d", "hash": "1", "items": 5},
        "planned": {"turns": turns, "sessions": turns, "sessions_at_once": 3},
        "gates": ["ttfa_ms.p95 < 1200", "error_rate <= 0.01"],
        "checks": [],
        "scoring": {"normalizer": "whisper_english", "wer": True},
        "slo": {},
        "limits": {"send_lag_ms": 20, "loop_lag_ms": 20},
        "report": {"formats": ["html"], "audio": "none", "transcripts": transcripts},
        "versions": {"rteval": "0", "python": "3.11", "metrics": 1},
        "started_at": "2026-11-20T23:30:00+00:00",
        "ended_at": None,
        "started_ns": 1_000_000 * MS,
        "ended_ns": 1_100_000 * MS,
        "state": "running",
        "end": end,
        "live": {"sessions_peak": 3, "warnings": []},
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"turns": 40, "failing": 10}, id="some failed"),
        pytest.param({"turns": 25, "text": True}, id="text only"),
        pytest.param({"turns": 4, "failing": 1}, id="all failed"),
        pytest.param({"turns": 0}, id="no turns"),
        pytest.param({"turns": 12, "transcripts": "none"}, id="no transcripts"),
        pytest.param({"turns": 12, "end": None}, id="killed"),
    ],
)
def test_the_page_of_a_judged_run_prints_the_numbers_of_its_summary(tmp_path, options):
    folder = tmp_path / RUN_ID
    settings = {"text": False, "failing": 0, "transcripts": "full", "end": {"reason": "finished"}, **options}
    write_run(folder, **settings)
    judgement = judge(folder)
    page = (folder / "report.html").read_text("utf-8")
    printed = set(re.findall(r'<data value="([^"]+)">', page))
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    for name, metric in summary["metrics"].items():
        if metric.get("value", metric.get("mean")) is None or name in ("send_lag_ms", "loop_lag_ms"):
            continue
        for stat in ("value", "mean", "p50", "p90", "p95", "p99", "min", "max"):
            if metric.get(stat) is not None:
                assert json.dumps(metric[stat]) in printed, (name, stat)
    assert f"exit code <b>{judgement.exit_code}</b>" in page
    assert "<script>alert" not in page
    assert "<b>send" not in page
    kept = settings["transcripts"] == "full" and settings["turns"] and not settings["text"]
    assert ("please " in page) == bool(kept)
