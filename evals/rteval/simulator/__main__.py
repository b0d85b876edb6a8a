"""``python -m rteval.simulator``: the simulated service without the rest of the command line; how a run starts it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ..errors import RtevalError
from .server import Options, serve


def main() -> int:
    """Parse, serve, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rteval.simulator", description="A simulated realtime service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dataset", type=Path, action="append", default=[])
    parser.add_argument("--behaviour", type=Path)
    parser.add_argument("--behaviour-json", help="the behaviour itself, as JSON")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--attached", action="store_true", help="end when stdin ends")
    given = parser.parse_args()
    options = Options(
        host=given.host,
        port=given.port,
        datasets=given.dataset,
        behaviour=json.loads(given.behaviour_json) if given.behaviour_json else given.behaviour,
        truth=given.truth,
        tls=given.tls,
        # Arguments can be read by every user of the machine; the environment only by this one.
        api_key=os.environ.get("RTEVAL_SIMULATE_API_KEY"),
        token=os.environ.get("RTEVAL_SIMULATE_TOKEN"),
        attached=given.attached,
    )
    try:
        return serve(options)
    except RtevalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
