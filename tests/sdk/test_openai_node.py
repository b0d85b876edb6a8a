"""The vendor's Node SDK, which dials TLS only, against ``rteval simulate --tls``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rteval.simulator.process import Simulator

NODE, NPM = shutil.which("node"), shutil.which("npm")

pytestmark = [
    pytest.mark.sdk,
    pytest.mark.skipif(not os.environ.get("RTEVAL_TEST_SDK"), reason="set RTEVAL_TEST_SDK=1: installs openai from npm"),
    pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed"),
    pytest.mark.timeout(300),
]

DRIVER = Path(__file__).with_name("drive_openai.mjs")
KEY = "key-of-the-sdk-tests-0002"
VERSIONS = ["5.12.2", "latest"]
SURFACES = {
    "azure-beta": {"client": "azure", "api": "beta"},
    "azure-ga": {"client": "azure", "api": "ga"},
    "plain-ga": {"client": "plain", "api": "ga"},
}


@pytest.fixture(scope="module", params=VERSIONS)
def modules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The version and a new folder with its node_modules: npm spoils what is there when it is called again."""
    home = tmp_path_factory.mktemp("openai-node")
    assert NPM
    install = [NPM, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(home)]
    result = subprocess.run(
        [*install, f"openai@{request.param}", "ws@8"], capture_output=True, text=True, check=False, timeout=280
    )
    if result.returncode:
        pytest.skip(f"npm could not install openai@{request.param}: {result.stderr.strip().splitlines()[-1]}")
    return request.param, home


@pytest.fixture(scope="module")
def simulator() -> Iterator[tuple[str, str]]:
    """``https`` address of a server that wants the key, and the file of its certificate authority."""
    with Simulator(tls=True, api_key=KEY) as server:
        yield server.url.replace("wss://", "https://"), str(server.ca_file)


@pytest.mark.parametrize("surface", SURFACES)
def test_the_quickstart_gets_its_answer(modules: tuple[str, Path], simulator: tuple[str, str], surface: str) -> None:
    version, home = modules
    if version == "5.12.2" and SURFACES[surface]["api"] == "ga":
        pytest.skip("openai 5.12.2 has no GA class (it came with 5.17.0)")
    address, authority = simulator
    task = {**SURFACES[surface], "endpoint": address, "key": KEY}
    assert NODE
    run = subprocess.run(
        [NODE, DRIVER, home, json.dumps(task)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": authority},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    outcome: dict[str, Any] = json.loads(run.stdout)
    assert outcome["problem"] is None
    assert outcome["status"] == "completed"
    assert outcome["answer"]
    assert outcome["audio_bytes"] > 4800
    assert outcome["types"][0] == "session.created"
    if surface == "plain-ga":
        assert outcome["wire"] == "ga"
