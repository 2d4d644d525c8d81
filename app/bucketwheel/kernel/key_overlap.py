"""Count the keys of a bucket that two runs share.

Both runs assign a key to the same bucket, so bucket n of one run is compared with bucket n of the other only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.kernel.arrow_types import canonical_type, large_type
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.keys import complete_rows
from bucketwheel.kernel.scatter import chunk_ranges
from bucketwheel.runs.drift_records import KeyCounts
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, fetch

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class KeyFiles:
    """The files of one bucket of a table, the names of their key columns, and the bucket hash."""

    storage: StorageSettings
    paths: tuple[str, ...]
    columns: tuple[str, ...]
    hash: str


def compare_bucket(now: KeyFiles, before: KeyFiles, parts: int) -> KeyCounts:
    """Count the distinct keys in both runs, only in `now` and only in `before`; keys with a NULL are ignored.

    Args:
        now: files of this run.
        before: files of the other run, of the same bucket, with keys of the same types.
        parts: number of passes; each pass reads the files again and holds its share of the keys in memory.

    Raises:
        StorageError: a file cannot be opened.
        OSError, pa.ArrowException: a file cannot be read.
    """
    counts = [overlap(_keys(now, part, parts), _keys(before, part, parts)) for part in range(parts)]
    return KeyCounts(*map(sum, zip(*counts, strict=True)))


def overlap(now: list[pa.RecordBatch], before: list[pa.RecordBatch]) -> KeyCounts:
    """Count the distinct rows in both lists of batches and in only one; rows have no NULL."""
    rows = sum(batch.num_rows for batch in now)
    batches = [batch for batch in (*now, *before) if batch.num_rows]
    if not batches:
        return KeyCounts(0, 0, 0)
    codes, distinct = _codes([batch.column(0) for batch in batches])
    for number in range(1, batches[0].num_columns):
        further, count = _codes([batch.column(number) for batch in batches])
        # Codes are smaller than the number of rows, so the product fits into 64 bits.
        pairs = codes.astype(np.int64) * count + further
        distinct_pairs, codes = np.unique(pairs, return_inverse=True)
        distinct = len(distinct_pairs)
    in_now, in_before = np.zeros((2, distinct), bool)
    in_now[codes[:rows]] = True
    in_before[codes[rows:]] = True
    both = int(np.count_nonzero(in_now & in_before))
    return KeyCounts(both, int(np.count_nonzero(in_now)) - both, int(np.count_nonzero(in_before)) - both)


def _codes(arrays: list[pa.Array]) -> tuple[npt.NDArray[np.int32], int]:
    """Return a code for each value (equal values have equal codes) and the number of distinct values."""
    kinds = {array.type for array in arrays}
    if len(kinds) > 1:
        arrays = [array.cast(large_type(array.type)) for array in arrays]
    encoded = pa.concat_arrays(arrays).dictionary_encode()
    return np.asarray(encoded.indices), len(encoded.dictionary)


def _keys(files: KeyFiles, part: int, parts: int) -> list[pa.RecordBatch]:
    return [batch for path in files.paths for batch in _read(files, path, part, parts)]


def _read(files: KeyFiles, path: str, part: int, parts: int) -> Iterator[pa.RecordBatch]:
    columns = list(files.columns)
    with Storage(files.storage).open(path) as stream:
        metadata = pq.read_metadata(stream)
        file = pq.ParquetFile(stream, metadata=metadata, pre_buffer=False)
        for group in range(metadata.num_row_groups):
            fetch(stream, partial(chunk_ranges, metadata, [group], columns))
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                yield _select_part(complete_rows(_to_canonical_types(batch.select(columns))), files.hash, part, parts)


def _to_canonical_types(batch: pa.RecordBatch) -> pa.Table:
    arrays = [
        column if (kind := canonical_type(column.type)).equals(column.type) else pc.cast(column, kind)
        for column in batch.columns
    ]
    return pa.Table.from_arrays(arrays, names=batch.schema.names)


def _select_part(keys: pa.Table, scheme: str, part: int, parts: int) -> pa.RecordBatch:
    if parts > 1:
        # Use the other hash: all keys of a bucket share bits of the bucket hash.
        other = "hive_v1" if scheme == "spark" else "spark"
        keys = keys.filter(pa.array(key_buckets(keys.columns, other, parts) == part))
    return keys.combine_chunks().to_batches()[0] if keys.num_rows else _empty(keys)


def _empty(keys: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in keys.schema], schema=keys.schema)
