"""The ZeroMQ sockets between Locust's master and its workers: with the join token as their keys, and no surprises.

CURVE (RFC 26, CurveZMQ) encrypts what they say. A client cannot even begin its handshake without the server's public
key. That key is never sent: both sides derive it from the token, so whoever has no token, or another one, is let go
before a byte of ours is exchanged, and a master that has no token cannot pass for one that has.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import zmq
import zmq.green
from locust import runners
from locust.rpc import Message
from locust.rpc.zmqrpc import BaseSocket
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from ..errors import UsageError
from .messages import MOST_BYTES

__all__ = ["Client", "Door", "Server", "ServerKeys", "is_loopback", "put_in_place", "server_keys"]

_log = logging.getLogger(__name__)

_FRAMING_BYTES = 4096
"""What Locust's envelope and the encryption add to a message, generously."""

_UNSENT = 100_000
"""Messages that may wait for one peer. A peer that takes none for so long is as good as gone."""

_LINGER_MS = 500
"""How long a socket that is closed goes on delivering what was sent before."""

_TERM_S = 2.0

_MOST_TOLD = 10
"""Messages that cannot be read and that the log tells of."""

_TOKEN_CHARS = 16

_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, reached by nobody else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The master's CURVE keys in Z85; all who have the join token can derive both."""

    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)


def server_keys(token: str) -> ServerKeys:
    """Derive the master's keys from the join token.

    A recorded handshake lets an attacker try out tokens at leisure, so trying one is made dear (scrypt, RFC 7914, with
    32 MiB and about 0.1 s), and short tokens are refused.

    Raises:
        UsageError: the token is too short, or this ZeroMQ cannot encrypt.
    """
    if len(token) < _TOKEN_CHARS:
        raise UsageError(
            f"the join token has fewer than {_TOKEN_CHARS} characters",
            hint="make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )
    if not zmq.has("curve"):
        raise UsageError("this ZeroMQ was built without CURVE, which the join token needs", hint="pip install pyzmq")
    # Both sides must come to the same without having spoken, so the salt is fixed.
    secret = z85.encode(
        hashlib.scrypt(token.encode(), salt=b"rteval join token 1", n=2**15, r=8, p=1, maxmem=2**26, dklen=32)
    )
    return ServerKeys(zmq.curve_public(secret), secret)


class Door(str):
    """Where a runner opens its socket: an address, and what else the socket has to know.

    A runner passes nothing to its socket but the host and the port that it was given, so the rest travels in the host.

    Args:
        address: IP address; ``*`` to bind to all interfaces.
        keys: from the join token; ``None`` for loopback only.
        name: the worker's name, for its socket.
    """

    __slots__ = ("keys", "name")

    keys: ServerKeys | None
    name: str

    def __new__(cls, address: str, keys: ServerKeys | None, name: str = "") -> Door:
        """Make a string with attributes."""
        door = super().__new__(cls, address)
        door.keys, door.name = keys, name
        return door

    def endpoint(self, port: int) -> str:
        """For ``bind`` and ``connect``."""
        return f"tcp://[{self}]:{port}" if ":" in self else f"tcp://{self}:{port}"


class _Socket(BaseSocket):
    """What both ends share. Locust's own retry with ``time.sleep`` and stop the whole hub; these never wait to send."""

    socket: Any

    def __init__(self, kind: int, door: str) -> None:
        if not isinstance(door, Door):
            raise TypeError("a socket without a Door would be open to everybody")
        super().__init__(kind, ipv4_only=door != "*" and ":" not in door)  # type: ignore[no-untyped-call]
        self.context = self.socket.context
        self.socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES + _FRAMING_BYTES)
        self.socket.setsockopt(zmq.SNDHWM, _UNSENT)
        self._unreadable = 0

    def close(self, linger: int | None = None) -> None:
        """Close for good, at most half a second later: Locust leaves the ZeroMQ context, and with it the port."""
        self.socket.close(_LINGER_MS if linger is None else linger)
        # ZeroMQ has been seen to wait here for ever after its peer was killed; the process would never end.
        ending = threading.Thread(target=self.context.term, daemon=True)
        ending.start()
        ending.join(_TERM_S)

    def _opened(self, frames: Sequence[bytes]) -> Message | None:
        """The message in frames of the worker's name and content; ``None`` if it cannot be read or names another."""
        try:
            name, data = frames
            message: Message = Message.unserialize(data)  # type: ignore[no-untyped-call]
            if not isinstance(message.type, str) or message.node_id != name.decode():
                raise ValueError("it is not what its envelope says")
        except Exception as error:  # msgpack's errors have no base of their own
            self._unreadable += 1
            if self._unreadable <= _MOST_TOLD:
                _log.warning("a message that cannot be read is dropped: %s", error)
            return None
        return message


