"""Tables that Bucketwheel would never publish: tests show Trino files of refused runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.kernel import gather, scatter
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys
from project import Result

from .lake import Lake
from .on_disk import DiskProject, hive_types, show

Hash = Callable[[Sequence[pa.ChunkedArray], str], npt.NDArray[np.int32]]


@contextmanager
def hashed_by(wrong: Hash) -> Iterator[None]:
    """Bucket rows by another hash; `verify` still uses the correct one."""

    def buckets(columns: Sequence[pa.ChunkedArray], scheme: str, count: int) -> npt.NDArray[np.int32]:
        return bucket_numbers(wrong(columns, scheme), count, scheme)

    with mock.patch.object(scatter, "key_buckets", buckets), mock.patch.object(gather, "key_buckets", buckets):
        yield


def by_bytes(function: Callable[[bytes], int]) -> Hash:
    """Return a hash of one text column that hashes the bytes of each value; NULL has hash 0, as in Hive."""

    def hashes(columns: Sequence[pa.ChunkedArray], _: str) -> npt.NDArray[np.int32]:
        (column,) = columns
        numbers = [0 if text is None else function(text.encode()) for text in column.to_pylist()]
        return np.array(numbers, np.uint32).view(np.int32)

    return hashes


def unsigned_bytes(data: bytes) -> int:
    result = 0
    for byte in data:
        result = (31 * result + byte) % 2**32
    return result


def standard_murmur3(data: bytes) -> int:
    """Return standard Murmur3 with Hive's seed; Hive differs, because it sign-extends the last bytes."""
    state, full = 104729, len(data) - len(data) % 4
    for start in range(0, full, 4):
        state ^= _scrambled(int.from_bytes(data[start : start + 4], "little"))
        state = ((state << 13 | state >> 19) * 5 + 0xE6546B64) % 2**32
    state ^= _scrambled(int.from_bytes(data[full:], "little")) ^ len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ state >> shift) * factor % 2**32
    return state ^ state >> 16


def _scrambled(word: int) -> int:
    word = word * 0xCC9E2D51 % 2**32
    return (word << 15 | word >> 17) * 0x1B873593 % 2**32


def int_as_bigint(columns: Sequence[pa.ChunkedArray], scheme: str) -> npt.NDArray[np.int32]:
    return hash_keys([column.cast(pa.int64()) for column in columns], scheme)


def refused(lake: Lake, name: str, rows: pa.Table, key: str, **buckets: Any) -> tuple[str, Result]:
    """Write a table that `verify` must refuse, define it in Trino, and return its name."""
    project = DiskProject(lake, name, rows, [key], buckets)
    result = project.cli("run", name)
    return show(lake, name, hive_types(rows.schema), project.location(), [key], **buckets), result
