"""The lease as a file on disk, and the operating system lock under which it is read, changed and relied on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bucketwheel.errors import LeaseError
from bucketwheel.storage import wrap_os_errors
from bucketwheel.storage.lock import file_lock


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
        with wrap_os_errors(self.name, "read"):
            return self._path.read_bytes() if self._path.exists() else b""

    def write(self, content: bytes) -> None:
        """See `LeaseFile.write`; under the lock it always is what was read."""
        aside = self._path.with_suffix(".new")
        with wrap_os_errors(self.name, "write"):
            aside.write_bytes(content)
            aside.replace(self._path)

    def delete(self) -> None:
        """See `LeaseFile.delete`."""
        with wrap_os_errors(self.name, "delete"):
            self._path.unlink()

    def _refused(self) -> LeaseError:
        return LeaseError(
            f"another run ({self._holder() or 'not named'}) has kept {self.name} locked for "
            f"{self._lock_seconds:g} s: it is publishing, or was stopped while it was; wait for it, or end it"
        )
