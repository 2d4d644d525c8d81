"""Operating system locks on files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bucketwheel.errors import BucketwheelError
from bucketwheel.storage import wrap_os_errors
from bucketwheel.storage.durable import make_directories
from bucketwheel.system import system

_POLL_SECONDS = 0.005
# Longer than a publication takes; only a holder that was suspended in the middle reaches it.
LOCK_SECONDS = 30


@contextmanager
def file_lock(path: Path, refused: Callable[[], BucketwheelError], seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold an operating system lock on `path`, which remains as an empty file; the lock ends with the process.

    Raises:
        BucketwheelError: result of `refused`; another process or thread held the lock for `seconds`.
        StorageError: the file cannot be created.
    """
    clock = system().clock
    deadline = clock.monotonic() + seconds
    lock = _open(path)
    try:
        while True:
            locked = _try_lock(path, lock)
            if locked and _is_current(path, lock):
                break
            if clock.monotonic() >= deadline:
                raise refused()
            if locked:
                _close(lock)
                lock = _open(path)
            else:
                clock.sleep(_POLL_SECONDS)
        yield
    finally:
        _close(lock)


def _open(path: Path) -> int:
    with wrap_os_errors(str(path), "lock"):
        make_directories(path.parent)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o660)


def _close(lock: int) -> None:
    # Nothing was written, and the lock ends even if the disk reports an error here.
    with suppress(OSError):
        os.close(lock)


def _try_lock(path: Path, descriptor: int) -> bool:
    with wrap_os_errors(str(path), "lock"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_current(path: Path, descriptor: int) -> bool:
    """Return whether the locked file is still at its path; others lock the file that replaced it."""
    with wrap_os_errors(str(path), "lock"):
        try:
            return os.path.samestat(path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False
