"""A scenario file, with what the command line lays over it -> a :class:`Scenario`, or one error that lists every fault.

The keys and their meaning are in :mod:`rteval.scenario_model`, the YAML in :mod:`rteval.scenario_yaml`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .errors import ScenarioError, UsageError
from .scenario_matrix import combinations, merged, tidy_matrix
from .scenario_model import (
    DEFAULT_GATE,
    SLO_METRICS,
    BaselineChoice,
    Check,
    Conversation,
    DatasetChoice,
    GateRule,
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
    Variant,
)
from .scenario_rules import contradictions, not_available
from .scenario_secrets import Redactor, literal_secrets, may_be_secret
from .scenario_yaml import (
    MAX_DEPTH,
    Node,
    Origin,
    Path_,
    Problem,
    YamlProblems,
    at,
    core_scalar,
    interpolated,
    path_text,
    plain_tree,
    put,
    read_yaml,
    split_path,
    walk,
)
from .targets import preview_version

__all__ = [
    "DEFAULT_GATE",
    "BaselineChoice",
    "Check",
    "Conversation",
    "DatasetChoice",
    "GateRule",
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
    "Variant",
    "json_schema",
    "load_scenario",
    "scenario_from_portable",
]

_MOST_BYTES = 1_000_000
_PATHS: tuple[Path_, ...] = (("dataset", "path"), ("target", "ca_file"), ("target", "behaviour"), ("baseline", "file"))
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
    ("scoring", "scorers"),
    ("matrix",),
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
    root, problems = _tree(path, sets, set_files, env)
    problems += literal_secrets(root)
    for where, sentence in list(not_available(root)):
        problems.append(_problem(root, where, sentence))
        _remove(root, where)
    root.value.setdefault("name", Node(path.stem, root.origin))
    scenario = _checked(root, problems, env, path)
    for one in (scenario, *(variant.scenario for variant in scenario.variants)):
        one._path = path
    return scenario


def scenario_from_portable(
    data: Any,
    *,
    env: Mapping[str, str] | None = None,
    dataset_path: Path | None = None,
    where: str = "the master",
) -> Scenario:
    """A scenario that another process sent, with the secrets of this one.

    Args:
        data: what :meth:`Scenario.portable` made; whatever else it is, is refused.
        env: the environment variables; the process's own by default.
        dataset_path: the dataset's folder here, when it is another one.
        where: who sent it, for messages.

    Raises:
        ScenarioError: a variable is not set here, a file is not there, or this is no scenario; the message lists every
            problem.
    """
    env = os.environ if env is None else env
    origin = Origin(where, Path.cwd(), lines=False)
    problems: list[Problem] = []
    try:
        root = plain_tree(data["scenario"], origin)
        if not isinstance(root.value, dict):
            raise ValueError("it is no mapping")
        for path, text, is_text in _references(data["variables"]):
            node, faults = interpolated(text, path, origin, env, as_text=is_text)
            problems += faults
            put(root, path, node, open_up=_open_up)
        if dataset_path is not None:
            put(root, ("dataset", "path"), Node(os.path.abspath(dataset_path), origin), open_up=_open_up)
            problems = [problem for problem in problems if problem.path != ("dataset", "path")]
        settled = root.value.pop("settled", None)
    except (KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"{where}: what was sent is no scenario: {error}") from None
    _absolute(root, root)
    problems += _tidied_matrix(root, problems)
    return _checked(root, problems, env, where, settled)


def _references(entries: Any) -> Iterator[tuple[Path_, str, bool]]:
    for path, text, is_text in entries:
        known = all(isinstance(step, str | int) for step in path) and 0 < len(path) <= MAX_DEPTH
        if not (known and isinstance(text, str) and isinstance(is_text, bool)):
            raise ValueError("a variable has no place")
        yield tuple(path), text, is_text


def _checked(
    root: Node, problems: list[Problem], env: Mapping[str, str], source: Path | str, settled: Node | None = None
) -> Scenario:
    """The scenario that a tree stands for, and its variants, if there is nothing wrong with any.

    Args:
        root: the tree; its matrix is tidy.
        problems: what is known to be wrong.
        env: the environment variables.
        source: who sent it or where it was read.
        settled: keys of the target that are not looked up here, by variant.
    """
    _forget_nulls(root, ())
    matrix = combinations(root)
    # Keys contradict one another in what is run: with a matrix that is each variant, and not what it is laid over.
    is_run = not matrix and not any(problem.path[:1] == ("matrix",) for problem in problems)
    scenario, faults = _sound(root, problems, env, together=is_run)
    variants: list[Variant] = []
    found = []
    for one in matrix:
        tree, wrong = one.laid_over(root, _open_up)
        for key, node in _settled(settled, one.name):
            put(tree, ("target", key), node, open_up=_open_up)
        _forget_nulls(tree, ())
        variant, more = _sound(tree, wrong, env)
        found.append((one, [*wrong, *more]))
        if variant is not None and not more:
            aliases = {path_text(overlay.path): path_text(overlay.place) for overlay in one.overlays}
            variants.append(Variant(one.name, one.axes, _known(variant, tree, aliases)))
    problems = [*problems, *_untold(problems, merged(found))]
    if not matrix or not problems:
        problems += faults
    if problems or scenario is None:
        raise _error(source, problems)
    scenario = _known(scenario, root)
    scenario._variants = tuple(variants)
    return scenario


def _sound(
    root: Node, told: Sequence[Problem], env: Mapping[str, str], *, together: bool = True
) -> tuple[Scenario | None, list[Problem]]:
    """The scenario that a tree stands for, and what is wrong with it; ``together``: also what its keys say together."""
    scenario, problems = _validated(root)
    problems = _untold(told, problems)
    if scenario is not None and together:
        version = preview_version(scenario.target, env) if scenario.target.dialect == "preview" else None
        findings = [*contradictions(scenario, api_version=version), *_unknown_slo(scenario)]
        problems += _untold([*told, *problems], [_problem(root, *finding) for finding in findings])
    return scenario, problems


def _known(scenario: Scenario, root: Node, aliases: Mapping[str, str] | None = None) -> Scenario:
    """The scenario with what only its tree knows: where each value was written, and which of them are secret."""
    for short in _SHORT:
        if (node := at(root, short)) is not None:
            _open_up(short, node)
    scenario._redactor = Redactor.of(root)
    scenario._places = {path_text(where): _problem(root, where, "").place for where, _ in walk(root) if where}
    scenario._aliases = dict(aliases or {})
    scenario._digests = _digests(scenario)
    return scenario


def _settled(settled: Node | None, variant: str) -> Iterator[tuple[str, Node]]:
    keys = at(settled, (variant,)) if settled is not None else None
    if keys is not None and isinstance(keys.value, dict):
        yield from keys.value.items()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the scenario file: a description and a default for every key.

    A key that is no text may also hold a variable, ``${NAME}``.
    """
    from .scenario_schema import schema

    return schema()


