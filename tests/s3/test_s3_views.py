"""Views of files on S3, made by a DuckDB that cannot read S3."""

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
from bucketwheel.errors import CatalogError
from bucketwheel.sql import parquet_view
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
    with duckdb.connect() as made:
        made.execute("SET autoinstall_known_extensions = false")
        made.execute("SET autoload_known_extensions = false")
        yield made


def columns(connection: duckdb.DuckDBPyConnection, view: str) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [view]
    ).fetchall()


def test_a_view_of_files_on_s3_has_the_columns_of_one_on_disk(
    connection: duckdb.DuckDBPyConnection, storage: Storage, bucket: Bucket, tmp_path: Path
) -> None:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, store_schema=False)
    bucket.put("t/it's/000000_0.snappy.parquet", sink.getvalue())
    (tmp_path / "x.parquet").write_bytes(sink.getvalue())
    far = bucket.uri("t/it's")
    for name, location in (("far", far), ("near", str(tmp_path))):
        with viewable(connection, storage, location):
            connection.execute(parquet_view("main", name, location))
    assert columns(connection, "far") == columns(connection, "near")
    assert [name for name, _ in columns(connection, "far")] == TABLE.schema.names
    (text,) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'far'").fetchall()[0]
    assert f"read_parquet('{far.replace(chr(39), 2 * chr(39))}/*.parquet'" in text
    assert "parquet_scan" not in text
    # Nothing of the detour is left: names mean what they meant.
    assert connection.execute("SELECT count(*) FROM near").fetchall() == [(1,)]


def test_a_place_without_files_cannot_be_shown(
    connection: duckdb.DuckDBPyConnection, storage: Storage, bucket: Bucket
) -> None:
    bucket.put("t/_SUCCESS")
    with (
        pytest.raises(CatalogError, match=r"/t: holds no Parquet file to show"),
        viewable(connection, storage, bucket.uri("t")),
    ):
        pass
