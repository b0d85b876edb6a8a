"""The simulated service as a process: the socket, the handshakes, the signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http
import itertools
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ..corpus import Dataset, load_dataset
from ..errors import UsageError
from ..formats import PCM16
from .behaviour import Behaviour, Fault, find, load_behaviour
from .caller import Caller
from .handshake import Ask, Doorkeeper, LateRefusal, Refused, choose_subprotocol, own_headers
from .recognition import InlineRecognition, Recognition, RecognitionProcess
from .session import Admission
from .truth import TruthFile, TruthLine
from .voice import spoken
from .world import World

if TYPE_CHECKING:
    from .tls import Certificates

__all__ = ["Options", "serve"]

# 15 MiB of audio in base64, and room for the JSON round it: larger frames are answered with 1009.
MAX_FRAME_BYTES = 21 * 1024 * 1024

_OUTLIVES_S = 0.5
"""How much longer than its parent an attached server lives: the workers of a run that was killed must hear of that
before their sessions break, or the end of the run would look like a fault of the target."""
WRITE_LIMIT_BYTES = 256 * 1024
CLOSE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 3.0
# An unfinished handshake is a fault that can be asked for, so the library must not end it.
OPEN_TIMEOUT_S = 600.0
# A busy client answers pings late; that is for the client to report, not for us to punish.
PING_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a server is started with.

    Attributes:
        port: 0 takes a free one.
        datasets: folders whose items are recognised.
        behaviour: a file or a mapping; ``None``: the defaults.
        truth: file of the truth lines; ``None``: none are written.
        tls: serve TLS with a certificate made for this run.
        api_key, token: credentials that are let in; with neither, everyone is.
        attached: end when stdin ends, too, a moment later.
    """

    host: str = "127.0.0.1"
    port: int = 0
    datasets: Sequence[Path] = ()
    behaviour: Path | Mapping[str, Any] | None = None
    truth: Path | None = None
    tls: bool = False
    api_key: str | None = None
    token: str | None = None
    attached: bool = False


