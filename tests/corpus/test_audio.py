from __future__ import annotations

import contextlib
import io
import itertools
import struct

import numpy as np
import pybase64
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from rteval.audio import (
    AudioFileError,
    AudioReader,
    Encoder,
    LeadingSilence,
    VoiceDetector,
    decode,
    encode,
    read,
    resample,
    voiced_span,
)
from rteval.formats import FORMATS, G711_ALAW, G711_ULAW, PCM16

EVERY_FORMAT = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)

# -- the wire's encodings ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-32768, 32767)))
def test_pcm16_is_the_same_bytes_after_decoding_and_encoding(samples):
    data = np.array(samples, "<i2").tobytes()
    assert encode(decode(data, PCM16), PCM16.rate, PCM16) == data


@pytest.mark.parametrize(
    ("fmt", "twins"),
    [pytest.param(G711_ULAW, {0x7F: 0xFF}, id="ulaw has two zeros"), pytest.param(G711_ALAW, {}, id="alaw")],
)
def test_every_g711_code_survives_decoding_and_encoding(fmt, twins):
    codes = bytes(range(256))
    assert encode(decode(codes, fmt), fmt.rate, fmt) == bytes(twins.get(code, code) for code in codes)


# ITU-T G.711, tables 1 and 2: the codes of the largest and the smallest magnitudes, in 16-bit samples.
@pytest.mark.parametrize(
    ("fmt", "code", "sample"),
    [
        pytest.param(G711_ULAW, 0x80, 32124, id="ulaw most positive"),
        pytest.param(G711_ULAW, 0x00, -32124, id="ulaw most negative"),
        pytest.param(G711_ULAW, 0xFF, 0, id="ulaw zero"),
        pytest.param(G711_ALAW, 0xAA, 32256, id="alaw most positive"),
        pytest.param(G711_ALAW, 0x2A, -32256, id="alaw most negative"),
        pytest.param(G711_ALAW, 0xD5, 8, id="alaw smallest"),
    ],
)
def test_g711_follows_the_recommendation(fmt, code, sample):
    assert decode(bytes([code]), fmt)[0] * 32768 == sample


@EVERY_FORMAT
def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap(fmt):
    loud = decode(encode(np.array([2.0, -2.0], np.float32), fmt.rate, fmt), fmt)
    assert loud[0] > 0.97
    assert loud[1] < -0.97


@EVERY_FORMAT
def test_the_silent_sample_of_a_format_is_silent(fmt):
    assert abs(decode(fmt.silence, fmt)[0]) < 0.001


def test_half_a_sample_is_refused():
    with pytest.raises(ValueError, match="multiple of element size"):
        decode(b"\0\0\0", PCM16)


@EVERY_FORMAT
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_encoding_keeps_length_and_pitch_at_every_rate(fmt, rate, tone):
    data = encode(tone(rate), rate, fmt)
    assert abs(fmt.seconds(len(data)) - 1.0) < 0.001
    heard = decode(data, fmt)[round(0.3 * fmt.rate) : round(0.6 * fmt.rate)]
    loudest = int(np.argmax(np.abs(np.fft.rfft(heard)))) / 0.3
    assert abs(loudest - 300) < 4
    assert abs(np.max(heard) - 0.3) < 0.02


@given(cuts=st.lists(st.integers(1, 3_000), max_size=8), rate=st.sampled_from([8_000, 22_050, 24_000, 48_000]))
def test_how_the_samples_are_cut_does_not_change_the_encoding(cuts, rate):
    samples = np.random.default_rng(3).standard_normal(6_000).astype(np.float32) * 0.1
    for fmt in FORMATS.values():
        encoder = Encoder(rate, fmt)
        pieces = [encoder.feed(piece) for piece in np.split(samples, np.clip(np.cumsum(cuts), 0, len(samples)))]
        assert b"".join(pieces) + encoder.feed(samples[:0], last=True) == encode(samples, rate, fmt)


def test_resampling_to_the_same_rate_changes_nothing(tone):
    samples = tone(24_000)
    assert resample(samples, 24_000, 24_000) is samples


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 2 / 128),
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 1e-6),
        ("a.wav", "DOUBLE", 1e-6),
        ("a.wav", "ULAW", 0.02),
        ("a.wav", "ALAW", 0.02),
        ("a.flac", "PCM_16", 1e-4),
        ("a.flac", "PCM_24", 1e-6),
        ("a.aiff", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 0.1),
    ],
)
def test_every_kind_of_sample_is_read(folder, tone, name, subtype, error, channels):
    mono = tone(22_050)
    path = folder.wav(name, np.stack([mono] * channels, axis=1), 22_050, subtype=subtype)
    samples, rate = read(path)
    assert rate == 22_050
    assert samples.shape == (len(mono), channels)
    assert np.max(np.abs(samples - mono[:, None])) < error


