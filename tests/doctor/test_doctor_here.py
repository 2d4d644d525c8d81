"""`doctor` on one machine: every condition that makes a check fail, once, beside a project where all is well."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import sys
import threading
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bucketwheel.doctor import checks, versions
from bucketwheel.doctor.checks import Check, ok
from deploy_support import ROOT
from project import NARROW, WIDE, Project

GIB = 2**30


def found(project: Project, *arguments: str, code: int = 0) -> dict[str, dict[str, str]]:
    result = project.cli("doctor", *arguments, "--output", "json")
    assert result.exit_code == code, result.stdout + result.stderr
    return {finding["name"]: finding for finding in json.loads(result.stdout)}


def test_doctor_local_project_passes_without_aws_checks(project: Project) -> None:
    before = project.tree(directory_times=True)
    # Little enough to be free whatever else this machine does.
    seen = found(project, "--set", "memory=64MB")
    assert list(seen) == [
        "configuration", "python", "pyarrow", "numpy", "duckdb", "backends", "memory", "disk", "database",
        f"dataset {NARROW}", f"dataset {WIDE}",
    ]  # fmt: skip
    # The versions of the floor and the newest are both inside the range.
    assert {finding["state"] for finding in seen.values()} == {"ok"}, seen
    assert project.tree(directory_times=True) == before


def test_findings_text_prints_state_and_fix(project: Project) -> None:
    project.set(target=str(project.root / "out"), datasets={WIDE: {"source": "nowhere", "key": "id"}})
    result = project.cli("doctor")
    assert (result.exit_code, result.stderr) == (1, f"error: 1 of 11 checks failed: dataset {WIDE}\n")
    lines = result.stdout.splitlines()
    assert any(re.match(r"ok       python +3\.", line) for line in lines)
    (number,) = [number for number, line in enumerate(lines) if line.startswith("warning  disk")]
    assert f"infobase_attributes ({project.root.parent / 'nowhere'}: no snapshot" in lines[number]
    assert lines[number + 1].strip() == "-> see `bucketwheel plan`"


def test_doctor_failed_check_exits_1_and_names_it(project: Project) -> None:
    result = project.cli("doctor", "--set", "memory=900GB", "--set", "catalog.path=s3://bucket/catalog")
    assert result.exit_code == 1
    assert result.stderr == "error: 2 of 11 checks failed: memory, database\n"
    assert "ok       disk" in result.stdout
    assert "set memory to" in result.stdout


def test_doctor_unreadable_settings_runs_remaining_checks(project: Project) -> None:
    project.set(buckets={"count": -1}, threads="many")
    seen = found(project, code=1)
    assert list(seen) == ["configuration", "python", "pyarrow", "numpy"]
    assert seen["configuration"]["state"] == "failed"
    assert {"buckets.count", "threads"} <= set(
        re.findall(r"[a-z]+(?:\.[a-z]+)?(?= \()", seen["configuration"]["found"])
    )
    assert seen["python"]["state"] == "ok"


def test_doctor_secret_in_settings_is_named_not_shown(project: Project) -> None:
    project.set(trino={"user": "AKIA" + "Z" * 16})
    seen = found(project, code=1)["configuration"]
    assert (seen["state"], seen["found"]) == ("failed", "trino.user: looks like an access key")
    assert seen["todo"].startswith("remove it")


def test_memory_used_by_other_programs_warns(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=8 * GIB, available=GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert found(project, "--set", "memory=2GiB")["memory"]["state"] == "warning"


def test_disk_too_small_names_target_and_bytes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    seen = found(project, code=1)["disk"]
    assert seen["state"] == "failed"
    assert re.search(rf"target {project.target}: 1\.0 kB free, needs about [\d.]+ kB", seen["found"])
    assert "expire" in seen["todo"]


def test_disk_counts_spilled_bytes_for_scratch_directory(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--set", "memory=10kB", "--set", f"storage.spill_directory={tmp_path}")
    text = found(project, *arguments)["disk"]["found"]
    assert re.search(rf"scratch {tmp_path}: .* needs about [1-9][\d.]* kB", text)
    assert "needs about 0 B" in found(project)["disk"]["found"]


def test_disk_target_not_writable_fails(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    seen = found(project, code=1)
    assert seen["disk"]["found"] == f"target {project.target}: is not writable"
    assert seen["database"]["state"] == "failed"
    assert "is not writable" in seen["database"]["found"]


def test_backend_unknown_fails(project: Project) -> None:
    seen = found(project, "--engine", "arrrow", code=1)["backends"]
    assert "did you mean 'arrow'?" in seen["found"] + seen["todo"]


def test_executor_is_contacted(project: Project) -> None:
    remote = (
        "--set",
        "catalog.kind=glue",
        "--set",
        "ctas.method=trino",
        "--set",
        "trino.port=1",
        "--set",
        "ctas.attempts=1",
    )
    seen = found(project, *remote, "--timeout", "5", code=1)
    assert seen["trino"]["state"] == "failed"


@pytest.mark.parametrize(
    ("version", "state", "todo"),
    [
        ("16.1.0", "failed", "too old: install pyarrow 26.0.1"),
        ("17.0.0", "ok", ""),
        ("26.0.1.post1", "ok", ""),
        ("27.0.0", "warning", "newer than the tested versions; if something fails, try pyarrow 26.0.1"),
    ],
)
def test_compare_version_in_and_out_of_range(version: str, state: str, todo: str) -> None:
    seen = versions.compare("pyarrow", version)
    assert (seen.state, seen.todo) == (state, todo)


def test_compare_unsupported_spark_fails() -> None:
    seen = versions.compare("pyspark", "4.0.0")
    assert (seen.state, seen.todo) == (
        "failed", "pyspark 3.6 and newer are not supported: pip install 'bucketwheel[spark]'",
    )  # fmt: skip


def test_ranges_match_constraints_files() -> None:
    newest = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    needed = "\n".join((*project["dependencies"], *extras))
    for name, allowed in versions.RANGES.items():
        if name == "python":
            assert project["requires-python"] == f">={allowed.least}"
            assert f"Programming Language :: Python :: {allowed.newest}" in project["classifiers"]
            continue
        assert allowed.newest == newest[name]
        assert re.search(rf"\b{name}(\[[\w,-]+\])?>={re.escape(allowed.least)}\b", needed), name


def java(directory: Path, text: str) -> Path:
    program = directory / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("says", "state", "text"),
    [
        ("echo 'openjdk version \"17.0.2\" 2022-01-18' >&2", "ok", '"17.0.2"'),
        ("echo 'java version \"1.8.0_392\"' >&2", "ok", '"1.8.0_392"'),
        ("echo 'openjdk version \"24\" 2025-03-18' >&2", "warning", "Spark 3.5 runs on 8, 11, 17"),
        ("echo nonsense", "failed", "prints no version"),
    ],
)
def test_java_version_is_checked_for_spark(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, state: str, text: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path / "java", says)))
    seen = found(project, "--engine", "spark", code=int(state == "failed"))
    assert (seen["java"]["state"], seen["pyspark"]["state"]) == (state, "ok")
    assert text in seen["java"]["found"]
    assert "memory" not in seen


def test_missing_java_fails_locally_and_warns_for_aws(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyspark", None)
    real = importlib.metadata.version

    def missing(name: str) -> str:
        if name == "pyspark":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    seen = found(project, "--engine", "spark", code=1)
    assert seen["java"] == {
        "name": "java", "state": "failed", "found": f"{tmp_path}/bin/java does not exist",
        "todo": "install OpenJDK 17, or set JAVA_HOME to one",
    }  # fmt: skip
    assert (seen["pyspark"]["state"], seen["pyspark"]["todo"]) == ("failed", "pip install 'bucketwheel[spark]'")
    settings = project.configuration(engine="spark", target="s3://bucket/out").settings
    remote = {check.name: check.look() for check in versions.checks(settings, uses_aws=True, remote_only=True)}
    assert (remote["java"].state, remote["pyspark"].state) == ("warning", "warning")


def test_run_reports_hanging_and_broken_checks() -> None:
    hold = threading.Event()

    def hang() -> checks.CheckResult:
        hold.wait(60)
        return ok("late")

    def broken() -> checks.CheckResult:
        raise ZeroDivisionError("by zero")

    began = time.monotonic()
    hung, broke, fine = checks.run([Check("a", hang), Check("b", broken), Check("c", lambda: ok("yes"))], 0.5)
    hold.set()
    assert time.monotonic() - began < 30
    assert (hung.state, hung.found) == ("failed", "no answer within 0.5 s")
    assert (broke.state, broke.found) == ("failed", "ZeroDivisionError: by zero")
    assert (fine.state, fine.found) == ("ok", "yes")
