"""What a record shows in Locust's charts: for the eye only, nothing of it is read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..records import Outcome, SessionRecord, TurnRecord

__all__ = ["PREFIX", "Event", "of_session", "of_turn"]

PREFIX = "rteval/"
"""Every request name begins with it."""


class Event(NamedTuple):
    """One of Locust's requests.

    Attributes:
        name: ``rteval/<metric>``.
        value_ms: its time; ``None`` where none was measured.
        size: bytes of audio that came.
        error: why it failed.
        headline: whether it goes into the charts: one measure a turn, for a mixture of them would mean nothing.
    """

    name: str
    value_ms: float | None
    size: int = 0
    error: str | None = None
    headline: bool = False


def of_turn(record: TurnRecord) -> Sequence[Event]:
    """``rteval/ttfa_ms`` and ``rteval/response_ms`` of a turn that was ok, ``rteval/turn`` with its error of others."""
    if record.outcome is Outcome.CUT:
        return ()
    if record.outcome is not Outcome.OK:
        why = str(record.outcome) if record.error_code is None else f"{record.outcome}: {record.error_code}"
        return (Event(f"{PREFIX}turn", None, error=why, headline=True),)
    begun_ns, size = record.speech_end_ns, sum(record.deltas.size_bytes)
    if begun_ns is None:
        return ()
    heard = record.first_audio_ns is not None
    times = (("ttfa_ms", record.first_audio_ns, 0), ("response_ms", record.response_done_ns, size))
    return [
        Event(f"{PREFIX}{name}", (at_ns - begun_ns) / 1e6, size=size, headline=(name == "ttfa_ms") == heard)
        for name, at_ns, size in times
        if at_ns is not None
    ]


def of_session(record: SessionRecord) -> Sequence[Event]:
    """``rteval/connect_ms`` of a session that was opened, with its error where it never got ready."""
    if record.outcome == "cut" or record.started_ns is None:
        return ()
    connected = None if record.connected_ns is None else (record.connected_ns - record.started_ns) / 1e6
    error = None if record.outcome == "ready" else f"{record.outcome}: {record.error_code}"
    return (Event(f"{PREFIX}connect_ms", connected, error=error),)
