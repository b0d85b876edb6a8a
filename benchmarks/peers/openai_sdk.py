"""The vendor's own client: the async realtime connection of the ``openai`` SDK, used as its documentation shows."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Callable
from typing import Any

import traffic
from openai import AsyncOpenAI

PCM = random.Random(2).randbytes(100 * traffic.PCM_BYTES_PER_MS)


class Call:
    """One session."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.ready = asyncio.Event()
        self.turn: traffic.Turn | None = None

    async def listen(self) -> None:
        """Note what comes, until the connection ends."""
        async for event in self.connection:
            at_ns = time.perf_counter_ns()
            turn = self.turn
            match event.type:
                case "session.updated":
                    self.ready.set()
                case "response.output_audio.delta" if turn is not None:
                    turn.heard(at_ns, event.delta)
                case "response.created" if turn is not None:
                    turn.response_id = event.response.id
                case "response.done" if turn is not None:
                    turn.done.set()

    async def speak(self, job: traffic.Job, turn: traffic.Turn) -> None:
        """The user's side of a turn."""
        connection = self.connection
        for frame in range(job.frames):
            lag_ns = await traffic.reach(turn.started_ns + (frame + 1) * job.frame_ms * 1_000_000)
            turn.lag_us.append(lag_ns // 1000)
            await connection.input_audio_buffer.append(audio=base64.b64encode(PCM).decode())
        turn.create_ns = time.perf_counter_ns()
        if job.frames:
            await connection.input_audio_buffer.commit()
        else:
            content = [{"type": "input_text", "text": "Say something."}]
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.response.create()


def holder(client: AsyncOpenAI) -> Callable[..., Any]:
    """What holds one session with a client that all of them share."""

    async def hold(job: traffic.Job, window: traffic.Window, number: int, write: Callable[[str], Any]) -> None:
        async with client.realtime.connect(model="bare") as connection:
            call = Call(connection)
            listening = asyncio.create_task(call.listen())
            await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
            await call.ready.wait()
            for position in range(job.turns):
                if time.perf_counter_ns() > window.until_ns:
                    break
                call.turn = traffic.Turn(number, position)
                await call.speak(job, call.turn)
                await call.turn.done.wait()
                write(call.turn.row())
        await listening

    return hold


if __name__ == "__main__":
    asked = traffic.start()
    address = asked.url.rpartition("/realtime")[0]
    sdk = AsyncOpenAI(api_key="none", base_url=address.replace("ws:", "http:"), websocket_base_url=address)
    traffic.hold_all(holder(sdk), asked)
