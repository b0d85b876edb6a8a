"""Samples in, samples out: files, resampling, the wire's encodings and where the voice is; not what a dataset is.

The only address of soundfile and soxr. Samples are float32, full scale is 1.0, and 0 dBFS is an RMS of 1.0 (so a
full-scale sine is -3 dBFS).
"""

from __future__ import annotations

import binascii
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
import numpy.typing as npt
import pybase64
import soundfile  # type: ignore[import-untyped]
import soxr  # type: ignore[import-untyped]

from rteval.formats import PCM16, AudioFormat

__all__ = [
    "DETECTOR",
    "AudioFileError",
    "AudioReader",
    "Channel",
    "Encoder",
    "LeadingSilence",
    "QuickResampler",
    "Samples",
    "VoiceDetector",
    "channel_index",
    "decode",
    "encode",
    "pick_channel",
    "read",
    "resample",
    "voiced_span",
    "write",
    "write_wav",
]

Samples = npt.NDArray[np.float32]
"""Samples as float32: ``[frames]`` for mono, ``[frames, channels]`` for a file."""

Channel = int | Literal["left", "right", "mix"]
"""Which channel of a file is the caller: 0-based number, ``left`` (0), ``right`` (1), or ``mix`` (the mean of all)."""

CHANNELS: Final = {"left": 0, "right": 1}

DETECTOR: Final = "rms10-p95/1"
"""Name and version of the voice detector, stamped into every run: see :class:`VoiceDetector`."""

VOICE_RANGE_DB: Final = 40.0
VOICE_FLOOR_DBFS: Final = -60.0
WINDOWS_PER_S: Final = 100

RATES: Final = range(1_000, 768_001)
"""Sample rates that a recording can have; outside of them a header is broken."""

BLOCK_FRAMES: Final = 1 << 17
"""Frames read at a time: bounds the memory of a file of any length."""


class AudioFileError(Exception):
    """A file that cannot be read as audio; the message is a clause without the file's name: "is empty (0 bytes)"."""


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise AudioFileError("does not exist") from None
    except OSError as error:
        raise AudioFileError(f"cannot be read ({error.strerror or error})") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").strip().rstrip(".")
        raise AudioFileError(f"is broken or not audio ({reason})") from error


class AudioReader:
    """An open audio file, read in blocks so that its length costs no memory.

    Attributes:
        rate: samples per second.
        channels: how many channels.
        frames: samples per channel that the header promises.

    Raises:
        AudioFileError: missing, empty, cut short, not audio, or without a single sample.
    """

    def __init__(self, path: Path) -> None:
        with _our_errors():
            if not path.is_file():
                raise AudioFileError("is not a file" if path.exists() else "does not exist")
            if path.stat().st_size == 0:
                raise AudioFileError("is empty (0 bytes)")
            with path.open("rb") as file:
                missing = _missing_wav_bytes(file)
            self._file: Any = soundfile.SoundFile(path)
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames
        problem = None
        if missing:
            problem = f"is cut short ({missing} bytes of audio that its header promises are missing)"
        elif self.frames <= 0:
            problem = "holds no audio (zero length)"
        elif self.rate not in RATES:
            problem = f"has an impossible sample rate of {self.rate} Hz"
        if problem:
            self.close()
            raise AudioFileError(problem)

    def __enter__(self) -> AudioReader:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate

    def span(self, start_s: float | None, end_s: float | None) -> tuple[int, int]:
        """First frame and the frame after the last of a segment; ``None`` is the file's own start or end."""
        first = 0 if start_s is None else min(round(start_s * self.rate), self.frames)
        last = self.frames if end_s is None else min(round(end_s * self.rate), self.frames)
        return first, last

    def blocks(self, start_s: float | None = None, end_s: float | None = None) -> Iterator[Samples]:
        """The samples of a segment in order, as arrays ``[frames, channels]`` of a bounded size.

        Raises:
            AudioFileError: the file ends or breaks before its header says so.
        """
        first, last = self.span(start_s, end_s)
        with _our_errors():
            if first:
                self._file.seek(first)
            while first < last:
                block: Samples = self._file.read(min(BLOCK_FRAMES, last - first), dtype="float32", always_2d=True)
                if not len(block):
                    raise AudioFileError(f"is cut short (it ends {(last - first) / self.rate:.3f} s early)")
                first += len(block)
                yield block


