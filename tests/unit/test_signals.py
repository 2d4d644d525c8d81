"""SIGTERM and SIGHUP end a command like Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from bucketwheel import cli, plugins
from bucketwheel.cli import job as job_cli
from bucketwheel.cli.signals import terminate_cleanly
from bucketwheel.errors import JobFailedError, Terminated
from project import WIDE, Project

PID = os.getpid()


@pytest.fixture(autouse=True)
def hangup_ends_process() -> Iterator[None]:
    """Undo `nohup`, which lets this process and its children ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let stage `bucket` send a signal to its own process."""

    def stop(number: int) -> None:
        def run(*_: Any) -> NoReturn:
            os.kill(os.getpid(), number)
            raise AssertionError("the signal was ignored")

        monkeypatch.setattr(type(plugins.stage("bucket")), "run", run)

    return stop


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")]
)
def test_signal_marks_run_failed_and_frees_lease(
    project: Project, stopped: Callable[[int], None], number: int, code: int, name: str
) -> None:
    stopped(number)
    result = project.cli("run", WIDE)
    (run_id,) = project.run_ids()
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-2:] == [
        f"terminated by {name}",
        f"To resume: bucketwheel run {WIDE} --conf {project.conf} --resume {run_id}",
    ]
    metadata = project.target / "_bucketwheel" / WIDE
    manifest = json.loads((metadata / "runs" / run_id / "manifest.json").read_text())
    assert (manifest["status"], manifest["error"]) == ("failed", f"terminated by {name}")
    assert not (metadata / "lease.json").exists()


def test_signal_is_reported_in_json(project: Project, stopped: Callable[[int], None]) -> None:
    stopped(signal.SIGTERM)
    result = project.cli("run", WIDE, "--output", "json")
    event = json.loads(result.stderr.splitlines()[-1])
    assert (event["error"], event["exit_code"], event["message"]) == ("Terminated", 143, "terminated by SIGTERM")


def test_job_signal_raises_with_resume_command(project: Project, stopped: Callable[[int], None]) -> None:
    stopped(signal.SIGTERM)
    with pytest.raises(JobFailedError, match=r"^terminated by SIGTERM\nTo resume: bucketwheel run .* --resume 2025-"):
        job_cli.main(["--config-dir", str(project.conf), "--env", "local", "--dataset", WIDE])


def signalled(check: Callable[[], None]) -> None:
    """Send SIGTERM to this process and call `check` while it ends."""
    with terminate_cleanly():
        try:
            os.kill(PID, signal.SIGTERM)
        finally:
            check()


def test_second_signal_ends_process_at_once() -> None:
    handlers: list[object] = []
    with pytest.raises(Terminated):
        signalled(lambda: handlers.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGHUP))))
    assert handlers == [signal.SIG_DFL, signal.SIG_DFL]


def test_second_signal_ends_first_process_of_container(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "_exit", codes.append)
    with pytest.raises(Terminated):
        signalled(lambda: os.kill(PID, signal.SIGTERM))
    assert codes == [143]


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminate_cleanly():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_command_restores_handlers() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    cli.main(["--version"])
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
