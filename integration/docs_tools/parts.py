"""Find the generated parts of pages, and replace them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_PART = re.compile(r"(<!-- begin ([\w -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_ROW = re.compile(r"^\| \[?`([^`]+)`")
_BETWEEN = re.compile(r"(?<!\\)\|")
# What Markdown would take for emphasis or HTML, or would look odd without its font.
_LITERAL = re.compile(r"_NONE_|<\w+>[\w.-]*|(?<![\w-])--[a-zA-Z][\w-]*|\b[\w/-]+\.yaml\b|\{\"[^}]*\}")
_HEADING = re.compile(r"^#+ (.*)$")

# Given the rows that a part has now, by section and first cell, a maker returns its new text.
Words = Mapping[tuple[str, str], str]
Maker = Callable[[Words], str]


def words_in(text: str) -> dict[tuple[str, str], str]:
    """Return the last cell of every row by its heading (empty: none) and first cell."""
    cells: dict[tuple[str, str], str] = {}
    heading = ""
    for line in text.splitlines():
        if match := _HEADING.match(line):
            heading = match[1].strip("`")
        elif match := _ROW.match(line):
            cells[heading, match[1]] = _BETWEEN.split(line.rstrip())[-2].strip()
    return cells


def renewed(page: str, makers: Mapping[str, Maker]) -> str:
    """Return a page with its parts regenerated."""

    def make(cells: re.Match[str]) -> str:
        return f"{cells[1]}{makers[cells[2]](words_in(cells[3])).rstrip()}\n{cells[4]}"

    return _PART.sub(make, page)


def part_names(page: str) -> list[str]:
    """Return the names of the parts of a page."""
    return [name for _, name, _, _ in _PART.findall(page)]


def pages(root: Path) -> Iterator[Path]:
    """Return every page of the documentation."""
    yield from sorted((root / "docs").rglob("*.md"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with escaped cells."""
    lines = [list(header), ["---"] * len(header), *rows]
    texts = [[cell if cell == "---" else _cell(cell) for cell in row] for row in lines]
    return "\n".join(["|".join(["", *(_padded(cell) for cell in row), ""]) for row in texts])


def _cell(text: str) -> str:
    # Every second piece stands between backticks.
    pieces = " ".join(text.split()).replace("\\|", "|").replace("|", "\\|").split("`")
    return "`".join(
        _LITERAL.sub(r"`\g<0>`", piece) if number % 2 == 0 else piece for number, piece in enumerate(pieces)
    )


def _padded(cell: str) -> str:
    return cell if cell == "---" else f" {cell} " if cell else " "
