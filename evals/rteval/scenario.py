"""A scenario file, with what the command line lays over it -> a :class:`Scenario`, or one error that lists every fault.

The keys and their meaning are in :mod:`rteval.scenario_model`, the YAML in :mod:`rteval.scenario_yaml`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .errors import ScenarioError, UsageError
from .scenario_model import (
    DEFAULT_GATE,
    SLO_METRICS,
    Check,
    Conversation,
    DatasetChoice,
    Limits,
    Load,
    Report,
    Scenario,
    Scoring,
    Session,
    Target,
    Timeouts,
    Transcription,
    TurnDetection,
)
from .scenario_rules import contradictions, not_available
from .scenario_secrets import Redactor, literal_secrets, may_be_secret
from .scenario_yaml import (
    Node,
    Origin,
    Path_,
    Problem,
    YamlProblems,
    at,
    core_scalar,
    path_text,
    put,
    read_yaml,
    split_path,
    walk,
)
from .targets import preview_version

__all__ = [
    "DEFAULT_GATE",
    "Check",
    "Conversation",
    "DatasetChoice",
    "Limits",
    "Load",
    "Report",
    "Scenario",
    "Scoring",
    "Session",
    "Target",
    "Timeouts",
    "Transcription",
    "TurnDetection",
    "json_schema",
    "load_scenario",
]

_MOST_BYTES = 1_000_000
_PATHS: tuple[Path_, ...] = (("dataset", "path"), ("target", "ca_file"), ("target", "behaviour"))
_SHORT: dict[Path_, str] = {
    ("dataset",): "path",
    ("session", "turn_detection"): "type",
    ("session", "transcription"): "model",
}
# null in these is a value; in every other key of the format it means "not given".
_NULL_IS_A_VALUE: tuple[Path_, ...] = (("session", "turn_detection"),)
# Below these, keys are the user's own.
_FREE: tuple[Path_, ...] = (
    ("session", "raw"),
    ("session", "tools"),
    ("session", "tool_choice"),
    ("target", "behaviour"),
)


def load_scenario(
    path: str | Path,
    *,
    sets: Sequence[str] = (),
    set_files: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Scenario:
    """Read a scenario file.

    Relative paths in the file start from its folder, those in ``sets`` from the working directory; the scenario that is
    returned holds absolute ones.

    Args:
        path: the YAML file.
        sets: ``PATH=VALUE`` each, split at the first ``=``, VALUE as YAML; laid over the file in order. Missing keys
            are created, lists and mappings are replaced whole.
        set_files: ``PATH=FILE`` each: the file's text becomes the value.
        env: the environment variables; the process's own by default.

    Raises:
        ScenarioError: the message lists every problem with file, line and path.
        UsageError: an entry of ``sets`` or ``set_files`` cannot be read.
    """
    path = Path(path)
    env = os.environ if env is None else env
    origin = Origin(str(path), path.resolve().parent)
    try:
        root, problems = read_yaml(_text_of(path), origin, env)
        _absolute(root)
        for entry in sets:
            problems += _set(root, entry, env)
        for entry in set_files:
            _set_file(root, entry)
        problems += _instructions(root)
    except YamlProblems as error:
        raise _error(path, error.problems) from error
    if not isinstance(root.value, dict):
        raise _error(
            path, [Problem((), "expected a mapping of keys (target, session, dataset, ...)", origin, root.line)]
        )

    problems += literal_secrets(root)
    for where, sentence in list(not_available(root)):
        problems.append(_problem(root, where, sentence))
        _remove(root, where)
    _forget_nulls(root, ())
    if "name" not in root.value:
        root.value["name"] = Node(path.stem, origin)
    scenario, faults = _validated(root)
    problems += faults
    if scenario is not None:
        version = preview_version(scenario.target, env) if scenario.target.dialect == "preview" else None
        problems += (_problem(root, *finding) for finding in contradictions(scenario, api_version=version))
        problems += _unknown_slo(root, scenario)
    if problems or scenario is None:
        raise _error(path, problems)
    scenario._path = path
    scenario._redactor = Redactor.of(root)
    scenario._digests = _digests(scenario)
    scenario._places = {path_text(where): _problem(root, where, "").place for where, _ in walk(root) if where}
    return scenario


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the scenario file: a description and a default for every key.

    A key that is no text may also hold a variable, ``${NAME}``.
    """
    from .scenario_schema import schema

    return schema()


