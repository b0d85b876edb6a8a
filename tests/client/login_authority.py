"""An Entra ID authority and a token service of Azure Pipelines on loopback, over TLS: logins without a secret."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from rteval.simulator.tls import make_certificates


class LoginAuthority:
    """Takes federated assertions at ``https://127.0.0.1:PORT/TENANT/oauth2/v2.0/token`` and gives tokens for them.

    Use as a context manager; put :attr:`env` into the environment of the process that shall log in.

    Args:
        folder: where the certificate goes.
        token: the token handed out.
    """

    def __init__(self, folder: Path, token: str) -> None:
        self.token = token
        self.assertions: list[str] = []
        """Every assertion that was exchanged for a token, oldest first."""
        self.clients: list[str] = []
        """The client id of each."""
        self.scopes: list[str] = []
        """The scope of each."""
        self.oidc: list[tuple[str, str | None]] = []
        """Every request to the pipeline's token service: query and Authorization header."""
        certificates = make_certificates(folder)
        self.ca_file = certificates.ca_file
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.socket = certificates.server_context().wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="login-authority", daemon=True
        )

    @property
    def url(self) -> str:
        """Its base address."""
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """What sends azure-identity here."""
        return {
            "AZURE_AUTHORITY_HOST": self.url,
            "SYSTEM_OIDCREQUESTURI": f"{self.url}/oidc",
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def answer(self, path: str, body: bytes, login: str | None) -> dict[str, Any]:
        """The JSON document for one request."""
        parts = urlsplit(path)
        if parts.path == "/oidc":
            self.oidc.append((parts.query, login))
            return {"oidcToken": "assertion-of-the-job"}
        if parts.path.endswith("/openid-configuration"):
            base = f"{self.url}/tenant-1"
            return {
                "issuer": f"{base}/v2.0",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            }
        if parts.path.endswith("/discovery/instance"):
            return {"tenant_discovery_endpoint": f"{self.url}/tenant-1/v2.0/.well-known/openid-configuration"}
        form = parse_qs(body.decode())
        self.assertions.append(form["client_assertion"][0])
        self.clients.append(form["client_id"][0])
        self.scopes.append(form["scope"][0])
        return {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _handler(authority: LoginAuthority) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            document = json.dumps(authority.answer(self.path, body, self.headers.get("Authorization"))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(document)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(document)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Tests stay quiet."""

    return Handler
