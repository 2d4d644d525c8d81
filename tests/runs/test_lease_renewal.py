"""Guarding and renewing a lease that is held."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from lease_support import TTL, lease_in, stored

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.lease import Lease
from runs_support import Clock


def test_nobody_takes_over_while_the_holder_publishes_however_long_it_takes(home: Path, clock: Clock) -> None:
    with lease_in(home, clock) as lease:
        with lease.guard():
            clock.forward(2 * TTL)
            with (
                pytest.raises(LeaseError, match=f"process {os.getpid()} .*has kept .* locked for 0.01 s"),
                lease_in(home, clock, lock_seconds=0.01),
            ):
                pytest.fail("it took over")
        with pytest.raises(LeaseError, match="another run holds"), lease_in(home, clock):
            pytest.fail("the holder did not renew at once")


def test_guards_may_be_nested_and_renewed_in(home: Path, clock: Clock) -> None:
    with lease_in(home, clock) as lease, lease.guard(), lease.guard():
        assert lease.renew()
        with lease.guard():
            assert lease.renew()
    assert not (home / "lease.json").exists()


def test_a_renewal_waits_for_the_guard_of_another_thread_and_then_goes_through(home: Path, clock: Clock) -> None:
    renewed: list[bool] = []
    with lease_in(home, clock) as lease:
        renewal = threading.Thread(target=lambda: renewed.append(lease.renew()))
        with lease.guard():
            renewal.start()
            renewal.join(0.02)
            assert renewed == []
        renewal.join()
    assert renewed == [True]


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


def test_a_lease_is_renewed_while_its_holder_lives(home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = after_renewals(monkeypatch, lambda _: clock.forward(1))
    with lease_in(home, clock, ttl=0.03):
        before = stored(home)["expires"]
        assert tried.wait(30)
        assert stored(home)["expires"] > before
        assert stored(home)["acquired"] == "2025-04-01T12:00:00+00:00"


@pytest.mark.parametrize("error", [StorageError("no space left"), OSError("input/output error"), ValueError("odd")])
def test_a_renewal_that_fails_is_tried_again(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail_twice(number: int) -> None:
        if number <= 2:
            raise error
        clock.forward(1)

    tried = after_renewals(monkeypatch, fail_twice)
    with lease_in(home, clock, ttl=0.03) as lease:
        before = stored(home)["expires"]
        assert tried.wait(30)
        with lease.guard():
            pass
        assert stored(home)["expires"] >= before


def test_a_lease_lost_because_it_could_not_be_renewed_says_so(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise StorageError("lease.json: cannot write: no space left on the device")

    tried = after_renewals(monkeypatch, fail)
    with lease_in(home, clock, ttl=0.03) as lease:
        assert tried.wait(30)
        clock.forward(1)
        with (
            lease_in(home, clock),
            pytest.raises(LeaseError, match=r"could not be renewed: lease\.json: cannot write: no space"),
            lease.guard(),
        ):
            pass


def test_the_renewer_ends_when_somebody_else_has_the_lease(home: Path, clock: Clock) -> None:
    with lease_in(home, clock, ttl=0.03) as lease:
        leave_token = {**stored(home), "token": "another"}
        (home / "lease.json").write_text(json.dumps(leave_token))
        lease._renewer.join(30)
        assert not lease._renewer.is_alive()
    assert stored(home)["token"] == "another"


def test_a_lease_that_cannot_be_freed_does_not_turn_success_into_failure(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "permission denied")

    with lease_in(home, clock):
        monkeypatch.setattr(Path, "unlink", fail)
    assert stored(home)["pid"] == os.getpid()


def test_a_disk_that_cannot_be_written_is_an_error_that_names_the_file(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"lease\.json: cannot write: no space left"), lease_in(home, clock):
        pass


def test_a_lease_that_cannot_be_read_while_publishing_is_an_error_that_names_the_file(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with lease_in(home, clock) as lease:
        monkeypatch.setattr(Path, "read_bytes", fail)
        with pytest.raises(StorageError, match=r"lease\.json: cannot read"), lease.guard():
            pass
        monkeypatch.undo()
