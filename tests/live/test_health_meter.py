"""A generator that is late notices it."""

from __future__ import annotations

import asyncio
import time

from rteval.load.health import HealthMeter
from rteval.records import HealthSample


def test_a_blocked_loop_owes_every_probe_that_it_left_out() -> None:
    """A percentile over probes is one over time: else a block of 300 ms would weigh no more than one of 20 ms."""
    samples: list[HealthSample] = []

    async def run() -> int:
        meter = HealthMeter("w0", lambda: 0, samples.append)
        begun_ns = time.perf_counter_ns()
        probe = asyncio.create_task(meter.probe())
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - what is measured
        await asyncio.sleep(0.05)
        probe.cancel()
        meter.report()
        return time.perf_counter_ns() - begun_ns

    lasted_ns = asyncio.run(run())
    lags_us = [lag for sample in samples for lag in sample.loop_lag_us]
    assert sum(lag >= 100_000 for lag in lags_us) >= 9
    assert lasted_ns / 20_000_000 - 4 <= len(lags_us) <= lasted_ns / 20_000_000
