"""The session as a state machine: a clock of our own, a table for each thing that can go wrong."""

from __future__ import annotations

import base64
import json
import random
from itertools import pairwise
from typing import Any

import pytest

from rteval.corpus import Item
from rteval.formats import PCM16
from rteval.realtime.dialects.serving import GA_SERVING, PREVIEW_SERVING
from rteval.simulator.behaviour import TURN_FAULTS, load_behaviour
from rteval.simulator.outlet import Close, Drop, Hear, Send
from rteval.simulator.session import Admission, Session
from rteval.simulator.truth import TruthLine
from rteval.simulator.voice import speak
from rteval.simulator.world import Recognised, World

MS = 1_000_000
HELLO = Item(id="hello", reference="good morning everybody")
SAID = Recognised(item=HELLO, transcript="good morning everybody", ref_words=3, word_errors=0, voice_end_ms=400.0)


class Bench:
    """One session under a clock that moves when told."""

    def __init__(
        self, *, serving: Any = GA_SERVING, hears: Recognised | None = SAID, ids: int = 1, **behaviour: Any
    ) -> None:
        self.lines: list[TruthLine] = []
        self.frames: list[tuple[int, Any]] = []
        self.ended: Close | Drop | None = None
        self.now_ns = 0
        self.hears = hears
        settings = {"ttfa_ms": 100, "speed": 4, "transcription": {"delay_ms": 50}, **behaviour}
        self.session = Session(
            Admission(serving, "realtime", "test"),
            World(load_behaviour(settings), (), self.lines.append),
            number=1,
            now_ns=0,
            unix_s=1_000_000.0,
            rng=random.Random(ids),
        )
        self.session.open()
        self._do()

    def _do(self) -> None:
        while effects := self.session.take():
            for effect in effects:
                match effect:
                    case Send():
                        if effect.stamp is not None:
                            effect.stamp(self.now_ns)
                        self.frames.append((self.now_ns, _parsed(effect)))
                    case Hear() if self.hears is not None:
                        self.session.heard(effect.item_id, self.hears, self.now_ns)
                    case Close() | Drop():
                        self.ended = effect

    def say(self, type_: str, **fields: Any) -> None:
        self.session.receive(json.dumps({"type": type_, **fields}).encode(), self.now_ns)
        self._do()

    def run(self, seconds: float = 10.0) -> None:
        """Let time pass."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while (due_ns := self.session.due_ns) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.session.advance(self.now_ns)
            self._do()
        self.now_ns = end_ns

    def append(self, audio: bytes) -> None:
        self.say("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    def quiet(self, **audio_in: Any) -> None:
        """Turn detection off."""
        self.say(
            "session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None, **audio_in}}}
        )

    def turn(self) -> None:
        """Half a second of audio, committed, and an answer asked for."""
        self.append(PCM16.silence * 12_000)
        self.say("input_audio_buffer.commit")
        self.say("response.create", event_id="mine")
        self.run()

    @property
    def types(self) -> list[str]:
        return [frame["type"] if isinstance(frame, dict) else "?" for _, frame in self.frames]

    def all(self, type_: str) -> list[Any]:
        return [frame for _, frame in self.frames if isinstance(frame, dict) and frame["type"] == type_]

    def at(self, type_: str) -> int:
        return next(at for at, frame in self.frames if isinstance(frame, dict) and frame["type"] == type_)

    @property
    def response(self) -> Any:
        (done,) = self.all("response.done")
        return done["response"]

    @property
    def audio(self) -> list[bytes]:
        return [base64.b64decode(event["delta"]) for event in self.all("response.output_audio.delta")]


def _parsed(effect: Send) -> Any:
    if effect.binary:
        return effect.data
    try:
        return json.loads(effect.data)
    except ValueError:
        return effect.data


def struck(kind: str, **settings: Any) -> Bench:
    """A bench whose turn was struck by a fault."""
    bench = Bench(faults=[{"kind": kind, **settings}])
    bench.quiet(transcription={"model": "gpt-4o-transcribe"})
    bench.turn()
    return bench


def whole() -> Bench:
    bench = Bench()
    bench.quiet(transcription={"model": "gpt-4o-transcribe"})
    bench.turn()
    return bench


# ---- timing ----


def test_the_first_audio_comes_when_the_behaviour_says():
    bench = whole()
    assert bench.at("response.output_audio.delta") - bench.at("response.created") == 100 * MS


def test_audio_deltas_come_at_the_behaviours_speed():
    bench = whole()
    times = [
        at for at, frame in bench.frames if isinstance(frame, dict) and frame["type"] == "response.output_audio.delta"
    ]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] == 25 * MS
    assert set(gaps[2:]) == {62_500_000}


def test_the_transcription_completes_when_the_behaviour_says():
    bench = whole()
    kind = "conversation.item.input_audio_transcription.completed"
    assert bench.at(kind) - bench.at("input_audio_buffer.committed") == 50 * MS


def test_a_late_recognition_delays_the_answer_and_nothing_else():
    bench = Bench(hears=None)
    bench.quiet()
    bench.turn()
    assert bench.types[-1] == "response.created"
    item_id = bench.all("input_audio_buffer.committed")[0]["item_id"]
    bench.session.heard(item_id, SAID, bench.now_ns)
    bench._do()
    bench.run()
    assert bench.response["status"] == "completed"


def test_the_same_seed_gives_the_same_session():
    assert whole().frames[-1][0] == whole().frames[-1][0]
    assert len(whole().frames) == len(whole().frames)


# ---- truth ----


def test_a_truth_line_holds_what_happened():
    bench = whole()
    (line,) = bench.lines
    assert (line.item, line.ref_words, line.word_errors) == ("hello", 3, 0)
    assert line.response_id == bench.response["id"]
    assert line.t_voice_end_ns == line.t_request_ns == bench.at("response.created")
    assert line.t_first_audio_ns == bench.at("response.output_audio.delta")
    assert line.t_done_ns == bench.at("response.done")


def test_a_truth_line_waits_for_a_late_transcription():
    bench = Bench(faults=[{"kind": "transcription_late", "delay_ms": 2000}])
    bench.quiet(transcription={"model": "whisper-1"})
    bench.append(PCM16.silence * 12_000)
    bench.say("input_audio_buffer.commit")
    bench.say("response.create")
    while not bench.all("response.done"):
        bench.run(0.05)
    assert bench.lines == []
    bench.run()
    assert bench.lines[0].word_errors == 0


def test_without_transcription_nothing_is_counted():
    bench = Bench()
    bench.quiet()
    bench.turn()
    assert (bench.lines[0].item, bench.lines[0].ref_words, bench.lines[0].word_errors) == ("hello", None, None)


def test_a_session_that_ends_leaves_its_open_lines():
    bench = Bench()
    bench.quiet()
    bench.say("response.create")
    bench.session.close()
    (line,) = bench.lines
    assert (line.t_first_audio_ns, line.t_done_ns) == (None, None)


# ---- faults of a turn ----


def test_every_turn_fault_lets_the_session_live_or_ends_it():
    """Whatever strikes, the second turn of a session that is still open is answered as if nothing had been."""
    for kind in TURN_FAULTS:
        bench = Bench(faults=[{"kind": kind, "turns": [1]}])
        bench.quiet(transcription={"model": "whisper-1"})
        bench.turn()
        if bench.ended is not None or kind in ("no_answer", "stall_mid_answer"):
            continue
        before = len(bench.all("response.done"))
        bench.turn()
        done = bench.all("response.done")
        assert len(done) == before + 1, kind
        assert done[-1]["response"]["status"] == "completed", kind


@pytest.mark.parametrize(
    ("kind", "ended"),
    [
        ("drop_before_answer", Drop()),
        ("close_before_answer", Close(1011)),
        ("drop_mid_answer", Drop()),
        ("close_mid_answer", Close(1011)),
    ],
)
def test_the_connection_ends(kind, ended):
    bench = struck(kind, after_deltas=2)
    assert bench.ended == ended
    assert len(bench.audio) == (2 if "mid" in kind else 0)
    assert not bench.all("response.done")


@pytest.mark.parametrize(("kind", "deltas"), [("no_answer", 0), ("stall_mid_answer", 3)])
def test_nothing_more_comes_and_the_connection_stays(kind, deltas):
    bench = struck(kind, after_deltas=3)
    assert bench.ended is None
    assert len(bench.audio) == deltas
    assert not bench.all("response.done")


def test_a_failed_response_costs_nothing():
    response = struck("failed_response", message="It broke.").response
    assert response["status_details"] == {
        "type": "failed",
        "error": {"type": "server_error", "code": "server_error", "message": "It broke."},
    }
    assert response["usage"]["total_tokens"] == 0


def test_a_response_may_fail_without_having_been_created():
    bench = struck("failed_without_created")
    assert bench.response["status"] == "failed"
    assert not bench.all("response.created")


def test_an_empty_response_is_completed():
    response = struck("empty_response").response
    assert (response["status"], response["output"], response["usage"]["output_tokens"]) == ("completed", [], 0)


@pytest.mark.parametrize(
    ("kind", "settings", "status", "reason"),
    [
        ("incomplete_response", {}, "incomplete", "max_output_tokens"),
        ("incomplete_response", {"reason": "content_filter"}, "incomplete", "content_filter"),
        ("cancelled_response", {}, "cancelled", "turn_detected"),
        ("cancelled_response", {"reason": "client_cancelled"}, "cancelled", "client_cancelled"),
    ],
)
def test_an_answer_ends_early(kind, settings, status, reason):
    bench = struck(kind, after_deltas=2, **settings)
    assert bench.response["status_details"] == {"type": status, "reason": reason}
    assert len(bench.audio) == 2
    assert bench.response["output"][0]["status"] == "incomplete"


def test_text_may_come_where_audio_was_asked():
    bench = struck("text_only")
    assert bench.audio == []
    assert bench.response["output"][0]["content"][0]["type"] == "output_text"


def test_audio_may_be_silent():
    assert set(b"".join(struck("silent_audio").audio)) == {0}


def test_the_first_delta_may_be_empty_and_does_not_count():
    bench = struck("empty_first_delta")
    assert bench.audio[0] == b""
    assert b"".join(bench.audio) == b"".join(whole().audio)


@pytest.mark.parametrize(("kind", "sizes"), [("odd_deltas", {4801}), ("one_byte_deltas", {1})])
def test_audio_may_come_in_strange_pieces(kind, sizes):
    bench = struck(kind)
    assert {len(piece) for piece in bench.audio[:-1]} == sizes
    assert b"".join(bench.audio) == b"".join(whole().audio)


def test_deltas_may_come_after_the_end():
    bench = struck("deltas_after_done", count=3)
    assert bench.types[-3:] == ["response.output_audio.delta"] * 3


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("malformed_json", b'{"type":"response.output_audio.delta","delta":'),
        ("binary_frame", b"\x00\x01\x02"),
        ("not_an_object", [1, 2, 3]),
    ],
)
def test_a_strange_frame_comes_and_the_answer_goes_on(kind, frame):
    bench = struck(kind)
    assert frame in [said for _, said in bench.frames]
    assert bench.response["status"] == "completed"


def test_an_unknown_event_comes():
    assert struck("unknown_event").all("response.surprise.added")


@pytest.mark.parametrize(("kind", "nameless"), [("error_event", False), ("error_event_without_id", True)])
def test_an_error_comes_and_the_answer_goes_on(kind, nameless):
    bench = struck(kind, code="vector_store_down")
    (error,) = bench.all("error")
    assert (error["error"]["code"], error["event_id"] is None) == ("vector_store_down", nameless)
    assert bench.response["status"] == "completed"


def test_a_create_may_be_refused_once():
    bench = struck("create_refused")
    (error,) = bench.all("error")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert error["error"]["event_id"] == "mine"
    bench.say("response.create")
    bench.run()
    assert bench.response["status"] == "completed"


def test_a_commit_may_be_refused_once():
    bench = struck("commit_refused")
    assert bench.all("error")[0]["error"]["code"] == "input_audio_buffer_commit_empty"


def test_committed_may_come_after_the_item():
    types = struck("committed_after_item").types
    assert types.index("conversation.item.added") < types.index("input_audio_buffer.committed")


def test_parts_may_come_as_content():
    (added,) = struck("content_for_part").all("response.content_part.added")
    assert added["content"] == {"type": "audio", "transcript": ""}
    assert "part" not in added


def test_a_response_may_be_rate_limited():
    bench = struck("rate_limited")
    assert bench.all("error")[0]["error"]["code"] == "rate_limit_exceeded"
    assert bench.response["status_details"]["error"]["code"] == "rate_limit_exceeded"


TRANSCRIBED = "conversation.item.input_audio_transcription."


def test_a_transcription_may_fail():
    bench = struck("transcription_failed")
    (failed,) = bench.all(f"{TRANSCRIBED}failed")
    assert failed["error"]["message"].startswith("Input transcription failed for item 'item_")
    assert not bench.all(f"{TRANSCRIBED}completed")
    assert (bench.lines[0].ref_words, bench.lines[0].word_errors) == (None, None)


def test_a_transcription_may_never_come():
    bench = struck("transcription_missing")
    assert not [kind for kind in bench.types if kind.startswith(TRANSCRIBED)]
    assert len(bench.lines) == 1


def test_a_transcription_may_come_after_the_answer():
    bench = struck("transcription_late", delay_ms=700)
    assert bench.at(f"{TRANSCRIBED}completed") - bench.at("response.done") == 700 * MS


def test_a_transcription_may_come_before_its_item():
    types = struck("transcription_before_item").types
    user_item = types.index("conversation.item.done") - 1
    assert types[user_item] == "conversation.item.added"
    assert types.index(f"{TRANSCRIBED}completed") < user_item


# ---- faults of a session ----


def test_the_greeting_may_be_missing():
    bench = Bench(faults=[{"kind": "session_created_missing"}])
    bench.quiet()
    assert bench.frames == []


def test_the_greeting_may_come_twice():
    assert Bench(faults=[{"kind": "session_created_twice"}]).types == ["session.created"] * 2


@pytest.mark.parametrize(
    ("fault", "types"),
    [
        ({"kind": "session_updated_missing"}, []),
        ({"kind": "session_updated_twice"}, ["session.updated"] * 2),
        ({"kind": "session_update_refused", "code": "invalid_value"}, ["error"]),
    ],
    ids=["missing", "twice", "refused"],
)
def test_an_update_may_be_answered_strangely(fault, types):
    bench = Bench(faults=[fault])
    bench.quiet()
    assert bench.types == ["session.created", *types]


def test_an_update_may_be_answered_late():
    bench = Bench(faults=[{"kind": "session_updated_late", "delay_ms": 800}])
    bench.quiet()
    bench.run()
    assert bench.at("session.updated") == 800 * MS


@pytest.mark.parametrize(
    ("behaviour", "at_ms"),
    [({"session_max_s": 2}, 2000), ({"faults": [{"kind": "session_expired", "delay_ms": 300}]}, 300)],
    ids=["limit", "fault"],
)
def test_a_session_expires_with_an_error_and_1001(behaviour, at_ms):
    bench = Bench(**behaviour)
    bench.run()
    assert bench.at("error") == at_ms * MS
    assert bench.all("error")[0]["error"]["code"] == "session_expired"
    assert bench.ended == Close(1001, "session expired")


# ---- rate limits ----


@pytest.mark.parametrize(
    ("updated", "place"),
    [("after_created", 1), ("before_done", -2), ("after_done", -1), ("never", None)],
)
def test_limits_are_told_where_the_behaviour_says(updated, place):
    bench = Bench(rate_limits={"updated": updated})
    bench.quiet()
    bench.say("response.create")
    bench.run()
    types = bench.types[bench.types.index("response.created") :]
    assert (types.index("rate_limits.updated") % len(types) if place else None) == (
        place % len(types) if place else None
    )


@pytest.mark.parametrize(("entries", "names"), [("all", ["requests", "tokens"]), ("tokens", ["tokens"]), ("none", [])])
def test_limits_list_what_the_behaviour_says(entries, names):
    bench = Bench(rate_limits={"entries": entries})
    bench.quiet()
    bench.say("response.create")
    bench.run()
    (event,) = bench.all("rate_limits.updated")
    assert [entry["name"] for entry in event["rate_limits"]] == names
    assert all(0 <= entry["remaining"] <= entry["limit"] for entry in event["rate_limits"])


def test_responses_beyond_the_quota_fail():
    bench = Bench(rate_limits={"requests_per_minute": 2})
    bench.quiet()
    for _ in range(3):
        bench.say("response.create")
        bench.run(1.0)
        bench.run(8.0)
    statuses = [event["response"]["status"] for event in bench.all("response.done")]
    assert statuses == ["completed", "completed", "failed"]


# ---- audio ----


def spoken() -> bytes:
    return PCM16.silence * 12_000 + speak("one two three four five", PCM16) + PCM16.silence * 24_000


@pytest.mark.parametrize("step", [1_920, 4_800, 48_001, 1_000_000], ids=["40 ms", "100 ms", "odd", "at once"])
def test_how_audio_is_cut_into_appends_changes_nothing(step):
    bench = Bench()
    audio = spoken()
    for at in range(0, len(audio), step):
        bench.append(audio[at : at + step])
    bench.run()
    started, stopped = bench.all("input_audio_buffer.speech_started"), bench.all("input_audio_buffer.speech_stopped")
    assert len(started) == len(stopped) == len(bench.all("response.done")) == 1
    reference = Bench()
    reference.append(audio)
    (other,) = reference.all("input_audio_buffer.speech_stopped")
    assert stopped[0]["audio_end_ms"] == other["audio_end_ms"]


def test_media_time_goes_on_over_turns_clears_and_formats():
    bench = Bench()
    bench.append(spoken())
    bench.run()
    bench.say("input_audio_buffer.clear")
    bench.append(spoken())
    bench.run()
    first, second = bench.all("input_audio_buffer.speech_started")
    assert second["audio_start_ms"] - first["audio_start_ms"] == pytest.approx(len(spoken()) / 48, abs=30)


def test_detection_off_in_the_behaviour_hears_nothing():
    bench = Bench(vad=False)
    bench.append(spoken())
    bench.run()
    assert bench.types == ["session.created"]


@pytest.mark.parametrize("vad", [True, False], ids=["vad", "deaf"])
def test_a_session_keeps_little_of_what_nobody_said(vad):
    bench = Bench(vad=vad)
    for _ in range(600):
        bench.append(PCM16.silence * 2_400)
    assert bench.session._intake.kept_ms < 2_500


def test_silence_after_an_utterance_is_not_part_of_it():
    bench = Bench()
    bench.append(spoken())
    bench.run()
    item_id = bench.all("input_audio_buffer.committed")[0]["item_id"]
    bench.say("conversation.item.retrieve", item_id=item_id)
    (event,) = bench.all("conversation.item.retrieved")
    started, stopped = (
        bench.all("input_audio_buffer.speech_started")[0],
        bench.all("input_audio_buffer.speech_stopped")[0],
    )
    length = stopped["audio_end_ms"] - started["audio_start_ms"]
    assert len(base64.b64decode(event["item"]["content"][0]["audio"])) == pytest.approx(length * 48, abs=100)


def test_the_voice_cannot_change_once_it_was_heard():
    bench = Bench()
    bench.quiet()
    bench.say("response.create")
    bench.run()
    bench.say("session.update", session={"type": "realtime", "audio": {"output": {"voice": "echo"}}})
    assert bench.all("error")[0]["error"]["code"] == "cannot_update_voice"


def test_the_first_preview_response_object_is_short():
    from rteval.realtime.dialects.serving import PREVIEW_2024_10_SERVING

    bench = Bench(serving=PREVIEW_2024_10_SERVING)
    bench.say("session.update", session={"turn_detection": {"type": "none"}})
    bench.say("response.create")
    bench.run()
    assert set(bench.response) == {"object", "id", "status", "status_details", "output", "usage"}


def test_the_preview_response_object_echoes_flat_settings():
    bench = Bench(serving=PREVIEW_SERVING)
    bench.say("session.update", session={"turn_detection": None, "voice": "echo"})
    bench.say("response.create", response={"max_output_tokens": 500, "temperature": 0.7})
    bench.run()
    response = bench.response
    assert (response["voice"], response["max_output_tokens"], response["temperature"]) == ("echo", 500, 0.7)


# ---- a caller who says nothing ----

IDLE_MS = 5_000


def waiting(**detection: Any) -> Bench:
    """A session with an idle timeout whose first turn was answered, and whose caller is silent."""
    bench = Bench(speed=0)
    wanted = {"type": "server_vad", "idle_timeout_ms": IDLE_MS, **detection}
    bench.say("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": wanted}}})
    bench.append(spoken())
    bench.run()
    return bench


def hush(bench: Bench, ms: float) -> None:
    """So many milliseconds of silence, in appends of 100 ms."""
    for _ in range(round(ms / 100)):
        bench.append(PCM16.silence * 2_400)
    bench.run()


def test_silence_after_an_answer_becomes_a_turn():
    bench = waiting()
    playing_ms = sum(map(len, bench.audio)) / 48
    media_ms = len(spoken()) / 48
    hush(bench, playing_ms + IDLE_MS - 200)
    assert len(bench.all("response.done")) == 1
    seen = len(bench.frames)
    hush(bench, 400)
    (event,) = bench.all("input_audio_buffer.timeout_triggered")
    assert event["audio_start_ms"] == pytest.approx(media_ms + playing_ms, abs=2)
    assert event["audio_end_ms"] - event["audio_start_ms"] == pytest.approx(IDLE_MS, abs=100)
    told = [frame for _, frame in bench.frames[seen:]]
    assert [frame["type"] for frame in told][:5] == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert {told[0]["item_id"]} == {told[1]["item_id"], told[2]["item"]["id"], told[3]["item"]["id"]}
    assert len(bench.all("response.done")) == 2
    bench.say("conversation.item.retrieve", item_id=event["item_id"])
    audio = base64.b64decode(bench.all("conversation.item.retrieved")[0]["item"]["content"][0]["audio"])
    assert len(audio) / 48 == pytest.approx(event["audio_end_ms"] - event["audio_start_ms"], abs=2)


def test_silence_before_the_first_answer_is_no_turn():
    bench = Bench()
    bench.say(
        "session.update",
        session={
            "type": "realtime",
            "audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": IDLE_MS}}},
        },
    )
    hush(bench, 3 * IDLE_MS)
    assert not bench.all("input_audio_buffer.timeout_triggered")


def test_without_an_idle_timeout_silence_is_no_turn():
    bench = waiting(idle_timeout_ms=None)
    hush(bench, sum(map(len, bench.audio)) / 48 + 2 * IDLE_MS)
    assert not bench.all("input_audio_buffer.timeout_triggered")


def test_a_caller_who_speaks_in_time_is_not_timed_out():
    bench = waiting()
    hush(bench, IDLE_MS - 1_000)
    bench.append(spoken())
    hush(bench, 1_000)
    assert len(bench.all("response.done")) == 2
    assert not bench.all("input_audio_buffer.timeout_triggered")


# ---- what must not depend on chance, or grow ----


def test_what_is_not_recognised_is_answered_by_the_seed_and_not_by_its_ids():
    def first_audio(ids: int, seed: int) -> list[int]:
        bench = Bench(hears=Recognised(), ids=ids, seed=seed, ttfa_ms={"uniform": [0, 1000]})
        bench.quiet()
        bench.turn()
        bench.turn()
        return [at for at, frame in bench.frames if frame["type"] == "response.output_audio.delta"]

    assert first_audio(1, 0) == first_audio(2, 0) != first_audio(1, 1)


def test_a_truth_line_waits_for_no_transcription_that_is_not_under_way():
    """Audio is transcribed when it is committed: not in an item that the client made, nor when it is asked later."""
    bench = Bench()
    bench.quiet()
    bench.append(PCM16.silence * 12_000)
    bench.say("input_audio_buffer.commit")
    bench.quiet(transcription={"model": "gpt-4o-transcribe"})
    bench.say("response.create")
    bench.run()
    content = [{"type": "input_audio", "audio": base64.b64encode(bytes(9_600)).decode()}]
    bench.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    bench.say("response.create")
    bench.run()
    assert [line.word_errors for line in bench.lines] == [None, None]


def test_every_response_to_an_utterance_has_its_counts():
    bench = Bench(transcription={"delay_ms": 5_000})
    bench.quiet(transcription={"model": "gpt-4o-transcribe"})
    bench.append(PCM16.silence * 12_000)
    bench.say("input_audio_buffer.commit")
    for _ in range(3):
        bench.say("response.create", response={"conversation": "none"})
    bench.run()
    assert [(line.item, line.ref_words, line.word_errors) for line in bench.lines] == [("hello", 3, 0)] * 3


def test_a_turn_that_waits_for_the_answer_before_it_was_seen_when_it_ended():
    bench = Bench(speed=1)
    wanted = {"type": "server_vad", "interrupt_response": False}
    bench.say("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": wanted}}})
    bench.append(spoken())
    bench.run(0.5)
    bench.append(spoken())
    seen_ns = bench.now_ns
    bench.run(60)
    assert len(bench.lines) == 2
    assert bench.lines[1].t_request_ns == seen_ns < bench.at("response.done")


def test_a_conversation_keeps_so_much_audio_and_no_more():
    bench = Bench(speed=0)
    bench.quiet()
    for _ in range(40):
        bench.say("response.create")
        bench.run()
    items = bench.session._scope.conversation.items.values()
    kept = [sum(map(len, item.audio)) for item in items]
    assert sum(kept) <= 4_000_000 < 40 * max(kept)
    assert kept[0] == 0 < kept[-1]
