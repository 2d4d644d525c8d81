"""AWS by moto on 127.0.0.1: Glue, and S3 if LocalStack is missing.

It runs in its own process, because Trino sends many requests and Python runs one thread at a time.
Writes its address to the file named by the first argument; ends when standard input is closed.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[2] / "tests"
_START_SECONDS = 120


@contextmanager
def aws_process(work: Path) -> Iterator[str]:
    """Start the process, with its log in `work`; yields the endpoint."""
    address, log = work / "aws-address", work / "aws-log"
    path = os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, __file__, str(address)],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not address.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto does not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield address.read_text(encoding="utf-8")
    finally:
        server.kill()
        server.communicate()


def add_functions() -> None:
    """Add the call for user-defined functions that moto lacks: Trino sends it for every query."""
    from moto.glue.responses import GlueResponse

    setattr(GlueResponse, "get_user_defined_functions", lambda _: json.dumps({"UserDefinedFunctions": []}))  # noqa: B010


def main() -> None:
    from aws_server import served, strict_glue

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    add_functions()
    with strict_glue(), served() as endpoint:
        address = Path(sys.argv[1])
        written = address.with_suffix(".part")
        written.write_text(endpoint, encoding="utf-8")
        written.rename(address)
        sys.stdin.read()


if __name__ == "__main__":
    main()
