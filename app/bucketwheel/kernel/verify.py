"""Verify: read the files of one bucket back and compare them with the outcome of gather.

The keys of the first table are decoded and hashed again. Every other table passes if the bytes of its key columns on
disk equal those of the first table. Otherwise, for example with other row groups, its keys are decoded and hashed
too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketCheck, BucketJob, TableLayout
from bucketwheel.errors import VerificationError
from bucketwheel.formatting import counted
from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.iceberg_metrics import file_row
from bucketwheel.kernel.keys import first_disorder
from bucketwheel.kernel.layout import bucket_file_name, check_file_name
from bucketwheel.kernel.schema import parquet_schema, schema_difference
from bucketwheel.runs.data_files import FileRow, pack
from bucketwheel.runs.manifest import BucketOutcome, FileRecord
from bucketwheel.storage import Storage, fetch, join

# The key columns of one bucket of a table on disk: the layout and the bytes of each chunk.
_Chunks = list[tuple[tuple[object, ...], bytes]]


def verify_bucket(job: BucketJob, outcome: BucketOutcome) -> BucketCheck:
    """Read back every file of one bucket.

    Checks the names, sizes, rows, columns and types of the files, that every key hashes to this bucket, that sorted
    files are in key order, and that all tables have the same keys.

    Raises:
        VerificationError: a check fails; the message names the file, the bucket, the problem and, if known, the row.
    """
    job = job.layout_of(outcome)
    by_table = _by_table(job, outcome)
    first: _Chunks | None = None
    rows: list[FileRow] = []
    for table in job.tables:
        records = by_table[table.name]
        chunks = _read_chunks(job, table, records, outcome.bucket, rows)
        if chunks != first:
            _check_keys(job, table, records, outcome)
        first = first if first is not None else chunks
    sizes = {name: sum(record.bytes for record in records) for name, records in by_table.items()}
    return BucketCheck(outcome.bucket, outcome.rows, outcome.key_checksum, sizes, pack(rows), outcome.layout)


def _by_table(job: BucketJob, outcome: BucketOutcome) -> dict[str, list[FileRecord]]:
    by_table: dict[str, list[FileRecord]] = {table.name: [] for table in job.tables}
    for record in outcome.files:
        if record.table not in by_table:
            raise VerificationError(
                f"{record.name}, bucket {outcome.bucket}: its table {record.table!r} is not a table of the run: "
                f"{', '.join(by_table)}"
            )
        by_table[record.table].append(record)
    for table in job.tables:
        records = by_table[table.name]
        label = f"{table.directory}, bucket {outcome.bucket}"
        for record in records:
            check_file_name(join(table.directory, record.name), outcome.bucket, job.hash)
        names = [record.name for record in records]
        expected = [bucket_file_name(outcome.bucket, copy, job.hash) for copy in range(len(names))]
        if names != expected:
            raise VerificationError(f"{label}: the files are {', '.join(names)}; expected {', '.join(expected)}")
        rows = sum(record.rows for record in records)
        if rows != outcome.rows:
            raise VerificationError(
                f"{label}: {counted(rows, 'row')} in the files ({', '.join(names) or 'none'}), {outcome.rows} "
                "in the bucket"
            )
    return by_table


def _read_chunks(
    job: BucketJob, table: TableLayout, records: list[FileRecord], bucket: int, rows: list[FileRow]
) -> _Chunks:
    """Return the key columns of a table; add the rows of its files to `rows` if the layout is Iceberg."""
    chunks: _Chunks = []
    schema = pa.ipc.read_schema(pa.py_buffer(table.schema)) if job.hash == "iceberg" else None
    for record in records:
        path = join(table.directory, record.name)
        with _open(job, path, bucket) as stream:
            try:
                footer = pq.read_metadata(stream)
            except MemoryError:
                raise  # Also an ArrowException, but not a fault of the file.
            except (pa.ArrowException, OSError) as error:
                raise VerificationError(f"{path}: bucket {bucket}: not a Parquet file: {error}") from error
            _check_footer(table, record, f"{path}: bucket {bucket}", footer, stream.size())
            if schema is not None:
                rows.append(file_row(record, bucket, footer, schema))
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


@contextmanager
def _open(job: BucketJob, path: str, bucket: int) -> Iterator[pa.NativeFile]:
    """Open a file of a bucket while the block runs; errors of the disk in the block name the file."""
    try:
        with Storage(job.storage).open(path) as stream:
            yield stream
    except OSError as error:
        raise VerificationError(f"{path}: bucket {bucket}: cannot be read back: {error}") from error


def _check_footer(table: TableLayout, record: FileRecord, label: str, footer: pq.FileMetaData, size: int) -> None:
    if size != record.bytes:
        raise VerificationError(f"{label}: size {size}, expected {record.bytes}")
    if footer.num_rows != record.rows:
        raise VerificationError(f"{label}: {counted(footer.num_rows, 'row')}, expected {record.rows}")
    difference = schema_difference(table.schema, parquet_schema(footer))
    if difference is not None:
        raise VerificationError(f"{label}: {difference}")


def _check_keys(job: BucketJob, table: TableLayout, records: list[FileRecord], outcome: BucketOutcome) -> None:
    names = [name for _, name in job.keys]
    checksum = 0
    for record in records:
        path = join(table.directory, record.name)
        label = f"{path}: bucket {outcome.bucket}"
        with _open(job, path, outcome.bucket) as stream:
            try:
                keys = pq.ParquetFile(stream, pre_buffer=False).read(columns=names, use_threads=False)
            except MemoryError:
                raise
            except (pa.ArrowException, OSError) as error:
                raise VerificationError(f"{label}: the keys cannot be read back: {error}") from error
        columns = keys.select(names).columns
        check_buckets(label, columns, outcome.bucket, job.bucket_count, job.hash)
        if job.sort and (row := first_disorder(columns)) is not None:
            raise VerificationError(
                f"{label}: row {row} is out of key order: its key is smaller than that of the row before it"
            )
        checksum = add(checksum, key_checksum(columns))
    if checksum != outcome.key_checksum:
        raise VerificationError(
            f"{', '.join(join(table.directory, record.name) for record in records)}: bucket {outcome.bucket}: "
            "the keys read back differ from the keys of the source "
            f"(checksum {checksum:016x}, expected {outcome.key_checksum:016x})"
        )


def check_buckets(
    label: str, columns: Sequence[pa.ChunkedArray], bucket: int, count: int, scheme: str, first_row: int = 0
) -> None:
    """Raise VerificationError if a key does not hash to `bucket`.

    Args:
        label: file and bucket for the message.
        columns: key columns of consecutive rows of a file.
        bucket: bucket of the file.
        count: number of buckets.
        scheme: bucket hash.
        first_row: position of these rows in the file.
    """
    buckets = key_buckets(columns, scheme, count)
    stray = np.flatnonzero(buckets != bucket)
    if len(stray):
        row = int(stray[0])
        raise VerificationError(
            f"{label}: row {first_row + row} belongs to bucket {int(buckets[row])} by its key "
            f"({counted(len(stray), 'such row')})"
        )
