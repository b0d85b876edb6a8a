"""Who is named for a red run, from every way in which one can be red."""

from __future__ import annotations

from typing import Any

import pytest

from rteval.analysis.culprit import NAMES, Who, find_culprit


def gate(metric: str, verdict: str = "fail", value: float | None = 2.0, **over: Any) -> dict[str, Any]:
    return {"metric": metric, "verdict": verdict, "value": value, "limit": 1.0, "n": 30, **over}


def failure(code: str | None, n: int, outcome: str = "failed") -> dict[str, Any]:
    return {"stage": "respond", "outcome": outcome, "code": code, "n": n, "example": "the server said so"}


def summary(code: int, *gates: dict[str, Any], turns: int = 30, **counts: Any) -> dict[str, Any]:
    known = {"turns": turns, "planned": turns, "not_recorded": 0, "torn_lines": 0, **counts}
    return {"exit_code": code, "gates": gates, "health": {"reasons": ["send_lag_ms p99 91"]}, "counts": known}


FINISHED = {"reason": "finished", "detail": None}
QUOTA, DROPS = failure("http_429", 9, "refused"), failure("close_1006", 5, "dropped")

CASES = [
    pytest.param(
        summary(1),
        [],
        {"reason": "of a later version"},
        "runner",
        "never said that it ended",
        id="an end that is unknown",
    ),
    # ---- the model: answers came ----
    pytest.param(
        summary(1, gate("ttfa_ms.p95", value=1490.0)), [], FINISHED, "model", "ttfa_ms.p95 is 1490 (limit 1)", id="late"
    ),
    pytest.param(summary(1, gate("input_wer", value=0.14)), [], FINISHED, "model", "input_wer is 0.14", id="words"),
    pytest.param(summary(1, gate("checks.greets", value=0.5)), [], FINISHED, "model", "checks.greets", id="a check"),
    pytest.param(
        summary(1, gate("error_rate")),
        [failure("content_filter", 4, "incomplete")],
        FINISHED,
        "model",
        "4 of 30 turns failed with content_filter (error_rate)",
        id="answers cut short",
    ),
    pytest.param(
        summary(1, gate("error_rate")),
        [failure("empty_response", 4, "empty")],
        FINISHED,
        "model",
        "empty",
        id="no output",
    ),
    pytest.param(
        summary(1, gate("error_rate")),
        [failure("turn_end_not_detected", 4, "timeout")],
        FINISHED,
        "model",
        "turn_end_not_detected",
        id="its ear",
    ),
    pytest.param(
        summary(1, gate("start_lag_ms.p95", "no_data", None, n=13), gate("input_wer", value=0.14)),
        [],
        FINISHED,
        "model",
        "input_wer is 0.14 (limit 1); also the scenario",
        id="by what was measured, and not by what was not",
    ),
    # ---- quota ----
    pytest.param(
        summary(1, gate("error_rate")),
        [QUOTA, failure("rate_limit_exceeded", 3), DROPS],
        FINISHED,
        "quota",
        "12 of 30 turns failed with http_429 9, rate_limit_exceeded 3 (error_rate)",
        id="throttled",
    ),
    pytest.param(
        summary(1, gate("throttle_rate")), [QUOTA, DROPS, DROPS], FINISHED, "quota", "http_429", id="throttle_rate"
    ),
    pytest.param(
        summary(3), [failure("insufficient_quota", 30, "refused")], FINISHED, "quota", "no session", id="used up"
    ),
    pytest.param(
        summary(1, gate("ttfa_ms.p95", "no_data", None)),
        [QUOTA],
        FINISHED,
        "quota",
        "http_429 (ttfa_ms.p95)",
        id="too few answers because of it",
    ),
    # ---- login ----
    pytest.param(
        summary(3), [failure("http_401", 30, "refused")], FINISHED, "access", "no session", id="token refused"
    ),
    pytest.param(
        summary(3), [failure("no_credential", 30, "refused")], FINISHED, "access", "no_credential", id="no token"
    ),
    # ---- network and service ----
    pytest.param(summary(1, gate("error_rate")), [DROPS], FINISHED, "target", "close_1006", id="dropped"),
    pytest.param(summary(1, gate("drop_rate")), [DROPS], FINISHED, "target", "close_1006", id="drop_rate"),
    pytest.param(
        summary(1, gate("connect_ms.p95")), [], FINISHED, "target", "connect_ms.p95 is 2", id="slow to connect"
    ),
    pytest.param(
        summary(1, gate("error_rate")), [failure("server_error", 3)], FINISHED, "target", "server_error", id="its error"
    ),
    pytest.param(
        summary(1, gate("error_rate")),
        [failure("no_response", 3, "timeout")],
        FINISHED,
        "target",
        "no_response",
        id="stalled",
    ),
    pytest.param(summary(3), [failure("dns", 30, "refused")], FINISHED, "target", "dns", id="unknown host"),
    pytest.param(summary(3), [], FINISHED, "target", "no session became ready", id="nothing known"),
    pytest.param(summary(1, gate("turns_per_s")), [], FINISHED, "target", "turns_per_s", id="could not carry the load"),
    pytest.param(
        summary(5),
        [QUOTA, DROPS, DROPS],
        {"reason": "limit", "detail": "limits.error_rate: 19 of 30"},
        "target",
        "too many turns failed: 10 of 30",
        id="stopped by its error limit",
    ),
    # ---- the runner ----
    pytest.param(
        summary(4, gate("ttfa_ms.p95", "invalid")), [], FINISHED, "runner", "send_lag_ms p99 91", id="too slow"
    ),
    pytest.param(summary(1, gate("loop_lag_ms.p99")), [], FINISHED, "runner", "loop_lag_ms.p99", id="late by a gate"),
    pytest.param(summary(143), [], {"reason": "sigterm", "detail": "SIGTERM"}, "runner", "SIGTERM", id="job cancelled"),
    pytest.param(summary(1), [], None, "runner", "killed", id="killed"),
    pytest.param(summary(1), [], {"reason": "stopped", "detail": "x"}, "runner", "web UI", id="stopped by hand"),
    pytest.param(
        summary(4),
        [],
        {"reason": "workers_lost", "detail": "no worker was left"},
        "runner",
        "no worker was left",
        id="workers",
    ),
    pytest.param(summary(2), [], {"reason": "error", "detail": "disk full"}, "runner", "disk", id="disk"),
    # ---- the scenario ----
    pytest.param(
        summary(3), [failure("http_404", 30, "refused")], FINISHED, "scenario", "http_404", id="no such deployment"
    ),
    pytest.param(
        summary(5),
        [],
        {"reason": "limit", "detail": "limits.wall_s: 60 s are over"},
        "scenario",
        "limits.wall_s",
        id="its own limit",
    ),
    pytest.param(
        summary(1, gate("ttfa_ms.p99", "no_data", None)),
        [],
        FINISHED,
        "scenario",
        "could not be decided",
        id="too few turns",
    ),
    pytest.param(summary(1, gate("input_wer", "inconclusive")), [], FINISHED, "scenario", "decided", id="inconclusive"),
    # ---- us ----
    pytest.param(
        summary(70),
        [DROPS],
        {"reason": "bug", "detail": "KeyError"},
        "rteval",
        "a bug ended the run (KeyError)",
        id="bug",
    ),
    pytest.param(
        summary(1, not_recorded=2),
        [],
        FINISHED,
        "rteval",
        "2 of 30 planned turns were not recorded",
        id="rows are missing",
    ),
]


