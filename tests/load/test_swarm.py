"""Locust in one process: its users are slots, as many as are wanted, and nothing of it shows where it should not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rteval.load.charts import Event
from rteval.load.swarm import LocalSwarm, Slots

Run = Callable[..., Any]


@asynccontextmanager
async def local(slots: Slots) -> AsyncIterator[LocalSwarm]:
    swarm = LocalSwarm(slots)
    await swarm.start()
    try:
        yield swarm
    finally:
        await swarm.quit()


def test_there_are_as_many_slots_as_are_wanted(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        rows = hall.rows()
        async with local(rows) as swarm:
            for wanted in (3, 250, 40, 41, 0, 7):
                swarm.want(wanted)
                await hall.until(lambda wanted=wanted: rows.open == wanted)
        await hall.until(lambda: rows.open == 0)
        assert (rows.peak, rows.ended) == (250, 0)

    in_hall(body)


def test_the_newest_wish_holds(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        rows = hall.rows()
        async with local(rows) as swarm:
            for wanted in (500, 20, 300, 10, 60):
                swarm.want(wanted)
            await hall.until(lambda: rows.open == 60)
            swarm.want(61)
            await hall.until(lambda: rows.open == 61)

    in_hall(body)


def test_of_a_thousand_users_none_is_lost(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        rows = hall.rows()
        async with local(rows) as swarm:
            swarm.want(1000)
            await hall.until(lambda: rows.open == 1000)
            rows.close.set()
            await hall.until(lambda: rows.open == 0)
        assert (rows.begun, rows.ended, rows.cancelled) == (1000, 1000, 0)

    in_hall(body)


def test_slots_that_have_ended_are_made_up_for_only_when_users_are_wanted_again(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        rows = hall.rows()
        rows.close.set()
        async with local(rows) as swarm:
            swarm.want(20)
            await hall.until(lambda: rows.ended == 20)
            swarm.want(1)
            await hall.until(lambda: rows.ended == 21)
            assert rows.begun == 21
            rows.close.clear()
            swarm.want(20)
            await hall.until(lambda: rows.open == 20)

    in_hall(body)


def test_a_slot_that_fails_is_told_and_does_not_begin_again(in_hall: Run) -> None:
    begun: list[int] = []

    class Failing:
        async def hold_slot(self) -> None:
            begun.append(1)
            raise ValueError("a bug")

    async def body(hall: Any) -> None:
        async with local(Failing()) as swarm:
            swarm.want(3)
            await hall.until(lambda: len(hall.told) == 3)
            swarm.want(1)
            await hall.until(lambda: len(hall.told) == 4)

    assert in_hall(body, tells=True).told == ["ValueError('a bug')"] * 4
    assert len(begun) == 4


def test_what_a_slot_still_holds_goes_on_when_its_user_is_stopped(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        finish, said = asyncio.Event(), []

        class Holding:
            async def hold_slot(self) -> None:
                try:
                    said.append("holds")
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    said.append("is asked to end")
                    await finish.wait()
                    said.append("ends in order")

        async with local(Holding()) as swarm:
            swarm.want(5)
            await hall.until(lambda: said == ["holds"] * 5)
            swarm.want(0)
            await hall.until(lambda: said[5:] == ["is asked to end"] * 5)
        finish.set()
        await hall.until(lambda: said[10:] == ["ends in order"] * 5)

    in_hall(body)


def test_the_loop_is_not_held_up_while_many_users_are_made(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        rows, gaps = hall.rows(), []

        async def probe() -> None:
            last_s = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                gaps.append((now_s := time.perf_counter()) - last_s)
                last_s = now_s

        async with local(rows) as swarm:
            probing = asyncio.create_task(probe())
            swarm.want(1000)
            await hall.until(lambda: rows.open == 1000)
            probing.cancel()
        # Made in one go they would stall both loops once; in bursts the loop comes round many times meanwhile.
        assert len(gaps) > 10

    in_hall(body)


def test_a_swarm_that_was_quit_takes_orders_without_a_word(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        swarm = LocalSwarm(hall.rows())
        await swarm.quit()
        await swarm.start()
        await swarm.quit()
        await swarm.quit()
        swarm.want(3)
        swarm.fire([Event("rteval/ttfa_ms", 1.0)])

    in_hall(body)


ALONE = """
import asyncio, json, logging, os, signal, socket, sys, urllib.request
from rteval.load.swarm import LocalSwarm, UiOptions

variables = dict(os.environ)
resized = signal.getsignal(signal.SIGWINCH)

class Everything:
    def ui_start(self, users, rate): pass
    def ui_stop(self): pass
    async def hold_slot(self): await asyncio.Event().wait()

async def main():
    swarm = LocalSwarm(Everything(), ui=UiOptions(events=Everything(), port=0))
    await swarm.start()
    swarm.want(200)
    host, port = swarm.ui_address
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{host}:{port}/", timeout=20).read().decode())
    swarm.show_stopped()
    await swarm.quit()
    return page

page = asyncio.run(main())
from gevent import monkey
names = [None, *logging.root.manager.loggerDict]
print(json.dumps({
    "patched": [name for name in ("socket", "threading", "select", "time") if monkey.is_module_patched(name)],
    "environment": dict(os.environ) == variables,
    "handlers": [str(name) for name in names if [h for h in logging.getLogger(name).handlers if "Null" not in repr(h)]],
    "resized": signal.getsignal(signal.SIGWINCH) is resized,
    "users": '"num_users": 77' in page,
    "page": "templateArgs" in page,
}))
"""


def test_locust_reads_and_changes_nothing_of_the_process_around_it(tmp_path: Path) -> None:
    (tmp_path / "locust.conf").write_text("users = 77\nno-such-option = 1\n")
    (tmp_path / ".locust.conf").write_text("users = 77\nno-such-option = 1\n")
    variables = {
        "LOCUST_USERS": "77",
        "LOCUST_PLAYWRIGHT": "1",
        "LOCUST_LOGLEVEL": "DEBUG",
        "LOCUST_MODE_MASTER": "yes",
        "LOCUST_NO_SUCH_OPTION": "x",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "run", "--users", "77", "--no-such-option", "--web"],
        env=os.environ | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "patched": [],
        "environment": True,
        "handlers": [],
        "resized": True,
        "users": False,
        "page": True,
    }
