"""Parse the code blocks of README.md and docs/, and run their commands as a reader would."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from bucketwheel import cli

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "conf/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# `sh` has commands only; `console` has commands after `$ ` and their output.
SHELL = ("sh", "console")

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>[^>]+) -->\n *)?```(?P<language>\w*)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_RUN_ID = re.compile(r"(\d{4}-\d\d-\d\d)-\d{8}T\d{6}Z-[0-9a-f]{6}")
_FINISHED = re.compile(r"\brun (\d{4}-\d\d-\d\d-\d{8}T\d{6}Z-[0-9a-f]{6}) finished")
_PACKAGE = re.compile(r"s3://\S+/[0-9a-f]{16}\b")
_NEEDS_SHELL = re.compile(r"[|;&$<>*`\"(]")
_MASKS = (
    (_RUN_ID, r"\1-RUN"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b"), "MINUTE"),
    # The query to paste names the Python of the command.
    (re.compile(r"\S*/python[\d.]*(?= -c )"), "python"),
    (re.compile(r"\bwithdrawn at \S+ by [^\s:,]+"), "withdrawn at TIME by SOMEONE"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "TOKEN"),
    (re.compile(r"\bjr_[0-9a-f]+…?"), "JOB_RUN"),
    (re.compile(r"\b[0-9a-f]{16,64}\b"), "DIGEST"),
    (re.compile(r"\b[0-9a-f]{8}…"), "DIGEST"),
    (re.compile(r"\b\d+(\.\d+)? ([kMGT]?B)\b"), "SIZE"),
    (re.compile(r"\b\d+\.\d s\b"), "TIME"),
    (re.compile(r"\b\d+\.\d+(\.\d+)?\b(?! dollars|\s?%|%)"), "NUMBER"),
    (re.compile(r"\b\d+ settings\b"), "SETTINGS"),
    # A kill is not exact.
    (re.compile(r"\binterrupted \(\d of"), "interrupted (SOME of"),
    # An answer that is typed in a terminal is not part of the output.
    (re.compile(r"\[y/N\]: ?y?\n?"), "[y/N]: "),
    # Widths of columns depend on the values.
    (re.compile(r"-{3,}"), "--"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Block:
    """A code block of a page; `reason` says why its commands are not run."""

    page: Path
    language: str
    reason: str | None
    body: str

    def steps(self) -> list[tuple[str, str | None]]:
        """Return the commands, each with the output that the page shows (None: the page shows none)."""
        if self.language == "console":
            parts = re.split(r"^\$ ", self.body, flags=re.MULTILINE)
            assert not parts[0].strip(), f"{self.page.name}: output before the first command"
            split = (re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL) for part in parts[1:])
            return [(found[1], found[2]) for found in split if found]
        lines = [line for line in re.sub(r"\\\n\s*", "", self.body).splitlines() if line]
        # Lines that depend on each other are one script.
        if any(_NEEDS_SHELL.search(line.partition(" #")[0]) for line in lines):
            return [(self.body, None)]
        return [(line, None) for line in lines]

    def commands(self) -> Iterator[str]:
        """Yield each call of `bucketwheel` and `make`."""
        for command, _ in self.steps():
            for line in re.sub(r"\\\n\s*", " ", command).splitlines():
                yield from calls(line)


def calls(line: str) -> Iterator[str]:
    """Yield each call of `bucketwheel` and `make` in a line of shell."""
    for part in re.split(r"&& |\| |\$\(", line):
        if re.match(r"(\.venv/bin/|build/release/bin/)?(bucketwheel|make) [a-z-]", part):
            yield re.sub(r"^\S+/bin/", "", part.strip())


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    found = _BLOCK.finditer(page.read_text("utf-8"))
    return [
        Block(page, match["language"], match["reason"], re.sub(rf"^{match['indent']}", "", match["body"], flags=re.M))
        for match in found
    ]


def inline_code(page: Path) -> Iterator[str]:
    """Yield the code spans in the text of a page."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        yield " ".join(span.split()).replace("\\|", "|")


