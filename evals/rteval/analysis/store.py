"""Records to Parquet and back: the tables of a run folder, streamed, so that memory does not grow with the deltas."""

from __future__ import annotations

import dataclasses
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same

from ..errors import RunFolderError
from ..records import DeltaKind, Deltas, HealthSample, SessionRecord, TurnRecord, Usage, kept_ranks

__all__ = [
    "DELTAS",
    "HEALTH",
    "META",
    "RAW_SESSIONS",
    "RAW_TURNS",
    "SESSIONS",
    "TURNS",
    "Collected",
    "TurnDeltas",
    "check_tables",
    "collect",
    "count_rows",
    "iter_turn_deltas",
    "read_health",
    "read_table",
    "same_rows",
    "write_table",
]

TURNS, SESSIONS, DELTAS, HEALTH = "turns.parquet", "sessions.parquet", "deltas.parquet", "health.parquet"

META = "meta_"
"""Prefix of the dataset's own columns in the turn table."""

DELTA_ROWS = 250_000
TURN_ROWS = 5_000
BATCH_ROWS = 50_000
BUFFER_BYTES = 65_536
COLUMNS_AT_ONCE = 16

KINDS = tuple(kind.value for kind in DeltaKind)
CODES = MappingProxyType({kind: code for code, kind in enumerate(DeltaKind)})

Ints = npt.NDArray[np.int64]


# ---- which columns there are: every field of the records, so that a new one is never forgotten ----


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _whole(value: Any) -> int | None:
    """What a strange server reports as a count may be no 64-bit integer: then it was not measured."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def _real(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _words(value: Any) -> list[str]:
    return [str(entry) for entry in value or ()]


def _json(value: Any) -> str | None:
    return None if value in (None, ()) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of a raw table: its type in Parquet and how a field's value becomes one of it."""

    type: pa.DataType
    convert: Callable[[Any], Any]


WORDS = pa.list_(pa.string())
BY_ANNOTATION = {
    "str": _Column(pa.string(), _text),
    "Outcome": _Column(pa.string(), _text),
    "Stage": _Column(pa.string(), _text),
    "TranscriptOutcome": _Column(pa.string(), _text),
    "int": _Column(pa.int64(), _whole),
    "float": _Column(pa.float64(), _real),
    "bool": _Column(pa.bool_(), _flag),
    "tuple[str, ...]": _Column(WORDS, _words),
}
AS_JSON = _Column(pa.string(), _json)
"""What is neither a number nor a text nor a list of words is kept as JSON text."""


def _columns(record: type, leave_out: Iterable[str] = ()) -> dict[str, _Column]:
    return {
        field.name: BY_ANNOTATION.get(str(field.type).removesuffix(" | None"), AS_JSON)
        for field in dataclasses.fields(record)
        if field.name not in leave_out
    }


USAGE = _columns(Usage)
RAW_TURNS: Mapping[str, _Column] = MappingProxyType({**_columns(TurnRecord, ("usage", "deltas")), **USAGE})
"""Columns of a turn as it was recorded; ``meta`` becomes one column for each of the dataset's own."""

RAW_SESSIONS: Mapping[str, _Column] = MappingProxyType(_columns(SessionRecord))

