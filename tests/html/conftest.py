"""A judged run as the report page gets it: made up, seeded, with the columns and shapes of a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rteval.analysis.health import judge_health
from rteval.analysis.metrics import METRICS
from rteval.analysis.stats import describe
from rteval.records import HealthSample, Outcome, SessionRecord, TurnRecord
from rteval.scoring.normalize import normalizer
from rteval.scoring.words import count_errors
from rteval.shards import ShardWriter

START = 5_000_000_000_000
MS = 1_000_000
S = 1000 * MS
T0 = 2_000_000 * S
NORMALIZER = normalizer("whisper_english")

SENTENCES = [
    "I would like to change the delivery address of my order number four four seven one two",
    "My internet connection drops every evening around eight o'clock",
    "Can you tell me when my refund for the blue jacket will arrive",
    "The confirmation code is seven three nine zero five one",
    "My name is Siobhan Wojciechowski and I called about this yesterday",
    "Please cancel the subscription before the end of the month",
    "I was charged twice for the same ticket and I want the second payment back",
    "Could I speak with somebody about my broken washing machine",
]
CONFUSIONS = {
    "four": "for",
    "eight": "ate",
    "blue": "new",
    "Siobhan": "Shivon",
    "charged": "charge",
    "back": "",
    "zero": "oh",
}


@dataclass
class FakeRun:
    """The arguments of ``write_html`` but the path."""

    run: dict[str, Any]
    summary: dict[str, Any]
    turns: pd.DataFrame
    sessions: pd.DataFrame
    deltas: pd.DataFrame
    health: pd.DataFrame
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """As keyword arguments."""
        return {name: getattr(self, name) for name in ("run", "summary", "turns", "sessions", "deltas", "health")}


def heard(reference: str, rng: np.random.Generator) -> str:
    """A transcript with a few plausible errors."""
    words = []
    for word in reference.split():
        if word in CONFUSIONS and rng.random() < 0.35:
            word = CONFUSIONS[word]
        if rng.random() < 0.02:
            word += " um"
        if word:
            words.append(word)
    return " ".join(words)


def turn_row(number: int, rng: np.random.Generator, *, text: bool, ok: bool, references: bool) -> dict[str, Any]:
    """One row, raw and derived columns."""
    reference = SENTENCES[number % len(SENTENCES)]
    session = f"w0-{number // 2:05d}"
    started = START + int((number // 16) * 7.5e9 + rng.uniform(0, 2e9))
    speech_end = started + int(rng.uniform(2.5e9, 5e9))
    endpoint = None if text or not ok else float(rng.normal(560, 30))
    ttfa = float((endpoint or 0) + rng.lognormal(5.9, 0.35)) if ok else None
    silence = float(rng.uniform(0, 80)) if ok else None
    length = float(rng.uniform(1500, 6000)) if ok else None
    response = ttfa + length * 0.4 if ok else None
    transcript = heard(reference, rng) if ok and not text else None
    counts = count_errors(reference, transcript, NORMALIZER) if transcript is not None and references else None
    failures = [
        ("failed", "respond", "server_error", "The server had an error while processing your request."),
        ("timeout", "respond", "response_timeout", "no event for 30 s"),
        ("dropped", "speak", "close_1006", "the connection ended without a close frame"),
    ]
    outcome, stage, code, message = ("ok", None, None, None) if ok else failures[number % 3]

    def at(ms: float | None) -> int | None:
        return None if ms is None else speech_end + int(ms * 1e6)

    return {
        "run_id": "20261120-233000-ab12",
        "variant": None,
        "worker": "w0",
        "session": session,
        "session_id": f"sess_{number // 2:06d}",
        "turn": number % 2,
        "item": f"support-{number % len(SENTENCES):02d}",
        "attempt": 1 + number // len(SENTENCES),
        "modality": "text" if text else "audio",
        "tags": ("digits",) if "code" in reference else (),
        "language": "en",
        "dialect": "ga",
        "concurrency": 1 + number % 12,
        "warmup": number < 2,
        "started_at": "2026-11-20T23:30:00+00:00",
        "outcome": outcome,
        "failure_stage": stage,
        "error_code": code,
        "error_message": message,
        "modality_missing": False,
        "transcript_outcome": "off" if text else "ok" if ok else "missing",
        "transcript_error": None,
        "started_ns": started,
        "due_ns": started,
        "speech_end_ns": speech_end,
        "speech_stopped_ns": at(endpoint),
        "committed_ns": at(endpoint),
        "create_ns": speech_end if text else None,
        "response_created_ns": at((endpoint or 0) + 5) if ok else None,
        "first_text_ns": at(ttfa and ttfa - 10),
        "first_audio_ns": at(ttfa),
        "last_audio_ns": at(response and response - 1),
        "response_done_ns": at(response),
        "reference": reference if references else None,
        "input_transcript": transcript,
        "output_transcript": "Sure, I can help you with that." if ok else None,
        "output_text": None,
        "expect": None,
        "normalizer": NORMALIZER.name,
        "endpoint_ms": endpoint,
        "ttfa_ms": ttfa,
        "v2v_ms": None if not ok else ttfa + silence,
        "leading_silence_ms": silence,
        "response_ms": response,
        "ttft_ms": None if ttfa is None else ttfa - 10,
        "speech_ms": 2000.0,
        "output_audio_ms": length,
        "send_lag_ms": rng.exponential(0.4),
        "input_ref_words": counts and counts.ref_words,
        "input_hits": counts and counts.hits,
        "input_substitutions": counts and counts.substitutions,
        "input_deletions": counts and counts.deletions,
        "input_insertions": counts and counts.insertions,
        "input_wer": counts and counts.wer,
        "input_tokens": 120 if ok else None,
        "output_tokens": 310 if ok else None,
        "output_audio_tokens": 240 if ok else None,
        "check_contains": ok or None,
        "meta_agent": "b<2>",
    }


def deltas_of(turns: pd.DataFrame) -> pd.DataFrame:
    """Ten audio deltas of every answer, and a transcript delta before each other one."""
    rows = []
    for turn in turns[["session", "turn", "first_audio_ns", "last_audio_ns"]].dropna().itertuples(index=False):
        first, last = int(turn.first_audio_ns), int(turn.last_audio_ns)
        for number in range(10):
            at = first + (last - first) * number // 9
            rows.append((turn.session, turn.turn, "audio", at, 4800, 0))
            if number % 2 == 0:
                rows.append((turn.session, turn.turn, "transcript", at - 10 * MS, 0, 5))
    return pd.DataFrame(rows, columns=["session", "turn", "kind", "arrival_ns", "bytes", "chars"])


def metrics_of(turns: pd.DataFrame) -> dict[str, Any]:
    """The metrics of a summary, in its shape."""
    found: dict[str, Any] = {}
    good = turns[(turns["outcome"] == "ok") & ~turns["warmup"].astype(bool)] if len(turns) else turns
    counted = len(turns[~turns["warmup"].astype(bool)]) if len(turns) else 0
    for name, metric in METRICS.items():
        if metric.is_distribution:
            values = good[name].dropna().to_numpy(dtype=float, copy=True) if name in good else np.empty(0)
            stats = describe(values)
            found[name] = {
                "n": stats.n,
                "left_out": counted - stats.n,
                "unit": metric.unit,
                "mean": stats.mean,
                "p50": stats.p50,
                "p90": stats.p90,
                "p95": stats.p95,
                "p99": stats.p99,
                "min": stats.min,
                "max": stats.max,
                "withheld": dict(stats.withheld),
            }
            if stats.n >= 5:
                found[name]["ci95"] = {
                    stat: [0.9 * value, 1.1 * value]
                    for stat in ("mean", "p50", "p90", "p95")
                    if (value := found[name][stat]) is not None
                }
        else:
            found[name] = {"n": 0, "left_out": 0, "unit": metric.unit, "value": None, "reason": "not measured"}
    if counted:
        bad = int((~turns.loc[~turns["warmup"].astype(bool), "outcome"].isin(["ok", "cut"])).sum())
        found["error_rate"].update(n=counted, value=bad / counted, reason=None)
        found["turns_per_s"].update(n=counted, value=counted / 91.5, reason=None)
        found["sessions_peak"].update(n=1, value=8, reason=None)
        words = good["input_ref_words"].dropna() if "input_ref_words" in good else pd.Series(dtype=float)
        if len(words):
            errors = good[["input_substitutions", "input_deletions", "input_insertions"]].to_numpy(float).sum()
            for token in ("input_tokens", "output_tokens", "output_audio_tokens"):
                found[token].update(n=len(good), value=int(good[token].sum()), reason=None)
            found["input_wer"].update(n=len(words), value=float(errors / words.sum()), reason=None)
            found["transcript_missing_rate"].update(n=counted, value=bad / counted, reason=None)
    return found


def judged(texts: list[str], metrics: dict[str, Any], invalid: bool) -> list[dict[str, Any]]:
    """The gates of a summary."""
    from rteval.analysis.gates import parse_gates
    from rteval.analysis.judging import judge_gates

    why = "send_lag_ms.p99 is 41.2 ms, the limit is 20 ms" if invalid else None
    return [result.as_dict() for result in judge_gates(parse_gates(texts), metrics, invalid=why)]


def fake_run(
    n: int = 96,
    *,
    seed: int = 7,
    failing: float = 0.04,
    text: bool = False,
    references: bool = True,
    transcripts: str = "full",
    exit_code: int | None = None,
    state: str = "complete",
    gates: tuple[str, ...] = ("ttfa_ms.p95 < 1200", "input_wer <= 0.03", "error_rate <= 0.05"),
    change: Callable[[dict[str, Any]], None] | None = None,
) -> FakeRun:
    """A run of ``n`` turns, of which a share fails."""
    rng = np.random.default_rng(seed)
    rows = [turn_row(number, rng, text=text, ok=rng.random() >= failing, references=references) for number in range(n)]
    for row in rows:
        if change is not None:
            change(row)
    columns = list(turn_row(0, np.random.default_rng(0), text=text, ok=True, references=True))
    turns = pd.DataFrame(rows, columns=columns)
    for name in columns:
        if name.endswith("_ns"):
            turns[name] = turns[name].astype("Int64")
        elif name.endswith("_ms") or name == "input_wer":
            turns[name] = turns[name].astype("Float64").astype(float)
    count = (n + 1) // 2
    sessions = pd.DataFrame(
        {
            "session": [f"w0-{number:05d}" for number in range(count)],
            "outcome": ["refused" if number == 3 and failing else "ready" for number in range(count)],
            "failure_stage": ["connect" if number == 3 and failing else None for number in range(count)],
            "error_code": ["http_429" if number == 3 and failing else None for number in range(count)],
            "error_message": ["Too Many Requests" if number == 3 and failing else None for number in range(count)],
        },
        columns=["session", "outcome", "failure_stage", "error_code", "error_message"],
    )
    metrics = metrics_of(turns)
    invalid = exit_code == 4
    results = judged(list(gates), metrics, invalid)
    code = (0 if all(gate["verdict"] == "pass" for gate in results) else 1) if exit_code is None else exit_code
    span = 90 if n else 0
    samples = [
        {"worker": "w0", "kind": kind, "at_ns": START + int(second * 1e9), "value": value}
        for second in range(span)
        for kind, value in [
            ("loop", float(rng.exponential(0.3))),
            ("send", float(rng.exponential(0.5))),
            ("send", float(rng.exponential(0.5))),
            ("cpu", float(rng.uniform(0.1, 0.3))),
            ("sessions", float(min(8, second // 2, (span - second) // 2))),
        ]
    ]
    health = pd.DataFrame(samples, columns=["worker", "kind", "at_ns", "value"])
    run = {
        "schema_version": 1,
        "run_id": "20261120-233000-ab12",
        "scenario": {"name": "support", "path": "scenarios/support.yaml", "hash": "sha256:12ab", "resolved": {}},
        "labels": {"branch": "main"},
        "target": {
            "provider": "azure",
            "dialect": "ga",
            "address": "wss://example.openai.azure.com/openai/v1/realtime",
            "credential": "entra (DefaultAzureCredential)",
            "model": "gpt-realtime",
        },
        "dataset": {
            "path": "datasets/support",
            "name": "support",
            "hash": "sha256:9f3c",
            "items": 8,
            "audio_s": 41.5,
            "references": 8 if references else 0,
            "detector": "rms-10ms/1",
        },
        "planned": {"turns": n, "sessions": count, "sessions_at_once": 8},
        "gates": list(gates),
        "checks": [],
        "scoring": {"normalizer": "whisper_english", "wer": True},
        "slo": {},
        "limits": {"send_lag_ms": 20, "loop_lag_ms": 20},
        "report": {"formats": ["html"], "audio": "none", "transcripts": transcripts},
        "versions": {"rteval": "0.1.0", "python": "3.11.7", "metrics": 1, "websockets": "15.0"},
        "host": {"system": "Linux", "machine": "x86_64", "cpus": 2},
        "signals": None,
        "started_at": "2026-11-20T23:30:00+00:00",
        "ended_at": "2026-11-20T23:31:31+00:00",
        "started_ns": START,
        "ended_ns": START + 91_500_000_000,
        "state": state,
        "end": {"reason": "finished", "detail": None},
        "live": {"sessions_peak": 8, "warnings": []},
    }
    summary = {
        "schema_version": 1,
        "run_id": run["run_id"],
        "run_dir": "reports/support/20261120-233000-ab12",
        "state": state,
        "exit_code": code,
        "metrics": metrics,
        "gates": results,
        "health": judge_health(health, {"send_lag_ms": 0.001 if invalid else 20, "loop_lag_ms": 20}),
        "counts": {},
    }
    deltas = deltas_of(turns)
    return FakeRun(run, summary, turns, sessions, deltas, health)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., FakeRun]:
    """The builder of fake runs."""
    return fake_run


# ---- a run of a load, as records in shards ----


def turn_of(session: str, at_s: float, worker: str, **over: Any) -> TurnRecord:
    begun = T0 + round(at_s * S)
    values: dict[str, Any] = {
        "outcome": Outcome.OK,
        "due_ns": begun,
        "started_ns": begun,
        "speech_end_ns": begun + S,
        "first_audio_ns": begun + S + 700 * MS,
        "response_done_ns": begun + S + 900 * MS,
        "send_lag_ms": 0.5,
        "item_audio_ms": 1000.0,
    }
    values |= over
    return TurnRecord(
        run_id="r1", worker=worker, session=session, turn=0, item="i", modality="audio", dialect="ga", **values
    )


def load_run(
    folder: Path, *, model: str = "closed", workers: int = 1, lost: str | None = None, in_vain: int = 0, **over: Any
) -> Path:
    """A run of twenty seconds, eight sessions of two seconds at a time; with a warm-up of three."""
    folder.mkdir(parents=True)
    names = [f"w{number + 1}" for number in range(workers)] if workers > 1 else ["w0"]
    writers = {name: ShardWriter(folder, name) for name in names}
    for number in range(80):
        name, at_s = names[number % workers], number // 8 * 2 + number % 8 * 0.1
        session = f"s{number:05d}"
        writers[name].turn(turn_of(session, at_s, name, warmup=at_s < 3))
        begun = T0 + round(at_s * S)
        writers[name].session(
            SessionRecord(
                run_id="r1",
                worker=name,
                session=session,
                dialect="ga",
                turns=1,
                outcome="ready",
                due_ns=begun - 40 * MS,
                started_ns=begun - 20 * MS,
                connected_ns=begun - 10 * MS,
                ready_ns=begun,
                ended_ns=begun + 1950 * MS,
            )
        )
    for number in range(in_vain):
        nobody = {"outcome": Outcome.CUT, "error_code": "not_started", "due_ns": T0 + 18 * S}
        empty = dict.fromkeys(("started_ns", "speech_end_ns", "first_audio_ns", "response_done_ns"))
        writers[names[0]].turn(turn_of(f"n{number}", 18, "master", **nobody, **empty))
    for name, writer in writers.items():
        for second in range(1, 11 if name == lost else 21):
            writer.health(
                HealthSample(
                    worker=name,
                    at_ns=T0 + second * S,
                    send_lag_us=[1000 * names.index(name) + 100] * 150,
                    loop_lag_us=[300] * 50,
                    stamp_lag_us=[100] * 40,
                    cpu_share=0.1,
                    sessions_open=8 // workers,
                )
            )
        writer.close()
    if workers > 1:
        with ShardWriter(folder, "master") as writer:
            writer.health(HealthSample(worker="master", at_ns=T0 + S, loop_lag_us=[1] * 50, cpu_share=0.02))
    asked = [[0, 0], [4, 4], [10, 4], [12, 8], [20, 8]] if model == "closed" else [[0, 0], [5, 4], [20, 4]]
    run = {
        "schema_version": 1,
        "run_id": "r1",
        "scenario": {"name": "load", "path": "load.yaml", "hash": "0", "resolved": {}},
        "dataset": {"name": "d", "hash": "1", "items": 1},
        "planned": {"turns": None, "sessions": None, "sessions_at_once": 8},
        "gates": [],
        "limits": {"send_lag_ms": 20, "loop_lag_ms": 20},
        "report": {"formats": ["html", "markdown"], "audio": "none", "transcripts": "full"},
        "versions": {"rteval": "0", "metrics": 1},
        "started_at": "2026-11-20T23:30:00+00:00",
        "started_ns": T0,
        "ended_ns": T0 + 21 * S,
        "state": "running",
        "end": {"reason": "finished", "detail": None},
        "live": {"sessions_peak": 8, "warnings": [], "incidents": [f"{lost} was <b>lost</b>"] if lost else []},
        "load": {
            "model": model,
            "engine": "locust",
            "peak": 8,
            "duration_s": 20.0,
            "warmup_s": 3.0,
            "stages": [],
            "arrivals": {} if model == "open" else None,
            "asked": asked,
            "started_ns": T0,
        },
        "workers": [
            {"name": name, "host": "b<ench", "pid": 70 + number, "slots": 2, "turns": 9, "sessions": 9,
             "lost": name == lost, "sentence": "it went away" if name == lost else None}
            for number, name in enumerate(names)
        ] if workers > 1 else [],
        **over,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


@pytest.fixture
def make_load_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a load run and returns it."""
    return partial(load_run, tmp_path / "r1")
