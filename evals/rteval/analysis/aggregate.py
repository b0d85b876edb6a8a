"""From the tables of a run to its metrics and counts, as they stand in ``summary.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..records import MASTER
from .health import LAGS, lags_of, measured_health
from .load import AskedLoad, is_not_started
from .metrics import CHECKS, METRICS, Metric, Source, find_metric
from .stats import NO_SAMPLES, PERCENTILES, Summary, describe

__all__ = ["THROTTLED", "Tables", "count", "measure", "narrowed_scores", "score_parts"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Entry = dict[str, Any]

ERRORS = ("failed", "incomplete", "empty", "timeout", "dropped", "refused")
"""Outcomes of the error rate: ``cancelled`` was scripted, ``cut`` was us."""

OUTCOMES = ("ok", *ERRORS, "cancelled", "cut")

_SILENT_NS = 2_500_000_000
"""A worker says every second how many sessions it has; one that has not for so long is gone."""

THROTTLED = r"(?:^|\D)429(?:$|\D)|rate_limit_exceeded|too_many_requests"
"""Error codes, as a pattern, that mean the target slowed us down."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What a run left behind, ready to be measured.

    Attributes:
        turns: raw, derived and content columns.
        sessions: raw and derived columns.
        gaps: the gaps between audio deltas of the ok turns in milliseconds; there may be ten million of them, so only
            their statistics stay.
        health: ``worker``, ``kind``, ``at_ns``, ``value``, ``n``.
        asked: the load that was asked for.
        slo: limits of a good turn, by column.
        sessions_peak: most sessions open at once, as the run counted it; ``None`` when it did not get to say.
        duplicates: turns that came twice; the first record counts.
        torn_lines: lines of shards that could not be read.
        scores: entries of the scorers' metrics; ``of`` and ``per`` name the columns that one is a ratio of.
    """

    turns: pd.DataFrame
    sessions: pd.DataFrame
    health: pd.DataFrame
    gaps: Summary = NO_SAMPLES
    asked: AskedLoad = field(default_factory=AskedLoad)
    slo: Mapping[str, float] = field(default_factory=dict)
    sessions_peak: int | None = None
    duplicates: int = 0
    torn_lines: int = 0
    scores: Mapping[str, Entry] = field(default_factory=dict)


def measure(tables: Tables) -> dict[str, Entry]:
    """Compute every metric of a run; those of its scorers are in its tables already.

    Returns:
        Per name ``n``, ``left_out``, ``unit`` and either ``value`` or ``mean``, ``p50``, ``p90``, ``p95``, ``p99``,
        ``min``, ``max``. ``n`` counts what went into the number and ``left_out`` what could have but must not (turns
        that were not ok, warm-up). A number that is ``None`` has its reason in ``withheld`` (per statistic) or
        ``reason``.
    """
    turns = TurnRows(tables.turns, tables.asked.warm_until_ns)
    sessions = SessionRows(tables.sessions, tables.asked.warm_until_ns)
    metrics = {metric.name: _of_turns(metric, tables, turns) for metric in _distributions(Source.TURNS, Source.DELTAS)}
    metrics |= {metric.name: sessions.distribution(metric) for metric in _distributions(Source.SESSIONS)}
    metrics |= _of_health(tables)
    metrics |= _outcomes(turns) | sessions.rates() | _content(turns) | _entities(turns) | _checks(turns)
    metrics |= _throughput(tables, turns, sessions) | _not_started(turns) | _tokens(turns)
    metrics |= {name: dict(entry) for name, entry in tables.scores.items()}
    names = [*METRICS, *sorted(name for name in metrics if name not in METRICS)]
    return {name: metrics[name] for name in names}


def count(tables: Tables, *, planned_turns: int | None = None) -> dict[str, Any]:
    """Count turns and sessions by what became of them.

    Args:
        tables: the run.
        planned_turns: rows that there should be; those that are missing are ``not_recorded``.
    """
    turns, sessions = tables.turns, tables.sessions
    known = ("outcome", OUTCOMES), ("transcript_outcome", ("ok", "failed", "missing", "off"))
    by = {column: {name: int((turns[column] == name).sum()) for name in names} for column, names in known}
    never = (turns["outcome"] == "cut") & turns["started_ns"].isna()
    by["transcript_outcome"]["missing"] -= int((never & (turns["transcript_outcome"] == "missing")).sum())
    flags = ("modality_missing", "split_turn", "early_endpoint", "silent_answer")
    nowhere = is_not_started(turns)
    cut = (turns["outcome"] == "cut").to_numpy(dtype=bool) & turns["session"].isin(sessions["session"]).to_numpy()
    warm_until_ns = tables.asked.warm_until_ns
    return {
        "turns": len(turns),
        "planned": planned_turns,
        "not_recorded": None if planned_turns is None else max(planned_turns - len(turns), 0),
        "outcomes": by["outcome"],
        "not_started": int(nowhere.sum()),
        "transcripts": by["transcript_outcome"],
        "warmup": int((~TurnRows(turns, warm_until_ns).warm).sum()),
        **{flag: int(_true(turns[flag]).sum()) for flag in flags},
        "unknown_events": int(turns["unknown_events"].sum()) + int(sessions["unknown_events"].sum()),
        "oddities": _words(turns["oddities"]),
        "sessions": len(sessions),
        "sessions_ready": int(_ready(sessions).sum()),
        "sessions_dropped": int(_true(sessions["drop"]).sum()),
        "sessions_cut": int(turns.loc[cut, "session"].nunique()),
        "sessions_warmup": int((~SessionRows(sessions, warm_until_ns).warm).sum()),
        "sessions_not_started": int(turns.loc[nowhere, "session"].nunique()),
        "retries": int(sessions["retries"].sum()),
        "duplicates": tables.duplicates,
        "torn_lines": tables.torn_lines,
    }


class TurnRows:
    """The turn table with the masks that every metric asks for.

    Attributes:
        ok: answered, outside the warm-up.
        counted: ended by themselves, outside the warm-up.
        warm: outside the warm-up.
    """

    def __init__(self, frame: pd.DataFrame, warm_until_ns: int | None) -> None:
        self.frame = frame
        warmup, outcome = _true(frame["warmup"]), frame["outcome"].astype(object)
        if warm_until_ns is not None:
            # A turn that never began belongs to the time in which it was due.
            never = frame["started_ns"].isna().to_numpy()
            warmup = warmup | (never & _before(frame["due_ns"], warm_until_ns))
        self.ok = (outcome == "ok").to_numpy() & ~warmup
        self.counted = (outcome != "cut").to_numpy() & ~warmup
        self.warm = ~warmup
        self.outcome = outcome

    def __len__(self) -> int:
        return len(self.frame)

    def has(self, column: str) -> Flags:
        return self.frame[column].notna().to_numpy()


class SessionRows:
    """The session table, and which of its rows began outside the warm-up (``warm``)."""

    def __init__(self, frame: pd.DataFrame, warm_until_ns: int | None) -> None:
        self.frame = frame
        self.warm = np.ones(len(frame), dtype=bool)
        self._ended_warm = self.warm
        if warm_until_ns is not None:
            self.warm = ~_before(frame["started_ns"].fillna(frame["due_ns"]), warm_until_ns)
            self._ended_warm = self.warm | ~_before(frame["ended_ns"], warm_until_ns)

    def distribution(self, metric: Metric) -> Entry:
        values = _values(self.frame.loc[self.warm, metric.name])
        return _distribution(metric, describe(values), len(self.frame) - len(values))

    def shares(self) -> dict[str, tuple[Flags, Flags]]:
        """By metric, which sessions count and which they are counted in."""
        ready = _ready(self.frame)
        # A session that the tool stopped before it was ready says nothing about the target.
        tried = (ready | (self.frame["outcome"].astype(object) != "cut").to_numpy()) & self.warm
        # A session may be dropped long after the warm-up in which it began.
        could_drop = ready & self._ended_warm
        dropped = _true(self.frame["drop"]) & could_drop
        return {"setup_success_rate": (ready & tried, tried), "drop_rate": (dropped, could_drop)}

    def rates(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for name, (part, whole) in self.shares().items():
            found |= _share(name, int(part.sum()), int(whole.sum()), int((~whole).sum()))
        return found


def _before(moments: pd.Series[Any], at_ns: int) -> Flags:
    """Which of them were before; what is missing was not."""
    return (moments < at_ns).fillna(False).to_numpy(dtype=bool)


def _distributions(*sources: Source) -> Iterable[Metric]:
    return (metric for metric in METRICS.values() if metric.is_distribution and metric.source in sources)


def _of_turns(metric: Metric, tables: Tables, turns: TurnRows) -> Entry:
    if metric.source is Source.DELTAS:
        gaps = (turns.frame["audio_deltas"] - 1).clip(lower=0)
        return _distribution(metric, tables.gaps, int(gaps[~turns.ok].sum()))
    if metric.name not in turns.frame:  # a table of an earlier version
        return _distribution(metric, NO_SAMPLES, 0)
    values = _values(turns.frame.loc[turns.ok, metric.name])
    return _distribution(metric, describe(values), len(turns) - int(turns.ok.sum()))


def _of_health(tables: Tables) -> dict[str, Entry]:
    measured = measured_health(tables.health, tables.asked.warm_until_ns)
    all_of_it = measured_health(tables.health)
    found = {}
    for name, kind in LAGS.items():
        values, counts = lags_of(measured, kind)
        left_out = int(lags_of(all_of_it, kind)[1].sum() - counts.sum())
        found[name] = _distribution(METRICS[name], describe(values, counts), left_out)
    return found


def _values(column: pd.Series[Any]) -> Floats:
    values: Floats = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return values[~np.isnan(values)]


def _distribution(metric: Metric, summary: Summary, left_out: int) -> Entry:
    entry: Entry = {"n": summary.n, "left_out": left_out, "unit": metric.unit}
    entry |= {stat: getattr(summary, stat) for stat in ("mean", *PERCENTILES, "min", "max")}
    if not summary.n:
        entry["reason"] = "no samples"
    elif summary.withheld:
        entry["withheld"] = dict(summary.withheld)
    return entry


def _value(name: str, value: float | None, n: int, left_out: int = 0, reason: str = "no samples") -> dict[str, Entry]:
    metric = find_metric(name)
    if metric is None:
        raise LookupError(name)
    entry: Entry = {"n": n, "left_out": left_out, "unit": metric.unit, "value": value}
    if value is None:
        entry["reason"] = reason
    return {name: entry}


def _share(name: str, part: int, whole: int, left_out: int = 0) -> dict[str, Entry]:
    return _value(name, part / whole if whole else None, whole, left_out)


def _outcomes(turns: TurnRows) -> dict[str, Entry]:
    n = int(turns.counted.sum())
    left_out = len(turns) - n
    failed = turns.outcome.isin(ERRORS).to_numpy() & turns.counted
    throttled = int(throttled_turns(turns).sum())
    return _share("error_rate", int(failed.sum()), n, left_out) | _share("throttle_rate", throttled, n, left_out)


def throttled_turns(turns: TurnRows) -> Flags:
    """Which turns failed because the target slowed us down."""
    codes = turns.frame["error_code"].astype(object).fillna("").astype(str)
    failed = turns.outcome.isin(ERRORS).to_numpy() & turns.counted
    return codes.str.contains(THROTTLED, case=False).to_numpy(dtype=bool) & failed


def _content(turns: TurnRows) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for side in ("input", "output"):
        for rate, reference, errors in (
            ("wer", "ref_words", ("substitutions", "deletions", "insertions")),
            ("cer", "ref_chars", ("char_errors",)),
        ):
            found |= _pooled(f"{side}_{rate}", turns, f"{side}_{reference}", [f"{side}_{name}" for name in errors])
    wanted = turns.counted & (turns.frame["transcript_outcome"].astype(object) != "off").to_numpy()
    missing = wanted & (turns.frame["transcript_outcome"].astype(object) != "ok").to_numpy()
    left_out = int((~turns.counted & (turns.frame["transcript_outcome"].astype(object) != "off").to_numpy()).sum())
    return found | _share("transcript_missing_rate", int(missing.sum()), int(wanted.sum()), left_out)


def _pooled(name: str, turns: TurnRows, reference: str, errors: list[str]) -> dict[str, Entry]:
    if reference not in turns.frame:
        return _value(name, None, 0, reason="word errors are not scored")
    compared = turns.has(reference) & turns.warm
    references = int(turns.frame.loc[compared, reference].sum())
    wrong = sum(int(turns.frame.loc[compared, column].sum()) for column in errors)
    n = int(compared.sum())
    reason = "no reference words" if n else "no turn with both a reference and a transcript"
    left_out = int((turns.has(reference) & ~turns.warm).sum())
    return _value(name, wrong / references if references else None, n, left_out, reason)


def score_parts(entry: Mapping[str, Any], frame: pd.DataFrame) -> tuple[Flags, Floats, Floats] | None:
    """What a scorer's metric is a ratio of: which turns, and the numerator and denominator of every turn.

    ``None`` for one that has no value, or is no ratio of sums.
    """
    of, per = entry.get("of"), entry.get("per")
    if entry.get("value") is None or of not in frame or (per is not None and per not in frame):
        return None
    top = frame[of].to_numpy(dtype=np.float64, na_value=np.nan)
    bottom = np.ones(len(frame)) if per is None else frame[per].to_numpy(dtype=np.float64, na_value=np.nan)
    return ~np.isnan(top) & ~np.isnan(bottom), np.nan_to_num(top), np.nan_to_num(bottom)


def narrowed_scores(tables: Tables) -> dict[str, Entry]:
    """The scorers' metrics over some of the turns that they were made of; without those that are no ratio of sums."""
    found: dict[str, Entry] = {}
    ok = int(TurnRows(tables.turns, tables.asked.warm_until_ns).ok.sum())
    for name, entry in tables.scores.items():
        if (parts := score_parts(entry, tables.turns)) is not None:
            mask, top, bottom = parts
            n, whole = int(mask.sum()), float(bottom[mask].sum())
            value = float(top[mask].sum()) / whole if whole else None
            found[name] = {**entry, "n": n, "left_out": max(ok - n, 0), "value": value}
            found[name] |= {"reason": "no samples"} if value is None else {}
    return found


