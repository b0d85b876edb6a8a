"""A scenario file in a folder of its own, and what is wrong with one."""

from __future__ import annotations

import pytest

from rteval.errors import ScenarioError
from rteval.scenario import load_scenario

MINIMAL = "target: {provider: simulator}\ndataset: data\n"


@pytest.fixture
def load(tmp_path):
    """Read a scenario that is given as text; ``target`` and ``dataset`` are added where they are missing."""

    def load(text="", *, sets=(), set_files=(), name="support.yaml", **env):
        path = tmp_path / name
        have = {line.partition(":")[0] for line in text.splitlines()}
        lines = [line for line in MINIMAL.splitlines() if line.partition(":")[0] not in have]
        # Added at the end, so that line numbers are those of the text.
        path.write_text("\n".join([text, *lines]) + "\n", encoding="utf-8")
        return load_scenario(path, sets=sets, set_files=set_files, env=env)

    return load


@pytest.fixture
def problems(load, tmp_path):
    """The problems of a scenario, a sentence each, without the folder."""

    def problems(text="", **options):
        with pytest.raises(ScenarioError) as caught:
            load(text, **options)
        assert caught.value.exit_code == 2
        lines = str(caught.value).replace(f"{tmp_path}/", "").split("\n  ")
        return lines if len(lines) == 1 else lines[1:]

    return problems
