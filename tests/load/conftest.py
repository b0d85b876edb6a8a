"""What tests of the load engine share: a loop as in a run, patience, and somebody who holds slots and listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

Patiently = Callable[[Callable[[], object]], Awaitable[None]]


@dataclass
class Rows:
    """Holds slots, and knows how each of them ended."""

    open: int = 0
    peak: int = 0
    begun: int = 0
    ended: int = 0
    cancelled: int = 0
    close: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold_slot(self) -> None:
        self.begun += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await self.close.wait()
            self.ended += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1


@dataclass
class Ear:
    """Hears what a master, a worker and a web UI say."""

    heard: list[tuple[Any, ...]] = field(default_factory=list)

    def joined(self, worker: str) -> None:
        self.heard.append(("joined", worker))

    def message(self, *what: Any) -> None:
        self.heard.append(("message", *what))

    def gone(self, worker: str, why: str) -> None:
        self.heard.append(("gone", worker, why))

    def master_lost(self) -> None:
        self.heard.append(("lost",))

    def ui_start(self, users: int | None, spawn_rate: float | None) -> None:
        self.heard.append(("start", users, spawn_rate))

    def ui_stop(self) -> None:
        self.heard.append(("stop",))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """What was heard of one kind, without its name."""
        return [what for name, *what in self.heard if name == kind]  # type: ignore[misc]


@dataclass
class Hall:
    """Makes the parts of a test, inside its loop."""

    told: list[str] = field(default_factory=list)

    def rows(self) -> Rows:
        return Rows()

    def ear(self) -> Ear:
        return Ear()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds; ``run`` bounds it."""
        while not condition():  # noqa: ASYNC110 - what is waited for is a field, not an event
            await asyncio.sleep(0.002)


@pytest.fixture
def in_hall() -> Callable[..., Hall]:
    """Runs a coroutine function of a hall on uvloop, as a run does; in 30 s, and without a bug that nobody expects."""

    def run(body: Callable[[Hall], Coroutine[Any, Any, None]], *, tells: bool = False) -> Hall:
        hall = Hall()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(
                lambda loop, context: hall.told.append(repr(context.get("exception", context["message"])))
            )
            async with asyncio.timeout(90):
                await body(hall)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        assert tells or hall.told == []
        return hall

    return run
