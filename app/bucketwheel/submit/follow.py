"""Follow a job run on AWS: its state, its output and its cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from bucketwheel.aws.errors import is_temporary, wrap_aws_errors
from bucketwheel.aws.retry import retry
from bucketwheel.errors import SubmitError

T = TypeVar("T")

POLL_SECONDS = 10.0
# Following ends after this many failed calls in a row.
_MAX_CONSECUTIVE_ERRORS = 12


@dataclass(frozen=True)
class JobState:
    """The current state of a job run; `state` is the platform's term, `cost` in dollars at configured prices."""

    run_id: str
    state: str
    ended: bool
    succeeded: bool
    seconds: float
    cost: float
    message: str = ""


@dataclass(frozen=True)
class Update:
    """News about a run: its state and the lines printed since the last update.

    `trouble` is the reason why the lines cannot be read, reported only once.
    """

    state: JobState
    lines: tuple[str, ...] = ()
    trouble: str = ""


class JobRunner(Protocol):
    """A platform that runs jobs; `job` is the job's name there, `log_group` the log group of its output."""

    job: str
    log_group: str

    def start(self, arguments: Mapping[str, str], token: str) -> str:
        """Start a run, or find the run that was started with this token, and return its id.

        Raises:
            JobBusyError: the maximum number of concurrent runs is reached.
            SubmitError: refused; says why.
        """
        ...

    def look(self, run_id: str) -> JobState:
        """Return the state of a run; raises botocore's errors."""
        ...

    def stop(self, run_id: str) -> None:
        """Ask a run to stop; raises botocore's errors."""
        ...

    def log_streams(self, run_id: str) -> str:
        """Return the prefix of the names of a run's log streams."""
        ...


class Log(Protocol):
    """The output of a run, as far as it can be read; see `log_tail.Tail`."""

    def lines(self) -> tuple[str, ...]:
        """Return the lines since the last call."""
        ...

    def trouble(self, last: bool = False) -> str:
        """Return why the lines cannot be read, the first time only; include temporary reasons if `last`."""
        ...


def retry_temporary(thing: str, call: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Return the result of `call`, retried through the temporary errors of a short outage.

    Raises:
        SubmitError: another error, or too many in a row.
    """
    with wrap_aws_errors(SubmitError, thing):
        return retry(call, is_temporary, repeat(POLL_SECONDS, _MAX_CONSECUTIVE_ERRORS - 1), sleep)


def follow(
    runner: JobRunner,
    run_id: str,
    log: Log,
    report: Callable[[Update], None],
    wait_seconds: float | None,
    stop: bool,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> JobState:
    """Follow a run to its end and return its last state.

    Args:
        runner: the platform.
        run_id: the id of the run.
        log: its output.
        report: called with every update, at least once.
        wait_seconds: maximum time to wait; None waits without limit.
        stop: whether to stop the run when the wait ends or is interrupted.
        sleep: pauses for a number of seconds.
        clock: a monotonic clock, in seconds.

    Raises:
        SubmitError: the wait ended, or AWS stopped answering; the run continues unless `stop`.
        KeyboardInterrupt: with a note that says what happens to the run.
    """
    deadline = None if wait_seconds is None else clock() + wait_seconds
    thing = f"run {run_id} of {runner.job}"
    try:
        while True:
            state = retry_temporary(thing, lambda: runner.look(run_id), sleep)
            report(Update(state, log.lines(), log.trouble()))
            if state.ended:
                break
            if deadline is not None and clock() >= deadline:
                raise SubmitError(
                    f"{thing} is in state {state.state} after {state.seconds:.0f} s: reached --timeout; "
                    f"{_after_wait(runner, run_id, stop)}"
                )
            sleep(POLL_SECONDS)
    except KeyboardInterrupt as error:
        error.add_note(f"{thing}: {_after_wait(runner, run_id, stop)}")
        raise
    try:
        _report_rest(state, log, report, sleep)
    except KeyboardInterrupt as error:
        error.add_note(f"{thing} ended in state {state.state}")
        raise
    return state


def _report_rest(state: JobState, log: Log, report: Callable[[Update], None], sleep: Callable[[float], None]) -> None:
    """Report the rest of the log of a run that ended, or why it could not be read."""
    # The last lines reach the log after the run has ended.
    sleep(POLL_SECONDS)
    while lines := log.lines():
        report(Update(state, lines))
    if trouble := log.trouble(last=True):
        report(Update(state, trouble=trouble))


def _after_wait(runner: JobRunner, run_id: str, stop: bool) -> str:
    """Stop the run if asked to, and return a text that says what happens to it."""
    if not stop:
        return "the job continues; the same command with the same --token follows it again"
    try:
        runner.stop(run_id)
    except (ClientError, BotoCoreError) as error:
        return f"it could not be stopped and continues: {error}"
    return "a stop was requested"
