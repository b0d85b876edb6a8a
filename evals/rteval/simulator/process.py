"""The simulated service as a child process: started on a free port, and never left behind."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ..errors import RtevalError

__all__ = ["Simulator", "SimulatorError"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 8.0


class SimulatorError(RtevalError):
    """The simulated service did not start; the message holds what it said."""


class Simulator:
    """A server in a process of its own, as a context manager.

    Args:
        datasets: folders whose items it recognises.
        behaviour: a file or a mapping; ``None``: the defaults.
        truth: where it writes its truth lines.
        tls: serve TLS; ``ca_file`` is what to trust then.
        api_key, token: credentials that it lets in; with neither, everyone.
        host, port: where it listens; port 0 takes a free one.

    Attributes:
        url: ``ws://HOST:PORT`` or ``wss://HOST:PORT``, without a path.
        ca_file: of a TLS server, else ``None``.
        truth_path: the truth file, or ``None``.
    """

    def __init__(
        self,
        *,
        datasets: Sequence[Path] = (),
        behaviour: Path | Mapping[str, Any] | None = None,
        truth: Path | None = None,
        tls: bool = False,
        api_key: str | None = None,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self.truth_path = truth
        self.url = ""
        self.ca_file: Path | None = None
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._command = [sys.executable, "-m", "rteval.simulator", "--attached", "--host", host, "--port", str(port)]
        for folder in datasets:
            self._command += ["--dataset", str(folder)]
        if isinstance(behaviour, Path):
            self._command += ["--behaviour", str(behaviour)]
        elif behaviour is not None:
            self._command += ["--behaviour-json", json.dumps(dict(behaviour))]
        if truth is not None:
            self._command += ["--truth", str(truth)]
        if tls:
            self._command += ["--tls"]
        self._tls = tls
        secrets = {"RTEVAL_SIMULATE_API_KEY": api_key, "RTEVAL_SIMULATE_TOKEN": token}
        self._environment = {key: value for key, value in os.environ.items() if key not in secrets}
        self._environment.update({key: value for key, value in secrets.items() if value is not None})

    @property
    def pid(self) -> int:
        """The child's process id."""
        if self._process is None:
            raise RuntimeError("the simulator is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the process and wait until it listens.

        Raises:
            SimulatorError: it ended or said nothing in time.
        """
        # The child ends when its stdin does, so it cannot outlive this process however that ends.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # Ctrl-C at a terminal is for us; we stop the child afterwards.
        )
        errors: list[str] = []
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        _in_background(_collect, self._process.stderr, errors)
        lines: queue.Queue[str] = queue.Queue()
        _in_background(_forward, self._process.stdout, lines)
        try:
            self.url = self._line(lines, errors, "listening on ")
            if self._tls:
                self.ca_file = Path(self._line(lines, errors, "CA file "))
        except BaseException:
            self.stop()
            raise
        return self

    def _line(self, lines: queue.Queue[str], errors: list[str], prefix: str) -> str:
        try:
            line = lines.get(timeout=self._start_timeout_s)
        except queue.Empty:
            raise SimulatorError(f"the simulator said nothing for {self._start_timeout_s:.0f} s") from None
        if not line.startswith(prefix):
            said = "".join(errors).strip().splitlines()
            raise SimulatorError(f"the simulator did not start: {said[-1] if said else 'it said nothing'}")
        return line.removeprefix(prefix)

    def stop(self) -> int | None:
        """End the process: SIGTERM, and a kill if it does not end in time; its exit code, ``None`` if never started."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdin is not None
        process.stdin.close()
        return process.returncode

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


def _in_background(target: Any, *args: Any) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _collect(stream: IO[str], into: list[str]) -> None:
    with stream:
        for line in stream:
            into.append(line)
            del into[:-200]


def _forward(stream: IO[str], into: queue.Queue[str]) -> None:
    """Pass lines on, and an empty one when there are no more."""
    with stream:
        for line in stream:
            into.put(line.rstrip("\n"))
        into.put("")
