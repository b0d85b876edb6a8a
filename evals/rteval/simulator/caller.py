"""One client's connection: frames and timers in and out of its session.

Frames are handled as they are parsed, without a queue and a task in between, and written without awaiting: with
hundreds of paced sessions nothing else fits on one core.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from functools import partial
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from ..realtime import events as ev
from .handshake import Ask, LateRefusal
from .outlet import Close, Drop, Effect, Hear, Outlet, Send
from .recognition import Recognition
from .session import Admission, Session
from .world import Recognised, World

__all__ = ["Caller"]

log = logging.getLogger(__name__)

_DATA = frozenset({Opcode.CONT, Opcode.TEXT, Opcode.BINARY})


class Caller(ServerConnection):
    """One client's connection; it drives one session."""

    def __init__(self, world: World, recognition: Recognition, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._world = world
        self._recognition = recognition
        self.ask: Ask | None = None
        self.decision: Admission | LateRefusal | None = None
        self.number = 0
        self._session: Session | None = None
        self._backlog: list[Frame] = []
        self._pieces: list[Frame] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._arrival_ns = 0
        self._closing: asyncio.Task[None] | None = None

    # ---- life ----

    def begin(self) -> None:
        """Open the session; frames that came meanwhile are its first."""
        match self.decision:
            case LateRefusal() as refusal:
                outlet = Outlet(refusal.admission.serving, random.Random())
                outlet.tell(ev.ErrorReported(type="invalid_request_error", code=refusal.code, message=refusal.message))
                outlet.end(Close(refusal.close_code, refusal.reason))
                for effect in outlet.effects:
                    self._do(effect)
                self.send_data()
            case Admission() as admission:
                self._session = Session(
                    admission,
                    self._world,
                    number=self.number,
                    now_ns=time.perf_counter_ns(),
                    unix_s=time.time(),
                )
                self._session.open()
                backlog, self._backlog = self._backlog, []
                for frame in backlog:
                    self._take_frame(frame)
                self._pump()
            case None:
                raise RuntimeError("a connection was opened without a decision")

    def finish(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self._session is not None:
            self._session.close()
            self._session = None
            self._recognition.forget(self.number)

    # ---- in ----

    def data_received(self, data: bytes) -> None:
        """Stamp first, then parse."""
        self._arrival_ns = time.perf_counter_ns()
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        """Hand data frames to the session at once; the rest is the library's."""
        if self.request is None or event.opcode not in _DATA:
            super().process_event(event)
            return
        if self._session is None:
            if self.decision is not None and isinstance(self.decision, Admission):
                self._backlog.append(event)
            return
        try:
            self._take_frame(event)
            self._pump()
        except Exception:
            self._fail()

    def _fail(self) -> None:
        """A bug of ours ends this session and no other."""
        log.exception("a session failed")
        self.finish()
        self._do(Close(1011, "internal error"))

    def _take_frame(self, frame: Frame) -> None:
        session = self._session
        if session is None:
            return
        if not frame.fin or self._pieces:
            self._pieces.append(frame)
            if not frame.fin:
                return
            pieces, self._pieces = self._pieces, []
            frame = Frame(pieces[0].opcode, b"".join(piece.data for piece in pieces))
        if frame.opcode is Opcode.BINARY:
            session.receive_binary(self._arrival_ns)
        else:
            session.receive(bytes(frame.data), self._arrival_ns)

    # ---- out ----

    def _pump(self) -> None:
        """Do what the session wants done, unless the client does not keep up with reading."""
        session = self._session
        if session is None or self.paused:
            return
        effects = session.take()
        if effects:
            for effect in effects:
                self._do(effect)
            self.send_data()
        due_ns = session.due_ns
        if due_ns is not None and (self._timer is None or due_ns < self._timer_ns):
            self._set_timer(due_ns)

    def _set_timer(self, due_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = due_ns
        delay_s = (due_ns - time.perf_counter_ns()) / 1e9
        self._timer = self.loop.call_later(max(0.0, delay_s), self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._session is None or self.paused:
            return
        try:
            self._session.advance(time.perf_counter_ns())
            self._pump()
        except Exception:
            self._fail()

    def resume_writing(self) -> None:
        """Go on where the client's slowness stopped us."""
        super().resume_writing()
        self._wake()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                if self.protocol.state is not State.OPEN:
                    return
                if effect.stamp is not None:
                    # Whatever waits must not count: out with it, then stamp.
                    self.send_data()
                    effect.stamp(time.perf_counter_ns())
                if effect.binary:
                    self.protocol.send_binary(effect.data)
                else:
                    self.protocol.send_text(effect.data)
                if effect.stamp is not None:
                    self.send_data()
            case Hear():
                self._recognition.submit(self.number, effect.utterance, partial(self._heard, effect.item_id))
            case Drop():
                self.send_data()
                self.transport.abort()
            case Close():
                if self._closing is None:
                    self._closing = self.loop.create_task(self.close(effect.code, effect.reason))

    def _heard(self, item_id: str, recognised: Recognised) -> None:
        if self._session is None:
            return
        try:
            self._session.heard(item_id, recognised, time.perf_counter_ns())
            self._pump()
        except Exception:
            self._fail()
