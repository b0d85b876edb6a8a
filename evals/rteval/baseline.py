"""Subjects of a comparison from where they lie: a run folder, or a baseline file; and baselines written and found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunFolderError, UsageError
from .reporting.files import BASELINE, RUN, SUMMARY, find_run, read_json, read_run, write_text
from .shards import is_writing, shard_paths

if TYPE_CHECKING:
    from .analysis.subject import Subject
    from .scenario import BaselineChoice, Scenario

__all__ = ["FoundBaseline", "find_baseline", "find_subject", "place_baseline", "run_subject", "save_baseline"]

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
    if path.suffix == ".json" and path.is_file() and path.name not in (RUN, SUMMARY):
        from .analysis.subject import subject_of_baseline

        return subject_of_baseline(_content_of(path), path.stem)
    return run_subject(find_run(name, reports))


def run_subject(run_dir: Path) -> Subject:
    """A judged run as one side of a comparison.

    Raises:
        RunFolderError: the run still goes, was never judged, or cannot be read.
    """
    import numpy as np

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
    try:
        tables = Tables(
            turns=read_table(run_dir / TURNS, order=TURN_ORDER),
            sessions=read_table(run_dir / SESSIONS, order=SESSION_ORDER),
            gaps_ms=np.empty(0),
            health=read_health(run_dir / HEALTH).iloc[:0],
            asked=asked_load(run),
            slo=run.get("slo") or {},
        )
        invalid = (summary.get("health") or {}).get("verdict") == "invalid"
        return subject_of(run, tables, state=summary.get("state"), invalid=invalid)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"the tables of {run_dir} are not those of a run: {error}") from error


def save_baseline(run_name: str, file: Path, reports: Path, *, force: bool = False) -> int:
    """Write a run's baseline to a file that can be committed; the same run gives the same bytes.

    Args:
        run_name: a RUN argument.
        file: what is written.
        reports: folder of all reports.
        force: also of a run that is not complete.

    Returns:
        The size of the file in bytes.

    Raises:
        RunFolderError: there is no such run, or the file cannot be written.
        UsageError: the run is no fit baseline.
    """
    from .analysis.subject import baseline_text

    run_dir = find_run(run_name, reports)
    subject = run_subject(run_dir)
    state = subject.facts.get("state")
    if state != "complete" and not force:
        raise UsageError(
            f"{run_dir} is {state}: what later runs are held against should be complete and valid",
            hint="take another run, or say --force",
        )
    if not subject.observed:
        raise UsageError(f"{run_dir} measured nothing: there is nothing to hold later runs against")
    file.parent.mkdir(parents=True, exist_ok=True)
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
        if path.is_file():
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

    Returns:
        What ``run.json`` says of it.
    """
    if found is None:
        return None
    if found.content is not None:
        from .analysis.subject import baseline_text

        write_text(run_dir / BASELINE, baseline_text(found.content))
    return found.about


def _run_of(scenario: Scenario, choice: BaselineChoice, reports: Path) -> Path:
    name = choice.run or ""
    if name == "latest":
        return find_run(f"{scenario.name}/latest", reports)
    beside = scenario.path.parent / name if scenario.path is not None else Path(name)
    return beside if (beside / RUN).is_file() else find_run(name, reports)


def _of_run(run_dir: Path, subject: Subject) -> dict[str, Any]:
    from .analysis.subject import baseline_of

    gates = read_json(run_dir / SUMMARY).get("gates") or []
    return baseline_of(subject, more={str(gate.get("metric", "")).rpartition(".")[0] for gate in gates})


def _content_of(path: Path) -> dict[str, Any]:
    """The content of a baseline file, known to be one."""
    from .analysis.subject import subject_of_baseline

    if path.stat().st_size > MOST_BYTES:
        raise RunFolderError(f"{path} is larger than {MOST_BYTES} bytes: it is no baseline")
    content = read_json(path)
    try:
        subject_of_baseline(content, path.stem)
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}") from error
    return content
