"""Size: compute bucket count, row groups and the slices of the scan from the footers, and estimate written bytes.

The layout depends on the footers alone. A sample of the data only makes the estimated bytes of tables more accurate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from bucketwheel.contracts import BucketJob, Services
from bucketwheel.contracts.executor import WRITERS
from bucketwheel.engines.memory import gather_budget, gather_bytes
from bucketwheel.executors.copy_store import check_writers
from bucketwheel.formatting import counted
from bucketwheel.kernel.dictionaries import stays_dictionary
from bucketwheel.kernel.layout import automatic_bucket_count, filled_buckets, row_group_rows, unbucketed_file_count
from bucketwheel.runs.manifest import (
    DiscoverResult,
    Manifest,
    SizeResult,
    SliceRecord,
    SourceFile,
    SplitResult,
    StageRecord,
    TableColumns,
    TableSize,
)
from bucketwheel.settings import Settings
from bucketwheel.stages.bucket_job import bucket_job
from bucketwheel.stages.skew import skew_warnings
from bucketwheel.stages.split_buckets import planned_split_warnings
from bucketwheel.stages.task_memory import decoded_bytes, shortage
from bucketwheel.stages.written_bytes import Estimate, estimate_written_bytes

# Decoded bytes of a slice: large enough for long shuffle blocks, small enough for several slices in memory.
_SLICE_BYTES = 64 * 2**20


class Size:
    """Estimates the size of the output and plans the scan.

    Args:
        estimate: estimates the written bytes of columns.
    """

    name = "size"
    requires = ("discover", "split")

    def __init__(self, estimate: Callable[[BucketJob, DiscoverResult], Estimate] = estimate_written_bytes) -> None:
        self._estimate = estimate

    def run(self, manifest: Manifest, services: Services) -> SizeResult:
        """See `contracts.Stage.run`.

        Raises:
            ConfigError: the engine that copies the final tables cannot write so many buckets.
        """
        layout = _layout(manifest, services.settings)
        record = StageRecord(started=manifest.created, seconds=0, result=layout.model_dump(mode="json"))
        job = bucket_job(manifest.with_stage(self.name, record), services.runs)
        estimate = self._estimate(job, manifest.discover)
        bucket_rows = estimate.bucket_rows if layout.bucketed else ()
        tables = tuple(
            _estimated(table, columns, manifest, layout, estimate)
            for table, columns in zip(layout.tables, manifest.split.tables, strict=True)
        )
        return layout.model_copy(
            update={
                "tables": tables,
                "warnings": (
                    *_warnings(max(table.bytes for table in tables), layout.bucket_count, services.settings),
                    *planned_split_warnings(layout, tables),
                    *layout.warnings,
                    *estimate.warnings,
                    *skew_warnings(bucket_rows, manifest.discover.keys, layout.hash, sample=True),
                ),
            }
        )


def _layout(manifest: Manifest, settings: Settings) -> SizeResult:
    """Return the layout and the bytes of tables in the source, from the footers."""
    discovered = manifest.discover
    split = manifest.split
    columns = {column.name: column for column in discovered.columns}
    table_bytes = {
        table.name: _table_bytes(table, split, {name: column.compressed_bytes for name, column in columns.items()})
        for table in split.tables
    }
    count = _bucket_count(settings, max(table_bytes.values()))
    if settings.buckets.count != "none" and "ctas" in settings.stages:
        # The limit is known without a connection, so that `plan` reports it too.
        check_writers(settings.ctas.method, count, WRITERS.get(settings.ctas.method))
    used = {mapping.source for table in split.tables for mapping in table.columns}
    used |= {key.source for key in split.keys}
    schema = discovered.schema()
    decoded = max(1, int(sum(decoded_bytes(columns[name], schema, discovered.rows) for name in used)))
    return SizeResult(
        bucket_count=count,
        bucketed=settings.buckets.count != "none",
        hash=settings.buckets.hash,
        sort=settings.buckets.sort,
        max_file_bytes=settings.buckets.max_file_bytes,
        page_bytes=settings.size.page_bytes,
        bytes_to_read=sum(columns[name].compressed_bytes for name in used),
        decoded_bytes_per_row=decoded,
        dictionary_columns=tuple(
            column.name
            for column in discovered.columns
            if column.name in used and column.name not in discovered.keys and stays_dictionary(column, schema)
        ),
        tables=tuple(
            _table_size(table, table_bytes[table.name], discovered.rows, count, settings) for table in split.tables
        ),
        slices=(slices := tuple(_slices(discovered.files, decoded))),
        warnings=(
            *_memory_warnings(settings, split, discovered.rows / count, decoded),
            *_task_warnings(settings, discovered, split, count, slices),
        ),
    )


def _estimated(
    table: TableSize, columns: TableColumns, manifest: Manifest, layout: SizeResult, estimate: Estimate
) -> TableSize:
    """Return the table with estimated instead of source bytes; its layout does not change."""
    discovered = manifest.discover
    sizes = {column.name: column.compressed_bytes for column in discovered.columns} | estimate.columns
    size = _table_bytes(columns, manifest.split, sizes)
    files = _files(size, discovered.rows, layout.bucket_count, layout.max_file_bytes)
    return table.model_copy(update={"bytes": size, "files": files})


def _table_bytes(table: TableColumns, split: SplitResult, sizes: dict[str, int]) -> int:
    return sum(sizes[mapping.source] for mapping in (*split.keys, *table.columns))


def _bucket_count(settings: Settings, largest: int) -> int:
    chosen = settings.buckets.count
    if chosen == "auto":
        return automatic_bucket_count(largest)
    if chosen == "none":
        return unbucketed_file_count(largest, settings.size.files_per_gb, settings.size.max_files)
    return chosen


def _table_size(table: TableColumns, size: int, rows: int, count: int, settings: Settings) -> TableSize:
    return TableSize(
        name=table.name,
        columns=len(table.columns),
        bytes=size,
        files=_files(size, rows, count, settings.buckets.max_file_bytes),
        row_group_rows=row_group_rows(size / rows, settings.size.row_group_bytes, settings.buckets.max_file_bytes),
    )


def _files(size: int, rows: int, count: int, max_file_bytes: int) -> int:
    per_bucket = max(1, -(-size // max(count, 1) // max_file_bytes))
    return min(max(filled_buckets(count, rows), 1) * per_bucket, max(rows, 1))


def _slices(files: Sequence[SourceFile], decoded_bytes_per_row: int) -> Iterator[SliceRecord]:
    target = max(1, _SLICE_BYTES // decoded_bytes_per_row)
    numbers = itertools.count()
    for file_number, file in enumerate(files):
        first, rows = 0, 0
        for group, group_rows in enumerate(file.row_group_rows):
            if rows and rows + group_rows > target:
                yield _slice(next(numbers), file_number, first, group, rows)
                first, rows = group, 0
            rows += group_rows
        if rows:
            yield _slice(next(numbers), file_number, first, len(file.row_group_rows), rows)


def _slice(index: int, file: int, first: int, end: int, rows: int) -> SliceRecord:
    return SliceRecord(index=index, file=file, first_row_group=first, row_groups=end - first, rows=rows)


def _warnings(largest: int, count: int, settings: Settings) -> Iterator[str]:
    per_file = largest / count
    if settings.buckets.count not in ("auto", "none") and count > 1 and per_file < 2**20:
        yield (
            f"with {counted(count, 'bucket')}, files of the largest table average {per_file / 1e6:.2f} MB; "
            "joins are faster "
            "with files of 100 MB to 1 GB; set buckets.count=auto"
        )


def _task_warnings(
    settings: Settings, snapshot: DiscoverResult, split: SplitResult, count: int, slices: Sequence[SliceRecord]
) -> Iterator[str]:
    if warning := shortage(settings, snapshot, split, count, slices):
        yield warning


def _memory_warnings(
    settings: Settings, split: SplitResult, rows: float, decoded_bytes_per_row: int
) -> Iterator[str]:
    """Yield a warning if the arrow engine will exceed its budget, because it gathers a whole bucket in memory."""
    if settings.engine != "arrow":
        return
    widths = [len(table.columns) for table in split.tables]
    need, budget = gather_bytes(rows, decoded_bytes_per_row, widths, len(split.keys)), gather_budget(settings)
    if need > budget:
        yield (
            f"gathering one bucket of {counted(round(rows), 'row')} takes about {need / 1e6:,.0f} MB, but memory="
            f"{settings.memory} allows only {budget / 1e6:,.0f} MB for it; raise buckets.count or memory"
        )
