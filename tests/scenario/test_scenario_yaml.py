"""Reading YAML: types, places, variables."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rteval import scenario_yaml
from rteval.scenario_yaml import Node, Origin, YamlProblems, at, path_text, put, read_yaml, split_path

ORIGIN = Origin("a.yaml", Path("/base"))


def read(text, **env):
    node, problems = read_yaml(text, ORIGIN, env)
    assert not problems
    return node.plain()


def problems_of(text, **env):
    return [str(problem) for problem in read_yaml(text, ORIGIN, env)[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("no", "no", id="no is a word"),
        pytest.param("yes", "yes", id="yes is a word"),
        pytest.param("on", "on", id="on is a word"),
        pytest.param("007", "007", id="leading zero is text"),
        pytest.param("00.5", "00.5", id="leading zeros of a fraction are text"),
        pytest.param("2026-01-31", "2026-01-31", id="date is text"),
        pytest.param("12:30:45", "12:30:45", id="base 60 is text"),
        pytest.param("1_000", "1_000", id="underscore is text"),
        pytest.param("5", 5, id="int"),
        pytest.param("-5", -5, id="negative int"),
        pytest.param("0", 0, id="zero"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("5.0", 5.0, id="float"),
        pytest.param(".5", 0.5, id="float without a zero"),
        pytest.param("1e3", 1000.0, id="exponent"),
        pytest.param(".inf", math.inf, id="infinite"),
        pytest.param("-.INF", -math.inf, id="negative infinite"),
        pytest.param("true", True, id="true"),
        pytest.param("False", False, id="false"),
        pytest.param("~", None, id="tilde"),
        pytest.param("null", None, id="null"),
        pytest.param("", None, id="nothing"),
        pytest.param("'5'", "5", id="single quotes"),
        pytest.param('"true"', "true", id="double quotes"),
        pytest.param("!!str 5", "5", id="tag str"),
        pytest.param("!!int 5", 5, id="tag int"),
        pytest.param("! 5", "5", id="tag text"),
        pytest.param("0x" + "f" * 30, "0x" + "f" * 30, id="too large in hexadecimal stays text"),
        pytest.param("1" * 30, "1" * 30, id="too large for 64 bits stays text"),
    ],
)
def test_scalars_are_of_the_core_schema(text, value):
    assert read(f"a: {text}")["a"] == value
    assert type(read(f"a: {text}")["a"]) is type(value)


def test_nan_is_a_number():
    assert math.isnan(read("a: .nan")["a"])


def test_an_empty_file_is_null():
    assert read("# nothing") is None


def test_keys_are_words_whatever_they_look_like():
    assert read("{1: a, true: b, null: c}") == {"1": "a", "true": "b", "null": "c"}


def test_anchors_repeat_values_and_merges_give_way_to_keys():
    text = "a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, x: 3}\nd: {<<: [*a, {x: 9, z: 4}]}\ne: {'<<': 1}"
    value = read(text)
    assert value["b"] == value["a"]
    assert value["c"] == {"x": 3, "y": [1, 2]}
    assert value["d"] == {"x": 1, "y": [1, 2], "z": 4}
    assert value["e"] == {"<<": 1}


def test_a_repeated_value_can_be_changed_alone():
    root, _ = read_yaml("a: &a {x: [1]}\nb: *a", ORIGIN, {})
    put(root, ("b", "x"), Node(2, ORIGIN), open_up=lambda path, node: None)
    assert root.plain() == {"a": {"x": [1]}, "b": {"x": 2}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("a: 1\nb: 2\na: 3", "a.yaml:3: a: is given twice (first in line 1)", id="duplicate key"),
        pytest.param("a:\n  b: 1\n  'b': 2", "a.yaml:3: a.b: is given twice (first in line 2)", id="nested duplicate"),
        pytest.param("a: 1\n---\nb: 2", "a.yaml:3: holds a second document; one is read", id="second document"),
        pytest.param("? [a]\n: 1", "a.yaml:1: a key must be a word", id="list as key"),
        pytest.param("a: &a [*a]", "a.yaml:1: a[0]: the alias *a refers to itself", id="alias to itself"),
        pytest.param("a: *b", "a.yaml:1: a: the alias *b has no anchor before it", id="alias without anchor"),
        pytest.param("a: !mine 5", "a.yaml:1: a: the tag !mine means nothing here", id="foreign tag"),
        pytest.param("a: !!timestamp 5", "a.yaml:1: a: the tag !!timestamp means nothing here", id="tag not of core"),
        pytest.param("a: {<<: 5}", "a.yaml:1: a: << merges mappings only", id="merge of a number"),
        pytest.param(
            "\na: ${X}",
            "a.yaml:2: a: the environment variable X is not set; set it, or write ${X:-default}",
            id="variable not set",
        ),
        pytest.param(
            "a: ${1X}",
            "a.yaml:1: a: '${' starts a variable: write ${NAME} or ${NAME:-default}, or $$ for a dollar sign",
            id="no name",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, sentence):
    assert problems_of(text) == [sentence]


def test_all_that_is_wrong_is_told_together():
    assert len(problems_of("a: ${X}\na: 1\nb: ${Y} ${Z}\nc: !x 1")) == 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("a: [1", "a.yaml:1: not YAML: while parsing a flow sequence", id="open bracket"),
        pytest.param("a:\n\t- 1", "a.yaml:2: not YAML: while scanning for the next token", id="tab"),
        pytest.param("a: {b: ${N:-5}}", 'within {...} or [...] write "${NAME}" in quotes', id="variable in braces"),
        pytest.param("a: \x00", "a.yaml: not YAML: ", id="control character"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text, sentence):
    with pytest.raises(YamlProblems) as caught:
        read(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100 + "]" * 100, id="deep"),
        pytest.param(
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)),
            id="many aliases of aliases",
        ),
    ],
)
def test_a_file_cannot_grow_without_end(text):
    with pytest.raises(YamlProblems):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("${N}", 5, id="number"),
        pytest.param("${T}", "word", id="text"),
        pytest.param("'${N}'", "5", id="quoted stays text"),
        pytest.param('"${N}"', "5", id="double quoted stays text"),
        pytest.param("${M:-7}", 7, id="default"),
        pytest.param("${M:-}", None, id="empty default"),
        pytest.param("${E:-7}", 7, id="default for an empty variable"),
        pytest.param("${E}", None, id="empty variable"),
        pytest.param("x${N}y${T}", "x5yword", id="within text"),
        pytest.param("${M:-a:b-c}", "a:b-c", id="default with signs"),
        pytest.param("$$", "$", id="dollar"),
        pytest.param("$${N}", "${N}", id="dollar keeps a variable from being read"),
        pytest.param("$N costs $5", "$N costs $5", id="lone dollars stay"),
        pytest.param("|\n  ${N}\n  b", "5\nb", id="block"),
        pytest.param("${L}", "[1, 2]", id="never a structure"),
        pytest.param("${S}", "# no comment", id="never a comment"),
    ],
)
def test_variables_are_replaced(text, value):
    env = {"N": "5", "T": "word", "E": "", "L": "[1, 2]", "S": "# no comment"}
    assert read(f"a: {text}", **env)["a"] == value


def test_variables_in_keys_and_comments_are_not_read():
    assert read("${X}: 1 # ${Y}") == {"${X}": 1}


@settings(deadline=None)  # the machine may be busy with others
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_quoted_variable_comes_through_as_it_is(value):
    assert read('a: "${X}"', X=value)["a"] == value


def test_a_value_knows_its_line_and_where_it_came_from():
    root, _ = read_yaml("a:\n  b:\n    ${X}\nc: [1,\n 2]", ORIGIN, {"X": "5"})
    node = at(root, ("a", "b"))
    assert (node.line, node.value, node.variables, node.written, node.text) == (2, 5, (("X", "5"),), "${X}", "5")
    assert at(root, ("c", 1)).line == 5


PATHS = st.lists(
    st.one_of(st.text("abc_-X1", min_size=1, max_size=3), st.integers(0, 20)), min_size=1, max_size=5
).filter(lambda path: isinstance(path[0], str))


@settings(deadline=None)  # the machine may be busy with others
@given(PATHS.map(tuple))
def test_a_path_is_read_as_it_is_written(path):
    assert split_path(path_text(path)) == path


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "[0]", "a[", "a[x]", "a]", "a.[0]", "a[0]b", "a[0"])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="is no path"):
        split_path(text)


def test_missing_keys_are_created():
    root = Node(None, ORIGIN)
    for path, value in (
        (("a", "b", 0, "c"), 1),
        (("a", "b", 1), 2),
        (("a", "b", 0, "d"), 3),
        (("e",), 4),
        (("a", "b", 1), 5),
    ):
        put(root, path, Node(value, ORIGIN), open_up=lambda path, node: None)
    assert root.plain() == {"a": {"b": [{"c": 1, "d": 3}, 5]}, "e": 4}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        pytest.param(("a", 0), "a is not a list", id="index into a number"),
        pytest.param(("a", "b"), "a is not a mapping", id="key of a number"),
        pytest.param(("l", 2), r"l has 1 entries; \[1\] would add one", id="past the end"),
        pytest.param(("l", "x"), "l is not a mapping", id="key of a list"),
    ],
)
def test_a_way_through_something_else_is_refused(path, sentence):
    root, _ = read_yaml("a: 1\nl: [1]", ORIGIN, {})
    with pytest.raises(ValueError, match=sentence):
        put(root, path, Node(2, ORIGIN), open_up=lambda path, node: None)


def test_a_place_that_is_not_there_is_none():
    root, _ = read_yaml("a: [1]", ORIGIN, {})
    assert at(root, ("a", 1)) is None
    assert at(root, ("b", "c")) is None
    assert at(root, ("a", 0, "x")) is None
    assert scenario_yaml.Problem((), "wrong").place == ""
