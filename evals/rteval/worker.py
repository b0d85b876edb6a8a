"""A worker: takes a run's scenario from its master, holds the sessions it is dealt, and ships what they record."""

from __future__ import annotations

import asyncio
import math
import os
import platform
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from . import __version__
from .corpus import Item
from .errors import DatasetError, RtevalError, RunFolderError, UsageError
from .load import charts
from .load import messages as msg
from .load.dealing import Grant
from .load.sessions import Ended, Sessions
from .plan import PlannedTurn
from .prepare import Prepared, prepare_scenario
from .records import HealthSample, Outcome, SessionRecord, TurnRecord, shift
from .redact import redact
from .scenario import scenario_from_portable
from .shards import COPIES, Record, ShardWriter, encode_record
from .station import Credentials, Station, loop_factory, quiet_gc

if TYPE_CHECKING:
    from .load.swarm import WorkerSwarm

__all__ = ["WorkerOptions", "work"]

_PINGS = 8
_SOON_S = 0.02
"""How long a message waits for others of its kind."""

_DRAIN_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line says.

    Attributes:
        host, port: of the master.
        token: the join token; ``None`` for a master on this machine that asks for none.
        datasets: folders on this machine by the dataset's name.
        out: folder of all reports; this worker's copy of its records goes to the run's folder in it.
        max_wait_s: how long the master may take to answer.
        tied: leave when standard input ends, as it does when the process that started this one dies.
        charts: whether the master shows Locust's web UI.
        progress: whether people are told how it goes.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    datasets: Mapping[str, Path] = field(default_factory=dict)
    out: Path = Path("reports")
    max_wait_s: float = 60.0
    tied: bool = False
    charts: bool = False
    progress: bool = True


def work(options: WorkerOptions, console: Console) -> int:
    """Take part in one run. Returns the exit code.

    Raises:
        RtevalError: the master is not there, refuses us, or the job cannot be done here.
    """
    if not math.isfinite(options.max_wait_s):
        raise UsageError(f"--max-wait {options.max_wait_s}: expected a number of seconds")
    worker = _Worker(options, console)
    with asyncio.Runner(loop_factory=loop_factory()) as runner, worker.signals():
        return runner.run(worker.work())


