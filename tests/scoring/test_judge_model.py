from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rteval.judge import judge
from rteval.records import Outcome, TurnRecord
from rteval.rescore import rescore
from rteval.scorers.apply import ScoreRun
from rteval.scorers.judge import Judge
from rteval.scorers.verdicts import PROMPT, Verdict, agreeing_pairs, read_verdict

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]
ChatServer = Any

RUBRIC = "The answer names the order number that the caller asked for."
METRICS = ["scorers.polite.pass_rate", "scorers.polite.agreement", "scorers.polite.scored_share"]


def completion(content: Any, **over: Any) -> Any:
    """A chat completion with that text (a mapping is sent as JSON text)."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    body = {"model": "judge-2025-01-01", "choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, {}, {**body, "usage": {"total_tokens": 7}, **over}


def verdict(word: str, reason: str = "it says so") -> Any:
    return completion({"reason": reason, "verdict": word})


def options(chat: ChatServer, **over: Any) -> dict[str, Any]:
    return {
        "scorer": "judge",
        "rubric": RUBRIC,
        "model": "judge-small",
        "base_url": chat.url,
        "api_key_env": "JUDGE_KEY",
        **over,
    }


@pytest.fixture
def judged(
    make_run: MakeRun, make_turn: MakeTurn, chat_server: ChatServer
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Runs the judge over turns; returns the folder and the summary."""

    def call(turns: Any = 3, **over: Any) -> tuple[Path, dict[str, Any]]:
        turns = [make_turn(number) for number in range(turns)] if isinstance(turns, int) else turns
        extra = {key: over.pop(key) for key in ("gates", "report") if key in over}
        folder = make_run(turns, scorers={"polite": options(chat_server, **over)}, checks=METRICS, **extra)
        return folder, judge(folder, score=ScoreRun()).summary

    return call


def table(folder: Path) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "turns.parquet").set_index("session").astype(object)
    return frame.where(frame.notna(), None)


def test_every_ok_turn_is_held_against_the_rubric(judged: Any, chat_server: ChatServer, make_turn: MakeTurn) -> None:
    chat_server.answer = lambda number, body: verdict(
        "fail" if "order 1?" in body["messages"][1]["content"] else "pass"
    )
    turns = [make_turn(n) for n in range(4)] + [make_turn(4, outcome=Outcome.FAILED), make_turn(5, warmup=True)]
    folder, summary = judged(turns, gates=["scorers.polite.pass_rate >= 0.75", "scorers.polite.scored_share >= 1"])
    entry = summary["metrics"]["scorers.polite.pass_rate"]
    assert (entry["value"], entry["n"], entry["left_out"], entry["unit"]) == (0.75, 4, 0, "ratio")
    assert [gate["verdict"] for gate in summary["gates"]] == ["pass", "pass"]
    assert table(folder)["score_polite_pass"].tolist() == [True, False, True, True, None, None]
    assert len(chat_server.bodies) == 4
    assert set(chat_server.paths) == {"/v1/chat/completions"}


def test_the_question_holds_the_rubric_the_turn_and_what_came_before(
    judged: Any, chat_server: ChatServer, make_turn: MakeTurn
) -> None:
    first = make_turn(0, session="s", tool_calls=({"name": "look_up", "call_id": "c", "arguments": '{"id": 7}'},))
    second = make_turn(1, session="s", reference=None, input_transcript="and now", expect={"contains": "7"})
    prompt = make_turn(2, session="t", modality="text", reference=None, prompt="Say it in writing.")
    judged([first, second, prompt], concurrency=1, temperature=0.2, extra={"seed": 7})
    assert all(body["messages"][0] == {"role": "system", "content": PROMPT + RUBRIC} for body in chat_server.bodies)
    assert {(body["model"], body["temperature"], body["seed"]) for body in chat_server.bodies} == {
        ("judge-small", 0.2, 7)
    }
    said = [json.loads(body["messages"][1]["content"]) for body in chat_server.bodies]
    calls = [{"name": "look_up", "arguments": '{"id": 7}'}]
    told = {"caller": first.reference, "answer": first.output_transcript, "tool_calls": calls}
    assert said[0] == told
    assert said[1] == {
        "earlier": [told], "caller": "and now", "answer": second.output_transcript, "expected": {"contains": "7"},
    }  # fmt: skip
    assert said[2] == {"caller": "Say it in writing.", "answer": prompt.output_transcript}


