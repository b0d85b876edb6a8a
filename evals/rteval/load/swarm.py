"""Locust as the asyncio side sees it: so many users, workers that come and go, messages, and a web UI.

Locust runs on a thread of its own (``bridge``). It makes users, which are slots for sessions, and knows the workers.
When a session starts, what it does and when a run ends is decided here, on the asyncio loop, and never by Locust.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from gevent import monkey

from ..errors import UsageError
from .bridge import HubThread
from .charts import Event

# At run time Locust is imported by ``start``: half a second that commands without it need not wait for.
if TYPE_CHECKING:
    from .runners import LocalRunner, MasterRunner, WorkerRunner
    from .sockets import Door
    from .web import WebPage

__all__ = [
    "LocalSwarm",
    "MasterEvents",
    "MasterSwarm",
    "Slots",
    "UiEvents",
    "UiOptions",
    "WorkerEvents",
    "WorkerSwarm",
]

_CHARTS_S = 0.25
"""How often what was measured is handed to Locust's statistics."""

_RESOLVE_AGAIN_S = 0.5
_LEAVE_S = 10.0


class Slots(Protocol):
    """Who holds the slots that Locust's users are."""

    async def hold_slot(self) -> None:
        """The life of one slot. When Locust stops its user it is cancelled: no new session then, nothing more.

        When it returns its user ends; the next ``want`` makes up for it.
        """
        ...


class MasterEvents(Protocol):
    """What a master hears, on the asyncio loop, in order: a worker joins, speaks, and is gone, for good."""

    def joined(self, worker: str) -> None:
        """A worker with the right token is there."""
        ...

    def message(self, worker: str, kind: str, data: bytes) -> None:
        """A worker said something."""
        ...

    def gone(self, worker: str, why: str) -> None:
        """A worker left, its connection was closed, or nothing was heard of it for 4 s: ``why`` says which, without its
        subject. It gets no users any more, and is told to leave should it come back."""
        ...


class WorkerEvents(Protocol):
    """What a worker hears, on the asyncio loop, in order."""

    def message(self, kind: str, data: bytes) -> None:
        """The master said something."""
        ...

    def master_lost(self) -> None:
        """The connection was closed, nothing was heard for 10 s, or the master wants this worker to leave:
        ``WorkerSwarm.lost`` says which. Once only."""
        ...


