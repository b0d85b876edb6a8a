"""One run from scenario to verdict: prepares it, holds the sessions, keeps the records, and has them judged."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import platform
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from . import __version__
from .analysis.gates import Facts, Gate, check_gates_against, parse_gates, undecidable, validate_slo
from .audio import DETECTOR
from .client.audio_files import AudioKeeper
from .client.auth import Credential, choose_credential
from .client.frames import FrameBank
from .client.session import Caller, Session, TimeoutsS, planned_row
from .client.transport import Endpoint, speedups_missing
from .corpus import Dataset, load_dataset
from .errors import GateError, RtevalError, RunFolderError, ScenarioError, UsageError
from .judge import Judgement, judge
from .load import Engine, LoadModel
from .load.health import HealthMeter
from .load.inline import AsyncioEngine
from .load.stops import StopRules
from .plan import Plan, PlannedTurn, plan
from .progress import Progress, RunningTally, duration
from .realtime.dialects import DIALECTS, UnsupportedSettingError
from .realtime.events import SessionSettings
from .records import SCHEMA_VERSION, Outcome, SessionRecord, TurnRecord
from .reporting.files import RUN, write_json
from .scenario import Scenario, load_scenario
from .scoring.checks import item_checks
from .shards import ShardWriter
from .simulator.behaviour import load_behaviour
from .simulator.process import Simulator
from .targets import Address, target_address

__all__ = ["Prepared", "RunOptions", "prepare", "run"]

ECHO = (
    "the embedded server does not recognise words: its transcription is the dataset's own with the word errors that "
    "its behaviour asks for, so input_wer tests the way there and back, and no recogniser"
)

METRICS_VERSION = 1
"""Version of the definitions of the metrics; rises when one changes its meaning."""

_DRAIN_S = {"sigint": 4.0, "sigterm": 4.0, "limit": 10.0}
"""How long sessions may finish their turns once a run is to end; the contract for signals is 5 s in all."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LIBRARIES = ("azure-identity", "jiwer", "numpy", "pandas", "pyarrow", "soundfile", "soxr", "uvloop", "websockets")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line adds to a scenario.

    Attributes:
        out: folder of all reports.
        limit: at most so many items of the dataset.
        progress: whether people are told how it goes.
    """

    sets: Sequence[str] = ()
    set_files: Sequence[str] = ()
    out: Path = Path("reports")
    run_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    progress: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with everything that can be known before anything connects."""

    scenario: Scenario
    dataset: Dataset
    plan: Plan
    gates: tuple[Gate, ...]
    address: Address
    settings: SessionSettings

    @property
    def says_nothing_of_recognition(self) -> bool:
        """Whether word error rates will be those that the embedded server makes up."""
        transcribes = self.settings.transcription is not None and self.dataset.references > 0
        return self.address.embedded and transcribes and self.scenario.scoring.wer

    @property
    def doubtful_gates(self) -> list[str]:
        """The gates that the number of turns cannot decide, a sentence each."""
        return [f"{gate}: {why}" for gate, why in undecidable(self.gates, self.plan.turns)]


def prepare(scenario_path: Path, options: RunOptions) -> Prepared:
    """Read and check everything; nothing is connected.

    Raises:
        ScenarioError, DatasetError, GateError, UsageError: something is wrong, in one sentence or a list of them.
    """
    scenario = load_scenario(scenario_path, sets=options.sets, set_files=options.set_files)
    address = target_address(scenario)
    settings = SessionSettings(**scenario.session.settings())
    try:
        DIALECTS[address.dialect].session(settings)
    except UnsupportedSettingError as error:
        raise ScenarioError(f"{scenario_path}: dialect {address.dialect} cannot carry session.{error}") from error
    _endpoint(address).check()
    behaviour = scenario.target.behaviour
    if address.embedded and behaviour is not None:
        load_behaviour(behaviour)
    choice = scenario.dataset
    limits = [limit for limit in (choice.limit, options.limit) if limit is not None]
    dataset = load_dataset(
        choice.path,
        ids=choice.ids,
        tags=choice.tags,
        limit=min(limits, default=None),
        order=choice.order,
        seed=choice.seed,
    )
    facts = Facts(
        references=dataset.references,
        answers=sum(bool(item.expect and item.expect.get("answer")) for item in dataset.items),
        wer=scenario.scoring.wer,
        transcription=scenario.session.transcription is not None,
        slo=bool(scenario.slo),
    )
    gates = tuple(_gates(scenario, facts, _check_names(scenario, dataset)))
    validate_slo(scenario.slo)
    return Prepared(scenario, dataset, plan(scenario, dataset), gates, address, settings)


