"""Leases to take, to leave behind and to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bucketwheel.lease import Lease
from runs_support import Clock

TTL = 60.0


def lease_in(home: Path, clock: Clock, ttl: float = TTL, lock_seconds: float = 30) -> Lease:
    return Lease(str(home), ttl, clock, lock_seconds)


def stored(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "lease.json").read_text())
    return found


def leave(home: Path, clock: Clock, **changes: object) -> None:
    """Leave a lease as this process would have, but for the changes."""
    with lease_in(home, clock):
        content = stored(home)
    (home / "lease.json").write_text(json.dumps({**content, "token": "another", **changes}))


def elsewhere(home: Path, clock: Clock) -> None:
    leave(home, clock, host="elsewhere/boot/pid", pid=1)
