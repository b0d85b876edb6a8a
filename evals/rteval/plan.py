"""What a run will do, worked out before it starts: which turns in which sessions, how much audio, about how long."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from .errors import ScenarioError

if TYPE_CHECKING:
    from .corpus import Dataset, Item
    from .scenario_model import Load, Scenario

__all__ = ["START_GAP_S", "Group", "Plan", "PlannedTurn", "SessionPlan", "plan", "spread_s"]

# For the estimate only: what an ordinary service takes. Nothing is measured against these.
TYPICAL_CONNECT_S = 0.3
TYPICAL_FIRST_AUDIO_S = 0.8
TYPICAL_ANSWER_S = 4.0
TYPICAL_TEXT_ANSWER_S = 1.5
TYPICAL_SILENCE_S = 0.5
"""Silence after speech until server VAD ends the turn, where the scenario does not say."""


MOST_TURNS = 1_000_000
"""An exact run has a row for each; what is meant to go on without end has a duration instead."""

START_GAP_S = 0.01
"""Distance of starts where no ramp was asked for: sessions never begin in a burst."""

Points = tuple[tuple[float, float], ...]


class PlannedTurn(NamedTuple):
    """One turn to be run: an item, the how-manieth time it is (from 1), and with which variant of the scenario."""

    item: Item
    attempt: int
    variant: str | None = None


class Group(NamedTuple):
    """The items of one session of each pass, and the number of the variant whose session it is."""

    variant: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """One session to be opened, and its turns in order.

    Attributes:
        index: position in the run, from 0.
        turns: at least one.
    """

    index: int
    turns: tuple[PlannedTurn, ...]


@dataclass(frozen=True)
class Plan:
    """A whole run.

    It is *exact* when every item is run a fixed number of times, and *endless* when it goes over the dataset until its
    time is over. What is only known of an exact run in advance is a guess from typical answers for an endless one.

    Variants of a scenario are interleaved: what the hour does to a target, it does to all of them. Within a block, the
    same items with each variant, the order changes so that over the blocks every variant stands in every place, and
    after every other one, equally often.

    Attributes:
        blocks: the sessions of one pass over the dataset; those that begin with the same item are together.
        variants: names of the scenario's variants; ``None`` is that of a scenario without.
        passes: how many passes there are; ``None``: the run is endless.
        sessions_at_once: the most that are open together; in the open model about so many.
        expected_turns: turns of the whole run; a guess when it is endless.
        measured_turns: those of them that begin after the warm-up; a guess unless there is none and the run is exact.
        audio_s: length of all audio that is sent, in seconds; a guess when the run is endless.
        duration_s: about how long the run takes, its last sessions included; never more than ``limits.wall_s``.
        asked: corners of the load over time, (seconds, sessions at once) or (seconds, sessions a second), until no
            session starts any more.
        doubts: why the run may not do what was asked, a sentence each, for people.
    """

    blocks: tuple[tuple[Group, ...], ...]
    variants: tuple[str | None, ...]
    passes: int | None
    sessions_at_once: int
    expected_turns: int
    measured_turns: int
    audio_s: float
    duration_s: float
    asked: Points
    doubts: tuple[str, ...]

    @property
    def endless(self) -> bool:
        """Whether passes over the dataset go on until the time is over."""
        return self.passes is None

    @property
    def session_count(self) -> int | None:
        """Number of sessions; ``None`` when the run is endless."""
        return None if self.passes is None else self.sessions_of_pass * self.passes

    @cached_property
    def sessions_of_pass(self) -> int:
        """Number of sessions of one pass over the dataset."""
        return sum(map(len, self.blocks))

    @cached_property
    def sessions(self) -> tuple[SessionPlan, ...]:
        """All sessions in order; those of the first pass when the run is endless."""
        return tuple(itertools.islice(self.stream(), self.sessions_of_pass * (self.passes or 1)))

    def stream(self) -> Iterator[SessionPlan]:
        """The sessions in the order in which they are started, pass after pass; without end when the run is endless."""
        index = itertools.count()
        attempts = itertools.count(1) if self.passes is None else iter(range(1, self.passes + 1))
        for attempt in attempts:
            for place in range(self.sessions_of_pass):
                yield SessionPlan(next(index), self.turns_of(place, attempt))

    def turns_of(self, place: int, attempt: int) -> tuple[PlannedTurn, ...]:
        """The turns of one session.

        Args:
            place: of the session in its pass, from 0.
            attempt: the pass, from 1.
        """
        number, within = self._places[place]
        block = self.blocks[number]
        if len(block) == 1:
            group = block[0]
        else:
            order = self._orders[(number + attempt - 1) % len(self._orders)]
            group = sorted(block, key=lambda group: order[group.variant])[within]
        name = self.variants[group.variant]
        return tuple(PlannedTurn(item, attempt, name) for item in group.items)

    @cached_property
    def _places(self) -> tuple[tuple[int, int], ...]:
        return tuple((number, within) for number, block in enumerate(self.blocks) for within in range(len(block)))

    @cached_property
    def _orders(self) -> tuple[tuple[int, ...], ...]:
        """For each block one after the other, the place of each variant."""
        return _balanced(len(self.variants))

    @property
    def turns(self) -> int | None:
        """Number of turns: every item times its repeats; ``None`` when the run is endless."""
        return None if self.endless else self.expected_turns

    @cached_property
    def items(self) -> int:
        """Number of different items."""
        return len({item.id for block in self.blocks for group in block for item in group.items})


def plan(scenario: Scenario, dataset: Dataset) -> Plan:
    """Deal the items out to sessions.

    Items with the same ``conversation_id`` share one session of their own, in their order; the others fill sessions of
    ``conversation.items_per_session``. Each repeat is a pass over the whole dataset, in new sessions. Each
    variant of the scenario holds every session.

    Raises:
        ScenarioError: these are more turns than a plan can hold.
    """
    variants = len(scenario.variants)
    turns = len(dataset.items) * scenario.load.repeat * variants
    if turns > MOST_TURNS:
        where = scenario.where("load.repeat")
        of = f"{len(dataset.items)} items" + (f" and {variants} variants" if variants > 1 else "")
        raise ScenarioError(f"{where}: makes {turns} turns of {of}; {MOST_TURNS} is the most")
    guess = _Guess(scenario, _blocks(scenario, dataset.items))
    ends_s = scenario.load.ends_s
    return guess.exact() if ends_s is None or not dataset.items else guess.endless(ends_s)


def _blocks(scenario: Scenario, items: Sequence[Item]) -> tuple[tuple[Group, ...], ...]:
    """The sessions of all variants by their first item, in the items' order."""
    order = {item.id: number for number, item in enumerate(items)}
    by_size: dict[int, list[tuple[Item, ...]]] = {}
    blocks: dict[int, list[Group]] = {}
    for number, variant in enumerate(scenario.variants):
        size = variant.scenario.conversation.items_per_session
        if size not in by_size:
            by_size[size] = [tuple(group) for group in _groups(items, size)]
        for group in by_size[size]:
            blocks.setdefault(order[group[0].id], []).append(Group(number, group))
    return tuple(tuple(blocks[first]) for first in sorted(blocks))


