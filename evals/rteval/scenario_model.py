"""The scenario file as frozen models: every key, its type, its default and what it means.

What is here is what a file may say; :mod:`rteval.scenario` reads one, :mod:`rteval.targets` works out what is dialled.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .formats import FORMATS
from .scenario_secrets import Redactor, must_not_be_shown
from .targets import from_environment

__all__ = [
    "DEFAULT_GATE",
    "DEFAULT_MAX_SESSIONS",
    "LONGEST_S",
    "MOST_SESSIONS",
    "SLO_METRICS",
    "ArrivalStage",
    "Arrivals",
    "BaselineChoice",
    "Check",
    "Conversation",
    "DatasetChoice",
    "GateRule",
    "Limits",
    "Load",
    "Report",
    "Scenario",
    "ScorerChoice",
    "Scoring",
    "Session",
    "Stage",
    "Target",
    "Timeouts",
    "Transcription",
    "TurnDetection",
    "Variant",
]

DEFAULT_GATE = "error_rate <= 0.01"
"""The gate of every scenario that does not name ``error_rate`` itself and does not say ``gates: []``."""

SLO_METRICS = (
    "ttfa_ms",
    "v2v_ms",
    "endpoint_ms",
    "ttfa_response_ms",
    "leading_silence_ms",
    "ttft_ms",
    "input_transcript_ms",
    "response_ms",
    "wait_ms",
    "delta_gap_p50_ms",
    "delta_gap_p95_ms",
    "delta_gap_max_ms",
    "rtf",
    "underrun_count",
    "underrun_ms",
    "talk_over_ms",
    "output_audio_ms",
    "input_audio_ms",
    "speech_ms",
    "backpressure_ms",
    "output_clipped_share",
    "output_loudness_dbfs",
    "output_silence_share",
    "input_wer",
    "input_cer",
    "output_wer",
    "output_cer",
)
"""What a turn's limits in ``slo`` may name."""


def _expected(sentence: str) -> WrapValidator:
    """One sentence for a union, whose own errors would be one for each member."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValueError:
            raise PydanticCustomError("expected", "expected {what}", {"what": sentence}) from None

    return WrapValidator(check)


def _short(key: str) -> Callable[[Any], Any]:
    """A word stands for the mapping ``{key: word}``."""
    return lambda value: {key: value} if isinstance(value, str) else value


LONGEST_S = 1_000_000
"""Eleven days: no wait is longer, and what is counted in nanoseconds stays far from 64 bits."""

MOST_SESSIONS = 1_000_000
"""No load asks for more sessions, at once or in a unit of time."""

DEFAULT_MAX_SESSIONS = 1000
"""Most sessions open at once in the open model where nothing else is said: about what one core can hold."""

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600}

Seconds = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
StageSeconds = Annotated[float, Field(ge=0.1, le=LONGEST_S, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0)]
# Strict models refuse a list where a tuple is declared; the entries stay strict.
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Model(BaseModel):
    """What all parts of a scenario have in common: unknown keys and near-miss types are errors, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Timeouts(Model):
    """How long is waited for what, in seconds."""

    connect_s: Annotated[Seconds, Field(description="TCP, TLS and the WebSocket upgrade.")] = 10.0
    session_s: Annotated[Seconds, Field(description="From the upgrade to the acknowledged session settings.")] = 10.0
    response_s: Annotated[
        Seconds, Field(description="Longest silence of the server while an answer is due or under way.")
    ] = 30.0
    transcription_s: Annotated[
        Seconds, Field(description="How long a transcription may come after its turn's answer.")
    ] = 10.0
    close_s: Annotated[Seconds, Field(description="The closing handshake.")] = 5.0


