"""Why a target said no, as a sentence and its cure; knows the services' answers, never prints a secret."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rteval.redact import redact

__all__ = ["explain_error_code", "explain_refusal"]

ROLE = (
    'the role "Cognitive Services OpenAI User" on the resource (Azure portal, Access control; new roles take minutes)'
)

_NAMES = {"azure": "Azure", "openai": "OpenAI", "simulator": "the simulator"}

_ERROR_CODES: Mapping[str, tuple[str, str]] = {
    "invalid_api_key": (
        "refused the credential",
        "check that the key is complete, not revoked, and belongs to this service",
    ),
    "beta_api_shape_disabled": ("no longer speaks the preview dialect", "set target.dialect: ga"),
    "missing_model": ("was not told which model to use", "set target.model"),
    "invalid_model": ("does not offer that model here", "check target.model against the models of your account"),
    "model_not_found": (
        "does not know that model, or the account has no access to it",
        "check target.model against the models of your account",
    ),
    "rate_limit_exceeded": ("is out of quota", "lower load.sessions or limits.connects_per_s, or ask for more quota"),
    "insufficient_quota": ("has no credit left for this account", "check plan and billing of the account"),
}


def explain_refusal(
    status: int,
    body: bytes | str | None,
    kind: str,
    provider: str,
    *,
    url: str = "",
    location: str | None = None,
    retry_after_s: float | None = None,
    secrets: Collection[str] = (),
) -> tuple[str, str | None]:
    """A handshake that was answered with HTTP ``status`` instead of 101: ``(sentence, hint)``.

    Args:
        status: HTTP status.
        body: of the answer; ``{"error": {"code", "message"}}``, a gateway's ``{"statusCode", "message"}``, any text or
            nothing.
        kind: of the credential that was sent, as :class:`~rteval.client.auth.Credential` names it.
        provider: ``azure``, ``openai``, ``simulator`` or ``custom``.
        url: what was dialled; only its path and the names of its parameters are looked at.
        location: the ``Location`` header of a redirect; only its host and path are shown.
        retry_after_s: what the target asked us to wait.
        secrets: exact values that must not appear.
    """
    # Before anything is shortened: half a secret is not found any more.
    code, message = (redact(part, secrets) for part in _read(body))
    said, hint = _judge(status, code, message, kind, provider, url, location, retry_after_s)
    who = _NAMES.get(provider, "the target")
    return redact(f"{who} {said} ({_evidence(status, code, message)})", secrets), hint


def explain_error_code(
    code: str, message: str, kind: str, provider: str, *, secrets: Collection[str] = ()
) -> tuple[str, str | None]:
    """A refusal that came as an ``error`` event right after the 101, as OpenAI does it: ``(sentence, hint)``."""
    said, hint = _ERROR_CODES.get(code, ("ended the session before it was ready", None))
    if code == "invalid_api_key":
        said = _NO_CREDENTIAL if kind == "none" else f"refused the {_noun(kind)}"
    who = _NAMES.get(provider, "the target")
    message = redact(message, secrets)
    return redact(f"{who} {said} ({_short(f'{code}: {message}' if message else code)})", secrets), hint


_NO_CREDENTIAL = "wants a credential, and none was sent"
_CREDENTIAL_HINT = "set target.auth to entra, or to api_key with the variable that holds it in target.api_key_env"


def _judge(
    status: int,
    code: str,
    message: str,
    kind: str,
    provider: str,
    url: str,
    location: str | None,
    retry_after_s: float | None,
) -> tuple[str, str | None]:
    """What happened and what to do, by status first and by the body where a status has several meanings."""
    match status:
        case 401:
            return _unauthorised(code, message, kind, provider, url)
        case 403:
            return _forbidden(code, message, kind)
        case 400:
            return "did not accept the request", "check target.endpoint, target.api_version and the model or deployment"
        case 404:
            return _not_found(code, message, provider)
        case 407:
            return "was not reached: the proxy wants a login", "check target.proxy"
        case 429:
            wait = "" if retry_after_s is None else f" and asks to wait {retry_after_s:g} s"
            return (
                f"is out of quota{wait}",
                "lower load.sessions or limits.connects_per_s, ramp up more slowly, or ask for more quota",
            )
        case 431:
            return "found too many request headers", "send fewer target.headers (Azure takes ten)"
        case _ if 300 <= status < 400:
            return _redirected(location)
        case _ if status >= 500:
            return "has trouble of its own", "try again later; if it stays, check the service's status page"
    return (
        "answered, but not as a realtime endpoint",
        "check target.endpoint or target.url: nothing here upgrades to a WebSocket",
    )


def _unauthorised(code: str, message: str, kind: str, provider: str, url: str) -> tuple[str, str | None]:
    address = urlsplit(url)
    if address.path.rstrip("/").endswith("/openai/v1/realtime") and "api-version" in parse_qs(address.query):
        return (
            "refused an api-version on the GA address",
            "remove api-version from the address, or use target.dialect: preview",
        )
    if _lacks_role(code, message):
        return "knows this identity, but it lacks a role", f"give the identity {ROLE}"
    if kind == "none":
        return _NO_CREDENTIAL, _CREDENTIAL_HINT
    if kind.startswith("entra"):
        return (
            "refused the Entra ID token",
            f"check that the identity has {ROLE}, that you are signed in to the resource's tenant (az account show), "
            "that target.token_scope fits the endpoint, and that the resource has a custom subdomain",
        )
    where = "the resource of target.endpoint" if provider == "azure" else "this service"
    return f"refused the {_noun(kind)}", f"check that the key is complete, not rotated, and belongs to {where}"


def _forbidden(code: str, message: str, kind: str) -> tuple[str, str | None]:
    text = f"{code} {message}".lower()
    if "authenticationtypedisabled" in text or "key based authentication is disabled" in text:
        return "does not take keys for this resource", "use target.auth: entra"
    if any(word in text for word in ("firewall", "virtual network", "public access", "private endpoint", "network")):
        return (
            "does not take connections from this network",
            "connect from an allowed network, or add this address to the resource's network rules",
        )
    if _lacks_role(code, message) or kind.startswith("entra"):
        return "knows this identity, but it lacks a role", f"give the identity {ROLE}"
    if kind == "none":
        return _NO_CREDENTIAL, _CREDENTIAL_HINT
    return (
        f"does not allow this with the {_noun(kind)}",
        "check that the key's project may use this model and that no network rule keeps you out",
    )


def _not_found(code: str, message: str, provider: str) -> tuple[str, str | None]:
    text = f"{code} {message}".lower()
    if "deployment" in text:
        return (
            "has no such deployment",
            "check target.deployment: the name you gave the deployment, not the model's name",
        )
    if "model" in text:
        return "has no such model", "check target.model"
    if provider == "azure":
        return (
            "has nothing at this address",
            "check target.endpoint and target.deployment; with target.dialect: preview also target.api_version "
            "(retired versions answer like this)",
        )
    return (
        "has nothing at this address",
        "check target.endpoint; target.url is a whole address, e.g. wss://HOST/openai/v1/realtime?model=NAME",
    )


def _redirected(location: str | None) -> tuple[str, str | None]:
    try:
        target = urlsplit(location or "")
        where = f" to {target.hostname or ''}{target.path}" if location else ""
    except ValueError:
        where = " to what is no address"
    return (
        f"redirected us{where}, which is not followed with a credential",
        "check target.endpoint; a deployment that speaks only the GA dialect answers the preview address like this: "
        "set target.dialect: ga",
    )


def _lacks_role(code: str, message: str) -> bool:
    text = message.lower()
    return code == "PermissionDenied" or "lacks the required data action" in text or "principal does not have" in text


def _noun(kind: str) -> str:
    if kind.startswith("entra"):
        return "Entra ID token"
    variable = kind.partition("(")[2].rstrip(")")
    return f"API key of {variable}" if variable else "API key"


def _read(body: bytes | str | None) -> tuple[str, str]:
    """Code and message of a body in any shape; empty strings where there is none."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    try:
        document: Any = json.loads(text)
    except ValueError:
        # An HTML page of some gateway says nothing in its first line.
        return "", "" if text.lstrip().startswith("<") else text
    if not isinstance(document, dict):
        return "", ""
    error = document.get("error", document)
    if not isinstance(error, dict):
        return "", str(error)
    code = error.get("code") or error.get("statusCode") or error.get("type") or ""
    return str(code), str(error.get("message") or "")


def _evidence(status: int, code: str, message: str) -> str:
    """``HTTP 404, DeploymentNotFound: The API deployment ...``."""
    said = ": ".join(part for part in (code if code != str(status) else "", _short(message)) if part)
    return f"HTTP {status}, {said}" if said else f"HTTP {status}"


def _short(text: str) -> str:
    """One line of at most 200 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"
