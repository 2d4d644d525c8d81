"""Streamed uploads: complete or absent, with the configured encryption and requester pays."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from faults.proxy import FaultProxy

from bucketwheel.errors import StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, s3_upload
from bucketwheel.storage.s3_client import S3Client
from s3_support import Bucket


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Set the part size to the minimum that S3 accepts, and return it."""
    size = 5 * 2**20
    monkeypatch.setattr(s3_upload, "_PART", size)
    return size


def write(storage: Storage, location: str, content: bytes, error: BaseException | None = None) -> None:
    with storage.create(location, "unused") as stream:
        for start in range(0, len(content), 2**20):
            stream.write(content[start : start + 2**20])
        assert stream.tell() == len(content)
        if error:
            raise error


def condition(request: Any) -> str | None:
    return {name.lower(): value for name, value in request.headers.items()}.get("if-none-match")


def test_large_object_is_uploaded_in_parts(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    content = bytes(range(256)) * (small_parts * 3 // 256 + 1)
    write(storage, bucket.uri("big"), content)
    assert bucket.get("big") == content
    assert bucket.head("big")["ETag"].endswith('-4"')
    assert bucket.uploads() == []
    sent = [len(one.request.body) for one in proxy.answered if "partNumber" in one.request.query]
    assert sorted(sent, reverse=True)[:3] == [small_parts] * 3


@pytest.mark.parametrize("size", [0, 10, 12 * 2**20])
@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_failed_block_leaves_no_object_and_no_upload(
    storage: Storage, bucket: Bucket, small_parts: int, size: int, error: BaseException
) -> None:
    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(storage, bucket.uri("x"), b"z" * size, error)
    assert bucket.keys() == []
    assert bucket.uploads() == []


@pytest.mark.parametrize("query", ["uploads", "partNumber", "uploadId"])
def test_refused_part_names_reason_and_leaves_nothing(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int, query: str
) -> None:
    proxy.plan = lambda r: "403 AccessDenied" if query in r.query and r.method in ("PUT", "POST") else None
    with pytest.raises(StorageError, match=rf"s3://{bucket.name}/x: \w+ was denied .* s3:PutObject on"):
        write(storage, bucket.uri("x"), b"z" * small_parts * 3)
    assert bucket.keys() == []
    assert bucket.uploads() == []


def test_completion_with_lost_response_succeeds(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    proxy.plan = lambda r: "lost" if r.method == "POST" and "uploadId" in r.query and not r.number else None
    content = b"z" * small_parts * 2
    write(storage, bucket.uri("x"), content)
    assert bucket.get("x") == content
    assert any(one.fault == "lost" for one in proxy.answered)


def test_failed_completion_keeps_object_of_another_writer(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    bucket.put("x", b"old")
    proxy.plan = lambda r: "404 NoSuchUpload" if r.method == "POST" and "uploadId" in r.query else None
    with pytest.raises(StorageError, match="NoSuchUpload"):
        write(storage, bucket.uri("x"), b"z" * small_parts * 2)
    assert bucket.get("x") == b"old"
    assert bucket.uploads() == []


def test_upload_with_lost_start_response_is_aborted(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    proxy.plan = lambda r: "lost" if "uploads" in r.query and r.method == "POST" and not r.number else None
    write(storage, bucket.uri("x"), b"z" * small_parts * 2)
    assert bucket.keys() == ["x"]
    assert bucket.uploads() == []


def test_abandon_uploads_aborts_only_uploads_of_the_run(storage: Storage, bucket: Bucket) -> None:
    for key in ("out/d/t/run1/x", "out/d/t/run10/x", "out/d/t/run1", "out/d2/t/run1/x"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    storage.abandon_uploads(bucket.uri("out/d"), "run1")
    assert sorted(bucket.uploads()) == ["out/d/t/run1", "out/d/t/run10/x", "out/d2/t/run1/x"]
    storage.delete_directory(bucket.uri("out/d/t/run10"))
    assert sorted(bucket.uploads()) == ["out/d/t/run1", "out/d2/t/run1/x"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"encryption": "SSE-S3"}, ("AES256", None)),
        ({"encryption": "SSE-KMS"}, ("aws:kms", None)),
        ({"encryption": "SSE-KMS", "kms_key": "arn:aws:kms:us-east-1:1:key/k"}, ("aws:kms", "k")),
    ],
)
def test_every_write_uses_configured_encryption(
    bucket: Bucket, small_parts: int, settings: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    storage = pickle.loads(pickle.dumps(Storage(StorageSettings(**settings))))
    storage.write(bucket.uri("a"), b"x")
    storage.replace(bucket.uri("b"), b"x", None)
    write(storage, bucket.uri("c"), b"x")
    write(storage, bucket.uri("d"), b"x" * small_parts * 2)
    for key in "abcd":
        head = bucket.head(key)
        assert head["ServerSideEncryption"] == expected[0]
        assert (head.get("SSEKMSKeyId") or "").rpartition("/")[2] == (expected[1] or "")


def test_every_request_has_requester_pays_header(bucket: Bucket, proxy: FaultProxy, small_parts: int) -> None:
    storage = Storage(StorageSettings(requester_pays=True))
    write(storage, bucket.uri("d/x"), b"x" * small_parts * 2)
    with storage.open(bucket.uri("d/x")) as stream:
        stream.read(10)
    storage.list(bucket.uri("d"))
    storage.delete_directory(bucket.uri("d"))
    assert len(proxy.answered) >= 8
    assert {one.request.headers.get("x-amz-request-payer") for one in proxy.answered} == {"requester"}


def test_upload_started_without_checksums_completes_without(
    storage: Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an upload must omit the checksums that botocore adds to parts: S3 refuses them, moto does not."""
    completed: list[dict[str, Any]] = []
    real = S3Client.call

    def call(self: S3Client, operation: str, *names: str, **parameters: Any) -> Any:
        if operation == "complete_multipart_upload":
            completed.extend(parameters["MultipartUpload"]["Parts"])
        return real(self, operation, *names, **parameters)

    monkeypatch.setattr(S3Client, "call", call)
    with storage.create(bucket.uri("x"), "unused") as stream:
        stream.write(b"x" * (9 << 20))
    assert [sorted(part) for part in completed] == [["ETag", "PartNumber"]] * 2


@pytest.mark.parametrize("size", [0, 10, 100_000, 11 * 2**20])
def test_repeated_upload_of_same_content_succeeds(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int, size: int
) -> None:
    content = bytes(range(251)) * (size // 251) + b"e" * (size % 251)
    write(storage, bucket.uri("x"), content)
    created = bucket.head("x")["LastModified"], bucket.head("x")["ETag"]
    # moto ignores the condition of a completion.
    proxy.plan = lambda r: "412 PreconditionFailed" if r.method == "POST" and "uploadId" in r.query else None
    write(storage, bucket.uri("x"), content)
    assert (bucket.head("x")["LastModified"], bucket.head("x")["ETag"]) == created
    assert bucket.uploads() == []


@pytest.mark.parametrize("size", [0, 10, 11 * 2**20])
@pytest.mark.parametrize("changed", ["size", "end"])
def test_upload_never_replaces_other_content(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int, size: int, changed: str
) -> None:
    other = b"z" * size + b"!" if changed == "size" else b"y" * (size or 1)
    bucket.put("x", other)
    proxy.plan = lambda r: "412 PreconditionFailed" if r.method == "POST" and "uploadId" in r.query else None
    with pytest.raises(StorageError, match=r"s3://.*/x: exists with other content, .* start a new run"):
        write(storage, bucket.uri("x"), b"z" * size)
    assert bucket.get("x") == other
    assert bucket.uploads() == []


def test_put_with_lost_response_succeeds(storage: Storage, bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = lambda r: "lost" if r.method == "PUT" and not r.number else None
    write(storage, bucket.uri("x"), b"content")
    assert bucket.get("x") == b"content"
    puts = [one for one in proxy.answered if one.request.method == "PUT"]
    assert [condition(one.request) for one in puts] == ["*", "*"]


def test_put_refused_by_concurrent_request_is_repeated(storage: Storage, bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = lambda r: "409 ConditionalRequestConflict" if r.method == "PUT" and not r.number else None
    write(storage, bucket.uri("x"), b"content")
    assert bucket.get("x") == b"content"


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_create_sends_condition_that_object_is_new(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int, method: str
) -> None:
    write(storage, bucket.uri("x"), b"z" * (small_parts * 2 if method == "POST" else 5))
    creations = [
        one.request
        for one in proxy.answered
        if one.request.method == method and ("uploadId" in one.request.query) == (method == "POST")
    ]
    assert [condition(request) for request in creations] == ["*"]
