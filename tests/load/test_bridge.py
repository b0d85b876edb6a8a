"""The bridge between asyncio and a gevent hub: what crosses it arrives, in order, once, and with its errors."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import gevent
import pytest
import uvloop

from rteval.load.bridge import HubThread

PATIENCE_S = 20


class Bridge:
    """A running hub, and what the loop's exception handler was told meanwhile."""

    def __init__(self) -> None:
        self.hub = HubThread()
        self.told: list[dict[str, Any]] = []

    @property
    def errors(self) -> list[str]:
        return [repr(context.get("exception", context["message"])) for context in self.told]


@asynccontextmanager
async def bridge() -> AsyncIterator[Bridge]:
    built = Bridge()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: built.told.append(context))
    await built.hub.start()
    try:
        yield built
    finally:
        await built.hub.stop()


def run(body: Callable[[Bridge], Coroutine[Any, Any, None]], *, tells: bool = False) -> Bridge:
    """Run a test on uvloop, as a run does; nothing may be told to the exception handler unless the test says so."""

    async def main() -> Bridge:
        async with asyncio.timeout(PATIENCE_S), bridge() as built:
            await body(built)
        return built

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        built = runner.run(main())
    assert tells or built.told == []
    return built


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds; ``run`` bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for is a field, not an event
        await asyncio.sleep(0.001)


def test_the_hub_has_a_thread_of_its_own() -> None:
    async def body(b: Bridge) -> None:
        assert await b.hub.ask(threading.get_ident) != threading.get_ident()

    run(body)


def test_a_question_is_answered() -> None:
    async def body(b: Bridge) -> None:
        assert await b.hub.ask(divmod, 17, 5) == (3, 2)

    run(body)


@pytest.mark.parametrize(
    ("raised", "arrives"),
    [
        pytest.param(ValueError("no"), ValueError, id="an error"),
        pytest.param(SystemExit(1), SystemExit, id="an exit"),
        pytest.param(StopIteration(3), RuntimeError, id="what no future can hold"),
        pytest.param(gevent.GreenletExit(), RuntimeError, id="a kill"),
    ],
)
def test_a_question_raises_what_its_function_raised(raised: BaseException, arrives: type[BaseException]) -> None:
    def fail() -> None:
        raise raised

    async def body(b: Bridge) -> None:
        with pytest.raises(arrives):
            await b.hub.ask(fail)

    run(body)


def test_questions_may_wait_without_holding_up_each_other() -> None:
    async def body(b: Bridge) -> None:
        opened = await b.hub.ask(gevent.event.Event)
        waiting = asyncio.create_task(b.hub.ask(opened.wait))
        await b.hub.ask(opened.set)
        assert await waiting is True

    run(body)


def test_a_cancelled_question_kills_its_greenlet() -> None:
    seen: list[str] = []

    def linger() -> None:
        try:
            seen.append("waits")
            gevent.sleep(60)
        except gevent.GreenletExit:
            seen.append("killed")
            raise

    async def body(b: Bridge) -> None:
        question = asyncio.create_task(b.hub.ask(linger))
        await until(lambda: seen)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await until(lambda: seen == ["waits", "killed"])

    run(body)


def test_calls_run_in_order_even_when_one_waits() -> None:
    seen: list[int] = []

    def note(number: int) -> None:
        if number % 7 == 0:
            gevent.sleep(0.001)
        seen.append(number)

    async def body(b: Bridge) -> None:
        for number in range(200):
            b.hub.call(note, number)
        await until(lambda: len(seen) == 200)

    run(body)
    assert seen == list(range(200))


def test_posts_arrive_in_order_on_the_loops_thread() -> None:
    seen: list[tuple[int, int]] = []

    async def body(b: Bridge) -> None:
        def shout() -> None:
            for number in range(5000):
                b.hub.post(lambda number=number: seen.append((number, threading.get_ident())))

        await b.hub.ask(shout)
        await until(lambda: len(seen) == 5000)

    run(body)
    assert seen == [(number, threading.get_ident()) for number in range(5000)]


def test_a_call_or_a_post_that_fails_is_told_and_the_next_still_runs() -> None:
    seen: list[str] = []

    def fail(where: str) -> None:
        raise ValueError(where)

    async def body(b: Bridge) -> None:
        b.hub.call(fail, "in the hub")
        b.hub.call(seen.append, "called")
        b.hub.call(b.hub.post, fail, "on the loop")
        b.hub.call(b.hub.post, seen.append, "posted")
        await until(lambda: len(seen) == 2)

    built = run(body, tells=True)
    assert sorted(seen) == ["called", "posted"]
    assert built.errors == ["ValueError('in the hub')", "ValueError('on the loop')"]


