from __future__ import annotations

import pandas as pd
import pytest

from rteval.analysis.health import judge_health

LIMITS = {"send_lag_ms": 20.0, "loop_lag_ms": 20.0}


def samples(**kinds: list[float]) -> pd.DataFrame:
    rows = [("w0", kind, 1, value) for kind, values in kinds.items() for value in values]
    return pd.DataFrame(rows, columns=["worker", "kind", "at_ns", "value"])


CASES = [
    pytest.param({"send": [1.0] * 100, "loop": [1.0] * 100}, "ok", None, id="in time"),
    pytest.param({"send": [30.0] * 100, "loop": [1.0] * 100}, "invalid", "send_lag_ms p99 30.0", id="frames late"),
    pytest.param({"send": [1.0] * 100, "loop": [30.0] * 100}, "invalid", "loop_lag_ms p99 30.0", id="loop late"),
    pytest.param({"loop": [1.0] * 5}, "ok", None, id="without paced audio the loop alone is judged"),
    pytest.param({"loop": [1.0] * 99 + [500.0] * 3}, "invalid", "fewer sessions", id="the tail counts"),
    pytest.param({"loop": [1.0] * 9_999 + [500.0]}, "ok", None, id="one late wake-up of ten thousand does not"),
    pytest.param({"cpu": [0.9]}, "not_measured", "not measured", id="no lag was measured"),
    pytest.param({}, "not_measured", "not measured", id="no samples"),
]


@pytest.mark.parametrize(("kinds", "verdict", "reason"), CASES)
def test_a_late_generator_makes_a_run_invalid(kinds: dict[str, list[float]], verdict: str, reason: str | None) -> None:
    health = judge_health(samples(**kinds), LIMITS)
    assert health["verdict"] == verdict
    assert any(reason in told for told in health["reasons"]) if reason else health["reasons"] == []


def test_without_a_limit_nothing_is_too_late() -> None:
    health = judge_health(samples(loop=[1e6]), {"loop_lag_ms": None})
    assert (health["verdict"], health["loop_lag_ms"]["limit"], health["send_lag_ms"]["n"]) == ("ok", None, 0)


def test_each_worker_is_shown() -> None:
    health = judge_health(samples(loop=[1.0, 3.0], cpu=[0.5, 0.7], send=[2.0]), LIMITS)
    assert health["workers"]["w0"] == {
        "send_lag_p99_ms": 2.0,
        "loop_lag_p99_ms": 2.98,
        "stamp_lag_p99_ms": None,
        "cpu_share": 0.6,
        "cpu_max": 0.7,
        "sessions_max": None,
        "late": [],
    }
    assert health["cpu_share"] == {"n": 2, "mean": 0.6, "max": 0.7}


def of_workers(**workers: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        (worker, kind, second + 1, value)
        for worker, kinds in workers.items()
        for kind, values in kinds.items()
        for second, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["worker", "kind", "at_ns", "value"])


IN_TIME, LATE = {"send": [1.0] * 200}, {"send": [40.0] * 200}


def test_one_late_worker_of_many_makes_the_run_invalid_and_is_named_with_its_figure() -> None:
    """Over all of them its lateness would be lost: a worker with a tenth of the turns spoils those."""
    busy = {"send": [1.0] * 90 + [40.0] * 10, "cpu": [0.95] * 100}
    others = {f"w{n}": {"send": [2.0] * 1000, "cpu": [0.2] * 100} for n in (1, 2, 4)}
    health = judge_health(of_workers(w3=busy, **others), LIMITS)
    assert health["send_lag_ms"]["p99"] == 2.0
    assert (health["verdict"], health["workers"]["w3"]["late"]) == ("invalid", ["send_lag_ms"])
    why, cure = health["reasons"]
    assert "send_lag_ms p99 40.0 of w3 is beyond the limit of 20 ms (others 2.0 at most)" in why
    assert "95% of a core was in use" in why
    assert "--workers 5 or more machines" in cure
    assert "limits.send_lag_ms" in cure


