"""Summarize a Parquet footer and check it, so that reading the file later can neither crash nor read other bytes.

Accessors of pyarrow abort the process for some footers, so `footer_process` calls this in processes of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.formatting import counted
from bucketwheel.kernel.calendars import legacy_conversions
from bucketwheel.kernel.conversion import nanoseconds_problem
from bucketwheel.kernel.page_encodings import has_plain_pages, may_have_plain_pages
from bucketwheel.kernel.scatter import READ_OPTIONS
from bucketwheel.kernel.schema import parquet_schema
from bucketwheel.kernel.written_types import Conversion, WrittenTypes, leaf_count, stored_type, written_types
from bucketwheel.settings import TypeSettings

MAGIC = b"PAR1"
# The length of the footer and the magic bytes follow it.
TAIL_BYTES = 4 + len(MAGIC)
# No column chunk has more bytes; sums of this many stay far below 64 bits.
_MOST_BYTES = 2**40
_UNKNOWN = -1
# Different schemas to remember in case other files have them, too.
_MOST_SCHEMAS = 8
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FooterSummary:
    """What a run needs of a footer.

    Attributes:
        schema: the Arrow schema as IPC message, without the metadata of the file, in the types that are written.
        row_group_rows: rows of each row group.
        columns: for each column of the Arrow schema: bytes, bytes before compression, bytes of the largest dictionary
            page (-1 if a chunk has none, or pages that do not use it), and NULLs (-1 if unknown or nested); shape
            (4, columns).
        int96: names of the columns that are stored as INT96.
        end: offset at which the last column chunk ends.
        indexed: whether the last row group has page indexes.
        conversions: types that differ in `schema` and in the file.
        unsupported: columns that cannot be written, and why.
    """

    schema: bytes
    row_group_rows: tuple[int, ...]
    columns: Integers
    int96: frozenset[str]
    end: int
    indexed: bool
    conversions: tuple[Conversion, ...] = ()
    unsupported: tuple[tuple[str, str], ...] = ()


class FooterError(ValueError):
    """A footer that contradicts itself or the file."""


@dataclass(frozen=True)
class _Leaves:
    """The columns of a Parquet schema that hold values.

    Attributes:
        parquet: the schema of the file.
        text: see `_schema_text`.
        stored_arrow: the Arrow schema that the writer stored.
        arrow: the same as an Arrow schema.
        written: the types that are written.
        schema: see `FooterSummary.schema`.
        paths: name of each leaf.
        stored: physical type of each leaf.
        flat: whether each leaf has one value per row.
        firsts: for each column of the Arrow schema, number of its first leaf.
        nested: whether each column of the Arrow schema is nested.
        int96: see `FooterSummary.int96`.
    """

    parquet: pq.ParquetSchema
    text: str
    stored_arrow: bytes | None
    arrow: pa.Schema
    written: WrittenTypes
    schema: bytes
    paths: tuple[str, ...]
    stored: list[str]
    flat: npt.NDArray[np.bool_]
    firsts: Integers
    nested: npt.NDArray[np.bool_]
    int96: frozenset[str]


class FooterParser:
    """Summarizes footers; converts each schema once, as most files of a snapshot have the same one.

    Args:
        types: rules for the types that are written.
    """

    def __init__(self, types: TypeSettings | None = None) -> None:
        self._types = types or TypeSettings()
        self._known: list[_Leaves] = []

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
        file = _Footer(stream, pre_buffer=False, **READ_OPTIONS)
        metadata = file.metadata
        leaves = self._leaves(file)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        rows = _row_group_rows(groups, metadata.num_rows, len(leaves.paths))
        chunks = _Chunks(leaves)
        for group in groups:
            chunks.add(group, statistics)
        try:
            return chunks.summary(rows, size - metadata.serialized_size - TAIL_BYTES, legacy_conversions(metadata))
        except FooterError:
            _refuse_summary(groups)
            raise

    def _leaves(self, file: _Footer) -> _Leaves:
        metadata = file.metadata
        parquet, stored_arrow = parquet_schema(metadata), (metadata.metadata or {}).get(b"ARROW:schema")
        text = _schema_text(parquet)
        # pyarrow compares the leaves of two schemas, whatever is above these.
        known = [leaves for leaves in self._known if leaves.text == text and leaves.parquet.equals(parquet)]
        if _is_flat(text, parquet):
            # Nothing else decides how such a schema is converted, and converting it takes long.
            for leaves in known:
                if leaves.stored_arrow == stored_arrow:
                    return leaves
        arrow = file.schema_arrow.remove_metadata()
        for leaves in known:
            # Names that are not UTF-8 have the replacement character in the text.
            if leaves.arrow.equals(arrow, check_metadata=True) and "\ufffd" not in text:
                return leaves
        leaves = _leaves(parquet, text, stored_arrow, arrow, self._types)
        self._known = [leaves, *self._known[: _MOST_SCHEMAS - 1]]
        return leaves


def _refuse_summary(groups: Sequence[pq.RowGroupMetaData]) -> None:
    """Raise FooterError if the data of row groups lie in other files, as those of Spark's and Dask's `_metadata`."""
    paths = [group.column(0).file_path for group in groups if group.num_columns]
    if other := next(filter(None, paths), None):
        raise FooterError(
            f"it is a summary of other files, such as {other!r}, and has no rows of its own; rename it to _metadata, "
            "which readers skip, or delete it"
        )


def _schema_text(parquet: pq.ParquetSchema) -> str:
    """Return the text of a Parquet schema, a line for each leaf and for the beginning and the end of each group."""
    return str(parquet).partition("\n")[2]


def _is_flat(text: str, parquet: pq.ParquetSchema) -> bool:
    """Return whether a schema has no groups but the outermost one, and no name that looks like several lines."""
    return text.count("\n") == len(parquet) + 2


class _Footer(pq.ParquetFile):  # type: ignore[misc]  # pyarrow has no types
    """Reads no column, so it does without the positions of columns by name: they cost as much as the footer."""

    def _build_nested_paths(self) -> dict[str, list[int]]:
        return {}


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


def _leaves(
    parquet: pq.ParquetSchema, text: str, stored_arrow: bytes | None, schema: pa.Schema, types: TypeSettings
) -> _Leaves:
    counts = [leaf_count(kind) for kind in schema.types]
    columns = [parquet.column(number) for number in range(len(parquet))]
    if sum(counts) != len(columns):
        raise FooterError(f"its schema has {counted(len(columns), 'column')} for {counted(sum(counts), 'field')}")
    # Names that are not UTF-8 raise an error here, and nowhere later; those of fields are part of the type.
    str(schema.types)
    serialized = schema.serialize().to_pybytes()
    # Arrow can write types that it does not accept when it reads them.
    pa.ipc.read_schema(pa.py_buffer(serialized))
    written = written_types(schema, parquet, columns, types)
    names = schema.names
    firsts = np.cumsum([0, *counts[:-1]], dtype=np.int64) if counts else np.zeros(0, np.int64)
    tops = (name for name, count in zip(names, counts, strict=True) for _ in range(count))
    stored = [column.physical_type for column in columns]
    return _Leaves(
        parquet=parquet,
        text=text,
        stored_arrow=stored_arrow,
        arrow=schema,
        written=written,
        schema=written.schema.serialize().to_pybytes() if written.conversions else serialized,
        paths=tuple(column.path for column in columns),
        stored=stored,
        flat=np.array([column.max_repetition_level == 0 for column in columns], dtype=bool),
        firsts=firsts,
        nested=np.array([pa.types.is_nested(stored_type(kind)) for kind in schema.types], dtype=bool),
        int96=frozenset(top for top, kind in zip(tops, stored, strict=True) if kind == "INT96"),
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


class _Chunks:
    """The column chunks of a file, as columns of numbers: each row group adds one number for each leaf."""

    def __init__(self, leaves: _Leaves) -> None:
        self._leaves = leaves
        # For each row group: bytes, bytes before compression, offsets of the data and of the dictionary, values and
        # NULLs of each leaf.
        self._numbers: list[Integers] = []
        # For each row group: whether all pages of each leaf use a dictionary.
        self._coded: list[npt.NDArray[np.bool_]] = []
        # The last one with rows.
        self._last: pq.RowGroupMetaData | None = None
        # By row group, if they differ from the schema.
        self._other_types: dict[int, list[str]] = {}
        # Columns whose statistics have values that the type that is written cannot hold, and why.
        self._unsupported: dict[str, str] = {}

    def add(self, group: pq.RowGroupMetaData, statistics: bool) -> None:
        """Add the chunks of a row group."""
        chunks = list(map(group.column, range(group.num_columns)))
        columns = (
            [chunk.total_compressed_size for chunk in chunks],
            [chunk.total_uncompressed_size for chunk in chunks],
            [chunk.data_page_offset for chunk in chunks],
            [chunk.dictionary_page_offset or 0 for chunk in chunks],
            [chunk.num_values for chunk in chunks],
            _null_counts(chunks) if statistics else [_UNKNOWN] * len(chunks),
        )
        numbers = np.array([np.fromiter(column, np.int64, len(chunks)) for column in columns])
        self._coded.append(_are_coded(chunks, numbers))
        stored = [chunk.physical_type for chunk in chunks]
        if stored != self._leaves.stored:
            self._other_types[len(self._numbers)] = stored
        elif statistics:
            self._check_nanoseconds(chunks)
        if group.num_rows:
            self._last = group
        self._numbers.append(numbers)

    def summary(self, rows: Sequence[int], body: int, legacy: tuple[Conversion, ...]) -> FooterSummary:
        """Check the chunks and return their sums.

        Args:
            rows: rows of each row group.
            body: bytes of the file before its footer.
            legacy: conversions to another calendar.
        """
        shape = (len(rows), 6, len(self._leaves.paths))
        # By kind of number, row group and leaf.
        numbers = np.array(self._numbers, np.int64).reshape(shape).transpose(1, 0, 2)
        sizes, _, data, pages, *_ = numbers
        # Writers leave out the one or the other offset.
        lower = np.where(data == 0, pages, np.minimum(data, pages))
        starts = np.where(pages == 0, data, lower)
        self._check(np.array(rows, np.int64), body, starts, numbers)
        filled = np.flatnonzero(rows)
        starts, ends = starts[filled], starts[filled] + sizes[filled]
        self._check_apart(filled, starts.ravel(), ends.ravel())
        end = int(ends[-1].max(initial=len(MAGIC))) if len(filled) else len(MAGIC)
        return FooterSummary(
            schema=self._leaves.schema,
            row_group_rows=tuple(rows),
            columns=self._sums(numbers, np.array(rows, np.int64)),
            int96=self._leaves.int96,
            end=end,
            # Page indexes take bytes.
            indexed=end < body and _has_index(self._last),
            conversions=(*self._leaves.written.conversions, *legacy),
            unsupported=(*self._leaves.written.unsupported, *self._unsupported.items()),
        )

    def _check(self, rows: Integers, body: int, starts: Integers, numbers: Integers) -> None:
        """Refuse chunks outside of the body, or with a type or a number of values that contradicts the schema."""
        sizes, plain, _, _, values, _ = numbers
        expected = rows[:, np.newaxis]
        # Some writers leave the offsets of empty chunks out. Sums of hostile numbers could overflow.
        inside = (sizes > 0) & (starts >= len(MAGIC)) & (sizes <= body - starts)
        inside = np.where(expected > 0, inside, (sizes >= 0) & (sizes <= _MOST_BYTES))
        misplaced = ~inside | (plain < 0) | (plain > _MOST_BYTES)
        mistyped = np.zeros_like(misplaced)
        for group, stored in self._other_types.items():
            mistyped[group] = [one != other for one, other in zip(stored, self._leaves.stored, strict=True)]
        miscounted = (values < expected) | ((values != expected) & self._leaves.flat)
        wrong = misplaced | mistyped | miscounted
        if not wrong.any():
            return
        group, leaf = (int(place[0]) for place in np.nonzero(wrong))
        if misplaced[group, leaf]:
            problem = (
                f"{sizes[group, leaf]} bytes ({plain[group, leaf]} uncompressed) from byte {starts[group, leaf]}, in "
                f"a file with {body} bytes of data"
            )
        elif mistyped[group, leaf]:
            problem = f"stored as {self._other_types[group][leaf]}, but {self._leaves.stored[leaf]} in the schema"
        else:
            problem = f"{counted(int(values[group, leaf]), 'value')} for {counted(int(rows[group]), 'row')}"
        raise FooterError(f"{self._name(group, leaf)}: {problem}")

    def _check_apart(self, groups: Integers, starts: Integers, ends: Integers) -> None:
        """Refuse chunks that share bytes: one of them would have the values of the other."""
        order = np.lexsort((ends, starts))
        shared = np.flatnonzero(starts[order[1:]] < ends[order[:-1]])
        if len(shared):
            both = sorted(order[shared[0] : shared[0] + 2].tolist())
            places = [divmod(place, len(self._leaves.paths)) for place in both]
            names = [self._name(int(groups[group]), leaf) for group, leaf in places]
            raise FooterError(f"{' and '.join(names)} share bytes")

    def _sums(self, numbers: Integers, rows: Integers) -> Integers:
        """Return `FooterSummary.columns`."""
        sizes, plain, data, pages, _, nulls = numbers
        firsts = self._leaves.firsts
        if not len(firsts):
            return np.zeros((4, 0), np.int64)
        # Row groups without rows have neither dictionaries nor statistics.
        empty = rows[:, np.newaxis] == 0
        coded = np.array(self._coded, bool).reshape(sizes.shape) | empty
        used = np.where(coded & ~empty, data - pages, 0)
        dictionary = np.maximum.reduceat(used.max(axis=0, initial=0), firsts)
        nulls = np.where(empty, 0, nulls)
        known = ((nulls >= 0) & (nulls <= rows[:, np.newaxis])).all(axis=0)
        missing = np.where(known, nulls.sum(axis=0), _UNKNOWN)[firsts]
        return np.array(
            [
                np.add.reduceat(sizes.sum(axis=0), firsts),
                np.add.reduceat(plain.sum(axis=0), firsts),
                np.where(np.logical_and.reduceat(coded.all(axis=0), firsts), dictionary, _UNKNOWN),
                np.where(self._leaves.nested, _UNKNOWN, missing),
            ],
            np.int64,
        )

    def _check_nanoseconds(self, chunks: Sequence[pq.ColumnChunkMetaData]) -> None:
        """Note columns with timestamps that microseconds cannot hold, so that they are refused before any work."""
        names = self._leaves.arrow.names
        for leaf in self._leaves.written.exact:
            column = names[int(np.searchsorted(self._leaves.firsts, leaf, side="right")) - 1]
            values = () if column in self._unsupported else _limits(chunks[leaf])
            if value := next((value for value in values if value % 1000), None):
                self._unsupported[column] = f"column {column!r} {nanoseconds_problem(value)}"

    def _name(self, group: int, leaf: int) -> str:
        return f"row group {group}, column {self._leaves.paths[leaf]!r}"


def _are_coded(chunks: Sequence[pq.ColumnChunkMetaData], numbers: Integers) -> npt.NDArray[np.bool_]:
    """Return for each chunk whether all its data pages use its dictionary, which begins before them.

    Args:
        chunks: the chunks of a row group.
        numbers: see `_Chunks`.
    """
    _, plain, data, pages, values, _ = numbers
    coded: npt.NDArray[np.bool_] = (pages > 0) & (pages < data)
    for leaf in np.flatnonzero(coded & may_have_plain_pages(plain, values)).tolist():
        size, plain_bytes, first, page, count, _ = numbers[:, leaf].tolist()
        coded[leaf] = not has_plain_pages(chunks[leaf], size - (first - page), plain_bytes, count)
    return coded


def _has_index(group: pq.RowGroupMetaData | None) -> bool:
    """Return whether a row group has page indexes."""
    chunks = () if group is None else map(group.column, range(group.num_columns))
    return any(chunk.has_offset_index or chunk.has_column_index for chunk in chunks)


def _null_counts(chunks: Sequence[pq.ColumnChunkMetaData]) -> list[int]:
    """Return the number of NULLs of each chunk; -1 if unknown."""
    try:
        return [
            part.null_count if (part := chunk.statistics) is not None and part.has_null_count else _UNKNOWN
            for chunk in chunks
        ]
    except (pa.ArrowException, OSError, ValueError):
        return list(map(_null_count, chunks))


def _null_count(chunk: pq.ColumnChunkMetaData) -> int:
    try:
        statistics = chunk.statistics
        return statistics.null_count if statistics is not None and statistics.has_null_count else _UNKNOWN
    except (pa.ArrowException, OSError, ValueError):
        return _UNKNOWN


def _limits(chunk: pq.ColumnChunkMetaData) -> tuple[int, ...]:
    """Return the smallest and the largest number of a chunk; nothing if they are unknown."""
    try:
        statistics = chunk.statistics
        known = statistics is not None and statistics.has_min_max
        return (int(statistics.min_raw), int(statistics.max_raw)) if known else ()
    except (pa.ArrowException, OSError, ValueError, TypeError):
        return ()
