"""Make text of unknown origin safe to print: escape invisible characters and hide credentials.

Names of columns, tables and files, and messages of other programs, can hold anything: terminal escapes, line breaks
that forge a line of output, marks that reverse the reading direction.
"""

from __future__ import annotations

import re

# Control characters, marks of direction, zero-width characters, separators of lines, surrogates, noncharacters.
_INVISIBLE = (
    "\\x00-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\u3164\\ud800-\\udfff\\ufdd0-\\ufdef\\ufeff\\uffa0\\ufff9-\\ufffb\\U000e0000-\\U000e0fff"
)
_ON_ONE_LINE = re.compile(f"[{_INVISIBLE}]")
_ON_SEVERAL_LINES = re.compile(f"(?!\\n)[{_INVISIBLE}]")


def one_line(text: object) -> str:
    """Return the text on one line, with invisible characters as escapes such as `\\x1b` or `\\n`."""
    return _escaped(_ON_ONE_LINE, str(text))


def several_lines(text: object) -> str:
    """Return the text as `one_line` does, but keep its line breaks."""
    return _escaped(_ON_SEVERAL_LINES, str(text))


def _escaped(pattern: re.Pattern[str], text: str) -> str:
    # Printable text, which is nearly all, needs no search.
    return text if text.isascii() and text.isprintable() else pattern.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    # Python reads a byte of a file name that is not UTF-8 as one of these surrogates.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode("ascii")
