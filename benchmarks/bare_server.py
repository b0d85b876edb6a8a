"""A realtime server that costs as little as Python allows, so that a benchmark measures the client.

It decodes nothing: an append is recognised by its length and skipped, the few small requests are found by their type,
and every answer is made of frames that were encoded once. It stamps each audio delta just before the socket gets it.

    python benchmarks/bare_server.py [--deltas 20] [--gap-ms 75] [--delay-ms 500] [--delta-bytes 12000] [--truth FILE]

First line on stdout: ``{"port": N}``. Then each line on stdin is answered with one line of JSON: how many appends came,
how many deltas and answers went out, and when that was counted. It ends when stdin does. The truth file has one line an
answer: ``response_id`` and ``delta_ns``, the stamp of each delta (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import os
import random
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import uvloop

ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# An append of 20 ms of 8 kHz audio is longer than this, every other request of the benchmark shorter.
REQUEST_BYTES = 1_000
TURN_TAKERS = (b'"input_audio_buffer.commit"', b'"conversation.item.create"')


def text_frame(payload: bytes) -> bytes:
    """One unmasked text frame."""
    length = len(payload)
    if length < 126:
        return b"\x81" + bytes([length]) + payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def event(kind: str, **fields: Any) -> bytes:
    """A server event as its frame."""
    return text_frame(json.dumps({"type": kind, "event_id": "event_0001", **fields}, separators=(",", ":")).encode())


class Answers:
    """What every answer is made of.

    Args:
        deltas: audio deltas of one answer, ``gap_s`` apart, the first ``delay_s`` after it was asked for.
        delta_bytes: PCM bytes in each.
    """

    def __init__(self, *, deltas: int, gap_s: float, delay_s: float, delta_bytes: int) -> None:
        self.deltas, self.gap_s, self.delay_s = deltas, gap_s, delay_s
        self.audio = base64.b64encode(random.Random(1).randbytes(delta_bytes)).decode()
        self.numbers = itertools.count(1)
        session = {"id": "sess_0001", "object": "realtime.session", "type": "realtime", "model": "bare"}
        self.created = event("session.created", session=session)
        self.updated = event("session.updated", session=session)
        self.committed = event("input_audio_buffer.committed", item_id="item_user", previous_item_id=None)

    def frames(self) -> tuple[str, bytes, bytes, bytes]:
        """A new answer: its id, how it begins, its delta, how it ends."""
        response_id = f"resp_{next(self.numbers):012}"
        where = {"response_id": response_id, "item_id": "item_answer", "output_index": 0, "content_index": 0}
        response = {"id": response_id, "object": "realtime.response", "status": "in_progress", "output": []}
        item = {
            "id": "item_answer",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_audio", "transcript": "noise"}],
        }
        usage = {"total_tokens": 30, "input_tokens": 10, "output_tokens": 20}
        end = event("response.output_audio.done", **where)
        end += event("response.output_audio_transcript.done", transcript="noise", **where)
        end += event("response.done", response={**response, "status": "completed", "output": [item], "usage": usage})
        delta = event("response.output_audio.delta", **where, delta=self.audio)
        return response_id, event("response.created", response=response), delta, end


class Tally:
    """What went by so far, and the truth of each answer."""

    def __init__(self, truth: BinaryIO | None) -> None:
        self.appends = self.deltas = self.answers = 0
        self.truth = truth

    def line(self) -> bytes:
        """The counts, and when they were true."""
        counts = {"appends": self.appends, "deltas": self.deltas, "answers": self.answers}
        return json.dumps({**counts, "at_ns": time.perf_counter_ns()}).encode() + b"\n"

    def answered(self, response_id: str, delta_ns: list[int]) -> None:
        """One answer is out."""
        self.answers += 1
        if self.truth is not None:
            self.truth.write(json.dumps({"response_id": response_id, "delta_ns": delta_ns}).encode() + b"\n")


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, answers: Answers, tally: Tally, loop: asyncio.AbstractEventLoop) -> None:
        self.answers, self.tally, self.loop = answers, tally, loop
        self.buffer = b""
        self.skip = 0
        self.upgraded = False
        self.gone = False

    def connection_made(self, transport: Any) -> None:
        """Write at once, so that a stamp is the moment before the socket gets the frame."""
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is written any more."""
        self.gone = True

    def data_received(self, data: bytes) -> None:
        """Skip the long frames, act on the short ones; half a frame waits."""
        if self.skip:
            if self.skip >= len(data):
                self.skip -= len(data)
                return
            data, self.skip = data[self.skip :], 0
        if self.buffer:
            data, self.buffer = self.buffer + data, b""
        if not self.upgraded:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self.buffer = head
                return
            self.upgrade(head)
        at, size = 0, len(data)
        while at < size:
            if size - at < 14 and size - at < 6 + (data[at + 1] & 0x7F if size - at > 1 else 14):
                break
            length, start = data[at + 1] & 0x7F, at + 6
            if length == 126:
                length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
            elif length == 127:
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 14
            end = start + length
            if length >= REQUEST_BYTES:
                self.tally.appends += 1
                if end > size:
                    self.skip = end - size
                    return
            elif end > size:
                break
            else:
                mask = data[start - 4 : start] * (length // 4 + 1)
                plain = int.from_bytes(data[start:end], "big") ^ int.from_bytes(mask[:length], "big")
                self.asked(data[at] & 0x0F, plain.to_bytes(length, "big"))
            at = end
        self.buffer = data[at:]

    def upgrade(self, head: bytes) -> None:
        """Take the connection, whatever path and credential it comes with."""
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        key = next(value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT_KEY).digest())
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.transport.write(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + self.answers.created)
        self.upgraded = True

    def asked(self, opcode: int, payload: bytes) -> None:
        """A short frame: a request, a ping or a close."""
        if opcode == 8:
            self.transport.write(b"\x88" + bytes([len(payload)]) + payload)
            self.transport.close()
        elif opcode == 9:
            self.transport.write(b"\x8a" + bytes([len(payload)]) + payload)
        elif b'"session.update"' in payload:
            self.transport.write(self.answers.updated)
        elif TURN_TAKERS[0] in payload:
            self.transport.write(self.answers.committed)
        elif b'"response.create"' in payload:
            response_id, begin, delta, end = self.answers.frames()
            self.transport.write(begin)
            first_s = self.loop.time() + self.answers.delay_s
            self.loop.call_at(first_s, self.speak, response_id, delta, end, first_s, [])

    def speak(self, response_id: str, delta: bytes, end: bytes, due_s: float, sent_ns: list[int]) -> None:
        """One delta, and the next one in its time."""
        if self.gone:
            return
        sent_ns.append(time.perf_counter_ns())
        self.transport.write(delta)
        self.tally.deltas += 1
        if len(sent_ns) < self.answers.deltas:
            due_s += self.answers.gap_s
            self.loop.call_at(due_s, self.speak, response_id, delta, end, due_s, sent_ns)
        else:
            self.transport.write(end)
            self.tally.answered(response_id, sent_ns)


