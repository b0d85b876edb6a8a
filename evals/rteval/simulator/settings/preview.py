"""Sessions with flat settings: the preview dialect, its first generation, and Voice Live."""

from __future__ import annotations

from ...formats import FORMATS, PCM16, AudioFormat
from ...realtime.dialects.shapes import (
    Shape,
    anything,
    boolean,
    either,
    integer,
    list_of,
    number,
    one_of,
    optional,
    record,
    text,
)
from .parts import (
    DEFAULT_INSTRUCTIONS,
    NOISE,
    PREVIEW_VOICES,
    SERVER_VAD,
    SPEED,
    TOKENS,
    TOOL,
    TRANSCRIPTION_SHAPE,
    VAD_DEFAULTS,
    Effective,
    SessionKind,
    Wire,
    detection_of,
    drop_none_detection,
    function_choice,
    token_limit,
    tool_choice_of,
    turn_detection_shape,
    voice_name,
)

_FORMATS = {**FORMATS, "g711-ulaw": FORMATS["g711_ulaw"], "g711-alaw": FORMATS["g711_alaw"]}
_VOICE_LIVE_FORMATS = {
    **_FORMATS,
    "pcm16_8000hz": AudioFormat("pcm16", 8_000, 2, PCM16.silence),
    "pcm16_16000hz": AudioFormat("pcm16", 16_000, 2, PCM16.silence),
    "pcm16-8000hz": AudioFormat("pcm16", 8_000, 2, PCM16.silence),
    "pcm16-16000hz": AudioFormat("pcm16", 16_000, 2, PCM16.silence),
}
_SESSION_FIELDS: dict[str, Shape] = {
    "model": text(),
    "modalities": list_of(one_of("text", "audio")),
    "instructions": text(),
    "voice": one_of(*PREVIEW_VOICES),
    "speed": SPEED,
    "input_audio_format": one_of(*_FORMATS),
    "output_audio_format": one_of(*_FORMATS),
    "input_audio_transcription": TRANSCRIPTION_SHAPE,
    "input_audio_noise_reduction": NOISE,
    "turn_detection": turn_detection_shape(),
    "tools": list_of(TOOL),
    "tool_choice": function_choice,
    "temperature": number(0.6, 1.2),
    "max_response_output_tokens": TOKENS,
}
_RESPONSE: dict[str, Shape] = {
    "modalities": list_of(one_of("text", "audio")),
    "instructions": optional(text()),
    "voice": optional(one_of(*PREVIEW_VOICES)),
    "output_audio_format": optional(one_of(*_FORMATS)),
    "tools": optional(list_of(TOOL)),
    "tool_choice": optional(function_choice),
    "temperature": optional(number(0.6, 1.2)),
    "max_response_output_tokens": optional(TOKENS),
    "max_output_tokens": optional(TOKENS),
    # Documented for the first Azure preview only; taken and without effect.
    "commit": optional(boolean),
    "cancel_previous": optional(boolean),
    "append_input_items": optional(anything),
    "input_items": optional(anything),
}
# What came after the first generation is unknown to it. A voice is not refused but made one that its clients know.
_FIRST_FIELDS: dict[str, Shape] = {
    **{key: shape for key, shape in _SESSION_FIELDS.items() if key not in ("speed", "input_audio_noise_reduction")},
    "voice": text(),
    "turn_detection": turn_detection_shape(semantic=False),
}
_TRANSCRIPTION_FIELDS: dict[str, Shape] = {
    "modalities": list_of(one_of("text", "audio")),
    "input_audio_format": one_of(*_FORMATS),
    "input_audio_transcription": TRANSCRIPTION_SHAPE,
    "input_audio_noise_reduction": NOISE,
    "turn_detection": turn_detection_shape(),
    "include": optional(list_of(text())),
}
_AZURE_VAD = record(SERVER_VAD, open_ended=True)
_VOICE_LIVE_SESSION = record(
    {
        **_SESSION_FIELDS,
        "voice": either(text(), record({"type": text(), "name": text()}, open_ended=True)),
        "input_audio_sampling_rate": integer(8_000, 24_000),
        "input_audio_format": one_of(*_VOICE_LIVE_FORMATS),
        "output_audio_format": one_of(*_VOICE_LIVE_FORMATS),
        "input_audio_noise_reduction": optional(record({"type": text()}, required=("type",))),
        "input_audio_transcription": optional(record({"model": text()}, open_ended=True)),
        "turn_detection": turn_detection_shape(
            {
                name: _AZURE_VAD
                for name in ("azure_semantic_vad", "azure_semantic_vad_en", "azure_semantic_vad_multilingual")
            },
            open_ended=True,
        ),
        "temperature": number(0, 2),
    },
    # Avatars, animation and echo cancellation are taken and echoed; nothing here acts on them.
    open_ended=True,
)
_VOICE_LIVE_RESPONSE = {**_RESPONSE, "voice": optional(either(text(), record({}, open_ended=True)))}


