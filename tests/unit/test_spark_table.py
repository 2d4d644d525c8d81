"""The parameters that describe a table to Spark."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from bucketwheel.catalogs.glue_table import as_table, kept_input, new_input
from bucketwheel.catalogs.spark_table import spark_parameters, spark_schema
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import SchemaError
from stage_support import Pair

SCHEMA = "spark.sql.sources.schema"
COLUMNS = (("a", pa.string()), ("b", pa.int64()), ("v", pa.list_(pa.int8())))
TABLE = CatalogTable(
    name="t",
    location="s3://bucket/t",
    columns=(("a", "string"), ("b", "bigint"), ("v", "array<tinyint>")),
    bucket_columns=("a", "b"),
    bucket_count=7,
    sorted=True,
    parameters={"bucketing_format": "spark", "bucketwheel.run_id": "r"},
    spark_schema=spark_schema(COLUMNS),
)


def field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


def struct(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "struct", "fields": list(fields)}


def array(kind: Any) -> dict[str, Any]:
    return {"type": "array", "elementType": kind, "containsNull": True}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.bool_(), "boolean"),
        (pa.int8(), "byte"),
        (pa.uint8(), "short"),
        (pa.int16(), "short"),
        (pa.uint16(), "integer"),
        (pa.int32(), "integer"),
        (pa.int64(), "long"),
        (pa.float32(), "float"),
        (pa.float64(), "double"),
        (pa.date32(), "date"),
        (pa.decimal128(38, 2), "decimal(38,2)"),
        (pa.large_string(), "string"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.binary(3), "binary"),
        (pa.time64("us"), "long"),
        (pa.duration("ms"), "long"),
        (pa.timestamp("ms"), "timestamp_ntz"),
        (pa.timestamp("us", "Europe/Berlin"), "timestamp"),
        (pa.timestamp("ns"), "long"),
        (pa.list_(pa.timestamp("ns", "UTC"), 2), array("long")),
        (Pair(), struct(field("a", "long"), field("b", "string"))),
        (
            pa.map_(pa.string(), pa.struct({"Xy": pa.list_(pa.int16(), 2), "ü": pa.date64()})),
            {
                "type": "map",
                "keyType": "string",
                "valueType": struct(field("Xy", array("short")), field("ü", "date")),
                "valueContainsNull": True,
            },
        ),
    ],
)
def test_spark_schema_has_type(kind: pa.DataType, expected: Any) -> None:
    assert json.loads(spark_schema([("Name", kind)])) == struct(field("Name", expected))


def test_spark_schema_refuses_type_without_hive_type() -> None:
    with pytest.raises(SchemaError, match=r"column 'n' has type uint32"):
        spark_schema([("n", pa.list_(pa.uint32()))])


def test_parameters_have_schema_and_buckets() -> None:
    assert spark_parameters(TABLE) == {
        "spark.sql.create.version": "3.5.0",
        "spark.sql.sources.provider": "parquet",
        SCHEMA: TABLE.spark_schema,
        f"{SCHEMA}.numBuckets": "7",
        f"{SCHEMA}.numBucketCols": "2",
        f"{SCHEMA}.bucketCol.0": "a",
        f"{SCHEMA}.bucketCol.1": "b",
        f"{SCHEMA}.numSortCols": "2",
        f"{SCHEMA}.sortCol.0": "a",
        f"{SCHEMA}.sortCol.1": "b",
    }


def test_parameters_of_unsorted_table_name_no_sort_columns() -> None:
    sort = {f"{SCHEMA}.{name}" for name in ("numSortCols", "sortCol.0", "sortCol.1")}
    assert spark_parameters(TABLE).keys() - spark_parameters(replace(TABLE, sorted=False)).keys() == sort


@pytest.mark.parametrize("change", [{"spark_schema": None}, {"bucket_columns": (), "bucket_count": 0}])
def test_parameters_name_no_buckets_without_schema(change: dict[str, Any]) -> None:
    assert spark_parameters(replace(TABLE, **change)) == {"spark.sql.sources.provider": "parquet"}


def test_table_in_hive_buckets_has_no_spark_parameters() -> None:
    assert spark_parameters(replace(TABLE, parameters={"bucketing_version": "1"})) == {}


def test_long_schema_is_split_into_parts() -> None:
    text = spark_schema([(f"column_{number}", pa.string()) for number in range(200)])
    parameters = spark_parameters(replace(TABLE, spark_schema=text))
    parts = [parameters[f"{SCHEMA}.part.{number}"] for number in range(int(parameters[f"{SCHEMA}.numParts"]))]
    assert SCHEMA not in parameters
    assert "".join(parts) == text
    assert {len(part) for part in parts[:-1]} == {4000}


def test_read_table_equals_published_one() -> None:
    table_input = new_input(TABLE)
    assert table_input["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"] == "s3://bucket/t/"
    assert as_table(table_input) == TABLE


def test_table_of_earlier_version_is_equal_and_put_back_as_it_was() -> None:
    earlier = new_input(replace(TABLE, spark_schema=None))
    assert as_table(earlier) == TABLE
    assert kept_input(as_table(earlier), earlier.keys()) == earlier
