"""Every error of rteval, each with its exit code and, where there is one, a hint.

RtevalError                 a sentence for the user                     exit 70 unless a leaf says otherwise
├── UsageError              the command line is wrong                   exit 2
├── ScenarioError           the scenario file is wrong                  exit 2
├── DatasetError            the dataset is wrong (all problems listed)  exit 2
├── GateError               a gate cannot be read or judged             exit 2
├── RunFolderError          a run folder is missing or unreadable       exit 2
├── RefusedError            no credential, or the target refused us     exit 3
└── TransportError          could not connect, or lost the connection   (a row, not an exit)
    ├── HandshakeError      no WebSocket was opened
    └── ConnectionLost      an open WebSocket ended without our asking

A failure of the target during a run is never one of these leaving the session: it is a row.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ConnectionLost",
    "DatasetError",
    "GateError",
    "HandshakeError",
    "RefusedError",
    "RtevalError",
    "RunFolderError",
    "ScenarioError",
    "TransportError",
    "UsageError",
]


class RtevalError(Exception):
    """An error with a sentence for the user (what, where) and a hint (the cure).

    Attributes:
        exit_code: what the process exits with when the error reaches the front door.
        hint: how to mend it, or ``None``.
    """

    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(RtevalError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class ScenarioError(RtevalError):
    """The scenario file is wrong; the message names file, line and path."""

    exit_code = 2


class DatasetError(RtevalError):
    """The dataset is wrong; ``problems`` lists one sentence for each fault."""

    exit_code = 2

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message if not problems else "\n  ".join([message, *problems]), hint=hint)
        self.problems = tuple(problems)


class GateError(RtevalError):
    """A gate cannot be parsed, or names what is not measured."""

    exit_code = 2


class RunFolderError(RtevalError):
    """A run folder does not exist or holds nothing that can be read."""

    exit_code = 2


class RefusedError(RtevalError):
    """There is no credential, or the target refused the one we have."""

    exit_code = 3


class TransportError(RtevalError):
    """The connection could not be opened or was lost: the stuff of rows, not of exits.

    Attributes:
        code: short machine-readable cause, e.g. ``http_401``, ``close_1006``, ``dns``; goes to ``error_code``.
    """

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class HandshakeError(TransportError):
    """No WebSocket was opened: DNS, TCP, TLS or the HTTP answer said no.

    Attributes:
        status: HTTP status of the answer, or ``None`` when there was none.
        retry_after_s: what the target asked us to wait, or ``None``.
        body: of the HTTP answer; empty when there was none.
        location: where a redirect points, or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        hint: str | None = None,
        body: bytes = b"",
        location: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s
        self.body = body
        self.location = location


class ConnectionLost(TransportError):
    """An open WebSocket ended without our asking.

    Attributes:
        close_code: WebSocket close code (RFC 6455, 7.4), 1006 when no close frame came.
    """

    def __init__(self, message: str, *, close_code: int) -> None:
        super().__init__(message, code=f"close_{close_code}")
        self.close_code = close_code
