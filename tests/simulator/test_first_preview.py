"""What the clients of the first preview generation read without breaking, by models as strict as their own.

The Python one (rtclient 0.5) validates every field that it names, the JavaScript one ends the connection at any type
of event that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

PATH = "/openai/realtime?api-version=2024-10-01-preview&deployment=test"
TOOL = {"type": "function", "name": "refund", "parameters": {"type": "object", "properties": {}}}


class Read(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Transcription(Read):
    model: Literal["whisper-1"]


class Detection(Read):
    type: Literal["none", "server_vad"]


class Forced(Read):
    type: Literal["function"]
    function: str


Format = Literal["pcm16", "g711-ulaw", "g711-alaw"]


class Session(Read):
    id: str
    model: str
    modalities: list[Literal["text", "audio"]]
    instructions: str
    voice: Literal["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"]
    input_audio_format: Format
    output_audio_format: Format
    input_audio_transcription: Transcription | None
    turn_detection: Detection | None
    tools: list[dict[str, Any]]
    tool_choice: Literal["auto", "none", "required"] | Forced
    temperature: Annotated[float, Field(ge=0.6, le=1.2)]
    max_response_output_tokens: int | Literal["inf"]


class TextPart(Read):
    type: Literal["input_text", "text"]
    text: str


class AudioPart(Read):
    type: Literal["input_audio", "audio"]
    transcript: str | None


Part = Annotated[TextPart | AudioPart, Field(discriminator="type")]
Status = Literal["in_progress", "completed", "incomplete"]


class Message(Read):
    type: Literal["message"]
    id: str
    status: Status
    role: Literal["system", "user", "assistant"]
    content: list[Part]


class Call(Read):
    type: Literal["function_call"]
    id: str
    status: Status
    name: str
    call_id: str
    arguments: str


class CallOutput(Read):
    type: Literal["function_call_output"]
    id: str
    call_id: str
    output: str


Item = Annotated[Message | Call | CallOutput, Field(discriminator="type")]


class InputTokens(Read):
    cached_tokens: int
    text_tokens: int
    audio_tokens: int


class OutputTokens(Read):
    text_tokens: int
    audio_tokens: int


class Usage(Read):
    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_token_details: InputTokens
    output_token_details: OutputTokens


class Cancelled(Read):
    type: Literal["cancelled"]
    reason: Literal["turn_detected", "client_cancelled"]


class Incomplete(Read):
    type: Literal["incomplete"]
    reason: Literal["max_output_tokens", "content_filter"]


class Failed(Read):
    type: Literal["failed"]
    error: dict[str, Any]


class Response(Read):
    id: str
    status: Literal["in_progress", "completed", "cancelled", "incomplete", "failed"]
    status_details: Cancelled | Incomplete | Failed | None
    output: list[Item]
    usage: Usage | None


class Error(Read):
    type: str
    message: str
    code: str | None
    param: str | None
    event_id: str | None


class Limit(Read):
    name: str
    limit: int
    remaining: int
    reset_seconds: float


class Event(Read):
    event_id: str


class Place(Event):
    response_id: str
    item_id: str
    output_index: int
    content_index: int


class CallPlace(Event):
    response_id: str
    item_id: str
    output_index: int
    call_id: str


class ErrorTold(Event):
    error: Error


class SessionTold(Event):
    session: Session


class Committed(Event):
    item_id: str
    previous_item_id: str | None


class SpeechStarted(Event):
    item_id: str
    audio_start_ms: int


class SpeechStopped(Event):
    item_id: str
    audio_end_ms: int


class ItemCreated(Event):
    previous_item_id: str | None
    item: Item


class ItemTruncated(Event):
    item_id: str
    content_index: int
    audio_end_ms: int


class ItemDeleted(Event):
    item_id: str


class Transcribed(Event):
    item_id: str
    content_index: int
    transcript: str


class NotTranscribed(Event):
    item_id: str
    content_index: int
    error: dict[str, Any]


class ResponseTold(Event):
    response: Response


class OutputItem(Event):
    response_id: str
    output_index: int
    item: Item


class PartTold(Place):
    part: Part


class Delta(Place):
    delta: str


class TextDone(Place):
    text: str


class TranscriptDone(Place):
    transcript: str


class ArgumentsDelta(CallPlace):
    delta: str


class ArgumentsDone(CallPlace):
    name: str
    arguments: str


class LimitsTold(Event):
    rate_limits: list[Limit]


KNOWN: dict[str, type[Event]] = {
    "error": ErrorTold,
    "session.created": SessionTold,
    "session.updated": SessionTold,
    "input_audio_buffer.committed": Committed,
    "input_audio_buffer.cleared": Event,
    "input_audio_buffer.speech_started": SpeechStarted,
    "input_audio_buffer.speech_stopped": SpeechStopped,
    "conversation.item.created": ItemCreated,
    "conversation.item.truncated": ItemTruncated,
    "conversation.item.deleted": ItemDeleted,
    "conversation.item.input_audio_transcription.completed": Transcribed,
    "conversation.item.input_audio_transcription.failed": NotTranscribed,
    "response.created": ResponseTold,
    "response.done": ResponseTold,
    "response.output_item.added": OutputItem,
    "response.output_item.done": OutputItem,
    "response.content_part.added": PartTold,
    "response.content_part.done": PartTold,
    "response.text.delta": Delta,
    "response.text.done": TextDone,
    "response.audio_transcript.delta": Delta,
    "response.audio_transcript.done": TranscriptDone,
    "response.audio.delta": Delta,
    "response.audio.done": Place,
    "response.function_call_arguments.delta": ArgumentsDelta,
    "response.function_call_arguments.done": ArgumentsDone,
    "rate_limits.updated": LimitsTold,
}
"""All types of event that these clients know; any other ends the connection."""


@pytest.fixture(name="rtclient")
def _rtclient(dial):
    @contextmanager
    def connected(simulator: Any, **settings: Any) -> Iterator[Any]:
        with dial(simulator.url, "preview", path=PATH, headers={"User-Agent": "ms-rtclient/0.5.4"}) as line:
            line.until("session.created")
            if settings:
                line.say("session.update", session=settings)
                line.until("session.updated")
            yield line
            line.here()
            for event in line.log:
                KNOWN[event["type"]].model_validate_json(json.dumps(event))

    return connected


QUIET = {"turn_detection": {"type": "none"}}
HEARD = {"input_audio_transcription": {"model": "whisper-1"}}


@pytest.mark.parametrize("modalities", [["text"], ["audio", "text"]], ids=["text", "audio"])
def test_a_prompt(quick, rtclient, modalities):
    with rtclient(quick, modalities=modalities, **QUIET) as line:
        line.text(id="item-mine")
        assert line.answer(modalities=modalities, instructions="Be kind.")["status"] == "completed"


def test_a_response_to_nothing(quick, rtclient):
    """What the vendor's samples ask for: a response in an empty conversation."""
    with rtclient(quick) as line:
        assert line.answer(modalities=["audio", "text"], instructions="Say hello.")["output"]


