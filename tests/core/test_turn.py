"""The state machine of one turn: every transition, as tables of (milliseconds, what happens)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from rteval.realtime import events as ev
from rteval.realtime.turn import Mode, Phase, Turn, TurnSpec
from rteval.records import DeltaKind, Outcome, Stage, TranscriptOutcome, Usage

MS = 1_000_000

TEXT = TurnSpec(mode=Mode.TEXT, text="Where is my parcel?")
MANUAL = TurnSpec(mode=Mode.MANUAL)
VAD = TurnSpec(mode=Mode.VAD)
ASKING_VAD = TurnSpec(mode=Mode.VAD, auto_response=False)
SPECS = {"text": TEXT, "manual": MANUAL, "vad": VAD}


def transcribing(spec):
    return replace(spec, transcription=True)


# ---- what the driver tells ----


@dataclass(frozen=True)
class SpeechSent:
    end_ms: float


@dataclass(frozen=True)
class Lost:
    code: str = "close_1006"
    message: str | None = None


BEGIN, TICK, CUT, BLOCKED = "begin", "tick", "cut", "blocked"


@dataclass
class Played:
    turn: Turn
    sent: list
    phases: list

    def row(self, blank_row):
        record = blank_row(modality="text" if self.turn.spec.mode is Mode.TEXT else "audio")
        self.turn.write_to(record)
        return record


def play(spec, steps):
    """Take a turn through ``steps``; times are milliseconds."""
    ids = (f"c{number}" for number in itertools.count(1))
    played = Played(Turn(spec, lambda: next(ids)), [], [])
    turn = played.turn
    for at_ms, step in steps:
        at_ns = round(at_ms * MS)
        commands = []
        match step:
            case "begin" if spec.mode is Mode.TEXT:
                commands = turn.begin_text(at_ns)
            case "begin":
                turn.begin_speech()
            case "tick":
                turn.tick(at_ns)
            case "cut":
                turn.cut(at_ns)
            case "blocked":
                turn.blocked(at_ns)
            case SpeechSent(end_ms):
                commands = turn.speech_sent(at_ns, round(end_ms * MS))
            case Lost(code, message):
                turn.lost(at_ns, code, message)
            case event:
                commands = turn.feed(at_ns, event)
        played.sent += [(at_ms, type(command), command.event_id) for command in commands]
        played.phases.append(turn.phase)
    return played


# ---- what the server tells ----


def started(item="i1"):
    return ev.SpeechStarted(item_id=item, audio_start_ms=0)


def stopped(item="i1"):
    return ev.SpeechStopped(item_id=item, audio_end_ms=1000)


def committed(item="i1"):
    return ev.AudioCommitted(item_id=item)


def user_item(item="i1", part="input_audio"):
    return ev.ItemAdded(item=ev.Item(id=item, role="user", content=(ev.Part(type=part),)))


def heard(text="where is my parcel", item="i1"):
    return ev.InputTranscriptCompleted(item_id=item, transcript=text)


def unheard(item="i1", **error):
    return ev.InputTranscriptFailed(item_id=item, **error)


def created(response="r1"):
    return ev.ResponseCreated(response=ev.Response(id=response, status="in_progress"))


def done(response="r1", status="completed", **rest):
    return ev.ResponseDone(response=ev.Response(id=response, status=status, **rest))


def audio(size_bytes=4800, response="r1"):
    return ev.AudioDelta(response_id=response, audio=b"", size_bytes=size_bytes)


def said(delta, response="r1", output=0, content=0):
    return ev.TranscriptDelta(response_id=response, delta=delta, output_index=output, content_index=content)


def wrote(delta, response="r1", output=0, content=0):
    return ev.TextDelta(response_id=response, delta=delta, output_index=output, content_index=content)


def error(code=None, *, to=None, message="", kind=None):
    return ev.ErrorReported(code=code, type=kind, message=message, client_event_id=to)


def call(call_id="call_1", name="track", arguments='{"parcel":7}'):
    return ev.Item(id="f1", type="function_call", call_id=call_id, name=name, arguments=arguments)


# The user's side of a turn, up to the moment when only the answer is missing.
USER = {
    "text": [(0, BEGIN), (10, user_item(part="input_text"))],
    "manual": [(0, BEGIN), (1000, SpeechSent(950)), (1010, committed()), (1011, user_item())],
    "vad": [(0, BEGIN), (300, started()), (1000, SpeechSent(950)), (1450, stopped()), (1451, committed())],
}
ANSWER = [(1500, created()), (1600, said("On its way.")), (1700, audio()), (2000, done())]
EVERY_MODE = pytest.mark.parametrize("mode", SPECS)


# ---- what we ask, and when ----

SPOKEN_MANUAL = USER["manual"]
REQUESTS = [
    pytest.param(
        TEXT, USER["text"], [(0, ev.CreateItem, "c1"), (0, ev.CreateResponse, "c2")], id="text: prompt and request"
    ),
    pytest.param(
        MANUAL,
        USER["manual"],
        [(1000, ev.CommitAudio, "c1"), (1000, ev.CreateResponse, "c2")],
        id="manual: commit and request back to back",
    ),
    pytest.param(VAD, USER["vad"], [], id="vad: the server does all"),
    pytest.param(
        ASKING_VAD, USER["vad"], [(1451, ev.CreateResponse, "c1")], id="vad that does not answer: once committed"
    ),
    pytest.param(
        ASKING_VAD,
        [(0, BEGIN), (300, started()), (800, stopped()), (801, committed()), (1000, SpeechSent(950))],
        [(1000, ev.CreateResponse, "c1")],
        id="vad that does not answer: never before all speech is sent",
    ),
    pytest.param(
        ASKING_VAD,
        [(0, BEGIN), (300, started()), (1000, SpeechSent(950)), (1001, TICK)],
        [],
        id="vad that does not answer: nothing to ask for",
    ),
    pytest.param(
        ASKING_VAD, [(0, BEGIN), (1000, SpeechSent(950))], [], id="vad that does not answer: nothing was heard"
    ),
    pytest.param(
        ASKING_VAD,
        [
            *[(0, BEGIN), (300, started()), (800, stopped()), (801, committed())],
            *[(900, started("i2")), (1000, SpeechSent(950)), (1400, stopped("i2")), (1401, committed("i2"))],
        ],
        [(1401, ev.CreateResponse, "c1")],
        id="vad that does not answer: once for a split turn",
    ),
    pytest.param(
        ASKING_VAD,
        [
            *[(0, BEGIN), (300, started()), (800, stopped()), (801, committed()), (1000, SpeechSent(950))],
            *[(1010, created()), (1050, started("i2")), (1400, stopped("i2")), (1401, committed("i2"))],
            *[(1500, done(status="cancelled")), (1510, created("r2")), (1600, done("r2"))],
        ],
        [(1000, ev.CreateResponse, "c1"), (1500, ev.CreateResponse, "c2")],
        id="vad that does not answer: again for speech that came after we asked, once the first answer is done",
    ),
    pytest.param(
        ASKING_VAD,
        [
            *[(0, BEGIN), (300, started()), (800, stopped()), (801, committed()), (1000, SpeechSent(950))],
            *[(1050, started("i2")), (1400, stopped("i2")), (1401, committed("i2")), (1410, created())],
        ],
        [(1000, ev.CreateResponse, "c1")],
        id="vad that does not answer: not twice while the first request is under way",
    ),
    pytest.param(
        ASKING_VAD,
        [(0, BEGIN), (300, started()), (800, stopped()), (801, committed()), (810, created()), (1000, SpeechSent(950))],
        [],
        id="vad that does not answer, but did",
    ),
]


@pytest.mark.parametrize(("spec", "steps", "requests"), REQUESTS)
def test_requests_go_out_when_the_users_side_is_complete(spec, steps, requests):
    assert play(spec, steps).sent == requests


def test_a_prompt_becomes_a_user_message():
    turn = Turn(TEXT, lambda: "c1")
    item, request = turn.begin_text(0)
    assert item.item == ev.Item(id=None, role="user", content=(ev.Part(type="input_text", text="Where is my parcel?"),))
    assert request == ev.CreateResponse(event_id="c1")


def test_without_a_prompt_the_model_speaks_first():
    assert Turn(TurnSpec(mode=Mode.TEXT), lambda: "c1").begin_text(0) == [ev.CreateResponse(event_id="c1")]


def test_an_empty_prompt_is_a_prompt():
    item, _ = Turn(TurnSpec(mode=Mode.TEXT, text=""), lambda: "c1").begin_text(0)
    assert item.item.content == (ev.Part(type="input_text", text=""),)


def test_instructions_for_one_answer_go_with_its_request():
    spec = TurnSpec(mode=Mode.TEXT, text="Hello?", instructions="Whisper.")
    _, request = Turn(spec, lambda: "c1").begin_text(0)
    assert request == ev.CreateResponse(response={"instructions": "Whisper."}, event_id="c1")


WRONG_ORDERS = [
    pytest.param(TEXT, [(0, BEGIN), (1, BEGIN)], id="text begins twice"),
    pytest.param(VAD, [(0, BEGIN), (1, BEGIN)], id="speech begins twice"),
    pytest.param(VAD, [(0, SpeechSent(0))], id="speech ends before it begins"),
    pytest.param(MANUAL, [(0, BEGIN), (1, SpeechSent(1)), (2, SpeechSent(2))], id="speech ends twice"),
    pytest.param(TEXT, [(0, BEGIN), (1, SpeechSent(1))], id="a prompt has no speech"),
]


@pytest.mark.parametrize(("spec", "steps"), WRONG_ORDERS)
def test_our_own_mistakes_raise(spec, steps):
    with pytest.raises(RuntimeError):
        play(spec, steps)


def test_a_turn_begins_in_its_own_mode():
    with pytest.raises(RuntimeError, match="begin_speech"):
        Turn(TEXT, str).begin_speech()
    with pytest.raises(RuntimeError, match="vad turn"):
        Turn(VAD, str).begin_text(0)


# ---- how it ends ----

OUTCOMES = [
    pytest.param(done(), "ok", None, None, id="completed"),
    pytest.param(done(status="incomplete", reason="max_output_tokens"), "incomplete", "max_output_tokens", None,
                 id="incomplete"),
    pytest.param(done(status="incomplete"), "incomplete", "incomplete", None, id="incomplete without a reason"),
    pytest.param(done(status="cancelled", reason="turn_detected"), "failed", "turn_detected", None,
                 id="cancelled by detection"),
    pytest.param(done(status="cancelled", reason="client_cancelled"), "failed", "client_cancelled", None,
                 id="cancelled as if by us"),
    pytest.param(done(status="cancelled"), "failed", "cancelled", None, id="cancelled without a reason"),
    pytest.param(done(status="failed", error_code="rate_limit_exceeded", error_message="later"), "failed",
                 "rate_limit_exceeded", "later", id="failed with a code"),
    pytest.param(done(status="failed", error_type="server_error"), "failed", "server_error", None,
                 id="failed with a type only"),
    pytest.param(done(status="failed"), "failed", "response_failed", None, id="failed without a word"),
    pytest.param(done(status="in_progress"), "failed", "unknown_status", None, id="a status that ends nothing"),
    pytest.param(done(status=""), "failed", "unknown_status", None, id="no status"),
]  # fmt: skip


@EVERY_MODE
@pytest.mark.parametrize(("last", "outcome", "code", "message"), OUTCOMES)
def test_the_end_of_the_response_decides_the_outcome(mode, last, outcome, code, message, blank_row):
    played = play(SPECS[mode], [*USER[mode], *ANSWER[:-1], (2000, last)])
    row = played.row(blank_row)
    assert (row.outcome, row.error_code, row.error_message) == (outcome, code, message)
    assert row.failure_stage is (None if outcome == "ok" else Stage.RESPOND)
    assert row.response_done_ns == 2000 * MS
    assert played.turn.settled
    assert not played.turn.broke_session


def test_an_unknown_status_is_an_oddity(blank_row):
    row = play(TEXT, [*USER["text"], (1, created()), (2, done(status="x" * 99))]).row(blank_row)
    assert row.oddities == ("status:" + "x" * 40,)


OUTPUTS = [
    pytest.param([audio()], {}, Outcome.OK, id="audio"),
    pytest.param([said("Yes.")], {}, Outcome.OK, id="transcript"),
    pytest.param([wrote("Yes.")], {}, Outcome.OK, id="text"),
    pytest.param([ev.TextDone(response_id="r1", text="Yes.")], {}, Outcome.OK, id="text that comes whole"),
    pytest.param([ev.OutputItemDone(response_id="r1", item=call())], {}, Outcome.OK, id="function call"),
    pytest.param([], {"output": (call(),)}, Outcome.OK, id="function call told at the end only"),
    pytest.param([], {"output": (ev.Item(id="a", content=(ev.Part(type="text", text="Yes."),)),)}, Outcome.OK,
                 id="text told at the end only"),
    pytest.param([], {"output": (ev.Item(id="a", content=(ev.Part(type="audio", transcript="Yes."),)),)}, Outcome.OK,
                 id="transcript told at the end only"),
    pytest.param([], {}, Outcome.EMPTY, id="nothing"),
    pytest.param([audio(0), said(""), wrote("")], {}, Outcome.EMPTY, id="deltas without payload"),
    pytest.param([ev.TextDone(response_id="r1", text="")], {}, Outcome.EMPTY, id="an empty text"),
    pytest.param([], {"output": (ev.Item(id="a"), ev.Item(id="b", content=(ev.Part(type="text", text=""),)))},
                 Outcome.EMPTY, id="empty items"),
]  # fmt: skip


@pytest.mark.parametrize(("deltas", "rest", "outcome"), OUTPUTS)
def test_a_completed_answer_without_any_output_is_empty(deltas, rest, outcome, blank_row):
    """Text and function calls are output too."""
    answer = [(1500, created()), *[(1600, delta) for delta in deltas], (2000, done(**rest))]
    row = play(TEXT, [*USER["text"], *answer]).row(blank_row)
    assert (row.outcome, row.error_code) == (outcome, None if outcome is Outcome.OK else "empty_response")


LATE = [
    pytest.param(TEXT, USER["text"], Stage.RESPOND, "no_response", id="text: no response"),
    pytest.param(MANUAL, USER["manual"][:2], Stage.RESPOND, "no_response", id="manual: not even committed"),
    pytest.param(VAD, [(0, BEGIN), (1000, SpeechSent(950))], Stage.SPEAK, "speech_not_detected", id="vad: not heard"),
    pytest.param(VAD, USER["vad"][:3], Stage.SPEAK, "turn_end_not_detected", id="vad: heard, its end not"),
    pytest.param(VAD, USER["vad"][:4], Stage.SPEAK, "turn_end_not_detected", id="vad: stopped, not committed"),
    pytest.param(VAD, USER["vad"], Stage.RESPOND, "no_response", id="vad: no response"),
    pytest.param(VAD, [*USER["vad"], *ANSWER[:1]], Stage.RESPOND, "response_stalled", id="vad: created, then silence"),
    pytest.param(TEXT, [*USER["text"], *ANSWER[:3]], Stage.RESPOND, "response_stalled", id="text: stops in mid-answer"),
    pytest.param(VAD, [*USER["vad"], (1452, error("server_overloaded"))], Stage.RESPOND, "server_overloaded",
                 id="an error that nobody can place names it"),
    pytest.param(VAD, [*USER["vad"], (1452, error(kind="server_error"))], Stage.RESPOND, "no_response",
                 id="an error without a code does not"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "steps", "stage", "code"), LATE)
def test_a_timeout_names_what_is_late(spec, steps, stage, code, blank_row):
    early = play(spec, steps).turn
    deadline_ms = early.deadline_ns / MS
    played = play(spec, [*steps, (deadline_ms - 1, TICK), (deadline_ms, TICK)])
    assert played.phases[-2] < Phase.ANSWERED <= played.phases[-1]
    row = played.row(blank_row)
    assert (row.outcome, row.failure_stage, row.error_code) == (Outcome.TIMEOUT, stage, code)
    assert played.turn.broke_session


STEPS_THAT_MOVE = [
    pytest.param("vad", USER["vad"], id="what the detection tells"),
    pytest.param("manual", USER["manual"][:3], id="a commit"),
    pytest.param("text", [*USER["text"], *ANSWER[:3]], id="deltas"),
    pytest.param(
        "text",
        [
            *USER["text"],
            (100, created()),
            (200, ev.ContentPartAdded(response_id="r1", item_id="a", part=ev.Part(type="text"))),
            (300, ev.FunctionArgumentsDelta(response_id="r1", call_id="call_1", delta="{")),
            (400, ev.ContentPartDone(response_id="r1", item_id="a", part=ev.Part(type="text"))),
        ],
        id="events without content",
    ),
]


@pytest.mark.parametrize(("mode", "steps"), STEPS_THAT_MOVE)
def test_a_turn_times_out_only_when_the_server_falls_silent(mode, steps):
    turn = play(SPECS[mode], steps).turn
    assert turn.deadline_ns == steps[-1][0] * MS + turn.spec.response_timeout_ns


def test_nothing_is_due_while_the_user_speaks_or_once_it_is_over():
    assert Turn(VAD, str).deadline_ns is None
    assert play(VAD, USER["vad"][:2]).turn.deadline_ns is None
    assert play(TEXT, [*USER["text"], *ANSWER]).turn.deadline_ns is None
    assert play(VAD, [*USER["vad"][:2], (10**9, TICK)]).turn.phase is Phase.SPEAKING


ABANDONED = [
    pytest.param([], Stage.SPEAK, id="before it began"),
    pytest.param(USER["vad"][:2], Stage.SPEAK, id="while speaking"),
    pytest.param(USER["vad"], Stage.RESPOND, id="waiting"),
    pytest.param([*USER["vad"], *ANSWER[:3]], Stage.RESPOND, id="in mid-answer"),
]


@pytest.mark.parametrize(("steps", "stage"), ABANDONED)
@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [pytest.param(Lost("close_1006"), Outcome.DROPPED, "close_1006", id="lost"),
     pytest.param(CUT, Outcome.CUT, None, id="cut")],
)  # fmt: skip
def test_a_turn_that_is_abandoned_says_where_it_stood(steps, stage, end, outcome, code, blank_row):
    played = play(transcribing(VAD), [*steps, (1800, end)])
    row = played.row(blank_row)
    assert (row.outcome, row.failure_stage, row.error_code) == (outcome, stage, code)
    assert played.turn.settled
    assert played.turn.broke_session
    assert played.turn.deadline_ns is None


def test_a_target_that_takes_nothing_off_the_wire_is_a_timeout_of_speaking(blank_row):
    played = play(VAD, [*USER["vad"][:2], (800, BLOCKED)])
    row = played.row(blank_row)
    assert (row.outcome, row.failure_stage, row.error_code) == (Outcome.TIMEOUT, Stage.SPEAK, "send_blocked")
    assert played.turn.broke_session


def test_a_blocked_wire_does_not_change_an_answer_that_ended(blank_row):
    steps = [*USER["vad"], *ANSWER]
    assert play(VAD, [*steps, (2100, BLOCKED)]).row(blank_row) == play(VAD, steps).row(blank_row)


def test_what_was_recorded_before_a_drop_is_kept(blank_row):
    row = play(VAD, [*USER["vad"], *ANSWER[:3], (1800, Lost())]).row(blank_row)
    assert (row.first_audio_ns, row.response_done_ns, row.output_transcript) == (1700 * MS, None, "On its way.")
    assert len(row.deltas) == 2


LOST_AFTER = [
    pytest.param(error("session_expired", message="60 minutes"), Lost("close_1001"), "session_expired", "60 minutes",
                 id="the session expired"),
    pytest.param(error("server_error", message="sorry"), Lost("close_1011"), "close_1011", "sorry",
                 id="an error explains the close"),
    pytest.param(error("server_error", message="sorry"), Lost("close_1011", "shutdown"), "close_1011", "shutdown",
                 id="the close explains itself"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "end", "code", "message"), LOST_AFTER)
def test_a_drop_is_explained_by_the_last_error(event, end, code, message, blank_row):
    row = play(VAD, [*USER["vad"], (1500, event), (1501, end)]).row(blank_row)
    assert (row.outcome, row.error_code, row.error_message) == (Outcome.DROPPED, code, message)


@pytest.mark.parametrize("end", [Lost(), CUT], ids=["lost", "cut"])
def test_an_answer_that_ended_stays_what_it_was(end, blank_row):
    """Only its transcript is missing when the connection ends after it."""
    played = play(transcribing(VAD), [*USER["vad"], *ANSWER, (2100, end)])
    row = played.row(blank_row)
    assert (row.outcome, row.transcript_outcome) == (Outcome.OK, TranscriptOutcome.MISSING)
    assert played.phases[-2:] == [Phase.ANSWERED, Phase.SETTLED]
    assert not played.turn.broke_session


def test_a_row_of_a_turn_under_way_is_cut(blank_row):
    assert play(VAD, USER["vad"]).row(blank_row).outcome is Outcome.CUT


# ---- phases ----


@EVERY_MODE
def test_a_turn_rises_through_its_phases(mode):
    phases = play(transcribing(SPECS[mode]), [*USER[mode], *ANSWER, (2500, heard())]).phases
    assert phases == sorted(phases)
    assert set(phases) >= {Phase.WAITING, Phase.ANSWERING, Phase.SETTLED}


@pytest.mark.parametrize(
    ("spec", "phase"),
    [
        pytest.param(VAD, Phase.SETTLED, id="nothing is transcribed"),
        pytest.param(transcribing(VAD), Phase.ANSWERED, id="the transcript is awaited"),
        pytest.param(transcribing(TEXT), Phase.SETTLED, id="a prompt is not transcribed"),
    ],
)
def test_an_answered_turn_waits_for_its_transcript_only(spec, phase):
    turn = play(spec, [*USER["text" if spec.mode is Mode.TEXT else "vad"], *ANSWER]).turn
    assert turn.phase is phase
    assert turn.answered
    assert turn.answered_ns == 2000 * MS


EVENTS_OF_EVERY_CLASS = [
    started(), stopped(), committed("i9"), user_item("i9"), created("r9"), done("r9"), audio(9, "r9"), said("?", "r9"),
    wrote("?", "r9"), ev.TextDone(response_id="r9", text="?"), ev.TranscriptDone(response_id="r9", transcript="?"),
    ev.OutputItemAdded(response_id="r9", item=call()), ev.FunctionArgumentsDone(response_id="r9", call_id="c",
                                                                                arguments="{}"),
    error("invalid_value"), ev.RateLimitsUpdated(), ev.UnknownEvent(type="new"), ev.AudioDone(response_id="r9"),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS_OF_EVERY_CLASS, ids=lambda event: type(event).__name__)
def test_a_settled_turn_does_not_change(event, blank_row):
    steps = [*USER["vad"], *ANSWER]
    assert play(VAD, [*steps, (3000, event)]).row(blank_row) == play(VAD, steps).row(blank_row)


@pytest.mark.parametrize("event", EVENTS_OF_EVERY_CLASS, ids=lambda event: type(event).__name__)
def test_an_answered_turn_keeps_its_answer(event, blank_row):
    steps = [*USER["vad"], *ANSWER]
    assert play(transcribing(VAD), [*steps, (3000, event)]).row(blank_row) == play(transcribing(VAD), steps).row(
        blank_row
    )


@pytest.mark.parametrize("event", EVENTS_OF_EVERY_CLASS, ids=lambda event: type(event).__name__)
def test_a_turn_that_has_not_begun_hears_nothing(event):
    played = play(VAD, [(0, event)])
    assert (played.sent, played.turn.phase, played.turn.oddities) == ([], Phase.SPEAKING, [])


def test_a_turn_knows_its_own():
    turn = play(TEXT, [*USER["text"], *ANSWER[:1]]).turn
    assert turn.owns_response("r1")
    assert turn.owns_item("i1")
    assert turn.owns_request("c2")
    assert not any([turn.owns_response(None), turn.owns_item(None), turn.owns_request(None)])
    assert not any([turn.owns_response("r2"), turn.owns_item("i2"), turn.owns_request("c3")])


@pytest.mark.parametrize(
    ("spec", "steps", "awaited"),
    [
        pytest.param(MANUAL, USER["manual"][:1], False, id="manual, still speaking"),
        pytest.param(MANUAL, USER["manual"][:2], True, id="manual, asked"),
        pytest.param(VAD, USER["vad"][:1], True, id="vad, still speaking"),
        pytest.param(transcribing(VAD), [*USER["vad"], *ANSWER], False, id="answered"),
    ],
)
def test_a_response_is_the_answer_only_when_one_is_due(spec, steps, awaited):
    assert play(spec, steps).turn.awaits_answer is awaited


# ---- anchors ----


def test_anchors_are_the_arrivals(blank_row):
    row = play(transcribing(VAD), [*USER["vad"], *ANSWER, (2100, heard())]).row(blank_row)
    assert {name: getattr(row, name) for name in ANCHORS} == {name: at * MS for name, at in ANCHORS.items()}
    assert (row.item_id, row.response_id) == ("i1", "r1")
    assert (row.input_transcript, row.output_transcript) == ("where is my parcel", "On its way.")


ANCHORS = {
    "speech_end_ns": 950,
    "speech_stopped_ns": 1450,
    "committed_ns": 1451,
    "response_created_ns": 1500,
    "first_text_ns": 1600,
    "first_audio_ns": 1700,
    "last_audio_ns": 1700,
    "response_done_ns": 2000,
    "input_transcript_ns": 2100,
}

UNMEASURED = [
    pytest.param("text", {"speech_end_ns": 0, "create_ns": 0, "speech_stopped_ns": None, "committed_ns": None},
                 id="a prompt ends when it is written and is not committed"),
    pytest.param("manual", {"speech_end_ns": 950 * MS, "create_ns": 1000 * MS, "speech_stopped_ns": None,
                            "committed_ns": 1010 * MS}, id="manual: nobody detects the end"),
    pytest.param("vad", {"create_ns": None}, id="vad: we ask for nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "anchors"), UNMEASURED)
def test_an_anchor_that_does_not_apply_is_none(mode, anchors, blank_row):
    row = play(SPECS[mode], [*USER[mode], *ANSWER]).row(blank_row)
    assert {name: getattr(row, name) for name in anchors} == anchors
    assert row.item_id == "i1"


def test_first_arrivals_need_payload(blank_row):
    row = play(
        TEXT,
        [*USER["text"], (100, created()), (110, said("")), (120, audio(0)), (130, said("Hi.")), (140, audio(2)),
         (150, audio(4)), (160, done())],
    ).row(blank_row)  # fmt: skip
    assert (row.first_text_ns, row.first_audio_ns, row.last_audio_ns) == (130 * MS, 140 * MS, 150 * MS)
    assert row.deltas.kind == [DeltaKind.TRANSCRIPT, DeltaKind.AUDIO, DeltaKind.AUDIO]
    assert row.deltas.size_bytes == [0, 2, 4]
    assert row.deltas.chars == [3, 0, 0]


def test_tokens_are_those_the_server_counted(blank_row):
    usage = Usage(input_tokens=9, output_tokens=4)
    assert play(TEXT, [*USER["text"], (1, done(usage=usage))]).row(blank_row).usage == usage
    assert play(TEXT, [*USER["text"], (1, done())]).row(blank_row).usage == Usage()
    assert play(TEXT, USER["text"]).row(blank_row).usage == Usage()


# ---- split turns and early ends ----

SPLIT = [
    *[(0, BEGIN), (300, started()), (800, stopped()), (801, committed()), (850, created())],
    *[(860, said("Which ")), (870, audio(4800)), (900, started("i2"))],
    *[(910, done(status="cancelled", reason="turn_detected")), (1500, SpeechSent(1450))],
    *[(1900, stopped("i2")), (1901, committed("i2")), (1950, created("r2")), (2000, said("Yes.", "r2"))],
    *[(2100, audio(9600, "r2")), (2300, done("r2"))],
]


def test_a_split_turn_ends_with_the_answer_to_its_last_item(blank_row):
    played = play(VAD, SPLIT)
    row = played.row(blank_row)
    assert (row.outcome, row.response_id, row.item_id) == (Outcome.OK, "r2", "i2")
    assert (row.speech_stopped_ns, row.committed_ns, row.first_audio_ns) == (1900 * MS, 1901 * MS, 2100 * MS)
    assert (row.output_transcript, row.split_turn, row.early_endpoint) == ("Yes.", True, True)
    assert played.turn.deltas.size_bytes == [0, 9600]
    assert played.phases[-2] is Phase.ANSWERING


TALKED_OVER = [
    pytest.param(VAD, SPLIT, 100.0, id="4 800 bytes came while the user spoke"),
    pytest.param(replace(VAD, output_bytes_per_s=8000), SPLIT, 600.0, id="the same in G.711"),
    pytest.param(VAD, [*USER["vad"], *ANSWER], 0.0, id="nobody talked over"),
    pytest.param(MANUAL, [*USER["manual"], *ANSWER], 0.0, id="manual: nobody can"),
    pytest.param(TEXT, [*USER["text"], *ANSWER], None, id="a prompt is not spoken"),
    pytest.param(VAD, [(0, BEGIN), (500, Lost())], None, id="speech never ended"),
]


@pytest.mark.parametrize(("spec", "steps", "talk_over_ms"), TALKED_OVER)
def test_talk_over_is_answer_audio_that_came_before_the_end_of_speech(spec, steps, talk_over_ms, blank_row):
    assert play(spec, steps).row(blank_row).talk_over_ms == talk_over_ms


EARLY = [(0, BEGIN), (300, started()), (800, stopped()), (801, committed()), (850, created()), (860, audio())]


def test_an_early_end_leaves_time_for_the_rest_of_the_speech(blank_row):
    """The server may not have heard the rest of it yet: the answer counts once the grace is over."""
    spec = replace(VAD, early_grace_ns=500 * MS)
    steps = [*EARLY, (900, done()), (1000, SpeechSent(950))]
    turn = play(spec, steps).turn
    assert not turn.answered
    assert turn.deadline_ns == 1450 * MS
    assert not play(spec, [*steps, (1449, TICK)]).turn.answered
    played = play(spec, [*steps, (1450, TICK)])
    assert played.turn.answered_ns == 900 * MS
    row = played.row(blank_row)
    assert (row.outcome, row.early_endpoint, row.split_turn) == (Outcome.OK, True, False)


def test_an_answer_that_is_complete_does_not_time_out_within_the_grace(blank_row):
    spec = replace(VAD, response_timeout_ns=100 * MS, early_grace_ns=500 * MS)
    steps = [*EARLY, (900, done()), (1000, SpeechSent(950))]
    assert play(spec, steps).turn.deadline_ns == 1450 * MS
    assert play(spec, [*steps, (1200, TICK), (1450, TICK)]).row(blank_row).outcome is Outcome.OK


def test_an_early_answer_under_way_has_the_usual_deadline():
    turn = play(VAD, [*EARLY, (1000, SpeechSent(950))]).turn
    assert turn.deadline_ns == 1000 * MS + VAD.response_timeout_ns


def test_the_rest_of_the_speech_within_the_grace_makes_the_turn_go_on(blank_row):
    steps = [*EARLY, (900, done()), (1000, SpeechSent(950)), (1050, started("i2")), (1500, stopped("i2")),
             (1501, committed("i2"))]  # fmt: skip
    assert not play(VAD, [*steps, (9000, TICK)]).turn.answered
    row = play(VAD, [*steps, (1600, created("r2")), (1700, done("r2", output=(call(),)))]).row(blank_row)
    assert (row.outcome, row.response_id, row.split_turn) == (Outcome.OK, "r2", True)


ENDS = [
    pytest.param([(800, stopped()), (801, committed())], True, id="stopped before the end of speech"),
    pytest.param([(980, stopped()), (981, committed())], False, id="stopped after it"),
    pytest.param([(801, committed())], False, id="committed only: nobody said when it stopped"),
]


@pytest.mark.parametrize(("ends", "early"), ENDS)
def test_an_early_endpoint_is_a_stop_before_the_end_of_speech(ends, early, blank_row):
    row = play(VAD, [(0, BEGIN), (300, started()), *ends, (1000, SpeechSent(950)), *ANSWER]).row(blank_row)
    assert row.early_endpoint is early


def test_a_commit_before_the_end_of_speech_leaves_the_grace_too():
    turn = play(VAD, [(0, BEGIN), (801, committed()), (810, done(output=(call(),))), (1000, SpeechSent(950))]).turn
    assert not turn.answered


def test_an_answer_that_is_complete_when_speech_ends_ends_the_turn_at_once():
    """The end was heard late: no grace is due."""
    steps = [(0, BEGIN), (960, stopped()), (961, committed()), (970, done(output=(call(),))), (1000, SpeechSent(950))]
    played = play(VAD, steps)
    assert played.phases[-1] is Phase.SETTLED


# ---- user items ----

ITEMS = [
    pytest.param(VAD, [(1, started("i1")), (2, stopped("i1")), (3, committed("i1"))], "i1", 2, 3, id="one id"),
    pytest.param(VAD, [(1, started(None)), (2, stopped(None)), (3, committed("i1"))], "i1", 2, 3,
                 id="named by the commit only"),
    pytest.param(VAD, [(1, started(None)), (2, stopped("i1")), (3, committed("i1"))], "i1", 2, 3,
                 id="named by the stop, then the commit"),
    pytest.param(VAD, [(1, started(None)), (2, stopped(None)), (3, committed(None))], None, 2, 3, id="never named"),
    pytest.param(VAD, [(2, stopped("i1")), (3, committed("i1"))], "i1", 2, 3, id="start unheard"),
    pytest.param(VAD, [(3, committed("i1"))], "i1", None, 3, id="commit only"),
    pytest.param(VAD, [(1, started()), (2, stopped()), (3, stopped()), (4, committed()), (5, committed())], "i1", 2, 4,
                 id="each told twice: the first counts"),
    pytest.param(VAD, [(1, started()), (2, started()), (3, stopped()), (4, committed())], "i1", 3, 4,
                 id="started twice"),
    pytest.param(VAD, [(1, started()), (2, stopped()), (3, user_item()), (4, committed())], "i1", 2, 4,
                 id="vad: the item does not replace its commit"),
    pytest.param(VAD, [(3, user_item())], None, None, None, id="vad: an item alone is no speech"),
    pytest.param(VAD, [(1, started()), (2, stopped())], "i1", 2, None, id="not committed"),
    pytest.param(MANUAL, [(3, user_item()), (4, committed())], "i1", None, 3, id="manual: item before its commit"),
    pytest.param(MANUAL, [(3, user_item(part="input_text"))], None, None, None, id="manual: a text item is not ours"),
    pytest.param(MANUAL, [(3, ev.ItemAdded(item=ev.Item(id="a", role="assistant")))], None, None, None,
                 id="an assistant's item is not the user's"),
    pytest.param(MANUAL, [(2, stopped()), (3, committed())], "i1", None, 3, id="manual: a stop means nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "events", "item", "stopped_ms", "committed_ms"), ITEMS)
def test_user_items_are_joined_by_id(spec, events, item, stopped_ms, committed_ms, blank_row):
    steps = [(0, BEGIN), (0.5, SpeechSent(0.5)), *events]
    row = play(spec, steps).row(blank_row)
    found = (row.item_id, row.speech_stopped_ns, row.committed_ns)
    assert found == (item, *(None if at is None else at * MS for at in (stopped_ms, committed_ms)))
    assert not row.split_turn


# ---- responses ----

RESPONSES = [
    pytest.param([(1, created()), (2, audio()), (3, done())], "r1", 1, [], id="as it should be"),
    pytest.param([(2, audio()), (3, done())], "r1", None, ["delta_without_created"], id="deltas without created"),
    pytest.param([(2, audio()), (2.5, created()), (3, done())], "r1", 2.5, ["delta_without_created"],
                 id="created late"),
    pytest.param([(3, done(output=(call(),)))], "r1", None, [], id="done without created"),
    pytest.param([(1, created()), (2, created()), (3, done(output=(call(),)))], "r1", 1, [], id="created twice"),
    pytest.param([(1, created("")), (2, audio(response=None)), (3, done(""))], None, 1, [], id="no ids at all"),
    pytest.param([(1, created("")), (2, audio()), (3, done())], "r1", 1, [], id="the id comes with the deltas"),
    pytest.param([(1, created()), (2, audio(response=None)), (3, done(""))], "r1", 1, [], id="the id comes once"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "response", "created_ms", "oddities"), RESPONSES)
def test_a_response_is_followed_by_its_id(events, response, created_ms, oddities, blank_row):
    row = play(TEXT, [(0, BEGIN), *events]).row(blank_row)
    assert (row.outcome, row.response_id, list(row.oddities)) == (Outcome.OK, response, oddities)
    assert row.response_created_ns == (None if created_ms is None else round(created_ms * MS))
    assert not row.split_turn


@EVERY_MODE
def test_of_two_responses_the_last_counts(mode, blank_row):
    steps = [*USER[mode], (1500, created()), (1510, said("First.")), (1520, created("r2")), (1530, done())]
    assert not play(SPECS[mode], steps).turn.answered
    row = play(SPECS[mode], [*steps, (1540, said("Second.", "r2")), (1550, done("r2"))]).row(blank_row)
    assert (row.response_id, row.output_transcript, row.split_turn) == ("r2", "Second.", True)


AFTER_DONE = [
    pytest.param(audio(), "delta_after_done", id="audio"),
    pytest.param(said("late"), "delta_after_done", id="transcript"),
    pytest.param(wrote("late"), "delta_after_done", id="text"),
    pytest.param(ev.TextDone(response_id="r1", text="late"), "delta_after_done", id="whole text"),
    pytest.param(ev.OutputItemDone(response_id="r1", item=call("late")), "delta_after_done", id="item"),
    pytest.param(ev.FunctionArgumentsDone(response_id="r1", call_id="late", arguments="{}"), "delta_after_done",
                 id="arguments"),
    pytest.param(done(status="failed"), "done_twice", id="done"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "oddity"), AFTER_DONE)
def test_what_comes_after_the_end_of_a_response_is_odd_and_does_not_count(event, oddity, blank_row):
    """Seen while the turn waits for the rest of the user's speech."""
    steps = [*EARLY, (900, done()), (1000, SpeechSent(950))]
    quiet = play(VAD, [*steps, (9000, TICK)]).row(blank_row)
    row = play(VAD, [*steps, (1100, event), (1101, event), (9000, TICK)]).row(blank_row)
    assert row.oddities == (oddity,)
    assert replace(row, oddities=()) == quiet


