from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from rteval.judge import judge
from rteval.records import HealthSample, Outcome, SessionRecord, Stage, TranscriptOutcome, TurnRecord, Usage
from rteval.shards import ShardWriter

T0 = 1_000_000_000_000_000
MS = 1_000_000

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]
MakeSession = Callable[..., SessionRecord]


def metrics(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = judge(run_dir, reports_written=False).summary["metrics"]
    return found


def test_only_ok_turns_outside_the_warm_up_enter_a_latency(make_run: MakeRun, make_turn: MakeTurn) -> None:
    slow = {"first_audio_ns": T0 + 9000 * MS}
    turns = [
        make_turn("a"),
        make_turn("b", warmup=True, **slow),
        *(make_turn(f"x{n}", outcome=outcome, **slow) for n, outcome in enumerate(Outcome) if outcome != "ok"),
        make_turn("c", first_audio_ns=None, modality_missing=True),
    ]
    found = metrics(make_run(turns))
    assert (found["ttfa_ms"]["n"], found["ttfa_ms"]["max"], found["ttfa_ms"]["left_out"]) == (1, 300.0, 9)
    assert found["response_ms"]["n"] == 2
    assert found["delta_gap_ms"]["n"] == 4  # two gaps of each ok turn


def test_the_error_rate_counts_what_the_target_did_wrong(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """Errors over all turns but the cut ones and the warm-up; a scripted cancel is no error."""
    turns = [make_turn(f"s{n}", outcome=outcome) for n, outcome in enumerate(Outcome)]
    turns += [make_turn("w", outcome=Outcome.FAILED, warmup=True)]
    found = metrics(make_run(turns))["error_rate"]
    assert (found["value"], found["n"], found["left_out"]) == (6 / 8, 8, 2)


CODES = {
    "http_429": True,
    "429": True,
    "rate_limit_exceeded": True,
    "too_many_requests": True,
    "http_4290": False,
    "server_error": False,
    None: False,
}


def test_throttling_is_known_by_its_code(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [make_turn(f"s{n}", outcome=Outcome.REFUSED, error_code=code) for n, code in enumerate(CODES)]
    assert metrics(make_run(turns))["throttle_rate"]["value"] == sum(CODES.values()) / len(CODES)


def test_word_errors_are_pooled_over_turns_with_a_transcript(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [
        make_turn("a", reference="red green blue", input_transcript="Red, green, blue."),
        make_turn("b", reference="yes", input_transcript="no"),
        make_turn("c", reference="", input_transcript="uninvited"),
        make_turn("d", reference="never heard", transcript_outcome=TranscriptOutcome.MISSING, input_transcript=None),
        make_turn("e", reference="never heard", transcript_outcome=TranscriptOutcome.FAILED),
        make_turn("f", reference=None),
        make_turn("g", reference="practice run", input_transcript="", warmup=True),
        make_turn("h", reference="lost answer", input_transcript="lost", outcome=Outcome.DROPPED),
        make_turn("i", reference="silence", input_transcript=None),
    ]
    run_dir = make_run(turns)
    found = metrics(run_dir)
    # 3 + 1 + 0 + 2 + 1 reference words; errors: 0, 1, 1 (insertion), 1 (deletion), 1 (an empty text is a text).
    assert found["input_wer"]["value"] == 4 / 7
    assert (found["input_wer"]["n"], found["input_wer"]["left_out"]) == (5, 1)
    assert found["transcript_missing_rate"]["value"] == 2 / 8
    rows = pd.read_parquet(run_dir / "turns.parquet").set_index("session")
    assert pd.isna(rows.loc["c", "input_wer"])
    assert rows.loc["c", "input_wer_reason"] == "the reference has no words"
    assert rows.loc["d", "input_wer_reason"] == "transcription missing"
    assert rows.loc["f", "input_wer_reason"] == "the item has no reference"
    assert rows["normalizer"].str.startswith("whisper_english/").all()


def test_each_language_has_its_normaliser(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [
        make_turn("a", language="en-US"),
        make_turn("b", language="de", reference="zwei", input_transcript="Zwei."),
    ]
    run_dir = make_run(turns)
    assert metrics(run_dir)["input_wer"]["value"] == 0.0
    names = pd.read_parquet(run_dir / "turns.parquet").set_index("session")["normalizer"]
    assert names["a"].startswith("whisper_english/")
    assert names["b"].startswith("whisper_basic/")


def test_answers_are_compared_where_one_is_expected(make_run: MakeRun, make_turn: MakeTurn) -> None:
    expect = {"answer": "thank you please hold"}
    turns = [
        make_turn("a", expect=expect),
        make_turn("b", expect=expect, output_transcript=None, output_text="thank you please"),
        make_turn("c", expect=expect, outcome=Outcome.TIMEOUT),
        make_turn("d", expect=expect, output_transcript=None),
        make_turn("e"),
    ]
    run_dir = make_run(turns)
    assert metrics(run_dir)["output_wer"]["value"] == 1 / 8
    reasons = pd.read_parquet(run_dir / "turns.parquet").set_index("session")["output_wer_reason"]
    assert reasons[["c", "d", "e"]].tolist() == [
        "the turn ended timeout",
        "the answer has neither transcript nor text",
        "the item expects no answer",
    ]


def test_without_references_there_is_no_rate_and_a_reason(make_run: MakeRun, make_turn: MakeTurn) -> None:
    found = metrics(make_run([make_turn(reference=None)]))["input_wer"]
    assert (found["value"], found["n"]) == (None, 0)
    assert found["reason"] == "no turn with both a reference and a transcript"


def test_word_errors_can_be_switched_off(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([make_turn()], scoring={"normalizer": "none", "wer": False})
    assert metrics(run_dir)["input_wer"]["reason"] == "word errors are not scored"
    assert "input_wer" not in pd.read_parquet(run_dir / "turns.parquet")


def test_checks_count_where_they_apply(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [
        make_turn("a", expect={"contains": "hold"}),
        make_turn("b", expect={"contains": "nothing like it"}),
        make_turn("c", expect={"contains": "hold"}, outcome=Outcome.EMPTY),
        make_turn("d", expect={"contains": "hold"}, warmup=True),
        make_turn("e", expect={"regex": "("}),
        make_turn("f"),
    ]
    scoring = {"normalizer": "whisper_english", "wer": True, "checks": {"polite": {"regex": "please", "equals": None}}}
    run_dir = make_run(turns, scoring=scoring, checks=["polite", "contains", "regex"])
    found = metrics(run_dir)
    assert (found["checks.contains"]["value"], found["checks.contains"]["n"]) == (0.5, 2)
    assert found["checks.contains"]["left_out"] == 2
    assert (found["checks.polite"]["value"], found["checks.polite"]["n"]) == (1.0, 4)
    assert (found["checks.regex"]["value"], found["checks.regex"]["n"]) == (None, 0)
    assert found["checks.pass_rate"]["value"] == 5 / 6
    rows = pd.read_parquet(run_dir / "turns.parquet").set_index("session")
    assert rows["check_contains"].tolist() == [True, False, pd.NA, True, pd.NA, pd.NA]
    assert rows.loc["c", "check_contains_reason"] == "the turn ended empty"
    assert rows.loc["f", "check_contains_reason"] == "the item does not ask for it"
    assert rows.loc["e", "check_regex_reason"].startswith("the pattern cannot be read")


def test_expectations_that_cannot_be_read_are_no_expectations(make_run: MakeRun, make_turn: MakeTurn) -> None:
    scoring = {"checks": {"empty": {}}}
    run_dir = make_run([make_turn(expect={}, tool_calls=({"name": "f", "arguments": "{}"},))], scoring=scoring)
    found = metrics(run_dir)
    assert found["checks.empty"]["n"] == 0
    assert found["checks.pass_rate"]["reason"] == "no check could be judged"


def test_sessions_are_measured_from_the_connect(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    lost: dict[str, Any] = {"connected_ns": None, "ready_ns": None}
    sessions = [
        make_session("a"),
        make_session("b", drop=True),
        make_session("c", outcome="refused", **lost),
        make_session("d", outcome="cut", **lost),
    ]
    found = metrics(make_run([make_turn("a"), make_turn("b")], sessions))
    assert (found["connect_ms"]["p50"], found["connect_ms"]["n"], found["connect_ms"]["left_out"]) == (3.0, 2, 2)
    assert found["session_ready_ms"]["p50"] == 7.0
    assert found["start_lag_ms"]["p50"] == 2.0
    assert (found["setup_success_rate"]["value"], found["setup_success_rate"]["n"]) == (2 / 3, 3)
    assert (found["drop_rate"]["value"], found["drop_rate"]["n"]) == (0.5, 2)


def test_throughput_is_what_was_achieved(make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession) -> None:
    late = {"response_done_ns": T0 + 2000 * MS, "first_audio_ns": T0 + 1900 * MS}
    turns = [make_turn("a"), make_turn("b", **late), make_turn("c", outcome=Outcome.CUT, response_done_ns=None)]
    sessions = [
        make_session(name, started_ns=T0 + start * MS, connected_ns=T0 + start * MS, ended_ns=T0 + end * MS)
        for name, start, end in (("a", 0, 1000), ("b", 1000, 4000), ("c", 2000, 4000))
    ]
    found = metrics(make_run(turns, sessions, slo={"ttfa_ms": 1000}))
    assert found["turns_per_s"]["value"] == 2 / 2.0
    assert found["goodput"]["value"] == 1 / 2.0
    assert (found["goodput_share"]["value"], found["goodput_share"]["n"]) == (0.5, 2)
    assert found["sessions_per_s"]["value"] == 3 / 4.0
    assert found["sessions_peak"]["value"] == 2  # b takes a's place, then c joins


def test_turns_that_waited_in_vain_took_until_their_session_ended(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    """The row of a timeout ends with the speech; counted over that alone, a dead target would look a fast one."""
    turns = [
        make_turn("a", 0, outcome=Outcome.FAILED, response_done_ns=None),
        make_turn("a", 1, started_ns=T0 + 1000 * MS, response_done_ns=T0 + 2000 * MS),
        make_turn("b", outcome=Outcome.TIMEOUT, response_done_ns=None),
        make_turn("c", outcome=Outcome.CUT, response_done_ns=None),
        make_turn("d", outcome=Outcome.TIMEOUT, response_done_ns=None),
    ]
    # Where a session ended in order, its end came after the answer was heard: a's says nothing of its turns.
    ends = {"a": 60_000, "b": 30_500, "c": 90_000}
    sessions = [make_session(name, ended_ns=T0 + end * MS) for name, end in ends.items()]
    found = metrics(make_run(turns, sessions, slo={"ttfa_ms": 1000}))
    assert found["turns_per_s"]["value"] == 4 / 30.5
    assert found["goodput"]["value"] == 1 / 30.5


def test_a_run_that_nobody_let_in_had_no_session_open_and_no_rate(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    never = {"started_ns": None, "speech_end_ns": None, "response_done_ns": None}
    turns = [make_turn(name, outcome=Outcome.REFUSED, **never) for name in "ab"]
    sessions = [make_session(name, outcome="refused", connected_ns=None, ready_ns=None) for name in "ab"]
    found = metrics(make_run(turns, sessions, live={"sessions_peak": 0, "warnings": []}))
    assert (found["sessions_peak"]["value"], found["sessions_peak"]["n"]) == (0, 2)
    assert (found["turns_per_s"]["value"], found["turns_per_s"]["reason"]) == (None, "no turn was started")


def test_what_was_left_out_of_a_pool_is_counted_as_what_is_in_it(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """Gaps of turns that were not ok, and checks of answers that did not come, stand beside those that count."""
    turns = [
        make_turn("a", expect={"contains": "hold", "regex": "x"}),
        make_turn("b", expect={"contains": "hold"}, outcome=Outcome.INCOMPLETE),
        make_turn("c", warmup=True, audio_at_ms=(800,)),
        make_turn("d", outcome=Outcome.FAILED, audio_at_ms=()),
    ]
    found = metrics(make_run(turns, checks=["contains", "regex"]))
    assert (found["delta_gap_ms"]["n"], found["delta_gap_ms"]["left_out"]) == (2, 2)
    each = [found[f"checks.{name}"]["left_out"] for name in ("contains", "regex")]
    assert (found["checks.pass_rate"]["n"], found["checks.pass_rate"]["left_out"]) == (2, sum(each))
    assert each == [1, 0]


def test_a_turn_that_was_not_measured_is_not_good(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [make_turn("a", speech_stopped_ns=None), make_turn("b")]
    assert metrics(make_run(turns, slo={"endpoint_ms": 500}))["goodput_share"]["value"] == 0.5
    assert metrics(make_run(turns, slo={"colour": 1}, run_id="r2"))["goodput_share"]["value"] == 0.0


def test_without_an_slo_there_is_no_goodput(make_run: MakeRun, make_turn: MakeTurn) -> None:
    found = metrics(make_run([make_turn()]))
    assert (found["goodput"]["value"], found["goodput_share"]["reason"]) == (None, "no slo")


def test_the_run_may_know_the_peak_better(make_run: MakeRun, make_turn: MakeTurn) -> None:
    assert metrics(make_run([make_turn()], live={"sessions_peak": 7}))["sessions_peak"]["value"] == 7
    sample = HealthSample(worker="w0", at_ns=T0, sessions_open=5)
    assert metrics(make_run([make_turn()], health=[sample], run_id="r2"))["sessions_peak"]["value"] == 5


def test_tokens_are_summed_where_usage_was_reported(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [
        make_turn("a", usage=Usage(input_tokens=10, input_cached_tokens=4)),
        make_turn("b", usage=Usage(input_tokens=5), warmup=True),
        make_turn("c"),
    ]
    found = metrics(make_run(turns))
    assert (found["input_tokens"]["value"], found["input_tokens"]["n"]) == (15, 2)
    assert found["input_cached_tokens"]["value"] == 4
    assert found["output_tokens"]["value"] is None


def test_send_lag_of_the_run_comes_from_every_frame(make_run: MakeRun, make_turn: MakeTurn) -> None:
    samples = [
        HealthSample(worker="w0", at_ns=k, send_lag_us=[1000] * 50, loop_lag_us=[2000], cpu_share=0.1) for k in (1, 2)
    ]
    found = metrics(make_run([make_turn()], health=samples))
    assert (found["send_lag_ms"]["p99"], found["send_lag_ms"]["n"]) == (1.0, 100)
    assert (found["loop_lag_ms"]["max"], found["loop_lag_ms"]["p95"]) == (2.0, None)


def test_a_run_split_over_workers_measures_the_same(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """Merging: in whichever shards and order the rows came, the numbers are the same to the last bit."""
    rng = random.Random(7)
    turns = [
        make_turn(
            f"s{k}",
            started_ns=T0 + rng.randrange(10**9),
            first_audio_ns=T0 + rng.randrange(500 * MS, 10**9),
            audio_at_ms=sorted(rng.randrange(800, 2000) for _ in range(5)),
        )
        for k in range(40)
    ]
    whole = make_run(turns, run_id="whole")
    shuffled = rng.sample(turns, len(turns))
    split = make_run(shuffled[:10], sessions=[], run_id="split", planned={"turns": 40})
    with ShardWriter(split, "w1") as writer:
        for turn in shuffled[10:]:
            writer.turn(turn)
    one, other = metrics(whole), metrics(split)
    of_sessions = {"connect_ms", "session_ready_ms", "start_lag_ms", "setup_success_rate", "drop_rate"}
    of_sessions |= {"sessions_peak", "sessions_per_s"}
    assert {name: value for name, value in one.items() if name not in of_sessions} == {
        name: value for name, value in other.items() if name not in of_sessions
    }


def test_counts_say_what_became_of_everything(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    turns = [
        make_turn("a", oddities=("late_delta", "late_delta"), unknown_events=2, silent_answer=True),
        make_turn("b", outcome=Outcome.TIMEOUT, failure_stage=Stage.RESPOND, split_turn=True, early_endpoint=True),
        make_turn("a"),
    ]
    sessions = [make_session("a", retries=2, unknown_events=1), make_session("b", drop=True)]
    counts = judge(make_run(turns, sessions, planned={"turns": 5}), reports_written=False).summary["counts"]
    assert (counts["turns"], counts["planned"], counts["not_recorded"], counts["duplicates"]) == (2, 5, 3, 1)
    assert (counts["outcomes"]["ok"], counts["outcomes"]["timeout"]) == (1, 1)
    assert counts["oddities"] == {"late_delta": 2}
    assert (counts["unknown_events"], counts["retries"], counts["sessions_dropped"]) == (3, 2, 1)
    assert (counts["silent_answer"], counts["split_turn"], counts["early_endpoint"]) == (1, 1, 1)


def test_a_run_without_rows_measures_nothing_and_says_so(make_run: MakeRun) -> None:
    judgement = judge(make_run(), reports_written=False)
    assert all(entry["n"] == 0 for entry in judgement.summary["metrics"].values())
    assert judgement.summary["gates"][0]["verdict"] == "no_data"
    assert judgement.exit_code == 1
