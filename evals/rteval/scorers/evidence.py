"""The file in which a scorer keeps what its verdicts rest on, as it comes, so that nothing is asked or heard twice."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

__all__ = ["Evidence"]


class Evidence:
    """One JSON object a line, found again by its ``key``; the last one of a key counts.

    Args:
        path: the file; lines that cannot be read are passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Mapping[str, Any]] = {}

    def __enter__(self) -> Evidence:
        """Read the file, and open it for more."""
        data = self._path.read_bytes() if self._path.exists() else b""
        for line in data.splitlines():
            try:
                entry = orjson.loads(line)
                self._known[entry["key"]] = entry
            except (ValueError, LookupError, TypeError):
                continue
        self._file = self._path.open("ab")
        if data and not data.endswith(b"\n"):
            # A line that was torn must not take the next one with it.
            self._file.write(b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what a thread still brings is not kept."""
        with self._lock:
            self._file.close()

    def of(self, key: str) -> Mapping[str, Any] | None:
        """The entry of that key, if there is one."""
        with self._lock:
            return self._known.get(key)

    def add(self, key: str, entry: Mapping[str, Any]) -> None:
        """Keep an entry at once; from any thread."""
        line = orjson.dumps({"key": key, **entry}, option=orjson.OPT_NON_STR_KEYS) + b"\n"
        with self._lock:
            self._known[key] = entry
            if not self._file.closed:
                self._file.write(line)
                self._file.flush()
