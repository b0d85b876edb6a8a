"""Laws of the protocol core, whatever a server sends and however it slices it."""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rteval.formats import FORMATS
from rteval.realtime import events as ev
from rteval.realtime import pacing
from rteval.realtime.conversation import Conversation
from rteval.realtime.dialects import DIALECTS, GA
from rteval.realtime.dialects.frames import SERVER_NAMES, base64_size, decode, item_from_wire, sniff_audio_delta
from rteval.realtime.dialects.requests import read_client_frame
from rteval.realtime.dialects.serving import (
    GA_SERVING,
    PREVIEW_2024_10_SERVING,
    PREVIEW_SERVING,
    VOICE_LIVE_SERVING,
)
from rteval.realtime.turn import Mode, Phase, Turn, TurnSpec
from rteval.records import Deltas, Outcome, TurnRecord, Usage
from rteval.shards import ShardWriter, read_shards

MS = 1_000_000
S = 1_000_000_000
TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
FLAVOURS = [GA_SERVING, PREVIEW_SERVING, PREVIEW_2024_10_SERVING, VOICE_LIVE_SERVING]

PROFILE = settings().max_examples
many_examples = settings(max_examples=PROFILE * 2)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# As JSON may spell it, half a UTF-16 pair too.
any_text = st.text(max_size=12)
# Few names: ids must meet, cross and go missing.
item_id = st.sampled_from([None, "i1", "i2", "i3"])
response_id = st.sampled_from([None, "", "r1", "r2", "r3"])
index = st.integers(0, 2)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


# ---- slicing ----


@st.composite
def slices(draw, whole):
    """``whole`` in pieces, none of them empty."""
    cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=8))) if len(whole) > 1 else []
    return [whole[start:end] for start, end in itertools.pairwise([0, *cuts, len(whole)])]


@st.composite
def arrivals(draw, first_ns, last_ns, count):
    """``count`` arrivals in order; the first and the last are given."""
    inner = draw(st.lists(st.integers(first_ns, last_ns), min_size=count, max_size=count).map(sorted))
    return [first_ns, *inner[1:-1], last_ns][:count] if count > 1 else [first_ns]


def spoken_answer(serving, audio, words, blank_row):
    """The row of a turn whose answer came in these (arrival, piece) pairs."""
    turn = Turn(TurnSpec(mode=Mode.TEXT, text="Hello?"), str)
    turn.begin_text(0)
    where = {"response_id": "r1", "item_id": "a1"}
    told = [(at, ev.AudioDelta(audio=base64.b64encode(piece), size_bytes=0, **where)) for at, piece in audio]
    told += [(at, ev.TranscriptDelta(delta=piece, **where)) for at, piece in words]
    told.sort(key=lambda entry: entry[0])
    created = ev.ResponseCreated(response=ev.Response(id="r1", status="in_progress"))
    done = ev.ResponseDone(response=ev.Response(id="r1", status="completed"))
    for at_ns, event in [(1, created), *told, (10 * S, done)]:
        turn.feed(at_ns, decode(orjson.dumps(serving.encode(event, "event_1"))))
    row = blank_row()
    turn.write_to(row)
    return row


@given(data=st.data())
def test_how_the_server_slices_its_answer_does_not_change_the_turn(data, blank_row):
    """Only the deltas themselves differ; what they hold together, and when the first and the last came, does not."""
    audio = data.draw(st.binary(min_size=1, max_size=400))
    words = data.draw(text.filter(bool))
    serving = data.draw(st.sampled_from(FLAVOURS))
    last_ns = 9 * S
    rows = []
    for _ in range(2):
        streams = []
        for whole, first_ns in ((audio, 2 * S), (words, 3 * S)):
            # One piece has one arrival, two or more have the same first and last one.
            pieces = data.draw(slices(whole).filter(lambda cut, whole=whole: len(whole) == 1 or len(cut) > 1))
            times = data.draw(arrivals(first_ns, last_ns, len(pieces)))
            streams.append(list(zip(times, pieces, strict=True)))
        rows.append(spoken_answer(serving, *streams, blank_row))
    one, other = rows
    assert sum(one.deltas.size_bytes) == sum(other.deltas.size_bytes) == len(audio)
    assert sum(one.deltas.chars) == sum(other.deltas.chars) == len(words)
    assert one.output_transcript == words
    assert replace(one, deltas=Deltas()) == replace(other, deltas=Deltas())