def test_a_segment_is_exactly_its_samples(folder, tone):
    path = folder.wav("a.wav", subtype="FLOAT")
    whole, rate = read(path)
    part, _ = read(path, 0.25, 0.75)
    assert np.array_equal(part, whole[round(0.25 * rate) : round(0.75 * rate)])


def test_a_file_of_several_blocks_is_read_whole(folder, monkeypatch):
    monkeypatch.setattr("rteval.audio.BLOCK_FRAMES", 1_000)
    path = folder.wav("a.wav")
    with AudioReader(path) as reader:
        sizes = [len(block) for block in reader.blocks()]
    assert sizes == [1_000] * 16


def _wav(data: bytes, *, rate: int = 16_000, length: int | None = None, extra: bytes = b"") -> bytes:
    length = len(data) if length is None else length
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, (rate * 2) % 2**32, 2, 16)
    return b"RIFF" + struct.pack("<I", 0) + b"WAVE" + fmt + extra + struct.pack("<4sI", b"data", length) + data


ODD_FILES = [
    pytest.param(b"", "is empty", id="no bytes"),
    pytest.param(b"hello there, this is no audio at all" * 20, "is broken or not audio", id="text"),
    pytest.param(b"RIFF", "is broken or not audio", id="four bytes"),
    pytest.param(_wav(b"")[:20], "is broken or not audio", id="header cut"),
    pytest.param(_wav(b""), "holds no audio", id="no samples"),
    pytest.param(_wav(b"\1\0" * 100, length=400), "is cut short (200 bytes", id="data cut"),
    pytest.param(
        _wav(b"\1\0" * 100, length=400, extra=b"LIST\3\0\0\0abc\0"), "is cut short (200 bytes", id="odd chunk before"
    ),
    pytest.param(_wav(b"\1\0" * 100, rate=7), "an impossible sample rate of 7 Hz", id="rate too low"),
    pytest.param(_wav(b"\1\0" * 100, rate=2**31 - 1), "sample rate", id="rate too high"),
]


@pytest.mark.parametrize(("data", "said"), ODD_FILES)
def test_a_file_that_is_no_recording_says_why(tmp_path, data, said):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(AudioFileError) as error:
        AudioReader(path)
    assert said in str(error.value)


@pytest.mark.parametrize("length", [0x7FFF_FFFF - 36, 0xFFFF_FFFF, 0xFFFF_F000])
def test_a_wav_written_to_a_pipe_leaves_its_length_open_and_is_read(tmp_path, length):
    path = tmp_path / "a.wav"
    path.write_bytes(_wav(b"\1\0" * 100, length=length))
    assert len(read(path)[0]) == 100


def test_a_flac_that_is_cut_says_so(folder):
    path = folder.wav("a.flac", np.random.default_rng(1).uniform(-0.5, 0.5, 48_000).astype(np.float32))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(AudioFileError, match=r"is broken or not audio|is cut short"):
        read(path)


@pytest.mark.parametrize("make", ["nothing", "folder"])
def test_what_is_no_file_says_so(tmp_path, make):
    path = tmp_path / "a.wav"
    if make == "folder":
        path.mkdir()
    with pytest.raises(AudioFileError, match="is not a file" if make == "folder" else "does not exist"):
        AudioReader(path)


@given(st.binary(max_size=200))
def test_no_bytes_behind_a_wav_header_crash_the_reader(tmp_path_factory, junk):
    path = tmp_path_factory.getbasetemp() / "junk.wav"
    path.write_bytes(_wav(b"")[:12] + junk)
    with contextlib.suppress(AudioFileError):
        read(path)


# -- voice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_the_voice_is_found_to_the_window(tone, rate):
    start, end = voiced_span(tone(rate), rate)
    assert start == pytest.approx(0.2, abs=0.011)
    assert end == pytest.approx(0.7, abs=0.011)


