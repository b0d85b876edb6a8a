"""Server frames to events, for every dialect at once: a name means the same wherever it occurs.

A tester must survive any server, so nothing here raises: a field of the wrong type counts as absent, and a frame that
makes no sense becomes an ``UnknownEvent``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

from ...records import Usage
from .. import events as ev

__all__ = ["SERVER_NAMES", "base64_size", "decode", "item_from_wire", "sniff_audio_delta"]

_Frame = dict[str, Any]

_AUDIO_PREFIXES = (b'"type":"response.output_audio.delta"', b'"type":"response.audio.delta"')
_TYPE_WITHIN = 160
_DELTA_WITHIN = 640
# As the services write it: the audio comes last.
_USUAL_HEAD = re.compile(
    rb'\{"type":"response\.(?:output_)?audio\.delta",(?:"event_id":"[^"\\]*",)?"response_id":"([^"\\]*)",'
    rb'(?:"(?:item_id|output_index|content_index)":(?:"[^"\\]*"|\d+),)*"delta":"'
)


def sniff_audio_delta(frame: bytes | bytearray) -> ev.AudioDelta | None:
    """Read an audio delta without parsing JSON, or ``None`` when the frame is not plainly one.

    The frames that carry audio are nine tenths of the bytes of a run; a full parse of each would cost ten times as much
    and copy the audio once more. Whatever looks unusual (nesting, escapes, blanks, no id) is left to the full parse.
    Only the response's id and the audio are read: item and indices keep their defaults.
    """
    head = _USUAL_HEAD.match(frame)
    if head is not None:
        start, end = head.end(), len(frame) - 2
        if frame.find(b'"', start) == end and frame[end + 1] == 0x7D and frame.find(b"\\", start) < 0:  # 0x7D is "}"
            try:
                response_id = head[1].decode()
            except UnicodeDecodeError:
                return None
            size = base64_size(frame, start, end) if frame[end - 1] == 0x3D else (end - start) * 3 // 4  # 0x3D is "="
            return ev.AudioDelta(response_id=response_id, audio=frame[start:end], size_bytes=size)
    return _search_audio_delta(frame)


def _search_audio_delta(frame: bytes | bytearray) -> ev.AudioDelta | None:
    """The same for keys in another order."""
    if not frame.startswith(b'{"'):
        return None
    if frame.find(_AUDIO_PREFIXES[0], 0, _TYPE_WITHIN) < 0 and frame.find(_AUDIO_PREFIXES[1], 0, _TYPE_WITHIN) < 0:
        return None
    key = frame.find(b'"delta":"', 0, _DELTA_WITHIN)
    if key < 0 or frame.find(b"{", 1, key) >= 0:
        return None
    start = key + 9
    end = frame.find(b'"', start)
    if end < 0 or frame.find(b"\\", 0, end) >= 0:
        return None
    tail = frame[end + 1 :]
    if tail == b"}":
        head = frame[:key]
    elif tail[:2] == b',"' and tail[-1:] == b"}" and tail.count(b"{") == 0 and b"\\" not in tail:
        head = frame[:key] + tail
    else:
        return None
    response_id = _between(head, b'"response_id":"')
    if response_id is None or head.count(b'"type":') != 1 or b'"delta":' in head:
        return None
    return ev.AudioDelta(response_id=response_id, audio=frame[start:end], size_bytes=base64_size(frame, start, end))


def _between(head: bytes | bytearray, key: bytes) -> str | None:
    start = head.find(key)
    if start < 0:
        return None
    start += len(key)
    end = head.find(b'"', start)
    try:
        return head[start:end].decode() if end >= 0 else None
    except UnicodeDecodeError:
        return None


def base64_size(frame: bytes | bytearray, start: int, end: int) -> int:
    """Decoded bytes of the base64 at ``frame[start:end]``, by its length alone."""
    while end > start and frame[end - 1] == 0x3D:  # "="
        end -= 1
    return (end - start) * 3 // 4


def decode(frame: bytes | bytearray) -> ev.ServerEvent:
    """The event that a server's text frame tells. Never raises."""
    audio = sniff_audio_delta(frame)
    if audio is not None:
        return audio
    try:
        body = _parse(frame)
    except (ValueError, RecursionError):
        return ev.UnknownEvent(type="", reason="not JSON")
    if not isinstance(body, dict):
        return ev.UnknownEvent(type="", reason="not an object")
    name = body.get("type")
    if not isinstance(name, str):
        return ev.UnknownEvent(type="", reason="no type")
    decoder = _DECODERS.get(name)
    if decoder is None:
        return ev.UnknownEvent(type=name[:80])
    return decoder(body)