# ---- files and paths ----


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ScenarioError(f"{path}: is larger than {_MOST_BYTES} bytes, which no scenario is")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def _absolute(root: Node) -> None:
    """Make the paths that a freshly read tree names absolute, each from where it was written."""
    short = at(root, ("dataset",))
    for node in (short, *(at(root, path) for path in _PATHS)):
        # A folder may be called 2024, also when its name comes out of a variable.
        written = node.text if node is not None and node.written is not None else node and node.value
        if node is not None and isinstance(written, str) and written:
            node.value = os.path.normpath(node.origin.base / written)


def _set(root: Node, entry: str, env: Mapping[str, str]) -> list[Problem]:
    """Lay one ``--set`` over the tree."""
    where, text = _split(entry, "--set", "VALUE")
    origin = Origin(f"--set {path_text(where)}", Path.cwd(), lines=False)
    value, problems = read_yaml(text, origin, env)
    # Wrapped, so that paths inside it are found at their places.
    wrapped = Node(None, origin)
    put(wrapped, where, value, open_up=_open_up)
    _absolute(wrapped)
    _put(root, where, value, entry)
    return [Problem((*where, *problem.path), problem.sentence, origin) for problem in problems]


def _set_file(root: Node, entry: str) -> None:
    """Lay one ``--set-file`` over the tree."""
    where, file = _split(entry, "--set-file", "FILE")
    origin = Origin(f"--set-file {path_text(where)}", Path.cwd(), lines=False)
    try:
        text = Path(file).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--set-file {entry}: {_why(error)}") from error
    _put(root, where, Node(text, origin), entry)


def _split(entry: str, option: str, value: str) -> tuple[Path_, str]:
    path, equals, text = entry.partition("=")
    try:
        if not equals:
            raise ValueError
        return split_path(path.strip()), text
    except ValueError:
        shown = path if equals else "what was given"
        raise UsageError(f"{option}: expected PATH={value}, e.g. load.sessions=50, and {shown!r} is none") from None


def _put(root: Node, where: Path_, value: Node, entry: str) -> None:
    try:
        put(root, where, value, open_up=_open_up)
    except ValueError as error:
        raise UsageError(f"--set {entry.partition('=')[0]}: {error}") from None


def _open_up(path: Path_, node: Node) -> None:
    """Let a path lead into what was written in its short form: ``dataset: DIR`` becomes ``dataset: {path: DIR}``."""
    if path in _SHORT and isinstance(node.value, str):
        inner = Node(node.value, node.origin, node.line, node.variables, node.written, node.text)
        node.value, node.variables, node.written, node.text = {_SHORT[path]: inner}, (), None, None


def _instructions(root: Node) -> list[Problem]:
    """Put the file's text in the place of ``{file: PATH}``."""
    path = ("session", "instructions")
    node = at(root, path)
    if node is None or not isinstance(node.value, dict):
        return []
    file = node.value.get("file")
    if list(node.value) != ["file"] or file is None or not isinstance(file.value, str):
        node.value = None
        return [_problem(root, path, "expected text, or {file: PATH} and nothing else")]
    try:
        node.value = (file.origin.base / file.value).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        name, node.value = file.value, None
        return [Problem((*path, "file"), f"{name}: {_why(error)}", file.origin, file.line)]
    return []


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (
        "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror or error}"
    )


def _remove(root: Node, path: Path_) -> None:
    parent = at(root, path[:-1])
    if parent is not None and isinstance(parent.value, dict) and isinstance(path[-1], str):
        parent.value.pop(path[-1], None)
    elif parent is not None and isinstance(parent.value, list) and isinstance(path[-1], int):
        # A list keeps its other positions, which messages name.
        parent.value[path[-1]] = Node("", parent.origin, parent.line)


