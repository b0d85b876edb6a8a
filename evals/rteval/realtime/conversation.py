"""One session's protocol without I/O or clock: getting ready, then handing every event to the turn it is for."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import events as ev
from .dialects import Dialect
from .turn import Turn

__all__ = ["Conversation", "differing_settings"]


class Conversation:
    """What holds between the turns of one session.

    A session is ready when the server acknowledged our ``session.update``; an opened socket is not success, and neither
    is ``session.created``. An error before that is a refusal: services differ in whether they name the request at
    fault, and some close right after it.

    Attributes:
        new_event_id: makes an id for a request of ours, so that an error can name it.
        ready_ns: when the acknowledgement arrived.
        refusal: the error that ended the set-up, or ``None``.
        session_id, reported_model, expires_at: what the server said of itself (``expires_at`` in Unix seconds).
        ignored_settings: paths of settings that the acknowledged session does not show as we asked for them.
        unknown_events: how often each unknown event type came.
        expired: whether the server said that the session reached its longest life.
    """

    def __init__(self, dialect: Dialect, settings: ev.SessionSettings) -> None:
        self.dialect = dialect
        self.settings = settings
        # Turns hold on to it, and it holds on to nothing: a session that ended is freed without the garbage collector.
        self.new_event_id: Callable[[], str] = (f"rteval_{number}" for number in itertools.count(1)).__next__
        self.ready_ns: int | None = None
        self.refusal: ev.ErrorReported | None = None
        self.session_id: str | None = None
        self.reported_model: str | None = None
        self.expires_at: int | None = None
        self.ignored_settings: tuple[str, ...] = ()
        self.unknown_events: Counter[str] = Counter()
        self.unsolicited_responses = 0
        self.rate_limits: tuple[dict[str, Any], ...] = ()
        self.expired = False
        self._update_sent = False
        self._turns: list[Turn] = []
        self._foreign: set[str] = set()

    def add(self, turn: Turn) -> None:
        """Make ``turn`` the one that new responses belong to; earlier turns still get their transcripts."""
        for earlier in self._turns:
            if earlier.settled:  # what still comes of its answers must not become the answer to the next turn
                self._foreign |= earlier.response_ids
        self._turns = [*self.unsettled, turn]

    @property
    def unsettled(self) -> list[Turn]:
        """The turns whose rows are not complete, oldest first."""
        return [turn for turn in self._turns if not turn.settled]

    def lost(self, at_ns: int, code: str, message: str | None = None) -> None:
        """The connection ended without our asking."""
        for turn in self.unsettled:
            turn.lost(at_ns, "session_expired" if self.expired else code, message)

    def feed(self, at_ns: int, event: ev.ServerEvent) -> list[ev.ClientEvent]:
        """An event arrived. Returns what has to be sent now."""
        # Nine tenths of all events are audio of the answer under way: they must not pass through all that follows.
        if type(event) is ev.AudioDelta and self._turns and self._turns[-1].feed_audio(at_ns, event):
            return []
        match event:
            case ev.UnknownEvent():
                self.unknown_events[event.type or event.reason or "?"] += 1
                if self._turns:
                    self._turns[-1].unknown_events += 1
                return []
            case ev.RateLimitsUpdated():
                self.rate_limits = event.limits
                return []
            case ev.SessionCreated():
                return self._created(event.session)
            case ev.SessionUpdated():
                self._updated(at_ns, event.session)
                return []
            case ev.ErrorReported() if self.ready_ns is None:
                self.refusal = self.refusal or event
                return []
        if isinstance(event, ev.ErrorReported) and event.code == "session_expired":
            self.expired = True
        turn = self._turn_of(event)
        return turn.feed(at_ns, event) if turn is not None else []

    def _created(self, session: dict[str, Any]) -> list[ev.ClientEvent]:
        self._note(session)
        if self._update_sent:  # told twice: harmless
            return []
        self._update_sent = True
        return [ev.UpdateSession(settings=self.settings, event_id=self.new_event_id())]

    def _updated(self, at_ns: int, session: dict[str, Any]) -> None:
        self._note(session)
        if self.ready_ns is None and self._update_sent:
            self.ready_ns = at_ns
            self.ignored_settings = tuple(differing_settings(self.dialect.session(self.settings), session))

    def _note(self, session: dict[str, Any]) -> None:
        session_id, model, expires_at = session.get("id"), session.get("model"), session.get("expires_at")
        self.session_id = session_id if isinstance(session_id, str) else self.session_id
        self.reported_model = model if isinstance(model, str) else self.reported_model
        is_time = type(expires_at) is int and abs(expires_at) < 2**63
        self.expires_at = expires_at if is_time else self.expires_at

    def _turn_of(self, event: ev.ServerEvent) -> Turn | None:
        if not self._turns:
            return None
        current = self._turns[-1]
        item_id = getattr(event, "item_id", None)
        response_id = getattr(event, "response_id", None)
        if isinstance(event, ev.ErrorReported):
            return next((turn for turn in self._turns if turn.owns_request(event.client_event_id)), current)
        if isinstance(event, ev.InputTranscriptDelta | ev.InputTranscriptCompleted | ev.InputTranscriptFailed):
            return next((turn for turn in self._turns if turn.owns_item(item_id)), current)
        if isinstance(event, ev.ResponseCreated | ev.ResponseDone):
            response_id = event.response.id or None
        if response_id is None:
            return current
        owner = next((turn for turn in self._turns if turn.owns_response(response_id)), None)
        if owner is not None:
            return owner
        if not current.awaits_answer or response_id in self._foreign:
            # Nobody asked for it: it must not become the answer to the next turn.
            if response_id not in self._foreign:
                self._foreign.add(response_id)
                self.unsolicited_responses += 1
            return None
        return current


def differing_settings(asked: dict[str, Any], effective: dict[str, Any], path: str = "") -> list[str]:
    """Paths of what was asked and the effective session shows otherwise; what it leaves unsaid does not count."""
    differing: list[str] = []
    for key, value in asked.items():
        if key not in effective:
            continue
        shown = effective[key]
        if isinstance(value, dict) and isinstance(shown, dict):
            differing += differing_settings(value, shown, f"{path}{key}.")
        elif isinstance(value, list) and isinstance(shown, list):
            if len(value) != len(shown):
                differing.append(f"{path}{key}")
        elif value != shown:
            differing.append(f"{path}{key}")
    return differing
