"""Who we are to the target: nobody, a key out of the environment, or an Entra ID token fetched once per process."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from rteval.errors import RefusedError
from rteval.redact import redact

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

__all__ = [
    "ASKERS",
    "DEFAULT_SCOPE",
    "ApiKey",
    "Auth",
    "AuthHeader",
    "Credential",
    "EntraToken",
    "NoCredential",
    "choose_credential",
    "default_auth",
]

DEFAULT_SCOPE = "https://cognitiveservices.azure.com/.default"
"""Scope that Azure OpenAI's samples ask for; Voice Live and newer pages use ``https://ai.azure.com/.default``."""

# The managed-identity client behind DefaultAzureCredential hands out its cached token until five minutes before
# expiry, so a refresh that starts sooner than that would get the old token again.
REFRESH_AHEAD_S = 300.0
RETRY_S = 15.0
"""Pause after a refresh that failed or brought nothing newer: identity endpoints throttle."""
FETCH_TIMEOUT_S = 90.0

CLOCK_HINT = "compare this machine's clock with the true time"
ROLE = 'the identity needs the role "Cognitive Services OpenAI User" on the resource'
LOGIN_HINT = (
    "sign in with `az login`, or give this machine a managed identity, or set AZURE_CLIENT_ID, AZURE_TENANT_ID and "
    f"AZURE_CLIENT_SECRET; {ROLE}. "
    "With a key instead: set AZURE_OPENAI_API_KEY and target.auth: api_key"
)

Auth = Literal["entra", "api_key", "none"]
AuthHeader = Literal["api-key", "bearer"]
Warn = Callable[[str], None]

_log = logging.getLogger(__name__)


