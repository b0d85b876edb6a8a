"""How much of a core the simulated service needs for many paced sessions with turn detection.

    python benchmarks/simulator_capacity.py [SESSIONS] [SECONDS]

Every session speaks a recording in real time, 100 ms an append, is silent for two seconds, and begins again; the server
detects, recognises, transcribes and answers. Printed are the CPU shares of one core (from ``/proc``) of the server, of
the process beside it that recognises, and of the client; how late first audio left against the server's own plan; and
the same when nothing is ever heard. A box with less than two idle cores measures itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pybase64
import uvloop
from websockets.asyncio.client import connect

from rteval.corpus import load_dataset
from rteval.formats import PCM16
from rteval.simulator.process import Simulator

DATASET = Path(__file__).parents[1] / "datasets" / "support"
FRAME_S = 0.1
TTFA_MS = 300
PAUSE_S = 2.0


def cpu_s(pid: int | str) -> float:
    """CPU seconds of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process started: the server has one for recognition."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def frames() -> list[list[bytes]]:
    """The append frames of each item, encoded once."""
    dataset = load_dataset(DATASET)
    step = PCM16.frame_bytes(100)
    pause = PCM16.silence * round(PCM16.rate * PAUSE_S)
    spoken = [dataset.encoded(item, PCM16) + pause for item in dataset.items]
    head, tail = b'{"type":"input_audio_buffer.append","audio":"', b'"}'
    return [
        [head + pybase64.b64encode(audio[at : at + step]) + tail for at in range(0, len(audio), step)]
        for audio in spoken
    ]


async def call(url: str, script: itertools.cycle[bytes], start: float, end: float, done: list[int]) -> None:
    """One session: speaks the script in real time from ``start`` to ``end``; counts the answers into ``done``."""
    async with connect(url, compression=None, max_size=None, proxy=None, ping_timeout=120) as socket:
        update = {
            "type": "realtime",
            "audio": {
                "input": {
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                    "transcription": {"model": "whisper-1"},
                }
            },
        }
        await socket.send(json.dumps({"type": "session.update", "session": update}))

        async def read() -> None:
            async for frame in socket:
                if frame.startswith('{"type":"response.done"'):
                    done[0] += 1

        reading = asyncio.create_task(read())
        for number in itertools.count():
            due = start + number * FRAME_S
            if due > end:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await socket.send(next(script), text=True)
        reading.cancel()


async def load(url: str, sessions: int, seconds: float, pid: int) -> dict[str, float]:
    """All sessions at once; CPU shares and answers a second, measured from two seconds after the start."""
    done = [0]
    scripts = frames()
    path = "/openai/v1/realtime?model=test"
    start = time.perf_counter() + 2.0
    end = start + seconds + 2.0
    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            spoken = scripts[number % len(scripts)]
            script = itertools.cycle(spoken[(number * 7) % len(spoken) :] + spoken[: (number * 7) % len(spoken)])
            offset = number / sessions * FRAME_S
            group.create_task(call(url + path, script, start + offset, end, done))
        await asyncio.sleep(max(0.0, start + 2.0 - time.perf_counter()))
        pids = {"server_share": pid, "client_share": os.getpid()}
        pids.update((f"recognition_share_{number}", child) for number, child in enumerate(children(pid)))
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        at, turns = time.perf_counter(), done[0]
        await asyncio.sleep(max(0.0, end - 0.1 - time.perf_counter()))
        took = time.perf_counter() - at
        facts = {name: (cpu_s(pid) - before[name]) / took for name, pid in pids.items()}
        facts["turns_per_s"] = (done[0] - turns) / took
    return facts


def lateness_ms(truth: Path) -> list[float]:
    """How late each first audio left, in order of size."""
    rows = [json.loads(row) for row in truth.read_text().splitlines()]
    return sorted(
        (row["t_first_audio_ns"] - row["t_request_ns"]) / 1e6 - TTFA_MS
        for row in rows
        if row["t_first_audio_ns"] is not None
    )


def main() -> None:
    """Measure with detection, and without."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 15.0
    with tempfile.TemporaryDirectory() as folder:
        for name, behaviour in (("detecting", {}), ("deaf", {"vad": False})):
            truth = Path(folder) / f"{name}.jsonl"
            settings = {"ttfa_ms": TTFA_MS, **behaviour}
            with Simulator(datasets=[DATASET], behaviour=settings, truth=truth) as simulator:
                facts = uvloop.run(load(simulator.url, sessions, seconds, simulator.pid))
            late = lateness_ms(truth)
            report = {"run": name, "sessions": sessions, **{key: round(value, 3) for key, value in facts.items()}}
            if late:
                report |= {
                    "answers": len(late),
                    "late_p50_ms": round(late[len(late) // 2], 2),
                    "late_p99_ms": round(late[len(late) * 99 // 100], 2),
                    "late_max_ms": round(late[-1], 2),
                }
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
