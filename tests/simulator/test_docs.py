"""The page about the embedded server names everything that a behaviour file may hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rteval.simulator.behaviour import SESSION_FAULTS, TURN_FAULTS, Behaviour, Fault, RateLimits, Transcription, Usage
from rteval.simulator.behaviour import load_behaviour as load

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
FIELDS = [name for model in (Behaviour, Fault, RateLimits, Transcription, Usage) for name in model.model_fields]


@pytest.mark.parametrize("name", sorted({*FIELDS, *SESSION_FAULTS, *TURN_FAULTS}))
def test_every_key_and_every_fault_is_named(name: str) -> None:
    assert re.search(rf"[`{{ ]{name}[`:]", PAGE)


def test_no_fault_is_named_that_does_not_exist() -> None:
    section = PAGE.partition("Of a session:")[2].partition("## Truth")[0]
    assert set(re.findall(r"`([a-z_]+)`", section)) == {*SESSION_FAULTS, *TURN_FAULTS}


def test_the_example_is_a_behaviour() -> None:
    example = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert load(YAML(typ="safe", pure=True).load(example)).seed == 7
