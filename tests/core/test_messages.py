"""What master and workers say survives the way, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rteval.load import messages as msg

HELLO = msg.Hello(protocol=1, version="1", host="h", pid=2, cpus=3, python="3")
GRANTED = msg.GrantedSession(name="s", turns=(("a", 1), ("b", 2)), due_ns=-5, start_ns=7)
FROM_WORKER = [
    HELLO,
    msg.Ready(ok=True, credential="api key", warnings=("a", "b")),
    msg.Ready(ok=False, sentence="no data"),
    msg.Warm(clock_offset_ns=-3, round_trip_ns=4),
    msg.Slots(slots=9),
    msg.Ping(sent_ns=1),
    msg.Batch(seq=0, ended=(msg.EndedSession(name="s", leftover=2),), returned=("t",), lines=(b"{}", b'{"a":1}')),
    msg.Batch(seq=1),
    msg.Bug(text="Traceback\n..."),
    msg.Leaving(sentence="SIGINT"),
    msg.Drained(turns=1, sessions=2),
]
FROM_MASTER = [
    msg.Job(run_id="r", worker="w1", scenario={"name": "x"}, limit=None, dataset_name="d", dataset_hash="h"),
    msg.Begin(url="ws://127.0.0.1:1/"),
    msg.Begin(),
    msg.Pong(sent_ns=1, master_ns=2),
    msg.Clock(start_ns=1, warm_until_ns=None),
    msg.Grants(sessions=(GRANTED,)),
    msg.Drain(within_s=None),
    msg.Drain(within_s=4.5),
    msg.Cut(),
    msg.Bye(kept=True),
]


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: message.kind)
def test_what_a_worker_says_arrives(message):
    assert msg.decode(msg.FROM_WORKER, message.kind, msg.encode(message)) == message


@pytest.mark.parametrize("message", FROM_MASTER, ids=lambda message: message.kind)
def test_what_a_master_says_arrives(message):
    assert msg.decode(msg.FROM_MASTER, message.kind, msg.encode(message)) == message


def test_every_kind_is_among_these():
    assert {type(message) for message in FROM_WORKER} == set(msg.FROM_WORKER.values())
    assert {type(message) for message in FROM_MASTER} == set(msg.FROM_MASTER.values())


BAD = [
    pytest.param("rteval.job", b"{}", "there is no message 'rteval.job'", id="a master's word from a worker"),
    pytest.param("x" * 99, b"{}", "there is no message 'xxx", id="a kind without end"),
    pytest.param("rteval.slots", {"slots": 1}, "holds no bytes", id="no bytes"),
    pytest.param("rteval.slots", b" " * (msg.MOST_BYTES + 1), "more than", id="too long"),
    pytest.param("rteval.slots", b"", "not JSON", id="nothing"),
    pytest.param("rteval.slots", b"[1]", "no JSON object", id="a list"),
    pytest.param("rteval.slots", b'{"slots":-1}', "slots: ", id="below zero"),
    pytest.param("rteval.slots", b'{"slots":"1"}', "slots: ", id="text for a number"),
    pytest.param("rteval.slots", b'{"slots":1,"more":2}', "more: ", id="a key too many"),
    pytest.param("rteval.ping", b'{"sent_ns":1e300}', "sent_ns: ", id="no whole number"),
    pytest.param("rteval.ping", b'{"sent_ns":9223372036854775808}', "sent_ns: ", id="beyond 64 bits"),
    pytest.param("rteval.batch", b'{"seq":0,"returned":[""]}', "returned.0: ", id="a name without letters"),
    pytest.param("rteval.batch", b'{"seq":0}' + b"\n" * 20_001, "more than 20000 lines", id="lines without end"),
    pytest.param("rteval.bug", b'{"text":"' + b"x" * 20_001 + b'"}', "text: ", id="an essay"),
]


@pytest.mark.parametrize(("kind", "data", "sentence"), BAD)
def test_anything_else_is_refused_with_its_reason(kind, data, sentence):
    with pytest.raises(msg.MessageError, match=sentence.replace("'", "'")):
        msg.decode(msg.FROM_WORKER, kind, data)


def test_what_is_said_of_a_bad_message_is_short_however_long_that_was():
    with pytest.raises(msg.MessageError) as error:
        msg.decode(msg.FROM_WORKER, "rteval.slots", b'{"slots":1,"' + b"x" * 10_000 + b'":2}')
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("message", "name", "break_"),
    [
        pytest.param(HELLO, "host", "?", id="a name"),
        pytest.param(msg.Leaving(sentence=""), "sentence", "\n: ", id="a sentence"),
        pytest.param(msg.Bug(text=""), "text", "\n: ", id="a traceback"),
    ],
)
def test_what_a_worker_says_commands_no_terminal_and_no_ci_service(message, name, break_):
    said = message.model_copy(update={name: "\x1b[2Jgone\x07\n::error::x ##vso[task.complete] \u202e"})
    heard = msg.decode(msg.FROM_WORKER, message.kind, msg.encode(said))
    rest = "::error" if break_ == "?" else ":error"
    assert getattr(heard, name) == f"?[2Jgone?{break_}{rest}::x # #vso[task.complete] ?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("run_id", "../../elsewhere", id="up and away"),
        pytest.param("run_id", "/etc", id="from the root"),
        pytest.param("run_id", "r\n", id="a line break"),
        pytest.param("worker", "../w1", id="a worker up and away"),
    ],
)
def test_no_master_can_name_a_file_outside_the_folder_of_reports(name, value):
    job = msg.Job(run_id="r", worker="w1", scenario={}, limit=None, dataset_name="d", dataset_hash="h")
    with pytest.raises(msg.MessageError, match=f"rteval.job: {name}: "):
        msg.decode(msg.FROM_MASTER, job.kind, msg.encode(job.model_copy(update={name: value})))


def test_a_dataset_may_be_called_what_a_folder_may_be_called():
    name = "d" * 255
    job = msg.Job(run_id="r", worker="w1", scenario={}, limit=None, dataset_name=name, dataset_hash="h")
    assert msg.decode(msg.FROM_MASTER, job.kind, msg.encode(job)) == job


@given(kind=st.sampled_from(sorted(msg.FROM_WORKER)), data=st.binary(max_size=200))
def test_noise_is_never_more_than_a_message_error(kind, data):
    with pytest.raises(msg.MessageError):
        msg.decode(msg.FROM_WORKER, kind, data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_any_json_is_read_or_refused(value):
    import orjson

    try:
        data = orjson.dumps({"seq": value, "ended": value, "lines": value})
    except TypeError:
        return
    with pytest.raises(msg.MessageError):
        msg.decode(msg.FROM_WORKER, "rteval.batch", data)
