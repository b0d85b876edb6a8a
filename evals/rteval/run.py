"""One run from scenario to verdict: chooses what holds the sessions, keeps the records, and has them judged."""

from __future__ import annotations

import asyncio
import math
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .baseline import place_baseline
from .client.session import RowFacts
from .errors import RtevalError, RunFolderError, UsageError
from .judge import Judgement, judge
from .ledger import Ledger
from .load import Engine, charts
from .load import messages as msg
from .load.dealing import Dealer
from .load.fleet import Fleet
from .load.health import HealthMeter
from .load.inline import WORKER, AsyncioEngine
from .load.locust_engine import LocustEngine
from .load.schedule import Closed, StartSpacing, schedule_of
from .load.stops import StopRules
from .local_workers import LocalWorkers
from .plan import spread_s
from .prepare import Prepared, RunOptions, prepare
from .progress import Progress, RunningTally
from .realtime.dialects import DIALECTS, Dialect
from .realtime.events import SessionSettings
from .records import MASTER, HealthSample, Outcome, SessionRecord, TurnRecord
from .reporting.files import RUN, write_json
from .run_facts import describe, utc_now
from .scorers.apply import ScoreRun
from .shards import COPIES, is_writing
from .simulator.process import Simulator
from .station import Credentials, Station, loop_factory, quiet_gc
from .targets import is_loopback

if TYPE_CHECKING:
    from .load.swarm import LocalSwarm, MasterSwarm, Slots, UiOptions

__all__ = ["run"]

ECHO = (
    "the embedded server does not recognise words: its transcription is the dataset's own with the word errors that "
    "its behaviour asks for, so input_wer tests the way there and back, and no recogniser"
)

_DRAIN_S = {"limit": 10.0, "stopped": 10.0, "sigint": 4.0, "sigterm": 4.0, "time": 30.0}
"""How long sessions may finish their turns once a run is to end; the contract for signals is 5 s in all."""

_FORCE = {"limit": 0, "stopped": 1, "workers_lost": 1, "sigint": 2, "sigterm": 2}
"""Of two reasons to end a run the stronger one counts, and of two as strong the first."""

_WARM_UP_S = 600.0
"""How long workers may take to load everything; one that died meanwhile is missed within seconds."""

_LINGER_S = 3.0
"""How long the web UI stays after the end: its page asks every 2 s, and should see it."""

_FROM_HERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where processes of this machine find a master that listens on every address."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def run(scenario_path: Path, options: RunOptions, console: Console) -> Judgement:
    """Run a scenario and judge it; what people should know on the way goes to ``console``.

    Raises:
        RtevalError: it could not be run; its ``exit_code`` says why. Whatever had been recorded is kept and judged.
    """
    prepared = prepare(scenario_path, options)
    _check_reach(prepared, options)
    folder = _run_folder(prepared, options)
    live = _LiveRun(prepared, folder, options, console)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner, live.signals():
            runner.run(live.hold())
    except asyncio.CancelledError:
        raise SystemExit(live.signal_code) from None
    except Exception:
        # What was recorded up to here is worth its tables; the error is what the user has to hear first.
        if os.path.exists(folder / RUN):
            with suppress(RtevalError):
                live.settle_copies()
                judge(folder)
        raise
    live.settle_copies()
    # Who interrupts a run does not wait for a judge model; `rteval score` makes up for it.
    return judge(folder, score=None if live.signalled else _scorers(prepared, options, console))


def _scorers(prepared: Prepared, options: RunOptions, console: Console) -> ScoreRun | None:
    """What runs the scenario's scorers once the sessions are over, if it has any."""
    if not prepared.scorers:
        return None

    def say(sentence: str) -> None:
        if options.progress:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    return ScoreRun(prepared.scorers, say)


def _check_reach(prepared: Prepared, options: RunOptions) -> None:
    """Refuse what the command line and the scenario cannot do together."""
    options.uses_locust(prepared.scenario)
    if not math.isfinite(options.expect_workers_max_wait_s):
        raise UsageError(f"--expect-workers-max-wait {options.expect_workers_max_wait_s}: expected a number of seconds")
    bound = options.master_bind
    if bound is None and options.expect_workers is not None and options.expect_workers > options.workers:
        raise UsageError(
            f"--expect-workers {options.expect_workers}: nobody but the {options.workers} of --workers can join",
            hint="give --master-bind HOST:PORT, where workers of other machines join",
        )
    if bound is not None and prepared.address.embedded and not is_loopback(bound[0]):
        raise UsageError(
            "workers of other machines cannot reach the embedded server, which listens on this one alone",
            hint="start it with `rteval simulate --host HOST --port PORT`, and name its address in target.url",
        )


