"""Show the progress of a command on stderr: bars or lines for people, JSON lines for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from bucketwheel import api
from bucketwheel.cli.options import invocation
from bucketwheel.monitoring.json_log import JsonLog


@contextmanager
def show_progress(output: str, stream: TextIO | None = None, log: JsonLog | None = None) -> Iterator[api.Report]:
    """Yield the callback that shows progress while the block runs.

    Args:
        output: `text` for people; anything else writes one JSON object per event.
        stream: the stream to write to, by default stderr; bars are drawn only on a terminal, and only by rich.
        log: gets the JSON events, instead of a new log on `stream`.
    """
    stream = stream or sys.stderr
    if output != "text":
        yield (log or JsonLog(stream)).report
        return
    with api.progress(stream, invocation().color) as report:
        yield report
