"""What holds for every test: Hypothesis judges results, not the speed of a busy machine."""

from __future__ import annotations

import os

from hypothesis import settings

# A suite that runs in a CI job must not write into the summary of that job; tests of it say themselves where they run.
for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "TF_BUILD", "BUILD_SOURCESDIRECTORY"):
    os.environ.pop(name, None)

# Tests have no terminal, but processes that share the suite between them believe that they have one.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

settings.register_profile("house", deadline=None)
# For the run that only counts which branches are reached; the laws have had their full run beside it.
settings.register_profile("coverage", deadline=None, max_examples=20)
settings.load_profile(os.environ.get("RTEVAL_TEST_PROFILE", "house"))
