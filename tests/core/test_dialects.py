"""Frames to events and requests to frames, in both dialects."""

from __future__ import annotations

import json
from types import SimpleNamespace

import orjson
import pytest

from rteval.formats import G711_ALAW, G711_ULAW, PCM16
from rteval.realtime import events as ev
from rteval.realtime.dialects import DIALECTS, GA, PREVIEW, UnsupportedSettingError
from rteval.realtime.dialects.frames import base64_size, decode, sniff_audio_delta
from rteval.records import Usage

BOTH = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


def frame(**body):
    return orjson.dumps(body)


# ---- what we ask ----

USER_TEXT = ev.Item(id=None, role="user", content=(ev.Part(type="input_text", text="Hello?"),))
REQUESTS = [
    pytest.param(ev.AppendAudio(audio="AAAA"), {"type": "input_audio_buffer.append", "audio": "AAAA"}, id="append"),
    pytest.param(ev.CommitAudio(), {"type": "input_audio_buffer.commit"}, id="commit"),
    pytest.param(
        ev.CommitAudio(event_id="e1"), {"type": "input_audio_buffer.commit", "event_id": "e1"}, id="with an event id"
    ),
    pytest.param(ev.ClearAudio(), {"type": "input_audio_buffer.clear"}, id="clear"),
    pytest.param(
        ev.CreateItem(item=USER_TEXT),
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]},
        },
        id="item: appended",
    ),
    pytest.param(
        ev.CreateItem(item=ev.Item(id="i1", role="user"), previous_item_id="root"),
        {
            "type": "conversation.item.create",
            "previous_item_id": "root",
            "item": {"id": "i1", "type": "message", "role": "user", "content": []},
        },
        id="item: first",
    ),
    pytest.param(
        ev.CreateItem(item=ev.Item(id=None, type="function_call_output", call_id="c1", output="{}")),
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c1", "output": "{}"}},
        id="item: result of a call",
    ),
    pytest.param(
        ev.TruncateItem(item_id="i1", content_index=0, audio_end_ms=300),
        {"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 300},
        id="truncate",
    ),
    pytest.param(
        ev.DeleteItem(item_id="i1"), {"type": "conversation.item.delete", "item_id": "i1"}, id="delete"
    ),
    pytest.param(
        ev.RetrieveItem(item_id="i1"), {"type": "conversation.item.retrieve", "item_id": "i1"}, id="retrieve"
    ),
    pytest.param(ev.CreateResponse(), {"type": "response.create"}, id="response"),
    pytest.param(
        ev.CreateResponse(response={"metadata": {"a": "b"}}),
        {"type": "response.create", "response": {"metadata": {"a": "b"}}},
        id="response with settings",
    ),
    pytest.param(ev.CancelResponse(), {"type": "response.cancel"}, id="cancel whatever is active"),
    pytest.param(
        ev.CancelResponse(response_id="r1"), {"type": "response.cancel", "response_id": "r1"}, id="cancel one"
    ),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("event", "body"), REQUESTS)
def test_a_request_is_the_same_frame_in_every_dialect(dialect, event, body):
    assert orjson.loads(dialect.encode(event)) == body


@pytest.mark.parametrize(
    ("dialect", "parts"),
    [
        pytest.param(GA, ["output_text", "output_audio"], id="ga"),
        pytest.param(PREVIEW, ["text", "audio"], id="preview"),
    ],
)
def test_an_assistants_parts_have_the_dialects_names(dialect, parts):
    content = (ev.Part(type="text", text="Yes."), ev.Part(type="audio", transcript="Yes.", audio="AAAA"))
    request = ev.CreateItem(item=ev.Item(id=None, role="assistant", content=content))
    text, audio = orjson.loads(dialect.encode(request))["item"]["content"]
    assert text == {"type": parts[0], "text": "Yes."}
    assert audio == {"type": parts[1], "transcript": "Yes.", "audio": "AAAA"}


@BOTH
def test_what_is_no_request_cannot_be_asked(dialect):
    with pytest.raises(AssertionError):
        dialect.encode(SimpleNamespace(event_id=None))


# ---- session settings ----

