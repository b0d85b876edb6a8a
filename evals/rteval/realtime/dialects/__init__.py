"""The dialects of the wire: what differs between them is data, and here is where it is looked up."""

from __future__ import annotations

from .base import Dialect, UnsupportedSettingError
from .ga import GA
from .preview import PREVIEW

__all__ = ["DIALECTS", "GA", "PREVIEW", "Dialect", "UnsupportedSettingError"]

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (GA, PREVIEW)}
