"""A raw client for the simulated service, the service itself, and a dataset whose audio is real speech."""

from __future__ import annotations

import base64
import json
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from rteval.formats import PCM16
from rteval.simulator.process import Simulator
from rteval.simulator.voice import speak

WAIT_S = 10.0
REFERENCES = {
    "order": "I would like to know where my order is please",
    "refund": "My parcel was damaged and I want a refund for it today",
}

STORY = "Tell me a long story."

Event = dict[str, Any]


@dataclass
class Line:
    """One raw connection in one dialect; ``log`` holds every event that came."""

    socket: ClientConnection
    dialect: str
    log: list[Event] = field(default_factory=list)

    @property
    def ga(self) -> bool:
        return self.dialect == "ga"

    def name(self, ga_name: str) -> str:
        """The event name that this dialect has for a GA one."""
        if self.ga:
            return ga_name
        if ga_name == "conversation.item.added":
            return "conversation.item.created"
        return ga_name.replace("response.output_text", "response.text").replace(
            "response.output_audio", "response.audio"
        )

    def say(self, type_: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": type_, **fields}))

    def hear(self, timeout: float = WAIT_S) -> Event:
        event: Event = json.loads(self.socket.recv(timeout))
        self.log.append(event)
        return event

    def until(self, *types: str) -> Event:
        """Read up to the first event of one of the types (GA names)."""
        wanted = {self.name(type_) for type_ in types}
        while (event := self.hear())["type"] not in wanted:
            pass
        return event

    def here(self) -> list[Event]:
        """Everything that the server says before it answers a bad request: a fence."""
        start = len(self.log)
        self.say("fence", event_id="fence")
        while True:
            event = self.hear()
            if event["type"] == "error" and event["error"]["event_id"] == "fence":
                return self.log[start:-1]

    def types(self) -> list[str]:
        return [event["type"] for event in self.log]

    def update(self, **settings: Any) -> Event:
        """Change settings, given in GA's words; the answer."""
        self.say("session.update", session=self.session(**settings))
        return self.until("session.updated", "error")

    def session(
        self,
        *,
        modalities: Sequence[str] | None = None,
        detection: Any = "keep",
        transcription: Any = "keep",
        fmt: str | None = None,
        **plain: Any,
    ) -> dict[str, Any]:
        if not self.ga:
            session = dict(plain)
            if "max_output_tokens" in session:
                session["max_response_output_tokens"] = session.pop("max_output_tokens")
            if modalities:
                session["modalities"] = list(modalities)
            if detection != "keep":
                session["turn_detection"] = detection
            if transcription != "keep":
                session["input_audio_transcription"] = transcription
            if fmt:
                session |= {"input_audio_format": fmt, "output_audio_format": fmt}
            return session
        into: dict[str, Any] = {}
        out: dict[str, Any] = {}
        if detection != "keep":
            into["turn_detection"] = detection
        if transcription != "keep":
            into["transcription"] = transcription
        if fmt:
            wire = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}[fmt]
            into["format"] = {"type": wire}
            out["format"] = {"type": wire}
        session = {"type": "realtime", **plain}
        if modalities:
            session["output_modalities"] = ["audio"] if "audio" in modalities else ["text"]
        if into or out:
            session["audio"] = {key: value for key, value in (("input", into), ("output", out)) if value}
        return session

    def text(self, text: str = "Hello there", **fields: Any) -> None:
        """Put a user message into the conversation."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **fields}
        self.say("conversation.item.create", item=item)

    def append(self, audio: bytes) -> None:
        self.say("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    def answer(self, **response: Any) -> Event:
        """Ask for a response and read to its end."""
        self.say("response.create", **({"response": response} if response else {}))
        return self.until("response.done")["response"]

    def of(self, response_id: str) -> list[Event]:
        """The logged events of one response, its first and last included."""
        return [
            event
            for event in self.log
            if event.get("response_id") == response_id or event.get("response", {}).get("id") == response_id
        ]

    def audio(self) -> bytes:
        """All answer audio so far."""
        name = self.name("response.output_audio.delta")
        return b"".join(base64.b64decode(event["delta"]) for event in self.log if event["type"] == name)


PATHS = {
    "ga": "/openai/v1/realtime?model=test",
    "preview": "/openai/realtime?api-version=2025-04-01-preview&deployment=test",
}

Dial = Callable[..., Any]


@contextmanager
def dial(
    url: str, dialect: str = "ga", *, path: str | None = None, headers: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Line]:
    target = url + (path or PATHS[dialect])
    with connect(
        target,
        additional_headers=dict(headers or {}),
        compression=None,
        max_size=None,
        proxy=None,
        close_timeout=WAIT_S,
        **options,
    ) as socket:
        yield Line(socket, dialect)


@pytest.fixture(scope="session", name="dial")
def _dial() -> Dial:
    return dial


@pytest.fixture(scope="session")
def speech() -> Callable[..., bytes]:
    """Speech of so many words, with half a second of silence before it and a second after it."""

    def make(words: int = 6, fmt: Any = PCM16, *, quiet_s: float = 1.0) -> bytes:
        said = speak(" ".join(["word"] * words), fmt)
        return fmt.silence * (fmt.rate // 2) + said + fmt.silence * round(fmt.rate * quiet_s)

    return make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings with references, and a text prompt with an expected answer."""
    folder = tmp_path_factory.mktemp("dataset")
    rows: list[dict[str, Any]] = []
    for name, reference in REFERENCES.items():
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(speak(reference, PCM16))
        rows.append({"id": name, "file_name": f"{name}.wav", "transcription": reference})
    rows[1]["expect"] = {"tool_call": {"name": "refund", "arguments": {"amount": 12}}}
    rows.append({"id": "capital", "text": "What is the capital of France?", "expect": {"answer": "It is Paris."}})
    rows.append({"id": "story", "text": STORY, "expect": {"answer": " ".join(["and so on"] * 40)}})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def recording(dataset: Path) -> Callable[[str], bytes]:
    """The pcm16 audio of an item."""

    def read(name: str) -> bytes:
        with wave.open(str(dataset / f"{name}.wav"), "rb") as file:
            return file.readframes(file.getnframes())

    return read


@pytest.fixture(scope="session")
def quick(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A server that answers at once, and lets in one key and one token."""
    behaviour = {"ttfa_ms": 20, "speed": 0, "transcription": {"delay_ms": 10}, "models": ["test", "other"]}
    truth = tmp_path_factory.mktemp("truth") / "truth.jsonl"
    with Simulator(datasets=[dataset], behaviour=behaviour, truth=truth) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def slow(dataset: Path) -> Iterator[Simulator]:
    """A server that takes its time to speak, so that it can be interrupted."""
    with Simulator(datasets=[dataset], behaviour={"ttfa_ms": 20, "speed": 5}) as simulator:
        yield simulator


@pytest.fixture(params=["ga", "preview"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def line(quick: Simulator, dialect: str) -> Iterator[Line]:
    """A connection to the quick server with turn detection off, past its greeting."""
    with dial(quick.url, dialect) as connected:
        connected.until("session.created")
        connected.update(detection=None)
        connected.log.clear()
        yield connected
