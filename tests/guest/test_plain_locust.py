"""Stock ``locust -f`` processes, patched as they are, with the locustfile of the examples."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
import urllib.request
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from identity_endpoint import IdentityEndpoint

from rteval.judge import judge
from rteval.records import Outcome, TurnRecord
from rteval.simulator.process import Simulator

NAMES = {"rteval/connect_ms", "rteval/response_ms", "rteval/ttfa_ms", "rteval/turn"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def requests(stats: list[dict[str, Any]]) -> dict[str, int]:
    return {entry["name"]: entry["num_requests"] for entry in stats if entry["name"] != "Aggregated"}


def printed(stdout: str) -> dict[str, int]:
    """What the last of several JSON documents says, since workers print theirs (empty) too."""
    return requests(json.loads(stdout[stdout.rindex("\n[\n") :] if stdout.count("[]") else stdout))


def held(turns: list[TurnRecord]) -> list[TurnRecord]:
    """The turns that were held, all of them well: what is cut at the end in good order had not begun."""
    assert {turn.outcome for turn in turns} <= {Outcome.OK, Outcome.CUT}
    assert [turn.item for turn in turns if turn.outcome is Outcome.CUT and turn.started_ns is not None] == []
    return [turn for turn in turns if turn.outcome is Outcome.OK]


def fetch(url: str, **form: object) -> Any:
    data = urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_flat_folder_runs_with_tls_and_an_entra_token(scenario, few, quick, locust, tmp_path):
    """All files side by side as a service uploads them; threads, names and sockets are gevent's."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (few / "metadata.jsonl", *few.glob("audio/*.wav")):
        shutil.copy(file, flat)
    with (
        IdentityEndpoint(token="token-of-the-guest") as identity,
        Simulator(datasets=[few], behaviour=quick, tls=True, token="token-of-the-guest") as server,
    ):
        target = {"provider": "custom", "url": f"{server.url}/openai/v1/realtime?model=m", "auth": "entra"}
        path = scenario(target | {"ca_file": str(server.ca_file)}, folder=flat, dataset={"path": "../datasets/few"})
        run = locust(*("--headless", "-u", 3, "-r", 3, "-t", 3, "--json"), scenario=path, folder=flat, **identity.env)
        code, stdout = run.end()
    assert code == 0, run.log
    assert identity.requests == 1
    (folder,) = run.runs
    (turns,) = map(held, run.turns().values())
    seen = printed(stdout)
    assert set(seen) == NAMES
    assert seen["rteval/turn"] == seen["rteval/ttfa_ms"] == len(turns) > 3
    assert f"rteval report {folder}" in run.log
    assert "audio/refund-status.wav and 3 more recordings were found beside it" in run.log
    assert "token-of-the-guest" not in run.log + (folder / "run.json").read_text()
    assert judge(folder).exit_code == 0


@pytest.mark.parametrize("order", ["together", "master first"])
def test_processes_begin_apart_and_end_in_order_at_ctrl_c(
    scenario, slow_server, at, answered, locust, eventually, order
):
    """What was under way at the signal ends well, and each process and the server counted the same turns."""
    before = answered()
    run = locust("--headless", "-u", 4, "-r", 4, "--processes", 2, "--json", scenario=scenario(at(slow_server)))
    eventually(lambda: answered() >= before + 4 and len(run.runs) == 2)
    at_signal = answered()
    if order == "together":
        run.interrupt()
    else:
        workers = psutil.Process(run.process.pid).children()
        os.kill(run.process.pid, signal.SIGINT)
        time.sleep(0.2)  # what is arranged: the master's word to end is there before the signal
        for worker in workers:
            worker.send_signal(signal.SIGINT)
    code, stdout = run.end()
    assert code == 0, run.log
    first, second = map(held, run.turns().values())
    assert at_signal - before < len(first) + len(second) == answered() - before
    assert printed(stdout)["rteval/turn"] == answered() - before
    assert first[0].item != second[0].item
    assert [judge(folder, reports_written=False).exit_code for folder in run.runs] == [0, 0]


def test_the_web_ui_of_a_master_starts_and_stops_runs_one_after_the_other(
    scenario, slow_server, at, answered, locust, eventually
):
    web, bus = free_port(), free_port()
    ports = ("--master-bind-host", "127.0.0.1", "--master-bind-port", bus)
    master = locust("--master", *ports, "--web-host", "127.0.0.1", "--web-port", web, scenario=None)
    locust("--worker", "--master-host", "127.0.0.1", "--master-port", bus, scenario=scenario(at(slow_server)))
    ui = f"http://127.0.0.1:{web}"

    def status() -> dict[str, Any]:
        try:
            found: dict[str, Any] = fetch(f"{ui}/stats/requests")
        except OSError:
            return {"workers": []}
        return found

    def test(number: int) -> None:
        before = answered()
        assert fetch(f"{ui}/swarm", user_count=3, spawn_rate=3)["success"]
        eventually(lambda: answered() >= before + 3)
        assert fetch(f"{ui}/stop", stop=1)["success"]
        assert len(master.runs) == number
        turns = held(master.turns()[master.runs[-1].name])
        assert len(turns) == answered() - before
        # Its figures are up to two seconds old.
        eventually(lambda: requests(status()["stats"]).get("rteval/turn") == len(turns))

    eventually(lambda: status()["workers"])
    test(1)
    test(2)
    master.interrupt()
    assert master.end()[0] == 0


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        pytest.param(None, 2, "RTEVAL_SCENARIO is not set", id="no scenario"),
        pytest.param({"provider": "openai", "model": "m"}, 3, "no API key", id="no credential"),
    ],
)
def test_what_is_wrong_is_said_before_the_test(scenario, locust, target, code, said):
    path = scenario(target) if target is not None else None
    run = locust("--headless", "-t", 60, scenario=path, OPENAI_API_KEY="")
    assert run.end()[0] == code
    assert said in run.log
    assert "Traceback" not in run.log


def test_a_worker_that_can_hold_no_sessions_ends_the_test_of_its_master(scenario, locust):
    run = locust("--headless", "-t", 60, "--processes", 1, scenario=scenario({"provider": "simulator", "modle": "m"}))
    assert run.end()[0] == 2
    assert "worker 0 holds no sessions:" in run.log
    assert "Traceback" not in run.log


def test_asking_locust_what_is_in_the_file_needs_no_scenario(locust):
    run = locust("--list", scenario=None)
    assert run.end() == (0, "Available Users:\n    Caller\n")
    assert not os.path.exists(run.out)
