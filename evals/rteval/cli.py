"""The front door: parses, calls, prints, exits. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .errors import RtevalError, UsageError
from .redact import redact

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from .judge import Judgement
    from .prepare import Prepared

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
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run folder, a run id, `latest` (the last run of any scenario), or SCENARIO/latest (of that one).",
    ),
]
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

    with _our_errors(json, announced=True):
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
        _finish(run_scenario(scenario, options, console), console, json, announced=True)


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
    out: Out = Path("reports"),
    json: Json = False,
) -> None:
    """Say what a scenario would run, or what is wrong with it.

    Checks the scenario, its dataset and its gates, and connects to nothing. Gates that the planned number of turns, or
    the baseline, cannot decide are refused.

    \b
    Examples:
      rteval check scenarios/support.yaml
      rteval check scenarios/azure.yaml --set load.sessions=50 --json
    """
    from .prepare import RunOptions, prepare

    with _our_errors(json):
        options = RunOptions(sets=tuple(sets or ()), set_files=tuple(set_files or ()), out=out, limit=limit)
        prepared = prepare(scenario, options)
        refused = prepared.refused_gates
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
            "variants": [
                {"name": variant.name, "axes": dict(variant.axes), "target": variant.address.described()}
                for variant in prepared.named_variants
            ],
            "endless": plan.endless,
            "asked": [list(point) for point in plan.asked],
            "estimated_s": round(plan.duration_s, 1),
            "gates": [gate.as_written() for gate in prepared.gates],
            "undecidable_gates": prepared.doubtful_gates,
            "doubts": list(plan.doubts) + prepared.missing_keys,
            "notes": list(dataset.notes) + prepared.scorer_obstacles,
        }
        if json:
            _print_json(facts)
            raise typer.Exit(2 if refused else 0)
        lines = [
            f"{facts['scenario']}: the scenario is valid"
            + (f", but {len(refused)} of its gates cannot be decided" if refused else ""),
            f"  target    {facts['target']}",
            f"  dataset   {facts['items']} items, {facts['references']} with a reference, in {facts['dataset']}",
            f"  load      {prepared.in_words}; {plan.audio_s / 60:.1f} min of audio",
        ]
        lines += _variant_lines(prepared)
        lines += [f"  gate      {gate}" for gate in prepared.gates or ["none: the run cannot fail on what it measures"]]
        lines += [
            f"  {'error  ' if doubt in refused else 'warning'}   this gate cannot be decided: {doubt}"
            for doubt in prepared.doubtful_gates
        ]
        lines += [f"  warning   {doubt}" for doubt in facts["doubts"]]
        lines += [f"  note      {note}" for note in (*dataset.notes, *prepared.scorer_obstacles)]
        for line in lines:
            _print(_visible(line).encode())
        raise typer.Exit(2 if refused else 0)


def _variant_lines(prepared: Prepared) -> Iterator[str]:
    """Each variant with its share of the turns, and with its target where these differ."""
    variants, turns = prepared.named_variants, prepared.plan.turns
    targets = {variant.address.described() for variant in variants}
    for variant in variants:
        said = [f"{turns // len(variants)} turns"] if turns is not None else []
        said += [variant.address.described()] if len(targets) > 1 else []
        yield f"  variant   {variant.name}" + (f": {', '.join(said)}" if said else "")


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
def score(
    run_name: RunName,
    scenario: Annotated[
        Path | None,
        typer.Option(
            "--scenario",
            metavar="SCENARIO",
            envvar="RTEVAL_SCORE_SCENARIO",
            help="Judge the run by this scenario: its scoring, gates and slo take the place of the run's.",
        ),
    ] = None,
    sets: Sets = None,
    set_files: SetFiles = None,
    out: Out = Path("reports"),
    json: Json = False,
) -> None:
    """Score a run again.

    Works without the target, with the scorers of this version of rteval; scorers that ask another service (judge) ask
    what they have not asked before. The gates are then judged again. Without --scenario, gates, checks and scorers are
    those of the scenario when it ran; references and expectations are always those of the dataset when it ran.

    \b
    Examples:
      rteval score latest
      rteval score support/latest --json
      rteval score latest --scenario scenarios/with-judge.yaml
    """
    from .reporting.files import find_run
    from .rescore import rescore

    with _our_errors(json):
        if scenario is None and (sets or set_files):
            raise UsageError("--set and --set-file change a scenario", hint="name it with --scenario")
        console = _console()
        judgement = rescore(
            find_run(run_name, out),
            scenario,
            sets=tuple(sets or ()),
            set_files=tuple(set_files or ()),
            say=lambda sentence: console.print(_visible(sentence), markup=False, highlight=False, soft_wrap=True),
        )
        _finish(judgement, console, json)


@app.command()
def history(
    scenario: Annotated[
        str | None,
        typer.Argument(metavar="SCENARIO", help="Name of a scenario, or its file; default: all of them."),
    ] = None,
    out: Out = Path("reports"),
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="METRIC[.STAT]",
            envvar="RTEVAL_METRIC",
            help="What to show, e.g. ttfa_ms.p95 or input_wer; default: what the gates are about, and the headline "
            "metrics. May be repeated.",
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option("--last", min=1, envvar="RTEVAL_LAST", help="Only so many of the newest runs of each scenario."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", envvar="RTEVAL_HTML", help="Write charts as one page that works offline."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show all runs of a scenario side by side.

    What each run measured, with its 95 % interval, its gates and its verdict, oldest first. Works without the target.

    \b
    Examples:
      rteval history
      rteval history support --metric ttfa_ms.p95 --metric input_wer
      rteval history scenarios/azure.yaml --last 30 --html reports/trend.html
      rteval history support --json
    """
    from .history import read_history

    with _our_errors(json):
        found = read_history(out, scenario, metric or (), last=last).as_dict()
        if html is not None:
            from .reporting.html.history import write_history

            write_history(html, found)
            typer.echo(_visible(f"wrote {html}"), err=True)
        if json:
            _print_json(found)
            return
        from .reporting.history_text import history_tables

        _print_tables(lambda console: history_tables(found, blocks=console.encoding.lower().startswith("utf")))


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


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, run ids, `latest` (the last run of any scenario), SCENARIO/latest (of that one) or "
            "baseline files; the first is the base.",
        ),
    ],
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="AXIS",
            envvar="RTEVAL_BY",
            help="Compare the parts of one run: variant, an axis of its matrix, tag, or a column of the dataset.",
        ),
    ] = None,
    slack: Annotated[
        list[str] | None,
        typer.Option(
            "--slack",
            metavar="METRIC=VALUE",
            envvar="RTEVAL_SLACK",
            help="A difference that does not matter, e.g. ttfa_ms=50, v2v_ms.p95=5%, input_wer=0.02; default: 5% of a "
            "time, 0.01 of a rate. May be repeated.",
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", envvar="RTEVAL_MARKDOWN", help="Write the tables as Markdown."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            envvar="RTEVAL_HTML",
            help="Write one page with both distributions and the items that changed.",
        ),
    ] = None,
    out: Out = Path("reports"),
    json: Json = False,
) -> None:
    """Compare runs, or the variants of one run.

    Paired by item where the same items were run. Each metric is better, same, worse, or it cannot be told. Works
    without the target. Exits 1 when any metric is worse, 2 when a comparison would mean nothing.

    \b
    Examples:
      rteval compare support/20260102-030405-ab12 support/latest
      rteval compare baselines/support.json latest --slack ttfa_ms=50 --html compare.html
      rteval compare latest --by variant --markdown compare.md
    """
    from .comparison import as_dict, compare_runs, parse_slacks

    with _our_errors(json):
        found = compare_runs(runs, out, by=by, slacks=parse_slacks(slack or ()))
        if markdown is not None:
            from .reporting.compare_text import compare_markdown
            from .reporting.files import write_text

            write_text(markdown, compare_markdown(found))
        if html is not None:
            from .reporting.html.compare import write_compare

            write_compare(html, found)
        for path in filter(None, (markdown, html)):
            typer.echo(_visible(f"wrote {path}"), err=True)
        content = as_dict(found)
        if json:
            _print_json(content)
        else:
            from .reporting.compare_text import compare_tables

            _print_tables(lambda console: compare_tables(found, console.width))
        raise typer.Exit(content["exit_code"])


