"""Frames of the server: a client decodes what it encodes, and a client's own frames are read word by word."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.realtime import events as ev
from rteval.realtime.dialects.frames import sniff_audio_delta
from rteval.realtime.dialects.requests import (
    CLIENT_TYPES,
    FrameRefused,
    item_shape,
    read_client_frame,
    sniff_append,
)
from rteval.realtime.dialects.serving import (
    GA_SERVING,
    PREVIEW_2024_10_SERVING,
    PREVIEW_SERVING,
    VOICE_LIVE_SERVING,
)
from rteval.realtime.dialects.shapes import (
    Refusal,
    any_of,
    anything,
    boolean,
    either,
    integer,
    list_of,
    number,
    one_of,
    optional,
    record,
    tagged,
    text,
)
from rteval.records import Usage

FLAVOURS = [GA_SERVING, PREVIEW_SERVING, PREVIEW_2024_10_SERVING, VOICE_LIVE_SERVING]
WHERE = {"response_id": "resp_1", "item_id": "item_1", "output_index": 1, "content_index": 2}
CALL = {"response_id": "resp_1", "item_id": "item_1", "output_index": 1, "call_id": "call_1"}
SPOKEN = ev.Item(
    id="item_1", status="completed", role="assistant", content=(ev.Part(type="audio", transcript="Good morning."),)
)
TYPED = ev.Item(id="item_2", status="completed", role="user", content=(ev.Part(type="input_text", text="Hello"),))
HEARD = ev.Item(id="item_3", status="completed", role="user", content=(ev.Part(type="input_audio"),))
CALLED = ev.Item(id="item_4", type="function_call", status="completed", name="f", call_id="call_1", arguments="{}")
USAGE = Usage(
    input_tokens=789,
    output_tokens=32,
    input_text_tokens=313,
    input_audio_tokens=476,
    input_cached_tokens=640,
    input_cached_text_tokens=256,
    input_cached_audio_tokens=384,
    output_text_tokens=9,
    output_audio_tokens=23,
)

EVENTS = [
    ev.ErrorReported(type="server_error", code="x", message="It broke.", param="session", client_event_id="mine"),
    ev.SessionCreated(session={"id": "sess_1"}),
    ev.SessionUpdated(session={"id": "sess_1", "tools": []}),
    ev.ItemAdded(item=SPOKEN, previous_item_id="item_0"),
    ev.ItemAdded(item=TYPED),
    ev.ItemAdded(item=HEARD),
    ev.ItemAdded(item=CALLED),
    ev.ItemDone(item=SPOKEN),
    ev.ItemDeleted(item_id="item_1"),
    ev.ItemTruncated(item_id="item_1", content_index=0, audio_end_ms=1500),
    ev.ItemRetrieved(item=SPOKEN),
    ev.ItemRetrieved(
        item=ev.Item(
            id="item_5",
            status="completed",
            role="user",
            content=(ev.Part(type="input_audio", audio="AAAA", transcript="Hi"), ev.Part(type="input_image")),
        )
    ),
    ev.ConversationCreated(id="conv_1"),
    ev.InputTranscriptCompleted(item_id="item_1", transcript="Hello"),
    ev.InputTranscriptDelta(item_id="item_1", delta=" morning"),
    ev.InputTranscriptCompleted(item_id="item_1", transcript="", usage={"type": "duration", "seconds": 3}),
    ev.InputTranscriptFailed(item_id="item_1", type="server_error", code=None, message="It failed."),
    ev.AudioCommitted(item_id="item_1", previous_item_id=None),
    ev.AudioCleared(),
    ev.SpeechStarted(item_id="item_1", audio_start_ms=0),
    ev.SpeechStopped(item_id="item_1", audio_end_ms=900),
    ev.InputTimedOut(item_id="item_1", audio_start_ms=900, audio_end_ms=5900),
    ev.ResponseCreated(response=ev.Response(id="resp_1", status="in_progress")),
    ev.ResponseDone(response=ev.Response(id="resp_1", status="completed", output=(SPOKEN, CALLED), usage=USAGE)),
    ev.ResponseDone(response=ev.Response(id="resp_1", status="cancelled", reason="turn_detected", usage=USAGE)),
    ev.ResponseDone(
        response=ev.Response(
            id="resp_1", status="failed", error_type="server_error", error_code="x", error_message="It broke."
        )
    ),
    ev.OutputItemAdded(response_id="resp_1", item=SPOKEN, output_index=1),
    ev.OutputItemDone(response_id="resp_1", item=SPOKEN, output_index=1),
    ev.ContentPartAdded(part=ev.Part(type="audio", transcript=""), **WHERE),
    ev.ContentPartDone(part=ev.Part(type="text", text="Good morning."), **WHERE),
    ev.TextDelta(delta="Good", **WHERE),
    ev.TextDone(text="Good morning.", **WHERE),
    ev.TranscriptDelta(delta='"quoted" \u00e4\n', **WHERE),
    ev.TranscriptDone(transcript="Good morning.", **WHERE),
    ev.AudioDone(**WHERE),
    ev.FunctionArgumentsDelta(delta='{"a"', **CALL),
    ev.FunctionArgumentsDone(arguments='{"a":1}', name="f", **CALL),
    ev.RateLimitsUpdated(limits=({"name": "tokens", "limit": 9, "remaining": 8, "reset_seconds": 0.5},)),
]


@pytest.mark.parametrize("serving", FLAVOURS, ids=lambda serving: serving.name)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_client_reads_what_the_server_says(serving, event):
    frame = serving.encode(event, "event_1")
    if frame is None:
        assert type(event) in serving.muted or serving.dialect.server_names[type(event)] is None
        return
    assert list(frame)[:2] == ["type", "event_id"]
    assert serving.dialect.decode(orjson.dumps(frame)) == event


@pytest.mark.parametrize("serving", FLAVOURS, ids=lambda serving: serving.name)
def test_an_audio_delta_is_read_without_a_parser(serving):
    event = ev.AudioDelta(audio=base64.b64encode(bytes(4800)), size_bytes=4800, **WHERE)
    frame = serving.encode_audio_delta(event, "event_1")
    sniffed = sniff_audio_delta(frame)
    assert sniffed is not None
    assert (sniffed.response_id, sniffed.audio, sniffed.size_bytes) == ("resp_1", event.audio, 4800)
    assert json.loads(frame) == serving.encode(event, "event_1")


def test_the_first_preview_mutes_what_its_clients_do_not_survive():
    assert PREVIEW_2024_10_SERVING.encode(ev.InputTranscriptDelta(item_id=None, delta="x"), "event_1") is None


def test_metadata_and_settings_are_part_of_a_full_response():
    event = ev.ResponseCreated(
        response=ev.Response(id="resp_1", status="in_progress", conversation_id="conv_1", metadata={"a": "b"})
    )
    frame = GA_SERVING.encode(event, "event_1", echo={"output_modalities": ["text"]})
    assert frame is not None
    response = frame["response"]
    assert (response["conversation_id"], response["metadata"]) == ("conv_1", {"a": "b"})
    assert response["output_modalities"] == ["text"]


@pytest.mark.parametrize(("serving", "status"), [(GA_SERVING, None), (PREVIEW_SERVING, "completed")])
def test_a_calls_output_has_a_status_in_the_preview_alone(serving, status):
    item = ev.Item(id="item_1", type="function_call_output", call_id="call_1", output="{}")
    fields = serving.item_fields(item)
    assert (fields["call_id"], fields["output"], fields.get("status")) == ("call_1", "{}", status)


def test_only_ga_counts_pictures():
    done = ev.ResponseDone(response=ev.Response(id="resp_1", status="completed", usage=USAGE))
    for serving in FLAVOURS:
        frame = serving.encode(done, "event_1")
        assert frame is not None
        details = frame["response"]["usage"]["input_token_details"]
        assert ("image_tokens" in details) == (serving is GA_SERVING)


# ---- a client's frames ----


def refused(body: Any) -> Refusal | None:
    """Why a frame is refused; ``None`` when it is taken."""
    try:
        read_client_frame(body if isinstance(body, bytes) else orjson.dumps(body))
    except FrameRefused as error:
        return error.refusal
    return None


@pytest.mark.parametrize("type_", CLIENT_TYPES)
def test_each_client_event_takes_an_event_id_and_nothing_unknown(type_):
    needed = {
        "session": {},
        "audio": "",
        "item": {},
        "item_id": "item_1",
        "content_index": 0,
        "audio_end_ms": 0,
    }
    body = {"type": type_, "event_id": "mine"}
    frame = None
    while frame is None:
        refusal = refused(body)
        if refusal is None:
            frame = read_client_frame(orjson.dumps(body))
        else:
            assert refusal.code == "missing_required_parameter"
            body[refusal.param] = needed[refusal.param]
    assert (frame.type, frame.event_id) == (type_, "mine")
    refusal = refused({**body, "extra": 1})
    assert refusal is not None
    assert (refusal.code, refusal.param) == ("unknown_parameter", "extra")


PLAIN = [
    b'{"type":"input_audio_buffer.append","audio":"AAAA"}',
    b'{"type": "input_audio_buffer.append", "audio": "AAAA"}',
    b'{"event_id":"e1","type":"input_audio_buffer.append","audio":"AAAA"}',
    b'{"type":"input_audio_buffer.append","event_id":"e1","audio":"AAAA"}',
    b' {\n"type" : "input_audio_buffer.append" , "event_id":null, "audio" : "AAAA" }\n',
]
UNUSUAL = [
    b'{"audio":"AAAA","type":"input_audio_buffer.append"}',
    b'{"type":"input_audio_buffer.append","audio":"AAAA","event_id":"e1"}',
    b'{"type":"input_audio_buffer.append","audio":"AA\\u0041A"}',
    b'{"type":"input_audio_buffer.append","event_id":"a\\"b","audio":"AAAA"}',
]
BROKEN = [
    b'{"type":"input_audio_buffer.append" "audio":"AAAA"}',
    b'{"type":"input_audio_buffer.append","audio":"AAAA"',
    b'{"type":"input_audio_buffer.append","audio":"AAAA"} x',
    b'{"type":"input_audio_buffer.append","audio":"AAAA',
    b'["type":"input_audio_buffer.append","audio":"AAAA"]',
]


@pytest.mark.parametrize("frame", PLAIN)
def test_a_plain_append_is_sniffed(frame):
    audio = sniff_append(frame)
    assert audio is not None
    assert bytes(audio) == b"AAAA"


@pytest.mark.parametrize("frame", UNUSUAL)
def test_an_unusual_append_is_left_to_the_parser(frame):
    assert sniff_append(frame) is None
    assert read_client_frame(frame).body["audio"] == "AAAA"


@pytest.mark.parametrize("frame", BROKEN)
def test_a_broken_append_is_not_sniffed(frame):
    assert sniff_append(frame) is None
    with pytest.raises(FrameRefused):
        read_client_frame(frame)


@given(st.binary(max_size=200) | st.sampled_from([*PLAIN, *UNUSUAL, *BROKEN]))
def test_no_frame_breaks_the_reader(data):
    sniff_append(data)
    refusal = refused(data)
    assert refusal is None or refusal.code


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
            ["type", "session", "item", "audio", "role", "content", "response", "input", "item_id", "event_id", "id"]
        ), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(sorted(CLIENT_TYPES)),
)  # fmt: skip
def test_no_json_breaks_the_reader(value, type_):
    body = {**value, "type": type_} if isinstance(value, dict) else {"type": type_, "session": value}
    refusal = refused(body)
    assert refusal is None or refusal.code


# ---- shapes ----

TREE = record({"a": integer(1, 5), "b": list_of(record({"c": boolean}))}, required=("a",))
KINDS = tagged({"x": record({"type": anything, "n": number(0, 1)}), "y": record({}, open_ended=True)})
CHOICE = either(one_of("auto"), record({"name": text(longest=3)}, required=("name",)))


@pytest.mark.parametrize(
    ("shape", "value", "refused_as"),
    [
        pytest.param(TREE, {"a": 3}, None, id="record"),
        pytest.param(TREE, [], ("invalid_type", "p"), id="no record"),
        pytest.param(TREE, {}, ("missing_required_parameter", "p.a"), id="missing"),
        pytest.param(TREE, {"a": 3, "z": 1}, ("unknown_parameter", "p.z"), id="unknown"),
        pytest.param(TREE, {"a": 9}, ("invalid_value", "p.a"), id="too large"),
        pytest.param(TREE, {"a": 1.5}, ("invalid_type", "p.a"), id="no integer"),
        pytest.param(TREE, {"a": True}, ("invalid_type", "p.a"), id="a boolean is no integer"),
        pytest.param(TREE, {"a": 1, "b": {}}, ("invalid_type", "p.b"), id="no list"),
        pytest.param(TREE, {"a": 1, "b": [{}, {"c": 1}]}, ("invalid_type", "p.b[1].c"), id="within a list"),
        pytest.param(TREE, {"a": 1, "b": [{"c": False}]}, None, id="list"),
        pytest.param(KINDS, {"type": "x", "n": 0.5}, None, id="tagged"),
        pytest.param(KINDS, {"type": "x", "n": "1"}, ("invalid_type", "p.n"), id="no number"),
        pytest.param(KINDS, {"type": "y", "other": 1}, None, id="open ended"),
        pytest.param(KINDS, {"type": "z"}, ("invalid_value", "p.type"), id="unknown kind"),
        pytest.param(KINDS, {"type": 1}, ("invalid_type", "p.type"), id="kind no text"),
        pytest.param(KINDS, {}, ("missing_required_parameter", "p.type"), id="no kind"),
        pytest.param(KINDS, "x", ("invalid_type", "p"), id="kind of no object"),
        pytest.param(CHOICE, "auto", None, id="scalar"),
        pytest.param(CHOICE, "none", ("invalid_value", "p"), id="other scalar"),
        pytest.param(CHOICE, 1, ("invalid_type", "p"), id="scalar of another type"),
        pytest.param(CHOICE, {"name": "abc"}, None, id="compound"),
        pytest.param(CHOICE, {"name": "abcd"}, ("string_above_max_length", "p.name"), id="too long"),
        pytest.param(CHOICE, {"name": 1}, ("invalid_type", "p.name"), id="no text"),
        pytest.param(optional(boolean), None, None, id="optional null"),
        pytest.param(optional(boolean), 0, ("invalid_type", "p"), id="optional other"),
        pytest.param(any_of(integer(1, 5), one_of("inf")), 5, None, id="first of any"),
        pytest.param(any_of(integer(1, 5), one_of("inf")), "inf", None, id="last of any"),
        pytest.param(any_of(integer(1, 5), one_of("inf")), "x", ("invalid_value", "p"), id="none of any"),
    ],
)
def test_a_shape_takes_or_names_what_is_wrong(shape, value, refused_as):
    if refused_as is None:
        shape(value, "p")
        return
    with pytest.raises(Refusal) as caught:
        shape(value, "p")
    assert (caught.value.code, caught.value.param) == refused_as


def test_a_path_begins_without_a_dot():
    with pytest.raises(Refusal) as caught:
        KINDS({}, "")
    assert caught.value.param == "type"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{}", "missing_required_parameter"),
        (b"[]", "invalid_event"),
        (b"{", "invalid_json"),
        (b'{"type":"x"}', "invalid_value"),
    ],
)
def test_a_frame_is_refused_by_name(frame, code):
    refusal = refused(frame)
    assert refusal is not None
    assert refusal.code == code


ITEM = item_shape(assistant_text="output_text", images=True)


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}, None),
        ({"type": "message", "role": "user", "content": "x"}, "item.content"),
        ({"type": "message", "role": "user", "content": []}, None),
    ],
)
def test_an_items_content_is_checked_by_role(item, param):
    if param is None:
        ITEM(item, "item")
        return
    with pytest.raises(Refusal) as caught:
        ITEM(item, "item")
    assert caught.value.param == param
