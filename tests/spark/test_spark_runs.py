"""Whole runs on Spark write the same files as the arrow engine, however Spark is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bucketwheel.sample import Sample
from project import APP, WIDE, Project, environment

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.usefixtures("java")]

SUBMIT = [sys.executable, "-m", "pyspark.find_spark_home"]


@pytest.fixture
def expected(current: Project) -> dict[str, str]:
    """Digests of the files that the arrow engine writes for the same sample."""
    hashes = current.hashes()
    assert len(hashes) == 4 * 3
    return hashes


def submitted(project: Project, *arguments: str, master: str = "local[2]") -> subprocess.CompletedProcess[str]:
    """Run `app/job.py` by spark-submit and return the finished process."""
    home = subprocess.run(SUBMIT, capture_output=True, text=True, check=True).stdout.strip()
    options = ["--master", master, "--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false"]
    return subprocess.run(
        [f"{home}/bin/spark-submit", *options, str(APP / "job.py"), *arguments, "--config-dir", str(project.conf)],
        capture_output=True,
        text=True,
        env=environment(
            PYSPARK_PYTHON=sys.executable,
            SPARK_LOCAL_IP="127.0.0.1",
            SPARK_HOME=home,
            # Glue's arguments do not make this machine Glue, whose jobs may not use local paths.
            BUCKETWHEEL_RUNTIME="local",
        ),
        cwd=project.root,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_run_writes_bytes_of_arrow_engine(project: Project, expected: dict[str, str], threads: int) -> None:
    done = project.process("run", WIDE, "--engine", "spark", "--set", f"threads={threads}")
    assert done.exit_code == 0, done.stderr
    assert project.hashes() == expected
    assert set(project.published().values()) == {1200}


def test_drift_matches_arrow_engine(published: Project) -> None:
    def drift(project: Project, engine: str, *more: str) -> dict[str, Any]:
        done = project.process("run", WIDE, "--engine", engine, "--output", "json", *more)
        assert done.exit_code == 0, done.stderr
        (run,) = json.loads(done.stdout)
        differences: dict[str, Any] = run["stages"]["verify"]["result"]["drift"]
        return differences

    on_spark = drift(published, "spark")
    published.set(size={"page_bytes": 10**6})  # So that it is another run.
    assert published.cli("rollback", on_spark["run_id"]).exit_code == 0
    assert drift(published, "arrow", "--force") == on_spark
    assert on_spark["keys"]["both"] + on_spark["keys"]["only_before"] == 900


def test_spark_submit_job_writes_same_bytes(project: Project, expected: dict[str, str]) -> None:
    done = submitted(project, "--dataset", WIDE, "--settings", '{"engine": "spark"}', "--JOB_ID", "j_1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.hashes() == expected
    manifest = json.loads(project.cli("show", "last", "--output", "json").stdout)
    assert manifest["status"] == "finished"
    assert {stage["peak_memory_bytes"] for stage in manifest["stages"].values()} == {None}


def test_failed_job_exits_1_with_reason(project: Project, tmp_path: Path, clean: Sample) -> None:
    (project.root / "in the way").write_text("")
    project.set(target=str(project.root / "in the way" / "out"))
    done = submitted(project, "--dataset", WIDE, "--settings", '{"engine": "spark"}')
    assert done.returncode == 1
    assert "JobFailedError" in done.stdout + done.stderr
    assert os.fspath(project.root / "in the way") in done.stdout + done.stderr


def test_run_of_one_engine_is_resumed_by_another(project: Project, expected: dict[str, str]) -> None:
    project.run("--stages", "discover,split,size")
    done = project.process("run", WIDE, "--engine", "spark", "--stages", "bucket,verify,register,ctas")
    assert done.exit_code == 0, done.stderr
    assert project.hashes() == expected
