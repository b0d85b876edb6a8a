"""Credentials: which is chosen, what it sends, and that a run fetches one token and not a thousand."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from identity_endpoint import IdentityEndpoint

from rteval.client.auth import DEFAULT_SCOPE, ApiKey, Credential, EntraToken, choose_credential, default_auth
from rteval.errors import RefusedError

KEY = "4f1c9a7e0b3d4c6f8a2e5d7b9c0f1a3e"


def choose(**changes: Any) -> Credential:
    arguments: dict[str, Any] = {
        "auth": "api_key",
        "api_key_env": "AZURE_OPENAI_API_KEY",
        "auth_header": "api-key",
        "scope": DEFAULT_SCOPE,
        "env": {"AZURE_OPENAI_API_KEY": KEY},
    }
    return choose_credential(**arguments | changes)


@pytest.mark.parametrize(
    ("changes", "headers", "kind", "secrets"),
    [
        pytest.param({}, {"api-key": KEY}, "api_key (AZURE_OPENAI_API_KEY)", (KEY,), id="key as api-key"),
        pytest.param(
            {"auth_header": "bearer"},
            {"Authorization": f"Bearer {KEY}"},
            "api_key (AZURE_OPENAI_API_KEY)",
            (KEY,),
            id="key as Bearer",
        ),
        pytest.param(
            {"api_key_env": "MINE", "env": {"MINE": f" {KEY}\n"}},
            {"api-key": KEY},
            "api_key (MINE)",
            (KEY,),
            id="blanks around a key are not part of it",
        ),
        pytest.param({"auth": "none"}, {}, "none", (), id="nothing"),
    ],
)
def test_a_credential_sends_the_headers_of_its_kind(changes, headers, kind, secrets):
    credential = choose(**changes)
    asyncio.run(credential.prepare())
    assert asyncio.run(credential.headers()) == headers
    assert credential.kind == kind
    assert credential.secrets() == secrets
    credential.close()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        pytest.param({}, ["AZURE_OPENAI_API_KEY is not set"], id="unset"),
        pytest.param({"AZURE_OPENAI_API_KEY": "  "}, ["AZURE_OPENAI_API_KEY is not set"], id="blank"),
        pytest.param({"AZURE_OPENAI_API_KEY": "se cret-1"}, ["AZURE_OPENAI_API_KEY", "blanks"], id="blank inside"),
        pytest.param({"AZURE_OPENAI_API_KEY": "secret\r\nX-Evil: 1"}, ["line breaks"], id="header injection"),
        pytest.param({"AZURE_OPENAI_API_KEY": "sécret-1"}, ["no HTTP header"], id="not ASCII"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_with_its_variable_and_not_its_value(env, words):
    with pytest.raises(RefusedError) as caught:
        choose(env=env)
    assert caught.value.exit_code == 3
    assert "AZURE_OPENAI_API_KEY" in (caught.value.hint or "")
    for word in words:
        assert word in str(caught.value)
    for value in env.values():
        assert not value.strip() or value not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("provider", "env", "auth"),
    [
        pytest.param("azure", {"K": "x"}, "api_key", id="azure with a key"),
        pytest.param("azure", {}, "entra", id="azure without"),
        pytest.param("azure", {"K": " "}, "entra", id="azure with a blank key"),
        pytest.param("openai", {}, "api_key", id="openai"),
        pytest.param("custom", {"K": "x"}, "none", id="custom"),
        pytest.param("simulator", {"K": "x"}, "none", id="simulator"),
    ],
)
def test_a_scenario_that_names_no_credential_gets_its_providers_usual_one(provider, env, auth):
    assert default_auth(provider, "K", env) == auth


def test_no_secret_in_repr():
    credentials = [choose(), choose(auth="entra"), choose(auth="none"), ApiKey(KEY, variable="K", header="bearer")]
    assert KEY not in repr(credentials) + str(credentials)


# Entra ID, against a real managed-identity endpoint


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityEndpoint]:
    clear_azure(monkeypatch)
    with IdentityEndpoint() as endpoint:
        for name, value in endpoint.env.items():
            monkeypatch.setenv(name, value)
        yield endpoint


def clear_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own login must not decide a test."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_", "IMDS_")):
            monkeypatch.delenv(name)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_token_comes_from_the_managed_identity_and_for_the_scope(identity):
    entra = choose(auth="entra", scope="https://ai.azure.com/.default")

    async def scene() -> dict[str, str]:
        await entra.prepare()
        return await entra.headers()

    headers = asyncio.run(scene())
    entra.close()
    assert headers == bearer(identity.tokens[0])
    assert identity.resources == ["https://ai.azure.com"]
    assert entra.kind == "entra (DefaultAzureCredential: ManagedIdentityCredential)"
    assert entra.secrets() == (identity.tokens[0],)
    assert identity.tokens[0] not in repr(entra)


def test_a_thousand_sessions_make_one_request(identity):
    identity.delay_s = 0.1
    entra = EntraToken()

    async def scene() -> list[dict[str, str]]:
        return await asyncio.gather(*(entra.headers() for _ in range(1000)))

    headers = asyncio.run(scene())
    entra.close()
    assert headers == [bearer(identity.tokens[0])] * 1000
    assert identity.requests == 1


class Clock:
    """The wall clock, moved at will."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is watched belongs to another thread
            await asyncio.sleep(0.005)


