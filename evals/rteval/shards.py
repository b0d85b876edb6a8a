"""Append-only shards of a run: what is flushed survives a ``kill -9``; tables are made from them afterwards.

A shard is ``shards/<worker>.jsonl`` in the run folder: one record a line, ``{"turn": ...}``, ``{"session": ...}`` or
``{"health": ...}``. Its writer holds a lock on it while it lives, so that nobody takes a run that still goes for a
crashed one.

Of a run with workers the master writes the shards, from what they ship. Each worker keeps a copy of what it recorded,
``copies/<worker>.jsonl``, which goes once the master has everything; after a master's death it adds what did not
arrive. ``superseded.txt`` names sessions whose rows do not count, since they were held again from the start.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from .errors import RunFolderError
from .records import (
    DeltaKind,
    Deltas,
    HealthSample,
    Outcome,
    SessionRecord,
    Stage,
    TranscriptOutcome,
    TurnRecord,
    Usage,
)

try:
    import fcntl
except ImportError:  # Windows has no flock; there a run that still goes cannot be told from a crashed one
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "COPIES",
    "SHARDS",
    "Record",
    "Records",
    "ShardWriter",
    "Torn",
    "alone",
    "decode_record",
    "encode_record",
    "is_writing",
    "iter_shards",
    "read_shards",
    "shard_paths",
    "supersede",
]

SHARDS = "shards"
COPIES = "copies"
SUPERSEDED = "superseded.txt"
FLUSH_BYTES = 4 * 1024 * 1024
"""A writer flushes by itself beyond this, so that a forgotten ``flush()`` costs bounded memory."""


@dataclass(frozen=True, slots=True)
class Torn:
    """A line that cannot be read: the last one of a killed writer, or damage.

    Attributes:
        path: its shard.
        line: 1-based number of the line.
    """

    path: Path
    line: int


Record = TurnRecord | SessionRecord | HealthSample
_Asked = tuple[str | None, str, int]


@dataclass(slots=True)
class Records:
    """All records of a run folder.

    Attributes:
        torn: lines that could not be read.
    """

    turns: list[TurnRecord] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)
    health: list[HealthSample] = field(default_factory=list)
    torn: list[Torn] = field(default_factory=list)


class ShardWriter:
    """Writes the records of one worker; records wait in memory until ``flush()``.

    Arguments:
        run_dir: the run folder; ``shards/`` is made in it.
        worker: name of the worker, unique in the run.
        folder: ``copies`` for a worker's own copy of what it ships.

    Raises:
        RunFolderError: the shard cannot be opened or written, or another process writes it.
    """

    def __init__(self, run_dir: Path, worker: str, folder: str = SHARDS) -> None:
        self.path = run_dir / folder / (re.sub(r"[^A-Za-z0-9._-]", "_", worker) + ".jsonl")
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._fd = -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RunFolderError(f"cannot write {self.path}: {error.strerror}") from error
        if not _lock(self._fd):
            self.close()
            raise RunFolderError(f"{self.path} is being written by another process")
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._add(b"\n")  # an earlier writer was killed in the middle of a line: ours starts on its own

    def add(self, record: Record) -> None:
        """Add one record."""
        self.line(encode_record(record))

    def line(self, line: bytes) -> None:
        """Add a record as ``encode_record`` made it."""
        self._add(line + b"\n")

    turn = session = health = add

    def flush(self) -> None:
        """Hand everything that waits to the operating system; from then on the death of this process loses none of it.

        Raises:
            RunFolderError: the disk refused, or the shard was deleted; what was not written stays for the next call.
        """
        if not self._waiting:
            return
        # Taken out first: a signal's last flush may come in between, and must not write it a second time.
        data = memoryview(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            if self.path.parent.name != COPIES:
                self.path.stat()  # a file that was deleted takes all that is written and keeps nothing
        except OSError as error:
            raise RunFolderError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            if data:
                self._waiting.insert(0, bytes(data))
                self._waiting_bytes += len(data)

    def close(self) -> None:
        """Flush, then let go of the shard. Closing twice is fine."""
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> ShardWriter:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def _add(self, line: bytes) -> None:
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._waiting_bytes > FLUSH_BYTES:
            self.flush()


def encode_record(record: Record) -> bytes:
    """One line of a shard, without its line break."""
    kind = KINDS[type(record)]
    return b'{"' + kind + b'":' + _dumps(record) + b"}"


def decode_record(line: bytes) -> Record:
    """Read one line of a shard.

    Raises:
        ValueError: it is none.
    """
    try:
        return _record(orjson.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError("no line of a shard") from error


def supersede(run_dir: Path, session: str) -> None:
    """Say that the rows of a session do not count, since all of it is held again.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = run_dir / SHARDS / SUPERSEDED
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{session}\n")
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}") from error


