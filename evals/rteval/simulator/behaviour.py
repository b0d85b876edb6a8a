"""What a simulated service does, as data: delays, word errors, limits and faults; seeded, so it can be repeated."""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ..errors import ScenarioError
from ..scenario_yaml import Node, Origin, YamlProblems, at, path_text, read_yaml

__all__ = [
    "SESSION_FAULTS",
    "TURN_FAULTS",
    "Behaviour",
    "Delay",
    "Fault",
    "RateLimits",
    "Transcription",
    "Usage",
    "find",
    "load_behaviour",
]

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0, le=600_000.0)]

SessionFault = Literal[
    # The handshake is answered with ``status`` (default 503); 429 carries ``retry_after_s``, 3xx a Location.
    "refuse_handshake",
    # The TCP connection is accepted and the handshake never answered.
    "silent_handshake",
    # 101, one ``error`` event with ``code`` (default invalid_api_key), then a close with ``close_code`` (default 3000).
    "refuse_after_upgrade",
    # 101, and then nothing at all.
    "session_created_missing",
    "session_created_twice",
    # ``session.update`` is answered after ``delay_ms``.
    "session_updated_late",
    "session_updated_missing",
    "session_updated_twice",
    # ``session.update`` is answered with an ``error`` event of ``code`` (default invalid_value), nothing is changed.
    "session_update_refused",
    # ``error`` session_expired and a close 1001, ``delay_ms`` after the session opened.
    "session_expired",
]
TurnFault = Literal[
    # The connection ends without a close frame: when the turn ends, or after ``after_deltas`` audio deltas.
    "drop_before_answer",
    "drop_mid_answer",
    # The same with a close frame of ``close_code`` (default 1011).
    "close_before_answer",
    "close_mid_answer",
    # Nothing more comes and the connection stays open: from the turn's end, or after ``after_deltas`` audio deltas.
    "no_answer",
    "stall_mid_answer",
    # ``response.done`` with status failed and ``code`` (default server_error); without ``response.created`` before it.
    "failed_response",
    "failed_without_created",
    # Completed without any output.
    "empty_response",
    # Status incomplete with ``reason`` (default max_output_tokens), after ``after_deltas`` audio deltas.
    "incomplete_response",
    # Status cancelled with ``reason`` (default turn_detected) though nobody interrupted, after ``after_deltas`` deltas.
    "cancelled_response",
    # Audio was asked and text comes.
    "text_only",
    # The answer's audio is digital silence.
    "silent_audio",
    # The answer's first audio delta holds no bytes.
    "empty_first_delta",
    # Audio deltas of an odd number of bytes; of one byte each (the first 200, the rest in one).
    "odd_deltas",
    "one_byte_deltas",
    # ``count`` more audio deltas for the response after its ``response.done``.
    "deltas_after_done",
    # A frame that is no JSON; a binary frame; an event of an unknown type; JSON that is no object.
    "malformed_json",
    "binary_frame",
    "unknown_event",
    "not_an_object",
    # An ``error`` event with ``code`` (default server_error), and the turn goes on; its ``event_id`` is null.
    "error_event",
    "error_event_without_id",
    # ``response.create`` is refused with conversation_already_has_active_response.
    "create_refused",
    # A commit is refused with input_audio_buffer_commit_empty.
    "commit_refused",
    # ``input_audio_buffer.committed`` after the item's event.
    "committed_after_item",
    # ``content_part.*`` with ``content`` in the place of ``part``.
    "content_for_part",
    # ``error`` rate_limit_exceeded and a failed response of the same code.
    "rate_limited",
    "transcription_failed",
    "transcription_missing",
    # Completed transcription ``delay_ms`` after ``response.done``; before the item's event.
    "transcription_late",
    "transcription_before_item",
]
FaultKind = Literal[SessionFault, TurnFault]
SESSION_FAULTS: tuple[str, ...] = get_args(SessionFault)
TURN_FAULTS: tuple[str, ...] = get_args(TurnFault)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Delay(_Model):
    """A distribution of milliseconds; in a file a plain number is a constant.

    Exactly one of ``constant`` (ms), ``uniform`` (two bounds, ms), ``normal`` (``[mean, standard deviation]``, ms, cut
    at 0) and ``lognormal`` (``[median in ms, sigma of the logarithm]``).
    """

    constant: Milliseconds | None = None
    uniform: tuple[Milliseconds, Milliseconds] | None = None
    normal: tuple[Milliseconds, Milliseconds] | None = None
    lognormal: tuple[Milliseconds, Annotated[float, Field(ge=0.0, le=3.0)]] | None = None
    max_ms: Milliseconds = 60_000.0

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return {"constant": value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one(self) -> Delay:
        shapes = (self.constant, self.uniform, self.normal, self.lognormal)
        if sum(shape is not None for shape in shapes) != 1:
            raise ValueError("needs exactly one of constant, uniform, normal, lognormal")
        if self.uniform is not None and self.uniform[0] > self.uniform[1]:
            raise ValueError("uniform: the lower bound is above the upper one")
        return self

    def sample_ms(self, rng: random.Random) -> float:
        """One value in milliseconds, between 0 and ``max_ms``."""
        value = 0.0
        if self.constant is not None:
            value = self.constant
        elif self.uniform is not None:
            value = rng.uniform(*self.uniform)
        elif self.normal is not None:
            value = rng.gauss(*self.normal)
        elif self.lognormal is not None:
            median, sigma = self.lognormal
            value = median * math.exp(rng.gauss(0.0, sigma))
        return min(max(value, 0.0), self.max_ms)


def _constant(ms: float) -> Delay:
    return Delay(constant=ms)


class Transcription(_Model):
    """How the user's audio is transcribed.

    Attributes:
        delay_ms: from the commit to the completed transcription.
        word_error_rate: expected share of the reference's words that come back wrong.
        failure_rate: share of items whose transcription fails.
        missing_rate: share of items whose transcription neither completes nor fails.
        deltas: whether pieces come before the whole.
    """

    delay_ms: Delay = _constant(150.0)
    word_error_rate: Rate = 0.0
    failure_rate: Rate = 0.0
    missing_rate: Rate = 0.0
    deltas: bool = True


class RateLimits(_Model):
    """Quotas of the whole server, and when a session hears of them.

    Attributes:
        connects_per_minute: beyond it a handshake is answered 429 with ``retry-after``; ``None``: no limit.
        requests_per_minute: beyond it a response fails with rate_limit_exceeded; ``None``: no limit.
        tokens_per_minute: what ``rate_limits.updated`` reports as the limit of tokens.
        retry_after_s: what a refused handshake is told; ``None``: the time until the oldest connect is a minute old.
        updated: where ``rate_limits.updated`` comes in a response.
        entries: what it lists.
    """

    connects_per_minute: Annotated[int, Field(ge=1)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] = 800_000
    retry_after_s: Annotated[int, Field(ge=0, le=3600)] | None = None
    updated: Literal["after_created", "before_done", "after_done", "never"] = "after_done"
    entries: Literal["all", "tokens", "none"] = "all"


class Usage(_Model):
    """How tokens are counted."""

    input_audio_tokens_per_s: Annotated[float, Field(ge=0.0)] = 10.0
    output_audio_tokens_per_s: Annotated[float, Field(ge=0.0)] = 20.0
    cached_share: Rate = 0.0


class Fault(_Model):
    """One thing that goes wrong, and how often.

    Attributes:
        kind: one of ``SESSION_FAULTS`` or ``TURN_FAULTS``.
        rate: share of sessions (or turns) that it strikes.
        sessions: numbers of the sessions that it strikes, from 1 in the order they connect; ``None``: any.
        turns: numbers of the turns that it strikes, from 1 in each session; ``None``: any. Session faults have none.
        status, retry_after_s: of a refused handshake.
        code, message, reason, close_code: what the fault says, where it says anything.
        after_deltas: audio deltas that come before it strikes.
        delay_ms: how late a late thing is.
        count: how many there are of it.
    """

    kind: FaultKind
    rate: Rate = 1.0
    sessions: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    turns: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    status: Annotated[int, Field(ge=300, le=599)] = 503
    retry_after_s: Annotated[int, Field(ge=0, le=3600)] = 1
    code: str | None = None
    message: str | None = None
    reason: str | None = None
    close_code: Annotated[int, Field(ge=1000, le=4999)] | None = None
    after_deltas: Annotated[int, Field(ge=0)] = 1
    delay_ms: Milliseconds = 1000.0
    count: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _turns_of_a_session(self) -> Fault:
        if self.turns is not None and self.kind in SESSION_FAULTS:
            raise ValueError(f"{self.kind} strikes a session, so it cannot name turns")
        return self


class Behaviour(_Model):
    """A behaviour file.

    Attributes:
        seed: everything random derives from it and from what it is for, never from the order of events.
        ttfa_ms: from the end of the turn (VAD, commit and create, or create) to the first audio delta.
        speed: how much faster than it plays the answer's audio is sent; 0 sends it at once.
        delta_jitter_ms: added to the pause before each further audio delta.
        leading_silence_ms: silence at the head of the answer's audio.
        transcription: of the user's audio.
        vad: false: no speech is ever noticed, whatever the session asks for.
        rate_limits: quotas.
        session_max_s: after this a session ends with session_expired.
        models: names of models and deployments that exist; ``None``: any.
        usage: how tokens are counted.
        faults: what goes wrong.
    """

    seed: int = 0
    ttfa_ms: Delay = _constant(300.0)
    speed: Annotated[float, Field(ge=0.0, le=1000.0)] = 4.0
    delta_jitter_ms: Delay = _constant(0.0)
    leading_silence_ms: Milliseconds = 0.0
    transcription: Transcription = Transcription()
    vad: bool = True
    rate_limits: RateLimits = RateLimits()
    session_max_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 3600.0
    models: tuple[str, ...] | None = None
    usage: Usage = Usage()
    faults: tuple[Fault, ...] = ()

    def rng(self, *key: int | str | None) -> random.Random:
        """Random numbers that depend on the seed and on ``key`` alone, e.g. ``rng(item.id, attempt, "words")``."""
        text = repr((self.seed, *key)).encode()
        return random.Random(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()))

    def session_faults(self, session: int) -> tuple[Fault, ...]:
        """The faults of the ``session``-th session that connects (from 1)."""
        return self._strike(SESSION_FAULTS, session, None)

    def turn_faults(self, session: int, turn: int) -> tuple[Fault, ...]:
        """The faults of the ``turn``-th turn of the ``session``-th session (both from 1)."""
        return self._strike(TURN_FAULTS, session, turn)

    def _strike(self, kinds: tuple[str, ...], session: int, turn: int | None) -> tuple[Fault, ...]:
        return tuple(
            fault
            for index, fault in enumerate(self.faults)
            if fault.kind in kinds
            and (fault.sessions is None or session in fault.sessions)
            and (fault.turns is None or turn in fault.turns)
            and (fault.rate >= 1.0 or self.rng("fault", index, session, turn).random() < fault.rate)
        )

    def delta_pause_ms(self, audio_ms: float, rng: random.Random) -> float:
        """The pause after a delta that holds ``audio_ms`` of audio, before the next one."""
        return (audio_ms / self.speed if self.speed else 0.0) + self.delta_jitter_ms.sample_ms(rng)


