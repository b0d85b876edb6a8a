"""One response of the simulated model, as a process that yields the times at which it wants to go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pybase64

from ..formats import AudioFormat
from ..realtime import events as ev
from ..realtime.dialects.shapes import Refusal
from ..records import Usage
from .behaviour import Behaviour, Fault, find
from .conversation import Conversation, Stored, Tokens, text_tokens
from .outlet import Close, Drop, Outlet
from .settings import Effective
from .tools import Call
from .truth import TruthLine
from .voice import interleave, slice_text, spoken

__all__ = ["Answer", "Script"]

# How far the transcript runs ahead of the first audio, and how fast the pieces of a text come.
TRANSCRIPT_LEAD_MS = 90.0
TEXT_GAP_MS = 12.0
ARGUMENTS_PIECE = 12
ONE_BYTE_DELTAS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What an answer will be, decided before it begins to speak.

    Attributes:
        text: its words; with a call there are none.
        call: the function to call instead.
        ttfa_ms: from the request to the first piece of content that matters.
        pauses_ms: pauses after audio deltas, by their length in ms.
    """

    text: str = ""
    call: Call | None = None
    ttfa_ms: float = 0.0
    pause_ms: Callable[[float], float] = lambda audio_ms: 0.0


@dataclass(slots=True, kw_only=True)
class Answer:
    """One response, from ``response.created`` to ``response.done``.

    Attributes:
        id: its ``resp_...`` id.
        settings: what it was asked to be.
        echo: what its object repeats of them on the wire.
        conversation: where its items go; ``None`` for an out-of-band response.
        input: tokens of everything it was given, and how many of them were cached.
        limits: makes the entries of ``rate_limits.updated``; ``None`` when they are never sent.
        script: waits for what was heard and decides what to say: yields ``None`` while it must wait.
        finished: ``response.done`` was said.
    """

    id: str
    outlet: Outlet
    behaviour: Behaviour
    settings: Effective
    echo: Mapping[str, Any]
    conversation: Conversation | None
    metadata: dict[str, str] | None
    requested_ns: int
    input: Tokens
    cached: Tokens
    faults: tuple[Fault, ...]
    truth: TruthLine
    new_id: Callable[[str], str]
    limits: Callable[[], tuple[dict[str, Any], ...]]
    script: Callable[[], Iterator[Script | None]]
    output: list[Stored] = field(default_factory=list)
    finished: bool = False
    stalled: bool = False
    _open: Stored | None = None
    _part_open: bool = False
    _announced: bool = False
    _output_tokens: Tokens = field(default_factory=Tokens)
    _deltas: int = 0

    # ---- the process ----

    def run(self) -> Generator[int | None, None, None]:
        """Say the answer; yields when (ns) to go on, or ``None`` to wait until something was heard."""
        if (ending := find(self.faults, "drop_before_answer", "close_before_answer", "no_answer")) is not None:
            self._break_off(ending)
            return
        failure = find(self.faults, "failed_response", "failed_without_created", "rate_limited")
        if failure is None or failure.kind != "failed_without_created":
            self._announce()
        self._disturb()
        script: Script | None = None
        for script in self.script():
            if script is not None:
                break
            yield None
        assert script is not None
        if failure is not None:
            yield self._after(script.ttfa_ms / 2)
            self._fail(failure)
            return
        if find(self.faults, "empty_response"):
            yield self._after(script.ttfa_ms)
            self.finish("completed")
            return
        yield from self._content(script)

    def _content(self, script: Script) -> Iterator[int | None]:
        if script.call is not None:
            yield self._after(script.ttfa_ms)
            yield from self._call(script.call)
        elif self.settings.wants_audio and not find(self.faults, "text_only"):
            yield from self._speak(script)
        else:
            yield from self._write(script)
        if not self.finished and not self.stalled and not self.outlet.muted:
            self._complete()

    def _complete(self) -> None:
        self.finish("completed")
        late = find(self.faults, "deltas_after_done")
        if late is not None and self.output:
            for _ in range(late.count):
                self._tell_audio(self.output[0], self.output[0].audio[-1] if self.output[0].audio else "AAAA")

    def _after(self, ms: float) -> int:
        return self.requested_ns + round(ms * 1e6)

    # ---- kinds of content ----

    def _speak(self, script: Script) -> Iterator[int]:
        fmt = self.settings.output_format
        speech = spoken(script.text, fmt, self.behaviour.leading_silence_ms)
        deltas, sizes = self._bent(speech.audio, speech.deltas, speech.delta_bytes, fmt)
        words = slice_text(script.text)
        due = self._after(script.ttfa_ms)
        yield max(self.requested_ns, due - round(min(TRANSCRIPT_LEAD_MS, script.ttfa_ms / 2) * 1e6))
        item = self._open_message("audio")
        for kind, index in interleave(words, len(deltas)):
            if kind == "text":
                if self._exhausted(Tokens(text=text_tokens(words[index]))):
                    return
                self._spend(Tokens(text=text_tokens(words[index])))
                item.transcript = (item.transcript or "") + words[index]
                self._tell_text(item, words[index])
                continue
            yield due
            if self._struck() or self._exhausted(self._audio_tokens(sizes[index], fmt)):
                return
            self._spend(self._audio_tokens(sizes[index], fmt))
            audio_ms = 1000 * fmt.seconds(sizes[index])
            item.audio_ms += audio_ms
            item.audio.append(deltas[index])
            self._tell_audio(item, deltas[index])
            self._deltas += 1
            due += round(script.pause_ms(audio_ms) * 1e6)
        self._struck()

    def _write(self, script: Script) -> Iterator[int]:
        yield self._after(script.ttfa_ms)
        item = self._open_message("text")
        for index, piece in enumerate(slice_text(script.text)):
            yield self._after(script.ttfa_ms + index * TEXT_GAP_MS)
            if self._struck() or self._exhausted(Tokens(text=text_tokens(piece))):
                return
            self._spend(Tokens(text=text_tokens(piece)))
            item.text += piece
            self._tell_text(item, piece)
            self._deltas += 1
        self._struck()

    def _call(self, call: Call) -> Iterator[int]:
        item = Stored(
            id=self.new_id("item_"),
            type="function_call",
            status="in_progress",
            name=call.name,
            call_id=self.new_id("call_")[: len("call_") + 16],
        )
        self._open_item(item)
        start = self.requested_ns
        for index in range(0, len(call.arguments), ARGUMENTS_PIECE):
            piece = call.arguments[index : index + ARGUMENTS_PIECE]
            if self._exhausted(Tokens(text=text_tokens(piece))):
                return
            self._spend(Tokens(text=text_tokens(piece)))
            item.text += piece
            self.outlet.tell(
                ev.FunctionArgumentsDelta(
                    response_id=self.id,
                    call_id=item.call_id,
                    delta=piece,
                    item_id=item.id,
                    output_index=len(self.output) - 1,
                )
            )
            yield start

    def _bent(
        self, audio: bytes, deltas: tuple[str, ...], sizes: tuple[int, ...], fmt: AudioFormat
    ) -> tuple[list[str], list[int]]:
        """The answer's deltas, after the faults that change them."""
        pieces: list[bytes] | None = None
        if find(self.faults, "silent_audio"):
            pieces = [fmt.silence * (size // fmt.sample_bytes) for size in sizes]
        if find(self.faults, "odd_deltas"):
            step = 4801
            pieces = [audio[at : at + step] for at in range(0, len(audio), step)]
        if find(self.faults, "one_byte_deltas"):
            pieces = [audio[at : at + 1] for at in range(min(ONE_BYTE_DELTAS, len(audio)))]
            pieces += [audio[ONE_BYTE_DELTAS:]] if len(audio) > ONE_BYTE_DELTAS else []
        if pieces is not None:
            deltas = tuple(pybase64.b64encode_as_string(piece) for piece in pieces)
            sizes = tuple(map(len, pieces))
        if find(self.faults, "empty_first_delta"):
            deltas, sizes = ("", *deltas), (0, *sizes)
        return list(deltas), list(sizes)

    # ---- tokens ----

    def _audio_tokens(self, size: int, fmt: AudioFormat) -> Tokens:
        return Tokens(audio=math.ceil(fmt.seconds(size) * self.behaviour.usage.output_audio_tokens_per_s))

    def _spend(self, tokens: Tokens) -> None:
        self._output_tokens += tokens

    def _exhausted(self, more: Tokens) -> bool:
        """End the response as incomplete when ``more`` tokens would pass its limit."""
        limit = self.settings.max_output_tokens
        if limit is None or (self._output_tokens + more).total <= limit:
            return False
        self.finish("incomplete", reason="max_output_tokens")
        return True

    @property
    def tokens(self) -> int:
        """All tokens so far."""
        return self.input.total + self._output_tokens.total

    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            input_tokens=self.input.total,
            output_tokens=self._output_tokens.total,
            input_text_tokens=self.input.text,
            input_audio_tokens=self.input.audio,
            input_cached_tokens=self.cached.total,
            input_cached_text_tokens=self.cached.text,
            input_cached_audio_tokens=self.cached.audio,
            output_text_tokens=self._output_tokens.text,
            output_audio_tokens=self._output_tokens.audio,
        )

    # ---- faults ----

    def _disturb(self) -> None:
        """Say what a client did not expect."""
        for fault in self.faults:
            match fault.kind:
                case "malformed_json":
                    self.outlet.send_raw(b'{"type":"response.output_audio.delta","delta":')
                case "binary_frame":
                    self.outlet.send_raw(b"\x00\x01\x02", binary=True)
                case "unknown_event":
                    self.outlet.send_raw(
                        orjson.dumps({"type": "response.surprise.added", "event_id": self.outlet.event_id()})
                    )
                case "not_an_object":
                    self.outlet.send_raw(b"[1,2,3]")
                case "error_event":
                    self._error_event(fault)
                case "error_event_without_id":
                    self._error_event(fault, nameless=True)
                case _:
                    pass

    def _error_event(self, fault: Fault, *, nameless: bool = False) -> None:
        event = ev.ErrorReported(
            type="server_error" if fault.code in (None, "server_error") else "invalid_request_error",
            code=fault.code or "server_error",
            message=fault.message or "The server had an error while processing your request.",
        )
        self.outlet.tell(event, change=_without_id if nameless else None)

    def _struck(self) -> bool:
        """Whether a fault ends the answer at this delta."""
        fault = next(
            (
                fault
                for fault in self.faults
                if fault.kind in _MID_ANSWER and self._deltas >= fault.after_deltas and self._deltas > 0
            ),
            None,
        )
        if fault is None:
            return False
        if fault.kind == "incomplete_response":
            self.finish("incomplete", reason=fault.reason or "max_output_tokens")
        elif fault.kind == "cancelled_response":
            self.finish("cancelled", reason=fault.reason or "turn_detected")
        else:
            self._break_off(fault)
        return True

    def _break_off(self, fault: Fault) -> None:
        self.stalled = True
        if fault.kind.startswith("drop"):
            self.outlet.end(Drop())
        elif fault.kind.startswith("close"):
            self.outlet.end(Close(fault.close_code or 1011, fault.message or ""))
        else:
            self.outlet.muted = True

    def _fail(self, fault: Fault) -> None:
        limited = fault.kind == "rate_limited"
        code = fault.code or ("rate_limit_exceeded" if limited else "server_error")
        message = fault.message or (
            "Rate limit reached for this deployment. Please try again later."
            if limited
            else f"The server had an error while processing your request. Session {self.truth.session_id}."
        )
        if limited:
            self.outlet.refuse(Refusal(code, message, type="rate_limit_error"))
        self.fail(code, message, type="rate_limit_error" if limited else "server_error")

    def fail(self, code: str, message: str, *, type: str) -> None:
        """End the response as failed; it costs nothing."""
        self.input = self.cached = self._output_tokens = Tokens()
        self.finish("failed", error=(type, code, message))

    # ---- opening and closing ----

    def _response(self, status: str, **facts: Any) -> ev.Response:
        return ev.Response(
            id=self.id,
            status=status,
            conversation_id=None if self.conversation is None else self.conversation.id,
            metadata=self.metadata,
            **facts,
        )

    def _announce(self) -> None:
        self._announced = True
        self.outlet.tell(ev.ResponseCreated(response=self._response("in_progress")), echo=self.echo)
        self._tell_limits("after_created")

    def _tell_limits(self, position: str) -> None:
        if self.behaviour.rate_limits.updated == position:
            self.outlet.tell(ev.RateLimitsUpdated(limits=self.limits()))

    def _open_item(self, item: Stored) -> None:
        self.output.append(item)
        self._open = item
        self.outlet.tell(ev.OutputItemAdded(response_id=self.id, item=item.item, output_index=len(self.output) - 1))
        if self.conversation is not None:
            before = self.conversation.add(item)
            self.outlet.tell(ev.ItemAdded(item=item.item, previous_item_id=before))

    def _open_message(self, kind: str) -> Stored:
        item = Stored(id=self.new_id("item_"), role="assistant", status="in_progress")
        self._open_item(item)
        item.kind = kind
        if kind == "audio":
            item.transcript = ""
        self._part_open = True
        self.outlet.tell(
            ev.ContentPartAdded(part=_part(item, empty=True), **self._where(item)), change=self._part_change()
        )
        return item

    def _part_change(self) -> Callable[[dict[str, Any]], None] | None:
        return _content_for_part if find(self.faults, "content_for_part") else None

    def _where(self, item: Stored) -> dict[str, Any]:
        return {
            "response_id": self.id,
            "item_id": item.id,
            "output_index": self.output.index(item),
            "content_index": 0,
        }

    def _tell_text(self, item: Stored, piece: str) -> None:
        kind = ev.TranscriptDelta if item.kind == "audio" else ev.TextDelta
        self.outlet.tell(kind(delta=piece, **self._where(item)))

    def _tell_audio(self, item: Stored, audio: str) -> None:
        delta = ev.AudioDelta(audio=audio.encode(), size_bytes=0, **self._where(item))
        self.outlet.tell_audio(delta, self.truth.first_audio if audio else None)

    def _close_item(self, status: str) -> None:
        item = self._open
        if item is None:
            return
        self._open = None
        item.status = status
        where = self._where(item)
        if self._part_open:
            self._part_open = False
            if item.kind == "audio":
                self.outlet.tell(ev.AudioDone(**where))
                self.outlet.tell(ev.TranscriptDone(transcript=item.transcript or "", **where))
            else:
                self.outlet.tell(ev.TextDone(text=item.text, **where))
            self.outlet.tell(ev.ContentPartDone(part=_part(item), **where), change=self._part_change())
        elif item.type == "function_call":
            del where["content_index"]
            self.outlet.tell(
                ev.FunctionArgumentsDone(call_id=item.call_id, arguments=item.text, name=item.name, **where)
            )
        if self.conversation is not None:
            # The services leave previous_item_id out here, though they gave it when the item was added.
            self.outlet.tell(ev.ItemDone(item=item.item))
        self.outlet.tell(ev.OutputItemDone(response_id=self.id, item=item.item, output_index=self.output.index(item)))

    def finish(self, status: str, *, reason: str | None = None, error: tuple[str, str, str] | None = None) -> None:
        """Say the closing events of whatever is open, and that the response is done."""
        if self.finished:
            return
        self.finished = True
        self._close_item("completed" if status == "completed" else "incomplete")
        self._tell_limits("before_done")
        if status == "cancelled" and not self.output:
            self.input = self.cached = Tokens()
        response = self._response(
            status,
            reason=reason,
            output=tuple(item.item for item in self.output),
            usage=self.usage(),
        )
        if error is not None:
            response = replace(response, error_type=error[0], error_code=error[1], error_message=error[2])
        self.outlet.tell(ev.ResponseDone(response=response), echo=self.echo, stamp=self.truth.done)
        self._tell_limits("after_done")


_MID_ANSWER = frozenset(
    {"drop_mid_answer", "close_mid_answer", "stall_mid_answer", "incomplete_response", "cancelled_response"}
)


def _part(item: Stored, *, empty: bool = False) -> ev.Part:
    if item.kind == "audio":
        return ev.Part(type="audio", transcript="" if empty else item.transcript)
    return ev.Part(type="text", text="" if empty else item.text)


def _content_for_part(frame: dict[str, Any]) -> None:
    frame["content"] = frame.pop("part")


def _without_id(frame: dict[str, Any]) -> None:
    frame["event_id"] = None
