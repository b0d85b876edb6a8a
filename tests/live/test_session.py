"""A session holds its turns as a caller would, and every planned turn has exactly one row."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from dataclasses import replace
from typing import Any

import pytest

from rteval.client.session import TimeoutsS
from rteval.corpus import Item
from rteval.simulator.process import Simulator

from .conftest import ROOT, VAD

MODES = {
    "vad": {"turn_detection": VAD},
    "manual": {},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", ["ga", "preview"])
def test_spoken_turns_are_answered_and_transcribed(dialect: str, mode: str, desk: Any, plain_server: Simulator) -> None:
    settings = {**MODES[mode], "transcription": {"model": "whisper-1"}}
    maker = desk(plain_server.url, dialect=dialect, settings=settings)
    item = maker.item("yes-correct")
    assert maker.hold([item]) == ()
    (row,) = maker.rows.turns
    assert (row.outcome, row.transcript_outcome) == ("ok", "ok")
    assert row.input_transcript == item.reference
    assert row.output_transcript
    assert row.oddities == ()
    anchors = [row.started_ns, row.speech_end_ns, row.response_created_ns, row.first_audio_ns, row.response_done_ns]
    assert anchors == sorted(anchors)
    assert row.usage.output_audio_tokens
    (session,) = maker.rows.sessions
    assert (session.outcome, session.drop, session.close_code) == ("ready", False, 1000)


def test_text_prompts_share_a_session_in_order(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url)
    maker.hold([maker.text("One?"), maker.text("Two?"), maker.text("Three?")])
    assert [(row.turn, row.outcome, row.speech_end_ns == row.create_ns) for row in maker.rows.turns] == [
        (0, "ok", True),
        (1, "ok", True),
        (2, "ok", True),
    ]
    assert len(maker.rows.sessions) == 1


def test_the_model_can_be_asked_to_speak_first(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, dialect="preview")
    maker.hold([Item(id="hello", instructions="Say hello.")])
    (row,) = maker.rows.turns
    assert (row.outcome, row.modality, row.item_id) == ("ok", "text", None)
    assert row.first_audio_ns is not None


def test_the_next_turn_waits_until_the_answer_was_played_and_thought_about(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, wait_for_playback=True, think_time_s=0.2)
    maker.hold([maker.text("One?"), maker.text("Two?")])
    first, second = maker.rows.turns
    played_ns = sum(first.deltas.size_bytes) * 1_000_000_000 // 48_000
    assert second.started_ns >= first.first_audio_ns + played_ns + 200_000_000
    assert second.due_ns >= first.first_audio_ns + played_ns


def test_the_microphone_stays_open_between_turns(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, settings={"turn_detection": VAD}, think_time_s=0.3)
    item = maker.item("yes-correct")
    maker.hold([item, item])
    first, second = maker.rows.turns
    assert (first.outcome, second.outcome) == ("ok", "ok")
    # Frames of both turns lie on one grid of 100 ms: the media clock never stopped.
    assert (second.started_ns - first.started_ns) % 100_000_000 == 0


def test_silence_follows_the_speech_until_the_turn_ends(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, settings={"turn_detection": VAD})
    item = maker.item("yes-correct")
    maker.hold([item])
    (row,) = maker.rows.turns
    assert row.input_audio_ms > item.speech_end_s * 1000 + 500


def test_manual_commit_sends_nothing_behind_the_last_voiced_frame(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, realtime=True)
    item = maker.item("yes-correct")
    maker.hold([item])
    (row,) = maker.rows.turns
    assert item.speech_end_s * 1000 <= row.input_audio_ms < item.speech_end_s * 1000 + 100
    assert row.create_ns >= row.speech_end_ns


def test_every_frame_of_a_paced_turn_reports_its_lag(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, realtime=True, frame_ms=20)
    maker.hold([maker.item("yes-correct")])
    (row,) = maker.rows.turns
    assert len(maker.rows.lags_ns) == row.input_audio_ms / 20
    assert row.send_lag_ms == max(maker.rows.lags_ns) / 1e6


def test_fast_pacing_reports_no_send_lag(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url)
    maker.hold([maker.item("yes-correct")])
    assert maker.rows.turns[0].send_lag_ms is None
    assert maker.rows.lags_ns == []


def test_detection_that_does_not_answer_is_asked_to(desk: Any, plain_server: Simulator) -> None:
    settings = {"turn_detection": {**VAD, "create_response": False}}
    maker = desk(plain_server.url, settings=settings, auto_response=False)
    maker.hold([maker.item("yes-correct")])
    (row,) = maker.rows.turns
    assert row.outcome == "ok"
    assert row.create_ns >= row.committed_ns


def test_a_server_that_hears_nothing_ends_the_turn_by_timeout(desk: Any, simulator: Any) -> None:
    server = simulator(behaviour={"vad": False})
    maker = desk(server.url, settings={"turn_detection": VAD}, timeouts=TimeoutsS(response=1.0, close=1.0))
    maker.hold([maker.item("yes-correct")])
    (row,) = maker.rows.turns
    assert (row.outcome, row.failure_stage, row.error_code) == ("timeout", "speak", "speech_not_detected")


def test_a_session_that_grew_too_old_hands_its_turns_over(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, max_session_s=0.001)
    left = maker.hold([maker.text("One?"), maker.text("Two?")])
    assert [planned.item.id for planned in left] == ["text-Two?"]
    assert len(maker.rows.turns) == 1
    assert maker.rows.sessions[0].turns == 1


def test_independent_turns_behind_a_broken_one_go_to_another_session(desk: Any, simulator: Any) -> None:
    server = simulator(behaviour={"faults": [{"kind": "drop_before_answer", "turns": [1]}]})
    maker = desk(server.url)
    left = maker.hold([maker.text("One?"), maker.text("Two?")])
    assert [row.outcome for row in maker.rows.turns] == ["dropped"]
    assert len(left) == 1


def test_turns_of_a_broken_conversation_are_rows_that_say_so(desk: Any, simulator: Any) -> None:
    server = simulator(behaviour={"faults": [{"kind": "drop_before_answer", "turns": [1]}]})
    maker = desk(server.url)
    left = maker.hold([maker.text("One?", conversation_id="c"), maker.text("Two?", conversation_id="c")])
    assert left == ()
    assert [(row.outcome, row.error_code) for row in maker.rows.turns] == [
        ("dropped", "close_1006"),
        ("dropped", "conversation_lost"),
    ]


def test_stopping_lets_the_turn_under_way_finish_and_cuts_the_rest(
    desk: Any, plain_server: Simulator, patiently: Any
) -> None:
    maker = desk(plain_server.url, wait_for_playback=True)
    session = maker.session([maker.text("One?"), maker.text("Two?")])

    async def hold() -> None:
        task = asyncio.create_task(session.run())
        await patiently(lambda: len(session._live) == 1)
        maker.caller.board.stopping.set()
        await task

    asyncio.run(hold())
    assert [row.outcome for row in maker.rows.turns] == ["ok", "cut"]
    assert maker.rows.sessions[0].close_code == 1000


def test_a_session_that_rests_sees_the_end_of_the_run_before_its_rest_is_over(
    desk: Any, plain_server: Simulator, patiently: Any
) -> None:
    maker = desk(plain_server.url, think_time_s=600, timed=True)
    session = maker.session([maker.text("One?"), maker.text("Two?")])

    async def hold() -> None:
        task = asyncio.create_task(session.run())
        await patiently(lambda: len(maker.rows.turns) == 1)
        maker.caller.board.stopping.set()
        await task

    asyncio.run(hold())
    # A clock ends the run: nobody had asked for the second turn yet.
    assert [row.outcome for row in maker.rows.turns] == ["ok"]
    assert maker.rows.sessions[0].close_code == 1000


def left_of(maker: Any, items: list[Item]) -> list[Any]:
    """What is there of a session that ended before the garbage collector looked, beside its rows."""

    async def hold() -> None:
        session = maker.session(items)
        gone.append(weakref.ref(session))
        gone.append(weakref.ref(session._conversation))
        await session.run()
        if session._transport is not None:
            gone.append(weakref.ref(session._transport._connection))
        del session
        await asyncio.sleep(0)
        left.extend(one() for one in gone if one() is not None)

    gone: list[weakref.ref[Any]] = []
    left: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        asyncio.run(hold())
    finally:
        gc.enable()
    assert len(gone) >= 2
    return left


COUNTS = pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")


@COUNTS
@pytest.mark.parametrize("mode", MODES)
def test_a_session_that_ended_is_freed_without_the_garbage_collector(
    mode: str, desk: Any, plain_server: Simulator
) -> None:
    """A thousand sessions leave too much for a collector that runs while others are measured."""
    maker = desk(plain_server.url, settings=MODES[mode])
    assert left_of(maker, [maker.text("One?"), maker.item("yes-correct")]) == []
    assert [row.outcome for row in maker.rows.turns] == ["ok", "ok"]


@COUNTS
@pytest.mark.parametrize("kind", ["refuse_handshake", "refuse_after_upgrade", "drop_mid_answer"])
def test_so_is_one_that_was_refused_or_dropped(kind: str, desk: Any, simulator: Any) -> None:
    maker = desk(simulator(behaviour={"faults": [{"kind": kind}]}).url)
    assert left_of(maker, [maker.text("One?")]) == []
    assert [row.outcome for row in maker.rows.turns] == ["dropped" if kind.startswith("drop") else "refused"]


def test_a_session_that_is_cut_leaves_all_its_rows(desk: Any, simulator: Any, patiently: Any) -> None:
    server = simulator(behaviour={"ttfa_ms": 60_000})
    maker = desk(server.url)
    session = maker.session([maker.text("One?"), maker.text("Two?")])

    async def hold() -> None:
        task = asyncio.create_task(session.run())
        await patiently(lambda: len(session._live) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(hold())
    assert [row.outcome for row in maker.rows.turns] == ["cut", "cut"]
    assert maker.rows.sessions[0].drop is False


def test_a_bug_of_ours_is_raised_and_loses_no_row(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url)

    def broken(frame: bytes) -> Any:
        raise ZeroDivisionError("ours")

    dialect = maker.caller.dialect
    maker.caller.dialect = _Breaking(dialect, broken)
    with pytest.raises(ZeroDivisionError):
        maker.hold([maker.text()])
    assert len(maker.rows.turns) == 1


class _Breaking:
    """A dialect with a bug in it."""

    def __init__(self, dialect: Any, decode: Any) -> None:
        self._dialect = dialect
        self.decode = decode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)


def test_settings_that_the_server_did_not_take_are_named(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, settings={"voice": "alloy"})
    maker.hold([maker.text()])
    assert maker.rows.sessions[0].ignored_settings == ()


def test_kept_audio_is_all_that_was_received(desk: Any, plain_server: Simulator) -> None:
    kept: list[tuple[Any, Any]] = []
    maker = desk(plain_server.url, audio_kept="all", keep_audio=lambda row, deltas: kept.append((row, list(deltas))))
    maker.hold([maker.text()])
    ((row, deltas),) = kept
    import pybase64

    assert sum(len(pybase64.b64decode(delta)) for delta in deltas) == sum(row.deltas.size_bytes)


def test_only_failed_turns_are_kept_when_asked(desk: Any, plain_server: Simulator) -> None:
    kept: list[Any] = []
    maker = desk(plain_server.url, audio_kept="failed", keep_audio=lambda row, deltas: kept.append(row))
    maker.hold([maker.text()])
    assert kept == []


def test_g711_turns_count_their_bytes_by_their_own_rate(desk: Any, support: Any, plain_server: Simulator) -> None:
    from rteval.formats import G711_ULAW

    maker = desk(plain_server.url, settings={"input_format": G711_ULAW, "output_format": G711_ULAW})
    maker.hold([maker.item("yes-correct")])
    (row,) = maker.rows.turns
    assert (row.outcome, row.output_rate_bytes_per_s) == ("ok", 8_000)


def test_an_item_whose_file_vanished_is_one_sentence(desk: Any, plain_server: Simulator) -> None:
    from rteval.errors import DatasetError

    maker = desk(plain_server.url)
    gone = replace(maker.item("yes-correct"), path=ROOT / "gone.wav", id="gone")
    with pytest.raises(DatasetError):
        maker.hold([gone])
    assert [row.outcome for row in maker.rows.turns] == ["cut"]
