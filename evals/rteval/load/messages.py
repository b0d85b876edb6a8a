"""What a master and its workers say to each other, validated and bounded: nothing is believed because it arrived.

A message is a kind and bytes: one JSON object, and for ``batch`` the lines of a shard after it. Times are nanoseconds
of the master's clock, but for ``Ping.sent_ns``. No message holds a secret: each worker finds its own credential.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "BATCH_BYTES",
    "MOST_BYTES",
    "MOST_LINES",
    "MOST_LINE_BYTES",
    "PROTOCOL",
    "Batch",
    "Begin",
    "Bug",
    "Bye",
    "Clock",
    "Cut",
    "Drain",
    "Drained",
    "EndedSession",
    "GrantedSession",
    "Grants",
    "Hello",
    "Job",
    "Leaving",
    "Message",
    "MessageError",
    "Ping",
    "Pong",
    "Ready",
    "Slots",
    "Warm",
    "decode",
    "encode",
]

PROTOCOL = 1
"""Version of these messages; master and worker must agree on it, and on the version of rteval."""

MOST_BYTES = 16 * 1024 * 1024
"""No message is longer."""

MOST_LINE_BYTES = MOST_BYTES // 2
"""No record is longer: a batch holds it, what waited before it, and the names of sessions."""

BATCH_BYTES = 256 * 1024
"""A batch is sent once it is this long. Small messages keep both sides' heartbeats on time."""

MOST_LINES = 20_000
"""No batch has more: one of that length with the shortest records has a thousand."""

Ns = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Sentence = Annotated[str, Field(max_length=4000)]


def _harmless(text: str) -> str:
    """What another machine says may be shown in a terminal or in the log of a CI service, and must command neither."""
    text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    return text.replace("##", "# #").replace("\n::", "\n: :")


def _harmless_line(text: str) -> str:
    return _harmless(text.replace("\n", "?"))


SaidName = Annotated[Name, AfterValidator(_harmless_line)]
Said = Annotated[Sentence, AfterValidator(_harmless)]
SaidLine = Annotated[Sentence, AfterValidator(_harmless_line)]


class MessageError(ValueError):
    """A message that cannot be read, in one sentence."""


class Message(BaseModel):
    """One message; ``kind`` is its name on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    kind: ClassVar[str]


# ---- from a worker ----


class Hello(Message):
    """The first word of a worker."""

    kind: ClassVar[str] = "rteval.hello"
    protocol: Count
    version: SaidName
    host: SaidName
    pid: Count
    cpus: Count
    python: SaidName


class Ready(Message):
    """Whether the worker can do the job: it has the data and a credential. Else the sentence says what it lacks."""

    kind: ClassVar[str] = "rteval.ready"
    ok: bool
    sentence: Said | None = None
    credential: Said | None = None
    warnings: Annotated[tuple[Said, ...], Field(max_length=100, strict=False)] = ()


class Warm(Message):
    """Everything is loaded: the next session would find nothing left to do."""

    kind: ClassVar[str] = "rteval.warm"
    clock_offset_ns: Ns
    round_trip_ns: Ns


class Slots(Message):
    """How many sessions the worker has room for."""

    kind: ClassVar[str] = "rteval.slots"
    slots: Count


class Ping(Message):
    """Asks for the master's clock."""

    kind: ClassVar[str] = "rteval.ping"
    sent_ns: Ns


class EndedSession(Message):
    """A session that ended, and how many of its last turns another one has to take over."""

    kind: ClassVar[str] = "-"
    name: Name
    leftover: Count = 0


class Batch(Message):
    """Records in the order in which they were made, as lines of a shard. A turn is done when its row is here.

    Attributes:
        seq: 0, 1, 2, ... without a gap.
        ended: sessions that ended; their rows are in this batch or an earlier one.
        returned: sessions that were granted and not begun.
        hint: what may help the first session here that the target did not let in.
    """

    kind: ClassVar[str] = "rteval.batch"
    seq: Count
    ended: Annotated[tuple[EndedSession, ...], Field(max_length=100_000, strict=False)] = ()
    returned: Annotated[tuple[Name, ...], Field(max_length=100_000, strict=False)] = ()
    hint: SaidLine | None = None
    lines: Annotated[tuple[bytes, ...], Field(exclude=True, strict=False)] = ()


class Bug(Message):
    """A bug of ours on the worker, which ends the run. ``text`` is its traceback."""

    kind: ClassVar[str] = "rteval.bug"
    text: Annotated[str, Field(max_length=20_000), AfterValidator(_harmless)]


