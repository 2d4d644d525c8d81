"""Show the progress of a run: bars on a terminal with rich, one line per stage elsewhere, JSON lines for programs.

Progress goes to stderr; stdout is for results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from bucketwheel.api import Progress, Report
from bucketwheel.formatting import counted, size_text
from bucketwheel.monitoring.json_log import JsonLog

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@contextmanager
def show_progress(output: str, stream: TextIO | None = None, log: JsonLog | None = None) -> Iterator[Report]:
    """Yield the callback that shows progress while the block runs.

    Args:
        output: `text` for people; anything else writes one JSON object per event.
        stream: the stream to write to, by default stderr; bars are drawn only on a terminal, and only by rich.
        log: gets the JSON events, instead of a new log on `stream`.
    """
    stream = stream or sys.stderr
    if output != "text":
        yield (log or JsonLog(stream)).report
    elif stream.isatty() and _has_rich():
        with _bars(stream) as report:
            yield report
    else:
        yield _stage_lines(stream)


def _has_rich() -> bool:
    """Return whether rich, which the extra `cli` installs, can be imported."""
    try:
        import rich.progress  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return False
    return True


def _stage_lines(stream: TextIO) -> Report:
    def report(event: Progress) -> None:
        if event.state == "finished" and event.stage:
            print(f"{event.dataset}: {event.stage} {event.message}", file=stream, flush=True)
        elif event.state == "warning":
            print(f"{event.dataset}: warning: {event.message}", file=stream, flush=True)

    return report


@contextmanager
def _bars(stream: TextIO) -> Iterator[Report]:
    # Imported late: slow to load, and needed on a terminal only.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(file=stream)
    # The line fits into 80 columns, even with the longest names and numbers.
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=8 if console.width < 100 else 28),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[done]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Bars(*columns, console=console) as bars:
        yield _bar_report(bars, console.print)


def _bar_report(bars: Bars, echo: Callable[..., None]) -> Report:
    tasks: dict[tuple[str, str], TaskID] = {}
    counts: dict[tuple[str, str], _Counts] = {}

    def report(event: Progress) -> None:
        key = (event.dataset, event.stage)
        if event.state == "warning":
            echo(f"{event.dataset}: warning: {event.message}", markup=False, highlight=False)
            return
        if not event.stage or event.state == "done":
            return
        if key not in tasks:
            total = event.total_rows or None
            tasks[key] = bars.add_task(f"{event.dataset} {event.stage}", total=total, done="")
            counts[key] = _Counts()
        counted = counts[key]
        if event.state == "finished":
            done = ", ".join(text for text in (counted.text(), event.message) if text)
            bars.update(tasks[key], total=1, completed=1, done=done)
        else:
            counted.add(event)
            bars.update(tasks[key], completed=counted.read + counted.written, done=counted.text())

    return report


@dataclass
class _Counts:
    """Rows read so far, rows written or read back so far, and the bytes of the latter."""

    read: int = 0
    written: int = 0
    bytes: int = 0

    def add(self, event: Progress) -> None:
        if event.bytes:
            self.written += event.rows
            self.bytes += event.bytes
        else:
            self.read += event.rows

    def text(self) -> str:
        if self.bytes:
            return f"{_rows(self.written)}, {size_text(self.bytes)}"
        return f"{_rows(self.read)} read" if self.read else ""


def _rows(count: int) -> str:
    return counted(count, "row") if count < 10**7 else f"{count / 1e6:,.1f} M rows"
