"""The front door: parses, calls, prints, exits. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .errors import RtevalError, UsageError
from .redact import redact

if TYPE_CHECKING:
    from rich.console import Console

    from .judge import Judgement

__all__ = ["app", "main"]

app = typer.Typer(
    name="rteval",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MOST_WORKERS = 256

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file, e.g. scenarios/support.yaml.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a run id, `latest`, or SCENARIO/latest.")]
Out = Annotated[Path, typer.Option("--out", envvar="RTEVAL_OUT", help="Folder of all reports.")]
Json = Annotated[bool, typer.Option("--json", envvar="RTEVAL_JSON", help="Print one JSON object on stdout.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        envvar="RTEVAL_SET",
        help="Set a key of the scenario; VALUE is YAML. Example: --set load.sessions=50. May be repeated; in the "
        "variable, entries stand between blanks.",
    ),
]
SetFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--set-file",
        metavar="PATH=FILE",
        envvar="RTEVAL_SET_FILE",
        help="Set a key to the text of a file. May be repeated.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--no-progress", envvar="RTEVAL_NO_PROGRESS", help="Print only the verdict on stderr.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, envvar="RTEVAL_LIMIT", help="Run at most so many items of the dataset.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rteval {__version__}")
        raise typer.Exit


@app.callback()
def _front(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Batch evaluation and load testing of realtime speech APIs.

    \b
    Start here:
      rteval run scenarios/support.yaml      audio through an embedded server, no key needed
      rteval check scenarios/azure.yaml      what would run, without connecting
      rteval init my-recordings/             a dataset and a scenario from your own audio

    \b
    Exit codes: 0 every gate holds; 1 a gate missed or had nothing to measure; 2 command line, scenario or
    dataset wrong; 3 the target refused us or could not be reached; 4 invalid, the generator was the bottleneck;
    5 stopped by a limit of the scenario; 70 a bug in rteval; 130 SIGINT; 143 SIGTERM.
    """


@app.command()
def run(
    scenario: ScenarioFile,
    out: Out = Path("reports"),
    run_id: Annotated[
        str | None, typer.Option("--run-id", envvar="RTEVAL_RUN_ID", help="Name of the run folder; default: the time.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V", envvar="RTEVAL_LABEL", help="Label of the run. May be repeated."),
    ] = None,
    limit: Limit = None,
    sets: Sets = None,
    set_files: SetFiles = None,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers",
            metavar="N|auto",
            envvar="RTEVAL_WORKERS",
            help="Hold the sessions in N processes of this machine; auto: one for each core but one.",
        ),
    ] = None,
    master_bind: Annotated[
        str | None,
        typer.Option(
            "--master-bind",
            metavar="HOST:PORT",
            envvar="RTEVAL_MASTER_BIND",
            help="Let workers of other machines join here (`rteval worker`). Off this machine this needs a secret in "
            "RTEVAL_JOIN_TOKEN, the same on every worker.",
        ),
    ] = None,
    expect_workers: Annotated[
        int | None,
        typer.Option(
            "--expect-workers",
            min=1,
            envvar="RTEVAL_EXPECT_WORKERS",
            help="Begin when so many workers are ready, those of --workers among them.",
        ),
    ] = None,
    expect_workers_max_wait: Annotated[
        float,
        typer.Option(
            "--expect-workers-max-wait",
            metavar="SECONDS",
            min=1,
            envvar="RTEVAL_EXPECT_WORKERS_MAX_WAIT",
            help="Give up when they are not.",
        ),
    ] = 60.0,
    ui: Annotated[
        bool,
        typer.Option("--ui", envvar="RTEVAL_UI", help="Serve Locust's web UI on this machine; the run starts there."),
    ] = False,
    ui_port: Annotated[
        int, typer.Option("--ui-port", min=0, max=65535, envvar="RTEVAL_UI_PORT", help="Its port; 0 takes a free one.")
    ] = 8089,
    json: Json = False,
    no_progress: Quiet = False,
) -> None:
    """Run a scenario and write a report.

    Prints the path of the run folder on stdout (with --json the summary), everything for people on stderr.

    \b
    Examples:
      rteval run scenarios/support.yaml
      rteval run scenarios/support.yaml --workers auto --set load.sessions=500
      rteval run scenarios/support.yaml --set load.duration_s=60 --ui
      rteval run scenarios/azure.yaml --master-bind 10.0.0.4:5557 --expect-workers 4
      rteval run scenarios/support.yaml --limit 4 --set load.sessions=2
      rteval run scenarios/azure.yaml --label commit=3f2a9c1 --json > summary.json
      rteval run scenarios/support.yaml --set-file session.instructions=prompts/b.md
    """
    from .prepare import RunOptions
    from .run import run as run_scenario

    with _our_errors(json):
        options = RunOptions(
            sets=tuple(sets or ()),
            set_files=tuple(set_files or ()),
            out=out,
            run_id=run_id,
            labels=_labels(label or ()),
            limit=limit,
            progress=not no_progress,
            workers=_workers(workers),
            master_bind=None if master_bind is None else _host_and_port(master_bind, "--master-bind"),
            expect_workers=expect_workers,
            expect_workers_max_wait_s=expect_workers_max_wait,
            join_token=_join_token(),
            ui=("127.0.0.1", ui_port) if ui else None,
        )
        console = _console()
        _finish(run_scenario(scenario, options, console), console, json)


