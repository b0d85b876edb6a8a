"""How much memory judging takes after a run of ten million deltas: tables, statistics and every report.

    python benchmarks/judge_memory.py [--turns 25000] [--deltas 400] [--limit-mb 250]

The shards are written as a live run writes them, with every anchor, text and count that an ok turn has, ten turns to a
session. They are judged in a process of its own; quoted is its peak resident set beyond what it had with everything
imported. The wide turn table grows with the turns, the deltas pass through: the same deltas in four times as many turns
(``--turns 100000 --deltas 100``) show it. Exits 1 beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from rteval.records import (
    SCHEMA_VERSION,
    DeltaKind,
    Deltas,
    HealthSample,
    Outcome,
    SessionRecord,
    TranscriptOutcome,
    TurnRecord,
    Usage,
)
from rteval.shards import ShardWriter

MS = 1_000_000
TURNS_A_SESSION = 10
ITEMS = 30

WORK = """
import json, sys, time
from pathlib import Path
import pandas, pyarrow.parquet
import rteval.analysis.samples, rteval.analysis.store, rteval.analysis.variants, rteval.reporting.html
from rteval.judge import judge

def kib(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

before, start = kib("VmRSS"), time.process_time()
judged = judge(Path(sys.argv[1]))
print(json.dumps({"turns": judged.summary["counts"]["turns"], "exit_code": judged.exit_code,
                  "cpu_s": round(time.process_time() - start, 1), "imported_mb": round(before / 1024),
                  "peak_mb": round((kib("VmHWM") - before) / 1024)}))
"""


def write_run(folder: Path, turns: int, deltas: int) -> None:
    """A run folder as its live half leaves it."""
    run = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "r1",
        "scenario": {"name": "memory", "resolved": {}},
        "planned": {"turns": turns},
        "gates": ["error_rate <= 0.01", "ttfa_ms.p95 <= 3000"],
        "scoring": {"normalizer": "whisper_english", "wer": True},
        "limits": {"send_lag_ms": 20.0, "loop_lag_ms": 20.0},
        "started_ns": 0,
        "ended_ns": turns * 100 * MS,
        "end": {"reason": "finished"},
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    chance = random.Random(1)
    with ShardWriter(folder, "w0") as writer:
        for number in range(turns):
            session, place = divmod(number, TURNS_A_SESSION)
            start_ns = 1_000_000_000 + number * 10 * MS
            writer.turn(_turn(f"s{session:05d}", place, number, start_ns, deltas, chance))
            if place == TURNS_A_SESSION - 1:
                writer.session(_session(f"s{session:05d}", start_ns))
            if number % 100 == 0:
                lags = [chance.randrange(900) for _ in range(200)]
                writer.health(HealthSample(worker="w0", at_ns=start_ns, loop_lag_us=lags[:20], send_lag_us=lags))
                writer.flush()


def _turn(session: str, place: int, number: int, start_ns: int, deltas: int, chance: random.Random) -> TurnRecord:
    said = " ".join(f"word{(number * 7 + n) % 50}" for n in range(12))
    end_ns = start_ns + 2000 * MS
    first_ns = end_ns + chance.randrange(300, 900) * MS
    stream = Deltas()
    for n in range(deltas):
        at_ns = first_ns + n * 5 * MS + chance.randrange(3 * MS)
        if n % 3:
            stream.add(DeltaKind.AUDIO, at_ns, size_bytes=4800)
        else:
            stream.add(DeltaKind.TRANSCRIPT, at_ns, chars=6)
    return TurnRecord(
        run_id="r1",
        worker="w0",
        session=session,
        session_id=f"sess_{number // TURNS_A_SESSION:024d}",
        turn=place,
        item=f"item-{number % ITEMS}",
        attempt=number // ITEMS + 1,
        modality="audio",
        item_id=f"item_{number:024d}",
        response_id=f"resp_{number:024d}",
        tags=("noisy",),
        language="en",
        dialect="ga",
        concurrency=20,
        started_at="2025-01-01T00:00:00.000+00:00",
        outcome=Outcome.OK,
        transcript_outcome=TranscriptOutcome.OK,
        due_ns=start_ns,
        started_ns=start_ns,
        speech_end_ns=end_ns,
        speech_stopped_ns=end_ns + 200 * MS,
        committed_ns=end_ns + 201 * MS,
        response_created_ns=end_ns + 210 * MS,
        first_text_ns=first_ns,
        first_audio_ns=first_ns,
        last_audio_ns=first_ns + deltas * 5 * MS,
        input_transcript_ns=end_ns + 280 * MS,
        response_done_ns=first_ns + deltas * 5 * MS + MS,
        input_audio_ms=2500.0,
        item_audio_ms=2100.0,
        speech_ms=2000.0,
        leading_silence_ms=20.0,
        talk_over_ms=0.0,
        send_lag_ms=0.4,
        backpressure_ms=0.0,
        output_rate_bytes_per_s=48_000,
        reference=said,
        input_transcript=said,
        output_transcript=f"You said: {said}",
        meta={"voice": f"voice-{number % 24}"},
        usage=Usage(input_tokens=100, output_tokens=200, input_audio_tokens=80, output_audio_tokens=180),
        deltas=stream,
    )


def _session(session: str, at_ns: int) -> SessionRecord:
    return SessionRecord(
        run_id="r1",
        worker="w0",
        session=session,
        dialect="ga",
        turns=TURNS_A_SESSION,
        outcome="ready",
        due_ns=at_ns,
        started_ns=at_ns,
        connected_ns=at_ns + 5 * MS,
        ready_ns=at_ns + 9 * MS,
        ended_ns=at_ns + 20_000 * MS,
    )


def measure(*, turns: int, deltas: int) -> dict[str, float]:
    """Write the run, judge it in a process of its own, and return the figures of that."""
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), turns, deltas)
        command = [sys.executable, "-c", WORK, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1_800, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return {**figures, "deltas": turns * deltas}


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=25_000)
    parser.add_argument("--deltas", type=int, default=400, help="of each turn")
    parser.add_argument("--limit-mb", type=float, default=250.0)
    options = parser.parse_args()
    figures = measure(turns=options.turns, deltas=options.deltas)
    print(json.dumps({**figures, "limit_mb": options.limit_mb}))
    raise SystemExit(int(figures["peak_mb"] > options.limit_mb))


if __name__ == "__main__":
    main()
