"""The service as a process: its first lines, its end, its truth file, and many sessions at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pybase64
import pytest
from websockets.asyncio.client import connect

from rteval.formats import PCM16
from rteval.simulator.process import Simulator, SimulatorError

COMMAND = [sys.executable, "-m", "rteval.simulator"]
WAIT_S = 30.0


def started(*options: str, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *options],
        stdin=settings.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_says_where_it_listens_and_ends_on_a_signal(number):
    process = started()
    assert process.stdout is not None
    first = process.stdout.readline()
    assert re.fullmatch(r"listening on ws://127\.0\.0\.1:\d+\n", first)
    process.send_signal(number)
    rest, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_tls_names_its_ca_in_the_second_line():
    process = started("--tls")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on wss://127.0.0.1:")
    ca_file = Path(process.stdout.readline().removeprefix("CA file ").strip())
    assert "BEGIN CERTIFICATE" in ca_file.read_text()
    process.terminate()
    process.communicate(timeout=WAIT_S)
    assert not ca_file.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(["--dataset", "/nowhere"], "/nowhere", id="dataset"),
        pytest.param(["--behaviour-json", '{"speeed": 1}'], "speed", id="behaviour"),
        pytest.param(["--host", "203.0.113.1"], "cannot listen", id="address"),
        pytest.param(["--truth", "/nowhere/truth.jsonl"], "cannot write the truth file", id="truth"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_2(options, sentence):
    process = started(*options)
    out, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (2, "")
    assert sentence in errors
    assert "Traceback" not in errors


def test_a_server_that_cannot_start_is_an_error_of_the_parent():
    with pytest.raises(SimulatorError, match="nowhere"):
        Simulator(datasets=[Path("/nowhere")]).start()


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")


@needs_proc
def test_it_ends_when_its_parent_is_killed(dataset):
    """Its own child, which recognises, ends with it."""
    script = (
        "import sys, time; from pathlib import Path; from rteval.simulator.process import Simulator;"
        "s = Simulator(datasets=[Path(sys.argv[1])]).start(); print(s.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(dataset)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        server = int(parent.stdout.readline())
    (listener,) = _children(server)
    parent.kill()
    parent.wait(WAIT_S)
    assert _gone(server)
    assert _gone(listener)


@needs_proc
def test_it_goes_on_when_recognition_dies(dataset, dial, recording):
    with Simulator(datasets=[dataset], behaviour={"ttfa_ms": 5, "speed": 0}) as simulator, dial(simulator.url) as line:
        line.update(detection=None, transcription={"model": "whisper-1"})
        (listener,) = _children(simulator.pid)
        os.kill(listener, signal.SIGKILL)
        assert _gone(listener)
        line.append(recording("order"))
        line.say("input_audio_buffer.commit")
        assert line.answer()["status"] == "completed"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _gone(pid: int) -> bool:
    end = time.monotonic() + WAIT_S
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that has ended stays a zombie where nobody reaps it.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_open_sessions_are_closed_as_going_away(dial):
    simulator = Simulator().start()
    with dial(simulator.url) as line:
        line.until("session.created")
        assert simulator.stop() == 0
        with pytest.raises(Exception, match="1001"):
            line.hear()


def test_the_truth_file_has_a_flushed_line_for_each_response(quick, dial, recording, dialect):
    with dial(quick.url, dialect) as line:
        session_id = line.until("session.created")["session"]["id"]
        line.update(detection=None, transcription={"model": "whisper-1"})
        line.append(PCM16.silence * 12_000)
        before_ns = time.perf_counter_ns()
        line.append(recording("order"))
        after_ns = time.perf_counter_ns()
        line.append(PCM16.silence * 12_000)
        line.say("input_audio_buffer.commit")
        spoken = line.answer()
        line.until("conversation.item.input_audio_transcription.completed") if _open(line) else None
        line.text("What is the capital of France?")
        typed = line.answer()
        arrived_ns = time.perf_counter_ns()
    truth = {row["response_id"]: row for row in _truth(quick, session_id, 2)}
    assert quick.truth_path is not None
    audio, text = truth[spoken["id"]], truth[typed["id"]]
    assert (audio["item"], audio["ref_words"], audio["word_errors"]) == ("order", 10, 0)
    assert (text["item"], text["ref_words"], text["word_errors"], text["t_voice_end_ns"]) == (
        "capital",
        None,
        None,
        None,
    )
    assert before_ns < audio["t_voice_end_ns"] <= audio["t_request_ns"] < audio["t_first_audio_ns"] < audio["t_done_ns"]
    assert audio["t_done_ns"] < text["t_request_ns"] < text["t_done_ns"] < arrived_ns
    assert audio["t_voice_end_ns"] < after_ns + 5_000_000_000
    assert set(text) == {
        "session_id", "response_id", "item", "t_voice_end_ns", "t_request_ns", "t_first_audio_ns", "t_done_ns",
        "ref_words", "word_errors",
    }  # fmt: skip


def _open(line: Any) -> bool:
    return not any(kind.endswith("transcription.completed") for kind in line.types())


def _truth(simulator: Simulator, session_id: str, count: int) -> list[dict[str, Any]]:
    """The session's lines, once there are so many."""
    assert simulator.truth_path is not None
    end = time.monotonic() + WAIT_S
    rows: list[dict[str, Any]] = []
    while len(rows) < count and time.monotonic() < end:
        lines = simulator.truth_path.read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if row["session_id"] == session_id]
        time.sleep(0.02)
    return rows


