"""From a scenario file to everything that can be known of its run before anything connects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .analysis.gates import (
    Facts,
    Gate,
    check_gates_against,
    check_gates_of_scorers,
    parse_gates,
    undecidable,
    validate_slo,
    word_of,
)
from .baseline import FoundBaseline, find_baseline
from .client.transport import Endpoint
from .corpus import Dataset, Item, load_dataset
from .errors import GateError, ScenarioError, UsageError
from .plan import Plan, plan
from .progress import duration
from .realtime.dialects import DIALECTS, UnsupportedSettingError
from .realtime.events import SessionSettings
from .scenario import Scenario, Variant, load_scenario
from .scorers.apply import Chosen, choose, metric_names, whole_metrics
from .scoring.checks import item_checks
from .simulator.behaviour import load_behaviour
from .targets import Address, target_address

__all__ = [
    "Prepared",
    "PreparedVariant",
    "RunOptions",
    "check_names",
    "endpoint",
    "find_scorers",
    "prepare",
    "prepare_scenario",
]


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
class PreparedVariant:
    """One of the scenarios that are run side by side, with what its sessions need.

    Attributes:
        name: ``None`` where the scenario has no matrix.
        axes: the option of each axis.
        scenario: with what the variant lays over it.
    """

    name: str | None
    axes: Mapping[str, str]
    scenario: Scenario
    address: Address
    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with everything that can be known before anything connects.

    Attributes:
        address, settings: those of the first variant.
        variants: what is run: at least one.
        baseline: what gates against a baseline hold the run against.
    """

    scenario: Scenario
    dataset: Dataset
    plan: Plan
    gates: tuple[Gate, ...]
    address: Address
    settings: SessionSettings
    variants: tuple[PreparedVariant, ...]
    scorers: tuple[Chosen, ...] = ()
    baseline: FoundBaseline | None = None

    @property
    def named_variants(self) -> tuple[PreparedVariant, ...]:
        """The variants of a scenario that has some."""
        return tuple(variant for variant in self.variants if variant.name is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """What the run measures beside the metrics of every run: its checks, and what its scorers announce."""
        return _names(self.scenario, self.dataset, self.scorers)

    @property
    def scorer_obstacles(self) -> list[str]:
        """The scorers that could not score here and now, a sentence each."""
        found = [(chosen.name, chosen.obstacle) for chosen in self.scorers]
        return [f"scorer {name}: its metrics will not be scored: {why}" for name, why in found if why is not None]

    @property
    def says_nothing_of_recognition(self) -> bool:
        """Whether word error rates will be those that the embedded server makes up."""
        asked = any(variant.settings.transcription is not None for variant in self.variants)
        transcribes = asked and self.dataset.references > 0
        return self.address.embedded and transcribes and self.scenario.scoring.wer

    @property
    def missing_keys(self) -> list[str]:
        """A sentence for each variable that should hold a key and does not, here and now."""
        names = (v.address.api_key_env or "" for v in self.variants if v.address.auth == "api_key")
        return [
            f"{name} is not set here: a run would end with exit code 3"
            for name in dict.fromkeys(names)
            if not os.environ.get(name, "").strip()
        ]

    @property
    def in_words(self) -> str:
        """What will be run, for people."""
        plan, load = self.plan, self.scenario.load
        of = f" of {len(self.variants)} variants" if self.named_variants else ""
        took = f"about {duration(plan.duration_s)}"
        if load.arrivals is None:
            peak = f"{plan.sessions_at_once} at once" if not load.stages else f"up to {plan.sessions_at_once} at once"
        else:
            peak = f"arriving at {load.arrivals.rate:g} a {load.arrivals.per}, at most {load.most_sessions} at once"
        if plan.endless:
            return f"sessions{of} for {duration(load.ends_s or 0)}, {peak}: about {plan.expected_turns} turns, {took}"
        return f"{plan.turns} turns in {plan.session_count} sessions{of}, {peak}, {took}"

    @property
    def doubtful_gates(self) -> list[str]:
        """The gates that the number of turns, or the baseline, cannot decide, a sentence each."""
        return [f"{gate}: {why}" for gate in self.gates if (why := self._doubt(gate)) is not None]

    @property
    def refused_gates(self) -> list[str]:
        """Those of them that decide the exit code, and that would be red whatever the target does."""
        deciding = ((gate, gate.inconclusive == "fail") for gate in self.gates if gate.severity == "fail")
        return [f"{gate}: {why}" for gate, open_too in deciding if (why := self._doubt(gate, open_too)) is not None]

    def _doubt(self, gate: Gate, open_too: bool = True) -> str | None:
        """Why a gate will have no data, or (``open_too``) be left open."""
        of_turns, of_sessions = _shares_of(gate, self.plan, self.named_variants)
        turns, sessions = round(self.plan.measured_turns * of_turns), self.plan.session_count
        if sessions is not None:
            sessions = round(sessions * of_sessions)
        for _, why in undecidable([gate], turns, sessions, open_too=open_too):
            return why
        if gate.factor is None or self.baseline is None:
            return None
        if self.baseline.content is None:
            return None if self.baseline.about["missing"] == "skip" else str(self.baseline.about["reason"])
        from .analysis.compare import doubt_of

        subject = self.baseline.subject
        return None if subject is None else doubt_of(subject, gate, turns, open_too=open_too)


def prepare(scenario_path: Path, options: RunOptions) -> Prepared:
    """Read and check everything; nothing is connected.

    Raises:
        ScenarioError, DatasetError, GateError, UsageError: something is wrong, in one sentence or a list of them.
    """
    scenario = load_scenario(scenario_path, sets=options.sets, set_files=options.set_files)
    return replace(prepare_scenario(scenario, limit=options.limit), baseline=find_baseline(scenario, options.out))


def prepare_scenario(scenario: Scenario, *, limit: int | None = None, judged: bool = True) -> Prepared:
    """The same for a scenario that was read already.

    Args:
        scenario: from a file, or from the master of a run.
        limit: at most so many items of the dataset, beside the scenario's own limit.
        judged: whether it is judged here too; who only holds sessions needs neither its gates nor its scorers.

    Raises:
        ScenarioError, DatasetError, GateError: something is wrong, in one sentence or a list of them.
    """
    variants = _variants(scenario)
    address, settings = variants[0].address, variants[0].settings
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
        transcription=any(variant.settings.transcription is not None for variant in variants),
        slo=bool(scenario.slo),
        entities=sum(bool(item.expect and item.expect.get("entities")) for item in dataset.items),
        audio=scenario.report.audio == "all",
        baseline=scenario.baseline is not None,
        groups=_groups(dataset, variants),
    )
    scorers = find_scorers(scenario) if judged else ()
    gates = tuple(_gates(scenario, facts, _names(scenario, dataset, scorers), scorers)) if judged else ()
    validate_slo(scenario.slo)
    return Prepared(scenario, dataset, plan(scenario, dataset), gates, address, settings, variants, scorers)


