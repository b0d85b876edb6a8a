"""What all clients of the comparison share: the job, when each session starts, how it is paced, and the rows it leaves.

Only the standard library: the peers run in virtual environments of their own. A client is a process that reads its job
from stdin (one line of JSON), prints ``{"stage": "set up"}`` when all is imported and nothing connected, ``{"stage":
"begun", "from_ns": .., "until_ns": ..}`` when it knows its window of measurement, and ``{"stage": "done"}`` at the end.
All times are CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

GOLDEN = 0.6180339887498949
PCM_BYTES_PER_MS = 48


@dataclass(frozen=True)
class Job:
    """One round of one client.

    Attributes:
        frames: appends of a turn; 0 asks with a text prompt.
        turns: at most so many in a session.
        ramp_s, settle_s, window_s: sessions are opened; all of them are under way; what is measured.
        rows: file for one line of JSON a turn.
        warm: whether the client may warm itself up before it connects.
    """

    url: str
    sessions: int
    frames: int
    frame_ms: int
    turns: int
    ramp_s: float
    settle_s: float
    window_s: float
    rows: str
    warm: bool = True
    cpu: int | None = None


@dataclass
class Window:
    """When the sessions start and what is measured, known once the loop runs."""

    job: Job
    start_ns: int = field(default_factory=lambda: time.perf_counter_ns() + 200_000_000)

    @property
    def from_ns(self) -> int:
        """The first moment that counts."""
        return self.start_ns + round((self.job.ramp_s + self.job.settle_s) * 1e9)

    @property
    def until_ns(self) -> int:
        """The last moment that counts; no turn starts after it."""
        return self.from_ns + round(self.job.window_s * 1e9)

    def session_start_ns(self, number: int) -> int:
        """Spread by the golden ratio: even steps would meet the rhythm of the frames and make them come in bursts."""
        return self.start_ns + round(number * GOLDEN % 1.0 * self.job.ramp_s * 1e9)


def start() -> Job:
    """Read the job, stay on the core it names, and allow as many connections as the system does."""
    job = Job(**json.loads(sys.stdin.readline()))
    if job.cpu is not None:
        os.sched_setaffinity(0, {job.cpu})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return job


def say(stage: str, **facts: Any) -> None:
    """Tell the parent."""
    print(json.dumps({"stage": stage, **facts}), flush=True)


async def reach(due_ns: int) -> int:
    """Wait for an absolute deadline; how late it was reached, in nanoseconds."""
    ahead_ns = due_ns - time.perf_counter_ns()
    if ahead_ns > 0:
        await asyncio.sleep(ahead_ns / 1e9)
    return max(0, time.perf_counter_ns() - due_ns)


class Turn:
    """What a peer notes of one turn while it goes on."""

    def __init__(self, session: int, number: int) -> None:
        self.session, self.number = session, number
        self.started_ns = time.perf_counter_ns()
        self.create_ns = 0
        self.response_id = ""
        self.arrival_ns: list[int] = []
        self.size_bytes: list[int] = []
        self.lag_us: list[int] = []
        self.done = asyncio.Event()

    def heard(self, at_ns: int, audio: str) -> None:
        """An audio delta: its stamp, and its size by arithmetic."""
        self.arrival_ns.append(at_ns)
        self.size_bytes.append((len(audio) - audio.count("=", -2)) * 3 // 4)

    def row(self) -> str:
        """The turn as one line."""
        return json.dumps(
            {
                "session": self.session,
                "turn": self.number,
                "started_ns": self.started_ns,
                "create_ns": self.create_ns,
                "response_id": self.response_id,
                "arrival_ns": self.arrival_ns,
                "size_bytes": self.size_bytes,
                "lag_us": self.lag_us,
            }
        )


def hold_all(hold: Callable[[Job, Window, int, Callable[[str], Any]], Awaitable[None]], job: Job) -> None:
    """Run ``hold(job, window, session, write_row)`` for every session of the job on the stock loop, and report."""

    async def one(window: Window, number: int, write: Callable[[str], Any]) -> None:
        await reach(window.session_start_ns(number))
        await hold(job, window, number, write)

    async def everything(write: Callable[[str], Any]) -> int:
        window = Window(job)
        say("begun", from_ns=window.from_ns, until_ns=window.until_ns)
        sessions = [one(window, number, write) for number in range(job.sessions)]
        results = await asyncio.gather(*sessions, return_exceptions=True)
        broken = [result for result in results if isinstance(result, BaseException)]
        for error in broken[:3]:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return len(broken)

    say("set up")
    with open(job.rows, "w", encoding="utf-8") as file:
        broken = asyncio.run(everything(lambda line: file.write(line + "\n")))
    say("done", broken=broken)
