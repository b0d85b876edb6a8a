"""YAML text -> a tree that remembers where each value was written; knows nothing about scenarios.

Types are those of the YAML 1.2 core schema, narrowed by one rule: a number with a leading zero stays text, so that
``no``, ``007`` and ``2026-01-31`` are all read as they stand.

``${NAME}`` and ``${NAME:-default}`` in a value are replaced by environment variables (the default also serves for an
empty variable, as in a shell) and ``$$`` is a dollar sign. A plain scalar is read again after that, as a scalar and
never as a structure: ``${N:-5}`` is the number 5, ``"${N:-5}"`` the text "5". Both readings are kept in reach
(:attr:`Node.text`), for a reader who knows which of them a key wants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_DEPTH",
    "Node",
    "Origin",
    "Path_",
    "Problem",
    "YamlProblems",
    "at",
    "copied",
    "core_scalar",
    "interpolated",
    "path_text",
    "plain_tree",
    "put",
    "read_yaml",
    "split_path",
    "walk",
]

Path_ = tuple[str | int, ...]

MAX_NODES = 50_000
"""Values one file may hold with its aliases followed: a bound on files that repeat themselves without end."""

MAX_DEPTH = 50
"""Levels of mappings and lists in one another."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_OTHER_BASE = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_TAG = "tag:yaml.org,2002:"
_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\{))"
)
_STEP = re.compile(r"(?P<key>[^.\[\]]+)|\[(?P<index>[0-9]+)\]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where values come from.

    Attributes:
        name: what messages call it: a file, or the option that was typed.
        base: the folder that relative paths in it start from.
        lines: whether line numbers mean something to the reader.
    """

    name: str
    base: Path
    lines: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: which value, where it stands, and a sentence."""

    path: Path_
    sentence: str
    origin: Origin | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """``file:line``, as far as it is known."""
        if self.origin is None:
            return ""
        return self.origin.name + (f":{self.line}" if self.origin.lines and self.line else "")

    def __str__(self) -> str:
        """``file:line: path: sentence``, without what is not known."""
        return ": ".join(part for part in (self.place, path_text(self.path), self.sentence) if part)


class YamlProblems(Exception):
    """The text is no YAML, or more of it than can be read."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


@dataclass(slots=True)
class Node:
    """A value and its history.

    Attributes:
        value: a scalar, or a dict or list of nodes.
        origin, line: where it was written (``line`` counts from 1; a value of a mapping has its key's line).
        variables: names and values of the environment variables in it.
        written: the text before variables were replaced; ``None`` where there were none.
        text: the text after that, before it was read as a number or the like.
    """

    value: Any
    origin: Origin
    line: int | None = None
    variables: tuple[tuple[str, str], ...] = ()
    written: str | None = None
    text: str | None = None

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def core_scalar(text: str) -> Any:
    """What a plain scalar means: ``None``, bool, int, float or the text itself."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    # What does not fit into 64 bits is no number that anything here could use, and JSON readers would round it.
    if _INT.match(text):
        return int(text) if len(text) <= 18 else text
    if _OTHER_BASE.match(text):
        return int(text, 0) if len(text) <= 17 else text
    if _FLOAT.match(text):
        return float(text)
    if _INFINITE.match(text):
        return float(text.replace(".", ""))
    return text


def read_yaml(text: str, origin: Origin, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """Read one YAML document.

    Returns:
        The tree, and what is wrong in it: duplicate keys, unknown tags, missing variables (such a value is ``None``).

    Raises:
        YamlProblems: it is no YAML, so there is no tree.
    """
    try:
        events = list(_shallow(YAML(typ="safe", pure=True).parse(text), origin))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        sentence = f"not YAML: {' '.join(str(part) for part in (error.context, error.problem) if part)}"
        if mark and "${" in "".join(text.splitlines()[mark.line : mark.line + 1]):
            sentence += '; within {...} or [...] write "${NAME}" in quotes'
        raise YamlProblems([Problem((), sentence, origin, mark.line + 1 if mark else None)]) from error
    except YAMLError as error:
        raise YamlProblems([Problem((), f"not YAML: {str(error).splitlines()[0]}", origin)]) from error
    return _Composer(events, origin, env).document()


def interpolated(
    written: str, path: Path_, origin: Origin, env: Mapping[str, str], *, as_text: bool
) -> tuple[Node, list[Problem]]:
    """One scalar by itself, with its variables replaced.

    Args:
        written: the text.
        path: where it belongs, for messages.
        origin: where it comes from.
        env: the environment variables.
        as_text: it is text, whatever it looks like.

    Returns:
        The value, and what is wrong with it, e.g. a variable that is not set.
    """
    composer = _Composer([], origin, env)
    node = composer.interpolated(written, path, None, as_text=as_text)
    return node, composer.problems


def plain_tree(value: Any, origin: Origin, *, depth: int = 0) -> Node:
    """The tree for plain data, as a JSON reader gives it; nothing in it is replaced.

    Raises:
        ValueError: the data has too many levels, or something in it that JSON does not have.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("has a key that is no text")
        return Node({key: plain_tree(inner, origin, depth=depth + 1) for key, inner in value.items()}, origin)
    if isinstance(value, list):
        return Node([plain_tree(inner, origin, depth=depth + 1) for inner in value], origin)
    if not isinstance(value, str | int | float | None):  # a bool is an int
        raise ValueError(f"holds a {type(value).__name__}")
    return Node(value, origin)


def _shallow(events: Iterator[Any], origin: Origin) -> Iterator[Any]:
    """Stop at the first level too many: the parser's time grows with the square of the depth."""
    depth = 0
    for event in events:
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            depth += 1
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1
            raise YamlProblems([Problem((), f"is nested deeper than {MAX_DEPTH} levels", origin, line)])
        yield event


class _Composer:
    """Events of the YAML parser -> nodes."""

    def __init__(self, events: list[Any], origin: Origin, env: Mapping[str, str]) -> None:
        self._events = iter(events)
        self._origin = origin
        self._env = env
        self._anchors: dict[str, Node | None] = {}
        self.problems: list[Problem] = []
        self._count = 0

    def document(self) -> tuple[Node, list[Problem]]:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, StreamStartEvent | StreamEndEvent | DocumentStartEvent | DocumentEndEvent):
                continue
            if root is not None:
                self._problem((), "holds a second document; one is read", event)
                break
            root = self._node(event, ())
        return (root if root is not None else Node(None, self._origin, 1)), self.problems

    def _problem(self, path: Path_, sentence: str, event: Any) -> None:
        self.problems.append(Problem(path, sentence, self._origin, event.start_mark.line + 1))

    def _node(self, event: Any, path: Path_) -> Node:
        self._count += 1
        if len(path) > MAX_DEPTH:
            raise YamlProblems([Problem((), f"is nested deeper than {MAX_DEPTH} levels", self._origin)])
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        if event.anchor:
            self._anchors[event.anchor] = None  # not complete yet: an alias to it from inside is a loop
        if isinstance(event, ScalarEvent):
            node = self._scalar(event, path)
        elif isinstance(event, SequenceStartEvent):
            node = Node([], self._origin, line)
            while not isinstance(inner := next(self._events), SequenceEndEvent):
                node.value.append(self._node(inner, (*path, len(node.value))))
        else:
            assert isinstance(event, MappingStartEvent)
            node = self._mapping(event, path)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, path: Path_) -> Node:
        found = self._anchors.get(str(event.anchor))
        if found is None:
            why = "refers to itself" if event.anchor in self._anchors else "has no anchor before it"
            self._problem(path, f"the alias *{event.anchor} {why}", event)
            return Node(None, self._origin, event.start_mark.line + 1)
        self._count += sum(1 for _ in walk(found))
        if self._count > MAX_NODES:
            raise YamlProblems([Problem((), f"holds more than {MAX_NODES} values", self._origin)])
        return copied(found)

    def _mapping(self, event: MappingStartEvent, path: Path_) -> Node:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(key_event := next(self._events), MappingEndEvent):
            if not isinstance(key_event, ScalarEvent):
                self._problem(path, "a key must be a word", key_event)
                self._node(key_event, path)
                self._node(next(self._events), path)
                continue
            key, line = str(key_event.value), key_event.start_mark.line + 1
            if not _is_unicode(key):
                self._problem(path, f"the key {key!r} is not valid Unicode", key_event)
            value = self._node(next(self._events), (*path, key))
            if key == "<<" and key_event.style is None:
                merged = {**self._merge(value, path, key_event), **merged}
                continue
            if key in entries:
                self._problem((*path, key), f"is given twice (first in line {lines[key]})", key_event)
                continue
            value.line = line
            entries[key], lines[key] = value, line
        return Node({**merged, **entries}, self._origin, event.start_mark.line + 1)

    def _merge(self, value: Node, path: Path_, event: Any) -> dict[str, Node]:
        sources = value.value if isinstance(value.value, list) else [value]
        merged: dict[str, Node] = {}
        for source in sources:
            if not isinstance(source.value, dict):
                self._problem(path, "<< merges mappings only", event)
                return {}
            merged = {**source.value, **merged}
        return merged

    def _scalar(self, event: ScalarEvent, path: Path_) -> Node:
        line = event.start_mark.line + 1
        tag = str(event.tag) if event.tag else None
        if tag is not None and tag not in ("!", f"{_TAG}str"):
            kind = tag.removeprefix(_TAG)
            if kind == tag or kind not in ("null", "bool", "int", "float"):
                self._problem(path, f"the tag {tag.replace(_TAG, '!!')} means nothing here", event)
        as_text = event.style is not None or tag in ("!", f"{_TAG}str")
        return self.interpolated(str(event.value), path, line, as_text=as_text)

    def interpolated(self, written: str, path: Path_, line: int | None, *, as_text: bool) -> Node:
        found: list[tuple[str, str]] = []

        def replace(match: re.Match[str]) -> str:
            if match["dollar"]:
                return "$"
            if match["bad"]:
                sentence = "'${' starts a variable: write ${NAME} or ${NAME:-default}, or $$ for a dollar sign"
                self.problems.append(Problem(path, sentence, self._origin, line))
                return ""
            name, default = match["name"], match["default"]
            if default is not None and "${" in default:
                sentence = f"the default of ${{{name}:-...}} cannot hold another variable"
                self.problems.append(Problem(path, sentence, self._origin, line))
                return ""
            value = self._env.get(name)
            if default is not None and not value:
                return str(default)
            if value is None:
                sentence = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                self.problems.append(Problem(path, sentence, self._origin, line))
                return ""
            found.append((name, value))
            return value

        text = _VARIABLE.sub(replace, written)
        if not _is_unicode(text):
            names = ", ".join(name for name, value in found if not _is_unicode(value))
            what = f"the environment variable {names}" if names else "the text"
            self.problems.append(Problem(path, f"{what} is not valid Unicode", self._origin, line))
            text = ""
        value = text if as_text else core_scalar(text)
        touched = _VARIABLE.search(written) is not None
        return Node(value, self._origin, line, tuple(found), written if touched else None, text)


def _is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: an escape like ``\\ud800`` makes half a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def copied(node: Node) -> Node:
    """The node with all below it, to be changed apart from it."""
    value = node.value
    if isinstance(value, dict):
        value = {key: copied(inner) for key, inner in value.items()}
    elif isinstance(value, list):
        value = [copied(inner) for inner in value]
    return Node(value, node.origin, node.line, node.variables, node.written, node.text)


def walk(node: Node, path: Path_ = ()) -> Iterator[tuple[Path_, Node]]:
    """Every node below and including ``node``, with its path."""
    yield path, node
    if isinstance(node.value, dict):
        for key, inner in node.value.items():
            yield from walk(inner, (*path, key))
    elif isinstance(node.value, list):
        for index, inner in enumerate(node.value):
            yield from walk(inner, (*path, index))


def at(root: Node, path: Path_) -> Node | None:
    """The node at ``path``, or ``None``."""
    node: Node | None = root
    for step in path:
        if node is None:
            return None
        if isinstance(node.value, dict) and isinstance(step, str):
            node = node.value.get(step)
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return None
    return node


def path_text(path: Path_) -> str:
    """``("session", "tools", 0, "name")`` as ``session.tools[0].name``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def split_path(text: str) -> Path_:
    """The opposite of :func:`path_text`.

    Raises:
        ValueError: the text is no path.
    """
    path: list[str | int] = []
    position = 0
    while position < len(text):
        if text[position] == "." and path and position + 1 < len(text):
            position += 1
        elif path and text[position] != "[":
            raise ValueError(f"{text!r} is no path")
        match = _STEP.match(text, position)
        if match is None or (match["index"] is not None and text[position - 1 : position] == "."):
            raise ValueError(f"{text!r} is no path")
        path.append(match["key"] if match["key"] is not None else int(match["index"]))
        position = match.end()
    if not path or isinstance(path[0], int) or len(path) > MAX_DEPTH:
        raise ValueError(f"{text!r} is no path")
    return tuple(path)


def put(root: Node, path: Path_, value: Node, *, open_up: Callable[[Path_, Node], None]) -> None:
    """Set ``path`` to ``value``; missing keys are created, lists and mappings are replaced whole.

    Args:
        root: the tree to change.
        path: where to.
        value: what to.
        open_up: called with each node on the way, before it is descended into, to turn a short form into a mapping.

    Raises:
        ValueError: the way leads through a value that is neither mapping nor list, or past a list's end.
    """
    node = root
    for depth, step in enumerate(path):
        here = path[:depth]
        open_up(here, node)
        if node.value is None:
            node.value = [] if isinstance(step, int) else {}
        last = depth == len(path) - 1
        fresh = value if last else Node(None, value.origin, value.line)
        if isinstance(step, int):
            if not isinstance(node.value, list):
                raise ValueError(f"{path_text(here)} is not a list")
            if step > len(node.value):
                raise ValueError(f"{path_text(here)} has {len(node.value)} entries; [{len(node.value)}] would add one")
            if step == len(node.value):
                node.value.append(fresh)
            elif last:
                node.value[step] = fresh
            node = node.value[step]
        else:
            if not isinstance(node.value, dict):
                raise ValueError(f"{path_text(here) or 'the scenario'} is not a mapping")
            if last or step not in node.value:
                node.value[step] = fresh
            node = node.value[step]
