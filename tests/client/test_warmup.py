"""The canned conversation is a whole one: every turn of it ends well, in every dialect and format."""

from __future__ import annotations

from typing import Any

import pytest

from rteval.client.warmup import warm_up
from rteval.formats import FORMATS
from rteval.realtime.dialects import DIALECTS
from rteval.realtime.events import SessionSettings
from rteval.realtime.turn import Mode
from rteval.records import Outcome, TranscriptOutcome

SETTINGS = [
    pytest.param({}, id="nothing asked"),
    *(pytest.param({"input_format": fmt, "output_format": fmt}, id=name) for name, fmt in FORMATS.items()),
    pytest.param({"modalities": ("text",)}, id="text only"),
    pytest.param({"turn_detection": {"type": "server_vad"}, "transcription": {"model": "whisper-1"}}, id="detection"),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_turn_of_the_canned_conversation_ends_well(dialect: Any, settings: dict[str, Any]) -> None:
    rows = warm_up(dialect, SessionSettings(**settings), rounds=2)
    assert [row.modality for row in rows] == list(Mode)
    for row in rows:
        assert (row.outcome, row.oddities, row.unknown_events) == (Outcome.OK, (), 0)
        assert row.first_audio_ns is not None
        assert row.leading_silence_ms == 100
        assert row.output_transcript == "Hello."
        assert (row.input_transcript is None) == (row.modality == Mode.TEXT)
        assert row.transcript_outcome is (TranscriptOutcome.OFF if row.modality == Mode.TEXT else TranscriptOutcome.OK)
