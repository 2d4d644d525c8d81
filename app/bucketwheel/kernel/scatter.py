"""Scatter: read a slice once, hash its keys, and order its rows by bucket, once for each layout.

All tables of a layout share the shuffle blocks of one ordered batch, so keys are copied only once. Columns with a
small dictionary are shuffled as codes of one or two bytes per row.

A slice whose columns do not fit into memory is read in passes of a few tables each: the order of its rows is computed
once, from the keys. The fewer rows a batch has, the more a block costs, because a block has the rows of one bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise, starmap
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.errors import SchemaError, UnreadableFilesError
from bucketwheel.kernel.calendars import LegacyCalendar, legacy_calendar
from bucketwheel.kernel.conversion import ConversionError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.hashing import key_buckets, stable_order
from bucketwheel.kernel.normalize import Rules, encode_batches, typed_batches
from bucketwheel.kernel.passes import (
    DECODED_BYTES,
    Plan,
    Widths,
    aligned,
    column_groups,
    joined_batches,
    projected_columns,
)
from bucketwheel.kernel.rows import take_rows
from bucketwheel.kernel.schema import parquet_schema
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.kernel.utf8 import NotUtf8Error, has_text, invalid_text
from bucketwheel.safe_text import one_line
from bucketwheel.storage import Storage, costs_more_apart, fetch, wrap_os_errors

# Few readers support INT64 nanoseconds. Microseconds are the finest unit that all of them support.
READ_OPTIONS = {"coerce_int96_timestamp_unit": "us"}
# Files with page checksums cost about 8 % more to decode, which is about 2 % of a run; others cost nothing.
PAGE_OPTIONS = {**READ_OPTIONS, "page_checksum_verification": True}


Prepare = Callable[[pa.RecordBatch], Iterator[pa.RecordBatch]]
# Rows of a batch if Arrow cannot represent a whole row group.
_FEW_ROWS = 1024
# Bytes beyond which no more rows are joined. They are about those of a slice, unless values are longer than planned.
_MOST_JOINED = 4 * DECODED_BYTES

# Offsets of the buckets and order of the rows, for each layout.
_Orders = list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]


@dataclass(frozen=True)
class Scattered:
    """Rows of one slice, or of several that are read as one, ordered by the buckets of one layout.

    `index` is that of the first slice. `batch` has the columns of `groups`, numbers of `column_groups`, under their
    source names; rows of bucket b are `offsets[b]` to `offsets[b + 1]` (int64, shape (buckets + 1,)). Buckets are
    numbered over all layouts; those of other layouts have no rows.
    """

    index: int
    offsets: np.ndarray
    batch: pa.RecordBatch
    groups: tuple[int, ...]

    def rows(self, bucket: int) -> int:
        """Return the number of rows of one bucket."""
        return int(self.offsets[bucket + 1] - self.offsets[bucket])


def scatter(
    job: BucketJob,
    part: Slice,
    max_rows: int,
    dictionaries: UnifiedDictionaries,
    skip: Collection[int] = (),
    statistics: StatisticsCollector | None = None,
) -> Iterator[Scattered]:
    """Scatter one slice, see `scatter_slices`."""
    return scatter_slices(job, [part], max_rows, dictionaries, skip, statistics)


def scatter_slices(
    job: BucketJob,
    parts: Sequence[Slice],
    max_rows: int,
    dictionaries: UnifiedDictionaries,
    skip: Collection[int] = (),
    statistics: StatisticsCollector | None = None,
) -> Iterator[Scattered]:
    """Yield the rows of neighboring slices ordered by bucket, for one layout after the other.

    Batches take as much memory as `max_rows` rows of all columns; batches of more rows have some of the tables.
    Several slices must have at most `Widths.rows_by_table` rows in total. Rows of one bucket keep their source order,
    so the result of gathering does not depend on how the source is split into slices and batches. Rows of the buckets
    in `skip` are left out. The job's dictionary columns are returned as codes of `dictionaries`. `statistics`
    collects values and keys of all rows, including those of the buckets in `skip`.

    Raises:
        SourceChangedError: the file was replaced or deleted since `discover`.
        UnreadableFilesError: a page cannot be read; the message names file, row group and column.
        SchemaError: text is not UTF-8, or the type in which a column is written cannot hold one of its values; the
            message names the file and the column.
        StorageError: the file cannot be opened.
    """
    kept = np.ones(job.buckets, dtype=bool)
    kept[list(skip)] = False
    plan = Plan.of(Widths.of(job), sum(part.rows for part in parts), max_rows)
    known: list[_Orders] = []

    def orders_of(number: int, batch: pa.RecordBatch) -> _Orders:
        if number < len(known):
            return known[number]
        keys = [batch.column(source) for source, _ in job.keys]
        if statistics is not None:
            statistics.add_keys(keys)
        orders: _Orders = list(_bucket_orders(job, keys, kept))
        if len(plan.passes) > 1:
            # All orders of a slice are kept, so half as many bytes for each row.
            known.append([(offsets, order.astype(np.uint32)) for offsets, order in orders])
        return orders

    def ordered(groups: tuple[int, ...], number: int, batch: pa.RecordBatch) -> Iterator[Scattered]:
        orders = list(orders_of(number, batch))
        while orders:
            offsets, order = orders.pop(0)
            scattered = Scattered(parts[0].index, offsets, take_rows(batch, pa.array(order)), groups)
            if not orders:
                # Free the batch before the copy is handed on, which halves the memory.
                del batch
            yield scattered

    return chain.from_iterable(starmap(ordered, _read(job, parts, plan, dictionaries, statistics)))


def _bucket_orders(
    job: BucketJob, keys: Sequence[pa.Array], kept: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield offsets and order of the rows for each layout with a bucket to write."""
    for layout, (start, end) in zip(job.layouts, pairwise(job.starts), strict=True):
        if kept[start:end].any():
            order, counts = _bucket_order(layout, keys, kept[start:end])
            rows = np.zeros(job.buckets + 1, np.int64)
            rows[start + 1 : end + 1] = counts
            yield np.cumsum(rows), order


