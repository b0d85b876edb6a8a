"""The ``matrix`` of a scenario as a tree: what it may lay over the scenario, and the variants that this makes.

Each axis has options, each option names keys and the values that they have with it. Every combination of options, one
of each axis, is a variant: the scenario with these values laid over it, as ``--set`` would.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .scenario_yaml import Node, Path_, Problem, at, copied, path_text, put, split_path

__all__ = ["MOST_VARIANTS", "Combination", "Overlay", "combinations", "merged", "tidy_matrix"]

MOST_VARIANTS = 64
"""Variants of one run. Each is given every item: with more, none would get far, and nobody would read the table."""

LONGEST_NAME = 200

_ROOT = "matrix"
_SECTIONS = ("session", "target", "conversation")
_AXIS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}\Z")
_OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,59}\Z")

_TAKEN = ("attempt", "conversation_id", "hour", "item", "session", "tag", "tags", "turn", "variant", "worker")
"""What every run is divided by already, so that `--by` and `where` could not mean an axis of that name."""

_ITEMS = "all variants are given the same items, or they could not be compared item by item"
_LOAD = "variants run side by side under one load; another load is another run"
_MEASURE = "all variants are measured by the same rules, or their numbers would not mean the same"
_WHOLE = "belongs to the run as a whole"

_WHY_NOT: dict[Path_, str] = {
    ("dataset",): _ITEMS,
    ("load",): _LOAD,
    ("limits",): _LOAD,
    ("gates",): _MEASURE,
    ("baseline",): _MEASURE,
    ("scoring",): _MEASURE,
    ("slo",): _MEASURE,
    ("target", "provider"): "all variants have one provider; use provider: custom with target.url, or compare two runs",
    ("target", "behaviour"): "one embedded server serves all variants",
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """One value that an option lays over the scenario.

    Attributes:
        place: where it stands, ``("matrix", axis, option, key)``.
        path: what it is laid over.
        node: the value.
    """

    place: Path_
    path: Path_
    node: Node


@dataclass(frozen=True, slots=True)
class Combination:
    """One option of each axis.

    Attributes:
        axes: the options by axis, in the order of the file.
        overlays: what they lay over the scenario, in this order.
    """

    axes: dict[str, str]
    overlays: tuple[Overlay, ...]

    @property
    def name(self) -> str:
        """The name of the variant: the option's where there is one axis, else e.g. ``prompt=a,model=mini``."""
        if len(self.axes) == 1:
            return next(iter(self.axes.values()))
        return ",".join(f"{axis}={option}" for axis, option in self.axes.items())

    def laid_over(self, root: Node, open_up: Callable[[Path_, Node], None]) -> tuple[Node, list[Problem]]:
        """A copy of the scenario without its matrix and with these values; and the values that have no place there."""
        tree = Node({key: copied(node) for key, node in root.value.items() if key != _ROOT}, root.origin, root.line)
        problems = []
        for overlay in self.overlays:
            try:
                put(tree, overlay.path, copied(overlay.node), open_up=open_up)
            except ValueError as error:
                problems.append(_problem(overlay.place, str(error), overlay.node))
        return tree, problems

    def as_written(self, path: Path_) -> Path_:
        """Where a value of the variant was written: in the matrix, or in the scenario itself."""
        found = path
        for overlay in self.overlays:  # the last one that is laid over a place is what is there
            if path[: len(overlay.path)] == overlay.path:
                found = (*overlay.place, *path[len(overlay.path) :])
        return found


def _problem(path: Path_, sentence: str, node: Node) -> Problem:
    return Problem(path, sentence, node.origin, node.line)


def tidy_matrix(root: Node) -> list[Problem]:
    """Bring the matrix into one form, ``axis: {option: {path: value}}``, and say what in it can stand nowhere.

    A section with keys (``session: {voice: a}``) becomes their paths (``session.voice``). What is wrong is taken out.
    """
    matrix = root.value.get(_ROOT)
    if matrix is None:
        return []
    problems: list[Problem] = []
    if matrix.value is None or matrix.value == {}:
        del root.value[_ROOT]
    elif not isinstance(matrix.value, dict):
        problems.append(_problem((_ROOT,), "expected a mapping of axes, e.g. {prompt: {a: {...}, b: {...}}}", matrix))
    else:
        for axis, options in matrix.value.items():
            problems += _tidy_axis((_ROOT, axis), axis, options)
        problems = problems or list(_clashes(matrix)) or list(_too_many(matrix))
    if problems:
        del root.value[_ROOT]
    return problems


def _tidy_axis(path: Path_, axis: str, options: Node) -> Iterator[Problem]:
    if not _AXIS.match(axis):
        yield _problem(
            path, "an axis is named in letters, digits and _, and no digit first (it names a column)", options
        )
    if axis in _TAKEN:
        yield _problem(path, "every run is divided by that already; call the axis something else", options)
    if not isinstance(options.value, dict) or not options.value:
        yield _problem(path, "expected a mapping of options, e.g. {a: {session.voice: alloy}, b: {...}}", options)
        return
    for option, keys in options.value.items():
        here = (*path, option)
        if not _OPTION.match(option):
            yield _problem(here, "an option is named in letters, digits, '.', '_', '+' and '-'", keys)
        if keys.value is None:
            keys.value = {}  # the scenario as it is
        if not isinstance(keys.value, dict):
            yield _problem(here, "expected a mapping of keys to their values, e.g. {session.voice: alloy}", keys)
            continue
        tidy: dict[str, Node] = {}
        for written, node in keys.value.items():
            yield from _tidy_key(here, written, node, tidy)
        keys.value = tidy


