"""Describe a table to Spark, which reads schema and buckets from table parameters and ignores Hive's definition.

The parameters are those that Spark's `HiveExternalCatalog` writes for a bucketed table of a data source. Spark
rejects a table that has the buckets without the schema, so a table gets all of them or none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.contracts import CatalogTable

_SOURCES = "spark.sql.sources."
_PROVIDER = f"{_SOURCES}provider"
_SCHEMA = f"{_SOURCES}schema"
_VERSION = "spark.sql.create.version"
# The version whose parameters these are; readers of any version know them.
_WRITTEN_AS = "3.5.0"
# Spark splits longer values, because Hive's metastore holds 4,000 characters per value.
_LONGEST_VALUE = 4000
# Spark parses Hive's type names too, and knows no other characters in the names of fields.
_FIELD_NAME = re.compile("[A-Za-z0-9_]+")
_SPARK_NAMES = {"tinyint": "byte", "smallint": "short", "int": "integer", "bigint": "long"}


def spark_schema(columns: Iterable[tuple[str, pa.DataType]]) -> str:
    """Return the schema of a table as Spark's JSON: names keep their case, and every value may be NULL.

    Raises:
        SchemaError: a column has a type without a Hive type.
    """
    fields = [_field(name, _spark_type(kind, name)) for name, kind in columns]
    return json.dumps(_struct(fields), separators=(",", ":"))


def spark_parameters(table: CatalogTable) -> dict[str, str]:
    """Return the parameters that tell Spark schema and buckets of a table in Spark's buckets; none for other tables.

    Without the schema, Spark reads the columns from the files and no buckets.
    """
    if table.parameters.get("bucketing_format") != "spark":
        return {}
    # Without the provider, Trino would expect Hive's buckets; with it, Trino reads the table as unbucketed.
    parameters = {_PROVIDER: "parquet"}
    if table.spark_schema and table.bucket_columns:
        parameters |= {_VERSION: _WRITTEN_AS, f"{_SCHEMA}.numBuckets": str(table.bucket_count)}
        parameters |= _split(_SCHEMA, table.spark_schema)
        parameters |= _columns("bucket", table.bucket_columns)
        if table.sorted:
            parameters |= _columns("sort", table.bucket_columns)
    return parameters


def unreadable_field(kind: pa.DataType) -> str | None:
    """Return the name of a nested field for which Spark rejects the whole table, or None."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    inner = [kind.field(number) for number in range(kind.num_fields)]
    # The names of fields of lists and maps are not part of the type.
    own = [field.name for field in inner if pa.types.is_struct(kind) and not _FIELD_NAME.fullmatch(field.name)]
    return next(filter(None, [*own, *(unreadable_field(field.type) for field in inner)]), None)


def without_spark_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters without those that describe the table to Spark."""
    return {name: value for name, value in parameters.items() if not name.startswith(_SOURCES) and name != _VERSION}


def _columns(kind: str, names: tuple[str, ...]) -> dict[str, str]:
    count = {f"{_SCHEMA}.num{kind.title()}Cols": str(len(names))}
    return count | {f"{_SCHEMA}.{kind}Col.{number}": name for number, name in enumerate(names)}


def _split(name: str, value: str) -> dict[str, str]:
    """Return a value as one parameter, or as numbered parts if it is long."""
    if len(value) <= _LONGEST_VALUE:
        return {name: value}
    parts = [value[start : start + _LONGEST_VALUE] for start in range(0, len(value), _LONGEST_VALUE)]
    numbered = {f"{name}.part.{number}": part for number, part in enumerate(parts)}
    return {f"{name}.numParts": str(len(parts))} | numbered


def _spark_type(kind: pa.DataType, column: str) -> str | dict[str, Any]:
    """Return a type as Spark's JSON has it."""
    if isinstance(kind, pa.BaseExtensionType):
        return _spark_type(kind.storage_type, column)
    if pa.types.is_dictionary(kind):
        return _spark_type(kind.value_type, column)
    if pa.types.is_struct(kind):
        return _struct([_field(field.name, _spark_type(field.type, column)) for field in kind])
    if pa.types.is_map(kind):
        return {
            "type": "map",
            "keyType": _spark_type(kind.key_type, column),
            "valueType": _spark_type(kind.item_type, column),
            "valueContainsNull": True,
        }
    name = hive_type(kind, column)
    if name.startswith("array<"):
        return {"type": "array", "elementType": _spark_type(kind.value_type, column), "containsNull": True}
    return _timestamp(kind) if name == "timestamp" else _SPARK_NAMES.get(name, name)


def _timestamp(kind: pa.TimestampType) -> str:
    # Spark reads nanoseconds only as a number.
    if kind.unit == "ns":
        return "long"
    # Spark shows values of type `timestamp` in the time zone of the session.
    return "timestamp" if kind.tz else "timestamp_ntz"


def _struct(fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "struct", "fields": fields}


def _field(name: str, kind: str | dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}
