"""What the parts of one session share: its clock and processes, its faults, its conversation, and its way out."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Generator
from dataclasses import dataclass

from ..corpus import Item
from .behaviour import Behaviour, Fault, FaultKind, find
from .conversation import Conversation
from .outlet import Outlet, make_id
from .world import World

__all__ = ["Process", "Scope", "Timers", "TurnFaults"]

Process = Generator[int | None, None, None]
"""Something that goes on over time: yields when (ns) it wants to go on, or ``None`` to wait until it is woken."""


class Timers:
    """Runs processes by a clock that others move.

    Attributes:
        now_ns: the present.
    """

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self._due: list[tuple[int, int, Process]] = []
        self._parked: list[Process] = []
        self._order = itertools.count()

    @property
    def due_ns(self) -> int | None:
        """When something is due next."""
        return self._due[0][0] if self._due else None

    def after(self, ms: float) -> int:
        """The moment so many milliseconds from now."""
        return self.now_ns + round(ms * 1e6)

    def start(self, process: Process) -> None:
        """Let a process begin when the present work is done."""
        heapq.heappush(self._due, (self.now_ns, next(self._order), process))

    def step(self, process: Process) -> None:
        """Let a process go on at once."""
        try:
            due_ns = next(process)
        except StopIteration:
            return
        if due_ns is None:
            self._parked.append(process)
        else:
            heapq.heappush(self._due, (due_ns, next(self._order), process))

    def wake(self) -> None:
        """Let every process that waits look whether what it waits for has come."""
        parked, self._parked = self._parked, []
        for process in parked:
            self.start(process)

    def run(self) -> None:
        """Do all that is due."""
        while self._due and self._due[0][0] <= self.now_ns:
            _, _, process = heapq.heappop(self._due)
            self.step(process)

    def clear(self) -> None:
        """Forget all processes."""
        self._due.clear()
        self._parked.clear()


class TurnFaults:
    """Which faults strike the turns of one session; a turn is what one response answers.

    Attributes:
        turn: turns whose response has begun.
    """

    def __init__(self, behaviour: Behaviour, session: int) -> None:
        self.turn = 0
        self._behaviour = behaviour
        self._session = session
        self._struck: set[tuple[int, str]] = set()

    def strike(self, *kinds: FaultKind) -> Fault | None:
        """The fault of one of the kinds that strikes the turn under way, the first time that it is asked for."""
        turn = self.turn + 1
        fault = find(self._behaviour.turn_faults(self._session, turn), *kinds)
        if fault is None or (turn, fault.kind) in self._struck:
            return None
        self._struck.add((turn, fault.kind))
        return fault

    def begin_response(self) -> tuple[Fault, ...]:
        """The faults of the response that begins now."""
        self.turn += 1
        return self._behaviour.turn_faults(self._session, self.turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One session's surroundings.

    Attributes:
        number: of the session, from 1 in the order they connected.
        session_id: as on the wire.
    """

    number: int
    session_id: str
    world: World
    outlet: Outlet
    timers: Timers
    faults: TurnFaults
    conversation: Conversation
    rng: random.Random

    def rng_for(self, use: str, item: Item | None) -> random.Random:
        """Random numbers for what is done about a dataset's item, or (``None``) about anything else in the session."""
        if item is None:
            return self.world.rng(f"{use} in session", str(self.number))
        return self.world.rng(use, item.id)

    def new_id(self, prefix: str) -> str:
        """A new id, e.g. of an item."""
        return make_id(prefix, self.rng)