class Server(_Socket):
    """The master's end.

    Attributes:
        port: that it is bound to.
    """

    def __init__(self, host: Door, port: int) -> None:
        super().__init__(zmq.ROUTER, host)
        if host.keys is not None:
            self.socket.curve_server = True
            self.socket.curve_publickey, self.socket.curve_secretkey = host.keys.public, host.keys.secret
        # Else what is sent to a worker that is not connected would vanish without a word.
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            self.socket.bind(host.endpoint(port))
        except zmq.ZMQError as error:
            self.close(linger=0)
            # Not Locust's RPCError: its answer to a port that is taken is sys.exit().
            raise UsageError(
                f"cannot listen for workers on {host}:{port}: {error.strerror}",
                hint="is another master running there? Another port, or 0 for any free one, helps",
            ) from None
        self.port = int(self.socket.last_endpoint.rpartition(b":")[2])

    def send_to_client(self, msg: Message) -> bool:
        """Send to the worker that the message names. Returns whether it was connected and took it."""
        try:
            self.socket.send_multipart([msg.node_id.encode(), msg.serialize()], zmq.NOBLOCK)  # type: ignore[no-untyped-call]
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True

    def recv_from_client(self) -> tuple[str, Message | None]:
        """Wait for a message: whom it is from, and what it is, if it can be read and says so truly."""
        frames = self.socket.recv_multipart()
        return frames[0].decode(errors="replace"), self._opened(frames)

    def waiting(self) -> Iterator[Message]:
        """Those that are here already, without waiting for more."""
        for _ in range(_UNSENT):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if (message := self._opened(frames)) is not None:
                yield message


class Client(_Socket):
    """A worker's end.

    Attributes:
        admitted: whether the master has taken us; before that nothing but the request to join leaves this socket.
    """

    def __init__(self, host: Door, port: int, identity: str) -> None:
        super().__init__(zmq.DEALER, host)
        self.admitted = False
        self._name = host.name.encode()
        self.socket.setsockopt(zmq.IDENTITY, self._name)
        if host.keys is not None:
            self.socket.curve_serverkey = host.keys.public
            self.socket.curve_publickey, self.socket.curve_secretkey = zmq.curve_keypair()
        self._monitor = self.socket.get_monitor_socket(_EVENTS)
        self._endpoint = host.endpoint(port)
        self.socket.connect(self._endpoint)

    def next_event(self) -> zmq.Event:
        """Wait for the next thing that happens to the connection."""
        return zmq.Event(parse_monitor_message(self._monitor.recv_multipart())["event"])

    def send(self, msg: Message) -> bool:
        """Send to the master. Returns whether the message was taken; before being admitted only ``client_ready`` is."""
        if not self.admitted and msg.type != "client_ready":
            return False
        try:
            self.socket.send(msg.serialize(), zmq.NOBLOCK)  # type: ignore[no-untyped-call]
        except zmq.Again:
            return False
        return True

    def recv(self) -> Message:
        """Wait for a message that can be read."""
        while (message := self._opened([self._name, self.socket.recv()])) is None:
            pass
        return message

    def waiting(self) -> Iterator[Message]:
        """Those that are here already, without waiting for more."""
        for _ in range(_UNSENT):
            try:
                data = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if (message := self._opened([self._name, data])) is not None:
                yield message

    def hang_up(self) -> None:
        """Nothing passes any more in either direction; ZeroMQ would connect again for as long as it lives."""
        self.admitted = False
        self.socket.disconnect(self._endpoint)

    def close(self, linger: int | None = None) -> None:
        """Close for good; what was sent is still delivered, if there is somebody to deliver it to."""
        self.socket.disable_monitor()
        self._monitor.close(0)
        super().close(linger if self.admitted else 0)


def put_in_place() -> None:
    """Have Locust's runners make these sockets: they know them by the names of this one module."""
    runners.rpc = SimpleNamespace(Server=Server, Client=Client)  # type: ignore[assignment, attr-defined]
