"""Locust's web UI: what is pressed is told and does nothing else, what is measured is shown, no stranger gets in."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.sync.client import connect

from rteval.errors import UsageError
from rteval.load.charts import Event
from rteval.load.swarm import LocalSwarm, MasterSwarm, UiOptions, WorkerSwarm

Run = Callable[..., Any]
LOOPBACK = "127.0.0.1"
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Page:
    """A swarm with a web UI, and what is said to it over HTTP."""

    def __init__(self, swarm: LocalSwarm | MasterSwarm, ear: Any, rows: Any) -> None:
        self.swarm = swarm
        self.ear = ear
        self.rows = rows

    @property
    def port(self) -> int:
        assert self.swarm.ui_address is not None
        return self.swarm.ui_address[1]

    async def ask(
        self, method: str, path: str, form: dict[str, object] | None = None, **headers: str
    ) -> tuple[int, str]:
        """Status and body of the answer."""
        return await asyncio.to_thread(self._ask, method, path, form, headers)

    def _ask(self, method: str, path: str, form: dict[str, object] | None, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            body = urlencode(form or {}).encode()
            fields = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
            for name, value in (fields | headers).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    async def post(self, path: str, **form: object) -> Any:
        """The JSON that comes back."""
        status, body = await self.ask("POST", path, form)
        assert status == 200
        return json.loads(body)

    async def until(self, path: str, text: str) -> None:
        """Wait until a page has some text in it; the test's own time bounds it."""
        while text not in (await self.ask("GET", path))[1]:  # noqa: ASYNC110 - the page has no event for it
            await asyncio.sleep(0.02)

    async def stats(self) -> Any:
        """What the page asks for every two seconds; the same answer is given for as long."""
        return json.loads((await self.ask("GET", "/stats/requests"))[1])


@asynccontextmanager
async def page(hall: Any, **options: Any) -> AsyncIterator[Page]:
    ear, rows = hall.ear(), hall.rows()
    swarm = LocalSwarm(rows, ui=UiOptions(events=ear, port=0, **options))
    await swarm.start()
    try:
        yield Page(swarm, ear, rows)
    finally:
        await swarm.quit()


