"""Writes comparisons as one self-contained page: verdicts, both distributions, the items that changed most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ... import __version__
from ...analysis.compare import Comparison, ItemChange, Outcome, Row, changed_items
from ...analysis.subject import Subject
from ...scoring.words import Alignment, align
from ..compare_text import HOW, in_points, say_outcome, say_sides
from ..files import replace_file
from .figures import cumulative, near, round_edges
from .numbers import definition_of, interval, unit_of
from .points import Figure
from .shell import CHARTS, STYLE, asset, embedded, environment, policy, script_text
from .transcripts import expected_answer, normalizer_of
from .wording import Number, clean, number

__all__ = ["overlaid", "write_compare"]

MARKS = {
    Outcome.WORSE: ("✗", "fail"),
    Outcome.BETTER: ("✓", "pass"),
    Outcome.SAME: ("=", "pass"),
    Outcome.CANNOT_TELL: ("≈", "inconclusive"),
    Outcome.NOT_COMPARABLE: ("⚠", "invalid"),
}

DRAWN = ("ttfa_ms", "v2v_ms", "endpoint_ms", "response_ms")
"""Distributions that are drawn, where both sides have them."""

MOST_ITEMS = 10
_BINS = 40


def write_compare(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the page.

    It asks the network for nothing; its content security policy names each script and style by hash, and what came from
    a server or a dataset is written as text. Transcripts are in it where the runs kept them.

    Args:
        path: file to write.
        comparisons: each becomes a part of the page.

    Raises:
        RunFolderError: the disk refused.
    """
    shown = [_comparison(comparison, place) for place, comparison in enumerate(comparisons)]
    figures = {one["id"]: one["figures"] for one in shown}
    text = (
        environment()
        .get_template("compare.html.j2")
        .render(
            version=__version__,
            title=clean(f"{', '.join(c.new.label for c in comparisons)} against {comparisons[0].base.label}"),
            comparisons=shown,
            how=HOW,
            policy=policy(CHARTS),
            style=Markup(asset(STYLE)),
            scripts=[Markup(script_text(name)) for name in CHARTS],
            data=Markup(embedded({"figures": figures})),
        )
    )
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8", errors="replace", newline="\n"))


def _comparison(comparison: Comparison, place: int) -> dict[str, Any]:
    worse = comparison.worse
    better = any(row.outcome is Outcome.BETTER for row in comparison.rows)
    kind, mark, title = (
        ("fail", "✗", "Worse") if worse else ("pass", "✓", "Better") if better else ("plain", "≈", "No change shown")
    )
    said = say_outcome(comparison)
    if said.startswith("nothing"):  # and not with the name of a metric
        said = said.capitalize()
    return {
        "id": f"comparison-{place}",
        "base": clean(comparison.base.label),
        "new": clean(comparison.new.label),
        "sides": clean(say_sides(comparison)),
        "kind": kind,
        "mark": mark,
        "title": title,
        "sentence": clean(f"{said}."),
        "unfair": [clean(sentence) for sentence in comparison.unfair],
        "rows": list(_rows(comparison.rows)),
        "figures": list(_figures(comparison, place)),
        "slower": list(_slower(comparison)),
        "reworded": list(_reworded(comparison)),
        "facts": list(_facts(comparison)),
    }