def _parse(frame: bytes | bytearray) -> Any:
    try:
        return orjson.loads(frame)
    except orjson.JSONDecodeError:
        # Servers that cut text in the middle of a UTF-16 pair send half a character, those written in Python NaN.
        lenient = json.loads(frame.decode())
    # Half a character can be neither stored nor printed: it becomes a question mark.
    return json.loads(json.dumps(lenient, ensure_ascii=False).encode(errors="replace"))


# ---- fields: of the wrong type counts as absent ----


def _str(body: _Frame, key: str) -> str | None:
    value = body.get(key)
    return value if isinstance(value, str) else None


def _text(body: _Frame, key: str) -> str:
    return _str(body, key) or ""


def _int(body: _Frame, key: str) -> int | None:
    value = body.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Beyond 64 bits is nothing that a table could hold.
    return value if type(value) is int and abs(value) < 2**63 else None


def _index(body: _Frame, key: str) -> int:
    return _int(body, key) or 0


def _dict(body: _Frame, key: str) -> _Frame:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _dicts(body: _Frame, key: str) -> list[_Frame]:
    value = body.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _texts(body: _Frame) -> dict[str, str]:
    return {key: value for key, value in body.items() if isinstance(value, str)}


def _scalars(body: _Frame) -> _Frame:
    return {key: value for key, value in body.items() if not isinstance(value, dict | list)}


# ---- things inside events ----

# GA calls the parts of an assistant's item output_text and output_audio, the others text and audio.
_NEUTRAL_PARTS = {"output_text": "text", "output_audio": "audio"}


def _part(body: _Frame) -> ev.Part:
    kind = _text(body, "type")
    return ev.Part(
        type=_NEUTRAL_PARTS.get(kind, kind),
        text=_str(body, "text"),
        transcript=_str(body, "transcript"),
        audio=_str(body, "audio"),
    )


def item_from_wire(body: _Frame) -> ev.Item:
    """A conversation item of any dialect in neutral words."""
    output = body.get("output")
    return ev.Item(
        id=_str(body, "id"),
        type=_str(body, "type") or "message",
        status=_str(body, "status"),
        role=_str(body, "role"),
        content=tuple(_part(part) for part in _dicts(body, "content")),
        name=_str(body, "name"),
        call_id=_str(body, "call_id"),
        arguments=_str(body, "arguments"),
        output=output if isinstance(output, str) else None,
    )


def _usage(body: _Frame) -> Usage | None:
    if not isinstance(body.get("usage"), dict):
        return None
    usage = body["usage"]
    into, out = _dict(usage, "input_token_details"), _dict(usage, "output_token_details")
    cached = _dict(into, "cached_tokens_details")
    return Usage(
        input_tokens=_int(usage, "input_tokens"),
        output_tokens=_int(usage, "output_tokens"),
        input_text_tokens=_int(into, "text_tokens"),
        input_audio_tokens=_int(into, "audio_tokens"),
        input_cached_tokens=_int(into, "cached_tokens"),
        input_cached_text_tokens=_int(cached, "text_tokens"),
        input_cached_audio_tokens=_int(cached, "audio_tokens"),
        output_text_tokens=_int(out, "text_tokens"),
        output_audio_tokens=_int(out, "audio_tokens"),
    )


def _response(body: _Frame) -> ev.Response:
    response = _dict(body, "response")
    details = _dict(response, "status_details")
    error = _dict(details, "error")
    metadata = response.get("metadata")
    return ev.Response(
        id=_text(response, "id"),
        status=_text(response, "status"),
        reason=_str(details, "reason"),
        error_type=_str(error, "type"),
        error_code=_str(error, "code"),
        error_message=_str(error, "message"),
        output=tuple(item_from_wire(item) for item in _dicts(response, "output")),
        usage=_usage(response),
        conversation_id=_str(response, "conversation_id"),
        metadata=_texts(metadata) if isinstance(metadata, dict) else None,
    )


# ---- events ----


def _error(body: _Frame) -> ev.ServerEvent:
    error = _dict(body, "error")
    return ev.ErrorReported(
        type=_str(error, "type"),
        code=_str(error, "code"),
        message=_text(error, "message"),
        param=_str(error, "param"),
        client_event_id=_str(error, "event_id"),
    )


