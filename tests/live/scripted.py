"""Servers on loopback that do exactly what a test says, also what no well-behaved one would."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

Talk = Callable[[ServerConnection], Awaitable[None]]


async def get_ready(connection: ServerConnection, **session: Any) -> None:
    """Create the session and acknowledge its settings."""
    await tell(connection, "session.created", session={"id": "sess_1", **session})
    await heard(connection, "session.update")
    await tell(connection, "session.updated", session={"id": "sess_1", **session})


async def tell(connection: ServerConnection, kind: str, **body: Any) -> None:
    await connection.send(json.dumps({"type": kind, **body}))


async def heard(connection: ServerConnection, kind: str) -> dict[str, Any]:
    """The next request of that kind; others are passed over."""
    async for message in connection:
        body: dict[str, Any] = json.loads(message)
        if body["type"] == kind:
            return body
    raise ConnectionError("the client went away")


async def say(connection: ServerConnection, response_id: str, ms: int = 20) -> None:
    """One delta of loud audio."""
    audio = base64.b64encode(b"\x00\x40" * (24 * ms)).decode()
    await tell(connection, "response.output_audio.delta", response_id=response_id, item_id="item_a", delta=audio)


async def answer(connection: ServerConnection, response_id: str, ms: int = 20) -> None:
    """A whole response."""
    await tell(connection, "response.created", response={"id": response_id, "status": "in_progress"})
    await say(connection, response_id, ms)
    await done(connection, response_id)


async def done(connection: ServerConnection, response_id: str) -> None:
    await tell(connection, "response.done", response={"id": response_id, "status": "completed", "output": []})


@asynccontextmanager
async def serving(talk: Talk, **options: Any) -> AsyncIterator[str]:
    """A WebSocket server that talks so with each client; gives its ``ws://`` address."""

    async def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            await talk(connection)

    async with serve(handle, "127.0.0.1", 0, close_timeout=1, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"
