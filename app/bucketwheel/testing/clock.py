"""A clock for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that stands still until a test advances it."""

    def __init__(self, time: datetime = datetime(2025, 4, 1, 12, tzinfo=UTC)) -> None:
        self.time = time

    def __call__(self) -> datetime:
        """Return the time of the clock."""
        return self.time

    def now(self) -> datetime:
        """See `system.Clock.now`."""
        return self.time

    def monotonic(self) -> float:
        """See `system.Clock.monotonic`."""
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        """Advance the clock instead of waiting."""
        self.forward(seconds)

    def forward(self, seconds: float) -> None:
        """Advance the clock."""
        self.time += timedelta(seconds=seconds)