def test_a_committed_turn(quick, rtclient, recording):
    with rtclient(quick, **QUIET, **HEARD) as line:
        line.say("input_audio_buffer.clear")
        line.append(recording("order"))
        line.say("input_audio_buffer.commit")
        line.until("conversation.item.input_audio_transcription.completed")
        line.answer()


def test_a_detected_turn(quick, rtclient, speech):
    with rtclient(quick, **HEARD, input_audio_format="g711-ulaw") as line:
        line.say("session.update", session={"input_audio_format": "pcm16"})
        line.append(speech())
        line.until("response.done")
        assert "input_audio_buffer.speech_stopped" in line.types()


def test_a_function_call(quick, rtclient):
    choice = {"type": "function", "function": "refund"}
    with rtclient(quick, **QUIET, tools=[TOOL], tool_choice=choice) as line:
        line.text()
        (call,) = line.answer()["output"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "{}"}
        line.say("conversation.item.create", previous_item_id=None, item=output)
        assert line.answer(tool_choice="none")["output"][0]["type"] == "message"


def test_a_cancelled_and_truncated_answer(slow, rtclient):
    with rtclient(slow, **QUIET) as line:
        line.text("Tell me a long story.")
        line.say("response.create")
        line.until("response.output_audio.delta")
        line.say("response.cancel")
        item_id = line.until("response.done")["response"]["output"][0]["id"]
        line.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=10)
        line.say("conversation.item.delete", item_id=item_id)
        line.until("conversation.item.deleted")


def test_an_incomplete_answer_and_errors(quick, rtclient):
    with rtclient(quick, **QUIET) as line:
        assert line.answer(max_output_tokens=5)["status"] == "incomplete"
        line.say("response.cancel", event_id="mine")
        line.say("input_audio_buffer.commit")
        line.socket.send(b"\x00")


def test_a_voice_that_came_later_is_made_one_that_they_know(quick, rtclient):
    with rtclient(quick, voice="marin") as line:
        line.answer(voice="cedar")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param({"turn_detection": {"type": "semantic_vad"}}, "invalid_value", id="semantic detection"),
        pytest.param({"input_audio_noise_reduction": None}, "unknown_parameter", id="noise reduction"),
        pytest.param({"speed": 1.1}, "unknown_parameter", id="speed"),
    ],
)
def test_what_came_later_is_refused(quick, rtclient, settings, code):
    with rtclient(quick) as line:
        line.say("session.update", session=settings)
        assert line.until("error")["error"]["code"] == code


def test_what_cannot_be_told_is_refused(quick, rtclient):
    """A retrieved item is no event that they know, so to ask for one is an error and not silence."""
    with rtclient(quick, **QUIET) as line:
        line.text(id="item_1")
        line.say("conversation.item.retrieve", item_id="item_1", event_id="mine")
        error = line.until("error")["error"]
        assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "type", "mine")
