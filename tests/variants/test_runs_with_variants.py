"""Whole runs of scenarios with variants: every row says whose it is, and each variant is measured by itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import orjson
import pytest
from typer.testing import CliRunner

from rteval.cli import app
from rteval.errors import ScenarioError
from rteval.guest import GuestRun
from rteval.judge import judge
from rteval.prepare import RunOptions, prepare
from rteval.shards import read_shards
from rteval.station import Credentials

ITEMS = ("yes-correct", "warranty", "late-parcel")
NAMES = [f"prompt={prompt},model={model}" for prompt in "ab" for model in ("mini", "full")]
EVERYTHING = Counter((name, item) for name in NAMES for item in ITEMS)


def counted(turns):
    return Counter(zip(turns["variant"], turns["item"], strict=True))


def checked_rows(run):
    assert run.judgement.exit_code == 0, run.said
    assert counted(run.turns) == EVERYTHING
    assert set(run.turns["outcome"]) == {"ok"}
    by_name = run.sessions.set_index("variant")
    for name in NAMES:
        assert set(by_name.loc[name, "reported_model"]) == {f"model-{name.rpartition('=')[2]}"}
    for table in (run.turns, run.sessions):
        named = zip(table["variant_prompt"], table["variant_model"], strict=True)
        assert [f"prompt={prompt},model={model}" for prompt, model in named] == list(table["variant"])


def test_every_item_is_run_once_with_each_variant_and_rows_say_which(four):
    checked_rows(four)


@pytest.mark.parametrize(
    "how",
    [pytest.param({"sets": ("load.engine=locust",)}, id="under Locust"), pytest.param({"workers": 2}, id="on workers")],
)
def test_it_is_so_whatever_holds_the_sessions(ran, two_axes, how):
    checked_rows(ran(two_axes, **how))


def test_the_order_of_the_plan_is_the_order_of_the_run(ran):
    run = ran("matrix: {v: {a: {}, b: {}}}", sets=("load.sessions=1",))
    order = run.turns.sort_values("started_ns")
    assert "".join(order["variant"]) == "abbaab"
    assert list(order["item"]) == [item for item in order["item"].unique() for _ in "ab"]


def test_what_is_written_for_others_names_the_variants(four):
    assert [variant["name"] for variant in four.summary["variants"]] == NAMES
    for variant in four.summary["variants"]:
        assert variant["counts"]["turns"] == variant["metrics"]["error_rate"]["n"] == len(ITEMS)
        assert variant["metrics"]["ttfa_ms"]["n"] == len(ITEMS)
        assert not {"delta_gap_ms", "send_lag_ms", "loop_lag_ms"} & variant["metrics"].keys()
    told = json.loads((four.folder / "run.json").read_text())
    assert [(each["name"], each["target"]["model"]) for each in told["variants"]] == [
        (name, f"model-{name.rpartition('=')[2]}") for name in NAMES
    ]
    assert len({each["hash"] for each in told["variants"]}) == 4
    assert told["target"]["model"] == "model-mini, model-full"
    assert told["scenario"]["resolved"]["matrix"]["prompt"]["b"] == {"session.instructions": "Be warm."}
    page = (four.folder / "summary.md").read_text()
    assert "## Variants" in page
    assert "| prompt=b,model=full | 3 |" in page
    assert "12 turns in 12 sessions of 4 variants" in four.said


def test_judged_again_a_run_says_the_same(four):
    before = (four.folder / "summary.json").read_bytes(), (four.folder / "turns.csv").read_bytes()
    judge(four.folder)
    assert ((four.folder / "summary.json").read_bytes(), (four.folder / "turns.csv").read_bytes()) == before


def test_a_run_without_variants_says_nothing_of_any(ran):
    run = ran("", limit=1)
    assert run.summary["variants"] == []
    assert json.loads((run.folder / "run.json").read_text())["variants"] == []
    assert set(run.turns["variant"].isna()) == {True}
    assert not [name for name in run.turns if name.startswith("variant_")]
    assert "Variants" not in (run.folder / "summary.md").read_text()


def test_variants_differ_in_what_they_set(ran):
    run = ran(
        "matrix:\n"
        "  dialect: {new: {}, old: {target.dialect: preview}}\n"
        "  sound: {wide: {}, narrow: {session.output_audio_format: g711_ulaw, session.transcription: none}}\n",
        sets=("report.audio=all",),
    )
    assert run.judgement.exit_code == 0, run.said
    by = run.turns.groupby(["variant_dialect", "variant_sound"], observed=True)
    assert {key: set(rows) for key, rows in by["dialect"]} == {
        (dialect, sound): {{"new": "ga", "old": "preview"}[dialect]}
        for dialect in ("new", "old")
        for sound in ("wide", "narrow")
    }
    rates = run.turns.groupby("variant_sound", observed=True)["output_rate_bytes_per_s"].unique()
    assert (list(rates["wide"]), list(rates["narrow"])) == ([48_000], [8_000])
    heard = run.turns.groupby("variant_sound", observed=True)["transcript_outcome"].unique()
    assert (list(heard["wide"]), list(heard["narrow"])) == (["ok"], ["off"])
    assert len(list((run.folder / "audio").iterdir())) == len(run.turns)


def test_a_variant_that_is_refused_is_named_and_spoils_no_other(ran):
    run = ran(
        "matrix: {model: {there: {target.deployment: known}, gone: {target.deployment: unknown}}}",
        sets=("target.behaviour.models=[known]", "gates=[error_rate <= 0.5]"),
    )
    assert run.judgement.exit_code == 0, run.said
    there, gone = run.summary["variants"]
    assert (there["metrics"]["error_rate"]["value"], gone["metrics"]["error_rate"]["value"]) == (0.0, 1.0)
    (incident,) = json.loads((run.folder / "run.json").read_text())["live"]["incidents"]
    assert incident.startswith("variant gone: no session became ready: ")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_never_held_has_a_row_of_its_variant(ran, two_axes, workers):
    run = ran(two_axes, sets=("limits.sessions=5", "gates=[]"), workers=workers)
    assert run.judgement.exit_code == 5
    assert counted(run.turns) == EVERYTHING
    never = run.turns[run.turns["started_ns"].isna()]
    assert len(never) == 7
    assert set(never["outcome"]) == {"cut"}


def test_each_variant_has_its_own_credential_and_none_is_stored(ran, monkeypatch):
    monkeypatch.setenv("KEY_OF_A", "abc-first-key")
    monkeypatch.setenv("KEY_OF_B", "abc-second-key")
    run = ran(
        "matrix:\n  way:\n    a: {target.auth: api_key, target.api_key_env: KEY_OF_A}\n"
        "    b: {target.auth: api_key, target.api_key_env: KEY_OF_B, target.auth_header: bearer}\n    c: {}\n"
    )
    assert run.judgement.exit_code == 0, run.said
    credential = json.loads((run.folder / "run.json").read_text())["target"]["credential"]
    assert [name in credential for name in ("KEY_OF_A", "KEY_OF_B", "none")] == [True] * 3
    for path in run.folder.rglob("*.*"):
        assert b"-key" not in path.read_bytes().replace(b"api-key", b""), path


def test_a_key_that_is_missing_for_one_variant_is_named_before_the_run(ran):
    with pytest.raises(Exception, match="KEY_OF_NOBODY"):
        ran("matrix: {way: {a: {}, b: {target.auth: api_key, target.api_key_env: KEY_OF_NOBODY}}}")


def test_a_timed_run_gives_every_variant_its_share(ran):
    run = ran("matrix: {v: {a: {}, b: {}}}", sets=("load.duration_s=1.5", "load.ramp_s=0"))
    counts = run.turns["variant"].value_counts()
    assert abs(counts["a"] - counts["b"]) <= 4  # as many as are under way at once
    assert counts.min() >= 3


def test_a_guest_holds_the_interleaved_sessions(tmp_path, written, two_axes):
    prepared = prepare(written(two_axes), RunOptions())
    guest = GuestRun(prepared, Credentials(prepared, pytest.fail), tmp_path / "guest", place=3)

    async def hold():
        await guest.open()
        try:
            for _ in range(12):
                assert await guest.hold_next()
        finally:
            await guest.close(10.0)

    asyncio.run(hold())
    turns = read_shards(guest.folder).turns
    assert Counter((turn.variant, turn.item) for turn in turns) == EVERYTHING
    assert {turn.attempt for turn in turns} == {1}
    assert [variant["name"] for variant in judge(guest.folder).summary["variants"]] == NAMES


# ---- before a run ----


def test_check_says_how_many_variants_and_turns_there_are(written, two_axes):
    def check(*options):
        return CliRunner().invoke(app, ["check", str(written(two_axes)), *options]).stdout

    told = orjson.loads(check("--json"))
    assert [variant["name"] for variant in told["variants"]] == NAMES
    assert (told["turns"], told["sessions"]) == (12, 12)
    assert "variant   prompt=a,model=mini: 3 turns" in check()


AZURE = """\
target: {provider: azure, endpoint: 'https://x.openai.azure.com', auth: none}
dataset: data
matrix:
  model:
"""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            "    a: {target.deployment: d}\n    b: {}",
            r"target\.deployment: is required .* \(variant b\)$",
            id="of one variant",
        ),
        pytest.param("    a: {}\n    b: {}", r"target\.deployment: is required [^(]*$", id="of all"),
        pytest.param(
            "    a: {target.deployment: d}\n    b: {target.deployment: d, target.endpoint: nowhere}",
            r"v\.yaml:6: matrix\.model\.b\.target\.endpoint: is no address; .* \(variant b\)$",
            id="where the option stands",
        ),
    ],
)
def test_a_target_that_cannot_be_dialled_is_named_with_its_variant(tmp_path, monkeypatch, options, sentence):
    monkeypatch.delenv("AZURE_OPENAI_DEPLOYMENT_NAME", raising=False)
    path = tmp_path / "v.yaml"
    path.write_text(AZURE + options)
    with pytest.raises(ScenarioError, match=sentence):
        prepare(path, RunOptions())
