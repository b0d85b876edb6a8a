"""The engine of one process without Locust: sessions as tasks of the running asyncio loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from . import Hold
from .clocked import Clocked
from .dealing import Dealer, Grant
from .sessions import Ended, Sessions

__all__ = ["WORKER", "AsyncioEngine"]

WORKER = "w0"
"""The name of the only process of such a run."""

_UNBOUNDED = 1_000_000


class AsyncioEngine:
    """Deals to this process, and holds what is dealt.

    Args:
        dealer: says what is held, and when.
        hold: holds one session.
        begun: hears when the run begins, in ns.
        end_turns: tells every session of this process to end with the turn that it is in.
        over: called when the time of a timed run is over; nothing starts from then on.
    """

    def __init__(
        self,
        dealer: Dealer,
        hold: Hold,
        *,
        begun: Callable[[int], None] = lambda start_ns: None,
        end_turns: Callable[[], None] = lambda: None,
        over: Callable[[], None] = lambda: None,
    ) -> None:
        self._dealer = dealer
        self._begun = begun
        self._end_turns = end_turns
        self._over = over
        self._sessions = Sessions(hold, self._ended)
        self._clocked = Clocked(dealer, self._give, over=self._time_is_over, every_s=self.TICK_S, tick=self._tick)
        self._bugs: list[BaseException] = []
        self._cut_later: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Have every session held; see ``Engine``."""
        try:
            await self._open()
            start_ns = self._start_ns()
            self._dealer.begin(start_ns)
            self._begun(start_ns)
            await self._clocked.run()
            await self._sessions.wait()
        except asyncio.CancelledError:
            self.cut()
            await self._sessions.wait()
            raise
        finally:
            if self._cut_later is not None:
                self._cut_later.cancel()
            await self._close()
        for bug in self._bugs:
            raise bug

    def stop(self) -> None:
        """Start nothing any more; what runs may finish."""
        self._dealer.stop(time.perf_counter_ns())
        self._sessions.stop()
        self._clocked.changed()

    def drain(self, within_s: float) -> None:
        """No turn begins any more; sessions end with the turn they are in, and are cut after ``within_s``."""
        self.stop()
        self._end_turns()
        if self._cut_later is not None:
            self._cut_later.cancel()
        self._cut_later = asyncio.get_running_loop().call_later(within_s, self.cut)

    def cut(self) -> None:
        """End what runs: every session is cancelled and leaves its rows."""
        self.stop()
        self._sessions.cut()

    # ---- what Locust in the same process does otherwise ----

    TICK_S: float | None = None

    def _start_ns(self) -> int:
        """When the run begins: as soon as sessions can be held."""
        return time.perf_counter_ns()

    async def _open(self) -> None:
        self._dealer.capacity(WORKER, _UNBOUNDED)

    async def _close(self) -> None:
        pass

    def _tick(self) -> None:
        pass

    # ---- dealing ----

    def _give(self, worker: str, grant: Grant) -> None:
        self._sessions.start(grant)

    def _time_is_over(self) -> None:
        self._sessions.stop()
        self._over()

    def _ended(self, ended: Ended) -> None:
        if ended.bug is not None:
            self._bugs.append(ended.bug)
            self._dealer.session_done(ended.name)
            self.cut()
        elif ended.begun:
            self._dealer.session_done(ended.name, leftover=ended.leftover)
        else:
            self._dealer.returned(ended.name)
        self._clocked.changed()
