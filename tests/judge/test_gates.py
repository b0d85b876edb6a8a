from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.analysis.gates import (
    DEFAULT_GATE,
    Facts,
    Gate,
    check_gates_against,
    parse_gates,
    undecidable,
    validate_slo,
)
from rteval.analysis.judging import Verdict, judge_gates
from rteval.analysis.metrics import METRICS, STATS, find_metric
from rteval.errors import GateError

CHECKS = ("polite", "contains")

READ = [
    pytest.param("ttfa_ms.p95 < 1200", ("ttfa_ms", "p95", "<", 1200.0), id="time"),
    pytest.param("input_wer <= 0.10", ("input_wer", None, "<=", 0.1), id="rate"),
    pytest.param("  error_rate<=.5 ", ("error_rate", None, "<=", 0.5), id="blanks do not matter"),
    pytest.param("checks.pass_rate >= 0.95", ("checks.pass_rate", None, ">=", 0.95), id="all checks"),
    pytest.param("checks.polite > 0", ("checks.polite", None, ">", 0.0), id="one check"),
    pytest.param("underrun_count.max == 0", ("underrun_count", "max", "==", 0.0), id="equal"),
    pytest.param("leading_silence_ms.min >= -1e2", ("leading_silence_ms", "min", ">=", -100.0), id="exponent"),
]


@pytest.mark.parametrize(("text", "parts"), READ)
def test_a_gate_is_metric_stat_comparison_and_number(text: str, parts: tuple[object, ...]) -> None:
    gate = Gate.parse(text, checks=CHECKS)
    assert (gate.metric, gate.stat, gate.op, gate.limit) == parts
    assert gate.text == text.strip()


