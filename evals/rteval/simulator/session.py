"""One session as a state machine without I/O or clock: client frames and times in, effects for the driver out."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pybase64

from ..realtime import events as ev
from ..realtime.dialects.serving import ClientFrame, FrameRefused, Serving, sniff_append
from ..realtime.dialects.shapes import Refusal
from .answer import Answer, Script
from .behaviour import Fault, find
from .conversation import MAX_RETRIEVED_BYTES, Conversation, Stored, Tokens, stored_from_wire, text_tokens, total
from .intake import Intake, Utterance
from .outlet import Close, Effect, Outlet, make_id
from .settings import KINDS, Detection, Effective, Kind, SessionSettings
from .tools import choose_call
from .truth import TruthLine
from .vad import SpeechStarted, SpeechStopped, VoiceDetector
from .voice import answer_for, slice_text
from .world import Recognised, World

__all__ = ["Admission", "Session"]

MAX_APPEND_BYTES = 15 * 1024 * 1024
MIN_COMMIT_MS = 100.0
# Audio before this is dropped while nobody speaks; the detector looks back over 150 ms beside the padding.
LOOK_BACK_MS = 500.0
# Base64 of user audio that a session keeps for conversation.item.retrieve.
KEPT_SESSION_CHARS = 4_000_000
# Cached input comes in lumps of this many tokens.
CACHE_LUMP = 64
TRANSCRIPT_GAP_MS = 20.0

_TOLD = object()

_Process = Generator[int | None, None, None]


@dataclass(slots=True, eq=False)
class _Running:
    """A response under way, the process that says it, and the user item that it answers."""

    answer: Answer
    source: Stored | None
    process: _Process = field(init=False)


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that was let in.

    Attributes:
        serving: the flavour it understands.
        kind: what its session is for.
        model: the name it asked for.
        azure: whether it came by an Azure path.
    """

    serving: Serving
    kind: Kind
    model: str
    azure: bool = True


