"""Compute an order-independent checksum of keys, which compares sets of keys without sorting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.kernel.hashing import hash_keys

_MASK = 2**64 - 1


def key_checksum(columns: Sequence[pa.Array | pa.ChunkedArray]) -> int:
    """Return the sum of the row hashes modulo 2^64; the checksum of a whole is the sum of those of its parts."""
    return total(row_hashes(columns))


def row_hashes(columns: Sequence[pa.Array | pa.ChunkedArray]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of every row.

    It concatenates the 32-bit hashes of Hive (polynomial) and Spark (Murmur3), whose collisions are independent,
    and mixes the result with the finalizer of SplitMix64.
    """
    high = hash_keys(columns, "hive_v1").view(np.uint32).astype(np.uint64)
    low = hash_keys(columns, "spark").view(np.uint32).astype(np.uint64)
    return finalized((high << np.uint64(32)) | low)


def finalized(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter the bits of the numbers in place by the finalizer of SplitMix64; return the array."""
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def total(hashes: npt.NDArray[np.uint64]) -> int:
    """Return the checksum of the rows with these hashes."""
    return int(np.add.reduce(hashes, dtype=np.uint64))


def add(one: int, other: int) -> int:
    """Return the checksum of the union of two disjoint parts."""
    return (one + other) & _MASK
