"""The log of a followed run (moto): many lines at once, late lines, and a log that cannot be read."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bucketwheel.submit.log_tail import MOST_LINES
from submit_support import GROUP, JOB, Glue, answered, client, faults


class Log:
    """The log of a submitted run."""

    def __init__(self, glue: Glue) -> None:
        self._client = client("logs", glue.url)
        self._glue = glue
        self._streams: set[str] = set()

    def write(self, *lines: str, stream: str = "") -> None:
        name = stream or f"{self._glue.started[0][0]}-driver"
        if name not in self._streams:
            self._client.create_log_stream(logGroupName=GROUP, logStreamName=name)
            self._streams.add(name)
        now = time.time_ns() // 10**6
        events = [{"timestamp": now, "message": f"{line}\n"} for line in lines]
        self._client.put_log_events(logGroupName=GROUP, logStreamName=name, logEvents=events)


@pytest.fixture
def log(glue: Glue) -> Log:
    return Log(glue)


def test_log_lines_are_shown_once_as_they_arrive(glue: Glue, log: Log) -> None:
    def write(number: int) -> None:
        if number == 1:
            log.write("not ours", stream="of-another-run")
        if number < 4:
            log.write(*(f"line {number}.{part}" for part in (1, 2)))

    glue.on_sleep = write
    glue.submit()
    assert glue.lines() == [f"line {number}.{part}" for number in (1, 2, 3) for part in (1, 2)]
    assert glue.states() == ["STARTING", "RUNNING", "RUNNING", "SUCCEEDED"]


def test_log_of_many_pages_is_complete(glue: Glue, log: Log) -> None:
    written: list[str] = []

    def write(number: int) -> None:
        lines = [f"line {number}.{part}" for part in range(MOST_LINES + 400 if number < 4 else 0)]
        if lines:
            log.write(*lines)
        written.extend(lines)

    glue.on_sleep = write
    glue.submit()
    assert len(written) == 3 * (MOST_LINES + 400)
    assert glue.lines() == written
    assert max(len(update.lines) for update in glue.updates) < 2 * MOST_LINES


def test_log_lines_after_end_are_shown(glue: Glue, log: Log) -> None:
    glue.on_sleep = lambda number: log.write("the last words") if number == 4 else None
    glue.submit()
    assert glue.updates[-1].lines == ("the last words",)
    assert glue.states()[-2:] == ["SUCCEEDED", "SUCCEEDED"]


def test_denied_log_is_reported_once_and_run_succeeds(glue: Glue, log: Log) -> None:
    def refuse(request: Any, _: int) -> Any:
        return answered(request, 400, "AccessDeniedException", "not authorized to perform: logs:FilterLogEvents on x")

    with faults(glue.config, "logs", "FilterLogEvents", refuse) as calls:
        assert glue.submit().state.succeeded
    assert len(calls) > 3
    (trouble,) = glue.troubles()
    assert glue.updates[0].trouble == trouble
    assert trouble.startswith(f"the log of the run cannot be shown: log group {GROUP}: FilterLogEvents was denied (")
    assert trouble.endswith("; the role needs permission for logs:FilterLogEvents on it")


def test_temporary_log_fault_loses_no_line(glue: Glue, log: Log) -> None:
    glue.on_sleep = lambda number: log.write(f"line {number}") if number < 4 else None

    def slow(request: Any, number: int) -> Any:
        return answered(request, 400, "ThrottlingException", "slow down") if number < 6 else None

    with faults(glue.config, "logs", "FilterLogEvents", slow):
        glue.submit()
    assert glue.lines() == ["line 1", "line 2", "line 3"]
    assert glue.troubles() == []


def test_lasting_log_fault_is_reported_at_end(glue: Glue) -> None:
    client("logs", glue.url).delete_log_group(logGroupName=GROUP)
    glue.submit()
    (trouble,) = glue.troubles()
    assert glue.updates[-1].trouble == trouble
    assert trouble == (
        f"the log of the run cannot be shown: log group {GROUP}: it does not exist; "
        "`bucketwheel deploy apply` creates it"
    )


def test_interrupt_after_end_names_state_of_run(glue: Glue) -> None:
    def interrupt(number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt

    glue.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt) as interrupted:
        glue.submit()
    assert interrupted.value.__notes__ == [f"run {glue.started[0][0]} of {JOB} ended in state SUCCEEDED"]
