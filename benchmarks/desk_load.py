"""A hundred paced callers at a desk: how late the client sends, how true its time to first audio is, what a turn costs.

Runs the shipped support dataset against the embedded server with voice activity detection, then compares the client's
stamps with the server's. CPU times are those of the client process alone. About a minute::

    python benchmarks/desk_load.py [--sessions 100] [--repeat 10]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
import pandas as pd

ROOT = Path(__file__).parents[1]
SCENARIO = """\
name: desk-load
target:
  provider: simulator
  behaviour: {{seed: 3, ttfa_ms: {{lognormal: [450, 0.3]}}}}
session:
  modalities: [audio]
  turn_detection: {{type: server_vad, silence_duration_ms: 500}}
  transcription: whisper-1
dataset: {dataset}
load: {{sessions: {sessions}, ramp_s: 5, repeat: {repeat}}}
limits: {{wall_s: 300, send_lag_ms: 1000, loop_lag_ms: 1000}}
gates: [error_rate <= 0, input_wer <= 0]
"""


def main() -> int:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=10)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "desk-load.yaml"
        dataset = ROOT / "datasets" / "support"
        scenario.write_text(SCENARIO.format(dataset=dataset, sessions=asked.sessions, repeat=asked.repeat))
        command = [sys.executable, "-m", "rteval", "run", str(scenario), "--out", folder, "--json", "--no-progress"]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=False)
        summary = orjson.loads(done.stdout)
        run = Path(summary["run_dir"])
        turns = pd.read_parquet(run / "turns.parquet")
        health = pd.read_parquet(run / "health.parquet")
        truth = pd.DataFrame([orjson.loads(line) for line in (run / "truth.jsonl").read_bytes().splitlines()])
    both = turns.merge(truth, on="response_id", suffixes=("", "_truth"), validate="one_to_one")
    late_ms = ((both.first_audio_ns - both.t_first_audio_ns) / 1e6).astype(float)
    errors = both.input_substitutions + both.input_deletions + both.input_insertions
    cpu = health[health.kind == "cpu"].sort_values("at_ns")
    seconds = cpu.at_ns.diff().fillna(1e9) / 1e9
    rows = {
        "exit code": done.returncode,
        "turns, rows = truth lines": f"{len(turns)}, {len(turns) == len(truth) == len(both)}",
        "outcomes": turns.outcome.value_counts().to_dict(),
        "turns whose word errors differ from the truth": int((errors != both.word_errors).sum()),
        "sessions open at most": summary["metrics"]["sessions_peak"]["value"],
        "send lag ms p50 / p99 / max": _spread(summary["health"]["send_lag_ms"]),
        "loop lag ms p50 / p99 / max": _spread(summary["health"]["loop_lag_ms"]),
        "first audio, client - server, ms: min / p50 / p99": " / ".join(
            f"{late_ms.quantile(q):.3f}" for q in (0, 0.5, 0.99)
        ),
        "client CPU, ms a turn": f"{float((cpu.value * seconds).sum()) * 1000 / len(turns):.1f}",
        "client CPU, share of a core": f"{summary['health']['cpu_share']['mean']:.3f}",
    }
    for name, value in rows.items():
        print(f"{name:52} {value}")
    return 0


def _spread(samples: dict[str, float]) -> str:
    return " / ".join(f"{samples[key]:.2f}" for key in ("p50", "p99", "max"))


if __name__ == "__main__":
    sys.exit(main())
