"""The logger `bucketwheel` for users of the Python interface."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from lease_support import LocalLeaseDirectory

from bucketwheel.errors import SelectionError
from bucketwheel.settings import STAGES
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import store_lease_of_other_host
from runs_support import DATASET, Case


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "bucketwheel")
    return caplog


def messages(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level and record.name == "bucketwheel"]


def test_run_logs_every_stage_at_info(case: Case, log: pytest.LogCaptureFixture) -> None:
    run_id = case.run().manifest.run_id
    lines = messages(log, logging.INFO)
    for stage in STAGES:
        assert any(line.startswith(DATASET) and line.endswith(f"{stage}: started") for line in lines), stage
        assert any(line.startswith(f"{DATASET} {run_id} {stage}: finished") for line in lines), stage
    assert messages(log, logging.ERROR) == []


def test_run_logs_warnings_at_warning(case: Case, log: pytest.LogCaptureFixture) -> None:
    warned: list[str] = []
    case.mapping.write_text("\n".join(case.mapping.read_text().splitlines()[:-1]) + "\n")
    case.run(report=lambda step: warned.append(step.message) if step.state == "warning" else None)
    assert warned
    lines = messages(log, logging.WARNING)
    assert len(lines) == len(warned)
    assert all(line.endswith(message) for line, message in zip(lines, warned, strict=True))


def test_failed_run_logs_one_error(case: Case, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SelectionError):
        case.run(resume="nothing")
    (line,) = messages(log, logging.ERROR)
    assert line.startswith(f"{DATASET}: SelectionError: no run 'nothing' below ")


def test_lease_taken_over_is_logged(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    directory, clock = LocalLeaseDirectory(tmp_path / "metadata"), Clock()
    store_lease_of_other_host(directory, clock)
    clock.forward(3600)
    with directory.lease(clock):
        (line,) = messages(log, logging.WARNING)
    assert "took over the lease of process 1 on elsewhere, whose lease expired at 2025-04-01T12:01:00" in line


def test_failed_command_prints_its_error_once(tmp_path: Path) -> None:
    call = [
        sys.executable,
        "-m",
        "bucketwheel",
        "run",
        "--set",
        "datasets.d.source=nowhere",
        "--set",
        "datasets.d.key=k",
    ]
    process = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert process.stderr.count("nowhere: no snapshot") == 1, process.stderr