def test_a_token_near_its_end_is_renewed_in_the_background_once(identity):
    """Sessions go on with the old token; a thousand of them start one request."""
    identity.expires_in_s = 200  # below the five minutes from the start
    entra = EntraToken()

    async def scene() -> None:
        await entra.prepare()
        identity.expires_in_s = 3600
        identity.delay_s = 0.05
        assert await asyncio.gather(*(entra.headers() for _ in range(1000))) == [bearer(identity.tokens[0])] * 1000
        await until(lambda: len(entra.secrets()) == 2)
        assert await entra.headers() == bearer(identity.tokens[1])

    asyncio.run(scene())
    entra.close()
    assert identity.requests == 2
    assert entra.secrets() == tuple(identity.tokens)


def test_a_fresh_token_is_not_renewed(identity):
    entra = EntraToken()

    async def scene() -> None:
        for _ in range(3):
            await entra.headers()

    asyncio.run(scene())
    entra.close()
    assert identity.requests == 1


def test_a_failed_renewal_keeps_the_old_token_and_warns_once(identity, caplog):
    identity.expires_in_s = 200
    warnings: list[str] = []
    clock = Clock()
    entra = EntraToken(warn=warnings.append, now=clock)

    async def scene() -> None:
        await entra.prepare()
        identity.refuse(400, "the identity was removed")
        for requests in (2, 3):
            assert await entra.headers() == bearer(identity.tokens[0])
            await until(lambda requests=requests: identity.requests == requests and entra._fetch is None)
            assert await entra.headers() == bearer(identity.tokens[0])
            await asyncio.sleep(0)
            assert entra._fetch is None, "a failed request is not repeated at once"
            clock.ahead_s += 20
        identity.recover()
        identity.expires_in_s = 3600
        assert await entra.headers() == bearer(identity.tokens[0])
        await until(lambda: len(entra.secrets()) == 2)
        assert await entra.headers() == bearer(identity.tokens[1])

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scene())
    entra.close()
    assert len(warnings) == 1
    assert "could not be renewed" in warnings[0]
    assert "the identity was removed" in warnings[0]
    for secret in [*identity.tokens, identity.secret]:
        assert secret not in caplog.text + "".join(warnings)


def test_when_the_token_has_ended_and_no_new_one_comes_sessions_are_refused_without_a_storm(identity):
    clock = Clock()
    entra = EntraToken(warn=lambda _: None, now=clock)

    async def scene() -> list[BaseException | dict[str, str]]:
        await entra.prepare()
        clock.ahead_s = 3601
        identity.refuse()
        first = await asyncio.gather(*(entra.headers() for _ in range(100)), return_exceptions=True)
        again = await asyncio.gather(*(entra.headers() for _ in range(100)), return_exceptions=True)
        return [*first, *again]

    outcomes = asyncio.run(scene())
    entra.close()
    assert {type(outcome) for outcome in outcomes} == {RefusedError}
    assert identity.requests <= 2


def test_a_cancelled_session_leaves_the_others_their_token(identity):
    identity.delay_s = 0.1
    entra = EntraToken()

    async def scene() -> dict[str, str]:
        first = asyncio.create_task(entra.headers())
        second = asyncio.create_task(entra.headers())
        await until(lambda: entra._fetch is not None)
        first.cancel()
        return await second

    assert asyncio.run(scene()) == bearer(identity.tokens[0])
    entra.close()
    assert identity.requests == 1


