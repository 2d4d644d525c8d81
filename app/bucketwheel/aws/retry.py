"""Tries calls to AWS again that were refused only because too much was asked at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import ClientError

from bucketwheel.aws import clients

# botocore tries most of these again itself, but gives up after a number of attempts, however little time that took.
_LATER = {
    "InternalServerException",
    "InternalServiceException",
    "OperationTimeoutException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_LONGEST_PAUSE = 10.0

T = TypeVar("T")


def passes(error: BaseException) -> bool:
    """Return whether AWS may do later what it has just refused."""
    return clients.code_of(error) in _LATER


def patiently(action: Callable[[], T], seconds: float, pause: float = 0.2) -> T:
    """Do it; where AWS throttles or is out of order, again after random, growing pauses, for at most `seconds`.

    Raises:
        ClientError: AWS refused for another reason, or did so to the end.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except ClientError as error:
            wait = random.uniform(pause / 2, pause)  # noqa: S311  spreads load, guards nothing
            if not passes(error) or time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)
