"""Questions to a chat endpoint that speaks OpenAI's ``/chat/completions``: bounded in time, size and number of tries.

The only address of requests and urllib3; their exceptions end here.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ..redact import redact

__all__ = ["Chat", "ChatError", "Endpoint", "Reply", "address_fault"]

MOST_BYTES = 1_000_000
READ_BYTES = 65_536
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TRY_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
HOPELESS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses that every further question would get, too."""


class ChatError(Exception):
    """There is no reply; the message is a clause without secrets.

    Attributes:
        hopeless: whether asking anything else would be in vain as well.
    """

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is asked, and how patiently.

    Attributes:
        base_url: what ``/chat/completions`` is appended to, e.g. ``https://api.openai.com/v1``.
        key: sent with every request; ``None`` sends none.
        header: how the key is sent.
        timeout_s: longest wait for one reply, from the connect to its last byte.
        retries: further tries after one that was throttled or got lost.
        longest_wait_s: longest pause before another try, whatever the endpoint asks for.
    """

    base_url: str
    key: str | None = field(default=None, repr=False)
    header: Literal["bearer", "api-key"] = "bearer"
    timeout_s: float = 60.0
    retries: int = 4
    longest_wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        text: of the first choice.
        model: that the endpoint says it ran; ``None`` when it does not say.
        usage: ``TOKENS``, as far as the endpoint reports them.
    """

    text: str
    model: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


def address_fault(base_url: str, *, has_key: bool) -> str | None:
    """Say what is wrong with an address; ``None`` when it can be asked."""
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "is no address; write e.g. https://api.openai.com/v1"
    if parts.username or parts.password:
        return "holds a user or password before the @; the key belongs into the variable that api_key_env names"
    if parts.query or parts.fragment:
        return "has a query or a fragment; write what /chat/completions is appended to"
    if parts.scheme == "http" and has_key and host not in LOOPBACK:
        return "would send the key unencrypted; use https (http is for this machine only)"
    return None


class Chat:
    """Asks one endpoint. One object serves one thread.

    Args:
        endpoint: who is asked.
        stop: when it is set, pauses end and nothing is tried again.
    """

    def __init__(self, endpoint: Endpoint, stop: threading.Event) -> None:
        self._endpoint = endpoint
        self._stop = stop
        self._session = requests.Session()

    def ask(self, question: Mapping[str, Any]) -> Reply:
        """Send one question, again and again while that may help, and return the reply.

        Args:
            question: body of the request: ``model``, ``messages``, ...

        Raises:
            ChatError: there is none.
        """
        body = orjson.dumps(question)
        for attempt in range(self._endpoint.retries + 1):
            last = attempt == self._endpoint.retries
            try:
                status, headers, data = self._post(body)
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                if last or self._stop.is_set() or isinstance(error, requests.exceptions.SSLError):
                    raise ChatError(self._clean(_cause(error))) from None
                self._pause(attempt, None)
                continue
            if status == 200:
                return self._reply(data)
            if status not in TRY_AGAIN or last or self._stop.is_set():
                raise ChatError(self._refusal(status, data), hopeless=status in HOPELESS)
            self._pause(attempt, _asked_wait_s(headers))
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        endpoint = self._endpoint
        deadline = time.monotonic() + endpoint.timeout_s
        with self._session.post(
            f"{endpoint.base_url.rstrip('/')}/chat/completions",
            data=body,
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            auth=self._sign,
            timeout=endpoint.timeout_s,
            # A redirect would take the key to another place.
            allow_redirects=False,
            stream=True,
        ) as response:
            data = bytearray()
            while piece := response.raw.read1(READ_BYTES, decode_content=False):
                data += piece
                if len(data) > MOST_BYTES:
                    raise ChatError(f"the reply is longer than {MOST_BYTES} bytes")
                # The library's own limit is for each read alone.
                if time.monotonic() > deadline:
                    raise requests.exceptions.ReadTimeout
            return response.status_code, response.headers, bytes(data)

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the key. As the library's ``auth``, so that it does not put one of a ``.netrc`` in its place."""
        if (key := self._endpoint.key) is not None:
            if self._endpoint.header == "bearer":
                request.headers["Authorization"] = f"Bearer {key}"
            else:
                request.headers["api-key"] = key
        return request

    def _pause(self, attempt: int, asked_s: float | None) -> None:
        # Spread, so that questions that were throttled together do not come back together.
        wait_s = asked_s if asked_s is not None else 0.5 * 2**attempt * random.uniform(0.5, 1.5)
        self._stop.wait(min(wait_s, self._endpoint.longest_wait_s))

    def _reply(self, data: bytes) -> Reply:
        try:
            content = orjson.loads(data)
            message = content["choices"][0]["message"]
            text = message.get("content")
            usage, model = content.get("usage") or {}, content.get("model")
            tokens = {name: usage[name] for name in TOKENS if isinstance(usage.get(name), int)}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ChatError("the endpoint's reply is no chat completion") from None
        if not isinstance(text, str):
            raise ChatError("the reply has no text" + (": the model refused" if message.get("refusal") else ""))
        return Reply(self._clean(text), self._clean(model[:200]) if isinstance(model, str) else None, tokens)

    def _refusal(self, status: int, data: bytes) -> str:
        said = ""
        try:
            error = orjson.loads(data)["error"]
            said = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError):
            pass
        told = " ".join(said.split())[:200]
        return self._clean(f"the endpoint answered {status}" + (f": {told}" if told else ""))

    def _clean(self, text: str) -> str:
        return redact(text, [self._endpoint.key] if self._endpoint.key else [])


def _cause(error: Exception) -> str:
    """A clause for what went wrong on the way; the library's own text names the whole address and its objects."""
    if isinstance(error, requests.exceptions.Timeout | ReadTimeoutError):
        return "the endpoint did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the endpoint's certificate is not trusted (REQUESTS_CA_BUNDLE names a file of authorities)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused"
    if isinstance(error, requests.exceptions.ConnectionError | HTTPError):
        return "the endpoint could not be reached, or hung up"
    return f"the request failed ({type(error).__name__})"


def _asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint wants us to wait (RFC 9110, 10.2.3; Azure also says it in milliseconds)."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if seconds == seconds:  # not a number is no time
            return max(seconds, 0.0)
    return None
