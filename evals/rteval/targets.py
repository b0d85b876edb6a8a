"""What is dialled: the address, the headers and the kind of credential that a scenario's target stands for.

What sets providers apart is data here, in :data:`PROVIDERS`; nothing else in the package asks for a provider's name to
find an address. Sources: the realtime references of Azure OpenAI and OpenAI.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .errors import ScenarioError
from .redact import redact

if TYPE_CHECKING:
    from .scenario_model import Scenario, Target

__all__ = ["PROVIDERS", "Address", "Provider", "from_environment", "is_loopback", "preview_version", "target_address"]

Auth = Literal["entra", "api_key", "none"]
KeyHeader = Literal["api-key", "bearer"]
Fault = tuple[str, str]

PREVIEW_VERSION = "2025-04-01-preview"
"""The api-version of dialect preview when neither the scenario nor OPENAI_API_VERSION names one."""

_AZURE_PATHS = {
    "ga": "/openai/v1/realtime?model={model}",
    "preview": "/openai/realtime?api-version={api_version}&deployment={model}",
}
_OPENAI_PATHS = {"ga": "/v1/realtime?model={model}", "preview": "/v1/realtime?model={model}"}


@dataclass(frozen=True, slots=True)
class Provider:
    """What is particular to one provider.

    Attributes:
        paths: path and query for each dialect; empty: the scenario's ``url`` is dialled as it stands.
        endpoint: where it is, unless the scenario says so; ``None``: nobody can know.
        endpoint_env, model_env, key_env: variables read when the scenario names nothing, as the vendor's samples do.
        model_keys: the scenario's keys that name the model, first one wins.
        model: the model when nothing names one.
        auth: kind of credential unless the scenario says so.
        auth_without_key: the kind when that is a key and its variable is empty.
        key_header: how a key is sent.
        headers: more headers, for each dialect.
        base_paths: endings of an endpoint's path that belong to ``paths`` already.
        takes_tokens: whether a scenario that names who asks for an Entra ID token means that one is sent.
    """

    paths: Mapping[str, str]
    endpoint: str | None = None
    endpoint_env: str | None = None
    model_env: str | None = None
    key_env: str | None = None
    model_keys: tuple[str, ...] = ("model",)
    model: str | None = None
    auth: Auth = "none"
    auth_without_key: Auth | None = None
    key_header: KeyHeader = "bearer"
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    base_paths: tuple[str, ...] = ()
    takes_tokens: bool = False


PROVIDERS: Mapping[str, Provider] = {
    "azure": Provider(
        paths=_AZURE_PATHS,
        endpoint_env="AZURE_OPENAI_ENDPOINT",
        model_env="AZURE_OPENAI_DEPLOYMENT_NAME",
        key_env="AZURE_OPENAI_API_KEY",
        model_keys=("deployment", "model"),
        auth="api_key",
        auth_without_key="entra",
        key_header="api-key",
        base_paths=("/openai/v1", "/openai"),
        takes_tokens=True,
    ),
    "openai": Provider(
        paths=_OPENAI_PATHS,
        endpoint="https://api.openai.com",
        key_env="OPENAI_API_KEY",
        auth="api_key",
        # The path is the same in both dialects; the header chooses the older one.
        headers={"preview": {"OpenAI-Beta": "realtime=v1"}},
        base_paths=("/v1",),
    ),
    "simulator": Provider(
        paths=_AZURE_PATHS,
        endpoint="ws://127.0.0.1:0",
        model_keys=("deployment", "model"),
        model="simulator",
        key_header="api-key",
    ),
    "custom": Provider(paths={}, model_keys=("model", "deployment"), takes_tokens=True),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Everything a connection needs to know, except the credential itself.

    Attributes:
        url: ``ws://`` or ``wss://`` with path and query; for the embedded server a placeholder until :meth:`at`.
        provider, dialect, model: what answers there; ``model`` is ``None`` when only a custom URL knows.
        auth: the kind of credential.
        api_key_env: the variable that holds the key, with ``auth`` ``api_key``.
        auth_header: how a key is sent; a token is always a bearer.
        token_scope: the scope to ask for, with ``auth`` ``entra``.
        headers: the scenario's headers and the provider's own. May hold secrets: never shown.
        ca_file: authorities to trust instead of the system's.
        proxy: proxy to connect through; ``None`` is none, whatever the environment says. May hold a password.
        sources: what was found in the environment, e.g. ``endpoint from AZURE_OPENAI_ENDPOINT``.
        asker: who asks for the token, with ``auth`` ``entra``: a key of :data:`rteval.client.auth.ASKERS`.
    """

    url: str = field(repr=False)
    provider: str
    dialect: Literal["ga", "preview"]
    model: str | None
    auth: Auth
    api_key_env: str | None
    auth_header: KeyHeader
    token_scope: str
    headers: Mapping[str, str] = field(repr=False)
    ca_file: Path | None
    proxy: str | None = field(repr=False)
    sources: tuple[str, ...] = ()
    asker: str = "default"

    @property
    def shown(self) -> str:
        """The URL without anything secret, for people and for files."""
        return redact(self.url)

    @property
    def embedded(self) -> bool:
        """Whether the server is ours to start, so that :meth:`at` has to fill in where it listens."""
        return self.provider == "simulator"

    def at(self, base: str) -> Address:
        """The same at another server, e.g. ``ws://127.0.0.1:40123``; path and query stay."""
        there, here = urlsplit(base), urlsplit(self.url)
        return replace(self, url=urlunsplit((there.scheme, there.netloc, here.path, here.query, "")))

    def described(self) -> str:
        """One line for people before a run: where to, which dialect, which kind of credential."""
        by = "" if self.asker == "default" else f" by {self.asker}"
        credential = {
            "entra": f"Entra ID token{by} ({self.token_scope})",
            "api_key": f"key in {self.api_key_env} as {self.auth_header}",
            "none": "no credential",
        }[self.auth]
        where = "embedded server" if self.embedded and urlsplit(self.url).port == 0 else self.shown
        found = f" ({', '.join(self.sources)})" if self.sources else ""
        return f"{self.provider}, dialect {self.dialect}: {where}, {credential}{found}"


