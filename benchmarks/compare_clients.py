"""rteval beside the ``openai`` SDK and a plain websockets + json client: the same server, the same traffic, in turns.

    python benchmarks/compare_clients.py --quick              # a few minutes, to see that all works
    python benchmarks/compare_clients.py --json figures.json  # about an hour; the Markdown table goes to stdout

Run it in the environment that has rteval. The peers get virtual environments of their own in ``--cache`` (made on first
use, packages from PyPI). Every round is a fresh server and a fresh client, each on a core of its own where there are
two; the clients take turns, and what is printed is the median of the rounds.

How it measures: the server counts appends, deltas and answers; CPU and waiting times of client and server are the
scheduler's own (``/proc/PID/task/*/schedstat``), read from outside at both ends of the window. The error of a time to
first audio is the client's stamp of the first delta minus the server's stamp just before its socket got it, and the
stamp lag the same for every delta; both clocks are CLOCK_MONOTONIC. A round counts for nothing when the server used more
than 70 % of its core, and not for latencies when client or server waited for a core longer than ``--max-wait`` (share of
the window): then somebody else was at work. It is repeated a few times, and what stays noisy is marked with ``*``.

Needs Linux. Everything is bounded: rounds, repeats, the length of each round, and all of it by ``--budget-s``.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TextIO

import numpy as np

HERE = Path(__file__).parent
SERVER_LIMIT = 0.70
SATURATED = 0.97
TTFA_LIMIT_MS = 5.0
STAGE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Kind:
    """One of the clients.

    Attributes:
        script: below ``peers/``.
        packages: what its virtual environment holds; ``None`` is the environment of this script.
    """

    name: str
    script: str
    packages: tuple[str, ...] | None = None


CLIENTS = {
    "rteval": Kind("rteval", "rteval_sessions.py"),
    "websockets": Kind("websockets + json", "websockets_json.py", ("websockets",)),
    "openai": Kind("openai SDK", "openai_sdk.py", ("openai[realtime]",)),
}


@dataclass(frozen=True)
class Traffic:
    """What every session of a round does.

    Attributes:
        frames: appends of 100 ms in a turn; 0 is a text prompt.
        deltas, gap_ms, delay_ms, delta_bytes: the answer.
        turns: at most so many in a session.
        settle_s: between the last session's start and the window; ``None``: one turn and a half.
    """

    sessions: int
    frames: int = 30
    deltas: int = 20
    gap_ms: float = 75.0
    delay_ms: float = 500.0
    delta_bytes: int = 12_000
    turns: int = 10_000
    ramp_s: float | None = None
    settle_s: float | None = None
    window_s: float = 10.0
    warm: bool = True

    @property
    def turn_s(self) -> float:
        """Length of a turn when nothing is late."""
        return (self.frames * 100 + self.delay_ms + (self.deltas - 1) * self.gap_ms) / 1000


@dataclass
class Usage:
    """What a process has used of the processors so far, in seconds."""

    cpu_s: float
    wait_s: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Read it from the scheduler, all threads together."""
        cpu_ns = wait_ns = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                ran, waited, _ = (task / "schedstat").read_text().split()
            except (OSError, ValueError):
                continue  # a thread that ended meanwhile
            cpu_ns, wait_ns = cpu_ns + int(ran), wait_ns + int(waited)
        return cls(cpu_ns / 1e9, wait_ns / 1e9)


def anonymous_kib(pid: int) -> int:
    """Memory of a process that no file stands behind."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def stolen_s() -> float:
    """CPU time that the hypervisor gave to others so far, all cores."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


