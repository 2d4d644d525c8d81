"""Estimate the bytes that a run writes: encode a sample of one row group as the writer encodes buckets.

Footers alone mislead. Columns with a large dictionary in the source are written without one, values next to each
other in the source are far apart in a bucket, small files repeat dictionaries, page headers and footers, and sources
use other codecs.
"""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, TableLayout
from bucketwheel.errors import StorageError
from bucketwheel.kernel.arrow_types import canonical_type, has_list_view
from bucketwheel.kernel.conversion import ConversionError, convert
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.keys import key_order
from bucketwheel.kernel.layout import filled_buckets
from bucketwheel.kernel.passes import projected_columns
from bucketwheel.kernel.scatter import PAGE_OPTIONS
from bucketwheel.kernel.schema import parquet_schema, planned_schema
from bucketwheel.kernel.write import file_options, parquet_writer, writer_options
from bucketwheel.kernel.written_types import leaf_count
from bucketwheel.runs.manifest import DiscoverResult, SourceFile
from bucketwheel.stages.skew import BucketRows, is_uneven
from bucketwheel.storage import Storage, fetch

# Maximum and minimum rows of a sample. More rows hardly change the estimate; fewer do not fill a page.
_ROWS = 20_000
_FEWEST = 4_000
# Maximum bytes to read in total, per batch, and per column before compression; they bound time and memory.
SAMPLE_BYTES = 128 * 2**20
_BATCH = 32 * 2**20
_DECODED = 256 * 2**20
# Maximum bytes of sampled columns that are encoded together.
_HELD = 16 * 2**20
# In files with fewer rows, page headers and footers take a notable share. The sample then stands for several files.
_SMALL = 4_000
_SMALL_FILES = 8
# Typical bytes of a page besides its values: the header and the levels.
_PAGE_OVERHEAD = 40
# A chunk below this ratio of compressed to plain bytes has similar values next to each other.
_CLUSTERED = 0.7
# Repeated dictionaries matter only above this share of a column's bytes.
_DICTIONARIES = 0.05
_PLAIN = frozenset({"PLAIN", "RLE", "BIT_PACKED"})
_Chunks = dict[str, list[pq.ColumnChunkMetaData]]


@dataclass(frozen=True)
class Estimate:
    """Estimated bytes of each sampled source column, and why other columns could not be sampled.

    `bucket_rows` are the sampled rows of each bucket; empty if no keys could be read.
    """

    columns: dict[str, int]
    warnings: tuple[str, ...] = ()
    bucket_rows: BucketRows = field(default_factory=BucketRows)


def no_estimate(job: BucketJob, _snapshot: DiscoverResult) -> tuple[Estimate, ...]:
    """Return an empty estimate for each layout, without reading a sample."""
    return tuple(Estimate({}) for _ in job.layouts)


def estimate_written_bytes(job: BucketJob, snapshot: DiscoverResult) -> tuple[Estimate, ...]:
    """Return the estimated bytes of the keys and of all columns for which the footers mislead, for each layout.

    Reads at most 128 MiB for each layout: these columns in one row group of the middle file, largest first. Layouts
    that differ only in their hash share the sample. An unreadable page is a warning, because the run itself reports
    it with file, row group and column.
    """
    known: dict[object, tuple[Estimate, pa.Table | None]] = {}
    estimates = []
    for layout in job.layouts:
        groups = tuple(table.row_group_rows for table in layout.tables)
        # Files of Iceberg tables have more statistics.
        shape = (layout.bucket_count, layout.sort, groups, layout.hash == "iceberg")
        if shape in known:
            estimate, keys = known[shape]
            rows = BucketRows() if keys is None else _bucket_rows(layout, keys)
            estimates.append(replace(estimate, bucket_rows=rows, warnings=()))
        else:
            known[shape] = _estimate(layout, snapshot)
            estimates.append(known[shape][0])
    return tuple(estimates)


def _bucket_rows(job: BucketJob, keys: pa.Table) -> BucketRows:
    numbers = key_buckets(keys.columns, job.hash, job.bucket_count)
    # Iceberg has a partition of its own for NULL.
    rows = _counts(numbers, job)
    if not is_uneven(rows):
        return BucketRows(rows)
    complete = np.logical_and.reduce([column.is_valid().to_numpy() for column in keys.columns])
    named = pa.table([*keys.columns, pa.array(numbers)], [str(number) for number in range(keys.num_columns + 1)])
    distinct = named.filter(pa.array(complete)).group_by(named.column_names).aggregate([])
    return BucketRows(rows, _counts(numbers[~complete], job), _counts(distinct.column(named.column_names[-1]), job))


