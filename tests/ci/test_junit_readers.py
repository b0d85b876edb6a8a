"""``junit.xml`` is what Ant's schema, Jenkins' schema, GitLab and Azure DevOps each take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from rteval.reporting.junit import junit


@dataclass(frozen=True)
class Kind:
    """What a schema says of one element: children in their order (``?`` may be missing, ``*`` any number), attributes.

    ``children`` as a set: in any order, any number.
    """

    children: tuple[str, ...] | frozenset[str] = ()
    required: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    forms: dict[str, str] = field(default_factory=dict)


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBER, DECIMAL, MOMENT = r"\d+", r"\d+(\.\d+)?", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
TOKEN = r"\S+( \S+)*"  # xs:token: no blanks at the ends, no line breaks

ANT = {
    "testsuites": Kind(("testsuite*",)),
    "testsuite": Kind(
        ("properties", "testcase*", "system-out", "system-err"),
        required=names("name timestamp hostname tests failures errors time package id"),
        allowed=names("skipped"),
        forms={
            "name": TOKEN, "hostname": TOKEN, "package": TOKEN, "timestamp": MOMENT, "id": NUMBER, "tests": NUMBER,
            "failures": NUMBER, "errors": NUMBER, "skipped": NUMBER, "time": DECIMAL,
        },
    ),
    "properties": Kind(("property*",)),
    "property": Kind(required=names("name value"), forms={"name": TOKEN}),
    "testcase": Kind(
        ("failure?", "error?"),
        required=names("name classname time"),
        forms={"name": TOKEN, "classname": TOKEN, "time": DECIMAL},
    ),
    "failure": Kind(required=names("type"), allowed=names("message")),
    "error": Kind(required=names("type"), allowed=names("message")),
    "system-out": Kind(),
    "system-err": Kind(),
}  # fmt: skip
"""Facts of JUnit.xsd of windyroad/JUnit-Schema, the schema of Ant's reports that most validators use."""

JENKINS = {
    "testsuites": Kind(frozenset({"testsuite"}), allowed=names("name time tests failures errors")),
    "testsuite": Kind(
        names("testsuite properties testcase system-out system-err"),
        required=names("name tests failures errors"),
        allowed=names("group time skipped timestamp hostname id package file log url"),
        forms={"time": r"\d*(\.\d*)?"},
    ),
    "properties": Kind(frozenset({"property"})),
    "property": Kind(required=names("name value")),
    "testcase": Kind(
        names("skipped error failure system-out system-err"),
        required=names("name"),
        allowed=names("time classname group"),
    ),
    "failure": Kind(allowed=names("type message")),
    "error": Kind(allowed=names("type message")),
    "system-out": Kind(),
    "system-err": Kind(),
}
"""Facts of junit-10.xsd of jenkinsci/xunit-plugin."""


def faults(element: ET.Element, schema: dict[str, Kind]) -> Iterator[str]:
    kind, given = schema[element.tag], set(element.keys())
    for name in kind.required - given:
        yield f"{element.tag} has no {name}"
    for name in given - kind.required - kind.allowed:
        yield f"{element.tag} has {name}"
    for name, form in kind.forms.items():
        if name in given and not re.fullmatch(form, element.get(name, "")):
            yield f"{element.tag}/@{name} is {element.get(name)!r}"
    tags = [child.tag for child in element]
    if isinstance(kind.children, frozenset):
        yield from (f"{element.tag} holds {tag}" for tag in tags if tag not in kind.children)
    else:
        order = "".join(f"(?:{re.escape(c.rstrip('?*'))} ){c[-1] if c[-1] in '?*' else ''}" for c in kind.children)
        if not re.fullmatch(order, "".join(f"{tag} " for tag in tags)):
            yield f"{element.tag} holds {tags}"
    for child in element:
        yield from faults(child, schema)


def gate(metric: str, verdict: str) -> dict[str, Any]:
    base = {"text": f"{metric} < 1", "metric": metric, "value": 2.0, "limit": 1.0, "verdict": verdict, "n": 3}
    return {**base, "reason": None if verdict == "pass" else "why"}


def report(code: int = 1, state: str = "complete", **over: Any) -> ET.Element:
    gates = [gate("ttfa_ms.p95", "fail"), gate("error_rate", "pass"), gate("input_wer", "no_data")]
    summary = {
        "run_id": "r1",
        "run_dir": "/x",
        "state": state,
        "exit_code": code,
        "gates": gates,
        "health": {"reasons": ["send_lag_ms p99 91.0 is beyond the limit of 20 ms"]},
        "counts": {"turns": 3},
        "culprit": {"who": "model", "sentence": "the model: ttfa_ms.p95 is 2 (limit 1)", "also": []} if code else None,
        **over,
    }
    run = {
        "scenario": {"name": "support"},
        "started_at": "2026-11-20T23:30:00.123+00:00",
        "labels": {"commit": "3f2a9c1", "note": " two\nlines \x00"},
        "target": {"provider": "azure", "credential": "entra (ManagedIdentityCredential)", "model": None},
        "started_ns": 5,
        "ended_ns": 91_500_000_005,
    }
    failed = dict.fromkeys(("session", "turn", "item", "outcome", "failure_stage", "error_code", "error_message"), "x")
    text = junit({} if over.get("bare") else run, summary, [failed])
    return ET.fromstring(text.encode())


RUNS = [
    pytest.param({}, id="gates missed"),
    pytest.param({"code": 0, "gates": []}, id="no gates"),
    pytest.param({"code": 4, "state": "invalid"}, id="invalid"),
    pytest.param({"code": 3, "state": "refused"}, id="refused"),
    pytest.param({"code": 70, "state": "partial", "bare": True}, id="a run.json that says nothing"),
]


@pytest.mark.parametrize("schema", [pytest.param(ANT, id="Ant"), pytest.param(JENKINS, id="Jenkins")])
@pytest.mark.parametrize("over", RUNS)
def test_the_report_fits_the_published_schemas(over, schema):
    assert list(faults(report(**over), schema)) == []


@pytest.mark.parametrize("over", RUNS)
def test_every_case_has_what_gitlab_and_azure_devops_show(over):
    """GitLab keys a case by classname and name and shows the text; Azure DevOps shows message and text."""
    cases = list(report(**over).iter("testcase"))
    keys = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(keys)) == len(keys) > 0
    for case in cases:
        for child in case:
            assert child.get("message")
            assert (child.text or "").startswith(child.get("message") or "?")


def test_the_text_of_a_failure_names_the_culprit():
    texts = [failure.text or "" for failure in report().iter("failure")]
    assert texts == [
        "fail: ttfa_ms.p95 < 1 (value 2, limit 1, n 3)\nLook at the model: ttfa_ms.p95 is 2 (limit 1)",
        "no_data: input_wer < 1 (value 2, limit 1, n 3): why\nLook at the model: ttfa_ms.p95 is 2 (limit 1)",
    ]


def test_the_properties_say_what_ran():
    found = {entry.get("name"): entry.get("value") for entry in report().iter("property")}
    assert found["run_id"] == "r1"
    assert found["credential"] == "entra (ManagedIdentityCredential)"
    assert found["culprit"] == "model"
    assert found["label.commit"] == "3f2a9c1"
    assert "model" not in found
