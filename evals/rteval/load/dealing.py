"""Which session is held by whom, and when it is due: every planned turn exactly once, whatever becomes of a worker.

Pure: time comes in as nanoseconds of the master's clock. An engine calls ``deal`` when something changed or
``next_ns`` has come, and tells what became of each session.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..plan import PlannedTurn, SessionPlan
from .schedule import Closed, Open, StartSpacing

__all__ = ["AHEAD_NS", "Dealer", "Grant", "Left", "Lost"]

_NS = 1_000_000_000
AHEAD_NS = 1_500_000_000
"""How long before it is due a session is dealt: longer than any message takes, so that its start is exact."""

_SLOTS_AHEAD_NS = AHEAD_NS + 2_000_000_000
"""How long before a session is dealt its slot should be asked for: Locust adds users once a second."""


class Grant(NamedTuple):
    """A session to be held.

    Attributes:
        name: unique in the run.
        turns: in order, at least one.
        due_ns: when the schedule wants it to start.
        start_ns: when it may start: later than due where connections are kept apart.
    """

    name: str
    turns: Sequence[PlannedTurn]
    due_ns: int
    start_ns: int


class Left(NamedTuple):
    """A session that nobody holds any more. ``due_ns`` is ``None`` where it never fell due."""

    name: str
    turns: Sequence[PlannedTurn]
    due_ns: int | None


class Lost(NamedTuple):
    """What was under way on a worker that went away.

    Attributes:
        name: of the session.
        turns: planned for it.
        due_ns: when it was due.
        done: how many of its turns had their rows.
        superseded: its rows do not count: a conversation cannot be taken up in the middle, so all of it is held again.
    """

    name: str
    turns: Sequence[PlannedTurn]
    due_ns: int
    done: int
    superseded: bool


@dataclass(frozen=True, slots=True)
class _Session:
    """A planned session, or (part 2 and on) what an earlier connection left of it."""

    plan_name: str
    turns: Sequence[PlannedTurn]
    part: int = 1
    due_ns: int | None = None

    @property
    def name(self) -> str:
        return self.plan_name if self.part == 1 else f"{self.plan_name}.{self.part}"

    def continued(self, turns: Sequence[PlannedTurn], due_ns: int | None = None) -> _Session:
        return _Session(self.plan_name, turns, self.part + 1, due_ns)


@dataclass(slots=True)
class _Lease:
    session: _Session
    worker: str
    due_ns: int
    done: set[int] = field(default_factory=set)


class Dealer:
    """Deals sessions to workers.

    Args:
        sessions: what is to be held, in order; may be without end when the schedule has one.
        schedule: when sessions are wanted.
        spacing: keeps connections apart.
        max_sessions: most sessions open at once in an open model; what is due beyond it waits.
        most: no more sessions than this are dealt in all, continuations among them.
    """

    def __init__(
        self,
        sessions: Iterator[SessionPlan],
        schedule: Closed | Open,
        *,
        spacing: StartSpacing,
        max_sessions: int | None = None,
        most: int | None = None,
    ) -> None:
        self._most = most
        self._dealt = 0
        self._dealt_ns = 0
        self._sessions = sessions
        self._schedule = schedule
        self._spacing = spacing
        self._max_sessions = max_sessions
        self._arrivals = schedule.times() if isinstance(schedule, Open) else None
        self._arrival_ns: int | None = None
        self._again: deque[_Session] = deque()
        self._next: _Session | None = None
        self._leases: dict[str, _Lease] = {}
        self._slots: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._start_ns: int | None = None
        self._stopped_ns: int | None = None
        self._most_slots = 0

    # ---- what is known ----

    @property
    def active(self) -> int:
        """Sessions that are dealt and have not ended."""
        return len(self._leases)

    @property
    def start_ns(self) -> int | None:
        """When the run began; ``None`` before ``begin``."""
        return self._start_ns

    @property
    def end_ns(self) -> int | None:
        """When a timed run is over; ``None`` in a run that goes on until everything is done."""
        if self._start_ns is None or self._schedule.duration_s is None:
            return None
        return self._start_ns + round(self._schedule.duration_s * _NS)

    @property
    def stopped(self) -> bool:
        """Whether nothing is dealt any more, whatever is left."""
        return self._stopped_ns is not None

    @property
    def finished(self) -> bool:
        """Nothing is under way and nothing will be dealt any more."""
        return not self._leases and (self.stopped or self._enough or not self._has_next())

    @property
    def _enough(self) -> bool:
        return self._most is not None and self._dealt >= self._most

    def held_back(self, now_ns: int) -> bool:
        """Whether sessions were not dealt only because ``most`` were."""
        return self._enough and not self._over(now_ns) and self._has_next()

    def holds(self, worker: str) -> int:
        """Sessions that are dealt to a worker and have not ended."""
        return self._held.get(worker, 0)

    def is_held_by(self, name: str, worker: str) -> bool:
        """Whether a session is dealt to this worker and has not ended."""
        lease = self._leases.get(name)
        return lease is not None and lease.worker == worker

    def wanted(self, now_ns: int) -> int:
        """Sessions that the schedule asks for at a time; in an open model, those that are under way."""
        if isinstance(self._schedule, Open):
            return len(self._leases)
        return 0 if self._start_ns is None or self.stopped else self._schedule.wanted(self._seconds(now_ns))

    def arrivals_per_s(self, now_ns: int) -> float | None:
        """Sessions a second that the schedule asks for at a time; ``None`` in a closed model."""
        if isinstance(self._schedule, Closed):
            return None
        return 0.0 if self._start_ns is None or self.stopped else self._schedule.rate(self._seconds(now_ns))

    def _seconds(self, at_ns: int) -> float:
        assert self._start_ns is not None
        return (at_ns - self._start_ns) / _NS

    def slots_wanted(self, now_ns: int) -> int:
        """Slots that should exist by now, so that none is missing when the next sessions fall due."""
        if self._start_ns is None or self.stopped:
            return 0
        now_s, soon_s = ((at_ns - self._start_ns) / _NS for at_ns in (now_ns, now_ns + _SLOTS_AHEAD_NS))
        if isinstance(self._schedule, Closed):
            return max(self._schedule.wanted(now_s), self._schedule.wanted(soon_s))
        # Arrivals may crowd: three standard deviations of a Poisson process more than expected, and never fewer again.
        expected = self._schedule.expected(soon_s) - self._schedule.expected(now_s)
        wanted = len(self._leases) + math.ceil(expected + 3 * math.sqrt(expected)) + 1
        self._most_slots = max(self._most_slots, min(wanted, self._max_sessions or wanted))
        return self._most_slots

    # ---- dealing ----

    def begin(self, now_ns: int) -> None:
        """The run starts now."""
        self._start_ns = now_ns

    def capacity(self, worker: str, slots: int) -> None:
        """A worker has so many slots now. What it holds beyond them ends in order."""
        self._slots[worker] = slots

    def resize(self, sessions: int, now_ns: int, per_s: float) -> None:
        """Another number of sessions is asked from now on, reached at so many a second; not in an open model."""
        if self._start_ns is None or not isinstance(self._schedule, Closed):
            return
        now_s = max(0.0, self._seconds(now_ns))
        before = self._schedule.wanted(now_s)
        resized = Closed(0, abs(sessions - before) / per_s, [(now_s, before), (math.inf, sessions)])
        resized.duration_s = self._schedule.duration_s
        self._schedule = resized

    def stop(self, now_ns: int) -> None:
        """Deal nothing any more: from now on nobody is expected."""
        if self._stopped_ns is None:
            self._stopped_ns = now_ns

    def deal(self, now_ns: int) -> Iterator[tuple[str, Grant]]:
        """The sessions that are due before long and have a slot, each with the worker that has the most free ones."""
        while (due_ns := self._due(now_ns)) is not None and self._spacing.earliest(due_ns) <= now_ns + AHEAD_NS:
            worker = self._freest()
            if worker is None:
                return
            if not self._again:
                self._arrival_ns = None
            session = self._take()
            start_ns = self._spacing.reserve(due_ns)
            if self._arrivals is None:
                due_ns = start_ns  # in a closed model nobody waits: a session is due when its place is free
            self._dealt += 1
            self._dealt_ns = now_ns
            self._leases[session.name] = _Lease(session, worker, due_ns)
            self._held[worker] = self._held.get(worker, 0) + 1
            yield worker, Grant(session.name, session.turns, due_ns, start_ns)

    def next_ns(self, now_ns: int) -> int | None:
        """When ``deal`` has something to do again, if nothing else happens; ``None``: only then."""
        if self.stopped or self._over(now_ns):
            return None
        due_ns = self._due(now_ns)
        if due_ns is None or self._freest() is None:
            return self.end_ns
        at_ns = max(now_ns, self._spacing.earliest(due_ns) - AHEAD_NS)
        return at_ns if self.end_ns is None else min(at_ns, self.end_ns)

    def _due(self, now_ns: int) -> int | None:
        """When the next session is due, not before now in a closed model; ``None``: there is none, or no room."""
        if self._start_ns is None or self.stopped or self._enough or self._over(now_ns) or not self._has_next():
            return None
        if self._arrivals is None:
            assert isinstance(self._schedule, Closed)
            at_s = self._schedule.next_wanted(len(self._leases), (now_ns - self._start_ns) / _NS)
            return None if at_s is None else max(now_ns, self._start_ns + round(at_s * _NS))
        if self._max_sessions is not None and len(self._leases) >= self._max_sessions:
            return None
        if self._again:
            waiting_ns = self._again[0].due_ns
            return now_ns if waiting_ns is None else waiting_ns
        return self._next_arrival()

    def _over(self, now_ns: int) -> bool:
        return self.end_ns is not None and now_ns >= self.end_ns

    def _next_arrival(self) -> int | None:
        assert self._arrivals is not None
        assert self._start_ns is not None
        if self._arrival_ns is None:
            at_s = next(self._arrivals, None)
            if at_s is None:
                return None
            self._arrival_ns = self._start_ns + round(at_s * _NS)
        return self._arrival_ns

    def _freest(self) -> str | None:
        free = {worker: slots - self._held.get(worker, 0) for worker, slots in self._slots.items()}
        worker = max(free, key=lambda name: free[name], default=None)
        return worker if worker is not None and free[worker] > 0 else None

    def _has_next(self) -> bool:
        if self._again or self._next is not None:
            return True
        plan = next(self._sessions, None)
        if plan is None:
            return False
        self._next = _Session(f"s{plan.index:05d}", plan.turns)
        return True

    def _take(self) -> _Session:
        if self._again:
            return self._again.popleft()
        assert self._next is not None
        session, self._next = self._next, None
        return session

    # ---- what became of it ----

    def turns_of(self, name: str) -> Sequence[PlannedTurn]:
        """The turns of a session that is under way."""
        return self._leases[name].session.turns

    def turn_done(self, name: str, position: int) -> bool:
        """A turn has its row. ``False``: it came twice, or nobody asked for it of this session (any more)."""
        lease = self._leases.get(name)
        if lease is None or position in lease.done or not 0 <= position < len(lease.session.turns):
            return False
        lease.done.add(position)
        return True

    def can_have_ended(self, name: str, leftover: int) -> bool:
        """Whether a session under way can have ended so, by the rows that came of it.

        What is left over are its last turns, none with a row, and one before them has one: so each session that takes
        over has less to do. In a run that asks for every turn, all others have their rows.
        """
        lease = self._leases[name]
        kept = len(lease.session.turns) - leftover
        if kept < 1 or any(position >= kept for position in lease.done):
            return False
        if self._schedule.duration_s is None:
            return len(lease.done) == kept
        return not leftover or bool(lease.done)

    def can_be_returned(self, name: str) -> bool:
        """Whether a session under way can be given back: nothing is dealt any more, and nothing of it has begun."""
        return self.stopped and not self._leases[name].done

    def session_done(self, name: str, *, leftover: int = 0) -> None:
        """A session ended. Its last ``leftover`` turns are taken over by another session."""
        session = self._release(name).session
        if leftover := min(leftover, len(session.turns)):
            self._again.appendleft(session.continued(session.turns[len(session.turns) - leftover :]))

    def returned(self, name: str) -> None:
        """A session was not started and is given back."""
        lease = self._release(name)
        self._dealt -= 1
        self._again.appendleft(replace(lease.session, due_ns=lease.due_ns))

    def worker_lost(self, worker: str) -> list[Lost]:
        """A worker went away: what it had not finished is for the others.

        Returns:
            What was under way there. Sessions that had not begun as far as anybody knows are among them.
        """
        self._slots.pop(worker, None)
        lost = []
        for name in [name for name, lease in self._leases.items() if lease.worker == worker]:
            lease = self._release(name)
            turns = lease.session.turns
            whole = turns[0].item.conversation_id is not None
            missing = [turn for position, turn in enumerate(turns) if whole or position not in lease.done]
            is_done = len(lease.done) == len(turns)
            if not is_done:
                self._again.append(lease.session.continued(missing, lease.due_ns))
            superseded = whole and bool(lease.done) and not is_done
            lost.append(Lost(name, turns, lease.due_ns, len(lease.done), superseded))
        return lost

    def _release(self, name: str) -> _Lease:
        lease = self._leases.pop(name)
        self._held[lease.worker] -= 1
        return lease

    def left(self, now_ns: int) -> list[Left]:
        """What was never held, once nothing is dealt any more.

        Of a run that should have done everything this is all the rest; of a timed one only what fell due and had no
        slot: nothing more of it was asked for.
        """
        is_timed = self._schedule.duration_s is not None
        until_ns = now_ns if self._stopped_ns is None else min(now_ns, self._stopped_ns)
        if self._enough:
            until_ns = min(until_ns, self._dealt_ns)
        found = []
        for session in self._again:
            fell_due = session.due_ns is not None and session.due_ns <= until_ns
            if fell_due or not is_timed:
                # Only in an open model is a session due though no place is free for it.
                due_ns = session.due_ns if fell_due and self._arrivals is not None else None
                found.append(Left(session.name, session.turns, due_ns))
        self._again.clear()
        if not is_timed:
            while self._has_next():
                found.append(self._left_next(self._arrived_ns(until_ns)))
            return found
        while (due_ns := self._arrived_ns(until_ns)) is not None and self._has_next():
            found.append(self._left_next(due_ns))
        return found

    def _left_next(self, due_ns: int | None) -> Left:
        session = self._take()
        return Left(session.name, session.turns, due_ns)

    def _arrived_ns(self, until_ns: int) -> int | None:
        """The due time of the next arrival up to a moment or to the end, each once."""
        if self._arrivals is None or self._start_ns is None:
            return None
        due_ns = self._next_arrival()
        if due_ns is None or due_ns > until_ns:
            return None
        self._arrival_ns = None
        return due_ns