WORDS = [
    pytest.param([said("On its "), said("way.")], None, "On its way.", [], id="transcript deltas join"),
    pytest.param([wrote("On its "), wrote("way.")], "On its way.", None, [], id="text deltas join"),
    pytest.param([said("Two"), said("One", output=0, content=1), said("!", content=1), said("Three", output=1)], None,
                 "Two One! Three", [], id="parts stand in their order"),
    pytest.param([said("b", output=1), said("a", output=0)], None, "a b", [], id="whatever order they came in"),
    pytest.param([said("On its way."), ev.TranscriptDone(response_id="r1", transcript="On its way.")], None,
                 "On its way.", [], id="the whole confirms the deltas"),
    pytest.param([said("On its"), ev.TranscriptDone(response_id="r1", transcript="On its way.")], None,
                 "On its way.", ["transcript_differs_from_deltas"], id="the whole transcript wins"),
    pytest.param([wrote("On its"), ev.TextDone(response_id="r1", text="On its way.")], "On its way.", None,
                 ["text_differs_from_deltas"], id="the whole text wins"),
    pytest.param([said("On its way."), ev.TranscriptDone(response_id="r1", transcript="")], None, "On its way.", [],
                 id="an empty whole does not"),
    pytest.param([ev.TranscriptDone(response_id="r1", transcript="On its way.")], None, "On its way.", [],
                 id="the whole alone"),
    pytest.param([], None, None, [], id="no words"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "text", "transcript", "oddities"), WORDS)