# ---- whatever the server does ----

part = st.builds(
    ev.Part,
    type=st.sampled_from(["input_text", "input_audio", "text", "audio", "?"]),
    text=st.none() | text,
    transcript=st.none() | text,
)
item = st.builds(
    ev.Item,
    id=item_id,
    type=st.sampled_from(["message", "function_call", "?"]),
    role=st.sampled_from([None, "user", "assistant"]),
    content=st.lists(part, max_size=2).map(tuple),
    name=st.none() | text,
    call_id=st.sampled_from([None, "c1", "c2"]),
    arguments=st.none() | text,
)
usage = st.builds(Usage, **{f.name: st.none() | st.integers(0, 999) for f in fields(Usage)})
response = st.builds(
    ev.Response,
    id=st.sampled_from(["", "r1", "r2", "r3"]),
    status=st.sampled_from(["in_progress", "completed", "cancelled", "incomplete", "failed", ""]),
    reason=st.none() | text,
    error_code=st.none() | text,
    output=st.lists(item, max_size=2).map(tuple),
    usage=st.none() | usage,
)
BY_NAME = {
    "item_id": item_id,
    "response_id": response_id,
    "item": item,
    "part": part,
    "response": response,
    "output_index": index,
    "content_index": index,
    "call_id": st.sampled_from([None, "c1", "c2"]),
    "audio": st.just(b""),
    "size_bytes": st.sampled_from([0, 0, 480, 4800]),
    "session": st.dictionaries(st.sampled_from(["id", "model", "expires_at", "voice"]), json_value, max_size=3),
    "limits": st.just(()),
    "usage": st.none(),
    "audio_start_ms": st.none(),
    "audio_end_ms": st.just(0),
    "previous_item_id": item_id,
    "id": item_id,
    "code": st.sampled_from([None, "oops", "session_expired", "rate_limit_exceeded",
                             "conversation_already_has_active_response", "input_audio_buffer_commit_empty"]),
    "client_event_id": st.sampled_from([None, "rteval_1", "rteval_2", "rteval_3", "rteval_4"]),
    "type": text,
    "param": st.none(),
    "name": st.none() | text,
    "reason": st.none() | text,
}  # fmt: skip
SERVER_EVENTS = [*SERVER_NAMES, ev.UnknownEvent]
server_event = st.sampled_from(SERVER_EVENTS).flatmap(
    lambda event: st.builds(event, **{f.name: BY_NAME.get(f.name, text) for f in fields(event)})
)
turn_spec = st.builds(
    TurnSpec,
    mode=st.sampled_from(list(Mode)),
    text=st.just("Hello?"),
    wants_audio=st.booleans(),
    transcription=st.booleans(),
    auto_response=st.booleans(),
    response_timeout_ns=st.sampled_from([50 * MS, 30 * S]),
    transcription_timeout_ns=st.sampled_from([50 * MS, 10 * S]),
    early_grace_ns=st.sampled_from([0, 20 * MS, 2 * S]),
)


