"""What a server can tell us and what we can ask of it, the same on every provider and in every dialect.

Classes in the imperative (``CreateResponse``) are requests of the client; classes in the past tense or naming a thing
(``ResponseCreated``, ``AudioDelta``) are events of the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..formats import PCM16, AudioFormat
from ..records import Usage

__all__ = [
    "AppendAudio",
    "AudioCleared",
    "AudioCommitted",
    "AudioDelta",
    "AudioDone",
    "CancelResponse",
    "ClearAudio",
    "ClientEvent",
    "CommitAudio",
    "ContentPartAdded",
    "ContentPartDone",
    "ConversationCreated",
    "CreateItem",
    "CreateResponse",
    "DeleteItem",
    "ErrorReported",
    "FunctionArgumentsDelta",
    "FunctionArgumentsDone",
    "InputTimedOut",
    "InputTranscriptCompleted",
    "InputTranscriptDelta",
    "InputTranscriptFailed",
    "Item",
    "ItemAdded",
    "ItemDeleted",
    "ItemDone",
    "ItemRetrieved",
    "ItemTruncated",
    "OutputItemAdded",
    "OutputItemDone",
    "Part",
    "RateLimitsUpdated",
    "Response",
    "ResponseCreated",
    "ResponseDone",
    "RetrieveItem",
    "ServerEvent",
    "SessionCreated",
    "SessionSettings",
    "SessionUpdated",
    "SpeechStarted",
    "SpeechStopped",
    "TextDelta",
    "TextDone",
    "TranscriptDelta",
    "TranscriptDone",
    "TruncateItem",
    "UnknownEvent",
    "UpdateSession",
]

# ---- things ----


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What a session is asked to be, in provider-neutral words. ``None`` leaves the service's default.

    Attributes:
        modalities: ``("text", "audio")``, ``("audio",)`` or ``("text",)``.
        turn_detection: ``None`` switches detection off; else a mapping with ``type`` and its settings.
        transcription: ``None`` switches it off; else a mapping with ``model`` and its settings.
        raw: passed through on top, at the dialect's own places.
    """

    instructions: str | None = None
    voice: str | None = None
    modalities: tuple[str, ...] | None = None
    turn_detection: dict[str, Any] | None = None
    input_format: AudioFormat = PCM16
    output_format: AudioFormat = PCM16
    transcription: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] | None = None
    temperature: float | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def wants_audio(self) -> bool:
        """Whether an answer is expected to carry audio (the services' default when nothing is asked)."""
        return self.modalities is None or "audio" in self.modalities


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One content part of a message; ``type`` is neutral: ``input_text``, ``input_audio``, ``text``, ``audio``."""

    type: str
    text: str | None = None
    transcript: str | None = None
    audio: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One conversation item: a ``message``, a ``function_call`` or a ``function_call_output``."""

    id: str | None
    type: str = "message"
    status: str | None = None
    role: str | None = None
    content: tuple[Part, ...] = ()
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response of the model as ``response.created`` and ``response.done`` carry it.

    Attributes:
        status: ``in_progress``, ``completed``, ``cancelled``, ``incomplete`` or ``failed``.
        reason: why it was cancelled or incomplete.
        error_type, error_code, error_message: of a failed response.
        usage: ``None`` until it is done.
    """

    id: str
    status: str
    reason: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    output: tuple[Item, ...] = ()
    usage: Usage | None = None
    conversation_id: str | None = None
    metadata: dict[str, str] | None = None


# ---- what we ask ----


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSession:
    """Make the session what the settings say."""

    settings: SessionSettings
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendAudio:
    """Add base64 audio to the input buffer; never acknowledged."""

    audio: str
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitAudio:
    """Make the buffered audio a user item (only without server VAD)."""

    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAudio:
    """Forget the buffered audio."""

    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateItem:
    """Put an item into the conversation; ``previous_item_id`` ``None`` appends, ``"root"`` puts it first."""

    item: Item
    previous_item_id: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateItem:
    """Forget the part of an answer's audio that was not played."""

    item_id: str
    content_index: int
    audio_end_ms: int
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteItem:
    """Take an item out of the conversation."""

    item_id: str
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveItem:
    """Ask for an item as the server holds it."""

    item_id: str
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResponse:
    """Ask the model to answer; ``response`` overrides session settings in the dialect's own words."""

    response: dict[str, Any] | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResponse:
    """Stop the active response."""

    response_id: str | None = None
    event_id: str | None = None


ClientEvent = (
    UpdateSession
    | AppendAudio
    | CommitAudio
    | ClearAudio
    | CreateItem
    | TruncateItem
    | DeleteItem
    | RetrieveItem
    | CreateResponse
    | CancelResponse
)

