"""The turn and session tables: what was recorded, and every duration that follows from it.

A duration is ``None`` (``nan`` in a frame) where it does not apply: a text prompt has no endpointing, a text answer no
audio. Never 0, never -1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..playback import play
from ..records import DeltaKind
from .stats import percentile
from .store import META, TurnDeltas

__all__ = [
    "SESSION_ORDER",
    "TURN_ORDER",
    "AnswerAudio",
    "answer_audio",
    "derive_sessions",
    "derive_turns",
    "expand_meta",
]

Floats = npt.NDArray[np.float64]

TURN_ORDER = ("started_ns", "session", "turn")
"""By start, then by key: the same rows give the same table, in whichever order workers wrote them."""

SESSION_ORDER = ("started_ns", "session")


@dataclass(frozen=True, slots=True)
class AnswerAudio:
    """What the arrivals of one answer's audio deltas say; ``None`` where it does not apply.

    Attributes:
        stalled_ms: stalls, before the first sample that is not silent, of a player that started at the first delta.
    """

    output_audio_ms: float | None = None
    delta_gap_p50_ms: float | None = None
    delta_gap_p95_ms: float | None = None
    delta_gap_max_ms: float | None = None
    rtf: float | None = None
    underrun_count: int | None = None
    underrun_ms: float | None = None
    stalled_ms: float | None = None


def answer_audio(
    arrival_ns: Sequence[int],
    size_bytes: Sequence[int],
    bytes_per_s: int,
    *,
    buffer_ms: float = 0.0,
    leading_silence_ms: float | None = None,
) -> AnswerAudio:
    """Work out what a listener had of one answer.

    Args:
        arrival_ns: arrival of each audio delta that had payload.
        size_bytes: decoded bytes of each.
        bytes_per_s: bytes of one second of audio.
        buffer_ms: how long the player whose stalls are counted waits after the first delta.
        leading_silence_ms: silence at the head of the audio.
    """
    playback = play(arrival_ns, size_bytes, bytes_per_s, buffer_ms)
    if playback is None:
        return AnswerAudio()
    # A gap's percentile is a fact about this one answer, not an estimate: it needs no least number of samples.
    gaps = sorted((after - before) / 1e6 for before, after in pairwise(arrival_ns))
    rest_ms = sum(size_bytes[1:]) / bytes_per_s * 1e3
    eager = playback if not buffer_ms else play(arrival_ns, size_bytes, bytes_per_s)
    stalled_ms = None
    if eager is not None and leading_silence_ms is not None:
        stalled_ms = eager.stalled_before_ns(leading_silence_ms / 1e3) / 1e6
    return AnswerAudio(
        output_audio_ms=playback.audio_s * 1e3,
        delta_gap_p50_ms=percentile(gaps, 0.50) if gaps else None,
        delta_gap_p95_ms=percentile(gaps, 0.95) if gaps else None,
        delta_gap_max_ms=gaps[-1] if gaps else None,
        rtf=(arrival_ns[-1] - arrival_ns[0]) / 1e6 / rest_ms if gaps else None,
        underrun_count=playback.underrun_count,
        underrun_ms=playback.underrun_ms,
        stalled_ms=stalled_ms,
    )


def derive_turns(turns: pd.DataFrame, deltas: Iterable[TurnDeltas], n_deltas: int) -> tuple[pd.DataFrame, Floats]:
    """Work out the duration columns of every turn.

    Args:
        turns: the raw turn table.
        deltas: the deltas of each turn, in any order of turns.
        n_deltas: an upper bound of their number.

    Returns:
        The derived columns in the turns' order, and the gaps between audio deltas pooled over the ok turns outside
        the warm-up, in milliseconds.
    """
    columns, gaps = _from_deltas(turns, deltas, n_deltas)
    is_text = (turns["modality"] == "text").to_numpy(dtype=bool, na_value=False)
    ttfa = _between(turns, "speech_end_ns", "first_audio_ns")
    base = turns["create_ns"].fillna(turns["response_created_ns"])
    # Audio that was not paced took no time to say, so nothing can be taken off for it: no wait is known then.
    said_ms = turns["item_audio_ms"].fillna(turns["input_audio_ms"]).where(turns["send_lag_ms"].notna())
    spoken_ms = np.where(is_text, 0.0, _float(said_ms))
    times = {
        "endpoint_ms": np.where(is_text, np.nan, _between(turns, "speech_end_ns", "speech_stopped_ns")),
        "ttfa_ms": ttfa,
        "ttfa_response_ms": _ms(turns["first_audio_ns"] - base),
        "v2v_ms": ttfa + _float(turns["leading_silence_ms"]) + columns.pop("stalled_ms"),
        "ttft_ms": _between(turns, "speech_end_ns", "first_text_ns"),
        "input_transcript_ms": _between(turns, "speech_end_ns", "input_transcript_ns"),
        "response_ms": _between(turns, "speech_end_ns", "response_done_ns"),
        "wait_ms": _between(turns, "due_ns", "response_done_ns") - spoken_ms,
    }
    frame = pd.DataFrame(times | columns, index=turns.index)
    for name in ("audio_deltas", "text_deltas", "underrun_count"):
        frame[name] = frame[name].astype("Int64")
    return frame, gaps


def derive_sessions(sessions: pd.DataFrame) -> pd.DataFrame:
    """Work out the duration columns of every session, in the same order of rows."""
    return pd.DataFrame(
        {
            "connect_ms": _between(sessions, "started_ns", "connected_ns"),
            "session_ready_ms": _between(sessions, "started_ns", "ready_ns"),
            "start_lag_ms": _between(sessions, "due_ns", "started_ns"),
        },
        index=sessions.index,
    )


def expand_meta(texts: pd.Series[Any]) -> pd.DataFrame:
    """Make one column ``meta_<name>`` for each of the dataset's own columns, typed where all its values agree."""
    rows = [json.loads(text) if isinstance(text, str) else {} for text in texts]
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({META + name: _meta([row.get(name) for row in rows]) for name in names}, index=texts.index)


