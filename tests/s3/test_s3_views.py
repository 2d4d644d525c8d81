"""Views of files on S3, created by a DuckDB without access to S3."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.catalogs.duckdb_s3 import viewable
from bucketwheel.catalogs.sql import parquet_view, reads_from
from bucketwheel.catalogs.table_files import table_files
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError
from bucketwheel.storage import Storage
from s3_support import Bucket

TABLE = pa.table(
    {
        "text": ["a"],
        "small": pa.array([1], pa.uint8()),
        "large": pa.array([1], pa.uint64()),
        "number": pa.array([Decimal("1.50")], pa.decimal128(9, 2)),
        "day": [date(2025, 1, 1)],
        "local": pa.array([datetime(2025, 1, 1)], pa.timestamp("us")),
        "moment": pa.array([datetime(2025, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        "raw": pa.array([b"x"], pa.binary()),
        "list": [[1, 2]],
        "struct": [{"a": 1, "b": "x"}],
        'odd "name"': [1.5],
    }
)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET autoinstall_known_extensions = false")
        opened.execute("SET autoload_known_extensions = false")
        yield opened


def columns(connection: duckdb.DuckDBPyConnection, view: str) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [view]
    ).fetchall()


def test_view_on_s3_has_same_columns_as_on_disk(
    connection: duckdb.DuckDBPyConnection, storage: Storage, bucket: Bucket, tmp_path: Path
) -> None:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, store_schema=False)
    bucket.put("t/it's/000000_0.snappy.parquet", sink.getvalue())
    (tmp_path / "x.parquet").write_bytes(sink.getvalue())
    remote = bucket.uri("t/it's")
    file = f"{remote}/000000_0.snappy.parquet"
    for name, files in (("remote", [file]), ("local", [str(tmp_path / "x.parquet")])):
        with viewable(connection, storage, files):
            connection.execute(parquet_view("main", name, files))
    assert columns(connection, "remote") == columns(connection, "local")
    assert [name for name, _ in columns(connection, "remote")] == TABLE.schema.names
    (text,) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'remote'").fetchall()[0]
    assert f"'{file.replace(chr(39), 2 * chr(39))}'" in text
    assert reads_from(text, remote)
    assert not reads_from(text, bucket.uri("t/it"))
    assert "parquet_scan" not in text
    # The replacement of table functions ends with the block.
    assert connection.execute("SELECT count(*) FROM local").fetchall() == [(1,)]


def test_table_files_fails_when_objects_are_missing(storage: Storage, bucket: Bucket) -> None:
    table = CatalogTable("t", bucket.uri("t"), (("a", "int"),), parameters={"numFiles": "2"})
    bucket.put("t/_SUCCESS")
    with pytest.raises(CatalogError, match=r"/t: contains 0 Parquet files, expected 2 files; publish another run"):
        table_files(storage, table)
    bucket.put("t/000000_0.snappy.parquet")
    with pytest.raises(CatalogError, match=r"/t: contains 1 Parquet file, expected 2 files; publish another run"):
        table_files(storage, table)
    bucket.put("t/000001_0.snappy.parquet")
    assert table_files(storage, table) == [bucket.uri(f"t/00000{number}_0.snappy.parquet") for number in (0, 1)]
