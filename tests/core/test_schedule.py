"""When sessions are wanted: so many at once, or so many in a second; and starts keep their distance."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.corpus import Dataset, Item
from rteval.load.schedule import Closed, Open, StartSpacing, schedule_of
from rteval.plan import plan
from rteval.scenario import Scenario

S = 1_000_000_000


def first(count, iterator):
    return list(itertools.islice(iterator, count))


# ---- so many at once ----

OPENINGS = [
    # schedule, when each further session opens while none ends
    pytest.param(Closed(4, 8.0), [0.0, 2.0, 4.0, 6.0], id="evenly over the ramp, the first at once"),
    pytest.param(Closed(1, 8.0), [0.0], id="one"),
    pytest.param(Closed(3, 0.0), [0.0, 0.0, 0.0], id="all at once, as asked"),
    pytest.param(Closed(3), [0.0, 0.01, 0.02], id="never a burst"),
    pytest.param(Closed(4, 8.0, duration_s=3.0), [0.0, 2.0], id="the run is over before the ramp"),
    pytest.param(Closed(9, 4.0, [(10, 2), (10, 4)]), [0.0, 2.0, 10.0, 12.0], id="stages"),
    pytest.param(Closed(9, 4.0, [(2, 2), (10, 4)]), [0.0, 1.0, 2.0, 4.0], id="a stage shorter than the ramp"),
    pytest.param(Closed(9, None, [(1, 2), (1, 3)]), [0.0, 0.01, 1.0], id="stages without a burst"),
    pytest.param(Closed(9, 0.0, [(1, 2), (1, 0), (1, 3)]), [0.0, 0.0, 2.0], id="a pause"),
    pytest.param(Closed(9, 0.0, [(1, 0)]), [], id="nobody"),
]


@pytest.mark.parametrize(("schedule", "openings"), OPENINGS)
def test_sessions_open_when_the_schedule_says(schedule, openings):
    found = itertools.takewhile(lambda at_s: at_s is not None, (schedule.next_wanted(n, 0.0) for n in range(20)))
    assert list(found) == pytest.approx(openings)
    assert schedule.peak >= len(openings)


@pytest.mark.parametrize(
    ("t_s", "sessions"),
    [
        (-1.0, 0),
        (0.0, 1),
        (1.0, 2),
        (3.9, 4),
        (9.9, 4),
        (10.0, 3),
        (12.0, 2),
        (19.0, 2),
        (20.0, 3),
        (29.9, 5),
        (30.0, 0),
    ],
)
def test_stages_hold_their_sessions_and_change_over_the_ramp(t_s, sessions):
    assert Closed(1, 4.0, [(10, 4), (10, 2), (10, 5)]).wanted(t_s) == sessions


def test_a_session_that_ends_makes_room_at_once():
    schedule = Closed(4, 8.0, duration_s=60.0)
    assert schedule.next_wanted(3, 30.0) == 30.0
    assert schedule.next_wanted(4, 30.0) is None
    assert schedule.next_wanted(0, 60.0) is None
    assert Closed(4, 8.0).next_wanted(3, 1e9) == 1e9


def test_the_peak_is_the_highest_stage():
    assert Closed(9, 1.0, [(1, 2), (1, 7), (1, 3)]).peak == 7
    assert Closed(9, 1.0).peak == 9


STAGES = st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50)), min_size=1, max_size=5)
RAMPS = st.none() | st.just(0.0) | st.floats(0.001, 200)


@given(
    st.builds(Closed, st.integers(1, 50), RAMPS, st.just([]) | STAGES, st.none() | st.floats(0.01, 300)),
    st.integers(0, 60),
    st.floats(-1, 400),
)
def test_the_next_session_is_wanted_at_the_earliest_time_that_wants_more(schedule, active, now_s):
    at_s = schedule.next_wanted(active, now_s)
    if at_s is None:
        assert not any(schedule.wanted(now_s + step * 4.0) > active for step in range(100))
        return
    assert schedule.wanted(at_s) > active
    assert at_s >= now_s
    before = [at_s - (at_s - max(now_s, 0.0)) * share for share in (1e-9, 0.1, 0.5, 1.0)]
    assert at_s == max(now_s, 0.0) or all(schedule.wanted(t_s) <= active for t_s in before if t_s < at_s)
    assert schedule.wanted(at_s) <= schedule.peak


@given(st.integers(1, 200), st.floats(0.001, 100))
def test_a_session_of_a_ramp_is_wanted_from_its_own_time_on(sessions, ramp_s):
    schedule = Closed(sessions, ramp_s)
    for slot in range(sessions):
        at_s = ramp_s * slot / sessions
        assert schedule.wanted(at_s) > slot
        assert schedule.wanted(math.nextafter(at_s, -1)) <= slot


# ---- so many in a second ----

ARRIVALS = [
    pytest.param(Open(2.0, duration_s=2.0), [0.0, 0.5, 1.0, 1.5], id="constant: the first at once"),
    pytest.param(Open(1 / 60, duration_s=180.0), [0.0, 60.0, 120.0], id="one a minute"),
    # 1/4 t^2 sessions have come by t in the ramp, and 4 + 2 (t - 4) after it.
    pytest.param(Open(2.0, ramp_s=4.0, duration_s=5.5), [0, 2, math.sqrt(8), math.sqrt(12), 4, 4.5, 5], id="ramp"),
    pytest.param(Open(2.0, stages=[(2.0, 0.0)]), [0.0, 2 - math.sqrt(2)], id="down to nobody"),
    pytest.param(Open(2.0, stages=[(1.5, 0.0)]), [0.0, 1.5 - math.sqrt(0.75)], id="half a session is none"),
    pytest.param(Open(1.0, stages=[(2.0, 1.0), (2.0, 1.0)]), [0.0, 1.0, 2.0, 3.0], id="stages without a change"),
    pytest.param(Open(1.0, stages=[(1.0, 0.0), (9.0, 0.0), (1.0, 1.0), (2.0, 1.0)]), [0.0, 11.0, 12.0], id="a pause"),
    pytest.param(Open(1.0, ramp_s=2.0, stages=[(2.0, 1.0)]), [0.0, 2.0, 3.0], id="stages come after the ramp"),
]


@pytest.mark.parametrize(("schedule", "times"), ARRIVALS)
def test_sessions_come_when_so_many_are_expected(schedule, times):
    assert list(schedule.times()) == pytest.approx(times)


def test_without_an_end_they_go_on():
    assert first(3, Open(10.0).times()) == pytest.approx([0.0, 0.1, 0.2])
    assert Open(10.0).duration_s is None
    assert Open(10.0, ramp_s=2.0).expected(3.0) == pytest.approx(20.0)
    assert len(first(1000, Open(10.0, "poisson").times())) == 1000


def test_the_rate_changes_evenly():
    schedule = Open(4.0, ramp_s=2.0, stages=[(2.0, 8.0), (4.0, 0.0)])
    assert schedule.duration_s == 8.0
    assert [schedule.rate(t_s) for t_s in (-1, 0, 1, 2, 3, 4, 5, 7, 8)] == pytest.approx([0, 0, 2, 4, 6, 8, 6, 2, 0])
    found = [schedule.expected(t_s) for t_s in (-1, 0, 1, 2, 4, 8, 9)]
    assert found == pytest.approx([0, 0, 1, 4, 16, 32, 32])


def test_callers_of_a_poisson_process_come_at_random_and_the_same_again():
    made = [list(Open(10.0, "poisson", seed, duration_s=1000.0).times()) for seed in (7, 7, 8)]
    assert made[0] == made[1] != made[2]
    gaps = [later - earlier for earlier, later in itertools.pairwise(made[0])]
    # Mean and standard deviation of an exponential distribution are the same; 10 000 of them come near both.
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.1, rel=0.05)
    assert deviation == pytest.approx(mean, rel=0.05)


RATES = st.lists(st.tuples(st.floats(0.1, 50), st.sampled_from([0.0]) | st.floats(0.01, 20)), min_size=1, max_size=4)
OPEN = st.builds(
    Open,
    st.floats(0.01, 20),
    st.sampled_from(["constant", "poisson"]),
    st.integers(0, 2**32 - 1),
    st.none() | st.just(0.0) | st.floats(0.1, 50),
    RATES,
)


@given(OPEN)
def test_arrivals_ascend_and_end_with_the_run(schedule):
    times = list(schedule.times())
    assert times == sorted(times)
    assert all(0 <= at_s < schedule.duration_s for at_s in times)


@given(st.builds(Open, st.floats(0.01, 20), ramp_s=st.none() | st.floats(0.1, 50), stages=RATES))
def test_a_constant_process_is_never_one_session_away_from_what_is_expected(schedule):
    times = list(schedule.times())
    assert [schedule.expected(at_s) for at_s in times] == pytest.approx(range(len(times)), abs=1e-6)
    assert len(times) - 1 - 1e-6 <= schedule.expected(schedule.duration_s) <= len(times) + 1e-6


@given(OPEN, st.floats(0, 1), st.floats(0, 1))
def test_what_is_expected_is_the_rate_integrated(schedule, one, other):
    from_s, until_s = sorted([one * schedule.duration_s, other * schedule.duration_s])
    steps = 4000
    width_s = (until_s - from_s) / steps
    summed = sum(schedule.rate(from_s + (step + 0.5) * width_s) for step in range(steps)) * width_s
    assert schedule.expected(until_s) - schedule.expected(from_s) == pytest.approx(summed, rel=1e-2, abs=0.1)


# ---- from a scenario ----


def made(load, items=10):
    scenario = Scenario.model_validate({"name": "a", "target": {"provider": "simulator"}, "dataset": "d", "load": load})
    dataset = Dataset(Path("d"), tuple(Item(str(index), text="Hello") for index in range(items)), "hash")
    planned = plan(scenario, dataset)
    return planned, schedule_of(scenario.load, planned)


def test_no_more_sessions_are_wanted_than_there_are():
    assert made({"sessions": 20, "ramp_s": 8.0}, items=4)[1].next_wanted(3, 0.0) == 6.0
    assert made({"sessions": 20, "duration_s": 60.0}, items=4)[1].peak == 20


def test_rates_may_be_by_the_minute_and_by_the_hour():
    _, schedule = made({"arrivals": {"rate": 120, "per": "minute", "stages": [{"duration_s": 60, "rate": 240}]}})
    assert (schedule.rate(0.0), schedule.expected(60.0)) == pytest.approx((2.0, 180.0))
    assert made({"arrivals": {"rate": 7200, "per": "hour"}})[1].rate(5.0) == pytest.approx(2.0)


LOADS = st.one_of(
    st.fixed_dictionaries(
        {"sessions": st.integers(1, 30), "duration_s": st.floats(1, 300)}, optional={"ramp_s": RAMPS}
    ),
    st.fixed_dictionaries(
        {
            "stages": st.lists(
                st.fixed_dictionaries({"duration_s": st.floats(0.1, 100), "sessions": st.integers(0, 30)}),
                min_size=1,
                max_size=4,
            )
        },
        optional={"ramp_s": RAMPS},
    ),
)


def value_at(points, t_s):
    """Of a curve given by its corners; at a jump, both values."""
    for (left_s, left), (right_s, right) in itertools.pairwise(points):
        if left_s <= t_s < right_s:
            return left + (right - left) * (t_s - left_s) / (right_s - left_s)
    return points[-1][1]


@given(LOADS, st.floats(0, 0.999))
def test_the_curve_of_a_closed_plan_is_what_the_schedule_wants(load, share):
    planned, schedule = made(load)
    t_s = share * schedule.duration_s
    assert abs(value_at(planned.asked, t_s) - schedule.wanted(t_s)) <= 1 + 1e-6


@given(
    st.fixed_dictionaries(
        {"arrivals": st.fixed_dictionaries({"rate": st.floats(0.1, 20)}), "duration_s": st.floats(1, 300)},
        optional={"ramp_s": RAMPS},
    )
    | st.fixed_dictionaries(
        {
            "arrivals": st.fixed_dictionaries(
                {
                    "rate": st.floats(0.1, 20),
                    "stages": st.lists(
                        st.fixed_dictionaries({"duration_s": st.floats(0.1, 100), "rate": st.floats(0, 20)}),
                        min_size=1,
                        max_size=4,
                    ),
                }
            )
        },
        optional={"ramp_s": RAMPS},
    ),
    st.floats(0, 0.999),
)
def test_the_curve_of_an_open_plan_is_the_rate_of_the_schedule(load, share):
    planned, schedule = made(load)
    t_s = share * schedule.duration_s
    assert value_at(planned.asked, t_s) == pytest.approx(schedule.rate(t_s), rel=1e-6, abs=1e-6)


@given(st.floats(0.01, 100), RAMPS)
def test_an_exact_open_plan_ends_where_its_last_session_comes(rate, ramp_s):
    planned, schedule = made({"arrivals": {"rate": rate}, "ramp_s": ramp_s})
    assert planned.asked[-1][0] == pytest.approx(first(10, schedule.times())[-1], rel=1e-6, abs=1e-9)


# ---- starts keep their distance ----

STARTS = [
    pytest.param(None, [0, 0, 5], [0, 0, 5], id="no bound"),
    pytest.param(2.0, [0, 0, 0], [0, S // 2, S], id="all at once: spread"),
    pytest.param(2.0, [0, 3 * S, 3 * S], [0, 3 * S, 3 * S + S // 2], id="a pause is not saved up"),
    pytest.param(0.1, [0, S], [0, 10 * S], id="slower than one a second"),
    pytest.param(2.0, [-S, -S], [-S, -S // 2], id="clocks may be negative"),
]


@pytest.mark.parametrize(("per_s", "wanted", "starts"), STARTS)
def test_starts_keep_their_distance(per_s, wanted, starts):
    spacing = StartSpacing(per_s)
    assert [spacing.reserve(at_ns) for at_ns in wanted] == starts


@given(
    per_s=st.floats(0.01, 1000),
    wanted=st.lists(st.integers(0, 100 * S), max_size=30).map(sorted),
)
def test_a_start_is_never_early_and_never_too_close_to_the_one_before(per_s, wanted):
    spacing = StartSpacing(per_s)
    starts = [spacing.reserve(at_ns) for at_ns in wanted]
    assert all(start >= at for start, at in zip(starts, wanted, strict=True))
    assert all(later - earlier >= round(S / per_s) for earlier, later in itertools.pairwise(starts))
