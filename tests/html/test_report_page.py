"""The report page as a file: what it says, and that nothing in it can run or load but what it was written with."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from rteval.analysis.metrics import find_metric
from rteval.reporting.html import write_html

VOID = {"meta", "link", "br", "img", "input", "hr", "source"}
MARKUP = '"><script>document.title="pwned"</script><img src=x onerror=alert(1)><!-- </title></style>'

STATES = [
    pytest.param({}, id="gates missed"),
    pytest.param({"n": 0, "exit_code": 3, "state": "refused"}, id="no turns"),
    pytest.param({"failing": 1.1, "n": 24}, id="all failed"),
    pytest.param({"text": True, "references": False, "gates": ()}, id="text only, no gates"),
    pytest.param({"references": False, "n": 30}, id="no references"),
    pytest.param({"exit_code": 4, "state": "invalid", "n": 30}, id="invalid"),
    pytest.param({"n": 5, "exit_code": 130, "state": "partial"}, id="partial"),
    pytest.param({"n": 1, "failing": 0.0}, id="one warm-up turn"),
    pytest.param({"n": 30, "transcripts": "none"}, id="no transcripts"),
]


class Page(HTMLParser):
    """A page, read strictly: elements with their texts and attributes; tags that do not match are an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open, "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open[-1]][0] == tag, f"</{tag}> closes <{self.elements[self.open[-1]][0]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for index in self.open:
            self.elements[index][2].append(data)

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attrs, "".join(texts))
            for name, attrs, texts in self.elements
            if name == tag and all(attrs.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]

    def section(self, identity: str) -> str:
        return self.all("section", id=identity)[0][1]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.all("script", id="report-data")[0][1])
        return found


@pytest.fixture(scope="module")
def page(tmp_path_factory, make_run):
    """The page of a fake run, and the run; the same options give the same page, which is made once."""
    known: dict[str, tuple[Page, Any]] = {}
    path = tmp_path_factory.mktemp("page") / "report.html"

    def write(**options: Any) -> tuple[Page, Any]:
        key = repr(sorted(options.items()))
        if key not in known:
            run = make_run(**options)
            write_html(path, **run.arguments)
            known[key] = Page(path.read_text("utf-8")), run
        return known[key]

    return write


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("options", STATES)
def test_every_run_gets_a_well_formed_page(page, options):
    report, run = page(**options)
    identities = [attrs["id"] for _tag, attrs, _texts in report.elements if attrs.get("id")]
    assert len(identities) == len(set(identities))
    assert len(report.all("h1")) == 1
    anchors = [attrs["href"] for attrs, _text in report.all("a") if (attrs["href"] or "").startswith("#")]
    assert anchors
    turns = {anchor for anchor in anchors if anchor.startswith("#turn=")}
    assert {anchor[1:] for anchor in anchors} - {anchor[1:] for anchor in turns} <= set(identities)
    assert turns <= {f"#turn={turn.session}/{turn.turn}" for turn in run.turns.itertuples()}
    drawn = {figure["id"] for figures in report.data["figures"].values() for figure in figures}
    assert drawn == {attrs["id"] for attrs, _text in report.all("canvas")}
    assert f"exit code {run.summary['exit_code']}" in report.section("verdict")


@pytest.mark.parametrize("options", STATES)
def test_the_policy_allows_only_the_scripts_and_styles_of_the_page(page, options):
    report, _run = page(**options)
    policy = report.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"]
    assert policy is not None
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    assert "unsafe" not in policy
    scripts = [text for attrs, text in report.all("script") if attrs.get("type") != "application/json"]
    assert directives["script-src"].split() == [sha256(text) for text in scripts]
    assert directives["style-src"].split() == [sha256(text) for _attrs, text in report.all("style")]


@pytest.mark.parametrize("options", STATES)
def test_the_page_refers_to_nothing_outside_and_runs_no_inline_handler(page, options):
    report, _run = page(**options)
    for tag, attrs, _texts in report.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (tag, attrs)
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,")), (tag, attrs)
    code = "".join(text for attrs, text in report.all("script") if not attrs)
    assert not re.search(r"\bfetch\(|XMLHttpRequest|sendBeacon|new Function|\beval\(|innerHTML|sourceMappingURL", code)
    assert "@import" not in report.all("style")[0][1]
    assert "url(" not in report.all("style")[0][1]


