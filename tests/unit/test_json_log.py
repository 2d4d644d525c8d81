"""The JSON log: one object per line for any text, and its conversion to text for people."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bucketwheel.advice import RESUME
from bucketwheel.contracts import Progress, of_run
from bucketwheel.errors import QualityError
from bucketwheel.monitoring.json_log import JsonLog, plain_text

MOMENT = datetime(2025, 11, 1, 6, 11, 9, 123456, tzinfo=timezone(timedelta(hours=2)))
RUN = "2025-10-22-20251101T041109Z-0a1b2c"


class Lines:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.log = JsonLog(self.stream, lambda: MOMENT)

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Lines:
    return Lines()


def failed() -> QualityError:
    error = QualityError("200 rows have a NULL key")
    error.add_note("table ext_a was rolled back")
    error.add_note(f"{RESUME}bucketwheel run people --resume {RUN}")
    return error


def test_event_has_level_time_run_and_position(lines: Lines) -> None:
    report = of_run(lines.log.report, RUN)
    report(Progress("people", "bucket", "done", 1200, 4000, bucket=0, files=2))
    report(Progress("people", "verify", "done", 1200, 4000, table="ibe_01", files=4))
    report(Progress("people", "verify", "finished", seconds=0.0, message="0.0 s"))
    head = {"time": "2025-11-01T04:11:09.123Z", "level": "INFO", "run": RUN, "dataset": "people"}
    counts = {"rows": 1200, "bytes": 4000}
    assert lines.all() == [
        {**head, "stage": "bucket", "bucket": 0, "state": "done", **counts, "files": 2},
        {**head, "stage": "verify", "table": "ibe_01", "state": "done", **counts, "files": 4},
        {**head, "stage": "verify", "state": "finished", "seconds": 0.0, "message": "0.0 s"},
    ]


def test_log_omits_advanced_steps(lines: Lines) -> None:
    lines.log.report(Progress("people", "bucket", "advanced", 10, 10))
    assert lines.all() == []


def test_failure_has_stage_and_resume_command(lines: Lines) -> None:
    of_run(lines.log.report, RUN)(Progress("people", "verify", "started"))
    lines.log.failure(failed())
    assert lines.all()[1] == {
        "time": "2025-11-01T04:11:09.123Z",
        "level": "ERROR",
        "run": RUN,
        "dataset": "people",
        "stage": "verify",
        "state": "failed",
        "error": "QualityError",
        "exit_code": 3,
        "advice": f"To resume: bucketwheel run people --resume {RUN}",
        "resume": f"bucketwheel run people --resume {RUN}",
        "notes": ["table ext_a was rolled back"],
        "message": "200 rows have a NULL key",
    }


def test_failure_omits_run_of_another_dataset(lines: Lines) -> None:
    of_run(lines.log.report, RUN)(Progress("people", "ctas", "finished"))
    lines.log.report(Progress("others", "", "started"))
    lines.log.failure(ValueError())
    event = lines.all()[-1]
    assert (event["dataset"], event["message"]) == ("others", "ValueError")
    assert not {"run", "stage", "resume", "notes"} & set(event)


@pytest.mark.parametrize("text", ["two\nlines", "a\u2028b\u0085c\x1b[31m", 'quote" and \\', "emoji \U0001f4a5"])
def test_event_is_one_line_of_ascii_for_any_text(lines: Lines, text: str) -> None:
    lines.log.write("WARNING", text)
    written = lines.stream.getvalue()
    assert written.isascii()
    assert len(written.splitlines()) == 1
    assert lines.all()[0]["message"] == text


def test_long_message_is_truncated(lines: Lines) -> None:
    lines.log.failure(ValueError("\u00e4" * 1_000_000))
    (event,) = lines.all()
    assert event["message"].endswith("… (960,000 more characters)")
    assert len(lines.stream.getvalue()) < 256 * 1024


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("26/11/24 INFO SparkContext: started", "26/11/24 INFO SparkContext: started"),
        ("{}", "{}"),
        ("12", "12"),
        ('{"_aws": {}, "Rows": 1}', None),
        ('{"level": "INFO", "dataset": "d", "stage": "bucket", "bucket": 3, "state": "done"}', None),
        (
            '{"time": "T", "level": "INFO", "dataset": "d", "stage": "bucket", "state": "finished", "message": "s"}',
            "T d bucket finished: s",
        ),
        ('{"time": "T", "level": "WARNING", "dataset": "d", "state": "warning", "message": "w"}',
         "T warning: d warning: w"),
        (
            '{"time": "T", "level": "ERROR", "dataset": "d", "state": "failed", "message": "m", "resume": "b run d"}',
            f"T error: d failed: m\n{RESUME}b run d",
        ),
        (
            '{"time": "T", "level": "ERROR", "state": "failed", "message": "m", "advice": "Fix, then run again: b"}',
            "T error: failed: m\nFix, then run again: b",
        ),
    ],
)  # fmt: skip
def test_plain_text_formats_event(line: str, text: str | None) -> None:
    assert plain_text(line) == text


def test_event_time_is_in_utc(lines: Lines) -> None:
    lines.log.write("INFO", "x")
    assert datetime.fromisoformat(lines.all()[0]["time"]).astimezone(UTC) == MOMENT.replace(microsecond=123000)
