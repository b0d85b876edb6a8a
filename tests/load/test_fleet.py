"""A master believes of its workers only what it asked for, and says who is gone and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from rteval import __version__
from rteval.corpus import Item
from rteval.errors import RtevalError, UsageError
from rteval.load import messages as msg
from rteval.load.dealing import Dealer
from rteval.load.fleet import Fleet, WorkerBugError
from rteval.load.schedule import Closed, StartSpacing
from rteval.plan import PlannedTurn, SessionPlan
from rteval.records import HealthSample, Outcome, SessionRecord, TurnRecord
from rteval.shards import Record, encode_record


def plans(count: int, turns: int = 1, *, conversation: bool = False) -> Iterator[SessionPlan]:
    for index in range(count):
        talk = str(index) if conversation else None
        items = [Item(id=f"i{index}-{n}", text="?", conversation_id=talk) for n in range(turns)]
        yield SessionPlan(index, tuple(PlannedTurn(item, 1) for item in items))


HELLO = msg.Hello(protocol=msg.PROTOCOL, version=__version__, host="box", pid=1, cpus=1, python="3")


@dataclass
class Office:
    """A master without a wire: what it sends is kept, what workers say is handed in."""

    fleet: Fleet
    said: list[tuple[str, msg.Message]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    superseded_sessions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    wanted: int = 0
    among: Collection[str] | None = None
    batches: dict[str, int] = field(default_factory=dict)
    dismissed: list[str] = field(default_factory=list)

    def send(self, worker: str, kind: str, data: bytes) -> None:
        self.said.append((worker, msg.decode(msg.FROM_MASTER, kind, data)))

    def want(self, users: int, workers: Collection[str] | None = None) -> None:
        self.wanted, self.among = users, workers

    def dismiss(self, worker: str) -> None:
        self.dismissed.append(worker)

    def received(self, worker: str, line: bytes, record: Record) -> None:
        self.records.append(record)

    def seen(self, worker: str, *, slots: int, lost: bool) -> None:
        pass

    def superseded(self, session: str) -> None:
        self.superseded_sessions.append(session)

    def incident(self, sentence: str) -> None:
        self.incidents.append(sentence)

    # ---- a worker's part ----

    def hears(self, worker: str, message: msg.Message) -> None:
        self.fleet.message(worker, message.kind, msg.encode(message))

    def joins(self, worker: str, *, slots: int = 2) -> None:
        self.fleet.joined(worker)
        self.hears(worker, HELLO)
        self.hears(worker, msg.Ready(ok=True, credential="api key"))
        self.hears(worker, msg.Warm(clock_offset_ns=0, round_trip_ns=1))
        self.hears(worker, msg.Slots(slots=slots))

    def ships(self, worker: str, *records: Record, ended: tuple[str, ...] = (), seq: int | None = None) -> None:
        seq = self.batches.get(worker, 0) if seq is None else seq
        self.batches[worker] = seq + 1
        lines = tuple(encode_record(record) for record in records)
        over = tuple(msg.EndedSession(name=name) for name in ended)
        self.hears(worker, msg.Batch(seq=seq, ended=over, lines=lines))

    def told(self, worker: str, kind: type[msg.Message]) -> list[Any]:
        return [message for name, message in self.said if name == worker and isinstance(message, kind)]

    def granted(self, worker: str) -> list[str]:
        return [session.name for grants in self.told(worker, msg.Grants) for session in grants.sessions]


def office(kind: type[Office] = Office) -> Office:
    made = kind(fleet=None)  # type: ignore[arg-type]
    made.fleet = Fleet(made, warn=made.warnings.append)
    made.fleet.line = made
    made.fleet.offer(
        lambda name: msg.Job(run_id="r", worker=name, scenario={}, limit=None, dataset_name="d", dataset_hash="h")
    )
    return made


def turn(worker: str, session: str, position: int = 0, **more: Any) -> TurnRecord:
    """The row of a turn of ``plans``."""
    planned = {"run_id": "r", "item": f"i{int(session[1:6])}-{position}"}
    return TurnRecord(
        worker=worker,
        session=session,
        turn=position,
        modality="text",
        dialect="ga",
        outcome=Outcome.OK,
        **planned | more,
    )


def session(worker: str, name: str, **more: Any) -> SessionRecord:
    return SessionRecord(run_id="r", worker=worker, session=name, dialect="ga", turns=1, outcome="ready", **more)


def dealer(sessions: Iterator[SessionPlan], at_once: int) -> Dealer:
    return Dealer(sessions, Closed(at_once, 0.0), spacing=StartSpacing(None))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - there is no event for what was said
            await asyncio.sleep(0.005)


async def begun(
    planned: Iterator[SessionPlan], at_once: int = 1, *, workers: str = "a", slots: int = 2
) -> tuple[Office, asyncio.Task[None]]:
    """A run under way, with something to hold for each of the workers."""
    made = office()
    for worker in workers:
        made.joins(worker, slots=slots)
    made.fleet.deal(dealer(planned, at_once))
    running = asyncio.create_task(made.fleet.run())
    await until(lambda: all(made.granted(worker) for worker in workers))
    return made, running


async def over(made: Office, running: asyncio.Task[None], *workers: str) -> None:
    """Say for each worker that it is done."""
    await until(lambda: all(made.told(worker, msg.Drain) for worker in workers))
    for number, worker in enumerate(workers, start=1):
        facts = made.fleet.workers[worker]
        assert facts.name == f"w{number}"
        made.hears(worker, msg.Drained(turns=facts.turns, sessions=facts.sessions))
    await running


def test_a_run_ends_when_every_session_was_heard_of_to_its_end() -> None:
    async def main() -> None:
        made = office()
        made.joins("a")
        made.fleet.deal(dealer(plans(3), 2))
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: len(made.granted("a")) == 2)
        first, second = made.granted("a")
        made.ships("a", turn("w1", first), session("w1", first), ended=(first,))
        await until(lambda: len(made.granted("a")) == 3)
        third = made.granted("a")[2]
        made.ships("a", turn("w1", second), session("w1", second), turn("w1", third), ended=(second, third))
        await over(made, running, "a")
        assert len(made.records) == 5
        assert made.incidents == []
        assert made.wanted == 0

    asyncio.run(main())


STRAYS = [
    pytest.param(turn("w1", "s00099"), id="of a session that nobody was granted"),
    pytest.param(turn("w2", "s00000"), id="in another's name"),
    pytest.param(turn("w1", "s00000", 7), id="of a turn that was not planned"),
    pytest.param(session("w1", "s00099"), id="a session that was not granted"),
    pytest.param(turn("w1", "s00000", item="i7-0"), id="of another item"),
    pytest.param(turn("w1", "s00000", attempt=2), id="of another time that the item is run"),
    pytest.param(turn("w1", "s00000", variant="b"), id="of another variant"),
    pytest.param(turn("w1", "s00000", run_id="q"), id="of another run"),
    pytest.param(session("w1", "s00000", variant="b"), id="a session of another variant"),
]


@pytest.mark.parametrize("stray", STRAYS)
def test_a_record_that_was_not_asked_for_is_not_taken(stray: Record) -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        made.ships("a", stray, turn("w1", "s00000"), turn("w1", "s00000"), ended=("s00000",))
        await over(made, running, "a")
        assert made.records == [turn("w1", "s00000")]
        assert made.incidents == ["w1 on box sent 2 records that nobody had asked for; they were not taken"]

    asyncio.run(main())


GARBLED = [
    pytest.param(lambda made: made.fleet.message("a", "rteval.slots", b"{"), "what no worker sends", id="no JSON"),
    pytest.param(lambda made: made.ships("a", seq=5), "number 5 when number 0 was due", id="a gap"),
    pytest.param(
        lambda made: made.hears("a", msg.Batch(seq=0, lines=(b"{}",))), "cannot be read", id="a line that is no record"
    ),
    pytest.param(
        lambda made: made.hears("a", msg.Warm(clock_offset_ns=0, round_trip_ns=1)), "said rteval.warm", id="out of turn"
    ),
]


@pytest.mark.parametrize(("misspeak", "why"), GARBLED)
def test_a_worker_that_is_not_understood_is_out_and_its_sessions_are_held_again(misspeak: Any, why: str) -> None:
    async def main() -> None:
        made = office()
        made.joins("a", slots=1)
        gone: list[bool] = []
        made.fleet.deal(dealer(plans(1), 1), nobody=lambda: gone.append(True))
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: made.granted("a"))
        misspeak(made)
        (bye,) = made.told("a", msg.Bye)
        assert why in bye.sentence
        assert made.fleet.workers["a"].as_dict()["lost"]
        assert why in made.incidents[0]
        assert gone == [True]
        await running

    asyncio.run(main())


LIES = [
    pytest.param(lambda made: made.ships("a", ended=("s00007",)), "that it did not hold", id="ended, never held"),
    pytest.param(lambda made: made.ships("a", ended=("s00000",)), "records say otherwise", id="ended without rows"),
    pytest.param(
        lambda made: made.hears("a", msg.Batch(seq=0, ended=(msg.EndedSession(name="s00000", leftover=2),))),
        "records say otherwise",
        id="everything left over",
    ),
    pytest.param(
        lambda made: (
            made.ships("a", turn("w1", "s00000", 1)),
            made.hears("a", msg.Batch(seq=1, ended=(msg.EndedSession(name="s00000", leftover=1),))),
        ),
        "records say otherwise",
        id="left over, and done",
    ),
    pytest.param(
        lambda made: made.ships("a", *[turn("w1", "s00099")] * 2000), "went on sending", id="thousands of strays"
    ),
    pytest.param(
        lambda made: made.hears("a", msg.Batch(seq=0, returned=("s00000",))), "gave back a session", id="given back"
    ),
    pytest.param(lambda made: made.hears("a", msg.Drained(turns=0, sessions=0)), "said rteval.drained", id="done"),
    pytest.param(
        lambda made: made.ships("a", turn("w1", "s00000", started_ns=-1)), "of another time", id="before all time"
    ),
    pytest.param(
        lambda made: made.ships("a", turn("w1", "s00000", first_audio_ns="x")), "of another time", id="no time at all"
    ),
    pytest.param(
        lambda made: made.ships("a", HealthSample(worker="w1", at_ns=2**62)), "of another time", id="in a century"
    ),
]


@pytest.mark.parametrize(("lie", "why"), LIES)
def test_a_worker_that_says_what_cannot_be_is_out_and_its_turns_are_run_by_the_others(lie: Any, why: str) -> None:
    async def main() -> None:
        made, running = await begun(plans(1, turns=2), slots=1)
        made.joins("b", slots=1)
        lie(made)
        assert why in made.incidents[-1]
        assert made.dismissed == ["a"]
        had = len(made.records)
        await until(lambda: made.granted("b"))
        rows = [turn("w2", "s00000.2", position, item=f"i0-{position}") for position in range(2 - had)]
        made.ships("b", *rows, ended=("s00000.2",))
        await until(lambda: made.told("b", msg.Drain))
        made.hears("b", msg.Drained(turns=len(rows), sessions=0))
        async with asyncio.timeout(20):
            await running
        assert len(made.records) == 2

    asyncio.run(main())


def test_a_session_has_one_record_and_a_worker_no_more_health_than_seconds() -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        samples = [HealthSample(worker="w1", at_ns=time.perf_counter_ns() + number) for number in range(500)]
        made.ships("a", *[session("w1", "s00000")] * 5, *samples, turn("w1", "s00000"), ended=("s00000",))
        await over(made, running, "a")
        kinds = [type(record) for record in made.records]
        assert (kinds.count(SessionRecord), kinds.count(TurnRecord)) == (1, 1)
        assert kinds.count(HealthSample) < 100
        assert "records that nobody had asked for" in made.incidents[0]

    asyncio.run(main())


def test_only_who_is_warm_has_slots() -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        made.hears("b", HELLO)
        made.hears("b", msg.Ready(ok=True))
        await until(lambda: made.among == {"a"})
        made.hears("b", msg.Warm(clock_offset_ns=0, round_trip_ns=1))
        await until(lambda: made.among == {"a", "b"})
        made.ships("a", turn("w1", "s00000"), ended=("s00000",))
        await over(made, running, "a", "b")
        assert made.among is None

    asyncio.run(main())


def test_a_bug_of_one_worker_is_told_while_another_still_gets_ready() -> None:
    async def main() -> None:
        made = office()
        for name in ("a", "b"):
            made.hears(name, HELLO)
            made.hears(name, msg.Ready(ok=True))
        warming = asyncio.create_task(made.fleet.warm(None, 600))
        await until(lambda: made.told("b", msg.Begin))
        made.hears("a", msg.Bug(text="Traceback"))
        with pytest.raises(WorkerBugError, match="on w1"):
            async with asyncio.timeout(20):
                await warming

    asyncio.run(main())


def test_nobody_waits_for_a_start_that_the_workers_cannot_make() -> None:
    async def main() -> None:
        made = office()
        made.joins("a")
        started = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(started.set_result, 7)
        assert await made.fleet.wait_for(started) == 7
        never = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(made.fleet.wait_for(never))
        made.hears("a", msg.Bug(text="Traceback"))
        with pytest.raises(WorkerBugError, match="on w1"):
            async with asyncio.timeout(20):
                await waiting

    asyncio.run(main())


def test_no_worker_has_more_slots_than_were_ever_asked_for() -> None:
    shown: list[int] = []

    class Watching(Office):
        def seen(self, worker: str, *, slots: int, lost: bool) -> None:
            shown.append(slots)

    async def main() -> None:
        made = office(Watching)
        made.joins("a", slots=10**9)
        dealt = dealer(plans(6), 4)
        made.fleet.deal(dealt)
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: len(made.granted("a")) == 4)
        made.hears("a", msg.Slots(slots=10**9))
        assert shown[-1] == 4
        # More are asked for, and it need not say again that it has them.
        dealt.resize(5, time.perf_counter_ns() + 2 * 10**9, 1000)
        await until(lambda: len(made.granted("a")) == 5)
        made.hears("a", msg.Slots(slots=10**9))
        assert shown[-1] == 5
        made.fleet.gone("a")
        await running

    asyncio.run(main())


def test_batches_that_say_nothing_are_no_sign_of_life() -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        facts = made.fleet.workers["a"]
        facts.silent_ticks = 50
        made.ships("a")
        assert facts.silent_ticks == 50
        made.ships("a", HealthSample(worker="w1", at_ns=time.perf_counter_ns()))
        assert facts.silent_ticks == 0
        made.fleet.gone("a")
        await running

    asyncio.run(main())


def test_a_worker_that_floods_its_master_is_out() -> None:
    async def main() -> None:
        made = office()
        made.joins("a", slots=1)
        gone: list[bool] = []
        made.fleet.deal(dealer(plans(1), 1), nobody=lambda: gone.append(True))
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: made.granted("a"))
        for _ in range(5000):
            made.hears("a", msg.Ping(sent_ns=0))
        async with asyncio.timeout(20):
            await running
        assert "messages at once" in made.incidents[0]
        assert gone == [True]

    asyncio.run(main())


def test_what_a_lost_worker_had_not_finished_goes_to_the_others_and_its_later_words_do_not_count() -> None:
    async def main() -> None:
        made, running = await begun(plans(2, turns=2), 2, workers="ab", slots=1)
        (ours,), (theirs,) = made.granted("a"), made.granted("b")
        made.ships("a", turn("w1", ours, 0))
        made.fleet.gone("a")
        made.ships("a", turn("w1", ours, 1))
        assert len(made.records) == 1
        assert "w1 on box was lost" in made.incidents[0]
        assert "1 turns of them were taken over by the others" in made.incidents[0]
        made.ships("b", turn("w2", theirs, 0), turn("w2", theirs, 1), ended=(theirs,))
        await until(lambda: len(made.granted("b")) == 2)
        again = made.granted("b")[1]
        assert again == f"{ours}.2"
        made.ships("b", turn("w2", again, 0, item=f"i{int(ours[1:6])}-1"), ended=(again,))
        await until(lambda: made.told("b", msg.Drain))
        made.hears("b", msg.Drained(turns=3, sessions=0))
        await running
        assert len(made.records) == 4

    asyncio.run(main())


def test_a_conversation_that_was_torn_is_superseded() -> None:
    async def main() -> None:
        made, running = await begun(plans(1, turns=2, conversation=True), slots=1)
        made.joins("b", slots=1)
        made.ships("a", turn("w1", "s00000", 0))
        made.fleet.gone("a")
        assert made.superseded_sessions == ["s00000"]
        await until(lambda: made.granted("b") == ["s00000.2"])
        made.ships("b", turn("w2", "s00000.2", 0), turn("w2", "s00000.2", 1), ended=("s00000.2",))
        await until(lambda: made.told("b", msg.Drain))
        made.hears("b", msg.Drained(turns=2, sessions=0))
        await running

    asyncio.run(main())


def test_a_worker_that_says_it_sent_more_than_came_is_named() -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        made.ships("a", turn("w1", "s00000"), ended=("s00000",))
        await until(lambda: made.told("a", msg.Drain))
        made.hears("a", msg.Drained(turns=2, sessions=1))
        await running
        assert made.incidents == ["w1 recorded 2 turns and 1 sessions, of which 1 and 0 arrived"]

    asyncio.run(main())


def test_a_bug_on_a_worker_is_a_bug_of_the_run() -> None:
    async def main() -> None:
        made, running = await begun(plans(2))
        made.hears("a", msg.Bug(text="Traceback: ZeroDivisionError"))
        with pytest.raises(WorkerBugError, match="on w1:\nTraceback: ZeroDivisionError"):
            await running

    asyncio.run(main())


def test_a_worker_whose_disk_is_full_ends_the_run_with_its_sentence() -> None:
    async def main() -> None:
        made, running = await begun(plans(2))
        made.hears("a", msg.Leaving(sentence="cannot write x: No space left on device", failed=True))
        with pytest.raises(RtevalError, match="w1 on box: cannot write x"):
            await running

    asyncio.run(main())


def test_too_few_workers_are_named_with_their_reasons() -> None:
    async def main() -> None:
        made = office()
        made.fleet.joined("a")
        old = msg.Hello(protocol=msg.PROTOCOL, version="0.0.1", host="old", pid=1, cpus=1, python="3")
        made.hears("a", old)
        made.fleet.joined("b")
        made.hears("b", old.model_copy(update={"version": __version__, "host": "empty"}))
        made.hears("b", msg.Ready(ok=False, sentence="there is no dataset d here"))
        with pytest.raises(UsageError, match="0 of 1 workers") as error:
            await made.fleet.gather(1, 0.05)
        assert "w1 on old: it runs rteval 0.0.1" in str(error.value)
        assert "w2 on empty: there is no dataset d here" in str(error.value)
        assert made.told("a", msg.Bye)[0].exit_code == 2
        assert len(made.warnings) == 2

    asyncio.run(main())


def test_waiting_ends_when_it_is_of_no_use() -> None:
    async def main() -> None:
        made = office()
        with pytest.raises(UsageError, match="worker process 1 ended"):
            await made.fleet.gather(1, 60, hopeless=lambda: "worker process 1 ended with exit code 2")

    asyncio.run(main())


# ---- before the run ----


def test_health_from_before_the_run_is_none_of_it() -> None:
    async def main() -> None:
        made = office()
        now_ns = time.perf_counter_ns()
        made.joins("a")
        made.ships("a", HealthSample(worker="w1", at_ns=now_ns))
        made.fleet.deal(dealer(plans(1), 1))
        made.ships("a", HealthSample(worker="w1", at_ns=now_ns + 1))
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: made.granted("a"))
        during = HealthSample(worker="w1", at_ns=now_ns + 2)
        made.ships("a", during, turn("w1", "s00000"), ended=("s00000",))
        await over(made, running, "a")
        assert made.records == [during, turn("w1", "s00000")]

    asyncio.run(main())


def test_a_run_whose_workers_all_went_before_it_began_ends_at_once() -> None:
    async def main() -> None:
        made = office()
        made.joins("a")
        gone: list[bool] = []
        dealt = dealer(plans(1), 1)
        made.fleet.deal(dealt, nobody=lambda: gone.append(True))
        made.fleet.gone("a")
        async with asyncio.timeout(20):
            await made.fleet.run()
        assert gone == [True]
        assert [left.name for left in dealt.left(0)] == ["s00000"]
        assert made.incidents == ["w1 on box was lost before the run began: it was not heard of any more"]

    asyncio.run(main())


ENDS_BEFORE = [
    pytest.param(msg.Leaving(sentence="cannot write x", failed=True), "w1 on box: cannot write x", 2, id="full disk"),
    pytest.param(msg.Bug(text="Traceback: ZeroDivisionError"), "ZeroDivisionError", None, id="bug"),
]


@pytest.mark.parametrize(("last_word", "sentence", "code"), ENDS_BEFORE)
def test_what_fails_on_a_worker_before_the_run_keeps_it_from_beginning(
    last_word: msg.Message, sentence: str, code: int | None
) -> None:
    async def main() -> None:
        made = office()
        for worker in ("a", "b"):
            made.hears(worker, HELLO)
            made.hears(worker, msg.Ready(ok=True))
        warming = asyncio.create_task(made.fleet.warm(None, 60))
        await until(lambda: made.told("b", msg.Begin))
        made.hears("b", msg.Warm(clock_offset_ns=0, round_trip_ns=1))
        made.hears("a", last_word)
        with pytest.raises((RtevalError, WorkerBugError), match=sentence) as error:
            await warming
        assert getattr(error.value, "exit_code", None) == code

    asyncio.run(main())


# ---- a run always ends ----


def test_a_worker_that_says_it_is_done_and_is_not_is_out() -> None:
    async def main() -> None:
        made, running = await begun(plans(2), 2, workers="ab", slots=1)
        made.fleet.drain(60)
        made.hears("a", msg.Drained(turns=0, sessions=0))
        (theirs,) = made.granted("b")
        made.ships("b", turn("w2", theirs), ended=(theirs,))
        made.hears("b", msg.Drained(turns=1, sessions=0))
        async with asyncio.timeout(20):
            await running
        assert "w1 on box was lost: it said that it was done" in made.incidents[0]

    asyncio.run(main())


def test_a_worker_that_no_longer_can_when_it_long_could_is_out() -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        made.hears("a", msg.Ready(ok=False, sentence="no data"))
        async with asyncio.timeout(20):
            await running
        assert "said rteval.ready when it was warm" in made.incidents[0]

    asyncio.run(main())


def test_who_gets_ready_while_the_run_ends_is_told_so() -> None:
    async def main() -> None:
        made, running = await begun(plans(1))
        made.hears("b", HELLO)
        made.hears("b", msg.Ready(ok=True))
        made.fleet.drain(60)
        made.hears("b", msg.Warm(clock_offset_ns=0, round_trip_ns=1))
        assert made.told("b", msg.Drain)
        made.hears("b", msg.Drained(turns=0, sessions=0))
        made.ships("a", turn("w1", "s00000"), ended=("s00000",))
        made.hears("a", msg.Drained(turns=1, sessions=0))
        await running
        assert not any("was lost" in incident for incident in made.incidents)

    asyncio.run(main())


def test_what_was_dealt_is_sent_before_the_word_that_nothing_more_comes() -> None:
    async def main() -> None:
        made = office()
        made.joins("a")
        dealt = dealer(plans(1), 1)
        made.fleet.deal(dealt)
        running = asyncio.create_task(made.fleet.run())
        while not dealt.active:  # noqa: ASYNC110 - the very step in which it was dealt
            await asyncio.sleep(0)
        made.fleet.drain(60)
        words = [type(message) for _, message in made.said if isinstance(message, msg.Grants | msg.Drain)]
        assert words == [msg.Grants, msg.Drain]
        made.hears("a", msg.Batch(seq=0, returned=("s00000",)))
        await over(made, running, "a")

    asyncio.run(main())


def test_a_bug_of_the_master_ends_the_run() -> None:
    class Broken(Office):
        def received(self, worker: str, line: bytes, record: Record) -> None:
            raise ZeroDivisionError(worker)

    async def main() -> None:
        made = office(Broken)
        made.joins("a")
        made.fleet.deal(dealer(plans(1), 1))
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: made.granted("a"))
        made.ships("a", turn("w1", "s00000"), ended=("s00000",))
        await until(lambda: made.told("a", msg.Cut))
        made.fleet.gone("a")
        with pytest.raises(ZeroDivisionError):
            await running

    asyncio.run(main())


# ---- what it says ----


def test_turns_that_nobody_was_left_to_run_are_not_said_to_have_been_run_again() -> None:
    async def main() -> None:
        made, running = await begun(plans(1, turns=2))
        made.fleet.gone("a")
        await running
        assert "2 turns of them were not run" in made.incidents[0]

    asyncio.run(main())


def test_no_message_with_sessions_is_longer_than_it_should_be() -> None:
    async def main() -> None:
        made = office()
        made.joins("a", slots=1000)
        made.fleet.deal(dealer(plans(1000, turns=100), 1000))
        running = asyncio.create_task(made.fleet.run())
        await until(lambda: len(made.granted("a")) == 1000)
        sizes = [len(msg.encode(message)) for message in made.told("a", msg.Grants)]
        assert max(sizes) < 2 * msg.BATCH_BYTES
        assert len(sizes) < 2 * sum(sizes) / msg.BATCH_BYTES + 2
        made.fleet.gone("a")
        await running

    asyncio.run(main())
