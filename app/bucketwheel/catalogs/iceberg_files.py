"""Describe the tables of a run to catalogs that hold Iceberg tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pyarrow as pa

from bucketwheel.contracts import DataFile, FileMetrics, IcebergDefinition
from bucketwheel.kernel.iceberg_types import field_id, iceberg_file_schema, iceberg_schema
from bucketwheel.runs.data_files import decode
from bucketwheel.runs.manifest import FileRecord, LayoutSize, Manifest, TableColumns, layout_table
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import join


class IcebergFiles:
    """The definitions of the tables of an Iceberg layout of a verified run."""

    def __init__(self, manifest: Manifest, runs: RunStore, layout: LayoutSize) -> None:
        self._manifest = manifest
        self._runs = runs
        self._layout = layout
        # All tables share one file, which is read when the first of them is published.
        self._read = cache(lambda: runs.data_files(manifest.dataset, manifest.run_id, layout.id))

    def definition(self, table: TableColumns) -> IcebergDefinition:
        """Return the definition of a table.

        Raises:
            SchemaError: Iceberg has no type for a column.
        """
        schema = table_schema(self._manifest, self._layout.id, table)
        bucketed = self._layout.bucketed
        return IcebergDefinition(
            schema=iceberg_schema(schema),
            location=self._directory(table).rpartition("/")[0],
            key_id=field_id(schema.field(0)),
            bucket_count=self._layout.bucket_count if bucketed else 0,
            sorted=self._layout.sort and bucketed,
            files=lambda: self._files(table),
        )

    def _directory(self, table: TableColumns) -> str:
        return self._runs.data_directory(self._manifest.dataset, table.name, self._manifest.run_id, self._layout.id)

    def _files(self, table: TableColumns) -> list[DataFile]:
        path, content = self._read()
        rows = decode(content, path, table.name, self._records(table))
        count = self._layout.bucket_count if self._layout.bucketed else 0
        directory = self._directory(table)
        columns = [column.to_pylist() for column in rows.select(["name", "bytes", "rows", "bucket"]).columns]
        return [
            DataFile(join(directory, name), size, row_count, bucket if bucket < count else None, metrics)
            for (name, size, row_count, bucket), metrics in zip(
                zip(*columns, strict=True), _metrics(rows), strict=True
            )
        ]

    def _records(self, table: TableColumns) -> list[FileRecord]:
        outcomes = self._manifest.bucket.outcomes
        own = (outcome for outcome in outcomes if outcome.layout == self._layout.id)
        return [file for outcome in own for file in outcome.files if file.table == table.name]


def table_schema(manifest: Manifest, layout: str, table: TableColumns) -> pa.Schema:
    """Return the Arrow schema of the files of a table in an Iceberg layout, with field ids.

    Raises:
        SchemaError: Iceberg has no type for a column.
    """
    columns = ((column.source, column.name) for column in (*manifest.split.keys, *table.columns))
    ids = manifest.split.field_ids.get(layout_table(layout, table.name))
    return iceberg_file_schema(manifest.discover.schema(), columns, ids)


def _metrics(rows: pa.Table) -> Iterator[FileMetrics]:
    names = ("ids", "sizes", "values", "nulls", "lower", "upper", "splits")
    lists = [_lists(rows.column(name)) for name in names]
    for ids, sizes, values, nulls, lower, upper, splits in zip(*lists, strict=True):
        yield FileMetrics(
            column_sizes=_known(ids, sizes),
            value_counts=_known(ids, values),
            null_counts=_known(ids, nulls),
            lower_bounds=_known(ids, lower),
            upper_bounds=_known(ids, upper),
            split_offsets=tuple(splits),
        )


def _lists(column: pa.ChunkedArray) -> list[list[Any]]:
    """Return lists as Python's; to convert all values at once is much faster than one list after the other."""
    combined = pa.concat_arrays(column.chunks)
    values = combined.values.to_pylist()
    return [values[start:end] for start, end in pairwise(combined.offsets.to_pylist())]


def _known(ids: list[int], values: list[Any]) -> dict[int, Any]:
    return {number: value for number, value in zip(ids, values, strict=True) if value is not None}
