"""Lays heard audio over a recording of what it may be, and tells which 10 ms of which are found in the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..audio import Samples, resample
from .blocks import SHORTEST_BLOCKS, Mask, closed, long_runs, runs_of
from .landmarks import HOP, RATE

__all__ = ["BLOCK_S", "Overlay", "Sound", "lay", "narrow"]

BLOCK_S = HOP / RATE
# Blocks of 10 ms count as sounding within this range of the loud ones, and above this level.
SOUND_RANGE_DB = 40.0
SOUND_FLOOR_DBFS = -62.0
DIGITAL_SILENCE_DBFS = -90.0
# A block is found when 30 ms around it correlate this well: noise as loud as the speech still allows 0.7.
SAME = 0.6
# Waves are aligned in stretches of 128 ms, up to 16 ms (landmarks are good to 10) to both sides.
STRETCH = 1024
REACH = 128
MAX_PIECES = 6


@dataclass(frozen=True, slots=True)
class Sound:
    """Audio as it is compared.

    Attributes:
        wave: what :func:`narrow` leaves.
        energy: mean square of each block of 10 ms.
        sounding: which blocks sound.
        noise: the energy of the quietest tenth, digital silence left out.
    """

    wave: Samples
    energy: Samples
    sounding: Mask
    noise: float

    @classmethod
    def of(cls, mono: Samples, rate: int, *, noisiest_db: float = -12.0) -> Sound:
        """The sound of mono samples at a rate; noise is at most ``noisiest_db`` from what is loud."""
        wave = narrow(mono, rate)
        energy = _energy(wave)
        return cls(wave, energy, _sounding(energy, noisiest_db), _noise(energy))


def narrow(mono: Samples, rate: int) -> Samples:
    """Telephone bandwidth, with the lows tilted down: hum does not correlate, and every format looks alike."""
    wave = resample(mono, rate, RATE)
    tilted = wave.copy()
    tilted[1:] -= np.float32(0.9) * wave[:-1]
    return tilted


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a comparison found.

    ``here`` are the item's blocks that were looked at; ``found`` those that were heard, ``decidable`` those that could
    have been (not drowned in noise); ``explained`` are the heard audio's blocks that are silent or the item's.
    """

    here: slice
    found: Mask
    decidable: Mask
    explained: Mask
    confidence: float
    offset_s: float


