"""Scatter: read a slice once, hash its keys, and order its rows by bucket.

The pieces of all tables are cut from one ordered batch by `Scattered.piece`; the key travels once. Columns
with a small dictionary travel as codes, with code 0 for NULL, so that moving a row moves a byte or two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.errors import UnreadableFilesError
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys
from bucketwheel.kernel.plain import plain_type
from bucketwheel.storage import Storage, translated

# Readers of INT64 nanoseconds are rare; INT96 is read as microseconds, the finest unit that all of them know.
READ_OPTIONS = {"coerce_int96_timestamp_unit": "us"}


@dataclass(frozen=True)
class Scattered:
    """Rows of one slice ordered by bucket.

    `batch` holds every projected column under its source name; rows of bucket b are
    `offsets[b]` to `offsets[b + 1]` (int64, one more than there are buckets).
    """

    index: int
    offsets: np.ndarray
    batch: pa.RecordBatch

    def rows(self, bucket: int) -> int:
        """Rows of one bucket."""
        return int(self.offsets[bucket + 1] - self.offsets[bucket])

    def piece(self, bucket: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Return the rows of one bucket, without a copy."""
        return self.batch.select(list(columns)).slice(int(self.offsets[bucket]), self.rows(bucket))


def projected_columns(job: BucketJob) -> list[str]:
    """Source names of all columns that the job needs, keys first, each once."""
    names = [source for source, _ in job.keys]
    names += [source for table in job.tables for source, _ in table.columns]
    return list(dict.fromkeys(names))


def scatter(job: BucketJob, part: Slice, max_rows: int, skip: Collection[int] = ()) -> Iterator[Scattered]:
    """Yield the rows of a slice ordered by bucket, at most `max_rows` at a time.

    Rows of one bucket keep their source order, so the result of gathering does not depend on how the
    source was cut into slices. Rows of the buckets in `skip` are left out.

    Raises:
        UnreadableFilesError: a page cannot be read; names file, row group and column.
        StorageError: the file cannot be opened.
    """
    kept = np.ones(job.bucket_count, dtype=bool)
    kept[list(skip)] = False
    for batch in _read(job, part, max_rows):
        keys = [batch.column(source) for source, _ in job.keys]
        buckets = bucket_numbers(hash_keys(keys, job.hash), job.bucket_count, job.hash)
        # NumPy sorts 16-bit integers stably by radix, in linear time.
        narrow = buckets.astype(np.uint16) if job.bucket_count <= 2**16 else buckets
        order = np.argsort(narrow, kind="stable")
        counts = np.bincount(buckets, minlength=job.bucket_count)
        if skip:
            order = order[kept[buckets[order]]]
            counts = np.where(kept, counts, 0)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        yield Scattered(part.index, offsets, batch.take(pa.array(order)))


def _read(job: BucketJob, part: Slice, max_rows: int) -> Iterator[pa.RecordBatch]:
    columns = projected_columns(job)
    coded = job.dictionary_columns.difference(source for source, _ in job.keys)
    with translated(part.path, "open"):
        stream = Storage(job.storage).open(part.path)
    with stream:
        try:
            for batch in _decode(stream, part, columns, coded, max_rows):
                yield normalised(batch.select(columns), coded)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableFilesError(
                f"{part.path}: {_corrupt_chunk(part, columns, stream)}: {error}; "
                "write the file again, or take the snapshot before it with --snapshot-dt"
            ) from error


def _decode(
    stream: pa.NativeFile, part: Slice, columns: list[str], coded: Collection[str], max_rows: int
) -> Iterator[pa.RecordBatch]:
    metadata = pq.read_metadata(stream)
    leaves = {metadata.schema.column(number).path for number in range(metadata.num_columns)}
    file = pq.ParquetFile(
        stream,
        metadata=metadata,
        # A nested column has no leaf of its name, and the reader refuses names that are none.
        read_dictionary=sorted(leaves.intersection(coded)),
        pre_buffer=False,
        **READ_OPTIONS,
    )
    groups = list(part.row_groups)
    if part.rows > max_rows:
        yield from file.iter_batches(max_rows, row_groups=groups, columns=columns, use_threads=False)
        return
    table = file.read_row_groups(groups, columns=columns, use_threads=False)
    yield from table.unify_dictionaries().combine_chunks().to_batches()


def _corrupt_chunk(part: Slice, columns: list[str], stream: pa.NativeFile) -> str:
    # The reader takes "a" for "a.b" too, so the longer name has to answer for itself first.
    by_length = sorted(columns, key=len, reverse=True)
    try:
        file = pq.ParquetFile(stream, pre_buffer=False)
    except (pa.ArrowException, OSError):
        return "the footer cannot be read"
    for group in part.row_groups:
        for column in by_length:
            try:
                file.read_row_group(group, columns=[column], use_threads=False)
            except (pa.ArrowException, OSError):
                return f"row group {group}, column {column!r} cannot be read"
    return f"row groups {part.row_groups[0]} to {part.row_groups[-1]} cannot be read together"


def normalised(batch: pa.RecordBatch, coded: Collection[str]) -> pa.RecordBatch:
    """Return the batch in plain types, and the dictionaries named in `coded` as codes in which 0 is NULL."""
    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in coded and pa.types.is_dictionary(column.type):
            arrays.append(_as_codes(column))
        else:
            plain = plain_type(column.type)
            arrays.append(column if plain.equals(column.type) else pc.cast(column, plain))
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _as_codes(column: pa.DictionaryArray) -> pa.DictionaryArray:
    dictionary = column.dictionary
    values = pa.concat_arrays([pa.nulls(1, dictionary.type), dictionary])
    codes = np.asarray(column.indices.cast(pa.int32()).fill_null(-1)) + 1
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.min_scalar_type(len(values) - 1))), values, safe=False
    )
