"""The vulnerabilities that accepted.yaml accepts for a time, each with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from .advisories import AuditError, Finding


@dataclass(frozen=True)
class Accepted:
    """Vulnerabilities accepted until a day: those with an id, or all of a lock that nothing ships."""

    locks: tuple[str, ...]
    ids: tuple[str, ...]
    reason: str
    until: date

    def covers(self, finding: Finding) -> bool:
        """Return whether this entry accepts a finding."""
        return finding.lock in self.locks and (not self.ids or bool({finding.id, *finding.aliases} & {*self.ids}))


def read(path: Path, shipped: Sequence[str]) -> list[Accepted]:
    """Return the entries of a file.

    Raises:
        AuditError: an entry lacks a reason, a day or locks, or accepts everything in a lock of shipped packages.
    """
    return [_entry(entry, shipped) for entry in yaml.safe_load(path.read_text("utf-8"))]


def _entry(entry: dict[str, Any], shipped: Sequence[str]) -> Accepted:
    locks, ids = tuple(entry.get("locks", ())), tuple(entry.get("ids", ()))
    reason, until = entry.get("reason"), entry.get("until")
    if not (locks and reason and isinstance(until, date)):
        raise AuditError(f"accepted.yaml: an entry needs locks, reason and until (YYYY-MM-DD): {entry}")
    if not ids and {*locks} & {*shipped}:
        raise AuditError(f"accepted.yaml: name the ids that are accepted in {', '.join(shipped)}: {entry}")
    return Accepted(locks, ids, " ".join(reason.split()), until)
