"""Gates that say more than a number: options, turns, intervals, and a baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from rteval.analysis.gates import (
    Facts,
    Gate,
    check_gates_against,
    check_gates_of_scorers,
    least_n,
    parse_gates,
    undecidable,
    word_of,
)
from rteval.analysis.intervals import Interval
from rteval.analysis.judging import GateResult, Verdict, Versus, judge_gates
from rteval.errors import GateError


def gate(text: str, **options: Any) -> Gate:
    return Gate.parse({"gate": text, **options})


# ---- how they are written ----

LIMITS = [
    pytest.param("ttfa_ms.p95 < baseline", (1.0, 0.0), "ttfa_ms.p95 < baseline", id="bare"),
    pytest.param("ttfa_ms.p95 < baseline * 1.10", (1.1, 0.0), "ttfa_ms.p95 < baseline * 1.1", id="times"),
    pytest.param("input_wer<=baseline+0.02", (1.0, 0.02), "input_wer <= baseline + 0.02", id="plus"),
    pytest.param("ttfa_ms.p50 <= baseline - 50", (1.0, -50.0), "ttfa_ms.p50 <= baseline - 50", id="minus"),
    pytest.param("v2v_ms.mean < baseline * 1.05 + 20", (1.05, 20.0), "v2v_ms.mean < baseline * 1.05 + 20", id="both"),
]


@pytest.mark.parametrize(("text", "parts", "canonical"), LIMITS)
def test_a_limit_may_follow_a_baseline(text: str, parts: tuple[float, float], canonical: str) -> None:
    found = Gate.parse(text)
    assert (found.factor, found.limit) == parts
    assert str(found) == canonical
    assert Gate.parse(canonical) == found


def test_a_mapping_says_more_and_comes_back_as_it_was_written() -> None:
    written = {
        "gate": "ttfa_ms.p95 < 1200",
        "confidence": 0.9,
        "min_n": 50,
        "severity": "warn",
        "inconclusive": "pass",
        "where": {"tag": ["billing", "sales"], "vip": True},
    }
    found = Gate.parse(written)
    assert found.where == (("tag", "billing"), ("tag", "sales"), ("vip", "true"))
    again = found.as_written()
    assert again == written | {"where": {"tag": ["billing", "sales"], "vip": ["true"]}}
    assert Gate.parse(again) == found
    assert gate("error_rate <= 0.01").as_written() == "error_rate <= 0.01"


REFUSED = [
    pytest.param({"min_n": 5}, "needs `gate: METRIC OP LIMIT`", id="no gate"),
    pytest.param(
        {"gate": "error_rate <= 0.01", "min": 5}, "no option is called 'min'; did you mean 'min_n'?", id="option"
    ),
    pytest.param({"gate": "error_rate <= 0.01", "confidence": 95}, "is not a share from 0.5 to below 1", id="per cent"),
    pytest.param({"gate": "error_rate <= 0.01", "min_n": 0}, "is not a whole number from 1", id="min_n"),
    pytest.param({"gate": "error_rate <= 0.01", "min_n": True}, "is not a whole number from 1", id="flag"),
    pytest.param({"gate": "error_rate <= 0.01", "severity": "info"}, "is not fail or warn", id="severity"),
    pytest.param({"gate": "error_rate <= 0.01", "inconclusive": "skip"}, "is not fail or pass", id="inconclusive"),
    pytest.param({"gate": "error_rate <= 0.01", "where": "billing"}, "is not a mapping of columns", id="where"),
    pytest.param({"gate": "error_rate <= 0.01", "where": {"tag": [None]}}, "is not a mapping of columns", id="null"),
    pytest.param({"gate": "error_rate <= 0.01", "where": {"tag": []}}, "is not a mapping of columns", id="no value"),
    pytest.param({"gate": "ttfa_ms.p50 > baseline * 0"}, "leaves nothing of the baseline", id="no baseline left"),
    pytest.param({"gate": "turns_per_s > 1", "where": {"tag": "a"}}, "is no number of single turns", id="whole run"),
    pytest.param({"gate": "connect_ms.p50 < 9", "where": {"tag": "a"}}, "is no number of single turns", id="sessions"),
    pytest.param({"gate": "error_rate == 0", "confidence": 0.9}, "an interval, which nothing equals", id="equal"),
    pytest.param({"gate": "ttfa_ms.max < 9", "confidence": 0.9}, "and ttfa_ms.max has none", id="extreme"),
]


@pytest.mark.parametrize(("written", "message"), REFUSED)
def test_an_option_that_cannot_be_is_refused_with_the_cure(written: dict[str, Any], message: str) -> None:
    with pytest.raises(GateError) as raised:
        Gate.parse(written)
    assert message in str(raised.value)


WORDS = [(True, "true"), ("False", "false"), (3, "3"), (3.0, "3"), (3.5, "3.5"), ("a b", "a b")]


@pytest.mark.parametrize(("value", "word"), WORDS)
def test_a_value_is_compared_as_it_is_written(value: object, word: str) -> None:
    assert word_of(value) == word


# ---- before anything connects ----

GROUPS = {"tag": {"billing", "sales"}, "vip": {"true"}}
IMPOSSIBLE = [
    pytest.param(gate("ttfa_ms.p50 < baseline"), {}, "no `baseline:`", id="no baseline"),
    pytest.param(gate("error_rate < 1", where={"tag": "biling"}), {}, "did you mean 'billing'?", id="no such tag"),
    pytest.param(gate("error_rate < 1", where={"vipp": 1}), {}, "no column of the dataset is called", id="no column"),
]


@pytest.mark.parametrize(("impossible", "facts", "message"), IMPOSSIBLE)
def test_a_gate_that_can_never_hold_is_refused(impossible: Gate, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(GateError) as raised:
        check_gates_against([impossible], Facts(references=1, groups=GROUPS, **facts))
    assert message in str(raised.value)


def test_a_gate_on_what_there_is_is_taken() -> None:
    gates = [
        gate("error_rate < 1", where={"tag": "sales", "vip": True, "worker": "w1"}),
        gate("ttfa_ms.p50 < baseline"),
    ]
    check_gates_against(gates, Facts(references=1, groups=GROUPS, baseline=True))
    check_gates_against([gate("error_rate < 1", where={"any": 1})], Facts(references=1))


LEAST = [
    pytest.param(gate("ttfa_ms.p95 < 1200", confidence=0.95), 72, id="p95 from above"),
    pytest.param(gate("ttfa_ms.p95 > 100", confidence=0.95), 2, id="p95 from below"),
    pytest.param(gate("ttfa_ms.p99 <= 1200", confidence=0.9), 299, id="p99"),
    pytest.param(gate("ttfa_ms.mean <= 1200", confidence=0.9), 5, id="mean"),
    pytest.param(gate("input_wer <= 0.1", confidence=0.95), 5, id="words are more than turns"),
    pytest.param(gate("error_rate <= 0.01", confidence=0.95), 381, id="share"),
    pytest.param(gate("checks.pass_rate >= 0.95", confidence=0.95), 73, id="share from below"),
    pytest.param(gate("entity_accuracy >= 0.95", confidence=0.95), 5, id="entities are more than turns"),
]


@pytest.mark.parametrize(("confident", "least"), LEAST)
def test_the_fewest_turns_with_which_a_gate_can_pass(confident: Gate, least: int) -> None:
    assert least_n(confident) == least
    assert [found for found, _ in undecidable([confident], least - 1)] == [confident]


SESSIONS = [
    pytest.param(gate("session_ready_ms.p95 < 900"), 4, "p95 needs 20 sessions, 4 are planned", id="p95 of sessions"),
    pytest.param(gate("session_ready_ms.p95 < 900"), None, None, id="how many there will be is not known"),
    pytest.param(gate("drop_rate <= 0.1", confidence=0.9), 20, "cannot pass below 25 sessions, 20", id="share"),
    pytest.param(gate("ttfa_ms.p50 < baseline"), 4, "needs 5 sessions, 4 are planned", id="turns in few sessions"),
    pytest.param(gate("ttfa_ms.mean < 9", confidence=0.9), 4, "needs 5 sessions, 4 are planned", id="an interval"),
    pytest.param(gate("ttfa_ms.p50 < baseline"), 5, None, id="turns in enough sessions"),
    pytest.param(gate("turns_per_s > 1"), 1, None, id="the whole run"),
    pytest.param(gate("input_tokens < 9"), 1, None, id="tokens"),
]


@pytest.mark.parametrize(("one", "sessions", "why"), SESSIONS)
def test_few_sessions_decide_nothing_however_many_turns_they_have(one: Gate, sessions: int | None, why: str) -> None:
    found = undecidable([one], 300, sessions)
    assert [sentence.endswith(why) or why in sentence for _, sentence in found] == ([True] if why else [])


def test_more_turns_asked_for_than_planned_cannot_be_decided() -> None:
    (found,) = undecidable([gate("ttfa_ms.p50 < 9", min_n=30), gate("ttfa_ms.p50 < baseline")], 29)
    assert found[1] == "p50 needs 30 turns, 29 are planned"


# ---- judged ----


@dataclass
class Made:
    """A difference whose interval is known: ``change`` for new - base, shifted by what a factor takes off the base."""

    base: float
    new: float
    change: tuple[float | None, float | None]
    paired: bool = True
    units: int = 30

    def interval(self, confidence: float, factor: float = 1.0) -> Interval:
        off = (factor - 1) * self.base
        return tuple(None if bound is None else bound - off for bound in self.change)  # type: ignore[return-value]


@dataclass
class Told:
    """Evidence as it was told."""

    versus_: Versus = field(default_factory=lambda: Versus(None))
    bounds_: Interval | None = None
    entry_: dict[str, Any] | None = None

    def entry(self, gate: Gate) -> dict[str, Any] | None:
        return self.entry_

    def bounds(self, gate: Gate, confidence: float) -> Interval | None:
        return self.bounds_

    def versus(self, gate: Gate) -> Versus:
        return self.versus_


def judged(one: Gate, value: float | None, told: Told | None = None, n: int = 30, **options: Any) -> GateResult:
    metrics = {one.metric: {"n": n, one.stat or "value": value}}
    (result,) = judge_gates([one], metrics, evidence=told, **options)
    return result


def against(
    text: str, base: float, new: float, change: tuple[float | None, float | None], **options: Any
) -> GateResult:
    return judged(gate(text, **options), new, Told(Versus(base, 30, Made(base, new, change))))


SLOWER = "ttfa_ms.p95 < baseline * 1.10"
BASELINE = [
    pytest.param(SLOWER, 1000, 1000, (-200, 200), "pass", id="no change"),
    pytest.param(SLOWER, 1000, 1150, (-50, 350), "pass", id="the point is beyond, but nothing is shown"),
    pytest.param(SLOWER, 1000, 1060, (20, 180), "pass", id="worse, the point within what is allowed"),
    pytest.param(SLOWER, 1000, 1150, (20, 280), "inconclusive", id="worse, and by how much is open"),
    pytest.param(SLOWER, 1000, 1250, (150, 350), "fail", id="wholly beyond"),
    pytest.param(SLOWER, 1000, 1050, (30, 90), "pass", id="worse, wholly within what is allowed"),
    pytest.param(SLOWER, 1000, 800, (-300, -100), "pass", id="better"),
    pytest.param(SLOWER, 1000, 1250, (150, None), "fail", id="no upper bound"),
    pytest.param(SLOWER, 1000, 1250, (None, 350), "pass", id="no lower bound"),
    pytest.param("ttfa_ms.p50 < baseline", 1000, 1010, (-20, 40), "pass", id="no slack, nothing shown"),
    pytest.param("ttfa_ms.p50 < baseline", 1000, 1030, (10, 50), "fail", id="no slack, worse"),
    pytest.param("ttfa_ms.p50 <= baseline * 0.9", 1000, 850, (-250, -50), "inconclusive", id="an improvement is open"),
    pytest.param("ttfa_ms.p50 <= baseline * 0.9", 1000, 850, (-200, -110), "pass", id="an improvement is shown"),
    pytest.param("ttfa_ms.p50 <= baseline * 0.9", 1000, 990, (-60, 40), "fail", id="no improvement"),
    pytest.param("input_wer <= baseline + 0.02", 0.05, 0.09, (0.025, 0.055), "fail", id="rate, beyond"),
    pytest.param("input_wer <= baseline + 0.02", 0.05, 0.06, (-0.01, 0.03), "pass", id="rate, no change"),
    pytest.param("checks.pass_rate >= baseline - 0.05", 0.95, 0.7, (-0.35, -0.15), "fail", id="less is worse"),
    pytest.param("checks.pass_rate >= baseline - 0.05", 0.95, 0.88, (-0.12, -0.01), "inconclusive", id="less, open"),
    pytest.param("checks.pass_rate >= baseline - 0.05", 0.95, 0.97, (-0.03, 0.07), "pass", id="more is better"),
]


@pytest.mark.parametrize(("text", "base", "new", "change", "verdict"), BASELINE)
def test_a_gate_against_a_baseline_is_judged_by_the_interval(
    text: str, base: float, new: float, change: tuple[float | None, float | None], verdict: str
) -> None:
    result = against(text, base, new, change)
    assert result.verdict.value == verdict
    assert (result.reason is None) is (verdict == "pass")
    assert result.missed is (verdict != "pass")


def test_what_a_gate_against_a_baseline_says() -> None:
    result = against(SLOWER, 1000.0, 1250.0, (150.0, 350.0)).as_dict()
    assert result == {
        "text": SLOWER,
        "metric": "ttfa_ms.p95",
        "value": 1250.0,
        "limit": pytest.approx(1100.0),
        "verdict": "fail",
        "reason": "ttfa_ms.p95 is 1250, the baseline's 1000 (n 30 against 30); with 0.95 confidence the change is "
        "150 to 350, allowed is +100",
        "n": 30,
        "severity": "fail",
        "missed": True,
        "baseline": 1000.0,
        "baseline_n": 30,
        "confidence": 0.95,
        "interval": [150.0, 350.0],
    }
    passed = against(SLOWER, 1000.0, 1150.0, (-50.0, None)).as_dict()
    assert passed["note"] == "not shown to be worse; with 0.95 confidence the change is above -50"
    assert passed["interval"] == [-50.0, None]
    within = against(SLOWER, 1000.0, 1060.0, (20.0, 180.0)).as_dict()
    assert within["note"].startswith("worse, by no more than is allowed as far as it shows; with 0.95")


def test_a_baseline_that_is_not_there_is_no_data() -> None:
    one = gate(SLOWER)
    assert judged(one, 900.0).reason == "there is no baseline"
    missing = judged(one, 900.0, Told(Versus(None, reason="there is no file base.json")))
    assert (missing.verdict, missing.reason, missing.missed) == (Verdict.NO_DATA, "there is no file base.json", True)
    assert missing.as_dict()["limit"] is None
    skipped = judged(one, 900.0, Told(Versus(None, reason="none yet", forgiven=True)))
    assert (skipped.verdict, skipped.missed) == (Verdict.NO_DATA, False)
    assert judged(one, 900.0, Told()).reason == "the baseline has no such number"
    few = judged(one, 900.0, Told(Versus(1000.0, 3)), n=4)
    assert (few.verdict, few.reason) == (Verdict.NO_DATA, "too little to compare: n 4 against 3")


CONFIDENT = [
    pytest.param("ttfa_ms.p95 < 1200", (900.0, 1100.0), "pass", id="wholly below"),
    pytest.param("ttfa_ms.p95 < 1200", (1250.0, 1400.0), "fail", id="wholly above"),
    pytest.param("ttfa_ms.p95 < 1200", (1100.0, 1300.0), "inconclusive", id="across"),
    pytest.param("ttfa_ms.p95 < 1200", (900.0, None), "inconclusive", id="no upper bound"),
    pytest.param("ttfa_ms.p95 < 1200", (1250.0, None), "fail", id="no upper bound, and above"),
    pytest.param("ttfa_ms.p95 < 1200", (None, None), "inconclusive", id="no bound at all"),
    pytest.param("ttfa_ms.p95 >= 800", (900.0, None), "pass", id="from below"),
    pytest.param("ttfa_ms.p95 >= 800", (500.0, 700.0), "fail", id="from below, wholly below"),
    pytest.param("ttfa_ms.p95 >= 800", (None, 900.0), "inconclusive", id="no lower bound"),
    pytest.param("ttfa_ms.p95 < 1200", None, "no_data", id="no interval"),
]


@pytest.mark.parametrize(("text", "bounds", "verdict"), CONFIDENT)
def test_with_a_confidence_the_whole_interval_must_hold(text: str, bounds: Interval | None, verdict: str) -> None:
    result = judged(gate(text, confidence=0.9), 1000.0, Told(bounds_=bounds))
    assert result.verdict.value == verdict
    if bounds is not None:
        assert result.as_dict()["confidence"] == 0.9
        assert result.reason is None or "with 0.9 confidence" in result.reason


def test_without_evidence_a_confidence_has_no_data() -> None:
    assert judged(gate("ttfa_ms.p95 < 1200", confidence=0.9), 1000.0).verdict is Verdict.NO_DATA


MILD = [
    pytest.param({"severity": "warn"}, (150, 350), "fail", id="a warning"),
    pytest.param({"severity": "warn"}, (20, 280), "inconclusive", id="an open warning"),
    pytest.param({"inconclusive": "pass"}, (20, 280), "inconclusive", id="what is open passes"),
]


@pytest.mark.parametrize(("options", "change", "verdict"), MILD)
def test_a_gate_may_be_told_and_not_decide(options: dict[str, str], change: tuple[float, float], verdict: str) -> None:
    result = against(SLOWER, 1000, 1150, change, **options)
    assert (result.verdict.value, result.missed) == (verdict, False)


def test_what_is_open_passes_and_what_is_shown_does_not() -> None:
    assert against(SLOWER, 1000, 1250, (150, 350), inconclusive="pass").missed


def test_fewer_samples_than_asked_for_are_no_data() -> None:
    result = judged(gate("ttfa_ms.p50 < 1200", min_n=50), 900.0, n=30)
    assert (result.verdict, result.reason) == (Verdict.NO_DATA, "n too small: 30 of at least 50 (min_n)")
    assert judged(gate("ttfa_ms.p50 < 1200", min_n=30), 900.0, n=30).verdict is Verdict.PASS


def test_some_turns_are_judged_by_their_own_number() -> None:
    one = gate("ttfa_ms.p50 < 1200", where={"tag": "billing"})
    result = judged(one, 5000.0, Told(entry_={"n": 7, "p50": 900.0}))
    assert (result.verdict, result.value, result.n) == (Verdict.PASS, 900.0, 7)
    assert result.as_dict()["where"] == [["tag", "billing"]]
    nobody = judged(one, 5000.0, Told(entry_={"n": 0, "reason": "no sample of a turn with tag billing"}))
    assert nobody.reason == "no sample of a turn with tag billing"
    assert judged(one, 5000.0).reason == "not measured"


def test_an_invalid_run_has_no_verdict_on_times_whatever_the_baseline() -> None:
    assert judged(gate(SLOWER), 900.0, invalid="late").verdict is Verdict.INVALID


def test_faults_of_mappings_are_listed_with_the_others() -> None:
    with pytest.raises(GateError, match=r"(?s)cannot be judged.*severity.*nonsense"):
        parse_gates([{"gate": "error_rate < 1", "severity": "x"}, "nonsense < 1"])


# ---- metrics that only some runs have ----

RARE = [
    pytest.param(gate("entity_accuracy >= 0.9"), {}, "no item of the dataset expects entities", id="entities"),
    pytest.param(gate("output_silence_share.p50 < 0.5"), {}, "the answers' audio is not kept", id="audio"),
    pytest.param(gate("entity_accuracy >= 0.9"), {"entities": 3}, None, id="entities that there are"),
    pytest.param(gate("output_silence_share.p50 < 0.5"), {"audio": True}, None, id="audio that is kept"),
]


@pytest.mark.parametrize(("rare", "facts", "message"), RARE)
def test_a_gate_on_what_is_not_made_is_refused(rare: Gate, facts: dict[str, Any], message: str | None) -> None:
    if message is None:
        check_gates_against([rare], Facts(references=1, **facts))
        return
    with pytest.raises(GateError) as raised:
        check_gates_against([rare], Facts(references=1, **facts))
    assert message in str(raised.value)


def test_a_scorers_metric_is_known_by_the_checks_of_the_run() -> None:
    known = ("polite", "scorers.tone.warm")
    assert Gate.parse("scorers.tone.warm >= 0.5", checks=known).metric == "scorers.tone.warm"
    with pytest.raises(GateError, match=r"scorers\.tone\.warm"):
        Gate.parse("scorers.tone.worm >= 0.5", checks=known)
    with pytest.raises(GateError, match="the scenario has no scorers"):
        Gate.parse("scorers.tone.warm >= 0.5")


OF_SINGLE_TURNS = [
    pytest.param({"confidence": 0.9}, "confidence", id="confidence"),
    pytest.param({"where": {"tag": "billing"}}, "where", id="where"),
    pytest.param({"gate": "scorers.tone.warm >= baseline"}, "baseline", id="baseline"),
]


@pytest.mark.parametrize(("options", "what"), OF_SINGLE_TURNS)
def test_a_scorers_number_of_the_whole_run_is_held_against_numbers_only(options: dict[str, Any], what: str) -> None:
    plain = {"gate": "scorers.tone.warm >= 0.5"}
    simple, asking = (Gate.parse(one, checks=("scorers.tone.warm",)) for one in (plain, plain | options))
    check_gates_of_scorers([simple, asking], {"scorers.tone.loud"})
    with pytest.raises(GateError, match=rf"whole run only, and {what} needs .*Metric\(\.\.\., of=COLUMN\)"):
        check_gates_of_scorers([simple, asking], {"scorers.tone.warm"})


def test_what_else_differs_is_told_with_every_verdict() -> None:
    versus = Versus(1000.0, 30, Made(1000.0, 900.0, (-150.0, -50.0)), unfair=("other dialects",))
    assert judged(gate(SLOWER), 900.0, Told(versus)).note == "not fair: other dialects"
    red = Versus(1000.0, 30, Made(1000.0, 1250.0, (150.0, 350.0)), unfair=("other dialects",))
    assert (judged(gate(SLOWER), 1250.0, Told(red)).reason or "").endswith("allowed is +100; not fair: other dialects")


def test_a_scorers_metric_may_have_an_interval_a_baseline_and_turns() -> None:
    for options in ({"confidence": 0.9}, {"where": {"tag": "billing"}}, {"gate": "scorers.tone.warm >= baseline"}):
        found = Gate.parse({"gate": "scorers.tone.warm >= 0.5", **options}, checks=("scorers.tone.warm",))
        assert found.metric == "scorers.tone.warm"
        assert undecidable([found], 30, 30) == []
    (named,) = undecidable([Gate.parse("scorers.tone.warm > 0", checks=("scorers.tone.warm",))], 0)
    assert named[1] == "scorers.tone.warm needs 1 turns, 0 are planned"
