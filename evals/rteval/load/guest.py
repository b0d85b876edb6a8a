"""An asyncio loop as a guest of a gevent hub: for processes that gevent has patched, where the loop needs its thread.

In a patched process a loop on a thread of its own half works: threads that asyncio starts are greenlets of a hub that
nobody runs. Inside the hub's thread everything works, patched or not: the loop runs in one greenlet, and every few
milliseconds it lets the others have the thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import gevent
from gevent.event import Event

__all__ = ["GuestLoop", "GuestTicket"]

T = TypeVar("T")

_TURN_S = 0.005
"""How long the other greenlets wait for the thread at most, while the loop has nothing to do or is never done."""


class GuestLoop:
    """An asyncio loop in a greenlet of the hub that ``start`` is called in.

    All methods are called in greenlets of that hub; ``submit`` and ``stop`` not from the loop itself.

    Args:
        loop_factory: makes the loop; by default the kind that asyncio has for this system.
    """

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._loop_factory = loop_factory or asyncio.new_event_loop
        self._greenlet: gevent.Greenlet[..., None] | None = None
        self._loop_outside: asyncio.AbstractEventLoop | None = None
        # A loop holds its tasks weakly; these must live until they are done.
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Make the loop and run it from now on. Never before a fork: a child would share what the loop waits on."""
        self._loop = self._loop_factory()
        self._greenlet = gevent.spawn(self._run)

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> GuestTicket[T]:
        """Run ``function(*args)`` as a task of the loop, for the calling greenlet to wait for."""
        task = self._loop.create_task(function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return GuestTicket(task)

    def stop(self) -> None:
        """Cancel what still runs and end the loop; calling it twice is fine."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is None:
            return
        self._loop.call_soon(self._loop.stop)
        greenlet.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            loop = runner.get_loop()
            loop.call_soon(self._yield)
            # Not ``runner.run``: it would take SIGINT, which is the host's.
            loop.run_forever()

    def _yield(self) -> None:
        """Give every other greenlet that can run its turn, then have this called again."""
        hub = gevent.get_hub()
        # A thread has one running loop. Others may use asyncio too: each finds the one that it left.
        asyncio._set_running_loop(self._loop_outside)
        try:
            # gevent.sleep(0) would come back before what the hub has been told meanwhile is looked at.
            hub.wait(hub.loop.timer(0.0))
        finally:
            self._loop_outside = asyncio._get_running_loop()
            asyncio._set_running_loop(self._loop)
        self._loop.call_later(_TURN_S, self._yield)


class GuestTicket(Generic[T]):
    """A coroutine that runs on the loop for a greenlet of the same hub."""

    def __init__(self, task: asyncio.Task[T]) -> None:
        self._task = task
        self._over = Event()
        task.add_done_callback(lambda _: self._over.set())

    def wait(self) -> T | None:
        """Park the calling greenlet until the coroutine has ended; return its result or raise what it raised.

        ``None`` also means that it was cancelled. A greenlet that is killed while it waits cancels the coroutine.
        """
        try:
            self._over.wait()
        except BaseException:
            self._task.cancel()
            raise
        return None if self._task.cancelled() else self._task.result()
