"""The system's fine timer as a file that becomes readable: Linux's timerfd; the only address of its calls."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

__all__ = ["KernelTimer"]

_NS = 1_000_000_000
_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1


def _libc() -> Any:
    # Elsewhere ``perf_counter`` is another clock, or the structure below another one.
    monotonic = "CLOCK_MONOTONIC" in time.get_clock_info("perf_counter").implementation
    if not sys.platform.startswith("linux") or not monotonic or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "timerfd_create") else None


_LIBC = _libc()


class KernelTimer:
    """A file whose descriptor, ``fd``, becomes readable at times of ``time.perf_counter_ns``.

    ``os.timerfd_create`` exists from Python 3.13 on; this is the same call (timerfd_create(2)).
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._times = (ctypes.c_long * 4)()

    @classmethod
    def create(cls) -> KernelTimer | None:
        """One that is not set; ``None`` where there is none, as on Windows and macOS."""
        if _LIBC is None:
            return None
        fd: int = _LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(fd) if fd >= 0 else None

    def set(self, at_ns: int, every_ns: int = 0) -> None:
        """Become readable at ``at_ns``, 0: never, and then regularly. What has expired before is forgotten."""
        times = self._times
        times[0], times[1] = divmod(every_ns, _NS)
        times[2], times[3] = divmod(at_ns, _NS)
        _LIBC.timerfd_settime(self.fd, _ABSOLUTE, times, None)

    def expired(self) -> int:
        """How often its time has come since it was asked last."""
        try:
            return int.from_bytes(os.read(self.fd, 8), sys.byteorder)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