def test_words_of_an_answer_are_joined_part_by_part(events, text, transcript, oddities, blank_row):
    answer = [(1, created()), *[(2, event) for event in events], (3, audio()), (4, done())]
    row = play(TEXT, [(0, BEGIN), *answer]).row(blank_row)
    assert (row.output_text, row.output_transcript, list(row.oddities)) == (text, transcript, oddities)
    assert row.first_text_ns == (2 * MS if events else None)


def test_words_that_only_the_end_tells_are_taken_from_there(blank_row):
    message = ev.Item(
        id="a", content=(ev.Part(type="audio", transcript="On its way."), ev.Part(type="text", text="(sent)"))
    )
    row = play(TEXT, [(0, BEGIN), (1, created()), (2, done(output=(message, call())))]).row(blank_row)
    assert (row.output_transcript, row.output_text, row.first_text_ns) == ("On its way.", "(sent)", None)


MISSING = [
    pytest.param(TEXT, [wrote("Yes.")], "completed", True, id="text only"),
    pytest.param(TEXT, [said("Yes.")], "completed", True, id="transcript only"),
    pytest.param(TEXT, [said("Yes."), audio()], "completed", False, id="audio came"),
    pytest.param(replace(TEXT, wants_audio=False), [wrote("Yes.")], "completed", False, id="audio was not asked for"),
    pytest.param(TEXT, [ev.OutputItemDone(response_id="r1", item=call())], "completed", False, id="a function call"),
    pytest.param(TEXT, [wrote("Yes.")], "failed", False, id="the answer failed anyway"),
]