def _forget_nulls(node: Node, path: Path_) -> None:
    """Take out keys that say null: an empty section, or a value that ``--set`` takes back."""
    if not isinstance(node.value, dict) or path in _FREE:
        return
    for key, inner in list(node.value.items()):
        here = (*path, key)
        if inner.value is None and here not in _NULL_IS_A_VALUE:
            del node.value[key]
        else:
            _forget_nulls(inner, here)


def _digests(scenario: Scenario) -> dict[str, str]:
    """Hashes of the files that take part in a run without standing in the scenario."""
    behaviour = scenario.target.behaviour
    if not isinstance(behaviour, str):
        return {}
    try:
        return {"target.behaviour": hashlib.sha256(Path(behaviour).read_bytes()).hexdigest()}
    except OSError:
        return {}


# ---- errors ----


def _error(path: Path, problems: list[Problem]) -> ScenarioError:
    distinct = list(dict.fromkeys(map(str, sorted(problems, key=lambda p: (p.line is None, p.line or 0)))))
    if len(distinct) == 1:
        return ScenarioError(distinct[0])
    return ScenarioError("\n  ".join([f"{path}: {len(distinct)} problems", *distinct]))


def _problem(root: Node, path: Path_, sentence: str) -> Problem:
    """A problem at the place where ``path``, or the nearest part of it that exists, was written."""
    for depth in range(len(path), -1, -1):
        node = at(root, path[:depth])
        if node is not None and (node.line is not None or not node.origin.lines):
            return Problem(path, sentence, node.origin, node.line)
    return Problem(path, sentence, root.origin)


def _validated(root: Node) -> tuple[Scenario | None, list[Problem]]:
    try:
        return Scenario.model_validate(root.plain()), []
    except ValidationError as error:
        faults = error.errors(include_url=False)
    if not _read_otherwise(root, faults):
        return None, list(_sentences(root, faults))
    try:
        return Scenario.model_validate(root.plain()), []
    except ValidationError as error:
        return None, list(_sentences(root, error.errors(include_url=False)))


def _read_otherwise(root: Node, faults: Sequence[Any]) -> bool:
    """Read variables as what their keys want: a deployment may be called 2024, and quotes may be needed round a number.

    Returns:
        Whether there was anything to read otherwise.
    """
    nodes = [at(root, _real(root, fault["loc"])) for fault in faults]
    again = {
        id(node): node for node in nodes if node is not None and node.written is not None and node.text is not None
    }
    for node in again.values():
        assert node.text is not None
        node.value = core_scalar(node.text) if isinstance(node.value, str) else node.text
    return bool(again)


def _real(root: Node, loc: Sequence[str | int]) -> Path_:
    """A location of pydantic without the names of union members, which are no keys."""
    path: Path_ = ()
    for index, step in enumerate(loc):
        if at(root, (*path, step)) is not None or index == len(loc) - 1:
            path = (*path, step)
    return path


_SENTENCES = {
    "int_type": "expected a whole number{got}",
    "int_from_float": "expected a whole number{got}",
    "float_type": "expected a number{got}",
    "bool_type": "expected true or false{got}",
    "string_type": "expected text{got}{quote}",
    "dict_type": "expected a mapping{got}",
    "model_type": "expected a mapping{got}",
    "model_attributes_type": "expected a mapping{got}",
    "tuple_type": "expected a list{got}",
    "list_type": "expected a list{got}",
    "greater_than": "must be greater than {gt:g}{got}",
    "greater_than_equal": "must be at least {ge:g}{got}",
    "less_than": "must be less than {lt:g}{got}",
    "less_than_equal": "must be at most {le:g}{got}",
    "finite_number": "must be a finite number{got}",
    "too_short": "must not be empty",
    "too_long": "has too many entries",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-' (it names a folder){got}",
}


