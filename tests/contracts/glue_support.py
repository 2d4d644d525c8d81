"""Settings of Glue catalogs, and tables of other programs."""

from __future__ import annotations

import itertools
import os
from typing import Any

from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.settings import AwsSettings, CatalogSettings, Settings

_numbers = itertools.count()


def glue_settings(endpoint: str, target: str, aws: dict[str, Any] | None = None, **catalog: Any) -> Settings:
    """Return settings with a new database."""
    given = {"kind": "glue", "path": None, "database": f"db_{os.getpid()}_{next(_numbers)}", **catalog}
    return Settings(
        target=target,
        aws=AwsSettings(endpoint_url=endpoint, region="us-east-1", **(aws or {})),
        catalog=CatalogSettings(**given),
    )


def glue_in(endpoint: str, target: str, **catalog: Any) -> GlueCatalog:
    return GlueCatalog(glue_settings(endpoint, target, **catalog))


def foreign_table(name: str, kind: str = "table") -> dict[str, Any]:
    """Return the table input that another program passes to CreateTable."""
    storage = {
        "Columns": [{"Name": "answer", "Type": "bigint", "Comment": "forty-two"}],
        "Location": "s3://elsewhere/data/",
        "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
            "Parameters": {"field.delim": ","},
        },
        "NumberOfBuckets": 7,
        "BucketColumns": ["answer"],
        "SortColumns": [{"Column": "answer", "SortOrder": 0}],
    }
    table: dict[str, Any] = {
        "Name": name,
        "Owner": "somebody",
        "Description": "dear to somebody",
        "Retention": 3,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", "spark.sql.sources.provider": "csv", "skip.header.line.count": "1"},
        "StorageDescriptor": storage,
    }
    if kind == "partitioned":
        table["PartitionKeys"] = [{"Name": "day", "Type": "date"}]
    if kind == "view":
        table |= {"TableType": "VIRTUAL_VIEW", "ViewOriginalText": "/* Presto View */", "ViewExpandedText": "/* x */"}
    return table
