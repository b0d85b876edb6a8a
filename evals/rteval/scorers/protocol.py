"""What a scorer is: announces its metrics, checks its options, scores the turns of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..scoring.scores import Metric, Scored

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Options", "ScoredRun", "Scorer"]

Options = Mapping[str, Any]
"""A scorer's options as the scenario has them, as data for JSON."""


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """The run that is scored.

    Attributes:
        folder: the run folder; ``audio/`` in it holds the answers that were kept.
        name: of the scorer in the scenario.
        evidence: a file that the scorer may write, one JSON object a line, and read when it scores the run again.
        normalizer: ``scoring.normalizer`` of the scenario.
        texts_kept: whether this run keeps what was said; if not, evidence must not quote it.
        say: tells a person a sentence.
    """

    folder: Path
    name: str
    evidence: Path
    normalizer: str
    texts_kept: bool
    say: Callable[[str], None]


class Scorer(Protocol):
    """One way of scoring. A class that is derived from this one needs ``metrics`` and ``score`` only.

    Attributes:
        metrics: the numbers of the run that it makes, by name (letters, digits and ``_``): a gate may name no others.
        needs_audio: whether it listens to the answers, so that the scenario has to say ``report.audio: all``.
    """

    metrics: Mapping[str, Metric]
    needs_audio: bool = False

    def faults(self, options: Options) -> Sequence[str]:
        """Say what is wrong with the options, a sentence each that begins with the option's name; before a run."""
        return ()

    def obstacle(self, options: Options) -> str | None:
        """Say why nothing could be scored here and now: no key, a package that is missing. ``None``: nothing."""
        return None

    def score(self, turns: pd.DataFrame, run: ScoredRun, options: Options) -> Scored:
        """Score the turns of a run.

        Args:
            turns: the turn table, texts included; a row that was not ``ok``, or is ``warmup``, is not to be scored.
            run: the run.
            options: without faults.

        Returns:
            Columns, one value for each row of ``turns``, and the metrics. An exception is "not scored", too.
        """
        ...
