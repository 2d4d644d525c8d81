"""A page with pictures of real commands on sample data, and the report of the run, made while the site is built."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

# Columns of a terminal: pictures are scaled to one width, so that short lines would become large ones.
_NARROWEST, _WIDEST = 100, 150
_SECONDS = 120
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

_CONFIGURATION = """
buckets: {count: 8}
catalog: {path: out/catalog.duckdb}
target: out
datasets:
  infobase_attributes:
    source: data/opus/infobase_attributes/raw_input
    mapping: data/opus/infobase_attributes/mapping.csv
    key: Customer_User_id
"""
_HEAD = """# See it work

Made while this site was built, by these commands on sample data, with `buckets.count: 8` in `conf/base.yaml`.
The beginning of paths is left out.
"""
# What is typed, and what is said about it. The first is only needed.
_STEPS = (
    ("sample data --rows 20000 --tables 3 --columns 4", "Sample data: persons, codes, flags, dates, and a mapping."),
    ("doctor", "Is everything there that a run needs?"),
    ("plan infobase_attributes", "What would a run do? Only footers and the mapping are read."),
    ("run infobase_attributes", "All seven stages, from the snapshot to published tables."),
    ("runs", "What has been run."),
    ("rollback last", "Pointing the tables at a run: one update a table, all or none."),
)


def make_tour(docs: Path, project: Path, root: Path) -> None:
    """Write `tour.md` and what it shows into `docs`.

    Raises:
        RuntimeError: a command failed.
    """
    shutil.rmtree(project, ignore_errors=True)
    (project / "conf").mkdir(parents=True)
    (project / "conf" / "base.yaml").write_text(_CONFIGURATION)
    (project / "conf" / "local.yaml").touch()
    shown = docs / "tour"
    shown.mkdir()
    text = [_HEAD]
    for words, caption in _STEPS:
        name = words.split()[0]
        (shown / f"{name}.svg").write_text(picture(f"bucketwheel {words}", run(words, project, root)), "utf-8")
        text.append(f"{caption}\n\n![bucketwheel {words}](tour/{name}.svg)\n")
    run(f"report last --to {shown / 'report.html'}", project, root)
    text.append("## The report\n\n`bucketwheel report last` writes one page: [report](tour/report.html).\n")
    if photographed(shown / "report.html", shown / "report.png"):
        text.append("![The report in a browser](tour/report.png)\n")
    text.append('<iframe src="tour/report.html" title="The report of this run"></iframe>\n')
    (docs / "tour.md").write_text("\n".join(text), "utf-8")


def run(words: str, project: Path, root: Path) -> str:
    """What a command prints, on both streams, as a terminal shows it."""
    done = subprocess.run(
        [sys.executable, "-m", "bucketwheel", *words.split()],
        cwd=project,
        env=_environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"bucketwheel {words} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout.replace(f"{project.resolve()}/", "")


def _environment(root: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BUCKETWHEEL", "AWS_"))}
    return {**kept, "PYTHONPATH": str(root / "app")}


def picture(command: str, output: str) -> str:
    """A terminal with a command and what it printed, as SVG that loads no font."""
    width = min(max(_NARROWEST, *(len(line) + 1 for line in output.splitlines())), _WIDEST)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    for line in output.rstrip().splitlines():
        console.print(Text(line, style=_style(line)), highlight=False)
    # The picture is cut off right below the last line, through what is below its letters.
    console.print()
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    return console.export_svg(title="bucketwheel", code_format=form, unique_id=command.split()[1])


def _style(line: str) -> str:
    if line.startswith("ok "):
        return "green"
    return "yellow" if line.startswith("warning") or ": warning:" in line else "default"


def photographed(page: Path, to: Path) -> bool:
    """Have a browser make a picture of a page, where there is one; return whether there is a picture."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return False
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1500")
    places = (f"--user-data-dir={to.parent / 'browser'}", f"--screenshot={to}")
    with_home = {**os.environ, "HOME": str(to.parent.absolute())}
    try:
        subprocess.run(
            [browser, *options, *places, page.absolute().as_uri()],
            env=with_home,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    finally:
        for left in ("browser", ".config", ".cache", ".pki", ".local"):
            shutil.rmtree(to.parent / left, ignore_errors=True)
    return to.exists()
