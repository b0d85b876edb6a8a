"""Behaviour files: what they may say, how wrong ones are refused, and that chance is repeatable."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from rteval.errors import ScenarioError
from rteval.simulator.behaviour import (
    SESSION_FAULTS,
    TURN_FAULTS,
    Behaviour,
    Delay,
    find,
    load_behaviour,
)


def test_nothing_said_is_the_default(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert load_behaviour(None) == load_behaviour({}) == load_behaviour(empty) == Behaviour()


def test_a_file_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(
        "seed: 7\nttfa_ms: {lognormal: [400, 0.3]}\ntranscription: {word_error_rate: 0.1, delay_ms: 20}\n"
        "faults:\n  - {kind: drop_mid_answer, rate: 0.05}\n  - {kind: no_answer, turns: [2]}\n"
    )
    mapping = {
        "seed": 7,
        "ttfa_ms": {"lognormal": [400, 0.3]},
        "transcription": {"word_error_rate": 0.1, "delay_ms": 20},
        "faults": [{"kind": "drop_mid_answer", "rate": 0.05}, {"kind": "no_answer", "turns": [2]}],
    }
    assert load_behaviour(path) == load_behaviour(str(path)) == load_behaviour(mapping)
    assert load_behaviour(path).ttfa_ms == Delay(lognormal=(400, 0.3))


@pytest.mark.parametrize("kind", [*SESSION_FAULTS, *TURN_FAULTS])
def test_every_fault_can_be_asked_for_by_name_alone(kind: str) -> None:
    behaviour = load_behaviour({"faults": [{"kind": kind}]})
    struck = behaviour.session_faults(1) if kind in SESSION_FAULTS else behaviour.turn_faults(1, 1)
    assert [fault.kind for fault in struck] == [kind]
    assert find(struck, struck[0].kind) is behaviour.faults[0]


WRONG: list[tuple[str, Any, list[str]]] = [
    ("key", {"seeed": 1}, ["seeed", "'seed'"]),
    ("inner key", {"transcription": {"word_eror_rate": 0.1}}, ["transcription.word_eror_rate", "'word_error_rate'"]),
    ("fault", {"faults": [{"kind": "drop_mid_anser"}]}, ["faults[0].kind", "'drop_mid_answer'"]),
    ("fault key", {"faults": [{"kind": "no_answer", "turn": [1]}]}, ["faults[0].turn", "'turns'"]),
    ("fault without kind", {"faults": [{"rate": 0.5}]}, ["faults[0].kind"]),
    ("turns of a session fault", {"faults": [{"kind": "refuse_handshake", "turns": [1]}]}, ["faults[0]", "turns"]),
    ("rate above 1", {"faults": [{"kind": "no_answer", "rate": 2}]}, ["faults[0].rate"]),
    ("turn 0", {"faults": [{"kind": "no_answer", "turns": [0]}]}, ["faults[0].turns[0]"]),
    ("delay as text", {"ttfa_ms": "fast"}, ["ttfa_ms", "'fast'"]),
    ("no distribution", {"ttfa_ms": {}}, ["ttfa_ms", "exactly one"]),
    ("two distributions", {"ttfa_ms": {"constant": 1, "uniform": [1, 2]}}, ["ttfa_ms", "exactly one"]),
    ("bounds swapped", {"ttfa_ms": {"uniform": [5, 1]}}, ["ttfa_ms", "lower"]),
    ("negative delay", {"ttfa_ms": -1}, ["ttfa_ms"]),
    ("negative speed", {"speed": -1}, ["speed", "-1"]),
    ("no limit", {"rate_limits": {"requests_per_minute": 0}}, ["rate_limits.requests_per_minute"]),
]


@pytest.mark.parametrize(("data", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_key_or_value_is_one_sentence_with_its_path(data: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_behaviour(data)
    sentence = str(caught.value)
    assert caught.value.exit_code == 2
    assert sentence.startswith("behaviour: ")
    assert "\n" not in sentence
    assert all(word in sentence for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("seed: [1", ["not YAML"]), ("- 1\n", ["mapping"]), ("sped: 1\n", ["sped", "'speed'"])],
    ids=["not YAML", "a list", "a wrong key"],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "behaviour.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"behaviour\.yaml") as caught:
        load_behaviour(path)
    assert all(word in str(caught.value) for word in words)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml"):
        load_behaviour(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match=r"binary\.yaml"):
        load_behaviour(tmp_path / "binary.yaml")


def test_a_file_is_read_as_a_scenario_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML 1.2 core types, and environment variables."""
    monkeypatch.setenv("SIM_SEED", "12")
    path = tmp_path / "behaviour.yaml"
    path.write_text("seed: ${SIM_SEED}\nmodels: [no, 007, 2024-10-01]\nspeed: ${SIM_SPEED:-2.5}\n")
    behaviour = load_behaviour(path)
    assert (behaviour.seed, behaviour.models, behaviour.speed) == (12, ("no", "007", "2024-10-01"), 2.5)