VAD = {"type": "server_vad", "silence_duration_ms": 500}
TOOL = {"type": "function", "name": "track", "parameters": {}}
PCM = {"type": "audio/pcm", "rate": 24_000}
GA_BARE = {
    "type": "realtime",
    "audio": {"input": {"format": PCM, "turn_detection": None, "transcription": None}, "output": {"format": PCM}},
}
PREVIEW_BARE = {
    "input_audio_format": "pcm16",
    "output_audio_format": "pcm16",
    "turn_detection": None,
    "input_audio_transcription": None,
}
FULL = ev.SessionSettings(
    instructions="Be brief.",
    voice="alloy",
    modalities=("text", "audio"),
    turn_detection=VAD,
    input_format=G711_ULAW,
    output_format=G711_ALAW,
    transcription={"model": "whisper-1"},
    tools=(TOOL,),
    tool_choice="auto",
    max_output_tokens="inf",
)
SESSIONS = [
    pytest.param(GA, ev.SessionSettings(), GA_BARE, id="ga: nothing asked"),
    pytest.param(PREVIEW, ev.SessionSettings(), PREVIEW_BARE, id="preview: nothing asked"),
    pytest.param(
        GA,
        FULL,
        {
            "type": "realtime",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "turn_detection": VAD,
                    "transcription": {"model": "whisper-1"},
                },
                "output": {"format": {"type": "audio/pcma"}, "voice": "alloy"},
            },
            "output_modalities": ["audio"],
            "instructions": "Be brief.",
            "tools": [TOOL],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
        },
        id="ga: everything",
    ),
    pytest.param(
        PREVIEW,
        FULL,
        {
            "input_audio_format": "g711_ulaw",
            "output_audio_format": "g711_alaw",
            "turn_detection": VAD,
            "input_audio_transcription": {"model": "whisper-1"},
            "modalities": ["text", "audio"],
            "instructions": "Be brief.",
            "voice": "alloy",
            "tools": [TOOL],
            "tool_choice": "auto",
            "max_response_output_tokens": "inf",
        },
        id="preview: everything",
    ),
    pytest.param(
        GA, ev.SessionSettings(modalities=("text",)), {**GA_BARE, "output_modalities": ["text"]}, id="ga: text only"
    ),
    pytest.param(
        PREVIEW,
        ev.SessionSettings(modalities=("text",)),
        {**PREVIEW_BARE, "modalities": ["text"]},
        id="preview: text only",
    ),
    pytest.param(
        PREVIEW,
        ev.SessionSettings(modalities=("audio",)),
        {**PREVIEW_BARE, "modalities": ["text", "audio"]},
        id="preview: audio never comes alone",
    ),
    pytest.param(
        PREVIEW, ev.SessionSettings(temperature=0.6), {**PREVIEW_BARE, "temperature": 0.6}, id="preview: temperature"
    ),
    pytest.param(
        GA,
        ev.SessionSettings(raw={"truncation": "auto", "audio": {"output": {"speed": 1.2}}}),
        {
            "type": "realtime",
            "audio": {**GA_BARE["audio"], "output": {"format": PCM, "speed": 1.2}},
            "truncation": "auto",
        },
        id="ga: raw keys are laid on top, mapping by mapping",
    ),
    pytest.param(
        GA,
        ev.SessionSettings(raw={"audio": None, "type": {"a": 1}}),
        {"type": {"a": 1}, "audio": None},
        id="ga: raw keys win over everything",
    ),
    pytest.param(
        PREVIEW,
        ev.SessionSettings(raw={"speed": 1.2, "turn_detection": {"type": "none"}}),
        {**PREVIEW_BARE, "speed": 1.2, "turn_detection": {"type": "none"}},
        id="preview: raw keys are laid on top",
    ),
]


@pytest.mark.parametrize(("dialect", "settings", "session"), SESSIONS)
def test_settings_have_their_place_in_each_dialect(dialect, settings, session):
    body = orjson.loads(dialect.encode(ev.UpdateSession(settings=settings, event_id="e1")))
    assert body == {"type": "session.update", "event_id": "e1", "session": session}


def test_a_setting_that_a_dialect_cannot_carry_is_named():
    with pytest.raises(UnsupportedSettingError, match=r"^temperature$"):
        GA.encode(ev.UpdateSession(settings=ev.SessionSettings(temperature=0.8)))


def test_a_rendered_session_is_nobody_elses():
    """Formats are constants: a caller that changes what it got must not change them."""
    GA.session(ev.SessionSettings())["audio"]["input"]["format"]["rate"] = 8_000
    assert GA.session(ev.SessionSettings()) == GA_BARE


