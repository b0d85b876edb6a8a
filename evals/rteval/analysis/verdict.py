"""The exit code and the state of a run, from how it ended and what its gates said. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from .judging import Verdict

__all__ = ["EXIT_MEANINGS", "End", "Facts", "RunState", "exit_code", "run_state"]

EXIT_MEANINGS = {
    0: "every gate holds",
    1: "a gate was missed, had nothing to measure, or the run is partial",
    2: "the command line, the scenario or the dataset is wrong",
    3: "the target refused us or could not be reached: no session became ready",
    4: "invalid: the generator was the bottleneck",
    5: "stopped by a limit of the scenario",
    70: "a bug in rteval",
    130: "stopped by SIGINT",
    143: "stopped by SIGTERM",
}


class End(StrEnum):
    """How a run came to its end."""

    FINISHED = "finished"
    SIGINT = "sigint"
    SIGTERM = "sigterm"
    LIMIT = "limit"
    REFUSED = "refused"
    ERROR = "error"
    """What the scenario needs went away: a recording of the dataset, room on the disk."""
    STOPPED = "stopped"
    """A person pressed Stop in the web UI."""
    WORKERS_LOST = "workers_lost"
    """The last worker went away, so that nothing was left to hold sessions."""
    BUG = "bug"
    KILLED = "killed"
    """It never said: the process was killed, or the machine went down."""


class RunState(StrEnum):
    """What ``run.json`` says of a run."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    INVALID = "invalid"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides the exit code.

    Attributes:
        end: how the run ended.
        ready: whether any session became ready; ``None`` when no session was recorded at all.
        invalid: whether the generator was the bottleneck.
        complete: whether there are turns at all, and every planned one has its row.
        verdicts: of the gates.
    """

    end: End
    ready: bool | None
    invalid: bool
    complete: bool
    verdicts: Collection[Verdict]

    @property
    def refused(self) -> bool:
        """Whether the target never let us in."""
        return self.end is End.REFUSED or self.ready is False


def exit_code(facts: Facts) -> int:
    """Return what the process ends with; the first rule that matches wins, and a partial run is never 0."""
    rules = (
        (70, facts.end is End.BUG),
        (130, facts.end is End.SIGINT),
        (143, facts.end is End.SIGTERM),
        (2, facts.end is End.ERROR),
        (3, facts.refused),
        (5, facts.end is End.LIMIT),
        (4, facts.invalid or facts.end is End.WORKERS_LOST),
        (1, any(verdict is not Verdict.PASS for verdict in facts.verdicts)),
        (1, facts.end in (End.KILLED, End.STOPPED) or not facts.complete),
    )
    return next((code for code, matches in rules if matches), 0)


def run_state(facts: Facts) -> RunState:
    """Return the state that goes with the exit code."""
    if facts.end in (End.BUG, End.SIGINT, End.SIGTERM, End.ERROR, End.WORKERS_LOST):
        return RunState.PARTIAL
    if facts.refused:
        return RunState.REFUSED
    if facts.end in (End.LIMIT, End.KILLED, End.STOPPED) or not facts.complete:
        return RunState.PARTIAL
    return RunState.INVALID if facts.invalid else RunState.COMPLETE