def _missing_wav_bytes(file: BinaryIO) -> int:
    """How many bytes of its data chunk a WAV file lacks (libsndfile reads such a file without a word).

    0 for anything that is not RIFF WAVE, and for lengths that writers to a pipe leave open (0 and near 2 or 4 GiB).
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return 0
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        if name == b"data":
            unknown = length >= 0x7FFF_F000
            return 0 if unknown else max(0, file.tell() + length - size)
        file.seek(length + length % 2, io.SEEK_CUR)
    return 0


def read(path: Path, start_s: float | None = None, end_s: float | None = None) -> tuple[Samples, int]:
    """All samples of a file or of a segment of it, as an array ``[frames, channels]``, and their rate in Hz.

    Raises:
        AudioFileError: the file is missing, broken or not audio.
    """
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(start_s, end_s))
        samples = np.concatenate(blocks) if blocks else np.empty((0, reader.channels), np.float32)
        return samples, reader.rate


def channel_index(channel: Channel | None) -> int:
    """The 0-based number of a channel; ``mix`` and ``None`` need no more than the first."""
    return CHANNELS.get(channel, 0) if isinstance(channel, str) else channel or 0


def pick_channel(block: Samples, channel: Channel | None) -> Samples:
    """Mono from ``[frames, channels]``: the channel asked for, or the first one for ``None``."""
    if channel == "mix":
        mixed: Samples = block.mean(axis=1, dtype=np.float32)
        return mixed
    return block[:, channel_index(channel)]


def write(path: Path, mono: Samples, rate: int) -> None:
    """Mono samples to a file whose ending names the format: ``.wav`` and ``.flac`` 16-bit, ``.ogg`` Vorbis.

    Raises:
        AudioFileError: the file cannot be written.
    """
    with _our_errors():
        soundfile.write(path, np.clip(mono, -1.0, 1.0), rate)


def resample(mono: Samples, rate: int, new_rate: int) -> Samples:
    """The same sound at ``new_rate`` Hz (soxr, high quality, linear phase: no delay)."""
    if rate == new_rate:
        return mono
    resampled: Samples = soxr.resample(np.ascontiguousarray(mono, np.float32), rate, new_rate)
    return resampled


class QuickResampler:
    """16-bit samples at one rate to 16-bit samples at another, as they come: cubic, and at most 4 samples late.

    Output sample *n* belongs to the time of *n* output samples, however late it comes. Better filters hold back 20 to
    100 ms, so this is for those who decide while they listen and need no fidelity near the upper end of the band.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self._stream = soxr.ResampleStream(rate, new_rate, 1, dtype="int16", quality="QQ")

    def feed(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Take the next samples and give what can be given by now."""
        resampled: npt.NDArray[np.int16] = self._stream.resample_chunk(samples)
        return resampled


class Encoder:
    """Samples at one rate to the bytes of a wire format, piece by piece; the cuts leave no trace in the result."""

    def __init__(self, rate: int, fmt: AudioFormat) -> None:
        self._fmt = fmt
        same = rate == fmt.rate
        self._stream = None if same else soxr.ResampleStream(rate, fmt.rate, 1, dtype="float32")

    def feed(self, mono: Samples, *, last: bool = False) -> bytes:
        """Encode what can be encoded by now; ``last`` flushes the rest (and may come with an empty array)."""
        if self._stream is not None:
            mono = self._stream.resample_chunk(np.ascontiguousarray(mono, np.float32), last=last)
        return _quantise(mono, self._fmt)


def encode(mono: Samples, rate: int, fmt: AudioFormat) -> bytes:
    """Samples at ``rate`` Hz as the bytes of ``fmt``: resampled, clipped at full scale, without a header."""
    return Encoder(rate, fmt).feed(mono, last=True)


def decode(data: bytes | bytearray | memoryview, fmt: AudioFormat) -> Samples:
    """Bytes of ``fmt`` as samples at ``fmt.rate``.

    Raises:
        ValueError: ``data`` is not a whole number of samples.
    """
    if fmt.sample_bytes == 1:
        return _expansion(fmt.name)[np.frombuffer(data, np.uint8)]
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def _quantise(mono: Samples, fmt: AudioFormat) -> bytes:
    pcm: npt.NDArray[np.int16] = np.clip(np.rint(mono * np.float32(32768)), -32768, 32767).astype("<i2")
    if fmt.sample_bytes == 1:
        return _compression(fmt.name)[pcm.view(np.uint16)].tobytes()
    return pcm.tobytes()


# libsndfile knows G.711; asked once for every value there is, it becomes two tables.
_SUBTYPE = {"g711_ulaw": "ULAW", "g711_alaw": "ALAW"}


@cache
def _expansion(name: str) -> Samples:
    """The sample of each of the 256 codes."""
    codes = io.BytesIO(bytes(range(256)))
    subtype = _SUBTYPE[name]
    table: Samples
    table, _ = soundfile.read(codes, format="RAW", subtype=subtype, samplerate=8_000, channels=1, dtype="float32")
    return table


@cache
def _compression(name: str) -> npt.NDArray[np.uint8]:
    """The code of each 16-bit sample, indexed by the sample's bits read as unsigned."""
    raw = io.BytesIO()
    every = np.arange(65_536, dtype=np.uint16).view(np.int16)
    soundfile.write(raw, every, 8_000, format="RAW", subtype=_SUBTYPE[name])
    return np.frombuffer(raw.getvalue(), np.uint8)


def window_frames(rate: int) -> int:
    """Samples of a 10 ms window at ``rate`` Hz, to the nearest whole sample."""
    return max(1, round(rate / WINDOWS_PER_S))


class VoiceDetector:
    """Finds the first and the last voiced sample of a recording that is fed piece by piece.

    A 10 ms window is voiced when its RMS lies within 40 dB of the 95th percentile of all windows of the recording and
    above -60 dBFS. It needs no model and gives the same answer on every machine; it tells sound from silence, not
    speech from noise.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._window = window_frames(rate)
        self._rest: Samples = np.empty(0, np.float32)
        self._energy: list[npt.NDArray[np.float64]] = []
        self._frames = 0

    def feed(self, mono: Samples) -> None:
        """Take the next samples, at the detector's rate."""
        self._frames += len(mono)
        mono = np.concatenate((self._rest, mono)) if len(self._rest) else mono
        whole = len(mono) // self._window * self._window
        windows = mono[:whole].reshape(-1, self._window)
        self._energy.append(np.einsum("ij,ij->i", windows, windows, dtype=np.float64) / self._window)
        self._rest = mono[whole:].copy()

    def span(self) -> tuple[float, float] | None:
        """Start of the first and end of the last voiced window in seconds; ``None`` when nothing is voiced."""
        energy = self._energy
        if len(self._rest):
            energy = [*energy, np.array([np.mean(np.square(self._rest, dtype=np.float64))])]
        rms = np.sqrt(np.concatenate(energy)) if energy else np.empty(0)
        if not len(rms):
            return None
        loud = float(np.percentile(rms, 95))
        voiced = np.flatnonzero((rms >= loud * _amplitude(-VOICE_RANGE_DB)) & (rms > _amplitude(VOICE_FLOOR_DBFS)))
        if not len(voiced):
            return None
        first, last = int(voiced[0]), int(voiced[-1])
        return first * self._window / self._rate, min((last + 1) * self._window, self._frames) / self._rate


def voiced_span(mono: Samples, rate: int) -> tuple[float, float] | None:
    """Where the voice of ``mono`` starts and ends, in seconds, by :class:`VoiceDetector`; ``None`` without voice."""
    detector = VoiceDetector(rate)
    detector.feed(mono)
    return detector.span()


def _amplitude(db: float) -> float:
    return float(10 ** (db / 20))


class LeadingSilence:
    """Silence at the head of an answer that arrives in base64 deltas, decoded only until the first sound.

    Attributes:
        ms: silence before the first 10 ms window louder than the threshold, a multiple of 10; ``None`` as long as
            (and in the end when) all was silent.
        broken: a delta was no base64, so nothing can be said.
    """

    def __init__(self, fmt: AudioFormat, threshold_dbfs: float = -50.0) -> None:
        self._fmt = fmt
        self._threshold = _amplitude(threshold_dbfs)
        self._window_bytes = window_frames(fmt.rate) * fmt.sample_bytes
        self._rest = b""
        self._silent_windows = 0
        self.ms: float | None = None
        self.broken = False

    @property
    def done(self) -> bool:
        """Whether further deltas cannot change the answer."""
        return self.broken or self.ms is not None

    def feed(self, delta: bytes | bytearray | memoryview | str) -> None:
        """Take the base64 text of the next audio delta; samples and windows may be cut anywhere between deltas."""
        if self.done:
            return
        try:
            data = self._rest + pybase64.b64decode(delta, validate=True)
        except (binascii.Error, ValueError):
            self.broken = True
            return
        whole = len(data) // self._window_bytes * self._window_bytes
        self._rest = data[whole:]
        if not whole:
            return
        windows = decode(data[:whole], self._fmt).reshape(-1, window_frames(self._fmt.rate))
        loud = np.flatnonzero(np.sqrt(np.mean(np.square(windows, dtype=np.float64), axis=1)) > self._threshold)
        if len(loud):
            self.ms = (self._silent_windows + int(loud[0])) * 1000.0 / WINDOWS_PER_S
        self._silent_windows += len(windows)


assert PCM16.sample_bytes == 2  # decode() and _quantise() know two widths


def write_wav(path: Path, mono: Samples, rate: int) -> None:
    """Write mono samples as a 16-bit WAV file.

    Raises:
        AudioFileError: the file cannot be written.
    """
    with _our_errors():
        soundfile.write(path, mono, rate, subtype="PCM_16")
