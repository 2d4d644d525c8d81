"""Verification of names, sizes and schemas of files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.runs.manifest import FileRecord
from corrupted import BUCKET, NAME, TABLES, Written, source, written


@pytest.fixture
def good(tmp_path: Path) -> Written:
    return written(tmp_path, source())


@pytest.mark.parametrize("table", TABLES)
def test_verify_names_missing_file(good: Written, table: str) -> None:
    good.path(table).unlink()
    assert f"{good.path(table)}: bucket {BUCKET}: cannot be read back" in good.refused()


@pytest.mark.parametrize("table", TABLES)
def test_verify_names_table_without_files(good: Written, table: str) -> None:
    files = tuple(record for record in good.outcome.files if record.table != table)
    good.outcome = good.outcome.model_copy(update={"files": files})
    message = good.refused()
    assert f"{good.path(table).parent}, bucket {BUCKET}: 0 rows in the files (none)" in message


def test_verify_names_file_listed_twice(good: Written) -> None:
    files = (*good.outcome.files, good.outcome.files[0])
    good.outcome = good.outcome.model_copy(update={"files": files})
    assert f"the files are {NAME}, {NAME}; expected" in good.refused()


def test_verify_names_copy_that_replaces_another(tmp_path: Path) -> None:
    good = written(tmp_path, source(), max_file_bytes=2500, row_group_rows=9)
    first, second, *rest = good.outcome.files
    assert first.rows == second.rows
    good.outcome = good.outcome.model_copy(update={"files": (first, first, *rest)})
    assert "the files are" in good.refused()


def test_verify_names_file_of_unknown_table(good: Written) -> None:
    stranger = FileRecord(table="stranger", name=NAME, rows=1, bytes=1)
    good.outcome = good.outcome.model_copy(update={"files": (*good.outcome.files, stranger)})
    assert f"{NAME}, bucket {BUCKET}: its table 'stranger' is not a table of the run" in good.refused()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["000003_0.snappy.parquet", "part-00002.parquet", "000002_1.snappy.parquet"])
def test_verify_rejects_wrong_file_name(good: Written, table: str, name: str) -> None:
    good.path(table).rename(good.path(table, name))
    good.record(table, name=name)
    assert name in good.refused()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kept", [0, 3, 0.5, -1])
def test_verify_names_truncated_file(good: Written, table: str, kept: float) -> None:
    content = good.path(table).read_bytes()
    size = int(len(content) * kept) if isinstance(kept, float) else kept % len(content)
    good.path(table).write_bytes(content[:size])
    good.record(table, bytes=size)
    assert f"{good.path(table)}: bucket {BUCKET}: not a Parquet file" in good.refused()


def test_verify_rejects_other_file_size(good: Written) -> None:
    size = good.path("second").stat().st_size
    good.record("second", bytes=size + 1)
    assert f"{good.path('second')}: bucket {BUCKET}: size {size}, expected {size + 1}" in good.refused()


@pytest.mark.parametrize("table", TABLES)
def test_verify_detects_unplanned_columns(good: Written, table: str) -> None:
    names = good.read(table).column_names
    good.rewrite(table, lambda content: content.rename_columns([*names[:-1], "other"]))
    assert f"columns {[*names[:-1], 'other']}, expected {names}" in good.refused()


RETYPED = {
    "another logical type": (pa.int32(), pa.date32(), "INT32, logical type None", "INT32, logical type Date"),
    "another physical type": (pa.int32(), pa.int64(), "INT32, logical type None", "INT64, logical type None"),
    "other digits": (pa.decimal128(9, 2), pa.decimal128(9, 3), "precision=9, scale=2", "precision=9, scale=3"),
    "bytes for text": (pa.string(), pa.binary(), "BYTE_ARRAY, logical type String", "BYTE_ARRAY, logical type None"),
    "another unit": (pa.timestamp("ms"), pa.timestamp("us"), "timeUnit=milliseconds", "timeUnit=microseconds"),
    "a nested one": (pa.list_(pa.int32()), pa.list_(pa.int64()), "INT32, logical type None", "INT64, logical"),
}


@pytest.mark.parametrize("case", RETYPED)
def test_verify_detects_unplanned_types(tmp_path: Path, case: str) -> None:
    planned, other, *texts = RETYPED[case]
    content = source().set_column(2, "Two", pa.nulls(400, planned))
    good = written(tmp_path, content)
    assert good.verify().rows == good.outcome.rows
    good.rewrite("first", lambda actual: actual.set_column(2, "two", pa.nulls(len(actual), other)))
    message = good.refused()
    assert f"{good.path('first')}: bucket {BUCKET}: column 'two" in message
    actual, expected = message.split(", expected column 'two")
    assert texts[0] in expected
    assert texts[1] in actual


def test_verify_detects_changed_nested_fields(tmp_path: Path) -> None:
    small, large = pa.struct([("x", pa.int8())]), pa.struct([("x", pa.int8()), ("y", pa.int8())])
    for number, (planned, other) in enumerate([(small, large), (large, small)]):
        good = written(tmp_path / str(number), source().set_column(2, "Two", pa.nulls(400, planned)))
        good.rewrite("first", lambda actual, other=other: actual.set_column(2, "two", pa.nulls(len(actual), other)))  # type: ignore[misc]
        assert "nothing" in good.refused()
        assert "column 'two.y' of type INT32" in good.refused()


def test_verify_ignores_field_ids(good: Written) -> None:
    def number(content: pa.Table) -> pa.Table:
        fields = [field.with_metadata({"PARQUET:field_id": str(n)}) for n, field in enumerate(content.schema, 7)]
        return content.cast(pa.schema(fields))

    good.rewrite("first", number)
    assert pq.read_schema(good.path("first")).field(0).metadata == {b"PARQUET:field_id": b"7"}
    assert good.verify().rows == good.outcome.rows
