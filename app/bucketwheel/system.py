"""What commands take from their surroundings: time, ids, threads, processes, storage backends and AWS clients.

Every command takes these from `system()`, so that a simulation or a test can replace them with `use`. The
replacement is a context variable: it holds for the block, also in threads of `pool`, and for no other thread.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """The time of day, a time that never goes backwards, and a way to wait."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        ...

    def monotonic(self) -> float:
        """Return the seconds since some moment; setting the time of day does not change them."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        time.sleep(seconds)


class ContextThreads(ThreadPoolExecutor):
    """A pool whose threads use the `system` of the thread that submits the work."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `Executor.submit`."""
        return super().submit(contextvars.copy_context().run, fn, *args, **kwargs)


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        host: the id of its host and of its process id namespace.
        pid: its process id.
        started: when it started, in a unit of its host; 0 if unknown.
    """

    host: str
    pid: int
    started: float


class Processes(Protocol):
    """This process and the others of its host."""

    def own(self) -> Process:
        """Return this process."""
        ...

    def is_alive(self, process: Process) -> bool | None:
        """Return whether a process lives; None if it ran on another host, or if the system does not say."""
        ...


def repeat_in_thread(step: Callable[[], float | None], first: float, name: str) -> Callable[[], None]:
    """Start a thread that repeats `step`; return a function that stops it and waits for the end of the last step.

    Args:
        step: the work; returns the seconds until the next one, or None to end.
        first: seconds until the first step.
        name: name of the thread.
    """
    stopped = threading.Event()

    def repeat() -> None:
        wait: float | None = first
        while wait is not None and not stopped.wait(wait):
            wait = step()

    def stop() -> None:
        stopped.set()
        thread.join()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(repeat,), name=name, daemon=True)
    thread.start()
    return stop


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class System:
    """The surroundings of a command.

    Attributes:
        clock: the clock.
        new_id: returns 32 random hex digits; no two calls return the same.
        random: returns a random number from 0 to 1, for pauses.
        pool: returns an executor with at most this number of threads.
        storages: by scheme (`file`, `s3`), a function that returns the storage backend for the storage settings;
            other schemes have the usual backend.
        client: returns the AWS client of a service; None creates clients of boto3.
        repeat: repeats a function in the background; see `repeat_in_thread`.
        processes: this process and the others of its host; None asks the operating system.
        lease_file: returns the file of the lease in a metadata directory; None opens the usual one.
        backends: by kind and name, such as `("engines", "arrow")`, the class to use instead of the usual one.
    """

    clock: Clock = field(default_factory=SystemClock)
    new_id: Callable[[], str] = _new_id
    random: Callable[[], float] = random.random
    pool: Callable[[int], Executor] = ContextThreads
    storages: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    client: Callable[[str], Any] | None = None
    repeat: Callable[[Callable[[], float | None], float, str], Callable[[], None]] = repeat_in_thread
    processes: Processes | None = None
    lease_file: Callable[[str], Any] | None = None
    backends: Mapping[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)


_DEFAULT = System()
_system: contextvars.ContextVar[System] = contextvars.ContextVar("bucketwheel_system", default=_DEFAULT)


def system() -> System:
    """Return the surroundings of the running command."""
    return _system.get()


@contextmanager
def use(replacement: System) -> Iterator[System]:
    """Replace the surroundings while the block runs."""
    token = _system.set(replacement)
    try:
        yield replacement
    finally:
        _system.reset(token)