def _variants(scenario: Scenario) -> tuple[PreparedVariant, ...]:
    """What is run, each checked by itself.

    Raises:
        ScenarioError: a variant cannot be run; unless none can, the message names the first that cannot.
    """
    ready, faults = [], []
    for variant in scenario.variants:
        try:
            ready.append(_variant(variant))
        except ScenarioError as error:
            faults.append((variant.name, error))
    if not faults:
        return tuple(ready)
    (name, first), of_all = faults[0], len(faults) == len(scenario.variants)
    if of_all and len({str(error) for _, error in faults}) == 1:
        raise first
    raise ScenarioError(f"{first} (variant {name})", hint=first.hint) from first


def _variant(variant: Variant) -> PreparedVariant:
    scenario = variant.scenario
    address = target_address(scenario)
    settings = SessionSettings(**scenario.session.settings())
    try:
        DIALECTS[address.dialect].session(settings)
    except UnsupportedSettingError as error:
        where = scenario.where("session")
        raise ScenarioError(f"{where}: dialect {address.dialect} cannot carry session.{error}") from error
    endpoint(address).check()
    return PreparedVariant(variant.name, variant.axes, scenario, address, settings)


def find_scorers(scenario: Scenario, *, audio: str | None = None) -> tuple[Chosen, ...]:
    """The scorers that a scenario asks for, with options that they take.

    Args:
        scenario: whose ``scoring.scorers``.
        audio: whose answers' audio there is, when not as the scenario says (``report.audio``).

    Raises:
        ScenarioError: one is not there, or its options are wrong; all faults are listed with their lines.
    """
    choices = {name: choice.model_dump(mode="json") for name, choice in scenario.scoring.scorers.items()}
    found = list(choose(choices))
    faults = []
    for sentence in (entry for entry in found if isinstance(entry, str)):
        key, _, what = sentence.partition(": ")
        faults.append(f"{scenario.where(f'scoring.scorers.{key}')}: {what}")
    chosen = tuple(entry for entry in found if not isinstance(entry, str))
    if (audio or scenario.report.audio) != "all":
        faults += [
            f"{scenario.where(f'scoring.scorers.{one.name}')}: listens to the answers, which are not kept; say "
            "report.audio: all"
            for one in chosen
            if one.scorer.needs_audio
        ]
    if faults:
        count = f"{scenario.path}: {len(faults)} problems"
        raise ScenarioError(faults[0] if len(faults) == 1 else "\n  ".join([count, *faults]))
    return chosen


