"""The test suite of leases that do not tell when they expire, which every storage of leases passes.

A test class inherits `WatchContract` and defines the fixtures of `bucketwheel.testing.lease.LeaseContract`. Nothing
waits here: the clock of the tests advances by the pauses of the lease.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bucketwheel.errors import LeaseError
from bucketwheel.system import system, use
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL, FakeProcesses, LeaseDirectory, WatchedClock, store_changed_lease

FAR = "2031-01-01T00:00:00.000+00:00"
DAMAGES: dict[str, dict[str, Any]] = {
    "token: ": {"token": ""},
    "host: ": {"host": None},
    "pid: ": {"pid": "7"},
    "pid: Input should be a valid integer": {"pid": True},
    "pid: Input should be greater than 0": {"pid": 0},
    "pid: Input should be less than 2147483648": {"pid": 2**80},
    "process_started: ": {"process_started": [1]},
    "acquired: ": {"acquired": 5},
    "expires: ": {"expires": 1e300},
    "expires: Invalid isoformat string": {"expires": "tomorrow"},
    "expires: has no time zone": {"expires": "2031-01-01T00:00:00"},
    "run_id: ": {"run_id": 1},
    "ttl_seconds: ": {"ttl_seconds": -1},
    "ttl_seconds: Input should be less than or equal to": {"ttl_seconds": 1e9},
}


class WatchContract:
    """Tests of a lease with an expiry that no holder asks for, or with damaged content."""

    @pytest.fixture
    def elsewhere(self, directory: LeaseDirectory, clock: Clock) -> LeaseDirectory:
        """Return the directory with a lease of another host."""
        store_changed_lease(directory, clock, host="elsewhere/boot/pid", pid=1)
        return directory

    def test_far_expiry_is_watched_then_taken_over(
        self, elsewhere: LeaseDirectory, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A lease with an expiry far in the future is taken over if nobody renews it for its time to live."""
        change(elsewhere, expires=FAR)
        clock = WatchedClock()
        start = clock.monotonic()
        with caplog.at_level(logging.WARNING, "bucketwheel"), elsewhere.lease(clock) as lease, lease.guard():
            assert TTL < clock.monotonic() - start < 2 * TTL
        watched, taken = caplog.messages
        assert f"of process 1 on elsewhere is valid until {FAR}, 181,483,200 s from now, " in watched
        assert "but leases last 60 s: the clock of that machine or of this one is wrong" in watched
        assert "this command waits 75 s for a renewal, then takes it over" in watched
        assert taken.endswith("process 1 on elsewhere, which did not renew it for 75 s")

    def test_far_expiry_that_is_renewed_holds(self, elsewhere: LeaseDirectory) -> None:
        """A lease with an expiry far in the future holds if its holder renews it."""
        change(elsewhere, expires=FAR)
        clock = WatchedClock(lambda pause: change(elsewhere, expires=f"203{pause}-01-01T00:00:00+00:00"))
        with pytest.raises(LeaseError, match=r"until 2031-01-01.* clock .* is wrong; .* renewed it just now"):
            elsewhere.lease(clock).__enter__()
        assert clock.pauses == 1

    def test_far_expiry_becomes_plausible_after_clock_is_set(self, elsewhere: LeaseDirectory) -> None:
        """A holder whose clock is set while its lease is watched holds it."""
        change(elsewhere, expires=FAR)
        clock = WatchedClock()

        def renew(pause: int) -> None:
            change(elsewhere, expires=(clock.now() + timedelta(seconds=TTL)).isoformat())

        clock = WatchedClock(renew)
        with pytest.raises(LeaseError, match=r"^another run holds the lease .*process 1 on elsewhere"):
            elsewhere.lease(clock).__enter__()

    def test_watched_lease_that_is_released_is_taken(self, elsewhere: LeaseDirectory) -> None:
        """A lease that is released while it is watched is taken at once."""
        change(elsewhere, expires=FAR)
        clock = WatchedClock(lambda _: elsewhere.put("{}"))
        with elsewhere.lease(clock) as lease, lease.guard():
            assert clock.pauses == 1

    def test_long_time_to_live_of_holder_counts(self, elsewhere: LeaseDirectory) -> None:
        """The time to live of the holder decides what is far, and how long a lease is watched."""
        change(elsewhere, ttl_seconds=20 * TTL)
        clock = WatchedClock()
        change(elsewhere, expires=(clock.now() + timedelta(seconds=20 * TTL)).isoformat())
        with pytest.raises(LeaseError, match="another run holds"), elsewhere.lease(clock):
            pass
        assert clock.pauses == 0
        change(elsewhere, expires=FAR)
        start = clock.monotonic()
        with elsewhere.lease(clock):
            assert clock.monotonic() - start > 20 * TTL

    def test_slightly_fast_clock_is_tolerated(self, elsewhere: LeaseDirectory) -> None:
        """A lease of a machine whose clock is slightly fast is not watched."""
        clock = WatchedClock()
        change(elsewhere, expires=(clock.now() + timedelta(seconds=1.2 * TTL)).isoformat())
        with pytest.raises(LeaseError, match="another run holds"), elsewhere.lease(clock):
            pass
        assert clock.pauses == 0

    def test_living_holder_on_this_host_is_not_watched(self, elsewhere: LeaseDirectory) -> None:
        """A lease with an expiry far in the future holds at once if its holder lives on this host."""
        change(elsewhere, expires=FAR)
        clock = WatchedClock()
        with (
            use(replace(system(), processes=FakeProcesses("elsewhere/boot/pid", alive=True))),
            pytest.raises(LeaseError, match="another run holds"),
        ):
            elsewhere.lease(clock).__enter__()
        assert clock.pauses == 0

    @pytest.mark.parametrize("problem", DAMAGES)
    def test_damaged_field_is_watched_then_taken_over(
        self, elsewhere: LeaseDirectory, problem: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A lease with a damaged field is taken over if nobody changes it; the warning names it and the fix."""
        change(elsewhere, **DAMAGES[problem])
        clock = hurried_clock()
        with caplog.at_level(logging.WARNING, "bucketwheel"), elsewhere.lease(clock) as lease, lease.guard():
            assert clock.pauses == 1
        watched, taken = caplog.messages
        assert f"lease.json is held by an unknown process, because its content cannot be read: {problem}" in watched
        assert "and delete the file: " in watched
        assert "took over a damaged lease" in taken

    @pytest.mark.parametrize("content", ["{", "[]", "null", "7", '{"token": 1}', "[" * 3000, '{"pid": ' + "9" * 5000])
    def test_damaged_text_is_watched_then_taken_over(self, directory: LeaseDirectory, content: str) -> None:
        """A lease that is no JSON object is taken over if nobody changes it."""
        directory.put(content)
        clock = hurried_clock()
        with directory.lease(clock) as lease, lease.guard():
            assert clock.pauses == 1

    def test_damaged_lease_that_changes_holds(self, directory: LeaseDirectory) -> None:
        """A lease that cannot be read, but is renewed, holds: another version may have written it."""
        directory.put('{"format": 2}')
        clock = WatchedClock(lambda pause: directory.put(json.dumps({"format": 2, "renewals": pause})))
        with pytest.raises(LeaseError, match=r"cannot be read: token: Field required; .* renewed it just now"):
            directory.lease(clock).__enter__()

    def test_deleted_damaged_lease_is_taken_at_once(self, directory: LeaseDirectory) -> None:
        """The deletion of a damaged lease, which the warning advises, frees it at once."""
        directory.put("{")
        clock = WatchedClock(lambda _: directory.remove())
        with directory.lease(clock) as lease, lease.guard():
            assert clock.pauses == 1

    def test_holder_of_damaged_lease_has_lost_it(self, directory: LeaseDirectory, clock: Clock) -> None:
        """The holder of a lease that is damaged does not publish, and does not delete the lease."""
        with directory.lease(clock) as lease:
            directory.put("{")
            assert not lease.renew()
            with pytest.raises(LeaseError, match=r"lost the lease .*cannot be read: it is no JSON"), lease.guard():
                pass
        assert directory.content() == "{"


def change(directory: LeaseDirectory, **changes: object) -> None:
    """Change fields of the stored lease."""
    directory.put(json.dumps({**directory.stored(), **changes}))


def hurried_clock() -> WatchedClock:
    """Return a clock whose pauses last longer than a lease."""

    def hurry(_: int) -> None:
        clock.forward(2 * TTL)

    clock = WatchedClock(hurry)
    return clock
