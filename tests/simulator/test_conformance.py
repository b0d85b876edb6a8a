"""What a realtime service promises, asked of the simulated one over a real socket in both dialects."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from rteval.formats import FORMATS, G711_ULAW, PCM16

SECOND = PCM16.silence * PCM16.rate
NO_VAD = None
TOOL = {
    "type": "function",
    "name": "refund",
    "description": "Pay money back.",
    "parameters": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
}


def error_of(event: dict[str, Any]) -> dict[str, Any]:
    assert event["type"] == "error", event
    return dict(event["error"])


# ---- session ----


def test_an_update_of_one_field_keeps_all_others(line):
    before = line.update(instructions="Be kind.")["session"]
    after = line.update(modalities=["text"])["session"]
    key = "output_modalities" if line.ga else "modalities"
    assert after == {**before, key: ["text"]}
    assert after["instructions"] == "Be kind."


def test_a_partial_ga_input_update_leaves_the_output_alone(quick, dial):
    with dial(quick.url, "ga") as line:
        before = line.until("session.created")["session"]["audio"]["output"]
        line.say("session.update", session={"type": "realtime", "audio": {"input": {"noise_reduction": None}}})
        assert line.until("session.updated")["session"]["audio"]["output"] == before


def test_a_partial_turn_detection_keeps_its_other_values(quick, dial, dialect):
    with dial(quick.url, dialect) as line:
        session = line.update(detection={"type": "server_vad", "silence_duration_ms": 500})["session"]
        detection = session["audio"]["input"]["turn_detection"] if line.ga else session["turn_detection"]
        assert detection["silence_duration_ms"] == 500
        assert (detection["threshold"], detection["prefix_padding_ms"]) == (0.5, 300)


def test_ga_wants_the_session_type_in_every_update(quick, dial):
    with dial(quick.url, "ga") as line:
        line.until("session.created")
        line.say("session.update", session={"instructions": "x"})
        error = error_of(line.hear())
        assert (error["code"], error["param"]) == ("missing_required_parameter", "session.type")
        assert "session.updated" not in [event["type"] for event in line.here()]


def test_preview_refuses_the_session_type(quick, dial):
    with dial(quick.url, "preview") as line:
        line.until("session.created")
        line.say("session.update", session={"type": "realtime"})
        error = error_of(line.hear())
        assert (error["code"], error["param"]) == ("unknown_parameter", "session.type")
        assert error["message"] == "Unknown parameter: 'session.type'."


def test_an_unknown_field_is_named_and_the_session_goes_on(line):
    session = line.session()
    line.say("session.update", session={**session, "colour": "red"})
    error = error_of(line.hear())
    assert (error["code"], error["param"]) == ("unknown_parameter", "session.colour")
    assert line.update(instructions="Still here.")["session"]["instructions"] == "Still here."


def test_an_unknown_nested_field_is_named_by_its_path(quick, dial):
    with dial(quick.url, "ga") as line:
        line.until("session.created")
        line.say("session.update", session={"type": "realtime", "audio": {"input": {"colour": 1}}})
        assert error_of(line.hear())["param"] == "session.audio.input.colour"


def test_a_refused_update_changes_nothing(line):
    before = line.update(instructions="Before.")["session"]
    line.say("session.update", session={**line.session(), "instructions": "After.", "colour": "red"})
    error_of(line.hear())
    assert line.update()["session"] == before


def test_without_turn_detection_speech_is_not_noticed(line, speech):
    line.append(speech())
    assert line.here() == []


def test_expires_at_is_an_integer_in_the_future(quick, dial, dialect):
    with dial(quick.url, dialect) as line:
        expires_at = line.until("session.created")["session"]["expires_at"]
        assert isinstance(expires_at, int)
        assert time.time() < expires_at < time.time() + 24 * 3600


def test_ga_has_no_temperature(line):
    line.say("session.update", session={**line.session(), "temperature": 0.8})
    event = line.hear()
    if line.ga:
        assert error_of(event)["code"] == "unknown_parameter"
    else:
        assert event["session"]["temperature"] == 0.8


def test_ga_takes_one_output_modality_at_a_time(quick, dial):
    with dial(quick.url, "ga") as line:
        line.until("session.created")
        line.say("session.update", session={"type": "realtime", "output_modalities": ["text", "audio"]})
        assert error_of(line.hear())["param"] == "session.output_modalities"


def test_an_empty_list_and_an_empty_text_clear(line):
    line.update(tools=[TOOL], instructions="Be kind.")
    session = line.update(tools=[], instructions="")["session"]
    assert (session["tools"], session["instructions"]) == ([], "")


def test_the_model_cannot_be_changed(line):
    session = line.update(model="another")["session"]
    assert session["model"] == "test"


# ---- items and responses ----


def test_an_item_is_announced_as_the_dialect_does_it(line):
    line.text(id="item_mine")
    events = line.here()
    names = ["conversation.item.added", "conversation.item.done"] if line.ga else ["conversation.item.created"]
    assert [event["type"] for event in events] == names
    assert {event["item"]["id"] for event in events} == {"item_mine"}


def test_an_item_can_be_put_first(line):
    line.text("second", id="item_second")
    line.say(
        "conversation.item.create",
        previous_item_id="root",
        item={
            "id": "item_first",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "first"}],
        },
    )
    line.text("third", id="item_third")
    before = {
        e["item"]["id"]: e["previous_item_id"] for e in line.here() if e["type"] == line.name("conversation.item.added")
    }
    assert before == {"item_second": None, "item_first": None, "item_third": "item_second"}


ITEM_DONE = {"ga": ["conversation.item.done"], "preview": []}


def test_a_text_answer_comes_in_the_captured_order(line):
    line.update(modalities=["text"])
    line.text()
    line.until("conversation.item.added")
    line.here()
    line.log.clear()
    line.answer()
    delta, done = line.name("response.output_text.delta"), line.name("response.output_text.done")
    kinds = [kind for index, kind in enumerate(line.types()) if kind != delta or line.types()[index - 1] != delta]
    assert kinds == [
        "response.created",
        "response.output_item.added",
        line.name("conversation.item.added"),
        "response.content_part.added",
        delta,
        done,
        "response.content_part.done",
        *ITEM_DONE[line.dialect],
        "response.output_item.done",
        "response.done",
    ]
    whole = "".join(event["delta"] for event in line.log if event["type"] == delta)
    assert whole == next(event["text"] for event in line.log if event["type"] == done)
    part = next(event for event in line.log if event["type"] == "response.content_part.done")["part"]
    assert part == {"type": "text", "text": whole}


def test_an_audio_answer_ends_each_stream_once(line):
    line.text()
    response = line.answer()
    types = line.types()
    closing = ["response.output_audio.done", "response.output_audio_transcript.done"]
    closing = [
        *map(line.name, closing),
        "response.content_part.done",
        *ITEM_DONE[line.dialect],
        "response.output_item.done",
    ]
    assert types[-len(closing) - 1 :] == [*closing, "response.done"]
    for stream in ("audio", "audio_transcript"):
        done = line.name(f"response.output_{stream}.done")
        assert types.count(done) == 1
        assert line.name(f"response.output_{stream}.delta") not in types[types.index(done) :]
    transcript = next(e for e in line.log if e["type"] == line.name("response.output_audio_transcript.done"))[
        "transcript"
    ]
    kind = line.name("response.output_audio_transcript.delta")
    assert "".join(event["delta"] for event in line.log if event["type"] == kind) == transcript
    assert response["output"][0]["content"][0]["transcript"] == transcript


def test_the_transcript_runs_ahead_of_the_audio(line):
    line.text()
    line.answer()
    types = line.types()
    assert types.index(line.name("response.output_audio_transcript.delta")) < types.index(
        line.name("response.output_audio.delta")
    )


def test_parts_have_the_same_type_in_both_dialects_and_items_have_not(line):
    line.text()
    response = line.answer()
    added = next(event for event in line.log if event["type"] == "response.content_part.added")
    assert added["part"] == {"type": "audio", "transcript": ""} == added["content"]
    assert response["output"][0]["content"][0]["type"] == ("output_audio" if line.ga else "audio")


def assert_adds_up(usage: dict[str, Any]) -> None:
    into, out = usage["input_token_details"], usage["output_token_details"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert into["text_tokens"] + into["audio_tokens"] + into.get("image_tokens", 0) == usage["input_tokens"]
    assert out["text_tokens"] + out["audio_tokens"] == usage["output_tokens"]
    assert 0 <= into["cached_tokens"] <= usage["input_tokens"]
    assert into["cached_tokens_details"]["text_tokens"] <= into["text_tokens"]
    assert into["cached_tokens_details"]["audio_tokens"] <= into["audio_tokens"]


def test_usage_is_null_first_adds_up_and_grows(line):
    line.text()
    first = line.answer()
    created = next(event for event in line.log if event["type"] == "response.created")["response"]
    assert (created["usage"], created["status"], created["output"], created["status_details"]) == (
        None,
        "in_progress",
        [],
        None,
    )
    line.text("And another thing")
    second = line.answer()
    for usage in (first["usage"], second["usage"]):
        assert_adds_up(usage)
    assert first["usage"]["output_token_details"]["audio_tokens"] > 0
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] + 100


def test_ids_and_indices_of_a_response_are_consistent(line):
    line.text()
    response = line.answer()
    events = [event for event in line.log if "response_id" in event]
    assert {event["response_id"] for event in events} == {response["id"]}
    assert {event["output_index"] for event in events} == {0}
    assert {event["content_index"] for event in events if "content_index" in event} == {0}
    assert {event["item_id"] for event in events if "item_id" in event} == {response["output"][0]["id"]}


def test_every_event_has_an_id_of_its_own(line):
    for _ in range(3):
        line.text()
        line.answer()
    ids = [event["event_id"] for event in line.log]
    assert len(set(ids)) == len(ids)
    assert all(event_id.startswith("event_") and len(event_id) == 27 for event_id in ids)


def test_metadata_is_echoed(line):
    line.text()
    response = line.answer(metadata={"turn": "7"})
    created = next(event for event in line.log if event["type"] == "response.created")["response"]
    assert created["metadata"] == response["metadata"] == {"turn": "7"}


def test_an_out_of_band_response_stays_out_of_the_conversation(line):
    line.text()
    line.here()
    line.log.clear()
    response = line.answer(conversation="none", metadata={"kind": "aside"})
    assert response["conversation_id"] is None
    assert not [kind for kind in line.types() if kind.startswith("conversation.item")]
    line.say("conversation.item.retrieve", item_id=response["output"][0]["id"])
    assert error_of(line.until("error"))["code"] == "item_retrieve_invalid_item_id"
    assert line.answer()["conversation_id"].startswith("conv_")


def test_out_of_band_responses_run_beside_each_other(slow, dial, dialect):
    with dial(slow.url, dialect) as line:
        line.text()
        for number in range(3):
            line.say("response.create", response={"conversation": "none", "metadata": {"n": str(number)}})
        done = [line.until("response.done")["response"] for _ in range(3)]
        assert {response["metadata"]["n"] for response in done} == {"0", "1", "2"}
        assert len({response["id"] for response in done}) == 3
        for response in done:
            assert [e["type"] for e in line.of(response["id"])].count("response.created") == 1


def test_given_input_replaces_the_conversation(line):
    line.text("Something long and irrelevant " * 20, id="item_old")
    whole = line.answer(conversation="none", instructions="x")
    none = line.answer(conversation="none", instructions="x", input=[])
    one = line.answer(conversation="none", instructions="x", input=[{"type": "item_reference", "id": "item_old"}])
    assert none["usage"]["input_tokens"] < 5 < whole["usage"]["input_tokens"] == one["usage"]["input_tokens"]


@pytest.mark.parametrize("modalities", [["text"], ["audio", "text"]], ids=["text", "audio"])
def test_a_token_limit_ends_the_answer_as_incomplete(line, modalities):
    line.update(modalities=modalities)
    line.text()
    response = line.answer(max_output_tokens=5)
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] <= 5
    assert_adds_up(response["usage"])


def test_a_second_response_is_refused_and_the_first_completes(slow, dial, dialect):
    with dial(slow.url, dialect) as line:
        line.text()
        line.say("response.create")
        line.say("response.create", event_id="second")
        error = error_of(line.until("error"))
        assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
        assert line.until("response.done")["response"]["status"] == "completed"


def test_a_response_without_any_item_is_legal(line):
    assert line.answer(instructions="Say hello.")["status"] == "completed"


def test_a_text_prompt_of_the_dataset_gets_its_answer(line):
    line.text("What is the capital of France?")
    assert line.answer()["output"][0]["content"][0]["transcript"] == "It is Paris."


# ---- audio in ----


def test_appends_are_never_acknowledged(line):
    for _ in range(5):
        line.append(SECOND)
    assert line.here() == []


def test_a_commit_of_too_little_is_refused_and_keeps_the_buffer(line):
    line.append(PCM16.silence * (PCM16.rate * 60 // 1000))
    line.say("input_audio_buffer.commit")
    error = error_of(line.hear())
    assert error["code"] == "input_audio_buffer_commit_empty"
    assert "60.00ms" in error["message"]
    line.append(PCM16.silence * (PCM16.rate * 60 // 1000))
    line.say("input_audio_buffer.commit")
    assert line.hear()["type"] == "input_audio_buffer.committed"


def test_a_commit_makes_an_item_and_no_response(line):
    line.append(SECOND)
    line.say("input_audio_buffer.commit")
    committed, *items = line.here()
    assert committed["type"] == "input_audio_buffer.committed"
    assert [item["type"] for item in items] == [line.name("conversation.item.added"), *ITEM_DONE[line.dialect]]
    for event in items:
        assert event["item"]["id"] == committed["item_id"]
        assert event["item"]["content"] == [{"type": "input_audio", "transcript": None}]


def test_commit_and_create_back_to_back_keep_their_order(line):
    line.append(SECOND)
    line.say("input_audio_buffer.commit")
    line.say("response.create")
    line.until("response.done")
    types = line.types()
    assert types[0] == "input_audio_buffer.committed"
    assert types.index(line.name("conversation.item.added")) < types.index("response.created")


def test_a_cleared_buffer_is_empty(line):
    line.append(SECOND)
    line.say("input_audio_buffer.clear")
    assert line.hear()["type"] == "input_audio_buffer.cleared"
    line.say("input_audio_buffer.commit")
    assert error_of(line.hear())["code"] == "input_audio_buffer_commit_empty"


def test_detected_speech_is_one_item_from_start_to_answer(quick, dial, dialect, speech):
    with dial(quick.url, dialect) as line:
        line.append(speech())
        line.until("response.done")
        spoken = [event for event in line.log if event["type"].startswith("input_audio_buffer")]
        assert [event["type"].rsplit(".")[-1] for event in spoken] == ["speech_started", "speech_stopped", "committed"]
        added = next(event for event in line.log if event["type"] == line.name("conversation.item.added"))
        assert {event["item_id"] for event in spoken} == {added["item"]["id"]}
        assert spoken[1]["audio_end_ms"] > spoken[0]["audio_start_ms"]
        types = line.types()
        assert (
            types.index("input_audio_buffer.committed") < types.index(added["type"]) < types.index("response.created")
        )


def test_detection_times_are_media_times(quick, dial, dialect, speech):
    with dial(quick.url, dialect) as line:
        line.append(speech(5))  # half a second of silence, 1.8 s of speech, a second of silence
        line.until("response.done")
        started, stopped = (event for event in line.log if ".speech_" in event["type"])
        assert 100 <= started["audio_start_ms"] <= 450
        assert 2300 <= stopped["audio_end_ms"] <= 2900


def test_without_create_response_detection_answers_nothing(quick, dial, dialect, speech):
    with dial(quick.url, dialect) as line:
        line.update(detection={"type": "server_vad", "create_response": False})
        line.append(speech())
        line.until("input_audio_buffer.committed")
        assert "response.created" not in [event["type"] for event in line.here()]


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe"])
def test_each_audio_item_is_transcribed_once(line, recording, model):
    line.update(transcription={"model": model})
    for name in ("order", "refund"):
        line.log.clear()
        line.append(recording(name))
        line.say("input_audio_buffer.commit")
        committed = line.until("input_audio_buffer.committed")
        completed = line.until("conversation.item.input_audio_transcription.completed")
        assert completed["item_id"] == committed["item_id"]
        deltas = [event["delta"] for event in line.log if event["type"].endswith("transcription.delta")]
        assert bool(deltas) == (model != "whisper-1")
        assert "".join(deltas) in ("", completed["transcript"])
        usage = completed["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_what_was_said_is_what_is_transcribed(line, recording):
    line.update(transcription={"model": "whisper-1"})
    line.append(recording("order"))
    line.say("input_audio_buffer.commit")
    transcript = line.until("conversation.item.input_audio_transcription.completed")["transcript"]
    assert transcript == "I would like to know where my order is please"


def test_audio_at_a_wrong_rate_is_not_what_was_said(line, recording):
    line.update(transcription={"model": "whisper-1"})
    line.append(recording("order")[::2] + bytes(4800))
    line.say("input_audio_buffer.commit")
    transcript = line.until("conversation.item.input_audio_transcription.completed")["transcript"]
    assert transcript != "I would like to know where my order is please"


@pytest.mark.parametrize("name", ["g711_ulaw", "g711_alaw"])
def test_g711_goes_both_ways(line, name):
    line.update(fmt=name)
    line.append(FORMATS[name].silence * 800)
    line.say("input_audio_buffer.commit")
    assert line.until("input_audio_buffer.committed", "error")["type"] == "input_audio_buffer.committed"
    response = line.answer()
    words = len(response["output"][0]["content"][0]["transcript"].split())
    assert len(line.audio()) == round(words * 0.36 * 8000)


def test_answer_deltas_have_the_sizes_that_services_use(line):
    line.text()
    line.answer()
    kind = line.name("response.output_audio.delta")
    sizes = [len(base64.b64decode(event["delta"])) for event in line.log if event["type"] == kind]
    assert sizes[:3] == [4800, 7200, 12000]
    assert max(sizes) <= 36000
    assert sum(sizes) % 2 == 0


@pytest.mark.parametrize("audio", ["!!!!", "AAA", "AA A"], ids=["alphabet", "length", "blank"])
def test_invalid_base64_is_refused_and_the_session_goes_on(line, audio):
    line.say("input_audio_buffer.append", audio=audio, event_id="mine")
    error = error_of(line.hear())
    assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "audio", "mine")
    assert line.here() == []


def test_an_append_above_fifteen_mebibytes_is_answered(quick, dial):
    with dial(quick.url) as line:
        line.until("session.created")
        line.append(bytes(15 * 1024 * 1024 + 4800))
        assert error_of(line.hear())["param"] == "audio"
        line.append(bytes(15 * 1024 * 1024))
        line.say("input_audio_buffer.clear")
        line.until("input_audio_buffer.cleared")


def test_a_frame_far_above_the_limit_closes_with_1009(quick, dial):
    with dial(quick.url) as line:
        line.until("session.created")
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012  # the send may already fail
            line.append(bytes(17 * 1024 * 1024))
            line.hear()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_an_odd_number_of_pcm16_bytes_cannot_be_committed(line):
    line.append(SECOND + b"\x00")
    line.say("input_audio_buffer.commit")
    assert error_of(line.hear())["type"] == "invalid_request_error"
    line.append(b"\x00")
    line.say("input_audio_buffer.commit")
    assert line.hear()["type"] == "input_audio_buffer.committed"


# ---- interrupting ----


def test_speech_cancels_the_answer_under_way(slow, dial, dialect, speech):
    with dial(slow.url, dialect) as line:
        line.update(detection={"type": "server_vad", "create_response": False})
        line.text("Tell me a long story.")
        line.say("response.create")
        line.until("response.output_audio.delta")
        line.append(speech())
        line.until("input_audio_buffer.speech_started")
        response = line.until("response.done")["response"]
        assert response["status"] == "cancelled"
        assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert response["output"][0]["status"] == "incomplete"
        line.here()
        types = [event["type"] for event in line.of(response["id"])]
        assert types[-1] == "response.done"


def test_speech_leaves_the_answer_alone_when_it_may_not_interrupt(slow, dial, dialect, speech):
    with dial(slow.url, dialect) as line:
        line.update(detection={"type": "server_vad", "interrupt_response": False})
        line.text()
        line.say("response.create")
        line.until("response.output_audio.delta")
        line.append(speech(3))
        assert [line.until("response.done")["response"]["status"] for _ in range(2)] == ["completed", "completed"]


def test_a_client_cancels(slow, dial, dialect):
    with dial(slow.url, dialect) as line:
        line.text("Tell me a long story.")
        line.say("response.create")
        line.until("response.output_audio.delta")
        line.say("response.cancel")
        response = line.until("response.done")["response"]
        assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert_adds_up(response["usage"])
        line.say("response.cancel")
        assert error_of(line.until("error"))["code"] == "response_cancel_not_active"


def test_an_answer_cancelled_before_it_began_is_empty(slow, dial, dialect):
    with dial(slow.url, dialect) as line:
        line.say("response.create")
        line.say("response.cancel")
        response = line.until("response.done")["response"]
        assert (response["output"], response["usage"]["total_tokens"]) == ([], 0)


def test_an_answer_can_be_truncated_within_its_length(line):
    line.text()
    item_id = line.answer()["output"][0]["id"]
    line.here()
    line.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=500)
    truncated = line.hear()
    assert truncated["type"] == "conversation.item.truncated"
    assert (truncated["item_id"], truncated["content_index"], truncated["audio_end_ms"]) == (item_id, 0, 500)
    line.say("conversation.item.retrieve", item_id=item_id)
    assert not line.hear()["item"]["content"][0]["transcript"]


def test_an_answer_cannot_be_truncated_beyond_its_length(line):
    line.text()
    item_id = line.answer()["output"][0]["id"]
    line.here()
    line.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=900_000)
    assert "is already shorter than 900000ms" in error_of(line.hear())["message"]


def test_only_an_answers_audio_can_be_truncated(line):
    line.text(id="item_text")
    line.here()
    line.say("conversation.item.truncate", item_id="item_text", content_index=0, audio_end_ms=0)
    assert error_of(line.hear())["code"] == "unsupported_content_type"


# ---- items by id ----


def test_an_item_can_be_deleted_once(line):
    line.text(id="item_gone")
    line.here()
    line.say("conversation.item.delete", item_id="item_gone")
    assert line.hear() | {"event_id": ""} == {
        "type": "conversation.item.deleted",
        "event_id": "",
        "item_id": "item_gone",
    }
    line.say("conversation.item.delete", item_id="item_gone")
    assert error_of(line.hear())["code"] == "item_delete_invalid_item_id"


def test_user_audio_can_be_retrieved(line, recording):
    audio = recording("order")
    line.append(audio)
    line.say("input_audio_buffer.commit")
    item_id = line.until("input_audio_buffer.committed")["item_id"]
    line.here()
    line.say("conversation.item.retrieve", item_id=item_id)
    part = line.hear()["item"]["content"][0]
    assert base64.b64decode(part["audio"]) == audio


def test_answer_audio_can_be_retrieved(line):
    line.text()
    item_id = line.answer()["output"][0]["id"]
    line.here()
    line.say("conversation.item.retrieve", item_id=item_id)
    assert base64.b64decode(line.hear()["item"]["content"][0]["audio"]) == line.audio()


# ---- tools ----


def test_a_forced_call_streams_its_arguments(line):
    line.update(tools=[TOOL])
    line.text()
    response = line.answer(tool_choice={"type": "function", "name": "refund"})
    (call,) = response["output"]
    deltas = [e for e in line.log if e["type"] == "response.function_call_arguments.delta"]
    done = next(e for e in line.log if e["type"] == "response.function_call_arguments.done")
    assert "".join(event["delta"] for event in deltas) == done["arguments"] == call["arguments"]
    assert json.loads(done["arguments"]) == {"amount": 1}
    assert {event["call_id"] for event in [*deltas, done]} == {call["call_id"]}
    assert (done["name"], call["name"], call["status"]) == ("refund", "refund", "completed")
    assert not [kind for kind in line.types() if "content_part" in kind]


def test_the_expected_call_of_an_item_is_made(line, recording):
    line.update(tools=[TOOL])
    line.append(recording("refund"))
    line.say("input_audio_buffer.commit")
    (call,) = line.answer()["output"]
    assert (call["type"], json.loads(call["arguments"])) == ("function_call", {"amount": 12})


def test_a_calls_output_is_answered_in_words(line):
    line.update(tools=[TOOL], tool_choice="required")
    line.text()
    (call,) = line.answer()["output"]
    line.say(
        "conversation.item.create",
        item={"type": "function_call_output", "call_id": call["call_id"], "output": '{"paid": true}'},
    )
    assert line.answer()["output"][0]["type"] == "message"


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        pytest.param({"output": "x"}, "missing_required_parameter", "item.call_id", id="missing"),
        pytest.param({"output": "x", "call_id": "call_none"}, "invalid_tool_call_id", "item.call_id", id="unknown"),
    ],
)
def test_a_calls_output_must_name_its_call(line, item, code, param):
    line.say("conversation.item.create", item={"type": "function_call_output", **item})
    error = error_of(line.hear())
    assert (error["code"], error["param"]) == (code, param)


# ---- errors ----


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        pytest.param("{", "invalid_json", None, id="malformed"),
        pytest.param('{"type":"input_audio_buffer.append" "audio":""}', "invalid_json", None, id="malformed append"),
        pytest.param("[]", "invalid_event", None, id="no object"),
        pytest.param(
            '{"type":"input_audio_buffer.append","audio":"AA\nAA"}', "invalid_json", None, id="line break in audio"
        ),
        pytest.param(
            '{"type":"input_audio_buffer.append","event_id":"a\n","audio":"!"}', "invalid_json", None, id="in an id"
        ),
        pytest.param(b"\x00", "invalid_event", None, id="binary"),
        pytest.param('{"type":"what.is.this"}', "invalid_value", "type", id="unknown type"),
        pytest.param("{}", "missing_required_parameter", "type", id="no type"),
        pytest.param('{"type":7}', "invalid_type", "type", id="type no text"),
        pytest.param('{"type":"session.update"}', "missing_required_parameter", "session", id="no session"),
        pytest.param('{"type":"session.update","session":[]}', "invalid_type", "session", id="session no object"),
        pytest.param('{"type":"input_audio_buffer.append"}', "missing_required_parameter", "audio", id="no audio"),
        pytest.param('{"type":"input_audio_buffer.append","audio":5}', "invalid_type", "audio", id="audio no text"),
        pytest.param('{"type":"response.cancel","x":1}', "unknown_parameter", "x", id="extra field"),
        pytest.param('{"type":"response.create","response":{"x":1}}', "unknown_parameter", "response.x", id="nested"),
    ],
)  # fmt: skip
def test_a_bad_frame_is_answered_and_keeps_the_socket_open(line, frame, code, param):
    line.socket.send(frame)
    event = line.hear()
    error = error_of(event)
    assert (error["code"], error["param"], error["event_id"]) == (code, param, None)
    assert event["event_id"].startswith("event_")
    assert line.here() == []


def test_an_unknown_type_is_told_what_there_is(line):
    line.say("what.is.this")
    message = error_of(line.hear())["message"]
    assert "'session.update'" in message
    assert "'response.cancel'" in message


CLIENT_TYPES = {
    "session.update", "transcription_session.update", "input_audio_buffer.append", "input_audio_buffer.commit",
    "input_audio_buffer.clear", "conversation.item.create", "conversation.item.truncate", "conversation.item.delete",
    "conversation.item.retrieve", "response.create", "response.cancel",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "types"),
    [
        pytest.param("/openai/v1/realtime?model=test", CLIENT_TYPES | {"session.close"}, id="ga"),
        pytest.param("/openai/realtime?api-version=2025-04-01-preview&deployment=test", CLIENT_TYPES, id="preview"),
        pytest.param(
            "/openai/realtime?api-version=2024-10-01-preview&deployment=test",
            CLIENT_TYPES - {"transcription_session.update", "conversation.item.retrieve"},
            id="first preview",
        ),
    ],
)
def test_each_flavour_lists_what_it_can_be_asked(quick, dial, path, types):
    with dial(quick.url, path=path) as line:
        line.until("session.created")
        line.say("what.is.this")
        said = error_of(line.hear())["message"].partition("Supported values are: ")[2]
        assert {word.strip("'. ") for word in said.replace(" and ", ", ").split(",")} == types


def test_a_ga_session_is_closed_on_request(quick, dial):
    with dial(quick.url, "ga") as line:
        line.until("session.created")
        line.say("session.close")
        with pytest.raises(ConnectionClosed) as caught:
            line.hear()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000


@pytest.mark.parametrize(
    ("metadata", "code", "param"),
    [
        pytest.param(dict.fromkeys(map(str, range(17)), "x"), "object_above_max_properties", "", id="pairs"),
        pytest.param({"k" * 65: "x"}, "string_above_max_length", "", id="key"),
        pytest.param({"k": "x" * 513}, "string_above_max_length", ".k", id="value"),
        pytest.param({"k": 7}, "invalid_type", ".k", id="no text"),
    ],
)
def test_metadata_is_small(line, metadata, code, param):
    line.say("response.create", response={"metadata": metadata})
    error = error_of(line.hear())
    assert (error["code"], error["param"]) == (code, f"response.metadata{param}")


def test_a_clients_audio_is_not_sent_back_with_its_item(line):
    audio = base64.b64encode(bytes(9_600)).decode()
    parts = [{"type": "input_text", "text": "Listen:"}, {"type": "input_audio", "audio": audio}]
    line.say("conversation.item.create", item={"type": "message", "role": "user", "content": parts})
    content = line.hear()["item"]["content"]
    assert content == [parts[0], {"type": "input_audio", "transcript": None}]


def test_an_error_echoes_the_clients_event_id_or_null(line):
    line.say("response.cancel", event_id="mine")
    assert error_of(line.hear())["event_id"] == "mine"
    line.say("response.cancel")
    assert error_of(line.hear())["event_id"] is None


@pytest.mark.parametrize(
    ("item", "param"),
    [
        pytest.param({"type": "message", "role": "user"}, "item.content", id="no content"),
        pytest.param({"role": "user", "content": []}, "item.type", id="no type"),
        pytest.param({"type": "message", "role": "robot", "content": []}, "item.role", id="unknown role"),
        pytest.param(
            {"type": "message", "role": "user", "content": [{"type": "text", "text": "x"}]},
            "item.content[0].type",
            id="an assistant's part from a user",
        ),
        pytest.param(
            {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
            "item.content[0].text",
            id="no text",
        ),
    ],
)
def test_a_bad_item_is_named_by_its_path(line, item, param):
    line.say("conversation.item.create", item=item)
    assert error_of(line.hear())["param"] == param


def test_a_taken_item_id_is_refused(line):
    line.text(id="item_same")
    line.here()
    line.text(id="item_same")
    assert error_of(line.hear())["param"] == "item.id"


def test_history_can_be_replayed_in_the_dialects_words(line):
    kind = "output_text" if line.ga else "text"
    item = {"type": "message", "role": "assistant", "content": [{"type": kind, "text": "Good morning."}]}
    line.say("conversation.item.create", item=item)
    assert line.hear()["item"]["content"][0] == {"type": kind, "text": "Good morning."}


# ---- life ----


def test_pings_are_answered(line):
    assert line.socket.ping().wait(10)


def test_a_client_that_closes_is_answered_with_1000(quick, dial, dialect):
    with dial(quick.url, dialect) as line:
        line.until("session.created")
        line.text()
        line.say("response.create")
        line.socket.close(1000)
        assert line.socket.close_code == 1000


def test_no_frame_is_larger_than_one_mebibyte(quick, dial, dialect):
    with dial(quick.url, dialect, path=None) as line:
        line.update(detection=NO_VAD)
        line.append(bytes(48_000 * 40))
        line.say("input_audio_buffer.commit")
        item_id = line.until("input_audio_buffer.committed")["item_id"]
        line.say("conversation.item.retrieve", item_id=item_id)
        line.say("response.create")
        line.until("response.done")
        assert max(len(json.dumps(event)) for event in line.log) < 2**20


def test_a_preview_2024_10_client_hears_only_what_it_knows(quick, dial, recording):
    path = "/openai/realtime?api-version=2024-10-01-preview&deployment=test"
    known = {
        "error", "session.created", "session.updated", "input_audio_buffer.committed", "input_audio_buffer.cleared",
        "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "conversation.item.created",
        "conversation.item.truncated", "conversation.item.deleted",
        "conversation.item.input_audio_transcription.completed", "conversation.item.input_audio_transcription.failed",
        "response.created", "response.done", "response.output_item.added", "response.output_item.done",
        "response.content_part.added", "response.content_part.done", "response.text.delta", "response.text.done",
        "response.audio_transcript.delta", "response.audio_transcript.done", "response.audio.delta",
        "response.audio.done", "response.function_call_arguments.delta", "response.function_call_arguments.done",
        "rate_limits.updated",
    }  # fmt: skip
    with dial(quick.url, "preview", path=path) as line:
        session = line.update(
            detection={"type": "none"},
            transcription={"model": "whisper-1"},
            input_audio_format="g711-ulaw",
            tool_choice={"type": "function", "function": "refund"},
            tools=[TOOL],
        )["session"]
        assert session["turn_detection"] == {"type": "none"}
        assert session["input_audio_format"] == "g711-ulaw"
        assert session["tool_choice"] == {"type": "function", "function": "refund"}
        line.update(
            input_audio_format="pcm16", tools=[], tool_choice="auto", transcription={"model": "gpt-4o-transcribe"}
        )
        line.append(recording("order"))
        line.say("input_audio_buffer.commit")
        line.until("conversation.item.input_audio_transcription.completed")
        response = line.answer()
        line.here()
        assert set(line.types()) <= known
        assert response["status_details"] is None
        limits = next(event for event in line.log if event["type"] == "rate_limits.updated")["rate_limits"]
        assert all(None not in entry.values() for entry in limits)


VOICE_LIVE = "/voice-live/realtime?api-version=2025-10-01&model=test"


def test_voice_live_takes_its_own_settings(quick, dial):
    voice = {"type": "azure-standard", "name": "en-US-Ava:DragonHDLatestNeural"}
    with dial(quick.url, "preview", path=VOICE_LIVE) as line:
        session = line.update(
            voice=voice,
            detection={"type": "azure_semantic_vad", "remove_filler_words": True, "silence_duration_ms": 400},
            input_audio_echo_cancellation={"type": "server_echo_cancellation"},
            input_audio_noise_reduction={"type": "azure_deep_noise_suppression"},
            input_audio_sampling_rate=16000,
        )["session"]
        assert session["voice"] == voice
        assert session["turn_detection"]["type"] == "azure_semantic_vad"
        assert session["turn_detection"]["silence_duration_ms"] == 400


def test_voice_live_hears_speech_at_16_khz(quick, dial, speech):
    from rteval.formats import AudioFormat

    with dial(quick.url, "preview", path=VOICE_LIVE) as line:
        line.update(input_audio_sampling_rate=16000, detection={"type": "azure_semantic_vad"})
        line.append(speech(6, AudioFormat("pcm16", 16_000, 2, b"\x00\x00")))
        assert line.until("input_audio_buffer.speech_stopped")["audio_end_ms"] < 3500
        assert line.until("response.done")["response"]["status"] == "completed"
        assert line.audio()


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        pytest.param("/openai/v1/realtime?intent=transcription", "session", id="ga"),
        pytest.param(
            "/openai/realtime?api-version=2025-04-01-preview&intent=transcription",
            "transcription_session",
            id="preview",
        ),
    ],
)
def test_a_transcription_session_transcribes_and_never_answers(quick, dial, recording, path, prefix):
    with dial(quick.url, prefix, path=path) as line:
        created = line.hear()
        assert created["type"] == f"{prefix}.created"
        ga = prefix == "session"
        assert created["session"].get("type") == ("transcription" if ga else None)
        settings: dict[str, Any] = {"turn_detection": None, "transcription": {"model": "gpt-4o-transcribe"}}
        session: dict[str, Any] = {"type": "transcription", "audio": {"input": settings}}
        if not ga:
            session = {"turn_detection": None, "input_audio_transcription": settings["transcription"]}
        line.say(f"{prefix}.update", session=session)
        assert line.hear()["type"] == f"{prefix}.updated"
        line.append(recording("order"))
        line.say("input_audio_buffer.commit")
        line.until("conversation.item.input_audio_transcription.completed")
        line.say("response.create")
        assert line.hear()["type"] == "error"


def test_manual_and_detected_turns_say_the_same(quick, dial, dialect, recording):
    transcripts = []
    for detection in (None, {"type": "server_vad", "silence_duration_ms": 500}):
        with dial(quick.url, dialect) as line:
            line.update(detection=detection, transcription={"model": "whisper-1"})
            line.append(SECOND + recording("order") + SECOND)
            if detection is None:
                line.say("input_audio_buffer.commit")
            transcripts.append(line.until("conversation.item.input_audio_transcription.completed")["transcript"])
    assert transcripts[0] == transcripts[1]


Speech = Callable[..., bytes]


def test_a_commit_while_somebody_speaks_keeps_the_items_id(quick, dial, dialect, speech: Speech):
    with dial(quick.url, dialect) as line:
        line.append(speech(quiet_s=0.0))
        started = line.until("input_audio_buffer.speech_started")
        line.say("input_audio_buffer.commit")
        assert line.until("input_audio_buffer.committed")["item_id"] == started["item_id"]


def test_g711_speech_is_detected(quick, dial, dialect, speech: Speech):
    with dial(quick.url, dialect) as line:
        line.update(fmt="g711_ulaw")
        line.append(speech(6, G711_ULAW))
        assert line.until("response.done")["response"]["status"] == "completed"