def _entities(turns: TurnRows) -> dict[str, Entry]:
    if "entities_expected" not in turns.frame:
        return _value("entity_accuracy", None, 0, reason="entities were not looked for")
    judged = turns.has("entities_expected")
    rows = turns.frame.loc[judged & turns.warm]
    expected, found = int(rows["entities_expected"].sum()), int(rows["entities_found"].sum())
    # A turn whose item expects none was never meant, and has no reason either.
    left_out = int((judged & ~turns.warm).sum() + turns.has("entities_reason").sum())
    reason = "no turn of an item with expect.entities could be judged" if left_out else "no item expects entities"
    return _value("entity_accuracy", found / expected if expected else None, len(rows), left_out, reason)


def _checks(turns: TurnRows) -> dict[str, Entry]:
    columns = [name for name in turns.frame.columns if name.startswith("check_") and f"{name}_reason" in turns.frame]
    found: dict[str, Entry] = {}
    passed = judged = all_left_out = 0
    for column in columns:
        has = turns.has(column)
        applies = has & turns.warm
        held, n = int(_true(turns.frame[column])[applies].sum()), int(applies.sum())
        # A turn that did not end ok has no answer to check; one whose item does not ask for it was never meant.
        ended = turns.frame[f"{column}_reason"].astype(object).fillna("").astype(str).str.startswith("the turn ended")
        left_out = int((has & ~turns.warm).sum() + ended.sum())
        found |= _share(CHECKS + column.removeprefix("check_"), held, n, left_out)
        passed, judged, all_left_out = passed + held, judged + n, all_left_out + left_out
    reason = "no check could be judged" if columns else "nothing is checked"
    return _value("checks.pass_rate", passed / judged if judged else None, judged, all_left_out, reason) | found


