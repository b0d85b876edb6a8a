"""Who asks for the Entra ID token: each way in which a job without a stored secret logs in, against real endpoints."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from identity_endpoint import IdentityEndpoint
from login_authority import LoginAuthority

from rteval.client.auth import ASKERS, DEFAULT_SCOPE, EntraToken, choose_credential
from rteval.errors import RefusedError
from rteval.scenario import load_scenario
from rteval.scenario_model import Target
from rteval.station import find_credential
from rteval.targets import target_address

CLIENT = "11111111-2222-3333-4444-555555555555"
TOKEN = "token-of-the-authority"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The developer's own login must not decide a test."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "MSI_", "IMDS_", "SYSTEM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoginAuthority]:
    with LoginAuthority(tmp_path, TOKEN) as there:
        for name, value in there.env.items():
            monkeypatch.setenv(name, value)
        yield there


def logged_in(asker: str, scope: str = DEFAULT_SCOPE) -> tuple[dict[str, str], str]:
    """The headers that a target would get, and what ``run.json`` calls the credential."""
    entra = EntraToken(scope, asker=asker)

    async def scene() -> dict[str, str]:
        await entra.prepare()
        return await entra.headers()

    try:
        return asyncio.run(scene()), entra.kind
    finally:
        entra.close()


@pytest.mark.parametrize(
    "client_id", [pytest.param(None, id="of the machine"), pytest.param(CLIENT, id="user-assigned")]
)
def test_a_managed_identity_is_the_machines_own_or_the_one_that_AZURE_CLIENT_ID_names(client_id, monkeypatch):
    with IdentityEndpoint() as endpoint:
        for name, value in endpoint.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AZURE_TOKEN_CREDENTIALS")
        if client_id is not None:
            monkeypatch.setenv("AZURE_CLIENT_ID", client_id)
        headers, kind = logged_in("managed_identity")
        assert headers == {"Authorization": f"Bearer {endpoint.tokens[0]}"}
        assert endpoint.client_ids == [client_id]
        assert kind == "entra (ManagedIdentityCredential)"


def test_a_workload_identity_exchanges_the_token_in_its_file(authority, monkeypatch, tmp_path):
    file = tmp_path / "federated"
    file.write_text("assertion-of-the-pod")
    for name, value in {"CLIENT_ID": CLIENT, "TENANT_ID": "tenant-1", "FEDERATED_TOKEN_FILE": str(file)}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    headers, kind = logged_in("workload_identity")
    assert headers == {"Authorization": f"Bearer {TOKEN}"}
    assert authority.assertions == ["assertion-of-the-pod"]
    assert authority.clients == [CLIENT]
    assert DEFAULT_SCOPE in authority.scopes[0]
    assert kind == "entra (WorkloadIdentityCredential)"


def test_a_pipeline_asks_for_a_new_assertion_itself(authority, monkeypatch):
    """So that a run which outlives the first assertion (minutes) still gets its next token."""
    for name, value in {"CLIENT_ID": CLIENT, "TENANT_ID": "tenant-1", "SERVICE_CONNECTION_ID": "connection-1"}.items():
        monkeypatch.setenv(f"AZURESUBSCRIPTION_{name}", value)
    monkeypatch.setenv("SYSTEM_ACCESSTOKEN", "token-of-the-job")
    headers, kind = logged_in("azure_pipelines")
    assert headers == {"Authorization": f"Bearer {TOKEN}"}
    ((query, login),) = authority.oidc
    assert "serviceConnectionId=connection-1" in query
    assert login == "Bearer token-of-the-job"
    assert authority.assertions == ["assertion-of-the-job"]
    assert kind == "entra (AzurePipelinesCredential)"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for az is a script with a first line")
def test_the_azure_cli_is_asked_for_the_scope(monkeypatch, tmp_path):
    asked = tmp_path / "asked"
    answer = {"accessToken": TOKEN, "expires_on": int(time.time()) + 3600, "tokenType": "Bearer"}
    az = tmp_path / "az"
    az.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(asked)!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"print({json.dumps(answer)!r})\n"
    )
    az.chmod(az.stat().st_mode | stat.S_IXUSR)
    headers, kind = logged_in("azure_cli", "https://ai.azure.com/.default")
    assert headers == {"Authorization": f"Bearer {TOKEN}"}
    assert "get-access-token" in asked.read_text()
    assert "https://ai.azure.com" in asked.read_text()
    assert kind == "entra (AzureCliCredential)"


MISSING = [
    pytest.param("environment", "AZURE_CLIENT_ID and AZURE_TENANT_ID are not set", "AZURE_CLIENT_SECRET", id="none"),
    pytest.param(
        "workload_identity", "AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE are not set", "webhook", id="pod"
    ),
    pytest.param("azure_pipelines", "SYSTEM_ACCESSTOKEN", "System.AccessToken", id="pipeline"),
    pytest.param("azure_cli", "not found on path", "az login", id="az"),
    pytest.param("azure_developer_cli", "could not be found", "azd auth login", id="azd"),
    pytest.param("azure_powershell", "not installed", "Connect-AzAccount", id="powershell"),
]


@pytest.mark.parametrize(("asker", "words", "cure"), MISSING)
def test_who_cannot_ask_is_named_with_what_is_missing_and_the_cure(asker, words, cure, monkeypatch):
    if asker == "workload_identity":
        monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    with pytest.raises(RefusedError) as caught:
        logged_in(asker)
    assert str(caught.value).startswith(f"no Entra ID token from {ASKERS[asker].credential}: ")
    assert words in str(caught.value)
    assert cure in (caught.value.hint or "")
    assert 'the role "Cognitive Services OpenAI User"' in (caught.value.hint or "")


def test_half_a_service_principal_is_no_login(monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", "tenant-1")
    with pytest.raises(RefusedError, match="EnvironmentCredential: Environment variables are not fully configured"):
        logged_in("environment")


def test_the_scenario_offers_every_asker_and_no_other():
    literal, none = get_args(Target.model_fields["credential"].annotation)
    assert set(get_args(literal)) == set(ASKERS)
    assert none is type(None)


def test_azure_identity_has_every_asker():
    import azure.identity

    assert [asker.credential for asker in ASKERS.values() if not hasattr(azure.identity, asker.credential)] == []


AZURE = "provider: azure, endpoint: 'https://x.openai.azure.com', deployment: d"
CHOICES = [
    pytest.param(
        f"{AZURE}, credential: azure_cli", {"AZURE_OPENAI_API_KEY": "k" * 20}, "AzureCliCredential", id="azure"
    ),
    pytest.param(f"{AZURE}, credential: default", {}, "DefaultAzureCredential", id="the default chain"),
    pytest.param(f"{AZURE}, auth: entra", {}, "DefaultAzureCredential", id="not said"),
    pytest.param(
        "provider: custom, url: 'wss://h/p', credential: managed_identity", {}, "ManagedIdentityCredential", id="custom"
    ),
    pytest.param(
        "provider: simulator, auth: entra, credential: azure_cli", {}, "AzureCliCredential", id="simulator with a token"
    ),
    pytest.param("provider: simulator, credential: azure_cli", {}, None, id="unused by the simulator"),
]


@pytest.mark.parametrize(("target", "env", "credential"), CHOICES)
def test_who_is_named_asks_and_no_key_that_is_about_takes_its_place(target, env, credential, tmp_path):
    file = tmp_path / "s.yaml"
    dataset = Path(__file__).parents[2] / "datasets" / "prompts"
    file.write_text(f"target: {{{target}}}\ndataset: {dataset}\n")
    scenario = load_scenario(file, env=env)
    address = target_address(scenario, env)
    kind = find_credential(address, pytest.fail).kind
    assert kind == ("none" if credential is None else f"entra ({credential})")
    if credential is not None and scenario.target.credential not in (None, "default"):
        assert f"Entra ID token by {scenario.target.credential} (" in address.described()


def test_choose_credential_asks_by_default_whoever_has_a_token():
    chosen = choose_credential(auth="entra", api_key_env="", auth_header="bearer", scope=DEFAULT_SCOPE, env={})
    assert chosen.kind == "entra (DefaultAzureCredential)"


def test_an_asker_beside_a_key_is_a_contradiction(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(f"target: {{{AZURE}, auth: api_key, credential: azure_cli}}\ndataset: .\n")
    with pytest.raises(
        Exception, match=r"s\.yaml:1: target\.credential: asks for an Entra ID token, and target\.auth is"
    ):
        load_scenario(file, env={})
