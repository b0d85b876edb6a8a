"""Answers kept as WAV files, when a scenario asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pybase64

from .. import audio
from ..formats import AudioFormat
from ..records import TurnRecord

__all__ = ["AudioKeeper"]


class AudioKeeper:
    """Writes one file a turn into the run folder's ``audio/``.

    Args:
        folder: made on the first answer.
        fmt: of the answers.
    """

    def __init__(self, folder: Path, fmt: AudioFormat) -> None:
        self._folder = folder
        self._fmt = fmt

    def keep(self, record: TurnRecord, deltas: Sequence[bytes | bytearray]) -> None:
        """Write the answer of one turn; deltas that are no base64 end it there."""
        whole = bytearray()
        for delta in deltas:
            try:
                whole += pybase64.b64decode(delta)
            except ValueError:
                break
        self._folder.mkdir(exist_ok=True)
        even = len(whole) - len(whole) % self._fmt.sample_bytes
        name = f"{record.session}-{record.turn}.wav"
        audio.write_wav(self._folder / name, audio.decode(bytes(whole[:even]), self._fmt), self._fmt.rate)
