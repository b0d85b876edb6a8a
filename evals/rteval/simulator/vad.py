"""Finds where speech starts and stops in one session's incoming audio, in media time and without a clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import webrtcvad  # type: ignore[import-untyped]

from ..audio import QuickResampler, decode
from ..formats import AudioFormat

__all__ = ["SpeechStarted", "SpeechStopped", "VoiceDetector"]

VAD_RATE = 16_000
FRAME_MS = 10
FRAME_SAMPLES = VAD_RATE * FRAME_MS // 1000
# The detector is asked for two frames at a time, for its price; the level is looked at frame by frame.
CALL_BYTES = 2 * FRAME_SAMPLES * 2
# The resampler holds back 1 (from 24 kHz) or 4 samples (from 8 kHz). Frames begin that much early, so that the last
# frame of an append is judged with that append and not with the next one.
LAG_SAMPLES = 4

# WebRTC's detector keeps saying "voice" for 30 to 90 ms after the sound is over, so one noisy 30 ms looks like up to
# 120 ms of it. Speech starts only when more than such an echo was heard within the last 150 ms.
ONSET_WINDOW = 15
ONSET_FRAMES = 11
ONSET_MASK = (1 << ONSET_WINDOW) - 1
# During speech a frame prolongs it only together with its neighbours: a click in the closing silence does not.
HOLD_FRAMES = 3
HOLD_MASK = (1 << 4) - 1
# A frame this far below the loudest frame of the utterance is room, whatever the detector says.
RANGE = 10 ** (-40 / 10)


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to talk.

    Attributes:
        audio_start_ms: where the utterance's audio begins: the first voiced frame less the prefix padding, never
            before the end of the utterance before it.
    """

    audio_start_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller was silent for ``silence_duration_ms``.

    Attributes:
        audio_end_ms: where the utterance's audio ends, the closing silence included.
        last_voice_ms: end of the last voiced frame.
    """

    audio_end_ms: int
    last_voice_ms: int


class VoiceDetector:
    """Server VAD for one stream of audio; all times are milliseconds of media since the stream's start.

    Args:
        fmt: what ``feed`` is given.
        threshold: 0 (everything is speech) to 1 (only clear, loud speech). It chooses WebRTC's aggressiveness (0.5 is
            mode 2) and the level below which nothing is voice (-60 dBFS at 0.5, 4 dB more for each tenth).
        prefix_padding_ms: audio kept before the first voiced frame.
        silence_duration_ms: silence that ends an utterance.
        start_ms: media time of the first byte that will be fed.
        committed_ms: no utterance begins before this media time.
    """

    def __init__(
        self,
        fmt: AudioFormat,
        *,
        threshold: float = 0.5,
        prefix_padding_ms: int = 300,
        silence_duration_ms: int = 200,
        start_ms: float = 0.0,
        committed_ms: float = 0.0,
    ) -> None:
        self.fmt = fmt
        self.prefix_padding_ms = prefix_padding_ms
        self.silence_duration_ms = silence_duration_ms
        self._is_speech = webrtcvad.Vad(_mode(threshold)).is_speech
        self._floor = _energy(-60.0 + 40.0 * (threshold - 0.5))
        # The detector looks below 4 kHz only, where a quick resampler is good enough; a better one would delay it.
        self._resampler = QuickResampler(fmt.rate, VAD_RATE)
        self._pending = bytes(2 * LAG_SAMPLES)
        self._odd = b""
        self._frame_ms = start_ms - 1000 * LAG_SAMPLES / VAD_RATE
        self._committed_ms = max(start_ms, committed_ms)
        self._recent = 0  # the last frames' verdicts as bits, newest lowest
        self._loudest = 0.0
        self._last_voice_ms = 0.0
        self._speaking = False

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._speaking

    def feed(self, data: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Take the next bytes of the stream and tell what they decided; a split sample waits for its other half."""
        samples = self._resampler.feed(self._samples(data))
        pcm = self._pending + samples.tobytes()
        calls = len(pcm) // CALL_BYTES
        self._pending = pcm[calls * CALL_BYTES :]
        if not calls:
            return []
        frames = np.frombuffer(pcm, np.int16, calls * CALL_BYTES // 2).reshape(-1, FRAME_SAMPLES).astype(np.float32)
        energies = np.einsum("ij,ij->i", frames, frames)
        if not self._speaking and energies.max() <= self._floor:
            self._frame_ms += len(energies) * FRAME_MS
            self._recent = 0 if len(energies) >= ONSET_WINDOW else self._recent << len(energies) & ONSET_MASK
            return []
        events: list[SpeechStarted | SpeechStopped] = []
        levels = iter(energies.tolist())
        for call, (first, second) in enumerate(zip(levels, levels, strict=True)):
            voice = (first > self._floor or second > self._floor) and self._is_speech(
                pcm[call * CALL_BYTES : (call + 1) * CALL_BYTES], VAD_RATE
            )
            for energy in (first, second):
                event = self._step(voice and energy > self._floor, energy)
                if event is not None:
                    events.append(event)
        return events

    def _step(self, voiced: bool, energy: float) -> SpeechStarted | SpeechStopped | None:
        self._frame_ms += FRAME_MS
        if not self._speaking:
            self._recent = (self._recent << 1 | voiced) & ONSET_MASK
            return self._start() if voiced and self._recent.bit_count() >= ONSET_FRAMES else None
        if voiced:
            if energy > self._loudest:
                self._loudest = energy
            voiced = energy > self._loudest * RANGE
        self._recent = (self._recent << 1 | voiced) & ONSET_MASK
        if voiced:
            if (self._recent & HOLD_MASK).bit_count() >= HOLD_FRAMES:
                self._last_voice_ms = self._frame_ms
            return None
        if self._frame_ms < self._last_voice_ms + self.silence_duration_ms:
            return None
        self._speaking = False
        self._recent = 0
        self._committed_ms = self._last_voice_ms + self.silence_duration_ms
        return SpeechStopped(audio_end_ms=round(self._committed_ms), last_voice_ms=round(self._last_voice_ms))

    def _start(self) -> SpeechStarted:
        self._speaking = True
        self._loudest = 0.0
        self._last_voice_ms = self._frame_ms
        first_voice_ms = self._frame_ms - FRAME_MS * self._recent.bit_length()
        start_ms = max(self._committed_ms, first_voice_ms - self.prefix_padding_ms)
        return SpeechStarted(audio_start_ms=round(start_ms))

    def _samples(self, data: bytes) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
        if self.fmt.sample_bytes == 1:
            return _g711_table(self.fmt)[np.frombuffer(data, np.uint8)]
        if self._odd:
            data = self._odd + data
        whole = len(data) & ~1
        self._odd = data[whole:]
        return np.frombuffer(data, "<i2", whole // 2)


def _mode(threshold: float) -> int:
    """WebRTC's aggressiveness for a threshold: 0 below 0.2, 1 below 0.4, 2 up to 0.7, 3 above."""
    return 0 if threshold < 0.2 else 1 if threshold < 0.4 else 2 if threshold <= 0.7 else 3


def _energy(dbfs: float) -> float:
    """Sum of squares of one frame of 16 bit samples at a level."""
    return float(FRAME_SAMPLES * 32768.0**2 * 10 ** (dbfs / 10))


@lru_cache(maxsize=4)
def _g711_table(fmt: AudioFormat) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """The linear value of every G.711 byte."""
    linear = decode(bytes(range(256)), fmt) * 32768.0
    table: np.ndarray[tuple[int], np.dtype[np.int16]] = np.clip(np.rint(linear), -32768, 32767).astype(np.int16)
    return table
