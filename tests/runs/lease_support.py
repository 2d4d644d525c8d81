"""A lease on disk, as it is seen from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bucketwheel.lease import Lease
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL, LeaseDirectory


class LocalLeaseDirectory(LeaseDirectory):
    """The lease file in one directory."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory)
        self._file = directory / "lease.json"

    def content(self) -> str:
        return self._file.read_text()

    def put(self, content: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(content)

    def remove(self) -> None:
        self._file.unlink()

    def is_free(self) -> bool:
        return not self._file.exists()


def lease_in(metadata: Path, clock: Clock, ttl: float = TTL, lock_seconds: float = 30) -> Lease:
    return Lease(str(metadata), ttl, clock, lock_seconds)


def stored(metadata: Path) -> dict[str, Any]:
    lease: dict[str, Any] = json.loads((metadata / "lease.json").read_text())
    return lease
