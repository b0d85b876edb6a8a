"""The audio beside the page: what is named, what is copied there, and what is said when it is gone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from rteval import audio
from rteval.corpus import load_dataset
from rteval.reporting.html import write_html
from rteval.reporting.html.sounds import find_sounds, outline
from rteval.reporting.html.timeline import DIGITS

RATE = 8_000
IDS = ("support-00", "a/b <i>", "Caps")


def tone(seconds: float, loud: float = 0.5) -> np.ndarray:
    return (loud * np.sin(np.arange(round(seconds * RATE)) * 0.3)).astype(np.float32)


@pytest.fixture
def kept(tmp_path, make_run):
    """A run folder with three answers kept, and the dataset of their items."""
    folder, dataset = tmp_path / "run", tmp_path / "dataset"
    (folder / "audio").mkdir(parents=True)
    dataset.mkdir()
    rows = []
    for number, item in enumerate(IDS):
        audio.write_wav(dataset / f"{number}.wav", tone(1 + number), RATE)
        rows.append({"id": item, "file_name": f"{number}.wav"})
    rows[0] |= {"start_s": 0.25, "end_s": 0.75}
    (dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    run = make_run(n=6, failing=0.0)
    run.turns["item"] = [IDS[number // 2] for number in range(6)]
    for number in (0, 2, 5):
        turn = run.turns.iloc[number]
        audio.write_wav(folder / "audio" / f"{turn['session']}-{turn['turn']}.wav", tone(0.5), RATE)
    run.run["dataset"] |= {"path": str(dataset), "hash": load_dataset(dataset).hash}
    return folder, dataset, run


def found_in(folder, run, most_characters=100_000):
    return find_sounds(folder, run.run, run.turns, most_characters=most_characters)


def test_questions_of_kept_answers_are_copied_as_they_were_sent(kept):
    folder, _dataset, run = kept
    sounds = found_in(folder, run)
    assert sorted(sounds.answers) == [0, 2, 5]
    assert sorted(sounds.questions) == sorted(IDS)
    assert sounds.notes == ()
    seconds = {item: audio.read(folder / entry["file"])[0].shape[0] / RATE for item, entry in sounds.questions.items()}
    assert seconds == {"support-00": 0.5, "a/b <i>": 2.0, "Caps": 3.0}
    assert len({entry["file"].lower() for entry in sounds.questions.values()}) == 3
    assert all(entry["file"].startswith("audio/questions/") for entry in sounds.questions.values())


def test_only_items_whose_answer_was_kept_are_copied(kept):
    folder, _dataset, run = kept
    run.turns["item"] = ["support-00", "Caps"] * 3
    run.turns.loc[5, "item"] = "support-00"
    assert list(found_in(folder, run).questions) == ["support-00"]


def test_copies_outlive_the_dataset(kept):
    folder, dataset, run = kept
    before = found_in(folder, run)
    shutil.rmtree(dataset)
    assert found_in(folder, run) == before


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda dataset: shutil.rmtree(dataset), "not there any more", id="gone"),
        pytest.param(
            lambda dataset: audio.write_wav(dataset / "0.wav", tone(4), RATE), "has changed since", id="other"
        ),
    ],
)
def test_a_dataset_that_is_not_the_one_of_the_run_is_not_copied_and_the_page_says_so(kept, spoil, reason):
    folder, dataset, run = kept
    spoil(dataset)
    sounds = found_in(folder, run)
    assert sounds.questions == {}
    assert reason in sounds.notes[0]
    assert sorted(sounds.answers) == [0, 2, 5]
    write_html(folder / "report.html", **run.arguments)
    assert reason in (folder / "report.html").read_text("utf-8")


def test_a_run_without_audio_leaves_its_folder_as_it_is_and_its_page_may_play_nothing(kept, tmp_path):
    folder, _dataset, run = kept
    write_html(folder / "report.html", **run.arguments)
    assert "media-src" in (folder / "report.html").read_text("utf-8")
    shutil.rmtree(folder / "audio")
    write_html(folder / "report.html", **run.arguments)
    assert "media-src" not in (folder / "report.html").read_text("utf-8")
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_an_index_leads_nowhere_else(kept, tmp_path):
    folder, _dataset, run = kept
    found_in(folder, run)
    audio.write_wav(tmp_path / "secret.wav", tone(1), RATE)
    index = folder / "audio" / "questions" / "index.json"
    entries = json.loads(index.read_text("utf-8"))
    entries["Caps"]["file"] = "../../../secret.wav"
    index.write_text(json.dumps(entries), "utf-8")
    assert ".." not in json.dumps(dict(found_in(folder, run).questions))
    index.write_text("[1", "utf-8")
    assert len(found_in(folder, run).questions) == 3


def test_text_prompts_have_no_recordings(kept):
    folder, _dataset, run = kept
    run.turns["modality"] = "text"
    sounds = found_in(folder, run)
    assert (sounds.questions, sounds.notes) == ({}, ())


def test_an_outline_is_the_loudest_sample_of_each_part():
    samples = np.array([0, 0.1, -0.5, 0.2, 0, 0.25, 0, 0], dtype=np.float32)
    levels = [DIGITS.index(digit) for digit in outline(samples, 4)]
    assert levels == [round(0.1 / 0.5 * 63), 63, round(0.25 / 0.5 * 63), 0]
    assert outline(samples, 100) != ""
    assert outline(np.empty(0, np.float32), 4) == ""
    assert set(outline(np.zeros(10, np.float32), 5)) == {DIGITS[0]}


def test_outlines_of_many_answers_are_shorter(kept):
    folder, _dataset, run = kept
    assert {len(text) for text in found_in(folder, run, 300).answers.values()} == {100}


def test_an_answer_that_cannot_be_read_has_a_player_and_no_outline(kept):
    folder, _dataset, run = kept
    turn = run.turns.iloc[0]
    (folder / "audio" / f"{turn['session']}-{turn['turn']}.wav").write_bytes(b"RIFFxxxx")
    assert found_in(folder, run).answers[0] == ""
