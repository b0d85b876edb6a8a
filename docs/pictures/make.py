"""The pictures of these pages: parts of the reports of real runs, as headless Chromium shows them.

Runs ``scenarios/support.yaml`` twice, the second time with faults and slower answers. Needs Chromium, and Pillow, which
makes the files small. About a minute::

    python docs/pictures/make.py [NAME ...]
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import ClientConnection, connect

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
)
COLOURS = 256
MARGIN = 6
PATIENCE_S = 60

RUNS = {
    "good": ["report.audio=all"],
    "bad": [
        "target.behaviour.ttfa_ms={lognormal: [620, 0.3]}",
        "target.behaviour.faults=[{kind: failed_response, rate: 0.1}, {kind: drop_mid_answer, rate: 0.06}, "
        "{kind: no_answer, rate: 0.04}]",
        "target.timeouts.response_s=4",
    ],
}
"""Runs of the scenario, with what is set for each."""


@dataclass(frozen=True)
class Picture:
    """A part of a page.

    Attributes:
        name: of the file.
        page: under the folder of the reports.
        parts: selectors of what is on it: the box that holds them all.
        script: what is done in the page before.
        most: of its height, in pixels; the rest is cut off.
    """

    name: str
    page: str
    parts: str
    script: str = ""
    most: int = 900


GOOD, BAD, COMPARISON = "support/good/report.html", "support/bad/report.html", "compare.html"
OPEN_A_TURN = "document.querySelector('#turn-table .open').click()"
FILTER = """(() => {
  const box = document.getElementById('turn-search');
  box.value = 'ttfa_ms > 1050';
  box.dispatchEvent(new Event('input'));
})()"""
PICTURES = (
    Picture("verdict", GOOD, "#verdict"),
    Picture("numbers", GOOD, "#headline", most=620),
    Picture("groups", GOOD, "#groups h2, #groups details[open] .scroll"),
    Picture("latency", GOOD, "#histogram-ttfa_ms, #histogram-endpoint_ms, #latency h2", most=720),
    Picture("stages", GOOD, "#stages"),
    Picture("transcripts", GOOD, "#transcripts .legend, #transcripts .turn", most=520),
    Picture("sound", GOOD, "[aria-label='The sound of the answers']"),
    Picture("errors", BAD, "#errors", most=760),
    Picture("load", GOOD, "#load .plots", most=570),
    Picture("health", GOOD, "#health", most=800),
    Picture("tokens", GOOD, "#tokens", most=460),
    Picture("turns", GOOD, "#turns", script=FILTER, most=420),
    Picture("turn", GOOD, "#turn-table .detail .inner", script=OPEN_A_TURN, most=520),
    Picture("compare", COMPARISON, "section.verdict", most=700),
)


def main() -> int:
    """Run, compare, and take the pictures that are asked for (all of them by default)."""
    wanted = [picture for picture in PICTURES if not sys.argv[1:] or picture.name in sys.argv[1:]]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        reports = Path(folder) / "reports"
        for name, sets in RUNS.items():
            settings = [part for one in sets for part in ("--set", one)]
            rteval("run", "scenarios/support.yaml", "--run-id", name, "--out", str(reports), *settings)
        page = reports / COMPARISON
        rteval("compare", "support/good", "support/bad", "--out", str(reports), "--html", str(page))
        with browser(folder) as socket:
            for picture in wanted:
                file = HERE / f"{picture.name}.png"
                small(taken(socket, reports / picture.page, picture), file)
                print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")
    return 0


def rteval(*arguments: str) -> None:
    """Run a command; that a gate is missed, or something is worse, is wanted here."""
    done = subprocess.run(
        [sys.executable, "-m", "rteval", *arguments], cwd=ROOT, check=False, stdout=subprocess.DEVNULL
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"rteval {' '.join(arguments)} ended with {done.returncode}")


def small(png: bytes, file: Path) -> None:
    """Write a picture with few colours: it is text and lines."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


# ---- Chromium, by its DevTools socket ----


@contextmanager
def browser(folder: str) -> Iterator[ClientConnection]:
    """Start Chromium and attach to a page of it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no Chromium on this machine")
    command = [program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}/profile", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        port = next(match[1] for line in process.stderr if (match := re.search(r"ws://[^:]+:(\d+)/", line)))
        with connect(f"ws://127.0.0.1:{port}/devtools/page/{first_page(port)}", max_size=None, proxy=None) as socket:
            send(socket, "Page.enable")
            # They go away while a picture is taken, and what they made room for moves.
            send(socket, "Emulation.setScrollbarsHidden", hidden=True)
            yield socket
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def first_page(port: str) -> str:
    """Return the id of the page that is open."""
    from urllib.request import urlopen

    pages = json.load(urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S))
    return str(next(page["id"] for page in pages if page["type"] == "page"))


def send(socket: ClientConnection, method: str, **params: Any) -> Any:
    """Send a command and return its result; what the page tells meanwhile is passed over."""
    socket.send(json.dumps({"id": 1, "method": method, "params": params}))
    while True:
        answer = json.loads(socket.recv(timeout=PATIENCE_S))
        if answer.get("id") == 1:
            if "error" in answer:
                raise SystemExit(f"{method}: {answer['error']}")
            return answer["result"]


def run(socket: ClientConnection, script: str) -> Any:
    """Return what a script in the page comes to."""
    result = send(socket, "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    if "exceptionDetails" in result:
        raise SystemExit(f"{script}: {result['exceptionDetails']}")
    return result["result"].get("value")


DRAWN = """new Promise((done) => {
  const look = () => document.readyState === "complete" && "drawn" in document.documentElement.dataset
    ? requestAnimationFrame(() => requestAnimationFrame(done)) : setTimeout(look, 20);
  look();
})"""
BOX = """(() => {
  const boxes = [...document.querySelectorAll(%s)].map((one) => (one.closest("figure") || one).getBoundingClientRect());
  const left = Math.min(...boxes.map((box) => box.left)), top = Math.min(...boxes.map((box) => box.top));
  const right = Math.max(...boxes.map((box) => box.right)), bottom = Math.max(...boxes.map((box) => box.bottom));
  return [left + scrollX, top + scrollY, right - left, bottom - top];
})()"""


def taken(socket: ClientConnection, page: Path, picture: Picture) -> bytes:
    """Return a part of a page as PNG."""
    send(socket, "Emulation.setDeviceMetricsOverride", width=1000, height=900, deviceScaleFactor=1, mobile=False)
    send(socket, "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    send(socket, "Page.navigate", url="about:blank")
    send(socket, "Page.navigate", url=page.as_uri())
    run(socket, DRAWN)
    # A bar that sticks to the top of the window would lie over what is taken.
    run(socket, "document.querySelector('nav')?.remove()")
    if picture.script:
        run(socket, picture.script)
        run(socket, DRAWN)
    left, top, width, height = run(socket, BOX % json.dumps(picture.parts))
    clip = {"x": left - MARGIN, "y": top - MARGIN, "width": width + 2 * MARGIN, "scale": 1}
    clip["height"] = min(height, picture.most) + 2 * MARGIN
    shot = send(socket, "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    raise SystemExit(main())
