"""Whole runs while a share of all requests goes wrong: the right bytes, or a clear error and nothing published."""

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


def shown(project: Project) -> dict[str, str]:
    """The files of each table in the catalog; its views are not looked into."""
    return {table.name: table.location for table in plugins.catalog(project.configuration().settings).tables()}


def run_ids(project: Project) -> list[str]:
    return [run["run_id"] for run in json.loads(project.cli("runs", "--output", "json").stdout)]


def check_whole(before: Mapping[str, str], after: Mapping[str, str], run_id: str) -> None:
    """Raise unless the tables of each kind show all what they showed, or all what the run has written and verified.

    `register` is the whole of the staged tables and `ctas` of the final ones: where it is between the two that a
    run fails, the staged ones are of this run and stay. Final tables never are ahead of them.
    """
    new = {}
    for prefix in ("ext_", "bucketed_"):
        names = [f"{prefix}ibe_{number}" for number in ("01", "02", "04")]
        places = [after.get(name) for name in names]
        new[prefix] = all(place and place.endswith(f"/{run_id}") for place in places)
        assert new[prefix] or places == [before.get(name) for name in names]
    assert new["ext_"] or not new["bucketed_"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 116))
def test_a_run_that_gives_up_publishes_nothing_by_halves_and_goes_on_later(
    bucket: Bucket, tmp_path: Path, clean: Sample, earlier: Sample, current: Project, proxy: FaultProxy, seed: int
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    if seed % 4 == 1:
        project.set(datasets=bucket.take(earlier))
        project.run()
        project.set(datasets=bucket.take(clean))
    before, runs_before = shown(project), run_ids(project)
    # The first request that goes wrong ends the run, wherever it is.
    project.set(storage={"attempts": 1})
    proxy.delay_seconds = 0.02
    proxy.answered.clear()
    share = seeded(seed, 0.025, ("500", "503", "reset", "cut", "lost"))

    def plan(request: Request) -> str | None:
        # The last request of all that a run cannot do without, where none has gone wrong before.
        last = request.method == "PUT" and request.key.endswith("/snapshot_dt.txt")
        return share(request) or ("503" if last else None)

    proxy.plan = plan
    # A process of its own: where giving the lease back fails too, the next run sees that its holder is dead.
    ended = project.process("run", WIDE)
    proxy.plan = lambda _: None
    assert any(one.fault for one in proxy.answered)
    assert ended.exit_code in (1, 4), ended.stderr
    assert "error: s3://" in ended.stderr or "error: another run" in ended.stderr
    assert bucket.uploads() == []
    assert nothing_odd(bucket)

    project.set(storage={"attempts": 8})
    begun = [run_id for run_id in run_ids(project) if run_id not in runs_before]
    check_whole(before, shown(project), begun[0] if begun else "none")
    result = project.cli("run", WIDE, *(["--resume", "last"] if begun else []))
    assert result.exit_code == 0, result.stderr
    after = shown(project)
    assert sorted(after) == sorted(f"{prefix}ibe_{n}" for prefix in ("bucketed_", "ext_") for n in ("01", "02", "04"))
    (run_id,) = {location.rpartition("/")[2] for location in after.values()}
    check_whole(before, after, run_id)
    assert bucket.hashes(run_id=run_id) == local_hashes(current.target)
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


def test_of_two_processes_started_at_the_same_moment_one_does_it(
    bucket: Bucket, tmp_path: Path, clean: Sample, current: Project, proxy: FaultProxy
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    both = threading.Barrier(2, timeout=60)

    def plan(request: Request) -> None:
        # Neither gets the lease before both have seen that it is free.
        if request.method == "PUT" and request.key.endswith("/lease.json") and request.number < 2:
            both.wait()

    proxy.plan = plan
    with ThreadPoolExecutor(2) as pool:
        one, other = sorted(
            pool.map(lambda _: project.process("run", WIDE), range(2)), key=lambda ended: ended.exit_code
        )
    assert (one.exit_code, other.exit_code) == (0, 4), one.stderr + other.stderr
    assert re.search("another run (took|holds) the lease", other.stderr)
    assert bucket.hashes() == local_hashes(current.target)
    assert len({place.rpartition("/")[2] for place in shown(project).values()}) == 1
    assert nothing_odd(bucket)
