"""When sessions are wanted, as arithmetic over seconds from the start of a run: no clock, no task."""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..plan import spread_s

if TYPE_CHECKING:
    from ..plan import Plan
    from ..scenario_model import Load

__all__ = ["Closed", "Open", "Schedule", "StartSpacing", "schedule_of"]

_NS = 1_000_000_000


class _Change(NamedTuple):
    """From one number of sessions to another, a session at a time, the first of them at once."""

    start_s: float
    before: int
    after: int
    over_s: float

    def step_s(self, step: int) -> float:
        """When the session number ``step`` (from 0) of this change opens or closes."""
        return self.start_s + self.over_s * step / abs(self.after - self.before)

    def wanted(self, t_s: float) -> int:
        steps = abs(self.after - self.before)
        if not steps:
            return self.after
        done = steps
        if self.over_s > 0:
            # The division may be off by one in its last bit; what counts is when a step says that it is.
            done = min(int((t_s - self.start_s) / self.over_s * steps), steps - 1)
            done += self.step_s(done) <= t_s
            done += done < steps and self.step_s(done) <= t_s
        return self.before + (done if self.after > self.before else -done)


class Closed:
    """So many sessions at once: one that ends makes room for the next.

    Args:
        sessions: open at once; with ``stages`` they say it.
        ramp_s: seconds over which a change is spread evenly, the first session at once: number *k* of *n* opens at
            ``ramp_s * k / n``. ``None`` keeps starts 10 ms apart, 0 is all at once.
        stages: (seconds, sessions) each, held one after the other. The change at the beginning of a stage takes no
            longer than the stage. The end of the last one is the end of the run.
        duration_s: end of the run without stages; ``None`` is no end.
    """

    def __init__(
        self,
        sessions: int,
        ramp_s: float | None = None,
        stages: Sequence[tuple[float, int]] = (),
        duration_s: float | None = None,
    ) -> None:
        self._changes: list[_Change] = []
        start_s, before = 0.0, 0
        for length_s, after in stages or [(math.inf, sessions)]:
            over_s = min(spread_s(abs(after - before), ramp_s), length_s)
            self._changes.append(_Change(start_s, before, after, over_s))
            start_s, before = start_s + length_s, after
        self._starts = [change.start_s for change in self._changes]
        self.duration_s: float | None = start_s if stages else duration_s
        """Seconds until no session is wanted any more; ``None``: never."""

    @property
    def peak(self) -> int:
        """The most sessions that are ever wanted."""
        return max(change.after for change in self._changes)

    def wanted(self, t_s: float) -> int:
        """How many sessions should be open at a time; 0 before the start and from the end on."""
        if t_s < 0 or self._over(t_s):
            return 0
        return self._changes[bisect_right(self._starts, t_s) - 1].wanted(t_s)

    def next_wanted(self, active: int, now_s: float) -> float | None:
        """The earliest time from ``now_s`` on at which more than ``active`` sessions are wanted; ``None``: never."""
        now_s = max(now_s, 0.0)
        if self._over(now_s):
            return None
        if self.wanted(now_s) > active:
            return now_s
        for change in self._changes[bisect_right(self._starts, now_s) - 1 :]:
            if change.after > active:
                at_s = change.step_s(active - change.before)
                return None if self._over(at_s) else at_s
        return None

    def _over(self, t_s: float) -> bool:
        return self.duration_s is not None and t_s >= self.duration_s


class _Stretch(NamedTuple):
    """A stretch of a run over which the rate of arrivals changes evenly."""

    start_s: float
    length_s: float
    rate: float
    slope: float
    before: float
    """Arrivals expected before it."""

    @property
    def after(self) -> float:
        """Arrivals expected by its end."""
        return self.expected(self.start_s + self.length_s) if self.length_s < math.inf else math.inf

    def expected(self, t_s: float) -> float:
        within_s = t_s - self.start_s
        return self.before + (self.rate + self.slope * within_s / 2) * within_s

    def reached(self, arrivals: float) -> float:
        """When so many arrivals are expected: the smaller root of a quadratic, in the form without cancellation."""
        wanted = arrivals - self.before
        root = math.sqrt(max(0.0, self.rate * self.rate + 2 * self.slope * wanted))
        within_s = 2 * wanted / (self.rate + root) if wanted > 0 else 0.0
        return self.start_s + min(within_s, self.length_s)


