"""When sessions start, and in what: the seam between the schedule and whatever runs the sessions.

An engine knows no protocol and a session knows no schedule. What an engine is given of a session is ``Hold``: a
coroutine function that holds one planned session and returns the turns that a further session has to take over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..plan import PlannedTurn, SessionPlan

__all__ = ["Engine", "Hold", "LoadModel"]

Hold = Callable[[str, Sequence[PlannedTurn], int], Awaitable[Sequence[PlannedTurn]]]
"""(name of the session, its turns, when it was due in ns) -> turns left for another session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """How much at once, and how fast it grows.

    Attributes:
        sessions: open at once.
        ramp_s: time over which the first of them are started, evenly.
        connects_per_s: most connections opened in a second; ``None`` is no bound.
    """

    sessions: int = 1
    ramp_s: float = 0.0
    connects_per_s: float | None = None


class Engine(Protocol):
    """What starts the sessions of a run."""

    async def run(self, plans: Sequence[SessionPlan], hold: Hold, model: LoadModel) -> None:
        """Hold every planned session exactly once.

        An exception out of ``hold`` is a bug of ours: it ends the run and is raised here.
        """
        ...

    @property
    def left(self) -> Sequence[tuple[str, Sequence[PlannedTurn]]]:
        """Name and turns of every session that did not start, however ``run`` ended."""
        ...

    def stop(self) -> None:
        """Start nothing any more; what runs may finish."""
        ...

    def cut(self) -> None:
        """End what runs: every session is cancelled and leaves its rows."""
        ...
