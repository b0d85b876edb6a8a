"""A dataset folder as checked, ordered items whose audio is read on demand; nothing here keeps samples.

A dataset is a folder with ``metadata.jsonl`` or ``metadata.csv``, one item a line, in the AudioFolder convention of
Hugging Face ``datasets`` (``file_name``, any further columns) with ``transcription`` as the reference. All problems of
a dataset are found before anything runs, and told together.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rteval.audio import DETECTOR, AudioFileError, AudioReader, Channel, Encoder, Samples, pick_channel
from rteval.errors import DatasetError
from rteval.formats import AudioFormat
from rteval.metadata import COLUMNS, MEANT, METADATA, Problems, Row, cell_faults, read_rows
from rteval.recordings import Recording, find_recording

__all__ = ["DETECTOR", "Channel", "Dataset", "Item", "load_dataset"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a caller says: a recording, a segment of one, or a text prompt.

    Attributes:
        id: unique in the dataset.
        path: the audio file, or ``None`` for a text prompt.
        text: the prompt, or ``None`` for audio.
        instructions: of this one answer, ``None`` for audio; without ``text`` the model speaks though nobody asked.
        reference: what is said in the audio, or ``None`` when nobody wrote it down.
        expect: what a right answer is: ``answer``, ``contains``, ``regex``, ``equals``, ``tool_call``.
        conversation_id: items that share it are spoken in one session, in order.
        channel: see :data:`rteval.audio.Channel`; ``None`` where all channels are the same.
        start_s: start of the segment in the file; ``None`` is the file's start.
        end_s: end of the segment in the file; ``None`` is the file's end.
        duration_s: length of the item's audio (0.0 for text).
        speech_start_s: first voiced sample, counted from the item's start; ``None`` for text, or when the detector
            heard nothing before the end that the dataset gives.
        speech_end_s: end of the last voiced sample, counted from the item's start; ``None`` for text.
        meta: the columns we do not know.
    """

    id: str
    path: Path | None = None
    text: str | None = None
    instructions: str | None = None
    reference: str | None = None
    expect: dict[str, Any] | None = field(default=None, hash=False)
    conversation_id: str | None = None
    tags: tuple[str, ...] = ()
    language: str | None = None
    channel: Channel | None = None
    start_s: float | None = None
    end_s: float | None = None
    duration_s: float = 0.0
    speech_start_s: float | None = None
    speech_end_s: float | None = None
    meta: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def modality(self) -> Literal["audio", "text"]:
        """How the caller's side is given."""
        return "text" if self.path is None else "audio"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The items to run, in order.

    Attributes:
        path: the folder.
        items: what is left after the selection.
        hash: sha256 over all rows and all audio bytes of the folder, whatever was selected.
        notes: what is allowed but looks like a mistake, a sentence each.
    """

    path: Path
    items: tuple[Item, ...]
    hash: str
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all items."""
        return sum(item.duration_s for item in self.items)

    @property
    def references(self) -> int:
        """How many audio items have a reference."""
        return sum(item.path is not None and item.reference is not None for item in self.items)

    def samples(self, item: Item) -> tuple[Samples, int]:
        """The item's audio as mono samples and their rate in Hz, read now and not kept.

        Raises:
            DatasetError: the file changed since the dataset was loaded and cannot be read.
            ValueError: the item is a text prompt.
        """
        with _opened(item) as reader:
            blocks = [pick_channel(block, item.channel) for block in reader.blocks(item.start_s, item.end_s)]
            return np.concatenate(blocks) if blocks else np.empty(0, np.float32), reader.rate

    def encoded(self, item: Item, fmt: AudioFormat) -> bytes:
        """The item's audio in a wire format, read now and not kept; memory is that of the result.

        Raises:
            DatasetError: the file changed since the dataset was loaded and cannot be read.
            ValueError: the item is a text prompt.
        """
        with _opened(item) as reader:
            encoder = Encoder(reader.rate, fmt)
            wire = io.BytesIO()
            for block in reader.blocks(item.start_s, item.end_s):
                wire.write(encoder.feed(pick_channel(block, item.channel)))
            wire.write(encoder.feed(np.empty(0, np.float32), last=True))
            return wire.getvalue()


@contextmanager
def _opened(item: Item) -> Iterator[AudioReader]:
    """The item's file, with its errors turned into ours."""
    if item.path is None:
        raise ValueError(f"item {item.id!r} is a text prompt and has no audio")
    try:
        with AudioReader(item.path) as reader:
            yield reader
    except AudioFileError as error:
        hint = "the file changed after the dataset was checked"
        raise DatasetError(f"{item.path} {error}", hint=hint) from error


