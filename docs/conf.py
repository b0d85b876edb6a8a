"""The site of these pages, by Sphinx; nothing is fetched to build it, and nothing to read it."""

from __future__ import annotations

from rteval import __version__

project = "rteval"
release = version = __version__
extensions = ["myst_parser"]
# Headings are linked to by their text, as a code host does.
myst_heading_anchors = 3
# Terminal sessions and formats without a name are no code.
highlight_language = "text"
html_theme = "furo"
html_title = f"rteval {__version__}"
html_copy_source = False
html_show_copyright = False
