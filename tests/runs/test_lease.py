from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from runs_support import Clock

import bucketwheel
from bucketwheel import lease as module
from bucketwheel.errors import ConfigError, LeaseError, StorageError
from bucketwheel.lease import Lease

TTL = 60.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "books"


def lease_in(home: Path, clock: Clock, ttl: float = TTL, lock_seconds: float = 30) -> Lease:
    return Lease(str(home), ttl, clock, lock_seconds)


def stored(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "lease.json").read_text())
    return found


def leave(home: Path, clock: Clock, **changes: object) -> None:
    """Leave a lease as this process would have, but for the changes."""
    with lease_in(home, clock):
        content = stored(home)
    (home / "lease.json").write_text(json.dumps({**content, "token": "another", **changes}))


def elsewhere(home: Path, clock: Clock) -> None:
    leave(home, clock, host="elsewhere/boot/pid", pid=1)


def test_a_lease_is_exclusive_and_names_its_holder(home: Path, clock: Clock) -> None:
    with (
        lease_in(home, clock),
        pytest.raises(LeaseError, match=f"process {os.getpid()} on .* since 2025-04-01T12:00:00.* until 2025-04-01T12:01"),
        lease_in(home, clock),
    ):
        pytest.fail("both have it")


def test_a_lease_is_free_after_its_holder_ended(home: Path, clock: Clock) -> None:
    for _ in range(3):
        with lease_in(home, clock) as lease, lease.guard():
            pass
    assert not (home / "lease.json").exists()


def test_a_lease_is_free_after_its_holder_failed(home: Path, clock: Clock) -> None:
    with pytest.raises(RuntimeError, match="oops"), lease_in(home, clock):
        raise RuntimeError("oops")
    with lease_in(home, clock):
        pass


def test_a_lease_of_another_machine_holds_until_it_expires(home: Path, clock: Clock) -> None:
    elsewhere(home, clock)
    clock.forward(TTL - 0.001)
    with pytest.raises(LeaseError, match="process 1 on elsewhere since"), lease_in(home, clock):
        pass
    clock.forward(0.001)
    with lease_in(home, clock) as lease, lease.guard():
        pass


def test_a_lease_that_expires_within_the_second_is_compared_as_a_time_and_not_as_text(
    home: Path, clock: Clock
) -> None:
    elsewhere(home, clock)
    clock.time = clock.time.replace(microsecond=0) + timedelta(seconds=TTL, microseconds=-1)
    with pytest.raises(LeaseError), lease_in(home, clock):
        pass


HOLDER = """
import sys
from datetime import UTC, datetime
from bucketwheel.lease import Lease
lease = Lease(sys.argv[1], 3600, lambda: datetime.now(UTC))
lease.__enter__()
print("held", flush=True)
sys.stdin.readline()
"""


def holder(home: Path) -> subprocess.Popen[str]:
    path = str(Path(bucketwheel.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_holder_that_was_killed_on_this_machine_is_followed_at_once(home: Path, clock: Clock) -> None:
    with holder(home) as process:
        with pytest.raises(LeaseError, match=f"process {process.pid} "), lease_in(home, clock):
            pass
        process.kill()
    assert stored(home)["pid"] == process.pid
    with lease_in(home, clock) as lease, lease.guard():
        pass


def test_a_holder_that_was_killed_but_not_yet_buried_by_its_parent_is_dead(home: Path, clock: Clock) -> None:
    with holder(home) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with lease_in(home, clock):
            pass


def test_another_process_with_the_number_of_the_holder_does_not_make_it_alive(home: Path, clock: Clock) -> None:
    leave(home, clock, process_started=1.0)
    with lease_in(home, clock):
        pass


def test_a_container_with_the_same_host_name_is_another_machine(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = module._host()
    monkeypatch.setattr(module, "_host", lambda: here.replace("pid:", "other:"))
    leave(home, clock, pid=2**22 + 1)
    monkeypatch.undo()
    with pytest.raises(LeaseError), lease_in(home, clock):
        pass


def test_without_proc_the_system_is_asked_for_processes(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: str(path) != "/proc/self/stat" and exists(path))
    leave(home, clock)
    with pytest.raises(LeaseError), lease_in(home, clock):
        pass
    clock.forward(TTL)
    leave(home, clock, pid=2**22 + 1)
    with lease_in(home, clock):
        pass


def test_a_paused_holder_whose_lease_was_taken_over_can_neither_publish_nor_free_it(home: Path, clock: Clock) -> None:
    with lease_in(home, clock) as paused:
        clock.forward(TTL)
        with lease_in(home, clock) as follower:
            with (
                pytest.raises(LeaseError, match=r"lost the lease .*process \d+ on .* holds it now.*silent for too long"),
                paused.guard(),
            ):
                pytest.fail("it may not publish")
            assert not paused.renew()
            paused.__exit__(None, None, None)
            with follower.guard():
                assert stored(home)["token"] == follower._token


def test_a_paused_holder_that_nobody_followed_may_go_on(home: Path, clock: Clock) -> None:
    with lease_in(home, clock) as paused:
        clock.forward(10 * TTL)
        with paused.guard():
            pass
        assert paused.renew()
        with pytest.raises(LeaseError, match="another run holds"), lease_in(home, clock):
            pass


def test_a_lease_file_that_was_deleted_is_lost(home: Path, clock: Clock) -> None:
    with lease_in(home, clock) as lease:
        (home / "lease.json").unlink()
        with pytest.raises(LeaseError, match="nobody holds it now"), lease.guard():
            pass


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


def test_a_lease_is_renewed_while_its_holder_lives(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
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
            pytest.raises(LeaseError, match="could not be renewed: lease.json: cannot write: no space"),
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

    monkeypatch.setattr(Path, "write_text", full)
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


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"token": 1}'])
def test_a_lease_that_was_never_finished_holds_nothing(home: Path, clock: Clock, content: str) -> None:
    home.mkdir()
    (home / "lease.json").write_text(content)
    with lease_in(home, clock) as lease, lease.guard():
        pass


def test_a_lease_of_a_newer_version_holds(home: Path, clock: Clock) -> None:
    leave(home, clock, host="elsewhere/boot/pid", purpose="publishing")
    with pytest.raises(LeaseError), lease_in(home, clock):
        pass


def test_a_lease_on_s3_is_refused_before_anything_is_done(clock: Clock) -> None:
    with pytest.raises(ConfigError, match="local disks only"):
        Lease("s3://bucket/books", TTL, clock)


def race(home: str, rounds: int, barrier: Barrier, results: Queue[list[bool]]) -> None:
    won = []
    for _ in range(rounds):
        barrier.wait(60)
        lease = Lease(home, TTL, Clock())
        try:
            lease.__enter__()
        except LeaseError:
            won.append(False)
            barrier.wait(60)
        else:
            won.append(True)
            barrier.wait(60)
            lease.__exit__(None, None, None)
    results.put(won)


def test_of_two_processes_that_race_for_a_lease_exactly_one_wins_every_time(home: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(2), context.Queue()
    racers = [context.Process(target=race, args=(str(home), 60, barrier, results)) for _ in range(2)]
    for racer in racers:
        racer.start()
    first, second = results.get(timeout=60), results.get(timeout=60)
    for racer in racers:
        racer.join()
    assert [one + other for one, other in zip(first, second, strict=True)] == [1] * 60
    results.close()
    results.join_thread()
