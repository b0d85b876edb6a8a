"""What a session heard in its user items, and what it tells of that: the transcription, on a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..realtime import events as ev
from .behaviour import Fault
from .conversation import Stored, text_tokens
from .intake import Utterance
from .scope import Process, Scope
from .truth import TruthLine
from .voice import slice_text
from .world import Recognised

__all__ = ["Hearing", "Known"]

# This model sends no deltas, only the completed transcription.
WITHOUT_DELTAS = "whisper-1"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one user item's audio.

    Attributes:
        recognised: what was said.
        voice_end_ns: arrival of the append that holds the last voiced sample.
    """

    recognised: Recognised
    voice_end_ns: int | None


class Hearing:
    """The ears of one session."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._asked: dict[str, Utterance] = {}
        self._known: dict[str, Known] = {}
        self._transcripts: dict[str, tuple[int | None, int | None]] = {}
        # The lines that wait for each transcription under way.
        self._lines: dict[str, list[TruthLine]] = {}
        self._answered_ns: dict[str, int] = {}

    # ---- recognition ----

    def listen(self, stored: Stored, utterance: Utterance) -> None:
        """Have an item's audio recognised."""
        # Only the arrivals are needed later; the audio may be long.
        self._asked[stored.id] = Utterance(b"", utterance.fmt, utterance.start_ms, utterance.arrivals)
        self._scope.outlet.hear(stored.id, utterance)

    def recognised(self, item_id: str, recognised: Recognised) -> None:
        """Take what an item's audio was recognised as."""
        utterance = self._asked.pop(item_id)
        end_ms = recognised.voice_end_ms
        self._known[item_id] = Known(recognised, None if end_ms is None else utterance.arrival_ns(end_ms))
        self._scope.timers.wake()

    def is_audio(self, stored: Stored) -> bool:
        """Whether the item is audio that was (or is being) recognised."""
        return stored.id in self._known or stored.id in self._asked

    def known(self, stored: Stored) -> Iterator[Known | None]:
        """Yields ``None`` while an item's audio is being recognised, and then what is known of it."""
        while stored.id not in self._known:
            yield None
        yield self._known[stored.id]

    # ---- transcription ----

    def transcribe(self, stored: Stored, transcription: Mapping[str, Any], *, untold: tuple[str | None] | None) -> None:
        """Begin the transcription of an item that was committed now.

        Args:
            stored: the item.
            transcription: the session's settings of it.
            untold: the id before the item, when the item itself is to be told after its transcription (a fault).
        """
        self._lines[stored.id] = []
        self._scope.timers.start(self._transcription(stored, transcription, untold))

    def _transcription(
        self, stored: Stored, transcription: Mapping[str, Any], untold: tuple[str | None] | None
    ) -> Process:
        timers, how = self._scope.timers, self._scope.world.behaviour.transcription
        committed_ns = timers.now_ns
        late = self._scope.faults.strike("transcription_late")
        broken = self._scope.faults.strike("transcription_failed", "transcription_missing")
        for known in self.known(stored):
            if known is None:
                yield None
        said = self._known[stored.id].recognised
        rng = self._scope.rng_for("transcription", said.item)
        done_ns = committed_ns + round(how.delay_ms.sample_ms(rng) * 1e6)
        missing, failed = rng.random() < how.missing_rate, rng.random() < how.failure_rate
        if missing or (broken is not None and broken.kind == "transcription_missing"):
            self._settle(stored.id, None, None)
            return
        if late is not None:
            while stored.id not in self._answered_ns:
                yield None
            done_ns = self._answered_ns[stored.id] + round(late.delay_ms * 1e6)
        elif not (failed or broken) and how.deltas and transcription.get("model") != WITHOUT_DELTAS:
            yield from self._deltas(stored, said.transcript, max(committed_ns, timers.now_ns), done_ns)
        yield done_ns
        if failed or broken is not None:
            self._tell_failed(stored, broken)
        else:
            self._tell_completed(stored, said)
        if untold is not None:
            self._scope.outlet.tell_item(stored.item, untold[0])

    def _deltas(self, stored: Stored, transcript: str, start_ns: int, done_ns: int) -> Iterator[int]:
        pieces = slice_text(transcript)
        step_ns = max(0, done_ns - start_ns) // (len(pieces) + 1)
        for index, piece in enumerate(pieces, start=1):
            yield start_ns + index * step_ns
            self._scope.outlet.tell(ev.InputTranscriptDelta(item_id=stored.id, delta=piece))

    def _tell_completed(self, stored: Stored, said: Recognised) -> None:
        stored.transcript = said.transcript
        usage = self._usage(stored)
        self._scope.outlet.tell(ev.InputTranscriptCompleted(item_id=stored.id, transcript=said.transcript, usage=usage))
        self._settle(stored.id, said.ref_words, said.word_errors)

    def _tell_failed(self, stored: Stored, fault: Fault | None) -> None:
        code, message = (None, None) if fault is None else (fault.code, fault.message)
        message = message or f"Input transcription failed for item '{stored.id}'."
        self._scope.outlet.tell(
            ev.InputTranscriptFailed(item_id=stored.id, type="server_error", code=code, message=message)
        )
        self._settle(stored.id, None, None)

    def _usage(self, stored: Stored) -> dict[str, Any]:
        into = stored.tokens(self._scope.world.behaviour.usage).audio
        out = text_tokens(stored.transcript)
        return {
            "type": "tokens",
            "total_tokens": into + out,
            "input_tokens": into,
            "input_token_details": {"text_tokens": 0, "audio_tokens": into},
            "output_tokens": out,
        }

    # ---- truth ----

    def count_for(self, line: TruthLine, stored: Stored) -> None:
        """Have the word errors of an item's transcription written into a truth line, now or when it has ended."""
        if stored.id in self._transcripts:
            line.await_transcript()
            line.transcribed(*self._transcripts[stored.id])
        elif stored.id in self._lines:
            line.await_transcript()
            self._lines[stored.id].append(line)

    def answered(self, stored: Stored) -> None:
        """The response to an item is done."""
        self._answered_ns[stored.id] = self._scope.timers.now_ns
        self._scope.timers.wake()

    def _settle(self, item_id: str, ref_words: int | None, word_errors: int | None) -> None:
        self._transcripts[item_id] = (ref_words, word_errors)
        for line in self._lines.pop(item_id):
            line.transcribed(ref_words, word_errors)
