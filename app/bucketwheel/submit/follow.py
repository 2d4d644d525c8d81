"""Follows a run of a job on AWS: its state, what it prints, what it has cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from bucketwheel.aws import clients
from bucketwheel.errors import SubmitError

T = TypeVar("T")

_THROTTLED = {
    "LimitExceededException",
    "OperationTimeoutException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
POLL_SECONDS = 10.0
# How often in a row AWS may not answer before following is given up.
_SILENCES = 12


@dataclass(frozen=True)
class JobState:
    """A run of a job as it is now; `state` is the platform's word, `cost` dollars at the configured prices."""

    run_id: str
    state: str
    ended: bool
    succeeded: bool
    seconds: float
    cost: float
    message: str = ""


@dataclass(frozen=True)
class Update:
    """What is new: the state, the lines printed since the last update, and why there are none; that is said once."""

    state: JobState
    lines: tuple[str, ...] = ()
    trouble: str = ""


class JobRunner(Protocol):
    """A platform that runs jobs; `job` is the job's name there, `log_group` where its output goes."""

    job: str
    log_group: str

    def start(self, arguments: Mapping[str, str], token: str) -> str:
        """Start a run, or find the one that was started with this token, and return its id.

        Raises:
            JobBusyError: no more runs at a time are allowed.
            SubmitError: refused; says why.
        """
        ...

    def look(self, run_id: str) -> JobState:
        """Return how a run is; errors are botocore's."""
        ...

    def stop(self, run_id: str) -> None:
        """Ask a run to stop; errors are botocore's."""
        ...

    def log_streams(self, run_id: str) -> str:
        """Return what the names of a run's log streams begin with."""
        ...


class Log(Protocol):
    """What a run prints, as far as it can be read; see `tail.Tail`."""

    def lines(self) -> tuple[str, ...]:
        """Return the lines since the last call."""
        ...

    def trouble(self, last: bool = False) -> str:
        """Return why there are none, once; with `last`, for a reason that may pass too."""
        ...


def is_temporary(error: Exception) -> bool:
    """Return whether the same call may succeed a little later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return clients.code_of(error) in _THROTTLED or status >= 500
    return not isinstance(error, NoCredentialsError)


def patiently(thing: str, call: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Return what `call` returns, through as many temporary errors in a row as a short outage brings.

    Raises:
        SubmitError: another error, or too many of them.
    """
    for _ in range(_SILENCES - 1):
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            if not is_temporary(error):
                break
            sleep(POLL_SECONDS)
    with clients.translated(SubmitError, thing):
        return call()


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
    """Wait for the end of a run and return its last state.

    Args:
        runner: the platform.
        run_id: the run.
        log: what it prints.
        report: called with what is new, at least once.
        wait_seconds: the longest wait; None waits for ever.
        stop: whether the run is stopped where the wait is over or interrupted.
        sleep: waits.
        clock: seconds.

    Raises:
        SubmitError: the wait is over, or AWS does not answer any more; the run goes on unless `stop`.
        KeyboardInterrupt: with a note on what became of the run.
    """
    deadline = None if wait_seconds is None else clock() + wait_seconds
    thing = f"run {run_id} of {runner.job}"
    try:
        while True:
            state = patiently(thing, lambda: runner.look(run_id), sleep)
            report(Update(state, log.lines(), log.trouble()))
            if state.ended:
                break
            if deadline is not None and clock() >= deadline:
                raise SubmitError(
                    f"{thing} is in state {state.state} after {state.seconds:.0f} s and was waited for long enough; "
                    f"{_left(runner, run_id, stop)}"
                )
            sleep(POLL_SECONDS)
    except KeyboardInterrupt as error:
        error.add_note(f"{thing}: {_left(runner, run_id, stop)}")
        raise
    try:
        _report_rest(state, log, report, sleep)
    except KeyboardInterrupt as error:
        error.add_note(f"{thing} has ended as {state.state}")
        raise
    return state


def _report_rest(state: JobState, log: Log, report: Callable[[Update], None], sleep: Callable[[float], None]) -> None:
    """Report all that is new in the log of a run that has ended, or why it was never read."""
    # What was printed last reaches the log after the run has ended.
    sleep(POLL_SECONDS)
    while lines := log.lines():
        report(Update(state, lines))
    if trouble := log.trouble(last=True):
        report(Update(state, trouble=trouble))


def _left(runner: JobRunner, run_id: str, stop: bool) -> str:
    """Stop the run where that was asked for, and say what becomes of it."""
    if not stop:
        return "it goes on; the same command with the same --token follows it again"
    try:
        runner.stop(run_id)
    except (ClientError, BotoCoreError) as error:
        return f"it could not be stopped and goes on: {error}"
    return "it was told to stop"
