"""Shows a run as it goes: bars on a terminal, one line a stage elsewhere, JSON lines for machines.

All of it goes to stderr; stdout is for results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TextIO

from bucketwheel.contracts import Progress, Report


@contextmanager
def shown(output: str, stream: TextIO | None = None) -> Iterator[Report]:
    """Yield what to report progress to.

    Args:
        output: `json` writes one object per event; anything else is for people.
        stream: where to write, by default stderr; bars are drawn only where it is a terminal.
    """
    stream = stream or sys.stderr
    if output == "json":
        yield _json_lines(stream)
    elif stream.isatty():
        with _bars(stream) as report:
            yield report
    else:
        yield _stage_lines(stream)


def _json_lines(stream: TextIO) -> Report:
    def report(event: Progress) -> None:
        if event.state != "advanced":
            filled = {name: value for name, value in asdict(event).items() if value not in ("", 0)}
            print(json.dumps(filled), file=stream, flush=True)

    return report


def _stage_lines(stream: TextIO) -> Report:
    def report(event: Progress) -> None:
        if event.state == "finished":
            print(f"{event.dataset}: {event.stage} {event.message}", file=stream, flush=True)
        elif event.state == "warning":
            print(f"{event.dataset}: warning: {event.message}", file=stream, flush=True)

    return report


@contextmanager
def _bars(stream: TextIO) -> Iterator[Report]:
    # Drawing libraries are slow to load and not needed where there is no terminal.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(file=stream)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield _bar_report(bars, console.print)


def _bar_report(bars: object, say: Callable[..., None]) -> Report:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    assert isinstance(bars, Bars)
    tasks: dict[tuple[str, str], TaskID] = {}
    counts: dict[tuple[str, str], list[int]] = {}

    def report(event: Progress) -> None:
        key = (event.dataset, event.stage)
        if event.state == "warning":
            say(f"{event.dataset}: warning: {event.message}", markup=False, highlight=False)
            return
        if key not in tasks:
            total = event.total_rows or None
            tasks[key] = bars.add_task(f"{event.dataset} {event.stage}", total=total, done="")
            counts[key] = [0, 0]
        if event.state == "finished":
            bars.update(tasks[key], total=1, completed=1, done=event.message)
            return
        counts[key][0] += event.rows
        counts[key][1] += event.bytes
        rows, size = counts[key]
        text = f"{rows:,} rows" + (f", {size / 1e6:,.0f} MB written" if size else "") if rows else ""
        bars.update(tasks[key], completed=rows, done=text)

    return report