def _gates(scenario: Scenario, facts: Facts, checks: Sequence[str]) -> Iterator[Gate]:
    """The scenario's gates; all that cannot be read or could never have a value are named with their lines."""
    faults = []
    for number, text in enumerate(scenario.all_gates):
        try:
            (gate,) = parse_gates([text], checks=checks)
            check_gates_against([gate], facts)
            yield gate
        except GateError as error:
            faults.append(f"{scenario.where(f'gates[{number}]')}: {error}")
    if faults:
        count = f"{scenario.path}: {len(faults)} gates cannot be judged"
        raise GateError(faults[0] if len(faults) == 1 else "\n  ".join([count, *faults]))


def _endpoint(address: Address) -> Endpoint:
    ca_file = str(address.ca_file) if address.ca_file is not None else None
    return Endpoint(url=address.url, headers=address.headers, ca_file=ca_file, proxy=address.proxy)


def _check_names(scenario: Scenario, dataset: Dataset) -> tuple[str, ...]:
    of_items = {name for item in dataset.items for name in item_checks(item.expect)}
    return tuple(sorted(of_items | scenario.scoring.checks.keys()))


def run(scenario_path: Path, options: RunOptions, console: Console) -> Judgement:
    """Run a scenario and judge it; what people should know on the way goes to ``console``.

    Raises:
        RtevalError: it could not be run; its ``exit_code`` says why. Whatever had been recorded is kept and judged.
    """
    prepared = prepare(scenario_path, options)
    folder = _run_folder(prepared.scenario, options)
    live = _LiveRun(prepared, folder, options, console)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner, live.signals():
            runner.run(live.hold())
    except Exception:
        # What was recorded up to here is worth its tables; the error is what the user has to hear first.
        if os.path.exists(folder / RUN):
            with suppress(RtevalError):
                judge(folder)
        raise
    return judge(folder)


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _run_folder(scenario: Scenario, options: RunOptions) -> Path:
    run_id = options.run_id
    if run_id is None:
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    elif not _RUN_ID.fullmatch(run_id) or run_id == "latest":
        hint = "letters, digits, '.', '_' and '-', at most 100, and not the word latest"
        raise UsageError(f"--run-id {run_id!r} cannot name a folder", hint=hint)
    folder = options.out / scenario.name / run_id
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UsageError(f"--out {str(options.out)!r} is not UTF-8, and tables cannot be written there") from None
    if os.path.lexists(folder):
        raise UsageError(f"there is already a run in {folder}", hint="choose another --run-id, or leave it out")
    return folder


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        hint = "name a folder that can be written with --out"
        raise UsageError(f"cannot make the run folder {folder}: {error.strerror}", hint=hint) from error


