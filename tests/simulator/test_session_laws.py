"""Laws of a session: whatever a client sends, it is answered, and the bookkeeping holds."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rteval.realtime.dialects.serving import GA_SERVING, PREVIEW_2024_10_SERVING, PREVIEW_SERVING, VOICE_LIVE_SERVING
from rteval.simulator.behaviour import SESSION_FAULTS, TURN_FAULTS, load_behaviour
from rteval.simulator.outlet import Close, Drop, Hear, Send
from rteval.simulator.session import Admission, Session
from rteval.simulator.world import Recognised, World

# 200 ms of silence at 24 kHz, and a piece that is too short to commit.
AUDIO = ["A" * 12_800, "AAAA", "!!"]
IDS = ["item_a", "item_b", "root", "item_none"]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9000)
    | st.floats(-1, 2)
    | st.sampled_from(["auto", "none", "text", "audio"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "name",
                    "function",
                    "format",
                    "input",
                    "output",
                    "turn_detection",
                    "transcription",
                    "model",
                    "voice",
                    "rate",
                    "parameters",
                    "properties",
                    "required",
                    "id",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
SETTINGS = [
    "audio", "output_modalities", "modalities", "instructions", "tools", "tool_choice", "max_output_tokens", "voice",
    "turn_detection", "input_audio_format", "input_audio_transcription", "temperature", "truncation", "metadata",
    "conversation", "input", "max_response_output_tokens", "type",
]  # fmt: skip
objects = st.dictionaries(st.sampled_from(SETTINGS), json_values, max_size=3)
detection = st.sampled_from(
    [None, {"type": "none"}, {"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "low"}]
)
items = st.one_of(
    st.builds(
        lambda id_, text: {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": text}],
            **({"id": id_} if id_ else {}),
        },
        st.none() | st.sampled_from(IDS),
        st.text(max_size=8),
    ),
    st.builds(
        lambda audio: {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}]},
        st.sampled_from(AUDIO),
    ),
    st.just({"type": "message", "role": "user", "content": []}),
    st.just({"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}),
    st.just({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1"}),
    st.just({"type": "function_call_output", "call_id": "call_1", "output": "x"}),
    objects,
)
TOOLS = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}]


def event(type_: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(type_), **fields})


events = st.one_of(
    event("session.update", session=objects),
    event("session.update", session=objects.map(lambda fields: {"type": "realtime", **fields})),
    event("session.update", session=detection.map(lambda value: {"turn_detection": value})),
    event(
        "session.update",
        session=detection.map(lambda v: {"type": "realtime", "audio": {"input": {"turn_detection": v}}}),
    ),
    event("session.update", session=st.just({"type": "realtime", "tools": TOOLS, "tool_choice": "required"})),
    event("input_audio_buffer.append", audio=st.sampled_from(AUDIO)),
    event("input_audio_buffer.commit"),
    event("input_audio_buffer.clear"),
    event("conversation.item.create", item=items, previous_item_id=st.none() | st.sampled_from(IDS)),
    event("conversation.item.delete", item_id=st.sampled_from(IDS)),
    event("conversation.item.retrieve", item_id=st.sampled_from(IDS)),
    event(
        "conversation.item.truncate", item_id=st.sampled_from(IDS), content_index=st.just(0), audio_end_ms=st.just(0)
    ),
    event("response.create"),
    event("response.create", response=objects),
    event("response.create", response=st.just({"conversation": "none", "input": []})),
    event("response.cancel"),
    st.integers(1, 400).map(lambda ms: {"wait_ms": ms}),
)


def play(serving: Any, script: list[dict[str, Any]], faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything that a session says to a script; all its deeds are done, and all its time passes."""
    behaviour = load_behaviour({"ttfa_ms": 50, "faults": faults, "transcription": {"delay_ms": 30}})
    session = Session(
        Admission(serving, "realtime", "m"),
        World(behaviour),
        number=1,
        now_ns=0,
        unix_s=0.0,
        rng=random.Random(7),
    )
    said: list[dict[str, Any]] = []
    now_ns, ended = 0, False
    session.open()

    def do() -> None:
        nonlocal ended
        while effects := session.take():
            for effect in effects:
                if isinstance(effect, Hear):
                    session.heard(effect.item_id, Recognised(voice_end_ms=10.0), now_ns)
                elif isinstance(effect, Send):
                    assert not ended
                    frame = None if effect.binary else _json(effect.data)
                    if isinstance(frame, dict):
                        said.append(frame)
                else:
                    assert isinstance(effect, Close | Drop)
                    ended = True

    do()
    for frame in [*script, {"wait_ms": 60_000}]:
        if "wait_ms" not in frame:
            session.receive(json.dumps(frame).encode(), now_ns)
            do()
            continue
        end_ns = now_ns + frame["wait_ms"] * 1_000_000
        while (due_ns := session.due_ns) is not None and due_ns <= end_ns:
            now_ns = max(now_ns, due_ns)
            session.advance(now_ns)
            do()
        now_ns = end_ns
    session.close()
    return said


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "serving",
    [GA_SERVING, PREVIEW_SERVING, PREVIEW_2024_10_SERVING, VOICE_LIVE_SERVING],
    ids=lambda serving: serving.name,
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(events, max_size=14))
def test_no_client_breaks_a_session(serving, script):
    said = play(serving, script, [])
    ids = [frame["event_id"] for frame in said]
    assert len(set(ids)) == len(ids)
    created = Counter(frame["response"]["id"] for frame in said if frame["type"] == "response.created")
    done = Counter(frame["response"]["id"] for frame in said if frame["type"] == "response.done")
    assert created == done
    assert set(created.values()) <= {1}
    finished: set[str] = set()
    for frame in said:
        if frame["type"] == "response.done":
            finished.add(frame["response"]["id"])
            usage = frame["response"]["usage"]
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
            details = usage["input_token_details"]
            assert details["text_tokens"] + details["audio_tokens"] == usage["input_tokens"]
        assert frame.get("response_id") not in finished
    updates = sum(frame.get("type") == "session.update" for frame in script)
    answered = sum(frame["type"] == "session.updated" for frame in said)
    assert answered <= updates


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(events, max_size=10),
    faults=st.lists(
        st.sampled_from([*TURN_FAULTS, *SESSION_FAULTS]).map(lambda kind: {"kind": kind}), min_size=1, max_size=2
    ),
)
def test_no_fault_breaks_a_session(script, faults):
    play(GA_SERVING, script, faults)
