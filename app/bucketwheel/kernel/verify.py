"""Verify: read the files of one bucket back and prove that they hold what gather says.

Keys of the first table are decoded and hashed again. The key column of every other table must be the same
bytes on disk, which proves the same; where it is cut differently it is decoded and hashed too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketCheck, BucketJob, TableLayout
from bucketwheel.errors import VerificationError
from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys
from bucketwheel.kernel.layout import check_file_name
from bucketwheel.manifest import BucketOutcome, FileRecord
from bucketwheel.storage import Storage, join


@dataclass(frozen=True)
class _KeyChunks:
    """The key columns of one table of one bucket as they lie on disk."""

    layout: tuple[object, ...]
    content: tuple[bytes, ...]


def verify_bucket(job: BucketJob, outcome: BucketOutcome) -> BucketCheck:
    """Read back every file of one bucket.

    Checks the file's name, size, rows and columns from its footer; that every key hashes to this bucket,
    that keys ascend where they should, and that all tables have the same keys.

    Raises:
        VerificationError: names the file and what is wrong; for a stray row also the row and its bucket.
    """
    by_table: dict[str, list[FileRecord]] = {table.name: [] for table in job.tables}
    for record in outcome.files:
        by_table[record.table].append(record)
    first: _KeyChunks | None = None
    for table in job.tables:
        records = by_table[table.name]
        rows = sum(record.rows for record in records)
        if rows != outcome.rows:
            raise VerificationError(
                f"{table.name}, bucket {outcome.bucket}: {rows} rows in its files, {outcome.rows} in the bucket"
            )
        chunks = _read_chunks(job, table, records, outcome.bucket)
        if first is None or chunks != first:
            _check_keys(job, table, records, outcome)
        first = first or chunks
    sizes = {name: sum(record.bytes for record in records) for name, records in by_table.items()}
    return BucketCheck(outcome.bucket, outcome.rows, outcome.key_checksum, sizes)


def _read_chunks(job: BucketJob, table: TableLayout, records: list[FileRecord], bucket: int) -> _KeyChunks:
    layout: list[object] = []
    content: list[bytes] = []
    for record in records:
        path = join(table.directory, record.name)
        check_file_name(record.name, bucket, job.hash)
        with _opened(job, path) as stream:
            footer = _footer(stream, path)
            _check_footer(job, table, record, path, footer, stream.size())
            for group in range(footer.num_row_groups):
                for column in range(len(job.keys)):
                    chunk = footer.row_group(group).column(column)
                    start = chunk.dictionary_page_offset or chunk.data_page_offset
                    layout.append((chunk.physical_type, chunk.compression, str(chunk.encodings), chunk.num_values))
                    stream.seek(start)
                    content.append(stream.read(chunk.total_compressed_size))
    return _KeyChunks(tuple(layout), tuple(content))


def _opened(job: BucketJob, path: str) -> pa.NativeFile:
    try:
        return Storage(job.storage).open(path)
    except OSError as error:
        raise VerificationError(f"{path}: cannot be read back: {error}") from error


def _footer(stream: pa.NativeFile, path: str) -> pq.FileMetaData:
    try:
        return pq.ParquetFile(stream, pre_buffer=False).metadata
    except (pa.ArrowInvalid, OSError) as error:
        raise VerificationError(f"{path}: is no Parquet file: {error}") from error


def _check_footer(
    job: BucketJob, table: TableLayout, record: FileRecord, path: str, footer: pq.FileMetaData, size: int
) -> None:
    if size != record.bytes:
        raise VerificationError(f"{path}: {size} bytes, {record.bytes} were written")
    if footer.num_rows != record.rows:
        raise VerificationError(f"{path}: {footer.num_rows} rows, {record.rows} were written")
    expected = [name for _, name in job.keys] + [name for _, name in table.columns]
    found = footer.schema.to_arrow_schema().names
    if found != expected:
        raise VerificationError(f"{path}: columns {found}, expected {expected}")


def _check_keys(job: BucketJob, table: TableLayout, records: list[FileRecord], outcome: BucketOutcome) -> None:
    names = [name for _, name in job.keys]
    checksum = 0
    for record in records:
        path = join(table.directory, record.name)
        with _opened(job, path) as stream:
            try:
                keys = pq.ParquetFile(stream, pre_buffer=False).read(columns=names, use_threads=False)
            except (pa.ArrowInvalid, OSError) as error:
                raise VerificationError(f"{path}: the key column cannot be read back: {error}") from error
        columns = [pa.concat_arrays(keys.column(name).chunks) for name in names]
        _check_buckets(job, path, columns, outcome.bucket)
        if job.sort:
            _check_order(path, keys.select(names))
        checksum = add(checksum, key_checksum(columns))
    if checksum != outcome.key_checksum:
        raise VerificationError(
            f"{table.name}, bucket {outcome.bucket}: the keys read back differ from the keys of the source "
            f"(checksum {checksum:016x}, expected {outcome.key_checksum:016x})"
        )


def _check_buckets(job: BucketJob, path: str, columns: list[pa.Array], bucket: int) -> None:
    buckets = bucket_numbers(hash_keys(columns, job.hash), job.bucket_count, job.hash)
    stray = np.flatnonzero(buckets != bucket)
    if len(stray):
        row = int(stray[0])
        key = "|".join(str(column[row].as_py()) for column in columns)
        raise VerificationError(
            f"{path}: row {row} with key {key!r} belongs to bucket {int(buckets[row])}, the file is bucket "
            f"{bucket} ({len(stray)} such rows)"
        )


def _check_order(path: str, keys: pa.Table) -> None:
    by = [(name, "ascending") for name in keys.column_names]
    order = np.asarray(pc.sort_indices(keys, sort_keys=by, null_placement="at_start"))
    moved = np.flatnonzero(order != np.arange(len(order), dtype=order.dtype))
    if len(moved):
        raise VerificationError(f"{path}: row {int(moved[0])} is not in key order")
