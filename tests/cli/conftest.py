"""The command line against the simulated service, in this process or in one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from rteval.cli import app

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"

FAST = """\
target:
  provider: simulator
  behaviour: {ttfa_ms: 30, speed: 100, transcription: {delay_ms: 20}}
session:
  modalities: [audio]
  turn_detection: none
  transcription: whisper-1
dataset: {path: DATASET, ids: [yes-correct, lost-card, opening-hours]}
conversation: {wait_for_playback: false}
load: {sessions: 3, pacing: fast}
limits: {loop_lag_ms: 2000}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., Path]:
    """Writes a scenario of a second's length; keyword arguments replace or add top-level keys (YAML text)."""

    def write(text: str = FAST, *, name: str = "quick", more: str = "") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace("DATASET", str(ROOT / "datasets" / "support")) + more)
        return path

    return write


@pytest.fixture
def rteval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in this process, with a reports folder of its own."""
    monkeypatch.setenv("RTEVAL_OUT", str(tmp_path / "reports"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: Any, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)

    return call


@pytest.fixture
def rteval_process(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command as a user would; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rteval", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RTEVAL_OUT": str(tmp_path / "reports")},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until something holds and returns it; fails after a time that no machine needs."""

    def wait(look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while not (found := look()):
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.02)
        return found

    return wait


@pytest.fixture
def summary_of() -> Callable[[Path], dict[str, Any]]:
    """What stands in a run folder's ``summary.json``."""
    return lambda folder: orjson.loads((folder / "summary.json").read_bytes())
