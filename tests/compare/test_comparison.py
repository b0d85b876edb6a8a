"""Two runs, or the parts of one: what is said, what is not fair, and what means nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rteval.analysis.compare import Outcome, compare, pairing, refusal
from rteval.analysis.subject import Subject
from rteval.baseline import run_subject
from rteval.cli import app
from rteval.comparison import parse_slacks
from rteval.errors import UsageError

RUNNER = CliRunner()


def run_compare(nights: Path, *args: str) -> tuple[int, dict]:
    result = RUNNER.invoke(app, ["compare", *args, "--out", str(nights), "--json"])
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, json.loads(result.stdout)


def verdicts(content: dict, place: int = 0) -> dict[str, str]:
    return {row["metric"]: row["verdict"] for row in content["comparisons"][place]["metrics"]}


# ---- verdicts ----


def test_a_slower_night_is_worse_and_the_other_way_round_better(nights: Path) -> None:
    code, content = run_compare(nights, "support/always", "support/slower")
    found = verdicts(content)
    assert code == content["exit_code"] == 1
    assert found["ttfa_ms.p50"] == found["ttfa_ms.p95"] == found["response_ms.p50"] == "worse"
    assert "worse" not in {found["error_rate"], found["input_wer"]}
    code, content = run_compare(nights, "support/slower", "support/always")
    assert (code, verdicts(content)["ttfa_ms.p95"]) == (0, "better")


def test_the_same_again_is_not_worse(nights: Path) -> None:
    code, content = run_compare(nights, "support/always", "support/again")
    assert code == 0
    assert set(verdicts(content).values()) <= {"same", "cannot tell"}
    (row,) = (row for row in content["comparisons"][0]["metrics"] if row["metric"] == "ttfa_ms.p50")
    assert (row["paired"], row["units"], row["verdict"]) == (True, 40, "same")


def test_mishearing_is_worse_in_words_alone(nights: Path) -> None:
    _, content = run_compare(nights, "support/always", "support/deaf")
    worse = [name for name, verdict in verdicts(content).items() if verdict == "worse"]
    assert worse == ["input_wer"]


def test_several_runs_are_each_compared_with_the_first(nights: Path) -> None:
    code, content = run_compare(nights, "support/always", "support/again", "support/slower")
    assert [one["new"]["run_id"] for one in content["comparisons"]] == ["again", "slower"]
    assert code == 1


SLACKS = [
    pytest.param([], "worse", id="by default 5 %"),
    pytest.param(["ttfa_ms=400"], "same", id="in the unit of the metric"),
    pytest.param(["ttfa_ms.p50=60%"], "same", id="a share of the base"),
    pytest.param(["ttfa_ms.p50=10%", "ttfa_ms=400"], "worse", id="the statistic before the metric"),
    pytest.param(["ttfa_ms=30%"], "cannot tell", id="about as much as there is"),
]


@pytest.mark.parametrize(("slacks", "verdict"), SLACKS)
def test_a_difference_within_the_slack_does_not_matter(nights: Path, slacks: list[str], verdict: str) -> None:
    args = [part for slack in slacks for part in ("--slack", slack)]
    _, content = run_compare(nights, "support/always", "support/slower", *args)
    assert verdicts(content)["ttfa_ms.p50"] == verdict


def test_a_metric_with_a_slack_is_compared_too(nights: Path) -> None:
    _, content = run_compare(nights, "support/always", "support/slower", "--slack", "ttfa_ms.mean=10")
    assert verdicts(content)["ttfa_ms.mean"] == "worse"


BAD_SLACKS = [
    pytest.param("ttfa_ms", "is not of the form METRIC=VALUE", id="no value"),
    pytest.param("ttfa_ms=fast", "is not of the form METRIC=VALUE", id="no number"),
    pytest.param("ttfa_ms=-1", "is not of the form METRIC=VALUE", id="negative"),
    pytest.param("tfa_ms=1", "did you mean 'ttfa_ms'?", id="misspelt"),
    pytest.param("ttfa_ms=" + "9" * 400, "is not of the form METRIC=VALUE", id="more than a number holds"),
    pytest.param("=5", "no metric is called ''", id="no name"),
    pytest.param("input_wer.p50=1", "input_wer is one value; leave out '.p50'", id="a statistic of one value"),
    pytest.param("ttfa_ms.p33=1", "no statistic is called 'p33'", id="no such statistic"),
    pytest.param("ttfa_ms.max=1", "a comparison needs an interval, and ttfa_ms.max has none", id="an extreme"),
    pytest.param("turns_per_s=1", "a comparison needs an interval, and turns_per_s has none", id="one number a run"),
    pytest.param("scorers.tone=1", "is called scorers.NAME.METRIC", id="half of a scorer's metric"),
]


@pytest.mark.parametrize(("text", "message"), BAD_SLACKS)
def test_a_slack_that_cannot_be_read_is_refused_with_the_cure(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_slacks([text])
    assert message in str(raised.value)


def test_among_many_metrics_one_that_barely_shows_is_not_called_worse(nights: Path) -> None:
    """Holm: a p-value is multiplied by the number of questions that are still open."""
    base, new = (run_subject(nights / "support" / name) for name in ("always", "slower"))
    (row,) = (row for row in compare(base, new).rows if row.name == "ttfa_ms.p50")
    assert row.p is not None
    assert row.interval is not None
    assert row.interval[0] is not None
    barely = (row.interval[0] - 1.0, False)
    found = compare(base, new, {"ttfa_ms.p50": barely})
    (again,) = (row for row in found.rows if row.name == "ttfa_ms.p50")
    assert again.outcome is Outcome.CANNOT_TELL
    assert again.reason == "among so many metrics this may be chance (Holm)"


def test_higher_is_better_where_it_is(make_night, reports: Path) -> None:
    checks = {"checks": ["polite"], "scoring": {"checks": {"polite": {"contains": "please"}}}}
    rude = {"checks": ["polite"], "scoring": {"checks": {"polite": {"contains": "sorry"}}}}
    make_night("polite", seed=1, **checks)
    make_night("rude", seed=2, **rude)
    code, content = run_compare(reports, "support/polite", "support/rude")
    assert (code, verdicts(content)["checks.pass_rate"]) == (1, "worse")


# ---- pairs ----


def test_items_that_share_sessions_are_one_unit(nights: Path) -> None:
    subject = run_subject(nights / "support" / "always")
    turns = subject.turns.assign(session=[f"s{row // 2}" for row in range(len(subject.turns))])
    found = pairing(Subject("a", subject.facts, turns, subject.observed), subject)
    assert (found.shared, len(set(found.units.values())), found.holds) == (20, 20, True)


def test_without_common_items_sessions_are_compared(make_night, reports: Path) -> None:
    make_night("few", items=40, seed=1)
    make_night("many", items=9, repeat=5, seed=2, dataset={"name": "d", "hash": "other", "detector": "rms/1"})
    _, content = run_compare(reports, "support/few", "support/many")
    (row,) = (row for row in content["comparisons"][0]["metrics"] if row["metric"] == "ttfa_ms.p50")
    assert (row["paired"], row["units"]) == (False, 40)
    assert content["comparisons"][0]["unfair"] == [
        "other datasets (hashes differ): 9 items are in both, of 40 and 9",
    ]


# ---- fair or not ----


UNFAIR = [
    pytest.param({"target": {"dialect": "preview"}}, "other dialects: ga and preview", id="dialect"),
    pytest.param({"load": {"model": "closed", "peak": 80}}, "other load: closed, up to 4 sessions; and", id="load"),
    pytest.param(
        {"load": {"model": "closed", "peak": 4, "asked": [[0, 1], [9, 4]]}}, "the schedules differ", id="ramp"
    ),
    pytest.param({"dataset": {"hash": "d1", "detector": "rms/2"}}, "other detectors", id="detector"),
    pytest.param({"late_ms": 90}, "is invalid: its generator was the bottleneck", id="invalid"),
    pytest.param({"scoring": {"normalizer": "none"}}, "other normalisers: whisper_english/", id="normaliser"),
    pytest.param({"planned": {"turns": 50}}, "is partial", id="partial"),
    pytest.param({"items": 30}, "other items of the dataset: 30 were run by both, of 40 and 30", id="fewer items"),
    pytest.param({"name": "sales"}, "other scenarios: support and sales", id="scenario"),
    pytest.param({"scoring": {"checks": {"c": {"contains": "thank"}}}}, "other checks of the answers", id="checks"),
]


@pytest.mark.parametrize(("over", "sentence"), UNFAIR)
def test_what_is_not_fair_is_said(nights: Path, make_night, over: dict, sentence: str) -> None:
    new = make_night("odd", seed=5, **over)
    _, content = run_compare(nights, "support/always", str(new))
    (unfair,) = content["comparisons"][0]["unfair"]
    assert sentence in unfair


def test_what_differs_by_more_than_the_target_has_no_verdict(nights: Path, make_night) -> None:
    new = make_night("odd", seed=5, late_ms=90, scoring={"normalizer": "none"})
    _, content = run_compare(nights, "support/always", str(new))
    found = verdicts(content)
    assert found["ttfa_ms.p50"] == found["input_wer"] == "not comparable"
    assert found["error_rate"] == "cannot tell"


NOTHING = [
    pytest.param(["support/always"], "there is nothing to compare it with", id="one run"),
    pytest.param(["support/always", "support/always"], "comparing a run with itself", id="the same run"),
    pytest.param(["support/always", "support/again", "--by", "tag"], "the parts of one run, and 2", id="by, and two"),
    pytest.param(["support/always", "--by", "mood"], "has no such column", id="no such axis"),
    pytest.param(["support/always", "--by", "worker"], "has only 'w0'", id="one part"),
    pytest.param(["support/always", "--by", "item"], "has 40 of them", id="too many parts"),
    pytest.param(["support/always", "nowhere"], "no run is called", id="no such run"),
]


@pytest.mark.parametrize(("args", "message"), NOTHING)
def test_a_comparison_that_means_nothing_is_refused(nights: Path, args: list[str], message: str) -> None:
    result = RUNNER.invoke(app, ["compare", *args, "--out", str(nights)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_metric_that_was_asked_for_is_told_of_although_nobody_measured_it(nights: Path) -> None:
    _, content = run_compare(nights, "support/always", "support/again", "--slack", "entity_accuracy=0.1")
    (row,) = (row for row in content["comparisons"][0]["metrics"] if row["metric"] == "entity_accuracy")
    assert (row["verdict"], row["reason"]) == ("cannot tell", "not measured")


HOLLOW = [
    pytest.param({"items": 4}, "too few sessions to say how sessions differ", id="a handful of turns"),
    pytest.param({"failing": range(40), "late_ms": 90, "gates": []}, None, id="all failed, but errors are compared"),
]


@pytest.mark.parametrize(("over", "why"), HOLLOW)
def test_a_comparison_of_nothing_is_not_green(nights: Path, make_night, over: dict, why: str | None) -> None:
    args = ["compare", "support/always", str(make_night("odd", seed=5, **over)), "--out", str(nights)]
    result = RUNNER.invoke(app, args)
    if why is None:
        assert result.exit_code == 1
        assert re.search("error_rate.*worse", result.stdout)
    else:
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"nothing of always can be compared: {why}" in result.stderr


def test_each_of_several_runs_must_be_comparable(nights: Path, make_night) -> None:
    args = ["compare", "support/always", "support/again", str(make_night("handful", items=4)), "--out", str(nights)]
    result = RUNNER.invoke(app, args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing of always can be compared with handful: too few sessions" in result.stderr


def test_other_definitions_and_empty_runs_are_refused(nights: Path) -> None:
    subject = run_subject(nights / "support" / "always")
    older = Subject("older", {**subject.facts, "metrics": 0}, subject.turns, subject.observed)
    assert "defined differently" in str(refusal(older, subject))
    shut = Subject("shut", {**subject.facts, "state": "refused"}, subject.turns, subject.observed)
    assert refusal(subject, shut) == "shut never got in: no session became ready"
    assert refusal(subject, Subject("empty", subject.facts, subject.turns)) == "empty measured nothing"


def test_a_run_that_was_never_judged_says_what_to_do(make_night, nights: Path) -> None:
    result = RUNNER.invoke(
        app, ["compare", "support/always", str(make_night("raw", judged=False)), "--out", str(nights)]
    )
    assert result.exit_code == 2
    assert "was never judged" in result.stderr
    assert "rteval report" in result.stderr


# ---- the parts of one run ----


def test_the_variants_of_a_run_are_compared_by_item(make_night, reports: Path) -> None:
    make_night("both", variants=(("a", 1.0), ("b", 1.4)))
    for axis in ("variant", "prompt"):
        code, content = run_compare(reports, "support/both", "--by", axis)
        (one,) = content["comparisons"]
        assert (code, one["base"]["label"], one["new"]["label"]) == (1, f"{axis} a", f"{axis} b")
        (row,) = (row for row in one["metrics"] if row["metric"] == "ttfa_ms.p50")
        assert (row["verdict"], row["paired"], row["n_base"]) == ("worse", True, 40)


def test_the_first_option_of_the_scenario_is_the_base_whichever_came_first(make_night, reports: Path) -> None:
    """Variants take turns, so that which one begins says nothing."""
    variants = [{"name": name, "axes": {"prompt": name}} for name in ("now", "then")]
    make_night("both", items=12, variants=(("then", 1.4), ("now", 1.0)))
    run_dir = reports / "support" / "both"
    (run_dir / "run.json").write_text(
        json.dumps(json.loads((run_dir / "run.json").read_text()) | {"variants": variants})
    )
    for axis in ("variant", "prompt"):
        _, content = run_compare(reports, "support/both", "--by", axis)
        assert content["comparisons"][0]["base"]["label"] == f"{axis} now"


def test_the_default_slack_of_a_short_time_is_no_share_of_it(nights: Path) -> None:
    _, content = run_compare(nights, "support/always", "support/again")
    rows = {row["metric"]: row for row in content["comparisons"][0]["metrics"]}
    connect, first = rows["session_ready_ms.p50"], rows["ttfa_ms.p50"]
    assert connect["base"] < 50
    assert connect["slack"] == 5.0
    assert first["slack"] == pytest.approx(0.05 * first["base"])


def test_a_slack_that_is_a_share_of_nothing_is_none(nights: Path, make_night) -> None:
    _, content = run_compare(nights, str(make_night("tiny", items=15, seed=8)), "support/always")
    (row,) = (row for row in content["comparisons"][0]["metrics"] if row["metric"] == "ttfa_ms.p95")
    assert (row["base"], row["slack"], row["verdict"]) == (None, None, "cannot tell")


def test_tags_and_columns_are_axes_too(nights: Path) -> None:
    _, content = run_compare(nights, "support/always", "--by", "tag")
    assert [one["new"]["label"] for one in content["comparisons"]] == ["tag sales", "tag vip"]
    _, content = run_compare(nights, "support/always", "--by", "accent")
    (one,) = content["comparisons"]
    assert one["base"]["label"] == "accent north"  # both have as many turns
    # Other items are said on each side, so no words can be compared.
    assert verdicts(content)["input_wer"] == "not comparable"


def test_the_part_with_the_most_turns_is_the_base_whichever_came_first(nights: Path, make_night) -> None:
    """A small one would leave nothing to compare, and which session begins first is chance."""
    run = make_night("uneven", items=30, seed=4, tags=(("rare",), ("common",), ("common", "usual"), ("common",)))
    _, content = run_compare(nights, str(run), "--by", "tag")
    labels = [(one["base"]["label"], one["new"]["label"]) for one in content["comparisons"]]
    assert labels == [("tag common", "tag rare"), ("tag common", "tag usual")]


# ---- what people read ----


def test_the_terminal_says_the_verdict_and_what_is_not_fair(nights: Path, make_night) -> None:
    new = make_night("odd", seed=3, slower=1.3, target={"dialect": "preview"})
    result = RUNNER.invoke(app, ["compare", "support/always", str(new), "--out", str(nights)])
    assert result.exit_code == 1
    assert "not fair: other dialects: ga and preview" in result.stdout
    assert re.search(r"ttfa_ms.p50.*\+\d+.*worse", result.stdout)
    assert "ttfa_ms.p50, ttfa_ms.p95" in result.stdout


def test_markdown_holds_the_table_and_no_transcript(nights: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.md"
    result = RUNNER.invoke(
        app, ["compare", "support/always", "support/deaf", "--out", str(nights), "--markdown", str(file)]
    )
    assert result.exit_code == 1
    text = file.read_text()
    assert re.search(r"\| `input_wer` \|.*points.*❌ worse", text)
    assert "parcel" not in text


def test_the_page_shows_both_and_asks_the_network_for_nothing(nights: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.html"
    RUNNER.invoke(app, ["compare", "support/always", "support/deaf", "--out", str(nights), "--html", str(file)])
    text = file.read_text()
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text.partition("<script")[0])
    data = json.loads(text.partition('id="report-data">')[2].partition("</script>")[0])
    figures = data["figures"]["comparison-0"]
    assert [figure["name"] for figure in figures] == ["ttfa_ms", "ttfa_ms", "response_ms", "response_ms"]
    assert all(len(figure["series"]) == 2 for figure in figures)
    # The items that changed most, with what each night heard.
    assert text.count('<article class="turn">') == 10
    assert '<abbr title="substituted">S</abbr>' in text
    assert "wrong" in text


def test_a_transcript_full_of_markup_is_shown_as_text(nights: Path, make_night, tmp_path: Path) -> None:
    new = make_night("evil", seed=5, wrong=0.6)
    import pandas as pd

    turns = pd.read_parquet(new / "turns.parquet")
    turns["input_transcript"] = "<script>alert(1)</script><img src=//x onerror=y>"
    turns["item"] = turns["item"].where(turns["item"] != "item-00", "</script><b>item</b>")
    turns.to_parquet(new / "turns.parquet")
    file = tmp_path / "c.html"
    result = RUNNER.invoke(app, ["compare", "support/always", str(new), "--out", str(nights), "--html", str(file)])
    assert result.exit_code in (0, 1), result.output
    text = file.read_text()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "<b>item" not in text


def test_without_transcripts_the_page_says_so(nights: Path, make_night, tmp_path: Path) -> None:
    new = make_night("quiet", seed=5, wrong=0.5, transcripts="none")
    file = tmp_path / "c.html"
    RUNNER.invoke(app, ["compare", "support/always", str(new), "--out", str(nights), "--html", str(file)])
    assert "no transcript was kept" in file.read_text()


def test_good_turns_by_other_limits_are_not_compared(make_night, reports: Path) -> None:
    make_night("strict", seed=1, slo={"ttfa_ms": 500})
    make_night("lax", seed=2, slo={"ttfa_ms": 900})
    code, content = run_compare(reports, "support/strict", "support/lax", "--slack", "goodput_share=0.01")
    (row,) = (row for row in content["comparisons"][0]["metrics"] if row["metric"] == "goodput_share")
    assert (code, row["verdict"], row["reason"]) == (0, "not comparable", "a good turn is another one (slo)")


@pytest.mark.parametrize("option", ["--html", "--markdown"])
def test_a_page_that_cannot_be_written_is_a_sentence(nights: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    args = ["compare", "support/always", "support/again", "--out", str(nights)]
    result = RUNNER.invoke(app, [*args, option, str(tmp_path / "file" / "c")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: cannot write {tmp_path / 'file' / 'c'}: Not a directory")
