"""Locust's own web UI on loopback: it shows, and what is pressed in it is told to us instead of to Locust."""

from __future__ import annotations

import logging
import math
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import gevent.socket
from flask import Response, jsonify, request
from gevent.pywsgi import WSGIServer
from locust import web
from locust.stats import stats_history

from ..errors import UsageError
from ..scenario_model import LONGEST_S, MOST_SESSIONS
from .bridge import HubThread
from .sockets import is_loopback

if TYPE_CHECKING:
    from .runners import LocalRunner, MasterRunner
    from .swarm import UiOptions

__all__ = ["WebPage"]

# For each page Locust would parse the command line, LOCUST_* variables and locust.conf, to offer options that users of
# its own programs have added. Ours are none of its business.
web.argument_parser = SimpleNamespace(ui_extra_args_dict=dict)  # type: ignore[assignment, attr-defined]

_CLOSE_S = 0.5


class WebPage(web.WebUI):
    """The web UI of one run.

    Args:
        runner: what it shows.
        hub: the way to the asyncio loop.

    Raises:
        UsageError: its port is taken, or it would not be on loopback.
    """

    def __init__(self, runner: LocalRunner | MasterRunner, hub: HubThread, options: UiOptions) -> None:
        if not is_loopback(options.host):
            raise UsageError(
                f"the web UI cannot be opened on {options.host}: it has no login, so it is for this machine only",
                hint="from elsewhere, forward the port: ssh -L 8089:127.0.0.1:8089 HOST",
            )
        self._runner = runner
        self._hub = hub
        self._options = options
        self._over = False
        runner.environment.runner = runner
        super().__init__(runner.environment, options.host, options.port, delayed_start=True)
        assert self.app is not None
        self.app.before_request(_refuse_strangers)
        # Locust's would start and stop users by themselves.
        self.app.view_functions["locust.swarm"] = self._pressed_start
        self.app.view_functions["locust.stop"] = self._pressed_stop
        # Locust's own start() binds in a greenlet, where a port that is taken is only logged.
        listener = _listen(options.host, options.port)
        self.server = WSGIServer(listener, self.app, log=None, error_log=logging.getLogger("locust.web"))
        self.server.start()
        self.address = (options.host, listener.getsockname()[1])
        runner.greenlet.spawn(stats_history, runner)

    def update_template_args(self) -> None:
        """As Locust's, without fields in the form where the schedule decides, and without its wish for an HTTP host."""
        super().update_template_args()  # type: ignore[no-untyped-call]
        self.template_args["hide_common_options"] = self._options.shaped
        self.template_args["missing_host_warning"] = False

    def finish(self) -> None:
        """The run is over."""
        self._over = True

    def close(self) -> None:
        """Close the port."""
        if self.server is not None:
            self.server.stop(timeout=_CLOSE_S)

    def _pressed_start(self) -> Response:
        try:
            users, spawn_rate = (None, None) if self._options.shaped else _wishes()
            if self._over:
                raise ValueError("This run is over; its report tells the rest. Start another with rteval run.")
            if request.form.get("run_time"):
                raise ValueError("How long the run lasts is in its scenario: leave the run time empty.")
            if request.form.get("host", "") not in ("", self._options.target):
                raise ValueError("What is tested is in the scenario: leave the host as it is.")
        except ValueError as error:
            return jsonify({"success": False, "message": str(error), "host": self.environment.host})
        self._runner.begin()
        self._hub.post(self._options.events.ui_start, users, spawn_rate)
        return jsonify({"success": True, "message": "Swarming started", "host": self.environment.host})

    def _pressed_stop(self) -> Response:
        # Still shown as running: the page asks no further once it is told anything else, so it would never learn that
        # the run has ended.
        self._hub.post(self._options.events.ui_stop)
        return jsonify({"success": True, "message": "Stopping: sessions end with the turn that they are in"})


def _listen(host: str, port: int) -> gevent.socket.socket:
    # gevent's own way leaves the socket open when it cannot be bound.
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(
            f"the web UI cannot be opened on {host}:{port}: {error.strerror}",
            hint="another port, or 0 for any free one, helps",
        ) from None
    return gevent.socket.socket(listener.family, listener.type, fileno=listener.detach())


def _wishes() -> tuple[int, float]:
    """Users and users per second from the form.

    Raises:
        ValueError: with a sentence for the page.
    """
    try:
        users, spawn_rate = int(request.form["user_count"]), float(request.form["spawn_rate"])
    except (KeyError, ValueError):
        raise ValueError("Number of users and ramp up have to be numbers.") from None
    if users < 1 or not (spawn_rate > 0 and math.isfinite(spawn_rate)):
        raise ValueError("Number of users and ramp up have to be greater than 0.")
    if users > MOST_SESSIONS:
        raise ValueError(f"Number of users can be at most {MOST_SESSIONS}.")
    if users / spawn_rate > LONGEST_S:
        raise ValueError("This ramp up would take weeks: make it greater.")
    return users, spawn_rate


def _refuse_strangers() -> Response | None:
    """Keep other pages in the user's browser from driving this one: by their own script, or by a name of their own that
    leads to loopback."""
    here = is_loopback(urlsplit(f"//{request.host}").hostname or "")
    origin = request.headers.get("Origin")
    if here and (origin is None or urlsplit(origin).netloc == request.host):
        return None
    return Response("this page is for this machine only\n", 403)
