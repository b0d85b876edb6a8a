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
        "late": [],
    }
    assert health["cpu_share"] == {"n": 2, "mean": 0.6, "max": 0.7}
