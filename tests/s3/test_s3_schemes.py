"""Every entry point accepts the same schemes of S3 URIs and refuses all others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import api
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.glue_table import as_table
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor import buckets, uses_aws
from bucketwheel.engines.spark.session import session_settings
from bucketwheel.errors import BucketwheelError
from bucketwheel.executors.athena import AthenaExecutor
from bucketwheel.packaging import package
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage
from s3_support import Bucket

SCHEMES = ["s3", "S3", "s3a", "S3A", "s3n", "S3N"]
OTHERS = ["s3x://bucket/key", "gs://bucket/key", "https://bucket/key", "s3a://", "S3:///key"]


def settings_of(**settings: Any) -> Settings:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    given = {"target": "/out", "datasets.wide.source": "/in", "datasets.wide.key": "id", **overrides}
    return api.load(overrides=given, environ={}).settings


def absolute(location: str) -> str:
    return Storage(settings_of().storage).absolute(location)


def deployed(name: str, setting: str, location: str) -> str:
    value = getattr(Deployment(settings_of(**{setting: location}), "prod"), name)()
    return str((value["wide"] if isinstance(value, dict) else value).uri)


def athena_results(location: str) -> str:
    executor = AthenaExecutor(settings_of(target="s3://bucket/out", aws__region="us-east-1"))
    executor._settings = settings_of(athena__output_location=location, target="s3://bucket/out")
    requests: list[dict[str, Any]] = []

    def start(**request: Any) -> dict[str, str]:
        requests.append(request)
        return {"QueryExecutionId": "1"}

    executor._athena = type("Athena", (), {"start_query_execution": staticmethod(start)})()
    executor._start("SELECT 1")
    return str(requests[0]["ResultConfiguration"]["OutputLocation"])


def glue_table(location: str) -> str:
    return as_table({"Name": "t", "StorageDescriptor": {"Location": f"{location}/", "Columns": []}}).location


def glue_target(location: str) -> str:
    return GlueCatalog(settings_of(target=location, aws__region="us-east-1")).target


RESOLVERS: dict[str, Callable[[str], str]] = {
    "storage": absolute,
    "target": partial(deployed, "target", "target"),
    "source": partial(deployed, "sources", "datasets__wide__source"),
    "mapping": partial(deployed, "mappings", "datasets__wide__mapping"),
    "athena.output_location": partial(deployed, "query_results", "athena__output_location"),
    "deploy.package": partial(deployed, "package", "deploy__package"),
    "deploy.artifacts": partial(deployed, "artifacts", "deploy__artifacts"),
    "athena request": athena_results,
    "glue table": glue_table,
    "glue target": glue_target,
}
# Only settings are checked; locations in requests and tables come from AWS.
REFUSING = sorted(RESOLVERS.keys() - {"athena request", "glue table"})


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("entry", RESOLVERS)
def test_entry_points_normalize_every_scheme_to_s3(entry: str, scheme: str) -> None:
    assert RESOLVERS[entry](f"{scheme}://bucket/Some/key") == "s3://bucket/Some/key"


@pytest.mark.parametrize("location", OTHERS)
@pytest.mark.parametrize("entry", REFUSING)
def test_entry_points_refuse_other_schemes(entry: str, location: str) -> None:
    with pytest.raises(BucketwheelError, match=location):
        RESOLVERS[entry](location)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_spark_gets_s3a_settings_for_every_scheme(scheme: str) -> None:
    for settings in (settings_of(target=f"{scheme}://b/out"), settings_of(datasets__wide__source=f"{scheme}://b/in")):
        added = session_settings(settings, {}, True, {})
        assert {f"spark.hadoop.fs.{name}.impl" for name in ("s3", "s3n")} <= added.keys()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_doctor_checks_buckets_of_every_scheme(scheme: str) -> None:
    settings = settings_of(
        target=f"{scheme}://out/t",
        datasets__wide__mapping=f"{scheme}://maps/m.csv",
        deploy__artifacts=f"{scheme}://p/x",
    )
    assert uses_aws(settings)
    names = {check.name for check in buckets.checks(settings)}
    assert {"bucket out", "bucket maps", "bucket p", "encryption out"} <= names


@pytest.mark.parametrize("scheme", SCHEMES)
def test_conf_directory_is_read_from_every_scheme(bucket: Bucket, tmp_path: Path, scheme: str) -> None:
    bucket.put("conf/base.yaml", b"threads: 2\n")
    assert api.local_directory(bucket.uri("conf", scheme), tmp_path) == str(tmp_path)
    assert (tmp_path / "base.yaml").read_bytes() == b"threads: 2\n"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_upload_writes_the_same_object_for_every_scheme(bucket: Bucket, tmp_path: Path, scheme: str) -> None:
    (tmp_path / package.CONTENTS).write_text("{}")
    packed = package.Package(tmp_path, "1", "prod", "0" * 64, ())
    config = api.load(overrides={"datasets.wide.source": "/in", "datasets.wide.key": "id"}, environ={})
    uploaded = package.upload(config, packed, bucket.uri("pkg", scheme))
    assert uploaded.location == bucket.uri(f"pkg/{'0' * 16}")
    assert bucket.keys() == [f"pkg/{'0' * 16}/{package.CONTENTS}"]
