"""When each frame of the input is due, and how audio is cut into frames; knows no clock and sends nothing."""

from __future__ import annotations

import math

from ..formats import AudioFormat

__all__ = ["MIN_COMMIT_MS", "TIMER_GRAIN_S", "cut", "due_ns", "frame_count", "full_frame"]

TIMER_GRAIN_S = 0.0005
"""Added to every wait for a deadline: uvloop's timers have steps of 1 ms, and half of one keeps us from being early."""

MIN_COMMIT_MS = 100
"""Shortest audio that the services accept in a commit."""


def due_ns(start_ns: int, frame: int, frame_ms: int) -> int:
    """When frame number ``frame`` (from 0) is written: once its last sample was heard, as a microphone's would be."""
    return start_ns + (frame + 1) * frame_ms * 1_000_000


def cut(audio: bytes, frame_bytes: int) -> list[bytes]:
    """``audio`` in pieces of ``frame_bytes``, the last one maybe shorter; joined they are the original."""
    return [audio[start : start + frame_bytes] for start in range(0, len(audio), frame_bytes)]


def full_frame(piece: bytes, fmt: AudioFormat, frame_bytes: int) -> bytes:
    """``piece`` filled with silence to a whole frame: a microphone does not stop in the middle of one."""
    missing = (frame_bytes - len(piece)) // fmt.sample_bytes
    return piece + fmt.silence * missing


def frame_count(speech_end_s: float, frame_ms: int, *, at_least_ms: int = 0) -> int:
    """How many frames it takes to send everything up to ``speech_end_s``, and ``at_least_ms`` of audio."""
    # Rounded to the microsecond first: 0.3 s of float is a hair more than three frames of 100 ms.
    needed_ms = max(round(speech_end_s * 1000, 3), at_least_ms)
    return max(1, math.ceil(needed_ms / frame_ms))
