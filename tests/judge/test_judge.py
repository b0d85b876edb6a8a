from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rteval.analysis.metrics import METRICS
from rteval.errors import GateError, RunFolderError
from rteval.judge import judge
from rteval.records import HealthSample, Outcome, SessionRecord, Stage, TurnRecord
from rteval.shards import shard_paths

T0 = 1_000_000_000_000_000
MS = 1_000_000
CANARY = "xylophone marmalade"

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]

TABLES = {"turns.parquet", "turns.csv", "sessions.parquet", "deltas.parquet", "health.parquet"}


def healthy(n: int = 3) -> list[HealthSample]:
    return [HealthSample(worker="w0", at_ns=T0 + k, loop_lag_us=[100] * 50, cpu_share=0.2) for k in range(n)]


def late(n: int = 3) -> list[HealthSample]:
    return [HealthSample(worker="w0", at_ns=T0 + k, loop_lag_us=[90_000] * 50) for k in range(n)]


def test_a_run_folder_gets_all_its_files(make_run: MakeRun, make_turn: MakeTurn) -> None:
    report = {"formats": ["markdown", "junit", "html"], "transcripts": "full"}
    run_dir = make_run([make_turn(f"s{k}") for k in range(3)], health=healthy(), report=report)
    judgement = judge(run_dir)
    names = {path.name for path in run_dir.iterdir()}
    assert names == TABLES | {"run.json", "summary.json", "summary.md", "junit.xml", "report.html"}
    assert (run_dir.parent / "latest").read_text() == "r1\n"
    assert judgement.exit_code == 0
    assert json.loads((run_dir / "summary.json").read_text()) == judgement.summary
    run = json.loads((run_dir / "run.json").read_text())
    assert (run["state"], run["exit_code"]) == ("complete", 0)


