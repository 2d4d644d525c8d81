"""Verify: read the files of one bucket back and prove that they hold what gather says.

Keys of the first table are decoded and hashed again. The key column of every other table must be the same
bytes on disk, which proves the same; where it is cut differently it is decoded and hashed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketCheck, BucketJob, TableLayout
from bucketwheel.errors import VerificationError
from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys
from bucketwheel.kernel.keys import first_disorder, key_text
from bucketwheel.kernel.layout import bucket_file_name, check_file_name
from bucketwheel.kernel.schema import schema_difference
from bucketwheel.runs.manifest import BucketOutcome, FileRecord
from bucketwheel.storage import Storage, fetch, join

# The key columns of one table of one bucket as they lie on disk: how each chunk is laid out, and its bytes.
_Chunks = list[tuple[tuple[object, ...], bytes]]


def verify_bucket(job: BucketJob, outcome: BucketOutcome) -> BucketCheck:
    """Read back every file of one bucket.

    Checks the files' names, sizes, rows, columns and their types; that every key hashes to this bucket, that
    keys ascend where they should, and that all tables have the same keys.

    Raises:
        VerificationError: names file, bucket and what is wrong; for a single row also the row.
    """
    by_table = _by_table(job, outcome)
    first: _Chunks | None = None
    for table in job.tables:
        records = by_table[table.name]
        chunks = _read_chunks(job, table, records, outcome.bucket)
        if chunks != first:
            _check_keys(job, table, records, outcome)
        first = first if first is not None else chunks
    sizes = {name: sum(record.bytes for record in records) for name, records in by_table.items()}
    return BucketCheck(outcome.bucket, outcome.rows, outcome.key_checksum, sizes)


def _by_table(job: BucketJob, outcome: BucketOutcome) -> dict[str, list[FileRecord]]:
    by_table: dict[str, list[FileRecord]] = {table.name: [] for table in job.tables}
    for record in outcome.files:
        if record.table not in by_table:
            raise VerificationError(
                f"{record.name}, bucket {outcome.bucket}: it is of table {record.table!r}, which is none of "
                f"the run's: {', '.join(by_table)}"
            )
        by_table[record.table].append(record)
    for table in job.tables:
        records = by_table[table.name]
        place = f"{table.directory}, bucket {outcome.bucket}"
        for record in records:
            check_file_name(join(table.directory, record.name), outcome.bucket, job.hash)
        names = [record.name for record in records]
        expected = [bucket_file_name(outcome.bucket, copy, job.hash) for copy in range(len(names))]
        if names != expected:
            raise VerificationError(f"{place}: its files are {', '.join(names)}, not {', '.join(expected)}")
        rows = sum(record.rows for record in records)
        if rows != outcome.rows:
            raise VerificationError(
                f"{place}: {rows} rows in its files ({', '.join(names) or 'none'}), {outcome.rows} in the bucket"
            )
    return by_table


def _read_chunks(job: BucketJob, table: TableLayout, records: list[FileRecord], bucket: int) -> _Chunks:
    chunks: _Chunks = []
    for record in records:
        path = join(table.directory, record.name)
        with _opened(job, path, bucket) as stream:
            try:
                footer = pq.read_metadata(stream)
            except MemoryError:
                raise  # One of Arrow's own errors too, and no fault of the file.
            except (pa.ArrowException, OSError) as error:
                raise VerificationError(f"{path}: bucket {bucket}: is no Parquet file: {error}") from error
            _check_footer(table, record, f"{path}: bucket {bucket}", footer, stream.size())
            fetch(stream, partial(_key_ranges, footer, len(job.keys)))
            for group in range(footer.num_row_groups):
                for column in range(len(job.keys)):
                    chunk = footer.row_group(group).column(column)
                    stream.seek(_start(chunk))
                    layout = (chunk.physical_type, chunk.compression, str(chunk.encodings), chunk.num_values)
                    chunks.append((layout, stream.read(chunk.total_compressed_size)))
    return chunks


def _key_ranges(footer: pq.FileMetaData, keys: int) -> Iterator[tuple[int, int]]:
    for group in range(footer.num_row_groups):
        for column in range(keys):
            chunk = footer.row_group(group).column(column)
            yield _start(chunk), chunk.total_compressed_size


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    return int(chunk.dictionary_page_offset or chunk.data_page_offset)


def _opened(job: BucketJob, path: str, bucket: int) -> pa.NativeFile:
    try:
        return Storage(job.storage).open(path)
    except OSError as error:
        raise VerificationError(f"{path}: bucket {bucket}: cannot be read back: {error}") from error


def _check_footer(table: TableLayout, record: FileRecord, place: str, footer: pq.FileMetaData, size: int) -> None:
    if size != record.bytes:
        raise VerificationError(f"{place}: {size} bytes, {record.bytes} were written")
    if footer.num_rows != record.rows:
        raise VerificationError(f"{place}: {footer.num_rows} rows, {record.rows} were written")
    difference = schema_difference(table.schema, footer.schema)
    if difference is not None:
        raise VerificationError(f"{place}: {difference}")


def _check_keys(job: BucketJob, table: TableLayout, records: list[FileRecord], outcome: BucketOutcome) -> None:
    names = [name for _, name in job.keys]
    checksum = 0
    for record in records:
        path = join(table.directory, record.name)
        place = f"{path}: bucket {outcome.bucket}"
        with _opened(job, path, outcome.bucket) as stream:
            try:
                keys = pq.ParquetFile(stream, pre_buffer=False).read(columns=names, use_threads=False)
            except MemoryError:
                raise
            except (pa.ArrowException, OSError) as error:
                raise VerificationError(f"{place}: the keys cannot be read back: {error}") from error
        columns = keys.select(names).columns
        check_buckets(place, columns, outcome.bucket, job.bucket_count, job.hash)
        if job.sort and (row := first_disorder(columns)) is not None:
            raise VerificationError(
                f"{place}: row {row} with key {key_text(columns, row)!r} is not in key order, the row before "
                f"has {key_text(columns, row - 1)!r}"
            )
        checksum = add(checksum, key_checksum(columns))
    if checksum != outcome.key_checksum:
        raise VerificationError(
            f"{', '.join(join(table.directory, record.name) for record in records)}: bucket {outcome.bucket}: "
            "the keys read back differ from the keys of the source "
            f"(checksum {checksum:016x}, expected {outcome.key_checksum:016x})"
        )


def check_buckets(
    place: str, columns: Sequence[pa.ChunkedArray], bucket: int, count: int, scheme: str, first_row: int = 0
) -> None:
    """Raise VerificationError where a key does not hash to `bucket`.

    Args:
        place: file and bucket, for the message.
        columns: key columns of consecutive rows of a file.
        bucket: where the rows are.
        count: number of buckets.
        scheme: the hash.
        first_row: number of the first of these rows in the file.
    """
    buckets = bucket_numbers(hash_keys(columns, scheme), count, scheme)
    stray = np.flatnonzero(buckets != bucket)
    if len(stray):
        row = int(stray[0])
        raise VerificationError(
            f"{place}: row {first_row + row} with key {key_text(columns, row)!r} belongs to bucket "
            f"{int(buckets[row])} ({len(stray)} such rows)"
        )
