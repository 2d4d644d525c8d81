"""Write, list, read and delete objects on an S3 server."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from typing import Any

import pytest
from faults.proxy import FaultProxy

from bucketwheel.errors import ChangedError, StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, fetch
from s3_support import Bucket

SPECIAL_KEYS = [
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


def test_storage_writes_reads_lists_and_deletes_objects(storage: Storage, bucket: Bucket) -> None:
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


def test_list_excludes_keys_that_share_only_a_prefix(storage: Storage, bucket: Bucket) -> None:
    for key in ("run1/a", "run1/deep/b", "run10/a", "run1.txt", "run1-x/a"):
        bucket.put(key)
    assert [entry.name for entry in storage.list(bucket.uri("run1"))] == ["a", "deep"]
    assert storage.exists(bucket.uri("run")) is False
    storage.delete_directory(bucket.uri("run1"))
    assert bucket.keys() == ["run1-x/a", "run1.txt", "run10/a"]


def test_list_returns_folder_objects_as_directories(storage: Storage, bucket: Bucket) -> None:
    for key in ("p/", "p/empty/", "p/full/", "p/full/x", "p/_SUCCESS"):
        bucket.put(key)
    flat = storage.list(bucket.uri("p"))
    assert [(e.name, e.is_directory) for e in flat] == [("_SUCCESS", False), ("empty", True), ("full", True)]
    deep = storage.list(bucket.uri("p"), recursive=True)
    assert [e.name for e in deep if not e.is_directory] == ["_SUCCESS", "x"]
    assert {e.name for e in deep if e.is_directory} == {"empty", "full"}
    assert storage.exists(bucket.uri("p/empty"))
    storage.delete_directory(bucket.uri("p"))
    assert bucket.keys() == []


@pytest.mark.parametrize("name", SPECIAL_KEYS)
def test_keys_with_special_characters_are_kept_literally(storage: Storage, bucket: Bucket, name: str) -> None:
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


def test_list_and_delete_more_than_a_thousand_objects(storage: Storage, bucket: Bucket, proxy: FaultProxy) -> None:
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


def test_delete_directory_names_object_that_was_not_deleted(
    storage: Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("p/x")
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    from bucketwheel.storage.s3_client import S3Client

    call = S3Client.call

    def refuse(client: S3Client, operation: str, *named: str, **parameters: Any) -> Any:
        if operation == "delete_objects":
            return {"Errors": [{"Key": "p/x", "Code": "AccessDenied", "Message": "Access Denied"}]}
        return call(client, operation, *named, **parameters)

    monkeypatch.setattr(S3Client, "call", refuse)
    with pytest.raises(StorageError, match=r"p/x: DeleteObject failed: AccessDenied.*1 of 1 .*s3:DeleteObject"):
        storage.delete_directory(bucket.uri("p"))


def test_delete_directory_refuses_whole_bucket(storage: Storage, bucket: Bucket) -> None:
    bucket.put("x")
    with pytest.raises(StorageError, match="is a whole bucket"):
        storage.delete_directory(bucket.uri(""))
    assert bucket.keys() == ["x"]


def test_replace_fails_when_version_differs(storage: Storage, bucket: Bucket) -> None:
    location = bucket.uri("x")
    first = storage.replace(location, b"one", None)
    assert storage.read_version(location) == (b"one", first)
    with pytest.raises(ChangedError, match=f"{location}: modified concurrently"):
        storage.replace(location, b"two", None)
    second = storage.replace(location, b"two", first)
    with pytest.raises(ChangedError):
        storage.replace(location, b"three", first)
    bucket.client.delete_object(Bucket=bucket.name, Key="x")
    with pytest.raises(ChangedError):
        storage.replace(location, b"three", second)
    assert bucket.keys() == []


def read_all(settings: StorageSettings, location: str, results: Queue[bytes]) -> None:
    with Storage(settings).open(location) as stream:
        fetch(stream, lambda: [(0, 100_000)])
        results.put(bytes(stream.read_at(100_000, 0)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_process_opens_its_own_connections(bucket: Bucket, method: str) -> None:
    content = os.urandom(300_000)
    bucket.put("x", content)
    context: Any = multiprocessing.get_context(method)
    settings, results = StorageSettings(), context.Queue()
    with Storage(settings).open(bucket.uri("x")) as stream:
        fetch(stream, lambda: [(0, 200_000)])
        child = context.Process(target=read_all, args=(settings, bucket.uri("x"), results))
        child.start()
        assert results.get(timeout=60) == content[:100_000]
        child.join()
        fetch(stream, lambda: [(0, 200_000)])
        assert stream.read_at(200_000, 0) == content[:200_000]
    results.close()
    results.join_thread()


def test_region_comes_from_settings_or_environment(
    storage: Storage, bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    storage.list(bucket.uri("x"))
    Storage(StorageSettings(region="eu-north-1")).list(bucket.uri("x"))
    signed = [one.request.headers["authorization"].split("/")[2] for one in proxy.answered]
    assert signed == ["eu-west-3", "eu-north-1"]


def test_path_style_setting_selects_url_style(proxy: FaultProxy) -> None:
    from bucketwheel.storage.s3_client import _client

    def url(**settings: Any) -> str:
        client = _client(StorageSettings(region="eu-west-1", **settings))
        presigned: str = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
        return presigned.partition("?")[0]

    assert url() == f"{proxy.url}/bucket/k"
    assert url(endpoint_url="https://s3.example.com") == "https://s3.example.com/bucket/k"
    assert url(endpoint_url="https://s3.example.com", path_style=False) == "https://bucket.s3.example.com/k"
    assert url(endpoint_url="https://s3.eu-west-1.amazonaws.com", path_style=True).endswith(".amazonaws.com/bucket/k")
