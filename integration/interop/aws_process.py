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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def _answer(body: dict[str, Any]) -> Callable[[object], str]:
    return lambda _: json.dumps(body)


def add_statistics() -> None:
    """Add the calls for column statistics that moto lacks: a CTAS of Trino ends with one."""
    from moto.glue.responses import GlueResponse

    for kind in ("table", "partition"):
        none = _answer({"ColumnStatisticsList": [], "Errors": []})
        setattr(GlueResponse, f"get_column_statistics_for_{kind}", none)
        setattr(GlueResponse, f"update_column_statistics_for_{kind}", _answer({"Errors": []}))
        setattr(GlueResponse, f"delete_column_statistics_for_{kind}", _answer({}))
    setattr(GlueResponse, "get_user_defined_functions", _answer({"UserDefinedFunctions": []}))  # noqa: B010


def main() -> None:
    from aws_server import served, strict_glue

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    add_statistics()
    with strict_glue(), served() as endpoint:
        address = Path(sys.argv[1])
        written = address.with_suffix(".part")
        written.write_text(endpoint, encoding="utf-8")
        written.rename(address)
        sys.stdin.read()


if __name__ == "__main__":
    main()
