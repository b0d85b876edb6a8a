"""Datasets whose files were uploaded without their folders, as some load testing services take them."""

from __future__ import annotations

import pytest

from rteval.corpus import load_dataset
from rteval.errors import DatasetError

NESTED = {"file_name": "audio/a.wav", "transcription": "hello there"}


def test_a_recording_whose_folder_is_missing_is_found_beside_the_metadata_and_a_note_says_so(folder):
    folder.wav("a.wav")
    dataset = load_dataset(folder.lines(NESTED))
    (item,) = dataset.items
    assert (item.id, item.path, item.reference) == ("audio/a", folder.path / "a.wav", "hello there")
    assert dataset.notes == (f"{folder.path / 'metadata.jsonl'}: audio/a.wav was found beside it, without the folder",)


def test_one_note_is_enough_however_many_recordings_moved(folder):
    for name in "abc":
        folder.wav(f"{name}.wav")
    segments = [NESTED | {"end_s": 0.8, "id": "a1"}, NESTED | {"id": "a2"}]
    rows = [*segments, {"file_name": "audio/b.wav"}, {"file_name": "deep/er/c.wav"}, {"text": "Hello."}]
    dataset = load_dataset(folder.lines(*rows))
    assert len(dataset.items) == 5
    (note,) = dataset.notes
    assert note.endswith("audio/a.wav and 2 more recordings were found beside it, without the folder")


def test_a_flat_folder_is_the_same_dataset_as_the_one_with_folders(folder, tmp_path):
    folder.wav("audio/a.wav")
    nested = load_dataset(folder.lines(NESTED))
    (folder.path / "audio" / "a.wav").rename(folder.path / "a.wav")
    (folder.path / "audio").rmdir()
    flat = load_dataset(folder.path)
    assert flat.hash == nested.hash
    assert [item.id for item in flat.items] == [item.id for item in nested.items]
    assert nested.notes == ()


@pytest.mark.parametrize(
    ("present", "name"),
    [
        pytest.param(["a.wav", "audio/b.wav"], "audio/a.wav", id="its folder is there"),
        pytest.param(["b.wav"], "audio/a.wav", id="it is nowhere"),
        pytest.param(["a.wav"], "../audio/a.wav", id="it was never in the dataset"),
        pytest.param(["a.wav"], "audio/../../audio/a.wav", id="it was never in the dataset, on a detour"),
        pytest.param(["a.wav"], "x" * 300 + "/a.wav", id="no file system has such a folder"),
    ],
)
def test_another_recording_is_never_taken_for_a_missing_one(folder, present, name):
    for file in present:
        folder.wav(file)
    with pytest.raises(DatasetError):
        load_dataset(folder.lines({"file_name": name}))


@pytest.mark.parametrize(
    "names", [("a/x.wav", "b/x.wav"), ("x.wav", "b/x.wav"), ("b/x.wav", "x.wav")], ids=" then ".join
)
def test_a_file_that_two_names_mean_is_a_problem(folder, names):
    folder.wav("x.wav")
    with pytest.raises(DatasetError) as error:
        load_dataset(folder.lines(*({"file_name": name} for name in names)))
    (problem,) = error.value.problems
    assert f"jsonl:2: x.wav beside the metadata would be {names[1]} and that of line 1; give every" in problem


def test_a_link_that_leads_out_is_no_upload(folder):
    folder.wav("../outside.wav")
    (folder.path / "a.wav").symlink_to("../outside.wav")
    with pytest.raises(DatasetError, match="leads out of the dataset's folder"):
        load_dataset(folder.lines(NESTED))


def test_a_dataset_whose_folder_is_missing_is_found_where_the_caller_says_and_a_note_says_so(folder, tmp_path):
    folder.wav("a.wav")
    missing = tmp_path / "datasets" / "calls"
    dataset = load_dataset(missing, flat=folder.lines(NESTED))
    assert dataset.path == folder.path
    assert dataset.notes[0] == f"dataset {missing} does not exist; the one in {folder.path} was taken"
    assert "audio/a.wav was found beside it" in dataset.notes[1]


def test_a_dataset_that_exists_is_the_one_that_is_taken(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    folder.lines({"text": "Hello."})
    with pytest.raises(DatasetError, match="has neither metadata"):
        load_dataset(other, flat=folder.path)


def test_without_metadata_in_the_flat_folder_the_missing_dataset_is_what_is_told(tmp_path):
    missing = tmp_path / "datasets" / "calls"
    with pytest.raises(DatasetError, match="datasets/calls does not exist"):
        load_dataset(missing, flat=tmp_path)
