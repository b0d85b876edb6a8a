"""Every planned turn is held exactly once, when it is due, whatever becomes of workers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.corpus import Item
from rteval.load.dealing import AHEAD_NS, Dealer, Grant, Left
from rteval.load.schedule import Closed, Open, StartSpacing
from rteval.plan import PlannedTurn, SessionPlan

S = 1_000_000_000


def plans(count, turns=1, *, conversation=False) -> Iterator[SessionPlan]:
    for index in range(count):
        items = [
            Item(id=f"i{index}-{turn}", text="?", conversation_id=str(index) if conversation else None)
            for turn in range(turns)
        ]
        yield SessionPlan(index, tuple(PlannedTurn(item, 1) for item in items))


def endless() -> Iterator[SessionPlan]:
    index = 0
    while True:
        yield SessionPlan(index, (PlannedTurn(Item(id="i", text="?"), index + 1),))
        index += 1


def dealer(sessions, schedule, *, per_s=None, slots=None, most=None):
    made = Dealer(sessions, schedule, spacing=StartSpacing(per_s), max_sessions=most)
    for worker, count in (slots or {"w": 1000}).items():
        made.capacity(worker, count)
    made.begin(0)
    return made


def dealt(made, now_ns) -> list[Grant]:
    return [grant for _, grant in made.deal(now_ns)]


def dues(grants):
    return [round(grant.due_ns / S, 3) for grant in grants]


# ---- when ----


def test_a_closed_run_holds_so_many_at_once_and_replaces_each_that_ends():
    made = dealer(plans(5), Closed(2, 0.0))
    assert dues(dealt(made, 0)) == [0, 0]
    assert dealt(made, 3 * S) == []
    made.session_done("s00000")
    assert [(grant.name, grant.due_ns) for grant in dealt(made, 3 * S)] == [("s00002", 3 * S)]
    assert not made.finished


def test_a_ramp_is_dealt_ahead_with_exact_times():
    made = dealer(plans(9), Closed(4, 4.0))
    assert dues(dealt(made, 0)) == [0, 1]
    assert made.next_ns(0) == 2 * S - AHEAD_NS
    assert dues(dealt(made, 2 * S - AHEAD_NS)) == [2]


def test_a_stage_with_fewer_sessions_deals_nothing_until_enough_have_ended():
    made = dealer(endless(), Closed(0, 0.0, [(10, 3), (10, 1)]))
    assert len(dealt(made, 0)) == 3
    assert dealt(made, 11 * S) == []
    for name in ("s00000", "s00001"):
        made.session_done(name)
    assert dealt(made, 12 * S) == []
    made.session_done("s00002")
    assert dues(dealt(made, 12 * S)) == [12]


def test_arrivals_are_due_whether_or_not_anybody_has_time():
    made = dealer(endless(), Open(1.0), most=2)
    assert dues(dealt(made, 0)) == [0, 1]
    assert dealt(made, 5 * S) == []
    made.session_done("s00000")
    assert dues(dealt(made, 5 * S)) == [2]


def test_the_distance_between_connections_moves_the_start_and_not_the_due_time_of_an_arrival():
    made = dealer(endless(), Open(2.0), per_s=1.0)
    grants = [grant for now_ns in range(0, 2 * S, S) for grant in dealt(made, now_ns)]
    assert [(grant.due_ns / S, grant.start_ns / S) for grant in grants] == [(0, 0), (0.5, 1), (1, 2)]


def test_in_a_closed_run_a_session_is_due_when_the_distance_allows_it():
    made = dealer(plans(3), Closed(3, 0.0), per_s=1.0)
    grants = [grant for now_ns in range(0, 2 * S, S) for grant in dealt(made, now_ns)]
    assert [(grant.due_ns / S, grant.start_ns / S) for grant in grants] == [(0, 0), (1, 1), (2, 2)]


def test_nothing_is_dealt_before_the_run_begins_nor_from_its_end_on():
    made = Dealer(endless(), Closed(1, 0.0, (), 5.0), spacing=StartSpacing(None))
    made.capacity("w", 1)
    assert dealt(made, 0) == []
    assert (made.wanted(0), made.slots_wanted(0), made.start_ns, made.end_ns) == (0, 0, None, None)
    made.begin(10 * S)
    assert (made.start_ns, made.end_ns) == (10 * S, 15 * S)
    assert dues(dealt(made, 9 * S)) == [10]
    made.session_done("s00000")
    assert made.wanted(12 * S) == 1
    assert made.arrivals_per_s(12 * S) is None
    assert made.next_ns(15 * S) is None
    assert dealt(made, 15 * S) == []
    made.stop(15 * S)
    assert made.finished
    assert made.wanted(12 * S) == 0


def test_without_a_free_slot_only_the_end_is_worth_waking_for():
    made = dealer(endless(), Closed(2, 0.0, (), 5.0), slots={"w": 1})
    assert len(dealt(made, 0)) == 1
    assert made.next_ns(S) == 5 * S


def test_another_number_of_sessions_can_be_asked_for():
    made = dealer(endless(), Closed(1, 0.0))
    assert len(dealt(made, 0)) == 1
    made.resize(3, S, 100.0)
    assert dues(dealt(made, S)) == [1, 1.01]
    arrivals = dealer(endless(), Open(1.0))
    arrivals.resize(3, S, 100.0)
    assert dues(dealt(arrivals, 0)) == [0, 1]


# ---- slots ----


def test_slots_are_asked_for_before_they_are_needed():
    made = dealer(endless(), Closed(0, 0.0, [(10, 3), (10, 8), (10, 2)]))
    assert made.slots_wanted(0) == 3
    assert made.slots_wanted(7 * S) == 8
    assert made.slots_wanted(19 * S) == 8
    assert made.slots_wanted(21 * S) == 2
    made.stop(22 * S)
    assert made.slots_wanted(0) == 0


def test_an_open_run_asks_for_as_many_slots_as_may_be_needed_and_never_for_more_than_it_may():
    made = dealer(endless(), Open(10.0), most=60, slots={"w": 60})
    first = made.slots_wanted(0)
    assert 35 < first <= 60
    for _ in range(50):
        dealt(made, 5 * S)
    assert made.slots_wanted(5 * S) == 60
    assert made.wanted(5 * S) == made.active == 60
    assert made.arrivals_per_s(5 * S) == 10.0
    made.stop(5 * S)
    assert made.arrivals_per_s(5 * S) == 0.0


def test_the_worker_with_most_free_slots_is_dealt_to():
    made = dealer(plans(6), Closed(6, 0.0), slots={"a": 1, "b": 4})
    assert [worker for worker, _ in made.deal(0)] == ["b", "b", "b", "a", "b"]
    assert (made.holds("a"), made.holds("b"), made.holds("c")) == (1, 4, 0)
    assert made.is_held_by("s00000", "b")
    assert not made.is_held_by("s00000", "a")
    assert not made.is_held_by("s00009", "a")
    made.capacity("c", 1)
    assert [worker for worker, _ in made.deal(0)] == ["c"]


# ---- what becomes of a session ----


def test_what_a_session_leaves_over_is_dealt_next_under_a_name_of_its_own():
    made = dealer(plans(2, turns=3), Closed(1, 0.0))
    (first,) = dealt(made, 0)
    assert made.turn_done(first.name, 0)
    made.session_done(first.name, leftover=2)
    (again,) = dealt(made, S)
    assert (again.name, [turn.item.id for turn in again.turns]) == ("s00000.2", ["i0-1", "i0-2"])


def test_what_was_given_back_keeps_its_name_and_its_due_time():
    made = dealer(plans(3), Open(1.0))
    first, _ = dealt(made, 0)
    made.returned(first.name)
    assert dealt(made, S)[0][:3] == first[:3]


def test_a_turn_is_done_once():
    made = dealer(plans(1, turns=2), Closed(1, 0.0))
    dealt(made, 0)
    done = [made.turn_done("s00000", position) for position in (0, 0, 1, 2, -1)]
    assert done == [True, False, True, False, False]
    assert not made.turn_done("s00001", 0)


@pytest.mark.parametrize(
    ("rows", "leftover", "exact", "timed"),
    [
        pytest.param((0, 1, 2), 0, True, True, id="all done"),
        pytest.param((0, 1), 0, False, True, id="one that never began"),
        pytest.param((), 0, False, True, id="none"),
        pytest.param((0, 1), 1, True, True, id="one left over"),
        pytest.param((1,), 1, False, True, id="one left over and one that never began"),
        pytest.param((), 2, False, False, id="left over, and nothing done"),
        pytest.param((), 3, False, False, id="everything left over"),
        pytest.param((0, 2), 1, False, False, id="left over, and done"),
        pytest.param((0, 1, 2), 9, False, False, id="more left over than there was"),
    ],
)
def test_a_session_ends_as_its_rows_say(rows, leftover, exact, timed):
    for duration_s, can in ((None, exact), (60.0, timed)):
        made = dealer(plans(1, turns=3), Closed(1, 0.0, (), duration_s))
        (grant,) = dealt(made, 0)
        assert made.turns_of(grant.name) == grant.turns
        for position in rows:
            made.turn_done(grant.name, position)
        assert made.can_have_ended(grant.name, leftover) is can


def test_a_session_is_given_back_only_when_nothing_is_dealt_any_more_and_nothing_of_it_was_done():
    made = dealer(plans(2), Closed(2, 0.0))
    first, second = dealt(made, 0)
    made.turn_done(first.name, 0)
    assert not made.can_be_returned(second.name)
    made.stop(S)
    assert made.can_be_returned(second.name)
    assert not made.can_be_returned(first.name)


def test_the_unfinished_turns_of_a_lost_worker_are_held_by_another():
    made = dealer(plans(2, turns=3), Closed(2, 0.0), slots={"a": 1, "b": 1})
    dealt(made, 0)
    lost_worker = "a" if made.is_held_by("s00000", "a") else "b"
    made.turn_done("s00000", 1)
    (lost,) = made.worker_lost(lost_worker)
    assert (lost.name, lost.done, lost.superseded) == ("s00000", 1, False)
    assert dealt(made, S) == []
    made.session_done("s00001")
    (again,) = dealt(made, S)
    assert (again.name, [turn.item.id for turn in again.turns]) == ("s00000.2", ["i0-0", "i0-2"])
    assert made.worker_lost(lost_worker) == []


def test_a_conversation_of_a_lost_worker_is_held_again_from_its_start():
    made = dealer(plans(1, turns=3, conversation=True), Closed(1, 0.0), slots={"a": 1})
    dealt(made, 0)
    made.turn_done("s00000", 0)
    (lost,) = made.worker_lost("a")
    assert lost.superseded
    made.capacity("b", 1)
    (again,) = dealt(made, S)
    assert [turn.item.id for turn in again.turns] == ["i0-0", "i0-1", "i0-2"]


@pytest.mark.parametrize("conversation", [False, True])
def test_a_session_whose_turns_were_all_done_is_not_held_again(conversation):
    made = dealer(plans(1, turns=2, conversation=conversation), Closed(1, 0.0), slots={"a": 1})
    dealt(made, 0)
    made.turn_done("s00000", 0)
    made.turn_done("s00000", 1)
    (lost,) = made.worker_lost("a")
    assert (lost.done, lost.superseded, made.finished) == (2, False, True)


def test_no_more_sessions_are_dealt_than_may_be():
    made = Dealer(plans(5), Closed(2, 0.0), spacing=StartSpacing(None), most=3)
    made.capacity("w", 9)
    made.begin(0)
    first, second = dealt(made, 0)
    made.returned(second.name)
    assert [grant.name for grant in dealt(made, 0)] == [second.name]
    made.session_done(first.name)
    assert len(dealt(made, 0)) == 1
    assert not made.finished
    for name in ("s00001", "s00002"):
        made.session_done(name)
    assert dealt(made, 0) == []
    assert made.finished
    assert made.held_back(0)
    assert [left.name for left in made.left(0)] == ["s00003", "s00004"]


# ---- what is left ----


def test_all_the_rest_of_an_exact_run_is_left():
    made = dealer(plans(4, turns=2), Closed(1, 0.0))
    (first,) = dealt(made, 0)
    made.session_done(first.name, leftover=1)
    made.stop(S)
    assert dealt(made, 0) == []
    left = made.left(S)
    assert [(name, len(turns), due_ns) for name, turns, due_ns in left] == [
        ("s00000.2", 1, None),
        ("s00001", 2, None),
        ("s00002", 2, None),
        ("s00003", 2, None),
    ]
    assert made.left(S) == []


def test_of_a_timed_closed_run_nothing_is_left():
    made = dealer(endless(), Closed(1, 0.0, (), 5.0))
    dealt(made, 0)
    made.stop(5 * S)
    assert made.left(5 * S) == []


def test_what_a_session_of_a_timed_closed_run_left_over_is_not_left():
    made = dealer(plans(4, turns=2), Closed(1, 0.0, (), 5.0))
    (first,) = dealt(made, 0)
    made.session_done(first.name, leftover=1)
    made.stop(5 * S)
    assert made.left(5 * S) == []


def test_of_two_moments_to_stop_the_first_counts():
    made = dealer(endless(), Open(1.0, duration_s=9.0), most=1)
    dealt(made, 0)
    made.stop(2 * S)
    made.stop(5 * S)
    assert [left.due_ns for left in made.left(20 * S)] == [S, 2 * S]


def test_of_a_timed_open_run_what_arrived_and_found_no_slot_is_left():
    made = dealer(endless(), Open(1.0, duration_s=5.0), most=1)
    dealt(made, 0)
    made.stop(5 * S)
    assert [(left.name, left.due_ns) for left in made.left(20 * S)] == [
        (f"s{index:05d}", index * S) for index in range(1, 5)
    ]


def test_of_an_exact_open_run_what_arrived_is_told_from_what_did_not():
    made = dealer(plans(5), Open(1.0), most=1)
    dealt(made, 0)
    made.stop(2 * S)
    assert [left.due_ns for left in made.left(2 * S)] == [S, 2 * S, None, None]


def test_arrivals_that_end_leave_the_rest():
    made = dealer(plans(5), Open(1.0, duration_s=2.0))
    assert len(dealt(made, 0)) == 2
    for name in ("s00000", "s00001"):
        made.session_done(name)
    assert dealt(made, S) == []
    made.stop(3 * S)
    assert made.left(3 * S) == []
    assert dealer(plans(1), Open(1.0)).left(-1) == [Left("s00000", next(plans(1)).turns, None)]


# ---- laws ----


@given(
    sessions=st.integers(0, 12),
    turns=st.integers(1, 3),
    conversation=st.booleans(),
    at_once=st.integers(1, 6),
    is_open=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_turn_is_done_exactly_once_whatever_happens(sessions, turns, conversation, at_once, is_open, seed):
    chance = random.Random(seed)
    schedule = Open(3.0, "poisson", seed) if is_open else Closed(at_once, chance.choice([None, 0.0, 5.0]))
    made = dealer(plans(sessions, turns, conversation=conversation), schedule, slots={"w0": 3}, most=at_once)
    done: dict[str, list[str]] = {}
    held: dict[str, tuple[str, Grant]] = {}
    workers, now_ns = 1, 0
    for _ in range(2000):
        if made.finished:
            break
        for worker, grant in made.deal(now_ns):
            assert grant.start_ns >= grant.due_ns
            held[grant.name] = (worker, grant)
        assert len(held) == made.active <= max(at_once, 3)
        if held and chance.random() < 0.1:
            worker = chance.choice(sorted({worker for worker, _ in held.values()}))
            for lost in made.worker_lost(worker):
                del held[lost.name]
                if lost.superseded:
                    del done[lost.name]
            made.capacity(f"w{workers}", 3)
            workers += 1
        elif held and chance.random() < 0.8:
            worker, grant = held.pop(chance.choice(sorted(held)))
            how = chance.random()
            if how < 0.1:
                made.returned(grant.name)
                continue
            leftover = chance.randrange(len(grant.turns)) if how < 0.3 and not conversation else 0
            for position, turn in enumerate(grant.turns[: len(grant.turns) - leftover]):
                assert made.turn_done(grant.name, position)
                done.setdefault(grant.name, []).append(turn.item.id)
            made.session_done(grant.name, leftover=leftover)
        elif held and chance.random() < 0.5:
            _, grant = held[chance.choice(sorted(held))]
            if made.turn_done(grant.name, 0):
                done.setdefault(grant.name, []).append(grant.turns[0].item.id)
                # An engine reports a turn once; the session's end then reports the others.
                made.worker_lost(held[grant.name][0])
                held = {name: pair for name, pair in held.items() if made.is_held_by(name, pair[0])}
                if conversation and len(grant.turns) > 1:
                    del done[grant.name]
                made.capacity(f"w{workers}", 3)
                workers += 1
        now_ns = max(now_ns + 1, made.next_ns(now_ns) or 0)
    assert made.finished
    counted = Counter(item for items in done.values() for item in items)
    assert counted == Counter(f"i{index}-{turn}" for index in range(sessions) for turn in range(turns))
