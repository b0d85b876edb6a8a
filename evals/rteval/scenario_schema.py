"""The JSON Schema of the scenario file, as editors read it."""

from __future__ import annotations

from typing import Any

from .scenario_model import Scenario

__all__ = ["schema"]

_VARIABLE = {"$ref": "#/$defs/Variable"}
_FROM_FILE = {
    "type": "object",
    "description": "The text of a file.",
    "properties": {"file": {"type": "string", "description": "The file, relative to the scenario."}},
    "required": ["file"],
    "additionalProperties": False,
}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the scenario file: a description for every key, and a default for all that have one.

    A key that is no text may also hold a variable, ``${NAME}``.
    """
    whole = _tidied(Scenario.model_json_schema(mode="validation"))
    whole["required"].remove("name")  # the file's name serves
    whole["$defs"]["Session"]["properties"]["instructions"]["anyOf"].insert(1, _FROM_FILE)
    whole["$defs"]["Variable"] = {
        "type": "string",
        "pattern": r"\$\{",
        "description": "An environment variable, ${NAME} or ${NAME:-default}.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rteval scenario", **whole}


def _tidied(part: Any, *, names: bool = False, in_union: bool = False) -> Any:
    """The part with room for variables, without what pydantic adds and nobody needs.

    That is titles made from names, and defaults of whole sections, whose keys have defaults of their own.

    Args:
        part: a piece of the schema.
        names: its keys are names, not words of JSON Schema.
        in_union: it is a member of a union, which makes the room itself.
    """
    if isinstance(part, list):
        return [_tidied(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    if names:
        return {name: _tidied(value) for name, value in part.items()}
    tidy: dict[str, Any] = {}
    for word, value in part.items():
        if word == "anyOf":
            tidy[word] = [_tidied(member, in_union=True) for member in value]
        elif word == "default":
            if not (isinstance(value, dict) and value):
                tidy[word] = value
        elif word != "title":
            tidy[word] = _tidied(value, names=word in ("properties", "$defs"))
    if in_union:
        return tidy
    members = tidy.get("anyOf", [tidy])
    if not any(_is_no_text(member) for member in members) or any(_is_any_text(member) for member in members):
        return tidy
    if "anyOf" in tidy:
        return {**tidy, "anyOf": [*members, _VARIABLE]}
    outer = {word: tidy.pop(word) for word in ("description", "default") if word in tidy}
    return {"anyOf": [tidy, _VARIABLE], **outer}


def _is_no_text(part: dict[str, Any]) -> bool:
    return part.get("type") in ("integer", "number", "boolean") or "enum" in part or "const" in part


def _is_any_text(part: dict[str, Any]) -> bool:
    return part.get("type") == "string" and "enum" not in part and "const" not in part
