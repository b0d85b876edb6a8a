from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.judge import judge
from rteval.records import HealthSample, Outcome, Stage, TurnRecord
from rteval.reporting.html.page import gate_row, headlines
from rteval.reporting.junit import junit, xml_text
from rteval.reporting.markdown import escape, markdown
from rteval.reporting.words import say_gate, say_value, say_verdict

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]

T0 = 1_000_000_000_000_000


def summary(**over: Any) -> dict[str, Any]:
    health = {
        "verdict": "ok",
        "reasons": [],
        "send_lag_ms": {"n": 0, "p50": None, "p99": None, "max": None, "limit": 20},
        "loop_lag_ms": {"n": 2, "p50": 1.0, "p99": 2.0, "max": 2.0, "limit": None},
        "stamp_lag_ms": {"n": 0, "p50": None, "p99": None, "max": None, "limit": None},
        "cpu_share": {"n": 0, "mean": None, "max": None},
        "workers": {},
    }
    counts = {
        "turns": 3, "planned": 4, "not_recorded": 1, "outcomes": {"ok": 3, "cut": 0}, "transcripts": {"ok": 3},
        "sessions": 1, "sessions_ready": 1, "sessions_dropped": 0, "sessions_cut": 0, "sessions_not_started": 0,
        "not_started": 0, "torn_lines": 1, "duplicates": 0,
    }  # fmt: skip
    base = {"run_id": "r1", "run_dir": "/x", "state": "complete", "exit_code": 0, "metrics": {}, "gates": []}
    return {**base, "health": health, "counts": counts, **over}


def gate(metric: str, verdict: str, **over: Any) -> dict[str, Any]:
    base = {"text": f"{metric} < 1", "metric": metric, "value": 2.0, "limit": 1.0, "verdict": verdict}
    return {**base, "reason": None if verdict == "pass" else "why", "n": 3, **over}


def read(text: str) -> ET.Element:
    return ET.fromstring(text.encode())


def cases(text: str) -> dict[str, str]:
    """Verdict of each test case."""
    return {case.get("name", ""): next((child.tag for child in case), "pass") for case in read(text).iter("testcase")}


def test_junit_has_one_case_a_gate_named_by_its_metric() -> None:
    gates = [gate("ttfa_ms.p95", "pass"), gate("input_wer", "fail"), gate("rtf.p50", "no_data", value=None)]
    text = junit({"scenario": {"name": "support"}}, summary(gates=gates, exit_code=1), [])
    assert cases(text) == {"ttfa_ms.p95": "pass", "input_wer": "failure", "rtf.p50": "failure"}
    suite = read(text).find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "2",
        "errors": "0",
    }


def test_two_gates_on_one_metric_are_two_cases() -> None:
    gates = [gate("error_rate", "pass"), gate("error_rate", "pass", text="error_rate < 2")]
    assert len(cases(junit({}, summary(gates=gates), []))) == 2


UNEXPLAINED = [
    pytest.param(0, "complete", [], {"run": "pass"}, id="no gates"),
    pytest.param(0, "complete", ["pass"], {"m": "pass"}, id="all hold"),
    pytest.param(1, "complete", ["fail"], {"m": "failure"}, id="missed"),
    pytest.param(1, "partial", ["pass"], {"m": "pass", "run": "error"}, id="not complete"),
    pytest.param(3, "refused", ["no_data"], {"m": "failure", "run": "error"}, id="refused"),
    pytest.param(4, "invalid", ["invalid"], {"m": "error", "run": "error"}, id="invalid"),
    pytest.param(4, "invalid", ["pass"], {"m": "pass", "run": "error"}, id="invalid although all hold"),
    pytest.param(5, "partial", ["pass"], {"m": "pass", "run": "error"}, id="limit"),
    pytest.param(130, "partial", ["pass"], {"m": "pass", "run": "error"}, id="SIGINT"),
]


@pytest.mark.parametrize(("code", "state", "verdicts", "expected"), UNEXPLAINED)
def test_the_test_tab_is_green_when_the_exit_code_is_0_and_only_then(
    code: int, state: str, verdicts: list[str], expected: dict[str, str]
) -> None:
    gates = [gate("m", verdict) for verdict in verdicts]
    found = cases(junit({}, summary(exit_code=code, state=state, gates=gates), []))
    assert found == expected
    assert (set(found.values()) == {"pass"}) == (code == 0)