class Credential(Protocol):
    """What a session needs of a credential: the headers of one connection."""

    @property
    def kind(self) -> str:
        """For people, never with a secret: ``api_key (AZURE_OPENAI_API_KEY)``, ``entra (...)`` or ``none``."""
        ...

    async def prepare(self) -> None:
        """Obtain what the run will need; :class:`RefusedError` when there is none."""
        ...

    async def headers(self) -> dict[str, str]:
        """The request headers that carry the credential; waits only when no valid token is at hand."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Every secret value that this process has used so far, for redaction."""
        ...

    def close(self) -> None:
        """Let go of sockets; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class NoCredential:
    """The target asks for nothing."""

    kind: str = "none"

    async def prepare(self) -> None:
        """Nothing to obtain."""

    async def headers(self) -> dict[str, str]:
        """No headers."""
        return {}

    def secrets(self) -> tuple[str, ...]:
        """No secrets."""
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


class ApiKey:
    """A key out of an environment variable, sent as ``api-key`` or as a Bearer token."""

    __slots__ = ("_header", "_key", "kind")

    def __init__(self, key: str, *, variable: str, header: AuthHeader) -> None:
        self._key = key
        self._header = header
        self.kind = f"api_key ({variable})"

    def __repr__(self) -> str:
        """Without the key."""
        return f"<ApiKey {self.kind}>"

    async def prepare(self) -> None:
        """The key is already here."""

    async def headers(self) -> dict[str, str]:
        """One header with the key."""
        return {"api-key": self._key} if self._header == "api-key" else {"Authorization": f"Bearer {self._key}"}

    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self._key,)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    """A token and its end of life in seconds of the epoch, as the issuer states it."""

    value: str
    expires_at: float


class TokenSource(Protocol):
    """What is used of a credential of azure-identity."""

    def get_token(self, *scopes: str) -> AccessToken:
        """Ask for a token; may take seconds."""
        ...

    def close(self) -> None:
        """Let go of sockets."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Who may ask for an Entra ID token.

    Attributes:
        credential: the class of azure-identity.
        needs: environment variables without which it cannot work.
        arguments: of its constructor, by the variables that hold them; one that is not set is left out.
        hint: what to do when it brings no token.
    """

    credential: str
    needs: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""

    def make(self) -> TokenSource:
        """The credential; imports azure-identity.

        Raises:
            ValueError: a variable is not set that it needs.
        """
        missing = [name for name in self.needs if not os.environ.get(name)]
        if missing:
            *first, last = missing
            raise ValueError(f"{', '.join(first)} and {last} are not set" if first else f"{last} is not set")
        # 0.2 s and requests: only those who use a token pay.
        import azure.identity

        # Without a handler of its own, the library's warnings (a page of text for each failed chain) go to stderr.
        logging.getLogger("azure").addHandler(logging.NullHandler())
        given = {name: os.environ[variable] for name, variable in self.arguments.items() if os.environ.get(variable)}
        source: TokenSource = getattr(azure.identity, self.credential)(**given)
        return source


ASKERS: Mapping[str, Asker] = {
    "default": Asker("DefaultAzureCredential", hint=LOGIN_HINT),
    "environment": Asker(
        "EnvironmentCredential",
        needs=("AZURE_CLIENT_ID", "AZURE_TENANT_ID"),
        hint="set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH; " + ROLE,
    ),
    "workload_identity": Asker(
        "WorkloadIdentityCredential",
        needs=("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
        hint="these variables come from the workload identity webhook of Kubernetes, or from a step that stores the "
        "job's OIDC token in a file; " + ROLE,
    ),
    "managed_identity": Asker(
        "ManagedIdentityCredential",
        # DefaultAzureCredential reads it by itself, this one does not.
        arguments={"client_id": "AZURE_CLIENT_ID"},
        hint="give this machine a managed identity, and AZURE_CLIENT_ID its client id where it is user-assigned; "
        + ROLE,
    ),
    "azure_cli": Asker("AzureCliCredential", hint="sign in with `az login`; " + ROLE),
    "azure_developer_cli": Asker("AzureDeveloperCliCredential", hint="sign in with `azd auth login`; " + ROLE),
    "azure_powershell": Asker("AzurePowerShellCredential", hint="sign in with Connect-AzAccount; " + ROLE),
    "azure_pipelines": Asker(
        "AzurePipelinesCredential",
        needs=(
            "SYSTEM_OIDCREQUESTURI",
            "SYSTEM_ACCESSTOKEN",
            "AZURESUBSCRIPTION_TENANT_ID",
            "AZURESUBSCRIPTION_CLIENT_ID",
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID",
        ),
        arguments={
            "tenant_id": "AZURESUBSCRIPTION_TENANT_ID",
            "client_id": "AZURESUBSCRIPTION_CLIENT_ID",
            "service_connection_id": "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID",
            "system_access_token": "SYSTEM_ACCESSTOKEN",
        },
        hint="run in a task AzureCLI@2 or AzurePowerShell@5 of a service connection with workload identity federation, "
        "with `env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}`; " + ROLE,
    ),
}
"""Who may ask for an Entra ID token, by what ``target.credential`` calls it: azure-identity's names in snake case."""


