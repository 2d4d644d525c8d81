"""Make text of unknown origin safe to print: escape invisible characters and mask credentials.

Names of columns, tables and files, and messages of other programs, can hold anything: terminal escapes, line breaks
that forge a line of output, marks that reverse the reading direction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

# Replaces a credential.
MASK = "**********"

# Control characters, marks of direction, zero-width characters, separators of lines, surrogates, noncharacters.
_INVISIBLE = (
    "\\x00-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\u3164\\ud800-\\udfff\\ufdd0-\\ufdef\\ufeff\\uffa0\\ufff9-\\ufffb\\U000e0000-\\U000e0fff"
)
_ON_ONE_LINE = re.compile(f"[{_INVISIBLE}]")
_ON_SEVERAL_LINES = re.compile(f"(?!\\n)[{_INVISIBLE}]")

# Names of settings, variables and parameters whose value is a credential; not `tokenizer` or `max_tokens_per_row`.
_WORDS = r"password|passwd|passphrase|secret|credential|(?:api|access|account|private|shared|signing)_?key"
SECRET_NAMES = re.compile(rf"(?i:{_WORDS})|(?i:(?:^|[_\-.])token)(?![a-z])|[a-z]Token(?![a-z])")

_PARAMETERS = rf"(?:[\w-]*(?:{_WORDS})[\w-]*|(?:[\w-]*_)?token|X-(?:Amz|Goog)-[A-Z-]+|Signature|sig)"
# Never a quote or a backslash, so that JSON stays valid.
_CREDENTIALS = tuple(
    re.compile(rf"(?P<before>{before}){credential}", re.IGNORECASE)
    for before, credential in (
        # user:password@ and token@ in a URL.
        (r"\b[a-z][a-z0-9+.-]*://(?:[^\s/'\"\\@:]*:)?", r"[^\s/'\"\\]+(?=@)"),
        # Parameters of a signed URL, and assignments; not the ellipsis that stands for a value already.
        (rf"\b{_PARAMETERS}=", r"(?!\u2026)[^\s&'\"\\#,;)]+"),
        # JSON and Python.
        (rf"(\\?['\"])[\w-]*(?:{_WORDS})[\w-]*\2\s*:\s*\\?['\"]", r"[^'\"\\]+"),
        # CREATE SECRET of DuckDB.
        (r"\b(?:KEY_ID|SECRET|SESSION_TOKEN)\s+'", r"[^'\"\\]+"),
        (r"(?-i:\b(?:AKIA|ASIA))", r"(?-i:[A-Z0-9]{16})\b"),
        (r"(?-i:\bgh[pousr]_)", r"[A-Za-z0-9]{36}"),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----", r"(?:[\w+/=\s]|\\[nr])+"),
    )
)
# A shorter value of a variable could be part of any word.
_SHORTEST = 8
_PATHS = re.compile(r"_(?:FILE|PATH|URI|URL|ARN|NAME)$")


def without_credentials(text: object, environ: Mapping[str, str] = os.environ) -> str:
    """Return the text with credentials masked.

    These are passwords and tokens in URLs, parameters of signed URLs, assignments to names such as `password`, access
    keys, and the values of environment variables with such a name.
    """
    shown = str(text)
    for pattern in _CREDENTIALS:
        shown = pattern.sub(lambda found: f"{found['before']}{MASK}", shown)
    for name, value in environ.items():
        if len(value) >= _SHORTEST and value in shown and SECRET_NAMES.search(name) and not _PATHS.search(name):
            shown = shown.replace(value, MASK)
    return shown


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
