"""The limits that end a run early."""

from __future__ import annotations

import pytest

from rteval.load.stops import ERRORS, StopRules
from rteval.records import Outcome

OK, FAILED, CUT = Outcome.OK, Outcome.FAILED, Outcome.CUT

STOPS = [
    pytest.param({}, [FAILED] * 50, None, id="no limits"),
    pytest.param({"turns": 3}, [OK, OK], None, id="turns: not yet"),
    pytest.param({"turns": 3}, [OK, OK, FAILED], "limits.turns: 3 turns were run", id="turns: reached"),
    pytest.param({"turns": 2}, [CUT, CUT, OK], None, id="turns: what we cut does not count"),
    pytest.param({"error_rate": 0.5, "min_n": 4}, [FAILED] * 3, None, id="errors: too few turns to tell"),
    pytest.param({"error_rate": 0.5, "min_n": 4}, [FAILED, FAILED, OK, OK], None, id="errors: at the limit"),
    pytest.param(
        {"error_rate": 0.5, "min_n": 4},
        [FAILED, FAILED, FAILED, OK],
        "limits.error_rate: 3 of 4 turns failed (75.0%)",
        id="errors: beyond it",
    ),
    pytest.param({"error_rate": 0.5}, [FAILED] * 19, None, id="errors: twenty turns unless told otherwise"),
    pytest.param({"error_rate": 0.0, "min_n": 2}, [CUT, CUT, OK], None, id="errors: what we cut is none"),
    pytest.param({"error_rate": 0.1, "min_n": 2}, [Outcome.CANCELLED] * 9, None, id="errors: a barge-in is none"),
]


@pytest.mark.parametrize(("limits", "outcomes", "reason"), STOPS)
def test_a_run_ends_when_its_turns_reach_a_limit(limits, outcomes, reason):
    rules = StopRules(**limits)
    assert [rules.turn_ended(outcome) for outcome in outcomes] == [None] * (len(outcomes) - 1) + [reason]


def test_a_limit_that_was_reached_stays_reached():
    rules = StopRules(turns=1)
    assert all(rules.turn_ended(OK) for _ in range(3))


def test_every_end_that_is_neither_good_nor_ours_is_an_error():
    assert set(Outcome) - ERRORS == {Outcome.OK, Outcome.CANCELLED, Outcome.CUT}
