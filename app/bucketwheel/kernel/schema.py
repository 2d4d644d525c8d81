"""Build the planned schema of a table's files, and compare a written file with it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.kernel.arrow_types import canonical_type
from bucketwheel.kernel.iceberg_types import field_ids, has_field_ids, iceberg_file_schema


def planned_schema(source: pa.Schema, columns: Iterable[tuple[str, str]]) -> bytes:
    """Return the serialized Arrow schema of a table with these (source name, new name) columns."""
    fields = [(name, canonical_type(source.field(column).type)) for column, name in columns]
    return bytes(pa.schema(fields).serialize().to_pybytes())


def planned_iceberg_schema(
    source: pa.Schema, columns: Iterable[tuple[str, str]], ids: Mapping[str, int] | None = None
) -> bytes:
    """Return the serialized Arrow schema of an Iceberg table; see `iceberg_file_schema`."""
    return bytes(iceberg_file_schema(source, columns, ids).serialize().to_pybytes())


def parquet_schema(metadata: pq.FileMetaData) -> pq.ParquetSchema:
    """Return the schema of a file.

    The attribute `schema` of the metadata refers to the metadata and back. So both stay in memory, a megabyte for
    1,000 columns, until Python's garbage collector runs, which counts objects and not their bytes.
    """
    return pq.ParquetSchema(metadata)


def schema_difference(planned: bytes, actual: pq.ParquetSchema) -> str | None:
    """Return a text about the first difference in columns or types, or None if the schemas match.

    Field ids count if the planned schema has any.
    """
    expected, names = _parquet_schema(planned)
    columns = actual.to_arrow_schema().names
    if columns != names:
        return f"columns {columns}, expected {names}"
    # A fast check. It also reports different field ids.
    if actual.equals(expected):
        return None
    for leaf, planned_leaf in zip_longest(_leaves(actual), _leaves(expected), fillvalue="nothing"):
        if leaf != planned_leaf:
            return f"{leaf}, expected {planned_leaf}"
    wanted = expected.to_arrow_schema()
    if has_field_ids(wanted):
        written, planned_ids = field_ids(actual.to_arrow_schema()), field_ids(wanted)
        if written != planned_ids:
            name, number = next((pair for pair in written if pair not in planned_ids), ("", None))
            return f"field {name!r} has the id {number}, expected {dict(planned_ids).get(name)}"
    return None


# Called for each file. The plan is serialized because engines pickle it with each task.
@lru_cache(maxsize=1024)
def _parquet_schema(planned: bytes) -> tuple[pq.ParquetSchema, list[str]]:
    """Return the Parquet schema of a serialized Arrow schema, and its column names."""
    schema = pa.ipc.read_schema(pa.py_buffer(planned))
    file = io.BytesIO()
    # As in `writer_options`.
    integers = {"store_decimal_as_integer": True} if has_field_ids(schema) else {}
    pq.write_table(schema.empty_table(), file, store_schema=False, **integers)
    return parquet_schema(pq.read_metadata(file)), schema.names


def _leaves(schema: pq.ParquetSchema) -> Iterator[str]:
    """Yield path, physical type and logical type of every leaf column."""
    for number in range(len(schema)):
        leaf = schema.column(number)
        yield f"column {leaf.path!r} of type {leaf.physical_type}, logical type {leaf.logical_type}"