@pytest.mark.parametrize(("spec", "events", "status", "missing"), MISSING)
def test_words_without_the_audio_asked_for_lack_a_modality(spec, events, status, missing, blank_row):
    answer = [(1, created()), *[(2, event) for event in events], (3, done(status=status))]
    row = play(spec, [(0, BEGIN), *answer]).row(blank_row)
    assert row.modality_missing is missing
    assert row.outcome is (Outcome.OK if status == "completed" else Outcome.FAILED)


TRACK = {"name": "track", "call_id": "call_1", "arguments": '{"parcel":7}'}
CALLS = [
    pytest.param([ev.OutputItemAdded(response_id="r1", item=call(arguments="")),
                  ev.FunctionArgumentsDelta(response_id="r1", call_id="call_1", delta='{"par'),
                  ev.FunctionArgumentsDone(response_id="r1", call_id="call_1", arguments='{"parcel":7}'),
                  ev.OutputItemDone(response_id="r1", item=call())], (call(),), [TRACK], id="all of them"),
    pytest.param([ev.OutputItemAdded(response_id="r1", item=call(arguments="")),
                  ev.FunctionArgumentsDone(response_id="r1", call_id="call_1", arguments='{"parcel":7}')], (), [TRACK],
                 id="name from the item, arguments from their end"),
    pytest.param([ev.FunctionArgumentsDone(response_id="r1", call_id="call_1", name="track",
                                           arguments='{"parcel":7}')], (), [TRACK], id="arguments' end alone"),
    pytest.param([], (call(),), [TRACK], id="response's end alone"),
    pytest.param([ev.OutputItemDone(response_id="r1", item=call(None))], (), [{**TRACK, "call_id": None}],
                 id="a call without an id"),
    pytest.param([ev.OutputItemDone(response_id="r1", item=call("call_2", "cancel", "{}"))], (call(),),
                 [{"name": "cancel", "call_id": "call_2", "arguments": "{}"}, TRACK], id="two calls"),
    pytest.param([ev.OutputItemAdded(response_id="r1", item=ev.Item(id="a"))], (ev.Item(id="a"),), [], id="a message"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "output", "calls"), CALLS)
