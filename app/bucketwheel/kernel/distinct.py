"""Count distinct values from 64-bit hashes: exactly, or from the smallest hashes only.

The estimate is that of k minimum values: if the hashes of n values are spread evenly, the k-th smallest hash tells n.
Its relative standard error is 1 / sqrt(k - 2), which is 2.2 % for k = 2,048; with fewer values, the count is exact.
Sketch libraries for Python take one value per call, which costs more than the rest of a run; these functions work on
arrays.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.kernel.checksum import finalized

Hashes = npt.NDArray[np.uint64]

# Hashes to keep of a column whose distinct values are estimated.
KEPT_HASHES = 2048
# A column that is counted exactly and has more values is estimated after all.
_MOST_HASHES = 2**18
_ALL = 2.0**64
# Smallest hashes to sort of a large array, as a multiple of those to keep.
_SURPLUS = 2
_WORD = 8
# Longer values are hashed one by one: each word is a pass over all values that have it.
_LONGEST = 256
# Keeps the first bytes of a word, by their number.
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], np.uint64)
_BLOCK_ROWS = 1 << 16


class DistinctValues:
    """Hashes of the values of a column: all of them, or the smallest `KEPT_HASHES`.

    Args:
        exact: keep every hash, for columns with few values; beyond 2^18, only the smallest are kept.
    """

    def __init__(self, exact: bool) -> None:
        self._limit = None if exact else KEPT_HASHES
        self._hashes: Hashes = np.empty(0, np.uint64)

    def add(self, hashes: Hashes) -> None:
        """Add the hashes of some values, which may repeat."""
        if self._limit is not None:
            hashes = self._smallest(hashes, self._limit)
        if len(hashes):
            self._hashes = _distinct(np.concatenate((self._hashes, hashes)))
            if len(self._hashes) > _MOST_HASHES:
                self._limit = KEPT_HASHES
            self._hashes = self._hashes[: self._limit]

    def _smallest(self, hashes: Hashes, limit: int) -> Hashes:
        """Return a part of the hashes that has all that are to be kept."""
        if len(self._hashes) == limit:
            smaller: Hashes = hashes[hashes < self._hashes[-1]]
            return smaller
        share = _SURPLUS * limit / max(len(hashes), 1)
        if share < 1:
            # Sorting fewer is faster. If values repeat, these are too few.
            few = _distinct(hashes[hashes < np.uint64(share * _ALL)])
            return few if len(few) >= limit else np.asarray(pc.unique(pa.array(hashes)))
        return hashes

    def merge(self, other: DistinctValues) -> None:
        """Add the values of another part of the column; an estimate makes the sum an estimate."""
        if other._limit is not None:
            self._limit = other._limit
        self.add(other._hashes)
        self._hashes = self._hashes[: self._limit]

    def count(self) -> tuple[int, bool]:
        """Return the number of distinct values, and whether it is exact."""
        kept = len(self._hashes)
        if self._limit is None or kept < self._limit:
            return kept, True
        return round((kept - 1) * _ALL / (float(self._hashes[-1]) + 1)), False


def _distinct(hashes: Hashes) -> Hashes:
    """Return the distinct hashes in ascending order; `np.unique` takes ten times as long if most are distinct."""
    hashes = np.sort(hashes)
    first = np.ones(len(hashes), np.bool_)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    return hashes[first]


def hash_values(values: pa.Array) -> Hashes:
    """Return a 64-bit hash of every value; the array has no NULLs and is not nested."""
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        # -0.0 equals 0.0, and every NaN counts as the same value.
        numbers = numbers + 0.0
        unknown = np.isnan(numbers)
        if unknown.any():
            numbers[unknown] = np.nan
        return _mixed(numbers.view(np.uint64))
    if pa.types.is_decimal(kind):
        words = np.frombuffer(values.buffers()[1], np.uint64).reshape(-1, kind.byte_width // _WORD)
        words = words[values.offset : values.offset + len(values)]
        hashes = np.zeros(len(values), np.uint64)
        for column in words.T:
            hashes = _mixed(hashes ^ column)
        return hashes
    if pa.types.is_fixed_size_binary(kind):
        values = values.cast(pa.binary())
    if is_text(values.type):
        offsets, data = text_buffers(values)
        blocks = range(0, len(values), _BLOCK_ROWS)
        parts = [_hash_texts(offsets[start : start + _BLOCK_ROWS + 1], data) for start in blocks]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    # Values of uint64 beyond the signed range keep their bits.
    numbers = values if pa.types.is_integer(kind) and not pa.types.is_uint64(kind) else values.view(width)
    return _mixed(numbers.cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64))


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of the type have lengths of their own: text and binary."""
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def text_buffers(values: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return offsets and bytes of text or binary values."""
    if not len(values):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    wide = values.type in (pa.large_string(), pa.large_binary())
    _, positions, data = values.buffers()
    offsets = np.frombuffer(positions, np.int64 if wide else np.int32)
    selected = offsets[values.offset : values.offset + len(values) + 1].astype(np.int64)
    return selected, np.frombuffer(data or b"", np.uint8)


def _hash_texts(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> Hashes:
    lengths = np.diff(offsets)
    hashes = _mixed(lengths.astype(np.uint64))
    start, end = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(end - start + _WORD, np.uint8)
    padded[: end - start] = data[start:end]
    words = np.lib.stride_tricks.as_strided(padded.view(np.uint8)[:_WORD].view(np.uint64), (end - start + 1,), (1,))
    firsts = offsets[:-1] - start
    rows = np.flatnonzero((lengths > 0) & (lengths <= _LONGEST))
    position = 0
    while len(rows):
        left = lengths[rows] - position
        word = words[firsts[rows] + position] & _MASKS[np.minimum(left, _WORD)]
        hashes[rows] = _mixed(hashes[rows] ^ word)
        rows = rows[left > _WORD]
        position += _WORD
    for row in np.flatnonzero(lengths > _LONGEST).tolist():
        content = padded[firsts[row] : firsts[row] + lengths[row]].tobytes()
        hashes[row] = int.from_bytes(blake2b(content, digest_size=_WORD).digest(), "little")
    return hashes


def _mixed(numbers: Hashes) -> Hashes:
    """Return the numbers scattered by the finalizer of SplitMix64, which maps no two numbers to the same."""
    # Otherwise 0 stays 0, and the hash of a text would not depend on leading zero bytes.
    return finalized(numbers + np.uint64(0x9E3779B97F4A7C15))
