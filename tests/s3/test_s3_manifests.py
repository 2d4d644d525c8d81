"""Manifests on S3: a writer replaces only the version that it wrote or read last."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request

from bucketwheel import api
from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.sample import Sample
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage
from project import WIDE
from s3_support import Bucket

RUN = "2025-01-31-20250401T120000Z-abcdef"


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        dataset="people",
        run_id=RUN,
        created="2025-04-01T12:00:00+00:00",
        planned_stages=(),
        fingerprint={},
        versions={},
        runtime="local",
    )


def store(bucket: Bucket) -> RunStore:
    return RunStore(Storage(StorageSettings()), bucket.uri("out"))


def status(bucket: Bucket) -> str:
    return store(bucket).load("people", RUN).status


def changed(manifest: Manifest, status: str) -> Manifest:
    return manifest.model_copy(update={"status": status})


def is_manifest_put(request: Request) -> bool:
    return request.method == "PUT" and request.key.endswith("manifest.json")


def test_save_succeeds_after_own_save_or_load(bucket: Bucket, manifest: Manifest) -> None:
    first = store(bucket)
    first.save(manifest)
    first.save(changed(manifest, "failed"))
    second = store(bucket)
    assert second.load("people", RUN).status == "failed"
    second.save(changed(manifest, "finished"))
    assert status(bucket) == "finished"


def test_save_fails_after_save_of_another_writer(bucket: Bucket, manifest: Manifest) -> None:
    late, follower = store(bucket), store(bucket)
    late.save(manifest)
    follower.load("people", RUN)
    follower.save(changed(manifest, "finished"))
    with pytest.raises(
        LeaseError, match=rf"{RUN}/manifest.json: another run has written this manifest, so this run stops"
    ):
        late.save(changed(manifest, "failed"))
    assert status(bucket) == "finished"


def test_save_fails_when_manifest_exists(bucket: Bucket, manifest: Manifest) -> None:
    store(bucket).save(manifest)
    with pytest.raises(LeaseError):
        store(bucket).save(changed(manifest, "failed"))


def test_save_fails_when_manifest_was_deleted(bucket: Bucket, manifest: Manifest) -> None:
    late = store(bucket)
    late.save(manifest)
    store(bucket).delete_manifest("people", RUN)
    with pytest.raises((LeaseError, StorageError)):
        late.save(changed(manifest, "failed"))
    assert bucket.keys() == []


@pytest.mark.parametrize("number", [0, 1])
def test_save_with_lost_response_succeeds(bucket: Bucket, manifest: Manifest, proxy: FaultProxy, number: int) -> None:
    proxy.plan = lambda request: "lost" if is_manifest_put(request) and request.number == 2 * number else None
    writer = store(bucket)
    writer.save(manifest)
    writer.save(changed(manifest, "failed"))
    writer.save(changed(manifest, "finished"))
    assert status(bucket) == "finished"
    assert sum(answered.fault == "lost" for answered in proxy.answered) == 1


def test_save_succeeds_after_save_without_response(bucket: Bucket, manifest: Manifest, proxy: FaultProxy) -> None:
    writer = store(bucket)
    writer.save(manifest)
    # The put takes effect, but its response and all further requests are lost.
    proxy.plan = lambda request: "lost" if is_manifest_put(request) else "reset"
    with pytest.raises(StorageError):
        writer.save(changed(manifest, "failed"))
    proxy.plan = lambda _: None
    assert status(bucket) == "failed"
    writer.save(changed(manifest, "finished"))
    assert status(bucket) == "finished"


def test_run_publishes_nothing_when_manifest_was_modified(bucket: Bucket, tmp_path: Path, clean: Sample) -> None:
    project = bucket.project(tmp_path / "p", clean)

    def progress(event: api.Progress) -> None:
        if (event.stage, event.state) == ("verify", "started"):
            (key,) = [key for key in bucket.keys("out/") if key.endswith("manifest.json")]
            bucket.put(key, bucket.get(key).replace(b'"running"', b'"failed"'))

    with pytest.raises(LeaseError, match="another run has written this manifest"):
        api.run(project.configuration(), WIDE, progress=progress)
    assert not project.catalog.exists()
    assert f"out/{WIDE}/metadata/snapshot_dt.txt" not in bucket.keys("out/")