DELTA_SCHEMA = pa.schema(
    [
        ("session", pa.dictionary(pa.int32(), pa.string())),
        ("turn", pa.int64()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("arrival_ns", pa.int64()),
        ("bytes", pa.int64()),
        ("chars", pa.int64()),
    ]
)
HEALTH_SCHEMA = pa.schema(
    [
        ("worker", pa.dictionary(pa.int16(), pa.string())),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("at_ns", pa.int64()),
        ("value", pa.float64()),
        ("n", pa.int64()),
    ]
)
HEALTH_KINDS = ("loop", "send", "cpu", "sessions", "stamp")
MOST_LAGS = 2**40
"""No process has so many in a second."""

HEALTH_NEEDED = ("worker", "kind", "at_ns", "value")
COMPRESSION = "zstd"


# ---- records -> tables ----


@dataclass(slots=True)
class Collected:
    """What ``collect`` found.

    Attributes:
        turns, sessions, deltas, health: rows written of each.
        duplicates: turns that came twice (same session and turn) and were left out.
    """

    turns: int = 0
    sessions: int = 0
    deltas: int = 0
    health: int = 0
    duplicates: int = 0


def collect(
    records: Iterable[TurnRecord | SessionRecord | HealthSample],
    folder: Path,
    *,
    turn_rows: int = TURN_ROWS,
    delta_rows: int = DELTA_ROWS,
) -> Collected:
    """Write records to the four tables of ``folder`` as they come, a row group at a time.

    Args:
        records: what was recorded, in any order.
        folder: an existing folder.
        turn_rows: turns or sessions in a row group.
        delta_rows: deltas or health values after which a row group is written.
    """
    found = Collected()
    seen: set[tuple[str, int]] = set()
    with (
        _Rows(folder / TURNS, RAW_TURNS, turn_rows) as turns,
        _Rows(folder / SESSIONS, RAW_SESSIONS, turn_rows) as sessions,
        _DeltaRows(folder / DELTAS, delta_rows) as deltas,
        _HealthRows(folder / HEALTH, delta_rows) as health,
    ):
        for record in records:
            if isinstance(record, HealthSample):
                found.health += health.add(record)
            elif isinstance(record, SessionRecord):
                sessions.add(record)
                found.sessions += 1
            elif (record.session, record.turn) in seen:
                found.duplicates += 1
            else:
                seen.add((record.session, record.turn))
                turns.add(record, record.usage)
                deltas.add(record.session, record.turn, record.deltas)
                found.turns += 1
                found.deltas += len(record.deltas)
    pa.default_memory_pool().release_unused()
    return found


class _Rows:
    """Writes records of one kind, a row group every few thousand."""

    def __init__(self, path: Path, columns: Mapping[str, _Column], rows: int) -> None:
        self._rows = rows
        self._columns = columns
        self._schema = pa.schema([(name, column.type) for name, column in columns.items()])
        self._writer = pq.ParquetWriter(path, self._schema, compression=COMPRESSION)
        self._waiting: dict[str, list[Any]] = {name: [] for name in columns}
        self._n = 0

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write()
        self._writer.close()

    def add(self, record: object, more: object = None) -> None:
        for name, column in self._columns.items():
            self._waiting[name].append(column.convert(getattr(more if name in USAGE and more else record, name)))
        self._n += 1
        if self._n == self._rows:
            self._write()

    def _write(self) -> None:
        if not self._n:
            return
        arrays = [pa.array(self._waiting[name], type=column.type) for name, column in self._columns.items()]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        for values in self._waiting.values():
            values.clear()
        self._n = 0


class _DeltaRows:
    """Writes the deltas of turns as flat columns; between row groups they wait in typed arrays."""

    def __init__(self, path: Path, rows: int) -> None:
        self._rows = rows
        self._writer = pq.ParquetWriter(path, DELTA_SCHEMA, compression=COMPRESSION)
        self._clear()

    def __enter__(self) -> _DeltaRows:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write()
        self._writer.close()

    def add(self, session: str, turn: int, deltas: Deltas) -> None:
        if not len(deltas):
            return
        self._sessions.append(session)
        self._turns.append(turn)
        self._lengths.append(len(deltas))
        self._kinds.extend(CODES[kind] for kind in deltas.kind)
        self._arrivals.extend(deltas.arrival_ns)
        self._bytes.extend(deltas.size_bytes)
        self._chars.extend(deltas.chars)
        if len(self._kinds) >= self._rows:
            self._write()

    def _clear(self) -> None:
        self._sessions: list[str] = []
        self._turns, self._lengths = array("q"), array("q")
        self._kinds, self._arrivals, self._bytes, self._chars = array("b"), array("q"), array("q"), array("q")

    def _write(self) -> None:
        if not self._kinds:
            return
        lengths = np.frombuffer(self._lengths, dtype=np.int64)
        # A session has many turns, a dictionary has each session once.
        names = {name: code for code, name in enumerate(dict.fromkeys(self._sessions))}
        codes = np.array([names[name] for name in self._sessions], dtype=np.int32)
        self._writer.write_table(
            pa.Table.from_arrays(
                [
                    _coded(np.repeat(codes, lengths), names),
                    pa.array(np.repeat(np.frombuffer(self._turns, dtype=np.int64), lengths)),
                    _coded(np.frombuffer(self._kinds, dtype=np.int8), KINDS),
                    pa.array(np.frombuffer(self._arrivals, dtype=np.int64)),
                    pa.array(np.frombuffer(self._bytes, dtype=np.int64)),
                    pa.array(np.frombuffer(self._chars, dtype=np.int64)),
                ],
                schema=DELTA_SCHEMA,
            )
        )
        self._clear()


class _HealthRows:
    """Writes health samples, one row a raw value: lags in milliseconds, shares and counts as they are."""

    def __init__(self, path: Path, rows: int) -> None:
        self._rows = rows
        self._writer = pq.ParquetWriter(path, HEALTH_SCHEMA, compression=COMPRESSION)
        self._workers: dict[str, int] = {}
        self._clear()

    def __enter__(self) -> _HealthRows:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write()
        self._writer.close()

    def add(self, sample: HealthSample) -> int:
        """Add one sample; return its rows."""
        worker = self._workers.setdefault(sample.worker, len(self._workers))
        shares = [] if sample.cpu_share is None else [sample.cpu_share]
        added = (
            self._extend(worker, "loop", sample.at_ns, [lag / 1000 for lag in sample.loop_lag_us], sample.loop_lag_n)
            + self._extend(worker, "send", sample.at_ns, [lag / 1000 for lag in sample.send_lag_us], sample.send_lag_n)
            + self._extend(worker, "stamp", sample.at_ns, [lag / 1000 for lag in sample.stamp_lag_us])
            + self._extend(worker, "cpu", sample.at_ns, shares)
            + self._extend(worker, "sessions", sample.at_ns, [sample.sessions_open])
        )
        if len(self._values) >= self._rows:
            self._write()
        return added

    def _extend(self, worker: int, kind: str, at_ns: int, values: list[float], n: int | None = None) -> int:
        """Add values that together stand for ``n`` samples, by ``kept_ranks``; by default each for itself."""
        kept = len(values)
        self._of.extend([worker] * kept)
        self._kinds.extend([HEALTH_KINDS.index(kind)] * kept)
        self._at.extend([at_ns] * kept)
        self._values.extend(values)
        ranks = kept_ranks(n) if n is not None and kept < n < MOST_LAGS else []
        # A sample that does not keep what ours keep, from another version, counts for what it holds.
        ranks = ranks if len(ranks) == kept else list(range(kept))
        self._n.extend(rank - before for before, rank in pairwise((-1, *ranks)))
        return kept

    def _clear(self) -> None:
        self._of, self._kinds, self._at, self._values = array("h"), array("b"), array("q"), array("d")
        self._n = array("q")

    def _write(self) -> None:
        if not self._values:
            return
        self._writer.write_table(
            pa.Table.from_arrays(
                [
                    _coded(np.frombuffer(self._of, dtype=np.int16), self._workers),
                    _coded(np.frombuffer(self._kinds, dtype=np.int8), HEALTH_KINDS),
                    pa.array(np.frombuffer(self._at, dtype=np.int64)),
                    pa.array(np.frombuffer(self._values, dtype=np.float64)),
                    pa.array(np.frombuffer(self._n, dtype=np.int64)),
                ],
                schema=HEALTH_SCHEMA,
            )
        )
        self._clear()


def _coded(codes: npt.NDArray[Any], names: Iterable[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(names), type=pa.string()))


# ---- tables -> frames ----

NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype("pyarrow"),
}


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, order: Sequence[str] = (), most_rows: int | None = None
) -> pd.DataFrame:
    """Read a table, or some of its columns, with nullable types: integers stay exact, what is missing is ``NA``.

    A few columns at a time, sorted on the way: a table of a hundred thousand turns would otherwise be in memory three
    times over.

    Args:
        path: the table.
        columns: which; all by default.
        order: columns to sort by, what is missing last.
        most_rows: a table with more is not read: its columns come without a row.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    with _readable(path), pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
        if most_rows is not None and file.metadata.num_rows > most_rows:
            return _frame_of(file.schema_arrow.empty_table().select(columns or file.schema_arrow.names))
        names = file.schema_arrow.names if columns is None else list(columns)
        at = None
        if order:
            keys = _columns_of(file, list(order))
            at = keys.sort_values(list(order), na_position="last").index.to_numpy()
        parts = []
        for first in range(0, len(names), COLUMNS_AT_ONCE):
            part = _columns_of(file, names[first : first + COLUMNS_AT_ONCE])
            parts.append(part if at is None else part.take(at).reset_index(drop=True))
    pa.default_memory_pool().release_unused()
    return pd.concat(parts, axis=1)


def _columns_of(file: pq.ParquetFile, names: list[str]) -> pd.DataFrame:
    return _frame_of(file.read(names, use_threads=False))


def _frame_of(table: pa.Table) -> pd.DataFrame:
    # Without the file's memory of pandas the types are ours to choose, whichever version wrote it.
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas(types_mapper=NULLABLE.get, self_destruct=True)
    return frame


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what Parquet says of a file into our own error."""
    try:
        yield
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error