class EntraToken:
    """An Entra ID token by one of azure-identity's credentials: one for the whole process.

    All sessions of a process share the instance. The token is renewed five minutes ahead of its expiry, in the
    background and by one request however many sessions ask; when that fails, the old token serves as long as it is
    valid and ``warn`` gets one sentence. azure-identity is imported and called in a thread of its own, so that the
    event loop never waits for it. Use from one event loop.

    Args:
        scope: what the token is for, e.g. :data:`DEFAULT_SCOPE`.
        asker: who asks for it, one of :data:`ASKERS`.
        warn: receives a sentence about a refresh that failed.
        now: seconds of the epoch; tests pass their own.
        credential: makes the azure-identity credential; by default the asker's.
    """

    def __init__(
        self,
        scope: str = DEFAULT_SCOPE,
        *,
        asker: str = "default",
        warn: Warn = _log.warning,
        now: Callable[[], float] = time.time,
        credential: Callable[[], TokenSource] | None = None,
    ) -> None:
        self._scope = scope
        self._asker = ASKERS[asker]
        self._warn = warn
        self._now = now
        self._make = credential or self._asker.make
        self._azure: TokenSource | None = None
        self._token: _Token | None = None
        self._used: dict[str, None] = {}
        self._fetch: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._failure: tuple[str, str | None] | None = None
        self.kind = f"entra ({self._asker.credential})"

    def __repr__(self) -> str:
        """Without the token."""
        return f"<EntraToken {self.kind}>"

    async def prepare(self) -> None:
        """Fetch the first token, so that a missing credential is known before the run."""
        await self.headers()

    async def headers(self) -> dict[str, str]:
        """``Authorization: Bearer``; waits only while there is no valid token.

        Raises:
            RefusedError: no valid token, and none to be had; the message names the credentials that were tried.
        """
        now = self._now()
        token = self._token
        if token is None or token.expires_at <= now:
            token = await self._fetched()
        elif token.expires_at - now < REFRESH_AHEAD_S and now >= self._retry_at:
            self._start()
        return {"Authorization": f"Bearer {token.value}"}

    def secrets(self) -> tuple[str, ...]:
        """Every token of this process: a session that began with an older one may still print it."""
        return tuple(self._used)

    def close(self) -> None:
        """Close azure-identity's connections."""
        azure, self._azure = self._azure, None
        if azure is not None:
            with suppress(Exception):  # nobody is left to be told
                azure.close()

    async def _fetched(self) -> _Token:
        """A valid token after waiting for the one request that all waiters share."""
        if self._fetch is not None or self._failure is None or self._now() >= self._retry_at:
            # Shielded: a session that is cancelled must not take the others' token with it.
            await asyncio.shield(self._start())
        if self._token is None or self._token.expires_at <= self._now():
            message, hint = self._failure or ("no Entra ID token", None)
            raise RefusedError(message, hint=hint)
        return self._token

    def _start(self) -> asyncio.Task[None]:
        """The running request, or a new one."""
        if self._fetch is None:
            self._fetch = asyncio.get_running_loop().create_task(self._refresh(), name="entra-token")
        return self._fetch

    async def _refresh(self) -> None:
        """Ask once; never raises, so that an unwatched background refresh leaves no unretrieved exception."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                self._accept(await _in_daemon_thread(self._ask))
        except TimeoutError:
            self._fail(f"no Entra ID token: the identity service did not answer within {FETCH_TIMEOUT_S:.0f} s", None)
        except Exception as error:  # azure-identity raises its own, azure-core's, msal's and requests' errors
            self._fail(_no_token(error, self._asker, self.secrets()), self._asker.hint)
        finally:
            self._fetch = None

    def _ask(self) -> _Token:
        """Runs in a thread: the only place that calls azure-identity."""
        if self._azure is None:
            self._azure = self._make()
        token = self._azure.get_token(self._scope)
        return _Token(token.token, float(token.expires_on))

    def _accept(self, token: _Token) -> None:
        self._used[token.value] = None
        if token.expires_at <= self._now():
            self._fail("the identity service handed out an Entra ID token that has already expired", CLOCK_HINT)
            return
        newer = self._token is None or token.value != self._token.value
        self._token = token if newer else self._token
        self._failure = None
        self._retry_at = 0.0 if newer else self._now() + RETRY_S
        # Not public: which link of the chain answered. Worth a guess, not worth a failure.
        link = getattr(self._azure, "_successful_credential", None)
        if link is not None:
            self.kind = f"entra ({self._asker.credential}: {type(link).__name__})"

    def _fail(self, message: str, hint: str | None) -> None:
        first = self._failure is None
        self._failure = message, hint
        self._retry_at = self._now() + RETRY_S
        token = self._token
        if first and token is not None and token.expires_at > self._now():
            left = token.expires_at - self._now()
            self._warn(f"the Entra ID token could not be renewed and ends in {left:.0f} s: {message}")


def choose_credential(
    *,
    auth: Auth,
    api_key_env: str,
    auth_header: AuthHeader,
    scope: str,
    asker: str = "default",
    env: Mapping[str, str],
    warn: Warn = _log.warning,
) -> Credential:
    """The credential that a target is used with; nothing is sent yet.

    Args:
        auth: ``entra``, ``api_key`` or ``none``, already decided.
        api_key_env: name of the variable that holds the key.
        auth_header: where a key goes; a token is always a Bearer token.
        scope: of the Entra ID token.
        asker: who asks for the Entra ID token, one of :data:`ASKERS`.
        env: the environment to read the key from. azure-identity reads the process's own.
        warn: receives a sentence about a token that could not be renewed.

    Raises:
        RefusedError: ``api_key`` was asked for, and the variable is unset or cannot be a header's value.
    """
    if auth == "none":
        return NoCredential()
    if auth == "entra":
        return EntraToken(scope, asker=asker, warn=warn)
    key = env.get(api_key_env, "").strip()
    if not key:
        cures = [f"set {api_key_env} (export {api_key_env}=...)", "name another variable in target.api_key_env"]
        if auth_header == "api-key":  # Azure's, which takes tokens too
            cures.append("choose target.auth: entra")
        raise RefusedError(
            f"no API key: the environment variable {api_key_env} is not set",
            hint=f"{', '.join(cures[:-1])}, or {cures[-1]}",
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise RefusedError(
            f"the API key in {api_key_env} has blanks, line breaks or characters that no HTTP header can carry",
            hint=f"copy the key again into {api_key_env}, without quotes and line breaks",
        )
    return ApiKey(key, variable=api_key_env, header=auth_header)


def default_auth(provider: str, api_key_env: str, env: Mapping[str, str]) -> Auth:
    """The kind of credential for a scenario that names none.

    Azure: a key when its variable is set, else Entra ID; OpenAI: a key; ``custom`` and ``simulator``: none.
    """
    if provider == "azure":
        return "api_key" if env.get(api_key_env, "").strip() else "entra"
    return "api_key" if provider == "openai" else "none"


async def _in_daemon_thread(call: Callable[[], _Token]) -> _Token:
    """``call()`` in a thread that neither the event loop's end nor the process's end waits for."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Token] = loop.create_future()

    def settle(token: _Token | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if token is not None:
            outcome.set_result(token)
        else:
            outcome.set_exception(error or RuntimeError("no token and no error"))

    def work() -> None:
        token: _Token | None = None
        failure: Exception | None = None
        try:
            token = call()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, token, failure)

    threading.Thread(target=work, name="entra-token", daemon=True).start()
    return await outcome


