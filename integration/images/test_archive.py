"""Unpack the package in a container without Bucketwheel and run it with the parameters that `submit` sends to AWS."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from container_jobs import KEYS, NARROW, WIDE, Site, site
from container_support import REGION, ROOT, SPARK_SUBMIT, Service, application, build, finish, spark_cluster
from testcontainers.core.network import Network

from bucketwheel import api
from bucketwheel.aws import clients
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.jobs import glue_jobs
from bucketwheel.sample import SampleSpec, write_sample

pytestmark = pytest.mark.docker

SAMPLE = SampleSpec(rows=2_000, tables=3, columns=4, files=2, row_group_rows=500)
TABLES = ("ibe_01", "ibe_02")
# Where the package would be on AWS, and where it is in the containers.
PACKAGE, HERE = "s3://omc-flywheel-prod-analysis-data/bucketwheel/0123456789abcdef", "/given"
JOB = "etl-omc-flywheel-prod-pipeline"
# The application's layer is what makes the other place for such files one that Spark may write to.
CLEAN = {"SPARK_LOCAL_DIRS": "/tmp"}
DRIVER_ENVIRONMENT = "spark.emr-serverless.driverEnv."


@dataclass(frozen=True)
class Prod:
    """The example configuration of prod, with its buckets and its catalog on servers of this machine."""

    site: Site
    moto: Service
    s3_outside: str

    def configuration(self, url: str, overrides: Sequence[tuple[str, Any, str]] = ()) -> api.Configuration:
        """Return the configuration with AWS at `url`, which differs between this process and containers."""
        changes = {
            "aws.endpoint_url": url,
            "aws.region": REGION,
            "storage.endpoint_url": self.site.s3_inside,
            "target": f"s3://{self.site.bucket}/out",
            "catalog.database": self.site.database,
            "buckets.count": 4,
            f"datasets.{WIDE}.source": f"s3://{self.site.bucket}/opus/{WIDE}/raw_input",
            f"datasets.{WIDE}.mapping": f"s3://{self.site.bucket}/opus/{WIDE}/mapping.csv",
            f"datasets.{NARROW}.source": f"s3://{self.site.bucket}/opus/{NARROW}/raw_input",
            "deploy.package": PACKAGE,
            # moto in its container lacks these calls.
            "catalog.column_statistics": "none",
            # Executors that fit into the workers here.
            "emr_serverless.cores": 1,
            "emr_serverless.memory_gb": 4,
        }
        written = [(name, value, "conf/prod.yaml") for name, value in changes.items()]
        return api.load("prod", ROOT / "conf", [*written, *overrides], environ={})

    def submit(self, config: api.Configuration, platform: Any) -> str:
        """Submit a run and return its id."""
        done = api.submit(config, platform, api.JobRequest("pipeline", WIDE, (), SAMPLE.snapshot_dt, TABLES), False)
        return done.state.run_id

    def for_platform(self, platform: str) -> api.Configuration:
        """Return the configuration with the target overridden on the command line."""
        by_hand = {
            "deploy.platform": platform,
            "target": f"s3://{self.site.bucket}/{platform}",
            "catalog.database": platform.replace("-", "_"),
        }
        return self.configuration(self.moto.url, [(name, value, "--set") for name, value in by_hand.items()])

    def client(self, service: str) -> Any:
        return closing(boto3.client(service, endpoint_url=self.moto.url, **KEYS))

    def check(self, platform: str, runtime: str) -> None:
        """Raise unless the run published the requested tables at the requested target."""
        manifest = self.site.manifest(platform)
        assert (manifest["status"], manifest["runtime"]) == ("finished", runtime)
        assert (manifest["snapshot_dt"], tuple(manifest["tables_filter"])) == (SAMPLE.snapshot_dt, TABLES)
        published = sorted(f"{prefix}{name}" for prefix in ("bucketed_", "ext_", "spark_") for name in TABLES)
        assert sorted(self.site.tables(platform.replace("-", "_"))) == published
        # In two layouts.
        assert len(self.site.digests(platform)) == 2 * 4 * len(TABLES)
        assert self.site.strays(platform) == []


@pytest.fixture(scope="module")
def prod(
    localstack: Service, moto: Service, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prod]:
    sample = write_sample(tmp_path_factory.mktemp("sample"), SAMPLE)
    with site("packaged", localstack, moto, "", network, sample) as packaged_site:
        yield Prod(packaged_site, moto, localstack.url)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials for submitting jobs from this process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["aws_secret_access_key"])
    clients.renew_session()
    yield
    clients.renew_session()


@pytest.fixture(scope="module")
def archive(image: Callable[[str], str]) -> Path:
    """The archive, built on the base image of EMR Serverless."""
    image("EMR_BASE_IMAGE")
    build("archive")
    return ROOT / "build" / "bucketwheel-venv.tar.gz"


@pytest.fixture(scope="module")
def packed(prod: Prod, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Package:
    """The package that `package` builds from it."""
    # The user of the container is not the one of these tests, whose directories are private.
    directory = tmp_path_factory.mktemp("package")
    directory.chmod(0o755)
    return api.package(prod.configuration(prod.moto.inside), directory / "made", ROOT, archive)


@pytest.fixture
def package(packed: api.Package) -> Path:
    """The directory of the package."""
    return packed.directory


def digests(package: api.Package) -> dict[str, str]:
    """Return the SHA-256 of every file of a package by name."""
    return {file.name: file.sha256 for file in package.files}


def in_clean_container(
    image: str, package: Path, network: Network, environment: Mapping[str, str], words: Sequence[str]
) -> str:
    """Unpack the environment next to the driver, as platforms do, and start `spark-submit` there.

    Only the location of the package differs from the submitted command.
    """
    command = shlex.join([SPARK_SUBMIT, *(word.replace(PACKAGE, HERE) for word in words)])
    script = (
        "! /usr/bin/python3.11 -c 'import bucketwheel' 2>/dev/null && ! test -e /opt/bucketwheel && "
        "mkdir -p /tmp/job/environment && cd /tmp/job && "
        f"tar -xzf {HERE}/environment.tar.gz -C environment && exec {command}"
    )
    container = application(
        image, ["-c", script], entrypoint=["/bin/bash"], environment={**CLEAN, **environment}, network=network
    )
    container.with_volume_mapping(package, HERE)
    return finish(container).check()


def test_emr_serverless_submission_runs_in_clean_container(
    prod: Prod, package: Path, image: Callable[[str], str], network: Network
) -> None:
    config = prod.for_platform("emr-serverless")
    with prod.client("emr-serverless") as emr:
        created = emr.create_application(name="bucketwheel-prod", releaseLabel="emr-7.8.0", type="SPARK")
        run = prod.submit(config, "emr-serverless")
        sent = emr.get_job_run(applicationId=created["applicationId"], jobRunId=run)["jobRun"]["jobDriver"][
            "sparkSubmit"
        ]
    spark = shlex.split(sent["sparkSubmitParameters"])
    settings = dict(word.split("=", 1) for word in spark if word != "--conf")
    # The platform's own part: it sets the environment of drivers, and calls its variables by this name.
    environment = {
        name.removeprefix(DRIVER_ENVIRONMENT): value
        for name, value in settings.items()
        if name.startswith(DRIVER_ENVIRONMENT)
    }
    assert environment["PYSPARK_PYTHON"].startswith("./environment/")
    clean = image("EMR_BASE_IMAGE")
    with spark_cluster(clean, network, "clean", 1, CLEAN) as cluster:
        words = ["--master", cluster.master, *spark, sent["entryPoint"], *sent["entryPointArguments"]]
        in_clean_container(clean, package, network, environment, words)
    prod.check("emr-serverless", "emr-serverless")


def test_glue_submission_runs_in_clean_container(
    prod: Prod, package: Path, image: Callable[[str], str], network: Network
) -> None:
    config = prod.for_platform("glue")
    jobs = [job["Properties"] for job in glue_jobs(Deployment(config.settings, "prod")).values()]
    (job,) = (found for found in jobs if found["Name"] == JOB)
    with prod.client("sns") as sns:
        topic = sns.create_topic(Name="notices")["TopicArn"]
    # CloudFormation's own part: the topic is made with the job.
    defaults = {
        name: topic if value == {"Ref": "Notices"} else value for name, value in job["DefaultArguments"].items()
    }
    with prod.client("glue") as glue:
        glue.create_job(Name=JOB, Role="any", Command=job["Command"], DefaultArguments=defaults, GlueVersion="5.0")
        run = prod.submit(config, "glue")
        sent = glue.get_job_run(JobName=JOB, RunId=run)["JobRun"]["Arguments"]
    arguments = {"--JOB_NAME": JOB, "--JOB_ID": "j_1", "--JOB_RUN_ID": run, **defaults, **sent}
    assert arguments["--python-virtual-env"] == f"{PACKAGE}/environment.tar.gz"
    script = job["Command"]["ScriptLocation"]
    words = ["--master", "local[2]", script, *(word for pair in arguments.items() for word in pair)]
    # The platform runs scripts with the Python of the environment.
    python = "./environment/bin/python"
    environment = {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    in_clean_container(image("BASE_IMAGE"), package, network, environment, words)
    prod.check("glue", "glue")


def test_rebuilt_environment_yields_identical_package(
    prod: Prod, packed: api.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_OPTIONS", "--no-cache")
    before = archive_built()
    again = api.package(prod.configuration(prod.moto.inside), tmp_path / "again", ROOT)
    assert archive_built() > before
    assert digests(again) == digests(packed)
    assert again.digest == packed.digest


def archive_built() -> int:
    """Return the modification time of the archive."""
    return (ROOT / "build" / "bucketwheel-venv.tar.gz").stat().st_mtime_ns


def test_upload_names_package_by_its_content(prod: Prod, packed: api.Package) -> None:
    base = f"s3://{prod.site.bucket}/packages"
    by_hand = [("storage.endpoint_url", prod.s3_outside, "--set"), ("deploy.artifacts", base, "--set")]
    config = prod.configuration(prod.moto.url, by_hand)
    done = api.upload(config, packed)
    assert done.location == f"{base}/{packed.digest[:16]}"
    place = f"packages/{packed.digest[:16]}"
    written = prod.site.objects(place)
    assert sorted(written) == sorted([*digests(packed), "package.json"])
    for name, digest in digests(packed).items():
        assert hashlib.sha256(prod.site.read(f"{place}/{name}")).hexdigest() == digest, name
    manifest = json.loads(prod.site.read(f"{place}/package.json"))
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == digests(packed)
    # A second upload overwrites no file.
    assert api.upload(config, packed).location == done.location
    again = prod.site.objects(place)
    assert {name: again[name] for name in digests(packed)} == {name: written[name] for name in digests(packed)}


def test_archive_can_be_activated(archive: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(tmp_path)], check=True)
    script = f"cd / && . {tmp_path}/bin/activate && echo $VIRTUAL_ENV && command -v python"
    said = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.split() == [str(tmp_path), f"{tmp_path}/bin/python"]