FORMAT_NAMES = [
    pytest.param(PCM16, PCM, id="pcm16"),
    pytest.param(G711_ULAW, {"type": "audio/pcmu"}, id="g711_ulaw"),
    pytest.param(G711_ALAW, {"type": "audio/pcma"}, id="g711_alaw"),
]


@pytest.mark.parametrize(("fmt", "ga"), FORMAT_NAMES)
def test_every_format_has_a_name_in_every_dialect(fmt, ga):
    settings = ev.SessionSettings(input_format=fmt, output_format=fmt)
    audio = GA.session(settings)["audio"]
    assert audio["input"]["format"] == audio["output"]["format"] == ga
    flat = PREVIEW.session(settings)
    assert flat["input_audio_format"] == flat["output_audio_format"] == fmt.name


# ---- what we are told ----

WHERE = {"response_id": "r1", "item_id": "a1", "output_index": 1, "content_index": 2}
WIRE_ITEM = {
    "id": "a1",
    "object": "realtime.item",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_audio", "transcript": "Yes."}, {"type": "output_text", "text": "(nods)"}, 7],
}
ITEM = ev.Item(
    id="a1",
    status="completed",
    role="assistant",
    content=(ev.Part(type="audio", transcript="Yes."), ev.Part(type="text", text="(nods)")),
)
WIRE_CALL = {"id": "f1", "type": "function_call", "name": "track", "call_id": "c1", "arguments": "{}"}
CALL = ev.Item(id="f1", type="function_call", name="track", call_id="c1", arguments="{}")
USAGE = {
    "total_tokens": 821,
    "input_tokens": 789,
    "output_tokens": 32,
    "input_token_details": {
        "text_tokens": 313,
        "audio_tokens": 476,
        "cached_tokens": 640,
        "cached_tokens_details": {"text_tokens": 256, "audio_tokens": 384},
    },
    "output_token_details": {"text_tokens": 9, "audio_tokens": 23.0},
}
SESSION = {"id": "sess_1", "model": "gpt-realtime"}
TOLD = [
    pytest.param(
        {"type": "error", "error": {"type": "invalid_request_error", "code": "invalid_value", "message": "no",
                                    "param": "type", "event_id": "e1"}},
        ev.ErrorReported(type="invalid_request_error", code="invalid_value", message="no", param="type",
                         client_event_id="e1"), id="error"),
    pytest.param({"type": "session.created", "session": SESSION}, ev.SessionCreated(session=SESSION),
                 id="session created"),
    pytest.param({"type": "session.updated", "session": SESSION}, ev.SessionUpdated(session=SESSION),
                 id="session updated"),
    pytest.param({"type": "transcription_session.created", "session": SESSION}, ev.SessionCreated(session=SESSION),
                 id="transcription session created"),
    pytest.param({"type": "transcription_session.updated", "session": SESSION}, ev.SessionUpdated(session=SESSION),
                 id="transcription session updated"),
    pytest.param({"type": "conversation.created", "conversation": {"id": "conv_1"}},
                 ev.ConversationCreated(id="conv_1"), id="conversation"),
    pytest.param({"type": "conversation.item.created", "previous_item_id": None, "item": WIRE_ITEM},
                 ev.ItemAdded(item=ITEM), id="item created"),
    pytest.param({"type": "conversation.item.added", "previous_item_id": "i0", "item": WIRE_ITEM},
                 ev.ItemAdded(item=ITEM, previous_item_id="i0"), id="item added"),
    pytest.param({"type": "conversation.item.done", "previous_item_id": None, "item": WIRE_CALL},
                 ev.ItemDone(item=CALL), id="item done"),
    pytest.param({"type": "conversation.item.retrieved", "item": WIRE_CALL}, ev.ItemRetrieved(item=CALL),
                 id="item retrieved"),
    pytest.param({"type": "conversation.item.deleted", "item_id": "i1"}, ev.ItemDeleted(item_id="i1"),
                 id="item deleted"),
    pytest.param({"type": "conversation.item.truncated", "item_id": "i1", "content_index": 0, "audio_end_ms": 300},
                 ev.ItemTruncated(item_id="i1", content_index=0, audio_end_ms=300), id="item truncated"),
    pytest.param({"type": "conversation.item.input_audio_transcription.delta", "item_id": "i1", "content_index": 1,
                  "delta": "wh"}, ev.InputTranscriptDelta(item_id="i1", delta="wh", content_index=1),
                 id="transcription delta"),
    pytest.param({"type": "conversation.item.input_audio_transcription.completed", "item_id": "i1",
                  "transcript": "where", "usage": {"seconds": 2}},
                 ev.InputTranscriptCompleted(item_id="i1", transcript="where", usage={"seconds": 2}),
                 id="transcription completed"),
    pytest.param({"type": "conversation.item.input_audio_transcription.completed", "item_id": "i1", "transcript": ""},
                 ev.InputTranscriptCompleted(item_id="i1", transcript=""), id="transcription of nothing"),
    pytest.param({"type": "conversation.item.input_audio_transcription.failed", "item_id": "i1",
                  "error": {"type": "server_error", "code": None, "message": "no"}},
                 ev.InputTranscriptFailed(item_id="i1", type="server_error", message="no"), id="transcription failed"),
    pytest.param({"type": "input_audio_buffer.committed", "previous_item_id": None, "item_id": "i1"},
                 ev.AudioCommitted(item_id="i1"), id="committed"),
    pytest.param({"type": "input_audio_buffer.cleared"}, ev.AudioCleared(), id="cleared"),
    pytest.param({"type": "input_audio_buffer.speech_started", "audio_start_ms": 320, "item_id": "i1"},
                 ev.SpeechStarted(item_id="i1", audio_start_ms=320), id="speech started"),
    pytest.param({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 1400, "item_id": "i1"},
                 ev.SpeechStopped(item_id="i1", audio_end_ms=1400), id="speech stopped"),
    pytest.param({"type": "input_audio_buffer.timeout_triggered", "audio_start_ms": 900, "audio_end_ms": 5900,
                  "item_id": "i1"},
                 ev.InputTimedOut(item_id="i1", audio_start_ms=900, audio_end_ms=5900), id="input timed out"),
    pytest.param({"type": "response.created", "response": {"id": "r1", "status": "in_progress", "usage": None,
                                                           "metadata": {"n": "1", "m": 1}}},
                 ev.ResponseCreated(response=ev.Response(id="r1", status="in_progress", metadata={"n": "1"})),
                 id="response created"),
    pytest.param({"type": "response.done",
                  "response": {"id": "r1", "status": "completed", "conversation_id": "conv_1", "output": [WIRE_ITEM],
                               "usage": USAGE}},
                 ev.ResponseDone(response=ev.Response(
                     id="r1", status="completed", conversation_id="conv_1", output=(ITEM,),
                     usage=Usage(input_tokens=789, output_tokens=32, input_text_tokens=313, input_audio_tokens=476,
                                 input_cached_tokens=640, input_cached_text_tokens=256, input_cached_audio_tokens=384,
                                 output_text_tokens=9, output_audio_tokens=23))), id="response done"),
    pytest.param({"type": "response.done",
                  "response": {"id": "r1", "status": "cancelled",
                               "status_details": {"type": "cancelled", "reason": "turn_detected"}}},
                 ev.ResponseDone(response=ev.Response(id="r1", status="cancelled", reason="turn_detected")),
                 id="response cancelled"),
    pytest.param({"type": "response.done",
                  "response": {"id": "r1", "status": "failed",
                               "status_details": {"type": "failed", "error": {"type": "server_error", "code": "x",
                                                                              "message": "no"}}}},
                 ev.ResponseDone(response=ev.Response(id="r1", status="failed", error_type="server_error",
                                                      error_code="x", error_message="no")), id="response failed"),
    pytest.param({"type": "response.output_item.added", "response_id": "r1", "output_index": 1, "item": WIRE_CALL},
                 ev.OutputItemAdded(response_id="r1", item=CALL, output_index=1), id="output item added"),
    pytest.param({"type": "response.output_item.done", "response_id": "r1", "output_index": 1, "item": WIRE_CALL},
                 ev.OutputItemDone(response_id="r1", item=CALL, output_index=1), id="output item done"),
    pytest.param({"type": "response.content_part.added", **WHERE, "part": {"type": "audio", "transcript": ""}},
                 ev.ContentPartAdded(part=ev.Part(type="audio", transcript=""), **WHERE), id="part added"),
    pytest.param({"type": "response.content_part.done", **WHERE, "part": {"type": "text", "text": "Yes."}},
                 ev.ContentPartDone(part=ev.Part(type="text", text="Yes."), **WHERE), id="part done"),
    pytest.param({"type": "response.text.delta", **WHERE, "delta": "Ye"}, ev.TextDelta(delta="Ye", **WHERE),
                 id="text delta"),
    pytest.param({"type": "response.output_text.delta", **WHERE, "delta": "Ye", "obfuscation": "x"},
                 ev.TextDelta(delta="Ye", **WHERE), id="output text delta"),
    pytest.param({"type": "response.text.done", **WHERE, "text": "Yes."}, ev.TextDone(text="Yes.", **WHERE),
                 id="text done"),
    pytest.param({"type": "response.output_text.done", **WHERE, "text": "Yes."}, ev.TextDone(text="Yes.", **WHERE),
                 id="output text done"),
    pytest.param({"type": "response.audio_transcript.delta", **WHERE, "delta": "Ye"},
                 ev.TranscriptDelta(delta="Ye", **WHERE), id="transcript delta"),
    pytest.param({"type": "response.output_audio_transcript.delta", **WHERE, "delta": "Ye"},
                 ev.TranscriptDelta(delta="Ye", **WHERE), id="output transcript delta"),
    pytest.param({"type": "response.audio_transcript.done", **WHERE, "transcript": "Yes."},
                 ev.TranscriptDone(transcript="Yes.", **WHERE), id="transcript done"),
    pytest.param({"type": "response.output_audio_transcript.done", **WHERE, "transcript": "Yes."},
                 ev.TranscriptDone(transcript="Yes.", **WHERE), id="output transcript done"),
    pytest.param({"type": "response.audio.done", **WHERE}, ev.AudioDone(**WHERE), id="audio done"),
    pytest.param({"type": "response.output_audio.done", **WHERE}, ev.AudioDone(**WHERE), id="output audio done"),
    pytest.param({"type": "response.function_call_arguments.delta", "response_id": "r1", "item_id": "f1",
                  "output_index": 1, "call_id": "c1", "delta": "{"},
                 ev.FunctionArgumentsDelta(response_id="r1", item_id="f1", output_index=1, call_id="c1", delta="{"),
                 id="arguments delta"),
    pytest.param({"type": "response.function_call_arguments.done", "response_id": "r1", "item_id": "f1",
                  "output_index": 1, "call_id": "c1", "name": "track", "arguments": "{}"},
                 ev.FunctionArgumentsDone(response_id="r1", item_id="f1", output_index=1, call_id="c1", name="track",
                                          arguments="{}"), id="arguments done"),
    pytest.param({"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "x": {}, "y": []}, "z"]},
                 ev.RateLimitsUpdated(limits=({"name": "tokens"},)), id="rate limits"),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("body", "event"), TOLD)
def test_a_name_means_the_same_wherever_it_occurs(dialect, body, event):
    """Servers mix the dialects' names."""
    assert dialect.decode(orjson.dumps({"event_id": "event_1", **body})) == event


@pytest.mark.parametrize("name", ["response.audio.delta", "response.output_audio.delta"])
def test_an_audio_delta_that_needs_the_full_parse_tells_its_place_too(name):
    spaced = json.dumps({"type": name, **WHERE, "delta": "AAAAAA=="}).encode()
    assert sniff_audio_delta(spaced) is None
    assert decode(spaced) == ev.AudioDelta(audio=b"AAAAAA==", size_bytes=4, **WHERE)


EVENT_TYPES = sorted({type(case.values[1]) for case in TOLD} | {ev.AudioDelta}, key=lambda event: event.__name__)


def test_every_server_event_has_a_name_in_every_dialect():
    """None is a name too: the dialect does not have it."""
    assert set(GA.server_names) == set(PREVIEW.server_names) == set(EVENT_TYPES)
    assert [name for name, wire in PREVIEW.server_names.items() if wire is None] == [ev.ItemDone, ev.InputTimedOut]
    assert all(GA.server_names.values())


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event: event.__name__)
@BOTH
def test_a_dialects_own_name_decodes_to_its_event(dialect, event_type):
    name = dialect.server_names[event_type]
    assert name is None or type(dialect.decode(frame(type=name))) is event_type


