"""Fit results to the width of the terminal and color them.

On a pipe or in a file, a line stays one line, and text is plain unless `--color always` is given.
Everything that a command prints goes through `echo`, which escapes control characters and masks credentials: names
can hold anything.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterable, Sequence
from types import TracebackType

import click

from bucketwheel import formatting
from bucketwheel.safe_text import one_line, several_lines, without_credentials

Color = bool | None

_STYLES = {
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "doubtful": {"fg": "yellow"},
    "active": {"fg": "cyan"},
    "heading": {"bold": True},
}
# Mark painted text until `echo` prints it. Unicode reserves these noncharacters for use within a program, and
# `safe_text` escapes them in names, so that no name can forge a style.
_MARKS = {role: chr(0xFDD0 + number) for number, role in enumerate(_STYLES)}
_ROLES = {mark: role for role, mark in _MARKS.items()}
_END = "\ufddf"
_PAINTED = re.compile(f"([{''.join(_ROLES)}])([^\ufdd0-\ufdef]*){_END}")
# Words that begin a line of a result or an error.
_PREFIXES = {
    "error:": "bad",
    "failed:": "bad",
    "breaking:": "bad",
    "run will refuse:": "bad",
    "warning:": "doubtful",
    "interrupted": "doubtful",
}
# First words of the cells of a status column.
_STATES = {
    "finished": "good",
    "ok": "good",
    "failed": "bad",
    "running": "active",
    "interrupted": "doubtful",
    "warning": "doubtful",
    "retired": "doubtful",
}
_STATE_COLUMNS = ("status", "state", "differs")
# A command at the end of an error or of a summary; it must stay whole for the shell.
_COMMAND = re.compile(r"(?P<before>.*?: |query +)(?P<command>(?:bucketwheel|duckdb|\S*python[\d.]*) .*)")
# A word of a shell command with its quotes.
_WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
# The space between a number and its unit, and between a name and its number, as in `people (3 columns)`.
_NUMBER = re.compile(
    r"(?<=\d) (?=(?:[kMGT]?B|%|s|min|h|rows?|files?|tables?|columns?|slices?|buckets?)\b)|(?<=\w) (?=\(\d+ \w+\))"
)
_INDENT = "  "


def chosen_color(choice: str, environ: dict[str, str] | os._Environ[str] = os.environ) -> Color:
    """Return whether to color output; None leaves it to each stream: a terminal gets colors.

    `--color` wins over NO_COLOR, which wins over FORCE_COLOR.
    """
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return True if environ.get("FORCE_COLOR") else None


def width_of(stream: object = None) -> int | None:
    """Return the number of columns of a stream, by default stdout; None if it is not a terminal."""
    isatty = getattr(stream or sys.stdout, "isatty", None)
    return shutil.get_terminal_size().columns if isatty is not None and isatty() else None


def paint(text: str, role: str) -> str:
    """Return the text, marked for `echo` to print it in the color of a role if stdout takes colors."""
    context = click.get_current_context(silent=True)
    color = context.color if context is not None else chosen_color("auto")
    colored = width_of() is not None if color is None else color
    return f"{_MARKS[role]}{one_line(text)}{_END}" if colored else one_line(text)


def plain(text: str) -> str:
    """Return the text without the marks of `paint`."""
    return _PAINTED.sub(r"\2", text)


def _styled(text: str) -> str:
    return _PAINTED.sub(lambda found: click.style(found[2], **_STYLES[_ROLES[found[1]]]), text)  # type: ignore[arg-type]


def _escaped(text: str) -> str:
    """Return the text with control characters escaped, but not the marks of `paint`."""
    parts, end = [], 0
    for found in _PAINTED.finditer(text):
        parts += [several_lines(text[end : found.start()]), found[1], several_lines(found[2]), _END]
        end = found.end()
    return "".join([*parts, several_lines(text[end:])])


def fitted(text: str, width: int | None) -> str:
    """Return the text with long lines wrapped between words; long commands get backslash continuations."""
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _wrapped(line, width))


def highlighted(line: str) -> str:
    """Return a line with a styled prefix, such as a yellow `warning:`; the stream strips styles if it must."""
    for prefix, role in _PREFIXES.items():
        if line.startswith(prefix):
            return click.style(prefix, **_STYLES[role]) + line.removeprefix(prefix)  # type: ignore[arg-type]
    return line


def echo(text: object, err: bool = False, color: Color = None, nl: bool = True) -> None:
    """Print a text with wrapped lines and styled prefixes, with control characters escaped and credentials masked.

    Args:
        text: the text.
        err: whether to print it to stderr.
        color: whether to color it; None leaves it to the stream.
        nl: whether to end the last line.
    """
    lines = fitted(_escaped(without_credentials(text)), width_of(sys.stderr if err else sys.stdout)).split("\n")
    click.echo("\n".join(_styled(highlighted(line)) for line in lines), err=err, color=color, nl=nl)


def echo_whole(text: object, err: bool = False, nl: bool = True) -> None:
    """Print a text that must not be wrapped, such as JSON or YAML, and escape and mask as `echo` does."""
    click.echo(several_lines(without_credentials(text)), err=err, nl=nl)


def mask_tracebacks() -> None:
    """Let the traceback of a bug show no control characters and no credentials."""

    def show(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        echo_whole("".join(traceback.format_exception(error)), err=True, nl=False)

    sys.excepthook = show


def table(header: Sequence[str], rows: Iterable[Sequence[object]], optional: Sequence[str] = ()) -> str:
    """Return a table that fits the terminal.

    Args:
        header: names of the columns.
        rows: the cells.
        optional: columns to leave out if the table is too wide, in this order. If it is too wide without them, each
            row becomes a block of lines.
    """
    width = width_of()
    given = [[one_line(cell) for cell in row] for row in rows]
    names, cells = list(header), [list(row) for row in given]
    for name in optional:
        if _fits(names, cells, width):
            break
        if name in names:
            place = names.index(name)
            names.pop(place)
            for row in cells:
                row.pop(place)
    if not _fits(names, cells, width):
        return _blocks(header, given, width or 0)
    lines = formatting.table(names, cells).splitlines()
    return "\n".join([paint(lines[0], "heading"), *lines[1:2], *_painted(names, cells, lines[2:])])


def _fits(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> bool:
    if width is None:
        return True
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return sum(widths) + 2 * (len(widths) - 1) <= width


def _painted(header: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[str]) -> list[str]:
    """Return the lines of a table with the cells of its status columns in color."""
    painted = list(lines)
    for name in _STATE_COLUMNS:
        place = header.index(name) if name in header else None
        for number, row in enumerate(rows if place is not None else ()):
            cell = row[place or 0]
            role = _STATES.get(cell.partition(" ")[0])
            if cell and role:
                painted[number] = painted[number].replace(f" {cell}", f" {paint(cell, role)}", 1)
    return painted


def _blocks(header: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> str:
    """Return each row as a block: its first cell, then one labeled line per further cell."""
    label = max(map(len, header[1:]), default=0) + 2
    blocks = []
    for row in rows:
        first, *others = row
        lines = [paint(first, "heading")]
        for name, cell in zip(header[1:], others, strict=True):
            role = _STATES.get(cell.partition(" ")[0]) if name in _STATE_COLUMNS else None
            shown = [paint(part, role) if role else part for part in wrapped(cell, width - label - 2)]
            lines.append(f"{_INDENT}{name:<{label}}{shown[0]}".rstrip())
            lines += [" " * (label + 2) + part for part in shown[1:]]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _wrapped(line: str, width: int) -> list[str]:
    shown = plain(line)
    if len(shown) <= width or shown != line or set(line) <= {"-", " "}:
        return [line]
    if command := _COMMAND.fullmatch(line):
        return [*wrapped(command["before"].rstrip(), width, _INDENT), *command_lines(command["command"], width)]
    return wrapped(line, width, " " * (len(line) - len(line.lstrip()) + 2))


def wrapped(line: str, width: int | None, indent: str = "") -> list[str]:
    """Return a line wrapped between words, but not between a number and its unit; later lines are indented."""
    if width is None:
        return [line]
    joined = _NUMBER.sub("\N{NO-BREAK SPACE}", line)
    parts = textwrap.wrap(
        joined, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [part.replace("\N{NO-BREAK SPACE}", " ") for part in parts] or [line]


def command_lines(command: str, width: int | None) -> list[str]:
    """Return a command as lines that a shell reads as one; it breaks between options if it is too long."""
    if width is None or len(command) + len(_INDENT) <= width:
        return [_INDENT + command]
    lines, current = [], ""
    for word in _options(command):
        if current and len(_INDENT) * 2 + len(current) + len(word) + 3 > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    lines.append(current)
    folded = (_folded(line, width - len(_INDENT) * 2) for line in lines)
    return (_INDENT + f" \\\n{_INDENT * 2}".join(folded)).splitlines()


def _folded(line: str, width: int) -> str:
    """Return the line, with line breaks in its Python code if it is too long."""
    if len(line) <= width or '"import ' not in line:
        return line
    folded = line.replace("; ", "\n").replace(").sql(", ")\n.sql(")
    return folded if max(map(len, folded.splitlines())) <= width else folded.replace(".sql(", ".sql(\n")


def _options(command: str) -> list[str]:
    """Split a command between words, but not between an option and its value."""
    parts: list[str] = []
    for word in _WORD.findall(command):
        if parts and parts[-1].startswith("-") and " " not in parts[-1] and not word.startswith("-"):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts
