"""Every metric of a run by name: what it means, its unit, where it comes from and what a gate may ask of it.

One table, so that a gate is checked against what is measured and a report prints the definition next to the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["CHECKS", "METRICS", "METRICS_VERSION", "SCORERS", "STATS", "Kind", "Metric", "Source", "find_metric"]

METRICS_VERSION = 1
"""Rises when a definition changes, so that two runs are never compared under different ones."""

STATS = ("mean", "p50", "p90", "p95", "p99", "min", "max")
"""What a distribution can be asked for. Percentiles come from raw samples with linear interpolation."""

CHECKS = "checks."
"""Prefix of the metrics of single checks: ``checks.<name>``."""


SCORERS = "scorers."
"""Prefix of the metrics of scorers: ``scorers.<name>.<metric>``."""


class Kind(StrEnum):
    """What sort of number a metric is."""

    TIME = "time"
    """Samples in a unit; a gate names the statistic."""
    RATE = "rate"
    """One share or ratio of the whole run."""
    COUNT = "count"
    """One number of the whole run."""


class Source(StrEnum):
    """Whose samples make up a metric."""

    TURNS = "turns"
    SESSIONS = "sessions"
    DELTAS = "deltas"
    HEALTH = "health"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a run.

    Attributes:
        name: as gates and ``summary.json`` write it; for a per-turn or per-session metric also its column.
        kind: whether it is a distribution or one value.
        unit: ``ms``, ``ratio`` (0.05 is 5 %), ``1/s``, ``sessions``, ``turns``, ``tokens`` or ``stalls``.
        source: whose samples it is made of.
        definition: one sentence for the reader of a report.
        generator: whether a generator that ran late distorts it, so that an invalid run has no verdict on it.
    """

    name: str
    kind: Kind
    unit: str
    source: Source
    definition: str
    generator: bool = False

    @property
    def is_distribution(self) -> bool:
        """Whether it has statistics (``p95``) and not one value."""
        return self.kind is Kind.TIME


def _time(name: str, definition: str, source: Source = Source.TURNS, unit: str = "ms") -> Metric:
    return Metric(name, Kind.TIME, unit, source, definition, generator=True)


def _rate(name: str, definition: str, source: Source = Source.TURNS) -> Metric:
    return Metric(name, Kind.RATE, "ratio", source, definition)


def _sound(name: str, definition: str, unit: str = "ratio") -> Metric:
    return Metric(name, Kind.TIME, unit, Source.TURNS, definition)


def _tokens(name: str, what: str) -> Metric:
    definition = f"{what}, summed over all turns that reported usage, warm-up included"
    return Metric(name, Kind.COUNT, "tokens", Source.TURNS, definition)


