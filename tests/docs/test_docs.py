"""The README and the pages of ``docs``: the site, its tables and links, and that what they show can be run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rteval import scorers
from rteval.analysis.metrics import METRICS
from rteval.cli import app
from rteval.metadata import COLUMNS
from rteval.prepare import RunOptions, prepare
from rteval.scenario_model import Scenario
from rteval.scoring.checks import CHECKS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
PICTURES = DOCS / "pictures"
MOST_BYTES, MOST_BYTES_IN_ALL = 150_000, 900_000


def blocks(page: str, kind: str) -> list[str]:
    """The code blocks of a page that are of a kind; without one they are what a terminal shows."""
    found = re.findall(r"^([ ]*)```([\w{}]*)\n(.*?)^\1```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(text) for _, label, text in found if label == kind]


def tables() -> ModuleType:
    """``docs/tables.py``, which is in no package."""
    spec = spec_from_file_location("rteval_docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the site ----


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "doctrees")]
    site = tmp_path / "site"
    done = subprocess.run([*command, str(DOCS), str(site)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    made = {page.relative_to(site).with_suffix(".md").as_posix(): page for page in site.rglob("*.html")}
    assert {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} <= made.keys()
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*", re.IGNORECASE)
    assert [(name, found[0]) for name, page in made.items() if (found := loaded.search(page.read_text("utf-8")))] == []


def slugs(text: str) -> set[str]:
    """What headings are linked by, as code hosts and the site make them of their text."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> Iterator[tuple[str, str]]:
    """(path, anchor) of what a page links to in this repository."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", TEXTS[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    for path, anchor in links(page):
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page].resolve()
        assert target.exists(), f"{page} links to {path}"
        if anchor:
            assert anchor in slugs(target.read_text(encoding="utf-8")), f"{page} links to {path}#{anchor}"


def test_every_picture_is_small_and_shown_with_words_for_those_who_do_not_see_it() -> None:
    shown = {
        path: words for text in TEXTS.values() for words, path in re.findall(r"!\[(.*?)\]\(pictures/(.*?)\)", text)
    }
    files = {path.name: path.stat().st_size for path in PICTURES.glob("*.png")}
    assert shown.keys() == files.keys()
    assert [path for path, words in shown.items() if len(words) < 20] == []
    assert [name for name, size in files.items() if size > MOST_BYTES] == []
    assert sum(files.values()) <= MOST_BYTES_IN_ALL
    script = (PICTURES / "make.py").read_text(encoding="utf-8")
    assert {f"{name}.png" for name in re.findall(r"Picture\(\"(\w+)\"", script)} == files.keys()


# ---- tables ----


@pytest.mark.parametrize("page", ["scenarios.md", "reading-a-report.md"])
def test_the_tables_are_those_of_the_code(page: str) -> None:
    """Written by ``python docs/tables.py``."""
    assert tables().refreshed(TEXTS[f"docs/{page}"]) == TEXTS[f"docs/{page}"]


def test_every_section_of_a_scenario_has_its_table() -> None:
    found = set(re.findall(r"<!-- table: keys of (\w+) -->", TEXTS["docs/scenarios.md"]))
    assert found == set(tables().sections())


def test_every_metric_is_defined_where_reports_are_explained() -> None:
    page = TEXTS["docs/reading-a-report.md"]
    rows = {name: f"| `{name}` |" in page and metric.definition in page for name, metric in METRICS.items()}
    assert [name for name, is_there in rows.items() if not is_there] == []


@pytest.mark.parametrize("name", [*COLUMNS, *CHECKS, "answer", "entities"])
def test_every_column_of_a_dataset_is_explained(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`.* \|", TEXTS["docs/recordings.md"], re.MULTILINE)


# ---- scenarios ----

OTHER_YAML = {"docs/locust.md", "docs/scoring.md", "docs/simulator.md"}
"""Pages with YAML that is no scenario, or that has a test of its own."""
SMALLEST = """\
target: {provider: simulator}
session: {transcription: whisper-1}
dataset: ../datasets/support
load: {sessions: 4, repeat: 20}
"""
ENVIRONMENT = {
    "AZURE_OPENAI_ENDPOINT": "https://NAME.openai.azure.com",
    "AZURE_OPENAI_DEPLOYMENT_NAME": "gpt-realtime",
    "OPENAI_API_KEY": "none",
    "MY_SPEECH_KEY": "none",
}


def alternatives(block: str) -> list[str]:
    """A block that shows a key several times shows several scenarios."""
    found: list[list[str]] = [[]]
    for line in block.splitlines():
        key = re.match(r"(\w+):", line)
        if key and any(earlier.startswith(key[0]) for earlier in found[-1]):
            found.append([])
        found[-1].append(line)
    return ["\n".join(lines) + "\n" for lines in found]


SCENARIOS = [
    pytest.param(text, id=f"{page}-{number}")
    for page in PAGES
    if page not in OTHER_YAML
    for number, text in enumerate(part for block in blocks(page, "yaml") for part in alternatives(block))
]


@pytest.mark.parametrize("text", SCENARIOS)
def test_a_scenario_that_is_shown_can_be_run(text: str, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of one is laid over the smallest scenario there is."""
    keys = list(YAML(typ="safe", pure=True).load(text))
    assert set(keys) <= set(Scenario.model_fields)
    rest = "".join(f"{line}\n" for line in SMALLEST.splitlines() if line.partition(":")[0] not in keys)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    path = workshop / "scenarios" / "shown.yaml"
    path.write_text(text + rest, encoding="utf-8")
    prepared = prepare(path, RunOptions(out=workshop / "reports"))
    assert prepared.plan.turns is None or prepared.plan.turns > 0
    assert prepared.refused_gates == []


