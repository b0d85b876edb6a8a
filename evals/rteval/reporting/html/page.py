"""Composes the report page from a judged run: picks what is shown where, and fills the template."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from ...analysis.health import LAGS
from ...analysis.intervals import CONFIDENCE
from ...analysis.load import is_not_started
from ...analysis.metrics import CHECKS, METRICS, SCORERS, Source, find_metric
from ...records import Stage
from ..load import LoadRow, incidents_of, is_shaped, left_out_as_warmup, load_rows, worker_rows
from ..words import say_culprit
from .figures import counted, figures_of, metric_of, origin_ns, seconds, variants_of
from .groups import breakdown_tables, variant_table
from .numbers import counted_in, definition_of, interval, interval_of, quantile, unit_of
from .shell import CHARTS, STYLE, asset, digest, embedded, environment, policy, script_text
from .sounds import Sounds, find_sounds
from .stages import Stages, stages_of
from .transcripts import mistakes_of, worst_turns
from .turn_table import cut, room_for, turn_columns
from .wording import Number, clean, duration, number, verdict_of

__all__ = ["asset", "digest", "embedded", "environment", "policy", "render", "script_text", "write_html"]

HEADLINES = (
    "ttfa_ms",
    "v2v_ms",
    "response_ms",
    "error_rate",
    "input_wer",
    "output_wer",
    "checks.pass_rate",
    "turns_per_s",
)
"""What the page shows big, in this order, where it was measured."""

SECTIONS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("health", lambda name: Source.HEALTH is source_of(name)),
    ("sound", lambda name: name.startswith("output_") and name.endswith(("_share", "_dbfs"))),
    (
        "transcripts",
        lambda name: (
            name.endswith(("wer", "cer", "_missing_rate", "entity_accuracy")) or name.startswith((CHECKS, SCORERS))
        ),
    ),
    ("lateness", lambda name: name == "start_lag_ms"),
    ("latency", lambda name: name.endswith("_ms") or name in ("rtf", "underrun_count")),
    ("tokens", lambda name: "tokens" in name or "cost" in name),
    ("errors", lambda name: name.endswith("_rate")),
    ("load", lambda _name: True),
)
"""Which section of the page lists a metric; the first that fits."""

HEALTH = {"cpu_share": "CPU time of a worker's process over wall time, one sample a second; 100 % is one core"}

SCRIPTS = (*CHARTS, "turns.js")

STAGES = [stage.value for stage in Stage]

AUDIO_SHARE = 4
"""The outlines of answers may take one part in so many of the room for turns."""

GATE_MARKS = {
    "pass": ("✓", "pass"),
    "fail": ("✗", "fail"),
    "no_data": ("∅", "no data"),
    "invalid": ("⚠", "invalid"),
    "inconclusive": ("≈", "inconclusive"),
}


def write_html(
    path: Path,
    *,
    run: dict[str, Any],
    summary: dict[str, Any],
    turns: pd.DataFrame,
    sessions: pd.DataFrame,
    deltas: pd.DataFrame,
    health: pd.DataFrame,
) -> None:
    """Write the report page of one run.

    The page is one file: it asks the network for nothing, its content security policy names each script and style by
    hash, and everything that came from a server or a dataset is written as text. Audio that was kept stays in files
    beside the page, which names them; recordings of its questions are copied there (see ``find_sounds``).

    Args:
        path: file to write, in the run folder.
        run: what was run (``run.json``).
        summary: what came out (``summary.json``); every number that the page prints as a metric comes from it.
        turns: one row a turn, raw and derived columns.
        sessions: one row a session.
        deltas: one row a delta; none where there are too many for a page.
        health: the generator's own health: ``worker``, ``kind`` (``loop`` and ``send`` in ms, ``cpu`` as a share of a
            core, ``sessions``), ``at_ns``, ``value``.
    """
    turns = turns.reset_index(drop=True)
    sounds = find_sounds(path.parent, run, turns, most_characters=room_for(len(turns)) // AUDIO_SHARE)
    text = render(run=run, summary=summary, turns=turns, sessions=sessions, health=health, deltas=deltas, sounds=sounds)
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def render(
    *,
    run: Mapping[str, Any],
    summary: Mapping[str, Any],
    turns: pd.DataFrame,
    sessions: pd.DataFrame,
    health: pd.DataFrame,
    deltas: pd.DataFrame | None = None,
    sounds: Sounds | None = None,
) -> str:
    """Return the report page as text; arguments as those of ``write_html``."""
    turns = turns.reset_index(drop=True)
    sounds = sounds or Sounds()
    if "outcome" not in turns:
        turns = turns.assign(outcome=pd.Series(dtype="string"))
    texts = (run.get("report") or {}).get("transcripts", "full") != "none"
    metrics = summary.get("metrics") or {}
    gates = summary.get("gates") or []
    health_summary = summary.get("health") or {}
    stages = stages_of(turns, counted(turns).to_numpy(), sessions, variants_of(turns))
    figures = figures_of(turns, sessions, health, run=run, gates=gates)
    table = turn_columns(
        turns,
        texts=texts,
        at_s=seconds(turns, origin_ns(turns, health, run)),
        deltas=deltas,
        answers=sounds.answers,
    )
    data = {
        "figures": {"stages": [] if stages is None else [stages.figure], **figures},
        "turns": table,
        "questions": sounds.questions,
    }
    context = {
        "name": clean((run.get("scenario") or {}).get("name") or "run"),
        "about": about(run, summary),
        "version": clean((run.get("versions") or {}).get("rteval", "")),
        "state": clean(summary.get("state") or run.get("state") or "unknown"),
        "exit_code": summary.get("exit_code"),
        "verdict": verdict_of(summary),
        "reasons": reasons(run, summary),
        "culprit": clean(say_culprit(summary) or ""),
        "gates": [gate_row(gate, metrics) for gate in gates],
        "headlines": headlines(metrics),
        "tables": metric_tables(metrics),
        "groups": breakdown_tables(summary),
        "variants": variant_table(summary),
        "figures": data["figures"],
        "stages": None if stages is None else stage_table(stages),
        "transcription_off": transcription_off(turns),
        "any_wer": (metrics.get("input_wer") or {}).get("value") is not None,
        "normalizers": distinct(turns, "normalizer"),
        "sides": [
            {
                "worst": worst_turns(turns, side) if texts else [],
                "mistakes": mistakes_of(turns, side) if texts else None,
            }
            for side in ("input", "output")
        ],
        "texts": texts,
        "errors": error_rows(turns, "outcome"),
        "transcript_errors": transcript_rows(turns),
        "session_errors": error_rows(sessions, "outcome", good="ready"),
        "load": [load_row(row) for row in load_rows(run, summary)],
        "load_notes": load_notes(run, summary),
        "health": health_rows(health_summary),
        "health_unmeasured": [name for name in LAGS if not (health_summary.get(name) or {}).get("n")],
        "workers": shown_workers(run, summary),
        "incidents": [clean(text) for text in incidents_of(run)],
        "health_notes": []
        if health_summary.get("verdict") == "invalid"
        else [clean(text) for text in health_summary.get("reasons") or []],
        "facts": fact_groups(run, summary),
        "warnings": [clean(text) for text in (run.get("live") or {}).get("warnings") or []],
        "counts": counts_of(turns),
        "turns_total": len(turns),
        "shown_turns": table,
        "columns": column_definitions(table["columns"]),
        "deltas_missing": table["step_ms"] is None and "output_audio_ms" in table["columns"],
        "sound_notes": [clean(note) for note in sounds.notes],
        "plays": bool(sounds.answers),
        "intervals": any(metric.get("ci95") for metric in metrics.values()),
        "policy": policy(SCRIPTS, plays_audio=bool(sounds.answers)),
        "style": Markup(asset(STYLE)),
        "scripts": [Markup(script_text(name)) for name in SCRIPTS],
        "data": Markup(embedded(data)),
    }
    return environment().get_template("report.html.j2").render(context)


def source_of(name: str) -> Source | None:
    """Return whose samples make up a metric."""
    metric = find_metric(name)
    return None if metric is None else metric.source


def reasons(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Return what else there is to say about the verdict, one sentence each: how the run ended, why it is invalid."""
    end = run.get("end")
    refusal = run.get("refusal") or {}
    found = [clean(str(refusal[key])) for key in ("message", "hint") if refusal.get(key)]
    if end is None:
        found.append("The run never said that it ended: it was killed, or its machine went down.")
    elif end.get("detail"):
        found.append(clean(end["detail"]))
    counts = summary.get("counts") or {}
    if counts.get("not_recorded"):
        found.append(f"{counts['not_recorded']} of {counts.get('planned')} planned turns were not recorded.")
    health = summary.get("health") or {}
    if health.get("verdict") == "invalid" and summary.get("state") != "refused":
        found += [clean(text) for text in health.get("reasons") or []]
    return list(dict.fromkeys(found))


