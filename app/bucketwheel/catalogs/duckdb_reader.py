"""Open the tables of a catalog for reading, in a DuckDB of this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb

from bucketwheel.catalogs.sql import literal, parquet_view, quoted
from bucketwheel.catalogs.table_files import table_files
from bucketwheel.contracts import Catalog, CatalogTable
from bucketwheel.errors import CatalogError
from bucketwheel.optional import aws_module
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, is_s3
from bucketwheel.system import system

_NAME = "bucketwheel_catalog"


def connect(settings: Settings, catalog: Callable[[], Catalog]) -> duckdb.DuckDBPyConnection:
    """Return a connection whose default schema has the published tables; it cannot change the catalog.

    It shows the tables of this moment: connect again to see those of a later run. For files on S3 and for other
    catalogs than DuckDB's, it has a view per table. Arrow reads files on S3 for DuckDB, with the credentials of this
    moment, so DuckDB needs no S3 extension and no credentials of its own.

    Raises:
        CatalogError: nothing was published yet, or DuckDB cannot read the tables.
        StorageError: files cannot be read.
    """
    path, database = settings.catalog.path, settings.catalog.database
    connection = duckdb.connect()
    try:
        if settings.catalog.kind == "duckdb" and path is not None and not is_s3(settings.target):
            _attach(connection, Path(os.path.realpath(path)), database)
        else:
            _create_views(connection, catalog(), database, Storage.of(settings))
    except duckdb.Error as error:
        connection.close()
        raise CatalogError(f"the tables of {database!r} cannot be read with DuckDB: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, database: str) -> None:
    if not path.exists():
        raise CatalogError(f"{path}: no such catalog; it is created when a run publishes: bucketwheel run")
    # DuckDB would return a file that this process has open already, even a version that a run has replaced since.
    alias = path.with_name(f".{system().new_id()}.{path.name}.read")
    with suppress(OSError):
        os.link(path, alias)
    try:
        place = alias if alias.exists() else path
        connection.execute(f"ATTACH {literal(str(place))} AS {_NAME} (READ_ONLY)")
    finally:
        alias.unlink(missing_ok=True)
    connection.execute(f"USE {_NAME}.{quoted(database)}")


def _create_views(connection: duckdb.DuckDBPyConnection, catalog: Catalog, database: str, storage: Storage) -> None:
    tables = [table for table in catalog.tables() if table.run_id is not None]
    if not tables:
        raise CatalogError(f"{database}: no table is published; run first: bucketwheel run")
    connection.execute(f"CREATE SCHEMA {quoted(database)}")
    for table in tables:
        if is_s3(table.location):
            _create_remote_view(connection, database, table, storage)
        else:
            connection.execute(parquet_view(database, table.name, table_files(storage, table)))
    connection.execute(f"USE memory.{quoted(database)}")


def _create_remote_view(
    connection: duckdb.DuckDBPyConnection, database: str, table: CatalogTable, storage: Storage
) -> None:
    locations = table_files(storage, table)
    dataset = aws_module("bucketwheel.storage.arrow_dataset", "s3://").parquet_dataset(storage, locations)
    files = f"files of {table.name}"
    connection.register(files, dataset)
    view = f"{quoted(database)}.{quoted(table.name)}"
    connection.execute(f"CREATE VIEW {view} AS SELECT * FROM temp.main.{quoted(files)}")  # noqa: S608 quoted
