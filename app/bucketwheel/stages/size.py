"""Size: compute bucket count, row groups and the slices of the scan from the footers, and estimate written bytes.

The layout depends on the footers alone. A sample of the data only makes the estimated bytes of tables more accurate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bucketwheel.contracts import BucketJob, Services
from bucketwheel.contracts.executor import WRITERS
from bucketwheel.engines.memory import gather_budget, gather_bytes
from bucketwheel.executors.copy_store import check_writers
from bucketwheel.formatting import counted, size_text
from bucketwheel.kernel.dictionaries import stays_dictionary
from bucketwheel.kernel.layout import automatic_bucket_count, filled_buckets, row_group_rows, unbucketed_file_count
from bucketwheel.runs.manifest import (
    DiscoverResult,
    LayoutSize,
    Manifest,
    SizeResult,
    SliceRecord,
    SourceFile,
    SplitResult,
    StageRecord,
    TableColumns,
    TableSize,
)
from bucketwheel.settings import Layout, Settings, SizeSettings, resolved_layouts
from bucketwheel.stages.bucket_job import bucket_job
from bucketwheel.stages.decoded_bytes import decoded_bytes
from bucketwheel.stages.layouts import labeled_once, layout_settings
from bucketwheel.stages.skew import skew_warnings
from bucketwheel.stages.split_buckets import planned_split_warnings
from bucketwheel.stages.task_memory import shortage
from bucketwheel.stages.written_bytes import Estimate, estimate_written_bytes

# Decoded bytes of a slice: large enough for long shuffle blocks, small enough for several slices in memory.
_SLICE_BYTES = 64 * 2**20


class Size:
    """Estimates the size of the output and plans the scan.

    Args:
        estimate: estimates the written bytes of columns in each layout.
    """

    name = "size"
    requires = ("discover", "split")

    def __init__(
        self, estimate: Callable[[BucketJob, DiscoverResult], Sequence[Estimate]] = estimate_written_bytes
    ) -> None:
        self._estimate = estimate

    def run(self, manifest: Manifest, services: Services) -> SizeResult:
        """See `contracts.Stage.run`.

        Raises:
            ConfigError: the engine that copies the final tables cannot write so many buckets.
        """
        settings = services.settings
        size = _size(manifest, settings)
        record = StageRecord(started=manifest.created, seconds=0, result=size.model_dump(mode="json"))
        job = bucket_job(manifest.with_stage(self.name, record), services.runs)
        estimates = self._estimate(job, manifest.discover)
        layouts = [
            _estimated(layout, manifest, estimate) for layout, estimate in zip(size.layouts, estimates, strict=True)
        ]
        size = _with_layouts(size, layouts)
        warnings = [
            (layout, warning)
            for layout, estimate in zip(size.layouts, estimates, strict=True)
            for warning in _warnings(layout, estimate, manifest, settings, size)
        ]
        return size.model_copy(update={"warnings": tuple(labeled_once(size, warnings))})


def _size(manifest: Manifest, settings: Settings) -> SizeResult:
    """Return the layouts with the bytes of tables in the source, and the scan, from the footers."""
    discovered = manifest.discover
    split = manifest.split
    columns = {column.name: column for column in discovered.columns}
    first, *others = (_layout(layout, manifest, settings) for layout in resolved_layouts(settings))
    if first.bucketed and "ctas" in settings.stages:
        # The limit is known without a connection, so that `plan` reports it too.
        check_writers(settings.ctas.method, first.bucket_count, WRITERS.get(settings.ctas.method))
    used = {mapping.source for table in split.tables for mapping in table.columns}
    used |= {key.source for key in split.keys}
    schema = discovered.schema()
    every = decoded_bytes(discovered)
    decoded = max(1, int(sum(every[name] for name in used)))
    return SizeResult(
        **_fields(first),
        other_layouts=tuple(others),
        page_bytes=settings.size.page_bytes,
        bytes_to_read=sum(columns[name].compressed_bytes for name in used),
        decoded_bytes_per_row=decoded,
        dictionary_columns=tuple(
            column.name
            for column in discovered.columns
            if column.name in used and column.name not in discovered.keys and stays_dictionary(column, schema)
        ),
        slices=tuple(_slices(discovered.files, decoded)),
    )


def _fields(layout: LayoutSize) -> dict[str, Any]:
    """Return the fields of a layout as those of `SizeResult`, which describe the first one."""
    return {name: getattr(layout, name) for name in LayoutSize.model_fields}


def _with_layouts(size: SizeResult, layouts: Sequence[LayoutSize]) -> SizeResult:
    """Return the result with these layouts in place of its own."""
    first, *others = layouts
    return SizeResult.model_validate({**dict(size), **_fields(first), "other_layouts": tuple(others)})


def _layout(layout: Layout, manifest: Manifest, settings: Settings) -> LayoutSize:
    """Return one layout, with the bytes of tables in the source."""
    discovered, split = manifest.discover, manifest.split
    sizes = {column.name: column.compressed_bytes for column in discovered.columns}
    table_bytes = {table.name: _table_bytes(table, split, sizes) for table in split.tables}
    count = _bucket_count(layout, settings.size, max(table_bytes.values()))
    return LayoutSize(
        name=layout.name,
        prefix=layout.prefix,
        bucket_count=count,
        bucketed=layout.bucketed,
        hash=layout.hash,
        sort=layout.sort,
        max_file_bytes=layout.max_file_bytes,
        tables=tuple(
            _table_size(table, table_bytes[table.name], discovered.rows, count, layout, settings.size)
            for table in split.tables
        ),
    )


def _estimated(layout: LayoutSize, manifest: Manifest, estimate: Estimate) -> LayoutSize:
    """Return the layout with estimated instead of source bytes; nothing else of it changes."""
    discovered = manifest.discover
    sizes = {column.name: column.compressed_bytes for column in discovered.columns} | estimate.columns
    tables = []
    for table, columns in zip(layout.tables, manifest.split.tables, strict=True):
        size = _table_bytes(columns, manifest.split, sizes)
        files = _files(size, discovered.rows, layout.bucket_count, layout.max_file_bytes)
        tables.append(table.model_copy(update={"bytes": size, "files": files}))
    return layout.model_copy(update={"tables": tuple(tables)})


def _table_bytes(table: TableColumns, split: SplitResult, sizes: dict[str, int]) -> int:
    return sum(sizes[mapping.source] for mapping in (*split.keys, *table.columns))


def _bucket_count(layout: Layout, limits: SizeSettings, largest: int) -> int:
    if layout.buckets == "auto":
        return automatic_bucket_count(largest)
    if layout.buckets == "none":
        return unbucketed_file_count(largest, limits.files_per_gb, limits.max_files)
    return layout.buckets


def _table_size(
    table: TableColumns, size: int, rows: int, count: int, layout: Layout, limits: SizeSettings
) -> TableSize:
    return TableSize(
        name=table.name,
        columns=len(table.columns),
        bytes=size,
        files=_files(size, rows, count, layout.max_file_bytes),
        row_group_rows=row_group_rows(size / rows, limits.row_group_bytes, layout.max_file_bytes),
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


def _warnings(
    layout: LayoutSize, estimate: Estimate, manifest: Manifest, settings: Settings, size: SizeResult
) -> Iterator[str]:
    """Yield the warnings about one layout."""
    discovered, split, own = manifest.discover, manifest.split, layout_settings(layout, settings)
    yield from _small_files(layout, own)
    yield from planned_split_warnings(layout, own)
    yield from _memory_warnings(settings, split, own, discovered.rows / layout.bucket_count, size)
    if warning := shortage(settings, discovered, split, layout.bucket_count, size.slices, own):
        yield warning
    yield from estimate.warnings
    if layout.bucketed:
        yield from skew_warnings(estimate.bucket_rows, discovered.keys, layout.hash, sample=True)


def _small_files(layout: LayoutSize, own: Layout) -> Iterator[str]:
    per_file = max(table.bytes for table in layout.tables) / layout.bucket_count
    if own.buckets not in ("auto", "none") and layout.bucket_count > 1 and per_file < 2**20:
        yield (
            f"with {counted(layout.bucket_count, 'bucket')}, files of the largest table average "
            f"{size_text(per_file)}; joins are faster with files of 100 MB to 1 GB; set {own.setting('buckets')}=auto"
        )


def _memory_warnings(
    settings: Settings, split: SplitResult, own: Layout, rows: float, size: SizeResult
) -> Iterator[str]:
    """Yield a warning if the arrow engine will exceed its budget, because it gathers a whole bucket in memory."""
    if settings.engine != "arrow":
        return
    widths = [len(table.columns) for table in split.tables]
    need = gather_bytes(rows, size.decoded_bytes_per_row, widths, len(split.keys))
    budget = gather_budget(settings)
    if need > budget:
        yield (
            f"gathering one bucket of {counted(round(rows), 'row')} takes about {need / 1e6:,.0f} MB, but memory="
            f"{settings.memory} allows only {budget / 1e6:,.0f} MB for it; raise {own.setting('buckets')} or memory"
        )