def check_tables(folder: Path) -> None:
    """See that the tables of a folder have columns that can be read as ours, whoever wrote them.

    Raises:
        RunFolderError: a table is missing or damaged, or has a column of another kind.
    """
    turns = pa.schema([(name, column.type) for name, column in RAW_TURNS.items()])
    sessions = pa.schema([(name, column.type) for name, column in RAW_SESSIONS.items()])
    ours = {
        TURNS: (turns, ("session", "turn", "item", "outcome")),
        SESSIONS: (sessions, tuple(RAW_SESSIONS)),
        DELTAS: (DELTA_SCHEMA, tuple(DELTA_SCHEMA.names)),
        HEALTH: (HEALTH_SCHEMA, HEALTH_NEEDED),
    }
    for name, (schema, needed) in ours.items():
        with _readable(folder / name):
            found = pq.read_schema(folder / name)
        for column in needed:
            if column not in found.names:
                raise RunFolderError(f"cannot read {folder / name}: it has no column {column}")
        for column in schema:
            if column.name in found.names and not _is_alike(found.field(column.name).type, column.type):
                kind = found.field(column.name).type
                raise RunFolderError(f"cannot read {folder / name}: its column {column.name} is {kind}")


def _is_alike(found: pa.DataType, ours: pa.DataType) -> bool:
    """Whether both hold the same kind of value; how wide, and whether each is stored once, does not matter."""

    def kinds(kind: pa.DataType) -> list[bool]:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return [is_text, is_number, pa.types.is_boolean(kind), pa.types.is_list(kind) or pa.types.is_large_list(kind)]

    return pa.types.is_null(found) or kinds(found) == kinds(ours)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame so that ``pandas.read_parquet`` gives integers back exactly; all-empty columns keep their type."""
    types = {name: _type(frame[name], RAW_TURNS.get(name) or RAW_SESSIONS.get(name)) for name in frame.columns}
    table = pa.Table.from_pandas(frame, schema=pa.schema(list(types.items())), preserve_index=False)
    pq.write_table(table, path, compression=COMPRESSION)


def count_rows(path: Path) -> int:
    """Return how many rows a table has, without reading them.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    with _readable(path):
        return int(pq.read_metadata(path).num_rows)