def _content_part(body: _Frame) -> ev.Part:
    # Azure has sent the part as `content`, beside `part` or instead of it.
    return _part(_dict(body, "part") or _dict(body, "content"))


def _transcript_failed(body: _Frame) -> ev.ServerEvent:
    error = _dict(body, "error")
    return ev.InputTranscriptFailed(
        item_id=_str(body, "item_id"),
        type=_str(error, "type"),
        code=_str(error, "code"),
        message=_text(error, "message"),
        content_index=_index(body, "content_index"),
    )


def _audio_delta(body: _Frame) -> ev.ServerEvent:
    audio = _text(body, "delta").encode()
    return ev.AudioDelta(
        response_id=_str(body, "response_id"),
        audio=audio,
        size_bytes=base64_size(audio, 0, len(audio)),
        item_id=_str(body, "item_id"),
        output_index=_index(body, "output_index"),
        content_index=_index(body, "content_index"),
    )


def _where(body: _Frame) -> dict[str, Any]:
    return {
        "response_id": _str(body, "response_id"),
        "item_id": _str(body, "item_id"),
        "output_index": _index(body, "output_index"),
        "content_index": _index(body, "content_index"),
    }


_DECODERS: dict[str, Callable[[_Frame], ev.ServerEvent]] = {
    "error": _error,
    "session.created": lambda b: ev.SessionCreated(session=_dict(b, "session")),
    "session.updated": lambda b: ev.SessionUpdated(session=_dict(b, "session")),
    "conversation.created": lambda b: ev.ConversationCreated(id=_str(_dict(b, "conversation"), "id")),
    "conversation.item.added": lambda b: ev.ItemAdded(
        item=item_from_wire(_dict(b, "item")), previous_item_id=_str(b, "previous_item_id")
    ),
    "conversation.item.done": lambda b: ev.ItemDone(
        item=item_from_wire(_dict(b, "item")), previous_item_id=_str(b, "previous_item_id")
    ),
    "conversation.item.deleted": lambda b: ev.ItemDeleted(item_id=_text(b, "item_id")),
    "conversation.item.truncated": lambda b: ev.ItemTruncated(
        item_id=_text(b, "item_id"),
        content_index=_index(b, "content_index"),
        audio_end_ms=_index(b, "audio_end_ms"),
    ),
    "conversation.item.retrieved": lambda b: ev.ItemRetrieved(item=item_from_wire(_dict(b, "item"))),
    "conversation.item.input_audio_transcription.delta": lambda b: ev.InputTranscriptDelta(
        item_id=_str(b, "item_id"), delta=_text(b, "delta"), content_index=_index(b, "content_index")
    ),
    "conversation.item.input_audio_transcription.completed": lambda b: ev.InputTranscriptCompleted(
        item_id=_str(b, "item_id"),
        transcript=_text(b, "transcript"),
        content_index=_index(b, "content_index"),
        usage=_dict(b, "usage") or None,
    ),
    "conversation.item.input_audio_transcription.failed": _transcript_failed,
    "input_audio_buffer.committed": lambda b: ev.AudioCommitted(
        item_id=_str(b, "item_id"), previous_item_id=_str(b, "previous_item_id")
    ),
    "input_audio_buffer.cleared": lambda b: ev.AudioCleared(),
    "input_audio_buffer.speech_started": lambda b: ev.SpeechStarted(
        item_id=_str(b, "item_id"), audio_start_ms=_int(b, "audio_start_ms")
    ),
    "input_audio_buffer.speech_stopped": lambda b: ev.SpeechStopped(
        item_id=_str(b, "item_id"), audio_end_ms=_int(b, "audio_end_ms")
    ),
    "input_audio_buffer.timeout_triggered": lambda b: ev.InputTimedOut(
        item_id=_str(b, "item_id"), audio_start_ms=_int(b, "audio_start_ms"), audio_end_ms=_int(b, "audio_end_ms")
    ),
    "response.created": lambda b: ev.ResponseCreated(response=_response(b)),
    "response.done": lambda b: ev.ResponseDone(response=_response(b)),
    "response.output_item.added": lambda b: ev.OutputItemAdded(
        response_id=_str(b, "response_id"),
        item=item_from_wire(_dict(b, "item")),
        output_index=_index(b, "output_index"),
    ),
    "response.output_item.done": lambda b: ev.OutputItemDone(
        response_id=_str(b, "response_id"),
        item=item_from_wire(_dict(b, "item")),
        output_index=_index(b, "output_index"),
    ),
    "response.content_part.added": lambda b: ev.ContentPartAdded(part=_content_part(b), **_where(b)),
    "response.content_part.done": lambda b: ev.ContentPartDone(part=_content_part(b), **_where(b)),
    "response.output_text.delta": lambda b: ev.TextDelta(delta=_text(b, "delta"), **_where(b)),
    "response.output_text.done": lambda b: ev.TextDone(text=_text(b, "text"), **_where(b)),
    "response.output_audio_transcript.delta": lambda b: ev.TranscriptDelta(delta=_text(b, "delta"), **_where(b)),
    "response.output_audio_transcript.done": lambda b: ev.TranscriptDone(
        transcript=_text(b, "transcript"), **_where(b)
    ),
    "response.output_audio.delta": _audio_delta,
    "response.output_audio.done": lambda b: ev.AudioDone(**_where(b)),
    "response.function_call_arguments.delta": lambda b: ev.FunctionArgumentsDelta(
        response_id=_str(b, "response_id"),
        call_id=_str(b, "call_id"),
        delta=_text(b, "delta"),
        item_id=_str(b, "item_id"),
        output_index=_index(b, "output_index"),
    ),
    "response.function_call_arguments.done": lambda b: ev.FunctionArgumentsDone(
        response_id=_str(b, "response_id"),
        call_id=_str(b, "call_id"),
        arguments=_text(b, "arguments"),
        name=_str(b, "name"),
        item_id=_str(b, "item_id"),
        output_index=_index(b, "output_index"),
    ),
    "rate_limits.updated": lambda b: ev.RateLimitsUpdated(
        limits=tuple(_scalars(entry) for entry in _dicts(b, "rate_limits"))
    ),
}

