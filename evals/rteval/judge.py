"""From a run folder to a verdict: tables, scores, metrics, gates, reports and the exit code, without the target.

The order matters. Shards become tables in a folder of their own; the tables are put in place and read back; only then
are the shards removed. A judge that dies anywhere leaves a folder that can be judged again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .analysis.gates import DEFAULT_GATE, Gate, parse_gates
from .analysis.judging import GateResult, Verdict, judge_gates
from .analysis.metrics import METRICS_VERSION, SCORERS
from .analysis.verdict import End, Facts, exit_code, run_state
from .errors import RunFolderError
from .records import SCHEMA_VERSION
from .reporting.files import (
    BASELINE,
    JUNIT,
    PAGE,
    RUN,
    SUMMARY,
    SUMMARY_MD,
    TURNS_CSV,
    point_latest,
    read_json,
    read_run,
    replace_file,
    write_csv,
    write_json,
    write_text,
)
from .reporting.rows import failed_turns, kinds_of_failure
from .scoring.answer_audio import AUDIO_COLUMNS, measure_answers
from .scoring.normalize import NORMALIZERS
from .scoring.scores import SCORES, read_scored, score_columns, score_entries
from .scoring.turns import QUOTING, TEXTS, Scoring, is_content_column, score_turns
from .shards import COPIES, SHARDS, Record, Torn, alone, is_writing, iter_shards, shard_paths

if TYPE_CHECKING:
    import pandas as pd

    from .analysis.aggregate import Tables
    from .analysis.compare import RunEvidence
    from .analysis.subject import Subject

__all__ = ["Judgement", "ScoreTurns", "judge"]

STAGING = ".tables"
READ_SHARDS = ".shards.read"
RECORDS = ("duplicates", "torn_lines")
PAGE_DELTAS = 1_000_000
"""The page gets the deltas of a run that has no more than this."""


ScoreTurns = Callable[["pd.DataFrame", Path, Mapping[str, Any]], object]
"""Runs a scenario's scorers over the turns of a run folder (with its ``run.json``) and keeps there what they found.

