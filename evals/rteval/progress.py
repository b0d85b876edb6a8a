"""What a person sees while a run goes on: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .analysis.stats import percentile
from .load.stops import ERRORS
from .records import Outcome, SessionRecord, TurnRecord

__all__ = ["Progress", "RunningTally", "duration"]

_REFRESH_S = 0.25
_LINE_EVERY_S = 5.0


class RunningTally:
    """What is known of a run so far; for the eye only, the report is made from the records.

    Args:
        turns: planned turns.
        estimate_s: how long the run was expected to take.
        sessions_open: how many sessions are open right now.
    """

    def __init__(self, *, turns: int, estimate_s: float, sessions_open: Callable[[], int]) -> None:
        self.turns_planned = turns
        self.turns_done = 0
        self.sessions_done = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.ttfa_ms: list[float] = []
        self.stopping: str | None = None
        self._estimate_s = estimate_s
        self._sessions_open = sessions_open
        self._started = time.monotonic()

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        self.turns_done += 1
        self.outcomes[record.outcome] += 1
        if record.outcome is Outcome.OK and record.first_audio_ns is not None and record.speech_end_ns is not None:
            insort(self.ttfa_ms, (record.first_audio_ns - record.speech_end_ns) / 1e6)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        self.sessions_done += 1

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first session was due."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """About how many seconds are left: the plan's estimate, corrected by what the turns so far really took."""
        share = self.turns_done / self.turns_planned
        by_plan = max(0.0, self._estimate_s - self.elapsed_s)
        return by_plan if share < 0.2 else self.elapsed_s / share * (1 - share)

    @property
    def errors(self) -> int:
        """Turns that the target failed."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in ERRORS)

    def cells(self) -> list[tuple[str, str]]:
        """Names and values, as both forms show them."""
        named = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()) if outcome in ERRORS)
        return [
            ("sessions", f"{self._sessions_open()} open, {self.sessions_done} done"),
            ("turns", f"{self.turns_done}/{self.turns_planned}"),
            ("first audio p50", _ms(self.ttfa_ms, 0.50)),
            ("p95", _ms(self.ttfa_ms, 0.95)),
            ("errors", f"{self.errors} ({named})" if named else str(self.errors)),
            ("time left", self.stopping or f"~{duration(self.left_s)}"),
        ]


def _ms(ascending: Sequence[float], quantile: float) -> str:
    return f"{percentile(ascending, quantile):.0f} ms" if ascending else "-"


def duration(seconds: float) -> str:
    """Seconds for people: ``8 s``, ``2 min 05 s``, ``1 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Shows a tally until cancelled.

    Args:
        console: on stderr.
        tally: what to show.
        name: of the scenario.
    """

    def __init__(self, console: Console, tally: RunningTally, name: str) -> None:
        self._console = console
        self._tally = tally
        self._name = name

    async def show(self) -> None:
        """A live table on a terminal, else a line every few seconds."""
        if self._console.is_terminal:
            with Live(self._table(), console=self._console, auto_refresh=False, transient=True) as live:
                while True:
                    await asyncio.sleep(_REFRESH_S)
                    live.update(self._table(), refresh=True)
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            line = ", ".join(f"{name} {value}" for name, value in self._tally.cells())
            self._console.print(
                f"{duration(self._tally.elapsed_s)}: {line}", markup=False, highlight=False, soft_wrap=True
            )

    def _table(self) -> Table:
        table = Table(title=f"{self._name}, {duration(self._tally.elapsed_s)}", title_justify="left")
        cells = self._tally.cells()
        for name, _ in cells:
            table.add_column(name, no_wrap=name != "errors", min_width=6)
        table.add_row(*(value for _, value in cells))
        return table
