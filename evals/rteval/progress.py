"""What a person sees while a run goes on: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from .analysis.stats import percentile
from .load.stops import ERRORS
from .records import MASTER, HealthSample, Outcome, SessionRecord, TurnRecord

__all__ = ["Progress", "RunningTally", "WorkerState", "duration"]

_REFRESH_S = 1.0
"""Drawing takes milliseconds of the loop that holds the sessions: more often, and it would show in their p99."""

_LINE_EVERY_S = 5.0
_LINE_WORKERS = 8
"""A line names no more workers than this."""

_RECENT_TURNS = 1000
"""First audio is shown over so many turns: what came hours ago says little of now."""

_RECENT_S = 10
"""Turns a second are counted over so many seconds."""

_LAG_SAMPLES = 5
"""The send lag shown is the worst of so many samples, a second each."""

_OTHER_ROWS = 14
"""Lines of a terminal that the live view needs besides one for each worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """What is known of one worker now. What is ``None`` is not said, and what was said before goes on to hold.

    Attributes:
        name: of the worker, as in its records.
        slots: sessions that it is asked to hold.
        sessions_open: sessions that it holds.
        turns: turns that it has done; where it is never said, the records that came are counted.
        send_lag_p99_ms: how late its paced frames of the last second or so were; nothing where none was sent.
        cpu_share: its CPU time over wall time, 1.0 is one core.
        lost: it is gone.
    """

    name: str
    slots: int | None = None
    sessions_open: int | None = None
    turns: int | None = None
    send_lag_p99_ms: float | None = None
    cpu_share: float | None = None
    lost: bool | None = None

    @classmethod
    def of(cls, sample: HealthSample) -> WorkerState:
        """What a worker's own sample of health says of it."""
        lags = sorted(sample.send_lag_us)
        return cls(
            name=sample.worker,
            sessions_open=sample.sessions_open,
            send_lag_p99_ms=percentile(lags, 0.99) / 1000 if lags else None,
            cpu_share=sample.cpu_share,
        )


class _Worker:
    """One worker as it was heard of last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slots: int | None = None
        self.sessions_open = 0
        self.turns_said: int | None = None
        self.turns_seen = 0
        self.cpu_share: float | None = None
        self.lost = False
        self.lags_ms: deque[float] = deque(maxlen=_LAG_SAMPLES)
        self.rate = _Rate()

    @property
    def turns(self) -> int:
        return self.turns_seen if self.turns_said is None else self.turns_said

    @property
    def send_lag_ms(self) -> float | None:
        return max(self.lags_ms, default=None)

    def update(self, state: WorkerState) -> None:
        if state.slots is not None:
            self.slots = state.slots
        if state.sessions_open is not None:
            self.sessions_open = state.sessions_open
        if state.turns is not None:
            self.turns_said = state.turns
        if state.send_lag_p99_ms is not None:
            self.lags_ms.append(state.send_lag_p99_ms)
        if state.cpu_share is not None:
            self.cpu_share = state.cpu_share
        if state.lost is not None:
            self.lost = state.lost
        if self.lost:
            self.slots = self.sessions_open = 0


class _Rate:
    """How many in a second, over the last seconds; as little memory after a day as after a minute."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self) -> None:
        """One more, now."""
        second = int(time.monotonic())
        n = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, n + 1))
        self._forget(second)

    @property
    def per_s(self) -> float:
        """The rate; while there have been fewer seconds, over those."""
        now_s = time.monotonic()
        self._forget(int(now_s))
        return sum(n for _, n in self._seconds) / min(max(now_s - self._began_s, 1.0), _RECENT_S)

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - _RECENT_S:
            self._seconds.popleft()