def preview_version(target: Target, env: Mapping[str, str]) -> str:
    """The api-version that dialect preview dials."""
    return target.api_version or env.get("OPENAI_API_VERSION") or PREVIEW_VERSION


def from_environment(target: Target, env: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    """What the environment settles of a target that leaves it open.

    Args:
        target: of a scenario that can be dialled.
        env: the environment variables.

    Returns:
        For each such key of the target its value, and the variable that holds it (``None``: it only depends on some).
    """
    provider = PROVIDERS[target.provider]
    found: dict[str, tuple[str, str | None]] = {}
    if target.auth is None:
        found["auth"] = _auth(target, provider, env)[0], None
    if not target.endpoint and provider.endpoint_env and env.get(provider.endpoint_env):
        found["endpoint"] = env[provider.endpoint_env], provider.endpoint_env
    if not _named_model(target, provider) and provider.model_env and env.get(provider.model_env):
        found[provider.model_keys[0]] = env[provider.model_env], provider.model_env
    if target.dialect == "preview" and not target.api_version:
        found["api_version"] = preview_version(target, env), "OPENAI_API_VERSION"
    return found


def target_address(scenario: Scenario, env: Mapping[str, str] | None = None) -> Address:
    """Work out what is dialled; nothing is connected and no credential is read, only whether there is one.

    Args:
        scenario: what was read from the file.
        env: the environment variables; the process's own by default.

    Raises:
        ScenarioError: an endpoint or model is missing or cannot be used, or a credential would travel in the clear.
    """
    env = os.environ if env is None else env
    target, provider = scenario.target, PROVIDERS[scenario.target.provider]
    faults: list[Fault] = []
    sources: list[str] = []
    model = _model(target, provider, env, sources, faults)
    if provider.paths:
        version = ""
        if target.dialect == "preview" and "{api_version}" in provider.paths["preview"]:
            version = preview_version(target, env)
            if target.api_version is None and env.get("OPENAI_API_VERSION"):
                sources.append("api-version from OPENAI_API_VERSION")
        base = _base(target, provider, env, sources, faults)
        path = provider.paths[target.dialect]
        url = base + path.format(model=quote(model or "", safe=""), api_version=quote(version, safe=""))
    else:
        url = _custom(target.url or "", faults)
    auth, key_env = _auth(target, provider, env)
    key_header = target.auth_header or provider.key_header
    _conflicts(target, auth, key_header, faults)
    if not faults:
        _in_the_clear(url, auth, target, faults)
    if faults:
        raise ScenarioError("\n  ".join(f"{scenario.where(key)}: {fault}" for key, fault in faults))
    return Address(
        url=url,
        provider=target.provider,
        dialect=target.dialect,
        model=model,
        auth=auth,
        api_key_env=key_env if auth == "api_key" else None,
        auth_header=key_header,
        token_scope=target.token_scope,
        headers={**provider.headers.get(target.dialect, {}), **target.headers},
        ca_file=Path(target.ca_file) if target.ca_file else None,
        proxy=target.proxy,
        sources=tuple(sources),
        asker=target.credential or "default",
    )


def _model(
    target: Target, provider: Provider, env: Mapping[str, str], sources: list[str], faults: list[Fault]
) -> str | None:
    if named := _named_model(target, provider):
        return named
    if provider.model_env and env.get(provider.model_env):
        sources.append(f"{provider.model_keys[0]} from {provider.model_env}")
        return env[provider.model_env]
    if provider.model is None and provider.paths:
        variable = f", or set {provider.model_env}" if provider.model_env else ""
        faults.append((f"target.{provider.model_keys[0]}", f"is required with provider: {target.provider}{variable}"))
    return provider.model


def _named_model(target: Target, provider: Provider) -> str | None:
    return next((str(named) for key in provider.model_keys if (named := getattr(target, key))), None)


def _base(target: Target, provider: Provider, env: Mapping[str, str], sources: list[str], faults: list[Fault]) -> str:
    """Scheme, host and leading path of the endpoint, as a WebSocket address."""
    if target.provider == "simulator":
        assert provider.endpoint is not None
        return provider.endpoint
    endpoint = target.endpoint
    origin = ""
    if not endpoint and provider.endpoint_env and env.get(provider.endpoint_env):
        endpoint, origin = env[provider.endpoint_env], f"(from {provider.endpoint_env}) "
        sources.append(f"endpoint from {provider.endpoint_env}")
    endpoint = endpoint or provider.endpoint
    if not endpoint:
        cure = f"e.g. https://NAME.openai.azure.com; or set {provider.endpoint_env}"
        faults.append(("target.endpoint", f"is required with provider: {target.provider}, {cure}"))
        return ""
    fault = _endpoint_fault(endpoint, provider)
    if fault:
        faults.append(("target.endpoint", origin + fault))
        return ""
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    for ending in provider.base_paths:
        path = path.removesuffix(ending)
    return f"{_WEBSOCKET[parts.scheme.lower()]}://{parts.netloc}{path}"


_WEBSOCKET = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}


