"""Completion in shells, set up as the documentation says."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from bucketwheel.cli.completing import VARIABLE
from project import Project, environment

# Each shell starts with the script of completion, without the user's own configuration.
SHELLS = {
    "bash": ("bash", "--noprofile", "--rcfile", "{script}", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "--init-command", "source {script}", "-i"),
}
FIRST = {"zsh": "autoload -U compinit; compinit -u -D; source {script}\n"}
# Lines with tabs, and the arguments after completion.
TYPED = {
    "plan addr\t": "plan addressable_ids",
    "roll\tlast": "rollback last",
    "run --set buckets.c\t3": "run --set buckets.count=3",
    "run --stages discover,si\t": "run --stages discover,size",
}
# Recognized in the output of the shell; a quiet shell waits for input.
QUIET_SECONDS = 0.3


class Shell:
    """An interactive shell in a terminal."""

    def __init__(self, arguments: list[str], directory: Path, variables: Mapping[str, str]) -> None:
        self._leader, follower = pty.openpty()
        # fish ends if its terminal does not control it.
        command = ["setsid", "--ctty", *arguments]
        self._process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=variables, cwd=directory
        )
        os.close(follower)
        self.output = b""

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._leader)

    def type(self, text: str) -> None:
        """Type a text as soon as the shell has nothing more to say."""
        quiet = False
        while not quiet:
            quiet = bool(self.output) and not self.read()
            if not self.output:
                self.read()
        os.write(self._leader, text.encode())

    def read(self) -> bytes:
        """Read what the shell prints, and return it; nothing if it prints nothing for a moment."""
        ready, _, _ = select.select([self._leader], [], [], QUIET_SECONDS)
        text = os.read(self._leader, 65536) if ready else b""
        self.output += text
        return text


@pytest.mark.parametrize("name", SHELLS)
def test_completion_works_in_shell(
    project: Project, tmp_path: Path, name: str, cannot: Callable[[str], NoReturn]
) -> None:
    if shutil.which(name) is None:
        cannot(f"{name} is not installed")
    result = project.cli("completion", name)
    assert (result.exit_code, result.stderr) == (0, "")
    script, lines, programs = tmp_path / "script", tmp_path / "lines", tmp_path / "programs"
    script.write_text(result.stdout)
    lines.touch()
    programs.mkdir()
    program = programs / "bucketwheel"
    program.write_text(
        f'#!/bin/sh\n[ -z "${VARIABLE}" ] || exec {shlex.quote(sys.executable)} -m bucketwheel "$@"\n'
        f'echo "$*" >> {shlex.quote(str(lines))}\n'
    )
    program.chmod(0o755)
    (tmp_path / "conf").symlink_to(project.conf)
    variables = environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}", HOME=str(tmp_path), TERM="xterm")
    arguments = [part.format(script=script) for part in SHELLS[name]]
    deadline = time.monotonic() + 60
    with Shell(arguments, tmp_path, variables) as shell:
        shell.type(FIRST.get(name, "").format(script=script))
        for number, line in enumerate(TYPED, 1):
            shell.type(f"bucketwheel {line}\n")
            while len(lines.read_text().splitlines()) < number:
                shell.read()
                assert time.monotonic() < deadline, shell.output.decode()
    assert lines.read_text().splitlines() == [*TYPED.values()]