REFUSED = [
    pytest.param("ttfa_ms < 1200", "say which statistic, e.g. 'ttfa_ms.p95'", id="time without a statistic"),
    pytest.param("endpont_ms.p95 < 1200", "did you mean 'endpoint_ms'?", id="metric misspelt"),
    pytest.param("ttfa_ms.p59 < 1200", "no statistic is called 'p59'; did you mean", id="statistic misspelt"),
    pytest.param("ttfa_ms.median < 1200", "statistic", id="statistic unknown"),
    pytest.param("error_rate.p95 < 1", "is one value; leave out '.p95'", id="statistic of a value"),
    pytest.param("checks.polit > 0", "did you mean 'checks.polite'?", id="check misspelt"),
    pytest.param("zzzzqqq < 1", "there are ", id="nothing near"),
    pytest.param("ttfa_ms.p95 << 1200", "no comparison is called '<<'", id="comparison unknown"),
    pytest.param("ttfa_ms.p95 < 1200ms", "is not a number", id="unit written out"),
    pytest.param("input_wer <= 10%", "is not a number", id="per cent"),
    pytest.param("input_wer <= nan", "is not a number", id="nan"),
    pytest.param("input_wer <= 1e999", "is not a number", id="infinite"),
    pytest.param("input_wer", "cannot read gate", id="no comparison"),
    pytest.param("", "cannot read gate", id="empty"),
    pytest.param("input_wer <= baseline ^ 2", "is no limit against a baseline; write e.g. 'baseline * 1.10'", id="sum"),
    pytest.param("input_wer <= baseline * 1e999", "is not a number", id="infinite factor"),
    pytest.param("input_wer == baseline", "a baseline means an interval, which nothing equals", id="equal"),
    pytest.param("ttfa_ms.max < baseline * 2", "a baseline means an interval, and ttfa_ms.max has none", id="extreme"),
    pytest.param("turns_per_s > baseline", "and turns_per_s has none", id="one number of the run"),
    pytest.param("send_lag_ms.p99 < baseline", "and send_lag_ms.p99 has none", id="no samples of sessions"),
    pytest.param("input_tokens < baseline", "and input_tokens has none", id="tokens"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_gate_that_cannot_be_judged_is_refused_with_the_cure(text: str, message: str) -> None:
    with pytest.raises(GateError, match=re.escape(message)) as raised:
        Gate.parse(text, checks=CHECKS)
    assert raised.value.exit_code == 2


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(GateError, match=r"(?s)nonsense.*also_nonsense.*neither a text nor a mapping"):
        parse_gates(["nonsense < 1", "error_rate < 1", "also_nonsense < 1", 7])  # type: ignore[list-item]
    with pytest.raises(GateError, match=r"^gate 'nonsense < 1'"):
        parse_gates(["nonsense < 1"])
    assert parse_gates([]) == []


def test_the_default_gate_can_be_read() -> None:
    assert Gate.parse(DEFAULT_GATE) == Gate("error_rate", None, "<=", 0.01)


names = st.sampled_from(sorted(METRICS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(STATS) if METRICS[name].is_distribution else st.none())
)


@given(names, st.sampled_from(["<", "<=", ">", ">=", "=="]), st.floats(allow_nan=False, allow_infinity=False))
def test_a_gate_written_out_is_read_back(name: tuple[str, str | None], op: str, limit: float) -> None:
    gate = Gate(*name, op, limit)
    assert Gate.parse(str(gate)) == gate


def times(n: int, **values: float | None) -> dict[str, Any]:
    return {"n": n, "left_out": 0, "unit": "ms", **{stat: values.get(stat) for stat in STATS}}


METRIC_TABLE: dict[str, dict[str, Any]] = {
    "ttfa_ms": times(24, p95=1000.0) | {"withheld": {"p99": "n too small: 24 of at least 100"}},
    "endpoint_ms": times(0) | {"reason": "no samples"},
    "error_rate": {"n": 10, "left_out": 0, "unit": "ratio", "value": 0.0},
    "input_wer": {"n": 3, "left_out": 0, "unit": "ratio", "value": None, "reason": "no reference words"},
}

JUDGED = [
    pytest.param("ttfa_ms.p95 < 1200", Verdict.PASS, 1000.0, None, id="holds"),
    pytest.param("ttfa_ms.p95 < 1000", Verdict.FAIL, 1000.0, "ttfa_ms.p95 is 1000, not < 1000", id="missed"),
    pytest.param("error_rate <= 0", Verdict.PASS, 0.0, None, id="zero is a value"),
    pytest.param("error_rate > 0", Verdict.FAIL, 0.0, "error_rate is 0, not > 0", id="zero can miss"),
    pytest.param("ttfa_ms.p99 < 9", Verdict.NO_DATA, None, "n too small: 24 of at least 100", id="too few samples"),
    pytest.param("endpoint_ms.p50 < 9", Verdict.NO_DATA, None, "no samples", id="no samples"),
    pytest.param("input_wer < 9", Verdict.NO_DATA, None, "no reference words", id="no value"),
    pytest.param("drop_rate < 9", Verdict.NO_DATA, None, "not measured", id="not measured at all"),
]


@pytest.mark.parametrize(("text", "verdict", "value", "reason"), JUDGED)
def test_a_gate_holds_only_on_a_number(text: str, verdict: Verdict, value: float | None, reason: str | None) -> None:
    (result,) = judge_gates(parse_gates([text]), METRIC_TABLE)
    assert (result.verdict, result.value, result.reason) == (verdict, value, reason)


def test_an_invalid_run_has_no_verdict_on_times_but_one_on_content() -> None:
    gates = parse_gates(["ttfa_ms.p95 < 1200", "error_rate <= 0", "endpoint_ms.p50 < 1"])
    results = judge_gates(gates, METRIC_TABLE, invalid="loop lag")
    assert [result.verdict for result in results] == [Verdict.INVALID, Verdict.PASS, Verdict.INVALID]
    assert results[0].reason == "the run is invalid: loop lag"


def test_a_result_says_what_the_summary_shows() -> None:
    (result,) = judge_gates(parse_gates(["ttfa_ms.p95<999"]), METRIC_TABLE)
    assert result.as_dict() == {
        "text": "ttfa_ms.p95<999",
        "metric": "ttfa_ms.p95",
        "value": 1000.0,
        "limit": 999.0,
        "verdict": "fail",
        "reason": "ttfa_ms.p95 is 1000, not < 999",
        "n": 24,
        "severity": "fail",
        "missed": True,
    }


IMPOSSIBLE = [
    pytest.param("input_wer < 1", {"references": 0}, "no item of the dataset has a reference", id="no reference"),
    pytest.param("input_cer < 1", {"references": 5, "transcription": False}, "no transcription", id="not transcribed"),
    pytest.param("input_wer < 1", {"references": 5, "wer": False}, "not scored", id="not scored"),
    pytest.param("output_wer < 1", {"references": 5}, "expected answer", id="no answer expected"),
    pytest.param("goodput > 1", {"references": 5}, "no slo", id="no slo"),
]


@pytest.mark.parametrize(("text", "facts", "message"), IMPOSSIBLE)
def test_a_gate_that_can_never_have_a_value_is_refused_beforehand(
    text: str, facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(GateError, match=message):
        check_gates_against(parse_gates([text]), Facts(**facts))


def test_a_gate_that_can_have_a_value_is_let_through() -> None:
    gates = parse_gates(["input_wer < 1", "output_cer < 1", "goodput_share > 0", "error_rate < 1", "ttfa_ms.p50 < 1"])
    check_gates_against(gates, Facts(references=1, answers=1, slo=True))


def test_gates_that_the_number_of_turns_cannot_decide_are_named() -> None:
    gates = parse_gates(
        ["ttfa_ms.p95 < 1", "ttfa_ms.p99 < 1", "ttfa_ms.p50 < 1", "delta_gap_ms.p99 < 1", "error_rate < 1"]
    )
    assert [(str(gate), why) for gate, why in undecidable(gates, 24)] == [
        ("ttfa_ms.p99 < 1", "p99 needs 100 turns, 24 are planned")
    ]
    assert len(undecidable(gates, 0)) == 4
    assert undecidable(gates, 100) == []


def test_an_slo_names_metrics_that_every_turn_has() -> None:
    validate_slo({"ttfa_ms": 1200, "input_wer": 0.1})
    with pytest.raises(GateError, match=re.escape("did you mean 'ttfa_ms'?")):
        validate_slo({"tfa_ms": 1200})
    with pytest.raises(GateError, match="error_rate"):
        validate_slo({"error_rate": 1})


def test_every_metric_has_a_definition_and_a_unit() -> None:
    assert all(metric.definition and metric.unit and name == metric.name for name, metric in METRICS.items())
    made = find_metric("checks.polite")
    assert made is not None
    assert "'polite'" in made.definition
    assert find_metric("checks.") is None
    assert find_metric("nothing") is None
