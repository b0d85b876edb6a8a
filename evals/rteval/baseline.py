"""Subjects of a comparison from where they lie: a run folder, or a baseline file; and baselines written and found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunFolderError, UsageError
from .reporting.files import BASELINE, RUN, SUMMARY, find_run, read_json, read_run, write_text
from .shards import is_writing, shard_paths

if TYPE_CHECKING:
    from .analysis.subject import Subject
    from .scenario import BaselineChoice, Scenario

__all__ = [
    "FoundBaseline",
    "find_baseline",
    "find_subject",
    "keep_baseline",
    "place_baseline",
    "restore_baseline",
    "run_subject",
    "save_baseline",
]

OWN_BASELINE = "baseline.as-run.json"

MOST_BYTES = 50_000_000
"""A larger file is no baseline."""


@dataclass(frozen=True, slots=True)
class FoundBaseline:
    """The baseline that a scenario names.

    Attributes:
        content: what a baseline file holds; ``None``: there is none.
        about: what ``run.json`` says of it: ``run`` or ``file``, ``missing``, ``label``, ``reason``.
    """

    content: dict[str, Any] | None
    about: dict[str, Any]

    @property
    def subject(self) -> Subject | None:
        """As one side of a comparison."""
        from .analysis.subject import subject_of_baseline

        return None if self.content is None else subject_of_baseline(self.content, str(self.about["label"]))


def find_subject(name: str, reports: Path) -> Subject:
    """Find what an argument means: a baseline file, a run folder, a run id, ``latest`` or ``SCENARIO/latest``.

    Raises:
        RunFolderError: there is nothing by that name, or it cannot be read.
    """
    path = Path(name)
    if path.suffix == ".json" and os.path.isfile(path) and path.name not in (RUN, SUMMARY):
        from .analysis.subject import subject_of_baseline

        return subject_of_baseline(_content_of(path), path.stem)
    return run_subject(find_run(name, reports))


def run_subject(run_dir: Path) -> Subject:
    """A judged run as one side of a comparison.

    Raises:
        RunFolderError: the run still goes, was never judged, or cannot be read.
    """
    from .analysis.aggregate import Tables
    from .analysis.load import asked_load
    from .analysis.store import HEALTH, SESSIONS, TURNS, read_health, read_table
    from .analysis.subject import subject_of
    from .analysis.table import SESSION_ORDER, TURN_ORDER

    run = read_run(run_dir)
    if any(is_writing(path) for path in shard_paths(run_dir)):
        raise RunFolderError(f"the run in {run_dir} still goes", hint="wait for its end, or stop it with Ctrl-C")
    if not (run_dir / SUMMARY).is_file() or not (run_dir / TURNS).is_file():
        raise RunFolderError(f"the run in {run_dir} was never judged", hint=f"rteval report {run_dir}")
    summary = read_json(run_dir / SUMMARY)
    if wrong := [key for key, kind in _SUMMARY.items() if not isinstance(summary.get(key), kind)]:
        # Without it an invalid run would be taken for a good one.
        raise RunFolderError(
            f"{run_dir / SUMMARY} is damaged: {', '.join(wrong)}", hint=f"rteval report {run_dir} makes it again"
        )
    try:
        tables = Tables(
            turns=read_table(run_dir / TURNS, order=TURN_ORDER),
            sessions=read_table(run_dir / SESSIONS, order=SESSION_ORDER),
            health=read_health(run_dir / HEALTH).iloc[:0],
            asked=asked_load(run),
            slo=run.get("slo") or {},
            scores=_scores(summary),
        )
        invalid = summary["health"].get("verdict") == "invalid"
        return subject_of(run, tables, state=summary.get("state"), invalid=invalid)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"the tables of {run_dir} are not those of a run: {error}") from error


_SUMMARY: Mapping[str, type] = {"state": str, "exit_code": int, "metrics": dict, "gates": list, "health": dict}
"""Of what a comparison takes from ``summary.json``."""


def save_baseline(run_name: str, file: Path, reports: Path, *, force: bool = False) -> int:
    """Write a run's baseline to a file that can be committed; the same run gives the same bytes.

    Args:
        run_name: a RUN argument.
        file: what is written; an older baseline there is replaced.
        reports: folder of all reports.
        force: also of a run that is not complete, and over a file that is no baseline.

    Returns:
        The size of the file in bytes.

    Raises:
        RunFolderError: there is no such run, or the file cannot be written.
        UsageError: the run is no fit baseline, or the file is something else.
    """
    from .analysis.subject import baseline_text

    if file.suffix != ".json" or file.name in (RUN, SUMMARY):
        raise UsageError(f"{file}: a baseline is called NAME.json: by that `rteval compare` tells it from a run")
    run_dir = find_run(run_name, reports)
    subject = run_subject(run_dir)
    state = subject.facts.get("state")
    if state != "complete" and not force:
        raise UsageError(
            f"{run_dir} is {state}: what later runs are held against should be complete and valid",
            hint="take another run, or say --force",
        )
    if not subject.observed or not (force or (subject.turns["outcome"] == "ok").any()):
        raise UsageError(f"no turn of {run_dir} was ok: there is nothing to hold later runs against")
    if os.path.isfile(file) and not force:
        try:
            _content_of(file)
        except RunFolderError as error:
            hint = "name another file, or say --force"
            raise UsageError(f"{file} is there, and is no baseline", hint=hint) from error
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make the folder {file.parent}: {error.strerror or error}") from error
    text = baseline_text(_of_run(run_dir, subject))
    write_text(file, text)
    return len(text.encode())


def find_baseline(scenario: Scenario, reports: Path) -> FoundBaseline | None:
    """Find the baseline that a scenario names; ``None`` when it names none.

    Raises:
        RunFolderError: there is something, and it cannot be read.
    """
    choice = scenario.baseline
    if choice is None:
        return None
    about = choice.model_dump(mode="json", exclude_none=True) | {"label": choice.run or Path(choice.file or "").name}
    if choice.file is not None:
        path = Path(choice.file)
        if os.path.isfile(path):
            return FoundBaseline(_content_of(path), about)
        missing = f"there is no baseline file {choice.file}"
        return FoundBaseline(None, about | {"reason": f"{missing} (`rteval baseline save RUN FILE` makes one)"})
    try:
        run_dir = _run_of(scenario, choice, reports)
    except RunFolderError as error:
        return FoundBaseline(None, about | {"reason": f"there is no baseline: {error}"})
    subject = run_subject(run_dir)
    return FoundBaseline(_of_run(run_dir, subject), about | {"label": subject.label})


def place_baseline(found: FoundBaseline | None, run_dir: Path) -> dict[str, Any] | None:
    """Keep a copy of the baseline in a run folder, so that its verdict can be had again from the folder alone.

    One of an earlier judgement goes, so that none is held against what nobody named any more.

    Returns:
        What ``run.json`` says of it.
    """
    if found is None:
        return None
    if found.content is not None:
        from .analysis.subject import baseline_text

        write_text(run_dir / BASELINE, baseline_text(found.content))
    else:
        (run_dir / BASELINE).unlink(missing_ok=True)
    return found.about


def keep_baseline(run_dir: Path) -> None:
    """Put the run's own copy aside, before that of another scenario takes its place."""
    own = run_dir / OWN_BASELINE
    if not own.is_file():
        with suppress(FileNotFoundError):
            (run_dir / BASELINE).replace(own)