def _endpoint_fault(endpoint: str, provider: Provider) -> str | None:
    whole = "give the address of the resource alone (https://HOST), or the whole one with provider: custom and url"
    try:
        parts = urlsplit(endpoint)
        parts.port  # noqa: B018 - raises on a port that is none
    except ValueError:
        return "is no address"
    if parts.scheme.lower() not in _WEBSOCKET or not _is_host(parts.hostname):
        return "is no address; it starts with https://"
    if "@" in parts.netloc:
        return "holds a user name; a credential comes in by target.api_key_env"
    if parts.query or parts.fragment:
        return f"holds a query; {whole}"
    path = parts.path.rstrip("/")
    for ending in provider.base_paths:
        path = path.removesuffix(ending)
    if "realtime" in path or "/deployments" in path or "/projects/" in path:
        return f"holds the path {parts.path}; {whole}"
    return None


def _custom(url: str, faults: list[Fault]) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and _is_host(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        faults.append(("target.url", "expected a whole address that starts with ws:// or wss://"))
    elif "#" in url:
        faults.append(("target.url", "holds a fragment, which no WebSocket address has; remove # and what follows"))
    return url


def _is_host(host: str | None) -> bool:
    """Whether it can be looked up: RFC 1035 has no empty labels, none of more than 63 octets, and no blanks."""
    labels = (host or "").removesuffix(".").split(".")
    return all(0 < len(label) < 64 and label.isprintable() and " " not in label for label in labels)


def _auth(target: Target, provider: Provider, env: Mapping[str, str]) -> tuple[Auth, str | None]:
    key_env = target.api_key_env or provider.key_env
    auth: Auth = target.auth or provider.auth
    if target.auth is None and target.credential is not None and provider.takes_tokens:
        auth = "entra"  # who names one does not want a key that happens to be about
    elif target.auth is None and provider.auth_without_key and not (key_env and env.get(key_env, "").strip()):
        auth = provider.auth_without_key
    return auth, key_env


_CREDENTIAL_HEADERS = ("authorization", "api-key", "x-api-key", "ocp-apim-subscription-key", "cookie")
_CREDENTIAL_QUERY = ("api-key", "authorization", "key", "token", "access_token", "subscription-key")


def _conflicts(target: Target, auth: Auth, key_header: KeyHeader, faults: list[Fault]) -> None:
    if auth == "none":
        return
    ours = "api-key" if auth == "api_key" and key_header == "api-key" else "authorization"
    for name in target.headers:
        if name.lower() == ours:
            faults.append((f"target.headers.{name}", f"is also set by auth: {auth}; remove it, or say auth: none"))


def _in_the_clear(url: str, auth: Auth, target: Target, faults: list[Fault]) -> None:
    parts = urlsplit(url)
    if parts.scheme != "ws" or is_loopback(parts.hostname or ""):
        return
    what = {"entra": "an Entra ID token", "api_key": "a key", "none": None}[auth]
    if what is None and any(name.lower() in _CREDENTIAL_HEADERS for name in target.headers):
        what = "a credential in target.headers"
    if what is None and any(unquote(q.partition("=")[0]).lower() in _CREDENTIAL_QUERY for q in parts.query.split("&")):
        what = "a credential in the query"
    if what is not None:
        key = "target.url" if target.provider == "custom" else "target.endpoint"
        sentence = f"{what} would go to {parts.hostname} in the clear; use wss:// (plain ws is for loopback)"
        faults.append((key, sentence))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, reached by nobody else."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
