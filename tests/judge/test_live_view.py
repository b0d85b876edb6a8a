"""What people see while a run goes on: asked and achieved, by worker, on a terminal of 80 columns and in a log."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console

from rteval.progress import Progress, RunningTally, WorkerState
from rteval.records import HealthSample, Outcome, TurnRecord


def turn(worker: str = "w0", outcome: Outcome = Outcome.OK, **over: Any) -> TurnRecord:
    values = {"first_audio_ns": 800_000_000, "speech_end_ns": 0, **over}
    return TurnRecord(
        run_id="r",
        worker=worker,
        session="s",
        turn=0,
        item="i",
        modality="audio",
        dialect="ga",
        outcome=outcome,
        **values,
    )


def tally(turns: int | None = 100, **over: Any) -> RunningTally:
    return RunningTally(turns=turns, **{"estimate_s": 60.0, "sessions_open": lambda: 12, **over})


def screen(shown: RunningTally, *, height: int = 40) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, height=height, force_terminal=True, color_system=None)
    console.print(Progress(console, shown, "support").view())
    return out.getvalue()


def line(shown: RunningTally) -> str:
    return Progress(Console(file=io.StringIO()), shown, "support").line()


def crowd(workers: int, shown: RunningTally) -> RunningTally:
    for number in range(1, workers + 1):
        name = f"w{number}"
        shown.turn(turn(name))
        shown.worker(WorkerState(name=name, slots=250, sessions_open=249, send_lag_p99_ms=number / 10, cpu_share=0.97))
    return shown


def test_one_process_has_no_table_of_workers() -> None:
    shown = tally()
    shown.turn(turn())
    shown.worker(WorkerState(name="w0", sessions_open=1, cpu_share=0.5))
    assert "worker" not in screen(shown)
    assert "|" not in line(shown)
    assert "1/100" in screen(shown)


def test_an_endless_run_shows_the_time_that_is_left_and_no_number_of_turns_to_come() -> None:
    shown = tally(None, estimate_s=7200.0)
    for _ in range(3):
        shown.turn(turn())
    assert dict(shown.cells())["turns"] == "3"
    assert dict(shown.cells())["time left"] == "~2 h 00 min"


def test_the_load_that_is_asked_stands_beside_what_is_open() -> None:
    assert dict(tally(sessions_asked=lambda: 20).cells())["sessions"] == "12 of 20 open, 0 done"
    assert dict(tally(arrivals_per_s=lambda: 2.5).cells())["sessions"] == "12 open at 2.5/s, 0 done"
    assert dict(tally().cells())["sessions"] == "12 open, 0 done"


def test_each_worker_has_a_row_and_all_together_one() -> None:
    shown = crowd(2, tally(sessions_open=None))
    shown.worker(WorkerState(name="master", cpu_share=0.05))
    rows = {row[0]: row[1:] for row in shown.rows(most=10)}
    assert rows["w1"] == ("250", "249", "1", "1.0", "0.1 ms", "97%")
    assert rows["master"] == ("", "", "", "", "", "5%")
    assert rows["all"] == ("500", "498", "2", "2.0", "0.2 ms", "194%")
    assert list(rows) == ["w1", "w2", "master", "all"]


def test_what_is_not_said_of_a_worker_goes_on_to_hold() -> None:
    shown = crowd(2, tally())
    shown.worker(WorkerState(name="w1", slots=10))
    shown.worker(WorkerState.of(HealthSample(worker="w1", at_ns=1, sessions_open=9, cpu_share=0.1)))
    assert shown.rows(most=10)[0] == ("w1", "10", "9", "1", "1.0", "0.1 ms", "10%")


def test_a_sample_of_health_says_how_late_the_worst_frame_of_a_hundred_was() -> None:
    state = WorkerState.of(HealthSample(worker="w1", at_ns=1, send_lag_us=[5000] * 2 + [100] * 98))
    assert state.send_lag_p99_ms == pytest.approx(5.0)
    assert WorkerState.of(HealthSample(worker="w1", at_ns=1)).send_lag_p99_ms is None


def test_a_worker_that_was_lost_holds_nothing_and_says_so() -> None:
    shown = crowd(2, tally(sessions_open=None))
    shown.worker(WorkerState(name="w1", lost=True))
    rows = {row[0]: row[1:] for row in shown.rows(most=10)}
    assert rows["w1"] == ("lost", "", "1", "", "", "")
    assert (rows["all"][0], rows["all"][1]) == ("250", "249")
    assert "w1: lost" in line(shown)


def test_rows_of_turns_that_nobody_held_are_the_work_of_no_worker() -> None:
    shown = tally()
    shown.turn(turn("w0"))
    shown.turn(turn("master", Outcome.CUT))
    assert not shown.has_workers


def test_the_warm_up_is_not_in_the_times_shown() -> None:
    shown = tally()
    shown.turn(turn(first_audio_ns=9_000_000_000, warmup=True))
    assert dict(shown.cells())["first audio p50"] == "-"


@pytest.mark.parametrize("workers", [pytest.param(n, id=f"{n} workers") for n in (0, 1, 4, 40)])
def test_nothing_is_cut_off_at_80_columns(workers: int) -> None:
    shown = crowd(workers, tally(1_000_000, sessions_open=lambda: 9_999, sessions_asked=lambda: 10_000))
    shown.worker(WorkerState(name="master", cpu_share=1.0))
    for outcome in Outcome:
        shown.turn(turn("w1", outcome))
    shown.stopping = "ending (once more: at once)"
    shown.turns_done = 999_999
    text = screen(shown, height=60)
    assert "…" not in text
    assert all(len(row) <= 80 for row in text.splitlines())
    for row in shown.rows(most=46):
        assert row[0] in text


def test_of_too_many_workers_the_lost_and_the_late_are_shown() -> None:
    shown = crowd(40, tally())
    shown.worker(WorkerState(name="w3", lost=True))
    text = screen(shown, height=20)
    assert len(text.splitlines()) < 20
    for name in (" w3 ", " w40 ", " w39 ", "35 more", " all "):
        assert name in text
    assert " w1 " not in text


def test_the_line_of_a_log_has_the_same_facts() -> None:
    shown = crowd(2, tally(None, sessions_asked=lambda: 500))
    assert "w2: asked 250, open 249, turns 1, turns/s 1.0, send lag p99 0.2 ms, CPU 97%" in line(shown)
    assert "all: asked 500, open 12, turns 2" in line(shown)
    assert "\n" not in line(shown)
    assert len(line(crowd(60, tally()))) < 1200


def test_the_time_that_is_left_is_never_less_than_nothing() -> None:
    shown = tally(2, estimate_s=0.0)
    for _ in range(5):
        shown.turn(turn())
    assert dict(shown.cells())["time left"] == "~0 s"


def test_the_view_is_drawn_until_it_is_cancelled() -> None:
    drawn = asyncio.Event()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "w2" in text:
                drawn.set()
            return super().write(text)

    async def run() -> None:
        console = Console(file=Screen(), width=80, height=24, force_terminal=True)
        shown = asyncio.create_task(Progress(console, crowd(2, tally()), "support").show())
        async with asyncio.timeout(10):
            await drawn.wait()
        shown.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shown

    asyncio.run(run())
