"""rteval beside the ``openai`` SDK and a plain websockets + json client: the same server, the same traffic, in turns.

    python benchmarks/compare_clients.py --quick              # a few minutes, to see that all works
    python benchmarks/compare_clients.py --json figures.json  # about an hour; the Markdown table goes to stdout

Run it in the environment that has rteval. The peers get virtual environments of their own in ``--cache`` (made on first
use, packages from PyPI). Every round is a fresh server and a fresh client, each on a core of its own where there are
two; the clients take turns, and what is printed is the median of the rounds.

How it measures: the server counts appends, deltas and answers; CPU and waiting times of client and server are the
scheduler's own (``/proc/PID/task/*/schedstat``), read from outside at both ends of the window. The error of a time to
first audio is the client's stamp of the first delta minus the server's stamp just before its socket got it, and the
stamp lag the same for every delta; both clocks are CLOCK_MONOTONIC. A round is void when the server used more than
70 % of its core. It is noisy, and counts only for want of quiet ones, when client or server waited for a core for more
than ``--max-wait`` of the window: then somebody else was at work, which shows in latencies and in CPU too (a client
that was kept waiting works through its backlog at a lower price). Such rounds are repeated a few times; what stays
noisy is marked ``*``.

The peers are what anyone would write: the stock event loop, every frame encoded anew, the collector as it comes. They
stamp, count and write a row as rteval does, and decode no audio. Needs Linux. Everything is bounded: rounds, repeats,
the length of each round, and all of it by ``--budget-s``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
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
        ramp_s: over which the sessions are started; ``None``: a turn, or as long as 160 a second take.
        settle_s: between the last session's start and the window; ``None``: a turn.
    """

    sessions: int
    frames: int = 30
    deltas: int = 20
    gap_ms: float = 75.0
    delay_ms: float = 500.0
    delta_bytes: int = 12_000
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
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


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
        wait_share, server_wait_share: time that they wanted to run and could not, of the window; a client's own
            threads wait for one another too.
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
    from_ns: int
    until_ns: int
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
                    said = errors.read()[-2_000:]
                    raise RuntimeError(f"{client}, {traffic.sessions} sessions: {error}\n{said}") from None
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
        settle_s = traffic.settle_s if traffic.settle_s is not None else traffic.turn_s
        job = {
            "url": f"ws://127.0.0.1:{port}/v1/realtime?model=bare",
            "sessions": traffic.sessions,
            "frames": traffic.frames,
            "frame_ms": 100,
            "turns": 2 + int((ramp_s + settle_s + traffic.window_s) / traffic.turn_s),
            "ramp_s": ramp_s,
            "settle_s": settle_s,
            "window_s": traffic.window_s,
            "rows": str(folder / "rows.jsonl"),
            "warm": traffic.warm,
            "cpu": self.cores[0] if self.cores is not None else None,
        }
        child = Child([self.pythons[client], HERE / "peers" / CLIENTS[client].script], errors)
        patience_s = 0.0
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
            patience_s = 10.0
        finally:
            child.end(patience_s)
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
            from_ns=window["from_ns"],
            until_ns=window["until_ns"],
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
    truth = {}
    for line in (folder / "truth.jsonl").read_text().splitlines():
        entry = json.loads(line)
        truth[entry["response_id"]] = entry["delta_ns"]
    by_turn: dict[int, list[float]] = defaultdict(list)
    by_frame: dict[int, list[float]] = defaultdict(list)
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        sent = truth[row["response_id"]]
        lags = [(heard_ns - sent_ns) / 1e6 for heard_ns, sent_ns in zip(row["arrival_ns"], sent, strict=True)]
        by_turn[row["turn"]].append(lags[0])
        if not done.from_ns <= row["arrival_ns"][0] <= done.until_ns:
            continue
        done.ttfa_error_ms.append(lags[0])
        done.stamp_lag_ms += lags
        for frame, lag_us in enumerate(row["lag_us"]):
            by_frame[frame].append(lag_us / 1000)
    done.turn_error_ms, done.send_lag_ms = dict(by_turn), dict(by_frame)


# ---- from rounds to figures ----


def percentile(samples: Sequence[float], q: float) -> float | None:
    """With linear interpolation; ``None`` without samples."""
    return float(np.percentile(samples, q)) if len(samples) else None


def median(values: Iterable[float | None]) -> float | None:
    """Of what there is."""
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None