def _balanced(count: int) -> tuple[tuple[int, ...], ...]:
    """Orders of so many things, as the place of each: all take every place, and follow every other, equally often.

    Source: E. J. Williams, Experimental designs balanced for the estimation of residual effects of treatments, 1949.
    """
    first = [(number + 1) // 2 if number % 2 else -(number // 2) % count for number in range(count)]
    rows = [[(thing + shift) % count for thing in first] for shift in range(count)]
    if count % 2 and count > 1:
        rows = [row for each in rows for row in (each, each[::-1])]
    return tuple(tuple(row.index(thing) for thing in range(count)) for row in rows)


def _groups(items: Sequence[Item], per_session: int) -> list[list[Item]]:
    """Items by session, ordered by each session's first item."""
    groups: list[list[Item]] = []
    conversations: dict[str, list[Item]] = {}
    filling: list[Item] | None = None
    for item in items:
        if item.conversation_id is not None:
            if item.conversation_id not in conversations:
                conversations[item.conversation_id] = []
                groups.append(conversations[item.conversation_id])
            conversations[item.conversation_id].append(item)
            continue
        if filling is None or len(filling) >= per_session:
            filling = []
            groups.append(filling)
        filling.append(item)
    return groups


def spread_s(changes: int, ramp_s: float | None) -> float:
    """Seconds over which so many sessions start or end: the ramp, or what keeps them from being a burst."""
    return START_GAP_S * changes if ramp_s is None else ramp_s


class _Guess:
    """What a run comes to if every answer is a typical one."""

    def __init__(self, scenario: Scenario, blocks: tuple[tuple[Group, ...], ...]) -> None:
        self._blocks = blocks
        self._variants = tuple(variant.name for variant in scenario.variants)
        self._load = scenario.load
        groups = [group for block in blocks for group in block]
        self._groups = [group.items for group in groups]
        held = [variant.scenario for variant in scenario.variants]
        self._lengths_s = [_session_s(held[group.variant], group.items) for group in groups]
        self._turns = sum(map(len, self._groups))
        self._audio_s = sum(item.duration_s for group in groups for item in group.items)
        self._connects_per_s = scenario.limits.connects_per_s
        self._wall_s = math.inf if scenario.limits.wall_s is None else scenario.limits.wall_s

    def exact(self) -> Plan:
        """Every session is held: where there is room, and (open model) not before it comes."""
        load, passes = self._load, self._load.repeat
        count = len(self._groups) * passes
        at_once = min(self._at_once(), count)
        gap_s = 1 / self._connects_per_s if self._connects_per_s else 0.0
        room = at_once if load.arrivals is None else min(load.most_sessions, count)
        over_s = spread_s(room, load.ramp_s) if load.arrivals is None else 0.0
        free = [over_s * slot / room for slot in range(room)]
        end_s = due_s = not_before_s = 0.0
        measured = 0
        for index in range(count):
            turns, length_s = len(self._groups[index % len(self._groups)]), self._lengths_s[index % len(self._groups)]
            due_s = _arrival_s(load, index)
            start_s = max(heapq.heappop(free), due_s, not_before_s)
            not_before_s = start_s + gap_s
            heapq.heappush(free, start_s + length_s)
            end_s = max(end_s, start_s + length_s)
            measured += sum(start_s + length_s * turn / turns >= load.warmup_s for turn in range(turns))
        duration_s = min(end_s, self._wall_s)
        asked_until_s = duration_s if load.arrivals is None else min(due_s, self._wall_s)
        return Plan(
            blocks=self._blocks,
            variants=self._variants,
            passes=passes,
            sessions_at_once=at_once,
            expected_turns=self._turns * passes,
            measured_turns=measured,
            audio_s=self._audio_s * passes,
            duration_s=duration_s,
            asked=_until(_asked(load, at_once), asked_until_s),
            doubts=tuple(self._doubts(measured, count, end_s)),
        )

    def endless(self, ends_s: float) -> Plan:
        """As many sessions as the time allows."""
        load = self._load
        until_s = min(ends_s, self._wall_s)
        asked = _until(_asked(load, load.most_sessions), until_s)
        length_s = self._length_s()
        whole = _area(asked)
        if load.arrivals is None:
            # The sessions that are open at the end count as well: on average half of each is over by then.
            count = max(load.most_sessions, whole / length_s + load.most_sessions / 2)
        else:
            count = min(whole, load.most_sessions * (until_s / length_s + 1))
        if self._connects_per_s:
            count = min(count, self._connects_per_s * until_s + 1)
        after_warmup = 1 - _area(_until(asked, load.warmup_s)) / whole if whole else 0.0
        turns = count * self._turns / len(self._groups)
        measured = round(turns * after_warmup)
        return Plan(
            blocks=self._blocks,
            variants=self._variants,
            passes=None,
            sessions_at_once=self._at_once(),
            expected_turns=max(1, round(turns)),
            measured_turns=measured,
            audio_s=self._audio_s * turns / self._turns,
            duration_s=min(ends_s + length_s, self._wall_s),
            asked=asked,
            doubts=tuple(self._doubts(measured)),
        )

    def _length_s(self) -> float:
        return sum(self._lengths_s) / len(self._lengths_s)

    def _at_once(self) -> int:
        """Most sessions at once. Those that come at a rate: the rate times how long they stay (Little's law)."""
        most = self._load.most_sessions
        if self._load.arrivals is None or not self._groups:
            return most
        return min(most, self._at_once_unbounded())

    def _at_once_unbounded(self) -> int:
        peak = max(rate for _, rate in _asked(self._load, 0))
        return math.ceil(peak * self._length_s())

    def _doubts(self, measured: int, count: int | None = None, end_s: float = 0.0) -> Iterator[str]:
        """What looks as if it were not meant.

        Args:
            measured: turns after the warm-up.
            count: sessions of an exact run.
            end_s: when an exact run ends if nothing ends it before.
        """
        load, room = self._load, self._load.most_sessions
        if self._groups and not measured:
            yield f"load.warmup_s: the run may well be over within {load.warmup_s:g} s, and nothing would be measured"
        if end_s > self._wall_s:
            yield (
                f"limits.wall_s: with typical answers the run takes about {end_s:.0f} s, and after {self._wall_s:g} s "
                "no turn begins any more: what is left of it is not run"
            )
        if load.arrivals is None:
            if count is not None and 0 < count < room:
                yield (
                    f"load.sessions: {room} at once are asked, and the run has {count} in all; raise load.repeat, or "
                    "give load.duration_s"
                )
            room = room if count is None else min(room, count)
            opening_s = (room - 1) / self._connects_per_s if self._connects_per_s else 0.0
            if load.ramp_s is not None and opening_s > load.ramp_s:
                yield (
                    f"limits.connects_per_s: {room} sessions take {opening_s:g} s to open at {self._connects_per_s:g} "
                    f"in a second, longer than load.ramp_s ({load.ramp_s:g})"
                )
        elif self._groups:
            wanted = self._at_once_unbounded()
            wanted = wanted if count is None else min(wanted, count)
            if wanted > room:
                yield (
                    f"load.max_sessions: with typical answers about {wanted} sessions would be open at once, and only "
                    f"{room} may be: those who come later have to wait"
                )


def _arrival_s(load: Load, index: int) -> float:
    """When a session comes, in a run without stages; at once in the closed model, which waits for room alone."""
    if load.arrivals is None:
        return 0.0
    rate, ramp_s = load.arrivals.rate_per_s, load.ramp_s or 0.0
    while_ramping = rate * ramp_s / 2
    if index < while_ramping:
        return math.sqrt(2 * index * ramp_s / rate)
    return ramp_s + (index - while_ramping) / rate


def _asked(load: Load, most: int) -> Points:
    """Corners of the load: sessions at once, or sessions a second; what it is at the last one goes on."""
    if load.arrivals is not None:
        ramp_s = load.ramp_s or 0.0
        stages = [(ramp_s, load.arrivals.rate_per_s), *load.arrivals.stages_per_s]
        steps = [(length_s, rate, length_s) for length_s, rate in stages]
    else:
        levels = [stage.sessions for stage in load.stages] or [most]
        lengths_s = [stage.duration_s for stage in load.stages] or [math.inf]
        changes = (abs(after - before) for before, after in itertools.pairwise([0, *levels]))
        steps = [
            (length_s, float(level), min(spread_s(change, load.ramp_s), length_s))
            for length_s, level, change in zip(lengths_s, levels, changes, strict=True)
        ]
    start_s, points = 0.0, [(0.0, 0.0)]
    for length_s, level, over_s in steps:
        points.append((start_s + over_s, level))
        start_s += length_s
        if over_s < length_s < math.inf:
            points.append((start_s, level))
    return tuple(points)


def _until(points: Points, until_s: float) -> Points:
    """The part of a curve up to a time."""
    kept = [point for point in points if point[0] <= until_s]
    at_s, level = kept[-1]
    if at_s == until_s:
        return tuple(kept)
    if len(kept) < len(points):
        next_s, next_level = points[len(kept)]
        level += (next_level - level) * (until_s - at_s) / (next_s - at_s)
    return (*kept, (until_s, level))


def _area(points: Points) -> float:
    return sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in itertools.pairwise(points))


