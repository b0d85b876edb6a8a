"""Every way in which a target fails becomes a row with its outcome, stage and code, and never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from rteval.client.session import TimeoutsS
from rteval.corpus import Dataset
from rteval.records import SessionRecord, TurnRecord
from rteval.simulator.process import Simulator

from .conftest import ROOT, Desk

# name: (faults of the server in that session, what the session's turns show, what the session shows)
# Unless said otherwise a session holds two text turns, and the faults strike the first.
OK = {"outcome": "ok"}
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]] = {
    "handshake-401": (
        [{"kind": "refuse_handshake", "status": 401}],
        [{"outcome": "refused", "failure_stage": "connect", "error_code": "http_401"}] * 2,
        {"outcome": "refused", "http_status": 401},
    ),
    "handshake-404": (
        [{"kind": "refuse_handshake", "status": 404}],
        [{"outcome": "refused", "failure_stage": "connect", "error_code": "http_404"}] * 2,
        {"outcome": "refused", "http_status": 404},
    ),
    "handshake-429": (
        [{"kind": "refuse_handshake", "status": 429}],
        [{"outcome": "refused", "failure_stage": "connect", "error_code": "http_429"}] * 2,
        {"outcome": "refused", "http_status": 429},
    ),
    "handshake-503": (
        [{"kind": "refuse_handshake", "status": 503}],
        [{"outcome": "refused", "failure_stage": "connect", "error_code": "http_503"}] * 2,
        {"outcome": "refused", "http_status": 503},
    ),
    "redirect-not-followed": (
        [{"kind": "refuse_handshake", "status": 302}],
        [{"outcome": "refused", "failure_stage": "connect", "error_code": "http_302"}] * 2,
        {"outcome": "refused", "http_status": 302},
    ),
    "refused-after-101": (
        [{"kind": "refuse_after_upgrade"}],
        [{"outcome": "refused", "failure_stage": "session", "error_code": "invalid_api_key"}] * 2,
        {"outcome": "refused", "drop": False},
    ),
    "no-session-created": (
        [{"kind": "session_created_missing"}],
        [{"outcome": "timeout", "failure_stage": "session", "error_code": "session_timeout"}] * 2,
        {"outcome": "timeout"},
    ),
    "no-session-updated": (
        [{"kind": "session_updated_missing"}],
        [{"outcome": "timeout", "failure_stage": "session", "error_code": "session_timeout"}] * 2,
        {"outcome": "timeout"},
    ),
    "update-refused": (
        [{"kind": "session_update_refused", "code": "unknown_parameter"}],
        [{"outcome": "refused", "failure_stage": "session", "error_code": "unknown_parameter"}] * 2,
        {"outcome": "refused"},
    ),
    "update-late": ([{"kind": "session_updated_late", "delay_ms": 200}], [OK, OK], {"outcome": "ready"}),
    "created-twice": ([{"kind": "session_created_twice"}], [OK, OK], {"outcome": "ready"}),
    "updated-twice": ([{"kind": "session_updated_twice"}], [OK, OK], {"outcome": "ready"}),
    "drop-before-answer": (
        [{"kind": "drop_before_answer", "turns": [1]}],
        [{"outcome": "dropped", "failure_stage": "respond", "error_code": "close_1006"}],
        {"outcome": "ready", "drop": True, "close_code": 1006},
    ),
    "drop-mid-answer": (
        [{"kind": "drop_mid_answer", "turns": [2], "after_deltas": 2}],
        [OK, {"outcome": "dropped", "failure_stage": "respond", "error_code": "close_1006"}],
        {"outcome": "ready", "drop": True, "close_code": 1006},
    ),
    "close-1011": (
        [{"kind": "close_mid_answer", "turns": [2], "close_code": 1011}],
        [OK, {"outcome": "dropped", "error_code": "close_1011"}],
        {"drop": True, "close_code": 1011},
    ),
    "close-1000-is-a-drop-too": (
        [{"kind": "close_before_answer", "turns": [2], "close_code": 1000}],
        [OK, {"outcome": "dropped", "error_code": "close_1000"}],
        {"drop": True, "close_code": 1000},
    ),
    "no-answer": (
        [{"kind": "no_answer", "turns": [2]}],
        [OK, {"outcome": "timeout", "failure_stage": "respond", "error_code": "no_response"}],
        {"outcome": "ready", "drop": False},
    ),
    "stalled-answer": (
        [{"kind": "stall_mid_answer", "turns": [2]}],
        [OK, {"outcome": "timeout", "failure_stage": "respond", "error_code": "response_stalled"}],
        {"outcome": "ready", "drop": False},
    ),
    "failed": (
        [{"kind": "failed_response", "turns": [1]}],
        [{"outcome": "failed", "failure_stage": "respond", "error_code": "server_error"}, OK],
        {"drop": False},
    ),
    "failed-without-created": (
        [{"kind": "failed_without_created", "turns": [1]}],
        [{"outcome": "failed", "error_code": "server_error", "response_created_ns": None}, OK],
        {},
    ),
    "empty": (
        [{"kind": "empty_response", "turns": [1]}],
        [{"outcome": "empty", "error_code": "empty_response"}, OK],
        {},
    ),
    "incomplete": (
        [{"kind": "incomplete_response", "turns": [1], "reason": "content_filter"}],
        [{"outcome": "incomplete", "error_code": "content_filter"}, OK],
        {},
    ),
    "cancelled-by-nobody": (
        [{"kind": "cancelled_response", "turns": [1]}],
        [{"outcome": "failed", "error_code": "turn_detected"}, OK],
        {},
    ),
    "text-only": (
        [{"kind": "text_only", "turns": [1]}],
        [{"outcome": "ok", "modality_missing": True, "first_audio_ns": None}, OK],
        {},
    ),
    "silent-audio": (
        [{"kind": "silent_audio", "turns": [1]}],
        [{"outcome": "ok", "silent_answer": True, "leading_silence_ms": None}, OK],
        {},
    ),
    "empty-first-delta": ([{"kind": "empty_first_delta", "turns": [1]}], [OK, OK], {}),
    "odd-deltas": ([{"kind": "odd_deltas", "turns": [1]}], [OK, OK], {}),
    "one-byte-deltas": ([{"kind": "one_byte_deltas", "turns": [1]}], [OK, OK], {}),
    "deltas-after-done": ([{"kind": "deltas_after_done", "turns": [1]}], [OK, OK], {}),
    "malformed-json": ([{"kind": "malformed_json", "turns": [1]}], [{"outcome": "ok", "unknown_events": 1}, OK], {}),
    "binary-frame": ([{"kind": "binary_frame", "turns": [1]}], [{"outcome": "ok", "unknown_events": 1}, OK], {}),
    "unknown-event": ([{"kind": "unknown_event", "turns": [1]}], [{"outcome": "ok", "unknown_events": 1}, OK], {}),
    "not-an-object": ([{"kind": "not_an_object", "turns": [1]}], [{"outcome": "ok", "unknown_events": 1}, OK], {}),
    "error-event": ([{"kind": "error_event", "turns": [1]}], [OK, OK], {}),
    "error-event-without-id": ([{"kind": "error_event_without_id", "turns": [1]}], [OK, OK], {}),
    "create-refused": (
        [{"kind": "create_refused", "turns": [2]}],
        [OK, {"outcome": "failed", "error_code": "conversation_already_has_active_response"}],
        {},
    ),
    "content-for-part": ([{"kind": "content_for_part", "turns": [1]}], [OK, OK], {}),
    "rate-limited": (
        [{"kind": "rate_limited", "turns": [1]}],
        [{"outcome": "failed", "error_code": "rate_limit_exceeded"}, OK],
        {},
    ),
    # The handshake that is never answered comes last: the server numbers sessions as they connect.
    "silent-handshake": (
        [{"kind": "silent_handshake"}],
        [{"outcome": "timeout", "failure_stage": "connect", "error_code": "connect_timeout"}] * 2,
        {"outcome": "timeout"},
    ),
}
AUDIO_CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "commit-refused": (
        [{"kind": "commit_refused", "turns": [1]}],
        {"outcome": "failed", "failure_stage": "speak", "error_code": "input_audio_buffer_commit_empty"},
    ),
    "transcription-failed": (
        [{"kind": "transcription_failed", "turns": [1]}],
        {"outcome": "ok", "transcript_outcome": "failed", "input_transcript": None},
    ),
    "transcription-missing": (
        [{"kind": "transcription_missing", "turns": [1]}],
        {"outcome": "ok", "transcript_outcome": "missing", "input_transcript_ns": None},
    ),
    "transcription-late": (
        [{"kind": "transcription_late", "turns": [1], "delay_ms": 300}],
        {"outcome": "ok", "transcript_outcome": "ok"},
    ),
    "transcription-before-item": (
        [{"kind": "transcription_before_item", "turns": [1]}],
        {"outcome": "ok", "transcript_outcome": "ok"},
    ),
    "committed-after-item": (
        [{"kind": "committed_after_item", "turns": [1]}],
        {"outcome": "ok", "transcript_outcome": "ok"},
    ),
}

Held = dict[str, tuple[SessionRecord, list[TurnRecord], int]]


async def _hold_in_order(desk: Desk, items: dict[str, list[Any]], patiently: Callable[..., Awaitable[None]]) -> Held:
    """All sessions at once, but connecting one after the other: the server numbers them so."""
    tasks = {}
    for name, wanted in items.items():
        session = desk.session(wanted, name)
        task = asyncio.create_task(session.run())
        tasks[name] = task
        await patiently(
            lambda s=session, t=task: s.record.connected_ns is not None or s._transport is not None or t.done()
        )
    left = {name: len(await task) for name, task in tasks.items()}
    sessions = {record.session: record for record in desk.rows.sessions}
    return {
        name: (sessions[name], [row for row in desk.rows.turns if row.session == name], left[name]) for name in items
    }


@pytest.fixture(scope="module")
def quick() -> TimeoutsS:
    return TimeoutsS(connect=1.5, session=1.5, response=1.5, transcription=1.0, close=1.0)


@pytest.fixture(scope="module")
def faulty_server() -> Iterator[Simulator]:
    faults = [
        {**fault, "sessions": [number]}
        for number, faults in enumerate([case[0] for case in CASES.values()], start=1)
        for fault in faults
    ]
    with Simulator(behaviour={"ttfa_ms": 20, "speed": 100, "faults": faults}) as server:
        yield server


_held: Held = {}


@pytest.fixture
def text_sessions(faulty_server: Simulator, desk: Any, quick: TimeoutsS, patiently: Any) -> Held:
    """Held once for all cases; the cases only look at their session."""
    if not _held:
        maker = desk(faulty_server.url, timeouts=quick)
        items = {name: [maker.text("One?"), maker.text("Two?")] for name in CASES}
        _held.update(asyncio.run(_hold_in_order(maker, items, patiently)))
    return _held


@pytest.mark.parametrize("name", CASES)
def test_a_fault_becomes_rows(name: str, text_sessions: Held) -> None:
    _, turns, shown = CASES[name]
    record, rows, left = text_sessions[name]
    assert [{key: getattr(row, key) for key in want} for row, want in zip(rows, turns, strict=True)] == turns
    assert {key: getattr(record, key) for key in shown} == shown
    assert len(rows) + left == 2
    assert [row.turn for row in rows] == list(range(len(rows)))


_audio_held: Held = {}


@pytest.fixture
def audio_sessions(desk: Any, simulator: Any, quick: TimeoutsS, patiently: Any, support: Dataset) -> Held:
    if not _audio_held:
        faults = [
            {**fault, "sessions": [number]}
            for number, (faults, _) in enumerate(AUDIO_CASES.values(), start=1)
            for fault in faults
        ]
        server = simulator(
            datasets=[ROOT / "datasets" / "support"], behaviour={"ttfa_ms": 20, "speed": 100, "faults": faults}
        )
        maker = desk(server.url, timeouts=quick, settings={"transcription": {"model": "whisper-1"}})
        items = {name: [support.items[0]] for name in AUDIO_CASES}
        _audio_held.update(asyncio.run(_hold_in_order(maker, items, patiently)))
    return _audio_held


@pytest.mark.parametrize("name", AUDIO_CASES)
def test_a_fault_of_audio_becomes_rows(name: str, audio_sessions: Held) -> None:
    _, want = AUDIO_CASES[name]
    _, (row,), _ = audio_sessions[name]
    assert {key: getattr(row, key) for key in want} == want


def test_a_session_that_expires_says_so_in_the_row(desk: Any, simulator: Any) -> None:
    server = simulator(behaviour={"ttfa_ms": 60_000, "session_max_s": 0.3})
    maker = desk(server.url)
    maker.hold([maker.text()])
    assert (maker.rows.turns[0].outcome, maker.rows.turns[0].error_code) == ("dropped", "session_expired")
    assert maker.rows.sessions[0].close_code == 1001


def test_nothing_listening_is_a_refused_row(desk: Any, quick: TimeoutsS) -> None:
    maker = desk("ws://127.0.0.1:1", timeouts=quick)
    maker.hold([maker.text()])
    (row,) = maker.rows.turns
    assert (row.outcome, row.failure_stage, row.error_code) == ("refused", "connect", "connection_refused")
    assert maker.caller.board.first_refusal[0] == "nothing listens at 127.0.0.1:1"


def test_an_unknown_host_is_a_refused_row(desk: Any, quick: TimeoutsS) -> None:
    maker = desk("ws://host.invalid:1", timeouts=quick)
    maker.hold([maker.text()])
    assert maker.rows.turns[0].error_code in ("dns", "connect_timeout")


def test_a_server_that_speaks_no_websocket_is_a_refused_row(desk: Any, quick: TimeoutsS) -> None:
    async def hold() -> None:
        server = await asyncio.start_server(_not_a_websocket, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            maker = desk(f"ws://127.0.0.1:{port}", timeouts=quick)
            await maker.session([maker.text()]).run()
            assert maker.rows.turns[0].error_code in ("handshake_closed", "bad_handshake")

    asyncio.run(hold())


async def _not_a_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-nothing here\r\n")
    writer.close()


def test_a_certificate_that_nobody_vouches_for_is_a_refused_row(desk: Any, simulator: Any, quick: TimeoutsS) -> None:
    server = simulator(tls=True)
    maker = desk(server.url, timeouts=quick)
    maker.hold([maker.text()])
    assert maker.rows.turns[0].error_code == "tls"
    trusting = desk(server.url, timeouts=quick, ca_file=str(server.ca_file))
    trusting.hold([trusting.text()])
    assert trusting.rows.turns[0].outcome == "ok"