def _run_folder(prepared: Prepared, options: RunOptions) -> Path:
    run_id = options.run_id
    if run_id is None:
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    elif not _RUN_ID.fullmatch(run_id) or run_id == "latest":
        hint = "letters, digits, '.', '_' and '-', at most 100, and not the word latest"
        raise UsageError(f"--run-id {run_id!r} cannot name a folder", hint=hint)
    folder = options.out / prepared.scenario.name / run_id
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UsageError(f"--out {str(options.out)!r} is not UTF-8, and tables cannot be written there") from None
    if os.path.lexists(folder):
        raise UsageError(f"there is already a run in {folder}", hint="choose another --run-id, or leave it out")
    return folder


@dataclass(slots=True)
class _Facts(RowFacts):
    """What rows have in common that are written by a master, which holds no session itself."""

    run_id: str
    worker: str
    dialect: Dialect
    settings: SessionSettings
    variant: str | None


class _LiveRun:
    """The live half of one run: from its first word to people until the last record is on disk."""

    def __init__(self, prepared: Prepared, folder: Path, options: RunOptions, console: Console) -> None:
        self._prepared = prepared
        self._folder = folder
        self._options = options
        self._console = console
        self._engine: Engine | None = None
        self._dealer: Dealer | None = None
        self._station: Station | None = None
        self._fleet: Fleet | None = None
        self._swarm: LocalSwarm | MasterSwarm | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        # Nobody but the workers that this process starts has to know it, unless others may join.
        self._token = options.join_token or (None if options.master_bind else secrets.token_urlsafe(24))
        self._run_json: dict[str, Any] = {}
        self._end: dict[str, Any] | None = None
        self._wall: asyncio.TimerHandle | None = None
        self._signalled = False
        self._timed_out = False
        self._unwritable: RunFolderError | None = None
        self._warnings: list[str] = []
        self._ui_started: asyncio.Future[tuple[int | None, float | None]] | None = None
        limits = prepared.scenario.limits
        self._rules = StopRules(turns=limits.turns, error_rate=limits.error_rate, min_n=limits.min_n)
        self._tally = RunningTally(
            turns=prepared.plan.turns,
            estimate_s=prepared.plan.duration_s,
            sessions_open=None if options.distributed else self._sessions_open,
            sessions_asked=self._sessions_asked,
            arrivals_per_s=self._arrivals_per_s,
        )
        self._ledger = Ledger(
            folder,
            self._rules,
            self._tally,
            limit=partial(self.stop, "limit"),
            unwritable=self._disk_refused,
        )

    # ---- the run ----

    async def hold(self) -> None:
        """Everything between the scenario and the records."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with AsyncExitStack() as stack:
            if self._options.distributed:
                await self._hold_with_workers(stack)
            else:
                await self._hold_here(stack)
            if self._ui_started is not None and not self._signalled:
                await asyncio.sleep(_LINGER_S)

    async def _hold_here(self, stack: AsyncExitStack) -> None:
        """Hold the sessions in this process."""
        prepared = self._prepared
        credentials = Credentials(prepared, self._warn)
        stack.callback(credentials.close)
        await credentials.prepare()
        slots = _Slots() if self._options.uses_locust(prepared.scenario) else None
        users = await self._start_locust(stack, slots) if slots is not None else None
        self._make_folder(stack)
        server = stack.enter_context(self._server())
        found = any(variant.address.auth == "entra" for variant in prepared.variants)
        self._introduce(f"; found {credentials.kind}" if found else "")
        station = self._station = Station(
            prepared,
            server,
            credentials,
            run_id=self._folder.name,
            worker=WORKER,
            records=self,
            audio=self._folder / "audio",
        )
        station.warm(self._warn)
        self._run_json = self._describe(server, "asyncio" if slots is None else "locust")
        dealer = await self._new_dealer()
        kind = AsyncioEngine if slots is None else LocustEngine
        engine = kind(
            dealer,
            station.hold,
            begun=self._begun,
            end_turns=station.drain,
            over=self._time_is_over,
        )
        if isinstance(engine, LocustEngine) and slots is not None and users is not None:
            slots.engine, engine.users = engine, users
        self._engine = engine
        stack.enter_context(quiet_gc())
        self._ledger.open(WORKER)
        async with self._recorded():
            try:
                with station.watched():
                    await self._drive(engine, dealer, station.facts)
            finally:
                live, refusal = self._run_json["live"], station.board.first_refusal
                live["sessions_peak"] = station.board.sessions_peak
                self._run_json["target"]["credential"] = credentials.kind
                if refusal is not None and not self._ledger.any_ready:
                    self._run_json["refusal"] = {"message": refusal[0], "hint": refusal[1]}

    def _make_folder(self, stack: AsyncExitStack) -> None:
        """Make the run folder; a run that never begins leaves none."""
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            hint = "name a folder that can be written with --out"
            raise UsageError(f"cannot make the run folder {self._folder}: {error.strerror}", hint=hint) from error
        stack.callback(self._forget_folder)

    def _forget_folder(self) -> None:
        if not (self._folder / RUN).exists():
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _hold_with_workers(self, stack: AsyncExitStack) -> None:
        """Have the sessions held by worker processes, on this machine and others."""
        prepared, options = self._prepared, self._options
        fleet = self._fleet = Fleet(self._ledger, warn=self._warn)
        fleet.offer(self._job)
        host, port = (await self._start_master(stack, fleet)).address
        local = LocalWorkers(
            options.workers,
            host=_FROM_HERE.get(host, host),
            port=port,
            token=self._token,
            out=options.out,
            charts=options.ui is not None,
        )
        await stack.enter_async_context(local)
        try:
            self._say(f"waiting for {options.workers_expected} workers at {host}:{port}")
            await fleet.gather(options.workers_expected, options.expect_workers_max_wait_s, hopeless=local.failure)
            self._make_folder(stack)
            server = stack.enter_context(self._server())
            self._introduce()
            await fleet.warm(server, _WARM_UP_S)
        except RtevalError as error:
            fleet.farewell(kept=False, sentence=f"the run did not begin: {error}"[:1000], exit_code=2)
            raise
        self._run_json = self._describe(server, "locust") | {"workers": fleet.facts()}
        dealer = await self._new_dealer()
        fleet.deal(
            dealer,
            warmup_s=prepared.scenario.load.warmup_s,
            begun=self._begun,
            over=self._time_is_over,
            nobody=self._nobody_left,
        )
        self._engine = fleet
        facts = {
            variant.name: _Facts(
                self._folder.name, MASTER, DIALECTS[variant.address.dialect], variant.settings, variant.name
            )
            for variant in prepared.variants
        }
        kept = False
        try:
            async with self._recorded():
                try:
                    with HealthMeter(MASTER, lambda: 0, self.health).watched():
                        await self._drive(fleet, dealer, facts.__getitem__)
                finally:
                    for sentence in local.failures(least_code=1):
                        self._ledger.incident(sentence)
                    self._run_json["workers"] = fleet.facts()
                    self._run_json["target"]["credential"] = fleet.credential
                    if self._ledger.first_refusal is not None and not self._ledger.any_ready:
                        self._run_json["refusal"] = {"message": self._ledger.first_refusal, "hint": fleet.hint}
            kept = True
        finally:
            fleet.farewell(kept=kept)
            await local.wait()

    @asynccontextmanager
    async def _recorded(self) -> AsyncIterator[None]:
        """Keep ``run.json`` and the shards true from the first row to the last, however the run ends."""
        content = self._run_json
        self._write_run_json()
        try:
            yield
            if self._ended_by_limit and not self._kept_from_running:
                self._end = None  # it was reached with the last turn
            if self._unwritable is not None:
                raise self._unwritable
        except RtevalError as error:
            self._end = {"reason": "error", "detail": str(error)}
            raise
        except BaseException as error:
            self._end = {"reason": "bug", "detail": type(error).__name__}
            raise
        finally:
            content["ended_ns"] = time.perf_counter_ns()
            content["ended_at"] = utc_now()
            content["end"] = self._end or {"reason": "refused" if content["refusal"] else "finished", "detail": None}
            self._ledger.name_refused_variants()
            content["live"] |= {"warnings": self._warnings, "incidents": self._ledger.incidents}
            try:
                self._ledger.close()
            finally:
                self._write_run_json()

    async def _drive(self, engine: Engine, dealer: Dealer, facts: Callable[[str | None], RowFacts]) -> None:
        """Have every session held, in view of people and within the limit of time."""
        scenario = self._prepared.scenario
        self._run_json["started_ns"] = time.perf_counter_ns()
        helpers = []
        if self._options.progress:
            shown = Progress(self._console, self._tally, scenario.name)
            helpers.append(asyncio.create_task(shown.show(), name="progress"))
        if self._end is not None:  # Stop was pressed while what Start had asked for was being made
            engine.drain(_DRAIN_S[self._end["reason"]])
        try:
            await engine.run()
        finally:
            if self._wall is not None:
                self._wall.cancel()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if self._swarm is not None:
                self._swarm.show_stopped()
            if dealer.held_back(time.perf_counter_ns()):
                self._note_limit(f"limits.sessions: {scenario.limits.sessions} sessions were started")
            self._ledger.not_held(facts, dealer.left(time.perf_counter_ns()))

    async def _new_dealer(self) -> Dealer:
        """Who deals the sessions of this run. With the web UI, once somebody has started it."""
        plan, scenario = self._prepared.plan, self._prepared.scenario
        schedule = schedule_of(scenario.load, plan)
        self._introduce_load()
        if self._ui_started is not None:
            assert self._swarm is not None
            assert self._swarm.ui_address is not None
            host, port = self._swarm.ui_address
            self._say(f"open http://{host}:{port}/ and press Start")
            users, rate = await (self._fleet.wait_for(self._ui_started) if self._fleet else self._ui_started)
            if users is not None and isinstance(schedule, Closed) and not scenario.load.stages:
                schedule = self._as_asked_in_ui(users, rate)
        self._dealer = Dealer(
            plan.stream(),
            schedule,
            spacing=StartSpacing(scenario.limits.connects_per_s),
            max_sessions=scenario.load.most_sessions,
            most=scenario.limits.sessions,
        )
        return self._dealer

    def _as_asked_in_ui(self, users: int, rate: float | None) -> Closed:
        ramp_s = users / rate if rate else spread_s(users, None)
        self._run_json["load"] |= {"peak": users, "asked": [[0.0, 0], [ramp_s, users]]}
        return Closed(users, ramp_s, (), self._prepared.scenario.load.ends_s)

    def _resize(self, dealer: Dealer, users: int, rate: float) -> None:
        """Another number of sessions is asked for in the web UI while the run goes on."""
        now_ns = time.perf_counter_ns()
        if dealer.start_ns is None or now_ns < dealer.start_ns:
            return
        before = dealer.wanted(now_ns)
        dealer.resize(users, now_ns, rate)
        load = self._run_json["load"]
        at_s = (now_ns - load["started_ns"]) / 1e9
        corners = [corner for corner in load["asked"] if corner[0] < at_s]
        load["asked"] = [*corners, [at_s, before], [at_s + abs(users - before) / rate, users]]
        load["peak"] = max(load["peak"], users)

    def _begun(self, start_ns: int) -> None:
        self._run_json["load"]["started_ns"] = start_ns
        self._write_run_json()  # so that a run that is killed says when its schedule began
        self._tally.begin()
        warmup_s = self._prepared.scenario.load.warmup_s
        if self._station is not None and warmup_s:
            self._station.warm_until_ns = start_ns + round(warmup_s * 1e9)
        wall_s = self._prepared.scenario.limits.wall_s
        if wall_s is not None and self._loop is not None:
            after_s = (start_ns - time.perf_counter_ns()) / 1e9 + wall_s
            self._wall = self._loop.call_later(
                after_s, partial(self.stop, "limit", f"limits.wall_s: {wall_s:g} s are over")
            )

    @contextmanager
    def _server(self) -> Iterator[str | None]:
        """Where an embedded server listens, for a scenario that brings its own; one serves all variants."""
        if not self._prepared.address.embedded:
            yield None
            return
        behaviour = self._prepared.scenario.target.behaviour
        with Simulator(
            datasets=[self._prepared.dataset.path],
            behaviour=Path(behaviour) if isinstance(behaviour, str) else behaviour,
            truth=self._folder / "truth.jsonl",
        ) as simulator:
            yield simulator.url

    # ---- Locust: users, workers, web UI ----

    async def _start_locust(self, stack: AsyncExitStack, slots: Slots) -> LocalSwarm:
        from .load.swarm import LocalSwarm

        swarm = self._swarm = LocalSwarm(slots, ui=self._ui())
        await swarm.start()
        stack.push_async_callback(swarm.quit)
        return swarm

    async def _start_master(self, stack: AsyncExitStack, fleet: Fleet) -> MasterSwarm:
        from .load.swarm import MasterSwarm

        host, port = self._options.master_bind or ("127.0.0.1", 0)
        swarm = self._swarm = MasterSwarm(fleet, host=host, port=port, token=self._token, ui=self._ui())
        fleet.line = swarm  # before it starts: who waited for it may be on the line before ``start`` returns
        await swarm.start()
        stack.push_async_callback(swarm.quit)
        return swarm

    def _ui(self) -> UiOptions | None:
        if self._options.ui is None:
            return None
        from .load.swarm import UiOptions

        assert self._loop is not None
        self._ui_started = self._loop.create_future()
        load, plan = self._prepared.scenario.load, self._prepared.plan
        host, port = self._options.ui
        rate = plan.sessions_at_once / load.ramp_s if load.ramp_s else 100.0
        shaped = load.arrivals is not None or bool(load.stages)
        return UiOptions(
            events=self,
            host=host,
            port=port,
            users=plan.sessions_at_once,
            spawn_rate=rate,
            shaped=shaped,
            target=self._prepared.address.described(),
        )

    def _job(self, worker: str) -> msg.Job:
        prepared = self._prepared
        return msg.Job(
            run_id=self._folder.name,
            worker=worker,
            scenario=prepared.scenario.portable(),
            limit=len(prepared.dataset.items) if self._options.limit else None,
            dataset_name=prepared.dataset.name,
            dataset_hash=prepared.dataset.hash,
        )

    def ui_start(self, users: int | None, spawn_rate: float | None) -> None:
        """Somebody pressed Start in the web UI, or changed the numbers."""
        if self._ui_started is not None and not self._ui_started.done():
            self._ui_started.set_result((users, spawn_rate))
        elif self._dealer is not None and users is not None and spawn_rate is not None:
            self._resize(self._dealer, users, spawn_rate)

    def ui_stop(self) -> None:
        """Somebody pressed Stop in the web UI."""
        if self._ui_started is not None and self._ui_started.done():
            self.stop("stopped", "stopped in the web UI")

    # ---- rows of sessions in this process ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        self._chart(charts.of_turn(record))
        self._ledger.turn(record)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        self._chart(charts.of_session(record))
        self._ledger.session(record)

    def health(self, sample: HealthSample) -> None:
        """A second has passed."""
        self._ledger.health(sample)
        if self._station is not None and self._station.failure is not None:
            self._disk_refused(self._station.failure)

    def _chart(self, events: Iterable[charts.Event]) -> None:
        if self._options.ui is not None and self._swarm is not None:
            self._swarm.fire(events)

    def _disk_refused(self, error: RunFolderError) -> None:
        # A run that cannot be recorded is over: hours of it would be lost at the end.
        if self._unwritable is None:
            self._unwritable = error
            if self._engine is not None:
                self._engine.cut()

    def _sessions_open(self) -> int:
        return self._station.board.sessions_open if self._station is not None else 0

    def _sessions_asked(self) -> int | None:
        if self._dealer is None or self._prepared.scenario.load.arrivals is not None:
            return None
        return self._dealer.wanted(time.perf_counter_ns())

    def _arrivals_per_s(self) -> float | None:
        if self._dealer is None or self._prepared.scenario.load.arrivals is None:
            return None
        return self._dealer.arrivals_per_s(time.perf_counter_ns())

    # ---- ending early ----

    def stop(self, reason: str, detail: str) -> None:
        """End the run in order: nothing new starts, turns may finish for a while, then they are cut.

        Args:
            reason: ``sigint``, ``sigterm``, ``limit`` or ``stopped``.
            detail: a sentence for people.
        """
        if self._end is not None and _FORCE[reason] <= _FORCE.get(self._end["reason"], 3):
            return
        self._end = {"reason": reason, "detail": detail}
        self._tally.stopping = "ending" if reason == "limit" else "ending (once more: at once)"
        if self._engine is not None:
            self._engine.drain(_DRAIN_S[reason])
        elif self._task is not None and self._signalled:
            self._task.cancel()  # nothing was measured yet

    def _note_limit(self, sentence: str) -> None:
        """A limit kept sessions from starting; those that ran did all their turns."""
        if self._end is None:
            self._end = {"reason": "limit", "detail": sentence}
        elif self._ended_by_limit:
            self._end["detail"] = f"{sentence}; {self._end['detail']}"

    def _time_is_over(self) -> None:
        """The time of a timed run is over: turns under way may finish."""
        if self._end is None and self._engine is not None:
            self._timed_out = True
            self._tally.stopping = "ending"
            self._engine.drain(_DRAIN_S["time"])

    def _nobody_left(self) -> None:
        if self._end is None:
            self._end = {"reason": "workers_lost", "detail": "no worker was left to hold sessions"}

    @property
    def _kept_from_running(self) -> bool:
        """Whether anything was, of what the scenario asks for. A timed run asks for its time, not for so many turns."""
        return bool(self._tally.outcomes[Outcome.CUT]) or (self._prepared.plan.endless and not self._timed_out)

    @property
    def _ended_by_limit(self) -> bool:
        return self._end is not None and self._end["reason"] == "limit"

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run in order; a second one ends the process now."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            reason = "sigint" if number == signal.SIGINT else "sigterm"
            if self._signalled:  # not by ``_end``: a loop that is busy has not seen the first one yet
                self._leave_now(number)
            self._signalled = True
            loop = self._loop
            if loop is None or loop.is_closed():
                raise SystemExit(128 + number)
            loop.call_soon_threadsafe(self.stop, reason, signal.Signals(number).name)

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def signalled(self) -> bool:
        """Whether SIGINT or SIGTERM came."""
        return self._signalled

    @property
    def signal_code(self) -> int:
        """What the process ends with after a signal that came before anything ran."""
        return 143 if self._end is not None and self._end["reason"] == "sigterm" else 130

    def _leave_now(self, number: int) -> None:
        self._ledger.flush()
        if (self._folder / "run.json").exists():
            self._console.print(
                f"\nended at once; `rteval report {self._folder}` makes the tables", markup=False, soft_wrap=True
            )
        os._exit(128 + number)

    def settle_copies(self) -> None:
        """Whoever still writes a copy of what it recorded was lost long ago: what the copy holds by now is judged (of
        turns that were run again, the others' rows), what is added later is not.

        Raises:
            RunFolderError: ``run.json`` cannot be written.
        """
        found = []
        for path in sorted((self._folder / COPIES).glob("*.jsonl")):
            with suppress(OSError):
                if is_writing(path):
                    so_far = path.with_suffix(".part")
                    shutil.copyfile(path, so_far)
                    so_far.replace(path)  # what is written on goes to the old file, which nobody reads
                    found.append(path.stem)
        if found:
            self._ledger.incident(f"{', '.join(found)} still recorded when the run was judged; what came later is lost")
            self._write_run_json()

    # ---- run.json and people ----

    def _describe(self, server: str | None, engine: str) -> dict[str, Any]:
        run = describe(self._prepared, self._options, server, run_id=self._folder.name, engine=engine)
        return run | {"baseline": place_baseline(self._prepared.baseline, self._folder)}

    def _write_run_json(self) -> None:
        write_json(self._folder / RUN, self._run_json)

    def _introduce(self, found: str = "") -> None:
        prepared = self._prepared
        targets = dict.fromkeys(variant.address.described() for variant in prepared.variants)
        for target in targets:
            self._say(f"{prepared.scenario.name}: {target}{found}")

    def _introduce_load(self) -> None:
        prepared = self._prepared
        self._say(prepared.in_words)
        if prepared.says_nothing_of_recognition:
            self._warn(ECHO, kind="note")
        for sentence in (
            *prepared.dataset.notes,
            *prepared.scorer_obstacles,
            *prepared.plan.doubts,
            *(f"gate {doubt}" for doubt in prepared.doubtful_gates),
        ):
            self._warn(sentence)

    def _say(self, sentence: str) -> None:
        if self._options.progress:
            self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _warn(self, sentence: str, *, kind: str = "warning") -> None:
        self._warnings.append(sentence)
        if self._options.progress:
            self._console.print(f"{kind}: {sentence}", markup=False, highlight=False, soft_wrap=True)


class _Slots:
    """Locust's users, which exist before the engine that has them hold sessions."""

    engine: LocustEngine

    async def hold_slot(self) -> None:
        """The life of one user."""
        await self.engine.hold_slot()
