"""Secrets: none stands in a file, none is left in what is stored or said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval.errors import ScenarioError
from rteval.scenario import load_scenario
from rteval.targets import target_address

# Made up, and cut in two so that scanners of repositories have nothing to find.
OPENAI_KEY = "sk-" + "proj-Ab12Cd34Ef56Gh78Ij90"
EPHEMERAL = "ek_" + "68af29aa1b2c3d4e5f6a7b8c"
HEX = "0123456789abcdef" * 2
LONG = "Ab1" * 28
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9." + "eyJ" + "zdWIiOiIxMjM0In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param(
            f"target: {{provider: azure, headers: {{api-key: {HEX}}}}}", "target.headers.api-key", id="api-key header"
        ),
        pytest.param(
            "target: {provider: azure, headers: {Authorization: Bearer abc}}",
            "target.headers.Authorization",
            id="short bearer",
        ),
        pytest.param(
            "target: {provider: azure, headers: {X-Token: abc}}", "target.headers.X-Token", id="header named token"
        ),
        pytest.param("target: {provider: azure, headers: {cookie: a=b}}", "target.headers.cookie", id="cookie"),
        pytest.param(
            f"target: {{provider: azure, headers: {{x-a: {OPENAI_KEY}}}}}",
            "target.headers.x-a",
            id="OpenAI key in any header",
        ),
        pytest.param(
            f"target: {{provider: azure, headers: {{x-a: {LONG}}}}}", "target.headers.x-a", id="long key in any header"
        ),
        pytest.param(
            f"target: {{provider: azure, api_key_env: {HEX}}}", "target.api_key_env", id="key for its variable"
        ),
        pytest.param(
            f"target: {{provider: azure, api_key_env: {OPENAI_KEY}}}",
            "target.api_key_env",
            id="OpenAI key for its variable",
        ),
        pytest.param(f"target: {{provider: azure, deployment: {HEX}}}", "target.deployment", id="hex"),
        pytest.param("target: {provider: custom, url: 'wss://h/p?api-key=abc'}", "target.url", id="query"),
        pytest.param(
            "target: {provider: custom, url: 'wss://h/p?model=m&access_token=abc'}", "target.url", id="query token"
        ),
        pytest.param(
            "target: {provider: custom, url: 'wss://h/p?api%2Dkey=abc'}", "target.url", id="query in disguise"
        ),
        pytest.param("target: {provider: custom, url: 'wss://u:p@h/p'}", "target.url", id="password"),
        pytest.param("target: {provider: custom, url: 'wss://token@h/p'}", "target.url", id="token before the @"),
        pytest.param("target: {provider: azure, proxy: 'http://u:p@h'}", "target.proxy", id="proxy password"),
        pytest.param(
            "target: {provider: azure, headers: {api-key: '${K:-abc}'}}",
            "target.headers.api-key",
            id="default of a variable",
        ),
        pytest.param(
            "target: {provider: custom, url: 'wss://h/p?api-key=${K:-abc}'}", "target.url", id="default in a query"
        ),
        pytest.param(
            f"session: {{instructions: 'use {EPHEMERAL}'}}", "session.instructions", id="ephemeral key in a text"
        ),
        pytest.param(f"description: {JWT}", "description", id="JSON Web Token"),
        pytest.param("labels: {a: Bearer abcdefghijkl}", "labels.a", id="bearer in a label"),
        pytest.param(f"session: {{raw: {{a: [{HEX}]}}}}", "session.raw.a[0]", id="raw"),
        pytest.param("name: " + "AKIA" + "ABCDEFGHIJKLMNOP", "name", id="AWS"),
    ],
)
def test_a_literal_key_or_token_is_refused(problems, text, path):
    (problem,) = problems(text)
    assert problem.startswith(f"support.yaml:1: {path}: ")
    assert "environment variable" in problem
    for secret in (OPENAI_KEY, EPHEMERAL, HEX, LONG, JWT, "abc"):
        assert secret not in problem


def test_a_literal_key_on_the_command_line_is_refused(problems, tmp_path):
    assert problems(sets=["target.headers.api-key=abc"])[0].startswith("--set target.headers.api-key: target.headers.")
    path = tmp_path / "prompt.md"
    path.write_text(f"the key is {OPENAI_KEY}")
    assert "holds a key or token" in problems(set_files=[f"session.instructions={path}"])[0]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "target: {provider: azure, headers: {Authorization: 'Bearer ${K}', api-key: '${K}'}}", id="variables"
        ),
        pytest.param(
            "target: {provider: azure, headers: {x-region: westeurope, x-id: 5b8f1d2a-0000-4000-8000-1234567890ab}}",
            id="harmless headers",
        ),
        pytest.param("target: {provider: custom, url: 'wss://h/p?model=m&api-key=${K}'}", id="variable in a query"),
        pytest.param("target: {provider: azure, proxy: 'http://u:${K}@h:1'}", id="variable for a password"),
        pytest.param(
            "target: {provider: azure, token_scope: 'api://5b8f1d2a-0000-4000-8000-1234567890ab/.default'}", id="scope"
        ),
        pytest.param(f"dataset: {{path: d, ids: [{HEX}]}}", id="ids that are hashes"),
        pytest.param(f"labels: {{commit: {HEX}12345678}}", id="commit"),
        pytest.param(
            "session: {instructions: 'Ask for the task-oriented token and the api-key of the risk-based safe.'}",
            id="words about keys",
        ),
        pytest.param("target: {provider: azure, api_key_env: MY_OPENAI_API_KEY}", id="name of a variable"),
        pytest.param("target: {provider: custom, url: 'wss://[::1]:80/p?${Q}'}", id="variable for a query"),
    ],
)
def test_what_is_no_literal_secret_is_taken(load, text):
    assert load(text, K="hunter22", Q="api-key=hunter22")


def test_an_address_that_cannot_be_read_is_left_to_others(load):
    with pytest.raises(ScenarioError, match="expected a whole address"):
        target_address(load("target: {provider: custom, url: 'wss://[::1/p'}"), {})


def test_what_is_stored_names_variables_and_no_values(load):
    scenario = load(
        "target:\n"
        "  provider: custom\n"
        "  url: wss://h/p?model=m&tenant=t1&api-key=${MY_KEY}\n"
        "  proxy: http://user:${PROXY_PASSWORD}@proxy:1\n"
        "  headers: {Authorization: 'Bearer ${MY_KEY}', x-a: plain, x-b: 'a${PLACE}b', x-c: '${NONE:-c}'}\n"
        "  deployment: ${PLACE}\n"
        "session:\n"
        "  instructions: the key is ${MY_KEY} at ${PLACE}\n"
        "  raw: {note: hunter22, signature: '${SIGN}'}\n"
        "description: by hunter22\n",
        MY_KEY="hunter22",
        PROXY_PASSWORD="swordfish",
        PLACE="westeurope",
        SIGN="by-hand",
    )
    resolved = scenario.resolved()
    target = resolved["target"]
    assert target["url"] == "wss://h/p?model=m&tenant=***&api-key=***"
    assert target["proxy"] == "http://***@proxy:1"
    assert target["headers"] == {"Authorization": "${MY_KEY}", "x-a": "***", "x-b": "${PLACE}", "x-c": "${NONE}"}
    assert target["deployment"] == "westeurope"
    assert resolved["session"]["instructions"] == "the key is ${MY_KEY} at ${PLACE}"
    assert resolved["session"]["raw"] == {"note": "***", "signature": "${SIGN}"}
    assert resolved["description"] == "by ***"
    for secret in ("hunter22", "swordfish"):
        assert secret not in json.dumps(resolved)
        assert secret not in repr(scenario._redactor)


def test_a_value_that_looks_like_a_key_is_redacted_whatever_its_variable_is_called(load):
    resolved = load("target:\n  provider: azure\n  deployment: ${D}\ndescription: ${D} again", D=HEX).resolved()
    assert (resolved["target"]["deployment"], resolved["description"]) == ("${D}", "${D} again")


def test_the_hash_does_not_depend_on_secrets(load):
    text = "target: {provider: azure, headers: {api-key: '${K}'}}"
    assert load(text, K="hunter22").hash == load(text, K="swordfish").hash


def test_a_literal_url_query_is_redacted(load):
    resolved = load("target: {provider: custom, url: 'wss://h/p?model=m&tenant=t1'}").resolved()
    assert resolved["target"]["url"] == "wss://h/p?model=m&tenant=***"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("load:\n  sessions: ${MY_KEY}", id="number"),
        pytest.param("target:\n  provider: ${MY_KEY}", id="word"),
        pytest.param("gates: ${MY_KEY}", id="list"),
        pytest.param("name: ${MY_KEY}/", id="pattern"),
        pytest.param("target: {provider: azure, headers: {api-key: [hunter22]}}", id="list in a header"),
        pytest.param("target: {provider: azure, headers: {api-key: 22334455}}", id="number in a header"),
    ],
)
def test_a_message_does_not_repeat_a_secret(problems, text):
    for problem in problems(text, MY_KEY="hunter22"):
        assert "hunter22" not in problem
        assert "22334455" not in problem


@settings(deadline=None)  # the machine may be busy with others
@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=6))
def test_no_secret_comes_out_again(tmp_path_factory, secret):
    path = tmp_path_factory.getbasetemp() / "secret.yaml"
    # No header can carry other letters, and such a scenario is refused.
    headers = '{Authorization: "Bearer ${MY_KEY}", x-any: "${MY_KEY}"}' if secret.isascii() else "{}"
    path.write_text(
        "target:\n"
        "  provider: custom\n"
        "  url: wss://h/p?api-key=${MY_KEY}&x=${MY_KEY}\n"
        f"  headers: {headers}\n"
        "  behaviour: {a: [{b: '${MY_KEY}'}]}\n"
        "dataset: d\n"
        'session: {instructions: "<${MY_KEY}>", tools: [{type: function, name: "${MY_KEY}"}]}\n'
        'labels: {a: "${MY_KEY}"}\n'
    )
    scenario = load_scenario(path, env={"MY_KEY": secret})
    for text in _texts(scenario.resolved()):
        assert secret not in text.replace("${MY_KEY}", "")


def _texts(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
