"""The workflow examples in ``docs/ci``: their syntax, and that every ``rteval`` line in them is one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rteval.cli import app
from rteval.client.auth import ASKERS

CI = Path(__file__).parents[2] / "docs" / "ci"
FILES = sorted(CI.glob("*.yml"))
LINE = re.compile(r"^(?:.*&& )?(rteval .*)$", re.MULTILINE)


def read(name: str) -> dict[str, Any]:
    content = YAML(typ="safe").load((CI / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def commands(text: str) -> list[list[str]]:
    """The ``rteval`` command lines of a text, with the services' variables filled in."""
    filled = re.sub(r"\$\{\{[^}]*\}\}|\$\([^)]*\)|\$[A-Z_]+", "3f2a9c1", text)
    return [shlex.split(line)[1:] for line in LINE.findall(filled)]


def understood(arguments: list[str]) -> None:
    """Parse a command line as the real one does, without doing anything."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("rteval", list(arguments))
    name, command, rest = group.resolve_command(context, list(arguments))
    command.make_context(name, rest, parent=context)


IN_FILES = [
    pytest.param(arguments, id=f"{file.stem}: {' '.join(arguments[:2])}")
    for file in FILES
    for text in texts(read(file.name))
    for arguments in commands(text)
]


def test_there_is_an_example_for_each_service_with_a_run_in_it():
    assert [file.name for file in FILES] == ["azure-pipelines.yml", "github.yml", "gitlab.yml"]
    runs = [str(parameter.id) for parameter in IN_FILES if parameter.values[0][0] == "run"]
    assert [name.partition(":")[0] for name in runs] == ["azure-pipelines", "github", "gitlab"]


@pytest.mark.parametrize("arguments", IN_FILES)
def test_a_command_of_an_example_is_one_and_its_scenario_is_valid(arguments):
    understood(arguments)
    sets = [part for at, part in enumerate(arguments) if "--set" in (part, arguments[at - 1])]
    env = {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com", "AZURE_OPENAI_DEPLOYMENT_NAME": "d"}
    result = CliRunner().invoke(app, ["check", str(CI.parents[1] / arguments[1]), *sets], env=env)
    assert result.exit_code == 0, result.stderr
    assert "Entra ID token by " in result.stdout


def test_the_commands_of_the_guide_are_ones():
    lines = re.findall(r"`(rteval [^`]*)`", (CI / "README.md").read_text(encoding="utf-8"))
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line)[1:]
        if len(words) > 1:
            understood(words)


def test_the_guide_names_every_credential_of_the_scenario():
    guide = (CI / "README.md").read_text(encoding="utf-8")
    assert [name for name in ASKERS if f"`{name}`" not in guide] == []


# ---- keys: facts of the services' workflow references ----

STEP = {"name", "id", "if", "uses", "with", "run", "env", "shell", "working-directory", "continue-on-error"}


def test_the_github_workflow_has_keys_that_github_knows():
    workflow = read("github.yml")
    assert set(workflow) <= {"name", "on", "permissions", "env", "concurrency", "jobs", "defaults"}
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    assert workflow["permissions"]["id-token"] == "write"
    (job,) = workflow["jobs"].values()
    assert set(job) <= {"name", "runs-on", "timeout-minutes", "steps", "env", "permissions", "if"}
    for step in job["steps"]:
        assert set(step) <= STEP
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    uses = [step.get("uses", "").partition("@")[0] for step in job["steps"]]
    runs = [step.get("run", "").partition(" scenarios")[0] for step in job["steps"]]
    # The job's token lives for minutes: nothing slow may come between the login and the run.
    assert uses.index("azure/login") + 1 == runs.index("rteval run")
    assert job["steps"][uses.index("actions/upload-artifact")]["if"] == "always()"


INPUTS = {
    "UsePythonVersion@0": {"versionSpec"},
    "AzureCLI@2": {"azureSubscription", "scriptType", "scriptLocation", "inlineScript"},
    "PublishTestResults@2": {"testResultsFormat", "testResultsFiles"},
}


def test_the_azure_pipeline_has_keys_that_azure_knows():
    pipeline = read("azure-pipelines.yml")
    assert set(pipeline) == {"trigger", "pr", "schedules", "pool", "variables", "jobs"}
    assert (pipeline["trigger"], pipeline["pr"]) == ("none", "none")
    (schedule,) = pipeline["schedules"]
    assert set(schedule) == {"cron", "displayName", "branches", "always"}
    (job,) = pipeline["jobs"]
    assert set(job) <= {"job", "displayName", "timeoutInMinutes", "pool", "variables", "steps", "condition"}
    for step in job["steps"]:
        (kind,) = {"task", "script", "publish"} & set(step)
        assert set(step) <= {kind, "displayName", "inputs", "env", "condition", "artifact"}
        if kind == "task":
            assert set(step["inputs"]) == INPUTS[step["task"]]
    login = next(step for step in job["steps"] if step.get("task") == "AzureCLI@2")
    assert login["env"] == {"SYSTEM_ACCESSTOKEN": "$(System.AccessToken)"}
    assert "failOnStandardError" not in login["inputs"]


def test_the_gitlab_job_has_keys_that_gitlab_knows():
    (job,) = read("gitlab.yml").values()
    assert set(job) <= {"image", "rules", "id_tokens", "variables", "script", "after_script", "artifacts", "stage"}
    assert job["artifacts"]["reports"] == {"junit": "reports/**/junit.xml"}
    assert job["artifacts"]["when"] == "always"


def test_no_example_holds_a_secret():
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "secrets." not in text
        assert "API_KEY" not in text
