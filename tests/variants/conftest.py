"""Scenarios with variants: read from text, and run in a second against the embedded server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from rteval.judge import Judgement
from rteval.prepare import RunOptions
from rteval.run import run
from rteval.scenario import Scenario, load_scenario

SUPPORT = Path(__file__).parents[2] / "datasets" / "support"

FAST = f"""\
target:
  provider: simulator
  behaviour: {{ttfa_ms: 20, speed: 200, transcription: {{delay_ms: 10}}}}
session: {{modalities: [audio], turn_detection: none, transcription: whisper-1}}
dataset: {{path: {SUPPORT}, ids: [yes-correct, warranty, late-parcel]}}
conversation: {{wait_for_playback: false}}
load: {{sessions: 4, ramp_s: 0, pacing: fast}}
limits: {{loop_lag_ms: 5000}}
report: {{formats: [markdown]}}
"""

TWO_AXES = """\
matrix:
  prompt:
    a: {session.instructions: Be brief.}
    b: {session.instructions: Be warm.}
  model:
    mini: {target.deployment: model-mini}
    full: {target.deployment: model-full}
"""


class Ran:
    """A run that is over, and its tables."""

    def __init__(self, judgement: Judgement, said: str) -> None:
        self.judgement, self.folder, self.said = judgement, judgement.run_dir, said
        self.summary = judgement.summary
        self.turns = pd.read_parquet(self.folder / "turns.parquet")
        self.sessions = pd.read_parquet(self.folder / "sessions.parquet")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Scenario]:
    """Reads a scenario that is given as text; a target and a dataset are added where it has none."""

    def load(text: str, *, sets: tuple[str, ...] = (), **env: str) -> Scenario:
        path = tmp_path / "v.yaml"
        have = {line.partition(":")[0] for line in text.splitlines()}
        more = [
            line for line in ("target: {provider: simulator}", "dataset: data") if line.partition(":")[0] not in have
        ]
        path.write_text("\n".join([text.rstrip("\n"), *more]) + "\n")
        return load_scenario(path, sets=sets, env=env)

    return load


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a scenario of three short recordings, with what is given as text added."""

    def written(more: str, *, folder: Path = tmp_path) -> Path:
        path = folder / "v.yaml"
        path.write_text(FAST + more)
        return path

    return written


def _ran(path: Path, **options: Any) -> Ran:
    with (path.parent / "said.txt").open("w+") as said:
        console = Console(file=said, width=300)
        judgement = run(path, RunOptions(out=path.parent / "reports", **options), console)
        said.seek(0)
        return Ran(judgement, said.read())


@pytest.fixture
def ran(written: Callable[[str], Path]) -> Callable[..., Ran]:
    """Runs such a scenario."""
    return lambda more, **options: _ran(written(more), **options)


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of four variants that several tests look at."""
    path = tmp_path_factory.mktemp("four") / "v.yaml"
    path.write_text(FAST + TWO_AXES)
    return _ran(path)


@pytest.fixture
def two_axes() -> str:
    """A matrix of two prompts and two models."""
    return TWO_AXES