class Target(Model):
    """The endpoint under test. Keys that belong to another provider are allowed and unused."""

    provider: Annotated[
        Literal["azure", "openai", "simulator", "custom"],
        Field(description="Who is dialled; `simulator` starts the embedded server."),
    ]
    dialect: Annotated[
        Literal["ga", "preview"], Field(description="The wire format: generally available, or preview (beta).")
    ] = "ga"
    endpoint: Annotated[
        str | None,
        Field(
            description="azure: the resource, https://NAME.openai.azure.com (default: AZURE_OPENAI_ENDPOINT); "
            "openai: another host than api.openai.com."
        ),
    ] = None
    deployment: Annotated[
        str | None, Field(description="azure: the deployment's name (default: AZURE_OPENAI_DEPLOYMENT_NAME).")
    ] = None
    model: Annotated[str | None, Field(description="The model's name; azure: another word for deployment.")] = None
    url: Annotated[str | None, Field(description="custom: a whole ws:// or wss:// address, dialled as it stands.")] = (
        None
    )
    api_version: Annotated[
        str | None,
        Field(description="dialect preview only (default: OPENAI_API_VERSION, else 2025-04-01-preview)."),
    ] = None
    auth: Annotated[
        Literal["entra", "api_key", "none"] | None,
        Field(
            description="The kind of credential. Default: azure the key when its variable is set, else Entra ID; "
            "openai the key; custom and simulator none."
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        Field(
            description="NAME of the environment variable that holds the key "
            "(default: AZURE_OPENAI_API_KEY, OPENAI_API_KEY). The key itself never stands in a file.",
        ),
    ] = None
    auth_header: Annotated[
        Literal["api-key", "bearer"] | None,
        Field(description="How a key is sent (default: azure and simulator api-key, others bearer)."),
    ] = None
    credential: Annotated[
        Literal[
            "default",
            "environment",
            "workload_identity",
            "managed_identity",
            "azure_cli",
            "azure_developer_cli",
            "azure_powershell",
            "azure_pipelines",
        ]
        | None,
        Field(
            description="Who asks for the Entra ID token, as azure-identity names it; with azure and custom it also "
            "means auth: entra. AZURE_CLIENT_ID names a user-assigned identity. Absent or default: whoever of the "
            "default chain has one."
        ),
    ] = None
    token_scope: Annotated[str, Field(min_length=1, description="Scope of the Entra ID token.")] = (
        "https://cognitiveservices.azure.com/.default"
    )
    timeouts: Annotated[Timeouts, Field(description="How long is waited for what.")] = Timeouts()
    ca_file: Annotated[
        str | None, Field(description="PEM file of the authorities trusted for wss, instead of the system's.")
    ] = None
    proxy: Annotated[
        str | None, Field(description="Proxy to connect through, e.g. http://proxy:3128; none unless given.")
    ] = None
    headers: Annotated[
        dict[str, str], Field(description="More request headers; secret values come in as ${NAME}.")
    ] = {}
    behaviour: Annotated[
        str | dict[str, Any] | None,
        _expected("a file or a mapping"),
        Field(description="simulator: how it behaves, a YAML file or a mapping."),
    ] = None


class TurnDetection(Model):
    """Who decides that the caller has finished: nobody (manual commit), or the server."""

    type: Annotated[
        Literal["none", "server_vad", "semantic_vad"],
        Field(description="none: the audio is committed by us; else the server listens for the end of speech."),
    ] = "server_vad"
    threshold: Annotated[
        float | None, Field(ge=0, le=1, description="server_vad: how loud counts as speech, 0 to 1.")
    ] = None
    prefix_padding_ms: Annotated[
        Milliseconds | None, Field(description="server_vad: audio kept from before the speech.")
    ] = None
    silence_duration_ms: Annotated[
        Milliseconds | None, Field(description="server_vad: silence that ends the speech.")
    ] = None
    idle_timeout_ms: Annotated[
        int | None, Field(ge=5_000, le=30_000, description="server_vad: silence after which the model speaks up.")
    ] = None
    eagerness: Annotated[
        Literal["low", "medium", "high", "auto"] | None,
        Field(description="semantic_vad: how soon it takes the caller to be done."),
    ] = None
    create_response: Annotated[bool | None, Field(description="Whether the end of speech makes the model answer.")] = (
        None
    )
    interrupt_response: Annotated[bool | None, Field(description="Whether speech cuts a running answer.")] = None

    @property
    def on(self) -> bool:
        """Whether the server decides when a turn ends."""
        return self.type != "none"

    def mapping(self) -> dict[str, Any] | None:
        """What was asked, as a mapping with ``type``; ``None`` for manual commit."""
        return self.model_dump(exclude_none=True) if self.on else None


class Transcription(Model):
    """Transcription of the caller's audio by the service; settings newer than these are passed on."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    model: Annotated[
        str, Field(min_length=1, description="Model, e.g. whisper-1; on Azure with dialect ga a deployment's name.")
    ]
    language: Annotated[str | None, Field(description="ISO-639-1 code of the language spoken.")] = None
    prompt: Annotated[str | None, Field(description="Words that guide the transcription.")] = None

    def mapping(self) -> dict[str, Any]:
        """What was asked, as a mapping with ``model``."""
        return self.model_dump(exclude_none=True)


def _turn_detection(value: Any) -> Any:
    # Both dialects say null for manual commit, so a file may, too.
    return {"type": "none"} if value is None else _short("type")(value)


def _transcription(value: Any) -> Any:
    return None if value == "none" else _short("model")(value)


def _nothing_said(value: Any) -> Any:
    return {} if value is None else value


class Session(Model):
    """What a session is asked to be, in provider-neutral names. What is absent is left to the service."""

    instructions: Annotated[
        str | None, Field(description="The system prompt: text, or {file: PATH} with a text file.")
    ] = None
    voice: Annotated[str | None, Field(min_length=1, description="The voice of the answers.")] = None
    modalities: Annotated[
        tuple[Literal["text", "audio"], ...] | None,
        Field(
            strict=False,
            min_length=1,
            max_length=2,
            description="Kinds of output. [text, audio] is [audio] in dialect ga, which sends its transcript anyway.",
        ),
    ] = None
    turn_detection: Annotated[
        TurnDetection,
        BeforeValidator(
            _turn_detection,
            json_schema_input_type=Literal["none", "server_vad", "semantic_vad"] | TurnDetection | None,
        ),
        Field(description="none (manual commit), server_vad, semantic_vad, or a mapping with `type` and settings."),
    ] = TurnDetection()
    input_audio_format: Annotated[
        Literal["pcm16", "g711_ulaw", "g711_alaw"], Field(description="Format of the audio sent.")
    ] = "pcm16"
    output_audio_format: Annotated[
        Literal["pcm16", "g711_ulaw", "g711_alaw"], Field(description="Format of the audio received.")
    ] = "pcm16"
    transcription: Annotated[
        Transcription | None,
        BeforeValidator(_transcription, json_schema_input_type=str | Transcription | None),
        Field(description="Transcription of the caller's audio: a model, or a mapping with `model`; absent: off."),
    ] = None
    tools: Annotated[
        tuple[dict[str, Any], ...],
        Field(strict=False, description="Tools offered to the model: {type: function, name, description, parameters}."),
    ] = ()
    tool_choice: Annotated[
        str | dict[str, Any] | None,
        _expected("auto, none, required or a mapping that names a tool"),
        Field(description="auto, none, required, or {type: function, name: NAME}."),
    ] = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2, description="Sampling temperature; dialect preview only.")
    ] = None
    max_output_tokens: Annotated[
        Annotated[int, Field(ge=1)] | Literal["inf"] | None,
        _expected("a whole number from 1, or inf"),
        Field(description="Most tokens of one answer, or inf."),
    ] = None
    raw: Annotated[
        dict[str, Any], Field(description="Laid over the session object of session.update, in the dialect's own names.")
    ] = {}

    def settings(self) -> dict[str, Any]:
        """The session in plain data: turn detection and transcription as mappings or ``None``, formats as objects."""
        return {
            "instructions": self.instructions,
            "voice": self.voice,
            "modalities": self.modalities,
            "turn_detection": self.turn_detection.mapping(),
            "input_format": FORMATS[self.input_audio_format],
            "output_format": FORMATS[self.output_audio_format],
            "transcription": self.transcription.mapping() if self.transcription else None,
            "tools": self.tools,
            "tool_choice": self.tool_choice,
            "temperature": self.temperature,
            "max_output_tokens": self.max_output_tokens,
            "raw": self.raw,
        }


class DatasetChoice(Model):
    """Which items are run, and in which order."""

    path: Annotated[str, Field(min_length=1, description="The dataset's folder.")]
    ids: Annotated[Texts | None, Field(min_length=1, description="Only the items with these ids.")] = None
    tags: Annotated[Texts | None, Field(min_length=1, description="Only the items with one of these tags.")] = None
    limit: Annotated[int | None, Field(ge=1, description="At most so many items.")] = None
    order: Annotated[Literal["file", "shuffled"], Field(description="Order of the items.")] = "file"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Seed of the shuffle.")] = 0


class Conversation(Model):
    """How items become conversations."""

    items_per_session: Annotated[
        int,
        Field(ge=1, description="Items spoken in one session; those with one conversation_id always share a session."),
    ] = 1
    wait_for_playback: Annotated[
        bool, Field(description="The next turn starts when the answer would have finished playing.")
    ] = True
    think_time_s: Annotated[
        float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False, description="Pause of the caller before the next turn.")
    ] = 0.0
    max_session_s: Annotated[Seconds | None, Field(description="No further turn starts in a session this old.")] = None


class Stage(Model):
    """So many sessions for so long."""

    duration_s: Annotated[StageSeconds, Field(description="How long the stage lasts.")]
    sessions: Annotated[int, Field(ge=0, le=MOST_SESSIONS, description="Sessions open at once; 0 is a pause.")]


class ArrivalStage(Model):
    """From the rate before, evenly to another."""

    duration_s: Annotated[StageSeconds, Field(description="How long the change takes.")]
    rate: Annotated[
        float, Field(ge=0, le=MOST_SESSIONS, allow_inf_nan=False, description="The rate at its end, in the same unit.")
    ]


class Arrivals(Model):
    """Sessions that come at a rate, whether or not those before have ended: the open model."""

    rate: Annotated[
        float,
        Field(ge=0.001, le=MOST_SESSIONS, allow_inf_nan=False, description="How many sessions come in a unit of time."),
    ]
    per: Annotated[Literal["second", "minute", "hour"], Field(description="The unit of time of all rates here.")] = (
        "second"
    )
    process: Annotated[
        Literal["constant", "poisson"],
        Field(description="constant: evenly; poisson: at random, as callers who know nothing of each other."),
    ] = "constant"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Seed of the chance in poisson.")] = 0
    stages: Annotated[
        tuple[ArrivalStage, ...],
        Field(
            strict=False,
            max_length=1000,
            description="What comes after the first rate: from one to the next evenly; the run ends with the last.",
        ),
    ] = ()

    @property
    def rate_per_s(self) -> float:
        """The first rate, in sessions a second."""
        return self.rate / _UNITS_S[self.per]

    @property
    def stages_per_s(self) -> tuple[tuple[float, float], ...]:
        """The stages as (seconds, sessions a second)."""
        return tuple((stage.duration_s, stage.rate / _UNITS_S[self.per]) for stage in self.stages)

    @property
    def highest_per_s(self) -> float:
        """The highest rate there is at any time, in sessions a second."""
        return max([self.rate_per_s, *(rate for _, rate in self.stages_per_s)])


class Load(Model):
    """How many sessions at once or how many in a second, for how long, and how audio is sent."""

    sessions: Annotated[
        int, Field(ge=1, le=MOST_SESSIONS, description="Sessions open at once, over all workers: the closed model.")
    ] = 1
    ramp_s: Annotated[
        float | None,
        Field(
            ge=0,
            le=LONGEST_S,
            allow_inf_nan=False,
            description="Time over which the first sessions are started evenly, in which a stage changes their number, "
            "or in which the rate of arrivals grows from 0. Absent: starts are 10 ms apart; 0: all at once.",
        ),
    ] = None
    stages: Annotated[
        tuple[Stage, ...],
        Field(
            strict=False,
            max_length=1000,
            description="Other numbers of sessions one after the other; the run ends with the last. Where fewer are "
            "wanted, those that are open end in their own time.",
        ),
    ] = ()
    arrivals: Annotated[
        Arrivals | None, Field(description="Sessions that come at a rate, however many are open: the open model.")
    ] = None
    max_sessions: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_SESSIONS,
            description=f"arrivals: most sessions open at once (default: {DEFAULT_MAX_SESSIONS}). Who comes when all "
            "are taken waits; who still waits at the end of a timed run was not started.",
        ),
    ] = None
    duration_s: Annotated[
        Seconds | None,
        Field(
            description="No session starts after it; passes over the dataset go on until then. "
            "Absent, and without stages: every item is run exactly `repeat` times."
        ),
    ] = None
    warmup_s: Annotated[
        float,
        Field(
            ge=0,
            le=LONGEST_S,
            allow_inf_nan=False,
            description="Turns that begin in the first so many seconds are marked and left out of every metric.",
        ),
    ] = 0.0
    repeat: Annotated[int, Field(ge=1, description="How often every item is run, without an end in time.")] = 1
    pacing: Annotated[
        Literal["realtime", "fast"],
        Field(description="realtime: as a microphone would; fast: at once, for manual commit only."),
    ] = "realtime"
    frame_ms: Annotated[int, Field(ge=10, le=1000, description="Audio in one frame.")] = 100
    engine: Annotated[
        Literal["auto", "asyncio", "locust"],
        Field(
            description="What starts the sessions. auto: Locust for workers, its web page, stages, arrivals and "
            "duration_s, plain asyncio otherwise."
        ),
    ] = "auto"

    @model_serializer(mode="wrap")
    def _what_applies(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A default that another key takes the meaning from would contradict that key when it is read again.
        data: dict[str, Any] = serialize(self)
        if self.arrivals is not None or self.stages:
            data.pop("sessions", None)
        if self.ends_s is not None:
            data.pop("repeat", None)
        return data

    @property
    def ends_s(self) -> float | None:
        """When no session starts any more, in seconds from the start; ``None``: when every item has been run."""
        if self.stages:
            return sum(stage.duration_s for stage in self.stages)
        if self.arrivals is not None and self.arrivals.stages:
            return (self.ramp_s or 0.0) + sum(stage.duration_s for stage in self.arrivals.stages)
        return self.duration_s

    @property
    def most_sessions(self) -> int:
        """The most sessions that may be open at once."""
        if self.arrivals is not None:
            return self.max_sessions or DEFAULT_MAX_SESSIONS
        return max((stage.sessions for stage in self.stages), default=self.sessions)


class Limits(Model):
    """What ends a run early, and what makes it invalid."""

    wall_s: Annotated[Seconds | None, Field(description="Longest run.")] = None
    turns: Annotated[int | None, Field(ge=1, description="Most turns.")] = None
    sessions: Annotated[int | None, Field(ge=1, description="Most sessions.")] = None
    connects_per_s: Annotated[
        float | None,
        Field(ge=0.001, le=MOST_SESSIONS, allow_inf_nan=False, description="Most connections opened in a second."),
    ] = None
    error_rate: Annotated[
        float | None, Field(ge=0, le=1, description="Share of failed turns beyond which the run is stopped.")
    ] = None
    min_n: Annotated[int, Field(ge=1, description="Turns before error_rate is looked at.")] = 20
    send_lag_ms: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False, description="p99 of our lateness in sending beyond which the run is invalid."),
    ] = 20.0
    loop_lag_ms: Annotated[
        float,
        Field(
            gt=0, allow_inf_nan=False, description="p99 of the event loop's lateness beyond which the run is invalid."
        ),
    ] = 20.0


Wanted = Annotated[str | Texts | None, _expected("text or a list of texts")]


class Check(Model):
    """One check of every answer: of its transcript, or of its text where there is none."""

    contains: Annotated[
        Wanted, Field(description="Text that the answer contains, or a list of which all are needed.")
    ] = None
    regex: Annotated[
        Wanted, Field(description="Regular expression that is found in the answer, or a list of which all are.")
    ] = None
    equals: Annotated[str | None, Field(description="The whole answer; both go through the normaliser.")] = None
    tool_call: Annotated[
        str | dict[str, Any] | None,
        _expected("a function's name, or {name, arguments}"),
        Field(description="A function that is called: its name, or {name, arguments}."),
    ] = None

    @model_validator(mode="after")
    def _one_thing(self) -> Check:
        if [self.contains, self.regex, self.equals, self.tool_call].count(None) != 3:
            raise PydanticCustomError("expected", "names exactly one of contains, regex, equals, tool_call")
        if isinstance(self.tool_call, dict) and not isinstance(self.tool_call.get("name"), str):
            raise PydanticCustomError("expected", "its tool_call names no function ({name, arguments})")
        for pattern in (self.regex,) if isinstance(self.regex, str) else self.regex or ():
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                why = {"why": str(error)}
                raise PydanticCustomError("expected", "its regex cannot be read: {why}", why) from None
        return self

    def mapping(self) -> dict[str, Any]:
        """The one thing that is checked, by its kind."""
        return self.model_dump(mode="json", exclude_none=True)


class ScorerChoice(Model):
    """One scorer with its options, which are the scorer's own; in them `{file: PATH}` stands for a file's text."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    scorer: Annotated[
        str | None,
        Field(description="Which one: judge, spoken_wer or that of a plug-in (default: what it is called here)."),
    ] = None

    @property
    def options(self) -> dict[str, Any]:
        """What the scorer is told, as data for JSON."""
        return dict(self.model_extra or {})


