from __future__ import annotations

import json

import numpy as np
import pytest

from rteval.corpus import load_dataset
from rteval.errors import UsageError
from rteval.init import init_dataset
from rteval.scenario import load_scenario


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(folder):
    return [json.loads(line) for line in (folder.path / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_folder_of_recordings_becomes_a_scenario_that_loads(folder, tmp_path):
    folder.wav("b.wav")
    folder.wav("sub/ä 1.flac", rate=44_100)
    (folder.path / "notes.txt").write_text("x", encoding="utf-8")
    folder.wav(".hidden.wav")
    result = init_dataset(folder.path)
    assert rows(folder) == [{"file_name": "b.wav"}, {"file_name": "sub/ä 1.flac"}]
    assert (result.items, result.audio_s, result.skipped) == (2, 2.0, ())
    assert result.scenario.resolve() == tmp_path / "calls.yaml"
    scenario = load_scenario(result.scenario)
    assert (scenario.name, scenario.target.provider, scenario.load.sessions) == ("calls", "simulator", 2)
    dataset = load_dataset(scenario.dataset.path)
    assert [item.reference for item in dataset.items] == [None, None]


def test_the_scenario_points_at_a_schema_beside_it(folder):
    folder.wav("a.wav")
    result = init_dataset(folder.path)
    first = result.scenario.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={result.schema.name}"
    assert json.loads(result.schema.read_text(encoding="utf-8"))["properties"]["dataset"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param('{"title": "rteval scenario"}', "schema.json", id="ours"),
        pytest.param('{"title": "other"}', "rteval.schema.json", id="of someone else"),
        pytest.param("[", "rteval.schema.json", id="broken"),
        pytest.param("[1]", "rteval.schema.json", id="no object"),
    ],
)
def test_a_schema_that_is_there_is_used_and_never_overwritten(folder, tmp_path, content, name):
    folder.wav("a.wav")
    there = tmp_path / "schema.json"
    there.write_text(content, encoding="utf-8")
    assert init_dataset(folder.path, force=True).schema.name == name
    assert there.read_text(encoding="utf-8") == content


def test_scenarios_go_where_scenarios_are(folder, tmp_path):
    folder.wav("a.wav")
    (tmp_path / "scenarios").mkdir()
    result = init_dataset(folder.path)
    assert result.scenario.as_posix() == "scenarios/calls.yaml"
    assert load_scenario(result.scenario).dataset.path == str(folder.path)


def test_the_scenario_can_be_written_anywhere(folder, tmp_path):
    folder.wav("a.wav")
    result = init_dataset(folder.path, scenario_out=tmp_path / "new" / "x.yaml")
    assert load_dataset(load_scenario(result.scenario).dataset.path).items


@pytest.mark.parametrize(
    ("name", "called"),
    [("$HOME & co: ${X}", "HOME-co-X"), ("---", "recordings"), ("Gespräche 2024", "Gespr-che-2024")],
)
def test_any_folder_name_makes_a_scenario_that_loads(folder, name, called):
    folder.wav("a.wav")
    path = folder.path.rename(folder.path.with_name(name))
    scenario = load_scenario(init_dataset(path).scenario, env={})
    assert scenario.name == called
    assert load_dataset(scenario.dataset.path).items


@pytest.mark.parametrize(("n", "gate"), [(19, "ttfa_ms.p50 < 1500"), (20, "ttfa_ms.p95 < 1500")])
def test_its_gates_can_be_judged_by_that_many_items(folder, n, gate):
    data = folder.wav("0.wav").read_bytes()
    for i in range(1, n):
        (folder.path / f"{i}.wav").write_bytes(data)
    scenario = load_scenario(init_dataset(folder.path).scenario)
    assert scenario.all_gates == ("error_rate <= 0.01", gate)


def test_what_cannot_be_used_is_left_out_with_a_reason(folder, tone):
    folder.wav("a.wav")
    folder.wav("silent.wav", tone(16_000) * 0)
    folder.wav("../outside.wav")
    (folder.path / "link.wav").symlink_to("../outside.wav")
    (folder.path / "b.m4a").write_bytes(b"x")
    (folder.path / "c.mp3").touch()
    result = init_dataset(folder.path)
    assert rows(folder) == [{"file_name": "a.wav"}]
    assert result.skipped == (
        "b.m4a is m4a, which cannot be read (convert it to FLAC or WAV)",
        "c.mp3 is empty (0 bytes)",
        "link.wav is a link that leads out of the dataset's folder",
        "silent.wav holds no voice, only silence",
    )


def test_who_the_caller_is_must_be_said_where_channels_differ(folder, tone):
    voice = tone(16_000)
    folder.wav("a.wav")
    for name in ("b.wav", "c.wav"):
        folder.wav(name, np.stack([voice, voice * 0.5], axis=1))
    with pytest.raises(UsageError, match=r"b\.wav and 1 more have channels that differ") as error:
        init_dataset(folder.path)
    assert "--channel" in error.value.hint
    assert [path.suffix for path in folder.path.iterdir()] == [".wav"] * 3
    init_dataset(folder.path, channel="right")
    assert rows(folder)[1:] == [{"file_name": name, "channel": "right"} for name in ("b.wav", "c.wav")]
    assert "channel" not in rows(folder)[0]


@pytest.mark.parametrize("name", ["calls/metadata.jsonl", "calls.yaml", "calls/metadata.csv"])
def test_nothing_is_overwritten_without_being_told_to(folder, tmp_path, name):
    folder.wav("a.wav")
    there = tmp_path / name
    there.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"exists already|lists the items already") as error:
        init_dataset(folder.path)
    assert error.value.exit_code == 2
    assert there.read_text(encoding="utf-8") == "mine"
    assert not list(tmp_path.rglob("*.schema.json"))


def test_force_overwrites(folder, tmp_path):
    folder.wav("a.wav")
    for _ in range(2):
        result = init_dataset(folder.path, force=True)
    assert result.items == 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param("nothing", "does not exist", id="missing"),
        pytest.param("file", "is not a folder", id="file"),
        pytest.param("empty", "holds no usable recording", id="no audio"),
        pytest.param("broken", r"holds no usable recording: a\.wav is empty", id="only broken audio"),
        pytest.param("channel", "channel is 'links'", id="bad channel"),
        pytest.param("place", "cannot write", id="scenario where no file can be"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, make, said):
    path, options = folder.path, {}
    if make == "nothing":
        path = path / "no"
    elif make == "file":
        path = folder.wav("a.wav")
    elif make == "broken":
        (path / "a.wav").touch()
    elif make == "channel":
        options["channel"] = "links"
    elif make == "place":
        options["scenario_out"] = folder.wav("a.wav") / "x.yaml"
    with pytest.raises(UsageError, match=said) as error:
        init_dataset(path, **options)
    assert "\n" not in str(error.value)
