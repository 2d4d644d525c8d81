"""Build the job of an engine from the results of discover, split and size."""

from __future__ import annotations

import pyarrow as pa

from bucketwheel.contracts import BucketJob, OtherLayout, Slice, TableLayout
from bucketwheel.kernel.schema import planned_iceberg_schema, planned_schema
from bucketwheel.runs.manifest import LayoutSize, Manifest, TableColumns, layout_table
from bucketwheel.runs.store import RunStore
from bucketwheel.stages.decoded_bytes import decoded_bytes


def bucket_job(manifest: Manifest, runs: RunStore) -> BucketJob:
    """Return the input of scatter, gather and verify for a run; it depends only on the manifest."""
    discovered = manifest.discover
    size = manifest.size
    first, *others = size.layouts
    return BucketJob(
        storage=runs.storage.settings,
        slices=tuple(
            Slice(
                part.index,
                discovered.files[part.file].path,
                tuple(range(part.first_row_group, part.first_row_group + part.row_groups)),
                part.rows,
                discovered.files[part.file].version,
                tuple(zip(discovered.partition_columns, discovered.files[part.file].partition_values, strict=True)),
            )
            for part in size.slices
        ),
        keys=_keys(manifest),
        tables=_tables(manifest, first, runs),
        bucket_count=size.bucket_count,
        hash=size.hash,
        sort=size.sort,
        max_file_bytes=size.max_file_bytes,
        page_bytes=size.page_bytes,
        dictionary_columns=(coded := frozenset(size.dictionary_columns)),
        dictionary_bytes=sum(column.dictionary_bytes or 0 for column in discovered.columns if column.name in coded),
        decoded_bytes_per_row=size.decoded_bytes_per_row,
        scratch=runs.scratch(manifest.dataset, manifest.run_id),
        others=tuple(
            OtherLayout(
                name=layout.name,
                tables=_tables(manifest, layout, runs),
                bucket_count=layout.bucket_count,
                hash=layout.hash,
                sort=layout.sort,
                max_file_bytes=layout.max_file_bytes,
            )
            for layout in others
        ),
    )


def _keys(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    return tuple((key.source, key.name) for key in manifest.split.keys)


def _tables(manifest: Manifest, layout: LayoutSize, runs: RunStore) -> tuple[TableLayout, ...]:
    """Return the tables of a layout."""
    discovered = manifest.discover
    schema, decoded = discovered.schema(), decoded_bytes(discovered)
    rows = {table.name: table.row_group_rows for table in layout.tables}
    return tuple(
        TableLayout(
            table.name,
            runs.data_directory(manifest.dataset, table.name, manifest.run_id, layout.id),
            tuple((column.source, column.name) for column in table.columns),
            rows[table.name],
            _schema(manifest, layout, table, schema),
            sum(decoded[part.source] for part in table.columns),
        )
        for table in manifest.split.tables
    )


def _schema(manifest: Manifest, layout: LayoutSize, table: TableColumns, source: pa.Schema) -> bytes:
    """Return the serialized schema of the files of a table."""
    columns = (*_keys(manifest), *((column.source, column.name) for column in table.columns))
    if layout.hash != "iceberg":
        return planned_schema(source, columns)
    return planned_iceberg_schema(source, columns, manifest.split.field_ids.get(layout_table(layout.id, table.name)))