# ---- commands ----

PLACEHOLDERS = re.compile(r"\$\([^)]*\)|\$[A-Z_]+|\.\.\.")
Command = tuple[str, ...]


def arguments_in(lines: Iterable[str]) -> Iterator[Command]:
    """The arguments of every ``rteval`` command in lines of a shell."""
    for part in (part for line in lines for part in line.split("&&") if re.search(r"(?:^|[ /])rteval ", part)):
        words = shlex.split(PLACEHOLDERS.sub("3f2a9c1", part), comments=True)
        while words and "=" in words[0]:
            words = words[1:]
        if words and words[0].rpartition("/")[2] == "rteval":
            yield tuple(words[1 : words.index(">") if ">" in words else None])


def in_blocks(page: str) -> Iterator[Command]:
    return arguments_in(line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines())


def in_lines(page: str) -> Iterator[Command]:
    """Those that stand in the text; a name alone is none."""
    text = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    return arguments_in(re.findall(r"`(rteval \w+ [^`]+)`", text))


COMMANDS = sorted({command for page in PAGES for command in (*in_blocks(page), *in_lines(page))})


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_that_is_shown_is_one(arguments: Command) -> None:
    command: Any = typer.main.get_command(app)
    name, rest, parent = "rteval", list(arguments), None
    while True:
        context = command.make_context(name, list(rest), parent=parent)
        if not hasattr(command, "resolve_command"):
            break
        name, command, rest = command.resolve_command(context, list(rest))
        parent = context


OFFLINE = ("baseline", "check", "compare", "history", "report", "schema", "score")
NOT_HERE = ("azure", "judged", "brevity")
"""What needs a deployment, a key or a plug-in."""
MISSED = {
    "check scenarios/support.yaml --set load.session=4": 2,
}
"""Commands that are shown because of what they end with."""
SHOWN = sorted(
    {
        command
        for page in PAGES
        for command in in_blocks(page)
        if command[0] in OFFLINE and not any(re.search(rf"\b{word}\b", " ".join(command)) for word in NOT_HERE)
    }
)

