"""Patterns of snapshot directories, such as ``dt=YYYYMMDD`` or ``year=YYYY/month=MM/day=DD``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

# The source holds the files of one snapshot.
FLAT = "none"
DEFAULT = "snapshot_dt"

_TOKENS = {"YYYY": r"(?P<year>\d{4})", "MM": r"(?P<month>\d{2})", "DD": r"(?P<day>\d{2})"}
_TOKEN = re.compile("|".join(_TOKENS))
# Spark writes month=1 if the column is a number.
_ALONE = {"MM": r"(?P<month>\d{1,2})", "DD": r"(?P<day>\d{1,2})"}
_EXAMPLES = "snapshot_dt=YYYY-MM-DD, dt=YYYYMMDD, year=YYYY/month=MM/day=DD, or none for a source without directories"
# A directory that is a date: text before it, year, month and day.
_DATED = re.compile(
    r"(?P<before>|.*\D)(?:19|20)\d\d(?:(?P<first>[-_.]?)(?:0[1-9]|1[0-2])(?:(?P<second>[-_.]?)(?:[0-2]\d|3[01]))?)?"
)
_NUMBERED = re.compile(r"(?P<before>|.*\D)\d{1,2}")


@dataclass(frozen=True)
class Partition:
    """The directories of a snapshot below its source, outermost first.

    Attributes:
        text: The whole pattern, such as ``snapshot_dt=YYYY-MM-DD``; ``none`` for a source that is a snapshot itself.
        segments: A regular expression for the name of each directory.
    """

    text: str
    segments: tuple[re.Pattern[str], ...]

    @classmethod
    def parse(cls, pattern: str) -> Partition:
        """Return the partition of a setting; a name alone, such as ``dt``, means ``dt=YYYY-MM-DD``.

        Raises:
            ValueError: the pattern has no year, a date part twice, or a directory that is never listed.
        """
        text = pattern.strip().strip("/")
        if text == FLAT:
            return cls(FLAT, ())
        names = [_upper(part) for part in text.split("/")]
        if len(names) == 1 and "=" not in text and not _tokens(names):
            names = [f"{text}=YYYY-MM-DD"] if text else [""]
        tokens = _tokens(names)
        repeated = len(set(tokens)) < len(tokens)
        hidden = any(not name or name.startswith((".", "_")) for name in names)
        if "YYYY" not in tokens or repeated or hidden or ("DD" in tokens and "MM" not in tokens):
            raise ValueError(f"expected the directory of a snapshot, such as {_EXAMPLES}")
        return cls("/".join(names), tuple(re.compile(_expression(name)) for name in names))

    def date_of(self, names: Sequence[str]) -> str | None:
        """Return the date (YYYY-MM-DD) of a directory; None if its path does not match.

        A missing month or day counts as 1.
        """
        parts = {"month": "1", "day": "1"}
        for segment, name in zip(self.segments, names, strict=True):
            match = segment.fullmatch(name)
            if match is None:
                return None
            parts |= match.groupdict()
        try:
            return date(int(parts["year"]), int(parts["month"]), int(parts["day"])).isoformat()
        except ValueError:
            return None


def check_partition(pattern: str) -> str:
    """Return the pattern if it is one; see `Partition.parse`."""
    Partition.parse(pattern)
    return pattern


def dated_pattern(name: str) -> str | None:
    """Return the pattern of a directory whose name ends in a date, or in a year; None for others."""
    match = _DATED.fullmatch(name)
    if match is None or name.startswith((".", "_")) or _tokens([match["before"]]):
        return None
    rest = "" if match["first"] is None else f"{match['first']}MM"
    rest += "" if match["second"] is None else f"{match['second']}DD"
    return f"{match['before']}YYYY{rest}"


def numbered_pattern(name: str, token: str) -> str | None:
    """Return the pattern of a directory whose name ends in a month or day, `token`; None for others."""
    match = _NUMBERED.fullmatch(name)
    return f"{match['before']}{token}" if match else None


def _value(name: str) -> str:
    """Return the part of a directory name that has the date."""
    return name.partition("=")[2] if "=" in name else name


def _upper(name: str) -> str:
    """Write the date of a directory name in upper case if it is all in lower case: ``dt=yyyymmdd``."""
    value = _value(name)
    if re.fullmatch(r"(yyyy|mm|dd|[^a-zA-Z])+", value):
        return name[: len(name) - len(value)] + value.upper()
    return name


def _tokens(names: Sequence[str]) -> list[str]:
    return [token for name in names for token in _TOKEN.findall(_value(name))]


def _expression(name: str) -> str:
    value = _value(name)
    before = re.escape(name[: len(name) - len(value)])
    if value in _ALONE:
        return before + _ALONE[value]
    parts = re.split(f"({_TOKEN.pattern})", value)
    return before + "".join(_TOKENS.get(part, re.escape(part)) for part in parts)
