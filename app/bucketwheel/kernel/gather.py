"""Gather: concatenate the shuffle blocks of a bucket, sort the rows by key and write one file per table.

Memory holds the keys of the bucket and the columns of one table at a time. Small buckets can be gathered as a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from bucketwheel.kernel.dictionaries import UnifiedDictionaries, is_coded
from bucketwheel.kernel.hashing import key_buckets, stable_order
from bucketwheel.kernel.keys import complete_rows, key_order, key_text, repeated_keys
from bucketwheel.kernel.rows import take_rows
from bucketwheel.kernel.write import write_table, writer_options
from bucketwheel.runs.manifest import BucketOutcome, FileRecord

# Returns the blocks of some buckets in slice order, with the given source columns; empty blocks are left out. Gather
# keeps them until it has ordered their last column.
BlockReader = Callable[[Sequence[str]], list[pa.RecordBatch]]

_NO_KEYS: dict[str, Any] = {
    "null_keys": 0,
    "duplicate_keys": 0,
    "smallest_key": None,
    "largest_key": None,
    "key_checksum": 0,
}

_join = pa.Table.combine_chunks
# Bytes of a table whose columns are joined and ordered one by one, so that memory does not hold all of them twice.
_LARGE_TABLE = 32 * 2**20
# Bytes of blocks that are copied together.
_DETACHED_BYTES = 32 * 2**20
# Columns of a large table after which freed memory returns to the system.
_RELEASED_COLUMNS = 5


@dataclass(frozen=True)
class _Keys:
    """Keys of a bucket group in the order of the files; rows of the i-th bucket are `bounds[i]` to `bounds[i + 1]`.

    `order` is the permutation from block order to this order; None if both are the same.
    """

    table: pa.Table
    order: pa.Array | None
    bounds: list[int]
    key_statistics: list[dict[str, Any]]


def gather(job: BucketJob, bucket: int, read_blocks: BlockReader, dictionaries: UnifiedDictionaries) -> BucketOutcome:
    """Write the files of one bucket and return the outcome; `bucket` is its number among those of all layouts.

    Rows of equal keys keep their source order; NULL keys come first. A bucket without rows gets no file.

    Raises:
        StorageError: a file cannot be written.
    """
    return gather_buckets(job, [bucket], read_blocks, dictionaries)[0]


def gather_buckets(
    job: BucketJob, buckets: Sequence[int], read_blocks: BlockReader, dictionaries: UnifiedDictionaries
) -> list[BucketOutcome]:
    """Write the files of a group of buckets, each as `gather` does, and return their outcomes.

    The rows of the group are concatenated, sorted and copied in one pass, because each step costs as much for a few
    rows as for several thousand. `buckets` are of one layout and in ascending order; the blocks must not contain rows
    of other buckets.

    Raises:
        StorageError: a file cannot be written.
    """
    job, buckets = job.located(buckets)
    batches = read_blocks([source for source, _ in job.keys])
    if not batches:
        return [BucketOutcome(layout=job.layout, bucket=bucket, rows=0, files=(), **_NO_KEYS) for bucket in buckets]
    keys = _gather_keys(job, batches, buckets)
    files: list[list[FileRecord]] = [[] for _ in buckets]
    for table in job.tables:
        options = writer_options(job, table)
        for position, content in _gather_table(table, keys, read_blocks, dictionaries):
            files[position] += write_table(job, table, buckets[position], content, options)
    rows = [end - start for start, end in pairwise(keys.bounds)]
    return [
        BucketOutcome(
            layout=job.layout,
            bucket=bucket,
            rows=rows[position],
            files=tuple(files[position]),
            **keys.key_statistics[position],
        )
        for position, bucket in enumerate(buckets)
    ]


def _gather_keys(job: BucketJob, batches: Sequence[pa.RecordBatch], buckets: Sequence[int]) -> _Keys:
    table = combined(batches).rename_columns([name for _, name in job.keys])
    by_key = key_order(table)
    bounds = [0, table.num_rows]
    by_bucket = None
    if len(buckets) > 1:
        # Hashing the keys again is cheaper than keeping the bucket number of each row.
        positions = np.searchsorted(buckets, key_buckets(table.columns, job.hash, job.bucket_count))
        bounds = [0, *np.cumsum(np.bincount(positions, minlength=len(buckets))).tolist()]
        by_key = by_key[stable_order(positions[by_key], len(buckets))]
        by_bucket = None if job.sort else pa.array(stable_order(positions, len(buckets)))
    order = pa.array(by_key)
    ordered = take_rows(table, order)
    hashes = row_hashes(ordered.columns)
    statistics = [
        _key_statistics(ordered.slice(start, end - start), hashes[start:end], job.show_keys)
        for start, end in pairwise(bounds)
    ]
    if job.sort:
        return _Keys(ordered, order, bounds, statistics)
    return _Keys(table if by_bucket is None else take_rows(table, by_bucket), by_bucket, bounds, statistics)


def _key_statistics(ordered: pa.Table, hashes: npt.NDArray[np.uint64], show_keys: bool) -> dict[str, Any]:
    """Return the key fields of a bucket's outcome; `ordered` are its sorted keys and `hashes` their row hashes."""
    complete = complete_rows(ordered)
    count = complete.num_rows
    shown = show_keys and count > 0
    return {
        "null_keys": ordered.num_rows - count,
        "duplicate_keys": repeated_keys(complete),
        "smallest_key": key_text(complete.columns, 0) if shown else None,
        "largest_key": key_text(complete.columns, count - 1) if shown else None,
        "key_checksum": total(hashes),
    }


