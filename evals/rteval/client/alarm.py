"""Wakes paced sessions at absolute times, to the millisecond; the only address of the system's fine timer."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
import weakref
from heapq import heappop, heappush
from typing import Any

from ..realtime.pacing import TIMER_GRAIN_S

__all__ = ["Alarm"]

_GRID_NS = 1_000_000
_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
# Elsewhere ``perf_counter`` is another clock, or the structure below another one.
_HAS_TIMER = (
    sys.platform == "linux"
    and ctypes.sizeof(ctypes.c_long) == 8
    and "CLOCK_MONOTONIC" in time.get_clock_info("perf_counter").implementation
)
_LIBC: Any = ctypes.CDLL(None) if _HAS_TIMER else None


class _Time(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """One timer for all sessions of an event loop.

    The timers of uvloop count whole milliseconds of a clock that it reads once a round: they wake up to 0.8 ms too
    early and 1.9 ms too late. A ``timerfd`` of Linux wakes within 0.1 ms. What is due within the same millisecond is
    woken at its end, all together: to wake each by itself would cost more than to send its frame. Where there is no
    such timer, the loop's own does.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._setting = _Setting()
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._ticks: list[int] = []

    async def until(self, due_ns: int) -> None:
        """Wait until ``due_ns`` of ``time.perf_counter_ns``, never less and hardly ever a millisecond more."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._open(loop)
        if self._fd < 0:
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
                self._set(tick)
        await waiter

    def _ring(self) -> None:
        now = time.perf_counter_ns() // _GRID_NS
        while self._ticks and self._ticks[0] <= now:
            for waiter in self._waiting.pop(heappop(self._ticks)):
                if not waiter.done():
                    waiter.set_result(None)
        self._set(self._ticks[0] if self._ticks else 0)

    def _set(self, tick: int) -> None:
        """Ring at ``tick`` and not before; 0 is never. What has rung is forgotten, so nothing need be read."""
        value = self._setting.value
        value.s, value.ns = divmod(tick * _GRID_NS, 1_000_000_000)
        _LIBC.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._setting), None)

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._fd = loop, -1
        self._waiting, self._ticks = {}, []
        fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC) if _HAS_TIMER else -1
        if fd < 0:
            return
        try:
            loop.add_reader(fd, self._ring)
        except NotImplementedError:
            os.close(fd)
            return
        self._fd = fd
        weakref.finalize(self, os.close, fd)
