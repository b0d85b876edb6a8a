"""The report page in headless Chromium, driven over its DevTools socket: it draws, sorts, and loads nothing."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from websockets.sync.client import connect

from rteval import audio
from rteval.corpus import load_dataset
from rteval.judge import judge
from rteval.reporting.html import write_html

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (path := shutil.which(name))
    ),
    None,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not opened in a browser"),
]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
PATIENCE_S = 60
MARKUP = '<img src="http://127.0.0.1:9/x" onerror="document.title=1"><script>document.title="pwned"</script>'


class Browser:
    """One Chromium and the socket that it is driven by."""

    def __init__(self, profile: str) -> None:
        assert BROWSER is not None
        self.process = subprocess.Popen(
            [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": profile},
        )
        self.socket: Any = None
        self.last = 0

    def address(self) -> str:
        """The address that Chromium prints when it is ready; the rest of its stderr is read away."""
        found: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                if match := re.search(r"DevTools listening on (ws://\S+)", line):
                    found.put(match[1])

        threading.Thread(target=read, daemon=True).start()
        return found.get(timeout=PATIENCE_S)

    def send(self, method: str, events: list[dict[str, Any]] | None = None, /, session: str = "", **params: Any) -> Any:
        """Send one command and return its result; events that come meanwhile are kept."""
        self.last += 1
        number = self.last
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            if events is not None and answer.get("sessionId") == session:
                events.append(answer)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Tab:
    """One page in the browser."""

    def __init__(self, browser: Browser, path: Path, *, width: int = 1200, scheme: str = "light") -> None:
        self.browser = browser
        self.events: list[dict[str, Any]] = []
        self.path = path
        self.target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.send("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=path.as_uri())
        self.run(
            """new Promise((done) => {
              const check = () => document.documentElement && "drawn" in document.documentElement.dataset
                ? done() : setTimeout(check, 20);
              check();
            })"""
        )

    def send(self, method: str, **params: Any) -> Any:
        return self.browser.send(method, self.events, session=self.session, **params)

    def run(self, script: str) -> Any:
        """Return what a script in the page comes to."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    @property
    def complaints(self) -> list[Any]:
        """Everything that a console would show: errors, warnings, violations of the policy, exceptions."""
        names = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event for event in self.events if event["method"] in names]

    @property
    def requests(self) -> list[str]:
        """Everything that the page asked for, itself left out."""
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if url != self.path.as_uri() and not url.startswith("data:")]

    def close(self) -> None:
        self.browser.send("Target.closeTarget", targetId=self.target)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(profile)
        try:
            with connect(running.address(), max_size=None, compression=None, proxy=None) as running.socket:
                yield running
        finally:
            running.close()


@pytest.fixture
def opened(browser, tmp_path, make_run):
    """Opens the page of a fake run."""
    tabs: list[Tab] = []

    def open_page(*, width: int = 1200, scheme: str = "light", **options: Any) -> tuple[Tab, Any]:
        run = make_run(**options)
        path = tmp_path / f"report-{len(tabs)}.html"
        write_html(path, **run.arguments)
        tabs.append(Tab(browser, path, width=width, scheme=scheme))
        return tabs[-1], run

    yield open_page
    for tab in tabs:
        tab.close()


@pytest.fixture(scope="module")
def many(browser, tmp_path_factory, make_run):
    """One page for tests that only search its table."""
    run = make_run(n=48, failing=0.1)
    path = tmp_path_factory.mktemp("many") / "report.html"
    write_html(path, **run.arguments)
    tab = Tab(browser, path)
    yield tab, run
    tab.close()


