"""Processes that hold leases, as the operating system shows them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bucketwheel.lease import processes
from bucketwheel.lease.processes import HostProcesses
from bucketwheel.system import Process

NOBODY = 2**22 + 1


@pytest.fixture
def parent() -> Process:
    """Return the parent of this process."""
    own = HostProcesses().own()
    return Process(own.host, os.getppid(), processes._start_time(os.getppid()) or 0)


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide all other processes, as /proc with hidepid=2 does; return that /proc."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/stat").write_text("")
    own = processes._host()
    monkeypatch.setattr(processes, "_host", lambda: own)
    monkeypatch.setattr(processes, "_PROC", proc)
    return proc


def signals(error: Exception | None) -> Callable[[int, int], None]:
    def kill(_: int, number: int) -> None:
        assert number == 0
        if error:
            raise error

    return kill


def test_processes_of_this_host_are_known(parent: Process) -> None:
    own = HostProcesses().own()
    assert own.pid == os.getpid()
    assert HostProcesses().is_alive(own)
    assert HostProcesses().is_alive(parent)
    assert HostProcesses().is_alive(replace(own, pid=NOBODY)) is False
    assert HostProcesses().is_alive(replace(own, started=1.0)) is False
    assert HostProcesses().is_alive(replace(own, host="elsewhere")) is None


def test_process_without_start_time_is_unknown() -> None:
    own = HostProcesses().own()
    assert HostProcesses().is_alive(replace(own, started=0)) is None


@pytest.mark.parametrize(("error", "alive"), [(None, None), (PermissionError(), None), (ProcessLookupError(), False)])
def test_hidden_process_is_dead_only_if_it_takes_no_signal(
    parent: Process, hidden: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, alive: bool | None
) -> None:
    monkeypatch.setattr(os, "kill", signals(error))
    assert not (hidden / str(parent.pid)).exists()
    assert HostProcesses().is_alive(parent) is alive


def test_process_with_unreadable_state_is_unknown(
    parent: Process, hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hidepid=1, /proc shows processes of other users without their state."""

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert HostProcesses().is_alive(parent) is None


@pytest.mark.parametrize(
    ("stat", "alive"),
    [
        (b"", None),
        (b"7 (a) b) \xff) S", None),
        (b"7 (a) \xff b) S" + b" 1" * 18 + b" 55 9", True),
        (b"7 (a) Z" + b" 1" * 18 + b" 55 9", False),
        (b"7 (a) S" + b" 1" * 18 + b" 56 9", False),
    ],
)
def test_state_of_process_with_odd_name_is_read(hidden: Path, stat: bytes, alive: bool | None) -> None:
    (hidden / "7").mkdir()
    (hidden / "7/stat").write_bytes(stat)
    assert HostProcesses().is_alive(Process(processes._host(), 7, 55.0)) is alive


@pytest.fixture
def without_proc(hidden: Path) -> None:
    (hidden / "self/stat").unlink()


def test_processes_are_known_without_proc(without_proc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    own = HostProcesses().own()
    assert HostProcesses().is_alive(own)
    assert HostProcesses().is_alive(replace(own, pid=NOBODY)) is False

    def refuse(_: int) -> psutil.Process:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", refuse)
    assert HostProcesses().is_alive(own) is None


def test_zombie_is_dead() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        started = processes._start_time(process.pid)
        assert started
        zombie = Process(processes._host(), process.pid, started)
        assert HostProcesses().is_alive(zombie)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert HostProcesses().is_alive(zombie) is False