class Life:
    """A session with its turns, driven without mistakes of ours, whatever the server does."""

    def __init__(self, dialect=GA, turn=Turn):
        self.turn = turn
        self.conversation = Conversation(dialect, ev.SessionSettings())
        self.turns = []
        self.phases = {}
        self.at_ns = 0

    def pass_time(self, delta_ns):
        self.at_ns += delta_ns

    def hear(self, event):
        for command in self.conversation.feed(self.at_ns, event):
            self.conversation.dialect.encode(command)
        self.look()

    def begin(self, spec):
        turn = self.turn(spec, self.conversation.new_event_id)
        self.turns.append(turn)
        self.conversation.add(turn)
        if spec.mode is Mode.TEXT:
            turn.begin_text(self.at_ns)
        else:
            turn.begin_speech()
        self.look()

    def end_speech(self, late_ns):
        for turn in self.turns:
            if turn.spec.mode is not Mode.TEXT and turn.speech_end_ns is None:
                turn.speech_sent(self.at_ns, self.at_ns - late_ns)
        self.look()

    def tick(self):
        for turn in self.turns:
            turn.tick(self.at_ns)
        self.look()

    def lose(self):
        self.conversation.lost(self.at_ns, "close_1006")
        self.look()

    def block(self):
        for turn in self.turns:
            turn.blocked(self.at_ns)
        self.look()

    def cut(self):
        for turn in self.turns:
            turn.cut(self.at_ns)
        self.look()

    def look(self):
        """What holds at every moment."""
        for number, turn in enumerate(self.turns):
            assert turn.phase >= self.phases.get(number, Phase.SPEAKING), "a phase went backwards"
            self.phases[number] = turn.phase
            assert turn.answered == (turn.outcome is not None) == (turn.answered_ns is not None)
            assert not (turn.settled and turn.deadline_ns is not None)

    def wait_for_the_end(self):
        """Nothing comes any more: deadlines alone have to end every turn."""
        for turn in self.turns:
            for _ in range(4):
                if turn.deadline_ns is not None:
                    turn.tick(turn.deadline_ns)
        self.look()

    def rows(self):
        for turn in self.turns:
            row = TurnRecord(
                run_id="run", worker="w0", session="s0", turn=0, item="i", modality="audio", dialect="ga",
                outcome=Outcome.CUT,
            )  # fmt: skip
            turn.write_to(row)
            yield row


def survive(life, steps):
    for step in steps:
        match step:
            case ("hear", event):
                life.hear(event)
            case (name, *arguments):
                getattr(life, name)(*arguments)
    rows = list(life.rows())
    assert_round_trip(rows)
    life.end_speech(0)
    life.wait_for_the_end()
    assert all(turn.settled for turn in life.turns)
    assert list(map(len, (row.deltas for row in life.rows()))) == list(map(len, (row.deltas for row in rows)))
    assert_round_trip(list(life.rows()))


def assert_round_trip(rows):
    """The law of the shards: what a turn writes comes back as it was."""
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(Path(folder), "w0") as shard:
            for row in rows:
                shard.turn(row)
        records = read_shards(Path(folder))
    assert records.turns == rows
    assert not records.torn


driver_step = st.one_of(
    st.tuples(st.just("pass_time"), st.sampled_from([1, MS, 60 * MS, 3 * S, 40 * S])),
    st.tuples(st.just("end_speech"), st.sampled_from([0, MS, 100 * MS])),
    st.tuples(st.just("begin"), turn_spec),
    st.tuples(st.just("tick")),
)
rare_step = st.tuples(st.sampled_from(["lose", "block", "cut"]))
hear = st.tuples(st.just("hear"), server_event)
common_steps = st.one_of(hear, hear, hear, driver_step)


@many_examples
@given(
    ready=st.booleans(),
    spec=turn_spec,
    steps=st.lists(common_steps, max_size=40),
    end=st.lists(rare_step, max_size=1),
)
def test_no_stream_of_events_breaks_a_turn(ready, spec, steps, end):
    """It never raises, its phase never falls, its deadlines always end it, and its row survives the disk."""
    life = Life()
    if ready:
        life.hear(ev.SessionCreated(session={}))
        life.hear(ev.SessionUpdated(session={}))
    survive(life, [("begin", spec), *steps, *end])


# ---- raw frames ----


def filled(value):
    match value:
        case {"bytes": int(size)}:
            return "A" * min(size, 40)
        case dict():
            return {key: filled(entry) for key, entry in value.items()}
        case _:
            return value


