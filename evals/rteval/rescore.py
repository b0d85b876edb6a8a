"""A recorded run scored again, with its own scorers or with those, and the gates, of another scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .analysis.gates import check_gates_of_scorers, parse_gates
from .baseline import find_baseline, keep_baseline, place_baseline, restore_baseline
from .judge import Judgement, judge
from .prepare import find_scorers
from .reporting.files import read_run
from .run_facts import utc_now
from .scenario import Scenario, load_scenario
from .scorers.apply import Chosen, ScoreRun, metric_names, whole_metrics

__all__ = ["rescore"]

_BY = "judged_by"
_NOT_AGAIN: dict[str, Any] = {_BY: None, "as_run": None}


def rescore(
    run_dir: Path,
    scenario_path: Path | None,
    *,
    sets: Sequence[str] = (),
    set_files: Sequence[str] = (),
    say: Callable[[str], None],
) -> Judgement:
    """Score a run again and judge it.

    Args:
        run_dir: the run folder.
        scenario_path: whose ``scoring``, ``gates`` and ``slo`` take the place of the run's; ``None``: those of the
            scenario as it ran, whoever judged in between.
        sets: laid over that scenario, as for a run.
        set_files: the same.
        say: tells a person a sentence.

    Raises:
        RtevalError: the scenario or the run folder is wrong.
    """
    if scenario_path is None:
        run = read_run(run_dir)
        as_run = run.get("as_run")
        restore_baseline(run_dir, had=_had_baseline(as_run or run))
        return judge(run_dir, score=ScoreRun(say=say), judged_by=None if as_run is None else as_run | _NOT_AGAIN)
    scenario = load_scenario(scenario_path, sets=sets, set_files=set_files)
    run = read_run(run_dir)
    # What was kept then decides, not what this scenario would keep.
    chosen = find_scorers(scenario, audio=str((run.get("report") or {}).get("audio")))
    judged_by = _judged_by(run, scenario, chosen)
    as_run = run.get("as_run") or {key: run.get(key) for key in (*judged_by, "baseline") if key != _BY}
    judged_by["as_run"] = as_run
    if scenario.baseline is not None:
        found = find_baseline(scenario, run_dir.parent.parent)
        if _had_baseline(as_run):
            keep_baseline(run_dir)
        judged_by["baseline"] = place_baseline(found, run_dir)
    return judge(run_dir, score=ScoreRun(chosen, say), judged_by=judged_by)


def _had_baseline(run: Mapping[str, Any]) -> bool:
    """Whether a baseline was there when it ran."""
    about = run.get("baseline") or {"reason": "none was named"}
    return about.get("reason") is None


def _judged_by(run: dict[str, Any], scenario: Scenario, chosen: Sequence[Chosen]) -> dict[str, Any]:
    """What of ``run.json`` the scenario changes; what was run stays as it was."""
    before = (run.get("scoring") or {}).get("checks") or {}
    of_items = [name for name in run.get("checks") or () if "." not in name and name not in before]
    names = [*of_items, *scenario.scoring.checks, *(name for one in chosen for name in metric_names(one))]
    gates = parse_gates(scenario.all_gates, checks=names)
    check_gates_of_scorers(gates, whole_metrics(chosen))
    return {
        "gates": [gate.as_written() for gate in gates],
        "checks": names,
        "scoring": scenario.resolved()["scoring"],
        "slo": dict(scenario.slo),
        _BY: {"path": str(scenario.path), "hash": scenario.hash, "at": utc_now()},
    }
