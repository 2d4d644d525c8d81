"""DuckDB connections on tables on S3, without DuckDB's S3 extension.

Queries run in another process: DuckDB waits for Arrow with Python's lock, which the S3 server of the tests needs too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from faults.proxy import FaultProxy

from bucketwheel import api
from bucketwheel.errors import CatalogError, StorageError
from bucketwheel.sample import Sample
from project import DATABASE, WIDE, Project, environment
from s3_support import Bucket


@pytest.fixture(params=["duckdb", "glue"])
def published(
    request: pytest.FixtureRequest,
    bucket: Bucket,
    tmp_path: Path,
    clean: Sample,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project on S3 that has published its input, in a catalog of each kind."""
    project = bucket.project(tmp_path / "p", clean)
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", s3_endpoint)
    client: Any = boto3.client("glue", endpoint_url=s3_endpoint, region_name="us-east-1")
    if request.param == "glue":
        client.create_database(DatabaseInput={"Name": DATABASE})
        project.set(catalog={"kind": "glue", "path": None, "database": DATABASE})
    project.run()
    yield project
    if request.param == "glue":
        client.delete_database(Name=DATABASE)


def queried(project: Project, *statements: str) -> subprocess.CompletedProcess[str]:
    """Print the rows of each statement on one connection of another process."""
    code = (
        "import sys; from bucketwheel import api; "
        f"connection = api.connect(api.load('local', {str(project.conf)!r})); "
        "[print(connection.sql(statement).fetchall()) for statement in sys.argv[1:]]"
    )
    words = [sys.executable, "-c", code, *statements]
    return subprocess.run(words, capture_output=True, text=True, env=environment(), check=False, timeout=60)


def test_connect_reads_tables_on_s3(published: Project, proxy: FaultProxy) -> None:
    key = "customer_user_id"
    done = queried(
        published,
        f"SELECT count(*), count(DISTINCT {key}) FROM {DATABASE}.bucketed_ibe_01",
        f"SELECT count(*) FROM bucketed_ibe_01 JOIN ext_ibe_02 USING ({key})",
        f"SELECT count(*) FROM bucketed_ibe_01 WHERE {key} = (SELECT min({key}) FROM bucketed_ibe_04)",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(1200, 1200)]\n[(1200,)]\n[(1,)]\n", "")
    refused = queried(published, "INSERT INTO bucketed_ibe_01 SELECT * FROM bucketed_ibe_01")
    assert (refused.returncode, "bucketed_ibe_01" in refused.stderr) == (1, True)


def test_connect_after_files_are_deleted_names_the_table(published: Project, bucket: Bucket) -> None:
    for key in bucket.keys(f"out/{WIDE}/ibe_01/"):
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    with pytest.raises(
        CatalogError,
        match=r"'\w+_ibe_01': s3://\S+: contains 0 Parquet files, expected \d+ files?; .*rollback RUN_ID",
    ):
        api.connect(published.configuration())


def test_connect_to_requester_pays_bucket_names_other_readers(bucket: Bucket, tmp_path: Path, clean: Sample) -> None:
    project = bucket.project(tmp_path / "p", clean)
    project.run()
    with pytest.raises(StorageError, match="Arrow cannot read requester-pays buckets; query the tables with Athena"):
        api.connect(project.configuration(storage__requester_pays=True))
