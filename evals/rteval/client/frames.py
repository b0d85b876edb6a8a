"""Items as frames ready for the wire: encoded once per item, shared by all sessions, and bounded in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import pybase64

from ..corpus import Dataset, Item
from ..formats import AudioFormat
from ..realtime import pacing

__all__ = ["FrameBank", "Speech", "append_frame"]

_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'


def append_frame(piece: bytes) -> bytes:
    """The ``input_audio_buffer.append`` frame for one piece of audio; the same in every dialect."""
    return _APPEND_HEAD + pybase64.b64encode(piece) + _APPEND_TAIL


@dataclass(frozen=True, slots=True)
class Speech:
    """One item's audio, cut and encoded.

    Attributes:
        frames: append frames of ``frame_ms`` each, the last filled up with silence.
        voiced_frames: how many of them it takes to send everything up to the last voiced sample.
        speech_end_ns: offset of the end of the last voiced sample.
        audio_ms: length of the item's own audio.
        speech_ms: first to last voiced sample.
    """

    frames: tuple[bytes, ...]
    voiced_frames: int
    speech_end_ns: int
    audio_ms: float
    speech_ms: float

    @property
    def size_bytes(self) -> int:
        """Memory of the frames."""
        return sum(map(len, self.frames))


class FrameBank:
    """The speech of each item, made on first use and kept while it fits.

    Args:
        dataset: where the audio comes from.
        fmt: the session's input format.
        frame_ms: audio in one frame.
        manual: whether sending stops with the last voiced frame (manual commit); then the rest is not even encoded.
        max_bytes: what may be kept; the least recently used goes first. What a session holds stays alive with it.
    """

    def __init__(
        self, dataset: Dataset, fmt: AudioFormat, frame_ms: int, *, manual: bool, max_bytes: int = 128 << 20
    ) -> None:
        self._dataset = dataset
        self._fmt = fmt
        self._frame_ms = frame_ms
        self._manual = manual
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Speech] = OrderedDict()
        self._kept_bytes = 0
        self._making: dict[str, asyncio.Task[Speech]] = {}
        self.silence = append_frame(fmt.silence * (fmt.frame_bytes(frame_ms) // fmt.sample_bytes))

    def warm(self, items: Iterable[Item]) -> None:
        """Encode items ahead of the run until the memory is full, so that no session pays for it."""
        for item in items:
            if item.modality == "text" or item.id in self._kept:
                continue
            speech = self.encode(item)
            if self._kept_bytes + speech.size_bytes > self._max_bytes:
                return
            self._keep(item.id, speech)

    async def get(self, item: Item) -> Speech:
        """The item's speech; encoding happens in a thread, once however many sessions wait.

        Raises:
            DatasetError: the audio cannot be read any more.
        """
        if item.id in self._kept:
            self._kept.move_to_end(item.id)
            return self._kept[item.id]
        task = self._making.get(item.id)
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(self.encode, item))
            self._making[item.id] = task
            task.add_done_callback(lambda done: self._made(item.id, done))
        return await asyncio.shield(task)

    def encode(self, item: Item) -> Speech:
        """Read, resample, cut and encode one audio item."""
        if item.speech_end_s is None:
            raise ValueError(f"item {item.id!r} has no speech")
        audio = self._dataset.encoded(item, self._fmt)
        frame_bytes = self._fmt.frame_bytes(self._frame_ms)
        at_least_ms = pacing.MIN_COMMIT_MS if self._manual else 0
        voiced_frames = pacing.frame_count(item.speech_end_s, self._frame_ms, at_least_ms=at_least_ms)
        pieces = pacing.cut(audio, frame_bytes)
        pieces += [b""] * (voiced_frames - len(pieces))
        if self._manual:
            del pieces[voiced_frames:]
        return Speech(
            frames=tuple(append_frame(pacing.full_frame(piece, self._fmt, frame_bytes)) for piece in pieces),
            voiced_frames=voiced_frames,
            speech_end_ns=round(item.speech_end_s * 1e9),
            audio_ms=item.duration_s * 1000,
            speech_ms=(item.speech_end_s - (item.speech_start_s or 0.0)) * 1000,
        )

    def _made(self, item_id: str, task: asyncio.Task[Speech]) -> None:
        del self._making[item_id]
        if not task.cancelled() and task.exception() is None:
            self._keep(item_id, task.result())

    def _keep(self, item_id: str, speech: Speech) -> None:
        self._kept[item_id] = speech
        self._kept_bytes += speech.size_bytes
        while self._kept_bytes > self._max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size_bytes
