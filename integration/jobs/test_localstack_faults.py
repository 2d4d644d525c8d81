"""Run processes against a LocalStack that pauses, fails, or loses or delays responses."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from container_jobs import KEYS
from container_support import Service
from faults.proxy import FaultProxy, Request, healthy, seeded

from bucketwheel.sample import Sample, SampleSpec, write_sample
from project import WIDE, Project, environment
from s3_support import Bucket

pytestmark = pytest.mark.docker

SAMPLE = SampleSpec(rows=1_200, tables=3, columns=4, files=3, row_group_rows=150)
LATE = 5.0
FILES = 3 * 4


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("sample"), SAMPLE)


@pytest.fixture(scope="module")
def expected(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the files that a run on local disk writes."""
    project = Project(tmp_path_factory.mktemp("local"), sample)
    project.run()
    hashes = project.hashes()
    assert len(hashes) == FILES
    return hashes


@pytest.fixture
def proxy(localstack: Service) -> Iterator[FaultProxy]:
    with FaultProxy(localstack.url, delay_seconds=LATE) as started:
        yield started


@pytest.fixture
def bucket(localstack: Service) -> Iterator[Bucket]:
    """A bucket for this test, without the proxy."""
    config = Config(s3={"addressing_style": "path"})
    client: Any = boto3.client("s3", endpoint_url=localstack.url, config=config, **KEYS)
    name = f"faults-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield Bucket(client, name)
    client.close()


@pytest.fixture
def project(bucket: Bucket, sample: Sample, proxy: FaultProxy, tmp_path: Path) -> Project:
    remote = bucket.project(tmp_path / "project", sample)
    remote.set(storage={"endpoint_url": proxy.url, "region": KEYS["region_name"]})
    return remote


def start(project: Project) -> subprocess.Popen[str]:
    names = {name.upper(): value for name, value in KEYS.items() if name != "region_name"}
    nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    variables = environment(**names, **nowhere, AWS_EC2_METADATA_DISABLED="true")
    return subprocess.Popen(
        project.command("run", WIDE), env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Run a command that must succeed; return its output."""
    try:
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


def check(bucket: Bucket, project: Project, expected: dict[str, str]) -> None:
    assert bucket.hashes() == expected
    assert bucket.uploads() == []
    (run_id,) = {key.split("/")[3] for key in bucket.keys(f"out/{WIDE}/ibe_")}
    books = [
        f"out/_bucketwheel/{WIDE}/lease.json",
        f"out/_bucketwheel/{WIDE}/runs/{run_id}/catalogs/ID.json",
        f"out/_bucketwheel/{WIDE}/runs/{run_id}/claim.json",
        f"out/_bucketwheel/{WIDE}/runs/{run_id}/manifest.json",
        f"out/_bucketwheel/{WIDE}/runs/{run_id}/summary.json",
        f"out/{WIDE}/metadata/snapshot_dt.txt",
        f"out/{WIDE}/metadata/tables.json",
    ]
    keys = [re.sub(r"catalogs/\w{8}", "catalogs/ID", key) for key in bucket.keys("out/")]
    assert [key for key in keys if not key.endswith(".parquet")] == books
    assert project.catalog.exists()


@pytest.mark.parametrize("seed", range(4))
def test_run_survives_failed_lost_and_delayed_requests(
    bucket: Bucket, project: Project, proxy: FaultProxy, expected: dict[str, str], seed: int
) -> None:
    proxy.plan = seeded(seed, 0.08)
    finish(start(project))
    proxy.plan = healthy
    assert len({one.fault for one in proxy.answered} - {None}) >= 2
    check(bucket, project, expected)


def test_timed_out_requests_are_retried_and_late_writes_harmless(
    bucket: Bucket, project: Project, proxy: FaultProxy, expected: dict[str, str]
) -> None:
    project.set(storage={"read_seconds": 2})
    late: list[Request] = []

    def plan(request: Request) -> str | None:
        chosen = request.key.endswith(("000001_0.snappy.parquet", "manifest.json")) or request.key.startswith("in/")
        if request.method not in ("GET", "PUT") or request.number or not chosen:
            return None
        late.append(request)
        return "delay"

    proxy.plan = plan
    finish(start(project))
    assert {request.method for request in late} == {"GET", "PUT"}
    again = {(one.request.method, one.request.key) for one in proxy.answered if one.request.number}
    assert {(request.method, request.key) for request in late} <= again
    # Requests that timed out arrive late.
    time.sleep(LATE)
    assert len([one for one in proxy.answered if one.fault == "delay"]) == len(late)
    check(bucket, project, expected)


def test_run_waits_for_server_that_is_paused(
    bucket: Bucket, project: Project, proxy: FaultProxy, localstack: Service, expected: dict[str, str]
) -> None:
    project.set(storage={"read_seconds": 1})
    container = localstack.container.get_wrapped_container()
    written, lock = threading.Event(), threading.Lock()

    def plan(request: Request) -> None:
        with lock:
            if request.method == "PUT" and request.key.endswith(".parquet") and not written.is_set():
                container.pause()
                written.set()

    proxy.plan = plan
    process = start(project)
    try:
        assert written.wait(90)
        time.sleep(3)
    finally:
        if written.is_set():
            container.unpause()
    finish(process)
    check(bucket, project, expected)
