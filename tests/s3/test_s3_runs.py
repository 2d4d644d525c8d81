"""Runs with input and target on S3 write the same bytes as on disk, and every command works."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request, healthy

from bucketwheel import api
from bucketwheel.errors import LeaseError
from bucketwheel.sample import Sample
from bucketwheel.storage import name_of
from project import NARROW, WIDE, Project, environment
from s3_support import Bucket


@pytest.fixture
def reference(current: Project) -> dict[str, str]:
    """Hashes of the files that a run on local disk writes."""
    return current.hashes()


def test_run_writes_same_bytes_as_on_disk_and_nothing_else(
    bucket: Bucket, tmp_path: Path, clean: Sample, reference: dict[str, str]
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    project.run()
    assert bucket.hashes() == reference
    assert bucket.uploads() == []
    keys = [re.sub(r"2025-10-22-\w+-\w{6}", "RUN", key) for key in bucket.keys("out/") if ".parquet" not in key]
    assert [re.sub(r"catalogs/\w{8}", "catalogs/ID", key) for key in keys] == [
        f"out/_bucketwheel/{WIDE}/lease.json",
        f"out/_bucketwheel/{WIDE}/runs/RUN/catalogs/ID.json",
        f"out/_bucketwheel/{WIDE}/runs/RUN/claim.json",
        f"out/_bucketwheel/{WIDE}/runs/RUN/manifest.json",
        f"out/_bucketwheel/{WIDE}/runs/RUN/summary.json",
        f"out/{WIDE}/metadata/snapshot_dt.txt",
        f"out/{WIDE}/metadata/tables.json",
    ]
    assert bucket.get(f"out/{WIDE}/metadata/snapshot_dt.txt") == b"2025-10-22"


def test_second_run_changes_no_object(bucket: Bucket, tmp_path: Path, clean: Sample) -> None:
    project = bucket.project(tmp_path / "p", clean)
    project.run()
    lease = f"out/_bucketwheel/{WIDE}/lease.json"
    before = {key: bucket.head(key)["LastModified"] for key in bucket.keys("out/") if key != lease}
    project.run()
    assert {key: bucket.head(key)["LastModified"] for key in bucket.keys("out/") if key != lease} == before


def test_runs_can_be_listed_verified_rolled_back_and_expired(
    bucket: Bucket, tmp_path: Path, clean: Sample, earlier: Sample
) -> None:
    project = bucket.project(tmp_path / "p", earlier)
    project.run()
    project.set(datasets=bucket.upload(clean))
    project.run()
    old, new = (run["run_id"] for run in json.loads(project.cli("runs", "--output", "json").stdout))
    for run_id in (old, new):
        assert project.cli("verify", run_id).exit_code == 0
    rollback = project.cli("rollback", old)
    assert rollback.exit_code == 0, rollback.stderr
    assert bucket.get(f"out/{WIDE}/metadata/snapshot_dt.txt").decode() == "2025-09-22"
    assert project.cli("rollback", new, "--force").exit_code == 0
    expire = project.cli("expire", "--yes", "--keep", "1")
    assert expire.exit_code == 0, expire.stderr
    assert [key for key in bucket.keys("out/") if old in key] == []
    assert [key for key in bucket.keys("out/") if new in key]


def test_resume_continues_after_last_finished_bucket(
    bucket: Bucket, tmp_path: Path, clean: Sample, reference: dict[str, str], proxy: FaultProxy
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.plan = lambda request: "403 AccessDenied" if "000002_0" in request.key else None
    failed = project.cli("run", WIDE)
    assert failed.exit_code == 1
    assert "s3:PutObject on arn:aws:s3:::" in failed.stderr
    finished = {key for key in bucket.keys("out/") if "/buckets/" in key}
    assert finished
    assert project.catalog.exists() is False
    proxy.plan = healthy
    proxy.answered.clear()
    result = project.cli("run", WIDE, "--resume", "last")
    assert result.exit_code == 0, result.stderr
    written = {name_of(one.request.key)[:6] for one in proxy.answered if one.request.method == "PUT"}
    assert not {name_of(key).removesuffix(".json") for key in finished} & written
    assert bucket.hashes() == reference
    assert bucket.uploads() == []
    assert [key for key in bucket.keys("out/") if "/buckets/" in key] == []


def test_catalog_names_s3_locations(bucket: Bucket, tmp_path: Path, clean: Sample) -> None:
    project = bucket.project(tmp_path / "p", clean)
    result = project.cli("run", NARROW)
    assert result.exit_code == 0, result.stderr
    shown = project.cli("show", "last", "--output", "json")
    assert f"s3://{bucket.name}/out/{NARROW}/" in shown.stdout


def test_snapshot_with_odd_keys_is_read(
    bucket: Bucket, tmp_path: Path, clean: Sample, reference: dict[str, str]
) -> None:
    project = Project(tmp_path / "p", clean)
    prefix = "in put/ü 100%+#?=[x]:é"
    snapshot = f"{prefix}/snapshot_dt=2025-10-22"
    for key in (
        f"{prefix}/",
        f"{snapshot}/",
        f"{snapshot}/part a b/",
        f"{prefix}/snapshot_dt=2025-11-22/",
        f"{prefix}/_tmp/x",
    ):
        bucket.put(key)
    # The first page of the listing ends before the first file.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bucket.put, [f"{snapshot}/.aside/{number}.parquet" for number in range(1_010)]))
    for number, path in enumerate(sorted(clean.snapshot.rglob("*.parquet"))):
        bucket.put(f"{snapshot}/part a b/{number}-12:00%20+.c000.snappy.parquet", path.read_bytes())
    bucket.put(f"{snapshot}/_SUCCESS")
    bucket.put("mapping #1.csv", clean.mapping.read_bytes())
    project.set(
        target=bucket.uri("out/ä b+c", "s3a"),
        datasets={
            WIDE: {
                "source": bucket.uri(prefix, "s3n"),
                "mapping": bucket.uri("mapping #1.csv"),
                "key": "Customer_User_id",
                "complete_marker": "_SUCCESS",
            }
        },
    )
    result = project.run()
    assert "snapshot_dt 2025-11-22 is incomplete" in result.stderr
    assert bucket.hashes("out/ä b+c") == reference
    assert project.cli("verify", "last").exit_code == 0


def test_killed_run_is_taken_over_and_leaves_no_upload(
    bucket: Bucket, tmp_path: Path, clean: Sample, reference: dict[str, str], proxy: FaultProxy
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    project.set(lease={"ttl_seconds": 1000})
    written = threading.Event()

    def plan(request: Request) -> str | None:
        if request.method == "PUT" and request.key.endswith("000001_0.snappy.parquet"):
            written.set()
            # Blocks until the process has been killed, with a limit for a failing test.
            killed.wait(60)
        return None

    killed = threading.Event()
    proxy.plan = plan
    process = subprocess.Popen(project.command("run", WIDE), env=environment(), stderr=subprocess.DEVNULL)
    assert written.wait(60)
    left = f"out/{WIDE}/ibe_01/{run_ids(bucket)[0]}/000003_0.snappy.parquet"
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key=left)
    process.kill()
    process.wait()
    killed.set()
    proxy.plan = healthy
    assert json.loads(bucket.get(f"out/_bucketwheel/{WIDE}/lease.json"))["pid"] == process.pid
    result = project.cli("run", WIDE, "--resume", "last")
    assert result.exit_code == 0, result.stderr
    assert bucket.hashes() == reference
    assert bucket.uploads() == []


def test_run_that_lost_its_lease_publishes_nothing(bucket: Bucket, tmp_path: Path, clean: Sample) -> None:
    project = bucket.project(tmp_path / "p", clean)
    lease = f"out/_bucketwheel/{WIDE}/lease.json"

    def progress(event: api.Progress) -> None:
        if (event.stage, event.state) == ("register", "started"):
            follower = {**json.loads(bucket.get(lease)), "token": "follower", "pid": 1, "host": "other"}
            bucket.put(lease, json.dumps(follower).encode())

    with pytest.raises(LeaseError, match=r"lost the lease s3://.* \(process 1 on other holds it now\)"):
        api.run(project.configuration(), WIDE, progress=progress)
    assert not project.catalog.exists()
    assert json.loads(bucket.get(lease))["token"] == "follower"
    assert bucket.keys(f"out/{WIDE}/metadata") == []


def run_ids(bucket: Bucket) -> list[str]:
    return sorted({key.split("/")[4] for key in bucket.keys(f"out/_bucketwheel/{WIDE}/runs/")})
