"""Hash bucket keys as the readers of the files do: Hive v1, Hive v2 or Spark.

Readers miss rows in a wrong bucket, so the hashes must match bit for bit. They follow the rules of Hive
(``ObjectInspectorUtils``, ``Murmur3``), Trino (``HiveBucketingV1``, ``HiveBucketingV2``) and Spark
(``Murmur3_x86_32``), in ``uint32`` arithmetic, which wraps around like Java's ``int``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.errors import ConfigError, SchemaError

SCHEMES: tuple[str, ...] = ("hive_v1", "hive_v2", "spark")

_Hashes = npt.NDArray[np.uint32]
_Bytes = npt.NDArray[np.uint8]
_Offsets = npt.NDArray[np.int64]

_NAMES: dict[pa.DataType, str] = {
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), "string"),
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.date32(): "date",
}
_TEXT = ("string", "varchar")
_STORED = {"boolean": pa.int8(), "date": pa.int32()}
_INITIAL = {"hive_v1": 0, "hive_v2": 0, "spark": 42}
_HIVE_SEED = 104729

# Small enough that the temporary arrays of a step fit into the processor's cache.
_BLOCK_ROWS = 1 << 16
_WINDOW_BYTES = 1 << 18
# If at most this many strings are longer than this many words, Python integers hash the rest faster than numpy.
_FEW = 64

# Powers 0 to _WINDOW_BYTES of 31 and of its inverse modulo 2**32.
_POWERS, _INVERSES = np.full((2, _WINDOW_BYTES + 1), [[31], [pow(31, -1, 1 << 32)]], np.uint32)
for _table in (_POWERS, _INVERSES):
    _table[0] = 1
    np.multiply.accumulate(_table, dtype=np.uint32, out=_table)


def key_type_name(t: pa.DataType) -> str | None:
    """Return the name of the Hive type of a key column.

    Args:
        t: Arrow type; for a dictionary type, the type of its values counts.

    Returns:
        The name in the catalog, or None if readers do not bucket by this type or hash it differently.
    """
    return _NAMES.get(t.value_type if pa.types.is_dictionary(t) else t)


def hash_keys(
    columns: Sequence[pa.Array | pa.ChunkedArray], scheme: str, types: Sequence[str] | None = None
) -> npt.NDArray[np.int32]:
    """Return the hash of every row's key, of one or several columns, as readers of ``scheme`` compute it.

    Hive and Trino combine columns by ``31 * hash + column`` with 0 for NULL. Spark's ``Murmur3Hash`` seeds
    each column with the hash so far, at first 42, and skips NULL. Arrow's null type counts as all NULL.

    Args:
        columns: Key columns of equal length, in the order of ``CLUSTERED BY``.
        scheme: One of ``SCHEMES``.
        types: Hive type name per column, for tables that declare ``varchar`` or ``varchar(n)``: Hive v1 hashes
            ``varchar`` and ``string`` differently, Arrow has strings only. Values are not truncated to ``n``.

    Returns:
        One signed 32-bit hash per row, as Java computes it.

    Raises:
        ConfigError: The scheme is unknown.
        SchemaError: The type of a column has no bucket hash, or does not match ``types``.
        ValueError: There are no columns, their lengths differ, or ``types`` has another length.
    """
    _check_scheme(scheme)
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1 or (types is not None and len(types) != len(columns)):
        raise ValueError(f"Key columns must match in length and number; got lengths {lengths}, types {types}")
    names = [_hash_name(column.type, types[i] if types else None) for i, column in enumerate(columns)]
    hashes = np.full(len(columns[0]), _INITIAL[scheme], np.uint32)
    for i, column in enumerate(columns):
        start = 0
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            _fold(chunk, names[i], scheme, hashes[start : start + len(chunk)], first=i == 0)
            start += len(chunk)
    return hashes.view(np.int32)


def bucket_numbers(hashes: npt.NDArray[np.int32], count: int, scheme: str) -> npt.NDArray[np.int32]:
    """Return the bucket number of each hash.

    Hive, Trino and Athena clear the sign bit and take the remainder; Spark takes the non-negative remainder
    of the signed hash. The two differ unless ``count`` is a power of two.

    Args:
        hashes: Hashes as ``hash_keys`` returns them.
        count: Number of buckets.
        scheme: One of ``SCHEMES``.

    Returns:
        One bucket number per hash, from 0 to ``count - 1``.

    Raises:
        ConfigError: The scheme is unknown, or the count is not a positive 32-bit integer.
    """
    _check_scheme(scheme)
    if not 1 <= count < 1 << 31:
        raise ConfigError(f"Bucket count {count} is out of range; choose a count from 1 to {(1 << 31) - 1}")
    return (hashes if scheme == "spark" else hashes & np.int32(0x7FFFFFFF)) % np.int32(count)


def key_buckets(columns: Sequence[pa.Array | pa.ChunkedArray], scheme: str, count: int) -> npt.NDArray[np.int32]:
    """Return the bucket number of every row's key: ``bucket_numbers`` of ``hash_keys``, with their errors."""
    return bucket_numbers(hash_keys(columns, scheme), count, scheme)


