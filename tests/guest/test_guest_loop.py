"""The asyncio loop inside a gevent hub, in processes of its own: patching is for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("guest_of_a_hub.py")
KINDS = [("patched", "uvloop"), ("unpatched", "uvloop"), ("patched", "selector")]


@pytest.mark.parametrize(("patching", "loop"), KINDS, ids=[" ".join(kind) for kind in KINDS])
def test_everything_works_in_the_loop_and_in_the_hub_at_the_same_time(patching: str, loop: str) -> None:
    """Tasks, errors, threads, names, sockets; and neither side keeps the other from running."""
    result = subprocess.run(
        [sys.executable, PROGRAM, patching, loop], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen.pop("threads") < 3.5, "the threads waited for one another"
    assert seen.pop("addresses") > 0
    if loop == "uvloop":
        assert seen.pop("asyncio for others") == 3
    assert seen == {
        "answers": True,
        "raised": "what the coroutine raised",
        "echo": "over a socket\n",
        "beside a busy hub": 1,
        "beside a busy loop": 20,
        "killed": ["begun", "cancelled"],
        "stopped": ["begun", "cancelled", None],
    }
