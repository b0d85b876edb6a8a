"""``summary.md``: a run on one page, fit for the job summary of a CI service. It holds no transcripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..analysis.culprit import is_missed
from ..analysis.metrics import find_metric
from .load import LoadRow, WorkerRow, incidents_of, is_shaped, left_out_as_warmup, load_rows, worker_rows
from .variants import NOTE as VARIANTS
from .variants import variant_table
from .words import counted_in, measured, say_culprit, say_interval, say_value, say_verdict

__all__ = ["code", "escape", "markdown"]

MARKS = {
    "pass": "✅ pass",
    "fail": "❌ fail",
    "inconclusive": "❌ inconclusive",
    "no_data": "❌ no data",
    "invalid": "⚠️ invalid",
}

HEADLINES = (
    "ttfa_ms",
    "v2v_ms",
    "ttft_ms",
    "response_ms",
    "error_rate",
    "input_wer",
    "output_wer",
    "transcript_missing_rate",
    "checks.pass_rate",
    "turns_per_s",
    "goodput_share",
)
"""Metrics that are not folded away."""

SHOWN_STATS = ("p50", "p90", "p95", "p99", "max")

SHOWN_FAILURES = 20
MOST_GROUPS = 10

# What opens code, emphasis, links, HTML, tables, entities, mentions, references, emoji, formulas and bare addresses
# anywhere in a line, and what opens lists and headings at its start.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&@#$]|:(?=//|[\w+-]+:)|(?<=\bwww)\.|^[-+=]|(?<=^\d)[.)]", re.IGNORECASE)


def escape(text: object, limit: int = 200) -> str:
    """Return text as Markdown that shows it literally, in one line and at most ``limit`` characters long.

    Nothing in it can become a link, an image, HTML, a mention or a table cell.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return _SPECIAL.sub(r"\\\g<0>", line)


