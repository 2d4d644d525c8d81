"""Operating system locks on files."""

from __future__ import annotations

import fcntl
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.storage.lock import file_lock
from bucketwheel.system import repeat_in_thread, system, use
from bucketwheel.testing.clock import Clock


def refused() -> LeaseError:
    return LeaseError("the lock is held")


@pytest.mark.parametrize("recreated", [True, False])
def test_lock_file_replaced_before_locking_is_locked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recreated: bool
) -> None:
    path, lock, times = tmp_path / "lock", fcntl.flock, 2

    def replace_then_lock(descriptor: int, mode: int) -> None:
        nonlocal times
        if times:
            times -= 1
            path.unlink()
            if recreated:
                path.touch()
        lock(descriptor, mode)

    monkeypatch.setattr(fcntl, "flock", replace_then_lock)
    with file_lock(path, refused), path.open("a") as other, pytest.raises(BlockingIOError):
        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_lock_file_that_is_always_replaced_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = tmp_path / "lock", Clock()

    def replace_file(_: int, __: int) -> None:
        path.unlink()
        clock.forward(1)

    monkeypatch.setattr(fcntl, "flock", replace_file)
    with (
        use(replace(system(), clock=clock)),
        pytest.raises(LeaseError, match="the lock is held"),
        file_lock(path, refused, 5),
    ):
        pytest.fail("locked a deleted file")


def test_held_lock_is_refused_after_its_time(tmp_path: Path) -> None:
    clock = Clock()
    start = clock.monotonic()
    with (
        file_lock(tmp_path / "lock", refused),
        use(replace(system(), clock=clock)),
        pytest.raises(LeaseError, match="the lock is held"),
        file_lock(tmp_path / "lock", refused, 3),
    ):
        pytest.fail("two holders at once")
    assert clock.monotonic() - start == pytest.approx(3, abs=0.1)
    with file_lock(tmp_path / "lock", refused):
        pass


def test_lock_in_a_file_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/lock: cannot lock"), file_lock(tmp_path / "file/lock", refused):
        pass


def test_repeated_step_ends_with_none_or_stop() -> None:
    done, seen = threading.Event(), []

    def step() -> float | None:
        seen.append(threading.current_thread().name)
        if len(seen) == 3:
            done.set()
            return None
        return 0

    stop = repeat_in_thread(step, 0, "worker")
    assert done.wait(30)
    stop()
    assert seen == ["worker"] * 3
    repeat_in_thread(lambda: pytest.fail("the first step has its time"), 3600, "worker")()


def test_repeated_step_uses_the_system_of_its_starter() -> None:
    clock, seen, done = Clock(), [], threading.Event()

    def step() -> None:
        seen.append(system().clock)
        done.set()

    with use(replace(system(), clock=clock)):
        stop = repeat_in_thread(step, 0, "worker")
        assert done.wait(30)
        stop()
    assert seen == [clock]
