"""What one process needs to hold sessions: credentials, frames, rows, health. The master's own process has a station
when there are no workers; else each worker has one."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from .client.audio_files import AudioKeeper
from .client.auth import Credential, choose_credential
from .client.frames import FrameBank
from .client.session import Caller, Session, Switchboard, TimeoutsS
from .client.transport import speedups_missing
from .client.warmup import warm_up
from .errors import RunFolderError
from .formats import AudioFormat
from .load.health import HealthMeter
from .plan import PlannedTurn
from .prepare import Prepared, PreparedVariant, endpoint
from .realtime.dialects import DIALECTS
from .records import HealthSample, Outcome, SessionRecord, TurnRecord
from .targets import Address

__all__ = ["Credentials", "Records", "Station", "find_credential", "loop_factory", "quiet_gc"]

SLOW_SENDING = "the C code of the websockets package is missing: sending costs several times as much CPU"


_CALLS_AGAIN_NS = 1_000_000_000
"""Where one session makes room for the next until the time is over, one without any answer keeps its place for so long
from its start: a target that refuses everybody would else be called thousands of times a second."""


class Records(Protocol):
    """Where everything goes that a station records."""

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        ...

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        ...

    def health(self, sample: HealthSample) -> None:
        """About a second has passed."""
        ...


def find_credential(address: Address, warn: Callable[[str], None]) -> Credential:
    """Choose this process's own credential for a target.

    Raises:
        RtevalError: there is none; the message says where one is looked for.
    """
    return choose_credential(
        auth=address.auth,
        api_key_env=address.api_key_env or "",
        auth_header=address.auth_header,
        scope=address.token_scope,
        asker=address.asker,
        env=os.environ,
        warn=warn,
    )


class Credentials:
    """This process's own credentials for all variants of a scenario: one for each way in, however many share it.

    Args:
        prepared: the scenario.
        warn: hears what people should know of them.

    Raises:
        RtevalError: one is not there; the message says where it is looked for.
    """

    def __init__(self, prepared: Prepared, warn: Callable[[str], None]) -> None:
        self._found: dict[object, Credential] = {}
        for variant in prepared.variants:
            way = _way_in(variant.address)
            if way not in self._found:
                self._found[way] = find_credential(variant.address, warn)

    def of(self, address: Address) -> Credential:
        """That of one variant."""
        return self._found[_way_in(address)]

    @property
    def kind(self) -> str:
        """The kinds of credential, for people and for ``run.json``."""
        return ", ".join(dict.fromkeys(credential.kind for credential in self._found.values()))

    def secrets(self) -> tuple[str, ...]:
        """Exact values that must not appear anywhere."""
        return tuple(secret for credential in self._found.values() for secret in credential.secrets())

    async def prepare(self) -> None:
        """Get ready what takes time, e.g. a token.

        Raises:
            RtevalError: it cannot be had.
        """
        for credential in self._found.values():
            await credential.prepare()

    def close(self) -> None:
        """Let go of all."""
        for credential in self._found.values():
            credential.close()


def _way_in(address: Address) -> object:
    return address.auth, address.api_key_env, address.auth_header, address.token_scope, address.asker


class Station:
    """Holds sessions in the running asyncio loop; whoever deals them calls ``hold``.

    Args:
        prepared: the scenario with its dataset.
        server: where the embedded server listens; ``None``: the scenario's own targets are dialled.
        credentials: prepared; the station does not close them.
        run_id: of the run.
        worker: name of this process in the run.
        records: receives every row as soon as it is complete, and how this process keeps up.
        audio: folder for answers that are kept.
        timed: whether a clock ends the run; by default as the scenario's load says.

    Attributes:
        board: what its sessions share.
        warm_until_ns: turns that began before it are warm-up; ``None``: no turn is.
    """

    def __init__(
        self,
        prepared: Prepared,
        server: str | None,
        credentials: Credentials,
        *,
        run_id: str,
        worker: str,
        records: Records,
        audio: Path,
        timed: bool | None = None,
    ) -> None:
        scenario = prepared.scenario
        self._timed = scenario.load.ends_s is not None if timed is None else timed
        self.warm_until_ns: int | None = None
        self.board = Switchboard()
        self._prepared = prepared
        self._records = records
        self._calls_again = scenario.load.ends_s is not None and scenario.load.arrivals is None
        self._answered: set[str] = set()
        self._audio = audio
        self._keepers: dict[AudioFormat, AudioKeeper] = {}
        self._frames: dict[tuple[AudioFormat, bool], FrameBank] = {}
        self._callers = {
            variant.name: self._caller(variant, server, credentials, run_id=run_id, worker=worker)
            for variant in prepared.variants
        }
        self._meter = HealthMeter(worker, lambda: self.board.sessions_open, self._health)

    def _caller(
        self, variant: PreparedVariant, server: str | None, credentials: Credentials, *, run_id: str, worker: str
    ) -> Caller:
        scenario, settings = variant.scenario, variant.settings
        address = variant.address if server is None else variant.address.at(server)
        timeouts, detection = scenario.target.timeouts, scenario.session.turn_detection
        frames = (settings.input_format, not detection.on)
        if frames not in self._frames:
            self._frames[frames] = FrameBank(
                self._prepared.dataset, settings.input_format, scenario.load.frame_ms, manual=not detection.on
            )
        if settings.output_format not in self._keepers:
            self._keepers[settings.output_format] = AudioKeeper(self._audio, settings.output_format)
        return Caller(
            run_id=run_id,
            worker=worker,
            variant=variant.name,
            provider=address.provider,
            endpoint=endpoint(address),
            dialect=DIALECTS[address.dialect],
            credential=credentials.of(address),
            settings=settings,
            timeouts=TimeoutsS(
                connect=timeouts.connect_s,
                session=timeouts.session_s,
                response=timeouts.response_s,
                transcription=timeouts.transcription_s,
                close=timeouts.close_s,
            ),
            frames=self._frames[frames],
            rows=self,
            lags=self,
            frame_ms=scenario.load.frame_ms,
            timed=self._timed,
            detects_turns=detection.on,
            auto_response=detection.create_response is not False,
            realtime=scenario.load.pacing == "realtime",
            wait_for_playback=scenario.conversation.wait_for_playback,
            think_time_s=scenario.conversation.think_time_s,
            max_session_s=scenario.conversation.max_session_s,
            audio_kept=scenario.report.audio,
            keep_audio=self._keepers[settings.output_format].keep,
            board=self.board,
        )

    def warm(self, warn: Callable[[str], None]) -> None:
        """Do beforehand what the first turns would have to wait for."""
        if speedups_missing():
            warn(SLOW_SENDING)
        for frames in self._frames.values():
            frames.warm(self._prepared.dataset.items)
        for caller in self._callers.values():
            warm_up(caller.dialect, caller.settings)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure how this process keeps up; at the end the last sample is handed over and all audio is on disk."""
        with self._meter.watched():
            try:
                yield
            finally:
                for keeper in self._keepers.values():
                    keeper.close()

    async def hold(self, name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        """Hold one session; see ``load.Hold``."""
        began_ns = time.perf_counter_ns()
        left = await Session(self.facts(turns[0].variant), name, turns, due_ns).run()
        if self._calls_again and name not in self._answered:
            await self._rest(began_ns + _CALLS_AGAIN_NS)
        self._answered.discard(name)
        return left

    async def _rest(self, until_ns: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (until_ns - time.perf_counter_ns()) / 1e9)):
                await self.board.stopping.wait()

    def facts(self, variant: str | None) -> Caller:
        """What the sessions of one variant have in common."""
        return self._callers[variant]

    def drain(self) -> None:
        """No turn begins any more."""
        self.board.stopping.set()

    # ---- the sessions' RowSink and LagMeter ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        if self.warm_until_ns is not None:
            began_ns = record.started_ns if record.started_ns is not None else record.due_ns
            record.warmup = began_ns is not None and began_ns < self.warm_until_ns
        if self._calls_again and record.outcome is Outcome.OK:
            self._answered.add(record.session)
        self._records.turn(record)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        self._records.session(record)

    def send_lag(self, lag_ns: int) -> None:
        """One paced frame was reached late."""
        self._meter.send_lag(lag_ns)

    def _health(self, sample: HealthSample) -> None:
        self._records.health(sample)

    @property
    def failure(self) -> RunFolderError | None:
        """Why recordings cannot be written any more."""
        return next((keeper.failure for keeper in self._keepers.values() if keeper.failure is not None), None)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop: uvloop's where it exists."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows, nor for every Python
        return None
    return uvloop.new_event_loop


@contextmanager
def quiet_gc() -> Iterator[None]:
    """Keep the collector out of the measured window: what exists is frozen, and new cycles are looked for rarely.

    A thousand sessions are 300 000 objects, which come and go by 50 000; to look through so many took 12 to 97 ms, each
    time. A session that ended leaves no cycles behind, so that there is hardly anything to look for.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(500_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
