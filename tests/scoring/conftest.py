"""Runs made of records, and a chat endpoint on this machine that says what a test wants it to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rteval import audio
from rteval.records import Outcome, SessionRecord, TurnRecord
from rteval.shards import ShardWriter

T0 = 1_000_000_000_000_000
MS = 1_000_000

KEY = "canary-key-0123456789abcdef"

Answer = tuple[int, dict[str, str], Any]


PASS = {"choices": [{"message": {"role": "assistant", "content": '{"reason": "fine", "verdict": "pass"}'}}]}


@dataclass
class ChatServer:
    """What was asked, and what is answered: ``answer`` gets the number of the request and its body."""

    url: str = ""
    answer: Callable[[int, dict[str, Any]], Answer] = lambda number, body: (200, {}, PASS)
    key: str = KEY
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(headers)
            self.paths.append(path)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.answer(number, body)
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    chat = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, content = chat.take(self.path, headers, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            if status == 0:  # hang up
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            """Who asked may hang up."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield chat
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def judge_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that judges look for; and no proxy between this machine and itself."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def turn(number: int = 0, *, session: str | None = None, **over: Any) -> TurnRecord:
    values: dict[str, Any] = {
        "run_id": "r1",
        "worker": "w0",
        "session": session or f"s{number}",
        "turn": 0 if session is None else number,
        "item": f"item-{number}",
        "modality": "audio",
        "dialect": "ga",
        "outcome": Outcome.OK,
        "due_ns": T0,
        "started_ns": T0 + number,
        "speech_end_ns": T0 + 500 * MS,
        "response_done_ns": T0 + 900 * MS,
        "output_rate_bytes_per_s": 48_000,
        "language": "en",
        "reference": f"What is the number of order {number}?",
        "output_transcript": f"Your order number is {number}.",
    }
    return TurnRecord(**{**values, **over})


MakeRun = Callable[..., Path]


@pytest.fixture
def make_turn() -> Callable[..., TurnRecord]:
    return turn


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder as the live half leaves it."""

    def make(turns: Iterable[TurnRecord], *, scorers: Any = None, **over: Any) -> Path:
        turns = list(turns)
        folder = tmp_path / "reports" / "support" / "r1"
        folder.mkdir(parents=True)
        run = {
            "schema_version": 1,
            "run_id": "r1",
            "scenario": {"name": "support", "path": "s.yaml", "hash": "h", "resolved": {}},
            "labels": {},
            "target": {"provider": "simulator", "dialect": "ga", "address": "ws://127.0.0.1:1", "model": "m"},
            "dataset": {"path": "d", "name": "d", "hash": "h", "items": len(turns), "references": len(turns)},
            "planned": {"turns": len(turns), "sessions": 1, "sessions_at_once": 1},
            "gates": [],
            "checks": [],
            "scoring": {"normalizer": "whisper_english", "wer": True, "scorers": scorers or {}},
            "slo": {},
            "limits": {"send_lag_ms": 20.0, "loop_lag_ms": 20.0},
            "report": {"formats": [], "audio": "all", "transcripts": "full"},
            "versions": {"rteval": "0.1.0", "metrics": 1},
            "started_at": "2025-01-01T00:00:00+00:00",
            "ended_at": None,
            "started_ns": T0,
            "ended_ns": T0 + 2000 * MS,
            "state": "running",
            "end": {"reason": "finished", "detail": None},
            "live": {"sessions_peak": None, "warnings": []},
        }
        (folder / "run.json").write_text(json.dumps({**run, **over}), encoding="utf-8")
        sessions = dict.fromkeys(one.session for one in turns)
        with ShardWriter(folder, "w0") as writer:
            for one in turns:
                writer.turn(one)
            for name in sessions:
                writer.session(
                    SessionRecord(
                        run_id="r1", worker="w0", session=name, dialect="ga", turns=1, outcome="ready", ready_ns=T0
                    )
                )
        return folder

    return make


@pytest.fixture
def keep_answer() -> Callable[..., Path]:
    """Writes a turn's answer into a run folder's ``audio/``, as the live half does."""

    def keep(folder: Path, session: str, samples: Any, *, turn: int = 0, rate: int = 24_000) -> Path:
        path = folder / "audio" / f"{session}-{turn}.wav"
        path.parent.mkdir(exist_ok=True)
        audio.write_wav(path, np.asarray(samples, dtype=np.float32), rate)
        return path

    return keep
