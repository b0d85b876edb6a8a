"""Who may open a session, and as what: paths, dialects, credentials and refusals, as the services handle them.

Nothing here is logged: query strings, headers and subprotocols hold secrets.
"""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import orjson

from ..realtime.dialects.serving import (
    GA_SERVING,
    PREVIEW_2024_10_SERVING,
    PREVIEW_SERVING,
    VOICE_LIVE_SERVING,
    Serving,
)
from .session import Admission
from .settings import Kind

__all__ = ["Ask", "Doorkeeper", "LateRefusal", "Refused", "choose_subprotocol", "own_headers"]

KEY_PROTOCOL = "openai-insecure-api-key."
BETA_PROTOCOL = "openai-beta.realtime-v1"
API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
# Azure's documented quota. Which headers it counts is not said: here, all but those of HTTP, WebSocket and the SDKs.
MAX_CUSTOM_HEADERS = 10
_USUAL_HEADER = re.compile(
    r"host|connection|upgrade|origin|referer|user-agent|accept(-.*)?|content-.*|cache-control|pragma|cookie|via|forwarded"
    r"|authorization|api-key|openai-.*|sec-.*|x-stainless-.*|x-ms-.*|x-forwarded-.*"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A handshake request.

    Attributes:
        target: path and query.
        headers: by lower-case name, first value.
        subprotocols: as offered.
    """

    target: str
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The path without query and closing slash."""
        return urlsplit(self.target).path.rstrip("/")

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, the first value of each."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True, slots=True)
class Refused:
    """A handshake answered by HTTP."""

    status: int
    code: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The error as the services put it."""
        return orjson.dumps({"error": {"code": self.code, "message": self.message}})


@dataclass(frozen=True, slots=True)
class LateRefusal:
    """A handshake that is answered 101, then one ``error`` event, then a close: OpenAI's way."""

    admission: Admission
    code: str
    message: str
    close_code: int

    @property
    def reason(self) -> str:
        """Reason of the close frame."""
        return f"invalid_request_error.{self.code}"


@dataclass(frozen=True, slots=True)
class _Site:
    """A service at a path.

    Attributes:
        azure: refuses by HTTP before the upgrade.
        name_keys: query parameters that name the model or deployment.
        versioned: whether ``api-version`` must be there (``True``), must not (``False``), or is no matter (``None``).
    """

    azure: bool
    name_keys: tuple[str, ...]
    versioned: bool | None
    serving: Callable[[Ask], Serving]


def _preview_serving(ask: Ask) -> Serving:
    # The older rtclient generation reads a closed list of events, and names itself.
    if ask.headers.get("user-agent", "").startswith("ms-rtclient/") or ask.query.get("api-version", "").startswith(
        "2024-10-01"
    ):
        return PREVIEW_2024_10_SERVING
    return PREVIEW_SERVING


def _openai_serving(ask: Ask) -> Serving:
    asked = ask.headers.get("openai-beta", "")
    return _preview_serving(ask) if "realtime=v1" in asked or BETA_PROTOCOL in ask.subprotocols else GA_SERVING


SITES: Mapping[str, _Site] = {
    "/openai/v1/realtime": _Site(True, ("model", "deployment"), False, lambda ask: GA_SERVING),
    # The path decides, not the header: several clients come here without one.
    "/openai/realtime": _Site(True, ("deployment", "model"), True, _preview_serving),
    "/v1/realtime": _Site(False, ("model",), None, _openai_serving),
    "/voice-live/realtime": _Site(
        True, ("model", "agent-name", "agent-id", "agent_id"), True, lambda ask: VOICE_LIVE_SERVING
    ),
}


class Doorkeeper:
    """Decides about handshakes.

    Args:
        api_key, token: what is let in; with neither, everyone is, credential or not.
        models: names that exist; ``None``: any.
    """

    def __init__(
        self, *, api_key: str | None = None, token: str | None = None, models: Iterable[str] | None = None
    ) -> None:
        self._api_key = api_key
        self._token = token
        self._models = None if models is None else frozenset(models)

    def decide(self, ask: Ask) -> Admission | LateRefusal | Refused:
        """Let a client in, or say why not."""
        site = SITES.get(ask.path)
        if site is None:
            return Refused(404, "404", "Resource not found")
        serving = site.serving(ask)
        transcription = ask.query.get("intent") == "transcription" and serving is not VOICE_LIVE_SERVING
        kind: Kind = "transcription" if transcription and serving is not PREVIEW_2024_10_SERVING else "realtime"
        name = next((ask.query[key] for key in site.name_keys if ask.query.get(key)), None)
        admission = Admission(serving, kind, name or "gpt-realtime", site.azure)
        if site.azure:
            return self._azure(ask, site, admission, name)
        return self._openai(ask, admission, name)

    def _azure(self, ask: Ask, site: _Site, admission: Admission, name: str | None) -> Admission | Refused:
        if sum(_USUAL_HEADER.fullmatch(header) is None for header in ask.headers) > MAX_CUSTOM_HEADERS:
            return Refused(
                431, "431", f"Request header fields too large: at most {MAX_CUSTOM_HEADERS} custom headers are allowed."
            )
        if not self._knows(ask) or (site.versioned is False and "api-version" in ask.query):
            return Refused(
                401,
                "401",
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
                "for an active subscription and use a correct regional API endpoint for your resource.",
            )
        if site.versioned and not API_VERSION.fullmatch(ask.query.get("api-version", "")):
            return Refused(404, "404", "Resource not found")
        if name is None and admission.kind != "transcription":
            return Refused(400, "missing_model", f"The query parameter '{site.name_keys[0]}' is missing.")
        if name is not None and not self._has(name):
            return Refused(
                404,
                "DeploymentNotFound",
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
                "minutes, please wait a moment and try again.",
            )
        return admission

    def _openai(self, ask: Ask, admission: Admission, name: str | None) -> Admission | LateRefusal:
        if not self._knows(ask):
            return LateRefusal(admission, "invalid_api_key", "Incorrect API key provided.", 3000)
        if name is None and admission.kind != "transcription":
            return LateRefusal(admission, "missing_model", "You must provide a model parameter.", 4000)
        if name is not None and not self._has(name):
            return LateRefusal(
                admission, "model_not_found", "The model does not exist or you do not have access to it.", 4004
            )
        return admission

    def _has(self, name: str) -> bool:
        return self._models is None or name in self._models

    def _knows(self, ask: Ask) -> bool:
        if self._api_key is None and self._token is None:
            return True
        credential = _credential(ask)
        if credential is None:
            return False
        kind, secret = credential
        # Azure takes a resource's key as a Bearer, too: the plain OpenAI client sends it so.
        if self._api_key is not None and hmac.compare_digest(secret.encode(), self._api_key.encode()):
            return True
        return (
            kind == "bearer" and self._token is not None and hmac.compare_digest(secret.encode(), self._token.encode())
        )


def _credential(ask: Ask) -> tuple[str, str] | None:
    """The credential that counts: a header before the query before a subprotocol, a key before a Bearer."""
    for source in (ask.headers, ask.query):
        if source.get("api-key"):
            return "key", source["api-key"]
        authorization = source.get("authorization") or source.get("Authorization") or ""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() == "bearer" and secret:
            return "bearer", secret.strip()
    for offered in ask.subprotocols:
        if offered.startswith(KEY_PROTOCOL):
            return "bearer", offered.removeprefix(KEY_PROTOCOL)
    return None


def choose_subprotocol(offered: Iterable[str]) -> str | None:
    """The subprotocol to answer with: browsers offer ``realtime`` beside their secrets."""
    return "realtime" if "realtime" in offered else None


def own_headers(ask: Ask) -> list[tuple[str, str]]:
    """The headers that every answer to a handshake carries, an upgrade or not."""
    headers = [("apim-request-id", str(uuid.uuid4()))]
    request_id = ask.headers.get("x-ms-client-request-id")
    if request_id is not None:
        headers.append(("x-ms-client-request-id", request_id))
    return headers