def _tidy_key(here: Path_, written: str, node: Node, tidy: dict[str, Node]) -> Iterator[Problem]:
    if written in _SECTIONS and isinstance(node.value, dict):
        for inner, value in node.value.items():
            yield from _tidy_key(here, f"{written}.{inner}", value, tidy)
        return
    try:
        path = split_path(written)
    except ValueError:
        yield _problem((*here, written), "is no path of a key, as session.voice is one", node)
        return
    sentence = _refused(path)
    if sentence is None and path == ("session", "instructions", "file"):
        path, node = path[:2], Node({"file": node}, node.origin, node.line)
    key = path_text(path)
    if sentence is None and key in tidy:
        if tidy[key].origin != node.origin:  # one was typed on the command line, and lies over the file
            tidy[key] = node if tidy[key].origin.lines else tidy[key]
            return
        sentence = "is given twice"
    if sentence is not None:
        yield _problem((*here, written), sentence, node)
    tidy[key] = node


def _refused(path: Path_) -> str | None:
    """Why a variant cannot differ in a key; ``None``: it can."""
    for depth in (1, 2):
        if path[:depth] in _WHY_NOT:
            return f"no variant can set it: {_WHY_NOT[path[:depth]]}"
    if path[0] in _SECTIONS:
        return None if len(path) > 1 else f"name a key of {path[0]}, e.g. {path[0]}.{_EXAMPLE[str(path[0])]}"
    return f"no variant can set it: {_WHOLE}; variants differ in {', '.join(_SECTIONS)}"


_EXAMPLE = {"session": "voice", "target": "deployment", "conversation": "think_time_s"}


def _overlays(matrix: Node, axis: str, option: str) -> tuple[Overlay, ...]:
    keys = matrix.value[axis].value[option].value
    return tuple(Overlay((_ROOT, axis, option, key), split_path(key), node) for key, node in keys.items())


def _clashes(matrix: Node) -> Iterator[Problem]:
    """Keys that two axes set: which of the two counts would not be seen."""
    taken: dict[Path_, Overlay] = {}
    for axis, options in matrix.value.items():
        found = [overlay for option in options.value for overlay in _overlays(matrix, axis, option)]
        for overlay in found:
            other = next((taken[path] for path in taken if _overlap(path, overlay.path)), None)
            if other is not None:
                yield _problem(overlay.place, f"is also set by {path_text(other.place)}, of another axis", overlay.node)
        taken |= {overlay.path: overlay for overlay in found}


def _overlap(one: Path_, other: Path_) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _too_many(matrix: Node) -> Iterator[Problem]:
    count = math.prod(len(options.value) for options in matrix.value.values())
    if count > MOST_VARIANTS:
        yield _problem((_ROOT,), f"makes {count} variants; {MOST_VARIANTS} is the most", matrix)
        return
    longest = max((combination.name for combination in _combined(matrix)), key=len)
    if len(longest) > LONGEST_NAME:
        yield _problem((_ROOT,), f"the variant {longest[:60]}... has more than {LONGEST_NAME} letters", matrix)


def combinations(root: Node) -> tuple[Combination, ...]:
    """The variants of a tidy matrix: the options of the last axis change first; none without a matrix."""
    matrix = at(root, (_ROOT,))
    return () if matrix is None else tuple(_combined(matrix))


def _combined(matrix: Node) -> Iterator[Combination]:
    axes = {axis: list(options.value) for axis, options in matrix.value.items()}
    for chosen in itertools.product(*axes.values()):
        names = dict(zip(axes, chosen, strict=True))
        yield Combination(names, tuple(itertools.chain(*(_overlays(matrix, *name) for name in names.items()))))


def merged(found: list[tuple[Combination, list[Problem]]]) -> list[Problem]:
    """The problems of all variants, each once; one that only comes from a combination says of which variant it is."""
    seen: dict[Problem, list[Combination]] = {}
    for combination, problems in found:
        for problem in problems:
            path = combination.as_written(problem.path)
            seen.setdefault(replace(problem, path=path), []).append(combination)
    everyone = [combination for combination, _ in found]
    return [problem if _is_of_all(problem, of, everyone) else _of_one(problem, of) for problem, of in seen.items()]


def _is_of_all(problem: Problem, of: list[Combination], everyone: list[Combination]) -> bool:
    """Whether a problem is that of every variant, or of every one with the option in which it stands."""
    where = problem.path[:4]
    concerned = [one for one in everyone if where[:1] != (_ROOT,) or where in {each.place for each in one.overlays}]
    return len(of) >= len(concerned)


def _of_one(problem: Problem, of: list[Combination]) -> Problem:
    return replace(problem, sentence=f"{problem.sentence} (variant {of[0].name})")
