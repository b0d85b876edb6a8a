"""What types cannot say of a scenario: keys not built yet, settings a dialect cannot carry, keys that contradict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .scenario_model import LONGEST_S
from .scenario_yaml import Node, Path_, at

if TYPE_CHECKING:
    from .scenario_model import Arrivals, Scenario

__all__ = ["contradictions", "not_available"]

Finding = tuple[Path_, str]

# ---- keys of the contract that are not built yet: said so, never ignored ----

NOT_AVAILABLE: tuple[Path_, ...] = (("limits", "cost_usd"),)


def not_available(root: Node) -> Iterator[Finding]:
    """Keys and values that the format foresees and this version cannot do."""
    for path in NOT_AVAILABLE:
        if at(root, path) is not None:
            yield path, "is not available yet"


# ---- what a dialect cannot carry ----


@dataclass(frozen=True, slots=True)
class Carried:
    """One setting that not every dialect can carry.

    Attributes:
        path: the setting.
        asked: whether the scenario asks for what cannot be carried.
        dialect: the dialect that cannot.
        api_versions: only these versions cannot; empty: none of the dialect's can.
        sentence: what to say and do.
    """

    path: Path_
    asked: Callable[[Scenario], bool]
    dialect: str
    sentence: str
    api_versions: tuple[str, ...] = ()


_FIRST = "2024-10-01-preview"
_SECOND = "2024-12-17"
_VAD: Path_ = ("session", "turn_detection")

# Sources: session objects of the OpenAI and Azure OpenAI realtime references, per dialect and api-version.
CANNOT_CARRY = (
    Carried(
        ("session", "temperature"),
        lambda s: s.session.temperature is not None,
        "ga",
        "dialect ga has no temperature; remove it, or use dialect: preview",
    ),
    Carried(
        (*_VAD, "idle_timeout_ms"),
        lambda s: s.session.turn_detection.idle_timeout_ms is not None,
        "preview",
        "dialect preview has no idle timeout; remove it, or use dialect: ga",
    ),
    Carried(
        ("session", "tools"),
        lambda s: any(tool.get("type") == "mcp" for tool in s.session.tools),
        "preview",
        "dialect preview has no mcp tools; remove them, or use dialect: ga",
    ),
    Carried(
        ("session", "tool_choice"),
        lambda s: isinstance(s.session.tool_choice, dict) and s.session.tool_choice.get("type") == "mcp",
        "preview",
        "dialect preview has no mcp tools; name a function, or use dialect: ga",
    ),
    Carried(
        (*_VAD, "type"),
        lambda s: s.session.turn_detection.type == "semantic_vad",
        "preview",
        "api_version {api_version} has no semantic_vad; use server_vad, or a later api_version",
        (_FIRST,),
    ),
    Carried(
        (*_VAD, "create_response"),
        lambda s: s.session.turn_detection.create_response is not None,
        "preview",
        "api_version {api_version} has no create_response; remove it, or use a later api_version",
        (_FIRST,),
    ),
    Carried(
        (*_VAD, "interrupt_response"),
        lambda s: s.session.turn_detection.interrupt_response is not None,
        "preview",
        "api_version {api_version} has no interrupt_response; remove it, or use a later api_version",
        (_FIRST, _SECOND),
    ),
)


def _dialect(scenario: Scenario, api_version: str | None) -> Iterator[Finding]:
    target = scenario.target
    for rule in CANNOT_CARRY:
        if rule.dialect != target.dialect or not rule.asked(scenario):
            continue
        if rule.api_versions and api_version not in rule.api_versions:
            continue
        yield rule.path, rule.sentence.format(api_version=api_version)
    if target.dialect == "ga" and target.api_version is not None and target.provider in ("azure", "simulator"):
        yield ("target", "api_version"), "belongs to dialect preview; remove it, or use dialect: preview"


# ---- keys that contradict one another ----

_OF_TYPE = {
    "server_vad": ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms"),
    "semantic_vad": ("eagerness",),
}
_BOTH_VADS = ("create_response", "interrupt_response")
_CHECKS_OF_ITEMS = ("contains", "regex", "equals", "tool_call", "pass_rate")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, 5.1: a field name is a token
_PROXIES = ("http://", "https://", "socks4://", "socks4a://", "socks5://", "socks5h://")
_OURS = ("host", "connection", "upgrade")


def _target(scenario: Scenario) -> Iterator[Finding]:
    target = scenario.target
    if target.provider == "custom" and target.url is None:
        yield ("target", "url"), "is required with provider: custom (a whole ws:// or wss:// address)"
    if target.provider == "openai" and target.auth == "entra":
        yield ("target", "auth"), "OpenAI takes keys only; use api_key"
    if target.credential is not None and target.auth in ("api_key", "none"):
        yield (
            ("target", "credential"),
            f"asks for an Entra ID token, and target.auth is {target.auth}; remove one of them",
        )
    if target.api_key_env is not None and not _NAME.match(target.api_key_env):
        yield ("target", "api_key_env"), "is the name of an environment variable, e.g. AZURE_OPENAI_API_KEY"
    if target.provider in ("custom", "simulator") and target.auth == "api_key" and target.api_key_env is None:
        yield (
            ("target", "api_key_env"),
            f"is required with provider: {target.provider} and auth: api_key (the variable that holds the key)",
        )
    if target.proxy is not None and not target.proxy.startswith(_PROXIES):
        yield ("target", "proxy"), f"starts with one of {', '.join(_PROXIES)}"
    elif target.proxy is not None and not _has_host_and_port(target.proxy):
        yield ("target", "proxy"), "is no address; write e.g. http://proxy:3128"
    for name, value in target.headers.items():
        path = ("target", "headers", name)
        if not _HEADER.match(name):
            yield path, "is no name of a header"
        elif name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
            yield path, "is set by the WebSocket handshake itself"
        if not value.isprintable():
            yield path, "holds a line break or a control character"
        elif not value.isascii():
            yield path, "holds letters that no header can carry; use ASCII"
    for key in ("ca_file", "behaviour"):
        value = getattr(target, key)
        if isinstance(value, str) and not Path(value).is_file():
            yield ("target", key), f"there is no file {value}"


def _has_host_and_port(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _session(scenario: Scenario) -> Iterator[Finding]:
    session = scenario.session
    detection = session.turn_detection
    foreign: dict[str, str] = {
        key: owner for owner, keys in _OF_TYPE.items() if owner != detection.type for key in keys
    }
    if not detection.on:
        foreign |= dict.fromkeys(_BOTH_VADS, "server_vad and semantic_vad")
    for key, owner in foreign.items():
        if getattr(detection, key) is not None:
            yield (*_VAD, key), f"belongs to {owner}, not to {detection.type}"
    if session.modalities is not None and len(set(session.modalities)) != len(session.modalities):
        yield ("session", "modalities"), "names one kind twice"
    for index, tool in enumerate(session.tools):
        yield from _tool(("session", "tools", index), tool)
    if isinstance(session.tool_choice, str) and session.tool_choice not in ("auto", "none", "required"):
        yield ("session", "tool_choice"), "must be auto, none, required or {type: function, name: NAME}"
    if scenario.load.pacing == "fast" and detection.on:
        yield (
            ("load", "pacing"),
            f"fast needs manual commit, and session.turn_detection is {detection.type}: "
            "use session.turn_detection: none, or pacing: realtime",
        )


def _tool(path: Path_, tool: dict[str, Any]) -> Iterator[Finding]:
    kind = tool.get("type")
    if kind not in ("function", "mcp"):
        yield path, "needs type: function (or mcp)"
    elif kind == "function" and not (isinstance(tool.get("name"), str) and tool["name"]):
        yield path, "needs a name"
    elif kind == "function" and not isinstance(tool.get("parameters", {}), dict):
        yield (*path, "parameters"), "expected a mapping (a JSON Schema)"


def _load(scenario: Scenario) -> Iterator[Finding]:
    load, given = scenario.load, scenario.load.model_fields_set
    if load.arrivals is not None:
        yield from _open_model(scenario, load.arrivals)
    elif load.max_sessions is not None:
        yield ("load", "max_sessions"), "bounds load.arrivals, and there are none; load.sessions says how many are open"
    if load.stages:
        if load.arrivals is not None:
            yield (
                ("load", "stages"),
                "contradicts load.arrivals: a load is so many sessions at once or so many in a "
                "second; load.arrivals.stages change the rate",
            )
        if "sessions" in given:
            yield ("load", "sessions"), "contradicts load.stages, each of which says its own sessions; remove one"
        if not any(stage.sessions for stage in load.stages):
            yield ("load", "stages"), "never wants a session"
    if load.ramp_s is not None and 0 < load.ramp_s < 0.001:
        yield ("load", "ramp_s"), "must be 0 or at least 0.001"
    if load.ends_s is not None:
        yield from _timed(scenario, load.ends_s)
    wall_s = scenario.limits.wall_s
    if wall_s is not None and load.warmup_s >= wall_s:
        yield ("load", "warmup_s"), f"must be shorter than limits.wall_s ({wall_s:g}), or nothing would be measured"


def _open_model(scenario: Scenario, arrivals: Arrivals) -> Iterator[Finding]:
    if "sessions" in scenario.load.model_fields_set:
        yield (
            ("load", "sessions"),
            "contradicts load.arrivals: how many are open follows from how many come; remove "
            "one, or say load.max_sessions for a bound",
        )
    most, allowed = arrivals.highest_per_s, scenario.limits.connects_per_s
    if allowed is not None and most > allowed:
        yield (
            ("limits", "connects_per_s"),
            f"allows {allowed:g} in a second, and load.arrivals wants up to {most:g}: sessions would come ever later",
        )


def _timed(scenario: Scenario, ends_s: float) -> Iterator[Finding]:
    load = scenario.load
    stages = "load.stages" if load.stages else "load.arrivals.stages"
    by_stages = bool(load.stages or (load.arrivals is not None and load.arrivals.stages))
    if by_stages and load.duration_s is not None:
        yield ("load", "duration_s"), f"contradicts {stages}, which say themselves how long the run takes; remove one"
    if by_stages and ends_s > LONGEST_S:
        yield tuple(stages.split(".")), f"take {ends_s:g} s in all; {LONGEST_S} is the most"
    if "repeat" in load.model_fields_set:
        until = stages if by_stages else "load.duration_s"
        yield (
            ("load", "repeat"),
            f"contradicts {until}: passes over the dataset go on until the time is over; remove "
            "one (limits.wall_s ends a run with repeats early)",
        )
    if not by_stages and load.ramp_s is not None and load.ramp_s >= ends_s:
        yield ("load", "ramp_s"), f"must be shorter than load.duration_s ({ends_s:g}), or the load is never reached"
    wall_s = scenario.limits.wall_s
    if wall_s is not None and wall_s <= ends_s:
        yield (
            ("limits", "wall_s"),
            f"ends the run after {wall_s:g} s, and the load takes {ends_s:g} s and its last sessions; raise it, or "
            "remove it",
        )
    if load.warmup_s >= ends_s:
        yield ("load", "warmup_s"), f"must be shorter than the run ({ends_s:g} s), or nothing would be measured"


def _judging(scenario: Scenario) -> Iterator[Finding]:
    for name in scenario.scoring.checks:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            yield ("scoring", "checks", name), "a check is named in letters, digits and _ (it names a column)"
        elif name in _CHECKS_OF_ITEMS:
            yield ("scoring", "checks", name), "is taken by what items expect themselves; choose another name"
    yield from _scorers(list(scenario.scoring.scorers))


def _scorers(names: list[str]) -> Iterator[Finding]:
    for name in names:
        path = ("scoring", "scorers", name)
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            yield path, "a scorer is named in letters, digits and _ (it names columns and a file)"
        elif longer := next((other for other in names if other.startswith(f"{name}_")), None):
            yield path, f"begins the name {longer}, so that their columns could not be told apart; choose another"


def _dataset(scenario: Scenario) -> Iterator[Finding]:
    if "\0" in scenario.dataset.path:
        yield ("dataset", "path"), "holds a null character"


def contradictions(scenario: Scenario, *, api_version: str | None) -> Iterator[Finding]:
    """What the keys of a scenario, each right by itself, get wrong together.

    Args:
        scenario: a scenario with valid types.
        api_version: the one that would be dialled in dialect preview.
    """
    yield from _target(scenario)
    yield from _session(scenario)
    yield from _load(scenario)
    yield from _dialect(scenario, api_version)
    yield from _dataset(scenario)
    yield from _judging(scenario)
