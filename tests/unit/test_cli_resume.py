"""The printed resume command, Ctrl-C, and progress on a terminal."""

from __future__ import annotations

import html
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bucketwheel.advice import is_advice
from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project, Result, environment

HINT = "To resume: "

# A plugin engine that prints a line when its work starts, then waits for a signal.
WAITING = """
import signal, sys
from bucketwheel.engines.arrow import ArrowEngine

class Waiting(ArrowEngine):
    def bucket(self, job, done, advance):
        print("waiting", file=sys.stderr, flush=True)
        signal.pause()
        yield from super().bucket(job, done, advance)
"""


@pytest.fixture
def odd(tmp_path: Path, clean: Sample, no_flush: None) -> Project:
    """A project at a path that needs shell quoting."""
    return Project(tmp_path / 'it\'s a $HOME; "project" & more', clean)


def obstruct(project: Project) -> Path:
    """Replace the lock file of the catalog by a directory, so that publishing fails, but no check before it."""
    obstacle = project.catalog.with_name(f".{project.catalog.name}.lock")
    obstacle.mkdir()
    return obstacle


def hint(stderr: str) -> str:
    """Return the command in the line of advice."""
    (line,) = [line for line in stderr.splitlines() if is_advice(line)]
    return line[line.index("bucketwheel ") :]


def in_shell(project: Project, command: str) -> Result:
    """Run a command line in a shell with `bucketwheel` on the path."""
    program = project.root / "bin" / "bucketwheel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bucketwheel "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        env=environment(PATH=path),
        cwd=project.root,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_printed_resume_command_works_in_a_shell(odd: Project) -> None:
    obstacle = obstruct(odd)
    failed = odd.cli(
        "run", WIDE, "--set", "buckets.count=3", "--set=quality.duplicate_keys=allow", "--snapshot-dt=2025-10-22"
    )
    assert (failed.exit_code, failed.stdout) == (1, "")
    (run_id,) = odd.run_ids()
    assert shlex.split(hint(failed.stderr)) == [
        *("bucketwheel", "run", WIDE, "--set", "buckets.count=3", "--set=quality.duplicate_keys=allow"),
        *("--snapshot-dt=2025-10-22", "--conf", str(odd.conf), "--resume", run_id),
    ]
    obstacle.rmdir()
    done = in_shell(odd, hint(failed.stderr))
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{WIDE}: run {run_id} finished\n")
    stages = [line.split()[1] for line in done.stderr.splitlines()]
    assert stages == ["register", "ctas"]
    assert set(odd.published().values()) == {1200}


def test_resume_command_names_failed_dataset(project: Project) -> None:
    obstruct(project)
    failed = project.cli("run")
    assert shlex.split(hint(failed.stderr))[:3] == ["bucketwheel", "run", NARROW]


@pytest.mark.parametrize(
    "given",
    [
        (WIDE, "--resume", "last"),
        ("--resume=last", WIDE),
        ("--resume", "last", "--", WIDE),
        ("--resume", "last"),
    ],
)
def test_resume_failing_again_prints_one_resume_option(project: Project, given: tuple[str, ...]) -> None:
    obstruct(project)
    first = hint(project.cli("run", WIDE).stderr)
    again = project.cli("run", "--conf", str(project.conf), *given)
    assert (again.exit_code, hint(again.stderr)) == (1, first)


def test_resume_command_keeps_values_like_options(project: Project, clean: Sample) -> None:
    obstruct(project)
    failed = project.cli("run", "--tables-filter", NARROW, NARROW, "--set", "trino.user=--resume")
    assert shlex.split(hint(failed.stderr))[2:7] == [
        *(NARROW, "--tables-filter", NARROW, "--set", "trino.user=--resume")
    ]


def test_resume_without_dataset_uses_that_of_the_run(project: Project) -> None:
    obstacle = obstruct(project)
    run_id = shlex.split(hint(project.cli("run", WIDE).stderr))[-1]
    obstacle.rmdir()
    resumed = project.cli("run", "--resume", run_id)
    assert resumed.exit_code == 0, resumed.stderr
    assert set(project.published()) == {
        f"{p}_{t}" for p in ("bucketed", "ext") for t in ("ibe_01", "ibe_02", "ibe_04")
    }
    unknown = project.cli("run", "--resume", "nothing")
    assert (unknown.exit_code, unknown.stderr.startswith("error: no run 'nothing' below")) == (2, True)