def _sentences(root: Node, faults: Sequence[Any]) -> Iterator[Problem]:
    for fault in faults:
        path, kind = _real(root, fault["loc"]), fault["type"]
        context = fault.get("ctx", {})
        node = at(root, path)
        if node is None and kind not in ("missing", "extra_forbidden"):
            path = path[:-1]  # the place that a short form stands for
            node = at(root, path)
        got = f", got {_shown(path, node)}" if node is not None else ""
        if kind == "missing":
            sentence = f"is required: {_about(path)}"
        elif kind == "extra_forbidden":
            sentence = _unknown(path)
        elif kind == "literal_error":
            choices = _choices(context["expected"])
            sentence = f"must be {_listed(choices)}{got}{_meant(node.value if node else None, choices)}"
        elif kind == "expected":
            sentence = f"{fault['msg']}{got}" if fault["msg"].startswith("expected") else fault["msg"]
        elif kind in _SENTENCES:
            quote = "; put it in quotes" if node is not None and isinstance(node.value, int | float) else ""
            sentence = _SENTENCES[kind].format(got=got, quote=quote, **context)
        else:
            sentence = str(fault["msg"])
        yield _problem(root, path, sentence)


def _shown(path: Path_, node: Node) -> str:
    """A value for a message; never one that came from the environment or may be a secret."""
    if may_be_secret(path):
        return "something else"
    if node.variables and node.written is not None:
        return f"the value of {', '.join(f'${{{name}}}' for name, _ in node.variables)}"
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if isinstance(node.value, str):
        return f"the text {node.value[:60]!r}"
    return (
        {True: "true", False: "false", None: "null"}[node.value]
        if isinstance(node.value, bool | None)
        else repr(node.value)
    )


def _choices(expected: str) -> list[str]:
    """The values in pydantic's own list of them, ``'a', 'b' or 'c'``."""
    return re.findall(r"'([^']*)'", expected) or [expected]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def _meant(value: Any, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _model_at(path: Path_) -> type[BaseModel] | None:
    """The model that describes the mapping at ``path``."""
    model: type[BaseModel] | None = Scenario
    mapping = False  # inside dict[str, Model], where one step is the user's own name
    for step in path:
        if mapping:
            mapping = False
            continue
        if model is None or not isinstance(step, str) or step not in model.model_fields:
            return None
        annotation = model.model_fields[step].annotation
        mapping = getattr(annotation, "__origin__", None) is dict
        model = next(
            (part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)), None
        )
    return None if mapping else model


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _about(path: Path_) -> str:
    model = _model_at(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model else None
    return (field.description or "no default").rstrip(".") if field else "there is no default"


def _unknown(path: Path_) -> str:
    """What to say of a key that is not known: the nearest one here, or the section that it belongs to."""
    key, model = str(path[-1]), _model_at(path[:-1])
    here = list(model.model_fields) if model else []
    near = difflib.get_close_matches(key, here, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    elsewhere = [place for place in _all_keys(Scenario, ()) if place[-1] == key]
    if elsewhere:
        return f"unknown key here; did you mean {path_text(elsewhere[0])}?"
    hint = "; a setting without a name of its own goes through session.raw" if path[:1] == ("session",) else ""
    return f"unknown key; the keys here are {', '.join(here)}{hint}"


def _all_keys(model: type[BaseModel], path: Path_) -> Iterator[Path_]:
    for name in model.model_fields:
        yield (*path, name)
    for name in model.model_fields:
        inner = _model_at((*path, name))
        if inner is not None:
            yield from _all_keys(inner, (*path, name))


def _unknown_slo(root: Node, scenario: Scenario) -> Iterator[Problem]:
    for metric in scenario.slo:
        if metric not in SLO_METRICS:
            near = difflib.get_close_matches(metric, SLO_METRICS, n=1) or [", ".join(SLO_METRICS)]
            yield _problem(root, ("slo", metric), f"is nothing measured of a turn; did you mean {near[0]}?")