# ---- what we are told ----


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCreated:
    """The server opened a session; ``session`` is its object as it stands on the wire."""

    session: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUpdated:
    """The server took our settings; ``session`` is the whole effective session."""

    session: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationCreated:
    """Documented for beta, hardly ever seen."""

    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReported:
    """The server refused something or failed; usually the connection stays open.

    Attributes:
        client_event_id: our ``event_id`` of the request at fault, when the server knows it.
    """

    type: str | None = None
    code: str | None = None
    message: str = ""
    param: str | None = None
    client_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """The server heard the caller begin; ``audio_start_ms`` is media time of the session."""

    item_id: str | None
    audio_start_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStopped:
    """The server decided that the caller finished talking; ``audio_end_ms`` is media time of the session."""

    item_id: str | None
    audio_end_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTimedOut:
    """The caller was silent for too long after an answer; the silence becomes the user item ``item_id`` (GA only)."""

    item_id: str | None
    audio_start_ms: int | None = None
    audio_end_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCommitted:
    """The buffered audio became the user item ``item_id``."""

    item_id: str | None
    previous_item_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCleared:
    """The input buffer was emptied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAdded:
    """An item entered the conversation (beta: ``conversation.item.created``)."""

    item: Item
    previous_item_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDone:
    """An item is complete (GA only)."""

    item: Item
    previous_item_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDeleted:
    """An item was taken out."""

    item_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTruncated:
    """An answer's audio was cut at ``audio_end_ms``."""

    item_id: str
    content_index: int
    audio_end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRetrieved:
    """An item as the server holds it, audio included."""

    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTranscriptDelta:
    """A piece of the transcription of the user's audio."""

    item_id: str | None
    delta: str
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTranscriptCompleted:
    """The transcription of one user item is complete; the text may be empty."""

    item_id: str | None
    transcript: str
    content_index: int = 0
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTranscriptFailed:
    """The user's audio could not be transcribed."""

    item_id: str | None
    type: str | None = None
    code: str | None = None
    message: str = ""
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCreated:
    """The model began to answer."""

    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseDone:
    """A response ended: the only terminal marker there is."""

    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputItemAdded:
    """A response opened an item."""

    response_id: str | None
    item: Item
    output_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputItemDone:
    """A response closed an item."""

    response_id: str | None
    item: Item
    output_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPartAdded:
    """An item opened a part; part types are ``text`` and ``audio`` in both dialects."""

    response_id: str | None
    item_id: str | None
    part: Part
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPartDone:
    """An item closed a part."""

    response_id: str | None
    item_id: str | None
    part: Part
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of a text answer."""

    response_id: str | None
    delta: str
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDone:
    """A text part is complete."""

    response_id: str | None
    text: str
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptDelta:
    """A piece of what the answer's audio says."""

    response_id: str | None
    delta: str
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptDone:
    """The transcript of an answer's audio part is complete."""

    response_id: str | None
    transcript: str
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0


# Not frozen as its neighbours are: nine tenths of all events are these, and a frozen one takes three times as long.
@dataclass(slots=True, kw_only=True)
class AudioDelta:
    """A piece of the answer's audio.

    Attributes:
        audio: base64 as it stood on the wire, not decoded.
        size_bytes: decoded length, by arithmetic on the base64.
    """

    response_id: str | None
    audio: bytes | bytearray
    size_bytes: int
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioDone:
    """An audio part is complete."""

    response_id: str | None
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionArgumentsDelta:
    """A piece of a function call's arguments."""

    response_id: str | None
    call_id: str | None
    delta: str
    item_id: str | None = None
    output_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionArgumentsDone:
    """A function call's arguments are complete."""

    response_id: str | None
    call_id: str | None
    arguments: str
    name: str | None = None
    item_id: str | None = None
    output_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitsUpdated:
    """What is left of the quota; may come at any time or never."""

    limits: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """A frame that we cannot name: counted, never fatal.

    Attributes:
        type: its ``type``; ``""`` when it is no JSON object or has none.
        reason: what was wrong with it, or ``None`` for a type that is merely new.
    """

    type: str
    reason: str | None = None


ServerEvent = (
    SessionCreated
    | SessionUpdated
    | ConversationCreated
    | ErrorReported
    | SpeechStarted
    | SpeechStopped
    | InputTimedOut
    | AudioCommitted
    | AudioCleared
    | ItemAdded
    | ItemDone
    | ItemDeleted
    | ItemTruncated
    | ItemRetrieved
    | InputTranscriptDelta
    | InputTranscriptCompleted
    | InputTranscriptFailed
    | ResponseCreated
    | ResponseDone
    | OutputItemAdded
    | OutputItemDone
    | ContentPartAdded
    | ContentPartDone
    | TextDelta
    | TextDone
    | TranscriptDelta
    | TranscriptDone
    | AudioDelta
    | AudioDone
    | FunctionArgumentsDelta
    | FunctionArgumentsDone
    | RateLimitsUpdated
    | UnknownEvent
)
