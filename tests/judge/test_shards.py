from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval.errors import RunFolderError
from rteval.judge import judge
from rteval.records import (
    DeltaKind,
    Deltas,
    HealthSample,
    Outcome,
    SessionRecord,
    Stage,
    TranscriptOutcome,
    TurnRecord,
    Usage,
)
from rteval.shards import COPIES, ShardWriter, Torn, is_writing, iter_shards, read_shards, shard_paths

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
whole = st.integers(-(2**63), 2**63 - 1)
real = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | whole | real | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
mapping = st.dictionaries(text, plain, max_size=3)

BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "str": text,
    "int": whole,
    "float": real,
    "bool": st.booleans(),
    "Outcome": st.sampled_from(Outcome),
    "Stage": st.sampled_from(Stage),
    "TranscriptOutcome": st.sampled_from(TranscriptOutcome),
    "tuple[str, ...]": st.lists(text, max_size=3).map(tuple),
    "list[int]": st.lists(whole, max_size=3),
    "dict[str, Any]": mapping,
    "tuple[dict[str, Any], ...]": st.lists(mapping, max_size=2).map(tuple),
    "Usage": st.builds(Usage, input_tokens=st.none() | whole, output_audio_tokens=st.none() | whole),
    "Deltas": st.lists(st.tuples(st.sampled_from(DeltaKind), whole, whole, whole), max_size=4).map(
        lambda rows: Deltas(*(list(column) for column in zip(*rows, strict=True))) if rows else Deltas()
    ),
}


REQUIRED = {
    TurnRecord: {"modality": "audio", "item": "i", "outcome": Outcome.OK, "turn": 0},
    SessionRecord: {"turns": 1, "outcome": "ready"},
    HealthSample: {"at_ns": 1},
}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(list(REQUIRED)))
def test_a_record_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: type
) -> None:
    """A few fields at a time hold anything that they may hold."""
    fields = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    base = {"run_id": "r", "worker": "w", "session": "s", "dialect": "ga"}
    values = {name: value for name, value in base.items() if name in fields} | REQUIRED[kind]
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=6, unique=True)):
        strategy = BY_ANNOTATION[fields[name].removesuffix(" | None")]
        values[name] = data.draw(st.none() | strategy if fields[name].endswith(" | None") else strategy)
    record = kind(**values)
    run_dir = tmp_path_factory.mktemp("run")
    with ShardWriter(run_dir, "w") as writer:
        getattr(writer, {TurnRecord: "turn", SessionRecord: "session", HealthSample: "health"}[kind])(record)
    assert list(iter_shards(run_dir)) == [record]


def test_shards_of_all_workers_are_read(tmp_path: Path, make_turn: Callable[..., TurnRecord]) -> None:
    for worker in ("b/../b", "a"):
        with ShardWriter(tmp_path, worker) as writer:
            writer.turn(make_turn(worker))
    assert [path.parent for path in shard_paths(tmp_path)] == [tmp_path / "shards"] * 2
    assert [turn.session for turn in read_shards(tmp_path).turns] == ["a", "b/../b"]


def test_a_torn_last_line_costs_only_itself(tmp_path: Path, make_turn: Callable[..., TurnRecord]) -> None:
    with ShardWriter(tmp_path, "w") as writer:
        writer.turn(make_turn("s0"))
        writer.turn(make_turn("s1"))
    (path,) = shard_paths(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    records = read_shards(tmp_path)
    assert [turn.session for turn in records.turns] == ["s0"]
    assert records.torn == [Torn(path, 2)]


def test_a_writer_after_a_crash_starts_on_a_line_of_its_own(
    tmp_path: Path, make_turn: Callable[..., TurnRecord]
) -> None:
    path = tmp_path / "shards" / "w.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"turn":{"run_')
    with ShardWriter(tmp_path, "w") as writer:
        writer.turn(make_turn())
    records = read_shards(tmp_path)
    assert len(records.turns) == 1
    assert records.torn == [Torn(path, 1)]


SESSION = (
    b'{"session":{"run_id":"r","worker":"w","session":"s","dialect":"ga","turns":1,"outcome":"ready",'
    b'"error_message":%s}}'
)


def test_a_session_without_a_message_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "w.jsonl").write_bytes(SESSION % b"null")
    assert [session.error_message for session in read_shards(tmp_path).sessions] == [None]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"turn":{"outcome":"ok"}}', id="fields missing"),
        pytest.param(b'{"song":{}}', id="unknown kind"),
        pytest.param(b'{"turn":{},"session":{}}', id="two records"),
        pytest.param(b"\x00\xff", id="noise"),
        pytest.param(SESSION % b'{"a":1}', id="a message that is no text"),
        pytest.param((SESSION % b"null").replace(b'"ready"', b"null"), id="an outcome that is no text"),
    ],
)
def test_a_line_that_is_no_record_is_told_and_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "shards" / "w.jsonl"
    path.parent.mkdir()
    path.write_bytes(line + b"\n\n")
    assert list(iter_shards(tmp_path)) == [Torn(path, 1)]


