"""No secret survives redaction; what is no secret stays readable."""

from __future__ import annotations

import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.redact import MARK, redact

KEY_ALPHABET = string.ascii_letters + string.digits
BASE64URL = KEY_ALPHABET + "-_"

# Azure keys are 32 or 84 characters, OpenAI's more; eight with a digit is the shortest that is known by its looks.
looks_secret = st.text(KEY_ALPHABET, min_size=8, max_size=90).map(lambda text: f"{text}7")
# MARK's own character cannot be told from a mark.
any_secret = st.text(st.characters(exclude_characters="*", exclude_categories=["Cs"]), min_size=4, max_size=40)
prose = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(before=prose, secret=any_secret, after=prose, others=st.lists(any_secret, max_size=3))
def test_a_known_secret_never_survives(before, secret, after, others):
    for spelling in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
        result = redact(f"{before}{spelling}{after}", [secret, *others])
        assert secret not in result
        assert spelling not in result


@given(secret=st.text("ab", min_size=4, max_size=6), other=st.text("ab", min_size=4, max_size=6), text=st.text("ab"))
def test_overlapping_secrets_leave_no_rest(secret, other, text):
    """Whatever letter belonged to one of them is gone."""
    result = redact(text, [secret, other])
    covered = {
        position
        for value in (secret, other)
        for start in range(len(text))
        if text.startswith(value, start)
        for position in range(start, start + len(value))
    }
    assert result.replace(MARK, "") == "".join(letter for at, letter in enumerate(text) if at not in covered)


WRAPPINGS = [
    pytest.param("Authorization: Bearer {}", id="authorization header"),
    pytest.param("authorization: {}", id="authorization without a scheme"),
    pytest.param("{{'Authorization': 'Bearer {}'}}", id="python dict"),
    pytest.param('{{"authorization":"Bearer {}"}}', id="JSON"),
    pytest.param("sent Bearer {} and was refused", id="Bearer in a sentence"),
    pytest.param("?Authorization=Bearer%20{}&x=1", id="Bearer in a query"),
    pytest.param("api-key: {}", id="api-key header"),
    pytest.param("{{'api-key': '{}'}}", id="api-key in a dict"),
    pytest.param("GET /openai/realtime?api-key={}&deployment=d", id="api-key in a path"),
    pytest.param("AZURE_OPENAI_API_KEY={}", id="environment"),
    pytest.param("OPENAI_API_KEY: '{}'", id="environment as YAML"),
    pytest.param("X-IDENTITY-HEADER: {}", id="identity header"),
    pytest.param("IDENTITY_HEADER={}", id="identity variable"),
    pytest.param('{{"access_token": "{}", "expires_on": "17"}}', id="token answer"),
    pytest.param('{{"token": "{}"}}', id="a field called token"),
    pytest.param("client_secret={}&grant_type=client_credentials", id="client secret"),
    pytest.param("realtime, openai-insecure-api-key.{}, openai-beta.realtime-v1", id="subprotocol"),
    pytest.param("wss://host/openai/realtime?anything={}", id="URL query"),
    pytest.param("https://host/p?a=1;b={}#end", id="URL query with a semicolon"),
    pytest.param("http://user:{}@host/", id="URL password"),
    pytest.param("ws://{}@host/", id="URL user"),
    pytest.param("key sk-{} was refused", id="sk- key"),
    pytest.param("value=ek_{}", id="ephemeral key"),
    pytest.param("token eyJhbGciOiJ{} is bad", id="torn JWT"),
    pytest.param("eyJhbGciOiJ9.eyJhdWQiOi{}.sig", id="JWT"),
]  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@given(secret=looks_secret, before=st.sampled_from(["", " ", "x ", '"', "\n"]))
def test_an_unknown_secret_is_found_by_its_looks(wrapping, secret, before):
    assert secret not in redact(before + wrapping.format(secret))


@given(parts=st.lists(st.text(BASE64URL, min_size=6), min_size=3, max_size=3))
def test_all_parts_of_a_web_token_go(parts):
    head, payload, signature = parts
    result = redact(f"refused eyJ0eXAi{head}.{payload}.{signature} by the target")
    assert result.startswith(f"refused {MARK}")
    assert result.endswith("by the target")
    assert "eyJ" not in result


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("Azure refused the API key of AZURE_OPENAI_API_KEY (HTTP 401)", id="a variable's name"),
        pytest.param("credential: api_key (AZURE_OPENAI_API_KEY)", id="kind of credential"),
        pytest.param("the Bearer token was refused", id="the word bearer"),
        pytest.param("usage: total_tokens=500, input_tokens: 300", id="token counts"),
        pytest.param("session sess_C9CTX8PwUp, item item_8PwUp23, event_aB", id="ids of the protocol"),
        pytest.param("wss://host.openai.azure.com/openai/v1/realtime", id="URL without a query"),
        pytest.param("a task-oriented risk-assessment", id="sk- inside a word"),
        pytest.param("sha256:0f343b0931126a20f133d67c2b018a3b", id="hash"),
        pytest.param("target.api_key_env, target.token_scope", id="names of keys"),
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text


def test_a_url_keeps_its_parameters_names_and_what_is_dialled():
    url = "wss://h/p?api-version=1&deployment=d&x=1&bare"
    assert redact(url) == f"wss://h/p?api-version=1&deployment=d&x={MARK}&{MARK}"


def test_a_known_secret_goes_wherever_it_stands():
    assert redact("wss://h/p?model=abcd1234", ["abcd1234"]) == f"wss://h/p?model={MARK}"


def test_a_value_too_short_to_be_a_secret_does_not_blank_the_text():
    assert redact("a cat sat", ["a", "", "at"]) == "a cat sat"
