"""Whole runs while a share of all requests goes wrong: the right bytes, or a clear error and nothing published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from faults.proxy import KINDS, FaultProxy, Request, seeded

from bucketwheel import api, backends
from bucketwheel.sample import Sample
from bucketwheel.storage import Storage, s3_upload
from project import WIDE, Project
from s3_support import Bucket, local_hashes

EXPECTED = re.compile(
    rf"out/({WIDE}/[^/]+/[^/]+/\d{{6}}_0\.snappy\.parquet|{WIDE}/metadata/snapshot_dt\.txt"
    rf"|_bucketwheel/{WIDE}/(lease\.json|runs/[^/]+/((manifest|summary)\.json|buckets/\d+\.json)))"
)


def nothing_odd(bucket: Bucket) -> bool:
    """Whether nothing is there but data files and books."""
    return all(EXPECTED.fullmatch(key) for key in bucket.keys("out/"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_a_run_with_a_tenth_of_all_requests_failing_writes_the_right_bytes(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy, seed: int
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.delay_seconds = 0.02
    proxy.plan = seeded(seed, 0.1)
    project.run()
    proxy.plan = lambda _: None
    assert {one.fault for one in proxy.answered} - {None}
    assert bucket.hashes() == local_hashes(current.target)
    assert project.cli("verify", "last").exit_code == 0
    assert bucket.uploads() == []
    assert nothing_odd(bucket)


def shown(project: Project) -> list[str]:
    """Names of the tables in the catalog; its views are not looked into."""
    return [table.name for table in backends.catalog(project.configuration().settings).tables()]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 116))
def test_a_run_that_gives_up_publishes_nothing_by_halves_and_goes_on_later(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy, seed: int
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    # The first request that goes wrong ends the run, wherever it is.
    project.set(storage={"attempts": 1})
    proxy.delay_seconds = 0.02
    proxy.plan = seeded(seed, 0.025, ("500", "503", "reset", "cut", "lost"))
    # A process of its own: where giving the lease back fails too, the next run sees that its holder is dead.
    ended = project.process("run", WIDE)
    proxy.plan = lambda _: None
    went_wrong = any(one.fault for one in proxy.answered)
    assert ended.exit_code in ((1, 4) if went_wrong else (0,)), ended.stderr
    assert ("error: s3://" in ended.stderr or "error: another run" in ended.stderr) == went_wrong
    assert bucket.uploads() == []
    assert nothing_odd(bucket)
    staged, final = ([f"{prefix}ibe_{name}" for name in ("01", "02", "04")] for prefix in ("ext_", "bucketed_"))
    assert shown(project) in ([], staged, final + staged)

    project.set(storage={"attempts": 8})
    begun = json.loads(project.cli("runs", "--output", "json").stdout)
    result = project.cli("run", WIDE, *(["--resume", "last"] if begun else []))
    assert result.exit_code == 0, result.stderr
    assert shown(project) == final + staged
    assert bucket.hashes() == local_hashes(current.target)
    assert nothing_odd(bucket)


def test_a_run_in_which_little_works_at_first_try_writes_the_right_bytes(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.delay_seconds = 0.02
    proxy.plan = seeded(1, 0.3)
    project.run()
    assert bucket.hashes() == local_hashes(current.target)
    assert nothing_odd(bucket)


@pytest.mark.parametrize("kind", KINDS)
def test_every_first_try_of_a_put_may_go_wrong(
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
    assert bucket.hashes() == local_hashes(current.target)
    assert nothing_odd(bucket)


@pytest.mark.parametrize("seed", range(6))
def test_uploads_in_parts_come_through_faults_whole(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, storage: Storage, seed: int
) -> None:
    monkeypatch.setattr(s3_upload, "_PART", 5 * 2**20)
    content = bytes([seed]) * (12 * 2**20)
    # The middle of an answer to the completion may be missing too, or all of it.
    proxy.plan = seeded(seed, 0.4, ("500", "503", "reset", "lost", "cut"))
    with storage.create(bucket.uri("out/x"), "unused") as stream:
        stream.write(content)
    assert bucket.get("out/x") == content
    proxy.plan = lambda _: None
    storage.abandon_uploads(bucket.uri("out"), "out")
    assert bucket.uploads() == []


def test_two_runs_at_once_on_s3_end_with_one_that_did_it(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project
) -> None:
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
    assert bucket.hashes() == local_hashes(current.target)
