"""Records of the data files of an Iceberg layout: what a manifest of Iceberg tells of each file.

`verify` collects them from the footers. A run keeps one file for each Iceberg layout, beside its manifest, so that
its tables can be published again after the catalog has expired their snapshots.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.errors import StorageError
from bucketwheel.formatting import counted
from bucketwheel.runs.manifest import FileRecord

# A row of `SCHEMA`.
FileRow = Mapping[str, Any]

# One row per file. The lists from `ids` on have one element per Parquet column; an unknown statistic is NULL.
SCHEMA = pa.schema(
    {
        "table": pa.string(),
        "name": pa.string(),
        "bucket": pa.int32(),
        "rows": pa.int64(),
        "bytes": pa.int64(),
        "splits": pa.list_(pa.int64()),
        "ids": pa.list_(pa.int32()),
        "sizes": pa.list_(pa.int64()),
        "values": pa.list_(pa.int64()),
        "nulls": pa.list_(pa.int64()),
        "lower": pa.list_(pa.binary()),
        "upper": pa.list_(pa.binary()),
    }
)
_COMPRESSION = "zstd"


def pack(rows: Sequence[FileRow]) -> str:
    """Return rows as text, which engines can send between processes; empty without rows."""
    if not rows:
        return ""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA))
    return base64.b64encode(sink.getvalue()).decode()


def unpack(texts: Iterable[str]) -> pa.Table:
    """Return the rows of these texts as one table."""
    tables = [pa.ipc.open_stream(base64.b64decode(text)).read_all() for text in texts if text]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def encode(rows: pa.Table) -> bytes:
    """Return the content of the file that keeps these rows: Parquet, a row group for each table, ordered by name."""
    sink = io.BytesIO()
    ordered = rows.sort_by([("table", "ascending"), ("name", "ascending")])
    names = ordered.column("table").to_pylist()
    # Without dictionaries the file is a third smaller: most values differ.
    options = {"compression": _COMPRESSION, "use_dictionary": False, "write_statistics": ["table"]}
    with pq.ParquetWriter(sink, SCHEMA, **options) as writer:
        start = 0
        while start < len(names):
            count = names.count(names[start])
            writer.write_table(ordered.slice(start, count))
            start += count
    return sink.getvalue()


def decode(content: bytes, path: str, table: str, expected: Sequence[FileRecord]) -> pa.Table:
    """Return the rows of one table, in the order of the `expected` files.

    Raises:
        StorageError: the content is damaged, or is not that of these files.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        group = next((g for g in range(file.num_row_groups) if _table_of(file.metadata.row_group(g)) == table), None)
        rows = SCHEMA.empty_table() if group is None else file.read_row_group(group, use_threads=False)
        rows.validate()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    if not rows.schema.equals(SCHEMA):
        raise _damaged(path, "it has other columns")
    found = {
        name: (count, size, position)
        for position, (name, count, size) in enumerate(
            zip(*(rows.column(column).to_pylist() for column in ("name", "rows", "bytes")), strict=True)
        )
    }
    for file_record in expected:
        known = found.get(file_record.name)
        if known is None or known[:2] != (file_record.rows, file_record.bytes):
            raise _damaged(path, f"it does not match {file_record.name} of table {table} in the manifest")
    if len(found) != len(expected):
        raise _damaged(
            path, f"it has {counted(len(found), 'file')} of table {table}, and the manifest has {len(expected)}"
        )
    return rows.take(pa.array([found[file_record.name][2] for file_record in expected], pa.int64()))


def _table_of(group: pq.RowGroupMetaData) -> str:
    return str(group.column(0).statistics.min)


def _damaged(path: str, reason: str) -> StorageError:
    return StorageError(
        f"{path}: the records of the Iceberg data files are damaged: {reason}; restore the file, or run again"
    )
