"""What the tests of the pure core share: a blank row to write to, and the switch that rewrites golden files."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rteval.records import Outcome, TurnRecord


def pytest_addoption(parser):
    with suppress(ValueError):  # another folder's conftest may have it already
        parser.addoption("--update-golden", action="store_true", help="rewrite the golden files the tests compare with")


@pytest.fixture
def update_golden(request):
    """Whether golden files are to be rewritten: ``pytest tests/core --update-golden``."""
    return request.config.getoption("--update-golden", default=False)


@pytest.fixture(scope="session")
def blank_row():
    """Make the row of a planned turn as it stands before anything happened."""

    def make(modality="audio", dialect="ga", **known):
        identity = {"run_id": "run", "worker": "w0", "session": "s0", "turn": 0, "item": "item"}
        return TurnRecord(**{**identity, "modality": modality, "dialect": dialect, "outcome": Outcome.CUT, **known})

    return make
