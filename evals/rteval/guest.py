"""A run whose load somebody else decides: sessions one by one as they are asked for, their rows, and a run folder.

Where ``rteval run`` plans a run and judges it, this holds the next session of the dataset whenever it is told to, until
it is told that it was enough; the tables are made afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

from .errors import RunFolderError
from .load.schedule import StartSpacing
from .plan import PlannedTurn, spread_s
from .prepare import Prepared, RunOptions
from .realtime.pacing import TIMER_GRAIN_S
from .records import HealthSample, SessionRecord, TurnRecord
from .reporting.files import RUN, write_json
from .run_facts import describe, utc_now
from .shards import ShardWriter
from .simulator.process import Simulator
from .station import Credentials, Station, quiet_gc

__all__ = ["GuestRun"]

_CUT_S = 5.0
"""How long sessions that were cut may take to leave their rows."""

_PAUSE_NS = 1_000_000_000
"""How long a place stays empty after a session that the target did not let in."""

_GOLDEN = 0.618033988749895


class GuestRun:
    """One run of one process; use from one asyncio loop.

    Args:
        prepared: the scenario with its dataset. What it says of when sessions start, and how many, has no effect.
        credentials: prepared; the run does not close them.
        folder: of the run, to be made.
        place: which process this is of those that share the load, from 0: each begins elsewhere in the dataset.
        heard: hears of each turn and each session when it is over.
        broken: hears that nothing can be recorded any more.

    Attributes:
        turns: how many were recorded.
        refusal: what the target said, and the cure, when no session ever became ready.
    """

    def __init__(
        self,
        prepared: Prepared,
        credentials: Credentials,
        folder: Path,
        *,
        place: int = 0,
        heard: Callable[[TurnRecord | SessionRecord], None] = lambda record: None,
        broken: Callable[[RunFolderError], None] = lambda error: None,
    ) -> None:
        self.folder = folder
        self.turns = 0
        self.refusal: tuple[str, str | None] | None = None
        self._prepared = prepared
        self._credentials = credentials
        self._place = place
        self._worker = f"w{place}"
        self._heard = heard
        self._broken = broken
        self._rounds = _rounds(prepared.plan.sessions_of_pass, place)
        self._spacing = StartSpacing(prepared.scenario.limits.connects_per_s or 1 / spread_s(1, None))
        self._sessions: set[asyncio.Task[None]] = set()
        self._open = ExitStack()
        self._closed = False
        self._any_ready = False
        self._not_ready: set[str] = set()
        self._failure: RunFolderError | None = None
        self._warnings: list[str] = list(prepared.dataset.notes)

    async def open(self) -> None:
        """Make the folder and all that the first session needs.

        Raises:
            RtevalError: something of it cannot be had.
        """
        with ExitStack() as stack:
            self._make_folder()
            server = await self._server(stack)
            station = self._station = Station(
                self._prepared,
                server,
                self._credentials,
                run_id=self.folder.name,
                worker=self._worker,
                records=self,
                audio=self.folder / "audio",
                timed=True,  # Locust's clock
            )
            station.warm(self._warnings.append)
            self._run_json = self._describe(server)
            self._write_run_json()
            self._writer = stack.enter_context(ShardWriter(self.folder, self._worker))
            stack.enter_context(quiet_gc())
            stack.enter_context(station.watched())
            self._open = stack.pop_all()
        start_ns = time.perf_counter_ns()
        self._run_json["started_ns"] = self._run_json["load"]["started_ns"] = start_ns
        station.warm_until_ns = start_ns + round(self._prepared.scenario.load.warmup_s * 1e9)

    async def hold_next(self) -> bool:
        """Hold the next session of the dataset, from the beginning again after the last one.

        Whoever is cancelled while waiting for it gives up only the place: the session goes on to its end.

        Returns:
            Whether there was one: ``False`` once no turn may begin any more.
        """
        start_ns = self._spacing.reserve(time.perf_counter_ns())
        if await self._over_before(start_ns):
            return False
        name, turns = self._next()
        session = asyncio.create_task(self._hold(name, turns, start_ns), name=name)
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        await asyncio.shield(session)
        if name in self._not_ready:
            # A target that lets nobody in must not be stormed, however many ask for the next session.
            self._not_ready.discard(name)
            await self._over_before(time.perf_counter_ns() + _PAUSE_NS)
        return True

    async def close(self, within_s: float) -> None:
        """Let no turn begin any more and the sessions end, cut them after ``within_s``, and write all down.

        Raises:
            RunFolderError: the disk refused.
        """
        self._station.drain()
        try:
            if self._sessions:
                await asyncio.wait(self._sessions, timeout=within_s)
            self.cut()
            if self._sessions:
                await asyncio.wait(self._sessions, timeout=_CUT_S)
        finally:
            if not self._closed:
                self._closed = True
                self._finish()

    @property
    def sessions_open(self) -> int:
        """How many sessions are connected right now."""
        return self._station.board.sessions_open

    def cut(self) -> None:
        """End what runs now: every session is cancelled and leaves its rows."""
        for session in self._sessions:
            session.cancel()

    # ---- the station's records ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        self.turns += 1
        self._writer.turn(record)
        self._heard(record)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        if record.outcome == "ready":
            self._any_ready = True
        else:
            self._not_ready.add(record.session)
        self._writer.session(record)
        self._heard(record)

    def health(self, sample: HealthSample) -> None:
        """About a second has passed."""
        try:
            self._writer.health(sample)
            self._writer.flush()
            if self._station.failure is not None:
                raise self._station.failure
        except RunFolderError as error:
            if self._failure is None:
                self._failure = error
                self._broken(error)

    # ---- sessions ----

    def _next(self) -> tuple[str, Sequence[PlannedTurn]]:
        number, place, attempt = next(self._rounds)
        return f"s{number:05d}", self._prepared.plan.turns_of(place, attempt)

    async def _hold(self, name: str, turns: Sequence[PlannedTurn], due_ns: int) -> None:
        """Hold a session, and what its connection leaves of it in further ones."""
        left = await self._station.hold(name, turns, due_ns)
        for part in count(2):
            if not left:
                return
            left = await self._station.hold(f"{name}.{part}", left, time.perf_counter_ns())

    async def _over_before(self, at_ns: int) -> bool:
        stopping = self._station.board.stopping
        seconds = (at_ns - time.perf_counter_ns()) / 1e9
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds + TIMER_GRAIN_S):
                    await stopping.wait()
        return stopping.is_set()

    async def _server(self, stack: ExitStack) -> str | None:
        """Where an embedded server of this process listens, for a scenario that brings its own."""
        if not self._prepared.address.embedded:
            return None
        behaviour = self._prepared.scenario.target.behaviour
        simulator = Simulator(
            datasets=[self._prepared.dataset.path],
            behaviour=Path(behaviour) if isinstance(behaviour, str) else behaviour,
            truth=self.folder / "truth.jsonl",
        )
        stack.callback(simulator.stop)
        await asyncio.to_thread(simulator.start)
        return simulator.url

    # ---- the run folder ----

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise RunFolderError(f"cannot make the run folder {self.folder}: {error.strerror}") from error

    def _describe(self, server: str | None) -> dict[str, Any]:
        content = describe(self._prepared, RunOptions(), server, run_id=self.folder.name, engine="locust")
        content["target"]["credential"] = self._credentials.kind
        content["planned"] = dict.fromkeys(content["planned"])
        content["load"] |= {"peak": None, "duration_s": None, "stages": [], "arrivals": None, "asked": []}
        return content

    def _write_run_json(self) -> None:
        write_json(self.folder / RUN, self._run_json)

    def _finish(self) -> None:
        content, board = self._run_json, self._station.board
        self.refusal = None if self._any_ready else board.first_refusal
        try:
            self._open.close()  # the last sample of health, the last recordings, the last lines of the shard
        finally:
            content["ended_ns"] = time.perf_counter_ns()
            content["ended_at"] = utc_now()
            content["live"] |= {"sessions_peak": board.sessions_peak, "warnings": self._warnings}
            if self.refusal is not None:
                content["refusal"] = {"message": self.refusal[0], "hint": self.refusal[1]}
            reason = "error" if self._failure is not None else "refused" if self.refusal is not None else "finished"
            content["end"] = {"reason": reason, "detail": str(self._failure) if self._failure is not None else None}
            self._write_run_json()


def _rounds(sessions: int, place: int) -> Iterator[tuple[int, int, int]]:
    """Number, place in its pass and attempt of each session: round and round, each process from a place of its own.

    Steps of the golden ratio keep the places apart, however many there are.
    """
    first = int(sessions * (place * _GOLDEN % 1))
    for number in count():
        yield number, (first + number) % sessions, 1 + number // sessions
