"""What GitHub Actions and Azure Pipelines are told: read back as their own readers of commands do it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rteval.cli import app
from rteval.reporting.ci import announce, announce_error, service_of

ROOT = Path(__file__).parents[2]


def read_github(line: str) -> tuple[str, dict[str, str], str]:
    """As the runner reads it: the command ends at the second ``::``, properties at commas and the first ``=``."""
    command, named, text = re.fullmatch(r"::(\w+) ?(.*?)::(.*)", line).groups()

    def decoded(value: str, *letters: str) -> str:
        for letter in ("\r", "\n", *letters, "%"):
            value = value.replace(f"%{ord(letter):02X}", letter)
        return value

    pairs = (pair.partition("=") for pair in named.split(",") if pair)
    return command, {key: decoded(value, ":", ",") for key, _, value in pairs}, decoded(text)


def read_azure(line: str) -> tuple[str, dict[str, str], str]:
    """As the agent reads it: the first ``##vso[`` to the first ``]``, properties at semicolons."""
    inside, _, text = line.partition("##vso[")[2].partition("]")
    command, _, named = inside.partition(" ")

    def decoded(value: str, *letters: str) -> str:
        for letter in ("\r", "\n", *letters):
            value = value.replace(f"%{ord(letter):02X}", letter)
        return value.replace("%AZP25", "%")

    pairs = (pair.partition("=") for pair in named.split(";") if pair)
    return command, {key: decoded(value, ";", "]") for key, _, value in pairs}, decoded(text)


HOSTILE = "50% off, ok; x]y:\n::error::gotcha ##vso[task.setvariable variable=PATH]/evil\r##[add-mask]e\x1b[31m"


def gate(metric: str, verdict: str = "fail", **over: Any) -> dict[str, Any]:
    base = {"text": f"{metric} < 1", "metric": metric, "value": 2.0, "limit": 1.0, "verdict": verdict, "n": 3}
    return {**base, "reason": None if verdict == "pass" else "why", **over}


def run(ci: str = "auto", **over: Any) -> dict[str, Any]:
    scenario = {"name": "support", "path": "scenarios/support.yaml", "gate_lines": [12, None, 14]}
    return {"scenario": scenario, "report": {"ci": ci}, **over}


def summary(code: int = 1, *gates: dict[str, Any]) -> dict[str, Any]:
    culprit = {"who": "model", "sentence": "the model: ttfa_ms.p95 is 2 (limit 1)", "also": []}
    return {
        "run_id": "r1",
        "state": "complete",
        "exit_code": code,
        "gates": list(gates),
        "culprit": culprit if code else None,
    }


@pytest.fixture
def github(tmp_path: Path) -> dict[str, str]:
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "step.md"),
        "GITHUB_WORKSPACE": str(Path.cwd()),
    }


AZURE = {"TF_BUILD": "True", "BUILD_SOURCESDIRECTORY": str(Path.cwd())}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "reports" / "100% of [a];b"
    folder.mkdir(parents=True)
    (folder / "summary.md").write_text("# support: FAIL\n\nwords ü\n", encoding="utf-8")
    return folder


SERVICES = [
    pytest.param("auto", {}, None, id="a desk"),
    pytest.param("auto", {"GITHUB_ACTIONS": "true"}, "github", id="GitHub"),
    pytest.param("auto", {"TF_BUILD": "True"}, "azure", id="Azure"),
    pytest.param("auto", {"GITHUB_ACTIONS": "false", "CI": "true"}, None, id="another CI"),
    pytest.param("none", {"GITHUB_ACTIONS": "true"}, None, id="not wanted"),
    pytest.param("github", {}, "github", id="asked for"),
    pytest.param("azure", {"GITHUB_ACTIONS": "true"}, "azure", id="asked for the other"),
]


@pytest.mark.parametrize(("wanted", "env", "service"), SERVICES)
def test_who_is_told_follows_from_the_scenario_and_the_job(wanted, env, service):
    assert service_of(wanted, env) == service


def test_nobody_is_told_at_a_desk_or_by_a_run_that_is_older_than_this(run_dir):
    assert announce(run(), summary(1, gate("ttfa_ms.p95")), run_dir, {}) == []
    assert announce({}, summary(1, gate("ttfa_ms.p95")), run_dir, AZURE) == []