UNREADABLE = [
    pytest.param(b"", "", "not JSON", id="empty"),
    pytest.param(b"{", "", "not JSON", id="cut off"),
    pytest.param(b"\xff\xfe{}", "", "not JSON", id="not UTF-8"),
    pytest.param(b'{"type":"error"} {}', "", "not JSON", id="two documents"),
    pytest.param(b"[" * 100_000, "", "not JSON", id="too deep"),
    pytest.param('{"type":"error"}'.encode("utf-16"), "", "not JSON", id="UTF-16"),
    pytest.param(b"[]", "", "not an object", id="a list"),
    pytest.param(b"null", "", "not an object", id="null"),
    pytest.param(b'"error"', "", "not an object", id="a string"),
    pytest.param(b"{}", "", "no type", id="no type"),
    pytest.param(b'{"type":7}', "", "no type", id="a number for a type"),
    pytest.param(b'{"type":null}', "", "no type", id="null for a type"),
    pytest.param(b'{"type":"session.avatar.ready"}', "session.avatar.ready", None, id="merely new"),
    pytest.param(b'{"type":"' + b"x" * 200 + b'"}', "x" * 80, None, id="an endless type"),
]


@BOTH
@pytest.mark.parametrize(("data", "type_", "reason"), UNREADABLE)
def test_a_frame_that_cannot_be_read_is_an_unknown_event(dialect, data, type_, reason):
    assert dialect.decode(data) == dialect.decode(bytearray(data)) == ev.UnknownEvent(type=type_, reason=reason)


