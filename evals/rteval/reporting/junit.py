"""``junit.xml``: one test case a gate, so that the test tab of a CI service and the exit code say the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from ..analysis.culprit import is_missed
from .load import incidents_of
from .words import say_culprit, say_gate, say_verdict

__all__ = ["junit", "xml_text"]

SHOWN_FAILURES = 200

# What XML 1.0 cannot hold, however it is written (section 2.2, "Char").
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: object) -> str:
    """Return text without the characters that no XML document may hold; each becomes U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", str(text))


def junit(run: Mapping[str, Any], summary: Mapping[str, Any], failed_turns: Sequence[Mapping[str, Any]]) -> str:
    """Return the report.

    A missed gate is a failure; a gate without a verdict, because the run is invalid, an error. A run whose exit code
    its gates do not explain (stopped, refused, not complete) gets a case ``run`` with an error.

    Args:
        run: what was run (``run.json``).
        summary: what came out (``summary.json``).
        failed_turns: rows of ``session``, ``turn``, ``item``, ``outcome``, ``failure_stage``, ``error_code``,
            ``error_message``; they go to ``system-out``.
    """
    name = xml_text((run.get("scenario") or {}).get("name") or "run")
    # What Ant's schema wants of a suite and Jenkins' allows, so that every reader takes the file: an id, a package, a
    # host, a time without a zone, properties first and both outputs last.
    suite = ET.Element("testsuite", name=f"rteval.{name}", id="0", package="rteval", hostname="localhost")
    suite.set("timestamp", xml_text(run.get("started_at") or "1970-01-01T00:00:00")[:19])
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(run, summary):
        ET.SubElement(properties, "property", name=xml_text(key), value=xml_text(value))
    for case_name, gate in zip(_names(summary["gates"]), summary["gates"], strict=True):
        case = ET.SubElement(suite, "testcase", classname=f"rteval.{name}", name=xml_text(case_name), time="0")
        if is_missed(gate):
            kind = "error" if gate["verdict"] == "invalid" else "failure"
            told = ET.SubElement(case, kind, type=xml_text(gate["verdict"]), message=xml_text(say_gate(gate)))
            # GitLab shows the text, not the message.
            told.text = xml_text("\n".join(filter(None, [say_gate(gate), say_culprit(summary)])))
    unexplained = summary["exit_code"] != 0 and not list(suite.iter("failure")) and not list(suite.iter("error"))
    if unexplained or summary["exit_code"] not in (0, 1) or not summary["gates"]:
        case = ET.SubElement(suite, "testcase", classname=f"rteval.{name}", name="run", time="0")
        if summary["exit_code"] != 0:
            reasons = summary["health"]["reasons"] if summary["exit_code"] == 4 else ()
            error = ET.SubElement(case, "error", type=summary["state"], message=xml_text(say_verdict(summary)))
            error.text = xml_text("\n".join(filter(None, [say_verdict(summary), say_culprit(summary), *reasons])))
    ET.SubElement(suite, "system-out").text = xml_text("\n".join(_lines(run, summary, failed_turns)))
    ET.SubElement(suite, "system-err")
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(len(list(suite.iter(tag)))))
    suite.set("skipped", "0")
    suite.set("time", f"{_seconds(run):.3f}")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _properties(run: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    yield "run_id", summary["run_id"]
    yield "state", summary["state"]
    yield "exit_code", summary["exit_code"]
    target = run.get("target") or {}
    yield from ((key, target[key]) for key in ("provider", "dialect", "model", "credential") if target.get(key))
    if summary.get("culprit"):
        yield "culprit", summary["culprit"]["who"]
    yield from ((f"label.{key}", value) for key, value in (run.get("labels") or {}).items())


def _names(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """A gate's case is named by its metric, so that its history survives another limit; two of one metric differ."""
    times = Counter(gate["metric"] for gate in gates)
    return [str(gate["metric"] if times[gate["metric"]] == 1 else gate["text"]) for gate in gates]


def _lines(
    run: Mapping[str, Any], summary: Mapping[str, Any], failed_turns: Sequence[Mapping[str, Any]]
) -> Iterable[str]:
    yield f"run {summary['run_id']} in {summary['run_dir']}"
    yield say_verdict(summary)
    # A gate that only warns, or was forgiven, is no failure; here a reader still finds it.
    yield from (say_gate(gate) for gate in summary["gates"] if gate["verdict"] != "pass" and not is_missed(gate))
    yield from incidents_of(run)
    yield f"{len(failed_turns)} of {summary['counts']['turns']} turns were not ok"
    for turn in failed_turns[:SHOWN_FAILURES]:
        where = "/".join(str(turn[key]) for key in ("failure_stage", "error_code") if turn[key])
        message = f": {str(turn['error_message'])[:200]}" if turn["error_message"] else ""
        yield f"session {turn['session']} turn {turn['turn']} item {turn['item']}: {turn['outcome']} {where}{message}"
    if len(failed_turns) > SHOWN_FAILURES:
        yield f"and {len(failed_turns) - SHOWN_FAILURES} more, in turns.parquet"


def _seconds(run: Mapping[str, Any]) -> float:
    started, ended = run.get("started_ns"), run.get("ended_ns")
    return max((ended - started) / 1e9, 0.0) if isinstance(started, int) and isinstance(ended, int) else 0.0
