"""Hears which dataset item was spoken, and which of its words arrived, by comparing audio with the dataset's audio.

Landmarks name a few candidates; then the heard waveform is laid over the candidate's, and every 10 ms of the item are
either found in what was heard or not. Words lie where pauses and the number of their letters put them; a word whose
sound is missing is missing from the transcript. So audio that was lost, came at a wrong rate or is of something else
never yields the reference.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..audio import decode
from ..corpus import Dataset, Item
from ..formats import AudioFormat
from .blocks import LOST_BLOCKS, long_runs
from .cache import ByteCache
from .landmarks import Candidate, LandmarkIndex
from .overlay import BLOCK_S, Sound, lay, narrow
from .words import WORDS, arrived_words, count_word_errors, spread, with_errors

__all__ = ["Ear", "Heard", "count_word_errors"]

# An item is named when its sound explains this much of what sounded, and at least this much of it came.
MIN_EXPLAINED = 0.5
MIN_FOUND_S = 0.15
# A candidate with fewer than a tenth of the best one's votes is not compared.
FEWEST_VOTES = 10
WAVE_CACHE_BYTES = 64_000_000
SECONDS_PER_NOISE_WORD = 0.4


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
        voice_end_s: where the caller's voice ends in the heard audio: the item's last voiced sample, when it arrived;
            else the end of the last sound; ``None`` when all is silent.
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
        self._index = LandmarkIndex(narrow(*dataset.samples(item)) for dataset, item in self._items)
        self._known: ByteCache[_Known] = ByteCache(WAVE_CACHE_BYTES, lambda known: known.sound.wave.nbytes)

    @property
    def nbytes(self) -> int:
        """Memory of the index, in bytes."""
        return self._index.nbytes

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
        whole = len(data) // fmt.sample_bytes * fmt.sample_bytes
        sound = Sound.of(decode(data[:whole], fmt), fmt.rate)
        sounding = np.flatnonzero(sound.sounding)
        if not len(sounding):
            return Heard(None)
        best = Heard(None, extra_s=len(sounding) * BLOCK_S, voice_end_s=float(sounding[-1] + 1) * BLOCK_S)
        preferred = None if after is None or after.item is None else self._numbers.get(id(after.item))
        candidates = self._index.search(sound.wave)
        for candidate in sorted(candidates, key=lambda candidate: candidate.recording != preferred):
            if candidate.recording != preferred and candidate.votes * FEWEST_VOTES < candidates[0].votes:
                continue
            heard = self._compare(candidate, sound, after)
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
            words = list(with_errors(words, rng, word_error_rate))
        return " ".join(words)

    def _compare(self, candidate: Candidate, heard: Sound, after: Heard | None) -> Heard | None:
        dataset, item = self._items[candidate.recording]
        known = self._known.get(candidate.recording, lambda: _know(dataset, item))
        overlay = lay(known.sound, heard, candidate.offsets)
        sounding = known.sound.sounding.copy()
        found = np.zeros(len(sounding), np.bool_)
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
        arrived = arrived_words(known.words, sounding, found)
        last = np.flatnonzero(known.sound.sounding)[-1]
        voice_end_s = float(np.flatnonzero(heard.sounding)[-1] + 1) * BLOCK_S
        if item.speech_end_s is not None and overlay.found[max(0, last - LOST_BLOCKS - overlay.here.start) :].any():
            voice_end_s = overlay.offset_s + item.speech_end_s
        return Heard(
            item=item,
            confidence=overlay.confidence,
            coverage=found_s / total_s,
            explained=explained,
            words=tuple(here and not before for here, before in zip(arrived, said, strict=True)),
            extra_s=long_runs(~overlay.explained) * BLOCK_S,
            offset_s=overlay.offset_s,
            voice_end_s=voice_end_s,
            found=found.tobytes(),
            said=tuple(here or before for here, before in zip(arrived, said, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """An item's audio, and in which blocks of it each word lies."""

    sound: Sound
    words: tuple[tuple[int, int], ...]


def _know(dataset: Dataset, item: Item) -> _Known:
    # A dataset's own room is part of what is recognised; weak sounds are not to be taken for it.
    sound = Sound.of(*dataset.samples(item), noisiest_db=-30.0)
    if item.speech_end_s is not None:
        # What sounds behind the end of speech (a breath) is no word, and a client need not send it.
        speech = np.arange(len(sound.sounding)) * BLOCK_S < item.speech_end_s
        sound = replace(sound, sounding=sound.sounding & speech)
    return _Known(sound, spread((item.reference or "").split(), sound.sounding))