def test_every_number_of_the_summary_stands_in_the_page_exactly(page):
    report, run = page()
    printed: dict[str, set[str]] = {}
    name = ""
    cell = None
    for tag, attrs, _texts in report.elements:
        if tag == "tr":
            name = attrs.get("data-metric") or ""
        elif tag == "td":
            cell = attrs.get("data-stat")
        elif tag == "data" and name and cell:
            printed.setdefault(name, set()).add(f"{cell}={attrs['value']}")
    measured = {
        name: metric
        for name, metric in run.summary["metrics"].items()
        if metric.get("value", metric.get("mean")) is not None and name not in ("send_lag_ms", "loop_lag_ms")
    }
    assert measured
    for name, metric in measured.items():
        numbers = {key: value for key, value in metric.items() if isinstance(value, int | float)}
        assert printed[name] == {f"{key}={json.dumps(value)}" for key, value in numbers.items()}


def test_every_metric_is_defined_beside_its_number(page):
    report, run = page()
    text = " ".join(report.all("main")[0][1].split())
    for name, metric in run.summary["metrics"].items():
        assert name in text
        if metric.get("value", metric.get("mean")) is not None:
            assert find_metric(name).definition in text
    for card, body in report.all("li", class_="card"):
        assert find_metric(body.split()[0]).definition in " ".join(body.split()), card


def test_gates_are_shown_with_verdict_value_limit_and_n(page):
    report, run = page(gates=("ttfa_ms.p95 < 1200", "error_rate <= 0.0001", "input_cer <= 0.1"))
    rows = [text for attrs, text in report.all("tr") if attrs.get("class") in ("pass", "fail", "no_data")]
    assert len(rows) == 3
    for gate, row in zip(run.summary["gates"], rows, strict=True):
        assert gate["text"] in row
        assert gate["verdict"].replace("_", " ") in row
        assert str(gate["n"]) in row
        assert (gate["reason"] or "") in row
    values = [attrs["value"] for attrs, _text in report.all("data")]
    assert json.dumps(run.summary["gates"][0]["value"]) in values


@pytest.mark.parametrize(
    ("options", "title"),
    [
        pytest.param({"failing": 0.0, "gates": ("error_rate <= 0.05",)}, "Pass", id="pass"),
        pytest.param({"gates": ("ttfa_ms.p95 < 1",)}, "Fail", id="fail"),
        pytest.param({"gates": ()}, "Complete", id="nothing to judge"),
        pytest.param({"exit_code": 4, "state": "invalid"}, "Invalid", id="invalid"),
        pytest.param({"exit_code": 3, "state": "refused", "n": 0}, "Refused", id="refused"),
        pytest.param({"exit_code": 5, "state": "partial"}, "Stopped by a limit", id="limit"),
        pytest.param({"exit_code": 143, "state": "partial"}, "Interrupted", id="signal"),
        pytest.param({"gates": (), "exit_code": 1, "state": "partial"}, "Partial", id="rows missing"),
        pytest.param({"exit_code": 70}, "No verdict", id="bug"),
    ],
)
def test_the_verdict_comes_first_and_in_one_word(page, options, title):
    report, _run = page(**{"n": 30, **options})
    assert report.all("h2")[0][1] == title
    assert (report.all("title")[0][1]).startswith(title)


def test_an_invalid_run_says_why_at_the_top(page):
    report, run = page(exit_code=4, state="invalid", n=30)
    for reason in run.summary["health"]["reasons"]:
        assert reason in report.section("verdict")


def test_a_run_that_was_killed_says_so(tmp_path, make_run):
    run = make_run(n=10, exit_code=1, state="partial")
    run.run["end"] = None
    write_html(tmp_path / "killed.html", **run.arguments)
    assert "never said that it ended" in Page((tmp_path / "killed.html").read_text("utf-8")).section("verdict")


@pytest.mark.parametrize("options", STATES)
def test_the_transcription_is_always_called_a_side_channel(page, options):
    report, _run = page(**options)
    assert "not what the model heard" in " ".join(report.section("transcripts").split())


