"""Build the job of an engine from the results of discover, split and size."""

from __future__ import annotations

from bucketwheel.contracts import BucketJob, Slice, TableLayout
from bucketwheel.kernel.schema import planned_schema
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore


def bucket_job(manifest: Manifest, runs: RunStore) -> BucketJob:
    """Return the input of scatter, gather and verify for a run; it depends only on the manifest."""
    discovered = manifest.discover
    split = manifest.split
    size = manifest.size
    dataset = manifest.dataset
    schema, keys = discovered.schema(), tuple((key.source, key.name) for key in split.keys)
    rows = {table.name: table.row_group_rows for table in size.tables}
    return BucketJob(
        storage=runs.storage.settings,
        slices=tuple(
            Slice(
                part.index,
                discovered.files[part.file].path,
                tuple(range(part.first_row_group, part.first_row_group + part.row_groups)),
                part.rows,
                discovered.files[part.file].version,
            )
            for part in size.slices
        ),
        keys=keys,
        tables=tuple(
            TableLayout(
                table.name,
                runs.data_directory(dataset, table.name, manifest.run_id),
                tuple((column.source, column.name) for column in table.columns),
                rows[table.name],
                planned_schema(schema, (*keys, *((column.source, column.name) for column in table.columns))),
            )
            for table in split.tables
        ),
        bucket_count=size.bucket_count,
        hash=size.hash,
        sort=size.sort,
        max_file_bytes=size.max_file_bytes,
        page_bytes=size.page_bytes,
        dictionary_columns=frozenset(size.dictionary_columns),
        decoded_bytes_per_row=size.decoded_bytes_per_row,
        scratch=runs.scratch(dataset, manifest.run_id),
    )
