"""Publish the same five tables in each layout that readers are compared on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bucketwheel.pipeline.run import run
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.settings import Settings
from glue_inputs import table_inputs

from .reader_iceberg import DATABASE, glue_tables, metadata_files
from .reader_rounds import ICEBERG, Variant

WIDE = "infobase_attributes"
JOINED = 5
# As many files as buckets, so that only their content differs. On two cores, few are enough to read in parallel.
FILES = 4
UNBUCKETED = "unbucketed"
_NONE = {"count": "none"}
LAYOUTS: dict[str, dict[str, Any]] = {
    UNBUCKETED: {**_NONE, "sort": False},
    "sorted": _NONE,
    "hive_v1": {"count": FILES},
    "spark": {"count": FILES, "hash": "spark"},
    ICEBERG: {"count": FILES, "hash": "iceberg"},
}
# The settings with which Spark joins Iceberg tables by their partitions.
_BY_PARTITION = {
    "spark.sql.sources.v2.bucketing.enabled": "true",
    "spark.sql.iceberg.planning.preserve-data-grouping": "true",
}
_ORDERED = {"spark.sql.legacy.bucketedTableScan.outputOrdering": "true"}


def schema(layout: str) -> str:
    """Return the schema of the tables of a layout."""
    return f"layout_{layout}"


VARIANTS = [
    *(Variant(name, schema(name)) for name in LAYOUTS if name != ICEBERG),
    # The same tables once more, with a setting of the reader.
    Variant("spark, order used", "layout_spark", _ORDERED, spark_only=True),
    Variant(ICEBERG, schema(ICEBERG), _BY_PARTITION),
]


def published(layout: str, data: Path, out: Path) -> Iterator[dict[str, Any]]:
    """Publish the data in a layout and yield its tables as Glue would have them."""
    root = data / "opus" / WIDE
    source = {"source": str(root / "raw_input"), "mapping": str(root / "mapping.csv"), "key": "Customer_User_id"}
    place = out / layout
    catalog = {"path": str(place / "catalog.duckdb")}
    if layout == ICEBERG:
        catalog = {"kind": "iceberg", "database": schema(layout), "final_prefix": ""}
    settings = Settings.model_validate({
        "target": str(place),
        "catalog": catalog,
        "buckets": LAYOUTS[layout],
        "size": {"files_per_gb": 1e6, "max_files": FILES},
        "datasets": {WIDE: source},
    })  # fmt: skip
    request = RunRequest(WIDE, tables_filter=tuple(mapping(data))[:JOINED])
    manifest = run(settings, request, lambda _: None).manifest
    if layout == ICEBERG:
        yield from glue_tables(metadata_files(place / DATABASE))
    else:
        yield from table_inputs(manifest, settings)


def mapping(data: Path) -> dict[str, list[str]]:
    """Return the source columns of each table."""
    columns: dict[str, list[str]] = {}
    with (data / "opus" / WIDE / "mapping.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            columns.setdefault(row["OMC_FLYWHEEL_TABLE"], []).append(row["OMC_FLYWHEEL_COLUMN"])
    return columns


def described(tables: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """Return number and size of the files of the first table in every layout."""
    first = {
        name: inputs[0]["StorageDescriptor"]["Location"].removeprefix("file://") for name, inputs in tables.items()
    }
    sizes = {name: [path.stat().st_size for path in Path(place).rglob("*.parquet")] for name, place in first.items()}
    return {name: {"files": len(files), "bytes": sum(files)} for name, files in sizes.items()}


def one_column_table(name: str, column: str, directory: Path) -> dict[str, Any]:
    """Return Glue's `TableInput` of Parquet files with one column of text."""
    formats = "org.apache.hadoop.hive.ql.io.parquet"
    return {
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE"},
        "StorageDescriptor": {
            "Columns": [{"Name": column, "Type": "string"}],
            "Location": f"{directory}/",
            "InputFormat": f"{formats}.MapredParquetInputFormat",
            "OutputFormat": f"{formats}.MapredParquetOutputFormat",
            "SerdeInfo": {"SerializationLibrary": f"{formats}.serde.ParquetHiveSerDe", "Parameters": {}},
        },
    }
