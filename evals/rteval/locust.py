"""Realtime sessions for a plain ``locust -f``: a user class that holds the sessions of a scenario, one after the other.

A whole locustfile is::

    from rteval.locust import RealtimeUser


    class Caller(RealtimeUser):
        pass

The environment says what is run: ``RTEVAL_SCENARIO`` names the scenario file, ``RTEVAL_OUT`` the folder of all reports
(``reports``). Locust says how many sessions are open and for how long; the scenario's own ``load`` has no effect.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import gevent
from gevent.lock import RLock
from locust import User, constant, events, task
from locust.exception import CatchResponseError, StopUser
from locust.runners import STATE_INIT, MasterRunner, WorkerRunner

from .errors import RtevalError, UsageError
from .load import charts
from .records import Outcome, SessionRecord, TurnRecord

if TYPE_CHECKING:
    from locust.env import Environment

    from .guest import GuestRun
    from .prepare import Prepared
    from .station import Credentials

__all__ = ["RealtimeUser"]

T = TypeVar("T")

_DRAIN_S = 10.0
"""How long turns may take to end once the test is to stop, unless ``--stop-timeout`` says."""
_LATE_S = 10.0
"""How much longer a master waits for its workers to say that their sessions have ended."""
_FIRE_EVERY_S = 0.1

_DRAIN, _DRAINED, _REFUSED = "rteval.drain", "rteval.drained", "rteval.refused"
_LONGEST = 4000

_log = logging.getLogger(__name__)


class RealtimeUser(User):
    """A caller: each of its tasks is one session of the scenario with all its turns.

    Derive a class of your own from it, as from Locust's ``HttpUser``; ``wait_time`` is the pause between two sessions.
    Requests are called ``rteval/<metric>``. When the test stops, turns under way may end first; a user that Locust
    stops before gives up its place, and its session is held to its end.
    """

    abstract = True
    wait_time = constant(0)

    @task
    def hold_session(self) -> None:
        """Hold the next session of the scenario."""
        if not _host_of(self.environment).hold_session():
            raise StopUser


class _Host:
    """What the users of one process share: the loop, the credential, and the run that the current test is.

    Args:
        environment: Locust's.
    """

    def __init__(self, environment: Environment) -> None:
        from .load.guest import GuestLoop
        from .station import loop_factory

        self._environment = environment
        self._loop = GuestLoop(loop_factory())
        # Held while a run begins and while it ends: whoever wants the other has to wait.
        self._lock = RLock()
        self._ready: tuple[Prepared, Credentials] | None = None
        self._run: GuestRun | None = None
        self._over = False
        self._interrupts = 0
        self._requests: deque[charts.Event] = deque()
        hooks: Any = environment.events  # Locust gives its hooks no types
        hooks.test_start.add_listener(self._test_starts)
        hooks.test_stopping.add_listener(self._test_ends)
        hooks.test_stop.add_listener(self._test_ends)
        hooks.quit.add_listener(self._quits)
        if isinstance(environment.runner, WorkerRunner):
            environment.runner.register_message(_DRAIN, self._master_drains, concurrent=True)

    # ---- before a test ----

    def prepare(self) -> tuple[Prepared, Credentials]:
        """Read and check the scenario, and find its credentials; once.

        Raises:
            RtevalError: something is wrong with it, in one sentence or a list of them.
        """
        from .prepare import RunOptions, prepare
        from .station import Credentials

        with self._lock:
            if self._ready is None:
                prepared = _in_native_thread(lambda: prepare(_scenario(), RunOptions()))
                for note in prepared.dataset.notes:
                    _log.warning(note)
                self._loop.start()
                if gevent.get_hub().loop.default:  # of the main thread, the one that gets signals
                    # Python's own handler would raise KeyboardInterrupt inside the loop.
                    gevent.signal_handler(signal.SIGINT, self.interrupt)
                credentials = Credentials(prepared, _log.warning)
                self._loop.submit(credentials.prepare).wait()
                for target in dict.fromkeys(variant.address.described() for variant in prepared.variants):
                    _log.info("%s: %s", prepared.scenario.name, target)
                self._ready = prepared, credentials
            return self._ready

    # ---- a test ----

    def hold_session(self) -> bool:
        """Hold the next session; ``False`` when none may begin any more."""
        run = self._run or self._begin()
        if run is not None and self._loop.submit(run.hold_next).wait():
            return True
        with self._lock:  # where a user is all there is, the process would end before the run has
            return False

    def _begin(self) -> GuestRun | None:
        """The run of the current test, made by whoever asks for it first; ``None`` when the test is over or failed."""
        from .guest import GuestRun

        with self._lock:
            if self._run is not None or self._over:
                return self._run
            try:
                prepared, credentials = self.prepare()
                place = max(0, getattr(self._environment.runner, "worker_index", 0))
                run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}-w{place}"
                folder = Path(os.environ.get("RTEVAL_OUT") or "reports") / prepared.scenario.name / run_id
                run = GuestRun(prepared, credentials, folder, place=place, heard=self._heard, broken=self._break)
                self._loop.submit(run.open).wait()
            except RtevalError as error:
                self._break(error)
                return None
            self._run = run
            gevent.spawn(self._fire_while, run)
            return run

    def end(self) -> None:
        """End the run, if there is one: its turns may end first, for a while. It is all recorded when this returns."""
        self._over = True
        with self._lock:
            run, runner = self._run, self._environment.runner
            if run is None:
                return
            try:
                self._loop.submit(run.close, self._environment.stop_timeout or _DRAIN_S).wait()
            except RtevalError as error:
                _fail(self._environment, error)
            finally:
                self._run = None
            self._fire()
            if isinstance(runner, WorkerRunner):
                runner._send_stats()  # Locust's master may leave before the next regular report
            if run.refusal is not None:
                _log.error("no session became ready: %s", " - ".join(filter(None, run.refusal)))
            _log.info("%d turns recorded; `rteval report %s` makes the tables", run.turns, run.folder)

    def interrupt(self) -> None:
        """SIGINT: end in order, then leave as Locust does. The second time what still runs is cut, the third all.

        At Ctrl-C in a terminal the master hears it too, and its word to end may be here before the signal: that the end
        has begun does not make it the second time.
        """
        self._interrupts += 1
        if self._interrupts > 2:
            os._exit(130)
        if self._ready is None:
            _raise_in_main(KeyboardInterrupt())
        elif self._interrupts == 2:
            if self._run is not None:
                self._run.cut()
        else:
            if self._run is not None:
                _log.info("ending: turns under way may end (once more: at once)")
            self.end()
            _raise_in_main(KeyboardInterrupt())

    def _break(self, error: RtevalError) -> None:
        """No session can be held any more; what runs may end."""
        self._over = True
        _fail(self._environment, error)
        gevent.spawn(self._leave)

    def _leave(self) -> None:
        runner, web_ui = self._environment.runner, self._environment.web_ui
        if runner is not None and web_ui is not None:
            runner.stop()
        elif runner is not None:
            runner.quit()

    # ---- what Locust says ----

    def _test_starts(self, **_: Any) -> None:
        self._over = False
        self._begin()

    def _test_ends(self, **_: Any) -> None:
        self.end()

    def _master_drains(self, **_: Any) -> None:
        self.end()
        runner = self._environment.runner
        if runner is not None:
            runner.send_message(_DRAINED)

    def _quits(self, **_: Any) -> None:
        self.end()
        if self._ready is not None:
            self._ready[1].close()
        self._loop.stop()

    # ---- what Locust is told ----

    def _heard(self, record: TurnRecord | SessionRecord) -> None:
        match record:
            case TurnRecord():
                self._requests.extend(charts.of_turn(record))
                if record.outcome is Outcome.OK:
                    # One request a turn, so that its share of failures is the error rate.
                    self._requests.append(charts.Event(f"{charts.PREFIX}turn", _length_ms(record)))
            case SessionRecord():
                self._requests.extend(charts.of_session(record))

    def _fire_while(self, run: GuestRun) -> None:
        while self._run is run:
            gevent.sleep(_FIRE_EVERY_S)
            self._fire()

    def _fire(self) -> None:
        """Fire what gathered; never inside the loop, which listeners could hold up."""
        request: Any = self._environment.events.request
        while self._requests:
            event = self._requests.popleft()
            request.fire(
                request_type="rteval",
                name=event.name,
                response_time=event.value_ms,
                response_length=event.size,
                exception=CatchResponseError(event.error) if event.error is not None else None,
                start_time=time.time() - (event.value_ms or 0.0) / 1000,
                response=None,
                context={},
                url=None,
            )


class _Coordinator:
    """The master's side: it holds no session, and has its workers end theirs before Locust ends the workers.

    Args:
        runner: the master's.
    """

    def __init__(self, runner: MasterRunner) -> None:
        self._runner = runner
        self._waiting: set[str] | None = None
        runner.register_message(_DRAINED, self._worker_drained)
        runner.register_message(_REFUSED, self._worker_refused)
        hooks: Any = runner.environment.events
        hooks.test_stopping.add_listener(self._drain)

    def _drain(self, **_: Any) -> None:
        runner = self._runner
        if self._waiting is not None:
            return  # Locust stops the test a second time when its last worker leaves
        self._waiting = {client.id for client in runner.clients.spawning + runner.clients.running}
        for worker in self._waiting:
            runner.send_message(_DRAIN, client_id=worker)
        deadline = time.monotonic() + (runner.environment.stop_timeout or _DRAIN_S) + _LATE_S
        # A second Ctrl-C: Locust is on its way out already, and the workers have got it too.
        with suppress(KeyboardInterrupt):
            while self._waiting & self._alive() and time.monotonic() < deadline:
                gevent.sleep(0.05)
        self._waiting = None

    def _alive(self) -> set[str]:
        clients = self._runner.clients
        return {client.id for client in clients.all} - {client.id for client in clients.missing}

    def _worker_drained(self, msg: Any, **_: Any) -> None:
        if self._waiting is not None:
            self._waiting.discard(msg.node_id)

    def _worker_refused(self, msg: Any, **_: Any) -> None:
        data = msg.data if isinstance(msg.data, dict) else {}
        code = data.get("exit_code")
        runner: Any = self._runner
        index = runner.get_worker_index(msg.node_id)
        _log.error("worker %s holds no sessions: %s", index, str(data.get("sentence"))[:_LONGEST])
        environment = runner.environment
        environment.process_exit_code = code if isinstance(code, int) and 0 < code < 256 else 2
        if (
            runner.state == STATE_INIT
            and environment.parsed_options is not None
            and environment.parsed_options.headless
        ):
            # Locust would wait for its workers for ever.
            _raise_in_main(SystemExit(environment.process_exit_code))


_hosts: WeakKeyDictionary[Environment, _Host] = WeakKeyDictionary()


def _host_of(environment: Environment) -> _Host:
    if environment not in _hosts:
        _hosts[environment] = _Host(environment)
    return _hosts[environment]


def _locust_is_up(environment: Environment, **_: Any) -> None:
    """Make everything ready that can be, so that what is wrong is said before the test."""
    if not any(issubclass(user_class, RealtimeUser) for user_class in environment.user_classes):
        return
    if isinstance(environment.runner, MasterRunner):
        _Coordinator(environment.runner)
        return
    try:
        _host_of(environment).prepare()
    except RtevalError as error:
        _leave_at_once(environment, error)
    except Exception as bug:
        # Locust would leave without a word to the master, who would call the test a success.
        _log.exception("this is a bug in rteval")
        _leave_at_once(environment, RtevalError(f"this is a bug in rteval: {type(bug).__name__}: {bug}"))


def _leave_at_once(environment: Environment, error: RtevalError) -> NoReturn:
    _fail(environment, error)
    if isinstance(environment.runner, WorkerRunner):
        hooks: Any = environment.events
        hooks.quitting.fire(environment=environment, reverse=True)  # the master hears that we go
    sys.exit(error.exit_code)


def _fail(environment: Environment, error: RtevalError) -> None:
    """Say to people and to the master why no session can be held here."""
    sentence = str(error) if error.hint is None else f"{error} ({error.hint})"
    _log.error(sentence)
    environment.process_exit_code = error.exit_code
    if isinstance(environment.runner, WorkerRunner):
        told = {"sentence": sentence[:_LONGEST], "exit_code": error.exit_code}
        environment.runner.send_message(_REFUSED, told)


def _in_native_thread(function: Callable[[], T]) -> T:
    """Run what takes long, e.g. reading a large dataset, while a worker's heartbeats and its other greenlets go on."""

    def run() -> T | RtevalError:
        try:
            return function()
        except RtevalError as error:
            return error  # gevent prints what it sees raised in there

    result: T | RtevalError = gevent.get_hub().threadpool.apply(run)
    if isinstance(result, RtevalError):
        raise result
    return result


def _raise_in_main(error: BaseException) -> None:
    """End Locust as if this had come out of what its main greenlet waits for."""
    main = gevent.get_hub().parent
    assert main is not None
    gevent.kill(main, error)


def _length_ms(turn: TurnRecord) -> float | None:
    if turn.started_ns is None or turn.response_done_ns is None:
        return None
    return (turn.response_done_ns - turn.started_ns) / 1e6


def _scenario() -> Path:
    name = os.environ.get("RTEVAL_SCENARIO")
    if not name:
        hint = "name the scenario file in it, e.g. RTEVAL_SCENARIO=scenarios/support.yaml"
        raise UsageError("RTEVAL_SCENARIO is not set", hint=hint)
    return Path(name)


_init_hook: Any = events.init
_init_hook.add_listener(_locust_is_up)
