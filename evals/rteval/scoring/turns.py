"""Scores of whole turn tables: the content columns, one value a turn, made of its texts and expectations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from .checks import Answer, CheckResult, item_checks, run_check
from .entities import find_entities, parse_entities
from .normalize import Normalizer, normalizer
from .words import WordCounts, count_errors

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QUOTING", "SIDES", "TEXTS", "Scoring", "is_content_column", "score_turns"]

TEXTS = ("reference", "input_transcript", "output_transcript", "output_text", "expect", "tool_calls")
"""Columns that a score is made of, and that a run without transcripts does not keep."""

QUOTING = ("prompt", "entities_missing")
"""Further columns that hold texts or quote them, and that such a run does not keep either."""

SIDES = ("input", "output")

CHUNK = 5_000
"""Rows scored at a time: a table of a hundred thousand turns is never taken apart as a whole."""

COUNTS = {
    "ref_words": "ref_words",
    "hits": "hits",
    "substitutions": "substitutions",
    "deletions": "deletions",
    "insertions": "insertions",
    "ref_chars": "ref_chars",
    "char_errors": "char_errors",
}


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a run's texts are judged.

    Attributes:
        normalizer: one of ``NORMALIZERS``.
        wer: whether word and character errors are counted.
        checks: the scenario's checks of every answer: name -> ``{contains | regex | equals: ...}``.
    """

    normalizer: str = "whisper_english"
    wer: bool = True
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn as a scorer sees it."""

    outcome: str
    modality: str
    language: str | None
    transcript_outcome: str
    reference: str | None
    input_transcript: str | None
    output_transcript: str | None
    output_text: str | None
    expect: dict[str, Any]
    tool_calls: list[dict[str, Any]]

    @property
    def answer(self) -> str | None:
        return self.output_transcript if self.output_transcript else self.output_text or self.output_transcript


def is_content_column(name: str) -> bool:
    """Say whether ``score_turns`` makes that column."""
    if name == "normalizer" or name.startswith(("check_", "entities_")):
        return True
    side, _, rest = name.partition("_")
    return side in SIDES and (rest in COUNTS or rest in ("wer", "cer", "wer_reason"))


def score_turns(turns: pd.DataFrame, scoring: Scoring) -> pd.DataFrame:
    """Score every turn.

    Args:
        turns: the raw turn table; ``expect`` and ``tool_calls`` hold JSON text.
        scoring: how.

    Returns:
        The content columns, in the same order of rows: ``normalizer``; for input and output the counts, ``_wer``,
        ``_cer`` and ``_wer_reason`` (why there are none); ``entities_expected``, ``entities_found``,
        ``entities_missing`` (JSON list of those that were not found) and ``entities_reason``; per check
        ``check_<name>`` and ``check_<name>_reason``.
    """
    import pandas as pd

    texts = turns[[column.name for column in fields(_Turn)]]
    kinds = sorted({name for expect in _column(texts["expect"]) for name in item_checks(_parsed_expect(expect))})
    parts = [_score(texts.iloc[at : at + CHUNK], scoring, kinds) for at in range(0, len(texts), CHUNK)]
    return pd.concat(parts or [_score(texts, scoring, kinds)])


def _score(turns: pd.DataFrame, scoring: Scoring, kinds: Sequence[str]) -> pd.DataFrame:
    """Score a stretch of the table; ``kinds`` are the checks that any item of the run asks for."""
    import pandas as pd

    rows = _rows(turns)
    normalisers = [normalizer(scoring.normalizer, row.language) for row in rows]
    columns: dict[str, Any] = {"normalizer": pd.array([n.name for n in normalisers], dtype="string")}
    for side in SIDES if scoring.wer else ():
        columns |= _words(side, rows, normalisers)
    columns |= _entities(rows, normalisers)
    for name, judge in _checks(kinds, scoring).items():
        results = [judge(row, normalise) for row, normalise in zip(rows, normalisers, strict=True)]
        columns[f"check_{name}"] = pd.array([result.value for result in results], dtype="boolean")
        columns[f"check_{name}_reason"] = pd.array([result.reason for result in results], dtype="string")
    return pd.DataFrame(columns, index=turns.index)


def _rows(turns: pd.DataFrame) -> list[_Turn]:
    columns = {str(name): _column(turns[name]) for name in turns.columns}
    columns["expect"] = [_parsed_expect(text) for text in columns["expect"]]
    columns["tool_calls"] = [_parsed_calls(text) for text in columns["tool_calls"]]
    return [_Turn(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _column(column: pd.Series[Any]) -> list[Any]:
    values = column.astype(object)
    return values.where(values.notna(), None).tolist()


def _parsed_expect(text: str | None) -> dict[str, Any]:
    expect = _json(text)
    return expect if isinstance(expect, dict) else {}


def _parsed_calls(text: str | None) -> list[dict[str, Any]]:
    calls = _json(text)
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _words(side: str, rows: list[_Turn], normalisers: list[Normalizer]) -> dict[str, Any]:
    import pandas as pd

    pair = _heard if side == "input" else _spoken
    counts: list[WordCounts | None] = []
    reasons: list[str | None] = []
    for row, normalise in zip(rows, normalisers, strict=True):
        reference, text, reason = pair(row)
        count = None
        if reference is not None and text is not None:
            try:
                count = count_errors(reference, text, normalise)
                reason = None if count.ref_words else "the reference has no words"
            except Exception as error:  # one strange text must not take the other turns' scores with it
                reason = f"the words could not be compared: {type(error).__name__}"
        counts.append(count)
        reasons.append(reason)
    columns: dict[str, Any] = {
        f"{side}_{column}": pd.array([None if c is None else getattr(c, name) for c in counts], dtype="Int64")
        for column, name in COUNTS.items()
    }
    for rate in ("wer", "cer"):
        values = [None if c is None else getattr(c, rate) for c in counts]
        columns[f"{side}_{rate}"] = pd.array(values, dtype="float64")
    columns[f"{side}_wer_reason"] = pd.array(reasons, dtype="string")
    return columns


def _heard(row: _Turn) -> tuple[str | None, str | None, str | None]:
    """Reference and transcription of the caller, or why they are not compared."""
    if row.modality != "audio":
        return None, None, "a text prompt is not transcribed"
    if row.reference is None:
        return None, None, "the item has no reference"
    if row.transcript_outcome != "ok":
        return None, None, f"transcription {row.transcript_outcome}"
    return row.reference, row.input_transcript or "", None


def _spoken(row: _Turn) -> tuple[str | None, str | None, str | None]:
    """Expected answer and the answer, or why they are not compared."""
    expected = row.expect.get("answer")
    if not isinstance(expected, str):
        return None, None, "the item expects no answer"
    if row.outcome != "ok":
        return None, None, f"the turn ended {row.outcome}"
    if row.answer is None:
        return None, None, "the answer has neither transcript nor text"
    return expected, row.answer, None


def _entities(rows: list[_Turn], normalisers: list[Normalizer]) -> dict[str, Any]:
    import pandas as pd

    found = [_found(row, normalise) for row, normalise in zip(rows, normalisers, strict=True)]
    expected, got, missing, reasons = (list(values) for values in zip(*found, strict=True)) if found else ([],) * 4
    return {
        "entities_expected": pd.array(expected, dtype="Int64"),
        "entities_found": pd.array(got, dtype="Int64"),
        "entities_missing": pd.array(missing, dtype="string"),
        "entities_reason": pd.array(reasons, dtype="string"),
    }


def _found(row: _Turn, normalise: Normalizer) -> tuple[int | None, int | None, str | None, str | None]:
    """How many entities were expected and found, which were missing, or why they could not be looked for."""
    entities = parse_entities(row.expect.get("entities"))
    if not entities:
        return None, None, None, None
    if row.outcome != "ok":
        return None, None, None, f"the turn ended {row.outcome}"
    if row.answer is None:
        return None, None, None, "the answer has neither transcript nor text"
    try:
        holds = find_entities(entities, row.answer, normalise)
    except Exception as error:  # one strange text must not take the other turns' scores with it
        return None, None, None, f"the entities could not be looked for: {type(error).__name__}"
    missing = [entity.value for entity, held in zip(entities, holds, strict=True) if not held]
    return len(entities), sum(holds), json.dumps(missing, ensure_ascii=False) if missing else None, None


def _checks(kinds: Sequence[str], scoring: Scoring) -> dict[str, Callable[[_Turn, Normalizer], CheckResult]]:
    """Every check of the run by name: those of the items first, then the scenario's."""
    found: dict[str, Callable[[_Turn, Normalizer], CheckResult]] = {kind: partial(_judge_item, kind) for kind in kinds}
    for name, check in scoring.checks.items():
        given = [(kind, expected) for kind, expected in check.items() if expected is not None]
        found[name] = partial(_judge, *(given[0] if given else ("", None)))
    return found


def _judge_item(kind: str, row: _Turn, normalise: Normalizer) -> CheckResult:
    return _judge(kind, item_checks(row.expect).get(kind), row, normalise)


def _judge(kind: str, expected: Any, row: _Turn, normalise: Normalizer) -> CheckResult:
    if expected is None:
        return NOT_ASKED
    if row.outcome != "ok":
        return CheckResult(None, f"the turn ended {row.outcome}")
    return run_check(kind, expected, Answer(row.answer, row.tool_calls), normalise)


NOT_ASKED = CheckResult(None, "the item does not ask for it")