class Session:
    """One connection's protocol state.

    Args:
        admission: who was let in, and how.
        world: what is shared with the other sessions.
        number: of this session, from 1 in the order they connected.
        now_ns: monotonic time of the opening.
        unix_s: the same moment as Unix time, for ``expires_at``.
        rng: source of ids.
    """

    def __init__(
        self,
        admission: Admission,
        world: World,
        *,
        number: int,
        now_ns: int,
        unix_s: float,
        rng: random.Random | None = None,
    ) -> None:
        self._rng = rng or random.Random()
        self._world = world
        self._behaviour = world.behaviour
        self._number = number
        self._now_ns = now_ns
        self._admission = admission
        self._outlet = Outlet(admission.serving, self._rng)
        self.id = self._id("sess_")
        self._settings = SessionSettings.new(
            KINDS[admission.serving.name, admission.kind],
            session_id=self.id,
            model=admission.model,
            expires_at=math.ceil(unix_s + self._behaviour.session_max_s),
        )
        self._effective = self._settings.effective
        self._conversation = Conversation(self._id("conv_"))
        self._intake = Intake(self._effective.input_format)
        self._detector: VoiceDetector | None = None
        self._detect()
        self._speech_item: str | None = None
        self._speech_start_ms = 0.0
        self._timers: list[tuple[int, int, _Process]] = []
        self._parked: list[_Process] = []
        self._order = itertools.count()
        self._running: dict[str, _Running] = {}
        self._active: _Running | None = None
        self._queued: Callable[[], None] | None = None
        self._turns = 0
        self._struck: set[tuple[int, str]] = set()
        self._heard: dict[str, Recognised] = {}
        self._utterances: dict[str, Utterance] = {}
        self._transcripts: dict[str, tuple[int | None, int | None]] = {}
        self._waiting_lines: dict[str, TruthLine] = {}
        self._answered: dict[str, int] = {}
        self._lines: list[TruthLine] = []
        self._previous = Tokens()
        self._kept: list[Stored] = []
        self._session_faults = self._behaviour.session_faults(number)

    # ---- the driver's side ----

    @property
    def due_ns(self) -> int | None:
        """When ``advance`` must be called next, or ``None``."""
        return self._timers[0][0] if self._timers else None

    def take(self) -> list[Effect]:
        """What is to be done now, in order; the driver does all of it."""
        effects = self._outlet.effects
        if effects:
            self._outlet.effects = []
        return effects

    def open(self) -> None:
        """Greet the client."""
        if find(self._session_faults, "session_created_missing"):
            self._outlet.muted = True
            return
        self._tell_session(created=True)
        if find(self._session_faults, "session_created_twice"):
            self._tell_session(created=True)
        early = find(self._session_faults, "session_expired")
        after_ms = early.delay_ms if early is not None else self._behaviour.session_max_s * 1000
        self._start(self._expire(self._now_ns + round(after_ms * 1e6)))

    def receive(self, data: bytes | bytearray, now_ns: int) -> None:
        """Take a text frame that arrived at ``now_ns``."""
        self._now_ns = now_ns
        audio = sniff_append(data)
        if audio is not None:
            try:
                return self._append(audio, now_ns)
            except Refusal as refusal:
                self._refuse(refusal, _sniffed_event_id(data))
                return
        try:
            frame = self._admission.serving.read(data)
        except FrameRefused as refused:
            return self._refuse(refused.refusal, refused.event_id)
        try:
            _REQUESTS[frame.type](self, frame)
        except Refusal as refusal:
            self._refuse(refusal, frame.event_id)
        self._run()

    def receive_binary(self, now_ns: int) -> None:
        """Take a binary frame."""
        self._now_ns = now_ns
        self._outlet.refuse("invalid_event", "Binary frames are not events; send JSON in text frames.")

    def advance(self, now_ns: int) -> None:
        """Do what is due."""
        self._now_ns = now_ns
        self._run()

    def heard(self, item_id: str, heard: Recognised, now_ns: int) -> None:
        """Take the recognition of an utterance that the outlet asked for."""
        self._now_ns = now_ns
        self._heard[item_id] = heard
        self._wake()
        self._run()

    def close(self) -> None:
        """The connection is gone: nothing more will be said."""
        self._outlet.muted = True
        self._timers.clear()
        self._parked.clear()
        for running in self._running.values():
            running.process.close()
        for line in list(self._lines):
            line.abandon()

    # ---- processes ----

    def _start(self, process: _Process) -> None:
        heapq.heappush(self._timers, (self._now_ns, next(self._order), process))

    def _wake(self) -> None:
        """Let every process that waits for something look whether it has come."""
        parked, self._parked = self._parked, []
        for process in parked:
            self._start(process)

    def _run(self) -> None:
        while self._timers and self._timers[0][0] <= self._now_ns:
            _, _, process = heapq.heappop(self._timers)
            self._step(process)

    def _step(self, process: _Process) -> None:
        try:
            due_ns = next(process)
        except StopIteration:
            return
        if due_ns is None:
            self._parked.append(process)
        else:
            heapq.heappush(self._timers, (due_ns, next(self._order), process))

    # ---- small things ----

    def _id(self, prefix: str) -> str:
        return make_id(prefix, self._rng)

    def _refuse(self, refusal: Refusal, client_event_id: str | None) -> None:
        self._outlet.refuse(
            refusal.code,
            refusal.message,
            param=refusal.param,
            client_event_id=client_event_id,
            type=refusal.type,
        )

    def _tell_session(self, *, created: bool = False) -> None:
        prefix = self._settings.kind.event_prefix
        name = f"{prefix}.created" if created else f"{prefix}.updated"
        event = (ev.SessionCreated if created else ev.SessionUpdated)(session=self._settings.wire)
        self._outlet.tell(event, change=lambda frame: frame.update(type=name))

    def _expire(self, due_ns: int) -> _Process:
        yield due_ns
        minutes = max(1, round(self._behaviour.session_max_s / 60))
        self._outlet.refuse("session_expired", f"Your session hit the maximum duration of {minutes} minutes.")
        self._outlet.end(Close(1001, "session expired"))

    def _strike(self, *kinds: Any) -> Fault | None:
        """The fault of one of the kinds that strikes the turn under way, the first time that it is asked for."""
        turn = self._turns + 1
        fault = find(self._behaviour.turn_faults(self._number, turn), *kinds)
        if fault is None or (turn, fault.kind) in self._struck:
            return None
        self._struck.add((turn, fault.kind))
        return fault

    # ---- session ----

    def _update(self, frame: ClientFrame) -> None:
        if find(self._session_faults, "session_updated_missing"):
            return
        refused = find(self._session_faults, "session_update_refused")
        if refused is not None:
            message = refused.message or "The session could not be updated."
            raise Refusal(refused.code or "invalid_value", message, "session")
        late = find(self._session_faults, "session_updated_late")
        if late is None:
            self._apply(frame.body["session"])
        else:
            self._start(self._apply_late(frame, self._now_ns + round(late.delay_ms * 1e6)))

    def _apply_late(self, frame: ClientFrame, due_ns: int) -> _Process:
        yield due_ns
        try:
            self._apply(frame.body["session"])
        except Refusal as refusal:
            self._refuse(refusal, frame.event_id)

    def _apply(self, session: dict[str, Any]) -> None:
        before = self._effective
        settings = self._settings.updated(session)
        effective = settings.effective
        if effective.voice != before.voice and any(
            item.kind == "audio" and item.role == "assistant" for item in self._conversation.items.values()
        ):
            raise Refusal("cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present.")
        self._settings, self._effective = settings, effective
        if self._effective.input_format != before.input_format:
            self._intake = Intake(self._effective.input_format, self._intake.media_ms)
        if (before.detection, before.input_format) != (self._effective.detection, self._effective.input_format):
            self._detect()
        self._tell_session()
        if find(self._session_faults, "session_updated_twice"):
            self._tell_session()

    def _update_transcription(self, frame: ClientFrame) -> None:
        if self._admission.kind != "transcription":
            raise Refusal(
                "invalid_value",
                "Passing a transcription session update event to a realtime session is not allowed.",
                "type",
            )
        self._update(frame)

    def _detect(self) -> None:
        """Listen as the settings say."""
        detection = self._effective.detection
        self._speech_item = None
        if detection is None or not self._behaviour.vad:
            self._detector = None
            return
        media_ms = self._intake.media_ms
        self._detector = VoiceDetector(
            self._effective.input_format,
            threshold=detection.threshold,
            prefix_padding_ms=detection.prefix_padding_ms,
            silence_duration_ms=detection.silence_duration_ms,
            start_ms=media_ms,
            committed_ms=media_ms - self._intake.kept_ms,
        )

    # ---- audio in ----

    def _append_frame(self, frame: ClientFrame) -> None:
        self._append(frame.body["audio"].encode(), self._now_ns)

    def _append(self, text: bytes | bytearray | memoryview, now_ns: int) -> None:
        if len(text) * 3 // 4 > MAX_APPEND_BYTES + 2:
            raise Refusal("invalid_value", "Invalid 'audio': at most 15 MiB can be appended at once.", "audio")
        try:
            audio = pybase64.b64decode(text, validate=True)
        except ValueError:
            raise Refusal("invalid_value", "Invalid 'audio': expected valid base64.", "audio") from None
        self._intake.append(audio, now_ns)
        detector = self._detector
        if detector is None:
            return
        events = detector.feed(audio)
        for event in events:
            if isinstance(event, SpeechStarted):
                self._speech_started(event)
            else:
                self._speech_stopped(event)
        if events:
            self._run()
        elif not detector.speaking:
            self._intake.keep_last(detector.prefix_padding_ms + LOOK_BACK_MS)

    def _speech_started(self, event: SpeechStarted) -> None:
        self._speech_item = self._id("item_")
        self._speech_start_ms = event.audio_start_ms
        self._outlet.tell(ev.SpeechStarted(item_id=self._speech_item, audio_start_ms=event.audio_start_ms))
        detection = self._detection()
        if detection.interrupt_response and self._active is not None:
            self._cancel(self._active, "turn_detected")

    def _speech_stopped(self, event: SpeechStopped) -> None:
        item_id = self._speech_item or self._id("item_")
        self._speech_item = None
        self._outlet.tell(ev.SpeechStopped(item_id=item_id, audio_end_ms=event.audio_end_ms))
        utterance = self._intake.take(self._speech_start_ms, event.audio_end_ms)
        self._commit(item_id, utterance)
        if self._detection().create_response and self._settings.kind.response:
            self._respond_to_speech()

    def _detection(self) -> Detection:
        return self._effective.detection or Detection()

    def _respond_to_speech(self) -> None:
        if self._active is None:
            self._respond({})
        else:
            # Nobody interrupted it, so it is finished first.
            self._queued = lambda: self._respond({})

    def _commit_frame(self, frame: ClientFrame) -> None:
        kept_ms = self._intake.kept_ms
        refused = self._strike("commit_refused")
        if kept_ms < MIN_COMMIT_MS or refused is not None:
            raise Refusal(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {kept_ms:.2f}ms of audio.",
            )
        if self._intake.kept_bytes % self._intake.fmt.sample_bytes:
            raise Refusal("invalid_value", "Error committing input audio buffer: it ends within a sample.")
        item_id = self._speech_item or self._id("item_")
        self._commit(item_id, self._intake.take())
        if self._detector is not None:
            self._detect()

    def _commit(self, item_id: str, utterance: Utterance) -> None:
        stored = Stored(id=item_id, role="user", kind="audio", audio_ms=utterance.duration_ms)
        self._keep(stored, utterance.audio)
        self._utterances[item_id] = replace(utterance, audio=b"")
        self._outlet.hear(item_id, utterance)
        transcription = self._effective.transcription
        late_item = self._strike("transcription_before_item") if transcription is not None else None
        before = self._conversation.add(stored)
        committed = ev.AudioCommitted(item_id=item_id, previous_item_id=before)
        swapped = self._strike("committed_after_item") is not None
        if not swapped:
            self._outlet.tell(committed)
        if late_item is None:
            self._tell_item(stored, before)
        if swapped:
            self._outlet.tell(committed)
        if transcription is not None:
            self._start(
                self._transcribe(stored, transcription, self._now_ns, item_before=before if late_item else _TOLD)
            )

    def _tell_item(self, stored: Stored, before: str | None) -> None:
        self._outlet.tell(ev.ItemAdded(item=stored.item, previous_item_id=before))
        self._outlet.tell(ev.ItemDone(item=stored.item, previous_item_id=before))

    def _keep(self, stored: Stored, audio: bytes) -> None:
        """Hold an item's audio for a client that asks for it, and let go of the oldest."""
        if len(audio) > MAX_RETRIEVED_BYTES:
            return
        stored.audio = [pybase64.b64encode_as_string(audio)]
        self._kept.append(stored)
        while sum(len(piece) for kept in self._kept for piece in kept.audio) > KEPT_SESSION_CHARS:
            self._kept.pop(0).audio.clear()

    def _clear(self, frame: ClientFrame) -> None:
        self._intake.clear()
        self._outlet.tell(ev.AudioCleared())
        if self._detector is not None:
            self._detect()

    # ---- transcription ----

    def _transcribe(
        self, stored: Stored, transcription: Mapping[str, Any], committed_ns: int, *, item_before: Any
    ) -> _Process:
        how = self._behaviour.transcription
        late = self._strike("transcription_late")
        broken = self._strike("transcription_failed", "transcription_missing")
        while stored.id not in self._heard:
            yield None
        heard = self._heard[stored.id]
        key = heard.item.id if heard.item is not None else f"{self._number}/{stored.id}"
        rng = self._behaviour.rng("transcription", key, self._world.occurrence(f"transcription {key}"))
        delay_ns = round(how.delay_ms.sample_ms(rng) * 1e6)
        missing, failed = rng.random() < how.missing_rate, rng.random() < how.failure_rate
        if missing or (broken is not None and broken.kind == "transcription_missing"):
            self._transcribed(stored.id, None, None)
            return
        if late is not None:
            while self._answered.get(stored.id) is None:
                yield None
            yield self._answered[stored.id] + round(late.delay_ms * 1e6)
        elif failed or broken is not None:
            yield committed_ns + delay_ns
        else:
            pieces = slice_text(heard.transcript) if how.deltas and transcription.get("model") != "whisper-1" else []
            start_ns = max(committed_ns, self._now_ns)
            step_ns = max(0, committed_ns + delay_ns - start_ns) // (len(pieces) + 1)
            for index, piece in enumerate(pieces):
                yield start_ns + (index + 1) * step_ns
                self._outlet.tell(ev.InputTranscriptDelta(item_id=stored.id, delta=piece))
            yield committed_ns + delay_ns
        if failed or broken is not None:
            self._tell_transcription_failed(stored, broken)
        else:
            stored.transcript = heard.transcript
            self._outlet.tell(
                ev.InputTranscriptCompleted(
                    item_id=stored.id, transcript=heard.transcript, usage=self._transcription_usage(stored)
                )
            )
            self._transcribed(stored.id, heard.ref_words, heard.word_errors)
        if item_before is not _TOLD:
            self._tell_item(stored, item_before)

    def _tell_transcription_failed(self, stored: Stored, fault: Fault | None) -> None:
        self._outlet.tell(
            ev.InputTranscriptFailed(
                item_id=stored.id,
                type="server_error",
                code=None if fault is None else fault.code,
                message=(fault.message if fault is not None else None)
                or f"Input transcription failed for item '{stored.id}'.",
            )
        )
        self._transcribed(stored.id, None, None)

    def _transcription_usage(self, stored: Stored) -> dict[str, Any]:
        into = stored.tokens(self._behaviour.usage).audio
        out = text_tokens(stored.transcript)
        return {
            "type": "tokens",
            "total_tokens": into + out,
            "input_tokens": into,
            "input_token_details": {"text_tokens": 0, "audio_tokens": into},
            "output_tokens": out,
        }

    def _transcribed(self, item_id: str, ref_words: int | None, word_errors: int | None) -> None:
        self._transcripts[item_id] = (ref_words, word_errors)
        line = self._waiting_lines.pop(item_id, None)
        if line is not None:
            line.transcribed(ref_words, word_errors)

    # ---- items ----

    def _create_item(self, frame: ClientFrame) -> None:
        body = frame.body["item"]
        self._admission.serving.item(body, "item")
        if body["type"] == "function_call_output" and not self._conversation.has_call(body["call_id"]):
            raise Refusal(
                "invalid_tool_call_id",
                f"No function was called under the id '{body['call_id']}' in this conversation.",
                "item.call_id",
            )
        stored, audio = self._stored(body)
        before = self._conversation.add(stored, frame.body.get("previous_item_id"))
        if audio is not None:
            self._hear_item(stored, audio)
        self._tell_item(stored, before)

    def _stored(self, body: dict[str, Any]) -> tuple[Stored, bytes | None]:
        """A client's item and, where it holds any, its audio."""
        stored = stored_from_wire(body, body.get("id") or self._id("item_"))
        if stored.kind != "audio" or not any(stored.audio):
            return stored, None
        try:
            audio = pybase64.b64decode(stored.audio[0], validate=True)
        except ValueError:
            raise Refusal(
                "invalid_value", "Invalid 'item.content[0].audio': expected valid base64.", "item.content[0].audio"
            ) from None
        stored.audio_ms = 1000 * self._effective.input_format.seconds(len(audio))
        return stored, audio

    def _hear_item(self, stored: Stored, audio: bytes) -> None:
        stored.audio = []
        self._keep(stored, audio)
        utterance = Utterance(audio, self._effective.input_format, 0.0, ((len(audio), self._now_ns),))
        self._utterances[stored.id] = replace(utterance, audio=b"")
        self._outlet.hear(stored.id, utterance)

    def _delete_item(self, frame: ClientFrame) -> None:
        stored = self._conversation.find(frame.body["item_id"], "item_delete_invalid_item_id")
        del self._conversation.items[stored.id]
        self._outlet.tell(ev.ItemDeleted(item_id=stored.id))

    def _retrieve_item(self, frame: ClientFrame) -> None:
        stored = self._conversation.find(frame.body["item_id"], "item_retrieve_invalid_item_id")
        self._outlet.tell(ev.ItemRetrieved(item=stored.item_with_audio))

    def _truncate_item(self, frame: ClientFrame) -> None:
        body = frame.body
        stored = self._conversation.find(body["item_id"], "item_truncate_invalid_item_id")
        if stored.role != "assistant" or stored.kind != "audio" or body["content_index"] != 0 or not stored.audio_ms:
            raise Refusal("unsupported_content_type", "Only model output audio messages can be truncated")
        if body["audio_end_ms"] > stored.audio_ms + 1:
            raise Refusal(
                "invalid_value",
                f"Audio content of {stored.audio_ms:.0f}ms is already shorter than {body['audio_end_ms']}ms",
                "audio_end_ms",
            )
        stored.audio_ms = float(body["audio_end_ms"])
        stored.transcript = ""
        stored.audio = []
        self._outlet.tell(ev.ItemTruncated(item_id=stored.id, content_index=0, audio_end_ms=body["audio_end_ms"]))

    # ---- responses ----

    def _create_response(self, frame: ClientFrame) -> None:
        if not self._settings.kind.response:
            raise Refusal("invalid_value", "A transcription session has no responses.", "type")
        self._respond(frame.body.get("response") or {}, by_client=True)

    def _respond(self, response: dict[str, Any], *, by_client: bool = False) -> None:
        settings = self._settings.for_response(response)
        in_band = response.get("conversation") != "none"
        if in_band and self._active is not None:
            raise _busy(self._active.answer.id)
        if by_client and self._strike("create_refused") is not None:
            raise _busy(self._id("resp_"))
        context = self._context(response.get("input"))
        self._turns += 1
        faults = self._behaviour.turn_faults(self._number, self._turns)
        if not self._world.admit_response(self._now_ns):
            faults = (*faults, Fault(kind="rate_limited"))
        answer_id = self._id("resp_")
        source = next((item for item in reversed(context) if item.role == "user"), None)
        line = TruthLine(
            session_id=self.id, response_id=answer_id, t_request_ns=self._now_ns, hand_over=self._hand_over
        )
        self._lines.append(line)
        if source is not None:
            self._await_transcript(line, source)
        effective = settings.effective
        rates = self._behaviour.usage
        into = total(context, rates) + Tokens(
            text=text_tokens(effective.instructions)
            + sum(text_tokens(orjson.dumps(t).decode()) for t in effective.tools)
        )
        answer = Answer(
            id=answer_id,
            outlet=self._outlet,
            behaviour=self._behaviour,
            settings=effective,
            echo=settings.echo,
            conversation=self._conversation if in_band else None,
            metadata=response.get("metadata"),
            requested_ns=self._now_ns,
            input=into,
            cached=self._cached(into) if in_band else Tokens(),
            faults=faults,
            truth=line,
            new_id=self._id,
            limits=lambda: self._world.limits(self._now_ns),
            script=lambda: self._script(line, context, source, effective),
        )
        running = _Running(answer, source)
        running.process = self._answering(running)
        self._running[answer_id] = running
        if in_band:
            self._active = running
        # At once, so that what follows in this frame's wake comes after response.created.
        self._step(running.process)

    def _hand_over(self, line: TruthLine) -> None:
        if line in self._lines:
            self._lines.remove(line)
        self._world.truth(line)

    def _await_transcript(self, line: TruthLine, source: Stored) -> None:
        if source.id in self._transcripts:
            line.await_transcript()
            line.transcribed(*self._transcripts[source.id])
        elif source.id in self._utterances and self._effective.transcription is not None:
            line.await_transcript()
            self._waiting_lines[source.id] = line

    def _cached(self, into: Tokens) -> Tokens:
        share = self._behaviour.usage.cached_share
        return Tokens(
            text=int(min(self._previous.text, into.text) * share) // CACHE_LUMP * CACHE_LUMP,
            audio=int(min(self._previous.audio, into.audio) * share) // CACHE_LUMP * CACHE_LUMP,
        )

    def _context(self, given: list[Any] | None) -> list[Stored]:
        """The items that a response sees: those that the client named, or else the conversation."""
        if given is None:
            return list(self._conversation.items.values())
        context = []
        for index, body in enumerate(given):
            if body.get("type") == "item_reference":
                context.append(self._conversation.find(str(body.get("id")), "item_reference_invalid_item_id"))
                continue
            self._admission.serving.item(body, f"response.input[{index}]")
            stored, audio = self._stored(body)
            if audio is not None:
                self._hear_item(stored, audio)
            context.append(stored)
        return context

    def _answering(self, running: _Running) -> _Process:
        yield from running.answer.run()
        if running.answer.finished:
            self._ended(running)

    def _cancel(self, running: _Running, reason: str) -> None:
        running.process.close()
        running.answer.finish("cancelled", reason=reason)
        self._ended(running)

    def _ended(self, running: _Running) -> None:
        answer = running.answer
        self._running.pop(answer.id, None)
        self._world.spend(self._now_ns, answer.tokens)
        if running is not self._active:
            return
        self._active = None
        self._previous = answer.input
        if running.source is not None:
            self._answered[running.source.id] = self._now_ns
            self._wake()
        queued, self._queued = self._queued, None
        if queued is not None:
            queued()

    def _cancel_response(self, frame: ClientFrame) -> None:
        response_id = frame.body.get("response_id")
        running = self._active if response_id is None else self._running.get(response_id)
        if running is None:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        self._cancel(running, "client_cancelled")

    # ---- what to say ----

    def _script(
        self, line: TruthLine, context: list[Stored], source: Stored | None, settings: Effective
    ) -> Iterator[Script | None]:
        heard = None
        item = None
        prompt = None
        if source is not None and source.id in self._utterances:
            while source.id not in self._heard:
                yield None
            heard = self._heard[source.id]
            item = heard.item
            if heard.voice_end_ms is not None:
                line.t_voice_end_ns = self._utterances[source.id].arrival_ns(heard.voice_end_ms)
        elif source is not None:
            prompt = source.text
            item = self._world.prompt_item(prompt)
        line.item = None if item is None else item.id
        key = item.id if item is not None else f"{self._number}/{self._turns}"
        rng = self._behaviour.rng("answer", key, self._world.occurrence(f"answer {key}"))
        ttfa_ms = self._behaviour.ttfa_ms.sample_ms(rng)
        expected = item.expect if item is not None else None
        call = None
        if not context or context[-1].type != "function_call_output":
            call = choose_call(settings.tools, settings.tool_choice, (expected or {}).get("tool_call"))
        yield Script(
            text=answer_for(item, heard.transcript if heard is not None and item is not None else None, prompt, rng),
            call=call,
            ttfa_ms=ttfa_ms,
            pause_ms=lambda audio_ms: self._behaviour.delta_pause_ms(audio_ms, rng),
        )


def _busy(response_id: str) -> Refusal:
    return Refusal(
        "conversation_already_has_active_response",
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
    )


def _sniffed_event_id(data: bytes | bytearray) -> str | None:
    """The event id of an append that was not parsed."""
    event_id = orjson.loads(data).get("event_id")
    return event_id if isinstance(event_id, str) else None


_REQUESTS: dict[str, Callable[[Session, ClientFrame], None]] = {
    "session.update": Session._update,
    "transcription_session.update": Session._update_transcription,
    "input_audio_buffer.append": Session._append_frame,
    "input_audio_buffer.commit": Session._commit_frame,
    "input_audio_buffer.clear": Session._clear,
    "conversation.item.create": Session._create_item,
    "conversation.item.truncate": Session._truncate_item,
    "conversation.item.delete": Session._delete_item,
    "conversation.item.retrieve": Session._retrieve_item,
    "response.create": Session._create_response,
    "response.cancel": Session._cancel_response,
}