@app.command()
def worker(
    master: Annotated[
        str,
        typer.Option(
            "--master", metavar="HOST:PORT", envvar="RTEVAL_MASTER", help="Where `rteval run` lets workers join."
        ),
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            metavar="NAME=DIR",
            envvar="RTEVAL_WORKER_DATASET",
            help="Folder of a dataset on this machine; default: the folder that it has at the master. May be repeated.",
        ),
    ] = None,
    out: Out = Path("reports"),
    max_wait: Annotated[
        float,
        typer.Option("--max-wait", metavar="SECONDS", min=1, envvar="RTEVAL_MAX_WAIT", help="How long to try to join."),
    ] = 60.0,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", envvar="RTEVAL_NO_PROGRESS", help="Print only errors.")
    ] = False,
    tied: Annotated[bool, typer.Option("--tied", hidden=True)] = False,
    charts: Annotated[bool, typer.Option("--charts", hidden=True)] = False,
) -> None:
    """Hold sessions for a run of another process.

    Takes part in one run and ends with it: the scenario comes from the master, without secrets; credentials are found
    on this machine as `rteval run` finds them. Needs the same version of rteval and the same dataset.

    \b
    Examples:
      RTEVAL_JOIN_TOKEN=... rteval worker --master 10.0.0.4:5557
      rteval worker --master 127.0.0.1:5557 --dataset support=/data/support
    """
    from .worker import WorkerOptions, work

    with _our_errors():
        host, port = _host_and_port(master, "--master")
        options = WorkerOptions(
            host=host,
            port=port,
            token=_join_token(),
            datasets=_folders(dataset or ()),
            out=out,
            max_wait_s=max_wait,
            tied=tied,
            charts=charts,
            progress=not no_progress,
        )
        raise typer.Exit(work(options, _console()))


@app.command()
def check(
    scenario: ScenarioFile,
    limit: Limit = None,
    sets: Sets = None,
    set_files: SetFiles = None,
    json: Json = False,
) -> None:
    """Say what a scenario would run, or what is wrong with it.

    Checks the scenario, its dataset and its gates, and connects to nothing.

    \b
    Examples:
      rteval check scenarios/support.yaml
      rteval check scenarios/azure.yaml --set load.sessions=50 --json
    """
    from .prepare import RunOptions, prepare

    with _our_errors(json):
        options = RunOptions(sets=tuple(sets or ()), set_files=tuple(set_files or ()), limit=limit)
        prepared = prepare(scenario, options)
        plan, dataset = prepared.plan, prepared.dataset
        facts: dict[str, Any] = {
            "scenario": prepared.scenario.name,
            "target": prepared.address.described(),
            "dataset": str(dataset.path),
            "items": len(dataset.items),
            "references": dataset.references,
            "audio_min": round(plan.audio_s / 60, 2),
            "turns": plan.turns,
            "expected_turns": plan.expected_turns,
            "measured_turns": plan.measured_turns,
            "sessions": plan.session_count,
            "sessions_at_once": plan.sessions_at_once,
            "endless": plan.endless,
            "asked": [list(point) for point in plan.asked],
            "estimated_s": round(plan.duration_s, 1),
            "gates": [str(gate) for gate in prepared.gates],
            "undecidable_gates": prepared.doubtful_gates,
            "doubts": list(plan.doubts),
            "notes": list(dataset.notes),
        }
        if json:
            _print_json(facts)
            return
        lines = [
            f"{facts['scenario']}: the scenario is valid",
            f"  target    {facts['target']}",
            f"  dataset   {facts['items']} items, {facts['references']} with a reference, in {facts['dataset']}",
            f"  load      {prepared.in_words}; {plan.audio_s / 60:.1f} min of audio",
        ]
        lines += [f"  gate      {gate}" for gate in facts["gates"] or ["none: the run cannot fail on what it measures"]]
        lines += [
            f"  warning   this gate cannot be decided and will fail: {doubt}" for doubt in prepared.doubtful_gates
        ]
        lines += [f"  warning   {doubt}" for doubt in plan.doubts]
        lines += [f"  note      {note}" for note in dataset.notes]
        for line in lines:
            _print(_visible(line).encode())


