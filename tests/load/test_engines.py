"""What every engine of one process keeps to: all sessions are held, when they are due, and none is lost at the end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rteval.corpus import Item
from rteval.load.dealing import Dealer
from rteval.load.inline import AsyncioEngine
from rteval.load.locust_engine import LocustEngine
from rteval.load.schedule import Closed, Open, StartSpacing
from rteval.plan import PlannedTurn, SessionPlan
from rteval.station import loop_factory

S = 1_000_000_000
Hold = Callable[[str, Sequence[PlannedTurn], int], Awaitable[Sequence[PlannedTurn]]]


def plans(count: int | None, turns: int = 1) -> Iterator[SessionPlan]:
    for index in itertools.count() if count is None else range(count):
        yield SessionPlan(index, tuple(PlannedTurn(Item(id=f"i{index}-{n}", text="?"), 1) for n in range(turns)))


def dealer(sessions: Iterator[SessionPlan], schedule: Closed | Open, most: int | None = None) -> Dealer:
    return Dealer(sessions, schedule, spacing=StartSpacing(None), max_sessions=most)


class _Users:
    engine: LocustEngine

    async def hold_slot(self) -> None:
        await self.engine.hold_slot()


@asynccontextmanager
async def asyncio_engine(dealt: Dealer, hold: Hold, **more: Any) -> AsyncIterator[AsyncioEngine]:
    yield AsyncioEngine(dealt, hold, **more)


@asynccontextmanager
async def locust_engine(dealt: Dealer, hold: Hold, **more: Any) -> AsyncIterator[AsyncioEngine]:
    from rteval.load.swarm import LocalSwarm

    users = _Users()
    swarm = LocalSwarm(users)
    await swarm.start()
    try:
        users.engine = LocustEngine(dealt, hold, **more)
        users.engine.users = swarm
        yield users.engine
    finally:
        await swarm.quit()


ENGINES = [pytest.param(asyncio_engine, id="asyncio"), pytest.param(locust_engine, id="locust")]
pytestmark = pytest.mark.parametrize("engine", ENGINES)


def run(made: Any, dealt: Dealer, hold: Hold, act: Callable[[AsyncioEngine], Any] | None = None, **more: Any) -> None:
    async def main() -> None:
        async with made(dealt, hold, **more) as engine:
            acting = asyncio.create_task(act(engine)) if act is not None else None
            try:
                await engine.run()
            finally:
                if acting is not None:
                    await acting

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


def test_every_session_is_held_once_and_never_too_many(engine: Any) -> None:
    names: list[str] = []
    open_now = peak = 0
    seven_are_open = asyncio.Event()

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        nonlocal open_now, peak
        names.append(name)
        open_now += 1
        peak = max(peak, open_now)
        if open_now == 7:
            seven_are_open.set()
        await seven_are_open.wait()
        await asyncio.sleep(0.005)
        open_now -= 1
        return ()

    run(engine, dealer(plans(60), Closed(7, 0.0)), hold)
    assert sorted(names) == [f"s{index:05d}" for index in range(60)]
    assert peak == 7


def test_a_thousand_sessions_at_once_lose_nothing(engine: Any) -> None:
    names: list[str] = []
    all_there = asyncio.Event()

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        names.append(name)
        if len(names) == 1000:
            all_there.set()
        await all_there.wait()
        return ()

    run(engine, dealer(plans(1000), Closed(1000, 0.0)), hold)
    assert len(set(names)) == len(names) == 1000


def test_no_session_starts_before_it_is_due_and_a_ramp_is_kept(engine: Any) -> None:
    starts: list[tuple[int, int]] = []

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        starts.append((due_ns, time.perf_counter_ns()))
        await asyncio.sleep(0.7)
        return ()

    begun: list[int] = []
    run(engine, dealer(plans(5), Closed(5, 0.5)), hold, begun=begun.append)
    assert all(started_ns >= due_ns for due_ns, started_ns in starts)
    # The first one is due at once, that is when the engine has got round to it.
    assert [due_ns - begun[0] for due_ns, _ in starts[1:]] == [S // 10 * slot for slot in range(1, 5)]


def test_what_a_session_leaves_over_is_held_by_another(engine: Any) -> None:
    held: list[tuple[str, int]] = []

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        held.append((name, len(turns)))
        return turns[1:]

    run(engine, dealer(plans(1, turns=3), Closed(1)), hold)
    assert held == [("s00000", 3), ("s00000.2", 2), ("s00000.3", 1)]


def test_a_bug_in_a_session_is_raised_and_ends_the_others(engine: Any) -> None:
    unheard: list[dict[str, Any]] = []
    cancelled: list[str] = []
    dealt = dealer(plans(5), Closed(2, 0.0))

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
        if name == "s00001":
            raise ZeroDivisionError(name)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise
        return ()

    with pytest.raises(ZeroDivisionError, match="s00001"):
        run(engine, dealt, hold)
    gc.collect()
    assert cancelled == ["s00000"]
    assert [left.name for left in dealt.left(0)] == ["s00002", "s00003", "s00004"]
    assert unheard == []


def test_after_a_stop_what_runs_may_finish_and_the_rest_is_left(engine: Any) -> None:
    begun: list[str] = []
    ended: list[str] = []
    two_run = asyncio.Event()
    may_end = asyncio.Event()
    dealt = dealer(plans(5), Closed(2, 0.0))

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        begun.append(name)
        if len(begun) == 2:
            two_run.set()
        await may_end.wait()
        ended.append(name)
        return turns

    async def act(running: AsyncioEngine) -> None:
        await two_run.wait()
        running.stop()
        may_end.set()

    run(engine, dealt, hold, act)
    assert sorted(ended) == ["s00000", "s00001"]
    names = [left.name for left in dealt.left(0)]
    assert sorted(names) == ["s00000.2", "s00001.2", "s00002", "s00003", "s00004"]


def test_a_drain_ends_turns_and_then_cuts(engine: Any) -> None:
    told: list[bool] = []
    cut: list[str] = []
    running_now = asyncio.Event()

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        running_now.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cut.append(name)
            raise
        return ()

    async def act(running: AsyncioEngine) -> None:
        await running_now.wait()
        running.drain(0.05)

    run(engine, dealer(plans(None), Closed(1)), hold, act, end_turns=lambda: told.append(True))
    assert (told, cut) == ([True], ["s00000"])


def test_what_waits_for_its_time_is_given_back_at_a_stop(engine: Any) -> None:
    held: list[str] = []
    one_runs = asyncio.Event()
    dealt = dealer(plans(3), Closed(3, 60.0))

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        held.append(name)
        one_runs.set()
        return ()

    async def act(running: AsyncioEngine) -> None:
        await one_runs.wait()
        running.stop()

    run(engine, dealt, hold, act)
    assert held[0] == "s00000"
    assert [left.name for left in dealt.left(0)] == [f"s{index:05d}" for index in range(len(held), 3)]


def test_a_timed_run_ends_by_itself_and_says_so(engine: Any) -> None:
    over: list[bool] = []
    begun: list[int] = []
    held: list[int] = []

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        held.append(due_ns)
        await asyncio.sleep(0.03)
        return ()

    schedule = Closed(2, 0.0, (), 0.4)
    run(engine, dealer(plans(None), schedule), hold, over=lambda: over.append(True), begun=begun.append)
    assert over == [True]
    assert held
    assert all(begun[0] <= due_ns < begun[0] + S * 4 // 10 for due_ns in held)


def test_a_timed_run_ends_also_when_nobody_is_there_at_its_end(engine: Any) -> None:
    held: list[str] = []
    over: list[bool] = []

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        held.append(name)
        return ()

    async def main() -> None:
        dealt = dealer(plans(None), Open(4.0, duration_s=0.6))
        async with asyncio.timeout(60), engine(dealt, hold, over=lambda: over.append(True)) as made:
            await made.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
    assert over == [True]
    assert held


def test_an_open_run_with_too_few_slots_is_late_and_says_what_did_not_start(engine: Any) -> None:
    lags: list[int] = []
    dealt = dealer(plans(None), Open(20.0, duration_s=1.0), most=2)

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        lags.append(time.perf_counter_ns() - due_ns)
        await asyncio.sleep(0.3)
        return ()

    run(engine, dealt, hold)
    left = dealt.left(time.perf_counter_ns())
    assert len(lags) + len(left) == 20
    assert len(left) >= 8
    assert all(session.due_ns is not None for session in left)
    assert max(lags) > S // 4


def test_cancelling_the_run_ends_every_session(engine: Any) -> None:
    begun: list[str] = []
    cut: list[str] = []
    all_run = asyncio.Event()

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        begun.append(name)
        if len(begun) == 3:
            all_run.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cut.append(name)
            raise
        return ()

    async def main() -> None:
        async with engine(dealer(plans(3), Closed(3, 0.0)), hold) as made:
            task = asyncio.create_task(made.run())
            await all_run.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
    assert sorted(cut) == ["s00000", "s00001", "s00002"]