# The preview dialect's own names; both are in use, and some servers mix them.
for _preview, _ga in {
    "conversation.item.created": "conversation.item.added",
    "transcription_session.created": "session.created",
    "transcription_session.updated": "session.updated",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
}.items():
    _DECODERS[_preview] = _DECODERS[_ga]

SERVER_NAMES: dict[type[Any], str] = {
    ev.ErrorReported: "error",
    ev.SessionCreated: "session.created",
    ev.SessionUpdated: "session.updated",
    ev.ConversationCreated: "conversation.created",
    ev.ItemAdded: "conversation.item.added",
    ev.ItemDone: "conversation.item.done",
    ev.ItemDeleted: "conversation.item.deleted",
    ev.ItemTruncated: "conversation.item.truncated",
    ev.ItemRetrieved: "conversation.item.retrieved",
    ev.InputTranscriptDelta: "conversation.item.input_audio_transcription.delta",
    ev.InputTranscriptCompleted: "conversation.item.input_audio_transcription.completed",
    ev.InputTranscriptFailed: "conversation.item.input_audio_transcription.failed",
    ev.AudioCommitted: "input_audio_buffer.committed",
    ev.AudioCleared: "input_audio_buffer.cleared",
    ev.SpeechStarted: "input_audio_buffer.speech_started",
    ev.SpeechStopped: "input_audio_buffer.speech_stopped",
    ev.InputTimedOut: "input_audio_buffer.timeout_triggered",
    ev.ResponseCreated: "response.created",
    ev.ResponseDone: "response.done",
    ev.OutputItemAdded: "response.output_item.added",
    ev.OutputItemDone: "response.output_item.done",
    ev.ContentPartAdded: "response.content_part.added",
    ev.ContentPartDone: "response.content_part.done",
    ev.TextDelta: "response.output_text.delta",
    ev.TextDone: "response.output_text.done",
    ev.TranscriptDelta: "response.output_audio_transcript.delta",
    ev.TranscriptDone: "response.output_audio_transcript.done",
    ev.AudioDelta: "response.output_audio.delta",
    ev.AudioDone: "response.output_audio.done",
    ev.FunctionArgumentsDelta: "response.function_call_arguments.delta",
    ev.FunctionArgumentsDone: "response.function_call_arguments.done",
    ev.RateLimitsUpdated: "rate_limits.updated",
}
"""Wire type of each server event in the GA dialect; a dialect that differs overrides single entries."""
