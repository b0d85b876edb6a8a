"""The sound of an answer: how much of it is clipped, how loud it is and how much of it is silence.

Definitions, with 0 dBFS at an RMS of 1.0 (a full-scale sine is -3 dBFS) and windows of 10 ms:

- clipped: samples in runs of three or more at full scale, which no speech has by itself; a share of all samples.
- loudness: RMS of all windows that are not silent, in dBFS. It is no loudness after ITU-R BS.1770: nothing is weighted.
- silence: windows at or below -50 dBFS, pauses and both ends included; a share of all windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import audio
from ..formats import G711_ULAW

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AUDIO", "AUDIO_COLUMNS", "AnswerSound", "answer_file", "listen", "measure_answers"]

AUDIO = "audio"
"""Folder of a run folder that holds the answers that were kept, one WAV file each."""

AUDIO_COLUMNS = ("output_clipped_share", "output_loudness_dbfs", "output_silence_share")

SILENT_DBFS = -50.0
WINDOWS_PER_S = 100
CLIPPED_RUN = 3

# libsndfile writes 16-bit files with a full scale of 32 767 steps, so a step may be lost on the way.
FULL_SCALE = 32_766 / 32_768
# The largest steps of ITU-T G.711 are 32 124 (mu-law) and 32 256 (A-law).
FULL_SCALE_G711 = 32_123 / 32_768


@dataclass(frozen=True, slots=True)
class AnswerSound:
    """What one answer sounds like; ``None`` where it does not apply.

    Attributes:
        clipped_share: of all samples; ``None`` without a sample.
        loudness_dbfs: ``None`` when all is silent.
        silence_share: of all windows; ``None`` when there is no whole window.
    """

    clipped_share: float | None = None
    loudness_dbfs: float | None = None
    silence_share: float | None = None


def listen(samples: npt.NDArray[np.float32], rate: int, *, full_scale: float = FULL_SCALE) -> AnswerSound:
    """Measure one answer.

    Args:
        samples: mono, full scale is 1.0.
        rate: samples per second.
        full_scale: from which value on a sample counts as clipped.
    """
    if not len(samples):
        return AnswerSound()
    clipped = _in_runs(np.abs(samples) >= full_scale - 1e-6)
    length = rate // WINDOWS_PER_S
    whole = len(samples) // length * length if length else 0
    if not whole:
        return AnswerSound(clipped / len(samples))
    power = np.mean(np.square(samples[:whole].reshape(-1, length), dtype=np.float64), axis=1)
    loud = power > 10 ** (SILENT_DBFS / 10)
    return AnswerSound(
        clipped / len(samples),
        float(10 * np.log10(power[loud].mean())) if loud.any() else None,
        float(1 - loud.mean()),
    )


def answer_file(run_dir: Path, session: str, turn: int) -> Path:
    """Where the answer of a turn is, if it was kept."""
    # A table that was edited by hand leads nowhere else.
    return run_dir / AUDIO / Path(f"{session}-{turn}.wav").name


def measure_answers(turns: pd.DataFrame, run_dir: Path) -> pd.DataFrame:
    """Measure every answer that was kept.

    Args:
        turns: the raw turn table.
        run_dir: the run folder.

    Returns:
        ``AUDIO_COLUMNS`` in the turns' order; missing where no answer was kept or its file cannot be read.
    """
    import pandas as pd

    kept = (run_dir / AUDIO).is_dir()
    keys = zip(turns["session"], turns["turn"], turns["output_rate_bytes_per_s"], strict=True)
    sounds = [_listen_to(answer_file(run_dir, *key), rate) if kept else AnswerSound() for *key, rate in keys]
    columns: dict[str, Any] = {
        f"output_{name}": pd.array([getattr(sound, name) for sound in sounds], dtype="float64")
        for name in AnswerSound.__dataclass_fields__
    }
    return pd.DataFrame(columns, index=turns.index)


def _listen_to(path: Path, bytes_per_s: Any) -> AnswerSound:
    try:
        samples, rate = audio.read(path)
    except (audio.AudioFileError, ValueError):
        return AnswerSound()
    full_scale = FULL_SCALE_G711 if bytes_per_s == G711_ULAW.bytes_per_s else FULL_SCALE
    return listen(samples[:, 0], rate, full_scale=full_scale)


def _in_runs(flags: npt.NDArray[np.bool_]) -> int:
    """How many flags are set in runs of ``CLIPPED_RUN`` or more."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.view(np.int8), [0]))))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())