def masked(output: str) -> str:
    """Return the output without what differs between runs, versions and machines."""
    for pattern, text in _MASKS:
        output = pattern.sub(text, output)
    return output.strip()


def matches(output: str, shown: str) -> bool:
    """Return whether the output is what the page shows; `…` stands for any text."""
    pattern = r"\s*.*".join(re.escape(part.strip()) for part in masked(shown).split("…"))
    return re.fullmatch(pattern, masked(output), re.DOTALL) is not None


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    command: str
    exit_code: int
    stdout: str
    terminal: str


class Reader:
    """A reader of a page, who types its commands in the current directory and answers `y` to every question.

    `in_process` saves the start of Python for each command; commands that use an installed plug-in need a process.
    """

    in_process = True

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._package = ""
        self._run_ids: list[str] = []
        programs.mkdir()
        for name, arguments in (("bucketwheel", "-m bucketwheel "), ("python", ""), ("pip", "-m pip ")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n', "utf-8")
            program.chmod(0o755)

    def read(self, block: Block) -> None:
        """Run the commands of a block; each must end as the page shows."""
        for command, shown in block.steps():
            done = self.run(command)
            fails = shown is not None and re.search(r"^error: ", shown, re.MULTILINE) is not None
            assert (done.exit_code != 0) is fails, (done.command, done.exit_code, done.terminal)
            if shown is not None:
                seen = done.terminal.replace(f"{Path.cwd()}/", ""), done.stdout.replace(f"{Path.cwd()}/", "")
                # A page that shows the result leaves out the progress, which a terminal replaces by it.
                assert any(matches(output, shown) for output in seen), (done.command, seen[0], shown)

    def run(self, command: str) -> Finished:
        """Run a command line with the ids that exist here in the place of those that the page shows."""
        command = self._with_own_ids(re.sub(r"\\\n\s*", "", command))
        words = shlex.split(command, comments=True)
        if words[0] == "cd" and "\n" not in command:
            os.chdir(words[1])
            return Finished(command, 0, "", "")
        if (
            self.in_process
            and "\n" not in command
            and words[0] == "bucketwheel"
            and not _NEEDS_SHELL.search(command.partition(" #")[0])
        ):
            done = self._call(words[1:])
        else:
            done = self._shell(command)
        self._run_ids += _FINISHED.findall(done.terminal)
        self._package = next(reversed(_PACKAGE.findall(done.stdout)), self._package)
        return done

    def _with_own_ids(self, command: str) -> str:
        def last_finished(shown: re.Match[str]) -> str:
            date = shown[1] if shown.lastindex else ""
            return next((run_id for run_id in reversed(self._run_ids) if run_id.startswith(date)), shown[0])

        command = re.sub(r"\bRUN_ID\b", last_finished, _RUN_ID.sub(last_finished, command))
        return _PACKAGE.sub(lambda shown: self._package or shown[0], command)

    def _call(self, words: list[str]) -> Finished:
        """Run the command line in this process."""
        terminal, stdout, code = io.StringIO(), _Tee(), 0
        stdout.terminal = terminal
        with redirect_stdout(stdout), redirect_stderr(terminal), mock.patch("sys.stdin", io.StringIO("y\n" * 9)):
            try:
                cli.main(words)
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Finished(f"bucketwheel {' '.join(words)}", code, stdout.getvalue(), terminal.getvalue())

    def _shell(self, command: str) -> Finished:
        # The reader may have a checkout, and plug-ins.
        code = [
            path for path in (Path("app").absolute(), ROOT / "app", Path("installed").absolute()) if path.exists()
        ]
        environment = {
            **os.environ,
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, code)),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            ["bash", "-ec", command],
            capture_output=True,
            text=True,
            env=environment,
            input="y\n" * 9,
            check=False,
            timeout=300,
        )
        return Finished(command, done.returncode, done.stdout, done.stderr + done.stdout)


class _Tee(io.StringIO):
    """Standard output, which the terminal shows too."""

    terminal: io.StringIO

    def write(self, text: str) -> int:
        self.terminal.write(text)
        return super().write(text)
