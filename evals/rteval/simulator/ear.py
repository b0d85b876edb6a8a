"""Hears which dataset item was spoken, and which of its words arrived, by comparing audio with the dataset's audio.

Landmarks name a few candidates; then the heard waveform is laid over the candidate's, and every 10 ms of the item are
either found in what was heard or not. Words lie where pauses and the number of their letters put them; a word whose
sound is missing is missing from the transcript. So audio that was lost, came at a wrong rate or is of something else
never yields the reference.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..audio import Samples, decode, resample
from ..corpus import Dataset, Item
from ..formats import AudioFormat
from .cache import ByteCache
from .landmarks import HOP, RATE, Candidate, LandmarkIndex

__all__ = ["Ear", "Heard", "count_word_errors"]

Mask = npt.NDArray[np.bool_]

BLOCK_S = HOP / RATE
# Blocks of 10 ms count as sounding within this range of the loud ones, and above this level.
SOUND_RANGE_DB = 40.0
SOUND_FLOOR_DBFS = -62.0
# A block is found when 30 ms around it correlate this well: noise as loud as the speech still allows 0.7.
SAME = 0.6
# The shortest stretch that is taken as found, and the shortest that is taken as lost.
SHORTEST_BLOCKS = 6
LOST_BLOCKS = 5
PAUSE_BLOCKS = 15
# Waves are aligned in stretches of 128 ms, up to 16 ms (landmarks are good to 10) to both sides.
STRETCH = 1024
REACH = 128
MAX_PIECES = 6
# An item is named when its sound explains this much of what sounded, and at least this much of it came.
MIN_EXPLAINED = 0.5
MIN_FOUND_S = 0.15
# A candidate with fewer than a tenth of the best one's votes is not compared.
FEWEST_VOTES = 10
WAVE_CACHE_BYTES = 64_000_000
SECONDS_PER_NOISE_WORD = 0.4

# Words for errors: each is itself after the normalisers, and none is a number, a filler or a form of another.
WORDS = (
    "apple", "basket", "candle", "desert", "engine", "feather", "garden", "hammer", "island", "jacket", "kettle",
    "ladder", "marble", "needle", "orange", "pepper", "quarry", "ribbon", "saddle", "tunnel", "velvet", "window",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """What was recognised in a piece of audio.

    Attributes:
        item: the dataset item, or ``None`` for silence and for audio of something else.
        confidence: mean correlation of what was found, 0 to 1.
        coverage: share of the item's sounding time that was found.
        explained: share of the heard audio's sounding time that is the item's.
        words: for each word of the item's reference whether its sound arrived; of a word that an end of speech cut
            in two, the later half counts.
        extra_s: seconds of sound that are not the item's.
        offset_s: where the item's first sample lies in the heard audio (negative: its start was cut off); with a part
            lost on the way, where the last part that was heard puts it.
        voice_end_s: end of the last sound of a caller in the heard audio; ``None`` when all is silent.
        found: a byte for each 10 ms of the item, 1 where it was found here or in the part before.
        said: for each word whether it is in this part or in one before.
    """

    item: Item | None
    confidence: float = 0.0
    coverage: float = 0.0
    explained: float = 0.0
    words: tuple[bool, ...] = ()
    extra_s: float = 0.0
    offset_s: float | None = None
    voice_end_s: float | None = None
    found: bytes = field(default=b"", repr=False)
    said: tuple[bool, ...] = field(default=(), repr=False)

    @property
    def complete(self) -> bool:
        """Whether every word of the item arrived and nothing else did."""
        return self.item is not None and all(self.words) and self.extra_s < SECONDS_PER_NOISE_WORD


class Ear:
    """Knows the audio of datasets; not for use from several threads at once.

    Args:
        datasets: whose items can be heard. Their audio is read once for the index and again, a few items at a time,
            when they are heard; 64 MB of it are kept.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._items = [(dataset, item) for dataset in datasets for item in dataset.items if item.path is not None]
        self._numbers = {id(item): number for number, (_, item) in enumerate(self._items)}
        self._texts: dict[str, Item] = {}
        for dataset in datasets:
            for item in dataset.items:
                if item.text is not None:
                    self._texts.setdefault(item.text.strip(), item)
        self._index = LandmarkIndex(_narrow(*dataset.samples(item)) for dataset, item in self._items)
        self._known: ByteCache[_Known] = ByteCache(WAVE_CACHE_BYTES, lambda known: known.wave.nbytes)

    def read(self, text: str) -> Item | None:
        """The text prompt of the datasets that reads exactly like ``text`` (blanks around it aside)."""
        return self._texts.get(text.strip())

    def hear(self, data: bytes, fmt: AudioFormat, after: Heard | None = None) -> Heard:
        """Recognise a piece of audio.

        Args:
            data: audio as it was received and committed.
            fmt: what its bytes are said to be.
            after: what was heard before in the session: where two items fit alike (a part of an utterance may be that
                short), the one that goes on wins; and words that were cut in two are put together again.
        """
        wave = _narrow(decode(data[: len(data) // fmt.sample_bytes * fmt.sample_bytes], fmt), fmt.rate)
        energy = _energy(wave)
        sounding = _sounding(energy)
        if not sounding.any():
            return Heard(None)
        voice_end_s = (int(np.flatnonzero(sounding)[-1]) + 1) * BLOCK_S
        received = _Heard(wave, sounding, _noise(energy))
        best = Heard(None, extra_s=float(sounding.sum()) * BLOCK_S, voice_end_s=voice_end_s)
        preferred = None if after is None or after.item is None else self._numbers.get(id(after.item))
        candidates = self._index.search(wave)
        for candidate in sorted(candidates, key=lambda candidate: candidate.recording != preferred):
            if candidate.recording != preferred and candidate.votes * FEWEST_VOTES < candidates[0].votes:
                continue
            heard = self._compare(candidate, received, voice_end_s, after)
            if heard is None:
                continue
            better = heard.explained + heard.coverage / 4 > best.explained + best.coverage / 4 + 0.02
            if best.item is None or better:
                best = heard
            if best.explained > 0.97 and (best.coverage > 0.97 or candidate.recording == preferred):
                break
        return best

    def transcript(self, heard: Heard, rng: random.Random, word_error_rate: float = 0.0) -> str | None:
        """What a recogniser would write: the words that arrived, and words of noise, with errors at the given rate.

        ``None`` when nothing was recognised, or the item has no reference.
        """
        if heard.item is None or heard.item.reference is None:
            return None
        words = [
            word for word, arrived in zip(heard.item.reference.split(), heard.words, strict=True) if arrived
        ] + rng.choices(WORDS, k=int(heard.extra_s / SECONDS_PER_NOISE_WORD))
        if word_error_rate > 0:
            words = list(_with_errors(words, rng, word_error_rate))
        return " ".join(words)

    def _compare(self, candidate: Candidate, heard: _Heard, voice_end_s: float, after: Heard | None) -> Heard | None:
        dataset, item = self._items[candidate.recording]
        known = self._known.get(candidate.recording, lambda: _know(dataset, item))
        overlay = _overlay(known, heard, candidate.offsets)
        sounding, found = known.sounding.copy(), np.zeros(len(known.sounding), np.bool_)
        sounding[overlay.here] &= overlay.decidable
        found[overlay.here] = overlay.found
        found_s, total_s = (float((blocks & sounding).sum()) * BLOCK_S for blocks in (found, sounding))
        explained = float((overlay.explained & heard.sounding).sum()) / float(heard.sounding.sum())
        if not found_s or found_s < min(MIN_FOUND_S, total_s / 2) or explained < MIN_EXPLAINED:
            return None
        said = (False,) * len(known.words)
        if after is not None and after.item is item and after.found:
            before = np.frombuffer(after.found, np.bool_)
            # Else it is the same item once more.
            if (before & found).sum() * 4 < found.sum():
                found, said = before | found, after.said
        arrived = _arrived(known.words, sounding, found)
        return Heard(
            item=item,
            confidence=overlay.confidence,
            coverage=found_s / total_s,
            explained=explained,
            words=tuple(here and not before for here, before in zip(arrived, said, strict=True)),
            extra_s=_long_runs(~overlay.explained) * BLOCK_S,
            offset_s=overlay.offset_s,
            voice_end_s=voice_end_s,
            found=found.tobytes(),
            said=tuple(here or before for here, before in zip(arrived, said, strict=True)),
        )


# ---- sound ----


@dataclass(frozen=True, slots=True)
class _Known:
    """An item's audio: narrow-band wave, which blocks of it sound, and in which blocks its words lie."""

    wave: Samples
    energy: Samples
    sounding: Mask
    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Heard:
    """Received audio: narrow-band wave, which blocks of it sound, and the level of what is between them."""

    wave: Samples
    sounding: Mask
    noise: float


@dataclass(frozen=True, slots=True)
class _Overlay:
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


def _narrow(mono: Samples, rate: int) -> Samples:
    """Telephone bandwidth, with the lows tilted down: hum does not correlate, and every format looks alike."""
    wave = resample(mono, rate, RATE)
    tilted = wave.copy()
    tilted[1:] -= np.float32(0.9) * wave[:-1]
    return tilted


def _know(dataset: Dataset, item: Item) -> _Known:
    wave = _narrow(*dataset.samples(item))
    energy = _energy(wave)
    sounding = _sounding(energy)
    return _Known(wave, energy, sounding, _spread(item.reference.split(), sounding) if item.reference else ())


def _energy(wave: Samples) -> Samples:
    """Mean square of each block of 10 ms."""
    blocks = wave[: len(wave) // HOP * HOP].reshape(-1, HOP)
    energy: Samples = np.einsum("ij,ij->i", blocks, blocks) / np.float32(HOP)
    return energy


def _sounding(energy: Samples) -> Mask:
    """Which blocks sound: within a range of the loud ones, above a floor, and above the noise between words."""
    if not len(energy):
        return np.zeros(0, np.bool_)
    loud = float(np.percentile(energy, 95))
    noise = min(4.0 * _noise(energy), loud * 10 ** (-12 / 10))
    mask: Mask = energy > max(loud * 10 ** (-SOUND_RANGE_DB / 10), 10 ** (SOUND_FLOOR_DBFS / 10), noise)
    return mask


def _noise(energy: Samples) -> float:
    """The level of the quietest tenth."""
    return float(np.percentile(energy, 10)) if len(energy) else 0.0


def _overlay(known: _Known, heard: _Heard, offsets: Sequence[int]) -> _Overlay:
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
        if not (_long_runs(missing) and _long_runs(unexplained)) or (hint is None and not found.any()):
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
        fresh = _runs_of(fresh, SHORTEST_BLOCKS // 2)
        if fresh.sum() < SHORTEST_BLOCKS:
            if hint is None:
                break
            continue
        if not found.any():
            loudness = float((gain[fresh]).mean())
            decidable = known.energy[here] * loudness > heard.noise
            missing &= decidable
        if not found[np.flatnonzero(fresh)[-1] :].any():
            offset_s = (shift - first) / RATE
        found |= fresh
        missing &= ~fresh
        quality[fresh] = same[fresh]
        covered = places[_closed(fresh, 8) & inside]
        unexplained[covered] = False
        unexplained[np.minimum(covered + 1, len(unexplained) - 1)] = False
    return _Overlay(
        here, found, decidable, ~unexplained, float(quality[found].mean()) if found.any() else 0.0, offset_s
    )


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


# ---- blocks ----


def _edges(mask: Mask) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Starts and ends (exclusive) of the runs of true."""
    change = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    return np.flatnonzero(change == 1), np.flatnonzero(change == -1)


def _runs_of(mask: Mask, shortest: int) -> Mask:
    """The runs of true that are at least so long."""
    result = mask.copy()
    for start, end in zip(*_edges(mask), strict=True):
        if end - start < shortest:
            result[start:end] = False
    return result


def _closed(mask: Mask, longest: int) -> Mask:
    """The mask with gaps of at most so many blocks filled."""
    return ~_runs_of(~mask, longest + 1) | mask


def _long_runs(mask: Mask) -> int:
    """Blocks in runs (small gaps aside) that are long enough to be a sound of their own."""
    return int((_runs_of(_closed(mask, 3), SHORTEST_BLOCKS) & mask).sum())


# ---- words ----


def _spread(words: Sequence[str], sounding: Mask) -> tuple[tuple[int, int], ...]:
    """In which blocks each word lies: by its share of the letters, with word borders moved into near pauses."""
    active = np.flatnonzero(sounding)
    if not len(active) or not words:
        return tuple((0, 0) for _ in words)
    # Time that counts: everything but pauses.
    speech = _closed(sounding, PAUSE_BLOCKS - 1)
    speech[: active[0]] = False
    speech[active[-1] + 1 :] = False
    clock = np.flatnonzero(speech)
    letters = np.array([len(word) + 1 for word in words], float)
    borders = np.concatenate(([0.0], np.cumsum(letters) / letters.sum())) * len(clock)
    # Where each pause lies on that clock.
    pauses = np.flatnonzero(np.diff(clock) > 1) + 1
    borders = _snapped(borders, pauses, [word[-1:] in ",.;:?!-" for word in words])
    starts = [int(clock[min(int(border), len(clock) - 1)]) for border in borders[:-1]]
    ends = [int(clock[max(int(border) - 1, 0)]) + 1 for border in borders[1:]]
    return tuple(zip(starts, ends, strict=True))


def _snapped(borders: npt.NDArray[np.float64], pauses: npt.NDArray[np.int64], stops: Sequence[bool]) -> Samples:
    """Borders between words, each pause having drawn the border it fits best; what lies between moves along."""
    inner = len(borders) - 2
    if inner <= 0 or not len(pauses):
        return np.rint(borders)
    # cost[p][b]: the p-th pause takes the b-th inner border; pauses and borders keep their order.
    distance = np.abs(borders[1:-1][None, :] - pauses[:, None])
    distance -= np.where(stops[:-1], 25.0, 0.0)[None, :]
    take = min(len(pauses), inner)
    pauses, distance = pauses[:take], distance[:take]
    cost = np.full((take, inner), np.inf)
    cost[0] = distance[0]
    for pause in range(1, take):
        cost[pause, 1:] = distance[pause, 1:] + np.minimum.accumulate(cost[pause - 1])[:-1]
    anchors = []
    last = inner
    for pause in range(take - 1, -1, -1):
        last = int(np.argmin(cost[pause, :last]))
        anchors.append((last + 1, int(pauses[pause])))
    old = [0.0, *(float(borders[border]) for border, _ in reversed(anchors)), float(borders[-1])]
    new = [0.0, *(float(place) for _, place in reversed(anchors)), float(borders[-1])]
    return np.rint(np.interp(borders, old, new))


def _arrived(words: Sequence[tuple[int, int]], sounding: Mask, found: Mask) -> tuple[bool, ...]:
    """For each word whether its sound was found; every lost stretch of 50 ms or more costs at least one word."""
    lost = sounding & ~found
    audible = np.flatnonzero(sounding)
    arrived = []
    for start, end in words:
        sound, missing = int(sounding[start:end].sum()), int(lost[start:end].sum())
        if sound:
            arrived.append(missing < LOST_BLOCKS and missing * 2 <= sound)
        else:  # too quiet to tell: as the sound nearest to it
            nearest = audible[np.argmin(np.abs(audible - start))] if len(audible) else 0
            arrived.append(bool(found[nearest]))
    for start, end in zip(*_edges(_closed(lost, 5)), strict=True):
        if int(lost[start:end].sum()) < LOST_BLOCKS or not arrived:
            continue
        shares = [int(lost[max(start, a) : max(min(end, b), start, a)].sum()) for a, b in words]
        if all(arrived[number] for number, share in enumerate(shares) if share):
            arrived[int(np.argmax(shares))] = False
    return tuple(arrived)


def _with_errors(words: Sequence[str], rng: random.Random, rate: float) -> Iterator[str]:
    """The words, each wrong with probability ``rate``: six in ten substituted, a quarter deleted, the rest inserted."""
    for word in words:
        if rng.random() >= rate:
            yield word
            continue
        kind = rng.random()
        if kind < 0.6:
            yield rng.choice([other for other in WORDS if other not in word.lower()])
        elif kind >= 0.85:
            yield word
            yield rng.choice(WORDS)


def count_word_errors(reference: str, transcript: str, normalise: Callable[[str], str]) -> tuple[int, int]:
    """Words of the reference, and the least word substitutions, deletions and insertions that make it the transcript.

    Both are normalised first. Counted here, by the textbook's recurrence (R. Wagner and M. Fischer, 1974), so that a
    client's count can be checked against another's.
    """
    wanted, got = normalise(reference).split(), normalise(transcript).split()
    row = list(range(len(got) + 1))
    for line, word in enumerate(wanted, start=1):
        diagonal, row[0] = row[0], line
        for column, other in enumerate(got, start=1):
            diagonal, row[column] = (
                row[column],
                min(diagonal + (word != other), row[column] + 1, row[column - 1] + 1),
            )
    return len(wanted), row[-1]
