"""Gather: bring the pieces of one bucket together, sort them by key and write a file per table.

Memory holds the keys of the bucket and the columns of one table at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, TableLayout
from bucketwheel.kernel.checksum import key_checksum
from bucketwheel.kernel.dictionaries import DictionaryMerger, gathered
from bucketwheel.kernel.layout import bucket_file_name
from bucketwheel.manifest import BucketOutcome, FileRecord
from bucketwheel.storage import Storage, join

# Pieces of one bucket in slice order, reduced to the named source columns.
Pieces = Callable[[Sequence[str]], list[pa.RecordBatch]]

_OFFSET_LIMIT = 2**31 - 1
# Fewer, larger calls into the encoders than Arrow's default of 1,024 values.
_WRITE_BATCH = 8192


@dataclass(frozen=True)
class _Keys:
    table: pa.Table
    order: np.ndarray
    outcome: dict[str, Any]


def gather(job: BucketJob, bucket: int, pieces: Pieces, merger: DictionaryMerger | None = None) -> BucketOutcome:
    """Write the files of one bucket and return what is in them.

    Rows of equal keys keep their source order; NULL keys come first. A file is cut between row groups
    before it would pass `job.max_file_bytes`; the next one is its copy 1, 2 and so on.

    Raises:
        StorageError: a file cannot be written.
    """
    merger = merger or DictionaryMerger()
    keys = _gather_keys(job, pieces)
    files: list[FileRecord] = []
    if keys.table.num_rows:
        for table in job.tables:
            content = _gather_table(job, table, keys, pieces, merger)
            files += _write_table(job, table, bucket, content)
    return BucketOutcome(bucket=bucket, rows=keys.table.num_rows, files=tuple(files), **keys.outcome)


def _gather_keys(job: BucketJob, pieces: Pieces) -> _Keys:
    sources = [source for source, _ in job.keys]
    table = _combined(pieces(sources)).rename_columns([name for _, name in job.keys])
    by = [(name, "ascending") for name in table.column_names]
    order = pc.sort_indices(table, sort_keys=by, null_placement="at_start")
    ordered = table.take(order)
    columns = [_single(column) for column in ordered.columns]
    complete = pc.is_valid(columns[0])
    for column in columns[1:]:
        complete = pc.and_(complete, pc.is_valid(column))
    present = ordered.filter(complete)
    nulls = ordered.num_rows - present.num_rows
    outcome = {
        "null_keys": nulls,
        "duplicate_keys": _repeated(present),
        "smallest_key": _key_text(present, 0) if present.num_rows else None,
        "largest_key": _key_text(present, present.num_rows - 1) if present.num_rows else None,
        "key_checksum": key_checksum(columns),
    }
    return _Keys(ordered if job.sort else table, np.asarray(order).astype(np.int64), outcome)


def _repeated(present: pa.Table) -> int:
    if present.num_rows < 2:
        return 0
    same = None
    for column in present.columns:
        whole = _single(column)
        equal = pc.equal(whole.slice(1), whole.slice(0, len(whole) - 1))
        same = equal if same is None else pc.and_(same, equal)
    return int(pc.sum(same).as_py() or 0)


def _key_text(table: pa.Table, row: int) -> str:
    return "|".join(str(column[row].as_py()) for column in table.columns)


def _gather_table(
    job: BucketJob, table: TableLayout, keys: _Keys, pieces: Pieces, merger: DictionaryMerger
) -> pa.Table:
    arrays: dict[str, Any] = {name: keys.table.column(name) for _, name in job.keys}
    batches = pieces([source for source, _ in table.columns])
    order = keys.order if job.sort else None
    coded = {
        field.name: gathered([batch.column(field.name) for batch in batches], order, merger)
        for field in batches[0].schema
        if pa.types.is_dictionary(field.type)
    }
    plain = _combined([batch.select([n for n in batch.schema.names if n not in coded]) for batch in batches])
    if job.sort and plain.num_columns:
        plain = plain.take(pa.array(keys.order))
    for source, name in table.columns:
        arrays[name] = coded[source] if source in coded else plain.column(source)
    return pa.table(arrays)


def _combined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(list(batches))
    if table.nbytes > _OFFSET_LIMIT:
        table = table.cast(pa.schema([field.with_type(_large(field.type)) for field in table.schema]))
    return table.combine_chunks()


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary(kind) else kind


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _write_table(job: BucketJob, table: TableLayout, bucket: int, content: pa.Table) -> list[FileRecord]:
    storage = Storage(job.storage)
    records: list[FileRecord] = []
    start = 0
    while start < content.num_rows:
        name = bucket_file_name(bucket, len(records), job.hash)
        with storage.create(join(table.directory, name), job.scratch) as sink:
            rows = _write_file(job, table, content, start, sink)
            size = sink.tell()
        records.append(FileRecord(table=table.name, name=name, rows=rows, bytes=size))
        start += rows
    return records


def _write_file(job: BucketJob, table: TableLayout, content: pa.Table, start: int, sink: pa.NativeFile) -> int:
    """Write row groups from `start` on until the file is full; return the rows written."""
    end, written = start, 0
    with pq.ParquetWriter(sink, content.schema, **writer_options(job, table)) as writer:
        while end < content.num_rows and not (written and sink.tell() + written > job.max_file_bytes):
            before = sink.tell()
            rows = min(table.row_group_rows, content.num_rows - end)
            writer.write_table(content.slice(end, rows), row_group_size=rows)
            written = max(written, sink.tell() - before)
            end += rows
    return end - start


def writer_options(job: BucketJob, table: TableLayout) -> dict[str, Any]:
    """Return the Parquet writer's options: Snappy, statistics and page index on the keys only.

    Values in key order are in random order, so their statistics would prune nothing.
    """
    names = [name for _, name in job.keys]
    coded = [name for source, name in table.columns if source in job.dictionary_columns]
    return {
        "compression": "snappy",
        "use_dictionary": coded or False,
        "write_statistics": names,
        "write_page_index": True,
        "store_schema": False,
        "data_page_size": job.page_bytes,
        "write_batch_size": _WRITE_BATCH,
        "sorting_columns": [pq.SortingColumn(i) for i in range(len(names))] if job.sort else None,
    }