def code(text: object) -> str:
    """Return text as code in Markdown; one with a letter that would end the code, or its cell, is escaped instead."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return escape(line) if not line or set(line) & set("`|\\") else f"`{line}`"


def markdown(run: Mapping[str, Any], summary: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        run: what was run (``run.json``).
        summary: what came out (``summary.json``).
        failures: rows of ``stage``, ``outcome``, ``code``, ``n``, ``example``, most frequent first.
    """
    scenario = run.get("scenario") or {}
    parts = [
        f"# {escape(scenario.get('name', 'run'))}: {escape(say_verdict(summary))}",
        _culprit(summary),
        _facts(run, summary),
        *(f"> {escape(note, 1000)}" for note in _notes(run, summary)),
        _gates(summary["gates"], summary["metrics"]),
        _variants(summary),
        _metrics(summary["metrics"]),
        _groups(summary),
        _failures(failures),
        _load(run, summary),
        _health(run, summary),
        _files(run, summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _culprit(summary: Mapping[str, Any]) -> str:
    said = say_culprit(summary)
    if said is None:
        return ""
    who, _, why = said.partition(": ")
    return f"**{escape(who)}:** {escape(why, 1000)}"


def _facts(run: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    target, counts = run.get("target") or {}, summary["counts"]
    what = ", ".join(str(target[key]) for key in ("provider", "dialect", "model") if target.get(key))
    rows = {
        "run": summary["run_id"],
        "state": f"{summary['state']}, exit code {summary['exit_code']}",
        "target": f"{what} at {target['address']}" if target.get("address") else what,
        "started": run.get("started_at") or "",
        "turns": _turns(counts),
        "transcriptions": ", ".join(f"{n} {what}" for what, n in counts["transcripts"].items() if n),
        "sessions": f"{counts['sessions']} ({counts['sessions_ready']} ready, {counts['sessions_dropped']} dropped)",
        "normaliser": (run.get("scoring") or {}).get("normalizer"),
        "judged again by": (run.get("judged_by") or {}).get("path"),
        "labels": ", ".join(f"{key}={value}" for key, value in (run.get("labels") or {}).items()),
    }
    return _table(("", ""), ([name, escape(value)] for name, value in rows.items() if value))


def _turns(counts: Mapping[str, Any]) -> str:
    # A turn that never began is a cut one in the table; here the two are told apart.
    outcomes = {**counts["outcomes"], "cut": counts["outcomes"]["cut"] - counts["not_started"]}
    outcomes["not started"] = counts["not_started"]
    ended = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items() if n)
    missing = f"; {counts['not_recorded']} of {counts['planned']} planned were not recorded"
    return f"{counts['turns']} ({ended or 'none'}){missing if counts['not_recorded'] else ''}"


def _notes(run: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterable[str]:
    if run.get("refusal"):
        yield f"Why nobody got in: {run['refusal']['message']}"
    detail = (run.get("end") or {}).get("detail")
    if detail:
        yield f"How it ended: {detail}"
    yield from incidents_of(run)
    yield from (str(warning) for warning in (run.get("live") or {}).get("warnings") or ())
    for key, sentence in (
        ("torn_lines", "lines of the shards could not be read: the process was killed while it wrote"),
        ("duplicates", "turns were recorded twice; the first record counts"),
    ):
        if summary["counts"][key]:
            yield f"{summary['counts'][key]} {sentence}"


def _gates(gates: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not gates:
        return "## Gates\n\nNone were set."
    rows = []
    for gate in gates:
        name = str(gate["metric"])
        metric = find_metric(name) or find_metric(name.rpartition(".")[0])
        entry = metrics.get(name, {})
        unit = (metric.unit if metric else "") or str(entry.get("unit") or "")
        few = metric is not None and not metric.is_distribution
        value = say_value(gate["value"], unit, n=counted_in(name, {**entry, "n": gate["n"]}) if few else None)
        verdict = MARKS.get(str(gate["verdict"]), str(gate["verdict"]))
        if gate["verdict"] != "pass" and not is_missed(gate):
            verdict = f"{verdict.replace('❌', '⚠️')} (does not decide)"
        where = "".join(f", {escape(column)} {escape(value)}" for column, value in gate.get("where") or ())
        rows.append(
            [
                verdict,
                f"{code(gate['text'])}{where}",
                value,
                say_value(gate["limit"], unit),
                gate["n"],
                escape(gate["reason"] or gate.get("note") or "", 400),
            ]
        )
    return "## Gates\n\n" + _table(("", "gate", "value", "limit", "n", "why"), rows)


def _variants(summary: Mapping[str, Any]) -> str:
    table = variant_table(summary)
    if table is None:
        return ""
    rows = ([escape(name), *cells] for name, *cells in table.rows)
    return f"## Variants\n\n{_table(table.head, rows)}\n\n{VARIANTS}"


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    shown = {name: entry for name, entry in metrics.items() if entry["n"] and entry.get("value", 0) is not None}
    if not shown:
        return "## Metrics\n\nNothing was measured."
    first = {name: shown[name] for name in HEADLINES if name in shown}
    rest = {name: entry for name, entry in shown.items() if name not in first}
    blocks = [
        "## Metrics",
        *_metric_tables(first, intervals=True),
        "In brackets: the 95 % interval, for which sessions count and not turns; above or below, where so few bound "
        "one side only. A dash is a number that was withheld: p95 needs 20 samples, p99 needs 100. "
        "Left out are, for a time, turns that were not ok and the warm-up; for a rate, what its definition leaves out.",
    ]
    if rest:
        blocks += ["<details><summary>All other metrics</summary>", *_metric_tables(rest), "</details>"]
    return "\n\n".join(blocks)


def _metric_tables(metrics: Mapping[str, Mapping[str, Any]], *, intervals: bool = False) -> Iterable[str]:
    """Distributions in one table, single values in another, each number with its definition beside it."""
    times, single = [], []

    def cell(name: str, entry: Mapping[str, Any], stat: str) -> str:
        said = say_interval(name, entry, stat) if intervals else ""
        return f"{measured(name, entry, stat)} ({said})" if said else measured(name, entry, stat)

    for name, entry in metrics.items():
        metric = find_metric(name)
        meaning = entry.get("definition") or (metric.definition if metric else "")
        about = [entry["n"], entry["left_out"], escape(meaning, 1000)]
        if "value" in entry:
            single.append([code(name), cell(name, entry, "value"), *about])
        else:
            times.append([code(name), *(cell(name, entry, stat) for stat in SHOWN_STATS), *about])
    if times:
        yield _table(("", *SHOWN_STATS, "n", "left out", "what it is"), times)
    if single:
        yield _table(("", "value", "n", "left out", "what it is"), single)


def _groups(summary: Mapping[str, Any]) -> str:
    """The headline metrics by group, folded away; an axis of many groups is left to the page."""
    blocks = []
    for axis, found in (summary.get("breakdown") or {}).items():
        groups = found["groups"]
        found_in = ((name, stat) for group in groups for name, entry in group["metrics"].items() for stat in entry)
        shown = [pair for pair in dict.fromkeys(found_in) if pair[1] in ("p50", "p95", "value")]
        if len(groups) > MOST_GROUPS or not shown:
            continue
        head = [escape(axis.removeprefix("meta_")), "turns", *(f"{n} {s}" if s != "value" else n for n, s in shown)]
        rows = [
            [escape(one["name"]), one["turns"], *(_cell(one["metrics"].get(name), name, stat) for name, stat in shown)]
            for one in groups
        ]
        blocks.append(f"<details><summary>By {escape(axis)}</summary>\n\n{_table(head, rows)}\n\n</details>")
    return "\n\n".join(["## Groups", *blocks]) if blocks else ""


def _cell(entry: Mapping[str, Any] | None, name: str, stat: str) -> str:
    if entry is None or entry.get(stat) is None:
        return "-"
    said = say_interval(name, entry, stat)
    return f"{measured(name, entry, stat)} ({said})" if said else measured(name, entry, stat)


def _failures(failures: Sequence[Mapping[str, Any]]) -> str:
    if not failures:
        return ""
    rows = [
        [
            escape(row["stage"] or "-"),
            escape(row["outcome"]),
            escape(row["code"] or "-"),
            row["n"],
            escape(row["example"] or ""),
        ]
        for row in failures[:SHOWN_FAILURES]
    ]
    more = (
        f"\n\n{len(failures) - SHOWN_FAILURES} more kinds are in the tables." if len(failures) > SHOWN_FAILURES else ""
    )
    return "## Turns that were not ok\n\n" + _table(("stage", "outcome", "code", "turns", "for example"), rows) + more


def _load(run: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    rows = [
        [row.what, _in_unit(row.asked, row), ", ".join(filter(None, (_in_unit(row.achieved, row), row.note)))]
        for row in load_rows(run, summary)
    ]
    blocks = ["## Load", _table(("", "asked", "achieved"), rows), _lateness(summary), left_out_as_warmup(summary)]
    over_time = (summary.get("load") or {}).get("over_time") or []
    if is_shaped(run) and over_time:
        a_second = summary["load"]["model"] == "open"
        names = ("seconds", "asked /s" if a_second else "asked", "open", "started", "not started")
        parts = [
            [
                f"{part['from_s']:g} to {part['to_s']:g}",
                say_value(part["asked"], ""),
                say_value(part["sessions_open"], ""),
                part["started"],
                part["not_started"],
            ]
            for part in over_time
        ]
        blocks += ["<details><summary>Load over time</summary>", _table(names, parts), "</details>"]
    return "\n\n".join(block for block in blocks if block)


def _in_unit(value: float | None, row: LoadRow) -> str:
    return (
        "-" if value is None else f"{say_value(value, row.unit)} s" if row.unit == "s" else say_value(value, row.unit)
    )


def _lateness(summary: Mapping[str, Any]) -> str:
    counts, entry = summary["counts"], summary["metrics"].get("start_lag_ms")
    sentences = []
    if entry is not None and entry["n"]:
        stats = ((stat, measured("start_lag_ms", entry, stat)) for stat in ("p50", "p95", "max"))
        said = ", ".join(f"{stat} {value}" for stat, value in stats if value != "-")
        sentences.append(f"Sessions started late by {said} (n {entry['n']}).")
    if counts["not_started"]:
        of = f"{counts['not_started']} turns of {counts['sessions_not_started']} sessions"
        sentences.append(f"{of} were due and never began: all sessions that may be open at once were.")
    if counts["sessions_cut"]:
        sentences.append(f"{counts['sessions_cut']} sessions were cut in a turn when the run ended.")
    return " ".join(sentences)


def _health(run: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    health = summary["health"]
    rows = [
        [
            f"`{name}`",
            *(say_value(health[name][key], "ms") for key in ("p50", "p99", "max", "limit")),
            health[name]["n"],
        ]
        for name in ("send_lag_ms", "loop_lag_ms", "stamp_lag_ms")
        if health[name]["n"]
    ]
    cpu = health["cpu_share"]
    blocks = [
        f"## Generator health: {escape(health['verdict'].replace('_', ' '))}",
        *(escape(reason, 1000) for reason in health["reasons"]),
        _table(("", "p50", "p99", "max", "limit of p99", "n"), rows) if rows else "",
        f"CPU: {cpu['mean']:.0%} of one core on average, {cpu['max']:.0%} at most." if cpu["n"] else "",
        _workers(worker_rows(run, summary)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _workers(workers: Sequence[WorkerRow]) -> str:
    if not workers:
        return ""
    names = (
        "worker",
        "where",
        "at once",
        "sessions",
        "turns",
        "send lag p99",
        "loop lag p99",
        "CPU",
        "CPU at most",
        "",
    )
    rows = [
        [
            escape(row.name),
            escape(row.where),
            *(say_value(value, "") for value in (row.sessions_max, row.sessions, row.turns)),
            *(say_value(value, "ms") for value in (row.send_lag_p99_ms, row.loop_lag_p99_ms)),
            *("-" if value is None else f"{value:.0%}" for value in (row.cpu_share, row.cpu_max)),
            f"lost: {escape(row.lost)}" if row.lost is not None else "too late" if row.late else "",
        ]
        for row in workers
    ]
    return _table(names, rows)


def _files(run: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    versions = run.get("versions") or {}
    made = f"rteval {escape(versions['rteval'])}, " if versions.get("rteval") else ""
    return (
        f"## Files\n\nEverything is in {escape(summary['run_dir'], 1000)}: `report.html` to look at, `turns.parquet` "
        f"and `turns.csv` with one row a turn, `sessions.parquet`, `deltas.parquet`, `health.parquet`, "
        f"`summary.json`, `run.json`.\n\n{made}metric definitions version {escape(versions.get('metrics', '1'))}."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
