"""A scorer for rteval: are the answers short enough to be listened to?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rteval.scorers import Measured, Metric, Options, Scored, ScoredRun, Scorer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Brevity"]


class Brevity(Scorer):
    """Counts the words of every answer; option ``most_words`` says how many are short enough."""

    metrics: Mapping[str, Metric] = {
        # "of" names the column that a number is the mean of; so it gets an interval, and one for each variant.
        "short_share": Metric("answers of at most most_words words / answers with words", of="short"),
        "mean_words": Metric("words per answer", unit="words", of="words", better="lower"),
    }

    def faults(self, options: Options) -> Sequence[str]:
        """Refuse what is no number of words, before anything runs."""
        unknown = [f"{name}: there is no such option; there is most_words" for name in options if name != "most_words"]
        most = options.get("most_words", 40)
        good = isinstance(most, int) and not isinstance(most, bool) and most > 0
        return unknown if good else [*unknown, "most_words: expected a whole number from 1"]

    def score(self, turns: pd.DataFrame, run: ScoredRun, options: Options) -> Scored:
        """Count, for turns that were ok and outside the warm-up."""
        most = options.get("most_words", 40)
        judged = (turns["outcome"] == "ok") & ~turns["warmup"].fillna(False) & turns["output_transcript"].notna()
        counts = [
            len(text.split()) if wanted else None
            for text, wanted in zip(turns["output_transcript"], judged, strict=True)
        ]
        words = [count for count in counts if count is not None]
        n, left_out = len(words), len(turns) - len(words)
        # Nothing measured is None, with a reason: a gate on it then fails.
        reason = None if n else "no answer has words"
        return Scored(
            columns={"words": counts, "short": [None if count is None else count <= most for count in counts]},
            metrics={
                "short_share": Measured(sum(count <= most for count in words) / n if n else None, n, left_out, reason),
                "mean_words": Measured(sum(words) / n if n else None, n, left_out, reason),
            },
            about={"most_words": most},
        )