DEEP = b"[" * 990 + b"]" * 990
LENIENT = [
    pytest.param(b'{"type":"response.text.delta","delta":"ab\\ud83d"}', ev.TextDelta(response_id=None, delta="ab?"),
                 id="half a character"),
    pytest.param(b'{"type":"response.text.delta","delta":"\\ud83d\\ude00"}',
                 ev.TextDelta(response_id=None, delta="\U0001f600"), id="both halves"),
    pytest.param(b'{"type":"response.audio.delta","delta":"AA\\ud83dA"}',
                 ev.AudioDelta(response_id=None, audio=b"AA?A", size_bytes=3), id="half a character in the audio"),
    pytest.param(b'{"type":"conversation.item.deleted","item_id":"i1","n":[NaN,Infinity,1e999]}',
                 ev.ItemDeleted(item_id="i1"), id="numbers that JSON does not have"),
    pytest.param(b'{"type":"input_audio_buffer.speech_started","item_id":"i1","audio_start_ms":NaN}',
                 ev.SpeechStarted(item_id="i1"), id="a time that is no number"),
    pytest.param(b'{"type":"response.done","response":{"id":"r1","status":"failed","metadata":{"a":' + DEEP + b"}}}",
                 ev.ResponseDone(response=ev.Response(id="r1", status="failed", metadata={})), id="deep metadata"),
    pytest.param(b'{"type":"rate_limits.updated","rate_limits":[{"a":' + DEEP + b"}]}",
                 ev.RateLimitsUpdated(limits=({},)), id="deep rate limits"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "event"), LENIENT)
