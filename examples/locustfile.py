"""Realtime sessions under a plain Locust; docs/locust.md says what it does and what it leaves.

RTEVAL_SCENARIO=scenarios/support.yaml locust -f examples/locustfile.py --headless -u 8 -r 2 -t 2m
"""

from __future__ import annotations

from rteval.locust import RealtimeUser


class Caller(RealtimeUser):
    """Holds the scenario's sessions, one after the other."""