def test_start_and_every_edit_are_told_and_start_nothing_by_themselves(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            assert (await p.post("/swarm", user_count=12, spawn_rate="2.5"))["success"]
            assert (await p.post("/swarm", user_count=20, spawn_rate=4))["success"]
            await hall.until(lambda: p.ear.heard == [("start", 12, 2.5), ("start", 20, 4.0)])
            assert p.rows.begun == 0
            p.swarm.want(20)
            await hall.until(lambda: p.rows.open == 20)

    in_hall(body)


def test_stop_is_told_and_the_page_shows_a_running_test_until_it_is_over(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            p.swarm.want(5)
            await hall.until(lambda: p.rows.open == 5)
            assert (await p.post("/stop"))["success"]
            await hall.until(lambda: p.ear.heard == [("stop",)])
            assert p.rows.open == 5
            assert (await p.stats())["state"] == "running"
            p.swarm.show_stopped()
            await p.until("/", '"state": "stopped"')

    in_hall(body)


@pytest.mark.parametrize(
    "path", ["/", "/stats/report", "/tasks", "/exceptions", "/logs", "/stats/requests/csv", "/stats/failures/csv"]
)
def test_every_tab_has_its_answer_while_it_runs_and_after(in_hall: Run, path: str) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            assert (await p.ask("GET", path))[0] == 200
            p.swarm.want(5)
            p.swarm.fire([Event("rteval/ttfa_ms", 200.0, error="timeout", headline=True)])
            await hall.until(lambda: p.rows.open == 5)
            assert (await p.ask("GET", path))[0] == 200
            p.swarm.show_stopped()
            await p.until("/", '"state": "stopped"')
            assert (await p.ask("GET", path))[0] == 200

    in_hall(body)


def test_a_run_that_is_over_is_not_started_again(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            p.swarm.show_stopped()
            await p.until("/", '"state": "stopped"')
            answer = await p.post("/swarm", user_count=1, spawn_rate=1)
            assert not answer["success"]
            assert "This run is over" in answer["message"]
            assert p.ear.heard == []

    in_hall(body)


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        pytest.param({"user_count": "many", "spawn_rate": 1}, "have to be numbers", id="no number"),
        pytest.param({"spawn_rate": 1}, "have to be numbers", id="left out"),
        pytest.param({"user_count": 0, "spawn_rate": 1}, "greater than 0", id="nobody"),
        pytest.param({"user_count": 3, "spawn_rate": 0}, "greater than 0", id="never"),
        pytest.param({"user_count": 3, "spawn_rate": "nan"}, "greater than 0", id="not a number"),
        pytest.param({"user_count": 3, "spawn_rate": "inf"}, "greater than 0", id="no end"),
        pytest.param({"user_count": 10**9, "spawn_rate": 1}, "at most 1000000", id="a country"),
        pytest.param({"user_count": 3, "spawn_rate": 5e-324}, "would take", id="later than ever"),
        pytest.param({"user_count": 3, "spawn_rate": 1, "run_time": "5m"}, "in its scenario", id="a run time"),
        pytest.param({"user_count": 3, "spawn_rate": 1, "host": "ws://h"}, "in the scenario", id="another target"),
    ],
)
def test_what_cannot_be_started_is_said_on_the_page(in_hall: Run, form: dict[str, object], sentence: str) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            answer = await p.post("/swarm", **form)
            assert not answer["success"]
            assert sentence in answer["message"]
            assert p.ear.heard == []

    in_hall(body)


def test_where_the_schedule_decides_the_form_has_no_numbers_and_start_names_none(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall, shaped=True) as p:
            assert '"hide_common_options": true' in (await p.ask("GET", "/"))[1]
            assert (await p.post("/swarm"))["success"]
            await hall.until(lambda: p.ear.heard == [("start", None, None)])

    in_hall(body)


def test_the_form_is_prefilled(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall, users=40, spawn_rate=2.5, target="wss://example.test/realtime") as p:
            _, text = await p.ask("GET", "/")
            for part in ('"num_users": 40', '"spawn_rate": 2.5', '"host": "wss://example.test/realtime"'):
                assert part in text

    in_hall(body)


def test_what_is_measured_stands_in_the_table_and_only_the_headline_in_its_last_row(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            p.swarm.want(1)
            await hall.until(lambda: p.rows.open)
            for number in range(100):
                p.swarm.fire([Event("rteval/ttfa_ms", 200.0 + number, size=10, headline=True)])
                p.swarm.fire([Event("rteval/connect_ms", 10.0)])
            p.swarm.fire([Event("rteval/ttfa_ms", None, error="timeout: no event for 30 s", headline=True)])
            await p.until("/stats/failures/csv", "timeout")
            found = await p.stats()
            rows = {row["name"]: row for row in found["stats"]}
            assert rows["rteval/ttfa_ms"]["num_requests"] == 101
            assert rows["rteval/ttfa_ms"]["num_failures"] == 1
            assert rows["rteval/connect_ms"]["num_requests"] == 100
            assert rows["Aggregated"]["num_requests"] == 101
            assert rows["Aggregated"]["max_response_time"] == 299
            assert [error["error"] for error in found["errors"]] == ["timeout: no event for 30 s"]

    in_hall(body)


def test_errors_that_never_repeat_do_not_fill_the_memory(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            for number in range(2000):
                p.swarm.fire([Event("rteval/turn", None, error=f"request {number} failed", headline=True)])
            await p.until("/stats/failures/csv", "other errors")
            found = await p.stats()
            assert len(found["errors"]) <= 501
            assert sum(error["occurrences"] for error in found["errors"]) == 2000

    in_hall(body)


def test_what_workers_measure_reaches_the_masters_page(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        ear = hall.ear()
        master = MasterSwarm(ear, host=LOOPBACK, port=0, token=None, ui=UiOptions(events=ear, port=0))
        await master.start()
        worker = WorkerSwarm(hall.rows(), hall.ear(), host=LOOPBACK, port=master.address[1], token=None, max_wait_s=10)
        await worker.start()
        master.want(3)
        for _ in range(30):
            worker.fire([Event("rteval/ttfa_ms", 250.0, headline=True)])
        p = Page(master, ear, None)
        await p.until("/stats/requests/csv", "rteval/ttfa_ms,30")
        found = await p.stats()
        assert found["stats"][0]["num_requests"] == 30
        assert found["worker_count"] == 1
        assert found["user_count"] == 3
        await worker.quit()
        await master.quit()

    in_hall(body)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "https://example.test"}, id="another page's script"),
        pytest.param({"Host": "rebound.example.test"}, id="a name that leads to loopback"),
        pytest.param({"Origin": "null"}, id="a page without a name"),
    ],
)
def test_other_pages_in_the_browser_cannot_drive_it(in_hall: Run, headers: dict[str, str]) -> None:
    async def body(hall: Any) -> None:
        async with page(hall) as p:
            for method, path in (("POST", "/stop"), ("POST", "/swarm"), ("GET", "/stats/requests")):
                status, _ = await p.ask(method, path, {"user_count": 1, "spawn_rate": 1}, **headers)
                assert status == 403
            assert p.ear.heard == []

    in_hall(body)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.test"])
def test_it_opens_on_loopback_only(in_hall: Run, host: str) -> None:
    async def body(hall: Any) -> None:
        with pytest.raises(UsageError, match="for this machine only"):
            await LocalSwarm(hall.rows(), ui=UiOptions(events=hall.ear(), host=host, port=0)).start()

    in_hall(body)


