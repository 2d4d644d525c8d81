"""Which keys of one bucket two runs share.

Both runs put a key into the same bucket, so bucket n of one has to be compared with bucket n of the other alone.
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

from bucketwheel.kernel.arrow_types import large_type, plain_type
from bucketwheel.kernel.hashing import hash_keys
from bucketwheel.kernel.keys import complete_rows
from bucketwheel.kernel.scatter import chunk_ranges
from bucketwheel.runs.drift_records import KeyCounts
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, fetch

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class KeyFiles:
    """The files of one table of one bucket, and the names of the key columns in them; `hash` placed the rows."""

    storage: StorageSettings
    paths: tuple[str, ...]
    columns: tuple[str, ...]
    hash: str


def compare_bucket(now: KeyFiles, before: KeyFiles, parts: int) -> KeyCounts:
    """Count the distinct keys that are in both, only in `now`, only in `before`; a key with a NULL is none.

    Args:
        now: files of this run.
        before: files of the other, of the same bucket, with keys of the same types.
        parts: in how many parts the keys are compared, one after the other; each reads the files again, and takes
            memory for its share of the keys.

    Raises:
        StorageError: a file cannot be opened.
        OSError, pa.ArrowException: a file cannot be read.
    """
    counts = [overlap(_keys(now, part, parts), _keys(before, part, parts)) for part in range(parts)]
    return KeyCounts(*map(sum, zip(*counts, strict=True)))


def overlap(now: list[pa.RecordBatch], before: list[pa.RecordBatch]) -> KeyCounts:
    """Count the distinct rows of two lists of batches; rows have no NULL, columns are in the same order."""
    rows = sum(batch.num_rows for batch in now)
    batches = [batch for batch in (*now, *before) if batch.num_rows]
    if not batches:
        return KeyCounts(0, 0, 0)
    codes, distinct = _codes([batch.column(0) for batch in batches])
    for number in range(1, batches[0].num_columns):
        further, count = _codes([batch.column(number) for batch in batches])
        # No code is larger than the number of rows, so that this fits into 64 bits.
        pairs = codes.astype(np.int64) * count + further
        distinct_pairs, codes = np.unique(pairs, return_inverse=True)
        distinct = len(distinct_pairs)
    in_now, in_before = np.zeros((2, distinct), bool)
    in_now[codes[:rows]] = True
    in_before[codes[rows:]] = True
    both = int(np.count_nonzero(in_now & in_before))
    return KeyCounts(both, int(np.count_nonzero(in_now)) - both, int(np.count_nonzero(in_before)) - both)


def _codes(arrays: list[pa.Array]) -> tuple[npt.NDArray[np.int32], int]:
    """Return a number for each value, the same for the same value, and how many there are."""
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
                yield _own(complete_rows(_plain(batch.select(columns))), files.hash, part, parts)


def _plain(batch: pa.RecordBatch) -> pa.Table:
    arrays = [
        column if (plain := plain_type(column.type)).equals(column.type) else pc.cast(column, plain)
        for column in batch.columns
    ]
    return pa.Table.from_arrays(arrays, names=batch.schema.names)


def _own(keys: pa.Table, scheme: str, part: int, parts: int) -> pa.RecordBatch:
    if parts > 1:
        # By the other hash: that of the buckets has gone into the choice of this one.
        hashes = hash_keys(keys.columns, "hive_v1" if scheme == "spark" else "spark").view(np.uint32)
        keys = keys.filter(pa.array(hashes % parts == part))
    return keys.combine_chunks().to_batches()[0] if keys.num_rows else _empty(keys)


def _empty(keys: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in keys.schema], schema=keys.schema)
