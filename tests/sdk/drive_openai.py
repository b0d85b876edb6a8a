"""Conversations by the vendor's own SDK; runs in a virtual environment that has openai and nothing of rteval.

Reads one JSON object from standard input: ``client``, ``api``, ``wire``, ``websocket_base_url``, ``key``, ``pcm_file``
(24 kHz, mono, 16 bit). Holds three conversations at once: a text prompt, audio with a manual commit, audio with server
VAD. Writes for each what was heard, and every server event that the SDK's own models do not accept.
"""

import asyncio
import base64
import importlib
import json
import pathlib
import sys
import typing

import pydantic
from openai import AsyncAzureOpenAI, AsyncOpenAI

CHUNK_BYTES = 4800
SILENCE = bytes(48000 * 3 // 2)
LIMIT_S = 60
PROMPTS = ("text", "manual", "vad")
# The models of a dialect's session name the models of their day and accept no others.
MODELS = {"preview": "gpt-4o-realtime-preview", "ga": "gpt-realtime"}


def models_of(wire):
    """Event type -> the SDK's model of it, for the dialect on the wire."""
    package = "openai.types.beta.realtime" if wire == "preview" else "openai.types.realtime"
    union = importlib.import_module(f"{package}.realtime_server_event").RealtimeServerEvent
    members = typing.get_args(typing.get_args(union)[0])
    return {name: model for model in members for name in typing.get_args(model.model_fields["type"].annotation)}


class Listener:
    """Takes the connection's frames, checks each against the SDK's models, and remembers what was said."""

    def __init__(self, connection, wire):
        self.connection = connection
        self.models = models_of(wire)
        self.types = []
        self.problems = []
        self.heard = ""
        self.answer = ""
        self.text = ""
        self.audio_bytes = 0
        self.status = None

    async def next(self):
        data = await self.connection.recv_bytes()
        document = json.loads(data)
        kind = document["type"]
        self.types.append(kind)
        self.check(kind, data)
        event = self.connection.parse_event(data)
        if event.type != kind:
            self.problems.append(f"{kind}: parsed as {event.type}")
        if kind.endswith("audio.delta"):
            self.audio_bytes += len(base64.b64decode(event.delta))
        elif kind.endswith("audio_transcript.delta"):
            self.answer += event.delta
        elif kind.endswith("text.delta"):
            self.text += event.delta
        elif kind == "conversation.item.input_audio_transcription.completed":
            self.heard = event.transcript
        elif kind == "response.done":
            self.status = event.response.status
        return kind

    def check(self, kind, data):
        model = self.models.get(kind)
        if model is None:
            self.problems.append(f"{kind}: the SDK has no model of it")
            return
        try:
            pydantic.TypeAdapter(model).validate_json(data, strict=True)
        except pydantic.ValidationError as error:
            for fault in error.errors()[:5]:
                self.problems.append(f"{kind}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}")

    async def until(self, *wanted):
        missing = set(wanted)
        while missing:
            missing.discard(await self.next())


def session_of(wire, prompt):
    vad = {"type": "server_vad", "silence_duration_ms": 500} if prompt == "vad" else None
    transcription = None if prompt == "text" else {"model": "whisper-1"}
    if wire == "preview":
        return {
            "modalities": ["text", "audio"],
            "turn_detection": vad,
            "input_audio_transcription": transcription,
        }
    return {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": {"turn_detection": vad, "transcription": transcription}},
    }


async def converse(connection, wire, prompt, pcm):
    listener = Listener(connection, wire)
    await listener.until("session.created")
    await connection.session.update(session=session_of(wire, prompt))
    await listener.until("session.updated")
    if prompt == "text":
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Please say hello."}]}
        await connection.conversation.item.create(item=item)
        await connection.response.create()
        await listener.until("response.done")
        return listener
    audio = pcm if prompt == "manual" else pcm + SILENCE
    for start in range(0, len(audio), CHUNK_BYTES):
        await connection.input_audio_buffer.append(audio=base64.b64encode(audio[start : start + CHUNK_BYTES]).decode())
    if prompt == "manual":
        await connection.input_audio_buffer.commit()
        await connection.response.create()
    await listener.until("response.done", "conversation.item.input_audio_transcription.completed")
    return listener


def client_of(surface):
    if surface["client"] == "azure":
        return AsyncAzureOpenAI(
            api_key=surface["key"],
            api_version="2025-04-01-preview",
            azure_endpoint="https://unused.invalid",
            websocket_base_url=surface["websocket_base_url"],
        )
    return AsyncOpenAI(
        api_key=surface["key"], base_url="https://unused.invalid/v1", websocket_base_url=surface["websocket_base_url"]
    )


async def outcome_of(realtime, wire, prompt, pcm):
    async with realtime.connect(model=MODELS[wire]) as connection:
        listener = await converse(connection, wire, prompt, pcm)
    names = ("types", "problems", "heard", "answer", "text", "audio_bytes", "status")
    return {name: getattr(listener, name) for name in names}


async def main(surface, pcm):
    client = client_of(surface)
    realtime = client.beta.realtime if surface["api"] == "beta" else client.realtime
    async with asyncio.timeout(LIMIT_S):
        outcomes = await asyncio.gather(*(outcome_of(realtime, surface["wire"], prompt, pcm) for prompt in PROMPTS))
    await client.close()
    json.dump(dict(zip(PROMPTS, outcomes, strict=True)), sys.stdout)


if __name__ == "__main__":
    surface = json.load(sys.stdin)
    asyncio.run(main(surface, pathlib.Path(surface["pcm_file"]).read_bytes()))