def test_fields_that_a_newer_version_added_are_passed_over(
    tmp_path: Path, make_turn: Callable[..., TurnRecord]
) -> None:
    with ShardWriter(tmp_path, "w") as writer:
        writer.turn(make_turn())
    (path,) = shard_paths(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'{"turn":{', b'{"turn":{"mood":"good",'))
    assert read_shards(tmp_path).turns == [make_turn()]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        pytest.param("half \ud800 pair", "half ? pair", id="half a surrogate pair"),
        pytest.param(2**70, float(2**70), id="beyond 64 bits"),
        pytest.param(10**400, "1" + "0" * 99, id="beyond a float"),
        pytest.param({1: (None, True, 0.5)}, {"1": [None, True, 0.5]}, id="a key that is no text"),
        pytest.param(Path("x"), "x", id="an object"),
    ],
)
def test_what_json_cannot_hold_does_not_cost_the_row(
    tmp_path: Path, make_turn: Callable[..., TurnRecord], value: object, stored: object
) -> None:
    with ShardWriter(tmp_path, "w") as writer:
        writer.turn(make_turn(meta={"x": value}))
    (turn,) = read_shards(tmp_path).turns
    assert turn.meta == {"x": stored}
    assert turn.deltas == make_turn().deltas
    assert turn.usage == make_turn().usage


def test_nothing_is_written_before_a_flush(tmp_path: Path, make_turn: Callable[..., TurnRecord]) -> None:
    with ShardWriter(tmp_path, "w") as writer:
        writer.turn(make_turn())
        assert writer.path.read_bytes() == b""
        writer.flush()
        assert writer.path.read_bytes().count(b"\n") == 1
        writer.flush()
    writer.close()


def test_a_writer_that_is_never_flushed_holds_bounded_memory(
    tmp_path: Path, make_turn: Callable[..., TurnRecord]
) -> None:
    with ShardWriter(tmp_path, "w") as writer:
        for _ in range(6):
            writer.turn(make_turn(output_transcript="x" * 1_000_000))
        assert writer.path.stat().st_size > 4_000_000


def test_a_shard_that_was_deleted_is_told_and_not_written_for_ever(
    tmp_path: Path, make_turn: Callable[..., TurnRecord]
) -> None:
    with ShardWriter(tmp_path, "w0") as shard:
        shard.turn(make_turn())
        shard.flush()
        shard.path.unlink()
        shard.turn(make_turn())
        with pytest.raises(RunFolderError, match="No such file"):
            shard.flush()


