"""What a lease does wherever it is kept; `Home` is the place, seen from outside."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import lease as module
from bucketwheel.errors import LeaseError
from bucketwheel.lease import Lease
from project import environment
from runs_support import Clock

TTL = 60.0


class Home(ABC):
    """A place for the lease of one dataset."""

    directory: str

    def lease(self, clock: Clock, ttl: float = TTL) -> Lease:
        return Lease(self.directory, ttl, clock)

    def stored(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content())
        return found

    @abstractmethod
    def content(self) -> str: ...

    @abstractmethod
    def put(self, content: str) -> None: ...

    @abstractmethod
    def remove(self) -> None: ...

    @abstractmethod
    def is_free(self) -> bool:
        """Whether what is left says that nobody holds the lease, without any time having to pass."""


def leave(home: Home, clock: Clock, **changes: object) -> None:
    """Leave a lease as this process would have, but for the changes."""
    with home.lease(clock):
        content = home.stored()
    home.put(json.dumps({**content, "token": "another", **changes}))


def elsewhere(home: Home, clock: Clock) -> None:
    leave(home, clock, host="elsewhere/boot/pid", pid=1)


HOLDER = """
import sys
from datetime import UTC, datetime
from bucketwheel.lease import Lease
lease = Lease(sys.argv[1], 3600, lambda: datetime.now(UTC))
lease.__enter__()
print("held", flush=True)
sys.stdin.readline()
"""


def holder(home: Home) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, home.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


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


class LeaseContract:
    """Taking, keeping, losing and following."""

    def test_a_lease_is_exclusive_and_names_its_holder(self, home: Home, clock: Clock) -> None:
        with (
            home.lease(clock),
            pytest.raises(
                LeaseError, match=f"process {os.getpid()} on .* since 2025-04-01T12:00:00.* until 2025-04-01T12:01"
            ),
            home.lease(clock),
        ):
            pytest.fail("both have it")

    def test_a_lease_is_free_after_its_holder_ended(self, home: Home, clock: Clock) -> None:
        for _ in range(3):
            with home.lease(clock) as lease, lease.guard():
                pass
        assert home.is_free()

    def test_a_lease_is_free_after_its_holder_failed(self, home: Home, clock: Clock) -> None:
        with pytest.raises(RuntimeError, match="oops"), home.lease(clock):
            raise RuntimeError("oops")
        with home.lease(clock):
            pass

    def test_a_lease_of_another_machine_holds_until_it_expires(self, home: Home, clock: Clock) -> None:
        elsewhere(home, clock)
        clock.forward(TTL - 0.001)
        with pytest.raises(LeaseError, match="process 1 on elsewhere since"), home.lease(clock):
            pass
        clock.forward(0.001)
        with home.lease(clock) as lease, lease.guard():
            pass

    def test_a_lease_that_expires_within_the_second_is_compared_as_a_time_and_not_as_text(
        self, home: Home, clock: Clock
    ) -> None:
        elsewhere(home, clock)
        clock.time = clock.time.replace(microsecond=0) + timedelta(seconds=TTL, microseconds=-1)
        with pytest.raises(LeaseError), home.lease(clock):
            pass

    def test_a_holder_that_was_killed_on_this_machine_is_followed_at_once(self, home: Home, clock: Clock) -> None:
        with holder(home) as process:
            with pytest.raises(LeaseError, match=f"process {process.pid} "), home.lease(clock):
                pass
            process.kill()
        assert home.stored()["pid"] == process.pid
        with home.lease(clock) as lease, lease.guard():
            pass

    def test_a_holder_that_was_killed_but_not_yet_buried_by_its_parent_is_dead(
        self, home: Home, clock: Clock
    ) -> None:
        with holder(home) as process:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with home.lease(clock):
                pass

    def test_another_process_with_the_number_of_the_holder_does_not_make_it_alive(
        self, home: Home, clock: Clock
    ) -> None:
        leave(home, clock, process_started=1.0)
        with home.lease(clock):
            pass

    def test_a_container_with_the_same_host_name_is_another_machine(
        self, home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = module._host()
        monkeypatch.setattr(module, "_host", lambda: here.replace("pid:", "other:"))
        leave(home, clock, pid=2**22 + 1)
        monkeypatch.undo()
        with pytest.raises(LeaseError), home.lease(clock):
            pass

    def test_without_proc_the_system_is_asked_for_processes(
        self, home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: str(path) != "/proc/self/stat" and exists(path))
        leave(home, clock)
        with pytest.raises(LeaseError), home.lease(clock):
            pass
        clock.forward(TTL)
        leave(home, clock, pid=2**22 + 1)
        with home.lease(clock):
            pass

    def test_a_paused_holder_whose_lease_was_taken_over_can_neither_publish_nor_free_it(
        self, home: Home, clock: Clock
    ) -> None:
        with home.lease(clock) as paused:
            clock.forward(TTL)
            with home.lease(clock) as follower:
                with (
                    pytest.raises(
                        LeaseError, match=r"lost the lease .*process \d+ on .* holds it now.*not renewed in time"
                    ),
                    paused.guard(),
                ):
                    pytest.fail("it may not publish")
                assert not paused.renew()
                paused.__exit__(None, None, None)
                with follower.guard():
                    assert home.stored()["token"] == follower._token

    def test_a_paused_holder_that_nobody_followed_may_go_on(self, home: Home, clock: Clock) -> None:
        with home.lease(clock) as paused:
            clock.forward(10 * TTL)
            with paused.guard():
                pass
            assert paused.renew()
            with pytest.raises(LeaseError, match="another run holds"), home.lease(clock):
                pass

    def test_a_lease_file_that_was_deleted_is_lost(self, home: Home, clock: Clock) -> None:
        with home.lease(clock) as lease:
            home.remove()
            with pytest.raises(LeaseError, match="nobody holds it now"), lease.guard():
                pass

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"token": 1}'])
    def test_a_lease_that_was_never_finished_holds_nothing(self, home: Home, clock: Clock, content: str) -> None:
        home.put(content)
        with home.lease(clock) as lease, lease.guard():
            pass

    def test_a_lease_of_a_newer_version_holds(self, home: Home, clock: Clock) -> None:
        leave(home, clock, host="elsewhere/boot/pid", purpose="publishing")
        with pytest.raises(LeaseError), home.lease(clock):
            pass

    def test_of_two_processes_that_race_for_a_lease_exactly_one_wins_every_time(self, home: Home) -> None:
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(2), context.Queue()
        racers = [context.Process(target=race, args=(home.directory, 40, barrier, results)) for _ in range(2)]
        for racer in racers:
            racer.start()
        first, second = results.get(timeout=120), results.get(timeout=120)
        for racer in racers:
            racer.join()
        assert [one + other for one, other in zip(first, second, strict=True)] == [1] * 40
        results.close()
        results.join_thread()
