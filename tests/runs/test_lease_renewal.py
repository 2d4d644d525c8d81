"""Guarding and renewing a held lease."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NoReturn

import pytest
from lease_support import lease_in, stored

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.lease import disk
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL


def test_guarded_lease_is_not_taken_over_after_ttl(metadata: Path, clock: Clock) -> None:
    with lease_in(metadata, clock) as lease:
        with lease.guard():
            clock.forward(2 * TTL)
            with (
                pytest.raises(LeaseError, match=f"process {os.getpid()} .*has held the lock of .* for 0.01 s"),
                lease_in(metadata, clock, lock_seconds=0.01),
            ):
                pytest.fail("it took over")
        with pytest.raises(LeaseError, match="another run holds"), lease_in(metadata, clock):
            pytest.fail("the holder did not renew at once")


def test_renew_waits_for_guard_of_another_thread(metadata: Path, clock: Clock) -> None:
    renewed: list[bool] = []
    with lease_in(metadata, clock) as lease:
        renewal = threading.Thread(target=lambda: renewed.append(lease.renew()))
        with lease.guard():
            renewal.start()
            renewal.join(0.02)
            assert renewed == []
        renewal.join()
    assert renewed == [True]


def test_failed_release_does_not_fail_run(metadata: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "permission denied")

    with lease_in(metadata, clock):
        monkeypatch.setattr(Path, "unlink", fail)
    assert stored(metadata)["pid"] == os.getpid()


def test_unwritable_lease_error_names_file(metadata: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "open_new", full)
    with pytest.raises(StorageError, match=r"lease\.json: cannot write: no space left"), lease_in(metadata, clock):
        pass


def test_unreadable_lease_in_guard_error_names_file(
    metadata: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with lease_in(metadata, clock) as lease:
        monkeypatch.setattr(Path, "read_bytes", fail)
        with pytest.raises(StorageError, match=r"lease\.json: cannot read"), lease.guard():
            pass
        monkeypatch.undo()
