"""The responses of one session: which may begin, what they are given, what they will say, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from ..realtime.dialects.shapes import Refusal
from .answer import Answer, Script
from .behaviour import Fault
from .conversation import Stored, Tokens, text_tokens, total
from .hearing import Hearing
from .scope import Process, Scope
from .settings import Effective, SessionSettings
from .tools import choose_call
from .truth import TruthLine
from .voice import answer_for

__all__ = ["Responder"]

# Cached input comes in lumps of this many tokens.
CACHE_LUMP = 64


@dataclass(slots=True, eq=False)
class _Running:
    """A response under way, the user item that it answers, and the process that says it."""

    answer: Answer
    source: Stored | None
    process: Process = field(init=False)


class Responder:
    """Answers in one session.

    Args:
        scope: the session's surroundings.
        hearing: what it heard.
        answered: is told when an answer ended, and how long (ms) it plays; what was broken off plays no more.
    """

    def __init__(self, scope: Scope, hearing: Hearing, answered: Callable[[float], None]) -> None:
        self._scope = scope
        self._world = scope.world
        self._hearing = hearing
        self._answered = answered
        self._running: dict[str, _Running] = {}
        self._active: _Running | None = None
        self._queued: tuple[SessionSettings, int] | None = None
        self._lines: list[TruthLine] = []
        self._previous = Tokens()

    # ---- what a session asks ----

    @property
    def busy(self) -> bool:
        """Whether a response writes to the conversation now."""
        return self._active is not None

    def check_free(self) -> None:
        """Whether a client's response may write to the conversation now.

        Raises:
            Refusal: another one does.
        """
        if self._active is not None:
            raise _busy(self._active.answer.id)
        if self._scope.faults.strike("create_refused") is not None:
            raise _busy(self._scope.new_id("resp_"))

    def respond_to_speech(self, settings: SessionSettings) -> None:
        """Answer a turn that the detection ended; an answer that nobody interrupted is finished first."""
        self._queued = settings, self._scope.timers.now_ns
        if self._active is None:
            self._respond_to_queued()

    def _respond_to_queued(self) -> None:
        if self._queued is not None:
            (settings, seen_ns), self._queued = self._queued, None
            self.respond(settings, list(self._scope.conversation.items.values()), seen_ns=seen_ns)

    def respond(
        self,
        settings: SessionSettings,
        context: list[Stored],
        *,
        in_band: bool = True,
        metadata: dict[str, str] | None = None,
        seen_ns: int | None = None,
    ) -> None:
        """Begin a response.

        Args:
            settings: the session's, with what the client overrode for this response.
            context: the items it sees.
            in_band: whether it writes to the conversation.
            metadata: echoed in its object.
            seen_ns: when the end of the turn that it answers was seen; ``None``: now.
        """
        scope, now_ns = self._scope, self._scope.timers.now_ns
        faults = scope.faults.begin_response()
        if not self._world.admit_response(now_ns):
            faults = (*faults, Fault(kind="rate_limited"))
        effective = settings.effective
        answer_id = scope.new_id("resp_")
        source = next((item for item in reversed(context) if item.role == "user"), None)
        line = self._line(answer_id, source, now_ns if seen_ns is None else seen_ns)
        into = self._input(context, effective)
        answer = Answer(
            id=answer_id,
            outlet=scope.outlet,
            behaviour=self._world.behaviour,
            settings=effective,
            echo=settings.echo,
            conversation=scope.conversation if in_band else None,
            metadata=metadata,
            requested_ns=now_ns,
            input=into,
            cached=self._cached(into) if in_band else Tokens(),
            faults=faults,
            truth=line,
            new_id=scope.new_id,
            limits=lambda: self._world.limits(scope.timers.now_ns),
            script=lambda: self._script(line, context, source, effective),
        )
        running = _Running(answer, source)
        running.process = self._run(running)
        self._running[answer_id] = running
        if in_band:
            self._active = running
        # At once, so that what the client's next frame brings comes after response.created.
        scope.timers.step(running.process)

    def interrupt(self) -> None:
        """The caller spoke into the answer."""
        if self._active is not None:
            self._cancel(self._active, "turn_detected")

    def cancel(self, response_id: str | None) -> None:
        """The client wants no more of a response.

        Raises:
            Refusal: there is none.
        """
        running = self._active if response_id is None else self._running.get(response_id)
        if running is None:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        self._cancel(running, "client_cancelled")

    def close(self) -> None:
        """The session is over."""
        for running in self._running.values():
            running.process.close()
        for line in list(self._lines):
            line.abandon()

    # ---- life of a response ----

    def _run(self, running: _Running) -> Process:
        yield from running.answer.run()
        if running.answer.finished:
            self._ended(running)

    def _cancel(self, running: _Running, reason: str) -> None:
        running.process.close()
        running.answer.finish("cancelled", reason=reason)
        self._ended(running)

    def _ended(self, running: _Running) -> None:
        answer = running.answer
        self._running.pop(answer.id, None)
        self._world.spend(self._scope.timers.now_ns, answer.tokens)
        if running is not self._active:
            return
        self._active = None
        self._previous = answer.input
        if running.source is not None:
            self._hearing.answered(running.source)
        for item in answer.output:
            self._scope.conversation.keep_audio(item)
        self._answered(sum(item.audio_ms for item in answer.output if item.status == "completed"))
        self._respond_to_queued()

    # ---- what it is given ----

    def _input(self, context: list[Stored], settings: Effective) -> Tokens:
        tools = sum(text_tokens(orjson.dumps(tool).decode()) for tool in settings.tools)
        return total(context, self._world.behaviour.usage) + Tokens(text=text_tokens(settings.instructions) + tools)

    def _cached(self, into: Tokens) -> Tokens:
        """What the input shares with the response before it."""
        share = self._world.behaviour.usage.cached_share
        return Tokens(
            text=int(min(self._previous.text, into.text) * share) // CACHE_LUMP * CACHE_LUMP,
            audio=int(min(self._previous.audio, into.audio) * share) // CACHE_LUMP * CACHE_LUMP,
        )

    # ---- truth ----

    def _line(self, answer_id: str, source: Stored | None, seen_ns: int) -> TruthLine:
        line = TruthLine(
            session_id=self._scope.session_id,
            response_id=answer_id,
            t_request_ns=seen_ns,
            hand_over=self._hand_over,
        )
        self._lines.append(line)
        if source is not None:
            self._hearing.count_for(line, source)
        return line

    def _hand_over(self, line: TruthLine) -> None:
        self._lines.remove(line)
        self._world.truth(line)

    # ---- what it says ----

    def _script(
        self, line: TruthLine, context: list[Stored], source: Stored | None, settings: Effective
    ) -> Iterator[Script | None]:
        item = transcript = prompt = None
        if source is not None and self._hearing.is_audio(source):
            for known in self._hearing.known(source):
                if known is None:
                    yield None
                    continue
                item = known.recognised.item
                transcript = known.recognised.transcript if item is not None else None
                line.t_voice_end_ns = known.voice_end_ns
        elif source is not None:
            prompt = source.text
            item = self._world.prompt_item(prompt)
        line.item = None if item is None else item.id
        rng = self._scope.rng_for("answer", item)
        expected = (item.expect if item is not None else None) or {}
        call = None
        if not context or context[-1].type != "function_call_output":
            call = choose_call(settings.tools, settings.tool_choice, expected.get("tool_call"))
        yield Script(
            ttfa_ms=self._world.behaviour.ttfa_ms.sample_ms(rng),
            text=answer_for(item, transcript, prompt, rng),
            call=call,
            pause_ms=lambda audio_ms: self._world.behaviour.delta_pause_ms(audio_ms, rng),
        )


def _busy(response_id: str) -> Refusal:
    return Refusal(
        "conversation_already_has_active_response",
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
    )