class _Worker:
    """One worker, from joining to leaving: what Locust and the master say to it arrives in its asyncio loop."""

    def __init__(self, options: WorkerOptions, console: Console) -> None:
        self._options = options
        self._console = console
        self._swarm: WorkerSwarm | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._name = "worker"
        self._job: msg.Job | None = None
        self._prepared: Prepared | None = None
        self._items: dict[str, Item] = {}
        self._credentials: Credentials | None = None
        self._station: Station | None = None
        self._copy: ShardWriter | None = None
        self._sessions: Sessions | None = None
        self._held = ExitStack()
        self._warm = asyncio.Event()
        self._slots = 0
        self._offset_ns = 0
        self._pong: asyncio.Future[msg.Pong] | None = None
        self._out = _Outbox(self._send)
        self._draining = False
        self._drained = False
        self._leaving: str | None = None
        self._is_embedded = False
        self._is_orphan = False
        self._cut_later: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon: asyncio.TimerHandle | None = None
        self._signalled: int | None = None
        self._exit: asyncio.Future[int] | None = None

    async def work(self) -> int:
        """Join, do what the master says, leave."""
        from .load.swarm import WorkerSwarm

        options = self._options
        self._loop = asyncio.get_running_loop()
        self._exit = self._loop.create_future()
        self._swarm = WorkerSwarm(
            self,
            self,
            host=options.host,
            port=options.port,
            token=options.token,
            max_wait_s=options.max_wait_s,
        )
        if options.tied:
            await self._tie()
        joining = self._loop.create_task(self._swarm.start())
        either: list[asyncio.Future[Any]] = [joining, self._exit]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not joining.done():  # the process that started this one died meanwhile
            joining.cancel()
            await asyncio.wait([joining])
            return await self._exit
        await joining
        try:
            self._say(f"joined the run at {options.host}:{options.port}")
            self._send(
                msg.Hello(
                    protocol=msg.PROTOCOL,
                    version=__version__,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    cpus=os.cpu_count() or 1,
                    python=platform.python_version(),
                )
            )
            return await self._exit
        finally:
            for task in self._tasks:
                task.cancel()
            self._held.close()
            if self._credentials is not None:
                self._credentials.close()
            await self._swarm.quit()

    # ---- what Locust says: its users are our slots ----

    async def hold_slot(self) -> None:
        """The life of one Locust user."""
        await self._warm.wait()
        assert self._sessions is not None
        self._slots += 1
        self._slots_changed()
        try:
            await self._sessions.seat()
        finally:
            self._slots -= 1
            self._slots_changed()

    def _slots_changed(self) -> None:
        if self._soon is None and self._loop is not None:
            self._soon = self._loop.call_later(_SOON_S, self._tell_slots)

    def _tell_slots(self) -> None:
        self._soon = None
        self._send(msg.Slots(slots=self._slots))

    def master_lost(self) -> None:
        """The master is not heard of any more: end in order, what was recorded stays here."""
        if self._exit is None or self._exit.done():
            return
        if self._copy is None:
            why = self._swarm.lost if self._swarm is not None else None
            self._finish(UsageError(f"the master went away before the run began{f': {why}' if why else ''}"))
            return
        self._leave(f"the master is gone; what was recorded here is in {self._copy.path}", tell=False)

    # ---- what the master says ----

    def message(self, kind: str, data: bytes) -> None:
        """The master said something."""
        try:
            self._do(msg.decode(msg.FROM_MASTER, kind, data))
        except msg.MessageError as error:
            self._finish(RtevalError(f"this is no master of this rteval: {error}"))
        except Exception as error:  # the line would only log it, and the master would wait for ever
            self._bug(error)

    def _do(self, content: msg.Message) -> None:
        match content:
            case msg.Job() if self._job is None:
                self._job, self._name = content, content.worker
                self._start(self._prepare(content))
            case msg.Begin() if self._prepared is not None and self._station is None:
                self._start(self._get_warm(content))
            case msg.Pong() if self._pong is not None and not self._pong.done():
                self._pong.set_result(content)
            case msg.Clock() if self._station is not None:
                if content.warm_until_ns is not None:
                    self._station.warm_until_ns = content.warm_until_ns - self._offset_ns
            case msg.Grants() if self._sessions is not None:
                for granted in content.sessions:
                    self._grant(granted)
            case msg.Drain():
                self._drain(content.within_s)
            case msg.Cut():
                if self._sessions is not None:
                    self._sessions.cut()
            case msg.Bye():
                self._bye(content)
            case _:
                pass

    async def _prepare(self, job: msg.Job) -> None:
        """Read the job; say whether it can be done here."""
        warnings: list[str] = []
        try:
            self._prepared = await asyncio.to_thread(self._read, job)
            self._items = {item.id: item for item in self._prepared.dataset.items}
            self._credentials = Credentials(self._prepared, warnings.append)
            await self._credentials.prepare()
        except RtevalError as error:
            sentence = str(error) if error.hint is None else f"{error} ({error.hint})"
            self._send(msg.Ready(ok=False, sentence=sentence[:4000]))
            self._finish(error if error.exit_code == 2 else UsageError(str(error), hint=error.hint))
            return
        self._send(msg.Ready(ok=True, credential=self._credentials.kind, warnings=tuple(warnings)))
        self._say(f"ready as {self._name}: {self._prepared.scenario.name}, {len(self._items)} items")

    def _read(self, job: msg.Job) -> Prepared:
        name = job.dataset_name
        folder = self._options.datasets.get(name)
        scenario = scenario_from_portable(job.scenario, dataset_path=folder)
        cure = f"name its folder on this machine with --dataset {name}=DIR"
        if not Path(scenario.dataset.path).is_dir():
            raise DatasetError(f"there is no dataset {name} in {scenario.dataset.path} here", hint=cure)
        prepared = prepare_scenario(scenario, limit=job.limit, judged=False)
        if prepared.dataset.hash != job.dataset_hash:
            raise DatasetError(
                f"the dataset {name} in {prepared.dataset.path} is not the master's "
                f"(hash {prepared.dataset.hash[:12]}, there {job.dataset_hash[:12]})",
                hint=f"copy the master's, or {cure}",
            )
        return prepared

    async def _get_warm(self, begin: msg.Begin) -> None:
        """Load everything; then the next session finds nothing left to do."""
        prepared, job = self._prepared, self._job
        assert prepared is not None
        assert job is not None
        assert self._credentials is not None
        self._is_embedded = begin.url is not None
        folder = self._options.out / prepared.scenario.name / job.run_id
        self._copy = self._held.enter_context(ShardWriter(folder, self._name, COPIES))
        station = Station(
            prepared,
            begin.url,
            self._credentials,
            run_id=job.run_id,
            worker=self._name,
            records=self,
            audio=folder / "audio",
        )
        station.warm(lambda sentence: self._say(f"warning: {sentence}"))
        offset_ns, round_trip_ns = await self._read_masters_clock()
        # A clock that agrees within the round trip is the same one: two processes of one machine.
        self._offset_ns = 0 if abs(offset_ns) <= round_trip_ns else offset_ns
        self._held.enter_context(quiet_gc())
        self._held.enter_context(station.watched())  # its samples need the offset
        self._sessions = Sessions(station.hold, self._ended)
        self._station = station
        self._warm.set()
        self._send(msg.Warm(clock_offset_ns=self._offset_ns, round_trip_ns=round_trip_ns))

    async def _read_masters_clock(self) -> tuple[int, int]:
        """How much the master's clock is ahead of ours, from the quickest of a few round trips, and that round trip."""
        assert self._loop is not None
        best: tuple[int, int] | None = None
        for _ in range(_PINGS):
            self._pong = self._loop.create_future()
            sent_ns = time.perf_counter_ns()
            self._send(msg.Ping(sent_ns=sent_ns))
            pong = await self._pong
            now_ns = time.perf_counter_ns()
            if best is None or now_ns - sent_ns < best[1]:
                best = (pong.master_ns - (sent_ns + now_ns) // 2, now_ns - sent_ns)
        assert best is not None
        return best

    def _grant(self, granted: msg.GrantedSession) -> None:
        assert self._sessions is not None
        assert self._station is not None
        try:
            turns = tuple(PlannedTurn(self._items[item], attempt, granted.variant) for item, attempt in granted.turns)
            self._station.facts(granted.variant)
        except KeyError as error:
            self._bug(RuntimeError(f"granted an item or a variant that is not known here: {error}"))
            return
        if self._draining:
            self._out.ended(Ended(granted.name, begun=False))
            self._flush_soon()
            return
        grant = Grant(granted.name, turns, granted.due_ns - self._offset_ns, granted.start_ns - self._offset_ns)
        self._sessions.start(grant)

    # ---- the station's records ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        if self._leaving is not None and record.outcome is Outcome.CUT:
            return  # another worker will run it
        if self._is_orphan and record.outcome is Outcome.DROPPED:
            return  # the embedded server went with the master: no fault of a target
        self._chart(charts.of_turn(record))
        self._record(record)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        if self._is_orphan and record.drop:
            return
        if self._station is not None and self._station.board.first_refusal is not None:
            self._out.hint = self._station.board.first_refusal[1]
        self._chart(charts.of_session(record))
        self._record(record)

    def health(self, sample: HealthSample) -> None:
        """A second has passed."""
        self._record(sample)
        self._flush()
        if self._station is not None and self._station.failure is not None:
            self._leave(str(self._station.failure), failed=True)

    def _record(self, record: Record) -> None:
        shift(record, self._offset_ns)
        line = encode_record(record)
        if self._copy is not None:
            self._copy.line(line)
        if len(line) > msg.MOST_LINE_BYTES:  # only a turn can be so long
            most = f"{len(line) / 1e6:.1f} MB, more than the {msg.MOST_LINE_BYTES / 1e6:.1f} MB that can be sent"
            self._leave(f"the record of a turn has {most}", failed=True)
            return
        self._out.add(record, line)
        if self._out.full:
            self._flush()

    def _chart(self, events: Sequence[charts.Event]) -> None:
        if self._options.charts and self._swarm is not None:
            self._swarm.fire(events)

    def _flush(self) -> None:
        if self._copy is not None:
            try:
                self._copy.flush()
            except RunFolderError as error:
                self._copy = None
                self._leave(str(error), failed=True)
        self._out.flush()

    def _flush_soon(self) -> None:
        if self._loop is not None and not self._out.waiting:
            self._out.waiting = True
            self._loop.call_later(_SOON_S, self._flush)

    def _ended(self, ended: Ended) -> None:
        if isinstance(ended.bug, RtevalError):
            self._leave(str(ended.bug), failed=True)
        elif ended.bug is not None:
            self._bug(ended.bug)
        elif self._leaving is None:
            self._out.ended(ended)
            self._flush_soon()

    # ---- the end ----

    def _drain(self, within_s: float | None) -> None:
        if self._sessions is None or self._station is None or self._loop is None:
            return
        self._sessions.stop()
        if within_s is not None:
            self._station.drain()
            if self._cut_later is not None:
                self._cut_later.cancel()
            self._cut_later = self._loop.call_later(within_s, self._sessions.cut)
        if not self._draining:
            self._draining = True
            self._start(self._say_when_drained())

    async def _say_when_drained(self) -> None:
        assert self._sessions is not None
        await self._sessions.wait()
        self._held.close()  # the last sample of health, the last audio, the last lines of the copy
        if self._leaving is not None:
            return
        self._out.flush()
        self._send(msg.Drained(turns=self._out.turns, sessions=self._out.sessions))
        self._drained = True
        if self._signalled is not None:
            self._finish(self._exit_code)

    def _leave(self, sentence: str, *, failed: bool = False, tell: bool = True) -> None:
        """Go before the run is over: what is under way here may end its turns, the others do the rest."""
        if self._leaving is not None:
            return
        if self._draining and tell and not failed:  # it ends anyway, and there is nobody to do the rest
            self._drain(_DRAIN_S)
            if self._drained:
                self._finish(self._exit_code)
            return
        self._leaving = sentence
        self._is_orphan = self._is_embedded and not tell
        if failed:
            self._say(f"error: {sentence}")
        if self._sessions is not None and self._station is not None and self._loop is not None:
            self._sessions.stop()
            self._station.drain()
            self._loop.call_later(0.0 if failed else _DRAIN_S, self._sessions.cut)
        self._start(self._gone(sentence, failed, tell))

    async def _gone(self, sentence: str, failed: bool, tell: bool) -> None:
        if self._sessions is not None:
            await self._sessions.wait()
        with suppress(RunFolderError):  # the disk of which the sentence may tell
            self._held.close()
        self._out.flush()
        if tell:
            self._send(msg.Leaving(sentence=sentence[:4000], failed=failed))
        else:
            self._say(sentence)
        self._finish(self._exit_code or (2 if failed else 1))

    @property
    def _exit_code(self) -> int:
        return 0 if self._signalled is None else 128 + self._signalled

    def _bug(self, bug: BaseException) -> None:
        secrets = () if self._credentials is None else self._credentials.secrets()
        text = redact("".join(traceback.format_exception(bug)), secrets)
        self._send(msg.Bug(text=text[-20_000:]))
        self._finish(bug)

    def _bye(self, bye: msg.Bye) -> None:
        if bye.sentence is not None:
            self._say(bye.sentence)
        if bye.kept and self._copy is not None:
            with suppress(OSError):
                self._copy.path.unlink()
                self._copy.path.parent.rmdir()
                self._copy.path.parent.parent.rmdir()  # the run's folder, where it holds nothing else
        if not bye.kept and bye.sentence is None and self._copy is not None:
            self._say(f"what was recorded here is kept in {self._copy.path}")
        if bye.exit_code and bye.sentence is not None:
            self._finish(UsageError(bye.sentence) if bye.exit_code == 2 else RtevalError(bye.sentence))
        else:
            self._say(f"done: {self._out.turns} turns, {self._out.sessions} sessions")
            self._finish(self._exit_code)

    def _finish(self, how: int | BaseException) -> None:
        if self._exit is None or self._exit.done():
            return
        if isinstance(how, int):
            self._exit.set_result(how)
        else:
            self._exit.set_exception(how)

    # ---- odds and ends ----

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM leave in order; a second one ends the process now."""

        def on_signal(number: int, frame: object) -> None:
            if self._signalled is not None:
                os._exit(128 + number)
            self._signalled = number
            loop = self._loop
            if loop is None or loop.is_closed() or self._job is None:
                raise SystemExit(128 + number)
            sentence = f"was stopped there with {signal.Signals(number).name}"
            loop.call_soon_threadsafe(lambda: self._leave(sentence))

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _tie(self) -> None:
        """Notice the death of the process that started this one: its end of our standard input closes."""
        worker = self

        class Input(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                worker.master_lost()

        assert self._loop is not None
        await self._loop.connect_read_pipe(Input, sys.stdin)

    def _start(self, coroutine: object) -> None:
        assert self._loop is not None
        task: asyncio.Task[None] = self._loop.create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        bug = None if task.cancelled() else task.exception()
        if isinstance(bug, RtevalError):
            self._leave(str(bug), failed=True)
        elif bug is not None:
            self._bug(bug)

    def _send(self, message: msg.Message) -> None:
        if self._swarm is not None:
            self._swarm.send(message.kind, msg.encode(message))

    def _say(self, sentence: str) -> None:
        if self._options.progress:
            self._console.print(f"{self._name}: {sentence}", markup=False, highlight=False, soft_wrap=True)


class _Outbox:
    """What is to be shipped: records as lines, and what became of sessions, in one message and in order."""

    def __init__(self, send: Callable[[msg.Message], None]) -> None:
        self._send = send
        self._lines: list[bytes] = []
        self._bytes = 0
        self._ended: list[msg.EndedSession] = []
        self._returned: list[str] = []
        self._seq = 0
        self.turns = 0
        self.sessions = 0
        self.waiting = False
        self.hint: str | None = None

    def add(self, record: Record, line: bytes) -> None:
        """One more record."""
        self.turns += isinstance(record, TurnRecord)
        self.sessions += isinstance(record, SessionRecord)
        self._lines.append(line)
        self._bytes += len(line)

    def ended(self, ended: Ended) -> None:
        """A session ended; its records were added before."""
        if ended.begun:
            self._ended.append(msg.EndedSession(name=ended.name, leftover=ended.leftover))
        else:
            self._returned.append(ended.name)

    @property
    def full(self) -> bool:
        """Whether it is time to ship."""
        return self._bytes >= msg.BATCH_BYTES

    def flush(self) -> None:
        """Ship everything."""
        self.waiting = False
        if not self._lines and not self._ended and not self._returned:
            return
        batch = msg.Batch(
            seq=self._seq,
            ended=tuple(self._ended),
            returned=tuple(self._returned),
            hint=self.hint,
            lines=tuple(self._lines),
        )
        self._seq += 1
        self._lines, self._ended, self._returned, self._bytes = [], [], [], 0
        self._send(batch)
