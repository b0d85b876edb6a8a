"""The scorers of a scenario over the turns of a run; whatever one of them does, the others and the run go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RtevalError, ScenarioError
from ..redact import MARK, redact
from ..scoring.normalize import NORMALIZERS
from ..scoring.scores import (
    SCORES,
    Scored,
    evidence_file,
    metric_name,
    not_scored,
    shape_faults,
    write_scored,
)
from .protocol import Options, ScoredRun, Scorer
from .registry import find

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Chosen", "ScoreRun", "choose", "metric_names", "whole_metrics"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scorer that a scenario asks for.

    Attributes:
        name: what the scenario calls it.
        scorer: the scorer.
        options: what it is told.
    """

    name: str
    scorer: Scorer
    options: Options

    @property
    def obstacle(self) -> str | None:
        """Why it could not score here and now."""
        return self.scorer.obstacle(self.options)


def choose(choices: Mapping[str, Mapping[str, Any]]) -> Iterator[Chosen | str]:
    """Find the scorers of a scenario and check their options.

    Args:
        choices: ``scoring.scorers`` as data: per name ``scorer`` (by default the name itself) and the options.

    Yields:
        Each scorer, or a sentence about what is wrong, which begins with the key below ``scoring.scorers``.
    """
    for name, choice in choices.items():
        options = {key: value for key, value in choice.items() if key != "scorer"}
        try:
            scorer = find(choice.get("scorer") or name)
            faults = [f"{name}.{fault}" for fault in scorer.faults(options)]
        except ScenarioError as error:
            yield f"{name}: {error}"
            continue
        except Exception as error:  # a plug-in's own mistake
            yield f"{name}: its options could not be checked: {type(error).__name__}: {error}"
            continue
        if faults:
            yield from faults
        else:
            yield Chosen(name, scorer, options)


def metric_names(chosen: Chosen) -> list[str]:
    """The full names of a scorer's metrics, as gates write them."""
    return [metric_name(chosen.name, metric) for metric in chosen.scorer.metrics]


def whole_metrics(chosen: Sequence[Chosen]) -> set[str]:
    """The full names of the metrics that scorers make for the whole run only: no column says what each turn adds."""
    return {
        metric_name(one.name, name) for one in chosen for name, metric in one.scorer.metrics.items() if not metric.of
    }


def _in_silence(sentence: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class ScoreRun:
    """Runs scorers and keeps what they find; what :func:`rteval.judge.judge` calls with the turns.

    Attributes:
        chosen: those of the scenario, with its secrets in place; by default they are made from ``run.json``, in which
            what came from secret variables is left out.
        say: tells a person a sentence.
    """

    chosen: Sequence[Chosen] = ()
    say: Callable[[str], None] = _in_silence

    def __call__(self, turns: pd.DataFrame, folder: Path, run: Mapping[str, Any]) -> None:
        """Score the turns of the run in ``folder`` with the scorers that its ``run.json`` names."""
        scoring = run.get("scoring") or {}
        kept_texts = (run.get("report") or {}).get("transcripts", "full") != "none"
        ready = {chosen.name: chosen for chosen in self.chosen}
        for name, stored in (scoring.get("scorers") or {}).items():
            scored_run = ScoredRun(
                folder=folder,
                name=name,
                evidence=evidence_file(folder, name),
                normalizer=scoring.get("normalizer") or NORMALIZERS[0],
                texts_kept=kept_texts,
                say=self.say,
            )
            found = ready.get(name) or _from_stored(name, stored)
            if isinstance(found, Chosen):
                scored, metrics = _score(found, turns, scored_run), found.scorer.metrics
            else:
                scored, metrics = not_scored(found), {}
            path = folder / SCORES / f"{name}.json"
            write_scored(path, scored, turns, options=stored, metrics=metrics, texts=kept_texts)


def _from_stored(name: str, choice: Mapping[str, Any]) -> Chosen | str:
    """The scorer as ``run.json`` tells of it, or why there is none."""
    if hidden := _hidden(choice):
        return f"the option {hidden} is secret in part, so that it was not stored; give --scenario"
    return next(choose({name: choice}))


def _score(chosen: Chosen, turns: pd.DataFrame, run: ScoredRun) -> Scored:
    """What the scorer found, or that it found nothing and why."""
    try:
        if (obstacle := chosen.obstacle) is not None:
            return not_scored(obstacle)
        run.evidence.parent.mkdir(exist_ok=True)
        # A copy: what a plug-in does to its table is its own business.
        scored = chosen.scorer.score(turns.copy(), run, chosen.options)
        if not isinstance(scored, Scored):
            return not_scored(f"the scorer gave {type(scored).__name__} and no Scored")
        faults = shape_faults(scored, chosen.scorer.metrics, len(turns))
        return not_scored(f"the scorer's result cannot be used: {faults[0]}") if faults else scored
    except RtevalError as error:
        return not_scored(redact(str(error)))
    except Exception as error:  # of a plug-in, or of a library below one of ours
        return not_scored(f"the scorer broke: {type(error).__name__}{_place(error)}")


def _hidden(choice: Mapping[str, Any]) -> str | None:
    """An option that stands in ``run.json`` without what is secret in it."""
    return next((key for key, value in choice.items() if "${" in str(value) or MARK in str(value)), None)


def _place(error: Exception) -> str:
    """Where it broke; never its message, which may quote what was said."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