def serve(options: Options) -> int:
    """Serve until SIGINT or SIGTERM; prints the address when ready and returns the exit code.

    Raises:
        RtevalError: a dataset or the behaviour is wrong, or the address cannot be bound.
    """
    behaviour = load_behaviour(options.behaviour)
    datasets = [load_dataset(folder) for folder in options.datasets]
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(options, behaviour, datasets))


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(options: Options, behaviour: Behaviour, datasets: Sequence[Dataset]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if options.attached:
        loop.add_reader(0, _read_stdin, stop)
    async with contextlib.AsyncExitStack() as stack:
        truth: TruthFile | None = None
        if options.truth is not None:
            truth = _truth_file(options.truth)
            stack.callback(truth.close)
        recognition: Recognition = InlineRecognition(behaviour)
        if any(item.path is not None for dataset in datasets for item in dataset.items):
            recognition = await stack.enter_async_context(RecognitionProcess(behaviour, datasets))
        hall = Hall(
            World(behaviour, datasets, truth.write if truth is not None else _forget),
            recognition,
            Doorkeeper(api_key=options.api_key, token=options.token, models=behaviour.models),
        )
        lines = await stack.enter_async_context(_listening(options, hall))
        _warm_up()
        print("\n".join(lines), flush=True)
        await stop.wait()
    return 0


@contextlib.asynccontextmanager
async def _listening(options: Options, hall: Hall) -> AsyncIterator[list[str]]:
    """A bound server; yields the lines that say where."""
    with tempfile.TemporaryDirectory(prefix="rteval-ca-") as folder:
        certificates = _certificates(Path(folder), options)
        try:
            server = await serve_websockets(
                hall.attend,
                options.host,
                options.port,
                create_connection=hall.connection,  # type: ignore[arg-type]  # any factory will do
                process_request=hall.admit,
                process_response=hall.sign,
                select_subprotocol=_select_subprotocol,
                server_header=None,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                write_limit=WRITE_LIMIT_BYTES,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_timeout=PING_TIMEOUT_S,
                ssl=None if certificates is None else certificates.server_context(),
                logger=_quiet_logger(),
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error
        try:
            yield _address_lines(options, server, None if certificates is None else certificates.ca_file)
        finally:
            server.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await server.wait_closed()


def _certificates(folder: Path, options: Options) -> Certificates | None:
    if not options.tls:
        return None
    # Loading the cryptography would delay every start, and few ask for TLS.
    from .tls import make_certificates

    return make_certificates(folder, options.host)


def _address_lines(options: Options, server: Server, ca_file: Path | None) -> list[str]:
    port = server.sockets[0].getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    if ca_file is None:
        return [f"listening on ws://{host}:{port}"]
    return [f"listening on wss://{host}:{port}", f"CA file {ca_file}"]


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    chosen = choose_subprotocol(offered)
    return None if chosen is None else Subprotocol(chosen)


def _quiet_logger() -> logging.Logger:
    """A logger for the library that never shows a handshake: they carry secrets."""
    logger = logging.getLogger("rteval.simulator.websockets")
    logger.setLevel(logging.CRITICAL)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger


def _read_stdin(stop: asyncio.Event) -> None:
    if not os.read(0, 4096):
        loop = asyncio.get_running_loop()
        loop.remove_reader(0)
        loop.call_later(_OUTLIVES_S, stop.set)


def _truth_file(path: Path) -> TruthFile:
    try:
        return TruthFile(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot write the truth file: {error.strerror or error}") from error


def _forget(line: TruthLine) -> None:
    """No truth file was asked for."""


def _warm_up() -> None:
    """Do what the first turn would otherwise wait for, and keep the collector away from what stays."""
    spoken("ready", PCM16)
    # The threads that carry utterances must not hold the loop for the default 5 ms.
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


class Hall:
    """Where connections come in: decides about handshakes, and gives each its session.

    Args:
        world: shared by the sessions.
        recognition: of what they hear.
        doorkeeper: lets clients in.
    """

    def __init__(self, world: World, recognition: Recognition, doorkeeper: Doorkeeper) -> None:
        self.world = world
        self._recognition = recognition
        self._doorkeeper = doorkeeper
        self._numbers = itertools.count(1)

    def connection(self, *args: Any, **kwargs: Any) -> Caller:
        """A new connection, for the library."""
        return Caller(self.world, self._recognition, *args, **kwargs)

    # ---- the handshake ----

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Decide about a handshake: ``None`` goes on to the upgrade."""
        assert isinstance(connection, Caller)
        connection.ask = _ask(request)
        decision = self._doorkeeper.decide(connection.ask)
        if not isinstance(decision, Refused):
            number = connection.number = next(self._numbers)
            faults = self.world.behaviour.session_faults(number)
            if find(faults, "silent_handshake"):
                await asyncio.wait([connection.connection_lost_waiter])
                return None
            refusal = self._refusal(faults)
            connection.decision = decision
            late = find(faults, "refuse_after_upgrade")
            if late is not None:
                connection.decision = _late(late, decision)
            if refusal is None:
                return None
            decision = refusal
        headers = Headers([("Content-Type", "application/json"), *decision.headers])
        headers["Content-Length"] = str(len(decision.body))
        headers["Connection"] = "close"
        return Response(decision.status, _phrase(decision.status), headers, decision.body)

    def _refusal(self, faults: Sequence[Fault]) -> Refused | None:
        fault = find(faults, "refuse_handshake")
        if fault is not None:
            code, message = fault.code or str(fault.status), fault.message or _phrase(fault.status)
            if fault.status == 429:
                return _throttled(fault.retry_after_s)
            moved = (("Location", "/openai/v1/realtime"),) if fault.status < 400 else ()
            return Refused(fault.status, code, message, moved)
        wait_s = self.world.admit_connect(time.perf_counter_ns())
        return None if wait_s is None else _throttled(wait_s)

    async def sign(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add our headers to the answer of a handshake."""
        assert isinstance(connection, Caller)
        ask = connection.ask or _ask(request)
        for name, value in own_headers(ask):
            response.headers[name] = value

    async def attend(self, connection: ServerConnection) -> None:
        """Serve an open connection until it ends."""
        assert isinstance(connection, Caller)
        connection.begin()
        try:
            await connection.wait_closed()
        finally:
            connection.finish()


def _ask(request: Request) -> Ask:
    headers: dict[str, str] = {}
    for name, value in request.headers.raw_items():
        headers.setdefault(name.lower(), value)
    offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    return Ask(request.path, headers, tuple(part.strip() for part in offered.split(",") if part.strip()))


def _late(fault: Fault, decision: Admission | LateRefusal) -> LateRefusal:
    admission = decision.admission if isinstance(decision, LateRefusal) else decision
    return LateRefusal(
        admission,
        fault.code or "invalid_api_key",
        fault.message or "The request was refused.",
        fault.close_code or 3000,
    )


def _throttled(wait_s: int) -> Refused:
    message = f"Requests have exceeded the call rate limit of this deployment. Please retry after {wait_s} seconds."
    return Refused(429, "429", message, (("retry-after", str(wait_s)),))


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Refused"
