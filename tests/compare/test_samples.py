"""Samples, intervals and breakdowns of a run: the same turns as behind the number, and nothing left out unsaid."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rteval.analysis.breakdown import axes_of, break_down
from rteval.analysis.compare import Pairing
from rteval.analysis.intervals import CONFIDENCE, RESAMPLES, SEED, differ, estimate
from rteval.analysis.samples import Observed
from rteval.baseline import run_subject
from rteval.judge import judge


def test_every_sample_says_what_its_metric_says(nights: Path) -> None:
    run_dir = nights / "support" / "always"
    metrics = json.loads((run_dir / "summary.json").read_text())["metrics"]
    observed = run_subject(run_dir).observed
    assert {"ttfa_ms", "response_ms", "error_rate", "input_wer", "session_ready_ms", "drop_rate"} <= observed.keys()
    for name, one in observed.items():
        entry = metrics[name]
        assert len(one.top) == entry["n"], name
        for stat in ("value",) if "value" in entry else ("mean", "p50", "p90", "p95", "p99", "max"):
            assert estimate(one.sample(), stat) == pytest.approx(entry[stat], abs=1e-12), (name, stat)


def test_a_summary_holds_each_numbers_interval_and_how_it_was_made(nights: Path) -> None:
    summary = json.loads((nights / "support" / "always" / "summary.json").read_text())
    made = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED, "clusters": 40}
    assert summary["statistics"] == made
    for name, entry in summary["metrics"].items():
        for stat, (low, high) in entry.get("ci95", {}).items():
            slack = 1e-5 * abs(entry[stat])  # bounds are kept to six digits
            assert low is None or low <= entry[stat] + slack, (name, stat)
            assert high is None or high >= entry[stat] - slack, (name, stat)
    assert set(summary["metrics"]["ttfa_ms"]["ci95"]) == {"mean", "p50", "p90", "p95"}
    assert "ci95" not in summary["metrics"]["turns_per_s"]


def test_the_same_folder_gets_the_same_intervals(make_night) -> None:
    run_dir = make_night("one")
    first = (run_dir / "summary.json").read_bytes()
    judge(run_dir, reports_written=False)
    assert (run_dir / "summary.json").read_bytes() == first


def test_turns_that_do_not_count_are_in_no_sample(make_night) -> None:
    """A failed turn has no time, and is one of the error rate."""
    observed = run_subject(make_night("one", failing=[0, 5])).observed
    assert (len(observed["ttfa_ms"].top), len(observed["error_rate"].top)) == (38, 40)
    assert observed["error_rate"].top.sum() == 2
    assert "item-00" not in set(observed["ttfa_ms"].item)


def test_a_run_without_an_answer_has_no_interval_and_is_judged(make_night) -> None:
    run_dir = make_night("one", items=6, failing=range(6))
    metrics = json.loads((run_dir / "summary.json").read_text())["metrics"]
    assert "ci95" not in metrics["ttfa_ms"]
    assert metrics["error_rate"]["ci95"]["value"][1] == 1.0


def test_one_item_that_fails_on_both_sides_hides_no_failure_of_the_others() -> None:
    """30 items ten times each; the first one always fails, and in the new run one in eleven of the others as well."""
    turns = np.arange(300)
    items = np.array([f"i{turn % 30}" for turn in turns], dtype=object)
    sessions = np.array([f"s{turn}" for turn in turns], dtype=object)
    dead = (turns % 30 == 0).astype(float)
    worse = np.maximum(dead, (turns % 11 == 0).astype(float))
    base, new = (Observed(top, sessions, np.ones(300), items, turns) for top in (dead, worse))
    pairs = Pairing({f"i{number}": number for number in range(30)}, 30, (30, 30, 30))
    one, other, paired = pairs.samples(base, new)
    difference = differ(one, other, "value", paired=paired)
    assert difference is not None
    low, high = difference.interval(0.95)
    assert low is not None
    assert high is not None
    assert 0.03 < low < difference.new - difference.base < high < 0.15
    assert difference.units == 300


# ---- breakdowns ----


def test_groups_are_those_of_tags_and_of_the_datasets_columns(nights: Path) -> None:
    subject = run_subject(nights / "support" / "always")
    assert axes_of(subject) == ["tag", "meta_accent"]
    tags = break_down(subject, "tag")
    assert [(group["name"], group["turns"]) for group in tags["groups"]] == [
        ("billing", 20),
        ("sales", 20),
        ("vip", 20),
    ]
    accents = break_down(subject, "accent")
    assert [group["name"] for group in accents["groups"]] == ["north", "south"]
    north = accents["groups"][0]["metrics"]
    rows = subject.turns[subject.turns["meta_accent"] == "north"]
    assert north["ttfa_ms"]["p50"] == pytest.approx(rows["ttfa_ms"].median())
    assert north["ttfa_ms"]["ci95"]["p50"][0] < north["ttfa_ms"]["p50"] < north["ttfa_ms"]["ci95"]["p50"][1]
    assert north["input_wer"]["n"] == 20


def test_a_breakdown_of_many_groups_shows_some_and_says_so(nights: Path) -> None:
    subject = run_subject(nights / "support" / "always")
    items = break_down(subject, "item", most=5)
    assert (len(items["groups"]), items["not_shown"]) == (5, 35)
    # One turn each: a number, and no interval to go with it.
    assert "ci95" not in items["groups"][0]["metrics"]["ttfa_ms"]
    assert break_down(subject, "nothing") == {"groups": [], "not_shown": 0}


def test_the_hour_of_a_turn_is_that_of_its_start(nights: Path) -> None:
    (hour,) = break_down(run_subject(nights / "support" / "always"), "hour")["groups"]
    assert (hour["name"], hour["turns"]) == ("2026-11-20T03h", 40)


def test_summaries_hold_the_breakdowns(nights: Path) -> None:
    summary = json.loads((nights / "support" / "always" / "summary.json").read_text())
    assert set(summary["breakdown"]) == {"tag", "meta_accent"}
    assert np.isfinite(summary["breakdown"]["tag"]["groups"][0]["metrics"]["ttfa_ms"]["p50"])


def test_of_several_checks_a_turn_each_is_counted(make_night) -> None:
    """What n counts is the same of the whole run, of a group, and of the turns that a gate looks at."""
    checks = {"thanks": {"contains": "thank"}, "parcel": {"contains": "parcel"}}
    where = {"gate": "checks.pass_rate >= 0.9", "where": {"accent": "north"}}
    run_dir = make_night(
        "one", scoring={"checks": checks}, checks=list(checks), gates=["checks.pass_rate >= 0.9", where]
    )
    summary = json.loads((run_dir / "summary.json").read_text())
    assert [(gate["n"], gate["value"]) for gate in summary["gates"]] == [(80, 0.5), (40, 0.5)]
    (north, _) = summary["breakdown"]["meta_accent"]["groups"]
    assert (north["metrics"]["checks.pass_rate"]["n"], north["turns"]) == (40, 20)
