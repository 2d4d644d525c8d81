"""The test suite of lease renewal that every storage of leases passes.

A test class inherits `RenewalContract` and defines the fixtures of `bucketwheel.testing.lease.LeaseContract`. Nothing
waits here: each test renews leases itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.lease import Lease
from bucketwheel.system import system, use
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL, LeaseDirectory


class Renewals:
    """The renewals of one lease, which happen when a test asks for them.

    Attributes:
        wait: seconds until the next renewal; None if there will be none.
    """

    def __init__(self) -> None:
        self.wait: float | None = None
        self._step: Callable[[], float | None] = lambda: None

    def repeat(self, step: Callable[[], float | None], first: float, _: str) -> Callable[[], None]:
        """See `system.repeat_in_thread`."""
        self._step, self.wait = step, first
        return self._stop

    def run(self) -> None:
        """Renew the lease now."""
        assert self.wait is not None
        self.wait = self._step()

    def _stop(self) -> None:
        self.wait = None


def fail_writes(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let every write of a lease fail."""

    def fail(_: Lease) -> None:
        raise error

    monkeypatch.setattr(Lease, "_write", fail)


class RenewalContract:
    """Tests of renewing a lease while its holder lives."""

    @pytest.fixture
    def renewals(self) -> Iterator[Renewals]:
        """Return the renewals of the lease that the test takes first."""
        renewals = Renewals()
        with use(replace(system(), repeat=renewals.repeat)):
            yield renewals

    def test_guards_can_be_nested(self, directory: LeaseDirectory, clock: Clock) -> None:
        """Guards can be nested, and a lease can be renewed inside a guard."""
        with directory.lease(clock) as lease, lease.guard(), lease.guard():
            assert lease.renew()
            with lease.guard():
                assert lease.renew()
        assert directory.is_free()

    def test_lease_is_renewed_while_holder_lives(
        self, directory: LeaseDirectory, clock: Clock, renewals: Renewals
    ) -> None:
        """A lease is renewed three times in its time to live, until it is released."""
        with directory.lease(clock):
            for _ in range(9):
                assert renewals.wait == TTL / 3
                before = directory.stored()["expires"]
                clock.forward(renewals.wait)
                renewals.run()
                assert directory.stored()["expires"] > before
            assert directory.stored()["acquired"] == "2025-04-01T12:00:00+00:00"
        assert renewals.wait is None

    @pytest.mark.parametrize(
        "error", [StorageError("no space left"), OSError("input/output error"), ValueError("odd")]
    )
    def test_failed_renewal_is_retried_early(
        self,
        directory: LeaseDirectory,
        clock: Clock,
        renewals: Renewals,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
    ) -> None:
        """A failed renewal is retried early."""
        with directory.lease(clock) as lease:
            before = directory.stored()["expires"]
            with monkeypatch.context() as broken:
                fail_writes(broken, error)
                for _ in range(2):
                    renewals.run()
                    assert renewals.wait == TTL / 12
            clock.forward(TTL / 12)
            renewals.run()
            assert renewals.wait == TTL / 3
            with lease.guard():
                pass
            assert directory.stored()["expires"] > before

    def test_error_of_lost_lease_names_failed_renewal(
        self, directory: LeaseDirectory, clock: Clock, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error of a lost lease names the failed renewal."""
        with directory.lease(clock) as lease:
            with monkeypatch.context() as broken:
                fail_writes(broken, StorageError("lease.json: cannot write: no space left on the device"))
                renewals.run()
            clock.forward(TTL)
            with (
                directory.lease(clock),
                pytest.raises(LeaseError, match=r"could not be renewed: lease\.json: cannot write: no space"),
                lease.guard(),
            ):
                pass

    def test_renewal_stops_after_takeover(self, directory: LeaseDirectory, clock: Clock, renewals: Renewals) -> None:
        """The renewals end after another process took over the lease."""
        with directory.lease(clock):
            changed = {**directory.stored(), "token": "another"}
            directory.put(json.dumps(changed))
            renewals.run()
            assert renewals.wait is None
        assert directory.stored()["token"] == "another"
