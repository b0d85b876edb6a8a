"""What in a scenario is secret: literal ones are found before a run, and none is left in what is stored of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from .redact import MARK, redact
from .scenario_yaml import Node, Path_, Problem, split_path, walk

__all__ = ["Redactor", "literal_secrets", "may_be_secret", "must_not_be_shown"]

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$\$")
_DEFAULTS = re.compile(r":-[^}]*\}")
_DEFAULT = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:-([^}]*)\}")
_PLACEHOLDER = re.compile(rf"({_REFERENCE.pattern}|\$\{{[A-Za-z_][A-Za-z0-9_]*:-[^}}]*\}})")

# Forms that are a credential wherever they stand: OpenAI keys (sk-...), ephemeral client secrets (ek_...), JSON Web
# Tokens (RFC 7519: base64url of '{"' is eyJ), GitHub tokens and AWS key ids, which land in wrong fields now and then.
_UNMISTAKABLE = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{16,}|ek_[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})"
)
# Azure keys have been 32 hex digits, and are 84 letters and digits now.
_KEY_SHAPED = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-fA-F]{32,}|[A-Za-z0-9]{64,})(?![A-Za-z0-9])")
_BEARER = re.compile(r"\bBearer\s+[A-Za-z0-9._~+/-]{8,}", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:authorization|api[-_]?key|key|token|secret|password|passwd|pwd|cookie|credential|sas|sig|signature|"
    r"code|auth|assertion)s?(?:$|[-_.])",
    re.IGNORECASE,
)
_NOT_SECRET_NAME = re.compile(r"^max[-_]|[-_](?:env|scope)$", re.IGNORECASE)
_SCORERS = ("scoring", "scorers")
_CURE = "keep it in an environment variable, and name that in target.api_key_env or write ${NAME}"


def _names_a_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None and _NOT_SECRET_NAME.search(name) is None


def _meant(path: Path_) -> Path_:
    """Where a value belongs: one of the matrix at the place that it is laid over."""
    if path[:1] == ("settled",):
        return ("target", *path[2:])
    if path[:1] == ("matrix",) and len(path) > 3:
        with suppress(ValueError):
            return (*split_path(str(path[3])), *path[4:])
    return path


def may_be_secret(path: Path_) -> bool:
    """Whether the value at ``path`` must not be repeated in a message."""
    path = _meant(path)
    return path[:2] in (("target", "headers"), ("target", "proxy")) or (bool(path) and _names_a_secret(str(path[-1])))


def _literal_part(node: Node) -> str:
    """What of a text stands in the file itself: variables taken out, their defaults kept."""
    if node.written is None:
        return str(node.value)
    return _REFERENCE.sub("", _DEFAULT.sub(r"\1", node.written))


def literal_secrets(root: Node) -> Iterator[Problem]:
    """Keys and tokens that stand in a file or on a command line instead of coming from the environment."""
    for path, node in walk(root):
        if isinstance(node.value, str) and node.value:
            sentence = _literal_secret(path, node)
            if sentence is not None:
                yield Problem(path, sentence, node.origin, node.line)


def _literal_secret(path: Path_, node: Node) -> str | None:
    path = _meant(path)
    text = _literal_part(node)
    name = str(path[-1]) if path else ""
    if path[:2] == ("target", "api_key_env") or (path[:2] == _SCORERS and name == "api_key_env"):
        if _UNMISTAKABLE.search(text) or _KEY_SHAPED.search(text):
            return "looks like a key; give the NAME of the environment variable that holds it"
        return None
    if _UNMISTAKABLE.search(text) or _BEARER.search(text):
        return f"holds a key or token; {_CURE}"
    # Of a scorer's options a word may be a key or an address; a rubric is prose.
    is_word = path[:2] == _SCORERS and len(text.split()) == 1
    if not (is_word or path[:1] == ("target",) or path[:2] == ("session", "raw")):
        return None
    if path[:2] == ("target", "headers") and _names_a_secret(name):
        bare = re.sub(r"^\s*(?:bearer|basic|apikey)?\s*$", "", text, flags=re.IGNORECASE)
        return f"the value of this header is a secret; {_CURE}" if bare else None
    if _KEY_SHAPED.search(text):
        return f"looks like a key; {_CURE}"
    if "://" in node.value:
        return _secret_in_url(node)
    return None


def _secret_in_url(node: Node) -> str | None:
    # Variables stand in place of their values here, so that what is left of them is what the file says.
    written = node.written if node.written is not None else str(node.value)
    try:
        parts = urlsplit(_DEFAULT.sub(r"\1", _REFERENCE.sub("", written)))
    except ValueError:
        return None  # no address: said elsewhere
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    if password or (user and not colon):
        return f"holds a password or token before the @; {_CURE}"
    for pair in parts.query.split("&"):
        key, _, value = pair.partition("=")
        if value and _names_a_secret(unquote(key)):
            return f"its query carries a secret ({unquote(key)}); {_CURE}"
    return None


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes secrets out of a scenario's data.

    Attributes:
        written: for values with secret variables in them, what stands in the file.
        secrets: values of those variables, the longest first, each with its variable's name; taken out wherever else
            they occur.
    """

    written: dict[Path_, str] = field(default_factory=dict, repr=False)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, root: Node) -> Redactor:
        """The redactor for a tree: it knows which values came from which variables."""
        written: dict[Path_, str] = {}
        secrets: dict[str, str] = {}
        for path, node in walk(root):
            if node.written is None:
                continue
            named = bool(path) and _names_a_secret(str(_meant(path)[-1]))
            hidden = [
                (name, value)
                for name, value in node.variables
                if named or _names_a_secret(name) or _looks_secret(value)
            ]
            if hidden or must_not_be_shown(path, str(node.value)):
                written[path] = node.written
            # A short value is no secret worth the name, and would blot out half the text.
            secrets |= {value: name for name, value in hidden if len(value) >= 6}
        return cls(written, dict(sorted(secrets.items(), key=lambda secret: len(secret[0]), reverse=True)))

    def clean(self, data: dict[str, Any]) -> dict[str, Any]:
        """The data without secrets; the argument is left as it is."""
        cleaned = self._clean((), data)
        assert isinstance(cleaned, dict)
        return cleaned

    def _clean(self, path: Path_, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._clean((*path, key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._clean((*path, index), inner) for index, inner in enumerate(value)]
        meant = _meant(path)
        if meant[:2] == ("target", "headers"):
            return "".join(_REFERENCE.findall(_DEFAULTS.sub("}", self.written.get(path, "")))) or MARK
        value = self.written.get(path, value)
        if not isinstance(value, str):
            return value
        if (meant[:1] == ("target",) or meant[:2] == _SCORERS) and "://" in value:
            return redact(value, self.secrets)
        for secret in self.secrets:
            value = value.replace(secret, MARK)
        return value

    def by_reference(
        self, data: dict[str, Any], also: Mapping[Path_, str]
    ) -> tuple[dict[str, Any], list[tuple[Path_, str, bool]]]:
        """The data with nothing secret in it, for another process that resolves the secrets by itself.

        Args:
            data: a scenario as data for JSON.
            also: more values that are not to be told, with what is to be read in their places.

        Returns:
            The data with ``None`` where a secret takes part, and those places: where, what is to be read there instead
            (``${NAME}`` for every secret variable and for every other occurrence of its value), and whether it is text.
        """
        places: list[tuple[Path_, str, bool]] = []
        without = self._without((), data, {**self.written, **also}, places)
        assert isinstance(without, dict)
        return without, places

    def _without(
        self, path: Path_, value: Any, written: Mapping[Path_, str], places: list[tuple[Path_, str, bool]]
    ) -> Any:
        if isinstance(value, dict):
            return {key: self._without((*path, key), inner, written, places) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._without((*path, index), inner, written, places) for index, inner in enumerate(value)]
        if path in written:
            reference = "".join(map(self._named, _PLACEHOLDER.split(written[path])))
        elif isinstance(value, str) and any(secret in value for secret in self.secrets):
            reference = self._named(value, literal=True)
        else:
            return value
        places.append((path, reference, isinstance(value, str)))
        return None

    def _named(self, text: str, *, literal: bool = False) -> str:
        """A text in which every secret is a variable again; ``literal``: with its dollar signs doubled."""
        if not literal and _PLACEHOLDER.fullmatch(text):
            default = _DEFAULT.fullmatch(text)
            tells = default is not None and any(secret in default[1] for secret in self.secrets)
            return _DEFAULTS.sub("}", text) if tells else text
        pattern = "|".join(map(re.escape, self.secrets))
        pieces = re.split(f"({pattern})", text) if pattern else [text]
        return "".join(
            f"${{{self.secrets[piece]}}}" if odd else piece.replace("$", "$$") if literal else piece
            for odd, piece in zip(itertools.cycle((False, True)), pieces, strict=False)
        )


def must_not_be_shown(path: Path_, value: str) -> bool:
    """Whether a value into which variables went is to stay as it was written, whatever they are called."""
    path = _meant(path)
    if path[:1] == ("target",) and ("?" in value or ("://" in value and redact(value) != value)):
        return True
    return may_be_secret(path) or _looks_secret(value)


def _looks_secret(value: str) -> bool:
    return any(pattern.search(value) for pattern in (_UNMISTAKABLE, _KEY_SHAPED, _BEARER))
