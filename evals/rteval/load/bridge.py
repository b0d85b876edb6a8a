"""The way between the asyncio loop and a gevent hub that runs on a native thread of its own.

Nothing is monkey-patched: two schedulers share one process, and all that passes between their threads goes through two
queues, each with one wake-up for whatever has gathered in it. ``deque`` is the queue because both its ends are safe to
use from two threads; libev's ``async_`` and ``call_soon_threadsafe`` are the wake-ups because they are the one thing
that each loop allows another thread to do to it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

import gevent
from gevent.event import Event

__all__ = ["HubThread", "Ticket"]

T = TypeVar("T")

_SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread may keep the other one from running: with Python's 5 ms each wake-up of the loop would be late
by up to that much whenever the hub works."""

_STOP_S = 5.0


class HubThread:
    """A gevent hub on a native thread of its own beside a running asyncio loop.

    ``start``, ``ask``, ``call`` and ``stop`` belong to the asyncio loop; ``post``, ``submit`` and ``report`` to the
    hub. What fails where nobody waits for it reaches the loop's exception handler: it is a bug.
    """

    def __init__(self) -> None:
        self._open = False
        self._running = threading.Event()
        self._to_hub: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._to_loop: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._hub_woken = False
        self._loop_woken = False
        self._answers: set[asyncio.Future[Any]] = set()
        # A loop holds its tasks weakly; these must live until they are done.
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Start the thread; returns when its hub runs."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="rteval-hub", daemon=True)
        self._thread.start()
        # A millisecond, and nobody can be cancelled in it and leave a thread behind that is half there.
        if not self._running.wait(_STOP_S):
            raise RuntimeError("the hub's thread did not start")
        self._open = True
        _switch_interval.shorten()

    async def ask(self, function: Callable[..., T], *args: object) -> T:
        """Run ``function(*args)`` in a greenlet of its own; return its result or raise what it raised.

        Whoever is cancelled while waiting for the answer thereby kills the greenlet.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._answers.add(answer)
        self._hand_over(self._answer, answer, function, args)
        try:
            return await answer
        except asyncio.CancelledError:
            if self._open:
                self._hand_over(self._kill_question, answer)
            raise
        finally:
            self._answers.discard(answer)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run ``function(*args)`` in the hub without an answer; calls run one after the other, in order."""
        self._hand_over(self._queue_call, function, args)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Run ``function(*args)`` on the asyncio loop; posts run in order, with one wake-up for all that gathered."""
        self._to_loop.append((function, args))
        if not self._loop_woken:
            self._loop_woken = True
            # A loop that was closed before stop() has nobody left to tell.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_posts)

    def submit(self, coroutine_function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> Ticket[T]:
        """Run a coroutine as a task on the asyncio loop, for the calling greenlet to wait for."""
        ticket: Ticket[T] = Ticket(self)
        self.post(self._launch, ticket, coroutine_function, args)
        return ticket

    def report(self, message: str, error: BaseException) -> None:
        """In the hub: tell the loop's exception handler of a bug."""
        self.post(self._report, message, error)

    async def stop(self) -> None:
        """End the thread: what was called still runs, questions are killed, everything posted is delivered.

        The tasks of tickets are the loop's: they go on. All of it takes 8 s at most; a thread that hangs even then is
        left behind as a daemon, and the loop's exception handler is told.
        """
        if not self._open:
            return
        self._hand_over(self._begin_to_leave)
        self._open = False
        try:
            _, hangs = await asyncio.wait([self._ended], timeout=_STOP_S + 3)
        finally:
            _switch_interval.restore()
        if hangs:
            self._report("the hub's thread hangs and is left behind", None)
        else:
            self._thread.join()
        self._take_posts()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(RuntimeError("the hub was stopped before it had answered"))

    # -- on the asyncio loop

    def _hand_over(self, function: Callable[..., object], *args: object) -> None:
        if not self._open:
            raise RuntimeError("the hub does not run")
        self._to_hub.append((function, args))
        if not self._hub_woken:
            self._hub_woken = True
            self._wake.send()

    def _take_posts(self) -> None:
        # The flag goes down first: what is posted from here on brings a wake-up of its own.
        self._loop_woken = False
        for _ in range(len(self._to_loop)):
            function, args = self._to_loop.popleft()
            try:
                function(*args)
            except Exception as error:
                self._report(f"{function!r}, posted by the hub, failed", error)

    def _launch(
        self, ticket: Ticket[T], coroutine_function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]
    ) -> None:
        task = self._loop.create_task(coroutine_function(*args))
        ticket.task = task
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._finish(ticket, task))

    def _finish(self, ticket: Ticket[T], task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._open:
            self._hand_over(ticket.settle, None if error is not None else task.result(), error)
        if isinstance(error, Exception) and (ticket.given_up or not self._open):
            self._report("a coroutine failed that nobody waited for any more", error)

    def _settle(self, answer: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if isinstance(error, StopIteration | gevent.GreenletExit):
            # Neither may be raised in a coroutine: the one would end it as if it had returned, the other is no error.
            answer.set_exception(RuntimeError(f"the question ended with {error!r}"))
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type] # without an error it is what the function returned

    def _report(self, message: str, error: BaseException | None) -> None:
        self._loop.call_exception_handler({"message": message} | ({} if error is None else {"exception": error}))

    # -- in the hub's thread

    def _run(self) -> None:
        hub = gevent.get_hub()
        # gevent prints what fails in a greenlet, and throws a SystemExit into whatever its main greenlet just does.
        hub.print_exception = self._failed_in_hub  # type: ignore[method-assign]
        hub.handle_system_error = self._exit_in_hub  # type: ignore[method-assign]
        self._questions: dict[asyncio.Future[Any], gevent.Greenlet[..., None]] = {}
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._called, self._leaving = Event(), Event()
        self._wake = hub.loop.async_()
        self._wake.start(self._take_letters)
        caller = gevent.spawn(self._make_calls)
        self._running.set()
        self._leaving.wait()
        if self._calls:
            self.post(self._report, f"a call into the hub did not end; {len(self._calls)} behind it are lost", None)
        gevent.killall([caller, *self._questions.values()], timeout=2)
        self._wake.stop()
        self._wake.close()
        hub.destroy(destroy_loop=True)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _take_letters(self) -> None:
        self._hub_woken = False
        for _ in range(len(self._to_hub)):
            function, args = self._to_hub.popleft()
            function(*args)

    def _answer(self, answer: asyncio.Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._questions[answer] = gevent.spawn(self._run_question, answer, function, args)

    def _run_question(self, answer: asyncio.Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            result = function(*args)
        except BaseException as error:  # a SystemExit of Locust's too is an answer
            self.post(self._settle, answer, None, error)
        else:
            self.post(self._settle, answer, result, None)
        finally:
            del self._questions[answer]

    def _kill_question(self, answer: asyncio.Future[Any]) -> None:
        if (question := self._questions.get(answer)) is not None:
            question.kill(block=False)

    def _queue_call(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._calls.append((function, args))
        self._called.set()

    def _make_calls(self) -> None:
        while True:
            self._called.wait()
            self._called.clear()
            while self._calls:
                function, args = self._calls.popleft()
                try:
                    function(*args)
                except Exception as error:
                    self.post(self._report, f"{function!r}, called in the hub, failed", error)

    def _begin_to_leave(self) -> None:
        self._queue_call(self._leaving.set, ())
        # A call that waits for something that never comes holds up those behind it, but not the end.
        gevent.spawn_later(_STOP_S, self._leaving.set)

    def _failed_in_hub(
        self,
        context: object | None,
        t: type[BaseException] | None,
        v: BaseException | str | None,
        tb: TracebackType | None,
    ) -> None:
        error = v if isinstance(v, BaseException) else RuntimeError(f"{t}: {v}")
        self.post(self._report, f"{context!r} failed in the hub", error)

    def _exit_in_hub(
        self, type: type[BaseException], value: BaseException | None, tb: TracebackType | None = None
    ) -> None:
        if issubclass(type, SystemExit):  # the others were reported as failures already
            self.post(self._report, "something in the hub tried to end the process", value)


class Ticket(Generic[T]):
    """A coroutine that runs on the asyncio loop for a greenlet of the hub."""

    def __init__(self, bridge: HubThread) -> None:
        self.task: asyncio.Task[T] | None = None
        self.given_up = False
        self._bridge = bridge
        self._over = Event()
        self._result: T | None = None
        self._error: BaseException | None = None

    def wait(self) -> T:
        """Park the calling greenlet until the coroutine has ended; return its result or raise what it raised.

        Raises:
            asyncio.CancelledError: the task was cancelled.
        """
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value] # without an error it is what the coroutine returned

    def cancel(self) -> None:
        """Cancel the task; whether and when it ends by that is the coroutine's own choice.

        Nobody needs to wait any more: should it fail, the loop's exception handler is told.
        """
        self._bridge.post(self._cancel)

    def _cancel(self) -> None:
        self.given_up = True
        # Posts keep their order, so the task exists by now.
        if self.task is not None:
            self.task.cancel()

    def settle(self, result: T | None, error: BaseException | None) -> None:
        """The coroutine has ended; the bridge says so, in the hub."""
        self._result, self._error = result, error
        self._over.set()


class _SwitchInterval:
    """The process's thread switch interval: short while any hub thread lives, then what it was before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hubs = 0
        self._before = 0.0

    def shorten(self) -> None:
        with self._lock:
            if self._hubs == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _SWITCH_INTERVAL_S))
            self._hubs += 1

    def restore(self) -> None:
        with self._lock:
            self._hubs -= 1
            if self._hubs == 0:
                sys.setswitchinterval(self._before)


_switch_interval = _SwitchInterval()