baseline = typer.Typer(
    name="baseline", no_args_is_help=True, rich_markup_mode=None, help="Keep what later runs are held against."
)
app.add_typer(baseline)


@baseline.command("save")
def baseline_save(
    run_name: RunName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What is written, e.g. baselines/support.json.")],
    out: Out = Path("reports"),
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            envvar="RTEVAL_FORCE",
            help="Also of a run that is partial or invalid, and over a file that is no baseline.",
        ),
    ] = False,
) -> None:
    """Write what comparisons need of a run to a small file.

    It holds the samples of the headline metrics by item and session, hashes and versions, and no transcript: fit to
    be committed. A scenario names it with `baseline: {file: FILE}`, and gates say `ttfa_ms.p95 < baseline * 1.10`.

    \b
    Examples:
      rteval baseline save latest baselines/support.json
      rteval baseline save support/20260102-030405-ab12 baselines/support.json
    """
    from .baseline import save_baseline

    with _our_errors():
        size = save_baseline(run_name, file, out, force=force)
        typer.echo(f"{size / 1000:.1f} kB", err=True)
        _print(os.fsencode(file))


@app.command()
def calibrate(
    scenario: ScenarioFile,
    repeats: Annotated[
        int, typer.Option("--repeats", min=3, max=100, envvar="RTEVAL_REPEATS", help="How often it is run.")
    ] = 5,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            envvar="RTEVAL_WRITE",
            help="The copy, in the scenario's folder; default: NAME.calibrated.yaml.",
        ),
    ] = None,
    out: Out = Path("reports"),
    limit: Limit = None,
    sets: Sets = None,
    set_files: SetFiles = None,
    force: Annotated[
        bool, typer.Option("--force", envvar="RTEVAL_FORCE", help="Write over a copy that is there.")
    ] = False,
    json: Json = False,
    no_progress: Quiet = False,
) -> None:
    """Propose gates from the spread of repeated runs.

    Runs the scenario several times without gates, and writes a copy with gates that a night without a change would
    miss once in a hundred, with a comment that says where they come from. Costs as much as so many runs.

    \b
    Examples:
      rteval calibrate scenarios/support.yaml --repeats 5
      rteval calibrate scenarios/azure.yaml --repeats 7 --write scenarios/azure.gated.yaml
    """
    from .calibrate import calibrate as propose
    from .prepare import RunOptions

    with _our_errors(json):
        options = RunOptions(
            sets=tuple(sets or ()), set_files=tuple(set_files or ()), out=out, limit=limit, progress=not no_progress
        )
        console = _console()
        found = propose(scenario, options, console, repeats=repeats, write=write, force=force)
        for line in found.lines:
            console.print(_visible(line), markup=False, highlight=False, soft_wrap=True)
        if json:
            _print_json(found.as_dict())
        else:
            _print(os.fsencode(found.path))


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
def _our_errors(json: bool = False, *, announced: bool = False) -> Iterator[None]:
    try:
        yield
    except RtevalError as error:
        if json:
            _print_json({"error": str(error), "hint": error.hint, "exit_code": error.exit_code})
        _say_error(error)
        if announced:
            _announce_error(f"{error} ({error.hint})" if error.hint else str(error))
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except Exception as error:
        if json:
            _print_json({"error": f"{type(error).__name__}: {error}", "hint": None, "exit_code": RtevalError.exit_code})
        if announced:
            _announce_error(f"Look at rteval itself: a bug ended the run ({type(error).__name__})")
        raise


