"""What a run will do, worked out before it starts: which turns in which sessions, how much audio, about how long."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from .errors import ScenarioError

if TYPE_CHECKING:
    from .corpus import Dataset, Item
    from .scenario_model import Scenario

__all__ = ["Plan", "PlannedTurn", "SessionPlan", "plan", "start_times"]

# For the estimate only: what an ordinary service takes. Nothing is measured against these.
TYPICAL_CONNECT_S = 0.3
TYPICAL_FIRST_AUDIO_S = 0.8
TYPICAL_ANSWER_S = 4.0
TYPICAL_TEXT_ANSWER_S = 1.5
TYPICAL_SILENCE_S = 0.5
"""Silence after speech until server VAD ends the turn, where the scenario does not say."""


MOST_TURNS = 1_000_000
"""A plan is held in memory; what is meant to go on without end has a duration instead."""


class PlannedTurn(NamedTuple):
    """One turn to be run: an item and the how-manieth time it is (from 1)."""

    item: Item
    attempt: int


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

    Attributes:
        sessions: in the order in which they are started.
        sessions_at_once: the most that are open together.
        audio_s: length of all audio that is sent, in seconds.
        duration_s: about how long the run takes; a guess from typical answers, never more than ``limits.wall_s``.
    """

    sessions: tuple[SessionPlan, ...]
    sessions_at_once: int
    audio_s: float
    duration_s: float

    @cached_property
    def turns(self) -> int:
        """Number of turns: every item times its repeats."""
        return sum(len(session.turns) for session in self.sessions)

    @cached_property
    def items(self) -> int:
        """Number of different items."""
        return len({turn.item.id for session in self.sessions for turn in session.turns})


def plan(scenario: Scenario, dataset: Dataset) -> Plan:
    """Deal the items out to sessions.

    Items with the same ``conversation_id`` share one session of their own, in their order; the others fill sessions of
    ``conversation.items_per_session``. Each repeat is a pass over the whole dataset, in new sessions.

    Raises:
        ScenarioError: these are more turns than a plan can hold.
    """
    turns = len(dataset.items) * scenario.load.repeat
    if turns > MOST_TURNS:
        where = scenario.where("load.repeat")
        raise ScenarioError(f"{where}: makes {turns} turns of {len(dataset.items)} items; {MOST_TURNS} is the most")
    groups = _groups(dataset.items, scenario.conversation.items_per_session)
    passes = range(1, scenario.load.repeat + 1)
    sessions = tuple(
        SessionPlan(index, tuple(PlannedTurn(item, attempt) for item in group))
        for index, (attempt, group) in enumerate((attempt, group) for attempt in passes for group in groups)
    )
    at_once = min(scenario.load.sessions, len(sessions))
    return Plan(
        sessions=sessions,
        sessions_at_once=at_once,
        audio_s=sum(item.duration_s for item in dataset.items) * scenario.load.repeat,
        duration_s=_duration(scenario, sessions, at_once),
    )


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


def start_times(sessions_at_once: int, ramp_s: float) -> tuple[float, ...]:
    """When the first sessions are started, in seconds: evenly over the ramp, the first at 0."""
    return tuple(ramp_s * slot / sessions_at_once for slot in range(sessions_at_once))


def _duration(scenario: Scenario, sessions: Sequence[SessionPlan], at_once: int) -> float:
    """When the last session would be over: each caller's place is taken by the next session as soon as it is free."""
    if not sessions:
        return 0.0
    rate = scenario.limits.connects_per_s
    spacing = 1 / rate if rate else 0.0
    free = list(start_times(at_once, scenario.load.ramp_s))
    heapq.heapify(free)
    end = not_before = 0.0
    for session in sessions:
        start = max(heapq.heappop(free), not_before)
        not_before = start + spacing
        over = start + _session_s(scenario, session)
        heapq.heappush(free, over)
        end = max(end, over)
    wall_s = scenario.limits.wall_s
    return end if wall_s is None else min(end, wall_s)


def _session_s(scenario: Scenario, session: SessionPlan) -> float:
    talk = scenario.conversation
    speaks = scenario.session.modalities is None or "audio" in scenario.session.modalities
    answer = TYPICAL_ANSWER_S if speaks else TYPICAL_TEXT_ANSWER_S
    between = talk.think_time_s + (answer if talk.wait_for_playback or not speaks else TYPICAL_TEXT_ANSWER_S)
    asked = sum(_asking_s(scenario, turn.item) + TYPICAL_FIRST_AUDIO_S for turn in session.turns)
    # The last answer is always heard to its end, and nobody thinks after it.
    whole = TYPICAL_CONNECT_S + asked + between * (len(session.turns) - 1) + answer
    return whole if talk.max_session_s is None else min(whole, talk.max_session_s + asked / len(session.turns) + answer)


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