def test_a_copy_may_go_while_it_is_looked_for_and_a_shard_may_not(
    tmp_path: Path, make_turn: Callable[..., TurnRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ShardWriter(tmp_path, "w0") as shard:
        shard.turn(make_turn())
    gone = tmp_path / "copies" / "w0.jsonl"
    assert not is_writing(gone)
    monkeypatch.setattr("rteval.shards.shard_paths", lambda run_dir: [shard.path, gone])
    assert len(list(iter_shards(tmp_path))) == 1
    monkeypatch.setattr("rteval.shards.shard_paths", lambda run_dir: [tmp_path / "shards" / "gone.jsonl"])
    with pytest.raises(FileNotFoundError):
        list(iter_shards(tmp_path))


def held(session: str, turns: int = 1) -> SessionRecord:
    return SessionRecord(run_id="r1", worker="w", session=session, dialect="ga", turns=turns, outcome="ready")


def test_a_session_whose_turns_were_all_run_again_elsewhere_counts_once(
    tmp_path: Path, make_turn: Callable[..., TurnRecord]
) -> None:
    with ShardWriter(tmp_path, "w2") as shard:
        for record in (make_turn("s1.2", item="i1"), held("s1.2"), make_turn("s2.2", turn=0, item="i3"), held("s2.2")):
            shard.add(record)
    with ShardWriter(tmp_path, "w1", COPIES) as copy:
        copy.turn(make_turn("s1", item="i1"))
        copy.session(held("s1"))
        copy.turn(make_turn("s2", turn=0, item="i2"))
        copy.turn(make_turn("s2", turn=1, item="i3"))
        copy.session(held("s2", 2))
    found = read_shards(tmp_path)
    assert [(turn.session, turn.item) for turn in found.turns] == [("s1.2", "i1"), ("s2.2", "i3"), ("s2", "i2")]
    assert [session.session for session in found.sessions] == ["s1.2", "s2.2", "s2"]


@pytest.mark.parametrize(
    ("started_ns", "outcome", "counts"),
    [
        pytest.param(None, Outcome.OK, "s1", id="it ended elsewhere"),
        pytest.param(None, Outcome.CUT, "s1.2", id="it was cut elsewhere"),
        pytest.param(5, Outcome.OK, "s1.2", id="it began here too"),
    ],
)
def test_a_turn_that_ended_counts_and_not_that_it_never_began(
    tmp_path: Path, make_turn: Callable[..., TurnRecord], started_ns: int | None, outcome: Outcome, counts: str
) -> None:
    with ShardWriter(tmp_path, "master") as shard:
        shard.turn(make_turn("s1.2", item="i1", outcome=Outcome.CUT, started_ns=started_ns))
    with ShardWriter(tmp_path, "w1", COPIES) as copy:
        copy.turn(make_turn("s1", item="i1", outcome=outcome))
        copy.session(held("s1"))
    found = read_shards(tmp_path)
    assert [turn.session for turn in found.turns] == [counts]
    assert [session.session for session in found.sessions] == ["s1"] * (counts == "s1")


def test_a_shard_has_one_writer(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "w") as writer:
        assert is_writing(writer.path)
        with pytest.raises(RunFolderError, match="another process"):
            ShardWriter(tmp_path, "w")
    assert not is_writing(writer.path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot write"):
        ShardWriter(tmp_path, "w")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_a_full_disk_refused_is_kept_for_the_next_flush(
    tmp_path: Path, make_turn: Callable[..., TurnRecord]
) -> None:
    writer = ShardWriter(tmp_path, "w")
    real_fd, full = os.dup(writer._fd), os.open("/dev/full", os.O_WRONLY)
    writer.turn(make_turn())
    os.dup2(full, writer._fd)
    with pytest.raises(RunFolderError, match="No space left"):
        writer.flush()
    os.dup2(real_fd, writer._fd)
    writer.close()
    os.close(full)
    os.close(real_fd)
    assert read_shards(tmp_path).turns == [make_turn()]


WRITER = """
import sys, time
from pathlib import Path
from rteval.records import Outcome, TurnRecord
from rteval.shards import ShardWriter
writer = ShardWriter(Path(sys.argv[1]), "w1")
for turn in range(3):
    writer.turn(TurnRecord(run_id="r1", worker="w1", session="k", turn=turn, item=str(turn), modality="text",
                           dialect="ga", outcome=Outcome.OK))
writer.flush()
writer.turn(TurnRecord(run_id="r1", worker="w1", session="k", turn=9, item="9", modality="text", dialect="ga",
                       outcome=Outcome.OK))
print("flushed", flush=True)
sys.stdin.read()
"""


def test_a_run_killed_with_sigkill_is_judged_by_what_was_flushed(
    make_run: Callable[..., Path], make_turn: Callable[..., TurnRecord]
) -> None:
    run_dir = make_run([make_turn()], end=None, planned={"turns": 6})
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushed\n"
        with pytest.raises(RunFolderError, match="still goes"):
            judge(run_dir)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    judgement = judge(run_dir)
    assert judgement.exit_code == 1
    assert judgement.summary["state"] == "partial"
    assert judgement.summary["counts"]["turns"] == 4
    assert judgement.summary["counts"]["not_recorded"] == 2
    assert (run_dir / "summary.md").is_file()
