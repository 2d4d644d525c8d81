from __future__ import annotations

import signal
from typing import Any

import pytest
from py4j.protocol import Py4JNetworkError

from bucketwheel.engines.spark.engine import _cancel, _engine_error, _partition_keys
from bucketwheel.engines.spark.session import _keep_interrupt_handler, session_settings
from bucketwheel.errors import EngineError
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.settings import AwsSettings, Settings, StorageSettings

LOCAL = Settings()
REMOTE = Settings.model_validate(
    {"target": "s3://b/out", "storage": {"endpoint_url": "http://127.0.0.1:4566", "region": "eu-west-1"}}
)


def test_own_session_is_local_and_binds_to_loopback() -> None:
    session = session_settings(LOCAL, {}, True, {})
    assert session["spark.master"] == "local[*]"
    assert session["spark.driver.bindAddress"] == session["spark.driver.host"] == "127.0.0.1"
    assert not any("s3" in name for name in session)


def test_local_master_uses_configured_threads() -> None:
    settings = LOCAL.model_copy(update={"threads": 3})
    assert session_settings(settings, {}, True, {})["spark.master"] == "local[3]"


def test_platform_settings_are_kept() -> None:
    known = {"spark.master": "spark://m:7077", "spark.hadoop.fs.s3.impl": "com.amazon.ws.emr.hadoop.fs.EmrFileSystem"}
    for own in (True, False):
        session = session_settings(REMOTE, known, own, {})
        assert known.keys().isdisjoint(session)


def test_platform_session_gets_no_master_or_address() -> None:
    session = session_settings(LOCAL, {}, False, {})
    assert not [name for name in session if name.startswith(("spark.master", "spark.driver"))]


def test_local_spark_submit_session_binds_to_loopback() -> None:
    one_machine = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    session = session_settings(LOCAL, {"spark.master": "local[*]"}, False, {})
    assert one_machine.items() <= session.items()
    assert "spark.driver.memory" not in session
    platform = {"spark.master": "local[2]", "spark.ui.enabled": "true", "spark.driver.host": "10.0.0.5"}
    session = session_settings(LOCAL, platform, False, {})
    assert platform.keys().isdisjoint(session)


def test_endpoint_and_region_come_from_environment() -> None:
    remote = REMOTE.model_copy(update={"storage": StorageSettings()})
    environ = {"AWS_ENDPOINT_URL": "https://all:1", "AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "us-east-1"}
    fs = "spark.hadoop.fs.s3a"
    session = session_settings(remote, {}, False, environ)
    assert session[f"{fs}.endpoint"] == "https://all:1"
    assert session[f"{fs}.connection.ssl.enabled"] == session[f"{fs}.path.style.access"] == "true"
    assert session[f"{fs}.endpoint.region"] == "eu-west-2"
    session = session_settings(remote, {}, False, {**environ, "AWS_ENDPOINT_URL_S3": "http://s3:2"})
    assert session[f"{fs}.endpoint"] == "http://s3:2"
    # A setting overrides the environment; AWS_IGNORE_CONFIGURED_ENDPOINT_URLS disables the environment.
    assert session_settings(REMOTE, {}, False, environ)[f"{fs}.endpoint"] == "http://127.0.0.1:4566"
    ignored = {**environ, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    assert f"{fs}.endpoint" not in session_settings(remote, {}, False, ignored)
    assert session_settings(remote, {}, False, {"AWS_DEFAULT_REGION": "x"})[f"{fs}.endpoint.region"] == "x"


def test_aws_settings_fill_unset_storage_settings() -> None:
    open_storage = REMOTE.model_copy(
        update={
            "storage": StorageSettings(path_style=False),
            "aws": AwsSettings(endpoint_url="http://127.0.0.1:5000", region="eu-west-1"),
        }
    )
    session = session_settings(open_storage, {}, False, {})
    assert session["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:5000"
    assert session["spark.hadoop.fs.s3a.endpoint.region"] == "eu-west-1"
    assert "spark.hadoop.fs.s3a.path.style.access" not in session


def test_s3_settings_cover_both_schemes_without_keys() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret"}
    session = session_settings(REMOTE, {}, False, environ)
    assert session["spark.hadoop.fs.s3.impl"] == "org.apache.hadoop.fs.s3a.S3AFileSystem"
    assert session["spark.hadoop.fs.s3n.impl"] == "org.apache.hadoop.fs.s3a.S3AFileSystem"
    assert session["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:4566"
    assert session["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    assert session["spark.hadoop.fs.s3a.endpoint.region"] == "eu-west-1"
    assert "very-secret" not in str(session)
    assert "AKIDEXAMPLE" not in str(session)
    provider = "spark.hadoop.fs.s3a.aws.credentials.provider"
    # EnvironmentVariableCredentialsProvider has another package in each version of the SDK.
    assert session[provider].startswith("org.apache.hadoop.fs.s3a.")


@pytest.mark.parametrize("partitions", [1, 2, 3, 8, 100, 256, 1000])
def test_partition_keys_hash_to_every_partition(partitions: int) -> None:
    import pyarrow as pa

    keys = _partition_keys(partitions)
    assert key_buckets([pa.array(keys, pa.int32())], "spark", partitions).tolist() == list(range(partitions))


def test_interrupt_handler_is_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with _keep_interrupt_handler():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    "error", [Py4JNetworkError("Answer from Java side is empty"), ConnectionRefusedError(111, "x")]
)
def test_error_says_that_jvm_has_ended(error: Exception) -> None:
    class Gone:
        def cancelJobGroup(self, _: str) -> None:  # noqa: N802 the name is Spark's
            raise error

    gone: Any = Gone()
    _cancel(gone, "group")
    wrapped = _engine_error(error)
    assert isinstance(wrapped, EngineError)
    assert str(wrapped) == f"spark: the JVM of the driver has ended ({error})"
