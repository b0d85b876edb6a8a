"""Scorers that look at a whole run after its sessions: ours, and those of plug-ins. May reach other services.

A plug-in needs no more than this module: a class with ``metrics`` and ``score``, named in the entry-point group
``rteval.scorers``.
"""

from ..scoring.scores import Measured, Metric, Scored, not_scored
from .protocol import Options, ScoredRun, Scorer

__all__ = ["Measured", "Metric", "Options", "Scored", "ScoredRun", "Scorer", "not_scored"]
