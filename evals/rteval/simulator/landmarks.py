"""Fingerprints of speech that find in which recording, and where in it, a piece of audio was heard before.

Peaks of the spectrogram are joined in pairs; a pair (two frequencies and the time between them) survives gain, coding
and light noise, and needs no alignment beforehand (A. Wang, "An industrial-strength audio search algorithm", 2003).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..audio import Samples

__all__ = ["HOP", "RATE", "Candidate", "LandmarkIndex"]

RATE = 8_000
HOP = 80
WINDOW = 256
# Bins of 31.25 Hz: the telephone band.
LOW_BIN, HIGH_BIN = 6, 112
PEAK_FRAMES, PEAK_BINS = 4, 5
PEAK_RANGE = 45.0 / 20 * np.log(10)
FAN_OUT = 6
FRAMES_AT_ONCE = 6_000
MAX_FRAMES_APART = 63
# Pairs that occur often say little; a search looks at no more occurrences than this, the rarest pairs first.
MAX_OCCURRENCES = 30_000
OFFSET_BASE = 1 << 31
# Unlike audio agrees in a handful of pairs by chance, the same audio in hundreds.
MIN_VOTES = 4

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recording that may have been heard.

    Attributes:
        recording: its number, in the order of adding.
        votes: pairs that agree on the best offset.
        offsets: where in the recording the heard audio's first sample would be, in samples, best first (may be
            negative); several where a part of the recording is missing or repeated.
    """

    recording: int
    votes: int
    offsets: tuple[int, ...]


class LandmarkIndex:
    """Pairs of many recordings in two sorted arrays: 8 bytes a pair, about 1 KB a second of speech."""

    def __init__(self, recordings: Iterable[Samples]) -> None:
        keys: list[npt.NDArray[np.uint32]] = []
        places: list[npt.NDArray[np.uint32]] = []
        starts = [0]
        for samples in recordings:
            key, frame = _pairs(_peaks(samples))
            keys.append(key.astype(np.uint32))
            places.append((frame + starts[-1]).astype(np.uint32))
            starts.append(starts[-1] + len(samples) // HOP + 1)
        self._starts = np.array(starts, np.int64)
        all_keys = np.concatenate(keys) if keys else np.empty(0, np.uint32)
        order = np.argsort(all_keys, kind="stable")
        self._keys = all_keys[order]
        self._places = np.concatenate(places)[order] if places else np.empty(0, np.uint32)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._keys.nbytes + self._places.nbytes + self._starts.nbytes

    def search(self, heard: Samples, limit: int = 4) -> list[Candidate]:
        """The recordings that share most pairs with ``heard`` at one offset, best first."""
        key, frame = _pairs(_peaks(heard))
        first = np.searchsorted(self._keys, key.astype(np.uint32), "left")
        count = np.searchsorted(self._keys, key.astype(np.uint32), "right") - first
        rare = np.argsort(count, kind="stable")
        rare = rare[(count[rare] > 0) & (np.cumsum(count[rare]) <= MAX_OCCURRENCES)]
        first, count, frame = first[rare], count[rare], frame[rare]
        if not len(rare):
            return []
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        places = self._places[np.repeat(first, count) + within].astype(np.int64)
        recording = np.searchsorted(self._starts, places, "right") - 1
        offset = places - self._starts[recording] - np.repeat(frame, count)
        return _tally(recording, offset, limit)


def _tally(recording: Ints, offset: Ints, limit: int) -> list[Candidate]:
    cells, votes = np.unique(recording << 32 | offset + OFFSET_BASE, return_counts=True)
    # An offset that falls between two frames votes for both.
    spread = votes.copy()
    neighbours = np.flatnonzero(np.diff(cells) == 1)
    spread[neighbours] += votes[neighbours + 1]
    spread[neighbours + 1] += votes[neighbours]
    offsets: dict[int, list[int]] = {}
    best: dict[int, int] = {}
    for cell in np.argsort(-spread, kind="stable")[: 16 * limit].tolist():
        if spread[cell] < MIN_VOTES:
            break
        number = int(cells[cell] >> 32)
        if number not in best and len(best) == limit:
            continue
        best.setdefault(number, int(spread[cell]))
        known = offsets.setdefault(number, [])
        place = (int(cells[cell] & 0xFFFFFFFF) - OFFSET_BASE) * HOP
        if len(known) < 4 and all(abs(place - other) > 2 * HOP for other in known):
            known.append(place)
    return [Candidate(number, best[number], tuple(offsets[number])) for number in best]


def _peaks(samples: Samples) -> tuple[Ints, Ints]:
    """Frames and bins of the spectrogram's peaks, in order of time."""
    count = max(0, (len(samples) - WINDOW) // HOP + 1)
    frames, bands = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    # A minute at a time, each with the margin that a peak must stand out from.
    for start in range(0, count, FRAMES_AT_ONCE):
        margin = min(start, PEAK_FRAMES)
        last = min(count, start + FRAMES_AT_ONCE + PEAK_FRAMES)
        part = samples[(start - margin) * HOP : (last - 1) * HOP + WINDOW]
        frame, band = _local_peaks(part)
        keep = (frame >= margin) & (frame < margin + FRAMES_AT_ONCE)
        frames.append(frame[keep] + start - margin)
        bands.append(band[keep])
    return np.concatenate(frames), np.concatenate(bands)


def _local_peaks(samples: Samples) -> tuple[Ints, Ints]:
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    window = np.hanning(WINDOW).astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=1)[:, LOW_BIN:HIGH_BIN]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    level = (np.log(power + 1e-9) / 2).astype(np.float32)
    highest = _highest(_highest(level, PEAK_FRAMES, 0), PEAK_BINS, 1)
    loud = level > max(float(level.max()) - PEAK_RANGE, np.log(0.01))
    frame, band = np.nonzero((level == highest) & loud)
    return frame.astype(np.int64), band.astype(np.int64)


def _highest(level: npt.NDArray[np.float32], reach: int, axis: int) -> npt.NDArray[np.float32]:
    """The maximum of each cell and its neighbours up to ``reach`` away along an axis."""
    padding = [(0, 0), (0, 0)]
    padding[axis] = (reach, reach)
    padded = np.pad(level, padding, constant_values=-np.inf)
    size = level.shape[axis]
    result = level.copy()
    for shift in range(2 * reach + 1):
        part = padded[shift : shift + size] if axis == 0 else padded[:, shift : shift + size]
        np.maximum(result, part, out=result)
    return result


def _pairs(peaks: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Keys of pairs of near peaks, and the frame of each pair's first peak."""
    frame, band = peaks
    keys, frames = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, FAN_OUT + 1):
        apart = frame[step:] - frame[:-step]
        near = np.flatnonzero((apart > 0) & (apart <= MAX_FRAMES_APART))
        keys.append(band[near] << 13 | band[near + step] << 6 | apart[near])
        frames.append(frame[near])
    return np.concatenate(keys), np.concatenate(frames)
