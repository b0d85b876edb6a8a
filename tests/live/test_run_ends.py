"""A run ends by the first thing that ends it, and says no more than what happened."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection

from rteval.cli import app
from rteval.errors import ScenarioError
from rteval.judge import Judgement
from rteval.prepare import RunOptions, prepare
from rteval.records import Outcome, TurnRecord
from rteval.run import _LiveRun, run
from rteval.shards import COPIES, ShardWriter

from .conftest import ROOT
from .scripted import answer, get_ready, heard, serving

QUICK = """\
name: quick
target:
  provider: simulator
  behaviour: {ttfa_ms: 50, speed: 100}
session: {turn_detection: none}
dataset: {path: DATASET, limit: 3}
conversation: {wait_for_playback: false}
load: {sessions: 3, pacing: fast}
limits: {loop_lag_ms: 5000}
gates: []
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK.replace("DATASET", str(ROOT / "datasets" / "prompts")))
    return path


@pytest.fixture
def ended(scenario: Path, tmp_path: Path) -> Callable[..., Judgement]:
    def hold(*sets: str) -> Judgement:
        console = Console(file=io.StringIO())
        return run(scenario, RunOptions(sets=sets, out=tmp_path / "reports", progress=False), console)

    return hold


def outcomes(judgement: Judgement) -> list[str]:
    return sorted(pd.read_parquet(judgement.run_dir / "turns.parquet").outcome)


def test_a_limit_that_kept_nothing_from_running_did_not_end_the_run(ended: Any) -> None:
    judgement = ended("limits.turns=3", "limits.sessions=3")
    assert outcomes(judgement) == ["ok"] * 3
    assert (judgement.exit_code, judgement.summary["state"]) == (0, "complete")


def test_a_limit_on_sessions_does_not_switch_off_the_others(ended: Any) -> None:
    """One ends the starting of sessions only; the next one ends the turns."""
    judgement = ended("limits.sessions=1", "limits.turns=1", "conversation.items_per_session=2")
    assert outcomes(judgement) == ["cut", "cut", "ok"]
    assert judgement.exit_code == 5
    detail = orjson.loads((judgement.run_dir / "run.json").read_bytes())["end"]["detail"]
    assert "limits.sessions" in detail
    assert "limits.turns" in detail


def test_in_a_timed_run_a_target_that_lets_nobody_in_is_called_once_a_second_from_each_place(ended: Any) -> None:
    target = "target={provider: custom, url: 'ws://127.0.0.1:1/v1/realtime'}"
    judgement = ended(target, "load={sessions: 3, ramp_s: 0, duration_s: 1.5, pacing: fast}")
    assert (judgement.exit_code, judgement.summary["state"]) == (3, "refused")
    assert 3 <= len(pd.read_parquet(judgement.run_dir / "sessions.parquet")) <= 6
    assert set(outcomes(judgement)) == {"refused"}


@pytest.mark.parametrize("engine", ["asyncio", "locust"])
def test_where_there_is_no_uvloop_the_loop_is_asyncios_own(ended: Any, monkeypatch: Any, engine: str) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert outcomes(ended(f"load.engine={engine}")) == ["ok"] * 3


def test_a_worker_that_was_lost_and_still_writes_is_judged_by_what_it_had_recorded(
    ended: Any, monkeypatch: Any
) -> None:
    with ExitStack() as stack:

        def lose(live: _LiveRun) -> None:
            writer = stack.enter_context(ShardWriter(live._folder, "w7", COPIES))
            more = {"run_id": "r", "worker": "w7", "session": "s9", "modality": "text", "dialect": "ga"}
            writer.turn(TurnRecord(item="alone", turn=0, outcome=Outcome.FAILED, **more))
            writer.flush()
            settle(live)
            writer.turn(TurnRecord(item="late", turn=1, outcome=Outcome.FAILED, **more))
            writer.flush()

        settle = _LiveRun.settle_copies
        monkeypatch.setattr(_LiveRun, "settle_copies", lose)
        judgement = ended()
        assert sorted(outcomes(judgement)) == ["failed", "ok", "ok", "ok"]
        live = orjson.loads((judgement.run_dir / "run.json").read_bytes())["live"]
        assert live["incidents"] == ["w7 still recorded when the run was judged; what came later is lost"]


def test_the_peak_is_counted_as_sessions_open_and_not_sampled(desk: Any) -> None:
    """A run of less than a second has no sample before its end, when none is open any more."""

    async def hold() -> None:
        asked: list[str] = []
        all_asked = asyncio.Event()

        async def talk(connection: ServerConnection) -> None:
            await get_ready(connection)
            asked.append((await heard(connection, "response.create"))["type"])
            if len(asked) == 3:
                all_asked.set()
            await all_asked.wait()
            await answer(connection, "resp_1")
            await connection.wait_closed()

        async with serving(talk) as url:
            maker = desk(url)
            await asyncio.gather(*(maker.session([maker.text()], name).run() for name in ("s0", "s1", "s2")))
            assert (maker.caller.board.sessions_peak, maker.caller.board.sessions_open) == (3, 0)

    asyncio.run(hold())


def test_a_ca_file_without_a_certificate_is_the_scenarios_fault(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    sets = ["target.provider=custom", "target.url=wss://127.0.0.1:1/v1/realtime", f"target.ca_file={tmp_path}/ca.pem"]
    with pytest.raises(ScenarioError, match="ca_file"):
        prepare(scenario, RunOptions(sets=sets))


@pytest.mark.skipif(find_spec("python_socks") is not None, reason="python-socks is installed")
def test_a_socks_proxy_without_its_package_is_the_scenarios_fault(scenario: Path) -> None:
    sets = ["target.provider=custom", "target.url=wss://127.0.0.1:1/v1/realtime", "target.proxy=socks5://127.0.0.1:1"]
    with pytest.raises(ScenarioError, match="SOCKS"):
        prepare(scenario, RunOptions(sets=sets))


def test_a_signal_before_there_is_a_loop_ends_with_its_own_code(scenario: Path, tmp_path: Path) -> None:
    prepared = prepare(scenario, RunOptions())
    live = _LiveRun(prepared, tmp_path / "run", RunOptions(), Console(file=io.StringIO()))
    with pytest.raises(SystemExit) as ended, live.signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143


def test_a_second_signal_ends_at_once_also_while_the_loop_is_busy(scenario: Path, tmp_path: Path) -> None:
    """The server's start keeps the loop from seeing the first one."""
    command = [sys.executable, "-m", "rteval", "run", str(scenario), "--out", str(tmp_path / "reports")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not any((tmp_path / "reports" / "quick").glob("*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, err


def test_json_is_one_object_also_when_rteval_has_a_bug(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("rteval.run.run", broken)
    result = CliRunner().invoke(app, ["run", str(scenario), "--json"])
    assert orjson.loads(result.stdout) == {"error": "ZeroDivisionError: ours", "hint": None, "exit_code": 70}
    assert isinstance(result.exception, ZeroDivisionError)
