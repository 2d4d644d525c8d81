"""A run of all datasets reports finished ones when a later one fails."""

from __future__ import annotations

import json

import pytest

from project import NARROW, WIDE, Project


@pytest.fixture
def half(project: Project) -> Project:
    """A project whose second dataset has no snapshot."""
    empty = project.root / "empty"
    empty.mkdir()
    datasets = {name: dict(project.settings["datasets"][name]) for name in (WIDE, NARROW)}
    datasets[max(datasets)]["source"] = str(empty)
    project.set(datasets=datasets)
    return project


def test_run_second_dataset_fails_prints_first_result(half: Project) -> None:
    done, failing = half.configuration().settings.datasets
    result = half.cli("run")
    assert result.exit_code == 3
    assert f"error: {half.root}/empty: no snapshot" in result.stderr
    (run_id,) = half.run_ids(done)
    assert run_id in result.stdout
    assert failing not in result.stdout


def test_run_json_second_dataset_fails_prints_first_manifest(half: Project) -> None:
    done, _ = half.configuration().settings.datasets
    result = half.cli("run", "--output", "json")
    assert result.exit_code == 3
    (manifest,) = json.loads(result.stdout)
    assert (manifest["dataset"], manifest["status"], manifest["changed"]) == (done, "finished", True)
