"""Guarding and renewing a lease that is held."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from lease_support import lease_in, stored

from bucketwheel.errors import LeaseError, StorageError
from lease_contract import TTL
from runs_support import Clock


def test_nobody_takes_over_while_the_holder_publishes_however_long_it_takes(home: Path, clock: Clock) -> None:
    with lease_in(home, clock) as lease:
        with lease.guard():
            clock.forward(2 * TTL)
            with (
                pytest.raises(LeaseError, match=f"process {os.getpid()} .*has held the lock of .* for 0.01 s"),
                lease_in(home, clock, lock_seconds=0.01),
            ):
                pytest.fail("it took over")
        with pytest.raises(LeaseError, match="another run holds"), lease_in(home, clock):
            pytest.fail("the holder did not renew at once")


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
