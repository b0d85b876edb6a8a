"""Worker processes that a run starts on its own machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .errors import RtevalError
from .redact import redact

__all__ = ["LocalWorkers", "auto_workers"]

_END_S = 10.0
_NOT_FOR_WORKERS = ("RTEVAL_WORKER_DATASET", "RTEVAL_MAX_WAIT")
"""Variables that mean something else, or something more, to ``rteval worker`` than to ``rteval run``."""
_LAST_BYTES = 4000


def auto_workers() -> int:
    """As many as this process may use cores, less one for the master and the system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


class LocalWorkers:
    """Starts them on entering, ends them on leaving; none outlives the process that started it.

    Args:
        count: how many.
        host, port: of the master.
        token: join token of this run, if it has one.
        out: folder of all reports.
        charts: whether Locust's web UI is shown.
    """

    def __init__(self, count: int, *, host: str, port: int, token: str | None, out: Path, charts: bool) -> None:
        self._count = count
        self._token = token
        self._command: Sequence[str] = [
            sys.executable,
            "-m",
            "rteval",
            "worker",
            "--master",
            f"{host}:{port}",
            "--out",
            str(out.resolve()),
            "--no-progress",
            "--tied",
            *(["--charts"] if charts else []),
        ]
        self._processes: list[Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._said: dict[int, bytes] = {}

    async def __aenter__(self) -> LocalWorkers:
        """Start them."""
        ours = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
        if self._token is not None:
            ours["RTEVAL_JOIN_TOKEN"] = self._token
        for _ in range(self._count):
            process = await asyncio.create_subprocess_exec(
                *self._command,
                # Standard input stays open as long as this process lives: its end is how they notice.
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=PIPE,
                env=ours,
                # Ctrl-C in a terminal goes to the whole group; what becomes of the workers is the master's to say.
                start_new_session=True,
            )
            self._processes.append(process)
            self._readers.append(asyncio.create_task(self._listen(process)))
        return self

    def failure(self) -> str | None:
        """A sentence once one of them has ended by itself."""
        return next(iter(self.failures()), None)

    def failures(self, *, least_code: int = 0) -> Iterator[str]:
        """A sentence for each that has ended by itself.

        Args:
            least_code: leave out exit codes below it, signals apart.
        """
        for number, (process, reader) in enumerate(zip(self._processes, self._readers, strict=True), start=1):
            code = process.returncode
            if code is not None and reader.done() and (code < 0 or code >= least_code):
                how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
                yield f"worker process {number} {how}: {self._reason(process)}"

    def _reason(self, process: Process) -> str:
        """Its own word of error. No traceback: it may hold anything, and a worker's bug is told by its own message."""
        if process.returncode == RtevalError.exit_code:
            return "a bug in rteval"
        lines = self._said.get(process.pid, b"").decode("utf-8", "replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return redact(said[-1], filter(None, [self._token])) if said else "it gave no reason"

    async def wait(self) -> None:
        """Give them time to end by themselves, and to be heard to their last word."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await asyncio.gather(*(process.wait() for process in self._processes))
                if self._readers:
                    await asyncio.wait(self._readers)

    async def __aexit__(self, *exc: object) -> None:
        """End those that still run."""
        for process in self._processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _listen(self, process: Process) -> None:
        # By the piece and not by the line, of which one may be longer than a reader takes.
        assert process.stderr is not None
        while piece := await process.stderr.read(_LAST_BYTES):
            self._said[process.pid] = (self._said.get(process.pid, b"") + piece)[-_LAST_BYTES:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
