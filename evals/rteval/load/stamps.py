"""How late the loop reads what the kernel has for it: as late as a frame would be stamped that arrived then.

The loop's own timers cannot tell: they wake by the millisecond. A timer of the kernel is a file like a socket, becomes
readable to the nanosecond without any help of this process, and waits to be read as long as a frame would.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["StampProbe"]

_EVERY_NS = 23_000_000
"""No divisor of a frame's length: the probes would meet the same moment of each session's pacing for ever."""

_MOST_AT_ONCE = 10_000

# Linux, timerfd_create(2).
_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_ABSOLUTE = 1


class StampProbe:
    """Probes a loop while it is entered; does nothing where there is no such timer (only Linux has it).

    Args:
        loop: the one to be probed; runs in this thread.
        lag: receives each lag in nanoseconds, in the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lag: Callable[[int], None]) -> None:
        self._loop = loop
        self._lag = lag
        self._fd: int | None = None
        self._due_ns = 0

    def __enter__(self) -> StampProbe:
        """Start the timer."""
        self._due_ns = time.perf_counter_ns() + _EVERY_NS
        self._fd = _kernel_timer(self._due_ns, _EVERY_NS)
        if self._fd is not None:
            self._loop.add_reader(self._fd, self._readable)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the timer."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _readable(self) -> None:
        now_ns = time.perf_counter_ns()
        assert self._fd is not None
        try:
            (expired,) = struct.unpack("Q", os.read(self._fd, 8))
        except BlockingIOError:
            return
        for number in range(expired):
            if number < _MOST_AT_ONCE:
                self._lag(max(0, now_ns - self._due_ns))
            self._due_ns += _EVERY_NS


def _kernel_timer(first_ns: int, every_ns: int) -> int | None:
    """A file that becomes readable at a time of the monotonic clock and then regularly; ``None``: there is none here.

    ``os.timerfd_create`` exists from Python 3.13 on; this is the same call.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        create, settime = libc.timerfd_create, libc.timerfd_settime
    except (OSError, AttributeError):
        return None
    fd: int = create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
    if fd < 0:
        return None
    times = (ctypes.c_long * 4)(*divmod(every_ns, 1_000_000_000), *divmod(first_ns, 1_000_000_000))
    if settime(fd, _ABSOLUTE, times, None) != 0:
        os.close(fd)
        return None
    return fd
