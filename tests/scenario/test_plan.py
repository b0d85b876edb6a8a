"""How items are dealt out to sessions, and what a run is thought to take."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval import plan as planning
from rteval.corpus import Dataset, Item
from rteval.errors import ScenarioError
from rteval.plan import plan
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
        pytest.param(
            {"load": {"sessions": 2, "ramp_s": 0.0}}, [text("a"), text("b")], CONNECT + FIRST + ANSWER, id="at once"
        ),
        pytest.param(
            {"load": {"sessions": 2}}, [text("a"), text("b")], 0.01 + CONNECT + FIRST + ANSWER, id="never a burst"
        ),
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
        pytest.param(
            {"load": {"arrivals": {"rate": 0.5}}},
            [text("a"), text("b"), text("c")],
            4.0 + CONNECT + FIRST + ANSWER,
            id="as they come",
        ),
        pytest.param(
            # The second comes when 1/8 t^2 is 1, the third 2 s after the ramp's 2 that have come by 4 s.
            {"load": {"arrivals": {"rate": 1.0}, "ramp_s": 4.0}},
            [text("a"), text("b"), text("c"), text("d")],
            5.0 + CONNECT + FIRST + ANSWER,
            id="as they come ever faster",
        ),
        pytest.param(
            {"load": {"arrivals": {"rate": 100.0}, "max_sessions": 1}},
            [text("a"), text("b"), text("c")],
            3 * (CONNECT + FIRST + ANSWER),
            id="those who come wait for room",
        ),
        pytest.param(
            {"load": {"sessions": 2, "duration_s": 30.0}}, [text("a")], 30.0 + CONNECT + FIRST + ANSWER, id="timed"
        ),
        pytest.param(
            {"load": {"stages": [{"duration_s": 10.0, "sessions": 2}, {"duration_s": 5.0, "sessions": 1}]}},
            [text("a")],
            15.0 + CONNECT + FIRST + ANSWER,
            id="stages",
        ),
        pytest.param(
            {"load": {"sessions": 2, "duration_s": 30.0}, "limits": {"wall_s": 20.0}},
            [text("a")],
            20.0,
            id="timed, and ended by its limit",
        ),
    ],
)
def test_about_how_long_a_run_takes(sections, items, duration_s):
    assert plan(scenario(**sections), dataset(*items)).duration_s == pytest.approx(duration_s)


SESSION_S = CONNECT + FIRST + ANSWER
"""One text prompt and its answer."""


TIMED = [
    pytest.param({"sessions": 1, "duration_s": 1.0}, id="duration"),
    pytest.param({"stages": [{"duration_s": 1.0, "sessions": 1}]}, id="stages"),
    pytest.param({"arrivals": {"rate": 1.0}, "duration_s": 1.0}, id="arrivals with a duration"),
    pytest.param({"arrivals": {"rate": 1.0, "stages": [{"duration_s": 1.0, "rate": 2.0}]}}, id="arrivals in stages"),
]


@pytest.mark.parametrize("load", TIMED)
def test_a_timed_run_goes_over_the_dataset_again_and_again(load):
    made = plan(scenario(load=load, conversation={"items_per_session": 2}), dataset(*map(text, "abc")))
    assert (made.endless, made.turns, made.session_count, made.items) == (True, None, None, 3)
    assert dealt(made) == [[("a", 1), ("b", 1)], [("c", 1)]]
    sessions = list(itertools.islice(made.stream(), 5))
    assert [session.index for session in sessions] == [0, 1, 2, 3, 4]
    assert [[(turn.item.id, turn.attempt) for turn in session.turns] for session in sessions[2:]] == [
        [("a", 2), ("b", 2)],
        [("c", 2)],
        [("a", 3), ("b", 3)],
    ]


def test_arrivals_without_an_end_run_every_item_as_often_as_asked():
    made = plan(scenario(load={"arrivals": {"rate": 9.0}, "repeat": 2}), dataset(text("a"), text("b")))
    assert (made.endless, made.turns, made.expected_turns) == (False, 4, 4)
    assert list(made.stream()) == list(made.sessions)
    assert len(made.sessions) == made.session_count == 4


@pytest.mark.parametrize("load", TIMED)
def test_a_run_of_nothing_is_over_at_once(load):
    made = plan(scenario(load=load), dataset())
    assert (list(made.stream()), made.turns, made.duration_s) == ([], 0, 0.0)


@pytest.mark.parametrize(
    ("load", "limits", "turns"),
    [
        pytest.param({"sessions": 4, "ramp_s": 0.0, "duration_s": 100 * SESSION_S}, {}, 402, id="one after the other"),
        pytest.param({"sessions": 4, "duration_s": 1.0}, {}, 4, id="shorter than a session"),
        pytest.param({"sessions": 4, "ramp_s": 0.0, "duration_s": 999.0}, {"wall_s": 10 * SESSION_S}, 42, id="limit"),
        pytest.param({"sessions": 400, "duration_s": 10.0}, {"connects_per_s": 2.0}, 21, id="connections are spaced"),
        pytest.param(
            {
                "ramp_s": 0.0,
                "stages": [
                    {"duration_s": 10 * SESSION_S, "sessions": 10},
                    {"duration_s": 10 * SESSION_S, "sessions": 0},
                    {"duration_s": 10 * SESSION_S, "sessions": 5},
                ],
            },
            {},
            155,
            id="stages",
        ),
        pytest.param({"arrivals": {"rate": 3.0}, "duration_s": 100.0}, {}, 300, id="arrivals"),
        pytest.param(
            {"arrivals": {"rate": 3.0}, "duration_s": 100.0, "ramp_s": 50.0}, {}, 225, id="arrivals in a ramp"
        ),
        pytest.param(
            {"arrivals": {"rate": 60, "per": "minute", "stages": [{"duration_s": 20.0, "rate": 0.0}]}},
            {},
            10,
            id="arrivals in stages, by the minute",
        ),
        pytest.param(
            {"arrivals": {"rate": 99.0}, "max_sessions": 2, "duration_s": 10 * SESSION_S}, {}, 22, id="no room"
        ),
    ],
)
def test_about_how_many_turns_a_timed_run_has(load, limits, turns):
    made = plan(scenario(load=load, limits=limits), dataset(text("a"), text("b")))
    assert made.expected_turns == made.measured_turns == turns
    assert plan(scenario(load=load, limits=limits), dataset(audio("a", 3.0, speech_end_s=0.0))).audio_s > 0


def test_the_audio_of_a_timed_run_is_that_of_its_turns():
    made = plan(scenario(load={"arrivals": {"rate": 1.0}, "duration_s": 100.0}), dataset(audio("a", 2.0), text("b")))
    assert made.audio_s == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("load", "turns", "measured"),
    [
        pytest.param({"warmup_s": 2.5 * SESSION_S, "repeat": 6}, 6, 3, id="one after the other"),
        pytest.param({"warmup_s": 99.0}, 1, 0, id="nothing is left"),
        pytest.param({"arrivals": {"rate": 1.0}, "repeat": 10, "warmup_s": 4.0}, 10, 6, id="exact arrivals"),
        pytest.param({"arrivals": {"rate": 1.0}, "duration_s": 100.0, "warmup_s": 25.0}, 100, 75, id="arrivals"),
        pytest.param(
            {"arrivals": {"rate": 1.0}, "ramp_s": 40.0, "duration_s": 100.0, "warmup_s": 20.0}, 80, 75, id="ramp"
        ),
        pytest.param(
            {"sessions": 2, "ramp_s": 0.0, "duration_s": 99 * SESSION_S, "warmup_s": 9.9 * SESSION_S},
            199,
            179,
            id="timed",
        ),
        pytest.param(
            {
                "ramp_s": 0.0,
                "warmup_s": 5.0,
                "stages": [{"duration_s": 20.0, "sessions": 0}, {"duration_s": 10 * SESSION_S, "sessions": 2}],
            },
            21,
            21,
            id="nobody came before its end",
        ),
    ],
)
def test_turns_that_begin_in_the_warm_up_are_not_measured(load, turns, measured):
    made = plan(scenario(load=load), dataset(text("a")))
    assert (made.expected_turns, made.measured_turns) == (turns, measured)


def test_turns_of_a_session_that_began_in_the_warm_up_are_measured_when_they_begin_after_it():
    sections = {"load": {"warmup_s": 8.0}, "conversation": {"items_per_session": 4}}
    assert plan(scenario(**sections), dataset(*map(text, "abcd"))).measured_turns == 2


def test_before_anything_can_be_asked_there_is_no_load():
    load = {"stages": [{"duration_s": 20.0, "sessions": 0}, {"duration_s": 20.0, "sessions": 2}]}
    made = plan(scenario(load=load, limits={"wall_s": 10.0}), dataset(text("a")))
    assert made.measured_turns == 0
    assert made.asked[-1] == (10.0, 0.0)


@pytest.mark.parametrize(
    ("load", "sessions"),
    [
        pytest.param({"sessions": 9}, 4, id="no more than there are"),
        pytest.param({"sessions": 9, "duration_s": 1.0}, 9, id="timed"),
        pytest.param(
            {"stages": [{"duration_s": 1.0, "sessions": 3}, {"duration_s": 1.0, "sessions": 7}]}, 7, id="peak"
        ),
        pytest.param({"arrivals": {"rate": 2.0}, "duration_s": 99.0}, 11, id="rate times stay"),
        pytest.param({"arrivals": {"rate": 2.0}, "duration_s": 99.0, "max_sessions": 5}, 5, id="bound"),
        pytest.param({"arrivals": {"rate": 999.0}, "duration_s": 99.0}, 1000, id="bound unless told otherwise"),
        pytest.param({"arrivals": {"rate": 2.0}}, 4, id="exact arrivals"),
    ],
)
def test_how_many_sessions_are_open_at_once(load, sessions):
    assert plan(scenario(load=load), dataset(*map(text, "abcd"))).sessions_at_once == sessions


@pytest.mark.parametrize(
    ("load", "corners"),
    [
        pytest.param({"sessions": 2, "ramp_s": 4.0, "duration_s": 9.0}, [(0, 0), (4, 2), (9, 2)], id="ramp"),
        pytest.param({"sessions": 2, "ramp_s": 0.0, "duration_s": 9.0}, [(0, 0), (0, 2), (9, 2)], id="at once"),
        pytest.param(
            {"ramp_s": 4.0, "stages": [{"duration_s": 9.0, "sessions": 2}, {"duration_s": 2.0, "sessions": 1}]},
            [(0, 0), (4, 2), (9, 2), (11, 1)],
            id="stages",
        ),
        pytest.param(
            {"arrivals": {"rate": 2.0, "stages": [{"duration_s": 9.0, "rate": 5.0}]}, "ramp_s": 4.0},
            [(0, 0), (4, 2), (13, 5)],
            id="arrivals",
        ),
    ],
)
def test_the_load_that_is_asked_is_told_by_its_corners(load, corners):
    assert list(plan(scenario(load=load), dataset(text("a"))).asked) == corners


def test_the_load_is_told_up_to_the_limit():
    load = {"sessions": 4, "ramp_s": 8.0, "duration_s": 20.0}
    assert plan(scenario(load=load, limits={"wall_s": 6.0}), dataset(text("a"))).asked == ((0, 0), (6, 3))


@pytest.mark.parametrize(
    ("load", "limits", "doubts"),
    [
        pytest.param({"sessions": 4, "ramp_s": 0.0}, {}, [], id="closed"),
        pytest.param({"sessions": 4, "ramp_s": 1.0, "duration_s": 9.0}, {"connects_per_s": 3.0}, [], id="timed"),
        pytest.param({"arrivals": {"rate": 2.0}}, {}, [], id="exact arrivals"),
        pytest.param({"arrivals": {"rate": 2.0}, "max_sessions": 11, "duration_s": 60.0}, {}, [], id="room enough"),
        pytest.param(
            {"warmup_s": 99.0},
            {},
            ["load.warmup_s: the run may well be over within 99 s, and nothing would be measured"],
            id="all is warm-up",
        ),
        pytest.param(
            {"sessions": 5},
            {},
            [
                "load.sessions: 5 at once are asked, and the run has 4 in all; raise load.repeat, or give "
                "load.duration_s"
            ],
            id="too few sessions",
        ),
        pytest.param(
            {"sessions": 4, "ramp_s": 2.0},
            {"connects_per_s": 0.5},
            [
                "limits.connects_per_s: 4 sessions take 6 s to open at 0.5 in a second, longer than load.ramp_s (2)",
            ],
            id="connections are slower than the ramp",
        ),
        pytest.param(
            {"arrivals": {"rate": 2.0}, "max_sessions": 10, "duration_s": 60.0},
            {},
            [
                "load.max_sessions: with typical answers about 11 sessions would be open at once, and only 10 may be: "
                "those who come later have to wait"
            ],
            id="no room",
        ),
        pytest.param(
            {"arrivals": {"rate": 9.0}, "max_sessions": 3},
            {},
            [
                "load.max_sessions: with typical answers about 4 sessions would be open at once, and only 3 may be: "
                "those who come later have to wait"
            ],
            id="no room for exact arrivals",
        ),
        pytest.param({"arrivals": {"rate": 9.0}, "max_sessions": 4}, {}, [], id="room for all there are"),
        pytest.param(
            {"sessions": 1},
            {"wall_s": 9.0},
            [
                "limits.wall_s: with typical answers the run takes about 20 s, and after 9 s no turn begins any more: "
                "what is left of it is not run"
            ],
            id="too little time",
        ),
        pytest.param({"sessions": 1}, {"wall_s": 60.0}, [], id="time enough"),
    ],
)
def test_what_looks_as_if_it_were_not_meant_is_told(load, limits, doubts):
    made = plan(scenario(load=load, limits=limits), dataset(*map(text, "abcd")))
    assert list(made.doubts) == doubts


def test_a_plan_of_nothing_has_no_doubts():
    assert plan(scenario(load={"arrivals": {"rate": 9.0}, "warmup_s": 5.0}), dataset()).doubts == ()
