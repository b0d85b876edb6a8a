"""Whose fault a red run is: the model's, the quota's, the login's, the network's, this machine's, or ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .aggregate import ERRORS, THROTTLED
from .load import NOT_STARTED
from .metrics import SCORERS, Source, find_metric

__all__ = ["NAMES", "Culprit", "Who", "find_culprit", "is_missed"]


class Who(StrEnum):
    """Who has to act on a red run; in this order where there are several, since each may bring about those below it."""

    RTEVAL = "rteval"
    """A bug of ours."""
    RUNNER = "runner"
    """The machine that ran it: too slow, stopped, or gone."""
    ACCESS = "access"
    """The login: the target does not take our credential."""
    QUOTA = "quota"
    """The target slowed us down, or the account is used up."""
    TARGET = "target"
    """The network or the service: not reached, dropped, stalled, failed by itself."""
    MODEL = "model"
    """Answers that came, and were too late or not good enough."""
    SCENARIO = "scenario"
    """What was asked for: a deployment that does not exist, too few turns, a limit of its own."""


NAMES: Mapping[Who, str] = {
    Who.RTEVAL: "rteval itself",
    Who.RUNNER: "the runner",
    Who.ACCESS: "the login",
    Who.QUOTA: "the quota",
    Who.TARGET: "the network or the service",
    Who.MODEL: "the model",
    Who.SCENARIO: "the scenario",
}
"""What each is called in a sentence."""

_SHOWN = 3

# Error codes by what they mean; the first that fits, then the outcome decides. Sources: the codes that the services
# send (client/refusal.py, realtime/turn.py) and those that the transport gives to errors of the network.
_CODES: tuple[tuple[Who, re.Pattern[str]], ...] = (
    (Who.QUOTA, re.compile(rf"{THROTTLED}|insufficient_quota|quota_exceeded", re.I)),
    (Who.ACCESS, re.compile(r"^http_40[13]$|invalid_api_key|no_credential|permission_?denied|unauthori[sz]ed", re.I)),
    (
        Who.SCENARIO,
        re.compile(
            r"^http_(?:3\d\d|400|404|431)$|(?:model|deployment)_?not_?found|(?:invalid|missing)_model"
            r"|beta_api_shape_disabled|invalid_request|invalid_value|unknown_parameter",
            re.I,
        ),
    ),
    (
        Who.MODEL,
        re.compile(r"^(?:speech_not_detected|turn_end_not_detected|turn_detected|content_filter|max_output_tokens)$"),
    ),
)
_OUTCOMES = {"incomplete": Who.MODEL, "empty": Who.MODEL}

_BY_FAILURES = ("error_rate", "setup_success_rate", "drop_rate")
"""Metrics that say how often something went wrong: what went wrong decides."""

_OF_RUNNER = ("start_lag_ms",)
_OF_PLACES = (NOT_STARTED, "start_lag_ms", "wait_ms")
_HARDLY_ANY = 0.1
"""So many failed turns for each that was ok are too few to have filled ``load.max_sessions``."""
_OF_LOAD = ("sessions_peak", "sessions_per_s", "turns_per_s", "not_started")
"""How much of the asked load was carried: with a healthy generator, the target was too slow to take more."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """Who is to blame, and what shows it.

    Attributes:
        who: the first of those to blame.
        sentence: for people; names, numbers and codes only, never a text of the target.
        also: others whose gates were missed, too.
    """

    who: Who
    sentence: str
    also: tuple[Who, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``summary.json``."""
        return {"who": self.who.value, "sentence": self.sentence, "also": [who.value for who in self.also]}