def same_rows(path: Path, frame: pd.DataFrame) -> bool:
    """Say whether a table reads back with the columns of ``frame`` and its rows, by their keys."""
    keys = [name for name in ("session", "turn") if name in frame]
    if pq.read_schema(path).names != list(frame.columns) or count_rows(path) != len(frame):
        return False
    stored = read_table(path, keys)
    return all(stored[name].equals(frame[name].astype(stored[name].dtype)) for name in keys)


def _type(column: pd.Series[Any], raw: _Column | None) -> pa.DataType:
    if raw is not None:
        return raw.type
    if pd.api.types.is_bool_dtype(column.dtype):
        return pa.bool_()
    if pd.api.types.is_integer_dtype(column.dtype):
        return pa.int64()
    return pa.float64() if pd.api.types.is_float_dtype(column.dtype) else pa.string()


@dataclass(frozen=True, slots=True)
class TurnDeltas:
    """The deltas of one turn as columns; ``kind`` holds positions in ``KINDS``."""

    session: str
    turn: int
    kind: Ints
    arrival_ns: Ints
    size_bytes: Ints

    def of(self, kind: DeltaKind) -> tuple[Ints, Ints]:
        """Arrivals and sizes of the deltas of one stream."""
        chosen = self.kind == CODES[kind]
        return self.arrival_ns[chosen], self.size_bytes[chosen]