@dataclass
class Cell:
    """The rounds of one client under one traffic.

    Attributes:
        rounds: all but the void ones.
        quiet: those of them in which nobody else was at work.
        voided: how many counted for nothing.
        failed: what went wrong in rounds that never ended.
    """

    rounds: list[Round] = field(default_factory=list)
    quiet: list[Round] = field(default_factory=list)
    voided: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def noisy(self) -> bool:
        """Whether too few rounds were quiet: then figures are of all of them."""
        return len(self.quiet) * 2 < len(self.rounds)

    def of(self, figure: Callable[[Round], float | None]) -> float | None:
        """Median of a figure over the quiet rounds, or over all where the box was too noisy."""
        return median(map(figure, self.rounds if self.noisy else self.quiet))

    @property
    def saturated(self) -> bool:
        """Whether the client used up its core."""
        return bool(self.rounds) and (self.of(lambda done: done.cpu_share) or 0.0) > SATURATED


class Comparison:
    """All rounds of a run of this script.

    Args:
        bench: where rounds are run.
        clients: in their order.
        rounds: quiet rounds that each cell should have.
        repeats: how many more may be tried in their place.
    """

    def __init__(self, bench: Bench, clients: Sequence[str], *, rounds: int, repeats: int) -> None:
        self.bench, self.clients = bench, clients
        self.rounds, self.repeats = rounds, repeats
        self.cells: dict[tuple[str, Traffic], Cell] = {}
        self.cut_short = False

    def cell(self, client: str, traffic: Traffic) -> Cell:
        """What is known of one client under one traffic."""
        return self.cells.setdefault((client, traffic), Cell())

    def measure(self, wanted: Sequence[tuple[str, Traffic]]) -> None:
        """Bring cells up to their number of rounds, the clients taking turns."""
        for attempt in range(self.rounds + self.repeats):
            todo = [(client, traffic) for client, traffic in wanted if not self._enough(self.cell(client, traffic))]
            if not todo:
                return
            # Each goes first as often as the others.
            for client, traffic in todo[attempt % len(todo) :] + todo[: attempt % len(todo)]:
                if time.monotonic() > self.bench.ends_at:
                    self.cut_short = True
                    return
                self._round(client, traffic)

    def _enough(self, cell: Cell) -> bool:
        # A client beyond its limit is not worth the time: its latencies are what the length of the round makes them.
        hopeless = len(cell.rounds) >= 2 and cell.saturated
        return hopeless or len(cell.quiet) >= self.rounds or len(cell.failed) > 2

    def _round(self, client: str, traffic: Traffic) -> None:
        cell = self.cell(client, traffic)
        try:
            done = self.bench.round(client, traffic)
        except RuntimeError as error:
            cell.failed.append(str(error))
            note(f"FAILED {error}")
            return
        noisy = self.bench.noisy(done)
        if done.void:
            cell.voided += 1
        else:
            cell.rounds.append(done)
            if not noisy:
                cell.quiet.append(done)
        verdict = "void: the server was busy" if done.void else "noisy" if noisy else ""
        error_ms = percentile(done.ttfa_error_ms, 99)
        note(
            f"{client:10} {traffic.sessions:5} sessions, {traffic.frames:3} appends, {traffic.deltas:3} deltas: "
            f"CPU {done.cpu_share:4.0%}, waited {done.wait_share:5.1%}, server {done.server_share:4.0%}, "
            f"TTFA error p99 {'-' if error_ms is None else f'{error_ms:.2f} ms'}"
            f"{f', {done.broken} broken' if done.broken else ''}  {verdict}"
        )


