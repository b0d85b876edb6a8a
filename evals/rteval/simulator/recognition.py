"""Recognition beside the event loop: in a process of its own, so that no session waits for what another one said.

A thread will not do: it takes 7 ms of CPU to recognise an utterance, in hundreds of short NumPy calls, and after each of
them it waits for the interpreter's lock. On a busy machine that was 33 ms, and thirty turns a second were the limit.

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
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Protocol

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

    Args:
        behaviour: says how many words come out wrong.
        datasets: whose items can be recognised.
    """

    def __init__(self, behaviour: Behaviour, datasets: Sequence[Dataset]) -> None:
        self._set_up = (behaviour, tuple(datasets))
        self._numbers = itertools.count()
        self._waiting: dict[int, Done] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RecognitionProcess:
        """Start the process and wait until it knows the recordings."""
        # What it says on stderr is for the same eyes as ours.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._send(self._set_up)
        try:
            await self._receive()
        except asyncio.IncompleteReadError:
            raise RuntimeError("the recognition process did not start") from None
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        if self._reading is not None:
            self._reading.cancel()
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def submit(self, session: int, utterance: Utterance, done: Done) -> None:
        """Have an utterance recognised, after those that were submitted before."""
        number = next(self._numbers)
        self._waiting[number] = done
        if self._reading is None or self._reading.done():
            asyncio.get_running_loop().call_soon(self._finish, number, Recognised())
            return
        self._send((number, session, utterance))

    def forget(self, session: int) -> None:
        """A session is over."""
        self._send((None, session, None))

    def _send(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(_packed(message))

    async def _receive(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
        return pickle.loads(await self._process.stdout.readexactly(length))

    async def _read(self) -> None:
        try:
            while True:
                number, recognised = await self._receive()
                self._finish(number, recognised)
        except asyncio.IncompleteReadError:
            log.error("the recognition process ended; nothing is recognised from now on")
            for number in list(self._waiting):
                self._finish(number, Recognised())

    def _finish(self, number: int, recognised: Recognised) -> None:
        self._waiting.pop(number)(recognised)


def _packed(message: object) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


# ---- the process ----


def _unpacked(stream: BinaryIO) -> Any:
    """The next message, or ``None`` when the parent is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return pickle.loads(body) if len(body) == length else None


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
