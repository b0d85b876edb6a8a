"""One user turn and the answer to it, as a state machine without I/O or clock.

A turn goes through its phases in one direction::

    SPEAKING ──all speech sent──▶ WAITING ──response──▶ ANSWERING ──its end──▶ ANSWERED ──transcripts──▶ SETTLED

``ANSWERED`` is the end that a caller notices; ``SETTLED`` the moment when the row is complete. What arrives goes
through ``feed``, which looks the event's class up in a table of handlers: a new behaviour (barge-in, tool results) is a
new entry. What is not in the table does not move the turn. A server that does what it should not becomes a word in
``oddities``, never an exception; calling the methods in a wrong order is our own mistake and raises.

All times are nanoseconds of the caller's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, ClassVar

from ..records import DeltaKind, Deltas, Outcome, Stage, TranscriptOutcome, TurnRecord, Usage
from . import events as ev

__all__ = ["Mode", "Phase", "Turn", "TurnSpec"]


class Mode(StrEnum):
    """How the user's side is given and who ends it."""

    TEXT = "text"
    MANUAL = "manual"
    VAD = "vad"


class Phase(IntEnum):
    """Where a turn stands; it only ever rises."""

    SPEAKING = 0
    WAITING = 1
    ANSWERING = 2
    ANSWERED = 3
    SETTLED = 4


# Python 3.11 runs code of its own to look up a member of an enumeration; these are looked up with every event.
_ANSWERED, _SETTLED, _AUDIO = Phase.ANSWERED, Phase.SETTLED, DeltaKind.AUDIO


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSpec:
    """What a turn is to do.

    Attributes:
        text: the prompt of a ``TEXT`` turn; without one the model is asked to speak though nobody said anything.
        instructions: for the answer to a ``TEXT`` turn only, in place of the session's.
        wants_audio: whether an answer without audio lacks something.
        transcription: whether the session transcribes the user's audio.
        auto_response: whether server VAD answers by itself (``create_response``).
        output_bytes_per_s: bytes of a second of answer audio.
        response_timeout_ns: longest silence of the server while an answer is due.
        transcription_timeout_ns: longest wait for transcripts after the answer.
        early_grace_ns: how long after the end of speech a turn stays open when the server ended it before that.
    """

    mode: Mode
    text: str | None = None
    instructions: str | None = None
    wants_audio: bool = True
    transcription: bool = False
    auto_response: bool = True
    output_bytes_per_s: int = 48_000
    response_timeout_ns: int = 30_000_000_000
    transcription_timeout_ns: int = 10_000_000_000
    early_grace_ns: int = 1_500_000_000


@dataclass(slots=True)
class _Segment:
    """One stretch of speech that the server made (or will make) a user item."""

    item_id: str | None
    stopped_ns: int | None = None
    committed_ns: int | None = None
    answer: _Answer | None = None


@dataclass(slots=True)
class _Answer:
    """One response as it arrives."""

    id: str | None
    created_ns: int | None = None
    first_text_ns: int | None = None
    first_audio_ns: int | None = None
    last_audio_ns: int | None = None
    done_ns: int | None = None
    final: ev.Response | None = None
    texts: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    transcripts: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    deltas: Deltas = field(default_factory=Deltas)


# Errors that doom the answer we wait for, also when the server does not say which request they answer.
_FATAL_WHILE_WAITING = frozenset(
    {
        "conversation_already_has_active_response",
        "input_audio_buffer_commit_empty",
        "rate_limit_exceeded",
        "insufficient_quota",
    }
)

THROTTLE_CODES = frozenset({"rate_limit_exceeded", "http_429"})


