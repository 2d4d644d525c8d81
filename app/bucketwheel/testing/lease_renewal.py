"""The test suite of lease renewal that every storage of leases passes.

A test class inherits `RenewalContract` and defines the fixtures of `bucketwheel.testing.lease.LeaseContract`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.lease import Lease
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import LeaseDirectory


def after_renewals(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], None]) -> threading.Event:
    """Call `change` with the number of each renewal; return an event that is set after three attempts."""
    write, tried = Lease._write, threading.Event()
    count = 0

    def counted(lease: Lease) -> None:
        nonlocal count
        if threading.current_thread().name == "lease":
            count += 1
            try:
                change(count)
            finally:
                if count >= 3:
                    tried.set()
        write(lease)

    monkeypatch.setattr(Lease, "_write", counted)
    return tried


class RenewalContract:
    """Tests of renewing a lease while its holder lives."""

    def test_guards_can_be_nested(self, directory: LeaseDirectory, clock: Clock) -> None:
        """Guards can be nested, and a lease can be renewed inside a guard."""
        with directory.lease(clock) as lease, lease.guard(), lease.guard():
            assert lease.renew()
            with lease.guard():
                assert lease.renew()
        assert directory.is_free()

    def test_lease_is_renewed_while_holder_lives(
        self, directory: LeaseDirectory, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lease is renewed while its holder lives."""
        tried = after_renewals(monkeypatch, lambda _: clock.forward(1))
        with directory.lease(clock, ttl=0.03):
            before = directory.stored()["expires"]
            assert tried.wait(30)
            assert directory.stored()["expires"] > before
            assert directory.stored()["acquired"] == "2025-04-01T12:00:00+00:00"

    @pytest.mark.parametrize(
        "error", [StorageError("no space left"), OSError("input/output error"), ValueError("odd")]
    )
    def test_failed_renewal_is_retried(
        self, directory: LeaseDirectory, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """A failed renewal is retried."""

        def fail_twice(number: int) -> None:
            if number <= 2:
                raise error
            clock.forward(1)

        tried = after_renewals(monkeypatch, fail_twice)
        with directory.lease(clock, ttl=0.03) as lease:
            before = directory.stored()["expires"]
            assert tried.wait(30)
            with lease.guard():
                pass
            assert directory.stored()["expires"] >= before

    def test_error_of_lost_lease_names_failed_renewal(
        self, directory: LeaseDirectory, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error of a lost lease names the failed renewal."""

        def fail(_: int) -> None:
            raise StorageError("lease.json: cannot write: no space left on the device")

        tried = after_renewals(monkeypatch, fail)
        with directory.lease(clock, ttl=0.03) as lease:
            assert tried.wait(30)
            clock.forward(1)
            with (
                directory.lease(clock),
                pytest.raises(LeaseError, match=r"could not be renewed: lease\.json: cannot write: no space"),
                lease.guard(),
            ):
                pass

    def test_renewer_stops_after_takeover(self, directory: LeaseDirectory, clock: Clock) -> None:
        """The renewer stops after another process took over the lease."""
        with directory.lease(clock, ttl=0.03) as lease:
            changed = {**directory.stored(), "token": "another"}
            directory.put(json.dumps(changed))
            lease._renewer.join(30)
            assert not lease._renewer.is_alive()
        assert directory.stored()["token"] == "another"