class UiEvents(Protocol):
    """What is pressed in the web UI, on the asyncio loop. It has no other effect."""

    def ui_start(self, users: int | None, spawn_rate: float | None) -> None:
        """Start, or an edit while it runs: so many users, and how many more each second; ``None``: the schedule's."""
        ...

    def ui_stop(self) -> None:
        """Stop. The web UI shows a running test until ``show_stopped``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UiOptions:
    """Locust's own web UI.

    Attributes:
        events: told what is pressed.
        host: loopback only, since it has no login.
        port: 0 for any that is free.
        users, spawn_rate: prefilled in the form.
        shaped: the schedule decides, so that the form has no such fields.
        target: what is tested, shown at the top; never with a secret in it.
    """

    events: UiEvents
    host: str = "127.0.0.1"
    port: int = 8089
    users: int | None = None
    spawn_rate: float | None = None
    shaped: bool = False
    target: str = ""


R = TypeVar("R", "LocalRunner", "MasterRunner", "WorkerRunner")
C = TypeVar("C", "LocalRunner", "MasterRunner")


class _Swarm(Generic[R]):
    """What all three kinds share: a hub with one of Locust's runners in it."""

    def __init__(self) -> None:
        self._hub = HubThread()
        self._made: R | None = None
        self._over = False
        self._measured: list[Event] = []
        self._flushing: asyncio.TimerHandle | None = None

    @property
    def _usable(self) -> bool:
        """From the moment that there is a runner: what it says may want an answer before ``start`` has returned."""
        return self._made is not None and not self._over

    @property
    def _runner(self) -> R:
        if self._made is None:
            raise RuntimeError("the swarm was not started")
        return self._made

    async def _open(self, set_up: Callable[[], None]) -> None:
        """Run ``set_up`` in the hub; when it fails, nothing is left behind."""

        def set_up_or_leave() -> None:
            try:
                set_up()
            except BaseException:
                if self._made is not None:
                    self._leave()
                raise

        _import_locust()
        await self._hub.start()
        try:
            await self._hub.ask(set_up_or_leave)
        except BaseException:
            self._over = True
            await self._hub.stop()
            raise

    def fire(self, events: Iterable[Event]) -> None:
        """Show what was measured in the web UI, and only there."""
        if not self._usable:
            return
        self._measured.extend(events)
        if self._flushing is None and self._measured:
            self._flushing = asyncio.get_running_loop().call_later(_CHARTS_S, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._measured:
            self._hub.call(self._runner.log, self._measured)
            self._measured = []

    async def quit(self) -> None:
        """Leave: users are stopped, workers told to leave, sockets and web UI closed. Does nothing the second time."""
        if not self._usable:
            return
        self._flush()
        self._over = True
        try:
            with suppress(TimeoutError):  # a hub that hangs is told of by ``stop``
                async with asyncio.timeout(_LEAVE_S):
                    await self._hub.ask(self._leave)
        finally:
            await self._hub.stop()

    def _leave(self) -> None:
        self._runner.leave()


class _Commanding(_Swarm[C]):
    """A swarm that decides how many users there are, and that may have a web UI."""

    def __init__(self, ui: UiOptions | None) -> None:
        super().__init__()
        self._ui = ui
        self._page: WebPage | None = None

    @property
    def ui_address(self) -> tuple[str, int] | None:
        """Where the web UI is, once started; ``None`` without one."""
        return None if self._page is None else self._page.address

    def want(self, users: int) -> None:
        """There should be so many users, as soon as may be. It also makes up for users whose slots have ended."""
        if self._usable:
            self._hub.call(self._runner.start, users)

    def show_stopped(self) -> None:
        """The run is over: the web UI shows it as stopped and starts no other."""
        if self._usable:
            self._hub.call(self._runner.show_stopped)
            if self._page is not None:
                self._hub.call(self._page.finish)

    def fire(self, events: Iterable[Event]) -> None:
        """As any swarm's, but without a web UI there is nothing to show it in."""
        if self._ui is not None:
            super().fire(events)

    def _open_page(self) -> None:
        if self._ui is not None:
            from .web import WebPage

            self._page = WebPage(self._runner, self._hub, self._ui)

    def _leave(self) -> None:
        if self._page is not None:
            self._page.close()
        super()._leave()


class LocalSwarm(_Commanding["LocalRunner"]):
    """Locust in one process.

    Args:
        slots: called for each user.
        ui: its web UI, if there is to be one.
    """

    def __init__(self, slots: Slots, *, ui: UiOptions | None = None) -> None:
        super().__init__(ui)
        self._slots = slots

    async def start(self) -> None:
        """Make it usable.

        Raises:
            UsageError: the web UI's port is taken, or it would not be on loopback.
        """
        await self._open(self._set_up)

    def _set_up(self) -> None:
        from .runners import LocalRunner, SwarmEnvironment

        self._made = LocalRunner(SwarmEnvironment(self._hub, self._slots, ui=self._ui))
        self._open_page()


class MasterSwarm(_Commanding["MasterRunner"]):
    """Locust's master: workers hold the slots.

    Args:
        events: told of workers.
        host: address to listen on; ``*`` for all.
        port: 0 for any that is free.
        token: what workers must have to join; ``None`` on loopback only.
        ui: its web UI, if there is to be one.
    """

    def __init__(
        self, events: MasterEvents, *, host: str, port: int, token: str | None, ui: UiOptions | None = None
    ) -> None:
        super().__init__(ui)
        self._events = events
        self._host, self._port, self._token = host, port, token

    @property
    def address(self) -> tuple[str, int]:
        """Host, as given, and port that workers connect to, once started."""
        return self._host, self._runner.server.port

    async def start(self) -> None:
        """Listen for workers.

        Raises:
            UsageError: the port is taken, the address is none of this machine, the token is missing where it is needed
                or too short, or something is wrong with the web UI.
        """
        address = "*" if self._host == "*" else await _resolve(self._host, self._port, 0.0)
        await self._open(lambda: self._set_up(address))

    def _set_up(self, address: str) -> None:
        from .runners import MasterRunner, SwarmEnvironment

        door = _door(address, self._token, "listening for workers on")
        self._made = MasterRunner(SwarmEnvironment(self._hub, ui=self._ui), door, self._port, self._events)
        self._open_page()

    def want(self, users: int, workers: Collection[str] | None = None) -> None:
        """There should be so many users, spread evenly over these workers; ``None``: over all."""
        if self._usable:
            self._hub.call(self._runner.spread, users, workers)

    def send(self, worker: str, kind: str, data: bytes) -> None:
        """Send a worker a message; if it could not be delivered, ``gone`` follows."""
        if self._usable:
            self._hub.call(self._runner.send, worker, kind, data)

    def dismiss(self, worker: str) -> None:
        """Do without a worker: it is told to leave, its users are the others', and nothing it says is heard."""
        if self._usable:
            self._hub.call(self._runner.dismiss, worker)


class WorkerSwarm(_Swarm["WorkerRunner"]):
    """One of Locust's workers.

    Args:
        slots: called for each user.
        events: told what the master says.
        host, port: of the master.
        token: what the master was given, too; ``None`` on loopback only.
        max_wait_s: how long to wait for the master's name to have an address, and again for the master.
    """

    def __init__(
        self, slots: Slots, events: WorkerEvents, *, host: str, port: int, token: str | None, max_wait_s: float
    ) -> None:
        super().__init__()
        self._slots = slots
        self._events = events
        self._host, self._port, self._token, self._max_wait_s = host, port, token, max_wait_s

    @property
    def lost(self) -> str | None:
        """Why the master is out of reach, as a sentence; ``None`` while it is not."""
        return None if self._made is None else self._made.lost

    async def start(self) -> None:
        """Join the master.

        Raises:
            UsageError: it did not answer in time, did not accept the token, or there is no token and it is not on this
                machine.
        """
        address = await _resolve(self._host, self._port, self._max_wait_s)
        await self._open(lambda: self._set_up(address))

    def _set_up(self, address: str) -> None:
        from .runners import SwarmEnvironment, WorkerRunner

        # Unlike a host name alone it tells workers on one machine, and in containers of one image, apart.
        name = f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(3)}"
        door = _door(address, self._token, "joining a master at", name)
        self._made = WorkerRunner(SwarmEnvironment(self._hub, self._slots), door, self._port, self._events)
        where = f"{self._host}:{self._port}"
        self._made.join(where, self._max_wait_s, has_token=self._token is not None)

    def send(self, kind: str, data: bytes) -> None:
        """Send the master a message; if it can take none, ``master_lost`` follows."""
        if self._usable:
            self._hub.call(self._runner.send, kind, data)