# ---- files and paths ----


def _tree(
    path: Path, sets: Sequence[str], set_files: Sequence[str], env: Mapping[str, str]
) -> tuple[Node, list[Problem]]:
    """The file with everything laid over it, a mapping for certain, and what was wrong in reading it."""
    try:
        origin = Origin(str(path), path.resolve().parent)
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError before Python 3.13
        raise ScenarioError(f"{path}: cannot be read: {_why_not(error)}") from error
    try:
        root, problems = read_yaml(_text_of(path), origin, env)
        if not isinstance(root.value, dict):
            sentence = "expected a mapping of keys (target, session, dataset, ...)"
            raise YamlProblems([Problem((), sentence, origin, root.line)])
        _absolute(root, root)
        for entry in sets:
            problems += _set(root, entry, env)
        for entry in set_files:
            _set_file(root, entry)
        problems += _instructions(root, problems, ("session", "instructions"))
        problems += _scorer_files(root)
        problems += _tidied_matrix(root, problems)
    except YamlProblems as error:
        raise _error(path, error.problems) from error
    return root, problems


def _text_of(path: Path) -> str:
    try:
        return _short_text(path)
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except FileNotFoundError as error:
        raise ScenarioError(f"{path}: {_why(error)}", hint=_nearest_file(path)) from error
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: {_why(error)}") from error


def _nearest_file(path: Path) -> str:
    siblings: list[str] = []
    with suppress(OSError):
        siblings = [file.name for file in path.parent.glob("*.y*ml") if file.is_file()]
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else "'rteval init' writes a scenario to start from"