# How azure-identity lists what it tried: a tab, the class, a colon, and a paragraph.
_ATTEMPT = re.compile(r"^\t(\w+): ?(.*(?:\n(?!\t|To mitigate).*)*)", re.M)
_NOISE = re.compile(
    r"^\w+ (?=authentication unavailable)|, no response from the IMDS endpoint|\s*(?:Visit|See) https?://.*", re.S
)


def _no_token(error: Exception, asker: Asker, secrets: tuple[str, ...]) -> str:
    """azure-identity's page of text as one sentence: what was tried and why each did not do, without a secret."""
    text = str(error)
    attempts = [(name, _reason(name, why, secrets)) for name, why in _ATTEMPT.findall(text)]
    if not attempts:
        # Of a single credential, the sentence after this one says why.
        text = text.replace("authentication unavailable. ", "", 1)
        by = "" if asker is ASKERS["default"] else f" from {asker.credential}"
        return f"no Entra ID token{by}: {_reason(asker.credential, text, secrets) or type(error).__name__}"
    tried = "; ".join(f"{name}: {why}" if why else name for name, why in attempts)
    return f"no Entra ID token; tried {tried}"


def _reason(name: str, text: str, secrets: tuple[str, ...]) -> str:
    """The first sentence of a reason, without the class's name, links and line breaks, at most 160 characters."""
    text = redact(_NOISE.sub("", text.removeprefix(name).strip()), secrets)
    # Before this phrase stands that the environment is not configured, which is not so: the endpoint said no.
    text = text.partition("Token request error: ")[2] or text
    sentence = re.split(r"(?<=[^A-Z])[.!]\s|\n", text, maxsplit=1)[0].strip().rstrip(".")
    return sentence if len(sentence) <= 160 else sentence[:159] + "…"