def test_only_the_reports_asked_for_are_written(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([make_turn()], report={"formats": [], "transcripts": "full"})
    judge(run_dir)
    assert {path.name for path in run_dir.iterdir()} == TABLES | {"run.json", "summary.json"}


def test_the_summary_has_the_shape_that_others_rely_on(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([make_turn()], health=healthy(), gates=["ttfa_ms.p50 < 1200", "input_wer <= 0.1"])
    judge(run_dir, reports_written=False)
    text = (run_dir / "summary.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    summary = json.loads(text)
    assert list(summary) == [
        "schema_version", "run_id", "run_dir", "state", "exit_code", "metrics", "gates", "health", "load", "counts",
        "statistics", "breakdown", "variants", "culprit", "incidents",
    ]  # fmt: skip
    assert (summary["schema_version"], summary["run_id"]) == (1, "r1")
    assert summary["run_dir"] == str(run_dir.resolve())
    assert list(summary["metrics"]) == list(METRICS)
    for name, entry in summary["metrics"].items():
        stats = {"mean", "p50", "p90", "p95", "p99", "min", "max"} if METRICS[name].is_distribution else {"value"}
        assert stats | {"n", "left_out", "unit"} == set(entry) - {"reason", "withheld"}, name
        # Every number that is missing says why.
        missing = {stat for stat in stats if entry[stat] is None}
        assert not missing or "reason" in entry or missing == set(entry["withheld"])
    assert [list(gate) for gate in summary["gates"]] == [
        ["text", "metric", "value", "limit", "verdict", "reason", "n", "severity", "missed"]
    ] * 2
    assert [gate["verdict"] for gate in summary["gates"]] == ["pass", "pass"]
    assert summary["health"]["verdict"] == "ok"


def test_judging_again_changes_nothing(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """From the shards or from the tables: the same summary, byte for byte, and the same table."""
    turns = [make_turn(f"s{k}", k % 2, reference=f"item {k} of ten", started_ns=T0 - k) for k in range(5)]
    run_dir = make_run(turns, health=healthy(), gates=["ttfa_ms.p50 < 1200", "input_wer < 9"], planned={"turns": 6})
    (shard,) = shard_paths(run_dir)
    with shard.open("ab") as file:
        file.write(shard.read_bytes().splitlines()[0] + b'\n{"turn":{"torn')
    judge(run_dir)
    assert not shard_paths(run_dir)
    first = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    table = pd.read_parquet(run_dir / "turns.parquet")
    counts = json.loads(first["summary.json"])["counts"]
    assert (counts["duplicates"], counts["torn_lines"], counts["not_recorded"]) == (1, 1, 1)
    judge(run_dir)
    assert {path.name: path.read_bytes() for path in run_dir.iterdir() if path.suffix in (".json", ".md", ".xml")} == {
        name: data for name, data in first.items() if Path(name).suffix in (".json", ".md", ".xml")
    }
    pd.testing.assert_frame_equal(pd.read_parquet(run_dir / "turns.parquet"), table)
    assert table["started_ns"].is_monotonic_increasing


def test_scores_are_made_anew_from_the_tables(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([make_turn(reference="Hello, World!", input_transcript="hello world")])
    assert judge(run_dir, reports_written=False).summary["metrics"]["input_wer"]["value"] == 0.0
    run = json.loads((run_dir / "run.json").read_text())
    run["scoring"] = {"normalizer": "none", "wer": True, "checks": {"polite": {"contains": "please"}}}
    run["gates"], run["checks"] = ["checks.polite >= 1"], ["polite"]
    (run_dir / "run.json").write_text(json.dumps(run))
    judgement = judge(run_dir, reports_written=False)
    assert judgement.summary["metrics"]["input_wer"]["value"] == 1.0
    assert judgement.summary["gates"][0]["verdict"] == "pass"


ENDS = [
    pytest.param({"reason": "sigint"}, 130, "partial", id="SIGINT"),
    pytest.param({"reason": "sigterm"}, 143, "partial", id="SIGTERM"),
    pytest.param({"reason": "limit", "detail": "limits.wall_s"}, 5, "partial", id="limit"),
    pytest.param({"reason": "refused"}, 3, "refused", id="refused"),
    pytest.param({"reason": "of a later version"}, 1, "partial", id="an end that we do not know"),
    pytest.param(None, 1, "partial", id="killed"),
]


@pytest.mark.parametrize(("end", "code", "state"), ENDS)
def test_how_a_run_ended_decides_its_exit_code(
    make_run: MakeRun, make_turn: MakeTurn, end: dict[str, Any] | None, code: int, state: str
) -> None:
    judgement = judge(make_run([make_turn()], end=end))
    assert (judgement.exit_code, judgement.summary["state"]) == (code, state)


def test_a_run_whose_sessions_never_became_ready_was_refused(
    make_run: MakeRun, make_turn: MakeTurn, make_session: Callable[..., SessionRecord]
) -> None:
    session = make_session(outcome="refused", connected_ns=None, ready_ns=None)
    turn = make_turn(outcome=Outcome.REFUSED, failure_stage=Stage.CONNECT, error_code="http_401")
    assert judge(make_run([turn], [session])).exit_code == 3


def test_a_late_generator_makes_the_run_invalid_and_keeps_the_content(make_run: MakeRun, make_turn: MakeTurn) -> None:
    gates = ["ttfa_ms.p50 < 1200", "input_wer <= 0.1"]
    judgement = judge(make_run([make_turn()], health=late(), gates=gates))
    assert (judgement.exit_code, judgement.summary["state"]) == (4, "invalid")
    assert [gate["verdict"] for gate in judgement.summary["gates"]] == ["invalid", "pass"]
    assert "fewer sessions" in judgement.summary["health"]["reasons"][1]


def test_a_finished_run_with_rows_missing_is_partial(make_run: MakeRun, make_turn: MakeTurn) -> None:
    judgement = judge(make_run([make_turn()], planned={"turns": 2}))
    assert (judgement.exit_code, judgement.summary["state"]) == (1, "partial")


def test_a_run_that_kept_no_gates_has_the_default_one(make_run: MakeRun, make_turn: MakeTurn) -> None:
    judgement = judge(make_run([make_turn()], gates=None), reports_written=False)
    assert [gate.gate.metric for gate in judgement.gates] == ["error_rate"]


def texts_of(run_dir: Path) -> bytes:
    """Everything that is readable in a run folder, Parquet columns decompressed."""
    plain = b"".join(path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.suffix != ".parquet")
    tables = [pd.read_parquet(path).to_csv() for path in run_dir.glob("*.parquet")]
    return plain + "".join(tables).encode()


def canary_turn(make_turn: MakeTurn) -> TurnRecord:
    texts = dict.fromkeys(("reference", "input_transcript", "output_transcript", "output_text"), CANARY)
    calls = ({"name": "say", "arguments": json.dumps({"what": CANARY})},)
    return make_turn(**texts, expect={"contains": CANARY, "answer": CANARY}, tool_calls=calls)


def test_without_transcripts_no_text_is_left_but_its_scores_are(make_run: MakeRun, make_turn: MakeTurn) -> None:
    report = {"formats": ["markdown", "junit", "html"], "transcripts": "none"}
    run_dir = make_run(
        [canary_turn(make_turn)], report=report, gates=["input_wer <= 0", "checks.pass_rate >= 1"], checks=["contains"]
    )
    judgement = judge(run_dir)
    assert judgement.exit_code == 0
    assert b"xylophone" not in texts_of(run_dir)
    again = judge(run_dir)
    assert again.summary == judgement.summary
    assert "kept no transcripts" in again.notes[0]
    assert pd.read_parquet(run_dir / "turns.parquet")["input_ref_words"].tolist() == [2]


def test_transcripts_stand_in_the_tables_and_nowhere_else(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([canary_turn(make_turn)])
    judge(run_dir)
    assert CANARY in (run_dir / "turns.csv").read_text()
    assert pd.read_parquet(run_dir / "turns.parquet")["output_transcript"].tolist() == [CANARY]
    for name in ("summary.md", "junit.xml", "summary.json", "run.json"):
        assert "xylophone" not in (run_dir / name).read_text()


def test_what_a_server_wrote_reaches_the_tables_unchanged(make_run: MakeRun, make_turn: MakeTurn) -> None:
    strange = ['=HYPERLINK("http://x")', 'quote " comma, line\nend', "nul \x00 bell \x07", "🦜 ‮ rtl", "  blanks  ", ""]
    turns = [make_turn(f"s{k}", output_transcript=text) for k, text in enumerate(strange)]
    run_dir = make_run(turns)
    judge(run_dir)
    assert pd.read_parquet(run_dir / "turns.parquet")["output_transcript"].tolist() == strange


def test_lists_are_lists_in_parquet_and_joined_in_csv(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([make_turn("a", tags=("x", "y")), make_turn("b")])
    judge(run_dir, reports_written=False)
    assert [list(tags) for tags in pd.read_parquet(run_dir / "turns.parquet")["tags"]] == [["x", "y"], []]
    assert pd.read_csv(run_dir / "turns.csv", keep_default_na=False)["tags"].tolist() == ["x;y", ""]


def test_a_judge_that_died_half_way_can_be_repeated(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """Leftovers of a judge that was killed: staged tables, final tables beside shards, shards half removed."""
    run_dir = make_run([make_turn("a"), make_turn("b")])
    backup = shutil.copytree(run_dir, run_dir.parent.parent / "backup")
    expected = judge(run_dir, reports_written=False).summary
    shutil.copytree(backup / "shards", run_dir / "shards")
    (run_dir / ".tables").mkdir()
    (run_dir / ".tables" / "turns.parquet").write_bytes(b"half")
    (run_dir / ".shards.read").mkdir()
    (run_dir / ".shards.read" / "w0.jsonl").write_bytes(b"")
    assert judge(run_dir, reports_written=False).summary == expected
    assert not any(path.name.startswith(".") for path in run_dir.iterdir())


FOLDERS = [
    pytest.param("run.json", None, "cannot read", id="no run.json"),
    pytest.param("run.json", b"{", "is not JSON", id="damaged run.json"),
    pytest.param("run.json", b"[]", "no JSON object", id="run.json is no object"),
    pytest.param("run.json", b'{"schema_version": 99}', "schema_version 99", id="later format"),
    pytest.param("sessions.parquet", None, "sessions.parquet is missing", id="a table is missing"),
    pytest.param("turns.parquet", b"PAR1", "cannot read", id="a table is damaged"),
    pytest.param("deltas.parquet", b"PAR1", "cannot read", id="deltas are damaged"),
    pytest.param("health.parquet", b"PAR1", "cannot read", id="health is damaged"),
]


@pytest.mark.parametrize(("name", "data", "message"), FOLDERS)
def test_a_folder_that_cannot_be_read_is_said_in_a_sentence(
    make_run: MakeRun, make_turn: MakeTurn, name: str, data: bytes | None, message: str
) -> None:
    run_dir = make_run([make_turn()])
    judge(run_dir, reports_written=False)
    (run_dir / name).unlink() if data is None else (run_dir / name).write_bytes(data)
    with pytest.raises(RunFolderError, match=message):
        judge(run_dir, reports_written=False)


def test_a_run_folder_that_cannot_be_written_keeps_its_shards(make_run: MakeRun, make_turn: MakeTurn) -> None:
    run_dir = make_run([make_turn()])
    (run_dir / "turns.parquet").mkdir()
    with pytest.raises(RunFolderError, match="cannot write"):
        judge(run_dir, reports_written=False)
    assert shard_paths(run_dir)
    (run_dir / "turns.parquet").rmdir()
    assert judge(run_dir, reports_written=False).exit_code == 0


def test_a_gate_that_cannot_be_read_stops_the_judge(make_run: MakeRun, make_turn: MakeTurn) -> None:
    with pytest.raises(GateError, match="did you mean"):
        judge(make_run([make_turn()], gates=["eror_rate < 1"]))
