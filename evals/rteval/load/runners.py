"""Locust's runners as we need them: users are slots that come and go at once, and only we end a run.

Locust knows who takes part, how many users there are where, and shows it. It decides nothing: that a worker came or
went is told to the asyncio side, and ``start`` says how many users there should be. Every method that is overridden
here has its reason beside it.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import gevent
import psutil
import zmq
from gevent.queue import Queue
from locust import User, __version__, runners, task
from locust.env import Environment
from locust.exception import StopUser
from locust.rpc import Message
from locust.runners import CPU_MONITOR_INTERVAL, HEARTBEAT_INTERVAL, STATE_INIT, STATE_RUNNING, STATE_STOPPED
from locust.stats import StatsError

from ..errors import UsageError
from .bridge import HubThread
from .charts import Event
from .sockets import Client, Door, Server, put_in_place

if TYPE_CHECKING:
    from .swarm import MasterEvents, Slots, UiOptions, WorkerEvents

__all__ = ["LocalRunner", "MasterRunner", "Session", "SwarmEnvironment", "WorkerRunner"]

_MESSAGE = "rteval"
"""Locust's type of all messages that are ours; their data is (kind, bytes)."""

_BURST = 20
"""Users that are made in one go, in a millisecond; more would be felt as lag on the asyncio loop."""

_PAUSE_S = 0.005
_MASTER_SILENT_S = 10.0
_REFUSALS = 2
_MOST_ERRORS = 499
_ERROR_CHARS = 200

_AT_ONCE = 100
"""Messages that are taken one after the other before the rest of the hub has its turn."""

_MOST_UNHEARD = 512 * 1024 * 1024
"""Bytes of one worker that may wait for the asyncio loop: a loop that hangs for minutes is left so much."""

_SILENT = "was not heard of any more"
_CLOSED = "was not heard of any more: its connection was closed"

put_in_place()


class SwarmEnvironment(Environment):
    """Locust's environment, and the way back to ours.

    Args:
        slots: who holds them; ``None`` where there are no users, as in a master.
        ui: what the web UI is to show, if there is one.
    """

    def __init__(self, hub: HubThread, slots: Slots | None = None, *, ui: UiOptions | None = None) -> None:
        self.hub = hub
        self.slots = slots
        self.is_shown = ui is not None
        # Made here, since Locust's own parser would read LOCUST_* variables, locust.conf and our command line.
        options = Namespace(
            num_users=ui and ui.users,
            spawn_rate=ui and ui.spawn_rate,
            run_time=None,
            stats_history_enabled=False,
            enable_rebalancing=False,
            headless=False,
            web_base_path="",
        )
        super().__init__(
            user_classes=[Session],
            parsed_options=options,
            stop_timeout=0.0,
            locustfile="rteval",
            host=ui.target if ui is not None and ui.target else None,
        )


class Session(User):
    """A Locust user: one slot. Its greenlet only waits; a slot that ends ends its user."""

    environment: SwarmEnvironment

    @task
    def hold(self) -> None:
        """Hold the slot until it ends or Locust stops the user."""
        hub, slots = self.environment.hub, self.environment.slots
        assert slots is not None
        ticket = hub.submit(slots.hold_slot)
        try:
            ticket.wait()
        except gevent.GreenletExit:
            ticket.cancel()
            raise
        except asyncio.CancelledError:
            pass
        except Exception as error:
            # Locust would log it, send it to the master, and begin again at once.
            hub.report("a slot failed", error)
        raise StopUser


class _Quiet(runners.Runner):
    """What all runners here share."""

    environment: SwarmEnvironment

    def monitor_cpu_and_memory(self) -> NoReturn:
        """As Locust's, for its web UI, but without its warnings: health is judged by our own meters."""
        process = psutil.Process()
        while True:
            gevent.sleep(CPU_MONITOR_INTERVAL)
            self.current_cpu_usage = process.cpu_percent()
            self.current_memory_usage = process.memory_info().rss

    def log(self, measured: Iterable[Event]) -> None:
        """Put what was measured into Locust's statistics, which nobody but its web UI reads."""
        stats = self.stats
        for name, value_ms, size, error, headline in measured:
            entries = [stats.entries[(name, "")]]
            if headline:
                entries.append(stats.total)
            for entry in entries:
                entry.log(value_ms, size)  # type: ignore[arg-type] # Locust counts None as "no duration"
                if error is not None:
                    entry.log_error(error)
            if error is not None:
                self._log_error(name, error[:_ERROR_CHARS])

    def _log_error(self, name: str, error: str) -> None:
        # A target that puts a number of its own into each message must not fill the memory.
        if len(self.stats.errors) >= _MOST_ERRORS:
            error = "other errors"
        key = StatsError.create_key("", name, error)
        if key not in self.stats.errors:
            self.stats.errors[key] = StatsError("", name, error)
        self.stats.errors[key].occurred()

    def begin(self) -> None:
        """The web UI shows a test that runs."""
        if self.state in (STATE_INIT, STATE_STOPPED):
            self.stats.clear_all()
            self.exceptions = {}
            self.update_state(STATE_RUNNING)

    def show_stopped(self) -> None:
        """The web UI shows a test that has ended."""
        self.update_state(STATE_STOPPED)

    def leave(self) -> None:
        """End all greenlets of this runner."""
        self.user_greenlets.kill(block=True, timeout=1)
        self.greenlet.kill(block=True, timeout=1)


