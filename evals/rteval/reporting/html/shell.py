"""What every page of ours is wrapped in: its own files, its content security policy and data embedded as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["CHARTS", "STYLE", "asset", "digest", "embedded", "environment", "policy", "script_text"]

CHARTS = ("chart.umd.min.js", "chartjs-plugin-annotation.min.js", "plots.js")
"""Scripts that draw the figures of ``report-data``, in the order in which they are needed."""

STYLE = "report.css"


@cache
def environment() -> Environment:
    """Return the template environment: everything is escaped unless it is said to be markup."""
    env = Environment(
        loader=PackageLoader("rteval.reporting.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["exact"] = lambda value: json.dumps(value)
    return env


@cache
def asset(name: str) -> str:
    """Return one of the page's own files."""
    return files("rteval.reporting.html").joinpath("assets", name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def script_text(name: str) -> str:
    """Return a script as it stands between its tags; without the address of a source map, which is not shipped."""
    lines = asset(name).rstrip().split("\n")
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL"))


def policy(scripts: Sequence[str] = CHARTS, style: str = STYLE, *, plays_audio: bool = False) -> str:
    """Return a page's content security policy: nothing but the scripts and the style that it was written with.

    Args:
        scripts: names of the scripts, each an inline element of the page.
        style: name of the style.
        plays_audio: whether audio files beside the page may be played.
    """
    hashes = " ".join(digest(script_text(name)) for name in scripts)
    # A page that was opened from a disk has no origin, so 'self' alone would not be its own folder everywhere.
    media = "media-src 'self' file:; " if plays_audio else ""
    return (
        f"default-src 'none'; script-src {hashes}; style-src {digest(asset(style))}; "
        f"img-src data:; {media}base-uri 'none'; form-action 'none'"
    )


def embedded(data: object) -> str:
    """Return data as JSON that can stand in a script element: no tag and no comment can begin in it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def digest(text: str) -> str:
    """Return the source expression of an inline script or style (Content Security Policy level 2, hash source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
