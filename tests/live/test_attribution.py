"""What arrives belongs to the turn that it is for, and a turn begins when it says it did."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from rteval.client.auth import ApiKey
from rteval.simulator.process import Simulator

from .conftest import VAD
from .scripted import answer, done, get_ready, heard, say, serving, tell


@pytest.mark.parametrize("moment", ["before", "within"])
def test_what_comes_late_of_an_answer_is_not_of_the_next_one(moment: str, desk: Any) -> None:
    async def talk(connection: ServerConnection) -> None:
        await get_ready(connection)
        await heard(connection, "response.create")
        await answer(connection, "resp_1")
        await heard(connection, "response.create")
        if moment == "before":
            await say(connection, "resp_1")
        await tell(connection, "response.created", response={"id": "resp_2", "status": "in_progress"})
        await say(connection, "resp_2", ms=40)
        if moment == "within":
            await say(connection, "resp_1")
        await done(connection, "resp_2")
        await connection.wait_closed()

    async def hold() -> None:
        async with serving(talk) as url:
            maker = desk(url)
            await maker.session([maker.text("One?"), maker.text("Two?")]).run()
            second = maker.rows.turns[1]
            assert (second.outcome, second.response_id, second.split_turn) == ("ok", "resp_2", False)
            assert second.deltas.size_bytes == [40 * 48]
            assert second.first_audio_ns >= second.response_created_ns
            assert maker.rows.sessions[0].unsolicited_responses == 0

    asyncio.run(hold())


def test_a_spoken_turn_behind_a_typed_one_is_paced_from_its_own_start(desk: Any, simulator: Any) -> None:
    server = simulator(behaviour={"ttfa_ms": 300, "speed": 100})
    maker = desk(server.url, settings={"turn_detection": VAD})
    item = maker.item("yes-correct")
    maker.hold([item, maker.text(), item])
    _, typed, spoken = maker.rows.turns
    assert [row.outcome for row in maker.rows.turns] == ["ok"] * 3
    assert spoken.started_ns >= typed.response_done_ns


def test_an_open_microphone_starts_the_next_turn_when_it_is_due_and_not_before(
    desk: Any, plain_server: Simulator
) -> None:
    maker = desk(plain_server.url, settings={"turn_detection": VAD}, think_time_s=0.25)
    item = maker.item("yes-correct")
    maker.hold([item, item])
    first, second = maker.rows.turns
    assert second.due_ns == second.started_ns
    assert second.started_ns >= first.response_done_ns + 250_000_000


def test_a_conversation_stays_in_its_session_however_old_that_is(desk: Any, plain_server: Simulator) -> None:
    maker = desk(plain_server.url, max_session_s=0.001)
    items = [maker.text("One?", conversation_id="c"), maker.text("Two?", conversation_id="c")]
    assert maker.hold(items) == ()
    assert [row.outcome for row in maker.rows.turns] == ["ok", "ok"]


def test_a_key_that_the_target_hands_back_as_a_code_reaches_no_row(desk: Any) -> None:
    key = "very-secret-0123456789"

    async def talk(connection: ServerConnection) -> None:
        await get_ready(connection)
        await heard(connection, "response.create")
        failed = {"type": "failed", "error": {"type": "server_error", "code": f"bad_{key}", "message": key}}
        await tell(connection, "response.done", response={"id": "resp_1", "status": "failed", "status_details": failed})
        await connection.wait_closed()

    async def hold() -> None:
        async with serving(talk) as url:
            maker = desk(url, credential=ApiKey(key, variable="MY_KEY", header="api-key"))
            await maker.session([maker.text()]).run()
            (row,) = maker.rows.turns
            assert row.outcome == "failed"
            assert key not in repr(row)

    asyncio.run(hold())