class Open:
    """So many sessions a second, whether or not those before have ended.

    Args:
        rate_per_s: arrivals a second.
        process: ``constant``: evenly; ``poisson``: as callers who know nothing of each other.
        seed: of the Poisson process; the same seed gives the same times.
        ramp_s: seconds over which the rate grows from 0; ``None`` and 0: at once.
        stages: (seconds, rate) each: from where it is, the rate changes evenly to this. They begin after the ramp; the
            end of the last one is the end of the run.
        duration_s: end of the run without stages; ``None`` is no end.
    """

    def __init__(
        self,
        rate_per_s: float,
        process: Literal["constant", "poisson"] = "constant",
        seed: int = 0,
        ramp_s: float | None = None,
        stages: Sequence[tuple[float, float]] = (),
        duration_s: float | None = None,
    ) -> None:
        self._process = process
        self._seed = seed
        self._stretches: list[_Stretch] = []
        start_s = before = 0.0
        rate = 0.0 if ramp_s else rate_per_s
        corners = [*([(ramp_s, rate_per_s)] if ramp_s else []), *(stages or [(math.inf, rate_per_s)])]
        for length_s, after in corners:
            stretch = _Stretch(start_s, length_s, rate, (after - rate) / length_s, before)
            self._stretches.append(stretch)
            start_s, rate = start_s + length_s, after
            before = stretch.after
        self._starts = [stretch.start_s for stretch in self._stretches]
        self._ends_with = [stretch.after for stretch in self._stretches]
        self.duration_s: float | None = start_s if stages else duration_s
        """Seconds until no session is wanted any more; ``None``: never."""

    def times(self) -> Iterator[float]:
        """When sessions are due, ascending; without an end where the run has none.

        Number *k*, from 0, of a constant process is due when *k* arrivals are expected, so the first one at 0 and the
        next one a whole interval later. The steps of a Poisson process are exponential, and so is the first.
        """
        at_s = 0.0
        for arrivals in itertools.takewhile(lambda arrivals: arrivals <= self._ends_with[-1], self._arrivals()):
            stretch = self._stretches[bisect_left(self._ends_with, arrivals)]
            # Two arrivals that all but coincide may change places in the last bit.
            at_s = max(at_s, stretch.reached(arrivals))
            if self._over(at_s):
                return
            yield at_s

    def _arrivals(self) -> Iterator[float]:
        if self._process == "constant":
            yield from itertools.count()
        chance, arrivals = random.Random(self._seed), 0.0
        while True:
            arrivals -= math.log(1 - chance.random())
            yield arrivals

    def rate(self, t_s: float) -> float:
        """Arrivals a second at a time; 0 before the start and from the end on."""
        if t_s < 0 or self._over(t_s):
            return 0.0
        stretch = self._stretches[bisect_right(self._starts, t_s) - 1]
        return stretch.rate + stretch.slope * (t_s - stretch.start_s)

    def expected(self, t_s: float) -> float:
        """Arrivals expected by a time: the rate, integrated."""
        if self.duration_s is not None:
            t_s = min(t_s, self.duration_s)
        if t_s <= 0:
            return 0.0
        return self._stretches[bisect_right(self._starts, t_s) - 1].expected(t_s)

    def _over(self, t_s: float) -> bool:
        return self.duration_s is not None and t_s >= self.duration_s


Schedule = Closed | Open
"""When sessions are wanted."""


def schedule_of(load: Load, plan: Plan) -> Schedule:
    """The schedule that a scenario asks for.

    Where every item is run a fixed number of times, no more sessions are wanted at once than there are.
    """
    if load.arrivals is not None:
        arrivals = load.arrivals
        return Open(
            arrivals.rate_per_s,
            arrivals.process,
            arrivals.seed,
            load.ramp_s,
            arrivals.stages_per_s,
            load.duration_s,
        )
    stages = [(stage.duration_s, stage.sessions) for stage in load.stages]
    return Closed(plan.sessions_at_once, load.ramp_s, stages, load.duration_s)


class StartSpacing:
    """Keeps connections apart for targets that count them on short windows.

    Args:
        per_s: most connections in a second; ``None`` is no bound.
    """

    def __init__(self, per_s: float | None) -> None:
        self._gap_ns = 0 if per_s is None else round(_NS / per_s)
        self._free_ns: int | None = None

    def earliest(self, wanted_ns: int) -> int:
        """The earliest start at or after ``wanted_ns`` that keeps the distance."""
        return wanted_ns if self._free_ns is None else max(wanted_ns, self._free_ns)

    def reserve(self, wanted_ns: int) -> int:
        """The same; it is taken from then on."""
        start_ns = self.earliest(wanted_ns)
        self._free_ns = start_ns + self._gap_ns
        return start_ns
