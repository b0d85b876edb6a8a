"""What the shipped scenarios rely on. The audio is what is committed: nothing is made here."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from rteval.corpus import load_dataset
from rteval.formats import FORMATS
from rteval.scoring.normalize import normalizer

DATASETS = Path(__file__).parents[2] / "datasets"


@pytest.fixture(scope="module")
def support():
    return load_dataset(DATASETS / "support")


@pytest.fixture(scope="module")
def make():
    return SimpleNamespace(**runpy.run_path(str(DATASETS / "support" / "make.py"), run_name="make"))


def test_it_is_small_and_its_utterances_are_short(support):
    lengths = sorted(item.duration_s for item in support.items)
    assert len(lengths) >= 24
    assert sum(lengths) < 150
    assert lengths[-2] < 5
    assert 10 < lengths[-1] < 20
    assert sum(file.stat().st_size for file in support.path.iterdir() if file.is_file()) < 6_000_000


def test_every_recording_on_disk_is_an_item(support):
    assert {item.path for item in support.items} == set(support.path.glob("*.wav"))


def test_its_metadata_is_what_the_script_says(support, make):
    said = {utterance.id: utterance for utterance in [*make.UTTERANCES, *make.CALL]}
    assert [item.id for item in support.items] == list(said)
    for item in support.items:
        utterance = said[item.id]
        assert (item.reference, item.tags, item.meta["voice"]) == (utterance.text, utterance.tags, utterance.voice)
        info = soundfile.info(item.path)
        assert (info.samplerate, info.subtype) == (utterance.rate, utterance.subtype)


@pytest.mark.parametrize("tag", ["digits", "names", "long"])
def test_it_has_what_recognisers_find_hard(support, tag):
    assert any(tag in item.tags for item in support.items)


def test_it_has_many_voices_rates_formats_and_layouts(support):
    files = [soundfile.info(item.path) for item in support.items]
    assert len({item.meta["voice"] for item in support.items}) >= 10
    assert len({item.meta["wpm"] for item in support.items}) >= 5
    assert {8_000, 16_000, 22_050, 24_000, 44_100, 48_000} <= {file.samplerate for file in files}
    assert {"PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"} <= {file.subtype for file in files}
    assert {None, "left", "right"} == {item.channel for item in support.items}
    assert any(file.channels == 2 and item.channel is None for file, item in zip(files, support.items, strict=True))
    assert any(item.start_s for item in support.items)


def test_the_voice_is_found_inside_the_padding(support):
    for item in support.items:
        assert 0.15 < item.speech_start_s < 0.6, item.id
        assert 0.15 < item.duration_s - item.speech_end_s < 0.6, item.id


def test_voice_detection_with_500_ms_of_silence_takes_no_utterance_for_two(support, make):
    pauses = {item.id: make.longest_pause_ms(*support.samples(item)) for item in support.items}
    assert {id_: pause for id_, pause in pauses.items() if pause >= 450} == {}


def test_references_mean_the_same_however_they_are_written(support):
    normalise = normalizer("whisper_english", "en")
    for item in support.items:
        plain = normalise(item.reference)
        assert plain
        assert normalise(plain) == plain == normalise(item.reference.upper()), item.id


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_every_item_can_be_sent_in_every_format(support, fmt):
    for item in support.items:
        assert abs(fmt.seconds(len(support.encoded(item, fmt))) - item.duration_s) < 0.002, item.id


def test_every_prompt_says_what_a_right_answer_is():
    prompts = load_dataset(DATASETS / "prompts").items
    assert {item.modality for item in prompts} == {"text"}
    assert all(item.expect for item in prompts)
    assert {"answer", "contains", "equals", "regex"} <= {key for item in prompts for key in item.expect}
    assert sum(item.conversation_id is not None for item in prompts) >= 2