def stable_order(numbers: npt.NDArray[np.integer[Any]], limit: int) -> npt.NDArray[np.int64]:
    """Return the stable permutation that sorts numbers from 0 to ``limit - 1``, such as bucket numbers.

    NumPy's stable sort of 16-bit integers is a radix sort, which takes linear time.
    """
    return np.argsort(numbers.astype(np.uint16) if limit <= 1 << 16 else numbers, kind="stable")


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ConfigError(f"Unknown bucket hash {scheme!r}; choose one of {', '.join(SCHEMES)}")


def _hash_name(t: pa.DataType, declared: str | None) -> str:
    if pa.types.is_null(t.value_type if pa.types.is_dictionary(t) else t):
        return "null"
    name = key_type_name(t)
    if name is None:
        supported = ", ".join(sorted({*_NAMES.values(), "varchar"}))
        raise SchemaError(f"A key of type {t} has no bucket hash; cast it to one of {supported}")
    base = name if declared is None else declared.partition("(")[0].strip().lower()
    if base != name and not (base == "varchar" and name == "string"):
        raise SchemaError(f"A key of type {t} cannot be hashed as {declared}; declare it {name} or cast it")
    return base


def _fold(chunk: pa.Array, name: str, scheme: str, hashes: _Hashes, *, first: bool) -> None:
    """Add one chunk of a key column to the hashes of its rows, in place."""
    values = by_value = None
    if pa.types.is_dictionary(chunk.type):
        values = _without_views(chunk.dictionary) if name in _TEXT else chunk.dictionary
        # Spark seeds later columns with each row's hash so far, so their values have no hash of their own.
        if (first or scheme != "spark") and len(values) <= len(chunk):
            value_hashes = np.full(len(values), _INITIAL[scheme], np.uint32)
            _fold(values, name, scheme, value_hashes, first=True)
            by_value = pa.array(value_hashes)
    for start in range(0, len(chunk), _BLOCK_ROWS):
        block = chunk.slice(start, _BLOCK_ROWS)
        target = hashes[start : start + len(block)]
        null_hashes = target if scheme == "spark" else np.zeros_like(target)
        if by_value is not None:
            column = by_value.take(block.indices).fill_null(_INITIAL[scheme]).to_numpy()
        else:
            column = _hash(block if values is None else values.take(block.indices), name, scheme, null_hashes)
        target[:] = column if scheme == "spark" else target * np.uint32(31) + column


def _hash(block: pa.Array, name: str, scheme: str, null_hashes: _Hashes) -> _Hashes:
    """Hash a block of one column; NULL gets the value in ``null_hashes``, which are also the seeds for Spark."""
    if name == "null":
        return null_hashes
    seeds = null_hashes.copy() if scheme == "spark" else np.full(len(block), _HIVE_SEED, np.uint32)
    if name not in _TEXT:
        values = block.cast(_STORED.get(name, block.type)).fill_null(0).to_numpy()
        column = _hash_numbers(values, name, scheme, seeds)
    elif scheme == "hive_v1":
        column = _hash_java_strings(*_text(block), initial=1 if name == "varchar" else 0)
    else:
        column = _murmur_strings(*_text(block), scheme, seeds)
    if block.null_count:
        np.copyto(column, null_hashes, where=block.is_null().to_numpy(zero_copy_only=False))
    return column


def _hash_numbers(values: npt.NDArray[np.signedinteger], name: str, scheme: str, seeds: _Hashes) -> _Hashes:
    """Hash integers, booleans and dates; only Murmur3 uses the seeds, and overwrites them."""
    words = [(values >> shift).astype(np.uint32) for shift in ((0, 32) if name == "bigint" else (0,))]
    if scheme == "hive_v1" or (scheme == "hive_v2" and name in ("boolean", "tinyint")):
        return words[0] if len(words) == 1 else words[0] ^ words[1]
    if scheme == "hive_v2":
        if name == "smallint":
            # Two bytes, high byte first, form a tail, not a word; each byte of a tail is sign-extended.
            low = values.astype(np.int8).astype(np.uint32)
            return _finish(seeds ^ _scramble((values >> 8).astype(np.uint32) ^ low << np.uint32(8)), 2)
        # Hive serializes numbers high byte first, but its Murmur3 reads words low byte first.
        words = [word.byteswap() for word in reversed(words)]
    for word in words:
        _mix(seeds, word)
    return _finish(seeds, 4 * len(words))


