"""Gather: bring the pieces of a bucket together, sort them by key and write a file per table.

Memory holds the keys of the bucket and the columns of one table at a time. Buckets of few rows can share a go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.contracts import BucketJob, TableLayout
from bucketwheel.kernel.arrow_types import large_type
from bucketwheel.kernel.checksum import row_hashes, total
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys
from bucketwheel.kernel.keys import complete_rows, key_order, key_text, repeated_keys
from bucketwheel.kernel.write import write_table, writer_options
from bucketwheel.runs.manifest import BucketOutcome, FileRecord

# Pieces of some buckets that have rows, in slice order, reduced to the named source columns.
Pieces = Callable[[Sequence[str]], list[pa.RecordBatch]]

_NO_KEYS: dict[str, Any] = {
    "null_keys": 0,
    "duplicate_keys": 0,
    "smallest_key": None,
    "largest_key": None,
    "key_checksum": 0,
}

_join = pa.Table.combine_chunks


@dataclass(frozen=True)
class _Keys:
    """Keys of some buckets as they are written; rows of the i-th bucket are `bounds[i]` to `bounds[i + 1]`.

    `order` brings rows as pieces give them into that order; None where they have it.
    """

    table: pa.Table
    order: pa.Array | None
    bounds: list[int]
    facts: list[dict[str, Any]]


def gather(job: BucketJob, bucket: int, pieces: Pieces, codebooks: Codebooks) -> BucketOutcome:
    """Write the files of one bucket and return what is in them.

    Rows of equal keys keep their source order; NULL keys come first. A bucket without rows gets no file.

    Raises:
        StorageError: a file cannot be written.
    """
    return gather_buckets(job, [bucket], pieces, codebooks)[0]


def gather_buckets(
    job: BucketJob, buckets: Sequence[int], pieces: Pieces, codebooks: Codebooks
) -> list[BucketOutcome]:
    """Write the files of several buckets, each as `gather` does, and return what is in them.

    Their rows are joined, sorted and moved together: each of these steps takes as long for few rows as for
    some thousands. `buckets` are in ascending order; no row of another may be among the pieces.

    Raises:
        StorageError: a file cannot be written.
    """
    batches = pieces([source for source, _ in job.keys])
    if not batches:
        return [BucketOutcome(bucket=bucket, rows=0, files=(), **_NO_KEYS) for bucket in buckets]
    keys = _gather_keys(job, batches, buckets)
    files: list[list[FileRecord]] = [[] for _ in buckets]
    for table in job.tables:
        options = writer_options(job, table)
        for turn, content in _gather_table(table, keys, pieces, codebooks):
            files[turn] += write_table(job, table, buckets[turn], content, options)
    rows = [end - start for start, end in pairwise(keys.bounds)]
    return [
        BucketOutcome(bucket=bucket, rows=rows[turn], files=tuple(files[turn]), **keys.facts[turn])
        for turn, bucket in enumerate(buckets)
    ]


def _gather_keys(job: BucketJob, batches: Sequence[pa.RecordBatch], buckets: Sequence[int]) -> _Keys:
    table = _combined(batches).rename_columns([name for _, name in job.keys])
    by_key = key_order(table)
    bounds = [0, table.num_rows]
    by_bucket = None
    if len(buckets) > 1:
        # To hash the keys once more is cheaper than to keep the number of each row.
        turns = np.searchsorted(
            buckets, bucket_numbers(hash_keys(table.columns, job.hash), job.bucket_count, job.hash)
        )
        bounds = [0, *np.cumsum(np.bincount(turns, minlength=len(buckets))).tolist()]
        # NumPy sorts 16-bit integers stably by radix, in linear time.
        narrow = turns.astype(np.uint16) if len(buckets) <= 2**16 else turns
        by_key = by_key[np.argsort(narrow[by_key], kind="stable")]
        by_bucket = None if job.sort else pa.array(np.argsort(narrow, kind="stable"))
    order = pa.array(by_key)
    ordered = table.take(order)
    hashes = row_hashes(ordered.columns)
    facts = [_facts(ordered.slice(start, end - start), hashes[start:end]) for start, end in pairwise(bounds)]
    if job.sort:
        return _Keys(ordered, order, bounds, facts)
    return _Keys(table if by_bucket is None else table.take(by_bucket), by_bucket, bounds, facts)


def _facts(ordered: pa.Table, hashes: npt.NDArray[np.uint64]) -> dict[str, Any]:
    """Return what an outcome says of the sorted keys of one bucket; `hashes` are those of its rows."""
    present = complete_rows(ordered)
    known = present.num_rows
    return {
        "null_keys": ordered.num_rows - known,
        "duplicate_keys": repeated_keys(present),
        "smallest_key": key_text(present.columns, 0) if known else None,
        "largest_key": key_text(present.columns, known - 1) if known else None,
        "key_checksum": total(hashes),
    }


def _gather_table(
    table: TableLayout, keys: _Keys, pieces: Pieces, codebooks: Codebooks
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the turn of each bucket that has rows, and what its file is to hold."""
    columns: dict[str, Any] = dict(zip(keys.table.column_names, keys.table.columns, strict=True))
    if table.columns:
        content = _combined(pieces([source for source, _ in table.columns]))
        content = content if keys.order is None else content.take(keys.order)
        for source, name in table.columns:
            column = content.column(source)
            coded = source in codebooks
            columns[name] = codebooks.book(source).decode(column.to_numpy(), keys.bounds) if coded else column
    together = pa.table(columns)
    for turn, (start, end) in enumerate(pairwise(keys.bounds)):
        if start < end:
            yield turn, together.slice(start, end - start)


def _combined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return the batches as one table with a single chunk for each column."""
    if all(batch.schema == batches[0].schema for batch in batches[1:]):
        table = pa.Table.from_batches(list(batches))
    else:
        # A codebook grew past the codes of earlier slices, or files ask for string and for large_string.
        tables = [pa.Table.from_batches([batch]) for batch in batches]
        table = pa.concat_tables(tables, promote_options="permissive")
    try:
        joined = _join(table)
    except pa.ArrowInvalid:
        joined = None
    if joined is None or any(column.num_chunks > 1 for column in joined.columns):
        # More text than 32-bit offsets reach. Asking beforehand takes longer than joining.
        joined = _join(_enlarged(table, _large_schema(table.schema)))
    return joined


def _large_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(large_type(field.type)) for field in schema])


def _enlarged(table: pa.Table, target: pa.Schema) -> pa.Table:
    pairs = zip(table.columns, target, strict=True)
    return pa.table([_cast(column, field.type) for column, field in pairs], schema=target)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    # Arrow casts extension types by way of what they are stored as.
    stored = pc.cast(column, kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else column
    return pc.cast(stored, kind)
