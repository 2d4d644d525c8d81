"""Commands in README.md and docs/: the quick start runs as written, every other command line parses."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from bucketwheel import api
from bucketwheel.cli import cli
from bucketwheel.errors import BucketwheelError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>[^>]+) -->\n *)?```(?P<language>\w*)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_SHELL = ("", "sh", "console")


@dataclass(frozen=True)
class Block:
    page: Path
    language: str
    reason: str | None
    body: str

    def commands(self) -> Iterator[str]:
        """Yield the command lines that start `bucketwheel` or `make`; `$ ` marks them in blocks with output."""
        text = re.sub(r"\\\n\s*", " ", self.body)
        lines = [line.strip() for line in text.splitlines()]
        prompted = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if not prompted or line.startswith("$ "):
                for part in re.split(r"&& |\| |\$\(", line.removeprefix("$ ")):
                    if re.match(r"(\.venv/bin/)?(bucketwheel|make) [a-z-]", part):
                        yield part.strip().removeprefix(".venv/bin/")


def blocks(page: Path) -> list[Block]:
    return [
        Block(page, match["language"], match["reason"], match["body"])
        for match in _BLOCK.finditer(page.read_text("utf-8"))
    ]


def command_lines() -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), line)
        for page in PAGES
        # The test of the plug-in page installs its plug-in and runs its commands.
        if page.name != "plugins.md"
        for block in blocks(page)
        if block.language in _SHELL
        for line in block.commands()
    ]


def check_command_line(line: str) -> None:
    """Resolve a command line without running it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=");|")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set(");|"):
            break
        words.append(word)
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS, line
        return
    command: click.Command = cli
    context = click.Context(cli, info_name="bucketwheel")
    rest = words[1:]
    while isinstance(command, click.Group):
        name, subcommand, rest = command.resolve_command(context, rest)
        assert subcommand is not None, line
        command = subcommand
        context = click.Context(command, parent=context, info_name=name)
    with context:
        command.parse_args(context, rest)
    check_overrides(words, line)


def check_overrides(words: list[str], line: str) -> None:
    """Load the built-in defaults with every `--set` of a command line."""
    given = [after for option, after in itertools.pairwise(words) if option == "--set"]
    pairs: list[tuple[str, Any, str]] = []
    datasets: dict[str, dict[str, str]] = {}
    for word in given:
        name, _, value = word.partition("=")
        pairs.append((name, value, "--set"))
        if name.startswith("datasets."):
            datasets[name.split(".")[1]] = {"source": "s", "key": "k"}
    overrides = [("datasets", datasets, "test"), *pairs] if datasets else pairs
    assert api.load("local", None, overrides, environ={}), line


LINES = command_lines()


def test_docs_commands_are_discovered() -> None:
    assert len(LINES) > 30
    assert {page for page, _ in LINES} > {"README.md", "docs/operations.md", "docs/deploy.md"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_docs_command_line_parses(page: str, line: str) -> None:
    check_command_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "bucketwheel runn people",
        "bucketwheel run people --resumes last",
        "bucketwheel expire people",
        "bucketwheel run people --set buckets.cuont=8",
        "make demoo",
    ],
)
def test_docs_command_line_with_mistake_is_rejected(line: str) -> None:
    with pytest.raises((click.ClickException, BucketwheelError, AssertionError)):
        check_command_line(line)


def quick_start() -> tuple[list[Block], str]:
    shown = [block for block in blocks(ROOT / "README.md") if block.reason is None]
    (settings,) = (block.body for block in shown if block.language == "yaml")
    (mapping,) = (block.body for block in shown if block.language == "csv")
    Path("conf").mkdir()
    Path("conf/local.yaml").write_text(settings, encoding="utf-8")
    Path("mapping.csv").write_text(mapping, encoding="utf-8")
    return [block for block in shown if block.language in _SHELL], settings


def shell(command: str, directory: Path) -> str:
    """Run a command of the README in the current directory, with this version of Bucketwheel on the path."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    for name, arguments in (("bucketwheel", "-m bucketwheel "), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n', encoding="utf-8")
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "app"),
        "COLUMNS": "200",
    }
    finished = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, env=environment, check=False)
    assert finished.returncode == 0, (command, finished.stderr)
    return finished.stdout


def normalize(output: str) -> str:
    """Replace run ids, sizes and the absolute path, which vary between runs, versions of pyarrow and machines."""
    output = output.replace(f"{Path.cwd()}/", "")
    output = re.sub(r"\d{4}-\d\d-\d\d-\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN", output)
    return re.sub(r"\d+\.\d kB", "SIZE", output).strip()


@pytest.mark.slow
def test_readme_quick_start_prints_what_is_shown(tmp_path: Path) -> None:
    steps, settings = quick_start()
    assert "people" in yaml.safe_load(settings)["datasets"]
    compared = 0
    for block in steps:
        if block.language != "console":
            shell(block.body, tmp_path)
            continue
        for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            pattern = ".*".join(re.escape(text) for text in normalize(shown).split("…"))
            output = normalize(shell(command, tmp_path))
            assert re.fullmatch(pattern, output, re.DOTALL), (command, output)
            compared += 1
    assert compared == 2