def _throughput(tables: Tables, turns: TurnRows, sessions: SessionRows) -> dict[str, Entry]:
    n = int(turns.counted.sum())
    seconds = _seconds(
        turns.frame[turns.counted].assign(ended_ns=_given_up(turns, sessions.frame)),
        ("started_ns", "speech_end_ns"),
        ("response_done_ns", "ended_ns"),
    )
    peak = _peak(tables)
    found = _value("sessions_peak", peak, len(sessions.frame))
    found |= _sessions_per_s(tables.asked, sessions)
    none = "no turn was started" if n else "no samples"
    found |= _value("turns_per_s", n / seconds if seconds else None, n, len(turns) - n, none)
    if not tables.slo:
        return found | _value("goodput", None, 0, 0, "no slo") | _value("goodput_share", None, 0, 0, "no slo")
    good = int(good_turns(turns, tables.slo).sum())
    found |= _value("goodput", good / seconds if seconds else None, n, len(turns) - n, none)
    return found | _share("goodput_share", good, n, len(turns) - n)


def _sessions_per_s(asked: AskedLoad, sessions: SessionRows) -> dict[str, Entry]:
    frame = sessions.frame
    has_started = frame["started_ns"].notna().to_numpy()
    started = frame.loc[has_started & sessions.warm]
    left_out = int((has_started & ~sessions.warm).sum())
    if asked.ends_ns is None or asked.started_ns is None or not len(started):
        seconds = _seconds(started, ("started_ns",), ("ended_ns",))
    else:
        # Late starts count to the time that they took.
        until_ns = max(asked.ends_ns, int(started["started_ns"].max()))
        seconds = (until_ns - (asked.warm_until_ns or asked.started_ns)) / 1e9
    rate = len(started) / seconds if seconds and seconds > 0 else None
    return _value("sessions_per_s", rate, len(started), left_out)


