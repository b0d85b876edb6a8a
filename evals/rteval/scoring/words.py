"""Word and character errors of one text against its reference, as counts that can be pooled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .normalize import Normalizer

__all__ = ["Alignment", "WordCounts", "align", "count_errors", "pooled_rate"]


@dataclass(frozen=True, slots=True)
class WordCounts:
    """Edits between a reference and a text, both after the normaliser.

    Attributes:
        ref_words: words of the reference; hits, substitutions and deletions add up to it.
        ref_chars: characters of the reference, blanks between words included.
        char_errors: substituted, deleted and inserted characters.
    """

    ref_words: int
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    ref_chars: int
    char_errors: int

    @property
    def word_errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float | None:
        """Word errors over reference words; ``None`` when the reference has no words."""
        return self.word_errors / self.ref_words if self.ref_words else None

    @property
    def cer(self) -> float | None:
        """Character errors over reference characters; ``None`` when the reference has none."""
        return self.char_errors / self.ref_chars if self.ref_chars else None


@dataclass(frozen=True, slots=True)
class Alignment:
    """One stretch of a word alignment.

    Attributes:
        kind: ``equal``, ``substitute``, ``delete`` or ``insert``.
        reference: words of the reference (empty for an insertion).
        text: words of the text (empty for a deletion).
    """

    kind: str
    reference: tuple[str, ...]
    text: tuple[str, ...]


def count_errors(reference: str, text: str, normalise: Normalizer) -> WordCounts:
    """Count the edits from ``reference`` to ``text`` (Levenshtein over words and over characters, by jiwer)."""
    reference, text = _one_blank(normalise(reference)), _one_blank(normalise(text))
    if not reference:
        # jiwer calls the rate of an empty reference 0 or 1; its insertions are what we pool.
        return WordCounts(0, 0, 0, 0, len(text.split()), 0, len(text))
    import jiwer  # lazily: it costs a tenth of a second, and a run without references never needs it

    words = jiwer.process_words(reference, text)
    chars = jiwer.process_characters(reference, text)
    return WordCounts(
        ref_words=words.hits + words.substitutions + words.deletions,
        hits=words.hits,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        ref_chars=len(reference),
        char_errors=chars.substitutions + chars.deletions + chars.insertions,
    )


def align(reference: str, text: str, normalise: Normalizer) -> list[Alignment]:
    """Align two texts word by word, both after the normaliser: what ``count_errors`` counted, to be looked at."""
    reference, text = _one_blank(normalise(reference)), _one_blank(normalise(text))
    if not reference:
        return [Alignment("insert", (), tuple(text.split()))] if text else []
    import jiwer

    output = jiwer.process_words(reference, text)
    ref, hyp = output.references[0], output.hypotheses[0]
    return [
        Alignment(
            chunk.type,
            tuple(ref[chunk.ref_start_idx : chunk.ref_end_idx]),
            tuple(hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in output.alignments[0]
    ]


def pooled_rate(errors: Iterable[int], references: Iterable[int]) -> float | None:
    """Return the sum of errors over the sum of reference words; ``None`` when there are no reference words.

    Never a mean of rates: a wrong word weighs the same in a long utterance as in a short one.
    """
    total = sum(references)
    return sum(errors) / total if total else None


def _one_blank(text: str) -> str:
    return " ".join(text.split())
