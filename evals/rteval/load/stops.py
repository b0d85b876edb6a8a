"""The limits of a scenario that end a run early; judged turn by turn, without a clock."""

from __future__ import annotations

from ..records import Outcome

__all__ = ["ERRORS", "StopRules"]

ERRORS = frozenset(
    {Outcome.FAILED, Outcome.INCOMPLETE, Outcome.EMPTY, Outcome.TIMEOUT, Outcome.DROPPED, Outcome.REFUSED}
)
"""The outcomes that count as errors of the target."""


class StopRules:
    """Says when enough is enough.

    Args:
        turns: most turns.
        error_rate: highest share of errors, looked at from ``min_n`` turns on.
    """

    def __init__(
        self,
        *,
        turns: int | None = None,
        error_rate: float | None = None,
        min_n: int = 20,
    ) -> None:
        self._max_turns = turns
        self._max_error_rate = error_rate
        self._min_n = min_n
        self._turns = 0
        self._errors = 0

    def turn_ended(self, outcome: Outcome) -> str | None:
        """Count a turn. Returns the limit that is reached, as a sentence, or ``None``."""
        if outcome is Outcome.CUT:
            return None
        self._turns += 1
        self._errors += outcome in ERRORS
        if self._max_turns is not None and self._turns >= self._max_turns:
            return f"limits.turns: {self._turns} turns were run"
        if self._max_error_rate is not None and self._turns >= self._min_n:
            rate = self._errors / self._turns
            if rate > self._max_error_rate:
                return f"limits.error_rate: {self._errors} of {self._turns} turns failed ({rate:.1%})"
        return None
