"""The embedded catalog: one DuckDB file with a view per table.

The published file is never opened for writing. A change is made in a copy that then replaces the file, so a
reader sees the catalog before or after the change, in any process, and is never locked out. Writers take
turns on a lock file beside it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, ConcurrentPublishError, ConfigError
from bucketwheel.settings import Settings
from bucketwheel.sql import drop_view, parquet_view, quoted
from bucketwheel.storage import translated

_BOOKS = "_bucketwheel_tables"


class DuckdbCatalog:
    """Tables of one schema in one DuckDB file."""

    def __init__(self, settings: Settings) -> None:
        if settings.catalog.path is None:
            raise ConfigError("catalog.path is empty; the duckdb catalog needs a file, such as ./out/catalog.duckdb")
        self._path = Path(settings.catalog.path).absolute()
        self._schema = settings.catalog.database

    def get(self, name: str) -> CatalogTable | None:
        """See `contracts.Catalog.get`."""
        return next((table for table in self.tables() if table.name == name), None)

    def tables(self) -> Sequence[CatalogTable]:
        """See `contracts.Catalog.tables`."""
        if not self._path.exists():
            return []
        with self._connected(self._path, read_only=True) as connection:
            return self._read(connection)

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        """See `contracts.Catalog.put`."""
        with self._changed() as connection:
            found = {known.name: known for known in self._read(connection)}.get(table.name)
            _check_same(table.name, found, replacing)
            version = str(int(found.version or 0) + 1 if found else 1)
            connection.execute(parquet_view(self._schema, table.name, table.location))
            connection.execute(
                f"INSERT OR REPLACE INTO {self._books()} VALUES (?, ?)",  # noqa: S608 the name is quoted
                [table.name, json.dumps(_document(table, version))],
            )
        return _table(_document(table, version))

    def remove(self, table: CatalogTable) -> None:
        """See `contracts.Catalog.remove`."""
        with self._changed() as connection:
            found = {known.name: known for known in self._read(connection)}.get(table.name)
            _check_same(table.name, found, table)
            connection.execute(drop_view(self._schema, table.name))
            connection.execute(f"DELETE FROM {self._books()} WHERE name = ?", [table.name])  # noqa: S608

    def _books(self) -> str:
        return f"{quoted(self._schema)}.{quoted(_BOOKS)}"

    def _read(self, connection: duckdb.DuckDBPyConnection) -> list[CatalogTable]:
        views = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_name <> ? "
            "ORDER BY table_name",
            [self._schema, _BOOKS],
        ).fetchall()
        known = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
            [self._schema, _BOOKS],
        ).fetchall()
        rows = connection.execute(f"SELECT name, definition FROM {self._books()}").fetchall() if known[0][0] else []  # noqa: S608
        ours = {name: _table(json.loads(definition)) for name, definition in rows}
        return [ours.get(name) or CatalogTable(name=name, location="", columns=()) for (name,) in views]

    @contextmanager
    def _changed(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to a copy that replaces the catalog when the block ends well."""
        aside = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        with translated(str(self._path), "write"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._refuse_open_writers()
                try:
                    if self._path.exists():
                        shutil.copyfile(self._path, aside)
                    with self._connected(aside, read_only=False) as connection:
                        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._schema)}")
                        connection.execute(
                            f"CREATE TABLE IF NOT EXISTS {self._books()} (name VARCHAR PRIMARY KEY, definition JSON)"
                        )
                        yield connection
                    _flush(aside)
                    aside.replace(self._path)
                finally:
                    for left in (aside, aside.with_name(f"{aside.name}.wal")):
                        left.unlink(missing_ok=True)

    def _refuse_open_writers(self) -> None:
        # Changes that another connection has not checkpointed would be lost with the file.
        if self._path.with_name(f"{self._path.name}.wal").exists():
            raise CatalogError(
                f"{self._path}: another program has the catalog open for writing (there is a .wal file beside it); "
                "close it there, or open it with read_only=True"
            )

    @contextmanager
    def _connected(self, path: Path, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with duckdb.connect(str(path), read_only=read_only) as connection:
                yield connection
        except duckdb.Error as error:
            raise CatalogError(f"{self._path}: {error}") from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _check_same(name: str, found: CatalogTable | None, expected: CatalogTable | None) -> None:
    if (found and (found.version, found.location)) != (expected and (expected.version, expected.location)):
        raise ConcurrentPublishError(
            f"{name}: the catalog has {_place(found)}, expected {_place(expected)}; somebody else published it. "
            "Look at `bucketwheel runs`, then run again"
        )


def _place(table: CatalogTable | None) -> str:
    return f"version {table.version} at {table.location!r}" if table else "no such table"


def _document(table: CatalogTable, version: str) -> dict[str, Any]:
    return {
        "name": table.name,
        "location": table.location,
        "columns": [list(column) for column in table.columns],
        "bucket_columns": list(table.bucket_columns),
        "bucket_count": table.bucket_count,
        "sorted": table.sorted,
        "parameters": dict(table.parameters),
        "version": version,
    }


def _table(document: dict[str, Any]) -> CatalogTable:
    return CatalogTable(
        **{
            **document,
            "columns": tuple((name, kind) for name, kind in document["columns"]),
            "bucket_columns": tuple(document["bucket_columns"]),
        }
    )
