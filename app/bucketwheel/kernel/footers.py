"""Summarize a Parquet footer and check it, so that reading the file later can neither crash nor read other bytes.

Accessors of pyarrow abort the process for some footers, so `footer_process` calls this in processes of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.formatting import counted
from bucketwheel.kernel.page_encodings import has_plain_pages
from bucketwheel.kernel.scatter import READ_OPTIONS

MAGIC = b"PAR1"
# The length of the footer and the magic bytes follow it.
TAIL_BYTES = 4 + len(MAGIC)
# No column chunk has more bytes; sums of this many stay far below 64 bits.
_MOST_BYTES = 2**40
_UNKNOWN = -1
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FooterSummary:
    """What a run needs of a footer.

    Attributes:
        schema: the Arrow schema as IPC message, without the metadata of the file.
        row_group_rows: rows of each row group.
        columns: for each column of the Arrow schema: bytes, bytes before compression, bytes of the largest dictionary
            page (-1 if a chunk has none, or pages that do not use it), and NULLs (-1 if unknown or nested); shape
            (4, columns).
        int96: names of the columns that are stored as INT96.
        end: offset at which the last column chunk ends.
        indexed: whether the last row group has page indexes.
    """

    schema: bytes
    row_group_rows: tuple[int, ...]
    columns: Integers
    int96: frozenset[str]
    end: int
    indexed: bool


class FooterError(ValueError):
    """A footer that contradicts itself or the file."""


@dataclass(frozen=True)
class _Leaves:
    """The columns of a Parquet schema that hold values.

    Attributes:
        parquet: the schema of the file.
        schema: see `FooterSummary.schema`.
        paths: name of each leaf.
        stored: physical type of each leaf.
        flat: whether each leaf has one value per row.
        tops: number of the column of the Arrow schema to which each leaf belongs.
        nested: whether each column of the Arrow schema is nested.
        int96: see `FooterSummary.int96`.
    """

    parquet: pq.ParquetSchema
    schema: bytes
    paths: tuple[str, ...]
    stored: tuple[str, ...]
    flat: tuple[bool, ...]
    tops: tuple[int, ...]
    nested: tuple[bool, ...]
    int96: frozenset[str]


class FooterParser:
    """Summarizes footers; reuses what it knows of the schema while consecutive files have the same one."""

    def __init__(self) -> None:
        self._leaves: _Leaves | None = None

    def parse(self, footer: bytes, size: int, statistics: bool = True) -> FooterSummary | str:
        """Return the summary of a footer, or why there is none.

        Args:
            footer: the last bytes of the file; if they are a footer, all of it.
            size: bytes of the file.
            statistics: read the statistics of column chunks; without, no number of NULLs is known.
        """
        try:
            return self._parse(footer, size, statistics)
        except MemoryError:
            return "reading its footer needs more memory than there is"
        except Exception as error:  # noqa: BLE001 a hostile footer may break any accessor of pyarrow
            return reason(error)

    def _parse(self, footer: bytes, size: int, statistics: bool) -> FooterSummary:
        stream = pa.BufferReader(footer if len(footer) == size else MAGIC + footer)
        file = pq.ParquetFile(stream, pre_buffer=False, **READ_OPTIONS)
        metadata, parquet, arrow = file.metadata, file.metadata.schema, file.schema_arrow
        schema = arrow.remove_metadata().serialize().to_pybytes()
        if self._leaves is None or self._leaves.schema != schema or not self._leaves.parquet.equals(parquet):
            self._leaves = _leaves(parquet, arrow, schema)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        rows = _row_group_rows(groups, metadata.num_rows, len(self._leaves.paths))
        sums = _Sums(self._leaves, size - metadata.serialized_size - TAIL_BYTES)
        for group, count in zip(groups, rows, strict=True):
            sums.add(group, count, statistics)
        sums.check_apart()
        return FooterSummary(
            schema=schema,
            row_group_rows=rows,
            columns=np.array([sums.compressed, sums.uncompressed, sums.dictionary, sums.nulls], np.int64),
            int96=self._leaves.int96,
            end=sums.end,
            indexed=_is_indexed(groups),
        )


def reason(error: Exception) -> str:
    """Return why a footer cannot be read, in words that lead to the cause."""
    if isinstance(error, UnicodeDecodeError):
        return f"a name in it is not UTF-8: {error.object!r}"
    text = str(error).partition("\n")[0]
    if re.search("encrypted|decrypt", text, re.IGNORECASE):
        return f"the file is encrypted, and Bucketwheel cannot decrypt it; write it without encryption: {text}"
    if "size limit" in text:
        return f"a text in its footer is longer than 100 MB, which readers refuse; write the file without it: {text}"
    if "thrift" in text:
        return f"its footer is damaged, as by a transfer in text mode or a faulty disk: {text}"
    return text or type(error).__name__


def leaf_count(kind: pa.DataType) -> int:
    """Return how many Parquet columns a type is stored in."""
    # Paths of columns do not help: a name may contain dots.
    kind = stored_type(kind)
    return sum(leaf_count(kind.field(i).type) for i in range(kind.num_fields)) or 1


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of a type are stored as."""
    return stored_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _leaves(parquet: pq.ParquetSchema, schema: pa.Schema, serialized: bytes) -> _Leaves:
    counts = [leaf_count(kind) for kind in schema.types]
    columns = [parquet.column(number) for number in range(len(parquet))]
    if sum(counts) != len(columns):
        raise FooterError(f"its schema has {counted(len(columns), 'column')} for {counted(sum(counts), 'field')}")
    # Names that are not UTF-8 raise an error here, and nowhere later; those of fields are part of the type.
    str(schema.types)
    # Arrow can write types that it does not accept when it reads them.
    pa.ipc.read_schema(pa.py_buffer(serialized))
    names = schema.names
    tops = tuple(top for top, count in enumerate(counts) for _ in range(count))
    return _Leaves(
        parquet=parquet,
        schema=serialized,
        paths=tuple(column.path for column in columns),
        stored=tuple(column.physical_type for column in columns),
        flat=tuple(column.max_repetition_level == 0 for column in columns),
        tops=tops,
        nested=tuple(pa.types.is_nested(stored_type(kind)) for kind in schema.types),
        int96=frozenset(
            names[top] for top, column in zip(tops, columns, strict=True) if column.physical_type == "INT96"
        ),
    )


