"""Load asked and achieved: what could not start, how late the rest was, and what the warm-up keeps out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval.analysis.load import AskedLoad, asked_load
from rteval.judge import Judgement, judge
from rteval.records import HealthSample, Outcome, SessionRecord, TurnRecord

T0 = 1_000_000_000_000_000
MS = 1_000_000
S = 1000 * MS

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]
MakeSession = Callable[..., SessionRecord]


def at_s(make_turn: MakeTurn, session: str, start_s: float, **over: Any) -> TurnRecord:
    """An ok turn that begins at a second of the schedule."""
    turn = make_turn(session)
    for name in [name for name in TurnRecord.__dataclass_fields__ if name.endswith("_ns")]:
        if getattr(turn, name) is not None:
            setattr(turn, name, getattr(turn, name) + round(start_s * S))
    turn.deltas.arrival_ns = [at + round(start_s * S) for at in turn.deltas.arrival_ns]
    for name, value in over.items():
        setattr(turn, name, value)
    return turn


def held(
    make_session: MakeSession, session: str, due_s: float, *, lag_ms: float = 0, for_s: float = 2
) -> SessionRecord:
    """A session that is due at a second, starts so late, connects at once and is open for so long."""
    started = T0 + round(due_s * S + lag_ms * MS)
    return make_session(
        session,
        due_ns=T0 + round(due_s * S),
        started_ns=started,
        connected_ns=started,
        ready_ns=started,
        ended_ns=started + round(for_s * S),
    )


def never_began(make_turn: MakeTurn, session: str, due_s: float) -> TurnRecord:
    """The row of a turn that fell due and found no place."""
    return TurnRecord(
        run_id="r1",
        worker="w0",
        session=session,
        turn=0,
        item="i",
        modality="audio",
        dialect="ga",
        outcome=Outcome.CUT,
        error_code="not_started",
        due_ns=T0 + round(due_s * S),
    )


def load(model: str = "open", *, asked: list[list[float]], **over: Any) -> dict[str, Any]:
    base = {"model": model, "engine": "asyncio", "peak": 10, "duration_s": None, "warmup_s": 0.0, "stages": []}
    return {**base, "arrivals": {} if model == "open" else None, "asked": asked, "started_ns": T0, **over}


def judged(run_dir: Path) -> Judgement:
    return judge(run_dir, reports_written=False)


# ---- what could not start ----


@pytest.mark.parametrize(
    ("in_vain", "verdict", "exit_code"),
    [pytest.param(0, "pass", 0, id="all started"), pytest.param(2, "fail", 1, id="two did not")],
)
def test_turns_that_could_not_start_are_counted_and_can_be_judged(
    make_run: MakeRun, make_turn: MakeTurn, in_vain: int, verdict: str, exit_code: int
) -> None:
    turns = [make_turn("a"), make_turn("b"), *(never_began(make_turn, f"n{n}", 1) for n in range(in_vain))]
    judgement = judged(make_run(turns, gates=["not_started == 0"]))
    summary = judgement.summary
    assert summary["metrics"]["not_started"] == {
        "n": 2 + in_vain, "left_out": 0, "unit": "turns", "value": in_vain,
    }  # fmt: skip
    assert summary["gates"][0]["verdict"] == verdict
    assert judgement.exit_code == exit_code
    assert (summary["counts"]["not_started"], summary["counts"]["sessions_not_started"]) == (in_vain, in_vain)


def test_nothing_says_that_everything_started_when_there_are_no_turns(make_run: MakeRun) -> None:
    gate = judged(make_run([], gates=["not_started == 0"], planned={})).summary["gates"][0]
    assert (gate["verdict"], gate["value"]) == ("no_data", None)


def test_a_turn_that_never_began_is_no_error_and_enters_no_latency(make_run: MakeRun, make_turn: MakeTurn) -> None:
    found = judged(make_run([make_turn("a"), never_began(make_turn, "n", 1)])).summary["metrics"]
    assert (found["error_rate"]["value"], found["error_rate"]["n"], found["error_rate"]["left_out"]) == (0.0, 1, 1)
    assert (found["ttfa_ms"]["n"], found["wait_ms"]["n"], found["turns_per_s"]["n"]) == (1, 1, 1)


def test_sessions_cut_by_the_end_are_counted_apart_from_those_that_never_began(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    turns = [make_turn("a"), make_turn("b", outcome=Outcome.CUT), never_began(make_turn, "n", 1)]
    counts = judged(make_run(turns, [make_session("a"), make_session("b")])).summary["counts"]
    assert counts["outcomes"]["cut"] == 2
    assert {name: counts[name] for name in ("not_started", "sessions_cut", "sessions_not_started", "sessions")} == {
        "not_started": 1,
        "sessions_cut": 1,
        "sessions_not_started": 1,
        "sessions": 2,
    }


# ---- lateness ----


def test_start_lag_is_measured_over_sessions_and_can_be_judged(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    sessions = [held(make_session, f"s{n}", n, lag_ms=10 * n) for n in range(20)]
    run_dir = make_run([make_turn("s0")], sessions, gates=["start_lag_ms.p95 < 100", "start_lag_ms.max < 200"])
    summary = judged(run_dir).summary
    assert (
        summary["metrics"]["start_lag_ms"] | {"n": 20, "p50": 95.0, "max": 190.0}
        == (summary["metrics"]["start_lag_ms"])
    )
    assert [gate["verdict"] for gate in summary["gates"]] == ["fail", "pass"]


def test_a_caller_of_an_open_run_waits_from_when_the_turn_was_due(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """A target that answers fast cannot hide that its callers had to queue: the lateness of the start is in the wait,
    and in no time that counts from the end of speech."""
    prompt, late = make_turn("a"), make_turn("b", due_ns=T0 - 5000 * MS)
    found = judged(make_run([prompt, late])).summary["metrics"]
    assert found["wait_ms"]["max"] - found["wait_ms"]["min"] == pytest.approx(4990)
    assert found["ttfa_ms"]["max"] == found["ttfa_ms"]["min"]


# ---- warm-up ----


def test_the_warm_up_is_left_out_everywhere_with_its_count(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    """Its turns, the sessions that began in it, what fell due in it in vain, and how late the generator was then."""
    turns = [
        at_s(make_turn, "a", 1, warmup=True),
        never_began(make_turn, "n1", 2),
        at_s(make_turn, "b", 12),
        never_began(make_turn, "n2", 13),
    ]
    sessions = [held(make_session, "a", 1, lag_ms=900), held(make_session, "b", 12, lag_ms=5)]
    health = [
        HealthSample(worker="w0", at_ns=T0 + 5 * S, send_lag_us=[900_000] * 200, loop_lag_us=[900_000] * 50),
        HealthSample(worker="w0", at_ns=T0 + 15 * S, send_lag_us=[1000] * 100, loop_lag_us=[1000] * 50),
    ]
    asked = load(asked=[[0, 1], [20, 1]], duration_s=20.0, warmup_s=10.0)
    judgement = judged(make_run(turns, sessions, health, load=asked, gates=["not_started <= 1"], planned={}))
    summary, found = judgement.summary, judgement.summary["metrics"]
    assert {name: (found[name]["n"], found[name]["left_out"]) for name in (
        "ttfa_ms", "error_rate", "not_started", "start_lag_ms", "connect_ms", "setup_success_rate", "send_lag_ms",
        "loop_lag_ms", "sessions_per_s",
    )} == {
        "ttfa_ms": (1, 3), "error_rate": (1, 3), "not_started": (2, 2), "start_lag_ms": (1, 1), "connect_ms": (1, 1),
        "setup_success_rate": (1, 1), "send_lag_ms": (100, 200), "loop_lag_ms": (50, 50), "sessions_per_s": (1, 1),
    }  # fmt: skip
    assert (found["not_started"]["value"], found["start_lag_ms"]["max"]) == (1, 5.0)
    assert (summary["counts"]["warmup"], summary["counts"]["sessions_warmup"]) == (2, 1)
    assert (summary["health"]["verdict"], summary["health"]["send_lag_ms"]["p99"]) == ("ok", 1.0)
    assert judgement.exit_code == 0


def test_a_session_of_the_warm_up_may_be_dropped_after_it(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    sessions = [held(make_session, "a", 1, for_s=15), held(make_session, "b", 1, for_s=2)]
    for session in sessions:
        session.drop = True
    asked = load("closed", asked=[[0, 2]], duration_s=20.0, warmup_s=10.0)
    found = judged(make_run([make_turn("a")], sessions, load=asked)).summary["metrics"]
    assert (found["drop_rate"]["value"], found["drop_rate"]["n"], found["drop_rate"]["left_out"]) == (1.0, 1, 1)


# ---- asked and achieved ----


def test_arrivals_asked_stand_beside_those_that_started(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    """Ten in ten seconds were asked; eight started, of which the last ran on: its time is no time of asking."""
    sessions = [held(make_session, f"s{n}", n, for_s=30) for n in range(8)]
    turns = [make_turn("s0"), never_began(make_turn, "n8", 8), never_began(make_turn, "n9", 9)]
    run = {"load": load(asked=[[0, 1], [10, 1]], duration_s=10.0), "ended_ns": T0 + 40 * S, "planned": {}}
    summary = judged(make_run(turns, sessions, **run)).summary
    assert summary["load"] | {"over_time": None} == {
        "model": "open",
        "warmup_s": 0.0,
        "from_s": 0.0,
        "to_s": 10.0,
        "sessions_open": None,
        "arrivals": {"asked": 10, "achieved": 8},
        "sessions_per_s": {"asked": 1.0, "achieved": 0.8},
        "over_time": None,
    }
    assert summary["metrics"]["sessions_per_s"]["value"] == 0.8
    assert [part["not_started"] for part in summary["load"]["over_time"]][:3] == [0, 0, 2]
    assert sum(part["started"] for part in summary["load"]["over_time"]) == 8


def test_sessions_asked_stand_beside_those_that_were_open(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    """Two slots over ten seconds; one is empty for four of them."""
    sessions = [held(make_session, "a", 0, for_s=12), held(make_session, "b", 0, for_s=6)]
    run = {"load": load("closed", asked=[[0, 2], [10, 2]], duration_s=10.0), "ended_ns": T0 + 12 * S, "planned": {}}
    found = judged(make_run([make_turn("a"), make_turn("b")], sessions, **run)).summary["load"]
    assert (found["from_s"], found["to_s"], found["sessions_open"]) == (0.0, 10.0, {"asked": 2.0, "achieved": 1.6})


def test_a_run_that_was_stopped_asked_for_nothing_after_that(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    asked = load("closed", asked=[[0, 1], [600, 1]], duration_s=600.0)
    run = {"load": asked, "ended_ns": T0 + 10 * S, "end": {"reason": "sigint", "detail": "SIGINT"}, "planned": {}}
    found = judged(make_run([make_turn("a")], [held(make_session, "a", 0, for_s=10)], **run)).summary["load"]
    assert (found["to_s"], found["sessions_open"]) == (10.0, {"asked": 1.0, "achieved": 1.0})


def test_a_run_that_goes_on_until_all_is_done_is_measured_whole(
    make_run: MakeRun, make_turn: MakeTurn, make_session: MakeSession
) -> None:
    """Its last callers have nobody to follow them: that fewer are open then is no lack of load."""
    sessions = [held(make_session, f"s{n}", 2 * n) for n in range(5)]
    summary = judged(make_run([make_turn("s0")], sessions, load=load("closed", asked=[[0, 1], [9, 1]]))).summary
    assert (summary["load"]["sessions_open"], summary["load"]["to_s"]) == (None, None)
    assert summary["metrics"]["sessions_per_s"]["value"] == 0.5
    assert [part["asked"] for part in summary["load"]["over_time"]] == [1.0] * 10


OLD = [
    pytest.param({}, id="says nothing of load"),
    pytest.param({"load": {}}, id="empty"),
    pytest.param({"load": {"model": "closed"}}, id="no curve"),
    pytest.param({"load": {"model": "open", "asked": [], "started_ns": None}}, id="never began"),
    pytest.param({"load": {"model": "closed", "asked": [[5, 1], [0, 1]], "started_ns": T0}}, id="a curve backwards"),
    pytest.param({"load": load(asked=[[0, 1], [0, 5]]), "ended_ns": None}, id="a curve of no length"),
    pytest.param({"load": load("closed", asked=[[0, 3]], duration_s=5.0, warmup_s=9.0)}, id="all is warm-up"),
]


@pytest.mark.parametrize("over", OLD)
def test_a_run_that_says_little_of_its_load_is_reported_all_the_same(
    make_run: MakeRun, make_turn: MakeTurn, over: dict[str, Any]
) -> None:
    formats = {"formats": ["markdown", "junit", "html"], "audio": "none", "transcripts": "full"}
    run_dir = make_run([make_turn("a"), make_turn("b")], report=formats, **over)
    summary = judge(run_dir).summary
    assert summary["metrics"]["not_started"]["value"] == 0
    assert "## Load" in (run_dir / "summary.md").read_text("utf-8")
    assert "<h2" in (run_dir / "report.html").read_text("utf-8")
    json.dumps(summary, allow_nan=False)


def test_damage_in_what_a_run_says_of_its_load_is_a_sentence(make_run: MakeRun, make_turn: MakeTurn) -> None:
    from rteval.errors import RunFolderError

    run_dir = make_run([make_turn()], load={"asked": [[0, "x"]]}, workers=[{}], live={"incidents": "no"})
    with pytest.raises(
        RunFolderError, match=r"load.asked is not a list of pairs of numbers; workers is not .*incidents"
    ):
        judge(run_dir)


CURVES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=6).map(sorted)


@settings(max_examples=30)
@given(CURVES, st.integers(0, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 60)))
def test_the_mean_of_what_is_asked_is_that_of_its_curve(
    corners: list[tuple[int, int]], from_s: int, length_s: int, ends_s: int | None
) -> None:
    asked = AskedLoad(model="closed", started_ns=0, corners=tuple(corners), ends_s=ends_s)
    middles = from_s + (np.arange(2000) + 0.5) * length_s / 2000
    expected = np.mean([asked.at(at) for at in middles.tolist()])
    assert asked.mean(from_s, from_s + length_s) == pytest.approx(expected, abs=0.2)


JUMP = AskedLoad(model="closed", started_ns=0, corners=((0, 10), (5, 10), (5, 20)), ends_s=8)


@pytest.mark.parametrize(
    ("at", "before", "level"),
    [
        pytest.param(-1, False, 0, id="before the start"),
        pytest.param(0, False, 10, id="at the start"),
        pytest.param(5, False, 20, id="from a jump on"),
        pytest.param(5, True, 10, id="until a jump"),
        pytest.param(7, False, 20, id="the last level goes on"),
        pytest.param(8, True, 20, id="until the end"),
        pytest.param(8, False, 0, id="from the end on"),
        pytest.param(9, True, 0, id="after the end"),
    ],
)
def test_what_is_asked_at_a_time(at: float, before: bool, level: float) -> None:
    assert JUMP.at(at, before=before) == level


@pytest.mark.parametrize(
    ("over", "ends_s"),
    [
        pytest.param({"duration_s": 60.0}, 60.0, id="a duration"),
        pytest.param({"stages": [{"duration_s": 5}]}, 9.0, id="stages: the end of the curve"),
        pytest.param({"model": "open"}, 9.0, id="arrivals: the last one"),
        pytest.param({}, None, id="until all is done"),
    ],
)
def test_when_nothing_is_asked_any_more(over: dict[str, Any], ends_s: float | None) -> None:
    run = {"load": {**load("closed", asked=[[0, 1], [9, 1]]), **over}, "ended_ns": T0 + 100 * S}
    assert asked_load(run).ends_s == ends_s


def test_the_peak_of_several_workers_is_that_of_one_moment(make_run: MakeRun, make_turn: MakeTurn) -> None:
    """One is lost with its sessions and the other takes them over: together they never had more."""
    health = [HealthSample(worker="w1", at_ns=T0 + n * S, sessions_open=5) for n in range(5)]
    health += [HealthSample(worker="w2", at_ns=T0 + n * S + MS, sessions_open=5 if n < 9 else 10) for n in range(15)]
    health += [HealthSample(worker="master", at_ns=T0 + n * S, sessions_open=50) for n in range(15)]
    found = judged(make_run([make_turn()], health=health)).summary["metrics"]
    assert found["sessions_peak"]["value"] == 10
