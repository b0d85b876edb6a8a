"""Drives all that a turn passes through with a canned conversation, so that the first real turn is not slower."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pybase64

from ..audio import LeadingSilence
from ..playback import play
from ..realtime import events as ev
from ..realtime.conversation import Conversation
from ..realtime.dialects import Dialect
from ..realtime.turn import Mode, Turn, TurnSpec
from ..records import HealthSample, Outcome, SessionRecord, TurnRecord
from ..shards import encode_record

__all__ = ["warm_up"]

_ROUNDS = 20
"""Python makes code faster once it ran a few times, and libraries do things once. It all takes about 30 ms."""

_DELTA_MS = 100


def warm_up(dialect: Dialect, settings: ev.SessionSettings, rounds: int = _ROUNDS) -> list[TurnRecord]:
    """Hold a conversation of one text, one manual and one detected turn ``rounds`` times; no socket, file or clock.

    What runs is the real code: frames are decoded, go through conversation and turn, and requests and rows are encoded.
    Call it before the collector is frozen and before anything is measured.

    Returns:
        The rows of the last round; all of them are ``ok``.
    """
    rows: list[TurnRecord] = []
    for _ in range(rounds):
        rows = list(_converse(dialect, settings))
        for row in rows:
            encode_record(row)
    session = SessionRecord(run_id="", worker="", session="", dialect=dialect.name, turns=len(rows), outcome="ready")
    encode_record(session)
    encode_record(HealthSample(worker="", at_ns=0, send_lag_us=[0]))
    return rows


def _converse(dialect: Dialect, settings: ev.SessionSettings) -> Iterator[TurnRecord]:
    conversation = Conversation(dialect, settings)
    clock = itertools.count(1_000_000, 1_000_000)

    def told(kind: str, **body: Any) -> ev.ServerEvent:
        at_ns = next(clock)
        event = dialect.decode(orjson.dumps({"type": kind, "event_id": "event_1", **body}))
        for request in conversation.feed(at_ns, event):
            dialect.encode(request)
        return event

    told("session.created", session={"id": "sess_1", "model": "canned"})
    told("session.updated", session={"id": "sess_1", **dialect.session(settings)})
    for number, mode in enumerate(Mode):
        turn = Turn(_spec(mode, settings), conversation.new_event_id)
        conversation.add(turn)
        _ask(turn, mode, next(clock), dialect)
        if mode is not Mode.TEXT:
            _be_heard(told, f"item_u{number}", detected=mode is Mode.VAD)
        silence = LeadingSilence(settings.output_format)
        for event in _answer(told, f"resp_{number}", f"item_a{number}", settings):
            silence.feed(event.audio)
        row = TurnRecord(
            run_id="", worker="", session="", turn=number, item="", modality=mode, dialect=dialect.name,
            outcome=Outcome.CUT, leading_silence_ms=silence.ms,
        )  # fmt: skip
        turn.write_to(row)
        play(row.deltas.arrival_ns, row.deltas.size_bytes, settings.output_format.bytes_per_s)
        yield row


def _spec(mode: Mode, settings: ev.SessionSettings) -> TurnSpec:
    return TurnSpec(
        mode=mode,
        text="Hello." if mode is Mode.TEXT else None,
        wants_audio=settings.wants_audio,
        transcription=True,
        output_bytes_per_s=settings.output_format.bytes_per_s,
    )


def _ask(turn: Turn, mode: Mode, at_ns: int, dialect: Dialect) -> None:
    """The user's side."""
    if mode is Mode.TEXT:
        requests = turn.begin_text(at_ns)
    else:
        turn.begin_speech()
        requests = turn.speech_sent(at_ns, at_ns)
    for request in requests:
        dialect.encode(request)


def _be_heard(told: Callable[..., ev.ServerEvent], item_id: str, *, detected: bool) -> None:
    """What the server says of the user's audio."""
    if detected:
        told("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=0)
        told("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=_DELTA_MS)
    told("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
    told("conversation.item.added", item={"id": item_id, "type": "message", "role": "user",
                                          "content": [{"type": "input_audio", "transcript": None}]})  # fmt: skip
    told("conversation.item.input_audio_transcription.delta", item_id=item_id, content_index=0, delta="Hel")
    told("conversation.item.input_audio_transcription.completed", item_id=item_id, content_index=0, transcript="Hello.")


def _answer(
    told: Callable[..., ev.ServerEvent], response_id: str, item_id: str, settings: ev.SessionSettings
) -> Iterator[ev.AudioDelta]:
    """The model's answer; its pieces of audio, the first of them silent."""
    fmt = settings.output_format
    where = {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    response = {"id": response_id, "status": "in_progress", "output": []}
    message = {"id": item_id, "type": "message", "role": "assistant", "status": "completed",
               "content": [{"type": "audio", "transcript": "Hello."}]}  # fmt: skip
    told("response.created", response=response)
    told("rate_limits.updated", rate_limits=[{"name": "tokens", "limit": 1, "remaining": 1, "reset_seconds": 0.0}])
    told("response.output_item.added", response_id=response_id, output_index=0, item=message)
    told("response.content_part.added", **where, part={"type": "audio", "transcript": ""})
    told("response.output_audio_transcript.delta", **where, delta="Hello.")
    silence = fmt.silence * (fmt.frame_bytes(_DELTA_MS) // fmt.sample_bytes)
    for audio in (silence, bytes(range(1, 201)) * (len(silence) // 200), silence):
        event = told("response.output_audio.delta", **where, delta=pybase64.b64encode(audio).decode())
        if isinstance(event, ev.AudioDelta):
            yield event
    told("response.output_audio.done", **where)
    told("response.output_audio_transcript.done", **where, transcript="Hello.")
    told("response.content_part.done", **where, part={"type": "audio", "transcript": "Hello."})
    told("response.output_item.done", response_id=response_id, output_index=0, item=message)
    usage = {"input_tokens": 2, "output_tokens": 1, "input_token_details": {"audio_tokens": 1, "text_tokens": 1}}
    told("response.done", response={**response, "status": "completed", "output": [message], "usage": usage})