@pytest.mark.parametrize(("judged", "failures", "end", "who", "words"), CASES)
def test_a_red_run_names_who_has_to_act(judged, failures, end, who, words):
    culprit = find_culprit({"end": end}, judged, failures)
    assert culprit is not None
    assert culprit.who == who
    assert words in culprit.sentence
    assert culprit.sentence.startswith(f"{NAMES[culprit.who]}: ")


def test_a_green_run_names_nobody():
    assert find_culprit({"end": FINISHED}, summary(0, gate("error_rate", "pass")), [DROPS]) is None


def test_of_several_the_one_who_may_have_caused_the_rest_comes_first():
    judged = summary(1, gate("input_wer", value=0.3), gate("error_rate"), gate("ttfa_ms.p95", value=1e3))
    culprit = find_culprit({"end": FINISHED}, judged, [QUOTA])
    assert culprit is not None
    assert (culprit.who, culprit.also) == (Who.QUOTA, (Who.MODEL,))
    assert culprit.sentence.endswith("(error_rate); also the model")
    assert culprit.as_dict() == {"who": "quota", "sentence": culprit.sentence, "also": ["model"]}


def test_a_gate_that_only_warns_and_turns_that_we_cut_blame_nobody():
    judged = summary(1, gate("ttfa_ms.p95", severity="warn", missed=False), gate("error_rate"))
    cut = failure("cut", 20, "cut"), failure("not_started", 5, "cut"), failure("conversation_lost", 9, "dropped")
    culprit = find_culprit({"end": FINISHED}, judged, [*cut, failure("server_error", 1)])
    assert culprit is not None
    assert culprit.sentence == "the network or the service: 1 of 30 turns failed with server_error (error_rate)"


