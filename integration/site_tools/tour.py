"""Write a page with pictures of real commands on sample data, and the report of the run."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

# Size of the terminal, the same in all pictures, so that letters have one size.
_COLUMNS, _ROWS = 100, 40
_SECONDS = 120
# Width of the report's picture in pixels; its height is that of the page.
_PAGE_WIDTH = 1200
_PACKAGE = "s3://omc-flywheel-prod-analysis-data/bucketwheel/0123456789abcdef"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

_CONFIGURATION = """
buckets: {count: 8}
catalog: {path: out/catalog.duckdb}
target: out
datasets:
  infobase_attributes:
    source: opus/infobase_attributes/raw_input
    mapping: opus/infobase_attributes/mapping.csv
    key: Customer_User_id
"""
_HEAD = """---
hide: [navigation, toc]
---
# See it work

The build of this site ran these commands on sample data, with `buckets.count: 8` in `conf/base.yaml`.
Paths are shown relative to the project.
"""


@dataclass(frozen=True)
class Step:
    """A command, its caption, and the number of output lines to show (default: all)."""

    words: str
    caption: str
    lines: int | None = None


# The first creates the input of the others.
_STEPS = (
    Step(
        "sample . --rows 20000 --tables 3 --columns 4",
        "Create sample data: people, codes, flags, dates, a mapping.",
    ),
    Step("doctor", "Check that everything a run needs is available."),
    Step("plan infobase_attributes", "Show what a run will do. `plan` reads only footers and the mapping."),
    Step("run infobase_attributes", "Run all seven stages, from the snapshot to published tables."),
    Step("runs", "List the runs."),
    Step("rollback last", "Publish an earlier run again: one update per table, all or none."),
)
# With the configuration of `prod` in the repository.
_ON_AWS = (
    Step(
        "package --env prod --without-archive",
        "Build the package for AWS, reproducible to the byte; here without the Python environment.",
    ),
    Step(f"deploy render --env prod --package {_PACKAGE}", "Render the stack: one CloudFormation template.", 24),
)


def make_tour(docs: Path, project: Path, root: Path) -> None:
    """Write `tour.md` and its pictures into `docs`.

    Raises:
        RuntimeError: a command or the browser failed.
    """
    shutil.rmtree(project, ignore_errors=True)
    (project / "conf").mkdir(parents=True)
    (project / "conf" / "base.yaml").write_text(_CONFIGURATION)
    shown = docs / "tour"
    shown.mkdir()
    text = [_HEAD]
    text += [_shown(step, shown, run(step.words, project, root)) for step in _STEPS]
    report = shown / "report.html"
    run(f"report last --to {report}", project, root)
    beginning = f"{project.resolve()}/"
    # The report has break points for browsers in most paths.
    text_of_report = report.read_text("utf-8").replace(beginning.replace("/", "/<wbr>"), "").replace(beginning, "")
    report.write_text(text_of_report, "utf-8")
    text.append("## The report\n\n`bucketwheel report last` writes one page: [report](tour/report.html).\n")
    if (browser := find_browser()) is None:
        text.append('<iframe src="tour/report.html" title="The report of this run"></iframe>\n')
    else:
        photograph(browser, report, shown / "report.png")
        text.append("[![The report in a browser](tour/report.png)](tour/report.html)\n")
    text.append("## On AWS\n")
    text += [_shown(step, shown, run(step.words, project, root, root / "conf")) for step in _ON_AWS]
    (docs / "tour.md").write_text("\n".join(text), "utf-8")


def _shown(step: Step, shown: Path, output: str) -> str:
    """Draw the picture of a step and return its part of the page."""
    name, command, lines = step.words.split()[0], f"bucketwheel {step.words}", output.splitlines()
    if step.lines is not None:
        command, lines = f"{command} | head -n {step.lines}", lines[: step.lines]
    (shown / f"{name}.svg").write_text(picture(command, "\n".join(lines)), "utf-8")
    return f"{step.caption}\n\n![{command}](tour/{name}.svg)\n"


def run(words: str, project: Path, root: Path, conf: Path | None = None) -> str:
    """Run a command in a pseudo-terminal and return its final screen content with colors.

    Raises:
        RuntimeError: it failed.
    """
    environment = _environment(root) if conf is None else {**_environment(root), "BUCKETWHEEL_CONF": str(conf)}
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (_ROWS, _COLUMNS))
    command = [sys.executable, "-m", "bucketwheel", *words.split()]
    with subprocess.Popen(command, cwd=project, env=environment, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        stop = threading.Timer(_SECONDS, process.kill)
        stop.start()
        written = _read(ours)
        process.wait()
        stop.cancel()
    output = screen(written)
    if process.returncode:
        raise RuntimeError(f"bucketwheel {words} ended with {process.returncode}:\n{output}")
    return output.replace(f"{project.resolve()}/", "")


def _read(terminal: int) -> str:
    """Read all output of a pseudo-terminal until its last writer ends, then close it."""
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        content = b""
        # On Linux, reading fails once the last writer has closed the terminal.
        with contextlib.suppress(OSError):
            while part := stream.read(65536):
                content += part
    return content.decode()


def screen(written: str) -> str:
    """Return the lines that a terminal shows after this output: progress bars move the cursor up and erase lines."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", written):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif up := re.fullmatch(r"\x1b\[(\d*)A", token):
            row = max(row - int(up[1] or 1), 0)
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token != "\r" and not token.startswith("\x1b[?"):
            lines[row] += token
    return "\n".join(lines)