def test_a_frame_that_is_nearly_json_is_read_all_the_same(data, event):
    """What comes out can be stored and printed."""
    assert decode(data) == decode(bytearray(data)) == event


NOTHINGS = [
    ev.ErrorReported(),
    ev.SessionCreated(session={}),
    ev.SessionUpdated(session={}),
    ev.ConversationCreated(),
    ev.ItemAdded(item=ev.Item(id=None)),
    ev.ItemDone(item=ev.Item(id=None)),
    ev.ItemDeleted(item_id=""),
    ev.ItemTruncated(item_id="", content_index=0, audio_end_ms=0),
    ev.ItemRetrieved(item=ev.Item(id=None)),
    ev.InputTranscriptDelta(item_id=None, delta=""),
    ev.InputTranscriptCompleted(item_id=None, transcript=""),
    ev.InputTranscriptFailed(item_id=None),
    ev.AudioCommitted(item_id=None),
    ev.AudioCleared(),
    ev.SpeechStarted(item_id=None),
    ev.SpeechStopped(item_id=None),
    ev.InputTimedOut(item_id=None),
    ev.ResponseCreated(response=ev.Response(id="", status="")),
    ev.ResponseDone(response=ev.Response(id="", status="")),
    ev.OutputItemAdded(response_id=None, item=ev.Item(id=None)),
    ev.OutputItemDone(response_id=None, item=ev.Item(id=None)),
    ev.ContentPartAdded(response_id=None, item_id=None, part=ev.Part(type="")),
    ev.ContentPartDone(response_id=None, item_id=None, part=ev.Part(type="")),
    ev.TextDelta(response_id=None, delta=""),
    ev.TextDone(response_id=None, text=""),
    ev.TranscriptDelta(response_id=None, delta=""),
    ev.TranscriptDone(response_id=None, transcript=""),
    ev.AudioDelta(response_id=None, audio=b"", size_bytes=0),
    ev.AudioDone(response_id=None),
    ev.FunctionArgumentsDelta(response_id=None, call_id=None, delta=""),
    ev.FunctionArgumentsDone(response_id=None, call_id=None, arguments=""),
    ev.RateLimitsUpdated(),
]
FIELDS = [
    *("response_id", "item_id", "previous_item_id", "call_id", "output_index", "content_index", "audio_start_ms"),
    *(
        "audio_end_ms",
        "delta",
        "text",
        "transcript",
        "arguments",
        "name",
        "part",
        "content",
        "item",
        "session",
        "error",
    ),
    *("conversation", "response", "rate_limits", "usage"),
]


