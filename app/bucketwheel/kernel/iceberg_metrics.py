"""Read the statistics of a file's columns from its footer, in the form of an Iceberg manifest.

The rules are those of Iceberg's own writers: text and binary bounds have at most 16 characters or bytes, columns
inside lists and maps have no bounds, and NaN is in no bound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.kernel.iceberg_types import field_id, leaf_fields
from bucketwheel.runs.data_files import FileRow
from bucketwheel.runs.manifest import FileRecord

_BOUND_LENGTH = 16
_FORMATS = {
    pa.int32(): "<i",
    pa.date32(): "<i",
    pa.int64(): "<q",
    pa.time64("us"): "<q",
    pa.float32(): "<f",
    pa.float64(): "<d",
}
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def file_row(record: FileRecord, bucket: int, footer: pq.FileMetaData, schema: pa.Schema) -> FileRow:
    """Return the row of one file; `schema` is that of the files, with field ids."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    columns = [
        _column([group.column(leaf) for group in groups], field, repeated)
        for leaf, (field, repeated) in enumerate(leaf_fields(schema))
    ]
    ids, sizes, values, nulls, lower, upper = zip(*columns, strict=True)
    return {
        **{"table": record.table, "name": record.name, "bucket": bucket, "rows": record.rows, "bytes": record.bytes},
        "splits": [_start(group.column(0)) for group in groups],
        **{"ids": ids, "sizes": sizes, "values": values, "nulls": nulls, "lower": lower, "upper": upper},
    }


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    return min(int(chunk.data_page_offset), int(chunk.dictionary_page_offset or chunk.data_page_offset))


_Column = tuple[int, int, int, int | None, bytes | None, bytes | None]


def _column(chunks: list[pq.ColumnChunkMetaData], field: pa.Field, repeated: bool) -> _Column:
    """Return id, size, values, NULLs, and both bounds of a column; a statistic that is not known is None."""
    statistics = [chunk.statistics for chunk in chunks]
    known = all(part is not None and part.has_null_count for part in statistics)
    nulls = sum(part.null_count for part in statistics) if known else None
    values = sum(chunk.num_values for chunk in chunks)
    lower, upper = (None, None) if repeated or not known else _bounds(chunks, statistics, field.type)
    return field_id(field), sum(chunk.total_compressed_size for chunk in chunks), values, nulls, lower, upper


def _bounds(
    chunks: list[pq.ColumnChunkMetaData], statistics: list[pq.Statistics], kind: pa.DataType
) -> tuple[bytes | None, bytes | None]:
    filled = [part for chunk, part in zip(chunks, statistics, strict=True) if part.null_count < chunk.num_values]
    if not filled or not all(part.has_min_max for part in filled):
        return None, None
    smallest = min(_comparable(part.min_raw, kind) for part in filled)
    largest = max(_comparable(part.max_raw, kind) for part in filled)
    # pyarrow 17 returns an empty text for a bound that its writer left out because it is too long.
    if largest < smallest or largest == b"":
        return None, None
    return _lower_bound(smallest, kind), _upper_bound(largest, kind)


def _comparable(raw: Any, kind: pa.DataType) -> Any:
    if pa.types.is_decimal(kind) and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    return raw


def _lower_bound(value: Any, kind: pa.DataType) -> bytes | None:
    if pa.types.is_floating(kind) and value == 0:
        value = -0.0
    if _is_text(kind):
        text = _decoded(value)
        return None if text is None else text[:_BOUND_LENGTH].encode()
    return value[:_BOUND_LENGTH] if _is_binary(kind) else _serialized(value, kind)


def _upper_bound(value: Any, kind: pa.DataType) -> bytes | None:
    if pa.types.is_floating(kind) and value == 0:
        value = 0.0
    if _is_text(kind):
        text = _decoded(value)
        if text is None or len(text) <= _BOUND_LENGTH:
            return None if text is None else value
        return next(_following_texts(text[:_BOUND_LENGTH]), None)
    if _is_binary(kind) and len(value) > _BOUND_LENGTH:
        kept = value[:_BOUND_LENGTH].rstrip(b"\xff")
        return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
    return value if _is_binary(kind) else _serialized(value, kind)


def _following_texts(text: str) -> Iterator[bytes]:
    """Yield texts that are larger than all that begin with `text`, the shortest change of it first."""
    for end in range(len(text), 0, -1):
        following = ord(text[end - 1]) + 1
        if following in _SURROGATES:
            following = _SURROGATES.stop
        if following <= _LAST_CODE_POINT:
            yield (text[: end - 1] + chr(following)).encode()


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _serialized(value: Any, kind: pa.DataType) -> bytes:
    """Return a value in Iceberg's single-value serialization."""
    if isinstance(kind, pa.BaseExtensionType):
        return bytes(value)
    if pa.types.is_boolean(kind):
        return bytes([value])
    if pa.types.is_decimal(kind):
        return int(value).to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)
    return struct.pack("<q" if pa.types.is_timestamp(kind) else _FORMATS[kind], value)
