"""Scorers by name: ours in a dict literal, others from the entry-point group ``rteval.scorers``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from ..errors import ScenarioError
from ..scoring.scores import Metric
from .protocol import Scorer

__all__ = ["GROUP", "OURS", "find", "names"]

GROUP = "rteval.scorers"
"""The entry-point group; each entry is a class or function without arguments that makes a :class:`Scorer`."""

# As text, so that a scenario without scorers imports none of them.
OURS: Mapping[str, str] = {
    "judge": "rteval.scorers.judge:Judge",
    "spoken_wer": "rteval.scorers.spoken:SpokenWer",
}


def names() -> list[str]:
    """Every scorer there is, ours first."""
    return [*OURS, *sorted(set(entry_points(group=GROUP).names) - set(OURS))]


def find(name: str) -> Scorer:
    """Return the scorer of that name.

    Raises:
        ScenarioError: there is none, two packages offer it, or it cannot be imported; names the nearest one.
    """
    make = _load_ours(OURS[name]) if name in OURS else _load(name)
    try:
        scorer = make()
    except Exception as error:
        raise ScenarioError(f"the scorer {name!r} cannot be made: {type(error).__name__}: {error}") from error
    if fault := _misfit(scorer):
        raise ScenarioError(f"the scorer {name!r} is none: {fault}")
    return cast(Scorer, scorer)


def _load_ours(address: str) -> Callable[[], Any]:
    module, _, attribute = address.partition(":")
    return cast(Callable[[], Any], getattr(import_module(module), attribute))


def _load(name: str) -> Callable[[], Any]:
    found = {(entry.value, _package(entry)): entry for entry in entry_points(group=GROUP, name=name)}
    if not found:
        near = get_close_matches(name, names(), n=1)
        known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}"
        raise ScenarioError(
            f"no scorer is called {name!r}; {known}",
            hint="the scorer of a plug-in is there once its package is installed beside rteval",
        )
    if len(found) > 1:
        packages = " and ".join(sorted(package for _, package in found))
        raise ScenarioError(f"two packages have a scorer called {name!r}: {packages}", hint="uninstall one of them")
    (entry,) = found.values()
    try:
        return cast(Callable[[], Any], entry.load())
    except Exception as error:
        raise ScenarioError(
            f"the scorer {name!r} of {_package(entry)} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _misfit(scorer: Any) -> str | None:
    """What it lacks to be a scorer; only ``metrics`` and ``score`` are looked for, the rest has defaults."""
    metrics = getattr(scorer, "metrics", None)
    if not isinstance(metrics, Mapping) or not all(isinstance(metric, Metric) for metric in metrics.values()):
        return "its metrics are no mapping of names to rteval.scorers.Metric"
    if wrong := [name for name in metrics if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_]+", name)]:
        return f"its metric {wrong[0]!r} is not named in letters, digits and _"
    missing = [name for name in ("faults", "obstacle", "score") if not callable(getattr(scorer, name, None))]
    return f"it has no {', no '.join(missing)} (derive it from rteval.scorers.Scorer)" if missing else None