def _row_group_rows(groups: Sequence[pq.RowGroupMetaData], file_rows: int, columns: int) -> tuple[int, ...]:
    for number, group in enumerate(groups):
        if group.num_columns != columns:
            raise FooterError(
                f"row group {number} has {counted(group.num_columns, 'column')}, its schema has {columns}"
            )
    rows = tuple(group.num_rows for group in groups)
    if any(count < 0 for count in rows) or sum(rows) != file_rows:
        raise FooterError(f"its row groups have {counted(sum(rows), 'row')}, the file has {file_rows}")
    return rows


class _Sums:
    """Sums of the column chunks of a file for each column of its Arrow schema; see `FooterSummary.columns`."""

    def __init__(self, leaves: _Leaves, body: int) -> None:
        self._leaves = leaves
        self._body = body
        self._groups = 0
        # (start, end, row group, leaf) of the chunks that have rows.
        self._ranges: list[tuple[int, int, int, int]] = []
        self.end = len(MAGIC)
        self.compressed = [0] * len(leaves.nested)
        self.uncompressed = [0] * len(leaves.nested)
        self.dictionary = [0] * len(leaves.nested)
        self.nulls = [_UNKNOWN if nested else 0 for nested in leaves.nested]

    def add(self, group: pq.RowGroupMetaData, rows: int, statistics: bool) -> None:
        """Check and add the chunks of a row group."""
        flat, stored = self._leaves.flat, self._leaves.stored
        nulls, dictionary, first = self.nulls, self.dictionary, len(self._ranges)
        for leaf, top in enumerate(self._leaves.tops):
            chunk = group.column(leaf)
            size, plain = chunk.total_compressed_size, chunk.total_uncompressed_size
            data, page = chunk.data_page_offset, chunk.dictionary_page_offset or 0
            start = min(page or data, data or page)
            # Some writers leave the offsets of empty chunks out.
            inside = size > 0 and start >= len(MAGIC) and start + size <= self._body if rows else size >= 0
            if not inside or not 0 <= plain <= _MOST_BYTES:
                raise FooterError(
                    f"{self._name(self._groups, leaf)}: {size} bytes ({plain} uncompressed) from byte {start}, in a "
                    f"file with {self._body} bytes of data"
                )
            if chunk.physical_type != stored[leaf]:
                raise FooterError(
                    f"{self._name(self._groups, leaf)}: stored as {chunk.physical_type}, but {stored[leaf]} "
                    "in the schema"
                )
            values = chunk.num_values
            if values != rows and (values < rows or flat[leaf]):
                raise FooterError(
                    f"{self._name(self._groups, leaf)}: {counted(values, 'value')} for {counted(rows, 'row')}"
                )
            self.compressed[top] += size
            self.uncompressed[top] += plain
            if dictionary[top] != _UNKNOWN:
                coded = 0 < page < data and not has_plain_pages(chunk, size - (data - page), plain, values)
                dictionary[top] = max(dictionary[top], data - page) if coded else _UNKNOWN
            if nulls[top] != _UNKNOWN:
                missing = _null_count(chunk) if statistics else _UNKNOWN
                nulls[top] = nulls[top] + missing if 0 <= missing <= rows else _UNKNOWN
            if rows:
                self._ranges.append((start, start + size, self._groups, leaf))
        if rows:
            self.end = max((chunk[1] for chunk in self._ranges[first:]), default=self.end)
        self._groups += 1

    def check_apart(self) -> None:
        """Refuse chunks that share bytes: one of them would have the values of the other."""
        self._ranges.sort()
        for one, other in pairwise(self._ranges):
            if other[0] < one[1]:
                names = [self._name(*chunk[2:]) for chunk in sorted((one, other), key=itemgetter(2, 3))]
                raise FooterError(f"{' and '.join(names)} share bytes")

    def _name(self, group: int, leaf: int) -> str:
        return f"row group {group}, column {self._leaves.paths[leaf]!r}"


def _null_count(chunk: pq.ColumnChunkMetaData) -> int:
    try:
        statistics = chunk.statistics
        return statistics.null_count if statistics is not None and statistics.has_null_count else _UNKNOWN
    except (pa.ArrowException, OSError, ValueError):
        return _UNKNOWN


def _is_indexed(groups: Sequence[pq.RowGroupMetaData]) -> bool:
    """Return whether the last row group that has rows has page indexes."""
    filled = [group for group in groups if group.num_rows]
    chunks = (group.column(leaf) for group in filled[-1:] for leaf in range(group.num_columns))
    return any(chunk.has_offset_index or chunk.has_column_index for chunk in chunks)