def hostile(row: dict[str, Any]) -> None:
    for name, value in row.items():
        if isinstance(value, str) and name not in (
            "outcome",
            "modality",
            "transcript_outcome",
            "normalizer",
            "session",
        ):
            row[name] = f"{value} {MARKUP}"


def test_markup_from_a_server_or_a_dataset_is_text(tmp_path, make_run):
    run = make_run(n=30, failing=0.3, change=hostile)
    run.run["scenario"]["name"] = run.run["labels"]["x"] = run.run["target"]["address"] = MARKUP
    run.run["live"]["warnings"] = [MARKUP]
    run.run["end"]["detail"] = MARKUP
    run.summary["gates"][0]["reason"] = MARKUP
    run.sessions["error_message"] = MARKUP
    write_html(tmp_path / "report.html", **run.arguments)
    text = (tmp_path / "report.html").read_text("utf-8")
    report = Page(text)
    assert not report.all("img")
    assert len(report.all("script")) == 5
    assert "<img" not in text
    assert text.count("<!--") == 0
    assert report.all("h1")[0][1] == MARKUP
    assert MARKUP in report.section("errors")
    assert "pwned" in report.section("transcripts")
    columns = report.data["turns"]["columns"]
    assert any(MARKUP in str(value) for value in [columns["input_transcript"], columns["error_message"]])


def test_what_became_of_the_deltas_is_said(tmp_path, make_run, monkeypatch):
    run = make_run(n=20)
    write_html(tmp_path / "report.html", **run.arguments)
    assert "deltas.parquet" not in (tmp_path / "report.html").read_text("utf-8")
    write_html(tmp_path / "report.html", **run.arguments | {"deltas": run.deltas.iloc[:0]})
    assert "too many deltas for this page" in (tmp_path / "report.html").read_text("utf-8")
    monkeypatch.setattr("rteval.reporting.html.turn_table.STEPS_MS", (20,))
    write_html(tmp_path / "report.html", **run.arguments)
    assert "rounded to 20 ms here" in (tmp_path / "report.html").read_text("utf-8")


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path, make_run):
    run = make_run(n=8)
    run.run["labels"]["x"] = run.run["end"]["detail"] = run.summary["gates"][0]["reason"] = "half \ud83d a pair"
    write_html(tmp_path / "report.html", **run.arguments)
    assert "half ? a pair" in Page((tmp_path / "report.html").read_text("utf-8")).section("verdict")


def test_without_transcripts_no_text_reaches_the_page(page):
    secret = "xylophone"

    def spoken(row: dict[str, Any]) -> None:
        for name in ("reference", "input_transcript", "output_transcript", "output_text"):
            row[name] = f"{secret} {row[name]}"

    shown, _run = page(n=20, change=spoken)
    assert secret in json.dumps(shown.data)
    hidden, _run = page(n=20, change=spoken, transcripts="none")
    assert secret not in json.dumps(hidden.data)
    assert secret not in hidden.all("body")[0][1]
    assert "report.transcripts: none" in hidden.section("transcripts")


def test_a_table_that_kept_no_texts_makes_a_page(tmp_path, make_run):
    run = make_run(n=20, transcripts="none")
    run.turns = run.turns.drop(columns=["reference", "input_transcript", "output_transcript", "output_text", "expect"])
    write_html(tmp_path / "report.html", **run.arguments)
    assert Page((tmp_path / "report.html").read_text("utf-8")).all("canvas")


def test_withheld_statistics_say_that_n_is_too_small(page):
    report, _run = page(n=30)
    assert "n too small" in report.section("latency")


def test_edits_are_told_by_letters_and_not_by_colour_alone(page):
    report, _run = page(n=64)
    kinds = {attrs.get("title") for attrs, _text in report.all("abbr") if attrs.get("title")}
    assert {"substituted", "deleted", "inserted"} <= kinds
    assert {text for attrs, text in report.all("abbr") if attrs.get("title") == "substituted"} == {"S"}


