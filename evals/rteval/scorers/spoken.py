"""The scorer ``spoken_wer``: an independent recogniser listens to the kept answers, and its words are compared.

faster-whisper is an extra (``pip install 'rteval[spoken]'``); this is its only address.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import audio
from ..scoring.answer_audio import answer_file
from ..scoring.normalize import normalizer
from ..scoring.scores import Measured, Metric, Scored, not_scored
from ..scoring.words import WordCounts, count_errors
from .evidence import Evidence
from .protocol import Options, ScoredRun, Scorer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recogniser", "SpokenWer"]

RATE = 16_000
"""Samples per second of what a recogniser listens to."""

COUNTS = ("ref_words", "substitutions", "deletions", "insertions")

INSTALL = "the package faster-whisper is not installed: pip install 'rteval[spoken]'"


class Recogniser(Protocol):
    """Turns speech into words.

    Attributes:
        name: with versions, for the record.
    """

    name: str

    def words(self, samples: audio.Samples, language: str | None) -> str:
        """What is said in mono samples at 16 kHz; ``language`` is an ISO 639-1 code, ``None`` when it is not known."""
        ...


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(default="small", pattern=r"\S")
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    compute_type: str = Field(default="int8", pattern=r"^[a-z0-9_]+$")
    threads: int = Field(default=0, ge=0, le=256)
    download: bool = True
    against: Literal["transcript", "answer"] = "transcript"
    min_scored: float = Field(default=0.95, ge=0, le=1)


class _FasterWhisper:
    """Whisper by CTranslate2."""

    def __init__(self, options: _Options) -> None:
        from faster_whisper import WhisperModel  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra

        self.name = f"faster-whisper/{version('faster-whisper')} {Path(options.model).name} {options.compute_type}"
        self._model = WhisperModel(
            options.model,
            device=options.device,
            compute_type=options.compute_type,
            cpu_threads=options.threads,
            local_files_only=not options.download,
        )

    def words(self, samples: audio.Samples, language: str | None) -> str:
        # No chance and no memory, so that a file has the same words wherever it stands; speech only, since Whisper
        # makes up words for silence.
        segments, _ = self._model.transcribe(
            samples, language=language, beam_size=5, temperature=0.0, condition_on_previous_text=False, vad_filter=True
        )
        return " ".join(segment.text.strip() for segment in segments)


class SpokenWer(Scorer):
    """Word errors of the answer's audio, as another recogniser hears it, against the answer's transcript.

    Args:
        make: makes the recogniser; by default faster-whisper.
    """

    needs_audio = True
    metrics: Mapping[str, Metric] = {
        "wer": Metric(
            "word errors of what an independent recogniser hears in the answer's audio against the answer's transcript "
            "(or the expected answer, option against), pooled: sum of errors / sum of reference words",
            of="errors",
            per="ref_words",
            better="lower",
        ),
        "scored_share": Metric(
            "turns that were compared / ok turns outside the warm-up with something to compare", of="scored"
        ),
    }

    def __init__(self, make: Callable[[_Options], Recogniser] | None = None) -> None:
        self._make = make

    def faults(self, options: Options) -> Sequence[str]:
        """Options that are unknown or of another type."""
        try:
            _Options.model_validate(dict(options))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            return [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults]
        return ()

    def obstacle(self, options: Options) -> str | None:
        """The recogniser is not installed."""
        return INSTALL if self._make is None and find_spec("faster_whisper") is None else None

    def score(self, turns: pd.DataFrame, run: ScoredRun, options: Options) -> Scored:
        """Listen to every kept answer of an ok turn."""
        read = _Options.model_validate(dict(options))
        rows = list(_rows(turns, run, read))
        wanted = [row for row in rows if row is not None]
        if not any(row.path.is_file() for row in wanted):
            return not_scored("no answer's audio was kept (report.audio: all)" if wanted else "no turn to compare")
        try:
            recogniser = (self._make or _FasterWhisper)(read)
        except ImportError:
            return not_scored(INSTALL)
        except Exception as error:  # no such model, no network, no memory: its libraries have errors of many kinds
            why = str(error).split("\n")[0][:200]
            return not_scored(f"the model {read.model!r} could not be loaded ({type(error).__name__}: {why})")
        run.say(f"scorer {run.name}: {recogniser.name} listens to {len(wanted)} answers")
        with Evidence(run.evidence) as evidence:
            heard = [None if row is None else _hear(row, recogniser, run, evidence) for row in rows]
        return _scored(rows, heard, read, recogniser.name)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer that can be compared.

    Attributes:
        path: of its audio, which may be missing.
        reference: the words that should be heard.
    """

    session: str
    turn: int
    path: Path
    reference: str
    language: str | None


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the recogniser heard and how it compares; without counts ``reason`` says why there are none."""

    text: str | None = None
    counts: WordCounts | None = None
    reason: str | None = None


def _rows(turns: pd.DataFrame, run: ScoredRun, options: _Options) -> Iterator[_Answer | None]:
    """For each turn the answer that is to be compared; ``None`` for a turn that has none."""
    names = ("session", "turn", "outcome", "warmup", "output_transcript", "expect", "language")
    columns = [turns[name].astype(object).where(turns[name].notna(), None).tolist() for name in names]
    for session, turn, outcome, warmup, transcript, expect, language in zip(*columns, strict=True):
        reference = transcript if options.against == "transcript" else _expected(expect)
        if outcome != "ok" or warmup or not reference:
            yield None
        else:
            yield _Answer(session, int(turn), answer_file(run.folder, session, int(turn)), reference, language)


def _expected(expect: str | None) -> str | None:
    try:
        answer = json.loads(expect)["answer"] if expect else None
    except (ValueError, LookupError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _hear(row: _Answer, recogniser: Recogniser, run: ScoredRun, evidence: Evidence) -> _Heard:
    """Listen, or take what was heard of the same file before."""
    try:
        data = row.path.read_bytes()
        key = hashlib.sha256(f"{recogniser.name}\n{row.language}\n".encode() + data).hexdigest()
        entry = evidence.of(key)
        text = entry.get("text") if entry is not None else None
        if not isinstance(text, str):
            samples, rate = audio.read(row.path)
            text = recogniser.words(audio.resample(samples[:, 0], rate, RATE), _code(row.language))
            if run.texts_kept:
                evidence.add(key, {"session": row.session, "turn": row.turn, "text": text})
        return _Heard(text, count_errors(row.reference, text, normalizer(run.normalizer, row.language)))
    except FileNotFoundError:
        return _Heard(reason="no audio was kept")
    except audio.AudioFileError as error:
        return _Heard(reason=f"its audio {error}")
    except Exception as error:  # of the recogniser: one strange file must not take the others with it
        return _Heard(reason=f"the recogniser broke: {type(error).__name__}")


def _code(language: str | None) -> str | None:
    """``en-GB`` is ``en``; what is no code of two letters is not known."""
    code = (language or "").replace("_", "-").partition("-")[0].lower()
    return code if len(code) == 2 and code.isalpha() else None


def _scored(rows: Sequence[_Answer | None], heard: Sequence[_Heard | None], options: _Options, name: str) -> Scored:
    counts = [None if one is None else one.counts for one in heard]
    compared = [count for count in counts if count is not None]
    wanted, n = sum(row is not None for row in rows), len(compared)
    errors = [None if count is None else count.substitutions + count.deletions + count.insertions for count in counts]
    words = sum(count.ref_words for count in compared)
    why = None
    if n / wanted < options.min_scored:
        first = next((one.reason for one in heard if one is not None and one.reason), None)
        why = f"only {n} of {wanted} turns were compared, fewer than min_scored {options.min_scored:g}: {first}"
    elif not words:
        why = "no reference words"
    return Scored(
        columns={
            **{name: [None if c is None else getattr(c, name) for c in counts] for name in COUNTS},
            "errors": errors,
            "scored": [None if row is None else count is not None for row, count in zip(rows, counts, strict=True)],
            "wer": [None if count is None else count.wer for count in counts],
            "text": [None if one is None else one.text for one in heard],
            "not_scored": [None if one is None else one.reason for one in heard],
        },
        metrics={
            "wer": Measured(None if why else sum(filter(None, errors)) / words, n, wanted - n, why),
            "scored_share": Measured(n / wanted, wanted),
        },
        about={"scorer": "spoken_wer", "recogniser": name, "against": options.against, "jiwer": version("jiwer")},
        texts=("text",),
    )
