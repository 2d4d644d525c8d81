"""Concurrent runs, and the lease of a dead run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bucketwheel import api
from project import NARROW, WIDE, Project, Result, environment

# A run that prints a line at the start of stage `bucket` and then waits for a line on stdin.
WAITING = """
import sys
from bucketwheel import api

def progress(event):
    if (event.stage, event.state) == ("bucket", "started"):
        print("waiting", flush=True)
        sys.stdin.readline()

outcome = api.run(api.load("local", sys.argv[1]), sys.argv[2], progress=progress)
print(outcome.manifest.status)
"""


@pytest.fixture
def waiting(published: Project) -> Callable[[], subprocess.Popen[str]]:
    """Start a run in another process; return the process when it holds the lease and waits."""

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, str(published.conf), WIDE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert process.stdout
        assert process.stdout.readline() == "waiting\n"
        return process

    return start


def lease(project: Project) -> Path:
    return project.target / "_bucketwheel" / WIDE / "lease.json"


def test_second_run_is_refused_and_first_finishes(
    published: Project, refused: Callable[..., Result], waiting: Callable[[], subprocess.Popen[str]]
) -> None:
    first = waiting()
    second = refused(published, 4)
    assert second.stderr.startswith(f"error: another run holds the lease {lease(published)}: process {first.pid} on ")
    assert "renewed until 20" in second.stderr
    error, advice = second.stderr.splitlines()
    assert error.endswith("; wait for it to finish, or stop it")
    assert advice.startswith(f"Wait until the other process has finished, then run again: bucketwheel run {WIDE} ")
    assert first.communicate("go on\n", timeout=60)[0] == "finished\n"
    assert set(published.published().values()) == {1200}
    assert not lease(published).exists()


def test_lease_refuses_other_process_but_not_other_dataset(published: Project) -> None:
    seen: list[Result] = []

    def progress(event: api.Progress) -> None:
        if (event.stage, event.state) == ("bucket", "started"):
            seen.append(published.process("run", WIDE))
            seen.append(published.process("run", NARROW))

    outcome = api.run(published.configuration(), WIDE, progress=progress)
    assert outcome.manifest.status == "finished"
    same, other = seen
    assert (same.exit_code, other.exit_code) == (4, 0), other.stderr
    assert f"process {os.getpid()} on " in same.stderr


def test_lease_of_killed_local_run_is_taken_over_immediately(
    published: Project, waiting: Callable[[], subprocess.Popen[str]]
) -> None:
    published.set(lease={"ttl_seconds": 100_000})
    process = waiting()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads(lease(published).read_text())["pid"] == process.pid
    published.run()
    assert set(published.published().values()) == {1200}
    assert not lease(published).exists()


@pytest.mark.parametrize("expired", [False, True])
def test_lease_of_other_machine_holds_until_it_expires(
    published: Project,
    waiting: Callable[[], subprocess.Popen[str]],
    refused: Callable[..., Result],
    expired: bool,
) -> None:
    process = waiting()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = json.loads(lease(published).read_text())
    now = datetime.now(UTC)
    left["host"] = "elsewhere/another-boot"
    left["expires"] = (now + timedelta(seconds=-1 if expired else 50)).isoformat(timespec="milliseconds")
    lease(published).write_text(json.dumps(left))
    if expired:
        published.run()
        assert set(published.published().values()) == {1200}
    else:
        result = refused(published, 4)
        assert f"process {process.pid} on elsewhere since {left['acquired']}, renewed until {left['expires']}" in (
            result.stderr
        )


@pytest.mark.parametrize("content", ["", "{}"])
def test_empty_lease_file_is_ignored(published: Project, content: str) -> None:
    lease(published).write_text(content)
    assert "lease" not in published.run().stderr
    assert set(published.published().values()) == {1200}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is held by an unknown process, because its content cannot be read: it is no JSON object; "),
        (
            '{"token": "t", "host": "elsewhere", "pid": 7, "process_started": 1, "acquired": "", '
            '"expires": "2099-01-01T00:00:00+00:00"}',
            "of process 7 on elsewhere is valid until 2099-01-01T00:00:00+00:00, ",
        ),
    ],
)
def test_odd_lease_is_taken_over_with_warning(published: Project, content: str, problem: str) -> None:
    published.set(lease={"ttl_seconds": 0.1})
    lease(published).write_text(content)
    result = published.run()
    assert f"{WIDE}: warning: the lease {lease(published)} {problem}" in result.stderr
    assert "this command waits 0.125 s for a renewal, then takes it over; " in result.stderr
    assert f"delete the file: rm {lease(published)}\n" in result.stderr
    assert set(published.published().values()) == {1200}
    assert not lease(published).exists()
