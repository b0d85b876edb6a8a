"""What holds between the turns of a session: getting ready, and which turn an event is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rteval.realtime import events as ev
from rteval.realtime.conversation import Conversation, differing_settings
from rteval.realtime.dialects import GA, PREVIEW
from rteval.realtime.turn import Mode, Phase, Turn, TurnSpec
from rteval.records import Outcome, TranscriptOutcome

MS = 1_000_000
SETTINGS = ev.SessionSettings(instructions="Be brief.", voice="alloy")
CREATED = ev.SessionCreated(session={"id": "sess_1", "model": "gpt-realtime", "expires_at": 1_800_000_000})
UPDATED = ev.SessionUpdated(session={"id": "sess_1", "model": "gpt-realtime"})


def response(event_class, response_id, status="completed"):
    return event_class(response=ev.Response(id=response_id, status=status))


def ready(dialect=GA):
    conversation = Conversation(dialect, SETTINGS)
    conversation.feed(1, CREATED)
    conversation.feed(2, UPDATED)
    return conversation


def text_turn(conversation, at_ns=10):
    turn = Turn(TurnSpec(mode=Mode.TEXT, text="Hello?"), conversation.new_event_id)
    conversation.add(turn)
    turn.begin_text(at_ns)
    return turn


def spoken_turn(conversation, at_ns=10, *, item=None, mode=Mode.MANUAL):
    turn = Turn(TurnSpec(mode=mode, transcription=True), conversation.new_event_id)
    conversation.add(turn)
    turn.begin_speech()
    turn.speech_sent(at_ns, at_ns)
    if item is not None:
        conversation.feed(at_ns + 1, ev.AudioCommitted(item_id=item))
    return turn


# ---- getting ready ----


def test_the_settings_are_asked_for_once_the_session_is_there():
    conversation = Conversation(GA, SETTINGS)
    assert conversation.feed(1, CREATED) == [ev.UpdateSession(settings=SETTINGS, event_id="rteval_1")]
    assert conversation.ready_ns is None


def test_a_session_is_ready_when_its_settings_were_acknowledged():
    assert ready().ready_ns == 2


READINESS = [
    pytest.param([CREATED], None, id="created is not ready"),
    pytest.param([UPDATED], None, id="an acknowledgement of nothing"),
    pytest.param([UPDATED, CREATED], None, id="the acknowledgement came before we asked"),
    pytest.param([CREATED, UPDATED, UPDATED], 1, id="acknowledged twice: the first counts"),
    pytest.param([CREATED, CREATED, UPDATED], 2, id="created twice"),
    pytest.param([ev.ConversationCreated(id="conv_1"), CREATED, UPDATED], 2, id="a conversation was created"),
    pytest.param([CREATED, ev.RateLimitsUpdated(), ev.UnknownEvent(type="new"), UPDATED], 3, id="others between"),
]


@pytest.mark.parametrize(("events", "ready_at"), READINESS)
def test_only_the_acknowledged_update_makes_a_session_ready(events, ready_at):
    conversation = Conversation(GA, SETTINGS)
    sent = [command for at, event in enumerate(events) for command in conversation.feed(at, event)]
    assert conversation.ready_ns == ready_at
    assert len(sent) == (1 if CREATED in events else 0)


def test_an_error_before_the_session_is_ready_is_a_refusal():
    conversation = Conversation(GA, SETTINGS)
    first = ev.ErrorReported(code="invalid_api_key", message="no")
    conversation.feed(1, first)
    conversation.feed(2, ev.ErrorReported(code="server_error"))
    assert (conversation.refusal, conversation.ready_ns) == (first, None)


def test_an_error_after_that_is_none():
    conversation = ready()
    conversation.feed(3, ev.ErrorReported(code="server_error"))
    assert conversation.refusal is None


def test_the_session_is_what_the_server_says():
    conversation = ready()
    assert (conversation.session_id, conversation.reported_model) == ("sess_1", "gpt-realtime")
    assert conversation.expires_at == 1_800_000_000


@pytest.mark.parametrize(
    "session",
    [
        {},
        {"id": None, "model": None, "expires_at": None},
        {"id": 5, "model": [], "expires_at": "soon"},
        {"expires_at": True},
        {"expires_at": 2**64 - 1},
    ],
    ids=["nothing", "null", "wrong types", "a truth for a time", "a time beyond 64 bits"],
)
def test_what_a_session_does_not_say_is_kept_from_before(session):
    conversation = ready()
    conversation.feed(3, ev.SessionUpdated(session=session))
    assert (conversation.session_id, conversation.reported_model) == ("sess_1", "gpt-realtime")
    assert conversation.expires_at == 1_800_000_000


DIFFERENCES = [
    pytest.param({"a": 1}, {"a": 1, "b": 2}, [], id="the same, and more"),
    pytest.param({"a": 1}, {}, [], id="left unsaid"),
    pytest.param({"a": 1}, {"a": 2}, ["a"], id="another value"),
    pytest.param({"a": None}, {"a": {"type": "server_vad"}}, ["a"], id="not switched off"),
    pytest.param({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3, "d": 2, "e": 4}}}, ["a.b.c"], id="nested"),
    pytest.param({"a": {"b": 1}}, {"a": None}, ["a"], id="not switched on"),
    pytest.param({"t": [{"name": "x"}]}, {"t": [{"name": "x", "strict": None}]}, [], id="lists: filled up"),
    pytest.param({"t": [1, 2]}, {"t": [1]}, ["t"], id="lists: one is missing"),
    pytest.param({"t": [1]}, {"t": "auto"}, ["t"], id="a list became something else"),
    pytest.param({"a": 1, "b": 2}, {"a": 0, "b": 0}, ["a", "b"], id="two of them"),
]


@pytest.mark.parametrize(("asked", "effective", "paths"), DIFFERENCES)
def test_settings_that_the_session_shows_otherwise_are_named(asked, effective, paths):
    assert differing_settings(asked, effective) == paths


@pytest.mark.parametrize(
    ("dialect", "session", "ignored"),
    [
        pytest.param(GA, {"audio": {"output": {"voice": "marin"}}}, ("audio.output.voice",), id="ga"),
        pytest.param(PREVIEW, {"voice": "marin"}, ("voice",), id="preview"),
    ],
)
def test_ignored_settings_are_those_of_the_acknowledgement(dialect, session, ignored):
    conversation = Conversation(dialect, SETTINGS)
    conversation.feed(1, CREATED)
    conversation.feed(2, ev.SessionUpdated(session=session))
    conversation.feed(3, ev.SessionUpdated(session={}))
    assert conversation.ignored_settings == ignored


# ---- what concerns no turn ----


def test_unknown_events_are_counted_by_type_and_by_turn():
    conversation = ready()
    conversation.feed(3, ev.UnknownEvent(type="session.avatar.ready"))
    earlier = spoken_turn(conversation)
    turn = text_turn(conversation)
    for event in (
        ev.UnknownEvent(type="warning"),
        ev.UnknownEvent(type="", reason="not JSON"),
        ev.UnknownEvent(type=""),
    ):
        assert conversation.feed(20, event) == []
    assert conversation.unknown_events == {"session.avatar.ready": 1, "warning": 1, "not JSON": 1, "?": 1}
    assert (earlier.unknown_events, turn.unknown_events) == (0, 3)
    assert turn.phase is Phase.WAITING


def test_the_last_rate_limits_are_kept():
    conversation = ready()
    limits = ({"name": "tokens", "limit": 1000, "remaining": 900, "reset_seconds": 1.5},)
    conversation.feed(3, ev.RateLimitsUpdated(limits=limits))
    assert conversation.rate_limits == limits
    conversation.feed(4, ev.RateLimitsUpdated())
    assert conversation.rate_limits == ()


@pytest.mark.parametrize(
    "event",
    [response(ev.ResponseCreated, "r1"), ev.ErrorReported(code="oops"), ev.SpeechStarted(item_id="i1")],
    ids=lambda event: type(event).__name__,
)
def test_without_a_turn_nothing_happens(event):
    assert ready().feed(3, event) == []


def test_requests_have_ids_of_their_own():
    conversation = ready()
    assert [conversation.new_event_id() for _ in range(2)] == ["rteval_2", "rteval_3"]


# ---- which turn an event is for ----


def test_commands_of_a_turn_come_back():
    conversation = ready()
    turn = Turn(TurnSpec(mode=Mode.VAD, auto_response=False), conversation.new_event_id)
    conversation.add(turn)
    turn.begin_speech()
    turn.speech_sent(10, 10)
    assert conversation.feed(20, ev.AudioCommitted(item_id="i1")) == [ev.CreateResponse(event_id="rteval_2")]


def test_a_late_transcript_reaches_its_own_turn():
    conversation = ready()
    first = spoken_turn(conversation, 10, item="i1")
    conversation.feed(20, response(ev.ResponseCreated, "r1"))
    conversation.feed(30, response(ev.ResponseDone, "r1"))
    second = spoken_turn(conversation, 40, item="i2")
    assert conversation.unsettled == [first, second]
    conversation.feed(60, ev.InputTranscriptDelta(item_id="i1", delta="fir"))
    conversation.feed(70, ev.InputTranscriptCompleted(item_id="i1", transcript="first"))
    assert first.settled
    assert conversation.unsettled == [second]
    conversation.feed(71, response(ev.ResponseDone, "r2"))
    conversation.feed(80, ev.InputTranscriptFailed(item_id="i2"))
    assert conversation.unsettled == []


def test_a_transcript_of_an_unknown_item_goes_to_the_turn_at_hand(blank_row):
    conversation = ready()
    turn = spoken_turn(conversation)
    conversation.feed(20, ev.InputTranscriptCompleted(item_id="i1", transcript="early"))
    conversation.feed(21, ev.AudioCommitted(item_id="i1"))
    conversation.feed(22, response(ev.ResponseDone, "r1"))
    row = blank_row()
    turn.write_to(row)
    assert (row.input_transcript, row.transcript_outcome) == ("early", TranscriptOutcome.OK)


def test_an_error_reaches_the_turn_whose_request_it_names():
    conversation = ready()
    first = spoken_turn(conversation, 10, item="i1")
    conversation.feed(30, response(ev.ResponseDone, "r1"))
    second = text_turn(conversation, 40)
    conversation.feed(50, ev.ErrorReported(code="oops", client_event_id="rteval_2"))
    assert (first.owns_request("rteval_2"), second.outcome, second.oddities) == (True, None, [])
    conversation.feed(51, ev.ErrorReported(code="oops", client_event_id="rteval_5"))
    assert (second.outcome, second.error_code) == (Outcome.FAILED, "oops")


def test_an_error_that_names_no_request_goes_to_the_turn_at_hand():
    conversation = ready()
    turn = text_turn(conversation)
    conversation.feed(20, ev.ErrorReported(code="oops"))
    assert turn.oddities == ["error:oops"]


def test_events_of_an_earlier_response_do_not_reach_the_next_turn():
    conversation = ready()
    first = spoken_turn(conversation, 10, item="i1")
    conversation.feed(20, response(ev.ResponseCreated, "r1"))
    conversation.feed(30, response(ev.ResponseDone, "r1"))
    second = text_turn(conversation, 40)
    conversation.feed(50, ev.AudioDelta(response_id="r1", audio=b"", size_bytes=100))
    assert (len(first.deltas), len(second.deltas), second.phase) == (0, 0, Phase.WAITING)
    assert conversation.unsolicited_responses == 0


def test_an_event_without_a_response_id_goes_to_the_turn_at_hand():
    conversation = ready()
    turn = text_turn(conversation)
    conversation.feed(20, response(ev.ResponseCreated, ""))
    conversation.feed(21, ev.AudioDelta(response_id=None, audio=b"", size_bytes=100))
    conversation.feed(22, response(ev.ResponseDone, ""))
    assert (turn.outcome, len(turn.deltas)) == (Outcome.OK, 1)


UNASKED = [
    pytest.param(lambda conversation: None, id="between two turns"),
    pytest.param(
        lambda conversation: conversation.add(Turn(TurnSpec(mode=Mode.MANUAL), conversation.new_event_id)),
        id="while the user still speaks",
    ),
]


@pytest.mark.parametrize("go_on", UNASKED)
def test_a_response_that_nobody_asked_for_is_counted_and_never_an_answer(go_on):
    conversation = ready()
    first = text_turn(conversation)
    conversation.feed(20, response(ev.ResponseDone, "r1"))
    go_on(conversation)
    for event in (response(ev.ResponseCreated, "r2"), ev.TextDelta(response_id="r2", delta="Surprise.")):
        assert conversation.feed(30, event) == []
    second = text_turn(conversation, 40)
    conversation.feed(50, ev.TextDelta(response_id="r2", delta="Still here."))
    conversation.feed(51, response(ev.ResponseDone, "r2"))
    assert (first.outcome, second.outcome, len(second.deltas)) == (Outcome.EMPTY, None, 0)
    assert conversation.unsolicited_responses == 1
    conversation.feed(60, response(ev.ResponseCreated, "r3"))
    assert second.phase is Phase.ANSWERING


def test_detection_may_answer_while_the_user_speaks():
    conversation = ready()
    turn = Turn(TurnSpec(mode=Mode.VAD), conversation.new_event_id)
    conversation.add(turn)
    turn.begin_speech()
    conversation.feed(20, ev.AudioCommitted(item_id="i1"))
    conversation.feed(21, response(ev.ResponseCreated, "r1"))
    assert turn.owns_response("r1")
    assert conversation.unsolicited_responses == 0


# ---- the end of the connection ----


def test_a_lost_connection_ends_every_turn_that_is_not_complete():
    conversation = ready()
    first = spoken_turn(conversation, 10, item="i1")
    conversation.feed(30, response(ev.ResponseDone, "r1"))
    second = spoken_turn(conversation, 40)
    conversation.lost(50, "close_1006", "gone")
    assert (first.settled, first.outcome) == (True, Outcome.EMPTY)
    assert (second.outcome, second.error_code, second.error_message) == (Outcome.DROPPED, "close_1006", "gone")


def test_a_session_that_expired_says_so_in_every_turn_that_was_lost():
    conversation = ready()
    conversation.feed(5, ev.ErrorReported(code="session_expired", message="60 minutes"))
    turn = spoken_turn(conversation)
    conversation.lost(50, "close_1001")
    assert conversation.expired
    assert turn.error_code == "session_expired"


def test_settled_turns_are_forgotten():
    conversation = ready()
    first = text_turn(conversation)
    conversation.feed(20, response(ev.ResponseDone, "r1"))
    second = text_turn(conversation, 30)
    assert first.settled
    assert conversation.unsettled == [second]


# ---- what a session is expected to give ----


@pytest.mark.parametrize(
    ("modalities", "audio"),
    [
        pytest.param(None, True, id="the services' default"),
        pytest.param(("text", "audio"), True, id="both"),
        pytest.param(("audio",), True, id="audio"),
        pytest.param(("text",), False, id="text"),
    ],
)
def test_audio_is_expected_unless_only_text_was_asked(modalities, audio):
    assert replace(SETTINGS, modalities=modalities).wants_audio is audio