def real_frames():
    """Every frame that a server sends in the transcripts, by conversation."""
    conversations = []
    for path in sorted(TRANSCRIPTS.glob("*.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        conversations.append([filled(line["frame"]) for line in lines if line["dir"] == "recv"])
    return conversations


REAL = real_frames()
WIRE_NAMES = sorted({name for dialect in DIALECTS.values() for name in dialect.server_names.values() if name})
KEYS = sorted({key for frames in REAL for frame in frames for key in frame})


@st.composite
def mutated(draw, body):
    """``body`` with one thing wrong, at any depth."""
    if isinstance(body, dict) and body and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(body)))
        change = draw(st.sampled_from(["within", "within", "gone", "another", "renamed"]))
        rest = {name: value for name, value in body.items() if name != key}
        match change:
            case "within":
                return {**body, key: draw(mutated(body[key]))}
            case "gone":
                return rest
            case "another":
                return {**body, key: draw(json_value)}
            case _:
                return {**rest, draw(st.sampled_from(KEYS)): body[key]}
    if isinstance(body, list) and body and draw(st.booleans()):
        place = draw(st.integers(0, len(body) - 1))
        return [*body[:place], draw(mutated(body[place])), *body[place + 1 :]]
    return draw(json_value)


@st.composite
def damaged(draw, data):
    """``data`` with bytes lost, changed or put in."""
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 20)))
    return data[:start] + draw(st.binary(max_size=4)) + data[end:]


real_frame = st.sampled_from([frame for frames in REAL for frame in frames])
strange_frame = st.one_of(
    st.binary(max_size=60),
    json_value.map(orjson.dumps),
    st.dictionaries(st.sampled_from(KEYS), any_text | st.just(float("nan")) | st.integers(), max_size=6).flatmap(
        lambda body: st.sampled_from([*WIRE_NAMES, "new"]).map(lambda name: json.dumps({**body, "type": name}).encode())
    ),
    st.dictionaries(st.sampled_from(KEYS), json_value, max_size=6).flatmap(
        lambda body: st.sampled_from([*WIRE_NAMES, "new"]).map(lambda name: orjson.dumps({**body, "type": name}))
    ),
    real_frame.flatmap(mutated).map(orjson.dumps),
    real_frame.map(orjson.dumps).flatmap(damaged),
)


@st.composite
def strange_conversations(draw):
    """A real conversation in which frames are damaged, doubled, lost, or said again later."""
    steps = []
    for frame in draw(st.sampled_from(REAL)):
        fate = draw(st.integers(0, 9))
        if fate == 0:
            steps.append(("frame", draw(mutated(frame).map(orjson.dumps))))
        elif fate == 1:
            steps.append(("frame", draw(strange_frame)))
        elif fate == 2:
            steps.append(draw(driver_step))
        if fate != 3:
            steps.append(("frame", orjson.dumps(frame)))
        if fate == 4:
            steps.append(("frame", orjson.dumps(draw(real_frame))))
    return steps


@many_examples
@given(data=strange_frame)
def test_no_frame_crashes_a_dialect(data):
    for dialect in DIALECTS.values():
        event = dialect.decode(data)
        assert type(event) in SERVER_EVENTS
        told = json.dumps(asdict(event), ensure_ascii=False, default=lambda audio: audio.decode("utf-8", "replace"))
        assert told.encode()  # no half characters: it can be stored and printed
        assert dialect.decode(bytearray(data)) == event


@given(steps=strange_conversations(), spec=turn_spec, when=st.integers(0, 8))
def test_no_stream_of_frames_breaks_a_session(steps, spec, when):
    life = Life()
    heard = [("hear", GA.decode(step[1])) if step[0] == "frame" else step for step in steps]
    survive(life, [*heard[:when], ("begin", spec), *heard[when:]])


class LongWay(Turn):
    """A turn that takes every event the way of all events."""

    def feed_audio(self, at_ns, event):
        return False


@many_examples
@given(steps=strange_conversations(), specs=st.lists(turn_spec, min_size=1, max_size=2), when=st.integers(0, 8))
def test_audio_takes_a_shorter_way_to_the_same_row(steps, specs, when):
    heard = [("hear", GA.decode(step[1])) if step[0] == "frame" else step for step in steps]
    begun = [("begin", spec) for spec in specs]
    # The second turn begins while the first may still wait for its transcripts.
    script = [*heard[:when], begun[0], *heard[when:], *begun[1:], *(heard if begun[1:] else [])]
    lives = Life(), Life(turn=LongWay)
    for life in lives:
        survive(life, script)
    short, long = ([*life.rows()] for life in lives)
    assert short == long
    assert lives[0].conversation.unsolicited_responses == lives[1].conversation.unsolicited_responses


# ---- audio deltas, without parsing ----

