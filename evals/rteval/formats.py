"""The audio formats of the realtime wire, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "G711_ALAW", "G711_ULAW", "PCM16", "AudioFormat"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """One wire format: mono, fixed rate, fixed width.

    Attributes:
        name: the provider-neutral name, as scenarios write it.
        rate: samples per second.
        sample_bytes: bytes of one sample.
        silence: the bytes of one silent sample.
    """

    name: str
    rate: int
    sample_bytes: int
    silence: bytes

    @property
    def bytes_per_s(self) -> int:
        """Bytes of one second of audio."""
        return self.rate * self.sample_bytes

    def seconds(self, n_bytes: int) -> float:
        """Length of ``n_bytes`` of audio in seconds."""
        return n_bytes / self.bytes_per_s

    def frame_bytes(self, frame_ms: int) -> int:
        """Bytes of a frame of ``frame_ms`` milliseconds (every rate here is a whole number of samples per ms)."""
        return self.rate * frame_ms // 1000 * self.sample_bytes


PCM16 = AudioFormat("pcm16", 24_000, 2, b"\x00\x00")
# ITU-T G.711: the all-zero sample is 0xFF in mu-law; A-law has no zero, 0xD5 is its smallest positive step.
G711_ULAW = AudioFormat("g711_ulaw", 8_000, 1, b"\xff")
G711_ALAW = AudioFormat("g711_alaw", 8_000, 1, b"\xd5")

FORMATS = {fmt.name: fmt for fmt in (PCM16, G711_ULAW, G711_ALAW)}
