"""What really happened, by the server's own clock: one JSON line for each response."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import orjson

__all__ = ["TruthFile", "TruthLine"]


class TruthLine:
    """One response, filled in while it goes on and handed over once nothing more can change.

    All times are ``CLOCK_MONOTONIC`` in nanoseconds, or ``None``.

    Args:
        session_id, response_id: as on the wire.
        t_request_ns: the end of the turn as the server saw it (detection, commit or create).
        hand_over: called once, with the finished line.
    """

    __slots__ = (
        "_hand_over",
        "_open",
        "item",
        "ref_words",
        "response_id",
        "session_id",
        "t_done_ns",
        "t_first_audio_ns",
        "t_request_ns",
        "t_voice_end_ns",
        "word_errors",
    )

    def __init__(
        self, *, session_id: str, response_id: str, t_request_ns: int, hand_over: Callable[[TruthLine], None]
    ) -> None:
        self.session_id = session_id
        self.response_id = response_id
        self.item: str | None = None
        self.t_voice_end_ns: int | None = None
        self.t_request_ns = t_request_ns
        self.t_first_audio_ns: int | None = None
        self.t_done_ns: int | None = None
        self.ref_words: int | None = None
        self.word_errors: int | None = None
        self._open = {"response"}
        self._hand_over = hand_over

    def await_transcript(self) -> None:
        """Keep the line until the transcription of its audio has ended, too."""
        self._open.add("transcript")

    def first_audio(self, at_ns: int) -> None:
        """The first audio delta is about to be handed to the socket."""
        if self.t_first_audio_ns is None:
            self.t_first_audio_ns = at_ns

    def done(self, at_ns: int) -> None:
        """``response.done`` is about to be handed to the socket."""
        self.t_done_ns = at_ns
        self._settle("response")

    def transcribed(self, ref_words: int | None, word_errors: int | None) -> None:
        """The transcription ended: with these counts, or with ``None`` where there is nothing to count."""
        self.ref_words, self.word_errors = ref_words, word_errors
        self._settle("transcript")

    def abandon(self) -> None:
        """The session is over: what is not known now will never be."""
        if self._open:
            self._open.clear()
            self._hand_over(self)

    def _settle(self, what: str) -> None:
        if what in self._open:
            self._open.remove(what)
            if not self._open:
                self._hand_over(self)

    def json(self) -> bytes:
        """The line as JSON, without its newline."""
        return orjson.dumps(
            {
                "session_id": self.session_id,
                "response_id": self.response_id,
                "item": self.item,
                "t_voice_end_ns": self.t_voice_end_ns,
                "t_request_ns": self.t_request_ns,
                "t_first_audio_ns": self.t_first_audio_ns,
                "t_done_ns": self.t_done_ns,
                "ref_words": self.ref_words,
                "word_errors": self.word_errors,
            }
        )


class TruthFile:
    """The file of the lines; each is flushed, so a killed server leaves all but the last."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab", buffering=0)

    def write(self, line: TruthLine) -> None:
        """Append one line."""
        self._file.write(line.json() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
