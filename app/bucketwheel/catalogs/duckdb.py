"""The embedded catalog: one DuckDB file with a view per table.

Bucketwheel never opens the published file for writing. It changes a copy, which then replaces the file. Readers in
any process therefore see the catalog before or after the change and are never locked out. A lock file beside it
admits one writer at a time.

A table that Bucketwheel adopts stays in the file under another name, and gets its own name back if publishing is
undone.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from bucketwheel import host
from bucketwheel.catalogs.duckdb_file import is_damaged, keep_owner_and_mode
from bucketwheel.catalogs.duckdb_s3 import viewable
from bucketwheel.catalogs.local_file import check_writable
from bucketwheel.catalogs.sql import drop_view, literal, parquet_view, quoted, reads_from
from bucketwheel.catalogs.table_files import table_files
from bucketwheel.contracts import CatalogTable, TableChange
from bucketwheel.contracts.catalog import check_same_version
from bucketwheel.errors import CatalogError, ConfigError, DamagedCatalogError, StorageError
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, is_s3, wrap_os_errors
from bucketwheel.storage.local import flush
from bucketwheel.storage.lock import file_lock
from bucketwheel.system import system

# By lower-case name, each table and the name of the adopted table that it replaced, or None.
_Known = dict[str, tuple[CatalogTable, str | None]]
_BOOKS = "_bucketwheel_tables"
_KEPT = "_before_bucketwheel"
# DuckDB's message in the place of a KeyboardInterrupt.
_INTERRUPTED = "interrupted"
# DuckDB's message if another process, or this one, has the file open.
_BUSY = ("Conflicting lock", "different configuration", "already attached")


class DuckdbCatalog:
    """Tables of one schema in one DuckDB file."""

    # Views take the types of columns from the files.
    typed = False
    longest_name: int | None = None
    longest_type: int | None = None
    shared = False

    def __init__(self, settings: Settings) -> None:
        path = settings.catalog.path
        if path is None or is_s3(path):
            given = path or "empty"
            raise ConfigError(
                f"catalog.path is {given}; this catalog needs a local file such as ./out/catalog.duckdb"
            )
        # Replace the file behind a symbolic link, not the link: other programs may use the file's own path.
        self._path = Path(os.path.realpath(path))
        self._schema = settings.catalog.database
        self._storage = Storage.of(settings)
        self._shared_target = is_s3(settings.target)
        # Starting DuckDB takes much longer than attaching a file to it.
        self._duckdb: duckdb.DuckDBPyConnection | None = None

    def address(self) -> Mapping[str, str]:
        """See `contracts.AddressedCatalog.address`."""
        # Other machines may have another file of this name. A container has a random name, and its file is a mount.
        other_machines = self._shared_target and host.detect(os.environ) != "container"
        return {"path": str(self._path), "host": platform.node() if other_machines else ""}

    def check(self) -> None:
        """See `contracts.Catalog.check`."""
        check_writable(self._path, "catalog.path", "catalog.duckdb")
        self.tables()

    def get(self, name: str) -> CatalogTable | None:
        """See `contracts.Catalog.get`."""
        return next((table for table in self.tables() if table.name.lower() == name.lower()), None)

    def tables(self) -> Sequence[CatalogTable]:
        """See `contracts.Catalog.tables`."""
        if not self._path.exists():
            return []
        with self._locked():
            self._refuse_open_writers()
            # If this process has the path open, DuckDB reuses that database, even if the file was replaced since.
            alias = self._beside("read")
            with suppress(OSError):
                os.link(self._path, alias)
            try:
                path = alias if alias.exists() else self._path
                with self._connected(path, read_only=True) as connection:
                    return [table for table, _ in self._read(connection).values()]
            finally:
                # This one, and those of killed readers; if that fails, the next command tries again.
                with suppress(StorageError):
                    self._sweep()

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        """See `contracts.Catalog.put`."""
        with self._changed() as connection:
            return self._put(connection, table, replacing, self._read(connection))

    def remove(self, table: CatalogTable) -> None:
        """See `contracts.Catalog.remove`."""
        self.put_all([TableChange(None, table)])

    def put_all(self, changes: Sequence[TableChange]) -> Sequence[CatalogTable | None]:
        """See `contracts.AtomicCatalog.put_all`."""
        with self._changed() as connection:
            # Reading all tables for each change would take long for many tables.
            known = self._read(connection)
            return [self._make(connection, change, known) for change in changes]

    def set_aside(self) -> str:
        """See `contracts.RepairableCatalog.set_aside`."""
        with self._locked():
            try:
                if self._path.exists():
                    with self._connected(self._path, read_only=True) as connection:
                        self._read(connection)
            except DamagedCatalogError:
                aside = self._path.with_name(f"{self._path.name}.damaged-{system().new_id()[:8]}")
                with wrap_os_errors(str(self._path), "move aside"):
                    self._path.rename(aside)
                return str(aside)
        return ""

    def _make(self, connection: duckdb.DuckDBPyConnection, change: TableChange, known: _Known) -> CatalogTable | None:
        """Make a change; keep `known`, the tables of the catalog, up to date."""
        if change.table is not None:
            return self._put(connection, change.table, change.replacing, known)
        current, _ = known.pop(change.name.lower(), (None, None))
        check_same_version(change.name, current, change.replacing)
        self._drop(connection, change.name)
        return None

    def _put(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: CatalogTable,
        replacing: CatalogTable | None,
        known: _Known,
    ) -> CatalogTable:
        current, kept = known.get(table.name.lower(), (None, None))
        check_same_version(table.name, current, replacing)
        if current and table.run_id is None:
            restored = self._restored(connection, table, current, kept)
            self._renew(connection, known)
            return restored
        if current and current.run_id is None:
            kept = self._set_aside(connection, current.name)
        new = _document(table, str(int(current.version or 0) + 1 if current else 1), kept)
        files = table_files(self._storage, table)
        with viewable(connection, self._storage, files):
            connection.execute(parquet_view(self._schema, table.name, files))
        insert = f"INSERT OR REPLACE INTO {self._records()} VALUES (?, ?)"  # noqa: S608 the name is quoted
        connection.execute(insert, [table.name, json.dumps(new)])
        if current and current.run_id is None:
            self._renew(connection, known)
        known[table.name.lower()] = _table(new), kept
        return _table(new)

    def _renew(self, connection: duckdb.DuckDBPyConnection, known: _Known) -> None:
        """Read the tables of the catalog again after one was renamed."""
        known.clear()
        known.update(self._read(connection))

    def _drop(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        connection.execute(drop_view(self._schema, name))
        connection.execute(f"DELETE FROM {self._records()} WHERE name = ?", [name])  # noqa: S608 the name is quoted

    def _set_aside(self, connection: duckdb.DuckDBPyConnection, name: str) -> str:
        """Rename a table that Bucketwheel did not create, and return its new name."""
        taken = self._read(connection)
        names = [f"{name}{_KEPT}", *(f"{name}{_KEPT}_{number}" for number in range(2, len(taken) + 3))]
        kept = next(free for free in names if free.lower() not in taken)
        self._rename(connection, name, kept)
        return kept

    def _restored(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: CatalogTable,
        current: CatalogTable,
        kept: str | None,
    ) -> CatalogTable:
        if kept is None:
            raise CatalogError(
                f"{table.name}: cannot restore it: {self._path} no longer has the table or view that it replaced"
            )
        self._drop(connection, current.name)
        self._rename(connection, kept, table.name)
        return table

    def _rename(self, connection: duckdb.DuckDBPyConnection, name: str, to: str) -> None:
        kind, _ = self._relations(connection)[name]
        connection.execute(f"ALTER {kind} {quoted(self._schema)}.{quoted(name)} RENAME TO {quoted(to)}")

    def _records(self) -> str:
        return f"{quoted(self._schema)}.{quoted(_BOOKS)}"

    def _relations(self, connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, str]]:
        """Return (TABLE or VIEW, its CREATE statement) of every relation of the schema, by name."""
        rows = connection.execute(
            "SELECT table_name, 'TABLE', '' FROM duckdb_tables() "
            "WHERE database_name = current_database() AND lower(schema_name) = lower($1) "
            "UNION ALL SELECT view_name, 'VIEW', sql FROM duckdb_views() "
            "WHERE database_name = current_database() AND lower(schema_name) = lower($1) AND NOT internal ORDER BY 1",
            [self._schema],
        ).fetchall()
        return {name: (kind, text) for name, kind, text in rows}

    def _read(self, connection: duckdb.DuckDBPyConnection) -> _Known:
        """Return by lower-case name each table and the name of the adopted table that it replaced, or None."""
        relations = self._relations(connection)
        documents: dict[str, Mapping[str, Any]] = {}
        if _BOOKS in relations:
            rows = connection.execute(f"SELECT name, definition FROM {self._records()}").fetchall()  # noqa: S608
            documents = {name: json.loads(definition) for name, definition in rows}
        tables: _Known = {}
        for name, (_, text) in relations.items():
            document = documents.get(name)
            # Another program may have replaced our view by its own.
            if document and reads_from(text, document["location"]):
                tables[name.lower()] = _table(document), document.get("kept")
            elif name != _BOOKS:
                tables[name.lower()] = CatalogTable(name=name, location="", columns=()), None
        return tables

    @contextmanager
    def _changed(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to a copy of the catalog that replaces it if the block succeeds."""
        with self._locked():
            self._refuse_open_writers()
            self._sweep()
            aside = self._beside("new")
            try:
                with self._copied(aside):
                    with self._connected(aside, read_only=False) as connection:
                        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._schema)}")
                        connection.execute(
                            f"CREATE TABLE IF NOT EXISTS {self._records()} "
                            "(name VARCHAR PRIMARY KEY, definition JSON)"
                        )
                        yield connection
                    with wrap_os_errors(str(self._path), "write"):
                        flush(aside)
                        aside.replace(self._path)
                        # An error here is one of the update, which the caller then undoes.
                        flush(self._path.parent)
            finally:
                self._sweep()

    @contextmanager
    def _copied(self, aside: Path) -> Iterator[None]:
        """Copy the catalog, and keep other programs from opening it for writing while the block runs."""
        if not self._path.exists():
            yield
            return
        with self._connected(self._path, read_only=True), self._path.open("rb") as published:
            with wrap_os_errors(str(self._path), "copy"), aside.open("wb") as copy:
                keep_owner_and_mode(self._path, aside)
                # Closing the source here would release DuckDB's lock on it in this process.
                shutil.copyfileobj(published, copy)
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other writers; errors of the operating system in the block name the catalog."""
        lock = file_lock(
            self._path.with_name(f".{self._path.name}.lock"),
            lambda: CatalogError(
                f"{self._path}: timed out waiting for another process to update the catalog; wait for it to "
                "finish, or stop it"
            ),
        )
        with lock, wrap_os_errors(str(self._path), "use"):
            yield

    def _beside(self, suffix: str) -> Path:
        # DuckDB names a database after its file, up to the first dot; the name must differ from that of the schema.
        return self._path.with_name(f".{system().new_id()}.{self._path.name}.{suffix}")

    def _sweep(self) -> None:
        """Delete files left by killed writers and readers; running ones wait for the lock."""
        with wrap_os_errors(str(self._path), "clean up beside"):
            for entry in self._path.parent.iterdir():
                name = entry.name.removesuffix(".wal")
                if name.startswith(".") and name.endswith((f".{self._path.name}.new", f".{self._path.name}.read")):
                    entry.unlink(missing_ok=True)

    def _refuse_open_writers(self) -> None:
        # Replacing the file would lose changes that another connection has not checkpointed.
        if self._path.with_name(f"{self._path.name}.wal").exists():
            raise CatalogError(
                f"{self._path}: another program has the catalog open for writing, or crashed while writing (a .wal "
                "file is left): close it in that program, or open and close it once with DuckDB. Programs that only "
                "read should open it with read_only=True"
            )

    @contextmanager
    def _connected(self, path: Path, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Attach a file and use it as the default database while the block runs."""
        mode = "READ_ONLY" if read_only else "READ_WRITE"
        name = quoted(system().new_id())
        try:
            connection = self._duckdb = self._duckdb or duckdb.connect()
            connection.execute(f"ATTACH {literal(str(path))} AS {name} ({mode})")
            connection.execute(f"USE {name}")
            yield connection
            connection.execute("USE memory")
            connection.execute(f"DETACH {name}")
        except BaseException as error:
            self._disconnect()
            if isinstance(error, RuntimeError) and _INTERRUPTED in str(error):
                raise KeyboardInterrupt from error
            if not isinstance(error, duckdb.Error):
                raise
            if is_damaged(error):
                raise DamagedCatalogError(
                    f"{self._path}: the catalog file is damaged: {error}; rebuild it from the manifests of the runs "
                    "with: bucketwheel catalog rebuild"
                ) from error
            busy = any(sign in str(error) for sign in _BUSY)
            hint = (
                "; another program has it open for writing: close it there, or open it with read_only=True"
                if busy
                else ""
            )
            raise CatalogError(f"{self._path}: {error}{hint}") from error

    def _disconnect(self) -> None:
        """Close the connection, because an error may have left files attached."""
        if self._duckdb is not None:
            self._duckdb.close()
            self._duckdb = None


def _document(table: CatalogTable, version: str, kept: str | None) -> dict[str, Any]:
    return {
        "name": table.name,
        "location": table.location,
        "columns": [list(column) for column in table.columns],
        "bucket_columns": list(table.bucket_columns),
        "bucket_count": table.bucket_count,
        "sorted": table.sorted,
        "parameters": dict(table.parameters),
        "version": version,
        "kept": kept,
    }


def _table(document: Mapping[str, Any]) -> CatalogTable:
    return CatalogTable(
        name=document["name"],
        location=document["location"],
        columns=tuple((name, kind) for name, kind in document["columns"]),
        bucket_columns=tuple(document["bucket_columns"]),
        bucket_count=document["bucket_count"],
        sorted=document["sorted"],
        parameters=document["parameters"],
        version=document["version"],
    )
