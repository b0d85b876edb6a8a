"""How late the loop reads what the kernel has for it: as late as a frame would be stamped that arrived then.

The loop's own timers cannot tell: they wake by the millisecond. A timer of the kernel is a file like a socket, becomes
readable to the nanosecond without any help of this process, and waits to be read as long as a frame would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from ..client.kernel_timer import KernelTimer

__all__ = ["StampProbe"]

_EVERY_NS = 23_000_000
"""No divisor of a frame's length: the probes would meet the same moment of each session's pacing for ever."""

_MOST_AT_ONCE = 10_000


class StampProbe:
    """Probes a loop while it is entered; does nothing where there is no such timer (only Linux has it).

    Args:
        loop: the one to be probed; runs in this thread.
        lag: receives each lag in nanoseconds, in the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lag: Callable[[int], None]) -> None:
        self._loop = loop
        self._lag = lag
        self._timer: KernelTimer | None = None
        self._due_ns = 0

    def __enter__(self) -> StampProbe:
        """Start the timer."""
        self._due_ns = time.perf_counter_ns() + _EVERY_NS
        self._timer = KernelTimer.create()
        if self._timer is not None:
            self._timer.set(self._due_ns, _EVERY_NS)
            self._loop.add_reader(self._timer.fd, self._readable)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the timer."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fd)
            self._timer.close()
            self._timer = None

    def _readable(self) -> None:
        now_ns = time.perf_counter_ns()
        assert self._timer is not None
        for number in range(self._timer.expired()):
            if number < _MOST_AT_ONCE:
                self._lag(max(0, now_ns - self._due_ns))
            self._due_ns += _EVERY_NS
