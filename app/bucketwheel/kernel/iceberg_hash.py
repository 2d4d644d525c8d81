"""Hash values as Iceberg's bucket transform does: Murmur3 (x86, 32 bits) with seed 0.

The rules are those of appendix B of the Iceberg specification. Integers, dates, times and timestamps are hashed as 8
bytes, so that widening a column keeps its buckets; timestamps and times count microseconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.kernel.arrow_types import canonical_type
from bucketwheel.kernel.murmur import BLOCK_ROWS, Bytes, Hashes, Offsets, finish, mix, murmur_strings, text

_INTEGERS = {
    **dict.fromkeys((pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()), "int"),
    **dict.fromkeys((pa.int64(), pa.uint32()), "long"),
    **dict.fromkeys((pa.date32(), pa.date64()), "date"),
}
_MICROS = "us"
_UNITS = ("s", "ms", "us")


def iceberg_key_type(kind: pa.DataType) -> str | None:
    """Return the Iceberg type by which a key column is hashed, or None if Iceberg has no bucket of this type."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = kind.extension_name == "arrow.uuid"
        return "uuid" if is_uuid else iceberg_key_type(kind.storage_type)
    kind = canonical_type(kind)
    if types.is_string(kind) or types.is_large_string(kind):
        return "string"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "binary"
    if types.is_fixed_size_binary(kind):
        return "fixed"
    if types.is_decimal(kind) and kind.bit_width <= 128:
        return "decimal"
    if types.is_timestamp(kind) and kind.unit in _UNITS:
        return "timestamp" if kind.tz is None else "timestamptz"
    return "time" if types.is_time(kind) and kind.unit in _UNITS else _INTEGERS.get(kind)


def iceberg_hashes(column: pa.Array | pa.ChunkedArray) -> Hashes:
    """Return the hash of every value of a key column; NULL, which has none, gets 0."""
    hashes = np.zeros(len(column), np.uint32)
    start = 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        _fill(chunk, hashes[start : start + len(chunk)])
        start += len(chunk)
    return hashes


def _fill(chunk: pa.Array, hashes: Hashes) -> None:
    by_value = None
    if isinstance(chunk.type, pa.BaseExtensionType):
        chunk = chunk.storage
    if pa.types.is_dictionary(chunk.type) and len(chunk.dictionary) <= len(chunk):
        by_value = pa.array(iceberg_hashes(chunk.dictionary))
    for start in range(0, len(chunk), BLOCK_ROWS):
        block = chunk.slice(start, BLOCK_ROWS)
        target = hashes[start : start + len(block)]
        if by_value is not None:
            target[:] = by_value.take(block.indices).fill_null(0).to_numpy()
            continue
        if pa.types.is_dictionary(block.type):
            block = block.dictionary.take(block.indices)
        if pa.types.is_null(block.type):
            continue
        target[:] = _hash(block)
        if block.null_count:
            target[block.is_null().to_numpy(zero_copy_only=False)] = 0


def _hash(block: pa.Array) -> Hashes:
    name = iceberg_key_type(block.type)
    if name in ("string", "binary", "fixed"):
        return _hash_bytes(*text(pc.cast(block, pa.binary()) if name == "fixed" else block))
    if name == "decimal":
        return _hash_bytes(*_decimal_bytes(block))
    numbers = _numbers(block)
    hashes = np.zeros(len(numbers), np.uint32)
    for shift in (0, 32):
        mix(hashes, (numbers >> shift).astype(np.uint32))
    return finish(hashes, 8)


def _hash_bytes(data: Bytes, offsets: Offsets) -> Hashes:
    return murmur_strings(data, offsets, "iceberg", np.zeros(len(offsets) - 1, np.uint32))


def _numbers(block: pa.Array) -> npt.NDArray[np.int64]:
    """Return integers, days or microseconds; NULL gets any number."""
    kind = block.type
    if pa.types.is_timestamp(kind):
        block = block.cast(pa.timestamp(_MICROS, kind.tz))
    elif pa.types.is_time(kind):
        block = block.cast(pa.time64(_MICROS))
    elif pa.types.is_date(kind):
        block = block.cast(pa.date32()).cast(pa.int32())
    numbers: npt.NDArray[np.int64] = block.cast(pa.int64()).fill_null(0).to_numpy()
    return numbers


def _decimal_bytes(block: pa.Array) -> tuple[Bytes, Offsets]:
    """Return the unscaled values as the shortest big-endian two's complement, and their offsets."""
    width = block.type.bit_width // 8
    data = np.frombuffer(block.buffers()[1], np.uint8, len(block) * width, block.offset * width)
    big_endian = data.reshape(-1, width)[:, ::-1]
    sign = np.where(big_endian[:, :1] & 0x80, np.uint8(0xFF), np.uint8(0))
    differs = big_endian != sign
    # The values 0 and -1 have sign bytes only, and keep the last one.
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), width)
    following = big_endian[np.arange(len(block)), np.minimum(first, width - 1)]
    needs_sign = (first == width) | ((following ^ sign[:, 0]) & 0x80 != 0)
    first = first - needs_sign
    kept = np.arange(width) >= first[:, None]
    return big_endian[kept], np.concatenate(([0], np.cumsum(width - first))).astype(np.int64)