def test_function_calls_are_put_together_from_whatever_tells_of_them(events, output, calls, blank_row):
    answer = [(1, created()), *[(2, event) for event in events], (3, done(output=output))]
    row = play(TEXT, [(0, BEGIN), *answer]).row(blank_row)
    assert list(row.tool_calls) == calls
    assert row.outcome is (Outcome.OK if calls else Outcome.EMPTY)


# ---- transcripts of the user's audio ----

TRANSCRIPTS = [
    pytest.param([(1480, heard())], Phase.SETTLED, "ok", "where is my parcel", 1480, id="before the answer"),
    pytest.param([(1650, heard())], Phase.SETTLED, "ok", "where is my parcel", 1650, id="amid the answer"),
    pytest.param([(2500, heard())], Phase.SETTLED, "ok", "where is my parcel", 2500, id="after the answer"),
    pytest.param([(1440, heard())], Phase.SETTLED, "ok", "where is my parcel", 1440, id="before the commit"),
    pytest.param([(1480, heard(""))], Phase.SETTLED, "ok", "", 1480, id="empty"),
    pytest.param([(1480, heard(item=None))], Phase.SETTLED, "ok", "where is my parcel", 1480, id="without an item id"),
    pytest.param([(1480, unheard(code="audio_unintelligible"))], Phase.SETTLED, "failed", None, None, id="failed"),
    pytest.param([], Phase.ANSWERED, "missing", None, None, id="never"),
    pytest.param([(1480, heard(item="i9"))], Phase.ANSWERED, "missing", None, None, id="of an item nobody knows"),
    pytest.param([(1480, ev.InputTranscriptDelta(item_id="i1", delta="where"))], Phase.ANSWERED, "missing", None, None,
                 id="begun, never completed"),
]  # fmt: skip


