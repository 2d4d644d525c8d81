"""Fixtures: one lake for all tests of a session; each test uses its own database."""

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
from .iceberg_disk import IcebergDisk
from .lake import Lake
from .maven import NotInstalledError
from .people_tables import WIDE, PeopleTables
from .rest_server import rest_process
from .trino_install import java, trino_home
from .trino_server import trino_process

BUCKET = "lake"
# Queries this short are over before the JVM's thorough compiler has paid for itself.
QUICK = ["-XX:TieredStopAtLevel=1"]
WITHOUT_LOCALSTACK = pytest.StashKey[str]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("trino")
            # One server serves them all, and two would not fit on a small machine.
            item.add_marker(pytest.mark.xdist_group("trino"))


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> str | None:
    """Return the endpoint of S3: S3_ENDPOINT, else LocalStack in a container, or None without Docker."""
    if given := os.environ.get("S3_ENDPOINT"):
        return given
    try:
        return str(request.getfixturevalue("s3_endpoint"))
    except pytest.skip.Exception as missing:
        request.config.stash[WITHOUT_LOCALSTACK] = str(missing)
        return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report if the tests used another S3 server than LocalStack."""
    if missing := config.stash.get(WITHOUT_LOCALSTACK, None):
        terminalreporter.section("interop")
        terminalreporter.line(f"S3 was moto instead of LocalStack: {missing}")


@pytest.fixture(scope="session")
def lake(
    tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn], s3: str | None
) -> Iterator[Lake]:
    """A lake on the S3 server of `s3`, or on moto if there is none; Glue is moto."""
    try:
        java()
        trino_home()
    except NotInstalledError as missing:
        cannot(str(missing))
    work = tmp_path_factory.mktemp("lake")
    with aws_process(work) as glue:
        place = s3 or glue
        client = boto3.client(
            "s3",
            endpoint_url=place,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(s3={"addressing_style": "path"}),
        )
        bucket = f"{BUCKET}-{os.getpid()}"
        client.create_bucket(Bucket=bucket)
        with trino_process(work, glue, place, bucket, "2G", QUICK) as trino:
            yield Lake(trino, glue, place, bucket, work, client)
        client.close()


@pytest.fixture(scope="session")
def people(lake: Lake) -> PeopleTables:
    """6,000 people in five tables; tests must not change them."""
    sample = write_sample(lake.root / "sample", SampleSpec(rows=6_000, tables=5, columns=6, files=3))
    source = {"source": str(sample.source), "mapping": str(sample.mapping), "key": "Customer_User_id"}
    files = 8
    bucketed = lake.project("bucketed", {WIDE: source}, buckets={"count": files})
    sizes = {"files_per_gb": 1e6, "max_files": files}
    scattered = lake.project("scattered", {WIDE: source}, buckets={"count": "none"}, size=sizes)
    for project in (bucketed, scattered):
        project.publish(WIDE)
    return PeopleTables(sample, bucketed, scattered, files)


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> IcebergDisk:
    """Iceberg tables on local disk; tests must not change them."""
    tables = IcebergDisk(tmp_path_factory.mktemp("iceberg"))
    tables.publish_all()
    return tables


@pytest.fixture(scope="session")
def rest(tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn]) -> Iterator[str]:
    """The address of Iceberg's REST catalog; each test uses its own namespace."""
    try:
        with rest_process(tmp_path_factory.mktemp("rest")) as address:
            yield address
    except NotInstalledError as missing:
        cannot(str(missing))