def test_github_marks_each_missed_gate_at_its_line_of_the_scenario(github, run_dir):
    judged = summary(1, gate("ttfa_ms.p95"), gate("error_rate", "pass"), gate("input_wer", "no_data", value=None))
    head, *gates = map(read_github, announce(run(), judged, run_dir, github))
    assert head == (
        "error",
        {"file": "scenarios/support.yaml", "title": "rteval"},
        "support: FAIL: 2 of 3 gates missed. Look at the model: ttfa_ms.p95 is 2 (limit 1)",
    )
    assert [(level, named["line"], named["title"]) for level, named, _ in gates] == [
        ("error", "12", "gate ttfa_ms.p95"),
        ("error", "14", "gate input_wer"),
    ]
    assert gates[0][2] == "fail: ttfa_ms.p95 < 1 (value 2, limit 1, n 3)"
    assert Path(github["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8") == "# support: FAIL\n\nwords ü\n\n"


def test_azure_gets_the_same_and_the_page_by_its_whole_path(run_dir):
    *issues, upload = map(read_azure, announce(run(), summary(1, gate("ttfa_ms.p95")), run_dir, AZURE))
    assert [command for command, _, _ in issues] == ["task.logissue"] * 2
    assert issues[1][1] == {"type": "error", "sourcepath": "scenarios/support.yaml", "linenumber": "12"}
    assert upload == ("task.uploadsummary", {}, str((run_dir / "summary.md").resolve()))


def test_a_green_run_leaves_its_summary_and_no_annotation(github, run_dir):
    assert announce(run(), summary(0, gate("error_rate", "pass")), run_dir, github) == []
    assert Path(github["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8").startswith("# support")
    assert len(announce(run(), summary(0), run_dir, AZURE)) == 1


def test_a_gate_that_only_warns_is_a_warning(github, run_dir):
    judged = summary(0, gate("ttfa_ms.p95", severity="warn", missed=False))
    ((level, named, _),) = map(read_github, announce(run(), judged, run_dir, github))
    assert (level, named["line"]) == ("warning", "12")


@pytest.mark.parametrize(
    ("env", "read"), [pytest.param(None, read_github, id="GitHub"), pytest.param(AZURE, read_azure, id="Azure")]
)
def test_no_text_can_end_a_command_or_begin_one(env, read, github, run_dir):
    told = run(scenario={"name": HOSTILE, "path": f"a/{HOSTILE}.yaml"}, refusal={"message": HOSTILE, "hint": None})
    lines = announce(told, summary(3, gate(HOSTILE)), run_dir, env or github)
    readable = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in HOSTILE)
    for line in lines:
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
    command, named, text = read(lines[0])
    assert command in ("error", "task.logissue")
    assert readable in text
    assert readable in (named.get("file") or named.get("sourcepath") or "")
    assert read(lines[1])[2].count(readable) == 1


def test_more_gates_than_a_service_shows_are_counted(github, run_dir):
    judged = summary(1, *(gate(f"m{k}") for k in range(15)))
    lines = announce(run(), judged, run_dir, github)
    assert len(lines) == 10
    assert "(and 6 more, in the job summary)" in lines[-1]


def test_an_invalid_run_is_one_error_and_not_one_for_each_gate(github, run_dir):
    judged = summary(4, *(gate(f"m{k}", "invalid") for k in range(3)))
    assert len(announce(run(), judged, run_dir, github)) == 1


def test_runs_of_one_step_share_the_summary_and_none_makes_it_too_large(github, run_dir):
    step = Path(github["GITHUB_STEP_SUMMARY"])
    for _ in range(3):
        announce(run(), summary(0), run_dir, github)
    assert step.read_text(encoding="utf-8").count("# support") == 3
    (run_dir / "summary.md").write_text("ü line\n" * 300_000, encoding="utf-8")
    for _ in range(2):
        announce(run(), summary(0), run_dir, github)
    assert 900_000 < step.stat().st_size <= 1_000_000
    assert step.read_text(encoding="utf-8").rstrip().endswith("It stands in `summary.md` of the run.")


def test_a_summary_that_cannot_be_written_is_a_warning(github, run_dir, tmp_path):
    github["GITHUB_STEP_SUMMARY"] = str(tmp_path)
    (line,) = announce(run(), summary(0), run_dir, github)
    assert read_github(line)[0] == "warning"
    assert "job summary could not be written" in line


def test_a_scenario_outside_the_checkout_is_named_as_it_is(github, run_dir, tmp_path):
    away = {"scenario": {"name": "s", "path": str(tmp_path / "s.yaml")}, "report": {"ci": "github"}}
    line = announce(away, summary(1), run_dir, {**github, "GITHUB_WORKSPACE": str(ROOT / "docs")})[0]
    assert read_github(line)[1]["file"] == (tmp_path / "s.yaml").as_posix()


def test_an_error_without_a_verdict_is_told_too():
    assert announce_error("no such file: x", {}) == []
    assert read_github(announce_error("no: %", {"GITHUB_ACTIONS": "true"})[0]) == (
        "error",
        {"title": "rteval"},
        "no: %",
    )
    assert read_azure(announce_error("no", AZURE)[0]) == ("task.logissue", {"type": "error"}, "no")


# ---- the command ----

FAST = """\
target:
  provider: simulator
  behaviour: {{ttfa_ms: 30, speed: 100}}
session: {{turn_detection: none}}
dataset: {{path: {dataset}, ids: [yes-correct]}}
conversation: {{wait_for_playback: false}}
load: {{pacing: fast}}
limits: {{loop_lag_ms: 2000}}
gates:
  - error_rate <= 0.01
  - ttfa_ms.p50 < 0.001
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "quick.yaml"
    file.write_text(FAST.format(dataset=ROOT / "datasets" / "support"))
    return file


def test_stdout_of_a_run_in_a_job_is_what_it_always_is(scenario, tmp_path, github):
    env = github | {"GITHUB_WORKSPACE": str(tmp_path), "RTEVAL_OUT": str(tmp_path / "reports"), "NO_COLOR": "1"}
    result = CliRunner().invoke(app, ["run", str(scenario), "--run-id", "n1", "--no-progress"], env=env)
    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path / 'reports' / 'quick' / 'n1'}\n"
    told = [read_github(line) for line in result.stderr.splitlines() if line.startswith("::")]
    assert [(level, named.get("file"), named.get("line")) for level, named, _ in told] == [
        ("error", "quick.yaml", None),
        ("error", "quick.yaml", "11"),
    ]
    verdict, culprit, *_ = result.stderr.splitlines()
    assert verdict == "FAIL: 1 of 2 gates missed"
    assert culprit.startswith("Look at the model: ttfa_ms.p50 is ")
    page = (tmp_path / "reports" / "quick" / "n1" / "summary.md").read_text(encoding="utf-8")
    assert Path(github["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8") == page + "\n"
    again = CliRunner().invoke(app, ["report", "n1"], env=env)
    assert "::error" not in again.stderr
    assert again.stderr.startswith("FAIL: 1 of 2 gates missed\nLook at the model")


def test_a_run_that_cannot_begin_tells_the_job_why(tmp_path):
    result = CliRunner().invoke(app, ["run", str(tmp_path / "none.yaml")], env=AZURE)
    assert result.exit_code == 2
    assert not result.stdout
    assert "##vso[task.logissue type=error;]" in result.stderr
    calm = CliRunner().invoke(app, ["check", str(tmp_path / "none.yaml")], env=AZURE)
    assert "##vso[" not in calm.stderr


@pytest.mark.parametrize("name", ["##vso[task.complete]x.yaml", "##[error]x.yaml", "\n::error::x.yaml"])
def test_a_command_that_came_in_as_text_is_disarmed(name, tmp_path):
    result = CliRunner().invoke(app, ["check", str(tmp_path / name), "--json"], env={"NO_COLOR": "1"})
    assert result.exit_code == 2
    for line in (result.stdout + result.stderr).splitlines():
        assert "##vso[" not in line
        assert "##[" not in line
        assert not line.strip().startswith("::")
