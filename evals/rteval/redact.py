"""Takes secrets out of text that people or files will see: by their exact values, and by what secrets look like."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

__all__ = ["MARK", "redact"]

MARK = "***"
"""What stands where a secret was."""

# Scrubbing a value of one to three characters would blank letters all over a sentence and protect nothing.
SHORTEST_SECRET = 4

_VALUE = r"""[^\s"'&,;<>(){}\[\]\\]"""

PATTERNS = (
    # Authorization: Bearer TOKEN, {"authorization": "Bearer TOKEN"}, ?Authorization=Bearer%20TOKEN
    re.compile(rf"""authorization["']?\s*[:=]\s*["']?((?:(?:bearer|basic|token)\s+)?{_VALUE}+)""", re.I),
    # A Bearer value by itself; a digit or length tells it from the word that follows "bearer" in a sentence.
    re.compile(rf"\b(?:bearer|basic)(?:\s+|%20|\+)((?=[^\s\"']*\d|[^\s\"']{{20}}){_VALUE}{{6,}})", re.I),
    # api-key: KEY, "api_key": "KEY", AZURE_OPENAI_API_KEY=KEY, Ocp-Apim-Subscription-Key: KEY
    re.compile(rf"""(?:api[-_]?key|subscription-key|identity[-_]header)["']?\s*[:=]\s*["']?({_VALUE}+)""", re.I),
    # access_token=TOKEN, "refresh_token": "TOKEN", client_secret=S, sig=S; "total_tokens: 5" is no secret.
    re.compile(
        r"""(?:(?:access|refresh|id|ad|session)[-_]?token|client[-_]?(?:secret|assertion)|password|\bsig(?:nature)?)"""
        rf"""["']?\s*[:=]\s*["']?({_VALUE}+)""",
        re.I,
    ),
    re.compile(rf"""(?:\btoken|secret)(?:["']\s*:\s*["']|=["']?)({_VALUE}+)""", re.I),
    # Browser clients put the key into the list of subprotocols.
    re.compile(rf"openai-insecure-api-key\.({_VALUE}+)", re.I),
    # A JSON Web Token: base64url of '{"' first, so it starts with eyJ. A torn one is as secret as a whole one.
    re.compile(r"(?<![A-Za-z0-9])(eyJ(?:[\w-]{8,}|[\w-]*\.)[\w.~-]*)"),
    # Keys and ephemeral keys of OpenAI.
    re.compile(r"(?<![A-Za-z0-9])((?:sk|ek)[-_][\w-]{8,})"),
    # ://user:password@host
    re.compile(r"\b(?:wss?|https?)://([^\s/@?#\"']+)@"),
)

_URL_QUERY = re.compile(r"""\b(?:wss?|https?)://[^\s"'<>?]*\?([^\s"'<>]*)""", re.I)
_PARAMETER = re.compile(r"(?:^|(?<=[&;?]))(?:([^=&;?#]*)=)?([^&;?#]+)")
# These parts of an address say what is dialled; without them a message about a wrong address would be of no use.
_SHOWN = frozenset({"api-version", "deployment", "intent", "model"})

Span = tuple[int, int]


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` with every secret replaced by :data:`MARK`.

    Two nets, because each has holes: ``secrets`` are found wherever they occur, also percent-encoded or escaped as
    JSON; Bearer values, JSON Web Tokens, ``api-key=``, ``ek_`` and ``sk-`` keys, the key in a browser's subprotocol,
    and the values in a URL's query (but for model, deployment, api-version and intent) are found by their looks.
    Exact values below four characters are left to the second net.
    """
    pieces: list[str] = []
    position = 0
    for start, end in sorted([*_exact(text, secrets), *_by_looks(text)]):
        if start > position or not pieces:
            pieces += [text[position:start], MARK]
        position = max(position, end)
    return "".join([*pieces, text[position:]])


def _exact(text: str, secrets: Iterable[str]) -> Iterator[Span]:
    """Every occurrence of every secret in every usual spelling, overlapping ones too."""
    for secret in set(secrets):
        if len(secret) < SHORTEST_SECRET:
            continue
        spellings = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
        for spelling in spellings:
            at = text.find(spelling)
            while at >= 0:
                yield at, at + len(spelling)
                at = text.find(spelling, at + 1)


def _by_looks(text: str) -> Iterator[Span]:
    """What looks like a secret, whatever its value."""
    for pattern in PATTERNS:
        for match in pattern.finditer(text):
            yield match.span(1)
    for url in _URL_QUERY.finditer(text):
        for parameter in _PARAMETER.finditer(text, *url.span(1)):
            if parameter[1] not in _SHOWN:
                yield parameter.span(2)