def find_culprit(
    run: Mapping[str, Any], summary: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]
) -> Culprit | None:
    """Name who has to act on a run; ``None`` for one that is green.

    Args:
        run: what was run (``run.json``); ``end`` and ``load`` are looked at.
        summary: what came out: ``exit_code``, ``gates``, ``health``, ``counts``.
        failures: rows of ``stage``, ``outcome``, ``code`` and ``n``: kinds of turns that were not ok.
    """
    code = summary["exit_code"]
    if code == 0:
        return None
    end = run.get("end") or {}
    reason, detail = str(end.get("reason") or "killed"), str(end.get("detail") or "")
    turns, blamed = int(summary["counts"]["turns"]), _blamed(failures)
    match code:
        case 70:
            return _culprit(Who.RTEVAL, f"a bug ended the run{f' ({detail})' if detail else ''}")
        case 130 | 143:
            return _culprit(Who.RUNNER, f"the run was stopped by {'SIGINT' if code == 130 else 'SIGTERM'}")
        case 2:
            return _culprit(Who.RUNNER, "a recording or the disk went away while it ran")
        case 3:
            who = max(blamed, key=lambda one: blamed[one][0], default=Who.TARGET)
            return _culprit(who, f"no session became ready{_evidence(blamed.get(who), turns)}")
        case 5 if not detail.startswith("limits.error_rate"):
            return _culprit(Who.SCENARIO, f"a limit of its own ended the run{f' ({detail})' if detail else ''}")
        case 4 if reason == "workers_lost":
            return _culprit(Who.RUNNER, detail or "no worker was left to hold sessions")
        case 4:
            reasons = summary["health"]["reasons"]
            return _culprit(Who.RUNNER, str(reasons[0]) if reasons else "the generator was the bottleneck")
        case 5:
            who = max(blamed, key=lambda one: blamed[one][0], default=Who.TARGET)
            return _culprit(who, f"too many turns failed{_evidence(blamed.get(who), turns)}")
    return _of_gates(summary, blamed, turns, _full(run, summary, blamed)) or _not_complete(summary, reason)


Blame = Mapping[Who, tuple[int, Mapping[str, int]]]
"""For each how many turns, and how many of each code."""


def _blamed(failures: Iterable[Mapping[str, Any]]) -> Blame:
    found: dict[Who, tuple[int, dict[str, int]]] = {}
    rest: Mapping[str, Any] | None = None
    for row in failures:
        outcome, code, n = str(row["outcome"]), str(row["code"] or row["outcome"]), int(row["n"])
        if outcome not in ERRORS or code == NOT_STARTED:
            continue
        if code == "conversation_lost":
            rest = row  # what broke the conversation is to blame
            continue
        who = _who_failed(outcome, code)
        total, codes = found.get(who, (0, {}))
        codes[code] = codes.get(code, 0) + n
        found[who] = total + n, codes
    if not found and rest is not None:
        found[Who.TARGET] = int(rest["n"]), {"conversation_lost": int(rest["n"])}
    return found


def _who_failed(outcome: str, code: str) -> Who:
    named = next((who for who, pattern in _CODES if pattern.search(code)), None)
    return named or _OUTCOMES.get(outcome, Who.TARGET)


def _full(run: Mapping[str, Any], summary: Mapping[str, Any], blamed: Blame) -> int | None:
    """The bound of ``load.max_sessions``, if it was reached and hardly a turn failed, which else may have filled it."""
    load, peak = run.get("load") or {}, (summary.get("metrics") or {}).get("sessions_peak", {}).get("value")
    bound = load.get("peak") if load.get("model") == "open" else None
    failed = sum(total for total, _ in blamed.values())
    hardly_any = failed <= _HARDLY_ANY * (summary["counts"].get("outcomes") or {}).get("ok", 0)
    return bound if bound is not None and peak is not None and peak >= bound and hardly_any else None


def _of_gates(summary: Mapping[str, Any], blamed: Blame, turns: int, full: int | None) -> Culprit | None:
    """The culprits of the gates that were missed, the first one with its evidence."""
    some_ok = bool((summary["counts"].get("outcomes") or {}).get("ok"))
    missed: dict[Who, list[Mapping[str, Any]]] = {}
    for gate in summary["gates"]:
        if is_missed(gate):
            bounded = full is not None and gate["verdict"] == "fail" and _is_about_places(gate)
            who = Who.SCENARIO if bounded else _who_missed(gate, blamed, some_ok)
            missed.setdefault(who, []).append(gate)
    if not missed:
        return None
    # A gate that had nothing to go by accuses nobody as long as another one was missed by its number.
    first, *others = sorted(
        missed, key=lambda who: (all(_is_unknown(gate) for gate in missed[who]), list(Who).index(who))
    )
    if first in blamed and any(_is_about_failures(gate) for gate in missed[first]):
        said = f"{_evidence(blamed[first], turns, plain=True)} ({_names(missed[first])})"
    else:
        said = _said(missed[first])
    if first is Who.SCENARIO and full is not None and any(_is_about_places(gate) for gate in missed[first]):
        said += f"; all {full} of load.max_sessions were in use: allow more, or see why sessions last so long"
    return _culprit(first, said, others)