extra_key = st.sampled_from(["event_id", "item_id", "output_index", "content_index", "x", "typed", "delta_id"])
response_ids = st.sampled_from(["r1", "resp_DkR7q", "", 'q"uote', "b\\ack", "ü"]) | st.none() | text
audio_text = st.integers(0, 60).map(lambda size: base64.b64encode(bytes(range(size))).decode())


@st.composite
def audio_frames(draw):
    """An audio delta, or nearly one, in any spelling that JSON allows."""
    body = {
        "type": draw(st.sampled_from(["response.audio.delta", "response.output_audio.delta"])),
        "response_id": draw(response_ids),
        "delta": draw(audio_text),
        **draw(st.dictionaries(extra_key, json_value, max_size=4)),
    }
    if draw(st.integers(0, 9)) == 0:
        body[draw(st.sampled_from(["type", "response_id", "delta"]))] = draw(json_value)
    if draw(st.integers(0, 9)) == 0:
        del body[draw(st.sampled_from(["type", "response_id", "delta"]))]
    order = draw(st.permutations(sorted(body)))
    separators = draw(st.sampled_from([(",", ":"), (",", ":"), (", ", ": "), (" , ", ":")]))
    return json.dumps(
        {key: body[key] for key in order}, separators=separators, ensure_ascii=draw(st.booleans())
    ).encode("utf-8", "replace")


@settings(max_examples=PROFILE * 4)
@given(frame=audio_frames())
def test_a_sniffed_audio_delta_is_what_a_full_parse_would_find(frame):
    sniffed = sniff_audio_delta(frame)
    if sniffed is None:
        return
    body = json.loads(frame)
    assert body["type"] in ("response.audio.delta", "response.output_audio.delta")
    assert sniffed.response_id == body["response_id"]
    assert bytes(sniffed.audio).decode() == body["delta"]
    with suppress(ValueError):  # what is no base64 has no size
        assert sniffed.size_bytes == len(base64.b64decode(body["delta"], validate=True))


BEHIND_THE_TYPE = ("event_id", "response_id", "item_id", "output_index", "content_index", "delta")


@given(
    order=st.permutations(BEHIND_THE_TYPE),
    size=st.integers(1, 60),
    serving=st.sampled_from(FLAVOURS),
)
def test_the_services_own_spelling_is_always_sniffed(order, size, serving):
    """Compact JSON, plain ids, the type first."""
    event = ev.AudioDelta(response_id="resp_1", item_id="item_1", audio=base64.b64encode(bytes(size)), size_bytes=size)
    frame = serving.encode(event, "event_1")
    sniffed = sniff_audio_delta(orjson.dumps({key: frame[key] for key in ("type", *order)}))
    assert sniffed == replace(event, item_id=None)
    assert sniff_audio_delta(serving.encode_audio_delta(event, "event_1")) == sniffed


@given(data=st.binary(max_size=200), junk=st.binary(max_size=5))
def test_the_size_of_base64_is_that_of_its_bytes(data, junk):
    encoded = base64.b64encode(data)
    framed = junk + encoded + junk
    assert base64_size(framed, len(junk), len(junk) + len(encoded)) == len(data)


# ---- pacing ----

audio_format = st.sampled_from(list(FORMATS.values()))
frame_ms = st.sampled_from([10, 20, 40, 60, 100, 200])