@app.command()
def report(run_name: RunName, out: Out = Path("reports"), json: Json = False) -> None:
    """Make the tables and reports of a run again.

    Works without the target, and also for a run that was killed: what it had recorded is read, and the run counts as
    partial. Gates, checks and references are those of the scenario and the dataset when it ran.

    \b
    Examples:
      rteval report latest
      rteval report reports/support/20260102-030405-ab12
    """
    from .judge import judge
    from .reporting.files import find_run

    with _our_errors(json):
        _finish(judge(find_run(run_name, out)), _console(), json)


@app.command()
def score(run_name: RunName, out: Out = Path("reports"), json: Json = False) -> None:
    """Score the transcripts of a run again.

    Works without the target, with the scorers of this version of rteval; the gates are then judged again. Gates, checks
    and references are those of the scenario and the dataset when it ran.

    \b
    Examples:
      rteval score latest
      rteval score support/latest --json
    """
    from .judge import judge
    from .reporting.files import find_run

    with _our_errors(json):
        _finish(judge(find_run(run_name, out)), _console(), json)


@app.command()
def simulate(
    host: Annotated[str, typer.Option("--host", envvar="RTEVAL_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, envvar="RTEVAL_PORT", help="Port; 0 takes a free one.")
    ] = 0,
    dataset: Annotated[
        list[Path] | None,
        typer.Option("--dataset", envvar="RTEVAL_DATASET", help="Dataset whose items it recognises. May be repeated."),
    ] = None,
    behaviour: Annotated[
        Path | None,
        typer.Option("--behaviour", envvar="RTEVAL_BEHAVIOUR", help="YAML file: delays, word errors, limits, faults."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", envvar="RTEVAL_TRUTH", help="File for what really happened, a JSON line a response."),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="RTEVAL_TLS", help="Serve wss:// with a certificate made now.")
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="RTEVAL_SIMULATE_API_KEY", help="Let in only who sends this key."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="RTEVAL_SIMULATE_TOKEN", help="Let in only who sends this bearer token."),
    ] = None,
) -> None:
    """Serve the realtime protocol on this machine.

    Speaks both dialects, detects voice activity and answers with speech; a transcription is the dataset's own reference
    with the word errors that the behaviour asks for. The first line on stdout says where it listens, with --tls the
    second one which CA file to trust. Ends on SIGINT or SIGTERM.

    \b
    Paths, as the services have them (any model or deployment will do):
      /openai/v1/realtime?model=NAME                                          dialect ga
      /openai/realtime?api-version=2025-04-01-preview&deployment=NAME         dialect preview
      /voice-live/realtime?api-version=2025-10-01&model=NAME                  Voice Live

    \b
    Examples:
      rteval simulate --port 8080 --dataset datasets/support
      rteval simulate --tls --api-key secret --truth truth.jsonl
    """
    from .simulator.server import Options, serve

    with _our_errors():
        options = Options(
            host=host,
            port=port,
            datasets=dataset or [],
            behaviour=behaviour,
            truth=truth,
            tls=tls,
            api_key=api_key,
            token=token,
        )
        raise typer.Exit(serve(options))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the scenario file, for editors.

    \b
    Example:
      rteval schema > rteval.schema.json
    """
    import orjson

    from .scenario import json_schema

    with _our_errors():
        _print(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR_OF_AUDIO", help="Folder with your recordings.")],
    scenario: Annotated[
        Path | None,
        typer.Option(
            "--scenario", envvar="RTEVAL_SCENARIO_OUT", help="Where to write it; default: scenarios/NAME.yaml."
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            envvar="RTEVAL_CHANNEL",
            metavar="left|right|mix|N",
            help="The caller's channel in files whose channels differ.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", envvar="RTEVAL_FORCE", help="Write over what is there.")] = False,
) -> None:
    """Make a dataset and a scenario of your recordings.

    \b
    Examples:
      rteval init my-recordings/
      rteval init my-recordings/ --scenario scenarios/mine.yaml --channel left
    """
    from .init import init_dataset

    with _our_errors():
        caller: Any = int(channel) if channel is not None and re.fullmatch("[0-9]{1,4}", channel) else channel
        result = init_dataset(folder, scenario_out=scenario, channel=caller, force=force)
        for path in (result.metadata, result.scenario):
            _print(os.fsencode(path))
        for sentence in result.skipped:
            typer.echo(_visible(f"left out: {sentence}"), err=True)
        where = _visible(str(result.metadata))
        typer.echo(f"next: write a transcription into the lines of {where} where you have one, then", err=True)
        typer.echo(f"  rteval run {_visible(str(result.scenario))}", err=True)


def main() -> None:
    """Entry point of the command ``rteval``."""
    _fill_closed_descriptors()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows ASCII only must not end a run over a name or a transcript.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except RtevalError as error:
        _say_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        import traceback

        traceback.print_exc()
        typer.echo(f"error: this is a bug in rteval: {type(error).__name__}: {error}", err=True)
        sys.exit(70)


def _fill_closed_descriptors() -> None:
    """Open what the caller closed (``<&-``): a socket that got such a number would be taken for stdin or stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one


@contextmanager
def _our_errors(json: bool = False) -> Iterator[None]:
    try:
        yield
    except RtevalError as error:
        if json:
            _print_json({"error": str(error), "hint": error.hint, "exit_code": error.exit_code})
        _say_error(error)
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except Exception as error:
        if json:
            _print_json({"error": f"{type(error).__name__}: {error}", "hint": None, "exit_code": RtevalError.exit_code})
        raise


def _say_error(error: RtevalError) -> None:
    typer.echo(_visible(f"error: {error}"), err=True)
    if error.hint:
        typer.echo(_visible(f"hint: {error.hint}"), err=True)


def _visible(text: str) -> str:
    """Text for a terminal: what a server, a file or an option brought in must not command it."""
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter)[0] == "C" and letter != "\n"
        else letter
        for letter in text
    )


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--label {text!r} is not of the form KEY=VALUE")
        if any(unicodedata.category(letter) == "Cs" for letter in text):
            raise UsageError(f"--label {text!r} is not UTF-8 text")
        if redact(value) != value:
            raise UsageError(f"--label {key}: the value looks like a key or token", hint="labels stand in every report")
        labels[key] = value
    return labels


