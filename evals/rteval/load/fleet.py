"""The workers of a run as its master sees them: who may take part, what each holds, and that nothing of what they
record is lost or counted twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

from .. import __version__
from ..errors import RtevalError, UsageError
from ..records import HealthSample, SessionRecord, TurnRecord
from ..shards import Record, decode_record
from . import messages as msg
from .clocked import Clocked
from .dealing import AHEAD_NS, Dealer, Grant

__all__ = ["Fleet", "Inbox", "Line", "WorkerBugError", "WorkerFacts", "WorkerFailedError"]

_T = TypeVar("_T")

_NS = 1_000_000_000
_HUNG_S = 20.0
"""Each worker sends its health about once a second. Locust's heartbeat comes from another thread than the sessions, and
goes on when these hang. Counted and not measured: a master that was itself held up for long has only not listened."""

_GRANT_BYTES = 100
_TURN_BYTES = 10
"""About what a session and a turn of it take in a message, beside their names."""

_LAST_WORDS_S = 10.0
"""How long workers may take to hand over their last records once nothing runs any more."""

_MOST_A_SECOND = 2000
"""Messages of one worker. A busy one sends a hundred."""

_SAMPLES_PER_S = 2
_SAMPLES_MORE = 20
"""A worker sends its health once a second, and once more at its end."""

_MOST_STRAYS = 1000
"""Records that nobody had asked for are not taken; whoever sends so many has nothing else to say."""

_WITHIN_NS = 3600 * _NS
"""How far a moment may lie outside the run: clocks drift, and a worker that slept has another one."""

_MOMENTS = {
    kind: tuple(f.name for f in fields(kind) if f.name.endswith("_ns"))
    for kind in (TurnRecord, SessionRecord, HealthSample)
}


class WorkerBugError(RuntimeError):
    """A bug of ours on a worker; the message is its traceback."""


class WorkerFailedError(RtevalError):
    """A worker cannot go on, and no other could: its disk is full, or its data changed."""

    exit_code = 2


class Line(Protocol):
    """How the master talks to its workers; ``load.swarm`` is one."""

    def send(self, worker: str, kind: str, data: bytes) -> None:
        """Send a message to one of them."""
        ...

    def want(self, users: int, workers: Collection[str] | None = None) -> None:
        """There should be about so many slots, spread over these workers; ``None``: over all."""
        ...

    def dismiss(self, worker: str) -> None:
        """Do without one of them from now on: it is told to leave, and its slots are the others'."""
        ...


class Inbox(Protocol):
    """Where the master keeps what its workers record."""

    def received(self, worker: str, line: bytes, record: Record) -> None:
        """A new record came, ``line`` as it stood in the worker's shard."""
        ...

    def seen(self, worker: str, *, slots: int, lost: bool) -> None:
        """What is known of a worker has changed."""
        ...

    def superseded(self, session: str) -> None:
        """The rows of a session do not count: all of it is held again."""
        ...

    def incident(self, sentence: str) -> None:
        """Something happened that every report must say."""
        ...


@dataclass(slots=True, kw_only=True)
class WorkerFacts:
    """What is known of one worker.

    Attributes:
        name: in the run; ``address`` is its name on the line.
        state: ``joined``, ``ready``, ``warm``, ``drained``, ``refused``, ``gone``.
        turns, sessions: rows that came from it.
        next_batch: the number of the batch that is expected.
        silent_ticks: how often was looked, since the last batch, whether one had come.
        messages: that came since was looked last.
        samples: of its health.
        strays: records that nobody had asked for.
        sentence: why it was refused or lost.
    """

    name: str
    address: str
    hello: msg.Hello
    state: str = "joined"
    slots: int = 0
    turns: int = 0
    sessions: int = 0
    next_batch: int = 0
    clock_offset_ns: int = 0
    credential: str | None = None
    sentence: str | None = None
    silent_ticks: int = 0
    messages: int = 0
    samples: int = 0
    strays: int = 0

    @property
    def takes_part(self) -> bool:
        """Whether it is in the run and not lost."""
        return self.state in ("joined", "ready", "warm")

    def as_dict(self) -> dict[str, Any]:
        """For ``run.json``."""
        return {
            "name": self.name,
            "host": self.hello.host,
            "pid": self.hello.pid,
            "cpus": self.hello.cpus,
            "python": self.hello.python,
            "version": self.hello.version,
            "clock_offset_ms": round(self.clock_offset_ns / 1e6, 3),
            "slots": self.slots,
            "lost": self.state == "gone",
            "turns": self.turns,
            "sessions": self.sessions,
            "sentence": self.sentence,
        }


