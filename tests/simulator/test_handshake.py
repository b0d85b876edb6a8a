"""Who is let in, as what, and how the others are refused."""

from __future__ import annotations

import asyncio
import json
import ssl
from http.client import HTTPConnection
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rteval.simulator.handshake import Ask, Doorkeeper, LateRefusal, Refused, choose_subprotocol, own_headers
from rteval.simulator.process import Simulator
from rteval.simulator.session import Admission

GA = "/openai/v1/realtime?model=test"
PREVIEW = "/openai/realtime?api-version=2025-04-01-preview&deployment=test"
OPENAI = "/v1/realtime?model=test"
VOICE_LIVE = "/voice-live/realtime?api-version=2025-10-01&model=test"
LOCKED = Doorkeeper(api_key="the-key", token="the-token", models=["test"])
OPEN = Doorkeeper()


def ask(target: str, headers: dict[str, str] | None = None, *subprotocols: str) -> Ask:
    return Ask(target, headers or {}, subprotocols)


# ---- dialects ----


@pytest.mark.parametrize(
    ("request_", "flavour", "kind"),
    [
        pytest.param(ask(GA), "ga", "realtime", id="azure ga"),
        pytest.param(ask(GA.replace("/realtime", "/realtime/")), "ga", "realtime", id="closing slash"),
        pytest.param(ask(PREVIEW), "preview", "realtime", id="azure preview"),
        pytest.param(ask(PREVIEW, {"openai-beta": ""}), "preview", "realtime", id="preview without its header"),
        pytest.param(ask(PREVIEW.replace("deployment", "model")), "preview", "realtime", id="preview by model"),
        pytest.param(ask(OPENAI), "ga", "realtime", id="openai"),
        pytest.param(ask(OPENAI, {"openai-beta": "realtime=v1"}), "preview", "realtime", id="openai beta header"),
        pytest.param(ask(OPENAI, {}, "realtime", "openai-beta.realtime-v1"), "preview", "realtime", id="browser beta"),
        pytest.param(ask(VOICE_LIVE), "voice-live", "realtime", id="voice live"),
        pytest.param(
            ask("/voice-live/realtime?api-version=2026-07-15&agent-name=a"),
            "voice-live",
            "realtime",
            id="voice live agent",
        ),
        pytest.param(
            ask(PREVIEW.replace("2025-04-01", "2024-10-01")), "preview-2024-10", "realtime", id="first preview"
        ),
        pytest.param(ask(PREVIEW, {"user-agent": "ms-rtclient/0.5.4"}), "preview-2024-10", "realtime", id="rtclient"),
        pytest.param(
            ask(OPENAI, {"openai-beta": "realtime=v1", "user-agent": "ms-rtclient/0.5.4"}),
            "preview-2024-10",
            "realtime",
            id="rtclient at openai",
        ),
        pytest.param(ask("/openai/v1/realtime?intent=transcription"), "ga", "transcription", id="ga transcription"),
        pytest.param(
            ask("/openai/realtime?api-version=2025-04-01-preview&intent=transcription"),
            "preview",
            "transcription",
            id="preview transcription",
        ),
    ],
)
def test_the_path_decides_the_dialect(request_, flavour, kind):
    admission = OPEN.decide(request_)
    assert isinstance(admission, Admission)
    assert (admission.serving.name, admission.kind) == (flavour, kind)


# ---- refusals ----


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param("/", 404, id="no path"),
        pytest.param("/openai/realtime/v2?model=test", 404, id="wrong path"),
        pytest.param(GA + "&api-version=2025-04-01-preview", 401, id="api-version left on the ga path"),
        pytest.param("/openai/realtime?deployment=test", 404, id="preview without api-version"),
        pytest.param("/openai/realtime?deployment=test&api-version=latest", 404, id="strange api-version"),
        pytest.param("/openai/v1/realtime", 400, id="ga without model"),
        pytest.param("/openai/realtime?api-version=2025-04-01-preview", 400, id="preview without deployment"),
        pytest.param(GA.replace("test", "other"), 404, id="unknown deployment"),
    ],
)
def test_azure_refuses_by_http(target, status):
    refused = LOCKED.decide(ask(target, {"api-key": "the-key"}))
    assert isinstance(refused, Refused)
    assert refused.status == status
    assert set(json.loads(refused.body)["error"]) == {"code", "message"}


SDK_HEADERS = {
    "host", "connection", "upgrade", "origin", "user-agent", "accept", "accept-encoding", "content-type",
    "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "openai-beta", "x-stainless-lang",
    "x-stainless-os", "x-stainless-arch", "x-stainless-runtime", "x-ms-client-request-id",
}  # fmt: skip


