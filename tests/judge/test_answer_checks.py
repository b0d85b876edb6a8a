from __future__ import annotations

from typing import Any

import pytest

from rteval.scoring.checks import Answer, CheckResult, item_checks, run_check, validate_checks
from rteval.scoring.normalize import Normalizer, normalizer

ENGLISH = normalizer("whisper_english")
TEXT = "Your order twenty five ships on Monday. Is that OK?"

CASES = [
    pytest.param("contains", "ORDER 25", True, id="case and the spelling of numbers do not matter"),
    pytest.param("contains", ["order", "monday"], True, id="all of a list"),
    pytest.param("contains", ["order", "tuesday"], False, id="one of a list is missing"),
    pytest.param("contains", "?", True, id="punctuation alone is looked for as it stands"),
    pytest.param("contains", "!", False, id="punctuation alone that is not there"),
    pytest.param("regex", r"ships on (Mon|Tues)day\.", True, id="pattern found"),
    pytest.param("regex", r"^ships", False, id="pattern not found"),
    pytest.param("regex", ["order", "(?i)MONDAY"], True, id="all patterns"),
    pytest.param("equals", "your order 25 ships on monday, is that ok", True, id="equal to a person"),
    pytest.param("equals", "your order", False, id="not equal"),
    pytest.param("equals", "?", False, id="nothing but punctuation is not everything"),
    pytest.param("tool_call", "lookup", True, id="function called"),
    pytest.param("tool_call", {"name": "lookup", "arguments": {"id": 25}}, True, id="with that argument"),
    pytest.param("tool_call", {"name": "lookup", "arguments": {"id": 26}}, False, id="with another argument"),
    pytest.param("tool_call", {"name": "cancel"}, False, id="another function"),
    pytest.param("tool_call", {"name": "broken", "arguments": {"id": 1}}, False, id="arguments that are no JSON"),
    pytest.param("tool_call", {"name": "list", "arguments": {"id": 1}}, False, id="arguments that are no object"),
    pytest.param("tool_call", {"name": "ping"}, True, id="no arguments"),
    pytest.param("tool_call", {"name": "parsed", "arguments": {"id": 1}}, True, id="arguments that came parsed"),
]

CALLS = (
    {"name": "lookup", "arguments": '{"id": 25, "deep": true}'},
    {"name": "broken", "arguments": "{"},
    {"name": "list", "arguments": "[1]"},
    {"name": "ping", "arguments": ""},
    {"name": "parsed", "arguments": {"id": 1}},
)


@pytest.mark.parametrize(("kind", "expected", "holds"), CASES)
def test_a_check_holds_or_not(kind: str, expected: Any, holds: bool) -> None:
    assert run_check(kind, expected, Answer(TEXT, CALLS), ENGLISH) == CheckResult(holds)


def test_equals_of_punctuation_compares_it_as_it_stands() -> None:
    assert run_check("equals", "?!", Answer("?!"), ENGLISH) == CheckResult(True)
    assert run_check("equals", "?!", Answer("!"), ENGLISH) == CheckResult(False)


@pytest.mark.parametrize("kind", ["contains", "regex", "equals"])
def test_without_a_text_a_check_is_not_applicable(kind: str) -> None:
    result = run_check(kind, "x", Answer(None), ENGLISH)
    assert result.value is None
    assert result.reason == "the answer has neither transcript nor text"


def broken(text: str) -> str:
    raise RuntimeError(text)


BROKEN = [
    pytest.param("regex", "(", ENGLISH, "pattern cannot be read", id="pattern"),
    pytest.param("sings", "x", ENGLISH, "no check is called 'sings'", id="unknown kind"),
    pytest.param("contains", "x", Normalizer("broken", broken), "the check broke: RuntimeError", id="scorer"),
    pytest.param("tool_call", 7, ENGLISH, "the check broke: TypeError", id="expectation of a wrong type"),
]


@pytest.mark.parametrize(("kind", "expected", "normalise", "reason"), BROKEN)
def test_a_check_that_breaks_is_not_applicable_and_quotes_no_answer(
    kind: str, expected: Any, normalise: Normalizer, reason: str
) -> None:
    result = run_check(kind, expected, Answer("SECRET WORDS", CALLS), normalise)
    assert result.value is None
    assert reason in str(result.reason)
    assert "SECRET" not in str(result.reason)


def test_an_items_expectations_are_checks_by_name() -> None:
    assert item_checks({"answer": "a", "contains": "b", "equals": None}) == {"contains": "b"}
    assert item_checks(None) == {}


FAULTS = [
    pytest.param({"polite": {"regex": "please"}}, None, id="well"),
    pytest.param({"polite": {"regex": "(", "equals": None}}, "is no regular expression", id="pattern"),
    pytest.param({"polite": {}}, "exactly one of", id="nothing"),
    pytest.param({"polite": {"regex": "x", "contains": "x"}}, "exactly one of", id="two things"),
    pytest.param({"contains": {"regex": "x"}}, "this name is taken", id="name of an item's check"),
    pytest.param({"pass_rate": {"regex": "x"}}, "this name is taken", id="name of a metric"),
    pytest.param({"a_reason": {"regex": "x"}}, "this name is taken", id="name of a reason's column"),
    pytest.param({"po lite": {"regex": "x"}}, "letters, digits and underscores", id="blank in a name"),
]


@pytest.mark.parametrize(("checks", "fault"), FAULTS)
def test_a_scenarios_checks_are_read_before_anything_runs(checks: dict[str, Any], fault: str | None) -> None:
    faults = validate_checks(checks)
    assert any(fault in told for told in faults) if fault else faults == []