def _import_locust() -> None:
    """Import Locust with none of its variables set but the one that keeps it from patching the standard library.

    Some of them would end the process; none of them is meant for us. It has to be the main thread, as Locust sets a
    signal handler, for the width of tables that it does not print here.
    """
    if monkey.is_module_patched("socket"):
        raise RuntimeError("gevent has patched the standard library; asyncio on another thread would stand still")
    variables = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("LOCUST_")}
    os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
    resized = signal.getsignal(signal.SIGWINCH) if hasattr(signal, "SIGWINCH") else None
    try:
        from . import runners  # noqa: F401
    finally:
        del os.environ["LOCUST_SKIP_MONKEY_PATCH"]
        os.environ.update(variables)
        if resized is not None:
            signal.signal(signal.SIGWINCH, resized)
    # It says everything at level INFO; its handlers are not installed, so its warnings go where ours go.
    logging.getLogger("locust").setLevel(logging.WARNING)


def _door(address: str, token: str | None, purpose: str, name: str = "") -> Door:
    from .sockets import Door, is_loopback, server_keys

    if token is not None:
        return Door(address, server_keys(token), name)
    if is_loopback(address):
        return Door(address, None, name)
    raise UsageError(
        f"{purpose} {address} needs a join token: it can be reached from other machines",
        hint="set RTEVAL_JOIN_TOKEN, the same on the master and on each worker",
    )


async def _resolve(host: str, port: int, within_s: float) -> str:
    """The IP address of a host, IPv4 first: ``localhost`` is both, and a master listens on one address.

    Raises:
        UsageError: it has none, or not within that time.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while True:
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            if loop.time() + _RESOLVE_AGAIN_S > deadline_s:
                raise UsageError(f"the address of {host} cannot be found: {error.strerror}") from None
            await asyncio.sleep(_RESOLVE_AGAIN_S)
        else:
            return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])
