"""Create views of files on S3 without DuckDB's S3 extension, which would have to be downloaded.

DuckDB reads the files when it creates a view. Here it reads an empty local file with the same columns instead. The
text of the view names the files on S3; reading them needs the extension and credentials.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from bucketwheel.catalogs.sql import literal
from bucketwheel.storage import Storage, is_s3, wrap_os_errors

if TYPE_CHECKING:
    import duckdb


@contextmanager
def viewable(connection: duckdb.DuckDBPyConnection, storage: Storage, files: Sequence[str]) -> Iterator[None]:
    """Make `sql.parquet_view` of these files executable while the block runs, also for files on S3.

    Raises:
        StorageError: the first file, which has the columns of all, cannot be read.
    """
    if not is_s3(files[0]):
        yield
        return
    with wrap_os_errors(files[0], "read"), storage.open(files[0]) as stream:
        schema = pq.read_schema(stream)
    with tempfile.TemporaryDirectory(prefix="bucketwheel-") as directory:
        empty = Path(directory) / "empty.parquet"
        with wrap_os_errors(str(empty), "write"):
            pq.write_table(schema.empty_table(), empty, store_schema=False)
        # A temporary macro hides DuckDB's read_parquet; parquet_scan is the same function by its other name.
        scan = f"SELECT * FROM parquet_scan({literal(str(empty))})"  # noqa: S608 the path is a literal
        connection.execute(f"CREATE TEMP MACRO read_parquet(files, hive_partitioning := false) AS TABLE {scan}")
        try:
            yield
        finally:
            connection.execute("DROP MACRO TABLE read_parquet")