class RunningTally:
    """What is known of a run so far; for the eye only, the report is made from the records.

    Args:
        turns: planned turns; ``None``: the run goes on until its time is over.
        estimate_s: how long the run was expected to take.
        sessions_open: how many sessions are open right now; by default as many as the workers say.
        sessions_asked: how many the schedule asks for right now; ``None`` where it asks for none at once (open model).
        arrivals_per_s: how many sessions a second it asks for right now; ``None`` in a closed model.

    Attributes:
        stopping: what the run does instead of going on.
    """

    def __init__(
        self,
        *,
        turns: int | None,
        estimate_s: float,
        sessions_open: Callable[[], int] | None = None,
        sessions_asked: Callable[[], int | None] = lambda: None,
        arrivals_per_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.turns_planned = turns
        self.turns_done = 0
        self.sessions_done = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.stopping: str | None = None
        self._estimate_s = estimate_s
        self._sessions_open = sessions_open
        self._sessions_asked = sessions_asked
        self._arrivals_per_s = arrivals_per_s
        self._ttfa_ms: deque[float] = deque(maxlen=_RECENT_TURNS)
        self._rate = _Rate()
        self._workers: dict[str, _Worker] = {}
        self._started = time.monotonic()

    # ---- what is heard ----

    def begin(self) -> None:
        """The run begins now: what came before was getting ready."""
        self._started = time.monotonic()

    def turn(self, record: TurnRecord) -> None:
        """A turn ended."""
        self.turns_done += 1
        self.outcomes[record.outcome] += 1
        if record.outcome is not Outcome.CUT:
            worker = self._worker(record.worker)
            worker.turns_seen += 1
            worker.rate.add()
            self._rate.add()
        is_heard = record.outcome is Outcome.OK and not record.warmup
        if is_heard and record.first_audio_ns is not None and record.speech_end_ns is not None:
            self._ttfa_ms.append((record.first_audio_ns - record.speech_end_ns) / 1e6)

    def session(self, record: SessionRecord) -> None:
        """A session ended."""
        self.sessions_done += 1

    def worker(self, state: WorkerState) -> None:
        """Something is known of a worker; it may be new."""
        self._worker(state.name).update(state)

    def _worker(self, name: str) -> _Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _Worker(name)
        return worker

    # ---- what it comes to ----

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first session was due."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """About how many seconds are left: the plan's estimate, corrected by what the turns so far really took."""
        by_plan = max(0.0, self._estimate_s - self.elapsed_s)
        share = self.turns_done / self.turns_planned if self.turns_planned else 0.0
        return by_plan if share < 0.2 else max(0.0, self.elapsed_s / share * (1 - share))

    @property
    def errors(self) -> int:
        """Turns that the target failed."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in ERRORS)

    @property
    def sessions_open(self) -> int:
        """Sessions open right now, over all workers."""
        if self._sessions_open is not None:
            return self._sessions_open()
        return sum(worker.sessions_open for worker in self._workers.values())

    @property
    def has_workers(self) -> bool:
        """Whether more than one process takes part, so that each is worth a line."""
        return len(self._workers) > 1

    @property
    def errors_named(self) -> str:
        """The same by their outcome; empty where there are none."""
        return ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()) if outcome in ERRORS)

    def cells(self) -> list[tuple[str, str]]:
        """Names and values of the whole run, as both forms show them."""
        done = str(self.turns_done) if self.turns_planned is None else f"{self.turns_done}/{self.turns_planned}"
        heard = sorted(self._ttfa_ms)
        return [
            ("sessions", f"{self._open()}, {self.sessions_done} done"),
            ("turns", done),
            ("first audio p50", _ms(heard, 0.50)),
            ("p95", _ms(heard, 0.95)),
            ("errors", str(self.errors)),
            ("time left", "-" if self.stopping else f"~{duration(self.left_s)}"),
        ]

    def _open(self) -> str:
        asked, rate = self._sessions_asked(), self._arrivals_per_s()
        if rate:
            return f"{self.sessions_open} open at {_rate(rate)}/s"
        return f"{self.sessions_open} open" if not asked else f"{self.sessions_open} of {asked} open"

    def rows(self, most: int) -> list[tuple[str, ...]]:
        """Name, slots asked, sessions open, turns, turns a second, send lag p99 and CPU of each worker, and of all.

        Args:
            most: no more workers than this; those that are lost or late come first then, and a row says how many more
                there are.
        """
        workers = [worker for worker in self._workers.values() if worker.name != MASTER]
        workers.sort(key=lambda worker: (len(worker.name), worker.name))
        shown = workers
        if len(workers) > most:
            worst_first = sorted(workers, key=lambda worker: (not worker.lost, -(worker.send_lag_ms or 0.0)))
            chosen = {worker.name for worker in worst_first[: max(most - 1, 1)]}
            shown = [worker for worker in workers if worker.name in chosen]
        rows = [self._row(worker) for worker in shown]
        if len(shown) < len(workers):
            rows.append((f"{len(workers) - len(shown)} more", *[""] * 6))
        if MASTER in self._workers:
            rows.append((MASTER, *[""] * 5, _share(self._workers[MASTER].cpu_share)))
        asked = [worker.slots for worker in workers if worker.slots is not None]
        lags = [lag for worker in workers if not worker.lost and (lag := worker.send_lag_ms) is not None]
        cpu = [worker.cpu_share for worker in workers if not worker.lost and worker.cpu_share is not None]
        total = (
            "all",
            _count(self._sessions_asked() or (sum(asked) if asked else None)),
            str(self.sessions_open),
            str(sum(worker.turns for worker in workers)),
            _rate(self._rate.per_s),
            _lag(max(lags, default=None)),
            _share(sum(cpu) if cpu else None),
        )
        return [*rows, total]

    @staticmethod
    def _row(worker: _Worker) -> tuple[str, ...]:
        if worker.lost:
            return worker.name, "lost", "", str(worker.turns), "", "", ""
        return (
            worker.name,
            _count(worker.slots),
            str(worker.sessions_open),
            str(worker.turns),
            _rate(worker.rate.per_s),
            _lag(worker.send_lag_ms),
            _share(worker.cpu_share),
        )


_COLUMNS = ("worker", "asked", "open", "turns", "turns/s", "send lag p99", "CPU")


def _ms(ascending: Sequence[float], quantile: float) -> str:
    return f"{percentile(ascending, quantile):.0f} ms" if ascending else "-"


def _lag(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _rate(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"


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
            with Live(self.view(), console=self._console, auto_refresh=False, transient=True) as live:
                while True:
                    await asyncio.sleep(_REFRESH_S)
                    live.update(self.view(), refresh=True)
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            self._console.print(self.line(), markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        """Everything in one line."""
        tally = self._tally
        parts = [", ".join(f"{name} {value}" for name, value in tally.cells())]
        parts += [said for said in (tally.errors_named, tally.stopping) if said]
        if tally.has_workers:
            parts += [_worded(row) for row in tally.rows(most=_LINE_WORKERS)]
        return f"{duration(tally.elapsed_s)}: {' | '.join(parts)}"

    def view(self) -> RenderableType:
        """What stands on a terminal now."""
        tally = self._tally
        said = [self._name, duration(tally.elapsed_s), *([tally.stopping] if tally.stopping else [])]
        table = Table(title=", ".join(said), title_justify="left", caption_justify="left")
        table.caption = tally.errors_named or None
        cells = tally.cells()
        for name, _ in cells:
            table.add_column(name, no_wrap=name != "sessions", min_width=10 if name == "sessions" else 6)
        table.add_row(*(value for _, value in cells))
        if not tally.has_workers:
            return table
        workers = Table()
        for name in _COLUMNS:
            workers.add_column(name, justify="left" if name == "worker" else "right", no_wrap=True)
        *rows, total = tally.rows(most=max(self._console.height - _OTHER_ROWS, 2))
        for row in rows:
            workers.add_row(*row)
        workers.add_section()
        workers.add_row(*total, style="bold")
        return Group(table, workers)


def _worded(row: Iterable[str]) -> str:
    """A row of the table of workers as a phrase."""
    name, *values = row
    named = [(what, value) for what, value in zip(_COLUMNS[1:], values, strict=True) if value]
    said = ", ".join(value if value == "lost" else f"{what} {value}" for what, value in named)
    return f"{name}: {said}" if said else name
