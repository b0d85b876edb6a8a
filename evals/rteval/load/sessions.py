"""The sessions of one process as tasks of its asyncio loop: each is started when it may start and heard to its end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..realtime.pacing import TIMER_GRAIN_S
from . import Hold
from .dealing import Grant

__all__ = ["Ended", "Sessions"]


class Ended(NamedTuple):
    """How a session ended.

    Attributes:
        name: of the session.
        begun: whether it was started; else it can be given back whole.
        leftover: how many of its last turns another session has to take over.
        bug: what was raised; a bug of ours, never a failure of the target.
    """

    name: str
    begun: bool = True
    leftover: int = 0
    bug: BaseException | None = None


class Sessions:
    """Holds what it is granted.

    Args:
        hold: holds one session.
        ended: hears of each session that was granted, once, in the loop.
    """

    def __init__(self, hold: Hold, ended: Callable[[Ended], None]) -> None:
        self._hold = hold
        self._ended = ended
        self._stopped = asyncio.Event()
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        self._unseated: deque[asyncio.Task[None]] = deque()
        self._seat = asyncio.Event()
        self._seats = 0

    def start(self, grant: Grant) -> None:
        """Hold a session, from its start time on.

        Raises:
            ValueError: it is held already.
        """
        if grant.name in self._tasks:
            raise ValueError(f"session {grant.name} is held already")
        self._none_left.clear()
        task = asyncio.create_task(self._run(grant), name=grant.name)
        self._tasks[grant.name] = task
        task.add_done_callback(lambda done: self._over(grant, done))
        if self._seats:
            self._unseated.append(task)
            self._seat.set()

    async def seat(self) -> None:
        """Stand by for one session after the other, as a Locust user does.

        A session does not depend on who stands by: when this is cancelled, the session goes on to its end. A bug that
        ends a session is told to ``ended``, and not here.
        """
        self._seats += 1
        try:
            while True:
                while not self._unseated:
                    self._seat.clear()
                    await self._seat.wait()
                await asyncio.wait([self._unseated.popleft()])
        finally:
            self._seats -= 1

    def stop(self) -> None:
        """Start nothing any more: what waits for its time is given back."""
        self._stopped.set()

    def cut(self) -> None:
        """End what runs now: every session is cancelled and leaves its rows. What waits for its time is given back."""
        self._stopped.set()
        for name in self._begun:
            self._tasks[name].cancel()

    async def wait(self) -> None:
        """Return when no session is left."""
        await self._none_left.wait()

    async def _run(self, grant: Grant) -> None:
        await self._until(grant.start_ns)
        if self._stopped.is_set():
            self._ended(Ended(grant.name, begun=False))
            return
        self._begun.add(grant.name)
        left = await self._hold(grant.name, grant.turns, grant.due_ns)
        self._ended(Ended(grant.name, leftover=len(left)))

    def _over(self, grant: Grant, task: asyncio.Task[None]) -> None:
        del self._tasks[grant.name]
        self._begun.discard(grant.name)
        if not self._tasks:
            self._none_left.set()
        if task.cancelled():
            self._ended(Ended(grant.name))
        elif (bug := task.exception()) is not None:
            self._ended(Ended(grant.name, bug=bug))

    async def _until(self, at_ns: int) -> None:
        # A loop that was busy counts from when it last looked at its clock, and so wakes early: hence again.
        while not self._stopped.is_set() and (left_ns := at_ns - time.perf_counter_ns()) > 0:
            try:
                async with asyncio.timeout(left_ns / 1e9 + TIMER_GRAIN_S):
                    await self._stopped.wait()
            except TimeoutError:
                pass
