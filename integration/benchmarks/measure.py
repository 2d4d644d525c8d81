"""Run a command in a new process and directory, measure it, and leave only empty files.

The kernel counts into a child's peak memory what its parent held when it started it. So this process has to
stay small: only the standard library is imported here.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = "{out}"
# The end of a traceback, or what the command line prints; notes may follow it.
_ERROR = r"^([\w.]*(Error|Exception)|error)\b"


@dataclass(frozen=True)
class Task:
    """A command to measure.

    `{out}` in the command is replaced by a fresh directory. With `reports`, the last line of standard output
    is one JSON object. `rows` are those of the data that it reads.
    """

    name: str
    command: Sequence[str]
    rows: int = 0
    reports: bool = False


@dataclass(frozen=True)
class Run:
    """The resources of one run of a task; CPU seconds are user and system time of the process and its children."""

    section: str
    name: str
    round: int
    rows: int
    cpu_seconds: float
    wall_seconds: float
    peak_rss_bytes: int
    bytes_written: int
    files_written: int
    report: dict[str, Any] | None
    error: str | None


def environment() -> dict[str, str]:
    """Return this process's environment without settings of Bucketwheel, and with its source on the path."""
    # Without bytecode, every measured run would compile the package again.
    dropped = ("BUCKETWHEEL", "AWS_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    path = os.pathsep.join(filter(None, (str(ROOT / "app"), str(ROOT / "tests"), kept.get("PYTHONPATH"))))
    aws = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    return {**kept, **aws, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def bucketwheel() -> list[str]:
    """Return the command as a user types it; its entry point where the package is not installed."""
    installed = Path(sys.executable).with_name("bucketwheel")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from bucketwheel.cli import main; main()"]


def module(name: str) -> list[str]:
    """Return the command that runs a module of this package."""
    return [sys.executable, "-m", f"{__package__}.{name}"]


def measure(section: str, task: Task, round_number: int, work: Path, timeout: float) -> Run:
    """Run a task in a fresh directory below `work`, killed after `timeout` seconds."""
    with _emptied(Path(tempfile.mkdtemp(prefix=f"{section}-", dir=work))) as place:
        out, scratch = place / "out", place / "tmp"
        out.mkdir()
        scratch.mkdir()
        command = [part.replace(OUT, str(out)) for part in task.command]
        # Flush the writes of the previous run, so that they do not slow down this one.
        os.sync()
        start = time.perf_counter()
        status, usage = _run(command, place, scratch, timeout)
        wall = time.perf_counter() - start
        files = [path.stat().st_size for path in out.rglob("*.parquet")]
        return Run(
            section=section,
            name=task.name,
            round=round_number,
            rows=task.rows,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            wall_seconds=wall,
            peak_rss_bytes=usage.ru_maxrss * 1024,
            bytes_written=sum(files),
            files_written=len(files),
            report=json.loads(last_line(place / "stdout")) if task.reports and status == 0 else None,
            error=_error(status, timeout, place),
        )


@contextmanager
def _emptied(place: Path) -> Iterator[Path]:
    """Empty all files at the end, but keep them until `work` is deleted.

    Creating a file on ext4 scans every inode that was freed there in the last minutes, one by one: 2,000
    files deleted before a run cost each new file another 0.8 ms.
    """
    try:
        yield place
    finally:
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)


def _run(command: Sequence[str], place: Path, scratch: Path, timeout: float) -> tuple[int | None, Any]:
    """Return the exit code, None after a timeout, and the resources used."""
    with (place / "stdout").open("wb") as stdout, (place / "stderr").open("wb") as stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=ROOT,
            env={**environment(), "TMPDIR": str(scratch)},
            start_new_session=True,
        )
    ended = False
    try:
        ended = _wait(child.pid, timeout)
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return (child.returncode if ended else None), usage


def _wait(pid: int, timeout: float) -> bool:
    handle = os.pidfd_open(pid)
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def _error(status: int | None, timeout: float, place: Path) -> str | None:
    if status == 0:
        return None
    cause = f"still ran after {timeout:.0f} s" if status is None else f"exit code {status}"
    return f"{cause}: {last_error(place / 'stderr')}"


def last_error(path: Path) -> str:
    """Return the last line of a log that looks like an error, or the last line."""
    return last_line(path, _ERROR)


def last_line(path: Path, pattern: str = "") -> str:
    """Return the last line of a file that matches the pattern, or the last line if none matches."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
    return next((line for line in reversed(lines) if re.search(pattern, line)), lines[-1])


def require_disk(place: Path, needed: int) -> None:
    """End the program if the disk has less than `needed` bytes free."""
    free = shutil.disk_usage(place).free
    if free < needed:
        raise SystemExit(
            f"{place} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed: "
            "free some, or choose fewer --rows or a smaller --scale"
        )
