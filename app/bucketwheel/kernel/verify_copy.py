"""Read back the keys of a table that a SQL engine wrote: every one in the bucket that readers take its file for.

Nothing is taken from the engine but the files. Where buckets are not of this hash, or a file has a name that means
another bucket, engines answer look-ups and joins without those rows, and without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.errors import VerificationError
from bucketwheel.kernel.arrow_types import plain_type
from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.layout import buckets_of_files
from bucketwheel.kernel.scatter import chunk_ranges
from bucketwheel.kernel.verify import check_buckets
from bucketwheel.storage import Entry, Storage, fetch


@dataclass(frozen=True)
class CopiedKeys:
    """What the keys of a copy have to be.

    Attributes:
        types: Arrow type of each key column, by its name in the files, in the order in which rows were hashed.
        bucket_count: number of buckets; 0 for a layout without.
        hash: the scheme by which rows were to be placed.
    """

    types: Mapping[str, pa.DataType]
    bucket_count: int
    hash: str


def read_copied_keys(
    storage: Storage, directory: str, keys: CopiedKeys, go_on: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Return how many rows are in the files of a directory that readers see, and the checksum of their keys.

    Args:
        storage: how files are reached.
        directory: where the table is.
        keys: see there.
        go_on: called before each row group; may raise to end early.

    Raises:
        VerificationError: a file cannot be read, has a name that means no bucket, or a row of another bucket; names
            file, row and bucket.
    """
    files = [entry for entry in storage.list(directory) if not entry.name.startswith(("_", "."))]
    buckets = _buckets(directory, files, keys)
    rows, checksum = 0, 0
    for entry in files:
        read = 0
        for columns in _key_columns(storage, entry.location, keys.types, go_on):
            if (bucket := buckets.get(entry.name)) is not None:
                place = f"{entry.location}: bucket {bucket}"
                check_buckets(place, columns, bucket, keys.bucket_count, keys.hash, first_row=read)
            checksum = add(checksum, key_checksum(columns))
            read += len(columns[0])
        rows += read
    return rows, checksum


def _buckets(directory: str, files: Sequence[Entry], keys: CopiedKeys) -> dict[str, int]:
    for entry in files:
        if entry.is_directory:
            raise VerificationError(f"{entry.location}: is a directory, which readers refuse in a bucketed table")
    if not keys.bucket_count:
        return {}
    return buckets_of_files(directory, [entry.name for entry in files], keys.bucket_count, keys.hash)


def _key_columns(
    storage: Storage, path: str, types: Mapping[str, pa.DataType], go_on: Callable[[], None]
) -> Iterator[list[pa.ChunkedArray]]:
    """Yield the key columns of one row group after the other, in the types that were asked for."""
    names = list(types)
    try:
        with storage.open(path) as stream:
            metadata = pq.read_metadata(stream)
            file = pq.ParquetFile(stream, metadata=metadata, pre_buffer=False)
            for group in range(metadata.num_row_groups):
                go_on()
                fetch(stream, partial(chunk_ranges, metadata, [group], names))
                read = file.read_row_group(group, columns=names, use_threads=False)
                # An engine may note less of a type than its catalog has, such as an integer's width.
                yield [read[name].cast(plain_type(kind)) for name, kind in types.items()]
    except MemoryError:
        raise  # One of Arrow's own errors too, and no fault of the file.
    except (pa.ArrowException, OSError, KeyError) as error:
        raise VerificationError(f"{path}: the keys cannot be read back: {error}") from error
