"""What the simulated model answers, and how it sounds: words, speech from packaged clips, and the pieces it is sent in.

The speech does not say the words (there is no synthesiser here); it is real speech of the length that they take.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any, Literal

import numpy as np
import pybase64

from ..audio import Samples, encode, read
from ..corpus import Item
from ..formats import PCM16, AudioFormat
from .cache import ByteCache

__all__ = [
    "SECONDS_PER_WORD",
    "Speech",
    "answer_for",
    "duration_s",
    "interleave",
    "slice_audio",
    "slice_text",
    "speak",
    "spoken",
]

SECONDS_PER_WORD = 0.36
MAX_ANSWER_S = 300.0
GAP_S = 0.12
FADE_S = 0.005

# Sizes of audio deltas that the services send for pcm16, in bytes: 100 ms, 150 ms, then 250 ms each, and a last one
# with all the rest, of up to 750 ms.
FIRST_DELTAS = (4800, 7200)
NEXT_DELTA = 12_000
LAST_DELTA = 36_000
# Pieces of the transcript that are sent before the first audio, and with each further audio delta.
TEXT_AHEAD = 8
TEXT_PER_AUDIO = 3

NOT_UNDERSTOOD = "I am sorry, I did not understand that. Could you say it again, please?"
CANNED = (
    "Thank you, I have found your order and it is on its way to you now.",
    "I am sorry about the trouble. Let me look into that for you straight away.",
    "Of course, I can help you with that. Could you tell me your order number, please?",
    "I have changed that for you. Is there anything else that I can do?",
    "The refund was sent this morning and should reach your bank within three days.",
    "You can do that in your account under settings, or I can do it for you here.",
)


# ---- words ----


def answer_for(item: Item | None, heard_text: str | None, text_prompt: str | None, rng: random.Random) -> str:
    """The words of the answer to a turn.

    Args:
        item: the dataset item that was recognised or read; what it expects is what the answer fulfils: ``answer`` and
            ``equals`` word for word, ``contains`` and ``regex`` (where a text for it can be found) in a sentence.
        heard_text: transcript of the user's audio; ``None`` for a text prompt or unrecognised audio.
        text_prompt: text of the user's message; ``None`` for audio.
        rng: chooses among the canned sentences.
    """
    expect: dict[str, Any] = (item.expect if item is not None else None) or {}
    for key in ("answer", "equals"):
        if isinstance(expect.get(key), str):
            return str(expect[key])
    patterns = _texts(expect.get("regex"))
    wanted = [text for text in (*_texts(expect.get("contains")), *map(_example, patterns)) if text]
    if wanted:
        sentence = f"Certainly: {', '.join(wanted)}."
        alone = len(wanted) == 1 and (_is_sentence(wanted[0]) or not _finds(patterns, sentence))
        return wanted[0] if alone else sentence
    if item is None and not heard_text and not text_prompt:
        return NOT_UNDERSTOOD
    return rng.choice(CANNED)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(text) for text in value] if isinstance(value, Iterable) else []


def _is_sentence(text: str) -> bool:
    return text[-1:] in ".?!"


def _finds(patterns: Iterable[str], text: str) -> bool:
    """Whether all that can be searched for are found."""
    try:
        return all(re.search(pattern, text) for pattern in patterns)
    except re.error:
        return False


# What a piece of a regular expression can be replaced by so that it still matches, tried in this order.
_PLAIN = (
    (re.compile(r"\(\?[aiLmsux]+\)|\\[bBAZ]|(?<!\\)[\^$]"), ""),
    (re.compile(r"\(\?:|\(\?P<\w+>"), "("),
    (re.compile(r"\[([^\]\\^])[^\]]*\]"), r"\1"),
    (re.compile(r"\\d\{(\d+)(?:,\d*)?\}"), lambda match: "1" * int(match[1])),
    (re.compile(r"\\d[+*]?"), "1"),
    (re.compile(r"\\s[+*?]?"), " "),
    (re.compile(r"\\w[+*]?"), "a"),
    (re.compile(r"(?<!\\)\.[+*]\??"), " "),
    (re.compile(r"\(([^()|]*)(?:\|[^()]*)?\)[?*+]?"), r"\1"),
    (re.compile(r"(?<!\\)[+*?]"), ""),
    (re.compile(r"\\(\W)"), r"\1"),
)


def _example(pattern: str) -> str:
    """A text that ``pattern`` finds, or ``""`` when none is easily had."""
    for alternative in (pattern, *pattern.split("|")):
        text = alternative
        for piece, plain in _PLAIN:
            text = piece.sub(plain, text)
        text = text.strip()
        if text and (_finds([pattern], f"Certainly: {text}.") or _finds([pattern], text)):
            return text
    return ""


# ---- sound ----


@dataclass(frozen=True, slots=True)
class Speech:
    """An answer as it is sent.

    Attributes:
        audio: all of it, in the wire's format.
        deltas: the same in the pieces that the services send, base64.
        delta_bytes: decoded length of each piece.
    """

    audio: bytes
    deltas: tuple[str, ...]
    delta_bytes: tuple[int, ...]


_spoken: ByteCache[Speech] = ByteCache(64_000_000, lambda speech: len(speech.audio) * 7 // 3)


def duration_s(transcript: str) -> float:
    """How long it takes to say the words, leading silence not included."""
    return min(len(transcript.split()) * SECONDS_PER_WORD, MAX_ANSWER_S)


def speak(transcript: str, fmt: AudioFormat, leading_silence_ms: float = 0.0) -> bytes:
    """The audio of an answer: the same for the same arguments, as long as its words take; ``b""`` without words."""
    return spoken(transcript, fmt, leading_silence_ms).audio


def spoken(transcript: str, fmt: AudioFormat, leading_silence_ms: float = 0.0) -> Speech:
    """The audio of an answer and the base64 deltas it is sent in, cached within 64 MB."""
    return _spoken.get((transcript, fmt, leading_silence_ms), lambda: _speech(transcript, fmt, leading_silence_ms))


def _speech(transcript: str, fmt: AudioFormat, leading_silence_ms: float) -> Speech:
    samples = round(duration_s(transcript) * fmt.rate)
    silence = fmt.silence * (round(leading_silence_ms / 1000 * fmt.rate) if samples else 0)
    start = hashlib.blake2b(transcript.encode(), digest_size=2).digest()
    audio = silence + _reel(fmt, int.from_bytes(start) % len(_clips()), samples)
    pieces = slice_audio(audio, fmt)
    return Speech(
        audio=audio,
        deltas=tuple(pybase64.b64encode_as_string(piece) for piece in pieces),
        delta_bytes=tuple(map(len, pieces)),
    )


def _reel(fmt: AudioFormat, start: int, samples: int) -> bytes:
    """``samples`` of the clips one after the other, the first being number ``start``; the end is faded out."""
    if not samples:
        return b""
    needed = samples * PCM16.rate // fmt.rate + 1
    clips = _clips()
    parts: list[Samples] = []
    while needed > 0:
        parts.append(clips[(start + len(parts)) % len(clips)][:needed])
        needed -= len(parts[-1])
    sound = np.concatenate(parts)
    fade = min(round(FADE_S * PCM16.rate), len(sound))
    sound[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    audio = encode(sound, PCM16.rate, fmt)[: samples * fmt.sample_bytes]
    return audio + fmt.silence * (samples - len(audio) // fmt.sample_bytes)


@cache
def _clips() -> tuple[Samples, ...]:
    """The packaged clips as mono samples at 24 kHz, each beginning with sound and ending with a short gap."""
    folder = files(__package__) / "clips"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".ogg"))
    gap = np.zeros(round(GAP_S * PCM16.rate), np.float32)
    clips = []
    for name in names:
        with as_file(folder / name) as path:
            samples, rate = read(path)
        assert rate == PCM16.rate, name
        mono = samples[:, 0]
        # Loud from the first 10 ms on for every detector of silence, so that there is none but what is asked for.
        window = PCM16.rate // 100
        rms = np.sqrt(np.square(mono[: len(mono) // window * window]).reshape(-1, window).mean(axis=1))
        first = int(np.flatnonzero(rms > 10 ** (-35 / 20))[0]) * window
        clips.append(np.concatenate((mono[first:], gap)))
    return tuple(clips)


# ---- pieces ----


def slice_audio(audio: bytes, fmt: AudioFormat) -> list[bytes]:
    """An answer's audio in deltas of the sizes the services use: for pcm16 4 800, 7 200, then 12 000 bytes each.

    The last holds the remainder, up to 36 000 bytes. Other formats get deltas of the same durations.
    """
    pieces: list[bytes] = []
    at = 0
    while at < len(audio):
        size = FIRST_DELTAS[len(pieces)] if len(pieces) < len(FIRST_DELTAS) else NEXT_DELTA
        if len(pieces) >= len(FIRST_DELTAS) and len(audio) - at <= _scaled(LAST_DELTA, fmt):
            size = LAST_DELTA
        pieces.append(audio[at : at + _scaled(size, fmt)])
        at += len(pieces[-1])
    return pieces


def _scaled(pcm16_bytes: int, fmt: AudioFormat) -> int:
    return pcm16_bytes * fmt.bytes_per_s // PCM16.bytes_per_s


def slice_text(text: str) -> list[str]:
    """A text in pieces of about a word, as tokens come; joined they are the text. ``[]`` for an empty one."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) or ([text] if text else [])


def interleave(texts: Sequence[str], audio_deltas: int) -> list[tuple[Literal["text", "audio"], int]]:
    """The order in which an answer's pieces are sent: kind and index, the transcript running ahead of the audio.

    All of the transcript has been sent before the last audio delta (alone, when there is no audio).
    """
    order: list[tuple[Literal["text", "audio"], int]] = []
    sent = 0
    for delta in range(audio_deltas):
        left = audio_deltas - delta
        share = len(texts) if left == 1 else max(TEXT_AHEAD if delta == 0 else TEXT_PER_AUDIO, -(-len(texts) // left))
        upto = min(len(texts), sent + share)
        order += [("text", index) for index in range(sent, upto)]
        sent = upto
        order.append(("audio", delta))
    return order + [("text", index) for index in range(sent, len(texts))]
