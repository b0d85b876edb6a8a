"""What a run leaves behind, as plain data: the live half writes it, the judging half reads it.

Anchors are nanoseconds of one monotonic clock of one process (``time.perf_counter_ns``). ``None`` is "not measured" or
"does not apply"; 0 is zero. Nothing here is derived: every duration of a report is made from these by ``analysis``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

__all__ = [
    "MASTER",
    "SCHEMA_VERSION",
    "DeltaKind",
    "Deltas",
    "HealthSample",
    "Outcome",
    "SessionRecord",
    "Stage",
    "TranscriptOutcome",
    "TurnRecord",
    "Usage",
    "kept_ranks",
    "shift",
]

SCHEMA_VERSION = 1
"""Version of the run folder: rises when a column or a file changes its meaning."""

MASTER = "master"
"""Name, in samples of health, of a process that deals sessions to workers and holds none itself."""


class Outcome(StrEnum):
    """How the answer to one turn ended."""

    OK = "ok"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    EMPTY = "empty"
    TIMEOUT = "timeout"
    DROPPED = "dropped"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    CUT = "cut"


class Stage(StrEnum):
    """Where a turn that was not ``ok`` failed."""

    CONNECT = "connect"
    SESSION = "session"
    SPEAK = "speak"
    RESPOND = "respond"
    TRANSCRIBE = "transcribe"
    CLOSE = "close"


class TranscriptOutcome(StrEnum):
    """What became of the transcription of the user's audio; only ``OK`` (an empty text too) enters WER."""

    OK = "ok"
    FAILED = "failed"
    MISSING = "missing"
    OFF = "off"


class DeltaKind(StrEnum):
    """The three streams of an answer."""

    AUDIO = "audio"
    TRANSCRIPT = "transcript"
    TEXT = "text"


@dataclass(slots=True)
class Deltas:
    """The deltas of one turn in order of arrival, as parallel columns (a run may hold ten million of them).

    Attributes:
        kind: stream of each delta.
        arrival_ns: stamp of the read that completed the frame.
        size_bytes: decoded audio bytes (0 for text).
        chars: characters of text (0 for audio).
    """

    kind: list[DeltaKind] = field(default_factory=list)
    arrival_ns: list[int] = field(default_factory=list)
    size_bytes: list[int] = field(default_factory=list)
    chars: list[int] = field(default_factory=list)

    def add(self, kind: DeltaKind, arrival_ns: int, *, size_bytes: int = 0, chars: int = 0) -> None:
        """Append one delta."""
        self.kind.append(kind)
        self.arrival_ns.append(arrival_ns)
        self.size_bytes.append(size_bytes)
        self.chars.append(chars)

    def __len__(self) -> int:
        """How many deltas arrived."""
        return len(self.kind)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one response as the server reported them; ``None`` where it did not.

    ``input_cached_tokens`` are part of ``input_tokens``, not beside them.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_text_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_cached_tokens: int | None = None
    input_cached_text_tokens: int | None = None
    input_cached_audio_tokens: int | None = None
    output_text_tokens: int | None = None
    output_audio_tokens: int | None = None


@dataclass(slots=True, kw_only=True)
class TurnRecord:
    """One user utterance (or prompt) and the answer to it: one row of the result table. Its key is (session, turn).

    Attributes whose names do not say it all:
        session: id of the session in this run, made by us (``session_id`` is the server's).
        turn: 0-based position in its session.
        attempt: 1-based repetition of the item (``load.repeat``).
        modality: ``audio`` or ``text``: how the user's side was given.
        prompt: what was sent of a text item: its text, or its instructions where it has no text.
        expect: the dataset's expectations, for scoring later; ``None`` when the item has none.
        meta: the dataset's unknown columns, kept for grouping.
        output_rate_bytes_per_s: bytes of one second of the answer's audio: turns delta sizes into time.
        playback_buffer_ms: what the simulated player waits after the first delta.
        leading_silence_ms: silence at the head of the answer's audio; ``None`` without audio or when all was silent.
        input_audio_ms: length of all audio sent for the turn, silence after the utterance included.
        item_audio_ms: length of the item's own audio; the part of it that a caller hears themselves speak.
        talk_over_ms: length of the audio in deltas that arrived before ``speech_end``.
        oddities: what the server did that the protocol does not foresee, one short word each.
        tool_calls: function calls of the answer, ``{"name", "call_id", "arguments"}``.
        transcript_error: code of a failed transcription.
    """

    # identity
    run_id: str
    variant: str | None = None
    worker: str
    session: str
    session_id: str | None = None
    turn: int
    item: str
    attempt: int = 1
    modality: str
    item_id: str | None = None
    response_id: str | None = None
    tags: tuple[str, ...] = ()
    language: str | None = None
    conversation_id: str | None = None
    dialect: str
    concurrency: int | None = None
    warmup: bool = False
    started_at: str | None = None
    # outcome
    outcome: Outcome
    failure_stage: Stage | None = None
    error_code: str | None = None
    error_message: str | None = None
    modality_missing: bool = False
    transcript_outcome: TranscriptOutcome = TranscriptOutcome.OFF
    transcript_error: str | None = None
    split_turn: bool = False
    early_endpoint: bool = False
    silent_answer: bool = False
    # anchors
    due_ns: int | None = None
    started_ns: int | None = None
    speech_end_ns: int | None = None
    speech_stopped_ns: int | None = None
    committed_ns: int | None = None
    create_ns: int | None = None
    response_created_ns: int | None = None
    first_text_ns: int | None = None
    first_audio_ns: int | None = None
    last_audio_ns: int | None = None
    input_transcript_ns: int | None = None
    response_done_ns: int | None = None
    # facts that cannot be had from the anchors
    input_audio_ms: float | None = None
    item_audio_ms: float | None = None
    speech_ms: float | None = None
    leading_silence_ms: float | None = None
    talk_over_ms: float | None = None
    send_lag_ms: float | None = None
    backpressure_ms: float | None = None
    output_rate_bytes_per_s: int | None = None
    playback_buffer_ms: float = 0.0
    unknown_events: int = 0
    oddities: tuple[str, ...] = ()
    # texts
    reference: str | None = None
    prompt: str | None = None
    input_transcript: str | None = None
    output_transcript: str | None = None
    output_text: str | None = None
    expect: dict[str, Any] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    tool_calls: tuple[dict[str, Any], ...] = ()
    usage: Usage = Usage()
    deltas: Deltas = field(default_factory=Deltas)


