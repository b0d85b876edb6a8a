"""Recognition beside the event loop: in a process of its own, so that no session waits for what another one said.

A thread would share the interpreter's lock with the loop: recognition makes hundreds of short NumPy calls and waits for
the lock after each. Beside a loop that was busy a third of the time, an utterance took 25 ms in place of 11.

Run as ``python -m rteval.simulator.recognition`` it is that process: length-prefixed pickles from its parent on stdin,
answers on stdout, and it ends when stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol, Self

from ..corpus import Dataset
from .behaviour import Behaviour
from .ear import Heard
from .intake import Utterance
from .listener import Listener
from .world import Recognised

__all__ = ["InlineRecognition", "Recognition", "RecognitionProcess"]

LENGTH = struct.Struct("!Q")
STOP_TIMEOUT_S = 2.0

Done = Callable[[Recognised], None]

log = logging.getLogger(__name__)


class Recognition(Protocol):
    """What recognises the utterances of all sessions."""

    def submit(self, session: int, utterance: Utterance, done: Done) -> None:
        """Recognise an utterance of a session and call ``done`` with what it is, later, from the event loop."""

    def forget(self, session: int) -> None:
        """A session is over."""


class _Sessions:
    """A listener that knows what each session said last."""

    def __init__(self, behaviour: Behaviour, datasets: Sequence[Dataset]) -> None:
        self._listener = Listener(behaviour, datasets)
        self._last: dict[int, Heard] = {}

    def listen(self, session: int, utterance: Utterance) -> Recognised:
        """Recognise a session's next utterance."""
        recognised, heard = self._listener.listen(utterance, self._last.get(session))
        self._last[session] = heard
        return recognised

    def forget(self, session: int) -> None:
        """A session is over."""
        self._last.pop(session, None)


class InlineRecognition:
    """Recognises at once, in the event loop: for a server that knows no recordings, where there is little to do."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._sessions = _Sessions(behaviour, ())

    def submit(self, session: int, utterance: Utterance, done: Done) -> None:
        """Recognise an utterance; ``done`` is called in the loop's next turn."""
        asyncio.get_running_loop().call_soon(done, self._sessions.listen(session, utterance))

    def forget(self, session: int) -> None:
        """A session is over."""
        self._sessions.forget(session)


class RecognitionProcess:
    """Recognises in a process of its own; use as an asynchronous context manager.

    Two threads move the bytes: the event loop would write a pipe's 64 KB in each of its turns, and with hundreds of
    sessions its turns are long.

    Args:
        behaviour: says how many words come out wrong.
        datasets: whose items can be recognised.
    """

    def __init__(self, behaviour: Behaviour, datasets: Sequence[Dataset]) -> None:
        self._outgoing: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._outgoing.put((behaviour, tuple(datasets)))
        self._numbers = itertools.count()
        self._waiting: dict[int, Done] = {}
        self._lost = False
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # What it says on stderr is for the same eyes as ours.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    async def __aenter__(self) -> Self:
        """Wait until the process knows the recordings."""
        for work in (self._write, self._read):
            threading.Thread(target=work, name=f"recognition {work.__name__}", daemon=True).start()
        await self._ready.wait()
        if self._lost:
            raise RuntimeError("the recognition process did not start")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process."""
        self._outgoing.put(None)
        try:
            await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def submit(self, session: int, utterance: Utterance, done: Done) -> None:
        """Have an utterance recognised, after those that were submitted before."""
        number = next(self._numbers)
        self._waiting[number] = done
        if self._lost:
            self._loop.call_soon(self._finish, number, Recognised())
        else:
            self._outgoing.put((number, session, utterance))

    def forget(self, session: int) -> None:
        """A session is over."""
        self._outgoing.put((None, session, None))

    def _finish(self, number: int, recognised: Recognised) -> None:
        self._waiting.pop(number)(recognised)

    def _end(self) -> None:
        """The process is gone: nothing is recognised from now on."""
        self._lost = True
        self._ready.set()
        for number in list(self._waiting):
            self._finish(number, Recognised())

    # ---- in threads of their own ----

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            while (message := self._outgoing.get()) is not None:
                pipe.write(_packed(message))
                pipe.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(RuntimeError), self._process.stdout as pipe:  # RuntimeError: the loop is closed
            if _unpacked(pipe) is not None:
                self._loop.call_soon_threadsafe(self._ready.set)
            while (answer := _unpacked(pipe)) is not None:
                self._loop.call_soon_threadsafe(self._finish, *answer)
            self._loop.call_soon_threadsafe(self._end)


def _packed(message: object) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def _unpacked(stream: IO[bytes]) -> Any:
    """The next message, or ``None`` when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return pickle.loads(body) if len(body) == length else None


# ---- the process ----


def main() -> None:
    """Recognise until stdin ends."""
    # Ctrl-C at a terminal goes to the whole group; the parent ends us when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    set_up = _unpacked(sys.stdin.buffer)
    if set_up is None:
        return
    sessions = _Sessions(*set_up)
    with contextlib.suppress(BrokenPipeError), out:
        out.write(_packed("ready"))
        out.flush()
        while (message := _unpacked(sys.stdin.buffer)) is not None:
            number, session, utterance = message
            if utterance is None:
                sessions.forget(session)
                continue
            try:
                recognised = sessions.listen(session, utterance)
            except Exception:
                log.exception("cannot recognise an utterance")
                recognised = Recognised()
            out.write(_packed((number, recognised)))
            out.flush()


if __name__ == "__main__":
    main()
