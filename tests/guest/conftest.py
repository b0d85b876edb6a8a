"""Scenarios of a second's length, and stock Locust processes that run them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from rteval.records import TurnRecord
from rteval.shards import read_shards
from rteval.simulator.process import Simulator

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "datasets" / "support"
LOCUSTFILE = ROOT / "examples" / "locustfile.py"

QUICK = {"ttfa_ms": 30, "speed": 20, "transcription": {"delay_ms": 20}}
SLOW = {"ttfa_ms": 200, "speed": 8, "transcription": {"delay_ms": 20}}


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four recordings, so that no test waits for thirty to be read."""
    folder = tmp_path_factory.mktemp("datasets") / "few"
    (folder / "audio").mkdir(parents=True)
    with (folder / "metadata.jsonl").open("w") as metadata:
        for line in (SUPPORT / "metadata.jsonl").read_text().splitlines()[:4]:
            row = json.loads(line)
            name = f"audio/{row['file_name']}"
            shutil.copy(SUPPORT / row["file_name"], folder / name)
            metadata.write(json.dumps(row | {"file_name": name}) + "\n")
    return folder


@pytest.fixture
def quick() -> dict[str, Any]:
    """A server whose turns take about 0.1 s."""
    return QUICK


@pytest.fixture
def scenario(tmp_path: Path, few: Path) -> Callable[..., Path]:
    """Writes a scenario against a target; keyword arguments replace its sections."""

    def write(target: dict[str, Any], *, folder: Path = tmp_path, **sections: dict[str, Any]) -> Path:
        content = {
            "name": "guest",
            "target": target,
            "session": {"modalities": ["audio"], "turn_detection": "none", "transcription": "whisper-1"},
            "dataset": {"path": str(few)},
            "conversation": {"wait_for_playback": False},
            "load": {"pacing": "fast"},
            "limits": {"send_lag_ms": 2000, "loop_lag_ms": 2000},
            **sections,
        }
        path = folder / "guest.yaml"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture(scope="session")
def server(few: Path) -> Iterator[Simulator]:
    """A well-behaved server for many tests."""
    with Simulator(datasets=[few], behaviour=QUICK) as server:
        yield server


@pytest.fixture(scope="session")
def slow_server(few: Path) -> Iterator[Simulator]:
    """The same in no hurry: a turn takes about 0.6 s."""
    with Simulator(datasets=[few], behaviour=SLOW, truth=few.parent / "truth.jsonl") as server:
        yield server


@pytest.fixture
def answered(slow_server: Simulator) -> Callable[[], int]:
    """How many responses it has given so far."""
    truth = slow_server.truth_path
    assert truth is not None
    return lambda: len(truth.read_text().splitlines())


class Silent:
    """A target that lets everybody in, hears every turn and answers none.

    Attributes:
        port: where it listens.
        owed: the answers that it was asked for.
    """

    def __init__(self) -> None:
        self.owed: list[str] = []
        self._server = serve(self._talk, "127.0.0.1", 0)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Silent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _talk(self, connection: ServerConnection) -> None:
        connection.send('{"type": "session.created", "session": {"id": "sess_1"}}')
        for message in connection:
            kind = json.loads(message)["type"]
            if kind == "session.update":
                connection.send('{"type": "session.updated", "session": {"id": "sess_1"}}')
            if kind == "response.create":
                self.owed.append(kind)


@pytest.fixture
def silent() -> Iterator[Silent]:
    """Begins with nothing owed."""
    with Silent() as server:
        yield server


def at(server: Simulator, **more: Any) -> dict[str, Any]:
    """The target that a server is."""
    return {"provider": "custom", "url": f"{server.url}/openai/v1/realtime?model=m", **more}


@pytest.fixture(name="at")
def _at() -> Callable[..., dict[str, Any]]:
    return at


class Locust:
    """One process of ``locust`` (with ``--processes`` several), as a user starts it.

    Attributes:
        out: folder of the reports.
        process: its process, the leader of a session of its own.
    """

    def __init__(self, folder: Path, *arguments: object, env: dict[str, str]) -> None:
        self.out = folder / "reports"
        self._log = folder / f"locust-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", LOCUSTFILE, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, "RTEVAL_OUT": str(self.out), **env},
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def interrupt(self) -> None:
        """Ctrl-C at its terminal: every process of it gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit code and stdout."""
        stdout, _ = self.process.communicate(timeout=60)
        return self.process.returncode, stdout

    @property
    def runs(self) -> list[Path]:
        """The run folders that it left, in order of time."""
        return sorted(path.parent for path in self.out.glob("guest/*/run.json"))

    def turns(self) -> dict[str, list[TurnRecord]]:
        """The turns of each run folder."""
        return {run.name: read_shards(run).turns for run in self.runs}


@pytest.fixture
def locust(tmp_path: Path) -> Iterator[Callable[..., Locust]]:
    """Starts Locust; whatever still runs at the end of the test is killed."""
    started: list[Locust] = []

    def start(*arguments: object, scenario: Path | None, folder: Path = tmp_path, **env: str) -> Locust:
        chosen = {"RTEVAL_SCENARIO": str(scenario)} if scenario is not None else {}
        started.append(Locust(folder, *arguments, env={**chosen, **env}))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            os.killpg(process.process.pid, signal.SIGKILL)
        process.process.communicate()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until something holds and returns it; fails after a time that no machine needs."""

    def wait(look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while not (found := look()):
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.05)
        return found

    return wait


@pytest.fixture
def patiently() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """The same in a running loop."""

    async def wait(look: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not look():  # noqa: ASYNC110 - what is waited for is a field, not an event
                await asyncio.sleep(0.005)

    return wait
