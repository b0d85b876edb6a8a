"""The report page: one self-contained HTML file that works offline, with verdicts first; it judges nothing itself."""

from __future__ import annotations

from .page import write_html

__all__ = ["write_html"]