class Fleet:
    """The engine whose sessions are held by workers.

    ``line`` has to be set before anybody can join.

    Args:
        inbox: where their records go.
        warn: hears sentences that people should see before the run.

    Attributes:
        workers: by their names on the line, also those that are gone.
        hint: what may help the first session that the target did not let in.
    """

    TICK_S = 0.25

    line: Line

    def __init__(self, inbox: Inbox, *, warn: Callable[[str], None] = lambda sentence: None) -> None:
        self._inbox = inbox
        self._warn = warn
        self.workers: dict[str, WorkerFacts] = {}
        self.hint: str | None = None
        self._refused = False
        self._job: Callable[[str], msg.Job] | None = None
        self._begin: msg.Begin | None = None
        self._dealer: Dealer | None = None
        self._clocked: Clocked | None = None
        self._clock: msg.Clock | None = None
        self._draining: msg.Drain | None = None
        self._changed = asyncio.Event()
        self._outgoing: dict[str, list[msg.GrantedSession]] = {}
        self._flushing = False
        self._nobody: Callable[[], None] = lambda: None
        self._failure: BaseException | None = None
        self._give_up: asyncio.TimerHandle | None = None
        self._run_id = ""
        self._told: set[str] = set()
        self._sent_away: set[str] = set()
        self._looked_ns = 0
        self._most_wanted = 0

    # ---- before the run ----

    def offer(self, job: Callable[[str], msg.Job]) -> None:
        """From now on whoever joins gets this job; ``job`` makes it for a worker's name."""
        self._job = job

    async def gather(
        self, wanted: int, max_wait_s: float, *, hopeless: Callable[[], str | None] = lambda: None
    ) -> None:
        """Wait until so many workers can do the job.

        Args:
            wanted: how many.
            max_wait_s: how long at most.
            hopeless: a sentence once waiting is of no use, e.g. since a process that was started has ended.

        Raises:
            UsageError: they did not come, or cannot do it; the message names each with its reason.
            WorkerFailedError, WorkerBugError: what one of them met.
        """
        deadline = time.monotonic() + max_wait_s
        while len(self._in("ready")) < wanted:
            self._raise_failure()
            sentence = hopeless()
            left_s = deadline - time.monotonic()
            if sentence is not None or left_s <= 0:
                raise self._not_enough(wanted, max_wait_s, sentence)
            await self._wait(min(left_s, 0.25))

    async def warm(self, url: str | None, max_wait_s: float) -> None:
        """Have every worker load all that it needs.

        Args:
            url: address of the embedded server, if there is one.
            max_wait_s: how long at most.

        Raises:
            UsageError: a worker did not manage.
            WorkerFailedError, WorkerBugError: what one of them met.
        """
        self._begin = msg.Begin(url=url)
        for worker in self._in("ready"):
            self._send(worker, self._begin)
        deadline = time.monotonic() + max_wait_s
        while late := self._in("ready"):
            self._raise_failure()
            if time.monotonic() > deadline:
                names = ", ".join(worker.name for worker in late)
                raise UsageError(f"{names} did not get ready to hold sessions within {max_wait_s:g} s")
            await self._wait(0.25)
        self._raise_failure()
        if not self._in("warm"):
            raise self._not_enough(1, max_wait_s, None)

    async def wait_for(self, other: asyncio.Future[_T]) -> _T:
        """Wait for something else, no longer than the workers can go on.

        Raises:
            WorkerFailedError, WorkerBugError: what one of them met.
        """
        while not other.done():
            self._raise_failure()
            await asyncio.wait([other], timeout=0.25)
        return other.result()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _not_enough(self, wanted: int, max_wait_s: float, sentence: str | None) -> UsageError:
        found = len(self._in("ready"))
        lines = [sentence or f"{found} of {wanted} workers were ready within {max_wait_s:g} s"]
        lines += [f"{w.name} on {w.hello.host}: {w.sentence}" for w in self.workers.values() if w.sentence is not None]
        hint = None if len(lines) > 1 or sentence else "start them with `rteval worker --master HOST:PORT`"
        return UsageError("\n  ".join(lines), hint=hint)

    # ---- the run: an Engine ----

    def deal(
        self,
        dealer: Dealer,
        *,
        warmup_s: float = 0.0,
        begun: Callable[[int], None] = lambda start_ns: None,
        over: Callable[[], None] = lambda: None,
        nobody: Callable[[], None] = lambda: None,
    ) -> None:
        """Name what ``run`` is to deal.

        Args:
            dealer: says what is held where, and when.
            warmup_s: turns that begin so early are warm-up.
            begun: hears when the run begins, in ns.
            over: called when the time of a timed run is over.
            nobody: called when the last worker is lost.
        """
        self._dealer = dealer
        self._warmup_s = warmup_s
        self._begun = begun
        self._over = over
        self._nobody = nobody
        self._clocked = Clocked(dealer, self._give, over=self._time_is_over, every_s=self.TICK_S, tick=self._tick)

    async def run(self) -> None:
        """Have every session held by the workers; see ``Engine``."""
        dealer, clocked = self._dealer, self._clocked
        assert dealer is not None
        assert clocked is not None
        self._raise_failure()
        start_ns = time.perf_counter_ns() + AHEAD_NS
        self._looked_ns = time.perf_counter_ns()
        for worker in self.workers.values():
            worker.messages = 0
        dealer.begin(start_ns)
        self._begun(start_ns)
        warm_until_ns = start_ns + round(self._warmup_s * _NS) if self._warmup_s else None
        self._clock = msg.Clock(start_ns=start_ns, warm_until_ns=warm_until_ns)
        self._most_wanted = dealer.slots_wanted(start_ns)
        for worker in self._in("warm"):
            self._send(worker, self._clock)
            dealer.capacity(worker.address, self._room(worker))
        if not self._in("warm"):
            self._end_without_workers()
        try:
            await clocked.run()
            await self._hear_last_words()
        finally:
            if self._give_up is not None:
                self._give_up.cancel()
            self.line.want(0)
        for worker in self.workers.values():
            if worker.strays:
                self._inbox.incident(
                    f"{worker.name} on {worker.hello.host} sent {worker.strays} records that nobody had asked for; "
                    "they were not taken"
                )
        self._raise_failure()

    def stop(self) -> None:
        """Start nothing any more; what runs may finish."""
        self._tell_drain(None)

    def drain(self, within_s: float) -> None:
        """No turn begins any more; sessions end with the turn they are in, and are cut after ``within_s``."""
        self._tell_drain(within_s)
        loop = asyncio.get_running_loop()
        if self._give_up is not None:
            self._give_up.cancel()
        self._give_up = loop.call_later(within_s + _LAST_WORDS_S / 2, self._lose_the_silent, "did not end its sessions")

    def cut(self) -> None:
        """End what runs: every session is cancelled and leaves its rows."""
        self._tell_drain(0.0)
        for worker in self._in("warm"):
            self._send(worker, msg.Cut())
        loop = asyncio.get_running_loop()
        due_s = loop.time() + _LAST_WORDS_S / 2
        if self._give_up is None or self._give_up.when() > due_s:
            if self._give_up is not None:
                self._give_up.cancel()
            self._give_up = loop.call_at(due_s, self._lose_the_silent, "did not end its sessions")

    def _tell_drain(self, within_s: float | None) -> None:
        self._flush()  # what was dealt goes first: who is told that nothing more comes may be done at once
        if self._dealer is not None:
            self._dealer.stop(time.perf_counter_ns())
        if self._draining is None or within_s is not None:
            self._draining = msg.Drain(within_s=within_s)
            for worker in self._in("warm"):
                self._send(worker, self._draining)
        self._wake()

    def farewell(self, *, kept: bool, sentence: str | None = None, exit_code: int = 0) -> None:
        """Tell every worker that the run is over."""
        for worker in self.workers.values():
            if worker.state not in ("gone", "refused"):
                self._send(worker, msg.Bye(kept=kept, sentence=sentence, exit_code=exit_code))

    async def _hear_last_words(self) -> None:
        """Wait until every worker has said how much it sent, and see that all of it is here."""
        self._tell_drain(None)
        deadline = time.monotonic() + _LAST_WORDS_S
        while self._in("warm") and time.monotonic() < deadline:
            await self._wait(0.25)
        self._lose_the_silent("did not say that it was done")

    def _lose_the_silent(self, why: str) -> None:
        for worker in self._in("warm"):
            self._lose(worker, why)

    # ---- what comes in: the line's events, in the asyncio loop ----

    def joined(self, address: str) -> None:
        """Somebody is on the line; their first message says who."""

    def gone(self, address: str, why: str = "was not heard of any more") -> None:
        """A worker left, or was not heard for seconds; ``why`` goes on where "it" began."""
        worker = self.workers.get(address)
        if worker is not None and worker.takes_part:
            self._lose(worker, why)

    def message(self, address: str, kind: str, data: bytes) -> None:
        """A worker said something."""
        if (worker := self.workers.get(address)) is not None:
            worker.messages += 1
        try:
            self._take(address, msg.decode(msg.FROM_WORKER, kind, data))
        except msg.MessageError as error:
            self._dismiss(address, f"sent what no worker sends: {error}")
        except Exception as error:  # a bug of ours; the line would only log it, and the run would wait for ever
            self._fail(error)
        self._wake()

    def _take(self, address: str, content: msg.Message) -> None:
        worker = self.workers.get(address)
        if isinstance(content, msg.Hello):
            self._hello(address, content)
        elif isinstance(content, msg.Ping):
            self.line.send(
                address,
                msg.Pong.kind,
                msg.encode(msg.Pong(sent_ns=content.sent_ns, master_ns=time.perf_counter_ns())),
            )
        elif worker is not None and worker.takes_part:
            self._hear(worker, content)

    def _hello(self, address: str, hello: msg.Hello) -> None:
        if address in self.workers or self._job is None:
            return
        worker = WorkerFacts(name=f"w{len(self.workers) + 1}", address=address, hello=hello)
        self.workers[address] = worker
        if (hello.protocol, hello.version) != (msg.PROTOCOL, __version__):
            self._refuse(worker, f"it runs rteval {hello.version}, and the master {__version__}: install the same")
        elif self._draining is not None:
            self._refuse(worker, "it came when the run was about to end")
        else:
            job = self._job(worker.name)
            self._run_id = job.run_id
            self._send(worker, job)

    def _hear(self, worker: WorkerFacts, content: msg.Message) -> None:
        match content:
            case msg.Ready(ok=False) if worker.state == "joined":
                worker.state, worker.sentence = "refused", content.sentence or "it cannot do the job"
                self._warn(f"{worker.name} on {worker.hello.host} cannot take part: {worker.sentence}")
                self.line.dismiss(worker.address)
            case msg.Ready() if worker.state == "joined":
                worker.state, worker.credential = "ready", content.credential
                for sentence in content.warnings:
                    self._warn(f"{worker.name}: {sentence}")
                if self._begin is not None:
                    self._send(worker, self._begin)
            case msg.Warm() if worker.state == "ready":
                worker.state, worker.clock_offset_ns = "warm", content.clock_offset_ns
                if self._clock is not None:
                    self._send(worker, self._clock)
                    self._inbox.incident(f"{worker.name} joined while the run went on")
                if self._draining is not None:
                    self._send(worker, self._draining)
            case msg.Slots():
                worker.slots = content.slots
                self._inbox.seen(worker.name, slots=self._room(worker), lost=False)
                if worker.state == "warm" and self._clock is not None and self._dealer is not None:
                    self._dealer.capacity(worker.address, self._room(worker))
            case msg.Batch() if worker.state == "warm":
                self._batch(worker, content)
            case msg.Drained() if worker.state == "warm" and self._draining is not None:
                self._drained(worker, content)
            case msg.Leaving():
                self._lose(worker, content.sentence)
                if content.failed:
                    self._fail(WorkerFailedError(f"{worker.name} on {worker.hello.host}: {content.sentence}"))
            case msg.Bug():
                self._lose(worker, "met a bug in rteval")
                self._fail(WorkerBugError(f"on {worker.name}:\n{content.text}"))
            case _:
                self._dismiss(worker.address, f"said {content.kind} when it was {worker.state}")

    def _room(self, worker: WorkerFacts) -> int:
        """The slots that are believed: nobody has more than were ever asked of all."""
        return min(worker.slots, self._most_wanted)

    def _batch(self, worker: WorkerFacts, batch: msg.Batch) -> None:
        if batch.seq != worker.next_batch:
            self._dismiss(worker.address, f"sent records number {batch.seq} when number {worker.next_batch} was due")
            return
        worker.next_batch += 1
        if batch.lines or batch.ended or batch.returned:  # one that says nothing is no life
            worker.silent_ticks = 0
        dealer = self._dealer
        if dealer is None or self._clock is None:
            return  # it waits with us for the run to begin, and its health meanwhile is no part of that
        for line in batch.lines:
            try:
                record = decode_record(line)
            except ValueError:
                self._dismiss(worker.address, "sent a record that cannot be read")
                return
            if not self._is_of_this_run(record):
                self._dismiss(worker.address, "sent a record of another time")
                return
            if self._belongs(worker, record, dealer):
                self._inbox.received(worker.name, line, record)
                if not self._refused and isinstance(record, SessionRecord) and record.outcome in ("refused", "timeout"):
                    self._refused, self.hint = True, batch.hint
            else:
                worker.strays += 1
                if worker.strays > _MOST_STRAYS:
                    self._dismiss(worker.address, "went on sending records that nobody had asked for")
                    return
        for ended in batch.ended:
            if not dealer.is_held_by(ended.name, worker.address):
                self._dismiss(worker.address, "said that a session ended that it did not hold")
                return
            if not dealer.can_have_ended(ended.name, ended.leftover):
                self._dismiss(worker.address, "said that a session ended, and its records say otherwise")
                return
            self._told.discard(ended.name)
            dealer.session_done(ended.name, leftover=ended.leftover)
        for name in batch.returned:
            if not dealer.is_held_by(name, worker.address) or not dealer.can_be_returned(name):
                self._dismiss(worker.address, "gave back a session that it was to hold")
                return
            dealer.returned(name)

    def _is_of_this_run(self, record: Record) -> bool:
        """Whether all its moments are times, and near this run: a picture of centuries could not be drawn."""
        assert self._clock is not None
        earliest, latest = self._clock.start_ns - _WITHIN_NS, time.perf_counter_ns() + _WITHIN_NS
        moments = [getattr(record, name) for name in _MOMENTS[type(record)]]
        if isinstance(record, TurnRecord) and record.deltas.arrival_ns:
            moments += [min(record.deltas.arrival_ns), max(record.deltas.arrival_ns)]
        return all(at_ns is None or (type(at_ns) is int and earliest <= at_ns <= latest) for at_ns in moments)

    def _belongs(self, worker: WorkerFacts, record: Record, dealer: Dealer) -> bool:
        """Whether a record is this worker's to send, was asked for, and is new."""
        if record.worker != worker.name:
            return False
        if isinstance(record, HealthSample):
            assert self._clock is not None
            worker.samples += 1
            run_s = max(0, time.perf_counter_ns() - self._clock.start_ns) / _NS
            return worker.samples <= _SAMPLES_PER_S * run_s + _SAMPLES_MORE
        if isinstance(record, TurnRecord):
            worker.turns += 1
        else:
            worker.sessions += 1
        if record.run_id != self._run_id or not dealer.is_held_by(record.session, worker.address):
            return False
        turns = dealer.turns_of(record.session)
        if isinstance(record, SessionRecord):
            is_new = record.session not in self._told
            self._told.add(record.session)
            return is_new and record.variant == turns[0].variant
        if not 0 <= record.turn < len(turns):
            return False
        asked = turns[record.turn]
        is_asked = (record.item, record.attempt, record.variant) == (asked.item.id, asked.attempt, asked.variant)
        return is_asked and dealer.turn_done(record.session, record.turn)

    def _drained(self, worker: WorkerFacts, content: msg.Drained) -> None:
        if self._dealer is not None and self._dealer.holds(worker.address):
            self._dismiss(worker.address, "said that it was done, and had sessions under way")
            return
        if (content.turns, content.sessions) != (worker.turns, worker.sessions):
            self._inbox.incident(
                f"{worker.name} recorded {content.turns} turns and {content.sessions} sessions, "
                f"of which {worker.turns} and {worker.sessions} arrived"
            )
        worker.state = "drained"
        if self._dealer is not None:
            self._dealer.capacity(worker.address, 0)

    # ---- who is out ----

    def _refuse(self, worker: WorkerFacts, sentence: str) -> None:
        worker.state, worker.sentence = "refused", sentence
        self._warn(f"{worker.name} on {worker.hello.host} cannot take part: {sentence}")
        self._send(worker, msg.Bye(kept=False, sentence=sentence, exit_code=2))
        self.line.dismiss(worker.address)

    def _dismiss(self, address: str, why: str) -> None:
        """Nothing that this worker says is believed any more."""
        bye = msg.Bye(kept=False, sentence=f"the master did not understand this worker: it {why}", exit_code=70)
        self.line.send(address, bye.kind, msg.encode(bye))
        worker = self.workers.get(address)
        if worker is not None and worker.takes_part:
            self._lose(worker, why)
            return
        if worker is None and address not in self._sent_away:
            self._sent_away.add(address)
            self._warn(f"somebody who had not said who they are was sent away: it {why}")
        self.line.dismiss(address)

    def _lose(self, worker: WorkerFacts, why: str) -> None:
        was = worker.state
        worker.state, worker.sentence, worker.slots = "gone", why, 0
        self.line.dismiss(worker.address)
        self._inbox.seen(worker.name, slots=0, lost=True)
        self._outgoing.pop(worker.address, None)
        if was == "warm" and self._clock is not None and self._dealer is not None:
            self._hand_over(worker, self._dealer, why)
        elif self._clock is None and (was == "warm" or (was == "ready" and self._begin is not None)):
            self._inbox.incident(f"{worker.name} on {worker.hello.host} was lost before the run began: it {why}")
        else:
            self._warn(f"{worker.name} on {worker.hello.host} takes no part: it {why}")
        self._wake()

    def _hand_over(self, worker: WorkerFacts, dealer: Dealer, why: str) -> None:
        """What was under way on a worker that is lost is for the others, if there are any."""
        lost = dealer.worker_lost(worker.address)
        for one in lost:
            if one.superseded:
                self._inbox.superseded(one.name)
        again = sum(len(one.turns) - (0 if one.superseded else one.done) for one in lost)
        become = "and none of their turns was missing"
        if again:
            by_others = "taken over by the others" if self._in("warm") and not dealer.stopped else "not run"
            become = f"{again} turns of them were {by_others}"
        under_way = f"{len(lost)} sessions were under way there (figures of sessions leave them out), {become}"
        self._inbox.incident(f"{worker.name} on {worker.hello.host} was lost: it {why}. {under_way}")
        if not self._in("warm") and not dealer.finished:
            self._end_without_workers()

    def _end_without_workers(self) -> None:
        assert self._dealer is not None
        self._dealer.stop(time.perf_counter_ns())
        self._nobody()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        if self._clock is not None:
            self.cut()
        self._wake()

    # ---- what goes out ----

    def _give(self, worker: str, grant: Grant) -> None:
        turns = tuple((turn.item.id, turn.attempt) for turn in grant.turns)
        granted = msg.GrantedSession(
            name=grant.name,
            variant=grant.turns[0].variant,
            turns=turns,
            due_ns=grant.due_ns,
            start_ns=grant.start_ns,
        )
        self._outgoing.setdefault(worker, []).append(granted)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        for address, sessions in self._outgoing.items():
            if self.workers[address].state == "warm":
                for portion in _portions(sessions):
                    self._send(self.workers[address], msg.Grants(sessions=portion))
        self._outgoing.clear()

    def _send(self, worker: WorkerFacts, message: msg.Message) -> None:
        self.line.send(worker.address, message.kind, msg.encode(message))

    def _tick(self) -> None:
        assert self._dealer is not None
        now_ns = time.perf_counter_ns()
        wanted = self._dealer.slots_wanted(now_ns)
        # Whoever still gets ready would hold none, and the others would hold fewer.
        self.line.want(wanted, frozenset(worker.address for worker in self._in("warm")))
        if wanted > self._most_wanted:
            self._most_wanted = wanted
            for worker in self._in("warm"):
                self._dealer.capacity(worker.address, self._room(worker))
        # Measured, since a loop that was held up finds the messages of all that time.
        since_s = (now_ns - self._looked_ns) / _NS
        if since_s >= 1:
            self._count_messages(_MOST_A_SECOND * since_s)
            self._looked_ns = now_ns
        for worker in self._in("warm"):
            worker.silent_ticks += 1
            if worker.silent_ticks * self.TICK_S > _HUNG_S:
                self._dismiss(worker.address, f"sent nothing for {_HUNG_S:g} s")

    def _count_messages(self, most: float) -> None:
        for worker in [worker for worker in self.workers.values() if worker.takes_part]:
            if worker.messages > most:
                self._dismiss(worker.address, f"sent {worker.messages} messages at once")
            worker.messages = 0

    def _time_is_over(self) -> None:
        self._tell_drain(None)
        self._over()

    # ---- waiting ----

    def _in(self, state: str) -> list[WorkerFacts]:
        return [worker for worker in self.workers.values() if worker.state == state]

    def _wake(self) -> None:
        self._changed.set()
        if self._clocked is not None:
            self._clocked.changed()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    @property
    def credential(self) -> str | None:
        """The kind of credential that the workers found."""
        return next((worker.credential for worker in self.workers.values() if worker.credential is not None), None)

    def facts(self) -> list[Mapping[str, Any]]:
        """Every worker that was ever here, for ``run.json``."""
        return [worker.as_dict() for worker in self.workers.values()]


def _portions(sessions: Sequence[msg.GrantedSession]) -> Iterator[tuple[msg.GrantedSession, ...]]:
    """Sessions for messages of a good length, in order."""
    portion: list[msg.GrantedSession] = []
    length = 0
    for session in sessions:
        portion.append(session)
        length += _GRANT_BYTES + sum(len(item) + _TURN_BYTES for item, _ in session.turns)
        if length >= msg.BATCH_BYTES:
            yield tuple(portion)
            portion, length = [], 0
    if portion:
        yield tuple(portion)
