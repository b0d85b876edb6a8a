"""Master and workers: who has the token joins, nothing is lost or mixed up, and nobody's going ends the run."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
import zmq

from rteval.errors import UsageError
from rteval.load.messages import MOST_BYTES
from rteval.load.swarm import MasterSwarm, WorkerSwarm

Run = Callable[..., Any]
TOKEN = "correct horse battery staple"
OTHER = "incorrect donkey battery staple"
LOOPBACK = "127.0.0.1"


@dataclass
class Worker:
    """A worker in this process, and what it holds and hears."""

    swarm: WorkerSwarm
    rows: Any
    ear: Any


@dataclass
class Crowd:
    """A master in this process, what it hears, and the way to make workers for it."""

    hall: Any
    master: MasterSwarm
    ear: Any
    stack: AsyncExitStack
    token: str | None

    @property
    def port(self) -> int:
        return self.master.address[1]

    async def worker(self, token: str | None = "the master's") -> Worker:
        made = Worker(*worker_of(self.hall, self.port, self.token if token == "the master's" else token))
        await made.swarm.start()
        self.stack.push_async_callback(made.swarm.quit)
        return made


def worker_of(hall: Any, port: int, token: str | None, max_wait_s: float = 10.0) -> tuple[WorkerSwarm, Any, Any]:
    rows, ear = hall.rows(), hall.ear()
    return WorkerSwarm(rows, ear, host=LOOPBACK, port=port, token=token, max_wait_s=max_wait_s), rows, ear


@asynccontextmanager
async def crowd(hall: Any, token: str | None = TOKEN) -> AsyncIterator[Crowd]:
    ear = hall.ear()
    master = MasterSwarm(ear, host=LOOPBACK, port=0, token=token)
    await master.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(master.quit)
        yield Crowd(hall, master, ear, stack, token)


# -- joining


@pytest.mark.parametrize("token", [pytest.param(TOKEN, id="with a token"), pytest.param(None, id="loopback, none")])
def test_workers_join_and_are_told_apart(in_hall: Run, token: str | None) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall, token) as c:
            await c.worker()
            await c.worker()
            await hall.until(lambda: len(c.ear.of("joined")) == 2)
            names = [name for (name,) in c.ear.of("joined")]
            assert len(set(names)) == 2
            assert all(len(name) < 50 for name in names)

    in_hall(body)


@pytest.mark.parametrize(
    ("master", "worker", "sentence"),
    [
        pytest.param(TOKEN, OTHER, "did not accept this worker's join token", id="another token"),
        pytest.param(TOKEN, None, "asks for a join token", id="no token"),
        pytest.param(
            None, TOKEN, "did not accept this worker's join token", id="a token that the master does not have"
        ),
    ],
)
def test_a_worker_without_the_masters_token_is_refused_and_leaves_no_trace(
    in_hall: Run, master: str | None, worker: str | None, sentence: str
) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall, master) as c:
            with pytest.raises(UsageError, match=sentence) as refusal:
                await c.worker(worker)
            assert refusal.value.exit_code == 2
            assert "RTEVAL_JOIN_TOKEN" in (refusal.value.hint or "")
            c.master.want(4)
            good = await c.worker()
            await hall.until(lambda: good.rows.open == 4)
            assert len(c.ear.heard) == 1

    in_hall(body)


def test_whoever_has_no_token_gets_nothing_but_a_greeting_of_zeromq(in_hall: Run) -> None:
    def listen(port: int) -> bytes:
        """All that the master says to somebody who talks like a worker without a token."""
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)
        ready = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
        message = msgpack.dumps(("client_ready", "2.47.0", "w"))
        with socket.create_connection((LOOPBACK, port), timeout=10) as stranger:
            stranger.sendall(greeting[:11])
            heard = b""
            while len(heard) < 64:
                heard += stranger.recv(4096)
            stranger.sendall(greeting[11:] + ready + b"\x00" + bytes([len(message)]) + message)
            try:
                while piece := stranger.recv(4096):
                    heard += piece
            except ConnectionError:
                pass
        return heard

    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            heard = await asyncio.to_thread(listen, c.port)
            assert heard[:10] == b"\xff" + bytes(7) + b"\x01\x7f"
            assert heard[12:17] == b"CURVE"
            assert len(heard) == 64
            assert c.ear.heard == []

    in_hall(body)


def test_a_master_that_nobody_runs_is_waited_for_and_then_named(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            port = free.getsockname()[1]
        worker, _, _ = worker_of(hall, port, TOKEN, max_wait_s=0.4)
        with pytest.raises(UsageError, match=rf"no master was reached at 127\.0\.0\.1:{port} within 0\.4 s"):
            await worker.start()

    in_hall(body)


def test_something_that_is_no_master_is_told_from_nobody(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with socket.create_server((LOOPBACK, 0)) as silent:
            worker, _, _ = worker_of(hall, silent.getsockname()[1], TOKEN, max_wait_s=0.4)
            with pytest.raises(UsageError, match="did not answer as a master of rteval"):
                await worker.start()

    in_hall(body)


def test_a_worker_may_come_before_its_master(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with socket.create_server((LOOPBACK, 0)) as other:
            port = other.getsockname()[1]
            worker, _, _ = worker_of(hall, port, TOKEN, max_wait_s=20)
            joining = asyncio.create_task(worker.start())
            connection, _ = await asyncio.to_thread(other.accept)
            connection.close()
        ear = hall.ear()
        master = MasterSwarm(ear, host=LOOPBACK, port=port, token=TOKEN)
        await master.start()
        await joining
        await hall.until(lambda: ear.of("joined"))
        await worker.quit()
        await master.quit()

    in_hall(body)


def test_waiting_for_a_master_can_be_given_up(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with socket.create_server((LOOPBACK, 0)) as silent:
            worker, _, _ = worker_of(hall, silent.getsockname()[1], TOKEN, max_wait_s=20)
            joining = asyncio.create_task(worker.start())
            connection, _ = await asyncio.to_thread(silent.accept)
            joining.cancel()
            with connection, pytest.raises(asyncio.CancelledError):
                await joining

    in_hall(body)


@pytest.mark.parametrize(
    "host", [pytest.param("*", id="every address"), pytest.param("0.0.0.0", id="any IPv4 address")]
)
def test_a_master_that_others_can_reach_needs_a_token(in_hall: Run, host: str) -> None:
    async def body(hall: Any) -> None:
        with pytest.raises(UsageError, match="needs a join token"):
            await MasterSwarm(hall.ear(), host=host, port=0, token=None).start()

    in_hall(body)


def test_a_worker_of_another_machines_master_needs_a_token(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        worker = WorkerSwarm(hall.rows(), hall.ear(), host="192.0.2.1", port=5557, token=None, max_wait_s=5)
        with pytest.raises(UsageError, match=r"joining a master at 192\.0\.2\.1 needs a join token"):
            await worker.start()

    in_hall(body)


def test_a_token_that_could_be_guessed_is_refused_and_not_repeated(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with pytest.raises(UsageError, match="fewer than 16 characters") as refusal:
            await MasterSwarm(hall.ear(), host=LOOPBACK, port=0, token="hunter2").start()
        assert "hunter2" not in f"{refusal.value} {refusal.value.hint}"

    in_hall(body)


def test_a_host_that_has_no_address_is_named(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with pytest.raises(UsageError, match=r"the address of no-such-host\.invalid cannot be found"):
            await MasterSwarm(hall.ear(), host="no-such-host.invalid", port=0, token=TOKEN).start()

    in_hall(body)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("listens", "connects"),
    [
        pytest.param("localhost", "localhost", id="by name"),
        pytest.param("*", LOOPBACK, id="on every address"),
        pytest.param("::1", "::1", id="IPv6", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
    ],
)
def test_addresses_are_found(in_hall: Run, listens: str, connects: str) -> None:
    async def body(hall: Any) -> None:
        ear = hall.ear()
        master = MasterSwarm(ear, host=listens, port=0, token=TOKEN)
        await master.start()
        assert master.address[0] == listens
        worker = WorkerSwarm(hall.rows(), hall.ear(), host=connects, port=master.address[1], token=TOKEN, max_wait_s=10)
        await worker.start()
        await hall.until(lambda: ear.of("joined"))
        await worker.quit()
        await master.quit()

    in_hall(body)


def test_the_token_is_never_said(
    in_hall: Run, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            worker = await c.worker()
            caplog.set_level(logging.DEBUG, logger="locust")
            c.master.want(3)
            await hall.until(lambda: worker.rows.open == 3)
            with pytest.raises(UsageError) as refusal:
                await c.worker(OTHER)
            said = f"{refusal.value!r} {refusal.value.hint} {c.master!r} {worker.swarm!r} {c.ear.heard}"
            assert TOKEN not in said
            assert OTHER not in said

    in_hall(body)
    out, err = capfd.readouterr()
    everything = caplog.text + out + err
    assert "spawned" in everything
    assert TOKEN not in everything
    assert OTHER not in everything


def test_a_port_that_is_taken_is_an_error_of_the_command_line(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            with pytest.raises(UsageError, match="cannot listen for workers on 127") as refusal:
                await MasterSwarm(hall.ear(), host=LOOPBACK, port=c.port, token=TOKEN).start()
            assert refusal.value.exit_code == 2

    in_hall(body)


# -- users


def test_users_are_spread_evenly_and_follow_who_comes_and_goes(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            c.master.want(100)
            first = await c.worker()
            await hall.until(lambda: first.rows.open == 100)
            second, third = await c.worker(), await c.worker()
            workers = [first, second, third]
            await hall.until(lambda: sorted(w.rows.open for w in workers) == [33, 33, 34])
            c.master.want(7)
            await hall.until(lambda: sorted(w.rows.open for w in workers) == [2, 2, 3])
            await second.swarm.quit()
            await hall.until(lambda: sorted(w.rows.open for w in workers) == [0, 3, 4])

    in_hall(body)


def test_users_go_only_to_whom_they_are_meant_for(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            first, second = await c.worker(), await c.worker()
            await hall.until(lambda: len(c.ear.of("joined")) == 2)
            (one,), (other,) = c.ear.of("joined")
            c.master.want(6, {one})
            await hall.until(lambda: first.rows.open == 6)
            third = await c.worker()
            c.master.want(6, {one, other})
            await hall.until(lambda: [first.rows.open, second.rows.open] == [3, 3])
            assert third.rows.begun == 0

    in_hall(body)


def test_a_thousand_users_of_two_workers_are_there_at_once_and_none_is_lost(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            workers = [await c.worker(), await c.worker()]
            c.master.want(1000)
            await hall.until(lambda: [w.rows.open for w in workers] == [500, 500])
            for worker in workers:
                worker.rows.close.set()
            await hall.until(lambda: [w.rows.ended for w in workers] == [500, 500])
            assert [w.rows.begun for w in workers] == [500, 500]

    in_hall(body)


def test_that_the_last_worker_leaves_ends_nothing(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            c.master.want(10)
            await (await c.worker()).swarm.quit()
            await hall.until(lambda: c.ear.of("gone"))
            another = await c.worker()
            await hall.until(lambda: another.rows.open == 10)
            assert [name for name, *_ in c.ear.heard] == ["joined", "gone", "joined"]

    in_hall(body)


# -- messages


def test_messages_arrive_whole_and_in_order_both_ways(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            worker = await c.worker()
            await hall.until(lambda: c.ear.of("joined"))
            ((name,),) = c.ear.of("joined")
            sent = [(f"kind-{number}", os.urandom(number)) for number in range(2000)]
            for kind, data in sent:
                worker.swarm.send(kind, data)
                c.master.send(name, kind, data)
            await hall.until(lambda: len(worker.ear.heard) == len(sent) and len(c.ear.heard) == 1 + len(sent))
            assert worker.ear.of("message") == [list(one) for one in sent]
            assert c.ear.of("message") == [[name, *one] for one in sent]

    in_hall(body)


def test_the_longest_message_passes_and_a_longer_one_ends_the_connection(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            worker = await c.worker()
            worker.swarm.send("long", bytes(MOST_BYTES))
            await hall.until(lambda: c.ear.of("message"))
            assert len(c.ear.of("message")[0][2]) == MOST_BYTES
            worker.swarm.send("longer", bytes(MOST_BYTES + 100_000))
            await hall.until(lambda: worker.ear.of("lost") and c.ear.of("gone"))

    in_hall(body)


def test_whoever_is_spoken_to_while_it_still_starts_can_answer(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        answers: list[bytes] = []

        class Greeting:
            def joined(self, worker: str) -> None:
                master.send(worker, "welcome", b"?")

            def message(self, worker: str, kind: str, data: bytes) -> None:
                answers.append(data)

            def gone(self, worker: str, why: str) -> None:
                pass

        class Answering:
            def message(self, kind: str, data: bytes) -> None:
                worker.send("thanks", b"!")

            def master_lost(self) -> None:
                pass

        master = MasterSwarm(Greeting(), host=LOOPBACK, port=0, token=None)
        await master.start()
        for number in range(1, 11):
            worker = WorkerSwarm(
                hall.rows(), Answering(), host=LOOPBACK, port=master.address[1], token=None, max_wait_s=10
            )
            await worker.start()
            await hall.until(lambda number=number: len(answers) == number)
            await worker.quit()
        await master.quit()

    in_hall(body)


def test_a_message_to_nobody_is_dropped(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            c.master.send("nobody", "kind", b"data")
            await c.worker()
            await hall.until(lambda: c.ear.of("joined"))

    in_hall(body)


JUNK = [
    pytest.param([b""], id="nothing"),
    pytest.param([b"\xc1"], id="no msgpack"),
    pytest.param([b"a", b"b", b"c"], id="too many frames"),
    pytest.param([msgpack.dumps(["stats"])], id="too short"),
    pytest.param([msgpack.dumps(["stats", {}, "somebody else"])], id="another's name"),
    pytest.param([msgpack.dumps([["heartbeat"], {}, "stranger"])], id="a type that is none"),
    pytest.param([msgpack.dumps([{"__datetime__": 1}, 2, 3])], id="a date that is none"),
    pytest.param([msgpack.dumps(["locustfile", {"version": "2.47.0"}, "stranger"])], id="a wish for a locustfile"),
    pytest.param(
        [msgpack.dumps(["client_ready", "2.47.0", "stranger"]), msgpack.dumps(["rteval", 3, "stranger"])], id="no kind"
    ),
    pytest.param([msgpack.dumps(["client_ready", 7, "stranger"])], id="a version that is none"),
    pytest.param([msgpack.dumps(["client_ready", "", "stranger"])], id="an empty version"),
    pytest.param(
        [msgpack.dumps(["client_ready", "2.47.0", "stranger"]), msgpack.dumps(["heartbeat", None, "stranger"])],
        id="an empty heartbeat",
    ),
    pytest.param([msgpack.dumps(["client_stopped", None, "stranger"])], id="has stopped"),
]


@pytest.mark.parametrize("messages", JUNK)
def test_no_message_can_deafen_a_master(in_hall: Run, messages: list[bytes]) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall, None) as c:
            c.master.want(2)
            with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
                stranger.setsockopt(zmq.IDENTITY, b"stranger")
                stranger.setsockopt(zmq.LINGER, 1000)
                stranger.connect(f"tcp://{LOOPBACK}:{c.port}")
                if len(messages) == 3:
                    stranger.send_multipart(messages)
                else:
                    for message in messages:
                        stranger.send(message)
            worker = await c.worker()
            worker.swarm.send("still", b"here")
            await hall.until(lambda: [what[1:] for what in c.ear.of("message")] == [["still", b"here"]])
            await hall.until(lambda: worker.rows.open == 2)

    in_hall(body)


def test_whoever_talks_without_a_pause_keeps_nobody_else_from_being_heard(in_hall: Run) -> None:
    over = threading.Event()

    def talk(port: int) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.setsockopt(zmq.IDENTITY, b"stranger")
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.setsockopt(zmq.SNDTIMEO, 100)
            stranger.connect(f"tcp://{LOOPBACK}:{port}")
            stranger.send(msgpack.dumps(["client_ready", "2.47.0", "stranger"]))
            message = msgpack.dumps(["rteval", ["kind", b""], "stranger"])
            while not over.is_set():
                with suppress(zmq.Again):
                    stranger.send(message)

    async def body(hall: Any) -> None:
        async with crowd(hall, None) as c:
            talking = asyncio.create_task(asyncio.to_thread(talk, c.port))
            try:
                await hall.until(lambda: len(c.ear.heard) > 1000)
                worker = await c.worker()
                c.master.want(4)
                await hall.until(lambda: worker.rows.open == 2)
                c.master.dismiss("stranger")
                await hall.until(lambda: worker.rows.open == 4)
            finally:
                over.set()
                await talking

    in_hall(body)


def test_who_speaks_no_zeromq_disturbs_nobody(in_hall: Run) -> None:
    def knock(port: int) -> None:
        for said in (
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            os.urandom(4096),
            b"\xff" * 99,
        ):
            with socket.create_connection((LOOPBACK, port), timeout=10) as stranger, suppress(OSError):
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                stranger.settimeout(0.2)
                with suppress(TimeoutError):
                    while stranger.recv(4096):
                        pass

    async def body(hall: Any) -> None:
        for token in (None, TOKEN):
            async with crowd(hall, token) as c:
                c.master.want(2)
                await asyncio.to_thread(knock, c.port)
                worker = await c.worker()
                await hall.until(lambda worker=worker: worker.rows.open == 2)
                assert [name for name, *_ in c.ear.heard] == ["joined"]

    in_hall(body)


NONSENSE = [
    pytest.param("spawn", "many", id="users that are no number"),
    pytest.param("spawn", None, id="no users"),
    pytest.param("rteval", 3, id="no message"),
    pytest.param("rteval", ["kind", "text"], id="a message without bytes"),
]


@pytest.mark.parametrize(("kind", "data"), NONSENSE)
def test_a_worker_leaves_a_master_that_talks_nonsense(in_hall: Run, kind: str, data: object) -> None:
    async def body(hall: Any) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as nonsense:
            nonsense.setsockopt(zmq.LINGER, 0)
            port = nonsense.bind_to_random_port(f"tcp://{LOOPBACK}")
            worker, _, ear = worker_of(hall, port, None)
            joining = asyncio.create_task(worker.start())
            name, _ = await asyncio.to_thread(nonsense.recv_multipart)
            for said in (("ack", None), (kind, data)):
                nonsense.send_multipart([name, msgpack.dumps([*said, name.decode()])])
            await joining
            await hall.until(lambda: ear.of("lost"))
            assert worker.lost == "the master sent what no master sends"
            await worker.quit()

    in_hall(body)


# -- being lost


def test_a_worker_that_leaves_is_gone_at_once_and_says_nothing_after(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            worker = await c.worker()
            worker.swarm.send("last", b"words")
            await worker.swarm.quit()
            worker.swarm.send("no", b"more")
            await hall.until(lambda: c.ear.of("gone"))
            assert [name for name, *_ in c.ear.heard] == ["joined", "message", "gone"]

    in_hall(body)


def test_a_worker_that_is_dismissed_leaves_its_users_to_the_others(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            first, second = await c.worker(), await c.worker()
            c.master.want(10)
            await hall.until(lambda: [first.rows.open, second.rows.open] == [5, 5])
            c.master.dismiss(c.ear.of("joined")[0][0])
            await hall.until(lambda: first.ear.of("lost") and second.rows.open == 10)
            assert first.swarm.lost == "the master told this worker to leave"

    in_hall(body)


def test_a_master_that_quits_tells_its_workers(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            worker = await c.worker()
            await hall.until(lambda: c.ear.of("joined"))
            c.master.want(3)
            await hall.until(lambda: worker.rows.open == 3)
            await c.master.quit()
            await hall.until(lambda: worker.ear.of("lost"))
            assert worker.swarm.lost == "the master told this worker to leave"
            # What it holds is its own business.
            assert worker.rows.open == 3

    in_hall(body)


PROCESS = """
import asyncio, sys
from rteval.load.swarm import MasterSwarm, WorkerSwarm

