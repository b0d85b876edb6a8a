"""How items are dealt out to sessions, and what a run is thought to take."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval import plan as planning
from rteval.corpus import Dataset, Item
from rteval.errors import ScenarioError
from rteval.plan import plan, start_times
from rteval.scenario import Scenario

ANSWER, FIRST, CONNECT = planning.TYPICAL_ANSWER_S, planning.TYPICAL_FIRST_AUDIO_S, planning.TYPICAL_CONNECT_S


def scenario(**sections):
    return Scenario.model_validate({"name": "a", "target": {"provider": "simulator"}, "dataset": "d", **sections})


def dataset(*items):
    return Dataset(Path("d"), items, "hash")


def audio(id_, duration_s=3.0, *, conversation=None, speech_end_s=2.0):
    path = Path(f"{id_}.wav")
    return Item(id_, path=path, duration_s=duration_s, speech_end_s=speech_end_s, conversation_id=conversation)


def text(id_, *, conversation=None):
    return Item(id_, text="Hello", conversation_id=conversation)


def dealt(made):
    return [[(turn.item.id, turn.attempt) for turn in session.turns] for session in made.sessions]


@pytest.mark.parametrize(
    ("items", "per_session", "sessions"),
    [
        pytest.param("a b c", 1, ["a", "b", "c"], id="one each"),
        pytest.param("a b c d e", 2, ["ab", "cd", "e"], id="two each"),
        pytest.param("a b", 9, ["ab"], id="fewer than a session holds"),
        pytest.param("a x1 b x2 c", 1, ["a", "x1 x2", "b", "c"], id="a conversation stays together"),
        pytest.param("a x1 b x2 c", 3, ["abc", "x1 x2"], id="a conversation has a session of its own"),
        pytest.param("x1 x2 x3 y1 y2", 2, ["x1 x2 x3", "y1 y2"], id="a conversation may be longer"),
    ],
)
def test_items_are_dealt_out_in_order(items, per_session, sessions):
    made = [text(id_, conversation=id_[0] if len(id_) > 1 else None) for id_ in items.split()]
    found = dealt(plan(scenario(conversation={"items_per_session": per_session}), dataset(*made)))
    wanted = [session.split() if " " in session else list(session) for session in sessions]
    assert [[id_ for id_, _ in session] for session in found] == wanted


def test_more_turns_than_fit_are_refused_before_they_are_made():
    with pytest.raises(ScenarioError, match=r"load\.repeat: makes 2000000000000 turns of 2 items; 1000000 is the most"):
        plan(scenario(load={"repeat": 10**12}), dataset(text("a"), text("b")))


def test_each_repeat_is_a_pass_over_the_whole_dataset():
    made = plan(scenario(load={"repeat": 2}, conversation={"items_per_session": 2}), dataset(*map(text, "abc")))
    assert dealt(made) == [[("a", 1), ("b", 1)], [("c", 1)], [("a", 2), ("b", 2)], [("c", 2)]]
    assert [session.index for session in made.sessions] == [0, 1, 2, 3]
    assert (made.turns, made.items) == (6, 3)


@settings(deadline=None)  # the machine may be busy with others
@given(
    st.lists(st.sampled_from([None, "x", "y"]), max_size=20),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 7),
)
def test_every_item_is_planned_exactly_as_often_as_asked(conversations, per_session, repeat, sessions):
    items = [text(str(index), conversation=name) for index, name in enumerate(conversations)]
    made = plan(
        scenario(load={"repeat": repeat, "sessions": sessions}, conversation={"items_per_session": per_session}),
        dataset(*items),
    )
    turns = [(turn.item.id, turn.attempt) for session in made.sessions for turn in session.turns]
    assert sorted(turns) == sorted((item.id, attempt + 1) for item in items for attempt in range(repeat))
    assert made.sessions_at_once <= sessions
    for session in made.sessions:
        kinds = {turn.item.conversation_id for turn in session.turns}
        assert len(kinds) == 1
        assert kinds != {None} or len(session.turns) <= per_session
        assert [int(turn.item.id) for turn in session.turns] == sorted(int(turn.item.id) for turn in session.turns)
    for name in {"x", "y"} & set(conversations):
        holders = [s for s in made.sessions if s.turns[0].item.conversation_id == name]
        assert len(holders) == repeat


def test_the_audio_of_all_turns_is_counted():
    assert plan(scenario(load={"repeat": 3}), dataset(audio("a", 2.0), audio("b", 4.0), text("c"))).audio_s == 18.0


@pytest.mark.parametrize(
    ("sections", "items", "duration_s"),
    [
        pytest.param({}, [], 0.0, id="nothing"),
        pytest.param({}, [audio("a")], CONNECT + 2.5 + FIRST + ANSWER, id="audio until the server has heard the end"),
        pytest.param(
            {"session": {"turn_detection": {"silence_duration_ms": 1500}}},
            [audio("a")],
            CONNECT + 3.5 + FIRST + ANSWER,
            id="silence as asked",
        ),
        pytest.param(
            {"session": {"turn_detection": "none"}}, [audio("a")], CONNECT + 2.0 + FIRST + ANSWER, id="manual commit"
        ),
        pytest.param(
            {"session": {"turn_detection": "none"}},
            [audio("a", speech_end_s=None)],
            CONNECT + 3.0 + FIRST + ANSWER,
            id="end of speech not known",
        ),
        pytest.param(
            {"session": {"turn_detection": "none"}, "load": {"pacing": "fast"}},
            [audio("a")],
            CONNECT + FIRST + ANSWER,
            id="sent at once",
        ),
        pytest.param({}, [text("a")], CONNECT + FIRST + ANSWER, id="text prompt"),
        pytest.param(
            {"session": {"modalities": ("text",)}},
            [text("a")],
            CONNECT + FIRST + planning.TYPICAL_TEXT_ANSWER_S,
            id="text answer",
        ),
        pytest.param(
            {"conversation": {"items_per_session": 2, "think_time_s": 2.0}},
            [text("a"), text("b")],
            CONNECT + 2 * (FIRST + ANSWER) + 2.0,
            id="answers are heard and thought about",
        ),
        pytest.param(
            {"conversation": {"items_per_session": 2, "wait_for_playback": False}},
            [text("a"), text("b")],
            CONNECT + 2 * FIRST + planning.TYPICAL_TEXT_ANSWER_S + ANSWER,
            id="the last answer alone is heard",
        ),
        pytest.param(
            {"conversation": {"items_per_session": 100, "max_session_s": 10.0}},
            [text(str(index)) for index in range(100)],
            10.0 + FIRST + ANSWER,
            id="sessions end at their age",
        ),
        pytest.param({}, [text("a"), text("b")], 2 * (CONNECT + FIRST + ANSWER), id="one after the other"),
        pytest.param({"load": {"sessions": 2}}, [text("a"), text("b")], CONNECT + FIRST + ANSWER, id="at once"),
        pytest.param(
            {"load": {"sessions": 2, "ramp_s": 3.0}}, [text("a"), text("b")], 1.5 + CONNECT + FIRST + ANSWER, id="ramp"
        ),
        pytest.param(
            {"load": {"sessions": 4}, "limits": {"connects_per_s": 0.5}},
            [text(id_) for id_ in "abcd"],
            6.0 + CONNECT + FIRST + ANSWER,
            id="connections are spaced",
        ),
        pytest.param({"limits": {"wall_s": 1.0}}, [text("a")], 1.0, id="the run ends at its limit"),
    ],
)
def test_about_how_long_a_run_takes(sections, items, duration_s):
    assert plan(scenario(**sections), dataset(*items)).duration_s == pytest.approx(duration_s)


def test_the_first_sessions_start_evenly_over_the_ramp():
    assert start_times(4, 8.0) == (0.0, 2.0, 4.0, 6.0)
    assert start_times(1, 8.0) == (0.0,)
    assert start_times(0, 8.0) == ()
