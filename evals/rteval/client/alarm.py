"""Wakes paced sessions at absolute times, to the millisecond."""

from __future__ import annotations

import asyncio
import time
import weakref
from heapq import heappop, heappush

from ..realtime.pacing import TIMER_GRAIN_S
from .kernel_timer import KernelTimer

__all__ = ["Alarm"]

_GRID_NS = 1_000_000


class Alarm:
    """One timer for all sessions of an event loop.

    The timers of uvloop count whole milliseconds of a clock that it reads once a round: they wake up to 0.8 ms too
    early and 1.9 ms too late. A ``timerfd`` of Linux wakes within 0.1 ms. What is due within the same millisecond is
    woken at its end, all together: to wake each by itself would cost more than to send its frame. Where there is no
    such timer, the loop's own does.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: KernelTimer | None = None
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._ticks: list[int] = []

    async def until(self, due_ns: int) -> None:
        """Wait until ``due_ns`` of ``time.perf_counter_ns``, never less and hardly ever a millisecond more."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._open(loop)
        if self._timer is None:
            await asyncio.sleep((due_ns - time.perf_counter_ns()) / 1e9 + TIMER_GRAIN_S)
            return
        tick = -(-due_ns // _GRID_NS)
        waiter = loop.create_future()
        waiting = self._waiting.get(tick)
        if waiting is not None:
            waiting.append(waiter)
        else:
            self._waiting[tick] = [waiter]
            heappush(self._ticks, tick)
            if self._ticks[0] == tick:
                self._timer.set(tick * _GRID_NS)
        await waiter

    def _ring(self) -> None:
        assert self._timer is not None
        now = time.perf_counter_ns() // _GRID_NS
        while self._ticks and self._ticks[0] <= now:
            for waiter in self._waiting.pop(heappop(self._ticks)):
                if not waiter.done():
                    waiter.set_result(None)
        # Setting it forgets what has expired, so nothing need be read.
        self._timer.set(self._ticks[0] * _GRID_NS if self._ticks else 0)

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._timer = loop, None
        self._waiting, self._ticks = {}, []
        timer = KernelTimer.create()
        if timer is None:
            return
        try:
            loop.add_reader(timer.fd, self._ring)
        except NotImplementedError:
            timer.close()
            return
        self._timer = timer
        weakref.finalize(self, timer.close)