def _at(level_db: float, rate: int = 16_000) -> np.ndarray:
    return np.full(rate // 10, 10 ** (level_db / 20), np.float32)


@pytest.mark.parametrize(
    ("levels", "span"),
    [
        pytest.param([-20, -20, -59, -20], (0.0, 0.4), id="40 dB below the loud part is inside it anyway"),
        pytest.param([-59, -20, -20, -59], (0.0, 0.4), id="39 dB below is voiced at the edges"),
        pytest.param([-61, -20, -20, -61], (0.1, 0.3), id="41 dB below is not"),
        pytest.param([-59.5, -50, -50, -60.5], (0.0, 0.3), id="the floor is -60 dBFS"),
        pytest.param([-61, -61], None, id="all below the floor"),
        pytest.param([-300], None, id="all silent"),
    ],
)
def test_voiced_is_within_40_db_of_the_95th_percentile_and_above_60_dbfs(levels, span):
    found = voiced_span(np.concatenate([_at(level) for level in levels]), 16_000)
    assert found == (span if span is None else pytest.approx(span))


def test_no_samples_have_no_voice():
    assert voiced_span(np.empty(0, np.float32), 16_000) is None


def test_a_last_window_that_is_not_full_ends_with_the_recording():
    assert voiced_span(np.full(165, 0.5, np.float32), 16_000) == (0.0, 165 / 16_000)


@given(st.lists(st.integers(0, 900), max_size=8))
def test_how_the_samples_are_cut_does_not_move_the_voice(cuts):
    samples = np.concatenate([_at(-70), _at(-20), _at(-90), _at(-30), _at(-80)])
    detector = VoiceDetector(16_000)
    for piece in np.split(samples, np.clip(np.cumsum(cuts), 0, len(samples))):
        detector.feed(piece)
    assert detector.span() == voiced_span(samples, 16_000)


# -- leading silence -----------------------------------------------------------------------------------------------


def _deltas(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *np.clip(np.cumsum(cuts), 0, len(data)).tolist(), len(data)]
    return [pybase64.b64encode(data[start:end]) for start, end in itertools.pairwise(edges)]


@EVERY_FORMAT
@given(cuts=st.lists(st.integers(0, 700), max_size=10), silent_ms=st.integers(0, 12).map(lambda n: n * 10))
def test_how_the_answer_is_cut_does_not_change_its_leading_silence(fmt, cuts, silent_ms):
    silence = fmt.silence * (fmt.rate * silent_ms // 1000)
    sound = encode(np.full(fmt.rate // 10, 0.1, np.float32), fmt.rate, fmt)
    meter = LeadingSilence(fmt)
    for delta in _deltas(silence + sound, cuts):
        meter.feed(delta)
    assert meter.ms == silent_ms
    assert meter.done


def test_an_answer_without_sound_has_no_leading_silence():
    meter = LeadingSilence(PCM16)
    meter.feed(pybase64.b64encode(bytes(48_000)))
    assert meter.ms is None
    assert not meter.done


@pytest.mark.parametrize(("threshold", "ms"), [(-50.0, 0.0), (-35.0, None)])
def test_what_counts_as_silent_is_a_setting(threshold, ms):
    meter = LeadingSilence(PCM16, threshold)
    meter.feed(pybase64.b64encode(encode(np.full(2_400, 10 ** (-40 / 20), np.float32), 24_000, PCM16)).decode())
    assert meter.ms == ms


def test_nothing_is_decoded_after_the_first_sound():
    meter = LeadingSilence(PCM16)
    meter.feed(pybase64.b64encode(encode(np.full(2_400, 0.1, np.float32), 24_000, PCM16)))
    meter.feed(b"not base64 at all")
    assert (meter.ms, meter.broken) == (0.0, False)


@pytest.mark.parametrize(
    "delta", [b"!!!!", "AAA", "\u00e4\u00e4\u00e4\u00e4"], ids=["alphabet", "padding", "not ASCII"]
)
def test_a_delta_that_is_no_base64_ends_the_measuring_without_an_error(delta):
    meter = LeadingSilence(PCM16)
    meter.feed(delta)
    assert (meter.ms, meter.broken, meter.done) == (None, True, True)


def test_soundfile_agrees_with_our_g711(tone):
    mono = tone(8_000)
    raw = io.BytesIO()
    soundfile.write(raw, np.rint(mono * 32768).astype(np.int16), 8_000, format="RAW", subtype="ULAW")
    assert encode(mono, 8_000, G711_ULAW) == raw.getvalue()
