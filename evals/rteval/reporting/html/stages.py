"""Where the time goes between the end of the caller's speech and the first sound of the answer, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...analysis.stats import Summary, describe
from .points import Figure, rounded
from .wording import clean, number

__all__ = ["Stage", "Stages", "stages_of"]

Floats = npt.NDArray[np.float64]

CONNECT, SETUP = "connect", "session set-up"
ENDPOINTING, COMMIT, RESPONSE = "endpointing", "commit", "response"
AUDIO, TEXT, SILENCE = "first audio", "first text", "leading silence"

DEFINITIONS = {
    CONNECT: "start of the TCP connect to the 101 answer; once a session, before anybody speaks",
    SETUP: "the 101 answer to the acknowledged session.update; once a session, before anybody speaks",
    ENDPOINTING: "end of the caller's speech to arrival of speech_stopped: the server waits whether more is said",
    COMMIT: "end of the caller's speech to response.create written: the last frame is sent, then committed",
    RESPONSE: "speech_stopped (server VAD) or response.create (manual commit, text) to arrival of response.created",
    AUDIO: "response.created to arrival of the first audio delta",
    TEXT: "response.created to arrival of the first text or transcript delta",
    SILENCE: "silence at the head of the answer's audio",
}
"""Of each stage, in the order in which they follow one another; those of a turn add up to voice to voice."""

COLOURS = {CONNECT: 0, SETUP: 1, ENDPOINTING: 2, COMMIT: 3, RESPONSE: 4, AUDIO: 5, TEXT: 5, SILENCE: 6}
TENTHS_FROM = 20
"""Turns from which the fastest and the slowest tenth are shown."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage over the turns (or sessions) that have all of theirs, in ms."""

    name: str
    definition: str
    times: Summary


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time goes.

    Attributes:
        rows: every stage that takes part.
        figure: stacked bars of means: they add up, which percentiles do not.
        turns: turns that have all stages; the others are in no bar.
    """

    rows: tuple[Stage, ...]
    figure: Figure
    turns: int


def stages_of(
    turns: pd.DataFrame,
    counted: npt.NDArray[np.bool_],
    sessions: pd.DataFrame,
    variants: npt.NDArray[np.object_] | None,
) -> Stages | None:
    """Take the times of turns apart; ``None`` where no turn has all its stages.

    Args:
        turns: one row a turn.
        counted: which turns count: answered, and no warm-up.
        sessions: one row a session.
        variants: of each turn, where there are several.
    """
    parts = _of_turns(turns)
    if not parts:
        return None
    whole = counted & np.all([np.isfinite(times) for times in parts.values()], axis=0)
    if not whole.any():
        return None
    of_turns = {name: times[whole] for name, times in parts.items() if np.any(times[whole] != 0)}
    of_sessions = dict(_of_sessions(sessions))
    bars: list[tuple[str, Mapping[str, Floats]]] = [("a session, once", of_sessions)] if of_sessions else []
    if variants is None:
        bars += _tenths("", of_turns)
    else:
        names = variants[whole]
        for name in sorted(set(names.tolist())):
            mine = {stage: times[names == name] for stage, times in of_turns.items()}
            bars += _tenths(f"{clean(name)}: ", mine)
    stages = {**of_sessions, **of_turns}
    order = [name for name in DEFINITIONS if name in stages]
    return Stages(
        rows=tuple(Stage(name, DEFINITIONS[name], describe(stages[name].copy())) for name in order),
        figure=_figure(bars, order),
        turns=int(whole.sum()),
    )


def _of_turns(turns: pd.DataFrame) -> dict[str, Floats]:
    needed = {"speech_end_ns", "speech_stopped_ns", "create_ns", "response_created_ns"}
    if not needed <= set(turns.columns) or not len(turns):
        return {}
    end, stopped, create, created = (_anchor(turns, name) for name in sorted(needed, key=ORDER.index))
    is_vad = np.isfinite(stopped) & np.isnan(create)
    asked = np.where(is_vad, stopped, create)
    has_audio = "first_audio_ns" in turns and turns["first_audio_ns"].notna().any()
    if not has_audio and "first_text_ns" not in turns:
        return {}
    first = _anchor(turns, "first_audio_ns" if has_audio else "first_text_ns")
    found = {
        ENDPOINTING: np.where(is_vad, stopped - end, np.where(np.isfinite(create), 0.0, np.nan)),
        COMMIT: np.where(is_vad, 0.0, create - end),
        RESPONSE: created - asked,
        AUDIO if has_audio else TEXT: first - created,
    }
    if has_audio:
        silence = turns["leading_silence_ms"] if "leading_silence_ms" in turns else pd.Series(0.0, index=turns.index)
        found[SILENCE] = silence.to_numpy(dtype=float, na_value=np.nan)
    return found


ORDER = ("speech_end_ns", "speech_stopped_ns", "create_ns", "response_created_ns")


def _anchor(turns: pd.DataFrame, name: str) -> Floats:
    """Milliseconds from the run's first end of speech, so that no digit is lost."""
    first = turns["speech_end_ns"].min()
    values: Floats = (turns[name] - (0 if pd.isna(first) else int(first))).to_numpy(dtype=float, na_value=np.nan) / 1e6
    return values


def _of_sessions(sessions: pd.DataFrame) -> Iterator[tuple[str, Floats]]:
    if not {"connect_ms", "session_ready_ms"} <= set(sessions.columns):
        return
    known = sessions[["connect_ms", "session_ready_ms"]].dropna()
    if len(known):
        connect, ready = (known[name].to_numpy(dtype=float) for name in known.columns)
        yield CONNECT, connect
        yield SETUP, ready - connect


def _tenths(prefix: str, stages: Mapping[str, Floats]) -> list[tuple[str, Mapping[str, Floats]]]:
    """All turns, and the tenths of them that were fastest, in the middle and slowest."""
    total = np.sum(list(stages.values()), axis=0)
    n = len(total)
    found: list[tuple[str, Mapping[str, Floats]]] = [(f"{prefix}{'all turns' if n > 1 else 'the turn'}", stages)]
    if n < TENTHS_FROM:
        return found
    order, tenth = np.argsort(total, kind="stable"), n // 10
    middle = (n - tenth) // 2
    chosen = (("fastest tenth", 0), ("middle tenth", middle), ("slowest tenth", n - tenth))
    for words, start in chosen if not prefix else chosen[-1:]:
        rows = order[start : start + tenth]
        found.append((f"{prefix}{words}", {name: times[rows] for name, times in stages.items()}))
    return found


def _figure(bars: list[tuple[str, Mapping[str, Floats]]], order: list[str]) -> Figure:
    means = [{name: float(times.mean()) for name, times in stages.items()} for _label, stages in bars]
    totals = [number(sum(mean.values()), "ms").text for mean in means]
    return {
        "id": "stages",
        "kind": "stack",
        "title": "Where the time goes",
        "name": "",
        "note": "mean of each stage; they add up to voice to voice",
        "label": "Stacked bars of the mean of each stage: "
        + "; ".join(f"{label} {total}" for (label, _stages), total in zip(bars, totals, strict=True))
        + ".",
        "x": "ms",
        "y": "",
        "unit": "ms",
        "rows": [[label, total] for (label, _stages), total in zip(bars, totals, strict=True)],
        "series": [
            {
                "name": name,
                "role": f"stage-{COLOURS[name]}",
                "values": [rounded(mean[name]) if name in mean else None for mean in means],
            }
            for name in order
        ],
        "wide": True,
    }
