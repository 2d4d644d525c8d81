"""Propose tables for the columns of a source, by the first word of their names."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from bucketwheel.catalogs.field_names import field_problem
from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.errors import SchemaError
from bucketwheel.kernel.layout import standard_name

# Minimum number of columns of a table that is named after their prefix.
_FEWEST = 2


def propose_tables(
    schema: pa.Schema, keys: Sequence[str], dataset: str, unsupported: Mapping[str, str] | None = None
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the columns of each proposed table, and the reason for each column that fits no table.

    Columns whose names begin with the same word, without its digits, form a table; all others go to a table with the
    name of the dataset. Tables and columns keep the order of the source. `unsupported` says of columns that cannot be
    written why.
    """
    taken = {standard_name(key) for key in keys}
    refused: dict[str, str] = {}
    for field in schema:
        if field.name in keys:
            continue
        if problem := (unsupported or {}).get(field.name) or field_problem(field.type, field.name):
            refused[field.name] = problem
            continue
        name = standard_name(field.name)
        if not name or name in taken:
            refused[field.name] = f"another column is called {name!r}" if name else "its name has no letter or digit"
            continue
        try:
            hive_type(field.type, field.name)
        except SchemaError:
            refused[field.name] = f"its type {field.type} is not supported by catalogs"
            continue
        taken.add(name)
    columns = [name for name in schema.names if name not in keys and name not in refused]
    sizes = Counter(map(_prefix, columns))
    tables: dict[str, list[str]] = {}
    for column in columns:
        prefix = _prefix(column)
        tables.setdefault(prefix if prefix and sizes[prefix] >= _FEWEST else dataset, []).append(column)
    return tables, refused


def mapping_text(tables: Mapping[str, Sequence[str]]) -> str:
    """Return the mapping CSV of tables."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("table", "column"))
    writer.writerows((table, column) for table, columns in tables.items() for column in columns)
    return stream.getvalue()


def _prefix(column: str) -> str:
    return standard_name(column).partition("_")[0].rstrip("0123456789")
