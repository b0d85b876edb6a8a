"""In which order variants take their turns, and how many each of them gets."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval import plan as planning
from rteval.corpus import Dataset, Item
from rteval.errors import ScenarioError
from rteval.plan import plan
from rteval.scenario import load_scenario


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    """A scenario with so many variants, ``v0``, ``v1``, ...; keyword arguments are laid over it by ``--set``."""
    folder = tmp_path_factory.mktemp("plans")

    def scenario(count, *sets, own=None):
        keys = [f"v{number}: {(own or {}).get(number, f'{{session.voice: x{number}}}')}" for number in range(count)]
        path = folder / "v.yaml"
        path.write_text(
            f"target: {{provider: simulator}}\ndataset: d\nmatrix: {{v: {{{', '.join(keys)}}}}}\n", encoding="utf-8"
        )
        return load_scenario(path, sets=sets, env={})

    return scenario


def dataset(*ids):
    """Items; those whose ids begin with the same capital letter are a conversation."""
    items = (Item(name, text="?", conversation_id=name[0] if name[0].isupper() else None) for name in ids)
    return Dataset(Path("d"), tuple(items), "hash")


def held(made):
    return [
        (made.variants.index(session.turns[0].variant), "".join(turn.item.id for turn in session.turns))
        for session in made.sessions
    ]


def test_an_item_is_run_with_every_variant_before_the_next_item(scenario):
    sessions = held(plan(scenario(3), dataset(*"abcd")))
    assert [items for _, items in sessions] == [item for item in "abcd" for _ in range(3)]
    assert len(set(sessions)) == 12


def test_two_variants_take_turns_in_being_first_also_from_pass_to_pass(scenario):
    made = plan(scenario(2, "load.repeat=2"), dataset(*"abc"))
    firsts = held(made)[::2]
    assert firsts == [(0, "a"), (1, "b"), (0, "c"), (1, "a"), (0, "b"), (1, "c")]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 12])
def test_each_variant_takes_each_place_and_follows_each_other_equally_often(scenario, count):
    rounds = count if count % 2 == 0 else 2 * count
    order = [variant for variant, _ in held(plan(scenario(count), dataset(*(f"i{n}" for n in range(rounds)))))]
    blocks = [order[at : at + count] for at in range(0, len(order), count)]
    places = Counter((place, variant) for block in blocks for place, variant in enumerate(block))
    followers = Counter(pair for block in blocks for pair in itertools.pairwise(block))
    assert set(places.values()) == {rounds // count}
    assert len(places) == count * count
    assert set(followers.values()) == {rounds // count}
    assert len(followers) == count * (count - 1)


@given(
    count=st.integers(1, 6),
    repeat=st.integers(1, 3),
    names=st.lists(st.sampled_from(["a", "b", "c", "d", "e", "Xa", "Xb", "Ya"]), unique=True, max_size=8),
    sizes=st.lists(st.integers(1, 4), min_size=6, max_size=6),
)
def test_every_variant_runs_every_item_exactly_as_often_as_asked(scenario, count, repeat, names, sizes):
    own = {number: f"{{conversation.items_per_session: {sizes[number]}}}" for number in range(count)}
    made = plan(scenario(count, f"load.repeat={repeat}", own=own), dataset(*names))
    turns = Counter((turn.variant, turn.item.id, turn.attempt) for session in made.sessions for turn in session.turns)
    assert turns == Counter(
        (f"v{number}", name, attempt + 1) for number in range(count) for name in names for attempt in range(repeat)
    )
    assert (made.turns, made.session_count) == (turns.total(), len(made.sessions))
    for session in made.sessions:
        assert len({turn.variant for turn in session.turns}) == 1


def test_sessions_of_different_lengths_stay_with_their_first_item(scenario):
    own = {0: "{conversation.items_per_session: 1}", 1: "{conversation.items_per_session: 2}"}
    made = plan(scenario(2, own=own), dataset(*"abcd"))
    assert held(made) == [(0, "a"), (1, "ab"), (0, "b"), (0, "c"), (1, "cd"), (0, "d")]


def test_a_timed_run_goes_round_with_all_variants(scenario):
    made = plan(scenario(2, "load.duration_s=60"), dataset(*"ab"))
    assert made.endless
    passes = list(itertools.islice(made.stream(), 8))
    seen = [(session.turns[0].variant, session.turns[0].item.id, session.turns[0].attempt) for session in passes]
    assert Counter(seen) == Counter((f"v{v}", item, attempt) for v in (0, 1) for item in "ab" for attempt in (1, 2))
    assert [session.index for session in passes] == list(range(8))


def test_the_bound_on_turns_is_over_all_variants(scenario):
    with pytest.raises(ScenarioError, match=r"makes 2000000 turns of 1 items and 4 variants; 1000000 is the most"):
        plan(scenario(4, "load.repeat=500000"), dataset("a"))


def test_what_a_variant_takes_is_counted_as_its_own(scenario):
    slow = {1: "{conversation.think_time_s: 100, conversation.items_per_session: 2}"}
    quick, mixed = (plan(scenario(2, own=own), dataset(*"ab")) for own in (None, slow))
    assert mixed.duration_s > quick.duration_s + 50
    assert quick.duration_s == pytest.approx(
        2 * plan(scenario(1), dataset(*"ab")).duration_s, abs=2 * planning.TYPICAL_CONNECT_S
    )
