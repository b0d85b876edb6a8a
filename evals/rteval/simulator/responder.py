"""The responses of one session: which may begin, what they are given, what they will say, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Answers in one session."""

    def __init__(self, scope: Scope, hearing: Hearing) -> None:
        self._scope = scope
        self._world = scope.world
        self._hearing = hearing
        self._running: dict[str, _Running] = {}
        self._active: _Running | None = None
        self._queued: SessionSettings | None = None
        self._lines: list[TruthLine] = []
        self._previous = Tokens()

    # ---- what a session asks ----

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
        if self._active is None:
            self.respond(settings, list(self._scope.conversation.items.values()))
        else:
            self._queued = settings

    def respond(
        self,
        settings: SessionSettings,
        context: list[Stored],
        *,
        in_band: bool = True,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Begin a response.

        Args:
            settings: the session's, with what the client overrode for this response.
            context: the items it sees.
            in_band: whether it writes to the conversation.
            metadata: echoed in its object.
        """
        scope, now_ns = self._scope, self._scope.timers.now_ns
        faults = scope.faults.begin_response()
        if not self._world.admit_response(now_ns):
            faults = (*faults, Fault(kind="rate_limited"))
        effective = settings.effective
        answer_id = scope.new_id("resp_")
        source = next((item for item in reversed(context) if item.role == "user"), None)
        line = self._line(answer_id, source, effective)
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
        queued, self._queued = self._queued, None
        if queued is not None:
            self.respond_to_speech(queued)

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

    def _line(self, answer_id: str, source: Stored | None, settings: Effective) -> TruthLine:
        line = TruthLine(
            session_id=self._scope.session_id,
            response_id=answer_id,
            t_request_ns=self._scope.timers.now_ns,
            hand_over=self._hand_over,
        )
        self._lines.append(line)
        if source is not None:
            self._hearing.count_for(line, source, transcribing=settings.transcription is not None)
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
        rng = self._world.rng("answer", f"{self._scope.number}/{line.response_id}" if item is None else item.id)
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
