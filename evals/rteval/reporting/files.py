"""The run folder: where it is, what is in it, and writes that are either there or not.

``turns.csv`` holds texts exactly as they were, also those that a spreadsheet takes for a formula (``=``, ``+``, ``-``,
``@`` at the start): a table that quietly changes a transcript is worse. Import it as text, or read ``turns.parquet``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ..errors import RunFolderError
from .run_json import misfits

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BASELINE",
    "JUNIT",
    "LATEST",
    "PAGE",
    "RUN",
    "SUMMARY",
    "SUMMARY_MD",
    "TURNS_CSV",
    "find_run",
    "json_text",
    "point_latest",
    "read_json",
    "read_run",
    "replace_file",
    "write_csv",
    "write_json",
    "write_text",
]

RUN, SUMMARY, SUMMARY_MD, JUNIT, PAGE = "run.json", "summary.json", "summary.md", "junit.xml", "report.html"
TURNS_CSV, LATEST, BASELINE = "turns.csv", "latest", "baseline.json"
_RUN_HINT = "give a run folder, a run id, 'latest', or SCENARIO/latest"


def find_run(arg: str, reports: Path) -> Path:
    """Find the run folder that a RUN argument means.

    Args:
        arg: a folder; a run id; ``latest``; or a scenario's folder or its ``latest`` file.
        reports: folder with one folder a scenario.

    Raises:
        RunFolderError: nothing, or more than one thing, goes by that name.
    """
    path = Path(arg)
    try:
        arg.encode()
        if (path / RUN).is_file():
            return path
    except OSError as error:
        raise RunFolderError(f"cannot look for a run in {arg[:100]!r}: {error.strerror}") from error
    except UnicodeEncodeError:
        raise RunFolderError(f"the name {arg!r} is not UTF-8, and tables cannot be read there") from None
    if path.is_dir() and (path / LATEST).is_file():
        return _follow(path / LATEST)
    if path.name == LATEST and path.is_file():
        return _follow(path)
    if path.is_dir() and arg != LATEST:
        raise RunFolderError(f"{arg} is no run folder: it has no {RUN}", hint="a run folder is reports/SCENARIO/RUN_ID")
    if (named := reports / arg) != path and path.name != arg and arg not in (".", ".."):
        # SCENARIO/latest and SCENARIO/RUN_ID, as the folders under the reports are called.
        if named.name == LATEST and named.is_file():
            return _follow(named)
        if (named / RUN).is_file():
            return named
    if path.name != arg or arg in (".", ".."):
        raise RunFolderError(f"there is no run folder {arg}, and none under {reports}", hint=_RUN_HINT)
    if arg == LATEST:
        return _newest(reports)
    found = sorted(path.parent for path in reports.glob(f"*/{_literal(arg)}/{RUN}"))
    if len(found) > 1:
        raise RunFolderError(f"several runs are called {arg}: {', '.join(map(str, found))}", hint="give the folder")
    if not found:
        raise RunFolderError(f"no run is called {arg!r} under {reports}", hint=_RUN_HINT)
    return found[0]


def point_latest(run_dir: Path, run: Mapping[str, Any]) -> None:
    """Make the scenario's ``latest`` name this run, unless it names one that started later."""
    pointer = run_dir.parent / LATEST
    try:
        current = _follow(pointer)
        if current.name != run_dir.name and str(read_run(current).get("started_at")) > str(run.get("started_at")):
            return
    except RunFolderError:
        pass
    write_text(pointer, run_dir.name + "\n")


def read_run(run_dir: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises:
        RunFolderError: it is missing, damaged, of a later format than this version knows, or of another program.
    """
    from ..records import SCHEMA_VERSION

    run = read_json(run_dir / RUN)
    if "schema_version" not in run:
        raise RunFolderError(f"{run_dir / RUN} was not written by rteval: it has no schema_version")
    version = run["schema_version"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= SCHEMA_VERSION:
        raise RunFolderError(f"{run_dir / RUN} has schema_version {version}; this rteval reads up to {SCHEMA_VERSION}")
    if wrong := list(misfits(run)):
        raise RunFolderError(f"{run_dir / RUN} is damaged: {'; '.join(wrong)}")
    return run


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        RunFolderError: it is missing or holds something else.
    """
    try:
        data = orjson.loads(path.read_bytes())
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RunFolderError(f"{path} holds no JSON object")
    return data


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, then put it in its place: a reader sees the old or the new one.

    Raises:
        RunFolderError: the disk refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # there is none where its folder is none
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one piece."""
    data = text.encode("utf-8", "replace")
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON in one piece, as :func:`json_text` makes it."""
    write_text(path, json_text(data) + "\n")


def json_text(data: Mapping[str, Any]) -> str:
    """JSON for people and programs; a number that JSON does not have (NaN, infinity) becomes null.

    Half a surrogate pair, as the name of a folder may hold it that is not UTF-8, becomes ``\\udcff`` in letters.
    """
    option = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(data, option=option).decode()
    except TypeError:
        return orjson.dumps(_unicode(data), option=option).decode()


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_unicode(key): _unicode(entry) for key, entry in value.items()}
    return [_unicode(entry) for entry in value] if isinstance(value, list | tuple) else value


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV (RFC 4180, UTF-8, empty cells for what is missing, lists joined by ``;``)."""
    lists = {name: frame[name].map(_joined) for name in frame.columns if frame[name].dtype == object}
    replace_file(path, lambda temporary: frame.assign(**lists).to_csv(temporary, index=False, lineterminator="\r\n"))


def _joined(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else ";".join(map(str, value))


def _follow(pointer: Path) -> Path:
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise RunFolderError(f"there is no latest run: cannot read {pointer}") from error
    run_dir = pointer.parent / name
    if Path(name).name != name or not os.path.isfile(run_dir / RUN):
        raise RunFolderError(
            f"{pointer} names {name[:100]!r}, which is no run folder", hint="give a folder or a run id"
        )
    return run_dir


def _newest(reports: Path) -> Path:
    """The run that started last among those that the scenarios' ``latest`` files name."""
    found: list[tuple[str, Path]] = []
    for pointer in sorted(reports.glob(f"*/{LATEST}")):
        try:
            run_dir = _follow(pointer)
            found.append((str(read_run(run_dir).get("started_at")), run_dir))
        except RunFolderError:
            continue
    if not found:
        raise RunFolderError(f"there is no run under {reports} yet", hint="start one with 'rteval run SCENARIO'")
    return max(found)[1]


def _literal(name: str) -> str:
    """A name as a glob pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
