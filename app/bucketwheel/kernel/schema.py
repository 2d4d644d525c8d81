"""Build the planned schema of a table's files, and compare a written file with it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.kernel.arrow_types import canonical_type


def planned_schema(source: pa.Schema, columns: Iterable[tuple[str, str]]) -> bytes:
    """Return the serialized Arrow schema of a table with these (source name, new name) columns."""
    fields = [(name, canonical_type(source.field(column).type)) for column, name in columns]
    return bytes(pa.schema(fields).serialize().to_pybytes())


def schema_difference(planned: bytes, actual: pq.ParquetSchema) -> str | None:
    """Return a text about the first difference in columns or types, or None if the schemas match."""
    expected, names = _parquet_schema(planned)
    columns = actual.to_arrow_schema().names
    if columns != names:
        return f"columns {columns}, expected {names}"
    # A fast check. It also reports different field ids, which do not matter.
    if actual.equals(expected):
        return None
    for leaf, planned_leaf in zip_longest(_leaves(actual), _leaves(expected), fillvalue="nothing"):
        if leaf != planned_leaf:
            return f"{leaf}, expected {planned_leaf}"
    return None


# Called for each file. The plan is serialized because engines pickle it with each task.
@lru_cache(maxsize=1024)
def _parquet_schema(planned: bytes) -> tuple[pq.ParquetSchema, list[str]]:
    """Return the Parquet schema of a serialized Arrow schema, and its column names."""
    schema = pa.ipc.read_schema(pa.py_buffer(planned))
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file, store_schema=False)
    return pq.read_metadata(file).schema, schema.names


def _leaves(schema: pq.ParquetSchema) -> Iterator[str]:
    """Yield path, physical type and logical type of every leaf column."""
    for number in range(len(schema)):
        leaf = schema.column(number)
        yield f"column {leaf.path!r} of type {leaf.physical_type}, logical type {leaf.logical_type}"
