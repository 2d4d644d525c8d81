"""Convert table definitions to and from Glue's API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from bucketwheel.catalogs.spark_table import spark_parameters, without_spark_parameters
from bucketwheel.contracts import CatalogTable
from bucketwheel.storage.locations import with_s3_scheme

_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
_EXTERNAL = "EXTERNAL"
_ASCENDING = 1


def as_table(response: Mapping[str, Any]) -> CatalogTable:
    """Return the definition of a table; `native` keeps Glue's complete response."""
    storage = response.get("StorageDescriptor") or {}
    count = storage.get("NumberOfBuckets", 0)
    buckets = tuple(storage.get("BucketColumns") or ()) if count > 0 else ()
    parameters = without_spark_parameters(response.get("Parameters") or {})
    parameters.pop(_EXTERNAL, None)
    return CatalogTable(
        name=response["Name"],
        location=with_s3_scheme((storage.get("Location") or "").rstrip("/")),
        columns=tuple((column["Name"], column.get("Type", "")) for column in storage.get("Columns") or ()),
        bucket_columns=buckets,
        bucket_count=count if buckets else 0,
        sorted=bool(buckets) and tuple(sort["Column"] for sort in storage.get("SortColumns") or ()) == buckets,
        parameters=parameters,
        version=response.get("VersionId"),
        native=response,
    )


def kept_input(table: CatalogTable, fields: Collection[str]) -> dict[str, Any] | None:
    """Return the input that restores a table in Glue: the fields of its response that are in `fields`.

    Return None if the definition did not come from Glue or has been changed since.
    """
    if not table.native or as_table(table.native) != replace(table, version=table.native.get("VersionId")):
        return None
    return {name: value for name, value in table.native.items() if name in fields}


def new_input(table: CatalogTable) -> dict[str, Any]:
    """Return Glue's input for a table of Parquet files."""
    for_spark = spark_parameters(table)
    parameters = {**table.parameters, **for_spark, _EXTERNAL: "TRUE"}
    serde = {"serialization.format": "1"}
    if for_spark:
        # If a table has a provider, Spark reads its location from here.
        serde["path"] = f"{table.location}/"
    table_input = {
        "Name": table.name,
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": [],
        "Parameters": parameters,
        "StorageDescriptor": {
            "Columns": [{"Name": name, "Type": kind} for name, kind in table.columns],
            # Without the slash, readers that list by prefix would also read directories with the same prefix.
            "Location": f"{table.location}/",
            "InputFormat": f"{_PARQUET}.MapredParquetInputFormat",
            "OutputFormat": f"{_PARQUET}.MapredParquetOutputFormat",
            "SerdeInfo": {"SerializationLibrary": f"{_PARQUET}.serde.ParquetHiveSerDe", "Parameters": serde},
            "Compressed": True,
            "NumberOfBuckets": table.bucket_count if table.bucket_columns else -1,
            "BucketColumns": list(table.bucket_columns),
            "SortColumns": [
                {"Column": column, "SortOrder": _ASCENDING} for column in table.bucket_columns if table.sorted
            ],
            "StoredAsSubDirectories": False,
        },
    }
    if comment := table.parameters.get("comment"):
        table_input["Description"] = comment
    return table_input
