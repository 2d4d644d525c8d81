"""The SQL executor: has a SQL engine copy a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Final, Protocol

from bucketwheel.contracts.catalog import CatalogTable

# What is known of engines before they are asked: the most bucket files of one statement.
WRITERS: Final = {"athena": 100}


@dataclass(frozen=True)
class TableCopy:
    """A copy that a SQL engine is to make of the table `source`, in the same buckets.

    `name` is that of the new table; `location` a directory that does not exist yet, or None where the engine chooses.
    `hash` is a scheme of the executor's `hashes`.
    """

    source: CatalogTable
    name: str
    location: str | None
    hash: str


@dataclass(frozen=True)
class Statement:
    """A statement that was executed: its rows as texts, the bytes it scanned, and how long it took."""

    query_id: str
    rows: tuple[tuple[str | None, ...], ...]
    bytes_scanned: int
    seconds: float


class SqlExecutor(Protocol):
    """Copies tables of the catalog by statements of a SQL engine; every method may be called by several threads.

    Attributes:
        writers: the most bucket files that one statement writes, None where no limit is known.
        hashes: the bucket hashes it can write.
        timestamp_unit: the finest unit of time that copies keep: `ms`, `us` or `ns`.
        sorts: whether it sorts the rows of a bucket file.
        chooses_location: whether it puts tables where it wants; known after `check`.
        catalogs: kinds of catalog whose tables it copies, None for every shared catalog.
    """

    writers: int | None
    hashes: tuple[str, ...]
    timestamp_unit: str
    sorts: bool
    chooses_location: bool
    catalogs: tuple[str, ...] | None

    def check(self) -> None:
        """Refuse what would make statements fail, as far as that can be seen beforehand; changes nothing.

        Raises:
            ConfigError: a setting does not fit.
            ExecutorError: the engine cannot be reached, or refuses.
        """
        ...

    def copy(self, copy: TableCopy, stop: Event) -> Statement:
        """Create the table with the rows of the source; ends early where `stop` is set.

        On failure the statement has been cancelled, and what it is known to have written is deleted.

        Raises:
            ExecutorError: by cause, see `errors.py`.
        """
        ...

    def keys(self, table: str, columns: Sequence[str], stop: Event) -> Statement:
        """Return one row: the number of rows, and for each column a checksum that does not depend on their order."""
        ...

    def drop(self, table: str, stop: Event) -> None:
        """Remove the definition of a copy, never its files."""
        ...
