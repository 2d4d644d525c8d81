"""A lake that Bucketwheel writes and Trino reads: S3, a Glue catalog, and projects that publish there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from aws_server import CREDENTIALS, plain_client
from project import Project, Result
from workspace import Workspace

from .trino_server import CATALOG, Answer, Trino

SNAPSHOT = "2025-10-22"
PREFIX = "bucketed_"


@dataclass(frozen=True)
class Lake:
    """A bucket on an S3 server, a Glue catalog, and a Trino that reads both."""

    trino: Trino
    glue: str
    s3: str
    bucket: str
    root: Path
    client: Any

    def project(self, name: str, datasets: dict[str, Any], **settings: Any) -> LakeProject:
        """Return a project with its own database and target, both named `name`."""
        return LakeProject(self, name, datasets, settings)

    def publish(self, name: str, rows: pa.Table, keys: Sequence[str], **settings: Any) -> LakeProject:
        """Publish one table, `name`, in database `name` with Bucketwheel."""
        source = write_snapshot(self.root / name / "in", rows)
        project = self.project(name, {name: {"source": str(source), "key": list(keys)}}, **settings)
        project.publish(name)
        return project

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of all objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def size(self, key: str) -> int:
        """Return the size of an object in bytes."""
        return int(self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"])

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)


class TrinoProject(Project):
    """A project in its own directory of a lake; it allows NULL and duplicate keys."""

    def __init__(self, lake: Lake, name: str, datasets: dict[str, Any], settings: dict[str, Any]) -> None:
        Workspace.__init__(self, lake.root / name, name, name)
        self.lake = lake
        self.name = name
        self.conf = self.root / "conf"
        quality = {"null_keys": "allow", "duplicate_keys": "allow"}
        self.settings = {"threads": 2, "quality": quality, "datasets": datasets}
        self.set(**settings)

    def publish(self, dataset: str, *arguments: str) -> Result:
        """Run a dataset and expect it to succeed."""
        result = self.cli("run", dataset, *arguments)
        assert result.exit_code == 0, result.stderr
        return result


class LakeProject(TrinoProject):
    """A project whose target is on S3 and whose catalog is Glue."""

    def __init__(self, lake: Lake, name: str, datasets: dict[str, Any], settings: dict[str, Any]) -> None:
        services = {
            "target": f"s3://{lake.bucket}/{name}",
            "catalog": {"kind": "glue", "path": None, "database": name},
            "aws": {"endpoint_url": lake.glue, "region": "us-east-1"},
            "storage": {"endpoint_url": lake.s3, "path_style": True},
            "trino": {"host": "127.0.0.1", "port": lake.trino.port},
        }
        super().__init__(lake, name, datasets, services)
        self.set(**settings)

    def cli(self, *arguments: str) -> Result:
        """See `Project.cli`; AWS's credentials are in the environment meanwhile."""
        with mock.patch.dict(os.environ, CREDENTIALS):
            return super().cli(*arguments)

    def table(self, name: str, catalog: str = CATALOG, prefix: str = PREFIX) -> str:
        """Return the qualified name of a published table in Trino."""
        return f'"{catalog}"."{self.name}"."{prefix}{name}"'

    def data(self, table: str) -> list[str]:
        """Return the keys of all data files of a table, of all runs."""
        return [key for key in self.lake.keys(f"{self.name}/") if f"/{table}/" in key and key.endswith(".parquet")]

    def run_ids(self, dataset: str = "") -> list[str]:
        """Return the ids of the runs on S3 that have a manifest, oldest first."""
        keys = self.lake.keys(f"{self.name}/_bucketwheel/{dataset or self.name}/runs/")
        ids = {key.split("/")[-2] for key in keys if key.endswith("/manifest.json")}
        return sorted(ids, key=lambda name: name[11:])

    def locations(self) -> dict[str, str]:
        """Return the locations of the tables in the catalog."""
        with closing(plain_client("glue", self.lake.glue)) as glue:
            pages = glue.get_paginator("get_tables").paginate(DatabaseName=self.name)
            tables = [table for page in pages for table in page["TableList"]]
        return {table["Name"]: table["StorageDescriptor"]["Location"] for table in tables}

    def ask(self, text: str, **session: object) -> Answer:
        return self.lake.trino.ask(text, **session)


def write_snapshot(source: Path, rows: pa.Table, snapshot: str = SNAPSHOT) -> Path:
    """Write one snapshot below `source`, and return `source`."""
    directory = source / f"snapshot_dt={snapshot}"
    directory.mkdir(parents=True)
    pq.write_table(rows, directory / "part-00000.parquet")
    return source