def load_dataset(
    path: str | Path,
    *,
    ids: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    limit: int | None = None,
    order: Literal["file", "shuffled"] = "file",
    seed: int = 0,
    flat: Path | None = None,
) -> Dataset:
    """Read and check a whole dataset folder, then select from it.

    Where files were uploaded without their folders, a recording is found beside the metadata, and the dataset in
    ``flat``; ``Dataset.notes`` says so.

    Args:
        path: the folder.
        ids: keep only these items.
        tags: keep only items that have at least one of these tags.
        limit: keep at most so many items, after ordering.
        order: ``file``, or ``shuffled``: conversations are shuffled as a whole and keep their inner order.
        seed: of the shuffling; the same seed gives the same order on every machine.
        flat: folder that is taken instead when ``path`` does not exist and this one holds metadata.

    Raises:
        DatasetError: the dataset has problems (all are listed), or the selection leaves nothing to run.
    """
    folder = Path(path)
    notes = []
    if flat is not None and not os.path.exists(folder) and any((flat / name).is_file() for name in METADATA):
        notes.append(f"dataset {folder} does not exist; the one in {flat.absolute()} was taken")
        folder = flat
    metadata = _find_metadata(folder)
    problems = Problems(metadata)
    rows = read_rows(metadata, problems)
    _check_unique(rows, problems)
    found = [_item(folder, row, id_, problems) for row, id_ in zip(rows, _ids(rows), strict=True)]
    moved = list(_moved(folder, rows, found, problems))
    items = [item for item in found if item is not None]
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        raise DatasetError(f"dataset {folder} has {count}:", problems=problems.sentences)
    selected = _select(items, folder, ids=ids, tags=tags, limit=limit, order=order, seed=seed)
    if moved:
        more = f" and {len(moved) - 1} more recordings were" if len(moved) > 1 else " was"
        notes.append(f"{metadata}: {moved[0]}{more} found beside it, without the folder")
    return Dataset(folder, tuple(selected), _hash(rows, items), (*notes, *_notes(metadata, rows)))


def _find_metadata(folder: Path) -> Path:
    cure = "`rteval init` writes metadata.jsonl for a folder of recordings"
    try:
        there = folder.exists()
    except OSError as error:
        raise DatasetError(f"dataset {str(folder)[:200]} cannot be read: {error.strerror}") from error
    if not there:
        raise DatasetError(f"dataset {folder} does not exist", hint="name a folder that holds metadata.jsonl")
    if not folder.is_dir():
        raise DatasetError(f"dataset {folder} is not a folder", hint="name the folder that holds metadata.jsonl")
    found = [folder / name for name in METADATA if (folder / name).is_file()]
    if not found:
        raise DatasetError(f"dataset {folder} has neither {METADATA[0]} nor {METADATA[1]}", hint=cure)
    if len(found) > 1:
        raise DatasetError(f"dataset {folder} has both {METADATA[0]} and {METADATA[1]}", hint="remove one of them")
    return found[0]


def _notes(metadata: Path, rows: Iterable[Row]) -> Iterator[str]:
    known = {column for row in rows for column in row.cells if column in COLUMNS}
    for column in dict.fromkeys(column for row in rows for column in row.cells if column not in COLUMNS):
        unused = [name for name in COLUMNS if name not in known]
        near = [name for name in (MEANT.get(column.lower()),) if name in unused]
        near = near or difflib.get_close_matches(column, unused, 1, 0.8)
        if near:
            yield f"{metadata}: column {column!r} is kept as it is; if {near[0]!r} was meant, rename it"


# -- items --------------------------------------------------------------------------------------------------------


def _item(folder: Path, row: Row, id_: str, problems: Problems) -> Item | None:
    """The item of a row, or ``None`` after adding what is wrong with it to ``problems``."""
    faults: Sequence[tuple[str, str]] = list(cell_faults(row.cells))
    recording = None
    if not faults and row.get("file_name") is not None:
        found = find_recording(folder, row.cells)
        recording, faults = (found, ()) if isinstance(found, Recording) else (None, found)
    for what, cure in faults:
        problems.say(row.line, what, cure)
    if faults:
        return None
    tags = row.get("tags") or ()
    return Item(
        id=id_,
        path=recording.path if recording else None,
        text=row.get("text"),
        instructions=row.get("instructions"),
        reference=row.get("transcription"),
        expect=row.get("expect"),
        conversation_id=row.get("conversation_id"),
        tags=(tags,) if isinstance(tags, str) else tuple(tags),
        language=row.get("language"),
        channel=row.get("channel"),
        start_s=row.get("start_s"),
        end_s=row.get("end_s"),
        duration_s=recording.duration_s if recording else 0.0,
        speech_start_s=recording.speech_start_s if recording else None,
        speech_end_s=recording.speech_end_s if recording else None,
        meta={column: value for column, value in row.cells.items() if column not in COLUMNS},
    )


