"""The peer that anyone would write: ``websockets`` with its defaults, ``json``, the stock event loop."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Callable
from typing import Any

import traffic
from websockets.asyncio.client import ClientConnection, connect

PCM = random.Random(2).randbytes(100 * traffic.PCM_BYTES_PER_MS)


class Call:
    """One session."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.ready = asyncio.Event()
        self.turn: traffic.Turn | None = None

    async def send(self, kind: str, **fields: Any) -> None:
        """One request."""
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def listen(self) -> None:
        """Note what comes, until the connection ends."""
        async for message in self.socket:
            at_ns = time.perf_counter_ns()
            event = json.loads(message)
            kind = event["type"]
            turn = self.turn
            if kind == "session.updated":
                self.ready.set()
            elif turn is None:
                continue
            elif kind == "response.output_audio.delta":
                turn.heard(at_ns, event["delta"])
            elif kind == "response.created":
                turn.response_id = event["response"]["id"]
            elif kind == "response.done":
                turn.done.set()

    async def speak(self, job: traffic.Job, turn: traffic.Turn) -> None:
        """The user's side of a turn."""
        for frame in range(job.frames):
            lag_ns = await traffic.reach(turn.started_ns + (frame + 1) * job.frame_ms * 1_000_000)
            turn.lag_us.append(lag_ns // 1000)
            await self.send("input_audio_buffer.append", audio=base64.b64encode(PCM).decode())
        turn.create_ns = time.perf_counter_ns()
        if job.frames:
            await self.send("input_audio_buffer.commit")
        else:
            content = [{"type": "input_text", "text": "Say something."}]
            await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.send("response.create")


async def hold(job: traffic.Job, window: traffic.Window, number: int, write: Callable[[str], Any]) -> None:
    """One session with its turns."""
    async with connect(job.url, additional_headers={"Authorization": "Bearer none"}) as socket:
        call = Call(socket)
        listening = asyncio.create_task(call.listen())
        await call.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        await call.ready.wait()
        for position in range(job.turns):
            if time.perf_counter_ns() > window.until_ns:
                break
            call.turn = traffic.Turn(number, position)
            await call.speak(job, call.turn)
            await call.turn.done.wait()
            write(call.turn.row())
    await listening


if __name__ == "__main__":
    traffic.hold_all(hold, traffic.start())