class Turn:
    """The state machine of one turn.

    Call ``begin_text`` or ``begin_speech`` once, ``speech_sent`` when the last voiced frame of audio was written,
    ``feed`` for every event meant for it, ``tick`` when ``deadline_ns`` passed, and ``write_to`` at the end. Methods
    that return events want them sent at once.
    """

    def __init__(self, spec: TurnSpec, new_event_id: Callable[[], str]) -> None:
        self.spec = spec
        self.phase = Phase.SPEAKING
        self.oddities: list[str] = []
        self.unknown_events = 0
        self.outcome: Outcome | None = None
        self.failure_stage: Stage | None = None
        self.error_code: str | None = None
        self.error_message: str | None = None
        self.speech_end_ns: int | None = None
        self.create_ns: int | None = None
        self.answered_ns: int | None = None
        self._new_event_id = new_event_id
        self._begun = False
        self._own_event_ids: set[str] = set()
        self._segments: list[_Segment] = []
        self._answers: list[_Answer] = []
        self._transcripts: dict[str | None, tuple[int, str | None, str | None]] = {}
        self._create_pending = False
        self._progress_ns: int | None = None
        self._last_error: ev.ErrorReported | None = None
        self._closed = False

    # ---- what the driver tells ----

    def begin_text(self, at_ns: int) -> list[ev.ClientEvent]:
        """Ask with a text prompt; ``at_ns`` is the moment just before the requests are written."""
        self._begin(Mode.TEXT)
        self.speech_end_ns = self._progress_ns = at_ns
        self._rise(Phase.WAITING)
        if self.spec.text is None:  # the model speaks first
            return [self._create(at_ns)]
        message = ev.Item(id=None, role="user", content=(ev.Part(type="input_text", text=self.spec.text),))
        return [ev.CreateItem(item=message, event_id=self._own_id()), self._create(at_ns)]

    def begin_speech(self) -> None:
        """The first frame of audio is about to be paced."""
        if self.spec.mode is Mode.TEXT:
            raise RuntimeError("begin_speech() on a text turn")
        self._begin(self.spec.mode)

    def speech_sent(self, at_ns: int, speech_end_ns: int) -> list[ev.ClientEvent]:
        """All speech was written at ``at_ns``; its last voiced sample counts as heard at ``speech_end_ns``.

        Returns what has to be sent now: commit and ``response.create`` of a manual turn.
        """
        if not self._begun or self.speech_end_ns is not None or self.spec.mode is Mode.TEXT:
            raise RuntimeError(f"speech_sent() in {self.phase.name}")
        self.speech_end_ns = speech_end_ns
        self._progress_ns = at_ns
        if self.phase >= Phase.ANSWERED:  # it failed while the user was still speaking
            return []
        self._rise(Phase.WAITING)
        if self.spec.mode is Mode.MANUAL:
            return [ev.CommitAudio(event_id=self._own_id()), self._create(at_ns)]
        commands = self._create_if_asked_to(at_ns)
        self._end_if_answered(at_ns)
        return commands

    def feed(self, at_ns: int, event: ev.ServerEvent) -> list[ev.ClientEvent]:
        """An event meant for this turn arrived at ``at_ns``. Returns what has to be sent now."""
        if not self._begun or self.phase is _SETTLED:
            return []
        handler = self._HANDLERS.get(type(event))
        if handler is None:
            return []
        commands: list[ev.ClientEvent] = handler(self, at_ns, event) or []
        self._end_if_answered(at_ns)
        self._settle_if_complete()
        return commands

    def feed_audio(self, at_ns: int, event: ev.AudioDelta) -> bool:
        """Take one more piece of an answer that is already speaking; ``False``: nothing was done, ``feed`` it.

        It does what ``feed`` would do, for the one event of which there are more than of all others together.
        """
        answer = self._answers[-1] if self._answers else None
        if (
            answer is None
            or answer.first_audio_ns is None
            or answer.id is None
            or answer.id != event.response_id
            or answer.created_ns is None
            or answer.done_ns is not None
            or self.phase >= _ANSWERED
            or event.size_bytes == 0
        ):
            return False
        self._progress_ns = answer.last_audio_ns = at_ns
        answer.deltas.add(_AUDIO, at_ns, size_bytes=event.size_bytes)
        return True

    def tick(self, at_ns: int) -> None:
        """Time passed; call it when ``deadline_ns`` is reached (earlier does no harm)."""
        self._end_if_answered(at_ns)
        deadline = self.deadline_ns
        if deadline is None or at_ns < deadline:
            return
        if self.phase is Phase.ANSWERED:
            self._rise(Phase.SETTLED)
            return
        stage, code = self._what_is_late()
        self._fail(at_ns, Outcome.TIMEOUT, stage, code)

    def blocked(self, at_ns: int) -> None:
        """The target has taken nothing off the wire for as long as an answer may take."""
        if not self.answered:
            self._fail(at_ns, Outcome.TIMEOUT, Stage.SPEAK, "send_blocked")

    def lost(self, at_ns: int, code: str, message: str | None = None) -> None:
        """The connection ended without our asking."""
        if self._last_error is not None and self._last_error.code == "session_expired":
            code = "session_expired"
        self._abandon(at_ns, Outcome.DROPPED, code, message)

    def cut(self, at_ns: int) -> None:
        """The tool stops the turn."""
        self._abandon(at_ns, Outcome.CUT, None, None)

    @property
    def deadline_ns(self) -> int | None:
        """When ``tick`` must be called at the latest; ``None`` when nothing is due (while speaking, once settled)."""
        if self.phase is Phase.SETTLED:
            return None
        if self.answered_ns is not None:
            return self.answered_ns + self.spec.transcription_timeout_ns
        if self.speech_end_ns is None or self._progress_ns is None:
            return None
        if self._ended_early and self._all_answered:
            return self.speech_end_ns + self.spec.early_grace_ns
        return self._progress_ns + self.spec.response_timeout_ns

    @property
    def answered(self) -> bool:
        """Whether the caller may go on: the answer ended, one way or the other."""
        return self.phase >= _ANSWERED

    @property
    def awaits_answer(self) -> bool:
        """Whether a response that begins now can be the answer: ours to ask for, or the detecting server's at will."""
        return not self.answered and (self.spec.mode is Mode.VAD or self.create_ns is not None)

    @property
    def settled(self) -> bool:
        """Whether the row is complete."""
        return self.phase is _SETTLED

    @property
    def broke_session(self) -> bool:
        """Whether the session cannot be trusted with another turn (an answer may still be under way)."""
        still_answering = self.error_code == "conversation_already_has_active_response"
        return self.outcome in (Outcome.TIMEOUT, Outcome.DROPPED, Outcome.CUT) or still_answering

    @property
    def deltas(self) -> Deltas:
        """The deltas of the answer that counts."""
        answer = self._answer
        return answer.deltas if answer is not None else Deltas()

    @property
    def response_ids(self) -> set[str]:
        """Ids of the responses that belong to this turn."""
        return {answer.id for answer in self._answers if answer.id is not None}

    def owns_response(self, response_id: str | None) -> bool:
        """Whether a response belongs to this turn."""
        return response_id is not None and any(answer.id == response_id for answer in self._answers)

    def owns_item(self, item_id: str | None) -> bool:
        """Whether a user item belongs to this turn."""
        return item_id is not None and any(segment.item_id == item_id for segment in self._segments)

    def owns_request(self, event_id: str | None) -> bool:
        """Whether one of our own requests was made by this turn."""
        return event_id in self._own_event_ids

    # ---- phases ----

    def _begin(self, mode: Mode) -> None:
        if self._begun or self.spec.mode is not mode:
            raise RuntimeError(f"a {self.spec.mode} turn cannot begin here")
        self._begun = True

    def _rise(self, phase: Phase) -> None:
        if phase > self.phase:
            self.phase = phase

    def _own_id(self) -> str:
        event_id = self._new_event_id()
        self._own_event_ids.add(event_id)
        return event_id

    def _create(self, at_ns: int) -> ev.CreateResponse:
        self.create_ns = at_ns
        self._create_pending = True
        instructions = self.spec.instructions
        response = {"instructions": instructions} if instructions is not None else None
        return ev.CreateResponse(response=response, event_id=self._own_id())

    def _create_if_asked_to(self, at_ns: int) -> list[ev.ClientEvent]:
        """With detection that does not answer by itself, ask once all speech is sent and committed.

        Speech that was committed after we asked wants an answer of its own, once the response under way is done: the
        services refuse a second one beside it.
        """
        asked = self.spec.mode is Mode.VAD and not self.spec.auto_response
        if not asked or self._create_pending or self.speech_end_ns is None or self.answered:
            return []
        segment = self._segment
        if segment is None or segment.answer is not None:
            return []
        if any(segment.committed_ns is None for segment in self._segments):
            return []
        if any(answer.done_ns is None for answer in self._answers):
            return []
        return [self._create(at_ns)]

    @property
    def _segment(self) -> _Segment | None:
        return self._segments[-1] if self._segments else None

    @property
    def _answer(self) -> _Answer | None:
        """The response that counts: the last one, which is the last user item's as soon as that has one."""
        return self._answers[-1] if self._answers else None

    @property
    def _all_answered(self) -> bool:
        """Whether nothing is under way: every segment committed, and the answer that counts done."""
        if any(segment.committed_ns is None for segment in self._segments):
            return False
        if self.spec.mode is Mode.VAD:
            segment = self._segment
            return segment is not None and segment.answer is not None and segment.answer.done_ns is not None
        return bool(self._answers) and self._answers[-1].done_ns is not None

    @property
    def _ended_early(self) -> bool:
        """Whether the server ended the turn while the user was still speaking, so that more of it may follow."""
        segment = self._segment
        if self.spec.mode is not Mode.VAD or segment is None or self.speech_end_ns is None:
            return False
        ended_ns = segment.stopped_ns if segment.stopped_ns is not None else segment.committed_ns
        return ended_ns is not None and ended_ns < self.speech_end_ns

    def _end_if_answered(self, at_ns: int) -> None:
        answer = self._answer
        if self.answered or self.speech_end_ns is None or answer is None or answer.final is None:
            return
        if not self._all_answered:
            return
        if self._ended_early and at_ns < self.speech_end_ns + self.spec.early_grace_ns:
            return
        self._judge(answer, answer.final)
        self._enter_answered(answer.done_ns or at_ns)

    def _enter_answered(self, at_ns: int) -> None:
        self.answered_ns = at_ns
        self._rise(Phase.ANSWERED)
        if not self.spec.transcription or self.spec.mode is Mode.TEXT or self._closed:
            self._rise(Phase.SETTLED)
        self._settle_if_complete()

    def _settle_if_complete(self) -> None:
        if self.phase is not _ANSWERED:
            return
        items = [segment.item_id for segment in self._segments if segment.committed_ns is not None]
        if items and all(item_id in self._transcripts for item_id in items):
            self._rise(Phase.SETTLED)
        elif not items and self.outcome is not Outcome.OK:
            self._rise(Phase.SETTLED)  # nothing was ever committed: nothing will be transcribed

    def _fail(self, at_ns: int, outcome: Outcome, stage: Stage, code: str | None, message: str | None = None) -> None:
        self.outcome = outcome
        self.failure_stage = stage
        self.error_code = code
        self.error_message = message
        self._enter_answered(at_ns)

    def _abandon(self, at_ns: int, outcome: Outcome, code: str | None, message: str | None) -> None:
        self._closed = True
        if not self.answered:
            stage = Stage.SPEAK if self.phase is Phase.SPEAKING else Stage.RESPOND
            if self._last_error is not None and message is None:
                message = self._last_error.message
            self._fail(at_ns, outcome, stage, code, message)
        self._rise(Phase.SETTLED)

    def _what_is_late(self) -> tuple[Stage, str]:
        if self._last_error is not None and self._last_error.code:
            return Stage.RESPOND, self._last_error.code
        if self._answers:
            return Stage.RESPOND, "response_stalled"
        segment = self._segment
        if self.spec.mode is Mode.VAD:
            if segment is None:
                return Stage.SPEAK, "speech_not_detected"
            if segment.committed_ns is None:
                return Stage.SPEAK, "turn_end_not_detected"
        return Stage.RESPOND, "no_response"

    def _judge(self, answer: _Answer, final: ev.Response) -> None:
        """Turn the end of the response that counts into an outcome."""
        match final.status:
            case "completed":
                self.outcome = Outcome.OK if self._has_output(answer, final) else Outcome.EMPTY
            case "incomplete":
                self.outcome, self.error_code = Outcome.INCOMPLETE, final.reason or "incomplete"
            case "cancelled":
                self.outcome, self.error_code = Outcome.FAILED, final.reason or "cancelled"
            case "failed":
                self.outcome = Outcome.FAILED
                self.error_code = final.error_code or final.error_type or "response_failed"
                self.error_message = final.error_message
            case _:
                self.outcome, self.error_code = Outcome.FAILED, "unknown_status"
                self._odd(f"status:{final.status[:40]}")
        if self.outcome is Outcome.EMPTY:
            self.error_code = "empty_response"
        if self.outcome is not Outcome.OK:
            self.failure_stage = Stage.RESPOND

    @staticmethod
    def _has_output(answer: _Answer, final: ev.Response) -> bool:
        if answer.first_audio_ns is not None or answer.first_text_ns is not None or answer.calls:
            return True
        return any(
            item.type == "function_call" or any(part.text or part.transcript for part in item.content)
            for item in final.output
        )

    def _odd(self, word: str) -> None:
        if word not in self.oddities:
            self.oddities.append(word)

    # ---- what the server tells ----

    def _on_speech_started(self, at_ns: int, event: ev.SpeechStarted) -> None:
        if self.spec.mode is not Mode.VAD:
            self._odd("speech_started_without_vad")
            return
        if self.answered:
            return
        self._progress_ns = at_ns
        if self._find_segment(event.item_id) is None:
            self._segments.append(_Segment(event.item_id))

    def _on_speech_stopped(self, at_ns: int, event: ev.SpeechStopped) -> None:
        if self.spec.mode is not Mode.VAD or self.answered:
            return
        self._progress_ns = at_ns
        segment = self._find_segment(event.item_id) or self._open_segment()
        if segment is None:
            segment = _Segment(event.item_id)
            self._segments.append(segment)
        segment.stopped_ns = segment.stopped_ns or at_ns

    def _on_committed(self, at_ns: int, event: ev.AudioCommitted) -> list[ev.ClientEvent]:
        if self.spec.mode is Mode.TEXT:
            self._odd("committed_without_audio")
            return []
        if self.answered:
            return []
        self._progress_ns = at_ns
        segment = self._find_segment(event.item_id) or self._open_segment()
        if segment is None:
            segment = _Segment(event.item_id)
            self._segments.append(segment)
        if segment.committed_ns is None:
            segment.committed_ns = at_ns
            segment.item_id = segment.item_id or event.item_id
        return self._create_if_asked_to(at_ns)

    def _on_item_added(self, at_ns: int, event: ev.ItemAdded) -> None:
        if event.item.role != "user" or self._segments:
            return
        # The item may be told of before its commit is.
        is_speech = any(part.type == "input_audio" for part in event.item.content)
        if self.spec.mode is Mode.TEXT or (self.spec.mode is Mode.MANUAL and is_speech):
            self._segments.append(_Segment(event.item.id, committed_ns=at_ns))

    def _find_segment(self, item_id: str | None) -> _Segment | None:
        if item_id is None:
            return self._segment
        return next((segment for segment in self._segments if segment.item_id == item_id), None)

    def _open_segment(self) -> _Segment | None:
        """The last segment, while the server has not named its item or not committed it."""
        segment = self._segment
        return segment if segment is not None and segment.item_id is None and segment.committed_ns is None else None

    def _on_response_created(self, at_ns: int, event: ev.ResponseCreated) -> None:
        if self.answered:
            return
        answer = self._answer_of(event.response.id or None, at_ns)
        answer.created_ns = answer.created_ns or at_ns

    def _answer_of(self, response_id: str | None, at_ns: int) -> _Answer:
        """The response that an event belongs to; a new one is the answer to the last committed item."""
        self._progress_ns = at_ns
        if response_id is None and self._answers:
            return self._answers[-1]
        for answer in self._answers:
            if answer.id == response_id:
                return answer
            if answer.id is None:
                answer.id = response_id
                return answer
        answer = _Answer(response_id)
        self._answers.append(answer)
        self._create_pending = False
        committed = [segment for segment in self._segments if segment.committed_ns is not None]
        if committed:
            committed[-1].answer = answer
        if self.speech_end_ns is not None:
            self._rise(Phase.ANSWERING)
        return answer

    def _live_answer(self, response_id: str | None, at_ns: int) -> _Answer | None:
        """The response that a delta belongs to, or ``None`` when it must not count any more."""
        if self.answered:
            return None
        answer = self._answer_of(response_id, at_ns)
        if answer.done_ns is not None:
            self._odd("delta_after_done")
            return None
        if answer.created_ns is None:
            self._odd("delta_without_created")
        return answer

    def _on_audio(self, at_ns: int, event: ev.AudioDelta) -> None:
        answer = self._live_answer(event.response_id, at_ns)
        if answer is None or event.size_bytes == 0:
            return
        if answer.first_audio_ns is None:
            answer.first_audio_ns = at_ns
        answer.last_audio_ns = at_ns
        answer.deltas.add(DeltaKind.AUDIO, at_ns, size_bytes=event.size_bytes)

    def _on_text(self, at_ns: int, event: ev.TextDelta) -> None:
        answer = self._live_answer(event.response_id, at_ns)
        if answer is not None and event.delta:
            self._add_words(answer, answer.texts, DeltaKind.TEXT, at_ns, event)

    def _on_transcript(self, at_ns: int, event: ev.TranscriptDelta) -> None:
        answer = self._live_answer(event.response_id, at_ns)
        if answer is not None and event.delta:
            self._add_words(answer, answer.transcripts, DeltaKind.TRANSCRIPT, at_ns, event)

    @staticmethod
    def _add_words(
        answer: _Answer,
        parts: dict[tuple[int, int], list[str]],
        kind: DeltaKind,
        at_ns: int,
        event: ev.TextDelta | ev.TranscriptDelta,
    ) -> None:
        if answer.first_text_ns is None:
            answer.first_text_ns = at_ns
        parts.setdefault((event.output_index, event.content_index), []).append(event.delta)
        answer.deltas.add(kind, at_ns, chars=len(event.delta))

    def _on_text_done(self, at_ns: int, event: ev.TextDone) -> None:
        self._whole_words(at_ns, event.response_id, event.text, (event.output_index, event.content_index), "text")

    def _on_transcript_done(self, at_ns: int, event: ev.TranscriptDone) -> None:
        where = (event.output_index, event.content_index)
        self._whole_words(at_ns, event.response_id, event.transcript, where, "transcript")

    def _whole_words(self, at_ns: int, response_id: str | None, words: str, where: tuple[int, int], kind: str) -> None:
        """A part is complete: what it says as a whole wins over the deltas, and a difference is noted."""
        answer = self._live_answer(response_id, at_ns)
        if answer is None or not words:
            return
        parts = answer.texts if kind == "text" else answer.transcripts
        if "".join(parts.get(where, [])) not in ("", words):
            self._odd(f"{kind}_differs_from_deltas")
        if answer.first_text_ns is None:
            answer.first_text_ns = at_ns
        parts[where] = [words]

    def _on_output_item(self, at_ns: int, event: ev.OutputItemAdded | ev.OutputItemDone) -> None:
        answer = self._live_answer(event.response_id, at_ns)
        if answer is not None and event.item.type == "function_call":
            self._note_call(answer, event.item.call_id, event.item.name, event.item.arguments)

    def _on_arguments_done(self, at_ns: int, event: ev.FunctionArgumentsDone) -> None:
        answer = self._live_answer(event.response_id, at_ns)
        if answer is not None:
            self._note_call(answer, event.call_id, event.name, event.arguments)

    @staticmethod
    def _note_call(answer: _Answer, call_id: str | None, name: str | None, arguments: str | None) -> None:
        call = answer.calls.setdefault(call_id or "", {"name": None, "call_id": call_id, "arguments": None})
        call["name"] = name or call["name"]
        call["arguments"] = arguments or call["arguments"]

    def _on_progress(self, at_ns: int, event: Any) -> None:
        """Something of the answer moved; it only keeps the turn from timing out."""
        self._live_answer(event.response_id, at_ns)

    def _on_response_done(self, at_ns: int, event: ev.ResponseDone) -> list[ev.ClientEvent]:
        if self.answered:
            return []
        answer = self._answer_of(event.response.id or None, at_ns)
        if answer.done_ns is not None:
            self._odd("done_twice")
            return []
        answer.done_ns = at_ns
        answer.final = event.response
        return self._create_if_asked_to(at_ns)

    def _on_transcript_completed(self, at_ns: int, event: ev.InputTranscriptCompleted) -> None:
        self._transcribed(event.item_id, (at_ns, event.transcript, None))

    def _on_transcript_failed(self, at_ns: int, event: ev.InputTranscriptFailed) -> None:
        self._transcribed(event.item_id, (at_ns, None, event.code or event.type or "transcription_failed"))

    def _transcribed(self, item_id: str | None, result: tuple[int, str | None, str | None]) -> None:
        if item_id is None and self._segment is not None:
            item_id = self._segment.item_id
        if item_id in self._transcripts:
            self._odd("transcribed_twice")
            return
        self._transcripts[item_id] = result

    def _on_error(self, at_ns: int, event: ev.ErrorReported) -> None:
        self._last_error = event
        if self.answered:
            return
        ours = self.owns_request(event.client_event_id)
        code = event.code or event.type or "error"
        # Early servers refused a second response without a code.
        if event.code is None and "active response" in event.message and "no active" not in event.message.lower():
            code = "conversation_already_has_active_response"
        waiting = self.phase is Phase.WAITING and self.spec.mode is not Mode.VAD
        doomed = code in _FATAL_WHILE_WAITING and (waiting or code in THROTTLE_CODES)
        if ours or doomed:
            stage = Stage.SPEAK if code == "input_audio_buffer_commit_empty" else Stage.RESPOND
            self._fail(at_ns, Outcome.FAILED, stage, code, event.message or None)
        else:
            self._odd(f"error:{code}"[:60])

    _HANDLERS: ClassVar[dict[type[Any], Callable[[Turn, int, Any], list[ev.ClientEvent] | None]]] = {
        ev.SpeechStarted: _on_speech_started,
        ev.SpeechStopped: _on_speech_stopped,
        ev.AudioCommitted: _on_committed,
        ev.ItemAdded: _on_item_added,
        ev.ResponseCreated: _on_response_created,
        ev.ResponseDone: _on_response_done,
        ev.OutputItemAdded: _on_output_item,
        ev.OutputItemDone: _on_output_item,
        ev.ContentPartAdded: _on_progress,
        ev.ContentPartDone: _on_progress,
        ev.TextDelta: _on_text,
        ev.TextDone: _on_text_done,
        ev.TranscriptDelta: _on_transcript,
        ev.TranscriptDone: _on_transcript_done,
        ev.AudioDelta: _on_audio,
        ev.FunctionArgumentsDelta: _on_progress,
        ev.FunctionArgumentsDone: _on_arguments_done,
        ev.InputTranscriptCompleted: _on_transcript_completed,
        ev.InputTranscriptFailed: _on_transcript_failed,
        ev.ErrorReported: _on_error,
    }

    # ---- the row ----

    def write_to(self, record: TurnRecord) -> None:
        """Fill in what the turn knows: outcome, anchors, texts, deltas and tokens of the answer that counts."""
        record.outcome = self.outcome or Outcome.CUT
        record.failure_stage = self.failure_stage
        record.error_code = self.error_code
        record.error_message = self.error_message
        record.unknown_events = self.unknown_events
        record.speech_end_ns = self.speech_end_ns
        record.create_ns = self.create_ns
        committed = [segment for segment in self._segments if segment.committed_ns is not None]
        segment = committed[-1] if committed else self._segment
        if segment is not None:
            record.item_id = segment.item_id
            if self.spec.mode is not Mode.TEXT:
                record.speech_stopped_ns = segment.stopped_ns
                record.committed_ns = segment.committed_ns
        record.early_endpoint = any(
            segment.stopped_ns is not None
            and self.speech_end_ns is not None
            and segment.stopped_ns < self.speech_end_ns
            for segment in self._segments
        )
        record.split_turn = len(self._segments) > 1 or len(self._answers) > 1
        self._write_transcripts(record)
        answer = self._answer
        if answer is not None:
            self._write_answer(record, answer)
        record.talk_over_ms = self._talk_over_ms()
        record.oddities = tuple(self.oddities)

    def _write_transcripts(self, record: TurnRecord) -> None:
        if not self.spec.transcription or self.spec.mode is Mode.TEXT:
            record.transcript_outcome = TranscriptOutcome.OFF
            return
        items = [segment.item_id for segment in self._segments if segment.committed_ns is not None]
        results = [self._transcripts.get(item_id) for item_id in items]
        texts = [result[1] for result in results if result is not None and result[1] is not None]
        errors = [result[2] for result in results if result is not None and result[2] is not None]
        if texts:
            record.input_transcript = " ".join(text.strip() for text in texts if text.strip())
        if errors:
            record.transcript_outcome, record.transcript_error = TranscriptOutcome.FAILED, errors[0]
        elif not results or None in results:
            record.transcript_outcome = TranscriptOutcome.MISSING
        else:
            record.transcript_outcome = TranscriptOutcome.OK
            last = results[-1]
            record.input_transcript_ns = last[0] if last is not None else None

    def _write_answer(self, record: TurnRecord, answer: _Answer) -> None:
        final = answer.final
        record.response_id = answer.id
        record.response_created_ns = answer.created_ns
        record.first_text_ns = answer.first_text_ns
        record.first_audio_ns = answer.first_audio_ns
        record.last_audio_ns = answer.last_audio_ns
        record.response_done_ns = answer.done_ns
        record.deltas = answer.deltas
        record.output_transcript = _joined(answer.transcripts)
        record.output_text = _joined(answer.texts)
        if final is not None:
            parts = [part for item in final.output if item.type == "message" for part in item.content]
            if record.output_transcript is None:
                record.output_transcript = " ".join(part.transcript for part in parts if part.transcript) or None
            if record.output_text is None:
                record.output_text = " ".join(part.text for part in parts if part.text) or None
            for item in final.output:
                if item.type == "function_call":
                    self._note_call(answer, item.call_id, item.name, item.arguments)
            record.usage = final.usage or Usage()
        record.tool_calls = tuple(answer.calls.values())
        said_something = record.output_text is not None or record.output_transcript is not None
        record.modality_missing = (
            record.outcome is Outcome.OK and self.spec.wants_audio and answer.first_audio_ns is None and said_something
        )

    def _talk_over_ms(self) -> float | None:
        heard = any(answer.first_audio_ns is not None for answer in self._answers)
        if self.speech_end_ns is None or self.spec.mode is Mode.TEXT or not heard:
            return None
        early = sum(
            size
            for answer in self._answers
            for arrival, size in zip(answer.deltas.arrival_ns, answer.deltas.size_bytes, strict=True)
            if arrival < self.speech_end_ns
        )
        return early / self.spec.output_bytes_per_s * 1000


def _joined(parts: dict[tuple[int, int], list[str]]) -> str | None:
    """The parts of an answer in their order, or ``None`` when there are none."""
    return " ".join("".join(parts[where]) for where in sorted(parts)) or None