class _LiveRun:
    """The live half of one run: from its first word to people until the last record is on disk."""

    def __init__(self, prepared: Prepared, folder: Path, options: RunOptions, console: Console) -> None:
        self._prepared = prepared
        self._folder = folder
        self._options = options
        self._console = console
        self._engine: Engine = AsyncioEngine()
        self._caller: Caller | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: ShardWriter | None = None
        self._end: dict[str, Any] | None = None
        self._signalled = False
        self._any_ready = False
        self._unwritable: RunFolderError | None = None
        self._warnings: list[str] = []
        self._keeper = AudioKeeper(folder / "audio", prepared.settings.output_format)
        limits = prepared.scenario.limits
        self._rules = StopRules(
            turns=limits.turns, sessions=limits.sessions, error_rate=limits.error_rate, min_n=limits.min_n
        )
        self._tally = RunningTally(
            turns=prepared.plan.turns,
            estimate_s=prepared.plan.duration_s,
            sessions_open=lambda: self._caller.sessions_open if self._caller is not None else 0,
        )

    # ---- the run ----

    async def hold(self) -> None:
        """Everything between the scenario and the records."""
        self._loop = asyncio.get_running_loop()
        address = self._prepared.address
        credential = choose_credential(
            auth=address.auth,
            api_key_env=address.api_key_env or "",
            auth_header=address.auth_header,
            scope=address.token_scope,
            env=os.environ,
            warn=self._warn,
        )
        try:
            await credential.prepare()
            _make_folder(self._folder)
            with self._server() as server:
                address = server.address if server is not None else address
                found = f"; found {credential.kind}" if address.auth == "entra" else ""
                self._say(f"{self._prepared.scenario.name}: {address.described()}{found}")
                await self._hold_sessions(address, credential)
        finally:
            credential.close()

    async def _hold_sessions(self, address: Address, credential: Credential) -> None:
        prepared, scenario = self._prepared, self._prepared.scenario
        caller = self._caller = self._new_caller(address, credential)
        if speedups_missing():
            self._warn("the C code of the websockets package is missing: sending costs several times as much CPU")
        self._say(
            f"{prepared.plan.turns} turns in {len(prepared.plan.sessions)} sessions, "
            f"{prepared.plan.sessions_at_once} at once, about {duration(prepared.plan.duration_s)}"
        )
        if prepared.says_nothing_of_recognition:
            self._warn(ECHO, kind="note")
        for sentence in (*prepared.dataset.notes, *(f"gate {doubt}" for doubt in prepared.doubtful_gates)):
            self._warn(sentence)
        caller.frames.warm(prepared.dataset.items)
        run_json = self._describe(address, credential)
        self._write_run_json(run_json)
        with ShardWriter(self._folder, caller.worker) as writer, _quiet_gc():
            self._writer = writer
            run_json["started_ns"] = time.perf_counter_ns()
            try:
                await self._drive(caller, scenario)
                if self._ended_by_limit and not self._tally.outcomes[Outcome.CUT]:
                    self._end = None  # it was reached with the last turn: nothing was kept from running
            except RtevalError as error:
                self._end = {"reason": "error", "detail": str(error)}
                raise
            except BaseException as error:
                self._end = {"reason": "bug", "detail": type(error).__name__}
                raise
            finally:
                self._writer = None
                run_json["ended_ns"] = time.perf_counter_ns()
                run_json["ended_at"] = _utc_now()
                nobody = caller.first_refusal is not None and not self._any_ready
                self._end = self._end or {"reason": "refused" if nobody else "finished", "detail": None}
                run_json["end"] = self._end
                run_json["refusal"] = self._refusal() if nobody else None
                run_json["target"]["credential"] = credential.kind
                run_json["live"] = {"sessions_peak": caller.sessions_peak, "warnings": self._warnings}
                try:
                    writer.flush()
                finally:
                    self._write_run_json(run_json)

    async def _drive(self, caller: Caller, scenario: Scenario) -> None:
        prepared = self._prepared
        model = LoadModel(
            sessions=scenario.load.sessions,
            ramp_s=scenario.load.ramp_s,
            connects_per_s=scenario.limits.connects_per_s,
        )
        helpers = [asyncio.create_task(self._meter.probe(), name="health")]
        if self._options.progress:
            shown = Progress(self._console, self._tally, scenario.name)
            helpers.append(asyncio.create_task(shown.show(), name="progress"))
        wall = None
        if scenario.limits.wall_s is not None and self._loop is not None:
            sentence = f"limits.wall_s: {scenario.limits.wall_s:g} s are over"
            wall = self._loop.call_later(scenario.limits.wall_s, partial(self.stop, "limit", sentence))
        try:
            await self._engine.run(prepared.plan.sessions, self._hold_session, model)
        finally:
            if wall is not None:
                wall.cancel()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            for name, turns in self._engine.left:
                for position, planned in enumerate(turns):
                    self.turn(planned_row(caller, name, position, planned))
            self._keeper.close()
            self._meter.report()
        if self._unwritable is not None:
            raise self._unwritable

    async def _hold_session(self, name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
        assert self._caller is not None
        if (limit := self._rules.session_started()) is not None:
            self.stop("limit", limit, keep=True)
        session = Session(self._caller, name, turns, due_ns)
        return await session.run()

    def _new_caller(self, address: Address, credential: Credential) -> Caller:
        prepared, scenario = self._prepared, self._prepared.scenario
        timeouts = scenario.target.timeouts
        detection = scenario.session.turn_detection
        caller = Caller(
            run_id=self._folder.name,
            worker="w0",
            provider=address.provider,
            endpoint=_endpoint(address),
            dialect=DIALECTS[address.dialect],
            credential=credential,
            settings=prepared.settings,
            timeouts=TimeoutsS(
                connect=timeouts.connect_s,
                session=timeouts.session_s,
                response=timeouts.response_s,
                transcription=timeouts.transcription_s,
                close=timeouts.close_s,
            ),
            frames=FrameBank(
                prepared.dataset, prepared.settings.input_format, scenario.load.frame_ms, manual=not detection.on
            ),
            rows=self,
            lags=self,
            frame_ms=scenario.load.frame_ms,
            detects_turns=detection.on,
            auto_response=detection.create_response is not False,
            realtime=scenario.load.pacing == "realtime",
            wait_for_playback=scenario.conversation.wait_for_playback,
            think_time_s=scenario.conversation.think_time_s,
            max_session_s=scenario.conversation.max_session_s,
            audio_kept=scenario.report.audio,
            keep_audio=self._keeper.keep,
        )
        self._meter = HealthMeter(caller.worker, lambda: caller.sessions_open, self._health)
        return caller

    @contextmanager
    def _server(self) -> Iterator[_Server | None]:
        """The embedded server, for a scenario whose target is the simulator."""
        address = self._prepared.address
        if not address.embedded:
            yield None
            return
        behaviour = self._prepared.scenario.target.behaviour
        with Simulator(
            datasets=[self._prepared.dataset.path],
            behaviour=Path(behaviour) if isinstance(behaviour, str) else behaviour,
            truth=self._folder / "truth.jsonl",
        ) as simulator:
            yield _Server(address.at(simulator.url))

    # ---- rows: the sessions' RowSink and LagMeter ----

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        assert self._caller is not None
        if self._writer is not None:
            self._writer.turn(record)
        self._tally.turn(record)
        if (limit := self._rules.turn_ended(record.outcome)) is not None:
            self.stop("limit", limit)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        if self._writer is not None:
            self._writer.session(record)
        self._any_ready = self._any_ready or record.outcome == "ready"
        self._tally.session(record)

    def send_lag(self, lag_ns: int) -> None:
        """One paced frame was reached late."""
        self._meter.send_lag(lag_ns)

    def _health(self, sample: Any) -> None:
        if self._writer is not None:
            try:
                self._writer.health(sample)
                self._writer.flush()
                if self._keeper.failure is not None:
                    raise self._keeper.failure
            except RunFolderError as error:
                # A run that cannot be recorded is over: hours of it would be lost at the end.
                self._unwritable = self._unwritable or error
                self._engine.cut()

    # ---- ending early ----

    def stop(self, reason: str, detail: str, *, keep: bool = False) -> None:
        """End the run in order: nothing new starts, turns may finish for a while, then they are cut.

        Args:
            reason: ``sigint``, ``sigterm`` or ``limit``; the first one counts.
            detail: a sentence for people.
            keep: only start no further session; those that run may do all their turns.
        """
        if self._end is not None and not self._ended_by_limit:
            return
        if self._end is None or reason != "limit":
            self._end = {"reason": reason, "detail": detail}
        elif keep or (self._caller is not None and self._caller.stopping.is_set()):
            return
        else:  # no further session was to start; now the turns end too
            self._end["detail"] += f"; {detail}"
        self._tally.stopping = "ending" if reason == "limit" else "ending (once more: at once)"
        self._engine.stop()
        if self._caller is not None and not keep:
            self._caller.stopping.set()
            if self._loop is not None:
                self._loop.call_later(_DRAIN_S[reason], self._engine.cut)

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

    def _leave_now(self, number: int) -> None:
        if self._writer is not None:
            with suppress(OSError):
                self._writer.flush()
        if (self._folder / "run.json").exists():
            self._console.print(
                f"\nended at once; `rteval report {self._folder}` makes the tables", markup=False, soft_wrap=True
            )
        os._exit(128 + number)

    # ---- run.json ----

    def _describe(self, address: Address, credential: Credential) -> dict[str, Any]:
        prepared, scenario = self._prepared, self._prepared.scenario
        dataset = prepared.dataset
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self._folder.name,
            "scenario": {
                "name": scenario.name,
                "path": str(scenario.path) if scenario.path is not None else None,
                "hash": scenario.hash,
                "resolved": scenario.resolved(),
            },
            "labels": {**scenario.labels, **self._options.labels},
            "target": {
                "provider": address.provider,
                "dialect": address.dialect,
                "address": address.shown,
                "credential": credential.kind,
                "model": address.model,
                "api_version": scenario.target.api_version,
            },
            "dataset": {
                "path": str(dataset.path),
                "name": dataset.name,
                "hash": dataset.hash,
                "items": len(dataset.items),
                "audio_s": dataset.audio_s,
                "references": dataset.references,
                "detector": DETECTOR,
            },
            "planned": {
                "turns": prepared.plan.turns,
                "sessions": len(prepared.plan.sessions),
                "sessions_at_once": prepared.plan.sessions_at_once,
            },
            "gates": [str(gate) for gate in prepared.gates],
            "checks": list(_check_names(scenario, dataset)),
            "scoring": scenario.scoring.model_dump(mode="json"),
            "slo": dict(scenario.slo),
            "limits": scenario.limits.model_dump(mode="json"),
            "report": scenario.report.model_dump(mode="json"),
            "versions": _versions(),
            "host": {"system": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
            "signals": None,
            "started_at": _utc_now(),
            "ended_at": None,
            "started_ns": None,
            "ended_ns": None,
            "state": "running",
            "end": None,
            "refusal": None,
            "live": {"sessions_peak": 0, "warnings": []},
        }

    def _refusal(self) -> dict[str, str | None]:
        assert self._caller is not None
        assert self._caller.first_refusal is not None
        sentence, hint = self._caller.first_refusal
        return {"message": sentence, "hint": hint}

    def _write_run_json(self, content: dict[str, Any]) -> None:
        write_json(self._folder / RUN, content)

    # ---- people ----

    def _say(self, sentence: str) -> None:
        if self._options.progress:
            self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _warn(self, sentence: str, *, kind: str = "warning") -> None:
        self._warnings.append(sentence)
        if self._options.progress:
            self._console.print(f"{kind}: {sentence}", markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Server:
    """An embedded server that listens."""

    address: Address


@contextmanager
def _quiet_gc() -> Iterator[None]:
    """Keep the collector out of the measured window: what exists is frozen, and new cycles are looked for rarely."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"rteval": __version__, "python": platform.python_version(), "metrics": METRICS_VERSION}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