def test_a_scorer_that_could_not_score_is_no_fault_of_turns_that_failed():
    unscored = gate("scorers.polite.pass_rate", "no_data", None)
    judged = summary(1, gate("error_rate"), unscored, outcomes={"ok": 25, "dropped": 5})
    culprit = find_culprit({"end": FINISHED}, judged, [DROPS])
    assert culprit is not None
    assert culprit.sentence.endswith("failed with close_1006 (error_rate); also the scenario")
    nothing_ok = summary(1, gate("error_rate"), unscored, outcomes={"ok": 0, "dropped": 30})
    culprit = find_culprit({"end": FINISHED}, nothing_ok, [failure("close_1006", 30, "dropped")])
    assert culprit is not None
    assert culprit.sentence.endswith("(error_rate, scorers.polite.pass_rate)")


OPEN = {"end": FINISHED, "load": {"model": "open", "peak": 50}}


def full(*gates: Any, peak: int = 50, **more: Any) -> dict[str, Any]:
    return {**summary(1, *gates, **more), "metrics": {"sessions_peak": {"value": peak}}}


@pytest.mark.parametrize("metric", ["not_started", "start_lag_ms.p95", "wait_ms.p50"])
def test_who_found_no_place_or_waited_for_one_is_the_scenarios_when_its_own_bound_was_reached(metric):
    culprit = find_culprit(OPEN, full(gate(metric, value=10667.4)), [failure("not_started", 7, "cut")])
    assert culprit is not None
    assert culprit.who == "scenario"
    assert f"{metric} is 10667 (limit" in culprit.sentence
    assert "all 50 of load.max_sessions were in use" in culprit.sentence
    late = find_culprit(OPEN, full(gate(metric, value=7.0), gate("ttfa_ms.p95", value=1e3)), [])
    assert late is not None
    assert (late.who, late.also) == (Who.MODEL, (Who.SCENARIO,))


@pytest.mark.parametrize(
    ("run", "judged", "failures"),
    [
        pytest.param(OPEN, full(gate("not_started", value=7.0), peak=49), [], id="room left"),
        pytest.param(OPEN | {"load": {"model": "closed", "peak": 50}}, full(gate("not_started")), [], id="closed"),
        pytest.param(OPEN, full(gate("not_started")), [failure("response_timeout", 18, "timeout")], id="it stalls"),
    ],
)
def test_who_found_no_place_is_the_targets_otherwise(run, judged, failures):
    culprit = find_culprit(run, judged, failures)
    assert culprit is not None
    assert culprit.who == "target"
    assert "load.max_sessions" not in culprit.sentence


def test_no_text_of_a_target_is_in_the_sentence():
    culprit = find_culprit({"end": FINISHED}, summary(1, gate("error_rate")), [DROPS])
    assert culprit is not None
    assert "the server said so" not in culprit.sentence