def _not_started(turns: TurnRows) -> dict[str, Entry]:
    nowhere = is_not_started(turns.frame)
    n = int(turns.warm.sum())
    return _value("not_started", int((nowhere & turns.warm).sum()) if n else None, n, len(turns) - n)


def good_turns(turns: TurnRows, slo: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """Turns that meet every limit; what was not measured does not meet one."""
    good = turns.ok.copy()
    for column, limit in slo.items():
        if column not in turns.frame:
            return np.zeros_like(good)
        values = turns.frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        good &= values <= limit  # nan is never less
    return good


def _given_up(turns: TurnRows, sessions: pd.DataFrame) -> pd.Series[Any]:
    """When the turns without ``response.done`` that were the last of their session ended: with the session.

    Their own anchors end with the caller's speech. Without this, a run that waited half a minute for each answer in
    vain would count its turns over the seconds of speech alone.
    """
    frame = turns.frame.loc[turns.counted & turns.has("started_ns")]
    last = frame.loc[frame.groupby("session", observed=True)["turn"].idxmax()]
    waiting = last.loc[last["response_done_ns"].isna(), "session"]
    return waiting.map(sessions.drop_duplicates("session").set_index("session")["ended_ns"])


def _seconds(frame: pd.DataFrame, first: tuple[str, ...], last: tuple[str, ...]) -> float | None:
    """Length of the time in which the rows happened; ``None`` without both ends."""
    begin, end = frame[list(first)].min().min(), frame[[*first, *last]].max().max()
    if pd.isna(begin) or pd.isna(end) or end <= begin:
        return None
    return (int(end) - int(begin)) / 1e9


def _peak(tables: Tables) -> int | None:
    if tables.sessions_peak is not None:
        return tables.sessions_peak
    seen = _seen_open(tables.health)
    spans = tables.sessions[["connected_ns", "ended_ns"]].dropna()
    moves = [(int(at), 1) for at in spans["connected_ns"]] + [(int(at), -1) for at in spans["ended_ns"]]
    # At one moment an end counts before a start: a session that takes another's place is not beside it.
    together = accumulate(move for _, move in sorted(moves))
    return max(seen, *together, 0) if len(tables.sessions) or seen else None


def _seen_open(health: pd.DataFrame) -> int:
    """The most sessions that the workers together said to have open; one that is silent holds none any more."""
    rows = health.loc[(health["kind"] == "sessions") & (health["worker"] != MASTER), ["at_ns", "worker", "value"]]
    latest: dict[str, tuple[int, float]] = {}
    most = 0.0
    for at_ns, worker, value in rows.sort_values("at_ns").itertuples(index=False, name=None):
        latest[worker] = (at_ns, value)
        most = max(most, sum(count for heard_ns, count in latest.values() if at_ns - heard_ns <= _SILENT_NS))
    return int(most)


def _tokens(turns: TurnRows) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for metric in METRICS.values():
        if metric.unit == "tokens":
            n = int(turns.has(metric.name).sum())
            total = int(turns.frame[metric.name].sum()) if n else None
            found |= _value(metric.name, total, n, 0, "no usage was reported")
    return found


def _words(column: pd.Series[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for words in column:
        for word in words if words is not None else ():
            counts[str(word)] = counts.get(str(word), 0) + 1
    return dict(sorted(counts.items()))


def _true(column: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    return column.astype("boolean").fillna(False).to_numpy(dtype=bool)


def _ready(sessions: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return sessions["ready_ns"].notna().to_numpy() | (sessions["outcome"].astype(object) == "ready").to_numpy()
