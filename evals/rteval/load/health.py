"""Whether the generator keeps up, second by second: how late its loop wakes, reads and sends, and how busy it is."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ..realtime.pacing import TIMER_GRAIN_S
from ..records import HealthSample, kept_ranks
from .stamps import StampProbe

__all__ = ["HealthMeter"]

_PROBE_NS = 20_000_000
_REPORT_NS = 1_000_000_000

_LEAST_S = 0.2
"""A share of CPU over less than this says nothing."""


class HealthMeter:
    """Probes the running loop and collects the lags that sessions report.

    Args:
        worker: name of this process; ``records.MASTER`` where it holds no sessions.
        sessions_open: how many sessions are open right now.
        report: receives a sample about every second, with no more lags of a kind than ``records.kept_ranks`` says.
    """

    def __init__(self, worker: str, sessions_open: Callable[[], int], report: Callable[[HealthSample], None]) -> None:
        self._worker = worker
        self._sessions_open = sessions_open
        self._report = report
        self._clear()

    def _clear(self) -> None:
        # Typed arrays: a number in them is no object, so what waits for the report costs eight bytes each.
        self._loop_lag_us, self._send_lag_us, self._stamp_lag_us = array("q"), array("q"), array("q")
        self._since_ns, self._cpu_s = time.perf_counter_ns(), time.process_time()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Probe meanwhile; the last sample is handed over at the end."""
        probe = asyncio.create_task(self.probe(), name="health")
        try:
            yield
        finally:
            probe.cancel()
            self.report()

    def send_lag(self, lag_ns: int) -> None:
        """One paced frame was reached ``lag_ns`` after it was due."""
        self._send_lag_us.append(lag_ns // 1000)

    async def probe(self) -> None:
        """Wake on absolute deadlines and note how late; runs until cancelled."""
        with StampProbe(asyncio.get_running_loop(), self._stamp_lag):
            due_ns = time.perf_counter_ns()
            while True:
                due_ns += _PROBE_NS
                await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9 + TIMER_GRAIN_S))
                now_ns = time.perf_counter_ns()
                self._loop_lag_us.append(max(0, now_ns - due_ns) // 1000)
                # The probes that a blocked loop left out were late too. Without them a percentile would count a block
                # of a second as one sample among fifty a second, like a block of 20 ms.
                while due_ns + _PROBE_NS <= now_ns:
                    due_ns += _PROBE_NS
                    self._loop_lag_us.append((now_ns - due_ns) // 1000)
                if now_ns - self._since_ns >= _REPORT_NS:
                    self.report()

    def _stamp_lag(self, lag_ns: int) -> None:
        self._stamp_lag_us.append(lag_ns // 1000)

    def report(self) -> None:
        """Hand over what was collected since the last report."""
        now_ns, cpu_s = time.perf_counter_ns(), time.process_time()
        wall_s = (now_ns - self._since_ns) / 1e9
        self._report(
            HealthSample(
                worker=self._worker,
                at_ns=now_ns,
                loop_lag_us=_kept(self._loop_lag_us),
                send_lag_us=_kept(self._send_lag_us),
                stamp_lag_us=_kept(self._stamp_lag_us),
                loop_lag_n=len(self._loop_lag_us),
                send_lag_n=len(self._send_lag_us),
                cpu_share=(cpu_s - self._cpu_s) / wall_s if wall_s >= _LEAST_S else None,
                sessions_open=self._sessions_open(),
            )
        )
        self._clear()


def _kept(lags: array[int]) -> list[int]:
    """All of the lags, or those of too many that a sample keeps."""
    ranks = kept_ranks(len(lags))
    if len(ranks) == len(lags):
        return lags.tolist()
    kept: list[int] = np.sort(np.frombuffer(lags, dtype=np.int64))[ranks].tolist()
    return kept
