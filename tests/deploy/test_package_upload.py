"""The package on S3 (moto): its name, and the check of the settings it was built from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import boto3
import pytest

from bucketwheel import api
from bucketwheel.errors import ConfigError
from bucketwheel.packaging import package
from deploy_support import REGION, configuration


@pytest.fixture
def bucket(aws_url: str) -> Any:
    client = boto3.client("s3", endpoint_url=aws_url, region_name=REGION)
    client.create_bucket(Bucket="artifacts-prod")
    return client


def keys(client: Any) -> dict[str, Any]:
    entries = client.list_objects_v2(Bucket="artifacts-prod").get("Contents", [])
    return {entry["Key"]: entry["LastModified"] for entry in entries}


def test_upload_names_package_after_its_content(packed: api.Package, bucket: Any, aws_url: str) -> None:
    config = configuration(storage__endpoint_url=aws_url, deploy__artifacts="s3://artifacts-prod/bucketwheel/")
    there = api.upload(config, packed)
    prefix = f"bucketwheel/{packed.digest[:16]}"
    assert there.location == f"s3://artifacts-prod/{prefix}"
    names = {*(file.name for file in packed.files), "package.json"}
    assert set(keys(bucket)) == {f"{prefix}/{name}" for name in names}
    for file in packed.files:
        body = bucket.get_object(Bucket="artifacts-prod", Key=f"{prefix}/{file.name}")["Body"].read()
        assert hashlib.sha256(body).hexdigest() == file.sha256
    # A second upload leaves what is there, and repairs what is not whole.
    bucket.put_object(Bucket="artifacts-prod", Key=f"{prefix}/job.py", Body=b"half")
    bucket.delete_object(Bucket="artifacts-prod", Key=f"{prefix}/conf/prod.yaml")
    assert api.upload(config, packed, "s3://artifacts-prod/bucketwheel").location == there.location
    assert set(keys(bucket)) == {f"{prefix}/{name}" for name in names}
    body = bucket.get_object(Bucket="artifacts-prod", Key=f"{prefix}/job.py")["Body"].read()
    assert body == (packed.directory / "job.py").read_bytes()


def test_check_refuses_package_of_other_settings(
    packed: api.Package, bucket: Any, aws_url: str, tmp_path: Path, source: Path, given: Path
) -> None:
    reached = {"storage__endpoint_url": aws_url, "deploy__artifacts": "s3://artifacts-prod/bucketwheel"}
    config = configuration(**reached)
    ours = api.package(config, tmp_path / "ours", source, given)
    location = api.upload(config, ours).location
    assert location is not None
    package.check_uploaded(config, location)
    # What only the stack reads may change without a new package.
    package.check_uploaded(configuration(**reached, monitoring__email="a@b.c", glue__number_of_workers=3), location)
    other = configuration(**reached, buckets__count=8, monitoring__namespace="Other", glue__price=0.1)
    with pytest.raises(
        ConfigError,
        match=r"was built with another value of buckets.count, glue.price, monitoring.namespace; build one",
    ):
        package.check_uploaded(other, location)
    with pytest.raises(ConfigError, match=r"is s3://artifacts-prod/nothing, which holds no package; build one with"):
        package.check_uploaded(config, "s3://artifacts-prod/nothing")
    with pytest.raises(ConfigError, match="was not built for env dev; build one with: bucketwheel package --env dev"):
        package.check_uploaded(configuration("dev", **reached), location)


def test_upload_without_location_is_refused(packed: api.Package) -> None:
    with pytest.raises(ConfigError, match=r"deploy.artifacts is None; set it to a location of the form"):
        api.upload(configuration(deploy__artifacts=None), packed)
    with pytest.raises(ConfigError, match="--upload is '/tmp'"):
        api.upload(configuration(), packed, "/tmp")


def test_package_of_other_machine_is_not_uploaded_and_not_deployed(
    packed: api.Package, bucket: Any, aws_url: str, tmp_path: Path, source: Path
) -> None:
    reached = {"storage__endpoint_url": aws_url, "deploy__artifacts": "s3://artifacts-prod/bucketwheel"}
    arm = configuration(**reached, deploy__platform="emr-serverless", emr_serverless__architecture="ARM64")
    with pytest.raises(
        ConfigError, match=r"was built for x86_64, but EMR Serverless needs aarch64 .*; build one with"
    ):
        api.upload(arm, packed)
    assert keys(bucket) == {}
    uploaded = api.upload(configuration(**reached), packed).location
    assert uploaded is not None
    with pytest.raises(
        ConfigError, match=r"was built for x86_64, but EMR Serverless needs aarch64 .*; build one with"
    ):
        package.check_uploaded(arm, uploaded)
    bare = api.package(configuration(**reached), tmp_path / "bare", source, without_archive=True)
    without = api.upload(configuration(**reached), bare).location
    assert without is not None
    with pytest.raises(ConfigError, match=r"it has none, or was built by an earlier version; Glue needs one: build"):
        package.check_uploaded(configuration(**reached), without)
    image = configuration(**reached, deploy__platform="emr-serverless", emr_serverless__image="bucketwheel:1.0")
    package.check_uploaded(image, without)