def test_a_port_that_is_taken_is_an_error_of_the_command_line(in_hall: Run) -> None:
    async def body(hall: Any) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            ui = UiOptions(events=hall.ear(), port=taken.getsockname()[1])
            for swarm in (
                LocalSwarm(hall.rows(), ui=ui),
                MasterSwarm(hall.ear(), host=LOOPBACK, port=0, token=None, ui=ui),
            ):
                with pytest.raises(UsageError, match="the web UI cannot be opened on 127") as refusal:
                    await swarm.start()
                assert refusal.value.exit_code == 2

    in_hall(body)


# -- in a browser

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


class Tab:
    """One page in a Chromium that is driven over its DevTools socket."""

    def __init__(self, profile: str) -> None:
        assert BROWSER is not None
        self.process = subprocess.Popen(
            [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": profile},
        )
        self.last = 0
        self.session = ""
        self.requests: list[str] = []
        self.socket: Any = None

    def address(self) -> str:
        found: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                if match := re.search(r"DevTools listening on (ws://\S+)", line):
                    found.put(match[1])

        threading.Thread(target=read, daemon=True).start()
        return found.get(timeout=PATIENCE_S)

    def send(self, method: str, **params: Any) -> Any:
        """Send one command and return its result."""
        self.last += 1
        number = self.last
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")
        # Narrower, and the buttons hide in a menu.
        self.send("Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return what a script in the page comes to."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until a script in the page comes to something true."""
        self.run(f"""new Promise((done, fail) => {{
            setTimeout(() => fail(new Error(document.body.innerText)), {PATIENCE_S * 500});
            const check = () => ({script}) ? done(true) : setTimeout(check, 30);
            check();
        }})""")

    def click(self, text: str) -> None:
        """Click the button or tab with this text, once it is there."""
        every = "[...document.querySelectorAll('button, [role=tab]')]"
        find = f"{every}.filter((one) => one.innerText.trim().toLowerCase() === {text.lower()!r}).pop()"
        self.until(f"({find}) && !({find}).disabled")
        self.run(f"({find}).click()")

    def fill(self, name: str, value: str) -> None:
        """Type into the last field of that name, as React notices it."""
        self.run(f"""(() => {{
            const field = [...document.querySelectorAll('input[name="{name}"]')].pop();
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, {value!r});
            field.dispatchEvent(new Event('input', {{ bubbles: true }}));
        }})()""")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    tab = Tab(str(tmp_path))
    try:
        with connect(tab.address(), proxy=None, max_size=None) as tab.socket:
            yield tab
    finally:
        tab.close()


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not opened in a browser")
def test_a_run_is_started_watched_edited_and_stopped_in_the_browser(in_hall: Run, tab: Tab) -> None:
    async def body(hall: Any) -> None:
        async with page(hall, users=12, spawn_rate=3.0) as p:

            async def press(function: Callable[..., None], *args: str) -> None:
                await asyncio.to_thread(function, *args)

            async def speak() -> None:
                while True:
                    p.swarm.fire([Event("rteval/ttfa_ms", 321.0, size=10, headline=True)])
                    await asyncio.sleep(0.02)

            await press(tab.open, f"http://{LOOPBACK}:{p.port}/")
            await press(tab.click, "Start")
            await hall.until(lambda: p.ear.heard == [("start", 12, 3.0)])
            p.swarm.want(12)
            speaking = asyncio.create_task(speak())
            await press(tab.until, "document.body.innerText.includes('rteval/ttfa_ms')")
            await press(tab.until, "/users\\s*12/i.test(document.body.innerText)")

            await press(tab.click, "Charts")
            await press(tab.until, "document.querySelectorAll('canvas').length >= 3")
            await press(tab.until, SHOWS_A_LINE)

            await press(tab.click, "Edit")
            await press(tab.fill, "userCount", "20")
            await press(tab.click, "Update")
            await hall.until(lambda: p.ear.heard[1:] == [("start", 20, 3.0)])
            p.swarm.want(20)
            await press(tab.until, "/users\\s*20/i.test(document.body.innerText)")

            await press(tab.click, "Stop")
            await hall.until(lambda: p.ear.heard[2:] == [("stop",)])
            assert p.rows.open == 20
            speaking.cancel()
            p.swarm.want(0)
            p.swarm.show_stopped()
            await press(tab.until, "/stopped/i.test(document.body.innerText)")
            await press(tab.click, "New")
            await press(tab.click, "Start")
            await press(tab.until, "document.body.innerText.includes('This run is over')")
            assert {url.split("/")[2] for url in tab.requests if url.startswith("http")} == {f"{LOOPBACK}:{p.port}"}

    in_hall(body)


SHOWS_A_LINE = """[...document.querySelectorAll('canvas')].some((canvas) => {
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let drawn = 0;
    for (let i = 0; i < data.length; i += 4) drawn += data[i + 3] > 200 && Math.abs(data[i] - data[i + 1]) > 60;
    return drawn > 200;
})"""
