from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.scoring.normalize import NORMALIZERS, normalizer
from rteval.scoring.words import Alignment, WordCounts, align, count_errors, pooled_rate

ENGLISH = normalizer("whisper_english")
NONE = normalizer("none")

CASES = [
    pytest.param("Twenty-five dollars, please!", "$25 please", (2, 2, 0, 0, 0), 0.0, id="the same to a person"),
    pytest.param("a b c", "a c d", (3, 1, 2, 0, 0), 2 / 3, id="substitutions"),
    pytest.param("one more thing", "one thing", (3, 2, 0, 1, 0), 1 / 3, id="deletion"),
    pytest.param("go", "go away now", (1, 1, 0, 0, 2), 2.0, id="insertions can pass one"),
    pytest.param("hello", "", (1, 0, 0, 1, 0), 1.0, id="nothing was heard"),
    pytest.param("", "hello you", (0, 0, 0, 0, 2), None, id="empty reference: no rate, its insertions count"),
    pytest.param("?!", "", (0, 0, 0, 0, 0), None, id="nothing but punctuation"),
]


@pytest.mark.parametrize(("reference", "text", "counts", "wer"), CASES)
def test_words_are_counted_after_the_normaliser(
    reference: str, text: str, counts: tuple[int, ...], wer: float | None
) -> None:
    found = count_errors(reference, text, ENGLISH)
    assert (found.ref_words, found.hits, found.substitutions, found.deletions, found.insertions) == counts
    assert found.wer == wer
    assert found.word_errors == sum(counts[2:])


def test_characters_are_counted_too() -> None:
    found = count_errors("abc", "abd", NONE)
    assert (found.ref_chars, found.char_errors, found.cer) == (3, 1, 1 / 3)
    assert count_errors("", "ab", NONE) == WordCounts(0, 0, 0, 0, 1, 0, 2)
    assert count_errors("", "ab", NONE).cer is None


def test_an_alignment_shows_what_was_counted() -> None:
    assert align("a b c", "a x c d", NONE) == [
        Alignment("equal", ("a",), ("a",)),
        Alignment("substitute", ("b",), ("x",)),
        Alignment("equal", ("c",), ("c",)),
        Alignment("insert", (), ("d",)),
    ]
    assert align("", "a b", NONE) == [Alignment("insert", (), ("a", "b"))]
    assert align("", "", NONE) == []
    assert align("a", "", NONE) == [Alignment("delete", ("a",), ())]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20))
def test_a_pooled_rate_is_errors_over_words_and_never_a_mean_of_rates(turns: list[tuple[int, int]]) -> None:
    errors, references = [turn[0] for turn in turns], [turn[1] for turn in turns]
    rate = pooled_rate(errors, references)
    assert rate == (sum(errors) / sum(references) if sum(references) else None)


NAMES = [
    pytest.param("whisper_english", None, "whisper_english", id="no language is English"),
    pytest.param("whisper_english", "en-GB", "whisper_english", id="British English"),
    pytest.param("whisper_english", "EN_us", "whisper_english", id="American English"),
    pytest.param("whisper_english", "de", "whisper_basic", id="German"),
    pytest.param("whisper_english", "enm", "whisper_basic", id="Middle English is not English"),
    pytest.param("whisper_basic", "en", "whisper_basic", id="basic when asked"),
    pytest.param("none", "de", "none", id="none when asked"),
]


@pytest.mark.parametrize(("name", "language", "chosen"), NAMES)
def test_the_english_normaliser_is_for_english_alone(name: str, language: str | None, chosen: str) -> None:
    assert normalizer(name, language).name.split("/")[0] == chosen


def test_a_normaliser_carries_its_version() -> None:
    assert ENGLISH.name.startswith("whisper_english/0.")
    assert NONE.name == "none"
    assert NONE(" As It Is ") == " As It Is "
    assert normalizer("whisper_basic")("Größe, É!") == "größe é"
    with pytest.raises(ValueError, match="there are whisper_english, whisper_basic, none"):
        normalizer("whisper_klingon")


@given(st.text(max_size=60))
def test_no_text_breaks_a_normaliser_or_a_count(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NORMALIZERS:
            found = count_errors("hello there", text, normalizer(name))
            assert found.hits + found.substitutions + found.deletions == found.ref_words