class Leaving(Message):
    """The worker goes: it was told to on its own machine, or cannot go on (full disk, changed data)."""

    kind: ClassVar[str] = "rteval.leaving"
    sentence: Said
    failed: bool = False


class Drained(Message):
    """Nothing runs any more on the worker, and so many records were sent in all."""

    kind: ClassVar[str] = "rteval.drained"
    turns: Count
    sessions: Count


# ---- from the master ----


class Job(Message):
    """What is to be done: the scenario as resolved, without secrets.

    Attributes:
        run_id, worker: of the run, and the worker's name in it: they name files.
        limit: most items of the dataset, beside the scenario's own limit.
        dataset_hash: of the items that are run; the worker's own must be the same.
    """

    kind: ClassVar[str] = "rteval.job"
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    worker: Annotated[str, Field(pattern=r"^w[0-9]{1,9}$")]
    scenario: dict[str, Any]
    limit: Count | None
    dataset_name: Sentence
    dataset_hash: Name


class Begin(Message):
    """Load everything, then say ``Warm``. ``url`` is the address of an embedded server."""

    kind: ClassVar[str] = "rteval.begin"
    url: Name | None = None


class Pong(Message):
    """The master's clock, when it got the ping that was sent at ``sent_ns`` of the worker's."""

    kind: ClassVar[str] = "rteval.pong"
    sent_ns: Ns
    master_ns: Ns


class Clock(Message):
    """The run began at ``start_ns``; turns that begin before ``warm_until_ns`` are warm-up."""

    kind: ClassVar[str] = "rteval.clock"
    start_ns: Ns
    warm_until_ns: Ns | None = None


class GrantedSession(Message):
    """A session to be held; each turn is an item's id and the how-manieth time it is. ``variant`` is the scenario's."""

    kind: ClassVar[str] = "-"
    name: Name
    variant: Name | None = None
    turns: Annotated[
        tuple[Annotated[tuple[str, Count], Field(strict=False)], ...],
        Field(min_length=1, max_length=1_000_000, strict=False),
    ]
    due_ns: Ns
    start_ns: Ns


class Grants(Message):
    """Sessions to be held."""

    kind: ClassVar[str] = "rteval.grants"
    sessions: Annotated[tuple[GrantedSession, ...], Field(max_length=100_000, strict=False)]


class Drain(Message):
    """Start nothing any more; with ``within_s`` no turn begins either, and sessions are cut after it."""

    kind: ClassVar[str] = "rteval.drain"
    within_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None


class Cut(Message):
    """End what runs."""

    kind: ClassVar[str] = "rteval.cut"


class Bye(Message):
    """The run is over for this worker.

    Attributes:
        kept: the master has every record, so the worker need not keep its own copy.
        sentence: why, when it is not simply the end.
        exit_code: with which the worker ends.
    """

    kind: ClassVar[str] = "rteval.bye"
    kept: bool
    sentence: Said | None = None
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0


FROM_WORKER: dict[str, type[Message]] = {
    message.kind: message for message in (Hello, Ready, Warm, Slots, Ping, Batch, Bug, Leaving, Drained)
}
FROM_MASTER: dict[str, type[Message]] = {
    message.kind: message for message in (Job, Begin, Pong, Clock, Grants, Drain, Cut, Bye)
}


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    head = orjson.dumps(message.model_dump())
    return b"\n".join([head, *message.lines]) if isinstance(message, Batch) else head


def decode(kinds: dict[str, type[Message]], kind: str, data: object) -> Message:
    """Read a message.

    Args:
        kinds: those that may come, ``FROM_WORKER`` or ``FROM_MASTER``.
        kind: its name on the wire.
        data: what came with it.

    Raises:
        MessageError: it is none of these, too long, or not what its kind promises.
    """
    model = kinds.get(kind)
    if model is None:
        raise MessageError(f"there is no message {kind[:50]!r}")
    if not isinstance(data, bytes) or len(data) > MOST_BYTES:
        raise MessageError(f"{kind} holds no bytes, or more than {MOST_BYTES}")
    if model is Batch and data.count(b"\n") > MOST_LINES:
        raise MessageError(f"{kind} holds more than {MOST_LINES} lines")
    head, *lines = data.split(b"\n") if model is Batch else [data]
    try:
        content = orjson.loads(head)
        if not isinstance(content, dict):
            raise MessageError(f"{kind} is no JSON object")
        if model is Batch:
            content["lines"] = lines
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        raise MessageError(f"{kind}: {where}: {first['msg']}") from error
    except orjson.JSONDecodeError as error:
        raise MessageError(f"{kind} is not JSON: {error}") from error
