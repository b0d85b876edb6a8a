"""The recording that a metadata row names: found inside the folder, read once, checked, its voice located."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np

from rteval.audio import AudioFileError, AudioReader, Samples, VoiceDetector, channel_index, pick_channel
from rteval.metadata import Faults

__all__ = ["Recording", "find_recording"]

# A difference this small (-60 dBFS, the voice detector's floor) can hide no second speaker.
SAME_CHANNEL: Final = 1e-3
# Float files may overshoot full scale a little; this far beyond it they were written in another scale.
PEAK_LIMIT: Final = 8.0
# Tools round times to milliseconds, so a segment may end that much behind its file.
ROUNDING_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Recording:
    """One segment of one file, checked.

    Attributes:
        path: the file, which lies beside the metadata when its folder is missing (see :func:`find_recording`).
        duration_s: length of the segment.
        speech_start_s: first voiced sample, counted from the segment's start; ``None`` when none is before the end.
        speech_end_s: end of the last voiced sample, or what ``speech_end_ms`` says.
    """

    path: Path
    duration_s: float
    speech_start_s: float | None
    speech_end_s: float


def find_recording(folder: Path, cells: Mapping[str, Any]) -> Recording | Sequence[tuple[str, str]]:
    """The recording that checked cells name, or what is wrong with it: each fault with its cure.

    Where the folder that ``file_name`` names does not exist, the file is looked for in the dataset's own folder: some
    services take uploads without their folders.

    Args:
        folder: of the dataset, which the file must not leave.
        cells: of the row: ``file_name``, and what it has of ``channel``, ``start_s``, ``end_s``, ``speech_end_ms``.
    """
    name = cells["file_name"]
    path = _flat_path(folder, name) or folder / name
    if faults := list(_path_faults(folder, path, name)):
        return faults
    try:
        with AudioReader(path) as reader:
            if faults := [*_segment_faults(cells, reader), *_channel_faults(cells, reader)]:
                return faults
            detector = VoiceDetector(reader.rate)
            if faults := list(_sample_faults(cells, reader, detector)):
                return faults
            return _located(cells, path, reader, detector)
    except AudioFileError as error:
        return [(f"{name} {error}", "record it again or remove the line")]


def _located(cells: Mapping[str, Any], path: Path, reader: AudioReader, detector: VoiceDetector) -> Recording:
    first, last = reader.span(cells.get("start_s"), cells.get("end_s"))
    duration_s = (last - first) / reader.rate
    start_s, end_s = detector.span() or (None, duration_s)
    if cells.get("speech_end_ms") is not None:
        end_s = min(cells["speech_end_ms"] / 1000, duration_s)
    return Recording(path, duration_s, start_s if start_s is not None and start_s < end_s else None, end_s)


def _flat_path(folder: Path, name: str) -> Path | None:
    """Where a file lies that was uploaded without its folder, or ``None``; a file is never taken for a missing one."""
    written = PurePosixPath(name)
    if len(written.parts) < 2 or written.is_absolute() or ".." in written.parts:
        return None
    flat = folder / written.name
    try:
        return flat if not (folder / written).parent.exists() and flat.is_file() else None
    except (OSError, RuntimeError):  # a name too long, a ring of links: told as faults of the path as it is written
        return None


def _path_faults(folder: Path, path: Path, name: str) -> Faults:
    if (path.is_absolute() and Path(name).is_absolute()) or PureWindowsPath(name).is_absolute():
        yield f"{name} is an absolute path", "write it relative to the dataset's folder"
        return
    try:
        inside, is_file = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, a ring of links
        yield f"{name!r} is no usable path ({error})", "correct file_name"
        return
    if not inside:
        via = "a link" if is_file and ".." not in Path(name).parts else "a path"
        yield f"{name} is {via} that leads out of the dataset's folder", "copy the file into the folder"
    elif not is_file:
        yield f"{name} {'is not a file' if path.exists() else 'does not exist'}", _nearest_file(path)


def _nearest_file(path: Path) -> str:
    siblings = [file.name for file in path.parent.iterdir() if file.is_file()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, 1, 0.7)
    return f"did you mean {near[0]}?" if near else "add the file or remove the line"


def _segment_faults(cells: Mapping[str, Any], reader: AudioReader) -> Faults:
    name, whole = cells["file_name"], reader.duration_s
    start_s, end_s = cells.get("start_s") or 0.0, cells.get("end_s")
    until = whole if end_s is None else end_s
    first, last = reader.span(start_s, end_s)
    speech_end_ms = cells.get("speech_end_ms")
    if start_s >= whole:
        yield f"start_s {start_s:g} is behind the end of {name} ({whole:.3f} s)", "correct start_s"
    elif until > whole + ROUNDING_S:
        yield f"end_s {until:g} is behind the end of {name} ({whole:.3f} s)", "correct end_s"
    elif first >= last:
        yield f"end_s {until:g} is not after start_s {start_s:g}", "give the segment some length"
    elif speech_end_ms is not None and speech_end_ms / 1000 > until - start_s + ROUNDING_S:
        what = f"speech_end_ms {speech_end_ms:g} is behind the end of the item's audio ({until - start_s:.3f} s)"
        yield what, "count it from the start of the item's own audio"


def _channel_faults(cells: Mapping[str, Any], reader: AudioReader) -> Faults:
    channel, have = cells.get("channel"), reader.channels
    if channel_index(channel) >= have:
        what = f"channel {channel} is not in {cells['file_name']}, which has {have} channel{'s' * (have > 1)}"
        yield what, f"number them from 0 to {have - 1}" if have > 1 else "remove channel"


def _sample_faults(cells: Mapping[str, Any], reader: AudioReader, detector: VoiceDetector) -> Faults:
    """Read the segment once, feed the detector, and stop at the first fault of its samples."""
    name, channel = cells["file_name"], cells.get("channel")
    for block in reader.blocks(cells.get("start_s"), cells.get("end_s")):
        peak = float(np.max(np.abs(block)))
        if not math.isfinite(peak):
            yield f"{name} holds samples that are no numbers", "export it again"
            return
        if peak > PEAK_LIMIT:
            yield f"{name} has samples up to {peak:g} where full scale is 1", "export it again, normalised"
            return
        if channel is None and reader.channels > 1 and _spread(block) > SAME_CHANNEL:
            cure = "set channel to left, right, a number or mix, as only one may be the caller"
            yield f"{name} has channels that differ", cure
            return
        detector.feed(pick_channel(block, channel))
    if detector.span() is None and cells.get("speech_end_ms") is None:
        cure = "record it again, or set speech_end_ms to say when the caller stops"
        yield f"{name} holds no voice, only silence", cure


def _spread(block: Samples) -> float:
    """How far the channels are apart, at most, from the first one."""
    return max(float(np.max(np.abs(block[:, n] - block[:, 0]))) for n in range(1, block.shape[1]))