def _meta(values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.array(values, dtype="boolean")
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pd.array(values, dtype="Int64")
    if kinds and kinds <= {int, float}:
        return np.array([np.nan if value is None else float(value) for value in values])
    return pd.array([value if value is None or isinstance(value, str) else _dumps(value) for value in values], "string")


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _from_deltas(turns: pd.DataFrame, deltas: Iterable[TurnDeltas], n_deltas: int) -> tuple[dict[str, Floats], Floats]:
    rows = {key: row for row, key in enumerate(zip(turns["session"], turns["turn"], strict=True))}
    names = (*AnswerAudio.__dataclass_fields__, "audio_deltas", "text_deltas")
    columns = {name: np.full(len(turns), np.nan) for name in names}
    columns["audio_deltas"][:] = columns["text_deltas"][:] = 0
    rate = _float(turns["output_rate_bytes_per_s"])
    buffer_ms = np.nan_to_num(_float(turns["playback_buffer_ms"]))
    silence_ms = _float(turns["leading_silence_ms"])
    pooled = ((turns["outcome"] == "ok") & ~turns["warmup"].fillna(False)).to_numpy(dtype=bool, na_value=False)
    gaps, n_gaps = np.empty(n_deltas), 0
    for turn in deltas:
        row = rows.get((turn.session, turn.turn))
        if row is None:
            continue
        arrival, size = turn.of(DeltaKind.AUDIO)
        columns["audio_deltas"][row] = len(arrival)
        columns["text_deltas"][row] = len(turn.kind) - len(arrival)
        arrival, size = arrival[size > 0], size[size > 0]
        if pooled[row] and len(arrival) > 1:
            gaps[n_gaps : n_gaps + len(arrival) - 1] = np.diff(arrival) / 1e6
            n_gaps += len(arrival) - 1
        if not rate[row] > 0:
            continue
        audio = answer_audio(
            arrival.tolist(),
            size.tolist(),
            int(rate[row]),
            buffer_ms=max(float(buffer_ms[row]), 0.0),
            leading_silence_ms=None if np.isnan(silence_ms[row]) else float(silence_ms[row]),
        )
        for name in AnswerAudio.__dataclass_fields__:
            value = getattr(audio, name)
            if value is not None:
                columns[name][row] = value
    return columns, gaps[:n_gaps]


def _between(frame: pd.DataFrame, first: str, last: str) -> Floats:
    return _ms(frame[last] - frame[first])


def _ms(nanoseconds: pd.Series[Any]) -> Floats:
    # The difference is taken in whole nanoseconds; a float holds it exactly, which it would not hold an anchor.
    return _float(nanoseconds) / 1e6


def _float(column: pd.Series[Any]) -> Floats:
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
