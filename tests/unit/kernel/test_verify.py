from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.errors import VerificationError
from bucketwheel.kernel.checksum import key_checksum
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.testing.jobs import KEY, MemoryBlocks, make_job, numbered, run_kernel, write_files
from corrupted import BUCKET, NAME, TABLES, Written, source, written


@pytest.fixture
def good(tmp_path: Path) -> Written:
    return written(tmp_path, source())


@pytest.mark.parametrize("scheme", ["hive_v1", "hive_v2", "spark"])
@pytest.mark.parametrize("sort", [True, False])
def test_verify_accepts_output_of_gather(tmp_path: Path, scheme: str, sort: bool) -> None:
    good = written(tmp_path, source(), hash=scheme, sort=sort)
    check = good.verify()
    assert (check.bucket, check.rows) == (BUCKET, good.outcome.rows)
    assert check.key_checksum == good.outcome.key_checksum
    assert check.table_bytes == {record.table: record.bytes for record in good.outcome.files}


def test_verify_accepts_composite_keys_with_nulls(tmp_path: Path) -> None:
    keys = {"Id": pa.array([None, "a", "b", "a"] * 30), "Day": pa.array([3, None, 1, 2, None] * 24, pa.date32())}
    table = pa.table({**keys, "One": pa.array(range(120)), "Two": numbered(120), "Three": numbered(120)})
    files = write_files(tmp_path / "source", [table])
    job = make_job(tmp_path, files, TABLES, keys=["Id", "Day"], bucket_count=3)
    outcomes = run_kernel(job)
    assert sum(verify_bucket(job, outcome).rows for outcome in outcomes if outcome.rows) == 120


def test_verify_accepts_files_split_differently_per_table(tmp_path: Path) -> None:
    good = written(tmp_path, source(), max_file_bytes=2500, row_group_rows=9)
    names = {table: [r.name for r in good.outcome.files if r.table == table] for table in TABLES}
    assert len(names["first"]) != len(names["second"])
    assert good.verify().rows == good.outcome.rows


def stray_key(job: BucketJob) -> str:
    keys = numbered(1000, 10_000)
    buckets = key_buckets([keys], job.hash, job.bucket_count)
    return str(keys[int(np.flatnonzero(buckets != BUCKET)[0])])


def with_key(table: pa.Table, row: int, key: str | None) -> pa.Table:
    keys = table.column(0).to_pylist()
    keys[row] = key
    return table.set_column(0, table.schema.field(0), pa.array(keys, pa.string()))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("sort", [True, False])
def test_verify_detects_misplaced_row_at_any_position(tmp_path: Path, table: str, sort: bool) -> None:
    good = written(tmp_path, source(60), sort=sort)
    stray, clean = stray_key(good.job), good.read(table)
    assert good.outcome.rows
    for row in range(good.outcome.rows):
        good.rewrite(table, lambda _, row=row: with_key(clean, row, stray))  # type: ignore[misc]
        message = good.refused()
        assert str(good.path(table)) in message
        assert f"row {row} belongs to bucket" in message
        # A key identifies a person.
        assert stray not in message.replace(str(good.path(table)), "")
        assert "(1 such row)" in message


@pytest.mark.parametrize("table", TABLES)
def test_verify_detects_misplaced_null_key(good: Written, table: str) -> None:
    good.rewrite(table, lambda content: with_key(content, 0, None))
    assert "row 0 belongs to bucket 0 by its key" in good.refused()


def test_verify_detects_hash_of_unsigned_bytes(tmp_path: Path) -> None:
    keys = [f"José {number}" for number in range(200)]
    count = 10

    def unsigned(key: str) -> int:
        value = 0
        for byte in key.encode():
            value = (31 * value + byte) % 2**32
        return (value & 0x7FFFFFFF) % count

    theirs = sorted(key for key in keys if unsigned(key) == BUCKET)
    table = pa.table({KEY: keys, **{name: pa.array([0] * 200) for name in ("One", "Two", "Three")}})
    good = written(tmp_path, table, bucket_count=count)
    values = pa.array([0] * len(theirs))
    good.rewrite("first", lambda _: pa.table({"customer_user_id": theirs, "one": values, "two": values}))
    good.rewrite("second", lambda _: pa.table({"customer_user_id": theirs, "three": values}))
    columns = [pa.array(theirs)]
    facts = {"rows": len(theirs), "key_checksum": key_checksum(columns)}
    good.outcome = good.outcome.model_copy(update=facts)
    assert "belongs to bucket" in good.refused()


