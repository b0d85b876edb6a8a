"""What holds for every test: Hypothesis judges results, not the speed of a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
