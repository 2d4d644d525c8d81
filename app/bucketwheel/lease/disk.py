"""Keep the lease in a file on disk, guarded by an operating system lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bucketwheel.errors import LeaseError
from bucketwheel.storage import wrap_os_errors
from bucketwheel.storage.durable import open_new
from bucketwheel.storage.lock import file_lock


class DiskLeaseFile:
    """Lease file on disk; an operating system lock excludes other writers."""

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
        """See `LeaseFile.write`; the lock ensures that it is the content that was read."""
        temporary = self._path.with_suffix(".new")
        with wrap_os_errors(self.name, "write"):
            temporary.unlink(missing_ok=True)
            with open_new(temporary) as file:
                file.write(content)
            temporary.replace(self._path)

    def delete(self) -> None:
        """See `LeaseFile.delete`."""
        with wrap_os_errors(self.name, "delete"):
            self._path.unlink()

    def _refused(self) -> LeaseError:
        return LeaseError(
            f"another run ({self._holder() or 'unknown'}) has held the lock of {self.name} for "
            f"{self._lock_seconds:g} s: it is publishing, or was suspended; wait for it to finish, or stop it"
        )