def find(faults: Iterable[Fault], *kinds: FaultKind) -> Fault | None:
    """The first of ``faults`` that is of one of the ``kinds``."""
    return next((fault for fault in faults if fault.kind in kinds), None)


def load_behaviour(source: str | Path | Mapping[str, Any] | None) -> Behaviour:
    """Read a behaviour from a YAML file or from a mapping (in a scenario); ``None`` is the default behaviour.

    A file is YAML 1.2 and may hold ``${NAME}`` and ``${NAME:-default}``, as scenarios may.

    Raises:
        ScenarioError: it cannot be read, or a key or value is wrong; one sentence with file, line, path and nearest
            key.
    """
    if source is None:
        return Behaviour()
    if isinstance(source, Mapping):
        return _validated(source, lambda path: f"behaviour: {path_text(path) or 'behaviour'}")
    root = _read(Path(source))

    def place(path: tuple[int | str, ...]) -> str:
        nodes = (at(root, path[:length]) for length in range(len(path), -1, -1))
        line = next(node.line for node in nodes if node is not None)
        return f"{source}:{line}: {path_text(path) or 'behaviour'}"

    return _validated(root.plain(), place)


def _read(path: Path) -> Node:
    try:
        root, problems = read_yaml(path.read_text(encoding="utf-8"), Origin(str(path), path.parent), os.environ)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ScenarioError(f"{path}: cannot read the behaviour file: {reason}") from error
    except YamlProblems as error:
        raise ScenarioError(str(error.problems[0])) from error
    if problems:
        raise ScenarioError(str(problems[0]))
    return root


def _validated(data: Any, place: Callable[[tuple[int | str, ...]], str]) -> Behaviour:
    if data is None:
        return Behaviour()
    if not isinstance(data, Mapping):
        raise ScenarioError(f"{place(())}: expected a mapping of keys, not {type(data).__name__}")
    try:
        return Behaviour.model_validate(dict(data))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=True)[0]
        raise ScenarioError(f"{place(problem['loc'])}: {_sentence(problem)}") from error


def _sentence(problem: ErrorDetails) -> str:
    """What is wrong, with the nearest name where a name is wrong."""
    loc, got = problem["loc"], problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"unknown key{_nearest(str(loc[-1]), _keys(loc[:-1]))}"
    if problem["type"] == "literal_error" and loc[-1:] == ("kind",):
        return f"unknown fault {got!r}{_nearest(str(got), _KINDS)}"
    if problem["type"] == "model_type" and loc[:1] != ("faults",):
        return f"expected a number or a mapping, not {got!r:.60}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]} (got {got!r:.60})"


_KINDS = (*SESSION_FAULTS, *TURN_FAULTS)


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at a path may have."""
    model: type[BaseModel] = Behaviour
    for part in loc:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        inner = [annotation, *get_args(annotation)]
        model = next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return list(model.model_fields)
