"""Runs a dealer against the clock: deals what falls due, and wakes when something changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from .dealing import Dealer, Grant

__all__ = ["Clocked"]


class Clocked:
    """The dealing loop that every engine has.

    Args:
        dealer: says what is held where, and when.
        give: hands a session to a worker.
        over: called once when the time of a timed run is over; nothing is dealt from then on.
        every_s: how often ``tick`` is called, about; ``None``: never.
        tick: something else to be done in time.
    """

    def __init__(
        self,
        dealer: Dealer,
        give: Callable[[str, Grant], None],
        *,
        over: Callable[[], None],
        every_s: float | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._dealer = dealer
        self._give = give
        self._over = over
        self._every_ns = None if every_s is None else round(every_s * 1e9)
        self._tick = tick
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """A session ended, a slot came or went, or nothing is to be dealt any more."""
        self._changed.set()

    async def run(self) -> None:
        """Deal until nothing is under way and nothing is left to deal."""
        dealer = self._dealer
        told = False
        tick_ns = time.perf_counter_ns()
        while not dealer.finished:
            now_ns = time.perf_counter_ns()
            if not told and dealer.end_ns is not None and now_ns >= dealer.end_ns:
                told = True
                dealer.stop(now_ns)
                self._over()
                continue  # where nothing is under way there is nobody left who would wake us
            for worker, grant in dealer.deal(now_ns):
                self._give(worker, grant)
            if self._every_ns is not None and now_ns >= tick_ns:
                tick_ns = now_ns + self._every_ns
                self._tick()
            times = [dealer.next_ns(now_ns), tick_ns if self._every_ns is not None else None]
            await self._wait(min((at_ns for at_ns in times if at_ns is not None), default=None))

    async def _wait(self, until_ns: int | None) -> None:
        try:
            async with asyncio.timeout(
                None if until_ns is None else max(0.0, (until_ns - time.perf_counter_ns()) / 1e9)
            ):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()
