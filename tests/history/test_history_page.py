"""The page of the history: whole in one file, and drawn by a real browser without an error or a request."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rteval.cli import app
from rteval.history import read_history
from rteval.reporting.html.history import write_history

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
MARKUP = '<img src=x onerror="document.title=1"></script><script>document.title="pwned"</script>'


def page_of(reports: Path, file: Path) -> str:
    write_history(file, read_history(reports).as_dict())
    return file.read_text(encoding="utf-8")


def figures_in(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="history-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    figures: list[dict[str, Any]] = json.loads(found[1])
    return figures


def test_each_metric_has_a_chart_of_every_run(nights: Path, tmp_path: Path) -> None:
    page = page_of(nights, tmp_path / "t.html")
    (scenario,) = read_history(nights).as_dict()["scenarios"]
    figures = figures_in(page)
    assert [figure["name"] for figure in figures] == scenario["metrics"]
    tail = figures[0]
    assert tail["values"] == [run["metrics"]["ttfa_ms.p95"]["value"] for run in scenario["runs"]]
    assert tail["limits"] == [[1200.0] * 8]
    assert [day for day, kind in zip(tail["days"], tail["kinds"], strict=True) if kind == "missed"] == ["11-05"]
    assert tail["bounds"][0][1] == tail["values"][0], "an open side ends at the point"
    words = figures[scenario["metrics"].index("input_wer")]
    assert words["unit"] == "%"
    assert words["values"][0] == pytest.approx(scenario["runs"][0]["metrics"]["input_wer"]["value"] * 100)


def test_the_page_asks_the_network_for_nothing_and_links_to_the_reports(nights: Path, tmp_path: Path) -> None:
    shutil.copytree(nights, tmp_path / "reports")
    for folder in (tmp_path / "reports" / "support").glob("2*"):
        (folder / "report.html").write_text("a report")
    page = page_of(tmp_path / "reports", tmp_path / "t.html")
    # An anchor is followed by a person only; data: holds what it shows.
    assert (
        set(re.findall(r'(?:src|action)="([^"]*)"', re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)))
        == set()
    )
    links = set(re.findall(r'href="([^"#][^"]*)"', page)) - {"data:,"}
    assert len(links) == 8
    assert all((tmp_path / link).is_file() for link in links)
    assert "default-src 'none'; script-src 'sha256-" in unescape(page)
    assert "unsafe" not in page.partition("</head>")[0].partition("<style>")[0]
    assert " style=" not in page


def test_markup_in_a_run_is_text(some, tmp_path: Path) -> None:
    (folder,) = some(1)
    told = {"labels": {MARKUP: MARKUP}, "target": {"model": MARKUP}}
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | told))
    page = page_of(folder.parents[1], tmp_path / "t.html")
    assert MARKUP not in page
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_a_gate_that_only_warns_is_not_counted_as_missed(night, tmp_path: Path) -> None:
    gates = ["ttfa_ms.p50 < 1", {"gate": "ttfa_ms.p50 < 2", "severity": "warn"}]
    page = page_of(night(1, gates=gates).parents[1], tmp_path / "t.html")
    assert "1 of 2 gates did not hold" in page


def test_an_empty_history_is_a_page(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    assert "There is no finished run." in page_of(tmp_path / "reports", tmp_path / "t.html")


def test_the_command_writes_the_page_and_says_so(nights: Path, tmp_path: Path) -> None:
    arguments = ["history", "--out", str(nights), "--html", str(tmp_path / "t.html"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stderr == f"wrote {tmp_path / 't.html'}\n"
    assert json.loads(result.stdout)["scenarios"]
    nowhere = CliRunner().invoke(app, [*arguments[:-2], str(tmp_path / "no" / "t.html")])
    assert nowhere.exit_code == 2
    assert "cannot write" in nowhere.stderr


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not opened in a browser")
def test_a_browser_draws_every_chart_without_a_word_of_complaint(nights: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    page_of(nights, tmp_path / "t.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"]
    flags += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += ["--disable-extensions", "--no-proxy-server"]
    told = ["--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000", "--dump-dom"]
    result = subprocess.run(
        [BROWSER, *flags, *told, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "t.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert re.search(r"<html[^>]* data-drawn=\"\"", result.stdout)
    drawn = re.findall(r'<canvas id="plot-[^>]* width="(\d+)"', result.stdout)
    assert len(drawn) == 7
    assert min(map(int, drawn)) > 100
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
