"""The lease as an object in S3: every change is a put that only succeeds on what this writer last read.

Nothing keeps others off while a holder relies on its lease, so it asks again before each step, with a lease
that is renewed first where much of its time has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bucketwheel.errors import StorageError
from bucketwheel.storage import Storage

# What a holder leaves: deleting could hit the lease of a follower, a conditional put cannot.
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
        """See `lease.LeaseFile.write`; an own write of which the answer was lost counts as done."""
        self._version = self._storage.replace(self.name, content, self._version)

    def delete(self) -> None:
        """See `lease.LeaseFile.delete`."""
        self.write(_FREE)
