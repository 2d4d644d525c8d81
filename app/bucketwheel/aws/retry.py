"""Retry calls to AWS: one helper for all callers, each with its own pauses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from bucketwheel.aws.errors import is_throttled
from bucketwheel.system import system

_MAX_PAUSE = 10.0
_LOG = logging.getLogger("bucketwheel")

T = TypeVar("T")


def retry(
    action: Callable[[], T],
    is_retryable: Callable[[BaseException], bool],
    pauses: Iterable[float],
    sleep: Callable[[float], None] | None = None,
) -> T:
    """Return the result of `action`, repeated after each pause while it fails with a retryable error.

    Args:
        action: the call.
        is_retryable: whether a call that failed with this error is worth repeating.
        pauses: seconds before each further attempt; the error is raised when they end.
        sleep: waits for a number of seconds; by default with the clock of the command.

    Raises:
        Exception: the error of `action`, if it is not retryable or no pause is left.
    """
    waits, sleep = iter(pauses), sleep or system().clock.sleep
    while True:
        try:
            return action()
        except Exception as error:
            if not is_retryable(error):
                raise
            wait = next(waits, None)
            if wait is None:
                raise
            _LOG.info("a call to AWS failed and is repeated in %.1f s: %s", wait, error)
        sleep(wait)


def retry_throttled(
    action: Callable[[], T],
    seconds: float,
    sleep: Callable[[float], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> T:
    """Return the result of `action`, repeated with exponential backoff for at most `seconds` while AWS throttles it.

    Raises:
        ClientError: AWS refused for another reason, or throttled the last attempt too.
    """
    return retry(action, is_throttled, _backoff(seconds, clock or system().clock.monotonic), sleep)


def _backoff(seconds: float, clock: Callable[[], float], pause: float = 0.2) -> Iterator[float]:
    """Return an iterator over random, doubling pauses that ends when the next one would exceed `seconds`."""
    # Not a generator: the time starts with the first attempt.
    deadline = clock() + seconds

    def pauses() -> Iterator[float]:
        longest = pause
        while True:
            wait = longest / 2 * (1 + system().random())
            if clock() + wait > deadline:
                return
            yield wait
            longest = min(2 * longest, _MAX_PAUSE)

    return pauses()