def test_worst_turns_that_are_alike_are_shown_once(page):
    def same(row: dict[str, Any]) -> None:
        if row["input_transcript"] is not None:
            row |= {"reference": "one two three", "input_transcript": "one too three", "input_ref_words": 3}
            row |= {"input_substitutions": 1, "input_deletions": 0, "input_insertions": 0}

    report, run = page(n=20, failing=0.0, change=same)
    articles = report.all("article")
    assert len(articles) == 1
    assert f"and {len(run.turns) - 2 - 1} more alike" in articles[0][1], "the two warm-up turns do not count"


def test_a_rate_of_few_is_a_count_and_a_word_error_rate_never_is(page):
    report, run = page(n=8, seed=3, failing=0.4)
    rate = run.summary["metrics"]["error_rate"]
    assert f"{round(rate['value'] * rate['n'])} of {rate['n']}" in report.section("headline")
    wer = next(text for _attrs, text in report.all("li", class_="card") if text.split()[0] == "input_wer")
    assert "%" in wer


def test_an_interval_stands_beside_its_number(tmp_path, make_run):
    run = make_run(n=60)
    run.summary["metrics"]["ttfa_ms"]["ci95"] = {"p50": [401.5, 512.25], "p95": [700.0, None]}
    run.summary["metrics"]["input_wer"]["ci95"] = {"value": [0.021, 0.0764]}
    write_html(tmp_path / "report.html", **run.arguments)
    report = Page((tmp_path / "report.html").read_text("utf-8"))
    cards = {text.split()[0]: " ".join(text.split()) for _attrs, text in report.all("li", class_="card")}
    assert "402 to 512 ms" in cards["ttfa_ms"]
    assert "above 700 ms" in cards["ttfa_ms"]
    assert "2.10 to 7.64 %" in cards["input_wer"]
    row = next(text for attrs, text in report.all("tr") if attrs.get("data-metric") == "ttfa_ms")
    assert "402 to 512 ms" in " ".join(row.split())
    assert "95 % intervals" in report.section("headline")


def test_a_gate_says_what_else_it_was_judged_by(tmp_path, make_run):
    run = make_run(n=60)
    run.summary["gates"][0] |= {
        "verdict": "inconclusive",
        "reason": "whether it is is open",
        "severity": "warn",
        "missed": False,
        "baseline": 980.0,
        "baseline_n": 24,
        "confidence": 0.95,
        "interval": [-12.0, 80.5],
        "where": [["tag", "<digits>"]],
    }
    write_html(tmp_path / "report.html", **run.arguments)
    rows = Page((tmp_path / "report.html").read_text("utf-8")).all("tr", class_="inconclusive")
    text = " ".join(rows[0][1].split())
    for words in ("only turns with tag <digits>", "baseline 980 ms (n 24)", "a miss only warns"):
        assert words in text
    assert "95 % interval of the change: -12.0 to 80.5 ms" in text


def test_a_gate_that_only_warns_is_not_counted_as_missed(tmp_path, make_run):
    run = make_run(n=60, exit_code=0, gates=("ttfa_ms.p95 < 1", "error_rate <= 0.5"))
    run.summary["gates"][0] |= {"severity": "warn", "missed": False}
    write_html(tmp_path / "report.html", **run.arguments)
    report = Page((tmp_path / "report.html").read_text("utf-8"))
    assert report.all("h2")[0][1] == "Pass"
    assert "1 of 2 gates hold, and no other decides" in report.section("verdict")


def entry(n: int, **values: Any) -> dict[str, Any]:
    return {"n": n, "left_out": 0, "unit": "ms", **values}