class _Following(_Quiet):
    """A runner with users of its own, whose number follows what is asked for."""

    _asked: int | None = None
    _follower: gevent.Greenlet[[], None] | None = None

    def follow(self, users: int) -> None:
        """There should be so many users; the newest wish holds."""
        if users > 0:
            self.begin()
        self.target_user_count = users
        self._asked = users
        # Locust kills the greenlet that spawns and begins anew, whatever that one had half done.
        if self._follower is None or self._follower.dead:
            self._follower = self.greenlet.spawn(self._follow)

    def _follow(self) -> None:
        while self._asked is not None:
            missing, self._asked = self._asked - self.user_count, None
            while missing > 0 and self._asked is None:
                burst = min(missing, _BURST)
                self.spawn_users({Session.__name__: burst})
                missing -= burst
                gevent.sleep(_PAUSE_S)
            if missing < 0:
                self.stop_users({Session.__name__: -missing})
            self.followed()

    def followed(self) -> None:
        """The number of users has changed."""


class LocalRunner(_Following, runners.LocalRunner):
    """All in one process."""

    def start(
        self,
        user_count: int,
        spawn_rate: float = 1.0,
        wait: bool = False,
        user_classes: list[type[User]] | None = None,
    ) -> None:
        """There should be so many users. Locust's own works them off second by second, and warns of haste."""
        self.follow(user_count)