class Everything:
    async def hold_slot(self): await asyncio.Event().wait()
    def joined(self, worker): print("joined", flush=True)
    def message(self, *what): print("message", flush=True)
    def gone(self, worker, why): pass
    def master_lost(self): print("lost", swarm.lost, flush=True)

async def main():
    global swarm
    everything = Everything()
    if sys.argv[1] == "master":
        swarm = MasterSwarm(everything, host="127.0.0.1", port=0, token=sys.argv[3])
        await swarm.start()
        print(swarm.address[1], flush=True)
    else:
        port, token = int(sys.argv[2]), sys.argv[3]
        swarm = WorkerSwarm(everything, everything, host="127.0.0.1", port=port, token=token, max_wait_s=20)
        await swarm.start()
        print("in", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await swarm.quit()

asyncio.run(main())
"""


@contextmanager
def process(kind: str, port: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A master or a worker in a process of its own; it ends at the latest when its stdin does."""
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS, kind, str(port), TOKEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def test_a_worker_that_is_killed_is_gone_and_the_others_take_its_users(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            stays = await c.worker()
            with process("worker", c.port) as other:
                assert other.stdout is not None
                await asyncio.to_thread(other.stdout.readline)
                c.master.want(30)
                await hall.until(lambda: stays.rows.open == 15)
                other.kill()
                await hall.until(lambda: stays.rows.open == 30)
                assert len(c.ear.of("gone")) == 1

    in_hall(body)


def test_a_worker_that_falls_silent_is_gone_and_is_told_to_leave_when_it_comes_back(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with crowd(hall) as c:
            stays = await c.worker()
            with process("worker", c.port) as other:
                assert other.stdout is not None
                await asyncio.to_thread(other.stdout.readline)
                c.master.want(30)
                await hall.until(lambda: stays.rows.open == 15)
                started_s = time.monotonic()
                other.send_signal(signal.SIGSTOP)
                await hall.until(lambda: stays.rows.open == 30)
                assert time.monotonic() - started_s > 2
                other.send_signal(signal.SIGCONT)
                said = await asyncio.to_thread(other.stdout.readline)
                assert said == "lost the master told this worker to leave\n"
            assert len(c.ear.of("gone")) == 1

    in_hall(body)


def test_a_master_that_is_killed_is_noticed_at_once(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with process("master") as other:
            assert other.stdout is not None
            port = int(await asyncio.to_thread(other.stdout.readline))
            worker, _, ear = worker_of(hall, port, TOKEN)
            await worker.start()
            other.kill()
            await hall.until(lambda: ear.of("lost"))
            assert worker.lost == "the connection to the master was closed"
            await worker.quit()

    in_hall(body)


def test_last_words_before_a_connection_closes_are_heard_both_ways(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        for _ in range(5):
            async with crowd(hall, None) as c:
                first, second = await c.worker(), await c.worker()
                await hall.until(lambda c=c: len(c.ear.of("joined")) == 2)
                for number in range(50):
                    first.swarm.send(f"last-{number}", bytes(1000))
                await first.swarm.quit()
                # Each of these finds the connection closed; what was said before it must not be lost by that.
                while not c.ear.of("gone"):
                    c.master.want(3)
                    await asyncio.sleep(0)
                assert len(c.ear.of("message")) == 50
                assert c.ear.heard[-1][0] == "gone"
                for name in [name for (name,) in c.ear.of("joined")]:
                    for number in range(50):
                        c.master.send(name, f"bye-{number}", bytes(1000))
                await c.master.quit()
                await hall.until(lambda second=second: second.ear.of("lost"))
                assert len(second.ear.of("message")) == 50
                assert second.ear.heard[-1] == ("lost",)
                assert second.swarm.lost == "the master told this worker to leave"

    in_hall(body)
