"""Drift and cost with input and target on S3: compared keys, requests and cost estimates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faults.proxy import FaultProxy, healthy

from bucketwheel.sample import Sample
from project import WIDE, Project
from s3_support import Bucket


@pytest.fixture
def second(bucket: Bucket, tmp_path: Path, clean: Sample, earlier: Sample) -> Project:
    """A project on S3 that has published the month before."""
    project = bucket.project(tmp_path / "p", earlier)
    project.run()
    project.set(datasets=bucket.upload(clean))
    return project


def drift_of(project: Project, *arguments: str) -> dict[str, Any]:
    (run,) = json.loads(project.run(*arguments, "--output", "json").stdout)
    drift: dict[str, Any] = run["stages"]["verify"]["result"]["drift"]
    return drift


def test_drift_compares_keys_of_both_runs(second: Project, published: Project) -> None:
    on_s3, local = drift_of(second), drift_of(published)
    assert on_s3.pop("run_id") != local.pop("run_id")
    assert on_s3 == local
    keys = on_s3["keys"]
    assert (keys["both"] + keys["only_now"], keys["both"] + keys["only_before"]) == (1200, 900)


def test_drift_reads_one_table_of_each_run(second: Project, proxy: FaultProxy) -> None:
    reads: list[str] = []

    def watch(request: Any) -> None:
        if request.method == "GET" and request.key.endswith(".parquet") and "/2025-09-22-" in request.key:
            reads.append(request.key)

    proxy.plan = watch
    drift_of(second)
    # The request that opens such a small file reads all of it.
    assert len(reads) == len(set(reads)) == 4
    assert len({key.rpartition("/")[0] for key in reads}) == 1


def test_drift_with_denied_published_file_is_reported(second: Project, bucket: Bucket, proxy: FaultProxy) -> None:
    def refuse(request: Any) -> str | None:
        old = "/2025-09-22-" in request.key and request.key.endswith(".parquet")
        return "403 AccessDenied" if old and request.method == "GET" else None

    proxy.plan = refuse
    drift = drift_of(second)
    assert drift["keys"] is None
    assert drift["keys_not_compared"].startswith("StorageError: s3://")
    assert "000000_0.snappy.parquet" in drift["keys_not_compared"]
    assert bucket.get(f"out/{WIDE}/metadata/snapshot_dt.txt") == b"2025-10-22"


def test_plan_scales_cost_from_finished_run(second: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_glue = ["--set", "engine=spark", "--set", "glue.price=1"]
    unscaled = second.cli("plan", WIDE, *on_glue).stdout
    assert "cost: no finished run on glue; assuming 5 MB per second and core (cost.mb_per_core_second)" in unscaled
    with monkeypatch.context() as glue:
        glue.setenv("BUCKETWHEEL_RUNTIME", "glue")
        second.run()
    (run_id,) = glue_run_ids(second)
    scaled = second.cli("plan", WIDE, *on_glue).stdout
    assert f"cost: scaled from run {run_id}: " in scaled
    planned = json.loads(second.cli("plan", WIDE, *on_glue, "--output", "json").stdout)[WIDE]["cost"]
    assert planned["usage"] == {"DPU-hours": pytest.approx(40 / 60)}
    shown = json.loads(second.cli("show", run_id, "--set", "glue.price=1", "--output", "json").stdout)["cost"]
    # The run sends the estimated number of requests; only its files are smaller than estimated.
    assert (shown["writes"], shown["reads"]) == (planned["writes"], planned["reads"])


def glue_run_ids(project: Project) -> list[str]:
    runs = json.loads(project.cli("runs", "--output", "json").stdout)
    return [run["run_id"] for run in runs if run["runtime"] == "glue"]


def test_plan_names_unreadable_earlier_run(second: Project, bucket: Bucket) -> None:
    (key,) = [key for key in bucket.keys("out/_bucketwheel/") if key.endswith("manifest.json")]
    bucket.put(key, b"{")
    planned = second.cli("plan", WIDE, "--set", "engine=spark")
    assert planned.exit_code == 0
    assert "manifest.json: is not a manifest" in planned.stdout.replace("\n", " ")


def test_cost_estimates_number_of_requests(second: Project, proxy: FaultProxy) -> None:
    # The lease is read 20 times and written 3 times, and more often if the run takes long.
    sent = {"GET": 20, "PUT": 3, "LIST": 0}

    def count(request: Any) -> None:
        if request.key.endswith("lease.json"):
            return
        kind = "LIST" if request.method == "GET" and not request.key else request.method
        sent[kind] = sent.get(kind, 0) + 1

    proxy.plan = count
    (run,) = json.loads(second.run("--output", "json").stdout)
    proxy.plan = healthy
    cost = json.loads(second.cli("show", run["run_id"], "--output", "json").stdout)["cost"]
    assert cost["platform"] is None
    assert cost["reads"] == sent["GET"]
    # The listing of the marker and of the published files is not estimated, and a write may be repeated.
    assert cost["writes"] == pytest.approx(sent["PUT"] + sent["LIST"], abs=4)
