"""The WebSocket: opens it, stamps and hands over what arrives, writes frames; the only address of ``websockets``.

A frame is stamped by the read that completed it, before anything is decoded, and handed over inside that read: no
queue and no task switch lie between the socket and the stamp.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from .. import __version__
from ..errors import ConnectionLost, HandshakeError, ScenarioError

__all__ = ["Endpoint", "Transport", "speedups_missing"]

OnFrame = Callable[[int, bytes | bytearray], None]
OnLost = Callable[[int], None]

# A busy event loop must not close healthy sockets with 1011: the library's own default of 20 s has done so under load.
_PING_TIMEOUT_S = 120.0
_MAX_REQUEST_ID = 200

# Python 3.11 runs code of its own to look up a member of an enumeration; this one is looked up with every frame.
_OPEN = State.OPEN
_WHOLE_TEXT = 0x81
_MIDDLING_TEXT = b"\x81\x7e"
# Whole text, binary, close, ping and pong; the parts of a message in fragments. Others break the protocol.
_FRAME_STARTS = frozenset({_WHOLE_TEXT, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x02, 0x00, 0x80})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect and how.

    Attributes:
        url: ``ws://`` or ``wss://`` address with its query.
        headers: sent with the upgrade, beside the credential's.
        ca_file: PEM file of the authority that signed the target's certificate; ``None`` is the system's.
        proxy: address of an HTTP or SOCKS proxy; ``None`` is none.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str | None = None
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Host and port, without anything that may be secret."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def secure(self) -> bool:
        """Whether TLS is used."""
        return self.url.startswith("wss:")

    def check(self) -> None:
        """Find out what can be known without connecting, and load the certificates while nothing is measured yet.

        Raises:
            ScenarioError: the CA file holds no certificate, or nothing here speaks to such a proxy.
        """
        try:
            if self.secure or self.ca_file is not None:
                _tls(self.ca_file)
        except OSError as error:
            raise ScenarioError(f"target.ca_file: {self.ca_file} holds no PEM certificate") from error
        if self.proxy is not None and self.proxy.startswith("socks") and find_spec("python_socks") is None:
            raise ScenarioError(
                "target.proxy: a SOCKS proxy needs one more package", hint="pip install 'python-socks[asyncio]'"
            )


class _StampedConnection(ClientConnection):
    """A connection that hands text messages over inside the read that brought them.

    It cuts the stream into frames itself: a whole text message, and there is hardly anything else, goes straight to
    ``on_frame``. Every other frame goes to the library, which answers pings, joins fragments, closes, and fails what
    breaks the protocol; as long as the connection is open, it is never given less than a frame.
    """

    def __init__(self, *args: Any, on_frame: OnFrame, on_lost: OnLost, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Until 17.1 the library's (and its keepalive) held the connection, and the connection it: none was freed before
        # the collector looked.
        self.protocol.logger = self.logger = logging.getLogger("websockets.client")
        self.read_ns = 0
        self.upgraded_ns: int | None = None
        self.closing = False
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._parts: list[bytes] = []
        self._head: bytearray | None = bytearray()
        self._rest = bytearray()
        self._awaited = 0

    def data_received(self, data: bytes) -> None:
        self.read_ns = time.perf_counter_ns()
        if self._head is not None:
            data = self._take_head(self._head, data)
        elif (
            # By far the most reads bring one whole text message of a middling length, and nothing else.
            data[:2] == _MIDDLING_TEXT
            and len(data) > 3
            and len(data) - 4 == data[2] << 8 | data[3]
            and not self._rest
            and not self._parts
            and self.protocol.state is _OPEN
        ):
            self._on_frame(self.read_ns, data[4:])
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._awaited and self.protocol.state is _OPEN:
                return
            data, self._rest = bytes(self._rest), bytearray()
        if data:
            self._take_frames(data)

    def _take_head(self, head: bytearray, data: bytes) -> bytes:
        """Give the library the answer to the upgrade, and return what followed it in the same read."""
        seen = len(head)
        head += data
        end = head.find(b"\r\n\r\n", max(0, seen - 3)) + 4
        if end < 4:
            self._let_library(data)
            return b""
        self._head = None
        self._let_library(data[: end - seen])
        return data[end - seen :]

    def _take_frames(self, data: bytes) -> None:
        at, size = 0, len(data)
        is_open = self.protocol.state is _OPEN
        while is_open and at < size:
            start = end = at + 2
            if start <= size:
                length = data[at + 1]
                if data[at] not in _FRAME_STARTS or length > 127:  # with the bit of a mask, which no server may set
                    break
                if length >= 126:
                    start = end = at + (4 if length == 126 else 10)
                    length = int.from_bytes(data[at + 2 : start], "big")
                if start <= size:
                    end += length
            if end > size:
                self._rest += data[at:]
                self._awaited = end - at
                return
            if data[at] == _WHOLE_TEXT and not self._parts:
                self._on_frame(self.read_ns, data[start:end])
            else:
                self._let_library(data[at:end])
                is_open = self.protocol.state is _OPEN
            at = end
        if at < size:
            self._let_library(data[at:])

    def _let_library(self, data: bytes) -> None:
        super().data_received(data)
        # A close frame (or a broken one) ends the session now; when TCP ends is up to the target.
        if self.protocol.state is State.CLOSING and not self.closing:
            self._on_lost(self.read_ns)

    def process_event(self, event: Any) -> None:
        if self.response is None:
            self.upgraded_ns = self.read_ns
            super().process_event(event)
            return
        frame: Frame = event
        if frame.opcode in (Opcode.TEXT, Opcode.CONT, Opcode.BINARY):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message, self._parts = b"".join(self._parts), []
                self._on_frame(self.read_ns, message)
        else:
            super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.keepalive_task = None
        self._on_lost(time.perf_counter_ns())

    def forget(self) -> None:
        """Tell nobody anything any more."""
        self._on_frame = self._on_lost = _nobody


def _nobody(*_: object) -> None:
    """Hears of a connection whose session ended."""


class _Connect(connect):
    """Does not follow redirects: the credential is not for whoever is named there."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Transport:
    """One open WebSocket.

    Attributes:
        connected_ns: when the 101 arrived.
        request_id: the target's id of the handshake, for its support.
    """

    def __init__(self, connection: _StampedConnection) -> None:
        self._connection = connection
        self.connected_ns = connection.upgraded_ns
        headers = connection.response.headers if connection.response is not None else {}
        request_id = headers.get("apim-request-id") or headers.get("x-request-id")
        self.request_id = request_id[:_MAX_REQUEST_ID] if request_id else None

    @classmethod
    async def open(
        cls, endpoint: Endpoint, credential_headers: Mapping[str, str], *, on_frame: OnFrame, on_lost: OnLost
    ) -> Transport:
        """Connect; ``on_frame(stamp_ns, frame)`` then gets every text message, ``on_lost(stamp_ns)`` the end.

        Raises:
            HandshakeError: there is no WebSocket, with the HTTP status and body where the target answered.
            TimeoutError, asyncio.CancelledError: from the caller's own ``asyncio.timeout``.
        """
        create = functools.partial(_StampedConnection, on_frame=on_frame, on_lost=on_lost)
        options: dict[str, Any] = {"create_connection": create}
        try:
            if endpoint.secure:
                options["ssl"] = _tls(endpoint.ca_file)
            connection = await _Connect(
                endpoint.url,
                additional_headers={**endpoint.headers, **credential_headers},
                user_agent_header=f"rteval/{__version__}",
                compression=None,
                max_size=None,
                max_queue=None,
                proxy=endpoint.proxy,
                open_timeout=None,
                ping_timeout=_PING_TIMEOUT_S,
                close_timeout=None,  # ``close`` has a deadline of its own
                **options,
            )
        except (OSError, InvalidHandshake, ConnectionClosed, InvalidURI, InvalidProxy, EOFError, ValueError) as error:
            # A cause that holds on to the frames that hold on to it would keep the whole session in memory.
            raise _handshake_error(error, endpoint) from error.with_traceback(None)
        assert isinstance(connection, _StampedConnection)
        return cls(connection)

    @property
    def is_open(self) -> bool:
        """Whether frames can be written."""
        return self._connection.protocol.state is _OPEN

    @property
    def close_code(self) -> int:
        """WebSocket close code of the target; 1006 when no close frame came."""
        received = self._connection.protocol.close_rcvd
        return received.code if received is not None else 1006

    @property
    def close_reason(self) -> str | None:
        """What the close frame said, if anything."""
        received = self._connection.protocol.close_rcvd
        return (received.reason if received is not None else None) or None

    @property
    def blocked(self) -> bool:
        """Whether the target takes less than we write (TCP flow control)."""
        return self._connection.paused

    def write(self, frame: bytes) -> None:
        """Hand one text frame to the socket without waiting; look at ``blocked`` afterwards.

        Raises:
            ConnectionLost: the connection is closed or closing.
        """
        if not self.is_open:
            raise ConnectionLost("the connection is closed", close_code=self.close_code)
        self._connection.protocol.send_text(frame)
        self._connection.send_data()

    async def unblocked(self, timeout_s: float) -> bool:
        """Wait until the socket takes frames again or is closed; ``False`` when it did neither within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                with suppress(OSError):
                    await self._connection.drain()
        except TimeoutError:
            return False
        return True

    async def close(self, timeout_s: float) -> None:
        """Close in order, and cut the connection when that takes longer than ``timeout_s``."""
        self._connection.closing = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._connection.close()
        except (TimeoutError, OSError):
            self.abort()

    def abort(self) -> None:
        """Cut the connection without a closing handshake; does nothing when it is closed."""
        self._connection.transport.abort()

    def release(self) -> None:
        """Cut it, and hold on to the session no more: what ended is freed without the garbage collector."""
        self.abort()
        self._connection.forget()


@functools.cache
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """One context for all sessions: loading the system's authorities costs tens of milliseconds."""
    return ssl.create_default_context(cafile=ca_file)


