"""A clock for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.time = datetime(2025, 4, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time of the clock."""
        return self.time

    def forward(self, seconds: float) -> None:
        """Advance the clock."""
        self.time += timedelta(seconds=seconds)
