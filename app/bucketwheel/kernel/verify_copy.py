"""Verify the files of a table that a SQL engine wrote: every key must be in the bucket of its file name.

The check relies on the files alone, not on the engine. If rows are in the wrong bucket, or a file has the name of
another bucket, readers silently miss those rows in look-ups and joins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.errors import VerificationError
from bucketwheel.kernel.arrow_types import canonical_type
from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.layout import buckets_of_files
from bucketwheel.kernel.scatter import chunk_ranges
from bucketwheel.kernel.verify import check_buckets
from bucketwheel.storage import Entry, Storage, fetch


@dataclass(frozen=True)
class ExpectedKeys:
    """The expected layout of the keys of a copy.

    Attributes:
        types: Arrow type of each key column by its name in the files, in the order of hashing.
        bucket_count: number of buckets; 0 for a layout without buckets.
        hash: bucket hash.
    """

    types: Mapping[str, pa.DataType]
    bucket_count: int
    hash: str


def verify_copy(
    storage: Storage, directory: str, keys: ExpectedKeys, on_row_group: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Verify the visible files of a directory; return their number of rows and the checksum of their keys.

    Args:
        storage: access to the files.
        directory: location of the table.
        keys: expected layout.
        on_row_group: called before each row group; may raise an exception to stop.

    Raises:
        VerificationError: a file cannot be read, has no bucket number in its name, or has a row of another bucket;
            the message names file, row and bucket.
    """
    files = [entry for entry in storage.list(directory) if not entry.name.startswith(("_", "."))]
    buckets = _buckets(directory, files, keys)
    rows, checksum = 0, 0
    for entry in files:
        read = 0
        for columns in _key_columns(storage, entry.location, keys.types, on_row_group):
            if (bucket := buckets.get(entry.name)) is not None:
                label = f"{entry.location}: bucket {bucket}"
                check_buckets(label, columns, bucket, keys.bucket_count, keys.hash, first_row=read)
            checksum = add(checksum, key_checksum(columns))
            read += len(columns[0])
        rows += read
    return rows, checksum


def _buckets(directory: str, files: Sequence[Entry], keys: ExpectedKeys) -> dict[str, int]:
    for entry in files:
        if entry.is_directory:
            raise VerificationError(f"{entry.location}: directory in a bucketed table, which readers reject")
    if not keys.bucket_count:
        return {}
    return buckets_of_files(directory, [entry.name for entry in files], keys.bucket_count, keys.hash)


def _key_columns(
    storage: Storage, path: str, types: Mapping[str, pa.DataType], on_row_group: Callable[[], None]
) -> Iterator[list[pa.ChunkedArray]]:
    """Yield the key columns of each row group, cast to `types`."""
    names = list(types)
    try:
        with storage.open(path) as stream:
            metadata = pq.read_metadata(stream)
            file = pq.ParquetFile(stream, metadata=metadata, pre_buffer=False)
            for group in range(metadata.num_row_groups):
                on_row_group()
                fetch(stream, partial(chunk_ranges, metadata, [group], names))
                read = file.read_row_group(group, columns=names, use_threads=False)
                # A file can have a less specific type than the catalog, such as a wider integer.
                yield [_cast(path, name, read[name], canonical_type(kind)) for name, kind in types.items()]
    except MemoryError:
        raise  # Also an ArrowException, but not a fault of the file.
    except (pa.ArrowException, OSError, KeyError) as error:
        raise VerificationError(f"{path}: the keys cannot be read back: {error}") from error


def _cast(path: str, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        # Arrow's message quotes the value, which is a key.
        raise VerificationError(
            f"{path}: column {name!r} is {column.type} and has a value that is no {kind}"
        ) from None
