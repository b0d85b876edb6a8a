"""The scenarios and the schema that come with the project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rteval.analysis.gates import WORD_RATES, parse_gates
from rteval.analysis.metrics import METRICS, Source
from rteval.corpus import load_dataset
from rteval.plan import plan
from rteval.scenario import DEFAULT_GATE, json_schema, load_scenario
from rteval.scenario_model import SLO_METRICS
from rteval.simulator.behaviour import load_behaviour
from rteval.targets import target_address

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FILES = sorted(SCENARIOS.glob("*.yaml"))
EDITOR_LINE = "# yaml-language-server: $schema=schema.json"


def test_the_scenarios_of_the_readme_are_there():
    assert {"support", "prompts", "azure", "smoke"} <= {file.stem for file in FILES}


def test_the_schema_is_fresh():
    """Written by ``rteval schema > scenarios/schema.json``."""
    assert json.loads((SCENARIOS / "schema.json").read_text(encoding="utf-8")) == json_schema()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_scenario_can_be_run(file):
    scenario = load_scenario(file, env={})
    assert file.read_text(encoding="utf-8").splitlines()[0] == EDITOR_LINE
    choice = scenario.dataset
    dataset = load_dataset(choice.path, ids=choice.ids, tags=choice.tags, limit=choice.limit)
    made = plan(scenario, dataset)
    assert made.turns == len(dataset.items) * len(scenario.variants)
    checks = {*scenario.scoring.checks, *(kind for item in dataset.items for kind in item.expect or ())}
    assert parse_gates(scenario.all_gates, checks=checks)
    load_behaviour(scenario.target.behaviour)
    env = {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com", "AZURE_OPENAI_DEPLOYMENT_NAME": "d"}
    assert target_address(scenario, env)


def test_support_is_a_minute_of_audio_calls_with_server_vad():
    scenario = load_scenario(SCENARIOS / "support.yaml", env={})
    dataset = load_dataset(scenario.dataset.path)
    assert {item.modality for item in dataset.items} == {"audio"}
    assert scenario.session.turn_detection.mapping() == {"type": "server_vad", "silence_duration_ms": 500}
    assert scenario.session.transcription is not None
    assert (scenario.limits.send_lag_ms, scenario.limits.loop_lag_ms) == (200, 200)
    assert plan(scenario, dataset).duration_s <= 60
    assert len(dataset.items) >= 24


def test_azure_is_the_job_of_support_without_a_key():
    support, azure = (load_scenario(SCENARIOS / f"{name}.yaml", env={}) for name in ("support", "azure"))
    assert azure.dataset == support.dataset
    settings = [scenario.session.model_dump(exclude={"transcription"}) for scenario in (support, azure)]
    assert settings[0] == settings[1]
    assert (azure.target.provider, azure.target.auth) == ("azure", "entra")


def test_smoke_takes_seconds():
    scenario = load_scenario(SCENARIOS / "smoke.yaml", env={})
    assert plan(scenario, load_dataset(scenario.dataset.path, limit=scenario.dataset.limit)).duration_s < 10


def _objects(part):
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from _objects(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _objects(inner)


def test_every_key_in_the_schema_says_what_it_is_and_what_its_default_is():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["target", "dataset"]
    models = [schema, *schema["$defs"].values()]
    sections = {"timeouts", "session", "conversation", "load", "limits", "scoring", "report", "turn_detection"}
    for model in models:
        for key, value in model.get("properties", {}).items():
            described = value if "description" in value else schema["$defs"][value["$ref"].rpartition("/")[2]]
            assert described["description"], key
            assert "default" in value or key in sections | {"name", *model.get("required", ())}, key


def test_the_schema_is_whole():
    schema = json_schema()
    for part in _objects(schema):
        if "$ref" in part:
            assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]


@pytest.mark.parametrize(
    ("section", "key", "takes"),
    [
        pytest.param("Load", "sessions", {"type": "integer"}, id="number"),
        pytest.param("Load", "pacing", {"enum": ["realtime", "fast"]}, id="word"),
        pytest.param("Scoring", "wer", {"type": "boolean"}, id="bool"),
        pytest.param("Session", "max_output_tokens", {"const": "inf"}, id="union"),
        pytest.param("Session", "turn_detection", {"$ref": "#/$defs/TurnDetection"}, id="mapping"),
    ],
)
def test_an_editor_takes_a_variable_where_no_text_is_wanted(section, key, takes):
    members = json_schema()["$defs"][section]["properties"][key]["anyOf"]
    assert {"$ref": "#/$defs/Variable"} in members
    assert any(takes.items() <= member.items() for member in members)


def test_instructions_may_come_from_a_file_and_the_dataset_is_a_path_or_a_mapping():
    schema = json_schema()
    instructions = schema["$defs"]["Session"]["properties"]["instructions"]["anyOf"]
    assert [member.get("type") for member in instructions] == ["string", "object", "null"]
    assert [member.get("type") for member in schema["properties"]["dataset"]["anyOf"]] == ["string", None]


def test_slo_names_what_is_measured_of_a_turn():
    measured = {m.name for m in METRICS.values() if m.is_distribution and m.source is Source.TURNS}
    assert set(SLO_METRICS) == measured | set(WORD_RATES)


def test_the_gate_that_every_scenario_has_can_be_read():
    assert len(parse_gates([DEFAULT_GATE])) == 1
