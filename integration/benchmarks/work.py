"""The work of every peer: source files, and the columns of each table.

This module imports only the standard library, so that no peer pays for imports of another.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

KEY = "Customer_User_id"
BUCKETS = 256


@dataclass(frozen=True)
class Work:
    """The source files in order, and the source columns of each table without the key."""

    files: tuple[str, ...]
    tables: dict[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """The key and all mapped columns."""
        return [KEY, *(column for columns in self.tables.values() for column in columns)]


def load(directory: Path) -> Work:
    """Read the mapping and list the files of the snapshot below a directory of sample data."""
    dataset = directory / "opus" / "infobase_attributes"
    tables: dict[str, list[str]] = {}
    with (dataset / "mapping.csv").open(newline="", encoding="utf-8") as text:
        for row in csv.DictReader(text):
            tables.setdefault(row["OMC_FLYWHEEL_TABLE"], []).append(row["OMC_FLYWHEEL_COLUMN"])
    files = sorted(str(path) for path in dataset.glob("raw_input/*/*.parquet"))
    return Work(tuple(files), {name: tuple(columns) for name, columns in tables.items()})


def from_arguments() -> tuple[Work, Path]:
    """Return the work and the directory to write to, from a peer's command line."""
    return load(Path(sys.argv[1])), Path(sys.argv[2])