def _short_text(path: Path) -> str:
    """The text of a file that may also be a pipe or a device without end."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    return data.decode("utf-8-sig")


def _absolute(root: Node, fresh: Node) -> None:
    """Make the paths that ``fresh``, a part of the tree, brought along absolute, each from where it was written."""
    brought = {id(node) for _, node in walk(fresh)}
    for node in (at(root, path) for path in (("dataset",), *_PATHS)):
        if node is None or id(node) not in brought:
            continue
        # A folder may be called 2024, also when its name comes out of a variable.
        written = node.text if node.written is not None else node.value
        if isinstance(written, str) and written:
            node.value = os.path.normpath(node.origin.base / written)


def _set(root: Node, entry: str, env: Mapping[str, str]) -> list[Problem]:
    """Lay one ``--set`` over the tree."""
    where, text = _split(entry, "--set", "VALUE")
    origin = Origin(f"--set {path_text(where)}", Path.cwd(), lines=False)
    value, problems = read_yaml(text, origin, env)
    _put(root, where, value, f"--set {entry}")
    _absolute(root, value)
    return [Problem((*where, *problem.path), problem.sentence, origin) for problem in problems]


def _set_file(root: Node, entry: str) -> None:
    """Lay one ``--set-file`` over the tree."""
    where, file = _split(entry, "--set-file", "FILE")
    origin = Origin(f"--set-file {path_text(where)}", Path.cwd(), lines=False)
    try:
        text = _short_text(Path(file))
    except (OSError, ValueError) as error:
        raise UsageError(f"--set-file {entry}: {_why(error)}") from error
    value = Node(text, origin)
    _put(root, where, value, f"--set-file {entry}")
    _absolute(root, value)


def _split(entry: str, option: str, value: str) -> tuple[Path_, str]:
    path, equals, text = entry.partition("=")
    try:
        if not equals:
            raise ValueError
        return split_path(path.strip()), text
    except ValueError:
        shown = repr(path[:100]) if equals else "what was given"
        example = "load.sessions=50" if value == "VALUE" else "session.instructions=prompt.md"
        raise UsageError(f"{option}: expected PATH={value}, e.g. {example}, and {shown} is none") from None


def _put(root: Node, where: Path_, value: Node, entry: str) -> None:
    try:
        put(root, where, value, open_up=_open_up)
    except ValueError as error:
        raise UsageError(f"{entry.partition('=')[0]}: {error}") from None


def _open_up(path: Path_, node: Node) -> None:
    """Let a path lead into what was written in its short form: ``dataset: DIR`` becomes ``dataset: {path: DIR}``."""
    if path in _SHORT and isinstance(node.value, str):
        inner = Node(node.value, node.origin, node.line, node.variables, node.written, node.text)
        node.value, node.variables, node.written, node.text = {_SHORT[path]: inner}, (), None, None


def _tidied_matrix(root: Node, told: Sequence[Problem]) -> list[Problem]:
    """Bring the matrix into its one form: keys as paths, texts in the places of files, paths absolute."""
    problems = tidy_matrix(root)
    for overlay in {overlay.place: overlay for one in combinations(root) for overlay in one.overlays}.values():
        if overlay.path == ("session", "instructions"):
            problems += _instructions(root, told, overlay.place)
        elif overlay.path in _PATHS and isinstance(overlay.node.value, str):
            overlay.node.value = os.path.normpath(overlay.node.origin.base / overlay.node.value)
    return problems


def _instructions(root: Node, told: Sequence[Problem], path: Path_) -> list[Problem]:
    """Put the file's text in the place of ``{file: PATH}``."""
    node = at(root, path)
    if node is None or not isinstance(node.value, dict):
        return []
    if any(problem.path == (*path, "file") for problem in told):
        node.value = None
        return []
    file = node.value.get("file")
    if list(node.value) != ["file"] or file is None or not isinstance(file.value, str):
        node.value = None
        return [_problem(root, path, "expected text, or {file: PATH} and nothing else")]
    try:
        node.value = _short_text(file.origin.base / file.value)
    except (OSError, ValueError) as error:
        name, node.value = file.value, None
        return [Problem((*path, "file"), f"{name}: {_why(error)}", file.origin, file.line)]
    return []


def _scorer_files(root: Node) -> list[Problem]:
    """Read the options of scorers: ``{file: PATH}`` is the text of a file, ``{path: PATH}`` its absolute path."""
    problems: list[Problem] = []
    scorers = at(root, ("scoring", "scorers"))
    for where, node in list(walk(scorers)) if scorers is not None else []:
        only = next(iter(node.value.items())) if isinstance(node.value, dict) and len(node.value) == 1 else None
        if len(where) < 2 or only is None or only[0] not in ("file", "path") or not isinstance(only[1].value, str):
            continue
        kind, file = only
        if kind == "path":
            node.value = os.path.normpath(file.origin.base / file.value)
            continue
        try:
            node.value = _short_text(file.origin.base / file.value)
        except (OSError, ValueError) as error:
            node.value = None
            path = ("scoring", "scorers", *where, "file")
            problems.append(Problem(path, f"{file.value}: {_why(error)}", file.origin, file.line))
    return problems


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    return f"cannot be read: {_why_not(error)}"


