"""The samples behind the numbers of many runs at once, by one query over their Parquet files, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import RunFolderError
from .aggregate import ERRORS, THROTTLED
from .intervals import Interval, Sample, estimate, intervals_of
from .metrics import CHECKS, Source, find_metric
from .store import SESSIONS, TURNS

if TYPE_CHECKING:
    import duckdb

__all__ = ["RunTables", "broken_tables", "intervals_of_runs", "split_name"]

_WORD_ERRORS = {
    "wer": ("{side}_substitutions + {side}_deletions + {side}_insertions", "{side}_ref_words"),
    "cer": ("{side}_char_errors", "{side}_ref_chars"),
}


@dataclass(frozen=True, slots=True)
class RunTables:
    """Where the tables of one run are.

    Attributes:
        folder: the run folder.
        warm_until_ns: end of the warm-up; ``None``: there was none.
    """

    folder: Path
    warm_until_ns: int | None = None


def split_name(name: str) -> tuple[str, str]:
    """Split ``ttfa_ms.p95`` into metric and statistic; a metric with one value has the statistic ``value``."""
    metric = find_metric(name)
    if metric is not None and not metric.is_distribution:
        return name, "value"
    base, _, stat = name.rpartition(".")
    return (base, stat) if base else (name, "value")


def broken_tables(runs: Sequence[RunTables]) -> dict[Path, str]:
    """Return the folders whose tables cannot be read, each with the reason."""
    found = {}
    with _connected() as connection:
        for run in runs:
            try:
                for name in (TURNS, SESSIONS):
                    if not (run.folder / name).is_file():
                        raise RunFolderError(f"{name} is missing")
                    _count(connection, run.folder / name)
            except RunFolderError as error:
                found[run.folder] = str(error)
    return found


def intervals_of_runs(
    runs: Sequence[RunTables], values: Mapping[Path, Mapping[str, float | None]]
) -> dict[Path, dict[str, Interval]]:
    """Return the 95 % intervals of numbers of several runs.

    An interval is given only where the samples bring out the very number that was asked about: a run that an older
    version judged by another definition keeps its number and has no interval.

    Args:
        runs: whose tables can be read (see ``broken_tables``).
        values: per folder the numbers by name (``ttfa_ms.p95``, ``input_wer``), as its summary has them.

    Raises:
        RunFolderError: the tables do not fit together.
    """
    metrics = sorted({split_name(name)[0] for numbers in values.values() for name in numbers})
    samples = _samples(runs, metrics)
    found: dict[Path, dict[str, Interval]] = {}
    for run in runs:
        own = {metric: sample for (folder, metric), sample in samples.items() if folder == run.folder}
        known = intervals_of(own)
        found[run.folder] = {}
        for name, value in values.get(run.folder, {}).items():
            metric, stat = split_name(name)
            bounds = known.get(metric, {}).get(stat)
            if bounds is not None and value is not None and _is_of(own[metric], stat, value):
                found[run.folder][name] = bounds
    return found


def _is_of(sample: Sample, stat: str, value: float) -> bool:
    measured = estimate(sample, stat)
    return measured is not None and bool(np.isclose(measured, value, rtol=1e-9, atol=1e-12))


# ---- queries ----


def _samples(runs: Sequence[RunTables], metrics: Sequence[str]) -> dict[tuple[Path, str], Sample]:
    """The samples of each run and metric that there are; a metric that no query is known for has none."""
    if not runs:
        return {}
    found: dict[tuple[Path, str], Sample] = {}
    with _connected() as connection:
        try:
            for table, source in ((TURNS, Source.TURNS), (SESSIONS, Source.SESSIONS)):
                columns = _view(connection, runs, table)
                for metric in metrics:
                    query = _query(metric, source, columns)
                    if query is not None:
                        found |= _read(connection, runs, metric, query)
        except _errors() as error:
            raise RunFolderError(f"cannot read the tables of these runs together: {_first_line(error)}") from error
    return found


def _view(connection: duckdb.DuckDBPyConnection, runs: Sequence[RunTables], table: str) -> set[str]:
    """Make the view ``told`` of a table of all runs, with which turns count. Returns its columns."""
    files = [_literal(str(run.folder / table)) for run in runs]
    numbered = pd.DataFrame(
        {
            "run": range(len(runs)),
            "file": [str(run.folder / table) for run in runs],
            "warm_until_ns": pd.array([run.warm_until_ns for run in runs], dtype="Int64"),
        }
    )
    connection.register("runs", numbered)
    connection.execute("CREATE OR REPLACE TEMP TABLE numbered AS SELECT * FROM runs")
    source = f"read_parquet([{', '.join(map(_quoted, files))}], union_by_name = true, filename = 'file')"
    columns = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    if table == TURNS:
        # As in aggregate.py: a turn that never began belongs to the time in which it was due.
        warm = (
            "NOT (coalesce(warmup, false) OR (started_ns IS NULL AND due_ns IS NOT NULL "
            "AND coalesce(due_ns < warm_until_ns, false)))"
        )
        flags = f"outcome = 'ok' AND {warm} AS is_ok, outcome <> 'cut' AND {warm} AS counted, {warm} AS warm"
    else:
        flags = "NOT coalesce(coalesce(started_ns, due_ns) < warm_until_ns, false) AS warm"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW told AS SELECT *, {flags}, "
        "dense_rank() OVER (PARTITION BY run ORDER BY session) - 1 AS cluster "
        f"FROM {source} JOIN numbered USING (file)"
    )
    return columns


@dataclass(frozen=True, slots=True)
class _Query:
    """What one entry of a sample is: a value, or ``top`` counted in ``bottom``; and which rows have one."""

    top: str
    bottom: str | None
    where: str


def _query(metric: str, source: Source, columns: set[str]) -> _Query | None:
    known = find_metric(metric)
    if known is not None and known.is_distribution and known.source is source and metric in columns:
        return _Query(f'"{metric}"', None, "is_ok" if source is Source.TURNS else "warm")
    if source is not Source.TURNS:
        return None
    if metric == "error_rate":
        return _Query(_is(f"outcome IN {ERRORS!r}"), "1", "counted")
    if metric == "throttle_rate":
        slowed = f"outcome IN {ERRORS!r} AND regexp_matches(coalesce(error_code, ''), {_quoted(THROTTLED)}, 'i')"
        return _Query(_is(slowed), "1", "counted")
    if metric == "transcript_missing_rate":
        return _Query(_is("transcript_outcome <> 'ok'"), "1", "counted AND transcript_outcome <> 'off'")
    side, _, rate = metric.rpartition("_")
    if rate in _WORD_ERRORS and f"{side}_ref_words" in columns:
        top, bottom = (part.format(side=side) for part in _WORD_ERRORS[rate])
        return _Query(top, bottom, f"{bottom} IS NOT NULL AND warm")
    if metric == "entity_accuracy" and {"entities_expected", "entities_found"} <= columns:
        return _Query("entities_found", "entities_expected", "entities_expected IS NOT NULL AND warm")
    if metric.startswith(CHECKS):
        return _checks(metric.removeprefix(CHECKS), columns)
    return None


def _checks(name: str, columns: set[str]) -> _Query | None:
    judged = sorted(column for column in columns if column.startswith("check_") and f"{column}_reason" in columns)
    if name != "pass_rate":
        judged = [column for column in judged if column == f"check_{name}"]
    if not judged:
        return None
    top = " + ".join(_is(f'coalesce("{column}", false)') for column in judged)
    bottom = " + ".join(_is(f'"{column}" IS NOT NULL') for column in judged)
    return _Query(top, bottom, f"({bottom}) > 0 AND warm")


def _is(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


def _read(
    connection: duckdb.DuckDBPyConnection, runs: Sequence[RunTables], metric: str, query: _Query
) -> dict[tuple[Path, str], Sample]:
    rows = connection.execute(
        f"SELECT run, cluster, CAST({query.top} AS DOUBLE) AS top, "
        f"CAST({query.bottom or 'NULL'} AS DOUBLE) AS bottom FROM told WHERE {query.where} ORDER BY run, cluster, top"
    ).df()
    rows = rows[rows["top"].notna()]
    return {
        (runs[int(str(number))].folder, metric): Sample(
            own["top"].to_numpy(dtype=np.float64),
            own["cluster"].to_numpy(dtype=np.int64),
            None if query.bottom is None else own["bottom"].to_numpy(dtype=np.float64),
        )
        for number, own in rows.groupby("run", sort=False)
    }


def _count(connection: duckdb.DuckDBPyConnection, file: Path) -> int:
    try:
        row = connection.execute(f"SELECT count(*) FROM read_parquet({_quoted(_literal(str(file)))})").fetchone()
    except _errors() as error:
        raise RunFolderError(f"{file.name} cannot be read: {_first_line(error)}") from error
    return 0 if row is None else int(row[0])


def _connected() -> duckdb.DuckDBPyConnection:
    # Nothing is fetched: what is needed (Parquet) is built in.
    import duckdb

    return duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "2"}
    )


def _errors() -> type[Exception]:
    import duckdb

    return duckdb.Error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _literal(path: str) -> str:
    """A path as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)
