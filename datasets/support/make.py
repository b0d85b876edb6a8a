"""Makes this dataset: every WAV and metadata.jsonl, with espeak-ng as the voice.

    apt-get install espeak-ng
    python datasets/support/make.py            # rewrites the folder
    python datasets/support/make.py --check    # only checks what is there

espeak-ng does not give the same bytes twice, so the WAVs are committed and only remade on purpose: a new recording has
a new dataset hash, and runs before and after it are not comparable item by item.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped]
import webrtcvad  # type: ignore[import-untyped]

from rteval.audio import Samples, read, resample, voiced_span
from rteval.corpus import load_dataset

FOLDER = Path(__file__).parent
NOISE_DBFS = -66.0
PAUSE_LIMIT_MS = 450
SIZE_LIMIT = 6_000_000


@dataclass(frozen=True)
class Utterance:
    """One line of the dataset.

    Attributes:
        id: of the item, and the file's name without the ending.
        text: what is said: the reference.
        voice: an espeak-ng voice with its variant.
        wpm: speed in words a minute.
        tags: what it is about.
        rate: samples per second of the file.
        subtype: how the file stores a sample, in libsndfile's words.
        layout: ``mono``, ``same`` (two equal channels), ``left`` or ``right`` (the caller is there, the agent on the
            other side).
        level_dbfs: loudness of the speech (95th percentile of 10 ms windows).
        breath: a loud breath after the last word, which the voice detector takes for voice.
    """

    id: str
    text: str
    voice: str
    wpm: int
    tags: tuple[str, ...]
    rate: int = 16_000
    subtype: str = "PCM_16"
    layout: str = "mono"
    level_dbfs: float = -18.0
    breath: bool = False


UTTERANCES = [
    Utterance("refund-status", "I would like to know the status of my refund.", "en-us", 165, ("billing",)),
    Utterance(
        "late-parcel",
        "My parcel was supposed to arrive yesterday but it is still not here.",
        "en-gb+f2",
        175,
        ("delivery",),
    ),
    Utterance(
        "reset-password", "I forgot my password and the reset email never arrives.", "en-us+f3", 170, ("account",)
    ),
    Utterance(
        "order-number", "My order number is four eight two seven five one.", "en-us+m3", 160, ("digits", "delivery")
    ),
    Utterance(
        "card-digits",
        "The last four digits of my card are nine zero six three.",
        "en-gb+m2",
        165,
        ("digits", "billing"),
        rate=8_000,
    ),
    Utterance(
        "customer-number",
        "My customer number is five three eight two six.",
        "en-us+f1",
        160,
        ("digits", "account"),
        rate=44_100,
    ),
    Utterance(
        "caller-name",
        "My name is Emma Wilson and I am calling for my husband Daniel Parker.",
        "en-gb+f4",
        165,
        ("names", "account"),
    ),
    Utterance(
        "connect-me",
        "Could you connect me with Maria Garcia in the Denver office?",
        "en-us+m1",
        170,
        ("names", "account"),
    ),
    Utterance(
        "cancel-plan",
        "Please cancel my subscription at the end of this month.",
        "en-gb-scotland",
        165,
        ("account",),
        rate=24_000,
    ),
    Utterance(
        "double-charge", "I was charged again for the same order last week.", "en-us+f2", 180, ("billing",), rate=48_000
    ),
    Utterance(
        "wrong-size", "The jacket you sent me is the wrong size and I need to exchange it.", "en-us", 185, ("delivery",)
    ),
    Utterance(
        "internet-down",
        "My internet connection keeps dropping every few minutes.",
        "en-gb+m3",
        160,
        ("technical",),
        rate=8_000,
        subtype="ULAW",
    ),
    Utterance(
        "new-address",
        "I moved last month and I need to change my delivery address.",
        "en-us+m7",
        175,
        ("delivery", "account"),
    ),
    Utterance(
        "opening-hours", "What time does your store in Portland open on Saturday?", "en-gb+f1", 165, ("names", "store")
    ),
    Utterance(
        "cracked-screen",
        "The screen was already cracked when I opened the box.",
        "en-us+f4",
        170,
        ("delivery",),
        subtype="PCM_24",
    ),
    Utterance(
        "invoice-copy",
        "Can you send a copy of the invoice to my email address?",
        "en-gb-scotland+f2",
        165,
        ("billing",),
        rate=22_050,
    ),
    Utterance("real-person", "I want to speak to a real person please.", "en-us+m4", 150, ("store",)),
    Utterance(
        "family-plan",
        "How much would it cost to upgrade to the family plan?",
        "en-us-nyc",
        170,
        ("billing",),
        rate=48_000,
        layout="same",
    ),
    Utterance(
        "lost-card",
        "I lost my card this morning and I want to block it right away.",
        "en-us+f5",
        190,
        ("billing", "account"),
    ),
    Utterance(
        "router-light",
        "The light on the router is blinking red instead of green.",
        "en-029",
        160,
        ("technical",),
        rate=8_000,
        subtype="PCM_U8",
        level_dbfs=-12.0,
    ),
    Utterance("warranty", "Is the coffee machine still under warranty?", "en-gb+m1", 160, ("store",), subtype="FLOAT"),
    Utterance(
        "washing-machine",
        "Good morning I bought a washing machine from your store in April and since then it has stopped in the middle "
        "of every cycle. The technician who came on Tuesday told me that a part was missing and now I would like to "
        "know when the part will be delivered and who is going to install it.",
        "en-us+m3",
        175,
        ("long", "technical"),
    ),
    Utterance(
        "wrong-door",
        "The delivery driver left the package at the wrong door.",
        "en-us+f3",
        170,
        ("delivery",),
        layout="left",
    ),
    Utterance(
        "on-hold",
        "I have been waiting on hold since early this morning.",
        "en-gb+m4",
        165,
        ("store",),
        rate=8_000,
        layout="right",
    ),
    Utterance("that-is-all", "That is all I needed for today.", "en-us+f2", 155, ("short", "store"), breath=True),
    Utterance("yes-correct", "Yes that is correct.", "en-gb+f3", 150, ("short", "account")),
    Utterance(
        "contract-end",
        "My contract runs out in October and I do not want to renew it.",
        "en-gb-x-rp",
        170,
        ("account",),
    ),
    Utterance(
        "app-crash",
        "The app closes by itself whenever I try to pay.",
        "en-us+m2",
        165,
        ("technical", "billing"),
        level_dbfs=-30.0,
    ),
]

CALL = (
    Utterance(
        "appointment-1", "I would like to book an appointment with a technician.", "en-us+f1", 170, ("technical",)
    ),
    Utterance("appointment-2", "Tuesday afternoon would be perfect for me.", "en-us+f1", 170, ("technical", "short")),
)
"""One recording of two utterances: its lines are segments of ``appointment.wav`` and one conversation."""

AGENT = ("Thank you for calling. How may I help you today?", "en-us+m5", 175)


def speak(text: str, voice: str, wpm: int) -> tuple[Samples, int]:
    """Speech without silence around it, at espeak-ng's own rate."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(wpm), "-w", wav, "--", text], check=True, timeout=60)
        samples, rate = read(wav)
    mono = samples[:, 0]
    span = voiced_span(mono, rate)
    assert span is not None, text
    return mono[round(span[0] * rate) : round(span[1] * rate)], rate