_ALL = (
    # ---- latency, per turn ----
    _time(
        "ttfa_ms",
        "time to first audio: end of the caller's speech (of a text prompt: response.create written) to arrival of "
        "the first audio delta with payload",
    ),
    _time(
        "v2v_ms",
        "voice to voice: end of the caller's speech to the moment a player that started at the first delta "
        "plays the first sample that is not silent",
    ),
    _time("endpoint_ms", "end of the caller's speech to arrival of speech_stopped (server VAD only)"),
    _time(
        "ttfa_response_ms",
        "response.create written (manual commit, text) or response.created received (server VAD) to the first "
        "audio delta",
    ),
    _time(
        "leading_silence_ms",
        "silence at the head of the answer's audio: whole windows of 10 ms up to the first above -50 dBFS RMS",
    ),
    _time("ttft_ms", "end of the caller's speech to arrival of the first text or transcript delta"),
    _time("input_transcript_ms", "end of the caller's speech to arrival of the finished transcription of it"),
    _time("response_ms", "end of the caller's speech to arrival of response.done"),
    _time(
        "wait_ms",
        "when the turn was due to arrival of response.done, less the length of the item's own audio: what a "
        "caller waits, lateness of the schedule included; none where audio was not paced",
    ),
    _time(
        "delta_gap_ms",
        "gaps between arrivals of consecutive audio deltas of a turn, pooled over ok turns",
        Source.DELTAS,
    ),
    _time("delta_gap_p50_ms", "median gap between audio deltas, one sample a turn"),
    _time("delta_gap_p95_ms", "95th percentile of the gaps between audio deltas, one sample a turn"),
    _time("delta_gap_max_ms", "longest gap between audio deltas, one sample a turn"),
    _time(
        "rtf",
        "time over which the audio deltas arrived, divided by the length of the answer's audio without its "
        "first delta; below 1 is needed to play without stalls",
        unit="ratio",
    ),
    _time("underrun_count", "stalls of a player that starts at the first delta, one sample a turn", unit="stalls"),
    _time("underrun_ms", "length of the stalls of that player, one sample a turn"),
    _time("talk_over_ms", "length of the audio in deltas that arrived before the caller's speech ended"),
    _time("output_audio_ms", "length of the answer's audio"),
    _time("input_audio_ms", "length of all audio sent for the turn, silence after the utterance included"),
    _time("speech_ms", "first to last voiced sample of the item"),
    _time(
        "backpressure_ms",
        "time for which the connection's flow control kept us from sending, one sample a turn: a fact about the target",
    ),
    # ---- sessions ----
    _time("connect_ms", "start of the TCP connect to the 101 answer: TCP, TLS and upgrade", Source.SESSIONS),
    _time("session_ready_ms", "start of the TCP connect to the acknowledged session.update", Source.SESSIONS),
    _time(
        "start_lag_ms",
        "when the schedule wanted the session to start to when it did; sessions that never started have none",
        Source.SESSIONS,
    ),
    _rate(
        "setup_success_rate",
        "sessions that became ready / sessions tried (without those that the tool itself stopped before)",
        Source.SESSIONS,
    ),
    _rate("drop_rate", "sessions that ended without our asking / sessions that became ready", Source.SESSIONS),
    # ---- outcome ----
    _rate(
        "error_rate",
        "turns that ended failed, incomplete, empty, timeout, dropped or refused / all turns but cut and warm-up ones",
    ),
    _rate("throttle_rate", "turns ended by HTTP 429 or rate_limit_exceeded / all turns but cut and warm-up ones"),
    # ---- content ----
    _rate(
        "input_wer",
        "word errors of the API's transcription of the caller against the dataset's reference, pooled: sum of "
        "errors / sum of reference words. On a speech-to-speech model this is a side-channel recogniser, not "
        "what the model heard",
    ),
    _rate("input_cer", "the same over characters: sum of character errors / sum of reference characters"),
    _rate(
        "output_wer",
        "word errors of the answer's transcript against the expected answer, pooled (scripted or read-back "
        "answers only)",
    ),
    _rate("output_cer", "the same over characters"),
    _rate(
        "transcript_missing_rate",
        "turns whose transcription failed or never came / turns that asked for one, without cut and warm-up ones",
    ),
    _rate(
        "entity_accuracy",
        "numbers, names and ids of expect.entities that the answer holds / all that were expected, pooled over turns",
    ),
    _rate("checks.pass_rate", "checks that held / checks that could be judged, over all names and turns"),
    # ---- the sound of the answers, where they were kept ----
    _sound(
        "output_clipped_share",
        "samples of the answer in runs of three or more at full scale / all its samples, one value a turn (kept audio "
        "only)",
    ),
    _sound(
        "output_loudness_dbfs",
        "RMS of the answer's 10 ms windows above -50 dBFS, where a full-scale sine is -3 dBFS; unweighted, so no "
        "loudness after ITU-R BS.1770 (kept audio only)",
        unit="dBFS",
    ),
    _sound(
        "output_silence_share",
        "10 ms windows of the answer at or below -50 dBFS RMS, pauses and both ends included / all its windows (kept "
        "audio only)",
    ),
    # ---- load ----
    Metric(
        "sessions_peak",
        Kind.COUNT,
        "sessions",
        Source.RUN,
        "most sessions open at once, warm-up included",
        generator=True,
    ),
    Metric(
        "sessions_per_s",
        Kind.COUNT,
        "1/s",
        Source.RUN,
        "sessions started per second of the time in which the schedule asked for sessions, without the warm-up; of a "
        "run that ends when all is done, of the whole run",
        generator=True,
    ),
    Metric(
        "not_started",
        Kind.COUNT,
        "turns",
        Source.RUN,
        "turns that were due and never began, because all sessions that may be open at once were",
        generator=True,
    ),
    Metric(
        "turns_per_s",
        Kind.COUNT,
        "1/s",
        Source.RUN,
        "turns that ended by themselves (neither cut nor warm-up) per second, from the start of the first to the end "
        "of the last",
        generator=True,
    ),
    Metric("goodput", Kind.COUNT, "1/s", Source.RUN, "ok turns within every limit of slo, per second", generator=True),
    Metric(
        "goodput_share",
        Kind.RATE,
        "ratio",
        Source.RUN,
        "ok turns within every limit of slo / all turns but cut and warm-up ones",
        generator=True,
    ),
    # ---- tokens ----
    _tokens("input_tokens", "input tokens"),
    _tokens("output_tokens", "output tokens"),
    _tokens("input_text_tokens", "input tokens of text"),
    _tokens("input_audio_tokens", "input tokens of audio"),
    _tokens("input_cached_tokens", "input tokens that were cached (part of the input tokens)"),
    _tokens("input_cached_text_tokens", "cached input tokens of text"),
    _tokens("input_cached_audio_tokens", "cached input tokens of audio"),
    _tokens("output_text_tokens", "output tokens of text"),
    _tokens("output_audio_tokens", "output tokens of audio"),
    # ---- the generator itself ----
    _time("send_lag_ms", "how late our loop reached an audio frame that was due, one sample a frame", Source.HEALTH),
    _time("loop_lag_ms", "how late our event loop woke, one sample a probe", Source.HEALTH),
    _time(
        "stamp_lag_ms",
        "how late our event loop read what the kernel had for it, and so how late a frame that arrived then would have "
        "been stamped, one sample a probe (Linux only)",
        Source.HEALTH,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric that a run has besides ``checks.<name>``, in the order in which reports show them."""


def find_metric(name: str) -> Metric | None:
    """Return the metric of that name; a name of the form ``checks.<name>`` or ``scorers.<name>.<metric>`` makes one.

    What a scorer's metric means and its unit stand in its entry in ``summary.json``: plug-ins have their own.
    """
    metric = METRICS.get(name)
    if metric is None and name.startswith(CHECKS) and len(name) > len(CHECKS):
        check = name.removeprefix(CHECKS)
        return _rate(name, f"turns for which the check {check!r} held / turns for which it could be judged")
    if metric is None and name.startswith(SCORERS) and name.count(".") == 2:
        _, scorer, what = name.split(".")
        return Metric(name, Kind.RATE, "", Source.RUN, f"{what} of the scorer {scorer!r}")
    return metric
