"""Several processes hold one run: nothing is lost, nothing counts twice, and whoever goes is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rteval.simulator.process import Simulator

ROOT = Path(__file__).parents[2]
SCENARIO = """\
name: fleet
target:
  provider: simulator
  behaviour: {ttfa_ms: 100, speed: 20}
session: {turn_detection: none, transcription: whisper-1}
dataset: {path: DATASET}
conversation: {wait_for_playback: false}
load: {sessions: 6, pacing: fast}
limits: {loop_lag_ms: 5000, wall_s: 60}
gates: []
report: {formats: [markdown]}
"""
PROMPTS = [f"Question number {number}, please." for number in range(40)]

Start = Callable[..., "Running"]


class Running:
    """A process of ours with what it said."""

    def __init__(self, *args: str, inside: Sequence[str] = (), **env: str) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RTEVAL_")}
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "rteval", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ours | env,
            start_new_session=True,
        )
        self._out: tuple[str, str] | None = None

    def wait(self, timeout_s: float = 90) -> int:
        self._out = self.process.communicate(timeout=timeout_s)
        return self.process.returncode

    @property
    def out(self) -> str:
        assert self._out is not None
        return self._out[0].strip()

    @property
    def err(self) -> str:
        assert self._out is not None
        return self._out[1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Running] = []

    def begin(*args: str, **more: Any) -> Running:
        # Where workers keep their copies that are not told otherwise.
        running.append(Running(*args, **{"RTEVAL_OUT": str(tmp_path / "theirs")} | more))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        for stream in (one.process.stdout, one.process.stderr):
            if stream is not None:
                stream.close()
        one.process.wait()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    folder = tmp_path / "prompts"
    folder.mkdir()
    rows = [{"id": f"p{number}", "text": text} for number, text in enumerate(PROMPTS)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "fleet.yaml"
    path.write_text(SCENARIO.replace("DATASET", str(folder)))
    return path


def run_folders(out: Path) -> list[Path]:
    return [path for path in (out / "fleet").iterdir() if path.is_dir()]


def run_folder(out: Path) -> Path:
    (folder,) = run_folders(out)
    return folder


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def run_json(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_bytes()))


def live_workers(out: Path) -> list[dict[str, Any]]:
    """The workers of a run that has begun, as its run.json names them."""

    def found() -> list[dict[str, Any]]:
        try:
            return list(run_json(run_folder(out))["workers"])
        except (OSError, ValueError):
            return []

    return list(until(found, "the run did not begin"))


def recorded(out: Path, turns: int) -> None:
    """Wait until so many turns are on the master's disk."""

    def lines() -> int:
        shards = (run_folder(out) / "shards").glob("*.jsonl")
        return sum(line.startswith(b'{"turn"') for path in shards for line in path.read_bytes().splitlines())

    until(lambda: lines() >= turns, f"no {turns} turns were recorded")


def turns_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "turns.parquet")


