"""Settings and engine of one test on moto's Athena, Glue and S3."""

from __future__ import annotations

from typing import Any

from glue_support import glue_settings

from aws_server import plain_client
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.settings import AthenaSettings, CtasSettings, Settings, StorageSettings
from bucketwheel.storage import Storage
from fake_sql import TinySql


def athena_settings(endpoint: str, aws: dict[str, Any] | None = None, **athena: Any) -> Settings:
    """Return settings with a new bucket and a new database."""
    settings = glue_settings(endpoint, "unused", aws)
    bucket = settings.catalog.database.replace("_", "-")
    plain_client("s3", endpoint).create_bucket(Bucket=bucket)
    return settings.model_copy(
        update={
            "target": f"s3://{bucket}/target",
            "storage": StorageSettings(endpoint_url=endpoint, region="us-east-1"),
            "ctas": CtasSettings(method="athena", poll_seconds=0.05),
            "athena": AthenaSettings(**{"output_location": f"s3://{bucket}/results/", **athena}),
        }
    )


def s3_engine(settings: Settings, enforced: str | None = None) -> TinySql:
    return TinySql(GlueCatalog(settings), Storage.of(settings), enforced)