@pytest.mark.parametrize("event", NOTHINGS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        dict.fromkeys(FIELDS),
        dict.fromkeys(FIELDS, True),
        dict.fromkeys(FIELDS, 0.5),
        {field: [[0]] for field in FIELDS},
    ],
    ids=["absent", "null", "booleans", "fractions", "lists"],
)
def test_a_field_of_the_wrong_type_counts_as_absent(event, fields):
    assert decode(frame(type=GA.server_names[type(event)], **fields)) == event


INSIDE = [
    pytest.param({"response": {"id": 5, "status": [], "output": "x", "usage": 1, "metadata": [],
                               "status_details": "y"}}, ev.Response(id="", status=""), id="wrong types"),
    pytest.param({"response": {"id": "r1", "status": "failed", "status_details": {"error": "boom"}}},
                 ev.Response(id="r1", status="failed"), id="an error that is no object"),
    pytest.param({"response": {"id": "r1", "status": "completed", "usage": {}}},
                 ev.Response(id="r1", status="completed", usage=Usage()), id="usage without counts"),
    pytest.param({"response": {"id": "r1", "status": "completed", "usage": {
                     "input_tokens": "7", "output_tokens": True, "input_token_details": None,
                     "output_token_details": {"text_tokens": 1.5, "audio_tokens": 2.0}}}},
                 ev.Response(id="r1", status="completed", usage=Usage(output_audio_tokens=2)),
                 id="usage with strange counts"),
    pytest.param({"response": {"id": "r1", "status": "completed", "usage": {
                     "input_tokens": 1e300, "output_tokens": 2**63}}},
                 ev.Response(id="r1", status="completed", usage=Usage()), id="usage that no table can hold"),
    pytest.param({"response": {"id": "r1", "status": "completed",
                               "output": [{"id": "a", "content": {"type": "text"}}, None]}},
                 ev.Response(id="r1", status="completed", output=(ev.Item(id="a"),)), id="content that is no list"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "response"), INSIDE)
def test_inside_a_response_too(body, response):
    assert decode(frame(type="response.done", **body)) == ev.ResponseDone(response=response)


ITEMS = [
    pytest.param({"id": "i1", "type": "function_call_output", "call_id": "c1", "output": "{}"},
                 ev.Item(id="i1", type="function_call_output", call_id="c1", output="{}"), id="result of a call"),
    pytest.param({"id": "i1", "type": "function_call_output", "output": {"a": 1}},
                 ev.Item(id="i1", type="function_call_output"), id="a result that is no text"),
    pytest.param({"id": "i1", "role": "user",
                  "content": [{"type": "input_audio", "audio": "AAAA", "transcript": None}]},
                 ev.Item(id="i1", role="user", content=(ev.Part(type="input_audio", audio="AAAA"),)), id="user audio"),
    pytest.param({"id": "i1", "role": "user", "content": [{"type": "input_image"}]},
                 ev.Item(id="i1", role="user", content=(ev.Part(type="input_image"),)), id="a part that is not ours"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "item"), ITEMS)
def test_items_are_told_in_neutral_words(body, item):
    assert decode(frame(type="conversation.item.added", item=body)) == ev.ItemAdded(item=item)


# ---- audio deltas, without parsing ----

