"""Ask the operating system whether the process that holds a lease is alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

from bucketwheel.system import Process

_PROC = Path("/proc")
_ENDED = -1.0


class HostProcesses:
    """See `system.Processes`."""

    def own(self) -> Process:
        """See `system.Processes.own`."""
        return Process(_host(), os.getpid(), _start_time(os.getpid()) or 0)

    def is_alive(self, process: Process) -> bool | None:
        """See `system.Processes.is_alive`."""
        if process.host != _host():
            return None
        started = _start_time(process.pid)
        if started == _ENDED:
            return False
        # Another process may have the id of one that has ended.
        return started == process.started if started and process.started else None


def _host() -> str:
    """Return the id of this host and of the process id namespace of this process."""
    boot = _PROC / "sys/kernel/random/boot_id"
    namespace = _PROC / "self/ns/pid"
    # Containers may share the name and boot id of a host, but not its process ids.
    spaces = namespace.readlink().name if namespace.is_symlink() else ""
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.is_file() else ''}/{spaces}"


def _start_time(pid: int) -> float | None:
    """Return when a process started; None if the system hides that, `_ENDED` if the process has ended.

    The unit is clock ticks since the boot if `/proc` exists.
    """
    if not (_PROC / "self/stat").exists():
        return _start_time_without_proc(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        # Mounted with `hidepid`, /proc leaves out the processes of other users.
        return None if _accepts_signals(pid) else _ENDED
    if len(stat) < 20:
        return None
    # Converted to a time of day, the ticks would change with the clock, as if another process had this id.
    return _ENDED if stat[0] in (b"Z", b"X") else float(stat[19])


def _start_time_without_proc(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return _ENDED if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return _ENDED
    except psutil.AccessDenied:
        return None


def _accepts_signals(pid: int) -> bool:
    """Return whether a process exists, perhaps one of another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