def is_missed(gate: Mapping[str, Any]) -> bool:
    """Tell whether the run went wrong by a gate of its summary: one that only warns, or was forgiven, does not."""
    missed = gate.get("missed")
    return bool(gate["verdict"] != "pass" if missed is None else missed)


def _who_missed(gate: Mapping[str, Any], blamed: Blame, some_ok: bool) -> Who:
    name, verdict = str(gate["metric"]), gate["verdict"]
    metric = find_metric(name) or find_metric(name.rpartition(".")[0])
    base = metric.name if metric is not None else name
    worst = max(blamed, key=lambda one: blamed[one][0], default=None)
    is_of_runner = base in _OF_RUNNER or (metric is not None and metric.source is Source.HEALTH)
    if verdict == "invalid" or (is_of_runner and verdict != "no_data"):
        return Who.RUNNER
    if verdict == "inconclusive":
        return Who.SCENARIO
    if verdict == "no_data" and base.startswith(SCORERS) and some_ok:
        return Who.SCENARIO  # there was something to score: a missing key, a judge that is away
    if verdict == "no_data":
        return worst or Who.SCENARIO
    if base == "throttle_rate":
        return Who.QUOTA
    if base in _BY_FAILURES:
        return worst or Who.TARGET
    if base in _OF_LOAD or (metric is not None and metric.source is Source.SESSIONS):
        return Who.TARGET
    return Who.MODEL


def _is_about_places(gate: Mapping[str, Any]) -> bool:
    """Whether it misses where callers find no place, or wait for one."""
    return str(gate["metric"]).partition(".")[0] in _OF_PLACES


def _is_unknown(gate: Mapping[str, Any]) -> bool:
    return gate["verdict"] in ("no_data", "inconclusive")


def _is_about_failures(gate: Mapping[str, Any]) -> bool:
    return gate["metric"] in (*_BY_FAILURES, "throttle_rate") or gate["verdict"] == "no_data"


def _not_complete(summary: Mapping[str, Any], reason: str) -> Culprit:
    counts = summary["counts"]
    if reason == "stopped":
        return _culprit(Who.RUNNER, "the run was stopped in the web UI")
    if reason == "killed" or (counts["turns"] and not counts["not_recorded"]):
        return _culprit(Who.RUNNER, "the run never said that it ended: it was killed, or its machine went down")
    if not counts["turns"]:
        return _culprit(Who.RTEVAL, "not one turn was recorded")
    missing = f"{counts['not_recorded']} of {counts['planned']} planned turns were not recorded"
    return _culprit(Who.RUNNER if counts["torn_lines"] else Who.RTEVAL, missing)


# ---- in words ----


def _culprit(who: Who, said: str, also: Sequence[Who] = ()) -> Culprit:
    others = f"; also {' and '.join(NAMES[other] for other in also)}" if also else ""
    return Culprit(who, f"{NAMES[who]}: {said}{others}", tuple(also))


def _evidence(blame: tuple[int, Mapping[str, int]] | None, turns: int, *, plain: bool = False) -> str:
    if blame is None:
        return ""
    total, codes = blame
    most = sorted(codes.items(), key=lambda code: (-code[1], code[0]))
    named = ", ".join(code if len(codes) == 1 else f"{code} {n}" for code, n in most[:_SHOWN])
    said = f"{total} of {turns} turns failed with {named}{', ...' if len(most) > _SHOWN else ''}"
    return said if plain else f": {said}"


def _names(gates: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(gate["metric"]) for gate in gates)


def _said(gates: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        f"{gate['metric']} is {_plain(gate['value'])} (limit {_plain(gate['limit'])})"
        if gate["verdict"] == "fail" and gate["value"] is not None and gate.get("limit") is not None
        else f"{gate['metric']} could not be decided"
        for gate in gates[:_SHOWN]
    ]
    return f"{', '.join(parts)}{', ...' if len(gates) > _SHOWN else ''}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