def test_a_model_that_takes_no_temperature_gets_none(judged: Any, chat_server: ChatServer) -> None:
    judged(1, temperature=None)
    assert "temperature" not in chat_server.bodies[0]


def test_what_a_verdict_rests_on_is_stored_with_it(judged: Any, chat_server: ChatServer) -> None:
    chat_server.answer = lambda number, body: verdict("pass")
    folder, _ = judged(1)
    stored = json.loads((folder / "scores" / "polite.json").read_text())
    about = stored["about"]
    assert (about["model"], about["temperature"], about["rubric"], about["prompt"]) == (
        "judge-small",
        0.0,
        RUBRIC,
        PROMPT,
    )
    assert (len(about["rubric_sha256"]), about["models_reported"]) == (64, ["judge-2025-01-01"])
    (line,) = (folder / "scores" / "polite.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["session"], entry["turn"], entry["verdict"], entry["reason"]) == ("s0", 0, "pass", "it says so")
    assert json.loads(entry["raw"]) == {"reason": "it says so", "verdict": "pass"}
    assert entry["usage"] == {"total_tokens": 7}


def test_repeats_decide_by_majority_and_their_agreement_is_reported(judged: Any, chat_server: ChatServer) -> None:
    words = {"order 0?": ["pass", "pass", "fail"], "order 1?": ["fail", "fail", "fail"]}

    def answer(number: int, body: dict[str, Any]) -> Any:
        (mine,) = [left for about, left in words.items() if about in body["messages"][1]["content"]]
        return verdict(mine.pop())

    chat_server.answer = answer
    folder, summary = judged(2, repeats=3)
    metrics = summary["metrics"]
    assert metrics["scorers.polite.pass_rate"]["value"] == 0.5
    # One pair of three on the first turn, three of three on the second.
    assert metrics["scorers.polite.agreement"]["value"] == pytest.approx(4 / 6)
    assert table(folder)[["score_polite_votes", "score_polite_votes_pass"]].to_numpy().tolist() == [[3, 2], [3, 0]]


def test_a_tie_does_not_pass(judged: Any, chat_server: ChatServer) -> None:
    chat_server.answer = lambda number, body: verdict("pass" if number else "fail")
    _, summary = judged(1, repeats=2)
    assert summary["metrics"]["scorers.polite.pass_rate"]["value"] == 0.0


def test_a_judgement_made_once_has_no_agreement(judged: Any) -> None:
    _, summary = judged(1)
    entry = summary["metrics"]["scorers.polite.agreement"]
    assert (entry["value"], entry["reason"]) == (None, "no turn has two verdicts (option repeats)")


def test_without_a_key_nothing_is_scored_and_no_gate_passes(
    judged: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    folder, summary = judged(1, gates=["scorers.polite.pass_rate >= 0"])
    assert chat_server.bodies == []
    (gate,) = summary["gates"]
    assert (gate["verdict"], summary["exit_code"]) == ("no_data", 1)
    assert "JUDGE_KEY is not set" in gate["reason"]
    assert "score_polite_pass" not in table(folder)
    monkeypatch.setenv("JUDGE_KEY", chat_server.key)
    again = rescore(folder, None, say=print)
    assert again.summary["gates"][0]["verdict"] == "pass", "`rteval score` makes up for it"


def test_an_endpoint_may_ask_for_no_key(judged: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    _, summary = judged(1, auth="none")
    assert summary["metrics"]["scorers.polite.pass_rate"]["value"] == 1.0
    assert "authorization" not in chat_server.headers[0]


HEADERS = [
    pytest.param("bearer", "authorization", "Bearer {}", id="bearer"),
    pytest.param("api-key", "api-key", "{}", id="api-key"),
]


@pytest.mark.parametrize(("header", "name", "value"), HEADERS)
def test_the_key_is_sent_as_the_endpoint_wants_it_whatever_a_netrc_says(
    judged: Any,
    chat_server: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    header: str,
    name: str,
    value: str,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    judged(1, auth_header=header)
    assert chat_server.headers[0][name] == value.format(chat_server.key)


def test_the_key_is_nowhere_in_the_run_folder(judged: Any, chat_server: ChatServer) -> None:
    def echo(number: int, body: dict[str, Any]) -> Any:
        if number == 0:
            return completion(
                {"reason": f"you sent {chat_server.key}", "verdict": "pass"}, model=f"model {chat_server.key}"
            )
        return 400, {}, {"error": {"message": f"bad key {chat_server.key}"}}

    chat_server.answer = echo
    folder, _ = judged(3, min_scored=0.1, concurrency=1)
    holding = [
        path.name for path in folder.rglob("*") if path.is_file() and chat_server.key.encode() in path.read_bytes()
    ]
    assert holding == []


def test_throttling_is_waited_for_and_tried_again(judged: Any, chat_server: ChatServer) -> None:
    busy = (429, {"Retry-After": "0"}, {"error": {"message": "slow down"}})
    chat_server.answer = lambda number, body: busy if number < 3 else verdict("pass")
    _, summary = judged(1, retries=3)
    assert summary["metrics"]["scorers.polite.pass_rate"]["value"] == 1.0
    assert len(chat_server.bodies) == 4


def test_tries_are_bounded_and_a_turn_without_a_reply_is_not_scored(judged: Any, chat_server: ChatServer) -> None:
    busy = (429, {"retry-after-ms": "1"}, {"error": {"message": "slow down"}})
    chat_server.answer = lambda number, body: busy if "order 0?" in body["messages"][1]["content"] else verdict("pass")
    folder, summary = judged(4, retries=2, gates=["scorers.polite.pass_rate >= 0.5"])
    entry = summary["metrics"]["scorers.polite.pass_rate"]
    assert (entry["value"], entry["n"], entry["left_out"]) == (None, 3, 1)
    assert entry["reason"].startswith(
        "only 3 of 4 turns were scored, fewer than min_scored 0.95: the endpoint answered 429"
    )
    assert summary["gates"][0]["verdict"] == "no_data", "a rate over those that could be asked would pass on too little"
    assert len(chat_server.bodies) == 3 + 3
    assert table(folder)["score_polite_not_scored"].tolist() == ["no reply of the judge model", None, None, None]


def test_what_was_answered_is_not_asked_again(judged: Any, chat_server: ChatServer) -> None:
    lost = (503, {"Retry-After": "0"}, {})
    chat_server.answer = lambda number, body: lost if "order 0?" in body["messages"][1]["content"] else verdict("pass")
    folder, summary = judged(3, retries=0)
    assert summary["metrics"]["scorers.polite.pass_rate"]["value"] is None
    with (folder / "scores" / "polite.jsonl").open("a") as file:
        file.write('{"session": "torn')
    chat_server.answer = lambda number, body: verdict("pass")
    before = len(chat_server.bodies)
    assert rescore(folder, None, say=print).summary["metrics"]["scorers.polite.pass_rate"]["value"] == 1.0
    assert len(chat_server.bodies) == before + 1
    first = (folder / "summary.json").read_bytes()
    rescore(folder, None, say=print)
    assert len(chat_server.bodies) == before + 1
    assert (folder / "summary.json").read_bytes() == first


def test_a_verdict_can_be_had_again_without_the_endpoint(judged: Any, chat_server: ChatServer) -> None:
    folder, summary = judged(3, gates=["scorers.polite.pass_rate >= 1"])
    asked = len(chat_server.bodies)
    assert judge(folder).summary == summary
    assert len(chat_server.bodies) == asked


HOPELESS = [
    pytest.param((401, {}, {"error": {"message": "who are you"}}), "the endpoint answered 401: who are you", id="401"),
    pytest.param((404, {}, {"error": "no such model"}), "the endpoint answered 404: no such model", id="404"),
    pytest.param((307, {"Location": "http://127.0.0.1:9/"}, {}), "the endpoint answered 307", id="redirect"),
]


@pytest.mark.parametrize(("answer", "reason"), HOPELESS)
def test_what_every_question_would_get_is_asked_once(
    judged: Any, chat_server: ChatServer, answer: Any, reason: str
) -> None:
    chat_server.answer = lambda number, body: answer
    _, summary = judged(6, concurrency=1)
    assert summary["metrics"]["scorers.polite.pass_rate"]["reason"] == reason
    assert len(chat_server.bodies) == 1


def test_an_endpoint_that_is_away_is_given_up(judged: Any, chat_server: ChatServer) -> None:
    chat_server.answer = lambda number, body: (0, {}, b"")
    _, summary = judged(40, retries=0, concurrency=1)
    entry = summary["metrics"]["scorers.polite.pass_rate"]
    assert entry["reason"] == "the endpoint could not be reached, or hung up"
    assert len(chat_server.bodies) == 8


STRANGE = [
    pytest.param((200, {}, b"<html>"), "the endpoint's reply is no chat completion", id="no JSON"),
    pytest.param((200, {}, {"choices": []}), "the endpoint's reply is no chat completion", id="no choice"),
    pytest.param((200, {}, []), "the endpoint's reply is no chat completion", id="no object"),
    pytest.param(completion(None), "the reply has no text", id="no text"),
    pytest.param(completion("I like it."), "a reply of the judge model has no verdict in it", id="no verdict"),
    pytest.param((200, {}, b"x" * 1_100_000), "the reply is longer than 1000000 bytes", id="without end"),
    pytest.param(verdict("cannot_judge"), "no turn could be judged", id="cannot judge"),
]


@pytest.mark.parametrize(("answer", "reason"), STRANGE)
def test_a_reply_that_is_no_verdict_scores_nothing(
    judged: Any, chat_server: ChatServer, answer: Any, reason: str
) -> None:
    chat_server.answer = lambda number, body: answer
    _, summary = judged(1)
    assert summary["metrics"]["scorers.polite.pass_rate"]["value"] is None
    assert summary["metrics"]["scorers.polite.pass_rate"]["reason"] == reason
    assert summary["metrics"]["scorers.polite.scored_share"]["value"] == 0.0


def test_a_silent_endpoint_is_not_waited_for_longer_than_asked(judged: Any, chat_server: ChatServer) -> None:
    released = threading.Event()

    def wait(number: int, body: dict[str, Any]) -> Any:
        released.wait(60)
        return verdict("pass")

    chat_server.answer = wait
    try:
        _, summary = judged(2, timeout_s=0.2, retries=0, concurrency=2)
    finally:
        released.set()
    assert summary["metrics"]["scorers.polite.pass_rate"]["reason"] == "the endpoint did not answer in time"


def test_the_whole_of_the_asking_has_an_end(judged: Any, chat_server: ChatServer) -> None:
    busy = (429, {"Retry-After": "20"}, {})
    chat_server.answer = lambda number, body: busy
    _, summary = judged(2, max_s=0.3, concurrency=1, timeout_s=30.0)
    assert summary["metrics"]["scorers.polite.pass_rate"]["reason"] == "max_s: 0.3 s were over"
    assert len(chat_server.bodies) <= 2


def test_no_more_questions_are_under_way_than_asked_for(judged: Any, chat_server: ChatServer) -> None:
    both = threading.Barrier(2)

    def meet(number: int, body: dict[str, Any]) -> Any:
        if number < 2:
            both.wait(60)
        return verdict("pass")

    chat_server.answer = meet
    judged(12, concurrency=2)
    assert chat_server.most_at_once == 2


def test_a_run_without_transcripts_keeps_verdicts_and_no_words(judged: Any, chat_server: ChatServer) -> None:
    chat_server.answer = lambda number, body: verdict("pass", "it said canary words")
    folder, summary = judged(2, report={"formats": [], "transcripts": "none"})
    assert summary["metrics"]["scorers.polite.pass_rate"]["value"] == 1.0
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes(), path
            assert b"order number is" not in path.read_bytes(), path
    assert judge(folder).summary == summary


OPTIONS = [
    pytest.param({}, [], id="well"),
    pytest.param({"rubric": None}, ["rubric: input should be a valid string"], id="rubric"),
    pytest.param({"rubric": " \n"}, ["rubric: is empty"], id="empty rubric"),
    pytest.param({"base_url": "judge.example"}, ["base_url: is no address; write e.g. https://"], id="address"),
    pytest.param(
        {"base_url": "http://judge.example/v1"}, ["base_url: would send the key unencrypted"], id="plain http"
    ),
    pytest.param({"base_url": "https://me:pw@judge.example"}, ["base_url: holds a user or password"], id="password"),
    pytest.param({"base_url": "https://judge.example/v1?key=x"}, ["base_url: has a query"], id="query"),
    pytest.param({"api_key": "x"}, ["api_key: there is no such option; name the variable"], id="key"),
    pytest.param({"api_key_env": "sk-x"}, ["api_key_env: is the NAME of an environment variable"], id="key for a name"),
    pytest.param({"repeats": 0}, ["repeats: input should be greater than or equal to 1"], id="repeats"),
    pytest.param({"extra": {"messages": []}}, ["extra.messages: is said by an option of its own"], id="extra"),
]


@pytest.mark.parametrize(("over", "faults"), OPTIONS)
def test_options_are_checked_before_anything_runs(over: dict[str, Any], faults: list[str]) -> None:
    given = {"rubric": RUBRIC, "model": "m", **over}
    found = Judge().faults(given)
    assert len(found) == len(faults)
    assert all(sentence.startswith(fault) for sentence, fault in zip(found, faults, strict=True))
    assert "sk-x" not in str(found)


def test_what_is_missing_is_named() -> None:
    assert Judge().faults({}) == ["rubric: is required", "model: is required"]


REPLIES = [
    pytest.param('{"reason": "r", "verdict": "pass"}', Verdict("pass", "r"), id="as asked"),
    pytest.param('```json\n{"verdict": "FAIL"}\n```', Verdict("fail"), id="in a fence"),
    pytest.param('I think {"verdict": "cannot_judge", "reason": 3} fits.', Verdict("cannot_judge"), id="in a sentence"),
    pytest.param('{"verdict": "pass"} or {"verdict": "fail"}', None, id="two verdicts"),
    pytest.param('{"verdict": "maybe"}', None, id="another word"),
    pytest.param('{"verdict": true}', None, id="another type"),
    pytest.param("pass", None, id="no object"),
    pytest.param("[" * 5_000, None, id="nested without end"),
]


@pytest.mark.parametrize(("text", "expected"), REPLIES)
def test_a_verdict_is_read_and_never_guessed(text: str, expected: Verdict | None) -> None:
    assert read_verdict(text) == expected


AGREEING = [
    pytest.param([], (0, 0), id="none"),
    pytest.param([True], (0, 0), id="one"),
    pytest.param([True, True, False], (1, 3), id="two of three"),
    pytest.param([False] * 4, (6, 6), id="all"),
]


@pytest.mark.parametrize(("votes", "pairs"), AGREEING)
def test_agreement_counts_pairs(votes: list[bool], pairs: tuple[int, int]) -> None:
    assert agreeing_pairs(votes) == pairs
