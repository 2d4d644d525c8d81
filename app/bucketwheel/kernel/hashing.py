"""Hash bucket keys as the readers of the files do: Hive v1, Hive v2, Spark or Iceberg.

Readers miss rows in a wrong bucket, so the hashes must match bit for bit. They follow the rules of Hive
(``ObjectInspectorUtils``, ``Murmur3``), Trino (``HiveBucketingV1``, ``HiveBucketingV2``) and Spark
(``Murmur3_x86_32``), in ``uint32`` arithmetic, which wraps around like Java's ``int``. Iceberg's hash is in
`iceberg_hash.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.errors import ConfigError, SchemaError
from bucketwheel.kernel.iceberg_hash import iceberg_hashes, iceberg_key_type
from bucketwheel.kernel.murmur import (
    BLOCK_ROWS,
    Bytes,
    Hashes,
    Offsets,
    at_position,
    finish,
    mix,
    murmur_strings,
    scramble,
    stable_order,
    text,
    without_views,
)

__all__ = ["SCHEMES", "bucket_numbers", "hash_keys", "key_buckets", "key_type_name", "stable_order"]

SCHEMES: tuple[str, ...] = ("hive_v1", "hive_v2", "spark", "iceberg")

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
_WINDOW_BYTES = 1 << 18

# Strings of one length are hashed faster byte by byte than by a running sum: this many, up to this length.
_MANY_ROWS, _SHORT = 2048, 64

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
    each column with the hash so far, at first 42, and skips NULL. Iceberg has no hash of several columns, and none of
    NULL, which gets 0 here. Arrow's null type counts as all NULL.

    Args:
        columns: Key columns of equal length, in the order of ``CLUSTERED BY``.
        scheme: One of ``SCHEMES``.
        types: Hive type name per column, for tables that declare ``varchar`` or ``varchar(n)``: Hive v1 hashes
            ``varchar`` and ``string`` differently, Arrow has strings only. Values are not truncated to ``n``.

    Returns:
        One signed 32-bit hash per row, as Java computes it.

    Raises:
        ConfigError: The scheme is unknown, or is `iceberg` and there are several columns.
        SchemaError: The type of a column has no bucket hash, or does not match ``types``.
        ValueError: There are no columns, their lengths differ, or ``types`` has another length.
    """
    _check_scheme(scheme)
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1 or (types is not None and len(types) != len(columns)):
        raise ValueError(f"Key columns must match in length and number; got lengths {lengths}, types {types}")
    if scheme == "iceberg":
        return _iceberg(columns)
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

    Hive, Trino, Athena and Iceberg clear the sign bit and take the remainder; Spark takes the non-negative remainder
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
    """Return the bucket number of every row's key: ``bucket_numbers`` of ``hash_keys``, with their errors.

    In Iceberg, the bucket of NULL is NULL; its number here is ``count``, one more than the last bucket.
    """
    numbers = bucket_numbers(hash_keys(columns, scheme), count, scheme)
    if scheme == "iceberg" and columns[0].null_count:
        numbers[columns[0].is_null().to_numpy(zero_copy_only=False)] = count
    return numbers


def _iceberg(columns: Sequence[pa.Array | pa.ChunkedArray]) -> npt.NDArray[np.int32]:
    if len(columns) > 1:
        raise ConfigError(f"Iceberg buckets have one key column, not {len(columns)}; choose one of them as the key")
    kind = columns[0].type
    if not pa.types.is_null(kind) and iceberg_key_type(kind) is None:
        raise SchemaError(
            f"A key of type {kind} has no bucket hash in Iceberg; cast it to int, long, string, date, decimal, uuid, "
            "binary, or a time or timestamp in microseconds"
        )
    return iceberg_hashes(columns[0]).view(np.int32)


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


