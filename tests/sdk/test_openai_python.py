"""The vendor's Python SDK, old and new, each in a virtual environment of its own, against ``rteval simulate``."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rteval import audio
from rteval.corpus import load_dataset
from rteval.formats import FORMATS
from rteval.simulator.process import Simulator

pytestmark = [
    pytest.mark.sdk,
    pytest.mark.skipif(
        not os.environ.get("RTEVAL_TEST_SDK"), reason="set RTEVAL_TEST_SDK=1: installs openai from PyPI"
    ),
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("drive_openai.py")
DATASET = ROOT / "datasets" / "support"
KEY = "key-of-the-sdk-tests-0001"

# An old version that has both client.realtime and client.beta.realtime, and whatever is newest.
VERSIONS = {"1.109.1": "openai[realtime]==1.109.1", "newest": "openai[realtime]"}

SURFACES = {
    # The GA object of the Azure class dials the preview address, so the preview dialect is on its wire.
    "azure-beta": {"client": "azure", "api": "beta", "path": "/openai", "wire": "preview"},
    "azure-ga": {"client": "azure", "api": "ga", "path": "/openai", "wire": "preview"},
    "plain-beta": {"client": "plain", "api": "beta", "path": "/v1", "wire": "preview"},
    "plain-ga": {"client": "plain", "api": "ga", "path": "/v1", "wire": "ga"},
    "plain-ga-on-azure": {"client": "plain", "api": "ga", "path": "/openai/v1", "wire": "ga"},
}

TEXT_ORDER = {
    "preview": ["session.created", "session.updated", "conversation.item.created", "response.created", "response.done"],
    "ga": [
        "session.created",
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.done",
    ],
}
COMMITTED = "input_audio_buffer.committed"


@pytest.fixture(scope="module", params=VERSIONS)
def sdk(request: pytest.FixtureRequest) -> Path:
    """The interpreter of a virtual environment that has this version."""
    cache = Path(os.environ.get("RTEVAL_SDK_CACHE") or Path(tempfile.gettempdir(), f"rteval-sdk-{getpass.getuser()}"))
    home = cache / f"openai-{request.param}-py{sys.version_info.major}{sys.version_info.minor}"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=120)
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade", "--disable-pip-version-check"]
    result = subprocess.run(
        [*install, VERSIONS[request.param]], capture_output=True, text=True, check=False, timeout=280
    )
    if result.returncode:
        pytest.skip(f"pip could not install {VERSIONS[request.param]}: {result.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """Address of a server that wants the key."""
    with Simulator(datasets=[DATASET], api_key=KEY) as server:
        yield server.url


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A short recording as the raw samples of the session's format, and what is said in it."""
    dataset = load_dataset(DATASET)
    item = min((item for item in dataset.items if item.reference), key=lambda item: item.duration_s)
    samples, rate = dataset.samples(item)
    path = tmp_path_factory.mktemp("spoken") / "item.pcm"
    path.write_bytes(audio.encode(samples, rate, FORMATS["pcm16"]))
    assert item.reference
    return path, item.reference


def in_order(types: list[str], wanted: list[str]) -> bool:
    """Whether ``wanted`` occurs in ``types`` in this order, with anything between."""
    rest = iter(types)
    return all(kind in rest for kind in wanted)


@pytest.fixture(scope="module", params=SURFACES)
def talk(
    request: pytest.FixtureRequest, sdk: Path, simulator: str, spoken: tuple[Path, str]
) -> tuple[str, dict[str, Any]]:
    """The dialect on the wire, and the outcome of each prompt on one surface of one version."""
    setting = SURFACES[request.param]
    task = {**setting, "key": KEY, "websocket_base_url": simulator + setting["path"], "pcm_file": str(spoken[0])}
    run = subprocess.run(
        [sdk, DRIVER], input=json.dumps(task), capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return setting["wire"], json.loads(run.stdout)


@pytest.mark.parametrize("prompt", ["text", "manual", "vad"])
def test_the_sdks_models_accept_every_event(talk: tuple[str, dict[str, Any]], prompt: str) -> None:
    assert talk[1][prompt]["problems"] == []


@pytest.mark.parametrize("prompt", ["text", "manual", "vad"])
def test_the_sdk_gets_a_spoken_answer(talk: tuple[str, dict[str, Any]], prompt: str) -> None:
    outcome = talk[1][prompt]
    assert outcome["status"] == "completed"
    assert outcome["answer"]
    assert outcome["audio_bytes"] > 4800
    assert outcome["audio_bytes"] % 2 == 0


def test_a_text_prompt_has_its_events_in_order(talk: tuple[str, dict[str, Any]]) -> None:
    wire, outcomes = talk
    assert in_order(outcomes["text"]["types"], TEXT_ORDER[wire])


@pytest.mark.parametrize("prompt", ["manual", "vad"])
def test_audio_is_heard_and_answered(talk: tuple[str, dict[str, Any]], spoken: tuple[Path, str], prompt: str) -> None:
    outcome = talk[1][prompt]
    assert outcome["heard"] == spoken[1]
    assert in_order(outcome["types"], [COMMITTED, "response.created", "response.done"])
    assert ("input_audio_buffer.speech_started" in outcome["types"]) == (prompt == "vad")
