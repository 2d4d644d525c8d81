"""Without the extras `cli` and `report`, everything works but the HTML report, whose error says what to install."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from bucketwheel.cli.progress import show_progress
from bucketwheel.contracts import Progress
from bucketwheel.settings import STAGES
from project import WIDE, Project, Result, environment

EXTRAS = ("jinja2", "markupsafe", "pygal", "rich")


def without_extras(project: Project, *arguments: str) -> Result:
    """Run the command line in a process that cannot import the packages of the extras."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); "
        "from bucketwheel import cli; cli.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--conf", str(project.conf)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("output", ["text", "json"])
def test_run_without_extras_succeeds(project: Project, output: str) -> None:
    result = without_extras(project, "run", WIDE, "--output", output)
    assert result.exit_code == 0, result.stderr
    if output == "json":
        assert json.loads(result.stdout)[0]["dataset"] == WIDE
        assert all(json.loads(line) for line in result.stderr.splitlines())
    else:
        stages = [line.split()[1] for line in result.stderr.splitlines() if "warning" not in line]
        assert tuple(stages) == STAGES
    assert set(project.published().values()) == {1200}


def test_report_without_extras_names_what_to_install(project: Project) -> None:
    project.run()
    result = without_extras(project, "report", "last", "--to", str(project.root / "report.html"))
    assert result.exit_code == 2
    assert "the report needs the package 'jinja2'; pip install 'bucketwheel[report]'" in result.stderr
    assert not (project.root / "report.html").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_terminal_without_rich_prints_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    stream = Terminal()
    with show_progress("text", stream) as report:
        report(Progress("people", "discover", "started"))
        report(Progress("people", "discover", "finished", message="0.3 s"))
    assert stream.getvalue() == "people: discover 0.3 s\n"
