"""Many questions to a judge model, a few at a time; every reply is kept as it comes."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from .chat import Chat, ChatError, Endpoint
from .evidence import Evidence
from .verdicts import WORDS, read_verdict

__all__ = ["Manner", "Question", "ask_all", "is_answered"]

FAILURES_IN_A_ROW = 8
"""After so many questions without a reply the endpoint is taken to be away, and nothing more is asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one turn.

    Attributes:
        repeat: 0-based; the same turn may be judged several times.
        body: of the request.
        address: of the endpoint.
    """

    session: str
    turn: int
    item: str
    repeat: int
    body: Mapping[str, Any]
    address: str

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the verdict but chance: who is asked what, and for which time."""
        whole = [self.address, self.body, self.repeat]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Manner:
    """How questions are asked.

    Attributes:
        at_once: questions under way at a time.
        max_s: after this nothing more is asked.
        quoting: whether reasons and raw replies, which quote what was said, are kept.
    """

    at_once: int
    max_s: float
    quoting: bool


def is_answered(question: Question, evidence: Evidence) -> bool:
    """Whether the question got a reply with a verdict in it before."""
    entry = evidence.of(question.key)
    return entry is not None and entry.get("verdict") in WORDS


def ask_all(questions: Sequence[Question], endpoint: Endpoint, evidence: Evidence, manner: Manner) -> str | None:
    """Ask all questions and keep the replies.

    Args:
        questions: those that are not answered yet.
        endpoint: who is asked.
        evidence: where replies go.
        manner: how.

    Returns:
        Why some got no reply, in a clause; ``None`` when all got one.
    """
    crew = _Crew(questions, endpoint, evidence, quoting=manner.quoting)
    # Daemons: who interrupts the process does not wait for replies; what came is in the file.
    threads = [threading.Thread(target=crew.work, name=f"judge-{n}", daemon=True) for n in range(manner.at_once)]
    threads = threads[: len(questions)]
    for thread in threads:
        thread.start()
    try:
        _join(threads, manner.max_s)
        if any(thread.is_alive() for thread in threads):
            crew.give_up(f"max_s: {manner.max_s:g} s were over")
            _join(threads, endpoint.timeout_s)
    finally:
        crew.stop.set()
    if crew.bug is not None:
        raise crew.bug
    return crew.trouble


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))


class _Crew:
    """Threads that take questions from one queue until it is empty, or asking has become pointless.

    Attributes:
        stop: set when nobody shall ask any more.
        trouble: why, or the first failure of a single question.
        bug: an exception that nobody foresaw.
    """

    def __init__(self, questions: Sequence[Question], endpoint: Endpoint, evidence: Evidence, *, quoting: bool) -> None:
        self._waiting: queue.SimpleQueue[Question] = queue.SimpleQueue()
        for question in questions:
            self._waiting.put(question)
        self._endpoint = endpoint
        self._evidence = evidence
        self._quoting = quoting
        self._lock = threading.Lock()
        self._in_a_row = 0
        self.stop = threading.Event()
        self.trouble: str | None = None
        self.bug: Exception | None = None

    def work(self) -> None:
        chat = Chat(self._endpoint, self.stop)
        try:
            while not self.stop.is_set():
                self._ask(chat, self._waiting.get_nowait())
        except queue.Empty:
            pass
        except Exception as error:
            self.bug = self.bug or error
            self.stop.set()
        finally:
            chat.close()

    def give_up(self, why: str) -> None:
        """Nothing more is asked."""
        with self._lock:
            self.trouble = why
        self.stop.set()

    def _ask(self, chat: Chat, question: Question) -> None:
        try:
            reply = chat.ask(question.body)
        except ChatError as error:
            self._failed(error)
            return
        verdict = read_verdict(reply.text)
        with self._lock:
            self._in_a_row = 0
            if verdict is None:
                self.trouble = self.trouble or "a reply of the judge model has no verdict in it"
        entry: dict[str, Any] = {
            "session": question.session,
            "turn": question.turn,
            "item": question.item,
            "repeat": question.repeat,
            "verdict": "unreadable" if verdict is None else verdict.word,
            "model": reply.model,
            "usage": dict(reply.usage),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if self._quoting:
            entry |= {"reason": None if verdict is None else verdict.reason, "raw": reply.text}
        self._evidence.add(question.key, entry)

    def _failed(self, error: ChatError) -> None:
        with self._lock:
            self._in_a_row += 1
            self.trouble = self.trouble or str(error)
            pointless = error.hopeless or self._in_a_row >= FAILURES_IN_A_ROW
        if pointless and not self.stop.is_set():
            self.give_up(str(error))
