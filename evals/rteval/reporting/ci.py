"""What a CI service is told of a run: GitHub Actions' and Azure Pipelines' job summary and annotations.

Both services read their commands from standard error as well as from standard output (on Azure unless a step says
``failOnStderr: true``), so the commands go there and standard output stays what programs read. Never a transcript.
Sources: ``@actions/core`` (command.ts) and ``azure-pipelines-task-lib`` (taskcommand.ts) for how text is escaped; the
runner's and the agent's own readers of commands for where they look for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..analysis.culprit import is_missed
from .files import SUMMARY_MD
from .load import incidents_of
from .markdown import markdown
from .words import say_culprit, say_gate, say_verdict

__all__ = ["announce", "announce_error", "service_of"]

GITHUB, AZURE = "github", "azure"

MOST_ANNOTATIONS = 10
"""GitHub shows so many errors, and so many warnings, of one step."""

MOST_SUMMARY_BYTES = 1_000_000
"""GitHub throws away the whole job summary of a step that is larger than 1 MiB."""

_CUT = "\n\nThe rest was cut: a job summary holds 1 MiB. It stands in `summary.md` of the run.\n"


def service_of(wanted: str, env: Mapping[str, str]) -> str | None:
    """Return ``github``, ``azure`` or ``None``: who is told.

    Args:
        wanted: ``report.ci`` of the scenario: ``auto``, ``github``, ``azure`` or ``none``.
        env: the environment variables.
    """
    if wanted != "auto":
        return wanted if wanted in (GITHUB, AZURE) else None
    if env.get("GITHUB_ACTIONS", "").lower() == "true":
        return GITHUB
    return AZURE if env.get("TF_BUILD", "").lower() == "true" else None


def announce(run: Mapping[str, Any], summary: Mapping[str, Any], run_dir: Path, env: Mapping[str, str]) -> list[str]:
    """Tell the CI service how a run went: append to the job summary, and return the lines for standard error.

    A job summary that cannot be written becomes a warning: it must not change how the run ends.

    Args:
        run: what was run (``run.json``); ``report.ci`` says who is told.
        summary: what came out (``summary.json``).
        run_dir: the run folder.
        env: the environment variables.
    """
    service = service_of((run.get("report") or {}).get("ci") or "none", env)
    if service is None:
        return []
    annotations = list(_annotations(run, summary, env, service))
    if service == AZURE:
        page = (run_dir / SUMMARY_MD).resolve()
        upload = [f"##vso[task.uploadsummary]{_azure(str(page))}"] if page.is_file() else []
        return [*annotations, *upload]
    if path := env.get("GITHUB_STEP_SUMMARY"):
        try:
            _append(Path(path), _page(run, summary, run_dir))
        except OSError as error:
            said = f"the job summary could not be written: {error.strerror or error}"
            annotations.append(_annotation(service, "warning", said))
    return annotations


def announce_error(sentence: str, env: Mapping[str, str]) -> list[str]:
    """Return the lines for standard error about a run without a verdict: a wrong scenario, no login, a bug."""
    service = service_of("auto", env)
    return [] if service is None else [_annotation(service, "error", sentence)]


# ---- annotations ----


def _annotations(
    run: Mapping[str, Any], summary: Mapping[str, Any], env: Mapping[str, str], service: str
) -> Iterator[str]:
    scenario = run.get("scenario") or {}
    file = _in_repository(scenario.get("path"), env, service)
    name = scenario.get("name", "run")
    red = [gate for gate in enumerate(summary["gates"]) if gate[1]["verdict"] not in ("pass", "invalid")]
    errors = [gate for gate in red if is_missed(gate[1])]
    warnings = [gate for gate in red if not is_missed(gate[1])]
    if summary["exit_code"] != 0:
        refusal = (run.get("refusal") or {}).get("message")
        head = [f"{name}: {say_verdict(summary)}", say_culprit(summary), refusal]
        yield _annotation(service, "error", ". ".join(str(part) for part in head if part), file=file)
    lines = scenario.get("gate_lines") or []
    for level, gates, most in (("error", errors, MOST_ANNOTATIONS - 1), ("warning", warnings, MOST_ANNOTATIONS // 2)):
        for position, (index, gate) in enumerate(gates[:most]):
            more = len(gates) - most if position == most - 1 else 0
            text = f"{say_gate(gate)}{f' (and {more} more, in the job summary)' if more > 0 else ''}"
            line = lines[index] if index < len(lines) else None
            yield _annotation(service, level, text, file=file, line=line, title=f"gate {gate['metric']}")
    for incident in incidents_of(run)[: MOST_ANNOTATIONS // 2]:
        yield _annotation(service, "warning", incident)


def _annotation(
    service: str, level: str, text: str, *, file: str | None = None, line: int | None = None, title: str = "rteval"
) -> str:
    if service == AZURE:
        place = {"sourcepath": file, "linenumber": line}
        named = "".join(f"{key}={_azure(str(value), True)};" for key, value in place.items() if value is not None)
        return f"##vso[task.logissue type={level};{named}]{_azure(text)}"
    place = {"file": file, "line": line, "title": title}
    named = ",".join(f"{key}={_github(str(value), True)}" for key, value in place.items() if value is not None)
    return f"::{level} {named}::{_github(text)}"


def _readable(text: str) -> str:
    """Without control characters, a carriage return among them; lines stay lines."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _github(text: str, is_property: bool = False) -> str:
    text = _readable(text).replace("%", "%25").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if is_property else text


def _azure(text: str, is_property: bool = False) -> str:
    text = _readable(text).replace("%", "%AZP25").replace("\n", "%0A")
    return text.replace("]", "%5D").replace(";", "%3B") if is_property else text


def _in_repository(path: Any, env: Mapping[str, str], service: str) -> str | None:
    """The scenario's file as the service links to it: relative to the checkout, with slashes."""
    if not isinstance(path, str) or not path:
        return None
    root = env.get("GITHUB_WORKSPACE" if service == GITHUB else "BUILD_SOURCESDIRECTORY")
    file = Path(path)
    if root:
        try:
            return Path(os.path.realpath(file)).relative_to(os.path.realpath(root)).as_posix()
        except ValueError:
            pass  # it lies elsewhere: the name alone has to do
    return file.as_posix()


# ---- the job summary ----


def _page(run: Mapping[str, Any], summary: Mapping[str, Any], run_dir: Path) -> str:
    try:
        return (run_dir / SUMMARY_MD).read_text(encoding="utf-8")
    except OSError:  # report.formats leaves it out
        return markdown(run, summary, ())


def _append(path: Path, page: str) -> None:
    """Append a page to the job summary, which several runs of one step share."""
    room = MOST_SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
    data = page.encode("utf-8", "replace") + b"\n"
    if len(data) > room:
        kept = data[: max(room - len(_CUT), 0)].decode("utf-8", "ignore")
        data = (kept.rpartition("\n")[0] + _CUT).encode() if kept else b""
    with path.open("ab") as file:
        file.write(data)