def iter_turn_deltas(path: Path, *, batch_rows: int = BATCH_ROWS) -> Iterator[TurnDeltas]:
    """Yield the deltas of one turn after the other; a turn's rows stand together in the file.

    Args:
        path: the delta table.
        batch_rows: rows in memory at a time; a turn may have more.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    columns = ["session", "turn", "kind", "arrival_ns", "bytes"]
    kept: TurnDeltas | None = None
    with _readable(path), pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_rows, columns=columns, use_threads=False):
            for part in _split(batch):
                if kept is not None and (kept.session, kept.turn) == (part.session, part.turn):
                    kept = _join(kept, part)
                    continue
                if kept is not None:
                    yield kept
                kept = part
    if kept is not None:
        yield kept


def _split(batch: pa.RecordBatch) -> Iterator[TurnDeltas]:
    session, kind = (_dictionary(batch.column(name)) for name in ("session", "kind"))
    names = session.dictionary.to_pylist()
    of_session = session.indices.to_numpy(zero_copy_only=False)
    # The dictionary of the file need not be in our order.
    codes = dict(zip(KINDS, range(len(KINDS)), strict=True))
    order = np.array([codes[name] for name in kind.dictionary.to_pylist()], dtype=np.int64)
    kinds = order[kind.indices.to_numpy(zero_copy_only=False)] if len(order) else np.empty(0, dtype=np.int64)
    turn, arrival, size = (batch.column(name).to_numpy() for name in ("turn", "arrival_ns", "bytes"))
    if not len(turn):
        return
    cuts = np.flatnonzero((np.diff(turn) != 0) | (np.diff(of_session) != 0)) + 1
    starts = [0, *cuts.tolist(), len(turn)]
    for low, high in pairwise(starts):
        rows = slice(low, high)
        yield TurnDeltas(names[of_session[low]], int(turn[low]), kinds[rows], arrival[rows], size[rows])


def _dictionary(column: pa.Array) -> pa.DictionaryArray:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _join(first: TurnDeltas, second: TurnDeltas) -> TurnDeltas:
    return TurnDeltas(
        first.session,
        first.turn,
        np.concatenate([first.kind, second.kind]),
        np.concatenate([first.arrival_ns, second.arrival_ns]),
        np.concatenate([first.size_bytes, second.size_bytes]),
    )


def read_health(path: Path) -> pd.DataFrame:
    """Read the health table.

    Returns:
        ``worker``; ``kind``: ``loop``, ``send``, ``stamp`` (milliseconds), ``cpu`` (a share of one core), ``sessions``;
        ``at_ns``; ``value``; and ``n``, for how many samples the value stands.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    with _readable(path):
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    if "n" not in frame:  # every sample had its own row then
        frame["n"] = np.ones(len(frame), dtype=np.int64)
    return frame
