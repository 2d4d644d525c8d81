"""Read column statistics from Parquet footers: bytes, dictionaries, NULLs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.runs.manifest import SourceColumn


def source_columns(
    schema: pa.Schema, footers: Sequence[tuple[pa.Schema, pq.FileMetaData]]
) -> tuple[SourceColumn, ...]:
    """Return the columns of `schema`, each summed over the column chunks of all files."""
    compressed = dict.fromkeys(schema.names, 0)
    uncompressed = dict.fromkeys(schema.names, 0)
    dictionary: dict[str, int | None] = dict.fromkeys(schema.names, 0)
    nulls: dict[str, int | None] = {
        # Footers do not tell NULLs at the top of a nested column from NULLs inside it.
        field.name: None if pa.types.is_nested(_stored(field.type)) else 0
        for field in schema
    }
    for file_schema, metadata in footers:
        tops = [field.name for field in file_schema for _ in range(_leaves(field.type))]
        for group in range(metadata.num_row_groups):
            for index, top in enumerate(tops):
                chunk = metadata.row_group(group).column(index)
                compressed[top] += chunk.total_compressed_size
                uncompressed[top] += chunk.total_uncompressed_size
                size, known = _dictionary_bytes(chunk), dictionary[top]
                dictionary[top] = None if known is None or size is None else max(known, size)
                missing, counted = _null_count(chunk), nulls[top]
                nulls[top] = None if counted is None or missing is None else counted + missing
    return tuple(
        SourceColumn(
            name=field.name,
            type=str(field.type),
            compressed_bytes=compressed[field.name],
            uncompressed_bytes=uncompressed[field.name],
            dictionary_bytes=dictionary[field.name],
            null_count=nulls[field.name],
        )
        for field in schema
    )


def _leaves(kind: pa.DataType) -> int:
    """Return how many Parquet columns a type is stored in."""
    # Paths of columns do not help: a name may contain dots.
    kind = _stored(kind)
    return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields)) or 1


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of a type are stored as."""
    return _stored(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _null_count(chunk: pq.ColumnChunkMetaData) -> int | None:
    statistics = chunk.statistics
    return statistics.null_count if statistics is not None and statistics.has_null_count else None


def _dictionary_bytes(chunk: pq.ColumnChunkMetaData) -> int | None:
    start = chunk.dictionary_page_offset
    return chunk.data_page_offset - start if start and chunk.data_page_offset > start else None
