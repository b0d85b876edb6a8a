"""Runs whose sessions are asked for one by one, in a plain asyncio loop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rteval.errors import RunFolderError
from rteval.guest import GuestRun
from rteval.judge import judge
from rteval.prepare import RunOptions, prepare
from rteval.records import Outcome, SessionRecord, TurnRecord
from rteval.shards import read_shards
from rteval.station import Credentials

Guest = Callable[..., GuestRun]


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """Makes runs that stand beside one another."""
    made: list[GuestRun] = []

    def make(scenario: Path, **options: Any) -> GuestRun:
        folder = tmp_path / "reports" / "guest" / f"run-{len(made)}"
        prepared = prepare(scenario, RunOptions())
        made.append(GuestRun(prepared, Credentials(prepared, pytest.fail), folder, **options))
        return made[-1]

    return make


def hold(run: GuestRun, use: Callable[[], Awaitable[object]], *, within_s: float = 30.0) -> None:
    async def whole() -> None:
        await run.open()
        try:
            await use()
        finally:
            await run.close(within_s)

    asyncio.run(whole())


def test_every_session_asked_for_is_held_and_the_folder_is_one_that_report_reads(scenario, quick, guest):
    heard: list[TurnRecord | SessionRecord] = []
    run = guest(scenario({"provider": "simulator", "behaviour": quick}), heard=heard.append)

    async def use() -> None:
        assert await asyncio.gather(*(run.hold_next() for _ in range(12))) == [True] * 12

    hold(run, use)
    records = read_shards(run.folder)
    truth = [json.loads(line) for line in (run.folder / "truth.jsonl").read_text().splitlines()]
    assert Counter(turn.item for turn in records.turns) == Counter(line["item"] for line in truth)
    assert {turn.outcome for turn in records.turns} == {Outcome.OK}
    assert len(records.sessions) == len({session.session for session in records.sessions}) == 12
    assert records.health
    assert [record for record in heard if isinstance(record, TurnRecord)] == records.turns
    assert run.turns == len(records.turns)

    verdict = judge(run.folder)
    assert (verdict.exit_code, verdict.summary["state"]) == (0, "complete")
    assert verdict.summary["counts"]["turns"] == len(truth)
    assert verdict.summary["counts"]["planned"] is None
    assert (run.folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        pytest.param(0, ["late-parcel-1", "reset-password-1", "order-number-1", "late-parcel-2"], id="first process"),
        pytest.param(
            1, ["reset-password-1", "order-number-1", "late-parcel-1", "reset-password-2"], id="second process"
        ),
    ],
)
def test_a_process_goes_round_the_dataset_from_a_place_of_its_own(scenario, server, at, few, guest, place, said):
    some = {"path": str(few), "ids": ["late-parcel", "reset-password", "order-number"]}
    run = guest(scenario(at(server), dataset=some), place=place)

    async def use() -> None:
        for _ in said:
            await run.hold_next()

    hold(run, use)
    records = read_shards(run.folder)
    assert [f"{turn.item}-{turn.attempt}" for turn in records.turns] == said
    assert {turn.worker for turn in records.turns} == {f"w{place}"}


def test_turns_of_the_warm_up_are_marked(scenario, server, at, guest):
    run = guest(scenario(at(server), load={"pacing": "fast", "duration_s": 3600, "warmup_s": 3000}))
    hold(run, run.hold_next)
    assert [turn.warmup for turn in read_shards(run.folder).turns] == [True]


def test_at_the_end_turns_under_way_end_and_none_begins(scenario, slow_server, at, guest, patiently):
    ended: list[object] = []
    path = scenario(at(slow_server), conversation={"items_per_session": 4})
    run = guest(path, heard=ended.append)

    async def use() -> None:
        session = asyncio.create_task(run.hold_next())
        await patiently(lambda: ended)
        closed = asyncio.create_task(run.close(30))
        assert await session
        await closed
        assert not await run.hold_next()

    hold(run, use)
    turns = read_shards(run.folder).turns
    # Locust's clock ends the run: nobody had asked for the others yet.
    assert [(turn.turn, turn.outcome) for turn in turns] == [(0, Outcome.OK)]
    assert [turn.turn for turn in turns if turn.outcome is Outcome.CUT and turn.started_ns is not None] == []


def test_what_takes_too_long_to_end_is_cut_and_leaves_its_rows(scenario, silent, guest, patiently):
    url = f"ws://127.0.0.1:{silent.port}/openai/v1/realtime?model=m"
    run = guest(scenario({"provider": "custom", "url": url}))

    async def use() -> None:
        sessions = [asyncio.create_task(run.hold_next()) for _ in range(3)]
        # An open session is not enough: a turn that never began leaves no row where a clock ends the run.
        await patiently(lambda: len(silent.owed) == 3)
        await run.close(0.0)
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*sessions, return_exceptions=True)
        )

    hold(run, use)
    assert [turn.outcome for turn in read_shards(run.folder).turns] == [Outcome.CUT] * 3
    assert judge(run.folder).summary["counts"]["outcomes"]["cut"] == 3


def test_whoever_waits_no_longer_gives_up_the_place_and_the_session_goes_on(
    scenario, slow_server, at, guest, patiently
):
    run = guest(scenario(at(slow_server)))

    async def use() -> None:
        waiting = asyncio.create_task(run.hold_next())
        await patiently(lambda: run.sessions_open)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await patiently(lambda: not run.sessions_open)

    hold(run, use)
    (turn,) = read_shards(run.folder).turns
    assert turn.outcome is Outcome.OK


def test_a_target_that_lets_nobody_in_is_not_stormed_and_the_end_says_why(scenario, guest, patiently):
    run = guest(scenario({"provider": "custom", "url": "ws://127.0.0.1:1/openai/v1/realtime?model=m"}))

    async def use() -> None:
        asked = asyncio.create_task(run.hold_next())
        await patiently(lambda: run.turns)
        _, waiting = await asyncio.wait([asked], timeout=0.3)
        assert waiting, "the place was free at once"
        closed = asyncio.create_task(run.close(30))
        await asked
        await closed

    hold(run, use)
    assert run.refusal is not None
    assert "nothing listens" in run.refusal[0]
    verdict = judge(run.folder)
    assert (verdict.exit_code, verdict.summary["state"]) == (3, "refused")


def test_a_folder_that_cannot_be_made_is_told_before_any_session(scenario, server, at, guest, tmp_path):
    (tmp_path / "reports").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot make the run folder"):
        hold(guest(scenario(at(server))), lambda: asyncio.sleep(0))


def test_a_disk_that_is_full_is_told_once_and_what_was_written_stays(scenario, server, at, guest):
    resource = pytest.importorskip("resource")
    broken: list[RunFolderError] = []
    run = guest(scenario(at(server)), broken=broken.append)

    async def use() -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limits[1]))
        try:
            while not broken:
                await run.hold_next()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    hold(run, use)
    (error,) = broken
    assert "cannot write" in str(error)
    assert read_shards(run.folder).turns
    assert json.loads((run.folder / "run.json").read_text())["end"]["reason"] == "error"
