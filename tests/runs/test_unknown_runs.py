"""Data of runs without a manifest: `expire` finds it, and deletes only what Bucketwheel wrote and nobody reads."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cloud_support import Cloud

from aws_server import plain_client
from bucketwheel.pipeline.expire import expirable, expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.settings import STAGES
from bucketwheel.system import System, SystemClock, use
from bucketwheel.testing.clock import Clock
from runs_support import DATABASE, DATASET, FEBRUARY, JANUARY, Case, reports, warnings_in

UNKNOWN = "2024-12-31-20250102T030405Z-0a1b2c"


@pytest.fixture
def lost(tmp_path: Path) -> tuple[Case, str]:
    """A case that shows February, and the run of January, whose metadata is gone."""
    case = Case(tmp_path, tables=1, rows=60)
    case.snapshot(JANUARY)
    january = case.run(STAGES[:6]).manifest.run_id
    case.snapshot(FEBRUARY)
    case.run(STAGES[:6])
    shutil.rmtree(case.manifest_file(january).parent)
    return case, january


def data(case: Case, run_id: str) -> list[Path]:
    return [path for path in (case.target / DATASET).rglob("*") if run_id in str(path) and path.is_file()]


def test_expire_deletes_data_of_run_without_metadata(lost: tuple[Case, str]) -> None:
    case, january = lost
    size = sum(path.stat().st_size for path in data(case, january))
    (planned,) = expirable(case.settings(), keep=9)
    assert (planned.run_id, planned.bytes, planned.has_manifest) == (january, size, False)
    assert data(case, january)
    assert expire(case.settings(), keep=9) == [planned]
    assert data(case, january) == []
    assert case.store().all_run_ids(DATASET) == case.store().ids(DATASET)
    assert expire(case.settings(), keep=9) == []


def test_expire_deletes_files_of_late_task_and_unfinished_copies(lost: tuple[Case, str]) -> None:
    case, _ = lost
    table = case.target / DATASET / "people_1"
    late = [
        table / UNKNOWN / "000003_0.snappy.parquet",
        table / f".deleted-{UNKNOWN}" / "part-00001-bucketwheel_00001.c000.snappy.parquet",
        table / f"ctas-{UNKNOWN}-0f0f0f" / "20250102_030405_00001_abcde_bucket-00000",
    ]
    for path in late:
        path.parent.mkdir()
        path.write_bytes(b"12345")
    expired = {run.run_id: run.bytes for run in expire(case.settings(), keep=9)}
    assert expired[UNKNOWN] == 15
    assert not [path for path in late if path.parent.exists()]


def test_expire_keeps_files_that_bucketwheel_did_not_write(lost: tuple[Case, str]) -> None:
    case, january = lost
    table = case.target / DATASET / "people_1"
    foreign = [
        table / january / "notes.txt",
        table / UNKNOWN / "below" / "000000_0.snappy.parquet",
        table / "2024-99-99-20259999T999999Z-0a1b2c" / "000000_0.snappy.parquet",
        table / "old" / "000000_0.snappy.parquet",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    steps, report = reports()
    assert expire(case.settings(), keep=9, report=report) == []
    assert all(path.exists() for path in foreign)
    assert len(data(case, january)) == 5
    assert f"kept: {january}, which has no manifest: {foreign[0]} is not a file of Bucketwheel" in warnings_in(steps)
    assert f"{UNKNOWN}, which has no manifest: {table / UNKNOWN / 'below'} is not" in warnings_in(steps)


def test_expire_keeps_young_data_of_unknown_run(lost: tuple[Case, str]) -> None:
    case, january = lost
    settings = case.settings(expire__min_age_hours=24)
    steps, report = reports()
    assert expire(settings, keep=9, report=report) == []
    (kept,) = [step.message for step in steps if step.state == "skipped"]
    assert kept.startswith(f"kept: {january}, which has no manifest: its newest file is from ")
    with use(System(Clock(SystemClock().now() + timedelta(hours=25)))):
        assert [run.run_id for run in expire(settings, keep=9)] == [january]


def test_expire_keeps_unknown_run_that_a_catalog_shows(tmp_path: Path) -> None:
    case = Case(tmp_path, tables=1, rows=60)
    case.snapshot(JANUARY)
    january = case.run(STAGES[:6], catalog__database="other").manifest.run_id
    case.snapshot(FEBRUARY)
    for database in ("other", DATABASE):
        case.run(STAGES[:6], catalog__database=database)
    rollback(case.settings(catalog__database="other"), january)
    shutil.rmtree(case.manifest_file(january).parent)
    steps, report = reports()
    # The records of February lead to the other database.
    assert expire(case.settings(), keep=9, report=report) == []
    assert f"kept: {january} is published in catalog duckdb, database other, " in steps[-1].message
    assert len(data(case, january)) == 4


def test_expire_keeps_unknown_runs_if_catalog_shows_no_run(lost: tuple[Case, str]) -> None:
    case, january = lost
    shutil.rmtree(case.target / "_bucketwheel")
    steps, report = reports()
    assert expire(case.settings(catalog__database="wrong"), keep=9, report=report) == []
    assert f"{january}, which has no manifest: the catalog shows no run of this dataset; check" in warnings_in(steps)
    assert [run.run_id for run in expire(case.settings(), keep=9)] == [january]
    assert case.shown() == {"ext_people_1": {FEBRUARY}}


def test_broken_off_deletion_of_unknown_run_is_completed(
    lost: tuple[Case, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, january = lost
    with monkeypatch.context() as patch:
        patch.setattr("bucketwheel.storage.Storage.delete_directory", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            expire(case.settings(), keep=9)
    # Its age no longer counts.
    assert [run.run_id for run in expire(case.settings(expire__min_age_hours=24), keep=9)] == [january]
    assert data(case, january) == []


def test_expire_deletes_objects_and_uploads_of_unknown_runs_on_s3(cloud: Cloud, aws: str) -> None:
    shown = cloud.run().manifest.run_id
    client = plain_client("s3", aws)
    prefix = f"target/{DATASET}/people_1"
    client.put_object(Bucket=cloud.bucket, Key=f"{prefix}/{UNKNOWN}/000000_0.snappy.parquet", Body=b"12345")
    other = UNKNOWN.replace("0a1b2c", "ffffff")
    keys = [f"{prefix}/{run_id}/000001_0.snappy.parquet" for run_id in (other, shown)] + [f"{prefix}/backup/x"]
    for key in keys:
        client.create_multipart_upload(Bucket=cloud.bucket, Key=key)
    # Moto reports a fixed time for uploads.
    planned = expirable(cloud.settings(), keep=9)
    assert [(run.run_id, run.bytes) for run in planned] == [(UNKNOWN, 5), (other, 0)]
    assert expire(cloud.settings(), keep=9) == planned
    left = [upload["Key"] for upload in client.list_multipart_uploads(Bucket=cloud.bucket)["Uploads"]]
    assert sorted(left) == sorted(keys[1:])
    assert client.list_objects_v2(Bucket=cloud.bucket, Prefix=f"{prefix}/{UNKNOWN}")["KeyCount"] == 0
    assert cloud.store().all_run_ids(DATASET) == [shown]
