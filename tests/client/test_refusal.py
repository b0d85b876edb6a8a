"""A refusal becomes a sentence that says which it was, and a hint that says what to do."""

from __future__ import annotations

import json

import pytest

from rteval.client.refusal import explain_error_code, explain_refusal

ENTRA = "entra (DefaultAzureCredential: AzureCliCredential)"
KEY = "api_key (AZURE_OPENAI_API_KEY)"
GA = "wss://r.openai.azure.com/openai/v1/realtime?model=m"
LEFT_ON = f"{GA}&api-version=2024-10-01-preview"
MOVED = "https://x.azure.com/openai/v1/realtime?k=v"


def azure(code: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})


LACKING = (
    "The principal `1b4e28ba` lacks the required data action "
    "`Microsoft.CognitiveServices/accounts/OpenAI/deployments/realtime/action` to perform `GET /openai/realtime`."
)

CASES = [
    # status, body, credential, provider, what else is known, words of the sentence, words of the hint
    (401, azure("401", "Access denied"), KEY, "azure", {}, "refused the API key", "belongs to", "bad key"),
    (401, azure("401", "x"), ENTRA, "azure", {}, "refused the Entra ID token", "OpenAI User", "bad token"),
    (401, "", "none", "azure", {}, "none was sent", "target.auth", "no credential"),
    (401, azure("PermissionDenied", LACKING), ENTRA, "azure", {}, "lacks a role", "OpenAI User", "missing role, 401"),
    (
        401,
        "",
        KEY,
        "azure",
        {"url": LEFT_ON},
        "api-version on the GA address",
        "remove api-version",
        "api-version on GA",
    ),
    (401, "", KEY, "azure", {"url": GA}, "refused the API key", "key", "GA address as it should be"),
    (401, "", KEY, "openai", {}, "refused the API key", "this service", "bad key of another service"),
    (403, azure("403", LACKING), ENTRA, "azure", {}, "lacks a role", "OpenAI User", "missing role, 403"),
    (403, "", ENTRA, "azure", {}, "lacks a role", "OpenAI User", "403 without a body"),
    (
        403,
        azure("403", "Public access is disabled."),
        KEY,
        "azure",
        {},
        "this network",
        "network rules",
        "network rule",
    ),
    (403, azure("AuthenticationTypeDisabled", "x"), KEY, "azure", {}, "does not take keys", "entra", "keys disabled"),
    (403, "", KEY, "openai", {}, "does not allow", "project", "403 with a key"),
    (403, "", "none", "custom", {}, "none was sent", "target.auth", "403 without a credential"),
    (404, azure("DeploymentNotFound", "x"), KEY, "azure", {}, "no such deployment", "target.deployment", "deployment"),
    (404, azure("model_not_found", "x"), KEY, "openai", {}, "no such model", "target.model", "model"),
    (404, "", KEY, "azure", {}, "nothing at this address", "api_version", "wrong path on Azure"),
    (404, "", KEY, "custom", {}, "nothing at this address", "target.url", "wrong path elsewhere"),
    (400, azure("BadRequest", "api-version"), KEY, "azure", {}, "did not accept", "api_version", "retired api-version"),
    (407, "", KEY, "azure", {}, "proxy", "target.proxy", "proxy"),
    (429, azure("429", "x"), KEY, "azure", {"retry_after_s": 12.0}, "wait 12 s", "load.sessions", "quota"),
    (429, None, KEY, "azure", {}, "out of quota (HTTP 429)", "quota", "quota without retry-after"),
    (431, "", KEY, "azure", {}, "too many request headers", "ten", "headers"),
    (302, "", KEY, "azure", {"location": MOVED}, "redirected us to x.azure.com/openai", "dialect: ga", "redirect"),
    (307, "", KEY, "azure", {}, "redirected us, which is not followed", "ga", "redirect to nowhere"),
    (503, "<html>busy</html>", KEY, "azure", {}, "trouble of its own (HTTP 503)", "later", "503 as HTML"),
    (200, "hello", KEY, "custom", {}, "not as a realtime endpoint", "target.url", "200 instead of 101"),
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "provider", "more", "said", "cure"),
    [pytest.param(*case[:-1], id=case[-1]) for case in CASES],
)
def test_each_refusal_has_its_sentence_and_its_cure(status, body, kind, provider, more, said, cure):
    sentence, hint = explain_refusal(status, body, kind, provider, **more)
    assert said in sentence
    assert f"HTTP {status}" in sentence
    assert cure in (hint or "")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        pytest.param(b'{"error": {"code": "X1", "message": "says azure"}}', "X1: says azure", id="Azure"),
        pytest.param('{"statusCode": 418, "message": "says a gateway"}', "(HTTP 418, says a gateway", id="gateway"),
        pytest.param('{"error": "flat"}', "flat", id="flat error"),
        pytest.param('{"error": {"type": "t", "message": null}}', "t", id="type only"),
        pytest.param("plain words", "plain words", id="text"),
        pytest.param(b"\xff\xfe", "�", id="not UTF-8"),
        pytest.param("[1, 2]", "HTTP 418)", id="another JSON value"),
        pytest.param("", "HTTP 418)", id="empty"),
        pytest.param(None, "HTTP 418)", id="none"),
        pytest.param('{"error": {"message": "a\\n b"}}', "a b", id="line breaks"),
        pytest.param('{"message": "' + "word " * 200 + '"}', "…", id="long"),
    ],
)
def test_the_body_is_read_in_every_shape(body, shown):
    sentence, _ = explain_refusal(418, body, KEY, "azure")
    assert shown in sentence
    assert len(sentence) < 400


def test_a_secret_that_the_target_echoes_is_not_repeated():
    """Not even its first half, where the message was shortened in its middle."""
    secret = "Zq" * 60
    for padding in range(0, 260, 20):
        body = azure("401", f"{'x' * padding} invalid key {secret}")
        sentence, hint = explain_refusal(401, body, KEY, "azure", secrets=[secret])
        assert "ZqZqZqZq" not in f"{sentence} {hint}"


def test_a_redirect_shows_no_query():
    sentence, _ = explain_refusal(302, "", KEY, "azure", location="https://h/p?api-key=abcdef123456")
    assert "abcdef123456" not in sentence


@pytest.mark.parametrize(
    ("code", "kind", "said", "cure"),
    [
        pytest.param("invalid_api_key", KEY, "refused the API key of AZURE_OPENAI_API_KEY", "revoked", id="key"),
        pytest.param("invalid_api_key", "none", "none was sent", "key", id="no key"),
        pytest.param("beta_api_shape_disabled", KEY, "preview dialect", "dialect: ga", id="retired dialect"),
        pytest.param("missing_model", KEY, "which model", "target.model", id="no model"),
        pytest.param("invalid_model", KEY, "does not offer", "target.model", id="invalid model"),
        pytest.param("model_not_found", KEY, "does not know", "target.model", id="unknown model"),
        pytest.param("rate_limit_exceeded", KEY, "quota", "load.sessions", id="quota"),
        pytest.param("insufficient_quota", KEY, "no credit", "billing", id="credit"),
        pytest.param("brand_new_code", KEY, "before it was ready", "", id="unknown code"),
    ],
)
def test_a_refusal_after_the_upgrade_has_its_sentence_too(code, kind, said, cure):
    sentence, hint = explain_error_code(code, "Incorrect API key provided: sk-abcd1234efgh5678.", kind, "openai")
    assert said in sentence
    assert sentence.startswith("OpenAI ")
    assert code in sentence
    assert cure in (hint or "")
    assert "abcd1234" not in sentence