def gate_row(gate: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return one gate as the page shows it."""
    verdict = str(gate.get("verdict", ""))
    mark, word = GATE_MARKS.get(verdict, ("?", verdict or "not judged"))
    name = str(gate.get("metric", ""))
    entry = metrics.get(metric_of(name))
    unit = unit_of(name, entry)
    shown = number(gate.get("value"), unit, n=counted_in(name, gate.get("n"), entry))
    return {
        "text": clean(gate.get("text", "")),
        "metric": clean(name),
        "kind": verdict if verdict in GATE_MARKS else "invalid",
        "mark": mark,
        "word": word,
        "value": shown if shown.exact is not None else Number("no value", None),
        "limit": number(gate.get("limit"), unit),
        "n": gate.get("n"),
        "reason": clean(gate.get("reason") or ""),
        "remarks": [clean(text) for text in gate_remarks(gate, unit)],
        "definition": definition_of(name, entry),
    }


def gate_remarks(gate: Mapping[str, Any], unit: str | None) -> Iterator[str]:
    """Say what else decides a gate: what it looks at, its baseline, its interval, and whether a miss only warns."""
    if gate.get("where"):
        yield "only turns with " + ", ".join(f"{column} {value}" for column, value in gate["where"])
    if gate.get("baseline") is not None:
        yield f"baseline {number(gate['baseline'], unit).text} (n {gate.get('baseline_n')})"
    if gate.get("interval"):
        what = "change" if "baseline" in gate else "value"
        share = (gate.get("confidence") or CONFIDENCE) * 100
        yield f"{share:g} % interval of the {what}: {interval(gate['interval'], unit)}"
    if gate.get("severity") == "warn":
        yield "a miss only warns"
    if gate.get("note"):
        yield str(gate["note"])


def stage_table(stages: Stages) -> dict[str, Any]:
    """Return the stages between the end of speech and the first sound as rows of a table."""
    rows = []
    for stage in stages.rows:
        times = stage.times
        p95 = Number("n too small", None) if "p95" in times.withheld else number(times.p95, "ms")
        values = [number(times.n), number(times.mean, "ms"), number(times.p50, "ms"), p95]
        rows.append({"name": stage.name, "definition": stage.definition, "values": values})
    return {"rows": rows, "turns": stages.turns}


def column_definitions(columns: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the columns of the table of turns mean, where they are metrics."""
    return [(name, METRICS[name].definition) for name in columns if name in METRICS]


def headlines(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the numbers that are shown big, each with what it means."""
    found = []
    for name in HEADLINES:
        metric = metrics.get(name)
        if metric is None or not metric.get("n"):
            continue
        unit, n = unit_of(name, metric), metric.get("n")
        timed = metric.get("p50") is not None
        main = number(
            metric.get("p50") if timed else metric.get("value", metric.get("mean")), unit, n=counted_in(name, n, metric)
        )
        if main.exact is None:
            continue
        found.append(
            {
                "name": name,
                "stat": "p50" if timed else "",
                "main": main,
                "interval": interval_of(name, metric, "p50" if timed else "value" if "value" in metric else "mean"),
                "second": quantile(name, metric, "p95") if timed else None,
                "second_interval": interval_of(name, metric, "p95") if timed else "",
                "n": n,
                "left_out": metric.get("left_out") or 0,
                "definition": definition_of(name, metric),
            }
        )
    return found[:6]


@dataclass(slots=True)
class MetricTable:
    """The metrics of one section.

    Attributes:
        rows: those that were measured, in the summary's order.
        unmeasured: names of the others, each with the reason where one is known.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    unmeasured: list[tuple[str, str]] = field(default_factory=list)

    @property
    def timed(self) -> bool:
        """Whether any of them is a distribution."""
        return any(row["timed"] for row in self.rows)


def metric_tables(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, MetricTable]:
    """Return all metrics of the summary by section of the page."""
    tables = {section: MetricTable() for section, _belongs in SECTIONS}
    for name, metric in metrics.items():
        table = tables[next(section for section, belongs in SECTIONS if belongs(name))]
        unit, n = unit_of(name, metric), metric.get("n")
        single = metric.get("value", metric.get("mean"))
        if single is None:
            table.unmeasured.append((clean(name), clean(metric.get("reason") or "")))
            continue
        table.rows.append(
            {
                "name": name,
                "n": number(n),
                "left_out": number(metric.get("left_out")),
                "value": number(single, unit, n=counted_in(name, n, metric)),
                "stat": "value" if "value" in metric else "mean",
                "timed": "p50" in metric,
                "stats": {stat: quantile(name, metric, stat) for stat in ("p50", "p90", "p95", "p99", "min", "max")},
                "intervals": {
                    stat: interval_of(name, metric, stat) for stat in ("value", "mean", "p50", "p90", "p95", "p99")
                },
                "definition": definition_of(name, metric),
            }
        )
    return tables


def distinct(table: pd.DataFrame, column: str) -> list[str]:
    """Return the different values of a column, in order of appearance."""
    return [clean(value) for value in table[column].dropna().unique()] if column in table else []


def transcription_off(turns: pd.DataFrame) -> bool:
    """Tell whether no turn asked for a transcription."""
    if "transcript_outcome" not in turns or not len(turns):
        return False
    return bool(turns["transcript_outcome"].astype("string").eq("off").all())


def counts_of(turns: pd.DataFrame) -> dict[str, int]:
    """Return how many turns ended in each way, ``ok`` first; one that never began is no cut one."""
    outcomes = turns["outcome"].astype("string")
    if {"error_code", "started_ns"} <= set(turns.columns):
        outcomes = outcomes.mask(is_not_started(turns), "not started")
    found = outcomes.value_counts()
    return {
        str(name): int(count) for name, count in sorted(found.items(), key=lambda pair: (pair[0] != "ok", -pair[1]))
    }


def error_rows(table: pd.DataFrame, column: str, *, good: str = "ok") -> list[dict[str, Any]]:
    """Return what went wrong, by stage, outcome and code, in the order of the stages, each with one example."""
    if column not in table or not len(table):
        return []
    bad = table.loc[table[column].astype("string").ne(good).fillna(True)]
    if not len(bad):
        return []
    keys = pd.DataFrame(
        {
            name: bad[name].astype("string").fillna("")
            if name in bad
            else pd.Series("", index=bad.index, dtype="string")
            for name in (column, "failure_stage", "error_code", "error_message")
        }
    )
    rows = []
    for (outcome, stage, code), group in keys.groupby([column, "failure_stage", "error_code"], sort=False):
        example = next((text for text in group["error_message"] if text), "")
        rows.append(
            {
                "outcome": clean(outcome),
                "stage": clean(stage),
                "code": clean(code),
                "count": len(group),
                "share": number(len(group) / len(table), "ratio", n=len(table)),
                "example": clean(example),
            }
        )
    order = {stage: place for place, stage in enumerate(STAGES)}
    return sorted(rows, key=lambda row: (order.get(row["stage"], len(order)), -int(row["count"])))


def transcript_rows(turns: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return transcriptions that did not come, as (outcome, code, count)."""
    if "transcript_outcome" not in turns:
        return []
    outcomes = turns["transcript_outcome"].astype("string").fillna("").tolist()
    codes = (
        turns["transcript_error"].astype("string").fillna("").tolist()
        if "transcript_error" in turns
        else [""] * len(turns)
    )
    bad = Counter(pair for pair in zip(outcomes, codes, strict=True) if pair[0] in ("failed", "missing"))
    return [(clean(outcome), clean(code), count) for (outcome, code), count in bad.most_common()]


def load_row(row: LoadRow) -> dict[str, Any]:
    """Return one measure of load as the page shows it."""
    if row.unit == "s":
        asked, achieved = Number(duration(row.asked), row.asked), Number(duration(row.achieved), row.achieved)
    else:
        asked, achieved = number(row.asked, row.unit), number(row.achieved, row.unit)
    return {"what": row.what, "asked": asked, "achieved": achieved, "note": row.note}


def load_notes(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of the load besides its numbers, one sentence each."""
    counts = summary.get("counts") or {}
    found = []
    if counts.get("not_started"):
        found.append(
            f"{counts['not_started']} turns of {counts.get('sessions_not_started')} sessions were due and never began: "
            "all sessions that may be open at once were."
        )
    if counts.get("sessions_cut"):
        found.append(
            f"{counts['sessions_cut']} sessions were cut in a turn when the run ended; cut turns are in no rate."
        )
    if warm := left_out_as_warmup(summary):
        found.append(warm)
    if is_shaped(run) and (run.get("load") or {}).get("model") == "open":
        found.append(
            "Sessions came at a rate, whether or not those before had ended; wait_ms counts from when each was due."
        )
    return found


def health_rows(health: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lags and the CPU share of the generator as rows of a table; the CPU share is one of a core."""
    rows = []
    for name, unit in (*((name, "ms") for name in LAGS), ("cpu_share", "ratio")):
        entry = health.get(name)
        if isinstance(entry, Mapping) and entry.get("n"):
            values = {stat: number(entry.get(stat), unit) for stat in ("mean", "p50", "p99", "max", "limit")}
            rows.append(
                {"name": name, "n": number(entry["n"]), **values, "definition": HEALTH.get(name) or definition_of(name)}
            )
    return rows


def shown_workers(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the processes that took part, when there were several."""
    return [
        {
            "name": clean(row.name),
            "where": clean(row.where),
            "counts": [number(value) for value in (row.sessions_max, row.sessions, row.turns)],
            "lags": [number(value, "ms") for value in (row.send_lag_p99_ms, row.loop_lag_p99_ms, row.stamp_lag_p99_ms)],
            "cpu": [number(value, "ratio") for value in (row.cpu_share, row.cpu_max)],
            "late": bool(row.late),
            "lost": None if row.lost is None else clean(row.lost),
        }
        for row in worker_rows(run, summary)
    ]


def fact_groups(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what was run, in groups of (name, value)."""
    scenario = dict(run.get("scenario") or {})
    resolved = scenario.pop("resolved", None) or {}
    scenario.pop("gate_lines", None)  # where an editor finds them
    groups: list[tuple[str, Mapping[str, Any]]] = [
        (
            "Run",
            {
                "run id": run.get("run_id"),
                "state": summary.get("state", run.get("state")),
                "exit code": summary.get("exit_code"),
                "started": run.get("started_at"),
                "ended": run.get("ended_at"),
                **{f"label {key}": value for key, value in (run.get("labels") or {}).items()},
            },
        ),
        ("Target", run.get("target") or {}),
        ("Scenario", scenario),
        ("Session", given(resolved.get("session") or {})),
        ("Load", given(resolved.get("load") or {})),
        ("Dataset", run.get("dataset") or {}),
        ("Scoring", run.get("scoring") or {}),
        ("Versions", run.get("versions") or {}),
        ("Host", run.get("host") or {}),
    ]
    shown = []
    for title, facts in groups:
        rows = [(clean(key), plain(value)) for key, value in facts.items() if value is not None]
        if rows:
            shown.append((title, rows))
    return shown


def given(value: Any) -> Any:
    """Return settings without those that were left open."""
    if not isinstance(value, Mapping):
        return value
    found = {key: given(entry) for key, entry in value.items()}
    return {key: entry for key, entry in found.items() if entry is not None and entry not in ({}, [])}


def plain(value: object) -> str:
    """Return any JSON value as one line of text, which is cut where it is very long."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return cut(clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)), 600)


def about(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the head of the page says about the run: when, which, against what; ``code`` is a name or address."""
    target = run.get("target") or {}
    kind = " · ".join(clean(target[key]) for key in ("provider", "dialect", "model") if target.get(key))
    found = [
        (when(run), False),
        (clean(summary.get("run_id") or run.get("run_id") or ""), True),
        (kind, False),
        (clean(target.get("address") or ""), True),
    ]
    return [{"text": text, "code": code} for text, code in found if text]


def when(run: Mapping[str, Any]) -> str:
    """Return when the run started, for a person; as it stands where it is no date."""
    text = run.get("started_at")
    if not isinstance(text, str):
        return ""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    except ValueError:
        return clean(text)
