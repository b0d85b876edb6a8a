"""The ear recognises what it was told to know, word by word, and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.audio import encode, resample
from rteval.corpus import Dataset, Item, load_dataset
from rteval.formats import FORMATS, G711_ALAW, G711_ULAW, PCM16, AudioFormat
from rteval.scoring.normalize import normalizer
from rteval.simulator.ear import Ear, Heard, count_word_errors
from rteval.simulator.vad import SpeechStarted, VoiceDetector
from rteval.simulator.voice import speak
from rteval.simulator.words import WORDS

SUPPORT = Path(__file__).parents[2] / "datasets" / "support"
ENGLISH = normalizer("whisper_english", "en")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(SUPPORT)


@pytest.fixture(scope="module")
def ear(dataset: Dataset) -> Ear:
    return Ear([dataset])


def words_of(ear: Ear, heard: Heard) -> str:
    return ear.transcript(heard, random.Random(0)) or ""


def errors(ear: Ear, item: Item, *pieces: Heard) -> int:
    assert item.reference is not None
    return count_word_errors(item.reference, " ".join(words_of(ear, piece) for piece in pieces), ENGLISH)[1]


def utterances(data: bytes, fmt: AudioFormat, silence_ms: int) -> list[bytes]:
    """What server VAD would commit of a stream."""
    detector = VoiceDetector(fmt, silence_duration_ms=silence_ms)
    pieces, start = [], 0
    size = fmt.frame_bytes(100)
    for at in range(0, len(data), size):
        for event in detector.feed(data[at : at + size]):
            if isinstance(event, SpeechStarted):
                start = event.audio_start_ms
            else:
                pieces.append(data[fmt.frame_bytes(start) : fmt.frame_bytes(event.audio_end_ms)])
    return pieces


# ---- what is known is recognised ----


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_every_item_is_heard_word_for_word(ear: Ear, dataset: Dataset, fmt: AudioFormat) -> None:
    for item in dataset.items:
        heard = ear.hear(dataset.encoded(item, fmt), fmt)
        assert heard.item is item
        assert heard.complete
        assert words_of(ear, heard) == item.reference


def test_what_ends_with_the_speech_is_heard_word_for_word(ear: Ear, dataset: Dataset) -> None:
    """A manual commit follows the frame that holds the last voiced sample; what sounds behind it is no word."""
    for item in dataset.items:
        frames = math.ceil(round(item.speech_end_s * 1000) / 100)
        heard = ear.hear(dataset.encoded(item, PCM16)[: frames * PCM16.frame_bytes(100)], PCM16)
        assert (item.id, words_of(ear, heard)) == (item.id, item.reference)


@pytest.mark.parametrize("fmt", [PCM16, G711_ULAW], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("silence_ms", [200, 500])
def test_what_server_vad_cuts_out_is_heard_word_for_word(
    ear: Ear, dataset: Dataset, fmt: AudioFormat, silence_ms: int
) -> None:
    for item in dataset.items:
        stream = dataset.encoded(item, fmt) + fmt.silence * fmt.rate
        heard: list[Heard] = []
        for piece in utterances(stream, fmt, silence_ms):
            heard.append(ear.hear(piece, fmt, heard[-1] if heard else None))
        assert [piece.item for piece in heard] == [item] * len(heard)
        assert " ".join(words_of(ear, piece) for piece in heard) == item.reference


@pytest.mark.parametrize(
    ("lead_ms", "gain"),
    [(0, 1.0), (3, 1.0), (1_237, 1.0), (0, 0.1), (400, -0.5)],
    ids=["plain", "3 ms late", "1.2 s late", "quiet", "inverted"],
)
def test_level_and_position_do_not_matter(ear: Ear, dataset: Dataset, lead_ms: int, gain: float) -> None:
    for item in dataset.items[:8]:
        samples, rate = dataset.samples(item)
        wave = np.concatenate((np.zeros(rate * lead_ms // 1000, np.float32), samples * np.float32(gain)))
        heard = ear.hear(encode(wave, rate, PCM16), PCM16)
        assert heard.item is item
        assert words_of(ear, heard) == item.reference
        assert heard.offset_s == pytest.approx(lead_ms / 1000, abs=0.001)


def test_light_noise_on_the_line_leaves_the_item_recognisable(ear: Ear, dataset: Dataset) -> None:
    """At 20 dB below the speech; a word in the noise may be lost, but not one in twenty."""
    noise = np.random.default_rng(1)
    wrong = total = 0
    for item in dataset.items:
        samples, rate = dataset.samples(item)
        level = np.sqrt(np.mean(samples[np.abs(samples) > 0.01] ** 2)) / 10
        noisy = samples + noise.normal(0, level, len(samples)).astype(np.float32)
        heard = ear.hear(encode(noisy, rate, PCM16), PCM16)
        assert heard.item is item
        wrong += errors(ear, item, heard)
        total += len((item.reference or "").split())
    assert wrong < total / 20


def test_an_utterance_in_two_commits_gives_each_only_its_words(ear: Ear, dataset: Dataset) -> None:
    """Wherever it is cut: a word that is cut in two is in the later part."""
    for item in dataset.items[:12]:
        data = dataset.encoded(item, PCM16)
        for share in (0.35, 0.5, 0.65):
            cut = int(len(data) * share) // 2 * 2
            first = ear.hear(data[:cut], PCM16)
            second = ear.hear(data[cut:], PCM16, first)
            assert first.item is second.item is item
            assert not first.complete
            assert words_of(ear, first)
            assert f"{words_of(ear, first)} {words_of(ear, second)}" == item.reference


def test_the_same_item_once_more_is_whole_again(ear: Ear, dataset: Dataset) -> None:
    item = dataset.items[0]
    data = dataset.encoded(item, PCM16)
    first = ear.hear(data, PCM16)
    again = ear.hear(data, PCM16, first)
    assert words_of(ear, again) == words_of(ear, first) == item.reference


def test_the_end_of_the_voice_is_where_the_item_ends(ear: Ear, dataset: Dataset) -> None:
    for item in dataset.items:
        heard = ear.hear(dataset.encoded(item, PCM16) + bytes(48_000), PCM16)
        assert heard.voice_end_s == pytest.approx(item.speech_end_s, abs=0.001)
        cut = ear.hear(dataset.encoded(item, PCM16)[: PCM16.frame_bytes(1_000)], PCM16)
        assert cut.voice_end_s is not None
        assert cut.voice_end_s <= 1.0


def test_text_prompts_are_known_by_their_exact_text(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"id": "hi", "text": "Say hello."}\n{"id": "bye", "text": "Say bye."}\n')
    dataset = load_dataset(tmp_path)
    ear = Ear([dataset])
    assert ear.read("Say hello.") is dataset.items[0]
    assert ear.read(" Say bye.\n") is dataset.items[1]
    assert ear.read("say hello.") is None
    assert ear.hear(bytes(48_000), PCM16) == Heard(None)


# ---- what is lost is missing ----


@pytest.mark.parametrize("fmt", [PCM16, G711_ULAW], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("filled", [False, True], ids=["cut out", "silenced"])
@pytest.mark.parametrize("lost_ms", [200, 500, 1_000])
def test_lost_audio_loses_words(ear: Ear, dataset: Dataset, fmt: AudioFormat, filled: bool, lost_ms: int) -> None:
    """Wherever speech of a fifth of a second and more is lost, and never more words than could lie there."""
    places = random.Random(lost_ms)
    for item in dataset.items:
        data = dataset.encoded(item, fmt)
        assert item.speech_start_s is not None
        assert item.speech_end_s is not None
        latest = max(item.speech_start_s, item.speech_end_s - lost_ms / 1000)
        at = fmt.frame_bytes(round(places.uniform(item.speech_start_s, latest) * 1000))
        size = fmt.frame_bytes(lost_ms)
        heard = ear.hear(data[:at] + fmt.silence * (filled * size // fmt.sample_bytes) + data[at + size :], fmt)
        assert heard.item in (item, None)
        assert not heard.complete
        assert errors(ear, item, heard) >= 1, (item.id, at)
        if heard.item is not None:
            assert errors(ear, item, heard) <= 2 + lost_ms / 100, (item.id, at)


@pytest.mark.parametrize("lost_ms", [150, 300])
@pytest.mark.parametrize("end", ["start", "end"])
def test_a_missing_start_or_end_loses_words(ear: Ear, dataset: Dataset, end: str, lost_ms: int) -> None:
    for item in dataset.items:
        data = dataset.encoded(item, PCM16)
        assert item.speech_start_s is not None
        assert item.speech_end_s is not None
        if end == "start":
            data = data[PCM16.frame_bytes(round(item.speech_start_s * 1000) + lost_ms) :]
        else:
            data = data[: PCM16.frame_bytes(round(item.speech_end_s * 1000) - lost_ms)]
        assert errors(ear, item, ear.hear(data, PCM16)) >= 1, item.id


def test_a_frame_that_arrives_twice_is_not_heard_as_nothing(ear: Ear, dataset: Dataset) -> None:
    item = dataset.items[0]
    data = dataset.encoded(item, PCM16)
    middle = PCM16.frame_bytes(1_200)
    again = data[: middle + 48_000] + data[middle:]
    assert errors(ear, item, ear.hear(again, PCM16)) >= 1


def pcm(wave: np.ndarray) -> bytes:
    return (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()


def at_rate(dataset: Dataset, item: Item, rate: int) -> bytes:
    samples, own = dataset.samples(item)
    return pcm(resample(samples, own, rate))


FOREIGN: list[tuple[str, AudioFormat, Callable[[Dataset, Item], bytes]]] = [
    ("16 kHz as 24", PCM16, lambda dataset, item: at_rate(dataset, item, 16_000)),
    ("8 kHz as 24", PCM16, lambda dataset, item: at_rate(dataset, item, 8_000)),
    ("48 kHz as 24", PCM16, lambda dataset, item: at_rate(dataset, item, 48_000)),
    ("22.05 kHz as 24", PCM16, lambda dataset, item: at_rate(dataset, item, 22_050)),
    ("u-law as pcm16", PCM16, lambda dataset, item: dataset.encoded(item, G711_ULAW)),
    ("pcm16 as u-law", G711_ULAW, lambda dataset, item: dataset.encoded(item, PCM16)),
    ("bytes of samples swapped", PCM16, lambda dataset, item: b"\0" + dataset.encoded(item, PCM16)),
    ("backwards", PCM16, lambda dataset, item: pcm(dataset.samples(item)[0][::-1])),
    ("other speech", PCM16, lambda dataset, item: speak(item.reference or "", PCM16)),
    ("noise", PCM16, lambda dataset, item: pcm(np.random.default_rng(0).normal(0, 0.1, 48_000))),
    ("a tone", PCM16, lambda dataset, item: pcm(0.3 * np.sin(np.arange(48_000) * 0.1))),
]


@pytest.mark.parametrize(("fmt", "make"), [case[1:] for case in FOREIGN], ids=[case[0] for case in FOREIGN])
def test_other_audio_is_no_item(
    ear: Ear, dataset: Dataset, fmt: AudioFormat, make: Callable[[Dataset, Item], bytes]
) -> None:
    for item in dataset.items[::3]:
        heard = ear.hear(make(dataset, item), fmt)
        assert heard.item is None, item.id
        assert ear.transcript(heard, random.Random(0)) is None


def test_u_law_read_as_a_law_is_never_perfect(ear: Ear, dataset: Dataset) -> None:
    """The two differ little enough for speech to be made out, as on a bad line."""
    for item in dataset.items:
        assert errors(ear, item, ear.hear(dataset.encoded(item, G711_ULAW), G711_ALAW)) >= 1


def test_an_utterance_that_is_not_in_the_dataset_is_no_item(dataset: Dataset) -> None:
    """Though the same voices say similar words in it."""
    for item in dataset.items[::5]:
        others = Ear([replace(dataset, items=tuple(other for other in dataset.items if other is not item))])
        assert others.hear(dataset.encoded(item, PCM16), PCM16).item is None


def test_another_utterance_in_the_same_commit_adds_words(ear: Ear, dataset: Dataset) -> None:
    one, other = dataset.items[:2]
    heard = ear.hear(dataset.encoded(one, PCM16) + speak("some other words that nobody knows", PCM16), PCM16)
    assert heard.item is one
    assert heard.extra_s > 1
    assert not heard.complete
    assert errors(ear, one, heard) >= 1
    assert ear.hear(dataset.encoded(one, PCM16) + dataset.encoded(other, PCM16), PCM16).complete is False


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("size", [0, 1, 2, 159, 700, 4_801])
def test_little_or_silent_audio_is_nothing(ear: Ear, fmt: AudioFormat, size: int) -> None:
    heard = ear.hear((fmt.silence * size)[:size], fmt)
    assert heard == Heard(None)


def test_an_item_without_reference_has_no_transcript(dataset: Dataset) -> None:
    item = replace(dataset.items[0], reference=None)
    ear = Ear([replace(dataset, items=(item,))])
    heard = ear.hear(dataset.encoded(item, PCM16), PCM16)
    assert heard.item is item
    assert ear.transcript(heard, random.Random(0)) is None


def test_memory_of_the_index_does_not_hold_the_audio(ear: Ear, dataset: Dataset) -> None:
    """10 hours of speech would take about 50 MB."""
    assert ear.nbytes < 1_600 * dataset.audio_s


# ---- words ----


@pytest.mark.parametrize("name", ["whisper_english", "whisper_basic"])
def test_error_words_survive_the_normalisers(name: str) -> None:
    normalise = normalizer(name, "en")
    assert [normalise(word) for word in WORDS] == list(WORDS)


def test_word_errors_come_at_the_rate_and_from_the_seed(ear: Ear, dataset: Dataset) -> None:
    wrong = total = 0
    for item in dataset.items:
        heard = ear.hear(dataset.encoded(item, PCM16), PCM16)
        assert item.reference is not None
        for seed in range(6):
            text = ear.transcript(heard, random.Random(seed), 0.2)
            assert text is not None
            assert text == ear.transcript(heard, random.Random(seed), 0.2)
            counted, wrongly = count_word_errors(item.reference, text, ENGLISH)
            wrong, total = wrong + wrongly, total + counted
    assert 0.15 < wrong / total < 0.25


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_a_transcript_with_every_kind_of_error_is_never_the_reference(ear: Ear, dataset: Dataset, rate: float) -> None:
    heard = ear.hear(dataset.encoded(dataset.items[0], PCM16), PCM16)
    assert rate == 0.5 or words_of(ear, heard) != ear.transcript(heard, random.Random(1), rate)
    kinds = {len((ear.transcript(heard, random.Random(seed), rate) or "").split()) for seed in range(30)}
    assert len(kinds) > 3


COUNTS = [
    pytest.param("a b c", "a b c", (3, 0), id="equal"),
    pytest.param("a b c", "a x c", (3, 1), id="substitution"),
    pytest.param("a b c", "a c", (3, 1), id="deletion"),
    pytest.param("a b c", "a b x c", (3, 1), id="insertion"),
    pytest.param("a b c", "", (3, 3), id="nothing heard"),
    pytest.param("", "a b", (0, 2), id="nothing said"),
    pytest.param("a b c d", "b c d a", (4, 2), id="moved"),
    pytest.param("Hello, World!", "hello world", (2, 0), id="normalised"),
]


@pytest.mark.parametrize(("reference", "transcript", "counts"), COUNTS)
def test_word_errors_are_the_least_edits(reference: str, transcript: str, counts: tuple[int, int]) -> None:
    assert count_word_errors(reference, transcript, ENGLISH) == counts


TEXTS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=12).map(" ".join)


@given(reference=TEXTS, transcript=TEXTS)
def test_the_count_agrees_with_another_implementation(reference: str, transcript: str) -> None:
    other = jiwer.process_words(reference, transcript)
    _, counted = count_word_errors(reference, transcript, lambda text: text)
    assert counted == other.substitutions + other.deletions + other.insertions