def _environment(root: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BUCKETWHEEL", "AWS_"))}
    kept.pop("COLUMNS", None)
    kept.pop("NO_COLOR", None)
    return {**kept, "PYTHONPATH": str(root / "app"), "TERM": "xterm-256color"}


def picture(command: str, output: str) -> str:
    """Return an SVG of a terminal with a command and its output; it loads no font."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    for line in output.rstrip().splitlines():
        text = Text.from_ansi(line)
        # Like a terminal, break after the last column and not between words.
        for part in text.divide(range(_COLUMNS, len(text), _COLUMNS)):
            console.print(part, highlight=False)
    # The picture would cut off the descenders of the last line.
    console.print()
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    return console.export_svg(title="bucketwheel", code_format=form, unique_id=command.split()[1])


def find_browser() -> str | None:
    """Return the path of an installed browser, or None."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def photograph(browser: str, page: Path, to: Path) -> None:
    """Write a screenshot of a whole page.

    Raises:
        RuntimeError: the browser failed; the message has its output.
    """
    with tempfile.TemporaryDirectory(prefix="bucketwheel-browser-") as home:
        measured = Path(home) / "measured.html"
        script = "<script>document.body.dataset.height = document.documentElement.scrollHeight</script>"
        # The report forbids scripts; this copy must run one.
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
        measured.write_text(text + script, "utf-8")
        # A low window, so that the height is that of the page.
        dump = _browse(browser, Path(home), 100, "--dump-dom", measured)
        height = re.search(r'data-height="(\d+)"', dump)
        if height is None:
            raise RuntimeError(f"{browser} did not say how high {page} is: {dump[-2000:]}")
        said = _browse(browser, Path(home), int(height[1]), f"--screenshot={to}", page)
    if not to.exists():
        raise RuntimeError(f"{browser} made no picture of {page}: {said[-2000:]}")


def _browse(browser: str, home: Path, height: int, task: str, page: Path) -> str:
    """Run a browser and return its output; its profile is in `home`."""
    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--hide-scrollbars",
    )
    done = subprocess.run(
        [browser, *options, f"--window-size={_PAGE_WIDTH},{height}", f"--user-data-dir={home}", task, page.as_uri()],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{browser} {task} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr
