from __future__ import annotations

import pytest

from rteval.analysis.judging import Verdict
from rteval.analysis.verdict import EXIT_MEANINGS, End, Facts, exit_code, run_state

OK: dict[str, object] = {
    "end": End.FINISHED,
    "ready": True,
    "invalid": False,
    "complete": True,
    "verdicts": [Verdict.PASS],
}
MISSED = [Verdict.PASS, Verdict.FAIL]

CASES = [
    pytest.param({}, 0, "complete", id="every gate holds"),
    pytest.param({"verdicts": []}, 0, "complete", id="no gates"),
    pytest.param({"verdicts": MISSED}, 1, "complete", id="a gate missed"),
    pytest.param({"verdicts": [Verdict.NO_DATA]}, 1, "complete", id="nothing to measure"),
    pytest.param({"complete": False}, 1, "partial", id="rows are missing: never 0"),
    pytest.param({"end": End.KILLED}, 1, "partial", id="killed: never 0"),
    pytest.param({"end": End.ERROR}, 2, "partial", id="a recording or the disk went away"),
    pytest.param({"end": End.KILLED, "ready": None}, 1, "partial", id="killed before a session ended"),
    pytest.param({"end": End.KILLED, "ready": False}, 3, "refused", id="killed while it was refused"),
    pytest.param({"invalid": True, "verdicts": MISSED}, 4, "invalid", id="invalid beats a missed gate"),
    pytest.param({"invalid": True}, 4, "invalid", id="invalid although all gates hold"),
    pytest.param({"end": End.KILLED, "invalid": True}, 4, "partial", id="killed and invalid"),
    pytest.param({"end": End.LIMIT, "invalid": True}, 5, "partial", id="a limit beats invalid"),
    pytest.param({"end": End.LIMIT}, 5, "partial", id="a limit is never 0"),
    pytest.param({"end": End.LIMIT, "ready": False}, 3, "refused", id="refused beats a limit"),
    pytest.param({"ready": False}, 3, "refused", id="no session became ready"),
    pytest.param({"end": End.REFUSED, "ready": None}, 3, "refused", id="no credential"),
    pytest.param({"end": End.SIGINT, "ready": False, "invalid": True}, 130, "partial", id="SIGINT beats refused"),
    pytest.param({"end": End.SIGTERM}, 143, "partial", id="SIGTERM is never 0"),
    pytest.param({"end": End.BUG, "ready": False}, 70, "partial", id="a bug beats all"),
]


@pytest.mark.parametrize(("facts", "code", "state"), CASES)
def test_the_first_rule_that_matches_decides_the_exit_code(facts: dict[str, object], code: int, state: str) -> None:
    known = Facts(**{**OK, **facts})  # type: ignore[arg-type]
    assert exit_code(known) == code
    assert run_state(known).value == state
    assert code in EXIT_MEANINGS
