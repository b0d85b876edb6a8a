"""rteval itself: its sessions, transport, turn machine, shards and health meter; no schedule, no report."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import traffic

from rteval.client.auth import NoCredential
from rteval.client.frames import FrameBank
from rteval.client.session import Caller, LagMeter, Session, TimeoutsS
from rteval.client.transport import Endpoint
from rteval.client.warmup import warm_up
from rteval.corpus import load_dataset
from rteval.formats import PCM16
from rteval.load.health import HealthMeter
from rteval.plan import PlannedTurn
from rteval.realtime.dialects import GA
from rteval.realtime.events import SessionSettings
from rteval.records import DeltaKind, HealthSample, Outcome, TurnRecord
from rteval.shards import ShardWriter, read_shards
from rteval.station import loop_factory, quiet_gc


class Lags:
    """Passes each lag on to the health meter and keeps it: one session's, in order of its frames."""

    def __init__(self, meter: LagMeter) -> None:
        self.meter = meter
        self.lag_us = array("q")

    def send_lag(self, lag_ns: int) -> None:
        """One paced frame was reached late."""
        self.meter.send_lag(lag_ns)
        self.lag_us.append(lag_ns // 1000)


def make_dataset(folder: Path, job: traffic.Job) -> Path:
    """One item: noise as long as the turn's appends, or a text prompt."""
    entry: dict[str, Any] = {"id": "item", "text": "Say something."}
    if job.frames:
        noise = np.random.default_rng(3).uniform(-0.3, 0.3, PCM16.rate * job.frames * job.frame_ms // 1000)
        soundfile.write(folder / "noise.wav", noise, PCM16.rate, subtype="PCM_16")
        entry = {"id": "item", "file_name": "noise.wav"}
    (folder / "metadata.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    return folder


class Client:
    """One process of sessions."""

    def __init__(self, job: traffic.Job, folder: Path) -> None:
        self.job = job
        self.writer = ShardWriter(folder, "bench")
        self.dataset = load_dataset(make_dataset(folder, job))
        frames = FrameBank(self.dataset, PCM16, job.frame_ms, manual=True)
        frames.warm(self.dataset.items)
        self.meter = HealthMeter("bench", lambda: self.caller.board.sessions_open, self.health)
        self.caller = Caller(
            run_id="bench",
            worker="bench",
            provider="custom",
            endpoint=Endpoint(job.url),
            dialect=GA,
            credential=NoCredential(),
            settings=SessionSettings(modalities=("audio",)),
            timeouts=TimeoutsS(response=60.0),
            frames=frames,
            rows=self.writer,
            lags=self.meter,
            frame_ms=job.frame_ms,
            detects_turns=False,
            wait_for_playback=False,
        )
        self.turns: Sequence[PlannedTurn] = [PlannedTurn(self.dataset.items[0], 1)] * job.turns
        self.lags = [Lags(self.meter) for _ in range(job.sessions)]

    def health(self, sample: HealthSample) -> None:
        """Once a second."""
        self.writer.health(sample)
        self.writer.flush()

    async def hold(self, window: traffic.Window, number: int) -> None:
        """One session with its turns."""
        start_ns = window.session_start_ns(number)
        await traffic.reach(start_ns)
        caller = replace(self.caller, lags=self.lags[number])
        await Session(caller, f"s{number:05d}", self.turns, start_ns).run()

    async def run(self) -> None:
        """All sessions."""
        window = traffic.Window(self.job)
        traffic.say("begun", from_ns=window.from_ns, until_ns=window.until_ns)

        async def end() -> None:
            await traffic.reach(window.until_ns)
            self.caller.board.stopping.set()

        with self.meter.watched():
            await asyncio.gather(end(), *(self.hold(window, number) for number in range(self.job.sessions)))

    def row(self, record: TurnRecord) -> str:
        """A turn as the other clients write it."""
        deltas, session = record.deltas, int(record.session[1:])
        audio = [n for n, kind in enumerate(deltas.kind) if kind == DeltaKind.AUDIO]
        frames = self.job.frames
        return json.dumps(
            {
                "session": session,
                "turn": record.turn,
                "started_ns": record.started_ns,
                "create_ns": record.create_ns,
                "response_id": record.response_id,
                "arrival_ns": [deltas.arrival_ns[n] for n in audio],
                "size_bytes": [deltas.size_bytes[n] for n in audio],
                "lag_us": self.lags[session].lag_us[record.turn * frames : (record.turn + 1) * frames].tolist(),
            }
        )


def main() -> int:
    """Hold the sessions, then turn the shards into rows."""
    job = traffic.start()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        client = Client(job, folder)
        if job.warm:
            warm_up(client.caller.dialect, client.caller.settings)
        traffic.say("set up")
        with quiet_gc(), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(client.run())
        client.writer.close()
        turns = [record for record in read_shards(folder).turns if record.outcome is not Outcome.CUT]
        ended = [record for record in turns if record.outcome is Outcome.OK]
        with open(job.rows, "w", encoding="utf-8") as file:
            file.writelines(client.row(record) + "\n" for record in ended)
        for record in turns[: 0 if len(ended) == len(turns) else 3]:
            print(f"{record.outcome}: {record.error_code} {record.error_message}", file=sys.stderr)
        traffic.say("done", broken=len(turns) - len(ended))
    return 0


if __name__ == "__main__":
    sys.exit(main())