class MasterRunner(_Quiet, runners.MasterRunner):
    """Spreads users evenly over the workers, and says on the asyncio loop who came, spoke and went.

    Args:
        door: where to listen.
        port: 0 for any that is free.
        events: told of workers.
    """

    server: Server  # type: ignore[assignment] # Locust's type for it; put_in_place makes it ours

    def __init__(self, environment: SwarmEnvironment, door: Door, port: int, events: MasterEvents) -> None:
        self._events = events
        self._left: set[str] = set()
        self._among: Collection[str] | None = None
        # Bytes by worker; the one is written by the hub alone, the other by the loop.
        self._passed_on: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        try:
            super().__init__(environment, door, port)
        except BaseException:
            # Else Locust's finaliser would do it, in whatever thread it happens to run.
            self.greenlet.kill()
            raise

    def start(
        self,
        user_count: int,
        spawn_rate: float = 1.0,
        wait: bool = False,
        user_classes: list[type[User]] | None = None,
    ) -> None:
        """There should be so many users, now. Locust's own ramps them up and then waits for the workers' reports in the
        greenlet that would receive them."""
        self.target_user_count = user_count
        if user_count > 0:
            self.begin()
        workers = [worker for worker in self.clients if self._among is None or worker in self._among]
        lost = []
        for number, worker in enumerate(workers):
            share = user_count // len(workers) + (number < user_count % len(workers))
            if not self._tell(worker, "spawn", share):
                lost.append(worker)
        self._lose(lost, _CLOSED)

    def spread(self, user_count: int, workers: Collection[str] | None) -> None:
        """There should be so many users, and from now on only with these workers; ``None``: with all."""
        self._among = workers
        self.start(user_count)

    def send(self, worker: str, kind: str, data: bytes) -> None:
        """Send a message of ours; one that cannot be delivered means that the worker is gone."""
        if worker in self.clients and not self._tell(worker, _MESSAGE, (kind, data)):
            self._lose([worker], _CLOSED)

    def dismiss(self, worker: str) -> None:
        """Tell a worker to leave; from now on it counts for nothing."""
        if worker in self.clients:
            self._tell(worker, "quit", None)
            self._forget(worker, "was dismissed")

    def client_listener(self) -> NoReturn:
        """As Locust's, for a socket that raises nothing. It waits for nobody while there is something to read: whoever
        talks without a pause would keep all else in this hub from running."""
        while True:
            for _ in range(_AT_ONCE):
                worker, message = self.server.recv_from_client()
                if message is not None:
                    self.handle_message(worker, message)
                else:
                    self._forget(worker, "sent what cannot be read")
            gevent.sleep(_PAUSE_S)

    def handle_message(self, client_id: str, msg: Message) -> None:
        """What a worker says goes to Locust only where Locust is asked: no word of a worker can stop this test."""
        try:
            if msg.type == "client_ready" and isinstance(msg.data, str) and msg.data and client_id not in self._left:
                self._join(client_id, msg)
            elif client_id in self.clients:
                self._hear(client_id, msg)
            elif msg.type in ("client_ready", "heartbeat"):
                # It was given up, or belongs to a master that was here before.
                self._tell(client_id, "quit", None)
        except Exception:  # whatever it trips over: a worker of ours does not send it
            self._forget(client_id, "sent what no worker sends")

    def _join(self, worker: str, msg: Message) -> None:
        known = worker in self.clients
        super().handle_message(worker, msg)
        # Ours to judge, as in monitor_cpu_and_memory.
        self.clients[worker].cpu_warning_emitted = True
        if not known:
            self.environment.hub.post(self._events.joined, worker)
            self.start(self.target_user_count)

    def _hear(self, worker: str, msg: Message) -> None:
        match msg.type:
            case "rteval":
                kind, data = msg.data
                if not isinstance(kind, str) or not isinstance(data, bytes):
                    raise TypeError("a message of ours is a kind and bytes")
                self._pass_on(worker, kind, data)
            case "heartbeat" | "spawning_complete":
                super().handle_message(worker, msg)
            case "stats" if self.environment.is_shown:
                super().handle_message(worker, msg)
            case "quit":
                self._forget(worker, "left without a word")

    def _pass_on(self, worker: str, kind: str, data: bytes) -> None:
        passed_on = self._passed_on[worker] = self._passed_on.get(worker, 0) + len(data)
        if passed_on - self._heard.get(worker, 0) > _MOST_UNHEARD:
            self._forget(worker, "sent more than could be taken in")
        else:
            self.environment.hub.post(self._take_in, worker, kind, data)

    def _take_in(self, worker: str, kind: str, data: bytes) -> None:
        """On the asyncio loop: a message is heard."""
        self._heard[worker] = self._heard.get(worker, 0) + len(data)
        self._events.message(worker, kind, data)

    def heartbeat_worker(self) -> NoReturn:
        """As Locust's, but a worker that is missing is forgotten at once, and that the last one went ends nothing.

        The heartbeats that go out tell at once when a connection is closed.
        """
        while True:
            gevent.sleep(HEARTBEAT_INTERVAL)
            silent, closed = [], []
            for worker, node in self.clients.items():
                node.heartbeat -= 1
                if node.heartbeat < 0:
                    silent.append(worker)
                elif not self._tell(worker, "heartbeat", None):
                    closed.append(worker)
            self._lose(silent, _SILENT)
            self._lose(closed, _CLOSED)

    def check_stopped(self) -> None:
        """Whether the test is over is not the workers' to say."""

    def leave(self) -> None:
        """Tell the workers to leave, and close."""
        for worker in self.clients:
            self._tell(worker, "quit", None)
        super().leave()
        self.server.close()

    def _tell(self, worker: str, kind: str, data: object) -> bool:
        return self.server.send_to_client(Message(kind, data, worker))  # type: ignore[no-untyped-call]

    def _lose(self, workers: Sequence[str], why: str) -> None:
        if workers:
            # What they said before their connections closed may not have been read yet.
            for message in self.server.waiting():
                self.handle_message(message.node_id, message)
        for worker in workers:
            self._forget(worker, why)

    def _forget(self, worker: str, why: str) -> None:
        if self.clients.pop(worker, None) is None:
            return
        self._left.add(worker)
        self.environment.hub.post(self._events.gone, worker, why)
        self.start(self.target_user_count)


_News: TypeAlias = zmq.Event | None
"""What happens while a worker joins; ``None``: it is admitted."""


