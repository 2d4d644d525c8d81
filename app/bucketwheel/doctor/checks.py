"""The result of a check, and the runner: all checks run in parallel, under one time limit, independently."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bucketwheel.errors import BucketwheelError

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """The result of a check; `todo` is the fix, empty if nothing needs to be done."""

    state: State
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Check:
    """A name and the function that does the check; an error of `bucketwheel.errors` counts as failed."""

    name: str
    look: Callable[[], CheckResult]


@dataclass(frozen=True)
class Finding:
    """The result of a check with its name."""

    name: str
    state: State
    found: str
    todo: str


def ok(description: str) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult("ok", description)


def warning(description: str, todo: str) -> CheckResult:
    """Return the result of a check with a problem that does not stop a run."""
    return CheckResult("warning", description, todo)


def failed(description: str, todo: str) -> CheckResult:
    """Return the result of a check whose problem makes a run, a deployment or a job fail."""
    return CheckResult("failed", description, todo)


def of_error(error: BucketwheelError) -> CheckResult:
    """Return an error as a failed check; the text after the first semicolon becomes the fix."""
    problem, _, todo = str(error).partition("; ")
    return failed(problem, todo)


def run(checks: Sequence[Check], seconds: float) -> list[Finding]:
    """Run all checks in parallel and return one finding per check, in the same order.

    Args:
        checks: the checks to run.
        seconds: time limit for all of them; a check without an answer by then counts as failed.
    """
    done: dict[int, CheckResult] = {}

    def look(number: int) -> None:
        done[number] = _result(checks[number])

    # Daemon threads, because a hanging call must not keep the process alive as the threads of a pool would.
    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(checks))]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    late = failed(f"no answer within {seconds:g} s", "check the network, proxies and endpoints, or raise --timeout")
    results = [done.get(number, late) for number in range(len(checks))]
    return [
        Finding(check.name, part.state, part.found, part.todo) for check, part in zip(checks, results, strict=True)
    ]


def _result(check: Check) -> CheckResult:
    try:
        return check.look()
    except BucketwheelError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 the other checks must still report
        return failed(f"{type(error).__name__}: {error}", "this is a bug in the check: please report it")
