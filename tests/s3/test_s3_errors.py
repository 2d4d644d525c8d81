"""Messages of S3 errors: the operation, the object, the reason and the fix."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from faults.proxy import FaultProxy

from bucketwheel.errors import StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage
from s3_support import Bucket

Action = Callable[[Storage, str], Any]


def write_parts(storage: Storage, location: str) -> None:
    with storage.create(location, "unused") as stream:
        stream.write(b"x")


@pytest.mark.parametrize(
    ("action", "operation", "permission", "resource"),
    [
        (Storage.read, "GetObject", "s3:GetObject", "{}/p/x"),
        (lambda storage, location: storage.open(location), "GetObject", "s3:GetObject", "{}/p/x"),
        (Storage.list, "ListObjectsV2", "s3:ListBucket", "{};"),
        (Storage.exists, "ListObjectsV2", "s3:ListBucket", "{};"),
        (lambda storage, location: storage.write(location, b""), "PutObject", "s3:PutObject", "{}/p/x"),
        (write_parts, "PutObject", "s3:PutObject", "{}/p/x"),
        (Storage.delete, "DeleteObject", "s3:DeleteObject", "{}/p/x"),
        (Storage.delete_directory, "ListMultipartUploads", "s3:ListBucketMultipartUploads", "{};"),
    ],
)
def test_denied_call_names_action_object_and_permission(
    storage: Storage,
    bucket: Bucket,
    proxy: FaultProxy,
    action: Action,
    operation: str,
    permission: str,
    resource: str,
) -> None:
    bucket.put("p/x")
    proxy.plan = lambda _: "403 AccessDenied"
    with pytest.raises(StorageError) as caught:
        action(storage, bucket.uri("p/x"))
    text = str(caught.value)
    assert text.startswith(f"s3://{bucket.name}/p/x")
    assert f": {operation} was denied (as planned); the role needs {permission} on arn:aws:s3:::" in text
    assert resource.format(bucket.name).rstrip(";") in text.partition("arn:aws:s3:::")[2]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("400 ExpiredToken", "GetObject: the credentials have expired (as planned); renew them, then resume"),
        ("403 InvalidAccessKeyId", "GetObject: the credentials are not valid (as planned); check AWS_PROFILE"),
        ("403 SignatureDoesNotMatch", "GetObject: the credentials are not valid"),
        ("400 AuthorizationHeaderMalformed", "GetObject: the bucket is in another region; set storage.region="),
        ("409 Odd", "GetObject failed: Odd: as planned"),
        ("503", "GetObject failed: SlowDown: as planned"),
        ("500", "GetObject failed: InternalError: as planned"),
    ],
)
def test_refused_call_names_reason_and_fix(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, fault: str, message: str
) -> None:
    proxy.plan = lambda _: fault
    with pytest.raises(StorageError) as caught:
        storage.read(bucket.uri("x"))
    assert f"s3://{bucket.name}/x: {message}" in str(caught.value)


def test_missing_bucket_is_named(storage: Storage, bucket: Bucket) -> None:
    for action in (Storage.list, Storage.read, Storage.exists, Storage.delete_directory):
        with pytest.raises(StorageError, match="the bucket 'test-no-such' does not exist; create it, or correct"):
            action(storage, "s3://test-no-such/x")


def test_bucket_in_another_region_names_setting(storage: Storage, bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = lambda request: "301 PermanentRedirect" if request.method == "GET" else None
    with pytest.raises(StorageError, match=r"the bucket is in another region; set storage\.region="):
        storage.read(bucket.uri("x"))


def test_unreachable_endpoint_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        storage = Storage(StorageSettings(endpoint_url=url, attempts=2))
        with pytest.raises(
            StorageError, match=rf"s3://b/x: {url} cannot be reached \(.*\); check the network, storage\.endpoint_url"
        ):
            storage.read("s3://b/x")


def test_silent_endpoint_fails_after_read_timeout(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = lambda _: "delay"
    proxy.delay_seconds = 1
    storage = Storage(StorageSettings(read_seconds=0.05, attempts=3))
    with pytest.raises(StorageError, match=r"cannot be reached \(Read timeout on endpoint URL"):
        storage.list(bucket.uri("x"))


def test_throttled_call_is_attempted_as_often_as_configured(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = lambda _: "503"
    with pytest.raises(StorageError):
        Storage(StorageSettings(attempts=3)).list(bucket.uri("x"))
    assert len(proxy.answered) == 3


def test_missing_credentials_fail_with_fix(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StorageError, match=r"/x: no AWS credentials were found .*; give this machine a role"):
        Storage(StorageSettings()).read(bucket.uri("x"))


def test_unset_storage_settings_come_from_aws_settings(proxy: FaultProxy) -> None:
    from bucketwheel.settings import AwsSettings, Settings

    aws = AwsSettings(region="eu-west-3", endpoint_url="http://a:1", attempts=2, read_seconds=7)
    filled = Storage.of(Settings(aws=aws)).settings
    assert (filled.region, filled.endpoint_url, filled.attempts, filled.read_seconds) == (
        "eu-west-3",
        "http://a:1",
        2,
        7,
    )
    own = Storage.of(Settings(aws=aws, storage=StorageSettings(region="eu-west-1", attempts=5))).settings
    assert (own.region, own.endpoint_url, own.attempts) == ("eu-west-1", "http://a:1", 5)


def test_kms_key_without_sse_kms_is_refused() -> None:
    with pytest.raises(ValueError, match="kms_key is set, but encryption is SSE-S3; set it to SSE-KMS"):
        StorageSettings(kms_key="k", encryption="SSE-S3")
