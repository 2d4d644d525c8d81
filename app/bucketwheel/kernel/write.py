"""Write the rows of one bucket and table as Parquet files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, TableLayout
from bucketwheel.kernel.calendars import calendar_metadata
from bucketwheel.kernel.dictionaries import saves_nothing
from bucketwheel.kernel.iceberg_types import to_iceberg_content
from bucketwheel.kernel.layout import bucket_file_name
from bucketwheel.kernel.write_batch import MOST_VALUES, write_batch_values
from bucketwheel.runs.manifest import FileRecord
from bucketwheel.storage import Storage, join


class _TooLargeError(Exception):
    """The file exceeds the size limit and must not become visible."""


def write_table(
    job: BucketJob, table: TableLayout, bucket: int, content: pa.Table, options: dict[str, Any]
) -> list[FileRecord]:
    """Write the content as one file, or as several of at most `job.max_file_bytes`.

    Files are split between row groups; a file exceeds the limit only if a single row group does. `options` come from
    `writer_options` and are the same for all buckets.

    Raises:
        StorageError: a file cannot be written.
    """
    if job.hash == "iceberg":
        content = to_iceberg_content(content, pa.ipc.read_schema(pa.py_buffer(table.schema)))
    content, options = _without_useless_dictionaries(content, options)
    options = file_options(options, content, table.row_group_rows)
    records: list[FileRecord] = []
    start = 0
    while start < content.num_rows:
        name = bucket_file_name(bucket, len(records), job.hash)
        rows, size = _write_file(job, table, join(table.directory, name), content.slice(start), options)
        records.append(FileRecord(table=table.name, name=name, rows=rows, bytes=size))
        start += rows
    return records


def _write_file(
    job: BucketJob, table: TableLayout, path: str, rest: pa.Table, options: dict[str, Any]
) -> tuple[int, int]:
    """Write as many row groups of `rest` as fit into one file; return its rows and bytes."""
    storage = Storage(job.storage)
    max_groups = math.ceil(rest.num_rows / table.row_group_rows)
    while True:
        with suppress(_TooLargeError):
            with storage.create(path, job.scratch) as sink:
                with parquet_writer(sink, rest.schema, table, options) as writer:
                    groups = _write_groups(rest, table.row_group_rows, max_groups, job.max_file_bytes, sink, writer)
                size = sink.tell()
                if size > job.max_file_bytes and groups > 1:
                    # Never move this file to its final name: a late task would replace a published file.
                    raise _TooLargeError
            return min(groups * table.row_group_rows, rest.num_rows), size
        # The last row group is larger than those before it, or the footer does not fit.
        max_groups = groups - 1


def _write_groups(
    rest: pa.Table, group_rows: int, max_groups: int, limit: int, sink: pa.NativeFile, writer: pq.ParquetWriter
) -> int:
    groups = largest = 0
    while groups < max_groups and (not groups or sink.tell() + largest <= limit):
        before = sink.tell()
        writer.write_table(rest.slice(groups * group_rows, group_rows), row_group_size=group_rows)
        largest = max(largest, sink.tell() - before)
        groups += 1
    return groups


@contextmanager
def parquet_writer(
    sink: Any, schema: pa.Schema, table: TableLayout, options: dict[str, Any]
) -> Iterator[pq.ParquetWriter]:
    """Open a writer of one file of a table; `schema` may have dictionaries, and `options` are `writer_options`."""
    with pq.ParquetWriter(sink, schema, **options) as writer:
        if metadata := calendar_metadata(table.schema):
            writer.add_key_value_metadata(metadata)
        yield writer


def writer_options(job: BucketJob, table: TableLayout) -> dict[str, Any]:
    """Return the Parquet writer's options: Snappy; statistics and page index for the keys only.

    Rows are in key order, so values of other columns are in random order and their statistics would prune nothing.
    Files of Iceberg tables have statistics of all columns: readers answer `count`, `min` and `max` from them.
    """
    schema = pa.ipc.read_schema(pa.py_buffer(table.schema))
    names = [name for _, name in job.keys]
    coded = [
        path
        for source, name in table.columns
        if source in job.dictionary_columns
        for path in _leaves(name, schema.field(name).type)
    ]
    iceberg: dict[str, Any] = {"write_statistics": True, "store_decimal_as_integer": True}
    return {
        "compression": "snappy",
        "use_dictionary": coded or False,
        "write_statistics": names,
        "write_page_index": True,
        "store_schema": False,
        "data_page_size": job.page_bytes,
        "write_batch_size": MOST_VALUES,
        "sorting_columns": [pq.SortingColumn(i, nulls_first=True) for i in range(len(names))] if job.sort else None,
        **(iceberg if job.hash == "iceberg" else {}),
    }


def _without_useless_dictionaries(content: pa.Table, options: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    """Return the content and the options of its file, with plain columns where values hardly repeat."""
    useless = []
    for position, (name, column) in enumerate(zip(content.column_names, content.columns, strict=True)):
        if pa.types.is_dictionary(column.type) and saves_nothing(column.chunk(0)):
            content = content.set_column(position, name, column.chunk(0).dictionary_decode())
            useless.append(name)
    if not useless:
        return content, options
    coded = [path for path in options["use_dictionary"] if path not in useless]
    return content, {**options, "use_dictionary": coded or False}


def file_options(options: dict[str, Any], content: pa.Table, group_rows: int) -> dict[str, Any]:
    """Return the options of a file with this content, from those of its table."""
    return {**options, "write_batch_size": write_batch_values(content, group_rows, options["data_page_size"])}


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """Yield the Parquet paths of the leaves of a column."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_map(kind):
        yield from _leaves(f"{path}.key_value.key", kind.key_type)
        yield from _leaves(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path
