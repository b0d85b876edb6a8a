"""Turns an utterance into what the server knows of it: item, transcript, and its own count of the errors in that."""

from __future__ import annotations

from collections.abc import Sequence

from ..audio import decode, voiced_span
from ..corpus import Dataset, Item
from ..scoring.normalize import Normalizer, normalizer
from .behaviour import Behaviour
from .ear import Ear, Heard, count_word_errors
from .intake import Utterance
from .world import Recognised

__all__ = ["Listener"]

DEFAULT_NORMALIZER = "whisper_english"


class Listener:
    """Listens for all sessions of a server; not for use from several threads at once.

    Args:
        behaviour: says how many words come out wrong.
        datasets: whose items can be recognised.
    """

    def __init__(self, behaviour: Behaviour, datasets: Sequence[Dataset]) -> None:
        self._behaviour = behaviour
        self._ear = Ear(datasets)
        self._times: dict[str, int] = {}
        self._normalizers: dict[str | None, Normalizer] = {}
        # Loading one takes longer than a turn may wait.
        for language in {item.language for dataset in datasets for item in dataset.items if item.reference}:
            self._normalizer(language)

    def listen(self, utterance: Utterance, after: Heard | None = None) -> tuple[Recognised, Heard]:
        """Recognise an utterance; ``after`` is how the one before it in the session was heard."""
        heard = self._ear.hear(utterance.audio, utterance.fmt, after)
        item = heard.item
        key = item.id if item is not None else ""
        self._times[key] = self._times.get(key, 0) + 1
        rng = self._behaviour.rng("words", key, self._times[key])
        transcript = self._ear.transcript(heard, rng, self._behaviour.transcription.word_error_rate)
        ref_words = word_errors = None
        if item is not None and item.reference is not None and transcript is not None:
            ref_words, word_errors = count_word_errors(item.reference, transcript, self._normalizer(item.language))
        recognised = Recognised(
            item=item,
            transcript=transcript or "",
            ref_words=ref_words,
            word_errors=word_errors,
            voice_end_ms=_voice_end_ms(utterance, heard, item),
        )
        return recognised, heard

    def _normalizer(self, language: str | None) -> Normalizer:
        if language not in self._normalizers:
            self._normalizers[language] = normalizer(DEFAULT_NORMALIZER, language)
        return self._normalizers[language]


def _voice_end_ms(utterance: Utterance, heard: Heard, item: Item | None) -> float | None:
    """Where the caller's voice ends: where the dataset says, for an item that was heard to its end; else by level."""
    if item is not None and item.speech_end_s is not None and heard.offset_s is not None:
        end_ms = 1000 * (heard.offset_s + item.speech_end_s)
        if 0 < end_ms <= utterance.duration_ms:
            return end_ms
    if heard.voice_end_s is not None:
        return 1000 * heard.voice_end_s
    span = voiced_span(decode(utterance.audio, utterance.fmt), utterance.fmt.rate)
    return None if span is None else 1000 * span[1]
