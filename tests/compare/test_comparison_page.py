"""The comparison page in headless Chromium: its content security policy lets its own scripts draw, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rteval.cli import app

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not opened in a browser"),
]


def test_every_plot_is_drawn_and_no_script_complains(nights: Path, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    CliRunner().invoke(app, ["compare", "support/always", "support/slower", "--out", str(nights), "--html", str(page)])
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--enable-logging=stderr"]
    result = subprocess.run(
        [str(BROWSER), *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, check=False, timeout=120
    )
    # Set when the last plot has been drawn.
    assert "data-drawn" in result.stdout.partition("<head>")[0], result.stderr[-2000:]
    assert "CONSOLE" not in result.stderr
    assert result.stdout.count("<canvas") == 4
