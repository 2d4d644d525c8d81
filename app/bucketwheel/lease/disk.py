"""The lease as a file on disk, and the operating system lock under which it is read, changed and relied on."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bucketwheel.errors import BucketwheelError, LeaseError
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


class DiskLeaseFile:
    """A file on disk; an operating system lock keeps others off while it is read, changed or relied on."""

    def __init__(self, path: Path, lock_seconds: float, holder: Callable[[], object]) -> None:
        self.name = str(path)
        self.excludes = True
        self._path = path
        self._lock_seconds = lock_seconds
        self._holder = holder

    def locked(self) -> AbstractContextManager[None]:
        """See `LeaseFile.locked`."""
        return file_lock(self._path.with_suffix(".lock"), self._refused, self._lock_seconds)

    def read(self) -> bytes:
        """See `LeaseFile.read`."""
        with translated(self.name, "read"):
            return self._path.read_bytes() if self._path.exists() else b""

    def write(self, content: bytes) -> None:
        """See `LeaseFile.write`; under the lock it always is what was read."""
        aside = self._path.with_suffix(".new")
        with translated(self.name, "write"):
            aside.write_bytes(content)
            aside.replace(self._path)

    def delete(self) -> None:
        """See `LeaseFile.delete`."""
        with translated(self.name, "delete"):
            self._path.unlink()

    def _refused(self) -> LeaseError:
        return LeaseError(
            f"another run ({self._holder() or 'not named'}) has kept {self.name} locked for "
            f"{self._lock_seconds:g} s: it is publishing, or was stopped while it was; wait for it, or end it"
        )