class Scoring(Model):
    """How transcripts and answers are judged."""

    normalizer: Annotated[
        Literal["whisper_english", "whisper_basic", "none"], Field(description="What evens out texts before WER.")
    ] = "whisper_english"
    wer: Annotated[bool, Field(description="Whether word and character error rates are computed.")] = True
    checks: Annotated[
        dict[str, Check],
        Field(description="Checks of every answer, by name, beside what the items themselves expect."),
    ] = {}
    scorers: Annotated[
        dict[
            str,
            Annotated[ScorerChoice, BeforeValidator(_nothing_said, json_schema_input_type=ScorerChoice | None)],
        ],
        Field(
            description="Scorers that run after the sessions, by name, each with its options; their metrics are "
            "scorers.NAME.METRIC."
        ),
    ] = {}


Word = str | int | float | bool
Words = Annotated[Word | Annotated[tuple[Word, ...], Field(strict=False)], _expected("a value or a list of values")]


class GateRule(Model):
    """A gate: its condition, and what else is said of it."""

    gate: Annotated[str, Field(description="The condition, e.g. `ttfa_ms.p95 < 1200`.")]
    confidence: Annotated[
        float | None,
        Field(
            ge=0.5,
            lt=1,
            description="Judge by the interval at this confidence (0.95): it passes when all of it holds, fails when "
            "none of it does, and is inconclusive in between. Against a baseline: 0.95 unless said otherwise.",
        ),
    ] = None
    min_n: Annotated[int | None, Field(ge=1, description="Fewer samples than this are no data.")] = None
    severity: Annotated[
        Literal["fail", "warn"], Field(description="Whether a miss decides the exit code, or is only told.")
    ] = "fail"
    inconclusive: Annotated[
        Literal["fail", "pass"], Field(description="What becomes of it when the interval leaves it open.")
    ] = "fail"
    where: Annotated[
        dict[str, Words],
        Field(
            description="Which turns are looked at: {tag: billing}, or a column of the dataset; a list: any of it.",
        ),
    ] = {}

    @model_serializer(mode="wrap")
    def _as_written(self, serialize: SerializerFunctionWrapHandler) -> Any:
        data = {key: value for key, value in serialize(self).items() if key in self.model_fields_set}
        return data["gate"] if list(data) == ["gate"] else data

    def written(self) -> str | dict[str, Any]:
        """As it was written: the condition alone, or a mapping."""
        written: str | dict[str, Any] = self.model_dump(mode="json")
        return written


