"""What the page knows of single turns: arrivals of deltas as text, and where the time between two sounds went."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.reporting.html.figures import against_concurrency, concurrency, counted, figures_of, variants_of
from rteval.reporting.html.stages import stages_of
from rteval.reporting.html.timeline import DIGITS, Arrivals, anchors

MS = 1_000_000
T0 = 7_000_000 * MS


def read(text: str | None, step_ms: int) -> list[int]:
    """The arrivals that a text means, as the page's script reads it."""
    found: list[int] = []
    at = value = shift = 0
    for digit in text or "":
        bits = DIGITS.index(digit)
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        at += value if found else (-(value >> 1) if value & 1 else value >> 1)
        found.append(at)
        value = shift = 0
    return [at * step_ms for at in found]


def tables(arrivals_ms: list[list[int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    turns = pd.DataFrame(
        {
            "session": [f"s{number}" for number in range(len(arrivals_ms))],
            "turn": 0,
            "speech_end_ns": pd.array([T0 + number for number in range(len(arrivals_ms))], dtype="Int64"),
        }
    )
    rows = [
        (f"s{number}", 0, "audio", T0 + number + at * MS) for number, times in enumerate(arrivals_ms) for at in times
    ]
    return turns, pd.DataFrame(rows, columns=["session", "turn", "kind", "arrival_ns"])


@given(st.lists(st.lists(st.integers(-5_000, 2_000_000), max_size=8), min_size=1, max_size=5))
def test_arrivals_are_read_as_they_were_written(arrivals_ms):
    turns, deltas = tables(arrivals_ms)
    texts = Arrivals(turns, deltas).texts(audio=True, step_ms=1, rows=np.arange(len(turns)))
    assert [read(text, 1) for text in texts] == [sorted(times) for times in arrivals_ms]


def test_coarser_arrivals_keep_one_of_each_step():
    turns, deltas = tables([[-7, 0, 3, 4, 49, 51, 120]])
    (text,) = Arrivals(turns, deltas).texts(audio=True, step_ms=50, rows=np.arange(1))
    assert read(text, 50) == [0, 50, 100]


def test_streams_are_apart_and_a_turn_without_deltas_has_none():
    turns, deltas = tables([[10, 20], [30]])
    deltas["kind"] = ["transcript", "audio", "text"]
    arrivals = Arrivals(turns, deltas)
    rows = np.arange(2)
    assert [read(text, 1) for text in arrivals.texts(audio=True, step_ms=1, rows=rows)] == [[20], []]
    assert [read(text, 1) for text in arrivals.texts(audio=False, step_ms=1, rows=rows)] == [[10], [30]]


def test_deltas_of_a_turn_that_is_not_in_the_table_are_left_out():
    turns, deltas = tables([[10], [20]])
    assert Arrivals(turns.iloc[1:], deltas).texts(audio=True, step_ms=1, rows=np.arange(1)) == ["oB"]


def test_anchors_count_from_the_end_of_speech_else_from_the_start():
    turns = pd.DataFrame(
        {
            "speech_end_ns": pd.array([T0, None], dtype="Int64"),
            "started_ns": pd.array([T0 - 5 * MS, T0], dtype="Int64"),
            "create_ns": pd.array([T0 + 7 * MS, T0 + 9 * MS], dtype="Int64"),
        }
    )
    found = anchors(turns)
    assert found["t_started"].tolist() == [-5, 0]
    assert found["t_create"].tolist() == [7, 9]


# ---- where the time goes ----


@pytest.mark.parametrize("text", [pytest.param(False, id="server VAD"), pytest.param(True, id="text")])
def test_the_stages_of_a_turn_add_up_to_voice_to_voice(make_run, text):
    run = make_run(n=80, text=text)
    stages = stages_of(run.turns, counted(run.turns).to_numpy(), run.sessions, None)
    good = run.turns[counted(run.turns)]
    assert stages.turns == len(good)
    assert sum(stage.times.mean for stage in stages.rows) == pytest.approx(good["v2v_ms"].mean(), abs=0.01)
    assert ("endpointing" in {stage.name for stage in stages.rows}) is not text
    rows = [label for label, _total in stages.figure["rows"]]
    assert rows == ["all turns", "fastest tenth", "middle tenth", "slowest tenth"]
    totals = [sum(series["values"][place] or 0 for series in stages.figure["series"]) for place in range(4)]
    assert totals[1] < totals[2] < totals[3]


def test_a_committed_turn_has_a_commit_and_no_endpointing(make_run):
    run = make_run(n=4, failing=0.0)
    run.turns["create_ns"] = run.turns["speech_end_ns"] + 30 * MS
    run.turns["response_created_ns"] = run.turns["speech_end_ns"] + 50 * MS
    stages = stages_of(run.turns, counted(run.turns).to_numpy(), run.sessions, None)
    means = {stage.name: stage.times.mean for stage in stages.rows}
    assert means["commit"] == pytest.approx(30)
    assert means["response"] == pytest.approx(20)
    assert "endpointing" not in means


def test_a_turn_without_all_its_stages_is_in_no_bar(make_run):
    run = make_run(n=40, failing=0.0)
    run.turns.loc[10:, "response_created_ns"] = pd.NA
    assert stages_of(run.turns, counted(run.turns).to_numpy(), run.sessions, None).turns == 8  # two are warm-up
    run.turns["response_created_ns"] = pd.NA
    assert stages_of(run.turns, counted(run.turns).to_numpy(), run.sessions, None) is None


def test_the_set_up_of_sessions_stands_apart(make_run):
    run = make_run(n=40)
    sessions = run.sessions.assign(connect_ms=12.0, session_ready_ms=15.0)
    stages = stages_of(run.turns, counted(run.turns).to_numpy(), sessions, None)
    assert stages.figure["rows"][0][0] == "a session, once"
    assert {stage.name: stage.times.mean for stage in stages.rows[:2]} == {"connect": 12.0, "session set-up": 3.0}


# ---- against concurrency ----


def test_concurrency_counts_the_sessions_of_all_workers(make_run):
    run = make_run(n=8)
    turns = run.turns.assign(concurrency=1)
    begun = turns["started_ns"].astype("int64")
    sessions = pd.DataFrame({"connected_ns": [int(begun.min()) - 5] * 3, "ended_ns": [int(begun.max()) + 5] * 3})
    assert concurrency(turns, sessions).tolist() == [3.0] * 8
    assert concurrency(turns, run.sessions).tolist() == [1.0] * 8


def test_a_latency_is_drawn_against_concurrency_only_when_that_changed(make_run):
    run = make_run(n=600)
    (figure,) = against_concurrency("ttfa_ms", "T", run.turns, run.sessions, [])
    names = [series["name"] for series in figure["series"]]
    assert names == ["p50", "p95", "turns"]
    medians = dict(figure["series"][0]["points"])
    good = run.turns[counted(run.turns) & (run.turns["concurrency"] == 3)]
    assert medians[3.0] == pytest.approx(good["ttfa_ms"].median(), abs=0.01)
    assert against_concurrency("ttfa_ms", "T", run.turns.assign(concurrency=4), run.sessions, []) == []


# ---- variants ----


def test_every_figure_of_latency_tells_variants_apart(make_run):
    run = make_run(n=240)
    run.turns["variant"] = ["b", "a<i>"] * 120
    assert set(variants_of(run.turns)) == {"a<i>", "b"}
    latency = figures_of(run.turns, run.sessions, run.health, run=run.run, gates=[])["latency"]
    assert not [figure for figure in latency if figure["kind"] == "histogram"]
    named = {figure["id"]: [series["name"] for series in figure["series"]] for figure in latency}
    assert named["cumulative-ttfa_ms"] == ["a<i>", "b"]
    assert named["time-ttfa_ms"] == ["a<i>", "b", "not ok"]
    assert named["concurrency-ttfa_ms"] == ["a<i> p50", "b p50", "a<i>", "b"]
    colours = [series["colour"] for figure in latency if "concurrency" in figure["id"] for series in figure["series"]]
    assert colours == [0, 1, 0, 1]
    stages = stages_of(run.turns, counted(run.turns).to_numpy(), run.sessions, variants_of(run.turns))
    assert [label for label, _total in stages.figure["rows"]][:2] == ["a<i>: all turns", "a<i>: slowest tenth"]


def test_one_variant_is_none(make_run):
    run = make_run(n=10)
    assert variants_of(run.turns.assign(variant="only")) is None


def test_errors_are_drawn_in_the_order_of_the_stages(make_run):
    run = make_run(n=90, failing=0.5)
    (figure,) = figures_of(run.turns, run.sessions, run.health, run=run.run, gates=[])["errors"]
    assert [name for name, _total in figure["rows"]] == ["speak", "respond"]
    drawn = sum(value or 0 for series in figure["series"] for value in series["values"])
    assert drawn == int((run.turns["outcome"] != "ok").sum())
