"""What an asyncio loop can do as the guest of a gevent hub; run as a program, patched or not, it prints what it saw."""

from __future__ import annotations

import sys

if sys.argv[1] == "patched":
    from gevent import monkey

    monkey.patch_all()

import asyncio
import json
import time
from collections.abc import Callable

import gevent

from rteval.load.guest import GuestLoop
from rteval.station import loop_factory

seen: dict[str, object] = {}


async def after_a_pause(value: int) -> int:
    await asyncio.sleep(0.01)
    return value


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("what the coroutine raised")


async def waits_for_ever(told: list[str]) -> None:
    told.append("begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        told.append("cancelled")
        raise


async def in_threads() -> float:
    """How many times longer than one of them four sleeping threads took."""
    begun = time.perf_counter()
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(4)))
    return (time.perf_counter() - begun) / 0.1


async def looks_up() -> int:
    return len(await asyncio.get_running_loop().getaddrinfo("localhost", 80))


async def echoes() -> bytes:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"over a socket\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line


async def is_never_done(until: Callable[[], bool]) -> None:
    while not until():  # noqa: ASYNC110 - to be always ready is the point
        await asyncio.sleep(0)


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        gevent.sleep(0.002)


loop = GuestLoop(loop_factory() if sys.argv[2] == "uvloop" else asyncio.SelectorEventLoop)
loop.start()

answers = [gevent.spawn(lambda n: loop.submit(after_a_pause, n).wait(), n) for n in range(200)]
gevent.joinall(answers)
seen["answers"] = [answer.value for answer in answers] == list(range(200))

try:
    loop.submit(fails).wait()
except ValueError as error:
    seen["raised"] = str(error)

seen["threads"] = loop.submit(in_threads).wait()
seen["addresses"] = loop.submit(looks_up).wait()
seen["echo"] = (loop.submit(echoes).wait() or b"").decode()

# A hub that is never idle lets the loop work, and a loop that is never done lets the hub work.
spinning = True


def spin() -> None:
    while spinning:
        gevent.sleep(0)


spinner = gevent.spawn(spin)
seen["beside a busy hub"] = loop.submit(after_a_pause, 1).wait()
spinning = False
spinner.join()
turns: list[int] = []
busy = loop.submit(is_never_done, lambda: len(turns) >= 20)
for turn in range(20):
    gevent.sleep(0.001)
    turns.append(turn)
busy.wait()
seen["beside a busy loop"] = len(turns)

killed: list[str] = []
greenlet = gevent.spawn(lambda: loop.submit(waits_for_ever, killed).wait())
until(lambda: killed)
greenlet.kill()
until(lambda: len(killed) == 2)
seen["killed"] = killed

if sys.argv[2] == "uvloop":
    seen["asyncio for others"] = asyncio.run(after_a_pause(3))

left: list[str] = []
ticket = loop.submit(waits_for_ever, left)
until(lambda: left)
loop.stop()
loop.stop()
seen["stopped"] = [*left, ticket.wait()]

print(json.dumps(seen))