def _names(scenario: Scenario, dataset: Dataset, scorers: Sequence[Chosen]) -> tuple[str, ...]:
    return (*check_names(scenario, dataset), *(name for chosen in scorers for name in metric_names(chosen)))


def _groups(dataset: Dataset, variants: Sequence[PreparedVariant]) -> dict[str, set[str]]:
    """What `where` of a gate may name: columns, and the values that turns can have in them."""
    groups: dict[str, set[str]] = {"tag": {tag for item in dataset.items for tag in item.tags}}
    groups["item"] = {item.id for item in dataset.items}
    for item in dataset.items:
        for name, value in item.meta.items():
            if isinstance(value, str | int | float):
                groups.setdefault(name, set()).add(word_of(value))
    for variant in variants:
        if variant.name is not None:
            groups.setdefault("variant", set()).add(variant.name)
        for axis, option in variant.axes.items():
            groups.setdefault(axis, set()).add(option)
    return groups


def _shares_of(gate: Gate, plan: Plan, variants: Sequence[PreparedVariant]) -> tuple[float, float]:
    """About which share of the turns a gate looks at, and which share of the sessions holds such turns."""
    wanted: dict[str, set[str]] = {}
    for column, value in gate.where:
        wanted.setdefault(column, set()).add(value)
    if not wanted:
        return 1.0, 1.0
    axes = {name for variant in variants for name in variant.axes}

    def is_meant(item: Item, variant: int) -> bool:
        for column, values in wanted.items():
            if variants and (column == "variant" or column in axes):
                words: set[str | None] | set[str] | None = {variants[variant].axes.get(column, variants[variant].name)}
            else:
                words = _words(item, column)
            if words is not None and values.isdisjoint(words):
                return False
        return True

    sessions = [[is_meant(item, group.variant) for item in group.items] for block in plan.blocks for group in block]
    turns = sum(map(len, sessions))
    return sum(map(sum, sessions)) / turns, sum(map(any, sessions)) / len(sessions)


def _words(item: Item, column: str) -> set[str] | None:
    """What an item has in a column; ``None`` where only the run will know."""
    if column == "tag":
        return set(item.tags)
    known = {"item": item.id, "language": item.language, "conversation_id": item.conversation_id, **item.meta}
    if column in ("worker", "attempt", "modality"):
        return None
    value = known.get(column)
    return set() if value is None else {word_of(value)}


def _gates(scenario: Scenario, facts: Facts, checks: Sequence[str], scorers: Sequence[Chosen]) -> Iterator[Gate]:
    """The scenario's gates; all that cannot be read or could never have a value are named with their lines."""
    faults = []
    for number, text in enumerate(scenario.all_gates):
        try:
            (gate,) = parse_gates([text], checks=checks)
            check_gates_against([gate], facts)
            check_gates_of_scorers([gate], whole_metrics(scorers))
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
