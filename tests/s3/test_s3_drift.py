"""Drift and cost with input and target on S3: what is asked for, and what a plan goes by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faults.proxy import FaultProxy

from bucketwheel.sample import Sample
from project import WIDE, Project
from s3_support import Bucket


@pytest.fixture
def second(bucket: Bucket, tmp_path: Path, clean: Sample, earlier: Sample) -> Project:
    """A project on S3 that has published the month before."""
    project = bucket.project(tmp_path / "p", earlier)
    project.run()
    project.set(datasets=bucket.take(clean))
    return project


def drift_of(project: Project, *arguments: str) -> dict[str, Any]:
    (run,) = json.loads(project.run(*arguments, "--output", "json").stdout)
    found: dict[str, Any] = run["stages"]["verify"]["result"]["drift"]
    return found


def test_keys_of_both_runs_are_compared(second: Project, published: Project) -> None:
    found, local = drift_of(second), drift_of(published)
    assert found.pop("run_id") != local.pop("run_id")
    assert found == local
    keys = found["keys"]
    assert (keys["both"] + keys["only_now"], keys["both"] + keys["only_before"]) == (1200, 900)


def test_only_one_table_of_both_runs_is_read_for_it(second: Project, proxy: FaultProxy) -> None:
    reads: list[str] = []

    def watch(request: Any) -> None:
        if request.method == "GET" and request.key.endswith(".parquet") and "/2025-09-22-" in request.key:
            reads.append(request.key)

    proxy.plan = watch
    drift_of(second)
    # All of such small files comes with opening them.
    assert len(reads) == len(set(reads)) == 4
    assert len({key.rpartition("/")[0] for key in reads}) == 1


def test_a_published_file_that_is_refused_is_said_and_the_run_goes_on(
    second: Project, bucket: Bucket, proxy: FaultProxy
) -> None:
    def refuse(request: Any) -> str | None:
        old = "/2025-09-22-" in request.key and request.key.endswith(".parquet")
        return "403 AccessDenied" if old and request.method == "GET" else None

    proxy.plan = refuse
    found = drift_of(second)
    assert found["keys"] is None
    assert found["keys_not_compared"].startswith("StorageError: s3://")
    assert "000000_0.snappy.parquet" in found["keys_not_compared"]
    assert bucket.get(f"out/{WIDE}/metadata/snapshot_dt.txt") == b"2025-10-22"


def test_a_plan_goes_by_the_run_that_finished_there(second: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_glue = ["--set", "engine=spark", "--set", "glue.price=1"]
    guess = second.cli("plan", WIDE, *on_glue).stdout
    assert "cost: no finished run on glue to go by: 5 MB a second and core (cost.mb_per_core_second)" in guess
    with monkeypatch.context() as glue:
        glue.setenv("BUCKETWHEEL_RUNTIME", "glue")
        second.run()
    (run_id,) = second_ids(second)
    known = second.cli("plan", WIDE, *on_glue).stdout
    assert f"cost: scaled from run {run_id}: " in known
    planned = json.loads(second.cli("plan", WIDE, *on_glue, "--output", "json").stdout)[WIDE]["cost"]
    assert planned["usage"] == {"DPU-hours": pytest.approx(40 / 60)}
    shown = json.loads(second.cli("show", run_id, "--set", "glue.price=1", "--output", "json").stdout)["cost"]
    # As many requests as were planned, but for files that are smaller than the estimate.
    assert (shown["writes"], shown["reads"]) == (planned["writes"], planned["reads"])


def second_ids(project: Project) -> list[str]:
    runs = json.loads(project.cli("runs", "--output", "json").stdout)
    return [run["run_id"] for run in runs if run["runtime"] == "glue"]


def test_a_plan_names_an_earlier_run_that_cannot_be_read(second: Project, bucket: Bucket) -> None:
    (key,) = [key for key in bucket.keys("out/_bucketwheel/") if key.endswith("manifest.json")]
    bucket.put(key, b"{")
    planned = second.cli("plan", WIDE, "--set", "engine=spark")
    assert planned.exit_code == 0
    assert "manifest.json: is not a manifest" in planned.stdout.replace("\n", " ")


def test_the_requests_are_about_those_that_are_made(
    bucket: Bucket, tmp_path: Path, clean: Sample, proxy: FaultProxy
) -> None:
    made = {"GET": 0, "PUT": 0, "LIST": 0}

    def count(request: Any) -> None:
        kind = "LIST" if request.method == "GET" and not request.key else request.method
        made[kind] = made.get(kind, 0) + 1

    project = bucket.project(tmp_path / "p", clean)
    proxy.plan = count
    (run,) = json.loads(project.run("--output", "json").stdout)
    cost = json.loads(project.cli("show", run["run_id"], "--output", "json").stdout)["cost"]
    assert cost["platform"] is None
    assert cost["reads"] == pytest.approx(made["GET"], rel=0.5)
    assert cost["writes"] == pytest.approx(made["PUT"] + made["LIST"], rel=0.5)
