"""A thousand sessions in one worker, and three hundred under voice activity detection over two: does the load hold?

Runs `rteval run --workers` as a user would, and compares what the tables say with what the server counted and stamped.
One core for the server, the other for the workers, where there are two. Each case takes about two minutes::

    python benchmarks/worker_capacity.py manual [--sessions 1000] [--seconds 40]  # bare server, manual commit, 1 worker
    python benchmarks/worker_capacity.py vad [--sessions 300] [--seconds 40]      # embedded server, VAD, 2 workers
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

ROOT = Path(__file__).parents[1]
MANUAL = """\
name: manual
target: {{provider: custom, url: "{url}", timeouts: {{response_s: 60}}}}
session: {{turn_detection: none, modalities: [audio]}}
"""
VAD = """\
name: vad
target: {{provider: custom, url: "{url}", timeouts: {{response_s: 60}}}}
session:
  turn_detection: {{type: server_vad, silence_duration_ms: 500}}
  modalities: [audio]
  transcription: whisper-1
"""
LOAD = """\
dataset: {dataset}
conversation: {{items_per_session: 100, think_time_s: {think_s}}}
load: {{sessions: {sessions}, ramp_s: {ramp_s}, duration_s: {duration_s}, warmup_s: {ramp_s}}}
limits: {{wall_s: 600, send_lag_ms: 1000, loop_lag_ms: 1000}}
report: {{formats: [markdown]}}
gates: [error_rate <= 0]
"""


@contextmanager
def bare_server(truth: Path, core: int | None) -> Iterator[str]:
    """The server that decodes nothing; yields its address."""
    command = [sys.executable, str(ROOT / "benchmarks" / "bare_server.py"), "--truth", str(truth), "--gap-ms", "100"]
    command += ["--cpu", str(core)] if core is not None else []
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = orjson.loads(process.stdout.readline())["port"]
        yield f"ws://127.0.0.1:{port}/openai/v1/realtime?model=bare"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@contextmanager
def simulator(truth: Path, core: int | None) -> Iterator[str]:
    """The embedded server with its recognition; yields its address."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    behaviour = truth.with_suffix(".yaml")
    behaviour.write_text("{seed: 3, ttfa_ms: {lognormal: [450, 0.3]}}\n")
    dataset = ROOT / "datasets" / "support"
    command = [*pin, sys.executable, "-m", "rteval", "simulate", "--dataset", str(dataset), "--truth", str(truth)]
    process = subprocess.Popen([*command, "--behaviour", str(behaviour)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        host = process.stdout.readline().split()[-1]
        yield f"{host}/openai/v1/realtime?model=simulator"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def quantiles(values: Any, unit: str = "ms") -> str:
    """p50, p99 and the highest."""
    found = np.asarray(values, dtype=float)
    found = found[~np.isnan(found)]
    if not len(found):
        return "none"
    p50, p99 = np.percentile(found, [50, 99])
    return f"p50 {p50:.2f}, p99 {p99:.2f}, max {found.max():.1f} {unit} (n {len(found)})"


def main() -> int:
    """Run one case and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["manual", "vad"])
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--workers", type=int)
    asked = parser.parse_args()
    manual = asked.case == "manual"
    sessions = asked.sessions or (1000 if manual else 300)
    workers = asked.workers or (1 if manual else 2)
    cores = sorted(os.sched_getaffinity(0))
    server_core, our_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.jsonl"
        with (bare_server if manual else simulator)(truth, server_core) as url:
            scenario = Path(folder) / "load.yaml"
            ramp_s = max(5.0, sessions / 100)
            load = LOAD.format(
                dataset=ROOT / "datasets" / "support",
                sessions=sessions,
                ramp_s=ramp_s,
                duration_s=ramp_s + asked.seconds,
                think_s=0 if manual else 3,
            )
            scenario.write_text((MANUAL if manual else VAD).format(url=url) + load)
            pin = ["taskset", "-c", str(our_core)] if our_core is not None else []
            command = [*pin, sys.executable, "-m", "rteval", "run", str(scenario), "--out", folder, "--json"]
            command += ["--no-progress", "--workers", str(workers)]
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=900, check=False)
        summary = orjson.loads(done.stdout)
        run = Path(summary["run_dir"])
        turns = pd.read_parquet(run / "turns.parquet")
        health = pd.read_parquet(run / "health.parquet")
        facts = orjson.loads((run / "run.json").read_bytes())
        lines = [orjson.loads(line) for line in truth.read_bytes().splitlines()]
    stamp = (lambda line: line["delta_ns"][0]) if manual else (lambda line: line["t_first_audio_ns"])
    sent = {line["response_id"]: stamp(line) for line in lines}
    heard = turns[turns["first_audio_ns"].notna()]
    late_ms = (heard["first_audio_ns"].astype("int64") - heard["response_id"].map(sent)) / 1e6
    warm_ns = facts["load"]["started_ns"] + round(facts["load"]["warmup_s"] * 1e9)
    measured = health[(health["worker"] != "master") & (health["at_ns"] >= warm_ns)]
    # Of many lags a second some are kept, and each stands for ``n``.
    lag = {kind: rows["value"].repeat(rows["n"]) for kind, rows in measured.groupby("kind", observed=True)}
    outcomes = turns["outcome"].value_counts().to_dict()
    rows = {
        "exit code": done.returncode,
        "turns": ", ".join(f"{count} {name}" for name, count in outcomes.items()),
        "turns with a response / responses of the server": f"{turns['response_id'].notna().sum()} / {len(lines)}",
        "rows at the master / said by workers": f"{len(turns)} / {sum(w['turns'] for w in facts['workers'])}",
        "sessions at once (peak)": summary["metrics"]["sessions_peak"]["value"],
        "first audio, client minus server": quantiles(late_ms),
        "send lag": quantiles(lag.get("send", [])),
        "loop lag": quantiles(lag.get("loop", [])),
        "stamp lag": quantiles(lag.get("stamp", [])),
        "CPU share of each worker": quantiles(lag.get("cpu", []), "of a core"),
        "incidents": "; ".join(facts["live"]["incidents"]) or "none",
        "generator": summary["health"]["verdict"],
    }
    for name, value in rows.items():
        print(f"{name:50} {value}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
