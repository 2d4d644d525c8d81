"""The lake that all these tests share, made once a run; they tell each other apart by their databases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import boto3
import pytest
from botocore.config import Config

from bucketwheel.sample import SampleSpec, write_sample

from .aws_process import aws_process
from .lake import Lake
from .tables_of_persons import WIDE, Persons
from .trino_install import NotInstalledError, java, trino_home
from .trino_server import trino_process

BUCKET = "lake"
# Queries this short are over before the JVM's thorough compiler has paid for itself.
QUICK = ["-XX:TieredStopAtLevel=1"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("trino")
            # One server serves them all, and two would not fit on a small machine.
            item.add_marker(pytest.mark.xdist_group("trino"))


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn]) -> Iterator[Lake]:
    """S3 is moto, or what S3_ENDPOINT names; Glue is moto."""
    try:
        java()
        trino_home()
    except NotInstalledError as missing:
        cannot(str(missing))
    work = tmp_path_factory.mktemp("lake")
    with aws_process(work) as glue:
        s3 = os.environ.get("S3_ENDPOINT") or glue
        client = boto3.client(
            "s3",
            endpoint_url=s3,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(s3={"addressing_style": "path"}),
        )
        bucket = f"{BUCKET}-{os.getpid()}"
        client.create_bucket(Bucket=bucket)
        with trino_process(work, glue, s3, bucket, "2G", QUICK) as trino:
            yield Lake(trino, glue, s3, bucket, work, client)
        client.close()


@pytest.fixture(scope="session")
def persons(lake: Lake) -> Persons:
    """Six thousand persons in five tables; not to be changed."""
    sample = write_sample(lake.root / "sample", SampleSpec(rows=6_000, tables=5, columns=6, files=3))
    source = {"source": str(sample.source), "mapping": str(sample.mapping), "key": "Customer_User_id"}
    files = 16
    bucketed = lake.project("bucketed", {WIDE: source}, buckets={"count": files})
    sizes = {"files_per_gb": 1e6, "max_files": files}
    scattered = lake.project("scattered", {WIDE: source}, buckets={"count": "none"}, size=sizes)
    for project in (bucketed, scattered):
        project.publish(WIDE)
    return Persons(sample, bucketed, scattered, files)
