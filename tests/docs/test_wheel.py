"""A new user installs the wheel in a new environment and follows docs/getting-started.md to the first query."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from bucketwheel.packaging.wheel import build_wheel
from page_support import ROOT, Block, blocks

PAGE = ROOT / "docs/getting-started.md"
MOST_COMMANDS = 4


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs of an environment with the wheel; its dependencies are those of the tests."""
    directory = tmp_path / "venv"
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin/python"
    (tmp_path / "dist").mkdir()
    wheel = build_wheel(ROOT, tmp_path / "dist")
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    # With a path to the checkout, pip would find the package installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel]
    subprocess.run(command, env=environment, check=True)
    (site,) = directory.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return directory / "bin"


def run(programs: Path, directory: Path, command: str) -> str:
    """Run a command as a new user, without variables that lead to the checkout; return what it prints."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(directory), "COLUMNS": "200"}
    done = subprocess.run(
        ["bash", "-ec", command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def first_run(shown: list[Block]) -> list[str]:
    """Return the commands of the page from `init` to the first query."""
    commands = [command for block in shown if block.language == "console" for command, _ in block.steps()]
    (first,) = (number for number, command in enumerate(commands) if command.startswith("bucketwheel init"))
    query = next(number for number, command in enumerate(commands) if "SELECT" in command)
    return commands[first : query + 1]


@pytest.mark.slow
def test_wheel_reaches_first_query_in_four_commands(programs: Path, tmp_path: Path) -> None:
    directory = tmp_path / "user"
    directory.mkdir()
    shown = blocks(PAGE)
    (script,) = (block.body for block in shown if block.language == "python")
    (directory / "snapshot.py").write_text(script, "utf-8")
    run(programs, directory, "python snapshot.py 2026-01-31")
    where = run(programs, directory, "python -c 'import bucketwheel; print(bucketwheel.__file__)'")
    assert where.startswith(str(programs.parent))
    commands = first_run(shown)
    assert len(commands) <= MOST_COMMANDS
    output = [run(programs, directory, command) for command in commands]
    assert "12 tables" in output[0]
    assert "│ person_id │" in output[-1]
    assert "[ ] 1. " in run(programs, directory, "bucketwheel doctor --first-run")
    (query,) = re.findall(r"^query +(.*)$", output[-2], re.MULTILINE)
    assert re.search(r"\b5 rows\b|\(5 shown\)", answer := run(programs, directory, query)), answer