def _announce_error(sentence: str) -> None:
    from .reporting.ci import announce_error

    for line in announce_error(sentence, os.environ):
        typer.echo(line, err=True)


def _say_error(error: RtevalError) -> None:
    typer.echo(_visible(f"error: {error}"), err=True)
    if error.hint:
        typer.echo(_visible(f"hint: {error.hint}"), err=True)


def _visible(text: str) -> str:
    """Text for a terminal: what a server, a file or an option brought in must not command it."""
    text = "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter)[0] == "C" and letter != "\n"
        else letter
        for letter in text
    )
    return _CI_COMMAND.sub(r"\g<0> ", text)


# Nor must it command a CI service, which reads its commands from both streams: Azure Pipelines takes ##vso[ and GitHub
# ##[ for one anywhere in a line, GitHub :: at its start.
_CI_COMMAND = re.compile(r"##(?=(?:vso)?\[)|^\s*:(?=:)", re.IGNORECASE | re.MULTILINE)


def _console() -> Console:
    from rich.console import Console

    class Stderr(Console):
        """Rich's ends the process, in the middle of a run, when nobody reads its progress any more."""

        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    return Stderr(stderr=True)


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


def _finish(judgement: Judgement, console: Console, json: bool, *, announced: bool = False) -> None:
    """Say the verdict, print what programs read, and exit as the run ended."""
    from .reporting.files import read_run
    from .reporting.load import incidents_of
    from .reporting.words import say_culprit, say_gate, say_verdict

    summary, recorded = judgement.summary, read_run(judgement.run_dir)
    lines = [say_verdict(summary), *filter(None, [say_culprit(summary)])]
    lines += [f"  {say_gate(gate)}" for gate in summary["gates"] if gate["verdict"] != "pass"]
    if summary["health"]["verdict"] == "invalid" and summary["state"] != "refused":
        lines += [f"  {reason}" for reason in summary["health"]["reasons"]]
    if (detail := (recorded.get("end") or {}).get("detail")) is not None:
        lines.append(f"ended early: {detail}")
    lines += incidents_of(recorded)
    if (refusal := recorded.get("refusal")) is not None:
        lines.append(f"error: {refusal.get('message') or 'no session became ready'}")
        lines += [f"hint: {refusal['hint']}"] if refusal.get("hint") else []
    for line in (*lines, *judgement.notes):
        console.print(_visible(line), markup=False, highlight=False, soft_wrap=True)
    if announced:
        from .reporting.ci import announce

        for command in announce(recorded, summary, judgement.run_dir, os.environ):
            typer.echo(command, err=True)
    if json:
        _print_json(judgement.summary)
    else:
        _print(os.fsencode(judgement.run_dir))
    raise typer.Exit(judgement.exit_code)


def _print_tables(parts: Callable[[Console], Iterable[RenderableType]]) -> None:
    """Write tables to stdout, as wide as it is."""
    from rich.console import Console

    page = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding, errors="backslashreplace")
    on_terminal = sys.stdout.isatty()
    # A pipe or a log has no width; what is cut off there cannot be scrolled to.
    width = None if on_terminal or "COLUMNS" in os.environ else 200
    console = Console(file=page, force_terminal=on_terminal, width=width, highlight=False)
    for part in parts(console):
        console.print(part)
    page.flush()
    _print(page.detach().getvalue().rstrip())


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

    # The same JSON, in which no CI service finds a command.
    _print(json_text(content).replace("##", "\\u0023#").encode())


if __name__ == "__main__":
    main()
