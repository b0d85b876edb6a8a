"""What a session is: its object on the wire, what a client may change in it, and what that means for the server.

Defaults are those that the services send in ``session.created`` (not those of the reference pages, which differ in
places: 500 ms of silence there, 200 ms on the wire).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...realtime.dialects.shapes import Shape, list_of, one_of, optional, record
from . import ga, preview
from .parts import DETECTION_DEFAULTS, METADATA, VAD_DEFAULTS, Detection, Effective, SessionKind, Wire

__all__ = ["KINDS", "Detection", "Effective", "Kind", "SessionKind", "SessionSettings"]

Kind = Literal["realtime", "transcription"]

KINDS: Mapping[tuple[str, Kind], SessionKind] = {
    ("ga", "realtime"): ga.REALTIME,
    ("ga", "transcription"): ga.TRANSCRIPTION,
    ("preview", "realtime"): preview.REALTIME,
    ("preview", "transcription"): preview.TRANSCRIPTION,
    ("preview-2024-10", "realtime"): preview.FIRST_REALTIME,
    ("voice-live", "realtime"): preview.VOICE_LIVE_REALTIME,
}
"""Session kinds by flavour and purpose. Where a flavour has no transcription sessions there is no entry."""

_COMMON_RESPONSE: dict[str, Shape] = {
    "conversation": optional(one_of("auto", "none")),
    "metadata": METADATA,
    "input": optional(list_of(record({}, open_ended=True))),
}

# Objects that a later value replaces whole: half of a new one and half of an old one means nothing.
_ATOMIC = frozenset({"format", "voice", "tool_choice", "tracing", "truncation", "prompt", "reasoning"})


def _merge(current: Any, update: Any, key: str = "") -> Any:
    if key == "turn_detection" and isinstance(update, dict):
        same = isinstance(current, dict) and current["type"] == update["type"]
        base = current if same else DETECTION_DEFAULTS.get(update["type"], {"type": update["type"]})
        if update["type"].startswith("azure_"):
            base = current if same else {**VAD_DEFAULTS, "type": update["type"]}
        return {**base, **update}
    if key not in _ATOMIC and isinstance(current, dict) and isinstance(update, dict):
        return {**current, **{name: _merge(current.get(name), value, name) for name, value in update.items()}}
    return update


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings of one session at one moment.

    Attributes:
        kind: what may be changed, and how.
        wire: the session object as ``session.created`` and ``session.updated`` carry it.
    """

    kind: SessionKind
    wire: Wire

    @classmethod
    def new(cls, kind: SessionKind, *, session_id: str, model: str, expires_at: int) -> SessionSettings:
        """The settings of a session that has just been opened; ``expires_at`` in Unix seconds."""
        wire = kind.defaults(model)
        wire["id"] = session_id
        wire["expires_at"] = expires_at
        return cls(kind, wire)

    @property
    def effective(self) -> Effective:
        """What they mean."""
        return self.kind.effective(self.wire)

    @property
    def echo(self) -> Wire:
        """What a response object repeats of them."""
        return self.kind.echo(self.wire)

    def updated(self, session: Any) -> SessionSettings:
        """The settings after a client's ``session.update``.

        Raises:
            Refusal: it asks for what cannot be; nothing has changed.
        """
        self.kind.update(session, "session")
        # The model is fixed; the services take the name without acting on it.
        return self._with({key: value for key, value in session.items() if key != "model"}, "session")

    def for_response(self, response: Wire) -> SessionSettings:
        """The settings of one response, given the client's ``response`` object.

        Raises:
            Refusal: it asks for what cannot be.
        """
        fields = {**_COMMON_RESPONSE, **self.kind.response}
        record(fields, open_ended=self.kind.open_response)(response, "response")
        renames = self.kind.renames or {}
        overrides = {
            renames.get(key, key): value
            for key, value in response.items()
            if key in self.kind.response and value is not None
        }
        return self._with(overrides, "response")

    def _with(self, overrides: Wire, path: str) -> SessionSettings:
        wire: Wire = copy.deepcopy(_merge(self.wire, overrides))
        self.kind.settle(wire, path)
        return SessionSettings(self.kind, wire)
