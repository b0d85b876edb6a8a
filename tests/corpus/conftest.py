from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rteval.audio import Samples


def tone(
    rate: int, *, before_s: float = 0.2, voice_s: float = 0.5, after_s: float = 0.3, level: float = 0.3
) -> Samples:
    """Silence, a steady 300 Hz tone, silence."""
    voice = level * np.sin(2 * np.pi * 300 * np.arange(round(voice_s * rate)) / rate)
    parts = np.zeros(round(before_s * rate)), voice, np.zeros(round(after_s * rate))
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture(name="tone")
def _tone() -> Callable[..., Samples]:
    return tone


class Folder:
    """A dataset folder to be filled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wav(self, name: str, samples: Samples | None = None, rate: int = 16_000, **options: Any) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(rate) if samples is None else samples, rate, **options)
        return path

    def lines(self, *rows: dict[str, Any] | str) -> Path:
        texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (self.path / "metadata.jsonl").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        return self.path

    def csv(self, text: str) -> Path:
        (self.path / "metadata.csv").write_text(text, encoding="utf-8")
        return self.path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "calls"
    path.mkdir()
    return Folder(path)
