"""Answers: the words a turn expects, speech as long as they take, and the pieces that are sent."""

from __future__ import annotations

import random
import re
from importlib.resources import files

import numpy as np
import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.audio import LeadingSilence, decode
from rteval.corpus import Item
from rteval.formats import FORMATS, G711_ULAW, PCM16, AudioFormat
from rteval.simulator.cache import ByteCache
from rteval.simulator.voice import (
    CANNED,
    NOT_UNDERSTOOD,
    SECONDS_PER_WORD,
    answer_for,
    duration_s,
    interleave,
    slice_audio,
    slice_text,
    speak,
    spoken,
)

SENTENCE = "Thank you, your order is on its way to you now."


def rng() -> random.Random:
    return random.Random(5)


# ---- words ----

EXPECTED = [
    pytest.param({"answer": "It is Tuesday."}, "It is Tuesday.", id="answer"),
    pytest.param({"equals": "four"}, "four", id="equals"),
    pytest.param({"answer": "said", "contains": "other"}, "said", id="answer before contains"),
    pytest.param({"contains": "refund"}, "Certainly: refund.", id="contains"),
    pytest.param({"contains": ["refund", "three days"]}, "Certainly: refund, three days.", id="contains all"),
    pytest.param({"contains": "A whole sentence."}, "A whole sentence.", id="contains a sentence"),
    pytest.param({"regex": r"\brefund\b"}, "Certainly: refund.", id="regex"),
    pytest.param({"contains": "Tuesday", "regex": r"\d+ days"}, "Certainly: Tuesday, 1 days.", id="both"),
]


@pytest.mark.parametrize(("expect", "answer"), EXPECTED)
def test_an_answer_is_what_the_item_expects(expect: dict[str, object], answer: str) -> None:
    assert answer_for(Item(id="a", expect=expect), "heard", None, rng()) == answer


