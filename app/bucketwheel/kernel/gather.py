"""Gather: bring the pieces of one bucket together, sort them by key and write a file per table.

Memory holds the keys of the bucket and the columns of one table at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.contracts import BucketJob, TableLayout
from bucketwheel.kernel.checksum import key_checksum
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.keys import complete_rows, key_order, key_text, repeated_keys
from bucketwheel.kernel.plain import large_type
from bucketwheel.kernel.write import write_table
from bucketwheel.manifest import BucketOutcome, FileRecord

# Pieces of one bucket that have rows, in slice order, reduced to the named source columns.
Pieces = Callable[[Sequence[str]], list[pa.RecordBatch]]

_join = pa.Table.combine_chunks


@dataclass(frozen=True)
class _Keys:
    table: pa.Table
    order: pa.Array
    facts: dict[str, Any]


def gather(job: BucketJob, bucket: int, pieces: Pieces, codebooks: Codebooks) -> BucketOutcome:
    """Write the files of one bucket and return what is in them.

    Rows of equal keys keep their source order; NULL keys come first. A bucket without rows gets no file.

    Raises:
        StorageError: a file cannot be written.
    """
    batches = pieces([source for source, _ in job.keys])
    if not batches:
        return BucketOutcome(
            bucket=bucket,
            rows=0,
            null_keys=0,
            duplicate_keys=0,
            smallest_key=None,
            largest_key=None,
            key_checksum=0,
            files=(),
        )
    keys = _gather_keys(job, batches)
    files: list[FileRecord] = []
    for table in job.tables:
        files += write_table(job, table, bucket, _gather_table(job, table, keys, pieces, codebooks))
    return BucketOutcome(bucket=bucket, rows=keys.table.num_rows, files=tuple(files), **keys.facts)


def _gather_keys(job: BucketJob, batches: Sequence[pa.RecordBatch]) -> _Keys:
    table = _combined(batches).rename_columns([name for _, name in job.keys])
    order = pa.array(key_order(table))
    ordered = table.take(order)
    present = complete_rows(ordered)
    facts = {
        "null_keys": ordered.num_rows - present.num_rows,
        "duplicate_keys": repeated_keys(present),
        "smallest_key": key_text(present.columns, 0) if present.num_rows else None,
        "largest_key": key_text(present.columns, present.num_rows - 1) if present.num_rows else None,
        "key_checksum": key_checksum(ordered.columns),
    }
    return _Keys(ordered if job.sort else table, order, facts)


def _gather_table(job: BucketJob, table: TableLayout, keys: _Keys, pieces: Pieces, codebooks: Codebooks) -> pa.Table:
    arrays: dict[str, Any] = dict(zip(keys.table.column_names, keys.table.columns, strict=True))
    if table.columns:
        content = _combined(pieces([source for source, _ in table.columns]))
        content = content.take(keys.order) if job.sort else content
        for source, name in table.columns:
            column = content.column(source)
            arrays[name] = codebooks.book(source).decode(column.to_numpy()) if source in codebooks else column
    return pa.table(arrays)


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
