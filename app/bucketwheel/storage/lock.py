"""Operating system locks on files."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bucketwheel.errors import BucketwheelError
from bucketwheel.storage import translated

_POLL_SECONDS = 0.005
# Longer than any honest holder needs; only one that was stopped in mid-publication takes it.
LOCK_SECONDS = 30


@contextmanager
def file_lock(path: Path, refused: Callable[[], BucketwheelError], seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold an operating system lock on `path`, which stays as an empty file; the lock ends with its process.

    Raises:
        BucketwheelError: what `refused` returns, where another process or thread kept it for `seconds`.
        StorageError: the file cannot be made.
    """
    with translated(str(path), "lock"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        deadline = time.monotonic() + seconds
        while not _taken(path, lock.fileno()):
            if time.monotonic() >= deadline:
                raise refused()
            time.sleep(_POLL_SECONDS)
        yield


def _taken(path: Path, descriptor: int) -> bool:
    with translated(str(path), "lock"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
