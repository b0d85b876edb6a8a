"""How much memory a dataset of many hours takes: every item checked, then every item encoded, one after the other.

    python benchmarks/dataset_memory.py [--hours 10] [--file-minutes 60] [--limit-mb 500]

The recordings are sparse WAV files in a temporary folder (16 kHz mono and, every fourth, 48 kHz stereo: a second of
noise, then a hole), so that the disk stays empty. The work is done in a process of its own, whose peak resident set is
read when it has ended. Exits 1 beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORK = """
import json, resource, sys, time
from rteval.corpus import load_dataset
from rteval.formats import FORMATS
start = time.perf_counter()
dataset = load_dataset(sys.argv[1])
loaded = time.perf_counter()
wire = sum(len(dataset.encoded(item, FORMATS[sys.argv[2]])) for item in dataset.items)
done = time.perf_counter()
try:
    # Not ru_maxrss: on Linux that begins with what the parent had at the moment of the fork.
    peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
except FileNotFoundError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"items": len(dataset.items), "hours": dataset.audio_s / 3600, "load_s": loaded - start,
                  "encode_s": done - loaded, "wire_mb": wire / 1e6, "peak_mb": peak / 1e6}))
"""


def sparse_wav(path: Path, *, rate: int, channels: int, seconds: float) -> None:
    """A WAV file of which only the first second is on the disk."""
    frame = 2 * channels
    length = int(rate * seconds) * frame
    noise = np.random.default_rng(1).integers(-8_000, 8_000, (rate, 1), dtype=np.int16)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + length, b"WAVE", b"fmt ", 16, 1, channels, rate,
                       rate * frame, frame, 16, b"data", length)  # fmt: skip
    with path.open("wb") as file:
        file.write(head + np.repeat(noise, channels, axis=1).tobytes()[:length])
        file.truncate(len(head) + length)


def measure(*, hours: float, file_minutes: float, fmt: str) -> dict[str, float]:
    """Make the dataset, run the work in a process of its own, and return its figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = []
        for n in range(max(1, round(hours * 60 / file_minutes))):
            wide = n % 4 == 3
            names.append(f"{n:03}.wav")
            sparse_wav(
                folder / names[-1],
                rate=48_000 if wide else 16_000,
                channels=2 if wide else 1,
                seconds=file_minutes * 60,
            )
        lines = (json.dumps({"file_name": name}) + "\n" for name in names)
        (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
        # Reading a hole costs next to nothing, so the hash, the detector and the resampler do all of the work.
        command = [sys.executable, "-c", WORK, str(folder), fmt]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1_800, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        figures: dict[str, float] = json.loads(done.stdout)
        return figures


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--file-minutes", type=float, default=60.0)
    parser.add_argument("--format", choices=["pcm16", "g711_ulaw", "g711_alaw"], default="pcm16")
    parser.add_argument("--limit-mb", type=float, default=500.0)
    options = parser.parse_args()
    start = time.perf_counter()
    figures = measure(hours=options.hours, file_minutes=options.file_minutes, fmt=options.format)
    cpus = os.cpu_count()
    print(json.dumps({**figures, "limit_mb": options.limit_mb, "wall_s": time.perf_counter() - start, "cpus": cpus}))
    raise SystemExit(int(figures["peak_mb"] > options.limit_mb))


if __name__ == "__main__":
    main()