@given(samples=st.integers(0, 5000), fmt=audio_format, frame=frame_ms)
def test_pieces_join_to_the_original_and_full_frames_are_whole(samples, fmt, frame):
    audio = bytes(number % 251 for number in range(samples * fmt.sample_bytes))
    size = fmt.frame_bytes(frame)
    pieces = pacing.cut(audio, size)
    assert b"".join(pieces) == audio
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(pieces)
    for piece in pieces:
        full = pacing.full_frame(piece, fmt, size)
        assert len(full) == size
        assert full.startswith(piece)
        assert full[len(piece) :] == fmt.silence * ((size - len(piece)) // fmt.sample_bytes)


@given(start_ns=st.integers(-S, 10**18), frame=frame_ms, number=st.integers(0, 10**6))
def test_due_times_never_decrease_and_never_drift(start_ns, frame, number):
    due_ns = pacing.due_ns(start_ns, number, frame)
    assert due_ns > start_ns
    assert pacing.due_ns(start_ns, number + 1, frame) - due_ns == frame * MS
    assert due_ns - start_ns == (number + 1) * frame * MS


@given(
    speech_end_s=st.floats(0, 36_000),
    frame=frame_ms,
    at_least_ms=st.sampled_from([0, pacing.MIN_COMMIT_MS]),
)
def test_the_frames_that_are_sent_cover_the_speech_and_no_more(speech_end_s, frame, at_least_ms):
    """To the microsecond: a hair of float is no frame."""
    count = pacing.frame_count(speech_end_s, frame, at_least_ms=at_least_ms)
    needed_ms = max(speech_end_s * 1000, at_least_ms)
    assert count * frame >= needed_ms - 0.001
    assert count == 1 or (count - 1) * frame < needed_ms + 0.001


# ---- there and back ----

plain_json = st.dictionaries(text, st.none() | st.integers(0, 9) | text, max_size=3)
short = text.filter(bool)
event_id = st.none() | short


def message(role, *kinds):
    parts = st.lists(st.sampled_from(kinds).flatmap(lambda kind: kind), max_size=2).map(tuple)
    return st.builds(ev.Item, id=st.none() | short, role=st.just(role), content=parts)


asked_item = st.one_of(
    message(
        "user",
        st.builds(ev.Part, type=st.just("input_text"), text=text),
        st.builds(ev.Part, type=st.just("input_audio"), audio=st.just("AAAA"), transcript=st.none() | text),
    ),
    message("system", st.builds(ev.Part, type=st.just("input_text"), text=text)),
    message("assistant", st.builds(ev.Part, type=st.just("text"), text=text)),
    st.builds(ev.Item, id=st.none() | short, type=st.just("function_call"), name=short, call_id=short, arguments=text),
    st.builds(ev.Item, id=st.none() | short, type=st.just("function_call_output"), call_id=short, output=text),
)
client_event = st.one_of(
    st.builds(ev.AppendAudio, audio=audio_text, event_id=event_id),
    st.builds(ev.CommitAudio, event_id=event_id),
    st.builds(ev.ClearAudio, event_id=event_id),
    st.builds(ev.CreateItem, item=asked_item, previous_item_id=st.none() | short, event_id=event_id),
    st.builds(
        ev.TruncateItem, item_id=short, content_index=index, audio_end_ms=st.integers(0, 10**6), event_id=event_id
    ),
    st.builds(ev.DeleteItem, item_id=short, event_id=event_id),
    st.builds(ev.RetrieveItem, item_id=short, event_id=event_id),
    st.builds(ev.CreateResponse, response=st.none() | plain_json, event_id=event_id),
    st.builds(ev.CancelResponse, response_id=st.none() | short, event_id=event_id),
)  # fmt: skip
ASKED = {
    "input_audio_buffer.append": ev.AppendAudio,
    "input_audio_buffer.commit": ev.CommitAudio,
    "input_audio_buffer.clear": ev.ClearAudio,
    "conversation.item.create": ev.CreateItem,
    "conversation.item.truncate": ev.TruncateItem,
    "conversation.item.delete": ev.DeleteItem,
    "conversation.item.retrieve": ev.RetrieveItem,
    "response.create": ev.CreateResponse,
    "response.cancel": ev.CancelResponse,
}


@many_examples
@given(event=client_event, serving=st.sampled_from(FLAVOURS))
def test_a_server_reads_what_a_client_asks(event, serving):
    frame = read_client_frame(serving.dialect.encode(event))
    body = {key: value for key, value in frame.body.items() if key != "type"}
    if "item" in body:
        serving.item(body["item"], "item")
        body["item"] = item_from_wire(body["item"])
    assert ASKED[frame.type](**body) == event
    assert frame.event_id == event.event_id


@given(
    asked=st.builds(
        ev.SessionSettings,
        instructions=st.none() | text,
        voice=st.none() | short,
        modalities=st.sampled_from([None, ("text",), ("audio",), ("text", "audio")]),
        turn_detection=st.none() | st.just({"type": "server_vad"}),
        input_format=audio_format,
        output_format=audio_format,
        transcription=st.none() | st.just({"model": "whisper-1"}),
        tool_choice=st.sampled_from([None, "auto", {"type": "function", "name": "x"}]),
        max_output_tokens=st.sampled_from([None, 7, "inf"]),
    ),
    serving=st.sampled_from(FLAVOURS),
)
def test_a_server_reads_the_session_a_client_asks_for(asked, serving):
    frame = read_client_frame(serving.dialect.encode(ev.UpdateSession(settings=asked, event_id="e1")))
    assert (frame.type, frame.event_id) == ("session.update", "e1")
    assert frame.body["session"] == serving.dialect.session(asked)


told_item = st.one_of(
    message(
        "user",
        st.builds(ev.Part, type=st.just("input_text"), text=text),
        st.builds(ev.Part, type=st.just("input_audio"), transcript=st.none() | text),
    ),
    message(
        "assistant",
        st.builds(ev.Part, type=st.just("text"), text=text),
        st.builds(ev.Part, type=st.just("audio"), transcript=text),
    ),
    st.builds(
        ev.Item, id=short, type=st.just("function_call"), status=st.just("completed"), name=short, call_id=short,
        arguments=text,
    ),
)  # fmt: skip
counted = st.builds(Usage, **{f.name: st.integers(0, 10**6) for f in fields(Usage)})
told_response = st.one_of(
    st.builds(
        ev.Response,
        id=short,
        status=st.sampled_from(["in_progress", "completed"]),
        output=st.lists(told_item, max_size=2).map(tuple),
        usage=st.none() | counted,
        conversation_id=st.none() | short,
        metadata=st.none() | st.dictionaries(text, text, max_size=2),
    ),
    st.builds(ev.Response, id=short, status=st.sampled_from(["cancelled", "incomplete"]), reason=st.none() | text),
    st.builds(
        ev.Response, id=short, status=st.just("failed"), error_type=short, error_code=st.none() | text,
        error_message=st.none() | text,
    ),
)  # fmt: skip
stream_part = st.builds(ev.Part, type=st.just("text"), text=text) | st.builds(
    ev.Part, type=st.just("audio"), transcript=text
)
TOLD_BY_NAME = {
    "item_id": short,
    "response_id": short,
    "item": told_item,
    "part": stream_part,
    "response": told_response,
    "output_index": index,
    "content_index": index,
    "session": plain_json,
    "limits": st.lists(plain_json, max_size=2).map(tuple),
    "usage": st.none() | plain_json.filter(bool),
    "audio_start_ms": st.none() | st.integers(0, 10**6),
    "audio_end_ms": st.integers(0, 10**6),
    "previous_item_id": st.none() | short,
    "id": st.none() | short,
    "code": st.none() | short,
    "client_event_id": st.none() | short,
    "type": short,
    "param": st.none() | short,
    "name": st.none() | short,
    "call_id": short,
}
told_event = st.sampled_from([event for event in SERVER_NAMES if event is not ev.AudioDelta]).flatmap(
    lambda event: st.builds(event, **{f.name: TOLD_BY_NAME.get(f.name, text) for f in fields(event)})
)


def as_read(event, serving):
    """What a client can know of ``event``: the first preview told less of its responses."""
    if serving.full_response or not isinstance(event, ev.ResponseCreated | ev.ResponseDone):
        return event
    return type(event)(response=replace(event.response, conversation_id=None, metadata=None))


@settings(max_examples=PROFILE * 4)
@given(event=told_event, serving=st.sampled_from(FLAVOURS))
def test_a_client_reads_what_a_server_tells(event, serving):
    frame = serving.encode(event, "event_1")
    assume(frame is not None)
    assert serving.dialect.decode(orjson.dumps(frame)) == as_read(event, serving)


@pytest.mark.parametrize("serving", FLAVOURS, ids=lambda serving: serving.name)
@given(event=told_event)
def test_what_a_flavour_does_not_have_is_not_told(serving, event):
    untold = serving.dialect.server_names[type(event)] is None or type(event) in serving.muted
    assert (serving.encode(event, "event_1") is None) == untold
