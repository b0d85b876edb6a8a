"""A simulated player: when each sample of an answer would have been heard, given when its deltas arrived. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Playback", "play"]

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Playback:
    """What a player did with one answer.

    A player starts a fixed time after the first delta, plays without a break while it has audio, stalls when the next
    delta is not there yet, and goes on the moment it arrives.

    Attributes:
        start_ns: when the first sample is played.
        end_ns: when the last sample has been played.
        audio_s: length of the audio in seconds.
        underrun_count: stalls between the first and the last sample.
        underrun_ns: their total length in nanoseconds.
        stall_bytes: offset of the byte that each stall waited for, after a 0 for the start.
        stalled_ns: total length of the stalls up to and including that one, after a 0 for the start.
        bytes_per_s: bytes of one second of audio.
    """

    start_ns: int
    end_ns: int
    audio_s: float
    underrun_count: int
    underrun_ns: int
    stall_bytes: tuple[int, ...]
    stalled_ns: tuple[int, ...]
    bytes_per_s: int

    @property
    def underrun_ms(self) -> float:
        """Total length of the stalls in milliseconds."""
        return self.underrun_ns / 1e6

    def stalled_before_ns(self, offset_s: float) -> int:
        """How long the player had stalled, all told, when it came to the sample ``offset_s`` seconds into the audio."""
        return self.stalled_ns[max(bisect_right(self.stall_bytes, round(offset_s * self.bytes_per_s)) - 1, 0)]

    def play_time_ns(self, offset_s: float) -> int | None:
        """When the sample ``offset_s`` seconds into the audio is played; ``None`` before the start and past the end."""
        if not 0 <= offset_s < self.audio_s:
            return None
        return self.start_ns + round(offset_s * NS) + self.stalled_before_ns(offset_s)


def play(
    arrival_ns: Sequence[int], size_bytes: Sequence[int], bytes_per_s: int, buffer_ms: float = 0.0
) -> Playback | None:
    """Play the deltas of one answer.

    Args:
        arrival_ns: arrival of each audio delta, never decreasing.
        size_bytes: decoded bytes of each; deltas without payload are passed over.
        bytes_per_s: bytes of one second of audio.
        buffer_ms: how long the player waits after the first delta before it starts.

    Returns:
        ``None`` when no delta carries audio.

    Raises:
        ValueError: ``bytes_per_s`` is not positive, ``buffer_ms`` is negative, or the columns differ in length.
    """
    if bytes_per_s <= 0 or buffer_ms < 0:
        raise ValueError(f"play(): bytes_per_s must be positive and buffer_ms not negative: {bytes_per_s}, {buffer_ms}")
    stall_bytes: list[int] = []
    stalled_ns: list[int] = []
    start_ns = end_ns = total = underrun_ns = 0
    for arrival, size in zip(arrival_ns, size_bytes, strict=True):
        if size <= 0:
            continue
        if not stall_bytes:
            start_ns = arrival + round(buffer_ms * 1e6)
            stall_bytes.append(0)
            stalled_ns.append(0)
        elif arrival > end_ns:
            underrun_ns += arrival - end_ns
            stall_bytes.append(total)
            stalled_ns.append(underrun_ns)
        total += size
        end_ns = start_ns + total * NS // bytes_per_s + underrun_ns
    if not stall_bytes:
        return None
    return Playback(
        start_ns=start_ns,
        end_ns=end_ns,
        audio_s=total / bytes_per_s,
        underrun_count=len(stall_bytes) - 1,
        underrun_ns=underrun_ns,
        stall_bytes=tuple(stall_bytes),
        stalled_ns=tuple(stalled_ns),
        bytes_per_s=bytes_per_s,
    )
