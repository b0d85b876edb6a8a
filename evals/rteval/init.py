"""From a folder of recordings to a dataset and a scenario that runs: what ``rteval init`` does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rteval.audio import Channel
from rteval.errors import UsageError
from rteval.metadata import METADATA, cell_faults
from rteval.recordings import Recording, find_recording
from rteval.scenario import json_schema

__all__ = ["InitResult", "init_dataset"]

READABLE: Final = frozenset(
    "aif aifc aiff au caf flac mp3 oga ogg opus rf64 snd w64 wav wave".split()  # noqa: SIM905
)
UNREADABLE: Final = frozenset("3gp aac ac3 alac amr m4a mka mp4 weba webm wma".split())  # noqa: SIM905
"""Endings of audio that libsndfile cannot read: such files are named, all other files are passed over."""

SCHEMA_NAME: Final = "rteval.schema.json"
SHIPPED_SCHEMA: Final = "schema.json"
"""What the schema is called beside the scenarios that come with rteval."""

SCENARIO: Final = """\
# yaml-language-server: $schema={schema}
# Written by `rteval init`. `rteval check` says what it would run, `rteval run` runs it.
name: {name}
description: {description}

target:
  # The embedded server answers, so this runs without a key. For a deployment of your own:
  # provider: azure
  # endpoint: https://NAME.openai.azure.com
  # deployment: NAME
  provider: simulator

session:
  instructions: You are a helpful support agent. Answer in one or two sentences.
  modalities: [text, audio]
  # A pause this long ends the caller's turn. Recordings with longer pauses need more, or `turn_detection: none`.
  turn_detection: {{type: server_vad, silence_duration_ms: 500}}
  transcription: whisper-1

dataset: {dataset}

load:
  sessions: {sessions}

limits:
  # How late this machine may send and wake (p99) before the run is called invalid.
  send_lag_ms: 200
  loop_lag_ms: 200

gates:
  - error_rate <= 0.01
  - {gate}
  # With a "transcription" in the lines of metadata.jsonl, and a real service (the embedded server does not listen, it
  # gives the transcription back):
  # - input_wer <= 0.10
"""


@dataclass(frozen=True, slots=True)
class InitResult:
    """What was written.

    Attributes:
        metadata: the dataset's list of items.
        scenario: the scenario that runs them.
        schema: the JSON Schema beside it, for editors.
        items: how many recordings are in it.
        audio_s: their length together.
        skipped: audio that is not in it, a sentence each with the reason.
    """

    metadata: Path
    scenario: Path
    schema: Path
    items: int
    audio_s: float
    skipped: tuple[str, ...] = ()


def init_dataset(
    folder: Path, *, scenario_out: Path | None = None, channel: Channel | None = None, force: bool = False
) -> InitResult:
    """Write ``metadata.jsonl`` and a scenario for all recordings in a folder and its subfolders.

    Args:
        folder: where the recordings are.
        scenario_out: the scenario to write; without it ``scenarios/NAME.yaml`` where there is such a folder, else
            ``NAME.yaml``, both from the working directory.
        channel: the caller's channel in files whose channels differ.
        force: overwrite what is there.

    Raises:
        UsageError: nothing to do, something would be overwritten, or ``channel`` is needed. Nothing was written then.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}", hint="name a folder of recordings")
    if channel is not None:
        for what, _ in cell_faults({"file_name": "-", "channel": channel}):
            raise UsageError(what, hint="write left, right, mix or a number from 0")
    name = _name(folder)
    scenario = scenario_out or (Path("scenarios") if Path("scenarios").is_dir() else Path()) / f"{name}.yaml"
    metadata, schema = folder / METADATA[0], _schema(scenario.parent)
    if (folder / METADATA[1]).exists():
        raise UsageError(f"{folder / METADATA[1]} lists the items already", hint="run it, or remove it first")
    for path in () if force else (metadata, scenario):
        if path.exists():
            raise UsageError(f"{path} exists already", hint="say --force to overwrite it")

    rows, skipped, audio_s = _survey(folder, channel)
    if not rows:
        what = f"{folder} holds no usable recording"
        reasons = f": {'; '.join(skipped[:3])}{'; ...' if len(skipped) > 3 else ''}" if skipped else ""
        raise UsageError(what + reasons, hint="WAV, FLAC, OGG and MP3 are read, among others")
    text = SCENARIO.format(
        schema=schema.name,
        name=_yaml(name),
        description=_yaml(f"The recordings in {folder.resolve().name}."),
        dataset=_yaml(_relative(folder, scenario.parent)),
        sessions=min(4, len(rows)),
        # p95 is withheld below 20 samples, and a gate on it would fail.
        gate="ttfa_ms.p95 < 1500" if len(rows) >= 20 else "ttfa_ms.p50 < 1500",
    )
    try:
        scenario.parent.mkdir(parents=True, exist_ok=True)
        _write(metadata, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        if not schema.exists():
            _write(schema, json.dumps(json_schema(), indent=2) + "\n")
        _write(scenario, text)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from error
    return InitResult(metadata, scenario, schema, len(rows), audio_s, tuple(skipped))


def _survey(folder: Path, channel: Channel | None) -> tuple[list[dict[str, Any]], list[str], float]:
    """A row for each recording that a run could use, a sentence for each that it could not, and the length of all."""
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    undecided: list[str] = []
    audio_s = 0.0
    for path in _audio_files(folder):
        cells: dict[str, Any] = {"file_name": path.relative_to(folder).as_posix()}
        ending = path.suffix[1:].lower()
        faults = list(cell_faults(cells))
        if ending in UNREADABLE:
            what = f"{cells['file_name']} is {ending}, which cannot be read (convert it to FLAC or WAV)"
            faults.append((what, ""))
        found = faults or find_recording(folder, cells)
        if not faults and not isinstance(found, Recording):
            # Which fault it was does not matter: when naming a channel mends it, the channels differed.
            named = cells | {"channel": "mix" if channel is None else channel}
            retried = find_recording(folder, named)
            if isinstance(retried, Recording) and channel is None:
                undecided.append(cells["file_name"])
                continue
            if isinstance(retried, Recording):
                cells, found = named, retried
        if isinstance(found, Recording):
            rows.append(cells)
            audio_s += found.duration_s
        else:
            skipped += [what for what, _ in found]
    if undecided:
        more = f" and {len(undecided) - 1} more have" if len(undecided) > 1 else " has"
        hint = "say who is the caller: --channel left, right, mix or a number"
        raise UsageError(f"{undecided[0]}{more} channels that differ", hint=hint)
    return rows, skipped, audio_s


def _audio_files(folder: Path) -> Iterator[Path]:
    """All files that look like audio, in the order of their names; hidden files and folders are passed over."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix[1:].lower() in READABLE | UNREADABLE:
                yield Path(parent, name)


def _schema(folder: Path) -> Path:
    """The schema that a scenario in this folder points at."""
    shipped = folder / SHIPPED_SCHEMA
    try:
        ours = json.loads(shipped.read_bytes()).get("title") == json_schema()["title"]
    except (OSError, ValueError, AttributeError):
        ours = False
    return shipped if ours else folder / SCHEMA_NAME


def _name(folder: Path) -> str:
    """The folder's name as a scenario may be called."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")
    return plain[:100] or "recordings"


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return path.resolve().as_posix()


def _yaml(text: str) -> str:
    """A scenario's text: JSON strings are YAML, and a dollar is written twice where variables are read."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    """All or nothing: an interrupted write leaves what was there."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
