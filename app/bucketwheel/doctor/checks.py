"""What a check found, and how checks are run: side by side, each with an end, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bucketwheel.errors import BucketwheelError

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Seen:
    """What a check saw; `todo` says what to do about it, and is empty where that is nothing."""

    state: State
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Check:
    """A name and the function that looks; it may raise errors of `bucketwheel.errors`, which count as failed."""

    name: str
    look: Callable[[], Seen]


@dataclass(frozen=True)
class Finding:
    """What became of one check."""

    name: str
    state: State
    found: str
    todo: str


def ok(found: str) -> Seen:
    """All is well."""
    return Seen("ok", found)


def warning(found: str, todo: str) -> Seen:
    """Something to know; work can go on."""
    return Seen("warning", found, todo)


def failed(found: str, todo: str) -> Seen:
    """A run, a deployment or a job would not work like this."""
    return Seen("failed", found, todo)


def of_error(error: BucketwheelError) -> Seen:
    """Return an error as a failed check; its text names the thing and the fault, then what to do."""
    found, _, todo = str(error).partition("; ")
    return failed(found, todo)


def run(checks: Sequence[Check], seconds: float) -> list[Finding]:
    """Return a finding for every check, in their order.

    Args:
        checks: what to look at.
        seconds: how long all of them together may take; what has not answered by then failed.
    """
    seen: dict[int, Seen] = {}

    def look(number: int) -> None:
        seen[number] = _seen(checks[number])

    # A call that hangs must not keep the process alive, as the threads of a pool would.
    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(checks))]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    late = failed(f"no answer within {seconds:g} s", "look at the network, proxies and endpoints, or raise --timeout")
    results = [seen.get(number, late) for number in range(len(checks))]
    return [
        Finding(check.name, part.state, part.found, part.todo) for check, part in zip(checks, results, strict=True)
    ]


def _seen(check: Check) -> Seen:
    try:
        return check.look()
    except BucketwheelError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 the other checks are wanted all the same
        return failed(f"{type(error).__name__}: {error}", "the check itself broke: please report this")
