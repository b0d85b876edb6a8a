"""What worker processes say before they end reaches whoever waits for them, whatever it looks like."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rteval.local_workers import LocalWorkers

Ended = Callable[[str, int], list[str | None]]


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """The failures that are told of workers that run some code of the test's instead."""

    def run(code: str, count: int) -> list[str | None]:
        (tmp_path / "sitecustomize.py").write_text(f"import os, sys\n{code}")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

        async def main() -> list[str | None]:
            local = LocalWorkers(count, host="127.0.0.1", port=9, token=None, out=tmp_path, charts=False)
            async with asyncio.timeout(90), local:
                while (failure := local.failure()) is None:
                    await local.wait()
                return [failure]

        return asyncio.run(main())

    return run


def test_a_worker_that_says_a_very_long_line_is_heard_to_its_end(ended: Ended) -> None:
    said = "'x' * 1_000_000 + '\\nerror: the last word\\n'"
    (told,) = ended(f"sys.stderr.write({said}); sys.stderr.flush(); os._exit(7)", 1)
    assert told == "worker process 1 ended with exit code 7: the last word"


def test_what_one_worker_said_is_not_told_of_another(ended: Ended) -> None:
    (told,) = ended("sys.stderr.write(f'error: I am one\\nhint: of two\\n'); sys.stderr.flush(); os._exit(2)", 2)
    assert told == "worker process 1 ended with exit code 2: I am one"


def test_a_worker_that_ends_without_a_word_is_told_of(ended: Ended) -> None:
    assert ended("os._exit(3)", 1) == ["worker process 1 ended with exit code 3: it gave no reason"]


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        pytest.param("Traceback\nKeyError: hush-hush", 70, "a bug in rteval", id="a bug"),
        pytest.param("error: one\nKeyError: hush-hush", 70, "a bug in rteval", id="a bug after an error"),
        pytest.param("Traceback\nKeyError: hush-hush", 1, "it gave no reason", id="no word of error"),
        pytest.param("error: api-key: hush-hush is refused", 3, "api-key: *** is refused", id="a key by its looks"),
    ],
)
def test_no_secret_that_a_worker_lets_slip_is_told(ended: Ended, said: str, code: int, reason: str) -> None:
    (told,) = ended(f"sys.stderr.write({said!r} + '\\n'); sys.stderr.flush(); os._exit({code})", 1)
    assert told == f"worker process 1 ended with exit code {code}: {reason}"


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_worker_that_was_killed_is_told_of_by_the_signal(ended: Ended) -> None:
    assert ended("import signal; os.kill(os.getpid(), signal.SIGKILL)", 1) == [
        "worker process 1 was ended by SIGKILL: it gave no reason"
    ]


def test_a_worker_whose_master_dies_before_it_has_joined_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "rteval", "worker", "--master", address, "--max-wait", "100", "--tied"]
        ended = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr == b"error: the master went away before the run began\n"
