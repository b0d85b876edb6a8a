"""A managed-identity endpoint on loopback, as Azure App Service offers one: what azure-identity really talks to."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

DEFAULT_SCOPE_RESOURCE = "https://cognitiveservices.azure.com"


class IdentityEndpoint:
    """Hands out tokens at ``http://127.0.0.1:PORT/msi/token`` and remembers what it was asked.

    Use as a context manager; put :attr:`env` into the environment of the process that shall log in.

    Args:
        token: the one token to hand out; by default each request gets a new one that looks like a real one.
        expires_in_s: life of the next token; may be changed between requests.
        delay_s: how long the endpoint takes to answer.
    """

    def __init__(self, *, token: str | None = None, expires_in_s: float = 3600, delay_s: float = 0.0) -> None:
        self.token = token
        self.expires_in_s = expires_in_s
        self.delay_s = delay_s
        self.secret = "identity-header-7f3a9c51"
        self.tokens: list[str] = []
        """Every token handed out, oldest first."""
        self.resources: list[str] = []
        """The ``resource`` of every request, refused ones too."""
        self.client_ids: list[str | None] = []
        """The user-assigned identity that every request asked for; ``None``: the machine's own."""
        self._refusal: tuple[int, str] | None = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="identity-endpoint", daemon=True
        )

    @property
    def requests(self) -> int:
        """How many requests came, refused ones too."""
        return len(self.resources)

    @property
    def url(self) -> str:
        """What ``IDENTITY_ENDPOINT`` holds."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/msi/token"

    @property
    def env(self) -> dict[str, str]:
        """Environment that makes ``DefaultAzureCredential`` use this endpoint and nothing else.

        An azure-identity that does not know ``AZURE_TOKEN_CREDENTIALS`` asks this endpoint too: nothing before it in
        its chain is configured.
        """
        return {
            "IDENTITY_ENDPOINT": self.url,
            "IDENTITY_HEADER": self.secret,
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def refuse(self, status: int = 400, message: str = "No User Assigned or Delegated Managed Identity found") -> None:
        """Answer with an error from now on."""
        self._refusal = status, message

    def recover(self) -> None:
        """Hand out tokens again."""
        self._refusal = None

    def answer(self, path: str, header: str | None) -> tuple[int, dict[str, str]]:
        """Status and JSON body for one request."""
        query = parse_qs(urlsplit(path).query)
        with self._lock:
            self.resources.append(query.get("resource", [""])[0])
            self.client_ids.append(query.get("client_id", [None])[0])
            if header != self.secret:
                return 401, {"statusCode": "401", "message": "wrong X-IDENTITY-HEADER"}
            if self._refusal is not None:
                status, message = self._refusal
                return status, {"statusCode": str(status), "message": message}
            token = self.token or _jwt(len(self.tokens))
            self.tokens.append(token)
            expires_on = int(time.time() + self.expires_in_s)
        return 200, {
            "access_token": token,
            "expires_on": str(expires_on),
            "resource": self.resources[-1],
            "token_type": "Bearer",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _jwt(number: int) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"aud": DEFAULT_SCOPE_RESOURCE, "oid": "local", "n": number})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, f"signature-of-token-{number}"])


def _handler(endpoint: IdentityEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(endpoint.delay_s)
            status, document = endpoint.answer(self.path, self.headers.get("X-IDENTITY-HEADER"))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests stay quiet."""

    return Handler
