"""Tables that Bucketwheel writes to local disk and Trino reads there, which is much faster than S3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa

from aws_server import plain_client
from bucketwheel.catalogs.hive_types import hive_type

from .key_tables import VERSIONS
from .lake import PREFIX, Lake, TrinoProject, write_snapshot
from .trino_server import CATALOG

_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"


class DiskProject(TrinoProject):
    """A project with one dataset that is written and verified on disk but not published."""

    def __init__(self, lake: Lake, name: str, rows: pa.Table, keys: Sequence[str], buckets: dict[str, Any]) -> None:
        source = write_snapshot(lake.root / name / "in", rows)
        settings = {
            "target": str(lake.root / name / "out"),
            "stages": ["discover", "split", "size", "bucket", "verify"],
            "buckets": buckets,
        }
        super().__init__(lake, name, {name: {"source": str(source), "key": list(keys)}}, settings)

    def location(self) -> str:
        """Return the location of the files of the run, as Trino expects it."""
        (written,) = (self.root / "out" / self.name / self.name).iterdir()
        return f"local:///{written.relative_to(self.lake.root)}/"


def show_written(lake: Lake, name: str, rows: pa.Table, keys: Sequence[str], **buckets: Any) -> str:
    """Write a table to disk with Bucketwheel, define it in Trino, and return its qualified name."""
    project = DiskProject(lake, name, rows, keys, buckets)
    project.publish(name)
    return show(lake, name, hive_types(rows.schema), project.location(), keys, **buckets)


def hive_types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: hive_type(field.type, field.name) for field in schema}


def show(
    lake: Lake, name: str, columns: Mapping[str, str], location: str, keys: Sequence[str], **buckets: Any
) -> str:
    """Define a table as Bucketwheel would, in its own database; return its qualified name.

    Args:
        lake: the lake.
        name: name of the database, and of the table without prefix.
        columns: the Hive type of each column.
        location: directory of the files.
        keys: bucket columns.
        buckets: `count`, and `hash` unless it is hive_v1.
    """
    described = {
        "Columns": [{"Name": column, "Type": kind} for column, kind in columns.items()],
        "Location": location,
        "InputFormat": f"{_PARQUET}.MapredParquetInputFormat",
        "OutputFormat": f"{_PARQUET}.MapredParquetOutputFormat",
        "SerdeInfo": {"SerializationLibrary": f"{_PARQUET}.serde.ParquetHiveSerDe"},
        "NumberOfBuckets": buckets["count"],
        "BucketColumns": list(keys),
    }
    version = str(VERSIONS[buckets.get("hash", "hive_v1")])
    table = {"Name": f"{PREFIX}{name}", "TableType": "EXTERNAL_TABLE", "StorageDescriptor": described}
    with closing(plain_client("glue", lake.glue)) as glue:
        glue.create_database(DatabaseInput={"Name": name})
        glue.create_table(
            DatabaseName=name, TableInput={**table, "Parameters": {"EXTERNAL": "TRUE", "bucketing_version": version}}
        )
    return f'"{CATALOG}"."{name}"."{PREFIX}{name}"'