def shard_paths(run_dir: Path) -> list[Path]:
    """Return the shards of a run folder in a fixed order, workers' copies last; empty when there are none."""
    return [*sorted((run_dir / SHARDS).glob("*.jsonl")), *sorted((run_dir / COPIES).glob("*.jsonl"))]


def is_writing(path: Path) -> bool:
    """Say whether a writer has the shard open now (always ``False`` where the system has no file locks)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False  # a worker that was told that all has arrived deletes its copy
    try:
        return not _lock(fd)
    finally:
        os.close(fd)


def iter_shards(run_dir: Path) -> Iterator[Record | Torn]:
    """Yield every record of a run folder once, one at a time, shard after shard; unreadable lines come as ``Torn``."""
    superseded = _superseded(run_dir)
    twice = _Twice(_ended(run_dir, superseded)) if any((run_dir / COPIES).glob("*.jsonl")) else None
    for path in shard_paths(run_dir):
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            try:
                record = decode_record(line)
            except ValueError:
                yield Torn(path, number)
                continue
            if not isinstance(record, HealthSample) and record.session in superseded:
                continue
            if twice is None or not twice.seen(record):
                yield record


def _ended(run_dir: Path, superseded: Collection[str]) -> set[_Asked]:
    """The turns that ended by what the workers' copies say."""
    found = set()
    for path in (run_dir / COPIES).glob("*.jsonl"):
        for line in _lines(path):
            with suppress(ValueError):
                record = decode_record(line)
                if not isinstance(record, TurnRecord) or record.session in superseded:
                    continue
                if record.outcome is not Outcome.CUT:
                    found.add(_asked(record))
    return found


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        if path.parent.name != COPIES:  # a copy may go at any time: its worker deletes it once all has arrived
            raise


def _superseded(run_dir: Path) -> frozenset[str]:
    try:
        text = (run_dir / SHARDS / SUPERSEDED).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(text.split())


def _asked(turn: TurnRecord) -> _Asked:
    """What was asked for with a turn, whichever session it fell to."""
    return turn.variant, turn.item, turn.attempt


class _Twice:
    """Tells what came before: a copy holds what its shard has too, and a turn may have been run again elsewhere.

    Args:
        ended: the turns that ended by what copies say: a row that says that one never began does not count.
    """

    def __init__(self, ended: Collection[_Asked]) -> None:
        self._ended = ended
        self._seen: set[tuple[object, ...]] = set()
        self._turns: set[_Asked] = set()
        # Sessions of which a turn counts, and those of which one was run again; a session's row comes after its turns'.
        self._counting: set[str] = set()
        self._run_again: set[str] = set()

    def seen(self, record: Record) -> bool:
        match record:
            case TurnRecord():
                return self._turn_seen(record)
            case SessionRecord():
                if record.session in self._run_again - self._counting:
                    return True
                return self._known((record.session,))
            case HealthSample():
                return self._known((record.worker, record.at_ns, "health"))

    def _turn_seen(self, turn: TurnRecord) -> bool:
        asked = _asked(turn)
        if turn.outcome is Outcome.CUT and turn.started_ns is None and asked in self._ended:
            self._run_again.add(turn.session)
            return True
        if self._known((turn.session, turn.turn)):
            return True
        if asked in self._turns:
            self._run_again.add(turn.session)
            return True
        self._turns.add(asked)
        self._counting.add(turn.session)
        return False

    def _known(self, key: tuple[object, ...]) -> bool:
        known = key in self._seen
        self._seen.add(key)
        return known


def read_shards(run_dir: Path) -> Records:
    """Read every record of a run folder into memory (``iter_shards`` does it one at a time)."""
    records = Records()
    for record in iter_shards(run_dir):
        match record:
            case TurnRecord():
                records.turns.append(record)
            case SessionRecord():
                records.sessions.append(record)
            case HealthSample():
                records.health.append(record)
            case Torn():
                records.torn.append(record)
    return records


@contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Keep other judges out of a run folder; waits for the one that is in it (not where there are no file locks).

    Raises:
        RunFolderError: the folder cannot be opened.
    """
    if fcntl is None:
        yield
        return
    try:
        fd = os.open(run_dir, os.O_RDONLY)
    except OSError as error:
        raise RunFolderError(f"cannot read {run_dir}: {error.strerror}") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    """Lock an open file for this writer; ``False`` when another holds it. A file system without locks says yes."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _dumps(record: Record) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:
        # Half a surrogate pair, an integer beyond 64 bits, a key that is no text: a strange server or dataset may hold
        # them, and a row must not be lost for it.
        return orjson.dumps({f.name: _plain(getattr(record, f.name)) for f in fields(record)})


def _plain(value: Any) -> Any:
    """Return the nearest value that JSON and Parquet can carry."""
    match value:
        case bool() | None | float():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else float(value) if abs(value) < 2**1000 else str(value)[:100]
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {_plain(str(key)): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case Usage() | Deltas():
            return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        case _:
            return _plain(str(value))


def _record(line: dict[str, dict[str, Any]]) -> Record:
    if len(line) != 1:
        raise ValueError(line)
    ((kind, data),) = line.items()
    match kind:
        case "turn":
            record: Record = _turn(data)
        case "session":
            record = SessionRecord(**_known(SessionRecord, data))
        case "health":
            record = HealthSample(**_known(HealthSample, data))
        case _:
            raise ValueError(kind)
    if not _is_sound(record):
        raise ValueError(kind)
    return record


def _is_sound(record: Record) -> bool:
    """Whether the tables can be built on it: its texts and its columns of numbers are what we would have written.

    All else comes from targets and datasets and may be anything; the tables see to that themselves.
    """
    if isinstance(record, HealthSample):
        few = (record.cpu_share or 0, record.sessions_open)
        lags = (record.loop_lag_us, record.send_lag_us, record.stamp_lag_us, few)
        whole = _are_whole((record.at_ns, record.loop_lag_n or 0, record.send_lag_n or 0))
        return isinstance(record.worker, str) and whole and all(_are_finite(values) for values in lags)
    if any(type(getattr(record, name)) is not str for name in TEXTS[type(record)]):
        return False
    if any(not isinstance(getattr(record, name), str | None) for name in TEXTS_OR_NONE[type(record)]):
        return False
    if isinstance(record, SessionRecord):
        return True
    deltas = record.deltas
    columns = (deltas.arrival_ns, deltas.size_bytes, deltas.chars)
    return (
        _are_whole((record.turn,))
        and isinstance(record.meta, dict)
        and all(len(values) == len(deltas.kind) and _are_whole(values) for values in columns)
    )


def _are_whole(values: Sequence[Any]) -> bool:
    return (
        all(type(value) is int for value in values)
        and -(2**63) <= min(values, default=0) <= max(values, default=0) < 2**63
    )


def _are_finite(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _turn(data: dict[str, Any]) -> TurnRecord:
    values = _known(TurnRecord, data)
    values["outcome"] = Outcome(values["outcome"])
    if "transcript_outcome" in values:
        values["transcript_outcome"] = TranscriptOutcome(values["transcript_outcome"])
    if "usage" in values:
        values["usage"] = Usage(**_known(Usage, values["usage"]))
    if "deltas" in values:
        deltas = Deltas(**_known(Deltas, values["deltas"]))
        deltas.kind = [DELTA_KINDS[kind] for kind in deltas.kind]
        values["deltas"] = deltas
    return TurnRecord(**values)


def _known(record: type, data: dict[str, Any]) -> dict[str, Any]:
    """Drop what a newer version may have added, and give tuples and stages back what JSON took from them."""
    values = {name: data[name] for name in FIELDS[record] if name in data}
    for name in TUPLES[record] & values.keys():
        values[name] = tuple(values[name])
    if values.get("failure_stage") is not None:
        values["failure_stage"] = Stage(values["failure_stage"])
    return values


KINDS: dict[type, bytes] = {TurnRecord: b"turn", SessionRecord: b"session", HealthSample: b"health"}
RECORDS = (TurnRecord, SessionRecord, HealthSample, Usage, Deltas)
FIELDS: dict[type, tuple[str, ...]] = {record: tuple(f.name for f in fields(record)) for record in RECORDS}
TUPLES: dict[type, frozenset[str]] = {
    record: frozenset(f.name for f in fields(record) if str(f.type).startswith("tuple")) for record in RECORDS
}
TEXTS, TEXTS_OR_NONE = (
    {record: tuple(f.name for f in fields(record) if f.type == kind) for record in RECORDS}
    for kind in ("str", "str | None")
)
DELTA_KINDS: dict[str, DeltaKind] = {kind.value: kind for kind in DeltaKind}
