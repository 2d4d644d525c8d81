"""Files that other writers produce: read together whatever their codec and encoding, or refused with the cause."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.errors import DataRefusedError, UnreadableFilesError
from compact_thrift import BINARY, I32, change_footer, chunks

ROWS = 30
ENCODINGS = {
    "id": "DELTA_BYTE_ARRAY",
    "number": "DELTA_BINARY_PACKED",
    "share": "BYTE_STREAM_SPLIT",
    "text": "DELTA_LENGTH_BYTE_ARRAY",
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    directory = tmp_path / "in" / "snapshot_dt=2026-01-31"
    directory.mkdir(parents=True)
    return directory


def configuration(snapshot: Path) -> api.Configuration:
    root = snapshot.parents[1]
    settings = {"target": str(root / "out"), "catalog.path": str(root / "c.duckdb"), "buckets.count": 2}
    return api.load("local", None, {**settings, "datasets.x": {"source": str(snapshot.parent), "key": "id"}}, {})


def table(file: int) -> pa.Table:
    numbers = range(file * ROWS, (file + 1) * ROWS)
    return pa.table(
        {
            "id": [f"P{number:04d}" for number in numbers],
            "number": pa.array(numbers, pa.int64()),
            "share": pa.array([number / 3 for number in numbers], pa.float32()),
            "text": [None if number % 7 == 0 else f"text {number % 5}" for number in numbers],
        }
    )


def in_groups(path: Path, content: pa.Table, *bounds: int) -> None:
    """Write a file with a row group between each two bounds."""
    with pq.ParquetWriter(path, content.schema) as writer:
        for start, end in pairwise(bounds):
            writer.write_table(content.slice(start, end - start))


def by_duckdb(path: Path, content: pa.Table) -> None:
    with duckdb.connect() as connection:
        connection.register("content", content)
        connection.execute(f"COPY content TO '{path}' (FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd)")


def by_unknown_writer(path: Path, content: pa.Table) -> None:
    pq.write_table(content, path)
    change_footer(path, lambda metadata: metadata.set(6, BINARY, b"parquet-cobol version 99 (build ?)"))


def required(path: Path, content: pa.Table) -> None:
    fields = [field.with_nullable(field.name == "text") for field in content.schema]
    pq.write_table(content.cast(pa.schema(fields)), path)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "brotli": lambda path, content: pq.write_table(content, path, compression="brotli"),
    "gzip": lambda path, content: pq.write_table(content, path, compression="gzip"),
    "lz4": lambda path, content: pq.write_table(content, path, compression="lz4"),
    "none": lambda path, content: pq.write_table(content, path, compression="none", version="1.0"),
    "encodings": lambda path, content: pq.write_table(
        content, path, data_page_version="2.0", use_dictionary=False, column_encoding=ENCODINGS
    ),
    "empty group first": lambda path, content: in_groups(path, content, 0, 0, 10, ROWS),
    "empty groups inside": lambda path, content: in_groups(path, content, 0, 10, 10, 10, ROWS),
    "empty group last": lambda path, content: in_groups(path, content, 0, ROWS, ROWS),
    "empty groups only": lambda path, content: in_groups(path, content, 0, 0, 0),
    "indexes": lambda path, content: pq.write_table(content, path, write_page_index=True, row_group_size=7),
    "required": required,
    "duckdb": by_duckdb,
    "unknown": by_unknown_writer,
}


def test_files_of_all_codecs_and_encodings_are_read_together(snapshot: Path) -> None:
    for number, (name, write) in enumerate(WRITERS.items()):
        write(snapshot / f"{number:02d} {name}.parquet", table(number))
    api.run(configuration(snapshot), "x")
    with duckdb.connect(str(snapshot.parents[1] / "c.duckdb"), read_only=True) as connection:
        rows = connection.execute("FROM bucketwheel.bucketed_x ORDER BY id").fetchall()
    kept = [table(number) for number, name in enumerate(WRITERS) if name != "empty groups only"]
    assert rows == [tuple(row.values()) for row in pa.concat_tables(kept).to_pylist()]


def test_codec_that_cannot_be_read_is_named(snapshot: Path) -> None:
    pq.write_table(table(0), snapshot / "a.parquet")

    def to_lzo(metadata: Any) -> None:
        for chunk in chunks(metadata):
            chunk.set(4, I32, 3)

    change_footer(snapshot / "a.parquet", to_lzo)
    with pytest.raises(
        UnreadableFilesError, match=r"a\.parquet: row group 0, column 'id' cannot be read: .*LZO.*; write"
    ):
        api.run(configuration(snapshot), "x")


def replaced(name: str, values: pa.Array) -> pa.Table:
    content = table(1)
    return content.set_column(content.schema.get_field_index(name), name, values)


def decimals(scale: int) -> pa.Array:
    return pa.array([Decimal("1.5")] * ROWS, pa.decimal128(10, scale))


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (table(0), table(1).drop_columns(["id"]), "b.parquet: column 'id' is missing"),
        (table(0), replaced("id", pa.array(range(ROWS))), "b.parquet: column 'id' has type int64, in "),
        (table(0), table(1).drop_columns(["text"]), "b.parquet: column 'text' is missing"),
        (replaced("text", decimals(2)), replaced("text", decimals(3)), "has type decimal128(10, 3), in "),
        (replaced("text", pa.array([["x"]] * ROWS)), replaced("text", pa.array([[]] * ROWS)), "element: null>, in "),
        (replaced("text", pa.nulls(ROWS)), None, "because all its values were missing when it was written"),
        (table(0).rename_columns(["id", "日本", "b", "c"]), None, "'日本' needs a letter or digit in its name (a"),
        (table(0).rename_columns(["id", "a b", "a_b", "c"]), None, "'a b' and 'a_b' would both be called 'a_b'"),
    ],
    ids=["key missing", "key type", "column missing", "scale", "list of null", "null", "letters", "names"],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused_when_planning(
    snapshot: Path, first: pa.Table, second: pa.Table | None, problem: str
) -> None:
    pq.write_table(first, snapshot / "a.parquet")
    if second is not None:
        pq.write_table(second, snapshot / "b.parquet")
    with pytest.raises(DataRefusedError) as refused:
        api.plan(configuration(snapshot), "x")
    assert problem in str(refused.value)
