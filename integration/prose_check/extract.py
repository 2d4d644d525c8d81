"""Extract the text that people read from Markdown, YAML and Python files."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Code is replaced character by character, so that positions stay right.
_MASK = "·"
# A value in an f-string.
_VALUE = "¤"
_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?(?:^ *\2\s*?$|\Z)", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"(?<=\]\()[^)\s]+|https?://\S+|<[a-z/!][^>]*>", re.IGNORECASE)
# A string literal with fewer words is a key, a path or a name.
_MESSAGE_WORDS = 3


@dataclass(frozen=True)
class Segment:
    """A run of text and the number of its first line."""

    line: int
    text: str


def text_segments(path: Path) -> Iterator[Segment]:
    """Yield the prose of a file; `name_segments` yields the names in Python files."""
    source = path.read_text("utf-8")
    if path.suffix == ".md":
        yield Segment(1, _without_code(_FENCE.sub(_masked, source)))
    elif path.suffix == ".py":
        yield from _python_comments(source)
        yield from _python_strings(source)
    else:
        yield from _hash_comments(source)


def name_segments(path: Path) -> Iterator[Segment]:
    """Yield every identifier of a Python file once, with the line of its first use."""
    seen: set[str] = set()
    if path.suffix != ".py":
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type == tokenize.NAME and token.string not in seen:
            seen.add(token.string)
            yield Segment(token.start[0], token.string)


def _masked(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", _MASK, match[0])


def _without_code(text: str) -> str:
    return _LINK.sub(_masked, _CODE.sub(_masked, text))


def _python_comments(source: str) -> Iterator[Segment]:
    """Yield each block of comment lines as one segment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from _blocks((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)


def _hash_comments(source: str) -> Iterator[Segment]:
    """Yield the comments of YAML: whole lines, and text after ` #`."""
    numbered = ((number, re.search(r"(?:^|\s)(#.*)$", line)) for number, line in enumerate(source.splitlines(), 1))
    yield from _blocks((number, match[1]) for number, match in numbered if match)


def _blocks(comments: Iterator[tuple[int, str]]) -> Iterator[Segment]:
    first, lines = 0, list[str]()
    for number, comment in comments:
        if lines and number != first + len(lines):
            yield Segment(first, _without_code("\n".join(lines)))
            lines = []
        if not lines:
            first = number
        lines.append(comment.lstrip("#: "))
    if lines:
        yield Segment(first, _without_code("\n".join(lines)))


def _python_strings(source: str) -> Iterator[Segment]:
    """Yield docstrings and messages; each value of an f-string becomes one sign."""
    tree = ast.parse(source)
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            yield from _message(node.lineno, "".join(map(_part, node.values)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield from _message(node.lineno, node.value)


def _part(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else _VALUE


def _message(line: int, text: str) -> Iterator[Segment]:
    if len(text.split()) >= _MESSAGE_WORDS:
        yield Segment(line, _without_code(text))
