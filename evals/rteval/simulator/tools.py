"""Whether the simulated model calls a function, and with which arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Call", "choose_call"]


@dataclass(frozen=True, slots=True)
class Call:
    """A function call that an answer makes; ``arguments`` is JSON text."""

    name: str
    arguments: str


def choose_call(tools: Sequence[Mapping[str, Any]], choice: str, expected: Any) -> Call | None:
    """The call that a turn leads to, or ``None`` when it is answered in words.

    Args:
        tools: functions of the session or the response.
        choice: ``auto``, ``none``, ``required``, or ``function:`` and the name of a forced one.
        expected: what the recognised item expects: a name, or ``{"name", "arguments"}``.
    """
    functions = {tool["name"]: tool for tool in tools if tool.get("type") == "function"}
    if not functions or choice == "none":
        return None
    wanted = {"name": expected} if isinstance(expected, str) else expected if isinstance(expected, Mapping) else {}
    forced = choice.removeprefix("function:") if choice.startswith("function:") else wanted.get("name")
    name = str(forced)
    if name not in functions:
        if choice == "auto":
            return None
        name = next(iter(functions))
    arguments = wanted.get("arguments") if name == wanted.get("name") else None
    if arguments is None:
        arguments = _example(functions[name].get("parameters") or {})
    return Call(name, arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode())


_PLAIN = {"string": "text", "number": 1.5, "integer": 1, "boolean": True, "null": None}


def _example(schema: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that fits a JSON schema, as far as its types, enums and required properties go."""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "array":
        return []
    if kind != "object":
        return _PLAIN.get(kind)
    properties = schema.get("properties") or {}
    if depth > 8:
        return {}
    return {
        name: _example(properties.get(name) or {"type": "string"}, depth + 1)
        for name in schema.get("required") or properties
    }
