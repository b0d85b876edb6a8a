"""What one process needs to hold sessions: credential, frames, rows, health. The master's own process has a station
when there are no workers; else each worker has one."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .client.audio_files import AudioKeeper
from .client.auth import Credential, choose_credential
from .client.frames import FrameBank
from .client.session import Caller, Session, TimeoutsS
from .client.transport import speedups_missing
from .errors import RunFolderError
from .load.health import HealthMeter
from .plan import PlannedTurn
from .prepare import Prepared, endpoint
from .realtime.dialects import DIALECTS
from .records import HealthSample, SessionRecord, TurnRecord
from .targets import Address

__all__ = ["Records", "Station", "find_credential", "loop_factory", "quiet_gc"]

SLOW_SENDING = "the C code of the websockets package is missing: sending costs several times as much CPU"


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
        env=os.environ,
        warn=warn,
    )


class Station:
    """Holds sessions in the running asyncio loop; whoever deals them calls ``hold``.

    Args:
        prepared: the scenario with its dataset.
        address: the target, an embedded server already resolved.
        credential: prepared; the station does not close it.
        run_id: of the run.
        worker: name of this process in the run.
        records: receives every row as soon as it is complete, and how this process keeps up.
        audio: folder for answers that are kept.

    Attributes:
        warm_until_ns: turns that began before it are warm-up; ``None``: no turn is.
    """

    def __init__(
        self,
        prepared: Prepared,
        address: Address,
        credential: Credential,
        *,
        run_id: str,
        worker: str,
        records: Records,
        audio: Path,
    ) -> None:
        scenario = prepared.scenario
        timeouts = scenario.target.timeouts
        detection = scenario.session.turn_detection
        self.warm_until_ns: int | None = None
        self._prepared = prepared
        self._records = records
        self._keeper = AudioKeeper(audio, prepared.settings.output_format)
        self.caller = Caller(
            run_id=run_id,
            worker=worker,
            provider=address.provider,
            endpoint=endpoint(address),
            dialect=DIALECTS[address.dialect],
            credential=credential,
            settings=prepared.settings,
            timeouts=TimeoutsS(
                connect=timeouts.connect_s,
                session=timeouts.session_s,
                response=timeouts.response_s,
                transcription=timeouts.transcription_s,
                close=timeouts.close_s,
            ),
            frames=FrameBank(
                prepared.dataset, prepared.settings.input_format, scenario.load.frame_ms, manual=not detection.on
            ),
            rows=self,
            lags=self,
            frame_ms=scenario.load.frame_ms,
            detects_turns=detection.on,
            auto_response=detection.create_response is not False,
            realtime=scenario.load.pacing == "realtime",
            wait_for_playback=scenario.conversation.wait_for_playback,
            think_time_s=scenario.conversation.think_time_s,
            max_session_s=scenario.conversation.max_session_s,
            audio_kept=scenario.report.audio,
            keep_audio=self._keeper.keep,
        )
        self._meter = HealthMeter(worker, lambda: self.caller.sessions_open, self._health)

    def warm(self, warn: Callable[[str], None]) -> None:
        """Do beforehand what the first turns would have to wait for."""
        if speedups_missing():
            warn(SLOW_SENDING)
        self.caller.frames.warm(self._prepared.dataset.items)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure how this process keeps up; at the end the last sample is handed over and all audio is on disk."""
        with self._meter.watched():
            try:
                yield
            finally:
                self._keeper.close()

    async def hold(self, name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        """Hold one session; see ``load.Hold``."""
        return await Session(self.caller, name, turns, due_ns).run()

    def drain(self) -> None:
        """No turn begins any more."""
        self.caller.stopping.set()

    # ---- the sessions' RowSink and LagMeter ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        if self.warm_until_ns is not None:
            began_ns = record.started_ns if record.started_ns is not None else record.due_ns
            record.warmup = began_ns is not None and began_ns < self.warm_until_ns
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
        return self._keeper.failure


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop: uvloop's where it exists."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


@contextmanager
def quiet_gc() -> Iterator[None]:
    """Keep the collector out of the measured window: what exists is frozen, and new cycles are looked for rarely."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
