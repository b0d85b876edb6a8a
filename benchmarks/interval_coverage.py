"""Whether the statistics hold what they say: coverage of the 95 % intervals, and verdicts of gates against a baseline.

Draws many runs from a made-up service whose true numbers are known: calls of one session hang together, items differ,
times are skewed with a rare stall, word errors come in bunches. Then asks how often an interval holds the true number,
and how often a gate is red with no real change, with one within what it allows, and with one beyond.

    python benchmarks/interval_coverage.py              # the tables of docs/statistics.md, about a quarter of an hour
    python benchmarks/interval_coverage.py --runs 100   # a first look, in a minute or two
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rteval.analysis.gates import Gate
from rteval.analysis.intervals import Interval, Sample, differ, estimate, intervals_of
from rteval.analysis.judging import Verdict, Versus, judge_gates

SIZES = (24, 100, 300)
ITEMS = {24: 24, 100: 50, 300: 100}
"""Items of the dataset by turns of the run: each is said once, twice, three times."""


@dataclass(frozen=True)
class Service:
    """What is measured: its times scaled by ``slower``, its word error rate and failures multiplied."""

    slower: float = 1.0
    words: float = 1.0

    def times(self, items: np.ndarray, sessions: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Times in ms: an effect of the item, one of the session, noise, and one call in fifty that stalls."""
        logs = items + sessions + 0.25 * chance.standard_normal(len(items))
        stalled = np.where(chance.random(len(items)) < 0.02, 2.5, 1.0)
        return 600.0 * self.slower * np.exp(logs) * stalled

    def errors(
        self, hard: np.ndarray, sessions: np.ndarray, words: np.ndarray, chance: np.random.Generator
    ) -> np.ndarray:
        """Word errors: some items and some sessions are harder than others."""
        rate = 0.04 * self.words * np.exp(hard + 2 * sessions + 0.4 * chance.standard_normal(len(hard)))
        return chance.binomial(words, np.clip(rate, 0, 0.9)).astype(float)


@dataclass(frozen=True)
class Dataset:
    """Items with what is particular to each: how slow, how hard, how many words."""

    slow: np.ndarray
    hard: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, size: int, chance: np.random.Generator) -> Dataset:
        """A dataset of so many items."""
        return cls(
            0.2 * chance.standard_normal(size), 0.6 * chance.standard_normal(size) - 0.3, chance.integers(4, 20, size)
        )


# ---- coverage ----


def sessions_of(n: int, chance: np.random.Generator) -> np.ndarray:
    """One to three turns in a session, as codes."""
    return np.repeat(np.arange(n), chance.integers(1, 4, n))[:n]


def one_run(n: int, chance: np.random.Generator) -> dict[str, Sample]:
    """What one run measures; every turn is of an item of its own, so that turns differ in all that they can."""
    data, session = Dataset.of(n, chance), sessions_of(n, chance)
    shared = 0.1 * chance.standard_normal(n)[session]
    service = Service()
    failed = chance.random(n) < 0.04 * np.exp(6 * shared)
    return {
        "ttfa_ms": Sample(service.times(data.slow, shared, chance), session),
        "input_wer": Sample(service.errors(data.hard, shared, data.words, chance), session, data.words.astype(float)),
        "error_rate": Sample(failed.astype(float), session, np.ones(n)),
    }


def coverage(runs: int, sizes: tuple[int, ...] = SIZES) -> Iterator[str]:
    """Yield the table of coverage."""
    whole = one_run(3_000_000, np.random.default_rng(0))
    stats = [("ttfa_ms", stat) for stat in ("mean", "p50", "p90", "p95", "p99")]
    stats += [("input_wer", "value"), ("error_rate", "value")]
    truth = {key: estimate(whole[key[0]], key[1]) for key in stats}
    yield "| number | n | interval holds it | too low | too high | no upper bound |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for n in sizes:
        counts: dict[tuple[str, str], Counter[str]] = {key: Counter() for key in stats}
        for run in range(runs):
            found = intervals_of(one_run(n, np.random.default_rng([n, run])))
            for (name, stat), true in truth.items():
                bounds = found.get(name, {}).get(stat)
                if bounds is not None and true is not None:
                    counts[name, stat].update(where(bounds, true))
        for (name, stat), seen in counts.items():
            if seen["all"]:
                shown = name if stat == "value" else f"{name}.{stat}"
                kinds = ("holds", "below", "above", "open")
                shares = " | ".join(f"{100 * seen[kind] / seen['all']:.1f} %" for kind in kinds)
                yield f"| `{shown}` | {n} | {shares} |"


