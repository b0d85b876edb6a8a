"""Each way a run can end has its exit code, its sentence, and keeps what was recorded."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rteval.simulator.process import Simulator

from .conftest import FAST


def test_0_every_gate_holds(rteval: Any, scenario: Any) -> None:
    result = rteval("run", scenario(more="gates: [error_rate <= 0, input_wer <= 0]\n"))
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    expected = {
        "run.json", "turns.parquet", "turns.csv", "sessions.parquet", "deltas.parquet", "health.parquet",
        "summary.json", "summary.md", "report.html", "junit.xml", "truth.jsonl",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == expected
    assert (folder.parent / "latest").read_text().strip() == folder.name


def test_1_a_missed_gate_is_named_with_value_limit_and_n(rteval: Any, scenario: Any) -> None:
    result = rteval("run", scenario(more="gates: [ttfa_ms.p50 < 1]\n"), "--no-progress")
    assert result.exit_code == 1
    assert "ttfa_ms.p50 < 1" in result.stderr
    assert "limit 1" in result.stderr
    assert "n 3" in result.stderr


def test_1_a_gate_without_samples_fails_and_says_so(rteval: Any, scenario: Any, summary_of: Any) -> None:
    result = rteval("run", scenario(more="gates: [ttfa_ms.p95 < 10000]\n"))
    assert result.exit_code == 1
    (gate,) = [gate for gate in summary_of(Path(result.stdout.strip()))["gates"] if gate["metric"] == "ttfa_ms.p95"]
    assert (gate["verdict"], gate["n"]) == ("no_data", 3)
    assert "no_data" in result.stderr


WRONG = {
    "misspelt key": (FAST.replace("modalities", "modalites"), "modalities"),
    "unknown gate": (FAST + "gates: [ttfaa_ms.p95 < 1]\n", "ttfa_ms"),
    "gate without stat": (FAST + "gates: [ttfa_ms < 1]\n", "ttfa_ms"),
    "unknown item": (FAST.replace("lost-card", "lost-cart"), "lost-card"),
    "missing dataset": (FAST.replace("DATASET", "nowhere"), "nowhere"),
    "not built yet": (FAST.replace("limits: {", "limits: {cost_usd: 1, "), "not available yet"),
    "variant": (FAST + "matrix: {a: {b: {load.sessions: 2}}}\n", "no variant can set it"),
    "setting of the other dialect": (FAST.replace("session:", "session:\n  temperature: 0.7"), "temperature"),
    "behaviour": (FAST.replace("ttfa_ms: 30", "ttfa_mss: 30"), "ttfa_ms"),
}


@pytest.mark.parametrize("name", WRONG)
def test_2_a_wrong_scenario_is_a_sentence_with_the_cure(name: str, rteval: Any, scenario: Any, tmp_path: Path) -> None:
    text, cure = WRONG[name]
    for command in ("check", "run"):
        result = rteval(command, scenario(text))
        assert result.exit_code == 2, result.stderr
        assert result.stdout == ""
        assert cure in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "reports").exists()


def test_2_a_run_is_never_overwritten(rteval: Any, scenario: Any) -> None:
    assert rteval("run", scenario(), "--run-id", "one").exit_code == 0
    result = rteval("run", scenario(), "--run-id", "one")
    assert result.exit_code == 2
    assert "one" in result.stderr


def test_3_no_credential_is_a_sentence_before_anything_is_written(rteval: Any, scenario: Any, tmp_path: Path) -> None:
    path = scenario(FAST.replace("provider: simulator", "provider: openai\n  model: m"))
    result = rteval("run", path, env={"OPENAI_API_KEY": ""})
    assert result.exit_code == 3, result.stderr
    assert "OPENAI_API_KEY" in result.stderr
    assert not (tmp_path / "reports").exists()


def custom(url: str, more: str = "") -> str:
    return FAST.replace("provider: simulator", f"provider: custom\n  url: {url}\n  {more}")


def test_3_nobody_there(rteval: Any, scenario: Any, summary_of: Any) -> None:
    result = rteval("run", scenario(custom("ws://127.0.0.1:1/v1/realtime?model=m")))
    assert result.exit_code == 3
    assert "nothing listens" in result.stderr
    folder = Path(result.stdout.strip())
    assert summary_of(folder)["state"] == "refused"
    assert list(pd.read_parquet(folder / "turns.parquet").outcome) == ["refused"] * 3


def test_3_a_refused_key_is_explained_and_never_shown(rteval: Any, scenario: Any) -> None:
    wrong = "wrong-key-0123456789abcdef"
    with Simulator(api_key="right-key-0123456789abcdef") as server:
        url = f"{server.url}/openai/v1/realtime?model=m"
        path = scenario(custom(url, "auth: api_key\n  api_key_env: MY_KEY"))
        result = rteval("run", path, env={"MY_KEY": wrong})
    assert result.exit_code == 3
    assert "401" in result.stderr
    folder = Path(result.stdout.strip())
    for file in folder.rglob("*"):
        if file.is_file():
            assert wrong.encode() not in file.read_bytes(), file
    assert wrong not in result.stderr


def test_4_a_generator_that_was_the_bottleneck_makes_the_run_invalid(
    rteval: Any, scenario: Any, summary_of: Any
) -> None:
    result = rteval("run", scenario(), "--set", "limits.loop_lag_ms=0.000001", "--set", "gates=[input_wer <= 0]")
    assert result.exit_code == 4
    assert "INVALID" in result.stderr
    summary = summary_of(Path(result.stdout.strip()))
    assert summary["state"] == "invalid"
    assert summary["gates"][0]["verdict"] == "pass"


def test_5_a_limit_ends_the_run_and_every_planned_turn_has_its_row(rteval: Any, scenario: Any) -> None:
    result = rteval("run", scenario(), "--set", "limits.turns=1", "--set", "load.sessions=1")
    assert result.exit_code == 5
    assert "limits.turns" in result.stderr or "limit" in result.stderr
    turns = pd.read_parquet(Path(result.stdout.strip()) / "turns.parquet")
    assert sorted(turns.outcome) == ["cut", "cut", "ok"]
    assert not turns.duplicated(["session", "turn"]).any()


SLOW = FAST.replace("ttfa_ms: 30", "ttfa_ms: 60000")


def running_folder(tmp_path: Path) -> Path | None:
    for path in (tmp_path / "reports").glob("quick/*/run.json"):
        return path.parent
    return None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_in_order_and_writes_the_report(
    number: signal.Signals,
    code: int,
    rteval_process: Any,
    scenario: Any,
    tmp_path: Path,
    eventually: Any,
    summary_of: Any,
) -> None:
    process = rteval_process("run", scenario(SLOW))
    folder = eventually(lambda: running_folder(tmp_path))
    eventually(lambda: any((folder / "shards").glob("*.jsonl")))
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out.strip() == str(folder)
    assert summary_of(folder)["state"] == "partial"
    assert list(pd.read_parquet(folder / "turns.parquet").outcome) == ["cut"] * 3
    assert "Traceback" not in err


def test_a_second_ctrl_c_ends_at_once_and_the_report_can_still_be_made(
    rteval_process: Any, rteval: Any, scenario: Any, tmp_path: Path, eventually: Any
) -> None:
    process = rteval_process("run", scenario(SLOW))
    folder = eventually(lambda: running_folder(tmp_path))
    eventually(lambda: any((folder / "shards").glob("*.jsonl")))
    os.kill(process.pid, signal.SIGINT)
    eventually(lambda: process.poll() is not None or os.kill(process.pid, signal.SIGINT) or process.poll() is not None)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert rteval("report", folder).exit_code in (130, 1)


def test_a_killed_run_is_readable(
    rteval_process: Any, rteval: Any, scenario: Any, tmp_path: Path, eventually: Any, summary_of: Any
) -> None:
    """One quick turn is recorded, then the process is killed while the next one waits for its answer."""
    text = FAST.replace("speed: 100", "speed: 100, faults: [{kind: no_answer, sessions: [2, 3]}]")
    process = rteval_process("run", scenario(text), "--set", "load.sessions=1", "--no-progress")
    folder = eventually(lambda: running_folder(tmp_path))
    eventually(lambda: any(b'"outcome":"ok"' in path.read_bytes() for path in (folder / "shards").glob("*.jsonl")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = rteval("report", folder)
    assert result.exit_code == 1, result.stderr
    summary = summary_of(folder)
    assert summary["state"] == "partial"
    assert summary["counts"]["not_recorded"] == 2
    assert list(pd.read_parquet(folder / "turns.parquet").outcome) == ["ok"]
    assert (folder / "report.html").exists()


def test_answers_are_kept_as_they_were_heard(rteval: Any, scenario: Any) -> None:
    import soundfile

    result = rteval("run", scenario(), "--set", "report.audio=all")
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    for row in pd.read_parquet(folder / "turns.parquet").itertuples():
        kept = soundfile.info(folder / "audio" / f"{row.session}-{row.turn}.wav")
        assert kept.frames * 1000 / kept.samplerate == pytest.approx(row.output_audio_ms)


def test_an_answer_that_cannot_be_kept_is_told_and_stops_nothing_else(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from rteval.client.audio_files import AudioKeeper
    from rteval.formats import PCM16

    (tmp_path / "audio").write_text("in the way")
    keeper = AudioKeeper(tmp_path / "audio", PCM16)
    keeper.keep(SimpleNamespace(session="s0", turn=0), [b"AAAA"])  # type: ignore[arg-type]
    keeper.close()
    assert "s0-0.wav cannot be written" in str(keeper.failure)