@pytest.mark.parametrize("table", TABLES)
def test_verify_detects_flipped_bits_in_key_page(good: Written, table: str) -> None:
    clean = good.path(table).read_bytes()
    chunk = pq.read_metadata(good.path(table)).row_group(0).column(0)
    positions = range(chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size)
    undetected = 0
    for position in list(positions)[::5]:
        content = bytearray(clean)
        content[position] ^= 0x10
        good.path(table).write_bytes(content)
        try:
            good.verify()
        except VerificationError as error:
            assert str(good.path(table)) in str(error)  # noqa: PT017
        else:
            undetected += 1
            assert keys_of(good.path(table)) == keys_of_bytes(clean)
    # What the page's header says of statistics and the like may change without harm to any key.
    assert undetected < len(positions) // 5 // 4


def keys_of(path: Path) -> list[str]:
    return list(pq.ParquetFile(path).read(columns=["customer_user_id"]).column(0).to_pylist())


def keys_of_bytes(content: bytes) -> list[str]:
    return list(pq.ParquetFile(pa.BufferReader(content)).read(columns=["customer_user_id"]).column(0).to_pylist())


@pytest.mark.parametrize("table", TABLES)
def test_verify_detects_rows_out_of_order(good: Written, table: str) -> None:
    rows = good.outcome.rows
    swapped = [*range(5), 6, 5, *range(7, rows)]
    good.rewrite(table, lambda content: content.take(pa.array(swapped)))
    message = good.refused()
    assert f"{good.path(table)}: bucket {BUCKET}: row 6 is out of key order" in message


def test_verify_accepts_any_order_in_unsorted_files(tmp_path: Path) -> None:
    good = written(tmp_path, source(), sort=False)
    keys = good.read("first").column(0).to_pylist()
    assert keys != sorted(keys)
    assert good.verify().rows == len(keys)


def test_verify_detects_null_keys_after_others(tmp_path: Path) -> None:
    keys = pa.array([0, None, 4, 8, None], pa.int32())
    table = pa.table({KEY: keys, **{name: pa.array(range(5)) for name in ("One", "Two", "Three")}})
    job = make_job(tmp_path, write_files(tmp_path / "source", [table]), TABLES)
    good = Written(job, run_kernel(job)[0])
    name = "000000_0.snappy.parquet"
    assert pq.read_table(good.path("first", name))["customer_user_id"].to_pylist() == [None, None, 0, 4, 8]
    content = pq.ParquetFile(good.path("first", name)).read().take(pa.array([2, 3, 4, 0, 1]))
    pq.write_table(content, good.path("first", name))
    good.record("first", bytes=good.path("first", name).stat().st_size)
    with pytest.raises(
        VerificationError, match=r"row 3 is out of key order: its key is smaller than that of the row before it"
    ):
        good.verify()


@pytest.mark.parametrize("table", TABLES)
def test_verify_detects_different_keys_between_tables(good: Written, table: str) -> None:
    """A key of the right bucket in the right place, but not the one that the source has."""
    keys = good.read(table).column(0).to_pylist()
    good.rewrite(table, lambda content: with_key(content, 1, keys[0]))
    message = good.refused()
    assert str(good.path(table)) in message
    assert "the keys read back differ from the keys of the source" in message


@pytest.mark.parametrize("table", TABLES)
def test_verify_detects_lost_and_added_rows(good: Written, table: str) -> None:
    rows = good.outcome.rows
    good.rewrite(table, lambda content: content.slice(1))
    assert f"{rows - 1} rows in the files ({NAME}), {rows} in the bucket" in good.refused()
    good.record(table, rows=rows)
    assert f"{rows - 1} rows, expected {rows}" in good.refused()


def test_verify_accepts_same_keys_in_other_row_groups(good: Written) -> None:
    content = good.read("second")
    pq.write_table(content, good.path("second"), row_group_size=7, use_dictionary=True)
    good.record("second", bytes=good.path("second").stat().st_size)
    assert good.verify().rows == good.outcome.rows


def test_verify_reads_keys_of_every_bucket(tmp_path: Path) -> None:
    job = make_job(tmp_path, write_files(tmp_path / "source", [source()]), TABLES)
    blocks = MemoryBlocks().scan(job)
    moved = replace(job, bucket_count=3)
    for bucket in range(3):
        outcome = blocks.gather(job, bucket)
        with pytest.raises(VerificationError, match="belongs to bucket"):
            verify_bucket(moved, outcome)
