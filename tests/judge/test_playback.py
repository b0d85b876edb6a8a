from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.playback import play

MS = 1_000_000
RATE = 48_000  # bytes per second: 4 800 bytes are 100 ms

CASES = [
    pytest.param([0, 50, 100], [4800, 4800, 4800], 0, 0, 300, 0, 0, id="all there in time"),
    pytest.param([0, 100, 200], [4800, 4800, 4800], 0, 0, 300, 0, 0, id="each just in time"),
    pytest.param([0, 250], [4800, 4800], 0, 0, 350, 1, 150, id="one stall"),
    pytest.param([0, 150, 300], [4800, 4800, 4800], 0, 0, 400, 2, 100, id="two stalls"),
    pytest.param([0, 150, 300], [4800, 4800, 4800], 100, 100, 400, 0, 0, id="a buffer hides them"),
    pytest.param([0, 10, 500], [0, 4800, 0], 0, 10, 110, 0, 0, id="deltas without payload do not exist"),
]


@pytest.mark.parametrize(("at_ms", "sizes", "buffer_ms", "start_ms", "end_ms", "count", "stalled_ms"), CASES)
def test_a_player_starts_with_the_first_delta_and_stalls_when_the_next_is_late(
    at_ms: list[int], sizes: list[int], buffer_ms: float, start_ms: int, end_ms: int, count: int, stalled_ms: float
) -> None:
    playback = play([at * MS for at in at_ms], sizes, RATE, buffer_ms)
    assert playback is not None
    assert (playback.start_ns, playback.end_ns) == (start_ms * MS, end_ms * MS)
    assert (playback.underrun_count, playback.underrun_ms) == (count, stalled_ms)


def test_a_sample_after_a_stall_is_played_that_much_later() -> None:
    playback = play([0, 250 * MS], [4800, 4800], RATE)
    assert playback is not None
    assert playback.play_time_ns(0.0) == 0
    assert playback.play_time_ns(0.09) == 90 * MS
    assert playback.play_time_ns(0.1) == 250 * MS  # the first sample of the late delta
    assert playback.play_time_ns(0.15) == 300 * MS
    assert playback.play_time_ns(0.2) is None
    assert playback.play_time_ns(-0.01) is None


def test_no_audio_is_no_playback() -> None:
    assert play([], [], RATE) is None
    assert play([1], [0], RATE) is None


@pytest.mark.parametrize(
    ("arrivals", "sizes", "rate", "buffer_ms"),
    [
        pytest.param([0], [1], 0, 0.0, id="no rate"),
        pytest.param([0], [1], RATE, -1.0, id="negative buffer"),
        pytest.param([0, 1], [1], RATE, 0.0, id="columns differ"),
    ],
)
def test_nonsense_is_refused(arrivals: list[int], sizes: list[int], rate: int, buffer_ms: float) -> None:
    with pytest.raises(ValueError, match=r"play\(\)|shorter|argument"):
        play(arrivals, sizes, rate, buffer_ms)


deltas = st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 50_000)), min_size=1, max_size=30)


@given(deltas, st.integers(0, 2000))
def test_play_takes_as_long_as_the_audio_and_the_stalls(gaps: list[tuple[int, int]], buffer_ms: int) -> None:
    arrivals, at = [], 0
    for gap, _ in gaps:
        at += gap
        arrivals.append(at)
    sizes = [size for _, size in gaps]
    playback = play(arrivals, sizes, RATE, buffer_ms)
    assert playback is not None
    assert playback.start_ns == arrivals[0] + buffer_ms * MS
    assert playback.end_ns - playback.start_ns == sum(sizes) * 10**9 // RATE + playback.underrun_ns
    assert playback.end_ns >= arrivals[-1] or buffer_ms
    # Nothing is heard before it arrived.
    before = 0
    for arrival, size in zip(arrivals, sizes, strict=True):
        heard = playback.play_time_ns(before / RATE)
        assert heard is not None
        assert heard >= arrival - 2 or buffer_ms
        before += size


@given(deltas)
def test_a_longer_buffer_never_adds_a_stall(gaps: list[tuple[int, int]]) -> None:
    arrivals = [sum(gap for gap, _ in gaps[: k + 1]) for k in range(len(gaps))]
    played = [play(arrivals, [size for _, size in gaps], RATE, buffer_ms) for buffer_ms in (0, 100, 1000, 100_000)]
    stalls = [playback.underrun_ns for playback in played if playback is not None]
    assert stalls == sorted(stalls, reverse=True)
    assert stalls[-1] == 0
