"""What is dialled, and with which kind of credential."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rteval.cli import app
from rteval.errors import ScenarioError
from rteval.targets import PROVIDERS, target_address

AZURE = {"provider": "azure", "endpoint": "https://x.openai.azure.com", "deployment": "d"}
OPENAI = {"provider": "openai", "model": "gpt-realtime"}


@pytest.fixture
def dial(load):
    """The address of a target that is given as a mapping."""

    def dial(target, **env):
        return target_address(load(sets=[f"target={target!r}"], **env), env)

    return dial


@pytest.fixture
def refusal(dial):
    """What is said of a target that cannot be dialled."""

    def refusal(target, **env):
        with pytest.raises(ScenarioError) as caught:
            dial(target, **env)
        assert caught.value.exit_code == 2
        return str(caught.value)

    return refusal


@pytest.mark.parametrize(
    ("target", "url"),
    [
        pytest.param(AZURE, "wss://x.openai.azure.com/openai/v1/realtime?model=d", id="azure ga"),
        pytest.param(
            {**AZURE, "dialect": "preview", "api_version": "2024-12-17"},
            "wss://x.openai.azure.com/openai/realtime?api-version=2024-12-17&deployment=d",
            id="azure preview",
        ),
        pytest.param(
            {**AZURE, "dialect": "preview"},
            "wss://x.openai.azure.com/openai/realtime?api-version=2025-04-01-preview&deployment=d",
            id="azure preview, version left out",
        ),
        pytest.param(
            {"provider": "azure", "endpoint": AZURE["endpoint"], "model": "m"},
            "wss://x.openai.azure.com/openai/v1/realtime?model=m",
            id="azure, model for deployment",
        ),
        pytest.param(
            {**AZURE, "model": "m"}, "wss://x.openai.azure.com/openai/v1/realtime?model=d", id="deployment before model"
        ),
        pytest.param(
            {**AZURE, "deployment": "a b&c=/ä"},
            "wss://x.openai.azure.com/openai/v1/realtime?model=a%20b%26c%3D%2F%C3%A4",
            id="quoted",
        ),
        pytest.param(OPENAI, "wss://api.openai.com/v1/realtime?model=gpt-realtime", id="openai ga"),
        pytest.param(
            {**OPENAI, "dialect": "preview"}, "wss://api.openai.com/v1/realtime?model=gpt-realtime", id="openai preview"
        ),
        pytest.param(
            {**OPENAI, "endpoint": "https://eu.api.openai.com/v1"},
            "wss://eu.api.openai.com/v1/realtime?model=gpt-realtime",
            id="openai elsewhere",
        ),
        pytest.param(
            {"provider": "custom", "url": "ws://h:1/any/path?x=1&y"},
            "ws://h:1/any/path?x=1&y",
            id="custom as it stands",
        ),
        pytest.param({"provider": "simulator"}, "ws://127.0.0.1:0/openai/v1/realtime?model=simulator", id="simulator"),
        pytest.param(
            {"provider": "simulator", "dialect": "preview", "deployment": "d", "api_version": "v"},
            "ws://127.0.0.1:0/openai/realtime?api-version=v&deployment=d",
            id="simulator preview",
        ),
        pytest.param(
            {**AZURE, "provider": "simulator"},
            "ws://127.0.0.1:0/openai/v1/realtime?model=d",
            id="simulator does not dial the endpoint of another provider",
        ),
    ],
)
def test_the_address_of_each_provider_and_dialect(dial, target, url):
    assert dial(target).url == url


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        pytest.param("https://x.openai.azure.com/", "wss://x.openai.azure.com", id="slash at the end"),
        pytest.param("https://x.openai.azure.com//", "wss://x.openai.azure.com", id="slashes at the end"),
        pytest.param("https://x.openai.azure.com/openai", "wss://x.openai.azure.com", id="path of the older API"),
        pytest.param("https://x.openai.azure.com/openai/v1/", "wss://x.openai.azure.com", id="path of the API"),
        pytest.param("wss://x.openai.azure.com", "wss://x.openai.azure.com", id="wss"),
        pytest.param("HTTPS://x.openai.azure.com", "wss://x.openai.azure.com", id="capitals"),
        pytest.param("https://gate.example.org/team/a", "wss://gate.example.org/team/a", id="path of a gateway"),
        pytest.param("http://127.0.0.1:80", "ws://127.0.0.1:80", id="http on loopback"),
        pytest.param("ws://localhost:80", "ws://localhost:80", id="ws on loopback"),
    ],
)
def test_an_endpoint_is_taken_in_all_its_spellings(dial, endpoint, base):
    assert dial({**AZURE, "endpoint": endpoint}).url == f"{base}/openai/v1/realtime?model=d"


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        pytest.param("x.openai.azure.com", "is no address; it starts with https://", id="no scheme"),
        pytest.param("ftp://x.openai.azure.com", "is no address; it starts with https://", id="other scheme"),
        pytest.param("https://", "is no address; it starts with https://", id="no host"),
        pytest.param("https://x:port", "is no address", id="port that is none"),
        pytest.param("https://x.openai.azure.com/?api-version=1", "holds a query; give the address", id="query"),
        pytest.param(
            "https://x.openai.azure.com/openai/realtime", "holds the path /openai/realtime; give the", id="whole path"
        ),
        pytest.param("https://x.services.ai.azure.com/api/projects/p", "holds the path /api/projects/p", id="project"),
        pytest.param("https://x.openai.azure.com/openai/deployments/d", "holds the path", id="deployment"),
        pytest.param("https://u@x.openai.azure.com", "holds a user name", id="user name"),
        pytest.param("http://x.openai.azure.com", "an Entra ID token would go to x.openai.azure.com in the", id="http"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(refusal, endpoint, sentence):
    said = refusal({"provider": "azure", "deployment": "d"}, AZURE_OPENAI_ENDPOINT=endpoint)
    assert "target.endpoint: " in said
    assert sentence in said


@pytest.mark.parametrize(
    "url",
    ["https://h/p", "ws:///p", "h/p", "wss://h:0/p", "wss://h:x/p"],
    ids=["https", "no host", "none", "port 0", "port"],
)
def test_a_custom_url_is_a_whole_websocket_address(refusal, url):
    assert "target.url: expected a whole address" in refusal({"provider": "custom", "url": url})


@pytest.mark.parametrize(
    ("target", "env", "auth", "key_env"),
    [
        pytest.param(AZURE, {"AZURE_OPENAI_API_KEY": "k"}, "api_key", "AZURE_OPENAI_API_KEY", id="azure with a key"),
        pytest.param(AZURE, {}, "entra", None, id="azure without a key"),
        pytest.param(AZURE, {"AZURE_OPENAI_API_KEY": " "}, "entra", None, id="azure with an empty variable"),
        pytest.param({**AZURE, "api_key_env": "MINE"}, {"MINE": "k"}, "api_key", "MINE", id="azure, variable named"),
        pytest.param(
            {**AZURE, "api_key_env": "MINE"}, {"AZURE_OPENAI_API_KEY": "k"}, "entra", None, id="the named one counts"
        ),
        pytest.param(
            {**AZURE, "auth": "entra"}, {"AZURE_OPENAI_API_KEY": "k"}, "entra", None, id="entra in spite of it"
        ),
        pytest.param({**AZURE, "auth": "api_key"}, {}, "api_key", "AZURE_OPENAI_API_KEY", id="a key in spite of none"),
        pytest.param(OPENAI, {}, "api_key", "OPENAI_API_KEY", id="openai"),
        pytest.param({**OPENAI, "auth": "none"}, {"OPENAI_API_KEY": "k"}, "none", None, id="nothing wanted"),
        pytest.param({"provider": "simulator"}, {"AZURE_OPENAI_API_KEY": "k"}, "none", None, id="simulator"),
        pytest.param({"provider": "custom", "url": "wss://h"}, {"OPENAI_API_KEY": "k"}, "none", None, id="custom"),
        pytest.param(
            {"provider": "custom", "url": "wss://h", "auth": "api_key", "api_key_env": "K"},
            {},
            "api_key",
            "K",
            id="custom key",
        ),
        pytest.param({"provider": "simulator", "auth": "entra"}, {}, "entra", None, id="simulator with a token"),
    ],
)
def test_the_kind_of_credential(dial, target, env, auth, key_env):
    address = dial(target, **env)
    assert (address.auth, address.api_key_env) == (auth, key_env)


@pytest.mark.parametrize(
    ("target", "header"),
    [
        pytest.param(AZURE, "api-key", id="azure"),
        pytest.param(OPENAI, "bearer", id="openai"),
        pytest.param({"provider": "simulator"}, "api-key", id="simulator"),
        pytest.param({"provider": "custom", "url": "wss://h"}, "bearer", id="custom"),
        pytest.param({**AZURE, "auth_header": "bearer"}, "bearer", id="as asked"),
    ],
)
def test_how_a_key_is_sent(dial, target, header):
    assert dial(target).auth_header == header


def test_the_variables_of_the_vendors_samples_are_read(dial):
    env = {
        "AZURE_OPENAI_ENDPOINT": "https://e.openai.azure.com",
        "AZURE_OPENAI_DEPLOYMENT_NAME": "dep",
        "AZURE_OPENAI_API_KEY": "hunter22",
        "OPENAI_API_VERSION": "2024-12-17",
    }
    address = dial({"provider": "azure", "dialect": "preview"}, **env)
    assert address.url == "wss://e.openai.azure.com/openai/realtime?api-version=2024-12-17&deployment=dep"
    assert address.described() == (
        "azure, dialect preview: wss://e.openai.azure.com/openai/realtime?api-version=2024-12-17&deployment=dep, "
        "key in AZURE_OPENAI_API_KEY as api-key (deployment from AZURE_OPENAI_DEPLOYMENT_NAME, "
        "api-version from OPENAI_API_VERSION, endpoint from AZURE_OPENAI_ENDPOINT)"
    )
    said = dial({**AZURE, "dialect": "preview", "api_version": "2025-04-01-preview"}, **env)
    assert (said.url.split("?")[1], said.sources) == ("api-version=2025-04-01-preview&deployment=d", ())
    assert dial(AZURE, OPENAI_API_VERSION="2024-12-17").url.endswith("/openai/v1/realtime?model=d")


def test_all_that_is_missing_is_named_together(refusal):
    assert refusal({"provider": "azure"}).splitlines() == [
        "--set target: target.deployment: is required with provider: azure, or set AZURE_OPENAI_DEPLOYMENT_NAME",
        "  --set target: target.endpoint: is required with provider: azure, e.g. https://NAME.openai.azure.com; "
        "or set AZURE_OPENAI_ENDPOINT",
    ]
    assert refusal({"provider": "openai"}) == "--set target: target.model: is required with provider: openai"


@pytest.mark.parametrize(
    ("target", "what"),
    [
        pytest.param({**AZURE, "endpoint": "http://h"}, "an Entra ID token", id="token"),
        pytest.param({**AZURE, "endpoint": "ws://10.0.0.1", "auth": "api_key"}, "a key", id="key"),
        pytest.param(
            {"provider": "custom", "url": "ws://h", "headers": {"Authorization": "Bearer ${K}"}},
            "a credential in target.headers",
            id="header",
        ),
        pytest.param(
            {"provider": "custom", "url": "ws://h/?model=m&api-key=${K}"}, "a credential in the query", id="query"
        ),
    ],
)
def test_a_credential_goes_in_the_clear_to_loopback_only(refusal, target, what):
    assert f"{what} would go to" in refusal(target, K="hunter22")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1:80", "localhost:80", "a.localhost", "[::1]:80"])
def test_loopback_may_have_credentials_in_the_clear(dial, host):
    assert dial({**AZURE, "endpoint": f"http://{host}"}).url.startswith(f"ws://{host}/")


def test_plain_ws_without_a_credential_goes_anywhere(dial):
    assert dial({"provider": "custom", "url": "ws://example.org/p"}).auth == "none"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        pytest.param({**AZURE, "auth": "api_key"}, "API-Key", id="key"),
        pytest.param({**AZURE, "auth": "entra"}, "authorization", id="token"),
        pytest.param({**OPENAI}, "Authorization", id="bearer key"),
    ],
)
def test_a_header_that_is_ours_to_set_is_refused(refusal, target, header):
    said = refusal({**target, "headers": {header: "${K}"}}, K="hunter22")
    assert f"target.headers.{header}: is also set by auth" in said


def test_headers_are_the_scenarios_and_the_providers(dial):
    address = dial({**OPENAI, "dialect": "preview", "headers": {"x-a": "1"}})
    assert address.headers == {"OpenAI-Beta": "realtime=v1", "x-a": "1"}
    assert dial(OPENAI).headers == {}


def test_the_embedded_server_fills_in_where_it_listens(dial):
    address = dial({"provider": "simulator"})
    assert address.embedded
    assert address.described() == "simulator, dialect ga: embedded server, no credential"
    listening = address.at("wss://127.0.0.1:40123")
    assert listening.url == "wss://127.0.0.1:40123/openai/v1/realtime?model=simulator"
    assert "wss://127.0.0.1:40123/" in listening.described()


def test_an_address_does_not_show_its_secrets(dial):
    address = dial(
        {
            "provider": "custom",
            "url": "wss://h/p?api-key=${K}&model=m",
            "headers": {"x-key": "${K}"},
            "proxy": "http://u:${K}@p:1",
        },
        K="hunter22",
    )
    assert "hunter22" in address.url
    for text in (repr(address), address.shown, address.described()):
        assert "hunter22" not in text
    assert address.shown == "wss://h/p?api-key=***&model=m"


def test_the_process_environment_is_the_default(load, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://e.openai.azure.com")
    scenario = load("target: {provider: azure, deployment: d, auth: entra}")
    assert target_address(scenario).url.startswith("wss://e.openai.azure.com/")


def test_every_provider_is_described_by_data(load):
    for name in PROVIDERS:
        url = ", url: wss://h" if name == "custom" else ""
        assert load(f"target: {{provider: {name}{url}}}").target.provider == name


@pytest.mark.parametrize(("key", "doubts"), [("", 1), ("a-key-of-a-test", 0)], ids=["unset", "set"])
def test_check_says_that_a_key_is_not_there(monkeypatch, key, doubts):
    monkeypatch.setenv("KEY_OF_A_TEST", key)
    scenario = str(Path(__file__).parents[2] / "scenarios" / "smoke.yaml")
    target = "{provider: openai, model: m, api_key_env: KEY_OF_A_TEST}"
    result = CliRunner().invoke(app, ["check", scenario, "--set", f"target={target}", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)["doubts"]
    assert [sentence for sentence in told if sentence.startswith("KEY_OF_A_TEST is not set here")] == told[:doubts]
    assert key == "" or key not in result.output
