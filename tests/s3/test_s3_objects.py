"""Objects written, listed, read and deleted, against a server that speaks S3."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faults.proxy import FaultProxy

from bucketwheel import s3_upload
from bucketwheel.errors import ChangedError, StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage
from s3_support import Bucket

ODD = [
    "a b",
    "snapshot_dt=2025-10-22",
    "100%",
    "a+b",
    "a#b?c=d&e",
    "ü 漢字 é",
    "12:30:00",
    "%20%2F",
    "a'b\"c",
    "[x]{y}*",
    "~!@$^()_-;,.",
    "a\\b",
]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """The least that S3 takes for a part that is not the last."""
    size = 5 * 2**20
    monkeypatch.setattr(s3_upload, "_PART", size)
    return size


def test_objects_are_written_read_listed_and_deleted(storage: Storage, bucket: Bucket) -> None:
    storage.write(bucket.uri("p/x"), b"one")
    with storage.create(bucket.uri("p/q/y", "s3a"), "unused") as stream:
        stream.write(b"two")
    assert storage.read(bucket.uri("p/x", "s3n")) == b"one"
    entries = storage.list(bucket.uri("p", "s3a"))
    assert [(e.location, e.name, e.bytes, e.is_directory) for e in entries] == [
        (bucket.uri("p/q"), "q", 0, True),
        (bucket.uri("p/x"), "x", 3, False),
    ]
    assert entries[1].modified.endswith("+00:00")
    assert [e.location for e in storage.list(bucket.uri("p"), recursive=True)] == [
        bucket.uri("p/q/y"),
        bucket.uri("p/x"),
    ]
    assert [storage.exists(bucket.uri(key)) for key in ("", "p", "p/", "p/x", "p/q", "p/z", "p/xx", "q")] == [
        True,
        True,
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    storage.delete(bucket.uri("p/x"))
    storage.delete(bucket.uri("p/x"))
    assert bucket.keys() == ["p/q/y"]
    storage.delete_directory(bucket.uri("p"))
    storage.delete_directory(bucket.uri("p"))
    assert bucket.keys() == []
    assert storage.list(bucket.uri("p")) == []


def test_a_key_that_only_begins_like_a_directory_is_not_in_it(storage: Storage, bucket: Bucket) -> None:
    for key in ("run1/a", "run1/deep/b", "run10/a", "run1.txt", "run1-x/a"):
        bucket.put(key)
    assert [entry.name for entry in storage.list(bucket.uri("run1"))] == ["a", "deep"]
    assert storage.exists(bucket.uri("run")) is False
    storage.delete_directory(bucket.uri("run1"))
    assert bucket.keys() == ["run1-x/a", "run1.txt", "run10/a"]


def test_folder_objects_are_directories_and_no_files(storage: Storage, bucket: Bucket) -> None:
    for key in ("p/", "p/empty/", "p/full/", "p/full/x", "p/_SUCCESS"):
        bucket.put(key)
    found = storage.list(bucket.uri("p"))
    assert [(e.name, e.is_directory) for e in found] == [("_SUCCESS", False), ("empty", True), ("full", True)]
    deep = storage.list(bucket.uri("p"), recursive=True)
    assert [e.name for e in deep if not e.is_directory] == ["_SUCCESS", "x"]
    assert {e.name for e in deep if e.is_directory} == {"empty", "full"}
    assert storage.exists(bucket.uri("p/empty"))
    storage.delete_directory(bucket.uri("p"))
    assert bucket.keys() == []


@pytest.mark.parametrize("name", ODD)
def test_any_character_of_a_key_is_taken_as_it_is(storage: Storage, bucket: Bucket, name: str) -> None:
    location = bucket.uri(f"{name}/{name}.parquet")
    with storage.create(location, "unused") as stream:
        stream.write(b"content")
    assert bucket.keys() == [f"{name}/{name}.parquet"]
    assert [e.location for e in storage.list(bucket.uri(""))] == [bucket.uri(name)]
    (entry,) = storage.list(bucket.uri(""), recursive=True)
    assert (entry.location, entry.name) == (location, f"{name}.parquet")
    assert storage.read(entry.location) == b"content"
    with storage.open(entry.location) as stream:
        assert stream.read() == b"content"
    _, version = storage.read_version(location)
    storage.replace(location, b"new", version)
    assert bucket.get(f"{name}/{name}.parquet") == b"new"
    storage.delete_directory(bucket.uri(name))
    assert bucket.keys() == []


def test_listings_and_deletions_of_more_than_a_thousand_objects_are_whole(
    storage: Storage, bucket: Bucket, proxy: FaultProxy
) -> None:
    keys = [f"p/{number:05d}" for number in range(1_203)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bucket.put, keys))
    assert [e.name for e in storage.list(bucket.uri("p"))] == [key[2:] for key in keys]
    assert len(storage.list(bucket.uri(""), recursive=True)) == len(keys)
    proxy.answered.clear()
    storage.delete_directory(bucket.uri("p"))
    assert bucket.keys() == []
    deletions = [one for one in proxy.answered if one.request.method == "POST"]
    assert len(deletions) == 2


def test_objects_that_were_not_deleted_are_an_error_that_names_one(
    storage: Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("p/x")
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    from bucketwheel.s3_client import S3Client

    call = S3Client.call

    def refuse(client: S3Client, operation: str, *named: str, **parameters: Any) -> Any:
        if operation == "delete_objects":
            return {"Errors": [{"Key": "p/x", "Code": "AccessDenied", "Message": "Access Denied"}]}
        return call(client, operation, *named, **parameters)

    monkeypatch.setattr(S3Client, "call", refuse)
    with pytest.raises(StorageError, match=r"p/x: DeleteObject failed: AccessDenied.*1 of 1 .*s3:DeleteObject"):
        storage.delete_directory(bucket.uri("p"))


def test_a_whole_bucket_is_never_deleted(storage: Storage, bucket: Bucket) -> None:
    bucket.put("x")
    with pytest.raises(StorageError, match="is a whole bucket"):
        storage.delete_directory(bucket.uri(""))
    assert bucket.keys() == ["x"]


def write(storage: Storage, location: str, content: bytes, error: BaseException | None = None) -> None:
    with storage.create(location, "unused") as stream:
        for start in range(0, len(content), 2**20):
            stream.write(content[start : start + 2**20])
        assert stream.tell() == len(content)
        if error:
            raise error


def test_a_large_object_is_sent_in_parts_and_appears_whole(
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
def test_a_block_that_fails_leaves_neither_an_object_nor_an_upload(
    storage: Storage, bucket: Bucket, small_parts: int, size: int, error: BaseException
) -> None:
    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(storage, bucket.uri("x"), b"z" * size, error)
    assert bucket.keys() == []
    assert bucket.uploads() == []


@pytest.mark.parametrize("which", ["uploads", "partNumber", "uploadId"])
def test_a_part_that_is_refused_leaves_nothing_and_says_why(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int, which: str
) -> None:
    proxy.plan = lambda r: "403 AccessDenied" if which in r.query and r.method in ("PUT", "POST") else None
    with pytest.raises(StorageError, match=rf"s3://{bucket.name}/x: \w+ was denied .* s3:PutObject on"):
        write(storage, bucket.uri("x"), b"z" * small_parts * 3)
    assert bucket.keys() == []
    assert bucket.uploads() == []


def test_a_completion_of_which_the_answer_was_lost_is_known_for_its_own(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    proxy.plan = lambda r: "lost" if r.method == "POST" and "uploadId" in r.query and not r.number else None
    content = b"z" * small_parts * 2
    write(storage, bucket.uri("x"), content)
    assert bucket.get("x") == content
    assert any(one.fault == "lost" for one in proxy.answered)


def test_an_object_of_another_writer_is_not_taken_for_an_own_completion(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    bucket.put("x", b"old")
    proxy.plan = lambda r: "404 NoSuchUpload" if r.method == "POST" and "uploadId" in r.query else None
    with pytest.raises(StorageError, match="NoSuchUpload"):
        write(storage, bucket.uri("x"), b"z" * small_parts * 2)
    assert bucket.get("x") == b"old"
    assert bucket.uploads() == []


def test_an_upload_whose_beginning_was_lost_is_not_left(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, small_parts: int
) -> None:
    proxy.plan = lambda r: "lost" if "uploads" in r.query and r.method == "POST" and not r.number else None
    write(storage, bucket.uri("x"), b"z" * small_parts * 2)
    assert bucket.keys() == ["x"]
    assert bucket.uploads() == []


def test_uploads_of_killed_writers_are_abandoned_where_they_belong_to_the_run(
    storage: Storage, bucket: Bucket
) -> None:
    for key in ("out/d/t/run1/x", "out/d/t/run10/x", "out/d/t/run1", "out/d2/t/run1/x"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    storage.abandon_uploads(bucket.uri("out/d"), "run1")
    assert sorted(bucket.uploads()) == ["out/d/t/run1", "out/d/t/run10/x", "out/d2/t/run1/x"]
    storage.delete_directory(bucket.uri("out/d/t/run10"))
    assert sorted(bucket.uploads()) == ["out/d/t/run1", "out/d2/t/run1/x"]


def test_a_replacement_holds_to_the_version_that_was_read(storage: Storage, bucket: Bucket) -> None:
    location = bucket.uri("x")
    first = storage.replace(location, b"one", None)
    assert storage.read_version(location) == (b"one", first)
    with pytest.raises(ChangedError, match=f"{location}: somebody else wrote"):
        storage.replace(location, b"two", None)
    second = storage.replace(location, b"two", first)
    with pytest.raises(ChangedError):
        storage.replace(location, b"three", first)
    bucket.client.delete_object(Bucket=bucket.name, Key="x")
    with pytest.raises(ChangedError):
        storage.replace(location, b"three", second)
    assert bucket.keys() == []


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"encryption": "SSE-S3"}, ("AES256", None)),
        ({"encryption": "SSE-KMS"}, ("aws:kms", None)),
        ({"encryption": "SSE-KMS", "kms_key": "arn:aws:kms:us-east-1:1:key/k"}, ("aws:kms", "k")),
    ],
)
def test_all_that_is_written_is_encrypted_as_asked(
    bucket: Bucket, small_parts: int, settings: dict[str, Any], found: tuple[str, str | None]
) -> None:
    storage = pickle.loads(pickle.dumps(Storage(StorageSettings(**settings))))
    storage.write(bucket.uri("a"), b"x")
    storage.replace(bucket.uri("b"), b"x", None)
    write(storage, bucket.uri("c"), b"x")
    write(storage, bucket.uri("d"), b"x" * small_parts * 2)
    for key in "abcd":
        head = bucket.head(key)
        assert head["ServerSideEncryption"] == found[0]
        assert (head.get("SSEKMSKeyId") or "").rpartition("/")[2] == (found[1] or "")


def test_every_request_says_who_pays_where_asked(bucket: Bucket, proxy: FaultProxy, small_parts: int) -> None:
    storage = Storage(StorageSettings(requester_pays=True))
    write(storage, bucket.uri("d/x"), b"x" * small_parts * 2)
    with storage.open(bucket.uri("d/x")) as stream:
        stream.read(10)
    storage.list(bucket.uri("d"))
    storage.delete_directory(bucket.uri("d"))
    assert len(proxy.answered) >= 8
    assert {one.request.headers.get("x-amz-request-payer") for one in proxy.answered} == {"requester"}


def test_path_style_and_host_style_are_chosen(proxy: FaultProxy) -> None:
    from bucketwheel.s3_client import _client

    def url(**settings: Any) -> str:
        client = _client(StorageSettings(region="eu-west-1", **settings))
        made: str = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
        return made.partition("?")[0]

    assert url() == f"{proxy.url}/bucket/k"
    assert url(endpoint_url="https://s3.example.com") == "https://s3.example.com/bucket/k"
    assert url(endpoint_url="https://s3.example.com", path_style=False) == "https://bucket.s3.example.com/k"
    assert url(endpoint_url="https://s3.eu-west-1.amazonaws.com", path_style=True).endswith(".amazonaws.com/bucket/k")
