"""Scatter: read a slice once, hash its keys, and order its rows by bucket, once for each layout.

All tables of a layout share the shuffle blocks of one ordered batch, so keys are copied only once. Columns with a
small dictionary are shuffled as codes of one or two bytes per row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.errors import UnreadableFilesError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.hashing import key_buckets, stable_order
from bucketwheel.kernel.rows import take_rows
from bucketwheel.kernel.schema import parquet_schema
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.kernel.utf8 import NotUtf8Error, has_text, invalid_text, is_valid, replaced
from bucketwheel.storage import Storage, fetch, wrap_os_errors

# Few readers support INT64 nanoseconds. Microseconds are the finest unit that all of them support.
READ_OPTIONS = {"coerce_int96_timestamp_unit": "us"}
# Files with page checksums cost about 8 % more to decode, which is about 2 % of a run; others cost nothing.
PAGE_OPTIONS = {**READ_OPTIONS, "page_checksum_verification": True}
# Rows of a batch if Arrow cannot represent a whole row group.
_FEW_ROWS = 1024


@dataclass(frozen=True)
class Scattered:
    """Rows of one slice ordered by the buckets of one layout.

    `batch` has every projected column under its source name; rows of bucket b are `offsets[b]` to `offsets[b + 1]`
    (int64, shape (buckets + 1,)). Buckets are numbered over all layouts; those of other layouts have no rows.
    """

    index: int
    offsets: np.ndarray
    batch: pa.RecordBatch

    def rows(self, bucket: int) -> int:
        """Return the number of rows of one bucket."""
        return int(self.offsets[bucket + 1] - self.offsets[bucket])


def projected_columns(job: BucketJob) -> list[str]:
    """Return the source names of all columns that the job reads, keys first, without duplicates."""
    names = [source for source, _ in job.keys]
    names += [source for table in job.tables for source, _ in table.columns]
    return list(dict.fromkeys(names))


def scatter(
    job: BucketJob,
    part: Slice,
    max_rows: int,
    dictionaries: UnifiedDictionaries,
    skip: Collection[int] = (),
    statistics: StatisticsCollector | None = None,
) -> Iterator[Scattered]:
    """Yield the rows of a slice ordered by bucket, at most `max_rows` at a time, for one layout after the other.

    Rows of one bucket keep their source order, so the result of gathering does not depend on how the source is
    split into slices. Rows of the buckets in `skip` are left out. The job's dictionary columns are returned as codes
    of `dictionaries`. `statistics` collects values and keys of all rows, including those of the buckets in `skip`.

    Raises:
        SourceChangedError: the file was replaced or deleted since `discover`.
        UnreadableFilesError: a page cannot be read; the message names file, row group and column.
        SchemaError: text is not UTF-8; the message names file, row group, column and row.
        StorageError: the file cannot be opened.
    """
    kept = np.ones(job.buckets, dtype=bool)
    kept[list(skip)] = False

    def ordered(batch: pa.RecordBatch) -> Iterator[Scattered]:
        keys = [batch.column(source) for source, _ in job.keys]
        if statistics is not None:
            statistics.add_keys(keys)
        orders = list(_bucket_orders(job, keys, kept))
        while orders:
            offsets, order = orders.pop(0)
            scattered = Scattered(part.index, offsets, take_rows(batch, pa.array(order)))
            if not orders:
                # Free the batch before the copy is handed on, which halves the memory.
                del batch
            yield scattered

    return chain.from_iterable(map(ordered, _read(job, part, max_rows, dictionaries, statistics)))


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
    part: Slice,
    max_rows: int,
    dictionaries: UnifiedDictionaries,
    statistics: StatisticsCollector | None,
) -> Iterator[pa.RecordBatch]:
    columns = projected_columns(job)
    constants = dict(part.constants)
    stored = [name for name in columns if name not in constants]
    keys = frozenset(source for source, _ in job.keys)
    coded = job.dictionary_columns - keys
    # Different keys could become equal.
    replaceable = frozenset(columns) - keys if job.types.invalid_text == "replace" else frozenset()
    types = _scattered_types(job)

    def prepare(batch: pa.RecordBatch) -> pa.RecordBatch:
        chosen = _with_constants(batch, constants).select(columns)
        check_text = job.types.invalid_text != "keep"
        return normalize_batch(chosen, types, coded, dictionaries, statistics, replaceable, check_text)

    storage = Storage(job.storage)
    with wrap_os_errors(part.path, "open"):
        stream = storage.open(part.path, part.version)
    with wrap_os_errors(part.path, "read"), stream:
        try:
            still_coded = [name for name in coded if not dictionaries.is_closed(name)]
            yield from map(prepare, _decode(stream, part, stored, still_coded, max_rows))
            # A file that was rewritten in place may decode into a mix of both contents.
            storage.check_version(part.path, part.version)
        except NotUtf8Error as error:
            storage.check_version(part.path, part.version)
            names = [name for name in stored if has_text(types[name]) and name not in replaceable]
            file = pq.ParquetFile(stream, pre_buffer=False, **PAGE_OPTIONS)
            raise invalid_text(part, file, error.column, names, keys) from error
        except MemoryError:
            raise  # Also an ArrowException, but not a fault of the file.
        except (pa.ArrowException, OSError) as error:
            storage.check_version(part.path, part.version)
            if isinstance(error, OSError) and error.errno:
                raise  # A fault of the disk, not of the file.
            reason = " ".join(str(error).split()).rstrip(".")
            raise UnreadableFilesError(
                f"{part.path}: {_corrupt_chunk(part, stored, stream)}: {reason}; "
                "write the file again, or select the previous snapshot with --snapshot-dt"
            ) from error


def _decode(
    stream: pa.NativeFile, part: Slice, columns: list[str], coded: Collection[str], max_rows: int
) -> Iterator[pa.RecordBatch]:
    metadata = pq.read_metadata(stream)
    schema = parquet_schema(metadata)
    leaves = {schema.column(number).path for number in range(len(schema))}
    file = pq.ParquetFile(
        stream,
        metadata=metadata,
        # Leaves of nested columns have other names, and the reader rejects names that are not leaves.
        read_dictionary=sorted(leaves.intersection(coded)),
        pre_buffer=False,
        **PAGE_OPTIONS,
    )
    groups = list(part.row_groups)
    if part.rows > max_rows:
        for group in groups:
            # Fetch one at a time: fetched bytes take memory too.
            fetch(stream, partial(chunk_ranges, metadata, [group], columns))
            yield from file.iter_batches(max_rows, row_groups=[group], columns=columns, use_threads=False)
        return
    fetch(stream, partial(chunk_ranges, metadata, groups, columns))
    yield from _read_groups(file, groups, columns)


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


def normalize_batch(
    batch: pa.RecordBatch,
    types: Mapping[str, pa.DataType],
    coded: Collection[str],
    dictionaries: UnifiedDictionaries,
    statistics: StatisticsCollector | None = None,
    replaceable: Collection[str] = (),
    check_text: bool = True,
) -> pa.RecordBatch:
    """Return the batch in these types, with codes in place of the dictionaries of columns in `coded`.

    Text that is not UTF-8 is replaced in columns in `replaceable`; in others it raises `NotUtf8Error`. Without
    `check_text`, it stays as it is.
    """

    def checked(name: str, column: pa.Array) -> pa.Array:
        if not check_text or is_valid(column):
            return column
        if name not in replaceable:
            raise NotUtf8Error(name)
        column, count = replaced(column)
        if statistics is not None:
            statistics.replaced_texts[name] += count
        return column

    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = types[name]
        codes = None
        if name in coded and pa.types.is_dictionary(column.type):
            decoded = checked(name, _with_values(column, kind))
            codes = dictionaries.encode(name, decoded)
            if codes is None:
                decoded = decoded.dictionary_decode()
        else:
            decoded = checked(name, column if kind.equals(column.type) else pc.cast(column, kind))
        arrays.append(decoded if codes is None else codes)
        if statistics is None:
            continue
        if codes is None:
            statistics.add(name, decoded)
        else:
            statistics.add_codes(name, kind, codes.to_numpy())
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _with_values(column: pa.DictionaryArray, kind: pa.DataType) -> pa.DictionaryArray:
    """Return the column with the values of its dictionary in this type."""
    if column.type.value_type.equals(kind):
        return column
    return pa.DictionaryArray.from_arrays(column.indices, pc.cast(column.dictionary, kind))


def _scattered_types(job: BucketJob) -> dict[str, pa.DataType]:
    """Return the types of scattered rows, by source name; those of some source files may differ.

    Layouts share these rows. Only the writer of Iceberg files widens types, so theirs serve only if no other layout
    needs the types of the source.
    """
    layout = next((layout for layout in job.layouts if layout.hash != "iceberg"), job.layouts[0])
    types: dict[str, pa.DataType] = {}
    for table in layout.tables:
        schema = pa.ipc.read_schema(pa.py_buffer(table.schema))
        sources = [source for source, _ in (*layout.keys, *table.columns)]
        types.update(zip(sources, schema.types, strict=True))
    return types