def _bucket_order(
    layout: BucketJob, keys: Sequence[pa.Array], kept: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the order of the rows to write and the number of rows of each bucket."""
    buckets = key_buckets(keys, layout.hash, layout.bucket_count)
    order = stable_order(buckets, layout.buckets)
    counts = np.bincount(buckets, minlength=layout.buckets)
    if not kept.all():
        order = order[kept[buckets[order]]]
        counts = np.where(kept, counts, 0)
    return order, counts


def _read(
    job: BucketJob,
    parts: Sequence[Slice],
    plan: Plan,
    dictionaries: UnifiedDictionaries,
    statistics: StatisticsCollector | None,
) -> Iterator[tuple[tuple[int, ...], int, pa.RecordBatch]]:
    """Yield the column groups of a pass, the number of a batch, and the batch; batches of all passes correspond."""
    groups, rules = column_groups(job), Rules.of(job)
    rows = sum(part.rows for part in parts)
    repeated = len(plan.passes) > 1
    # Encoding and counting the values of a column costs as much for a few rows as for several thousand.
    joined_first = len(parts) > 1 and not repeated
    sizes = [rows] if rows <= plan.rows and repeated else []
    counted: set[str] = set()
    with ExitStack() as stack:
        columns_of = [
            list(dict.fromkeys(chain.from_iterable(groups[number] for number in numbers))) for numbers in plan.passes
        ]
        files = [_SliceFile(job, part, rules, columns_of, dictionaries) for part in parts]
        if repeated:
            for file in files:
                stack.enter_context(file)
        for numbers, columns in zip(plan.passes, columns_of, strict=True):
            now = frozenset(columns) - counted
            counted |= now
            bring_into_types = partial(typed_batches, rules=rules, statistics=statistics, counted=now)
            encode = partial(
                encode_batches, rules=rules, dictionaries=dictionaries, statistics=statistics, counted=now
            )
            prepare = bring_into_types if joined_first else _one_after_another(bring_into_types, encode)
            read = chain.from_iterable(file.batches(columns, plan.rows, prepare) for file in files)
            batches: Iterator[pa.RecordBatch] = filter(len, read)
            if joined_first:
                encoded = chain.from_iterable(map(encode, _joined(batches)))
                batches = joined_batches(encoded, parts, dictionaries)
            if sizes:
                batches = aligned(batches, sizes, parts, dictionaries)
            lengths: list[int] = []
            yield from map(_numbered(numbers, lengths), _naming_files(batches, parts))
            sizes = sizes or lengths


def _one_after_another(first: Prepare, second: Prepare) -> Prepare:
    return lambda batch: chain.from_iterable(map(second, first(batch)))


def _naming_files(batches: Iterator[pa.RecordBatch], parts: Sequence[Slice]) -> Iterator[pa.RecordBatch]:
    """Yield the batches; an error of Arrow, of rows that were read without one, becomes one that names the files."""
    try:
        yield from batches
    except MemoryError:
        raise  # Also an ArrowException, but not a fault of the files.
    except pa.ArrowException as error:
        first, last = one_line(parts[0].path), one_line(parts[-1].path)
        files = first if first == last else f"{first} to {last}"
        reason = " ".join(str(error).split()).rstrip(".")
        raise UnreadableFilesError(
            f"{files}: the rows cannot be joined: {reason}; write them again as one file, or select the previous "
            "snapshot with --snapshot-dt"
        ) from error


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in one batch, if Arrow can concatenate them; not those of files with other types."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if waiting and (size > _MOST_JOINED or batch.schema != waiting[0].schema):
            yield from _concatenated(waiting)
            size = 0
        size += batch.nbytes
        waiting.append(batch)
        del batch
    yield from _concatenated(waiting)


def _concatenated(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the batches in as few batches as Arrow can concatenate, and empty the list."""
    if len(batches) > 1:
        # See `_read_groups`.
        with suppress(pa.ArrowNotImplementedError, pa.ArrowInvalid):
            batches[:] = _combined(pa.Table.from_batches(batches))
    while batches:
        yield batches.pop(0)


def _numbered(
    groups: tuple[int, ...], lengths: list[int]
) -> Callable[[pa.RecordBatch], tuple[tuple[int, ...], int, pa.RecordBatch]]:
    """Return a function that adds these column groups and consecutive numbers to batches, and keeps their lengths."""

    def numbered(batch: pa.RecordBatch) -> tuple[tuple[int, ...], int, pa.RecordBatch]:
        lengths.append(len(batch))
        return groups, len(lengths) - 1, batch

    return numbered


class _SliceFile:
    """The file of a slice, read in one or several passes; as a context, it stays open between passes."""

    def __init__(
        self,
        job: BucketJob,
        part: Slice,
        rules: Rules,
        passes: Sequence[Sequence[str]],
        dictionaries: UnifiedDictionaries,
    ) -> None:
        self._storage = Storage(job.storage)
        self._part = part
        self._rules = rules
        self._dictionaries = dictionaries
        self._passes = passes
        self._fetched = False
        self._constants = dict(part.constants)
        self._stored = [name for name in projected_columns(job) if name not in self._constants]
        self._stream: pa.NativeFile | None = None
        self._file: pq.ParquetFile | None = None
        self._calendar: LegacyCalendar | None = None

    def __enter__(self) -> Self:
        with wrap_os_errors(self._part.path, "open"):
            self._stream = self._storage.open(self._part.path, self._part.version)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream, self._stream, self._file = self._stream, None, None
        if stream is not None:
            with wrap_os_errors(self._part.path, "read"):
                stream.close()

    def batches(self, columns: Sequence[str], max_rows: int, prepare: Prepare) -> Iterator[pa.RecordBatch]:
        """Yield these columns of the slice, at most `max_rows` rows of a larger slice at a time."""
        if self._stream is None:
            with self:
                yield from self.batches(columns, max_rows, prepare)
            return
        # The reader takes the number of rows from a column.
        stored = [name for name in columns if name not in self._constants] or self._stored[:1]
        constants = {name: value for name, value in self._constants.items() if name in frozenset(columns)}

        def completed(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
            if self._calendar is not None:
                batch = self._calendar.rebase(batch, self._rules.unknown_is_utc)
            return prepare(_with_constants(batch, constants).select(columns))

        with wrap_os_errors(self._part.path, "read"):
            try:
                if self._file is None:
                    coded = [name for name in self._rules.coded if not self._dictionaries.is_closed(name)]
                    self._file = _open_parquet(self._stream, coded)
                    self._calendar = legacy_calendar(self._file.metadata)
                decoded = self._decoded(self._stream, self._file, stored, max_rows)
                yield from chain.from_iterable(map(completed, decoded))
                # A file that was rewritten in place may decode into a mix of both contents.
                self._storage.check_version(self._part.path, self._part.version)
            except NotUtf8Error as error:
                self._storage.check_version(self._part.path, self._part.version)
                raise self._invalid_text(self._stream, error.column) from error
            except ConversionError as error:
                raise SchemaError(f"{one_line(self._part.path)}: {error}") from error
            except MemoryError:
                raise  # Also an ArrowException, but not a fault of the file.
            except (pa.ArrowException, OSError) as error:
                self._storage.check_version(self._part.path, self._part.version)
                if isinstance(error, OSError) and error.errno:
                    raise  # A fault of the disk, not of the file.
                reason = " ".join(str(error).split()).rstrip(".")
                raise UnreadableFilesError(
                    f"{self._part.path}: {_corrupt_chunk(self._part, stored, self._stream)}: {reason}; "
                    "write the file again, or select the previous snapshot with --snapshot-dt"
                ) from error

    def _invalid_text(self, stream: pa.NativeFile, column: str) -> Exception:
        rules = self._rules
        names = [name for name in self._stored if has_text(rules.types[name]) and name not in rules.keys]
        file = pq.ParquetFile(stream, pre_buffer=False, **PAGE_OPTIONS)
        return invalid_text(self._part, file, column, names, rules.types)

    def _decoded(
        self, stream: pa.NativeFile, file: pq.ParquetFile, columns: list[str], max_rows: int
    ) -> Iterator[pa.RecordBatch]:
        groups = list(self._part.row_groups)
        if self._part.rows > max_rows:
            for group in groups:
                # Fetch one at a time: fetched bytes take memory too.
                fetch(stream, partial(chunk_ranges, file.metadata, [group], columns))
                yield from file.iter_batches(max_rows, row_groups=[group], columns=columns, use_threads=False)
            return
        self._fetch(stream, file.metadata, columns)
        yield from _read_groups(file, groups, columns)

    def _fetch(self, stream: pa.NativeFile, metadata: pq.FileMetaData, columns: list[str]) -> None:
        """Prefetch the columns of a pass, or those of all passes at the first if they alternate in the file."""
        if self._fetched:
            return

        def ranges(names: Collection[str]) -> list[tuple[int, int]]:
            return list(chunk_ranges(metadata, self._part.row_groups, names))

        if len(self._passes) > 1 and costs_more_apart(stream, lambda: [ranges(names) for names in self._passes]):
            self._fetched = True
            columns = list(chain.from_iterable(self._passes))
        fetch(stream, lambda: ranges(columns))


def _open_parquet(stream: pa.NativeFile, coded: Collection[str]) -> pq.ParquetFile:
    metadata = pq.read_metadata(stream)
    schema = parquet_schema(metadata)
    leaves = {schema.column(number).path for number in range(len(schema))}
    return pq.ParquetFile(
        stream,
        metadata=metadata,
        # Leaves of nested columns have other names, and the reader rejects names that are not leaves.
        read_dictionary=sorted(leaves.intersection(coded)),
        pre_buffer=False,
        **PAGE_OPTIONS,
    )


def _read_groups(file: pq.ParquetFile, groups: Sequence[int], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some row groups in as few batches as Arrow can concatenate."""
    try:
        batches = _combined(file.read_row_groups(groups, columns=columns, use_threads=False))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        # Arrow cannot concatenate nested dictionaries, or nested text that exceeds 32-bit offsets.
        rows = sum(file.metadata.row_group(group).num_rows for group in groups)
        if len(groups) == 1 and rows <= _FEW_ROWS:
            raise
        if len(groups) == 1:
            yield from file.iter_batches(_FEW_ROWS, row_groups=groups, columns=columns, use_threads=False)
        else:
            for group in groups:
                yield from _read_groups(file, [group], columns)
        return
    while batches:
        yield batches.pop(0)


def _with_constants(batch: pa.RecordBatch, constants: Mapping[str, str | None]) -> pa.RecordBatch:
    """Return the batch with a dictionary column of one value for each constant."""
    if not constants:
        return batch
    arrays = list(batch.columns)
    for value in constants.values():
        codes = pa.nulls(len(batch), pa.int32()) if value is None else pa.array(np.zeros(len(batch), np.int32))
        arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array([value or ""], pa.string())))
    return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, *constants])


def chunk_ranges(
    metadata: pq.FileMetaData, groups: Collection[int], columns: Collection[str]
) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of every column chunk of these columns, in bytes."""
    names = frozenset(columns)
    leaves = []
    schema = parquet_schema(metadata)
    for leaf in range(len(schema)):
        parts = schema.column(leaf).path.split(".")
        # A column name can contain dots, like the path of a nested column.
        if any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1)):
            leaves.append(leaf)
    for group in groups:
        content = metadata.row_group(group)
        for leaf in leaves:
            chunk = content.column(leaf)
            starts = [chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset]
            yield min(starts), chunk.total_compressed_size


def _combined(table: pa.Table) -> list[pa.RecordBatch]:
    return list(table.unify_dictionaries().combine_chunks().to_batches())


def _corrupt_chunk(part: Slice, columns: list[str], stream: pa.NativeFile) -> str:
    try:
        if stream.read_at(4, 0) != b"PAR1":
            return "it does not begin as a Parquet file, so its beginning was lost or changed"
        file = pq.ParquetFile(stream, pre_buffer=False, **PAGE_OPTIONS)
    except (pa.ArrowException, OSError):
        return "the footer cannot be read"
    for group in part.row_groups:
        for column in columns:
            try:
                file.read_row_group(group, columns=[column], use_threads=False)
            except (pa.ArrowException, OSError):
                return f"row group {group}, column {column!r} cannot be read"
    return f"row groups {part.row_groups[0]} to {part.row_groups[-1]} cannot be read together"