def _rows(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The rows; what a metric is stands beside the first of its statistics."""
    defined = set()
    for row in rows:
        shown = _row(row)
        if shown["definition"] in defined:
            shown["definition"] = ""
        defined.add(shown["definition"])
        yield shown


def _row(row: Row) -> dict[str, Any]:
    unit = unit_of(row.name, {"unit": row.unit})
    mark, kind = MARKS[row.outcome]
    return {
        "name": clean(row.name),
        "definition": definition_of(row.name),
        "base": number(row.base, unit),
        "new": number(row.new, unit),
        "difference": _signed(row.difference, unit),
        "interval": in_points(interval(row.interval, unit)),
        # A share of a base that is not known is no slack.
        "slack": number(None) if row.base is None else Number(in_points(number(row.slack, unit).text), row.slack),
        "n": f"{row.n_base}" if row.n_base == row.n_new else f"{row.n_base}, {row.n_new}",
        "how": f"{row.units} pairs" if row.paired else f"{row.units} sessions" if row.units else "",
        "mark": mark,
        "kind": kind,
        "outcome": row.outcome.value,
        "reason": clean(row.reason or ""),
    }


def _signed(value: float | None, unit: str | None) -> Number:
    shown = number(value, unit)
    return Number(f"{'+' if value is not None and value > 0 else ''}{in_points(shown.text)}", shown.exact)


# ---- both distributions ----


def _figures(comparison: Comparison, place: int) -> Iterator[Figure]:
    for name in DRAWN:
        sides = [subject.observed.get(name) for subject in (comparison.base, comparison.new)]
        values = [side.top for side in sides if side is not None]
        if len(values) < 2:
            continue
        labels = (f"base: {clean(comparison.base.label)}", f"new: {clean(comparison.new.label)}")
        yield overlaid(name, labels, values, f"how-often-{place}-{name}")
        within = cumulative(list(zip(labels, values, strict=True)))
        if within is not None:
            yield near(within) | {"id": f"within-{place}-{name}", "name": name}


def overlaid(name: str, labels: Sequence[str], values: Sequence[Any], figure_id: str) -> Figure:
    """Return how often each time occurred on both sides, in the same bins and as shares, since n may differ."""
    pooled = np.concatenate(values)
    high = float(pooled.max())
    p99 = float(np.percentile(pooled, 99))
    if high > 2.5 * p99 > 0:
        high = p99 * 1.25
    edges = round_edges(pooled[pooled <= high])
    series = []
    for label, samples in zip(labels, values, strict=True):
        counts, _ = np.histogram(samples, bins=edges)
        shares = counts / len(samples) * 100
        # A point holds up to the next one: each share stands at the left edge of its bin.
        points = [[float(edges[0]), 0.0], *([float(a), float(s)] for a, s in zip(edges, shares.round(2), strict=False))]
        series.append({"name": label, "points": [*points, [float(edges[-1]), 0.0]], "stepped": True})
    beyond = int((pooled > edges[-1]).sum())
    return {
        "id": figure_id,
        "kind": "curves",
        "title": "How often",
        "name": name,
        "note": f"{beyond} slower than {number(float(edges[-1]), 'ms').text} not drawn" if beyond else "",
        "label": f"{name} of both, as shares of their turns in bins of {number(edges[1] - edges[0], 'ms').text}.",
        "x": "ms",
        "y": "% of the turns",
        "series": series,
        "lines": [],
        "range": [float(edges[0]), float(edges[-1])],
    }


# ---- the items that moved ----


def _slower(comparison: Comparison) -> Iterator[dict[str, Any]]:
    name = next((name for name in ("ttfa_ms", "response_ms") if name in comparison.new.observed), "ttfa_ms")
    for change in changed_items(comparison, name, MOST_ITEMS):
        yield {
            "item": clean(change.item),
            "base": number(change.base, "ms"),
            "new": number(change.new, "ms"),
            "change": _signed(change.new - change.base, "ms"),
            "metric": name,
        }


def _reworded(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for side in ("input", "output"):
        for change in changed_items(comparison, f"{side}_wer", MOST_ITEMS):
            texts = [
                _said(subject.turns, row, side)
                for subject, row in zip((comparison.base, comparison.new), change.rows, strict=True)
            ]
            yield _texts(change, side, texts)


def _texts(change: ItemChange, side: str, texts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    return {
        "item": clean(change.item),
        "what": "transcription of the caller" if side == "input" else "the answer's transcript",
        "base": number(change.base, "ratio"),
        "new": number(change.new, "ratio"),
        "worse": change.new > change.base,
        "sides": [
            {"name": name, "stretches": text["stretches"], "text": text["text"]} if text is not None else {"name": name}
            for name, text in zip(("base", "new"), texts, strict=True)
        ],
    }


def _said(turns: pd.DataFrame, row: int, side: str) -> dict[str, Any] | None:
    """A turn's transcript aligned with what was to be said; ``None`` where the run or the baseline kept no texts."""
    text_of, reference_of = f"{side}_transcript", "reference" if side == "input" else "expect"
    if text_of not in turns or reference_of not in turns:
        return None
    record = turns.loc[row]
    reference, text = record[reference_of], record[text_of]
    if side == "output":
        reference = expected_answer(reference)
    if not isinstance(reference, str) or not isinstance(text, str):
        return None
    normalise = normalizer_of(record.get("normalizer"), record.get("language"))
    stretches: list[Alignment] = align(clean(reference), clean(text), normalise)
    return {"stretches": stretches, "text": clean(text)}


# ---- what was compared ----


def _facts(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    for name, key in (
        ("started", "started_at"),
        ("state", "state"),
        ("model", "model"),
        ("dialect", "dialect"),
        ("api version", "api_version"),
        ("dataset", "dataset"),
        ("normaliser", "normalizers"),
        ("transcription", "transcription"),
        ("turn detection", "turn_detection"),
        ("load", "load"),
        ("labels", "labels"),
        ("scenario hash", "scenario_hash"),
        ("rteval", "rteval"),
    ):
        sides = [_fact(subject, key) for subject in (comparison.base, comparison.new)]
        if any(sides):
            yield name, sides[0] or "–", sides[1] or "–"  # noqa: RUF001 - a dash is what stands where nothing is


def _fact(subject: Subject, key: str) -> str:
    value = subject.facts.get(key)
    if key == "load" and isinstance(value, Mapping):
        value = {name: entry for name, entry in value.items() if name != "asked"}
    if isinstance(value, Mapping):
        return clean(", ".join(f"{name} {entry}" for name, entry in value.items() if entry not in (None, {})))
    if isinstance(value, list | tuple):
        return clean(", ".join(map(str, value)))
    return "" if value is None else clean(value)