def _gather_table(
    table: TableLayout, keys: _Keys, read_blocks: BlockReader, dictionaries: UnifiedDictionaries
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the position in the group and the content of each bucket that has rows."""
    columns: dict[str, Any] = dict(zip(keys.table.column_names, keys.table.columns, strict=True))
    if table.columns:
        ordered = ordered_columns(read_blocks([source for source, _ in table.columns]), keys.order, dictionaries)
        for (source, name), column in zip(table.columns, ordered, strict=True):
            if source not in dictionaries:
                columns[name] = column
            elif is_coded(column.type):
                columns[name] = dictionaries.column(source).decode(column.to_numpy(), keys.bounds)
            else:
                columns[name] = dictionaries.column(source).encode_parts(column.chunk(0), keys.bounds)
    group = pa.table(columns)
    for position, (start, end) in enumerate(pairwise(keys.bounds)):
        if start < end:
            yield position, group.slice(start, end - start)


def ordered_columns(
    blocks: list[pa.RecordBatch], order: pa.Array | None, dictionaries: UnifiedDictionaries
) -> Iterator[pa.ChunkedArray]:
    """Yield the columns in this order of their rows, and empty the list.

    Of a large table, no column of the blocks is kept longer than until it is ordered, and none that was handed on.
    """
    # The bytes of all blocks take too long to count.
    longest = max(blocks, key=len)
    content = _united(blocks, dictionaries)
    blocks.clear()
    if longest.nbytes / len(longest) * len(content) <= _LARGE_TABLE:
        # One call for all columns takes less time.
        content = _joined(content)
        yield from (content if order is None else take_rows(content, order)).columns
        return
    del longest
    columns = [content.select([position]) for position in range(content.num_columns)][::-1]
    del content
    while columns:
        if len(columns) % _RELEASED_COLUMNS == 0:
            # The allocator keeps freed pieces, which are too short for the ordered columns.
            pa.default_memory_pool().release_unused()
        column = _joined(columns.pop()).column(0)
        if order is not None:
            column = pc.take(column, order, boundscheck=False)
        yield column
        del column


def detached(
    blocks: Iterable[tuple[pa.RecordBatch, int]], dictionaries: UnifiedDictionaries
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of blocks, so that each column can be released on its own.

    The columns of a block share the memory of one message, which stays in use as long as one of them. This copies
    blocks of many bytes, some of them at a time, into memory of each column.

    Args:
        blocks: each with its bytes.
        dictionaries: see `combined`.
    """
    waiting: list[pa.RecordBatch] = []
    size = 0
    for block, length in blocks:
        waiting.append(block)
        size += length
        if size >= _DETACHED_BYTES:
            yield from combined(waiting, dictionaries).to_batches()
            waiting.clear()
            size = 0
    yield from waiting


def combined(batches: Sequence[pa.RecordBatch], dictionaries: UnifiedDictionaries | None = None) -> pa.Table:
    """Return the batches as one table with a single chunk per column.

    If some batches have codes of `dictionaries` in a column and others have values, all get values.
    """
    return _joined(_united(batches, dictionaries))


def _united(batches: Sequence[pa.RecordBatch], dictionaries: UnifiedDictionaries | None) -> pa.Table:
    """Return the batches as chunks of one table."""
    if all(batch.schema == batches[0].schema for batch in batches[1:]):
        return pa.Table.from_batches(list(batches))
    # Later slices have wider codes, or values because their dictionary became too large.
    batches = batches if dictionaries is None else dictionaries.as_one_kind(batches)
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    return pa.concat_tables(tables, promote_options="permissive")


def _joined(table: pa.Table) -> pa.Table:
    """Return the table with a single chunk per column."""
    try:
        joined = _join(table)
    except pa.ArrowInvalid:
        joined = None
    if joined is None or any(column.num_chunks > 1 for column in joined.columns):
        # The text exceeds 32-bit offsets. Checking beforehand takes longer than concatenating.
        joined = _join(_to_large_types(table, _large_schema(table.schema)))
    return joined


def _large_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(large_type(field.type)) for field in schema])


def _to_large_types(table: pa.Table, target: pa.Schema) -> pa.Table:
    pairs = zip(table.columns, target, strict=True)
    return pa.table([_cast(column, field.type) for column, field in pairs], schema=target)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    # Arrow casts to an extension type only via its storage type.
    stored = pc.cast(column, kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else column
    return pc.cast(stored, kind)
