"""Runs while a share of the requests fails: they write the same bytes, or fail with an error and publish nothing."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults.proxy import KINDS, FaultProxy, Request, seeded

from bucketwheel import api, plugins
from bucketwheel.sample import Sample
from bucketwheel.storage import Storage, s3_upload
from project import WIDE, Project
from s3_support import Bucket

EXPECTED = re.compile(
    rf"out/({WIDE}/[^/]+/[^/]+/\d{{6}}_0\.snappy\.parquet|{WIDE}/metadata/(snapshot_dt\.txt|tables\.json)"
    rf"|_bucketwheel/{WIDE}/(lease\.json|runs/[^/]+/((manifest|summary|claim|catalogs/\w{{8}})\.json|replaced_at\.txt|buckets/\d+\.json)))"
)


def has_only_expected_keys(bucket: Bucket) -> bool:
    """Return whether the target holds only data files and run metadata."""
    return all(EXPECTED.fullmatch(key) for key in bucket.keys("out/"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_run_with_tenth_of_requests_failing_writes_same_bytes(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy, seed: int
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.delay_seconds = 0.02
    proxy.plan = seeded(seed, 0.1)
    project.run()
    proxy.plan = lambda _: None
    assert {one.fault for one in proxy.answered} - {None}
    assert bucket.hashes() == current.hashes()
    assert project.cli("verify", "last").exit_code == 0
    assert bucket.uploads() == []
    assert has_only_expected_keys(bucket)


def published_locations(project: Project) -> dict[str, str]:
    """Return the location of each table in the catalog."""
    return {table.name: table.location for table in plugins.catalog(project.configuration().settings).tables()}


def run_ids(project: Project) -> list[str]:
    return [run["run_id"] for run in json.loads(project.cli("runs", "--output", "json").stdout)]


def check_whole(before: Mapping[str, str], after: Mapping[str, str], run_id: str) -> None:
    """Check that all tables of one kind are published from the same run: the new one, or all from the one before.

    Stage `register` publishes the staged tables and `ctas` the final ones. If a run fails between the two, the
    staged tables of the new run stay; final tables are never ahead of staged ones.
    """
    new = {}
    for prefix in ("ext_", "bucketed_"):
        names = [f"{prefix}ibe_{number}" for number in ("01", "02", "04")]
        locations = [after.get(name) for name in names]
        new[prefix] = all(location and location.endswith(f"/{run_id}") for location in locations)
        assert new[prefix] or locations == [before.get(name) for name in names]
    assert new["ext_"] or not new["bucketed_"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 116))
def test_failed_run_publishes_all_or_nothing_and_resumes(
    bucket: Bucket, tmp_path: Path, clean: Sample, earlier: Sample, current: Project, proxy: FaultProxy, seed: int
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    if seed % 4 == 1:
        project.set(datasets=bucket.upload(earlier))
        project.run()
        project.set(datasets=bucket.upload(clean))
    before, runs_before = published_locations(project), run_ids(project)
    # The first failed request ends the run.
    project.set(storage={"attempts": 1})
    proxy.delay_seconds = 0.02
    proxy.answered.clear()
    share = seeded(seed, 0.025, ("500", "503", "reset", "cut", "lost"))

    def plan(request: Request) -> str | None:
        # If no earlier request failed, the last required request does.
        last = request.method == "PUT" and request.key.endswith("/snapshot_dt.txt")
        return share(request) or ("503" if last else None)

    proxy.plan = plan
    # A separate process: if the release of the lease fails too, the next run sees that the holder is dead.
    failed = project.process("run", WIDE)
    proxy.plan = lambda _: None
    assert any(one.fault for one in proxy.answered)
    assert failed.exit_code in (1, 4), failed.stderr
    assert "error: s3://" in failed.stderr or "error: another run" in failed.stderr
    assert bucket.uploads() == []
    assert has_only_expected_keys(bucket)

    project.set(storage={"attempts": 8})
    new_runs = [run_id for run_id in run_ids(project) if run_id not in runs_before]
    check_whole(before, published_locations(project), new_runs[0] if new_runs else "none")
    result = project.cli("run", WIDE, *(["--resume", "last"] if new_runs else []))
    assert result.exit_code == 0, result.stderr
    after = published_locations(project)
    assert sorted(after) == sorted(f"{prefix}ibe_{n}" for prefix in ("bucketed_", "ext_") for n in ("01", "02", "04"))
    (run_id,) = {location.rpartition("/")[2] for location in after.values()}
    check_whole(before, after, run_id)
    assert bucket.hashes(run_id=run_id) == current.hashes()
    assert has_only_expected_keys(bucket)


def test_run_with_third_of_requests_failing_writes_same_bytes(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.delay_seconds = 0.02
    proxy.plan = seeded(1, 0.3)
    project.run()
    assert bucket.hashes() == current.hashes()
    assert has_only_expected_keys(bucket)


@pytest.mark.parametrize("kind", KINDS)
def test_run_with_every_first_put_failing_writes_same_bytes(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy, kind: str
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    seen: set[tuple[str, bytes]] = set()
    proxy.delay_seconds = 0.01

    def plan(request: Request) -> str | None:
        if request.method != "PUT" or (request.key, request.body) in seen:
            return None
        seen.add((request.key, request.body))
        return kind

    proxy.plan = plan
    project.run()
    assert bucket.hashes() == current.hashes()
    assert has_only_expected_keys(bucket)


@pytest.mark.parametrize("seed", range(6))
def test_multipart_upload_with_faults_is_complete(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, storage: Storage, seed: int
) -> None:
    monkeypatch.setattr(s3_upload, "_PART", 5 * 2**20)
    content = bytes([seed]) * (12 * 2**20)
    # The response to the completion may also be truncated or lost.
    proxy.plan = seeded(seed, 0.4, ("500", "503", "reset", "lost", "cut"))
    with storage.create(bucket.uri("out/x"), "unused") as stream:
        stream.write(content)
    assert bucket.get("out/x") == content
    proxy.plan = lambda _: None
    storage.abandon_uploads(bucket.uri("out"), "out")
    assert bucket.uploads() == []


def test_second_run_during_first_is_refused(bucket: Bucket, tmp_path: Path, clean: Sample, current: Project) -> None:
    project = bucket.project(tmp_path / "p", clean)
    seen = []

    def progress(event: api.Progress) -> None:
        if (event.stage, event.state) == ("bucket", "started"):
            seen.append(project.process("run", WIDE))

    outcome = api.run(project.configuration(), WIDE, progress=progress)
    assert outcome.manifest.status == "finished"
    assert seen[0].exit_code == 4
    assert (
        f"another run holds the lease s3://{bucket.name}/out/_bucketwheel/{WIDE}/lease.json: process"
        in seen[0].stderr
    )
    assert bucket.hashes() == current.hashes()


def test_two_simultaneous_processes_only_one_runs(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    both = threading.Barrier(2, timeout=60)

    def plan(request: Request) -> None:
        # Both processes see a free lease before either takes it.
        if request.method == "PUT" and request.key.endswith("/lease.json") and request.number < 2:
            both.wait()

    proxy.plan = plan
    with ThreadPoolExecutor(2) as pool:
        one, other = sorted(
            pool.map(lambda _: project.process("run", WIDE), range(2)), key=lambda result: result.exit_code
        )
    assert (one.exit_code, other.exit_code) == (0, 4), one.stderr + other.stderr
    assert re.search("another run (took|holds) the lease", other.stderr)
    assert bucket.hashes() == current.hashes()
    assert len({location.rpartition("/")[2] for location in published_locations(project).values()}) == 1
    assert has_only_expected_keys(bucket)
