"""What real services were seen to do and a session has to survive, each with the public thread that tells of it."""

from __future__ import annotations

import orjson
import pytest

from rteval.realtime import events as ev
from rteval.realtime import pacing
from rteval.realtime.conversation import Conversation
from rteval.realtime.dialects import GA, PREVIEW
from rteval.realtime.turn import Mode, Turn, TurnSpec

MS = 1_000_000
SETTINGS = ev.SessionSettings(turn_detection={"type": "server_vad"}, transcription={"model": "whisper-1"})


class Call:
    """One session and its turn at hand, fed with raw frames."""

    def __init__(self, dialect=GA, *, ready=True):
        self.conversation = Conversation(dialect, SETTINGS)
        self.turns = []
        self.sent = []
        self.at_ms = 0
        if ready:
            self.hear(type="session.created", session={"id": "sess_1"})
            self.hear(type="session.updated", session={})
            self.sent.clear()

    def hear(self, **frame):
        self.at_ms += 10
        event = self.conversation.dialect.decode(orjson.dumps({"event_id": "event_1", **frame}))
        self.sent += self.conversation.feed(self.at_ms * MS, event)
        return self

    def speak(self, mode=Mode.MANUAL, item="item_1"):
        self.at_ms += 10
        spec = TurnSpec(mode=mode, text="Hello?", transcription=True)
        turn = Turn(spec, self.conversation.new_event_id)
        self.turns.append(turn)
        self.conversation.add(turn)
        if mode is Mode.TEXT:
            self.sent += turn.begin_text(self.at_ms * MS)
            return self
        turn.begin_speech()
        self.sent += turn.speech_sent(self.at_ms * MS, self.at_ms * MS)
        if mode is Mode.VAD:
            self.hear(type="input_audio_buffer.speech_started", item_id=item, audio_start_ms=0)
            self.hear(type="input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=900)
        if item is not None:
            self.hear(type="input_audio_buffer.committed", item_id=item, previous_item_id=None)
        return self

    def created(self, response="resp_1"):
        return self.hear(type="response.created", response={"id": response, "status": "in_progress"})

    def audio(self, response="resp_1"):
        return self.hear(type="response.output_audio.delta", response_id=response, delta="AAAA")

    def done(self, response="resp_1", status="completed", **rest):
        return self.hear(type="response.done", response={"id": response, "status": status, **rest})

    def answer(self):
        return self.created().audio().done()

    def heard(self, item="item_1", text="hello"):
        name = "conversation.item.input_audio_transcription.completed"
        return self.hear(type=name, item_id=item, transcript=text)

    def error(self, **error):
        return self.hear(type="error", error=error)

    def wait(self, seconds):
        self.at_ms += round(seconds * 1000)
        for turn in self.conversation.unsettled:
            turn.tick(self.at_ms * MS)
        return self

    def row(self, blank_row):
        row = blank_row()
        self.turns[-1].write_to(row)
        return row


def failed(**error):
    return {"status": "failed", "status_details": {"type": "failed", "error": error}}


ACTIVE = "conversation_already_has_active_response"
ROWS = [
    # simple-openai#258, aisearch-openai-rag-audio#81, livekit/agents#2650
    pytest.param(lambda: Call().speak().answer().wait(10), {"outcome": "ok", "transcript_outcome": "missing"},
                 id="transcription never comes"),
    # openai-realtime-console#46, openai-agents-js#297
    pytest.param(
        lambda: Call().speak().hear(
            type="conversation.item.input_audio_transcription.failed", item_id="item_1",
            error={"type": "server_error", "code": None, "message": "Input transcription failed for item 'item_1'."},
        ).answer(),
        {"outcome": "ok", "transcript_outcome": "failed", "transcript_error": "server_error"},
        id="transcription fails without a code"),
    # livekit/agents#1972
    pytest.param(
        lambda: Call().speak().created().done(**failed(type="server_error", code=None, message="Sorry.")).heard(),
        {"outcome": "failed", "error_code": "server_error", "error_message": "Sorry.", "transcript_outcome": "ok"},
        id="the server fails"),
    # twilio-samples/speech-assistant-openai-realtime-api-node#37
    pytest.param(lambda: Call().speak(Mode.VAD).done(**failed(type="server_error")).heard(),
                 {"outcome": "failed", "response_created_ns": None}, id="failed without having been created"),
    # livekit/agents-js#1128
    pytest.param(lambda: Call().speak().created().done(output=[], usage={"total_tokens": 0}).heard(),
                 {"outcome": "empty", "error_code": "empty_response"}, id="completed, and empty"),
    # sutando#1307: Azure closes with 1001 after it
    pytest.param(lambda: expire(Call().speak()), {"outcome": "dropped", "error_code": "session_expired"},
                 id="the session expires"),
    # livekit/agents#1056: a manual request races the detection's own answer
    pytest.param(lambda: Call().speak().error(code=ACTIVE, event_id="rteval_3").heard(),
                 {"outcome": "failed", "error_code": ACTIVE}, id="a response is active already"),
    # livekit/agents#2064, #6817
    pytest.param(lambda: Call().speak().error(code=ACTIVE, event_id=None).heard(),
                 {"outcome": "failed", "error_code": ACTIVE}, id="a response is active already, request unnamed"),
    # openai-agents-python#1466: without a code until early 2025
    pytest.param(
        lambda: Call().speak().error(code=None, message="Conversation already has an active response").heard(),
        {"outcome": "failed", "error_code": ACTIVE}, id="a response is active already, without a code"),
    # run-llama/openai_realtime_client#3
    pytest.param(lambda: Call().speak(item=None).error(code="input_audio_buffer_commit_empty", event_id="rteval_2"),
                 {"outcome": "failed", "failure_stage": "speak", "error_code": "input_audio_buffer_commit_empty"},
                 id="nothing to commit"),
    # openai-realtime-api-beta#72, livekit/agents#2471
    pytest.param(
        lambda: Call().speak().created().hear(
            type="response.output_text.delta", response_id="resp_1", delta="Hello."
        ).done().heard(),
        {"outcome": "ok", "modality_missing": True, "output_text": "Hello.", "first_audio_ns": None},
        id="text though audio was asked"),
    # Azure-Samples/aoai-realtime-audio-sdk: rtclient reads `content` where there is no `part`
    pytest.param(
        lambda: Call(PREVIEW).speak().created().hear(
            type="response.content_part.added", response_id="resp_1", content={"type": "audio", "transcript": ""}
        ).audio().done().heard(),
        {"outcome": "ok", "oddities": ()}, id="content in place of part"),
    # seen in captures of both services
    pytest.param(
        lambda: Call().speak().created().hear(
            type="conversation.item.done", previous_item_id=None, item={"id": "item_2", "role": "assistant"}
        ).audio().done().heard(),
        {"outcome": "ok", "item_id": "item_1"}, id="an item's end forgets what came before it"),
    # reported of Azure
    pytest.param(
        lambda: Call().speak().hear(type="error", event_id=None, error={"type": "server_error"}).answer().heard(),
        {"outcome": "ok", "oddities": ("error:server_error",)}, id="an error without an event id"),
    # no thread known: transcription runs on its own clock
    pytest.param(
        lambda: Call().speak(item=None).heard().hear(
            type="conversation.item.added", item={"id": "item_1", "role": "user", "content": [{"type": "input_audio"}]}
        ).hear(type="input_audio_buffer.committed", item_id="item_1").answer(),
        {"outcome": "ok", "transcript_outcome": "ok", "item_id": "item_1", "split_turn": False},
        id="transcript, then item, then commit"),
    # seen in captures: deltas in flight when a response was cancelled
    pytest.param(
        lambda: Call().speak(Mode.VAD).created().audio().done(
            status="cancelled", status_details={"reason": "turn_detected"}
        ).audio().heard(),
        {"outcome": "failed", "error_code": "turn_detected", "oddities": ()}, id="deltas after the cancellation"),
    # seen in captures: before, inside or after a response, an empty list, or never
    pytest.param(
        lambda: Call().speak().hear(type="rate_limits.updated", rate_limits=[]).created().hear(
            type="rate_limits.updated", rate_limits=[{"name": "tokens"}]
        ).audio().done().hear(type="rate_limits.updated").heard(),
        {"outcome": "ok", "oddities": ()}, id="rate limits anywhere"),
]  # fmt: skip


def expire(call):
    call.error(code="session_expired", message="Your session hit the maximum duration of 60 minutes.")
    call.conversation.lost(call.at_ms * MS, "close_1001")
    return call


@pytest.mark.parametrize(("call", "expected"), ROWS)
def test_a_turn_survives(call, expected, blank_row):
    played = call()
    assert played.turns[-1].settled
    row = played.row(blank_row)
    assert {name: getattr(row, name) for name in expected} == expected


REFUSALS = [
    # pipecat#1324, openai-agents-js#466, #748, livekit/agents#2650: GA's shape sent to Azure's preview
    pytest.param({"code": "unknown_parameter", "message": "Unknown parameter: 'session.type'.",
                  "param": "session.type"}, id="the other dialect's shape"),
    # whisrs#34
    pytest.param({"code": "beta_api_shape_disabled"}, id="the preview dialect is retired"),
    # livekit/agents#1183: no session.updated ever comes
    pytest.param({"code": "string_above_max_length", "event_id": "rteval_1"}, id="settings refused"),
    # openai/openai-python#2253
    pytest.param({"code": None, "message": "You must not provide a model parameter for transcription sessions."},
                 id="without a code"),
]  # fmt: skip


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refused_session_waits_for_nothing(error):
    call = Call(ready=False).hear(type="session.created", session={}).error(**error)
    assert call.conversation.refusal is not None
    assert call.conversation.refusal.code == error["code"]
    assert call.conversation.ready_ns is None


def test_the_preview_dialect_never_sends_a_session_type():
    """pipecat#1324: Azure's preview refuses it."""
    assert "type" not in PREVIEW.session(SETTINGS)


def test_a_second_session_created_is_not_answered_again():
    """No thread known."""
    call = Call(ready=False)
    for _ in range(2):
        call.hear(type="session.created", session={"id": "sess_1"})
    assert len(call.sent) == 1
    call.hear(type="session.updated", session={}).hear(type="session.updated", session={})
    assert call.conversation.ready_ns == 30 * MS


def test_the_model_a_session_reports_may_be_another():
    """openai-agents-js#1022: Azure tells the model behind the deployment."""
    call = Call().hear(type="session.updated", session={"model": "gpt-realtime-mini-2025-10-06"})
    assert call.conversation.reported_model == "gpt-realtime-mini-2025-10-06"
    assert call.conversation.ignored_settings == ()


def test_a_sessions_life_is_what_it_says():
    """openai-realtime-api-beta#23, livekit/agents#2341, #2358: 15, 30 and 60 minutes were all seen."""
    call = Call(ready=False).hear(type="session.created", session={"expires_at": 1_788_480_000})
    assert call.conversation.expires_at == 1_788_480_000


def test_detection_owns_the_buffer():
    """run-llama/openai_realtime_client#3: a commit of ours would meet an empty one."""
    assert Call().speak(Mode.VAD).answer().heard().sent == []


def test_deltas_after_an_answer_ended_do_not_reach_the_next_turn(blank_row):
    """Seen in captures: audio in flight when a response was cancelled."""
    call = Call().speak(Mode.VAD).created().done(status="cancelled", status_details={"reason": "turn_detected"})
    call.speak(Mode.VAD, item="item_2").audio("resp_1").created("resp_2").audio("resp_2").done("resp_2")
    assert sum(call.row(blank_row).deltas.size_bytes) == 3


def test_no_frame_leaves_before_it_would_have_been_spoken():
    """Audio far faster than real time is not what a microphone sends; detection may split or merge turns on it."""
    start_ns = 5 * MS
    assert all(pacing.due_ns(start_ns, n, 100) - start_ns >= (n + 1) * 100 * MS for n in range(50))