BEHAVIOUR = (
    "{seed: 7, ttfa_ms: {lognormal: [20, 0.3]}, speed: 200, transcription: {word_error_rate: 0.03, delay_ms: 10}}"
)
QUICK = f"target.behaviour={BEHAVIOUR}", "conversation.wait_for_playback=false"
AT_ONCE = "session.turn_detection=none", "load.pacing=fast", "load.ramp_s=0", "limits.loop_lag_ms=5000"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages assume it: scenarios, datasets, two runs of one scenario and one with variants."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "datasets").symlink_to(ROOT / "datasets")
    scenarios = folder / "scenarios"
    for file in (ROOT / "scenarios").rglob("*"):
        if file.is_file():
            copy = scenarios / file.relative_to(ROOT / "scenarios")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    for name in ("agent", "brief", "warm"):
        (scenarios / "prompts").mkdir(exist_ok=True)
        (scenarios / "prompts" / f"{name}.md").write_text("You answer calls.\n")

    def run(scenario: str, *more: str, sets: tuple[str, ...] = ()) -> None:
        settings = [part for one in (*QUICK, *sets) for part in ("--set", one)]
        out = ["--out", str(folder / "reports"), "--no-progress"]
        done = CliRunner().invoke(app, ["run", str(scenarios / f"{scenario}.yaml"), *out, *more, *settings])
        assert done.exit_code in (0, 1), done.stderr

    run("support", "--run-id", "20260102-030405-ab12", sets=AT_ONCE)
    run("support", sets=AT_ONCE)
    pauses = "matrix.pause={short: {session.voice: alloy}, long: {session.voice: echo}}"
    run("compare-prompts", sets=(*AT_ONCE, pauses))
    (folder / "baselines").mkdir()
    saved = ["baseline", "save", "support/latest", str(folder / "baselines" / "support.json")]
    assert CliRunner().invoke(app, [*saved, "--out", str(folder / "reports")]).exit_code == 0
    return folder


@pytest.fixture
def rteval(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command in a folder of its own that has what the workshop has."""
    for name in ("scenarios", "datasets", "reports"):
        (tmp_path / name).symlink_to(workshop / name)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "support.json").write_bytes((workshop / "baselines" / "support.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_a_command_that_needs_no_target_does_its_job(command: Command, rteval: Callable[..., Any]) -> None:
    done = rteval(*command)
    expected = {MISSED.get(" ".join(command), 0)}
    if command[0] == "compare":
        expected.add(1)  # a busy machine may really have been slower in one of the two runs
    assert done.exit_code in expected, done.stdout + done.stderr
    assert done.stdout or done.exit_code == 2


CHECKED = re.compile(r"```sh\n(?:[^`]*\n)?rteval (check [^\n]+)\n[^`]*```\n+(?:[^\n]+\n+)?```\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    ("command", "shown"),
    [pytest.param(*found, id=found[0]) for text in TEXTS.values() for found in CHECKED.findall(text)],
)
def test_what_check_says_is_what_is_shown(
    command: str, shown: str, rteval: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_OPENAI_API_KEY", "OPENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    done = rteval(*shlex.split(command))
    said = re.sub(r"(?<= in )\S+(?=/datasets/)", "/srv/rteval", done.stdout + done.stderr)
    assert said.splitlines() == shown.splitlines()


def test_recordings_become_a_scenario_that_can_be_run(rteval: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my-recordings").mkdir()
    for name in ("yes-correct", "lost-card", "late-parcel"):
        recording = (ROOT / "datasets" / "support" / f"{name}.wav").read_bytes()
        (tmp_path / "my-recordings" / f"{name}.wav").write_bytes(recording)
    made, run = (command for command in in_blocks("docs/recordings.md") if command[0] in ("init", "run"))
    done = rteval(*made)
    (shown,) = (block for block in blocks("docs/recordings.md", "") if "my-recordings" in block)
    assert (done.stdout + done.stderr).splitlines() == shown.splitlines()
    assert rteval("check", *run[1:]).exit_code == 0


def test_the_tables_are_read_as_it_is_shown(rteval: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("docs/extending.md", "python")
    exec(compile(code, "extending.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) > 1


@pytest.mark.parametrize("page", ["README.md", "docs/scoring.md"])
def test_the_scorer_that_is_shown_scores(page: str) -> None:
    (code,) = (block for block in blocks(page, "python") if "class Brevity" in block)
    names = vars(scorers).copy()
    exec(compile(code, page, "exec"), names)
    rows = [("one two", "ok", False), (None, "failed", False), ("one", "ok", True), ("one two three four", "ok", None)]
    turns = pd.DataFrame(rows, columns=["output_transcript", "outcome", "warmup"]).astype({"warmup": "boolean"})
    scored, mean = names["Brevity"]().score(turns, None, {}), scorers.Measured(3.0, 2, left_out=2)
    assert (scored.columns, scored.metrics["mean_words"]) == ({"words": [2, None, None, 4]}, mean)
    assert names["Brevity"]().score(turns.iloc[:0], None, {}).metrics["mean_words"].value is None
