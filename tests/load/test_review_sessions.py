"""A session that was granted and cut before its time was never held: its turns are not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from rteval.corpus import Item
from rteval.load.dealing import Dealer
from rteval.load.inline import AsyncioEngine
from rteval.load.schedule import Closed, StartSpacing
from rteval.plan import PlannedTurn, SessionPlan


def plans(count: int) -> Iterator[SessionPlan]:
    for index in range(count):
        yield SessionPlan(index, (PlannedTurn(Item(id=f"i{index}", text="?"), 1),))


def test_what_waits_for_its_time_when_all_is_cut_is_given_back() -> None:
    held: list[str] = []
    dealt = Dealer(plans(3), Closed(3, 3.0), spacing=StartSpacing(None))

    async def main() -> None:
        one_runs = asyncio.Event()

        async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
            held.append(name)
            one_runs.set()
            await asyncio.sleep(60)
            return ()

        engine = AsyncioEngine(dealt, hold)
        running = asyncio.create_task(engine.run())
        await one_runs.wait()
        assert dealt.active == 2
        engine.cut()
        await running

    asyncio.run(main())
    assert held == ["s00000"]
    assert [left.name for left in dealt.left(0)] == ["s00001", "s00002"]


def test_what_was_granted_in_the_same_step_in_which_all_is_cut_is_given_back() -> None:
    held: list[str] = []
    dealt = Dealer(plans(3), Closed(3, 0.0), spacing=StartSpacing(None))

    async def main() -> None:
        async def hold(name: str, turns: Sequence[PlannedTurn], due_ns: int) -> Sequence[PlannedTurn]:
            held.append(name)
            return ()

        engine = AsyncioEngine(dealt, hold)
        running = asyncio.create_task(engine.run())
        await asyncio.sleep(0)
        assert dealt.active == 3
        engine.cut()
        await running

    asyncio.run(main())
    assert sorted([*held, *(left.name for left in dealt.left(0))]) == ["s00000", "s00001", "s00002"]
