from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bucketwheel.errors import ConfigError, StorageError
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.storage import Storage, is_s3, join, name_of
from bucketwheel.storage.locations import bucket_and_key, is_access_point, is_inside, s3_location

SETTINGS = StorageSettings(region="us-east-1")


@pytest.fixture
def storage() -> Storage:
    return Storage(SETTINGS)


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n", "S3"])
def test_s3_schemes_are_equivalent(storage: Storage, scheme: str) -> None:
    assert is_s3(f"{scheme}://bucket/key")
    assert storage.absolute(f"{scheme}://bucket/some/key.parquet") == "s3://bucket/some/key.parquet"


@pytest.mark.parametrize("location", ["s3://", "s3a:///key"])
def test_location_without_bucket_is_refused(storage: Storage, location: str) -> None:
    with pytest.raises(StorageError, match=f"{location}: names no bucket; write s3://bucket/prefix"):
        storage.absolute(location)


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("s3://b", "b"),
        ("s3://b/", "b"),
        ("s3://b/p/", "b/p"),
        ("s3://b/what?is=this#here", "b/what?is=this#here"),
        ("s3://b/100%/snapshot_dt=2025-10-22", "b/100%/snapshot_dt=2025-10-22"),
        ("s3a://b/[x] ü", "b/[x] ü"),
    ],
)
def test_keys_are_not_decoded(storage: Storage, location: str, path: str) -> None:
    assert storage.absolute(location) == f"s3://{path}"
    assert "/".join(bucket_and_key(storage.absolute(location))).rstrip("/") == path


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/data/x", "/data/x"),
        ("/data/x/", "/data/x"),
        ("/data/a#b?c:d", "/data/a#b?c:d"),
        ("file:///data/x", "/data/x"),
        ("file://localhost/data/x", "/data/x"),
        ("file:///data/a%20b", "/data/a b"),
        ("FILE:///data/x", "/data/x"),
        ("/data/./a/../x", "/data/x"),
    ],
)
def test_local_paths_and_file_uris_use_local_disk(storage: Storage, location: str, path: str) -> None:
    assert storage.absolute(location) == path
    assert not is_s3(location)


def test_relative_paths_use_working_directory(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("out/x") == str(tmp_path / "out" / "x")


def test_catalog_uris_use_one_s3_scheme(storage: Storage) -> None:
    assert storage.absolute("s3a://b/p/") == "s3://b/p"


ACCESS_POINT = "arn:aws:s3:us-east-1:123456789012:accesspoint/tables"


@pytest.mark.parametrize(
    ("location", "instead"),
    [
        (ACCESS_POINT, r"write its alias as the bucket: s3://ALIAS \(aws s3control get-access-point"),
        (f"s3://{ACCESS_POINT}", r"--account-id 123456789012 --name tables --query Alias\)"),
        (f"s3a://{ACCESS_POINT}/people/raw/", r"s3://ALIAS/people/raw \("),
        (f"{ACCESS_POINT}/object/people", r"s3://ALIAS/people \("),
        ("arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:tables", "--name tables"),
        ("arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/lambda", "--name lambda"),
        ("arn:aws:s3:::bucket/prefix", "is an ARN; write s3://bucket/prefix"),
    ],
)
def test_arn_is_refused_with_what_to_write(storage: Storage, location: str, instead: str) -> None:
    with pytest.raises(StorageError, match=instead):
        storage.absolute(location)
    with pytest.raises(ConfigError, match=f"^--upload: .*{instead}"):
        s3_location("--upload", location)
    for settings in (
        {"target": location},
        {"athena": {"output_location": location}},
        {"deploy": {"artifacts": location}},
        {"deploy": {"package": location}},
        {"datasets": {"people": {"source": location, "key": "id"}}},
        {"datasets": {"people": {"source": "raw", "key": "id", "mapping": location}}},
    ):
        with pytest.raises(ValidationError, match=instead):
            Settings.model_validate(settings)


def test_alias_of_access_point_is_a_bucket(storage: Storage) -> None:
    alias = "tables-abcdefghijklmnopqrstuvwxyz1-s3alias"
    assert storage.absolute(f"s3a://{alias}/people/") == f"s3://{alias}/people"
    assert bucket_and_key(f"s3://{alias}/people") == (alias, "people")
    assert is_access_point(alias)
    assert not is_access_point("tables")


@pytest.mark.parametrize("location", ["gs://b/k", "hdfs://host/k", "https://host/k"])
def test_unknown_schemes_are_refused_by_name(storage: Storage, location: str) -> None:
    scheme = location.partition(":")[0]
    with pytest.raises(
        StorageError, match=rf"{location}: unknown scheme '{scheme}'; use a local path, s3:// or s3a://"
    ):
        storage.absolute(location)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_key_round_trips_through_uri(key: str) -> None:
    assert bucket_and_key(Storage(SETTINGS).absolute(f"s3://b/{key}x")) == ("b", f"{key}x")


def test_locations_are_joined_and_split() -> None:
    assert join("s3://b/p/", "/q/", "r") == "s3://b/p/q/r"
    assert join("/", "x") == "/x"
    assert join("out") == "out"
    assert name_of("s3://b/p/file.parquet") == "file.parquet"
    assert name_of("/data/dir/") == "dir"


def test_storage_is_picklable_with_settings(storage: Storage) -> None:
    assert pickle.loads(pickle.dumps(storage)).settings == SETTINGS


@pytest.mark.parametrize("target", ["/out", "s3://bucket/out", "s3://bucket/out/"])
def test_is_inside_excludes_the_directory_and_its_siblings(target: str) -> None:
    root = target.rstrip("/")
    assert is_inside(f"{root}/people", target)
    assert is_inside(f"{root}/people/", target)
    assert not any(is_inside(f"{root}{rest}", target) for rest in ("", "/", "_2", "_2/people"))