def recorded(utterance: Utterance, rng: np.random.Generator) -> tuple[Samples, float]:
    """The utterance at its file's rate and level between 200 to 500 ms of nothing; and where it ends, in seconds."""
    speech, rate = speak(utterance.text, utterance.voice, utterance.wpm)
    speech = resample(speech, rate, utterance.rate)
    speech *= 10 ** (utterance.level_dbfs / 20) / loudness(speech, utterance.rate)
    peak = float(np.max(np.abs(speech)))
    speech *= min(1.0, 0.89 / peak)
    before, after = (np.zeros(int(rng.uniform(0.2, 0.5) * utterance.rate), np.float32) for _ in range(2))
    if utterance.breath:
        gap, breath = int(0.06 * utterance.rate), int(0.14 * utterance.rate)
        after = np.zeros(gap + breath + utterance.rate // 5, np.float32)
        after[gap : gap + breath] = rng.standard_normal(breath) * np.hanning(breath) * 0.012
    return np.concatenate((before, speech, after)), (len(before) + len(speech)) / utterance.rate


def loudness(mono: Samples, rate: int) -> float:
    """The 95th percentile of the RMS of 10 ms windows."""
    window = rate // 100
    windows = mono[: len(mono) // window * window].reshape(-1, window)
    return float(np.percentile(np.sqrt(np.mean(np.square(windows, dtype=np.float64), axis=1)), 95))


def room(frames: int, rng: np.random.Generator) -> Samples:
    """Noise of a quiet room: -3 dB an octave, as fans and traffic have it, above what a microphone passes."""
    spectrum = np.fft.rfft(rng.standard_normal(frames))
    bins = np.arange(len(spectrum))
    spectrum *= np.where(bins < 0.02 * len(spectrum), 0.0, 1 / np.sqrt(np.maximum(1, bins)))
    noise: Samples = np.fft.irfft(spectrum, frames).astype(np.float32)
    return noise * np.float32(10 ** (NOISE_DBFS / 20) / np.sqrt(np.mean(np.square(noise))))


def laid_out(mono: Samples, utterance: Utterance, rng: np.random.Generator) -> Samples:
    """Mono, or two channels as the layout says."""
    if utterance.layout == "mono":
        return mono
    if utterance.layout == "same":
        return np.stack((mono, mono), axis=1)
    agent, rate = speak(*AGENT)
    agent = resample(agent, rate, utterance.rate)[: len(mono)]
    agent = np.pad(agent, (0, len(mono) - len(agent))) * np.float32(0.5) + room(len(mono), rng)
    return np.stack((mono, agent) if utterance.layout == "left" else (agent, mono), axis=1)


def write(name: str, samples: Samples, utterance: Utterance) -> None:
    """One WAV file of the dataset."""
    if utterance.subtype == "PCM_U8":
        # libsndfile rounds 8-bit samples down, which would turn the quietest noise into a loud one.
        samples = np.rint(samples * np.float32(128)) / np.float32(128)
    soundfile.write(FOLDER / name, samples, utterance.rate, subtype=utterance.subtype, format="WAV")


def row(utterance: Utterance, **more: object) -> dict[str, object]:
    """The utterance's line in metadata.jsonl."""
    cells: dict[str, object] = {
        "id": utterance.id,
        "file_name": f"{utterance.id}.wav",
        "transcription": utterance.text,
        "tags": utterance.tags,
        "language": "en",
        "voice": utterance.voice,
        "wpm": utterance.wpm,
    }
    if utterance.layout in ("left", "right"):
        cells["channel"] = utterance.layout
    return cells | more


def make() -> None:
    """Write every WAV and the metadata."""
    for old in FOLDER.glob("*.wav"):
        old.unlink()
    rows = []
    for utterance in UTTERANCES:
        rng = np.random.default_rng(zlib.crc32(utterance.id.encode()))
        speech, end_s = recorded(utterance, rng)
        more: dict[str, object] = {"speech_end_ms": round(end_s * 1000)} if utterance.breath else {}
        write(f"{utterance.id}.wav", laid_out(speech + room(len(speech), rng), utterance, rng), utterance)
        rows.append(row(utterance, **more))
    rows += make_call()
    lines = "".join(json.dumps(cells) + "\n" for cells in rows)
    (FOLDER / "metadata.jsonl").write_text(lines, encoding="utf-8")


def make_call() -> list[dict[str, object]]:
    """One file with two utterances and the agent's turn, silent on this side, between them."""
    rng = np.random.default_rng(zlib.crc32(b"appointment"))
    rate = CALL[0].rate
    first, second = (recorded(utterance, rng)[0] for utterance in CALL)
    pause = np.zeros(int(1.2 * rate), np.float32)
    whole = np.concatenate((first, pause, second))
    write("appointment.wav", whole + room(len(whole), rng), CALL[0])
    middle = len(first) / rate, (len(first) + len(pause)) / rate
    common = {"file_name": "appointment.wav", "conversation_id": "appointment"}
    return [
        row(CALL[0], **common, end_s=round(middle[0], 3)),
        row(CALL[1], **common, start_s=round(middle[1], 3)),
    ]


def longest_pause_ms(mono: Samples, rate: int) -> int:
    """The longest silence inside the speech, as webrtcvad (mode 2, 16 kHz, 30 ms frames) hears it."""
    detector = webrtcvad.Vad(2)
    pcm = np.clip(resample(mono, rate, 16_000) * 32767, -32768, 32767).astype("<i2")
    frames = [pcm[i : i + 480] for i in range(0, len(pcm) - 479, 480)]
    voiced = np.flatnonzero([detector.is_speech(frame.tobytes(), 16_000) for frame in frames])
    assert len(voiced), "no speech"
    return int(np.max(np.diff(voiced), initial=1) - 1) * 30


def check() -> None:
    """Load the folder as a run would, and hold what other parts rely on."""
    dataset = load_dataset(FOLDER)
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    assert size < SIZE_LIMIT, size
    for item in dataset.items:
        pause_ms = longest_pause_ms(*dataset.samples(item))
        assert pause_ms < PAUSE_LIMIT_MS, f"{item.id} would be split: it pauses for {pause_ms} ms"
        assert item.speech_start_s is not None, item.id
        assert item.speech_end_s is not None, item.id
        for pad_s in (item.speech_start_s, item.duration_s - item.speech_end_s):
            assert 0.15 < pad_s < 0.6, f"{item.id}: voice was found in the padding or missed ({pad_s:.2f} s)"
        voice = f"voice {item.speech_start_s:.2f} to {item.speech_end_s:.2f} s of {item.duration_s:.2f} s"
        print(f"{item.id:18} {voice}, longest pause {pause_ms} ms")
    print(f"{len(dataset.items)} items, {dataset.audio_s:.1f} s, {size / 1e6:.2f} MB, hash {dataset.hash[:12]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only check the files that are there")
    if not parser.parse_args().check:
        make()
    check()
