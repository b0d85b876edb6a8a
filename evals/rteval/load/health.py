"""Whether the generator itself keeps up: how late its loop wakes and its frames go out, second by second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..realtime.pacing import TIMER_GRAIN_S
from ..records import HealthSample

__all__ = ["HealthMeter"]

_PROBE_NS = 20_000_000
_REPORT_NS = 1_000_000_000


class HealthMeter:
    """Probes the running loop and collects the lags that sessions report.

    Args:
        worker: name of this process.
        sessions_open: how many sessions are open right now.
        report: receives a sample about every second.
    """

    def __init__(self, worker: str, sessions_open: Callable[[], int], report: Callable[[HealthSample], None]) -> None:
        self._worker = worker
        self._sessions_open = sessions_open
        self._report = report
        self._loop_lag_us: list[int] = []
        self._send_lag_us: list[int] = []
        self._since_ns = time.perf_counter_ns()
        self._cpu_s = time.process_time()

    def send_lag(self, lag_ns: int) -> None:
        """One paced frame was reached ``lag_ns`` after it was due."""
        self._send_lag_us.append(lag_ns // 1000)

    async def probe(self) -> None:
        """Wake on absolute deadlines and note how late; runs until cancelled."""
        due_ns = time.perf_counter_ns()
        while True:
            due_ns += _PROBE_NS
            await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9 + TIMER_GRAIN_S))
            now_ns = time.perf_counter_ns()
            self._loop_lag_us.append(max(0, now_ns - due_ns) // 1000)
            # The probes that a blocked loop left out were late too. Without them a percentile would count a block of a
            # second as one sample among fifty a second, like a block of 20 ms.
            while due_ns + _PROBE_NS <= now_ns:
                due_ns += _PROBE_NS
                self._loop_lag_us.append((now_ns - due_ns) // 1000)
            if now_ns - self._since_ns >= _REPORT_NS:
                self.report()

    def report(self) -> None:
        """Hand over what was collected since the last report."""
        now_ns, cpu_s = time.perf_counter_ns(), time.process_time()
        wall_s = (now_ns - self._since_ns) / 1e9
        self._report(
            HealthSample(
                worker=self._worker,
                at_ns=now_ns,
                loop_lag_us=self._loop_lag_us,
                send_lag_us=self._send_lag_us,
                cpu_share=(cpu_s - self._cpu_s) / wall_s if wall_s > 0 else None,
                sessions_open=self._sessions_open(),
            )
        )
        self._loop_lag_us, self._send_lag_us = [], []
        self._since_ns, self._cpu_s = now_ns, cpu_s