def _handshake_error(error: Exception, endpoint: Endpoint) -> HandshakeError:
    """What went wrong, as one of ours."""
    where = endpoint.host
    match error:
        case socket.gaierror() | ConnectionRefusedError() if endpoint.proxy is not None:
            hint = "check target.proxy"
            return HandshakeError("the proxy cannot be reached", code="proxy", hint=hint)
        case InvalidStatus():
            response = error.response
            status = response.status_code
            return HandshakeError(
                f"HTTP {status} instead of a WebSocket",
                code=f"http_{status}",
                status=status,
                retry_after_s=_seconds(response.headers.get("retry-after")),
                body=bytes(response.body or b""),
                location=response.headers.get("location"),
            )
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or "certificate verify failed"
            hint = "name the authority that signed it in target.ca_file"
            return HandshakeError(f"the target's certificate is not trusted: {reason}", code="tls", hint=hint)
        case ssl.SSLError():
            return HandshakeError(f"no TLS with the target: {error.reason or error}", code="tls")
        case socket.gaierror():
            hint = "check target.endpoint or target.url, and this machine's name resolution"
            return HandshakeError(f"the host name of {where} is unknown", code="dns", hint=hint)
        case ConnectionRefusedError():
            hint = "check the address, and that the server is running"
            return HandshakeError(f"nothing listens at {where}", code="connection_refused", hint=hint)
        case ProxyError() | InvalidProxy():
            return HandshakeError("the proxy did not connect us", code="proxy", hint="check target.proxy")
        case InvalidMessage() | ConnectionClosed() | EOFError():
            message = f"{where} closed the connection during the handshake"
            return HandshakeError(message, code="handshake_closed", hint="check that it is a WebSocket server")
        case InvalidHandshake():
            hint = "check that it is a WebSocket server"
            return HandshakeError(f"{where} does not speak WebSocket: {error}", code="bad_handshake", hint=hint)
        case OSError():
            text = error.strerror or type(error).__name__
            return HandshakeError(f"could not connect: {text}", code="connect_failed")
    return HandshakeError(f"could not connect: {error}", code="connect_failed")


def _seconds(value: str | None) -> float | None:
    """``retry-after`` in seconds; its form with a date is not used by these services."""
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < math.inf else None


def speedups_missing() -> bool:
    """Whether ``websockets`` runs without its C code, which costs several times the CPU for each frame sent."""
    try:
        import websockets.speedups  # noqa: F401
    except ImportError:
        return True
    return False
