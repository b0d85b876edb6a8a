"""How numbers, units and verdicts are worded on the report page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...analysis.verdict import EXIT_MEANINGS

__all__ = ["Number", "Verdict", "clean", "duration", "number", "verdict_of"]

THIN_SPACE = "\u202f"
"""Narrow no-break space: groups digits and parts a number from its unit, the same in every language."""

NOTHING = "\u2013"
"""What stands where nothing was measured: a dash."""

WORDLESS = frozenset({None, "", "count", "sessions", "turns", "tokens", "stalls"})
"""Units that the name of the metric says already."""

UNITS = {"1/s": "per s"}

RATIO_UNITS = frozenset({"ratio", "share", "rate", "fraction"})


@dataclass(frozen=True, slots=True)
class Number:
    """One number as printed, and the exact value it was printed from.

    Attributes:
        text: what a person reads, unit included.
        exact: the value itself; ``None`` where nothing was measured.
    """

    text: str
    exact: float | int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on the whole run.

    Attributes:
        kind: ``pass``, ``fail``, ``invalid``, ``partial`` or ``plain``: chooses the colour.
        mark: one character that says the same without colour.
        title: one or two words.
        sentence: why.
    """

    kind: str
    mark: str
    title: str
    sentence: str


VERDICTS = {
    0: ("pass", "✓", "Pass"),
    1: ("fail", "✗", "Fail"),
    3: ("invalid", "⊘", "Refused"),
    4: ("invalid", "⚠", "Invalid"),
    5: ("partial", "■", "Stopped by a limit"),
    130: ("partial", "◐", "Interrupted"),
    143: ("partial", "◐", "Interrupted"),
}

MORE = {
    4: "Its times are not the target's; contents stay readable.",
    5: "What was recorded until then is kept.",
    130: "What was recorded until then is kept.",
    143: "What was recorded until then is kept.",
}


def verdict_of(summary: Mapping[str, Any]) -> Verdict:
    """Word the verdict of a run from its summary: exit code, state and gates."""
    code = summary.get("exit_code")
    if code not in VERDICTS:
        return Verdict("invalid", "⚠", "No verdict", EXIT_MEANINGS.get(code or -1, "the run has not been judged") + ".")
    kind, mark, title = VERDICTS[code]
    sentence = EXIT_MEANINGS[code]
    gates = summary.get("gates") or []
    missed = sum(gate.get("missed", gate.get("verdict") != "pass") for gate in gates)
    passed = sum(gate.get("verdict") == "pass" for gate in gates)
    if code == 0 and not gates:
        kind, mark, title, sentence = "plain", "○", "Complete", "no gate was set, so nothing was judged"
    elif code == 0:
        sentence = "the gate holds" if len(gates) == 1 else f"all {len(gates)} gates hold"
        if passed < len(gates):
            sentence = f"{passed} of {len(gates)} gates hold, and no other decides the verdict"
    elif code == 1 and missed:
        sentence = "the gate did not hold" if len(gates) == 1 else f"{missed} of {len(gates)} gates did not hold"
    elif code == 1:
        kind, mark, title, sentence = "partial", "◐", "Partial", "not every planned turn was recorded"
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if summary.get("state") == "partial" and code == 1 and missed:
        sentence += " The run is partial."
    return Verdict(kind, mark, title, f"{sentence} {MORE[code]}" if code in MORE else sentence)


def clean(text: object) -> str:
    """Return text that can be written as UTF-8: a server may send half of a surrogate pair."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def grouped(value: float, digits: int) -> str:
    """Return a decimal number with its thousands parted; one that its digits cannot show says so: it is not zero."""
    if digits and 0 < abs(value) < 0.5 / 10**digits:
        return f"{'<' if value > 0 else '>-'}{10**-digits:g}"
    return f"{value:,.{digits}f}".replace(",", THIN_SPACE)


def number(value: object, unit: str | None = None, *, n: int | None = None) -> Number:
    """Word one value.

    Args:
        value: what was measured; ``None`` and NaN are "not measured".
        unit: ``ms``, ``1/s``, a ratio (printed in per cent) or a word that the metric's name says already.
        n: size of the sample. A ratio over fewer than ten is printed as a count too, since a per cent of
            few says more than was measured.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return Number(NOTHING, None)
    if unit in RATIO_UNITS:
        text = f"{grouped(value * 100, 2 if abs(value) < 0.1 else 1)}{THIN_SPACE}%"
        if n is not None and 0 < n < 10 and math.isclose(value * n, round(value * n), abs_tol=1e-9):
            text = f"{round(value * n)} of {n}"
        return Number(text, value)
    if math.isinf(value):
        return Number("∞" if value > 0 else "-∞", None)
    size = abs(value)
    whole = float(value).is_integer() and (isinstance(value, int) or size >= 100 or size == 0)
    digits = 0 if whole or size >= 100 else 1 if size >= 10 else 2
    text = grouped(value, digits)
    return Number(text if unit in WORDLESS else f"{text}{THIN_SPACE}{UNITS.get(str(unit), unit)}", value)


def duration(seconds: float | None) -> str:
    """Word a length of time: ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f}{THIN_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN_SPACE}min {rest}{THIN_SPACE}s"
    return f"{minutes // 60}{THIN_SPACE}h {minutes % 60}{THIN_SPACE}min"