async def serve(asked: argparse.Namespace, tally: Tally) -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    answers = Answers(
        deltas=asked.deltas, gap_s=asked.gap_ms / 1e3, delay_s=asked.delay_ms / 1e3, delta_bytes=asked.delta_bytes
    )
    ended = asyncio.Event()

    def counted() -> None:
        if os.read(0, 4_096):
            os.write(1, tally.line())
        else:
            ended.set()

    server = await loop.create_server(lambda: Connection(answers, tally, loop), "127.0.0.1", 0, backlog=4_096)
    os.write(1, json.dumps({"port": server.sockets[0].getsockname()[1]}).encode() + b"\n")
    loop.add_reader(0, counted)
    await ended.wait()
    loop.remove_reader(0)


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deltas", type=int, default=20)
    parser.add_argument("--gap-ms", type=float, default=75.0)
    parser.add_argument("--delay-ms", type=float, default=500.0)
    parser.add_argument("--delta-bytes", type=int, default=12_000)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--cpu", type=int, help="the core to stay on")
    asked = parser.parse_args()
    if asked.cpu is not None:
        os.sched_setaffinity(0, {asked.cpu})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    truth = asked.truth.open("wb", buffering=1 << 20) if asked.truth is not None else None
    try:
        uvloop.run(serve(asked, Tally(truth)))
    finally:
        if truth is not None:
            truth.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