class BaselineChoice(Model):
    """What a run is held against: an earlier run, or a file that `rteval baseline save` wrote."""

    run: Annotated[
        str | None,
        Field(min_length=1, description="A run id or folder; `latest`: the last run of this scenario before."),
    ] = None
    file: Annotated[str | None, Field(min_length=1, description="A baseline file; relative to the scenario file.")] = (
        None
    )
    missing: Annotated[
        Literal["fail", "skip"],
        Field(description="What becomes of gates against it where there is none: they fail, or they are let be."),
    ] = "fail"

    @model_validator(mode="after")
    def _one_of_both(self) -> BaselineChoice:
        if (self.run is None) is (self.file is None):
            raise PydanticCustomError("expected", "names either a run or a file")
        return self


class Report(Model):
    """What is kept of a run."""

    formats: Annotated[
        tuple[Literal["markdown", "junit", "html"], ...],
        Field(strict=False, description="Reports that are written beside summary.json and the tables."),
    ] = ("markdown", "junit", "html")
    ci: Annotated[
        Literal["auto", "github", "azure", "none"],
        Field(
            description="Whose job summary and annotations are written: auto: GitHub Actions' or Azure Pipelines', "
            "where the run is one of their jobs."
        ),
    ] = "auto"
    audio: Annotated[Literal["none", "failed", "all"], Field(description="Whose answers' audio is kept.")] = "none"
    transcripts: Annotated[
        Literal["full", "none"], Field(description="Whether tables and report.html hold transcripts.")
    ] = "full"


