from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime

import pytest

from bucketwheel.cli.progress import show_progress
from bucketwheel.contracts import Progress, Report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that advances by a second per step of `story`."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time

    def tick(self) -> None:
        self.time += 1


def story(report: Report, clock: Clock | None = None) -> None:
    """Report the main steps of a run of 20 million rows."""
    if clock is not None:
        report_step, timer = report, clock

        def report(event: Progress) -> None:
            timer.tick()
            report_step(event)

    report(Progress("infobase_attributes", "discover", "started"))
    report(Progress("infobase_attributes", "discover", "warning", message="[bold] is no markup"))
    report(Progress("infobase_attributes", "discover", "finished", message="0.3 s"))
    report(Progress("infobase_attributes", "bucket", "started", total_rows=40_000_000, total_bytes=10**9))
    report(Progress("infobase_attributes", "bucket", "advanced", 0, 0))
    report(Progress("infobase_attributes", "bucket", "advanced", 20_000_000, 0))
    report(Progress("infobase_attributes", "bucket", "advanced", 5_000_000, 250_000_000))
    report(Progress("infobase_attributes", "bucket", "advanced", 5_000_000, 250_000_000))


def test_progress_without_terminal_prints_lines() -> None:
    stream = io.StringIO()
    with show_progress("text", stream) as report:
        story(report)
    assert stream.getvalue().splitlines() == [
        "infobase_attributes: warning: [bold] is no markup",
        "infobase_attributes: discover 0.3 s",
    ]


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_json_prints_one_object_per_event(kind: type[io.StringIO]) -> None:
    stream = kind()
    with show_progress("json", stream) as report:
        story(report)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["state"] for event in events] == ["started", "warning", "finished", "started"]
    assert datetime.fromisoformat(events[1].pop("time")).tzinfo == UTC
    assert events[1] == {
        "level": "WARNING",
        "dataset": "infobase_attributes",
        "stage": "discover",
        "state": "warning",
        "message": "[bold] is no markup",
    }
    assert (events[3]["total_rows"], events[3]["total_bytes"]) == (40_000_000, 10**9)


@pytest.mark.parametrize(("columns", "bar"), [(60, ""), (80, "[━╸╺]+ +"), (200, "[━╸╺]+ +")])
def test_bars_fit_terminal_width(monkeypatch: pytest.MonkeyPatch, columns: int, bar: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    clock = Clock()
    monkeypatch.setattr("rich.console.monotonic", clock)
    with show_progress("text", stream) as report:
        story(report, clock)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", stream.getvalue()).splitlines()
    assert "infobase_attributes" in lines
    last = [line for line in lines if line.startswith("bucket")][-1]
    assert re.fullmatch(rf"bucket +{bar}75 % 10\.0 M rows, 500\.0 MB 00:02 left *", last)
    assert max(map(len, lines)) <= columns
    assert "infobase_attributes: warning: [bold] is no markup" in lines
    first = [line for line in lines if line.startswith("discover")][-1]
    assert "100 % 0.3 s" in first


def test_bars_keep_counts_of_finished_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with show_progress("text", stream) as report:
        report(Progress("d", "verify", "started", total_rows=1200))
        report(Progress("d", "verify", "advanced", 1200, 4000))
        report(Progress("d", "verify", "finished", message="0.1 s"))
    assert "100 % 1,200 rows, 4.0 kB, 0.1 s" in stream.getvalue()


def test_progress_defaults_to_current_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("text") as report:
        story(report)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("discover 0.3 s\n")
