"""What ``run.json`` says of a run: what was run, with what, where, and how it began."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from . import __version__
from .analysis.metrics import METRICS_VERSION
from .audio import DETECTOR
from .prepare import Prepared, PreparedVariant, RunOptions
from .records import SCHEMA_VERSION
from .scenario import Scenario

__all__ = ["describe", "utc_now"]

_SHOWN = 4
"""Different values of a key of the target that are written one after the other."""

_LIBRARIES = (
    "azure-identity",
    "gevent",
    "jiwer",
    "locust",
    "numpy",
    "pandas",
    "pyarrow",
    "soundfile",
    "soxr",
    "uvloop",
    "websockets",
)


def describe(
    prepared: Prepared, options: RunOptions, server: str | None, *, run_id: str, engine: str
) -> dict[str, Any]:
    """The content of ``run.json`` at the start of a run; what is only known later is ``None``.

    Args:
        prepared: what is run.
        options: what the command line added.
        server: where the embedded server listens, if there is one.
        run_id: name of the run folder.
        engine: ``asyncio`` or ``locust``.
    """
    scenario, dataset, plan = prepared.scenario, prepared.dataset, prepared.plan
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "scenario": {
            "name": scenario.name,
            "path": str(scenario.path) if scenario.path is not None else None,
            "hash": scenario.hash,
            "gate_lines": _gate_lines(scenario, len(prepared.gates)),
            "resolved": scenario.resolved(),
        },
        "labels": {**scenario.labels, **options.labels},
        "target": _target_of_all([_target(variant, server) for variant in prepared.variants]) | {"credential": None},
        "variants": [
            {
                "name": variant.name,
                "axes": dict(variant.axes),
                "hash": variant.scenario.hash,
                "target": _target(variant, server),
            }
            for variant in prepared.named_variants
        ],
        "dataset": {
            "path": str(dataset.path),
            "name": dataset.name,
            "hash": dataset.hash,
            "items": len(dataset.items),
            "audio_s": dataset.audio_s,
            "references": dataset.references,
            "detector": DETECTOR,
        },
        "planned": {
            "turns": plan.turns,
            "sessions": plan.session_count,
            "sessions_at_once": plan.sessions_at_once,
        },
        "load": {
            "model": "closed" if scenario.load.arrivals is None else "open",
            "engine": engine,
            "peak": plan.sessions_at_once if scenario.load.arrivals is None else scenario.load.most_sessions,
            "duration_s": scenario.load.ends_s,
            "warmup_s": scenario.load.warmup_s,
            "stages": [stage.model_dump(mode="json") for stage in scenario.load.stages],
            "arrivals": None if scenario.load.arrivals is None else scenario.load.arrivals.model_dump(mode="json"),
            "asked": [list(point) for point in plan.asked],
            "started_ns": None,
        },
        "workers": [],
        "gates": [gate.as_written() for gate in prepared.gates],
        "checks": list(prepared.names),
        "scoring": scenario.resolved()["scoring"],
        "slo": dict(scenario.slo),
        "limits": scenario.limits.model_dump(mode="json"),
        "report": scenario.report.model_dump(mode="json"),
        "versions": _versions(),
        "host": {"system": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
        "signals": None,
        "started_at": utc_now(),
        "ended_at": None,
        "started_ns": None,
        "ended_ns": None,
        "state": "running",
        "end": None,
        "refusal": None,
        "live": {"sessions_peak": 0, "warnings": [], "incidents": []},
    }


def _target(variant: PreparedVariant, server: str | None) -> dict[str, str | None]:
    address = variant.address if server is None else variant.address.at(server)
    return {
        "provider": address.provider,
        "dialect": address.dialect,
        "address": address.shown,
        "model": address.model,
        "api_version": variant.scenario.target.api_version,
    }


def _target_of_all(targets: Sequence[Mapping[str, str | None]]) -> dict[str, str | None]:
    """What variants have in common; where they differ the values one after the other."""
    found: dict[str, str | None] = {}
    for key in targets[0]:
        values = list(dict.fromkeys(target[key] for target in targets))
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        found[key] = values[0] if len(values) == 1 else ", ".join(str(value or "-") for value in values[:_SHOWN]) + more
    return found


def _gate_lines(scenario: Scenario, gates: int) -> list[int | None]:
    """The line of the scenario's file in which each gate is written; ``None`` for one that is not written there."""
    pattern = re.compile(rf"{re.escape(str(scenario.path))}:([0-9]+): ")
    found = (pattern.match(scenario.where(f"gates[{index}]")) for index in range(gates))
    return [int(match[1]) if match else None for match in found]


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"rteval": __version__, "python": platform.python_version(), "metrics": METRICS_VERSION}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def utc_now() -> str:
    """Now, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
