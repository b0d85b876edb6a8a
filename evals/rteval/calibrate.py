"""Gates proposed from the spread of repeated runs, in a copy of the scenario that says where they come from."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from . import __version__
from .analysis.gates import DEFAULT_GATE
from .analysis.stats import normal, student
from .errors import RtevalError, RunFolderError, UsageError
from .prepare import RunOptions
from .reporting.files import write_text
from .run import run
from .run_facts import utc_now
from .scenario import load_scenario

__all__ = ["Calibration", "Proposal", "calibrate", "propose", "with_gates"]

MISS = 0.01
"""How often a night without a change may miss a proposed gate."""

LATENCIES = (("ttfa_ms", "p50"), ("ttfa_ms", "p95"), ("v2v_ms", "p95"), ("response_ms", "p95"))
RATES = ("error_rate", "transcript_missing_rate", "input_wer", "output_wer")
"""Of these less is better."""

SHARES = ("checks.pass_rate", "entity_accuracy")
"""Of these more is better."""

_COUNTED = ("error_rate", "transcript_missing_rate", "checks.pass_rate")


@dataclass(frozen=True, slots=True)
class Proposal:
    """One gate.

    Attributes:
        values: what each run measured, in their order.
        n: turns behind each of them, the fewest where they differ.
        note: what else has to be known of it.
    """

    gate: str
    values: tuple[float, ...]
    n: int
    note: str = ""

    @property
    def comment(self) -> str:
        """Where it comes from, in a few words."""
        low, high = min(self.values), max(self.values)
        note = f"; {self.note}" if self.note else ""
        return f"{len(self.values)} runs measured {low:.4g} to {high:.4g} (n {self.n} each){note}"


_TRIAL = Proposal("error_rate <= 0.5", (0.0,), 1)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What came of it.

    Attributes:
        path: the copy of the scenario.
        left_out: sentences for people: what has no gate, and why.
    """

    path: Path
    runs: tuple[str, ...]
    proposals: tuple[Proposal, ...]
    left_out: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """For people."""
        return [*(f"{one.gate}  ({one.comment})" for one in self.proposals), *self.left_out]

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "path": str(self.path),
            "runs": list(self.runs),
            "gates": [{"gate": one.gate, "values": list(one.values), "n": one.n} for one in self.proposals],
            "left_out": list(self.left_out),
        }


def calibrate(
    scenario: Path,
    options: RunOptions,
    console: Console,
    *,
    repeats: int,
    write: Path | None = None,
    force: bool = False,
) -> Calibration:
    """Run a scenario several times without gates, and write a copy with those that follow.

    Raises:
        UsageError: the copy cannot be written where it was asked, a run did not end well (then with its exit code), or
            no gate follows.
        RtevalError: what ``rteval run`` raises.
    """
    path = write or scenario.with_name(f"{scenario.stem}.calibrated.yaml")
    loaded = load_scenario(scenario, sets=options.sets, set_files=options.set_files)
    where, source = os.path.realpath(path), os.path.realpath(scenario)
    if os.path.dirname(where) != os.path.dirname(source):
        raise UsageError(f"--write {path}: the copy must lie beside {scenario}, whose paths start from its folder")
    if where == source:
        raise UsageError(f"--write {path}: that is the scenario itself, and not a copy of it")
    if os.path.lexists(path) and not (force and path.is_file()):
        raise UsageError(f"{path} is already there", hint="name another file with --write, or say --force")
    text = scenario.read_text(encoding="utf-8-sig")
    # Before anything is run, and paid for: can the copy be made at all?
    trial = path.with_name(f".{path.stem}.trial.yaml")
    _write_copy(trial, with_gates(text, loaded.name, [_TRIAL], ["trial"]), [_TRIAL], options)
    trial.unlink(missing_ok=True)
    quiet = replace(options, sets=(*options.sets, "gates=[]"))
    summaries: list[dict[str, Any]] = []
    for number in range(1, repeats + 1):
        console.print(f"calibrating: run {number} of {repeats}", markup=False, highlight=False)
        judgement = run(scenario, quiet, console)
        if judgement.summary["state"] != "complete":
            ended = f"run {number} ({judgement.run_dir}) ended {judgement.summary['state']}"
            unfit = UsageError(
                f"{ended}: gates from it would say nothing",
                hint="mend what stopped it, then calibrate again",
            )
            unfit.exit_code = judgement.exit_code or UsageError.exit_code
            raise unfit
        summaries.append(judgement.summary)
    proposals, left_out = propose([summary["metrics"] for summary in summaries])
    if not proposals:
        # `gates: []` would hold whatever becomes of the target.
        raise UsageError(f"no gate follows from these runs: {'; '.join(left_out) or 'nothing was measured'}")
    runs = tuple(str(summary["run_id"]) for summary in summaries)
    copy = with_gates(text, loaded.name, proposals, runs, beside=_beside(options), left_out=left_out)
    _write_copy(path, copy, proposals, options)
    return Calibration(path, runs, tuple(proposals), tuple(left_out))


