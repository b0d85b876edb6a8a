"""What the plots and the table of turns are made of."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest

from rteval.reporting.html import figures, turn_table
from rteval.reporting.html.compare import overlaid
from rteval.reporting.html.figures import figures_of, histogram, limits_of
from rteval.reporting.html.numbers import counted_in, definition_of, unit_of
from rteval.reporting.html.shell import STYLE, asset
from rteval.reporting.html.turn_table import size, turn_columns
from rteval.reporting.html.wording import THIN_SPACE, duration, number

LIBRARIES = {
    "chart.umd.min.js": ("Chart.js v4.6.1", "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"),
    "chartjs-plugin-annotation.min.js": (
        "chartjs-plugin-annotation v3.1.0",
        "ff03786a60f6c93ccacfe0fbb6c2e3c671d7930856a3689f2f393113d8d655ec",
    ),
}


def cell(column, row):
    if isinstance(column, list):
        return column[row]
    return column["levels"][column["codes"][row] if "codes" in column else 0]


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_plotting_library_is_shipped_as_it_was_published_with_its_licence(name):
    version, digest = LIBRARIES[name]
    assets = files("rteval.reporting.html").joinpath("assets")
    content = assets.joinpath(name).read_bytes()
    assert version in content.decode()
    assert hashlib.sha256(content).hexdigest() == digest
    licence = "chart.js" if name.startswith("chart.umd") else "chartjs-plugin-annotation"
    assert "MIT License" in assets.joinpath(f"{licence}.LICENSE.md").read_text("utf-8")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([500.0], id="one"),
        pytest.param([0.0, 0.0, 0.0], id="all zero"),
        pytest.param([-20.0, 5.0, 300.0], id="negative"),
        pytest.param([100.0] * 99 + [90_000.0], id="one very slow"),
        pytest.param(list(np.random.default_rng(1).lognormal(6, 0.5, 5000)), id="many"),
    ],
)
def test_every_turn_is_in_a_bar_or_named_as_not_drawn(values):
    figure = histogram("ttfa_ms", "Time to first audio", np.array(values), [])
    drawn = sum(count for _middle, count in figure["bars"])
    beyond = int(figure["note"].split()[0]) if figure["note"] else 0
    assert drawn + beyond == len(values)
    assert len(figure["edges"]) == len(figure["bars"]) + 1
    assert figure["edges"] == sorted(figure["edges"])


def test_turns_that_failed_and_warm_up_turns_are_in_no_distribution(make_run):
    run = make_run(n=60, failing=0.3)
    counted = run.turns[(run.turns["outcome"] == "ok") & ~run.turns["warmup"].astype(bool)]
    made = figures_of(run.turns, run.sessions, run.health, run=run.run, gates=[])
    by_id = {figure["id"]: figure for figure in made["latency"]}
    assert sum(count for _middle, count in by_id["histogram-ttfa_ms"]["bars"]) == len(counted)
    answered, failed = (series["points"] for series in by_id["time-ttfa_ms"]["series"])
    assert len(answered) == len(counted)
    assert [row for _at, _ms, row in failed] == list(np.flatnonzero(run.turns["outcome"] != "ok"))


def test_a_gate_is_a_line_on_the_plots_of_its_metric(make_run):
    run = make_run(gates=("ttfa_ms.p95 < 1200", "checks.pass_rate >= 0.9"))
    assert limits_of(run.summary["gates"])["ttfa_ms"] == [("ttfa_ms.p95 < 1200", 1200.0)]
    made = figures_of(run.turns, run.sessions, run.health, run=run.run, gates=run.summary["gates"])
    lines = {
        figure["id"]: [line["at"] for line in figure["lines"] if line["role"] == "gate"]
        for figure in made["latency"]
        if "lines" in figure
    }
    assert lines["histogram-ttfa_ms"] == lines["time-ttfa_ms"] == [1200.0]
    assert lines["histogram-v2v_ms"] == []


def test_a_limit_far_off_is_named_and_does_not_flatten_the_plot():
    figure = histogram("ttfa_ms", "Time to first audio", np.array([90.0, 100.0]), [("ttfa_ms.p95 < 5000", 5000.0)])
    assert all(line["at"] <= 100 for line in figure["lines"])
    assert "beyond the plot: ttfa_ms.p95 < 5000" in figure["note"]


def test_a_run_of_very_many_turns_draws_every_nth_and_says_so(make_run, monkeypatch):
    monkeypatch.setattr(figures, "MAX_POINTS", 10)
    run = make_run(n=60, failing=0.1)
    latency = figures_of(run.turns, run.sessions, run.health, run=run.run, gates=[])["latency"]
    scatter = next(figure for figure in latency if figure["kind"] == "scatter")
    answered, failed = (series["points"] for series in scatter["series"])
    assert len(answered) <= 10
    assert len(failed) == int((run.turns["outcome"] != "ok").sum())
    assert "th answered turn is drawn" in scatter["note"]


def test_a_cumulative_curve_never_falls_and_ends_at_all_turns(make_run):
    run = make_run(n=600)
    made = figures_of(run.turns, run.sessions, run.health, run=run.run, gates=[])
    for series in next(figure for figure in made["latency"] if figure["id"] == "cumulative")["series"]:
        shares = [share for _ms, share in series["points"]]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert shares[-1] == 100
        assert len(shares) <= 301


def test_the_table_holds_what_the_turns_hold(make_run):
    run = make_run(n=20)
    data = turn_columns(run.turns, texts=True, at_s=np.arange(20.0))
    columns = data["columns"]
    for row in range(20):
        turn = run.turns.iloc[row]
        assert cell(columns["item"], row) == turn["item"]
        assert cell(columns["outcome"], row) == turn["outcome"]
        if turn["outcome"] == "ok":
            assert columns["ttfa_ms"][row] == pytest.approx(turn["ttfa_ms"], abs=0.051)
        else:
            assert columns["ttfa_ms"][row] is None


def test_beyond_the_cap_the_page_keeps_what_failed_and_what_was_slow(make_run, monkeypatch):
    monkeypatch.setattr(turn_table, "MAX_ROWS", 10)
    run = make_run(n=60, failing=0.1)
    data = turn_columns(run.turns, texts=True, at_s=np.arange(60.0))
    failed = set(np.flatnonzero(run.turns["outcome"] != "ok"))
    assert len(data["rows"]) == 10
    assert failed <= set(data["rows"])
    slowest = run.turns["ttfa_ms"].idxmax()
    assert slowest in data["rows"]


def test_texts_beyond_the_room_are_cut_evenly_and_the_page_says_to_what(make_run):
    run = make_run(n=40, failing=0.0)
    run.turns["input_transcript"] = [f"{number} " + "word " * 100 for number in range(40)]
    whole = turn_columns(run.turns, texts=True, at_s=np.arange(40.0))
    assert whole["clip"] is None
    room = sum(size(column) for column in whole["columns"].values()) - 4_000
    data = turn_columns(run.turns, texts=True, at_s=np.arange(40.0), room=room)
    texts = data["columns"]["input_transcript"]
    assert {len(text) for text in texts} == {data["clip"]}
    assert all(text.endswith("…") for text in texts)
    assert room - 100 < sum(size(column) for column in data["columns"].values()) <= room


def test_columns_of_the_dataset_that_find_no_room_are_named(make_run):
    run = make_run(n=40)
    run.turns["meta_essay"] = [f"{number} {'x' * 290}" for number in range(40)]
    data = turn_columns(run.turns, texts=False, at_s=np.arange(40.0), room=20_000)
    assert data["left_out"] == ["meta_essay"]
    assert "meta_agent" in data["columns"]


@pytest.mark.parametrize(
    ("value", "unit", "n", "text"),
    [
        pytest.param(1234.5, "ms", None, f"1{THIN_SPACE}234{THIN_SPACE}ms", id="thousands"),
        pytest.param(0.0, "ms", None, f"0{THIN_SPACE}ms", id="zero is zero"),
        pytest.param(None, "ms", None, "\u2013", id="not measured"),
        pytest.param(float("nan"), "ms", None, "\u2013", id="nan is not measured"),
        pytest.param(0.0312, "ratio", 200, f"3.12{THIN_SPACE}%", id="share"),
        pytest.param(0.25, "ratio", 8, "2 of 8", id="share of few"),
        pytest.param(1.5, "1/s", None, f"1.50{THIN_SPACE}per s", id="rate"),
        pytest.param(12345, "tokens", None, f"12{THIN_SPACE}345", id="count"),
        pytest.param(0.00004, "ratio", None, f"<0.01{THIN_SPACE}%", id="a small share is not zero"),
        pytest.param(-0.004, "ms", None, f">-0.01{THIN_SPACE}ms", id="a small difference is not zero"),
    ],
)
def test_numbers_are_worded_for_people(value, unit, n, text):
    assert number(value, unit, n=n).text == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "\u2013"), (4.2, "4.2 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")], ids=str
)
def test_lengths_of_time_are_worded_for_people(seconds, text):
    assert duration(seconds).replace(THIN_SPACE, " ") == text


@pytest.mark.parametrize(
    ("name", "entry", "unit", "counted"),
    [
        pytest.param("error_rate", {}, "ratio", 4, id="a share of turns"),
        pytest.param("checks.polite", {}, "ratio", 4, id="a check"),
        pytest.param("input_wer", {}, "ratio", None, id="a share of words"),
        pytest.param("entity_accuracy", {}, "ratio", None, id="a share of entities"),
        pytest.param("rtf", {}, None, None, id="a ratio that is no share"),
        pytest.param("output_clipped_share.max", {}, "ratio", None, id="the largest of the shares of turns"),
        pytest.param("ttfa_ms.p95", {}, "ms", None, id="a time"),
        pytest.param("scorers.polite.pass_rate", {"unit": "ratio", "of": "pass"}, "ratio", 4, id="a scorer's share"),
        pytest.param("scorers.x.wer", {"unit": "ratio", "of": "a", "per": "b"}, "ratio", None, id="a scorer's words"),
        pytest.param("scorers.brevity.max", {"unit": "words"}, "words", 4, id="a scorer's number"),
    ],
)
def test_a_share_is_told_from_a_ratio_and_counted_in_what_it_is_a_share_of(name, entry, unit, counted):
    assert unit_of(name, entry) == unit
    assert counted_in(name, 4, entry) == counted


def test_what_a_scorer_measures_it_says_itself():
    assert definition_of("scorers.brevity.mean_words", {"definition": "words per answer"}) == "words per answer"
    assert definition_of("scorers.brevity.mean_words") == "mean_words of the scorer 'brevity'"
    assert definition_of("ttfa_ms.p95", {}).startswith("time to first audio")


def test_both_sides_of_a_comparison_stand_in_the_bins_that_they_belong_to():
    base, new = np.array([100.0, 101.0, 119.0, 150.0]), np.array([140.0, 160.0])
    figure = overlaid("ttfa_ms", ("base", "new"), (base, new), "f")
    for series, samples in zip(figure["series"], (base, new), strict=True):
        points = series["points"]
        assert series["stepped"], "a point holds up to the next one"
        drawn = [(low, high, share) for (low, share), (high, _share) in pairwise(points) if low < high]
        for low, high, share in drawn:
            inside = (samples >= low) & ((samples < high) | (high == points[-1][0]))
            assert share == round(float(inside.mean()) * 100, 2), (low, high)
        assert sum(share for _low, _high, share in drawn) == 100
        assert points[0][1] == points[-1][1] == 0


def luminance(colour: str) -> float:
    """Of ``#rgb`` or ``#rrggbb`` (WCAG 2.2, relative luminance)."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_bars_stand_out_from_what_is_behind_them(scheme):
    light, dark = asset(STYLE).split("* { box-sizing", 1)[0].split("@media screen", 1)
    ink = dict(re.findall(r"--([\w-]+): (#\w+)", light if scheme == "light" else light + dark))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(ink[one]), luminance(ink[other])))
        return (high + 0.05) / (low + 0.05)

    words = [(name, behind) for name in ("ink", "muted", "accent") for behind in ("surface", "page", "soft")]
    words += [(name, f"{name}-soft") for name in ("pass", "fail", "warn", "partial")]
    words += [("ink", f"{name}-soft") for name in ("pass", "fail", "warn", "partial")]
    words += [(f"stage-{number}-ink", f"stage-{number}") for number in range(7)]
    assert {pair: round(contrast(*pair), 2) for pair in words if contrast(*pair) < 4.5} == {}
    drawn = [("surface", name) for name in ("accent-2", "accent-3", *(f"stage-{number}" for number in range(7)))]
    assert {pair: round(contrast(*pair), 2) for pair in drawn if contrast(*pair) < 3} == {}
