"""Commands whose standard streams are closed, full or gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m bucketwheel"


def shell(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell and check that it printed no traceback."""
    done = subprocess.run(["bash", "-c", line], cwd=directory, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


def test_full_stdout_is_an_error_that_names_it(tmp_path: Path) -> None:
    done = shell(f"{COMMAND} --help > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "error: stdout: cannot write the result: No space left on device\n",
    )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_lost_messages_do_not_change_the_exit_code(tmp_path: Path, redirection: str) -> None:
    assert shell(f"{COMMAND} --help {redirection}", tmp_path).returncode == 0
    assert shell(f"{COMMAND} show last --conf missing {redirection}", tmp_path).returncode == 2


def test_reader_that_stops_early_ends_the_command_quietly(tmp_path: Path) -> None:
    done = shell(f"{COMMAND} --help | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout in ("0\n", "1\n")
    assert done.stderr == ""


def test_closed_streams_never_become_data_files(tmp_path: Path) -> None:
    code = """
from bucketwheel.cli.streams import usable_streams
with usable_streams(), open("data", "w") as file:
    print("text for people")
    assert file.fileno() > 2
"""
    assert shell(f"{sys.executable} -c '{code}' <&- >&- 2>&-", tmp_path).returncode == 0
    assert (tmp_path / "data").read_text() == ""