SNIFFED = [
    pytest.param(b'{"type":"response.output_audio.delta","response_id":"r1","delta":"AAAA"}', id="ga"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA"}', id="preview"),
    pytest.param(b'{"event_id":"e","response_id":"r1","type":"response.audio.delta","delta":"AAAA"}', id="type later"),
    pytest.param(b'{"type":"response.audio.delta","delta":"AAAA","response_id":"r1"}', id="audio first"),
    pytest.param(b'{"delta":"AAAA","response_id":"r1","type":"response.audio.delta"}', id="type last"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA","n":[1,null]}', id="a list"),
]


@pytest.mark.parametrize("data", SNIFFED)
def test_a_plain_audio_delta_is_read_without_parsing(data):
    expected = ev.AudioDelta(response_id="r1", audio=b"AAAA", size_bytes=3)
    assert sniff_audio_delta(data) == sniff_audio_delta(bytearray(data)) == decode(data) == expected


LEFT_TO_THE_PARSER = [
    pytest.param(b' {"type":"response.audio.delta","response_id":"r1","delta":"AAAA"}', id="a blank before"),
    pytest.param(b'{"type": "response.audio.delta","response_id":"r1","delta":"AAAA"}', id="a blank in the type"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta": "AAAA"}', id="a blank in the delta"),
    pytest.param(b'{"type":"response.audio.delta","response_id": "r1","delta":"AAAA"}', id="a blank in the id"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA" }', id="a blank after the delta"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA"}\n', id="a line end"),
    pytest.param(b'{"type":"response.audio.delta","delta":"AAAA"}', id="no id"),
    pytest.param(b'{"type":"response.audio.delta","response_id":null,"delta":"AAAA"}', id="null for an id"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AA\\/A"}', id="an escape in the audio"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r\\u0031","delta":"AAAA"}', id="an escape in the id"),
    pytest.param(b'{"type":"response.audio.delta","delta":"AAAA","response_id":"r\\u0031"}', id="an escape behind"),
    pytest.param(b'{"type":"response.audio.delta","x":{"response_id":"r2"},"response_id":"r1","delta":"AAAA"}',
                 id="an object before"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA","x":{"delta":"BBBB"}}',
                 id="an object behind"),
    pytest.param(b'{"type":"response.audio.delta","type":"response.text.delta","response_id":"r1","delta":"AAAA"}',
                 id="two types"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA","delta":"BBBB"}', id="two deltas"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","x":"' + b"y" * 640 + b'","delta":"AAAA"}',
                 id="the audio comes late"),
    pytest.param(b'{"response_id":"r1","delta":"' + b"A" * 400 + b'","type":"response.audio.delta"}',
                 id="the type comes late"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1"}', id="no audio"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":7}', id="a number for audio"),
    pytest.param(b'{"type":"response.text.delta","response_id":"r1","delta":"response.audio.delta"}', id="a text"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA', id="cut off in the audio"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1","delta":"AAAA"', id="cut off behind it"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1"delta":"AAAA"}', id="a comma is missing"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"r1,"delta":"AAAA"}', id="a quote is missing"),
    pytest.param(b'{"type":"response.audio.delta","response_id":"\xff","delta":"AAAA"}', id="an id that is not UTF-8"),
    pytest.param(b'{"response_id":"\xff","type":"response.audio.delta","delta":"AAAA"}', id="the same, type later"),
    pytest.param(b'{"type":"response.audio.delta","event_id":"e","response_id":"r1","delta":"AA","delta":"AA"}',
                 id="two deltas as usual"),
    pytest.param(b'{"type":"response.audio.delta","event_id":"e","response_id":"r1","delta":"AA\\/A"}',
                 id="an escape in the usual place"),
    pytest.param(b'["type":"response.audio.delta","response_id":"r1","delta":"AAAA"]', id="no object"),
    pytest.param(b"", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize("data", LEFT_TO_THE_PARSER)
def test_whatever_looks_unusual_is_left_to_the_full_parse(data):
    assert sniff_audio_delta(data) is None


SIZES = [
    pytest.param(b"", 0, id="nothing"),
    pytest.param(b"AAAA", 3, id="no padding"),
    pytest.param(b"AAA=", 2, id="one sign of padding"),
    pytest.param(b"AA==", 1, id="two signs"),
    pytest.param(b"AA", 1, id="padding left out"),
    pytest.param(b"====", 0, id="nothing but padding"),
    pytest.param(b"A" * 6400, 4800, id="100 ms of pcm16"),
]


@pytest.mark.parametrize(("audio", "size_bytes"), SIZES)
def test_size_is_arithmetic_on_the_base64(audio, size_bytes):
    assert base64_size(audio, 0, len(audio)) == size_bytes
    assert base64_size(b'="' + audio + b'"=', 2, 2 + len(audio)) == size_bytes
