"""When sessions are due, as arithmetic: no clock, no task."""

from __future__ import annotations

__all__ = ["StartSpacing"]

_NS = 1_000_000_000


class StartSpacing:
    """Keeps connections apart for targets that count them on short windows.

    Args:
        per_s: most connections in a second; ``None`` is no bound.
    """

    def __init__(self, per_s: float | None) -> None:
        self._gap_ns = 0 if per_s is None else round(_NS / per_s)
        self._free_ns: int | None = None

    def reserve(self, wanted_ns: int) -> int:
        """The earliest start at or after ``wanted_ns`` that keeps the distance; it is taken from then on."""
        start_ns = wanted_ns if self._free_ns is None else max(wanted_ns, self._free_ns)
        self._free_ns = start_ns + self._gap_ns
        return start_ns
