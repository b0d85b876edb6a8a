"""However a session ends, it ends in time, says how, leaves every row once and keeps no socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from rteval.client.session import TimeoutsS

from .conftest import VAD
from .scripted import answer, get_ready, heard, serving, tell

Patiently = Callable[[Callable[[], bool]], Awaitable[None]]


async def _stop_reading(connection: ServerConnection) -> None:
    """As a frozen peer: nothing is taken off the socket any more, until the kernel's buffers are full."""
    await get_ready(connection)
    connection.transport.pause_reading()
    await connection.wait_closed()


@pytest.mark.parametrize("mode", ["vad", "manual"])
def test_a_target_that_stops_reading_ends_the_turn_by_timeout(mode: str, desk: Any) -> None:
    async def hold() -> None:
        async with serving(_stop_reading) as url:
            settings = {"turn_detection": VAD} if mode == "vad" else {}
            maker = desk(url, settings=settings, timeouts=TimeoutsS(response=0.5, close=0.2))
            # Frames so long that a few of them fill every buffer between us and the server.
            item = maker.item("yes-correct")
            speech = maker.caller.frames.encode(item)
            frame = speech.frames[0][:-2] + b"A" * 8_000_000 + b'"}'
            object.__setattr__(speech, "frames", (frame,) * 4)
            object.__setattr__(speech, "voiced_frames", 4)
            maker.caller.frames._keep(item.id, speech)
            async with asyncio.timeout(20):
                await maker.session([item, item]).run()
            row = maker.rows.turns[0]
            assert (row.outcome, row.failure_stage, row.error_code) == ("timeout", "speak", "send_blocked")
            assert row.backpressure_ms >= 500
            assert maker.caller.board.sessions_open == 0

    asyncio.run(hold())


def test_a_target_that_says_goodbye_and_keeps_the_socket_has_dropped_the_session(
    desk: Any, patiently: Patiently
) -> None:
    """The close frame is the end; whether TCP follows is the target's affair."""

    async def goodbye(connection: ServerConnection) -> None:
        await get_ready(connection)
        await heard(connection, "response.create")
        connection.protocol.send_close(1011, "busy")
        for data in connection.protocol.data_to_send():
            connection.transport.write(data)
        await connection.wait_closed()

    async def hold() -> None:
        async with serving(goodbye) as url:
            maker = desk(url)
            session = maker.session([maker.text()])
            await session.run()
            (row,), (record,) = maker.rows.turns, maker.rows.sessions
            assert (row.outcome, row.error_code, row.error_message) == ("dropped", "close_1011", "busy")
            assert (record.drop, record.close_code, record.close_reason) == (True, 1011, "busy")
            await patiently(lambda: session._transport._connection.protocol.state is State.CLOSED)

    asyncio.run(hold())


@pytest.mark.parametrize("moment", ["settling", "closing"])
def test_a_session_cut_at_its_end_loses_no_turn_that_it_would_have_handed_over(
    moment: str, desk: Any, patiently: Patiently
) -> None:
    """Its leftover has no taker any more once it is cut."""
    let_go = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        await get_ready(connection)
        await heard(connection, "response.create")
        await tell(connection, "input_audio_buffer.committed", item_id="item_1")
        await answer(connection, "resp_1")
        if moment == "closing":
            connection.transport.pause_reading()
            await let_go.wait()
            connection.transport.resume_reading()
        await connection.wait_closed()

    async def hold() -> None:
        async with serving(talk) as url:
            settings = {"transcription": {"model": "whisper-1"}}
            maker = desk(url, settings=settings, max_session_s=0.0, timeouts=TimeoutsS(transcription=60, close=60))
            items = [maker.item("yes-correct") if moment == "settling" else maker.text("One?"), maker.text("Two?")]
            session = maker.session(items)
            task = asyncio.create_task(session.run())
            if moment == "settling":
                await patiently(lambda: any(turn.machine.answered for turn in session._live))
            else:
                await patiently(lambda: session._closing)
            for _ in range(5):
                await asyncio.sleep(0)  # the session comes to wait again
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            let_go.set()
            assert [row.item for row in maker.rows.turns] == [item.id for item in items]
            assert maker.rows.turns[1].outcome == "cut"
            assert maker.rows.sessions[0].turns == 2

    asyncio.run(hold())


def test_a_session_cut_while_it_connects_leaves_its_rows_and_no_socket(desk: Any, patiently: Patiently) -> None:
    async def hold() -> None:
        accepted: list[asyncio.StreamReader] = []

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(reader)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            maker = desk(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            task = asyncio.create_task(maker.session([maker.text("One?"), maker.text("Two?")]).run())
            await patiently(lambda: len(accepted) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await patiently(lambda: accepted[0].at_eof())
        assert [row.outcome for row in maker.rows.turns] == ["cut", "cut"]
        assert maker.rows.sessions[0].outcome == "cut"
        assert maker.caller.board.sessions_open == 0

    asyncio.run(hold())


def test_a_connection_that_ends_with_its_101_is_a_row_and_no_word_in_the_log(
    desk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in request.splitlines() if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\x88\x02\x03\xf3"
        )
        writer.close()

    async def hold() -> None:
        server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
        async with server:
            maker = desk(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await maker.session([maker.text()]).run()
        (row,) = maker.rows.turns
        assert (row.outcome, row.failure_stage, row.error_code) == ("refused", "session", "close_1011")

    asyncio.run(hold())
    assert caplog.records == []
