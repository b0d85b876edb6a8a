from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rteval.judge import judge
from rteval.metadata import cell_faults
from rteval.records import Outcome, TurnRecord

MakeRun = Callable[..., Path]
MakeTurn = Callable[..., TurnRecord]


def test_accuracy_is_pooled_over_turns_and_says_what_was_missing(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [
        make_turn(0, expect={"entities": ["42", {"value": "Emma"}, "23rd"]}, output_transcript="Forty two for Emma."),
        make_turn(1, expect={"entities": ["7"]}, output_transcript="It is seven."),
        make_turn(2),
        make_turn(3, expect={"entities": ["7"]}, outcome=Outcome.FAILED, output_transcript=None),
        make_turn(4, expect={"entities": ["7"]}, output_transcript=None),
        make_turn(5, expect={"entities": ["7"]}, warmup=True),
    ]
    folder = make_run(turns, gates=["entity_accuracy >= 0.7"])
    summary = judge(folder).summary
    entry = summary["metrics"]["entity_accuracy"]
    assert (entry["value"], entry["n"], entry["left_out"]) == (pytest.approx(3 / 4), 2, 3)
    assert summary["gates"][0]["verdict"] == "pass"
    table = pd.read_parquet(folder / "turns.parquet").set_index("session").astype(object)
    assert table.loc["s0", ["entities_expected", "entities_found"]].tolist() == [3, 2]
    assert json.loads(table.loc["s0", "entities_missing"]) == ["23rd"]
    reasons = table["entities_reason"]
    assert reasons.where(reasons.notna(), None).tolist() == [
        None, None, None, "the turn ended failed", "the answer has neither transcript nor text", None,
    ]  # fmt: skip


def test_a_gate_on_entities_that_nobody_expects_does_not_pass(make_run: MakeRun, make_turn: MakeTurn) -> None:
    summary = judge(make_run([make_turn()], gates=["entity_accuracy >= 0"])).summary
    assert summary["gates"][0]["verdict"] == "no_data"
    assert summary["metrics"]["entity_accuracy"]["reason"] == "no item expects entities"


def test_a_run_without_transcripts_does_not_say_what_was_missing(make_run: MakeRun, make_turn: MakeTurn) -> None:
    turns = [make_turn(prompt="tell me", expect={"entities": ["canary"]})]
    folder = make_run(turns, report={"formats": [], "transcripts": "none"})
    first = judge(folder).summary["metrics"]["entity_accuracy"]
    columns = pd.read_parquet(folder / "turns.parquet").columns
    assert not {"entities_missing", "prompt"} & set(columns)
    assert "canary" not in (folder / "turns.csv").read_text()
    assert judge(folder).summary["metrics"]["entity_accuracy"] == first


FAULTS = [
    pytest.param(["421"], None, id="texts"),
    pytest.param([{"value": "421", "type": "id", "aliases": ["4 21"]}], None, id="mapping"),
    pytest.param("421", "expect entities is the text '421'", id="no list"),
    pytest.param([], "expect entities is an empty list", id="empty"),
    pytest.param([421], "holds the number 421, which names nothing", id="number"),
    pytest.param(["?"], "which names nothing", id="no word"),
    pytest.param([{"value": "a", "alias": "b"}], "has other keys than", id="unknown key"),
    pytest.param([{"value": "a", "aliases": []}], "has aliases that are no texts", id="no aliases"),
]


@pytest.mark.parametrize(("entities", "fault"), FAULTS)
def test_entities_of_a_dataset_are_checked(entities: object, fault: str | None) -> None:
    faults = [what for what, _ in cell_faults({"text": "x", "expect": {"entities": entities}})]
    assert faults == [] if fault is None else fault in faults[0]
