"""Checks of an answer: does it contain, match or equal what was expected, does it call the right function.

A check is true, false or not applicable, and "not applicable" has a reason. A reason never quotes an answer, since
reports without transcripts show it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .normalize import Normalizer

__all__ = ["CHECKS", "Answer", "CheckResult", "item_checks", "run_check", "validate_checks"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check looks at.

    Attributes:
        text: the output transcript, or the output text where there is none; ``None`` when neither came.
        tool_calls: function calls of the answer, ``{"name", "arguments"}``; arguments as the JSON text that came.
    """

    text: str | None
    tool_calls: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one turn: ``value`` ``None`` is "not applicable", and ``reason`` says why."""

    value: bool | None
    reason: str | None = None


def item_checks(expect: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the checks that an item's ``expect`` asks for, by name (``answer`` is no check: it feeds WER)."""
    return {name: expect[name] for name in CHECKS if expect and expect.get(name) is not None}


def run_check(kind: str, expected: Any, answer: Answer, normalise: Normalizer) -> CheckResult:
    """Judge one answer; whatever goes wrong in a check makes it not applicable.

    Args:
        kind: ``contains``, ``regex``, ``equals`` or ``tool_call``.
        expected: a text or a list of texts of which all are needed; for ``tool_call`` a mapping or a name.
        answer: what came.
        normalise: evens out both sides of ``contains`` and ``equals``: case, punctuation, the spelling of numbers.
    """
    check = CHECKS.get(kind)
    if check is None:
        return CheckResult(None, f"no check is called {kind!r}; there are {', '.join(CHECKS)}")
    try:
        return check(expected, answer, normalise)
    except (re.error, RecursionError, OverflowError) as error:
        return CheckResult(None, f"the pattern cannot be read: {error}")
    except Exception as error:  # a check that breaks is a reason in a row; the others must still be judged
        return CheckResult(None, f"the check broke: {type(error).__name__}")


def validate_checks(checks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List what is wrong with a scenario's ``scoring.checks``, one sentence each; empty when all is well."""
    faults = []
    for name, check in checks.items():
        given = {kind: expected for kind, expected in check.items() if expected is not None}
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            faults.append(f"check {name!r}: a name has letters, digits and underscores")
        elif name in CHECKS or name == "pass_rate" or name.endswith("_reason"):
            faults.append(f"check {name!r}: this name is taken; choose another")
        if len(given) != 1 or not set(given) <= set(CHECKS):
            faults.append(f"check {name!r}: give exactly one of {', '.join(CHECKS)}")
            continue
        for pattern in _each(given.get("regex", ())):
            try:
                re.compile(str(pattern))
            except (re.error, RecursionError, OverflowError) as error:
                faults.append(f"check {name!r}: {pattern!r} is no regular expression: {error}")
    return faults


def _contains(expected: Any, answer: Answer, normalise: Normalizer) -> CheckResult:
    if answer.text is None:
        return NO_TEXT
    text, raw = _evened(answer.text, normalise), _folded(answer.text)
    for part in _each(expected):
        part = str(part)
        needle = _evened(part, normalise)
        # A needle that is all punctuation ("?") is empty after most normalisers, and empty text is in every text.
        if not (needle in text if needle else _folded(part) in raw):
            return CheckResult(False)
    return CheckResult(True)


def _regex(expected: Any, answer: Answer, normalise: Normalizer) -> CheckResult:
    text = answer.text
    if text is None:
        return NO_TEXT
    return CheckResult(all(re.search(str(pattern), text) is not None for pattern in _each(expected)))


def _equals(expected: Any, answer: Answer, normalise: Normalizer) -> CheckResult:
    if answer.text is None:
        return NO_TEXT
    wanted, text = _evened(str(expected), normalise), _evened(answer.text, normalise)
    return CheckResult(wanted == text if wanted or text else _folded(str(expected)) == _folded(answer.text))


def _tool_call(expected: Any, answer: Answer, normalise: Normalizer) -> CheckResult:
    wanted = {"name": expected} if isinstance(expected, str) else dict(expected)
    return CheckResult(any(_is_call(wanted, call) for call in answer.tool_calls))


def _is_call(wanted: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    """Same function, and every expected argument is there with that value; further arguments do not matter."""
    if call.get("name") != wanted["name"]:
        return False
    arguments = wanted.get("arguments") or {}
    given = call.get("arguments")
    if isinstance(given, str):
        try:
            given = json.loads(given) if given else {}
        except ValueError:
            return False
    return not arguments or (
        isinstance(given, Mapping) and all(name in given and given[name] == value for name, value in arguments.items())
    )


def _each(expected: Any) -> Sequence[Any]:
    return expected if isinstance(expected, list | tuple) else (expected,)


def _evened(text: str, normalise: Normalizer) -> str:
    return " ".join(normalise(text).split())


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


NO_TEXT = CheckResult(None, "the answer has neither transcript nor text")

CHECKS: dict[str, Callable[[Any, Answer, Normalizer], CheckResult]] = {
    "contains": _contains,
    "regex": _regex,
    "equals": _equals,
    "tool_call": _tool_call,
}
