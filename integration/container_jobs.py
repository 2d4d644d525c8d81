"""Run jobs in containers with input, target and configuration in S3."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import yaml
from container_support import (
    ENVIRONMENT,
    REGION,
    SCRATCH,
    SPARK_SUBMIT,
    Finished,
    Service,
    application,
    ended,
    finish,
)
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from bucketwheel.sample import Sample
from run_output import S3_LEASES, hash_files, unexpected_files

WIDE, NARROW = "infobase_attributes", "addressable_ids"
JOB = "/opt/bucketwheel/job.py"
KEYS = {
    "aws_access_key_id": ENVIRONMENT["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
    "region_name": REGION,
}
# Arguments that Glue passes to every script.
_OF_GLUE = ("--JOB_NAME", "etl", "--JOB_RUN_ID", "jr_1", "--job-language", "python", "--enable-metrics", "true")


@dataclass(frozen=True)
class Site:
    """The bucket and the Glue catalog of one test, and the image of its jobs."""

    bucket: str
    s3: Any
    glue: Any
    s3_inside: str
    image: str
    network: Network

    @property
    def database(self) -> str:
        """Default database of published tables."""
        return self.bucket.replace("-", "_")

    def job(
        self, *arguments: str, spark: Sequence[str] = ("--master", "local[2]"), **environment: str
    ) -> DockerContainer:
        """Return a job container as Glue would start it, configured only by its arguments and the S3 endpoint."""
        words = [*spark, JOB, *_OF_GLUE, "--env", "prod", "--config-dir", f"s3://{self.bucket}/conf", *arguments]
        return application(
            self.image,
            words,
            entrypoint=[SPARK_SUBMIT],
            environment={"AWS_ENDPOINT_URL_S3": self.s3_inside, **environment},
            network=self.network,
        )

    def run(self, *arguments: str, **environment: str) -> str:
        """Run a job that must succeed; return its output."""
        return finish(self.job(*arguments, **environment)).check()

    def objects(self, target: str) -> dict[str, str]:
        """Return the modification time of each object below a target."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{target}/")
        entries = [entry for page in pages for entry in page.get("Contents", ())]
        return {entry["Key"].removeprefix(f"{target}/"): str(entry["LastModified"]) for entry in entries}

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        content: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def digests(self, target: str) -> dict[str, str]:
        """Return the SHA-256 of every data file by dataset, table and name."""
        return hash_files(self.objects(target), lambda key: self.read(f"{target}/{key}"))

    def strays(self, target: str) -> list[str]:
        """Return unexpected objects below a target, and incomplete uploads."""
        begun = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=f"{target}/").get("Uploads", ())
        uploads = [f"upload to {upload['Key']}" for upload in begun]
        return uploads + unexpected_files(self.objects(target), (WIDE, NARROW), S3_LEASES)

    def manifest(self, target: str) -> Mapping[str, Any]:
        """Return the only manifest below a target."""
        (key,) = (key for key in self.objects(target) if key.endswith("/manifest.json"))
        manifest: Mapping[str, Any] = json.loads(self.read(f"{target}/{key}"))
        return manifest

    def leases_end(self, target: str) -> None:
        """Wait until the leases of killed runs have expired."""
        for key in self.objects(target):
            if key.endswith("lease.json"):
                text = json.loads(self.read(f"{target}/{key}")).get("expires")
                left = (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds() if text else 0
                time.sleep(max(left + 0.5, 0))

    def tables(self, database: str) -> dict[str, Mapping[str, Any]]:
        """Return Glue's definition of every table by name; empty if the database does not exist."""
        try:
            pages = [*self.glue.get_paginator("get_tables").paginate(DatabaseName=database)]
        except self.glue.exceptions.EntityNotFoundException:
            return {}
        return {table["Name"]: table for page in pages for table in page["TableList"]}


@contextmanager
def site(
    name: str, s3: Service, moto: Service, image: str, network: Network, sample: Sample, **settings: Any
) -> Iterator[Site]:
    """Create a bucket with a sample and a configuration; `settings` are top-level settings."""
    job_site = Site(
        name,
        boto3.client("s3", endpoint_url=s3.url, **KEYS),
        boto3.client("glue", endpoint_url=moto.url, **KEYS),
        s3.inside,
        image,
        network,
    )
    job_site.s3.create_bucket(Bucket=name)
    for path in sorted(sample_file for sample_file in sample.directory.rglob("*") if sample_file.is_file()):
        job_site.s3.upload_file(str(path), name, path.relative_to(sample.directory).as_posix())
    configured = {**_configuration(job_site, moto), **settings}
    for file, content in (("base", yaml.safe_dump(configured)), ("prod", "{}")):
        job_site.s3.put_object(Bucket=name, Key=f"conf/{file}.yaml", Body=content.encode())
    try:
        yield job_site
    finally:
        job_site.s3.close()
        job_site.glue.close()


def _configuration(job_site: Site, moto: Service) -> dict[str, Any]:
    return {
        "engine": "spark",
        "target": f"s3://{job_site.bucket}/out",
        # moto in its container lacks the calls for column statistics.
        "catalog": {"kind": "glue", "path": None, "database": job_site.database, "column_statistics": "none"},
        "aws": {"endpoint_url": moto.inside},
        "storage": {"endpoint_url": job_site.s3_inside, "spill_directory": SCRATCH},
        "datasets": {
            WIDE: {
                "source": f"s3://{job_site.bucket}/opus/{WIDE}/raw_input",
                "mapping": f"s3://{job_site.bucket}/opus/{WIDE}/mapping.csv",
                "key": "Customer_User_id",
            },
            NARROW: {"source": f"s3://{job_site.bucket}/opus/{NARROW}/raw_input", "key": "Customer_User_id"},
        },
    }


class Running:
    """A running job."""

    def __init__(self, container: DockerContainer) -> None:
        self.container = container
        container.start()

    def said(self) -> str:
        """Return the log of the driver so far."""
        said: bytes = self.container.get_wrapped_container().logs()
        return said.decode(errors="replace")

    def until(self, happened: Callable[[], bool], what: str, seconds: float = 90) -> None:
        """Wait for a condition while the job runs.

        Raises:
            AssertionError: the job ended first, or the wait timed out.
        """
        wrapped = self.container.get_wrapped_container()
        end = time.monotonic() + seconds
        while not happened():
            wrapped.reload()
            assert wrapped.status == "running", f"it ended before {what}:\n{self.said()[-4000:]}"
            assert time.monotonic() < end, f"{what}: not within {seconds} s:\n{self.said()[-4000:]}"
            time.sleep(0.05)

    def logs(self, pattern: str) -> None:
        """Wait until the log matches a pattern."""
        self.until(lambda: re.search(pattern, self.said()) is not None, repr(pattern))

    def finished(self, seconds: float = 120) -> Finished:
        """Wait until the job ends."""
        return ended(self.container, seconds)


@contextmanager
def running(container: DockerContainer) -> Iterator[Running]:
    """Start a job and remove its container afterwards."""
    try:
        yield Running(container)
    finally:
        container.stop()
