"""Check names that become part of paths, commands and messages."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator

# File systems allow 255 bytes, and names of metrics, tables and temporary files contain the name of a dataset.
MAX_NAME_BYTES = 200
# Tables are directories too, and nothing is added to their names there.
_MAX_TABLE_BYTES = 255
# Control characters, invisible marks of direction, lone surrogates, and separators of lines and paragraphs.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# The directory of run metadata, and the word of jobs for "all datasets".
RESERVED = ("_bucketwheel", "_NONE_")


def name_problem(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return the rule that a name breaks; empty if it breaks none."""
    if not name or name != name.strip():
        return "must not be empty, or begin or end with a space"
    if name in (".", ".."):
        return "must not be . or .., which name directories"
    if "/" in name or "\\" in name:
        return "must not contain / or \\, which separate directories"
    if any(unicodedata.category(character) in _HIDDEN for character in name):
        return "must not contain control characters or other invisible ones"
    if name.startswith("-"):
        return "must not begin with -, because commands would read it as an option"
    if name in RESERVED:
        return f"must not be {name}, which Bucketwheel uses itself"
    if len(name.encode()) > max_bytes:
        return f"must have at most {max_bytes} bytes in UTF-8"
    return ""


def _check(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    if problem := name_problem(name, max_bytes):
        raise ValueError(f"the name {problem}")
    return name


def _check_table(name: str) -> str:
    return _check(name, _MAX_TABLE_BYTES)


def _check_prefix(prefix: str) -> str:
    # A prefix may be empty, and ends before the name begins.
    return prefix and _check(f"{prefix}t")[:-1]


PlainName = Annotated[str, AfterValidator(_check)]
TableName = Annotated[str, AfterValidator(_check_table)]
NamePrefix = Annotated[str, AfterValidator(_check_prefix)]