@pytest.mark.parametrize("target", [GA, PREVIEW, VOICE_LIVE], ids=["ga", "preview", "voice-live"])
@pytest.mark.parametrize(("count", "refused"), [(10, False), (11, True)])
def test_azure_takes_ten_custom_headers_beside_the_usual_ones(target, count, refused):
    headers = dict.fromkeys((*SDK_HEADERS, *(f"x-own-{number}" for number in range(count))), "x")
    decision = OPEN.decide(ask(target, headers))
    assert (isinstance(decision, Refused) and decision.status == 431) == refused
    assert isinstance(OPEN.decide(ask(OPENAI, headers)), Admission)


@pytest.mark.parametrize(
    ("target", "headers", "code", "close"),
    [
        pytest.param(OPENAI, {"authorization": "Bearer wrong"}, "invalid_api_key", 3000, id="wrong key"),
        pytest.param(OPENAI, {}, "invalid_api_key", 3000, id="no key"),
        pytest.param("/v1/realtime", {"authorization": "Bearer the-key"}, "missing_model", 4000, id="no model"),
        pytest.param(
            OPENAI.replace("test", "other"),
            {"authorization": "Bearer the-key"},
            "model_not_found",
            4004,
            id="unknown model",
        ),
    ],
)
def test_openai_refuses_after_the_upgrade(target, headers, code, close):
    late = LOCKED.decide(ask(target, headers))
    assert isinstance(late, LateRefusal)
    assert (late.code, late.close_code, late.reason) == (code, close, f"invalid_request_error.{code}")


# ---- credentials ----

KEY_PROTOCOL = "openai-insecure-api-key."
IN = True
OUT = False


@pytest.mark.parametrize(
    ("headers", "query", "subprotocols", "let_in"),
    [
        pytest.param({"api-key": "the-key"}, "", (), IN, id="key"),
        pytest.param({"api-key": "wrong"}, "", (), OUT, id="wrong key"),
        pytest.param({"authorization": "Bearer the-token"}, "", (), IN, id="token"),
        pytest.param({"authorization": "Bearer the-key"}, "", (), IN, id="key as bearer"),
        pytest.param({"authorization": "bearer the-token"}, "", (), IN, id="scheme in small letters"),
        pytest.param({"authorization": "Basic the-token"}, "", (), OUT, id="other scheme"),
        pytest.param({"api-key": "the-token"}, "", (), OUT, id="token as key"),
        pytest.param({}, "&api-key=the-key", (), IN, id="key in the query"),
        pytest.param({}, "&Authorization=Bearer%20the-token", (), IN, id="token in the query"),
        pytest.param({}, "", ("realtime", KEY_PROTOCOL + "the-key"), IN, id="key as subprotocol"),
        pytest.param({}, "", ("realtime", KEY_PROTOCOL + "the-token"), IN, id="ephemeral key as subprotocol"),
        pytest.param({}, "", ("realtime", KEY_PROTOCOL + "wrong"), OUT, id="wrong subprotocol"),
        pytest.param({}, "", (), OUT, id="nothing"),
        pytest.param({"api-key": "wrong"}, "&api-key=the-key", (), OUT, id="header before query"),
        pytest.param({"api-key": "wrong", "authorization": "Bearer the-token"}, "", (), OUT, id="key before bearer"),
        pytest.param({}, "&api-key=wrong", (KEY_PROTOCOL + "the-key",), OUT, id="query before subprotocol"),
    ],
)
@pytest.mark.parametrize("target", [GA, PREVIEW, VOICE_LIVE], ids=["ga", "preview", "voice-live"])
def test_one_credential_counts(target, headers, query, subprotocols, let_in):
    decision = LOCKED.decide(Ask(target + query, headers, subprotocols))
    assert isinstance(decision, Admission if let_in else Refused)
    if not let_in:
        assert decision.status == 401


@pytest.mark.parametrize("headers", [{}, {"api-key": "any"}, {"authorization": "Bearer any"}])
def test_without_keys_of_its_own_everyone_is_let_in(headers):
    assert isinstance(OPEN.decide(ask(GA, headers)), Admission)


def test_only_the_realtime_subprotocol_is_ever_chosen():
    assert choose_subprotocol(["realtime", KEY_PROTOCOL + "x"]) == "realtime"
    assert choose_subprotocol([KEY_PROTOCOL + "x"]) is None


def test_each_answer_has_a_request_id_and_echoes_the_clients():
    headers = dict(own_headers(ask(GA, {"x-ms-client-request-id": "mine"})))
    assert headers["x-ms-client-request-id"] == "mine"
    assert len(headers["apim-request-id"]) == 36
    assert "x-ms-client-request-id" not in dict(own_headers(ask(GA)))


# ---- the same over a socket ----


@pytest.fixture(scope="module")
def locked():
    behaviour = {"ttfa_ms": 5, "speed": 0, "models": ["test"]}
    with Simulator(behaviour=behaviour, api_key="the-key", token="the-token") as simulator:
        yield simulator


