"""A scenario that travels to another process: all of it, and no secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.errors import ScenarioError
from rteval.scenario import load_scenario, scenario_from_portable
from rteval.targets import target_address

KEY = "hunter22"
# Made up, and cut in two so that scanners of repositories have nothing to find.
SHAPED = "sk-" + "proj-Ab12Cd34Ef56Gh78Ij90"


def sent(scenario, env=None):
    """What travels, as it arrives."""
    return json.loads(json.dumps(scenario.portable(env or {})))


SCENARIOS = [
    pytest.param("", {}, id="nothing said"),
    pytest.param(
        "description: d\nlabels: {team: voice}\ntarget:\n  provider: azure\n  endpoint: https://x.openai.azure.com\n"
        "  deployment: d\n  auth: entra\n  timeouts: {connect_s: 1}\n"
        "session: {instructions: Be brief., turn_detection: none, transcription: {model: m, newer: 1},"
        " tools: [{type: function, name: f, strict: null}], raw: {a: [null, {b: 1.5}]}, modalities: [text]}\n"
        "dataset: {path: data, ids: [a], tags: [b], limit: 3, order: shuffled, seed: 4}\n"
        "conversation: {items_per_session: 2, think_time_s: 1.5}\nload: {sessions: 5, ramp_s: 2, repeat: 3}\n"
        "limits: {turns: 10}\nscoring: {checks: {a: {contains: [x, y]}, b: {tool_call: {name: f}}}}\n"
        "slo: {ttfa_ms: 1200}\ngates: []\nreport: {formats: [markdown]}",
        {},
        id="many keys",
    ),
    pytest.param(
        "load: {stages: [{duration_s: 5, sessions: 2}, {duration_s: 5, sessions: 0}], warmup_s: 3}", {}, id="stages"
    ),
    pytest.param(
        "load: {arrivals: {rate: 2, per: minute, process: poisson, seed: 3}, max_sessions: 9, duration_s: 60}",
        {},
        id="arrivals",
    ),
    pytest.param(
        "target: {provider: custom, url: 'wss://h/p?model=m&tenant=t1', headers: {x-region: west$$europe},"
        " proxy: 'http://proxy:3128'}",
        {},
        id="literal header, query and proxy",
    ),
    pytest.param(
        "target:\n  provider: custom\n  url: wss://u:${PW}@h/p?api-key=${K}\n  proxy: http://u:${PW}@proxy:1\n"
        "  headers: {Authorization: 'Bearer ${K}', x-n: '${NUMBER}', x-d: '${NOT_SET:-d}', x-m: 'a$$${K}'}",
        {"K": KEY, "PW": "swordfish", "NUMBER": "2024"},
        id="secrets in the target",
    ),
    pytest.param(
        "description: '$1 ${HOME} by hunter22 and $$'\n"
        "session:\n  instructions: the key is ${MY_KEY}, hunter22\n"
        "  raw:\n    note: hunter22\n    token: '${N}'\n    secret: ${N}\n    list: ['${MY_KEY}']",
        {"MY_KEY": KEY, "N": "12345678", "HOME": "west"},
        id="secrets elsewhere",
    ),
    pytest.param("dataset: ${SECRET_FOLDER}", {"SECRET_FOLDER": "/data/hunter22"}, id="secret folder"),
    pytest.param("limits: {turns: '${MY_TOKEN}'}", {"MY_TOKEN": "12345678"}, id="secret number"),
    pytest.param("description: ${X:-hunter22} ${MY_KEY}", {"MY_KEY": KEY, "X": "x"}, id="secret in a default"),
    pytest.param("target: {provider: azure, deployment: '${D}'}", {"D": SHAPED}, id="looks like a key"),
    pytest.param("session: {raw: {a: 'Bearer ${PLACE}'}}", {"PLACE": "westeurope"}, id="looks like a token in all"),
]


@pytest.mark.parametrize(("text", "env"), SCENARIOS)
def test_what_arrives_with_the_same_secrets_is_what_was_sent(load, text, env):
    scenario = load(text, **env)
    arrived = scenario_from_portable(sent(scenario), env=env)
    settled = {"auth", "behaviour"}
    assert arrived.model_dump(exclude={"target": settled}) == scenario.model_dump(exclude={"target": settled})
    assert arrived.resolved()["target"]["headers"] == scenario.resolved()["target"]["headers"]
    assert scenario_from_portable(sent(arrived), env=env) == arrived


@pytest.mark.parametrize(("text", "env"), SCENARIOS)
def test_no_secret_travels(load, text, env):
    said = json.dumps(load(text, **env).portable({}))
    assert not [value for name, value in env.items() if name not in ("PLACE", "HOME", "X") and value in said]


def test_secrets_are_those_of_the_receiver(load):
    text = "target: {provider: custom, url: 'wss://h/p?api-key=${K}', headers: {Authorization: 'Bearer ${K}'}}"
    arrived = scenario_from_portable(sent(load(text, K=KEY)), env={"K": "other"})
    assert arrived.target.url == "wss://h/p?api-key=other"
    assert arrived.target.headers == {"Authorization": "Bearer other"}
    assert "other" not in json.dumps(arrived.resolved())


def test_every_variable_that_is_not_set_there_is_named(load):
    text = "target: {provider: custom, url: 'wss://h/p?api-key=${K}', headers: {Authorization: 'Bearer ${T}'}}"
    with pytest.raises(ScenarioError) as caught:
        scenario_from_portable(sent(load(text, K=KEY, T=KEY)), env={}, where="the master")
    assert str(caught.value).split("\n  ") == [
        "the master: 2 problems",
        "the master: target.url: the environment variable K is not set; set it, or write ${K:-default}",
        "the master: target.headers.Authorization: the environment variable T is not set; set it, or write "
        "${T:-default}",
    ]
    assert caught.value.exit_code == 2


def test_everything_else_is_that_of_the_sender(load, tmp_path):
    (tmp_path / "prompt.md").write_text("${HOME} costs $$5", encoding="utf-8")
    text = (
        "description: ${PLACE}\nsession: {instructions: {file: prompt.md}}\nload: {sessions: '${N:-7}'}\n"
        "target: {provider: azure, dialect: preview}"
    )
    here = {
        "PLACE": "west",
        "N": "5",
        "AZURE_OPENAI_ENDPOINT": "https://here.openai.azure.com",
        "AZURE_OPENAI_DEPLOYMENT_NAME": "mine",
        "OPENAI_API_VERSION": "2024-12-17",
    }
    there = {
        "PLACE": "east",
        "N": "9",
        "AZURE_OPENAI_ENDPOINT": "https://there.openai.azure.com",
        "AZURE_OPENAI_DEPLOYMENT_NAME": "other",
        "OPENAI_API_VERSION": "2025-04-01-preview",
        "AZURE_OPENAI_API_KEY": KEY,
    }
    scenario = load(text, **here)
    arrived = scenario_from_portable(sent(scenario, here), env=there)
    assert (arrived.description, arrived.load.sessions) == ("west", 5)
    assert arrived.session.instructions == "${HOME} costs $$5"
    mine, theirs = target_address(scenario, here), target_address(arrived, there)
    assert (theirs.url, theirs.auth, theirs.api_key_env) == (mine.url, "entra", None)
    assert (arrived.name, arrived.dataset.path) == ("support", str(tmp_path / "data"))


def test_the_kind_of_credential_is_that_of_the_sender(load):
    scenario = load("target: {provider: azure, endpoint: https://x.openai.azure.com, deployment: d}")
    env = {"AZURE_OPENAI_API_KEY": KEY}
    arrived = scenario_from_portable(sent(scenario, env), env={})
    address = target_address(arrived, {})
    assert (address.auth, address.api_key_env) == ("api_key", "AZURE_OPENAI_API_KEY")
    assert KEY not in json.dumps(scenario.portable(env))


def test_a_vendor_variable_that_holds_a_key_by_mistake_does_not_travel(load):
    scenario = load("target: {provider: azure, endpoint: https://x.openai.azure.com}")
    env = {"AZURE_OPENAI_DEPLOYMENT_NAME": SHAPED}
    assert SHAPED not in json.dumps(scenario.portable(env))
    assert scenario_from_portable(sent(scenario, env), env=env).target.deployment == SHAPED


def test_what_the_environment_settles_comes_from_the_process_by_default(load, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT_NAME", "mine")
    scenario = load("target: {provider: azure, endpoint: https://x.openai.azure.com}")
    data = scenario.portable()
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT_NAME", "other")
    assert scenario_from_portable(data).target.deployment == "mine"


def test_the_dataset_may_lie_elsewhere(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = sent(load("dataset: {path: '${SECRET_FOLDER}', limit: 3}", SECRET_FOLDER="/data/hunter22"))
    arrived = scenario_from_portable(data, env={}, dataset_path=tmp_path / "there")
    assert (arrived.dataset.path, arrived.dataset.limit) == (str(tmp_path / "there"), 3)


def test_the_embedded_server_stays_where_it_is(load, tmp_path):
    (tmp_path / "behaviour.yaml").write_text("seed: 1")
    scenario = load("target: {provider: simulator, behaviour: behaviour.yaml, deployment: d}")
    arrived = scenario_from_portable(sent(scenario), env={})
    assert (arrived.target.behaviour, arrived.target.deployment) == (None, "d")


def test_a_file_that_is_not_there_is_named(load, tmp_path):
    (tmp_path / "ca.pem").write_text("")
    data = sent(load("target: {provider: simulator, ca_file: ca.pem}"))
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(ScenarioError, match=r"^the master: target\.ca_file: there is no file .*ca\.pem"):
        scenario_from_portable(data, env={})


def test_messages_about_it_say_who_sent_it(load):
    arrived = scenario_from_portable(sent(load("gates: [ttfa_ms.p95 < 1]")), env={}, where="the master at h:1")
    assert arrived.where("gates[0]") == "the master at h:1: gates[0]"
    assert arrived.path is None


SOUND = {"name": "a", "target": {"provider": "simulator"}, "dataset": {"path": "/d"}}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(None, "no scenario", id="nothing"),
        pytest.param([], "no scenario", id="list"),
        pytest.param({}, "no scenario", id="empty"),
        pytest.param({"scenario": SOUND}, "no scenario", id="no variables"),
        pytest.param({"scenario": [], "variables": []}, "no scenario", id="list of scenarios"),
        pytest.param({"scenario": "a", "variables": []}, "no scenario", id="text"),
        pytest.param({"scenario": SOUND, "variables": 5}, "no scenario", id="variables of a number"),
        pytest.param({"scenario": SOUND, "variables": [5]}, "no scenario", id="variable of a number"),
        pytest.param({"scenario": SOUND, "variables": [[[], "a", True]]}, "no scenario", id="no place"),
        pytest.param({"scenario": SOUND, "variables": [[["a"] * 99, "a", True]]}, "no scenario", id="deep place"),
        pytest.param({"scenario": SOUND, "variables": [[[None], "a", True]]}, "no scenario", id="place of nothing"),
        pytest.param({"scenario": SOUND, "variables": [[["name"], 5, True]]}, "no scenario", id="no text"),
        pytest.param({"scenario": SOUND, "variables": [[["name"], "a", 5]]}, "no scenario", id="no kind"),
        pytest.param({"scenario": SOUND, "variables": [[["name", 0], "a", True]]}, "no scenario", id="no such place"),
        pytest.param({"scenario": {**SOUND, 5: 1}, "variables": []}, "no scenario", id="key of a number"),
        pytest.param({"scenario": {**SOUND, "labels": {"a": b""}}, "variables": []}, "no scenario", id="bytes"),
        pytest.param({"scenario": {**SOUND, "qqq": 1}, "variables": []}, "qqq: unknown key", id="unknown key"),
        pytest.param({"scenario": {**SOUND, "load": {"sessions": "5"}}, "variables": []}, "whole number", id="type"),
        pytest.param(
            {"scenario": {**SOUND, "load": {"max_sessions": 5}}, "variables": []}, "bounds", id="contradiction"
        ),
        pytest.param({"scenario": {**SOUND, "name": "../x"}, "variables": []}, "names a folder", id="folder"),
        pytest.param({"scenario": {"name": "a"}, "variables": []}, "is required", id="required"),
        pytest.param({"scenario": SOUND, "variables": [[["name"], "\ud800", True]]}, "Unicode", id="half a letter"),
        pytest.param({"scenario": {**SOUND, "name": "a\ud800"}, "variables": []}, "name", id="half a letter in plain"),
    ],
)
def test_what_is_no_scenario_is_refused(data, sentence):
    with pytest.raises(ScenarioError, match=sentence) as caught:
        scenario_from_portable(data, env={})
    assert str(caught.value).startswith("the master: ")


def test_what_is_nested_without_end_is_refused():
    deep = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ScenarioError, match="nested deeper than 50"):
        scenario_from_portable({"scenario": {**SOUND, "session": {"raw": {"a": deep}}}, "variables": []}, env={})


SECRET = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="${}"), min_size=6, max_size=40)


@given(SECRET, st.text(st.characters(categories=["L", "N"]), max_size=5))
def test_whatever_the_secret_is_it_stays_here_and_is_put_in_again_there(tmp_path_factory, secret, around):
    path = tmp_path_factory.getbasetemp() / "portable.yaml"
    # Where a value cannot stand the scenario is refused.
    headers = {"Authorization": "Bearer ${MY_KEY}", "x-any": "${MY_KEY}"} if secret.isascii() else {}
    content = {
        "target": {
            "provider": "custom",
            "url": "wss://h/p?api-key=${MY_KEY}&x=${MY_KEY}",
            "proxy": "http://${MY_KEY}@proxy:1" if secret.isalnum() else "http://proxy:1",
            "headers": headers,
        },
        "dataset": "d",
        "session": {
            "instructions": f"{around}${{MY_KEY}}{around}$$",
            "tools": [{"type": "function", "name": "${MY_KEY}"}],
            "raw": {"signature": f"${{MY_KEY}}{around}", "deep": [{"a": "${MY_KEY}"}]},
        },
        "labels": {"a": "${MY_KEY}", "b": "${OTHER}"},
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    env = {"MY_KEY": secret, "OTHER": around + secret + "$" + around}
    scenario = load_scenario(path, env=env)
    data = scenario.portable(env)
    told = [text for text in _texts(data["scenario"])]
    told += [text.replace("${MY_KEY}", "").replace("${OTHER}", "") for _, text, _ in data["variables"]]
    assert not [text for text in told if secret in text]
    arrived = scenario_from_portable(json.loads(json.dumps(data)), env=env)
    assert arrived.target.headers == scenario.target.headers
    assert arrived.target.url == scenario.target.url
    assert (arrived.session, arrived.labels) == (scenario.session, scenario.labels)


def _texts(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


LITERALS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20)


@given(LITERALS, st.dictionaries(st.text(max_size=5), LITERALS | st.none() | st.integers(-9, 9) | st.booleans()))
def test_whatever_stands_in_a_scenario_arrives_as_it_was(tmp_path_factory, text, raw):
    path = tmp_path_factory.getbasetemp() / "literal.yaml"
    path.write_text("target: {provider: simulator}\ndataset: d\n", encoding="utf-8")
    file = tmp_path_factory.getbasetemp() / "prompt.md"
    file.write_text(text, encoding="utf-8", newline="")
    scenario = load_scenario(path, set_files=[f"session.instructions={file}"], env={})
    session = scenario.session.model_copy(update={"raw": raw})
    scenario = scenario.model_copy(update={"session": session})
    arrived = scenario_from_portable(json.loads(json.dumps(scenario.portable({}))), env={})
    assert (arrived.session.instructions, arrived.session.raw) == (text, raw)
