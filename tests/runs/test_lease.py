from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from lease_support import TTL, elsewhere, lease_in, leave, stored

import bucketwheel
from bucketwheel import lease as module
from bucketwheel.errors import LeaseError
from bucketwheel.lease import Lease
from runs_support import Clock


def test_a_lease_is_exclusive_and_names_its_holder(home: Path, clock: Clock) -> None:
    with (
        lease_in(home, clock),
        pytest.raises(
            LeaseError, match=f"process {os.getpid()} on .* since 2025-04-01T12:00:00.* until 2025-04-01T12:01"
        ),
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
                pytest.raises(
                    LeaseError, match=r"lost the lease .*process \d+ on .* holds it now.*silent for too long"
                ),
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
