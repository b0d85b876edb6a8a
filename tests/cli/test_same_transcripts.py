"""However a target is reached and spoken to, the same audio comes back as the same words, and the truth file agrees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
from identity_endpoint import IdentityEndpoint

from rteval.simulator.process import Simulator

from .conftest import FAST, ROOT

KEY = "key-of-the-test-0123456789abcdef"
BEHAVIOUR = {"ttfa_ms": 30, "speed": 100, "transcription": {"delay_ms": 20}}
PATHS = {
    "ga": "/openai/v1/realtime?model=m",
    "preview": "/openai/realtime?api-version=2025-04-01-preview&deployment=m",
}
SCENARIO = """\
target: {provider: custom, dialect: DIALECT, url: URL, AUTH}
session:
  modalities: [audio]
  turn_detection: DETECTION
  input_audio_format: FORMAT
  output_audio_format: FORMAT
  transcription: whisper-1
dataset: {path: DATASET, ids: [yes-correct, lost-card, opening-hours]}
conversation: {wait_for_playback: false}
load: {sessions: 3, pacing: PACING}
limits: {loop_lag_ms: 5000, send_lag_ms: 5000}
gates: [error_rate <= 0]
"""
# Every pair of values of any two columns occurs in some row.
ROWS = [
    ("ga", "ws", "key", "manual", "pcm16"),
    ("ga", "wss", "entra", "vad", "g711_ulaw"),
    ("preview", "ws", "entra", "manual", "g711_alaw"),
    ("preview", "wss", "key", "vad", "pcm16"),
    ("ga", "ws", "key", "vad", "g711_alaw"),
    ("preview", "wss", "entra", "manual", "pcm16"),
    ("preview", "ws", "key", "manual", "g711_ulaw"),
    ("ga", "wss", "entra", "manual", "g711_alaw"),
]


@pytest.fixture(scope="module")
def identity() -> Iterator[Any]:
    with IdentityEndpoint(token="token-of-the-test-0123456789") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, identity: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    truth = tmp_path_factory.mktemp("truth") / "truth.jsonl"
    with Simulator(
        datasets=[ROOT / "datasets" / "support"],
        behaviour=BEHAVIOUR,
        truth=truth,
        tls=request.param == "wss",
        api_key=KEY,
        token=identity.token,
    ) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def heard() -> dict[str, str]:
    """What came back first for each item; every other way has to agree."""
    return {}


def agrees_with_truth(folder: Path, truth_path: Path) -> pd.DataFrame:
    """Every turn has one truth line, which names its item, its words and its errors; nothing arrived before it left."""
    turns = pd.read_parquet(folder / "turns.parquet")
    truth = pd.DataFrame([orjson.loads(line) for line in truth_path.read_bytes().splitlines()])
    both = turns.merge(truth, on="response_id", suffixes=("", "_truth"), validate="one_to_one")
    assert len(both) == len(turns) == 3
    assert (both.item == both.item_truth).all()
    assert (both.input_ref_words == both.ref_words).all()
    errors = both.input_substitutions + both.input_deletions + both.input_insertions
    assert (errors == both.word_errors).all()
    assert (both.first_audio_ns >= both.t_first_audio_ns).all()
    return both


def test_word_errors_are_those_that_the_server_made(rteval: Any, scenario: Any) -> None:
    text = FAST.replace("delay_ms: 20", "delay_ms: 20, word_error_rate: 0.4")
    result = rteval("run", scenario(text, more="gates: [input_wer > 0]\n"))
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert agrees_with_truth(folder, folder / "truth.jsonl").word_errors.sum() > 0


@pytest.mark.parametrize(
    ("dialect", "server", "auth", "mode", "fmt"), ROWS, ids=["-".join(row) for row in ROWS], indirect=["server"]
)
def test_same_audio_same_words(
    dialect: str,
    auth: str,
    mode: str,
    fmt: str,
    server: Any,
    identity: Any,
    heard: dict[str, str],
    rteval: Any,
    scenario: Any,
) -> None:
    how = "auth: api_key, api_key_env: TEST_KEY" if auth == "key" else "auth: entra"
    how += f", ca_file: {server.ca_file}" if server.ca_file else ""
    text = SCENARIO
    for word, value in {
        "DIALECT": dialect,
        "URL": f'"{server.url}{PATHS[dialect]}"',
        "AUTH": how,
        "DETECTION": "none" if mode == "manual" else "{type: server_vad, silence_duration_ms: 500}",
        "FORMAT": fmt,
        "PACING": "fast" if mode == "manual" else "realtime",
    }.items():
        text = text.replace(word, value)
    result = rteval("run", scenario(text), env={"TEST_KEY": KEY, **identity.env})
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    turns = pd.read_parquet(folder / "turns.parquet").set_index("item")
    for item, transcript in turns.input_transcript.items():
        assert heard.setdefault(str(item), transcript) == transcript

    agrees_with_truth(folder, server.truth_path)

    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert KEY.encode() not in content, file
            assert identity.token.encode() not in content, file


def test_one_token_serves_all_runs_of_a_process(identity: Any) -> None:
    """Each run above asked once, whatever the number of its sessions; azure-identity caches below that."""
    assert identity.requests <= len([row for row in ROWS if row[2] == "entra"])
