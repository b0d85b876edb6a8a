"""What is left of a run that was stopped, and what a distance between connections does to what is dealt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from rteval.corpus import Item
from rteval.load.dealing import AHEAD_NS, Dealer, Grant
from rteval.load.schedule import Closed, Open, StartSpacing
from rteval.plan import PlannedTurn, SessionPlan

S = 1_000_000_000


def plans(count: int | None) -> Iterator[SessionPlan]:
    for index in itertools.count() if count is None else range(count):
        yield SessionPlan(index, (PlannedTurn(Item(id=f"i{index}", text="?"), 1),))


def dealer(sessions: Iterator[SessionPlan], schedule: Closed | Open, *, per_s: float | None = None, **more: Any) -> Any:
    made = Dealer(sessions, schedule, spacing=StartSpacing(per_s), **more)
    made.capacity("w", 1000)
    made.begin(0)
    return made


def dealt(made: Dealer, now_ns: int) -> list[Grant]:
    return [grant for _, grant in made.deal(now_ns)]


def test_a_session_that_was_given_back_before_its_time_never_fell_due() -> None:
    made = dealer(plans(3), Closed(3, 3.0))
    first, second = dealt(made, 0)
    made.stop(S // 2)
    made.returned(second.name)
    made.session_done(first.name)
    assert [(left.name, left.due_ns) for left in made.left(5 * S)] == [("s00001", None), ("s00002", None)]


def test_of_a_timed_closed_run_what_was_given_back_is_not_left() -> None:
    made = dealer(plans(None), Closed(3, 3.0, (), 60.0))
    first, second = dealt(made, 0)
    made.stop(S // 2)
    made.returned(second.name)
    made.session_done(first.name)
    assert made.left(5 * S) == []


@pytest.mark.parametrize("count", [pytest.param(20, id="exact"), pytest.param(None, id="timed")])
def test_who_would_have_come_after_a_stop_was_not_kept_waiting(count: int | None) -> None:
    schedule = Open(1.0) if count is not None else Open(1.0, duration_s=60.0)
    made = dealer(plans(count), schedule, max_sessions=1)
    (held,) = dealt(made, 0)
    made.stop(3 * S)
    made.session_done(held.name)
    assert [left.due_ns for left in made.left(13 * S) if left.due_ns is not None] == [S, 2 * S, 3 * S]


def test_an_arrival_that_was_dealt_ahead_and_given_back_was_not_due_before_the_stop() -> None:
    made = dealer(plans(None), Open(1.0, duration_s=60.0))
    first, second = dealt(made, 0)
    made.stop(S // 2)
    made.returned(second.name)
    made.session_done(first.name)
    assert made.left(5 * S) == []


def test_no_session_is_dealt_long_before_connections_allow_it_to_start() -> None:
    made = dealer(plans(9), Closed(9, 0.0), per_s=1.0)
    assert [grant.start_ns for grant in dealt(made, 0)] == [0, S]
    assert made.next_ns(0) == 2 * S - AHEAD_NS
    assert [grant.start_ns for grant in dealt(made, made.next_ns(0))] == [2 * S]


def test_a_stage_with_fewer_sessions_starts_none_that_still_had_to_wait_for_its_connection() -> None:
    made = dealer(plans(None), Closed(0, 0.0, [(10, 100), (60, 2)]), per_s=1.0)
    now_ns, starts = 0, []
    while now_ns < 12 * S:
        starts += [grant.start_ns for grant in dealt(made, now_ns)]
        now_ns += S // 10
    assert max(starts) < 10 * S + AHEAD_NS
    assert made.active <= 12


def test_who_waits_for_a_connection_takes_no_place_of_an_open_run() -> None:
    made = dealer(plans(None), Open(10.0), per_s=1.0, max_sessions=5)
    assert [grant.due_ns for grant in dealt(made, 0)] == [0, S // 10]
    for name in ("s00000", "s00001"):
        made.session_done(name)
    assert [(grant.due_ns, grant.start_ns) for grant in dealt(made, 2 * S)] == [(S // 5, 2 * S), (3 * S // 10, 3 * S)]


def test_more_sessions_that_are_asked_for_on_the_way_do_not_begin_in_a_burst() -> None:
    made = dealer(plans(None), Closed(1, 0.0, (), 60.0))
    assert len(dealt(made, 0)) == 1
    made.resize(5, 10 * S, 2.0)
    assert made.wanted(10 * S) == 2
    assert [grant.due_ns for grant in dealt(made, 10 * S)] == [10 * S, 10 * S + S // 2, 11 * S, 11 * S + S // 2]
    assert made.end_ns == 60 * S
    made.resize(1, 20 * S, 1.0)
    assert made.wanted(30 * S) == 1


def test_a_session_leaves_no_more_turns_than_it_had() -> None:
    made = dealer(plans(1), Closed(1, 0.0))
    (first,) = dealt(made, 0)
    made.session_done(first.name, leftover=7)
    (again,) = dealt(made, 0)
    assert len(again.turns) == 1


def test_who_would_have_come_after_the_last_session_that_may_be_was_not_kept_waiting() -> None:
    made = dealer(plans(20), Open(1.0), most=3)
    held = [grant for now_ns in range(0, 3 * S, S) for grant in dealt(made, now_ns)]
    assert len(held) == 3
    for grant in held:
        made.session_done(grant.name)
    assert {left.due_ns for left in made.left(13 * S)} == {None}