@given(st.text())
def test_any_text_can_stand_in_xml(text: str) -> None:
    element = ET.Element("a")
    element.text = xml_text(text)
    element.set("b", xml_text(text))
    ET.fromstring(ET.tostring(element))


def test_failed_turns_go_to_the_output_of_the_suite(make_run: MakeRun, make_turn: MakeTurn) -> None:
    message = "no \x00 <b>service</b> ]]> & \x1b[31m"
    failed = {"outcome": Outcome.DROPPED, "failure_stage": Stage.RESPOND, "error_code": "close_1006"}
    turns = [make_turn(f"s{k}", error_message=message, **failed) for k in range(203)]
    run_dir = make_run([*turns, make_turn("ok")])
    judge(run_dir)
    output = read((run_dir / "junit.xml").read_text()).findtext(".//system-out")
    assert output is not None
    assert "session s7 turn 0 item item-s7-0: dropped respond/close_1006: no \ufffd <b>service</b> ]]> &" in output
    assert "session ok" not in output
    assert "and 3 more" in output


def test_the_summary_page_begins_with_the_verdict(make_run: MakeRun, make_turn: MakeTurn) -> None:
    health = [HealthSample(worker="w0", at_ns=T0, loop_lag_us=[90_000] * 9, cpu_share=0.93)]
    turns = [
        make_turn("a"),
        make_turn(
            "b",
            outcome=Outcome.REFUSED,
            failure_stage=Stage.CONNECT,
            error_code="http_429",
            error_message="*slow* down",
        ),
        make_turn("c", outcome=Outcome.CUT),
    ]
    run_dir = make_run(
        turns, health=health, labels={"branch": "main"}, end={"reason": "finished", "detail": "all done"}
    )
    judge(run_dir)
    page = (run_dir / "summary.md").read_text()
    assert page.startswith("# support: INVALID")
    assert "| ❌ fail | `error_rate <= 0.01` | 1 of 2 | 1.00 % | 2 |" in page
    assert "| connect | refused | http\\_429 | 1 | \\*slow\\* down |" in page
    assert "time to first audio: end of the caller's speech" in page
    assert "branch=main" in page
    assert "How it ended: all done" in page
    assert "fewer sessions or an idler machine" in page
    assert "93%" in page
    assert "`turns.parquet`" in page


def test_the_summary_page_of_nothing_is_a_page() -> None:
    page = markdown({}, summary(), [])
    assert page.startswith("# run: COMPLETE: no gates were set")
    assert "Nothing was measured" in page
    assert "1 of 4 planned were not recorded" in page
    assert "1 lines of the shards could not be read" in page
    unknown = markdown({}, summary(gates=[gate("later_metric", "inconclusive")], exit_code=1), [])
    assert "inconclusive | `later_metric < 1` |" in unknown


def test_a_gate_on_a_share_of_few_shows_a_count_in_every_report() -> None:
    """25 % of 8 says more than was measured; a word error rate has words below the line, whatever n is."""
    few = gate("error_rate", "fail", value=0.25, limit=0.1, n=8)
    words = gate("input_wer", "fail", value=0.25, limit=0.1, n=8)
    metrics = {"error_rate": {"n": 8, "unit": "ratio"}, "input_wer": {"n": 8, "unit": "ratio"}}
    assert (gate_row(few, metrics)["value"].text, gate_row(few, metrics)["value"].exact) == ("2 of 8", 0.25)
    assert gate_row(words, metrics)["value"].text == "25.0\u202f%"
    text = markdown({}, summary(gates=[few, words]), [])
    assert "| 2 of 8 | 10.00 % | 8 |" in text
    assert "| 25.00 % | 10.00 % | 8 |" in text