class WorkerRunner(_Following, runners.WorkerRunner):
    """Has as many users as the master says, and stays until we leave.

    Args:
        door: where the master is, with this worker's name.
        events: told what the master says, and when it is lost.

    Attributes:
        lost: why the master is out of reach, as a sentence; ``None`` while it is not.
    """

    client: Client  # type: ignore[assignment] # Locust's type for it; put_in_place makes it ours

    def __init__(self, environment: SwarmEnvironment, door: Door, port: int, events: WorkerEvents) -> None:
        self._events = events
        self._news: Queue[_News] = Queue()
        self._silent_s = 0.0
        self.lost: str | None = None
        super().__init__(environment, door, port)
        self.client_id = door.name

    def connect_to_master(self) -> None:
        """Nothing yet: Locust's would hold its constructor up for minutes. ``join`` does it, in a time of ours."""

    def join(self, where: str, max_wait_s: float, *, has_token: bool) -> None:
        """Connect, and be admitted by the master.

        Args:
            where: the master's address as the user wrote it.

        Raises:
            UsageError: nobody answered in time, or the token was refused.
        """
        self.greenlet.spawn(self._watch)
        refusals, connected = 0, False
        try:
            with gevent.Timeout(max_wait_s):
                while True:
                    match self._news.get():
                        case None:
                            return
                        case zmq.Event.CONNECTED:
                            connected = True
                        case zmq.Event.HANDSHAKE_SUCCEEDED:
                            self.client.send(Message("client_ready", __version__, self.client_id))  # type: ignore[no-untyped-call]
                        case zmq.Event.HANDSHAKE_FAILED_NO_DETAIL if refusals < _REFUSALS:
                            # A master that is just going down looks the same.
                            refusals += 1
                        case zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
                            raise _refused(where, has_token=has_token)
                        case _:
                            pass
        except gevent.Timeout:
            raise _silent(where, max_wait_s, connected=connected) from None

    def _watch(self) -> NoReturn:
        while True:
            event = self.client.next_event()
            if not self.client.admitted:
                self._news.put(event)
            elif event is zmq.Event.DISCONNECTED:
                # ZeroMQ would connect again by itself, but what was on its way is lost without a trace. What arrived
                # before counts still, above all that the master wants us to leave.
                for message in self.client.waiting():
                    self.handle_message(message)
                self._lose("the connection to the master was closed")

    def handle_message(self, msg: Message) -> None:
        """Locust's would end sessions on "stop" and "quit", and build its argument parser 57 times on each "spawn"."""
        if self.lost is not None:
            return
        self._silent_s = 0.0
        match msg.type, msg.data:
            case "ack", _:
                self.client.admitted = True
                self._news.put(None)
            case "spawn", int(users):
                self.follow(users)
            case "rteval", [str(kind), bytes(data)]:
                self.environment.hub.post(self._events.message, kind, data)
            case "quit", _:
                self._lose("the master told this worker to leave")
            case (("spawn" | "rteval"), _):
                self._lose("the master sent what no master sends")

    def followed(self) -> None:
        """Tell the master how many users there are."""
        self.spawning_complete(sum(self.user_classes_count.values()))  # type: ignore[no-untyped-call]

    def heartbeat_timeout_checker(self) -> NoReturn:
        """As Locust's, but after seconds and not after a minute, and without ending anything."""
        while True:
            gevent.sleep(HEARTBEAT_INTERVAL)
            # Counted and not measured: a process that was itself held up for long has only not listened.
            self._silent_s += HEARTBEAT_INTERVAL
            if self.client.admitted and self._silent_s > _MASTER_SILENT_S:
                self._lose(f"nothing was heard of the master for {_MASTER_SILENT_S:g} s")

    def send(self, kind: str, data: bytes) -> None:
        """Send a message of ours; nothing is sent to a master that is lost."""
        if self.lost is None and not self.client.send(Message(_MESSAGE, (kind, data), self.client_id)):  # type: ignore[no-untyped-call]
            self._lose("the master takes no messages any more")

    def leave(self) -> None:
        """Tell the master the last figures for its charts and that this worker leaves, and close."""
        self._send_stats()
        self.client.send(Message("quit", None, self.client_id))  # type: ignore[no-untyped-call]
        super().leave()
        self.client.close()

    def _lose(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
            self.client.hang_up()
            self.environment.hub.post(self._events.master_lost)


def _refused(where: str, *, has_token: bool) -> UsageError:
    if has_token:
        return UsageError(
            f"the master at {where} did not accept this worker's join token",
            hint="RTEVAL_JOIN_TOKEN has to be the same on the master and on each worker",
        )
    return UsageError(f"the master at {where} asks for a join token", hint="set RTEVAL_JOIN_TOKEN as on the master")


def _silent(where: str, max_wait_s: float, *, connected: bool) -> UsageError:
    if connected:
        return UsageError(
            f"something listens at {where}, but it did not answer as a master of rteval within {max_wait_s:g} s",
            hint="is that the address that `rteval run --master-bind` was given?",
        )
    return UsageError(
        f"no master was reached at {where} within {max_wait_s:g} s",
        hint="start it with `rteval run SCENARIO --master-bind HOST:PORT`; a firewall has to let the port through",
    )
