"""The engine for the desk: sessions as tasks of the running asyncio loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..plan import PlannedTurn, SessionPlan, start_times
from ..realtime.pacing import TIMER_GRAIN_S
from . import Hold, LoadModel
from .schedule import StartSpacing

__all__ = ["AsyncioEngine"]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A session to be held: a planned one, or (part 2 and on) what an earlier connection left of it."""

    plan_name: str
    turns: Sequence[PlannedTurn]
    part: int = 1

    @property
    def name(self) -> str:
        return self.plan_name if self.part == 1 else f"{self.plan_name}.{self.part}"

    def continued(self, left: Sequence[PlannedTurn]) -> _Waiting:
        return _Waiting(self.plan_name, left, self.part + 1)


class AsyncioEngine:
    """Closed load: so many slots, each holding one planned session after the other until all are done."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._slots: list[asyncio.Task[None]] = []
        self._waiting: deque[_Waiting] = deque()

    async def run(self, plans: Sequence[SessionPlan], hold: Hold, model: LoadModel) -> None:
        """Hold every planned session exactly once, but for those that ``stop``, ``cut`` or a bug left unstarted."""
        self._waiting.extend(_Waiting(f"s{plan.index:05d}", plan.turns) for plan in plans)
        spacing = StartSpacing(model.connects_per_s)
        start_ns = time.perf_counter_ns()
        self._slots = [
            asyncio.create_task(self._slot(start_ns + round(start_s * 1e9), spacing, hold), name=f"slot-{slot}")
            for slot, start_s in enumerate(start_times(min(model.sessions, len(plans)), model.ramp_s))
        ]
        try:
            await asyncio.wait(self._slots, return_when=asyncio.FIRST_EXCEPTION)
            if self._bugs():
                self.cut()
                await asyncio.wait(self._slots)
        except asyncio.CancelledError:
            self.cut()
            await asyncio.wait(self._slots)
            raise
        # Every slot is asked, or asyncio would print the others' errors as never retrieved.
        for bug in self._bugs():
            raise bug

    def _bugs(self) -> list[BaseException]:
        ended = [task for task in self._slots if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]

    @property
    def left(self) -> Sequence[tuple[str, Sequence[PlannedTurn]]]:
        """Name and turns of every session that did not start."""
        return [(session.name, session.turns) for session in self._waiting]

    def stop(self) -> None:
        """Start nothing any more; what runs may finish."""
        self._stopped.set()

    def cut(self) -> None:
        """End what runs: every session is cancelled and leaves its rows."""
        self._stopped.set()
        for slot in self._slots:
            slot.cancel()

    async def _slot(self, due_ns: int, spacing: StartSpacing, hold: Hold) -> None:
        waiting = self._waiting
        while waiting and not self._stopped.is_set():
            start_ns = spacing.reserve(due_ns)
            await self._sleep_until(start_ns)
            if self._stopped.is_set() or not waiting:
                return
            session = waiting.popleft()
            left = await hold(session.name, session.turns, start_ns)
            if left:
                waiting.appendleft(session.continued(left))
            due_ns = time.perf_counter_ns()

    async def _sleep_until(self, at_ns: int) -> None:
        seconds = (at_ns - time.perf_counter_ns()) / 1e9
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds + TIMER_GRAIN_S):
                    await self._stopped.wait()
            except TimeoutError:
                pass
