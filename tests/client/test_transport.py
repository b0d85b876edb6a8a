"""Every message is handed over once and in order, however the wire cuts the stream; what is broken ends there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from rteval.client.transport import Endpoint, Transport
from rteval.errors import ConnectionLost

TEXT, BINARY, CONT, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN = 0x80
LIMIT_S = 20.0


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, more_bits: int = 0, mask_bit: int = 0) -> bytes:
    """A frame as a server writes it (or should not)."""
    size = len(payload)
    head = bytes([(FIN if fin else 0) | more_bits | opcode])
    if size < 126:
        return head + bytes([mask_bit | size]) + payload
    if size < 65_536:
        return head + bytes([mask_bit | 126]) + size.to_bytes(2, "big") + payload
    return head + bytes([mask_bit | 127]) + size.to_bytes(8, "big") + payload


@dataclass
class Server:
    """The other end, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upgrade: bytes

    async def write(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, and the loop goes round before the next."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(3):
                await asyncio.sleep(0)

    async def hear(self) -> tuple[int, bytes]:
        """Opcode and payload of the client's next frame."""
        first, second = await self.reader.readexactly(2)
        assert first & FIN
        assert second & 0x80, "a client's frame that is not masked"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(size)
        return first & 0xF, bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


@dataclass
class Heard:
    """What the client's callbacks were told."""

    messages: list[bytes] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_frame(self, at_ns: int, message: bytes | bytearray) -> None:
        assert at_ns > 0
        assert not self.lost, "a message after the end"
        self.messages.append(bytes(message))
        self.changed.set()

    def on_lost(self, at_ns: int) -> None:
        self.lost.append(at_ns)
        self.changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.changed.clear()
            await self.changed.wait()


Act = Callable[[Server], Awaitable[None]]
Then = Callable[[Transport, Heard], Awaitable[None]]


def converse(act: Act, then: Then) -> Heard:
    """Let a server act from the request on while a client connects and does what ``then`` says."""

    async def everything() -> Heard:
        acting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = await reader.readuntil(b"\r\n\r\n")
                lines = request.decode().split("\r\n")
                key = next(line.split(": ")[1] for line in lines if line.lower().startswith("sec-websocket-key"))
                token = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
                head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                upgrade = f"{head}Sec-WebSocket-Accept: {base64.b64encode(token).decode()}\r\n\r\n".encode()
                await act(Server(reader, writer, upgrade))
                acting.set_result(None)
            except BaseException as error:
                acting.set_exception(error)
            finally:
                writer.close()

        heard = Heard()
        async with asyncio.timeout(LIMIT_S), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            endpoint = Endpoint(f"ws://127.0.0.1:{port}/")
            transport = await Transport.open(endpoint, {}, on_frame=heard.on_frame, on_lost=heard.on_lost)
            await then(transport, heard)
            await transport.close(LIMIT_S)
            await acting
        return heard

    return asyncio.run(everything())


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """``data`` in pieces of these sizes, over and over."""
    pieces, at, number = [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + sizes[number % len(sizes)]])
        at += sizes[number % len(sizes)]
        number += 1
    return pieces


SMALL = [b"", b"a", b"{}", b"x" * 125, b"y" * 126, b"z" * 300]
LARGE = [b"a" * 16_000, b"b" * 65_535, b"c" * 65_536, b"", b"d" * 200_000]
CUTS = [
    pytest.param(SMALL, [1], id="byte by byte"),
    pytest.param(SMALL, [2], id="two bytes"),
    pytest.param(SMALL, [3], id="three bytes"),
    pytest.param(SMALL, [130, 1, 1], id="near the ends of frames"),
    pytest.param(SMALL + LARGE, [1_400], id="packets"),
    pytest.param(SMALL + LARGE, [16_384], id="TLS records"),
    pytest.param(SMALL + LARGE, [1 << 20], id="all at once"),
    pytest.param(SMALL * 3, random.Random(5).choices(range(1, 200), k=40), id="at random"),
]


@pytest.mark.parametrize("glued", [False, True], ids=["after the upgrade", "with the upgrade"])
@pytest.mark.parametrize(("messages", "sizes"), CUTS)
def test_every_message_comes_once_and_in_order(messages: list[bytes], sizes: list[int], glued: bool) -> None:
    stream = b"".join(map(frame, messages))

    async def act(server: Server) -> None:
        if glued:
            await server.write(*cut(server.upgrade + stream, sizes))
        else:
            await server.write(server.upgrade)
            await server.write(*cut(stream, sizes))
        await answer_close(server)

    async def then(_: Transport, heard: Heard) -> None:
        await heard.until(lambda: len(heard.messages) == len(messages))

    assert converse(act, then).messages == messages


async def answer_close(server: Server) -> None:
    """Close in order."""
    opcode, payload = await server.hear()
    assert opcode == CLOSE
    await server.write(frame(payload, CLOSE))


