"""Answers kept as WAV files, when a scenario asks for them; a thread writes them, so that no session waits."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybase64

from .. import audio
from ..errors import RunFolderError
from ..formats import AudioFormat
from ..records import TurnRecord

__all__ = ["AudioKeeper"]


class AudioKeeper:
    """Writes one file a turn into the run folder's ``audio/``.

    Args:
        folder: made on the first answer.
        fmt: of the answers.

    Attributes:
        failure: why an answer could not be written, or ``None``.
    """

    def __init__(self, folder: Path, fmt: AudioFormat) -> None:
        self._folder = folder
        self._fmt = fmt
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audio")
        self.failure: RunFolderError | None = None

    def keep(self, record: TurnRecord, deltas: Sequence[bytes | bytearray]) -> None:
        """Have the answer of one turn written; deltas that are no base64 end it there."""
        self._thread.submit(self._write, f"{record.session}-{record.turn}.wav", list(deltas))

    def close(self) -> None:
        """Wait until all is written."""
        self._thread.shutdown()

    def _write(self, name: str, deltas: Sequence[bytes | bytearray]) -> None:
        whole = bytearray()
        for delta in deltas:
            try:
                whole += pybase64.b64decode(delta)
            except ValueError:
                break
        even = len(whole) - len(whole) % self._fmt.sample_bytes
        path = self._folder / name
        try:
            self._folder.mkdir(exist_ok=True)
            audio.write_wav(path, audio.decode(bytes(whole[:even]), self._fmt), self._fmt.rate)
        except (audio.AudioFileError, OSError) as error:
            self.failure = self.failure or RunFolderError(f"{path} cannot be written: {error}")
