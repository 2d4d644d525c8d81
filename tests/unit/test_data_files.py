"""Records of data files, and the Iceberg definitions made of them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import StorageError
from bucketwheel.runs.data_files import SCHEMA, decode, encode, pack, unpack
from bucketwheel.runs.manifest import FileRecord


def row(table: str, name: str, bucket: int, **changes: Any) -> dict[str, Any]:
    values = {
        **{"table": table, "name": name, "bucket": bucket, "rows": 3, "bytes": 100 + bucket, "splits": [4]},
        **{"ids": [1, 2], "sizes": [60, 40], "values": [3, 3], "nulls": [0, None]},
        **{"lower": [b"a", None], "upper": [b"b", None]},
    }
    return values | changes


ROWS = [row("b", "x", 1), row("a", "y", 1), row("b", "w", 0), row("a", "z", 2)]


def records(table: str) -> list[FileRecord]:
    return [
        FileRecord(table=table, name=entry["name"], rows=entry["rows"], bytes=entry["bytes"])
        for entry in ROWS
        if entry["table"] == table
    ]


def test_records_come_back_in_the_order_of_the_manifest() -> None:
    content = encode(unpack([pack(ROWS[:2]), pack([]), pack(ROWS[2:])]))
    assert decode(content, "p", "b", records("b")).to_pylist() == [ROWS[0], ROWS[2]]
    assert decode(content, "p", "a", records("a")[::-1]).to_pylist() == [ROWS[3], ROWS[1]]
    assert decode(content, "p", "none", []).num_rows == 0


def test_records_have_the_same_bytes_in_any_order_of_buckets() -> None:
    assert encode(unpack([pack(ROWS)])) == encode(unpack([pack(ROWS[2:]), pack(ROWS[:2])]))
    assert encode(unpack([])) == encode(SCHEMA.empty_table())


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ([*records("b"), FileRecord(table="b", name="v", rows=1, bytes=1)], "does not match v of table b"),
        (records("b")[:1], "it has 2 files of table b, and the manifest has 1"),
        ([record.model_copy(update={"bytes": 7}) for record in records("b")], "does not match x of table b"),
        ([record.model_copy(update={"rows": 7}) for record in records("b")], "does not match x of table b"),
    ],
)
def test_records_of_other_files_are_refused(expected: list[FileRecord], said: str) -> None:
    with pytest.raises(StorageError, match=f"p: the records of the Iceberg data files are damaged: .*{said}"):
        decode(encode(unpack([pack(ROWS)])), "p", "b", expected)


def test_damaged_records_are_refused() -> None:
    content = encode(unpack([pack(ROWS)]))
    other = io.BytesIO()
    pq.write_table(pa.table({"table": ["b"], "name": ["x"]}), other)
    for damaged in (b"", content[: len(content) // 2], b"PAR1" + content[4:-20] + b"\0" * 20, other.getvalue()):
        with pytest.raises(StorageError, match="damaged"):
            decode(damaged, "p", "b", records("b"))