def _beside(options: RunOptions) -> tuple[str, ...]:
    """What the command line added to the scenario, by name: the values may be secret."""
    keys = [entry.partition("=")[0].strip() for entry in (*options.sets, *options.set_files)]
    found = [f"other values of {', '.join(dict.fromkeys(keys))}"] if keys else []
    return (*found, *([f"--limit {options.limit}"] if options.limit is not None else ()))


def propose(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> tuple[list[Proposal], list[str]]:
    """Propose gates from the metrics of several runs.

    A limit is the bound within which the next run lies with 99 %. As long as the runs differ by no more than twice what
    their own samples explain, their spread is taken from the samples too (it is known far better than that of five
    numbers); beyond that the service itself drifts, and the bound is that of Student's t over the runs. Shares of turns
    follow from all turns together (a beta-binomial prediction). Limits are rounded away from what was measured, to two
    digits. Where neither the runs nor their samples tell how far a number scatters, it has no gate.

    Returns:
        The gates, and sentences about what has none.
    """
    found: list[Proposal] = []
    left_out: list[str] = []
    asked = [(name, stat, 1) for name, stat in LATENCIES]
    asked += [(name, "value", 1) for name in RATES] + [(name, "value", -1) for name in SHARES]
    for name, stat, upward in asked:
        entries = [metrics.get(name) or {} for metrics in runs]
        full = name if stat == "value" else f"{name}.{stat}"
        values = [float(entry[stat]) for entry in entries if entry.get(stat) is not None]
        if not values:
            continue
        if len(values) < len(runs):
            left_out.append(f"no gate on {full}: {len(runs) - len(values)} of {len(runs)} runs have no such number")
            continue
        n = min(int(entry["n"]) for entry in entries)
        if name in _COUNTED:
            limit = _predicted_share(values, [int(entry["n"]) for entry in entries], upward)
        else:
            errors = [_error(entry, stat) for entry in entries]
            if len(set(values)) == 1 and all(error is None for error in errors):
                same = f"all runs measured {values[0]:.4g}, and {n} turns are too few for an interval"
                left_out.append(f"no gate on {full}: how far it scatters is unknown ({same})")
                continue
            limit = _predicted(values, errors, upward, is_time=stat != "value")
        limit = _rounded(limit, upward)
        if name in (*_COUNTED, *SHARES) and limit == (1.0 if upward == 1 else 0.0):
            spread = f"{min(values):.4g} to {max(values):.4g}"
            stays = f"; {DEFAULT_GATE}, that of every scenario, stays" if name == "error_rate" else ""
            left_out.append(f"no gate on {full}: after {spread} none is left that could be missed{stays}")
            continue
        gate = f"{full} {'<=' if upward == 1 else '>='} {limit:.6g}"
        note = ""
        if name in _COUNTED and max(values) == min(values) == (0.0 if upward == 1 else 1.0):
            note = f"so few turns cannot show {'less' if upward == 1 else 'more'}"
        found.append(Proposal(gate, tuple(float(f"{value:.6g}") for value in values), n, note))
    return found, left_out


def _error(entry: Mapping[str, Any], stat: str) -> float | None:
    """The standard error of a number, from the wider half of its interval; ``None`` where that has one side only."""
    bounds = (entry.get("ci95") or {}).get(stat) or (None,)
    arms = [abs(bound - entry[stat]) for bound in bounds if bound is not None]
    return max(arms) / normal(0.975) if len(arms) == 2 else None


def _predicted(values: Sequence[float], errors: Sequence[float | None], upward: int, *, is_time: bool) -> float:
    """The bound within which the next value lies; of a time over the logarithms: slow is further off than fast."""
    logs = is_time and min(values) > 0
    points = [math.log(value) for value in values] if logs else [upward * value for value in values]
    known = [error / value if logs else error for value, error in zip(values, errors, strict=True) if error is not None]
    n, mean = len(points), sum(points) / len(points)
    between = math.sqrt(sum((point - mean) ** 2 for point in points) / (n - 1))
    within = math.sqrt(sum(error**2 for error in known) / len(known)) if known else 0.0
    drifts = between > 2 * within
    arm = (student(1 - MISS, n - 1) * between if drifts else normal(1 - MISS) * max(between, within)) * math.sqrt(
        1 + 1 / n
    )
    if logs:
        return math.exp(mean + arm)
    bound = upward * (mean + arm)
    return bound if upward == 1 else min(max(bound, 0.0), 1.0)


def _predicted_share(values: Sequence[float], turns: Sequence[int], upward: int) -> float:
    """The share of the next run's turns, known from all turns so far: beta-binomial with Jeffreys' prior."""
    bad = sum(round((value if upward == 1 else 1 - value) * n) for value, n in zip(values, turns, strict=True))
    n, a, b = min(turns), bad + 0.5, sum(turns) - bad + 0.5

    def chance(k: int) -> float:
        choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.exp(choose + _log_beta(k + a, n - k + b) - _log_beta(a, b))

    upto = 0.0
    for k in range(n + 1):
        upto += chance(k)
        if upto >= 1 - MISS:
            return k / n if upward == 1 else 1 - k / n
    return 1.0 if upward == 1 else 0.0


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _rounded(value: float, upward: int) -> float:
    """Two digits, away from what was measured."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    steps = value / step
    # A number of two digits stays what it is, whatever the last bit of the division says.
    whole = round(steps) if math.isclose(steps, round(steps), rel_tol=1e-9) else None
    if whole is None:
        whole = math.ceil(steps) if upward == 1 else math.floor(steps)
    return float(f"{whole * step:.12g}")


# ---- the copy ----

_KEY = re.compile(r"[A-Za-z_\"'][^:#]*:")
_REST = re.compile(r"\s*(#.*)?$")


def with_gates(
    text: str,
    name: str,
    proposals: Sequence[Proposal],
    runs: Sequence[str],
    *,
    beside: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> str:
    """Return a scenario's text with these gates in the place of its own; everything else stays as it was written.

    Args:
        text: of the scenario file.
        name: what the scenario is called: the copy is of the same name, so that its history goes on.
        proposals: the gates.
        runs: ids of the runs behind them.
        beside: what they were run with beside the scenario, which the copy does not hold.
        left_out: what has no gate and why, a sentence each.
    """
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if re.match(r"[\"']?gates[\"']?\s*:", line)), None)
    block = list(_block(proposals, runs, beside, left_out))
    if not any(re.match(r"[\"']?name[\"']?\s*:", line) for line in lines):
        block = [f"name: {name}", "", *block]
    if start is None:
        return "\n".join([*lines, *([""] if lines and lines[-1].strip() else []), *block]) + "\n"
    end = next((number for number in range(start + 1, len(lines)) if _KEY.match(lines[number])), len(lines))
    # Comments and blank lines above the next key are that key's.
    while end > start + 1 and _REST.match(lines[end - 1]) and end < len(lines):
        end -= 1
    return "\n".join([*lines[:start], *block, *lines[end:]]) + "\n"


def _block(
    proposals: Sequence[Proposal], runs: Sequence[str], beside: Sequence[str], left_out: Sequence[str]
) -> Iterator[str]:
    yield f"# From {len(runs)} runs on {utc_now()[:10]} (rteval calibrate {__version__}): {', '.join(runs)}."
    if beside:
        yield f"# They were run with {' and '.join(beside)}, from the command line: run this copy with the same."
    yield "# A run without a change misses each of them about once in a hundred."
    yield from (f"# {sentence}" for sentence in left_out)
    yield "gates:" if proposals else "gates: []"
    for one in proposals:
        yield f"  - {one.gate} # {one.comment}"


def _write_copy(path: Path, text: str, proposals: Sequence[Proposal], options: RunOptions) -> None:
    """Write the copy and see that it is the scenario with these gates: a file cut at the wrong line must not stay."""
    before = path.read_bytes() if path.is_file() else None
    write_text(path, text)
    sets = [entry for entry in options.sets if not entry.lstrip().startswith("gates")]
    try:
        gates = [gate.written() for gate in load_scenario(path, sets=sets, set_files=options.set_files).gates or ()]
        why = "" if gates == [one.gate for one in proposals] else "its own gates cannot be told from the rest"
    except RtevalError as error:
        why = str(error)
    if why:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
        raise RunFolderError(f"a copy of the scenario with other gates cannot be made: {why}")