def test_a_wrong_value_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "behaviour.yaml"
    path.write_text("seed: 1\nfaults:\n  - kind: no_answer\n    rate: 7\n")
    with pytest.raises(ScenarioError, match=r"behaviour\.yaml:4: faults\[0\]\.rate: .*less than or equal to 1"):
        load_behaviour(path)
    path.write_text("seed: ${SIM_NO_SUCH}\n")
    with pytest.raises(ScenarioError, match=r"behaviour\.yaml:1: seed: .*SIM_NO_SUCH"):
        load_behaviour(path)


DELAYS = [
    pytest.param(250, 250, 250, 250, id="number"),
    pytest.param({"uniform": [100, 300]}, 200, 100, 300, id="uniform"),
    pytest.param({"normal": [200, 20]}, 200, 0, 400, id="normal"),
    pytest.param({"normal": [0, 50]}, 0, 0, 400, id="normal, cut at 0"),
    pytest.param({"lognormal": [300, 0.4]}, 300, 0, 3_000, id="lognormal"),
    pytest.param({"lognormal": [300, 3.0], "max_ms": 500}, 300, 0, 500, id="with a maximum"),
]


@pytest.mark.parametrize(("delay", "median", "least", "most"), DELAYS)
def test_delays_follow_their_distribution(delay: Any, median: float, least: float, most: float) -> None:
    numbers = random.Random(3)
    drawn = [Delay.model_validate(delay).sample_ms(numbers) for _ in range(2_000)]
    assert statistics.median(drawn) == pytest.approx(median, rel=0.1, abs=5)
    assert min(drawn) >= least
    assert max(drawn) <= most


def test_chance_depends_on_the_seed_and_the_key_alone() -> None:
    behaviour = Behaviour(seed=3)
    one = behaviour.rng("item-1", 1).random()
    behaviour.rng("item-2", 1).random()
    assert behaviour.rng("item-1", 1).random() == one == Behaviour(seed=3).rng("item-1", 1).random()
    assert len({one, behaviour.rng("item-1", 2).random(), Behaviour(seed=4).rng("item-1", 1).random()}) == 3
    assert behaviour.rng("1").random() != behaviour.rng(1).random()


def test_faults_strike_the_named_sessions_and_turns() -> None:
    behaviour = load_behaviour(
        {
            "faults": [
                {"kind": "no_answer", "sessions": [2], "turns": [1, 3]},
                {"kind": "empty_response", "turns": [2]},
                {"kind": "session_created_twice", "sessions": [1]},
            ]
        }
    )
    struck = {
        (session, turn): [fault.kind for fault in behaviour.turn_faults(session, turn)]
        for session in (1, 2)
        for turn in (1, 2, 3)
    }
    assert struck == {
        (1, 1): [], (1, 2): ["empty_response"], (1, 3): [],
        (2, 1): ["no_answer"], (2, 2): ["empty_response"], (2, 3): ["no_answer"],
    }  # fmt: skip
    assert [fault.kind for fault in behaviour.session_faults(1)] == ["session_created_twice"]
    assert behaviour.session_faults(2) == ()


def test_faults_strike_at_their_rate_and_the_same_turns_each_time() -> None:
    behaviour = load_behaviour({"seed": 9, "faults": [{"kind": "no_answer", "rate": 0.2}]})
    turns = [(session, turn) for session in range(1, 101) for turn in range(1, 11)]
    struck = [key for key in turns if behaviour.turn_faults(*key)]
    assert 0.15 < len(struck) / len(turns) < 0.25
    assert [key for key in reversed(turns) if behaviour.turn_faults(*key)] == struck[::-1]


@pytest.mark.parametrize(("speed", "pause_ms"), [(4, 62.5), (1, 250), (0, 0)], ids=["4x", "as played", "at once"])
def test_deltas_are_sent_faster_than_they_play_by_the_speed(speed: float, pause_ms: float) -> None:
    assert Behaviour(speed=speed).delta_pause_ms(250, random.Random(0)) == pause_ms