def restore_baseline(run_dir: Path, *, had: bool) -> None:
    """Put the run's own copy back; a run that had none (``had``) keeps that of no other scenario."""
    own = run_dir / OWN_BASELINE
    if own.is_file():
        own.replace(run_dir / BASELINE)
    elif not had:
        (run_dir / BASELINE).unlink(missing_ok=True)


def _run_of(scenario: Scenario, choice: BaselineChoice, reports: Path) -> Path:
    name = choice.run or ""
    if name == "latest":
        newest = find_run(f"{scenario.name}/latest", reports)
        # A night that was broken off, or measured itself, must not make the next one red.
        return newest if _is_complete(newest) else _newest_complete(newest.parent) or newest
    beside = scenario.path.parent / name if scenario.path is not None else Path(name)
    return beside if (beside / RUN).is_file() else find_run(name, reports)


def _newest_complete(folder: Path) -> Path | None:
    found = []
    for path in folder.glob(f"*/{RUN}"):
        with suppress(RunFolderError):
            if _is_complete(path.parent):
                found.append((str(read_run(path.parent).get("started_at")), path.parent))
    return max(found, default=(None, None))[1]


def _is_complete(run_dir: Path) -> bool:
    return read_run(run_dir).get("state") == "complete"


def _of_run(run_dir: Path, subject: Subject) -> dict[str, Any]:
    from .analysis.subject import baseline_of

    named = [gate.get("metric") for gate in read_json(run_dir / SUMMARY)["gates"] if isinstance(gate, dict)]
    return baseline_of(subject, more={str(name).rpartition(".")[0] for name in named})


def _scores(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of the scorers' metrics: what they were made of stands in the table of turns."""
    from .analysis.metrics import SCORERS

    return {name: entry for name, entry in summary["metrics"].items() if name.startswith(SCORERS)}


def _content_of(path: Path) -> dict[str, Any]:
    """The content of a baseline file, known to be one."""
    from .analysis.subject import subject_of_baseline

    if path.stat().st_size > MOST_BYTES:
        raise RunFolderError(f"{path} is larger than {MOST_BYTES} bytes: it is no baseline")
    content = read_json(path)
    try:
        subject_of_baseline(content, path.stem)
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}", hint="rteval baseline save RUN FILE makes a new one") from error
    return content
