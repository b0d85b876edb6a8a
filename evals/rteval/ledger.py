"""The books of a run while it goes: every record to its shard, to the eye, and to the rules that end a run early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from .client.session import RowFacts, planned_row
from .errors import RunFolderError
from .load.dealing import Left
from .load.stops import StopRules
from .progress import RunningTally, WorkerState
from .records import HealthSample, SessionRecord, TurnRecord
from .shards import Record, ShardWriter, encode_record, supersede

__all__ = ["Ledger"]


class Ledger:
    """Takes what the sessions of this process record, and what workers ship.

    Args:
        folder: of the run; exists.
        rules: limits of the scenario.
        tally: what people see.
        limit: called with a sentence when a limit is reached.
        unwritable: called when records cannot be written any more.

    Attributes:
        incidents: what happened that every report must say.
        ready: the variants of which a session became ready.
        refused: what the target said to the first session of a variant that did not.
    """

    def __init__(
        self,
        folder: Path,
        rules: StopRules,
        tally: RunningTally,
        *,
        limit: Callable[[str], None],
        unwritable: Callable[[RunFolderError], None],
    ) -> None:
        self._folder = folder
        self._rules = rules
        self._tally = tally
        self._limit = limit
        self._unwritable = unwritable
        self._writers: dict[str, ShardWriter] = {}
        self._open = ExitStack()
        self.incidents: list[str] = []
        self.ready: set[str | None] = set()
        self.refused: dict[str | None, str] = {}

    def open(self, worker: str) -> None:
        """Make the shard of a worker.

        Raises:
            RunFolderError: it cannot be made.
        """
        if worker not in self._writers:
            self._writers[worker] = self._open.enter_context(ShardWriter(self._folder, worker))

    def close(self) -> None:
        """Everything to disk, and let go of the shards.

        Raises:
            RunFolderError: the disk refused.
        """
        self._open.close()

    def flush(self) -> None:
        """Hand everything to the operating system; a refusal is told, not raised."""
        for writer in self._writers.values():
            try:
                writer.flush()
            except RunFolderError as error:
                self._unwritable(error)

    @property
    def any_ready(self) -> bool:
        """Whether any session became ready."""
        return bool(self.ready)

    @property
    def first_refusal(self) -> str | None:
        """What the target said to the first session that did not."""
        return next(iter(self.refused.values()), None)

    def name_refused_variants(self) -> None:
        """Say of each variant that the target never let in, while it let in others: its numbers are of refusals."""
        for variant, why in self.refused.items():
            if self.ready and variant is not None and variant not in self.ready:
                self.incident(f"variant {variant}: no session became ready: {why}")

    # ---- what this process records ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        self.received(record.worker, encode_record(record), record)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        self.received(record.worker, encode_record(record), record)

    def health(self, sample: HealthSample) -> None:
        """A second has passed: what came in it goes to disk."""
        self.received(sample.worker, encode_record(sample), sample)

    def not_held(self, facts: Callable[[str | None], RowFacts], left: Iterable[Left]) -> None:
        """Leave the rows of sessions that nobody held; those that were due and found no place are told apart.

        Args:
            facts: what rows of a variant have in common.
            left: the sessions.
        """
        for session in left:
            for position, planned in enumerate(session.turns):
                record = planned_row(facts(planned.variant), session.name, position, planned)
                if session.due_ns is not None:
                    record.due_ns = session.due_ns
                    record.error_code = "not_started"
                self.turn(record)

    # ---- what workers ship ----

    def received(self, worker: str, line: bytes, record: Record) -> None:
        """A new record, ``line`` as it stands in a shard."""
        try:
            self.open(worker)
            self._writers[worker].line(line)
        except RunFolderError as error:
            self._unwritable(error)
        match record:
            case TurnRecord():
                self._tally.turn(record)
                if (limit := self._rules.turn_ended(record.outcome)) is not None:
                    self._limit(limit)
            case SessionRecord():
                if record.outcome == "ready":
                    self.ready.add(record.variant)
                elif record.outcome in ("refused", "timeout"):
                    self.refused.setdefault(record.variant, record.error_message or record.error_code or record.outcome)
                self._tally.session(record)
            case HealthSample():
                self._tally.worker(WorkerState.of(record))
                self.flush()

    def seen(self, worker: str, *, slots: int, lost: bool) -> None:
        """What is known of a worker has changed."""
        if lost and worker in self._writers:
            # What it had open is open no more: those who take over would else be counted beside it.
            self.health(HealthSample(worker=worker, at_ns=time.perf_counter_ns()))
        self._tally.worker(WorkerState(name=worker, slots=slots, lost=lost))

    def superseded(self, session: str) -> None:
        """The rows of a session do not count."""
        try:
            supersede(self._folder, session)
        except RunFolderError as error:
            self._unwritable(error)

    def incident(self, sentence: str) -> None:
        """Something happened that every report must say."""
        self.incidents.append(sentence)
