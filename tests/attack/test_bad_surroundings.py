"""A closed stdin, a full disk or a reader that went away: the run says so, and keeps what it has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SCENARIO

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shell redirections and limits of POSIX")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which ``$rteval`` is the command."""
    rteval = f"{sys.executable} -m rteval"
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=120, env={**os.environ, "rteval": rteval}
    )


def test_closed_standard_streams_do_no_harm(here: Path) -> None:
    """The event loop's library aborts the process when a socket gets the number of stdin."""
    done = shell("$rteval run s.yaml --no-progress --run-id one <&- >&-")
    assert done.returncode == 0, done.stderr
    assert (here / "reports" / "s" / "one" / "summary.json").exists()


def test_a_reader_that_went_away_does_not_change_the_exit_code(recorded: Path) -> None:
    done = shell(f"{{ $rteval report {recorded} --json; echo $? >&2; }} | true")
    assert done.stderr.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["check s.yaml", "schema"])
def test_a_stdout_that_takes_nothing_is_a_sentence(command: str, here: Path) -> None:
    done = shell(f"$rteval {command} >/dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to stdout: No space left on device\n"


def test_a_full_disk_ends_the_run_now_and_what_is_on_it_stays(here: Path) -> None:
    (here / "s.yaml").write_text(SCENARIO.replace("{pacing: fast}", "{pacing: fast, repeat: 300}"))
    done = shell("ulimit -f 32; $rteval run s.yaml --no-progress --run-id full")
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    shards = list((here / "reports" / "s" / "full" / "shards").iterdir())
    assert shards[0].stat().st_size > 5_000


def test_an_ascii_terminal_shows_what_it_can(here: Path) -> None:
    (here / "ü").mkdir()
    (here / "ü" / "metadata.jsonl").write_text('{"text": "hello"}\n')
    done = shell("PYTHONIOENCODING=ascii $rteval check s.yaml --set dataset=ü --set gates=[]")
    assert done.returncode == 0, done.stderr