@pytest.mark.parametrize("spec", [transcribing(VAD), transcribing(MANUAL)], ids=["vad", "manual"])
@pytest.mark.parametrize(("events", "phase", "outcome", "text", "at_ms"), TRANSCRIPTS)
def test_the_transcript_runs_on_its_own_clock(spec, events, phase, outcome, text, at_ms, blank_row):
    # Items arrive at 1 010 in manual mode: there "before the commit" is simply early.
    steps = sorted([*USER[spec.mode], *ANSWER, *events], key=lambda step: step[0])
    played = play(spec, steps)
    row = played.row(blank_row)
    assert played.turn.phase is phase
    assert (row.transcript_outcome, row.input_transcript) == (outcome, text)
    assert row.input_transcript_ns == (None if at_ms is None else at_ms * MS)
    assert row.outcome is Outcome.OK


def test_a_transcript_that_never_comes_is_waited_for_with_its_own_timeout(blank_row):
    spec = replace(transcribing(VAD), transcription_timeout_ns=700 * MS)
    steps = [*USER["vad"], *ANSWER]
    assert play(spec, steps).turn.deadline_ns == 2700 * MS
    assert play(spec, [*steps, (2699, TICK)]).turn.phase is Phase.ANSWERED
    played = play(spec, [*steps, (2700, TICK)])
    row = played.row(blank_row)
    assert played.turn.settled
    assert (row.outcome, row.transcript_outcome) == (Outcome.OK, TranscriptOutcome.MISSING)
    assert not played.turn.broke_session


