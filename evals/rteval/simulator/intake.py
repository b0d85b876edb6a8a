"""The audio that a client appends, until it becomes an item: bytes, media time, and when each byte came."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..formats import AudioFormat

__all__ = ["Intake", "Utterance"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """Audio that became one user item.

    Attributes:
        audio: its bytes.
        fmt: their format.
        start_ms: media time of its first sample.
        arrivals: for each append: index of the first byte behind it (in ``audio``), and when it came (ns).
    """

    audio: bytes
    fmt: AudioFormat
    start_ms: float
    arrivals: tuple[tuple[int, int], ...]

    @property
    def duration_ms(self) -> float:
        """Its length."""
        return 1000 * self.fmt.seconds(len(self.audio))

    def arrival_ns(self, at_ms: float) -> int | None:
        """When the append came that holds the sample ending ``at_ms`` after the utterance's start."""
        sample = self.fmt.sample_bytes
        position = max(0, round(at_ms * self.fmt.rate / 1000) * sample - sample)
        return next((at_ns for end, at_ns in self.arrivals if position < end), None)


class Intake:
    """What was appended and is not yet an item.

    Args:
        fmt: format of the bytes.
        start_ms: media time of the first byte to come.
    """

    def __init__(self, fmt: AudioFormat, start_ms: float = 0.0) -> None:
        self.fmt = fmt
        self._start_ms = start_ms
        self._audio = bytearray()
        self._first = 0  # position of the first kept byte since the intake began
        self._arrivals: deque[tuple[int, int]] = deque()

    @property
    def media_ms(self) -> float:
        """Media time of all audio ever appended in the session."""
        return self._start_ms + 1000 * self.fmt.seconds(self._first + len(self._audio))

    @property
    def kept_ms(self) -> float:
        """How much audio is waiting."""
        return 1000 * self.fmt.seconds(len(self._audio))

    @property
    def kept_bytes(self) -> int:
        """How many bytes are waiting."""
        return len(self._audio)

    def append(self, audio: bytes, at_ns: int) -> None:
        """Take the audio of one append event."""
        self._audio += audio
        self._arrivals.append((self._first + len(self._audio), at_ns))

    def clear(self) -> None:
        """Forget what is waiting; media time goes on."""
        self._forget(self._first + len(self._audio))

    def keep_last(self, ms: float) -> None:
        """Forget what came more than ``ms`` ago; cheap enough for every append, since it forgets in lumps."""
        surplus = self.kept_ms - ms
        if surplus > 1_000:
            self._forget(self._position(self.media_ms - ms))

    def take(self, from_ms: float | None = None, until_ms: float | None = None) -> Utterance:
        """Turn what is waiting, or the part of it between two media times, into an utterance; later audio stays."""
        end = self._first + len(self._audio)
        stop = end if until_ms is None else min(end, self._position(until_ms))
        start = self._first if from_ms is None else min(stop, max(self._first, self._position(from_ms)))
        audio = bytes(self._audio[start - self._first : stop - self._first])
        arrivals = tuple((min(last, stop) - start, at_ns) for last, at_ns in self._arrivals if last > start)
        start_ms = self._start_ms + 1000 * self.fmt.seconds(start)
        self._forget(stop)
        return Utterance(audio, self.fmt, start_ms, arrivals)

    def _position(self, media_ms: float) -> int:
        return round((media_ms - self._start_ms) * self.fmt.rate / 1000) * self.fmt.sample_bytes

    def _forget(self, position: int) -> None:
        if position <= self._first:
            return
        del self._audio[: position - self._first]
        self._first = position
        while self._arrivals and self._arrivals[0][0] <= position:
            self._arrivals.popleft()