def test_word_errors_are_counted_in_what_was_sent(dial, dataset, recording, tmp_path):
    behaviour = {"ttfa_ms": 5, "speed": 0, "transcription": {"word_error_rate": 0.4, "delay_ms": 0}}
    truth = tmp_path / "truth.jsonl"
    with Simulator(datasets=[dataset], behaviour=behaviour, truth=truth) as simulator, dial(simulator.url) as line:
        line.update(detection=None, transcription={"model": "whisper-1"})
        changed = 0
        for _ in range(5):
            line.append(recording("order"))
            line.say("input_audio_buffer.commit")
            transcript = line.until("conversation.item.input_audio_transcription.completed")["transcript"]
            changed += transcript != "I would like to know where my order is please"
            line.answer()
        assert changed
    rows = [json.loads(row) for row in truth.read_text().splitlines()]
    assert sum(row["word_errors"] > 0 for row in rows) == changed


# ---- many at once ----


async def _call(url: str, number: int) -> dict[str, Any]:
    """One session: two text turns, each with metadata of its own; everything that came."""
    ids: Counter[str] = Counter()
    path = (
        "/openai/v1/realtime?model=test"
        if number % 2
        else "/openai/realtime?api-version=2025-04-01-preview&deployment=test"
    )
    async with connect(url + path, compression=None, max_size=None, proxy=None, open_timeout=WAIT_S) as socket:
        created = json.loads(await socket.recv())
        session_id = created["session"]["id"]
        responses = []
        for turn in range(2):
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"{number} {turn}"}]}
            await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
            response = {"metadata": {"caller": f"{number}.{turn}"}}
            await socket.send(json.dumps({"type": "response.create", "response": response}))
            async for frame in socket:
                event = json.loads(frame)
                ids[event["event_id"]] += 1
                if event["type"] == "response.done":
                    responses.append(event["response"])
                    break
        return {"session": session_id, "events": ids, "responses": responses}


async def _calls(url: str, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(_call(url, number)) for number in range(count)]
    return [task.result() for task in tasks]


def test_parallel_sessions_keep_to_themselves(quick):
    calls = asyncio.run(_calls(quick.url, 60))
    assert len({call["session"] for call in calls}) == 60
    events = sum((call["events"] for call in calls), Counter())
    assert max(events.values()) == 1
    for number, call in enumerate(calls):
        assert [response["metadata"]["caller"] for response in call["responses"]] == [f"{number}.0", f"{number}.1"]
        assert {response["status"] for response in call["responses"]} == {"completed"}
    assert len({response["id"] for call in calls for response in call["responses"]}) == 120
    assert len({response["conversation_id"] for call in calls for response in call["responses"]}) == 60


async def _silent_reader(url: str) -> None:
    """A client that asks for a lot and reads nothing must not hold up another."""
    path = "/openai/v1/realtime?model=test"
    async with (
        # Closing waits for frames that this client never reads, so not for long.
        connect(url + path, compression=None, proxy=None, max_queue=1, open_timeout=WAIT_S, close_timeout=0.1) as lazy,
        connect(url + path, compression=None, proxy=None, max_size=None, open_timeout=WAIT_S) as busy,
    ):
        for _ in range(16):
            await lazy.send(json.dumps({"type": "response.create", "response": {"conversation": "none"}}))
        await busy.send(json.dumps({"type": "response.create"}))
        async with asyncio.timeout(WAIT_S):
            while json.loads(await busy.recv())["type"] != "response.done":
                pass
            done = 0
            while done < 16:
                done += json.loads(await lazy.recv())["type"] == "response.done"


def test_a_client_that_does_not_read_holds_up_nobody(quick):
    asyncio.run(_silent_reader(quick.url))


def test_a_fragmented_frame_is_one_event(quick, dial):
    with dial(quick.url) as line:
        line.until("session.created")
        line.update(detection=None)
        audio = pybase64.b64encode_as_string(PCM16.silence * 24_000)
        whole = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
        line.socket.send([whole[:10], whole[10:30_000], whole[30_000:]])
        line.say("input_audio_buffer.commit")
        assert line.until("input_audio_buffer.committed", "error")["type"] == "input_audio_buffer.committed"