def _fold(chunk: pa.Array, name: str, scheme: str, hashes: Hashes, *, first: bool) -> None:
    """Add one chunk of a key column to the hashes of its rows, in place."""
    values = by_value = None
    if pa.types.is_dictionary(chunk.type):
        values = without_views(chunk.dictionary) if name in _TEXT else chunk.dictionary
        # Spark seeds later columns with each row's hash so far, so their values have no hash of their own.
        if (first or scheme != "spark") and len(values) <= len(chunk):
            value_hashes = np.full(len(values), _INITIAL[scheme], np.uint32)
            _fold(values, name, scheme, value_hashes, first=True)
            by_value = pa.array(value_hashes)
    for start in range(0, len(chunk), BLOCK_ROWS):
        block = chunk.slice(start, BLOCK_ROWS)
        target = hashes[start : start + len(block)]
        null_hashes = target if scheme == "spark" else np.zeros_like(target)
        if by_value is not None:
            column = by_value.take(block.indices).fill_null(_INITIAL[scheme]).to_numpy()
        else:
            column = _hash(block if values is None else values.take(block.indices), name, scheme, null_hashes)
        target[:] = column if scheme == "spark" else target * np.uint32(31) + column


def _hash(block: pa.Array, name: str, scheme: str, null_hashes: Hashes) -> Hashes:
    """Hash a block of one column; NULL gets the value in ``null_hashes``, which are also the seeds for Spark."""
    if name == "null":
        return null_hashes
    seeds = null_hashes.copy() if scheme == "spark" else np.full(len(block), _HIVE_SEED, np.uint32)
    if name not in _TEXT:
        values = block.cast(_STORED.get(name, block.type)).fill_null(0).to_numpy()
        column = _hash_numbers(values, name, scheme, seeds)
    elif scheme == "hive_v1":
        column = _hash_java_strings(*text(block), initial=1 if name == "varchar" else 0)
    else:
        column = murmur_strings(*text(block), scheme, seeds)
    if block.null_count:
        np.copyto(column, null_hashes, where=block.is_null().to_numpy(zero_copy_only=False))
    return column


def _hash_numbers(values: npt.NDArray[np.signedinteger], name: str, scheme: str, seeds: Hashes) -> Hashes:
    """Hash integers, booleans and dates; only Murmur3 uses the seeds, and overwrites them."""
    words = [(values >> shift).astype(np.uint32) for shift in ((0, 32) if name == "bigint" else (0,))]
    if scheme == "hive_v1" or (scheme == "hive_v2" and name in ("boolean", "tinyint")):
        return words[0] if len(words) == 1 else words[0] ^ words[1]
    if scheme == "hive_v2":
        if name == "smallint":
            # Two bytes, high byte first, form a tail, not a word; each byte of a tail is sign-extended.
            low = values.astype(np.int8).astype(np.uint32)
            return finish(seeds ^ scramble((values >> 8).astype(np.uint32) ^ low << np.uint32(8)), 2)
        # Hive serializes numbers high byte first, but its Murmur3 reads words low byte first.
        words = [word.byteswap() for word in reversed(words)]
    for word in words:
        mix(seeds, word)
    return finish(seeds, 4 * len(words))


def _hash_java_strings(data: Bytes, offsets: Offsets, initial: int) -> Hashes:
    """Compute ``hash = 31 * hash + byte`` over the signed bytes of each string.

    Many short strings of one length, such as most keys, are hashed a byte position at a time. For others, 31 has an
    inverse modulo 2**32. Each byte is divided by the power of its position, so that one running sum
    serves all strings: the contribution of a string is the difference of the sums at its ends, times the power of
    its end. A string can span several windows, so memory is limited to one window.
    """
    hashes = np.full(len(offsets) - 1, initial, np.uint32)
    lengths = np.diff(offsets)
    if len(hashes) >= _MANY_ROWS and lengths.min() == lengths.max() <= _SHORT:
        for position in range(int(lengths[0])):
            hashes *= np.uint32(31)
            hashes += at_position(data, offsets, position, np.int8).astype(np.uint32)
        return hashes
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
