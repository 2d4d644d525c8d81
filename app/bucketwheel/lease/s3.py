"""Keep the lease in an S3 object: every change is a put conditional on the version that this writer read last.

S3 has no locks, so the holder checks its lease before each step and renews it first when a renewal is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bucketwheel.errors import StorageError
from bucketwheel.storage import Storage

# Content of a released lease: a delete could hit the lease of the next holder, a conditional put cannot.
_FREE = b"{}"


class ObjectLeaseFile:
    """See `lease.LeaseFile`."""

    def __init__(self, location: str, storage: Storage) -> None:
        self.name = location
        self.excludes = False
        self._storage = storage
        self._version: str | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `lease.LeaseFile.locked`; there are no locks on S3."""
        yield

    def read(self) -> bytes:
        """See `lease.LeaseFile.read`."""
        try:
            content, self._version = self._storage.read_version(self.name)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            content, self._version = b"", None
        return content

    def write(self, content: bytes) -> None:
        """See `lease.LeaseFile.write`; a write whose response was lost counts as done."""
        self._version = self._storage.replace(self.name, content, self._version)

    def delete(self) -> None:
        """See `lease.LeaseFile.delete`."""
        self.write(_FREE)
