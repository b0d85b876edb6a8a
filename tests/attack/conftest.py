"""The command line as a hostile or unlucky user meets it, and servers that speak no protocol."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from rteval.cli import app
from rteval.records import DeltaKind, Deltas, HealthSample, Outcome, SessionRecord, TurnRecord
from rteval.shards import ShardWriter

SCENARIO = """\
target:
  provider: simulator
session:
  modalities: [audio]
  turn_detection: none
  transcription: whisper-1
dataset: data
conversation: {wait_for_playback: false}
load: {pacing: fast}
limits: {loop_lag_ms: 100000, send_lag_ms: 100000}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a scenario and a dataset of one prompt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.jsonl").write_text('{"text": "hello"}\n')
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return tmp_path


@pytest.fixture
def rteval(here: Path) -> Callable[..., Result]:
    """Runs a command in this process; what it raises is a bug."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def recorded(here: Path) -> Path:
    """A run folder as the live half leaves it: one turn that went well."""
    folder = here / "reports" / "s" / "r1"
    folder.mkdir(parents=True)
    run: dict[str, Any] = {
        "schema_version": 1,
        "run_id": "r1",
        "scenario": {"name": "s", "resolved": {}},
        "planned": {"turns": 1, "sessions": 1},
        "gates": ["error_rate <= 0.01"],
        "report": {"formats": ["markdown", "junit"]},
        "end": {"reason": "finished", "detail": None},
    }
    (folder / "run.json").write_bytes(orjson.dumps(run))
    with ShardWriter(folder, "w0") as writer:
        writer.session(
            SessionRecord(run_id="r1", worker="w0", session="s0", dialect="ga", turns=1, outcome="ready", due_ns=0)
        )
        deltas = Deltas()
        deltas.add(DeltaKind.AUDIO, 5, size_bytes=4800)
        writer.turn(
            TurnRecord(
                run_id="r1",
                worker="w0",
                session="s0",
                turn=0,
                item="i",
                modality="text",
                dialect="ga",
                outcome=Outcome.OK,
                deltas=deltas,
                output_rate_bytes_per_s=48_000,
            )
        )
        writer.health(HealthSample(worker="w0", at_ns=1, loop_lag_us=[1]))
    return folder


Answer = Callable[[socket.socket], None]


@pytest.fixture
def listener() -> Iterator[Callable[[Answer], int]]:
    """Starts a TCP server that gives each connection to a function, and returns its port."""
    opened: list[tuple[socket.socket, threading.Thread]] = []

    def start(answer: Answer) -> int:
        server = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        opened.append((server, thread))
        return int(server.getsockname()[1])

    yield start
    for server, thread in opened:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
