"""Makes the spoken clips that the simulator answers with: ``python make.py`` beside them, with espeak-ng installed.

The clips are committed; run this only to change them (espeak-ng does not make the same bytes twice everywhere). They
are plain sentences in a few voices, without leading or trailing silence, as Ogg Vorbis at 24 kHz.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from rteval.audio import Samples, read, resample, write

__all__ = ["main", "speak"]

RATE = 24_000
LEVEL_DBFS = -20.0
SENTENCES = (
    ("en-us+f3", 165, "Thank you for calling, I have found your order and it is on its way to you now."),
    ("en-gb+m3", 160, "I am sorry about the trouble, let me look into that for you straight away."),
    ("en-us+m7", 170, "You can change the delivery address in your account, or I can do it for you here."),
    ("en-gb+f2", 160, "The refund was sent this morning, and it should reach your bank within three days."),
    ("en-us+f4", 165, "Is there anything else that I can help you with before we finish the call today?"),
)


def speak(voice: str, words_per_minute: int, text: str) -> Samples:
    """One sentence as mono samples at 24 kHz, trimmed to what is above -50 dB of its peak, at a common level."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-w", path, text], check=True)
        samples, rate = read(path)
    mono = samples[:, 0]
    loud = np.flatnonzero(np.abs(mono) > np.abs(mono).max() * 10 ** (-50 / 20))
    trimmed = resample(mono[loud[0] : loud[-1] + 1], rate, RATE)
    level = 10 ** (LEVEL_DBFS / 20) / np.sqrt(np.mean(np.square(trimmed)))
    return trimmed * np.float32(level)


def main() -> None:
    """Write ``answer-1.ogg`` and so on beside this file."""
    folder = Path(__file__).parent
    for number, (voice, speed, text) in enumerate(SENTENCES, start=1):
        path = folder / f"answer-{number}.ogg"
        samples = np.clip(speak(voice, speed, text), -0.99, 0.99)
        write(path, samples, RATE)
        print(f"{path.name}  {len(samples) / RATE:.2f} s  {path.stat().st_size} bytes  {text}")


if __name__ == "__main__":
    main()