def where(bounds: Interval, true: float) -> Iterator[str]:
    """What became of one interval."""
    low, high = bounds
    yield "all"
    if high is not None and high < true:
        yield "below"
    elif low is not None and low > true:
        yield "above"
    else:
        yield "holds"
    if high is None:
        yield "open"


# ---- gates ----

GATES = (
    (Gate.parse("ttfa_ms.p50 < baseline * 1.10"), "ttfa_ms"),
    (Gate.parse("ttfa_ms.p95 < baseline * 1.10"), "ttfa_ms"),
    (Gate.parse("input_wer <= baseline + 0.02"), "input_wer"),
)
CHANGES = {
    "ttfa_ms": {
        "none": Service(),
        "+5 %": Service(1.05),
        "+20 %": Service(1.2),
        "+30 %": Service(1.3),
        "+50 %": Service(1.5),
    },
    "input_wer": {
        "none": Service(),
        "x 1.25": Service(1, 1.25),
        "x 2": Service(1, 2),
        "x 3": Service(1, 3),
        "x 4": Service(1, 4),
    },
}


def night(service: Service, data: Dataset, n: int, chance: np.random.Generator) -> dict[str, Sample]:
    """One night over the same items, a session each turn; clusters are the items, as gates pair them."""
    size = len(data.slow)
    item = np.tile(np.arange(size), n // size + 1)[:n]
    shared = 0.1 * chance.standard_normal(n)
    words = data.words[item]
    return {
        "ttfa_ms": Sample(service.times(data.slow[item], shared, chance), item),
        "input_wer": Sample(service.errors(data.hard[item], shared, words, chance), item, words.astype(float)),
    }


@dataclass(frozen=True)
class Known:
    """The evidence of one night."""

    told: Versus

    def entry(self, gate: Gate) -> None:
        """Never asked: no gate here looks at some turns only."""

    def bounds(self, gate: Gate, confidence: float) -> None:
        """Never asked: every gate here is against a baseline."""

    def versus(self, gate: Gate) -> Versus:
        """The night beside its baseline."""
        return self.told


def judged(gate: Gate, metric: str, base: Sample, new: Sample) -> tuple[Verdict, bool]:
    """The verdict, and whether the point alone would have been red."""
    stat = gate.stat or "value"
    was, now = estimate(base, stat), estimate(new, stat)
    assert was is not None
    assert now is not None
    versus = Versus(was, len(base), differ(base, new, stat, paired=True))
    entry = {"n": len(new), stat: now}
    (result,) = judge_gates([gate], {metric: entry}, evidence=Known(versus))
    return result.verdict, now > (gate.factor or 1.0) * was + gate.limit


def gates(runs: int, sizes: tuple[int, ...] = SIZES) -> Iterator[str]:
    """Yield the table of verdicts."""
    yield "| gate | n | real change | red | of these `fail` | red by the point alone |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for gate, metric in GATES:
        for n in sizes:
            for change, service in CHANGES[metric].items():
                seen: Counter[str] = Counter()
                for run in range(runs):
                    chance = np.random.default_rng([n, run, 1])
                    data = Dataset.of(ITEMS[n], chance)
                    base, new = (night(one, data, n, chance)[metric] for one in (Service(), service))
                    verdict, point = judged(gate, metric, base, new)
                    seen.update([verdict.value, *(["point"] if point else [])])
                red = seen["fail"] + seen["inconclusive"]
                shares = " | ".join(f"{100 * count / runs:.1f} %" for count in (red, seen["fail"], seen["point"]))
                yield f"| `{gate}` | {n} | {change} | {shares} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="runs (or nights) that are made up for each line")
    options = parser.parse_args()
    started = time.perf_counter()
    for table in (coverage(2 * options.runs), gates(options.runs)):
        for line in table:
            print(line, flush=True)
        print(flush=True)
    took_s = time.perf_counter() - started
    print(f"{options.runs} nights a line, {2 * options.runs} runs a line of coverage, {took_s:.0f} s")


if __name__ == "__main__":
    main()