def _counts(buckets: npt.ArrayLike, job: BucketJob) -> tuple[int, ...]:
    """Return how often each bucket occurs."""
    return tuple(np.bincount(buckets, minlength=job.bucket_count)[: job.bucket_count].tolist())


def _estimate(job: BucketJob, snapshot: DiscoverResult) -> tuple[Estimate, pa.Table | None]:
    """Return the estimate of one layout, and the sampled keys."""
    file, group = _row_group(snapshot.files)
    columns: dict[str, int] = {}
    try:
        with Storage(job.storage).open(file.path, file.version) as stream:
            sample = _Sample(stream, job, snapshot, group)
            for name, size in sample.sizes():
                columns[name] = size
    except (pa.ArrowException, OSError, StorageError, ConversionError) as error:
        reason = " ".join(str(error).split())
        warning = (
            f"bytes of the tables are estimated from footers only, because row group {group} of {file.path} "
            f"cannot be read: {reason}"
        )
        return Estimate(columns, (warning,)), None
    rows = BucketRows() if sample.keys is None else _bucket_rows(job, sample.keys)
    return Estimate(columns, bucket_rows=rows), sample.keys


def _row_group(files: Sequence[SourceFile]) -> tuple[SourceFile, int]:
    """Return the row group to read: of the middle file, the smallest with enough rows, else the largest."""
    filled = [file for file in files if file.rows]
    file = filled[len(filled) // 2]
    rows = file.row_group_rows
    enough = [group for group, count in enumerate(rows) if count >= _ROWS]
    group = min(enough, key=rows.__getitem__) if enough else max(range(len(rows)), key=rows.__getitem__)
    return file, group


@dataclass(frozen=True)
class _Encoded:
    """An encoded sample; `footer` counts the bytes of one file outside of its column chunks."""

    metadata: pq.FileMetaData
    footer: int


class _Sample:
    """Rows of one row group in the order of the files to write."""

    def __init__(self, stream: pa.NativeFile, job: BucketJob, snapshot: DiscoverResult, group: int) -> None:
        self._stream = stream
        self._job = job
        self._snapshot = snapshot
        self._schema = snapshot.schema()
        self._group = group
        self._metadata = pq.read_metadata(stream)
        if group >= self._metadata.num_row_groups:
            raise OSError("the file was replaced after its footer was read")
        self._columns = {column.name: column for column in snapshot.columns}
        self._paths: dict[str, list[str]] = defaultdict(list)
        self._files = max(1, filled_buckets(job.bucket_count, snapshot.rows))
        self._file_rows = max(1, round(snapshot.rows / self._files))
        self._sample_files = 1
        if self._file_rows < _SMALL:
            rows = self._metadata.row_group(group).num_rows
            enough = -(-_FEWEST // self._file_rows)
            self._sample_files = max(1, min(enough, _SMALL_FILES, self._files, rows // self._file_rows))
        self.keys: pa.Table | None = None
        self._layouts = {pair[0]: (table, pair) for table in job.tables for pair in table.columns}

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield each sampled column with its estimated bytes in all files."""
        elsewhere = frozenset(self._snapshot.partition_columns)
        names = [name for name in projected_columns(self._job) if name not in elsewhere]
        chunks = self._chunks(frozenset(names))
        keys = list(dict.fromkeys(source for source, _ in self._job.keys))
        if any(not chunks[name] for name in keys):
            raise OSError("the file was replaced after its footer was read")
        if any(not _fits(chunks[name]) for name in keys):
            return
        file = self._open(chunks)
        self._fetch(chunks, keys)
        key_columns = {name: self._read(file, name, None) for name in keys}
        table = pa.table({name: key_columns[source] for source, name in self._job.keys})
        self.keys = table
        order = self._order(table)
        sample = table.take(pa.array(order))
        keys_only = replace(self._job.tables[0], columns=())
        encoded = self._encode(sample, keys_only)
        for number, (source, _) in enumerate(self._job.keys):
            size = self._scaled(source, sample.column(number), encoded.metadata, range(number, number + 1))
            # Every file has the keys, so the first key stands for the footers without entries for other columns.
            yield source, size + (0 if number else encoded.footer * self._files)
        doubtful = [name for name in names if name not in keys and self._is_doubtful(name, chunks[name])]
        for batch in _batches(chunks, doubtful, sum(map(_compressed, (chunks[name] for name in keys)))):
            self._fetch(chunks, batch)
            for columns in self._together(file, batch, order):
                yield from self._column_sizes(columns, sample, encoded.footer)

    def _chunks(self, names: Collection[str]) -> _Chunks:
        """Return the column chunks of each column; a nested column has several."""
        chunks: _Chunks = defaultdict(list)
        content = self._metadata.row_group(self._group)
        schema = parquet_schema(self._metadata)
        for number in range(content.num_columns):
            # Readers ignore the paths of chunks, which may be wrong.
            path = schema.column(number).path
            parts = path.split(".")
            # A column name can contain dots, like the path of a nested column.
            for count in range(1, len(parts) + 1):
                if (name := ".".join(parts[:count])) in names:
                    chunks[name].append(content.column(number))
                    self._paths[name].append(path)
        return chunks

    def _is_doubtful(self, name: str, chunks: Sequence[pq.ColumnChunkMetaData]) -> bool:
        """Return whether the bytes in the footer say little about those in a bucket."""
        if self._file_rows < _SMALL:
            return True
        if any(chunk.compression != "SNAPPY" for chunk in chunks):
            return True
        if _compressed(chunks) < _CLUSTERED * sum(chunk.total_uncompressed_size for chunk in chunks):
            return True
        if name in self._job.dictionary_columns:
            column = self._columns[name]
            repeated = (column.dictionary_bytes or 0) * self._job.bucket_count
            return repeated > _DICTIONARIES * column.compressed_bytes
        return any(not _PLAIN.issuperset(chunk.encodings) for chunk in chunks)

    def _fetch(self, chunks: _Chunks, names: Sequence[str]) -> None:
        fetch(self._stream, lambda: [_range(chunk) for name in names for chunk in chunks[name]])

    def _open(self, chunks: _Chunks) -> pq.ParquetFile:
        """Return the file for all columns: opening it takes time for each of them."""
        # Text with a dictionary can be many times larger without it.
        coded = [
            path
            for name, paths in self._paths.items()
            for path, chunk in zip(paths, chunks[name], strict=True)
            if chunk.has_dictionary_page
        ]
        return pq.ParquetFile(
            self._stream, metadata=self._metadata, read_dictionary=coded, pre_buffer=False, **PAGE_OPTIONS
        )

    def _read(self, file: pq.ParquetFile, name: str, rows: npt.NDArray[np.int64] | None) -> pa.ChunkedArray:
        """Return these rows of a column, or all, in the type of the files to write."""
        column = file.read_row_group(self._group, columns=[name], use_threads=False).column(0)
        kind = canonical_type(self._schema.field(name).type)
        if has_list_view(column.type):
            # After rows are taken, the views are in no order, and Arrow's cast makes broken lists from them.
            column = convert(column, kind, truncate=True)
        if rows is not None:
            column = column.take(pa.array(rows))
        return convert(column, kind, truncate=True)

    def _order(self, keys: pa.Table) -> npt.NDArray[np.int64]:
        """Return the row indices that stand for one bucket file, sorted as in the file.

        With n buckets, a file gets about every n-th row, so the sample takes rows that far apart.
        """
        order = key_order(keys) if self._job.sort else np.arange(keys.num_rows)
        count = self._job.bucket_count
        files = self._sample_files
        rows = self._file_rows * files
        if files == 1:
            rows = min(_ROWS, rows, max(_FEWEST, len(order) // count), len(order))
        window = rows * max(1, min(count, len(order) // rows))
        # The smallest keys can differ from the others.
        start = (len(order) - window) // 2
        chosen = np.random.default_rng(0).choice(window, rows, replace=False)
        picked: npt.NDArray[np.int64] = order[start + np.sort(chosen)]
        return np.concatenate([picked[number::files] for number in range(files)])

    def _together(
        self, file: pq.ParquetFile, names: Sequence[str], order: npt.NDArray[np.int64]
    ) -> Iterator[dict[str, pa.ChunkedArray]]:
        """Yield the sampled columns, as many of a table at a time as memory allows: each file has a fixed cost."""
        by_table = sorted(names, key=lambda name: self._layouts[name][0].name)
        for _, columns in itertools.groupby(by_table, lambda name: self._layouts[name][0].name):
            held: dict[str, pa.ChunkedArray] = {}
            size = 0
            for name in columns:
                held[name] = self._read(file, name, order)
                size += held[name].nbytes
                if size > _HELD:
                    yield held
                    held, size = {}, 0
            if held:
                yield held

    def _column_sizes(
        self, columns: dict[str, pa.ChunkedArray], keys: pa.Table, keys_footer: int
    ) -> Iterator[tuple[str, int]]:
        """Yield each of these columns of one table with its estimated bytes in all files."""
        layout = self._layouts[next(iter(columns))][0]
        pairs = tuple(self._layouts[name][1] for name in columns)
        schema = planned_schema(self._schema, (*self._job.keys, *pairs))
        table = pa.table([*keys.columns, *columns.values()], [*keys.column_names, *(name for _, name in pairs)])
        encoded = self._encode(table, replace(layout, columns=pairs, schema=schema))
        footers = max(0, encoded.footer - keys_footer) * self._files // len(columns)
        first = keys.num_columns
        for name, column in columns.items():
            leaves = range(first, first + leaf_count(column.type))
            yield name, self._scaled(name, column, encoded.metadata, leaves) + footers
            first = leaves.stop

    def _encode(self, table: pa.Table, layout: TableLayout) -> _Encoded:
        """Return the table as encoded in one file, with a row group per file that it stands for."""
        metadata, size = self._write(table, layout)
        if self._sample_files == 1:
            return _Encoded(metadata, size - _chunk_bytes(metadata))
        first, size = self._write(table.slice(0, self._file_rows), layout)
        return _Encoded(metadata, size - _chunk_bytes(first))

    def _write(self, table: pa.Table, layout: TableLayout) -> tuple[pq.FileMetaData, int]:
        sink = io.BytesIO()
        rows = min(layout.row_group_rows, self._file_rows)
        options = file_options(writer_options(self._job, layout), table, rows)
        with parquet_writer(sink, table.schema, layout, options) as writer:
            writer.write_table(table, row_group_size=rows)
        return pq.read_metadata(sink), sink.tell()

    def _scaled(self, name: str, column: pa.ChunkedArray, written: pq.FileMetaData, leaves: range) -> int:
        """Return the bytes of all rows, from those of the sample."""
        source = self._columns[name]
        values, nulls = len(column) - column.null_count, source.null_count
        chunks = [written.row_group(g).column(leaf) for g in range(written.num_row_groups) for leaf in leaves]
        size = _compressed(chunks)
        fixed = min(size, _PAGE_OVERHEAD * len(chunks))
        if not values:
            # Other row groups may have values.
            return max(source.compressed_bytes, fixed * self._files // self._sample_files)
        scale = self._snapshot.rows / len(column) if nulls is None else (self._snapshot.rows - nulls) / values
        if self._file_rows < _SMALL and len(column) >= self._file_rows:
            return round((size - fixed) * scale + fixed * self._files / self._sample_files)
        if name not in self._job.dictionary_columns or len(column) >= self._file_rows:
            return round(size * scale)
        # A file has more rows than the sample, but no more dictionaries.
        dictionaries = sum(_dictionary(chunk) for chunk in chunks)
        count = self._job.bucket_count * -(-self._file_rows // self._layouts[name][0].row_group_rows)
        return round((size - dictionaries) * scale) + (source.dictionary_bytes or 0) * count


def _batches(chunks: _Chunks, names: Sequence[str], already: int) -> Iterator[list[str]]:
    """Yield batches of columns to read, in file order, within the byte limits."""
    chosen, total = [], already
    for name in sorted(names, key=lambda name: -_compressed(chunks[name])):
        size = _compressed(chunks[name])
        if _fits(chunks[name]) and total + size <= SAMPLE_BYTES:
            chosen.append(name)
            total += size
    batch: list[str] = []
    held = 0
    for name in sorted(chosen, key=lambda name: _range(chunks[name][0])):
        size = _compressed(chunks[name])
        if batch and held + size > _BATCH:
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += size
    if batch:
        yield batch


def _fits(chunks: Sequence[pq.ColumnChunkMetaData]) -> bool:
    return (
        _compressed(chunks) <= SAMPLE_BYTES // 2
        and sum(chunk.total_uncompressed_size for chunk in chunks) <= _DECODED
    )


def _chunk_bytes(metadata: pq.FileMetaData) -> int:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return sum(_compressed([group.column(number) for number in range(group.num_columns)]) for group in groups)


def _compressed(chunks: Sequence[pq.ColumnChunkMetaData]) -> int:
    return sum(chunk.total_compressed_size for chunk in chunks)


def _range(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    return start, chunk.total_compressed_size


def _dictionary(chunk: pq.ColumnChunkMetaData) -> int:
    start = chunk.dictionary_page_offset
    return chunk.data_page_offset - start if start else 0