def _defaults(model: str) -> Wire:
    return {
        "id": "",
        "object": "realtime.session",
        "model": model,
        "expires_at": 0,
        "modalities": ["audio", "text"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "voice": "alloy",
        "turn_detection": dict(VAD_DEFAULTS),
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "input_audio_transcription": None,
        "input_audio_noise_reduction": None,
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
        "tools": [],
    }


def _first_preview_defaults(model: str) -> Wire:
    session = _defaults(model)
    del session["input_audio_noise_reduction"]
    return session


def _settle_first_preview(session: Wire, path: str) -> None:
    if session["voice"] not in PREVIEW_VOICES:
        session["voice"] = PREVIEW_VOICES[0]


def _voice_live_defaults(model: str) -> Wire:
    return {**_defaults(model), "input_audio_sampling_rate": 24_000, "input_audio_echo_cancellation": None}


def _transcription_defaults(model: str) -> Wire:
    whole = _defaults(model)
    kept = ("id", "expires_at", "turn_detection", "input_audio_format", "input_audio_transcription")
    return {
        "object": "realtime.transcription_session",
        **{key: whole[key] for key in kept},
        "modalities": ["text", "audio"],
        "input_audio_noise_reduction": None,
        "include": None,
        "client_secret": None,
    }


def _effective(session: Wire) -> Effective:
    into = _VOICE_LIVE_FORMATS[session["input_audio_format"]]
    # Voice Live names the input's rate beside its format.
    rate = session.get("input_audio_sampling_rate")
    if rate is not None and into is PCM16:
        into = AudioFormat(into.name, rate, into.sample_bytes, into.silence)
    return Effective(
        wants_audio="audio" in session.get("modalities", ()),
        instructions=session.get("instructions") or "",
        voice=voice_name(session.get("voice")),
        input_format=into,
        output_format=_VOICE_LIVE_FORMATS[session.get("output_audio_format", "pcm16")],
        detection=detection_of(session["turn_detection"]),
        transcription=session["input_audio_transcription"],
        tools=tuple(session.get("tools") or ()),
        tool_choice=tool_choice_of(session.get("tool_choice")),
        max_output_tokens=token_limit(session.get("max_response_output_tokens")),
    )


def _echo(session: Wire) -> Wire:
    return {
        "modalities": session.get("modalities"),
        "voice": session.get("voice"),
        "output_audio_format": session.get("output_audio_format"),
        "temperature": session.get("temperature"),
        "max_output_tokens": session.get("max_response_output_tokens"),
    }


_RENAMES = {"max_output_tokens": "max_response_output_tokens"}

REALTIME = SessionKind(
    update=record(_SESSION_FIELDS),
    response=_RESPONSE,
    defaults=_defaults,
    effective=_effective,
    echo=_echo,
    renames=_RENAMES,
    settle=drop_none_detection,
)
TRANSCRIPTION = SessionKind(
    update=record(_TRANSCRIPTION_FIELDS),
    response={},
    defaults=_transcription_defaults,
    effective=_effective,
    echo=_echo,
    event_prefix="transcription_session",
    settle=drop_none_detection,
)
FIRST_REALTIME = SessionKind(
    update=record(_FIRST_FIELDS),
    response={**_RESPONSE, "voice": optional(text())},
    defaults=_first_preview_defaults,
    effective=_effective,
    echo=_echo,
    renames=_RENAMES,
    settle=_settle_first_preview,
)
VOICE_LIVE_REALTIME = SessionKind(
    update=_VOICE_LIVE_SESSION,
    response=_VOICE_LIVE_RESPONSE,
    defaults=_voice_live_defaults,
    effective=_effective,
    echo=_echo,
    renames=_RENAMES,
    open_response=True,
    settle=drop_none_detection,
)
