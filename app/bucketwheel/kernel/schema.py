"""The schema that the files of a table are to have, and how that of a file read back differs from it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.kernel.arrow_types import plain_type


def planned_schema(source: pa.Schema, columns: Iterable[tuple[str, str]]) -> bytes:
    """Return the Arrow schema, serialised, of a table made of (source name, new name) columns."""
    fields = [(name, plain_type(source.field(column).type)) for column, name in columns]
    return bytes(pa.schema(fields).serialize().to_pybytes())


def schema_difference(planned: bytes, found: pq.ParquetSchema) -> str | None:
    """Return in words where a file has other columns or types than planned; None where it has not."""
    expected, names = _parquet_schema(planned)
    columns = found.to_arrow_schema().names
    if columns != names:
        return f"columns {columns}, expected {names}"
    # Quick, but fields with other numbers differ for it too, and those have the same types.
    if found.equals(expected):
        return None
    for leaf, wanted in zip_longest(_leaves(found), _leaves(expected), fillvalue="nothing"):
        if leaf != wanted:
            return f"{leaf}, expected {wanted}"
    return None


# A file is checked for each bucket and table, and engines send the plan along with each: bytes, as these pickle.
@lru_cache(maxsize=1024)
def _parquet_schema(planned: bytes) -> tuple[pq.ParquetSchema, list[str]]:
    """Return what Parquet makes of an Arrow schema, and the names of its columns."""
    schema = pa.ipc.read_schema(pa.py_buffer(planned))
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file, store_schema=False)
    return pq.read_metadata(file).schema, schema.names


def _leaves(schema: pq.ParquetSchema) -> Iterator[str]:
    """Yield path, physical and logical type of everything that Parquet stores a column in."""
    for number in range(len(schema)):
        leaf = schema.column(number)
        yield f"column {leaf.path!r} of type {leaf.physical_type}, logical type {leaf.logical_type}"
