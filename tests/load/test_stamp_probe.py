"""How late the loop reads is measured by the kernel's clock, also over the time in which it read nothing."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from rteval.client import kernel_timer
from rteval.load.health import HealthMeter
from rteval.load.stamps import StampProbe
from rteval.records import HealthSample, kept_ranks

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has such a timer")

LOOPS = [pytest.param(None, id="asyncio's loop")]
if sys.platform != "win32":
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


def run(coroutine: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(coroutine)


class Heard(list[Any]):
    """What was reported, and a way to wait for more of it."""

    def __init__(self) -> None:
        self._more = asyncio.Event()

    def __call__(self, one: Any) -> None:
        self.append(one)
        self._more.set()

    async def until(self, n: int) -> None:
        async with asyncio.timeout(10):
            while len(self) < n:
                self._more.clear()
                await self._more.wait()


@linux_only
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_blocked_loop_would_have_stamped_late_what_came_meanwhile(loop_factory: Any) -> None:
    """Each probe of the time that was blocked counts by its own lateness, the first most."""
    lags = Heard()

    async def hold() -> None:
        with StampProbe(asyncio.get_running_loop(), lags):
            await lags.until(2)
            before = len(lags)
            time.sleep(0.3)  # noqa: ASYNC251 - what is measured
            await lags.until(before + 12)
            late = lags[before : before + 12]
            assert late[0] >= 200_000_000
            assert late == sorted(late, reverse=True)
            assert [high - low for high, low in pairwise(late)] == [23_000_000] * 11

    run(hold(), loop_factory)
    assert all(lag >= 0 for lag in lags)


@linux_only
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_the_probe_leaves_nothing_open(loop_factory: Any) -> None:
    lags = Heard()

    async def hold() -> None:
        before = os.listdir("/proc/self/fd")
        with StampProbe(asyncio.get_running_loop(), lags):
            await lags.until(1)
        assert os.listdir("/proc/self/fd") == before

    run(hold(), loop_factory)


def test_where_there_is_no_such_timer_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_timer, "_LIBC", None)
    lags: list[int] = []

    async def hold() -> None:
        with StampProbe(asyncio.get_running_loop(), lags.append):
            await asyncio.sleep(0)

    asyncio.run(hold())
    assert lags == []


def test_a_sample_keeps_no_more_of_very_many_frames_than_it_may() -> None:
    """In ascending order, the latest frame among them, and with the number of all."""
    samples: list[HealthSample] = []

    async def hold() -> None:
        meter = HealthMeter("w0", lambda: 7, samples.append)
        for lag_us in [*range(20_000), 900_000, *range(20_000)]:
            meter.send_lag(lag_us * 1000)
        meter.report()
        meter.send_lag(5000)
        meter.report()

    asyncio.run(hold())
    many, few = samples
    assert many.send_lag_n == 40_001
    assert many.send_lag_us == sorted(many.send_lag_us)
    assert len(many.send_lag_us) == len(kept_ranks(40_001))
    assert many.send_lag_us[-1] == 900_000
    assert (few.send_lag_us, few.send_lag_n, few.sessions_open) == ([5], 1, 7)


def test_a_share_of_cpu_over_no_time_is_not_measured() -> None:
    samples: list[HealthSample] = []
    meter = HealthMeter("w0", lambda: 0, samples.append)
    meter.report()
    assert samples[0].cpu_share is None


def test_the_meter_reports_by_the_second_until_it_is_cancelled() -> None:
    samples = Heard()

    async def hold() -> None:
        probe = asyncio.create_task(HealthMeter("w0", lambda: 0, samples).probe())
        await samples.until(1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe

    asyncio.run(hold())
    sample = samples[0]
    assert sample.cpu_share is not None
    assert sample.loop_lag_n == len(sample.loop_lag_us) >= 10
    assert bool(sample.stamp_lag_us) == sys.platform.startswith("linux")
