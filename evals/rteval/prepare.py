"""From a scenario file to everything that can be known of its run before anything connects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .analysis.gates import Facts, Gate, check_gates_against, parse_gates, undecidable, validate_slo
from .client.transport import Endpoint
from .corpus import Dataset, load_dataset
from .errors import GateError, ScenarioError, UsageError
from .plan import Plan, plan
from .progress import duration
from .realtime.dialects import DIALECTS, UnsupportedSettingError
from .realtime.events import SessionSettings
from .scenario import Scenario, load_scenario
from .scoring.checks import item_checks
from .simulator.behaviour import load_behaviour
from .targets import Address, target_address

__all__ = ["Prepared", "RunOptions", "check_names", "endpoint", "prepare", "prepare_scenario"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line adds to a scenario.

    Attributes:
        out: folder of all reports.
        limit: at most so many items of the dataset.
        progress: whether people are told how it goes.
        workers: worker processes on this machine.
        master_bind: host and port at which workers of other machines join.
        expect_workers: so many are waited for; by default those of this machine, and one where others may join.
        expect_workers_max_wait_s: how long.
        join_token: what workers of other machines have to know.
        ui: host and port of Locust's web UI.
    """

    sets: Sequence[str] = ()
    set_files: Sequence[str] = ()
    out: Path = Path("reports")
    run_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    progress: bool = True
    workers: int = 0
    master_bind: tuple[str, int] | None = None
    expect_workers: int | None = None
    expect_workers_max_wait_s: float = 60.0
    join_token: str | None = field(default=None, repr=False)
    ui: tuple[str, int] | None = None

    @property
    def distributed(self) -> bool:
        """Whether other processes hold the sessions."""
        return self.workers > 0 or self.master_bind is not None

    @property
    def workers_expected(self) -> int:
        """How many workers are waited for."""
        return self.expect_workers or self.workers + (self.master_bind is not None)

    def uses_locust(self, scenario: Scenario) -> bool:
        """Whether Locust drives the sessions: beyond the desk it does, unless the scenario names the engine.

        Raises:
            UsageError: the scenario asks for an engine that cannot do what the command line wants.
        """
        load = scenario.load
        if self.distributed or self.ui is not None:
            if load.engine == "asyncio":
                option = "--ui" if self.ui is not None else "--workers and --master-bind"
                raise UsageError(f"{option} needs Locust, and {scenario.where('load.engine')} asks for asyncio")
            return True
        timed = load.ends_s is not None or load.arrivals is not None
        return load.engine == "locust" or (load.engine == "auto" and timed)


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
    def in_words(self) -> str:
        """What will be run, for people."""
        plan, load = self.plan, self.scenario.load
        took = f"about {duration(plan.duration_s)}"
        if load.arrivals is None:
            peak = f"{plan.sessions_at_once} at once" if not load.stages else f"up to {plan.sessions_at_once} at once"
        else:
            peak = f"arriving at {load.arrivals.rate:g} a {load.arrivals.per}, at most {load.most_sessions} at once"
        if plan.endless:
            return f"sessions for {duration(load.ends_s or 0)}, {peak}: about {plan.expected_turns} turns, {took}"
        return f"{plan.turns} turns in {plan.session_count} sessions, {peak}, {took}"

    @property
    def doubtful_gates(self) -> list[str]:
        """The gates that the number of turns cannot decide, a sentence each."""
        return [f"{gate}: {why}" for gate, why in undecidable(self.gates, self.plan.measured_turns)]


def prepare(scenario_path: Path, options: RunOptions) -> Prepared:
    """Read and check everything; nothing is connected.

    Raises:
        ScenarioError, DatasetError, GateError, UsageError: something is wrong, in one sentence or a list of them.
    """
    scenario = load_scenario(scenario_path, sets=options.sets, set_files=options.set_files)
    return prepare_scenario(scenario, limit=options.limit)


def prepare_scenario(scenario: Scenario, *, limit: int | None = None) -> Prepared:
    """The same for a scenario that was read already.

    Args:
        scenario: from a file, or from the master of a run.
        limit: at most so many items of the dataset, beside the scenario's own limit.

    Raises:
        ScenarioError, DatasetError, GateError: something is wrong, in one sentence or a list of them.
    """
    address = target_address(scenario)
    settings = SessionSettings(**scenario.session.settings())
    try:
        DIALECTS[address.dialect].session(settings)
    except UnsupportedSettingError as error:
        where = scenario.where("session")
        raise ScenarioError(f"{where}: dialect {address.dialect} cannot carry session.{error}") from error
    endpoint(address).check()
    behaviour = scenario.target.behaviour
    if address.embedded and behaviour is not None:
        load_behaviour(behaviour)
    choice = scenario.dataset
    limits = [most for most in (choice.limit, limit) if most is not None]
    dataset = load_dataset(
        choice.path,
        ids=choice.ids,
        tags=choice.tags,
        limit=min(limits, default=None),
        order=choice.order,
        seed=choice.seed,
        flat=scenario.path.parent if scenario.path is not None else None,
    )
    facts = Facts(
        references=dataset.references,
        answers=sum(bool(item.expect and item.expect.get("answer")) for item in dataset.items),
        wer=scenario.scoring.wer,
        transcription=scenario.session.transcription is not None,
        slo=bool(scenario.slo),
    )
    gates = tuple(_gates(scenario, facts, check_names(scenario, dataset)))
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


def endpoint(address: Address) -> Endpoint:
    """What is dialled for an address."""
    ca_file = str(address.ca_file) if address.ca_file is not None else None
    return Endpoint(url=address.url, headers=address.headers, ca_file=ca_file, proxy=address.proxy)


def check_names(scenario: Scenario, dataset: Dataset) -> tuple[str, ...]:
    """Names of all checks of a run: those that items ask for and those of the scenario."""
    of_items = {name for item in dataset.items for name in item_checks(item.expect)}
    return tuple(sorted(of_items | scenario.scoring.checks.keys()))