def _hash_java_strings(data: _Bytes, offsets: _Offsets, initial: int) -> _Hashes:
    """Compute ``hash = 31 * hash + byte`` over the signed bytes of each string.

    31 has an inverse modulo 2**32. Each byte is divided by the power of its position, so that one running sum
    serves all strings: the contribution of a string is the difference of the sums at its ends, times the power of
    its end. A string can span several windows, so memory is limited to one window.
    """
    hashes = np.full(len(offsets) - 1, initial, np.uint32)
    end = int(offsets[-1])
    sums = np.zeros(min(_WINDOW_BYTES, end - int(offsets[0])) + 1, np.uint32)
    for low in range(int(offsets[0]), end, _WINDOW_BYTES):
        size = min(_WINDOW_BYTES, end - low)
        weighted = data[low : low + size].view(np.int8).astype(np.uint32)
        weighted *= _INVERSES[1 : size + 1]
        np.cumsum(weighted, dtype=np.uint32, out=sums[1 : size + 1])
        first, last = np.searchsorted(offsets, low, "right") - 1, np.searchsorted(offsets, low + size)
        edges = np.clip(offsets[first : last + 1] - low, 0, size)
        rows = hashes[first:last]
        rows *= _POWERS[np.diff(edges)]
        rows += np.diff(sums[edges]) * _POWERS[edges[1:]]
    return hashes


def _murmur_strings(data: _Bytes, offsets: _Offsets, scheme: str, hashes: _Hashes) -> _Hashes:
    """Hash strings by Murmur3 and overwrite their seeds; each step mixes the next word of all rows that have one.

    Up to three bytes follow the last full word. Unlike standard Murmur3, Hive and Spark sign-extend them: Hive's
    ``Murmur3.hash32`` joins them to one word, Spark's ``hashUnsafeBytes`` mixes in each as a word.
    """
    lengths = np.diff(offsets)
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
        _mix(states[:rows], words[starts[:rows] + 4 * position])
    hashes[order] = states
    joined = np.zeros_like(hashes)
    for i in range(3):
        tailed = np.flatnonzero((lengths & 3) > i)
        byte = data[offsets[tailed] + (lengths[tailed] & ~3) + i].view(np.int8).astype(np.uint32)
        if scheme == "spark":
            hashes[tailed] = _mix(hashes[tailed], byte)
        else:
            joined[tailed] ^= byte << np.uint32(8 * i)
    hashes ^= _scramble(joined)
    return _finish(hashes, lengths.astype(np.uint32))


def _scramble(words: _Hashes) -> _Hashes:
    words = words * np.uint32(0xCC9E2D51)
    return (words << np.uint32(15) | words >> np.uint32(17)) * np.uint32(0x1B873593)


def _mix(hashes: _Hashes, words: _Hashes) -> _Hashes:
    """Mix one word into each hash, in place."""
    hashes ^= _scramble(words)
    np.bitwise_or(hashes << np.uint32(13), hashes >> np.uint32(19), out=hashes)
    hashes *= np.uint32(5)
    hashes += np.uint32(0xE6546B64)
    return hashes


def _mix_long(state: int, words: _Hashes) -> int:
    """Mix the words of one string into its hash; each step depends on the last, so numpy is no faster."""
    for start in range(0, len(words), _BLOCK_ROWS):
        for word in _scramble(words[start : start + _BLOCK_ROWS]).tolist():
            state ^= word
            state = ((state << 13 | state >> 19) * 5 + 0xE6546B64) & 0xFFFFFFFF
    return state


def _finish(hashes: _Hashes, lengths: _Hashes | int) -> _Hashes:
    """Apply Murmur3's finalizer in place: mix in the lengths in bytes, then let every bit affect all others."""
    hashes ^= np.uint32(lengths)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= np.uint32(factor)
    hashes ^= hashes >> np.uint32(16)
    return hashes


def _text(block: pa.Array) -> tuple[_Bytes, _Offsets]:
    """Return strings as bytes and offsets into them, shape (strings + 1,)."""
    block = _without_views(block)
    width = np.dtype(np.int32 if pa.types.is_string(block.type) else np.int64)
    _, offsets, data = block.buffers()
    offsets = np.frombuffer(offsets, width, len(block) + 1, block.offset * width.itemsize)
    return np.frombuffer(b"" if data is None else data, np.uint8), offsets.astype(np.int64)


def _without_views(strings: pa.Array) -> pa.Array:
    try:
        return strings.cast(pa.large_string()) if pa.types.is_string_view(strings.type) else strings
    except pa.ArrowNotImplementedError:
        # pyarrow 17 reads string views but cannot cast them.
        return pa.array(strings.to_numpy(zero_copy_only=False), pa.large_string())
