"""Interface of SQL executors, which copy tables with a SQL engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Final, Protocol

from bucketwheel.contracts.catalog import CatalogTable

# Maximum number of bucket files of one statement, for engines with a known limit.
WRITERS: Final = {"athena": 100}


@dataclass(frozen=True)
class TableCopy:
    """A request to copy the table `source` with a SQL engine, in the same buckets.

    `name` is the new table; `location` a directory that does not exist yet, or None if the engine chooses it.
    `hash` is a scheme of the executor's `hashes`.
    """

    source: CatalogTable
    name: str
    location: str | None
    hash: str


@dataclass(frozen=True)
class Statement:
    """An executed statement: its rows as text, the bytes scanned, and the duration in seconds."""

    query_id: str
    rows: tuple[tuple[str | None, ...], ...]
    bytes_scanned: int
    seconds: float


class SqlExecutor(Protocol):
    """Copies tables of the catalog by statements of a SQL engine; every method may be called by several threads.

    Attributes:
        writers: maximum number of bucket files of one statement, None if no limit is known.
        hashes: bucket hashes that it can write.
        timestamp_unit: the finest unit of time that copies keep: `ms`, `us` or `ns`.
        sorts: whether it sorts the rows of a bucket file.
        chooses_location: whether the engine chooses the location of tables; known after `check`.
        catalogs: kinds of catalog whose tables it copies, None for every shared catalog.
    """

    writers: int | None
    hashes: tuple[str, ...]
    timestamp_unit: str
    sorts: bool
    chooses_location: bool
    catalogs: tuple[str, ...] | None

    def check(self) -> None:
        """Check whether statements can work, without changing anything.

        Raises:
            ConfigError: a setting does not fit.
            ExecutorError: the engine cannot be reached, or denies access.
        """
        ...

    def copy(self, copy: TableCopy, stop: Event) -> Statement:
        """Create the table with the rows of the source; end early if `stop` is set.

        On failure, cancel the statement and delete the files that it is known to have written.

        Raises:
            ExecutorError: a subclass for each cause, see `errors.py`.
        """
        ...

    def keys(self, table: str, columns: Sequence[str], stop: Event) -> Statement:
        """Return one row: the number of rows, and for each column a checksum that does not depend on their order."""
        ...

    def drop(self, table: str, stop: Event) -> None:
        """Remove the definition of a copy, never its files."""
        ...