def test_show_report_and_summary_repeat_the_advice(project: Project, dirty: Callable[..., Sample]) -> None:
    project.use(dirty("null_keys"))
    line = project.cli("run", WIDE, "--set", "buckets.count=2").stderr.splitlines()[-1]
    assert line.startswith(f"{HINT}bucketwheel run {WIDE} --set buckets.count=2 --conf ")
    (run_id,) = project.run_ids()
    assert line in project.cli("show", run_id).stdout
    page = project.root / "report.html"
    assert project.cli("report", run_id, "--to", str(page)).exit_code == 0
    assert line in html.unescape(page.read_text())
    summary = project.target / "_bucketwheel" / WIDE / "runs" / run_id / "summary.json"
    assert json.loads(summary.read_text())["error"]["advice"] == line


@pytest.fixture
def waiting(published: Project) -> Callable[..., subprocess.Popen[str]]:
    """Start a run with a waiting engine; return the process when it waits."""
    packages = published.root / "packages"
    info = packages / "waiting-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "waiting.py").write_text(WAITING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waiting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bucketwheel.engines]\nwaiting = waiting:Waiting\n")

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            # A shell starts background jobs with interrupts ignored; the test run may be one.
            ["env", "--default-signal=INT,TERM", *published.command("run", *arguments, "--engine", "waiting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(PYTHONPATH=f"{packages}{os.pathsep}{environment()['PYTHONPATH']}"),
        )
        assert process.stderr
        for line in process.stderr:
            if line == "waiting\n":
                break
        return process

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "exit_code", "line"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated by SIGTERM")],
)
def test_signal_ends_run_with_resume_command(
    published: Project, waiting: Callable[..., subprocess.Popen[str]], number: int, exit_code: int, line: str
) -> None:
    before = published.content()
    process = waiting(WIDE)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    run_id = published.run_ids()[-1]
    assert (process.returncode, stdout) == (exit_code, "")
    assert stderr.splitlines()[-2] == line
    assert not (published.target / "_bucketwheel" / WIDE / "lease.json").exists()
    assert "Traceback" not in stderr
    assert shlex.split(hint(stderr))[-2:] == ["--resume", run_id]
    assert published.content() == before
    manifest = json.loads(published.cli("show", run_id, "--output", "json").stdout)
    assert (manifest["status"], list(manifest["stages"])) == ("failed", ["discover", "split", "size"])
    published.run("--resume", run_id)
    assert set(published.published().values()) == {1200}


def test_interrupt_in_any_stage_exits_130(published: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bucketwheel.stages.verify.Verify.run", interrupted)
    result = published.cli("run", WIDE)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-2:] == ["interrupted", f"{HINT}{hint(result.stderr)}"]
    assert set(published.published().values()) == {900}


def on_terminal(project: Project, *arguments: str) -> tuple[int, str, str]:
    """Run with stderr on a pseudo-terminal of 90 columns; return exit code, stdout and terminal output."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm", COLUMNS="90", LINES="24", NO_COLOR="1")
    with subprocess.Popen(
        project.command(*arguments), stdout=subprocess.PIPE, stderr=theirs, text=True, env=env, cwd=project.root
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux raises this error when the other side has closed.
                break
            if not part:
                break
            seen += part
        os.close(ours)
        assert process.stdout
        stdout = process.stdout.read()
    return process.returncode, stdout, seen.decode()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "verify"])
def test_progress_on_terminal_draws_bars(current: Project, command: str) -> None:
    (done,) = current.run_ids()
    if command == "run":
        code, stdout, seen = on_terminal(current, "run", WIDE, "--set", "buckets.count=3")
    else:
        code, stdout, seen = on_terminal(current, "verify", done)
    assert code == 0, seen
    assert "\x1b" not in stdout
    assert "━" not in stdout
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", seen).replace("\r", "\n").splitlines()
    bars = [line for line in lines if "━" in line]
    assert WIDE in lines
    if command == "run":
        assert any(line.startswith("bucket") and "100 % 1,200 rows, 1" in line for line in bars), seen
        assert f"{WIDE}: warning: 3 source columns are not in the mapping" in seen.replace("\r\n", " ")
    else:
        assert any(line.startswith("verify") and "100 % 1,200 rows, 1" in line for line in bars), seen


@pytest.mark.slow
def test_progress_without_terminal_draws_nothing(current: Project) -> None:
    result = current.process("run", WIDE, "--set", "buckets.count=3")
    assert result.exit_code == 0
    assert "━" not in result.stderr
    assert "\x1b" not in result.stderr
