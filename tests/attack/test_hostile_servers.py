"""Servers that speak no protocol, or a spiteful one: rows and sentences, never a bug."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from websockets.sync.server import ServerConnection, serve

EVIL = "\x1b[31mred\x07 </script><script>alert(1)</script> | `x` \u202e"


def say(text: str) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(text.encode())

    return answer


HTTP = [
    pytest.param(lambda connection: None, "closed the connection during the handshake", id="closes at once"),
    pytest.param(say("SSH-2.0-x\r\n"), "closed the connection during the handshake", id="another protocol"),
    pytest.param(
        say("HTTP/1.1 302 Found\r\nLocation: http://[::1/x\r\nContent-Length: 0\r\n\r\n"),
        "redirected us to what is no address",
        id="redirects nowhere",
    ),
    pytest.param(
        say("HTTP/1.1 429 Slow\r\nRetry-After: 1e999\r\nContent-Length: 0\r\n\r\n"),
        "out of quota (HTTP 429)",
        id="for ever",
    ),
]


def custom(rteval: Any, url: str, *more: str) -> Any:
    sets = ["target.provider=custom", f"target.url={url}", "target.timeouts={connect_s: 20, response_s: 20}", *more]
    return rteval("run", "s.yaml", "--no-progress", *(word for entry in sets for word in ("--set", entry)))


@pytest.mark.parametrize(("answer", "sentence"), HTTP)
def test_no_websocket_is_a_refusal(answer: Any, sentence: str, rteval: Any, listener: Any) -> None:
    result = custom(rteval, f"ws://127.0.0.1:{listener(answer)}/")
    assert result.exit_code == 3, result.stderr
    assert sentence in result.stderr


def test_a_proxy_that_is_not_there_is_named(rteval: Any) -> None:
    result = custom(rteval, "ws://127.0.0.1:1/", "target.proxy=http://127.0.0.1:1")
    assert result.exit_code == 3
    assert "the proxy cannot be reached" in result.stderr


def frame(kind: str, **more: Any) -> str:
    return json.dumps({"type": kind, "event_id": "e", **more})


@pytest.fixture
def talker() -> Any:
    """Runs a WebSocket server that hands each connection to a function, for as long as the test lasts."""
    servers: list[Any] = []

    def start(talk: Callable[[ServerConnection], None]) -> str:
        server = serve(talk, "127.0.0.1", 0, compression=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"

    yield start
    for server in servers:
        server.shutdown()


def test_a_refusal_cannot_command_the_terminal_nor_leave_its_place_in_a_report(rteval: Any, talker: Any) -> None:
    def talk(server: ServerConnection) -> None:
        server.send(
            frame("error", error={"type": EVIL, "code": EVIL, "message": f"{EVIL} sk-abcdefghijklmnop0123456789"})
        )
        server.recv(timeout=20)

    result = custom(rteval, talker(talk))
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr
    assert r"\x1b[31mred\x07" in result.stderr
    folder = Path(result.stdout.strip())
    for name in ("summary.md", "junit.xml", "report.html"):
        assert "</script><script>alert" not in (folder / name).read_text(), name
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert b"sk-abcdefgh" not in path.read_bytes(), path


def test_half_a_character_and_nan_cost_no_turn(rteval: Any, talker: Any) -> None:
    """As servers write them that cut text in UTF-16, or dump floats without looking."""

    def talk(server: ServerConnection) -> None:
        session = {"id": "sess", "object": "realtime.session", "type": "realtime", "model": "m"}
        server.send(frame("session.created", session=session))
        while (asked := json.loads(server.recv(timeout=20)))["type"] != "response.create":
            if asked["type"] == "session.update":
                server.send(frame("session.updated", session=session | asked["session"]))
        server.send('{"type": "response.created", "response": {"id": "r", "temperature": NaN}}')
        ids = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
        server.send(frame("response.output_audio_transcript.delta", **ids, delta="well \ud83d"))
        server.send(frame("response.output_audio.delta", **ids, delta="AAAA"))
        server.send(frame("response.output_audio_transcript.done", **ids, transcript="well \ud83d"))
        server.send('{"type": "response.done", "response": {"id": "r", "status": "completed", "x": Infinity}}')
        server.recv(timeout=20)

    before_s = time.monotonic()
    result = custom(rteval, talker(talk), "session.transcription=null")
    assert result.exit_code == 0, result.stderr
    assert time.monotonic() - before_s < 20, "a frame was not understood"
    (turn,) = pd.read_parquet(Path(result.stdout.strip()) / "turns.parquet").itertuples()
    assert turn.output_transcript.startswith("well ")