def _workers(text: str | None) -> int:
    if text is None:
        return 0
    if text == "auto":
        from .local_workers import auto_workers

        return auto_workers()
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_WORKERS:
        raise UsageError(f"--workers {text!r}: expected a number from 1 to {MOST_WORKERS}, or auto")
    return int(text)


def _host_and_port(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 <= int(port) <= 65535:
        raise UsageError(f"{option} {text!r}: expected HOST:PORT, e.g. 127.0.0.1:5557")
    return host, int(port)


def _join_token() -> str | None:
    return os.environ.get("RTEVAL_JOIN_TOKEN") or None


def _folders(texts: Sequence[str]) -> dict[str, Path]:
    folders = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"--dataset {text!r} is not of the form NAME=DIR")
        folders[name] = Path(folder)
    return folders


def _finish(judgement: Judgement, console: Console, json: bool) -> None:
    """Say the verdict, print what programs read, and exit as the run ended."""
    from .reporting.files import read_run
    from .reporting.words import say_gate, say_verdict

    summary, recorded = judgement.summary, read_run(judgement.run_dir)
    lines = [say_verdict(summary)]
    lines += [f"  {say_gate(gate)}" for gate in summary["gates"] if gate["verdict"] != "pass"]
    if summary["health"]["verdict"] == "invalid" and summary["state"] != "refused":
        lines += [f"  {reason}" for reason in summary["health"]["reasons"]]
    if (detail := (recorded.get("end") or {}).get("detail")) is not None:
        lines.append(f"ended early: {detail}")
    if (refusal := recorded.get("refusal")) is not None:
        lines.append(f"error: {refusal.get('message') or 'no session became ready'}")
        lines += [f"hint: {refusal['hint']}"] if refusal.get("hint") else []
    for line in (*lines, *judgement.notes):
        console.print(_visible(line), markup=False, highlight=False, soft_wrap=True)
    if json:
        _print_json(judgement.summary)
    else:
        _print(os.fsencode(judgement.run_dir))
    raise typer.Exit(judgement.exit_code)


def _print(line: bytes) -> None:
    """Write a line to stdout; a reader that went away is its own business, a full disk is not."""
    try:
        typer.echo(line)
    except OSError as error:
        with suppress(OSError, ValueError):
            # What is left in the buffer would be tried again at the exit, and change the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"cannot write to stdout: {error.strerror}") from error


def _print_json(content: dict[str, Any]) -> None:
    from .reporting.files import json_text

    _print(json_text(content).encode())


if __name__ == "__main__":
    main()
