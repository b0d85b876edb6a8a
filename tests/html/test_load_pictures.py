"""Load asked and achieved, lateness and the workers, in the pictures and tables of the report page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rteval.judge import judge
from rteval.reporting.html.figures import figures_of
from rteval.reporting.html.load_figures import LINES

S = 1_000_000_000
T0 = 2_000_000 * S
STAGES = [[0, 0], [4, 4], [10, 4], [12, 8], [20, 8]]

LoadRun = Callable[..., Path]


def page_of(folder: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """The text of the page of a run that was judged, and its figures by id."""
    judge(folder)
    page = (folder / "report.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    figures = json.loads(found[1])["figures"]
    return page, {figure["id"]: figure for section in figures.values() for figure in section}


def series(figure: dict[str, Any]) -> dict[str, list[list[float]]]:
    return {one["name"]: one["points"] for one in figure["series"]}


def at(points: list[list[float]], second: float) -> float:
    """The value of a stepped line."""
    return next(y for x, y in reversed(points) if x <= second)


def test_the_curve_that_was_asked_is_drawn_beside_the_sessions_that_were_open(make_load_run: LoadRun) -> None:
    _page, figures = page_of(make_load_run())
    drawn = series(figures["sessions"])
    assert drawn["asked"] == [*STAGES, [20, 0]]
    assert [at(drawn["open"], second) for second in (0.5, 0.95, 5, 21)] == [5, 8, 8, 0]
    assert [one.get("role") for one in figures["sessions"]["series"]] == [None, "asked"]


def test_an_open_run_shows_its_arrivals_those_in_vain_and_the_room_there_was(make_load_run: LoadRun) -> None:
    _page, figures = page_of(make_load_run(model="open", in_vain=3))
    drawn = series(figures["starts"])
    assert drawn["asked"] == [[0, 0], [5, 4], [20, 4], [20, 0]]
    assert sum(rate for _at, rate in drawn["started"][:-1]) == 80
    assert at(drawn["fell due, never started"], 18.5) == 3
    assert [line["label"] for line in figures["sessions"]["lines"]] == ["at most 8"]


def test_how_late_sessions_started_is_drawn_and_tabled(make_load_run: LoadRun) -> None:
    page, figures = page_of(make_load_run(model="open"))
    assert {value for _at, value in series(figures["start-lag"])["max"]} == {20.0}
    load_section = page[page.index('id="load"') : page.index('id="health"')]
    assert 'data-metric="start_lag_ms"' in load_section
    assert 'data-metric="not_started"' in load_section


def test_the_warm_up_is_marked_in_every_figure_over_time_and_counted(make_load_run: LoadRun) -> None:
    page, figures = page_of(make_load_run())
    marked = {name for name, figure in figures.items() if figure.get("warmup") == 3.0}
    assert marked == {"time-ttfa_ms", "sessions", "starts", "start-lag", "answers", "health-send", "health-loop",
                      "health-stamp", "health-cpu"}  # fmt: skip
    assert "Left out as warm-up (the first 3 s): 16 turns and 16 sessions" in page


def test_a_lost_worker_is_marked_where_it_was_heard_last_and_its_sessions_are_gone(make_load_run: LoadRun) -> None:
    """Its sessions left no rows: then the workers' own count is the one that is drawn."""
    folder = make_load_run(workers=4, lost="w2")
    page, figures = page_of(folder)
    assert figures["sessions"]["moments"] == [{"at": 10.0, "label": "w2 lost"}]
    assert [at(series(figures["sessions"])["open"], second) for second in (9.5, 13)] == [8, 6]
    assert "w2 was &lt;b&gt;lost&lt;/b&gt;" in page
    assert "it went away" in page
    summary = (folder / "summary.md").read_text("utf-8")
    assert "> w2 was \\<b\\>lost\\</b\\>" in summary
    assert "| w2 | b\\<ench, process 71 | 2 | 9 | 9 |" in summary
    assert "lost: it went away" in summary


@pytest.mark.parametrize("workers", [pytest.param(n, id=f"{n} workers") for n in (2, LINES, LINES + 1, 12)])
def test_each_worker_has_a_line_of_its_own_until_there_are_too_many(make_load_run: LoadRun, workers: int) -> None:
    _page, figures = page_of(make_load_run(workers=workers))
    names = [f"w{number + 1}" for number in range(workers)]
    worst = names if workers <= LINES else [*names[1 - LINES :], f"worst of the other {workers - LINES + 1}"]
    assert list(series(figures["health-send"])) == worst
    drawn = series(figures["health-cpu"])
    assert list(drawn)[-1] == "master"
    assert len(drawn) == min(workers, LINES) + 1
    assert drawn["master"] == [[1.0, 2.0]]
    if workers > LINES:
        others = series(figures["health-send"])[worst[-1]]
        assert others[0][1] == pytest.approx(workers - LINES + 0.1)


def test_one_process_shows_its_p99_and_its_worst(make_load_run: LoadRun) -> None:
    page, figures = page_of(make_load_run())
    assert list(series(figures["health-send"])) == ["p99", "max"]
    assert list(series(figures["health-cpu"])) == ["cpu"]
    assert "<caption>Processes</caption>" not in page


def test_a_worker_that_spoils_the_run_is_marked_in_the_table(make_load_run: LoadRun) -> None:
    page, _figures = page_of(make_load_run(workers=2, limits={"send_lag_ms": 0.5, "loop_lag_ms": 20}))
    assert "of w2 is beyond the limit of 0.5 ms (others 0.1 at most)" in page
    assert page.count("too late</span>") == 1


def test_turns_that_never_began_are_told_from_those_that_were_cut(make_load_run: LoadRun) -> None:
    page, _figures = page_of(make_load_run(model="open", in_vain=3))
    assert "83 turns: 80 ok, 3 not started" in " ".join(re.sub(r"<[^>]+>", "", page).split())
    assert "3 turns of 3 sessions were due and never began" in page


def test_figures_over_time_count_from_when_the_schedule_began(make_load_run: LoadRun) -> None:
    """So a stage that begins after ten seconds begins at 10."""
    folder = make_load_run()
    run = json.loads((folder / "run.json").read_text("utf-8"))
    run["load"]["started_ns"] = T0 - 5 * S
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    _page, figures = page_of(folder)
    assert series(figures["sessions"])["asked"][1] == [4.0, 4.0]
    assert min(point[0] for point in series(figures["time-ttfa_ms"])["ok"]) >= 8


def test_a_day_of_samples_stays_a_few_hundred_points(make_run: Any) -> None:
    run = make_run(n=20)
    seconds = np.arange(86_400)
    health = pd.DataFrame(
        {
            "worker": pd.Categorical(["w1", "w2"] * 43_200),
            "kind": "send",
            "at_ns": T0 + seconds * S,
            "value": 1.0,
            "n": 10,
        }
    )
    (figure,) = figures_of(run.turns, run.sessions, health, run={"started_ns": T0}, gates=[])["health"]
    assert all(len(points) <= 201 for points in series(figure).values())
    assert {value for points in series(figure).values() for _at, value in points} == {1.0}
