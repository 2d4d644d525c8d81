"""What renewing a lease does wherever it is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.lease import Lease
from lease_contract import Home
from runs_support import Clock


def after_renewals(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], None]) -> threading.Event:
    """Call `change` with the number of each renewal, and set the event once three were tried."""
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
    """Renewing while the holder lives."""

    def test_guards_may_be_nested_and_renewed_in(self, home: Home, clock: Clock) -> None:
        with home.lease(clock) as lease, lease.guard(), lease.guard():
            assert lease.renew()
            with lease.guard():
                assert lease.renew()
        assert home.is_free()

    def test_a_lease_is_renewed_while_its_holder_lives(
        self, home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = after_renewals(monkeypatch, lambda _: clock.forward(1))
        with home.lease(clock, ttl=0.03):
            before = home.stored()["expires"]
            assert tried.wait(30)
            assert home.stored()["expires"] > before
            assert home.stored()["acquired"] == "2025-04-01T12:00:00+00:00"

    @pytest.mark.parametrize(
        "error", [StorageError("no space left"), OSError("input/output error"), ValueError("odd")]
    )
    def test_a_renewal_that_fails_is_tried_again(
        self, home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail_twice(number: int) -> None:
            if number <= 2:
                raise error
            clock.forward(1)

        tried = after_renewals(monkeypatch, fail_twice)
        with home.lease(clock, ttl=0.03) as lease:
            before = home.stored()["expires"]
            assert tried.wait(30)
            with lease.guard():
                pass
            assert home.stored()["expires"] >= before

    def test_a_lease_lost_because_it_could_not_be_renewed_says_so(
        self, home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: int) -> None:
            raise StorageError("lease.json: cannot write: no space left on the device")

        tried = after_renewals(monkeypatch, fail)
        with home.lease(clock, ttl=0.03) as lease:
            assert tried.wait(30)
            clock.forward(1)
            with (
                home.lease(clock),
                pytest.raises(LeaseError, match=r"could not be renewed: lease\.json: cannot write: no space"),
                lease.guard(),
            ):
                pass

    def test_the_renewer_ends_when_somebody_else_has_the_lease(self, home: Home, clock: Clock) -> None:
        with home.lease(clock, ttl=0.03) as lease:
            leave_token = {**home.stored(), "token": "another"}
            home.put(json.dumps(leave_token))
            lease._renewer.join(30)
            assert not lease._renewer.is_alive()
        assert home.stored()["token"] == "another"
