"""What JSON a realtime server takes, said as data, and the sentence it answers to anything else.

A shape is a function ``(value, path) -> None`` that raises ``Refusal``; the functions here build shapes from shapes.
Codes and wording follow the ``error`` events of the OpenAI realtime reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "Refusal",
    "Shape",
    "any_of",
    "anything",
    "boolean",
    "either",
    "integer",
    "list_of",
    "missing",
    "number",
    "one_of",
    "optional",
    "record",
    "tagged",
    "text",
]

Shape = Callable[[Any, str], None]

NOUNS: Mapping[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class Refusal(Exception):
    """A request that the server does not take: the stuff of one ``error`` event.

    Attributes:
        code: machine-readable cause, e.g. ``unknown_parameter``.
        param: path of the value at fault, e.g. ``session.audio.input``, or ``None``.
        type: class of the error.
    """

    def __init__(
        self, code: str | None, message: str, param: str | None = None, *, type: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.type = type


def wrong_type(value: Any, path: str, wanted: str) -> Refusal:
    """The refusal for a value of the wrong JSON type."""
    got = NOUNS.get(type(value), "something else")
    return Refusal("invalid_type", f"Invalid type for '{path}': expected {wanted}, but got {got} instead.", path)


def wrong_value(value: Any, path: str, allowed: Sequence[str]) -> Refusal:
    """The refusal for a value that is none of the ``allowed``."""
    listed = [f"'{name}'" for name in allowed]
    choice = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return Refusal("invalid_value", f"Invalid value: '{value}'. Supported values are: {choice}.", path)


def missing(path: str) -> Refusal:
    """The refusal for a required parameter that is not there."""
    return Refusal("missing_required_parameter", f"Missing required parameter: '{path}'.", path)


def anything(value: Any, path: str) -> None:
    """Take whatever comes."""


def boolean(value: Any, path: str) -> None:
    """Take true or false."""
    if not isinstance(value, bool):
        raise wrong_type(value, path, "a boolean")


def text(*, longest: int | None = None) -> Shape:
    """Take a string of at most ``longest`` characters."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, path, "a string")
        if longest is not None and len(value) > longest:
            raise Refusal(
                "string_above_max_length",
                f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, "
                f"but got a string with length {len(value)} instead.",
                path,
            )

    return check


def number(least: float, most: float) -> Shape:
    """Take a number from ``least`` to ``most``."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(value, path, "a decimal")
        if not least <= value <= most:
            raise Refusal(
                "invalid_value", f"Invalid '{path}': expected a value from {least} to {most}, but got {value}.", path
            )

    return check


def integer(least: int, most: int) -> Shape:
    """Take a whole number from ``least`` to ``most``."""
    within = number(least, most)

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, path, "an integer")
        within(value, path)

    return check


def one_of(*allowed: str) -> Shape:
    """Take one of these words."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, path, "a string")
        if value not in allowed:
            raise wrong_value(value, path, allowed)

    return check


def optional(shape: Shape) -> Shape:
    """Take null as well."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            shape(value, path)

    return check


def list_of(shape: Shape) -> Shape:
    """Take an array whose every entry has the shape."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(value, path, "an array")
        for index, entry in enumerate(value):
            shape(entry, f"{path}[{index}]")

    return check


def record(fields: Mapping[str, Shape], *, required: Sequence[str] = (), open_ended: bool = False) -> Shape:
    """Take an object with these fields and, unless it is ``open_ended``, no others."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        prefix = f"{path}." if path else ""
        for name in required:
            if name not in value:
                raise missing(prefix + name)
        for name, entry in value.items():
            shape = fields.get(name)
            if shape is not None:
                shape(entry, prefix + name)
            elif not open_ended:
                raise Refusal("unknown_parameter", f"Unknown parameter: '{prefix}{name}'.", prefix + name)

    return check


def tagged(variants: Mapping[str, Shape], *, key: str = "type") -> Shape:
    """Take an object whose ``key`` names which of the shapes it has."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        place = f"{path}.{key}" if path else key
        if key not in value:
            raise missing(place)
        name = value[key]
        if not isinstance(name, str):
            raise wrong_type(name, place, "a string")
        if name not in variants:
            raise wrong_value(name, place, tuple(variants))
        variants[name](value, path)

    return check


def either(scalar: Shape, compound: Shape) -> Shape:
    """Take a plain value of one shape, or an object of the other."""

    def check(value: Any, path: str) -> None:
        (compound if isinstance(value, dict) else scalar)(value, path)

    return check


def any_of(*shapes: Shape) -> Shape:
    """Take what any of the shapes takes; the last one words the refusal."""

    def check(value: Any, path: str) -> None:
        for shape in shapes[:-1]:
            try:
                return shape(value, path)
            except Refusal:
                continue
        return shapes[-1](value, path)

    return check