def _check_unique(rows: Iterable[Row], problems: Problems) -> None:
    """No id twice, and no recording twice without ids that say it is meant."""
    ids: dict[str, Row] = {}
    recordings: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.get("id") is not None:
            first = ids.setdefault(str(row.get("id")), row)
            if first is not row:
                problems.say(row.line, f"id {row.get('id')!r} was used in line {first.line}", "make ids unique")
        elif isinstance(row.get("file_name"), str):
            same = tuple(repr(row.get(column)) for column in ("file_name", "channel", "start_s", "end_s"))
            first = recordings.setdefault(same, row)
            if first is not row:
                what = f"{row.get('file_name')} is the same recording as line {first.line}"
                problems.say(row.line, what, "remove it, or give it an id")


def _moved(folder: Path, rows: Sequence[Row], items: Sequence[Item | None], problems: Problems) -> Iterator[str]:
    """The names of recordings that were not in their folders but beside the metadata, each once.

    A file that several names would mean is a problem: whoever took the folders away kept only one of the recordings.
    """
    meant: dict[Path, tuple[Path, Row]] = {}
    for row, item in zip(rows, items, strict=True):
        if item is None or item.path is None:
            continue
        name = str(row.get("file_name"))
        written, first = meant.setdefault(item.path, (folder / name, row))
        if written != folder / name:
            what = f"{item.path.name} beside the metadata would be {name} and that of line {first.line}"
            problems.say(row.line, what, "give every recording a name of its own")
        elif first is row and item.path != written:
            yield name


def _ids(rows: Sequence[Row]) -> list[str]:
    """Each row's own id, else its file's name without the ending (numbered when shared), else ``text-N``."""
    derived = [_derived_id(row) for row in rows if row.get("id") is None]
    shared = {name for name, n in Counter(derived).items() if n > 1} | {"text"}
    taken = {str(row.get("id")) for row in rows}
    ids = []
    for row in rows:
        id_ = str(row.get("id"))
        if row.get("id") is None:
            name = _derived_id(row)
            numbers = (f"{name}-{n}" for n in count(1))
            id_ = next(id_ for id_ in chain([] if name in shared else [name], numbers) if id_ not in taken)
            taken.add(id_)
        ids.append(id_)
    return ids


def _derived_id(row: Row) -> str:
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        return "text"
    folder, slash, last = name.rpartition("/")
    stem, dot, _ = last.rpartition(".")
    return folder + slash + (stem if dot and stem else last)


# -- selection ----------------------------------------------------------------------------------------------------


def _select(
    items: Sequence[Item],
    folder: Path,
    *,
    ids: Sequence[str] | None,
    tags: Sequence[str] | None,
    limit: int | None,
    order: str,
    seed: int,
) -> list[Item]:
    if order not in ("file", "shuffled"):
        raise DatasetError(f"order {order!r} of dataset {folder} is not known", hint="write file or shuffled")
    selected = list(items)
    if ids is not None:
        _known("id", ids, [item.id for item in items], folder)
        selected = [item for item in selected if item.id in set(ids)]
    if tags is not None:
        _known("tag", tags, sorted({tag for item in items for tag in item.tags}), folder)
        selected = [item for item in selected if set(tags) & set(item.tags)]
        if not selected:
            raise DatasetError(
                f"nothing to run: no item of dataset {folder} with the chosen ids has a tag of {_list(tags)}",
                hint="drop ids or tags",
            )
    if order == "shuffled":
        selected = _shuffled(selected, seed)
    if limit is not None:
        if limit < 1:
            raise DatasetError(f"nothing to run: limit {limit} leaves no item of dataset {folder}", hint="1 or more")
        selected = selected[:limit]
    return selected


def _known(kind: str, wanted: Sequence[str], known: Sequence[str], folder: Path) -> None:
    """Refuse a filter that is empty or names what the dataset does not have."""
    if not wanted:
        raise DatasetError(f"nothing to run: {kind}s of dataset {folder} is an empty list", hint=f"drop {kind}s")
    unknown = [name for name in wanted if name not in set(known)]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, 1, 0.5)
    sample = f"it has {_list(known[:8])}{', ...' if len(known) > 8 else ''}" if known else f"it has no {kind}s"
    what = "nothing to run: " if len(unknown) == len(wanted) else ""
    raise DatasetError(
        f"{what}dataset {folder} has no {kind} {_list(unknown)}",
        hint=f"did you mean {near[0]!r}?" if near else sample,
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    """Whole conversations in the order of a keyed hash: adding an item does not reorder the others."""
    groups: dict[tuple[bool, str], list[Item]] = {}
    for item in items:
        alone = item.conversation_id is None
        groups.setdefault((alone, item.id if alone else str(item.conversation_id)), []).append(item)

    def key(group: tuple[bool, str]) -> bytes:
        return hashlib.sha256(json.dumps([seed, *group]).encode()).digest()

    return [item for group in sorted(groups, key=key) for item in groups[group]]


def _hash(rows: Iterable[Row], items: Iterable[Item]) -> str:
    """Of every row (as canonical JSON, so that line endings do not count) and of every audio file's bytes."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.cells, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    for path in dict.fromkeys(item.path for item in items if item.path is not None):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