PATTERNS = [
    r"refund",
    r"^Hello",
    r"(?i)HELLO",
    r"(?:refund|return)ed?",
    r"order (number )?\d{4}",
    r"[Tt]hank you\.?",
    r"a.*b",
    r"(\d+) (days|weeks)",
    r"\w+ \w+",
    r"yes|no",
    r"^\s*(yes|of course)\b.*",
    r"^(Hello|Hi), world$",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_regex_is_fulfilled_where_a_text_for_it_is_easily_had(pattern: str) -> None:
    answer = answer_for(Item(id="a", expect={"regex": pattern}), "heard", None, rng())
    assert re.search(pattern, answer)


@pytest.mark.parametrize("pattern", [r"(", r"(?<=[xyz])\d(?!z)q{3}", r"[^a]{3}\1", r"$^"])
def test_a_regex_that_is_too_hard_gets_a_canned_answer(pattern: str) -> None:
    assert answer_for(Item(id="a", expect={"regex": pattern}), "heard", None, rng()) in CANNED


def test_without_expectation_the_answer_is_canned_and_seeded() -> None:
    answers = {answer_for(None, "hello", None, random.Random(seed)) for seed in range(50)}
    assert answers == set(CANNED)
    assert answer_for(None, None, "Hello?", rng()) == answer_for(None, None, "Hello?", rng()) in CANNED


def test_what_was_not_understood_is_said_to_be() -> None:
    assert answer_for(None, None, None, rng()) == answer_for(None, "", None, rng()) == NOT_UNDERSTOOD


# ---- sound ----


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("text", ["Yes.", SENTENCE, " ".join(["word"] * 100)], ids=["1 word", "11 words", "100 words"])
def test_speech_lasts_as_long_as_its_words(fmt: AudioFormat, text: str) -> None:
    audio = speak(text, fmt)
    assert fmt.seconds(len(audio)) == pytest.approx(len(text.split()) * SECONDS_PER_WORD) == duration_s(text)
    wave = decode(audio, fmt)
    assert 0.02 < np.sqrt(np.mean(wave**2)) < 0.3


def test_no_words_make_no_sound() -> None:
    assert speak("", PCM16) == speak(" ", PCM16, 500.0) == b""


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("silence_ms", [0, 10, 250, 1_000])
def test_an_answer_begins_with_as_much_silence_as_asked_and_then_with_sound(fmt: AudioFormat, silence_ms: int) -> None:
    for text in (SENTENCE, *CANNED):
        meter = LeadingSilence(fmt)
        meter.feed(pybase64.b64encode(speak(text, fmt, silence_ms)))
        assert meter.ms == silence_ms


def test_the_same_answer_sounds_the_same_and_another_differently() -> None:
    assert speak(SENTENCE, PCM16) == speak(SENTENCE, PCM16)
    starts = {speak(text, PCM16)[:4_800] for text in CANNED}
    assert len(starts) > 1


@pytest.mark.parametrize("fmt", [PCM16, G711_ULAW], ids=lambda fmt: fmt.name)
def test_the_deltas_are_the_audio(fmt: AudioFormat) -> None:
    speech = spoken(SENTENCE, fmt, 40.0)
    pieces = [pybase64.b64decode(delta) for delta in speech.deltas]
    assert b"".join(pieces) == speech.audio
    assert [len(piece) for piece in pieces] == list(speech.delta_bytes)


def test_the_packaged_clips_are_small() -> None:
    clips = [entry for entry in (files("rteval.simulator") / "clips").iterdir() if entry.name.endswith(".ogg")]
    assert len(clips) >= 4
    assert sum(len(clip.read_bytes()) for clip in clips) < 400_000


# ---- pieces ----

SIZES = [
    pytest.param(0, [], id="nothing"),
    pytest.param(4_000, [4_000], id="less than one"),
    pytest.param(4_802, [4_800, 2], id="two"),
    pytest.param(12_000, [4_800, 7_200], id="the first two"),
    pytest.param(40_000, [4_800, 7_200, 28_000], id="a large last one"),
    pytest.param(48_000, [4_800, 7_200, 36_000], id="the largest last one"),
    pytest.param(48_002, [4_800, 7_200, 12_000, 24_002], id="one more"),
    pytest.param(100_000, [4_800, 7_200, *[12_000] * 5, 28_000], id="long"),
]


@pytest.mark.parametrize(("size", "sizes"), SIZES)
def test_deltas_have_the_sizes_of_the_services(size: int, sizes: list[int]) -> None:
    assert [len(piece) for piece in slice_audio(bytes(size), PCM16)] == sizes


def test_g711_deltas_have_the_same_durations() -> None:
    pcm, law = slice_audio(bytes(96_000), PCM16), slice_audio(bytes(16_000), G711_ULAW)
    assert [len(piece) / 6 for piece in pcm] == [len(piece) for piece in law]


@given(st.integers(0, 200_000))
def test_slices_join_to_the_audio_and_hold_whole_samples(samples: int) -> None:
    audio = bytes(2 * samples)
    pieces = slice_audio(audio, PCM16)
    assert b"".join(pieces) == audio
    assert all(piece and len(piece) % 2 == 0 and len(piece) <= 36_000 for piece in pieces)


@given(st.text())
def test_text_slices_join_to_the_text(text: str) -> None:
    pieces = slice_text(text)
    assert "".join(pieces) == text
    assert all(pieces)


@given(texts=st.integers(0, 60), audio=st.integers(0, 40))
def test_the_transcript_runs_ahead_of_the_audio(texts: int, audio: int) -> None:
    order = interleave(["x"] * texts, audio)
    assert [index for kind, index in order if kind == "text"] == list(range(texts))
    assert [index for kind, index in order if kind == "audio"] == list(range(audio))
    said = played = 0
    for kind, _ in order:
        said, played = said + (kind == "text"), played + (kind == "audio")
        assert not audio or said * audio >= played * texts
    if audio:
        assert order[-1] == ("audio", audio - 1)


# ---- the cache ----


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    made: list[str] = []

    def get(key: str, size: int = 4) -> bytes:
        def make() -> bytes:
            made.append(key)
            return key.encode() * size

        return cache.get(key, make)

    cache: ByteCache[bytes] = ByteCache(10, len)
    get("a"), get("b"), get("a"), get("c"), get("a"), get("b")
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_what_is_larger_than_the_cache_is_made_but_not_kept() -> None:
    cache: ByteCache[bytes] = ByteCache(10, len)
    assert cache.get("a", lambda: bytes(11)) == bytes(11)
    assert len(cache) == 0
