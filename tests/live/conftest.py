"""Sessions of the client against the real simulated service on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rteval.client.auth import NoCredential
from rteval.client.frames import FrameBank
from rteval.client.session import Caller, Session, TimeoutsS
from rteval.client.transport import Endpoint
from rteval.corpus import Dataset, Item, load_dataset
from rteval.plan import PlannedTurn
from rteval.realtime.dialects import DIALECTS
from rteval.realtime.events import SessionSettings
from rteval.records import SessionRecord, TurnRecord
from rteval.simulator.process import Simulator

ROOT = Path(__file__).parents[2]
PATHS = {
    "ga": "/openai/v1/realtime?model=m",
    "preview": "/openai/realtime?api-version=2025-04-01-preview&deployment=m",
}
VAD = {"type": "server_vad", "silence_duration_ms": 500}


@dataclass
class Rows:
    """Keeps what a session hands over."""

    turns: list[TurnRecord] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)
    lags_ns: list[int] = field(default_factory=list)

    def turn(self, record: TurnRecord) -> None:
        self.turns.append(record)

    def session(self, record: SessionRecord) -> None:
        self.sessions.append(record)

    def send_lag(self, lag_ns: int) -> None:
        self.lags_ns.append(lag_ns)


@dataclass
class Desk:
    """One caller's desk: a dataset, a server, and the rows of the sessions that were held."""

    dataset: Dataset
    rows: Rows
    caller: Caller

    def session(self, items: Sequence[Item], name: str = "s0") -> Session:
        return Session(self.caller, name, [PlannedTurn(item, 1) for item in items], time.perf_counter_ns())

    def text(self, prompt: str = "Hello?", **more: Any) -> Item:
        return Item(id=f"text-{prompt}", text=prompt, **more)

    def item(self, item_id: str) -> Item:
        return next(item for item in self.dataset.items if item.id == item_id)

    def hold(self, items: Sequence[Item], name: str = "s0") -> Sequence[PlannedTurn]:
        return asyncio.run(self.session(items, name).run())


@pytest.fixture(scope="session")
def support() -> Dataset:
    return load_dataset(ROOT / "datasets" / "support")


@pytest.fixture
def simulator() -> Iterator[Callable[..., Simulator]]:
    """Starts servers; each ends with the test."""
    started: list[Simulator] = []

    def start(**options: Any) -> Simulator:
        server = Simulator(**options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def plain_server() -> Iterator[Simulator]:
    """A well-behaved server that knows the support dataset."""
    behaviour = {"ttfa_ms": 50, "speed": 50, "transcription": {"delay_ms": 20}}
    with Simulator(datasets=[ROOT / "datasets" / "support"], behaviour=behaviour) as server:
        yield server


@pytest.fixture
def desk(support: Dataset) -> Callable[..., Desk]:
    """Makes a desk in front of a server; keyword arguments go to ``Caller`` and ``SessionSettings``."""

    def make(
        url: str,
        *,
        dialect: str = "ga",
        path: str | None = None,
        settings: dict[str, Any] | None = None,
        frame_ms: int = 100,
        **options: Any,
    ) -> Desk:
        wanted = SessionSettings(**(settings or {}))
        rows = Rows()
        manual = wanted.turn_detection is None
        options.setdefault("realtime", not manual)
        options.setdefault("wait_for_playback", False)
        options.setdefault("timeouts", TimeoutsS(connect=5, session=5, response=5, transcription=5, close=2))
        caller = Caller(
            run_id="test",
            worker="w0",
            provider="simulator",
            endpoint=Endpoint(
                url=url + (PATHS[dialect] if path is None else path), ca_file=options.pop("ca_file", None)
            ),
            dialect=DIALECTS[dialect],
            credential=options.pop("credential", NoCredential()),
            settings=wanted,
            frames=FrameBank(support, wanted.input_format, frame_ms, manual=manual),
            rows=rows,
            lags=rows,
            frame_ms=frame_ms,
            detects_turns=not manual,
            **options,
        )
        return Desk(support, rows, caller)

    return make


@pytest.fixture
def patiently() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits until something is so; fails after a time that no machine needs."""

    async def wait(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():  # noqa: ASYNC110 - what is waited for is a field, not an event
                await asyncio.sleep(0.005)

    return wait
