"""The application image writes the same bytes as the host: both engines, on local disk and on S3."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import boto3
import pytest
from container_support import (
    ENVIRONMENT,
    ROOT,
    SCRATCH,
    SPARK_SUBMIT,
    Service,
    application,
    finish,
    run_options,
)
from testcontainers.core.network import Network

from run_output import hash_files, hash_local_files, without_run

pytestmark = pytest.mark.docker

SAMPLE = ("--rows", "20000", "--tables", "3", "--columns", "5", "--files", "3")
JOB = "/opt/bucketwheel/job.py"
BUCKET = "same-bytes"


@dataclass(frozen=True)
class Host:
    """The sample, and the digest of each file that the host writes from it, by dataset, table and file."""

    sample: Path
    digests: dict[str, str]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn]) -> Host:
    """Run on the host with the pyarrow and numpy versions of the image."""
    python = Path(os.environ.get("FLOOR_PYTHON") or ROOT / ".venv-floor" / "bin" / "python")
    if not python.exists():
        cannot(f"{python} is not here; `make floor` makes it")
    place = tmp_path_factory.mktemp("host")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "app")}
    local = {"catalog__path": f"{place}/catalog.duckdb", "storage__spill_directory": str(place)}
    run = ["run", "--conf", str(ROOT / "conf"), *run_options(str(place), **local)]
    for words in (["sample", f"{place}/data", *SAMPLE], run):
        command = [str(python), "-m", "bucketwheel", *words]
        subprocess.run(command, check=True, env=environment, cwd=place, capture_output=True)
    out = place / "out"
    digests = hash_local_files(out)
    assert len(digests) == 4 * 8
    return Host(place / "data", digests)


@pytest.mark.parametrize("engine", ["arrow", "spark"])
@pytest.mark.parametrize("name", ["glue_image", "emr_image"])
def test_image_writes_same_bytes_on_local_disk(
    request: pytest.FixtureRequest, host: Host, name: str, engine: str
) -> None:
    start = {"arrow": "bucketwheel run", "spark": f"{SPARK_SUBMIT} --master 'local[2]' {JOB}"}[engine]
    script = (
        f"cd {SCRATCH} && bucketwheel sample data {' '.join(SAMPLE)} >&2 && "
        f"{start} --env local {' '.join(run_options(SCRATCH, engine=engine))} >&2 && "
        "cd out && find . -name '*.parquet' -exec sha256sum {} +"
    )
    # Without a network: nothing is fetched, and nobody is told. Spark wants to know the address of its host.
    container = application(
        request.getfixturevalue(name),
        ["-c", script],
        entrypoint=["/bin/bash"],
        network_mode="none",
        hostname="localhost",
    )
    lines = [line.split(maxsplit=1) for line in finish(container).check().splitlines()]
    assert {without_run(path.removeprefix("./")): digest for digest, path in lines} == host.digests


@pytest.fixture(scope="module")
def bucket(host: Host, localstack: Service) -> Iterator[Any]:
    """An S3 client, with the sample in `BUCKET`."""
    keys = {name.lower(): value for name, value in ENVIRONMENT.items() if name.endswith("_KEY") or "KEY_ID" in name}
    s3 = boto3.client("s3", endpoint_url=localstack.url, region_name=ENVIRONMENT["AWS_REGION"], **keys)
    s3.create_bucket(Bucket=BUCKET)
    for path in sorted(host.sample.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, f"data/{path.relative_to(host.sample)}")
    yield s3
    s3.close()


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("glue_image", "arrow"),
        ("emr_image", "arrow"),
        ("glue_image", "spark on a cluster"),
        ("emr_image", "spark"),
    ],
)
def test_image_writes_same_bytes_on_s3(
    request: pytest.FixtureRequest,
    host: Host,
    bucket: Any,
    localstack: Service,
    network: Network,
    name: str,
    engine: str,
) -> None:
    place = f"{name}-{engine}".replace(" ", "-").replace("_", "-")
    changes = {
        "engine": engine.partition(" ")[0],
        "target": f"s3://{BUCKET}/{place}",
        "storage__endpoint_url": localstack.inside,
    }
    options = ["--env", "local", *run_options(f"s3://{BUCKET}", **changes)]
    if engine == "arrow":
        entrypoint, words = ["/usr/local/bin/bucketwheel"], ["run", *options]
    else:
        cluster = request.getfixturevalue("cluster").master if engine != "spark" else "local[2]"
        entrypoint, words = [SPARK_SUBMIT], ["--master", cluster, JOB, *options]
    finish(application(request.getfixturevalue(name), words, entrypoint=entrypoint, network=network)).check()
    pages = bucket.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{place}/")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]

    def read(key: str) -> bytes:
        content: bytes = bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    digests = hash_files((key.removeprefix(f"{place}/") for key in keys), lambda key: read(f"{place}/{key}"))
    assert digests == host.digests
    manifests = [json.loads(read(key)) for key in keys if key.endswith("/manifest.json")]
    assert {manifest["runtime"] for manifest in manifests} == {"container"}