@dataclass(slots=True, kw_only=True)
class SessionRecord:
    """One WebSocket connection, also when it never opened.

    Attributes whose names do not say it all:
        turns: how many turns were planned for it.
        outcome: ``ready`` (it was usable, whatever came later), ``refused``, ``timeout``, ``dropped`` before it was
            ready, or ``cut``.
        drop: it ended without our asking after it was ready.
        request_id: the ``apim-request-id`` or ``x-request-id`` of the handshake, for the provider's support.
        reported_model: the model the server says it runs (often not the deployment's name).
        rate_limits: the last ``rate_limits.updated``, if one came.
        ignored_settings: paths of settings that the acknowledged session shows otherwise than we asked for.
        unsolicited_responses: responses that came when nothing was asked.
    """

    run_id: str
    variant: str | None = None
    worker: str
    session: str
    session_id: str | None = None
    dialect: str
    turns: int
    outcome: str
    failure_stage: Stage | None = None
    error_code: str | None = None
    error_message: str | None = None
    due_ns: int | None = None
    started_ns: int | None = None
    connected_ns: int | None = None
    ready_ns: int | None = None
    ended_ns: int | None = None
    started_at: str | None = None
    close_code: int | None = None
    close_reason: str | None = None
    drop: bool = False
    retries: int = 0
    http_status: int | None = None
    request_id: str | None = None
    reported_model: str | None = None
    expires_at: int | None = None
    unknown_events: int = 0
    unknown_event_types: tuple[str, ...] = ()
    rate_limits: tuple[dict[str, Any], ...] = ()
    ignored_settings: tuple[str, ...] = ()
    unsolicited_responses: int = 0


@dataclass(slots=True, kw_only=True)
class HealthSample:
    """About one second of one process's own health: whether the generator was the bottleneck.

    The lags of a second are all there, in any order, unless there were more than a sample keeps: then the list holds
    those of ``kept_ranks``, ascending, and the count says how many there were.

    Attributes:
        worker: name of the process; ``MASTER`` where it holds no sessions.
        at_ns: end of the second.
        loop_lag_us: how late the event loop woke, one entry a probe, microseconds.
        send_lag_us: how late each paced frame of that second was reached, microseconds.
        stamp_lag_us: how late the loop read what the kernel had for it, one entry a probe, microseconds: how late the
            stamp of a frame would have been that arrived then.
        loop_lag_n, send_lag_n: how many there were; ``None``: as many as there are entries.
        cpu_share: CPU time of the process over wall time (1.0 is one core), ``None`` where not measured.
        sessions_open: sessions open at ``at_ns``.
    """

    worker: str
    at_ns: int
    loop_lag_us: list[int] = field(default_factory=list)
    send_lag_us: list[int] = field(default_factory=list)
    stamp_lag_us: list[int] = field(default_factory=list)
    loop_lag_n: int | None = None
    send_lag_n: int | None = None
    cpu_share: float | None = None
    sessions_open: int = 0


_KEPT = 300
_KEPT_OF_TAIL = 200


def kept_ranks(n: int) -> list[int]:
    """Which of ``n`` lags in ascending order (from 0) a sample of health keeps; each stands for those since the last.

    A process that sends ten thousand frames a second would otherwise leave more numbers of its own health than of the
    target. Up to 300 are all kept; of more, those of the upper 2 % as closely as there is room, so that a p99 is theirs
    to 0.01 %, the others evenly. The largest is always kept.
    """
    if n <= _KEPT:
        return list(range(n))
    tail = n // 50
    bulk, fine = n - tail, min(tail, _KEPT_OF_TAIL)
    coarse = _KEPT - fine
    lower = [bulk * number // coarse - 1 for number in range(1, coarse + 1)]
    return lower + [bulk + tail * number // fine - 1 for number in range(1, fine + 1)]


def shift(record: TurnRecord | SessionRecord | HealthSample, by_ns: int) -> None:
    """Move every moment of a record to another clock, whose reading is ``by_ns`` higher."""
    if not by_ns:
        return
    for name in _MOMENTS[type(record)]:
        at_ns = getattr(record, name)
        if at_ns is not None:
            setattr(record, name, at_ns + by_ns)
    if isinstance(record, TurnRecord):
        record.deltas.arrival_ns = [at_ns + by_ns for at_ns in record.deltas.arrival_ns]


_MOMENTS: dict[type, tuple[str, ...]] = {
    record: tuple(f.name for f in fields(record) if f.name.endswith("_ns"))
    for record in (TurnRecord, SessionRecord, HealthSample)
}
