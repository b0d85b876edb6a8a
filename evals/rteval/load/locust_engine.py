"""The engine of one process under Locust: a user for each session, and Locust's web UI where it is asked for."""

from __future__ import annotations

import time
from typing import Protocol

from .dealing import AHEAD_NS
from .inline import WORKER, AsyncioEngine

__all__ = ["LocalUsers", "LocustEngine"]


class LocalUsers(Protocol):
    """Locust in this process, started; ``load.swarm.LocalSwarm`` is one. Its users are our slots."""

    def want(self, users: int) -> None:
        """There should be about so many users."""
        ...


class LocustEngine(AsyncioEngine):
    """Deals to the users of a Locust in this process.

    ``users`` has to be set before ``run``; it calls ``hold_slot`` for each of its users.
    """

    TICK_S = 0.25
    users: LocalUsers
    _slots = 0

    async def hold_slot(self) -> None:
        """The life of one Locust user: it stands by for one session after the other until Locust stops it."""
        self._slots += 1
        self._slots_changed()
        try:
            await self._sessions.seat()
        finally:
            self._slots -= 1
            self._slots_changed()

    def _slots_changed(self) -> None:
        self._dealer.capacity(WORKER, self._slots)
        self._clocked.changed()

    def _start_ns(self) -> int:
        return time.perf_counter_ns() + AHEAD_NS

    async def _open(self) -> None:
        self._tick()

    async def _close(self) -> None:
        self.users.want(0)

    def _tick(self) -> None:
        self.users.want(self._dealer.slots_wanted(time.perf_counter_ns()))
