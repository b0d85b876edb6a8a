"""Voice detection: media times, hysteresis and the settings of server VAD, on real speech at known positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rteval.audio import encode, resample
from rteval.corpus import load_dataset
from rteval.formats import FORMATS, G711_ALAW, G711_ULAW, PCM16, AudioFormat
from rteval.simulator.vad import SpeechStarted, SpeechStopped, VoiceDetector

SUPPORT = Path(__file__).parents[2] / "datasets" / "support"
RATE = 24_000
# What the detector may be off by: it needs a few frames to hear an onset, and WebRTC lets go of a sound late.
TOLERANCE_MS = 60

Wave = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def speech() -> Wave:
    """One utterance, its voiced span only: it starts with its first sample and ends with its last."""
    dataset = load_dataset(SUPPORT, limit=1)
    (item,) = dataset.items
    samples, rate = dataset.samples(item)
    assert item.speech_start_s is not None
    assert item.speech_end_s is not None
    wave = resample(samples[round(item.speech_start_s * rate) : round(item.speech_end_s * rate)], rate, RATE)
    return (wave * (0.5 / np.abs(wave).max())).astype(np.float32)


def silence(ms: int) -> Wave:
    return np.zeros(RATE * ms // 1000, np.float32)


def noise(ms: int, level: float = 0.3) -> Wave:
    return np.random.default_rng(7).normal(0, level, RATE * ms // 1000).astype(np.float32)


def listen(detector: VoiceDetector, data: bytes, frame_bytes: int | None = None) -> list[SpeechStarted | SpeechStopped]:
    size = frame_bytes or detector.fmt.frame_bytes(100)
    return [event for at in range(0, len(data), size) for event in detector.feed(data[at : at + size])]


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("lead_ms", [400, 1_234, 2_000])
def test_speech_is_found_where_it_is_in_media_time(speech: Wave, fmt: AudioFormat, lead_ms: int) -> None:
    data = encode(np.concatenate((silence(lead_ms), speech, silence(1_000))), RATE, fmt)
    started, stopped = listen(VoiceDetector(fmt, silence_duration_ms=500), data)

    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    end_ms = lead_ms + len(speech) / RATE * 1000
    assert abs(started.audio_start_ms - (lead_ms - 300)) <= TOLERANCE_MS
    assert abs(stopped.last_voice_ms - end_ms) <= TOLERANCE_MS


@pytest.mark.parametrize("silence_ms", [200, 205, 333, 500, 700])
def test_the_closing_silence_is_exactly_as_long_as_asked(speech: Wave, silence_ms: int) -> None:
    data = encode(np.concatenate((silence(500), speech, silence(1_000))), RATE, PCM16)
    stopped = listen(VoiceDetector(PCM16, silence_duration_ms=silence_ms), data)[-1]

    assert isinstance(stopped, SpeechStopped)
    assert stopped.audio_end_ms - stopped.last_voice_ms == silence_ms


@pytest.mark.parametrize("fmt", [PCM16, G711_ULAW], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shift_ms", range(0, 100, 10))
def test_the_end_is_told_with_the_append_that_completes_the_silence(
    speech: Wave, fmt: AudioFormat, shift_ms: int
) -> None:
    """Also when the silence is complete with the very last sample of an append."""
    detector = VoiceDetector(fmt)
    data = encode(np.concatenate((silence(300 + shift_ms), speech, silence(700))), RATE, fmt)
    size = fmt.frame_bytes(100)
    for at in range(0, len(data), size):
        for event in detector.feed(data[at : at + size]):
            if isinstance(event, SpeechStopped):
                fed_ms = fmt.seconds(min(at + size, len(data))) * 1000
                assert event.audio_end_ms <= fed_ms < event.audio_end_ms + 100 + 10
                return
    pytest.fail("speech never stopped")


@pytest.mark.parametrize("frame_bytes", [1, 7, 160, 4_799, 4_801, 10**9], ids=str)
@pytest.mark.parametrize("fmt", [PCM16, G711_ALAW], ids=lambda fmt: fmt.name)
def test_how_the_audio_is_cut_into_appends_changes_nothing(speech: Wave, fmt: AudioFormat, frame_bytes: int) -> None:
    short = speech[: RATE * 3 // 2]
    data = encode(np.concatenate((silence(300), short, silence(400), short, silence(400))), RATE, fmt)
    if frame_bytes == 1:
        data = data[: len(data) // 4]

    whole = listen(VoiceDetector(fmt), data)

    assert listen(VoiceDetector(fmt), data, frame_bytes) == whole
    assert whole


@pytest.mark.parametrize(
    "burst", [noise(10), noise(30), noise(30, 0.05), np.ones(240, np.float32) * 0.9], ids=["10", "30", "quiet", "click"]
)
@pytest.mark.parametrize("fmt", [PCM16, G711_ULAW], ids=lambda fmt: fmt.name)
def test_a_short_noise_does_not_start_speech(burst: Wave, fmt: AudioFormat) -> None:
    data = encode(np.concatenate((silence(1_000), burst, silence(1_000), burst, silence(500))), RATE, fmt)
    assert listen(VoiceDetector(fmt), data) == []


def test_silence_and_a_quiet_room_are_not_speech() -> None:
    room = noise(3_000, 0.0005)
    assert listen(VoiceDetector(PCM16), encode(room, RATE, PCM16)) == []
    assert listen(VoiceDetector(PCM16), bytes(PCM16.bytes_per_s)) == []


def test_a_click_in_the_closing_silence_does_not_prolong_the_utterance(speech: Wave) -> None:
    tail = silence(600)
    with_click = tail.copy()
    with_click[RATE * 150 // 1000 :][:120] = 0.5
    plain, clicked = (
        listen(
            VoiceDetector(PCM16, silence_duration_ms=400),
            encode(np.concatenate((silence(300), speech, end)), RATE, PCM16),
        )
        for end in (tail, with_click)
    )
    assert clicked == plain


def test_a_pause_shorter_than_the_silence_duration_does_not_split(speech: Wave) -> None:
    data = encode(np.concatenate((silence(300), speech, silence(300), speech, silence(600))), RATE, PCM16)
    assert len(listen(VoiceDetector(PCM16, silence_duration_ms=500), data)) == 2
    assert len(listen(VoiceDetector(PCM16, silence_duration_ms=200), data)) == 4


def test_an_utterance_never_begins_before_the_end_of_the_one_before_it(speech: Wave) -> None:
    data = encode(np.concatenate((silence(300), speech, silence(400), speech, silence(400))), RATE, PCM16)
    first, stopped, second, _ = listen(VoiceDetector(PCM16, prefix_padding_ms=60_000), data)

    assert isinstance(first, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert isinstance(second, SpeechStarted)
    assert first.audio_start_ms == 0
    assert second.audio_start_ms == stopped.audio_end_ms


def test_times_count_from_where_the_stream_was_when_detection_began(speech: Wave) -> None:
    data = encode(np.concatenate((silence(500), speech, silence(400))), RATE, PCM16)
    early = listen(VoiceDetector(PCM16), data)
    late = listen(VoiceDetector(PCM16, start_ms=7_000), data)
    held = listen(VoiceDetector(PCM16, start_ms=7_000, committed_ms=7_450), data)

    assert isinstance(early[0], SpeechStarted)
    assert late[0] == SpeechStarted(early[0].audio_start_ms + 7_000)
    assert held[0] == SpeechStarted(7_450)
    assert held[1] == late[1]


def test_a_higher_threshold_needs_louder_speech(speech: Wave) -> None:
    quiet = (speech * 0.03).astype(np.float32)
    data = encode(np.concatenate((silence(500), quiet, silence(500))), RATE, PCM16)
    assert listen(VoiceDetector(PCM16, threshold=0.5), data)
    assert listen(VoiceDetector(PCM16, threshold=1.0), data) == []


@pytest.mark.parametrize("fmt", [PCM16, G711_ULAW], ids=lambda fmt: fmt.name)
def test_every_utterance_of_the_support_dataset_is_one_turn_at_half_a_second(fmt: AudioFormat) -> None:
    dataset = load_dataset(SUPPORT)
    for item in dataset.items:
        assert item.speech_start_s is not None
        assert item.speech_end_s is not None
        data = dataset.encoded(item, fmt) + fmt.silence * fmt.rate
        started, stopped = listen(VoiceDetector(fmt, silence_duration_ms=500), data)
        assert isinstance(started, SpeechStarted)
        assert isinstance(stopped, SpeechStopped)
        assert started.audio_start_ms <= item.speech_start_s * 1000, item.id
        assert stopped.audio_end_ms >= item.speech_end_s * 1000, item.id
