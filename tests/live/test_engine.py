"""What starts the sessions loses none of them, and notices when it was late itself."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from typing import Any

import pytest

from rteval.corpus import Item
from rteval.load import LoadModel
from rteval.load.health import HealthMeter
from rteval.load.inline import AsyncioEngine
from rteval.plan import PlannedTurn, SessionPlan
from rteval.records import HealthSample

PLANS = [SessionPlan(index, (PlannedTurn(Item(id=f"i{index}", text="Hello?"), 1),)) for index in range(5)]


def test_a_bug_in_a_session_is_raised_and_what_did_not_start_is_left() -> None:
    unheard: list[dict[str, Any]] = []
    left: list[str] = []

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        raise ZeroDivisionError(name)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
        engine = AsyncioEngine()
        with pytest.raises(ZeroDivisionError):
            await engine.run(PLANS, hold, LoadModel(sessions=2))
        left.extend(name for name, _ in engine.left)
        del engine
        gc.collect()

    asyncio.run(run())
    assert left == ["s00002", "s00003", "s00004"]
    assert unheard == []


def test_what_was_handed_over_and_not_taken_is_left() -> None:
    engine = AsyncioEngine()

    async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        engine.stop()
        return turns

    asyncio.run(engine.run(PLANS[:2], hold, LoadModel(sessions=1)))
    assert [name for name, _ in engine.left] == ["s00000.2", "s00001"]


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