class Scenario(Model):
    """One scenario: what is run against what, and what decides that it went well."""

    # Made from a file by ``load_scenario``; rules that join several keys are judged there.

    schema_version: Annotated[Literal[1], Field(description="Version of this format.")] = 1
    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
            description="Names the folder under reports/ (default: the file's name).",
        ),
    ]
    description: Annotated[str | None, Field(description="What it is for.")] = None
    labels: Annotated[dict[str, str], Field(description="Words to find runs by.")] = {}
    target: Annotated[Target, Field(description="The endpoint under test.")]
    session: Annotated[Session, Field(description="What a session is asked to be.")] = Session()
    dataset: Annotated[
        DatasetChoice,
        BeforeValidator(_short("path"), json_schema_input_type=str | DatasetChoice),
        Field(description="The items that are run: a folder, or {path, ids, tags, limit, order, seed}."),
    ]
    conversation: Annotated[Conversation, Field(description="How items become conversations.")] = Conversation()
    load: Annotated[Load, Field(description="How many sessions at once, and how audio is sent.")] = Load()
    limits: Annotated[Limits, Field(description="What ends a run early, and what makes it invalid.")] = Limits()
    scoring: Annotated[Scoring, Field(description="How transcripts and answers are judged.")] = Scoring()
    slo: Annotated[
        dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]],
        Field(description="Limits a turn must meet to be good, e.g. {ttfa_ms: 1200}."),
    ] = {}
    baseline: Annotated[
        BaselineChoice | None, Field(description="What gates against `baseline` hold this run against.")
    ] = None
    gates: Annotated[
        tuple[
            Annotated[GateRule, BeforeValidator(_short("gate"), json_schema_input_type=str | GateRule)],
            ...,
        ]
        | None,
        Field(
            strict=False,
            description="Conditions that decide the exit code, e.g. `ttfa_ms.p95 < 1200` or, against a baseline, "
            "`ttfa_ms.p95 < baseline * 1.10`; or a mapping with `gate` and more. "
            "`error_rate <= 0.01` is added unless error_rate is named or the list is empty.",
        ),
    ] = None
    report: Annotated[Report, Field(description="What is kept of a run.")] = Report()
    matrix: Annotated[
        dict[str, dict[str, dict[str, Any]]],
        Field(
            description="Variants of one run: axes, their options, and the keys of session, target or conversation "
            "that each sets, e.g. {voice: {a: {session.voice: alloy}, b: {session.voice: echo}}}. Every combination is "
            "run with every item, side by side.",
        ),
    ] = {}

    _path: Path | None = PrivateAttr(default=None)
    _redactor: Redactor = PrivateAttr(default_factory=Redactor)
    _digests: dict[str, str] = PrivateAttr(default_factory=dict)
    _places: dict[str, str] = PrivateAttr(default_factory=dict)
    _aliases: dict[str, str] = PrivateAttr(default_factory=dict)
    _variants: tuple[Variant, ...] = PrivateAttr(default=())

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What is run: a scenario for each combination of the matrix; without one this scenario, which has no name."""
        return self._variants or (Variant(None, {}, self),)

    @property
    def path(self) -> Path | None:
        """The file it was read from."""
        return self._path

    def where(self, key: str) -> str:
        """``file:line: key`` for a message about a key, e.g. ``gates[1]``: where it, or what holds it, was written."""
        place, parent = self._places.get(key), key
        while place is None and parent:
            parent = re.sub(r"(^|\.)[^.\[\]]+$|\[[0-9]+\]$", "", parent)
            place = self._places.get(parent)
        place = place or (str(self._path) if self._path else None)
        for path, alias in self._aliases.items():
            if key == path or key.startswith((f"{path}.", f"{path}[")):
                key = alias + key.removeprefix(path)
                break
        return f"{place}: {key}" if place else key

    @property
    def all_gates(self) -> tuple[str | dict[str, Any], ...]:
        """The gates with the default one where it applies; a mapping holds what was said of it."""
        if self.gates is None:
            return (DEFAULT_GATE,)
        gates = tuple(gate.written() for gate in self.gates)
        # One of some turns, or one that only warns, does not stand for the default.
        whole = (gate.gate for gate in self.gates if gate.severity == "fail" and not gate.where)
        if not gates or any(re.match(r"\s*error_rate\b", text) for text in whole):
            return gates
        return (*gates, DEFAULT_GATE)

    def resolved(self) -> dict[str, Any]:
        """The scenario with all defaults as data for JSON, without secrets, header values and URL queries.

        A value that came from an environment variable and may be secret stands there as it was written, ``${NAME}``.
        """
        return self._redactor.clean(self.model_dump(mode="json"))

    def portable(self, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The whole scenario without secrets, as data for JSON, for :func:`rteval.scenario.scenario_from_portable`.

        What environment variables settle here is settled there too, so that another environment changes nothing;
        ``instructions`` are their text, paths are absolute. Only where a secret may take part (headers, proxy, the
        query of an address, and whatever came from a variable that is called or looks like a secret) the variable's
        name travels, and is looked up there. ``target.behaviour`` does not travel: the embedded server runs here.

        Args:
            env: the environment variables; the process's own by default.
        """
        env = os.environ if env is None else env
        data = self.model_dump(mode="json")
        data["target"]["behaviour"] = None
        hidden: dict[tuple[str | int, ...], str] = {}
        data["settled"] = {}
        for variant in self.variants:
            # What is settled for one variant may be wrong for the next: an api-version belongs to one dialect.
            into = data["target"] if variant.name is None else data["settled"].setdefault(variant.name, {})
            for key, (value, variable) in from_environment(variant.scenario.target, env).items():
                path = ("target", key)
                if variable is not None and must_not_be_shown(path, value):
                    hidden[path if variant.name is None else ("settled", variant.name, key)] = f"${{{variable}}}"
                into[key] = value
        without, places = self._redactor.by_reference(data, hidden)
        return {"scenario": without, "variables": [[list(path), text, is_text] for path, text, is_text in places]}

    @property
    def hash(self) -> str:
        """SHA-256 over what decides how a run goes: not over labels, description and where the files lie."""
        data = self.resolved()
        for key in ("labels", "description"):
            del data[key]
        base = self._path.resolve().parent if self._path else None
        for section, key in (("dataset", "path"), ("target", "ca_file"), ("target", "behaviour")):
            value = data[section][key]
            if base is not None and isinstance(value, str):
                data[section][key] = _beside(Path(value), base)
        for options in data["matrix"].values():
            for keys in options.values():
                if base is not None and isinstance(keys.get("target.ca_file"), str):
                    keys["target.ca_file"] = _beside(Path(keys["target.ca_file"]), base)
        # What a run is held against does not decide how it goes.
        del data["baseline"]
        if not data["matrix"]:
            del data["matrix"]  # a scenario without variants is what it was before there were any
        data["files"] = self._digests
        return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the scenarios that are run side by side.

    Attributes:
        name: unique in the run; ``None`` where there is no matrix.
        axes: the option of each axis.
        scenario: what is run, without a matrix of its own.
    """

    name: str | None
    axes: Mapping[str, str]
    scenario: Scenario


def _beside(path: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError:  # pragma: no cover - another drive on Windows
        return str(path)