def test_a_refused_identity_is_a_sentence_with_exit_code_3(identity, caplog):
    identity.refuse(400, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId")
    entra = choose(auth="entra")
    with caplog.at_level(logging.DEBUG), pytest.raises(RefusedError) as caught:
        asyncio.run(entra.prepare())
    entra.close()
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "ManagedIdentityCredential" in message
    assert "No User Assigned or Delegated Managed Identity found" in message
    assert "\n" not in message
    assert "az login" in (caught.value.hint or "")
    assert "Cognitive Services OpenAI User" in (caught.value.hint or "")
    assert identity.secret not in f"{message} {caught.value.hint} {caplog.text}"


def test_without_any_login_every_credential_that_was_tried_is_named(identity, monkeypatch, tmp_path):
    """Nothing configured, no tool on the path, and a metadata service that knows no identity."""
    metadata = identity.url.removesuffix("/msi/token")
    identity.refuse(400, "Identity not found")
    clear_azure(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata)
    entra = choose(auth="entra")
    with pytest.raises(RefusedError) as caught:
        asyncio.run(entra.prepare())
    entra.close()
    message = str(caught.value)
    for name in ("EnvironmentCredential", "ManagedIdentityCredential", "AzureCliCredential"):
        assert name in message
    assert "http" not in message
    assert len(message) < 1200


def test_an_unusable_setting_of_azure_identity_is_a_sentence(monkeypatch):
    clear_azure(monkeypatch)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "Nonsense")
    entra = choose(auth="entra")
    with pytest.raises(RefusedError, match="AZURE_TOKEN_CREDENTIALS"):
        asyncio.run(entra.prepare())
    entra.close()


class Issuer:
    """Stands where azure-identity stands, for what a real endpoint cannot be made to do."""

    def __init__(self, *answers: SimpleNamespace | Exception) -> None:
        self.answers = list(answers)
        self.threads: set[int] = set()

    def get_token(self, *scopes: str) -> SimpleNamespace:
        self.threads.add(threading.get_ident())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        raise OSError("already closed")


def test_a_renewal_that_brings_the_same_token_waits_before_it_asks_again():
    token = SimpleNamespace(token="the-only-token", expires_on=time.time() + 100)
    issuer = Issuer(token, token)
    entra = EntraToken(credential=lambda: issuer)

    async def scene() -> None:
        await entra.prepare()
        await entra.headers()
        await until(lambda: not issuer.answers and entra._fetch is None)
        assert await entra.headers() == bearer("the-only-token")
        assert entra._fetch is None

    asyncio.run(scene())
    entra.close()


def test_a_token_that_is_already_dead_is_refused_and_blames_the_clock():
    dead = SimpleNamespace(token="dead-token", expires_on=time.time() - 5)
    entra = EntraToken(credential=lambda: Issuer(dead))
    with pytest.raises(RefusedError, match="already expired") as caught:
        asyncio.run(entra.prepare())
    assert "clock" in (caught.value.hint or "")


def test_the_reason_of_a_failed_login_is_scrubbed():
    error = RuntimeError("POST https://login/token?client_secret=hunter2hunter2 failed for eyJhbGciOi.eyJzdWIi.sig")
    entra = EntraToken(credential=lambda: Issuer(error))
    with pytest.raises(RefusedError) as caught:
        asyncio.run(entra.prepare())
    assert "hunter2" not in str(caught.value)
    assert "eyJ" not in str(caught.value)


def test_an_identity_service_that_hangs_is_left_alone(monkeypatch):
    """Neither the caller nor the end of the event loop waits for the thread."""
    monkeypatch.setattr("rteval.client.auth.FETCH_TIMEOUT_S", 0.05)
    release = threading.Event()

    class Hanging(Issuer):
        def get_token(self, *scopes: str) -> SimpleNamespace:
            release.wait(30)
            raise RuntimeError("too late")

    entra = EntraToken(credential=Hanging)
    with pytest.raises(RefusedError, match="did not answer"):
        asyncio.run(entra.prepare())
    release.set()


def test_azure_identity_is_called_off_the_event_loops_thread():
    issuer = Issuer(SimpleNamespace(token="some-token", expires_on=time.time() + 3600))
    asyncio.run(EntraToken(credential=lambda: issuer).prepare())
    assert threading.get_ident() not in issuer.threads


def test_importing_auth_does_not_import_azure():
    """azure-identity costs 0.2 s, which only those who use a token should pay."""
    code = (
        "import sys, rteval.client.auth; sys.exit(any(name.split('.')[0] in ('azure', 'msal') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