def _why_not(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _remove(root: Node, path: Path_) -> None:
    parent, last = at(root, path[:-1]), path[-1]
    assert parent is not None
    if isinstance(last, int):
        # A list keeps its other positions, which messages name.
        parent.value[last] = Node("", parent.origin, parent.line)
    else:
        del parent.value[last]


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
    except OSError as error:
        raise ScenarioError(f"{scenario.where('target.behaviour')}: {_why(error)}") from error


# ---- errors ----


def _error(source: Path | str, problems: list[Problem]) -> ScenarioError:
    # In the order of the file, then those of the command line.
    problems = sorted(problems, key=lambda p: (p.line or 0) if p.origin and p.origin.lines else sys.maxsize)
    distinct = list(dict.fromkeys(map(str, problems)))
    if len(distinct) == 1:
        return ScenarioError(distinct[0])
    return ScenarioError("\n  ".join([f"{source}: {len(distinct)} problems", *distinct]))


def _untold(told: Sequence[Problem], more: Sequence[Problem]) -> list[Problem]:
    """Those of ``more`` at places of which nothing was told yet: they may only be its consequence."""
    places = {problem.path for problem in told}
    return [problem for problem in more if problem.path not in places]


def _problem(root: Node, path: Path_, sentence: str) -> Problem:
    """A problem at the place where ``path``, or the nearest part of it that exists, was written."""
    for depth in range(len(path), 0, -1):
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
    nodes = [at(root, fault["loc"]) for fault in faults]
    again = {
        id(node): node for node in nodes if node is not None and node.written is not None and node.text is not None
    }
    for node in again.values():
        assert node.text is not None
        node.value = core_scalar(node.text) if isinstance(node.value, str) else node.text
    return bool(again)


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
    "greater_than": "must be greater than {gt:.10g}{got}",
    "greater_than_equal": "must be at least {ge:.10g}{got}",
    "less_than": "must be less than {lt:.10g}{got}",
    "less_than_equal": "must be at most {le:.10g}{got}",
    "finite_number": "must be a finite number{got}",
    "too_short": "must not be empty",
    "too_long": "has too many entries",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-' (it names a folder){got}",
}


def _sentences(root: Node, faults: Sequence[Any]) -> Iterator[Problem]:
    for fault in faults:
        path, kind = fault["loc"], fault["type"]
        below = (other["loc"] for other in faults if len(other["loc"]) > len(fault["loc"]))
        if kind == "too_short" and any(loc[: len(fault["loc"])] == fault["loc"] for loc in below):
            continue  # wrong entries were not counted
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
        else:
            quote = "; put it in quotes" if node is not None and isinstance(node.value, int | float) else ""
            template = _SENTENCES.get(kind)
            sentence = template.format(got=got, quote=quote, **context) if template else str(fault["msg"])
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


@cache
def _sections() -> dict[Path_, type[BaseModel]]:
    """The model of every mapping of the format, by its path; ``*`` is a name of the user's own, or a position."""
    found: dict[Path_, type[BaseModel]] = {}

    def look(model: type[BaseModel], path: Path_) -> None:
        found[path] = model
        for name, field in model.model_fields.items():
            many = getattr(field.annotation, "__origin__", None) in (dict, tuple)
            step = (name, "*") if many else (name,)
            for part in _parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    look(part, (*path, *step))

    look(Scenario, ())
    return found


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _model_at(path: Path_) -> type[BaseModel] | None:
    """The model that describes the mapping at ``path``."""
    return _sections().get(path) or _sections().get((*path[:-1], "*"))


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
    elsewhere = [section for section, other in _sections().items() if key in other.model_fields and "*" not in section]
    if elsewhere:
        return f"unknown key here; did you mean {path_text((*elsewhere[0], key))}?"
    hint = "; a setting without a name of its own goes through session.raw" if path[:1] == ("session",) else ""
    return f"unknown key; the keys here are {', '.join(here)}{hint}"


def _unknown_slo(scenario: Scenario) -> Iterator[tuple[Path_, str]]:
    for metric in scenario.slo:
        if metric not in SLO_METRICS:
            near = difflib.get_close_matches(metric, SLO_METRICS, n=1) or [", ".join(SLO_METRICS)]
            yield ("slo", metric), f"is nothing measured of a turn; did you mean {near[0]}?"