REASONS = [
    pytest.param(
        {"w0": LATE},
        ("send_lag_ms p99 40.0 is beyond",),
        "use more workers (--workers 2), fewer sessions or an idler machine",
        id="one process",
    ),
    pytest.param(
        {"w1": LATE, "w2": LATE, "w3": IN_TIME},
        ("on 2 of 3 workers (w1 40.0, w2 40.0)",),
        "use more workers (--workers 4 or more machines), fewer sessions or idler ones",
        id="several",
    ),
    pytest.param(
        {f"w{n}": {"send": [40.0 + n] * 200} for n in range(5)},
        ("on 5 of 5 workers (w4 44.0, w3 43.0, w2 42.0, ...)",),
        "--workers 6",
        id="the worst are named",
    ),
    pytest.param(
        {"w1": {"send": [40.0] * 60}, "w2": {"send": [40.0] * 60}},
        ("send_lag_ms p99 40.0 over all 2 workers is beyond",),
        "--workers 3",
        id="too few samples to judge each",
    ),
    pytest.param(
        {"w0": {**LATE, "loop": [30.0] * 100, "cpu": [0.3] * 200}},
        ("send_lag_ms p99 40.0", "and loop_lag_ms p99 30.0", "only 30% of a core was in use then: something else"),
        "raise limits.send_lag_ms and limits.loop_lag_ms if",
        id="two lags in one sentence, of a machine that was busy with something else",
    ),
    pytest.param(
        {"w1": LATE, "master": {"loop": [1.0] * 200, "cpu": [0.1] * 200}},
        ("send_lag_ms p99 40.0 is beyond",),
        "--workers 2)",
        id="the master is no worker",
    ),
]


@pytest.mark.parametrize(("workers", "says", "cure"), REASONS)
def test_an_invalid_run_says_whose_lateness_it_was_and_what_to_do(
    workers: dict[str, dict[str, list[float]]], says: tuple[str, ...], cure: str
) -> None:
    health = judge_health(of_workers(**workers), LIMITS)
    assert health["verdict"] == "invalid"
    assert health["reasons"][0].startswith("the generator was the bottleneck: ")
    assert all(words in health["reasons"][0] for words in says), health["reasons"][0]
    assert cure in health["reasons"][1]


def test_a_worker_that_was_there_for_a_second_is_not_judged_by_it() -> None:
    health = judge_health(of_workers(w1={"send": [1.0] * 5000}, w2={"send": [1.0] * 40 + [90.0]}), LIMITS)
    assert (health["verdict"], health["workers"]["w2"]["late"]) == ("ok", [])


def test_the_cpu_is_that_of_the_seconds_in_which_it_was_late() -> None:
    """A worker that idles for most of a run and is swamped at its peak was swamped."""
    kinds = {"send": [1.0] * 150 + [40.0] * 50, "cpu": [0.1] * 150 + [1.0] * 50}
    assert "100% of a core was in use" in judge_health(of_workers(w0=kinds), LIMITS)["reasons"][0]


def test_the_master_is_shown_and_not_judged() -> None:
    """It holds no sessions: what its lateness does to them is start lag."""
    health = judge_health(of_workers(master={"loop": [500.0] * 200, "cpu": [1.0]}, w1={"loop": [1.0] * 200}), LIMITS)
    assert (health["verdict"], health["loop_lag_ms"]["n"], health["cpu_share"]["n"]) == ("ok", 200, 0)
    assert (health["workers"]["master"]["loop_lag_p99_ms"], health["workers"]["master"]["late"]) == (500.0, [])


def test_the_warm_up_is_not_judged() -> None:
    health = judge_health(of_workers(w0={"send": [90.0] * 100 + [1.0] * 100}), LIMITS, warm_until_ns=100)
    assert (health["verdict"], health["send_lag_ms"]["n"], health["send_lag_ms"]["max"]) == ("ok", 100, 1.0)
    assert health["workers"]["w0"]["send_lag_p99_ms"] == 1.0


def test_a_value_that_stands_for_many_samples_counts_for_all_of_them() -> None:
    """Eight late frames of a thousand are fewer than one of a hundred, though they are eight values of nine."""
    frame = of_workers(w0={"send": [1.0] + [90.0] * 8}).assign(n=[992] + [1] * 8)
    health = judge_health(frame, LIMITS)
    assert (health["verdict"], health["send_lag_ms"]["n"], health["send_lag_ms"]["p99"]) == ("ok", 1000, 1.0)
