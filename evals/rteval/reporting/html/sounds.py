"""The audio beside the page: answers that were kept, the recordings that were asked with, and the outline of both."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ... import audio
from ...corpus import Item, load_dataset
from ...errors import RtevalError
from ...scoring.answer_audio import AUDIO, answer_file
from .timeline import DIGITS

__all__ = ["QUESTIONS", "Sounds", "find_sounds", "outline"]

QUESTIONS = "questions"
"""Folder in the run folder's ``audio/`` with one file an item, and ``index.json`` that says which is whose."""

INDEX = "index.json"
MOST_BINS, FEWEST_BINS = 240, 40


@dataclass(frozen=True, slots=True)
class Sounds:
    """What can be played beside the page.

    Attributes:
        answers: by row of the turn table, the outline of the answer; empty for a file that cannot be read.
        questions: by item: ``file`` (path from the page), ``seconds``, ``speech_end_s`` and ``outline``.
        notes: what is not there, a sentence each.
    """

    answers: Mapping[int, str] = field(default_factory=dict)
    questions: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_sounds(folder: Path, run: Mapping[str, Any], turns: pd.DataFrame, *, most_characters: int) -> Sounds:
    """Find the audio of a run that was kept, and put the recordings of its questions beside it.

    The page holds no audio, it would be hours: it names files of the run folder. The recordings of the questions lie
    in the dataset, which seldom travels with a run folder; so those of turns whose answer was kept are copied, one
    file an item, as they were sent: the item's segment and channel. Where the dataset is gone, or is no longer the one
    that was run, nothing is copied.

    Args:
        folder: the run folder.
        run: ``run.json``.
        turns: ``session``, ``turn``, ``item``.
        most_characters: room for the outlines of answers.
    """
    if not (folder / AUDIO).is_dir() or not {"session", "turn", "item"} <= set(turns.columns):
        return Sounds()
    names = {path.name for path in (folder / AUDIO).iterdir()}
    keys = zip(turns["session"].astype(str), turns["turn"].astype(int), strict=True)
    kept = {row: path for row, key in enumerate(keys) if (path := answer_file(folder, *key)).name in names}
    if not kept:
        return Sounds()
    bins = max(FEWEST_BINS, min(MOST_BINS, most_characters // len(kept)))
    answers = {row: _outline_of(path, bins) for row, path in kept.items()}
    spoken = turns.iloc[list(kept)]
    if "modality" in spoken:
        spoken = spoken[spoken["modality"].astype(object) == "audio"]
    wanted = list(dict.fromkeys(spoken["item"].astype(str)))
    questions, notes = _questions(folder / AUDIO / QUESTIONS, run, wanted)
    return Sounds(answers, questions, tuple(notes))


def outline(samples: npt.NDArray[np.float32], bins: int) -> str:
    """Return the loudest sample of each of ``bins`` equal parts as one digit each, the loudest of all being 63."""
    if not len(samples):
        return ""
    edges = np.linspace(0, len(samples), min(bins, len(samples)) + 1).astype(np.int64)
    peaks = np.maximum.reduceat(np.abs(samples), edges[:-1])
    loudest = float(peaks.max())
    if not loudest:
        return DIGITS[0] * len(peaks)
    return "".join(DIGITS[level] for level in np.rint(peaks / loudest * 63).astype(int).tolist())


def _outline_of(path: Path, bins: int) -> str:
    try:
        samples, _rate = audio.read(path)
    except (audio.AudioFileError, ValueError):
        return ""
    return outline(samples[:, 0], bins)


def _questions(folder: Path, run: Mapping[str, Any], wanted: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The recordings of the wanted items, those that were copied before and those that are copied now."""
    known = _read_index(folder)
    missing = [item for item in wanted if item not in known]
    notes = []
    if missing:
        copied, reason = _copy(folder, run, missing)
        known |= copied
        if reason:
            notes.append(f"The recordings of {len(missing)} items are not beside this page: {reason}.")
    found = {}
    for item in wanted:
        if item in known:
            entry = known[item]
            shape = _outline_of(folder / entry["file"], MOST_BINS)
            found[item] = entry | {"file": f"{AUDIO}/{QUESTIONS}/{entry['file']}", "outline": shape}
    return found, notes


def _read_index(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads((folder / INDEX).read_text("utf-8"))
        return {
            str(item): {
                # An index that was edited by hand leads nowhere else.
                "file": Path(str(entry["file"])).name,
                "seconds": float(entry["seconds"]),
                "speech_end_s": float(entry["speech_end_s"]),
            }
            for item, entry in entries.items()
            if (folder / Path(str(entry["file"])).name).is_file()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _copy(folder: Path, run: Mapping[str, Any], wanted: Iterable[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """Copy recordings out of the dataset; why not, where it could not be done."""
    facts = run.get("dataset") or {}
    if not isinstance(facts.get("path"), str):
        return {}, "the run does not say where its dataset is"
    try:
        dataset = load_dataset(facts["path"])
        if dataset.hash != facts.get("hash"):
            return {}, "the dataset has changed since"
        items = {item.id: item for item in dataset.items}
        folder.mkdir(exist_ok=True)
        copied = {}
        for name in wanted:
            if (item := items.get(name)) is not None and item.path is not None:
                file = _file_name(item)
                audio.write_wav(folder / file, *dataset.samples(item))
                copied[name] = {"file": file, "seconds": item.duration_s, "speech_end_s": item.speech_end_s}
        text = json.dumps(_read_index(folder) | copied, ensure_ascii=False, indent=1, sort_keys=True)
        (folder / INDEX).write_text(text + "\n", "utf-8")
    except RtevalError:
        return {}, "the dataset is not there any more, or cannot be read"
    except (OSError, ValueError, audio.AudioFileError):
        return {}, "they could not be copied"
    return copied, ""


def _file_name(item: Item) -> str:
    """A file name for an id, which may hold anything; two ids never share one, not even where case does not count."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", item.id).strip(".-")[:60]
    if plain == item.id == plain.lower():
        return f"{plain}.wav"
    return f"{plain}-{hashlib.sha256(item.id.encode('utf-8', 'replace')).hexdigest()[:8]}.wav"
