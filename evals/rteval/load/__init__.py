"""When sessions start, and in what: the seam between the schedule and whatever runs the sessions.

An engine knows no protocol and a session knows no schedule. What an engine is given of a session is ``Hold``: a
coroutine function that holds one planned session and returns the turns that a further session has to take over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ..plan import PlannedTurn

__all__ = ["Engine", "Hold"]

Hold = Callable[[str, Sequence[PlannedTurn], int], Awaitable[Sequence[PlannedTurn]]]
"""(name of the session, its turns, when it was due in ns) -> turns left for another session: its last ones."""


class Engine(Protocol):
    """What has the sessions of a run held, wherever they are."""

    async def run(self) -> None:
        """Have every session held that the dealer deals; returns when the last one ended.

        An exception out of ``Hold`` is a bug of ours: it ends the run and is raised here.
        """
        ...

    def stop(self) -> None:
        """Start nothing any more; what runs may finish."""
        ...

    def drain(self, within_s: float) -> None:
        """No turn begins any more; sessions end with the turn they are in, and are cut after ``within_s``."""
        ...

    def cut(self) -> None:
        """End what runs: every session is cancelled and leaves its rows."""
        ...
