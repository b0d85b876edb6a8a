from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval.analysis.store import (
    DELTAS,
    HEALTH,
    SESSIONS,
    TURNS,
    collect,
    count_rows,
    iter_turn_deltas,
    read_health,
    read_table,
)
from rteval.analysis.table import derive_turns
from rteval.records import DeltaKind, Deltas, HealthSample, SessionRecord, TurnRecord

T0 = 1_000_000_000_000_000

streams = st.lists(st.lists(st.sampled_from(DeltaKind), max_size=9), min_size=1, max_size=8)


def turns_of(kinds: list[list[DeltaKind]], make_turn: Callable[..., TurnRecord]) -> list[TurnRecord]:
    turns = []
    for number, stream in enumerate(kinds):
        deltas = Deltas()
        for k, kind in enumerate(stream):
            deltas.add(kind, T0 + number * 1000 + k, size_bytes=960 if kind is DeltaKind.AUDIO else 0, chars=k)
        turns.append(make_turn(f"s{number // 3}", number % 3, deltas=deltas))
    return turns


@settings(max_examples=40, deadline=None)
@given(streams, st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_where_row_groups_and_batches_are_cut_does_not_change_a_turn(
    tmp_path_factory: pytest.TempPathFactory,
    make_turn: Callable[..., TurnRecord],
    kinds: list[list[DeltaKind]],
    delta_rows: int,
    batch_rows: int,
    turn_rows: int,
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    turns = turns_of(kinds, make_turn)
    found = collect(turns, folder, turn_rows=turn_rows, delta_rows=delta_rows)
    assert (found.turns, found.deltas) == (len(turns), sum(map(len, kinds)))
    read = list(iter_turn_deltas(folder / DELTAS, batch_rows=batch_rows))
    expected = [turn for turn in turns if len(turn.deltas)]
    assert [(part.session, part.turn) for part in read] == [(turn.session, turn.turn) for turn in expected]
    for part, turn in zip(read, expected, strict=True):
        assert part.arrival_ns.tolist() == turn.deltas.arrival_ns
        arrivals, sizes = part.of(DeltaKind.AUDIO)
        assert len(arrivals) == turn.deltas.kind.count(DeltaKind.AUDIO)
        assert sizes.tolist() == [960] * len(arrivals)
    assert read_table(folder / TURNS)["turn"].tolist() == [turn.turn for turn in turns]


def test_every_table_may_have_many_row_groups(
    tmp_path: Path, make_turn: Callable[..., TurnRecord], make_session: Callable[..., SessionRecord]
) -> None:
    sessions = [make_session(f"s{k}", retries=k) for k in range(5)]
    health = [HealthSample(worker=f"w{k % 2}", at_ns=k, loop_lag_us=[1000 * k], cpu_share=0.5) for k in range(5)]
    collect([*sessions, *health], tmp_path, turn_rows=2, delta_rows=4)
    assert read_table(tmp_path / SESSIONS, ["retries"])["retries"].tolist() == [0, 1, 2, 3, 4]
    read = read_health(tmp_path / HEALTH)
    assert read.loc[read["kind"] == "loop", "value"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert read.loc[read["worker"] == "w1", "at_ns"].unique().tolist() == [1, 3]
    assert count_rows(tmp_path / HEALTH) == 15


def test_deltas_of_a_turn_without_a_row_are_passed_over(tmp_path: Path, make_turn: Callable[..., TurnRecord]) -> None:
    collect([make_turn("a"), make_turn("b")], tmp_path)
    turns = read_table(tmp_path / TURNS).iloc[:1]
    derived, gaps = derive_turns(turns, iter_turn_deltas(tmp_path / DELTAS), count_rows(tmp_path / DELTAS))
    assert derived["audio_deltas"].tolist() == [3]
    assert gaps.tolist() == [100.0, 100.0]
