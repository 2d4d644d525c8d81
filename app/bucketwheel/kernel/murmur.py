"""Murmur3 (x86, 32 bits) of many values at once, in ``uint32`` arithmetic, which wraps around like Java's ``int``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

# Small enough that the temporary arrays of a step fit into the processor's cache.
BLOCK_ROWS = 1 << 16
# If at most this many strings are longer than this many words, Python integers hash the rest faster than numpy.
_FEW = 64


def stable_order(numbers: npt.NDArray[np.integer[Any]], limit: int) -> npt.NDArray[np.int64]:
    """Return the stable permutation that sorts numbers from 0 to ``limit - 1``, such as bucket numbers.

    NumPy's stable sort of 16-bit integers is a radix sort, which takes linear time.
    """
    return np.argsort(numbers.astype(np.uint16) if limit <= 1 << 16 else numbers, kind="stable")


def murmur_strings(data: Bytes, offsets: Offsets, scheme: str, hashes: Hashes) -> Hashes:
    """Hash strings by Murmur3 and overwrite their seeds; each step mixes the next word of all rows that have one.

    Up to three bytes follow the last full word. Standard Murmur3, which Iceberg uses, joins them to one word. Hive
    and Spark sign-extend them first: Hive's ``Murmur3.hash32`` joins them likewise, Spark's ``hashUnsafeBytes`` mixes
    in each as a word.
    """
    lengths = np.diff(offsets)
    if len(lengths) > _FEW and lengths.min() == lengths.max():
        return _murmur_equal_lengths(data, offsets, scheme, hashes)
    negated = -(lengths >> 2)
    least = int(negated.min())
    order = stable_order(negated - least, 1 - least)
    negated, starts, states = negated[order], offsets[:-1][order], hashes[order]
    words = np.ndarray((max(len(data) - 3, 0),), "<u4", data, strides=(1,))
    rows = len(negated)
    for position in range(-int(negated[0])):
        rows = int(np.searchsorted(negated[:rows], -position))
        if rows <= _FEW < position:
            for row in range(rows):
                rest = words[starts[row] + 4 * position : starts[row] - 4 * negated[row] : 4]
                states[row] = _mix_long(int(states[row]), rest)
            break
        mix(states[:rows], words[starts[:rows] + 4 * position])
    hashes[order] = states
    joined = np.zeros_like(hashes)
    for i in range(3):
        tailed = np.flatnonzero((lengths & 3) > i)
        byte = data[offsets[tailed] + (lengths[tailed] & ~3) + i]
        byte = (byte if scheme == "iceberg" else byte.view(np.int8)).astype(np.uint32)
        if scheme == "spark":
            hashes[tailed] = mix(hashes[tailed], byte)
        else:
            joined[tailed] ^= byte << np.uint32(8 * i)
    hashes ^= scramble(joined)
    return finish(hashes, lengths.astype(np.uint32))


def _murmur_equal_lengths(data: Bytes, offsets: Offsets, scheme: str, hashes: Hashes) -> Hashes:
    """Hash strings of equal lengths, as most keys are: all rows have every word, so they need no order."""
    length = int(offsets[1] - offsets[0])
    end = length & ~3
    for position in range(0, end, 4):
        mix(hashes, at_position(data, offsets, position, "<u4").astype(np.uint32))
    joined = np.zeros_like(hashes)
    for position in range(end, length):
        byte = at_position(data, offsets, position, np.uint8 if scheme == "iceberg" else np.int8).astype(np.uint32)
        if scheme == "spark":
            mix(hashes, byte)
        else:
            joined ^= byte << np.uint32(8 * (position - end))
    hashes ^= scramble(joined)
    return finish(hashes, length)


def at_position(data: Bytes, offsets: Offsets, position: int, kind: Any) -> npt.NDArray[Any]:
    """Return a view of the number at a byte position of every string; all strings have the same length."""
    rows, length = len(offsets) - 1, int(offsets[1] - offsets[0])
    return np.ndarray((rows,), kind, data, int(offsets[0]) + position, (length,))


def scramble(words: Hashes) -> Hashes:
    """Return the words as Murmur3 scrambles them before it mixes them into a hash."""
    words = words * np.uint32(0xCC9E2D51)
    return (words << np.uint32(15) | words >> np.uint32(17)) * np.uint32(0x1B873593)


def mix(hashes: Hashes, words: Hashes) -> Hashes:
    """Mix one word into each hash, in place."""
    hashes ^= scramble(words)
    np.bitwise_or(hashes << np.uint32(13), hashes >> np.uint32(19), out=hashes)
    hashes *= np.uint32(5)
    hashes += np.uint32(0xE6546B64)
    return hashes


def _mix_long(state: int, words: Hashes) -> int:
    """Mix the words of one string into its hash; each step depends on the last, so numpy is no faster."""
    for start in range(0, len(words), BLOCK_ROWS):
        for word in scramble(words[start : start + BLOCK_ROWS]).tolist():
            state ^= word
            state = ((state << 13 | state >> 19) * 5 + 0xE6546B64) & 0xFFFFFFFF
    return state


def finish(hashes: Hashes, lengths: Hashes | int) -> Hashes:
    """Apply Murmur3's finalizer in place: mix in the lengths in bytes, then let every bit affect all others."""
    hashes ^= np.uint32(lengths)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= np.uint32(factor)
    hashes ^= hashes >> np.uint32(16)
    return hashes


def text(block: pa.Array) -> tuple[Bytes, Offsets]:
    """Return strings or binary values as bytes and offsets into them, shape (strings + 1,)."""
    block = without_views(block)
    width = np.dtype(np.int32 if block.type in (pa.string(), pa.binary()) else np.int64)
    _, offsets, data = block.buffers()
    offsets = np.frombuffer(offsets, width, len(block) + 1, block.offset * width.itemsize)
    return np.frombuffer(b"" if data is None else data, np.uint8), offsets.astype(np.int64)


def without_views(values: pa.Array) -> pa.Array:
    """Return views of strings or binary values as such values, and other arrays unchanged."""
    kind = {"string_view": pa.large_string(), "binary_view": pa.large_binary()}.get(str(values.type))
    if kind is None:
        return values
    try:
        return values.cast(kind)
    except pa.ArrowNotImplementedError:
        # pyarrow 17 reads views but cannot cast them.
        return pa.array(values.to_numpy(zero_copy_only=False), kind)
