"""Input that no one would write on purpose ends with one sentence and exit code 2."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import SCENARIO

SETS = [
    pytest.param('description="\\ud800"', "not valid Unicode", id="half a character"),
    pytest.param('labels={"\\ud800": x}', "not valid Unicode", id="half a character in a key"),
    pytest.param("description=${NOT_UTF8}", "variable NOT_UTF8 is not valid Unicode", id="variable of other bytes"),
    pytest.param('session.voice="${A:-${B}}"', "cannot hold another variable", id="variable in a default"),
    pytest.param("target.timeouts.response_s=1e300", "at most 1000000", id="endless timeout"),
    pytest.param("conversation.think_time_s=1e300", "at most 1000000", id="endless pause"),
    pytest.param("load.ramp_s=1e300", "at most 1000000", id="endless ramp"),
    pytest.param("load.repeat=1000000001", "1000000 is the most", id="more turns than memory"),
    pytest.param("report.formats=[pdf]", "one of markdown, junit, html", id="unknown report"),
    pytest.param('target.headers.X="\U0001f642"', "use ASCII", id="header that cannot be sent"),
    pytest.param("target.proxy=http://", "is no address", id="proxy without host"),
    pytest.param("target.proxy=http://127.0.0.1:99999", "is no address", id="proxy without port"),
    pytest.param(".".join("a" * 500) + "=1", "expected PATH=VALUE", id="endless path"),
    pytest.param("dataset=" + "x" * 5000, "File name too long", id="endless folder"),
    pytest.param("session.instructions={file: /dev/zero}", "larger than 1000000", id="endless file"),
]


@pytest.mark.parametrize(("entry", "sentence"), SETS)
def test_a_wrong_value_is_a_sentence(entry: str, sentence: str, rteval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_UTF8", os.fsdecode(b"\xff"))
    result = rteval("check", "s.yaml", "--set", entry)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


URLS = [
    "ws://a..b/",
    "ws://./",
    "ws://a b/",
    "ws://127.0.0.1:1/#x",
    f"ws://{'é' * 64}.invalid/",
    "ws://127.0.0.1:99999/",
]


@pytest.mark.parametrize("url", URLS)
def test_an_address_that_cannot_be_dialled_is_found_before_the_run(url: str, rteval: Any) -> None:
    result = rteval("check", "s.yaml", "--set", "target.provider=custom", "--set", f'target.url="{url}"')
    assert result.exit_code == 2
    assert "target.url" in result.stderr


def test_nesting_without_end_is_told_at_once(here: Path, rteval: Any) -> None:
    """The YAML parser takes a minute for this file if it is let."""
    (here / "deep.yaml").write_text("a: " + "[" * 5000 + "]" * 5000)
    before_s = time.process_time()
    result = rteval("check", "deep.yaml")
    assert result.exit_code == 2
    assert "deeper than 50 levels" in result.stderr
    assert time.process_time() - before_s < 20


@pytest.mark.parametrize("name", ["loop.yaml", "/dev/zero"])
def test_a_scenario_that_is_no_file_is_a_sentence(name: str, here: Path, rteval: Any) -> None:
    (here / "loop.yaml").symlink_to("loop.yaml")
    result = rteval("check", name)
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_a_message_cannot_command_the_terminal(here: Path, rteval: Any) -> None:
    (here / "escape.yaml").write_text(SCENARIO + '"\\e[31mred\\u202e": 1\n')
    result = rteval("check", "escape.yaml")
    assert result.exit_code == 2
    assert r"\x1b[31mred\u202e" in result.stderr


ROWS = [
    pytest.param('{"text": "x", "a": ' + "[" * 900 + "]" * 900 + "}", "deeper than 50 levels", id="deep"),
    pytest.param('{"text": "x", "a": 1e999}', "a number that is too large", id="infinite"),
    pytest.param('{"text": "x", "a": {"b": -1e999}}', "a number that is too large", id="infinite within"),
]


@pytest.mark.parametrize(("row", "sentence"), ROWS)
def test_a_wrong_row_is_a_sentence(row: str, sentence: str, here: Path, rteval: Any) -> None:
    (here / "data" / "metadata.jsonl").write_text(row)
    result = rteval("check", "s.yaml")
    assert result.exit_code == 2
    assert sentence in result.stderr


LABELS = [
    pytest.param("a=" + os.fsdecode(b"\xff"), "not UTF-8", id="other bytes"),
    pytest.param("a=sk-proj-0123456789abcdef0123456789", "looks like a key", id="secret"),
]


@pytest.mark.parametrize(("label", "sentence"), LABELS)
def test_a_label_that_cannot_be_stored_is_refused(label: str, sentence: str, here: Path, rteval: Any) -> None:
    result = rteval("run", "s.yaml", "--label", label)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "0123456789" not in result.stderr
    assert not (here / "reports").exists()


@pytest.mark.parametrize("out", ["s.yaml", "s.yaml/below", "/dev/null", "x" * 300, "loop", os.fsdecode(b"\xff")])
def test_an_out_that_cannot_be_written_is_a_sentence(out: str, here: Path, rteval: Any) -> None:
    (here / "loop").symlink_to("loop")
    result = rteval("run", "s.yaml", "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("channel", ["²", "9" * 5000, "-1"])
def test_a_channel_that_is_no_number_is_a_sentence(channel: str, rteval: Any) -> None:
    assert rteval("init", "data", f"--channel={channel}").exit_code == 2
