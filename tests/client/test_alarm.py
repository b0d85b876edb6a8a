"""The alarm wakes everybody, in order, never too early, whatever becomes of the others and of the loop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from rteval.client import kernel_timer
from rteval.client.alarm import Alarm

MS = 1_000_000
LIMIT_S = 20.0
LOOPS: list[Any] = [pytest.param(None, id="stock loop")]
if os.name == "posix":
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))

Held = Coroutine[Any, Any, Any]
Run = Callable[[Held], Any]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on one kind of loop, not for ever."""

    def run(held: Held) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(LIMIT_S):
                return await held

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(bounded())

    return run


@pytest.fixture(params=[True, False], ids=["fine timer", "the loop's timer"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system's fine timer is there (it may be missing here too; then both are the same)."""
    if not request.param:
        monkeypatch.setattr(kernel_timer, "_LIBC", None)
    return kernel_timer._LIBC is not None


def test_everybody_is_woken_in_the_order_of_the_due_times_and_never_early(run: Run, kind: bool) -> None:
    woken: list[tuple[int, int]] = []

    async def wait(alarm: Alarm, due_ns: int) -> None:
        await alarm.until(due_ns)
        woken.append((due_ns, time.perf_counter_ns()))

    async def everybody() -> None:
        alarm, now_ns, dice = Alarm(), time.perf_counter_ns(), random.Random(7)
        dues = [now_ns + dice.randrange(80 * MS) for _ in range(300)] + [now_ns - MS, now_ns]
        await asyncio.gather(*(wait(alarm, due_ns) for due_ns in dues))
        assert sorted(dues) == sorted(due_ns for due_ns, _ in woken)

    run(everybody())
    if kind:
        assert all(at_ns >= due_ns for due_ns, at_ns in woken)
        ticks = [-(-due_ns // MS) for due_ns, _ in woken]
        assert ticks == sorted(ticks)


def test_who_gives_up_keeps_nobody_from_being_woken(run: Run, kind: bool) -> None:
    async def some_give_up() -> list[Any]:
        alarm, now_ns = Alarm(), time.perf_counter_ns()
        tasks = [asyncio.create_task(alarm.until(now_ns + (20 + number % 3) * MS)) for number in range(9)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(some_give_up())
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False] * 4 + [True]


def test_an_earlier_due_time_is_not_made_to_wait_for_a_later_one(run: Run, kind: bool) -> None:
    async def late_and_early() -> bool:
        alarm, now_ns = Alarm(), time.perf_counter_ns()
        late = asyncio.create_task(alarm.until(now_ns + 3_600_000 * MS))
        await asyncio.sleep(0)
        await alarm.until(now_ns + 5 * MS)
        waits = not late.done()
        late.cancel()
        return waits

    assert run(late_and_early())


def test_it_rings_again_after_a_silence_and_costs_nothing_meanwhile(run: Run, kind: bool) -> None:
    async def twice() -> float:
        alarm = Alarm()
        await alarm.until(time.perf_counter_ns() + 2 * MS)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(0.1)
        share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        await alarm.until(time.perf_counter_ns() + 2 * MS)
        return share

    assert run(twice()) < 0.5  # a timer that stays ready would have the loop go round all the time


def test_one_alarm_serves_one_loop_after_the_other(run: Run, kind: bool) -> None:
    alarm = Alarm()
    for _ in range(3):
        run(alarm.until(time.perf_counter_ns() + MS))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files here")
def test_an_alarm_that_is_gone_leaves_no_open_file(run: Run) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run(Alarm().until(time.perf_counter_ns() + MS))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 2
