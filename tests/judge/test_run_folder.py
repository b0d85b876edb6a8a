from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rteval.errors import RunFolderError
from rteval.reporting.files import find_run, point_latest, read_json, replace_file, write_csv, write_json


def add_run(reports: Path, name: str, run_id: str, started_at: str) -> Path:
    run_dir = reports / name / run_id
    run_dir.mkdir(parents=True)
    run = {"schema_version": 1, "run_id": run_id, "started_at": started_at}
    (run_dir / "run.json").write_text(json.dumps(run), encoding="utf-8")
    point_latest(run_dir, run)
    return run_dir


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    reports = tmp_path / "reports"
    add_run(reports, "support", "r1", "2025-01-01T00:00:00+00:00")
    add_run(reports, "support", "r2", "2025-01-03T00:00:00+00:00")
    add_run(reports, "smoke", "q[1]", "2025-01-02T00:00:00+00:00")
    add_run(reports, "smoke", "twice", "2025-01-01T00:00:00+00:00")
    add_run(reports, "support", "twice", "2025-01-01T00:00:00+00:00")
    return reports


FOUND = [
    pytest.param("latest", "support/r2", id="latest of all"),
    pytest.param("r1", "support/r1", id="run id"),
    pytest.param("q[1]", "smoke/q[1]", id="a run id is no pattern"),
    pytest.param("{reports}/smoke/q[1]", "smoke/q[1]", id="folder"),
    pytest.param("{reports}/support", "support/r2", id="a scenario's folder is its latest run"),
    pytest.param("{reports}/smoke/latest", "smoke/q[1]", id="a scenario's latest file"),
]


@pytest.mark.parametrize(("arg", "found"), FOUND)
def test_a_run_is_found_by_folder_id_or_latest(reports: Path, arg: str, found: str) -> None:
    assert find_run(arg.format(reports=reports), reports) == reports / found


MISSED = [
    pytest.param("r9", "no run is called 'r9'", id="unknown id"),
    pytest.param("*", r"no run is called '\*'", id="a pattern finds nothing"),
    pytest.param("twice", "several runs are called twice", id="the same id twice"),
    pytest.param("{reports}", "is no run folder", id="a folder without a run"),
    pytest.param("{reports}/support/r9", "there is no run folder", id="a folder that does not exist"),
    pytest.param("../support/r1", "there is no run folder", id="an id has no path"),
    pytest.param("..", "is no run folder|there is no run folder", id="the folder above"),
]


@pytest.mark.parametrize(("arg", "message"), MISSED)
def test_a_run_that_is_not_there_is_said(reports: Path, arg: str, message: str) -> None:
    with pytest.raises(RunFolderError, match=message):
        find_run(arg.format(reports=reports), reports)


def test_latest_names_the_run_that_started_last(reports: Path) -> None:
    """Judging an old run again does not make it the latest."""
    point_latest(reports / "support" / "r1", {"started_at": "2025-01-01T00:00:00+00:00"})
    assert (reports / "support" / "latest").read_text() == "r2\n"


@pytest.mark.parametrize("content", ["gone", "../smoke/q[1]", "", "\x00"])
def test_a_latest_that_names_no_run_is_said_and_mended(reports: Path, content: str) -> None:
    (reports / "support" / "latest").write_text(content)
    with pytest.raises(RunFolderError, match="no run folder"):
        find_run(str(reports / "support"), reports)
    assert find_run("latest", reports) == reports / "smoke" / "q[1]"
    point_latest(reports / "support" / "r1", {"started_at": "2025-01-01T00:00:00+00:00"})
    assert find_run(str(reports / "support"), reports).name == "r1"


def test_without_any_run_latest_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run under") as raised:
        find_run("latest", tmp_path)
    assert raised.value.hint is not None


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match="No space left"):
        replace_file(path, half)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
    assert path.read_text() == "old"


def test_json_has_no_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    write_json(tmp_path / "f", {"a": float("nan"), "b": float("inf"), "c": 0.1})
    assert read_json(tmp_path / "f") == {"a": None, "b": None, "c": 0.1}


def test_csv_keeps_texts_exactly_as_they_are(tmp_path: Path) -> None:
    texts = ["=1+1", "@x", '"', "a,b", "line\nend", "cr\rend", "-"]
    frame = pd.DataFrame({"text": pd.array(texts, dtype="string"), "n": pd.array([1, None, 3, 4, 5, 6, 7], "Int64")})
    write_csv(tmp_path / "f.csv", frame)
    with (tmp_path / "f.csv").open(newline="") as file:
        back = pd.read_csv(file, keep_default_na=False)
    assert back["text"].tolist() == texts
    assert back["n"].tolist() == ["1", "", "3", "4", "5", "6", "7"]