def _energy(wave: Samples) -> Samples:
    """Mean square of each block of 10 ms."""
    blocks = wave[: len(wave) // HOP * HOP].reshape(-1, HOP)
    energy: Samples = np.einsum("ij,ij->i", blocks, blocks) / np.float32(HOP)
    return energy


def _sounding(energy: Samples, noisiest_db: float) -> Mask:
    """Which blocks sound: within a range of the loud ones, above a floor, and above the noise between words."""
    if not len(energy):
        return np.zeros(0, np.bool_)
    loud = float(np.percentile(energy, 95))
    noise = min(4.0 * _noise(energy), loud * 10 ** (noisiest_db / 10))
    mask: Mask = energy > max(loud * 10 ** (-SOUND_RANGE_DB / 10), 10 ** (SOUND_FLOOR_DBFS / 10), noise)
    return mask


def _noise(energy: Samples) -> float:
    """The level of the quietest tenth, digital silence left out: a sender fills up with it, and no room is so quiet."""
    real = energy[energy > 10 ** (DIGITAL_SILENCE_DBFS / 10)]
    return float(np.percentile(real, 10)) if len(real) else 0.0


def lay(known: Sound, heard: Sound, offsets: Sequence[int]) -> Overlay:
    """Lay heard audio over an item, piece by piece: at the landmarks' offsets first, then where the rest fits best."""
    # Only the stretch of a long recording that the landmarks point at is looked at.
    first = max(0, min(offsets) - RATE) // HOP * HOP
    item = known.wave[first : max(offsets) + len(heard.wave) + RATE]
    here = slice(first // HOP, first // HOP + len(item) // HOP)
    missing, unexplained = known.sounding[here].copy(), heard.sounding.copy()
    decidable = np.ones(len(missing), np.bool_)
    found = np.zeros(len(missing), np.bool_)
    quality = np.zeros(len(missing), np.float32)
    offset_s = 0.0
    hints: list[int | None] = [offset for offset in offsets]
    for hint in [*hints, *[None] * MAX_PIECES]:
        if not (long_runs(missing) and long_runs(unexplained)) or (hint is None and not found.any()):
            break
        mine, theirs = _masked(item, missing), _masked(heard.wave, unexplained)
        if hint is None:
            shift, fraction = _best_shift(mine, theirs)
        else:
            shift, fraction = _near_shift(mine, theirs, first - hint)
        same, gain = _correlation(item, heard.wave, shift, fraction)
        fresh = (same > SAME) & missing
        places = (np.arange(len(missing)) * HOP + shift) // HOP
        inside = (places >= 0) & (places < len(unexplained))
        fresh &= inside
        fresh[inside] &= ~heard.sounding[places[inside]] | unexplained[places[inside]]
        fresh = runs_of(fresh, SHORTEST_BLOCKS // 2)
        if fresh.sum() < SHORTEST_BLOCKS:
            if hint is None:
                break
            continue
        if not found.any():
            loudness = float(np.median(gain[fresh]))
            hidden = known.energy[here] * loudness <= heard.noise
            # Noise hides only where there is noise: not beyond the heard audio, nor where it is all but silent.
            hidden &= inside
            hidden[inside] &= heard.energy[places[inside]] > heard.noise / 8
            decidable = ~hidden
            missing &= decidable
        if not found[np.flatnonzero(fresh)[-1] :].any():
            offset_s = (shift - first) / RATE
        found |= fresh
        missing &= ~fresh
        quality[fresh] = same[fresh]
        covered = places[closed(fresh, 8) & inside]
        unexplained[covered] = False
        unexplained[np.minimum(covered + 1, len(unexplained) - 1)] = False
    return Overlay(here, found, decidable, ~unexplained, float(quality[found].mean()) if found.any() else 0.0, offset_s)


def _masked(wave: Samples, blocks: Mask) -> Samples:
    """The wave with silence where the mask is false."""
    return wave[: len(blocks) * HOP] * np.repeat(blocks, HOP)


def _near_shift(item: Samples, heard: Samples, about: int) -> tuple[int, float]:
    """The shift (heard position less item position, in samples) near ``about`` at which two waves fit best.

    Correlates 128 ms at a time, which costs a fifth of a correlation of the whole.
    """
    begin, end = max(0, -about), min(len(item), len(heard) - about)
    count = -(-max(0, end - begin) // STRETCH)
    if not count:
        return about, 0.0
    mine = np.zeros((count, STRETCH), np.float32)
    mine.reshape(-1)[: end - begin] = item[begin:end]
    theirs = np.zeros(count * STRETCH + 2 * REACH, np.float32)
    from_, upto = begin + about - REACH, end + about + REACH
    part = heard[max(0, from_) : upto]
    theirs[max(0, -from_) : max(0, -from_) + len(part)] = part
    windows = np.lib.stride_tricks.sliding_window_view(theirs, STRETCH + 2 * REACH)[::STRETCH]
    size = STRETCH + 2 * REACH
    spectrum = (np.fft.rfft(windows, size) * np.fft.rfft(mine, size).conj()).sum(axis=0)
    top, fraction = _top(np.fft.irfft(spectrum, size)[: 2 * REACH + 1])
    return about - REACH + top, fraction


def _best_shift(item: Samples, heard: Samples) -> tuple[int, float]:
    """The shift at which two waves fit best, wherever it is."""
    size = 1 << (len(item) + len(heard) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(item, size).conj(), size)
    top, fraction = _top(product)
    return (top if top < len(heard) else top - size), fraction


def _top(product: npt.NDArray[np.floating[Any]]) -> tuple[int, float]:
    """The place of the largest value, and how far beyond it (in parts of a step) the peak through its neighbours is."""
    top = int(np.argmax(np.abs(product)))
    before, peak, after = (abs(float(product[(top + step) % len(product)])) for step in (-1, 0, 1))
    bend = before - 2 * peak + after
    return top, (0.5 * (before - after) / bend if bend else 0.0)


def _correlation(item: Samples, heard: Samples, shift: int, fraction: float) -> tuple[Samples, Samples]:
    """How well the 30 ms around each block of the item correlate with the heard audio at a shift, and at which gain.

    Correlations are 0 to 1 whatever the sign, gains are ratios of power.
    """
    count = len(item) // HOP
    result, gain = np.zeros(count, np.float32), np.zeros(count, np.float32)
    begin = max(0, -(shift // HOP))
    end = min(count, (len(heard) - shift) // HOP)
    if end <= begin:
        return result, gain
    part = heard[begin * HOP + shift : end * HOP + shift]
    if abs(fraction) > 0.1:
        part = np.convolve(part, _delay(round(fraction, 1)), "same").astype(np.float32)
    mine, theirs = item[begin * HOP : end * HOP].reshape(-1, HOP), part.reshape(-1, HOP)
    ones = np.ones(3, np.float32)
    both, own, their = (
        np.convolve(np.einsum("ij,ij->i", a, b), ones, "same")[: end - begin]
        for a, b in ((mine, theirs), (mine, mine), (theirs, theirs))
    )
    result[begin:end] = np.abs(both) / np.sqrt(own * their + 1e-12)
    gain[begin:end] = np.square(both / (own + 1e-12))
    return result, gain


@lru_cache(maxsize=16)
def _delay(fraction: float) -> Samples:
    """A filter that moves a wave ahead by a fraction of a sample."""
    taps = np.arange(-8, 9)
    result: Samples = (np.sinc(taps + fraction) * np.hanning(19)[1:-1]).astype(np.float32)
    return result
