"""What is no run, or no whole one, is a sentence; and nobody disturbs a judge at work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rteval.errors import RunFolderError
from rteval.judge import judge
from rteval.shards import alone

WRONG = {
    "scenario": 5,
    "scenario.resolved": "x",
    "labels": [1],
    "target": "x",
    "dataset": True,
    "planned": [1],
    "planned.turns": "x",
    "gates": 5,
    "checks": "x",
    "scoring": 1.5,
    "scoring.normalizer": "x",
    "scoring.checks": {"a": 1},
    "slo": {"ttfa_ms": "x"},
    "limits": "x",
    "limits.loop_lag_ms": {},
    "report": "x",
    "report.formats": 5,
    "versions": "x",
    "host": 5,
    "end": "x",
    "refusal": "x",
    "live": "x",
    "live.warnings": 5,
    "live.sessions_peak": "x",
    "records": "x",
    "records.duplicates": [],
    "schema_version": True,
    "load.warmup_s": 1e300,
    "load.duration_s": -1,
    "load.asked": [[1e300, 1]],
    "started_ns": 2**63,
}


def change(folder: Path, path: str, value: object) -> None:
    run: Any = json.loads((folder / "run.json").read_bytes())
    *parents, last = path.split(".")
    inner = run
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    (folder / "run.json").write_text(json.dumps(run))


@pytest.mark.parametrize("path", WRONG)
def test_a_run_json_with_a_wrong_value_names_it(path: str, recorded: Path, rteval: Any) -> None:
    change(recorded, path, WRONG[path])
    result = rteval("report", recorded)
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.rpartition(".")[2] in result.stderr or "normaliser" in result.stderr


@pytest.mark.parametrize("path", ["report.formats", "records.duplicates", "refusal", "end.detail", "labels"])
def test_null_is_not_given(path: str, recorded: Path, rteval: Any) -> None:
    judge(recorded)
    change(recorded, path, None)
    assert rteval("report", recorded).exit_code == 0


def test_a_run_json_of_another_program_is_left_alone(here: Path, rteval: Any) -> None:
    theirs = b'{"name": "webpack", "mode": "production"}'
    (here / "run.json").write_bytes(theirs)
    before = sorted(path.name for path in here.iterdir())
    result = rteval("report", here)
    assert result.exit_code == 2
    assert "not written by rteval" in result.stderr
    assert (here / "run.json").read_bytes() == theirs
    assert sorted(path.name for path in here.iterdir()) == before


TABLES: list[Any] = [
    pytest.param("turns.parquet", lambda x: x.drop(columns="outcome"), "no column outcome", id="no outcome"),
    pytest.param("turns.parquet", lambda x: x.assign(first_audio_ns="x"), "first_audio_ns is", id="text for time"),
    pytest.param("turns.parquet", lambda x: x.assign(tags="x"), "tags is", id="text for list"),
    pytest.param("sessions.parquet", lambda x: x[["session"]], "no column", id="no sessions"),
    pytest.param("deltas.parquet", lambda x: x.assign(kind="zzz"), "zzz", id="unknown stream"),
    pytest.param("health.parquet", lambda x: x.assign(value="x"), "value is", id="text for lag"),
    pytest.param("health.parquet", lambda x: x[["at_ns"]], "no column", id="no lag"),
]


@pytest.mark.parametrize(("name", "spoil", "sentence"), TABLES)
def test_a_table_of_other_columns_is_named(
    name: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], sentence: str, recorded: Path
) -> None:
    judge(recorded)
    spoil(pd.read_parquet(recorded / name)).to_parquet(recorded / name)
    with pytest.raises(RunFolderError, match=sentence) as caught:
        judge(recorded)
    assert name in str(caught.value)


LINES = [
    {"turn": {"session": [1]}},
    {"turn": {"turn": "x"}},
    {"turn": {"turn": True}},
    {"turn": {"meta": 5}},
    {"turn": {"deltas": {"kind": ["audio"], "arrival_ns": [], "size_bytes": [], "chars": []}}},
    {"turn": {"deltas": {"kind": ["audio"], "arrival_ns": ["x"], "size_bytes": [1], "chars": [0]}}},
    {"turn": {"deltas": {"kind": ["audio"], "arrival_ns": [10**19], "size_bytes": [1], "chars": [0]}}},
    {"health": {"worker": 5}},
    {"health": {"loop_lag_us": ["x"]}},
    {"health": {"loop_lag_us": 5}},
    {"health": {"sessions_open": None}},
    {"health": {"cpu_share": "x"}},
]


@pytest.mark.parametrize("line", LINES, ids=json.dumps)
def test_a_line_that_is_not_ours_is_counted_as_torn(line: dict[str, Any], recorded: Path) -> None:
    (shard,) = (recorded / "shards").iterdir()
    written = [json.loads(text) for text in shard.read_text().splitlines()]
    (kind,) = line
    (model,) = [entry[kind] for entry in written if kind in entry]
    shard.write_text(shard.read_text() + json.dumps({kind: {**model, **line[kind]}}) + "\n")
    judgement = judge(recorded)
    assert judgement.summary["counts"]["torn_lines"] == 1
    assert judgement.summary["counts"]["turns"] == 1


def test_a_truth_in_a_number_column_is_no_number(recorded: Path) -> None:
    (shard,) = (recorded / "shards").iterdir()
    shard.write_text(shard.read_text().replace('"first_audio_ns":null', '"first_audio_ns":true'))
    judge(recorded)
    assert pd.read_parquet(recorded / "turns.parquet").first_audio_ns.isna().all()


@pytest.mark.parametrize("name", ["x" * 5000, "\udcff", "s/" + "x" * 300])
def test_a_name_that_no_folder_has_is_a_sentence(name: str, rteval: Any) -> None:
    result = rteval("report", name)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_a_latest_that_names_nothing_possible_is_a_sentence(recorded: Path, rteval: Any) -> None:
    (recorded.parent / "latest").write_text("x" * 5000)
    result = rteval("report", recorded.parent)
    assert result.exit_code == 2
    assert "no run folder" in result.stderr


def test_a_second_judge_waits_for_the_first(recorded: Path) -> None:
    """Without this, ``rteval report`` at the end of a run took the run's own tables from under it."""
    done = threading.Event()

    def second() -> None:
        judge(recorded)
        done.set()

    with alone(recorded):
        thread = threading.Thread(target=second)
        thread.start()
        assert not done.wait(0.3)
        assert (recorded / "shards").is_dir()
    thread.join(60)
    assert done.is_set()