It is passed in: scorers may ask other services, and the judging half reaches nothing but the folder.
"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one run.

    Attributes:
        exit_code: what ``rteval run`` (and ``report``, ``score``) ends with.
        summary: what stands in ``summary.json``.
        run_dir: the run folder.
        gates: each gate with its verdict.
        notes: sentences for people, e.g. what could not be scored again.
    """

    exit_code: int
    summary: dict[str, Any]
    run_dir: Path
    gates: tuple[GateResult, ...] = ()
    notes: tuple[str, ...] = ()


def judge(
    run_dir: Path,
    *,
    reports_written: bool = True,
    score: ScoreTurns | None = None,
    judged_by: Mapping[str, Any] | None = None,
) -> Judgement:
    """Judge a run folder: make or renew its tables, score, measure, decide, and write what is read by others.

    The same folder always gets the same ``summary.json``, byte for byte.

    Args:
        run_dir: folder with ``run.json`` and shards or tables.
        reports_written: write the reports for people too, as ``report.formats`` of the run says: ``summary.md``,
            ``junit.xml``, ``report.html``. ``summary.json`` and the tables are always written.
        score: runs the scorers that ``run.json`` names; by default what they found before is read.
        judged_by: what takes the place of keys of ``run.json`` from now on, e.g. other ``gates`` and ``scoring``.

    Raises:
        RunFolderError: the folder holds no readable run, the run still goes, or the disk is full.
        GateError: a gate in ``run.json`` cannot be read.
    """
    with alone(run_dir):
        return _judge(run_dir, reports_written=reports_written, score=score, judged_by=judged_by or {})


def _judge(
    run_dir: Path, *, reports_written: bool, score: ScoreTurns | None, judged_by: Mapping[str, Any]
) -> Judgement:
    run = read_run(run_dir) | dict(judged_by)
    # Its numbers are those of these definitions from now on, whichever version ran it.
    run["versions"] = {**(run.get("versions") or {}), "metrics": METRICS_VERSION}
    _refuse_running(run_dir)
    gates = _gates(run)
    with _sources(run_dir, run) as source:
        tables, notes = _tables(source, run_dir, run, score)
        kept = _put_in_place(source, run_dir, run, tables)
    summary, results = _summary(run_dir, run, tables, gates)
    write_json(run_dir / SUMMARY, summary)
    run |= {"state": summary["state"], "exit_code": summary["exit_code"]}
    write_json(run_dir / RUN, run)
    point_latest(run_dir, run)
    if reports_written:
        _write_reports(run_dir, run, summary, kept, tables)
    return Judgement(summary["exit_code"], summary, run_dir, tuple(results), tuple(notes))


# ---- where the rows come from ----


@dataclass(slots=True)
class _Source:
    """A folder with the four tables: the staging folder, or the run folder when there are no shards any more.

    Attributes:
        fresh: whether the tables were just made from shards.
        duplicates, torn_lines: what was found on the way.
    """

    folder: Path
    fresh: bool
    duplicates: int = 0
    torn_lines: int = 0


def _refuse_running(run_dir: Path) -> None:
    if any(is_writing(path) for path in shard_paths(run_dir)):
        raise RunFolderError(f"the run in {run_dir} still goes", hint="wait for its end, or stop it with Ctrl-C")


@contextmanager
def _sources(run_dir: Path, run: Mapping[str, Any]) -> Iterator[_Source]:
    from .analysis.store import DELTAS, HEALTH, SESSIONS, TURNS, collect

    shutil.rmtree(run_dir / READ_SHARDS, ignore_errors=True)
    missing = [name for name in (TURNS, SESSIONS, DELTAS, HEALTH) if not (run_dir / name).is_file()]
    if not shard_paths(run_dir) and len(missing) < 4:
        if missing:
            raise RunFolderError(f"{run_dir} is not complete: {', '.join(missing)} is missing")
        yield _Source(run_dir, fresh=False, **{key: int((run.get("records") or {}).get(key) or 0) for key in RECORDS})
        return
    staging = run_dir / STAGING
    source = _Source(staging, fresh=True)

    def readable() -> Iterator[Record]:
        for record in iter_shards(run_dir):
            if isinstance(record, Torn):
                source.torn_lines += 1
            else:
                yield record

    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        source.duplicates = collect(readable(), staging).duplicates
        yield source
    except OSError as error:
        raise RunFolderError(f"cannot make the tables of {run_dir}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# ---- rows -> tables ----


def _tables(
    source: _Source, run_dir: Path, run: Mapping[str, Any], score: ScoreTurns | None
) -> tuple[Tables, list[str]]:
    """The whole tables, texts included where the source has them; and notes."""
    import pandas as pd

    from .analysis.aggregate import Tables
    from .analysis.load import asked_load
    from .analysis.stats import describe
    from .analysis.store import (
        DELTAS,
        HEALTH,
        META,
        RAW_SESSIONS,
        RAW_TURNS,
        SESSIONS,
        TURNS,
        check_tables,
        count_rows,
        iter_turn_deltas,
        read_health,
        read_table,
    )
    from .analysis.table import SESSION_ORDER, TURN_ORDER, derive_sessions, derive_turns, expand_meta
    from .analysis.variants import axis_columns

    if not source.fresh:
        check_tables(source.folder)
    turns = read_table(source.folder / TURNS, order=TURN_ORDER)
    names = [str(name) for name in turns.columns]
    raw = turns[[name for name in RAW_TURNS if name in names and name != "meta"]]
    meta = expand_meta(turns["meta"]) if source.fresh else turns[[name for name in names if name.startswith(META)]]
    notes = []
    has_texts = all(name in names for name in TEXTS)
    if has_texts:
        content = score_turns(turns, _scoring(run))
    else:
        notes.append("this run kept no transcripts: its scores are those of its end, they cannot be made anew")
        content = turns[[name for name in names if is_content_column(name)]]
    if source.fresh or score is not None or not all(name in names for name in AUDIO_COLUMNS):
        sound = measure_answers(raw, run_dir)
    else:
        sound = turns[list(AUDIO_COLUMNS)]
    deltas = source.folder / DELTAS
    derived, gaps = derive_turns(raw, iter_turn_deltas(deltas), count_rows(deltas))
    sessions = read_table(source.folder / SESSIONS, list(RAW_SESSIONS), order=SESSION_ORDER)
    whole = pd.concat([raw, axis_columns(raw["variant"], run), derived, content, sound, meta], axis=1)
    if score is not None and has_texts:
        score(whole, run_dir, run)
    scores, entries, more = _scores(run_dir, run, whole, has_texts=has_texts)
    tables = Tables(
        turns=pd.concat([whole, scores], axis=1),
        sessions=pd.concat([sessions, axis_columns(sessions["variant"], run), derive_sessions(sessions)], axis=1),
        gaps=describe(gaps),
        health=read_health(source.folder / HEALTH),
        asked=asked_load(run),
        slo=run.get("slo") or {},
        # 0 is what a run says before it ends; one that was killed never got further.
        sessions_peak=(run.get("live") or {}).get("sessions_peak") or None,
        duplicates=source.duplicates,
        torn_lines=source.torn_lines,
        scores=entries,
    )
    return tables, notes + more


def _scores(
    run_dir: Path, run: Mapping[str, Any], turns: pd.DataFrame, *, has_texts: bool
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]], list[str]]:
    """What scorers found: columns of the turns, entries of metrics, and who found nothing."""
    import pandas as pd

    announced = [name for name in run.get("checks") or () if name.startswith(SCORERS)]
    columns, notes = [pd.DataFrame(index=turns.index)], []
    entries: dict[str, dict[str, Any]] = {}
    for name, options in ((run.get("scoring") or {}).get("scorers") or {}).items():
        content = read_scored(run_dir / SCORES / f"{name}.json", options)
        if content is not None:
            columns.append(score_columns(name, content, turns))
        else:
            content = {"reason": "`rteval score RUN` has yet to do it" if has_texts else "there are no transcripts"}
        entries |= score_entries(name, content, announced)
        if content.get("reason"):
            notes.append(f"scorer {name}: not scored: {content['reason']}")
    return pd.concat(columns, axis=1), entries, notes


def _texts_are_kept(run: Mapping[str, Any]) -> bool:
    return bool((run.get("report") or {}).get("transcripts", "full") != "none")


def _put_in_place(source: _Source, run_dir: Path, run: dict[str, Any], tables: Tables) -> pd.DataFrame:
    """Write the final tables, read them back, and only then forget the shards. Returns the turns as they are kept."""
    from .analysis.store import DELTAS, HEALTH, SESSIONS, TURNS, same_rows, write_table

    quoting = [*TEXTS, *QUOTING]
    turns = tables.turns if _texts_are_kept(run) else tables.turns.drop(columns=quoting, errors="ignore")
    if source.fresh:
        for name in (DELTAS, HEALTH):
            (source.folder / name).replace(run_dir / name)
    replace_file(run_dir / SESSIONS, lambda path: write_table(tables.sessions, path))
    replace_file(run_dir / TURNS, lambda path: write_table(turns, path))
    write_csv(run_dir / TURNS_CSV, turns)
    for name, frame in ((TURNS, turns), (SESSIONS, tables.sessions)):
        if not same_rows(run_dir / name, frame):
            raise RunFolderError(f"{run_dir / name} does not read back as it was written; the shards are kept")
    if source.fresh:
        run["records"] = {key: getattr(source, key) for key in RECORDS}
        write_json(run_dir / RUN, run)
        if (run_dir / SHARDS).is_dir():
            # In one step: shards of which half are gone would be taken for the whole run.
            (run_dir / SHARDS).replace(run_dir / READ_SHARDS)
            shutil.rmtree(run_dir / READ_SHARDS, ignore_errors=True)
            shutil.rmtree(run_dir / COPIES, ignore_errors=True)
    return turns


# ---- tables -> verdict ----


def _summary(
    run_dir: Path, run: Mapping[str, Any], tables: Tables, gates: list[Gate]
) -> tuple[dict[str, Any], list[GateResult]]:
    from .analysis.aggregate import count, measure
    from .analysis.breakdown import breakdowns
    from .analysis.culprit import find_culprit
    from .analysis.health import judge_health
    from .analysis.load import compare_load
    from .analysis.samples import add_intervals
    from .analysis.subject import subject_of
    from .analysis.variants import measure_variants

    metrics = measure(tables)
    counts = count(tables, planned_turns=(run.get("planned") or {}).get("turns"))
    health = judge_health(tables.health, run.get("limits") or {}, warm_until_ns=tables.asked.warm_until_ns)
    invalid = health["reasons"][0] if health["verdict"] == "invalid" else None
    subject = subject_of(run, tables, invalid=invalid is not None)
    statistics = add_intervals(metrics, subject.observed)
    results = judge_gates(gates, metrics, invalid=invalid, evidence=_evidence(run_dir, run, subject))
    facts = Facts(
        end=_end(run),
        ready=counts["sessions_ready"] > 0 if counts["sessions"] else None,
        invalid=invalid is not None,
        complete=not counts["not_recorded"] and counts["turns"] > 0,
        verdicts=[result.verdict if result.missed else Verdict.PASS for result in results],
    )
    summary = {
        "schema_version": SCHEMA_VERSION,
        "run_id": str(run.get("run_id") or run_dir.name),
        "run_dir": str(run_dir.resolve()),
        "state": run_state(facts).value,
        "exit_code": exit_code(facts),
        "metrics": metrics,
        "gates": [result.as_dict() for result in results],
        "health": health,
        "load": compare_load(tables.asked, tables.turns, tables.sessions),
        "counts": counts,
        "statistics": statistics,
        "breakdown": breakdowns(subject),
        "variants": measure_variants(tables, run),
    }
    culprit = find_culprit(run, summary, kinds_of_failure(tables.turns))
    summary["culprit"] = culprit.as_dict() if culprit is not None else None
    summary["incidents"] = list((run.get("live") or {}).get("incidents") or ())
    return summary, results


def _evidence(run_dir: Path, run: Mapping[str, Any], subject: Subject) -> RunEvidence:
    """The run's samples and its baseline, of which the folder holds a copy: the verdict comes out again anywhere."""
    from .analysis.compare import RunEvidence
    from .analysis.subject import subject_of_baseline

    said = run.get("baseline") or {}
    reason = said.get("reason")
    path = run_dir / BASELINE
    if not path.is_file():
        # Only what was missing when it ran is let be: a copy that went away since is no pardon.
        forgiven = reason is not None and said.get("missing") == "skip"
        gone = f"{BASELINE} is missing from the run folder" if said and reason is None else "there is no baseline"
        return RunEvidence(subject, missing=reason or gone, forgiven=forgiven)
    try:
        return RunEvidence(subject, subject_of_baseline(read_json(path), str(said.get("label") or "the baseline")))
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}") from error


