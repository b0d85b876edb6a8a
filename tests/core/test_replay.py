"""Whole conversations from ``tests/transcripts``, replayed frame by frame in both dialects."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import orjson
import pytest

from rteval.formats import FORMATS
from rteval.realtime import events as ev
from rteval.realtime.conversation import Conversation
from rteval.realtime.dialects import DIALECTS
from rteval.realtime.dialects.serving import (
    GA_SERVING,
    PREVIEW_2024_10_SERVING,
    PREVIEW_SERVING,
    VOICE_LIVE_SERVING,
)
from rteval.realtime.turn import Mode, Turn, TurnSpec

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
GOLDEN = TRANSCRIPTS / "golden"
NAMES = sorted(path.name.removesuffix(".jsonl") for path in TRANSCRIPTS.glob("*.jsonl"))
IN_BOTH = sorted({name.rpartition(".")[0] for name in NAMES if name.endswith(".ga")})


def ns(seconds):
    return round(seconds * 1_000_000_000)


def filled(value):
    """``value`` with audio instead of its length."""
    match value:
        case {"bytes": int(size)}:
            return base64.b64encode(bytes(size)).decode()
        case dict():
            return {key: filled(entry) for key, entry in value.items()}
        case _:
            return value


def settings_of(setup):
    known = dict(setup)
    for name in ("input_format", "output_format"):
        if name in known:
            known[name] = FORMATS[known[name]]
    for name in ("modalities", "tools"):
        if name in known:
            known[name] = tuple(known[name])
    return ev.SessionSettings(**known)


@dataclass
class Replay:
    """One conversation under way."""

    conversation: Conversation
    spell: object
    turns: list = field(default_factory=list)
    outbox: list = field(default_factory=list)

    def line(self, line):
        at_ns = ns(line["t"])
        if line["dir"] == "send":
            assert self.outbox, f"nothing to send at {line['t']}"
            assert orjson.loads(self.outbox.pop(0)) == line["frame"]
            return
        assert not self.outbox, f"not in the transcript: {self.outbox} before {line['t']}"
        if line["dir"] == "recv":
            event = self.conversation.dialect.decode(self.spell(filled(line["frame"])))
            commands = self.conversation.feed(at_ns, event)
        else:
            commands = self.do(at_ns, **{key: value for key, value in line.items() if key not in ("t", "dir")})
        self.outbox += [self.conversation.dialect.encode(command) for command in commands]

    def do(self, at_ns, what, *, mode="text", speech_end=None, code=None, message=None, **asked):
        match what:
            case "begin_text" | "begin_speech":
                turn = self.turn(Mode(mode), asked)
                return turn.begin_text(at_ns) if mode == "text" else turn.begin_speech() or []
            case "speech_sent":
                return self.turns[-1].speech_sent(at_ns, ns(speech_end))
            case "tick":
                for turn in self.conversation.unsettled:
                    turn.tick(at_ns)
            case "lost":
                self.conversation.lost(at_ns, code, message)
        return []

    def turn(self, mode, asked):
        settings = self.conversation.settings
        spec = TurnSpec(
            mode=mode,
            **asked,
            wants_audio=settings.wants_audio,
            transcription=settings.transcription is not None,
            output_bytes_per_s=settings.output_format.bytes_per_s,
        )
        self.turns.append(Turn(spec, self.conversation.new_event_id))
        self.conversation.add(self.turns[-1])
        return self.turns[-1]


def compact(frame):
    return orjson.dumps(frame)


def spaced(frame):
    """As an encoder with blanks would write it, which keeps audio from being read without a full parse."""
    return json.dumps(frame, indent=1).encode()


def replay(name, blank_row, spell=compact):
    """The rows of a transcript, less what they share with a blank row, and what its session came to be."""
    with (TRANSCRIPTS / f"{name}.jsonl").open() as lines:
        setup, *rest = map(json.loads, lines)
    dialect = DIALECTS[setup["dialect"]]
    conversation = Conversation(dialect, settings_of(setup["settings"]))
    play = Replay(conversation, spell)
    for line in rest:
        play.line(line)
    assert not play.outbox
    rows = []
    for number, turn in enumerate(play.turns):
        planned = {
            "turn": number,
            "modality": "text" if turn.spec.mode is Mode.TEXT else "audio",
            "dialect": dialect.name,
        }
        row = blank_row(**planned)
        turn.write_to(row)
        blank = blank_row()
        told = [f.name for f in fields(row) if getattr(row, f.name) != getattr(blank, f.name)]
        rows.append({"settled": turn.settled, **{name: getattr(row, name) for name in told}})
    refusal = conversation.refusal
    session = {
        "ready_ns": conversation.ready_ns,
        "refusal": refusal and refusal.code,
        "session_id": conversation.session_id,
        "reported_model": conversation.reported_model,
        "expires_at": conversation.expires_at,
        "ignored_settings": conversation.ignored_settings,
        "unknown_events": dict(conversation.unknown_events),
        "unsolicited_responses": conversation.unsolicited_responses,
        "rate_limits": [limit["name"] for limit in conversation.rate_limits],
    }
    return orjson.loads(orjson.dumps({"session": session, "turns": rows}))


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_gives_its_rows(name, blank_row, update_golden):
    found = replay(name, blank_row)
    path = GOLDEN / f"{name}.json"
    if update_golden:
        path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    assert found == orjson.loads(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_blanks_in_the_frames_change_nothing(name, blank_row):
    assert replay(name, blank_row, spell=spaced) == replay(name, blank_row)


def test_every_golden_file_has_its_transcript():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", IN_BOTH)
def test_the_same_conversation_gives_the_same_rows_in_both_dialects(name, blank_row):
    turns = {}
    for dialect in DIALECTS:
        turns[dialect] = replay(f"{name}.{dialect}", blank_row)["turns"]
        assert all(turn.pop("dialect", "ga") == dialect for turn in turns[dialect])
    assert turns["ga"] == turns["preview"]


# ---- the same conversation, as every flavour of server speaks it ----

WHERE = {"response_id": "resp_01", "item_id": "item_a1"}
MESSAGE = ev.Item(
    id="item_a1", role="assistant", status="completed", content=(ev.Part(type="audio", transcript="On its way."),)
)
CALL = ev.Item(id="item_f1", type="function_call", status="completed", name="track", call_id="call_1", arguments="{}")
USER = ev.Item(id="item_u1", role="user", status="completed", content=(ev.Part(type="input_audio"),))
TOLD = [
    ev.SpeechStarted(item_id="item_u1", audio_start_ms=0),
    ev.SpeechStopped(item_id="item_u1", audio_end_ms=1500),
    ev.AudioCommitted(item_id="item_u1"),
    ev.ItemAdded(item=USER),
    ev.ItemDone(item=USER),
    ev.InputTranscriptDelta(item_id="item_u1", delta="where"),
    ev.ResponseCreated(response=ev.Response(id="resp_01", status="in_progress")),
    ev.RateLimitsUpdated(limits=({"name": "tokens", "limit": 9, "remaining": 8, "reset_seconds": 0.5},)),
    ev.OutputItemAdded(response_id="resp_01", item=MESSAGE),
    ev.ItemAdded(item=MESSAGE, previous_item_id="item_u1"),
    ev.ContentPartAdded(part=ev.Part(type="audio", transcript=""), **WHERE),
    ev.TranscriptDelta(delta="On its ", **WHERE),
    ev.AudioDelta(audio=b"A" * 6400, size_bytes=4800, **WHERE),
    ev.InputTranscriptCompleted(item_id="item_u1", transcript="where is it"),
    ev.TranscriptDelta(delta="way.", **WHERE),
    ev.AudioDelta(audio=b"A" * 3200, size_bytes=2400, **WHERE),
    ev.AudioDone(**WHERE),
    ev.TranscriptDone(transcript="On its way.", **WHERE),
    ev.ContentPartDone(part=ev.Part(type="audio", transcript="On its way."), **WHERE),
    ev.ItemDone(item=MESSAGE),
    ev.OutputItemDone(response_id="resp_01", item=MESSAGE),
    ev.OutputItemAdded(response_id="resp_01", item=CALL, output_index=1),
    ev.FunctionArgumentsDelta(response_id="resp_01", call_id="call_1", delta="{}", output_index=1),
    ev.FunctionArgumentsDone(response_id="resp_01", call_id="call_1", arguments="{}", name="track", output_index=1),
    ev.OutputItemDone(response_id="resp_01", item=CALL, output_index=1),
    ev.ResponseDone(response=ev.Response(id="resp_01", status="completed", output=(MESSAGE, CALL))),
]


def told_by(serving, blank_row):
    """The row of the conversation above when ``serving`` tells it."""
    settings = ev.SessionSettings(turn_detection={"type": "server_vad"}, transcription={"model": "whisper-1"})
    conversation = Conversation(serving.dialect, settings)
    conversation.feed(0, ev.SessionCreated(session={}))
    conversation.feed(0, ev.SessionUpdated(session={}))
    turn = Turn(TurnSpec(mode=Mode.VAD, transcription=True), conversation.new_event_id)
    conversation.add(turn)
    turn.begin_speech()
    turn.speech_sent(0, 0)
    for number, event in enumerate(TOLD, start=1):
        frame = serving.encode(event, f"event_{number}")
        if frame is not None:
            assert conversation.feed(ns(number), serving.dialect.decode(orjson.dumps(frame))) == []
    assert turn.settled
    row = blank_row()
    turn.write_to(row)
    return row


FLAVOURS = [GA_SERVING, PREVIEW_SERVING, PREVIEW_2024_10_SERVING, VOICE_LIVE_SERVING]


@pytest.mark.parametrize("serving", FLAVOURS[1:], ids=lambda serving: serving.name)
def test_every_flavour_of_server_tells_the_same_turn(serving, blank_row):
    row = told_by(serving, blank_row)
    assert row == told_by(GA_SERVING, blank_row)
    assert (row.outcome, row.input_transcript, row.output_transcript) == ("ok", "where is it", "On its way.")
    assert (sum(row.deltas.size_bytes), len(row.tool_calls), row.oddities) == (7200, 1, ())
