"""When frames are due and how audio is cut, as arithmetic."""

from __future__ import annotations

import pytest

from rteval.formats import G711_ALAW, G711_ULAW, PCM16
from rteval.realtime import pacing

MS = 1_000_000

DUE = [
    pytest.param(0, 0, 100, 100 * MS, id="the first frame: once it was heard"),
    pytest.param(0, 1, 100, 200 * MS, id="the second"),
    pytest.param(5 * MS, 9, 20, 205 * MS, id="counted from the start"),
    pytest.param(7, 3_599_999, 10, 36_000_000_000_007, id="ten hours later, to the nanosecond"),
]


@pytest.mark.parametrize(("start_ns", "frame", "frame_ms", "due_ns"), DUE)
def test_a_frame_is_due_when_its_last_sample_was_heard(start_ns, frame, frame_ms, due_ns):
    assert pacing.due_ns(start_ns, frame, frame_ms) == due_ns


CUTS = [
    pytest.param(b"", 4, [], id="nothing"),
    pytest.param(b"abcd", 4, [b"abcd"], id="one whole frame"),
    pytest.param(b"abcdefgh", 4, [b"abcd", b"efgh"], id="whole frames"),
    pytest.param(b"abcdef", 4, [b"abcd", b"ef"], id="a shorter last one"),
    pytest.param(b"ab", 4, [b"ab"], id="less than a frame"),
]


@pytest.mark.parametrize(("audio", "frame_bytes", "pieces"), CUTS)
def test_audio_is_cut_into_whole_frames_and_a_rest(audio, frame_bytes, pieces):
    assert pacing.cut(audio, frame_bytes) == pieces


FRAMES = [
    pytest.param(PCM16, b"\x01\x02", 6, b"\x01\x02\x00\x00\x00\x00", id="pcm16"),
    pytest.param(G711_ULAW, b"\x01", 3, b"\x01\xff\xff", id="mu-law"),
    pytest.param(G711_ALAW, b"\x01", 3, b"\x01\xd5\xd5", id="A-law"),
    pytest.param(PCM16, b"", 4, b"\x00\x00\x00\x00", id="nothing but silence"),
    pytest.param(PCM16, b"\x01\x02", 2, b"\x01\x02", id="already whole"),
]


@pytest.mark.parametrize(("fmt", "piece", "frame_bytes", "frame"), FRAMES)
def test_a_short_frame_is_filled_with_silence(fmt, piece, frame_bytes, frame):
    assert pacing.full_frame(piece, fmt, frame_bytes) == frame


COUNTS = [
    pytest.param(0.3, 100, 0, 3, id="exactly, in spite of floats"),
    pytest.param(0.1 + 0.2, 100, 0, 3, id="a float's hair is not a frame"),
    pytest.param(0.30001, 100, 0, 4, id="one sample more is"),
    pytest.param(0.25, 100, 0, 3, id="a begun frame"),
    pytest.param(0.0, 100, 0, 1, id="at least one"),
    pytest.param(0.03, 20, pacing.MIN_COMMIT_MS, 5, id="what a commit needs"),
    pytest.param(0.25, 20, pacing.MIN_COMMIT_MS, 13, id="more than a commit needs"),
]


@pytest.mark.parametrize(("speech_end_s", "frame_ms", "at_least_ms", "frames"), COUNTS)
def test_frames_are_counted_up_to_the_end_of_speech(speech_end_s, frame_ms, at_least_ms, frames):
    assert pacing.frame_count(speech_end_s, frame_ms, at_least_ms=at_least_ms) == frames