def test_what_has_no_value_is_no_headline() -> None:
    entry = {"n": 6, "left_out": 0, "unit": "1/s", "value": None, "reason": "no turn was started"}
    assert headlines({"turns_per_s": entry}) == []
    assert "`turns_per_s`" not in markdown({}, summary(metrics={"turns_per_s": entry}), [])
    measured = {"turns_per_s": entry | {"value": 0.5}}
    assert [card["main"].exact for card in headlines(measured)] == [0.5]
    assert "`turns_per_s` | 0.50 /s | 6 | 0 |" in markdown({}, summary(metrics=measured), [])


def test_many_kinds_of_failure_are_cut_off_and_said() -> None:
    kinds = [{"stage": None, "outcome": "failed", "code": f"e{k}", "n": 1, "example": None} for k in range(25)]
    assert "5 more kinds are in the tables" in markdown({}, summary(), kinds)


HOSTILE = [
    pytest.param("a | b", "a \\| b", id="table cell"),
    pytest.param("<img src=x>", "\\<img src=x\\>", id="HTML"),
    pytest.param("![x](http://y)", "!\\[x\\](http\\://y)", id="image"),
    pytest.param("see https://y", "see https\\://y", id="bare address"),
    pytest.param("WWW.y.z", "WWW\\.y.z", id="bare host"),
    pytest.param("@all #1", "\\@all \\#1", id="mention and reference"),
    pytest.param("`code` *b* _i_ ~s~ $m$", "\\`code\\` \\*b\\* \\_i\\_ \\~s\\~ \\$m\\$", id="markup"),
    pytest.param("line\n\n# head", "line \\# head", id="lines become one"),
    pytest.param("- item", "\\- item", id="list"),
    pytest.param("1. item", "1\\. item", id="numbered list"),
    pytest.param(":smile: but 12:30", "\\:smile: but 12:30", id="emoji"),
    pytest.param("\x1b[31mred\x00", "\\[31mred", id="control characters"),
    pytest.param("&lt;", "\\&lt;", id="entity"),
    pytest.param("x" * 300, "x" * 199 + "…", id="long"),
    pytest.param("back\\slash", "back\\\\slash", id="backslash"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_what_a_target_says_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert escape(text) == shown


VALUES = [
    pytest.param(None, "ms", None, "-", id="nothing"),
    pytest.param(0.05, "ratio", None, "5.00 %", id="share"),
    pytest.param(0.5, "ratio", 4, "2 of 4", id="a share of few is a count"),
    pytest.param(0.3, "ratio", 4, "30.00 %", id="unless it is no whole count"),
    pytest.param(1234.5, "ms", None, "1234 ms", id="large"),
    pytest.param(123.45, "ms", None, "123.5 ms", id="medium"),
    pytest.param(1.234, "1/s", None, "1.23 /s", id="small"),
    pytest.param(7, "tokens", None, "7", id="count"),
]


@pytest.mark.parametrize(("value", "unit", "n", "said"), VALUES)
def test_numbers_are_said_with_their_unit(value: float | None, unit: str, n: int | None, said: str) -> None:
    assert say_value(value, unit, n=n) == said


def test_a_missed_gate_is_named_with_value_limit_and_n() -> None:
    assert say_gate(gate("ttfa_ms.p95", "fail")) == "fail: ttfa_ms.p95 < 1 (value 2, limit 1, n 3)"
    assert say_gate(gate("m", "no_data", value=None)) == "no_data: m < 1 (not measured, limit 1, n 3): why"


VERDICTS = [
    pytest.param({"gates": [gate("m", "pass")]}, "PASS: the gate holds", id="one gate"),
    pytest.param({"gates": [gate("m", "pass")] * 2}, "PASS: all 2 gates hold", id="two gates"),
    pytest.param({"gates": [gate("m", "fail")], "exit_code": 1}, "FAIL: 1 of 1 gates missed", id="missed"),
    pytest.param({"exit_code": 1, "state": "partial"}, "FAIL: the run is not complete (partial run)", id="partial"),
    pytest.param({"exit_code": 9}, "ended with exit code 9", id="unknown"),
]


@pytest.mark.parametrize(("over", "said"), VERDICTS)
def test_the_verdict_is_one_line(over: dict[str, Any], said: str) -> None:
    assert say_verdict(summary(**over)) == said