class Child:
    """A process that speaks JSON lines on stdout, with a bound on every wait."""

    def __init__(self, command: Sequence[str | Path], errors: TextIO) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def tell(self, line: str) -> None:
        """One line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self, timeout_s: float = STAGE_TIMEOUT_S) -> dict[str, Any]:
        """Its next line.

        Raises:
            RuntimeError: it ended or was silent.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except Empty:
            line = ""
        if not line:
            raise RuntimeError(f"{self.process.args!r} said nothing")
        facts: dict[str, Any] = json.loads(line)
        return facts

    def end(self, timeout_s: float) -> None:
        """Close its stdin, wait, and kill it when that takes too long."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5.0)


@dataclass
class Round:
    """What one round gave.

    Attributes:
        cpu_share, server_share: of one core.
        wait_share, server_wait_share: time that they wanted to run and could not, of the window; the client's own threads
            wait for one another too.
        stolen_share: of all cores, by the hypervisor.
        appends, deltas, answers: that the server counted in the window.
        memory_kib: per session, anonymous.
        ttfa_error_ms, stamp_lag_ms: of each turn and each delta in the window.
        turn_error_ms: TTFA error by the turn's number in its session.
        send_lag_ms: by number of the frame in its turn.
        broken: sessions or turns that did not end well.
    """

    client: str
    sessions: int
    cpu_s: float
    window_s: float
    cpu_share: float
    wait_share: float
    server_share: float
    server_wait_share: float
    stolen_share: float
    appends: int
    deltas: int
    answers: int
    memory_kib: float
    broken: int
    ttfa_error_ms: list[float] = field(default_factory=list)
    stamp_lag_ms: list[float] = field(default_factory=list)
    turn_error_ms: dict[int, list[float]] = field(default_factory=dict)
    send_lag_ms: dict[int, list[float]] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        """Whether the server was the bottleneck."""
        return self.server_share > SERVER_LIMIT

    @property
    def saturated(self) -> bool:
        """Whether the client had no core left to give."""
        return self.cpu_share > SATURATED


@dataclass(frozen=True)
class Bench:
    """Where and how rounds are run.

    Attributes:
        pythons: interpreter of each client.
        cores: of the client and the server; ``None`` where the box has only one.
        max_wait: longest wait for a core in a quiet round, share of the window.
        ends_at: when the budget is used up, by ``time.monotonic``.
    """

    pythons: dict[str, Path]
    cores: tuple[int, int] | None
    max_wait: float
    ends_at: float

    def noisy(self, done: Round) -> bool:
        """Whether somebody else was at work in a round."""
        return max(done.wait_share, done.server_wait_share, done.stolen_share) > self.max_wait

    def round(self, client: str, traffic: Traffic) -> Round:
        """One round: a fresh server, a fresh client.

        Raises:
            RuntimeError: one of them did not do its part.
        """
        with tempfile.TemporaryDirectory(prefix="rteval-bench-") as temporary:
            folder = Path(temporary)
            with (folder / "errors.txt").open("w+", encoding="utf-8") as errors:
                try:
                    with self._server(traffic, folder, errors) as server:
                        done = self._drive(client, traffic, folder, errors, server)
                    read_rows(done, folder)
                except (RuntimeError, OSError, KeyError, ValueError) as error:
                    errors.seek(0)
                    raise RuntimeError(f"{client}, {traffic.sessions} sessions: {error}\n{errors.read()[-2000:]}") from None
        return done

    @contextmanager
    def _server(self, traffic: Traffic, folder: Path, errors: TextIO) -> Iterator[Child]:
        command: list[str | Path] = [sys.executable, HERE / "bare_server.py", "--truth", folder / "truth.jsonl"]
        for name in ("deltas", "gap_ms", "delay_ms", "delta_bytes"):
            command += [f"--{name.replace('_', '-')}", str(getattr(traffic, name))]
        if self.cores is not None:
            command += ["--cpu", str(self.cores[1])]
        server = Child(command, errors)
        try:
            yield server
        finally:
            server.end(10.0)

    def _drive(self, client: str, traffic: Traffic, folder: Path, errors: TextIO, server: Child) -> Round:
        port = server.hear()["port"]
        ramp_s = traffic.ramp_s if traffic.ramp_s is not None else max(traffic.turn_s, traffic.sessions * 0.006)
        settle_s = traffic.settle_s if traffic.settle_s is not None else traffic.turn_s * 1.5
        job = {
            "url": f"ws://127.0.0.1:{port}/v1/realtime?model=bare",
            "sessions": traffic.sessions,
            "frames": traffic.frames,
            "frame_ms": 100,
            "turns": min(traffic.turns, 2 + int((ramp_s + settle_s + traffic.window_s) / max(traffic.turn_s, 0.01))),
            "ramp_s": ramp_s,
            "settle_s": settle_s,
            "window_s": traffic.window_s,
            "rows": str(folder / "rows.jsonl"),
            "warm": traffic.warm,
            "cpu": self.cores[0] if self.cores is not None else None,
        }
        child = Child([self.pythons[client], HERE / "peers" / CLIENTS[client].script], errors)
        try:
            child.tell(json.dumps(job))
            child.hear()
            memory_kib = anonymous_kib(child.pid)
            window = child.hear()
            sleep_until(window["from_ns"])
            before = self._sample(child, server)
            sleep_until(window["until_ns"])
            after = self._sample(child, server)
            memory_kib = anonymous_kib(child.pid) - memory_kib
            # One turn may just have begun; a client that is behind needs longer than that, and loses what it still has.
            ended = child.hear(traffic.turn_s * 3 + 30.0)
        finally:
            child.end(10.0)
        seconds = after["at"] - before["at"]
        counted = {name: after["counts"][name] - before["counts"][name] for name in ("appends", "deltas", "answers")}
        return Round(
            client=client,
            sessions=traffic.sessions,
            cpu_s=after["client"].cpu_s - before["client"].cpu_s,
            window_s=seconds,
            cpu_share=(after["client"].cpu_s - before["client"].cpu_s) / seconds,
            wait_share=(after["client"].wait_s - before["client"].wait_s) / seconds,
            server_share=(after["server"].cpu_s - before["server"].cpu_s) / seconds,
            server_wait_share=(after["server"].wait_s - before["server"].wait_s) / seconds,
            stolen_share=(after["stolen_s"] - before["stolen_s"]) / seconds / (os.cpu_count() or 1),
            memory_kib=memory_kib / traffic.sessions,
            broken=ended["broken"],
            ttfa_error_ms=[float(window["from_ns"]), float(window["until_ns"])],
            **counted,
        )

    def _sample(self, child: Child, server: Child) -> dict[str, Any]:
        server.tell("count")
        counts = server.hear()
        return {
            "at": time.perf_counter(),
            "counts": counts,
            "client": Usage.of(child.pid),
            "server": Usage.of(server.pid),
            "stolen_s": stolen_s(),
        }


def sleep_until(at_ns: int) -> None:
    """Of the monotonic clock."""
    time.sleep(max(0.0, (at_ns - time.perf_counter_ns()) / 1e9))


def read_rows(done: Round, folder: Path) -> None:
    """Compare the client's rows with the server's truth, as far as they lie in the window."""
    from_ns, until_ns = done.ttfa_error_ms
    done.ttfa_error_ms = []
    truth = {}
    for line in (folder / "truth.jsonl").read_text().splitlines():
        entry = json.loads(line)
        truth[entry["response_id"]] = entry["delta_ns"]
    by_turn: dict[int, list[float]] = defaultdict(list)
    by_frame: dict[int, list[float]] = defaultdict(list)
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        lags = [(hear_ns - sent_ns) / 1e6 for hear_ns, sent_ns in zip(row["arrival_ns"], truth[row["response_id"]], strict=True)]
        by_turn[row["turn"]].append(lags[0])
        if not from_ns <= row["arrival_ns"][0] <= until_ns:
            continue
        done.ttfa_error_ms.append(lags[0])
        done.stamp_lag_ms += lags
        for frame, lag_us in enumerate(row["lag_us"]):
            by_frame[frame].append(lag_us / 1000)
    done.turn_error_ms, done.send_lag_ms = dict(by_turn), dict(by_frame)