def truth_of(folder: Path) -> int:
    return len((folder / "truth.jsonl").read_text().splitlines())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_workers_run_every_item_exactly_once(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", "--set", "load.repeat=2", "--json")
    assert run.wait() == 0, run.err
    folder = run_folder(out)
    turns, summary = turns_of(folder), json.loads(run.out)
    assert Counter(zip(turns["item"], turns["attempt"], strict=True)) == Counter(
        {(f"p{number}", attempt): 1 for number in range(40) for attempt in (1, 2)}
    )
    assert set(turns["outcome"]) == {"ok"}
    assert set(turns["worker"]) == {"w1", "w2"}
    workers = run_json(folder)["workers"]
    assert sum(worker["turns"] for worker in workers) == len(turns) == truth_of(folder) == 80
    assert sum(worker["sessions"] for worker in workers) == len(pd.read_parquet(folder / "sessions.parquet")) == 80
    assert summary["health"]["verdict"] == "ok"
    assert set(summary["health"]["workers"]) == {"w1", "w2", "master"}
    assert run_json(folder)["live"]["incidents"] == []
    # Nothing is left but what a run of one process leaves, and nobody runs on.
    assert not any((folder / name).exists() for name in ("shards", "copies"))
    assert not any(is_alive(worker["pid"]) for worker in workers)
    # Both machines' clocks are one here: a client never hears an answer before the server has sent it.
    truth = pd.read_json(folder / "truth.jsonl", lines=True).set_index("response_id")
    sent = turns["response_id"].map(truth["t_first_audio_ns"])
    assert (turns["first_audio_ns"] >= sent).all()


def test_a_killed_workers_unfinished_items_are_run_by_the_others(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [{"id": f"c{c}-{n}", "text": "And then?", "conversation_id": f"c{c}"} for c in range(4) for n in range(3)]
    with (tmp_path / "prompts" / "metadata.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    slow = ["--set", "target.behaviour.ttfa_ms=700", "--set", "conversation.items_per_session=2"]
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", *slow)
    victim = live_workers(out)[0]
    recorded(out, 8)
    os.kill(victim["pid"], signal.SIGKILL)
    assert run.wait() == 0, run.err
    folder = run_folder(out)
    turns = turns_of(folder)
    assert Counter(turns["item"]) == Counter(
        [f"p{number}" for number in range(40)] + [f"c{c}-{n}" for c in range(4) for n in range(3)]
    )
    assert set(turns["outcome"]) == {"ok"}
    for _, conversation in turns[turns["conversation_id"].notna()].groupby("conversation_id"):
        assert conversation["session"].nunique() == 1
        assert sorted(conversation["turn"]) == [0, 1, 2]
    incident, ending = run_json(folder)["live"]["incidents"]
    assert victim["name"] in incident
    assert "taken over by the others" in incident
    assert incident in run.err
    assert json.loads((folder / "summary.json").read_bytes())["incidents"] == [incident, ending]
    assert "SIGKILL" in ending
    assert [worker["lost"] for worker in run_json(folder)["workers"]] == [True, False]
    assert incident in (folder / "summary.md").read_text()


def test_in_a_closed_run_the_others_take_over_the_sessions_of_a_killed_worker(
    start: Start, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sets = ["--set", "load.duration_s=8", "--set", "target.behaviour.ttfa_ms=300", "--set", "limits.wall_s=90"]
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", *sets)
    victim = live_workers(out)[0]
    recorded(out, 4)
    os.kill(victim["pid"], signal.SIGKILL)
    assert run.wait() == 0, run.err
    sessions = pd.read_parquet(run_folder(out) / "sessions.parquet")
    other = sessions[(sessions["worker"] != victim["name"]) & sessions["connected_ns"].notna()]
    moves = sorted([*((at, 1) for at in other["connected_ns"]), *((at, -1) for at in other["ended_ns"])])
    assert max(pd.Series([step for _, step in moves]).cumsum()) >= 5
    # What was open on the lost one is not counted beside what took its place.
    peak = json.loads((run_folder(out) / "summary.json").read_bytes())["metrics"]["sessions_peak"]["value"]
    assert 5 <= peak <= 6


def test_when_the_last_worker_is_gone_the_run_ends_and_is_invalid(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("run", str(scenario), "--out", str(out), "--workers", "1", "--set", "target.behaviour.ttfa_ms=500")
    (victim,) = live_workers(out)
    recorded(out, 2)
    os.kill(victim["pid"], signal.SIGKILL)
    assert run.wait() == 4, run.err
    assert "no worker was left" in run.err
    turns = turns_of(run_folder(out))
    assert len(turns) == 40
    assert set(turns["outcome"]) == {"ok", "cut"}


def test_a_killed_master_leaves_shards_that_can_be_reported(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", "--set", "target.behaviour.ttfa_ms=500")
    pids = [worker["pid"] for worker in live_workers(out)]
    recorded(out, 6)
    run.process.kill()
    run.wait()
    until(lambda: not any(is_alive(pid) for pid in pids), "workers outlive their master", 30)
    folder = run_folder(out)
    report = start("report", str(folder))
    assert report.wait() == 1, report.err
    turns = turns_of(folder)
    assert len(turns) >= 6
    assert turns["item"].is_unique
    # The embedded server went with its master, and that is no fault of a target.
    assert set(turns["outcome"]) == {"ok"}
    assert run_json(folder)["state"] == "partial"
    assert not (folder / "copies").exists()


def test_sigint_drains_every_worker(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", "--set", "target.behaviour.ttfa_ms=400")
    pids = [worker["pid"] for worker in live_workers(out)]
    recorded(out, 3)
    run.process.send_signal(signal.SIGINT)
    assert run.wait(30) == 130, run.err
    folder = run_folder(out)
    turns = turns_of(folder)
    assert len(turns) == 40
    assert set(turns["outcome"]) == {"ok", "cut"}
    assert (turns["outcome"] == "ok").sum() == truth_of(folder)
    assert run_json(folder)["state"] == "partial"
    assert not any(is_alive(pid) for pid in pids)


def test_an_open_run_with_too_few_slots_shows_lateness_and_what_did_not_start(
    start: Start, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    load = "load={arrivals: {rate: 20}, max_sessions: 4, duration_s: 4, pacing: fast}"
    sets = ["--set", load, "--set", "target.behaviour.ttfa_ms=600"]
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", *sets, "--json")
    assert run.wait() == 0, run.err
    metrics = json.loads(run.out)["metrics"]
    assert metrics["not_started"]["value"] >= 20
    assert metrics["start_lag_ms"]["p50"] > 500
    turns = turns_of(run_folder(out))
    assert len(turns) == 80
    waited = turns[turns["outcome"] == "ok"]
    assert (waited["wait_ms"] >= waited["response_ms"] + (waited["started_ns"] - waited["due_ns"]) / 1e6 - 1).all()


def test_a_worker_that_is_stopped_again_and_again_makes_the_run_invalid(
    start: Start, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sets = ["--set", "limits.loop_lag_ms=50", "--set", "load.duration_s=8", "--set", "limits.wall_s=90"]
    run = start("run", str(scenario), "--out", str(out), "--workers", "2", *sets)
    victim = live_workers(out)[0]
    recorded(out, 2)
    for _ in range(6):
        os.kill(victim["pid"], signal.SIGSTOP)
        time.sleep(0.25)  # what is measured: the loop does not run for so long
        os.kill(victim["pid"], signal.SIGCONT)
        time.sleep(0.1)
    assert run.wait() == 4, run.err
    assert victim["name"] in run.err
    assert "--workers" in run.err


def test_ctrl_c_ends_the_wait_for_workers(start: Start, bound: Any, tmp_path: Path) -> None:
    master, address = bound("--expect-workers", "2")
    token = {"RTEVAL_JOIN_TOKEN": "the right token of this run"}
    worker = start("worker", "--master", address, "--max-wait", "5", **token)
    host, _, port = address.rpartition(":")

    def listens() -> bool:
        import socket

        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    until(listens, "nobody listens")
    master.process.send_signal(signal.SIGINT)
    assert master.wait(30) == 130, master.err
    assert worker.wait(60) == 2
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bound(start: Start, scenario: Path, tmp_path: Path) -> Callable[..., tuple[Running, str]]:
    """A master that waits for workers from elsewhere, and where it listens."""

    def begin(*more: str, token: str = "the right token of this run") -> tuple[Running, str]:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"127.0.0.1:{port}"
        args = ["run", str(scenario), "--out", str(tmp_path / "out"), "--master-bind", address, *more]
        return start(*args, RTEVAL_JOIN_TOKEN=token), address

    return begin


TOKEN = {"RTEVAL_JOIN_TOKEN": "the right token of this run"}
KEY = "0123456789-a-key-of-the-target"


@pytest.fixture
def keyed_server(scenario: Path) -> Iterator[Simulator]:
    behaviour = {"ttfa_ms": 100, "speed": 20}
    with Simulator(datasets=[scenario.parent / "prompts"], behaviour=behaviour, api_key=KEY) as server:
        yield server


def test_only_a_worker_with_the_join_token_the_same_data_and_a_credential_takes_part(
    start: Start, bound: Any, keyed_server: Simulator, tmp_path: Path
) -> None:
    url = f"{keyed_server.url}/openai/v1/realtime?model=m"
    target = f"target={{provider: custom, url: '{url}', auth: api_key, api_key_env: FLEET_KEY}}"
    master, address = bound("--expect-workers", "1", "--expect-workers-max-wait", "60", "--set", target)
    stranger = start("worker", "--master", address, "--max-wait", "20", RTEVAL_JOIN_TOKEN="another token, also long")
    assert stranger.wait() == 2
    assert "join token" in stranger.err
    assert "Question" not in stranger.err + stranger.out

    other = tmp_path / "other"
    other.mkdir()
    (other / "metadata.jsonl").write_text(json.dumps({"id": "p0", "text": "Something else"}) + "\n")
    out = str(tmp_path / "elsewhere")
    wrong = start(
        "worker", "--master", address, "--dataset", f"prompts={other}", RTEVAL_JOIN_TOKEN="the right token of this run"
    )
    assert wrong.wait() == 2
    assert "is not the master's" in wrong.err

    poor = start("worker", "--master", address, **TOKEN)
    assert poor.wait() == 2
    assert "FLEET_KEY" in poor.err

    right = start("worker", "--master", address, "--out", out, **TOKEN, FLEET_KEY=KEY)
    assert right.wait() == 0, right.err
    assert master.wait() == 0, master.err
    assert "is not the master's" in master.err
    assert "FLEET_KEY" in master.err
    assert KEY not in master.err + right.err
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "the right token of this run" not in master.err + right.err + stranger.err
    assert len(turns_of(run_folder(tmp_path / "out"))) == 40
    # The master has everything, so the worker keeps nothing, not even a folder.
    assert not (tmp_path / "elsewhere" / "fleet").exists() or not run_folders(tmp_path / "elsewhere")


def test_a_target_that_lets_no_worker_in_is_named_with_what_may_help(
    start: Start, scenario: Path, keyed_server: Simulator, tmp_path: Path
) -> None:
    url = f"{keyed_server.url}/openai/v1/realtime?model=m"
    target = f"target={{provider: custom, url: '{url}', auth: api_key, api_key_env: FLEET_KEY}}"
    out = str(tmp_path / "out")
    run = start("run", str(scenario), "--out", out, "--workers", "2", "--set", target, FLEET_KEY="not-the-right-key-9")
    assert run.wait() == 3, run.err
    refusal = run_json(run_folder(tmp_path / "out"))["refusal"]
    assert "refused the API key of FLEET_KEY" in refusal["message"]
    assert refusal["hint"].startswith("check that the key is complete")
    assert f"hint: {refusal['hint']}" in run.err
    assert "not-the-right-key-9" not in run.err


def test_a_worker_that_is_told_to_leave_hands_its_items_over(
    start: Start, bound: Any, scenario: Path, tmp_path: Path
) -> None:
    master, address = bound("--expect-workers", "2", "--set", "target.behaviour.ttfa_ms=500")
    workers = [start("worker", "--master", address, RTEVAL_JOIN_TOKEN="the right token of this run") for _ in range(2)]
    live_workers(tmp_path / "out")
    recorded(tmp_path / "out", 4)
    workers[0].process.send_signal(signal.SIGINT)
    assert workers[0].wait() == 130, workers[0].err
    assert master.wait() == 0, master.err
    assert workers[1].wait() == 0, workers[1].err
    turns = turns_of(run_folder(tmp_path / "out"))
    assert Counter(turns["item"]) == Counter(f"p{number}" for number in range(40))
    assert set(turns["outcome"]) == {"ok"}
    assert "SIGINT" in run_json(run_folder(tmp_path / "out"))["live"]["incidents"][0]


ANOTHER_CLOCK = ("unshare", "--time", "--monotonic", "1000")


def can_have_another_clock() -> bool:
    try:
        return subprocess.run([*ANOTHER_CLOCK, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_have_another_clock(), reason="no time namespaces here (Linux, and root)")
def test_due_times_and_moments_survive_a_clock_that_is_a_quarter_of_an_hour_ahead(
    start: Start, bound: Any, tmp_path: Path
) -> None:
    load = "load={arrivals: {rate: 10}, duration_s: 4, pacing: fast, warmup_s: 2}"
    master, address = bound("--set", load)
    worker = start("worker", "--master", address, inside=ANOTHER_CLOCK, RTEVAL_JOIN_TOKEN="the right token of this run")
    assert master.wait() == 0, master.err
    assert worker.wait() == 0, worker.err
    folder = run_folder(tmp_path / "out")
    assert round(run_json(folder)["workers"][0]["clock_offset_ms"], -4) == -1_000_000
    sessions = pd.read_parquet(folder / "sessions.parquet")
    assert sessions["start_lag_ms"].between(0, 60_000).all()
    turns = turns_of(folder)
    assert 0 < turns["warmup"].sum() < len(turns)
    truth = pd.read_json(folder / "truth.jsonl", lines=True).set_index("response_id")
    late_ms = (turns["first_audio_ns"] - turns["response_id"].map(truth["t_first_audio_ns"])) / 1e6
    assert late_ms.between(-50, 60_000).all()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        pytest.param(
            ["--master-bind", "0.0.0.0:0", "--set", "target={provider: custom, url: 'ws://127.0.0.1:9/'}"],
            "RTEVAL_JOIN_TOKEN",
            id="bound to the world without a token",
        ),
        pytest.param(["--master-bind", "0.0.0.0:0"], "embedded server", id="workers that could not reach the target"),
        pytest.param(["--master-bind", "nonsense"], "HOST:PORT", id="no address"),
        pytest.param(["--workers", "0"], "--workers", id="no workers"),
        pytest.param(["--workers", "2", "--set", "load.engine=asyncio"], "load.engine", id="another engine"),
        pytest.param(
            ["--master-bind", "127.0.0.1:0", "--expect-workers", "1", "--expect-workers-max-wait", "1"],
            "0 of 1 workers",
            id="nobody comes",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence_and_leaves_no_folder(
    start: Start, scenario: Path, tmp_path: Path, args: list[str], sentence: str
) -> None:
    run = start("run", str(scenario), "--out", str(tmp_path / "out"), *args)
    assert run.wait() == 2, run.err
    assert sentence in run.err
    assert not (tmp_path / "out").exists()


def test_a_worker_whose_disk_is_full_ends_the_run_with_its_sentence_and_not_as_a_bug(
    start: Start, bound: Any, tmp_path: Path
) -> None:
    there = tmp_path / "elsewhere"
    copies = there / "fleet" / "full" / "copies"
    copies.mkdir(parents=True)
    (copies / "w1.jsonl").symlink_to("/dev/full")
    master, address = bound("--run-id", "full", "--set", "target.behaviour.ttfa_ms=500")
    worker = start("worker", "--master", address, "--out", str(there), **TOKEN)
    assert master.wait() == 2, master.err
    assert "w1.jsonl: No space left on device" in master.err
    assert worker.wait() == 2, worker.err
    assert "Traceback" not in master.err + worker.err
    assert run_json(run_folder(tmp_path / "out"))["state"] == "partial"


def test_master_and_worker_that_are_told_to_end_together_lose_nothing(start: Start, bound: Any, tmp_path: Path) -> None:
    master, address = bound("--set", "target.behaviour.ttfa_ms=3000", "--set", "conversation.items_per_session=2")
    worker = start("worker", "--master", address, **TOKEN)
    recorded_from = tmp_path / "out"
    live_workers(recorded_from)
    recorded(recorded_from, 1)
    master.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # what is arranged: the worker has been told by its master before it is told by a signal
    worker.process.send_signal(signal.SIGTERM)
    assert master.wait(30) == 143, master.err
    assert worker.wait(30) == 143, worker.err
    folder = run_folder(tmp_path / "out")
    turns = turns_of(folder)
    assert Counter(turns["item"]) == Counter(f"p{number}" for number in range(40))
    assert (turns["outcome"] == "ok").sum() == truth_of(folder)
    assert run_json(folder)["live"]["incidents"] == []


@pytest.mark.parametrize(
    "args", [pytest.param(["--expect-workers", "2"], id="none"), pytest.param(["--workers", "1"], id="too few")]
)
def test_nobody_waits_for_workers_that_cannot_come(
    start: Start, scenario: Path, tmp_path: Path, args: list[str]
) -> None:
    run = start("run", str(scenario), "--out", str(tmp_path / "out"), *args, "--expect-workers", "2")
    assert run.wait(30) == 2, run.err
    assert "--master-bind" in run.err
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_when_nobody_reads_its_progress_any_more(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("run", str(scenario), "--out", str(out))
    assert run.process.stderr is not None
    run.process.stderr.close()
    run.process.stderr = None
    assert run.wait() == 0
    assert run.out == str(run_folder(out))
    assert len(turns_of(run_folder(out))) == 40


# ---- the web UI ----


@pytest.fixture
def page(start: Start, scenario: Path, tmp_path: Path) -> Callable[..., tuple[Running, Callable[..., Any]]]:
    """A run that waits to be started in its web UI, and what asks the page."""

    def begin(*more: str) -> tuple[Running, Callable[..., Any]]:
        run = start("run", str(scenario), "--out", str(tmp_path / "out"), "--ui", "--ui-port", "0", *more)
        assert run.process.stderr is not None
        said = ""
        while "press Start" not in said:
            said = run.process.stderr.readline()
            assert said, "it ended before it could be started"
        address = said.split()[1]

        def ask(path: str, **form: object) -> Any:
            data = urllib.parse.urlencode(form).encode()
            with urllib.request.urlopen(f"{address}{path}", data=data, timeout=30) as answer:
                return json.loads(answer.read())

        return run, ask

    return begin


def test_stop_before_start_stops_nothing(page: Any, tmp_path: Path) -> None:
    run, ask = page("--workers", "1")
    assert ask("stop")["success"]
    assert ask("swarm", user_count=3, spawn_rate=100)["success"]
    assert run.wait() == 0, run.err
    folder = run_folder(tmp_path / "out")
    assert len(turns_of(folder)) == 40
    assert run_json(folder)["end"]["reason"] == "finished"
    assert run_json(folder)["load"]["asked"] == [[0.0, 0], [0.03, 3]]
    assert "Traceback" not in run.err


def test_a_run_that_nobody_started_leaves_no_folder(page: Any, tmp_path: Path) -> None:
    run, _ = page("--workers", "1")
    run.process.send_signal(signal.SIGINT)
    assert run.wait(30) == 130, run.err
    assert run_folders(tmp_path / "out") == []


def test_stop_right_after_start_is_heard(page: Any, tmp_path: Path) -> None:
    run, ask = page("--set", "target.behaviour.ttfa_ms=2000")
    ask("swarm", user_count=3, spawn_rate=100)
    ask("stop")
    assert run.wait(60) == 1, run.err
    folder = run_folder(tmp_path / "out")
    assert run_json(folder)["end"]["reason"] == "stopped"
    assert len(turns_of(folder)) == 40


def test_more_users_on_the_way_do_not_come_in_a_burst_and_stand_in_the_report(page: Any, tmp_path: Path) -> None:
    run, ask = page("--set", "target.behaviour.ttfa_ms=500")
    ask("swarm", user_count=1, spawn_rate=1)
    recorded(tmp_path / "out", 2)
    ask("swarm", user_count=8, spawn_rate=4)
    assert run.wait() == 0, run.err
    folder = run_folder(tmp_path / "out")
    load = run_json(folder)["load"]
    (first, second), (at_s, before), (until_s, after) = load["asked"][0], load["asked"][-2], load["asked"][-1]
    assert (first, second, before, after, load["peak"]) == (0.0, 0, 1, 8, 8)
    assert until_s - at_s == pytest.approx(7 / 4)
    sessions = pd.read_parquet(folder / "sessions.parquet")
    into_s = (sessions["connected_ns"] - load["started_ns"]) / 1e9 - at_s
    assert ((into_s > 0) & (into_s < 0.4)).sum() <= 4


def test_a_run_that_goes_on_says_when_its_schedule_began(start: Start, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("run", str(scenario), "--out", str(out), "--set", "target.behaviour.ttfa_ms=500")
    recorded_from = until(lambda: list(out.glob("fleet/*/shards")), "the run did not begin")
    recorded(out, 1)
    run.process.kill()
    run.wait()
    found = run_json(recorded_from[0].parent)
    assert found["load"]["started_ns"] is not None