FAILURES = [
    pytest.param({"code": "audio_unintelligible", "type": "server_error"}, "audio_unintelligible", id="code"),
    pytest.param({"type": "server_error"}, "server_error", id="type"),
    pytest.param({}, "transcription_failed", id="nothing"),
]


@pytest.mark.parametrize(("error_fields", "code"), FAILURES)
def test_a_failed_transcription_is_named(error_fields, code, blank_row):
    row = play(transcribing(VAD), [*USER["vad"], *ANSWER, (2100, unheard(**error_fields))]).row(blank_row)
    assert (row.transcript_outcome, row.transcript_error) == (TranscriptOutcome.FAILED, code)


@pytest.mark.parametrize("spec", [VAD, transcribing(TEXT)], ids=["not asked for", "a prompt"])
def test_no_transcription_is_off(spec, blank_row):
    mode = "text" if spec.mode is Mode.TEXT else "vad"
    row = play(spec, [*USER[mode], *ANSWER[:-1], (1900, heard()), *ANSWER[-1:]]).row(blank_row)
    assert (row.transcript_outcome, row.input_transcript) == (TranscriptOutcome.OFF, None)


def test_the_first_of_two_transcripts_counts(blank_row):
    row = play(transcribing(VAD), [*USER["vad"], (1480, heard("one")), (1490, heard("two")), *ANSWER]).row(blank_row)
    assert (row.input_transcript, row.oddities) == ("one", ("transcribed_twice",))


def test_a_transcript_without_id_before_any_item_belongs_to_nobody(blank_row):
    row = play(transcribing(MANUAL), [*USER["manual"][:2], (1005, heard(item=None)), *USER["manual"][2:], *ANSWER])
    assert row.row(blank_row).transcript_outcome is TranscriptOutcome.MISSING