def test_groups_and_variants_are_tables_of_the_summary(tmp_path, make_run):
    run = make_run(n=60)
    times = {"p50": 512.0, "p95": None, "ci95": {"p50": [500.0, 530.0]}}
    run.summary["breakdown"] = {
        "tag": {"groups": [{"name": "<b>x", "turns": 7, "metrics": {"ttfa_ms": entry(6, **times)}}], "not_shown": 3},
        "variant": {
            "groups": [{"name": name, "turns": 30, "metrics": {"ttfa_ms": entry(29, **times)}} for name in ("a", "b")],
            "not_shown": 0,
        },
    }
    run.summary["variants"] = [
        {
            "name": name,
            "axes": {},
            "counts": {"turns": 30},
            "metrics": {
                "ttfa_ms": entry(29, p50=512.0 + place, p95=900.0),
                "input_cer": {"n": 29, "value": 0.25, "unit": "ratio"},
            },
        }
        for place, name in enumerate(("a", "b"))
    ]
    write_html(tmp_path / "report.html", **run.arguments)
    report = Page((tmp_path / "report.html").read_text("utf-8"))
    text = " ".join(report.section("groups").split())
    assert "By tag 1 of 4, those with most turns" in text
    (group,) = [row for _attrs, row in report.all("tr") if "<b>x" in row]
    assert " ".join(group.split()) == "<b>x7512 ms500 to 530 msn 6"
    by_variant = " ".join(report.all("table", class_="metrics variants")[0][1].split())
    assert "513 ms500 to 530 msn 29" in by_variant.replace("\u202f", " ")
    assert "input_cer" not in by_variant, "what has no interval is in the second table"
    assert "input_cer" in " ".join(report.all("table", class_="metrics variants")[1][1].split())


def test_every_number_of_the_page_that_has_a_metric_has_its_definition_in_the_same_row(page):
    report, _run = page()
    rows = [(attrs["data-metric"], text) for attrs, text in report.all("tr") if attrs.get("data-metric")]
    assert rows
    for name, text in rows:
        assert find_metric(name).definition in " ".join(text.split())


@pytest.mark.parametrize(("n", "limit"), [pytest.param(1_000, 3e6, id="1 000"), pytest.param(10_000, 8e6, id="10 000")])
def test_the_page_of_a_big_run_stays_small(tmp_path, make_run, n, limit):
    import pandas as pd

    run = make_run(n=500)
    turns = pd.concat([run.turns] * (n // 500), ignore_index=True)
    turns["session"] = [f"w0-{number // 2:05d}" for number in range(n)]
    turns["output_transcript"] = [f"{number} {'a <long> sentence of the answer, ' * 18}" for number in range(n)]
    for name in ("meta_call", "meta_note", "error_message"):
        turns[name] = [f"{name} {number} {'x' * 500}" for number in range(n)]
    parts = [run.deltas.assign(session=run.deltas["session"] + f"-{part}") for part in range(n // 500)]
    run.deltas = pd.concat(parts, ignore_index=True)
    turns["session"] = [f"{turns['session'][number % 500]}-{number // 500}" for number in range(n)]
    run.turns = turns
    path = tmp_path / "report.html"
    write_html(path, **run.arguments)
    assert path.stat().st_size < limit
    text = path.read_text("utf-8")
    shown = json.loads(text.split('id="report-data">')[1].split("</script>")[0])["turns"]
    assert shown["total"] == n
    assert shown["rows"] is None
    assert shown["step_ms"] is not None
    assert "for want of room" in text


def test_a_single_number_stands_under_no_statistic(page):
    report, _run = page()
    heads = {row[0]["data-metric"]: set() for row in report.all("tr") if row[0].get("data-metric")}
    names: set[str] = set()
    stat = ""
    for tag, attrs, texts in report.elements:
        if tag == "thead":
            names = set()
        elif tag == "th" and attrs.get("scope") == "col":
            names.add("".join(texts))
        elif tag == "tr":
            stat = attrs.get("data-metric") or ""
        elif tag == "td" and stat and attrs.get("data-stat"):
            assert attrs["data-stat"].replace("_", " ") in names, (stat, attrs["data-stat"])
            heads[stat].add(attrs["data-stat"])
    assert {"value", "n", "left_out"} in heads.values()


def test_the_facts_say_how_sessions_were_set_up(tmp_path, make_run):
    run = make_run(n=4)
    session = {"voice": "alloy", "turn_detection": {"type": "server_vad", "eagerness": None}, "tools": [], "raw": {}}
    run.run["scenario"] |= {"gate_lines": [7], "resolved": {"session": session, "load": {"sessions": 8, "stages": []}}}
    write_html(tmp_path / "report.html", **run.arguments)
    facts = Page((tmp_path / "report.html").read_text("utf-8")).section("facts")
    assert 'turn_detection{"type": "server_vad"}' in facts
    assert "eagerness" not in facts
    assert "gate_lines" not in facts
