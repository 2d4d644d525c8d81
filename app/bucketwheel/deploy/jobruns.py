"""Follows a run of a job on AWS: its state, what it prints, what it has cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from bucketwheel import aws
from bucketwheel.errors import SubmitError
from bucketwheel.settings import AwsSettings

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
_MOST_LINES = 1_000


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
    """What is new: the state, and the lines printed since the last update."""

    state: JobState
    lines: tuple[str, ...] = ()


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


class Tail:
    """New lines of a run's log, each once."""

    def __init__(self, settings: AwsSettings, group: str, streams: str) -> None:
        self._client = aws.client("logs", settings)
        self._group, self._streams = group, streams
        self._since = 0
        self._seen: set[str] = set()

    def lines(self) -> tuple[str, ...]:
        """Return the lines since the last call; none where the log is not there yet or cannot be read."""
        try:
            events = self._events()
        except (ClientError, BotoCoreError):
            # The run counts, not its log; the next look brings what this one missed.
            return ()
        new = [event for event in events if event["eventId"] not in self._seen]
        if new:
            self._since = max(event["timestamp"] for event in new)
            # Events of one millisecond can come in two answers, and late.
            self._seen.update(event["eventId"] for event in new)
        return tuple(event["message"].rstrip("\n") for event in new)

    def _events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while len(found) < _MOST_LINES:
            answer = self._client.filter_log_events(
                logGroupName=self._group,
                logStreamNamePrefix=self._streams,
                startTime=max(self._since - 60_000, 0),
                **page,
            )
            # Not every emulator keeps to the prefix.
            found += [event for event in answer["events"] if event["logStreamName"].startswith(self._streams)]
            if not (token := answer.get("nextToken")):
                break
            page = {"nextToken": token}
        return found


def is_temporary(error: Exception) -> bool:
    """Return whether the same call may succeed a little later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return aws.code_of(error) in _THROTTLED or status >= 500
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
    with aws.translated(SubmitError, thing):
        return call()


def follow(
    runner: JobRunner,
    run_id: str,
    tail: Tail,
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
        tail: its log.
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
            report(Update(state, tail.lines()))
            if state.ended:
                return state
            if deadline is not None and clock() >= deadline:
                raise SubmitError(
                    f"{thing} is in state {state.state} after {state.seconds:.0f} s and was waited for long enough; "
                    f"{_left(runner, run_id, stop)}"
                )
            sleep(POLL_SECONDS)
    except KeyboardInterrupt as error:
        error.add_note(f"{thing}: {_left(runner, run_id, stop)}")
        raise


def _left(runner: JobRunner, run_id: str, stop: bool) -> str:
    """Stop the run where that was asked for, and say what becomes of it."""
    if not stop:
        return "it goes on; the same command with the same --token follows it again"
    try:
        runner.stop(run_id)
    except (ClientError, BotoCoreError) as error:
        return f"it could not be stopped and goes on: {error}"
    return "it was told to stop"