def _gates(run: Mapping[str, Any]) -> list[Gate]:
    texts = run.get("gates")
    return parse_gates([DEFAULT_GATE] if texts is None else texts, checks=run.get("checks") or ())


def _scoring(run: Mapping[str, Any]) -> Scoring:
    resolved = ((run.get("scenario") or {}).get("resolved") or {}).get("scoring") or {}
    scoring = {**resolved, **(run.get("scoring") or {})}
    name = scoring.get("normalizer")
    if name is not None and name not in NORMALIZERS:
        raise RunFolderError(f"{RUN} names the normaliser {name!r}; this rteval has {', '.join(NORMALIZERS)}")
    known = ("normalizer", "wer", "checks")
    return Scoring(**{name: scoring[name] for name in known if scoring.get(name) is not None})


def _end(run: Mapping[str, Any]) -> End:
    reason = (run.get("end") or {}).get("reason")
    return next((end for end in End if end.value == reason), End.KILLED)


# ---- verdict -> reports ----


def _write_reports(
    run_dir: Path, run: dict[str, Any], summary: dict[str, Any], turns: pd.DataFrame, tables: Tables
) -> None:
    formats = (run.get("report") or {}).get("formats")
    formats = ("markdown", "junit", "html") if formats is None else formats
    if "markdown" in formats:
        from .reporting.markdown import markdown

        write_text(run_dir / SUMMARY_MD, markdown(run, summary, kinds_of_failure(turns)))
    if "junit" in formats:
        from .reporting.junit import junit

        write_text(run_dir / JUNIT, junit(run, summary, failed_turns(turns)))
    if "html" in formats:
        from .analysis.store import DELTAS, read_table
        from .reporting.html import write_html

        replace_file(
            run_dir / PAGE,
            lambda path: write_html(
                path,
                run=run,
                summary=summary,
                turns=turns,
                sessions=tables.sessions,
                deltas=read_table(run_dir / DELTAS, most_rows=PAGE_DELTAS),
                health=tables.health,
            ),
        )