def _session_s(scenario: Scenario, items: Sequence[Item]) -> float:
    talk = scenario.conversation
    speaks = scenario.session.modalities is None or "audio" in scenario.session.modalities
    answer = TYPICAL_ANSWER_S if speaks else TYPICAL_TEXT_ANSWER_S
    between = talk.think_time_s + (answer if talk.wait_for_playback or not speaks else TYPICAL_TEXT_ANSWER_S)
    asked = sum(_asking_s(scenario, item) + TYPICAL_FIRST_AUDIO_S for item in items)
    # The last answer is always heard to its end, and nobody thinks after it.
    whole = TYPICAL_CONNECT_S + asked + between * (len(items) - 1) + answer
    return whole if talk.max_session_s is None else min(whole, talk.max_session_s + asked / len(items) + answer)


def _asking_s(scenario: Scenario, item: Item) -> float:
    """How long the caller takes to say it, until the server knows that it was all."""
    if item.modality == "text" or scenario.load.pacing == "fast":
        return 0.0
    spoken = item.duration_s if item.speech_end_s is None else item.speech_end_s
    detection = scenario.session.turn_detection
    if not detection.on:
        return spoken
    silence_ms = detection.silence_duration_ms
    return spoken + (TYPICAL_SILENCE_S if silence_ms is None else silence_ms / 1000)
