"""Argument names of earlier jobs in `run` and `plan`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project


def planned(project: Project, *arguments: str) -> dict[str, Any]:
    result = project.cli("plan", *arguments, "--output", "json")
    assert result.exit_code == 0, result.stderr
    plan: dict[str, Any] = json.loads(result.stdout)
    return plan


@pytest.mark.parametrize("joined", [True, False])
def test_old_names_are_accepted_by_run(project: Project, clean: Sample, tmp_path: Path, joined: bool) -> None:
    source = tmp_path / "other source" / "raw_input"
    shutil.copytree(clean.snapshot, source / "snapshot_dt=2025-08-01")
    shutil.copytree(clean.snapshot, source / "snapshot_dt=2025-09-01")
    mapping = tmp_path / "2025"
    shutil.copy(clean.mapping, mapping)
    project.set(datasets={WIDE: {"source": "nowhere", "mapping": "nowhere", "key": "Customer_User_id"}})
    given = {
        "--SNAPSHOT_DT": "2025-08-01",
        "--TABLES_FILTER": "IBE_01,IBE_02",
        "--SOURCE_PATH": str(source),
        "--TARGET_PATH": str(tmp_path / "yes: {here}"),
        "--BUCKET_COUNT": "8",
        "--CSV_PATH": str(mapping),
        "--DATABASE": "2025",
    }
    words = [f"{name}={value}" for name, value in given.items()] if joined else [w for p in given.items() for w in p]
    result = project.cli("run", WIDE, *words, "--output", "json")
    assert result.exit_code == 0, result.stderr
    (run,) = json.loads(result.stdout)
    assert (run["snapshot_dt"], run["tables_filter"]) == ("2025-08-01", ["IBE_01", "IBE_02"])
    assert run["stages"]["size"]["result"]["bucket_count"] == 8
    assert run["stages"]["discover"]["result"]["location"] == str(source / "snapshot_dt=2025-08-01")
    written = sorted(path.name for path in (tmp_path / "yes: {here}" / WIDE).iterdir())
    assert written == ["ibe_01", "ibe_02", "metadata"]
    assert project.published() == {}
    assert (
        len(
            json.loads(
                project.cli(
                    "runs", "--set", f"target={json.dumps(str(tmp_path / 'yes: {here}'))}", "--output", "json"
                ).stdout
            )
        )
        == 1
    )


@pytest.mark.parametrize("value", ["_NONE_", ""])
def test_old_names_none_and_empty_mean_configured_value(project: Project, value: str) -> None:
    names = ("SNAPSHOT_DT", "TABLES_FILTER", "SOURCE_PATH", "TARGET_PATH", "BUCKET_COUNT", "CSV_PATH", "DATABASE")
    assert planned(project, WIDE, *(f"--{name}={value}" for name in names)) == planned(project, WIDE)
    assert planned(project, *(f"--{name}={value}" for name in names)) == planned(project)


def test_old_names_override_set(project: Project) -> None:
    plan = planned(project, NARROW, "--BUCKET_COUNT=16", "--set", "buckets.count=32")
    assert plan[NARROW]["size"]["bucket_count"] == 16


def test_old_names_bad_value_names_the_old_name(project: Project) -> None:
    result = project.cli("plan", NARROW, "--BUCKET_COUNT=many")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "error: buckets.count (--BUCKET_COUNT): should be a valid integer or 'auto' or 'none', not 'many'\n"
    )


@pytest.mark.parametrize("option", ["--SOURCE_PATH", "--CSV_PATH"])
def test_old_names_paths_need_a_dataset(project: Project, option: str) -> None:
    for command in ("run", "plan"):
        result = project.cli(command, f"{option}=somewhere")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"{option} applies to one dataset; name it: bucketwheel {command} DATASET {option}=…" in result.stderr


def test_old_names_are_listed_in_help(project: Project) -> None:
    for command in ("run", "plan"):
        text = " ".join(project.cli(command, "--help").stdout.split())
        assert (
            "The argument names of earlier jobs work too: --SNAPSHOT_DT, --TABLES_FILTER, --SOURCE_PATH, --CSV_PATH, "
            "--TARGET_PATH, --BUCKET_COUNT, --DATABASE; an empty value or _NONE_ means the configured value."
        ) in text
    assert "--SOURCE_PATH" not in project.cli("runs", "--help").stdout
    assert project.cli("runs", "--DATABASE=x").exit_code == 2


def test_old_names_are_kept_in_resume_command(project: Project) -> None:
    failed = project.cli("run", WIDE, "--TABLES_FILTER=x", "--BUCKET_COUNT", "8", "--SNAPSHOT_DT", "_NONE_")
    assert failed.exit_code == 2
    assert (
        f"Fix --tables-filter, then run again: bucketwheel run {WIDE} --TABLES_FILTER=x --BUCKET_COUNT 8 "
        "--SNAPSHOT_DT _NONE_ --conf "
    ) in failed.stderr
