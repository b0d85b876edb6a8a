"""One session against the target: connects, holds its turns as a caller would, and leaves one row for each of them.

Whatever the target does becomes an outcome with a stage and a code; only our own bugs leave ``Session.run`` as errors.
Reading happens inside the connection's callback, writing in the session's task: both at the same time, without a queue.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from ..audio import LeadingSilence
from ..corpus import Item
from ..errors import ConnectionLost, HandshakeError, RefusedError
from ..plan import PlannedTurn
from ..playback import play
from ..realtime import events as ev
from ..realtime import pacing
from ..realtime.conversation import Conversation
from ..realtime.dialects import Dialect
from ..realtime.turn import Mode, Turn, TurnSpec
from ..records import DeltaKind, Outcome, SessionRecord, Stage, TranscriptOutcome, TurnRecord
from ..redact import redact
from .alarm import Alarm
from .auth import Credential
from .frames import FrameBank, Speech
from .refusal import explain_error_code, explain_refusal
from .transport import Endpoint, Transport

__all__ = ["Caller", "LagMeter", "RowFacts", "RowSink", "Session", "Switchboard", "TimeoutsS", "planned_row"]

_NS = 1_000_000_000
# Roll over this long before the server would end the session.
_EXPIRY_MARGIN_S = 30.0
# A server near its session limit has reported a plain server_error instead of session_expired (livekit/agents#2341).
_EXPIRY_SLACK_S = 5.0

_LOOKS_UP_S = 1.0
"""A session at rest sees within so long that the run ends, each at a moment of its own: hundreds that wake and close at
once would hold up those that still speak and are measured."""


class RowSink(Protocol):
    """Where rows go the moment they are complete."""

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        ...

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        ...


class LagMeter(Protocol):
    """Where each paced frame reports how late our own loop reached it."""

    def send_lag(self, lag_ns: int) -> None:
        """One frame was reached ``lag_ns`` after it was due."""
        ...


@dataclass(frozen=True, slots=True)
class TimeoutsS:
    """How long is waited for what, in seconds."""

    connect: float = 10.0
    session: float = 10.0
    response: float = 30.0
    transcription: float = 10.0
    close: float = 5.0


class RowFacts(Protocol):
    """What every row of a process has in common."""

    run_id: str
    worker: str
    variant: str | None
    dialect: Dialect
    settings: ev.SessionSettings


@dataclass(slots=True)
class Switchboard:
    """What all sessions of one process share, whichever variant of the scenario they hold.

    Attributes:
        alarm: wakes sessions when their next frame is due.
        stopping: set when no new turn may start; sessions finish the turn they are in.
        sessions_open: sessions open right now.
        sessions_peak: most sessions that were open at once.
        first_refusal: sentence and hint of the first session that never became ready.
    """

    alarm: Alarm = field(default_factory=Alarm)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    sessions_open: int = 0
    sessions_peak: int = 0
    first_refusal: tuple[str, str | None] | None = None

    def session_opened(self) -> None:
        """One more session is open."""
        self.sessions_open += 1
        self.sessions_peak = max(self.sessions_peak, self.sessions_open)

    def session_closed(self) -> None:
        """One less is."""
        self.sessions_open -= 1


@dataclass(slots=True, kw_only=True)
class Caller:
    """Everything that the sessions of one variant share in one process.

    Attributes:
        settings: what each session is asked to be.
        timed: whether a clock ends the run: then nobody asked for a turn that never began, and it leaves no row.
        detects_turns: whether the server ends the user's turns (VAD); else we commit.
        realtime: paced as a microphone would; else audio goes out as fast as the wire takes it (manual commit only).
        audio_kept: ``none``, ``failed`` or ``all``: for which turns the answer's audio is handed to ``keep_audio``.
        keep_audio: receives (record, base64 deltas in order) of such a turn.
        board: what they share with those of other variants.
    """

    run_id: str
    worker: str
    provider: str
    endpoint: Endpoint
    dialect: Dialect
    credential: Credential
    settings: ev.SessionSettings
    timeouts: TimeoutsS
    frames: FrameBank
    rows: RowSink
    lags: LagMeter
    frame_ms: int = 100
    timed: bool = False
    detects_turns: bool = True
    auto_response: bool = True
    realtime: bool = True
    wait_for_playback: bool = True
    think_time_s: float = 0.0
    max_session_s: float | None = None
    audio_kept: str = "none"
    keep_audio: Callable[[TurnRecord, Sequence[bytes | bytearray]], None] | None = None
    variant: str | None = None
    board: Switchboard = field(default_factory=Switchboard)

    def secrets(self) -> Collection[str]:
        """Exact values that must not appear in any row."""
        return self.credential.secrets()

    def clean(self, text: str | None) -> str | None:
        """A sentence of the target, fit for a row: no secrets, no essays."""
        return redact(text, self.secrets())[:500] if text else None


@dataclass(slots=True)
class _LiveTurn:
    """A turn under way with what only the driver knows of it."""

    machine: Turn
    record: TurnRecord
    silence: dict[str | None, LeadingSilence] = field(default_factory=dict)
    audio: dict[str | None, list[bytes | bytearray]] = field(default_factory=dict)
    sent_frames: int = 0
    lag_ns: int = 0
    blocked_ns: int = 0
    paced: bool = False


class Session:
    """One connection and the turns planned for it.

    Args:
        caller: what all sessions share.
        name: id of the session, unique in the run.
        turns: what it is to do, in order.
        due_ns: when the schedule wanted it to start.
    """

    def __init__(self, caller: Caller, name: str, turns: Sequence[PlannedTurn], due_ns: int) -> None:
        self._caller = caller
        self._turns = turns
        self._due_ns = due_ns
        self._conversation = Conversation(caller.dialect, caller.settings)
        self._transport: Transport | None = None
        self._live: list[_LiveTurn] = []
        self._rows = 0
        self._wake = asyncio.Event()
        self._lost_ns: int | None = None
        self._closing = False
        self._bug: Exception | None = None
        self._mic_ns: int | None = None
        self._unblocked_ns = 0
        self._expires_ns: int | None = None
        self._conversation_lost = False
        self.record = SessionRecord(
            run_id=caller.run_id,
            variant=caller.variant,
            worker=caller.worker,
            session=name,
            dialect=caller.dialect.name,
            turns=len(turns),
            outcome="cut",
            due_ns=due_ns,
        )

    async def run(self) -> Sequence[PlannedTurn]:
        """Hold the session. Returns the turns that another session has to take over (this one grew too old or broke).

        Every other planned turn has its row when this returns or raises.

        Raises:
            DatasetError: an item's audio changed since the run began and cannot be read.
            asyncio.CancelledError: the engine cut us; turns under way became ``cut`` rows.
        """
        self.record.started_ns = time.perf_counter_ns()
        self.record.started_at = _utc_now()
        leftover: Sequence[PlannedTurn] = ()
        try:
            if await self._get_ready():
                leftover = await self._hold_turns()
                await self._settle()
                await self._close()
            await self._let_go()
            self._check_bug()
        except BaseException as error:
            leftover = ()  # nobody takes anything over from a session that did not return
            if isinstance(error, asyncio.CancelledError):
                self._cut()
            raise
        finally:
            self._closing = True
            self._finish_rows(handed_over=len(leftover))
            if self._transport is not None:
                self._transport.release()
        return leftover

    # ---- opening ----

    async def _get_ready(self) -> bool:
        caller = self._caller
        if caller.board.stopping.is_set():
            return False
        try:
            async with asyncio.timeout(caller.timeouts.connect):
                headers = await caller.credential.headers()
                self.record.started_ns = time.perf_counter_ns()
                self._transport = await Transport.open(
                    caller.endpoint, headers, on_frame=self._on_frame, on_lost=self._on_lost
                )
        except TimeoutError:
            sentence = f"no WebSocket from {caller.endpoint.host} within target.timeouts.connect_s"
            self._not_ready("timeout", Stage.CONNECT, "connect_timeout", sentence, "check the address and the network")
            return False
        except RefusedError as error:
            self._not_ready("refused", Stage.CONNECT, "no_credential", str(error), error.hint)
            return False
        except HandshakeError as error:
            self._refused_handshake(error)
            return False
        caller.board.session_opened()
        self.record.connected_ns = self._transport.connected_ns
        self.record.request_id = self._transport.request_id
        deadline_ns = time.perf_counter_ns() + round(caller.timeouts.session * _NS)
        conversation = self._conversation
        await self._until(
            lambda: conversation.ready_ns is not None or conversation.refusal is not None or self._lost_ns is not None,
            deadline_ns,
        )
        if conversation.refusal is not None:
            await self._refused_session(conversation.refusal)
            return False
        if self._lost_ns is not None:
            code = f"close_{self._transport.close_code}"
            reason = self._transport.close_reason or "the target closed the connection before the session was ready"
            self._not_ready("refused", Stage.SESSION, code, reason)
            return False
        if conversation.ready_ns is None:
            what = "session.updated" if conversation.session_id is not None else "session.created"
            self._not_ready("timeout", Stage.SESSION, "session_timeout", f"no {what} within target.timeouts.session_s")
            await self._close()
            return False
        self.record.outcome = "ready"
        self.record.ready_ns = conversation.ready_ns
        if conversation.expires_at is not None:
            left_s = conversation.expires_at - time.time()
            self._expires_ns = time.perf_counter_ns() + round(left_s * _NS)
        return True

    def _refused_handshake(self, error: HandshakeError) -> None:
        sentence, hint = str(error), error.hint
        if error.status is not None:
            self.record.http_status = error.status
            sentence, hint = explain_refusal(
                error.status,
                error.body,
                self._caller.credential.kind,
                self._caller.provider,
                url=self._caller.endpoint.url,
                location=error.location,
                retry_after_s=error.retry_after_s,
                secrets=self._caller.secrets(),
            )
        self._not_ready("refused", Stage.CONNECT, error.code, sentence, hint)

    async def _refused_session(self, refusal: ev.ErrorReported) -> None:
        code = refusal.code or refusal.type or "error"
        sentence, hint = explain_error_code(
            code,
            refusal.message,
            self._caller.credential.kind,
            self._caller.provider,
            secrets=self._caller.secrets(),
        )
        self._not_ready("refused", Stage.SESSION, code, sentence, hint)
        await self._close()

    def _not_ready(self, outcome: str, stage: Stage, code: str, message: str, hint: str | None = None) -> None:
        self.record.outcome = outcome
        self.record.failure_stage = stage
        self.record.error_code = self._caller.clean(code[:80])
        self.record.error_message = self._caller.clean(message)
        if self._caller.board.first_refusal is None:
            self._caller.board.first_refusal = (self.record.error_message or code, hint)

    # ---- turns ----

    async def _hold_turns(self) -> Sequence[PlannedTurn]:
        """The turns one after the other. Returns those that another session has to take over."""
        caller = self._caller
        next_start_ns = self._due_ns
        for position, plan in enumerate(self._turns):
            if caller.board.stopping.is_set():
                return ()
            # A conversation stays in one session, whatever its age: torn in two it would be another test.
            if position and plan.item.conversation_id is None and self._too_old():
                return self._turns[position:]
            try:
                turn = await self._hold_turn(position, plan, next_start_ns)
            except ConnectionLost:
                self._on_lost(time.perf_counter_ns())
                return self._after_break(position)
            self._check_bug()
            if self._lost_ns is not None or turn.machine.broke_session:
                return self._after_break(position)
            playback_end_ns = self._playback_end_ns(turn)
            is_last = position + 1 == len(self._turns)
            think_ns = 0 if is_last else round(caller.think_time_s * _NS)
            next_start_ns = self._on_grid(max(turn.machine.answered_ns or 0, playback_end_ns) + think_ns)
            try:
                await self._rest(next_start_ns)
            except ConnectionLost:
                self._on_lost(time.perf_counter_ns())
            if self._lost_ns is not None:
                return self._after_break(position)
        return ()

    def _on_grid(self, at_ns: int) -> int:
        """The first frame of an open microphone at or after ``at_ns``: speech can only begin with a frame."""
        if self._mic_ns is None:
            return at_ns
        frame_ns = self._caller.frame_ms * 1_000_000
        return self._mic_ns + max(0, math.ceil((at_ns - self._mic_ns) / frame_ns)) * frame_ns

    def _after_break(self, position: int) -> Sequence[PlannedTurn]:
        """Turns behind a broken one: new sessions take them, unless they belong to the conversation that was lost."""
        behind = self._turns[position + 1 :]
        if behind and behind[0].item.conversation_id is not None:
            self._conversation_lost = True
            return ()
        return behind

    def _too_old(self) -> bool:
        now_ns = time.perf_counter_ns()
        age_s = (now_ns - (self.record.ready_ns or now_ns)) / _NS
        if self._caller.max_session_s is not None and age_s >= self._caller.max_session_s:
            return True
        margin_ns = round(_EXPIRY_MARGIN_S * _NS)
        # A life shorter than the margin cannot be kept away from: then the turns run until the server ends it.
        return self._expires_ns is not None and age_s > _EXPIRY_MARGIN_S and now_ns >= self._expires_ns - margin_ns

    async def _hold_turn(self, position: int, plan: PlannedTurn, due_ns: int) -> _LiveTurn:
        caller = self._caller
        is_text = plan.item.modality == "text"
        mode = Mode.TEXT if is_text else Mode.VAD if caller.detects_turns else Mode.MANUAL
        speech = None if is_text else await caller.frames.get(plan.item)
        turn = _LiveTurn(
            machine=Turn(self._spec(mode, plan.item), self._conversation.new_event_id),
            record=planned_row(caller, self.record.session, position, plan),
        )
        turn.record.due_ns = due_ns
        turn.record.started_ns = time.perf_counter_ns()
        turn.record.started_at = _utc_now()
        turn.record.concurrency = caller.board.sessions_open
        self._live.append(turn)
        self._conversation.add(turn.machine)
        if speech is None:
            self._mic_ns = None  # who types has the microphone closed; it opens anew with the next spoken turn
            self._send(turn.machine.begin_text(time.perf_counter_ns()))
        else:
            turn.record.item_audio_ms = speech.audio_ms
            turn.record.speech_ms = speech.speech_ms
            turn.machine.begin_speech()
            if mode is Mode.VAD:
                await self._speak_until_answered(turn, speech)
            else:
                await self._speak_and_commit(turn, speech)
        while not turn.machine.answered and self._lost_ns is None:
            await self._until(lambda: turn.machine.answered or self._lost_ns is not None, turn.machine.deadline_ns)
            turn.machine.tick(time.perf_counter_ns())
        self._write_settled()
        return turn

    def _spec(self, mode: Mode, item: Item) -> TurnSpec:
        caller = self._caller
        return TurnSpec(
            mode=mode,
            text=item.text,
            instructions=item.instructions,
            wants_audio=caller.settings.wants_audio,
            transcription=caller.settings.transcription is not None,
            auto_response=caller.auto_response,
            output_bytes_per_s=caller.settings.output_format.bytes_per_s,
            response_timeout_ns=round(caller.timeouts.response * _NS),
            transcription_timeout_ns=round(caller.timeouts.transcription * _NS),
        )

    # ---- speaking ----

    async def _speak_until_answered(self, turn: _LiveTurn, speech: Speech) -> None:
        """A microphone that stays open: the item's audio, then silence until the turn is over."""
        frame_ms = self._caller.frame_ms
        start_ns = self._mic_ns if self._mic_ns is not None else time.perf_counter_ns()
        turn.record.started_ns = start_ns
        turn.paced = True
        frame = 0
        while not turn.machine.answered and self._lost_ns is None:
            due_ns = pacing.due_ns(start_ns, frame, frame_ms)
            await self._pace(due_ns, turn)
            self._mic_ns = due_ns
            await self._write(speech.frames[frame] if frame < len(speech.frames) else self._caller.frames.silence, turn)
            frame += 1
            turn.sent_frames = frame
            if frame == speech.voiced_frames:
                self._send(turn.machine.speech_sent(time.perf_counter_ns(), start_ns + speech.speech_end_ns))
            turn.machine.tick(time.perf_counter_ns())
            self._check_bug()

    async def _speak_and_commit(self, turn: _LiveTurn, speech: Speech) -> None:
        """Everything up to the last voiced frame, then commit and ``response.create`` back to back."""
        start_ns = time.perf_counter_ns()
        turn.record.started_ns = start_ns
        turn.paced = self._caller.realtime
        written_ns = start_ns
        for frame, data in enumerate(speech.frames):
            if self._caller.realtime:
                await self._pace(pacing.due_ns(start_ns, frame, self._caller.frame_ms), turn)
            elif frame % 10 == 9:
                await asyncio.sleep(0)  # other sessions live in this loop too
            written_ns = time.perf_counter_ns()
            await self._write(data, turn)
            turn.sent_frames = frame + 1
            if turn.machine.answered or self._lost_ns is not None:
                return
        speech_end_ns = start_ns + speech.speech_end_ns if self._caller.realtime else written_ns
        self._send(turn.machine.speech_sent(time.perf_counter_ns(), speech_end_ns))

    async def _pace(self, due_ns: int, turn: _LiveTurn | None) -> None:
        """Wait for an absolute deadline and note how late we came to it."""
        if due_ns > time.perf_counter_ns():
            await self._caller.board.alarm.until(due_ns)
        # What flow control held up is the target's doing, not ours.
        lag_ns = max(0, time.perf_counter_ns() - max(due_ns, self._unblocked_ns))
        self._caller.lags.send_lag(lag_ns)
        if turn is not None:
            turn.lag_ns = max(turn.lag_ns, lag_ns)

    async def _write(self, frame: bytes, turn: _LiveTurn | None = None) -> None:
        transport = self._open_transport()
        transport.write(frame)
        if transport.blocked:
            before_ns = time.perf_counter_ns()
            taken = await transport.unblocked(self._caller.timeouts.response)
            self._unblocked_ns = time.perf_counter_ns()
            if turn is not None:
                turn.blocked_ns += self._unblocked_ns - before_ns
                if not taken:
                    turn.machine.blocked(self._unblocked_ns)

    def _send(self, events: Sequence[ev.ClientEvent]) -> None:
        """Write requests now, in one go."""
        transport = self._open_transport()
        for event in events:
            transport.write(self._caller.dialect.encode(event))

    def _open_transport(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("the session was never opened")
        return self._transport

    # ---- listening: called from inside the connection's read ----

    def _on_frame(self, at_ns: int, frame: bytes | bytearray) -> None:
        try:
            event = self._caller.dialect.decode(frame)
            commands = self._conversation.feed(at_ns, event)
            if type(event) is ev.AudioDelta:
                self._hear(event)
            else:
                self._wake.set()
            if commands:
                with suppress(ConnectionLost):
                    # A connection that ends under our answer is told of by _on_lost.
                    self._send_from_read(commands)
        except Exception as error:  # inside a protocol callback it would only be logged, and the run would go on
            self._bug = self._bug or error
            self._wake.set()

    def _send_from_read(self, commands: Sequence[ev.ClientEvent]) -> None:
        if self._transport is None:
            # The server's first frame can come in the same read as its 101, before ``Transport.open`` has returned.
            asyncio.get_running_loop().call_soon(self._send_when_open, commands)
        else:
            self._send(commands)

    def _send_when_open(self, commands: Sequence[ev.ClientEvent]) -> None:
        if self._lost_ns is None:
            with suppress(ConnectionLost):
                self._send_from_read(commands)

    def _hear(self, event: ev.AudioDelta) -> None:
        """Find the head's silence while the audio passes by; nothing else of it is kept unless the report wants it."""
        turn = self._live[-1] if self._live else None
        if turn is None or turn.machine.answered:
            return
        key = event.response_id
        silence = turn.silence.get(key)
        if silence is None:
            silence = turn.silence[key] = LeadingSilence(self._caller.settings.output_format)
        if not silence.done:
            silence.feed(event.audio)
        if self._caller.audio_kept != "none":
            turn.audio.setdefault(key, []).append(event.audio)

    def _on_lost(self, at_ns: int) -> None:
        if self._lost_ns is not None:
            return
        self._lost_ns = at_ns
        if not self._closing:
            self.record.drop = self.record.outcome == "ready"
            code = f"close_{self._transport.close_code}" if self._transport is not None else "close_1006"
            reason = self._transport.close_reason if self._transport is not None else None
            self._conversation.lost(at_ns, code, reason)
        self._wake.set()

    def _check_bug(self) -> None:
        if self._bug is not None:
            raise self._bug

    # ---- waiting ----

    async def _until(self, done: Callable[[], bool], deadline_ns: int | None) -> None:
        """Wait until ``done()`` or the deadline; looks again whenever something but audio arrived."""
        while not done():
            self._check_bug()
            left_s = None if deadline_ns is None else (deadline_ns - time.perf_counter_ns()) / _NS
            if left_s is not None and left_s <= 0:
                return
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._wake.wait()

    async def _rest(self, until_ns: int) -> None:
        """Let the answer play and the caller think; an open microphone goes on hearing silence."""
        stopping = self._caller.board.stopping
        while self._lost_ns is None and not stopping.is_set():
            now_ns = time.perf_counter_ns()
            if (now_ns if self._mic_ns is None else self._mic_ns) >= until_ns:
                return
            self._tick_unsettled(now_ns)
            if self._mic_ns is not None:
                due_ns = pacing.due_ns(self._mic_ns, 0, self._caller.frame_ms)
                await self._pace(due_ns, None)
                self._mic_ns = due_ns
                await self._write(self._caller.frames.silence)
            else:
                await asyncio.sleep(min((until_ns - now_ns) / _NS, _LOOKS_UP_S))
            self._check_bug()

    async def _settle(self) -> None:
        """Wait for the transcripts that are still under way, each with its own deadline."""
        while self._lost_ns is None and (unsettled := self._conversation.unsettled):
            deadline_ns = unsettled[0].deadline_ns
            await self._until(
                lambda: len(self._conversation.unsettled) < len(unsettled) or self._lost_ns is not None,
                deadline_ns,
            )
            self._tick_unsettled(time.perf_counter_ns())
        self._write_settled()

    def _tick_unsettled(self, now_ns: int) -> None:
        for machine in self._conversation.unsettled:
            machine.tick(now_ns)
        self._write_settled()

    def _playback_end_ns(self, turn: _LiveTurn) -> int:
        if not self._caller.wait_for_playback:
            return 0
        deltas = turn.machine.deltas
        audio = [n for n, kind in enumerate(deltas.kind) if kind is DeltaKind.AUDIO]
        heard = play(
            [deltas.arrival_ns[n] for n in audio],
            [deltas.size_bytes[n] for n in audio],
            self._caller.settings.output_format.bytes_per_s,
        )
        return heard.end_ns if heard is not None else 0

    # ---- ending ----

    async def _close(self) -> None:
        if self._transport is None or self._lost_ns is not None:
            return
        self._closing = True
        await self._transport.close(self._caller.timeouts.close)

    async def _let_go(self) -> None:
        """Cut whatever is left of the connection, and let the loop close its socket."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
            await asyncio.sleep(0)

    def _cut(self) -> None:
        """The engine wants us gone now."""
        self._closing = True
        now_ns = time.perf_counter_ns()
        for turn in self._live:
            turn.machine.cut(now_ns)

    def _finish_rows(self, *, handed_over: int) -> None:
        now_ns = time.perf_counter_ns()
        for turn in self._live:
            if not turn.machine.settled:
                turn.machine.cut(now_ns)
        self._write_settled()
        for position in range(self._rows, len(self._turns) - handed_over):
            self._write_unheld(position)
        record, conversation, transport = self.record, self._conversation, self._transport
        record.turns = len(self._turns) - handed_over
        record.ended_ns = self._lost_ns or now_ns
        record.session_id = conversation.session_id
        record.reported_model = conversation.reported_model
        record.expires_at = conversation.expires_at
        record.unknown_events = conversation.unknown_events.total()
        record.unknown_event_types = tuple(sorted(conversation.unknown_events)[:20])
        record.rate_limits = conversation.rate_limits
        record.ignored_settings = conversation.ignored_settings
        record.unsolicited_responses = conversation.unsolicited_responses
        if transport is not None:
            record.close_code = transport.close_code
            record.close_reason = self._caller.clean(transport.close_reason)
            self._caller.board.session_closed()
        self._caller.rows.session(record)

    def _write_settled(self) -> None:
        """Rows are written in order of turns, so that a reader of the shards sees a session grow."""
        while self._live and self._live[0].machine.settled:
            turn = self._live.pop(0)
            self._complete(turn)
            self._rows += 1
            self._caller.rows.turn(turn.record)

    def _complete(self, turn: _LiveTurn) -> None:
        record = turn.record
        turn.machine.write_to(record)
        record.error_code = self._caller.clean(record.error_code)
        record.error_message = self._caller.clean(record.error_message)
        record.session_id = self._conversation.session_id
        if record.modality == "audio":
            record.input_audio_ms = float(turn.sent_frames * self._caller.frame_ms)
            record.backpressure_ms = turn.blocked_ns / 1e6
        if turn.paced:
            record.send_lag_ms = turn.lag_ns / 1e6
        silence = turn.silence.get(record.response_id)
        if record.first_audio_ns is not None and silence is not None and not silence.broken:
            record.leading_silence_ms = silence.ms
            record.silent_answer = silence.ms is None and record.response_done_ns is not None
        if record.outcome is Outcome.FAILED and record.error_code == "server_error" and self._near_expiry(record):
            record.error_code = "session_expired"
        keep = self._caller.audio_kept == "all" or (
            self._caller.audio_kept == "failed" and record.outcome is not Outcome.OK
        )
        if keep and self._caller.keep_audio is not None and turn.audio.get(record.response_id):
            self._caller.keep_audio(record, turn.audio[record.response_id])

    def _near_expiry(self, record: TurnRecord) -> bool:
        done_ns = record.response_done_ns
        if self._expires_ns is None or done_ns is None:
            return False
        return done_ns >= self._expires_ns - round(_EXPIRY_SLACK_S * _NS)

    def _write_unheld(self, position: int) -> None:
        """The row of a planned turn that never began, because of what became of its session."""
        record = self.record
        never_ready = record.outcome in ("refused", "timeout")
        self._rows += 1
        if self._caller.timed and not never_ready and not self._conversation_lost:
            return
        row = planned_row(self._caller, record.session, position, self._turns[position])
        row.session_id = self._conversation.session_id
        row.due_ns = self._due_ns if position == 0 else None
        if never_ready:
            row.outcome = Outcome(record.outcome)
            row.failure_stage, row.error_code = record.failure_stage, record.error_code
            row.error_message = record.error_message
        elif self._conversation_lost:
            # An earlier turn broke the conversation; alone this one would be another test.
            row.outcome, row.failure_stage, row.error_code = Outcome.DROPPED, Stage.SESSION, "conversation_lost"
        self._caller.rows.turn(row)


def planned_row(facts: RowFacts, session: str, position: int, plan: PlannedTurn) -> TurnRecord:
    """The row of a planned turn as it stands before anything happened: ``cut``."""
    item = plan.item
    asked = item.modality == "audio" and facts.settings.transcription is not None
    return TurnRecord(
        run_id=facts.run_id,
        variant=facts.variant,
        worker=facts.worker,
        session=session,
        turn=position,
        item=item.id,
        attempt=plan.attempt,
        modality=item.modality,
        tags=item.tags,
        language=item.language,
        conversation_id=item.conversation_id,
        dialect=facts.dialect.name,
        outcome=Outcome.CUT,
        transcript_outcome=TranscriptOutcome.MISSING if asked else TranscriptOutcome.OFF,
        reference=item.reference,
        prompt=item.text if item.text is not None else item.instructions,
        expect=item.expect,
        meta=item.meta,
        output_rate_bytes_per_s=facts.settings.output_format.bytes_per_s,
    )


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