MIXED = [
    pytest.param([frame(b"one "), frame(b"t", fin=False), frame(b"w", CONT, fin=False), frame(b"o", CONT)],
                 [b"one ", b"two"], id="fragments"),
    pytest.param([frame(b"", fin=False), frame(b"", CONT, fin=False), frame(b"a", CONT), frame(b"b")],
                 [b"a", b"b"], id="empty fragments"),
    pytest.param([frame(b"x", fin=False), frame(b"!", PING), frame(b"y", CONT), frame(b"z")],
                 [b"xy", b"z"], id="a ping between fragments"),
    pytest.param([frame(b"raw", BINARY), frame(b"text")], [b"raw", b"text"], id="binary"),
    pytest.param([frame(b"late", PONG), frame(b"text")], [b"text"], id="a pong that nobody asked for"),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize(("frames", "messages"), MIXED)
def test_what_is_no_whole_text_goes_through_the_library(frames: list[bytes], messages: list[bytes], size: int) -> None:
    async def act(server: Server) -> None:
        await server.write(server.upgrade, *cut(b"".join(frames), [size]))
        if frame(b"!", PING) in frames:
            assert await server.hear() == (PONG, b"!")
        await answer_close(server)

    async def then(_: Transport, heard: Heard) -> None:
        await heard.until(lambda: len(heard.messages) == len(messages))

    assert converse(act, then).messages == messages


BROKEN = [
    pytest.param(frame(b"a", mask_bit=0x80), id="masked"),
    pytest.param(frame(b"a", more_bits=0x40), id="a reserved bit"),
    pytest.param(frame(b"a", 0x3), id="an opcode that does not exist"),
    pytest.param(frame(b"a" * 126, PING), id="a long ping"),
    pytest.param(frame(b"a", PING, fin=False), id="a ping in fragments"),
    pytest.param(frame(b"a", CONT), id="a continuation of nothing"),
    pytest.param(frame(b"a", fin=False) + frame(b"b"), id="a text inside a message"),
    pytest.param(b"\xff\xff", id="half a header that cannot be right"),
]


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("broken", BROKEN)
def test_what_breaks_the_protocol_ends_the_connection_there(broken: bytes, size: int) -> None:
    behind = b"" if len(broken) == 2 else frame(b"behind")

    async def act(server: Server) -> None:
        await server.write(server.upgrade, *cut(frame(b"before") + broken + behind, [size]))
        opcode, payload = await server.hear()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1002)

    async def then(transport: Transport, heard: Heard) -> None:
        await heard.until(lambda: bool(heard.lost))
        with pytest.raises(ConnectionLost):
            transport.write(b"{}")

    assert converse(act, then).messages == [b"before"]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_nothing_counts_behind_a_close(size: int) -> None:
    codes = []

    async def act(server: Server) -> None:
        ending = frame((4_000).to_bytes(2, "big") + b"enough", CLOSE)
        await server.write(server.upgrade, *cut(frame(b"before") + ending + frame(b"behind"), [size]))
        assert (await server.hear())[0] == CLOSE

    async def then(transport: Transport, heard: Heard) -> None:
        await heard.until(lambda: bool(heard.lost))
        codes.append((transport.close_code, transport.close_reason))

    assert converse(act, then).messages == [b"before"]
    assert codes == [(4_000, "enough")]


@pytest.mark.parametrize("head", [b"\x81", b"\x81\x7e\x01", b"\x81\x05ab"], ids=["one byte", "no length", "no end"])
def test_an_end_in_the_middle_of_a_frame_is_a_lost_connection(head: bytes) -> None:
    codes = []

    async def act(server: Server) -> None:
        await server.write(server.upgrade, frame(b"whole"), head)

    async def then(transport: Transport, heard: Heard) -> None:
        await heard.until(lambda: bool(heard.lost))
        codes.append(transport.close_code)

    assert converse(act, then).messages == [b"whole"]
    assert codes == [1006]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_was_under_way_when_we_closed_still_comes(size: int) -> None:
    async def act(server: Server) -> None:
        half, rest = frame(b"under way")[:4], frame(b"under way")[4:]
        await server.write(server.upgrade, frame(b"before"), half)
        opcode, payload = await server.hear()
        assert opcode == CLOSE
        await server.write(*cut(rest + frame(b"last") + frame(payload, CLOSE), [size]))

    async def then(_: Transport, heard: Heard) -> None:
        await heard.until(lambda: bool(heard.messages))

    heard = converse(act, then)
    assert heard.messages == [b"before", b"under way", b"last"]
    assert heard.lost


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
def test_what_is_written_arrives_as_one_masked_text_frame(size: int) -> None:
    sent = random.Random(size).randbytes(size)
    arrived = []

    async def act(server: Server) -> None:
        await server.write(server.upgrade)
        arrived.append(await server.hear())
        arrived.append(await server.hear())
        await answer_close(server)

    async def then(transport: Transport, _: Heard) -> None:
        transport.write(sent)
        transport.write(b"next")
        assert await transport.unblocked(LIMIT_S)

    converse(act, then)
    assert arrived == [(TEXT, sent), (TEXT, b"next")]
