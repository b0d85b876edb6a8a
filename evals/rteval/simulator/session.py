"""One session as a state machine without I/O or clock: client frames and times in, effects for the driver out."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pybase64

from ..realtime import events as ev
from ..realtime.dialects.requests import ClientFrame, FrameRefused, read_client_frame, sniff_append
from ..realtime.dialects.serving import Serving
from ..realtime.dialects.shapes import Refusal
from .behaviour import find
from .conversation import Conversation, Stored
from .hearing import Hearing
from .intake import Intake, Utterance
from .items import Items
from .outlet import Close, Effect, Outlet, make_id
from .responder import Responder
from .scope import Process, Scope, Timers, TurnFaults
from .settings import KINDS, Detection, Kind, SessionSettings
from .vad import SpeechStarted, SpeechStopped, VoiceDetector
from .world import Recognised, World

__all__ = ["Admission", "Session"]

MAX_APPEND_BYTES = 15 * 1024 * 1024
MIN_COMMIT_MS = 100.0
# Audio before this is dropped while nobody speaks; the detector looks back over 150 ms beside the padding.
LOOK_BACK_MS = 500.0


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
        rng = rng or random.Random()
        self._admission = admission
        self._behaviour = world.behaviour
        self._faults = world.behaviour.session_faults(number)
        self._outlet = Outlet(admission.serving, rng)
        self._timers = Timers(now_ns)
        self.id = make_id("sess_", rng)
        self._scope = Scope(
            number=number,
            session_id=self.id,
            world=world,
            outlet=self._outlet,
            timers=self._timers,
            faults=TurnFaults(world.behaviour, number),
            conversation=Conversation(make_id("conv_", rng)),
            rng=rng,
        )
        self._settings = SessionSettings.new(
            KINDS[admission.serving.name, admission.kind],
            session_id=self.id,
            model=admission.model,
            expires_at=math.ceil(unix_s + self._behaviour.session_max_s),
        )
        self._effective = self._settings.effective
        self._hearing = Hearing(self._scope)
        self._items = Items(self._scope, self._hearing)
        self._responder = Responder(self._scope, self._hearing, self._answered)
        self._intake = Intake(self._effective.input_format)
        self._detector: VoiceDetector | None = None
        self._speech_item: str | None = None
        self._speech_start_ms = 0.0
        self._keep_ms = LOOK_BACK_MS
        self._idle_from_ms: float | None = None  # media time at which the last answer has been played
        self._detect()

    # ---- the driver's side ----

    @property
    def due_ns(self) -> int | None:
        """When ``advance`` must be called next, or ``None``."""
        return self._timers.due_ns

    def take(self) -> list[Effect]:
        """What is to be done now, in order; the driver does all of it."""
        effects = self._outlet.effects
        if effects:
            self._outlet.effects = []
        return effects

    def open(self) -> None:
        """Greet the client."""
        if find(self._faults, "session_created_missing"):
            self._outlet.muted = True
            return
        self._tell_session(created=True)
        if find(self._faults, "session_created_twice"):
            self._tell_session(created=True)
        early = find(self._faults, "session_expired")
        after_ms = early.delay_ms if early is not None else self._behaviour.session_max_s * 1000
        self._timers.start(self._expire(self._timers.after(after_ms)))

    def receive(self, data: bytes | bytearray, now_ns: int) -> None:
        """Take a text frame that arrived at ``now_ns``."""
        self._timers.now_ns = now_ns
        audio = sniff_append(data)
        if audio is not None:
            try:
                return self._append(audio, now_ns)
            except Refusal:
                pass  # Read as a whole below, for what was skipped: whether it is JSON at all, and its event id.
        try:
            frame = read_client_frame(data, self._admission.serving.client_types)
        except FrameRefused as refused:
            return self._outlet.refuse(refused.refusal, refused.event_id)
        try:
            _REQUESTS[frame.type](self, frame)
        except Refusal as refusal:
            self._outlet.refuse(refusal, frame.event_id)
        self._timers.run()

    def receive_binary(self, now_ns: int) -> None:
        """Take a binary frame."""
        self._timers.now_ns = now_ns
        self._outlet.refuse(Refusal("invalid_event", "Binary frames are not events; send JSON in text frames."))

    def advance(self, now_ns: int) -> None:
        """Do what is due."""
        self._timers.now_ns = now_ns
        self._timers.run()

    def heard(self, item_id: str, heard: Recognised, now_ns: int) -> None:
        """Take the recognition of an utterance that the outlet asked for."""
        self._timers.now_ns = now_ns
        self._hearing.recognised(item_id, heard)
        self._timers.run()

    def close(self) -> None:
        """The connection is gone: nothing more will be said."""
        self._outlet.muted = True
        self._timers.clear()
        self._responder.close()

    # ---- the session itself ----

    def _tell_session(self, *, created: bool = False) -> None:
        prefix = self._settings.kind.event_prefix
        name = f"{prefix}.created" if created else f"{prefix}.updated"
        event = (ev.SessionCreated if created else ev.SessionUpdated)(session=self._settings.wire)
        self._outlet.tell(event, change=lambda frame: frame.update(type=name))

    def _expire(self, due_ns: int) -> Process:
        yield due_ns
        minutes = max(1, round(self._behaviour.session_max_s / 60))
        self._outlet.refuse(Refusal("session_expired", f"Your session hit the maximum duration of {minutes} minutes."))
        self._outlet.end(Close(1001, "session expired"))

    def _update(self, frame: ClientFrame) -> None:
        if find(self._faults, "session_updated_missing"):
            return
        refused = find(self._faults, "session_update_refused")
        if refused is not None:
            message = refused.message or "The session could not be updated."
            raise Refusal(refused.code or "invalid_value", message, "session")
        late = find(self._faults, "session_updated_late")
        if late is None:
            self._apply(frame.body["session"])
        else:
            self._timers.start(self._apply_late(frame, self._timers.after(late.delay_ms)))

    def _apply_late(self, frame: ClientFrame, due_ns: int) -> Process:
        yield due_ns
        try:
            self._apply(frame.body["session"])
        except Refusal as refusal:
            self._outlet.refuse(refusal, frame.event_id)

    def _apply(self, session: dict[str, Any]) -> None:
        before = self._effective
        settings = self._settings.updated(session)
        effective = settings.effective
        if effective.voice != before.voice and any(
            item.kind == "audio" and item.role == "assistant" for item in self._scope.conversation.items.values()
        ):
            raise Refusal("cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present.")
        self._settings, self._effective = settings, effective
        if self._effective.input_format != before.input_format:
            self._intake = Intake(self._effective.input_format, self._intake.media_ms)
        if (before.detection, before.input_format) != (self._effective.detection, self._effective.input_format):
            self._detect()
        self._tell_session()
        if find(self._faults, "session_updated_twice"):
            self._tell_session()

    def _close(self, frame: ClientFrame) -> None:
        self._outlet.end(Close(1000))

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
        self._detector = None
        if detection is None:
            return
        self._keep_ms = max(detection.prefix_padding_ms + LOOK_BACK_MS, detection.idle_timeout_ms or 0.0)
        if not self._behaviour.vad:
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
        self._append(frame.body["audio"].encode(), self._timers.now_ns)

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
            if self._effective.detection is not None:  # It was asked for, and this server is deaf.
                self._intake.keep_last(self._keep_ms)
            return
        events = detector.feed(audio)
        for event in events:
            if isinstance(event, SpeechStarted):
                self._speech_started(event)
            else:
                self._speech_stopped(event)
        if events:
            self._timers.run()
        elif not detector.speaking:
            if self._idle_from_ms is not None:
                self._time_out(self._idle_from_ms)
            self._intake.keep_last(self._keep_ms)

    def _speech_started(self, event: SpeechStarted) -> None:
        self._speech_item = self._scope.new_id("item_")
        self._speech_start_ms = event.audio_start_ms
        self._outlet.tell(ev.SpeechStarted(item_id=self._speech_item, audio_start_ms=event.audio_start_ms))
        if self._detection().interrupt_response:
            self._responder.interrupt()

    def _speech_stopped(self, event: SpeechStopped) -> None:
        item_id = self._speech_item or self._scope.new_id("item_")
        self._speech_item = None
        self._outlet.tell(ev.SpeechStopped(item_id=item_id, audio_end_ms=event.audio_end_ms))
        self._end_turn(item_id, self._intake.take(self._speech_start_ms, event.audio_end_ms))

    def _end_turn(self, item_id: str, utterance: Utterance) -> None:
        self._commit(item_id, utterance)
        if self._detection().create_response and self._settings.kind.response:
            self._responder.respond_to_speech(self._settings)

    def _answered(self, playing_ms: float) -> None:
        self._idle_from_ms = self._intake.media_ms + playing_ms

    def _time_out(self, start_ms: float) -> None:
        """Speak again when the caller has said nothing for long enough since ``start_ms``."""
        timeout_ms, end_ms = self._detection().idle_timeout_ms, self._intake.media_ms
        if timeout_ms is None or end_ms < start_ms + timeout_ms or self._responder.busy:
            return
        item_id = self._scope.new_id("item_")
        self._outlet.tell(ev.InputTimedOut(item_id=item_id, audio_start_ms=round(start_ms), audio_end_ms=round(end_ms)))
        self._end_turn(item_id, self._intake.take(start_ms))
        self._detect()
        self._timers.run()

    def _detection(self) -> Detection:
        return self._effective.detection or Detection()

    def _commit_frame(self, frame: ClientFrame) -> None:
        kept_ms = self._intake.kept_ms
        refused = self._scope.faults.strike("commit_refused")
        if kept_ms < MIN_COMMIT_MS or refused is not None:
            raise Refusal(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {kept_ms:.2f}ms of audio.",
            )
        if self._intake.kept_bytes % self._intake.fmt.sample_bytes:
            raise Refusal("invalid_value", "Error committing input audio buffer: it ends within a sample.")
        item_id = self._speech_item or self._scope.new_id("item_")
        self._commit(item_id, self._intake.take())
        if self._detector is not None:
            self._detect()

    def _commit(self, item_id: str, utterance: Utterance) -> None:
        self._idle_from_ms = None
        stored = Stored(id=item_id, role="user", kind="audio", audio_ms=utterance.duration_ms)
        self._items.keep(stored, utterance.audio)
        self._hearing.listen(stored, utterance)
        transcription = self._effective.transcription
        faults = self._scope.faults
        before = self._scope.conversation.add(stored)
        committed = ev.AudioCommitted(item_id=item_id, previous_item_id=before)
        swapped = faults.strike("committed_after_item") is not None
        untold = transcription is not None and faults.strike("transcription_before_item") is not None
        if not swapped:
            self._outlet.tell(committed)
        if not untold:
            self._outlet.tell_item(stored.item, before)
        if swapped:
            self._outlet.tell(committed)
        if transcription is not None:
            self._hearing.transcribe(stored, transcription, untold=(before,) if untold else None)

    def _clear(self, frame: ClientFrame) -> None:
        self._intake.clear()
        self._outlet.tell(ev.AudioCleared())
        if self._detector is not None:
            self._detect()

    # ---- items and responses ----

    def _create_item(self, frame: ClientFrame) -> None:
        body = frame.body
        self._items.create(body["item"], body.get("previous_item_id"), self._effective.input_format)

    def _delete_item(self, frame: ClientFrame) -> None:
        self._items.delete(frame.body["item_id"])

    def _retrieve_item(self, frame: ClientFrame) -> None:
        self._items.retrieve(frame.body["item_id"])

    def _truncate_item(self, frame: ClientFrame) -> None:
        self._items.truncate(frame.body["item_id"], frame.body["content_index"], frame.body["audio_end_ms"])

    def _create_response(self, frame: ClientFrame) -> None:
        if not self._settings.kind.response:
            raise Refusal("invalid_value", "A transcription session has no responses.", "type")
        response = frame.body.get("response") or {}
        settings = self._settings.for_response(response)
        in_band = response.get("conversation") != "none"
        if in_band:
            self._responder.check_free()
        context = self._items.context(response.get("input"), self._effective.input_format)
        self._responder.respond(settings, context, in_band=in_band, metadata=response.get("metadata"))

    def _cancel_response(self, frame: ClientFrame) -> None:
        self._responder.cancel(frame.body.get("response_id"))


_REQUESTS: dict[str, Callable[[Session, ClientFrame], None]] = {
    "session.update": Session._update,
    "transcription_session.update": Session._update_transcription,
    "session.close": Session._close,
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
