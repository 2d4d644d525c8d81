"""The test suite that every storage of leases passes.

A test class inherits `LeaseContract` and defines two fixtures:

* `directory` returns a `LeaseDirectory` of the storage.
* `clock` returns a `bucketwheel.testing.clock.Clock`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from bucketwheel.errors import LeaseError
from bucketwheel.lease import Lease
from bucketwheel.system import Process, system, use
from bucketwheel.testing.clock import Clock

TTL = 60.0


class LeaseDirectory(ABC):
    """Reads and writes the lease of one dataset without `bucketwheel.lease`."""

    path: str

    def lease(self, clock: Clock, ttl: float = TTL) -> Lease:
        """Return a lease in this directory, not yet acquired."""
        return Lease(self.path, ttl, clock)

    def stored(self) -> dict[str, Any]:
        """Return the parsed lease."""
        document: dict[str, Any] = json.loads(self.content())
        return document

    @abstractmethod
    def content(self) -> str:
        """Return the text of the lease."""

    @abstractmethod
    def put(self, content: str) -> None:
        """Replace the text of the lease."""

    @abstractmethod
    def remove(self) -> None:
        """Delete the lease."""

    @abstractmethod
    def is_free(self) -> bool:
        """Return whether the lease is free at once, without waiting for it to expire."""


class FakeProcesses:
    """Processes of a host that a test chooses; `alive` is the answer about each other process."""

    def __init__(self, host: str, pid: int = 1, alive: bool | None = None) -> None:
        self._own = Process(host, pid, 1.0)
        self._alive = alive

    def own(self) -> Process:
        """See `system.Processes.own`."""
        return self._own

    def is_alive(self, process: Process) -> bool | None:
        """See `system.Processes.is_alive`."""
        return self._alive if process.host == self._own.host else None


class WatchedClock(Clock):
    """A clock that calls `look` with the number of each pause, after it."""

    def __init__(self, look: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self.pauses = 0
        self._look = look

    def sleep(self, seconds: float) -> None:
        """See `system.Clock.sleep`."""
        super().sleep(seconds)
        self.pauses += 1
        self._look(self.pauses)


def store_changed_lease(directory: LeaseDirectory, clock: Clock, **changes: object) -> None:
    """Store a lease of this process with some fields changed."""
    with directory.lease(clock):
        content = directory.stored()
    directory.put(json.dumps({**content, "token": "another", **changes}))


def store_lease_of_other_host(directory: LeaseDirectory, clock: Clock) -> None:
    """Store a lease that another host holds."""
    store_changed_lease(directory, clock, host="elsewhere/boot/pid", pid=1)


_HOLDER = """
import sys
from bucketwheel.lease import Lease
lease = Lease(sys.argv[1], 3600)
lease.__enter__()
print("held", flush=True)
sys.stdin.readline()
"""


def start_holder(directory: LeaseDirectory) -> subprocess.Popen[str]:
    """Start a process that holds the lease until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, directory.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def race(directory: str, rounds: int, barrier: Barrier, results: Queue[list[bool]]) -> None:
    """Try to acquire the lease in each round and put into `results` which rounds succeeded."""
    won = []
    for _ in range(rounds):
        barrier.wait(60)
        lease = Lease(directory, TTL, Clock())
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
    """Tests of acquiring, losing and taking over a lease."""

    def test_lease_is_exclusive(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A lease is exclusive; the error names its holder."""
        with (
            directory.lease(clock),
            pytest.raises(
                LeaseError, match=f"process {os.getpid()} on .* since 2025-04-01T12:00:00.* until 2025-04-01T12:01"
            ),
            directory.lease(clock),
        ):
            pytest.fail("two holders at once")

    def test_lease_is_free_after_release(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A lease is free after its holder releases it."""
        for _ in range(3):
            with directory.lease(clock) as lease, lease.guard():
                pass
        assert directory.is_free()

    def test_lease_is_free_after_holder_fails(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A lease is free after its holder fails."""
        with pytest.raises(RuntimeError, match="oops"), directory.lease(clock):
            raise RuntimeError("oops")
        with directory.lease(clock):
            pass

    def test_lease_of_another_host_is_held_until_expiry(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A lease of another host is held until it expires."""
        store_lease_of_other_host(directory, clock)
        clock.forward(TTL - 0.001)
        with pytest.raises(LeaseError, match="process 1 on elsewhere since"), directory.lease(clock):
            pass
        clock.forward(0.001)
        with directory.lease(clock) as lease, lease.guard():
            pass

    def test_expiry_is_compared_as_time(self, directory: LeaseDirectory, clock: Clock) -> None:
        """Expiry is compared as a time and not as text, also within a second."""
        store_lease_of_other_host(directory, clock)
        clock.time = clock.time.replace(microsecond=0) + timedelta(seconds=TTL, microseconds=-1)
        with pytest.raises(LeaseError), directory.lease(clock):
            pass

    def test_lease_of_killed_process_is_taken_over_at_once(self, directory: LeaseDirectory, clock: Clock) -> None:
        """The lease of a killed process on the same host is taken over immediately."""
        with start_holder(directory) as process:
            with pytest.raises(LeaseError, match=f"process {process.pid} "), directory.lease(clock):
                pass
            process.kill()
        assert directory.stored()["pid"] == process.pid
        with directory.lease(clock) as lease, lease.guard():
            pass

    def test_lease_of_zombie_process_is_taken_over(self, directory: LeaseDirectory, clock: Clock) -> None:
        """The lease of a zombie process is taken over."""
        with start_holder(directory) as process:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with directory.lease(clock):
                pass

    def test_reused_process_id_does_not_hold_the_lease(self, directory: LeaseDirectory, clock: Clock) -> None:
        """Another process with the id of the holder does not hold the lease."""
        store_changed_lease(directory, clock, process_started=1.0)
        with directory.lease(clock):
            pass

    def test_container_with_same_host_name_is_another_host(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A container with the same host name is another host."""
        with directory.lease(clock):
            host, boot, namespace = directory.stored()["host"].split("/")
        store_changed_lease(directory, clock, host=f"{host}/{boot}/{namespace}0", pid=2**22 + 1)
        with pytest.raises(LeaseError), directory.lease(clock):
            pass

    @pytest.mark.parametrize("alive", [True, None])
    def test_living_or_hidden_holder_on_this_host_holds(
        self, directory: LeaseDirectory, clock: Clock, alive: bool | None
    ) -> None:
        """A holder on this host that lives, or that the system hides, holds the lease until it expires."""
        store_changed_lease(directory, clock, host="here", pid=7)
        with use(replace(system(), processes=FakeProcesses("here", alive=alive))):
            with pytest.raises(LeaseError, match="process 7 on here"), directory.lease(clock):
                pass
            clock.forward(TTL)
            with directory.lease(clock) as lease, lease.guard():
                pass

    def test_lease_names_process_of_holder(self, directory: LeaseDirectory, clock: Clock) -> None:
        """The lease names the process of its holder."""
        with use(replace(system(), processes=FakeProcesses("there", 42))), directory.lease(clock):
            stored = directory.stored()
        assert (stored["host"], stored["pid"], stored["process_started"], stored["ttl_seconds"]) == (
            "there",
            42,
            1.0,
            TTL,
        )

    def test_paused_holder_cannot_publish_after_takeover(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A paused holder can neither publish nor release a lease that another process took over."""
        with directory.lease(clock) as paused:
            clock.forward(TTL)
            with directory.lease(clock) as follower:
                with (
                    pytest.raises(
                        LeaseError, match=r"lost the lease .*process \d+ on .* holds it now.*not renewed in time"
                    ),
                    paused.guard(),
                ):
                    pytest.fail("entered the guard of a lost lease")
                assert not paused.renew()
                paused.__exit__(None, None, None)
                with follower.guard():
                    assert directory.stored()["token"] == follower._token

    def test_paused_holder_continues_without_takeover(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A paused holder continues if no other process took over."""
        with directory.lease(clock) as paused:
            clock.forward(10 * TTL)
            with paused.guard():
                pass
            assert paused.renew()
            with pytest.raises(LeaseError, match="another run holds"), directory.lease(clock):
                pass

    def test_deleted_lease_is_lost(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A deleted lease is lost."""
        with directory.lease(clock) as lease:
            directory.remove()
            with pytest.raises(LeaseError, match="nobody holds it now"), lease.guard():
                pass

    @pytest.mark.parametrize("content", ["", "{}", " \n", "\0" * 9])
    def test_empty_lease_is_free(self, directory: LeaseDirectory, content: str) -> None:
        """An empty lease is free, also one of zeros, as a power failure can leave."""
        directory.put(content)
        clock = WatchedClock()
        with directory.lease(clock) as lease, lease.guard():
            pass
        assert clock.pauses == 0

    def test_lease_of_newer_version_is_held(self, directory: LeaseDirectory, clock: Clock) -> None:
        """A lease with fields of a newer version is held."""
        store_changed_lease(directory, clock, host="elsewhere/boot/pid", purpose="publishing")
        with pytest.raises(LeaseError), directory.lease(clock):
            pass

    def test_exactly_one_of_two_processes_wins(self, directory: LeaseDirectory) -> None:
        """Exactly one of two processes that try to acquire a lease at once succeeds, every time."""
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(2), context.Queue()
        racers = [context.Process(target=race, args=(directory.path, 40, barrier, results)) for _ in range(2)]
        for racer in racers:
            racer.start()
        first, second = results.get(timeout=120), results.get(timeout=120)
        for racer in racers:
            racer.join()
        assert [one + other for one, other in zip(first, second, strict=True)] == [1] * 40
        results.close()
        results.join_thread()