@pytest.mark.parametrize(
    "error", [pytest.param(ValueError("lost"), id="an error"), pytest.param(SystemExit(3), id="an exit")]
)
def test_what_fails_in_a_greenlet_of_nobody_is_told_and_the_hub_lives_on(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    async def body(b: Bridge) -> None:
        await b.hub.ask(gevent.spawn, fail)
        await until(lambda: b.told)
        assert await b.hub.ask(abs, -1) == 1

    assert run(body, tells=True).errors == [repr(error)]
    assert capfd.readouterr().err == ""


async def _give(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def _fail() -> None:
    raise ValueError("in the coroutine")


def test_a_greenlet_gets_what_its_coroutine_returned() -> None:
    async def body(b: Bridge) -> None:
        assert await b.hub.ask(lambda: b.hub.submit(_give, "result").wait()) == "result"

    run(body)


def test_a_greenlet_gets_what_its_coroutine_raised() -> None:
    async def body(b: Bridge) -> None:
        with pytest.raises(ValueError, match="in the coroutine"):
            await b.hub.ask(lambda: b.hub.submit(_fail).wait())

    run(body)


def test_a_cancelled_ticket_cancels_its_task() -> None:
    async def body(b: Bridge) -> None:
        def begin_and_cancel() -> str:
            ticket = b.hub.submit(asyncio.sleep, 60)
            ticket.cancel()
            try:
                ticket.wait()
            except asyncio.CancelledError:
                return "cancelled"
            return "ended"

        assert await b.hub.ask(begin_and_cancel) == "cancelled"

    run(body)


def test_a_task_may_outlive_the_greenlet_that_cancelled_it() -> None:
    ends: list[str] = []

    async def body(b: Bridge) -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await may_end.wait()
                ends.append("in order")

        def hold_on() -> None:
            ticket = b.hub.submit(hold)
            try:
                ticket.wait()
            except gevent.GreenletExit:
                ticket.cancel()
                raise

        greenlet = await b.hub.ask(gevent.spawn, hold_on)
        await begun.wait()
        await b.hub.ask(greenlet.kill)
        assert ends == []
        may_end.set()
        await until(lambda: ends)

    run(body)


def test_a_thousand_coroutines_at_once_lose_nothing() -> None:
    async def body(b: Bridge) -> None:
        def hold_all() -> list[object]:
            tickets = [b.hub.submit(_give, number) for number in range(1000)]
            waiting = [gevent.spawn(ticket.wait) for ticket in tickets]
            return [greenlet.get() for greenlet in waiting]

        for _ in range(5):
            assert await b.hub.ask(hold_all) == list(range(1000))

    run(body)


def test_stop_makes_the_calls_that_are_queued_and_delivers_their_posts() -> None:
    seen: list[int] = []

    async def body(b: Bridge) -> None:
        for number in range(100):
            b.hub.call(b.hub.post, seen.append, number)
        await b.hub.stop()
        assert seen == list(range(100))

    run(body)


def test_stop_answers_a_question_that_still_waits() -> None:
    async def body(b: Bridge) -> None:
        question = asyncio.create_task(b.hub.ask(gevent.sleep, 60))
        await b.hub.ask(abs, 1)
        await b.hub.stop()
        with pytest.raises(RuntimeError, match="question ended"):
            await question

    run(body)


def test_a_hub_that_was_stopped_refuses_work() -> None:
    async def body(b: Bridge) -> None:
        await b.hub.stop()
        with pytest.raises(RuntimeError, match="does not run"):
            b.hub.call(print)

    run(body)


def test_a_coroutine_that_was_given_up_and_then_fails_is_told() -> None:
    async def body(b: Bridge) -> None:
        async def fail_when_cancelled() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ValueError("given up") from None

        begun = await b.hub.ask(lambda: b.hub.submit(fail_when_cancelled))
        await until(lambda: begun.task is not None)
        await asyncio.sleep(0)
        await b.hub.ask(begun.cancel)
        await until(lambda: b.told)

    assert run(body, tells=True).errors == ["ValueError('given up')"]


def test_a_coroutine_that_fails_after_the_hub_has_stopped_is_told() -> None:
    async def body(b: Bridge) -> None:
        go = asyncio.Event()

        async def fail_late() -> None:
            await go.wait()
            raise ValueError("late")

        await b.hub.ask(lambda: b.hub.submit(fail_late))
        await b.hub.stop()
        go.set()
        await until(lambda: b.told)

    assert run(body, tells=True).errors == ["ValueError('late')"]


def test_the_thread_switch_interval_is_short_while_a_hub_lives_and_then_what_it_was() -> None:
    before = sys.getswitchinterval()

    async def body(b: Bridge) -> None:
        async with bridge():
            assert sys.getswitchinterval() == pytest.approx(0.0005)
        assert sys.getswitchinterval() == pytest.approx(0.0005)

    run(body)
    assert sys.getswitchinterval() == before


def test_two_hubs_beside_one_loop_do_not_mix() -> None:
    async def body(b: Bridge) -> None:
        async with bridge() as other:
            idents = await asyncio.gather(b.hub.ask(threading.get_ident), other.hub.ask(threading.get_ident))
        assert len({threading.get_ident(), *idents}) == 3

    run(body)