@pytest.mark.parametrize(
    ("path", "headers", "first"),
    [
        pytest.param(PREVIEW, {"api-key": "the-key"}, "modalities", id="preview by key"),
        pytest.param(GA, {"Authorization": "Bearer the-token"}, "output_modalities", id="ga by token"),
    ],
)
def test_the_first_frame_is_the_session_in_its_dialect(locked, dial, path, headers, first):
    with dial(locked.url, path=path, headers={**headers, "x-ms-client-request-id": "mine"}) as line:
        event = line.hear()
        assert event["type"] == "session.created"
        session = event["session"]
        assert first in session
        assert ("type" in session) == (first == "output_modalities") == ("audio" in session)
        assert line.socket.response.headers["x-ms-client-request-id"] == "mine"
        assert line.socket.response.headers["apim-request-id"]


def test_missing_credentials_are_401_with_a_json_body(locked, dial):
    with pytest.raises(InvalidStatus) as caught, dial(locked.url, path=GA):
        pass
    response = caught.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"")["error"]["code"] == "401"
    assert response.headers["apim-request-id"]


def test_an_openai_client_without_a_key_hears_why_and_is_closed(locked, dial):
    with dial(locked.url, path=OPENAI) as line:
        event = line.hear()
        assert (event["type"], event["error"]["code"]) == ("error", "invalid_api_key")
        with pytest.raises(ConnectionClosed) as caught:
            line.hear()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (3000, "invalid_request_error.invalid_api_key")


def test_a_browsers_secrets_are_not_echoed(locked, dial):
    offered = ["realtime", KEY_PROTOCOL + "the-key", "openai-beta.realtime-v1"]
    with dial(locked.url, path=OPENAI, subprotocols=offered) as line:
        assert line.socket.subprotocol == "realtime"
        assert "modalities" in line.hear()["session"]


def test_a_wrong_path_is_404(locked, dial):
    with pytest.raises(InvalidStatus) as caught, dial(locked.url, path="/realtime", headers={"api-key": "the-key"}):
        pass
    assert caught.value.response.status_code == 404


# ---- faults and quotas at the door ----


def faulty(*faults: dict[str, Any], **behaviour: Any) -> Simulator:
    numbered = [{**fault, "sessions": [number]} for number, fault in enumerate(faults, start=1)]
    return Simulator(behaviour={"faults": numbered, **behaviour})


def knock(url: str) -> tuple[int, Any]:
    """Status and headers of a handshake whose redirects nobody follows."""
    connection = HTTPConnection(url.removeprefix("ws://"), timeout=10)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    try:
        connection.request("GET", GA, headers=headers)
        with connection.getresponse() as response:
            return response.status, response.headers
    finally:
        connection.close()


def test_faults_at_the_door(dial):
    faults = [
        {"kind": "refuse_handshake"},
        {"kind": "refuse_handshake", "status": 429, "retry_after_s": 7},
        {"kind": "refuse_handshake", "status": 307},
        {"kind": "refuse_after_upgrade", "code": "beta_api_shape_disabled", "close_code": 4000},
        {"kind": "session_created_missing"},
        {"kind": "silent_handshake"},
    ]
    with faulty(*faults, rate_limits={"connects_per_minute": 3, "retry_after_s": 4}) as simulator:
        assert knock(simulator.url)[0] == 503
        status, headers = knock(simulator.url)
        assert (status, headers["retry-after"]) == (429, "7")
        status, headers = knock(simulator.url)
        assert (status, headers["Location"]) == (307, "/openai/v1/realtime")
        with dial(simulator.url) as line:
            assert line.hear()["error"]["code"] == "beta_api_shape_disabled"
            with pytest.raises(ConnectionClosed) as closed:
                line.hear()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4000
        with dial(simulator.url) as line:
            line.say("session.update", session={"type": "realtime"})
            with pytest.raises(TimeoutError):
                line.hear(0.3)
        with pytest.raises(TimeoutError), dial(simulator.url, open_timeout=0.3):
            pass
        # Two of the quota's three connects are spent by the sessions that opened.
        with dial(simulator.url) as line:
            line.hear()
        with pytest.raises(InvalidStatus) as throttled, dial(simulator.url):
            pass
        assert throttled.value.response.status_code == 429
        assert throttled.value.response.headers["retry-after"] == "4"


def test_tls_is_trusted_by_its_ca_alone():
    """With the asyncio client: the threaded one reads and writes one TLS object from two threads, and may stall."""

    async def last_event(url: str, context: ssl.SSLContext) -> dict:
        async with asyncio.timeout(60), connect(url, ssl=context) as line:
            assert json.loads(await line.recv())["type"] == "session.created"
            await line.send(json.dumps({"type": "response.create"}))
            async for frame in line:
                if (event := json.loads(frame))["type"] == "response.done":
                    return event
        raise AssertionError("the response never ended")

    with Simulator(behaviour={"ttfa_ms": 5, "speed": 0}, tls=True) as simulator:
        url = simulator.url + GA
        assert url.startswith("wss://")
        trusting = ssl.create_default_context(cafile=simulator.ca_file)
        assert asyncio.run(last_event(url, trusting))["response"]["status"] == "completed"
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(last_event(url, ssl.create_default_context()))