def note(sentence: str) -> None:
    """Tell who waits."""
    print(f"{datetime.now(UTC):%H:%M:%S} {sentence}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        listen: sessions that only listen, 20 deltas a second each.
        speak: sessions that only speak, 10 appends a second each.
        turns: levels of sessions with full turns.
        usual, error: the levels among them at which the cost of a turn and the TTFA error are told.
        ladder: levels at which the limit of a client is looked for.
    """

    listen: int = 150
    speak: int = 150
    turns: tuple[int, ...] = (100, 200, 300, 500, 600, 1_000)
    usual: int = 200
    error: int = 500
    ladder: tuple[int, ...] = (
        50,
        75,
        100,
        150,
        200,
        250,
        300,
        400,
        500,
        600,
        800,
        1_000,
        1_300,
        1_600,
        2_000,
        2_500,
        3_000,
    )
    window_s: float = 10.0

    def listening(self) -> Traffic:
        """Long answers to text prompts; the window lies within the first of them."""
        length = int((8.0 + self.window_s) / 0.05)
        return Traffic(
            self.listen, frames=0, deltas=length, gap_ms=50.0, ramp_s=4.0, settle_s=2.0, window_s=self.window_s
        )

    def speaking(self) -> Traffic:
        """Long utterances; the window lies within the first of them."""
        length = int((8.0 + self.window_s) / 0.1)
        return Traffic(
            self.speak, frames=length, deltas=1, delay_ms=10.0, ramp_s=4.0, settle_s=2.0, window_s=self.window_s
        )

    def full(self, sessions: int) -> Traffic:
        """Turns of 3 s of speech, half a second of waiting, and an answer of 20 deltas in 1.5 s."""
        return Traffic(sessions, window_s=self.window_s)

    def first(self, *, warm: bool) -> Traffic:
        """One session with short turns in a fresh process."""
        return Traffic(
            1,
            frames=3,
            deltas=5,
            gap_ms=20.0,
            delay_ms=100.0,
            ramp_s=0.0,
            settle_s=0.0,
            window_s=3.0,
            warm=warm,
        )


QUICK = Sizes(listen=60, speak=60, turns=(50, 100), usual=50, error=100, ladder=(50, 100), window_s=3.0)


def holds(cell: Cell) -> bool | None:
    """Whether a client keeps the TTFA error within its limit; ``None`` where nothing was measured."""
    error = cell.of(lambda done: percentile(done.ttfa_error_ms, 99))
    return None if error is None else error <= TTFA_LIMIT_MS and not cell.saturated


def find_limits(comparison: Comparison, sizes: Sizes) -> dict[str, tuple[int, int | None]]:
    """For each client the highest level of the ladder that it holds, and the lowest that it does not (if any)."""
    ladder = sizes.ladder

    def known(client: str) -> tuple[int, int]:
        """Positions on the ladder: the last one held, and the first one not held."""
        verdicts = [holds(comparison.cell(client, sizes.full(level))) for level in ladder]
        bad = next((at for at, verdict in enumerate(verdicts) if verdict is False), len(ladder))
        good = max((at for at in range(bad) if verdicts[at]), default=-1)
        return good, bad

    # Each pass halves what is left between the two, so this many are enough.
    for _ in range(len(ladder)):
        open_ends = {client: known(client) for client in comparison.clients}
        wanted = []
        for client, (good, bad) in open_ends.items():
            if bad - good > 1:
                # Upwards step by step: a level far beyond the limit costs time and tells nothing.
                at = good + 1 if bad == len(ladder) else (good + bad) // 2
                wanted.append((client, sizes.full(ladder[at])))
        if not wanted or comparison.cut_short:
            break
        comparison.measure(wanted)
        if any(not comparison.cell(*cell).rounds for cell in wanted):
            break
    limits = {}
    for client in comparison.clients:
        good, bad = known(client)
        limits[client] = (ladder[good] if good >= 0 else 0, ladder[bad] if bad < len(ladder) else None)
    return limits


def first_turns(comparison: Comparison, sizes: Sizes) -> dict[str, dict[str, float | None]]:
    """TTFA error of the first turn of a process and of those behind it, in milliseconds."""
    figures = {}
    for client in comparison.clients:
        for warm in (True, False) if client == "rteval" else (True,):
            cell = comparison.cell(client, sizes.first(warm=warm))
            name = CLIENTS[client].name if warm else f"{CLIENTS[client].name} without its warm-up"
            figures[name] = {
                "first": cell.of(lambda done: median(done.turn_error_ms.get(0, []))),
                "later": cell.of(
                    lambda done: median(
                        error for turn, errors in done.turn_error_ms.items() if turn for error in errors
                    )
                ),
            }
    return figures


def help_cpu_s() -> float:
    """CPU of ``rteval --help``, median of five."""
    used = []
    for _ in range(5):
        before = os.times()
        command = [sys.executable, "-m", "rteval", "--help"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = os.times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return float(np.median(used))


# ---- the table ----


class Table:
    """Rows of figures, one column a client.

    Args:
        comparison: where the figures come from.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.clients = comparison.clients
        self.rows: list[tuple[str, dict[str, str], str]] = []
        self.figures: list[dict[str, Any]] = []
        self.any_noisy = False

    def add(
        self, name: str, traffic: Traffic, figure: Callable[[Round], float | None], show: Callable[[float], str]
    ) -> None:
        """One figure of all clients under one traffic, and rteval's share of the others'."""
        values = {client: self.comparison.cell(client, traffic).of(figure) for client in self.clients}
        shown = {}
        for client, value in values.items():
            busy = ", saturated" if self.comparison.cell(client, traffic).saturated else ""
            shown[client] = "-" if value is None else show(value) + busy + self._mark(client, traffic)
        self.say(name, shown, values, self._ratios(values))

    def add_spread(self, name: str, traffic: Traffic, samples: Callable[[Round], Sequence[float]]) -> None:
        """p50 and p99 of milliseconds, each the median over the rounds."""
        values: dict[str, list[float | None]] = {}
        shown = {}
        for client in self.clients:
            cell = self.comparison.cell(client, traffic)
            p50, p99 = (cell.of(lambda done, q=q: percentile(samples(done), q)) for q in (50, 99))  # type: ignore[misc]
            values[client] = [p50, p99]
            if p50 is None or p99 is None:
                shown[client] = "-"
            elif cell.saturated:
                shown[client] = "saturated"
            else:
                shown[client] = f"{p50:.2f} / {p99:.2f} ms" + self._mark(client, traffic)
        self.say(name, shown, values)

    def _mark(self, client: str, traffic: Traffic) -> str:
        noisy = self.comparison.cell(client, traffic).noisy
        self.any_noisy = self.any_noisy or noisy
        return " *" if noisy else ""

    def say(self, name: str, shown: dict[str, str], values: dict[str, Any], ratio: str = "") -> None:
        """A row, unless there is nothing in it."""
        if any(text != "-" for text in shown.values()):
            self.figures.append({"name": name, "values": values})
            self.rows.append((name, shown, ratio))

    def _ratios(self, values: dict[str, float | None]) -> str:
        ours = values.get("rteval")
        parts = []
        for client in self.clients:
            theirs = values.get(client)
            if client != "rteval" and ours is not None and theirs:
                parts.append(f"{ours / theirs:.2f}")
        return " / ".join(parts)

    def markdown(self) -> str:
        """The table."""
        others = [CLIENTS[client].name for client in self.clients if client != "rteval"]
        head = ["", *(CLIENTS[client].name for client in self.clients)]
        if len(others) < len(self.clients) and others:
            head.append(f"rteval : {' / '.join(others)}")
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for name, shown, ratio in self.rows:
            cells = [name, *(shown.get(client, "-") for client in self.clients), ratio][: len(head)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def fill(table: Table, sizes: Sizes, limits: dict[str, tuple[int, int | None]]) -> None:
    """All rows."""

    def micros(value: float) -> str:
        return f"{value * 1e6:.0f} µs"

    def per_turn(done: Round) -> float | None:
        return done.cpu_s / done.answers if done.answers else None

    def sent(done: Round, part: slice = slice(None)) -> list[float]:
        return [lag for frame in sorted(done.send_lag_ms)[part] for lag in done.send_lag_ms[frame]]

    top = sizes.full(max(sizes.turns))
    third = top.frames // 3
    table.add("CPU per received audio delta", sizes.listening(), lambda done: done.cpu_s / max(done.deltas, 1), micros)
    table.add(
        "CPU per paced append of 100 ms", sizes.speaking(), lambda done: done.cpu_s / max(done.appends, 1), micros
    )
    for level in sizes.turns:
        name = f"CPU per full turn, {level:,} sessions"
        table.add(name, sizes.full(level), per_turn, lambda value: f"{value * 1e3:.2f} ms")
    if limits:
        add_limits(table, sizes, limits)
    for level in sorted({sizes.usual, sizes.error}):
        table.add_spread(
            f"TTFA error p50 / p99, {level:,} sessions", sizes.full(level), lambda done: done.ttfa_error_ms
        )
    usual = f"{sizes.usual:,} sessions"
    table.add_spread(f"stamp lag p50 / p99, {usual}", sizes.full(sizes.usual), lambda done: done.stamp_lag_ms)
    table.add_spread(f"send lag p50 / p99, {usual}", sizes.full(sizes.usual), sent)
    table.add_spread(f"send lag p50 / p99, {top.sessions:,} sessions", top, sent)
    table.add_spread(f"... of the first {third} frames of a turn", top, lambda done: sent(done, slice(third)))
    table.add_spread(f"... of the last {third} frames of a turn", top, lambda done: sent(done, slice(-third, None)))
    name = f"memory per session, {top.sessions:,} sessions"
    table.add(name, top, lambda done: done.memory_kib, lambda kib: f"{kib:.0f} KiB")


def add_limits(table: Table, sizes: Sizes, limits: dict[str, tuple[int, int | None]]) -> None:
    """The row of the most sessions that a client holds."""
    shown = {}
    for client, (good, bad) in limits.items():
        ends = [table.comparison.cell(client, sizes.full(level)) for level in (good, bad) if level]
        noisy = any(cell.noisy for cell in ends)
        table.any_noisy = table.any_noisy or noisy
        shown[client] = (f"{good:,} or more" if bad is None else f"{good:,}") + (" *" if noisy else "")
    ours = limits.get("rteval", (0, None))[0]
    others = [limits[client][0] for client in table.clients if client != "rteval"]
    ratio = " / ".join(f"{ours / theirs:.1f}" if theirs else "-" for theirs in others)
    name = f"sessions in one process with TTFA error p99 ≤ {TTFA_LIMIT_MS:.0f} ms"
    table.say(name, shown, {client: list(limit) for client, limit in limits.items()}, ratio)


def machine(pythons: dict[str, Path]) -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    wanted = "import importlib.metadata as m; print({n: m.version(n) for n in %r})"
    names = {
        "rteval": ("rteval", "websockets", "uvloop"),
        "websockets": ("websockets",),
        "openai": ("openai", "websockets"),
    }
    versions = {}
    for client, python in pythons.items():
        command = [str(python), "-c", wanted % (names[client],)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        versions[client] = " ".join(f"{name} {version}" for name, version in eval(said).items())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "clients": versions,
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def prose(comparison: Comparison, table: Table, firsts: dict[str, dict[str, float | None]], box: dict[str, Any]) -> str:
    """What has to be said beside the table."""
    cells = comparison.cells.values()
    rounds = [done for cell in cells for done in cell.rounds]
    quiet = sum(len(cell.quiet) for cell in cells)
    voided = sum(cell.voided for cell in cells)
    failed = sum(len(cell.failed) for cell in cells)
    lines = [
        f"{box['cpu']}, {box['cores']} cores, Linux {box['kernel']}, Python {box['python']}, {box['at']}; "
        + "; ".join(f"{CLIENTS[client].name}: {said}" for client, said in box["clients"].items())
        + ".",
        f"Medians of up to {comparison.rounds} rounds a cell, the clients in turns: {len(rounds)} rounds counted, "
        f"{len(rounds) - quiet} of them noisy (a process waited for its core, or the hypervisor took it, for more than "
        f"{comparison.bench.max_wait:.0%} of the window), {voided} void (server above {SERVER_LIMIT:.0%} of its core), "
        f"{failed} failed. The server used at most "
        f"{max((done.server_share for done in rounds), default=0):.0%} of its core in them.",
    ]
    if table.any_noisy:
        lines.append(
            "\\* The box was too noisy here: fewer than half of the rounds were quiet, and this is the median of all."
        )
    said = [
        f"{name} {values['first']:.2f} ms, later {values['later']:.2f} ms"
        for name, values in firsts.items()
        if values["first"] is not None and values["later"] is not None
    ]
    if said:
        lines.append(f"TTFA error of the first turn of a process: {'; '.join(said)}.")
    if comparison.cut_short:
        lines.append("The time for the benchmark was used up before all was measured.")
    return "\n\n".join(lines)


# ---- the run ----


def interpreter(client: str, cache: Path) -> Path:
    """The client's Python; its virtual environment is made when there is none."""
    packages = CLIENTS[client].packages
    if packages is None:
        return Path(sys.executable)
    home = cache / f"{client}-py{sys.version_info.major}{sys.version_info.minor}"
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.exists():
        note(f"making {home} with {' '.join(packages)}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, timeout=300)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(install, check=True, timeout=600, stdout=subprocess.DEVNULL)
        done.touch()
    return python


def two_cores() -> tuple[int, int] | None:
    """One for the client and one for the server, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else None


def levels(text: str) -> tuple[int, ...]:
    """Numbers of sessions, in ascending order."""
    return tuple(sorted({int(number) for number in text.split(",")}))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rteval-benchmark"
    parser.add_argument("--rounds", type=int, default=5, help="quiet rounds of each cell")
    parser.add_argument("--repeats", type=int, default=3, help="rounds tried in place of noisy or void ones")
    parser.add_argument("--max-wait", type=float, default=0.02, help="longest wait for a core in a quiet round, of 1")
    parser.add_argument("--budget-s", type=float, default=7_200.0, help="no round begins after that")
    parser.add_argument("--cache", type=Path, default=default_cache, help="folder of the peers' virtual environments")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="some of them, by comma")
    parser.add_argument("--parts", default="listen,speak,turns,limit,first", help="some of them, by comma")
    parser.add_argument("--turns", type=levels, help="numbers of sessions at which whole turns are measured, by comma")
    parser.add_argument("--ladder", type=levels, help="numbers of sessions among which a client's limit is looked for")
    parser.add_argument("--json", type=Path, help="also write all figures and rounds to this file")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works, not how fast it is")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the children
    clients, parts = asked.clients.split(","), asked.parts.split(",")
    if not set(clients) <= CLIENTS.keys() or not set(parts) <= {"listen", "speak", "turns", "limit", "first"}:
        parser.error("--clients or --parts has a name that does not exist")
    sizes = QUICK if asked.quick else Sizes()
    sizes = replace(sizes, turns=asked.turns or sizes.turns, ladder=asked.ladder or sizes.ladder)
    pythons = {client: interpreter(client, asked.cache) for client in clients}
    bench = Bench(pythons, two_cores(), asked.max_wait, time.monotonic() + asked.budget_s)
    if bench.cores is None:
        note("one core only: client and server share it, and every figure is worse for it")
    rounds, repeats = (1, 0) if asked.quick else (asked.rounds, asked.repeats)
    comparison = Comparison(bench, clients, rounds=rounds, repeats=repeats)
    if "listen" in parts:
        comparison.measure([(client, sizes.listening()) for client in clients])
    if "speak" in parts:
        comparison.measure([(client, sizes.speaking()) for client in clients])
    if "turns" in parts:
        for level in sizes.turns:
            # Who is saturated stays so with more sessions.
            able = [client for client in clients if not any(
                comparison.cell(client, sizes.full(lower)).saturated for lower in sizes.turns if lower < level
            )]  # fmt: skip
            comparison.measure([(client, sizes.full(level)) for client in able])
    limits = find_limits(comparison, sizes) if "limit" in parts else {}
    if "first" in parts:
        wanted = [(client, sizes.first(warm=True)) for client in clients]
        comparison.measure(wanted + ([("rteval", sizes.first(warm=False))] if "rteval" in clients else []))
    table = Table(comparison)
    fill(table, sizes, limits)
    firsts = first_turns(comparison, sizes) if "first" in parts else {}
    if "rteval" in clients:
        cpu_s = help_cpu_s()
        table.say("CPU of `rteval --help`", {"rteval": f"{cpu_s:.2f} s"}, {"rteval": cpu_s})
    box = machine(pythons)
    print(table.markdown())
    print()
    print(prose(comparison, table, firsts, box))
    if asked.json is not None:
        asked.json.write_text(json.dumps(as_json(comparison, table, firsts, box), indent=1) + "\n")
    return 0


def as_json(
    comparison: Comparison, table: Table, firsts: dict[str, dict[str, float | None]], box: dict[str, Any]
) -> dict[str, Any]:
    """Everything, with percentiles in place of samples."""
    rounds = []
    for (_, traffic), cell in comparison.cells.items():
        for done in cell.rounds:
            facts = asdict(replace(done, ttfa_error_ms=[], stamp_lag_ms=[], turn_error_ms={}, send_lag_ms={}))
            for name in ("ttfa_error_ms", "stamp_lag_ms"):
                samples = getattr(done, name)
                facts[name] = {f"p{q}": percentile(samples, q) for q in (50, 90, 99, 100)} | {"n": len(samples)}
            facts["send_lag_p99_ms_by_frame"] = {
                frame: percentile(lags, 99) for frame, lags in done.send_lag_ms.items()
            }
            facts["turn_error_ms"] = {turn: median(errors) for turn, errors in done.turn_error_ms.items()}
            rounds.append(facts | {"traffic": asdict(traffic), "quiet": done in cell.quiet})
    failed = [error for cell in comparison.cells.values() for error in cell.failed]
    return {"machine": box, "figures": table.figures, "first_turns": firsts, "rounds": rounds, "failed": failed}


if __name__ == "__main__":
    sys.exit(main())