def test_a_page_that_breaks_its_policy_would_be_noticed(browser, tmp_path):
    """The other tests find no complaint; this one shows that they would."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><html data-drawn><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
        "<p style='color:red'>x</p><script>1</script><img src='http://127.0.0.1:9/x.png'>",
        encoding="utf-8",
    )
    tab = Tab(browser, path)
    tab.run("new Promise((done) => setTimeout(done))")
    assert tab.complaints
    tab.close()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="gates missed"),
        pytest.param({"scheme": "dark", "n": 40}, id="dark"),
        pytest.param({"n": 0, "exit_code": 3, "state": "refused"}, id="no turns"),
        pytest.param({"n": 12, "failing": 1.1}, id="all failed"),
        pytest.param({"n": 12, "text": True, "references": False, "gates": ()}, id="text only"),
        pytest.param({"n": 1, "failing": 0.0, "exit_code": 130, "state": "partial"}, id="one turn"),
        pytest.param({"n": 12, "transcripts": "none"}, id="no transcripts"),
    ],
)
def test_the_page_draws_without_a_word_in_the_console_or_on_the_network(opened, options):
    tab, _run = opened(**options)
    blank = tab.run(
        """[...document.querySelectorAll("canvas")].filter((canvas) =>
          !canvas.width || !canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)
        ).map((canvas) => canvas.id)"""
    )
    assert blank == []
    tab.run("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    tab.run("(() => { const open = document.querySelector('#turn-table .open'); if (open) open.click(); })()")
    assert tab.complaints == []
    assert tab.requests == []


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"workers": 12, "lost": "w2"}, id="closed, twelve workers, one lost"),
        pytest.param({"model": "open", "in_vain": 3}, id="open, some in vain"),
    ],
)
def test_the_pictures_of_a_load_run_are_drawn_on_every_screen(browser, make_load_run, options):
    folder = make_load_run(**options)
    judge(folder)
    for width in (360, 1200):
        tab = Tab(browser, folder / "report.html", width=width)
        try:
            for canvas in ("sessions", "starts", "start-lag", "health-send", "health-cpu"):
                drawn = f"document.getElementById('{canvas}').getContext('2d')"
                assert tab.run(f"{drawn}.getImageData(0, 0, 600, 300).data.some(Boolean)"), (canvas, width)
            marks = "Object.keys(Chart.getChart('sessions').options.plugins.annotation.annotations)"
            assert "warmup" in tab.run(marks)
            assert ("moment0" in tab.run(marks)) == ("lost" in options)
            halves = "Chart.getChart('sessions').scales.y.ticks.some((tick) => tick.value % 1)"
            assert tab.run(halves) is False, "sessions have no halves"
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.complaints == []
        finally:
            tab.close()


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_screen_scrolls_in_one_direction_only(opened, width):
    tab, _run = opened(n=40, width=width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    # Tables that become lists on a phone have nothing beside the screen either.
    stacked = "[...document.querySelectorAll('.scroll:has(> .stack)')]"
    cut = f"{stacked}.filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.ariaLabel)"
    assert width > 760 or tab.run(cut) == []


def test_light_and_dark_differ_and_print_is_light(opened):
    tab, _run = opened(n=12, scheme="dark")
    page = "getComputedStyle(document.body).backgroundColor"
    ink = "Chart.getChart(document.querySelector('canvas')).options.scales.x.ticks.color"
    dark, dark_ink = tab.run(page), tab.run(ink)
    tab.run("dispatchEvent(new Event('beforeprint'))")
    print_ink = tab.run(ink)
    tab.run("dispatchEvent(new Event('afterprint'))")
    assert tab.run(ink) == dark_ink
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    # The page hears of the change in a later turn of its event loop.
    light_ink = tab.run(f"new Promise(done => requestAnimationFrame(() => setTimeout(() => done({ink}), 50)))")
    assert dark != tab.run(page)
    assert print_ink == light_ink != dark_ink
    assert tab.complaints == []


def test_markup_in_texts_is_shown_as_text(opened):
    def hostile(row: dict[str, Any]) -> None:
        for name in ("reference", "input_transcript", "output_transcript", "error_message", "item"):
            row[name] = MARKUP

    tab, run = opened(n=4, change=hostile)
    tab.run("document.querySelectorAll('#turn-table .open')[0].click()")
    assert tab.run("document.querySelector('#turn-table .detail .texts dd').textContent") == MARKUP
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run("document.title") == f"Fail: {run.run['scenario']['name']} \u2013 rteval"
    assert tab.requests == []
    assert tab.complaints == []


def test_the_numbers_on_the_screen_are_those_of_the_summary(browser, make_load_run):
    """Through the whole way: shards, judge, page, browser."""
    folder = make_load_run()
    judge(folder)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    tab = Tab(browser, folder / "report.html")
    try:
        shown = tab.run(
            """Object.fromEntries([...document.querySelectorAll("tr[data-metric]")].map((row) => [row.dataset.metric,
              Object.fromEntries([...row.querySelectorAll("td[data-stat] data")].map((box) =>
                [box.closest("td").dataset.stat, Number(box.value)]))]))"""
        )
        stats = ("value", "n", "left_out", "mean", "p50", "p90", "p95", "p99", "min", "max")
        wanted = {
            name: {stat: metric[stat] for stat in stats if metric.get(stat) is not None}
            for name, metric in summary["metrics"].items()
            if metric.get("value", metric.get("mean")) is not None and name not in ("send_lag_ms", "loop_lag_ms")
        }
        assert {name: shown[name] for name in wanted if name in shown} == {
            name: values for name, values in wanted.items() if name in shown
        }
        assert set(wanted) - set(shown) <= {"stamp_lag_ms"}
        assert len(shown) > 10
    finally:
        tab.close()


FIRST_DETAIL = "document.querySelector('#turn-table .detail')"
SOON = "new Promise((done) => setTimeout(done, 20))"


def test_an_item_opens_by_keyboard_and_shows_what_happened_when(opened):
    tab, run = opened(n=12, failing=0.0)
    tab.run("document.querySelectorAll('#turn-table .open')[3].focus()")
    tab.press("Enter", 13)
    turn = run.turns.iloc[3]
    listed = tab.run(f"[...{FIRST_DETAIL}.querySelectorAll('.moments li')].map((line) => line.textContent)")
    told = {words.partition(" ")[2]: words.partition(" ")[0].replace("\u202f", "") for words in listed}
    assert told["end of speech"] == "0"
    assert float(told["first audio"]) == pytest.approx(turn["ttfa_ms"], abs=0.051)
    assert float(told["response.done"]) == pytest.approx(turn["response_ms"], abs=0.051)
    assert float(told["turn began"]) == pytest.approx((turn["started_ns"] - turn["speech_end_ns"]) / 1e6, abs=0.051)
    chart = f"Chart.getChart({FIRST_DETAIL}.querySelector('canvas'))"
    drawn = tab.run(
        f"{chart}.data.datasets.filter((set) => set.label).map((set) => [set.label, set.data.map((point) => point.x)])"
    )
    first, last = (
        (run.turns.iloc[3][name] - turn["speech_end_ns"]) / 1e6 for name in ("first_audio_ns", "last_audio_ns")
    )
    assert [label for label, _at in drawn] == ["audio deltas", "text deltas"]
    assert len(drawn[0][1]) == 10
    assert drawn[0][1][0] == pytest.approx(first, abs=0.51)
    assert drawn[0][1][-1] == pytest.approx(last, abs=0.51)
    assert tab.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    tab.press("Enter", 13)
    assert tab.run(FIRST_DETAIL) is None
    assert tab.complaints == []


def test_escape_closes_the_turn_that_one_reads(opened):
    tab, _run = opened(n=12, failing=0.0)
    tab.run("document.querySelectorAll('#turn-table .open')[3].click()")
    tab.run("document.querySelectorAll('#turn-table .open')[5].click()")
    tab.run("document.querySelectorAll('#turn-table .open')[3].focus()")
    tab.press("Escape", 27)
    left = "[...document.querySelectorAll('#turn-table .detail')].map((line) => line.previousSibling.dataset.row)"
    assert tab.run(left) == ["5"]
    assert tab.run("document.activeElement.closest('tr').dataset.row") == "3"
    assert tab.complaints == []


def test_without_scripts_a_plot_is_said_in_words(browser, tmp_path, make_run):
    path = tmp_path / "report.html"
    write_html(path, **make_run(n=30).arguments)
    still = re.sub(r"<script>.*?</script>", "", path.read_text("utf-8"), flags=re.DOTALL)
    path.write_text(still.replace("<html ", "<html data-drawn ", 1), "utf-8")
    tab = Tab(browser, path)
    try:
        assert tab.run("[...document.querySelectorAll('canvas')].filter((box) => box.offsetParent).length") == 0
        said = tab.run("[...document.querySelectorAll('.plot p')].map((words) => words.innerText)")
        assert any(words.startswith("Histogram of ttfa_ms over") for words in said)
        assert len(said) == tab.run("document.querySelectorAll('canvas').length")
    finally:
        tab.close()


def test_a_link_in_the_page_opens_its_turn(opened):
    tab, run = opened(n=120, failing=0.0)
    link = "document.querySelector('#transcripts a[href^=\"#turn=\"]')"
    session = tab.run(f"{link}.textContent").removeprefix("session ").partition(",")[0]
    change = "(() => { const box = document.getElementById('turn-search'); box.value = 'nothing has this'; "
    tab.run(change + "box.dispatchEvent(new Event('input')); })()")
    for _again in range(2):
        tab.run(f"{link}.click(); {SOON}")
        opened_row = tab.run("document.querySelector('#turn-table .detail').previousSibling.dataset.row")
        assert run.turns["session"].iloc[int(opened_row)] == session
        tab.run(f"document.querySelector('#turn-table tr[data-row=\"{opened_row}\"] .open').click()")


def test_the_address_of_a_turn_can_be_passed_on(browser, tmp_path, make_run):
    run = make_run(n=120, failing=0.0)
    path = tmp_path / "report.html"
    write_html(path, **run.arguments)
    tab = Tab(browser, path)
    try:
        tab.run(f"location.hash = '#turn=w0-00055/1'; {SOON}")
        assert tab.run("document.querySelector('#turn-table .detail').previousSibling.dataset.row") == "111"
        tab.run(f"location.hash = '#turn=%zz/1'; {SOON}")
        assert tab.complaints == []
    finally:
        tab.close()


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        pytest.param("ttfa_ms > 900", lambda turn: turn["ttfa_ms"] > 900, id="more than"),
        pytest.param(
            "ttfa_ms<=500 item=support-03", lambda t: t["ttfa_ms"] <= 500 and t["item"] == "support-03", id="two"
        ),
        pytest.param("input_wer != 0", lambda turn: turn["input_wer"] > 0, id="not"),
        pytest.param("session = W0-00007", lambda turn: turn["session"] == "w0-00007", id="case does not count"),
        pytest.param("ttfa_ms > x", lambda turn: False, id="no number"),
        pytest.param("<script>", lambda turn: False, id="no column"),
    ],
)
def test_the_table_filters_by_comparisons(many, query, holds):
    tab, run = many
    change = "(() => {{ const box = document.getElementById('turn-search'); box.value = {}; "
    tab.run(change.format(json.dumps(query)) + "box.dispatchEvent(new Event('input')); })()")
    rounded = run.turns.assign(ttfa_ms=run.turns["ttfa_ms"].round(1))
    assert column(tab, "session") == [turn["session"] for _row, turn in rounded.iterrows() if holds(turn)]


def test_variants_are_a_column_and_a_filter(opened):
    number = iter(range(100))
    tab, _run = opened(n=20, failing=0.0, change=lambda row: row.update(variant=f"v{next(number) % 2}"))
    assert column(tab, "variant") == ["v0", "v1"] * 10
    tab.run(
        "(() => { const box = document.getElementById('turn-variant'); box.value = 'v1'; "
        "box.dispatchEvent(new Event('change')); })()"
    )
    assert column(tab, "variant") == ["v1"] * 10
    assert tab.run("document.getElementById('turn-variant').parentElement.hidden") is False


LOADED = """new Promise((done) => {
  const audio = document.querySelectorAll('#turn-table audio')[WHICH];
  audio.addEventListener('loadedmetadata', () => done(audio.duration));
  audio.addEventListener('error', () => setTimeout(() => done(audio.closest('figure').textContent)));
  audio.load();
  audio.preload = 'metadata';
})"""


def test_audio_beside_the_page_is_played_and_what_is_gone_is_named(browser, tmp_path, make_run):
    dataset, folder = tmp_path / "dataset", tmp_path / "run"
    (folder / "audio").mkdir(parents=True)
    dataset.mkdir()
    audio.write_wav(dataset / "q.wav", np.full(8000, 0.25, np.float32), 8000)
    (dataset / "metadata.jsonl").write_text('{"file_name": "q.wav", "id": "a &amp; <b>"}\n', "utf-8")
    run = make_run(n=2, failing=0.0)
    run.turns["item"] = "a &amp; <b>"
    run.turns["session"] = ["x#1?%20", "y"]
    run.run["dataset"] |= {"path": str(dataset), "hash": load_dataset(dataset).hash}
    for name in ("x#1?%20-0.wav", "y-1.wav"):
        audio.write_wav(folder / "audio" / name, np.full(4000, 0.25, np.float32), 8000)
    write_html(folder / "report.html", **run.arguments)
    (folder / "audio" / "y-1.wav").unlink()
    tab = Tab(browser, folder / "report.html")
    try:
        assert tab.requests == []
        tab.run(f"document.querySelectorAll('#turn-table .open')[0].click(); {SOON}")
        assert tab.requests == [], "audio is asked for when it is played"
        assert tab.run(LOADED.replace("WHICH", "0")) == 1
        assert tab.run(LOADED.replace("WHICH", "1")) == 0.5
        assert {url.partition(":")[0] for url in tab.requests} == {"file"}
        assert tab.complaints == []
        outlines = "Chart.getChart(document.querySelector('.timeline canvas')).data.datasets.slice(0, 4)"
        assert tab.run(f"{outlines}.every((set) => set.data.length > 100)")
        tab.run("document.querySelectorAll('#turn-table .open')[1].click()")
        assert "y-1.wav is not beside this page" in tab.run(LOADED.replace("WHICH", "3"))
    finally:
        tab.close()


def test_ten_thousand_turns_make_no_bigger_page_than_a_hundred(browser, tmp_path, make_run):
    """What opening costs beyond reading the file: elements, and plots of which none holds more points than it draws."""
    counts = {}
    run = make_run(n=100)
    for times in (1, 100):
        turns = pd.concat([run.turns] * times, ignore_index=True)
        turns["session"] = [f"w0-{number // 2:05d}" for number in range(len(turns))]
        path = tmp_path / f"report-{times}.html"
        write_html(path, **run.arguments | {"turns": turns})
        tab = Tab(browser, path)
        counts[times] = tab.run("document.querySelectorAll('*').length")
        assert tab.run("document.querySelectorAll('#turn-table tbody tr').length") == 50
        assert tab.complaints == []
        tab.close()
    assert counts[100] < counts[1] * 1.1


def column(tab: Tab, name: str) -> list[str]:
    head = f"[...document.querySelectorAll('#turn-table thead th')].findIndex((box) => box.dataset.name === '{name}')"
    cells = f"[...document.querySelectorAll('#turn-table tbody tr:not(.detail)')].map((row) => row.cells[{head}])"
    found: list[str] = tab.run(f"{cells}.map((cell) => cell.textContent)")
    return found


def test_the_table_sorts_by_keyboard_and_what_was_not_measured_comes_last(opened):
    tab, run = opened(n=40, failing=0.2)
    tab.run("document.querySelector('#turn-table th[data-name=ttfa_ms] button').focus()")
    tab.press("Enter", 13)
    assert tab.run("document.querySelector('#turn-table th[data-name=ttfa_ms]').ariaSort") == "descending"
    shown = [text.replace("\u202f", "") for text in column(tab, "ttfa_ms")]
    wanted = sorted(run.turns["ttfa_ms"].dropna(), reverse=True)
    assert shown == [f"{value:.1f}" for value in wanted] + ["\u2013"] * int(run.turns["ttfa_ms"].isna().sum())
    tab.press("Enter", 13)
    assert tab.run("document.querySelector('#turn-table th[data-name=ttfa_ms]').ariaSort") == "ascending"
    assert column(tab, "ttfa_ms")[0].replace("\u202f", "") == f"{wanted[-1]:.1f}"


def test_the_table_filters_by_outcome_and_by_words(opened):
    tab, run = opened(n=120, failing=0.1)
    change = (
        "(() => {{ const box = document.getElementById('{}'); box.value = {}; box.dispatchEvent(new Event('{}')); }})()"
    )
    tab.run(change.format("turn-outcome", json.dumps("!ok"), "change"))
    assert len(column(tab, "item")) == int((run.turns["outcome"] != "ok").sum())
    tab.run(change.format("turn-outcome", json.dumps(""), "change"))
    tab.run(change.format("turn-search", json.dumps("WASHING Broken"), "input"))
    count = int((run.turns["item"] == "support-07").sum())
    assert column(tab, "item") == ["support-07"] * count
    assert tab.run("document.getElementById('turn-count').textContent") == f"{count} of 120 turns"


def test_the_table_turns_pages(opened):
    tab, run = opened(n=120, failing=0.0)
    seen = column(tab, "session")
    for _page in range(2):
        tab.run("document.getElementById('turn-next').click()")
        seen += column(tab, "session")
    assert seen == list(run.turns["session"])
    assert tab.run("document.getElementById('turn-next').disabled") is True