SPLIT_TRANSCRIPTS = [
    pytest.param([heard("my number is"), heard("seven", "i2")], "ok", "my number is seven", id="in order"),
    pytest.param([heard("seven", "i2"), heard("my number is")], "ok", "my number is seven", id="out of order"),
    pytest.param([heard(" my number is "), heard("", "i2")], "ok", "my number is", id="one empty"),
    pytest.param([heard("my number is")], "missing", "my number is", id="one missing"),
    pytest.param([heard("my number is"), unheard("i2", code="oops")], "failed", "my number is", id="one failed"),
]


@pytest.mark.parametrize(("events", "outcome", "text"), SPLIT_TRANSCRIPTS)
def test_transcripts_of_a_split_turn_are_joined_in_order_of_its_items(events, outcome, text, blank_row):
    steps = [*SPLIT, *[(2400 + number, event) for number, event in enumerate(events)]]
    played = play(transcribing(VAD), steps)
    row = played.row(blank_row)
    assert (row.transcript_outcome, row.input_transcript) == (outcome, text)
    assert played.turn.settled is (outcome != "missing")


SETTLED_WITHOUT = [
    pytest.param(VAD, [*USER["vad"][:3], (40_000, TICK)], Phase.SETTLED, id="nothing was committed"),
    pytest.param(VAD, [*USER["vad"], (40_000, TICK)], Phase.ANSWERED, id="committed, but not answered"),
    pytest.param(MANUAL, [*USER["manual"][:2], *ANSWER], Phase.ANSWERED, id="answered, the commit went unsaid"),
]


@pytest.mark.parametrize(("spec", "steps", "phase"), SETTLED_WITHOUT)
def test_a_failed_turn_waits_for_a_transcript_only_if_something_was_committed(spec, steps, phase):
    assert play(transcribing(spec), steps).turn.phase is phase


def test_a_turn_that_failed_while_the_user_spoke_sends_nothing_more(blank_row):
    played = play(MANUAL, [(0, BEGIN), (500, error("rate_limit_exceeded")), (1000, SpeechSent(950))])
    row = played.row(blank_row)
    assert played.sent == []
    assert (row.outcome, row.error_code, row.speech_end_ns) == (Outcome.FAILED, "rate_limit_exceeded", 950 * MS)


# ---- errors ----

ACTIVE = "conversation_already_has_active_response"
ERRORS = [
    pytest.param("text", error("invalid_value", to="c1"), "invalid_value", Stage.RESPOND, id="names our prompt"),
    pytest.param("text", error("invalid_value", to="c2"), "invalid_value", Stage.RESPOND, id="names our request"),
    pytest.param("text", error(kind="server_error", to="c2"), "server_error", Stage.RESPOND, id="has no code"),
    pytest.param("text", error(to="c2"), "error", Stage.RESPOND, id="says nothing"),
    pytest.param("manual", error("input_audio_buffer_commit_empty", to="c1"), "input_audio_buffer_commit_empty",
                 Stage.SPEAK, id="commit of nothing"),
    pytest.param("manual", error("input_audio_buffer_commit_empty"), "input_audio_buffer_commit_empty", Stage.SPEAK,
                 id="commit of nothing, without our id"),
    pytest.param("text", error(ACTIVE, to="c2"), ACTIVE, Stage.RESPOND, id="another response is active"),
    pytest.param("text", error(ACTIVE), ACTIVE, Stage.RESPOND, id="another response is active, without our id"),
    pytest.param("text", error(message="Conversation already has an active response"), ACTIVE, Stage.RESPOND,
                 id="another response is active, without a code"),
    pytest.param("text", error(message="Conversation already has an active response", to="c2"), ACTIVE, Stage.RESPOND,
                 id="another response is active, with our id, without a code"),
    pytest.param("text", error("rate_limit_exceeded"), "rate_limit_exceeded", Stage.RESPOND, id="throttled"),
    pytest.param("vad", error("rate_limit_exceeded"), "rate_limit_exceeded", Stage.RESPOND, id="throttled under vad"),
    pytest.param("text", error("insufficient_quota"), "insufficient_quota", Stage.RESPOND, id="out of quota"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "event", "code", "stage"), ERRORS)
def test_an_error_about_our_request_ends_the_turn_at_once(mode, event, code, stage, blank_row):
    played = play(SPECS[mode], [*USER[mode], (1460, event)])
    row = played.row(blank_row)
    assert (row.outcome, row.error_code, row.failure_stage) == (Outcome.FAILED, code, stage)
    assert row.error_message == (event.message or None)
    assert played.turn.answered_ns == 1460 * MS
    assert played.turn.broke_session is (code == ACTIVE)


BYSTANDERS = [
    pytest.param("text", error("invalid_value"), "error:invalid_value", id="without an id"),
    pytest.param("text", error("invalid_value", to="somebody"), "error:invalid_value", id="of another request"),
    pytest.param("text", error(kind="server_error"), "error:server_error", id="type only"),
    pytest.param("text", error("x" * 99), "error:" + "x" * 54, id="an endless code"),
    pytest.param("text", error(message="Cancellation failed: no active response found"), "error:error",
                 id="nothing was there to cancel"),
    pytest.param("vad", error(ACTIVE), f"error:{ACTIVE}", id="vad: we asked for no response"),
    pytest.param("vad", error("input_audio_buffer_commit_empty"), "error:input_audio_buffer_commit_empty",
                 id="vad: we commit nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "event", "oddity"), BYSTANDERS)
def test_any_other_error_is_an_oddity(mode, event, oddity, blank_row):
    played = play(SPECS[mode], [*USER[mode], (1460, event), (1461, event), *ANSWER])
    row = played.row(blank_row)
    assert (row.outcome, row.oddities) == (Outcome.OK, (oddity,))


def test_an_error_that_dooms_a_request_does_not_doom_an_answer_under_way(blank_row):
    row = play(TEXT, [*USER["text"], *ANSWER[:1], (1550, error(ACTIVE)), *ANSWER[1:]]).row(blank_row)
    assert row.outcome is Outcome.OK


def test_an_error_after_the_answer_does_not_change_it(blank_row):
    row = play(transcribing(VAD), [*USER["vad"], *ANSWER, (2100, error("rate_limit_exceeded"))]).row(blank_row)
    assert (row.outcome, row.error_code) == (Outcome.OK, None)


# ---- what should not happen ----

SURPRISES = [
    pytest.param("text", started("i9"), "speech_started_without_vad", id="text: speech"),
    pytest.param("manual", started("i9"), "speech_started_without_vad", id="manual: speech"),
    pytest.param("text", committed("i9"), "committed_without_audio", id="text: commit"),
]


@pytest.mark.parametrize(("mode", "event", "oddity"), SURPRISES)
def test_what_cannot_be_in_this_mode_is_an_oddity(mode, event, oddity, blank_row):
    row = play(SPECS[mode], [*USER[mode], (1200, event), (1201, event), *ANSWER]).row(blank_row)
    assert (row.outcome, row.oddities, row.split_turn) == (Outcome.OK, (oddity,), False)
